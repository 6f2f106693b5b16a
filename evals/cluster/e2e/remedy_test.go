package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// The people of the tests: the cluster knows them by these tokens.
const (
	annToken = "ann-token"
	bobToken = "bob-token"
	calToken = "cal-token"
	danToken = "dan-token"
	eveToken = "eve-token"
)

// people are the users of a control plane on which plans are made.
func people() map[string]string {
	return map[string]string{"ann": annToken, "bob": bobToken, "cal": calToken, "dan": danToken, "eve": eveToken}
}

// clinic is a cluster with people who may change it, and a store for plans.
type clinic struct {
	*live
	// state is the directory of the store, rules that of the policy.
	state, rules string
}

// openClinic starts a control plane on which ann, bob and cal may change things and eve may
// only read.
func openClinic(t *testing.T, o controlplane.Options) *clinic {
	t.Helper()
	o.Kwok, o.Audit, o.Users = true, true, people()
	o.Users[executorAccount] = executorAccountToken
	c := &clinic{live: start(t, o), state: t.TempDir(), rules: t.TempDir()}
	// Many plans of one test share a small cluster; the breaker has a test of its own.
	if err := os.WriteFile(filepath.Join(c.rules, "settings.yaml"), []byte("settings: {maxOpenRequests: 100, breaker: {nodeShare: 1, nodes: 1000, actions: 100000, window: 1m}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := rbacv1.PolicyRule{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}
	c.grant(t, "ann", "", all)
	c.grant(t, "bob", "", all)
	c.grant(t, "cal", "", all)
	c.grant(t, "eve", "", reading("*", "*"))
	return c
}

// config is that of a person at a terminal.
func (c *clinic) config(t *testing.T, token string) app.Config {
	t.Helper()
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = c.kubeconfigOf(t, token)
	cfg.Store.Dir, cfg.Policy.Dirs = c.state, []string{c.rules}
	return cfg
}

// as opens the plans as a person would.
func (c *clinic) as(t *testing.T, token string, work func(*app.Plans)) {
	t.Helper()
	c.with(t, c.config(t, token), work)
}

func (c *clinic) with(t *testing.T, cfg app.Config, work func(*app.Plans)) {
	t.Helper()
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	p, err := app.OpenPlans(cfg, a)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	p.Emit = func(e event.Event) {
		switch {
		case e.Check != nil:
			t.Logf("%s %s: %s", e.Check.Verdict, e.Check.Check.Say, e.Check.Saw)
		case e.Write != nil:
			t.Logf("%s %+v", e.Type, *e.Write)
		case e.Progress != nil:
			t.Logf("%s %s%s %s", e.Type, e.Progress.Step, e.Progress.Write, e.Progress.Say)
		}
	}
	work(p)
}

// diagnose investigates as ann, and checks the first cause.
func (c *clinic) diagnose(t *testing.T, question, code string) incident.Report {
	t.Helper()
	r := investigate(t, c.config(t, annToken), question)
	if len(r.Diagnosis.Causes) == 0 || r.Diagnosis.Causes[0].Code != code {
		t.Fatalf("%s: %s", question, tell(r))
	}
	return r
}

// plan makes a plan as ann.
func (c *clinic) plan(t *testing.T, req app.PlanRequest) planner.Record {
	t.Helper()
	req.Caller.Surface = "cli"
	var out planner.Record
	c.as(t, annToken, func(p *app.Plans) {
		r, err := p.Make(t.Context(), req)
		if err != nil {
			t.Fatalf("no plan: %v", err)
		}
		out = r
	})
	return out
}

// approve approves as the people with the tokens.
func (c *clinic) approve(t *testing.T, id string, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		c.as(t, token, func(p *app.Plans) {
			if _, err := p.Say(t.Context(), id, incident.Approved, "go ahead", app.As("", "cli")); err != nil {
				t.Fatalf("not approved: %v", err)
			}
		})
	}
}

// execute executes as ann and expects a state.
func (c *clinic) execute(t *testing.T, id string, want incident.PlanState) planner.Record {
	t.Helper()
	var out planner.Record
	c.as(t, annToken, func(p *app.Plans) {
		r, err := p.Execute(t.Context(), id, app.As("", "cli"))
		if err != nil {
			t.Fatalf("not executed: %v", err)
		}
		out = r
	})
	if out.State != want {
		t.Fatalf("the plan is %s, want %s: %s %q", out.State, want, out.Reason, out.Left)
	}
	return out
}

// whole checks that the audit log of gumshoe is whole.
func (c *clinic) whole(t *testing.T) {
	t.Helper()
	c.as(t, annToken, func(p *app.Plans) {
		r, err := p.Audit(t.Context())
		if err != nil || !r.OK {
			t.Errorf("the audit log is not whole: %+v: %v", r, err)
		}
	})
}

// writes lists the requests of people, by the API server's own log, that changed
// something: "patch nodes a", "delete pods ns/b", in the order of time. Dry runs and reviews change nothing.
func (c *clinic) writes(t *testing.T) []string {
	t.Helper()
	return c.writesOf(t, func(user string) bool { _, one := people()[user]; return one })
}

func (c *clinic) writesOf(t *testing.T, whose func(user string) bool) []string {
	t.Helper()
	log, err := c.cp.AuditLog()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range log {
		if !whose(r.User.Username) || r.Object == nil || r.Status.Code >= 300 || strings.Contains(r.URI, "dryRun=All") {
			continue
		}
		if slices.Contains([]string{"get", "list", "watch"}, r.Verb) || strings.HasSuffix(r.Object.APIGroup, "authorization.k8s.io") || r.Object.APIGroup == "authentication.k8s.io" {
			continue
		}
		what := r.Object.Resource
		if r.Object.Subresource != "" {
			what += "/" + r.Object.Subresource
		}
		name := r.Object.Name
		if r.Object.Namespace != "" {
			name = r.Object.Namespace + "/" + name
		}
		out = append(out, r.Verb+" "+what+" "+name)
	}
	return out
}

// soon waits until something holds.
func soon(t *testing.T, what string, holds func(context.Context) (bool, error)) {
	t.Helper()
	controlplane.Soon(t, patience, what, holds)
}

// A claim that no device satisfies: from the question to a pod that the real
// scheduler has placed, and back again.
func TestRemedyClaim(t *testing.T) {
	t.Parallel()
	c := openClinic(t, controlplane.Options{})
	c.run(t, []scenario.Group{gpus("lame", 2, 4)}, scenario.Step{Apply: `{{class "lame.example.com" "lame.example.com"}}
{{claimTmpl "lame" "serve-gpu" "lame.example.com" 1 "device.attributes['lame.example.com'].productName.contains('H200')"}}
` + deployment("lame", "serve", "resourceClaims: [{name: gpu, resourceClaimTemplateName: serve-gpu}]", "resources: {claims: [{name: gpu}]}")})
	pod := c.podOf(t, "lame", "serve")
	c.refused(t, "lame", pod)

	r := c.diagnose(t, "why is pod lame/"+pod+" pending?", "dra.selector_excludes_all")
	plan := c.plan(t, app.PlanRequest{Report: &r})
	if n := c.writes(t); len(n) > 0 {
		t.Fatalf("planning wrote %q", n)
	}
	if w := plan.Plan.Steps[0].Writes; w[0].Dry != "server" || w[0].Ref.Kind != "ResourceClaimTemplate" {
		t.Errorf("the first write: %+v", w[0])
	}
	if len(plan.Plan.Capacity) == 0 || !strings.Contains(plan.Plan.Capacity[0].Text, "lame-") {
		t.Errorf("no proof that it fits: %+v", plan.Plan.Capacity)
	}
	c.as(t, annToken, func(p *app.Plans) {
		if _, err := p.Execute(t.Context(), plan.Plan.ID, app.As("", "cli")); err == nil || !strings.Contains(err.Error(), "not executed") {
			t.Errorf("executed without consent: %v", err)
		}
	})
	c.approve(t, plan.Plan.ID, bobToken)
	c.execute(t, plan.Plan.ID, incident.PlanVerified)
	if node := c.scheduled(t, "lame", c.podOf(t, "lame", "serve")); !strings.HasPrefix(node, "lame-") {
		t.Errorf("the pod is on %q", node)
	}
	if got := c.writes(t); len(got) < 2 {
		t.Errorf("the server saw %q", got)
	}
	c.whole(t)
	c.as(t, annToken, func(p *app.Plans) {
		r, err := p.Undo(t.Context(), plan.Plan.ID, app.As("", "cli"), "the other way was better")
		if err != nil || r.State != incident.PlanUndone {
			t.Errorf("%s %q: %v", r.State, r.Left, err)
		}
	})
	d, err := c.client.AppsV1().Deployments("lame").Get(t.Context(), "serve", metav1.GetOptions{})
	if err != nil || *d.Spec.Template.Spec.ResourceClaims[0].ResourceClaimTemplateName != "serve-gpu" {
		t.Errorf("the Deployment was not put back: %v", err)
	}
}

// deployment is a Deployment of one pod with more in its pod spec and container.
func deployment(namespace, name, pod, container string) string {
	return fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  replicas: 1
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec:
      %[3]s
      containers:
      - name: main
        image: registry.example.com/%[2]s:1
        %[4]s
`, namespace, name, pod, container)
}

// podOf waits for the newest pod with a label and gives its name.
func (c *clinic) podOf(t *testing.T, namespace, label string) string {
	t.Helper()
	name := ""
	soon(t, "a pod of "+label, func(ctx context.Context) (bool, error) {
		l, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + label})
		if err != nil {
			return false, err
		}
		live := slices.DeleteFunc(l.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
		slices.SortFunc(live, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
		if len(live) > 0 {
			name = live[0].Name
		}
		return name != "", nil
	})
	return name
}
