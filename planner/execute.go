package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Consent says whether what people said is enough for a plan to be executed now.
type Consent interface {
	// Judge gives the nonces that the execution uses up; the error is a *Withheld with
	// the reason.
	Judge(ctx context.Context, r Record) (nonces []string, err error)
	// Stood says whether there was consent when a plan began that is now taken up
	// again or taken back: that the journal says it began is no proof, since whoever
	// can write the journal can write that too. The error is a *Withheld.
	Stood(ctx context.Context, r Record) error
}

// Withheld says why a plan may not be executed.
type Withheld struct {
	Plan, Why string
	// Final says that no further approval changes it.
	Final bool
}

// Error implements error.
func (e *Withheld) Error() string { return "plan " + e.Plan + " is not executed: " + e.Why }

// Trail takes what happened before the journal does, so that nothing happens
// unrecorded.
type Trail interface {
	Note(ctx context.Context, plan, digest, actor, what string, detail any) error
}

// Journal is what the executor needs of the store.
type Journal interface {
	store.Appender
	store.Loader
	store.Lister
	store.Queue
}

// Executor executes approved plans, one write at a time. It is the only part of
// gumshoe that changes a cluster. A plan that was cut off, at whatever point, is
// taken up again by executing it again.
type Executor struct {
	Journal  Journal
	Consent  Consent
	Trail    Trail
	Backends map[string]Backend
	Checker  Checker
	Now      func() time.Time
	// Sleep waits between two looks; it returns early with the context's error.
	Sleep func(context.Context, time.Duration) error
	// Emit shows events to whoever watches; it may be nil.
	Emit func(event.Event)
	// Lease is how long an executor may be silent before another takes its plan up;
	// 0 means DefaultLease.
	Lease time.Duration
	// ClusterUID is that of the cluster that the backends reach.
	ClusterUID string
	// Boundary is called at every point at which a crash could part what was done
	// from what is known; tests end the process there. It may be nil.
	Boundary func(point string)
}

// DefaultLease is how long an executor may be silent before another takes its plan up.
const DefaultLease = 30 * time.Second

// poll is the time between two looks at a check.
const poll = 2 * time.Second

// run is one execution.
type run struct {
	*Executor
	rec     Record
	subject string
	by      incident.Person
}

// Execute executes a plan, or goes on with one that was cut off. It gives the record
// as it then stands. The error is a *Withheld when consent is missing, a *Drift when
// the cluster is not as planned (the plan is void then), a store error otherwise. A
// step that fails or does not verify is no error: the record says so.
func (e *Executor) Execute(ctx context.Context, id string, by incident.Person) (Record, error) {
	return e.locked(ctx, id, by, (*run).execute)
}

// Undo takes back what a plan wrote, in reverse order.
func (e *Executor) Undo(ctx context.Context, id string, by incident.Person, why string) (Record, error) {
	return e.locked(ctx, id, by, func(r *run, ctx context.Context) error {
		if !r.rec.Touched() {
			return &Withheld{Plan: id, Why: "it wrote nothing, so there is nothing to take back", Final: true}
		}
		if r.rec.State == incident.PlanUndone {
			return &Withheld{Plan: id, Why: "it is taken back already", Final: true}
		}
		if err := r.stood(ctx); err != nil {
			return err
		}
		if r.rec.State != incident.PlanExecuting {
			if err := r.claim(ctx); err != nil {
				return err
			}
		}
		if !r.rec.Undoing || r.rec.State != incident.PlanExecuting {
			if err := r.note(ctx, event.UndoBegun, event.Event{Progress: &event.Progress{By: by, Say: why}}); err != nil {
				return err
			}
		}
		return r.undo(ctx)
	})
}

