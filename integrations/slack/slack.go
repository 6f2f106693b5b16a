// Package slack brings gumshoe into Slack: mentions, direct messages and a slash
// command ask, a thread shows the work and the answer, buttons decide on plans.
//
// Both ways go through the journal. What Slack sends is kept before it is
// acknowledged, once under a key that Slack's own ids give, and worked on from a
// queue, in the order of its thread, by any replica. What is posted is a projection
// of sessions, runs and plans: one replica at a time posts, keeps what stands where,
// and after a crash finds its own message again by the metadata it carries.
package slack

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Asker takes questions and takes them back.
type Asker interface {
	Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error)
	Cancel(ctx context.Context, session, turn string, by incident.Person) (session.Session, error)
}

// Linker knows which session a thread shows.
type Linker interface {
	Link(ctx context.Context, id string, l session.Link) (session.Session, error)
	Unlink(ctx context.Context, id string, l session.Link) (session.Session, error)
	Linked(ctx context.Context, l session.Link) (session.Session, bool, error)
}

// Reader gives what the journal holds.
type Reader interface {
	Session(ctx context.Context, id string) (session.Session, error)
	Run(ctx context.Context, run string) (store.Run, error)
	Output(ctx context.Context, digest string) ([]byte, error)
}

// Follower tells what changes.
type Follower interface {
	Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error]
	Events(ctx context.Context, id string, after uint64) iter.Seq2[session.Told, error]
}

// Planner makes plans and takes people's words on them.
type Planner interface {
	Plan(ctx context.Context, id string) (planner.Record, error)
	Propose(ctx context.Context, a session.PlanAsk) (planner.Record, error)
	Say(ctx context.Context, id, word, comment string, by incident.Person) (planner.Record, error)
}

// Service is everything that the surface works through.
type Service interface {
	Asker
	Linker
	Reader
	Follower
	Planner
}

// Journal keeps what Slack sent and what was posted.
type Journal interface {
	store.Appender
	store.Loader
	store.Lister
	store.Queue
}

// Timing of the surface; zero fields take the defaults that stand behind them.
type Timing struct {
	// Lease is how long a replica that has vanished keeps its work (15 s).
	Lease time.Duration
	// Poll is how often queues are looked at (250 ms).
	Poll time.Duration
	// Status is the least time between two edits of a message that tells progress (3 s).
	Status time.Duration
	// Route is how long a new incident waits for whoever opened it to say in which
	// channel it is wanted (2 s).
	Route time.Duration
	// Retry is the first delay after a failure (1 s); it doubles up to a minute.
	Retry time.Duration
	// Tokens is how often the token files are looked at (10 s).
	Tokens time.Duration
}

func (t Timing) filled() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Lease, 15*time.Second)
	def(&t.Poll, 250*time.Millisecond)
	def(&t.Status, 3*time.Second)
	def(&t.Route, 2*time.Second)
	def(&t.Retry, time.Second)
	def(&t.Tokens, 10*time.Second)
	return t
}

// Options of a Surface. Config, Service and Journal are needed.
type Options struct {
	Config  Config
	Service Service
	Journal Journal
	Log     *slog.Logger
	Now     func() time.Time
	Client  *http.Client
	Timing  Timing
	// Boundary is called between any two steps that leave the process; an error ends
	// the work there, as the end of the process would. Tests set it.
	Boundary func(point string) error
}

// Surface is Slack as a place where gumshoe works.
type Surface struct {
	cfg      Config
	svc      Service
	journal  Journal
	log      *slog.Logger
	now      func() time.Time
	timing   Timing
	boundary func(string) error

	api    *api
	people *people
	wake   chan struct{}

	mu     sync.Mutex
	health map[string]string

	shownMu sync.Mutex
	// lastShown is what this process showed last, by message.
	lastShown map[string]lastShown
}

// New makes the surface; it asks nothing of Slack yet. The error names the field of
// the configuration.
func New(o Options) (*Surface, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Service == nil || o.Journal == nil {
		return nil, errors.New("slack: a service and a journal are needed")
	}
	s := &Surface{cfg: o.Config, svc: o.Service, journal: o.Journal, log: o.Log, now: o.Now, timing: o.Timing.filled(), boundary: o.Boundary, wake: make(chan struct{}, 1), health: map[string]string{}, lastShown: map[string]lastShown{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With("surface", "slack")
	if s.now == nil {
		s.now = time.Now
	}
	if s.boundary == nil {
		s.boundary = func(string) error { return nil }
	}
	client := o.Client
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	a, err := newAPI(s.cfg, client, s.now, s.ill)
	if err != nil {
		return nil, err
	}
	s.api = a
	s.people = &people{cfg: s.cfg, api: a, now: s.now, seen: map[string]seenUser{}, groups: map[string]seenGroup{}}
	return s, nil
}

// Run works until ctx ends; that end is no error. A Slack that cannot be reached, or
// that refuses the tokens, is a state of Health and not the end.
func (s *Surface) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.api.watch(ctx, s.timing.Tokens) })
	for range workers {
		wg.Go(func() { s.work(ctx) })
	}
	wg.Go(func() { s.lead(ctx) })
	if s.cfg.Mode == ModeSocket {
		wg.Go(func() { s.listen(ctx) })
	}
	wg.Wait()
	return nil
}

// Health gives nil, or a sentence on what does not work and what helps.
func (s *Surface) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, part := range []string{"token", "socket", "post", "journal"} {
		if why := s.health[part]; why != "" {
			return fmt.Errorf("slack: %s", why)
		}
	}
	return nil
}

// ill keeps what is wrong with a part; empty says that it works.
func (s *Surface) ill(part, why string) {
	s.mu.Lock()
	before := s.health[part]
	s.health[part] = why
	s.mu.Unlock()
	switch {
	case why != "" && why != before:
		s.log.Warn("slack does not work", "part", part, "reason", why)
	case why == "" && before != "":
		s.log.Info("slack works again", "part", part)
	}
}

// sleep waits; false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
