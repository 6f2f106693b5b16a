package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// PodIn names a pod.
type PodIn struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// settle is how long a pod may take for what needs a moment.
const settle = 30 * time.Second

func (j *judge) podTool(ctx context.Context, in PodIn) (tool.Output[Judged], error) {
	p, err := j.src.Pod(ctx, in.Namespace, in.Name)
	if missing(err) {
		if v, ok := j.departed(ctx, in.Namespace, in.Name); ok {
			return v.output(), nil
		}
	}
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	v := j.judgePod(ctx, p)
	j.fallback(ctx, v, p)
	return v.output(), nil
}

// above adds what controls a pod's controller: the Deployment of a ReplicaSet, the
// CronJob of a Job. A change to either of the lower two would be undone.
func (j *judge) above(ctx context.Context, v *verdict, owner incident.Ref) {
	var o metav1.Object
	switch {
	case owner.Group == "apps" && owner.Kind == "ReplicaSet":
		if r, err := j.src.ReplicaSet(ctx, owner.Namespace, owner.Name); err == nil {
			o = r
		}
	case owner.Group == "batch" && owner.Kind == "Job":
		if b, err := j.src.Job(ctx, owner.Namespace, owner.Name); err == nil {
			o = b
		}
	}
	if o == nil {
		return
	}
	if up, ok := j.owner(o); ok {
		v.edge(owner, graph.Controlled, up)
	}
}

// judgePod judges one pod from its status, its events, what it refers to and,
// when a container crashed, the end of its log.
func (j *judge) judgePod(ctx context.Context, p *corev1.Pod) *verdict {
	v := newVerdict(j.pod(p))
	v.state = podState(p)
	v.fact("node", p.Spec.NodeName)
	v.fact("phase", string(p.Status.Phase))
	if p.Spec.NodeName != "" {
		v.edge(v.subject, graph.RunsOn, j.ref("", "Node", "", p.Spec.NodeName))
	}
	if o, ok := j.owner(p); ok {
		v.edge(v.subject, graph.Controlled, o)
		v.fact("owner", o.String())
		j.above(ctx, v, o)
	}
	evs := j.events(ctx, v.subject, string(p.UID))
	for _, e := range limit(evs, 6) {
		v.line("event %s (%dx, %s ago): %s", e.Reason, max(e.Count, 1), j.ago(e.Last), e.Message)
	}
	if p.Status.Phase == corev1.PodSucceeded {
		return v
	}
	j.podClaims(v, p)
	if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed {
		j.disrupted(v, p, evs)
	}
	switch {
	case p.DeletionTimestamp != nil:
		if r, ok := disruption(p); ok {
			j.takenAway(ctx, v, p, r)
		}
		j.terminating(v, p, evs)
		return v
	case p.Status.Phase == corev1.PodFailed:
		j.failed(ctx, v, p)
		return v
	case p.Spec.NodeName == "":
		j.pending(v, p, evs)
	}
	j.references(ctx, v, p, evs)
	j.volumes(ctx, v, p, evs)
	if p.Spec.NodeName != "" {
		j.bound(ctx, v, p, evs)
	}
	j.overcome(v, p, evs)
	j.computeDomain(ctx, v, p, evs)
	j.devices(v, p)
	j.names(ctx, v, p)
	return v
}

// podState is the word kubectl would show.
func podState(p *corev1.Pod) string {
	if p.DeletionTimestamp != nil {
		return "Terminating"
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
			return w.Reason
		}
	}
	s := cmp.Or(p.Status.Reason, string(p.Status.Phase), "Pending")
	if p.Status.Phase == corev1.PodRunning && !ready(p) {
		s += ", not ready"
	}
	return s
}

func condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func ready(p *corev1.Pod) bool {
	c := condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// podClaims ties the pod to its ResourceClaims, or to the templates of those
// that do not exist yet.
func (j *judge) podClaims(v *verdict, p *corev1.Pod) {
	for _, c := range p.Spec.ResourceClaims {
		name := ""
		if c.ResourceClaimName != nil {
			name = *c.ResourceClaimName
		}
		for _, s := range p.Status.ResourceClaimStatuses {
			if s.Name == c.Name && s.ResourceClaimName != nil {
				name = *s.ResourceClaimName
			}
		}
		if name != "" {
			v.edge(v.subject, graph.Claims, j.ref("resource.k8s.io", "ResourceClaim", p.Namespace, name))
		}
		if c.ResourceClaimTemplateName != nil {
			tmpl := j.ref("resource.k8s.io", "ResourceClaimTemplate", p.Namespace, *c.ResourceClaimTemplateName)
			if name == "" {
				v.edge(v.subject, graph.FromTemplate, tmpl)
			}
		}
	}
	if s := p.Status.ExtendedResourceClaimStatus; s != nil && s.ResourceClaimName != "" {
		v.edge(v.subject, graph.Claims, j.ref("resource.k8s.io", "ResourceClaim", p.Namespace, s.ResourceClaimName))
	}
}

// pending says that a pod waits for a node. A pod that was just made and that
// no scheduler refused is not in trouble yet.
func (j *judge) pending(v *verdict, p *corev1.Pod, evs []source.Event) {
	age := j.now().Sub(p.CreationTimestamp.Time)
	refused, _ := has(evs, []string{"FailedScheduling"})
	c := condition(p, corev1.PodScheduled)
	if age < settle && refused.Reason == "" && (c == nil || c.Reason != "Unschedulable") {
		v.line("created %s ago; the scheduler has not refused it", j.ago(p.CreationTimestamp.Time))
		return
	}
	msg := refused.Message
	if msg == "" && c != nil {
		msg = c.Message
	}
	reason := "no event of the scheduler"
	if c != nil && c.Reason != "" {
		reason = c.Reason
	}
	if msg != "" {
		v.line("the scheduler says: %s", msg)
	} else {
		v.line("the scheduler says nothing about it")
	}
	v.symptom("kube.pod_pending", incident.Warning, fmt.Sprintf("Pod %s waits for a node since %s", v.subject.Path(), j.ago(p.CreationTimestamp.Time)), params("reason", reason))
	if e, ok := has(evs, []string{"FailedResourceClaimCreation"}); ok {
		v.line("claim controller: %s", e.Message)
	}
}

// terminating judges a pod that is being deleted. The deletion timestamp is when
// the grace period ends, not when the deletion was asked for.
func (j *judge) terminating(v *verdict, p *corev1.Pod, evs []source.Event) {
	since := p.DeletionTimestamp.Time
	if j.now().Before(since.Add(2 * settle)) {
		v.line("terminating, within its grace period")
		return
	}
	if e, ok := has(evs, []string{"FailedKillPod", "FailedPreStopHook"}); ok {
		v.line("the kubelet says: %s", e.Message)
	}
	v.symptom("kube.pod_terminating", incident.Warning, fmt.Sprintf("Pod %s should be gone since %s", v.subject.Path(), j.ago(since)), params("since", j.ago(since), "finalizers", strings.Join(p.Finalizers, ", ")))
	if len(p.Finalizers) > 0 {
		v.fault("kube.finalizer_blocked", incident.Warning, 0.85, v.subject, fmt.Sprintf("Pod %s waits for the finalizers %s", v.subject.Path(), strings.Join(p.Finalizers, ", ")), params("finalizers", strings.Join(p.Finalizers, ", "), "since", j.ago(since)))
	}
}

// bound judges a pod on its node: start-up, running containers, readiness.
func (j *judge) bound(ctx context.Context, v *verdict, p *corev1.Pod, evs []source.Event) {
	node, err := j.src.Node(ctx, p.Spec.NodeName)
	if missing(err) {
		v.symptom("kube.pod_not_ready", incident.Warning, fmt.Sprintf("Pod %s is on a node that is gone", v.subject.Path()), params("reason", "NodeMissing"))
		v.fault("kube.node_missing", incident.Critical, 0.9, j.ref("", "Node", "", p.Spec.NodeName), fmt.Sprintf("node %s, to which pod %s is bound, does not exist", p.Spec.NodeName, v.subject.Path()), nil)
		return
	}
	j.startup(ctx, v, p, evs)
	sick := j.containers(ctx, v, p, evs)
	if ready(p) || p.Status.Phase != corev1.PodRunning {
		return
	}
	c := condition(p, corev1.PodReady)
	since := p.CreationTimestamp.Time
	if c != nil && !c.LastTransitionTime.IsZero() {
		since = c.LastTransitionTime.Time
	}
	nodeBad := err == nil && nodeReady(node) != corev1.ConditionTrue
	if !sick && !nodeBad && (j.now().Sub(since) < 2*settle || j.warmingUp(p)) {
		v.line("not ready since %s, still starting", j.ago(since))
		return
	}
	v.symptom("kube.pod_not_ready", incident.Warning, fmt.Sprintf("Pod %s is not ready since %s", v.subject.Path(), j.ago(since)), params("reason", cmp.Or(conditionReason(c), "NotReady")))
	j.gates(v, p)
}

// gates finds conditions beside the containers that a pod's readiness waits for;
// some controller, of a load balancer for example, sets them.
func (j *judge) gates(v *verdict, p *corev1.Pod) {
	if c := condition(p, corev1.ContainersReady); c == nil || c.Status != corev1.ConditionTrue {
		return
	}
	var open []string
	for _, g := range p.Spec.ReadinessGates {
		switch c := condition(p, g.ConditionType); {
		case c == nil:
			open = append(open, string(g.ConditionType)+" (never set)")
		case c.Status != corev1.ConditionTrue:
			open = append(open, strings.TrimRight(fmt.Sprintf("%s=%s %s %s", g.ConditionType, c.Status, c.Reason, c.Message), " "))
		}
	}
	if len(open) > 0 {
		gates := strings.Join(open, ", ")
		v.fault("kube.readiness_gate_waiting", incident.Critical, 0.85, v.subject, fmt.Sprintf("the containers of pod %s are ready, and its readiness gates are not: %s", v.subject.Path(), gates), params("gates", gates))
	}
}

// warmingUp reports whether every container that is not ready still has the time
// that its own probes give it, a server that loads weights for example.
func (j *judge) warmingUp(p *corev1.Pod) bool {
	waits := false
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if c.Ready || c.State.Terminated != nil && c.State.Terminated.ExitCode == 0 {
			continue
		}
		if c.State.Running == nil {
			return false
		}
		started := c.State.Running.StartedAt.Time
		startup, readiness := probeOf(p, c.Name, "startup"), probeOf(p, c.Name, "readiness")
		switch {
		case startup != nil && (c.Started == nil || !*c.Started) && !j.overdue(started, startup, "startup"):
		case startup == nil && readiness != nil && !j.overdue(started, readiness, "readiness"):
		default:
			return false
		}
		waits = true
	}
	return waits
}

