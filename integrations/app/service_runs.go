package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// investigate does a job of the queue: its run is journalled under the id that the
// job names, and its live words go to whoever watches.
func (s *Service) investigate(ctx context.Context, j session.Job) (incident.Report, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	log := store.NewRunLog(ctx, s.keep, store.RunLogOptions{Failed: func(err error) { stop(fmt.Errorf("%w: %w", session.ErrAgain, err)) }})
	live := event.SinkFunc(func(e event.Event) {
		if !e.Type.Droppable() {
			return
		}
		if raw, err := json.Marshal(e); err == nil {
			_ = s.keep.Live.Publish(ctx, liveSubject(j.Run), raw) // what is lost here is worth nothing
		}
	})
	rep, err := s.app.run(ctx, j.Question, runOptions{ID: j.Run, Model: j.Model, Note: j.Note, Sink: event.Tee(log, live, s.cfg.Tracer.Sink(ctx, j.Session.ID)), Spill: s.keep.Spill})
	if cause := context.Cause(ctx); errors.Is(cause, session.ErrAgain) {
		return rep, cause
	}
	return rep, err
}

func liveSubject(run string) string { return "live." + run }

// Events follows a run or a plan: the records above a sequence as events, then what
// comes, with a model's words in between (Seq 0), until the run has ended or nothing
// more can come of the plan, or ctx ends.
func (s *Service) Events(ctx context.Context, id string, after uint64) iter.Seq2[session.Told, error] {
	return func(yield func(session.Told, error) bool) {
		subject, err := s.followable(ctx, id)
		if err != nil {
			yield(session.Told{}, err)
			return
		}
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		words, err := s.keep.Live.Subscribe(ctx, liveSubject(id))
		if err != nil {
			yield(session.Told{}, err)
			return
		}
		type fact struct {
			rec store.Record
			err error
		}
		facts := make(chan fact)
		go func() {
			defer close(facts)
			// From the beginning: whether there was an end is told by what was seen too.
			for rec, err := range s.keep.Watch(ctx, subject, nil) {
				select {
				case facts <- fact{rec, err}:
				case <-ctx.Done():
					return
				}
			}
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case raw, ok := <-words:
				if !ok {
					words = nil
					continue
				}
				var e event.Event
				if json.Unmarshal(raw, &e) == nil && !yield(session.Told{Event: e}, nil) {
					return
				}
			case f, ok := <-facts:
				if !ok {
					return
				}
				if f.err != nil {
					yield(session.Told{}, f.err)
					return
				}
				if f.rec.Seq > after {
					t, err := told(f.rec)
					if !yield(t, err) || err != nil {
						return
					}
				}
				if s.over(ctx, id, event.Type(f.rec.Type)) && s.last(ctx, f.rec) {
					return
				}
			}
		}
	}
}

// followable gives the subject of a run or a plan that is there, or that is to come
// because its turn waits.
func (s *Service) followable(ctx context.Context, id string) (string, error) {
	if strings.HasPrefix(id, "plan-") {
		if _, err := s.plans.Get(ctx, id); err != nil {
			return "", err
		}
		return planner.Subject(id)
	}
	subject, err := store.RunSubject(id)
	if err != nil {
		return "", gone(err, "there is no investigation %q", id)
	}
	for _, err := range s.keep.Load(ctx, subject, 0) {
		return subject, err
	}
	if _, t, ok, err := s.book.Queued(ctx, id); err != nil || ok && !t.State.Ended() {
		return subject, gone(err, "there is no investigation %q", id)
	}
	all, err := s.index.List(ctx, session.Filter{Run: id})
	for _, one := range all {
		if t, ok := one.OfRun(id); ok && (t.Run == id || !t.State.Ended()) {
			return subject, nil
		}
	}
	return "", errors.Join(&tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("there is no investigation %q", id)}, err)
}

// told is a record of a run or a plan as an event.
func told(rec store.Record) (session.Told, error) {
	t := session.Told{Seq: rec.Seq}
	if rec.Type == store.Abandoned {
		var a store.Abandonment
		err := json.Unmarshal(rec.Data, &a)
		t.Event = event.Event{Type: store.Abandoned, At: rec.At, Run: strings.TrimPrefix(rec.Subject, "run."), Notice: &event.Message{Level: "warning", Text: "the run was cut off: " + a.Reason}}
		return t, err
	}
	if err := json.Unmarshal(rec.Data, &t.Event); err != nil {
		return t, fmt.Errorf("%s, sequence %d: %w", rec.Subject, rec.Seq, err)
	}
	t.Event.Type = event.Type(rec.Type)
	return t, nil
}

// last reports whether nothing follows a record.
func (s *Service) last(ctx context.Context, rec store.Record) bool {
	for _, err := range s.keep.Load(ctx, rec.Subject, rec.Seq) {
		return err != nil
	}
	return true
}

// over reports whether an event is the last of its subject.
func (s *Service) over(ctx context.Context, id string, t event.Type) bool {
	switch t {
	case event.RunEnded, store.Abandoned:
		return true
	case event.PlanWord, event.PlanEnded, event.PlanReleased:
		r, err := s.plans.Get(ctx, id)
		if err != nil {
			return false
		}
		switch r.State {
		case incident.PlanRejected, incident.PlanExpired, incident.PlanUndone:
			return r.Begun.IsZero() || r.Released
		}
	}
	return false
}

// Follow tells of every change of sessions and plans above a position, and of what
// comes, until ctx ends.
func (s *Service) Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error] {
	return func(yield func(session.Notice, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		type fact struct {
			rec store.Record
			err error
		}
		facts := make(chan fact)
		patterns := []string{session.Subjects, planner.Subjects, dueSubjects}
		for _, p := range patterns {
			go func() {
				for rec, err := range s.keep.Watch(ctx, p, after) {
					select {
					case facts <- fact{rec, err}:
					case <-ctx.Done():
						return
					}
				}
			}()
		}
		for {
			select {
			case <-ctx.Done():
				return
			case f := <-facts:
				if f.err != nil {
					yield(session.Notice{}, f.err)
					return
				}
				n := session.Notice{Seq: f.rec.Seq, At: f.rec.At, Type: f.rec.Type}
				kind, id, _ := strings.Cut(f.rec.Subject, ".")
				if kind == "session" {
					n.Session = id
				} else {
					n.Plan = id
				}
				if !yield(n, nil) {
					return
				}
			}
		}
	}
}
