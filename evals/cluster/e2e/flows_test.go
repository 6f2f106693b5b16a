package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// From the question to the proof, on one real control plane: what the scheduler, the
// controllers and kwok make of each plan is theirs.
func TestRemedies(t *testing.T) {
	t.Parallel()
	c := openClinic(t, controlplane.Options{})
	t.Run("plan", func(t *testing.T) {
		for name, remedy := range map[string]func(*testing.T, *clinic){
			"rollout": badRollout, "selector": wrongSelector, "taint": taintedDevice, "pool": fullPool,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				remedy(t, c)
			})
		}
	})
	c.whole(t)
}

// A new revision asks for nodes that are not there, the one before runs: it is brought back.
func badRollout(t *testing.T, c *clinic) {
	c.run(t, []scenario.Group{{Prefix: "rollout", Count: 2, Labels: map[string]string{"pool": "rollout"}}}, scenario.Step{Apply: deployment("rollout", "web", "nodeSelector: {pool: rollout}", "")})
	c.available(t, "rollout", "web")
	c.apply(t, deployment("rollout", "web", "nodeSelector: {pool: rollouts}", ""))
	pod := ""
	soon(t, "the new pod", func(ctx context.Context) (bool, error) {
		pod = c.podOf(t, "rollout", "web")
		p, err := c.client.CoreV1().Pods("rollout").Get(ctx, pod, metav1.GetOptions{})
		return err == nil && p.Spec.NodeSelector["pool"] == "rollouts", err
	})
	c.refused(t, "rollout", pod)
	r := c.diagnose(t, "why is pod rollout/"+pod+" pending?", "kube.sched_node_selector_mismatch")
	plan := c.plan(t, app.PlanRequest{Report: &r, Choice: choice("rollout_undo")})
	c.approve(t, plan.Plan.ID, bobToken)
	c.execute(t, plan.Plan.ID, incident.PlanVerified)
	d, err := c.client.AppsV1().Deployments("rollout").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || d.Spec.Template.Spec.NodeSelector["pool"] != "rollout" || d.Status.UpdatedReplicas != 1 || d.Status.UnavailableReplicas != 0 {
		t.Errorf("the Deployment is not as before: %v: %+v", err, d.Status)
	}
}

// available waits until a Deployment is.
func (c *clinic) available(t *testing.T, namespace, name string) {
	t.Helper()
	soon(t, "Deployment "+name, func(ctx context.Context) (bool, error) {
		d, err := c.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		return err == nil && d.Status.AvailableReplicas > 0 && d.Status.ObservedGeneration == d.Generation, err
	})
}

// A Service selects a label that no pod carries: endpoints come with the right one.
func wrongSelector(t *testing.T, c *clinic) {
	c.run(t, []scenario.Group{{Prefix: "selector", Count: 1}}, scenario.Step{Apply: deployment("selector", "front", "", "ports: [{containerPort: 8080}]") + `---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: selector}
spec: {selector: {app: fornt}, ports: [{port: 80, targetPort: 8080}]}
`})
	c.available(t, "selector", "front")
	r := c.diagnose(t, "why does service selector/front not answer?", "kube.service_selector_mismatch")
	plan := c.plan(t, app.PlanRequest{Report: &r})
	c.approve(t, plan.Plan.ID, bobToken)
	c.execute(t, plan.Plan.ID, incident.PlanVerified)
	l, err := c.client.DiscoveryV1().EndpointSlices("selector").List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=front"})
	if err != nil || !slices.ContainsFunc(l.Items, func(s discoveryv1.EndpointSlice) bool { return len(s.Endpoints) > 0 }) {
		t.Errorf("the Service has no endpoints: %v", err)
	}
}

