package serving

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// OverviewIn narrows the overview to a namespace; empty looks at the whole cluster.
type OverviewIn struct {
	Namespace string `json:"namespace,omitempty"`
}

// Overview is which serving systems a cluster has and what they serve.
type Overview struct {
	Systems []SystemView   `json:"systems"`
	Models  []ModelView    `json:"models"`
	More    int            `json:"more" jsonschema:"models beyond those listed"`
	Absent  []string       `json:"absent" jsonschema:"systems whose kinds the API server does not have"`
	Limits  []incident.Gap `json:"limits"`

	// trouble is what the listed objects say of themselves.
	trouble []incident.Finding
}

// SystemView is one system.
type SystemView struct {
	System string `json:"system"`
	// Kinds served, as Kind.version.group.
	Kinds     []string       `json:"kinds"`
	Objects   int            `json:"objects"`
	Operators []OperatorView `json:"operators"`
	// Alive is yes, no, unknown, or none where the system has no operator.
	Alive string `json:"alive"`
	// Unknown versions are read by field, as far as the fields are there.
	Unknown []string `json:"unknown_versions"`
}

// ModelView is one object that serves a model, brought to common words.
type ModelView struct {
	Subject incident.Ref `json:"subject"`
	System  string       `json:"system"`
	Model   string       `json:"model,omitempty"`
	Served  string       `json:"served_name,omitempty"`
	Engine  string       `json:"engine,omitempty"`
	State   string       `json:"state"`
	Pods    int          `json:"pods"`
	Ready   int          `json:"ready"`
	Why     string       `json:"why,omitempty"`
}

// listed bounds how many models an overview names.
const listed = 40

func (t *Toolset) overviewTool() (tool.Tool, error) {
	return read("serving_overview", t.overview)
}

func (t *Toolset) overview(ctx context.Context, in OverviewIn) (tool.Output[Overview], error) {
	all, err := t.objects.Served(ctx)
	if err != nil {
		return tool.Output[Overview]{}, err
	}
	out := Overview{Systems: []SystemView{}, Models: []ModelView{}, Absent: []string{}, Limits: []incident.Gap{}}
	var findings []incident.Finding
	var edges []incident.Edge
	for i := range t.book.Systems {
		sys := &t.book.Systems[i]
		view := SystemView{System: sys.Name, Kinds: []string{}, Operators: []OperatorView{}, Unknown: []string{}, Alive: "none"}
		var kinds []Served
		for _, s := range all {
			if !sys.owns(s.Group, s.Kind) {
				continue
			}
			kinds = append(kinds, s)
			view.Kinds = append(view.Kinds, s.Kind+"."+s.Version+"."+s.Group)
			if name := s.Group + "/" + s.Version; !slices.Contains(sys.Versions, s.Version) && !slices.Contains(view.Unknown, name) {
				view.Unknown = append(view.Unknown, name)
			}
		}
		if len(kinds) == 0 {
			out.Absent = append(out.Absent, sys.Name)
			continue
		}
		for _, k := range kinds {
			t.inventory(ctx, in.Namespace, sys, k, &view, &out)
		}
		fs, es := t.liveness(ctx, sys, &view, &out)
		findings, edges = append(findings, fs...), append(edges, es...)
		out.Systems = append(out.Systems, view)
	}
	slices.SortStableFunc(out.Models, func(a, b ModelView) int { return cmp.Compare(urgency(a.State), urgency(b.State)) })
	if len(out.Models) > listed {
		out.More = len(out.Models) - listed
		out.Models = out.Models[:listed]
	}
	findings = append(findings, out.trouble...)
	return tool.Output[Overview]{Data: out, Text: overviewText(out), Findings: findings, Edges: edges}, nil
}

func urgency(state string) int {
	return slices.Index([]string{failed, degraded, unknown, progressing, healthy, "Stopped"}, state)
}

// inventory lists the objects of a kind that serve a model.
func (t *Toolset) inventory(ctx context.Context, namespace string, sys *system, k Served, view *SystemView, out *Overview) {
	s, ok := t.book.shape(k.Group, k.Kind)
	if !ok {
		return
	}
	objs, err := t.objects.List(ctx, k.Group, k.Kind, namespace, "")
	if err != nil {
		out.Limits = append(out.Limits, incident.Gap{Source: k.Kind + "." + k.Group, Why: tool.UserText(err)})
		return
	}
	view.Objects += len(objs)
	if !s.Serves {
		return
	}
	for _, u := range objs {
		m, fs := t.model(ctx, sys, s, u)
		out.Models = append(out.Models, m)
		for _, f := range fs {
			if len(out.trouble) < surveyed && (f.Role == incident.Fault || f.Role == incident.Symptom) {
				out.trouble = append(out.trouble, f)
			}
		}
	}
}

