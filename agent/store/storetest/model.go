package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// world is the model: a store in memory, and the real one beside it.
type world struct {
	t     *testing.T
	b     Bench
	ctx   context.Context
	count int
	now   time.Duration

	// texts of each subject, and the sequences that the real store gave them.
	texts map[string][]string
	seqs  map[string][]uint64
	// timers by key.
	timers map[string]waiting
	// work in the order of its appends.
	work   []*job
	leases []held
}

type waiting struct {
	at            time.Duration
	subject, text string
}

// job is one record of the queue.
type job struct {
	text    string
	attempt int
	until   time.Duration
	leased  bool
	done    bool
}

// held is a lease that was once given.
type held struct {
	claim *store.Claim
	job   *job
}

const modelQueue = "work.q"

// model does the same to a store and to the model and compares them, for many
// random orders of doing it.
func model(t *testing.T, open func(t *testing.T) Bench) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{
			t: t, b: open(t), ctx: t.Context(),
			texts: map[string][]string{}, seqs: map[string][]uint64{}, timers: map[string]waiting{},
		}
		acts := map[string]func(*rapid.T){
			"append": w.append, "append wrongly": w.appendWrongly, "load": w.load, "list": w.list, "restart": w.restart,
			"claim": w.claim, "use a lease": w.useLease, "": w.check,
		}
		if !w.b.Slow {
			acts["schedule"], acts["advance"] = w.schedule, w.advance
		}
		rt.Repeat(acts)
		if err := w.b.Store.Close(); err != nil {
			rt.Fatalf("close: %v", err)
		}
	})
}

func subjects() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"run.a", "run.A", "plan.x", modelQueue + ".a", modelQueue + ".b"})
}

func (w *world) last(subject string) uint64 {
	if s := w.seqs[subject]; len(s) > 0 {
		return s[len(s)-1]
	}
	return 0
}

func (w *world) take(subject string, text string) {
	w.texts[subject] = append(w.texts[subject], text)
	if strings.HasPrefix(subject, modelQueue+".") {
		w.work = append(w.work, &job{text: text})
	}
}

// entries makes new entries, each with a text of its own.
func (w *world) entries(rt *rapid.T) []store.Entry {
	var out []store.Entry
	for range rapid.IntRange(1, 3).Draw(rt, "entries") {
		w.count++
		out = append(out, entry(fmt.Sprint(w.count)+rapid.StringOfN(rapid.RuneFrom([]rune("a\n\"\\{}ü ")), 0, 4, -1).Draw(rt, "text")))
	}
	return out
}

func (w *world) append(rt *rapid.T) {
	subject := subjects().Draw(rt, "subject")
	es := w.entries(rt)
	last, err := w.b.Store.Append(w.ctx, subject, w.last(subject), es...)
	if err != nil {
		rt.Fatalf("append to %s at %d: %v", subject, w.last(subject), err)
	}
	for _, e := range es {
		w.take(subject, string(e.Data))
	}
	w.learn(rt, subject)
	if w.last(subject) != last {
		rt.Fatalf("append to %s gives %d, the last record has %d", subject, last, w.last(subject))
	}
}

func (w *world) appendWrongly(rt *rapid.T) {
	subject := subjects().Draw(rt, "subject")
	expect := rapid.Uint64Range(0, 30).Draw(rt, "expect")
	if expect == w.last(subject) {
		expect++
	}
	_, err := w.b.Store.Append(w.ctx, subject, expect, w.entries(rt)...)
	if c, ok := errors.AsType[*store.ConflictError](err); !ok || c.Last != w.last(subject) {
		rt.Fatalf("append to %s at %d: %v; it ends at %d", subject, expect, err, w.last(subject))
	}
}

// learn compares a subject with the model and notes the sequences.
func (w *world) learn(rt *rapid.T, subject string) {
	var got []string
	var seqs []uint64
	for r, err := range w.b.Store.Load(w.ctx, subject, 0) {
		if err != nil {
			rt.Fatalf("load %s: %v", subject, err)
		}
		got, seqs = append(got, string(r.Data)), append(seqs, r.Seq)
	}
	if diff := gocmp.Diff(w.texts[subject], got); diff != "" {
		rt.Fatalf("%s (-model +store):\n%s", subject, diff)
	}
	known := w.seqs[subject]
	if !slices.Equal(known, seqs[:len(known)]) || !slices.IsSorted(seqs) || len(slices.Compact(slices.Clone(seqs))) != len(seqs) {
		rt.Fatalf("%s has sequences %v, had %v", subject, seqs, known)
	}
	w.seqs[subject] = seqs
}

func (w *world) load(rt *rapid.T) {
	subject := subjects().Draw(rt, "subject")
	after := rapid.Uint64Range(0, 20).Draw(rt, "after")
	var want, got []string
	for i, seq := range w.seqs[subject] {
		if seq > after {
			want = append(want, w.texts[subject][i])
		}
	}
	for r, err := range w.b.Store.Load(w.ctx, subject, after) {
		if err != nil {
			rt.Fatalf("load %s after %d: %v", subject, after, err)
		}
		got = append(got, string(r.Data))
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		rt.Fatalf("%s after %d (-model +store):\n%s", subject, after, diff)
	}
}

