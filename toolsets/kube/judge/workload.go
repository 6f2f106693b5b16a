package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

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

// short says that fewer replicas are ready than asked for.
func (j *judge) short(v *verdict, created time.Time, desired, ready int32) bool {
	v.state = fmt.Sprintf("%d of %d ready", ready, desired)
	v.fact("desired", fmt.Sprint(desired))
	v.fact("ready", fmt.Sprint(ready))
	if ready >= desired {
		return false
	}
	if j.now().Sub(created) < settle {
		v.line("created %s ago, still settling", j.ago(created))
		return false
	}
	v.symptom("kube.workload_unavailable", incident.Warning, fmt.Sprintf("%s has %d of %d replicas ready", v.subject, ready, desired), params("desired", fmt.Sprint(desired), "ready", fmt.Sprint(ready)))
	return true
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
	short := j.short(v, d.CreationTimestamp.Time, desired, d.Status.ReadyReplicas)
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
	} else {
		j.worst(ctx, v, d.Namespace, d.Spec.Selector, nil)
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
	unavailable := int32(0)
	if ru := d.Spec.Strategy.RollingUpdate; ru != nil && ru.MaxUnavailable != nil {
		unavailable = int32(ru.MaxUnavailable.IntValue())
		if ru.MaxUnavailable.Type != 0 && ru.MaxUnavailable.StrVal == "25%" {
			unavailable = replicasOf(d.Spec.Replicas) / 4
		}
	}
	device := deviceOf(&current.Spec.Template.Spec)
	waiting := slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return p.Spec.NodeName == "" })
	if old == 0 || unavailable > 0 || device == "" || !waiting {
		return
	}
	v.fault("kube.rollout_gpu_deadlock", incident.Critical, 0.9, v.subject, fmt.Sprintf("the rollout of %s waits for itself: the new pod waits for %s, which %d old pods hold, and with maxUnavailable 0 they stay until the new pod is ready", v.subject, device, old), params("max_unavailable", "0", "resource", device))
}

// deviceOf names the scarce device a pod template asks for.
func deviceOf(s *corev1.PodSpec) string {
	for _, c := range s.Containers {
		for name := range c.Resources.Limits {
			if strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), "hugepages") {
				return string(name)
			}
		}
	}
	for _, c := range s.ResourceClaims {
		if c.ResourceClaimTemplateName != nil {
			return "the devices of ResourceClaimTemplate " + *c.ResourceClaimTemplateName
		}
	}
	return ""
}

// worst ties a workload to those of its pods that are not ready, the longest
// in trouble first. Pods of another revision are left out.
func (j *judge) worst(ctx context.Context, v *verdict, namespace string, sel *metav1.LabelSelector, owner any) []*corev1.Pod {
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return nil
	}
	if sel == nil && owner != nil {
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
		if owner != nil && o != nil && o.UID != owner || owner != nil && o == nil && sel == nil {
			continue
		}
		if !ready(p) && p.Status.Phase != corev1.PodSucceeded && p.DeletionTimestamp == nil && p.Status.Reason != "Evicted" {
			bad = append(bad, p)
		}
	}
	slices.SortStableFunc(bad, func(a, b *corev1.Pod) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, p := range limit(bad, worstPods) {
		v.edge(v.subject, graph.Owns, j.pod(p))
		v.line("pod %s: %s", p.Name, podState(p))
	}
	return bad
}

func (j *judge) replicaSet(ctx context.Context, r *appsv1.ReplicaSet) *verdict {
	v := newVerdict(j.ref("apps", "ReplicaSet", r.Namespace, r.Name))
	desired := replicasOf(r.Spec.Replicas)
	if desired == 0 {
		v.state = "scaled to zero"
		return v
	}
	if j.short(v, r.CreationTimestamp.Time, desired, r.Status.ReadyReplicas) {
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
		return v
	}
	if j.short(v, s.CreationTimestamp.Time, desired, s.Status.ReadyReplicas) {
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
	if j.short(v, d.CreationTimestamp.Time, d.Status.DesiredNumberScheduled, d.Status.NumberReady) {
		j.createFailures(ctx, v, v.subject, string(d.UID))
		j.worst(ctx, v, d.Namespace, d.Spec.Selector, d.UID)
	}
	return v
}

func (j *judge) job(ctx context.Context, b *batchv1.Job) *verdict {
	v := newVerdict(j.ref("batch", "Job", b.Namespace, b.Name))
	v.state = fmt.Sprintf("%d active, %d succeeded, %d failed", b.Status.Active, b.Status.Succeeded, b.Status.Failed)
	for _, c := range b.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete, batchv1.JobSuccessCriteriaMet:
			v.state = "complete"
			return v
		case batchv1.JobFailed, batchv1.JobFailureTarget:
			j.jobFailed(ctx, v, b, c)
			return v
		}
	}
	if b.Spec.Suspend != nil && *b.Spec.Suspend {
		v.state = "suspended"
		j.suspended(ctx, v, b)
		return v
	}
	before := len(v.findings)
	j.createFailures(ctx, v, v.subject, string(b.UID))
	bad := j.worst(ctx, v, b.Namespace, b.Spec.Selector, b.UID)
	if len(v.findings) > before || len(bad) > 0 && j.now().Sub(b.CreationTimestamp.Time) > settle {
		v.symptom("kube.workload_unavailable", incident.Warning, fmt.Sprintf("%s does not run as asked: %s", v.subject, v.state), params("desired", fmt.Sprint(replicasOf(b.Spec.Parallelism)), "ready", fmt.Sprint(b.Status.Active)))
	}
	return v
}

