package policy

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Names of the gates: what holds whatever the rules say. They stand among the rules
// of a decision.
const (
	GateMode       = "mode"
	GateIdentity   = "identity"
	GateSurface    = "surface"
	GateExpired    = "expired"
	GateEmpty      = "empty-plan"
	GateRequests   = "open-requests"
	GateBreaker    = "circuit-breaker"
	GateGitOps     = "direct-gitops"
	GateBreakGlass = "break-glass"
	// GateNoRule denies a step that no rule permits.
	GateNoRule = "no-rule"
)

func gate(name string) bool {
	return slices.Contains([]string{GateMode, GateIdentity, GateSurface, GateExpired, GateEmpty, GateRequests, GateBreaker, GateGitOps, GateBreakGlass, GateNoRule}, name)
}

// weight orders verdicts from 1; what is no verdict weighs 0.
func weight(verdict string) int {
	return slices.Index([]string{incident.Allow, incident.AskOne, incident.AskTwo, incident.Deny}, verdict) + 1
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

func typeName(v any) string { return reflect.TypeOf(v).String() }

// Decide judges a plan. Every gate and every rule is asked; the decision carries all
// that applied, strictest first. A rule whose expression fails denies under its own
// name.
func (p *Policy) Decide(ctx context.Context, in Input) incident.Decision {
	in = p.complete(in)
	hits := p.gates(in)
	windows := p.settings.windows(in.Now)
	vars := func() map[string]any {
		return map[string]any{"plan": in.Plan, "caller": in.Caller, "live": in.Live, "now": in.Now, "cluster": in.Cluster, "windows": windows}
	}
	whole := vars()
	var targets []Target
	var writes []Write
	for _, s := range in.Steps {
		targets, writes = append(targets, s.Targets...), append(writes, s.Writes...)
		v := vars()
		v["action"], v["params"], v["targets"], v["writes"] = s.Action, s.Params, s.Targets, s.Writes
		mine := p.ask(ctx, ScopeStep, s.ID, v)
		// A rule that denies does not make a step known: break-glass may pass it.
		if !slices.ContainsFunc(mine, func(h incident.RuleHit) bool { return h.Verdict != incident.Deny }) {
			mine = append(mine, incident.RuleHit{Rule: GateNoRule, Verdict: incident.Deny, Step: s.ID, Reason: fmt.Sprintf("no rule permits the action %q of the family %q with the risk %q; what is unknown is denied", s.Action.Name, s.Action.Family, s.Action.Risk)})
		}
		hits = append(hits, mine...)
	}
	whole["targets"], whole["writes"] = targets, writes
	hits = append(hits, p.ask(ctx, ScopePlan, "", whole)...)
	if in.Plan.BreakGlass {
		hits = p.breakGlass(hits)
	}
	slices.SortStableFunc(hits, func(a, b incident.RuleHit) int { return cmp.Compare(weight(b.Verdict), weight(a.Verdict)) })
	d := incident.Decision{Verdict: incident.Deny, Rules: hits, Policy: p.digest}
	if len(hits) > 0 {
		d.Verdict = hits[0].Verdict
	}
	switch d.Verdict {
	case incident.AskOne:
		d.Approvers = 1
	case incident.AskTwo:
		d.Approvers = 2
	}
	switch {
	case d.Verdict == incident.Deny:
	case in.Plan.BreakGlass, p.settings.SelfApproval == SelfAlways:
		d.SelfApproval = true
	case p.settings.SelfApproval == SelfDiagnosis:
		d.SelfApproval = in.Plan.Author == Gumshoe && !in.Plan.BreakGlass
	}
	return d
}

// ask gives the rules of a scope that apply.
func (p *Policy) ask(ctx context.Context, scope, step string, vars map[string]any) []incident.RuleHit {
	var out []incident.RuleHit
	for _, r := range p.rules {
		if r.Scope != scope {
			continue
		}
		holds, err := r.holds(ctx, vars)
		switch {
		case err != nil:
			out = append(out, incident.RuleHit{Rule: r.Name, Verdict: incident.Deny, Step: step, Reason: "the rule cannot be asked, and what is unknown is denied: " + err.Error()})
		case holds:
			out = append(out, incident.RuleHit{Rule: r.Name, Verdict: r.Verdict, Step: step, Reason: r.Reason})
		}
	}
	return out
}

// complete fills what the settings know: roles, and what the cluster lives on.
// Nothing of the given input is changed.
func (p *Policy) complete(in Input) Input {
	in.Caller.Roles = p.settings.roles(in.Caller.Name, in.Caller.Groups)
	in.Plan.Steps = len(in.Steps)
	in.Steps = slices.Clone(in.Steps)
	for i := range in.Steps {
		s := &in.Steps[i]
		s.Targets, s.Writes = slices.Clone(s.Targets), slices.Clone(s.Writes)
		for j := range s.Targets {
			t := &s.Targets[j]
			t.System = t.System || p.settings.system(home(t.Kind, t.Group, t.Namespace, t.Name))
		}
		for j := range s.Writes {
			w := &s.Writes[j]
			w.System = w.System || p.settings.system(home(w.Kind, w.Group, w.Namespace, w.Name)) || slices.ContainsFunc(s.Targets, func(t Target) bool { return t.System && same(t, *w) })
		}
	}
	return in
}

// home is the namespace that an object is in; a namespace is in itself.
func home(kind, group, namespace, name string) string {
	if kind == "Namespace" && group == "" {
		return name
	}
	return namespace
}

func same(t Target, w Write) bool {
	return t.Kind == w.Kind && t.Group == w.Group && t.Namespace == w.Namespace && t.Name == w.Name
}

// gates are what holds whatever the rules say.
func (p *Policy) gates(in Input) []incident.RuleHit {
	var out []incident.RuleHit
	deny := func(gate, step, format string, args ...any) {
		out = append(out, incident.RuleHit{Rule: gate, Verdict: incident.Deny, Step: step, Reason: fmt.Sprintf(format, args...)})
	}
	s := p.settings
	if s.Mode != Approve {
		deny(GateMode, "", "the policy is %s: nothing is changed, whoever asks", s.Mode)
	}
	if in.Caller.Name == "" || in.Caller.Proof == "" {
		deny(GateIdentity, "", "who asks is not known; the cluster or a login has to say it")
	}
	if !slices.Contains(s.Surfaces, in.Caller.Surface) {
		deny(GateSurface, "", "the request comes from %q; a person asks from %s, and automated callers are denied", in.Caller.Surface, strings.Join(s.Surfaces, ", "))
	}
	if len(in.Steps) == 0 {
		deny(GateEmpty, "", "the plan has no step")
	}
	switch {
	case in.Now.IsZero():
		deny(GateExpired, "", "the time is not known")
	case in.Plan.Expires.IsZero():
		deny(GateExpired, "", "the plan does not say when it expires")
	case !in.Now.Before(in.Plan.Expires):
		deny(GateExpired, "", "the plan expired at %s; make a new one", in.Plan.Expires.UTC().Format(time.RFC3339))
	}
	if in.Live.OpenRequests >= s.MaxOpenRequests {
		deny(GateRequests, "", "%d other plans wait for approval, and at most %d may wait in all; decide or withdraw one first", in.Live.OpenRequests, s.MaxOpenRequests)
	}
	if why := s.breaker(in); why != "" {
		deny(GateBreaker, "", "%s", why)
	}
	if direct := s.DirectGitOps; !direct.Allow || !in.Now.Before(direct.Expires) {
		for _, st := range in.Steps {
			for _, t := range st.Targets {
				if t.Delivered != "" && slices.ContainsFunc(st.Writes, func(w Write) bool { return !w.Undo && same(t, w) && changes(w) }) {
					deny(GateGitOps, st.ID, "%s is kept by %s, which would put it back; change the source, or set directGitOps with an expiry", path.Join(t.Kind, t.Namespace, t.Name), t.Owner)
				}
			}
		}
	}
	if in.Plan.BreakGlass {
		out = append(out, s.brokenGlass(in)...)
	}
	return out
}

// changes reports whether a write changes what a delivery tool keeps: neither an
// eviction nor a mere note, such as that of a restart, does.
func changes(w Write) bool {
	if w.Verb != incident.VerbPatch {
		return w.Verb != incident.VerbEvict
	}
	return len(w.Fields) == 0 || slices.ContainsFunc(w.Fields, func(f string) bool {
		return !strings.HasPrefix(f, "metadata.annotations.") && !strings.HasPrefix(f, "spec.template.metadata.annotations.")
	})
}

// fewNodes may be touched within the breaker's window whatever their share is.
const fewNodes = 3

// breaker says why the circuit breaker stops a plan; empty when it does not. It counts
// what other plans did: how much one plan does is for those who approve it.
func (s Settings) breaker(in Input) string {
	b, window := s.Breaker, time.Duration(s.Breaker.Window)
	if in.Live.BreakerOpen {
		return "the circuit breaker is open; a person with the role " + RoleAdmin + " looks into it and resets it"
	}
	if in.Live.Actions >= b.Actions {
		return fmt.Sprintf("%d steps ran within %s, and more is asked for; the breaker is set to %d", in.Live.Actions, window, b.Actions)
	}
	// A share of an unknown number is no more than that of a few.
	most := min(b.Nodes, max(fewNodes, int(b.NodeShare*float64(in.Live.NodesTotal))))
	if in.Plan.Blast.Nodes > 0 && in.Live.Nodes >= most {
		return fmt.Sprintf("%d of %d nodes were touched within %s, and more is asked for; the breaker is set to %d", in.Live.Nodes, in.Live.NodesTotal, window, most)
	}
	return ""
}

// brokenGlass says why a plan may not pass by break-glass.
func (s Settings) brokenGlass(in Input) []incident.RuleHit {
	var out []incident.RuleHit
	deny := func(format string, args ...any) {
		out = append(out, incident.RuleHit{Rule: GateBreakGlass, Verdict: incident.Deny, Reason: fmt.Sprintf(format, args...)})
	}
	b := s.BreakGlass
	switch {
	case b.Cluster == "":
		deny("break-glass is off; settings.breakGlass.cluster names the one cluster it is for")
	case b.Cluster != in.Cluster:
		deny("break-glass is for the cluster %q, not for %q", b.Cluster, in.Cluster)
	}
	if !slices.Contains(in.Caller.Roles, b.Role) {
		deny("%q does not have the role %s", in.Caller.Name, b.Role)
	}
	if strings.TrimSpace(in.Plan.Reason) == "" {
		deny("break-glass needs a reason in the requester's own words")
	}
	if in.Plan.FromModel {
		deny("a model had a part in the plan; break-glass is for what a person wrote or code found")
	}
	if life := in.Plan.Expires.Sub(in.Plan.Created); in.Plan.Expires.IsZero() || in.Plan.Created.IsZero() || life > time.Duration(b.TTL) {
		deny("a break-glass plan lives at most %s", time.Duration(b.TTL))
	}
	return out
}

// breakGlass takes the hits as break-glass does: rules that it may pass no longer
// deny, and one holder of the role consents instead of two people.
func (p *Policy) breakGlass(hits []incident.RuleHit) []incident.RuleHit {
	for i, h := range hits {
		passes := slices.ContainsFunc(p.rules, func(r rule) bool { return r.Name == h.Rule && r.BreakGlass && r.Reason == h.Reason })
		if h.Verdict == incident.AskTwo || h.Verdict == incident.Deny && passes {
			hits[i].Verdict, hits[i].Reason = incident.AskOne, "passed by break-glass: "+h.Reason
		}
	}
	return append(hits, incident.RuleHit{Rule: GateBreakGlass, Verdict: incident.AskOne, Reason: "break-glass: one holder of the role " + p.settings.BreakGlass.Role + " consents, and everybody is told"})
}
