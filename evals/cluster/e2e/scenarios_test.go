package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/scenario"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

// byHand are scenarios whose trouble is written by hand as statuses, since it takes a
// kubelet, hardware or a registry: nothing here would react to their mending. Their
// recordings are mended on the API in memory.
func byHand() []string {
	return []string{
		"dra-plugin-down", "dra-leaked-claim", "k8s-image-not-found", "k8s-oom-killed", "k8s-liveness-probe", "k8s-readiness-probe",
		"k8s-node-npd-condition", "k8s-job-backoff", "k8s-ingress-class", "k8s-network-policy-other-namespace", "dra-survey-namespace", "dra-admin-access-denied",
	}
}

// Every other scenario that says how it is mended, on a control plane of its own: the
// scheduler, the controllers and kwok react as they do.
func TestRemediesOfScenarios(t *testing.T) {
	t.Parallel()
	all, err := scenario.Load(filepath.Join("..", "scenarios"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range all {
		if s.Case.Remediation == nil || slices.Contains(byHand(), s.ID) {
			continue
		}
		n++
		t.Run(s.ID, func(t *testing.T) {
			t.Parallel()
			mend(t, s)
		})
	}
	if n < 20 {
		t.Errorf("only %d scenarios are mended", n)
	}
}

func mend(t *testing.T, s scenario.Scenario) {
	c := openClinic(t, controlplane.Options{})
	if err := scenario.Run(t.Context(), s, c.hands, time.Now()); err != nil {
		t.Fatal(err)
	}
	want := s.Case.Remediation
	r := investigate(t, c.config(t, annToken), s.Case.Question)
	if r.Diagnosis.Outcome != incident.RootCause {
		t.Fatal(tell(r))
	}
	before := len(c.writes(t))
	plan := c.plan(t, app.PlanRequest{Report: &r, Choice: planner.Choice{Action: want.Choose, Set: want.Set}})
	for i, w := range want.Plan {
		if i >= len(plan.Plan.Steps) || plan.Plan.Steps[i].Action != w.Action {
			t.Fatalf("the plan is %+v, want %s", plan.Plan.Steps, w.Action)
		}
	}
	if want.Needs != nil && plan.Decision.Approvers != *want.Needs {
		t.Errorf("%d people have to approve, want %d", plan.Decision.Approvers, *want.Needs)
	}
	if n := len(c.writes(t)); n != before {
		t.Errorf("planning wrote %d times", n-before)
	}
	c.approve(t, plan.Plan.ID, []string{bobToken, calToken}[:plan.Decision.Approvers]...)
	c.printed(t, plan)
	if n := len(c.writes(t)); n != before {
		t.Errorf("people wrote %d times, where the executor should", n-before)
	}
	for _, f := range want.Forbid {
		verb, kind, ok := strings.Cut(f, " ")
		for _, w := range c.writesOf(t, func(user string) bool { return user == executorAccount }) {
			if ok && strings.HasPrefix(w, verb+" "+strings.ToLower(kind)) {
				t.Errorf("the server saw %q, which is forbidden", w)
			}
		}
	}
	c.stands(t, want.After)
	c.whole(t)
}

// printed executes a plan with the identity that gumshoe rbac prints for its actions
// alone, under the admission policies that it prints: no more rights are needed.
func (c *clinic) printed(t *testing.T, plan planner.Record) {
	t.Helper()
	var names []string
	for _, s := range plan.Plan.Steps {
		if !slices.Contains(names, s.Action) {
			names = append(names, s.Action)
		}
	}
	rules, err := policy.New()
	if err != nil {
		t.Fatal(err)
	}
	o := app.RBACOptions{Actions: names}
	grants, err := app.RBAC(o)
	if err != nil {
		t.Fatal(err)
	}
	policies, err := app.Admission(o, rules)
	if err != nil {
		t.Fatal(err)
	}
	c.install(t, grants.Objects)
	c.install(t, policies)
	cfg := c.config(t, annToken)
	cfg.Executor.Kubeconfig = c.kubeconfigOf(t, executorAccountToken)
	c.with(t, cfg, func(p *app.Plans) {
		r, err := p.Execute(t.Context(), plan.Plan.ID, app.As("", "cli"))
		if err != nil || r.State != incident.PlanVerified {
			t.Fatalf("the plan is %s, want verified: %s %q: %v", r.State, r.Reason, r.Left, err)
		}
	})
}

// stands waits for the facts that a case wants at its end.
func (c *clinic) stands(t *testing.T, facts []evals.Standing) {
	t.Helper()
	rc := c.cp.RESTConfig()
	dyn, err := dynamic.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	disc, err := discovery.NewDiscoveryClientForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	cat, err := actions.New(actions.Config{Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disc)), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	k := cat.NewChecker(nil, false)
	for _, f := range facts {
		if f.Name == "" { // a count of any of a kind, which names that controllers make up need
			continue
		}
		kind, group, _ := strings.Cut(f.Kind, ".")
		check := incident.Check{Kind: actions.CheckField, Subject: incident.Ref{Group: group, Kind: kind, Namespace: f.Namespace, Name: f.Name}, Params: map[string]string{"path": f.Path, "value": f.Value}}
		switch {
		case f.Gone:
			check.Kind, check.Params = actions.CheckGone, nil
		case f.Path == "":
			check.Kind = actions.CheckExists
		}
		soon(t, f.String(), func(ctx context.Context) (bool, error) {
			v, saw := k.Check(ctx, check)
			return v == incident.Pass, fmt.Errorf("%s", saw)
		})
	}
}
