package logs

import (
	"context"
	"sync"
	"time"
)

// ttl is how long the reading of one job is reused: the checks of its pods ask for
// the same one within an investigation.
const ttl = 15 * time.Second

// memo keeps readings by key for a short while and lets concurrent callers share
// one. It ages by the injected clock: with a bundle it never does.
type memo struct {
	mu   sync.Mutex
	kept map[string]*flight
}

type flight struct {
	done chan struct{}
	at   time.Time
	val  *reading
	err  error
}

// get gives the reading of a key. A failed one is not kept. The reading outlives a
// caller that goes away, because others may wait for it too.
func (m *memo) get(ctx context.Context, now func() time.Time, key string, load func(context.Context) (*reading, error)) (*reading, error) {
	m.mu.Lock()
	f := m.kept[key]
	if f == nil || now().Sub(f.at) >= ttl || now().Before(f.at) {
		f = &flight{done: make(chan struct{}), at: now()}
		if m.kept == nil || len(m.kept) > 64 {
			m.kept = map[string]*flight{}
		}
		m.kept[key] = f
		lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		go func() {
			defer cancel()
			defer close(f.done)
			if f.val, f.err = load(lctx); f.err != nil {
				m.mu.Lock()
				if m.kept[key] == f {
					delete(m.kept, key)
				}
				m.mu.Unlock()
			}
		}()
	}
	m.mu.Unlock()
	select {
	case <-f.done:
		return f.val, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
