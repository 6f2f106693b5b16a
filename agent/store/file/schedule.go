package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// timerFile is schedule.json as it was last read.
type timerFile struct {
	file   fs.FileInfo
	timers []store.Timer
}

// Schedule implements store.Scheduler. Nothing runs in the background: a timer
// that is due is appended before anybody reads or appends to its subject, and by
// the watches.
func (s *Store) Schedule(ctx context.Context, t store.Timer) error {
	t, err := store.CheckTimer(t)
	if err != nil {
		return err
	}
	err = s.change(ctx, func() error {
		if err := s.deliver(func(to string) bool { return to == t.Subject }); err != nil {
			return err
		}
		timers, err := s.readTimers()
		if err != nil {
			return err
		}
		timers = slices.DeleteFunc(slices.Clone(timers), func(o store.Timer) bool { return o.Key == t.Key })
		return s.writeState(scheduleFile, append(timers, t))
	})
	if err == nil {
		s.wake()
	}
	return err
}

// readTimers gives the timers that wait. The slice is shared: it is not changed.
func (s *Store) readTimers() ([]store.Timer, error) {
	st, err := s.root.Stat(scheduleFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("file store %s: %w", s.dir, s.why(err))
	}
	s.mu.Lock()
	have := s.timers
	s.mu.Unlock()
	if have.file != nil && os.SameFile(have.file, st) && have.file.Size() == st.Size() && have.file.ModTime().Equal(st.ModTime()) {
		return have.timers, nil
	}
	fresh := timerFile{file: st}
	if err := s.readState(scheduleFile, &fresh.timers); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.timers = fresh
	s.mu.Unlock()
	return fresh.timers, nil
}

// dueNow gives the timers to certain subjects whose time has come, in order.
func (s *Store) dueNow(to func(subject string) bool) (due []store.Timer, err error) {
	timers, err := s.readTimers()
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	for _, t := range timers {
		if to(t.Subject) && !t.At.After(now) {
			due = append(due, t)
		}
	}
	slices.SortStableFunc(due, func(a, b store.Timer) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return due, nil
}

// due appends what is due to the subjects that a pattern means. Where there is
// nothing it takes no lock.
func (s *Store) due(ctx context.Context, pattern string) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	match := func(subject string) bool { return store.Match(pattern, subject) }
	due, err := s.dueNow(match)
	if err != nil || len(due) == 0 {
		return err
	}
	if err := s.change(ctx, func() error { return s.deliver(match) }); err != nil {
		return err
	}
	s.wake()
	return nil
}

// deliver appends what is due and forgets it afterwards: a crash in between
// appends it again. The caller holds the lock.
func (s *Store) deliver(to func(subject string) bool) error {
	due, err := s.dueNow(to)
	if err != nil || len(due) == 0 {
		return err
	}
	sent := map[string]bool{}
	for _, t := range due {
		if _, perr := s.put(t.Subject, nil, []store.Entry{t.Entry}); perr != nil {
			err = errors.Join(err, fmt.Errorf("timer %s: %w", t.Key, perr))
			continue
		}
		sent[t.Key] = true
	}
	if len(sent) == 0 {
		return err
	}
	timers, rerr := s.readTimers()
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	left := slices.DeleteFunc(slices.Clone(timers), func(t store.Timer) bool { return sent[t.Key] })
	return errors.Join(err, s.writeState(scheduleFile, left))
}
