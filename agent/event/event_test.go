package event_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecorderStampsInOrder(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	var got []event.Event
	r := event.NewRecorder("run-1", func() time.Time { return at }, event.SinkFunc(func(e event.Event) { got = append(got, e) }))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { r.Emit(event.Event{Type: event.ToolStarted}) })
	}
	wg.Wait()
	for i, e := range got {
		if e.Seq != uint64(i+1) || e.Run != "run-1" || !e.At.Equal(at) {
			t.Fatalf("event %d is %+v", i, e)
		}
	}
	if len(got) != 50 {
		t.Errorf("%d events", len(got))
	}
}

// A reader that does not read loses deltas and no facts.
func TestBrokerDropsDeltasOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		b := event.NewBroker()
		s := b.Subscribe(ctx, 4)
		for i := range 20 {
			b.Emit(event.Event{Seq: uint64(i), Type: event.Delta})
			b.Emit(event.Event{Seq: uint64(i), Type: event.Found})
		}
		synctest.Wait()
		facts, deltas := 0, 0
		for facts < 20 {
			e := <-s.Events()
			if e.Type == event.Found {
				if e.Seq != uint64(facts) {
					t.Fatalf("fact %d came as number %d", e.Seq, facts)
				}
				facts++
			} else {
				deltas++
			}
		}
		if s.Dropped() == 0 || int(s.Dropped())+deltas != 20 {
			t.Errorf("%d deltas came, %d dropped, of 20", deltas, s.Dropped())
		}
		cancel()
		synctest.Wait()
		if _, open := <-s.Events(); open {
			t.Error("the channel is open after the reader left")
		}
		b.Emit(event.Event{Type: event.Found})
	})
}

func TestTee(t *testing.T) {
	t.Parallel()
	var a, b int
	event.Tee(event.SinkFunc(func(event.Event) { a++ }), event.SinkFunc(func(event.Event) { b++ })).Emit(event.Event{})
	if a != 1 || b != 1 {
		t.Errorf("a %d, b %d", a, b)
	}
}
