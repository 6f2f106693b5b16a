package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

// paper is a journal whose pages can be torn out; it keeps the contract of a store.
type paper struct {
	mu   sync.Mutex
	recs map[string][]store.Record
	// before is called outside of the lock before an append is taken.
	before func(subject string)
	// fail refuses appends to a subject.
	fail map[string]error
}

func newPaper() *paper { return &paper{recs: map[string][]store.Record{}, fail: map[string]error{}} }

func (p *paper) Append(_ context.Context, subject string, expect uint64, entries ...store.Entry) (uint64, error) {
	if p.before != nil {
		p.before(subject)
	}
	entries, err := store.CheckEntries(entries)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fail[subject]; err != nil {
		return 0, err
	}
	last := uint64(0)
	if n := len(p.recs[subject]); n > 0 {
		last = p.recs[subject][n-1].Seq
	}
	if last != expect {
		return 0, &store.ConflictError{Subject: subject, Expect: expect, Last: last}
	}
	for _, e := range entries {
		last += 3 // a sequence need not grow by one
		p.recs[subject] = append(p.recs[subject], store.Record{Subject: subject, Seq: last, Type: e.Type, Data: e.Data})
	}
	return last, nil
}

func (p *paper) Load(_ context.Context, subject string, after uint64) iter.Seq2[store.Record, error] {
	p.mu.Lock()
	recs := slices.Clone(p.recs[subject])
	p.mu.Unlock()
	return func(yield func(store.Record, error) bool) {
		for _, r := range recs {
			if r.Seq > after && !yield(r, nil) {
				return
			}
		}
	}
}

func (p *paper) clone() *paper {
	n := newPaper()
	for k, v := range p.recs {
		n.recs[k] = slices.Clone(v)
	}
	return n
}

func key() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

