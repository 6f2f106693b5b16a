package dra

import (
	"context"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// loadTimeout ends a load whose callers set no deadline.
const loadTimeout = 60 * time.Second

// cell keeps one list for a short while and lets concurrent callers share one
// load, so that the tools of one investigation see one state of the cluster and
// list it once. It ages by the injected clock: with a bundle it never does.
type cell[T any] struct {
	now func() time.Time
	ttl time.Duration

	mu   sync.Mutex
	last *flight[T]
}

type flight[T any] struct {
	done chan struct{}
	val  T
	err  error
	// began is when the load did, at when it ended.
	began, at time.Time
	over      bool
}

func newCell[T any](now func() time.Time, ttl time.Duration) *cell[T] {
	return &cell[T]{now: now, ttl: ttl}
}

// get gives the value, loading it when there is none or it has aged. A failed
// load is not kept. The load outlives a caller that goes away, because others
// may wait for it too.
func (c *cell[T]) get(ctx context.Context, load func(context.Context) (T, error)) (T, error) {
	c.mu.Lock()
	f := c.last
	if f == nil || (f.over && (f.err != nil || c.now().Sub(f.at) >= c.ttl || c.now().Before(f.at))) || f.began.Before(tool.FreshSince(ctx)) {
		f = &flight[T]{done: make(chan struct{}), began: c.now()}
		c.last = f
		lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		go func() {
			defer cancel()
			val, err := load(lctx)
			c.mu.Lock()
			f.val, f.err, f.at, f.over = val, err, c.now(), true
			c.mu.Unlock()
			close(f.done)
		}()
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.val, f.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// peek gives the value if it is there and fresh, without loading it.
func (c *cell[T]) peek(ctx context.Context) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.last
	if f == nil || !f.over || f.err != nil || c.now().Sub(f.at) >= c.ttl || c.now().Before(f.at) || f.began.Before(tool.FreshSince(ctx)) {
		var zero T
		return zero, false
	}
	return f.val, true
}
