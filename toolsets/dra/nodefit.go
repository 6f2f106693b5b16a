package dra

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	v1helper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// nodeRefusal says why a node refuses the pod for reasons outside DRA that can be
// told from the node and the pod alone: unschedulable, taints, nodeName,
// nodeSelector and affinity. All reasons are given, joined by "and": to take away
// one of several changes nothing. Room for CPU and memory needs the list of pods
// and is judged by kube_scheduling.
func nodeRefusal(pod *corev1.Pod, n *corev1.Node) string {
	if pod.Spec.NodeName != "" && pod.Spec.NodeName != n.Name {
		return "pod names node " + pod.Spec.NodeName
	}
	var why []string
	unschedulable := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if n.Spec.Unschedulable && !v1helper.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, &unschedulable, true) {
		why = append(why, "unschedulable")
	}
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if n.Spec.Unschedulable && t.Key == unschedulable.Key || t.Effect == corev1.TaintEffectPreferNoSchedule {
			continue // the first is the same thing once more, the second only a wish
		}
		if !v1helper.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, t, true) {
			why = append(why, "node taint "+t.ToString())
		}
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n); err != nil {
		why = append(why, "node affinity cannot be read: "+err.Error())
	} else if !ok {
		why = append(why, "node selector or affinity"+wantedLabels(pod))
	}
	return strings.Join(why, " and ")
}

func wantedLabels(pod *corev1.Pod) string {
	var parts []string
	for k, v := range pod.Spec.NodeSelector {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			for _, e := range slices.Concat(term.MatchExpressions, term.MatchFields) {
				parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, ","))))
			}
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " " + strings.Join(parts, "; ")
}