func logOn(t testing.TB, j Journal) *Log {
	t.Helper()
	k := key()
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	l, err := New(Config{Journal: j,
		Sign: func(_ context.Context, p []byte) ([]byte, string, error) { return ed25519.Sign(k, p), "k1", nil },
		Verify: func(id string, p, sig []byte) error {
			if id != "k1" || !ed25519.Verify(k.Public().(ed25519.PublicKey), p, sig) {
				return errors.New("it does not fit")
			}
			return nil
		},
		Now: func() time.Time { mu.Lock(); defer mu.Unlock(); at = at.Add(time.Second); return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(t.Context(), Entry{Actor: "anna", What: "write.done", Plan: fmt.Sprintf("p%d", i%3), Step: "s1", Write: fmt.Sprintf("s1.%d", i), Detail: json.RawMessage(`{"n": ` + fmt.Sprint(i) + `, "t": "<a&b>"}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t testing.TB, j Journal, must []Must, known ...Head) Report {
	t.Helper()
	r, err := logOn(t, j).Verify(t.Context(), must, known...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSound(t *testing.T) {
	t.Parallel()
	j := newPaper()
	if r := verify(t, j, nil); !r.OK || r.Entries != 0 || r.Head != nil {
		t.Errorf("an empty log: %+v", r)
	}
	l := logOn(t, j)
	fill(t, l, 5)
	r := verify(t, j, []Must{{What: "write.done", Plan: "p1", Write: "s1.4"}, {Actor: "anna"}}, Head{})
	if !r.OK || r.Entries != 5 || r.Signed != 5 || r.Head.Seq != 5 {
		t.Fatalf("%+v", r)
	}
	head, err := ParseHead(r.Head.String())
	if err != nil {
		t.Fatal(err)
	}
	fill(t, logOn(t, j), 2) // another process goes on
	fill(t, l, 1)           // and this one after it
	if r := verify(t, j, nil, head); !r.OK || r.Entries != 8 {
		t.Errorf("%+v", r)
	}
	var got []uint64
	for e, err := range l.Entries(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, e.Seq); e.Seq == 2 {
			break
		}
	}
	if !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("%v", got)
	}
	r = verify(t, j, []Must{{What: "write.done", Plan: "p9"}, {What: "write.done"}})
	if r.OK || len(r.Missing) != 1 || r.Missing[0].Plan != "p9" {
		t.Errorf("what is not there is not missed: %+v", r)
	}
}

// TestAnyChangeIsFound: a log with one record edited, dropped, swapped, repeated or
// put in is never sound, the last record not excepted.
func TestAnyChangeIsFound(t *testing.T) {
	t.Parallel()
	whole := newPaper()
	fill(t, logOn(t, whole), 6)
	foreign := newPaper()
	fill(t, logOn(t, foreign), 9)
	rapid.Check(t, func(rt *rapid.T) {
		j := whole.clone()
		recs := j.recs[LogSubject]
		i := rapid.IntRange(0, len(recs)-1).Draw(rt, "at")
		how := rapid.SampledFrom([]string{"byte", "insert", "drop", "tail", "swap", "repeat", "type", "alike", "foreign", "rehash"}).Draw(rt, "how")
		switch how {
		case "byte":
			data := slices.Clone(recs[i].Data)
			at, b := rapid.IntRange(0, len(data)-1).Draw(rt, "byte at"), rapid.Byte().Draw(rt, "byte")
			if data[at] == b {
				return
			}
			data[at] = b
			recs[i].Data = data
		case "insert":
			data := slices.Clone(recs[i].Data)
			recs[i].Data = slices.Insert(data, rapid.IntRange(0, len(data)).Draw(rt, "byte at"), rapid.Byte().Draw(rt, "byte"))
		case "drop":
			recs = slices.Delete(recs, i, i+1)
		case "tail":
			recs = recs[:i]
		case "swap":
			k := rapid.IntRange(0, len(recs)-1).Draw(rt, "with")
			if k == i {
				return
			}
			recs[i].Data, recs[k].Data = recs[k].Data, recs[i].Data
		case "repeat":
			recs = slices.Insert(recs, i, recs[i])
		case "type":
			recs[i].Type = "audit.other"
		case "alike":
			recs[i].Data = bytes.Replace(recs[i].Data, []byte(`"actor"`), []byte(`"Actor"`), 1)
		case "foreign":
			recs[i].Data = foreign.recs[LogSubject][len(recs)+2].Data
		case "rehash": // edited by someone who knows how hashes are made, but has no key
			var e Entry
			if err := json.Unmarshal(recs[i].Data, &e); err != nil {
				rt.Fatal(err)
			}
			e.Actor = "mallory"
			var err error
			if e.Hash, err = hashOf(e); err != nil {
				rt.Fatal(err)
			}
			recs[i].Data, _ = json.Marshal(e)
		}
		j.recs[LogSubject] = recs
		r, err := logOn(t, j).Verify(t.Context(), nil)
		if err != nil {
			rt.Fatal(err)
		}
		if r.OK || r.Bad == nil {
			rt.Fatalf("%s at %d is not found: %+v", how, i, r)
		}
		if how != "tail" && how != "drop" && how != "swap" && r.Bad.Seq != uint64(i)+1 && r.Bad.Seq != uint64(i)+2 {
			rt.Errorf("%s at %d is found at entry %d: %s", how, i, r.Bad.Seq, r.Bad.Why)
		}
		if _, err := logOn(t, j).Append(t.Context(), Entry{Actor: "a", What: "w"}); err == nil {
			// An append checks the chain and the last signature; those before it are
			// for Verify.
			if !strings.HasPrefix(r.Bad.Why, "its signature") {
				rt.Errorf("%s at %d: the log is appended to all the same", how, i)
			}
		} else if _, ok := errors.AsType[*BrokenError](err); !ok {
			rt.Errorf("%s at %d: %v", how, i, err)
		}
	})
}

func TestDroppedTailWithItsHeads(t *testing.T) {
	t.Parallel()
	j := newPaper()
	fill(t, logOn(t, j), 4)
	head := *verify(t, j, nil).Head
	j.recs[LogSubject], j.recs[HeadSubject] = j.recs[LogSubject][:3], j.recs[HeadSubject][:3]
	if r := verify(t, j, nil); !r.OK {
		t.Errorf("a log that was cut together with its heads looks like an earlier one: %+v", r)
	}
	if r := verify(t, j, nil, head); r.OK || len(r.Lost) != 1 {
		t.Errorf("a head that was written down does not show it: %+v", r)
	}
	if r := verify(t, j, []Must{{What: "write.done", Write: "s1.3"}}); r.OK || len(r.Missing) != 1 {
		t.Errorf("the record of a plan does not show it: %+v", r)
	}
}

func TestHeadsOfAStranger(t *testing.T) {
	t.Parallel()
	j := newPaper()
	fill(t, logOn(t, j), 2)
	raw, _ := json.Marshal(Head{Seq: 99, Hash: "sha256:00", KeyID: "k1", Signature: make([]byte, 64)})
	j.recs[HeadSubject] = append(j.recs[HeadSubject], store.Record{Seq: 100, Type: HeadType, Data: raw}, store.Record{Seq: 101, Type: HeadType, Data: []byte("7")})
	if r := verify(t, j, nil); !r.OK || r.Signed != 2 {
		t.Errorf("an unsigned head counts: %+v", r)
	}
}

func TestCrashBetweenEntryAndHead(t *testing.T) {
	t.Parallel()
	j := newPaper()
	l := logOn(t, j)
	fill(t, l, 1)
	j.fail[HeadSubject] = errors.New("the disk is full")
	if _, err := l.Append(t.Context(), Entry{Actor: "a", What: "w"}); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Fatalf("the head could not be kept, and nobody is told: %v", err)
	}
	if r := verify(t, j, nil); !r.OK || r.Entries != 2 || r.Signed != 1 {
		t.Errorf("%+v", r)
	}
	delete(j.fail, HeadSubject)
	fill(t, logOn(t, j), 1)
	if r := verify(t, j, nil); !r.OK || r.Entries != 3 || r.Signed != 3 {
		t.Errorf("%+v", r)
	}
}

func TestManyWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 3 {
		s, err := file.Open(file.Config{Dir: dir, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		l := logOn(t, s)
		for range 2 {
			wg.Go(func() {
				for i := range 5 {
					if _, err := l.Append(t.Context(), Entry{Actor: "a", What: "w", Write: fmt.Sprint(i)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	s, err := file.Open(file.Config{Dir: dir, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if r := verify(t, s, nil); !r.OK || r.Entries != 30 || r.Signed != 30 {
		t.Errorf("%+v", r)
	}
	// A line that is cut out of the file itself.
	name := ""
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if raw, err := os.ReadFile(path); err == nil && bytes.Contains(raw, []byte(`"`+LogSubject+`"`)) {
				name = path
			}
		}
		return err
	})
	if err != nil || name == "" {
		t.Fatalf("no journal of the log: %v", err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(raw, []byte("\n"))
	for _, cut := range []int{1, 15, 30} {
		if err := os.WriteFile(name, bytes.Join(slices.Delete(slices.Clone(lines), cut, cut+1), nil), 0o600); err != nil {
			t.Fatal(err)
		}
		fresh, err := file.Open(file.Config{Dir: dir, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		if r := verify(t, fresh, nil); r.OK || r.Bad == nil {
			t.Errorf("line %d is cut out of the file, and the log is sound: %+v", cut, r)
		}
		fresh.Close()
	}
}

func TestGivesUpAgainstAFasterWriter(t *testing.T) {
	t.Parallel()
	j := newPaper()
	other := logOn(t, j)
	l := logOn(t, j)
	busy := false
	j.before = func(subject string) {
		if busy || subject != LogSubject {
			return
		}
		busy = true
		fill(t, other, 1)
		busy = false
	}
	if _, err := l.Append(t.Context(), Entry{Actor: "a", What: "w"}); err == nil || !strings.Contains(err.Error(), "faster") {
		t.Errorf("%v", err)
	}
	j.before = nil
	if r := verify(t, j, nil); !r.OK || r.Entries != tries {
		t.Errorf("%+v", r)
	}
}

func TestEntriesThatAreRefused(t *testing.T) {
	t.Parallel()
	l := logOn(t, newPaper())
	for name, e := range map[string]Entry{
		"nobody": {What: "w"}, "nothing": {Actor: "a"}, "no JSON": {Actor: "a", What: "w", Detail: json.RawMessage("{")},
		"large": {Actor: "a", What: "w", Detail: json.RawMessage(`"` + strings.Repeat("x", maxDetail) + `"`)},
	} {
		if _, err := l.Append(t.Context(), e); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if e, err := l.Append(t.Context(), Entry{Actor: "a\xff", What: "w"}); err != nil || e.Actor != "a\uFFFD" {
		t.Errorf("%+v, %v", e, err)
	}
	if r, err := l.Verify(t.Context(), nil); err != nil || !r.OK {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a log without a key")
	}
}

func FuzzHead(f *testing.F) {
	f.Add("12:sha256:3f")
	f.Add("0:x")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := ParseHead(s); err == nil && (h.Seq == 0 || h.String() != s) {
			t.Errorf("%q is %+v", s, h)
		}
	})
}

func FuzzRecord(f *testing.F) {
	j := newPaper()
	fill(f, logOn(f, j), 1)
	sound := j.recs[LogSubject][0].Data
	f.Add([]byte(sound))
	f.Add([]byte(`{"seq":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, why := read(store.Record{Type: EntryType, Data: raw}, Entry{})
		if why == "" && (e.Seq != 1 || e.Prev != "") {
			t.Errorf("%s is taken for the first entry", raw)
		}
		if why == "" && !json.Valid(raw) {
			t.Errorf("%s is no JSON", raw)
		}
	})
}
