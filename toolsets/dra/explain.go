package dra

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

func (t *Toolset) explainTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_explain", Text: text("dra_explain"), Effect: tool.Read}, t.explain)
}

func (t *Toolset) explain(ctx context.Context, in ExplainIn) (tool.Output[Explanation], error) {
	var s *subject
	var err error
	switch {
	case in.Namespace == "":
		return tool.Output[Explanation]{}, tool.Errorf(tool.Invalid, "dra_explain needs a namespace")
	case in.Pod != "":
		pod, perr := t.read.pod(ctx, in.Namespace, in.Pod)
		if perr != nil {
			return tool.Output[Explanation]{}, perr
		}
		if !t.usesDRA(ctx, pod) {
			out := t.blank(in)
			out.Pod, out.Verdict = in.Pod, "no_claims"
			return tool.Output[Explanation]{Data: out, Text: fmt.Sprintf("pod %s/%s uses no claims and no extended resource that a DeviceClass maps", in.Namespace, in.Pod)}, nil
		}
		s, err = t.ofPod(ctx, pod)
	case in.Claim != "":
		s, err = t.ofClaim(ctx, in.Namespace, in.Claim)
	default:
		return tool.Output[Explanation]{}, tool.Errorf(tool.Invalid, "dra_explain needs a pod or a claim")
	}
	if err != nil {
		return tool.Output[Explanation]{}, err
	}
	return t.explainSubject(ctx, in, s)
}

func (t *Toolset) blank(in ExplainIn) Explanation {
	return Explanation{
		Cluster: t.cluster, Namespace: in.Namespace, Verdict: "unknown",
		Claims: []ClaimView{}, Nodes: []NodeView{}, Counterfactuals: []Counterfactual{}, WouldFit: []WouldFit{}, Limits: []incident.Gap{}, Notes: []string{},
	}
}

// usesDRA says whether a pod has to do with DRA at all, without reading slices.
func (t *Toolset) usesDRA(ctx context.Context, pod *corev1.Pod) bool {
	if len(pod.Spec.ResourceClaims) > 0 || pod.Status.ExtendedResourceClaimStatus != nil {
		return true
	}
	asked := allocator.ExtendedRequests(pod)
	if len(asked) == 0 {
		return false
	}
	classes, err := t.read.listClasses(ctx)
	if err != nil {
		return false
	}
	for name := range asked {
		if allocator.ClassFor(classes, name) != nil {
			return true
		}
	}
	return false
}

func (t *Toolset) explainSubject(ctx context.Context, in ExplainIn, s *subject) (tool.Output[Explanation], error) {
	out := t.blank(in)
	out.Claims = append(out.Claims, s.views...)
	out.Limits = append(out.Limits, s.limits...)
	out.Notes = append(out.Notes, s.notes...)
	findings, edges := s.findings, s.edges
	if s.pod != nil {
		out.Pod = s.pod.Name
	}
	switch {
	case s.pod != nil && over(s.pod):
		out.Verdict = "unknown"
		out.Notes = append(out.Notes, "the pod has finished ("+string(s.pod.Status.Phase)+"); it waits for nothing")
		findings = nil
	case s.pod != nil && s.pod.Spec.NodeName != "":
		out.Verdict = "allocated"
		f, e, notes := t.bound(ctx, s)
		findings, edges = append(findings, f...), append(edges, e...)
		out.Notes = append(out.Notes, notes...)
	case s.blocked:
		out.Verdict = "blocked"
	case t.settled(s):
		out.Verdict = "allocated"
		f, notes := t.binding(s)
		findings = append(findings, f...)
		out.Notes = append(out.Notes, notes...)
	default:
		f, e, err := t.tryOnce(ctx, s, &out)
		if err != nil {
			if tool.KindOf(err) != tool.Forbidden {
				return tool.Output[Explanation]{}, err
			}
			out.Limits = append(out.Limits, gap(apiGroup, err))
		}
		findings, edges = append(findings, f...), append(edges, e...)
	}
	findings = append(findings, t.symptoms(s, &out, findings)...)
	if s.pod != nil && len(s.pod.Spec.SchedulingGates) > 0 {
		out.Notes = append(out.Notes, "the pod is scheduling-gated: an unallocated claim is normal until the gates are gone")
		findings = demote(findings)
	}
	stamp(findings, s)
	for _, c := range s.claims {
		findings = withOrigin(findings, t.claimRef(c.Namespace, c.Name), templateOf(s.pod, c), standalone(c))
	}
	return tool.Output[Explanation]{Data: out, Text: explainText(&out, findings), Findings: findings, Edges: edges}, nil
}