// A DeviceTaintRule keeps all devices of a driver from being used: it is removed after
// two people agreed, since it is about the whole cluster.
func taintedDevice(t *testing.T, c *clinic) {
	c.run(t, []scenario.Group{gpus("taint", 1, 2)}, scenario.Step{Apply: `apiVersion: resource.k8s.io/v1
kind: DeviceTaintRule
metadata: {name: taint-maintenance}
spec: {deviceSelector: {driver: taint.example.com}, taint: {key: example.com/maintenance, effect: NoSchedule}}
---
{{class "taint.example.com" "taint.example.com"}}
{{claimTmpl "taint" "serve-gpu" "taint.example.com" 1 ""}}
` + deployment("taint", "serve", "resourceClaims: [{name: gpu, resourceClaimTemplateName: serve-gpu}]", "resources: {claims: [{name: gpu}]}")})
	pod := c.podOf(t, "taint", "serve")
	c.refused(t, "taint", pod)
	r := c.diagnose(t, "why is pod taint/"+pod+" pending?", "dra.devices_tainted")
	plan := c.plan(t, app.PlanRequest{Report: &r, Choice: choice("device_taint_rule_delete")})
	if plan.Decision.Approvers != 2 {
		t.Errorf("%d approvers for a rule of the cluster", plan.Decision.Approvers)
	}
	c.approve(t, plan.Plan.ID, bobToken)
	c.as(t, annToken, func(p *app.Plans) {
		if _, err := p.Execute(t.Context(), plan.Plan.ID, app.As("", "cli")); err == nil {
			t.Error("executed after one of two approvals")
		}
	})
	c.approve(t, plan.Plan.ID, annToken)
	c.execute(t, plan.Plan.ID, incident.PlanVerified)
	c.scheduled(t, "taint", c.podOf(t, "taint", "serve"))
}

// The new (green) nodes of a pool are full of pods that do not work on them: they go
// back to the old (blue) ones, and green stays empty.
func fullPool(t *testing.T, c *clinic) {
	blue := scenario.Group{Prefix: "pool-blue", Count: 2, Labels: map[string]string{"pool": "p", "color": "blue"}, Unschedulable: true}
	green := scenario.Group{Prefix: "pool-green", Count: 2, Labels: map[string]string{"pool": "p", "color": "green"}}
	c.run(t, []scenario.Group{blue, green}, scenario.Step{Apply: strings.Replace(deployment("pool", "serve", "nodeSelector: {pool: p}", ""), "replicas: 1", "replicas: 4", 1) + `---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: serve, namespace: pool}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: serve}}}
`})
	soon(t, "four pods on green", func(ctx context.Context) (bool, error) {
		d, err := c.client.AppsV1().Deployments("pool").Get(ctx, "serve", metav1.GetOptions{})
		if err != nil || d.Status.AvailableReplicas != 4 {
			return false, err
		}
		b, err := c.client.PolicyV1().PodDisruptionBudgets("pool").Get(ctx, "serve", metav1.GetOptions{})
		return err == nil && b.Status.DisruptionsAllowed == 1, err
	})
	plan := c.plan(t, app.PlanRequest{File: []byte(`
reason: the new node image breaks the driver
steps:
- {action: pool_move, params: {from: color=green, to: color=blue}}
`)})
	if len(plan.Plan.Capacity) == 0 {
		t.Error("no proof that the pods fit on blue")
	}
	c.approve(t, plan.Plan.ID, bobToken, calToken)
	c.execute(t, plan.Plan.ID, incident.PlanVerified)
	pods, err := c.client.CoreV1().Pods("pool").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && !strings.HasPrefix(p.Spec.NodeName, "pool-blue") {
			t.Errorf("pod %s is on %q", p.Name, p.Spec.NodeName)
		}
	}
	nodes, err := c.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: "pool=p"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		if n.Spec.Unschedulable != (n.Labels["color"] == "green") {
			t.Errorf("node %s: unschedulable is %v", n.Name, n.Spec.Unschedulable)
		}
	}
}

// choice takes the proposal with an action.
func choice(action string) planner.Choice { return planner.Choice{Action: action} }
