// Package alertmanager takes alerts and makes investigations of them: one per
// incident, however many alerts tell of it, however often, and through however many
// Alertmanagers.
//
// A webhook is answered once the journal holds it. A desk then works through what was
// taken, in order and on one replica at a time: a group of alerts joins the incident
// that it belongs to, waits for an investigation under way in its neighbourhood, or
// opens a session of its own. What belongs together is decided by the group key, by
// what the labels name, and by what an investigation found sick on the way to its
// cause; nothing is decided by the name of an alert.
//
// The desk keeps no state of its own: sessions, runs and the log of each group are in
// the journal, and a desk that starts anew goes on from there.
package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Asker takes questions and shows sessions.
type Asker interface {
	Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error)
	Session(ctx context.Context, id string) (session.Session, error)
	Sessions(ctx context.Context, f session.Filter) ([]session.Session, error)
}

// Keeper changes sessions.
type Keeper interface {
	NoteAlerts(ctx context.Context, id string, alerts []incident.Alert, resolved *bool) (session.Session, error)
	Merge(ctx context.Context, id, into string) (session.Session, error)
	CloseSession(ctx context.Context, id string, by incident.Person) (session.Session, error)
}

// Reader shows runs and what changes.
type Reader interface {
	Run(ctx context.Context, run string) (store.Run, error)
	Follow(ctx context.Context, after store.Position) iter.Seq2[session.Notice, error]
}

// Service is what the desk works through.
type Service interface {
	Asker
	Keeper
	Reader
}

// Journal is the part of a store that the desk needs. All replicas share it.
type Journal interface {
	store.Appender
	store.Loader
	store.Lister
	store.Scheduler
	store.Queue
}

// Options of a Desk beside its configuration. Service and Journal are required.
type Options struct {
	Service Service
	Journal Journal
	// Cluster is the one that alerts are about.
	Cluster string
	// Redact masks secrets in what alerts say; nil masks nothing.
	Redact func(string) string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log may be nil.
	Log *slog.Logger
	// Tick is how often a desk looks for what became due, and for work of other
	// replicas; 0 is a second.
	Tick time.Duration
	// Lease is how long the desk, a delivery and a result stay a dead replica's; 0 is 30
	// seconds.
	Lease time.Duration
}

// Desk is the surface of Alertmanager. Its routes may serve on every replica.
type Desk struct {
	cfg     Config
	svc     Service
	journal Journal
	cluster string
	redact  func(string) string
	now     func() time.Time
	log     *slog.Logger
	tick    time.Duration
	lease   time.Duration
	guard   *guard
	results *sender
	marker  *annotator
	wake    chan struct{}

	// What stands below belongs to the goroutine that holds the desk.
	groups    map[string]*group
	held      map[string]*group
	incidents map[string]*inc
	sights    map[string]*sight

	mu sync.Mutex
	// changed are the sessions of which something was heard, by id.
	changed map[string]struct{}
}

