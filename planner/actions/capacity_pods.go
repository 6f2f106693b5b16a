package actions

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// podsRefuse judges required affinity and anti-affinity between pods, both ways:
// what the pod asks of others and what those that run ask of it.
func (r *room) podsRefuse(ctx context.Context, n *corev1.Node, p *corev1.Pod, out *place) string {
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil {
		for i := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			t := &a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[i]
			if !r.meets(ctx, n, p, t, out) {
				return "no pod that the pod wants to be beside is in its " + t.TopologyKey
			}
		}
	}
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		for i := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			t := &a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[i]
			for _, o := range r.pods {
				if r.sameDomain(n, o, t.TopologyKey) && r.covers(ctx, p, t, o, out) {
					return "a pod that the pod keeps away from is in its " + t.TopologyKey
				}
			}
		}
	}
	for _, o := range r.pods {
		if o.Spec.Affinity == nil || o.Spec.Affinity.PodAntiAffinity == nil {
			continue
		}
		for i := range o.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			t := &o.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[i]
			if r.sameDomain(n, o, t.TopologyKey) && r.covers(ctx, o, t, p, out) {
				return "a pod that keeps away from the pod is in its " + t.TopologyKey
			}
		}
	}
	return ""
}

// meets reports whether a pod that the term covers is in the node's domain. The
// first pod of a group that wants to be together finds nobody, and may go anywhere
// that has the key.
func (r *room) meets(ctx context.Context, n *corev1.Node, p *corev1.Pod, t *corev1.PodAffinityTerm, out *place) bool {
	if _, ok := n.Labels[t.TopologyKey]; !ok {
		return false
	}
	met := false
	for _, o := range r.pods {
		if !r.covers(ctx, p, t, o, out) {
			continue
		}
		if met = true; r.sameDomain(n, o, t.TopologyKey) {
			return true
		}
	}
	return !met && r.covers(ctx, p, t, p, out)
}

func (r *room) sameDomain(n *corev1.Node, o *corev1.Pod, key string) bool {
	v, ok := n.Labels[key]
	if !ok {
		return false
	}
	i := slices.IndexFunc(r.nodes, func(m *corev1.Node) bool { return m.Name == o.Spec.NodeName })
	return i >= 0 && r.nodes[i].Labels[key] == v
}

// covers reports whether a term of one pod covers another one.
func (r *room) covers(ctx context.Context, own *corev1.Pod, t *corev1.PodAffinityTerm, o *corev1.Pod, out *place) bool {
	if !r.inScope(ctx, own, t, o.Namespace, out) {
		return false
	}
	s, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		out.open = append(out.open, "a selector of pod affinity cannot be read: "+err.Error())
		return false
	}
	s = narrowed(s, own.Labels, t.MatchLabelKeys, true)
	s = narrowed(s, own.Labels, t.MismatchLabelKeys, false)
	return s.Matches(labels.Set(o.Labels))
}

// narrowed adds what a pod's own labels say for the keys.
func narrowed(s labels.Selector, own map[string]string, keys []string, same bool) labels.Selector {
	for _, k := range keys {
		v, ok := own[k]
		if !ok {
			continue
		}
		op := selection.In
		if !same {
			op = selection.NotIn
		}
		if q, err := labels.NewRequirement(k, op, []string{v}); err == nil { // labels of a pod are valid
			s = s.Add(*q)
		}
	}
	return s
}

func (r *room) inScope(ctx context.Context, own *corev1.Pod, t *corev1.PodAffinityTerm, namespace string, out *place) bool {
	if t.NamespaceSelector == nil && len(t.Namespaces) == 0 {
		return namespace == own.Namespace
	}
	if slices.Contains(t.Namespaces, namespace) {
		return true
	}
	if t.NamespaceSelector == nil {
		return false
	}
	s, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
	if err != nil {
		return false
	}
	if s.Empty() {
		return true
	}
	if r.spaces == nil {
		r.spaces = map[string]map[string]string{}
		list, err := r.c.List(ctx, "Namespace", "", "", "")
		if err != nil {
			out.open = append(out.open, "the labels of namespaces, which pod affinity asks for, cannot be read: "+err.Error())
		}
		for _, o := range list {
			r.spaces[o.GetName()] = o.GetLabels()
		}
	}
	return s.Matches(labels.Set(r.spaces[namespace]))
}

// spreadRefuses judges the topology spread constraints that keep a pod from being
// scheduled: one more pod in the node's domain may not exceed the emptiest domain by
// more than maxSkew.
func (r *room) spreadRefuses(n *corev1.Node, p *corev1.Pod) string {
	for i := range p.Spec.TopologySpreadConstraints {
		t := &p.Spec.TopologySpreadConstraints[i]
		if t.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		here, ok := n.Labels[t.TopologyKey]
		if !ok {
			return "it has no label " + t.TopologyKey + ", which the pod is spread over"
		}
		s, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
		if err != nil {
			return "the selector of a spread constraint cannot be read"
		}
		s = narrowed(s, p.Labels, t.MatchLabelKeys, true)
		domains := map[string]int{}
		domain := map[string]string{}
		for _, m := range r.nodes {
			v, ok := m.Labels[t.TopologyKey]
			if !ok || !counts(t, m, p) {
				continue
			}
			domains[v] += 0
			domain[m.Name] = v
		}
		for _, o := range r.pods {
			if v, ok := domain[o.Spec.NodeName]; ok && o.Namespace == p.Namespace && o.DeletionTimestamp == nil && s.Matches(labels.Set(o.Labels)) {
				domains[v]++
			}
		}
		if len(domains) == 0 {
			continue
		}
		least := slices.Min(slices.Collect(maps.Values(domains)))
		if t.MinDomains != nil && len(domains) < int(*t.MinDomains) {
			least = 0
		}
		self := 0
		if s.Matches(labels.Set(p.Labels)) {
			self = 1
		}
		if skew := domains[here] + self - least; skew > int(t.MaxSkew) {
			return fmt.Sprintf("the pod would be spread unevenly over %s (skew %d, at most %d)", t.TopologyKey, skew, t.MaxSkew)
		}
	}
	return ""
}

// counts reports whether a node counts for the spreading of a pod: by default those
// that its selector matches, tainted or not.
func counts(t *corev1.TopologySpreadConstraint, n *corev1.Node, p *corev1.Pod) bool {
	if t.NodeAffinityPolicy == nil || *t.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor {
		if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n); err != nil || !ok {
			return false
		}
	}
	return t.NodeTaintsPolicy == nil || *t.NodeTaintsPolicy != corev1.NodeInclusionPolicyHonor || taintRefuses(n, p) == ""
}
