package app_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// answered asks and waits for the end by the stream of events alone.
func answered(t *testing.T, s *app.Service, a session.Ask) (session.Session, session.Turn) {
	t.Helper()
	se, turn, err := s.Ask(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	var types []event.Type
	for told, err := range s.Events(t.Context(), turn.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if told.Seq > 0 { // what is only told live may come before
			types = append(types, told.Event.Type)
		}
	}
	if len(types) < 3 || types[0] != event.RunStarted || types[len(types)-1] != event.RunEnded {
		t.Fatalf("the stream of %s: %v", turn.ID, types)
	}
	for n, err := range s.Follow(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Session == se.ID && n.Type == session.TypeEnded {
			if se, err = s.Session(t.Context(), se.ID); err != nil {
				t.Fatal(err)
			}
			if got, _ := se.Turn(turn.ID); got.State.Ended() {
				return se, got
			}
		}
	}
	t.Fatal("the turn never ended")
	return se, turn
}

// From a question to a verified fix, through nothing but the service.
func TestServiceStory(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	ann := incident.Person{Name: "ann", Groups: []string{"sre"}, Surface: session.Web}
	se, turn := answered(t, s, session.Ask{Question: incident.Question{Text: "why does service web not answer", Namespace: "shop"}, By: ann, Source: session.Web, Key: "k1"})
	if turn.State != session.Answered || turn.Outcome != incident.RootCause || !strings.Contains(turn.Headline, "selector") {
		t.Fatalf("%+v", turn)
	}
	again, same, err := s.Ask(t.Context(), session.Ask{Question: incident.Question{Text: "something else"}, By: ann, Source: session.Web, Key: "k1"})
	if err != nil || again.ID != se.ID || same.ID != turn.ID {
		t.Errorf("the same key gives %s, turn %s (%v)", again.ID, same.ID, err)
	}
	se, next := answered(t, s, session.Ask{Session: se.ID, Question: incident.Question{Text: "and why?"}, By: ann, Source: session.Slack})
	run, err := s.Run(t.Context(), next.Run)
	if err != nil || next.Outcome != incident.RootCause || len(run.Report.Subjects) == 0 || run.Report.Subjects[0].Name != "web" {
		t.Errorf("a follow-up that names nothing: %+v, about %v (%v)", next, run.Report.Subjects, err)
	}
	rec, err := s.Propose(t.Context(), session.PlanAsk{Session: se.ID, Run: turn.Run, By: ann, Source: session.Web})
	if err != nil {
		t.Fatal(err)
	}
	// Whose word is not taken hears why, and not that the server failed.
	if _, err := s.Say(t.Context(), rec.Plan.ID, incident.Rejected, "", ann); tool.KindOf(err) != tool.Invalid || !strings.Contains(tool.UserText(err), "a rejection says why") {
		t.Errorf("a rejection without a reason: %v", err)
	}
	bob := incident.Person{Name: "bob", Groups: []string{"sre"}, Surface: session.Slack}
	if _, err := s.Say(t.Context(), rec.Plan.ID, incident.Approved, "", bob); err != nil {
		t.Fatal(err)
	}
	var last planner.Record
	for n, err := range s.Follow(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Plan != rec.Plan.ID {
			continue
		}
		if last, err = s.Plan(t.Context(), n.Plan); err != nil {
			t.Fatal(err)
		}
		if last.Released {
			break
		}
	}
	if last.State != incident.PlanVerified || last.By.Name != "bob" {
		t.Errorf("the plan ends %s (%s), by %s", last.State, last.Reason, last.By.Name)
	}
	if _, err := s.Say(t.Context(), rec.Plan.ID, incident.Approved, "", incident.Person{Name: "cal", Surface: session.API}); err == nil {
		t.Error("a plan that is done was approved again")
	}
	if rep, err := s.Audit(t.Context()); err != nil || !rep.OK {
		t.Errorf("the audit trail: %+v (%v)", rep, err)
	}
}

// A question that was taken is answered by the next server when the first one ends
// before it comes to it.
func TestServiceTakesUp(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector", func(_ *app.Config, c *app.ServiceConfig) { c.Queue.Grace = app.Duration(time.Nanosecond) })
	se, turn, err := s.Ask(t.Context(), session.Ask{Question: incident.Question{Text: "why does service web not answer", Namespace: "shop"}, Source: session.API})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // a server that ends at once gives its work back
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := s.Serve(ctx); err != nil {
			t.Fatal(err)
		}
		stop()
		got, err := s.Session(t.Context(), se.ID)
		if err != nil {
			t.Fatal(err)
		}
		if now, _ := got.Turn(turn.ID); now.State.Ended() && now.State != session.Answered {
			t.Fatalf("%+v", now)
		}
	}
}

// Two approvers in the same second: one plan, one execution, and whoever was late hears it
// in a sentence.
func TestTwoApproversAtOnce(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	_, turn := answered(t, s, session.Ask{Question: incident.Question{Text: "why does service shop/web have no endpoints?"}, Source: session.API})
	rec, err := s.Propose(t.Context(), session.PlanAsk{Run: turn.Run, By: incident.Person{Name: "ann", Surface: session.Web}, Source: session.Web})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"bob", "cal", "dan", "eve"}
	errs := make(chan error, len(names))
	for _, name := range names {
		go func() {
			_, err := s.Say(t.Context(), rec.Plan.ID, incident.Approved, "", incident.Person{Name: name, Surface: session.Slack})
			errs <- err
		}()
	}
	taken := 0
	for range names {
		if err := <-errs; err == nil {
			taken++
		} else if !strings.Contains(err.Error(), "nobody's word changes it") {
			t.Errorf("the late one hears %v", err)
		}
	}
	if taken == 0 {
		t.Error("nobody's approval was taken")
	}
	for n, err := range s.Follow(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Plan != rec.Plan.ID {
			continue
		}
		if got, err := s.Plan(t.Context(), n.Plan); err != nil || got.Released {
			begun := 0
			for told, err := range s.Events(t.Context(), n.Plan, 0) {
				if err != nil {
					t.Fatal(err)
				}
				if told.Event.Type == event.PlanBegun {
					begun++
				}
				if told.Event.Type == event.PlanReleased {
					break
				}
			}
			if err != nil || got.State != incident.PlanVerified || begun != 1 {
				t.Errorf("it is %s and was begun %d times (%v)", got.State, begun, err)
			}
			return
		}
	}
}
