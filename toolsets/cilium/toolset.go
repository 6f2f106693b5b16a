// Package cilium reads the network of a cluster: what policies say of a pair of
// pods, what Hubble saw of it, and whether the mutual TLS between them is in order.
// It knows Cilium's and Istio's own objects by their fields, at whatever version
// the server has, and only reads; Secrets are never asked for.
package cilium

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
)

//go:embed text/*.md
var texts embed.FS

// Groups of the APIs that this toolset reads.
const (
	ciliumGroup = "cilium.io"
	istioGroup  = "security.istio.io"
	netGroup    = "networking.k8s.io"
	certGroup   = "cert-manager.io"
	acnGroup    = "acn.azure.com"
)

// Objects reads objects of the cluster at the version that it serves. Errors are
// tool.Errors: NotServed for a kind that the server does not have. What is handed
// out is shared and never written to.
type Objects interface {
	Get(ctx context.Context, group, kind, namespace, name string) (*unstructured.Unstructured, error)
	// List gives all objects of a kind in a namespace, all namespaces with "".
	List(ctx context.Context, group, kind, namespace string) ([]*unstructured.Unstructured, error)
	// Served reports whether the server has any kind of an API group.
	Served(ctx context.Context, group string) (bool, error)
}

// Pods reads pods, and the end of their logs with the runtime's time before each line.
type Pods interface {
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error)
	Tail(ctx context.Context, namespace, pod, container string, lines int) (string, error)
}

// Config says which cluster is read and how.
type Config struct {
	Objects Objects
	Pods    Pods
	// Flows may be nil: what Hubble saw is then not seen.
	Flows Flows
	// Metrics may be nil: what only metrics tell is then not looked at.
	Metrics Metrics
	// Cluster is the name that every reference carries.
	Cluster string
	// Now is the clock; with a bundle it stands at the capture time.
	Now func() time.Time
}

// Toolset offers the cilium_* tools. It is safe for concurrent use.
type Toolset struct {
	objects Objects
	pods    Pods
	flows   Flows
	metrics Metrics
	cluster string
	now     func() time.Time
	tools   []tool.Tool

	// asked keeps whether flows can be had, hubble is the last of it, nil until asked.
	asked  *tool.Kept[hubbleState]
	hubble atomic.Pointer[hubbleState]
	unseen tool.Unseen
}

// hubbleState is what a look at the relay gave.
type hubbleState struct {
	here bool
	gaps []incident.Gap
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
)

