package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// The entries of the directory.
const (
	lockFile = "lock"
	dataDir  = "data"
	markFile = "marks.json"
)

// Times of the embedded server.
const (
	// startTime is how long it may take to be ready.
	startTime = 30 * time.Second
	// reviveAfter is the pause between two attempts to start it again after its
	// disk refused a write.
	reviveAfter = time.Second
	// reviveRoom is what must fit on the disk before it is tried, in bytes.
	reviveRoom = 1 << 20
)

// embedded is a NATS server in this process that listens nowhere.
type embedded struct {
	dir  string
	lock *flock.Flock
	opts func() *server.Options
	log  *slog.Logger

	marking sync.Mutex // held while marks are written

	mu      sync.Mutex
	srv     *server.Server
	revived time.Time
	down    bool
	// well ends, with the reason, when the disk refuses a write: the server then
	// answers no append any more. It is made anew with the server.
	well context.Context
}

var _ nats.InProcessConnProvider = (*embedded)(nil)

// embed starts a server on cfg.Dir.
func embed(cfg Config) (*embedded, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("jetstream store: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, dataDir), 0o700); err != nil {
		return nil, fmt.Errorf("jetstream store %s: %w", dir, err)
	}
	l := flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("jetstream store %s: lock: %w", dir, err)
	}
	if !ok {
		return nil, fmt.Errorf("jetstream store %s is %w: another process holds it, and an embedded store is for one; end that process, use another directory, or run a NATS server and give its URL", dir, store.ErrBusy)
	}
	e := &embedded{dir: dir, lock: l, log: cfg.Log}
	e.opts = func() *server.Options {
		return &server.Options{
			ServerName: cfg.Name, DontListen: true, NoSigs: true, NoSystemAccount: true,
			JetStream: true, StoreDir: filepath.Join(dir, dataDir), JetStreamMaxStore: cfg.MaxBytes,
			SyncAlways: true, DisableJetStreamBanner: true,
		}
	}
	e.srv, err = e.start()
	if err != nil {
		return nil, errors.Join(err, l.Unlock())
	}
	return e, nil
}

func (e *embedded) start() (*server.Server, error) {
	srv, err := server.NewServer(e.opts())
	if err != nil {
		return nil, fmt.Errorf("jetstream store %s: embedded server: %w", e.dir, err)
	}
	well, fail := context.WithCancelCause(context.Background())
	e.well = well
	said := &lastWords{fail: fail}
	srv.SetLoggerV2(&serverLog{e.log, said}, false, false, false)
	srv.Start()
	if !srv.ReadyForConnections(startTime) || !srv.JetStreamEnabled() {
		fail(errors.New(said.get()))
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("jetstream store %s: the embedded server does not start: %s", e.dir, said.get())
	}
	return srv, nil
}

// InProcessConn implements nats.InProcessConnProvider.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down || e.srv == nil {
		return nil, errors.New("the embedded server is down")
	}
	return e.srv.InProcessConn()
}

// health gives the context that ends when the disk has refused a write.
func (e *embedded) health() context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.well
}

// revive starts the server again after a write failed: JetStream takes no more
// writes on a stream whose disk refused one. It is not tried while the disk is
// full, which is errDisk, nor soon after the last time, which is errSoon.
func (e *embedded) revive() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.down:
		return store.ErrClosed
	case e.well.Err() == nil: // another was faster
		return nil
	case !e.room():
		return fmt.Errorf("%w: %w", errDisk, context.Cause(e.well))
	case time.Since(e.revived) < reviveAfter:
		return errSoon
	}
	e.log.Warn("the embedded server is started again after its disk refused a write", "dir", e.dir)
	if e.srv != nil {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	}
	var err error
	e.srv, err = e.start()
	e.revived = time.Now()
	if err != nil {
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	return nil
}

// errDisk: the embedded server can write nothing.
var errDisk = fmt.Errorf("%w: the disk refuses to take more; make room", store.ErrFull)

// errSoon: it is not tried at once again.
var errSoon = errors.New("the embedded server is about to be started again")

// room reports whether the disk takes some bytes.
func (e *embedded) room() bool {
	f, err := os.CreateTemp(e.dir, ".room-")
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(make([]byte, reviveRoom))
	return errors.Join(err, f.Sync(), f.Close()) == nil
}

// close ends the server and lets the directory go.
func (e *embedded) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return nil
	}
	e.down = true
	if e.srv != nil {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	}
	if err := e.lock.Unlock(); err != nil {
		return fmt.Errorf("jetstream store %s: close: %w", e.dir, err)
	}
	return nil
}

// serverLog gives what a NATS server says to slog.
type serverLog struct {
	log  *slog.Logger
	said *lastWords
}

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) say(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...), "part", "nats-server")
	}
}

// Noticef implements server.Logger.
func (l *serverLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, v ...any) { l.say(slog.LevelWarn, format, v) }

// Fatalf implements server.Logger. It does not end the process.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.said.set(fmt.Sprintf(format, v...))
	l.say(slog.LevelError, format, v)
}

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, v ...any) {
	l.said.set(fmt.Sprintf(format, v...))
	l.say(slog.LevelError, format, v)
}

// Debugf implements server.Logger.
func (l *serverLog) Debugf(format string, v ...any) { l.say(slog.LevelDebug, format, v) }

// Tracef implements server.Logger.
func (l *serverLog) Tracef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }

// lastWords is the last error a server spoke of.
type lastWords struct {
	fail context.CancelCauseFunc
	mu   sync.Mutex
	text string
}

// writeFailed is in what the server says when its disk refuses a write
// (stream.go, setWriteErrLocked of nats-server 2.15). It has no other way to say
// so: it does not answer.
const writeFailed = "critical write error"

func (w *lastWords) set(s string) {
	if strings.Contains(strings.ToLower(s), writeFailed) {
		w.fail(errors.New(s))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = s
}

func (w *lastWords) get() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.text == "" {
		return "it says nothing"
	}
	return w.text
}
