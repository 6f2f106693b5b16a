package jetstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
)

func TestOutputs(t *testing.T) {
	t.Parallel()
	s, other := pair(t, func(c *jetstream.Config) { c.OutputBytes = 8 << 20 })
	o := s.Outputs(t.Context())
	raw := bytes.Repeat([]byte("0123456789"), 150_000) // three parts
	id := digest(raw)
	if _, err := o.Get(id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an output that is not there: %v", err)
	}
	for range 2 {
		if err := o.Put(id, raw); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := other.Outputs(t.Context()).Get(id); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("%d bytes come back, %v", len(got), err)
	}
	if err := o.Put(digest(nil), nil); err != nil {
		t.Error(err)
	}
	if got, err := o.Get(digest(nil)); err != nil || got == nil || len(got) != 0 {
		t.Errorf("an empty output comes back as %v, %v", got, err)
	}
	for _, bad := range []string{"", "sha256:", "md5:" + id[7:], id[7:], strings.ToUpper(id), id + "0", "sha256:" + strings.Repeat("g", 64)} {
		if err := o.Put(bad, raw); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("put %q: %v", bad, err)
		}
		if _, err := o.Get(bad); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("get %q: %v", bad, err)
		}
	}
	if err := o.Put(id, raw[1:]); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("an output under a digest that is not its own: %v", err)
	}
	if err := o.Put(digest(make([]byte, 9<<20)), make([]byte, 9<<20)); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("an output above the bound: %v", err)
	}
	// What was changed in the store is not evidence, and is mended by the next Put.
	if _, err := s.Raw().Request("gumshoe.o."+id[7:]+".1", []byte("other"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Get(id); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged output: %v", err)
	}
	if err := o.Put(id, raw); err != nil {
		t.Fatal(err)
	}
	if got, err := o.Get(id); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("after it was put again %d bytes come back, %v", len(got), err)
	}
	// The oldest go when there are too many bytes.
	var newest string
	for i := range 10 {
		b := append(bytes.Clone(raw), byte(i))
		newest = digest(b)
		if err := o.Put(newest, b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.Get(id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the oldest output beyond the bound: %v", err)
	}
	if _, err := o.Get(newest); err != nil {
		t.Errorf("the newest output: %v", err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	s, other := pair(t, nil)
	at := uint64(0)
	for i := range 5 {
		last := mustAppend(t, s, fmt.Sprintf("run.%d", i), 0, text("1"), text("2"))
		if i == 0 {
			at = last
		}
	}
	mustAppend(t, s, "run.0", at, text("3")) // the one appended to last
	mustAppend(t, s, "plan.a", 0, text("asked"))
	mustAppend(t, s, "session.a", 0, text("hello"))
	n, err := s.Prune(t.Context(), jetstream.Retention{Pattern: store.Runs, Keep: 2, Spare: func(subject string) bool { return subject == "run.2" }})
	if err != nil || n != 2 {
		t.Errorf("prune gives %d, %v", n, err)
	}
	for _, p := range []*jetstream.Store{s, other} {
		if got := names(t, p, ">"); got != "plan.a run.0 run.2 run.4 session.a" {
			t.Errorf("left are %s", got)
		}
		want(t, p, "run.1")
		want(t, p, "run.0", "1", "2", "3")
	}
	for _, r := range []jetstream.Retention{{Pattern: ">", Keep: 1}, {Pattern: "plan.>", Keep: 1}, {Pattern: "run.>"}, {Pattern: "run.*", Keep: 1}} {
		if _, err := s.Prune(t.Context(), r); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("prune %+v: %v", r, err)
		}
	}
	want(t, s, "plan.a", "asked")
}

func TestDelete(t *testing.T) {
	t.Parallel()
	s, other := pair(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	seen := make(chan string, 16)
	over := make(chan error, 1)
	go func() {
		for r, err := range other.Watch(ctx, "session.>", nil) {
			if err != nil {
				over <- err
				return
			}
			seen <- string(r.Data)
		}
		over <- nil
	}()
	first := mustAppend(t, s, "session.a", 0, text("1"), large("2"))
	mustAppend(t, s, "session.a.deep", 0, text("other"))
	next := func(n int) {
		t.Helper()
		for range n {
			select {
			case <-seen:
			case err := <-over:
				t.Fatalf("the watch ended: %v", err)
			case <-time.After(patience):
				t.Fatal("the watch stands still")
			}
		}
	}
	next(3)
	if err := s.Delete(t.Context(), "session.a", "session.none"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, other, "session.>"); got != "session.a.deep" {
		t.Errorf("left are %s", got)
	}
	want(t, other, "session.a")
	// Who did not hear of it does not go on behind what is gone.
	_, err := other.Append(t.Context(), "session.a", first, text("late"))
	if c, ok := errors.AsType[*store.ConflictError](err); !ok || c.Last != 0 {
		t.Errorf("an append behind a deleted record: %v", err)
	}
	again := mustAppend(t, other, "session.a", 0, text("3"))
	if again <= first {
		t.Errorf("sequence %d comes a second time, after %d", again, first)
	}
	mustAppend(t, other, "session.a", again, text("4"))
	want(t, s, "session.a", "3", "4")
	next(2)
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"plan.a", "audit.log", "approval.x", "", "session.>"} {
		if err := s.Delete(t.Context(), bad); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("delete %q: %v", bad, err)
		}
	}
	// Work that is deleted is not handed out, and its claims go with it.
	one := mustAppend(t, s, "work.q.a", 0, text("a"))
	mustAppend(t, s, "work.q.b", 0, text("b"))
	c, err := s.Claim(t.Context(), "work.q", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Delete(t.Context(), "work.q.a", "work.q.b"); err != nil {
		t.Fatal(err)
	}
	if err := c.Lease.Extend(t.Context(), time.Minute); !errors.Is(err, store.ErrLost) {
		t.Errorf("a lease on what was deleted: %v", err)
	}
	if c, err := s.Claim(t.Context(), "work.q", time.Minute); !errors.Is(err, store.ErrNothing) {
		t.Errorf("deleted work: %+v, %v", c, err)
	}
	if two := mustAppend(t, s, "work.q.a", 0, text("a again")); two <= one {
		t.Errorf("sequence %d after %d", two, one)
	}
	if c, err := other.Claim(t.Context(), "work.q", time.Minute); err != nil || c.Attempt != 1 || string(c.Record.Data) != `"a again"` {
		t.Errorf("work that was put again: %+v, %v", c, err)
	}
}

// Not even a client of NATS deletes what is permanent.
func TestPermanent(t *testing.T) {
	t.Parallel()
	s, other := pair(t, nil)
	mustAppend(t, s, "plan.a", 0, text("asked"))
	for api, req := range map[string]any{
		"STREAM.PURGE.gumshoe-kept":      map[string]any{},
		"STREAM.MSG.DELETE.gumshoe-kept": map[string]any{"seq": 1},
	} {
		raw, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.Raw().Request("$JS.API."+api, raw, time.Minute)
		if err != nil || !strings.Contains(string(m.Data), `"error"`) {
			t.Errorf("%s: %v", api, err)
		}
	}
	want(t, other, "plan.a", "asked")
}

func TestLive(t *testing.T) {
	t.Parallel()
	s, other := pair(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	one, err := s.Subscribe(ctx, "delta.a")
	if err != nil {
		t.Fatal(err)
	}
	many, err := other.Subscribe(t.Context(), "delta.>")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := other.Publish(t.Context(), "delta.a", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		for name, c := range map[string]<-chan []byte{"one": one, "many": many} {
			select {
			case b := <-c:
				if string(b) != fmt.Sprint(i) {
					t.Errorf("%s: event %d is %s", name, i, b)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: event %d does not come", name, i)
			}
		}
	}
	stop()
	for range one { // until it is closed
	}
	// Nobody waits for a subscriber that does not read.
	for range 5000 {
		if err := s.Publish(t.Context(), "delta.b", make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range many { // it is closed with the store
		n++
	}
	if n >= 5000 {
		t.Errorf("%d events were kept for a subscriber that did not read", n)
	}
	if err := s.Publish(t.Context(), "delta.>", nil); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("publish to a pattern: %v", err)
	}
	if err := s.Publish(t.Context(), "delta.a", make([]byte, jetstream.MaxLive+1)); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("a large event: %v", err)
	}
	if _, err := s.Subscribe(t.Context(), "*"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("subscribe to *: %v", err)
	}
	if err := other.Publish(t.Context(), "delta.a", nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("publish on a closed store: %v", err)
	}
}

// An append that was cut off between its parts is not there, for any reader, and
// the next writer goes on behind it.
func TestCutOff(t *testing.T) {
	t.Parallel()
	s, other := pair(t, nil)
	at := mustAppend(t, s, "run.a", 0, text("1"))
	if err := s.Cut(t.Context(), "run.a", at, large("cut"), text("off")); err != nil {
		t.Fatal(err)
	}
	if err := s.Cut(t.Context(), "run.new", 0, large("cut")); err != nil {
		t.Fatal(err)
	}
	want(t, other, "run.a", "1")
	want(t, other, "run.new")
	for i, err := range other.List(t.Context(), "run.>") {
		if err != nil || i.Subject != "run.a" || i.Last != at || i.Type != "note" {
			t.Errorf("the list has %+v, %v", i, err)
		}
	}
	if _, err := other.Append(t.Context(), "run.a", 0, text("late")); err == nil {
		t.Error("a conflict behind an append that was cut off is not seen")
	}
	fresh := make(chan error, 1)
	go func() {
		_, err := s.Append(t.Context(), "run.new", 0, text("n"))
		fresh <- err
	}()
	two := mustAppend(t, other, "run.a", at, text("2"), large("3"))
	if err := <-fresh; err != nil {
		t.Fatal(err)
	}
	want(t, s, "run.a", "1", "2", "3")
	want(t, s, "run.new", "n")
	// A reader that begins in the middle of an append finds its beginning.
	for _, after := range []uint64{at + 101, at + 201, two - 150, two - 1} {
		n := 0
		for r, err := range s.Load(t.Context(), "run.a", after) {
			if err != nil || r.Seq <= after {
				t.Fatalf("after %d: %+v, %v", after, r.Seq, err)
			}
			n++
		}
		if n != 2 && after < two-1 || after == two-1 && n != 1 {
			t.Errorf("after %d there are %d records", after, n)
		}
		ctx, stop := context.WithCancel(t.Context())
		for _, pattern := range []string{"run.a", "run.>"} {
			seen := 0
			for r, err := range s.Watch(ctx, pattern, store.After(after)) {
				if err != nil {
					t.Fatalf("watch %s after %d: %v", pattern, after, err)
				}
				if r.Subject == "run.a" {
					if seen++; seen == n {
						break
					}
				}
			}
		}
		stop()
	}
}
