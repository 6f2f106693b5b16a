package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

const (
	// workers is how many things a replica works on at once. Those of one thread are
	// never worked on at once.
	workers = 4
	// behind is how long a task waits for the one before it in its thread.
	behind = 100 * time.Millisecond
	// patience is how long a question is tried before its sender is told that it
	// failed; a click is not carried out when nobody expects it any more.
	patience      = 24 * time.Hour
	clickPatience = 2 * time.Minute
)

// work claims tasks until ctx ends.
func (s *Surface) work(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := s.journal.Claim(ctx, queue, s.timing.Lease)
		if err == nil {
			s.perform(ctx, c)
			continue
		}
		if !errors.Is(err, store.ErrNothing) && ctx.Err() == nil {
			s.ill("journal", "the journal gives no work: "+err.Error())
		} else {
			s.ill("journal", "")
		}
		t := time.NewTimer(s.timing.Poll)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// errBehind: something earlier of the same thread is not done.
var errBehind = errors.New("something before it in its thread is not done yet")

// perform works on one claim. Its lease is kept while the work goes on; when it
// cannot be kept, the work is broken off.
func (s *Surface) perform(ctx context.Context, c *store.Claim) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beat := make(chan struct{})
	go func() {
		defer close(beat)
		for sleep(ctx, s.timing.Lease/3) {
			if err := c.Lease.Extend(ctx, s.timing.Lease); err != nil {
				cancel()
			}
		}
	}()
	err := s.task(ctx, c)
	cancel()
	<-beat
	if s.boundary("ending") != nil {
		return // as if the process had ended: the lease runs out
	}
	// The end is written even while the server drains.
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	switch {
	case err == nil:
		err = c.Lease.Done(end)
	case errors.Is(err, errBehind):
		err = c.Lease.Release(end, behind)
	default:
		s.log.Warn("slack: a task is tried again", "task", c.Record.Subject, "attempt", c.Attempt, "error", err)
		delay := min(s.timing.Retry<<min(c.Attempt-1, 10), time.Minute)
		if p, ok := errors.AsType[*pausedError](err); ok {
			delay = max(delay, p.rest)
		}
		err = c.Lease.Release(end, delay)
	}
	if err != nil && !errors.Is(err, store.ErrLost) {
		s.log.Warn("slack: a task's end cannot be written; it comes again", "task", c.Record.Subject, "error", err)
	}
}

func (s *Surface) task(ctx context.Context, c *store.Claim) error {
	var t task
	if err := json.Unmarshal(c.Record.Data, &t); err != nil {
		s.log.Error("slack: a record of the queue cannot be read and is left", "task", c.Record.Subject, "error", err)
		return nil
	}
	if t.In != nil {
		return s.settle(ctx, *t.In, c)
	}
	th, err := s.thread(ctx, t.Subject)
	if err != nil {
		return err
	}
	in, ok := th.came[t.Key]
	if !ok || th.done[t.Key] {
		return nil
	}
	for _, key := range th.order {
		if key == t.Key {
			break
		}
		if !th.done[key] {
			// A process that ended between keeping and queueing left it like this.
			if err := s.enqueue(ctx, task{Subject: t.Subject, Key: key}); err != nil {
				return err
			}
			return errBehind
		}
	}
	if err := s.boundary("claimed"); err != nil {
		return err
	}
	if err := s.settle(ctx, in, c); err != nil {
		return err
	}
	if err := s.boundary("handled"); err != nil {
		return err
	}
	return s.finish(ctx, t.Subject, t.Key)
}

// settle handles what came in. A refusal is told to the person and ends it; another
// error is tried again, for a day.
func (s *Surface) settle(ctx context.Context, in inbound, c *store.Claim) error {
	err := s.handle(ctx, in)
	if err == nil {
		return nil
	}
	why, told := sentence(err)
	if !told {
		most := patience
		if in.Kind == kindAction || in.Kind == kindSubmit {
			most = clickPatience
		}
		if s.now().Sub(c.Record.At) < most || ctx.Err() != nil {
			return err
		}
		s.log.Error("slack: a task is given up", "task", c.Record.Subject, "error", err)
		why = fmt.Sprintf("gumshoe could not do this for %s and has given up, try again: %v", most, err)
	}
	if err := s.whisper(ctx, in, why); err != nil {
		if passing(err) {
			return err
		}
		s.log.Warn("slack: a sentence could not be told", "user", in.User, "sentence", why, "error", err)
	}
	return nil
}
