package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/pattern"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// disrupted tells that a pod had to go for another one of higher priority
// (condition DisruptionTarget, Kubernetes 1.26, or the scheduler's event).
func (j *judge) disrupted(v *verdict, p *corev1.Pod, evs []source.Event) {
	said, at := "", time.Time{}
	if c := condition(p, corev1.DisruptionTarget); c != nil && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler {
		said, at = c.Message, c.LastTransitionTime.Time
	}
	if e, ok := has(evs, []string{"Preempted"}); ok {
		said, at = e.Message, e.Last
	}
	if said == "" {
		return
	}
	v.line("preempted: %s", said)
	v.history("kube.pod_preempted", fmt.Sprintf("Pod %s was preempted: %s", v.subject.Path(), said), at, params("by", said))
}

// removed reports a reason of a pod that was taken off its node, not one that
// failed: a controller makes another.
func removed(reason string) bool {
	return slices.Contains([]string{"Evicted", "Preempting", "Shutdown", "NodeShutdown", "Terminated", "NodeLost"}, reason)
}

// refused reports a reason with which the kubelet refuses a pod at admission
// (pkg/kubelet/lifecycle, cm and allocation, v1.37).
func refused(reason string) bool {
	if strings.HasPrefix(reason, "OutOf") {
		return true
	}
	return slices.Contains([]string{
		"UnexpectedAdmissionError", "TopologyAffinityError", "SMTAlignmentError", "NodeAffinity", "NodePorts", "NodeName", "NodeUnschedulable", "NodeTaint", "InvalidNodeInfo",
		"SysctlForbidden", "AppArmor", "PodOSNotSupported", "PodOSSelectorNodeLabelDoesNotMatch", "PodFeatureUnsupported", "PodLevelResourcesNotAdmittedReason", "InitContainerRestartPolicyForbidden", "SupplementalGroupsPolicyNotSupported",
	}, reason)
}

// failed judges a pod that ended: removed from its node, refused by the kubelet,
// past its deadline, or crashed.
func (j *judge) failed(ctx context.Context, v *verdict, p *corev1.Pod) {
	reason, msg := p.Status.Reason, p.Status.Message
	codes := exitCodes(p)
	symptom := func(what string) {
		v.symptom("kube.pod_failed", incident.Critical, fmt.Sprintf("Pod %s %s", v.subject.Path(), what), params("reason", cmp.Or(reason, "ContainerFailed"), "exit_code", codes))
	}
	if r, ok := disruption(p); ok && reason == "" && j.takenAway(ctx, v, p, r) {
		symptom("was ended from outside: " + r.reason)
		return
	}
	switch {
	case removed(reason):
		j.evicted(v, p, symptom)
		return
	case refused(reason):
		symptom("failed: " + reason)
		v.fault("kube.pod_admission_error", incident.Critical, 0.9, v.subject, fmt.Sprintf("the kubelet of %s refused pod %s: %s: %s", p.Spec.NodeName, v.subject.Path(), reason, msg), params("reason", reason, "message", cmp.Or(msg, reason)))
		return
	case reason == "DeadlineExceeded":
		symptom("failed: " + reason)
		deadline := "of its controller"
		if s := p.Spec.ActiveDeadlineSeconds; s != nil {
			deadline = (time.Duration(*s) * time.Second).String()
		}
		v.fault("kube.pod_deadline_exceeded", incident.Critical, 0.9, v.subject, fmt.Sprintf("pod %s ran past its active deadline %s: %s", v.subject.Path(), deadline, msg), params("deadline", deadline))
		return
	}
	symptom(strings.TrimSpace("ended in phase Failed " + reason))
	for i, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			j.ended(ctx, v, p, c, t, i < len(p.Status.InitContainerStatuses) && !restartable(p, c.Name))
		}
	}
}

func exitCodes(p *corev1.Pod) string {
	var out []string
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
			out = append(out, strconv.Itoa(int(t.ExitCode)))
		}
	}
	return strings.Join(out, ", ")
}

// The kubelet's words for evictions (pkg/kubelet/eviction, v1.37): the pod used
// more than it may, or the node ran short and the pod was the first to go.
var (
	overLimit = pattern.New(`exceeds the (?:total )?limit|exceeds its local ephemeral storage limit`)
	lowOn     = pattern.New(`low on resource: ([a-z-]+)`)
)

// evicted tells a pod that used too much local storage, and would again, from one
// that its node had no room for. A pod without a controller stays away.
func (j *judge) evicted(v *verdict, p *corev1.Pod, symptom func(string)) {
	reason, msg := p.Status.Reason, p.Status.Message
	v.line("removed: %s %s", reason, msg)
	if overLimit.MatchString(msg) {
		symptom("was evicted")
		v.fault("kube.ephemeral_storage_exceeded", incident.Critical, 0.93, v.subject, fmt.Sprintf("pod %s was evicted for the local storage it used: %s", v.subject.Path(), msg), params("message", msg))
		return
	}
	v.history("kube.pod_evicted", strings.TrimSpace(fmt.Sprintf("Pod %s was removed: %s %s", v.subject.Path(), reason, msg)), endOf(p), params("reason", reason, "node", p.Spec.NodeName))
	if metav1.GetControllerOf(p) != nil {
		return
	}
	symptom("was removed, and nothing makes it again")
	if m := lowOn.FindStringSubmatch(msg); m != nil && p.Spec.NodeName != "" {
		node := j.ref("", "Node", "", p.Spec.NodeName)
		v.edge(v.subject, graph.RunsOn, node)
		v.fault("kube.node_pressure", incident.Critical, 0.75, node, fmt.Sprintf("node %s was low on %s and evicted pod %s", p.Spec.NodeName, m[1], v.subject.Path()), params("condition", m[1], "message", msg))
		return
	}
	v.findings = slices.DeleteFunc(v.findings, func(f incident.Finding) bool { return f.Code == "kube.pod_evicted" })
	v.fault("kube.pod_evicted", incident.Warning, 0.75, v.subject, strings.TrimSpace(fmt.Sprintf("pod %s was taken off node %s (%s): %s", v.subject.Path(), p.Spec.NodeName, reason, msg)), params("reason", reason, "node", p.Spec.NodeName))
}

func endOf(p *corev1.Pod) time.Time {
	for _, c := range p.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil {
			return t.FinishedAt.Time
		}
	}
	return p.CreationTimestamp.Time
}