// New makes a desk. The error names the field of the configuration that is wrong.
func New(cfg Config, o Options) (*Desk, error) {
	cfg, err := cfg.prepare()
	if err != nil {
		return nil, err
	}
	if o.Service == nil || o.Journal == nil {
		return nil, errors.New("alertmanager: a desk needs a service and a journal")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Redact == nil {
		o.Redact = func(s string) string { return s }
	}
	if o.Tick <= 0 {
		o.Tick = time.Second
	}
	if o.Lease <= 0 {
		o.Lease = 30 * time.Second
	}
	d := &Desk{cfg: cfg, svc: o.Service, journal: o.Journal, cluster: o.Cluster, redact: o.Redact, now: o.Now, log: o.Log, tick: o.Tick, lease: o.Lease,
		guard: newGuard(cfg.Auth, o.Now), wake: make(chan struct{}, 1), changed: map[string]struct{}{}}
	if d.results, err = newSender(d); err != nil {
		return nil, err
	}
	if d.marker, err = newAnnotator(d); err != nil {
		return nil, err
	}
	d.reset()
	return d, nil
}

func (d *Desk) reset() {
	d.groups, d.held, d.incidents, d.sights = map[string]*group{}, map[string]*group{}, map[string]*inc{}, map[string]*sight{}
}

// Wake makes the desk look for work now.
func (d *Desk) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// by is who asks for alerts.
func by() incident.Person {
	return incident.Person{Name: "alertmanager", Surface: session.Alertmanager}
}

// Run works until ctx ends: on one replica at a time it decides about alerts, on every
// one it posts results.
func (d *Desk) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if d.results != nil {
		wg.Go(func() { d.results.run(ctx) })
	}
	for ctx.Err() == nil {
		err := d.sit(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrNothing) {
			d.log.Error("alerts are not worked on; it is tried again", "error", err)
		}
		pause(ctx, d.tick)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// sit takes the desk if nobody has it, and works at it until ctx ends or it is lost.
func (d *Desk) sit(ctx context.Context) error {
	if _, err := d.journal.Append(ctx, queueDesk+".desk", 0, store.Entry{Type: typeDesk}); err != nil {
		if _, there := errors.AsType[*store.ConflictError](err); !there {
			return err
		}
	}
	c, err := d.journal.Claim(ctx, queueDesk, d.lease)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			pause(ctx, d.lease/3)
			if ctx.Err() != nil {
				return
			}
			if err := c.Lease.Extend(ctx, d.lease); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("the desk is another replica's: %w", err))
				return
			}
		}
	})
	err = d.work(ctx, &wg)
	stop(nil)
	wg.Wait()
	if !errors.Is(err, store.ErrLost) {
		err = errors.Join(err, c.Lease.Release(context.WithoutCancel(ctx), 0))
	}
	return err
}

// work loads what the journal has and goes on from there.
func (d *Desk) work(ctx context.Context, wg *sync.WaitGroup) error {
	// What is there is read once; only what comes after is followed.
	seen := map[string]uint64{}
	for info, err := range d.journal.List(ctx, session.Subjects) {
		if err != nil && info.Subject == "" {
			return fmt.Errorf("the sessions: %w", err)
		}
		seen[info.Subject] = info.Last
	}
	if err := d.restore(ctx); err != nil {
		return err
	}
	wg.Go(func() { d.follow(ctx, func(subject string) uint64 { return seen[subject] }) })
	if d.marker != nil {
		wg.Go(func() { d.marker.run(ctx) })
	}
	t := time.NewTicker(d.tick)
	defer t.Stop()
	for {
		if err := d.step(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-d.wake:
		case <-t.C:
		}
	}
}

// follow notes which sessions change.
func (d *Desk) follow(ctx context.Context, after store.Position) {
	for ctx.Err() == nil {
		for n, err := range d.svc.Follow(ctx, after) {
			if err != nil {
				if ctx.Err() == nil {
					d.log.Warn("sessions cannot be followed; it is tried again", "error", err)
				}
				break
			}
			if n.Session == "" {
				continue
			}
			d.mu.Lock()
			d.changed[n.Session] = struct{}{}
			d.mu.Unlock()
			if n.Type == session.TypeEnded || n.Type == session.TypeClosed || n.Type == session.TypeMerged {
				d.Wake()
			}
		}
		pause(ctx, d.tick)
	}
}

// restore reads sessions and the groups that wait.
func (d *Desk) restore(ctx context.Context) error {
	d.reset()
	all, err := d.svc.Sessions(ctx, session.Filter{Source: session.Alertmanager})
	if err != nil {
		if len(all) == 0 {
			return fmt.Errorf("the sessions of alerts: %w", err)
		}
		d.log.Error("some sessions cannot be read", "error", err)
	}
	for _, s := range all {
		d.put(s)
	}
	for info, err := range d.journal.List(ctx, groupPrefix+".>") {
		id := strings.TrimPrefix(info.Subject, groupPrefix+".")
		switch {
		case err != nil && info.Subject == "":
			return fmt.Errorf("the groups of alerts: %w", err)
		case err != nil:
			d.log.Error("a group of alerts cannot be read", "group", id, "error", err)
		case info.Type == typeHeld: // one that was only heard of: its delivery comes again
			if _, err := d.load(ctx, id); err != nil {
				d.log.Error("a group of alerts cannot be read", "error", err)
			}
		}
	}
	return nil
}

