package dra

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// analysis turns an attempt into an explanation: which factor decides, proved
// by running the allocator with and without it.
type analysis struct {
	t      *Toolset
	a      *attempt
	out    *Explanation
	tables map[*want]*table

	findings []incident.Finding
	edges    []incident.Edge
}

func (t *Toolset) newAnalysis(a *attempt, out *Explanation) *analysis {
	return &analysis{t: t, a: a, out: out, tables: map[*want]*table{}}
}

// subject is what a finding about a claim points at: the claim, or the pod when
// the claim is one the scheduler would generate for extended resources.
func (n *analysis) subject(c *resourceapi.ResourceClaim) incident.Ref {
	if c.Annotations[resourceapi.ExtendedResourceClaimAnnotation] == "true" && n.a.pod != nil && c.UID == "" {
		return n.t.podRef(n.a.pod.Namespace, n.a.pod.Name)
	}
	return n.t.claimRef(c.Namespace, c.Name)
}

// fault adds a finding with the catalogue's severity.
func (n *analysis) fault(code string, on incident.Ref, confidence float64, params map[string]string, format string, args ...any) {
	n.findings = append(n.findings, finding(code, on, confidence, params, format, args...))
}

func (n *analysis) edge(from incident.Ref, relation string, to incident.Ref) {
	e := incident.Edge{From: from, Relation: relation, To: to}
	if from != to && !slices.ContainsFunc(n.edges, func(o incident.Edge) bool { return o.From == from && o.To == to && o.Relation == relation }) {
		n.edges = append(n.edges, e)
	}
}

// finding makes a finding; role and severity come from the catalogue.
func finding(code string, on incident.Ref, confidence float64, params map[string]string, format string, args ...any) incident.Finding {
	f := incident.Finding{Code: code, Subject: on, Confidence: confidence, Params: params, Message: fmt.Sprintf(format, args...), Role: incident.Fault, Severity: incident.Critical}
	for _, c := range Codes() {
		if c.Code == code {
			f.Role, f.Severity = c.Role, c.Severity
		}
	}
	return f
}

// run does the whole analysis.
func (n *analysis) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, totalDeadline)
	defer cancel()
	a := n.a
	for _, x := range a.wants {
		n.tables[x] = a.tabulate(ctx, x)
	}
	a.split()
	if err := a.baseline(ctx); err != nil {
		return err
	}
	n.views()
	n.classEdges()
	switch {
	case n.missingClasses():
		n.out.Verdict = "blocked"
	case n.aborted(ctx):
		n.out.Verdict = "aborts"
	default:
		n.decide(ctx)
	}
	n.limits()
	n.attach()
	return nil
}

// decide is for when every node was asked and none ended the attempt.
func (n *analysis) decide(ctx context.Context) {
	fits := n.base(true)
	n.out.FitsOn = fits
	if fits > 0 {
		n.out.Verdict = "fits"
		return
	}
	n.out.Verdict = "does_not_fit"
	if n.pinned() {
		return
	}
	if f := n.a.where(ctx, func(t *trial) { t.ignoreAway = true }); len(n.a.pinned) > 0 && f.ok() {
		n.counterfactual("ignore where allocated claims are tied to", f)
		n.tied(f)
		return
	}
	if elsewhere := n.base(false); elsewhere > 0 {
		n.onlyRefused(ctx, elsewhere)
		return
	}
	env := []change{ignoreTaints(), ignoreUse(), completePools()}
	everything := n.a.where(ctx, env...)
	switch {
	case everything.ok():
		n.environment(ctx)
	case everything.refused > 0 && !n.anyEligible():
		n.a.allEligible()
		n.environment(ctx)
		n.addRefused()
	default:
		n.intent(ctx, env)
	}
}

// base counts the nodes where the claims fit as things are, among those the pod
// may use, or among those that refuse it.
func (n *analysis) base(eligible bool) int {
	c := 0
	for _, g := range n.a.groups {
		if g.eligible == eligible && g.verdict.Fits {
			c += len(g.nodes)
		}
	}
	return c
}

func (n *analysis) anyEligible() bool {
	return slices.ContainsFunc(n.a.groups, func(g *group) bool { return g.eligible })
}

// allEligible lets the analysis look at every node, when no node takes the pod
// anyway; the refusals stay known by name.
func (a *attempt) allEligible() {
	for _, g := range a.groups {
		g.eligible = true
	}
}

