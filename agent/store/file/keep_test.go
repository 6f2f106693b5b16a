package file_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/store/storetest"
)

func TestOutputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	o := s.Outputs(t.Context())
	id, raw := big()
	if _, err := o.Get(id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an output that is not there: %v", err)
	}
	for range 2 {
		if err := o.Put(id, raw); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := open(t, dir).Outputs(t.Context()).Get(id); err != nil || string(got) != string(raw) {
		t.Errorf("%d bytes come back, %v", len(got), err)
	}
	if left := names(t, dir, "outputs"); !slices.Equal(left, []string{strings.TrimPrefix(id, "sha256:")}) {
		t.Errorf("the directory holds %v", left)
	}
	for _, bad := range []string{"", "sha256:", "sha256:../../lock", "md5:" + id[7:], id[7:], strings.ToUpper(id), id + "0", "sha256:" + strings.Repeat("g", 64)} {
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
	// What is damaged on the disk is not evidence, and is mended by the next Put.
	path := filepath.Join(dir, "outputs", id[7:])
	write(t, path, raw[:1000])
	if _, err := o.Get(id); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged output: %v", err)
	}
	if err := o.Put(id, raw); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Get(id); err != nil {
		t.Errorf("after it was put again: %v", err)
	}
}

// runs makes n journals, an hour apart, each with an output of its own.
func runs(t *testing.T, s *file.Store, c *storetest.Clock, dir string, n int) {
	t.Helper()
	for i := range n {
		subject := fmt.Sprintf("run.%02d", i)
		mustAppend(t, s, subject, 0, text("1"))
		raw := []byte("output of " + subject)
		if err := s.Outputs(t.Context()).Put(digest(raw), raw); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, "journal", subject+".jsonl"), c.Now(), c.Now()); err != nil {
			t.Fatal(err)
		}
		c.Advance(time.Hour)
	}
}

