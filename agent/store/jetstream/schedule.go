package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// timers that wait, as far as this process has heard. Another may have fired or
// replaced one meanwhile: the stream is asked before one is fired.
type timers struct {
	// turn is held while timers are fired or read.
	turn sync.Mutex
	next uint64
	open map[string]*assembly // by key

	mu      sync.Mutex
	waiting map[string]timer // by key
}

type timer struct {
	store.Timer
	seq uint64 // of its closing message
}

// timerType is the type of the first entry of a timer; its data says when.
const timerType = "timer"

type timerDoc struct {
	At      time.Time `json:"at"`
	Subject string    `json:"subject"`
}

func (s *Store) timerPlace(key string) place {
	return place{s.stream(stateStream), s.subject(timerToken, key), "timer " + key}
}

// Schedule implements store.Scheduler. Every process that has the store open
// fires what is due; one of them wins. While none is running nothing is fired,
// and what came due meanwhile is fired when one starts.
func (s *Store) Schedule(ctx context.Context, t store.Timer) error {
	t, err := store.CheckTimer(t)
	if err != nil {
		return err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := s.due(ctx, func(to string) bool { return to == t.Subject }); err != nil {
		return err
	}
	doc, err := json.Marshal(timerDoc{t.At, t.Subject})
	if err != nil {
		return err
	}
	seq, err := s.put(ctx, write{place: s.timerPlace(t.Key), entries: []store.Entry{{Type: timerType, Data: doc}, t.Entry}, id: nuid.Next()})
	if err != nil {
		return fmt.Errorf("timer %s: %w", t.Key, err)
	}
	s.timers.put(timer{t, seq})
	return nil
}

func (ts *timers) put(t timer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.waiting == nil {
		ts.waiting = map[string]timer{}
	}
	if t.seq > ts.waiting[t.Key].seq {
		ts.waiting[t.Key] = t
	}
}

func (ts *timers) drop(t timer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.waiting[t.Key].seq == t.seq {
		delete(ts.waiting, t.Key)
	}
}

// due gives the timers to certain subjects whose time has come, in order.
func (ts *timers) due(now time.Time, to func(subject string) bool) (out []timer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.waiting {
		if !t.At.After(now) && to(t.Subject) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b timer) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Key, b.Key)) })
	return out
}

// due appends what is due to certain subjects. Where there is nothing it does
// nothing.
func (s *Store) due(ctx context.Context, to func(subject string) bool) error {
	if len(s.timers.due(s.clock.Now(), to)) == 0 {
		return nil
	}
	s.timers.turn.Lock()
	defer s.timers.turn.Unlock()
	var all error
	for _, t := range s.timers.due(s.clock.Now(), to) {
		if err := s.fire(ctx, t); err != nil {
			if ctx.Err() != nil {
				return err
			}
			all = errors.Join(all, fmt.Errorf("timer %s: %w", t.Key, err))
		}
	}
	return all
}

// fire appends a timer's entry and forgets it afterwards: a crash in between
// appends it again, unless the server knows it again within a while.
func (s *Store) fire(ctx context.Context, t timer) error {
	p := s.timerPlace(t.Key)
	m, end, err := s.tail(ctx, p)
	if err != nil {
		return err
	}
	if m != nil && end == t.seq {
		to := s.place(t.Subject)
		seq, err := s.put(ctx, write{place: to, entries: []store.Entry{t.Entry}, id: fmt.Sprintf("timer/%s/%d", t.Key, t.seq)})
		if err != nil {
			return err
		}
		s.tell(to, seq)
		if err := s.purge(ctx, p.stream, p.subject, t.seq+1); err != nil {
			return err
		}
	}
	s.timers.drop(t) // fired, by us or another, or replaced
	return nil
}

// syncTimers reads what was scheduled since this process last looked.
func (s *Store) syncTimers(ctx context.Context) error {
	ts := &s.timers
	ts.turn.Lock()
	defer ts.turn.Unlock()
	if ts.open == nil {
		ts.open, ts.next = map[string]*assembly{}, 1
	}
	filter, prefix := s.subject(timerToken, ">"), s.subject(timerToken, "")
	return s.follow(ctx, s.stream(stateStream), filter, &ts.next, func(m *msg) error {
		key := strings.TrimPrefix(m.subject, prefix)
		a, ok := ts.open[key]
		if !ok {
			a = &assembly{subject: "timer " + key, from: 1, last: anyBefore}
			ts.open[key] = a
		}
		w, err := a.take(m)
		if w != nil || err != nil {
			delete(ts.open, key)
		}
		if err != nil { // the oldest parts of what was replaced are not kept
			s.cfg.Log.Warn("a timer cannot be read", "key", key, "error", err)
			return nil
		}
		if w == nil {
			return nil
		}
		t, err := decodeTimer(key, w)
		if err != nil {
			s.cfg.Log.Error("a timer cannot be read", "key", key, "error", err)
			return nil
		}
		ts.put(t)
		return nil
	})
}

func decodeTimer(key string, w *whole) (timer, error) {
	if len(w.entries) != 2 || w.entries[0].Type != timerType {
		return timer{}, fmt.Errorf("timer %s: it has other entries", key)
	}
	var doc timerDoc
	if err := json.Unmarshal(w.entries[0].Data, &doc); err != nil {
		return timer{}, fmt.Errorf("timer %s: %w", key, err)
	}
	t, err := store.CheckTimer(store.Timer{Key: key, At: doc.At, Subject: doc.Subject, Entry: w.entries[1]})
	return timer{t, w.seq}, err
}

// follow reads what a filter has behind *next, until it stands where the leader
// stood at some time after the call.
func (s *Store) follow(ctx context.Context, stream, filter string, next *uint64, take func(*msg) error) error {
	for {
		if err := s.open(ctx); err != nil {
			return err
		}
		m, err := s.final(ctx, place{stream, filter, filter})
		if err != nil {
			return err
		}
		if m == nil || m.seq < *next {
			return nil
		}
		if m.seq == *next {
			*next++
			return take(m)
		}
		target := m.seq
		for more := true; more; {
			p, err := s.batch(ctx, stream, query{Seq: *next, Next: filter, Batch: batchMsgs})
			if err != nil {
				return err
			}
			for _, m := range p.msgs {
				*next = m.seq + 1
				if err := take(m); err != nil {
					return err
				}
			}
			more = p.more && len(p.msgs) > 0
		}
		if *next > target {
			return nil
		}
		// A replica that is behind, or the last message is gone: ask again.
		if err := s.behind(ctx, place{stream, filter, filter}, *next); err != nil {
			return err
		}
	}
}

// markEvery is how often the clock of the server is asked for, and marks are
// written.
const markEvery = 15 * time.Second

// tick fires timers until the store is closed.
func (s *Store) tick() {
	t := time.NewTicker(s.cfg.Poll)
	defer t.Stop()
	asked := time.Now()
	failing := false
	for {
		select {
		case <-t.C:
		case <-s.closed:
			return
		}
		err := s.syncTimers(s.ctx)
		if err == nil {
			err = s.due(s.ctx, func(string) bool { return true })
		}
		if err == nil && time.Since(asked) > markEvery {
			if err = s.mark(s.ctx); err == nil {
				asked = time.Now()
			}
		}
		if err != nil && !failing && s.open(s.ctx) == nil {
			s.cfg.Log.Error("timers are late", "error", err)
		}
		failing = err != nil
	}
}