// locked runs one execution at a time of a plan.
func (e *Executor) locked(ctx context.Context, id string, by incident.Person, work func(*run, context.Context) error) (Record, error) {
	subject, err := Subject(id)
	if err != nil {
		return Record{}, err
	}
	rec, err := Load(ctx, e.Journal, id)
	if err != nil {
		return rec, err
	}
	if rec.Plan.ClusterUID != e.ClusterUID {
		return rec, &Withheld{Plan: id, Why: fmt.Sprintf("it is for the cluster with the uid %s, this one has %s", rec.Plan.ClusterUID, e.ClusterUID), Final: true}
	}
	hold, err := e.hold(ctx, id)
	if err != nil {
		return rec, err
	}
	defer hold()
	// Another executor may have been at work until the lease was ours.
	if rec, err = Load(ctx, e.Journal, id); err != nil {
		return rec, err
	}
	r := &run{Executor: e, rec: rec, subject: subject, by: by}
	err = work(r, ctx)
	now, again := Load(context.WithoutCancel(ctx), e.Journal, id)
	if again != nil {
		return r.rec, errors.Join(err, again)
	}
	return now, err
}

// hold takes the lease of a plan and keeps it until the function it gives is called.
func (e *Executor) hold(ctx context.Context, id string) (func(), error) {
	lease := e.Lease
	if lease == 0 {
		lease = DefaultLease
	}
	queue := "work.execute-" + id
	if _, err := e.Journal.Append(ctx, queue+".1", 0, store.Entry{Type: "work.execute"}); err != nil {
		if _, ok := errors.AsType[*store.ConflictError](err); !ok {
			return nil, err
		}
	}
	c, err := e.Journal.Claim(ctx, queue, lease)
	if errors.Is(err, store.ErrNothing) {
		return nil, fmt.Errorf("plan %s is being executed by another process (%w); if that one is gone, its lease ends within %s", id, store.ErrBusy, lease)
	}
	if err != nil {
		return nil, err
	}
	beat, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(lease / 3)
		defer t.Stop()
		for {
			select {
			case <-beat.Done():
				return
			case <-t.C:
				// A lease that is lost shows at the next append: another writer is there.
				_ = c.Lease.Extend(beat, lease)
			}
		}
	}()
	return func() {
		stop()
		<-ended
		_ = c.Lease.Release(context.WithoutCancel(ctx), 0)
	}, nil
}

func (r *run) at(point string) {
	if r.Boundary != nil {
		r.Boundary(point)
	}
}

// note appends to the trail, then to the journal, and folds the event into the record.
func (r *run) note(ctx context.Context, t event.Type, e event.Event) error {
	e.Run, e.Type, e.At = r.rec.Plan.ID, t, r.Now().UTC()
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("plan %s: %w", r.rec.Plan.ID, err)
	}
	r.at("before " + string(t))
	if err := r.Trail.Note(ctx, r.rec.Plan.ID, r.rec.Digest, r.by.Name, string(t), e); err != nil {
		return fmt.Errorf("the audit trail cannot be written, so nothing is done: %w", err)
	}
	r.at("between " + string(t))
	last, err := r.Journal.Append(ctx, r.subject, r.rec.seq, store.Entry{Type: string(t), Data: raw})
	if err != nil {
		return fmt.Errorf("the journal of the plan cannot be written, so nothing more is done: %w", err)
	}
	r.at("after " + string(t))
	if r.rec, err = fold(r.rec, store.Record{Subject: r.subject, Seq: last, At: e.At, Type: string(t), Data: raw}); err != nil {
		return err
	}
	if r.Emit != nil {
		e.Seq = last
		r.Emit(e)
	}
	return nil
}

// end closes the plan and frees its targets.
func (r *run) end(ctx context.Context, s incident.PlanState, say string, left []string) error {
	if err := r.note(ctx, event.PlanEnded, event.Event{Progress: &event.Progress{By: r.by, State: s, Say: say, Left: left}}); err != nil {
		return err
	}
	return r.free(ctx)
}

