package dra

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// intent is for claims that would fit nowhere even with every device free, whole
// and untainted: what is asked does not exist.
func (n *analysis) intent(ctx context.Context, env []change) {
	if n.nothingSelected(ctx) {
		return
	}
	if n.constraintsDecide(ctx, env) {
		return
	}
	if n.countsDecide(ctx, env) || n.capacityDecides(ctx, env) {
		return
	}
	if f := n.a.where(ctx, append(slices.Clone(env), ignoreCounters())...); f.ok() {
		n.counterfactual("ignore shared counters", f)
		n.countersFault(0.8)
		return
	}
	if n.scattered() {
		return
	}
	for _, x := range n.a.wants {
		for i := range x.exprs {
			if f := n.a.where(ctx, append(slices.Clone(env), dropSelector(x, i))...); f.ok() {
				n.counterfactual(fmt.Sprintf("drop selector %d of request %s", i, x.name), f)
				n.selectorFault(ctx, x, n.tables[x], 0.8)
				return
			}
		}
	}
	n.pairs(ctx, env)
	if !n.hasFault() {
		n.lastResort()
	}
}

func (n *analysis) hasFault() bool {
	return slices.ContainsFunc(n.findings, func(f incident.Finding) bool { return f.Role == incident.Fault })
}

// lastResort names, when no one or two changes suffice, what the table alone
// shows, with the confidence that deserves.
func (n *analysis) lastResort() {
	for _, x := range n.a.wants {
		t := n.tables[x]
		if !x.all && t.largest > 0 && t.largest < int(x.count) {
			n.fault("dra.count_exceeds_node", n.subject(x.claim), 0.7, map[string]string{"count": itoa(x.count), "largest": itoa(t.largest), "request": x.name, "matching": itoa(t.totals.AfterSelectors)},
				"request %s wants %d devices on one node; no node has more than %d that pass its selectors", x.name, x.count, t.largest)
		}
	}
	if n.hasFault() {
		return
	}
	for _, c := range n.a.claims {
		for i, k := range c.Spec.Devices.Constraints {
			attribute := constraintAttribute(k)
			reason := n.whyApart(c, k, nil)
			n.fault("dra.constraint_unsatisfiable", n.subject(c), 0.6, map[string]string{"attribute": attribute, "reason": reason, "constraint": strconv.Itoa(i)},
				"constraint %d on %s cannot be met together with the rest of the claim: %s", i, attribute, reason)
		}
	}
	if n.hasFault() || len(n.a.wants) == 0 {
		return
	}
	var parts []string
	for _, x := range n.a.wants {
		parts = append(parts, fmt.Sprintf("%s: %d devices pass, %d on one node", x.name, n.tables[x].totals.AfterSelectors, n.tables[x].largest))
	}
	n.fault("dra.requests_scattered", n.subject(n.a.wants[0].claim), 0.6, map[string]string{"requests": strings.Join(parts, "; ")},
		"no node can serve the requests together: %s", strings.Join(parts, "; "))
}

// nothingSelected handles requests for which no device of the cluster passes the
// selectors. A request with alternatives counts only when all of them fail.
func (n *analysis) nothingSelected(ctx context.Context) bool {
	found := false
	byRequest := map[string][]*want{}
	var order []string
	for _, x := range n.a.wants {
		k := x.claim.Name + "\x00" + x.request
		if byRequest[k] == nil {
			order = append(order, k)
		}
		byRequest[k] = append(byRequest[k], x)
	}
	for _, k := range order {
		xs := byRequest[k]
		if slices.ContainsFunc(xs, func(x *want) bool { return n.tables[x].totals.AfterSelectors > 0 }) {
			continue
		}
		found = true
		from := len(n.findings)
		for _, x := range xs {
			t := n.tables[x]
			switch {
			case t.totals.MatchingClass > 0:
				n.selectorFault(ctx, x, t, 0.97)
			case n.noSlices(x):
			default:
				n.classExcludes(x)
			}
		}
		n.findings = append(n.findings[:from], together(n.findings[from:], len(xs))...)
	}
	return found
}

// together makes one finding of those that say the same of one thing for the
// alternatives of a request, so that no alternative is left unsaid.
func together(fs []incident.Finding, alternatives int) []incident.Finding {
	var out []incident.Finding
	for _, f := range fs {
		i := slices.IndexFunc(out, func(o incident.Finding) bool { return o.Code == f.Code && o.Subject == f.Subject })
		if i < 0 || f.Role != incident.Fault {
			out = append(out, f)
			continue
		}
		if f.Message != out[i].Message {
			out[i].Message += "; " + strings.ToLower(f.Message[:1]) + f.Message[1:]
		}
	}
	if len(out) == 1 && alternatives > 1 {
		out[0].Message = fmt.Sprintf("none of the %d alternatives is there: %s", alternatives, out[0].Message)
	}
	return out
}

