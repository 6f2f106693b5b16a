package serving

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// Labels and annotations of LeaderWorkerSet (sigs.k8s.io/lws api/leaderworkerset/v1).
const (
	lwsGroup    = "leaderworkerset.sigs.k8s.io/group-index"
	lwsWorker   = "leaderworkerset.sigs.k8s.io/worker-index"
	lwsTopology = "leaderworkerset.sigs.k8s.io/exclusive-topology"
)

// leaderWorkerSet judges the groups of pods that live and die together: which pod
// failed first, and whether a group can start at all.
func (t *Toolset) leaderWorkerSet(ctx context.Context, v *verdict, u *unstructured.Unstructured, pods []*corev1.Pod) {
	size, _ := number(u.Object, "spec.leaderWorkerTemplate.size")
	groups := map[string][]*corev1.Pod{}
	for _, p := range pods {
		groups[p.Labels[lwsGroup]] = append(groups[p.Labels[lwsGroup]], p)
	}
	for _, index := range sortedKeys(groups) {
		all := groups[index]
		slices.SortFunc(all, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
		if up := readyCount(all); up == len(all) && int64(up) == size {
			continue
		}
		v.line("group %s: %d of %d pods exist, %d ready", index, len(all), size, readyCount(all))
		t.firstFailing(v, all)
		if at(u.Object, "spec.startupPolicy") == "LeaderReady" {
			t.startsNever(ctx, v, all, size)
		}
		if key := u.GetAnnotations()[lwsTopology]; key != "" {
			if n := len(slices.DeleteFunc(slices.Clone(all), func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })); n > 0 {
				v.context("serving.exclusive_topology", fmt.Sprintf("group %s of %s must have a domain of %s to itself; %d of its pods wait", index, v.subject, key, n), params("key", key, "group", index))
			}
		}
	}
}

// failing is when a pod got into trouble of its own: a container that ended with
// an error, or that it never got a node. Zero if it is not in trouble.
func failing(p *corev1.Pod) time.Time {
	var at time.Time
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		for _, s := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if s != nil && s.ExitCode != 0 && (at.IsZero() || s.FinishedAt.Time.Before(at)) {
				at = s.FinishedAt.Time
			}
		}
		if w := c.State.Waiting; at.IsZero() && w != nil && (strings.Contains(w.Reason, "Err") || strings.Contains(w.Reason, "BackOff")) {
			at = p.CreationTimestamp.Time
		}
	}
	if at.IsZero() && p.Spec.NodeName == "" {
		at = p.CreationTimestamp.Time
	}
	return at
}

// firstFailing ties the other pods of a group to the one that failed first: they
// are taken down with it, or wait for it.
func (t *Toolset) firstFailing(v *verdict, all []*corev1.Pod) {
	var culprit *corev1.Pod
	for _, p := range all {
		if at := failing(p); !at.IsZero() && !ready(p) && (culprit == nil || at.Before(failing(culprit))) {
			culprit = p
		}
	}
	if culprit == nil {
		return
	}
	v.line("pod %s is in trouble first: %s", culprit.Name, podWord(culprit))
	for _, p := range all {
		if p != culprit && !ready(p) {
			v.edge(t.podRef(p), graph.GroupedWith, t.podRef(culprit))
		}
	}
}

// awaits are the words of a leader that waits for its workers.
func awaits() *regexp.Regexp {
	return regexp.MustCompile(`(?i)waiting for .{0,60}(?:workers?|nodes?|ranks?|peers?)|(?:workers?|nodes?) .{0,30}(?:not ready|not connected|joined)|placement group .{0,60}(?:pending|cannot be scheduled|not ready)`)
}

// startsNever finds the group whose leader becomes ready only with workers that
// are made only once it is ready.
func (t *Toolset) startsNever(ctx context.Context, v *verdict, all []*corev1.Pod, size int64) {
	if int64(len(all)) >= size {
		return
	}
	for _, p := range all {
		if p.Labels[lwsWorker] != "0" || ready(p) || p.Status.Phase != corev1.PodRunning || t.now().Sub(p.CreationTimestamp.Time) < settle {
			continue
		}
		for _, c := range p.Spec.Containers {
			log, err := t.logs.Tail(ctx, p.Namespace, p.Name, c.Name, false, 200)
			if err != nil {
				continue
			}
			if line := lastMatch(log, awaits()); line != "" {
				v.line("leader %s says: %s", p.Name, line)
				v.fault("serving.startup_deadlock", 0.93, v.subject, fmt.Sprintf("%s can never start: with startupPolicy LeaderReady its workers are made when leader %s is ready, and that waits for them: %s", v.subject, p.Name, line), params("leader", p.Name, "line", line))
				return
			}
		}
	}
}

// lastMatch gives the last line that matches, shortened and without its time.
func lastMatch(log string, re *regexp.Regexp) string {
	found := ""
	for line := range strings.Lines(log) {
		if re.MatchString(line) {
			found = line
		}
	}
	return oneLine(bare(found), 300)
}
