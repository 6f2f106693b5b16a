package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Desk is where plans are filed and people say their word. Every surface shows a
// view of what lies here.
type Desk struct {
	Journal interface {
		store.Appender
		store.Loader
		store.Lister
	}
	Trail Trail
	Now   func() time.Time
	// MaxOpen is how many plans may wait for approval at once; 0 means no bound.
	MaxOpen int
	// Emit shows events to whoever watches; it may be nil.
	Emit func(event.Event)

	once sync.Once
	view *store.View[Record, line]
}

// ErrTooMany refuses a plan because too many wait already.
var ErrTooMany = errors.New("too many plans wait for approval")

// File keeps a plan; from now on its bytes stand. prose is what a model said, kept
// apart.
func (d *Desk) File(ctx context.Context, p incident.Plan, dec incident.Decision, prose string) (Record, error) {
	if err := Validate(p); err != nil {
		return Record{}, err
	}
	digest, err := Digest(p)
	if err != nil {
		return Record{}, err
	}
	subject, err := Subject(p.ID)
	if err != nil {
		return Record{}, err
	}
	if d.MaxOpen > 0 {
		open, err := d.Waiting(ctx)
		if err != nil {
			return Record{}, err
		}
		n := 0
		for _, r := range open {
			if r.Plan.ClusterUID == p.ClusterUID {
				n++
			}
		}
		if n >= d.MaxOpen {
			return Record{}, fmt.Errorf("%w: %d, the policy allows %d; approve or reject some first (gumshoe plan list)", ErrTooMany, n, d.MaxOpen)
		}
	}
	e := event.Event{Plan: &p, Decision: &dec}
	if prose != "" {
		e.Notice = &event.Message{Level: "info", Text: prose}
	}
	return d.append(ctx, subject, 0, Record{Writes: map[string]incident.WriteResult{}, Plan: p, Digest: digest}, p.Requester.Name, event.PlanMade, e)
}

// Speak keeps a signed word about a plan.
func (d *Desk) Speak(ctx context.Context, a incident.Approval) (Record, error) {
	r, err := d.Load(ctx, a.Plan)
	if err != nil {
		return r, err
	}
	if a.Word != incident.Commented && r.State != incident.PlanPending {
		return r, &Withheld{Plan: a.Plan, Why: fmt.Sprintf("it is %s, so nobody's word changes it any more", r.State), Final: true}
	}
	subject, err := Subject(a.Plan)
	if err != nil {
		return r, err
	}
	return d.append(ctx, subject, r.seq, r, a.By.Name, event.PlanWord, event.Event{Word: &a})
}

// Refuse writes down that somebody's word was not taken, and why.
func (d *Desk) Refuse(ctx context.Context, r Record, by incident.Person, word, why string) error {
	return d.Trail.Note(ctx, r.Plan.ID, r.Digest, by.Name, "word.refused", map[string]string{"word": word, "why": why})
}

func (d *Desk) append(ctx context.Context, subject string, expect uint64, r Record, actor string, t event.Type, e event.Event) (Record, error) {
	e.Run, e.Type, e.At = r.Plan.ID, t, d.Now().UTC()
	raw, err := json.Marshal(e)
	if err != nil {
		return r, fmt.Errorf("plan %s: %w", r.Plan.ID, err)
	}
	if err := d.Trail.Note(ctx, r.Plan.ID, r.Digest, actor, string(t), e); err != nil {
		return r, fmt.Errorf("the audit trail cannot be written, so nothing is done: %w", err)
	}
	last, err := d.Journal.Append(ctx, subject, expect, store.Entry{Type: string(t), Data: raw})
	if err != nil {
		return r, err
	}
	if d.Emit != nil {
		e.Seq = last
		d.Emit(e)
	}
	return fold(r, store.Record{Subject: subject, Seq: last, At: e.At, Type: string(t), Data: raw})
}

// Load gives a plan's record; a plan that waited too long is expired.
func (d *Desk) Load(ctx context.Context, id string) (Record, error) {
	r, err := Load(ctx, d.Journal, id)
	if err != nil {
		return r, err
	}
	return d.aged(r), nil
}

// List gives all plans, the newest first. A plan that cannot be read is passed over
// with an error beside the others.
func (d *Desk) List(ctx context.Context) ([]Record, error) {
	return d.pick(ctx, func(line) bool { return true })
}

// Waiting gives the plans that wait for somebody's word, the newest first; see List.
func (d *Desk) Waiting(ctx context.Context) ([]Record, error) {
	all, err := d.pick(ctx, func(l line) bool { return l.state == incident.PlanPending && !d.Now().After(l.expires) })
	return slices.DeleteFunc(all, func(r Record) bool { return r.State != incident.PlanPending }), err
}

// line is what a desk keeps in memory of every plan.
type line struct {
	state            incident.PlanState
	created, expires time.Time
}

// pick gives plans by what is kept of them. They are read once, and again when their
// journal goes on; see store.View.
func (d *Desk) pick(ctx context.Context, want func(line) bool) ([]Record, error) {
	d.once.Do(func() {
		d.view = store.NewView(d.Journal, store.ViewOptions[Record, line]{
			Pattern: Subjects,
			New:     func(string) Record { return Record{Writes: map[string]incident.WriteResult{}} },
			Fold:    fold,
			Light:   func(r Record) line { return line{r.State, r.Plan.Created, r.Plan.Expires} },
			Alive: func(l line) bool {
				return slices.Contains([]incident.PlanState{incident.PlanPending, incident.PlanApproved, incident.PlanExecuting}, l.state)
			},
		})
	})
	items, err := d.view.Items(ctx)
	errs := []error{err}
	items = slices.DeleteFunc(items, func(i store.Viewed[Record, line]) bool { return !want(i.Light) })
	slices.SortStableFunc(items, func(a, b store.Viewed[Record, line]) int { return b.Light.created.Compare(a.Light.created) })
	out := make([]Record, 0, len(items))
	for _, i := range items {
		r, ok, err := i.State(ctx)
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			out = append(out, d.aged(r.clone()))
		}
	}
	return out, errors.Join(errs...)
}

// aged is a record as of now: a plan that waited too long is expired.
func (d *Desk) aged(r Record) Record {
	if r.State == incident.PlanPending && d.Now().After(r.Plan.Expires) {
		r.State, r.Reason = incident.PlanExpired, "nobody approved it until "+r.Plan.Expires.Format(time.RFC3339)
	}
	return r
}
