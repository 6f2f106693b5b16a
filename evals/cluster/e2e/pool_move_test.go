package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// A full green pool and a cordoned blue one: the pods go back, one at a time within
// their budget, each to devices that the allocator has proved to be free.
func TestRemedyPoolMove(t *testing.T) {
	t.Parallel()
	c := openClinic(t, controlplane.Options{})
	colour := func(name string, cordoned bool) scenario.Group {
		return gpus("tide", 2, 8, func(g *scenario.Group) {
			g.Prefix, g.Labels, g.Unschedulable = name, map[string]string{"pool": name}, cordoned
			g.Devices[0].Driver = "gpu.tide.example.com"
		})
	}
	serve := strings.Replace(deployment("tide", "serve", "resourceClaims: [{name: gpu, resourceClaimTemplateName: four}]", "resources: {claims: [{name: gpu}]}"), "replicas: 1", "replicas: 4", 1)
	c.run(t, []scenario.Group{colour("blue", true), colour("green", false)}, scenario.Step{Apply: `{{class "tide.example.com" "gpu.tide.example.com"}}
{{claimTmpl "tide" "four" "tide.example.com" 4 ""}}
` + serve + `---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: serve, namespace: tide}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: serve}}}
---
# Two people have to agree, neither of them the one who asks: eve may do what ann may.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: eve-too}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: eve}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ann}
`})
	c.settled(t, "green", 4)

	file := func(from, to string) []byte {
		return []byte("reason: the green nodes carry a driver that hangs\nsteps:\n- {action: pool_move, params: {from: " + from + ", to: " + to + "}}\n")
	}
	plan := c.plan(t, app.PlanRequest{File: file("green", "blue")})
	if n := len(plan.Plan.Capacity); n != 4 || !strings.Contains(plan.Plan.Capacity[0].Text, "8 of 8 devices free") {
		t.Errorf("the proof: %+v", plan.Plan.Capacity)
	}
	if b := plan.Plan.Blast; b.PodCount != 4 || b.GPUs != 16 || len(b.BelowBudget) != 1 {
		t.Errorf("the blast: %+v", b)
	}
	if n := c.writes(t); len(n) > 0 {
		t.Fatalf("planning wrote %q", n)
	}
	c.approve(t, plan.Plan.ID, bobToken, eveToken)
	c.execute(t, plan.Plan.ID, incident.PlanVerified)
	c.settled(t, "blue", 4)
	if n := c.cordoned(t); !slices.Equal(n, []string{"green-1", "green-2"}) {
		t.Errorf("cordoned are %q", n)
	}
	c.whole(t)
	c.as(t, annToken, func(p *app.Plans) {
		r, err := p.Undo(t.Context(), plan.Plan.ID, app.As("", "cli"), "the driver was not it")
		if err != nil || r.State != incident.PlanUndone {
			t.Errorf("%s %q: %v", r.State, r.Left, err)
		}
	})
	if n := c.cordoned(t); !slices.Equal(n, []string{"blue-1", "blue-2"}) {
		t.Errorf("cordoned are %q", n)
	}
}

// settled waits until so many pods of the server run on nodes of a pool, and none elsewhere.
func (c *clinic) settled(t *testing.T, pool string, want int) {
	t.Helper()
	soon(t, "the pods on "+pool, func(ctx context.Context) (bool, error) {
		l, err := c.client.CoreV1().Pods("tide").List(ctx, metav1.ListOptions{LabelSelector: "app=serve"})
		if err != nil {
			return false, err
		}
		n := 0
		for _, p := range l.Items {
			if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning && strings.HasPrefix(p.Spec.NodeName, pool+"-") {
				n++
			}
		}
		return n == want && len(l.Items) == want, nil
	})
}

// cordoned names the nodes that take no pods.
func (c *clinic) cordoned(t *testing.T) []string {
	t.Helper()
	l, err := c.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range l.Items {
		if n.Spec.Unschedulable {
			out = append(out, n.Name)
		}
	}
	slices.Sort(out)
	return out
}