func (j *judge) jobFailed(ctx context.Context, v *verdict, b *batchv1.Job, c batchv1.JobCondition) {
	v.state = "failed: " + c.Reason
	v.line("%s: %s", c.Reason, c.Message)
	v.symptom("kube.job_failed", incident.Critical, fmt.Sprintf("%s failed: %s: %s", v.subject, c.Reason, c.Message), params("reason", c.Reason))
	switch c.Reason {
	case "DeadlineExceeded":
		deadline := ""
		if b.Spec.ActiveDeadlineSeconds != nil {
			deadline = fmt.Sprint(*b.Spec.ActiveDeadlineSeconds) + "s"
		}
		v.fault("kube.job_deadline_exceeded", incident.Critical, 0.85, v.subject, fmt.Sprintf("%s ran past its active deadline %s", v.subject, deadline), params("deadline", deadline))
	default:
		most := int32(6)
		if b.Spec.BackoffLimit != nil {
			most = *b.Spec.BackoffLimit
		}
		v.fault("kube.job_backoff_exceeded", incident.Warning, 0.6, v.subject, fmt.Sprintf("%s gave up after %d failed pods (backoffLimit %d)", v.subject, b.Status.Failed, most), params("failed", fmt.Sprint(b.Status.Failed), "limit", fmt.Sprint(most)))
	}
	j.worst(ctx, v, b.Namespace, b.Spec.Selector, b.UID)
}

// suspended is a fault of the Job itself only where nothing else holds it: a
// queue that manages the Job says why in its own object.
func (j *judge) suspended(ctx context.Context, v *verdict, b *batchv1.Job) {
	if q := b.Labels["kueue.x-k8s.io/queue-name"]; q != "" {
		v.line("queued by Kueue in %s", q)
		v.symptom("kube.workload_unavailable", incident.Warning, fmt.Sprintf("%s is held by Kueue (queue %s)", v.subject, q), params("desired", fmt.Sprint(replicasOf(b.Spec.Parallelism)), "ready", "0"))
		list, err := j.src.List(ctx, "workloads.kueue.x-k8s.io", b.Namespace, selectors("kueue.x-k8s.io/job-uid="+string(b.UID)))
		if err != nil || len(list) == 0 {
			list, err = j.src.List(ctx, "workloads.kueue.x-k8s.io", b.Namespace, selectors(""))
		}
		if err == nil {
			for _, u := range list {
				for _, o := range u.GetOwnerReferences() {
					if o.Kind == "Job" && o.Name == b.Name {
						v.edge(v.subject, graph.GatedBy, j.ref("kueue.x-k8s.io", "Workload", u.GetNamespace(), u.GetName()))
						j.kueue(v, u.Object, u.GetNamespace(), u.GetName())
					}
				}
			}
		}
		return
	}
	v.fault("kube.job_suspended", incident.Warning, 0.8, v.subject, fmt.Sprintf("%s is suspended", v.subject), nil)
}

func (j *judge) cronJob(ctx context.Context, c *batchv1.CronJob) *verdict {
	v := newVerdict(j.ref("batch", "CronJob", c.Namespace, c.Name))
	v.state = "scheduled " + c.Spec.Schedule
	if c.Spec.Suspend != nil && *c.Spec.Suspend {
		v.state = "suspended"
		v.fault("kube.cronjob_suspended", incident.Warning, 0.75, v.subject, fmt.Sprintf("%s is suspended", v.subject), nil)
		return v
	}
	evs := j.events(ctx, v.subject, string(c.UID))
	if e, ok := has(evs, []string{"MissSchedule", "TooManyMissedTimes", "FailedNeedsStart", "UnparseableSchedule", "UnknownTimeZone"}); ok {
		last := ""
		if c.Status.LastScheduleTime != nil {
			last = c.Status.LastScheduleTime.UTC().Format(time.RFC3339)
		}
		v.fault("kube.cronjob_schedule_missed", incident.Warning, 0.8, v.subject, fmt.Sprintf("%s does not start as scheduled: %s", v.subject, e.Message), params("last", last, "schedule", c.Spec.Schedule))
	}
	jobs, err := j.src.Jobs(ctx, c.Namespace)
	if err != nil {
		return v
	}
	var newest *batchv1.Job
	for _, b := range jobs {
		if metav1.IsControlledBy(b, c) && (newest == nil || b.CreationTimestamp.After(newest.CreationTimestamp.Time)) {
			newest = b
		}
	}
	if newest != nil && slices.ContainsFunc(newest.Status.Conditions, func(k batchv1.JobCondition) bool {
		return k.Type == batchv1.JobFailed && k.Status == corev1.ConditionTrue
	}) {
		v.symptom("kube.job_failed", incident.Critical, fmt.Sprintf("the last Job %s of %s failed", newest.Name, v.subject), params("reason", "LastJobFailed"))
		v.edge(v.subject, graph.Owns, j.ref("batch", "Job", newest.Namespace, newest.Name))
	} else if newest != nil {
		for _, f := range j.job(ctx, newest).findings {
			if f.Role == incident.Symptom {
				v.symptom("kube.workload_unavailable", incident.Warning, fmt.Sprintf("the last Job %s of %s does not get on: %s", newest.Name, v.subject, f.Message), params("desired", "1", "ready", "0"))
				v.edge(v.subject, graph.Owns, f.Subject)
			}
		}
	}
	return v
}
