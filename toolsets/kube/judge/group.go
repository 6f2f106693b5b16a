package judge

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// groupLabels are the labels by which controllers mark the pods of one group
// that live and die together; those of one entry count together.
func groupLabels() [][]string {
	return [][]string{
		{"leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/group-index"},
		{"ray.io/cluster"},
		{"jobset.sigs.k8s.io/jobset-name"},
		{"training.kubeflow.org/job-name"},
		{"trainer.kubeflow.org/trainjob-name"},
		{"volcano.sh/job-name"},
		{"grove.io/podgang"},
		{"nvidia.com/dynamo-graph-deployment-name"},
		{"batch.kubernetes.io/job-name"},
		{"job-name"},
	}
}

// peers ties a pod that complains of its peers to those of its group that
// failed in their own right: the one that complains is a victim.
func (j *judge) peers(ctx context.Context, v *verdict, p *corev1.Pod, line string) {
	if !victim.MatchString(line) {
		return
	}
	for _, keys := range groupLabels() {
		set := labels.Set{}
		for _, k := range keys {
			if x, ok := p.Labels[k]; ok {
				set[k] = x
			}
		}
		if len(set) != len(keys) {
			continue
		}
		all, err := j.src.PodsMatching(ctx, p.Namespace, set.AsSelector())
		if err != nil {
			return
		}
		culprits := slices.DeleteFunc(slices.Clone(all), func(q *corev1.Pod) bool { return q.UID == p.UID && q.Name == p.Name || !j.ownFailure(ctx, q) })
		slices.SortStableFunc(culprits, func(a, b *corev1.Pod) int { return failedAt(a).Compare(failedAt(b)) })
		for _, q := range limit(culprits, worstPods) {
			v.line("its peer %s: %s", q.Name, podState(q))
			v.edge(v.subject, graph.GroupedWith, j.pod(q))
		}
		return
	}
}

// ownFailure reports whether a pod of a group is in trouble that is not the
// trouble of its peers: it never started, or ended without blaming others.
func (j *judge) ownFailure(ctx context.Context, q *corev1.Pod) bool {
	if ready(q) || q.DeletionTimestamp != nil || q.Status.Phase == corev1.PodSucceeded {
		return false
	}
	if q.Spec.NodeName == "" {
		return true
	}
	for _, c := range slices.Concat(q.Status.InitContainerStatuses, q.Status.ContainerStatuses) {
		t := c.State.Terminated
		if t == nil {
			t = c.LastTerminationState.Terminated
		}
		switch {
		case c.State.Waiting != nil && !quiet(c.State.Waiting.Reason) && c.State.Waiting.Reason != "CrashLoopBackOff":
			return true
		case t == nil || t.ExitCode == 0:
		case t.Reason == "OOMKilled":
			return true
		default:
			if l := j.decisive(ctx, q, c.Name, c.State.Terminated == nil); l.weight > 1 && !victim.MatchString(l.line) {
				return true
			}
		}
	}
	return false
}

// failedAt is when a container of the pod last failed; now would be too late
// for what never started.
func failedAt(p *corev1.Pod) time.Time {
	var at time.Time
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		for _, t := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if t != nil && t.ExitCode != 0 && (at.IsZero() || t.FinishedAt.Time.Before(at)) {
				at = t.FinishedAt.Time
			}
		}
	}
	if at.IsZero() {
		return p.CreationTimestamp.Time
	}
	return at
}
