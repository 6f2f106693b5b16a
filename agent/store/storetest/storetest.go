// Package storetest is the contract suite of agent/store: what every
// implementation of the journal has to do.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Bench is one empty store and the hands that the suite needs on it.
type Bench struct {
	Store store.Store
	// Again opens the same store a second time, as another process would.
	Again func(t *testing.T) store.Store
	// Advance lets time pass for the store: it moves a clock that stands at Epoch
	// in the beginning, or it sleeps.
	Advance func(d time.Duration)
	// Delete removes a whole subject, through one of the openings.
	Delete func(ctx context.Context, s store.Store, subject string) error
	// Slow says that Advance sleeps: the suite then lets little time pass.
	Slow bool
}

// Epoch is when the clock of a store under test begins, unless it is Slow.
func Epoch() time.Time { return time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC) }

// patience bounds the wait for things that should happen at once.
const patience = 20 * time.Second

// Run runs the suite. open makes a store of its own for every case and closes it
// at the end of the test.
func Run(t *testing.T, open func(t *testing.T) Bench) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(t *testing.T, b Bench)
	}{
		{"what is appended is loaded", roundTrip},
		{"an append elsewhere is a conflict", conflict},
		{"entries are taken together or not at all", batches},
		{"bad names and documents are refused", refusals},
		{"bounds are kept", bounds},
		{"of many appends at one place one wins", race},
		{"writers that try again lose nothing", contend},
		{"subjects are apart", apart},
		{"subjects are listed", list},
		{"a load ends with what was there", snapshot},
		{"a load stops where the reader does", stopLoad},
		{"a watch gives the past and the future in order", watchSubject},
		{"a watch of many subjects keeps their order", watchMany},
		{"a watch sees another process", watchOther},
		{"a timer comes once it is due", timer},
		{"a timer is replaced by its key", timerReplaced},
		{"a timer moves the sequence", timerConflict},
		{"a timer survives a restart", timerRestart},
		{"work is handed out oldest first and once", claimOrder},
		{"work that is not done comes again", claimExpiry},
		{"a lease is extended and given back", claimLease},
		{"claims survive a restart", claimRestart},
		{"many workers share a queue", claimMany},
		{"queues are apart", claimApart},
		{"a restart loses nothing", restart},
		{"an ended context changes nothing", ended},
		{"a closed store says so", closed},
		{"a projection stands at its sequence", project},
		{"a view shows what was acknowledged", readYourWrites},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
	t.Run("it does what the model does", func(t *testing.T) {
		t.Parallel()
		model(t, open)
	})
	t.Run("a view shows what a whole reading gives", func(t *testing.T) {
		t.Parallel()
		views(t, open)
	})
}

// entry makes an entry of type "note" with a JSON string.
func entry(text string) store.Entry {
	raw, _ := json.Marshal(text) // a string always is a document
	return store.Entry{Type: "note", Data: raw}
}

func mustAppend(t *testing.T, s store.Appender, subject string, expect uint64, entries ...store.Entry) uint64 {
	t.Helper()
	last, err := s.Append(t.Context(), subject, expect, entries...)
	if err != nil {
		t.Fatalf("append to %s at %d: %v", subject, expect, err)
	}
	if last <= expect {
		t.Fatalf("append to %s at %d: the last sequence is %d", subject, expect, last)
	}
	return last
}

// load gives the records of a subject and checks what holds for all of them.
func load(t *testing.T, s store.Loader, subject string, after uint64) []store.Record {
	t.Helper()
	var out []store.Record
	seq := after
	for r, err := range s.Load(t.Context(), subject, after) {
		if err != nil {
			t.Fatalf("load %s after %d: %v", subject, after, err)
		}
		if r.Seq <= seq || r.Subject != subject || r.At.IsZero() || r.At.Location() != time.UTC {
			t.Fatalf("load %s after %d: behind sequence %d comes %+v", subject, after, seq, r)
		}
		seq = r.Seq
		out = append(out, r)
	}
	return out
}

// texts are the documents of records as JSON.
func texts(records []store.Record) []string {
	out := []string{}
	for _, r := range records {
		out = append(out, r.Type+" "+string(r.Data))
	}
	return out
}

func wantTexts(t *testing.T, s store.Loader, subject string, after uint64, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, texts(load(t, s, subject, after))); diff != "" {
		t.Errorf("%s after %d (-want +got):\n%s", subject, after, diff)
	}
}

