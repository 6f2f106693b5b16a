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
	c.execute(t, plan.Plan.ID, incident.PlanVerified)
	for _, f := range want.Forbid {
		verb, kind, ok := strings.Cut(f, " ")
		for _, w := range c.writes(t)[before:] {
			if ok && strings.HasPrefix(w, verb+" "+strings.ToLower(kind)) {
				t.Errorf("the server saw %q, which is forbidden", w)
			}
		}
	}
	c.stands(t, want.After)
	c.whole(t)
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
