package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
)

// journalled writes a run of so many looks with texts of a size, and its end.
func journalled(t *testing.T, svc stage, run string, looks, size int) {
	t.Helper()
	rec := event.NewRecorder(run, time.Now, store.NewRunLog(t.Context(), svc.Keep, store.RunLogOptions{Failed: func(err error) { t.Error(err) }}))
	rec.Emit(event.Event{Type: event.RunStarted, Started: &event.Started{Question: incident.Question{Text: "why"}, Model: "offline"}})
	for i := range looks {
		rec.Emit(event.Event{Type: event.ToolFinished, Evidence: &incident.Evidence{ID: fmt.Sprintf("E%d", i+1), Tool: "kube_get", Text: strings.Repeat("x", size)}})
	}
	rec.Emit(event.Event{Type: event.RunEnded, Report: &incident.Report{ID: run, Stop: incident.StopDone}})
}

// watched counts the streams of events that ended on the server.
type watched struct {
	api.Service
	ended chan string
}

func (w watched) Events(ctx context.Context, id string, after uint64) iter.Seq2[session.Told, error] {
	return func(yield func(session.Told, error) bool) {
		defer func() { w.ended <- id }()
		w.Service.Events(ctx, id, after)(yield)
	}
}

// A client that connects and does not read is cut off, and can take the stream up again
// without losing an event.
func TestSlowClientIsCutOff(t *testing.T) {
	t.Parallel()
	svc := staged(t)
	const run, looks = "run-00000000000000b1", 24
	journalled(t, svc, run, looks, 600<<10)
	w := watched{svc, make(chan string, 10)}
	r := server(t, w, api.Config{WriteTimeout: access.Duration(100 * time.Millisecond)}, nil)
	resp, err := http.DefaultClient.Do(r.request(t, "vic", "GET", "/api/v1/runs/"+run+"/events"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got := <-w.ended; got != run {
		t.Fatal(got)
	}
	// What the connection held is still read: whole events, then the end of it.
	some := frames(t, resp.Body, looks+10)
	if len(some) >= looks {
		t.Fatalf("%d events came to somebody who did not read", len(some))
	}
	seen, after := 0, uint64(len(some))
	for told, err := range server(t, svc, api.Config{}, nil).as(t, "vic", hurry).Events(t.Context(), run, after) {
		if err != nil {
			t.Fatal(err)
		}
		if told.Seq != after+1 {
			t.Fatalf("event %d behind %d", told.Seq, after)
		}
		after, seen = told.Seq, seen+1
	}
	if len(some)+seen != looks+2 {
		t.Errorf("%d and %d events of %d", len(some), seen, looks+2)
	}
}

// way is a connection to a server that a test breaks off after so many bytes, or
// whose end it moves.
func way(t *testing.T, where func() string, after int64) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(where(), "http://"))
			if err != nil {
				_ = in.Close()
				continue
			}
			both := func() { _, _ = in.Close(), out.Close() }
			open.Go(func() { defer both(); _, _ = io.Copy(out, in) })
			open.Go(func() { defer both(); _, _ = io.CopyN(in, out, after) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); open.Wait() })
	return "http://" + l.Addr().String()
}