// model brings one object to common words, and gives what it says of itself.
func (t *Toolset) model(ctx context.Context, sys *system, s shape, u *unstructured.Unstructured) (ModelView, []incident.Finding) {
	m := ModelView{Subject: t.refOf(u), System: sys.Name, Model: first(u, s.Model), Served: first(u, s.Served), Engine: first(u, s.Engine)}
	v := newVerdict(m.Subject)
	conds := t.spoken(u)
	t.conditions(v, u, conds)
	pods := t.podsOf(ctx, s, u)
	t.summary(v, s, u, conds, pods)
	m.State, m.Pods, m.Ready = v.state, len(pods), readyCount(pods)
	for _, p := range pods {
		if e, ok := engineOf(p); ok && e.kind != picker && e.kind != front {
			m.Model, m.Engine = cmp.Or(m.Model, e.model), cmp.Or(m.Engine, e.kind)
			m.Served = cmp.Or(m.Served, strings.Join(e.names, ", "))
		}
	}
	for _, f := range v.findings {
		if m.Why == "" || f.Role == incident.Fault {
			m.Why = oneLine(f.Message, 200)
		}
	}
	return m, v.findings
}

// liveness says whether a system's operators are alive. One that is down while
// objects wait for it is a fault.
func (t *Toolset) liveness(ctx context.Context, sys *system, view *SystemView, out *Overview) ([]incident.Finding, []incident.Edge) {
	if len(sys.Operators) == 0 {
		return nil, nil
	}
	ops, err := t.operators(ctx, slices.Concat(sys.Operators, sys.Shims))
	if err != nil {
		view.Alive = "unknown"
		out.Limits = append(out.Limits, incident.Gap{Source: "operator of " + sys.Name, Why: tool.UserText(err)})
		return nil, nil
	}
	view.Operators = append(view.Operators, ops...)
	if len(ops) == 0 {
		view.Alive = "unknown"
		out.Limits = append(out.Limits, incident.Gap{Source: "operator of " + sys.Name, Why: "no Deployment " + strings.Join(sys.Operators, " or ") + " was found; it may run under another name or outside of the cluster"})
		return nil, nil
	}
	view.Alive = "yes"
	v := newVerdict(t.systemRef(sys.Name))
	for _, o := range ops {
		if !o.alive() {
			view.Alive = "no"
			if view.Objects > 0 && o.Desired > 0 {
				t.operatorDown(v, sys, o)
			}
		}
	}
	return v.findings, slices.DeleteFunc(v.edges, func(e incident.Edge) bool { return e.Relation == graph.ServedBy })
}

func overviewText(o Overview) string {
	var b strings.Builder
	for _, s := range o.Systems {
		fmt.Fprintf(&b, "%s: %s; %d objects; operator alive: %s\n", s.System, strings.Join(s.Kinds, ", "), s.Objects, s.Alive)
		for _, p := range s.Operators {
			fmt.Fprintf(&b, "  operator %s/%s: %d of %d ready, %s restarts, %s\n", p.Namespace, p.Name, p.Ready, p.Desired, restartsText(p.Restarts), p.Image)
		}
		if len(s.Unknown) > 0 {
			fmt.Fprintf(&b, "  not known here, read by field: %s\n", strings.Join(s.Unknown, ", "))
		}
	}
	for _, m := range o.Models {
		fmt.Fprintf(&b, "%s (%s): %s, %d of %d pods ready", m.Subject, m.System, m.State, m.Ready, m.Pods)
		for _, x := range []struct{ label, value string }{{"model", m.Model}, {"served as", m.Served}, {"engine", m.Engine}, {"why", m.Why}} {
			if x.value != "" {
				fmt.Fprintf(&b, ", %s %s", x.label, x.value)
			}
		}
		b.WriteString("\n")
	}
	if o.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", o.More)
	}
	if len(o.Absent) > 0 {
		fmt.Fprintf(&b, "not in this cluster: %s\n", strings.Join(o.Absent, ", "))
	}
	for _, f := range o.trouble {
		fmt.Fprintf(&b, "%s %s on %s: %s\n", f.Role, f.Code, f.Subject, oneLine(f.Message, 300))
	}
	for _, l := range o.Limits {
		fmt.Fprintf(&b, "not seen: %s: %s\n", l.Source, l.Why)
	}
	return strings.TrimRight(b.String(), "\n")
}

func restartsText(n int) string {
	if n < 0 {
		return "unknown"
	}
	return fmt.Sprint(n)
}
