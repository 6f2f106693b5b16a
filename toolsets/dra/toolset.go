// Package dra explains Dynamic Resource Allocation: why a claim gets no devices,
// what would make it fit, and whether drivers, pools and claims are in order. It
// runs the scheduler's own allocator (see package allocator) over the objects of
// the API server, reads only, and needs no access to the scheduler.
package dra

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// DefaultTTL is how long lists are reused, so that the tools of one
// investigation share one picture.
const DefaultTTL = 15 * time.Second

// group is the API group of everything DRA.
const apiGroup = "resource.k8s.io"

// Config says which cluster is read and how.
type Config struct {
	// Client reads the built-in kinds; give it protobuf content types.
	Client kubernetes.Interface
	// Dynamic reads DeviceTaintRules of versions older than v1 and driver
	// configuration objects. Nil: those are not seen.
	Dynamic dynamic.Interface
	// Discovery tells which versions the server has. Nil means Client.Discovery().
	Discovery discovery.DiscoveryInterface
	// Nodes lists all Nodes where the caller reads them anyway; they are shared and
	// never written to. Nil: Client lists them.
	Nodes func(context.Context) ([]*corev1.Node, error)
	// Cluster is the name that every reference carries.
	Cluster string
	// Now is the clock; with a bundle it stands at the capture time. Nil means time.Now.
	Now func() time.Time
	// TTL is how long lists are reused; zero means DefaultTTL.
	TTL time.Duration
	// AllocatorLog, when set, receives what the scheduler's allocator itself logs
	// while dra_explain runs it (levels down to -7): a self-check for developers.
	AllocatorLog slog.Handler
}

// Toolset offers the dra_* tools. It is safe for concurrent use.
type Toolset struct {
	cluster string
	now     func() time.Time
	read    *reader
	status  *tool.Kept[tool.Status]
	log     slog.Handler
	tools   []tool.Tool
	tried   tried
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
)

// New makes the toolset. It fails when the client is missing and does not talk
// to the cluster.
func New(c Config) (*Toolset, error) {
	if c.Client == nil {
		return nil, fmt.Errorf("dra: Client is required")
	}
	if c.Discovery == nil {
		c.Discovery = c.Client.Discovery()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.TTL <= 0 {
		c.TTL = DefaultTTL
	}
	t := &Toolset{cluster: c.Cluster, now: c.Now, read: newReader(c), log: c.AllocatorLog, status: tool.NewKept[tool.Status](tool.Keep{Now: c.Now, For: c.TTL})}
	for _, mk := range []func() (tool.Tool, error){
		t.explainTool, t.whatIfTool, t.claimTool, t.driverTool, t.overviewTool,
		t.devicesTool, t.extendedTool, t.topologyTool, t.lintTool, t.surveyTool, t.kueueTool,
	} {
		one, err := mk()
		if err != nil {
			return nil, fmt.Errorf("dra: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	return t, nil
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "dra" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset: absent when the API server does not serve
// resource.k8s.io, denied when neither claims nor slices may be listed.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	st, err := t.status.Get(ctx, "", func(ctx context.Context) (tool.Status, error) { return t.probe(ctx), nil })
	if err != nil {
		return tool.Status{State: tool.Broken, Reason: tool.UserText(failure(err, "discover", "API groups", "", ""))}
	}
	return st
}

func (t *Toolset) probe(ctx context.Context) tool.Status {
	api, err := t.read.api(ctx)
	if err != nil {
		s := tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
		if tool.KindOf(err) == tool.Forbidden {
			s.State = tool.Denied
		}
		return s
	}
	if api.version == "" {
		return tool.Status{State: tool.Absent, Reason: "the API server does not serve resource.k8s.io: this cluster has no Dynamic Resource Allocation",
			Fix: "Kubernetes 1.34 or newer serves resource.k8s.io/v1 by default"}
	}
	one := metav1.ListOptions{Limit: 1}
	var limits []incident.Gap
	denied := map[string]bool{}
	for _, look := range []struct {
		resource string
		list     func() error
	}{
		{"resourceclaims", func() error { _, err := t.read.dra.ResourceClaims(metav1.NamespaceAll).List(ctx, one); return err }},
		{"resourceslices", func() error { _, err := t.read.dra.ResourceSlices().List(ctx, one); return err }},
		{"deviceclasses", func() error { _, err := t.read.dra.DeviceClasses().List(ctx, one); return err }},
	} {
		err := failure(look.list(), "list", look.resource+"."+apiGroup, "", "")
		switch {
		case err == nil:
		case tool.KindOf(err) == tool.Forbidden:
			denied[look.resource] = true
			limits = append(limits, gap(look.resource, err))
		default:
			return tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
		}
	}
	if denied["resourceclaims"] && denied["resourceslices"] {
		return tool.Status{State: tool.Denied, Limits: limits,
			Reason: "this identity may list neither resourceclaims nor resourceslices (" + apiGroup + ")",
			Fix:    "grant get and list on resourceclaims, resourceclaimtemplates, resourceslices, deviceclasses and devicetaintrules in " + apiGroup}
	}
	return tool.Status{State: tool.Ready, Limits: limits}
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

// ref makes a reference to an object of this cluster.
func (t *Toolset) ref(apiGroup, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: t.cluster, Group: apiGroup, Kind: kind, Namespace: namespace, Name: name}
}

func (t *Toolset) claimRef(namespace, name string) incident.Ref {
	return t.ref(apiGroup, "ResourceClaim", namespace, name)
}

func (t *Toolset) classRef(name string) incident.Ref { return t.ref(apiGroup, "DeviceClass", "", name) }

func (t *Toolset) podRef(namespace, name string) incident.Ref {
	return t.ref("", "Pod", namespace, name)
}

func (t *Toolset) nodeRef(name string) incident.Ref { return t.ref("", "Node", "", name) }

func (t *Toolset) driverRef(name string) incident.Ref {
	return incident.Ref{Cluster: t.cluster, Group: apiGroup, Kind: "Driver", Name: name, Driver: name}
}

func (t *Toolset) poolRef(driver, pool string) incident.Ref {
	return incident.Ref{Cluster: t.cluster, Group: apiGroup, Kind: "ResourcePool", Name: pool, Driver: driver, Pool: pool}
}

func (t *Toolset) ruleRef(name string) incident.Ref {
	return t.ref(apiGroup, "DeviceTaintRule", "", name)
}
