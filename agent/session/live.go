package session

import (
	"context"
	"sync"
)

// Live carries what is worth showing and not worth keeping, such as a model's words
// while they come. What nobody takes in time is dropped.
type Live interface {
	Publish(ctx context.Context, subject string, data []byte) error
	// Subscribe ends, and closes the channel, with ctx.
	Subscribe(ctx context.Context, subject string) (<-chan []byte, error)
}

// Local is a Live within one process.
type Local struct {
	mu   sync.Mutex
	subs map[string]map[chan []byte]struct{}
}

var _ Live = (*Local)(nil)

// NewLocal makes a Local.
func NewLocal() *Local { return &Local{subs: map[string]map[chan []byte]struct{}{}} }

// backlog is how many messages wait for one subscriber.
const backlog = 256

// Publish implements Live.
func (l *Local) Publish(_ context.Context, subject string, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.subs[subject] {
		select {
		case c <- data:
		default:
		}
	}
	return nil
}

// Subscribe implements Live.
func (l *Local) Subscribe(ctx context.Context, subject string) (<-chan []byte, error) {
	c := make(chan []byte, backlog)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subs[subject] == nil {
		l.subs[subject] = map[chan []byte]struct{}{}
	}
	l.subs[subject][c] = struct{}{}
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs[subject], c)
		if len(l.subs[subject]) == 0 {
			delete(l.subs, subject)
		}
		close(c)
	})
	return c, nil
}