func prune(t *testing.T, s *file.Store, r file.Retention) file.Pruned {
	t.Helper()
	n, err := s.Prune(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func have(t *testing.T, s *file.Store, dir string, i int) (journal, output bool) {
	t.Helper()
	subject := fmt.Sprintf("run.%02d", i)
	_, err := os.Stat(filepath.Join(dir, "journal", subject+".jsonl"))
	_, gerr := s.Outputs(t.Context()).Get(digest([]byte("output of " + subject)))
	return err == nil, gerr == nil
}

// The newest stay, with all they need; what is held stays with all it needs too.
func TestPrune(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), storetest.NewClock()
	s := open(t, dir, func(cfg *file.Config) { cfg.Now = c.Now })
	runs(t, s, c, dir, 10)
	mustAppend(t, s, "plan.old", 0, text("1"))
	if err := os.Chtimes(filepath.Join(dir, "journal", "plan.old.jsonl"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	r := file.Retention{Pattern: store.Runs, Keep: 10}
	if n := prune(t, s, r); n != (file.Pruned{}) {
		t.Errorf("pruned %+v, nothing is too many", n)
	}
	// One run is at work, in another process; one that began long ago is appended
	// to still.
	worker := storetest.Held(t, "hold run.04", dir)
	now := c.Now()
	if err := os.Chtimes(filepath.Join(dir, "journal", "run.02.jsonl"), now, now); err != nil {
		t.Fatal(err)
	}
	r.Keep = 3
	if n := prune(t, s, r); n.Journals != 6 || n.Outputs != 2 {
		t.Errorf("pruned %+v, want 6 journals and 2 outputs", n)
	}
	for i := range 10 {
		j, o := have(t, s, dir, i)
		if stays := i == 2 || i == 4 || i >= 8; j != stays || o != (i >= 2) {
			t.Errorf("run %d: journal %t, output %t", i, j, o)
		}
	}
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = worker.Wait() // killed
	if n := prune(t, s, r); n.Journals != 1 {
		t.Errorf("pruned %+v after the worker died, want its run", n)
	}
	if left := names(t, dir, "live"); len(left) != 0 {
		t.Errorf("marks are left: %v", left)
	}
	if got, err := all(t, s, "plan.old"); err != nil || len(got) != 1 {
		t.Errorf("a plan was pruned with the runs: %v, %v", got, err)
	}
	// A subject that was pruned can be begun again.
	mustAppend(t, s, "run.00", 0, text("again"))
}

// One call removes a bounded number of journals, the next goes on.
func TestPruneIsBounded(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), storetest.NewClock()
	s := open(t, dir, func(cfg *file.Config) { cfg.Now = c.Now })
	runs(t, s, c, dir, 100)
	r := file.Retention{Pattern: store.Runs, Keep: 5}
	total := 0
	for n := range 5 {
		p := prune(t, s, r)
		if n == 0 && (p.Journals == 0 || p.Journals > 70) {
			t.Errorf("the first call removes %d journals", p.Journals)
		}
		total += p.Journals
	}
	if total != 95 || len(names(t, dir, "outputs")) != 5 {
		t.Errorf("%d journals of 95 were removed, %d outputs of 5 are left", total, len(names(t, dir, "outputs")))
	}
}

// Outputs beyond their bytes go, the oldest first; what a killed writer left goes
// when it is old.
func TestPruneOutputs(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), storetest.NewClock()
	s := open(t, dir, func(cfg *file.Config) { cfg.Now = c.Now })
	runs(t, s, c, dir, 4)
	size := int64(len("output of run.00"))
	for name, age := range map[string]time.Duration{".tmp-old": 2 * time.Hour, ".tmp-new": time.Minute} {
		path := filepath.Join(dir, "outputs", name)
		write(t, path, nil)
		if err := os.Chtimes(path, c.Now().Add(-age), c.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if n := prune(t, s, file.Retention{Pattern: store.Runs, Keep: 100, OutputBytes: 2 * size}); n.Journals != 0 || n.Outputs != 3 {
		t.Errorf("pruned %+v, want two outputs and an old rest", n)
	}
	for i := range 4 {
		if j, o := have(t, s, dir, i); !j || o != (i >= 2) {
			t.Errorf("run %d: journal %t, output %t", i, j, o)
		}
	}
	if left := names(t, dir, "outputs"); !slices.Contains(left, ".tmp-new") || slices.Contains(left, ".tmp-old") {
		t.Errorf("left are %v", left)
	}
	for _, bad := range []file.Retention{{Pattern: store.Runs}, {Pattern: "x.*", Keep: 1}, {Pattern: ">", Keep: 1, OutputBytes: -1}} {
		if _, err := s.Prune(t.Context(), bad); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Who is at work is known, also when he dies without a word.
func TestHold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, other := open(t, dir), open(t, dir)
	held := func(want bool) {
		t.Helper()
		for _, x := range []*file.Store{s, other} {
			if got, err := x.Held(t.Context(), "run.a"); err != nil || got != want {
				t.Errorf("held %t, %v; want %t", got, err, want)
			}
		}
	}
	orphans := func(fn func(string) error) (got []string, err error) {
		err = s.Orphans(t.Context(), func(subject string) error {
			got = append(got, subject)
			return fn(subject)
		})
		return got, err
	}
	fine := func(string) error { return nil }
	held(false)
	h, err := s.Hold(t.Context(), "run.a")
	if err != nil {
		t.Fatal(err)
	}
	held(true)
	if _, err := other.Hold(t.Context(), "run.a"); !errors.Is(err, store.ErrBusy) {
		t.Errorf("a second hold: %v", err)
	}
	if got, err := orphans(fine); err != nil || len(got) != 0 {
		t.Errorf("orphans %v, %v", got, err)
	}
	for range 2 {
		if err := h.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	held(false)
	if left := names(t, dir, "live"); len(left) != 0 {
		t.Errorf("marks are left: %v", left)
	}

	worker := storetest.Held(t, "hold run.a", dir)
	held(true)
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = worker.Wait() // killed
	held(false)
	refused := errors.New("not now")
	if got, err := orphans(func(string) error { return refused }); !errors.Is(err, refused) || !slices.Equal(got, []string{"run.a"}) {
		t.Errorf("orphans %v, %v", got, err)
	}
	if got, err := orphans(fine); err != nil || !slices.Equal(got, []string{"run.a"}) {
		t.Errorf("orphans %v, %v", got, err)
	}
	if got, err := orphans(fine); err != nil || len(got) != 0 {
		t.Errorf("orphans %v, %v: they were forgotten", got, err)
	}
	if _, err := s.Hold(t.Context(), "../x"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("hold of a path: %v", err)
	}
}

// A directory that cannot be made or written is said, with its name.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "plain"), nil)
	for _, bad := range []file.Config{{}, {Dir: filepath.Join(dir, "plain")}, {Dir: filepath.Join(dir, "plain", "below")}, {Dir: dir, Lazy: []string{"*"}}} {
		if s, err := file.Open(bad); err == nil {
			t.Errorf("%+v is opened", bad)
			_ = s.Close()
		} else if bad.Dir != dir && !strings.Contains(err.Error(), bad.Dir) {
			t.Errorf("%v does not name %s", err, bad.Dir)
		}
	}
}

// A journal that another process removes and somebody begins anew can have the number,
// and more than the size, of the one that was there.
func TestAppendToWhatBeganAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	for n := range 20 {
		text := func(n int) store.Entry {
			return store.Entry{Type: "note", Data: fmt.Appendf(nil, "%q", strings.Repeat("x", n))}
		}
		if _, err := a.Append(t.Context(), "session.a", 0, text(n), text(n)); err != nil {
			t.Fatal(err)
		}
		if err := b.Remove(t.Context(), "session.a"); err != nil {
			t.Fatal(err)
		}
		last, err := b.Append(t.Context(), "session.a", 0, text(40*n), text(7*n), text(n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Append(t.Context(), "session.a", last, text(n)); err != nil {
			t.Fatalf("round %d: %v", n, err)
		}
		if err := a.Remove(t.Context(), "session.a"); err != nil {
			t.Fatal(err)
		}
	}
}
