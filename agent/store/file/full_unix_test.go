//go:build unix

package file_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/store/storetest"
)

// room is how large a file the filling process may write.
const room = 256 << 10

// fill appends until the system refuses to make the file larger, as it does when
// a disk is full, and checks that it can go on once there is room.
func fill(s *file.Store) error {
	roomy, err := storetest.Cramped(room)
	if err != nil {
		return err
	}
	ctx := context.Background()
	at, refused := uint64(0), 0
	for n := 0; refused < 3; n++ {
		if n > 100 {
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
	}
	if err := s.Outputs(ctx).Put(big()); err == nil {
		return errors.New("an output larger than the room is taken")
	} else if !errors.Is(err, store.ErrFull) {
		return fmt.Errorf("an output larger than the room: %w", err)
	}
	if err := roomy(); err != nil {
		return err
	}
	_, err = s.Append(ctx, "run.full", at, note(0))
	return err
}

func note(n int) store.Entry {
	return store.Entry{Type: "note", Data: fmt.Appendf(nil, `{"n":%d,"fill":%q}`, n, strings.Repeat("x", 10_000))}
}

// A disk that is full refuses an append and leaves no part of it.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := storetest.Command(t, "fill", dir).Run(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range open(t, dir).Load(t.Context(), "run.full", 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n < 15 || n%2 != 1 {
		t.Errorf("%d records are there; want pairs and one", n)
	}
	if left := names(t, dir, "outputs"); len(left) != 0 {
		t.Errorf("an output that did not fit left %v", left)
	}
}
