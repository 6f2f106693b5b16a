package judge

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// drainTool tells what would keep the pods of a node from being evicted: budgets
// that allow no disruption, and pods that are leaving and do not go.
func (j *judge) drainTool(ctx context.Context, in NodeIn) (tool.Output[Judged], error) {
	n, err := j.src.Node(ctx, in.Name)
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	pods, err := j.src.PodsOnNode(ctx, in.Name)
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	v := newVerdict(j.ref("", "Node", "", n.Name))
	movable := 0
	held := map[incident.Ref]bool{}
	for _, p := range pods {
		if o := metav1.GetControllerOf(p); o != nil && o.Kind == "DaemonSet" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || p.Annotations[corev1.MirrorPodAnnotationKey] != "" {
			continue
		}
		movable++
		if p.DeletionTimestamp != nil && len(p.Finalizers) > 0 {
			j.terminating(v, p, j.events(ctx, j.pod(p), string(p.UID)))
		}
		budgets, err := j.src.PDBs(ctx, p.Namespace)
		if err != nil {
			v.line("budgets of namespace %s cannot be read: %s", p.Namespace, tool.UserText(err))
			continue
		}
		for _, b := range budgets {
			sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil || !sel.Matches(labels.Set(p.Labels)) || b.Status.DisruptionsAllowed > 0 {
				continue
			}
			to := j.ref("policy", "PodDisruptionBudget", b.Namespace, b.Name)
			v.line("pod %s/%s is under %s, which allows no disruption", p.Namespace, p.Name, to)
			if held[to] {
				continue
			}
			held[to] = true
			s := b.Status
			if !n.Spec.Unschedulable || nodeReady(n) != corev1.ConditionTrue {
				// Nobody drains it, or it has worse troubles: the budget is only to know of.
				v.context("kube.pdb_blocks_eviction", fmt.Sprintf("%s would allow no eviction of pod %s/%s", to, p.Namespace, p.Name), nil)
				continue
			}
			v.edge(v.subject, graph.BlockedBy, to)
			v.fault("kube.pdb_blocks_eviction", incident.Critical, 0.9, to, fmt.Sprintf("%s allows no eviction of pod %s/%s from node %s: %d of its %d pods are healthy, %d have to be", to, p.Namespace, p.Name, n.Name, s.CurrentHealthy, s.ExpectedPods, s.DesiredHealthy),
				params("allowed", "0", "healthy", fmt.Sprint(s.CurrentHealthy), "desired", fmt.Sprint(s.DesiredHealthy)))
		}
	}
	v.state = fmt.Sprintf("%d pods to move, %d budgets in the way", movable, len(held))
	return v.output(), nil
}
