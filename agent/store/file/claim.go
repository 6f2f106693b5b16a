package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// work is what claims.json says of one record of a queue. A record it does not
// name was never claimed.
type work struct {
	Subject string `json:"subject"`
	Seq     uint64 `json:"seq"`
	Attempt int    `json:"attempt"`
	// Until is when the lease runs out, or, without one, when the record may be
	// claimed again.
	Until  time.Time `json:"until"`
	Leased bool      `json:"leased,omitempty"`
	Done   bool      `json:"done,omitempty"`
}

// Claim implements store.Queue. It reads the queue's open records, so it is for
// the queues of one machine: thousands of records, not millions.
func (s *Store) Claim(ctx context.Context, queue string, d time.Duration) (*store.Claim, error) {
	if err := store.CheckSubject(queue); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if err := store.CheckLease(d, false); err != nil {
		return nil, fmt.Errorf("queue %s: lease: %w", queue, err)
	}
	var c *store.Claim
	err := s.change(ctx, func() error {
		pattern := queue + ".>"
		if err := s.deliver(func(to string) bool { return store.Match(pattern, to) }); err != nil {
			return err
		}
		all, err := s.readClaims()
		if err != nil {
			return err
		}
		oldest, all, err := s.oldest(ctx, pattern, all)
		if err != nil {
			return err
		}
		if oldest == nil {
			return fmt.Errorf("queue %s: %w", queue, store.ErrNothing)
		}
		i := slices.IndexFunc(all, func(w work) bool { return w.Subject == oldest.Subject && w.Seq == oldest.Seq })
		if i < 0 {
			i = len(all)
			all = append(all, work{Subject: oldest.Subject, Seq: oldest.Seq})
		}
		all[i].Attempt++
		all[i].Until, all[i].Leased = s.cfg.Now().Add(d).UTC(), true
		c = &store.Claim{Record: *oldest, Attempt: all[i].Attempt, Lease: &lease{s, all[i]}}
		return s.writeState(claimsFile, all)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s *Store) readClaims() ([]work, error) {
	var all []work
	return all, s.readState(claimsFile, &all)
}

// oldest gives the oldest record that may be claimed, nil if there is none, and
// the claims without those whose subject is gone.
func (s *Store) oldest(ctx context.Context, pattern string, all []work) (*store.Record, []work, error) {
	subjects, err := s.subjects(pattern)
	if err != nil {
		return nil, nil, err
	}
	type key struct {
		subject string
		seq     uint64
	}
	known := map[key]work{}
	for _, w := range all {
		known[key{w.Subject, w.Seq}] = w
	}
	all = slices.DeleteFunc(all, func(w work) bool {
		if !store.Match(pattern, w.Subject) {
			return false
		}
		_, there := slices.BinarySearch(subjects, w.Subject)
		return !there
	})
	now := s.cfg.Now()
	var best *store.Record
	for _, subject := range subjects {
		_, err := s.pass(ctx, subject, pos{}, nil, func(r store.Record) bool {
			if w, ok := known[key{subject, r.Seq}]; ok && (w.Done || w.Until.After(now)) {
				return true
			}
			if best == nil || cmp.Or(r.At.Compare(best.At), cmp.Compare(r.Subject, best.Subject)) < 0 {
				best = &r
			}
			return false // the rest of this subject is younger
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return best, all, nil
}

// lease is the right to one record, as it was last given.
type lease struct {
	s *Store
	w work
}

var _ store.Lease = (*lease)(nil)

// Extend implements store.Lease.
func (l *lease) Extend(ctx context.Context, d time.Duration) error {
	if err := store.CheckLease(d, false); err != nil {
		return err
	}
	return l.change(ctx, func(w *work, now time.Time) { w.Until = now.Add(d).UTC() })
}

// Done implements store.Lease.
func (l *lease) Done(ctx context.Context) error {
	return l.change(ctx, func(w *work, _ time.Time) { w.Leased, w.Done = false, true })
}

// Release implements store.Lease.
func (l *lease) Release(ctx context.Context, delay time.Duration) error {
	if err := store.CheckLease(delay, true); err != nil {
		return err
	}
	return l.change(ctx, func(w *work, now time.Time) { w.Leased, w.Until = false, now.Add(delay).UTC() })
}

// change applies a change while the lease stands. The attempt tells this lease
// from a later one of the same record.
func (l *lease) change(ctx context.Context, apply func(*work, time.Time)) error {
	err := l.s.change(ctx, func() error {
		all, err := l.s.readClaims()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(w work) bool { return w.Subject == l.w.Subject && w.Seq == l.w.Seq })
		now := l.s.cfg.Now()
		if i < 0 || all[i].Attempt != l.w.Attempt || !all[i].Leased || !all[i].Until.After(now) {
			return store.ErrLost
		}
		apply(&all[i], now)
		return l.s.writeState(claimsFile, all)
	})
	if errors.Is(err, store.ErrLost) {
		return fmt.Errorf("%s, sequence %d: %w", l.w.Subject, l.w.Seq, err)
	}
	return err
}