// noSlices reports a driver without any device (F01). It reports false when the
// driver the class is about has devices, or cannot be told.
func (n *analysis) noSlices(x *want) bool {
	f := n.a.w.fleet
	d := n.namedDriver(x)
	devices := 0
	for _, p := range f.pools {
		for _, s := range p.slices {
			if d == "" || p.driver == d {
				devices += len(s.devices)
			}
		}
	}
	if devices > 0 {
		return false
	}
	if d == "" {
		d = x.className
	}
	if near := nearest(d, f.drivers()); near != "" && len(f.drivers()) > 0 {
		// The class names a driver that does not exist; a similar one does.
		n.fault("dra.selector_excludes_all", n.t.classRef(x.className), 0.95,
			map[string]string{"selector": "0", "attribute": "driver", "wanted": d, "offered": near, "request": x.name, "class": x.className},
			"DeviceClass %s selects driver %s, which publishes no ResourceSlice; the driver that does is called %s", x.className, d, near)
		return true
	}
	if n.cannotGrow(d, x) {
		return true
	}
	n.fault("dra.driver_no_slices", n.t.driverRef(d), 0.93, map[string]string{"driver": d, "class": x.className, "request": x.name},
		"driver %s, selected by class %s, publishes no device in the whole cluster", d, x.className)
	n.edge(n.t.classRef(x.className), graph.OfferedBy, n.t.driverRef(d))
	n.edge(n.subject(x.claim), graph.OfferedBy, n.t.driverRef(d))
	return true
}

// classExcludes reports a class whose own selectors match nothing although
// devices exist.
func (n *analysis) classExcludes(x *want) {
	why := n.explainSelectors(x, x.classExprs, true)
	n.fault("dra.selector_excludes_all", n.t.classRef(x.className), 0.94,
		map[string]string{"selector": strconv.Itoa(why.index), "attribute": why.attribute, "wanted": why.wanted, "offered": why.offered, "request": x.name, "class": x.className, "expression": why.expression, "hint": why.hint},
		"DeviceClass %s matches no device: %s", x.className, why.sentence)
}

// constraintsDecide tests each constraint with every device free.
func (n *analysis) constraintsDecide(ctx context.Context, env []change) bool {
	found := false
	for _, c := range n.a.claims {
		for i, k := range c.Spec.Devices.Constraints {
			f := n.a.where(ctx, append(slices.Clone(env), dropConstraint(c.Name, i))...)
			n.counterfactual(fmt.Sprintf("without constraint %d (%s)", i, constraintAttribute(k)), f)
			if !f.ok() {
				continue
			}
			found = true
			n.constraintFault(ctx, c, i, k)
		}
		if len(c.Spec.Devices.Constraints) > 1 && !found {
			if f := n.a.where(ctx, append(slices.Clone(env), dropConstraint(c.Name, -1))...); f.ok() {
				found = true
				n.counterfactual("without all constraints", f)
				n.constraintFault(ctx, c, 0, c.Spec.Devices.Constraints[0])
			}
		}
	}
	return found
}

// constraintFault says why the values that a constraint compares never meet.
func (n *analysis) constraintFault(ctx context.Context, c *resourceapi.ResourceClaim, i int, k resourceapi.DeviceConstraint) {
	attribute := constraintAttribute(k)
	subject := n.subject(c)
	types := map[string][]string{}
	for _, x := range n.a.wants {
		if x.claim.Name != c.Name || !applies(k, x) {
			continue
		}
		if lacking, total := n.lacking(x, attribute); total > 0 && lacking == total {
			drivers := strings.Join(n.driversOf(x), ", ")
			hint := n.otherDomain(x, attribute)
			n.fault("dra.constraint_attribute_missing", subject, 0.95, map[string]string{"attribute": attribute, "request": x.name, "driver": drivers, "devices": strconv.Itoa(total), "hint": hint},
				"constraint %d compares %s, which none of the %d devices of request %s (driver %s) publishes%s", i, attribute, total, x.name, drivers, hint)
			n.alternatives(ctx, c, i)
			return
		}
		n.candidatesTypes(x, attribute, types)
	}
	reason := n.whyApart(c, k, types)
	n.fault("dra.constraint_unsatisfiable", subject, 0.95, map[string]string{"attribute": attribute, "reason": reason, "constraint": strconv.Itoa(i)},
		"constraint %d on %s can never be met: %s", i, attribute, reason)
	n.alternatives(ctx, c, i)
}

