// Package supply tells what the images are that a workload runs now and ran before:
// digests, tags that moved, platforms, what their registry says of how they were
// built and signed, and what changed between a good one and a bad one. It only reads,
// and never reads the Secrets that pull images.
package supply

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/supply/registry"
)

//go:embed text/*.md
var texts embed.FS

// Pods reads pods and the nodes they are on; what it gives is shared and never
// written to. Errors are tool.Errors.
type Pods interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	PodsMatching(ctx context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// History reads workloads and the revisions that are kept of them.
type History interface {
	Get(ctx context.Context, ref incident.Ref) (*unstructured.Unstructured, error)
	ReplicaSets(ctx context.Context, namespace string) ([]*appsv1.ReplicaSet, error)
	ControllerRevisions(ctx context.Context, namespace string) ([]*appsv1.ControllerRevision, error)
}

// Images reads what a registry says about an image.
type Images interface {
	Image(ctx context.Context, ref, architecture string) (registry.Image, error)
	Allowed(ref string) bool
}

// Tailer reads the end of a container's log.
type Tailer interface {
	Tail(ctx context.Context, namespace, pod, container string, previous bool, lines int) (string, error)
}

// Config says what is read.
type Config struct {
	Pods    Pods
	History History
	Images  Images
	// Logs may be nil: an error line is then not held against what changed.
	Logs Tailer
	// Reach asks whether the cluster answers at all; nil means that it is not asked.
	Reach func(context.Context) error
	// Cluster is the name that every reference carries.
	Cluster string
}

// Toolset offers the supply_* tools. It is safe for concurrent use.
type Toolset struct {
	cfg   Config
	tools []tool.Tool
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
)

// New makes the toolset. It talks to nothing.
func New(c Config) (*Toolset, error) {
	if c.Pods == nil || c.History == nil || c.Images == nil {
		return nil, errors.New("supply: Pods, History and Images are required")
	}
	t := &Toolset{cfg: c}
	for _, mk := range []func() (tool.Tool, error){
		func() (tool.Tool, error) { return read("supply_image", t.image) },
		func() (tool.Tool, error) { return read("supply_workload", t.workload) },
		func() (tool.Tool, error) { return read("supply_diff", t.diff) },
	} {
		one, err := mk()
		if err != nil {
			return nil, fmt.Errorf("supply: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	return t, nil
}

func read[In, Out any](name string, fn tool.Func[In, Out]) (tool.Tool, error) {
	text, err := texts.ReadFile("text/" + name + ".md")
	if err != nil {
		return nil, fmt.Errorf("tool %s: %w", name, err)
	}
	return tool.New(tool.Info{Name: name, Text: strings.TrimSpace(string(text)), Effect: tool.Read}, fn)
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "supply" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset: ready, or broken where the cluster does not answer.
// A registry that cannot be asked is a sentence of the answer about its image.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	if t.cfg.Reach == nil {
		return tool.Status{State: tool.Ready}
	}
	err := t.cfg.Reach(ctx)
	if err == nil || tool.KindOf(err) == tool.Forbidden {
		return tool.Status{State: tool.Ready}
	}
	st := tool.Status{State: tool.Broken, Reason: err.Error()}
	if e, ok := errors.AsType[*tool.Error](err); ok {
		st.Reason, st.Fix = e.User, e.Fix
	}
	return st
}

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	ours := func(r incident.Ref) bool { return r.Cluster == "" || r.Cluster == t.cfg.Cluster }
	return []tool.Check{
		{
			Name: "images of pod", Tool: "supply_workload",
			Applies: func(r incident.Ref) bool { return ours(r) && r.Group == "" && r.Kind == "Pod" },
			Args:    func(r incident.Ref) any { return WorkloadIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow:  []string{fromImage},
		},
	}
}

// fromImage is the relation of a pod to the image it runs.
const fromImage = "runs-image"

func (t *Toolset) podRef(p *corev1.Pod) incident.Ref {
	return incident.Ref{Cluster: t.cfg.Cluster, Kind: "Pod", Namespace: p.Namespace, Name: p.Name}
}

func (t *Toolset) imageRef(ref string) incident.Ref {
	return incident.Ref{Cluster: t.cfg.Cluster, Kind: "Image", Name: ref}
}
