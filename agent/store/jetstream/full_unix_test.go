//go:build unix

package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
	"github.com/gumshoe-ai/gumshoe/agent/store/storetest"
)

// room is how large a file the filling process may write.
const room = 1200 << 10

func note(n int) store.Entry {
	return store.Entry{Type: "note", Data: fmt.Appendf(nil, `{"n":%d,"fill":%q}`, n, strings.Repeat("x", 10_000))}
}

// fill appends until the system refuses to make a file larger, as it does when a
// disk is full, and checks that it can go on once there is room.
func fill(s *jetstream.Store) error {
	roomy, err := storetest.Cramped(room)
	if err != nil {
		return err
	}
	ctx := context.Background()
	at, refused := uint64(0), 0
	for n := 0; refused < 3; n++ {
		if n > 500 {
			return errors.New("the file grows without bound")
		}
		last, err := s.Append(ctx, "run.full", at, note(n), note(n))
		if err != nil {
			if !errors.Is(err, store.ErrFull) {
				return fmt.Errorf("the refusal is %w", err)
			}
			refused++
			continue
		}
		at = last
		fmt.Println("append", at)
	}
	if err := roomy(); err != nil {
		return err
	}
	for n := range 3 {
		last, err := s.Append(ctx, "run.full", at, note(n))
		if err != nil {
			return fmt.Errorf("there is room again: %w", err)
		}
		at = last
		fmt.Println("append", at)
	}
	return nil
}

// A disk that is full refuses an append and leaves no part of it; what was
// acknowledged before is there, and appends go on once there is room, without a
// restart of the process.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := storetest.Command(t, "fill", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	acks := map[uint64]bool{}
	for line := range strings.Lines(string(out)) {
		var n uint64
		if _, err := fmt.Sscanf(line, "append %d", &n); err == nil {
			acks[n] = true
		}
	}
	if len(acks) < 20 {
		t.Fatalf("only %d appends fit", len(acks))
	}
	seen := map[uint64]bool{}
	for r, err := range opened(t, jetstream.Config{Dir: dir}).Load(t.Context(), "run.full", 0) {
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Seq] = true
	}
	for seq := range acks {
		if !seen[seq] {
			t.Errorf("sequence %d was acknowledged and is not there", seq)
		}
	}
}