// missingClasses reports classes that do not exist (F12): no node is tried then.
func (n *analysis) missingClasses() bool {
	missing := false
	for _, x := range n.a.wants {
		if x.class != nil {
			continue
		}
		missing = true
		near := nearest(x.className, slices.Sorted(maps.Keys(n.a.w.classes)))
		hint := ""
		if near != "" {
			hint = "; there is a class " + near
		}
		n.fault("dra.class_missing", n.t.classRef(x.className), 0.98, map[string]string{"class": x.className, "request": x.name, "near": near, "claim": x.claim.Name},
			"DeviceClass %s, named by request %s of claim %s, does not exist%s", x.className, x.name, x.claim.Name, hint)
		if near != "" {
			f := n.a.where(context.Background(), n.withClass(x, near))
			if f.ok() {
				n.wouldFit("request "+x.name+" with class "+near, f, n.freeOf(f, x, near), x.fix(map[string]string{"class": near}))
			}
		}
	}
	return missing
}

func (n *analysis) withClass(x *want, class string) change {
	return editRequest(x.claim.Name, x.name, func(p parts) { *p.class = class })
}

// freeOf counts the free devices of a class with the request's selectors on the
// nodes of a fitting.
func (n *analysis) freeOf(f fitting, x *want, class string) int {
	y := *x
	y.className = class
	y.compile(n.a.w, n.a.comp)
	return n.freeOn(f, &y)
}

// freeOn counts the free devices that a want could take on the nodes of a fitting.
func (n *analysis) freeOn(f fitting, x *want) int {
	on := map[string]bool{}
	for _, g := range f.groups {
		for _, nd := range g.nodes {
			on[nd.Name] = true
		}
	}
	free := 0
	left := newCounters(n.a)
	scratch := &table{taints: map[string]int{}, holders: map[string]int{}}
	for _, p := range n.a.w.fleet.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				d := &s.devices[i]
				if place := at(s, d); place != "" && !on[place] {
					continue
				}
				if x.judge(context.Background(), n.a.w.fleet, s, d).matchesIt && len(n.a.environment(x, p, s, d, left, scratch)) == 0 {
					free++
				}
			}
		}
	}
	return free
}

// classEdges ties claims to classes. Classes are tied to drivers only where a
// driver is at fault: a plugin that is down on some node must not be taken for the
// cause of a claim that no device satisfies.
func (n *analysis) classEdges() {
	for _, x := range n.a.wants {
		from := n.subject(x.claim)
		if x.claim.UID != "" && n.a.pod != nil {
			n.edge(n.t.podRef(n.a.pod.Namespace, n.a.pod.Name), graph.Claims, from)
		}
		to := n.t.classRef(x.className)
		n.edge(from, graph.Class, to)
		if t := n.tables[x].totals; t.MatchingClass > 0 && t.ClassNodes > 0 {
			i := slices.IndexFunc(n.edges, func(e incident.Edge) bool { return e.From == from && e.Relation == graph.Class && e.To == to })
			if i >= 0 {
				n.edges[i].Note = "offered by " + plural(t.ClassNodes, "node") + ", " + plural(t.MatchingClass, "device")
			}
		}
	}
}

