package nodepool

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

const (
	// enough replicas on either side that a shared pool is no accident.
	enough = 2
	// settled is how long a pod may take before that it is not ready says something.
	settled = 5 * time.Minute
)

// placed judges a pod on its node: does it share a pool with the other replicas that
// fail, while those elsewhere are well?
func (l *look) placed(p *corev1.Pod) {
	q := l.w.byNode[p.Spec.NodeName]
	if q == nil {
		l.v.line("node %s is in no pool that its labels tell of", p.Spec.NodeName)
		return
	}
	l.v.line("pod %s is on node %s of pool %s (%s)", p.Name, p.Spec.NodeName, q.name, q.provider)
	l.v.edge(l.t.podRef(p), graph.RunsOn, l.t.nodeRef(p.Spec.NodeName))
	l.v.edge(l.t.nodeRef(p.Spec.NodeName), graph.InPool, l.t.poolRef(q))
	if !l.sick(p) {
		return
	}
	owner := metav1.GetControllerOf(p)
	if owner == nil {
		return
	}
	var sickHere, wellHere, sickElse, well []*corev1.Pod
	nodes := map[string]bool{}
	for _, o := range l.w.pods() {
		c := metav1.GetControllerOf(o)
		// Replicas of one template only: those of another revision differ by more than
		// their pool.
		if c == nil || c.UID != owner.UID || c.Name != owner.Name || o.Spec.NodeName == "" || o.DeletionTimestamp != nil {
			continue
		}
		here := l.w.byNode[o.Spec.NodeName] == q
		switch {
		case l.sick(o) && here:
			sickHere = append(sickHere, o)
			nodes[o.Spec.NodeName] = true
		case l.sick(o):
			sickElse = append(sickElse, o)
		case podReady(o) && here:
			wellHere = append(wellHere, o)
		case podReady(o):
			well = append(well, o)
		}
	}
	l.v.line("of the replicas of %s %s: in pool %s %d fail and %d are well, elsewhere %d fail and %d are well", owner.Kind, owner.Name, q.name, len(sickHere), len(wellHere), len(sickElse), len(well))
	// One node in trouble is not its pool's fault.
	if len(sickHere) < enough || len(well) < enough || len(nodes) < enough || len(wellHere)+len(sickElse) > 0 {
		return
	}
	others := map[string][]*corev1.Node{}
	for _, n := range l.w.nodes {
		if slices.ContainsFunc(well, func(o *corev1.Pod) bool { return o.Spec.NodeName == n.Name }) {
			if x := l.w.byNode[n.Name]; x != nil {
				others[x.name] = append(others[x.name], n)
			}
		}
	}
	var differences, names []string
	for name, ns := range others {
		names = append(names, name)
		for _, d := range differ(traitsOf(q.nodes), traitsOf(ns)) {
			if !strings.HasPrefix(d, "zone ") && !slices.Contains(differences, d) {
				differences = append(differences, d)
			}
		}
	}
	slices.Sort(names)
	slices.Sort(differences)
	if len(differences) == 0 {
		l.v.line("pool %s differs in nothing that is seen from %s", q.name, strings.Join(names, ", "))
		return
	}
	conf := 0.72
	if len(sickHere) > enough && len(well) > enough {
		conf = 0.8
	}
	f := l.v.find("nodepool.sick_share_pool", conf, l.t.poolRef(q), map[string]string{"pool": q.name, "sick": strconv.Itoa(len(sickHere)), "well": strconv.Itoa(len(well)), "differences": strings.Join(differences, "; ")},
		"all %d replicas of %s %s that fail are on %d nodes of pool %s, and all %d elsewhere (%s) are well, by the same template; pool %s differs: %s",
		len(sickHere), owner.Kind, owner.Name, len(nodes), q.name, len(well), strings.Join(names, ", "), q.name, strings.Join(differences, "; "))
	f.FirstSeen = youngest(q.nodes)
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// sick reports whether a pod on a node is not ready and has had its time, or
// restarts.
func (l *look) sick(p *corev1.Pod) bool {
	if podReady(p) || p.Spec.NodeName == "" || p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded {
		return false
	}
	if slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
		return c.RestartCount > 0 || c.State.Terminated != nil && c.State.Terminated.ExitCode != 0
	}) {
		return true
	}
	return l.t.now().Sub(p.CreationTimestamp.Time) > settled
}

// colour is the nodes of a pool that have one image.
type colour struct {
	image    string
	nodes    []*corev1.Node
	cordoned int
}

// colours groups the nodes of a pool by image, the one whose nodes were made first
// ahead.
func colours(q *pool) []colour {
	var out []colour
	for _, n := range q.nodes {
		im := imageOf(n) + " " + n.Status.NodeInfo.KubeletVersion
		i := slices.IndexFunc(out, func(c colour) bool { return c.image == im })
		if i < 0 {
			out = append(out, colour{image: im})
			i = len(out) - 1
		}
		out[i].nodes = append(out[i].nodes, n)
		if n.Spec.Unschedulable {
			out[i].cordoned++
		}
	}
	slices.SortFunc(out, func(a, b colour) int { return youngest(a.nodes).Compare(youngest(b.nodes)) })
	return out
}

// phaseOf derives where an upgrade stands that has no phase of its own (AKS has
// none): from images, cordons and what still runs on the old nodes.
func phaseOf(cs []colour, pods []*corev1.Pod) string {
	if len(cs) < 2 {
		return PhaseIdle
	}
	oldest, newest := cs[0], cs[len(cs)-1]
	busy := 0
	on := map[string]bool{}
	for _, n := range oldest.nodes {
		on[n.Name] = true
	}
	for _, p := range pods {
		c := metav1.GetControllerOf(p)
		if on[p.Spec.NodeName] && (c == nil || c.Kind != "DaemonSet") && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			busy++
		}
	}
	switch {
	case oldest.cordoned == 0 && slices.ContainsFunc(newest.nodes, func(n *corev1.Node) bool { return !ready(n) }):
		return PhaseAddingGreen
	case oldest.cordoned == 0:
		return PhaseUpgrading
	case oldest.cordoned < len(oldest.nodes):
		return PhaseCordoning
	case busy > 0:
		return PhaseDraining
	}
	return PhaseSoaking
}

func colourText(cs []colour) string {
	var out []string
	for _, c := range cs {
		s := fmt.Sprintf("%d nodes of %s", len(c.nodes), c.image)
		if c.cordoned > 0 {
			s += fmt.Sprintf(" (%d cordoned)", c.cordoned)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}
