package dra

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/selector"
)

// aborted handles errors that end the scheduling attempt for every node, even
// where the claims would fit: one node suffices.
func (n *analysis) aborted(ctx context.Context) bool {
	var at *group
	for _, g := range n.a.groups {
		if g.eligible && g.verdict.Abort != "" {
			at = g
			break
		}
	}
	if at == nil {
		return false
	}
	text := at.verdict.Abort
	if n.notMet() {
		n.out.Notes = append(n.out.Notes, fmt.Sprintf("on node %s the claims would end in an error (%s); the scheduler refuses that node before it looks at devices", at.rep().Name, text))
		return false
	}
	n.out.Notes = append(n.out.Notes, fmt.Sprintf("the scheduler stops for every node with: %s (met on node %s)", text, at.rep().Name))
	switch {
	case strings.Contains(text, "CEL compile error"):
		n.celFault(ctx, at, "dra.cel_compile_error")
	case strings.Contains(text, "CEL runtime error"):
		n.celFault(ctx, at, "dra.cel_runtime_error")
	case strings.Contains(text, "exceeds the claim limit"):
		n.tooMany(ctx, at)
	case strings.Contains(text, "currently being updated"), strings.Contains(text, "currently invalid"):
		n.allIncomplete(ctx, at, text)
	case strings.Contains(text, "a claim constraint would not be satisfied"):
		n.allConstraint(ctx, at, text)
	case strings.Contains(text, "checking capacity"), strings.Contains(text, "consumed capacity"):
		for _, x := range n.a.wants {
			if x.capacity != nil {
				n.capacityFault(ctx, x, true)
			}
		}
	default:
		for _, c := range n.a.claims {
			n.fault("dra.claim_rejected", n.subject(c), 0.9, map[string]string{"message": text}, "the allocator refuses the claim on every node: %s", text)
		}
	}
	return true
}

// notMet says that the scheduler did not come upon the error: its last word on
// the pod counts refusals node by node, which it only does when none of them ended
// the attempt. It asks the other filters first (room for CPU and memory, volumes),
// and where one of them refuses, devices are not looked at. The nodes that would
// end in an error are out then.
func (n *analysis) notMet() bool {
	if n.a.pod == nil {
		return false
	}
	met := true
	for _, c := range n.a.pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && strings.HasPrefix(c.Message, "0/") {
			met = false
		}
	}
	if met {
		return false
	}
	out := map[string]bool{}
	for _, g := range n.a.groups {
		if g.eligible && g.verdict.Abort != "" {
			g.eligible = false
			for _, nd := range g.nodes {
				out[nd.Name] = true
				n.a.refused[nd.Name] = anotherFilter
			}
		}
	}
	n.a.beside = func(node string) bool { return out[node] }
	return true
}

// celFault blames the selector that fails on a device: whose it is decides the
// subject (F13).
func (n *analysis) celFault(ctx context.Context, g *group, code string) {
	for _, x := range n.a.wants {
		t := n.tables[x]
		j, on := t.firstError, t.errorOn
		if d, where := n.errorIn(g, x); d != nil {
			j, on = d, where
		}
		if j == nil || !strings.Contains(g.verdict.Abort, "selector #"+strconv.Itoa(j.errAt)) {
			continue
		}
		exprs, subject, owner := x.exprs, n.subject(x.claim), "request "+x.name+" of claim "+x.claim.Name
		if j.errClass {
			exprs, subject, owner = x.classExprs, n.t.classRef(x.className), "class "+x.className
		}
		expr := quote(exprs[j.errAt].Text)
		params := map[string]string{"expression": expr, "message": j.err, "device": on.String(), "selector": strconv.Itoa(j.errAt), "request": x.name, "devices": itoa(t.errors)}
		if code == "dra.cel_compile_error" {
			n.fault(code, subject, 0.97, params, "selector %d of %s does not compile: %s", j.errAt, owner, quote(j.err))
			return
		}
		hint := n.typeHint(x, exprs[j.errAt])
		params["hint"] = hint
		n.fault(code, subject, 0.97, params, "selector %d of %s fails on %s (%s), which ends scheduling on every node: %s%s", j.errAt, owner, plural(t.errors, "device"), "for example "+on.String(), quote(j.err), prefixed("; ", hint))
		n.guarded(ctx, x, j)
		return
	}
}

// typeHint says which comparison of an expression does not suit the type that
// devices publish.
func (n *analysis) typeHint(x *want, e *selector.Expression) string {
	for _, p := range e.Parts {
		for _, q := range p.Predicates {
			if h := n.hint(x, q, n.valuesOf(x, q.Field, true), true); strings.Contains(h, "is of type") {
				return h
			}
		}
	}
	for _, f := range e.Fields {
		if (f.Kind == "attribute" || f.Kind == "capacity") && len(n.valuesOf(x, f, true).counts) == 0 {
			return n.nameHint(x, f, true)
		}
	}
	return ""
}