func conditionReason(c *corev1.PodCondition) string {
	if c == nil {
		return ""
	}
	return c.Reason
}

func nodeReady(n *corev1.Node) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

// devices reports devices that the kubelet says are unhealthy.
func (j *judge) devices(v *verdict, p *corev1.Pod) {
	for _, c := range p.Status.ContainerStatuses {
		for _, s := range c.AllocatedResourcesStatus {
			for _, r := range s.Resources {
				if r.Health != corev1.ResourceHealthStatusUnhealthy {
					continue
				}
				parts := strings.SplitN(string(r.ResourceID), "/", 3)
				dev := j.ref("resource.k8s.io", "Device", "", string(r.ResourceID))
				if len(parts) == 3 {
					dev = incident.DeviceRef(j.cluster, parts[0], parts[1], parts[2])
				}
				v.edge(v.subject, graph.Uses, dev)
				v.line("container %s: device %s is unhealthy", c.Name, r.ResourceID)
				v.fault("dra.device_unhealthy", incident.Critical, 0.85, dev, fmt.Sprintf("device %s of container %s is reported unhealthy", r.ResourceID, c.Name), params("health", string(r.Health)))
			}
		}
	}
}

// computeDomain ties a pod whose channel cannot be prepared to the ComputeDomain
// that hands its claim template out.
func (j *judge) computeDomain(ctx context.Context, v *verdict, p *corev1.Pod, evs []source.Event) {
	if _, ok := has(evs, []string{"FailedPrepareDynamicResources"}, "ComputeDomain"); !ok {
		return
	}
	list, err := j.src.List(ctx, "computedomains.resource.nvidia.com", p.Namespace, selectors(""))
	if err != nil {
		return
	}
	for _, u := range list {
		name, _, _ := unstructured.NestedString(u.Object, "spec", "channel", "resourceClaimTemplate", "name")
		if slices.ContainsFunc(p.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool {
			return name != "" && c.ResourceClaimTemplateName != nil && *c.ResourceClaimTemplateName == name
		}) {
			v.edge(v.subject, graph.Uses, j.ref("resource.nvidia.com", "ComputeDomain", p.Namespace, u.GetName()))
		}
	}
}

func limit[T any](s []T, n int) []T {
	if len(s) > n {
		return s[:n]
	}
	return s
}
