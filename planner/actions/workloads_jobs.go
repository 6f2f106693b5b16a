package actions

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// jobActions are the actions on what runs to completion.
func jobActions(c *Cluster) []*action {
	rights := []planner.Right{
		{Group: "batch", Resources: []string{"jobs", "cronjobs"}, Verbs: []string{"get", "patch"}},
		{Group: "batch.volcano.sh", Resources: []string{"jobs"}, Verbs: []string{"get", "patch"}},
		{Group: "jobset.x-k8s.io", Resources: []string{"jobsets"}, Verbs: []string{"get", "patch"}},
		{Group: "kubeflow.org", Resources: []string{"pytorchjobs", "tfjobs", "mpijobs"}, Verbs: []string{"get", "patch"}},
		{Group: "ray.io", Resources: []string{"rayjobs"}, Verbs: []string{"get", "patch"}},
	}
	const jobs = "kubernetes.io/docs/concepts/workloads/controllers/job"
	return []*action{
		{c: c, compile: recreateJob, info: planner.Info{
			Name: "recreate_job", Family: planner.Workloads, Text: "Delete a finished Job and create it again",
			Params: []planner.Param{{Name: "namespace", Required: true, Text: "its namespace"}, {Name: "name", Required: true, Object: true, Text: "the Job"}},
			Risk:   incident.RiskMedium, Rights: []planner.Right{{Group: "batch", Resources: []string{"jobs"}, Verbs: []string{"get", "patch", "delete", "create"}}},
			Undo: "the new Job is deleted and one like the old created, which runs too", Verify: "the pods of the Job have nodes", Sources: []string{jobs},
		}},
		{c: c, compile: suspend(false), info: planner.Info{
			Name: "resume_job", Family: planner.Workloads, Text: "Resume a suspended Job or CronJob", Params: workloadParams(), Risk: incident.RiskMedium, Rights: rights,
			Undo: "it is suspended again", Verify: "the pods of the Job have nodes", Sources: []string{jobs + ", suspending a Job"},
		}},
		{c: c, compile: suspend(true), info: planner.Info{
			Name: "suspend_job", Family: planner.Workloads, Text: "Suspend a Job or CronJob", Params: workloadParams(), Risk: incident.RiskMedium, Rights: rights,
			Undo: "it is resumed; its pods begin anew", Verify: "spec.suspend is true", Sources: []string{jobs + ", suspending a Job"},
		}},
	}
}

func recreateJob(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, "Job.batch", p.str("namespace"), p.str("name"))
	if err != nil {
		return nil, err
	}
	if r := controlled(o); r != nil && r.Kind != "CronJob" {
		return nil, p.refuse(fmt.Sprintf("change or restart %s %s", r.Kind, r.Name), "%s is made by %s %s, which makes it anew by itself", o.Ref, r.Kind, r.Name)
	}
	pods, err := c.podsOf(ctx, o)
	if err != nil {
		return nil, err
	}
	say := "Delete " + o.Ref.String() + " and create it again"
	d := c.draft("%s", say)
	if err := d.replace(o, "create "+o.Ref.String()+" again", func(u *unstructured.Unstructured) error {
		if s, _, _ := unstructured.NestedBool(u.Object, "spec", "suspend"); s {
			d.Warnings = append(d.Warnings, "it is suspended, and stays so: resume_job lets it run")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if d.Blast, err = c.blast(ctx, pods); err != nil {
		return nil, err
	}
	switch {
	case conditionTrue(o, "Complete"):
		d.Warnings = append(d.Warnings, "it has completed: everything it did is done once more")
	case d.Blast.PodCount > 0:
		d.Risk = incident.RiskHigh
		d.Warnings = append(d.Warnings, fmt.Sprintf("it still runs: %d pod(s) stop, and what they did so far is lost unless it was saved", d.Blast.PodCount))
	}
	if r := controlled(o); r != nil {
		d.Warnings = append(d.Warnings, "it is a run of CronJob "+r.Name+", whose later runs use the CronJob's own template")
	}
	d.Lasting = "the old Job's record of its runs, and its pods with their logs"
	d.Verify = []incident.Check{{Kind: CheckScheduled, Subject: o.Ref, Say: "the pods of " + o.Ref.String() + " have nodes", Within: 600}}
	return d, nil
}

// suspendPath is where a kind keeps whether it is suspended.
func suspendPath(o *Object) []string {
	switch o.GroupVersionKind().GroupKind().String() {
	case "Job.batch", "CronJob.batch", "JobSet.jobset.x-k8s.io", "RayJob.ray.io":
		return []string{"spec", "suspend"}
	case "PyTorchJob.kubeflow.org", "TFJob.kubeflow.org", "MPIJob.kubeflow.org":
		return []string{"spec", "runPolicy", "suspend"}
	}
	return nil
}

func suspend(on bool) func(context.Context, *Cluster, params) (*draft, error) {
	return func(ctx context.Context, c *Cluster, p params) (*draft, error) {
		asked, err := c.Get(ctx, p.str("kind"), p.str("namespace"), p.str("name"))
		if err != nil {
			return nil, err
		}
		e := &edit{Object: asked, asked: asked}
		// A run of a CronJob is suspended itself; other Jobs are kept by what made them.
		if r := controlled(asked); r == nil || r.Kind != "CronJob" {
			if e.Object, _, err = c.top(ctx, p, asked); err != nil {
				return nil, err
			}
		}
		path := suspendPath(e.Object)
		if path == nil {
			return nil, p.refuse("scale it", "%s cannot be suspended", e.Ref)
		}
		if q := e.GetLabels()["kueue.x-k8s.io/queue-name"]; q != "" && e.Ref.Kind != "CronJob" {
			return nil, p.refuse("look at the Workload and the quota of queue "+q, "Kueue suspends and resumes %s by queue %s, and sets a change back", e.Ref, q)
		}
		if now, _, _ := unstructured.NestedBool(e.Object.Object, path...); now == on {
			return nil, p.refuse("nothing", "%s %s", e.Ref, map[bool]string{true: "is suspended already", false: "is not suspended"}[on])
		}
		say := "Resume " + e.Ref.String()
		if on {
			say = "Suspend " + e.Ref.String()
		}
		d := c.draft("%s", say)
		d.climbed(e)
		if err := d.patch(e.Object, say, func(u *unstructured.Unstructured) error {
			return unstructured.SetNestedField(u.Object, on, path...)
		}); err != nil {
			return nil, err
		}
		d.Verify = []incident.Check{fieldIs(e.Object, strings.Join(path, "."), fmt.Sprint(on), e.Ref.String()+" says so")}
		switch {
		case e.Ref.Kind == "CronJob" && on:
			d.Warnings = append(d.Warnings, "runs that have begun go on")
		case e.Ref.Kind == "CronJob":
			d.Warnings = append(d.Warnings, "a run that was missed within startingDeadlineSeconds begins at once")
		case on:
			pods, err := c.podsOf(ctx, e.Object)
			if err != nil {
				return nil, err
			}
			if d.Blast, err = c.blast(ctx, pods); err != nil {
				return nil, err
			}
			d.Lasting = "what the stopped pods had done without saving it"
		default:
			d.Verify = append(d.Verify, incident.Check{Kind: CheckScheduled, Subject: e.Ref, Say: "the pods of " + e.Ref.String() + " have nodes", Within: 600})
		}
		return d, nil
	}
}
