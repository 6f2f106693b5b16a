package session_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

// read gives what a list should, by reading each session.
func read(t *testing.T, s *file.Store, f session.Filter) (out []session.Session, queued, running int) {
	t.Helper()
	for info, err := range s.List(t.Context(), session.Subjects) {
		if err != nil {
			t.Fatal(err)
		}
		one, err := session.Load(t.Context(), s, strings.TrimPrefix(info.Subject, "session."))
		if err != nil {
			t.Fatal(err)
		}
		for _, turn := range one.Turns {
			switch turn.State {
			case session.Queued:
				queued++
			case session.Running:
				running++
			}
		}
		if f.Match(one) {
			out = append(out, one)
		}
	}
	slices.SortStableFunc(out, func(a, b session.Session) int { return b.Changed.Compare(a.Changed) })
	if f.Limit > 0 {
		out = out[:min(f.Limit, len(out))]
	}
	return out, queued, running
}

// Two replicas ask, answer, close and delete in a random order; the index of one of them
// shows what reading everything gives, each time and for every filter.
func TestIndexShowsWhatIsThere(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			dir := t.TempDir()
			var stores []*file.Store
			for range 2 {
				s, err := file.Open(file.Config{Dir: dir})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
				stores = append(stores, s)
			}
			x := session.NewIndex(stores[0])
			var ids, turns []string
			for range 60 {
				i := r.IntN(2)
				b := &session.Book{Journal: stores[i]}
				a := ask(fmt.Sprint("why ", r.IntN(5)))
				a.Source, a.Key, a.By = []string{session.API, session.Slack}[r.IntN(2)], fmt.Sprint("key ", r.IntN(8)), incident.Person{Name: []string{"ann", "bob"}[r.IntN(2)]}
				at := 0
				if len(ids) > 0 {
					at = r.IntN(len(ids))
				}
				var err error
				switch n := r.IntN(8); {
				case n < 3 || len(ids) == 0: // also one whose key was used, and that is there, or was deleted
					if n == 0 && len(ids) > 0 {
						a.Session, a.Key = ids[at], ""
					}
					var s session.Session
					var turn session.Turn
					if s, turn, err = b.Ask(t.Context(), a); err == nil {
						ids, turns = append(ids, s.ID), append(turns, turn.ID)
					}
				case n == 3:
					_, err = b.Cancel(t.Context(), ids[at], turns[at], "not wanted")
				case n == 4:
					_, err = b.Close(t.Context(), ids[at])
				case n == 5:
					yes := r.IntN(2) == 0
					_, err = b.NoteAlerts(t.Context(), ids[at], nil, &yes)
				case n == 6:
					_, err = b.AddPlan(t.Context(), ids[at], fmt.Sprint("plan-", r.IntN(9)))
				default:
					err = stores[i].Remove(t.Context(), "session."+ids[at])
				}
				if _, refused := errors.AsType[*session.Refusal](err); err != nil && !refused {
					t.Fatal(err)
				}
				run := "run-none"
				if len(turns) > 0 {
					run = turns[r.IntN(len(turns))]
				}
				for _, f := range []session.Filter{{}, {Limit: 2}, {Open: true}, {Source: session.Slack, Limit: 1}, {Owner: "ann"}, {Text: "why 3", Limit: 3}, {Run: run}} {
					want, queued, running := read(t, stores[1], f)
					got, err := x.List(t.Context(), f)
					if diff := gocmp.Diff(want, got); diff != "" || err != nil {
						t.Fatalf("%+v (-read +index, %v):\n%s", f, err, diff)
					}
					q, n, err := x.Counts(t.Context())
					if q != queued || n != running || err != nil {
						t.Fatalf("%d queued, %d running; there are %d and %d (%v)", q, n, queued, running, err)
					}
					for _, s := range got { // what is done to an answer is not done to the index
						s.Turns[0].State = session.Failed
					}
				}
			}
		})
	}
}
