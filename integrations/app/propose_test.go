package app_test

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// beside gives another service on the store of one that is there, as a second replica.
func beside(t *testing.T, id, dir string) *app.Service {
	t.Helper()
	cfg := app.Defaults()
	cfg.Store.Dir = dir
	a, err := app.StageCase(id)(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	k, err := app.FileKeeper(context.WithoutCancel(t.Context()), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := app.NewService(a, app.ServiceConfig{Keeper: k})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// What two replicas are asked to propose at the same time is one plan, and stays it while
// something may come of it; what was rejected can be proposed again.
func TestProposalIsFiledOnce(t *testing.T) {
	t.Parallel()
	const id = "k8s-service-selector"
	dir := t.TempDir()
	one, two := beside(t, id, dir), beside(t, id, dir)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- one.Serve(ctx) }()
	se, turn := answered(t, one, session.Ask{Question: incident.Question{Text: "why does service shop/web have no endpoints?"}, Source: session.API})
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	propose := func(s *app.Service, name string) (planner.Record, error) {
		a := session.PlanAsk{Session: se.ID, Run: turn.Run, By: incident.Person{Name: name, Groups: []string{"sre"}, Surface: session.Web}, Source: session.Web}
		return s.Propose(t.Context(), a)
	}
	all := make([]planner.Record, 8)
	var g errgroup.Group
	for i := range all {
		g.Go(func() (err error) {
			all[i], err = propose([]*app.Service{one, two}[i%2], fmt.Sprint("ann", i%3))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	first := all[0]
	for _, r := range all {
		if r.Plan.ID != first.Plan.ID || r.Digest != first.Digest || r.State != incident.PlanPending {
			t.Errorf("%s, %s, is %s; the first is %s, %s", r.Plan.ID, r.Digest, r.State, first.Plan.ID, first.Digest)
		}
	}
	count := func(want int) {
		t.Helper()
		plans, err := two.Plans(t.Context())
		if err != nil || len(plans) != want {
			t.Errorf("%d plans, want %d (%v)", len(plans), want, err)
		}
		s, err := two.Session(t.Context(), se.ID)
		if err != nil || len(s.Plans) != want {
			t.Errorf("the session has %d plans, want %d (%v)", len(s.Plans), want, err)
		}
	}
	count(1)
	bob := incident.Person{Name: "bob", Groups: []string{"sre"}, Surface: session.Web}
	if _, err := two.Say(t.Context(), first.Plan.ID, incident.Approved, "", bob); err != nil {
		t.Fatal(err)
	}
	if r, err := propose(one, "ann"); err != nil || r.Plan.ID != first.Plan.ID || r.State != incident.PlanApproved {
		t.Errorf("asked again when it is approved: %s is %s (%v)", r.Plan.ID, r.State, err)
	}
	if _, err := two.Say(t.Context(), first.Plan.ID, incident.Revoked, "wait", bob); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Say(t.Context(), first.Plan.ID, incident.Rejected, "not now", bob); err != nil {
		t.Fatal(err)
	}
	next, err := propose(two, "ann")
	if err != nil || next.Plan.ID == first.Plan.ID || next.State != incident.PlanPending {
		t.Fatalf("asked again after it was rejected: %s is %s (%v)", next.Plan.ID, next.State, err)
	}
	count(2)
	if rep, err := one.Audit(t.Context()); err != nil || !rep.OK {
		t.Errorf("the audit trail: %+v (%v)", rep, err)
	}
}
