package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge/filters"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
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
	// Nodes looked at, and Fits of them that pass every filter simulated here.
	Nodes int `json:"nodes"`
	Fits  int `json:"fits"`
	// Refused counts the nodes each filter refuses, alone or with others.
	Refused map[string]int `json:"refused"`
	// Groups are nodes refused for the same reasons, most of them first.
	Groups []NodeGroup `json:"groups"`
	// Alone are the single filters without which some node would fit, the
	// decisive one first.
	Alone []Relaxed `json:"alone"`
	// Demands of the pod on node labels, and how the nodes answer them.
	Demands []filters.Demand `json:"demands"`
	// Claims says that the pod also needs devices, which another toolset judges.
	Claims bool `json:"claims"`
	// Said is the scheduler's own last word, Differs where it and this part.
	Said    string   `json:"said,omitempty"`
	Differs []string `json:"differs"`
	// Limits are what could not be looked at.
	Limits   []string `json:"limits"`
	Findings []Named  `json:"findings"`
}

// NodeGroup is a set of nodes that refuse the pod for the same reasons.
type NodeGroup struct {
	Count   int      `json:"count"`
	Example string   `json:"example"`
	Reasons []string `json:"reasons"`
	// Free says how much of the scarce resources these nodes have free.
	Free []string `json:"free"`
}

// Relaxed is a filter and how many nodes would fit without it.
type Relaxed struct {
	Filter string `json:"filter"`
	Nodes  int    `json:"nodes"`
	// With are further filters that would have to go too.
	With []string `json:"with"`
}

func (j *judge) schedulingTool(ctx context.Context, in SchedulingIn) (tool.Output[Scheduling], error) {
	p, err := j.src.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[Scheduling]{}, err
	}
	v := newVerdict(j.pod(p))
	d := Scheduling{Subject: v.subject, Refused: map[string]int{}, Groups: []NodeGroup{}, Alone: []Relaxed{}, Demands: []filters.Demand{}, Differs: []string{}, Limits: []string{}, Claims: len(p.Spec.ResourceClaims) > 0}
	switch {
	case p.Spec.NodeName != "":
		d.State = "scheduled to " + p.Spec.NodeName
	case over(p):
		d.State = "finished"
	case p.DeletionTimestamp != nil:
		d.State = "being deleted"
	case len(p.Spec.SchedulingGates) > 0:
		d.State = "gated"
		j.gated(ctx, v, p)
	default:
		if err := j.pendingPod(ctx, v, p, &d); err != nil {
			return tool.Output[Scheduling]{}, err
		}
	}
	v.state = d.State
	out := v.output()
	d.Findings = out.Data.Findings
	return tool.Output[Scheduling]{Data: d, Text: out.Text, Findings: out.Findings, Edges: out.Edges}, nil
}

func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// gated says what keeps the pod out of the scheduling queue. The scheduler says
// nothing about such a pod, so the gates are all there is to see.
func (j *judge) gated(ctx context.Context, v *verdict, p *corev1.Pod) {
	names := make([]string, 0, len(p.Spec.SchedulingGates))
	kueue := false
	for _, g := range p.Spec.SchedulingGates {
		names = append(names, g.Name)
		kueue = kueue || strings.HasPrefix(g.Name, "kueue.x-k8s.io/")
	}
	gates := strings.Join(names, ", ")
	v.line("scheduling gates: %s; the scheduler does not look at the pod and writes no event until they are removed", gates)
	if j.now().Sub(p.CreationTimestamp.Time) <= settle {
		return
	}
	conf := 0.85
	if kueue && j.kueueOf(ctx, v, p) {
		conf = 0.5
	}
	v.fault("kube.sched_gated", incident.Warning, conf, v.subject, fmt.Sprintf("pod %s is kept from scheduling by its gates: %s", v.subject.Path(), gates), params("gates", gates))
}

