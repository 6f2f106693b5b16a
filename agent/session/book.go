package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Bounds of what is taken.
const (
	// MaxQuestion is the longest question, in bytes.
	MaxQuestion = 16 << 10
	// MaxTurns is how many questions a session takes.
	MaxTurns = 200
	// maxKey is the longest idempotency key and the longest key of a link, in bytes.
	maxKey = 256
	// maxTitle is the longest title, in runes.
	maxTitle = 120
	// rivals is how often a change is tried again when another writer was faster.
	rivals = 20
)

// Journal is the part of a store that a Book needs.
type Journal interface {
	store.Appender
	store.Loader
	store.Lister
}

// Book takes questions and keeps sessions. It holds no state of its own: any
// number of books may work on one store.
type Book struct {
	Journal Journal
	// Cluster is what sessions are about.
	Cluster string
	// Index lists the sessions of Journal; without one they are all read each time.
	Index *Index
	// Woken is called when work was put into the queue; it may be nil.
	Woken func()
}

// Refusal says why something about a session is not taken. Gone is set where there
// is no such session.
type Refusal struct {
	Why, Fix string
	Gone     bool
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Fix == "" {
		return r.Why
	}
	return r.Why + "; " + r.Fix
}

func refuse(fix, format string, args ...any) error {
	return &Refusal{Why: fmt.Sprintf(format, args...), Fix: fix}
}

// check accepts a question and fills in what it leaves out.
func (a *Ask) check() error {
	q := &a.Question
	switch {
	case strings.TrimSpace(q.Text) == "" && q.Alert == nil && len(q.Subjects) == 0:
		return refuse("say what is wrong, for example: why is pod train/llama-0 pending", "the question is empty")
	case len(q.Text) > MaxQuestion:
		return refuse("shorten it, or name the object only", "the question has %d bytes, at most %d are taken", len(q.Text), MaxQuestion)
	case !utf8.ValidString(q.Text):
		return refuse("", "the question is not valid UTF-8")
	case !slices.Contains(Surfaces(), a.Source):
		return refuse("", "the source %q is none of %s", a.Source, strings.Join(Surfaces(), ", "))
	case len(a.Key) > maxKey:
		return refuse("", "the idempotency key has %d bytes, at most %d are taken", len(a.Key), maxKey)
	}
	if a.Priority == "" {
		a.Priority = Normal
	}
	if !slices.Contains(Priorities(), a.Priority) {
		return refuse("", "the priority %q is none of high, normal, low", a.Priority)
	}
	for _, l := range a.Links {
		if err := l.check(); err != nil {
			return err
		}
	}
	if a.Title == "" {
		a.Title = title(*q)
	}
	a.Title = cut(a.Title, maxTitle)
	return nil
}

func (l Link) check() error {
	if l.Surface == "" || l.Key == "" || len(l.Key) > maxKey {
		return refuse("", "the link %q of %q is empty or longer than %d bytes", l.Key, l.Surface, maxKey)
	}
	return nil
}

// title is a session's before anybody gives it one.
func title(q incident.Question) string {
	switch {
	case strings.TrimSpace(q.Text) != "":
		return strings.Join(strings.Fields(q.Text), " ")
	case q.Alert != nil:
		return "alert " + q.Alert.Name
	}
	return q.Subjects[0].String()
}

func cut(s string, runes int) string {
	r := []rune(strings.ToValidUTF8(s, "\uFFFD"))
	if len(r) <= runes {
		return string(r)
	}
	return string(r[:runes-1]) + "…"
}

// ident gives an id: of the key if there is one, so that a repeated question finds
// the first, else a new one.
func ident(kind, source, key string) (string, error) {
	if key == "" {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return "", fmt.Errorf("an id: %w", err)
		}
		return kind + hex.EncodeToString(b[:]), nil
	}
	sum := sha256.Sum256([]byte(kind + "\x00" + source + "\x00" + key))
	return kind + hex.EncodeToString(sum[:8]), nil
}

