package judge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// WorkloadIn names a workload.
type WorkloadIn struct {
	Kind      string `json:"kind" jsonschema:"Deployment, ReplicaSet, StatefulSet, DaemonSet, Job or CronJob"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// worstPods is how many pods of a workload the walk enters: they are alike.
const worstPods = 3

func (j *judge) workloadTool(ctx context.Context, in WorkloadIn) (tool.Output[Judged], error) {
	v, err := j.judgeWorkload(ctx, in)
	if err != nil {
		return tool.Output[Judged]{}, err
	}
	return v.output(), nil
}

func (j *judge) judgeWorkload(ctx context.Context, in WorkloadIn) (*verdict, error) {
	switch in.Kind {
	case "Deployment":
		d, err := j.src.Deployment(ctx, in.Namespace, in.Name)
		if err != nil {
			return nil, err
		}
		return j.deployment(ctx, d), nil
	case "ReplicaSet":
		r, err := j.src.ReplicaSet(ctx, in.Namespace, in.Name)
		if err != nil {
			return nil, err
		}
		return j.replicaSet(ctx, r), nil
	case "StatefulSet":
		s, err := j.src.StatefulSet(ctx, in.Namespace, in.Name)
		if err != nil {
			return nil, err
		}
		return j.statefulSet(ctx, s), nil
	case "DaemonSet":
		d, err := j.src.DaemonSet(ctx, in.Namespace, in.Name)
		if err != nil {
			return nil, err
		}
		return j.daemonSet(ctx, d), nil
	case "Job":
		b, err := j.src.Job(ctx, in.Namespace, in.Name)
		if err != nil {
			return nil, err
		}
		return j.job(ctx, b), nil
	case "CronJob":
		c, err := j.src.CronJob(ctx, in.Namespace, in.Name)
		if err != nil {
			return nil, err
		}
		return j.cronJob(ctx, c), nil
	}
	return nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("kind %q is none of Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob", in.Kind)}
}

func replicasOf(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// creator is what makes a workload's pods, and how many of them there are.
type creator struct {
	ref   incident.Ref
	uid   types.UID
	exist int32
}

// short says that fewer replicas are ready than asked for, unless pods are simply on
// their way. Pods that the API server refuses are not.
func (j *judge) short(ctx context.Context, v *verdict, created time.Time, sel *metav1.LabelSelector, desired, ready int32, by creator) bool {
	v.state = fmt.Sprintf("%d of %d ready", ready, desired)
	v.fact("desired", fmt.Sprint(desired))
	v.fact("ready", fmt.Sprint(ready))
	if ready >= desired {
		return false
	}
	refused := by.exist < desired && j.refusing(ctx, by.ref, string(by.uid))
	if !refused && j.now().Sub(created) < settle {
		v.line("created %s ago, still settling", j.ago(created))
		return false
	}
	if !refused && j.moving(ctx, v.subject.Namespace, sel, int(desired)) {
		v.line("pods are on their way")
		return false
	}
	v.symptom("kube.workload_unavailable", incident.Warning, fmt.Sprintf("%s has %d of %d replicas ready", v.subject, ready, desired), params("desired", fmt.Sprint(desired), "ready", fmt.Sprint(ready)))
	return true
}

// moving reports whether a workload's pods come up as they should: none is in
// trouble, and those that are not ready or do not exist yet have had no time.
func (j *judge) moving(ctx context.Context, namespace string, sel *metav1.LabelSelector, desired int) bool {
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil || s.Empty() {
		return false
	}
	pods, err := j.src.PodsMatching(ctx, namespace, s)
	if err != nil {
		return false
	}
	alive, youngest := 0, time.Duration(-1)
	for _, p := range pods {
		if over(p) || p.DeletionTimestamp != nil {
			continue
		}
		if j.podInTrouble(p) {
			return false
		}
		alive++
		since := p.CreationTimestamp.Time
		if c := condition(p, corev1.PodReady); c != nil && c.LastTransitionTime.After(since) {
			since = c.LastTransitionTime.Time
		}
		if age := j.now().Sub(since); youngest < 0 || age < youngest {
			youngest = age
		}
	}
	return alive > 0 && (alive >= desired || youngest < 2*settle)
}

func (j *judge) deployment(ctx context.Context, d *appsv1.Deployment) *verdict {
	v := newVerdict(j.ref("apps", "Deployment", d.Namespace, d.Name))
	desired := replicasOf(d.Spec.Replicas)
	if desired == 0 {
		v.state = "scaled to zero"
		v.context("kube.scaled_to_zero", fmt.Sprintf("%s is scaled to zero", v.subject), nil)
		return v
	}
	sets := j.ownedSets(ctx, d)
	current := currentSet(d, sets)
	stuck := false
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse && c.Reason == "ProgressDeadlineExceeded" {
			stuck = true
			v.line("rollout: %s", c.Message)
		}
	}
	complete := d.Status.UpdatedReplicas >= desired && d.Status.ReadyReplicas >= desired
	by := creator{v.subject, d.UID, d.Status.Replicas}
	if current != nil {
		by = creator{j.ref("apps", "ReplicaSet", current.Namespace, current.Name), current.UID, current.Status.Replicas}
	}
	short := j.short(ctx, v, d.CreationTimestamp.Time, d.Spec.Selector, desired, d.Status.ReadyReplicas, by)
	rolling := d.Status.UpdatedReplicas < desired || d.Status.UnavailableReplicas > 0
	if stuck && !complete {
		v.symptom("kube.rollout_stuck", incident.Critical, fmt.Sprintf("the rollout of %s makes no progress", v.subject), params("reason", "ProgressDeadlineExceeded", "revision", d.Annotations["deployment.kubernetes.io/revision"]))
	}
	if d.Spec.Paused && d.Status.UpdatedReplicas < desired {
		v.fault("kube.rollout_paused", incident.Warning, 0.8, v.subject, fmt.Sprintf("the rollout of %s is paused at %d of %d replicas", v.subject, d.Status.UpdatedReplicas, desired), nil)
	}
	if !short && !stuck && !rolling {
		return v
	}
	j.createFailures(ctx, v, v.subject, string(d.UID))
	if current != nil {
		set := j.ref("apps", "ReplicaSet", current.Namespace, current.Name)
		before := len(v.findings)
		j.createFailures(ctx, v, set, string(current.UID))
		if len(v.findings) > before {
			v.edge(v.subject, graph.Owns, set)
		}
		pods := j.worst(ctx, v, d.Namespace, d.Spec.Selector, current.UID)
		j.deadlock(v, d, current, sets, pods)
		if len(v.findings) > before {
			j.fallbackOf(v, v.subject, d.Spec.Template, servingSet(d, current, sets))
		}
	} else {
		j.worst(ctx, v, d.Namespace, d.Spec.Selector, "")
	}
	return v
}

func (j *judge) ownedSets(ctx context.Context, d *appsv1.Deployment) []*appsv1.ReplicaSet {
	all, err := j.src.ReplicaSets(ctx, d.Namespace)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(r *appsv1.ReplicaSet) bool { return !metav1.IsControlledBy(r, d) })
}

// currentSet is the ReplicaSet of the Deployment's revision.
func currentSet(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	const rev = "deployment.kubernetes.io/revision"
	var newest *appsv1.ReplicaSet
	for _, r := range sets {
		if d.Annotations[rev] != "" && r.Annotations[rev] == d.Annotations[rev] {
			return r
		}
		if newest == nil || r.CreationTimestamp.After(newest.CreationTimestamp.Time) {
			newest = r
		}
	}
	return newest
}

// deadlock finds the rollout that waits for itself: the new pod needs a device
// that only the old pods hold, and they stay until the new one is ready.
func (j *judge) deadlock(v *verdict, d *appsv1.Deployment, current *appsv1.ReplicaSet, sets []*appsv1.ReplicaSet, pods []*corev1.Pod) {
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return
	}
	old := int32(0)
	for _, r := range sets {
		if r.UID != current.UID {
			old += r.Status.ReadyReplicas
		}
	}
	device, word := deviceOf(&current.Spec.Template.Spec)
	if old == 0 || unavailableOf(d) > 0 || device == "" || !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return waitsForDevice(p, word) }) {
		return
	}
	v.fault("kube.rollout_gpu_deadlock", incident.Critical, 0.9, v.subject, fmt.Sprintf("the rollout of %s waits for itself: the new pod waits for %s, which %d old pods hold, and with maxUnavailable 0 they stay until the new pod is ready", v.subject, device, old), params("max_unavailable", "0", "resource", device))
}

// unavailableOf is how many pods a rollout may take down before others are ready
// (ResolveFenceposts of pkg/controller/deployment/util, v1.37).
func unavailableOf(d *appsv1.Deployment) int {
	surge, down := intstr.FromString("25%"), intstr.FromString("25%")
	if ru := d.Spec.Strategy.RollingUpdate; ru != nil {
		surge, down = ptrOr(ru.MaxSurge, surge), ptrOr(ru.MaxUnavailable, down)
	}
	n := int(replicasOf(d.Spec.Replicas))
	s, err := intstr.GetScaledValueFromIntOrPercent(&surge, n, true)
	if err != nil {
		return 0
	}
	u, err := intstr.GetScaledValueFromIntOrPercent(&down, n, false)
	if err != nil {
		return 0
	}
	if s == 0 && u == 0 {
		return 1
	}
	return u
}

func ptrOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// deviceOf names the scarce device a pod template asks for, and the word by which
// the scheduler speaks of it when it lacks.
func deviceOf(s *corev1.PodSpec) (device, word string) {
	for _, c := range s.Containers {
		for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
			if strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), "hugepages") {
				return string(name), "Insufficient " + string(name)
			}
		}
	}
	for _, c := range s.ResourceClaims {
		if c.ResourceClaimTemplateName != nil {
			return "the devices of ResourceClaimTemplate " + *c.ResourceClaimTemplateName, "cannot allocate all claims"
		}
	}
	return "", ""
}

// waitsForDevice reports whether the scheduler refuses a pod for want of a device.
func waitsForDevice(p *corev1.Pod, word string) bool {
	c := condition(p, corev1.PodScheduled)
	return p.Spec.NodeName == "" && c != nil && c.Status == corev1.ConditionFalse && containsAny(c.Message, word)
}

// worst ties a workload to those of its pods that are not ready, the longest
// in trouble first. Pods of another revision are left out.
func (j *judge) worst(ctx context.Context, v *verdict, namespace string, sel *metav1.LabelSelector, owner types.UID) []*corev1.Pod {
	bad := j.notReady(ctx, namespace, sel, owner)
	j.tie(v, bad)
	return bad
}

// tie leads the walk to the first of a workload's pods in trouble: they are alike.
func (j *judge) tie(v *verdict, bad []*corev1.Pod) {
	for _, p := range limit(bad, worstPods) {
		v.edge(v.subject, graph.Owns, j.pod(p))
		v.line("pod %s: %s", p.Name, podState(p))
	}
}

// notReady lists the pods of a controller that are not ready, oldest first.
func (j *judge) notReady(ctx context.Context, namespace string, sel *metav1.LabelSelector, owner types.UID) []*corev1.Pod {
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return nil
	}
	if sel == nil && owner != "" {
		// A Job that was written without the selector its controller gives it.
		s = labels.Everything()
	}
	all, err := j.src.PodsMatching(ctx, namespace, s)
	if err != nil {
		return nil
	}
	var bad []*corev1.Pod
	for _, p := range all {
		o := metav1.GetControllerOf(p)
		// A pod that nobody controls and that the selector finds is about to be adopted.
		if owner != "" && (o != nil && o.UID != owner || o == nil && sel == nil) {
			continue
		}
		if !ready(p) && p.Status.Phase != corev1.PodSucceeded && p.DeletionTimestamp == nil && !removed(p.Status.Reason) {
			bad = append(bad, p)
		}
	}
	slices.SortStableFunc(bad, func(a, b *corev1.Pod) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return bad
}

func (j *judge) replicaSet(ctx context.Context, r *appsv1.ReplicaSet) *verdict {
	v := newVerdict(j.ref("apps", "ReplicaSet", r.Namespace, r.Name))
	desired := replicasOf(r.Spec.Replicas)
	if desired == 0 {
		v.state = "scaled to zero"
		return v
	}
	if j.short(ctx, v, r.CreationTimestamp.Time, r.Spec.Selector, desired, r.Status.ReadyReplicas, creator{v.subject, r.UID, r.Status.Replicas}) {
		j.createFailures(ctx, v, v.subject, string(r.UID))
		j.worst(ctx, v, r.Namespace, r.Spec.Selector, r.UID)
	}
	return v
}

func (j *judge) statefulSet(ctx context.Context, s *appsv1.StatefulSet) *verdict {
	v := newVerdict(j.ref("apps", "StatefulSet", s.Namespace, s.Name))
	desired := replicasOf(s.Spec.Replicas)
	if desired == 0 {
		v.state = "scaled to zero"
		v.context("kube.scaled_to_zero", fmt.Sprintf("%s is scaled to zero", v.subject), nil)
		return v
	}
	if j.short(ctx, v, s.CreationTimestamp.Time, s.Spec.Selector, desired, s.Status.ReadyReplicas, creator{v.subject, s.UID, s.Status.Replicas}) {
		j.createFailures(ctx, v, v.subject, string(s.UID))
		j.worst(ctx, v, s.Namespace, s.Spec.Selector, s.UID)
		if s.Spec.ServiceName != "" {
			if _, err := j.src.Service(ctx, s.Namespace, s.Spec.ServiceName); missing(err) {
				v.fault("kube.statefulset_service_missing", incident.Warning, 0.45, v.subject, fmt.Sprintf("the governing Service %s of %s does not exist", s.Spec.ServiceName, v.subject), params("service", s.Spec.ServiceName))
			}
		}
	}
	return v
}

func (j *judge) daemonSet(ctx context.Context, d *appsv1.DaemonSet) *verdict {
	v := newVerdict(j.ref("apps", "DaemonSet", d.Namespace, d.Name))
	if j.short(ctx, v, d.CreationTimestamp.Time, d.Spec.Selector, d.Status.DesiredNumberScheduled, d.Status.NumberReady, creator{v.subject, d.UID, d.Status.CurrentNumberScheduled}) {
		j.createFailures(ctx, v, v.subject, string(d.UID))
		j.worst(ctx, v, d.Namespace, d.Spec.Selector, d.UID)
	}
	return v
}