// otherDomain names a domain under which the devices of a want do publish the id.
func (n *analysis) otherDomain(x *want, attribute string) string {
	_, id, _ := strings.Cut(attribute, "/")
	f := n.a.w.fleet
	for _, p := range f.pools {
		for _, s := range p.slices {
			for j := range s.devices {
				d := &s.devices[j]
				if !x.judge(context.Background(), f, s, d).matchesIt {
					continue
				}
				for _, a := range d.attrs {
					q := qualified(f.names.list[a.name], p.driver)
					if _, other, _ := strings.Cut(q, "/"); other == id && q != attribute {
						return "; they publish " + q
					}
				}
			}
		}
	}
	return ""
}

// candidatesTypes notes the types under which the devices of a want publish an attribute.
func (n *analysis) candidatesTypes(x *want, attribute string, types map[string][]string) {
	f := n.a.w.fleet
	for _, p := range f.pools {
		for _, s := range p.slices {
			for j := range s.devices {
				if !x.judge(context.Background(), f, s, &s.devices[j]).matchesIt {
					continue
				}
				if v, ok := f.attr(s, &s.devices[j], attribute); ok && !slices.Contains(types[v.typeName()], x.name) {
					types[v.typeName()] = append(types[v.typeName()], x.name)
				}
			}
		}
	}
}

// whyApart puts the groups of values into words.
func (n *analysis) whyApart(c *resourceapi.ResourceClaim, k resourceapi.DeviceConstraint, types map[string][]string) string {
	if len(types) > 1 {
		var parts []string
		for _, ty := range []string{"string", "version", "int", "bool", "strings", "versions", "ints", "bools"} {
			if reqs := types[ty]; len(reqs) > 0 {
				parts = append(parts, fmt.Sprintf("a %s on devices of %s", ty, strings.Join(reqs, ", ")))
			}
		}
		return "it is " + strings.Join(parts, " and ")
	}
	view := n.constraintView(c, k)
	both := 0
	var parts []string
	for _, g := range view.Groups {
		if len(g.Have) == len(view.Requests) {
			both++
		}
		var have []string
		for _, r := range view.Requests {
			have = append(have, fmt.Sprintf("%d %s", g.Have[r], r))
		}
		parts = append(parts, g.Value+" has "+strings.Join(have, " and "))
	}
	if len(parts) > 4 {
		parts = append(parts[:4], fmt.Sprintf("and %d more values", len(view.Groups)-4))
	}
	switch {
	case len(view.Requests) > 1 && both == 0 && len(parts) > 0:
		return "no value is shared by all requests on any node: " + strings.Join(parts, "; ")
	case len(parts) > 0:
		return "no value has enough devices: " + strings.Join(parts, "; ")
	}
	return "no node has candidates for all of its requests"
}

// alternatives tries what may stand in for a constraint, with things as they
// are: another attribute that all candidates publish, then no constraint.
func (n *analysis) alternatives(ctx context.Context, c *resourceapi.ResourceClaim, i int) {
	k := c.Spec.Devices.Constraints[i]
	if k.MatchAttribute != nil {
		for _, other := range n.commonAttributes(c, k) {
			if f := n.a.where(ctx, matchOther(c.Name, i, other)); f.cures() {
				n.wouldFit(fmt.Sprintf("constraint %d of claim %s with matchAttribute %s", i, c.Name, other), f, 0, fixConstraint(c, i, other))
				break
			}
		}
	}
	if f := n.a.where(ctx, dropConstraint(c.Name, i)); f.ok() {
		n.wouldFit(fmt.Sprintf("claim %s without constraint %d (%s)", c.Name, i, constraintAttribute(k)), f, 0, fixConstraint(c, i, ""))
	}
}

