package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
)

// gather watches until it has seen n records of every subject, and says so.
func gather(t *testing.T, s *jetstream.Store, pattern string, n int) (wait func()) {
	t.Helper()
	over := make(chan error, 1)
	go func() {
		seen, total := map[string]int{}, 0
		for r, err := range s.Watch(t.Context(), pattern, nil) {
			if err != nil {
				over <- err
				return
			}
			if want := fmt.Sprintf("%q", fmt.Sprint(seen[r.Subject])); string(r.Data) != want {
				over <- fmt.Errorf("%s: %s comes where %s is due", r.Subject, r.Data, want)
				return
			}
			seen[r.Subject]++
			if total++; total == n {
				break
			}
		}
		over <- nil
	}()
	return func() {
		t.Helper()
		select {
		case err := <-over:
			if err != nil {
				t.Errorf("watch %s: %v", pattern, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("watch %s stands still", pattern)
		}
	}
}

// write appends numbers to a subject.
func write(t *testing.T, s *jetstream.Store, subject string, n int, each func(i int)) {
	at := uint64(0)
	for i := range n {
		last, err := s.Append(t.Context(), subject, at, text(fmt.Sprint(i)))
		if err != nil {
			t.Errorf("append %d to %s: %v", i, subject, err)
			return
		}
		at = last
		each(i)
	}
}

// The server goes away and comes back: appends wait, nothing that was
// acknowledged is lost, nothing is there twice, and watches go on.
func TestServerAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv := serve(t, dir, 0)
	url := srv.ClientURL()
	port := freePortOf(t, srv)
	cfg := jetstream.Config{URLs: []string{url}, Poll: 50 * time.Millisecond}
	s, other := opened(t, cfg), opened(t, cfg)
	waits := []func(){gather(t, other, "run.>", 120), gather(t, s, "run.a", 60), gather(t, s, "run.>", 120)}
	var wg sync.WaitGroup
	gone := make(chan struct{})
	for _, subject := range []string{"run.a", "run.b"} {
		wg.Go(func() {
			write(t, s, subject, 60, func(i int) {
				if i == 20 && subject == "run.a" {
					close(gone)
				}
			})
		})
	}
	<-gone
	srv.Shutdown()
	srv.WaitForShutdown()
	if err := s.Health(t.Context()); err == nil {
		t.Error("a store whose server is gone is healthy")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := other.Append(ctx, "run.c", 0, text("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an append while the server is gone: %v", err)
	}
	serve(t, dir, port)
	wg.Wait()
	for _, wait := range waits {
		wait()
	}
	for _, subject := range []string{"run.a", "run.b"} {
		if got, err := all(t, other, subject); err != nil || len(got) != 60 {
			t.Errorf("%s holds %d records, %v", subject, len(got), err)
		}
	}
	if err := s.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func freePortOf(t *testing.T, s *server.Server) int {
	t.Helper()
	var port int
	if _, err := fmt.Sscanf(s.ClientURL()[strings.LastIndexByte(s.ClientURL(), ':'):], ":%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// One of three servers is killed while work is done: nothing is lost, nothing
// comes twice, nobody waits for it to come back.
func TestClusterNodeLost(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster is slow")
	}
	t.Parallel()
	c := cluster(t)
	cfg := jetstream.Config{URLs: strings.Split(c.urls(), ","), Replicas: 3, Poll: 50 * time.Millisecond}
	// Replicas of a Deployment start together: each of them may be the one that makes the
	// streams, and all of them are answered.
	var crowd sync.WaitGroup
	for range 5 {
		crowd.Go(func() {
			cfg := cfg
			cfg.Name = "crowd"
			s, err := jetstream.Open(t.Context(), cfg)
			if err != nil {
				t.Errorf("opened together with others: %v", err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	crowd.Wait()
	s, other := opened(t, cfg), opened(t, cfg)
	waits := []func(){gather(t, other, "run.>", 120), gather(t, s, "run.b", 60)}
	var wg sync.WaitGroup
	gone := make(chan struct{})
	for who, subject := range map[*jetstream.Store]string{s: "run.a", other: "run.b"} {
		wg.Go(func() {
			write(t, who, subject, 60, func(i int) {
				if i == 20 && subject == "run.a" {
					close(gone)
				}
			})
		})
	}
	<-gone
	for _, n := range c.all {
		if n.JetStreamIsStreamLeader("$G", "gumshoe-journal") {
			n.Shutdown()
			n.WaitForShutdown()
			break
		}
	}
	wg.Wait()
	for _, wait := range waits {
		wait()
	}
	for i := range 20 {
		mustAppend(t, s, fmt.Sprintf("work.q.%d", i), 0, text("job"))
	}
	done := map[string]bool{}
	for len(done) < 20 {
		cl, err := other.Claim(t.Context(), "work.q", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if done[cl.Record.Subject] {
			t.Errorf("%s comes again", cl.Record.Subject)
		}
		done[cl.Record.Subject] = true
		if err := cl.Lease.Done(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := s.Claim(t.Context(), "work.q", time.Minute); !errors.Is(err, store.ErrNothing) {
		t.Errorf("all is done, and %+v comes (%v)", c, err)
	}
}

// Several stores fire one timer: it comes once.
func TestTimerOnce(t *testing.T) {
	t.Parallel()
	s, other := pair(t, nil)
	for i := range 12 {
		key, entry := fmt.Sprintf("k.%d", i), large
		if i%2 == 0 {
			entry = text
		}
		if err := s.Schedule(t.Context(), store.Timer{Key: key, At: time.Now().Add(time.Duration(i) * 10 * time.Millisecond), Subject: "plan.a", Entry: entry(key)}); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int{}
	for r, err := range other.Watch(t.Context(), "plan.a", nil) {
		if err != nil {
			t.Fatal(err)
		}
		got[strings.TrimRight(string(r.Data), `x"`)]++
		if len(got) == 12 {
			break
		}
	}
	for _, at := range []*jetstream.Store{s, other} { // both have looked again by then
		mustAppend(t, at, fmt.Sprintf("run.%p", at), 0, text("x"))
	}
	if docs, err := all(t, s, "plan.a"); err != nil || len(docs) != 12 {
		t.Errorf("%d timers came, %v", len(docs), err)
	}
}
