package judge

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
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// removal is why a pod was or is being taken away, as a condition or the last
// events of the pod say.
type removal struct {
	reason, message, node string
	at                    time.Time
}

// removedReasons are the reasons of events with which somebody takes a pod away.
func removedReasons() []string {
	return []string{"DeviceTaintManagerEviction", "TaintManagerEviction", "Preempted", "Evicted", "NodeShutdown"}
}

// departed judges a pod that does not exist any more by its last events; it
// reports false when they do not say that somebody took it away.
func (j *judge) departed(ctx context.Context, namespace, name string) (*verdict, bool) {
	r := j.ref("", "Pod", namespace, name)
	evs := j.events(ctx, r, "")
	e, ok := has(evs, removedReasons())
	if !ok {
		return nil, false
	}
	v := newVerdict(r)
	v.state = "gone"
	for _, e := range limit(evs, 6) {
		v.line("event %s (%dx, %s ago): %s", e.Reason, max(e.Count, 1), j.ago(e.Last), e.Message)
	}
	v.symptom("kube.pod_gone", incident.Warning, fmt.Sprintf("Pod %s is gone since %s (%s)", r.Path(), j.ago(e.Last), e.Reason), params("reason", e.Reason))
	j.takenAway(ctx, v, nil, removal{reason: e.Reason, message: e.Message, node: nodeOf(evs), at: e.Last})
	return v, true
}

// nodeOf reads the node of a pod out of its events.
func nodeOf(evs []source.Event) string {
	for _, e := range evs {
		if m := regexp.MustCompile(`^Successfully assigned \S+ to (\S+)$`).FindStringSubmatch(e.Message); m != nil {
			return m[1]
		}
	}
	for _, e := range evs {
		if e.Host != "" {
			return e.Host
		}
	}
	return ""
}

