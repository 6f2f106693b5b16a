// Package nodepool shows the pools that nodes come from and says why a pool adds no
// node: its maximum, a quota, no capacity, a machine that does not come up, an
// upgrade that is stuck. It reads Kubernetes objects (node labels, Karpenter,
// Cluster API, the cluster autoscaler's status and events) and, where one is
// configured, the cloud's own API; it writes nothing.
package nodepool

import (
	"context"
	"embed"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Event is what happened to an object, repeats merged.
type Event struct {
	Kind, Name      string
	Reason, Message string
	Warning         bool
	// Source is the component that reported it: "cluster-autoscaler", "karpenter".
	Source      string
	Count       int
	First, Last time.Time
}

// Reads are the reads of one cluster. All are required; objects are shared with
// other readers and never written to. Errors are *tool.Error with a kind: a
// missing object is tool.NotFound, a kind the server does not have tool.NotServed.
type Reads struct {
	Nodes func(context.Context) ([]*corev1.Node, error)
	// Node reads one. MayList tells whether nodes may be listed, without listing them.
	Node    func(ctx context.Context, name string) (*corev1.Node, error)
	MayList func(context.Context) error
	Pod     func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Pods    func(ctx context.Context, namespace string) ([]*corev1.Pod, error)
	// Claim and Volume tell where the volumes of a pod can be reached from.
	Claim  func(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	Volume func(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	// Deployments of a namespace, all of them where it is empty.
	Deployments func(ctx context.Context, namespace string) ([]*appsv1.Deployment, error)
	// ConfigMap gives the data of a ConfigMap.
	ConfigMap func(ctx context.Context, namespace, name string) (map[string]string, error)
	// List reads all objects of a kind, written as "nodepools.karpenter.sh".
	List func(ctx context.Context, kind string) ([]*unstructured.Unstructured, error)
	// Events of one object, or of all objects of a kind where name is empty; newest
	// last seen first.
	Events func(ctx context.Context, kind, namespace, name string) ([]Event, error)
}

// Cloud is the API of a provider for the pools of one cluster. It is asked only
// where one is configured or recorded.
type Cloud interface {
	// Name of the provider's API for people, "AKS", "GKE".
	Name() string
	// Pools lists the pools of the cluster. An error is a *tool.Error whose sentence
	// says what is missing.
	Pools(context.Context) ([]CloudPool, error)
}

// Config says which cluster is read.
type Config struct {
	Reads Reads
	// Clouds are the providers' APIs; none is fine.
	Clouds []Cloud
	// Cluster is the name that every reference carries.
	Cluster string
	// Now is the clock; with a bundle it stands at the capture time. Nil means time.Now.
	Now func() time.Time
	// TTL is how long a cloud's answer is reused; zero means DefaultTTL.
	TTL time.Duration
}

// DefaultTTL is how long a cloud's answer is reused: its API counts calls.
const DefaultTTL = time.Minute

// Toolset offers the nodepool_* tools. It is safe for concurrent use.
type Toolset struct {
	reads   Reads
	clouds  []*cloudCache
	cluster string
	now     func() time.Time
	signs   []sign
	tools   []tool.Tool
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
	_ tool.Resolver   = (*Toolset)(nil)
)

// New makes the toolset. It fails when a read is missing or the table of errors is
// broken, and asks nobody anything.
func New(c Config) (*Toolset, error) {
	r := c.Reads
	for _, x := range []struct {
		name    string
		missing bool
	}{
		{"Nodes", r.Nodes == nil},
		{"Node", r.Node == nil},
		{"MayList", r.MayList == nil},
		{"Pod", r.Pod == nil},
		{"Pods", r.Pods == nil},
		{"Deployments", r.Deployments == nil},
		{"Claim", r.Claim == nil},
		{"Volume", r.Volume == nil},
		{"ConfigMap", r.ConfigMap == nil},
		{"List", r.List == nil},
		{"Events", r.Events == nil},
	} {
		if x.missing {
			return nil, fmt.Errorf("nodepool: Reads.%s is required", x.name)
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.TTL <= 0 {
		c.TTL = DefaultTTL
	}
	signs, err := loadSigns()
	if err != nil {
		return nil, err
	}
	t := &Toolset{reads: r, cluster: c.Cluster, now: c.Now, signs: signs}
	for _, cloud := range c.Clouds {
		t.clouds = append(t.clouds, newCloudCache(cloud, c.Now, c.TTL))
	}
	for _, mk := range []func() (tool.Tool, error){t.overviewTool, t.growthTool, t.surveyTool} {
		one, err := mk()
		if err != nil {
			return nil, fmt.Errorf("nodepool: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	return t, nil
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "nodepool" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset: denied when nodes may not be listed. A cloud that
// is configured and does not answer is a limit, not the end of the toolset.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	if err := t.reads.MayList(ctx); err != nil {
		st := tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
		if tool.KindOf(err) == tool.Forbidden {
			st.State, st.Fix = tool.Denied, "grant verb list on nodes"
		}
		return st
	}
	var limits []incident.Gap
	for _, c := range t.clouds {
		if _, err := c.pools(ctx); err != nil {
			limits = append(limits, c.gap(err))
		}
	}
	return tool.Status{State: tool.Ready, Limits: limits}
}

// Resolve implements tool.Resolver: a pool that has no object of its own is known by
// the labels of its nodes. Only a mention that says "pool" is one.
func (t *Toolset) Resolve(ctx context.Context, m tool.Mention) (tool.Resolution, error) {
	switch strings.ToLower(m.Kind) {
	case "pool", "nodepool", "node-pool", "agentpool", "nodegroup", "node-group":
	default:
		return tool.Resolution{}, nil
	}
	w, err := t.look(ctx)
	if err != nil {
		return tool.Resolution{}, err
	}
	var out tool.Resolution
	for _, p := range w.pools {
		switch {
		case p.name == m.Name:
			out.Exact = append(out.Exact, t.poolRef(p))
		case strings.Contains(p.name, m.Name) || strings.Contains(m.Name, p.name):
			out.Near = append(out.Near, t.poolRef(p))
		}
	}
	return out, nil
}

//go:embed text
var texts embed.FS

// text reads the words a model is told about a tool.
func text(name string) string {
	raw, err := texts.ReadFile("text/" + name + ".md")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

const (
	karpenterGroup = "karpenter.sh"
	capiGroup      = "cluster.x-k8s.io"
)

// ref makes a reference to an object of this cluster.
func (t *Toolset) ref(group, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: t.cluster, Group: group, Kind: kind, Namespace: namespace, Name: name}
}

// poolRef names a pool by its object where it has one; a pool that is only a label
// and the cloud's own is a NodePool of no group.
func (t *Toolset) poolRef(p *pool) incident.Ref {
	switch p.provider {
	case karpenter:
		return t.ref(karpenterGroup, "NodePool", "", p.name)
	case capi:
		if p.namespace != "" {
			return t.ref(capiGroup, "MachineDeployment", p.namespace, p.name)
		}
	}
	return t.ref("", "NodePool", "", p.name)
}

func (t *Toolset) nodeRef(name string) incident.Ref { return t.ref("", "Node", "", name) }

func (t *Toolset) podRef(p *corev1.Pod) incident.Ref { return t.ref("", "Pod", p.Namespace, p.Name) }