// Ask takes a question: when it returns, the question is in the journal and in the
// queue. The same key of the same source gives the turn that stands already. The
// error is a *Refusal when the question cannot be taken.
func (b *Book) Ask(ctx context.Context, a Ask) (Session, Turn, error) {
	if err := a.check(); err != nil {
		return Session{}, Turn{}, err
	}
	id, err := ident("run-", a.Source, a.Key)
	if err != nil {
		return Session{}, Turn{}, err
	}
	t := Turn{ID: id, Question: a.Question, By: a.By, Source: a.Source, Priority: a.Priority, State: Queued, Key: a.Key}
	var s Session
	if a.Session == "" {
		s, err = b.open(ctx, a, t)
	} else {
		s, err = b.Update(ctx, a.Session, func(s Session) ([]store.Entry, error) { return b.next(s, a, t) })
	}
	if err != nil {
		return s, t, err
	}
	for _, l := range a.Links {
		if s, err = b.Link(ctx, s.ID, l); err != nil {
			return s, t, err
		}
	}
	t, ok := s.Turn(id)
	if !ok {
		return s, t, fmt.Errorf("session %s does not hold the turn %s that it took", s.ID, id)
	}
	return s, t, b.enqueue(ctx, s.ID, t)
}

// open makes a new session, or finds the one that the same key opened.
func (b *Book) open(ctx context.Context, a Ask, t Turn) (Session, error) {
	id, err := ident("s-", a.Source, a.Key)
	if err != nil {
		return Session{}, err
	}
	cluster := a.Question.Cluster
	if cluster == "" {
		cluster = b.Cluster
	}
	o := &Opened{Title: a.Title, Source: a.Source, Owner: a.By, Cluster: cluster, Namespace: a.Question.Namespace, Model: a.Model}
	entries, err := encode(change{TypeOpened, Change{Opened: o}}, change{TypeAsked, Change{Asked: &t}})
	if err != nil {
		return Session{}, err
	}
	if len(a.Alerts) > 0 {
		more, err := encode(change{TypeAlerts, Change{Alerts: a.Alerts}})
		if err != nil {
			return Session{}, err
		}
		entries = append(entries, more...)
	}
	subject, err := Subject(id)
	if err != nil {
		return Session{}, err
	}
	_, err = b.Journal.Append(ctx, subject, 0, entries...)
	if _, there := errors.AsType[*store.ConflictError](err); err != nil && !there {
		return Session{}, fmt.Errorf("the question cannot be kept: %w", err)
	}
	return Load(ctx, b.Journal, id)
}

// next adds a turn to a session that is there.
func (b *Book) next(s Session, a Ask, t Turn) ([]store.Entry, error) {
	if _, there := s.Turn(t.ID); there {
		return nil, nil
	}
	switch {
	case s.Merged != "":
		return nil, refuse("ask there", "session %s is about the same incident as %s, which goes on", s.ID, s.Merged)
	case s.Closed:
		return nil, refuse("open a new one", "session %s is closed", s.ID)
	case len(s.Turns) >= MaxTurns:
		return nil, refuse("open a new one", "session %s has %d questions, more are not taken", s.ID, MaxTurns)
	}
	if t.Question.Namespace == "" {
		t.Question.Namespace = s.Namespace
	}
	cs := []change{{TypeAsked, Change{Asked: &t}}}
	if a.Model != "" && a.Model != s.Model {
		cs = append(cs, change{TypeModel, Change{Model: &a.Model}})
	}
	return encode(cs...)
}

// Work is a record of the queue.
type Work struct {
	Session string `json:"session"`
	Turn    string `json:"turn"`
	Source  string `json:"source"`
}

// queue names the queue of a priority.
func queue(p Priority) string { return "work." + string(p) }

