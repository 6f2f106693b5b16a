package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/approval"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

// dueSubjects are records that a timer appends when the time of a plan ends, so that
// surfaces hear of what no person did.
const dueSubjects = "due.>"

// Propose makes a plan and files it.
func (s *Service) Propose(ctx context.Context, a session.PlanAsk) (planner.Record, error) {
	caller := Login(a.By)
	if caller.Surface == "" {
		caller.Surface = a.Source
	}
	r, err := s.plans.Make(ctx, PlanRequest{
		Investigation: a.Run, File: a.File, Choice: planner.Choice{Action: a.Action, Set: a.Set}, Caller: caller, Reason: a.Reason, BreakGlass: a.BreakGlass,
	})
	if err != nil {
		return r, err
	}
	err = s.keep.Schedule(ctx, store.Timer{Key: "due." + r.Plan.ID, At: r.Plan.Expires.Add(time.Second), Subject: "due." + r.Plan.ID, Entry: store.Entry{Type: "plan.due"}})
	if err != nil {
		s.log.Warn("nobody is told when the plan expires", "plan", r.Plan.ID, "error", err)
	}
	if a.Session != "" {
		if _, err := s.book.AddPlan(ctx, a.Session, r.Plan.ID); err != nil {
			return r, user(err)
		}
	}
	return r, nil
}

// Plan gives a plan with its state as it is now.
func (s *Service) Plan(ctx context.Context, id string) (planner.Record, error) {
	return s.plans.Get(ctx, id)
}

// Plans gives all plans, the newest first.
func (s *Service) Plans(ctx context.Context) ([]planner.Record, error) { return s.plans.List(ctx) }

// Say takes a person's word about a plan. When it is enough, the execution is queued
// where this service executes.
func (s *Service) Say(ctx context.Context, id, word, comment string, by incident.Person) (planner.Record, error) {
	caller := Login(by)
	r, err := s.plans.Say(ctx, id, word, comment, caller)
	if f, ok := errors.AsType[*approval.Refusal](err); ok { // to be refused is no fault of the server
		kind := tool.Forbidden
		if f.Kind == approval.Unknown {
			kind = tool.Invalid
		}
		err = &tool.Error{Kind: kind, User: "the word is not taken: " + f.Why, Err: err}
	}
	if err != nil || !s.cfg.Execute || word != incident.Approved || r.State != incident.PlanApproved {
		return r, err
	}
	who := by
	if who.Name == "" && len(r.Words) > 0 {
		who = r.Words[len(r.Words)-1].By
	}
	return r, s.queueExecution(ctx, id, execution{Plan: id, By: who})
}

// Undo queues that what a plan wrote is taken back. Whoever asks must be one who
// could make its writes.
func (s *Service) Undo(ctx context.Context, id, reason string, by incident.Person) (planner.Record, error) {
	r, err := s.plans.Get(ctx, id)
	if err != nil {
		return r, err
	}
	if !s.cfg.Execute {
		return r, &tool.Error{Kind: tool.Invalid, User: "this server does not execute plans", Fix: "gumshoe undo " + id + " takes it back with your own rights"}
	}
	if !r.Touched() || r.State == incident.PlanUndone {
		return r, &planner.Withheld{Plan: id, Why: "there is nothing to take back", Final: true}
	}
	who, err := s.plans.person(ctx, Login(by))
	if err != nil {
		return r, err
	}
	if err := (reviewer{s.app, s.plans.rules}).MayApprove(ctx, who, r.Plan); err != nil {
		return r, errors.Join(&tool.Error{Kind: tool.Forbidden, User: "it is not taken back: " + err.Error(), Err: err}, s.plans.desk.Refuse(ctx, r, who, "undo", err.Error()))
	}
	// A second click finds the first; once something became of it, it may be asked again.
	key := fmt.Sprintf("%s-undo-%d", id, r.At.UnixNano())
	return r, s.queueExecution(ctx, key, execution{Plan: id, By: who, Undo: true, Reason: reason})
}

// Rehearse checks all that an execution would, and writes nothing.
func (s *Service) Rehearse(ctx context.Context, id string) (planner.Record, []string, error) {
	return s.plans.Rehearse(ctx, id)
}

// Trail gives the entries of the audit log in order.
func (s *Service) Trail(ctx context.Context) ([]audit.Entry, error) { return s.plans.Trail(ctx) }

// Audit checks the trail.
func (s *Service) Audit(ctx context.Context) (audit.Report, error) { return s.plans.Audit(ctx) }

// ResetBreaker closes the circuit breaker of the cluster again.
func (s *Service) ResetBreaker(ctx context.Context, reason string, by incident.Person) error {
	return s.plans.ResetBreaker(ctx, Login(by), reason)
}

// executeSubject is the queue of approved plans.
const executeSubject = "work.execute"