// errorIn finds the first error among the devices of a sort of node.
func (n *analysis) errorIn(g *group, x *want) (*judgement, devID) {
	for _, s := range g.slices {
		for i := range s.devices {
			if j := x.judge(context.Background(), n.a.w.fleet, s, &s.devices[i]); j.aborting {
				return j, idOf(s, &s.devices[i])
			}
		}
	}
	return nil, devID{}
}

// guarded tries the failing selector with a check that the field is there.
func (n *analysis) guarded(ctx context.Context, x *want, j *judgement) {
	exprs := x.exprs
	if j.errClass {
		exprs = x.classExprs
	}
	e := exprs[j.errAt]
	var guards []string
	for _, f := range e.Fields {
		if f.Kind == "attribute" || f.Kind == "capacity" {
			of := map[string]string{"attribute": "attributes", "capacity": "capacity"}[f.Kind]
			guards = append(guards, fmt.Sprintf("%q in device.%s[%q]", f.ID, of, f.Domain))
		}
	}
	if len(guards) == 0 {
		return
	}
	expr := strings.Join(guards, " && ") + " && (" + e.Text + ")"
	edit := setSelector(x, j.errAt, expr)
	if j.errClass {
		edit = editClass(x.className, func(c *resourceapi.DeviceClass) { c.Spec.Selectors[j.errAt].CEL = celSelector(expr) })
	}
	f := n.a.where(ctx, edit)
	n.counterfactual(fmt.Sprintf("guard selector %d with %s", j.errAt, strings.Join(guards, " && ")), f)
	if f.ok() {
		how := x.fixSelector(j.errAt, expr)
		if j.errClass {
			how = &fix{class: x.className, params: map[string]string{"selector": expr, "selector_index": strconv.Itoa(j.errAt)}}
		}
		n.wouldFit(fmt.Sprintf("selector %d guarded: %s", j.errAt, quote(expr)), f, 0, how)
	}
}

// tooMany reports a claim over the limit of 32 devices (F17).
func (n *analysis) tooMany(ctx context.Context, g *group) {
	perClaim := map[string]int64{}
	for _, x := range n.a.wants {
		c := x.count
		if x.all {
			c = int64(n.candidates(g, x, nil))
		}
		perClaim[x.claim.Name] += c
	}
	for _, x := range n.a.wants {
		total := perClaim[x.claim.Name]
		if total <= allocator.ResultLimit || slices.ContainsFunc(n.findings, func(f incident.Finding) bool {
			return f.Code == "dra.too_many_devices" && f.Subject == n.subject(x.claim)
		}) {
			continue
		}
		n.fault("dra.too_many_devices", n.subject(x.claim), 0.98, map[string]string{"devices": itoa(total), "limit": strconv.Itoa(allocator.ResultLimit), "request": x.name},
			"claim %s asks for %d devices; one claim may hold %d", x.claim.Name, total, allocator.ResultLimit)
		if !x.all {
			if best, f := n.a.most(ctx, x); best > 0 {
				n.wouldFit(fmt.Sprintf("request %s with count %d", x.name, best), f, n.freeOn(f, x), x.fixCount(best))
			}
		}
	}
}

// allIncomplete reports allocationMode All meeting a pool that is not complete (F18).
func (n *analysis) allIncomplete(ctx context.Context, g *group, text string) {
	m := regexp.MustCompile(`resource pool (\S+?)/(\S+) is currently`).FindStringSubmatch(text)
	for _, x := range n.a.wants {
		if !x.all {
			continue
		}
		params := map[string]string{"request": x.name, "pool": "", "driver": ""}
		have := ""
		if m != nil {
			params["driver"], params["pool"] = m[1], m[2]
			if p := n.a.w.fleet.poolOf[poolID{m[1], m[2]}]; p != nil {
				have = fmt.Sprintf(" (%d of %d slices)", len(p.slices), p.want)
				ref := n.t.poolRef(p.driver, p.name)
				c := finding("dra.pool_incomplete", ref, 0.4, map[string]string{"driver": p.driver, "pool": p.name, "have": itoa(len(p.slices)), "want": itoa(p.want)},
					"pool %s of driver %s has %d of %d slices", p.name, p.driver, len(p.slices), p.want)
				if p.invalid != "" && p.complete() {
					have = " (" + p.invalid + ")"
					c = finding("dra.pool_invalid", ref, 0.4, map[string]string{"driver": p.driver, "pool": p.name, "message": p.invalid}, "pool %s of driver %s: %s", p.name, p.driver, p.invalid)
				}
				c.Role, c.Severity = incident.Context, incident.Info
				n.findings = append(n.findings, c)
				n.edge(n.subject(x.claim), graph.OfferedBy, ref)
			}
		}
		n.fault("dra.all_mode_incomplete", n.subject(x.claim), 0.95, params,
			"request %s has allocationMode All, and pool %s of driver %s, met on node %s, is not complete%s: that ends scheduling on every node", x.name, params["pool"], params["driver"], g.rep().Name, have)
		if f := n.a.where(ctx, setCount(x, max(x.count, 1))); f.ok() {
			n.wouldFit(fmt.Sprintf("request %s with ExactCount 1 instead of All", x.name), f, n.freeOn(f, x), x.fixCount(max(x.count, 1)))
		}
		return
	}
}