// A client behind a connection that breaks off again and again gets every record once
// and in order, of a run and of everything.
func TestStreamsAreTakenUpAgain(t *testing.T) {
	t.Parallel()
	svc := staged(t)
	const run, looks = "run-00000000000000b2", 60
	journalled(t, svc, run, looks, 500)
	r := server(t, svc, api.Config{}, nil)
	var again atomic.Int64
	c := r.as(t, "ann", func(cfg *client.Config) {
		hurry(cfg)
		cfg.URL = way(t, func() string { return r.url }, 4000)
		cfg.OnRetry = func(error, time.Duration) { again.Add(1) }
	})
	next := uint64(1)
	for told, err := range c.Events(t.Context(), run, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if told.Seq != next {
			t.Fatalf("event %d, want %d", told.Seq, next)
		}
		next++
	}
	if next != looks+3 || again.Load() < 5 {
		t.Errorf("%d events over %d broken connections", next-1, again.Load())
	}
	// Sessions that are opened while the stream of everything breaks off.
	again.Store(0)
	const sessions = 40
	direct := r.as(t, "ann", nil)
	failed := make(chan error, 1)
	go func() {
		for i := range sessions {
			if _, _, err := direct.Ask(t.Context(), session.Ask{Question: incident.Question{Text: fmt.Sprintf("question %d", i)}}); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	seen, opened := map[string]uint64{}, 0
	for n, err := range c.Follow(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Seq != seen[n.Session]+1 {
			t.Fatalf("notice %d of session %s behind %d", n.Seq, n.Session, seen[n.Session])
		}
		if seen[n.Session] = n.Seq; n.Type == session.TypeAsked {
			if opened++; opened == sessions {
				break
			}
		}
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if again.Load() == 0 {
		t.Error("the connection never broke off")
	}
	// From a position: nothing that was seen comes again.
	for n, err := range c.Follow(t.Context(), func(subject string) uint64 { return seen[strings.TrimPrefix(subject, "session.")] - 1 }) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Seq != seen[n.Session] {
			t.Fatalf("notice %d of %s, seen up to %d", n.Seq, n.Session, seen[n.Session]-1)
		}
		if opened--; opened == 0 {
			break
		}
	}
}

// toldBy is a service whose streams a test speaks.
type toldBy struct {
	api.Service
	events func(ctx context.Context, after uint64, yield func(session.Told, error) bool)
}

func (s toldBy) Events(ctx context.Context, _ string, after uint64) iter.Seq2[session.Told, error] {
	return func(yield func(session.Told, error) bool) { s.events(ctx, after, yield) }
}

func fact(seq uint64, at time.Time) session.Told {
	return session.Told{Seq: seq, Event: event.Event{Seq: seq, Run: "run-1", Type: event.Found, At: at}}
}

// What is only told live has no id; a quiet stream says that it lives; one that has
// ended says so.
func TestLiveAndQuiet(t *testing.T) {
	t.Parallel()
	more := make(chan struct{})
	svc := toldBy{events: func(ctx context.Context, _ uint64, yield func(session.Told, error) bool) {
		_ = yield(fact(1, time.Now()), nil) && yield(session.Told{Event: event.Event{Run: "run-1", Type: event.Delta, Model: &event.Model{Text: "two\nlines"}}}, nil)
		select {
		case <-more:
			yield(fact(2, time.Now()), nil)
		case <-ctx.Done():
		}
	}}
	r := server(t, svc, api.Config{KeepAlive: access.Duration(5 * time.Millisecond)}, nil)
	resp, err := http.DefaultClient.Do(r.request(t, "vic", "GET", "/api/v1/runs/run-1/events"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body := bufio.NewReader(resp.Body)
	var read strings.Builder
	for alive := 0; alive < 3; {
		line, err := body.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		read.WriteString(line)
		if line == ": alive\n" {
			alive++
		}
	}
	close(more)
	rest, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	read.Write(rest)
	got := frames(t, strings.NewReader(read.String()), 10)
	if len(got) != 4 || got[0].id != "1" || got[1].id != "" || got[1].name != "model.delta" || got[2].id != "2" || got[3].name != "end" || got[3].data != `{"seq":2}` {
		t.Fatalf("%+v", got)
	}
	var e event.Event
	if err := json.Unmarshal([]byte(got[1].data), &e); err != nil || e.Model.Text != "two\nlines" {
		t.Errorf("%+v (%v)", e, err)
	}
}

// An error before the first event is the answer; one within the stream is an event, and
// a client goes on where that may help.
func TestErrorsOfStreams(t *testing.T) {
	t.Parallel()
	var mode atomic.Value
	mode.Store("none")
	var opened atomic.Int64
	svc := toldBy{events: func(_ context.Context, after uint64, yield func(session.Told, error) bool) {
		opened.Add(1)
		gone := &tool.Error{Kind: tool.NotFound, User: "there is no run", Fix: "look again"}
		switch mode.Load() {
		case "none":
			yield(session.Told{}, gone)
		case "within":
			_ = yield(fact(1, time.Now()), nil) && yield(session.Told{}, gone)
		case "passing": // the store fails, and works again
			if after == 0 {
				_ = yield(fact(1, time.Now()), nil) && yield(session.Told{}, errors.New("disk /secret/path is full"))
				return
			}
			yield(fact(after+1, time.Now()), nil)
		case "lasting":
			yield(session.Told{}, errors.New("disk /secret/path is full"))
		}
	}}
	r := server(t, svc, api.Config{}, nil)
	follow := func(m string) (n int, err error) {
		mode.Store(m)
		opened.Store(0)
		c := r.as(t, "vic", func(cfg *client.Config) { hurry(cfg); cfg.Tries = 3 })
		for _, err := range c.Events(t.Context(), "run-1", 0) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	if n, err := follow("none"); n != 0 || tool.KindOf(err) != tool.NotFound || tool.UserText(err) != "there is no run; look again" || opened.Load() != 1 {
		t.Errorf("%d events, %v, opened %d times", n, err, opened.Load())
	}
	if n, err := follow("within"); n != 1 || tool.KindOf(err) != tool.NotFound || opened.Load() != 1 {
		t.Errorf("%d events, %v, opened %d times", n, err, opened.Load())
	}
	if n, err := follow("passing"); n != 2 || err != nil || opened.Load() != 2 {
		t.Errorf("%d events, %v, opened %d times", n, err, opened.Load())
	}
	if n, err := follow("lasting"); n != 0 || tool.KindOf(err) != tool.Internal || opened.Load() != 4 || strings.Contains(err.Error(), "secret") {
		t.Errorf("%d events, %v, opened %d times", n, err, opened.Load())
	}
}

// One that reads but has fallen far behind what happens now is cut off; history is not
// measured by that.
func TestFarBehind(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	begun := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	svc := toldBy{events: func(_ context.Context, after uint64, yield func(session.Told, error) bool) {
		if after > 0 {
			yield(fact(after+1, begun), nil)
			return
		}
		if !yield(fact(1, begun.Add(-time.Hour)), nil) {
			return
		}
		later.Store(int64(10 * time.Minute)) // meanwhile
		_ = yield(fact(2, begun.Add(time.Second)), nil) && yield(fact(3, begun.Add(2*time.Second)), nil)
	}}
	a, err := api.New(svc, api.Config{}, func() time.Time { return begun.Add(time.Duration(later.Load())) })
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, a, nil)
	resp, err := http.DefaultClient.Do(r.request(t, "vic", "GET", "/api/v1/runs/run-1/events"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasSuffix(string(raw), ": too slow: connect again with Last-Event-ID\n\n") || strings.Contains(string(raw), "id: 3") || !strings.Contains(string(raw), "id: 2") {
		t.Errorf("%s (%v)", raw, err)
	}
}

// A server that drains ends its streams, and clients go on at the next one.
func TestDrain(t *testing.T) {
	t.Parallel()
	open := make(chan struct{}, 10)
	svc := toldBy{events: func(ctx context.Context, after uint64, yield func(session.Told, error) bool) {
		if after > 0 {
			yield(fact(after+1, time.Now()), nil)
			return
		}
		if yield(fact(1, time.Now()), nil) {
			open <- struct{}{}
			<-ctx.Done()
		}
	}}
	for name, end := range map[string]func(*running){
		"the API":  func(r *running) { r.api.Drain(); r.api.Drain() },
		"the gate": func(r *running) { r.stop() },
	} {
		first, second := server(t, svc, api.Config{}, nil), server(t, svc, api.Config{}, nil)
		var where atomic.Value
		where.Store(first.url)
		c := first.as(t, "vic", func(cfg *client.Config) {
			hurry(cfg)
			cfg.URL = way(t, func() string { return where.Load().(string) }, math.MaxInt64)
			cfg.OnRetry = func(error, time.Duration) { where.Store(second.url) }
		})
		n := 0
		for told, err := range c.Events(t.Context(), "run-1", 0) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; told.Seq == 1 {
				<-open
				end(first)
			}
		}
		if n != 2 || where.Load() != second.url {
			t.Errorf("%s drains: %d events, from %s", name, n, where.Load())
		}
	}
}
