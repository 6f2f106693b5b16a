package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// story is the state of a view under test: all that was appended to a subject.
type story struct {
	Subject string
	Texts   []string
}

// newView is one of the subjects that begin with a name.
func newView(s store.Store, name string, most int64) *store.View[story, int] {
	return store.NewView(s, store.ViewOptions[story, int]{
		Pattern: name + ">", Bytes: most,
		New: func(subject string) story { return story{Subject: subject} },
		Fold: func(t story, r store.Record) (story, error) {
			t.Texts = append(slices.Clone(t.Texts), fmt.Sprintf("%d %s", r.Seq, r.Data))
			return t, nil
		},
		Light: func(t story) int { return len(t.Texts) },
		Alive: func(n int) bool { return n%2 == 0 },
	})
}

// seen gives what a view shows.
func seen(ctx context.Context, v *store.View[story, int]) ([]story, error) {
	items, err := v.Items(ctx)
	errs := []error{err}
	out := []story{}
	for _, i := range items {
		s, ok, err := i.State(ctx)
		if err == nil && (!ok || i.Subject != s.Subject || i.Light != len(s.Texts)) {
			err = fmt.Errorf("%s is shown with %d records and has %v (%v)", i.Subject, i.Light, s, ok)
		}
		errs = append(errs, err)
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// folded reads everything anew.
func folded(ctx context.Context, s store.Store, name string) ([]story, error) {
	var errs []error
	out := []story{}
	for info, err := range s.List(ctx, name+">") {
		one := story{Subject: info.Subject}
		errs = append(errs, err)
		for r, err := range s.Load(ctx, info.Subject, 0) {
			errs = append(errs, err)
			one.Texts = append(one.Texts, fmt.Sprintf("%d %s", r.Seq, r.Data))
		}
		out = append(out, one)
	}
	return out, errors.Join(errs...)
}

// views does to a store, through two openings of it, what comes to mind, and holds
// views against what a whole reading gives each time.
func views(t *testing.T, open func(t *testing.T) Bench) {
	b := open(t)
	stores := []store.Store{b.Store, b.Again(t)}
	count, start := 0, time.Duration(0)
	advance := func(d time.Duration) { start += d; b.Advance(d) }
	rapid.Check(t, func(rt *rapid.T) {
		count++
		name := fmt.Sprintf("run%d.", count) // each begins with nothing
		all := []*store.View[story, int]{newView(stores[0], name, 0), newView(stores[1], name, 40), newView(stores[1], name, 0)}
		next := func() string { count++; return fmt.Sprint("text ", count) }
		own := rapid.SampledFrom([]string{name + "a", name + "A", name + "b"})
		subject := rapid.OneOf(own, rapid.Just("plan.x"))
		some := rapid.IntRange(0, len(stores)-1)
		acts := map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				s, to := stores[some.Draw(rt, "store")], subject.Draw(rt, "subject")
				advance(time.Millisecond) // two processes do not append at the same instant
				last := uint64(0)
				for r, err := range s.Load(t.Context(), to, 0) {
					if err != nil {
						rt.Fatal(err)
					}
					last = r.Seq
				}
				if _, err := s.Append(t.Context(), to, last, slices.Repeat([]store.Entry{entry(next())}, rapid.IntRange(1, 3).Draw(rt, "entries"))...); err != nil {
					rt.Fatal(err)
				}
			},
			"delete": func(rt *rapid.T) {
				advance(time.Millisecond) // what begins anew does so later
				if err := b.Delete(t.Context(), stores[some.Draw(rt, "store")], own.Draw(rt, "subject")); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				// One of them is not asked each time, and has more to catch up with.
				for i, v := range all[:rapid.IntRange(1, len(all)).Draw(rt, "views")] {
					// The other opening may know of a timer that is due and that this one
					// has not heard of: it looks first.
					other := stores[1-min(i, 1)]
					if _, err := folded(t.Context(), other, name); err != nil {
						rt.Fatal(err)
					}
					got, err := seen(t.Context(), v)
					if err != nil {
						rt.Fatalf("view %d: %v", i, err)
					}
					want, err := folded(t.Context(), other, name)
					if diff := gocmp.Diff(want, got); diff != "" || err != nil {
						rt.Fatalf("view %d (-all +view, %v):\n%s", i, err, diff)
					}
				}
			},
		}
		if !b.Slow {
			acts["schedule"] = func(rt *rapid.T) {
				at := Epoch().Add(start + time.Duration(rapid.IntRange(-2, 6).Draw(rt, "seconds"))*time.Second)
				if err := stores[some.Draw(rt, "store")].Schedule(t.Context(), store.Timer{Key: name + "k", At: at, Subject: name + "b", Entry: entry(next())}); err != nil {
					rt.Fatal(err)
				}
			}
			acts["advance"] = func(rt *rapid.T) { advance(time.Duration(rapid.IntRange(1, 5).Draw(rt, "seconds")) * time.Second) }
		}
		rt.Repeat(acts)
	})
}

// readYourWrites: what was acknowledged is shown, also by a view of another opening,
// and also while many ask at once.
func readYourWrites(t *testing.T, b Bench) {
	const writers, each = 6, 8
	stores := []store.Store{b.Store, b.Again(t)}
	all := []*store.View[story, int]{newView(stores[0], "run.", 0), newView(stores[1], "run.", 100)}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			subject, last := fmt.Sprintf("run.w%d", w), uint64(0)
			for n := range each {
				var err error
				if last, err = stores[w%2].Append(t.Context(), subject, last, entry("x")); err != nil {
					t.Error(err)
					return
				}
				items, err := all[(w+n)%2].Items(t.Context())
				i := slices.IndexFunc(items, func(i store.Viewed[story, int]) bool { return i.Subject == subject })
				if err != nil || i < 0 || items[i].Light != n+1 {
					t.Errorf("record %d of %s is not shown (%d subjects, %v)", n+1, subject, len(items), err)
					return
				}
			}
		})
	}
	wg.Wait()
}