// allConstraint reports allocationMode All with devices that break a constraint.
func (n *analysis) allConstraint(ctx context.Context, g *group, text string) {
	for _, c := range n.a.claims {
		for i, k := range c.Spec.Devices.Constraints {
			f := n.a.where(ctx, dropConstraint(c.Name, i))
			n.counterfactual(fmt.Sprintf("without constraint %d (%s)", i, constraintAttribute(k)), f)
			if f.ok() {
				n.constraintFault(ctx, c, i, k)
			}
		}
	}
	if len(n.findings) == 0 {
		for _, c := range n.a.claims {
			if len(c.Spec.Devices.Constraints) > 0 {
				n.fault("dra.constraint_unsatisfiable", n.subject(c), 0.8, map[string]string{"attribute": constraintAttribute(c.Spec.Devices.Constraints[0]), "reason": text},
					"allocationMode All takes devices that a constraint forbids together: %s", text)
			}
		}
	}
}

// capacityFault reports a capacity request no device can meet (F22): against the
// device's policy, beyond any device, or beyond what is left.
func (n *analysis) capacityFault(ctx context.Context, x *want, static bool) {
	names := slices.Sorted(maps.Keys(x.capacity.Requests))
	if len(names) == 0 {
		return
	}
	// Of several capacities the one that is short is meant.
	name := names[0]
	for _, c := range names {
		_, largest, left := n.capacityOffer(x, string(c))
		limit := left
		if static {
			limit = largest
		}
		if asked := x.capacity.Requests[c]; limit == "none" || more(text64(asked), limit) {
			name = c
			break
		}
	}
	asked := x.capacity.Requests[name]
	policy, largest, left := n.capacityOffer(x, string(name))
	params := map[string]string{"capacity": string(name), "requested": text64(asked), "policy": policy, "left": left, "largest": largest, "request": x.name}
	switch {
	case static && policy != "":
		n.fault("dra.capacity_request_invalid", n.subject(x.claim), 0.9, params,
			"request %s asks for %s of capacity %s; devices accept %s and have at most %s", x.name, text64(asked), name, policy, largest)
	case static:
		n.fault("dra.capacity_exhausted", n.subject(x.claim), 0.93, params,
			"request %s asks for %s of capacity %s; the largest device has %s", x.name, text64(asked), name, largest)
	default:
		n.fault("dra.capacity_exhausted", n.subject(x.claim), 0.93, params,
			"request %s asks for %s of capacity %s; the device with most left has %s", x.name, text64(asked), name, left)
	}
	most := left
	if static {
		most = largest
	}
	if most == "none" || !more(text64(asked), most) {
		return
	}
	if f := n.a.where(ctx, setCapacity(x, name, most)); f.ok() {
		n.wouldFit(fmt.Sprintf("request %s with %s of capacity %s", x.name, most, name), f, 0, x.fix(map[string]string{"capacity_name": string(name), "capacity_value": most}))
	}
}

// capacityOffer describes what matching devices have of a capacity.
func (n *analysis) capacityOffer(x *want, name string) (policy, largest, left string) {
	f := n.a.w.fleet
	largest, left = "none", "none"
	have := false
	for _, p := range f.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				d := &s.devices[i]
				if d.caps == nil || !x.judge(context.Background(), f, s, d).matchesIt {
					continue
				}
				c, ok := d.caps.caps[resourceapi.QualifiedName(name)]
				if !ok {
					continue
				}
				rest := n.a.capacityLeft(idOf(s, d), resourceapi.QualifiedName(name), c.Value)
				if !have || more(text64(c.Value), largest) {
					largest = text64(c.Value)
				}
				if !have || more(rest.String(), left) {
					left = rest.String()
				}
				have = true
				if policy == "" && c.RequestPolicy != nil {
					policy = policyText(c.RequestPolicy)
				}
			}
		}
	}
	return policy, largest, left
}