// disruption reports the disruption that a pod's own condition tells of.
func disruption(p *corev1.Pod) (removal, bool) {
	c := condition(p, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue {
		return removal{}, false
	}
	return removal{reason: c.Reason, message: c.Message, node: p.Spec.NodeName, at: c.LastTransitionTime.Time}, true
}

// takenAway names who took a pod away. It reports false where only the fact is known.
func (j *judge) takenAway(ctx context.Context, v *verdict, p *corev1.Pod, r removal) bool {
	if r.node != "" {
		v.edge(v.subject, graph.RunsOn, j.ref("", "Node", "", r.node))
	}
	switch r.reason {
	case "DeviceTaintManagerEviction", "DeletionByDeviceTaintManager":
		return j.taintedAway(ctx, v, p, r)
	case "Preempted", "PreemptionByScheduler":
		by := j.preemptor(ctx, r.message)
		where := ""
		if r.node != "" {
			where = " on node " + r.node
		}
		v.fault("kube.pod_preempted", incident.Warning, 0.85, v.subject, fmt.Sprintf("pod %s was preempted%s %s ago by %s", v.subject.Path(), where, j.ago(r.at), firstOf(by, "a pod of higher priority")), params("by", by, "node", r.node))
		return true
	case "Evicted", "TerminationByKubelet":
		v.fault("kube.pod_evicted", incident.Warning, 0.8, v.subject, fmt.Sprintf("the kubelet evicted pod %s %s ago: %s", v.subject.Path(), j.ago(r.at), r.message), params("reason", "Evicted", "node", r.node))
		return true
	}
	return false
}

// preemptor names the pod behind "Preempted by pod <uid> on node <name>".
func (j *judge) preemptor(ctx context.Context, message string) string {
	m := regexp.MustCompile(`(?:Preempted by|preempting to accommodate) (?:a |pod )?(\S+)`).FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	who := strings.Trim(m[1], `"',.`)
	if strings.Contains(who, "/") {
		return "pod " + who
	}
	pods, err := j.src.Pods(ctx, "")
	if err != nil {
		return ""
	}
	for _, p := range pods {
		if string(p.UID) == who {
			class := ""
			if p.Spec.PriorityClassName != "" {
				class = ", PriorityClass " + p.Spec.PriorityClassName
			}
			prio := int32(0)
			if p.Spec.Priority != nil {
				prio = *p.Spec.Priority
			}
			return fmt.Sprintf("pod %s/%s (priority %d%s)", p.Namespace, p.Name, prio, class)
		}
	}
	return ""
}

// taintedAway finds the DeviceTaintRule whose NoExecute taint evicted a pod: one
// that was there by then, and that selects the pod's devices or its node's pool.
func (j *judge) taintedAway(ctx context.Context, v *verdict, p *corev1.Pod, r removal) bool {
	rules, err := j.src.List(ctx, "devicetaintrules.resource.k8s.io", "", selectors(""))
	if err != nil {
		return false
	}
	var best *unstructured.Unstructured
	for _, u := range rules {
		effect, _, _ := unstructured.NestedString(u.Object, "spec", "taint", "effect")
		if effect != "NoExecute" || u.GetCreationTimestamp().After(r.at.Add(time.Minute)) || !j.selects(ctx, u, p, r.node) {
			continue
		}
		if best == nil || u.GetCreationTimestamp().After(best.GetCreationTimestamp().Time) {
			best = u
		}
	}
	if best == nil {
		return false
	}
	str := func(path ...string) string { s, _, _ := unstructured.NestedString(best.Object, path...); return s }
	taint := str("spec", "taint", "key")
	if x := str("spec", "taint", "value"); x != "" {
		taint += "=" + x
	}
	taint += ":NoExecute"
	to := j.ref("resource.k8s.io", "DeviceTaintRule", "", best.GetName())
	var parts []string
	for _, k := range []string{"driver", "pool", "device"} {
		if x := str("spec", "deviceSelector", k); x != "" {
			parts = append(parts, k+" "+x)
		}
	}
	what := firstOf(strings.Join(parts, ", "), "every device")
	v.line("%s taints %s with %s since %s", to, what, taint, j.ago(best.GetCreationTimestamp().Time))
	v.edge(v.subject, graph.TaintedBy, to)
	v.fault("dra.taint_eviction", incident.Critical, 0.9, to, fmt.Sprintf("%s taints %s with %s since %s, which evicted pod %s %s ago", to, what, taint, j.ago(best.GetCreationTimestamp().Time), v.subject.Path(), j.ago(r.at)),
		params("rule", best.GetName(), "device", what, "taint", taint))
	return true
}

// selects reports whether a rule can mean a device of the pod. Without the pod's
// claims its node has to do: drivers name their pools after nodes.
func (j *judge) selects(ctx context.Context, rule *unstructured.Unstructured, p *corev1.Pod, node string) bool {
	sel, ok, _ := unstructured.NestedStringMap(rule.Object, "spec", "deviceSelector")
	if !ok {
		return false
	}
	if p != nil {
		for _, s := range p.Status.ResourceClaimStatuses {
			if s.ResourceClaimName == nil {
				continue
			}
			c, err := j.src.Get(ctx, j.ref("resource.k8s.io", "ResourceClaim", p.Namespace, *s.ResourceClaimName))
			if err != nil {
				continue
			}
			results, _, _ := unstructured.NestedSlice(c.Object, "status", "allocation", "devices", "results")
			if len(results) == 0 {
				continue
			}
			return slices.ContainsFunc(results, func(x any) bool {
				m, _ := x.(map[string]any)
				for k, want := range sel {
					if m[k] != want {
						return false
					}
				}
				return true
			})
		}
	}
	return sel["pool"] == "" || sel["pool"] == node
}

// overcome tells of trouble that a pod has behind it: it is ready, and not long ago
// it waited for a node, a volume, an image or a device.
func (j *judge) overcome(v *verdict, p *corev1.Pod, evs []source.Event) {
	if !ready(p) || len(abnormal(v.findings)) > 0 {
		return
	}
	codes := map[string]string{"FailedScheduling": "kube.pod_pending", "FailedMount": "kube.volume_mount_failed", "FailedAttachVolume": "kube.volume_attach_failed", "FailedCreatePodSandBox": "kube.sandbox_failed", "FailedPrepareDynamicResources": "dra.prepare_failed", "Failed": "kube.image_pull_failed"}
	for _, e := range evs {
		code := codes[e.Reason]
		if code == "" || !e.Warning() || e.Count < 2 || e.Last.Sub(e.First) < 2*settle || e.Reason == "Failed" && !containsAny(e.Message, "pull") {
			continue
		}
		v.line("was in trouble until %s ago: %s", j.ago(e.Last), e.Message)
		v.history(code, fmt.Sprintf("pod %s was held up for %s until %s ago, and is ready since: %s", v.subject.Path(), j.span(e.Last.Sub(e.First)), j.ago(e.Last), e.Message), e.Last, params("reason", e.Reason))
		return
	}
}

func (j *judge) span(d time.Duration) string { return j.ago(j.now().Add(-d)) }

// lately says that a pod of the same controller was preempted not long ago:
// the one that waits now stands in for it.
func (j *judge) lately(ctx context.Context, p *corev1.Pod) string {
	o, ok := j.owner(p)
	if !ok {
		return ""
	}
	evs, err := j.src.Events(ctx, p.Namespace, incident.Ref{Kind: "Pod", Namespace: p.Namespace})
	if err != nil {
		return ""
	}
	for _, e := range evs {
		if e.Reason == "Preempted" && strings.HasPrefix(e.Involved.Name, o.Name+"-") && j.now().Sub(e.Last) < 24*recent {
			return fmt.Sprintf("; pod %s of the same %s was preempted %s ago by %s", e.Involved.Name, o.Kind, j.ago(e.Last), firstOf(j.preemptor(ctx, e.Message), "a pod of higher priority"))
		}
	}
	return ""
}

// occupants lists who has a scarce resource on the nodes that would fit
// otherwise, the largest share first.
func occupants(nodes []*corev1.Node, pods []*corev1.Pod, name corev1.ResourceName) string {
	on := map[string]bool{}
	for _, n := range nodes {
		on[n.Name] = true
	}
	type share struct {
		pod *corev1.Pod
		n   int64
	}
	var all []share
	for _, p := range pods {
		if !on[p.Spec.NodeName] || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		n := int64(0)
		for _, c := range p.Spec.Containers {
			q := c.Resources.Requests[name]
			if q.IsZero() {
				q = c.Resources.Limits[name]
			}
			n += q.Value()
		}
		if n > 0 {
			all = append(all, share{p, n})
		}
	}
	slices.SortStableFunc(all, func(a, b share) int {
		if a.n != b.n {
			return int(b.n - a.n)
		}
		return strings.Compare(a.pod.Namespace+"/"+a.pod.Name, b.pod.Namespace+"/"+b.pod.Name)
	})
	if len(all) == 0 {
		return ""
	}
	parts := make([]string, 0, 4)
	for _, s := range limit(all, 3) {
		parts = append(parts, fmt.Sprintf("%s/%s (%d on %s)", s.pod.Namespace, s.pod.Name, s.n, s.pod.Spec.NodeName))
	}
	if len(all) > 3 {
		parts = append(parts, fmt.Sprintf("and %d more pods", len(all)-3))
	}
	return "; held by " + strings.Join(parts, ", ")
}