// execution is a record of that queue.
type execution struct {
	Plan   string          `json:"plan"`
	By     incident.Person `json:"by"`
	Undo   bool            `json:"undo,omitempty"`
	Reason string          `json:"reason,omitempty"`
}

// queueExecution puts a plan into the queue, once.
func (s *Service) queueExecution(ctx context.Context, key string, e execution) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = s.keep.Append(ctx, executeSubject+"."+key, 0, store.Entry{Type: "work", Data: raw})
	if _, there := errors.AsType[*store.ConflictError](err); err != nil && !there {
		return fmt.Errorf("the plan is approved and not yet queued: %w", err)
	}
	select {
	case s.wakeExec <- struct{}{}:
	default:
	}
	return nil
}

// repairPlans queues plans whose approvals suffice and that, because a process ended in
// between, nobody queued; and those that were begun and left.
func (s *Service) repairPlans(ctx context.Context) error {
	all, err := s.plans.List(ctx)
	errs := []error{err}
	for _, r := range all {
		if (r.State != incident.PlanApproved && r.State != incident.PlanExecuting) || r.Undoing || len(r.Words) == 0 {
			continue
		}
		if s.asked(r) {
			errs = append(errs, s.queueExecution(ctx, r.Plan.ID, execution{Plan: r.Plan.ID, By: r.Words[len(r.Words)-1].By}))
		}
	}
	return errors.Join(errs...)
}

// asked reports whether a word of a plan was spoken on a surface of the server: one that
// was approved at a command line waits for that person's own gumshoe apply.
func (s *Service) asked(r planner.Record) bool {
	return r.Words[len(r.Words)-1].By.Surface != session.CLI || r.State == incident.PlanExecuting
}

// Bounds of an execution.
const (
	executePoll = time.Second
	// executeRetry is when a plan is tried again that could not begin.
	executeRetry = 15 * time.Second
)

// executeQueue executes approved plans, one at a time, until ctx ends. A plan that a
// dead process left in the middle is taken up again.
func (s *Service) executeQueue(ctx context.Context) error {
	tick := time.NewTicker(executePoll)
	defer tick.Stop()
	lease := cmp.Or(s.plans.Lease, planner.DefaultLease)
	for ctx.Err() == nil {
		c, err := s.keep.Claim(ctx, executeSubject, lease)
		if err == nil {
			if err := s.execute(ctx, c, lease); err != nil {
				s.log.Error("a plan could not be executed", "subject", c.Record.Subject, "error", err)
			}
			continue
		}
		if !errors.Is(err, store.ErrNothing) && ctx.Err() == nil {
			s.log.Warn("the queue of plans cannot be read", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-s.wakeExec:
		case <-tick.C:
		}
	}
	return nil
}

// execute works on one claim. The executor is idempotent: whatever is repeated here
// is found done in the plan's journal.
func (s *Service) execute(ctx context.Context, c *store.Claim, lease time.Duration) error {
	var e execution
	if err := json.Unmarshal(c.Record.Data, &e); err != nil {
		return errors.Join(err, c.Lease.Done(ctx))
	}
	// A server that goes down leaves the plan in the middle, and the next one goes on.
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	halt := make(chan struct{})
	go func() {
		defer close(halt)
		tick := time.NewTicker(lease / 4)
		defer tick.Stop()
		for {
			select {
			case <-work.Done():
				return
			case <-tick.C:
				if err := c.Lease.Extend(work, lease); errors.Is(err, store.ErrLost) {
					stop(err)
					return
				}
			}
		}
	}()
	var r planner.Record
	var err error
	if e.Undo {
		r, err = s.plans.Undo(work, e.Plan, Login(e.By), e.Reason)
	} else {
		r, err = s.plans.Execute(work, e.Plan, Login(e.By))
	}
	stop(nil)
	<-halt
	ctx = context.WithoutCancel(ctx)
	w, withheld := errors.AsType[*planner.Withheld](err)
	_, drift := errors.AsType[*planner.Drift](err)
	switch {
	case err == nil || drift || withheld && w.Final:
		s.log.Info("plan", "id", e.Plan, "state", r.State, "reason", r.Reason)
		return c.Lease.Done(ctx)
	case withheld && !e.Undo && s.stale(ctx, e.Plan):
		return c.Lease.Done(ctx)
	}
	// A freeze, a lock of another plan, a store that does not answer: it waits.
	return errors.Join(err, c.Lease.Release(ctx, executeRetry))
}

// stale reports whether a plan that was approved waits for people again, or ended:
// the next approval queues nothing new, so the record of the queue must stay while
// the plan may still be executed.
func (s *Service) stale(ctx context.Context, id string) bool {
	r, err := s.plans.Get(ctx, id)
	if err != nil {
		return false
	}
	switch r.State {
	case incident.PlanPending, incident.PlanApproved, incident.PlanExecuting:
		return false
	}
	return true
}
