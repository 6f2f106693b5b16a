package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// shortLease lets the next executor take a plan up soon after one was killed.
const shortLease = time.Second

// TestKilledExecutor is no test of its own: TestKill runs it as a process that kills
// itself at the point whose number it is given.
func TestKilledExecutor(t *testing.T) {
	id := os.Getenv("GUMSHOE_TEST_PLAN")
	if id == "" {
		t.Skip("run by TestKill")
	}
	at, err := strconv.Atoi(os.Getenv("GUMSHOE_TEST_POINT"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig, cfg.Store.Dir = os.Getenv("GUMSHOE_TEST_KUBECONFIG"), os.Getenv("GUMSHOE_TEST_STATE")
	cfg.Policy.Dirs = []string{os.Getenv("GUMSHOE_TEST_RULES")}
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := app.OpenPlans(cfg, a)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	p.Lease = shortLease
	p.Boundary = func(point string) {
		if n++; n == at {
			fmt.Fprintln(os.Stderr, "killed at", point)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal ends it
		}
	}
	r, err := p.Execute(t.Context(), id, "", "cli")
	if err != nil || r.State != incident.PlanVerified {
		t.Fatalf("%s %s: %v", r.State, r.Reason, err)
	}
}

// kill -9 at every point between two things that an executor does: another process
// takes the plan up and completes it; every object was written as often as planned, by
// the API server's own log; and what the journal says stands, stands.
func TestKill(t *testing.T) {
	t.Parallel()
	c := openClinic(t, controlplane.Options{})
	c.run(t, []scenario.Group{gpus("kill", 1, 1)})
	// Each round has a world of its own: a node to cordon, a claim to delete, a
	// Deployment without pods to change.
	for n := 1; ; n++ {
		ns := fmt.Sprintf("kill-%d", n)
		c.run(t, []scenario.Group{{Prefix: ns, Count: 1}}, scenario.Step{Apply: `{{class "kill.example.com" "kill.example.com"}}
{{claim "` + ns + `" "orphan" "kill.example.com" 1 ""}}
` + strings.Replace(deployment(ns, "serve", "", ""), "replicas: 1", "replicas: 0", 1)})
		plan := c.plan(t, app.PlanRequest{File: []byte(fmt.Sprintf(`
reason: tidy up
steps:
- {action: cordon, params: {node: %[1]s-1}}
- {action: claim_delete, params: {namespace: %[1]s, claim: orphan}}
- {action: set_image, params: {kind: Deployment, namespace: %[1]s, name: serve, container: main, image: "registry.example.com/serve:2"}}
`, ns))})
		id := plan.Plan.ID
		c.approve(t, id, bobToken)
		before := len(c.writes(t))

		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledExecutor$", "-test.v")
		cmd.Env = append(os.Environ(), "GUMSHOE_TEST_PLAN="+id, "GUMSHOE_TEST_POINT="+strconv.Itoa(n),
			"GUMSHOE_TEST_KUBECONFIG="+c.kubeconfigOf(t, annToken), "GUMSHOE_TEST_STATE="+c.state, "GUMSHOE_TEST_RULES="+c.rules)
		out, err := cmd.CombinedOutput()
		point := "the end"
		if i := strings.Index(string(out), "killed at "); i >= 0 {
			point, _, _ = strings.Cut(string(out)[i+len("killed at "):], "\n")
		}
		if x, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || x.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
			t.Fatalf("point %d: %v\n%s", n, err, out)
		}
		if err != nil {
			c.takeUp(t, id, point)
		}
		node, err := c.client.CoreV1().Nodes().Get(t.Context(), ns+"-1", metav1.GetOptions{})
		if err != nil || !node.Spec.Unschedulable {
			t.Errorf("killed at %s: the node is not cordoned: %v", point, err)
		}
		d, err := c.client.AppsV1().Deployments(ns).Get(t.Context(), "serve", metav1.GetOptions{})
		if err != nil || !strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":2") {
			t.Errorf("killed at %s: the image is not set: %v", point, err)
		}
		want := []string{"patch nodes " + ns + "-1", "patch resourceclaims orphan", "delete resourceclaims orphan", "patch deployments serve"}
		var got []string
		soon(t, "the audit log of "+ns, func(context.Context) (bool, error) {
			got = c.writes(t)[before:]
			return len(got) >= len(want), nil
		})
		// A mark may be made twice when the process ends between it and the delete that
		// it announces; a change never is.
		got = slices.CompactFunc(got, func(a, b string) bool { return a == b && a == "patch resourceclaims orphan" })
		if !slices.Equal(got, want) {
			t.Errorf("killed at %d (%s): the server saw %q, want %q", n, point, got, want)
		}
		if point == "the end" {
			t.Logf("%d points", n-1)
			if n < 30 {
				t.Errorf("only %d points were tried", n-1)
			}
			break
		}
	}
	c.whole(t)
}

// takeUp goes on with a plan whose executor was killed.
func (c *clinic) takeUp(t *testing.T, id, point string) {
	t.Helper()
	soon(t, "the plan that was cut off at "+point, func(ctx context.Context) (bool, error) {
		var r planner.Record
		var err error
		c.as(t, annToken, func(p *app.Plans) {
			p.Lease = shortLease
			p.Emit = nil
			r, err = p.Execute(ctx, id, "", "cli")
		})
		if w, ok := errors.AsType[*planner.Withheld](err); ok && w.Final && r.State == incident.PlanVerified {
			return true, nil // it was killed after its end
		}
		return err == nil && r.State == incident.PlanVerified, err
	})
}