func roundTrip(t *testing.T, b Bench) {
	s := b.Store
	wantTexts(t, s, "run.a", 0)
	one := mustAppend(t, s, "run.a", 0, store.Entry{Type: "run.started", Data: json.RawMessage("{ \"q\" : \"<&> \\u2028 ü\",\n\t\"n\": 12345678901234567890 }")})
	two := mustAppend(t, s, "run.a", one, store.Entry{Type: "empty"})
	three := mustAppend(t, s, "run.a", two, store.Entry{Type: "x-y_z.9", Data: json.RawMessage(`[1,{"seq":7,"sum":"00000000"},"}\n"]`)})
	want := []string{`run.started {"q":"<&> \u2028 ü","n":12345678901234567890}`, `empty null`, `x-y_z.9 [1,{"seq":7,"sum":"00000000"},"}\n"]`}
	wantTexts(t, s, "run.a", 0, want...)
	wantTexts(t, s, "run.a", one, want[1:]...)
	wantTexts(t, s, "run.a", two, want[2:]...)
	wantTexts(t, s, "run.a", three)
	wantTexts(t, s, "run.a", three+100)
	if got := load(t, s, "run.a", two); len(got) != 1 || got[0].Seq != three {
		t.Errorf("the third record is %+v; its append gave %d", got, three)
	}
}

func conflict(t *testing.T, b Bench) {
	s := b.Store
	refused := func(subject string, expect, last uint64) {
		t.Helper()
		_, err := s.Append(t.Context(), subject, expect, entry("late"))
		var c *store.ConflictError
		if !errors.As(err, &c) {
			t.Fatalf("append to %s at %d: %v; want a conflict", subject, expect, err)
		}
		if c.Subject != subject || c.Expect != expect || c.Last != last {
			t.Errorf("append to %s at %d: %+v; the subject ends at %d", subject, expect, c, last)
		}
	}
	refused("plan.a", 1, 0)
	refused("plan.a", 99, 0)
	wantTexts(t, s, "plan.a", 0)
	one := mustAppend(t, s, "plan.a", 0, entry("1"))
	refused("plan.a", 0, one)
	two := mustAppend(t, s, "plan.a", one, entry("2"))
	refused("plan.a", 0, two)
	refused("plan.a", one, two)
	refused("plan.a", two+1, two)
	mustAppend(t, s, "plan.a", two, entry("3"))
	wantTexts(t, s, "plan.a", 0, `note "1"`, `note "2"`, `note "3"`)
}

func batches(t *testing.T, b Bench) {
	s := b.Store
	last := mustAppend(t, s, "plan.a", 0, entry("1"), entry("2"), entry("3"))
	if got := load(t, s, "plan.a", 0); len(got) != 3 || got[2].Seq != last {
		t.Fatalf("an append of three that ends at %d left %+v", last, got)
	}
	for name, bad := range map[string]store.Entry{
		"a document that is none": {Type: "note", Data: json.RawMessage(`{"a":`)},
		"two documents":           {Type: "note", Data: json.RawMessage(`{} {}`)},
		"no type":                 {Data: json.RawMessage(`{}`)},
	} {
		if _, err := s.Append(t.Context(), "plan.a", last, entry("4"), bad); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Append(t.Context(), "plan.a", 1<<40, entry("4"), entry("5")); err == nil {
		t.Error("a conflict is accepted")
	}
	last = mustAppend(t, s, "plan.a", last, entry("6"), entry("7"))
	mustAppend(t, s, "plan.a", last, entry("8"))
	wantTexts(t, s, "plan.a", 0, `note "1"`, `note "2"`, `note "3"`, `note "6"`, `note "7"`, `note "8"`)
}

func refusals(t *testing.T, b Bench) {
	s := b.Store
	ctx := t.Context()
	for _, subject := range []string{
		"", ".", "..", "run.", ".run", "run..a", "run/a", "../run", `run\a`, "run a", "run\n", "run.a\x00", "rün.a", "run.*", "run.>", ">", "run.a+b", "run.%61",
		strings.Repeat("a", store.MaxSubject+1),
	} {
		if _, err := s.Append(ctx, subject, 0, entry("x")); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("append to %q: %v", subject, err)
		}
		for _, err := range s.Load(ctx, subject, 0) {
			if !errors.Is(err, store.ErrInvalid) {
				t.Errorf("load %q: %v", subject, err)
			}
		}
		if err := s.Schedule(ctx, store.Timer{Key: "k", At: time.Unix(1, 0), Subject: subject, Entry: entry("x")}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("schedule for %q: %v", subject, err)
		}
		if err := s.Schedule(ctx, store.Timer{Key: subject, At: time.Unix(1, 0), Subject: "plan.a", Entry: entry("x")}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("schedule with key %q: %v", subject, err)
		}
		if _, err := s.Claim(ctx, subject, time.Minute); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("claim from %q: %v", subject, err)
		}
	}
	for _, pattern := range []string{"", "run.*", "*.a", "run.>.a", "run>", ".>", ">.a", "../>"} {
		n := 0
		for _, err := range s.List(ctx, pattern) {
			if n++; !errors.Is(err, store.ErrInvalid) {
				t.Errorf("list %q: %v", pattern, err)
			}
		}
		for _, err := range s.Watch(ctx, pattern, nil) {
			if n++; !errors.Is(err, store.ErrInvalid) {
				t.Errorf("watch %q: %v", pattern, err)
				break
			}
		}
		if n != 2 {
			t.Errorf("pattern %q is refused %d times, want 2", pattern, n)
		}
	}
	for _, typ := range []string{"", "Note", "a b", "a/b", "ä", "a\n", strings.Repeat("a", 65)} {
		if _, err := s.Append(ctx, "plan.a", 0, store.Entry{Type: typ}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("type %q: %v", typ, err)
		}
	}
	if _, err := s.Append(ctx, "plan.a", 0); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("an append of nothing: %v", err)
	}
	if err := s.Schedule(ctx, store.Timer{Key: "k", Subject: "plan.a", Entry: entry("x")}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a timer without a time: %v", err)
	}
	for _, d := range []time.Duration{0, -1, store.MaxLease + 1} {
		if _, err := s.Claim(ctx, "work.a", d); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("a lease of %s: %v", d, err)
		}
	}
	for info, err := range s.List(ctx, ">") {
		t.Errorf("what was refused left %+v, %v", info, err)
	}
}