func (r *run) execute(ctx context.Context) error {
	if r.rec.State == incident.PlanExecuting {
		if err := r.stood(ctx); err != nil {
			return err
		}
	}
	switch s := r.rec.State; {
	case s == incident.PlanExecuting && r.rec.Undoing:
		return r.undo(ctx)
	case s == incident.PlanExecuting:
		if err := r.note(ctx, event.PlanBegun, event.Event{Progress: &event.Progress{By: r.by, Say: "taken up again", Digest: r.rec.Digest}}); err != nil {
			return err
		}
	case s.Final():
		if !r.rec.Released {
			if err := r.free(ctx); err != nil {
				return err
			}
		}
		return &Withheld{Plan: r.rec.Plan.ID, Why: fmt.Sprintf("it is %s: %s", s, orNothing(r.rec.Reason)), Final: true}
	default:
		if err := r.begin(ctx); err != nil {
			return err
		}
	}
	for _, s := range r.rec.Plan.Steps {
		if slices.Contains(r.rec.Steps, s.ID) || s.Source != nil {
			continue
		}
		why, err := r.step(ctx, s)
		if err != nil {
			return err
		}
		if why != "" {
			return r.fail(ctx, why)
		}
	}
	var unclear string
	for _, c := range r.rec.Plan.Verify {
		v, saw, err := r.check(ctx, c)
		switch {
		case err != nil:
			return err
		case v == incident.Fail:
			return r.fail(ctx, fmt.Sprintf("it was done and did not help: %s: %s", c.Say, saw))
		case v != incident.Pass && unclear == "":
			unclear = fmt.Sprintf("%s: %s", c.Say, saw)
		}
	}
	if unclear != "" {
		return r.end(ctx, incident.PlanStopped, "done, but not proved: "+unclear, r.rec.Standing())
	}
	return r.end(ctx, incident.PlanVerified, "done and verified", nil)
}

// stood refuses, and says so in the trail, to go on with a plan that never had consent.
func (r *run) stood(ctx context.Context) error {
	err := r.Consent.Stood(ctx, r.rec)
	if w, ok := errors.AsType[*Withheld](err); ok {
		return errors.Join(err, r.Trail.Note(ctx, r.rec.Plan.ID, r.rec.Digest, r.by.Name, "execution.refused", w.Why))
	}
	return err
}

func orNothing(s string) string {
	if s == "" {
		return "nothing more happens to it"
	}
	return s
}

// begin checks everything that has to hold before the first write.
func (r *run) begin(ctx context.Context) error {
	p := r.rec.Plan
	void := func(why error) error {
		if err := r.end(ctx, incident.PlanVoid, why.Error(), nil); err != nil {
			return errors.Join(why, err)
		}
		return why
	}
	if !slices.ContainsFunc(p.Steps, func(s incident.Step) bool { return s.Source == nil }) {
		return &Withheld{Plan: p.ID, Why: "its steps are changes of source repositories, which people make: gumshoe plan diff shows them"}
	}
	nonces, err := r.Consent.Judge(ctx, r.rec)
	if err != nil {
		if w, ok := errors.AsType[*Withheld](err); ok {
			if err := r.Trail.Note(ctx, p.ID, r.rec.Digest, r.by.Name, "execution.refused", w.Why); err != nil {
				return err
			}
		}
		return err
	}
	for _, s := range p.Steps {
		for _, w := range s.Writes {
			if r.Backends[w.API] == nil {
				return &Withheld{Plan: p.ID, Why: fmt.Sprintf("write %s needs %s, which is not configured here", w.ID, w.API)}
			}
		}
		for _, t := range s.Targets {
			if err := r.target(ctx, t); err != nil {
				if _, ok := errors.AsType[*Drift](err); ok {
					return void(err)
				}
				return err
			}
		}
	}
	for _, c := range p.Before {
		if v, saw := r.Checker.Check(ctx, c); v != incident.Pass {
			if v == incident.Unclear {
				return &Withheld{Plan: p.ID, Why: fmt.Sprintf("whether %s cannot be seen: %s", c.Say, saw)}
			}
			return void(&Drift{Ref: c.Subject, Why: c.Say + " no longer holds: " + saw})
		}
	}
	if err := r.claim(ctx); err != nil {
		return err
	}
	return r.note(ctx, event.PlanBegun, event.Event{Progress: &event.Progress{By: r.by, Digest: r.rec.Digest, Nonces: nonces}})
}

func (r *run) target(ctx context.Context, t incident.Target) error {
	b := r.Backends[incident.APIKubernetes]
	if t.Resource == "" || b == nil { // a thing of a cloud: its write carries its own precondition
		return nil
	}
	return b.Hold(ctx, t)
}