// driversOf lists the drivers whose devices the class selects; when it selects
// none, the driver its selectors name.
func (n *analysis) driversOf(x *want) []string {
	seen := map[string]bool{}
	for _, g := range n.tables[x].offered {
		seen[g.Driver] = true
	}
	if len(seen) == 0 {
		if d := n.namedDriver(x); d != "" {
			seen[d] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// namedDriver is the driver a class is about by its own words: a selector on
// device.driver, else the driver its configuration is for.
func (n *analysis) namedDriver(x *want) string {
	for _, e := range x.classExprs {
		if d := e.OfDriver(); d != "" {
			return d
		}
	}
	if x.class != nil {
		for _, c := range x.class.Spec.Config {
			if c.Opaque != nil {
				return c.Opaque.Driver
			}
		}
	}
	return ""
}

// wouldFit records a change that was tried and works. One that ends in an error
// on another node does not: the scheduler would stop there. The fix is nil where no
// single object can be changed so.
func (n *analysis) wouldFit(what string, f fitting, devices int, x *fix) {
	if !f.cures() {
		return
	}
	n.out.WouldFit = append(n.out.WouldFit, WouldFit{Change: what, Devices: devices, Nodes: f.nodes, Node: f.example, fix: x})
}

func (n *analysis) counterfactual(relax string, f fitting) {
	n.out.Counterfactuals = append(n.out.Counterfactuals, Counterfactual{Relax: relax, FitsOn: f.nodes, Node: f.example})
}

// limits says what bounded the search.
func (n *analysis) limits() {
	a := n.a
	if a.timeouts > 0 {
		n.out.Limits = append(n.out.Limits, incident.Gap{Source: "allocator", Why: fmt.Sprintf("%d runs did not end within %s", a.timeouts, groupDeadline),
			Fix: "the search is exhaustive; fewer devices or constraints per claim make it short"})
	}
	if a.skipped > 0 {
		n.out.Limits = append(n.out.Limits, incident.Gap{Source: "allocator", Why: fmt.Sprintf("counterfactuals were run for %d sorts of node, %d more were not", maxGroups, a.skipped)})
	}
	for _, r := range a.w.rules {
		if r.Spec.DeviceSelector == nil {
			n.out.Limits = append(n.out.Limits, incident.Gap{Source: "DeviceTaintRule " + r.Name, Why: "it selects no device by driver, pool or name; selection by class or CEL (up to 1.34) is not followed"})
		}
	}
	n.out.Limits = append(n.out.Limits, a.w.limits...)
}

// views fills the tables of the answer.
func (n *analysis) views() {
	a := n.a
	for _, g := range a.groups {
		v := NodeView{Example: g.rep().Name, Count: len(g.nodes), Fits: g.verdict.Fits, Reasons: []string{}}
		switch {
		case g.verdict.Abort != "":
			v.Reasons = append(v.Reasons, g.verdict.Abort)
		case g.verdict.NodeReason != "":
			v.Reasons = append(v.Reasons, g.verdict.NodeReason)
		case g.verdict.TimedOut:
			v.Reasons = append(v.Reasons, "the allocator did not end in time")
		case !g.verdict.Fits && len(g.slices) == 0:
			v.Reasons = append(v.Reasons, "offers no devices")
		case !g.verdict.Fits:
			v.Reasons = append(v.Reasons, n.nodeReasons(g)...)
		}
		if !g.eligible {
			why := map[string]bool{}
			for _, nd := range g.nodes {
				why[a.refused[nd.Name]] = true
			}
			v.Reasons = append(v.Reasons, slices.Sorted(maps.Keys(why))...)
		}
		n.out.Nodes = append(n.out.Nodes, v)
	}
	if len(n.out.Nodes) > maxNodeViews {
		rest := 0
		for _, v := range n.out.Nodes[maxNodeViews:] {
			rest += v.Count
		}
		n.out.Nodes = append(n.out.Nodes[:maxNodeViews], NodeView{Example: "others", Count: rest, Reasons: []string{"not listed"}})
	}
	for i := range n.out.Claims {
		n.claimTables(&n.out.Claims[i])
	}
}

const maxNodeViews = 20

// nodeReasons says per request what the devices of a sort of node lack.
func (n *analysis) nodeReasons(g *group) []string {
	var out []string
	for _, x := range n.a.wants {
		var total, class, sel, free int
		kinds := map[string]int{}
		left := newCounters(n.a)
		scratch := &table{taints: map[string]int{}, holders: map[string]int{}}
		for _, s := range g.slices {
			for i := range s.devices {
				d := &s.devices[i]
				if s.gen != s.pool.generation || !s.deviceReaches(d, g.rep()) {
					continue
				}
				total++
				j := x.judge(context.Background(), n.a.w.fleet, s, d)
				if j.ofClass {
					class++
				}
				if !j.matchesIt {
					continue
				}
				sel++
				ex := n.a.environment(x, s.pool, s, d, left, scratch)
				if len(ex) == 0 {
					free++
				}
				for _, e := range ex {
					kinds[e.Kind]++
				}
			}
		}
		text := fmt.Sprintf("%s: %d of class, %d pass the selectors, %d free", x.name, class, sel, free)
		if len(n.a.wants) == 1 && total == 0 {
			text = "offers no devices"
		}
		for _, k := range slices.Sorted(maps.Keys(kinds)) {
			text += fmt.Sprintf(", %d %s", kinds[k], strings.ReplaceAll(k, "_", " "))
		}
		out = append(out, text)
	}
	return out
}

// claimTables fills requests and constraints of one claim.
func (n *analysis) claimTables(v *ClaimView) {
	var claim *resourceapi.ResourceClaim
	for _, x := range n.a.wants {
		if x.claim.Name != v.Name {
			continue
		}
		claim = x.claim
		t := n.tables[x]
		r := RequestView{Name: x.name, Class: x.className, Count: x.count, Mode: "ExactCount", Selectors: []string{}, Totals: t.totals, Devices: t.rows, Largest: t.largest}
		if x.all {
			r.Mode, r.Count = "All", 0
		}
		for _, e := range x.exprs {
			r.Selectors = append(r.Selectors, quote(e.Text))
		}
		v.Requests = append(v.Requests, r)
	}
	if claim == nil {
		return
	}
	for _, k := range claim.Spec.Devices.Constraints {
		v.Constraints = append(v.Constraints, n.constraintView(claim, k))
	}
}

// applies says whether a constraint covers a request or alternative.
func applies(k resourceapi.DeviceConstraint, x *want) bool {
	return len(k.Requests) == 0 || slices.Contains(k.Requests, x.request) || slices.Contains(k.Requests, x.name)
}

// constraintView groups the candidates by attribute value, on the sort of node
// that has most of what is wanted.
func (n *analysis) constraintView(claim *resourceapi.ResourceClaim, k resourceapi.DeviceConstraint) ConstraintView {
	v := ConstraintView{Attribute: constraintAttribute(k), Kind: "matchAttribute", Requests: []string{}, Groups: []ConstraintGroup{}, Missing: []string{}}
	if k.DistinctAttribute != nil {
		v.Kind = "distinctAttribute"
	}
	var wants []*want
	for _, x := range n.a.wants {
		if x.claim.Name == claim.Name && applies(k, x) {
			wants = append(wants, x)
			v.Requests = append(v.Requests, x.name)
		}
	}
	for _, x := range wants {
		lacking, total := n.lacking(x, v.Attribute)
		if lacking > 0 {
			v.Missing = append(v.Missing, fmt.Sprintf("%s: %d of %d devices", x.name, lacking, total))
		}
	}
	if g := n.richest(wants); g != nil {
		v.Groups = n.valueGroups(g, wants, v.Attribute)
	}
	return v
}

// lacking counts the devices that pass a want's selectors, and those of them
// that lack the attribute.
func (n *analysis) lacking(x *want, attribute string) (lacking, total int) {
	f := n.a.w.fleet
	for _, p := range f.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				if !x.judge(context.Background(), f, s, &s.devices[i]).matchesIt {
					continue
				}
				total++
				if _, ok := f.attr(s, &s.devices[i], attribute); !ok {
					lacking++
				}
			}
		}
	}
	return lacking, total
}

