package event

import (
	"context"
	"sync"
	"sync/atomic"
)

// Broker hands the events of running investigations to any number of readers.
//
// Delivery: facts are never dropped; a reader's queue of facts grows without
// bound, because a run emits at most a few hundred. Droppable events (deltas)
// are discarded for a reader that has more than its buffer waiting, and counted.
// Order is kept per reader. A reader that goes away is forgotten.
type Broker struct {
	mu   sync.Mutex
	subs map[*Subscription]struct{}
}

var _ Sink = (*Broker)(nil)

// NewBroker makes a broker without readers.
func NewBroker() *Broker { return &Broker{subs: map[*Subscription]struct{}{}} }

// Emit implements Sink; it never blocks on a reader.
func (b *Broker) Emit(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		s.push(e)
	}
}

// Subscribe starts a reader. buffer is how many events may wait before
// droppable ones are discarded. The channel closes when ctx ends.
func (b *Broker) Subscribe(ctx context.Context, buffer int) *Subscription {
	s := &Subscription{buffer: max(buffer, 1), ready: make(chan struct{}, 1), out: make(chan Event)}
	b.mu.Lock()
	b.subs[s] = struct{}{}
	b.mu.Unlock()
	go func() {
		defer func() {
			b.mu.Lock()
			delete(b.subs, s)
			b.mu.Unlock()
			close(s.out)
		}()
		s.pump(ctx)
	}()
	return s
}

// Subscription is one reader of a Broker.
type Subscription struct {
	mu      sync.Mutex
	queue   []Event
	buffer  int
	ready   chan struct{}
	out     chan Event
	dropped atomic.Uint64
}

// Events gives the reader's channel.
func (s *Subscription) Events() <-chan Event { return s.out }

// Dropped counts the events this reader missed.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

func (s *Subscription) push(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= s.buffer && e.Type.Droppable() {
		s.dropped.Add(1)
		return
	}
	s.queue = append(s.queue, e)
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *Subscription) pump(ctx context.Context) {
	for {
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, e := range batch {
			select {
			case s.out <- e:
			case <-ctx.Done():
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return
		}
	}
}
