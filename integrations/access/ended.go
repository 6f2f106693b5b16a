package access

import (
	"context"
	"sync"
	"time"
)

// sweepEvery is how many new entries come between two looks for expired ones.
const sweepEvery = 256

// ended remembers ids until their time is over. What it holds is bounded by how many
// sessions people start and end within one session's lifetime: nothing is forgotten
// before, because that would let a session in again.
type ended struct {
	now func() time.Time

	mu    sync.Mutex
	until map[string]time.Time
	added int
}

var _ Revocations = (*ended)(nil)

func newEnded(now func() time.Time) *ended {
	return &ended{now: now, until: map[string]time.Time{}}
}

// Revoke implements Revocations.
func (e *ended) Revoke(_ context.Context, id string, expiry time.Time) error {
	e.first(id, expiry)
	return nil
}

// Revoked implements Revocations.
func (e *ended) Revoked(_ context.Context, id string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.until[id]
	return ok, nil
}

// first notes an id and says whether it is new.
func (e *ended) first(id string, expiry time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.until[id]; ok {
		return false
	}
	e.until[id] = expiry
	if e.added++; e.added%sweepEvery == 0 {
		now := e.now()
		for id, t := range e.until {
			if !now.Before(t) {
				delete(e.until, id)
			}
		}
	}
	return true
}