// richest is the sort of node that has the most candidates for the scarcest want.
func (n *analysis) richest(wants []*want) *group {
	var best *group
	most := -1
	for _, g := range n.a.groups {
		scarce := -1
		for _, x := range wants {
			c := n.candidates(g, x, nil)
			if scarce < 0 || c < scarce {
				scarce = c
			}
		}
		if scarce > most {
			best, most = g, scarce
		}
	}
	if most <= 0 {
		return nil
	}
	return best
}

// candidates counts the devices of a group that pass a want's selectors; each is
// handed to take with whether it is free.
func (n *analysis) candidates(g *group, x *want, take func(*slice, *device, bool)) int {
	c := 0
	left := newCounters(n.a)
	scratch := &table{taints: map[string]int{}, holders: map[string]int{}}
	for _, s := range g.slices {
		if s.gen != s.pool.generation {
			continue
		}
		for i := range s.devices {
			d := &s.devices[i]
			if !s.deviceReaches(d, g.rep()) || !x.judge(context.Background(), n.a.w.fleet, s, d).matchesIt {
				continue
			}
			c++
			if take != nil {
				take(s, d, len(n.a.environment(x, s.pool, s, d, left, scratch)) == 0)
			}
		}
	}
	return c
}

func (n *analysis) valueGroups(g *group, wants []*want, attribute string) []ConstraintGroup {
	byValue := map[string]*ConstraintGroup{}
	for _, x := range wants {
		n.candidates(g, x, func(s *slice, d *device, free bool) {
			val, ok := n.a.w.fleet.attr(s, d, attribute)
			if !ok {
				return
			}
			c := byValue[val.text]
			if c == nil {
				c = &ConstraintGroup{Value: val.text, Have: map[string]int{}, Free: map[string]int{}}
				byValue[val.text] = c
			}
			c.Have[x.name]++
			if free {
				c.Free[x.name]++
			}
		})
	}
	out := make([]ConstraintGroup, 0, len(byValue))
	for _, c := range byValue {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b ConstraintGroup) int {
		return cmp.Or(cmp.Compare(len(b.Have), len(a.Have)), cmp.Compare(a.Value, b.Value))
	})
	return out[:min(len(out), 16)]
}
