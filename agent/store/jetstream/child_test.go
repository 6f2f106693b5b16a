package jetstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
	"github.com/gumshoe-ai/gumshoe/agent/store/storetest"
)

// child does one job on a directory and gives the exit code.
func child(job, dir string) int {
	s, err := jetstream.Open(context.Background(), jetstream.Config{Dir: dir, MaxBytes: childBytes})
	if err == nil {
		switch job {
		case "write":
			err = writeForever(s)
		case "hold":
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

// childBytes is what the server of a child may keep.
const childBytes = 1 << 30

func end(s store.Lister, subject string) (uint64, error) {
	at := uint64(0)
	for info, err := range s.List(context.Background(), subject) {
		if err != nil {
			return 0, err
		}
		at = info.Last
	}
	return at, nil
}

// writeForever appends, claims and schedules, and says on standard output what
// was acknowledged: "append <seq>", "work <subject>", "done <subject>" after
// "doing <subject>", "timer <key>".
func writeForever(s *jetstream.Store) error {
	ctx := context.Background()
	at, err := end(s, "run.killed")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		// One, two or three records at a time, in one message or in parts.
		var es []store.Entry
		of := 1 + n%3
		for i := range of {
			es = append(es, store.Entry{Type: "note", Data: fmt.Appendf(nil, `{"n":%d,"of":%d,"fill":%q}`, i, of, strings.Repeat("x", (n%4/3)*300_000))})
		}
		if at, err = s.Append(ctx, "run.killed", at, es...); err != nil {
			return err
		}
		fmt.Println("append", at)
		job := fmt.Sprintf("work.q.%d-%d", os.Getpid(), n)
		if _, err := s.Append(ctx, job, 0, store.Entry{Type: "job"}); err != nil {
			return err
		}
		fmt.Println("work", job)
		c, err := s.Claim(ctx, "work.q", time.Second)
		if err != nil && !errors.Is(err, store.ErrNothing) {
			return err
		}
		if err == nil && n%2 == 0 {
			fmt.Println("doing", c.Record.Subject)
			if err := c.Lease.Done(ctx); err != nil {
				return err
			}
			fmt.Println("done", c.Record.Subject)
		}
		key := fmt.Sprintf("k.%d-%d", os.Getpid(), n)
		if err := s.Schedule(ctx, store.Timer{Key: key, At: time.Now().Add(time.Duration(n%3) * 100 * time.Millisecond), Subject: "plan.timers", Entry: store.Entry{Type: "due", Data: fmt.Appendf(nil, "%q", key)}}); err != nil {
			return err
		}
		fmt.Println("timer", key)
	}
}

// acked is what a process said was taken.
type acked struct {
	last        uint64
	works, keys []string
	doing, done map[string]bool
}

func (a *acked) hear(line string) {
	var what, of string
	if n, _ := fmt.Sscan(line, &what, &of); n != 2 {
		return
	}
	switch what {
	case "append":
		var n uint64
		if _, err := fmt.Sscan(of, &n); err == nil {
			a.last = max(a.last, n)
		}
	case "work":
		a.works = append(a.works, of)
	case "doing":
		a.doing[of] = true
	case "done":
		a.done[of] = true
	case "timer":
		a.keys = append(a.keys, of)
	}
}

// A process that is killed while it writes loses nothing that it was told was
// taken: records, work that is done, work that is not, timers. No part of an
// append is left, no sequence comes twice, and the next process goes on.
func TestKill9(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := &acked{doing: map[string]bool{}, done: map[string]bool{}}
	for round := range 10 {
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
		for n := 0; n < 7+round*3 && lines.Scan(); n++ {
			a.hear(lines.Text())
		}
		time.Sleep(time.Duration(round*1370) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // each is written at once, none is cut off
			a.hear(lines.Text())
		}
		_ = cmd.Wait() // killed
		s := opened(t, jetstream.Config{Dir: dir, MaxBytes: childBytes})
		checkKilled(t, s, a)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	checkWork(t, opened(t, jetstream.Config{Dir: dir, MaxBytes: childBytes}), a)
}

func checkKilled(t *testing.T, s *jetstream.Store, a *acked) {
	t.Helper()
	last, due := uint64(0), 0
	for r, err := range s.Load(t.Context(), "run.killed", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Seq <= last {
			t.Fatalf("sequence %d comes behind %d", r.Seq, last)
		}
		var n, of int
		if _, err := fmt.Sscanf(string(r.Data[:min(40, len(r.Data))]), `{"n":%d,"of":%d`, &n, &of); err != nil || due > 0 && n != of-due || due == 0 && n != 0 {
			t.Fatalf("record %d is %.40s, %d are due (%v)", r.Seq, r.Data, due, err)
		}
		if due == 0 {
			due = of
		}
		due--
		last = r.Seq
	}
	if due != 0 {
		t.Errorf("%d records of an append are missing", due)
	}
	if last < a.last {
		t.Errorf("the journal ends at %d, %d was acknowledged", last, a.last)
	}
	fired := map[string]int{}
	missing := func() bool { return slices.ContainsFunc(a.keys, func(k string) bool { return fired[k] == 0 }) }
	for limit := time.Now().Add(patience); missing() && time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		clear(fired)
		for r, err := range s.Load(t.Context(), "plan.timers", 0) {
			if err != nil {
				t.Fatal(err)
			}
			fired[strings.Trim(string(r.Data), `"`)]++
		}
	}
	for _, k := range a.keys {
		if fired[k] != 1 { // the server knows a repeated one again
			t.Errorf("timer %s was appended %d times", k, fired[k])
		}
	}
}

// checkWork does what is left of the queue.
func checkWork(t *testing.T, s *jetstream.Store, a *acked) {
	t.Helper()
	left := map[string]bool{}
	for limit := time.Now().Add(2 * patience); time.Now().Before(limit); {
		c, err := s.Claim(t.Context(), "work.q", time.Minute)
		if errors.Is(err, store.ErrNothing) {
			if !slices.ContainsFunc(a.works, func(w string) bool { return !a.doing[w] && !left[w] }) {
				break
			}
			time.Sleep(50 * time.Millisecond) // leases of the killed run out
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if a.done[c.Record.Subject] || left[c.Record.Subject] {
			t.Errorf("%s is done and comes again", c.Record.Subject)
		}
		left[c.Record.Subject] = true
		if err := c.Lease.Done(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range a.works {
		if !a.doing[w] && !left[w] {
			t.Errorf("%s was put into the queue and is lost", w)
		}
	}
}

// A directory is held by one process.
func TestBusy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := storetest.Held(t, "hold", dir)
	if _, err := jetstream.Open(t.Context(), jetstream.Config{Dir: dir}); !errors.Is(err, store.ErrBusy) || !strings.Contains(err.Error(), dir) {
		t.Errorf("the second process is told %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	s := opened(t, jetstream.Config{Dir: dir})
	if err := s.Health(t.Context()); err != nil {
		t.Error(err)
	}
}