func (w *world) list(rt *rapid.T) {
	pattern := rapid.SampledFrom([]string{">", "run.>", "plan.x", modelQueue + ".>", "run"}).Draw(rt, "pattern")
	var want, got []string
	for _, subject := range slices.Sorted(maps.Keys(w.texts)) {
		if store.Match(pattern, subject) {
			want = append(want, fmt.Sprintf("%s %d", subject, w.last(subject)))
		}
	}
	for info, err := range w.b.Store.List(w.ctx, pattern) {
		if err != nil {
			rt.Fatalf("list %s: %v", pattern, err)
		}
		got = append(got, fmt.Sprintf("%s %d", info.Subject, info.Last))
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		rt.Fatalf("list %s (-model +store):\n%s", pattern, diff)
	}
}

// restart closes the store and opens it again; leases of before are gone.
func (w *world) restart(rt *rapid.T) {
	if err := w.b.Store.Close(); err != nil {
		rt.Fatalf("close: %v", err)
	}
	w.b.Store = w.b.Again(w.t)
	w.leases = nil
	if !w.b.Slow { // two processes do not append at the same instant
		w.b.Advance(time.Second)
		w.now += time.Second
		w.deliver(rt)
	}
}

func (w *world) claim(rt *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 6).Draw(rt, "seconds")) * time.Second
	if w.b.Slow {
		d = lease
	}
	i := slices.IndexFunc(w.work, func(j *job) bool { return !j.done && j.until <= w.now })
	c, err := w.b.Store.Claim(w.ctx, modelQueue, d)
	if i < 0 {
		if !errors.Is(err, store.ErrNothing) {
			rt.Fatalf("claim: %+v, %v; there is nothing", c, err)
		}
		return
	}
	if err != nil {
		rt.Fatalf("claim: %v; %s is waiting", err, w.work[i].text)
	}
	j := w.work[i]
	j.attempt++
	j.until, j.leased = w.now+d, true
	if string(c.Record.Data) != j.text || c.Attempt != j.attempt {
		rt.Fatalf("claim gives %s, attempt %d; want %s, attempt %d", c.Record.Data, c.Attempt, j.text, j.attempt)
	}
	w.leases = append(w.leases, held{c, j})
}

func (w *world) useLease(rt *rapid.T) {
	if len(w.leases) == 0 {
		rt.Skip("no lease was given")
	}
	h := rapid.SampledFrom(w.leases).Draw(rt, "lease")
	stands := h.job.leased && h.job.attempt == h.claim.Attempt && h.job.until > w.now
	d := time.Duration(rapid.IntRange(1, 6).Draw(rt, "seconds")) * time.Second
	if w.b.Slow {
		d = lease
	}
	var err error
	how := rapid.SampledFrom([]string{"extend", "done", "release"}).Draw(rt, "how")
	switch how {
	case "extend":
		err = h.claim.Lease.Extend(w.ctx, d)
	case "done":
		err = h.claim.Lease.Done(w.ctx)
	case "release":
		err = h.claim.Lease.Release(w.ctx, d)
	}
	if !stands {
		if !errors.Is(err, store.ErrLost) {
			rt.Fatalf("%s of a lost lease on %s: %v", how, h.job.text, err)
		}
		return
	}
	if err != nil {
		rt.Fatalf("%s of a lease on %s: %v", how, h.job.text, err)
	}
	switch how {
	case "extend":
		h.job.until = w.now + d
	case "done":
		h.job.leased, h.job.done = false, true
	case "release":
		h.job.leased, h.job.until = false, w.now+d
	}
}

func (w *world) schedule(rt *rapid.T) {
	key := rapid.SampledFrom([]string{"k.a", "k.b", "k.c"}).Draw(rt, "key")
	d := time.Duration(rapid.IntRange(-2, 6).Draw(rt, "seconds")) * time.Second
	subject := rapid.SampledFrom([]string{"plan.x", "run.a"}).Draw(rt, "subject")
	w.count++
	text := fmt.Sprint("timer ", w.count)
	if err := w.b.Store.Schedule(w.ctx, store.Timer{Key: key, At: Epoch().Add(w.now + d), Subject: subject, Entry: entry(text)}); err != nil {
		rt.Fatalf("schedule %s: %v", key, err)
	}
	w.timers[key] = waiting{w.now + d, subject, fmt.Sprintf("%q", text)}
	w.deliver(rt)
}

func (w *world) advance(rt *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 5).Draw(rt, "seconds")) * time.Second
	w.b.Advance(d)
	w.now += d
	w.deliver(rt)
}

// deliver appends what is due to the model and looks at the store's answer.
func (w *world) deliver(rt *rapid.T) {
	var due []string
	for key, t := range w.timers {
		if t.at <= w.now {
			due = append(due, key)
		}
	}
	slices.SortFunc(due, func(a, b string) int {
		return cmp.Or(cmp.Compare(w.timers[a].at, w.timers[b].at), cmp.Compare(a, b))
	})
	for _, key := range due {
		t := w.timers[key]
		delete(w.timers, key)
		w.take(t.subject, t.text)
	}
	w.learn(rt, "plan.x")
	w.learn(rt, "run.a")
}

func (w *world) check(rt *rapid.T) {
	for subject := range w.texts {
		w.learn(rt, subject)
	}
}
