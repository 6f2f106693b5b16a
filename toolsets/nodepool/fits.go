package nodepool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// fits finds the pools whose nodes would take a pod if they were empty: by labels,
// taints and size. A pool without a node fits only a pod that names it.
func (l *look) fits(ctx context.Context, p *corev1.Pod, out *Growth) []*pool {
	var fit []*pool
	l.reach(ctx, p)
	for _, q := range l.w.pools {
		v := FitView{Pool: q.name, Provider: q.provider, Nodes: len(q.nodes), Target: -1, Max: -1}
		if q.group != nil {
			v.Target, v.Max, v.ScaleUp = q.group.target, q.group.max, q.group.scaleUp
		} else if q.cloud != nil {
			v.Target, v.Max = q.cloud.Count, q.cloud.Max
		}
		why := "it has no node to judge by"
		switch {
		case len(q.nodes) > 0:
			why = l.refuses(q, p)
		case named(q, p):
			why = "" // empty, and the pod asks for it by name
		}
		v.Fits, v.Why = why == "", why
		if v.Fits {
			fit = append(fit, q)
		}
		out.Fits = append(out.Fits, v)
		line := "pool " + q.name + " (" + q.provider + ", " + fmt.Sprint(len(q.nodes)) + " nodes"
		if v.Max >= 0 {
			line += fmt.Sprintf(", target %d, max %d", v.Target, v.Max)
		}
		if v.ScaleUp != "" && v.ScaleUp != "NoActivity" {
			line += ", scale-up " + v.ScaleUp
		}
		line += "): an empty node of it would fit"
		if why != "" {
			line = strings.TrimSuffix(line, "an empty node of it would fit") + why
		}
		l.v.line("%s", line)
	}
	return fit
}

// bound is a volume that can be reached from some nodes only.
type bound struct {
	name     string
	selector *nodeaffinity.NodeSelector
}

// reach reads where the volumes of a pod that are there already can be reached from: a
// new node elsewhere would not help.
func (l *look) reach(ctx context.Context, p *corev1.Pod) {
	for _, v := range p.Spec.Volumes {
		name := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			name = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			name = p.Name + "-" + v.Name
		default:
			continue
		}
		c, err := l.t.reads.Claim(ctx, p.Namespace, name)
		if err != nil || c.Spec.VolumeName == "" {
			continue // a claim that is not bound ties the pod to no place
		}
		pv, err := l.t.reads.Volume(ctx, c.Spec.VolumeName)
		if err != nil {
			l.v.gap("volume "+c.Spec.VolumeName, err)
			continue
		}
		if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
			continue
		}
		if s, err := nodeaffinity.NewNodeSelector(pv.Spec.NodeAffinity.Required); err == nil {
			l.volumes = append(l.volumes, bound{pv.Name, s})
		}
	}
}

// named reports whether a pod asks for a pool by the label of its provider.
func named(q *pool, p *corev1.Pod) bool {
	return slices.ContainsFunc(keyed(), func(k struct{ key, provider string }) bool { return p.Spec.NodeSelector[k.key] == q.name })
}

// refuses says why an empty node of a pool would not take a pod; empty if one would.
func (l *look) refuses(q *pool, p *corev1.Pod) string {
	var why string
	for _, n := range q.nodes {
		one := l.nodeRefuses(q, n, p)
		if one == "" {
			return ""
		}
		if why == "" {
			why = one
		}
	}
	return why
}

func (l *look) nodeRefuses(q *pool, n *corev1.Node, p *corev1.Pod) string {
	for _, t := range n.Spec.Taints {
		if t.Effect == corev1.TaintEffectPreferNoSchedule || passing(t.Key) {
			continue
		}
		if !slices.ContainsFunc(p.Spec.Tolerations, func(x corev1.Toleration) bool { return tolerates(x, t) }) {
			return "the pod does not tolerate " + taintText(t)
		}
	}
	// A new node has another name and host name; required affinity to the old ones
	// is no way out.
	fresh := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: maps.Clone(n.Labels)}}
	delete(fresh.Labels, corev1.LabelHostname)
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(fresh); err == nil && !ok {
		return "its labels do not match the pod's node selector or affinity"
	}
	for name, want := range requests(p) {
		have, ok := n.Status.Allocatable[name]
		if !ok {
			return "its nodes offer no " + string(name)
		}
		if have.Cmp(want) < 0 {
			return fmt.Sprintf("its nodes have %s %s and the pod asks for %s", have.String(), name, want.String())
		}
	}
	for _, v := range l.volumes {
		if !v.selector.Match(fresh) {
			return "the pod's volume " + v.name + " cannot be reached from its nodes"
		}
	}
	if len(p.Spec.ResourceClaims) > 0 && !l.claimsFit(q, p) {
		return "no pod with claims of the same templates runs on it, so whether its devices fit the claims is not known"
	}
	return ""
}

// passing are taints that stand for a moment of a node, not for its pool.
func passing(key string) bool {
	return strings.HasPrefix(key, "node.kubernetes.io/") || strings.HasPrefix(key, "ToBeDeletedByClusterAutoscaler") || strings.HasPrefix(key, "DeletionCandidateOfClusterAutoscaler") ||
		key == "karpenter.sh/disrupted" || key == "karpenter.sh/unregistered" || key == "node.cloudprovider.kubernetes.io/uninitialized" || key == "node.cluster.x-k8s.io/uninitialized"
}

// claimsFit reports whether a pod with claims of the same templates, or with the very
// same claims, runs in the pool: then a node of it has the devices.
func (l *look) claimsFit(q *pool, p *corev1.Pod) bool {
	want := templates(p)
	return slices.ContainsFunc(l.w.pods(), func(o *corev1.Pod) bool {
		return o.Namespace == p.Namespace && o.Spec.NodeName != "" && l.w.byNode[o.Spec.NodeName] == q && slices.Equal(templates(o), want)
	})
}

func templates(p *corev1.Pod) []string {
	var out []string
	for _, c := range p.Spec.ResourceClaims {
		switch {
		case c.ResourceClaimTemplateName != nil:
			out = append(out, "template "+*c.ResourceClaimTemplateName)
		case c.ResourceClaimName != nil:
			out = append(out, "claim "+*c.ResourceClaimName)
		}
	}
	slices.Sort(out)
	return out
}

// requests is what a pod takes from its node: its containers together, or its
// greediest init container if that takes more.
func requests(p *corev1.Pod) map[corev1.ResourceName]resource.Quantity {
	out := map[corev1.ResourceName]resource.Quantity{}
	for _, c := range p.Spec.Containers {
		for name, q := range c.Resources.Requests {
			sum := out[name]
			sum.Add(q)
			out[name] = sum
		}
	}
	for _, c := range p.Spec.InitContainers {
		for name, q := range c.Resources.Requests {
			if have := out[name]; have.Cmp(q) < 0 {
				out[name] = q
			}
		}
	}
	return out
}

// tolerates follows the rules of core/v1 for one toleration and one taint.
func tolerates(x corev1.Toleration, t corev1.Taint) bool {
	if x.Effect != "" && x.Effect != t.Effect || x.Key != "" && x.Key != t.Key {
		return false
	}
	switch x.Operator {
	case corev1.TolerationOpExists:
		return true
	case "", corev1.TolerationOpEqual:
		return x.Key != "" && x.Value == t.Value
	}
	return false
}
