// Package serving understands inference runtimes on Kubernetes: which of them a
// cluster has, how their custom resources lead to engine pods, what engines say
// in their logs and metrics, how requests are routed to them and what keeps them
// in a queue. It reads every system through its own API, by the versions that
// the API server serves, and only reads.
package serving

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric/alias"
)

//go:embed text/*.md
var texts embed.FS

// Served is one kind that the API server serves, in the version it prefers.
type Served struct {
	Group, Version, Kind string
	Namespaced           bool
}

// Objects reads objects of any served kind. Errors are tool.Errors: NotServed for
// a kind the server does not have, NotFound for an object that is not there.
type Objects interface {
	Served(ctx context.Context) ([]Served, error)
	// List gives the objects of a kind, of all namespaces where namespace is empty,
	// narrowed by a label selector where that is not.
	List(ctx context.Context, group, kind, namespace, selector string) ([]*unstructured.Unstructured, error)
	Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error)
}

// Pods reads pods; they are shared and never written to.
type Pods interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Matching(ctx context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error)
}

// Logs reads the end of a container's log.
type Logs interface {
	Tail(ctx context.Context, namespace, pod, container string, previous bool, lines int) (string, error)
}

// Metrics answers PromQL. Without a Prometheus every call fails with kind NotServed.
type Metrics interface {
	Instant(ctx context.Context, expr string) ([]metric.Sample, error)
	Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]metric.Series, error)
}

// Proxy reaches a port of a pod through the API server. Get answers at most
// limit bytes; Post sends JSON.
type Proxy interface {
	Get(ctx context.Context, namespace, pod string, port int, path string, limit int64) ([]byte, error)
	Post(ctx context.Context, namespace, pod string, port int, path string, body []byte, limit int64) ([]byte, error)
}

// Config says what the toolset may look at. Objects, Pods and Logs are needed;
// without Metrics or Proxy what they would show is said to be not seen.
type Config struct {
	Objects Objects
	Pods    Pods
	Logs    Logs
	Metrics Metrics
	Proxy   Proxy
	// Cluster is the name that every reference carries.
	Cluster string
	// Now is the clock; with a bundle it stands at the capture time. Nil means time.Now.
	Now func() time.Time
}

// Toolset offers the serving_* tools. It is safe for concurrent use.
type Toolset struct {
	objects Objects
	pods    Pods
	logs    Logs
	metrics Metrics
	proxy   Proxy
	cluster string
	now     func() time.Time

	alias *alias.Table
	// queried are the metrics of namespaces, scraped those of pods.
	queried, scraped *tool.Kept[gauges]
	book             *book
	rules            []rule
	signs            *signs
	tools            []tool.Tool
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
	_ tool.Resolver   = (*Toolset)(nil)
)

// New makes the toolset. It talks to nothing.
func New(c Config) (*Toolset, error) {
	if c.Objects == nil || c.Pods == nil || c.Logs == nil {
		return nil, errors.New("serving: Objects, Pods and Logs are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	t := &Toolset{objects: c.Objects, pods: c.Pods, logs: c.Logs, metrics: c.Metrics, proxy: c.Proxy, cluster: c.Cluster, now: c.Now,
		queried: tool.NewKept[gauges](tool.Keep{Now: c.Now, Most: 64}), scraped: tool.NewKept[gauges](tool.Keep{Now: c.Now, For: keepFor, Most: 64})}
	var err error
	if t.alias, err = alias.Load(); err != nil {
		return nil, fmt.Errorf("serving: %w", err)
	}
	if t.book, err = loadBook(); err != nil {
		return nil, fmt.Errorf("serving: %w", err)
	}
	if t.rules, err = loadRules(); err != nil {
		return nil, fmt.Errorf("serving: %w", err)
	}
	if t.signs, err = loadSigns(); err != nil {
		return nil, fmt.Errorf("serving: %w", err)
	}
	for _, mk := range []func() (tool.Tool, error){t.overviewTool, t.explainTool, t.podTool, t.routeTool, t.queueTool, t.surveyTool, t.diagnoseTool, t.probeTool} {
		one, err := mk()
		if err != nil {
			return nil, fmt.Errorf("serving: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	return t, nil
}

// read makes a read-only tool whose text lies beside the code.
func read[In, Out any](name string, fn tool.Func[In, Out]) (tool.Tool, error) {
	text, err := texts.ReadFile("text/" + name + ".md")
	if err != nil {
		return nil, fmt.Errorf("tool %s: %w", name, err)
	}
	return tool.New(tool.Info{Name: name, Text: strings.TrimSpace(string(text)), Effect: tool.Read}, fn)
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "serving" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset. Engines run without any custom resource too, so
// it is ready wherever the cluster answers.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	_, err := t.objects.Served(ctx)
	switch {
	case err == nil:
		return tool.Status{State: tool.Ready}
	case tool.KindOf(err) == tool.Forbidden:
		return tool.Status{State: tool.Denied, Reason: tool.UserText(err), Fix: "let this identity read the API server's discovery (ClusterRole system:discovery)"}
	default:
		return tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
	}
}

func (t *Toolset) ref(group, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: t.cluster, Group: group, Kind: kind, Namespace: namespace, Name: name}
}

func (t *Toolset) podRef(p *corev1.Pod) incident.Ref { return t.ref("", "Pod", p.Namespace, p.Name) }

// refOf names an object that was read.
func (t *Toolset) refOf(u *unstructured.Unstructured) incident.Ref {
	return t.ref(u.GroupVersionKind().Group, u.GetKind(), u.GetNamespace(), u.GetName())
}

// served reports whether the API server has a kind, and in which version.
func (t *Toolset) served(ctx context.Context, group, kind string) (Served, bool) {
	all, err := t.objects.Served(ctx)
	if err != nil {
		return Served{}, false
	}
	for _, s := range all {
		if s.Group == group && s.Kind == kind {
			return s, true
		}
	}
	return Served{}, false
}

// missing reports that an object does not exist; any other failure to look is no
// absence.
func missing(err error) bool { return err != nil && tool.KindOf(err) == tool.NotFound }
