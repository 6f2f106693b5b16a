package judge

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// SchedulingIn names a pod.
type SchedulingIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
}

// Scheduling is what a simulation of the scheduler's filters says.
type Scheduling struct {
	Subject incident.Ref `json:"subject"`
	State   string       `json:"state"`
	// Fits counts the nodes that pass every filter simulated here.
	Fits int `json:"fits"`
	// Groups are nodes refused for the same reasons.
	Groups []NodeGroup `json:"groups"`
	// Claims says that the pod also needs devices, which another toolset judges.
	Claims   bool    `json:"claims"`
	Findings []Named `json:"findings"`
}

// NodeGroup is a set of nodes that refuse the pod for the same reasons.
type NodeGroup struct {
	Count   int      `json:"count"`
	Example string   `json:"example"`
	Reasons []string `json:"reasons"`
}

// filter names, in the order in which the scheduler's own plugins speak.
const (
	byCordon   = "cordon"
	byTaint    = "taint"
	bySelector = "selector"
	byResource = "resources"
	byAffinity = "affinity"
	bySpread   = "spread"
	byPort     = "port"
	byVolume   = "volume"
)

// refusal is why one node refuses the pod.
type refusal struct {
	filter, why string
	// detail is the taint, resource, topology key, ... that decides.
	detail string
	free   resource.Quantity
}

func (j *judge) schedulingTool(ctx context.Context, in SchedulingIn) (tool.Output[Scheduling], error) {
	p, err := j.src.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[Scheduling]{}, err
	}
	v := newVerdict(j.pod(p))
	d := Scheduling{Subject: v.subject, Groups: []NodeGroup{}, Findings: []Named{}, Claims: len(p.Spec.ResourceClaims) > 0}
	switch {
	case p.Spec.NodeName != "":
		d.State = "scheduled to " + p.Spec.NodeName
	case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		d.State = "finished"
	case len(p.Spec.SchedulingGates) > 0:
		d.State = "gated"
		j.gated(v, p)
	default:
		if err := j.simulate(ctx, v, p, &d); err != nil {
			return tool.Output[Scheduling]{}, err
		}
	}
	v.state = d.State
	out := v.output()
	d.Findings = out.Data.Findings
	return tool.Output[Scheduling]{Data: d, Text: out.Text, Findings: out.Findings, Edges: out.Edges}, nil
}

func (j *judge) gated(v *verdict, p *corev1.Pod) {
	names := make([]string, 0, len(p.Spec.SchedulingGates))
	for _, g := range p.Spec.SchedulingGates {
		names = append(names, g.Name)
	}
	gates := strings.Join(names, ", ")
	v.line("scheduling gates: %s", gates)
	if j.now().Sub(p.CreationTimestamp.Time) > settle {
		v.fault("kube.sched_gated", incident.Warning, 0.85, v.subject, fmt.Sprintf("pod %s is kept from scheduling by its gates: %s", v.subject.Path(), gates), params("gates", gates))
	}
}

// simulate runs the filters over every node and names the one that decides.
func (j *judge) simulate(ctx context.Context, v *verdict, p *corev1.Pod, d *Scheduling) error {
	nodes, err := j.src.Nodes(ctx)
	if err != nil {
		return err
	}
	pods, err := j.src.Pods(ctx, "")
	if err != nil && tool.KindOf(err) != tool.Forbidden {
		return err
	}
	s := newSim(ctx, j, p, nodes, pods)
	refused := make([][]refusal, len(nodes))
	for i, n := range nodes {
		refused[i] = s.filters(n)
		if len(refused[i]) == 0 {
			d.Fits++
		}
	}
	d.Groups = groups(nodes, refused)
	d.State = fmt.Sprintf("%d of %d nodes fit", d.Fits, len(nodes))
	for _, g := range limit(d.Groups, 8) {
		v.line("%d nodes (e.g. %s): %s", g.Count, g.Example, strings.Join(g.Reasons, "; "))
	}
	refusedBy, hasEvent := has(j.events(ctx, v.subject, string(p.UID)), []string{"FailedScheduling"})
	if hasEvent {
		v.line("the scheduler says: %s", refusedBy.Message)
	}
	age := j.now().Sub(p.CreationTimestamp.Time)
	switch {
	case len(nodes) == 0:
		v.fault("kube.sched_insufficient_resources", incident.Critical, 0.9, v.subject, fmt.Sprintf("the cluster has no node that pod %s could run on", v.subject.Path()), params("nodes", "0"))
	case d.Fits > 0 && !hasEvent && age > 2*settle && len(p.Spec.ResourceClaims) == 0 && condition(p, corev1.PodScheduled) == nil && !mountsClaim(p):
		name := cmp.Or(p.Spec.SchedulerName, corev1.DefaultSchedulerName)
		v.fault("kube.sched_no_scheduler", incident.Critical, 0.8, v.subject, fmt.Sprintf("%d nodes fit pod %s, and no scheduler named %s has looked at it", d.Fits, v.subject.Path(), name), params("scheduler", name))
	case d.Fits == 0 && (age > settle || hasEvent):
		j.decide(v, p, nodes, refused)
	}
	return nil
}

