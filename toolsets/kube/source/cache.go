package source

import (
	"context"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// maxCached bounds the number of objects kept, summed over all lists. The
// largest cluster we promise has 20,000 pods and 5,000 nodes.
const maxCached = 80_000

// loadTimeout ends a load whose caller set no deadline.
const loadTimeout = 60 * time.Second

// cache reuses answers for a while and lets concurrent callers of one key
// share one load. A load is cancelled when its last caller has gone.
type cache struct {
	now func() time.Time

	mu      sync.Mutex
	entries map[string]*entry
	weight  int
}

type entry struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	began   time.Time

	// Set before done is closed, never changed afterwards.
	value   any
	err     error
	weight  int
	at      time.Time
	expires time.Time
}

func newCache(now func() time.Time) *cache {
	return &cache{now: now, entries: map[string]*entry{}}
}

// loaded is what a load hands back: how many objects the value holds and for
// how long it (or its error) may be reused; zero means not at all.
type loaded struct {
	value  any
	err    error
	weight int
	ttl    time.Duration
}

// do gives the value of a key, loading it where none is there that may be reused: one
// whose load began before what tool.FreshSince says may not.
func (c *cache) do(ctx context.Context, key string, load func(context.Context) loaded) (any, error) {
	c.mu.Lock()
	e, ok := c.entries[key]
	if ok && (e.finished() && !c.now().Before(e.expires) || e.began.Before(tool.FreshSince(ctx))) {
		c.drop(key, e)
		ok = false
	}
	if !ok {
		// The load must outlive the first caller when others wait for it too, but
		// keeps the values of its context (trace, logger).
		lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		e = &entry{done: make(chan struct{}), cancel: cancel, began: c.now()}
		c.entries[key] = e
		go c.run(lctx, key, e, load)
	}
	e.waiters++
	c.mu.Unlock()

	select {
	case <-e.done:
		c.leave(key, e)
		return e.value, e.err
	case <-ctx.Done():
		c.leave(key, e)
		return nil, ctx.Err()
	}
}

func (c *cache) run(ctx context.Context, key string, e *entry, load func(context.Context) loaded) {
	l := load(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	e.cancel()
	e.value, e.err, e.weight = l.value, l.err, l.weight
	e.at = c.now()
	e.expires = e.at.Add(l.ttl)
	if c.entries[key] == e {
		if l.ttl <= 0 {
			delete(c.entries, key)
		} else {
			c.weight += e.weight
			c.evict()
		}
	}
	close(e.done)
}

func (c *cache) leave(key string, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.waiters--
	if e.waiters == 0 && !e.finished() {
		e.cancel()
		// Whoever comes next starts afresh and does not inherit the cancellation.
		if c.entries[key] == e {
			delete(c.entries, key)
		}
	}
}

// peek gives a finished, fresh value that tool.FreshSince lets stand, without loading.
func (c *cache) peek(ctx context.Context, key string) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || !e.finished() || e.err != nil || !c.now().Before(e.expires) || e.began.Before(tool.FreshSince(ctx)) {
		return nil, false
	}
	return e.value, true
}

func (e *entry) finished() bool { return !e.at.IsZero() }

func (c *cache) drop(key string, e *entry) {
	delete(c.entries, key)
	c.weight -= e.weight
}

// evict makes room: what has expired goes first, then the oldest.
func (c *cache) evict() {
	if c.weight <= maxCached {
		return
	}
	now := c.now()
	for k, e := range c.entries {
		if e.finished() && !now.Before(e.expires) {
			c.drop(k, e)
		}
	}
	for c.weight > maxCached {
		var key string
		var old *entry
		for k, e := range c.entries {
			if e.finished() && e.weight > 0 && (old == nil || e.at.Before(old.at) || e.at.Equal(old.at) && k < key) {
				key, old = k, e
			}
		}
		if old == nil {
			return
		}
		c.drop(key, old)
	}
}
