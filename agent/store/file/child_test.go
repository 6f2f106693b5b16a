package file_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/store/storetest"
)

// child does one job on a directory and gives the exit code.
func child(job, dir string) int {
	s, err := file.Open(file.Config{Dir: dir, Lazy: []string{store.Runs}})
	if err == nil {
		switch name, arg, _ := strings.Cut(job, " "); name {
		case "write":
			err = writeForever(s)
		case "contend":
			err = contend(s, arg, contended)
		case "hold":
			_, err = s.Hold(context.Background(), arg)
			fmt.Println("held")
			time.Sleep(time.Hour) // until it is killed
		case "fill":
			err = fill(s)
		}
		err = errors.Join(err, s.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// writeForever appends and says on standard output what was acknowledged.
func writeForever(s *file.Store) error {
	ctx := context.Background()
	at := uint64(0)
	for info, err := range s.List(ctx, "run.killed") {
		if err != nil {
			return err
		}
		at = info.Last
	}
	for {
		// One, two or three records at a time, small and large.
		var es []store.Entry
		for i := range 1 + at%3 {
			es = append(es, store.Entry{Type: "note", Data: fmt.Appendf(nil, `{"n":%d,"of":%d,"fill":%q}`, i, 1+at%3, strings.Repeat("x", int(at*7919%20_000)))})
		}
		last, err := s.Append(ctx, "run.killed", at, es...)
		if err != nil {
			return err
		}
		at = last
		fmt.Println(last)
	}
}

// contended is how many records each process appends.
const contended = 60

func contend(s *file.Store, who string, n int) error {
	at := uint64(0)
	for i := 0; i < n; {
		last, err := s.Append(context.Background(), "audit.a", at, store.Entry{Type: "note", Data: fmt.Appendf(nil, `"%s/%d"`, who, i)})
		if c, refused := errors.AsType[*store.ConflictError](err); refused {
			at = c.Last
			continue
		}
		if err != nil {
			return err
		}
		at, i = last, i+1
	}
	return nil
}

// A process that is killed while it writes loses nothing that it was told was
// taken, leaves no part of an append, and the next goes on behind it.
func TestKill9(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := uint64(0)
	for round := range 8 {
		cmd := storetest.Command(t, "write", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		// Killed after a number of acknowledgements and a moment into the next.
		for n := 0; n < 3+round*2 && lines.Scan(); n++ {
			if _, err := fmt.Sscan(lines.Text(), &acked); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Duration(round*137) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			var n uint64 // the last line may be cut off
			if _, err := fmt.Sscan(lines.Text(), &n); err == nil && n > acked && n <= acked+3 {
				acked = n
			}
		}
		_ = cmd.Wait() // killed
		s := open(t, dir)
		last, of := uint64(0), 0
		for r, err := range s.Load(t.Context(), "run.killed", 0) {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			var n int
			if of == 0 {
				if _, err := fmt.Sscanf(string(r.Data), `{"n":%d,"of":%d`, &n, &of); err != nil || n != 0 {
					t.Fatalf("round %d: record %d begins %.40s (%v)", round, r.Seq, r.Data, err)
				}
			}
			of--
			last = r.Seq
		}
		if of != 0 {
			t.Fatalf("round %d: %d records of an append are missing", round, of)
		}
		if last < acked {
			t.Fatalf("round %d: the journal ends at %d, %d was acknowledged", round, last, acked)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Processes that append to one subject take their turns.
func TestProcessesShare(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	var wg sync.WaitGroup
	for _, who := range []string{"p", "q"} {
		cmd := storetest.Command(t, "contend "+who, dir)
		wg.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("process %s: %v", who, err)
			}
		})
	}
	wg.Go(func() {
		if err := contend(s, "own", contended); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	next := map[string]int{}
	for r, err := range s.Load(t.Context(), "audit.a", 0) {
		if err != nil {
			t.Fatal(err)
		}
		who, n, _ := strings.Cut(strings.Trim(string(r.Data), `"`), "/")
		if n != fmt.Sprint(next[who]) {
			t.Fatalf("record %d of %s comes where %d is due", r.Seq, r.Data, next[who])
		}
		next[who]++
	}
	for _, who := range []string{"p", "q", "own"} {
		if next[who] != contended {
			t.Errorf("%s has %d of %d records", who, next[who], contended)
		}
	}
}
