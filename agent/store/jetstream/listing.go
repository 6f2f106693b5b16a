package jetstream

import (
	"maps"
	"sync"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Bounds of what is remembered of lists.
const (
	maxListed   = 50_000 // subjects of one stream and pattern
	maxListings = 16
)

// listings remembers where subjects end, so that a list that is asked for again does
// not fetch the last message of each. What the leader says of a stream tells what
// still stands: as long as nothing was removed from the stream, a subject with as
// many messages as before ends where it did.
type listings struct {
	mu  sync.Mutex
	all map[listingKey]listing
}

type listingKey struct{ pattern, stream string }

// listing is what is known of the subjects of a pattern in a stream. It is never
// changed, another takes its place.
type listing struct {
	// removed is how many messages the stream had lost when the list was made.
	removed uint64
	ends    map[string]listedEnd
}

// listedEnd is the end of a subject with so many messages; its Last is 0 where the
// subject was deleted, or never whole.
type listedEnd struct {
	messages uint64
	info     store.Info
}

// removed counts the messages that a stream no longer has: every one had a sequence.
func (i streamInfo) removed() uint64 { return i.State.LastSeq - i.State.Messages }

// known gives what still stands of a list.
func (l *listings) known(pattern, stream string, removed uint64) map[string]listedEnd {
	l.mu.Lock()
	defer l.mu.Unlock()
	have, ok := l.all[listingKey{pattern, stream}]
	if !ok || have.removed != removed {
		return nil
	}
	return have.ends
}

// keep remembers a list that was read to its end.
func (l *listings) keep(pattern, stream string, removed uint64, ends map[string]listedEnd) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := listingKey{pattern, stream}
	delete(l.all, k)
	if len(ends) > maxListed {
		return
	}
	if l.all == nil {
		l.all = map[listingKey]listing{}
	}
	for old := range maps.Keys(l.all) {
		if len(l.all) < maxListings {
			break
		}
		delete(l.all, old)
	}
	l.all[k] = listing{removed, ends}
}
