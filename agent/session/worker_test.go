package session_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// work runs a worker until done says so.
func work(t *testing.T, w *session.Worker, done func() bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- w.Serve(ctx) }()
	for !done() {
		time.Sleep(2 * time.Millisecond)
	}
	stop()
	if err := <-end; err != nil {
		t.Fatal(err)
	}
}

func ended(t *testing.T, b *session.Book, n int) func() bool {
	return func() bool {
		all, err := session.List(t.Context(), b.Journal, session.Filter{})
		if err != nil {
			t.Error(err)
			return true
		}
		left := n
		for _, s := range all {
			for _, turn := range s.Turns {
				if turn.State.Ended() {
					left--
				}
			}
		}
		return left <= 0
	}
}

func TestWorkerAnswersByPriorityAndWithinItsBounds(t *testing.T) {
	t.Parallel()
	st := open(t)
	b := &session.Book{Journal: st}
	var order []string
	for i, p := range []session.Priority{session.Low, session.Normal, session.High} {
		a := ask(fmt.Sprintf("q%d", i))
		a.Priority = p
		if _, _, err := b.Ask(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	w := &session.Worker{Book: b, Queue: st, Concurrency: 1, Investigate: func(ctx context.Context, j session.Job) (incident.Report, error) {
		order = append(order, j.Question.Text)
		return record(ctx, st, j, "it is the "+j.Question.Text), nil
	}}
	work(t, w, ended(t, b, 3))
	if got := strings.Join(order, " "); got != "q2 q1 q0" {
		t.Errorf("answered as %s", got)
	}
	all, _ := session.List(t.Context(), st, session.Filter{Text: "q2"})
	if len(all) != 1 || all[0].Turns[0].Headline != "it is the q2" || all[0].Turns[0].Run != all[0].Turns[0].ID {
		t.Errorf("%+v", all)
	}

	var now, most atomic.Int32
	for i := range 6 {
		a := ask(fmt.Sprintf("storm %d", i))
		a.Source = session.Alertmanager
		if _, _, err := b.Ask(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	w = &session.Worker{Book: b, Queue: st, Concurrency: 4, PerSource: map[string]int{session.Alertmanager: 2}, Investigate: func(ctx context.Context, j session.Job) (incident.Report, error) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		time.Sleep(5 * time.Millisecond)
		return record(ctx, st, j, "x"), nil
	}}
	work(t, w, ended(t, b, 9))
	if most.Load() > 2 {
		t.Errorf("%d alerts at once, the bound is 2", most.Load())
	}
}

// A worker that is gone leaves a turn that is running: what reached its end counts, what
// did not is abandoned and begun again, what was interrupted is begun again though its end
// was told, and at the last attempt it has failed.
func TestWorkerTakesUpWhatAnotherLeft(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		leave    func(ctx context.Context, st store.Store, j session.Job)
		state    session.TurnState
		run      string
		headline string
		attempts int
	}{
		"it had ended":     {func(ctx context.Context, st store.Store, j session.Job) { record(ctx, st, j, "found by the first") }, session.Answered, "", "found by the first", 1},
		"before its start": {func(context.Context, store.Store, session.Job) {}, session.Answered, "-2", "found by the second", 2},
		"in the middle": {func(ctx context.Context, st store.Store, j session.Job) {
			log := store.NewRunLog(ctx, st, store.RunLogOptions{})
			event.NewRecorder(j.Run, time.Now, log).Emit(event.Event{Type: event.RunStarted, Started: &event.Started{Question: j.Question}})
		}, session.Answered, "-2", "found by the second", 2},
		"interrupted, and its end told": {func(ctx context.Context, st store.Store, j session.Job) {
			r := event.NewRecorder(j.Run, time.Now, store.NewRunLog(ctx, st, store.RunLogOptions{}))
			r.Emit(event.Event{Type: event.RunStarted, Started: &event.Started{Question: j.Question}})
			r.Emit(event.Event{Type: event.RunEnded, Report: &incident.Report{ID: j.Run, Stop: incident.StopInterrupted, Diagnosis: incident.Diagnosis{Outcome: incident.Inconclusive}}})
		}, session.Answered, "-2", "found by the second", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := open(t)
			b := &session.Book{Journal: st}
			s, turn, err := b.Ask(t.Context(), ask("why"))
			if err != nil {
				t.Fatal(err)
			}
			died := make(chan struct{})
			dead, kill := context.WithCancel(t.Context())
			first := &session.Worker{Book: b, Queue: st, Lease: 20 * time.Millisecond, Investigate: func(ctx context.Context, j session.Job) (incident.Report, error) {
				tc.leave(ctx, st, j)
				close(died)
				<-ctx.Done()
				return incident.Report{}, ctx.Err()
			}}
			first.Grace = time.Nanosecond
			go func() { <-died; kill() }()
			if err := first.Serve(dead); err != nil {
				t.Fatal(err)
			}
			second := &session.Worker{Book: b, Queue: st, Investigate: func(ctx context.Context, j session.Job) (incident.Report, error) {
				return record(ctx, st, j, "found by the second"), nil
			}}
			work(t, second, ended(t, b, 1))
			s, err = b.Get(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := s.Turn(turn.ID)
			if got.State != tc.state || got.Run != turn.ID+tc.run || got.Headline != tc.headline || got.Attempt != tc.attempts {
				t.Errorf("%+v", got)
			}
			if tc.attempts == 2 && name == "in the middle" {
				if r, err := store.LoadRun(t.Context(), st, turn.ID); err != nil || r.State != store.RunAbandoned {
					t.Errorf("the first run is %s (%v)", r.State, err)
				}
			}
		})
	}
}

func TestWorkerGivesUp(t *testing.T) {
	t.Parallel()
	st := open(t)
	b := &session.Book{Journal: st}
	s, _, err := b.Ask(t.Context(), ask("why"))
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		ctx, kill := context.WithCancel(t.Context())
		w := &session.Worker{Book: b, Queue: st, Attempts: 2, Grace: time.Nanosecond, Investigate: func(ctx context.Context, _ session.Job) (incident.Report, error) {
			kill()
			<-ctx.Done()
			return incident.Report{}, ctx.Err()
		}}
		go func() { // the last server has nothing to begin
			for !ended(t, b, 1)() && ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
			kill()
		}()
		if err := w.Serve(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = b.Get(t.Context(), s.ID); err != nil || s.Turns[0].State != session.Failed || !strings.Contains(s.Turns[0].Reason, "2 times") {
		t.Errorf("%+v (%v)", s.Turns, err)
	}
}

// A question that is taken back ends its run, also when another process took it back.
func TestCancelReachesTheRun(t *testing.T) {
	t.Parallel()
	st := open(t)
	b := &session.Book{Journal: st}
	s, turn, err := b.Ask(t.Context(), ask("why"))
	if err != nil {
		t.Fatal(err)
	}
	var gone atomic.Bool
	w := &session.Worker{Book: b, Queue: st, Lease: 20 * time.Millisecond, Investigate: func(ctx context.Context, _ session.Job) (incident.Report, error) {
		if _, err := b.Cancel(ctx, s.ID, turn.ID, "taken back by ann"); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		gone.Store(true)
		return incident.Report{}, ctx.Err()
	}}
	work(t, w, gone.Load)
	if s, err = b.Get(t.Context(), s.ID); err != nil || s.Turns[0].State != session.Cancelled || s.Turns[0].Reason != "taken back by ann" {
		t.Errorf("%+v (%v)", s.Turns, err)
	}
}