func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// settled: nothing is left to allocate, and no pod is waiting that might be
// unable to go where its claims are.
func (t *Toolset) settled(s *subject) bool {
	if s.pod != nil {
		for _, c := range s.claims {
			if c.Status.Allocation == nil || !slices.ContainsFunc(c.Status.ReservedFor, func(r resourceapi.ResourceClaimConsumerReference) bool { return r.UID == s.pod.UID }) {
				return false
			}
		}
		return len(s.claims) > 0 && len(allocator.ExtendedRequests(s.pod)) == 0
	}
	return !slices.ContainsFunc(s.claims, func(c *resourceapi.ResourceClaim) bool { return c.Status.Allocation == nil })
}

// tryNodes asks the allocator.
func (t *Toolset) tryNodes(ctx context.Context, s *subject, out *Explanation) ([]incident.Finding, []incident.Edge, error) {
	w, err := t.read.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	out.Features = w.assume.String()
	a := newAttempt(w, s.pod, s.claims)
	a.log = t.log
	if a.extended {
		for _, c := range a.tried() {
			if c.UID == "" && c.Annotations[resourceapi.ExtendedResourceClaimAnnotation] == "true" {
				v := view(c)
				v.State = "generated"
				out.Claims = append(out.Claims, v)
			}
		}
	}
	n := t.newAnalysis(a, out)
	if err := n.run(ctx); err != nil {
		return nil, nil, err
	}
	if out.Verdict == "fits" && s.pod != nil {
		t.saidOtherwise(s, n)
	}
	return n.findings, n.edges, nil
}

// saidOtherwise compares a verdict "fits" with what the scheduler last wrote into
// the pod: a gang whose pods wait for each other's claim (F38), or a refusal that
// is older than the present state.
func (t *Toolset) saidOtherwise(s *subject, n *analysis) {
	for _, c := range s.pod.Status.Conditions {
		if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse {
			continue
		}
		if c.Reason != corev1.PodReasonSchedulingGated && (strings.Contains(c.Message, "cannot allocate all claims") || strings.Contains(c.Message, "resourceclaim")) {
			n.out.Notes = append(n.out.Notes, "the scheduler said earlier: "+quote(c.Message)+"; with things as they are now the claims fit")
		}
		if !strings.Contains(c.Message, "is in the process of being allocated") || s.pod.Spec.SchedulingGroup == nil || t.now().Sub(c.LastTransitionTime.Time) < leakAge {
			continue
		}
		group := ""
		if g := s.pod.Spec.SchedulingGroup.PodGroupName; g != nil {
			group = *g
		}
		for _, claim := range s.claims {
			if strings.Contains(c.Message, claim.Name) {
				n.fault("dra.gang_claim_contention", t.claimRef(claim.Namespace, claim.Name), 0.85, map[string]string{"group": group, "message": c.Message},
					"pods of group %s wait for claim %s, which they share and which is always in the process of being allocated to another of them", group, claim.Name)
			}
		}
	}
}

// symptoms marks the claims that wait, once something about them stands in the
// way. What is wrong with the pod itself is no trouble of its claims.
func (t *Toolset) symptoms(s *subject, out *Explanation, found []incident.Finding) []incident.Finding {
	if out.Verdict != "does_not_fit" && out.Verdict != "aborts" && out.Verdict != "blocked" {
		return nil
	}
	if len(found) > 0 && !slices.ContainsFunc(found, func(f incident.Finding) bool { return f.Role == incident.Fault && f.Subject.Kind != "Pod" }) {
		return nil
	}
	var fs []incident.Finding
	for _, c := range s.claims {
		if c.Status.Allocation == nil && c.DeletionTimestamp == nil {
			fs = append(fs, finding("dra.claim_unallocated", t.claimRef(c.Namespace, c.Name), 0, map[string]string{"pod": out.Pod}, "ResourceClaim %s has no devices", c.Name))
		}
	}
	return fs
}