// New makes the toolset. It talks to nothing.
func New(c Config) (*Toolset, error) {
	if c.Objects == nil || c.Pods == nil {
		return nil, fmt.Errorf("cilium: Objects and Pods are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Flows == nil {
		c.Flows = noFlows{}
	}
	t := &Toolset{objects: c.Objects, pods: c.Pods, flows: c.Flows, metrics: c.Metrics, cluster: c.Cluster, now: c.Now,
		asked: tool.NewKept[hubbleState](tool.Keep{Now: c.Now, For: hubbleTTL})}
	for _, add := range []func() (tool.Tool, error){
		func() (tool.Tool, error) { return read("cilium_policy", t.policyTool) },
		func() (tool.Tool, error) { return read("cilium_flows", t.flowsTool) },
		func() (tool.Tool, error) { return read("cilium_mtls", t.mtlsTool) },
		func() (tool.Tool, error) { return read("cilium_node", t.nodeTool) },
		func() (tool.Tool, error) { return read("cilium_status", t.statusTool) },
	} {
		one, err := add()
		if err != nil {
			return nil, fmt.Errorf("cilium: %w", err)
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
func (t *Toolset) Name() string { return "cilium" }

// Loses says what an answer lacks without this toolset.
func (t *Toolset) Loses() string { return "network flows, identities and mutual TLS" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Status implements tool.Toolset: absent where the server serves neither Cilium's
// nor Istio's API, which discovery tells without a further request.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	var here []string
	for _, g := range []string{ciliumGroup, istioGroup} {
		served, err := t.objects.Served(ctx, g)
		if err != nil {
			s := tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
			if tool.KindOf(err) == tool.Forbidden {
				s.State = tool.Denied
			}
			return s
		}
		if served {
			here = append(here, g)
		}
	}
	if len(here) == 0 {
		return tool.Status{State: tool.Absent, NotRun: true, Reason: "the API server serves neither cilium.io nor security.istio.io: the cluster runs neither Cilium nor Istio",
			Fix: "nothing to do unless the cluster should run one of them"}
	}
	st := tool.Status{State: tool.Ready}
	if here[0] == ciliumGroup {
		st.Limits = t.reach(ctx).gaps
	}
	return st
}

// hubbleTTL is how long the state of the relay is taken to last.
const hubbleTTL = 30 * time.Second

// reach asks whether Hubble answers, and what it does not see.
func (t *Toolset) reach(ctx context.Context) hubbleState {
	h, err := t.asked.Get(ctx, "", func(ctx context.Context) (hubbleState, error) {
		h := t.relay(ctx)
		t.hubble.Store(&h)
		return h, nil
	})
	if err != nil {
		h.gaps = []incident.Gap{{Source: "network flows", Why: tool.UserText(err)}}
	}
	return h
}

func (t *Toolset) relay(ctx context.Context) hubbleState {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	h := hubbleState{here: true}
	st, err := t.flows.Status(ctx)
	switch {
	case err != nil:
		h.here = false
		g := incident.Gap{Source: "network flows", Why: tool.UserText(err)}
		if e, ok := errors.AsType[*tool.Error](err); ok {
			g.Why, g.Fix = e.User, e.Fix
		}
		h.gaps = append(h.gaps, g)
	case st.Unavailable > 0:
		g := incident.Gap{Source: fmt.Sprintf("network flows of %d nodes", st.Unavailable), Why: "hubble-relay has no connection to them", Fix: "check TCP 4244 between hubble-relay and these nodes, and the Hubble certificates"}
		if len(st.UnavailableNodes) > 0 {
			g.Source = "network flows of nodes " + listed(st.UnavailableNodes, 6)
		}
		h.gaps = append(h.gaps, g)
	}
	return h
}

// limit remembers something that was not seen.
func (t *Toolset) limit(g incident.Gap) {
	if h := t.hubble.Load(); h != nil && slices.ContainsFunc(h.gaps, func(o incident.Gap) bool { return o.Source == g.Source }) {
		return
	}
	t.unseen.Add(g)
}

// Limits lists what calls could not see since a moment.
func (t *Toolset) Limits(since time.Time) []incident.Gap { return t.unseen.Since(since) }

// noFlows stands where no Hubble is configured.
type noFlows struct{}

var _ Flows = noFlows{}

func (noFlows) err() error {
	return &tool.Error{Kind: tool.NotServed, User: "no Hubble is configured", Fix: "set hubble.address in the configuration"}
}

// Flows implements Flows.
func (n noFlows) Flows(context.Context, hubble.Query) (hubble.Answer, error) {
	return hubble.Answer{}, n.err()
}

// Status implements Flows.
func (n noFlows) Status(context.Context) (hubble.Status, error) { return hubble.Status{}, n.err() }

func (t *Toolset) ref(group, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: t.cluster, Group: group, Kind: kind, Namespace: namespace, Name: name}
}

func (t *Toolset) podRef(namespace, name string) incident.Ref {
	return t.ref("", "Pod", namespace, name)
}

// finding makes a finding with the role and severity of its code.
func finding(code string, on incident.Ref, confidence float64, params map[string]string, format string, args ...any) incident.Finding {
	f := incident.Finding{Code: code, Subject: on, Confidence: confidence, Params: params, Message: fmt.Sprintf(format, args...), Role: incident.Fault, Severity: incident.Critical}
	for _, c := range Codes() {
		if c.Code == code {
			f.Role, f.Severity = c.Role, c.Severity
		}
	}
	return f
}

// gap says what a refused or failed read hides.
func gap(source string, err error) string { return source + " not seen: " + tool.UserText(err) }