func mountsClaim(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(vol corev1.Volume) bool { return vol.PersistentVolumeClaim != nil || vol.Ephemeral != nil })
}

// groups puts nodes together that refuse for the same reasons, largest first.
func groups(nodes []*corev1.Node, refused [][]refusal) []NodeGroup {
	byKey := map[string]*NodeGroup{}
	for i, n := range nodes {
		var reasons []string
		for _, r := range refused[i] {
			reasons = append(reasons, r.why)
		}
		if len(reasons) == 0 {
			reasons = []string{"fits"}
		}
		k := strings.Join(reasons, "|")
		g := byKey[k]
		if g == nil {
			g = &NodeGroup{Example: n.Name, Reasons: reasons}
			byKey[k] = g
		}
		g.Count++
		g.Example = min(g.Example, n.Name)
	}
	out := make([]NodeGroup, 0, len(byKey))
	for _, k := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, *byKey[k])
	}
	slices.SortStableFunc(out, func(a, b NodeGroup) int { return b.Count - a.Count })
	return out
}

// decide names the filter without which some node would fit: the cheapest
// single one; where no single one suffices, those of the nearest node, with
// less confidence.
func (j *judge) decide(v *verdict, p *corev1.Pod, nodes []*corev1.Node, refused [][]refusal) {
	single := map[string][]int{}
	nearest := -1
	for i := range nodes {
		kinds := filtersOf(refused[i])
		if len(kinds) == 1 {
			single[kinds[0]] = append(single[kinds[0]], i)
		}
		if nearest < 0 || len(kinds) < len(filtersOf(refused[nearest])) {
			nearest = i
		}
	}
	// What a pod's own author can mend stands before what the fleet lacks.
	for _, f := range []string{byAffinity, bySpread, byPort, byVolume, byResource, byTaint, byCordon, bySelector} {
		if is := single[f]; len(is) > 0 {
			j.blame(v, p, nodes, refused, f, is, 0.93)
			return
		}
	}
	for _, f := range filtersOf(refused[nearest]) {
		j.blame(v, p, nodes, refused, f, []int{nearest}, 0.6)
	}
}

func filtersOf(rs []refusal) []string {
	var out []string
	for _, r := range rs {
		if !slices.Contains(out, r.filter) {
			out = append(out, r.filter)
		}
	}
	return out
}

// blame writes the finding for one filter, from the nodes it alone refuses.
func (j *judge) blame(v *verdict, p *corev1.Pod, nodes []*corev1.Node, refused [][]refusal, filter string, is []int, conf float64) {
	var rs []refusal
	for _, i := range is {
		for _, r := range refused[i] {
			if r.filter == filter {
				rs = append(rs, r)
			}
		}
	}
	r, count := rs[0], fmt.Sprint(len(is))
	pod := v.subject.Path()
	example := nodes[is[0]].Name
	switch filter {
	case byCordon:
		n := j.ref("", "Node", "", example)
		v.edge(v.subject, graph.BlockedBy, n)
		v.fault("kube.sched_node_cordoned", incident.Critical, conf, n, fmt.Sprintf("node %s would fit pod %s, but it is cordoned (%s such nodes)", example, pod, count), nil)
	case byTaint:
		v.fault("kube.sched_taint_not_tolerated", incident.Critical, conf, v.subject, fmt.Sprintf("%s nodes (e.g. %s) would fit pod %s, but carry the taint %s, which it does not tolerate", count, example, pod, r.detail), params("taint", r.detail, "nodes", count))
	case bySelector:
		v.fault("kube.sched_node_selector_mismatch", incident.Critical, conf, v.subject, fmt.Sprintf("no node has the labels that pod %s asks for: %s; %s", pod, selectorText(p), nearestLabels(p, nodes)), params("selector", selectorText(p), "nearest", example))
	case byResource:
		j.blameResource(v, p, rs, example, count, conf)
	case byAffinity:
		v.fault("kube.sched_affinity_unsatisfied", incident.Critical, conf, v.subject, fmt.Sprintf("%s nodes (e.g. %s) would fit pod %s, but %s", count, example, pod, r.why), params("term", r.detail, "nodes", count))
	case bySpread:
		v.fault("kube.sched_topology_spread", incident.Critical, conf, v.subject, fmt.Sprintf("%s nodes (e.g. %s) would fit pod %s, but %s", count, example, pod, r.why), params("topology_key", r.detail))
	case byPort:
		v.fault("kube.sched_host_port_conflict", incident.Critical, conf, v.subject, fmt.Sprintf("on all %s nodes that would fit pod %s %s", count, pod, r.why), params("port", r.detail))
	case byVolume:
		pvc := j.ref("", "PersistentVolumeClaim", p.Namespace, r.detail)
		v.edge(v.subject, graph.Mounts, pvc)
		v.fault("kube.sched_volume_conflict", incident.Critical, conf, pvc, fmt.Sprintf("%s nodes (e.g. %s) would fit pod %s, but %s", count, example, pod, r.why), params("requires", r.why))
	}
}

