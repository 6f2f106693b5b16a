package judge

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge/filters"
)

// tally fills in the figures: nodes of one kind of refusal together.
func tally(d *Scheduling, sim *filters.Simulation, vs []filters.Verdict, dec filters.Decision) {
	type group struct {
		NodeGroup
		low, high map[string]int64
	}
	byKey := map[string]*group{}
	for _, v := range vs {
		for _, f := range v.Filters() {
			d.Refused[string(f)]++
		}
		reasons := make([]string, 0, len(v.Refusals))
		for _, r := range v.Refusals {
			reasons = append(reasons, r.Why)
		}
		if len(reasons) == 0 {
			reasons = append(reasons, "fits")
		}
		k := strings.Join(reasons, "|")
		g := byKey[k]
		if g == nil {
			g = &group{NodeGroup: NodeGroup{Example: v.Node.Name, Reasons: reasons, Free: []string{}}, low: map[string]int64{}, high: map[string]int64{}}
			byKey[k] = g
		}
		g.Count++
		g.Example = min(g.Example, v.Node.Name)
		for _, r := range v.Refusals {
			if r.Filter != filters.Resource {
				continue
			}
			if low, ok := g.low[r.Key]; !ok || r.Free < low {
				g.low[r.Key] = r.Free
			}
			g.high[r.Key] = max(g.high[r.Key], r.Free)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(byKey)) {
		g := byKey[k]
		for _, name := range slices.Sorted(maps.Keys(g.high)) {
			text := sim.Text(name, g.low[name])
			if g.low[name] != g.high[name] {
				text += " to " + sim.Text(name, g.high[name])
			}
			g.Free = append(g.Free, fmt.Sprintf("%s free: %s, wanted %s", name, text, sim.Text(name, sim.Need(name))))
		}
		d.Groups = append(d.Groups, g.NodeGroup)
	}
	slices.SortStableFunc(d.Groups, func(a, b NodeGroup) int { return b.Count - a.Count })
	d.Groups = limit(d.Groups, 40)
	if dec.Main == nil {
		return
	}
	for _, c := range append([]filters.Cause{*dec.Main}, dec.Others...) {
		r := Relaxed{Filter: string(c.Filter), Nodes: len(c.Nodes), With: []string{}}
		for _, f := range c.With {
			r.With = append(r.With, string(f))
		}
		d.Alone = append(d.Alone, r)
	}
}

// blame writes the findings of the decisive filter, or of the two that are
// needed, with less confidence; the other ways out are told in the text.
func (j *judge) blame(ctx context.Context, v *verdict, a *attempt) {
	c := *a.decision.Main
	conf := 0.93
	switch {
	case len(c.With) > 0:
		conf = 0.6
	case len(a.d.Differs) > 0 && !a.said.Counted(c.Filter):
		conf = 0.65
	case !a.refused:
		conf = 0.85
	case len(a.d.Limits) > 0:
		conf = 0.8
	}
	if a.said.Claims && len(c.With) == 0 {
		v.line("devices are refused too; see dra_explain")
	}
	for _, o := range a.decision.Others {
		v.line("%d nodes (e.g. %s) would also fit without %s", len(o.Nodes), o.Nodes[0].Name, o.Filter)
	}
	for _, f := range append([]filters.Filter{c.Filter}, c.With...) {
		j.blameFilter(ctx, v, a, c, f, conf)
	}
}

// blameFilter writes the finding for one filter, from the nodes it refuses.
func (j *judge) blameFilter(ctx context.Context, v *verdict, a *attempt, c filters.Cause, f filters.Filter, conf float64) {
	rs := c.Of(f)
	if len(rs) == 0 {
		return
	}
	count, pod, example := fmt.Sprint(len(c.Nodes)), v.subject.Path(), nearestName(c.Nodes)
	would := fmt.Sprintf("%s nodes (e.g. %s) would fit pod %s", count, example, pod)
	if len(c.Nodes) == 1 {
		would = fmt.Sprintf("node %s would fit pod %s", example, pod)
	}
	if len(c.With) > 0 {
		would = fmt.Sprintf("%s nodes (e.g. %s) come nearest for pod %s", count, example, pod)
	}
	switch f {
	case filters.Cordon:
		for _, n := range limit(c.Nodes, worstPods) {
			to := j.ref("", "Node", "", n.Name)
			by := cordonedBy(n)
			v.edge(v.subject, graph.BlockedBy, to)
			v.fault("kube.sched_node_cordoned", incident.Critical, conf, to, fmt.Sprintf("node %s would fit pod %s, but it is cordoned%s (%s such nodes)%s", n.Name, pod, byWhom(by), count, elsewhere(a, c)), params("by", by, "sound", yes(j.sound(n))))
		}
	case filters.Lifecycle, filters.Taint:
		j.blameTaint(v, a.p, c, rs, conf, would)
	case filters.Selector:
		j.blameSelector(v, a, conf)
	case filters.Resource:
		j.blameResource(ctx, v, a, c, rs, conf)
	case filters.Affinity:
		v.fault("kube.sched_affinity_unsatisfied", incident.Critical, conf, v.subject, fmt.Sprintf("%s, but each %s%s", would, commonest(rs).Why, heldBy(rs)), params("term", commonest(rs).Key, "nodes", count))
	case filters.Spread:
		r := commonest(rs)
		counts, skew := a.sim.Spreads(r.Key)
		v.line("pods by %s: %s", r.Key, countText(counts))
		v.fault("kube.sched_topology_spread", incident.Critical, conf, v.subject, fmt.Sprintf("%s, but each %s (maxSkew %d; pods by %s: %s)", would, r.Why, skew, r.Key, countText(counts)), params("topology_key", r.Key, "max_skew", fmt.Sprint(skew)))
	case filters.Port:
		r := commonest(rs)
		v.fault("kube.sched_host_port_conflict", incident.Critical, conf, v.subject, fmt.Sprintf("%s, but each %s%s", would, r.Why, heldBy(rs)), params("port", r.Key, "holder", r.Holder))
	case filters.Volume:
		j.blameVolume(ctx, v, a, rs, conf, would)
	case filters.Attach:
		r := commonest(rs)
		v.fault("kube.sched_volume_conflict", incident.Critical, conf, v.subject, fmt.Sprintf("%s, but each %s", would, r.Why), params("requires", "room for one more volume of "+r.Key))
	}
}

// elsewhere says why the other nodes are no way out.
func elsewhere(a *attempt, c filters.Cause) string {
	count := map[string]int{}
	for _, x := range a.verdicts {
		if slices.Contains(c.Nodes, x.Node) || len(x.Refusals) == 0 {
			continue
		}
		why := x.Refusals[0].Why
		// What no cordon is behind says more of the pod than of the node.
		for _, r := range x.Refusals {
			if r.Filter == filters.Volume || r.Filter == filters.Selector || r.Filter == filters.Affinity {
				why = r.Why
			}
		}
		count[why]++
	}
	if len(count) == 0 {
		return ""
	}
	whys := slices.SortedFunc(maps.Keys(count), func(x, y string) int { return cmp.Or(count[y]-count[x], strings.Compare(x, y)) })
	parts := make([]string, 0, 2)
	for _, w := range limit(whys, 2) {
		parts = append(parts, fmt.Sprintf("%d %s", count[w], w))
	}
	return "; of the other nodes " + strings.Join(parts, ", ")
}

// cordonedBy tells who set spec.unschedulable, as far as the object knows.
func cordonedBy(n *corev1.Node) string {
	for _, m := range n.ManagedFields {
		if m.FieldsV1 != nil && strings.Contains(string(m.FieldsV1.GetRawBytes()), `"f:unschedulable"`) {
			return m.Manager
		}
	}
	return ""
}

func byWhom(by string) string {
	if by == "" {
		return ""
	}
	return " by " + by
}

func (j *judge) blameTaint(v *verdict, p *corev1.Pod, c filters.Cause, rs []filters.Refusal, conf float64, would string) {
	r := commonest(rs)
	key, _, _ := strings.Cut(strings.TrimSuffix(r.Key, ":"), ":")
	key, _, _ = strings.Cut(key, "=")
	if r.Filter == filters.Lifecycle {
		// The taint is the control plane's word for what the node's own conditions say.
		if conf = min(conf, 0.6); filters.StartupTaint(key) {
			conf = 0.8
		}
		for _, n := range limit(c.Nodes, worstPods) {
			v.edge(v.subject, graph.BlockedBy, j.ref("", "Node", "", n.Name))
		}
	}
	belonging := ""
	if r.Filter == filters.Taint {
		belonging = belongs(p, r.Key)
	}
	v.fault("kube.sched_taint_not_tolerated", incident.Critical, conf, v.subject, fmt.Sprintf("%s, but carry the taint %s, which it does not tolerate", would, r.Key), params("taint", r.Key, "nodes", fmt.Sprint(len(c.Nodes)), "belongs", belonging))
}

// blameSelector names the label that no node has, and what the nodes have.
func (j *judge) blameSelector(v *verdict, a *attempt, conf float64) {
	fine := map[string]bool{}
	for _, x := range a.verdicts {
		fine[x.Node.Name] = len(x.Filters()) == 1
	}
	demands := a.sim.Demands(func(n *corev1.Node) bool { return fine[n.Name] })
	var wrong, nearest []string
	var off []filters.Demand
	for _, d := range demands {
		if !d.Alone && d.Nodes > 0 && slices.ContainsFunc(demands, func(o filters.Demand) bool { return o.Alone || o.Nodes == 0 }) {
			continue
		}
		wrong, off = append(wrong, d.Text), append(off, d)
		have := "no node has the label"
		if len(d.Values) > 0 {
			have = fmt.Sprintf("%d nodes match, the nodes have %s", d.Nodes, strings.Join(d.Values, ", "))
		}
		nearest = append(nearest, d.Text+": "+have)
	}
	var fits []*corev1.Node
	for _, x := range a.verdicts {
		if fine[x.Node.Name] {
			fits = append(fits, x.Node)
		}
	}
	text := filters.SelectorText(a.p)
	for _, n := range nearest {
		v.line("wanted %s", n)
	}
	v.fault("kube.sched_node_selector_mismatch", incident.Critical, conf, v.subject, fmt.Sprintf("no node has the labels that pod %s asks for (%s): %s", v.subject.Path(), text, strings.Join(nearest, "; ")), params("selector", cmp.Or(strings.Join(wrong, ", "), text), "nearest", strings.Join(nearest, "; "), "relabel", relabel(a.p, off, fits)))
}

// blameResource names the scarce resource; one that no node has at all is a
// different fault from one that is used up.
func (j *judge) blameResource(ctx context.Context, v *verdict, a *attempt, c filters.Cause, rs []filters.Refusal, conf float64) {
	best := map[string]filters.Refusal{}
	count := map[string]int{}
	for _, r := range rs {
		count[r.Key]++
		if o, ok := best[r.Key]; !ok || r.Free > o.Free {
			best[r.Key] = r
		}
	}
	names := slices.SortedFunc(maps.Keys(best), func(x, y string) int {
		return cmp.Or(count[y]-count[x], cmp.Compare(x, y))
	})
	for _, name := range names {
		if filters.IsExtended(name) && !a.sim.Offered(name) {
			v.fault("kube.sched_resource_unknown", incident.Critical, min(conf, 0.75), v.subject, fmt.Sprintf("pod %s requests %s %s, which no node offers", v.subject.Path(), a.sim.Text(name, a.sim.Need(name)), name), params("resource", name))
			return
		}
	}
	name := names[0]
	r, n := best[name], fmt.Sprint(len(c.Nodes))
	want, free := a.sim.Text(name, a.sim.Need(name)), a.sim.Text(name, r.Free)
	text := fmt.Sprintf("pod %s requests %s of %s; of the %s nodes that would fit otherwise the largest free amount is %s", v.subject.Path(), want, name, n, free)
	switch {
	case name == filters.Pods:
		text = fmt.Sprintf("the %s nodes that would fit pod %s otherwise run as many pods as they may (%d)", n, v.subject.Path(), r.Capacity)
	case r.Never:
		text = fmt.Sprintf("pod %s requests %s of %s; the largest of the %s nodes that would fit otherwise has %s in all", v.subject.Path(), want, name, n, a.sim.Text(name, largest(rs, name)))
	}
	if len(names) > 1 {
		text += "; also short of " + strings.Join(names[1:], ", ")
	}
	if filters.IsExtended(name) {
		if pods, err := j.src.Pods(ctx, ""); err == nil {
			text += occupants(c.Nodes, pods, corev1.ResourceName(name))
		}
		j.idle(v, short(a.verdicts, name), name)
	}
	if e, ok := has(j.events(ctx, v.subject, string(a.p.UID)), []string{"NotTriggerScaleUp", "FailedScaleUp", "WaitingOnFailedScaleUp"}); ok {
		text += "; the autoscaler adds no node: " + oneLine(e.Message, 200)
	}
	text += j.lately(ctx, a.p)
	v.fault("kube.sched_insufficient_resources", incident.Critical, conf, v.subject, text, params("resource", name, "requested", want, "largest_free", free, "nodes", n))
	if k := a.sim.Preemptible(c.Nodes); k > 0 {
		v.line("on %d of these nodes pods of lower priority could make room", k)
	} else {
		v.line("no pods of lower priority could make room there")
	}
	for _, node := range c.Nodes {
		if filters.IsExtended(name) && a.sim.HeldBack(node, name) {
			have, offered := node.Status.Capacity[corev1.ResourceName(name)], node.Status.Allocatable[corev1.ResourceName(name)]
			v.line("node %s has %s %s and offers %s: with the rest it would fit", node.Name, have.String(), name, offered.String())
			v.edge(v.subject, graph.BlockedBy, j.ref("", "Node", "", node.Name))
		}
	}
	for _, node := range limit(c.Nodes, 200) {
		for _, o := range limit(a.sim.Leaving(node), worstPods) {
			v.line("pod %s/%s on %s is terminating since %s; once gone, %s fits", o.Namespace, o.Name, node.Name, j.ago(o.DeletionTimestamp.Time), v.subject.Name)
			v.edge(v.subject, graph.BlockedBy, j.pod(o))
		}
	}
}

func largest(rs []filters.Refusal, name string) int64 {
	most := int64(0)
	for _, r := range rs {
		if r.Key == name {
			most = max(most, r.Capacity)
		}
	}
	return most
}

func (j *judge) blameVolume(ctx context.Context, v *verdict, a *attempt, rs []filters.Refusal, conf float64, would string) {
	r := commonest(rs)
	pvc := j.ref("", "PersistentVolumeClaim", a.p.Namespace, r.Key)
	v.edge(v.subject, graph.Mounts, pvc)
	needs, _ := j.volumeNeeds(ctx, a.p, nil)
	requires, pv := r.Why, ""
	for _, n := range needs {
		if n.Claim == r.Key {
			pv = n.PV
			requires = firstOf(filters.VolumeText(n), requires)
		}
	}
	var text string
	if r.Holder != "" {
		text = fmt.Sprintf("%s, but claim %s is ReadWriteOncePod and pod %s uses it", would, r.Key, r.Holder)
		requires = "one pod at a time, now " + r.Holder
	} else {
		text = fmt.Sprintf("%s, but the volume %sof claim %s can be reached only from nodes with %s", would, spaced(pv), r.Key, requires)
	}
	v.fault("kube.sched_volume_conflict", incident.Critical, conf, pvc, text, params("pv", pv, "requires", requires))
}

func spaced(s string) string {
	if s == "" {
		return ""
	}
	return s + " "
}

// commonest is the refusal that most nodes give.
func commonest(rs []filters.Refusal) filters.Refusal {
	count := map[string]int{}
	for _, r := range rs {
		count[r.Key+r.Why]++
	}
	return slices.MaxFunc(rs, func(a, b filters.Refusal) int {
		return cmp.Or(cmp.Compare(count[a.Key+a.Why], count[b.Key+b.Why]), cmp.Compare(b.Key+b.Why, a.Key+a.Why))
	})
}

func heldBy(rs []filters.Refusal) string {
	var names []string
	for _, r := range rs {
		if r.Holder != "" && !slices.Contains(names, r.Holder) {
			names = append(names, r.Holder)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	more := ""
	if len(names) > 3 {
		more = fmt.Sprintf(" and %d more", len(names)-3)
	}
	return ": " + strings.Join(limit(names, 3), ", ") + more
}

func nearestName(nodes []*corev1.Node) string {
	name := nodes[0].Name
	for _, n := range nodes {
		name = min(name, n.Name)
	}
	return name
}

func countText(m map[string]int) string {
	var parts []string
	for _, k := range limit(slices.Sorted(maps.Keys(m)), 8) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}
