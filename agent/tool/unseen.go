package tool

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Unseen collects what a toolset could not see, for its Limits: each gap once, with the
// last time that it was met. The zero value is ready. It is safe for concurrent use.
type Unseen struct {
	mu   sync.Mutex
	gaps map[incident.Gap]time.Time
}

// Add notes a gap.
func (u *Unseen) Add(g incident.Gap) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gaps == nil {
		u.gaps = map[incident.Gap]time.Time{}
	}
	u.gaps[g] = time.Now()
}

// Since gives the gaps that were met since a moment (see FreshSince), in a stable order:
// what an earlier investigation could not see may be seen by now.
func (u *Unseen) Since(at time.Time) []incident.Gap {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]incident.Gap, 0, len(u.gaps))
	for g, met := range u.gaps {
		if !met.Before(at) {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b incident.Gap) int { return strings.Compare(a.Source+"\x00"+a.Why, b.Source+"\x00"+b.Why) })
	return out
}