// kueueOf ties a pod to the Kueue Workload that gates it.
func (j *judge) kueueOf(ctx context.Context, v *verdict, p *corev1.Pod) bool {
	list, err := j.src.List(ctx, "workloads.kueue.x-k8s.io", p.Namespace, selectors(""))
	if err != nil {
		return false
	}
	owner, owned := j.owner(p)
	for _, u := range list {
		if p.Annotations["kueue.x-k8s.io/workload"] != u.GetName() && !slices.ContainsFunc(u.GetOwnerReferences(), func(o ownerRef) bool {
			return o.UID == p.UID || owned && o.Kind == owner.Kind && o.Name == owner.Name
		}) {
			continue
		}
		v.edge(v.subject, graph.GatedBy, j.ref("kueue.x-k8s.io", "Workload", u.GetNamespace(), u.GetName()))
		before := len(v.findings)
		j.kueue(v, u.Object, u.GetNamespace(), u.GetName())
		return len(v.findings) > before
	}
	return false
}

// pendingPod judges a pod that waits for a node.
func (j *judge) pendingPod(ctx context.Context, v *verdict, p *corev1.Pod, d *Scheduling) error {
	evs := j.events(ctx, v.subject, string(p.UID))
	said, refused := has(evs, []string{"FailedScheduling"})
	if c := condition(p, corev1.PodScheduled); !refused && c != nil && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
		said, refused = source.Event{Message: c.Message, Last: c.LastTransitionTime.Time}, true
	}
	d.Said = oneLine(said.Message, 500)
	age := j.now().Sub(p.CreationTimestamp.Time)
	if age < settle && !refused {
		d.State = "waits for the scheduler since " + j.ago(p.CreationTimestamp.Time)
		return nil
	}
	for _, e := range evs {
		switch e.Reason {
		case "TriggeredScaleUp", "NotTriggerScaleUp", "Nominated", "WaitingOnFailedScaleUp":
			v.line("autoscaler (%s ago): %s: %s", j.ago(e.Last), e.Reason, e.Message)
		}
	}
	if n := p.Status.NominatedNodeName; n != "" {
		v.line("it preempts on %s and waits for the victims to leave", n)
	}
	world, bare := filters.World{}, false
	if refused {
		world, bare = j.bare(ctx, p, filters.Read(said.Message), said.Last)
	}
	var limits []string
	var err error
	if !bare {
		world, limits, err = j.world(ctx, p)
	}
	d.Limits = append(d.Limits, limits...)
	if err != nil {
		if tool.KindOf(err) != tool.Forbidden {
			return err
		}
		// Without the nodes there is only the scheduler's own word.
		d.Limits = append(d.Limits, tool.UserText(err))
		d.State = "nodes may not be read"
		j.wordOnly(v, p, filters.Read(said.Message))
		return nil
	}
	if waits := j.waitsForVolume(ctx, v, p); waits != "" {
		d.State = "waits for a volume"
		v.line("no node is asked before %s", waits)
	}
	sim := filters.New(world)
	verdicts := sim.Run()
	d.Nodes = len(verdicts)
	decision := sim.Decide(verdicts)
	if decision.Fits > 0 {
		// Nodes that fit are no way out for a pod whose devices are elsewhere.
		if near, where := j.whereClaimsAre(ctx, p, world.Nodes); len(near) > 0 && len(near) < len(world.Nodes) {
			narrow := world
			narrow.Nodes = near
			s := filters.New(narrow)
			vs := s.Run()
			if dec := s.Decide(vs); dec.Main != nil && dec.Main.Filter == filters.Resource {
				v.line("its claims can be used only on %s", where)
				sim, verdicts, decision, refused = s, vs, dec, true
			}
		}
	}
	d.Fits = decision.Fits
	d.State = firstOf(d.State, fmt.Sprintf("%d of %d nodes fit", d.Fits, d.Nodes))
	tally(d, sim, verdicts, decision)
	d.Demands = append(d.Demands, sim.Demands(nil)...)
	for _, g := range limit(d.Groups, 8) {
		v.line("%d nodes (e.g. %s): %s", g.Count, g.Example, strings.Join(append(slices.Clone(g.Reasons), g.Free...), "; "))
	}
	if refused {
		v.line("the scheduler says (%s ago): %s", j.ago(said.Last), d.Said)
		if bare {
			v.line("other pods were not read: by that word every node has room for this one")
		}
		d.Differs = append(d.Differs, filters.Read(said.Message).Differs(verdicts)...)
		for _, x := range d.Differs {
			v.line("differs: %s", x)
		}
	}
	for _, l := range d.Limits {
		v.line("not seen: %s", l)
	}
	j.conclude(ctx, v, &attempt{p: p, d: d, sim: sim, decision: decision, said: filters.Read(said.Message), refused: refused, age: age, verdicts: verdicts})
	return nil
}

