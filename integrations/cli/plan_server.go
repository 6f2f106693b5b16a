package cli

import (
	"context"
	"fmt"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

// planDesk is where plans lie: in the store of this process, or on a server.
type planDesk interface {
	Make(ctx context.Context, r app.PlanRequest) (planner.Record, error)
	Get(ctx context.Context, id string) (planner.Record, error)
	List(ctx context.Context) ([]planner.Record, error)
	Say(ctx context.Context, id, word, comment string, c app.Caller) (planner.Record, error)
	Rehearse(ctx context.Context, id string) (planner.Record, []string, error)
	Execute(ctx context.Context, id string, c app.Caller) (planner.Record, error)
	Undo(ctx context.Context, id string, c app.Caller, because string) (planner.Record, error)
	Trail(ctx context.Context) ([]audit.Entry, error)
	Audit(ctx context.Context, known ...audit.Head) (audit.Report, error)
	ResetBreaker(ctx context.Context, c app.Caller, reason string) error
}

var (
	_ planDesk = (*app.Plans)(nil)
	_ planDesk = (*serverPlans)(nil)
)

// serverPlans are the plans of a server. Who speaks there is whom the token names.
type serverPlans struct {
	c    *client.Client
	emit func(event.Event)
}

// as refuses a name that is claimed: a server knows people by their login.
func (serverPlans) as(c app.Caller) error {
	if c.As == "" {
		return nil
	}
	return usage(fmt.Errorf("--as %s: a server knows who you are by your token; give --token-file", c.As))
}

// Make implements planDesk.
func (s *serverPlans) Make(ctx context.Context, r app.PlanRequest) (planner.Record, error) {
	if err := s.as(r.Caller); err != nil {
		return planner.Record{}, err
	}
	a := session.PlanAsk{Run: r.Investigation, Action: r.Choice.Action, Set: r.Choice.Set, File: r.File, Reason: r.Reason, BreakGlass: r.BreakGlass, Source: session.CLI}
	if a.Run == "latest" {
		all, err := s.c.Sessions(ctx, session.Filter{Limit: 20})
		if err != nil {
			return planner.Record{}, err
		}
		a.Run = ""
		for _, one := range all {
			for i := len(one.Turns) - 1; i >= 0 && a.Run == ""; i-- {
				if t := one.Turns[i]; t.State == session.Answered {
					a.Session, a.Run = one.ID, t.Run
				}
			}
		}
		if a.Run == "" {
			return planner.Record{}, &tool.Error{Kind: tool.NotFound, User: "the server has no answered question", Fix: "ask something first"}
		}
	}
	return s.c.Propose(ctx, a)
}

// Get implements planDesk.
func (s *serverPlans) Get(ctx context.Context, id string) (planner.Record, error) {
	return s.c.Plan(ctx, id)
}

// List implements planDesk.
func (s *serverPlans) List(ctx context.Context) ([]planner.Record, error) { return s.c.Plans(ctx) }

// Say implements planDesk.
func (s *serverPlans) Say(ctx context.Context, id, word, comment string, c app.Caller) (planner.Record, error) {
	if err := s.as(c); err != nil {
		return planner.Record{}, err
	}
	if _, err := s.c.Plan(ctx, id); err != nil { // the client approves what it has read
		return planner.Record{}, err
	}
	return s.c.Say(ctx, id, word, comment, incident.Person{Surface: session.CLI})
}

// Rehearse implements planDesk.
func (s *serverPlans) Rehearse(ctx context.Context, id string) (planner.Record, []string, error) {
	return s.c.Rehearse(ctx, id)
}

// Execute implements planDesk: a server executes what is approved by itself, so it is
// followed to its end.
func (s *serverPlans) Execute(ctx context.Context, id string, c app.Caller) (planner.Record, error) {
	if err := s.as(c); err != nil {
		return planner.Record{}, err
	}
	r, err := s.c.Plan(ctx, id)
	if err != nil {
		return r, err
	}
	st, err := s.c.Status(ctx)
	if err != nil {
		return r, err
	}
	switch {
	case r.State == incident.PlanPending:
		return r, &planner.Withheld{Plan: id, Why: "it is not approved yet: " + r.Reason}
	case r.State.Final() && r.Released:
		return r, nil
	case st.Mode == "read-only":
		return r, &planner.Withheld{Plan: id, Why: "that server executes nothing (server.execute is off)"}
	}
	return s.follow(ctx, r)
}

// Undo implements planDesk.
func (s *serverPlans) Undo(ctx context.Context, id string, c app.Caller, because string) (planner.Record, error) {
	if err := s.as(c); err != nil {
		return planner.Record{}, err
	}
	r, err := s.c.Undo(ctx, id, because, incident.Person{Surface: session.CLI})
	if err != nil {
		return r, err
	}
	return s.follow(ctx, r)
}

// follow tells what happens to a plan after a record of it, until nothing more does.
func (s *serverPlans) follow(ctx context.Context, before planner.Record) (planner.Record, error) {
	id := before.Plan.ID
	for told, err := range s.c.Events(ctx, id, 0) {
		if err != nil {
			return before, err
		}
		if s.emit != nil && told.Event.At.After(before.At) {
			s.emit(told.Event)
		}
		if told.Event.Type != event.PlanReleased {
			continue
		}
		now, err := s.c.Plan(ctx, id)
		if err != nil || now.State.Final() && now.Released && now.At.After(before.At) {
			return now, err
		}
	}
	return s.c.Plan(ctx, id)
}

// Trail implements planDesk.
func (s *serverPlans) Trail(ctx context.Context) ([]audit.Entry, error) { return s.c.Trail(ctx) }

// Audit implements planDesk.
func (s *serverPlans) Audit(ctx context.Context, known ...audit.Head) (audit.Report, error) {
	if len(known) > 0 {
		return audit.Report{}, usage(fmt.Errorf("--head is checked where the log lies: on the server's machine"))
	}
	return s.c.Audit(ctx)
}

// ResetBreaker implements planDesk.
func (s *serverPlans) ResetBreaker(ctx context.Context, c app.Caller, reason string) error {
	if err := s.as(c); err != nil {
		return err
	}
	return s.c.ResetBreaker(ctx, reason, incident.Person{Surface: session.CLI})
}
