// Package jetstream keeps the journal in NATS JetStream: in a server that runs
// inside this process and opens no port, or in the users' own, of one node or
// three. The code above the connection is the same.
//
// What is where, for the default name "gumshoe":
//
//	stream gumshoe-journal  gumshoe.j.<subject>        subjects that may be deleted
//	stream gumshoe-kept     gumshoe.p.<subject>        subjects of Config.Permanent: nothing is deleted or purged
//	stream gumshoe-state    gumshoe.t.<key>            timers that wait
//	                        gumshoe.c.<subject>.<seq>  who works on what of the queues
//	stream gumshoe-outputs  gumshoe.o.<sha256>.<part>  full outputs of tools, see Outputs
//	core subjects           gumshoe.n.<subject>        says that something was appended
//	                        gumshoe.live.<subject>     live events, see Publish
//
// An append is one message when it is small. A larger one is several parts and a
// closing message; it is there once the closing message is, and parts without one
// are passed over. Every message is appended with the sequence at which its
// subject is expected to end, names the append before it, and carries a checksum.
//
// What survives: the embedded server writes with fsync before it acknowledges, so
// an acknowledged append, timer or claim survives kill -9 and the loss of power
// as far as the disk keeps its word. It runs in one process and on one disk: that
// is not high availability. On a server of one's own it is as durable as that
// server is configured: with three replicas an acknowledgement means that two of
// them have it; whether they have synced it is their sync_interval. Reads are
// answered by the leader, or checked against it; while a cluster without quorum
// has two leaders a read can be old, a write cannot be wrong.
//
// Damage: NATS checks a sum of every message. One that is damaged it does not
// find, and when it recovers it drops what stands behind in the same file; it says
// neither to readers. This package does: every append names the one before it, the
// state of a stream is asked when something is not found, and the embedded server
// has marks of how far its streams came, at most 15 s old. A record that is
// missing or cannot be read is a *CorruptError, never other data; a stream that
// ends before its mark is not opened. What was lost at the end of a stream since
// the last mark, or by every replica of a cluster, cannot be told from never
// having been appended: plans, approvals and the audit trail are signed and
// chained by those who write them, and that is what protects them.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Config of a Store. Dir or URLs is required, not both.
type Config struct {
	// Dir is the directory of the embedded server; it is made if it is not there,
	// with mode 0700, and held by one process at a time.
	Dir string
	// MaxBytes is how much the embedded server may keep; 0 means three quarters of
	// what is free on its disk when it starts.
	MaxBytes int64

	// URLs of the servers, "nats://host:4222" or "tls://host:4222".
	URLs []string
	// Credentials is a file with a user's JWT and seed; empty means none.
	Credentials string
	// CA, Cert and Key are PEM files: whom to trust, and who we are. Empty means
	// the system's roots and no certificate.
	CA, Cert, Key string
	// Replicas of every stream, 1, 3 or 5; 0 means 1. Streams that have fewer are
	// raised, none is lowered. The embedded server has 1.
	Replicas int

	// Name begins the names of streams and subjects; empty means DefaultName.
	Name string
	// Permanent are patterns of subjects of which nothing can be deleted; nil means
	// DefaultPermanent. They cannot change once the streams are made.
	Permanent []string
	// OutputBytes is how much all outputs may take, the oldest go first; 0 means
	// DefaultOutputBytes.
	OutputBytes int64

	// Wait is how long an operation waits for a server that does not answer, unless
	// its context ends first; 0 means DefaultWait.
	Wait time.Duration
	// Poll is how often timers are looked at, and how late a watch sees an append
	// whose announcement was lost; 0 means DefaultPoll.
	Poll time.Duration
	// Now is a clock that stamps records and judges timers and leases. Nil means
	// the clock of the server, which all processes share.
	Now func() time.Time
	// Log gets what the embedded server and the connection have to say; nil means
	// nobody.
	Log *slog.Logger
}

// Defaults of Config.
const (
	DefaultName        = "gumshoe"
	DefaultWait        = 2 * time.Minute
	DefaultPoll        = 500 * time.Millisecond
	DefaultOutputBytes = 512 << 20
)

// DefaultPermanent gives the subjects whose history is evidence.
func DefaultPermanent() []string {
	return []string{"plan.>", "approval.>", "audit.>", "breaker.>"}
}

// drainTime bounds how long Close waits for what is under way.
const drainTime = 5 * time.Second

// Store is a journal in JetStream. It is safe for concurrent use.
type Store struct {
	cfg    Config
	where  string    // for errors
	server *embedded // nil when it is not in this process
	owned  bool      // the server ends with the store
	nc     *nats.Conn
	js     jetstream.JetStream
	clock  clock

	// ctx ends when the store is closed and nothing is under way any more.
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	closing bool
	ops     sync.WaitGroup // changes under way
	loop    sync.WaitGroup
	closed  chan struct{}
	over    chan struct{} // after the last step of Close
	end     error

	denied   denied
	watchers watchers
	listings listings
	timers   timers
	queues   queues
	outputs  once
}

var _ store.Store = (*Store)(nil)

// Open connects, or starts the embedded server, and makes the streams that are
// not there. The end of ctx gives up; it does not end the store.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	if cfg.Dir == "" {
		return open(ctx, cfg, nil)
	}
	e, err := embed(cfg)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, cfg, e)
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	s.owned = true
	return s, nil
}

