package jetstream

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// watchers are told what was appended: that a subject of a stream now ends with
// a message. What they are told may be lost; they look for themselves every
// Config.Poll.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]struct{}
}

// watcher is one Watch.
type watcher struct {
	pattern string
	wake    chan struct{}

	mu sync.Mutex
	// told is the last message of each stream that must be there.
	told map[string]uint64
}

func (w *watchers) add(pattern string) *watcher {
	one := &watcher{pattern: pattern, wake: make(chan struct{}, 1), told: map[string]uint64{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[*watcher]struct{}{}
	}
	w.all[one] = struct{}{}
	return one
}

func (w *watchers) remove(one *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one)
}

func (w *watchers) tell(stream, subject string, seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		if store.Match(one.pattern, subject) {
			one.hear(stream, seq)
			one.rouse()
		}
	}
}

func (w *watchers) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		one.rouse()
	}
}

func (w *watcher) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) hear(stream string, seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told[stream] = max(w.told[stream], seq)
}

func (w *watcher) stands(stream string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[stream]
}

// listen hears what other processes append.
func (w *watchers) listen(s *Store) error {
	prefix := s.subject(newsToken, "")
	_, err := s.nc.Subscribe(s.subject(newsToken, ">"), func(m *nats.Msg) {
		subject := strings.TrimPrefix(m.Subject, prefix)
		if seq, err := strconv.ParseUint(string(m.Data), 10, 64); err == nil && store.CheckSubject(subject) == nil {
			w.tell(s.place(subject).stream, subject, seq)
		}
	})
	return err
}

// tell says that a subject ends with a message, to this process at once and to
// the others as soon as the connection allows.
func (s *Store) tell(p place, seq uint64) {
	s.watchers.tell(p.stream, p.name, seq)
	_ = s.nc.Publish(s.subject(newsToken, p.name), strconv.AppendUint(nil, seq, 10)) // they look for themselves in a while
}

// Watch implements store.Watcher. It goes on when the server was away.
func (s *Store) Watch(ctx context.Context, pattern string, after store.Position) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		err := store.CheckPattern(pattern)
		if err == nil {
			err = s.open(context.Background())
		}
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		w := watch{Store: s, watcher: s.watchers.add(pattern), seen: map[string]*told{}, after: after}
		defer s.watchers.remove(w.watcher)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		if err := w.start(ctx); err != nil {
			w.fail(ctx, yield, err)
			return
		}
		tick := time.NewTicker(s.cfg.Poll)
		defer tick.Stop()
		for ctx.Err() == nil {
			for i := range w.readers {
				more, err := w.read(ctx, &w.readers[i], yield)
				if err != nil {
					w.fail(ctx, yield, err)
					return
				}
				if !more {
					return
				}
			}
			select {
			case <-w.wake:
				tick.Reset(s.cfg.Poll) // it looks now; what is lost shows as soon as before
			case <-tick.C:
			case <-s.closed:
				yield(store.Record{}, s.open(context.Background()))
				return
			case <-ctx.Done():
			}
		}
		w.fail(ctx, yield, ctx.Err())
	}
}

// watch is the state of one Watch.
type watch struct {
	*Store
	*watcher
	after   store.Position
	readers []reader
	seen    map[string]*told
}

// reader is how far a stream was read.
type reader struct {
	place
	next uint64
}

// told is what the reader of a watch has of a subject.
type told struct {
	assembly
	seq uint64
}

// fail ends a watch: with the error that it met, with store.ErrClosed, or, when
// ctx has ended, without.
func (w *watch) fail(ctx context.Context, yield func(store.Record, error) bool, err error) {
	if cerr := w.open(context.Background()); cerr != nil {
		yield(store.Record{}, cerr)
		return
	}
	if ctx.Err() == nil {
		yield(store.Record{}, w.readError(ctx, w.pattern, err))
	}
}