// commonAttributes lists attributes that every candidate of the constrained
// requests publishes and that tell nodes' parts apart, topology names first.
func (n *analysis) commonAttributes(c *resourceapi.ResourceClaim, k resourceapi.DeviceConstraint) []string {
	f := n.a.w.fleet
	var common map[string]map[string]bool
	for _, x := range n.a.wants {
		if x.claim.Name != c.Name || !applies(k, x) {
			continue
		}
		here := map[string]map[string]bool{}
		total := 0
		counts := map[string]int{}
		for _, p := range f.pools {
			for _, s := range p.slices {
				for j := range s.devices {
					d := &s.devices[j]
					if !x.judge(context.Background(), f, s, d).matchesIt {
						continue
					}
					total++
					for _, a := range d.attrs {
						q := qualified(f.names.list[a.name], p.driver)
						counts[q]++
						if here[q] == nil {
							here[q] = map[string]bool{}
						}
						if len(here[q]) < 64 {
							here[q][f.values.list[a.value].text] = true
						}
					}
				}
			}
		}
		for q, cnt := range counts {
			if cnt < total {
				delete(here, q)
			}
		}
		if common == nil {
			common = here
			continue
		}
		for q := range common {
			if here[q] == nil {
				delete(common, q)
			}
		}
	}
	var out []string
	for q, values := range common {
		if q != constraintAttribute(k) && len(values) > 1 {
			out = append(out, q)
		}
	}
	rank := func(q string) int {
		return slices.IndexFunc([]string{"/numaNode", "/pcieRoot", ""}, func(s string) bool { return strings.HasSuffix(q, s) })
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return out
}

// countsDecide tests whether fewer devices would fit on some node.
func (n *analysis) countsDecide(ctx context.Context, env []change) bool {
	found := false
	for _, x := range n.a.wants {
		if x.all || x.count <= 1 {
			continue
		}
		best, f := n.a.most(ctx, x, env...)
		if best == 0 {
			continue
		}
		found = true
		n.counterfactual(fmt.Sprintf("request %s with count %d", x.name, best), f)
		n.fault("dra.count_exceeds_node", n.subject(x.claim), 0.95,
			map[string]string{"count": strconv.FormatInt(x.count, 10), "largest": strconv.FormatInt(best, 10), "request": x.name, "node": f.example, "matching": strconv.Itoa(n.tables[x].totals.AfterSelectors)},
			"request %s wants %d devices on one node; the most any node can give is %d (of %d in the cluster)", x.name, x.count, best, n.tables[x].totals.AfterSelectors)
		n.missingNodes(ctx, x)
		if now, f := n.a.most(ctx, x); now > 0 {
			n.wouldFit(fmt.Sprintf("request %s with count %d", x.name, now), f, n.freeOn(f, x), x.fixCount(now))
		}
	}
	return found
}

// capacityDecides tests capacity requests (F22).
func (n *analysis) capacityDecides(ctx context.Context, env []change) bool {
	found := false
	for _, x := range n.a.wants {
		if x.capacity == nil {
			continue
		}
		f := n.a.where(ctx, append(slices.Clone(env), dropCapacity(x))...)
		if !f.ok() {
			continue
		}
		found = true
		n.counterfactual("request "+x.name+" without its capacity request", f)
		n.capacityFault(ctx, x, true)
	}
	return found
}

// scattered reports requests that each find devices, but never on one node.
func (n *analysis) scattered() bool {
	if len(n.a.wants) < 2 {
		return false
	}
	var parts []string
	for _, x := range n.a.wants {
		nodes := 0
		for _, g := range n.a.groups {
			if need := max(int(x.count), 1); n.candidates(g, x, nil) >= need {
				nodes += len(g.nodes)
			}
		}
		if nodes == 0 {
			return false
		}
		parts = append(parts, fmt.Sprintf("%s on %d nodes", x.name, nodes))
	}
	c := n.a.wants[0].claim
	n.fault("dra.requests_scattered", n.subject(c), 0.9, map[string]string{"requests": strings.Join(parts, "; ")},
		"no node has devices for all requests together: %s", strings.Join(parts, "; "))
	return true
}

// pairs relaxes two factors of intent together, the last resort.
func (n *analysis) pairs(ctx context.Context, env []change) {
	for _, c := range n.a.claims {
		for _, x := range n.a.wants {
			if x.claim.Name != c.Name || len(c.Spec.Devices.Constraints) == 0 {
				continue
			}
			f := n.a.where(ctx, append(slices.Clone(env), dropConstraint(c.Name, -1), dropSelector(x, -1))...)
			if f.ok() {
				n.counterfactual("without constraints and without the selectors of request "+x.name, f)
				n.constraintFault(ctx, c, 0, c.Spec.Devices.Constraints[0])
				n.findings[len(n.findings)-1].Confidence = 0.6
				return
			}
		}
	}
}
