package session

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Index lists sessions without reading all of them each time: it keeps what it read,
// and reads anew what changed since. It is never behind the store; see store.View.
type Index struct {
	view *store.View[Session, line]
}

// line is what an index keeps of every session.
type line struct {
	source, owner string
	open          bool
	changed       time.Time
	turns         []turnLine
}

type turnLine struct {
	id, run string
	state   TurnState
}

// NewIndex makes an index of the sessions of a store.
func NewIndex(from store.LoadLister) *Index { return newIndex(from, 0) }

// newIndex bounds what is kept whole, in bytes; 0 is the default.
func newIndex(from store.LoadLister, most int64) *Index {
	return &Index{view: store.NewView(from, store.ViewOptions[Session, line]{
		Pattern: Subjects,
		New:     func(subject string) Session { return fresh(strings.TrimPrefix(subject, prefix+".")) },
		Fold:    Fold,
		Light:   func(s Session) line { return s.line() },
		Alive:   line.alive,
		Bytes:   most,
	})}
}

// fresh is a session before its first record.
func fresh(id string) Session { return Session{ID: id, Turns: []Turn{}} }

func (s Session) line() line {
	l := line{source: s.Source, owner: s.Owner.Name, open: s.open(), changed: s.Changed, turns: make([]turnLine, len(s.Turns))}
	for i, t := range s.Turns {
		l.turns[i] = turnLine{t.ID, t.Run, t.State}
	}
	return l
}

// alive reports whether something is still to come of a session.
func (l line) alive() bool {
	return slices.ContainsFunc(l.turns, func(t turnLine) bool { return !t.state.Ended() })
}

// has reports whether a run is one of a session: a turn's id, or the run that answers it.
func (l line) has(run string) bool {
	return slices.ContainsFunc(l.turns, func(t turnLine) bool { return t.id == run || t.run == run })
}

// List gives all sessions that the filter lets through, the one that changed last
// first. One that cannot be read is left out and is a part of the error.
func (x *Index) List(ctx context.Context, f Filter) ([]Session, error) {
	items, err := x.view.Items(ctx)
	errs := []error{err}
	items = slices.DeleteFunc(items, func(i store.Viewed[Session, line]) bool { return !f.matchLine(i.Light) })
	slices.SortStableFunc(items, func(a, b store.Viewed[Session, line]) int { return b.Light.changed.Compare(a.Light.changed) })
	var out []Session
	for _, i := range items {
		if f.Limit > 0 && len(out) == f.Limit {
			break
		}
		s, ok, err := i.State(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if ok && f.Match(s) {
			out = append(out, s.clone())
		}
	}
	return out, errors.Join(errs...)
}

// Counts gives how many turns wait and how many are worked on.
func (x *Index) Counts(ctx context.Context) (queued, running int, err error) {
	items, err := x.view.Items(ctx)
	for _, i := range items {
		for _, t := range i.Light.turns {
			switch t.state {
			case Queued:
				queued++
			case Running:
				running++
			}
		}
	}
	return queued, running, err
}

// matchLine is Match as far as a line tells.
func (f Filter) matchLine(l line) bool {
	return (f.Source == "" || l.source == f.Source) && (f.Owner == "" || l.owner == f.Owner) && (!f.Open || l.open) && (f.Run == "" || l.has(f.Run))
}

// clone is a copy whose lists are the caller's own.
func (s Session) clone() Session {
	s.Turns, s.Alerts, s.Plans, s.Links = slices.Clone(s.Turns), slices.Clone(s.Alerts), slices.Clone(s.Plans), slices.Clone(s.Links)
	return s
}
