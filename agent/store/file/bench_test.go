package file_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

// What the journal adds to one investigation: a directory is opened, a hundred
// records of 2 KiB are appended one by one, and the run is synced once.
func BenchmarkRun(b *testing.B) {
	dir := b.TempDir()
	e := store.Entry{Type: "tool.finished", Data: fmt.Appendf(nil, "%q", strings.Repeat("x", 2048))}
	n := 0
	for b.Loop() {
		s, err := file.Open(file.Config{Dir: dir, Lazy: []string{store.Runs}})
		if err != nil {
			b.Fatal(err)
		}
		subject := fmt.Sprintf("run.%d", n)
		n++
		h, err := s.Hold(b.Context(), subject)
		if err != nil {
			b.Fatal(err)
		}
		at := uint64(0)
		for range 100 {
			if at, err = s.Append(b.Context(), subject, at, e); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Sync(b.Context(), subject); err != nil {
			b.Fatal(err)
		}
		if err := h.Release(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Prune(b.Context(), file.Retention{Pattern: store.Runs, Keep: 200}); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// A list reads the ends of journals, not the whole of them.
func BenchmarkList(b *testing.B) {
	s, err := file.Open(file.Config{Dir: b.TempDir(), Lazy: []string{store.Runs}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	e := store.Entry{Type: "run.ended", Data: fmt.Appendf(nil, "%q", strings.Repeat("x", 20<<10))}
	for n := range 200 {
		if _, err := s.Append(b.Context(), fmt.Sprintf("run.%d", n), 0, e, e, e, e, e); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		for _, err := range s.List(b.Context(), store.Runs) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 200 {
			b.Fatal(n)
		}
	}
}