// pinned reports allocated claims that tie the pod to nodes it cannot use (F37).
func (n *analysis) pinned() bool {
	if len(n.a.pinned) == 0 {
		return false
	}
	found := false
	for _, c := range n.a.pinned {
		ns := c.Status.Allocation.NodeSelector
		if ns == nil {
			continue
		}
		usable, reach := 0, 0
		var nodes []string
		why := map[string]bool{}
		for _, nd := range n.a.w.nodes {
			ok, err := allocator.NodeMatches(n.a.w.assume.Features, nd, "", false, ns)
			if err != nil || !ok {
				continue
			}
			reach++
			nodes = append(nodes, nd.Name)
			if r := n.a.refused[nd.Name]; r != "" {
				why[r] = true
				continue
			}
			usable++
		}
		if usable > 0 && !n.twoPins(c) {
			continue
		}
		found = true
		where := "no node of the cluster"
		if reach > 0 {
			where = strings.Join(nodes[:min(3, len(nodes))], ", ")
		}
		reasons := strings.Join(slices.Sorted(maps.Keys(why)), "; ")
		if reasons == "" && reach > 0 {
			reasons = "another claim of the pod is allocated elsewhere"
		}
		ref := n.t.claimRef(c.Namespace, c.Name)
		n.fault("dra.claim_pinned_elsewhere", ref, 0.94, map[string]string{"node_selector": nodeSelectorText(c), "nodes": where, "reasons": reasons},
			"claim %s is allocated and can be used only on %s, where the pod cannot go%s", c.Name, where, prefixed(": ", reasons))
		if n.a.pod != nil {
			n.edge(n.t.podRef(n.a.pod.Namespace, n.a.pod.Name), graph.Claims, ref)
		}
	}
	return found
}

// tied reports allocated claims whose node cannot give the pod its other claims.
func (n *analysis) tied(f fitting) {
	for _, c := range n.a.pinned {
		if c.Status.Allocation.NodeSelector == nil {
			continue
		}
		ref := n.t.claimRef(c.Namespace, c.Name)
		n.fault("dra.claim_pinned_elsewhere", ref, 0.9, map[string]string{"node_selector": nodeSelectorText(c), "nodes": f.example, "reasons": "the other claims do not fit there"},
			"claim %s is allocated and ties the pod to %s, where its other claims do not fit; they fit on %s, for example %s", c.Name, nodeSelectorText(c), plural(f.nodes, "node"), f.example)
		if n.a.pod != nil {
			n.edge(n.t.podRef(n.a.pod.Namespace, n.a.pod.Name), graph.Claims, ref)
		}
		return
	}
}

// twoPins says whether two allocated claims of the pod exclude each other.
func (n *analysis) twoPins(c *resourceapi.ResourceClaim) bool {
	for _, nd := range n.a.w.nodes {
		if n.a.refused[nd.Name] != "" {
			continue
		}
		all := true
		for _, o := range n.a.pinned {
			if ns := o.Status.Allocation.NodeSelector; ns != nil {
				ok, err := allocator.NodeMatches(n.a.w.assume.Features, nd, "", false, ns)
				all = all && err == nil && ok
			}
		}
		if all {
			return false
		}
	}
	return len(n.a.pinned) > 1
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// onlyRefused reports that the claims fit, but only where the pod may not go.
func (n *analysis) onlyRefused(ctx context.Context, nodes int) {
	reasons := map[string]int{}
	for _, g := range n.a.groups {
		if !g.eligible && g.verdict.Fits {
			for _, nd := range g.nodes {
				reasons[n.a.refused[nd.Name]]++
			}
		}
	}
	text := joinCounts(reasons)
	conf := 0.9
	if everything := n.a.where(ctx, ignoreTaints(), ignoreUse(), completePools()); everything.ok() {
		// Nodes the pod may use would do, were they free: the two causes share the blame.
		conf = 0.75
		n.environment(ctx)
		for i := range n.findings {
			n.findings[i].Confidence = min(n.findings[i].Confidence, 0.7)
		}
	}
	if n.a.pod != nil {
		n.fault("dra.fits_only_refused_nodes", n.t.podRef(n.a.pod.Namespace, n.a.pod.Name), conf, map[string]string{"nodes": itoa(nodes), "reasons": text},
			"the claims fit on %s, and each of them refuses the pod: %s", plural(nodes, "node"), text)
	}
	n.out.WouldFit = append(n.out.WouldFit, WouldFit{Change: "the pod allowed on these nodes (" + text + ")", Nodes: nodes})
}

// addRefused notes that, beside the cause found, no node takes the pod anyway,
// so that no change of the claims suffices alone.
func (n *analysis) addRefused() {
	reasons := map[string]int{}
	for _, why := range n.a.refused {
		reasons[why]++
	}
	text := joinCounts(reasons)
	n.out.Notes = append(n.out.Notes, "every node also refuses the pod for other reasons: "+text)
	for i := range n.out.WouldFit {
		n.out.WouldFit[i].Change += "; and the pod allowed on these nodes (" + text + ")"
	}
}
