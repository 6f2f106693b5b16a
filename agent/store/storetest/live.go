package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

func race(t *testing.T, b Bench) {
	other := b.Again(t)
	last := uint64(0)
	for round := range 10 {
		var won atomic.Uint64
		var wg sync.WaitGroup
		for i := range 8 {
			s := []store.Store{b.Store, other}[i%2]
			wg.Go(func() {
				seq, err := s.Append(t.Context(), "plan.a", last, entry(fmt.Sprint(round)))
				if c, refused := errors.AsType[*store.ConflictError](err); refused {
					if c.Last == last {
						t.Errorf("a conflict names %d, which was expected", c.Last)
					}
					return
				}
				if err != nil {
					t.Errorf("round %d: %v", round, err)
				} else if !won.CompareAndSwap(0, seq) {
					t.Errorf("round %d has two winners", round)
				}
			})
		}
		wg.Wait()
		if last = won.Load(); last == 0 {
			t.Fatalf("round %d has no winner", round)
		}
	}
	if got := load(t, b.Store, "plan.a", 0); len(got) != 10 {
		t.Errorf("%d records of 10 rounds", len(got))
	}
}

func contend(t *testing.T, b Bench) {
	const writers, each = 4, 25
	stores := []store.Store{b.Store, b.Again(t)}
	var wg sync.WaitGroup
	for w := range writers {
		s := stores[w%2]
		wg.Go(func() {
			at := uint64(0)
			for n := 0; n < each; {
				seq, err := s.Append(t.Context(), "audit.a", at, entry(fmt.Sprintf("%d/%d", w, n)))
				if c, refused := errors.AsType[*store.ConflictError](err); refused {
					at = c.Last
					continue
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				at, n = seq, n+1
			}
		})
	}
	wg.Wait()
	next := make([]int, writers)
	for _, r := range load(t, b.Store, "audit.a", 0) {
		var w, n int
		if _, err := fmt.Sscanf(string(r.Data), `"%d/%d"`, &w, &n); err != nil || next[w] != n {
			t.Fatalf("writer %d: %s comes where %d is due (%v)", w, r.Data, next[w], err)
		}
		next[w]++
	}
	if !slices.Equal(next, []int{each, each, each, each}) {
		t.Errorf("records of each writer: %v", next)
	}
}

// follow watches until the reader is told to stop.
type follow struct {
	got  chan store.Record
	over chan error
	stop context.CancelFunc
}

func watch(t *testing.T, s store.Watcher, pattern string, after store.Position) *follow {
	ctx, stop := context.WithCancel(t.Context())
	f := &follow{got: make(chan store.Record, 1024), over: make(chan error, 1), stop: stop}
	go func() {
		for r, err := range s.Watch(ctx, pattern, after) {
			if err != nil {
				f.over <- err
				return
			}
			f.got <- r
		}
		f.over <- nil
	}()
	t.Cleanup(stop)
	return f
}

// next waits for n records.
func (f *follow) next(t *testing.T, n int) []store.Record {
	t.Helper()
	var out []store.Record
	limit := time.After(patience)
	for len(out) < n {
		select {
		case r := <-f.got:
			out = append(out, r)
		case err := <-f.over:
			t.Fatalf("the watch ended after %d of %d records: %v", len(out), n, err)
		case <-limit:
			t.Fatalf("%d of %d records came", len(out), n)
		}
	}
	return out
}

// end stops the watch and fails when something is left or it was no clean end.
func (f *follow) end(t *testing.T) {
	t.Helper()
	f.stop()
	select {
	case err := <-f.over:
		if err != nil {
			t.Errorf("the watch ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the watch does not end")
	}
	for len(f.got) > 0 {
		t.Errorf("the watch gave %+v too", <-f.got)
	}
}

func watchSubject(t *testing.T, b Bench) {
	s := b.Store
	one := mustAppend(t, s, "run.a", 0, entry("1"))
	two := mustAppend(t, s, "run.a", one, entry("2"), entry("3"))
	whole, rest, future := watch(t, s, "run.a", nil), watch(t, s, "run.a", store.After(one)), watch(t, s, "run.new", nil)
	mustAppend(t, s, "run.b", 0, entry("other"))
	got, got2 := whole.next(t, 3), rest.next(t, 2)
	three := mustAppend(t, s, "run.a", two, entry("4"))
	mustAppend(t, s, "run.a", three, entry("5"), entry("6"))
	mustAppend(t, s, "run.new", 0, entry("n"))
	got, got2 = append(got, whole.next(t, 3)...), append(got2, rest.next(t, 3)...)
	all := load(t, s, "run.a", 0)
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("watch from the start (-load +watch):\n%s", diff)
	}
	if diff := cmp.Diff(all[1:], got2); diff != "" {
		t.Errorf("watch behind %d (-load +watch):\n%s", one, diff)
	}
	if got := texts(future.next(t, 1)); got[0] != `note "n"` {
		t.Errorf("watch of a new subject: %v", got)
	}
	for _, f := range []*follow{whole, rest, future} {
		f.end(t)
	}
}

func watchMany(t *testing.T, b Bench) {
	s := b.Store
	one := mustAppend(t, s, "run.a", 0, entry("a1"))
	mustAppend(t, s, "run.b", 0, entry("b1"))
	mustAppend(t, s, "plan.a", 0, entry("not a run"))
	f := watch(t, s, "run.>", func(subject string) uint64 {
		if subject == "run.a" {
			return one
		}
		return 0
	})
	got := map[string][]string{}
	take := func(n int) {
		for _, r := range f.next(t, n) {
			got[r.Subject] = append(got[r.Subject], string(r.Data))
		}
	}
	take(1)
	two := mustAppend(t, s, "run.a", one, entry("a2"))
	mustAppend(t, s, "run.c", 0, entry("c1"), entry("c2"))
	mustAppend(t, s, "plan.b", 0, entry("not a run"))
	mustAppend(t, s, "run.a", two, entry("a3"))
	take(4)
	if diff := cmp.Diff(map[string][]string{"run.a": {`"a2"`, `"a3"`}, "run.b": {`"b1"`}, "run.c": {`"c1"`, `"c2"`}}, got); diff != "" {
		t.Errorf("watch of run.> (-want +got):\n%s", diff)
	}
	f.end(t)
}

func watchOther(t *testing.T, b Bench) {
	f := watch(t, b.Again(t), "run.>", nil)
	at := uint64(0)
	var want []string
	for i := range 20 {
		at = mustAppend(t, b.Store, "run.a", at, entry(fmt.Sprint(i)))
		want = append(want, fmt.Sprintf("note %q", fmt.Sprint(i)))
	}
	if diff := cmp.Diff(want, texts(f.next(t, 20))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.end(t)
}

// inTime is when something is due after d of the store's own time: the time of a
// record that is appended now says what time that is.
func inTime(t *testing.T, b Bench, d time.Duration) time.Time {
	t.Helper()
	at := uint64(0)
	for info, err := range b.Store.List(t.Context(), "clock") {
		if err != nil {
			t.Fatal(err)
		}
		at = info.Last
	}
	mustAppend(t, b.Store, "clock", at, entry("tick"))
	return load(t, b.Store, "clock", at)[0].At.Add(d)
}

// wait loads a subject until it has n records.
func wait(t *testing.T, s store.Loader, subject string, n int) []store.Record {
	t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		got := load(t, s, subject, 0)
		if len(got) >= n {
			return got
		}
		if time.Now().After(limit) {
			t.Fatalf("%s has %d records, want %d", subject, len(got), n)
		}
	}
}

func timer(t *testing.T, b Bench) {
	s := b.Store
	mustAppend(t, s, "plan.a", 0, entry("asked"))
	f := watch(t, s, "plan.>", nil)
	f.next(t, 1)
	for key, d := range map[string]time.Duration{"late": 5 * time.Second, "soon": 2 * time.Second} {
		if err := s.Schedule(t.Context(), store.Timer{Key: "expiry." + key, At: inTime(t, b, d), Subject: "plan.a", Entry: store.Entry{Type: "expired", Data: []byte(`{"key": "` + key + `"}`)}}); err != nil {
			t.Fatal(err)
		}
	}
	wantTexts(t, s, "plan.a", 0, `note "asked"`)
	b.Advance(3 * time.Second)
	if got := texts(wait(t, s, "plan.a", 2)); !slices.Equal(got, []string{`note "asked"`, `expired {"key":"soon"}`}) {
		t.Errorf("after the first: %q", got)
	}
	if got := texts(f.next(t, 1)); got[0] != `expired {"key":"soon"}` {
		t.Errorf("the watch saw %q", got)
	}
	b.Advance(4 * time.Second)
	if got := texts(f.next(t, 1)); got[0] != `expired {"key":"late"}` {
		t.Errorf("the watch saw %q", got)
	}
	if err := s.Schedule(t.Context(), store.Timer{Key: "past", At: inTime(t, b, -time.Hour), Subject: "plan.b", Entry: entry("at once")}); err != nil {
		t.Fatal(err)
	}
	if got := texts(f.next(t, 1)); got[0] != `note "at once"` {
		t.Errorf("the watch saw %q", got)
	}
	f.end(t)
	if n := len(load(t, s, "plan.a", 0)); n != 3 {
		t.Errorf("%d records, want 3: a timer came twice", n)
	}
}

func timerReplaced(t *testing.T, b Bench) {
	s := b.Store
	for i, d := range []time.Duration{time.Second, 4 * time.Second} {
		if err := s.Schedule(t.Context(), store.Timer{Key: "expiry.a", At: inTime(t, b, d), Subject: "plan.a", Entry: entry(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	b.Advance(2 * time.Second)
	wantTexts(t, s, "plan.a", 0)
	b.Advance(4 * time.Second)
	if got := texts(wait(t, s, "plan.a", 1)); !slices.Equal(got, []string{`note "1"`}) {
		t.Errorf("%q", got)
	}
	// Once it came its key is free.
	if err := s.Schedule(t.Context(), store.Timer{Key: "expiry.a", At: inTime(t, b, 0), Subject: "plan.a", Entry: entry("again")}); err != nil {
		t.Fatal(err)
	}
	b.Advance(time.Second)
	if got := texts(wait(t, s, "plan.a", 2)); !slices.Equal(got, []string{`note "1"`, `note "again"`}) {
		t.Errorf("%q", got)
	}
}

// An approval and its expiry meet: one of them is refused.
func timerConflict(t *testing.T, b Bench) {
	s := b.Store
	at := mustAppend(t, s, "plan.a", 0, entry("asked"))
	if err := s.Schedule(t.Context(), store.Timer{Key: "expiry.a", At: inTime(t, b, time.Second), Subject: "plan.a", Entry: store.Entry{Type: "expired"}}); err != nil {
		t.Fatal(err)
	}
	b.Advance(2 * time.Second)
	if b.Slow {
		wait(t, s, "plan.a", 2)
	}
	_, err := s.Append(t.Context(), "plan.a", at, entry("approved"))
	if _, refused := errors.AsType[*store.ConflictError](err); !refused {
		t.Errorf("an approval behind its expiry: %v", err)
	}
	wantTexts(t, s, "plan.a", 0, `note "asked"`, `expired null`)
}

func timerRestart(t *testing.T, b Bench) {
	if err := b.Store.Schedule(t.Context(), store.Timer{Key: "expiry.a", At: inTime(t, b, 2*time.Second), Subject: "plan.a", Entry: entry("came")}); err != nil {
		t.Fatal(err)
	}
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	s := b.Again(t)
	wantTexts(t, s, "plan.a", 0)
	b.Advance(3 * time.Second)
	if got := texts(wait(t, s, "plan.a", 1)); !slices.Equal(got, []string{`note "came"`}) {
		t.Errorf("%q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, b.Again(t), "plan.a", 0, `note "came"`)
}
