package slack

import (
	"context"
	"sync"
	"time"
)

// agenda is a queue of names, each in it at most once and given to one worker at a
// time; what is added while it is worked on comes again.
type agenda struct {
	mu     sync.Mutex
	queue  []string
	queued map[string]bool
	busy   map[string]bool
	again  map[string]bool
	due    map[string]time.Time
	fails  map[string]int
	wake   chan struct{}
}

func newAgenda() *agenda {
	return &agenda{queued: map[string]bool{}, busy: map[string]bool{}, again: map[string]bool{}, due: map[string]time.Time{}, fails: map[string]int{}, wake: make(chan struct{}, 1)}
}

func (a *agenda) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(id)
}

func (a *agenda) put(id string) {
	delete(a.due, id)
	switch {
	case a.busy[id]:
		a.again[id] = true
	case !a.queued[id]:
		a.queued[id] = true
		a.queue = append(a.queue, id)
	}
	a.nudge()
}

func (a *agenda) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// later adds a name after a time, or earlier if it was to come earlier.
func (a *agenda) later(id string, d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := time.Now().Add(d)
	if was, ok := a.due[id]; !ok || at.Before(was) {
		a.due[id] = at
	}
	a.nudge()
}

// next gives a name to work on; false when ctx ended.
func (a *agenda) next(ctx context.Context) (string, bool) {
	for {
		a.mu.Lock()
		rest := time.Minute
		for id, at := range a.due {
			if d := time.Until(at); d <= 0 {
				a.put(id)
			} else {
				rest = min(rest, d)
			}
		}
		if len(a.queue) > 0 {
			id := a.queue[0]
			a.queue = a.queue[1:]
			delete(a.queued, id)
			a.busy[id] = true
			if len(a.queue) > 0 {
				a.nudge()
			}
			a.mu.Unlock()
			return id, true
		}
		a.mu.Unlock()
		t := time.NewTimer(rest)
		select {
		case <-ctx.Done():
			t.Stop()
			return "", false
		case <-a.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

func (a *agenda) done(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.busy, id)
	if a.again[id] {
		delete(a.again, id)
		a.put(id)
	}
}

// backoff gives the delay after another failure of a name.
func (a *agenda) backoff(id string, base time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.fails[id]
	a.fails[id]++
	return min(base<<min(n, 10), time.Minute)
}

func (a *agenda) calm(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.fails, id)
}
