package file_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

// journalled makes a directory with a journal of three appends of 1, 2 and 1
// records, and gives its file and bytes.
func journalled(t *testing.T) (dir, name string, raw []byte) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, dir)
	at := mustAppend(t, s, "run.A", 0, text("1"))
	at = mustAppend(t, s, "run.A", at, text("2"), text("3"))
	mustAppend(t, s, "run.A", at, text("4"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(dir, "journal", "run.+a.jsonl")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return dir, name, raw
}

func write(t *testing.T, name string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Wherever the end of a journal is cut off, what was whole before is there, an
// append is there whole or not at all, and the next one goes on behind it.
func TestTornEnd(t *testing.T) {
	t.Parallel()
	dir, name, raw := journalled(t)
	want := []string{`"1"`, `"2"`, `"3"`, `"4"`}
	for cut := range len(raw) + 1 {
		for _, tail := range []string{"", "\x00\x00\x00", `{"seq":`} {
			write(t, name, append(bytes.Clone(raw[:cut]), tail...))
			s := open(t, dir, func(c *file.Config) { c.Sync = func(*os.File) error { return nil } })
			got, err := all(t, s, "run.A")
			if err != nil {
				// Bytes where the end of a line should be do damage that line.
				t.Fatalf("cut at %d, then %q: %v", cut, tail, err)
			}
			if n := len(got); n == 2 || !slices.Equal(got, want[:n]) {
				t.Fatalf("cut at %d, then %q: %v", cut, tail, got)
			}
			var last uint64
			for info, err := range s.List(t.Context(), ">") {
				if err != nil {
					t.Fatalf("cut at %d, then %q: %v", cut, tail, err)
				}
				last = info.Last
			}
			if last != uint64(len(got)) {
				t.Fatalf("cut at %d, then %q: the list says %d, %d are there", cut, tail, last, len(got))
			}
			mustAppend(t, s, "run.A", last, text("new"))
			again, err := all(t, s, "run.A")
			if err != nil || !slices.Equal(again, append(got, `"new"`)) {
				t.Fatalf("cut at %d, then %q: after an append %v, %v", cut, tail, again, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A damaged line before the end is named; what stands before it is read, and
// nothing is appended behind it.
func TestDamagedLine(t *testing.T) {
	t.Parallel()
	dir, name, raw := journalled(t)
	lines := bytes.SplitAfter(raw, []byte("\n"))
	other := open(t, t.TempDir())
	mustAppend(t, other, "run.other", 0, text("1"))
	for what, c := range map[string]struct {
		lines [][]byte
		at    int
		reads int
	}{
		"a byte flipped":         {[][]byte{lines[0], lines[1], bytes.Replace(lines[2], []byte(`"2"`), []byte(`"9"`), 1), lines[3], lines[4]}, 3, 1},
		"a line lost":            {[][]byte{lines[0], lines[1], lines[3], lines[4]}, 3, 1},
		"a line twice":           {[][]byte{lines[0], lines[1], lines[1], lines[2], lines[3]}, 3, 1},
		"part of an append lost": {[][]byte{lines[0], lines[1], lines[2], lines[4]}, 4, 1},
		"an empty line":          {[][]byte{lines[0], lines[1], []byte("\n"), lines[2], lines[3]}, 3, 1},
		"text":                   {[][]byte{lines[0], []byte("hello\n"), lines[1]}, 2, 0},
		"no header":              {lines[1:], 1, 0},
		"another format":         {[][]byte{[]byte("{}\n"), lines[1]}, 1, 0},
		"a long line":            {[][]byte{lines[0], lines[1], bytes.Repeat([]byte("x"), store.MaxData+4096), []byte("\n")}, 3, 1},
	} {
		write(t, name, bytes.Join(c.lines, nil))
		s := open(t, dir)
		check := func(op string, err error) {
			t.Helper()
			d, ok := errors.AsType[*file.CorruptError](err)
			if !ok {
				t.Errorf("%s: %s: %v", what, op, err)
				return
			}
			if d.Path != name || d.Line != c.at || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %s names %s, line %d; want line %d of %s", what, op, d.Path, d.Line, c.at, name)
			}
		}
		got, err := all(t, s, "run.A")
		check("load", err)
		if len(got) != c.reads {
			t.Errorf("%s: %d records are read, want %d", what, len(got), c.reads)
		}
		for _, expect := range []uint64{1, 3, 4} {
			_, err = s.Append(t.Context(), "run.A", expect, text("x"))
			check("append", err)
		}
		for _, err := range s.Watch(t.Context(), "run.>", store.After(100)) {
			check("watch", err)
		}
		if _, err := store.LoadRun(t.Context(), s, "A"); err == nil {
			t.Errorf("%s: the run is rebuilt", what)
		}
		// The neighbours are not concerned.
		mustAppend(t, s, "run.B", 0, text("1"))
		seen := 0
		for info, err := range s.List(t.Context(), ">") {
			if seen++; info.Subject == "run.B" && err != nil {
				t.Errorf("%s: list: %v", what, err)
			}
		}
		if seen != 2 {
			t.Errorf("%s: %d subjects are listed", what, seen)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "journal", "run.+b.jsonl")); err != nil {
			t.Fatal(err)
		}
	}
	// A journal that was given another name is not taken for another run.
	write(t, filepath.Join(dir, "journal", "run.c.jsonl"), raw)
	if _, err := all(t, open(t, dir), "run.c"); err == nil || !strings.Contains(err.Error(), "run.A") {
		t.Errorf("a renamed journal: %v", err)
	}
}

// Damaged files of timers and claims are named and never written over.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	mustAppend(t, s, "work.q.a", 0, text("1"))
	for _, name := range []string{"schedule.json", "claims.json"} {
		path := filepath.Join(dir, name)
		write(t, path, []byte(`[{"key":`))
		_, cerr := s.Claim(t.Context(), "work.q", time.Minute)
		serr := s.Schedule(t.Context(), store.Timer{Key: "k", At: time.Unix(1<<33, 0).UTC(), Subject: "plan.a", Entry: text("1")})
		if serr == nil {
			serr = s.Schedule(t.Context(), store.Timer{Key: "k", At: time.Now(), Subject: "plan.a", Entry: text("1")})
		}
		err := cerr
		if name == "schedule.json" {
			err = serr
		}
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if raw, _ := os.ReadFile(path); string(raw) != `[{"key":` {
			t.Errorf("%s was written over: %s", name, raw)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing of the directory can be read by others, and nothing leads out of it.
func TestPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "state")
	s := open(t, dir)
	mustAppend(t, s, "run.a", 0, text("1"))
	if err := s.Schedule(t.Context(), store.Timer{Key: "k", At: time.Now().Add(time.Hour), Subject: "plan.a", Entry: text("1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(t.Context(), "run", time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.Outputs(t.Context()).Put(big()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hold(t.Context(), "run.a"); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		want := os.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
		return nil
	})
	if err != nil || seen != 10 {
		t.Errorf("%d entries, %v; want 10", seen, err)
	}
	// A link that somebody put in the place of a journal is not followed out.
	secret := filepath.Join(t.TempDir(), "other")
	write(t, secret, nil)
	if err := os.Symlink(secret, filepath.Join(dir, "journal", "run.b.jsonl")); err != nil {
		t.Skip("no links here:", err)
	}
	if _, err := s.Append(t.Context(), "run.b", 0, text("1")); err == nil {
		t.Error("an append follows a link out of the directory")
	}
	if raw, _ := os.ReadFile(secret); len(raw) > 0 {
		t.Errorf("it wrote %q", raw)
	}
}

// What reaches the disk when: plans at once, runs at Sync or Close.
func TestSync(t *testing.T) {
	t.Parallel()
	var synced []string
	var fail error
	s := open(t, t.TempDir(), func(c *file.Config) {
		c.Sync = func(f *os.File) error {
			synced = append(synced, filepath.Base(f.Name()))
			return fail
		}
	})
	took := func(want ...string) {
		t.Helper()
		if !slices.Equal(synced, want) {
			t.Errorf("synced %q, want %q", synced, want)
		}
		synced = nil
	}
	at := mustAppend(t, s, "run.a", 0, text("1"))
	mustAppend(t, s, "run.a", at, text("2"))
	took()
	if err := s.Sync(t.Context(), "run.a"); err != nil {
		t.Fatal(err)
	}
	took("run.a.jsonl", "journal")
	if err := s.Sync(t.Context(), "run.a"); err != nil {
		t.Fatal(err)
	}
	took()
	plan := mustAppend(t, s, "plan.a", 0, text("1"))
	took("plan.a.jsonl", "journal")
	mustAppend(t, s, "plan.a", plan, text("2"))
	took("plan.a.jsonl")
	mustAppend(t, s, "run.b", 0, text("1"))

	// What could not be synced was not taken.
	fail = errors.New("the disk is gone")
	if _, err := s.Append(t.Context(), "plan.a", plan+1, text("3")); !errors.Is(err, fail) {
		t.Errorf("append: %v", err)
	}
	if _, err := s.Append(t.Context(), "plan.new", 0, text("3")); !errors.Is(err, fail) {
		t.Errorf("append: %v", err)
	}
	if got, err := all(t, s, "plan.a"); err != nil || len(got) != 2 {
		t.Errorf("after an append that failed: %v, %v", got, err)
	}
	if got, err := all(t, s, "plan.new"); err != nil || len(got) != 0 {
		t.Errorf("after an append that failed: %v, %v", got, err)
	}
	fail = nil
	mustAppend(t, s, "plan.a", plan+1, text("3"))
	mustAppend(t, s, "plan.new", 0, text("1"))
	synced = nil
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	took("run.b.jsonl", "journal")
}

// A lock that another holds is waited for, and then said.
func TestBusy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Two stores in one process are as far apart as two processes.
	holder, waiter := open(t, dir), open(t, dir, func(c *file.Config) { c.LockWait = 20 * time.Millisecond })
	inside, leave := make(chan struct{}), make(chan struct{})
	slow := open(t, dir, func(c *file.Config) {
		c.Sync = func(*os.File) error {
			close(inside)
			<-leave
			return errors.New("enough")
		}
	})
	over := make(chan error, 1)
	go func() {
		_, err := slow.Append(context.WithoutCancel(t.Context()), "plan.slow", 0, text("1"))
		over <- err
	}()
	<-inside
	if _, err := waiter.Append(t.Context(), "run.a", 0, text("1")); !errors.Is(err, store.ErrBusy) || !strings.Contains(err.Error(), dir) {
		t.Errorf("append while the lock is held: %v", err)
	}
	if got, err := all(t, waiter, "run.a"); err != nil || len(got) != 0 {
		t.Errorf("load while the lock is held: %v, %v", got, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := holder.Append(ctx, "run.a", 0, text("1")); !errors.Is(err, context.Canceled) {
		t.Errorf("append with an ended context: %v", err)
	}
	close(leave)
	<-over
	mustAppend(t, holder, "run.a", 0, text("1"))
}
