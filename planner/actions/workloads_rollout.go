package actions

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// restartedAt is the annotation by which kubectl rollout restart changes a template.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// rollouts are the actions on how a workload replaces its pods.
func rollouts(c *Cluster) []*action {
	const proved = "the newest revision is rolled out and available"
	const updating = "kubernetes.io/docs/concepts/workloads/controllers/deployment"
	deployment := func(more ...planner.Param) []planner.Param {
		return append([]planner.Param{
			{Name: "namespace", Required: true, Text: "its namespace"},
			{Name: "name", Required: true, Object: true, Text: "the Deployment"},
		}, more...)
	}
	rights := []planner.Right{{Group: "apps", Resources: []string{"deployments"}, Verbs: []string{"get", "patch"}}}
	return []*action{
		{c: c, compile: restart, info: planner.Info{
			Name: "rollout_restart", Family: planner.Workloads, Text: "Restart a workload's pods one by one", Params: workloadParams(partParam()), Risk: incident.RiskMedium, Rights: workloadRights(),
			Undo: "the annotation is put back, which rolls the pods once more", Verify: proved, Sources: []string{"kubernetes.io/docs/reference/kubectl/generated/kubectl_rollout/kubectl_rollout_restart"},
		}},
		{c: c, compile: rollback, info: planner.Info{
			Name: "rollout_undo", Family: planner.Workloads, Text: "Return a workload to an earlier revision",
			Params: workloadParams(planner.Param{Name: "revision", Type: planner.Int, Text: "the revision to return to; the one before when it is not given"}),
			Risk:   incident.RiskMedium,
			Rights: []planner.Right{
				{Group: "apps", Resources: []string{"deployments", "statefulsets", "daemonsets"}, Verbs: []string{"get", "patch"}},
				{Group: "apps", Resources: []string{"replicasets", "controllerrevisions"}, Verbs: []string{"get", "list"}},
				{Resources: []string{"pods"}, Verbs: []string{"get", "patch", "delete"}},
			},
			Undo: "the template is put back", Verify: proved,
			Sources: []string{updating + ", rolling back", "kubernetes.io/docs/concepts/workloads/controllers/statefulset, forced rollback"},
		}},
		{c: c, compile: pause(true), info: planner.Info{
			Name: "pause_rollout", Family: planner.Workloads, Text: "Pause a rollout where it stands", Params: deployment(), Risk: incident.RiskLow, Rights: rights,
			Undo: "the rollout is resumed", Verify: "spec.paused is true", Sources: []string{updating + ", pausing and resuming a rollout"},
		}},
		{c: c, compile: pause(false), info: planner.Info{
			Name: "resume_rollout", Family: planner.Workloads, Text: "Resume a paused rollout", Params: deployment(), Risk: incident.RiskMedium, Rights: rights,
			Undo: "the rollout is paused again", Verify: proved, Sources: []string{updating + ", pausing and resuming a rollout"},
		}},
		{c: c, compile: strategy, info: planner.Info{
			Name: "rollout_strategy_patch", Family: planner.Workloads, Text: "Change a Deployment's rollout strategy",
			Params: deployment(
				planner.Param{Name: "max_unavailable", Text: "how many pods may be missing, a count or a percentage"},
				planner.Param{Name: "type", Values: []string{"RollingUpdate", "Recreate"}, Text: "the strategy"},
				planner.Param{Name: "max_surge", Text: "how many pods there may be more, a count or a percentage"},
			),
			Risk: incident.RiskMedium, Rights: rights, Undo: "the strategy is put back", Verify: proved, Sources: []string{updating + ", strategy"},
		}},
	}
}

// theDeployment reads the Deployment that namespace and name mean.
func theDeployment(ctx context.Context, c *Cluster, p params) (*edit, error) {
	p.values["kind"] = "Deployment.apps"
	return c.find(ctx, p)
}

func paused(o *Object) bool {
	v, _, _ := unstructured.NestedBool(o.Object, "spec", "paused")
	return v
}

func restart(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.findWhole(ctx, p)
	if err != nil {
		return nil, err
	}
	switch {
	case paused(e.Object):
		return nil, p.refuse("resume_rollout first", "%s is paused: a restart would not begin", e.Ref)
	case e.Ref.Kind == "Pod":
		return nil, p.refuse("delete_pod with recreate", "%s has no controller that would make it anew", e.Ref)
	case runsOnce(e.Object):
		return nil, p.refuse("recreate_job", "%s runs to completion and has no rollout", e.Ref)
	case e.t.holder == nil:
		return nil, p.refuse("delete_pod or evict_pod, one after the other", "%s keeps a pod spec without annotations, so that a restart cannot be written into it", e.Ref)
	}
	say := "Restart the pods of " + e.what()
	d := c.draft("%s", say)
	return d, d.rollout(ctx, e, say, func(t *template) error {
		return unstructured.SetNestedField(t.holder, c.now().UTC().Format(time.RFC3339), "metadata", "annotations", restartedAt)
	})
}

