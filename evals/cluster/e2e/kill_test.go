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
		// Nothing is sent around the answer to a check; planner's own tests end there too.
		if strings.Contains(point, "check.answered") {
			return
		}
		if n++; n == at {
			fmt.Fprintln(os.Stderr, "killed at", point)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal ends it
		}
	}
	r, err := p.Execute(t.Context(), id, app.As("", "cli"))
	if err != nil || r.State != incident.PlanVerified {
		t.Fatalf("%s %s: %v", r.State, r.Reason, err)
	}
}

// round is one plan on a world of its own: a node to cordon, a claim to delete, a
// Deployment without pods to change.
type round struct {
	n      int
	ns, id string
	point  string
}

// kill -9 at every point between two things that an executor does: another process
// takes the plan up and completes it; every object was written as often as planned, by
// the API server's own log; and what the journal says stands, stands.
func TestKill(t *testing.T) {
	t.Parallel()
	c := openClinic(t, controlplane.Options{})
	c.run(t, []scenario.Group{gpus("kill", 1, 1)}, scenario.Step{Apply: `{{class "kill.example.com" "kill.example.com"}}`})
	kubeconfig := c.kubeconfigOf(t, annToken)
	var cut []round
	for n := 1; ; n++ {
		r := round{n: n, ns: fmt.Sprintf("kill-%d", n)}
		c.run(t, []scenario.Group{{Prefix: r.ns, Count: 1}}, scenario.Step{Apply: `{{claim "` + r.ns + `" "orphan" "kill.example.com" 1 ""}}
` + strings.Replace(deployment(r.ns, "serve", "", ""), "replicas: 1", "replicas: 0", 1)})
		r.id = c.plan(t, app.PlanRequest{File: fmt.Appendf(nil, `
reason: tidy up
steps:
- {action: cordon, params: {node: %[1]s-1}}
- {action: claim_delete, params: {namespace: %[1]s, claim: orphan}}
- {action: set_image, params: {kind: Deployment, namespace: %[1]s, name: serve, container: main, image: "registry.example.com/serve:2"}}
`, r.ns)}).Plan.ID
		c.approve(t, r.id, bobToken)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledExecutor$", "-test.v")
		cmd.Env = append(os.Environ(), "GUMSHOE_TEST_PLAN="+r.id, "GUMSHOE_TEST_POINT="+strconv.Itoa(n), "GUMSHOE_TEST_KUBECONFIG="+kubeconfig, "GUMSHOE_TEST_STATE="+c.state, "GUMSHOE_TEST_RULES="+c.rules)
		out, err := cmd.CombinedOutput()
		if x, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || x.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
			t.Fatalf("point %d: %v\n%s", n, err, out)
		}
		if err == nil {
			break // there are no more points
		}
		_, after, _ := strings.Cut(string(out), "killed at ")
		r.point, _, _ = strings.Cut(after, "\n")
		cut = append(cut, r)
	}
	t.Logf("%d points", len(cut))
	if len(cut) < 30 {
		t.Errorf("only %d points were tried", len(cut))
	}
	for _, r := range cut { // by now the leases of the killed are over
		c.takeUp(t, r)
	}
	log := c.writes(t)
	for _, r := range cut {
		c.holds(t, r, log)
	}
	c.whole(t)
}

// takeUp goes on with a plan whose executor was killed.
func (c *clinic) takeUp(t *testing.T, cut round) {
	t.Helper()
	soon(t, fmt.Sprintf("the plan that was cut off at %d (%s)", cut.n, cut.point), func(ctx context.Context) (bool, error) {
		var r planner.Record
		var err error
		c.as(t, annToken, func(p *app.Plans) {
			p.Lease, p.Emit = shortLease, nil
			r, err = p.Execute(ctx, cut.id, app.As("", "cli"))
		})
		if w, ok := errors.AsType[*planner.Withheld](err); ok && w.Final && r.State == incident.PlanVerified {
			return true, nil // it was killed after its end
		}
		return err == nil && r.State == incident.PlanVerified, err
	})
}

// holds checks the world of a round, and how often each object of it was written.
func (c *clinic) holds(t *testing.T, r round, log []string) {
	t.Helper()
	node, err := c.client.CoreV1().Nodes().Get(t.Context(), r.ns+"-1", metav1.GetOptions{})
	if err != nil || !node.Spec.Unschedulable {
		t.Errorf("killed at %d (%s): the node is not cordoned: %v", r.n, r.point, err)
	}
	d, err := c.client.AppsV1().Deployments(r.ns).Get(t.Context(), "serve", metav1.GetOptions{})
	if err != nil || !strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":2") {
		t.Errorf("killed at %d (%s): the image is not set: %v", r.n, r.point, err)
	}
	want := []string{"patch nodes " + r.ns + "-1", "patch resourceclaims " + r.ns + "/orphan", "delete resourceclaims " + r.ns + "/orphan", "patch deployments " + r.ns + "/serve"}
	mine := slices.DeleteFunc(slices.Clone(log), func(s string) bool {
		return !strings.Contains(s, " "+r.ns+"/") && !strings.HasSuffix(s, " "+r.ns+"-1")
	})
	// A mark may be made twice when the process ends between it and the delete that it
	// announces; a change never is.
	mine = slices.CompactFunc(mine, func(a, b string) bool { return a == b && a == want[1] })
	if !slices.Equal(mine, want) {
		t.Errorf("killed at %d (%s): the server saw %q, want %q", r.n, r.point, mine, want)
	}
}