// enqueue puts a turn into the queue, once.
func (b *Book) enqueue(ctx context.Context, session string, t Turn) error {
	data, err := json.Marshal(Work{Session: session, Turn: t.ID, Source: t.Source})
	if err != nil {
		return err
	}
	_, err = b.Journal.Append(ctx, queue(t.Priority)+"."+t.ID, 0, store.Entry{Type: "work", Data: data})
	if _, there := errors.AsType[*store.ConflictError](err); err != nil && !there {
		return fmt.Errorf("the question is kept and not yet queued: %w", err)
	}
	if b.Woken != nil {
		b.Woken()
	}
	return nil
}

// Repair queues what was taken and, because a process ended in between, not queued.
// It is called when a server starts and now and then.
func (b *Book) Repair(ctx context.Context) error {
	all, err := b.list(ctx, Filter{})
	errs := []error{err}
	for _, s := range all {
		for _, t := range s.Turns {
			if t.State == Queued {
				errs = append(errs, b.enqueue(ctx, s.ID, t))
			}
		}
	}
	return errors.Join(errs...)
}

func (b *Book) list(ctx context.Context, f Filter) ([]Session, error) {
	if b.Index != nil {
		return b.Index.List(ctx, f)
	}
	return List(ctx, b.Journal, f)
}

// change is a typed Change.
type change struct {
	Type string
	Change
}

func encode(cs ...change) ([]store.Entry, error) {
	out := make([]store.Entry, len(cs))
	for i, c := range cs {
		data, err := json.Marshal(c.Change)
		if err != nil {
			return nil, err
		}
		out[i] = store.Entry{Type: c.Type, Data: data}
	}
	return out, nil
}

// Update appends what f gives for a session as it stands, and asks f again when
// another writer was faster. With no entries nothing is appended.
func (b *Book) Update(ctx context.Context, id string, f func(Session) ([]store.Entry, error)) (Session, error) {
	for range rivals {
		s, err := b.Get(ctx, id)
		if err != nil {
			return s, err
		}
		entries, err := f(s)
		if err != nil || len(entries) == 0 {
			return s, err
		}
		subject, err := Subject(s.ID)
		if err != nil {
			return s, err
		}
		_, err = b.Journal.Append(ctx, subject, s.Seq, entries...)
		if _, again := errors.AsType[*store.ConflictError](err); again {
			continue
		}
		if err != nil {
			return s, fmt.Errorf("session %s cannot be kept: %w", id, err)
		}
		return Load(ctx, b.Journal, s.ID)
	}
	return Session{}, fmt.Errorf("session %s is %w: others keep writing to it", id, store.ErrBusy)
}

// Get gives a session by id, or the one that changed last for "latest". A session
// that is not there is a *Refusal.
func (b *Book) Get(ctx context.Context, id string) (Session, error) {
	if id == "latest" {
		all, err := b.list(ctx, Filter{Limit: 1})
		if len(all) == 1 {
			return all[0], nil
		}
		return Session{}, errors.Join(&Refusal{Why: "there is no session yet", Fix: "ask something first", Gone: true}, err)
	}
	s, err := Load(ctx, b.Journal, id)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return s, &Refusal{Why: fmt.Sprintf("there is no session %q", id), Fix: "gumshoe sessions list shows those that are there", Gone: true}
	}
	return s, err
}

// put appends one change to a session, unless done says that it stands already.
func (b *Book) put(ctx context.Context, id, typ string, c Change, done func(Session) bool) (Session, error) {
	return b.Update(ctx, id, func(s Session) ([]store.Entry, error) {
		if done(s) {
			return nil, nil
		}
		return encode(change{typ, c})
	})
}

// Cancel takes a question back. A run that works on it is told by its heartbeat.
func (b *Book) Cancel(ctx context.Context, id, turn, why string) (Session, error) {
	return b.Update(ctx, id, func(s Session) ([]store.Entry, error) {
		t, ok := s.Turn(turn)
		if !ok {
			return nil, &Refusal{Why: fmt.Sprintf("session %s has no turn %q", s.ID, turn), Gone: true}
		}
		if t.State.Ended() {
			return nil, refuse("", "it is %s already", t.State)
		}
		t.State, t.Reason = Cancelled, why
		return encode(change{TypeEnded, Change{Ended: &t}})
	})
}

