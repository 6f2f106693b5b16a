// Package kube is the toolset of the Kubernetes API: it reads objects, events
// and logs, tells what changed and what this identity may see, and finds
// objects by name. It only reads; Secret values are never asked for.
package kube

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

//go:embed text/*.md
var texts embed.FS

// Config says which cluster is read.
type Config struct {
	// Client, Dynamic and Metadata talk to one cluster; give Client and Metadata
	// protobuf content types. Discovery may be nil, then Client's is used.
	// Metadata may be nil, then metadata comes as JSON over Client's transport.
	Client    kubernetes.Interface
	Dynamic   dynamic.Interface
	Discovery discovery.DiscoveryInterface
	Metadata  metadata.Interface
	// Cluster is the name every reference carries.
	Cluster string
	// Namespace is where an identity without cluster-wide rights may look; empty
	// if it is not known.
	Namespace string
	// Now is the clock, the capture time with a bundle; nil means time.Now.
	Now func() time.Time
	// TTL is how long answers are reused; zero means source.DefaultTTL.
	TTL time.Duration
}

// Toolset reads one cluster.
type Toolset struct {
	src       *source.Source
	namespace string
	tools     []tool.Tool
	checks    []tool.Check
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
	_ tool.Resolver   = (*Toolset)(nil)
)

// New builds the toolset. It does not talk to the cluster; Status does.
func New(c Config) (*Toolset, error) {
	src, err := source.New(source.Config{
		Client: c.Client, Dynamic: c.Dynamic, Discovery: c.Discovery, Metadata: c.Metadata,
		Cluster: c.Cluster, Now: c.Now, TTL: c.TTL,
	})
	if err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	t := &Toolset{src: src, namespace: c.Namespace}
	r := &reader{src: src, namespace: c.Namespace}
	for _, add := range []func() (tool.Tool, error){
		func() (tool.Tool, error) { return read("kube_get", r.get) },
		func() (tool.Tool, error) { return read("kube_list", r.list) },
		func() (tool.Tool, error) { return read("kube_describe", r.describe) },
		func() (tool.Tool, error) { return read("kube_events", r.events) },
		func() (tool.Tool, error) { return read("kube_logs", r.logs) },
		func() (tool.Tool, error) { return read("kube_changes", r.changes) },
		func() (tool.Tool, error) { return read("kube_access", r.access) },
	} {
		one, err := add()
		if err != nil {
			return nil, fmt.Errorf("kube: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	judging, err := judge.Tools(src, c.Cluster, src.Now)
	if err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	t.tools = append(t.tools, judging...)
	t.checks = append(judge.Checks(), objectChecks()...)
	return t, nil
}

// reader holds what the reading tools share.
type reader struct {
	src       *source.Source
	namespace string
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
func (t *Toolset) Name() string { return "kube" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check { return t.checks }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Limits lists the reads that the API server has refused since a moment, with the missing
// right: what was to be looked at and was not, also where a judgement goes on
// without it.
func (t *Toolset) Limits(since time.Time) []incident.Gap { return t.src.Limits(since) }

// Source gives the reads of this toolset, with their cache.
func (t *Toolset) Source() *source.Source { return t.src }

// Status implements tool.Toolset: broken when the API server does not answer or
// does not accept the identity, denied when nothing gumshoe wants to read may
// be read, else ready with what is missing.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	if _, err := t.src.ServerVersion(ctx); err != nil && tool.KindOf(err) != tool.Forbidden {
		return notReady(tool.Broken, err)
	}
	if _, err := t.src.Discovered(ctx); err != nil {
		if tool.KindOf(err) == tool.Forbidden {
			return notReady(tool.Denied, err)
		}
		return notReady(tool.Broken, err)
	}
	r := &reader{src: t.src, namespace: t.namespace}
	rows, err := r.rights(ctx, t.namespace)
	if err != nil {
		// No self-subject reviews (a recorded cluster): reads tell by themselves.
		return tool.Status{State: tool.Ready, Limits: t.src.Limits(tool.FreshSince(ctx))}
	}
	lacking := 0
	for _, row := range rows {
		if row.Allowed == "" {
			lacking++
		}
	}
	if lacking == len(rows) && t.namespace != "" {
		return tool.Status{State: tool.Denied,
			Reason: "this identity may read nothing gumshoe looks at, neither in the whole cluster nor in namespace " + t.namespace,
			Fix:    "bind the ClusterRole \"view\" to it, and list on nodes"}
	}
	return tool.Status{State: tool.Ready, Limits: append(gaps(rows), t.src.Limits(tool.FreshSince(ctx))...)}
}

func notReady(state tool.State, err error) tool.Status {
	st := tool.Status{State: state, Reason: err.Error()}
	if te, ok := errors.AsType[*tool.Error](err); ok {
		st.Reason, st.Fix = te.User, te.Fix
	}
	return st
}

// Nodes lists all Nodes by name, shared with this toolset's own cache: read only.
// Errors are those of a Kubernetes list, told as a tool.Error.
func (t *Toolset) Nodes(ctx context.Context) ([]*corev1.Node, error) {
	return t.src.Nodes(ctx)
}
