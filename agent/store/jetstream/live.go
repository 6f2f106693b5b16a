package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Bounds of live events that wait for a slow subscriber; newer ones are dropped.
const (
	maxLive      = 1024
	maxLiveBytes = 8 << 20
	// MaxLive is the largest live event, in bytes.
	MaxLive = 256 << 10
)

// Publish tells whoever is subscribed to a subject at the moment, in any process.
// Nothing is kept and nobody waits: what a subscriber misses is lost. It is for
// what is worth seeing only now, such as the text of a model as it is written.
func (s *Store) Publish(ctx context.Context, subject string, data []byte) error {
	if err := store.CheckSubject(subject); err != nil {
		return err
	}
	if len(data) > MaxLive {
		return fmt.Errorf("a live event of %d bytes is %w: at most %d", len(data), store.ErrTooLarge, MaxLive)
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	err := s.nc.Publish(s.subject(liveToken, subject), data)
	if err != nil && !errors.Is(err, nats.ErrReconnectBufExceeded) { // nobody can be told now
		return fmt.Errorf("publish to %s: %w", subject, err)
	}
	return nil
}

// Subscribe gives what is published to a subject from now on, until ctx or the
// store ends; the channel is closed then. The pattern may be one of many
// subjects.
func (s *Store) Subscribe(ctx context.Context, pattern string) (<-chan []byte, error) {
	if err := store.CheckPattern(pattern); err != nil {
		return nil, err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	sub, err := s.nc.SubscribeSync(s.subject(liveToken, pattern))
	if err == nil {
		err = sub.SetPendingLimits(maxLive, maxLiveBytes)
	}
	if err == nil { // what is published after this call comes
		flush, cancel := context.WithTimeout(ctx, s.cfg.Wait)
		err = s.nc.FlushWithContext(flush)
		cancel()
	}
	if err != nil {
		if sub != nil {
			_ = sub.Unsubscribe()
		}
		return nil, fmt.Errorf("subscribe to %s: %w", pattern, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(s.ctx, cancel)
	out := make(chan []byte)
	s.loop.Go(func() {
		defer close(out)
		defer unhook()
		defer cancel()
		defer func() { _ = sub.Unsubscribe() }()
		for {
			m, err := sub.NextMsgWithContext(ctx)
			if errors.Is(err, nats.ErrSlowConsumer) {
				continue
			}
			if err != nil {
				return
			}
			select {
			case out <- m.Data:
			case <-ctx.Done():
				return
			}
		}
	})
	return out, nil
}
