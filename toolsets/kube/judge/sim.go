package judge

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// requests are what the scheduler counts for a pod: containers, init
// containers, sidecars and overhead.
func requests(p *corev1.Pod) corev1.ResourceList {
	return resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
}

// sim holds the state that the filters read: the pods of each node, indexed once.
type sim struct {
	ctx    context.Context
	j      *judge
	pod    *corev1.Pod
	need   corev1.ResourceList
	nodes  []*corev1.Node
	byNode map[string][]*corev1.Pod
	// volumes are the pod's bound claims with the node affinity of their volumes.
	volumes []volumeNeed
	// peers are the pods that the pod's own or their own terms are about.
	placed []*corev1.Pod
}

type volumeNeed struct {
	claim string
	need  *corev1.VolumeNodeAffinity
}

func newSim(ctx context.Context, j *judge, p *corev1.Pod, nodes []*corev1.Node, pods []*corev1.Pod) *sim {
	s := &sim{ctx: ctx, j: j, pod: p, need: requests(p), nodes: nodes, byNode: map[string][]*corev1.Pod{}}
	for _, o := range pods {
		if o.Spec.NodeName == "" || o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed || o.UID == p.UID {
			continue
		}
		s.byNode[o.Spec.NodeName] = append(s.byNode[o.Spec.NodeName], o)
		s.placed = append(s.placed, o)
	}
	for _, vol := range p.Spec.Volumes {
		if vol.PersistentVolumeClaim == nil {
			continue
		}
		pvc, err := j.src.PVC(ctx, p.Namespace, vol.PersistentVolumeClaim.ClaimName)
		if err != nil || pvc.Spec.VolumeName == "" {
			continue
		}
		if pv, err := j.src.PV(ctx, pvc.Spec.VolumeName); err == nil && pv.Spec.NodeAffinity != nil {
			s.volumes = append(s.volumes, volumeNeed{claim: pvc.Name, need: pv.Spec.NodeAffinity})
		}
	}
	return s
}

// filters lists everything that keeps the pod from a node.
func (s *sim) filters(n *corev1.Node) []refusal {
	var out []refusal
	p := s.pod
	tolerates := slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool {
		return t.Operator == corev1.TolerationOpExists && (t.Key == "" || t.Key == corev1.TaintNodeUnschedulable)
	})
	if n.Spec.Unschedulable && !tolerates {
		out = append(out, refusal{filter: byCordon, why: "is cordoned"})
	}
	if t, bad := taintRefusal(p, n); bad {
		text := t.Key
		if t.Value != "" {
			text += "=" + t.Value
		}
		text += ":" + string(t.Effect)
		out = append(out, refusal{filter: byTaint, why: "taint " + text, detail: text})
	}
	if !matchesNode(p, n) {
		out = append(out, refusal{filter: bySelector, why: "labels do not match the node selector or affinity"})
	}
	out = append(out, s.resources(n)...)
	out = append(out, s.ports(n)...)
	out = append(out, s.volumeRefusals(n)...)
	out = append(out, s.affinity(n)...)
	out = append(out, s.spread(n)...)
	return out
}

func (s *sim) resources(n *corev1.Node) []refusal {
	used := corev1.ResourceList{}
	for _, o := range s.byNode[n.Name] {
		for k, q := range requests(o) {
			if _, wanted := s.need[k]; wanted {
				sum := used[k]
				sum.Add(q)
				used[k] = sum
			}
		}
	}
	var out []refusal
	for k, want := range s.need {
		if want.IsZero() {
			continue
		}
		free := n.Status.Allocatable[k].DeepCopy()
		u := used[k]
		free.Sub(u)
		if free.Cmp(want) < 0 {
			if free.Sign() < 0 {
				free = resource.Quantity{}
			}
			out = append(out, refusal{filter: byResource, why: fmt.Sprintf("has %s of %s free", free.String(), k), detail: string(k), free: free})
		}
	}
	slices.SortFunc(out, func(a, b refusal) int { return compare(a.detail, b.detail) })
	if max := n.Status.Allocatable.Pods(); !max.IsZero() && int64(len(s.byNode[n.Name]))+1 > max.Value() {
		out = append(out, refusal{filter: byResource, why: fmt.Sprintf("runs %d pods, its most", len(s.byNode[n.Name])), detail: "pods"})
	}
	return out
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

func (s *sim) ports(n *corev1.Node) []refusal {
	for _, c := range s.pod.Spec.Containers {
		for _, port := range c.Ports {
			if port.HostPort == 0 {
				continue
			}
			for _, o := range s.byNode[n.Name] {
				for _, oc := range o.Spec.Containers {
					for _, op := range oc.Ports {
						if op.HostPort == port.HostPort && op.Protocol == port.Protocol && (op.HostIP == port.HostIP || op.HostIP == "" || port.HostIP == "") {
							return []refusal{{filter: byPort, why: fmt.Sprintf("host port %d is taken by pod %s/%s", port.HostPort, o.Namespace, o.Name), detail: fmt.Sprint(port.HostPort)}}
						}
					}
				}
			}
		}
	}
	return nil
}

func (s *sim) volumeRefusals(n *corev1.Node) []refusal {
	for _, vn := range s.volumes {
		if vn.need.Required == nil {
			continue
		}
		sel, err := nodeaffinity.NewNodeSelector(vn.need.Required)
		if err == nil && !sel.Match(n) {
			return []refusal{{filter: byVolume, why: fmt.Sprintf("the volume of claim %s cannot be reached from there", vn.claim), detail: vn.claim}}
		}
	}
	return nil
}

// affinity checks required pod affinity and anti-affinity, the pod's own and
// that of the pods already placed.
func (s *sim) affinity(n *corev1.Node) []refusal {
	a := s.pod.Spec.Affinity
	if a != nil && a.PodAffinity != nil {
		for _, t := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			if !s.near(t, n) && !s.firstOfItsKind(t) {
				return []refusal{{filter: byAffinity, why: "no pod that matches its required affinity runs in the same " + t.TopologyKey, detail: termText(t)}}
			}
		}
	}
	if a != nil && a.PodAntiAffinity != nil {
		for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			if s.near(t, n) {
				return []refusal{{filter: byAffinity, why: "its anti-affinity refuses to share " + t.TopologyKey + " with pods " + termText(t), detail: termText(t)}}
			}
		}
	}
	for _, o := range s.placed {
		if o.Spec.Affinity == nil || o.Spec.Affinity.PodAntiAffinity == nil {
			continue
		}
		for _, t := range o.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			if s.matches(t, o.Namespace, s.pod) && s.sameDomain(t.TopologyKey, n, o.Spec.NodeName) {
				return []refusal{{filter: byAffinity, why: fmt.Sprintf("the anti-affinity of pod %s/%s refuses it", o.Namespace, o.Name), detail: termText(t)}}
			}
		}
	}
	return nil
}

