package jetstream_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
)

func event() store.Entry {
	return store.Entry{Type: "tool.finished", Data: fmt.Appendf(nil, "%q", strings.Repeat("x", 2048))}
}

func benched(b *testing.B, dir string) *jetstream.Store {
	b.Helper()
	s, err := jetstream.Open(b.Context(), jetstream.Config{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// One record of 2 KiB, on the disk when it is acknowledged.
func BenchmarkAppend(b *testing.B) {
	s := benched(b, b.TempDir())
	at, e := uint64(0), event()
	for b.Loop() {
		last, err := s.Append(b.Context(), "run.a", at, e)
		if err != nil {
			b.Fatal(err)
		}
		at = last
	}
}

// A subject of 50,000 records in appends of 100. What Load holds is bounded by
// its batches, not by the subject.
func BenchmarkLoad(b *testing.B) {
	s := benched(b, b.TempDir())
	at := uint64(0)
	es := make([]store.Entry, 100)
	for i := range es {
		es[i] = event()
	}
	for range 500 {
		last, err := s.Append(b.Context(), "run.a", at, es...)
		if err != nil {
			b.Fatal(err)
		}
		at = last
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range s.Load(b.Context(), "run.a", 0) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 50_000 {
			b.Fatal(n)
		}
	}
}

// A server that starts with 1,000 plans, lists them and has 1,000 timers to keep.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	s := benched(b, dir)
	for i := range 1000 {
		if _, err := s.Append(b.Context(), fmt.Sprintf("plan.%d", i), 0, event(), event()); err != nil {
			b.Fatal(err)
		}
		if err := s.Schedule(b.Context(), store.Timer{Key: fmt.Sprintf("expiry.%d", i), At: time.Now().Add(24 * time.Hour), Subject: fmt.Sprintf("plan.%d", i), Entry: store.Entry{Type: "expired"}}); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := jetstream.Open(b.Context(), jetstream.Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for _, err := range s.List(b.Context(), "plan.>") {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// Work that is put into a queue, claimed and done.
func BenchmarkClaim(b *testing.B) {
	s := benched(b, b.TempDir())
	n := 0
	for b.Loop() {
		n++
		if _, err := s.Append(b.Context(), fmt.Sprintf("work.q.%d", n), 0, event()); err != nil {
			b.Fatal(err)
		}
		c, err := s.Claim(b.Context(), "work.q", time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Lease.Done(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
