package tool

import (
	"context"
	"sync"
	"time"
)

// loadTimeout ends a load whose caller set no deadline.
const loadTimeout = 60 * time.Second

// Keep says what a Kept keeps, and for how long.
type Keep struct {
	// Now is the clock by which answers age; nil means time.Now. With a bundle it stands
	// still, and nothing ages.
	Now func() time.Time
	// For is how long an answer is reused, from its end on.
	For time.Duration
	// Failed is how long a failure is; nil keeps none.
	Failed func(error) time.Duration
	// Most bounds the sum of the weights of what is kept; zero does not. Each answer
	// weighs one unless Do says otherwise.
	Most int
}

// Answer is what a load hands to Do.
type Answer[T any] struct {
	Value T
	Err   error
	// Weight counts towards Keep.Most, For is how long it is reused; zero is not at all.
	Weight int
	For    time.Duration
}

// Kept keeps what a source answered, by key, so that the tools of one investigation see
// one state of it and ask once. Concurrent callers of a key share one load, which is
// cancelled when the last of them has gone. It never gives what was begun to be read
// before FreshSince of the caller's context. It is safe for concurrent use.
//
// What is kept is shared between callers: nobody changes it.
type Kept[T any] struct {
	keep Keep

	mu      sync.Mutex
	entries map[string]*entry[T]
	weight  int
}

type entry[T any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	// began is when the load did, by this process's clock; see Fresh.
	began time.Time

	// Set before done is closed, never changed afterwards.
	value       T
	err         error
	weight      int
	over        bool
	at, expires time.Time
}

// NewKept makes an empty one.
func NewKept[T any](k Keep) *Kept[T] {
	if k.Now == nil {
		k.Now = time.Now
	}
	return &Kept[T]{keep: k, entries: map[string]*entry[T]{}}
}

// Get gives the answer of a key, loading it where none is there that may be reused.
func (k *Kept[T]) Get(ctx context.Context, key string, load func(context.Context) (T, error)) (T, error) {
	return k.Do(ctx, key, func(ctx context.Context) Answer[T] {
		a := Answer[T]{Weight: 1, For: k.keep.For}
		if a.Value, a.Err = load(ctx); a.Err != nil {
			a.For = 0
			if k.keep.Failed != nil {
				a.For = k.keep.Failed(a.Err)
			}
		}
		return a
	})
}

// Do is Get for loads that say themselves how long their answer may be reused.
func (k *Kept[T]) Do(ctx context.Context, key string, load func(context.Context) Answer[T]) (T, error) {
	k.mu.Lock()
	e, ok := k.entries[key]
	if ok && !k.stands(ctx, e) {
		k.drop(key, e)
		ok = false
	}
	if !ok {
		// The load must outlive the first caller when others wait for it too, but
		// keeps the values of its context (trace, logger, Fresh).
		lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		e = &entry[T]{done: make(chan struct{}), cancel: cancel, began: time.Now()}
		k.entries[key] = e
		go k.run(lctx, key, e, load)
	}
	e.waiters++
	k.mu.Unlock()

	select {
	case <-e.done:
		k.leave(key, e)
		return e.value, e.err
	case <-ctx.Done():
		k.leave(key, e)
		var zero T
		return zero, ctx.Err()
	}
}

// Peek gives a good answer that is there and may be reused, without loading.
func (k *Kept[T]) Peek(ctx context.Context, key string) (T, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.entries[key]
	if !ok || !e.over || e.err != nil || !k.stands(ctx, e) {
		var zero T
		return zero, false
	}
	return e.value, true
}

// stands reports whether an answer, or the one that is awaited, may be given. The caller
// holds the lock.
func (k *Kept[T]) stands(ctx context.Context, e *entry[T]) bool {
	if e.began.Before(FreshSince(ctx)) {
		return false
	}
	// A clock that was set back does not make an answer younger.
	now := k.keep.Now()
	return !e.over || now.Before(e.expires) && !now.Before(e.at)
}

func (k *Kept[T]) run(ctx context.Context, key string, e *entry[T], load func(context.Context) Answer[T]) {
	a := load(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	e.cancel()
	e.value, e.err, e.weight, e.over = a.Value, a.Err, a.Weight, true
	e.at = k.keep.Now()
	e.expires = e.at.Add(a.For)
	if k.entries[key] == e {
		if a.For <= 0 {
			delete(k.entries, key)
		} else {
			k.weight += e.weight
			k.evict()
		}
	}
	close(e.done)
}

func (k *Kept[T]) leave(key string, e *entry[T]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e.waiters--
	if e.waiters == 0 && !e.over {
		e.cancel()
		// Whoever comes next starts afresh and does not inherit the cancellation.
		if k.entries[key] == e {
			delete(k.entries, key)
		}
	}
}

func (k *Kept[T]) drop(key string, e *entry[T]) {
	delete(k.entries, key)
	k.weight -= e.weight
}

// evict makes room: what has expired goes first, then the oldest.
func (k *Kept[T]) evict() {
	if k.keep.Most <= 0 || k.weight <= k.keep.Most {
		return
	}
	now := k.keep.Now()
	for key, e := range k.entries {
		if e.over && !now.Before(e.expires) {
			k.drop(key, e)
		}
	}
	for k.weight > k.keep.Most {
		var key string
		var old *entry[T]
		for at, e := range k.entries {
			if e.over && e.weight > 0 && (old == nil || e.at.Before(old.at) || e.at.Equal(old.at) && at < key) {
				key, old = at, e
			}
		}
		if old == nil {
			return
		}
		k.drop(key, old)
	}
}
