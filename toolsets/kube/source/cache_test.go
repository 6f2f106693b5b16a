package source

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The http package ends idle keep-alive connections some time after a server closed.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

func keep(v any, weight int) func(context.Context) loaded {
	return func(context.Context) loaded { return loaded{value: v, weight: weight, ttl: time.Minute} }
}

func TestCacheMakesRoomOldestFirst(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := newCache(func() time.Time { return now })
	for i := range 4 {
		now = now.Add(time.Second)
		if _, err := c.do(t.Context(), fmt.Sprint(i), keep(i, maxCached/3)); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []bool{false, true, true, true} {
		if _, ok := c.peek(t.Context(), fmt.Sprint(i)); ok != want {
			t.Errorf("entry %d kept: %v, want %v", i, ok, want)
		}
	}
	if c.weight > maxCached {
		t.Errorf("weight %d", c.weight)
	}
}

func TestCacheDropsTheExpiredBeforeTheOldest(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := newCache(func() time.Time { return now })
	short := func(context.Context) loaded { return loaded{value: 1, weight: maxCached / 2, ttl: time.Second} }
	if _, err := c.do(t.Context(), "old but good", keep(1, maxCached/3)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if _, err := c.do(t.Context(), "expired", short); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	if _, err := c.do(t.Context(), "new", keep(1, maxCached/2)); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"old but good": true, "expired": false, "new": true} {
		if _, ok := c.peek(t.Context(), key); ok != want {
			t.Errorf("%s kept: %v", key, ok)
		}
	}
}

func TestCacheDoesNotKeepPassingErrors(t *testing.T) {
	t.Parallel()
	c := newCache(time.Now)
	calls := 0
	load := func(context.Context) loaded {
		calls++
		return loaded{err: errors.New("connection reset")}
	}
	for range 2 {
		if _, err := c.do(t.Context(), "k", load); err == nil {
			t.Error("no error")
		}
	}
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
}

func TestCacheWeightStaysRightOverRefreshes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := newCache(func() time.Time { return now })
	for range 5 {
		if _, err := c.do(t.Context(), "k", keep(1, 10)); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * time.Minute)
	}
	if c.weight != 10 {
		t.Errorf("weight %d after refreshing one entry of 10", c.weight)
	}
}

func TestLoadEndsWithItsLastCaller(t *testing.T) {
	t.Parallel()
	c := newCache(time.Now)
	started, ended := make(chan struct{}), make(chan struct{})
	load := func(ctx context.Context) loaded {
		close(started)
		<-ctx.Done()
		close(ended)
		return loaded{err: ctx.Err()}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := c.do(ctx, "k", load); done <- err }()
	<-started
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-ended
}

func TestLoadOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	c := newCache(time.Now)
	started, release := make(chan struct{}), make(chan struct{})
	load := func(ctx context.Context) loaded {
		close(started)
		select {
		case <-release:
			return loaded{value: "v", ttl: time.Minute}
		case <-ctx.Done():
			return loaded{err: ctx.Err()}
		}
	}
	first, cancel := context.WithCancel(t.Context())
	firstDone, secondDone := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.do(first, "k", load); firstDone <- err }()
	<-started
	go func() { _, err := c.do(t.Context(), "k", load); secondDone <- err }()
	for waiting := 0; waiting < 2; {
		c.mu.Lock()
		waiting = c.entries["k"].waiters
		c.mu.Unlock()
	}
	cancel()
	if err := <-firstDone; !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	close(release)
	if err := <-secondDone; err != nil {
		t.Errorf("the second caller lost its load with the first: %v", err)
	}
}

// A context may ask for what is read from a moment on: what is older is read again, once.
func TestFreshReadsAgain(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	c := newCache(func() time.Time { return now })
	n := 0
	load := func(context.Context) loaded { n++; return loaded{value: n, weight: 1, ttl: time.Minute} }
	read := func(ctx context.Context) int {
		v, err := c.do(ctx, "k", load)
		if err != nil {
			t.Fatal(err)
		}
		return v.(int)
	}
	read(t.Context())
	now = now.Add(time.Second)
	fresh := tool.Fresh(t.Context(), now)
	if _, ok := c.peek(fresh, "k"); ok {
		t.Error("what is too old is shown")
	}
	if v := read(fresh); v != 2 {
		t.Errorf("the fresh value is %d, want 2", v)
	}
	if a, b := read(fresh), read(t.Context()); a != 2 || b != 2 {
		t.Errorf("it was read again: %d, %d", a, b)
	}
}
