package gpu

import (
	"context"
	"sync"
	"time"
)

// loadTimeout ends a load whose callers set no deadline.
const loadTimeout = 60 * time.Second

// shelf keeps values by name for a short while and lets concurrent callers share
// one load. It ages by the injected clock: with a bundle it never does.
type shelf[T any] struct {
	now func() time.Time
	ttl time.Duration

	mu sync.Mutex
	at map[string]*flight[T]
}

type flight[T any] struct {
	done chan struct{}
	val  T
	err  error
	when time.Time
	over bool
}

func newShelf[T any](now func() time.Time, ttl time.Duration) *shelf[T] {
	return &shelf[T]{now: now, ttl: ttl, at: map[string]*flight[T]{}}
}

// get gives the value of a name, loading it when there is none or it has aged. A
// failed load is not kept. The load outlives a caller that goes away, because
// others may wait for it too.
func (s *shelf[T]) get(ctx context.Context, name string, load func(context.Context) (T, error)) (T, error) {
	s.mu.Lock()
	f := s.at[name]
	if f == nil || f.over && (f.err != nil || s.now().Sub(f.when) >= s.ttl || s.now().Before(f.when)) {
		f = &flight[T]{done: make(chan struct{})}
		s.at[name] = f
		lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		go func() {
			defer cancel()
			val, err := load(lctx)
			s.mu.Lock()
			f.val, f.err, f.when, f.over = val, err, s.now(), true
			s.mu.Unlock()
			close(f.done)
		}()
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.val, f.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}
