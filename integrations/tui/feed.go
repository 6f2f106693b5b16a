package tui

import (
	"context"
	"iter"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
)

// gap is how long a feed gathers before it tells the screen: pieces of text come
// faster than anybody reads.
const gap = 33 * time.Millisecond

// maxBatch bounds what one message to the screen holds.
const maxBatch = 512

// batch is what a feed gathered.
type batch[T any] struct {
	items []T
	err   error
	// ended says that nothing more comes.
	ended bool
}

// feed reads an iterator in its own goroutine and hands out batches. The goroutine
// ends with the iterator or its context.
type feed[T any] struct {
	in     chan batch[T]
	cancel context.CancelFunc
	pause  time.Duration
}

// newFeed starts reading; wg is done when the reading has ended.
func newFeed[T any](ctx context.Context, wg *sync.WaitGroup, pause time.Duration, seq func(context.Context) iter.Seq2[T, error]) *feed[T] {
	ctx, cancel := context.WithCancel(ctx)
	f := &feed[T]{in: make(chan batch[T]), cancel: cancel, pause: pause}
	raw := make(chan batch[T], 64)
	wg.Go(func() {
		defer close(raw)
		for v, err := range seq(ctx) {
			b := batch[T]{err: err}
			if err == nil {
				b.items = []T{v}
			}
			select {
			case raw <- b:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	wg.Go(func() { f.gather(ctx, raw) })
	return f
}

// gather joins what comes in one pause.
func (f *feed[T]) gather(ctx context.Context, raw <-chan batch[T]) {
	defer close(f.in)
	for {
		b, ok := <-raw
		if !ok {
			return
		}
		stop := time.After(f.pause)
		for more := f.pause > 0 && b.err == nil; more && len(b.items) < maxBatch; {
			select {
			case n, ok := <-raw:
				if more = ok; ok {
					b.items = append(b.items, n.items...)
					b.err = n.err
					more = n.err == nil
				}
			case <-stop:
				more = false
			case <-ctx.Done():
				more = false
			}
		}
		select {
		case f.in <- b:
		case <-ctx.Done():
			return
		}
	}
}

// next waits for a batch and makes a message of it.
func (f *feed[T]) next(msg func(batch[T]) tea.Msg) tea.Cmd {
	return func() tea.Msg {
		b, ok := <-f.in
		if !ok {
			b.ended = true
		}
		return msg(b)
	}
}

func (f *feed[T]) stop() {
	if f != nil {
		f.cancel()
	}
}
