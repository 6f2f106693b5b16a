// Package gpu joins a workload's symptom to its silicon: which GPUs a pod holds,
// by DRA claim, device plugin or exporter label, and what is wrong with them, by
// the metrics of dcgm-exporter, by node conditions, events and device taints, and
// by the driver's own library through gumshoe-nvml. It reads only.
package gpu

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric/alias"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

// DefaultTTL is how long the picture of a node is reused, so that the tools of
// one investigation share it.
const DefaultTTL = 15 * time.Second

// Objects reads what is looked at one by one.
type Objects interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
	PodsOnNode(ctx context.Context, node string) ([]*corev1.Pod, error)
}

// Lists reads many objects at once. List takes a kind as RBAC names it
// ("resourceslices.resource.k8s.io"), in whatever version is served, and a field
// selector; a kind that is not served is an error of kind NotServed.
type Lists interface {
	Nodes(ctx context.Context) ([]*corev1.Node, error)
	Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error)
	List(ctx context.Context, kind, namespace, fields string) ([]*unstructured.Unstructured, error)
}

// Details reads what is said of one object. Events of a reference without a name
// are those of all objects of its kind.
type Details interface {
	Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error)
	Events(ctx context.Context, about incident.Ref) ([]Event, error)
}

// Event is what happened to a node, repeats merged.
type Event struct {
	// Node is the name of the node it is about.
	Node                          string
	Type, Reason, Message, Source string
	First, Last                   time.Time
	Count                         int
}

// Metrics is the contract of package metric.
type Metrics interface {
	Instant(ctx context.Context, expr string) ([]metric.Sample, error)
	Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]metric.Series, error)
}

// NVML gives what gumshoe-nvml printed on a node; false where there is nothing.
type NVML interface {
	Report(node string) (nvml.Report, bool, error)
}

var _ NVML = (*nvml.Dir)(nil)

// Config says where the facts come from.
type Config struct {
	Objects Objects
	Lists   Lists
	Details Details
	// Metrics is never nil; without a server its calls fail with kind NotServed.
	Metrics Metrics
	// NVML may be nil: the driver is then not asked.
	NVML NVML
	// Reach reports whether the cluster answers at all; nil means that it does.
	Reach func(context.Context) error
	// Cluster is the name that every reference carries.
	Cluster string
	// Now is the clock; with a bundle it stands at the capture time. Nil means time.Now.
	Now func() time.Time
	// TTL is how long the picture of a node is reused; zero means DefaultTTL.
	TTL time.Duration
}

// Toolset offers the gpu_* tools. It is safe for concurrent use.
type Toolset struct {
	Config
	parser *xid.Parser
	table  *xid.Table
	alias  *alias.Table
	limits limits
	starts []refusal
	node   *tool.Kept[*machine]
	looked *tool.Kept[tool.Status]
	unseen tool.Unseen
	codes  map[string]tool.Code
	tools  []tool.Tool
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
)

// Limits says which nodes' GPUs were looked at without telemetry since a moment.
func (t *Toolset) Limits(since time.Time) []incident.Gap { return t.unseen.Since(since) }

// New makes the toolset. It fails when a source is missing or a table that ships
// is broken; it asks nothing yet.
func New(c Config) (*Toolset, error) {
	if c.Objects == nil || c.Lists == nil || c.Details == nil || c.Metrics == nil {
		return nil, errors.New("gpu: Objects, Lists, Details and Metrics are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.TTL <= 0 {
		c.TTL = DefaultTTL
	}
	t := &Toolset{Config: c, parser: xid.NewParser(), node: tool.NewKept[*machine](tool.Keep{Now: c.Now, For: c.TTL}), looked: tool.NewKept[tool.Status](tool.Keep{Now: c.Now, For: c.TTL}), codes: map[string]tool.Code{}}
	for _, k := range Codes() {
		t.codes[k.Code] = k
	}
	var err error
	if t.table, err = xid.Load(); err != nil {
		return nil, fmt.Errorf("gpu: %w", err)
	}
	if t.alias, err = alias.Load(); err != nil {
		return nil, fmt.Errorf("gpu: %w", err)
	}
	if t.limits, err = loadLimits(); err != nil {
		return nil, fmt.Errorf("gpu: %w", err)
	}
	if t.starts, err = loadStarts(); err != nil {
		return nil, fmt.Errorf("gpu: %w", err)
	}
	for _, mk := range []func() (tool.Tool, error){t.healthTool, t.peersTool, t.surveyTool, t.xidTool} {
		one, err := mk()
		if err != nil {
			return nil, fmt.Errorf("gpu: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	return t, nil
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "gpu" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset. Objects and events of the cluster tell of GPUs
// without any metrics, so that missing telemetry is a limit and no absence.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	st, err := t.looked.Get(ctx, "", func(ctx context.Context) (tool.Status, error) { return t.probe(ctx), nil })
	if err != nil {
		return tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
	}
	return st
}

func (t *Toolset) probe(ctx context.Context) tool.Status {
	if t.Reach != nil {
		if err := t.Reach(ctx); err != nil {
			s := tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
			if tool.KindOf(err) == tool.Forbidden {
				s.State = tool.Denied
			}
			return s
		}
	}
	st := tool.Status{State: tool.Ready}
	// That a cluster has no such series is no limit: it may have no GPU. The pods
	// that hold GPUs and are not measured say so themselves.
	if got, err := t.Metrics.Instant(ctx, "count("+anyGPU("")+")"); err != nil && len(got) == 0 {
		gap := incident.Gap{Source: "GPU telemetry", Why: tool.UserText(err)}
		if e, ok := errors.AsType[*tool.Error](err); ok {
			gap.Why, gap.Fix = e.User, e.Fix
		}
		st.Limits = []incident.Gap{gap}
	}
	return st
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

// Groups of API objects that are named here.
const groupDRA = "resource.k8s.io"

func (t *Toolset) ref(group, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: t.Cluster, Group: group, Kind: kind, Namespace: namespace, Name: name}
}

func (t *Toolset) podRef(namespace, name string) incident.Ref {
	return t.ref("", "Pod", namespace, name)
}

func (t *Toolset) nodeRef(name string) incident.Ref { return t.ref("", "Node", "", name) }

func (t *Toolset) claimRef(namespace, name string) incident.Ref {
	return t.ref(groupDRA, "ResourceClaim", namespace, name)
}