// demote makes context of everything: true, but not what stands in the way now.
func demote(fs []incident.Finding) []incident.Finding {
	for i := range fs {
		fs[i].Role, fs[i].Severity = incident.Context, incident.Info
	}
	return fs
}

// stamp dates the symptoms by the pod; what it waits for may be older.
func stamp(fs []incident.Finding, s *subject) {
	for i := range fs {
		if fs[i].Role == incident.Symptom && s.pod != nil && fs[i].FirstSeen.IsZero() {
			fs[i].FirstSeen = s.pod.CreationTimestamp.Time
		}
	}
}

// Verdict lists the nodes on which a pending pod could be scheduled as far as
// DRA, node taints, node selection and schedulability decide; it is empty when
// an error would end the attempt or a claim stops it earlier. It exists to be
// compared with a real scheduler.
func (t *Toolset) Verdict(ctx context.Context, namespace, pod string) ([]string, error) {
	p, err := t.read.pod(ctx, namespace, pod)
	if err != nil {
		return nil, err
	}
	s, err := t.ofPod(ctx, p)
	if err != nil || s.blocked {
		return nil, err
	}
	w, err := t.read.load(ctx)
	if err != nil {
		return nil, err
	}
	a := newAttempt(w, p, s.claims)
	for _, x := range a.wants {
		if x.class == nil {
			return nil, nil
		}
	}
	a.split()
	if err := a.baseline(ctx); err != nil {
		return nil, err
	}
	var fit []string
	for _, g := range a.groups {
		if g.eligible && g.verdict.Abort != "" {
			return nil, nil
		}
		if g.eligible && g.verdict.Fits {
			for _, n := range g.nodes {
				fit = append(fit, n.Name)
			}
		}
	}
	slices.Sort(fit)
	return fit, nil
}

// explainText writes the answer for a reader: verdict, causes, tables, figures.
func explainText(out *Explanation, findings []incident.Finding) string {
	var b strings.Builder
	who := "claim"
	if len(out.Claims) > 0 {
		who = "claim " + out.Namespace + "/" + out.Claims[0].Name
	}
	if out.Pod != "" {
		who = "pod " + out.Namespace + "/" + out.Pod
	}
	nodes := 0
	for _, v := range out.Nodes {
		nodes += v.Count
	}
	switch out.Verdict {
	case "fits":
		fmt.Fprintf(&b, "%s: the claims fit on %s of %d; DRA does not stand in the way\n", who, plural(out.FitsOn, "node"), nodes)
	case "does_not_fit":
		fmt.Fprintf(&b, "%s: the claims fit on 0 of %d nodes\n", who, nodes)
	case "aborts":
		fmt.Fprintf(&b, "%s: scheduling ends with an error for every node\n", who)
	case "blocked":
		fmt.Fprintf(&b, "%s: stopped before any node is tried\n", who)
	case "allocated":
		fmt.Fprintf(&b, "%s: nothing is left to allocate\n", who)
	default:
		fmt.Fprintf(&b, "%s: no verdict\n", who)
	}
	for _, f := range findings {
		if f.Role == incident.Fault {
			fmt.Fprintf(&b, "cause (%.2f) %s: %s\n", f.Score(), f.Subject, f.Message)
		}
	}
	for _, f := range findings {
		if f.Role == incident.Context {
			fmt.Fprintf(&b, "also %s: %s\n", f.Subject, f.Message)
		}
	}
	for i := range out.Claims {
		claimText(&b, &out.Claims[i])
	}
	for _, v := range out.Nodes {
		mark := "no"
		if v.Fits {
			mark = "fits"
		}
		fmt.Fprintf(&b, "node %s%s: %s%s\n", v.Example, others(v.Count), mark, prefixed("; ", strings.Join(v.Reasons, "; ")))
	}
	for _, c := range out.Counterfactuals {
		fmt.Fprintf(&b, "relaxed: %s: fits on %s\n", c.Relax, plural(c.FitsOn, "node"))
	}
	for _, w := range out.WouldFit {
		extra := ""
		if w.Devices > 0 {
			extra = fmt.Sprintf("%s free on ", plural(w.Devices, "device"))
		}
		advice := ""
		if w.Advice {
			advice = " (the scheduler does not do this by itself)"
		}
		fmt.Fprintf(&b, "would fit: %s: %s%s%s\n", w.Change, extra, plural(w.Nodes, "node"), advice)
	}
	for _, note := range out.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	if out.Features != "" {
		fmt.Fprintf(&b, "assumed: %s\n", out.Features)
	}
	for _, l := range out.Limits {
		fmt.Fprintf(&b, "not seen: %s: %s\n", l.Source, l.Why)
	}
	return strings.TrimRight(b.String(), "\n")
}

