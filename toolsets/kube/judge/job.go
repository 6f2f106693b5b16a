package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

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
	bad := slices.DeleteFunc(j.notReady(ctx, b.Namespace, b.Spec.Selector, b.UID), func(p *corev1.Pod) bool { return !over(p) && !j.podInTrouble(p) })
	if b.Status.Ready != nil && *b.Status.Ready > 0 {
		// What failed before was tried again and runs.
		bad = slices.DeleteFunc(bad, over)
	}
	j.tie(v, bad)
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
	case batchv1.JobReasonDeadlineExceeded:
		deadline := ""
		if b.Spec.ActiveDeadlineSeconds != nil {
			deadline = fmt.Sprint(*b.Spec.ActiveDeadlineSeconds) + "s"
		}
		v.fault("kube.job_deadline_exceeded", incident.Critical, 0.85, v.subject, fmt.Sprintf("%s ran past its active deadline %s", v.subject, deadline), params("deadline", deadline))
	case batchv1.JobReasonPodFailurePolicy:
		v.fault("kube.job_failure_policy", incident.Warning, 0.6, v.subject, fmt.Sprintf("a rule of the pod failure policy of %s ended it: %s", v.subject, c.Message), params("message", c.Message, "taken", j.takenFrom(ctx, b)))
	case batchv1.JobReasonFailedIndexes, batchv1.JobReasonMaxFailedIndexesExceeded:
		indexes := ""
		if b.Status.FailedIndexes != nil {
			indexes = *b.Status.FailedIndexes
		}
		v.fault("kube.job_indexes_failed", incident.Warning, 0.6, v.subject, fmt.Sprintf("indexes %s of %s failed for good: %s", indexes, v.subject, c.Message), params("indexes", indexes, "message", c.Message, "taken", j.takenFrom(ctx, b)))
	case batchv1.JobReasonBackoffLimitExceeded, "":
		most := int32(6)
		if b.Spec.BackoffLimit != nil {
			most = *b.Spec.BackoffLimit
		}
		v.fault("kube.job_backoff_exceeded", incident.Warning, 0.6, v.subject, fmt.Sprintf("%s gave up after %d failed pods (backoffLimit %d)", v.subject, b.Status.Failed, most), params("failed", fmt.Sprint(b.Status.Failed), "limit", fmt.Sprint(most), "taken", j.takenFrom(ctx, b)))
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
	last, at := "never", time.Time{}
	if t := c.Status.LastScheduleTime; t != nil {
		last, at = t.UTC().Format(time.RFC3339), t.Time
	}
	if e, ok := has(evs, []string{"MissSchedule", "TooManyMissedTimes", "FailedNeedsStart", "UnparseableSchedule", "UnknownTimeZone"}); ok && !at.After(e.Last) {
		v.fault("kube.cronjob_schedule_missed", incident.Warning, 0.8, v.subject, fmt.Sprintf("%s does not start as scheduled: %s", v.subject, e.Message), params("last", last, "schedule", c.Spec.Schedule))
	}
	if e, ok := has(evs, []string{"JobAlreadyActive"}); ok && !at.After(e.Last) {
		names := make([]string, 0, 3)
		for _, a := range limit(c.Status.Active, 3) {
			names = append(names, a.Name)
		}
		v.fault("kube.cronjob_schedule_missed", incident.Warning, 0.75, v.subject, fmt.Sprintf("%s starts no new run (last %s): Job %s is still active, and concurrencyPolicy is %s", v.subject, last, strings.Join(names, ", "), c.Spec.ConcurrencyPolicy), params("last", last, "schedule", c.Spec.Schedule))
	}
	j.createFailures(ctx, v, v.subject, string(c.UID))
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
