// Package fit answers whether a model fits on GPUs: weights by quantisation, KV
// cache by architecture, the engine's own needs as a band, and what would make
// it fit; where it could run, cheapest first; and whether a serving pod's own
// arguments can work. It only reads, and a model whose dimensions it does not
// know it calls unknown.
package fit

import (
	"context"
	"embed"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

//go:embed text/*.md
var texts embed.FS

// Inventory lists the GPUs of a cluster with what is free of them.
type Inventory interface {
	GPUs(ctx context.Context) (Stock, error)
}

// Objects reads the few objects that the check of a pod needs. Errors are
// tool.Errors; a ConfigMap comes with its text data.
type Objects interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
	ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error)
}

// Logs reads the end of a container's log.
type Logs interface {
	Tail(ctx context.Context, namespace, pod, container string, previous bool, lines int) (string, error)
}

// Config says what the toolset may look at. Every part may be nil: what it would
// show is then said to be not seen.
type Config struct {
	Inventory Inventory
	Objects   Objects
	Logs      Logs
	// Cluster is the name that every reference carries.
	Cluster string
}

// Toolset offers the fit_* tools. It is safe for concurrent use.
type Toolset struct {
	desk      *Desk
	inventory Inventory
	objects   Objects
	logs      Logs
	cluster   string
	tools     []tool.Tool
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
)

// New makes the toolset. It talks to nothing.
func New(c Config) (*Toolset, error) {
	desk, err := NewDesk()
	if err != nil {
		return nil, err
	}
	t := &Toolset{desk: desk, inventory: c.Inventory, objects: c.Objects, logs: c.Logs, cluster: c.Cluster}
	for _, mk := range []func() (tool.Tool, error){t.checkTool, t.placementTool, t.podTool} {
		one, err := mk()
		if err != nil {
			return nil, fmt.Errorf("fit: %w", err)
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
func (t *Toolset) Name() string { return "fit" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset: the arithmetic needs nothing, so it is always
// ready.
func (t *Toolset) Status(context.Context) tool.Status { return tool.Status{State: tool.Ready} }

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	return []tool.Check{{
		Name: "model memory of", Tool: "fit_pod",
		Applies: func(r incident.Ref) bool { return r.Group == "" && r.Kind == "Pod" },
		Args:    func(r incident.Ref) any { return PodIn{Namespace: r.Namespace, Name: r.Name} },
	}}
}