func others(count int) string {
	if count <= 1 {
		return ""
	}
	return fmt.Sprintf(" and %d alike", count-1)
}

func claimText(b *strings.Builder, c *ClaimView) {
	fmt.Fprintf(b, "claim %s%s: %s", c.Name, prefixed(" from template ", c.Template), c.State)
	if len(c.Devices) > 0 {
		fmt.Fprintf(b, ", holds %s", strings.Join(c.Devices, ", "))
	}
	if c.Node != "" {
		fmt.Fprintf(b, ", usable on %s", c.Node)
	}
	b.WriteByte('\n')
	for _, r := range c.Requests {
		amount := fmt.Sprintf("%d", r.Count)
		if r.Mode == "All" {
			amount = "all"
		}
		fmt.Fprintf(b, "  request %s: %s of class %s: %d match the class on %s, %d pass the selectors, %d free", r.Name, amount, r.Class, r.Totals.MatchingClass, plural(r.Totals.ClassNodes, "node"), r.Totals.AfterSelectors, r.Totals.Free)
		for _, p := range []struct {
			n    int
			what string
		}{{r.Totals.InUse, "in use"}, {r.Totals.Tainted, "tainted"}, {r.Totals.NotPublished, "in incomplete or invalid pools"}, {r.Totals.Short, "short of capacity or counters"}} {
			if p.n > 0 {
				fmt.Fprintf(b, ", %d %s", p.n, p.what)
			}
		}
		if r.Largest > 0 {
			fmt.Fprintf(b, "; most on one node %d", r.Largest)
		}
		b.WriteByte('\n')
		for i, s := range r.Selectors {
			fmt.Fprintf(b, "    selector %d: %s\n", i, s)
		}
		for _, d := range r.Devices {
			name := d.Label
			if name == "" {
				name = d.Driver
			}
			fmt.Fprintf(b, "    %d %s%s%s%s\n", d.Count, name, onNodes(d.Nodes), attributesText(d.Attributes, d.Label), excludedText(d.ExcludedBy))
		}
	}
	for _, k := range c.Constraints {
		fmt.Fprintf(b, "  constraint %s %s over %s\n", k.Kind, k.Attribute, strings.Join(k.Requests, ", "))
		for _, m := range k.Missing {
			fmt.Fprintf(b, "    lack it: %s\n", m)
		}
		for _, g := range k.Groups {
			var parts []string
			for _, r := range k.Requests {
				parts = append(parts, fmt.Sprintf("%s %d (%d free)", r, g.Have[r], g.Free[r]))
			}
			fmt.Fprintf(b, "    %s: %s\n", g.Value, strings.Join(parts, ", "))
		}
	}
}

func onNodes(n int) string {
	if n == 0 {
		return ""
	}
	return " on " + plural(n, "node")
}

func attributesText(m map[string]string, label string) string {
	keys := make([]string, 0, len(m))
	for k, v := range m {
		if v != label {
			keys = append(keys, k+"="+v)
		}
	}
	if len(keys) == 0 {
		return ""
	}
	slices.Sort(keys)
	return " [" + strings.Join(keys, " ") + "]"
}

func excludedText(ex []Exclusion) string {
	if len(ex) == 0 {
		return ": free"
	}
	var parts []string
	for _, e := range ex {
		switch e.Kind {
		case "selector":
			parts = append(parts, fmt.Sprintf("selector %d is false", e.Index))
		case "class_selector":
			parts = append(parts, fmt.Sprintf("class selector %d is false", e.Index))
		case "in_use":
			parts = append(parts, "in use")
		default:
			parts = append(parts, strings.ReplaceAll(e.Kind, "_", " ")+" "+e.Detail)
		}
	}
	return ": " + strings.Join(parts, ", ")
}

// stale reports whether something last seen is over.
func (t *Toolset) stale(at time.Time, window time.Duration) bool {
	return t.now().Sub(at) > window
}
