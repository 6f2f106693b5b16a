package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nuid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// claimType is the type of the entry that says who works on a record. Claims are
// appended with the expected sequence, as everything is: of two that claim the
// same work one is refused.
const claimType = "claim"

// work says how far one record of a queue is. A record without one was never
// claimed.
type work struct {
	Attempt int `json:"attempt"`
	// Until is when the lease runs out, or, without one, when the record may be
	// claimed again.
	Until  time.Time `json:"until"`
	Leased bool      `json:"leased,omitempty"`
	Done   bool      `json:"done,omitempty"`
}

// item is a record of a queue.
type item struct {
	place
	seq uint64
	at  time.Time
}

type itemKey struct {
	subject string
	seq     uint64
}

// queue is what this process has read of one.
type queue struct {
	mu      sync.Mutex
	readers []reader
	next    uint64 // of the claims
	// open are the records that are not done, in the order of their appends.
	open []item
	// known are claims of records that are open, or not read yet.
	known map[itemKey]claimed
}

type claimed struct {
	work
	seq uint64 // of its message
}

// queues by name.
type queues struct {
	mu  sync.Mutex
	all map[string]*queue
}

// maxQueues is how many queues are remembered at a time; those beyond are read
// again.
const maxQueues = 64

func (s *Store) queue(name string) *queue {
	qs := &s.queues
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if q, ok := qs.all[name]; ok {
		return q
	}
	if qs.all == nil || len(qs.all) >= maxQueues {
		qs.all = map[string]*queue{}
	}
	q := &queue{next: 1, known: map[itemKey]claimed{}}
	for _, p := range s.filters(name + ".>") {
		q.readers = append(q.readers, reader{p, 1})
	}
	qs.all[name] = q
	return q
}

// Claim implements store.Queue.
func (s *Store) Claim(ctx context.Context, name string, d time.Duration) (*store.Claim, error) {
	if err := store.CheckSubject(name); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if err := store.CheckLease(d, false); err != nil {
		return nil, fmt.Errorf("queue %s: lease: %w", name, err)
	}
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	pattern := name + ".>"
	if err := s.due(ctx, func(to string) bool { return store.Match(pattern, to) }); err != nil {
		return nil, err
	}
	q := s.queue(name)
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if err := s.syncQueue(ctx, q, name); err != nil {
			return nil, fmt.Errorf("queue %s: %w", name, err)
		}
		now := s.clock.Now()
		i := slices.IndexFunc(q.open, func(it item) bool { return !q.known[it.key()].Until.After(now) })
		if i < 0 {
			return nil, fmt.Errorf("queue %s: %w", name, store.ErrNothing)
		}
		it := q.open[i]
		rec, ok, err := s.record(ctx, it)
		if err != nil {
			return nil, fmt.Errorf("queue %s: %w", name, err)
		}
		if !ok { // deleted meanwhile
			q.open = slices.Delete(q.open, i, i+1)
			delete(q.known, it.key())
			continue
		}
		was := q.known[it.key()]
		w := work{Attempt: was.Attempt + 1, Until: now.Add(d), Leased: true}
		seq, err := s.putWork(ctx, it, was.seq, w)
		if _, taken := errors.AsType[*store.ConflictError](err); taken {
			continue // by another, or its claims were forgotten
		}
		if err != nil {
			return nil, fmt.Errorf("queue %s: claim: %w", name, err)
		}
		return &store.Claim{Record: rec, Attempt: w.Attempt, Lease: &lease{s: s, it: it, seq: seq, work: w}}, nil
	}
}

func (it item) key() itemKey { return itemKey{it.name, it.seq} }

func (s *Store) claimPlace(it item) place {
	return place{s.stream(stateStream), s.subject(claimToken, it.name+"."+strconv.FormatUint(it.seq, 10)), fmt.Sprintf("the claim of %s, sequence %d", it.name, it.seq)}
}

func (s *Store) putWork(ctx context.Context, it item, expect uint64, w work) (uint64, error) {
	doc, err := json.Marshal(w)
	if err != nil {
		return 0, err
	}
	return s.put(ctx, write{place: s.claimPlace(it), expect: &expect, entries: []store.Entry{{Type: claimType, Data: doc}}, id: nuid.Next()})
}

// record loads a record of a queue.
func (s *Store) record(ctx context.Context, it item) (rec store.Record, ok bool, err error) {
	m, there, err := s.get(ctx, it.stream, query{Seq: (it.seq + stride - 1) / stride})
	if err != nil || !there || m.subject != it.subject {
		return rec, false, err
	}
	if m.bad == nil && m.parts == 1 {
		w, err := (&assembly{subject: it.name, from: m.seq, last: anyBefore}).take(m)
		if err != nil {
			return rec, false, err
		}
		if w != nil {
			give(w, it.name, it.seq-1, func(r store.Record) bool { rec, ok = r, r.Seq == it.seq; return false })
		}
		return rec, ok, nil
	}
	err = s.loadTo(ctx, it.place, m.seq, m.seq, it.seq-1, func(r store.Record) bool { rec, ok = r, r.Seq == it.seq; return false })
	return rec, ok, err
}