// start finds where each stream is to be read from. Where the reader has seen
// most of it, the rest is not read again.
func (w *watch) start(ctx context.Context) error {
	for _, p := range w.filters(w.pattern) {
		w.readers = append(w.readers, reader{p, 1})
		m, err := w.final(ctx, p)
		if err != nil {
			return err
		}
		if m != nil { // so far it has to come
			w.hear(p.stream, m.seq)
		}
	}
	if w.after == nil {
		w.after = store.After(0)
		return nil
	}
	if !strings.HasSuffix(w.pattern, ">") {
		w.readers[0].next = firstSeq(w.of(w.pattern, 0).seq)
		return nil
	}
	least := map[string]uint64{}
	at, err := w.list(ctx, w.pattern, func(i store.Info, err error) bool {
		stream := w.place(i.Subject).stream
		seen := w.of(i.Subject, 0).seq
		if err == nil && seen >= i.Last {
			return true
		}
		if from := firstSeq(seen); least[stream] == 0 || from < least[stream] {
			least[stream] = from
		}
		return true
	})
	if err != nil {
		return err
	}
	for i := range w.readers {
		r := &w.readers[i]
		r.next = at[r.stream] + 1
		if from := least[r.stream]; from > 0 {
			r.next = min(from, r.next)
		}
	}
	for _, t := range w.seen {
		r := w.readers[0]
		for _, o := range w.readers {
			if o.stream == w.place(t.subject).stream {
				r = o
			}
		}
		t.from = r.next
	}
	return nil
}

// of gives the state of a subject; from is where its stream is read from.
func (w *watch) of(subject string, from uint64) *told {
	t, ok := w.seen[subject]
	if !ok {
		seq := w.after(subject)
		t = &told{assembly: assembly{subject: subject, from: from}, seq: seq}
		if from == 0 {
			t.from = firstSeq(seq)
		}
		w.seen[subject] = t
	}
	return t
}

// read gives what is new in a stream; more is false once the reader has enough.
func (w *watch) read(ctx context.Context, r *reader, yield func(store.Record, error) bool) (more bool, err error) {
	if err := w.due(ctx, func(to string) bool { return store.Match(w.pattern, to) }); err != nil {
		return true, err
	}
	prefix := w.subject(w.tokenOf(r.stream), "")
	start := r.next
	for {
		if err := w.open(ctx); err != nil {
			return true, err
		}
		p, err := w.batch(ctx, r.stream, query{Seq: r.next, Next: r.subject, Batch: batchMsgs})
		if err != nil {
			return true, err
		}
		for _, m := range p.msgs {
			r.next = m.seq + 1
			more, err := w.take(ctx, w.of(strings.TrimPrefix(m.subject, prefix), start), r.stream, m, yield)
			if err != nil || !more {
				return more, err
			}
		}
		if len(p.msgs) > 0 && p.more {
			continue
		}
		if r.next > w.stands(r.stream) {
			return true, nil
		}
		if len(p.msgs) == 0 { // a replica that is behind, or what was told of is deleted
			if m, err := w.final(ctx, r.place); err != nil || m == nil || m.seq < r.next {
				return true, err
			}
			if err := w.behind(ctx, r.place, r.next); err != nil {
				return true, err
			}
		}
	}
}

func (w *watch) take(ctx context.Context, t *told, stream string, m *msg, yield func(store.Record, error) bool) (more bool, err error) {
	one, err := t.take(m)
	if mid, ok := errors.AsType[*errMiddle](err); ok {
		// The reading began within this append: the beginning is fetched.
		return w.rewind(ctx, t, stream, mid.first, m, yield)
	}
	if err != nil {
		return true, err
	}
	if one == nil {
		return true, nil
	}
	return give(one, t.subject, t.seq, func(r store.Record) bool {
		t.seq = r.Seq
		return yield(r, nil)
	}), nil
}

// rewind takes the parts of an append from the first up to m.
func (w *watch) rewind(ctx context.Context, t *told, stream string, first uint64, m *msg, yield func(store.Record, error) bool) (more bool, err error) {
	for next := first; next <= m.seq; {
		one, ok, err := w.get(ctx, stream, query{Seq: next, Next: m.subject})
		if err != nil {
			return true, err
		}
		if !ok || one.seq > m.seq || one.part > 1 && !t.open {
			return true, &CorruptError{Subject: t.subject, Seq: m.seq * stride, Why: "its first part is missing"}
		}
		if more, err := w.take(ctx, t, stream, one, yield); err != nil || !more {
			return more, err
		}
		next = one.seq + 1
	}
	return true, nil
}