func termText(t corev1.PodAffinityTerm) string { return metav1.FormatLabelSelector(t.LabelSelector) }

// near reports whether a pod that the term is about runs in the node's domain.
func (s *sim) near(t corev1.PodAffinityTerm, n *corev1.Node) bool {
	return slices.ContainsFunc(s.placed, func(o *corev1.Pod) bool {
		return s.matches(t, s.pod.Namespace, o) && s.sameDomain(t.TopologyKey, n, o.Spec.NodeName)
	})
}

// firstOfItsKind is the scheduler's exception: a pod that matches its own
// affinity may be the first.
func (s *sim) firstOfItsKind(t corev1.PodAffinityTerm) bool {
	return s.matches(t, s.pod.Namespace, s.pod) && !slices.ContainsFunc(s.placed, func(o *corev1.Pod) bool { return s.matches(t, s.pod.Namespace, o) })
}

func (s *sim) matches(t corev1.PodAffinityTerm, home string, o *corev1.Pod) bool {
	sel, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil || !sel.Matches(labels.Set(o.Labels)) {
		return false
	}
	if t.NamespaceSelector != nil {
		if len(t.NamespaceSelector.MatchLabels)+len(t.NamespaceSelector.MatchExpressions) == 0 {
			return true
		}
		ns, err := s.j.src.Namespace(s.ctx, o.Namespace)
		nsel, serr := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
		return (err == nil && serr == nil && nsel.Matches(labels.Set(ns.Labels))) || slices.Contains(t.Namespaces, o.Namespace)
	}
	if len(t.Namespaces) > 0 {
		return slices.Contains(t.Namespaces, o.Namespace)
	}
	return o.Namespace == home
}

func (s *sim) sameDomain(key string, n *corev1.Node, other string) bool {
	mine, ok := n.Labels[key]
	if !ok {
		return false
	}
	if n.Name == other {
		return true
	}
	for _, o := range s.nodes {
		if o.Name == other {
			return o.Labels[key] == mine
		}
	}
	return false
}

// spread checks DoNotSchedule topology spread constraints.
func (s *sim) spread(n *corev1.Node) []refusal {
	for _, c := range s.pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		sel, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err != nil {
			continue
		}
		domain, ok := n.Labels[c.TopologyKey]
		if !ok {
			return []refusal{{filter: bySpread, why: "it has no label " + c.TopologyKey + " for the spread constraint", detail: c.TopologyKey}}
		}
		count := map[string]int{}
		for _, o := range s.nodes {
			d, ok := o.Labels[c.TopologyKey]
			if !ok || !matchesNode(s.pod, o) {
				continue
			}
			count[d] += 0
			for _, op := range s.byNode[o.Name] {
				if op.Namespace == s.pod.Namespace && op.DeletionTimestamp == nil && sel.Matches(labels.Set(op.Labels)) {
					count[d]++
				}
			}
		}
		least := count[domain]
		for _, k := range count {
			least = min(least, k)
		}
		if c.MinDomains != nil && len(count) < int(*c.MinDomains) {
			least = 0
		}
		self := 0
		if sel.Matches(labels.Set(s.pod.Labels)) {
			self = 1
		}
		if skew := count[domain] + self - least; skew > int(c.MaxSkew) {
			return []refusal{{filter: bySpread, why: fmt.Sprintf("a pod more in %s=%s would make the spread uneven by %d, more than maxSkew %d", c.TopologyKey, domain, skew, c.MaxSkew), detail: c.TopologyKey}}
		}
	}
	return nil
}
