package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/gofrs/flock"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

const lockSuffix = ".lock"

func livePath(subject string) string { return path.Join(liveDir, encodeName(subject)+lockSuffix) }

// Hold says that this process is at work on a subject, until it lets go or dies.
type Hold struct {
	s       *Store
	subject string
	lock    *flock.Flock
	once    sync.Once
}

// Hold marks a subject as being at work; store.ErrBusy when somebody holds it
// already. A held subject is not pruned. The mark does not keep others from
// appending: that is what the expected sequence is for.
func (s *Store) Hold(ctx context.Context, subject string) (*Hold, error) {
	if err := store.CheckSubject(subject); err != nil {
		return nil, err
	}
	h := &Hold{s: s, subject: subject}
	err := s.change(ctx, func() error {
		l, free, err := s.tryLive(subject)
		if err != nil {
			return err
		}
		if !free {
			return fmt.Errorf("%s is %w: a process is at work on it", subject, store.ErrBusy)
		}
		h.lock = l
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// tryLive takes the mark of a subject if nobody holds it. It is only called with
// the lock of the directory, so that two lookers do not take each other for
// workers, and that no mark is removed while another process takes it.
func (s *Store) tryLive(subject string) (*flock.Flock, bool, error) {
	l := flock.New(s.path(livePath(subject)), flock.SetPermissions(0o600))
	free, err := l.TryLock()
	if err != nil {
		return nil, false, fmt.Errorf("file store %s: mark of %s: %w", s.dir, subject, err)
	}
	return l, free, nil
}

// Release lets go; a second call does nothing. The subject is then no orphan.
func (h *Hold) Release(ctx context.Context) error {
	var err error
	h.once.Do(func() {
		err = h.s.change(ctx, func() error { return h.s.root.Remove(livePath(h.subject)) })
		err = errors.Join(err, h.lock.Unlock())
	})
	if err != nil {
		return fmt.Errorf("let go of %s: %w", h.subject, err)
	}
	return nil
}

// Held reports whether a process is at work on a subject.
func (s *Store) Held(ctx context.Context, subject string) (bool, error) {
	if err := store.CheckSubject(subject); err != nil {
		return false, err
	}
	held := false
	err := s.change(ctx, func() error {
		if _, err := s.root.Lstat(livePath(subject)); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		l, free, err := s.tryLive(subject)
		held = err == nil && !free
		if free {
			return l.Unlock()
		}
		return err
	})
	return held, err
}

// maxOrphans is how many orphans one call of Orphans takes.
const maxOrphans = 32

// Orphans calls fn with the subjects whose holder died without letting go, a few
// at a time, and forgets those for which fn gives no error.
func (s *Store) Orphans(ctx context.Context, fn func(subject string) error) error {
	orphans, err := s.orphans(ctx)
	for _, subject := range orphans {
		if ferr := fn(subject); ferr != nil {
			err = errors.Join(err, ferr)
			continue
		}
		err = errors.Join(err, s.change(ctx, func() error {
			l, free, err := s.tryLive(subject)
			if err != nil || !free { // somebody took the work up
				return err
			}
			return errors.Join(s.root.Remove(livePath(subject)), l.Unlock())
		}))
	}
	return err
}

func (s *Store) orphans(ctx context.Context) (out []string, err error) {
	d, err := s.root.Open(liveDir)
	if err != nil {
		return nil, fmt.Errorf("file store %s: %w", s.dir, s.why(err))
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil || len(names) == 0 { // mostly: no lock is taken then
		return nil, err
	}
	err = s.change(ctx, func() error {
		for _, n := range names {
			stem, _ := strings.CutSuffix(n, lockSuffix)
			subject, ok := decodeName(stem)
			if !ok || len(out) == maxOrphans {
				continue
			}
			if _, err := s.root.Lstat(livePath(subject)); err != nil {
				continue
			}
			l, free, err := s.tryLive(subject)
			if err != nil {
				return err
			}
			if free {
				out = append(out, subject)
				if err := l.Unlock(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return out, err
}