func bounds(t *testing.T, b Bench) {
	s := b.Store
	ctx := t.Context()
	text := func(n int) store.Entry {
		return store.Entry{Type: "note", Data: json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`)}
	}
	last := mustAppend(t, s, "run.a", 0, text(store.MaxData))
	if got := load(t, s, "run.a", 0); len(got) != 1 || len(got[0].Data) != store.MaxData {
		t.Error("the largest document does not come back whole")
	}
	if _, err := s.Append(ctx, "run.a", last, text(store.MaxData+1)); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("a document above the bound: %v", err)
	}
	var many []store.Entry
	for range store.MaxEntries + 1 {
		many = append(many, entry("x"))
	}
	if _, err := s.Append(ctx, "run.a", last, many...); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("%d entries: %v", len(many), err)
	}
	large := make([]store.Entry, store.MaxAppend/store.MaxData+1)
	for i := range large {
		large[i] = text(store.MaxData)
	}
	if _, err := s.Append(ctx, "run.a", last, large...); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("an append above the bound: %v", err)
	}
	mustAppend(t, s, "run.a", last, many[1:]...)
	if got := load(t, s, "run.a", last); len(got) != store.MaxEntries {
		t.Errorf("%d of %d entries are there", len(got), store.MaxEntries)
	}
	long := strings.Repeat("A", store.MaxSubject)
	mustAppend(t, s, long, 0, entry("x"))
	wantTexts(t, s, long, 0, `note "x"`)
}

func apart(t *testing.T, b Bench) {
	s := b.Store
	subjects := []string{"run.a", "run.A", "run.a.b", "run.ab", "run", "runa", "run-a", "run_a", "con", "a"}
	for _, name := range subjects {
		mustAppend(t, s, name, 0, entry(name))
	}
	for _, name := range subjects {
		wantTexts(t, s, name, 0, fmt.Sprintf("note %q", name))
	}
}

func list(t *testing.T, b Bench) {
	s := b.Store
	last := map[string]uint64{}
	for _, name := range []string{"run.b", "plan.x", "run.a", "run.a.deep", "runs"} {
		one := mustAppend(t, s, name, 0, entry("1"))
		last[name] = mustAppend(t, s, name, one, entry("2"), store.Entry{Type: "end"})
	}
	for pattern, want := range map[string][]string{
		">":        {"plan.x", "run.a", "run.a.deep", "run.b", "runs"},
		"run.>":    {"run.a", "run.a.deep", "run.b"},
		"run.a":    {"run.a"},
		"run.a.>":  {"run.a.deep"},
		"run":      nil,
		"plan.>":   {"plan.x"},
		"absent.>": nil,
	} {
		var got []string
		for info, err := range s.List(t.Context(), pattern) {
			if err != nil {
				t.Fatalf("list %s: %v", pattern, err)
			}
			if info.Last != last[info.Subject] || info.Type != "end" || info.At.IsZero() {
				t.Errorf("%s ends with %+v, want sequence %d and type end", info.Subject, info, last[info.Subject])
			}
			got = append(got, info.Subject)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("list %s (-want +got):\n%s", pattern, diff)
		}
	}
}

func snapshot(t *testing.T, b Bench) {
	s := b.Store
	last := mustAppend(t, s, "run.a", 0, entry("1"), entry("2"))
	n := 0
	for _, err := range s.Load(t.Context(), "run.a", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n > 2 {
			t.Fatal("the load goes on with what is appended meanwhile")
		}
		last = mustAppend(t, s, "run.a", last, entry("more"))
	}
}

func stopLoad(t *testing.T, b Bench) {
	s := b.Store
	mustAppend(t, s, "run.a", 0, entry("1"), entry("2"), entry("3"))
	n := 0
	for _, err := range s.Load(t.Context(), "run.a", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d records before the stop", n)
	}
}

func restart(t *testing.T, b Bench) {
	last := mustAppend(t, b.Store, "run.a", 0, entry("1"), entry("2"))
	other := b.Again(t)
	wantTexts(t, other, "run.a", 0, `note "1"`, `note "2"`)
	last = mustAppend(t, other, "run.a", last, entry("3"))
	if _, err := b.Store.Append(t.Context(), "run.a", last-1, entry("late")); err == nil {
		t.Error("the first store does not see what the second appended")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, b.Store, "run.a", last, entry("4"))
	if err := b.Store.Close(); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, b.Again(t), "run.a", 0, `note "1"`, `note "2"`, `note "3"`, `note "4"`)
}

func ended(t *testing.T, b Bench) {
	s := b.Store
	mustAppend(t, s, "run.a", 0, entry("1"))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Append(ctx, "run.b", 0, entry("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if err := s.Schedule(ctx, store.Timer{Key: "k", At: time.Unix(1, 0), Subject: "run.b", Entry: entry("x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("schedule: %v", err)
	}
	if _, err := s.Claim(ctx, "run", time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("claim: %v", err)
	}
	for r, err := range s.Load(ctx, "run.a", 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("load: %+v, %v", r, err)
		}
	}
	for r, err := range s.Watch(ctx, "run.>", nil) {
		t.Errorf("watch: %+v, %v", r, err)
	}
	wantTexts(t, s, "run.b", 0)
}

func closed(t *testing.T, b Bench) {
	s := b.Store
	mustAppend(t, s, "run.a", 0, entry("1"))
	over := make(chan error, 1)
	go func() {
		for _, err := range s.Watch(context.WithoutCancel(t.Context()), "run.a", nil) {
			if err != nil {
				over <- err
				return
			}
		}
		over <- nil
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-over:
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("the watch ends with %v", err)
		}
	case <-time.After(patience):
		t.Error("the watch goes on")
	}
	ctx := t.Context()
	if _, err := s.Append(ctx, "run.a", 1, entry("x")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("append: %v", err)
	}
	for _, err := range s.Load(ctx, "run.a", 0) {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("load: %v", err)
		}
	}
	for _, err := range s.List(ctx, ">") {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("list: %v", err)
		}
	}
	if _, err := s.Claim(ctx, "run", time.Minute); !errors.Is(err, store.ErrClosed) {
		t.Errorf("claim: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
}

func project(t *testing.T, b Bench) {
	s := b.Store
	mid := mustAppend(t, s, "run.a", 0, entry("a"), entry("b"))
	last := mustAppend(t, s, "run.a", mid, entry("c"))
	join := func(sum string, r store.Record) (string, error) {
		if string(r.Data) == `"bad"` {
			return sum, errors.New("cannot read it")
		}
		return sum + string(r.Data), nil
	}
	got, at, err := store.Project(t.Context(), s, "run.a", 0, "", join)
	if err != nil || got != `"a""b""c"` || at != last {
		t.Errorf("%s at %d, %v", got, at, err)
	}
	if got, at, err = store.Project(t.Context(), s, "run.a", mid, "+", join); err != nil || got != `+"c"` || at != last {
		t.Errorf("behind %d: %s at %d, %v", mid, got, at, err)
	}
	mustAppend(t, s, "run.a", last, entry("bad"))
	if got, at, err = store.Project(t.Context(), s, "run.a", 0, "", join); err == nil || got != `"a""b""c"` || at != last {
		t.Errorf("with a record that cannot be read: %s at %d, %v", got, at, err)
	}
}
