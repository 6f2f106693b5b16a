package tool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// most bounds what the tests keep.
const most = 90

func keep(v any, weight int) func(context.Context) Answer[any] {
	return func(context.Context) Answer[any] { return Answer[any]{Value: v, Weight: weight, For: time.Minute} }
}

func kept(now func() time.Time) *Kept[any] { return NewKept[any](Keep{Now: now, Most: most}) }

func TestKeptMakesRoomOldestFirst(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := kept(func() time.Time { return now })
	for i := range 4 {
		now = now.Add(time.Second)
		if _, err := c.Do(t.Context(), fmt.Sprint(i), keep(i, most/3)); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []bool{false, true, true, true} {
		if _, ok := c.Peek(t.Context(), fmt.Sprint(i)); ok != want {
			t.Errorf("entry %d kept: %v, want %v", i, ok, want)
		}
	}
	if c.weight > most {
		t.Errorf("weight %d", c.weight)
	}
}

func TestKeptDropsTheExpiredBeforeTheOldest(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := kept(func() time.Time { return now })
	short := func(context.Context) Answer[any] { return Answer[any]{Value: 1, Weight: most / 2, For: time.Second} }
	if _, err := c.Do(t.Context(), "old but good", keep(1, most/3)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if _, err := c.Do(t.Context(), "expired", short); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	if _, err := c.Do(t.Context(), "new", keep(1, most/2)); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"old but good": true, "expired": false, "new": true} {
		if _, ok := c.Peek(t.Context(), key); ok != want {
			t.Errorf("%s kept: %v", key, ok)
		}
	}
}

func TestKeptDoesNotKeepPassingErrors(t *testing.T) {
	t.Parallel()
	c := kept(time.Now)
	calls := 0
	load := func(context.Context) Answer[any] {
		calls++
		return Answer[any]{Err: errors.New("connection reset")}
	}
	for range 2 {
		if _, err := c.Do(t.Context(), "k", load); err == nil {
			t.Error("no error")
		}
	}
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
}

func TestKeptWeightStaysRightOverRefreshes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	c := kept(func() time.Time { return now })
	for range 5 {
		if _, err := c.Do(t.Context(), "k", keep(1, 10)); err != nil {
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
	c := kept(time.Now)
	started, ended := make(chan struct{}), make(chan struct{})
	load := func(ctx context.Context) Answer[any] {
		close(started)
		<-ctx.Done()
		close(ended)
		return Answer[any]{Err: ctx.Err()}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := c.Do(ctx, "k", load); done <- err }()
	<-started
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-ended
}

func TestLoadOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	c := kept(time.Now)
	started, release := make(chan struct{}), make(chan struct{})
	load := func(ctx context.Context) Answer[any] {
		close(started)
		select {
		case <-release:
			return Answer[any]{Value: "v", For: time.Minute}
		case <-ctx.Done():
			return Answer[any]{Err: ctx.Err()}
		}
	}
	first, cancel := context.WithCancel(t.Context())
	firstDone, secondDone := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Do(first, "k", load); firstDone <- err }()
	<-started
	go func() { _, err := c.Do(t.Context(), "k", load); secondDone <- err }()
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

// A context may ask for what is read from a moment on: what is older is read again, once,
// also where the clock of the source stands still.
func TestFreshReadsAgain(t *testing.T) {
	t.Parallel()
	still := time.Unix(1_800_000_000, 0)
	c := kept(func() time.Time { return still })
	n := 0
	load := func(context.Context) Answer[any] { n++; return Answer[any]{Value: n, Weight: 1, For: time.Minute} }
	read := func(ctx context.Context) int {
		v, err := c.Do(ctx, "k", load)
		if err != nil {
			t.Fatal(err)
		}
		return v.(int)
	}
	read(t.Context())
	fresh := Fresh(t.Context())
	if _, ok := c.Peek(fresh, "k"); ok {
		t.Error("what is too old is shown")
	}
	if v := read(fresh); v != 2 {
		t.Errorf("the fresh value is %d, want 2", v)
	}
	if a, b := read(fresh), read(t.Context()); a != 2 || b != 2 {
		t.Errorf("it was read again: %d, %d", a, b)
	}
}

// What is being read since before the moment does not answer either, and whoever waits
// for it has it all the same.
func TestFreshDoesNotJoinAnOlderRead(t *testing.T) {
	t.Parallel()
	c := NewKept[string](Keep{For: time.Minute})
	started, release := make(chan struct{}), make(chan struct{})
	old := make(chan string, 1)
	go func() {
		v, _ := c.Get(t.Context(), "k", func(context.Context) (string, error) { close(started); <-release; return "before", nil })
		old <- v
	}()
	<-started
	v, err := c.Get(Fresh(t.Context()), "k", func(context.Context) (string, error) { return "after", nil })
	if v != "after" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	close(release)
	if v := <-old; v != "before" {
		t.Errorf("the older caller got %q", v)
	}
	if v, ok := c.Peek(t.Context(), "k"); !ok || v != "after" {
		t.Errorf("kept is %q, %v: what was read later", v, ok)
	}
}

func TestFailuresAreKeptWhereAsked(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	c := NewKept[int](Keep{Now: func() time.Time { return now }, For: time.Minute, Failed: func(error) time.Duration { return time.Second }})
	n := 0
	load := func(context.Context) (int, error) { n++; return 0, errors.New("no answer") }
	for range 2 {
		if _, err := c.Get(t.Context(), "k", load); err == nil {
			t.Error("no error")
		}
	}
	if _, ok := c.Peek(t.Context(), "k"); ok || n != 1 {
		t.Errorf("asked %d times, shown %v", n, ok)
	}
	if _, err := c.Get(Fresh(t.Context()), "k", load); err == nil || n != 2 {
		t.Errorf("a fresh look was given the failure of before: asked %d times", n)
	}
	now = now.Add(time.Second)
	if _, err := c.Get(t.Context(), "k", load); err == nil || n != 3 {
		t.Errorf("asked %d times after the failure aged", n)
	}
}

func TestUnseenIsOfOneLook(t *testing.T) {
	t.Parallel()
	var u Unseen
	a, b := incident.Gap{Source: "a"}, incident.Gap{Source: "b"}
	u.Add(b)
	u.Add(a)
	ctx := Fresh(t.Context())
	if got := u.Since(time.Time{}); !slices.Equal(got, []incident.Gap{a, b}) {
		t.Errorf("all: %v", got)
	}
	if got := u.Since(FreshSince(ctx)); len(got) != 0 {
		t.Errorf("what an earlier look could not see is told of a later one: %v", got)
	}
	u.Add(b)
	if got := u.Since(FreshSince(ctx)); !slices.Equal(got, []incident.Gap{b}) {
		t.Errorf("since: %v", got)
	}
}
