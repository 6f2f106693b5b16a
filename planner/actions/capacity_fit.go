package actions

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
	v1helper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// refuses says why a node does not take a pod, in the order in which the scheduler
// asks; empty if it takes it, its devices of DRA apart. What cannot be judged goes
// into the answer's open list.
func (r *room) refuses(ctx context.Context, n *corev1.Node, p *corev1.Pod, out *place) string {
	if why := taintRefuses(n, p); why != "" {
		return why
	}
	if !nodeReady(n) {
		return "it is not ready"
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n); err != nil {
		out.open = append(out.open, "the pod's node affinity cannot be read: "+err.Error())
	} else if !ok {
		return "node selector or affinity" + selected(p)
	}
	if why := r.full(n, p); why != "" {
		return why
	}
	for _, port := range hostPorts(p) {
		if who := r.on[n.Name].ports[port]; who != "" {
			return fmt.Sprintf("host port %s is taken", port)
		}
	}
	if why := r.volumeRefuses(ctx, n, p, out); why != "" {
		return why
	}
	if why := r.podsRefuse(ctx, n, p, out); why != "" {
		return why
	}
	return r.spreadRefuses(n, p)
}

func taintRefuses(n *corev1.Node, p *corev1.Pod) string {
	unschedulable := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if n.Spec.Unschedulable && !v1helper.TolerationsTolerateTaint(klog.Background(), p.Spec.Tolerations, &unschedulable, true) {
		return "it is cordoned"
	}
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		// The taint of a cordoned node follows its field, which an earlier write may have changed.
		if t.Effect == corev1.TaintEffectPreferNoSchedule || t.Key == unschedulable.Key {
			continue
		}
		if !v1helper.TolerationsTolerateTaint(klog.Background(), p.Spec.Tolerations, t, true) {
			return "taint " + t.ToString()
		}
	}
	return ""
}

func nodeReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// selected names the labels that a pod asks its node for.
func selected(p *corev1.Pod) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(p.Spec.NodeSelector)) {
		parts = append(parts, k+"="+p.Spec.NodeSelector[k])
	}
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, e := range slices.Concat(term.MatchExpressions, term.MatchFields) {
				parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, ","))))
			}
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " " + strings.Join(parts, ", ")
}

// full says what a node has too little of. Extended resources that a DeviceClass
// answers for are left to the allocator.
func (r *room) full(n *corev1.Node, p *corev1.Pod) string {
	l := r.on[n.Name]
	if most, ok := n.Status.Allocatable[corev1.ResourcePods]; ok && l.pods+1 > most.Value() {
		return fmt.Sprintf("it has %d of at most %d pods", l.pods, most.Value())
	}
	want := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	for _, name := range slices.Sorted(maps.Keys(want)) {
		q := want[name]
		if q.IsZero() {
			continue
		}
		have, offered := n.Status.Allocatable[name]
		if (!offered || have.IsZero()) && r.dra.answers(name) {
			continue
		}
		if !offered {
			return "it has no " + string(name)
		}
		left := have.DeepCopy()
		left.Sub(l.used[name])
		if left.Cmp(q) < 0 {
			return fmt.Sprintf("%s: %s asked, %s of %s free", name, q.String(), left.String(), have.String())
		}
	}
	return ""
}

func hostPorts(p *corev1.Pod) []string {
	var out []string
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, port := range c.Ports {
			if port.HostPort > 0 {
				out = append(out, fmt.Sprintf("%d/%s", port.HostPort, cmp.Or(port.Protocol, corev1.ProtocolTCP)))
			}
		}
	}
	return out
}

// reachable is from where a volume can be reached; err says that this is not known.
type reachable struct {
	name     string
	selector *nodeaffinity.NodeSelector
	err      error
}

func (r *room) volumeRefuses(ctx context.Context, n *corev1.Node, p *corev1.Pod, out *place) string {
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim == nil { // the volume of an ephemeral one is made anew
			continue
		}
		key := types.NamespacedName{Namespace: p.Namespace, Name: v.PersistentVolumeClaim.ClaimName}
		at, ok := r.volumes[key]
		if !ok {
			at = r.reach(ctx, key)
			r.volumes[key] = at
		}
		if at.err != nil {
			out.open = append(out.open, fmt.Sprintf("where volume %s can be reached from: %v", key.Name, at.err))
		}
		if at.selector != nil && !at.selector.Match(n) {
			return "volume " + at.name + " cannot be reached from it"
		}
	}
	return ""
}

func (r *room) reach(ctx context.Context, key types.NamespacedName) reachable {
	o, err := r.c.Get(ctx, "PersistentVolumeClaim", key.Namespace, key.Name)
	if err != nil {
		if apierrors.IsNotFound(err) { // a StatefulSet makes it
			return reachable{}
		}
		return reachable{err: err}
	}
	c, err := as[corev1.PersistentVolumeClaim](o)
	if err != nil || c.Spec.VolumeName == "" { // not bound: it ties the pod to no place
		return reachable{err: err}
	}
	if o, err = r.c.Get(ctx, "PersistentVolume", "", c.Spec.VolumeName); err != nil {
		return reachable{name: c.Spec.VolumeName, err: err}
	}
	pv, err := as[corev1.PersistentVolume](o)
	if err != nil || pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return reachable{name: c.Spec.VolumeName, err: err}
	}
	s, err := nodeaffinity.NewNodeSelector(pv.Spec.NodeAffinity.Required)
	return reachable{name: pv.Name, selector: s, err: err}
}