// attempt is a simulation and what it is held against.
type attempt struct {
	p        *corev1.Pod
	d        *Scheduling
	sim      *filters.Simulation
	decision filters.Decision
	verdicts []filters.Verdict
	said     filters.Said
	refused  bool
	age      time.Duration
}

// conclude names what stands between the pod and the nodes.
func (j *judge) conclude(ctx context.Context, v *verdict, a *attempt) {
	switch {
	case a.d.State == "waits for a volume":
	case a.d.Nodes == 0:
		v.fault("kube.sched_insufficient_resources", incident.Critical, 0.9, v.subject, fmt.Sprintf("the cluster has no node that pod %s could run on", v.subject.Path()), params("nodes", "0"))
	case j.unseen(v, a):
	case a.decision.Main != nil:
		j.blame(ctx, v, a)
	case j.gang(ctx, v, a):
	case j.noLocalVolume(ctx, v, a):
	case !a.refused && len(a.p.Spec.ResourceClaims) > 0:
		v.line("the scheduler writes no event for a pod whose ResourceClaims do not exist yet: it is not let into the queue")
	case a.refused && len(a.d.Limits) > 0 && !a.said.Claims:
		// What could not be read may hold what the scheduler saw.
		j.wordOnly(v, a.p, a.said)
	}
}

// claimsMade reports whether every claim of a pod that names another scheduler has
// been made: the default one keeps such pods back without a word for many reasons.
func claimsMade(p *corev1.Pod) bool {
	if p.Spec.SchedulerName == "" || p.Spec.SchedulerName == corev1.DefaultSchedulerName {
		return false
	}
	return !slices.ContainsFunc(p.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool {
		return c.ResourceClaimName == nil && !slices.ContainsFunc(p.Status.ResourceClaimStatuses, func(s corev1.PodResourceClaimStatus) bool { return s.Name == c.Name && s.ResourceClaimName != nil })
	})
}

// unseen says that no scheduler looks at the pod: one that does leaves its word,
// whatever it decides, save for a pod whose ResourceClaims do not exist yet.
func (j *judge) unseen(v *verdict, a *attempt) bool {
	if a.refused || condition(a.p, corev1.PodScheduled) != nil || a.age < 2*settle || len(a.p.Spec.ResourceClaims) > 0 && !claimsMade(a.p) {
		return false
	}
	if _, ok := groupName(a.p); ok {
		return false // a gang may be held back as a whole
	}
	name := cmp.Or(a.p.Spec.SchedulerName, corev1.DefaultSchedulerName)
	v.fault("kube.sched_no_scheduler", incident.Critical, 0.8, v.subject, fmt.Sprintf("%d of %d nodes fit pod %s, and no scheduler named %s has looked at it for %s", a.d.Fits, a.d.Nodes, v.subject.Path(), name, j.ago(a.p.CreationTimestamp.Time)), params("scheduler", name))
	return true
}

// noLocalVolume finds the claim for which the scheduler finds no volume: one whose
// class has only volumes that a person makes, and none is left.
func (j *judge) noLocalVolume(ctx context.Context, v *verdict, a *attempt) bool {
	if !a.refused || !a.said.Counted(filters.Volume) || !containsAny(a.d.Said, "available persistent volumes to bind") {
		return false
	}
	for _, name := range claimNames(a.p) {
		c, err := j.src.PVC(ctx, a.p.Namespace, name)
		if err != nil || c.Status.Phase == corev1.ClaimBound || c.Spec.VolumeName != "" {
			continue
		}
		if sc := j.classOf(ctx, c); sc != nil && sc.Provisioner == handmade {
			v.edge(v.subject, graph.Mounts, j.ref("", "PersistentVolumeClaim", c.Namespace, c.Name))
			j.noVolume(v, c, 0.9)
			return true
		}
	}
	return false
}

