package planner_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Two replicas file plans and speak about them while time goes by; what a desk lists is
// what each plan's journal gives at that moment, expiry included, which no record tells.
func TestDeskListsWhatStands(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		w := newWorld(t)
		// What is tested is what is there, not the disk.
		s, err := file.Open(file.Config{Dir: t.TempDir(), Sync: func(*os.File) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		w.store = s
		base, err := w.build("plan-base", planner.Wish{Action: "cordon", Params: map[string]string{"node": "a"}})
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(seed, 2))
		desks := []*planner.Desk{w.desk(), w.desk()}
		var ids []string
		for n := range 40 {
			w.now = w.now.Add(time.Duration(r.IntN(15)) * time.Minute)
			d := desks[r.IntN(2)]
			if r.IntN(3) == 0 || len(ids) == 0 {
				p := base
				p.ID, p.Created, p.Expires = fmt.Sprintf("plan-%d-%d", seed, n), w.now, w.now.Add(time.Hour)
				if _, err := d.File(t.Context(), p, incident.Decision{Verdict: incident.AskOne, Approvers: 1}, ""); err != nil {
					t.Fatal(err)
				}
				ids = append(ids, p.ID)
			} else {
				id := ids[r.IntN(len(ids))]
				switch r.IntN(3) {
				case 0: // a late word is refused
					_, err := d.Speak(t.Context(), incident.Approval{Plan: id, Word: []string{incident.Approved, incident.Rejected, incident.Commented}[r.IntN(3)], By: incident.Person{Name: "bob"}})
					if _, late := errors.AsType[*planner.Withheld](err); err != nil && !late {
						t.Fatal(err)
					}
				case 1:
					w.forge(id, event.PlanBegun, event.Event{Progress: &event.Progress{By: incident.Person{Name: "bob"}, Nonces: []string{fmt.Sprint(n)}}})
				case 2:
					w.forge(id, event.PlanEnded, event.Event{Progress: &event.Progress{State: incident.PlanVerified, Say: "it holds"}})
				}
			}
			var want, waiting []planner.Record
			for info, err := range w.store.List(t.Context(), planner.Subjects) {
				if err != nil {
					t.Fatal(err)
				}
				one, err := desks[0].Load(t.Context(), strings.TrimPrefix(info.Subject, "plan."))
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, one)
			}
			slices.SortStableFunc(want, func(a, b planner.Record) int { return b.Plan.Created.Compare(a.Plan.Created) })
			for _, one := range want {
				if one.State == incident.PlanPending {
					waiting = append(waiting, one)
				}
			}
			compare := func(want, got []planner.Record) string {
				if len(want) == len(got) && (len(want) == 0 || reflect.DeepEqual(want, got)) { // a diff of plans is slow
					return ""
				}
				return gocmp.Diff(want, got, cmpopts.IgnoreUnexported(planner.Record{})) + "they differ"
			}
			for i, d := range desks {
				got, err := d.List(t.Context())
				if diff := compare(want, got); diff != "" || err != nil {
					t.Fatalf("seed %d, step %d, desk %d (-read +listed, %v):\n%s", seed, n, i, err, diff)
				}
				for _, one := range got { // what is done to an answer is not done to the list
					one.Writes["s1.1"] = incident.WriteResult{Done: true}
				}
				got, err = d.Waiting(t.Context())
				if diff := compare(waiting, got); diff != "" || err != nil {
					t.Fatalf("seed %d, step %d, desk %d (-waiting +listed, %v):\n%s", seed, n, i, err, diff)
				}
			}
		}
	}
}