// syncQueue reads what was put into a queue and claimed since this process last
// looked.
func (s *Store) syncQueue(ctx context.Context, q *queue, name string) error {
	for i := range q.readers {
		r := &q.readers[i]
		prefix := s.subject(s.tokenOf(r.stream), "")
		fresh := false
		err := s.follow(ctx, r.stream, r.subject, &r.next, func(m *msg) error {
			fresh = q.add(place{r.stream, m.subject, strings.TrimPrefix(m.subject, prefix)}, m) || fresh
			return nil
		})
		if err != nil {
			return err
		}
		if fresh && len(q.readers) > 1 {
			slices.SortStableFunc(q.open, func(a, b item) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.stream, b.stream)) })
		}
	}
	prefix := s.subject(claimToken, "")
	err := s.follow(ctx, s.stream(stateStream), s.subject(claimToken, name+".>"), &q.next, func(m *msg) error {
		rest := strings.TrimPrefix(m.subject, prefix)
		dot := strings.LastIndexByte(rest, '.')
		seq, err := strconv.ParseUint(rest[dot+1:], 10, 64)
		if err != nil || dot < 0 {
			return &CorruptError{Subject: "the claim of " + rest, Seq: m.seq * stride, Why: "its subject ends with no sequence"}
		}
		w, err := decodeWork(rest, m)
		if err != nil {
			return err
		}
		if w != nil {
			q.known[itemKey{rest[:dot], seq}] = claimed{*w, m.seq}
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.open = slices.DeleteFunc(q.open, func(it item) bool {
		done := q.known[it.key()].Done
		if done {
			delete(q.known, it.key())
		}
		return done
	})
	return nil
}

// add takes the records of an append; it reports whether there are any.
func (q *queue) add(p place, m *msg) bool {
	if m.bad != nil || m.deleted() || !m.closes() {
		return false // a damaged one shows when its subject is read
	}
	at := m.head.at
	if at.IsZero() {
		at = m.at
	}
	for i := range m.n {
		q.open = append(q.open, item{p, m.seq*stride - uint64(m.n-1-i), at})
	}
	return true
}

func decodeWork(subject string, m *msg) (*work, error) {
	w, err := (&assembly{subject: "the claim of " + subject, from: m.seq, last: anyBefore}).take(m)
	if err != nil || w == nil {
		return nil, err
	}
	var out work
	if len(w.entries) != 1 || w.entries[0].Type != claimType {
		return nil, &CorruptError{Subject: "the claim of " + subject, Seq: m.seq * stride, Why: "it has other entries"}
	}
	if err := json.Unmarshal(w.entries[0].Data, &out); err != nil {
		return nil, &CorruptError{Subject: "the claim of " + subject, Seq: m.seq * stride, Why: err.Error()}
	}
	return &out, nil
}

// lease is the right to one record, as it was last given.
type lease struct {
	s  *Store
	it item

	mu   sync.Mutex
	seq  uint64 // of the message that gives it
	work work
	lost bool
}

var _ store.Lease = (*lease)(nil)

// Extend implements store.Lease.
func (l *lease) Extend(ctx context.Context, d time.Duration) error {
	if err := store.CheckLease(d, false); err != nil {
		return err
	}
	return l.change(ctx, func(w *work, now time.Time) { w.Until = now.Add(d) })
}

// Done implements store.Lease. Once it has returned the record is never claimed
// again, whatever happens to this process.
func (l *lease) Done(ctx context.Context) error {
	return l.change(ctx, func(w *work, _ time.Time) { w.Leased, w.Done = false, true })
}

// Release implements store.Lease.
func (l *lease) Release(ctx context.Context, delay time.Duration) error {
	if err := store.CheckLease(delay, true); err != nil {
		return err
	}
	return l.change(ctx, func(w *work, now time.Time) { w.Leased, w.Until = false, now.Add(delay) })
}

// change applies a change while the lease stands: until its time has come, or
// another claim stands behind it.
func (l *lease) change(ctx context.Context, apply func(*work, time.Time)) error {
	end, err := l.s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.s.clock.Now()
	if l.lost || !l.work.Leased || !l.work.Until.After(now) {
		return l.gone()
	}
	w := l.work
	apply(&w, now)
	seq, err := l.s.putWork(ctx, l.it, l.seq, w)
	if _, taken := errors.AsType[*store.ConflictError](err); taken {
		l.lost = true
		return l.gone()
	}
	if err != nil {
		return fmt.Errorf("%s, sequence %d: lease: %w", l.it.name, l.it.seq, err)
	}
	l.seq, l.work = seq, w
	return nil
}

func (l *lease) gone() error {
	return fmt.Errorf("%s, sequence %d: %w", l.it.name, l.it.seq, store.ErrLost)
}