func (c Config) check() (Config, error) {
	if (c.Dir == "") == (len(c.URLs) == 0) {
		return c, fmt.Errorf("jetstream store: %w configuration: give a directory for the embedded server or URLs of servers, one of them", store.ErrInvalid)
	}
	if c.Name == "" {
		c.Name = DefaultName
	}
	if err := store.CheckSubject(c.Name); err != nil || len(c.Name) > 32 {
		return c, fmt.Errorf("jetstream store: %w name %q: it has at most 32 letters, digits, '-' and '_'", store.ErrInvalid, c.Name)
	}
	for i := range len(c.Name) {
		if c.Name[i] == '.' {
			return c, fmt.Errorf("jetstream store: %w name %q: it has no dots", store.ErrInvalid, c.Name)
		}
	}
	if c.Permanent == nil {
		c.Permanent = DefaultPermanent()
	}
	for _, p := range c.Permanent {
		if err := store.CheckPattern(p); err != nil {
			return c, fmt.Errorf("jetstream store: Permanent: %w", err)
		}
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5 || c.Dir != "" && c.Replicas != 1 {
		return c, fmt.Errorf("jetstream store: %w number of replicas %d: 1, 3 or 5, and 1 when embedded", store.ErrInvalid, c.Replicas)
	}
	if c.MaxBytes < 0 || c.OutputBytes < 0 {
		return c, fmt.Errorf("jetstream store: %w bound: MaxBytes %d and OutputBytes %d are not below zero", store.ErrInvalid, c.MaxBytes, c.OutputBytes)
	}
	if (c.Cert == "") != (c.Key == "") {
		return c, fmt.Errorf("jetstream store: %w configuration: a certificate and its key come together", store.ErrInvalid)
	}
	if c.OutputBytes == 0 {
		c.OutputBytes = DefaultOutputBytes
	}
	if c.Wait <= 0 {
		c.Wait = DefaultWait
	}
	if c.Poll <= 0 {
		c.Poll = DefaultPoll
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// open makes a store on an embedded server, or, without one, on cfg.URLs.
func open(ctx context.Context, cfg Config, e *embedded) (*Store, error) {
	s := &Store{cfg: cfg, server: e, closed: make(chan struct{}), over: make(chan struct{})}
	s.clock.now = cfg.Now
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := s.connect(ctx); err != nil {
		s.stop()
		return nil, err
	}
	err := s.prepare(ctx)
	if err == nil {
		err = s.checkMarks(ctx)
	}
	if err == nil {
		err = s.watchers.listen(s)
	}
	if err == nil {
		err = s.syncTimers(ctx)
	}
	if err != nil {
		s.stop()
		s.nc.Close()
		return nil, err
	}
	s.loop.Go(s.tick)
	return s, nil
}

// Close waits for changes under way, ends watches and, when it is embedded, the
// server. The store cannot be used any more.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.over
		return s.end
	}
	s.closing = true
	s.mu.Unlock()
	defer close(s.over)
	close(s.closed)
	late := time.AfterFunc(drainTime, s.stop) // the server does not answer: what waits for it gives up
	s.ops.Wait()
	late.Stop()
	if s.server != nil {
		ctx, cancel := context.WithTimeout(s.ctx, markTime)
		if err := s.mark(ctx); err != nil {
			s.cfg.Log.Warn("the marks of the streams are not written", "error", err)
		}
		cancel()
	}
	s.stop()
	s.loop.Wait()
	s.nc.Close()
	if s.owned {
		s.end = s.server.close()
	}
	return s.end
}

// open refuses a store that was closed and a context that has ended.
func (s *Store) open(ctx context.Context) error {
	select {
	case <-s.closed:
		return fmt.Errorf("jetstream store %s: %w", s.where, store.ErrClosed)
	default:
		return ctx.Err()
	}
}

// begin is open for a change; Close waits until end is called.
func (s *Store) begin(ctx context.Context) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	s.ops.Add(1)
	return s.ops.Done, nil
}

// Health makes a round trip to the leader of the journal; an error says why
// nothing can be appended at the moment. It does not wait longer than ctx.
func (s *Store) Health(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	if st := s.nc.Status(); st != nats.CONNECTED {
		return fmt.Errorf("jetstream store %s: the connection is %s", s.where, statusWord(st))
	}
	for _, stream := range s.journals() {
		if _, err := s.streamInfo(ctx, stream, "", 0, onlyOnce); err != nil {
			return fmt.Errorf("jetstream store %s: stream %s does not answer: %w", s.where, stream, err)
		}
	}
	return nil
}

func statusWord(st nats.Status) string {
	switch st {
	case nats.CONNECTED:
		return "up"
	case nats.RECONNECTING, nats.DISCONNECTED, nats.CONNECTING:
		return "down: no server can be reached"
	default:
		return "closed"
	}
}

// clock is the time of the server, kept by this process's monotonic clock
// between two answers, so that all processes judge leases by one clock and a
// jump of the local one changes nothing.
type clock struct {
	now  func() time.Time
	mu   sync.Mutex
	base time.Time // of the server
	at   time.Time // of this process, when it was base
}

func (c *clock) set(server time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.at = server, time.Now()
}

// Now is in UTC.
func (c *clock) Now() time.Time {
	if c.now != nil {
		return c.now().UTC().Round(0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base.IsZero() {
		return time.Now().UTC().Round(0)
	}
	return c.base.Add(time.Since(c.at)).UTC().Round(0)
}
