package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// lease is longer than a case that does not let it run out.
const lease = time.Hour

func mustClaim(t *testing.T, q store.Queue, queue string, d time.Duration, want string, attempt int) *store.Claim {
	t.Helper()
	c, err := q.Claim(t.Context(), queue, d)
	if err != nil {
		t.Fatalf("claim %s: %v", queue, err)
	}
	if string(c.Record.Data) != want || c.Attempt != attempt {
		t.Fatalf("claim %s gives %s, attempt %d; want %s, attempt %d", queue, c.Record.Data, c.Attempt, want, attempt)
	}
	return c
}

func nothing(t *testing.T, q store.Queue, queue string) {
	t.Helper()
	if c, err := q.Claim(t.Context(), queue, lease); !errors.Is(err, store.ErrNothing) {
		t.Fatalf("claim %s: %+v, %v; want nothing", queue, c, err)
	}
}

func done(t *testing.T, c *store.Claim) {
	t.Helper()
	if err := c.Lease.Done(t.Context()); err != nil {
		t.Fatalf("done %s: %v", c.Record.Data, err)
	}
}

func lost(t *testing.T, c *store.Claim) {
	t.Helper()
	for name, err := range map[string]error{
		"extend": c.Lease.Extend(t.Context(), lease), "done": c.Lease.Done(t.Context()), "release": c.Lease.Release(t.Context(), 0),
	} {
		if !errors.Is(err, store.ErrLost) {
			t.Errorf("%s of a lost lease on %s: %v", name, c.Record.Data, err)
		}
	}
}

func claimOrder(t *testing.T, b Bench) {
	s := b.Store
	nothing(t, s, "work.inv")
	// Not in the order of their names.
	for _, id := range []string{"m", "z", "a"} {
		mustAppend(t, s, "work.inv."+id, 0, entry(id))
	}
	if _, err := s.Append(t.Context(), "work.inv.z", 0, entry("z")); err == nil {
		t.Error("the same work is put into the queue twice")
	}
	first := mustClaim(t, s, "work.inv", lease, `"m"`, 1)
	if first.Record.Subject != "work.inv.m" || first.Record.Type != "note" {
		t.Errorf("the record is %+v", first.Record)
	}
	done(t, first)
	second := mustClaim(t, s, "work.inv", lease, `"z"`, 1)
	third := mustClaim(t, s, "work.inv", lease, `"a"`, 1)
	nothing(t, s, "work.inv")
	done(t, third)
	done(t, second)
	nothing(t, s, "work.inv")
	lost(t, first)
	// A queue may hold further work for the same id.
	mustAppend(t, s, "work.inv.a", third.Record.Seq, entry("a again"))
	done(t, mustClaim(t, s, "work.inv", lease, `"a again"`, 1))
	nothing(t, s, "work.inv")
}

func claimExpiry(t *testing.T, b Bench) {
	s := b.Store
	mustAppend(t, s, "work.inv.a", 0, entry("a"))
	first := mustClaim(t, s, "work.inv", 2*time.Second, `"a"`, 1)
	nothing(t, s, "work.inv")
	b.Advance(3 * time.Second)
	lost(t, first)
	second := mustClaim(t, s, "work.inv", lease, `"a"`, 2)
	lost(t, first)
	nothing(t, s, "work.inv")
	done(t, second)
	nothing(t, s, "work.inv")
}

func claimLease(t *testing.T, b Bench) {
	s := b.Store
	mustAppend(t, s, "work.inv.a", 0, entry("a"))
	c := mustClaim(t, s, "work.inv", 4*time.Second, `"a"`, 1)
	b.Advance(2 * time.Second)
	if err := c.Lease.Extend(t.Context(), 6*time.Second); err != nil {
		t.Fatal(err)
	}
	b.Advance(3 * time.Second) // later than the first end
	nothing(t, s, "work.inv")
	for _, d := range []time.Duration{-1, store.MaxLease + 1} {
		if err := c.Lease.Extend(t.Context(), d); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("extend by %s: %v", d, err)
		}
		if err := c.Lease.Release(t.Context(), d); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("release for %s: %v", d, err)
		}
	}
	if err := c.Lease.Release(t.Context(), 2*time.Second); err != nil {
		t.Fatal(err)
	}
	lost(t, c)
	nothing(t, s, "work.inv")
	b.Advance(3 * time.Second)
	c = mustClaim(t, s, "work.inv", lease, `"a"`, 2)
	if err := c.Lease.Release(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	done(t, mustClaim(t, s, "work.inv", lease, `"a"`, 3))
	nothing(t, s, "work.inv")
}

func claimRestart(t *testing.T, b Bench) {
	for _, id := range []string{"a", "b", "c"} {
		mustAppend(t, b.Store, "work.inv."+id, 0, entry(id))
	}
	done(t, mustClaim(t, b.Store, "work.inv", lease, `"a"`, 1))
	mustClaim(t, b.Store, "work.inv", 2*time.Second, `"b"`, 1)
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	s := b.Again(t)
	done(t, mustClaim(t, s, "work.inv", lease, `"c"`, 1))
	nothing(t, s, "work.inv")
	b.Advance(3 * time.Second)
	done(t, mustClaim(t, s, "work.inv", lease, `"b"`, 2))
	nothing(t, s, "work.inv")
}

func claimMany(t *testing.T, b Bench) {
	const items = 30
	want := map[string]int{}
	for i := range items {
		mustAppend(t, b.Store, fmt.Sprintf("work.inv.%d", i), 0, entry(fmt.Sprint(i)))
		want[fmt.Sprintf("%q", fmt.Sprint(i))] = 1
	}
	stores := []store.Store{b.Store, b.Again(t)}
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for w := range 6 {
		s := stores[w%2]
		wg.Go(func() {
			for {
				c, err := s.Claim(t.Context(), "work.inv", lease)
				if errors.Is(err, store.ErrNothing) {
					return
				}
				if err == nil {
					err = c.Lease.Done(t.Context())
				}
				if err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
				mu.Lock()
				got[string(c.Record.Data)]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("how often each was done (-want +got):\n%s", diff)
	}
}

func claimApart(t *testing.T, b Bench) {
	s := b.Store
	mustAppend(t, s, "work.high.a", 0, entry("high"))
	mustAppend(t, s, "work.low.a", 0, entry("low"))
	mustAppend(t, s, "work.highest.a", 0, entry("highest"))
	done(t, mustClaim(t, s, "work.high", lease, `"high"`, 1))
	nothing(t, s, "work.high")
	done(t, mustClaim(t, s, "work.low", lease, `"low"`, 1))
	done(t, mustClaim(t, s, "work.highest", lease, `"highest"`, 1))
}