// blameResource names the scarce resource; one that no node has at all is a
// different fault from one that is used up.
func (j *judge) blameResource(v *verdict, p *corev1.Pod, rs []refusal, example, count string, conf float64) {
	largest := map[string]resource.Quantity{}
	for _, r := range rs {
		if q, ok := largest[r.detail]; !ok || r.free.Cmp(q) > 0 {
			largest[r.detail] = r.free
		}
	}
	need := requests(p)
	for _, name := range slices.Sorted(maps.Keys(largest)) {
		free := largest[name]
		want := need[corev1.ResourceName(name)]
		if strings.Contains(name, "/") && !j.offered(name) {
			v.fault("kube.sched_resource_unknown", incident.Critical, 0.7, v.subject, fmt.Sprintf("pod %s requests %s, which no node offers", v.subject.Path(), name), params("resource", name))
			continue
		}
		v.fault("kube.sched_insufficient_resources", incident.Critical, conf, v.subject, fmt.Sprintf("pod %s requests %s of %s; of the %s nodes that would fit otherwise the largest free amount is %s (e.g. %s)", v.subject.Path(), want.String(), name, count, free.String(), example),
			params("resource", name, "requested", want.String(), "largest_free", free.String(), "nodes", count))
		return
	}
}

// offered reports whether any node has the extended resource.
func (j *judge) offered(name string) bool {
	nodes, err := j.src.Nodes(context.Background())
	if err != nil {
		return true
	}
	return slices.ContainsFunc(nodes, func(n *corev1.Node) bool { q := n.Status.Allocatable[corev1.ResourceName(name)]; return !q.IsZero() })
}

func selectorText(p *corev1.Pod) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(p.Spec.NodeSelector)) {
		parts = append(parts, k+"="+p.Spec.NodeSelector[k])
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, e := range t.MatchExpressions {
				parts = append(parts, fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, ",")))
			}
		}
	}
	return strings.Join(parts, ", ")
}

// nearestLabels says which values the nodes have for the keys that are asked for.
func nearestLabels(p *corev1.Pod, nodes []*corev1.Node) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(p.Spec.NodeSelector)) {
		seen := map[string]int{}
		for _, n := range nodes {
			if val, ok := n.Labels[k]; ok {
				seen[val]++
			}
		}
		if seen[p.Spec.NodeSelector[k]] > 0 {
			continue
		}
		if len(seen) == 0 {
			parts = append(parts, "no node has "+k)
			continue
		}
		parts = append(parts, "nodes have "+k+"="+strings.Join(limit(slices.Sorted(maps.Keys(seen)), 5), ", "))
	}
	return cmp.Or(strings.Join(parts, "; "), "see the groups of nodes")
}

// taintRefusal gives the first taint that keeps the pod away.
func taintRefusal(p *corev1.Pod, n *corev1.Node) (corev1.Taint, bool) {
	return corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, p.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectPreferNoSchedule && t.Key != corev1.TaintNodeUnschedulable
	}, true)
}

func matchesNode(p *corev1.Pod, n *corev1.Node) bool {
	ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n)
	return ok && err == nil
}
