// Package file keeps the journal in a directory: nothing to start, nothing to
// look after. Several processes may share it.
//
// What is where, below the directory:
//
//	journal/<subject>.jsonl  the records of a subject, one JSON document a line
//	outputs/<sha256>         full outputs of tools, see Outputs
//	live/<subject>.lock      held while a process writes a run, see Hold
//	schedule.json            timers that wait
//	claims.json              who works on what of the queues
//	lock                     held for every change
//
// Directories are made with mode 0700, files with 0600.
//
// What survives: an acknowledged append survives the end of the process, kill -9
// included, since it was handed to the operating system. It survives the loss of
// power once it is synced: at once for most subjects, and for those of
// Config.Lazy at Sync or Close, so that an investigation waits for the disk once
// and not a hundred times. Timers and claims are synced at once; outputs are not,
// they carry their digest and a damaged one is told apart.
//
// A line that was cut off at the end of a journal, by kill -9 or a full disk, is
// not there: readers stop before it, the next append removes it. Every line
// carries a checksum; a damaged line before the end is a *CorruptError that names
// file and line, and nothing is appended behind it.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Config of a Store. Dir is required.
type Config struct {
	// Dir is made if it is not there.
	Dir string
	// Now is the clock that stamps records and judges timers and leases; nil means
	// time.Now.
	Now func() time.Time
	// Lazy are patterns of subjects whose appends reach the disk at Sync or Close.
	Lazy []string
	// Sync brings a file to the disk; nil means its Sync method. Where nobody needs
	// the directory after the machine fails, it may do nothing.
	Sync func(*os.File) error
	// LockWait is how long another process may hold the lock before a change is
	// refused with store.ErrBusy; 0 means DefaultLockWait.
	LockWait time.Duration
	// Poll is how often a watch looks for what other processes appended and for
	// timers; 0 means DefaultPoll.
	Poll time.Duration
}

// Defaults of Config.
const (
	DefaultLockWait = 5 * time.Second
	DefaultPoll     = 100 * time.Millisecond
)

// lockRetry is the pause between two attempts at the lock.
const lockRetry = 2 * time.Millisecond

// The entries of the directory.
const (
	journalDir   = "journal"
	outputsDir   = "outputs"
	liveDir      = "live"
	scheduleFile = "schedule.json"
	claimsFile   = "claims.json"
	lockFile     = "lock"
)

// Store is a journal in a directory. It is safe for concurrent use.
type Store struct {
	cfg  Config
	dir  string
	root *os.Root

	// turn is held together with the lock of the directory: one change at a time.
	turn chan struct{}
	// What stands below it is guarded by turn.
	stamped time.Time
	dirty   map[string]struct{}

	mu      sync.Mutex
	tails   map[string]tail
	timers  timerFile
	changed chan struct{}
	closed  chan struct{}
	once    sync.Once
}

var _ store.Store = (*Store)(nil)

// Open opens a directory, and makes it if it is not there.
func Open(cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, fmt.Errorf("file store: %w directory: Dir is empty", store.ErrInvalid)
	}
	for _, p := range cfg.Lazy {
		if err := store.CheckPattern(p); err != nil {
			return nil, fmt.Errorf("file store: Lazy: %w", err)
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sync == nil {
		cfg.Sync = (*os.File).Sync
	}
	if cfg.LockWait <= 0 {
		cfg.LockWait = DefaultLockWait
	}
	if cfg.Poll <= 0 {
		cfg.Poll = DefaultPoll
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("file store: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("file store %s: %w", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("file store %s: %w", dir, err)
	}
	for _, sub := range []string{journalDir, outputsDir, liveDir} {
		if err := root.Mkdir(sub, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(fmt.Errorf("file store %s: %w", dir, err), root.Close())
		}
	}
	return &Store{
		cfg: cfg, dir: dir, root: root, turn: make(chan struct{}, 1), dirty: map[string]struct{}{},
		tails: map[string]tail{}, changed: make(chan struct{}), closed: make(chan struct{}),
	}, nil
}

// Dir is the absolute path of the directory.
func (s *Store) Dir() string { return s.dir }

// Close syncs what is not on the disk yet and ends watches. The store cannot be
// used any more; its records can, by whoever opens the directory.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		s.turn <- struct{}{} // a change under way ends first
		for subject := range s.dirty {
			err = errors.Join(err, s.syncFile(subject))
		}
		close(s.closed)
		err = errors.Join(err, s.root.Close())
		<-s.turn
	})
	if err != nil {
		return fmt.Errorf("file store %s: close: %w", s.dir, err)
	}
	return nil
}

// Sync brings the records of a subject to the disk.
func (s *Store) Sync(ctx context.Context, subject string) error {
	if err := store.CheckSubject(subject); err != nil {
		return err
	}
	return s.change(ctx, func() error {
		if _, ok := s.dirty[subject]; !ok {
			return nil
		}
		if err := s.syncFile(subject); err != nil {
			return fmt.Errorf("file store %s: sync %s: %w", s.dir, subject, err)
		}
		return nil
	})
}

func (s *Store) syncFile(subject string) error {
	f, err := s.root.OpenFile(journalPath(subject), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) { // pruned since
		delete(s.dirty, subject)
		return nil
	}
	if err != nil {
		return err
	}
	err = errors.Join(s.cfg.Sync(f), f.Close(), s.syncDir(journalDir))
	if err == nil {
		delete(s.dirty, subject)
	}
	return err
}

// syncDir makes the names in a directory durable. Where a system cannot sync a
// directory there is nothing to be done.
func (s *Store) syncDir(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := s.cfg.Sync(d); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// change runs fn while no other change of the directory is under way, in this
// process or another.
func (s *Store) change(ctx context.Context, fn func() error) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	if err := s.open(ctx); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, s.cfg.LockWait)
	defer cancel()
	l := flock.New(filepath.Join(s.dir, lockFile), flock.SetPermissions(0o600))
	ok, err := l.TryLockContext(wait, lockRetry)
	switch {
	case ctx.Err() != nil && !ok:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("file store %s is %w: another process has held its lock for %s", s.dir, store.ErrBusy, s.cfg.LockWait)
	case err != nil:
		return fmt.Errorf("file store %s: lock: %w", s.dir, err)
	}
	defer func() { _ = l.Unlock() }()
	return fn()
}

// open refuses a store that was closed and a context that has ended.
func (s *Store) open(ctx context.Context) error {
	select {
	case <-s.closed:
		return fmt.Errorf("file store %s: %w", s.dir, store.ErrClosed)
	default:
		return ctx.Err()
	}
}

// stamp gives the time of the next record. Times of one process do not repeat, so
// that the order of what is waiting is kept also where a clock stands still.
func (s *Store) stamp() time.Time {
	now := s.cfg.Now().UTC().Round(0)
	if !now.After(s.stamped) && s.stamped.Sub(now) < time.Second {
		now = s.stamped.Add(1)
	}
	s.stamped = now
	return now
}

// wake tells the watches of this process that something was appended.
func (s *Store) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Store) waker() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// lazy reports whether appends to the subject are synced later.
func (s *Store) lazy(subject string) bool {
	for _, p := range s.cfg.Lazy {
		if store.Match(p, subject) {
			return true
		}
	}
	return false
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(s.dir, filepath.FromSlash(path.Join(elem...)))
}