// maxBackoff bounds the pause before a delivery that failed is tried again.
const maxBackoff = 5 * time.Minute

// step does everything that can be done now.
func (d *Desk) step(ctx context.Context) error {
	if err := d.refresh(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		c, err := d.journal.Claim(ctx, queueAlerts, d.lease)
		if errors.Is(err, store.ErrNothing) {
			break
		}
		if err != nil {
			return fmt.Errorf("the queue of alerts: %w", err)
		}
		if err := d.deliver(ctx, c); err != nil {
			return err
		}
	}
	if err := d.due(ctx); err != nil {
		return err
	}
	for _, i := range d.sorted() {
		if err := d.settle(ctx, i); err != nil {
			d.log.Error("an incident could not be kept in step with its alerts", "session", i.s.ID, "error", err)
			i.due = d.now().Add(backoff(1))
		}
	}
	if d.marker != nil {
		d.marker.learn(d.sorted())
	}
	return ctx.Err()
}

func backoff(attempt int) time.Duration {
	return min(maxBackoff, time.Second<<min(attempt, 10))
}

// deliver works on one claimed delivery. What fails comes again; nothing that was
// acknowledged is dropped.
func (d *Desk) deliver(ctx context.Context, c *store.Claim) error {
	var del Delivery
	err := json.Unmarshal(c.Record.Data, &del)
	if err != nil || !isGroup(del.Group) {
		d.log.Error("a record of the queue of alerts cannot be read and is passed over", "subject", c.Record.Subject, "error", err)
		return done(ctx, c)
	}
	if err := d.hear(ctx, del); err != nil {
		if ctx.Err() != nil { // the next desk need not wait for the end of the lease
			return errors.Join(ctx.Err(), c.Lease.Release(context.WithoutCancel(ctx), 0))
		}
		d.log.Error("alerts could not be worked on; they come again", "subject", c.Record.Subject, "attempt", c.Attempt, "error", err)
		err := c.Lease.Release(ctx, backoff(c.Attempt))
		if errors.Is(err, store.ErrLost) {
			return nil
		}
		return err
	}
	return done(ctx, c)
}

// done ends a claim. One that was lost comes again, and is then nothing new.
func done(ctx context.Context, c *store.Claim) error {
	if err := c.Lease.Done(context.WithoutCancel(ctx)); !errors.Is(err, store.ErrLost) {
		return err
	}
	return nil
}

// hear takes a delivery into its group, and decides if there is something new.
func (d *Desk) hear(ctx context.Context, del Delivery) error {
	g, err := d.load(ctx, del.Group)
	if err != nil {
		return err
	}
	if news := g.news(del); len(news) > 0 {
		del.Alerts = news
		if err := d.change(ctx, g, typeHeard, groupChange{Heard: &del}); err != nil {
			return err
		}
	} else if g.since.IsZero() {
		return nil // a repetition of what was decided about
	}
	return d.place(ctx, []*group{g})
}

// due places the groups that need not wait any longer.
func (d *Desk) due(ctx context.Context) error {
	now := d.now()
	var ready []*group
	for _, g := range d.held {
		i := d.incidents[g.held.Behind]
		if !g.held.Until.After(now) || g.held.Behind != "" && (i == nil || !i.busy()) {
			ready = append(ready, g)
		}
	}
	slices.SortFunc(ready, func(a, b *group) int {
		if c := a.since.Compare(b.since); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	return d.place(ctx, ready)
}
