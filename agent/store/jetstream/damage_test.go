package jetstream_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
)

// journalled makes a directory with two subjects and gives the one of the two
// streams that hold records.
func journalled(t *testing.T) (dir string, blocks []string) {
	t.Helper()
	dir = t.TempDir()
	s, err := jetstream.Open(t.Context(), jetstream.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"plan.a", "run.a"} {
		at := uint64(0)
		for i := range 8 {
			at = mustAppend(t, s, subject, at, text(fmt.Sprint(i)))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	blocks, err = filepath.Glob(filepath.Join(dir, "data", "jetstream", "$G", "streams", "*", "msgs", "*.blk"))
	if err != nil {
		t.Fatal(err)
	}
	blocks = slices.DeleteFunc(blocks, func(b string) bool { st, err := os.Stat(b); return err != nil || st.Size() == 0 })
	if len(blocks) != 2 {
		t.Fatalf("the blocks are %v", blocks)
	}
	return dir, blocks
}

// Wherever a byte of a stream is damaged on the disk, what is read was appended,
// in its place, and what cannot be read is told. Nothing is read as something
// else, or as never having been there.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir, blocks := journalled(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	kept := map[string][]byte{}
	for _, b := range blocks {
		raw, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		kept[b] = raw
	}
	for n := range 24 {
		b := blocks[n%2]
		raw := slices.Clone(kept[b])
		at := n * len(raw) / 24
		raw[at] ^= byte(1 << rnd.IntN(8))
		into := filepath.Join(t.TempDir(), "damaged")
		if err := os.CopyFS(into, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(dir, b)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(into, rel), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		// What was kept beside the blocks is not needed to read them: it is a cache.
		if n%3 == 0 {
			if err := os.Remove(filepath.Join(filepath.Dir(filepath.Join(into, rel)), "index.db")); err != nil {
				t.Fatal(err)
			}
		}
		s, err := jetstream.Open(t.Context(), jetstream.Config{Dir: into})
		if err != nil {
			if _, ok := errors.AsType[*jetstream.CorruptError](err); !ok {
				t.Errorf("byte %d of %s: %v", at, rel, err)
			}
			continue
		}
		for _, subject := range []string{"plan.a", "run.a"} {
			got, err := all(t, s, subject)
			for i, doc := range got {
				if doc != fmt.Sprint(i) {
					t.Errorf("byte %d of %s: record %d of %s is read as %s", at, rel, i, subject, doc)
				}
			}
			switch d, ok := errors.AsType[*jetstream.CorruptError](err); {
			case ok && d.Subject == subject:
			case err != nil:
				t.Errorf("byte %d of %s: %s: %v", at, rel, subject, err)
			case len(got) < 8:
				t.Errorf("byte %d of %s: %s is short: %v", at, rel, subject, got)
			}
		}
		listed := 0
		for _, err := range s.List(t.Context(), ">") {
			listed++
			if err != nil {
				if _, ok := errors.AsType[*jetstream.CorruptError](err); !ok {
					t.Errorf("byte %d of %s: list: %v", at, rel, err)
				}
			}
		}
		if listed != 2 {
			t.Errorf("byte %d of %s: the list has %d subjects", at, rel, listed)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A record that is missing in the middle is told, by every way of reading; what
// stands before it is read.
func TestMissing(t *testing.T) {
	t.Parallel()
	s, other := pair(t, nil)
	var seqs []uint64
	at := uint64(0)
	for i := range 4 {
		at = mustAppend(t, s, "run.a", at, text(fmt.Sprint(i)))
		seqs = append(seqs, at)
	}
	if _, err := s.Raw().Request("$JS.API.STREAM.MSG.DELETE.gumshoe-journal", fmt.Appendf(nil, `{"seq":%d}`, seqs[1]/100), patience); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func() ([]string, error){
		"load":              func() ([]string, error) { return all(t, other, "run.a") },
		"load behind":       func() ([]string, error) { return collect(other.Load(t.Context(), "run.a", seqs[0])) },
		"watch":             func() ([]string, error) { return collect(other.Watch(t.Context(), "run.a", nil)) },
		"watch many":        func() ([]string, error) { return collect(other.Watch(t.Context(), "run.>", nil)) },
		"watch many behind": func() ([]string, error) { return collect(other.Watch(t.Context(), "run.>", store.After(seqs[0]))) },
	} {
		got, err := read()
		d, ok := errors.AsType[*jetstream.CorruptError](err)
		if !ok || d.Subject != "run.a" || d.Seq != seqs[2] {
			t.Errorf("%s: %v", name, err)
		}
		if len(got) > 1 {
			t.Errorf("%s reads %v", name, got)
		}
	}
	// Behind the hole all is well.
	if got, err := collect(other.Load(t.Context(), "run.a", seqs[1])); err != nil || len(got) != 2 {
		t.Errorf("behind the hole: %v, %v", got, err)
	}
	// A message that is none of ours.
	if _, err := s.Raw().Request("gumshoe.j.run.b", []byte("hello"), patience); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"load":   second(all(t, other, "run.b")),
		"append": second(other.Append(t.Context(), "run.b", 0, text("x"))),
	} {
		if _, ok := errors.AsType[*jetstream.CorruptError](err); !ok {
			t.Errorf("%s of a subject that another writes: %v", name, err)
		}
	}
	n := 0
	for i, err := range other.List(t.Context(), "run.>") {
		if _, ok := errors.AsType[*jetstream.CorruptError](err); ok != (i.Subject == "run.b") {
			t.Errorf("the list has %+v, %v", i, err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("the list has %d subjects", n)
	}
}
