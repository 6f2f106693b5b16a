package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/api"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/planner"
)

var (
	_      api.Service = (*client.Client)(nil)
	nobody             = incident.Person{} // the server knows by the token who asks
)

// answered asks and follows the run to its end.
func answered(t *testing.T, c *client.Client, a session.Ask) (session.Session, session.Turn) {
	t.Helper()
	s, turn, err := c.Ask(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	var facts []event.Type
	for told, err := range c.Events(t.Context(), turn.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if told.Seq > 0 {
			facts = append(facts, told.Event.Type)
		}
	}
	if len(facts) < 3 || facts[0] != event.RunStarted || facts[len(facts)-1] != event.RunEnded {
		t.Fatalf("the stream of %s: %v", turn.ID, facts)
	}
	for n, err := range c.Follow(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Session != s.ID || n.Type != session.TypeEnded {
			continue
		}
		if s, err = c.Session(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Turn(turn.ID); got.State.Ended() {
			return s, got
		}
	}
	t.Fatal("the turn never ended")
	return s, turn
}

// From a question to a verified fix through a client and a server alone.
func TestStory(t *testing.T) {
	t.Parallel()
	svc := staged(t)
	svc.Work(t)
	r := server(t, svc, api.Config{}, nil)
	ann, bob := r.as(t, "ann", nil), r.as(t, "bob", nil)
	s, turn := answered(t, ann, session.Ask{Question: incident.Question{Text: "why does service web not answer", Namespace: "shop"}, Key: "k1"})
	if turn.State != session.Answered || turn.Outcome != incident.RootCause || turn.By.Name != "ann" || turn.By.Surface != "api" || turn.Source != session.API {
		t.Fatalf("%+v", turn)
	}
	same, again, err := ann.Ask(t.Context(), session.Ask{Question: incident.Question{Text: "something else"}, Key: "k1"})
	if err != nil || same.ID != s.ID || again.ID != turn.ID {
		t.Errorf("the same key gives session %s, turn %s (%v)", same.ID, again.ID, err)
	}
	if other, _, err := bob.Ask(t.Context(), session.Ask{Question: incident.Question{Text: "is namespace shop healthy"}, Key: "k1"}); err != nil || other.ID == s.ID {
		t.Errorf("the key of another person gives session %s (%v)", other.ID, err)
	}
	s, next := answered(t, ann, session.Ask{Session: s.ID, Question: incident.Question{Text: "and why?"}})
	run, err := ann.Run(t.Context(), next.Run)
	if err != nil || len(run.Report.Evidence) == 0 || next.Outcome != incident.RootCause {
		t.Errorf("the follow-up: %+v (%v)", next, err)
	}

	plan, err := ann.Propose(t.Context(), session.PlanAsk{Session: s.ID, Run: turn.Run})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Say(t.Context(), plan.Plan.ID, incident.Approved, "", nobody); err == nil || !strings.Contains(err.Error(), "was not looked at") {
		t.Errorf("a plan that bob never saw: %v", err)
	}
	if _, err := bob.Plan(t.Context(), plan.Plan.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Say(t.Context(), plan.Plan.ID, incident.Approved, "go ahead", nobody); err != nil {
		t.Fatal(err)
	}
	var last planner.Record
	for n, err := range ann.Follow(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Plan != plan.Plan.ID {
			continue
		}
		if last, err = ann.Plan(t.Context(), n.Plan); err != nil {
			t.Fatal(err)
		}
		if last.Released {
			break
		}
	}
	if last.State != incident.PlanVerified || last.By.Name != "bob" {
		t.Errorf("the plan ends %s (%s), by %s", last.State, last.Reason, last.By.Name)
	}
	var plans []event.Type
	for told, err := range ann.Events(t.Context(), plan.Plan.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if plans = append(plans, told.Event.Type); told.Event.Type == event.PlanReleased {
			break
		}
	}
	if plans[0] != event.PlanMade || len(plans) < 6 {
		t.Errorf("the stream of the plan: %v", plans)
	}
	root := r.as(t, "root", nil)
	svc.trip(t, plan.Plan.ClusterUID)
	if err := root.ResetBreaker(t.Context(), "looked into it", nobody); err != nil {
		t.Error(err)
	}
	if err := root.ResetBreaker(t.Context(), "", nobody); tool.KindOf(err) != tool.Invalid {
		t.Errorf("the breaker without a reason: %v", err)
	}
	if rep, err := root.Audit(t.Context()); err != nil || !rep.OK {
		t.Errorf("the audit trail: %+v (%v)", rep, err)
	}
	trail, err := root.Trail(t.Context())
	if err != nil || len(trail) < 5 {
		t.Errorf("%d entries (%v)", len(trail), err)
	}
	out, err := ann.Export(t.Context(), s.ID)
	if err != nil || len(out.Runs) != 2 || len(out.Plans) != 1 {
		t.Errorf("the export holds %d runs and %d plans (%v)", len(out.Runs), len(out.Plans), err)
	}
	if text := api.Markdown(out); !strings.Contains(text, "go ahead") || !strings.Contains(text, "## Question 2") {
		t.Errorf("the page:\n%s", text)
	}
}

// fullUp is a service whose store takes nothing more.
type fullUp struct{ api.Service }

func (fullUp) Ask(context.Context, session.Ask) (session.Session, session.Turn, error) {
	return session.Session{}, session.Turn{}, fmt.Errorf("append to session.s-1: %w: secret detail", store.ErrFull)
}

// Where there is no room for a question, whoever asks learns that it was not kept.
func TestStoreIsFull(t *testing.T) {
	t.Parallel()
	r := server(t, fullUp{staged(t).Service}, api.Config{}, nil)
	_, _, err := r.as(t, "ann", hurry).Ask(t.Context(), session.Ask{Question: incident.Question{Text: "why does service web not answer"}})
	if err == nil || !strings.Contains(err.Error(), "no room: this was not kept") || strings.Contains(err.Error(), "secret") {
		t.Errorf("the client says %v", err)
	}
}