// NoteAlerts keeps what is heard of a session's alerts; resolved, if given, says
// whether all of them ended.
func (b *Book) NoteAlerts(ctx context.Context, id string, alerts []incident.Alert, resolved *bool) (Session, error) {
	return b.put(ctx, id, TypeAlerts, Change{Alerts: alerts, Resolved: resolved}, func(s Session) bool {
		return (resolved == nil || *resolved == !s.Resolved.IsZero()) && !slices.ContainsFunc(alerts, func(a incident.Alert) bool {
			i := slices.IndexFunc(s.Alerts, func(o incident.Alert) bool { return o.Fingerprint == a.Fingerprint })
			return i < 0 || s.Alerts[i].Status != a.Status || !s.Alerts[i].StartsAt.Equal(a.StartsAt) || !s.Alerts[i].EndsAt.Equal(a.EndsAt)
		})
	})
}

// AddPlan notes a plan that was made in a session.
func (b *Book) AddPlan(ctx context.Context, id, plan string) (Session, error) {
	return b.put(ctx, id, TypePlan, Change{Plan: plan}, func(s Session) bool { return slices.Contains(s.Plans, plan) })
}

// SetModel switches the model of a session; empty goes back to the configured one.
func (b *Book) SetModel(ctx context.Context, id, model string) (Session, error) {
	return b.put(ctx, id, TypeModel, Change{Model: &model}, func(s Session) bool { return s.Model == model })
}

// SetTitle names a session.
func (b *Book) SetTitle(ctx context.Context, id, title string) (Session, error) {
	title = cut(strings.Join(strings.Fields(title), " "), maxTitle)
	if title == "" {
		return Session{}, refuse("", "the title is empty")
	}
	return b.put(ctx, id, TypeTitle, Change{Title: title}, func(s Session) bool { return s.Title == title })
}

// Merge says that a session is about the same incident as another, which goes on.
func (b *Book) Merge(ctx context.Context, id, into string) (Session, error) {
	if id == into {
		return Session{}, refuse("", "a session cannot be merged into itself")
	}
	to, err := b.Get(ctx, into)
	if err != nil {
		return to, err
	}
	if to.Merged != "" {
		return to, refuse("merge into that one", "session %s was merged into %s itself", into, to.Merged)
	}
	return b.put(ctx, id, TypeMerged, Change{Merged: into}, func(s Session) bool { return s.Merged == into })
}

// Close says that nothing more is to be added to a session.
func (b *Book) Close(ctx context.Context, id string) (Session, error) {
	closed := true
	return b.put(ctx, id, TypeClosed, Change{Closed: &closed}, func(s Session) bool { return s.Closed })
}

// finish keeps the end of a turn; the first end stands.
func (b *Book) finish(ctx context.Context, id string, t Turn) (Session, error) {
	return b.put(ctx, id, TypeEnded, Change{Ended: &t}, func(s Session) bool {
		o, ok := s.Turn(t.ID)
		return !ok || o.State.Ended()
	})
}

// Exchanges are what was asked and answered in a session before a turn, the newest
// last, at most n of them.
func (s Session) Exchanges(turn string, n int) []incident.Exchange {
	var out []incident.Exchange
	for _, t := range s.Turns {
		if t.ID == turn {
			break
		}
		if t.State == Answered {
			out = append(out, incident.Exchange{Question: t.Question.Text, Answer: t.Headline, Run: t.Run})
		}
	}
	return out[max(0, len(out)-n):]
}

// since is a duration that a surface shows: zero where either end is not known.
func since(from, to time.Time) time.Duration {
	if from.IsZero() || to.Before(from) {
		return 0
	}
	return to.Sub(from)
}

// Took is how long a turn was worked on.
func (t Turn) Took() time.Duration { return since(t.Begun, t.Ended) }
