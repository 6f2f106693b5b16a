package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Types of records.
const (
	TypeOpened   = "session.opened"
	TypeAsked    = "turn.asked"
	TypeBegun    = "turn.begun"
	TypeEnded    = "turn.ended"
	TypeAlerts   = "session.alerts"
	TypePlan     = "session.plan"
	TypeLinked   = "session.linked"
	TypeUnlinked = "session.unlinked"
	TypeModel    = "session.model"
	TypeTitle    = "session.title"
	TypeMerged   = "session.merged"
	TypeClosed   = "session.closed"
)

// prefix is the name under which sessions are journalled.
const prefix = "session"

// Subjects is the pattern of all sessions.
const Subjects = prefix + ".>"

// Subject is where a session is journalled.
func Subject(id string) (string, error) {
	if strings.Contains(id, ".") {
		return "", fmt.Errorf("%w id %q of a session", store.ErrInvalid, id)
	}
	s := prefix + "." + id
	return s, store.CheckSubject(s)
}

// Load rebuilds a session; store.ErrNotFound when there is none.
func Load(ctx context.Context, l store.Loader, id string) (Session, error) {
	subject, err := Subject(id)
	if err != nil {
		return Session{}, err
	}
	s, last, err := store.Project(ctx, l, subject, 0, fresh(id), Fold)
	if err != nil {
		return s, err
	}
	if last == 0 {
		return s, fmt.Errorf("session %q is %w", id, store.ErrNotFound)
	}
	return s, nil
}

// List gives all sessions that the filter lets through, the one that changed last
// first. One that cannot be read is left out and is a part of the error. It reads all
// of them: who lists often keeps an Index.
func List(ctx context.Context, st store.LoadLister, f Filter) ([]Session, error) {
	return newIndex(st, math.MaxInt64).List(ctx, f)
}

// Match reports whether a filter lets a session through; Limit plays no part.
func (f Filter) Match(s Session) bool {
	if !f.matchLine(s.line()) {
		return false
	}
	text := strings.ToLower(f.Text)
	return text == "" || strings.Contains(strings.ToLower(s.Title), text) || slices.ContainsFunc(s.Turns, func(t Turn) bool {
		return strings.Contains(strings.ToLower(t.Question.Text), text)
	})
}

// open reports whether a session goes on.
func (s Session) open() bool { return !s.Closed && s.Merged == "" && s.Resolved.IsZero() }

// Fold takes one record into a session. Records of types it does not know are
// passed over: a later version may write more.
func Fold(s Session, rec store.Record) (Session, error) {
	var c Change
	if err := json.Unmarshal(rec.Data, &c); err != nil {
		return s, err
	}
	s.Seq, s.Changed = rec.Seq, rec.At
	switch rec.Type {
	case TypeOpened:
		if c.Opened == nil {
			return s, errors.New("the record does not say what was opened")
		}
		o := c.Opened
		s.Title, s.Source, s.Owner, s.Cluster, s.Namespace, s.Model, s.Links = o.Title, o.Source, o.Owner, o.Cluster, o.Namespace, o.Model, o.Links
		s.Opened = rec.At
	case TypeAsked:
		if c.Asked != nil && s.turn(c.Asked.ID) == nil {
			t := *c.Asked
			t.State, t.Asked = Queued, rec.At
			s.Turns = append(slices.Clone(s.Turns), t)
		}
	case TypeBegun:
		s.change(c.Begun != nil, func() string { return c.Begun.Turn }, func(t *Turn) {
			t.State, t.Run, t.Attempt = Running, c.Begun.Run, c.Begun.Attempt
			if t.Begun.IsZero() {
				t.Begun = rec.At
			}
		})
	case TypeEnded:
		s.change(c.Ended != nil, func() string { return c.Ended.ID }, func(t *Turn) {
			e := c.Ended
			t.State, t.Outcome, t.Headline, t.Model, t.Usage, t.Reason, t.Ended = e.State, e.Outcome, e.Headline, e.Model, e.Usage, e.Reason, rec.At
			if e.Run != "" {
				t.Run = e.Run
			}
		})
	case TypeAlerts:
		for _, a := range c.Alerts {
			if i := slices.IndexFunc(s.Alerts, func(o incident.Alert) bool { return o.Fingerprint == a.Fingerprint }); i >= 0 {
				s.Alerts = slices.Clone(s.Alerts)
				s.Alerts[i] = a
			} else {
				s.Alerts = append(slices.Clone(s.Alerts), a)
			}
		}
		if c.Resolved != nil {
			if *c.Resolved {
				s.Resolved = rec.At
			} else {
				s.Resolved = time.Time{}
			}
		}
	case TypePlan:
		if !slices.Contains(s.Plans, c.Plan) {
			s.Plans = append(slices.Clone(s.Plans), c.Plan)
		}
	case TypeLinked:
		if c.Link != nil && !slices.Contains(s.Links, *c.Link) {
			s.Links = append(slices.Clone(s.Links), *c.Link)
		}
	case TypeUnlinked:
		if c.Unlinked != nil {
			s.Links = slices.DeleteFunc(slices.Clone(s.Links), func(l Link) bool { return l == *c.Unlinked })
		}
	case TypeModel:
		if c.Model != nil {
			s.Model = *c.Model
		}
	case TypeTitle:
		s.Title = c.Title
	case TypeMerged:
		s.Merged = c.Merged
	case TypeClosed:
		s.Closed = c.Closed != nil && *c.Closed
	}
	return s, nil
}

func (s *Session) turn(id string) *Turn {
	if i := slices.IndexFunc(s.Turns, func(t Turn) bool { return t.ID == id }); i >= 0 {
		return &s.Turns[i]
	}
	return nil
}

// change alters a turn of a copy, unless it has ended: the first end stands.
func (s *Session) change(ok bool, id func() string, f func(*Turn)) {
	if !ok {
		return
	}
	s.Turns = slices.Clone(s.Turns)
	if t := s.turn(id()); t != nil && !t.State.Ended() {
		f(t)
	}
}

// Turn gives a turn by its id.
func (s Session) Turn(id string) (Turn, bool) {
	if t := s.turn(id); t != nil {
		return *t, true
	}
	return Turn{}, false
}

// OfRun gives the turn that a run belongs to: the one that it answers, or whose first
// attempt it was.
func (s Session) OfRun(run string) (Turn, bool) {
	if i := slices.IndexFunc(s.Turns, func(t Turn) bool { return t.ID == run || t.Run == run }); i >= 0 {
		return s.Turns[i], true
	}
	return Turn{}, false
}

// Last gives the newest turn.
func (s Session) Last() (Turn, bool) {
	if len(s.Turns) == 0 {
		return Turn{}, false
	}
	return s.Turns[len(s.Turns)-1], true
}