// step executes what is left of a step. A reason says that it failed; an error, that
// nothing is known to have failed but the execution cannot go on.
func (r *run) step(ctx context.Context, s incident.Step) (string, error) {
	fresh := r.rec.Open == "" && !slices.ContainsFunc(s.Writes, func(w incident.Write) bool { return r.rec.done(w.ID) })
	if fresh {
		for _, c := range s.Before {
			v, saw, err := r.check(ctx, c)
			if err != nil {
				return "", err
			}
			if v != incident.Pass {
				return fmt.Sprintf("step %s was not begun: %s: %s", s.ID, c.Say, saw), nil
			}
		}
		if err := r.note(ctx, event.StepBegun, event.Event{Progress: &event.Progress{Step: s.ID, Say: s.Say}}); err != nil {
			return "", err
		}
	}
	for _, w := range s.Writes {
		if !r.rec.done(w.ID) {
			why, err := r.write(ctx, w)
			if err != nil || why != "" {
				return why, err
			}
		}
		for _, c := range w.Await {
			v, saw, err := r.check(ctx, c)
			if err != nil {
				return "", err
			}
			if v != incident.Pass {
				return fmt.Sprintf("%s: %s: %s", w.ID, c.Say, saw), nil
			}
		}
	}
	for _, c := range s.Verify {
		v, saw, err := r.check(ctx, c)
		if err != nil {
			return "", err
		}
		if v != incident.Pass {
			return fmt.Sprintf("step %s did not verify: %s: %s", s.ID, c.Say, saw), nil
		}
	}
	return "", r.note(ctx, event.StepEnded, event.Event{Progress: &event.Progress{Step: s.ID, Say: s.Say}})
}

// write sends one request: journalled before, journalled after. After a crash in
// between it finds out first whether the request came through.
func (r *run) write(ctx context.Context, w incident.Write) (string, error) {
	plan := r.rec.Plan.ID
	if r.rec.Open == w.ID {
		was, err := r.Backends[w.API].State(ctx, plan, w)
		if err != nil {
			return "", fmt.Errorf("whether %s (%s) was done before the interruption cannot be seen: %w", w.ID, w.Say, err)
		}
		if was.Done {
			return "", r.note(ctx, event.WriteEnded, event.Event{Write: &was})
		}
	} else if err := r.note(ctx, event.WriteBegun, event.Event{Progress: &event.Progress{Write: w.ID, Say: w.Say}}); err != nil {
		return "", err
	}
	res, err := r.Backends[w.API].Do(ctx, plan, w)
	r.at("done " + w.ID)
	if ctx.Err() != nil && err != nil {
		// Whether it came through is found out when the plan is taken up again.
		return "", fmt.Errorf("%s was interrupted: %w", w.ID, ctx.Err())
	}
	if err != nil {
		// The answer may be lost of a request that came through.
		was, seen := r.Backends[w.API].State(ctx, plan, w)
		if seen != nil {
			return "", fmt.Errorf("%s (%s) failed, and whether it was done cannot be seen: %w", w.ID, w.Say, errors.Join(err, seen))
		}
		if !was.Done {
			res = incident.WriteResult{Write: w.ID, Error: err.Error()}
			if err := r.note(ctx, event.WriteEnded, event.Event{Write: &res}); err != nil {
				return "", err
			}
			return fmt.Sprintf("%s (%s): %s", w.ID, w.Say, res.Error), nil
		}
		res = was
	}
	res.Write = w.ID
	return "", r.note(ctx, event.WriteEnded, event.Event{Write: &res})
}

// check looks until a check passes, or its time is over, and journals the answer.
func (r *run) check(ctx context.Context, c incident.Check) (incident.Verdict, string, error) {
	var v incident.Verdict
	var saw string
	waited, held := time.Duration(0), time.Duration(0)
	for {
		v, saw = r.Checker.Check(ctx, c)
		if ctx.Err() != nil {
			return v, saw, ctx.Err()
		}
		if v == incident.Pass && held >= time.Duration(c.Hold)*time.Second {
			break
		}
		if v != incident.Pass && waited >= time.Duration(c.Within)*time.Second {
			break
		}
		if v == incident.Pass {
			held += poll
		} else {
			held = 0
		}
		if err := r.Sleep(ctx, poll); err != nil {
			return v, saw, err
		}
		waited += poll
	}
	res := incident.CheckResult{Check: c, Verdict: v, Saw: saw, At: r.Now().UTC()}
	return v, saw, r.note(ctx, event.Checked, event.Event{Check: &res})
}