// wordOnly judges by the scheduler's message alone, where it names one filter.
func (j *judge) wordOnly(v *verdict, p *corev1.Pod, said filters.Said) {
	kinds := said.Kinds()
	if len(kinds) != 1 || said.Claims || said.Waits {
		return
	}
	code := map[filters.Filter]string{
		filters.Resource: "kube.sched_insufficient_resources", filters.Taint: "kube.sched_taint_not_tolerated", filters.Lifecycle: "kube.sched_taint_not_tolerated",
		filters.Selector: "kube.sched_node_selector_mismatch", filters.Affinity: "kube.sched_affinity_unsatisfied", filters.Spread: "kube.sched_topology_spread", filters.Port: "kube.sched_host_port_conflict",
	}[kinds[0]]
	if code == "" {
		return
	}
	n := said.Counts[kinds[0]]
	v.fault(code, incident.Critical, 0.6, v.subject, fmt.Sprintf("the scheduler refuses pod %s on %d of %d nodes by %s; the nodes themselves could not be checked", v.subject.Path(), n, said.Nodes, kinds[0]), params("nodes", fmt.Sprint(n)))
}

// gang says that a pod waits for others of its group, which the scheduler takes
// together or not at all.
func (j *judge) gang(ctx context.Context, v *verdict, a *attempt) bool {
	g, ok := j.groupOf(ctx, a.p)
	if !ok {
		return false
	}
	pods, err := j.src.Pods(ctx, a.p.Namespace)
	if err != nil {
		return false
	}
	have, waiting := 0, 0
	for _, p := range pods {
		if o, in := groupName(p); in && o == g.name && !over(p) && p.DeletionTimestamp == nil {
			have++
			if p.Spec.NodeName == "" {
				waiting++
			}
		}
	}
	v.line("gang %s: %d pods of at least %d, %d without a node", g.name, have, g.least, waiting)
	switch {
	case g.gone:
		v.fault("kube.sched_quota_or_gang", incident.Critical, 0.85, v.subject, fmt.Sprintf("pod %s belongs to %s %s, which does not exist, so the scheduler does not take it up", v.subject.Path(), g.ref.Kind, g.name), params("group", g.name))
		return true
	case have < g.least:
		v.fault("kube.sched_quota_or_gang", incident.Warning, 0.85, v.subject, fmt.Sprintf("pod %s waits for its gang %s: %d of %d pods exist", v.subject.Path(), g.name, have, g.least), params("group", g.name))
		return true
	}
	if slots := a.sim.Slots(a.verdicts, waiting); slots < waiting {
		v.fault("kube.sched_insufficient_resources", incident.Critical, 0.8, v.subject, fmt.Sprintf("gang %s is placed together or not at all: %d pods like %s wait, and the nodes have room for %d", g.name, waiting, v.subject.Path(), slots), params("nodes", fmt.Sprint(a.d.Fits), "requested", fmt.Sprint(waiting), "largest_free", fmt.Sprint(slots), "resource", "pods of the gang"))
		return true
	}
	return false
}

// podGroup is the group a pod is scheduled with.
type podGroup struct {
	name  string
	ref   incident.Ref
	least int
	gone  bool
}

// groupName tells the gang of a pod: spec.schedulingGroup (Kubernetes 1.36), the
// label of the coscheduling plugin, the annotation of Volcano.
func groupName(p *corev1.Pod) (string, bool) {
	if g := p.Spec.SchedulingGroup; g != nil && g.PodGroupName != nil {
		return *g.PodGroupName, true
	}
	name := firstOf(p.Labels["scheduling.x-k8s.io/pod-group"], p.Labels["pod-group.scheduling.sigs.k8s.io"], p.Annotations["scheduling.k8s.io/group-name"])
	return name, name != ""
}

func (j *judge) groupOf(ctx context.Context, p *corev1.Pod) (podGroup, bool) {
	name, ok := groupName(p)
	if !ok {
		return podGroup{}, false
	}
	group, path := "scheduling.x-k8s.io", []string{"spec", "minMember"}
	switch {
	case p.Spec.SchedulingGroup != nil:
		group, path = "scheduling.k8s.io", []string{"spec", "schedulingPolicy", "gang", "minCount"}
	case p.Annotations["scheduling.k8s.io/group-name"] != "":
		group = "scheduling.volcano.sh"
	}
	g := podGroup{name: name, ref: j.ref(group, "PodGroup", p.Namespace, name)}
	u, err := j.src.Get(ctx, g.ref)
	if err != nil {
		g.gone = missing(err)
		return g, g.gone
	}
	g.least = int(number(u.Object, path...))
	return g, g.least > 0
}