func pause(on bool) func(context.Context, *Cluster, params) (*draft, error) {
	return func(ctx context.Context, c *Cluster, p params) (*draft, error) {
		e, err := theDeployment(ctx, c, p)
		if err != nil {
			return nil, err
		}
		if paused(e.Object) == on {
			return nil, p.refuse("nothing", "%s %s", e.Ref, map[bool]string{true: "is paused already", false: "is not paused"}[on])
		}
		say := "Resume the rollout of " + e.Ref.String()
		if on {
			say = "Pause the rollout of " + e.Ref.String()
		}
		d := c.draft("%s", say)
		d.climbed(e)
		err = d.patch(e.Object, say, func(u *unstructured.Unstructured) error {
			if !on {
				unstructured.RemoveNestedField(u.Object, "spec", "paused")
				return nil
			}
			return unstructured.SetNestedField(u.Object, true, "spec", "paused")
		})
		if err != nil {
			return nil, err
		}
		if on {
			d.Verify = []incident.Check{fieldIs(e.Object, "spec.paused", "true", e.Ref.String()+" is paused")}
			return d, nil
		}
		d.Verify = []incident.Check{fieldIs(e.Object, "spec.paused", "", e.Ref.String()+" is not paused")}
		return d, d.goesOn(ctx, e)
	}
}

// goesOn says what a rollout that waits does once it may go on: pods of older
// revisions stop.
func (d *draft) goesOn(ctx context.Context, e *edit) error {
	old, err := d.c.oldPods(ctx, e.Object)
	if err != nil {
		return err
	}
	if d.Blast, err = d.c.blast(ctx, old); err != nil {
		return err
	}
	if len(old) > 0 {
		d.Lasting = "pods of the older revision that were stopped are not brought back as they were"
	}
	d.Verify = append(d.Verify, proofOf(e, max(1, len(old)))...)
	return nil
}

func strategy(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := theDeployment(ctx, c, p)
	if err != nil {
		return nil, err
	}
	kind, surge, unavailable := p.str("type"), p.str("max_surge"), p.str("max_unavailable")
	if kind == "" && surge == "" && unavailable == "" {
		return nil, p.missing("max_unavailable", "say how pods shall be replaced: max_unavailable 1 with max_surge 0 stops an old pod before a new one starts, type Recreate stops all of them first; now it is %s", strategyText(e.Object))
	}
	if kind == "Recreate" && surge+unavailable != "" {
		return nil, p.missing("type", "Recreate takes no max_surge and no max_unavailable")
	}
	for name, v := range map[string]string{"max_surge": surge, "max_unavailable": unavailable} {
		if v == "" {
			continue
		}
		if n, err := intstr.GetScaledValueFromIntOrPercent(intOrString(v), 100, true); err != nil || n < 0 {
			return nil, p.missing(name, "%q is neither a count nor a percentage", v)
		}
	}
	after := e.DeepCopy()
	change := func(u *unstructured.Unstructured) error {
		if kind == "Recreate" {
			return unstructured.SetNestedField(u.Object, map[string]any{"type": "Recreate"}, "spec", "strategy")
		}
		rolling, _, _ := unstructured.NestedMap(u.Object, "spec", "strategy", "rollingUpdate")
		if rolling == nil {
			rolling = map[string]any{}
		}
		for name, v := range map[string]string{"maxSurge": surge, "maxUnavailable": unavailable} {
			switch x := intOrString(v); {
			case v == "":
			case x.Type == intstr.Int:
				rolling[name] = int64(x.IntVal)
			default:
				rolling[name] = v
			}
		}
		s := map[string]any{"type": "RollingUpdate"}
		if len(rolling) > 0 {
			s["rollingUpdate"] = rolling
		}
		return unstructured.SetNestedField(u.Object, s, "spec", "strategy")
	}
	if err := change(after); err != nil {
		return nil, err
	}
	from, to := strategyText(e.Object), strategyText(c.objectLike(e.Object, after))
	if from == to {
		return nil, p.missing("max_unavailable", "the strategy of %s is %s already", e.Ref, from)
	}
	if zero(after, "maxSurge") && zero(after, "maxUnavailable") {
		return nil, p.missing("max_unavailable", "max_surge and max_unavailable cannot both be 0: nothing could ever be replaced")
	}
	say := fmt.Sprintf("Change the rollout strategy of %s from %s to %s", e.Ref, from, to)
	d := c.draft("%s", say)
	d.climbed(e)
	if err := d.patch(e.Object, say, change); err != nil {
		return nil, err
	}
	if kind == "Recreate" {
		d.Warnings = append(d.Warnings, "every later rollout stops all pods before a new one starts")
	}
	if paused(e.Object) {
		d.Warnings = append(d.Warnings, "the rollout is paused: it goes on when it is resumed (resume_rollout)")
		d.Verify = []incident.Check{fieldIs(e.Object, "spec.strategy.type", strings.Fields(to)[0], "the strategy is "+to)}
		return d, nil
	}
	return d, d.goesOn(ctx, e)
}

// objectLike is another state of an object.
func (c *Cluster) objectLike(o *Object, u *unstructured.Unstructured) *Object {
	n := *o
	n.Unstructured = u
	return &n
}

func zero(u *unstructured.Unstructured, field string) bool {
	v, ok, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "strategy", "rollingUpdate", field)
	return ok && (fmt.Sprint(v) == "0" || fmt.Sprint(v) == "0%")
}

func strategyText(o *Object) string {
	kind, _, _ := unstructured.NestedString(o.Object, "spec", "strategy", "type")
	if kind == "Recreate" {
		return kind
	}
	out := []string{"RollingUpdate"}
	for _, f := range []string{"maxSurge", "maxUnavailable"} {
		v, ok, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "strategy", "rollingUpdate", f)
		if !ok {
			v = "25%"
		}
		out = append(out, fmt.Sprintf("%s %v", f, v))
	}
	return strings.Join(out, " ")
}
