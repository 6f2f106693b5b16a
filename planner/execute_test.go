package planner_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

func cordonAC() []planner.Wish {
	return []planner.Wish{
		{Action: "cordon", Params: map[string]string{"node": "a"}},
		{Action: "uncordon", Params: map[string]string{"node": "b"}},
		{Action: "cordon", Params: map[string]string{"node": "c"}},
	}
}

var ann = incident.Person{Name: "ann"}

func TestExecuteAndUndo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := actions.Digest(w.node("c"))
	r := w.plan("plan-1", cordonAC()...)
	if got := r.Plan.Steps[0].Writes[0].Dry; got != "server" {
		t.Errorf("the server was not asked: %s", got)
	}
	if n := w.counter.writes(); n != 0 {
		t.Fatalf("planning wrote %d times", n)
	}
	r, err := w.executor().Execute(t.Context(), "plan-1", ann)
	if err != nil || r.State != incident.PlanVerified {
		t.Fatalf("%s %s: %v", r.State, r.Reason, err)
	}
	if !w.cordoned("a") || w.cordoned("b") || !w.cordoned("c") {
		t.Error("the nodes are not as planned")
	}
	if n := w.counter.writes(); n != 3 {
		t.Errorf("%d writes, want 3", n)
	}
	if got := w.node("c").GetAnnotations()[actions.Annotation]; got != "plan-1/s3.1" {
		t.Errorf("the mark is %q", got)
	}
	if r, err = w.executor().Undo(t.Context(), "plan-1", ann, "changed my mind"); err != nil || r.State != incident.PlanUndone || len(r.Left) > 0 {
		t.Fatalf("%s %v: %v", r.State, r.Left, err)
	}
	if w.cordoned("a") || !w.cordoned("b") || w.cordoned("c") || actions.Digest(w.node("c")) != before {
		t.Error("the nodes are not as they were")
	}
	if _, err := w.executor().Execute(t.Context(), "plan-1", ann); err == nil {
		t.Error("a plan is executed twice")
	}
}

// A process may end at any point: executing the plan again completes it, each write
// is made once, and nothing that stands is missing from the journal.
func TestEndAtEveryBoundary(t *testing.T) {
	t.Parallel()
	points := 0
	for n := 1; ; n++ {
		w := newWorld(t)
		w.plan("plan-1", cordonAC()...)
		seen, died := 0, ""
		e := w.executor()
		e.Boundary = func(p string) {
			if seen++; seen == n {
				died = p
				panic("the process ends")
			}
		}
		func() {
			defer func() { _ = recover() }()
			_, _ = e.Execute(t.Context(), "plan-1", ann)
		}()
		if died == "" {
			points = n - 1
			break
		}
		r, err := w.executor().Execute(t.Context(), "plan-1", ann)
		// At the very end there is nothing left to do but to say so.
		if held, ok := errors.AsType[*planner.Withheld](err); ok && held.Final {
			err = nil
		}
		if err != nil || r.State != incident.PlanVerified {
			t.Fatalf("ended at %d (%s): %s %s: %v", n, died, r.State, r.Reason, err)
		}
		if got := w.counter.writes(); got != 3 {
			t.Errorf("ended at %d (%s): %d writes, want 3", n, died, got)
		}
		for _, s := range r.Plan.Steps {
			if !r.Writes[s.Writes[0].ID].Done {
				t.Errorf("ended at %d (%s): the journal does not know of %s", n, died, s.Writes[0].ID)
			}
		}
		if !r.Released {
			t.Errorf("ended at %d (%s): the targets are not free", n, died)
		}
	}
	if points < 30 {
		t.Errorf("only %d boundaries were tried", points)
	}
}

// The same for taking a plan back.
func TestEndAtEveryBoundaryOfAnUndo(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		w := newWorld(t)
		w.plan("plan-1", cordonAC()...)
		if _, err := w.executor().Execute(t.Context(), "plan-1", ann); err != nil {
			t.Fatal(err)
		}
		seen, died := 0, ""
		e := w.executor()
		e.Boundary = func(p string) {
			if seen++; seen == n {
				died = p
				panic("the process ends")
			}
		}
		func() {
			defer func() { _ = recover() }()
			_, _ = e.Undo(t.Context(), "plan-1", ann, "no")
		}()
		if died == "" {
			return
		}
		_, err := w.executor().Undo(t.Context(), "plan-1", ann, "no")
		if held, ok := errors.AsType[*planner.Withheld](err); err != nil && (!ok || !held.Final) {
			t.Fatalf("ended at %d (%s): %v", n, died, err)
		}
		r, err := w.desk().Load(t.Context(), "plan-1")
		if err != nil || r.State != incident.PlanUndone || len(r.Left) > 0 {
			t.Fatalf("ended at %d (%s): %s %v: %v", n, died, r.State, r.Left, err)
		}
		if w.cordoned("a") || !w.cordoned("b") || w.cordoned("c") || w.counter.writes() != 6 {
			t.Errorf("ended at %d (%s): not as it was, or %d writes in place of 6", n, died, w.counter.writes())
		}
	}
}

func TestWhatStopsAPlan(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		// change happens between approval and execution.
		change func(*world, *planner.Executor)
		state  incident.PlanState
		says   string
	}{
		{"nobody approved", func(_ *world, e *planner.Executor) { e.Consent = no{} }, incident.PlanPending, "nobody approved it"},
		{"the spec changed", func(w *world, _ *planner.Executor) {
			w.merge("c", map[string]any{"spec": map[string]any{"taints": []any{map[string]any{"key": "x", "effect": "NoSchedule"}}}})
		}, incident.PlanVoid, "its labels or its spec have changed"},
		{"a label changed", func(w *world, _ *planner.Executor) {
			w.merge("a", map[string]any{"metadata": map[string]any{"labels": map[string]any{"pool": "green"}}})
		}, incident.PlanVoid, "its labels or its spec have changed"},
		{"frozen", func(w *world, _ *planner.Executor) {
			w.merge("c", map[string]any{"metadata": map[string]any{"annotations": map[string]any{actions.Freeze: "release week"}}})
		}, incident.PlanVoid, "release week"},
		{"made anew", func(w *world, _ *planner.Executor) { w.replace("a") }, incident.PlanVoid, "deleted and made anew"},
		{"gone", func(w *world, _ *planner.Executor) { w.remove("a") }, incident.PlanVoid, "is gone"},
		{"another cluster", func(_ *world, e *planner.Executor) { e.ClusterUID = "other" }, incident.PlanPending, "this one has other"},
		{"no trail", func(w *world, _ *planner.Executor) { w.trail.fail = errors.New("disk full") }, incident.PlanPending, "audit trail cannot be written"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.plan("plan-1", cordonAC()...)
			e := w.executor()
			tc.change(w, e)
			n := w.counter.writes()
			_, err := e.Execute(t.Context(), "plan-1", ann)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("says %v, want %q", err, tc.says)
			}
			if got := w.counter.writes(); got != n {
				t.Errorf("%d writes of a plan that must not run", got-n)
			}
			w.trail.fail = nil
			if r, err := w.desk().Load(t.Context(), "plan-1"); err != nil || r.State != tc.state {
				t.Errorf("the plan is %s, want %s: %v", r.State, tc.state, err)
			}
		})
	}
}

// A status that moves on is no drift: only what an object is meant to be counts.
func TestStatusIsNoDrift(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan("plan-1", cordonAC()...)
	w.merge("a", map[string]any{"metadata": map[string]any{"annotations": map[string]any{"heartbeat": "1"}}})
	if r, err := w.executor().Execute(t.Context(), "plan-1", ann); err != nil || r.State != incident.PlanVerified {
		t.Errorf("%s %s: %v", r.State, r.Reason, err)
	}
}

// A step that fails half way is taken back, in reverse order.
func TestFailureIsTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan("plan-1", cordonAC()...)
	w.counter.before = func(r *http.Request) error {
		if strings.HasSuffix(r.URL.Path, "/nodes/c") {
			return errors.New("connection reset")
		}
		return nil
	}
	r, err := w.executor().Execute(t.Context(), "plan-1", ann)
	if err != nil || r.State != incident.PlanUndone || !strings.Contains(r.Reason, "connection reset") {
		t.Fatalf("%s %q: %v", r.State, r.Reason, err)
	}
	if w.cordoned("a") || !w.cordoned("b") || w.cordoned("c") {
		t.Error("the nodes are not as they were")
	}
	want := []string{"undo.begun", "write.begun", "write.ended", "write.begun", "write.ended", "plan.ended", "plan.released"}
	if got := w.events("plan-1"); !slices.Equal(got[len(got)-len(want):], want) {
		t.Errorf("%s", cmp.Diff(want, got))
	}
}

// A verification that fails takes the plan back; what somebody else changed in the
// meantime is left and said.
func TestFailedProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.build("plan-1", cordonAC()...)
	if err != nil {
		t.Fatal(err)
	}
	p.Verify = []incident.Check{{Kind: actions.CheckField, Subject: incident.Ref{Cluster: "lab", Kind: "Node", Name: "a"}, Params: map[string]string{"path": "spec.podCIDR", "value": "10.0.0.0/24"}, Say: "the node has a range", Within: 10}}
	w.file(p)
	e := w.executor()
	e.Boundary = func(point string) {
		if point == "before undo.begun" {
			w.merge("c", map[string]any{"metadata": map[string]any{"labels": map[string]any{"hand": "made"}}})
		}
	}
	r, err := e.Execute(t.Context(), "plan-1", ann)
	if err != nil || r.State != incident.PlanStopped || len(r.Left) != 1 || !strings.Contains(r.Left[0], "not taken back: s3.u1") || !strings.Contains(r.Left[0], "somebody") {
		t.Fatalf("%s %q %q: %v", r.State, r.Reason, r.Left, err)
	}
	if w.cordoned("a") || !w.cordoned("b") || !w.cordoned("c") {
		t.Error("what nobody else touched is not as it was")
	}
	if got := r.Standing(); len(got) != 1 || !strings.HasPrefix(got[0], "s3.1") {
		t.Errorf("standing: %q", got)
	}
}

// What cannot be seen is no proof, and nothing is taken back for it either.
func TestUnclearProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.build("plan-1", cordonAC()...)
	if err != nil {
		t.Fatal(err)
	}
	p.Verify = []incident.Check{{Kind: actions.CheckNoFinding, Subject: incident.Ref{Kind: "Node", Name: "a"}, Params: map[string]string{"code": "kube.x"}, Say: "x is gone"}}
	w.file(p)
	r, err := w.executor().Execute(t.Context(), "plan-1", ann)
	if err != nil || r.State != incident.PlanStopped || len(r.Left) != 3 || !strings.Contains(r.Reason, "not proved") {
		t.Fatalf("%s %q %q: %v", r.State, r.Reason, r.Left, err)
	}
}

// That a plan began is not taken from the journal: without consent it is neither
// taken up again nor taken back.
func TestForgedBeginning(t *testing.T) {
	t.Parallel()
	for _, forged := range []event.Type{event.PlanBegun, event.UndoBegun} {
		w := newWorld(t)
		w.plan("plan-1", cordonAC()...)
		w.forge("plan-1", event.PlanBegun, event.Event{Progress: &event.Progress{By: ann}})
		w.forge("plan-1", event.WriteEnded, event.Event{Write: &incident.WriteResult{Write: "s2.1", Done: true}})
		if forged == event.UndoBegun {
			w.forge("plan-1", forged, event.Event{Progress: &event.Progress{By: ann}})
		}
		e := w.executor()
		e.Consent = no{}
		_, again := e.Execute(t.Context(), "plan-1", ann)
		_, back := e.Undo(t.Context(), "plan-1", ann, "")
		for _, err := range []error{again, back} {
			if err == nil || !strings.Contains(err.Error(), "nobody approved it when it began") {
				t.Errorf("%s: %v", forged, err)
			}
		}
		if n := w.counter.writes(); n != 0 {
			t.Errorf("%s: %d writes", forged, n)
		}
	}
}

// Two plans on one object do not work at the same time.
func TestOnePlanATarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan("plan-1", cordonAC()...)
	w.plan("plan-2", planner.Wish{Action: "cordon", Params: map[string]string{"node": "c"}})
	e := w.executor()
	tried := false
	e.Boundary = func(p string) {
		if p == "after step.begun" && !tried {
			tried = true
			_, err := w.executor().Execute(t.Context(), "plan-2", ann)
			if held, ok := errors.AsType[*planner.Withheld](err); !ok || !strings.Contains(held.Why, "plan-1 works on Node c") {
				t.Errorf("the second plan: %v", err)
			}
			if _, err := w.executor().Execute(t.Context(), "plan-1", ann); err == nil || !strings.Contains(err.Error(), "being executed by another process") {
				t.Errorf("the same plan a second time: %v", err)
			}
		}
	}
	if r, err := e.Execute(t.Context(), "plan-1", ann); err != nil || r.State != incident.PlanVerified || !tried {
		t.Fatalf("%s: %v", r.State, err)
	}
	if _, err := w.executor().Execute(t.Context(), "plan-2", ann); err == nil || !strings.Contains(err.Error(), "have changed") {
		t.Errorf("the second plan is not void: %v", err)
	}
}

func TestPlansOfOneObjectTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.plan("plan-1", planner.Wish{Action: "cordon", Params: map[string]string{"node": "a"}}, planner.Wish{Action: "uncordon", Params: map[string]string{"node": "a"}})
	r, err := w.executor().Execute(t.Context(), "plan-1", ann)
	if err != nil || r.State != incident.PlanVerified || w.cordoned("a") {
		t.Fatalf("%s %s: %v", r.State, r.Reason, err)
	}
	if d := r.Plan.Steps[1].Writes[0].Dry; !strings.Contains(d, "s1.1 has to come first") {
		t.Errorf("dry: %s", d)
	}
}

func TestBadPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, tc := range []struct {
		steps []planner.Wish
		says  string
	}{
		{nil, "at least one step"},
		{[]planner.Wish{{Action: "rm -rf"}}, "no such action"},
		{[]planner.Wish{{Action: "cordon"}}, `parameter "node": it is required`},
		{[]planner.Wish{{Action: "cordon", Params: map[string]string{"node": "a", "force": "yes"}}}, "no such parameter; it takes node"},
		{[]planner.Wish{{Action: "cordon", Params: map[string]string{"node": "z"}}}, "not found"},
		{[]planner.Wish{{Action: "cordon", Params: map[string]string{"node": "b"}}}, "there is nothing to do"},
		{slices.Repeat(cordonAC(), 7), "at most 20 steps"},
	} {
		if _, err := w.build("plan-x", tc.steps...); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v: %v, want %q", tc.steps, err, tc.says)
		}
	}
	if n := w.counter.writes(); n != 0 {
		t.Errorf("%d writes", n)
	}
}

// The bytes of a plan are the same however it travelled, and other bytes are another plan.
func TestCanonical(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.build("plan-1", cordonAC()...)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := planner.Canonical(p)
	if err != nil {
		t.Fatal(err)
	}
	back, err := planner.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	again, err := planner.Canonical(back)
	if err != nil || string(again) != string(raw) {
		t.Errorf("%v: %s", err, cmp.Diff(string(raw), string(again)))
	}
	base, _ := planner.Digest(p)
	for i, change := range []func(*incident.Plan){
		func(p *incident.Plan) { p.Steps[0].Writes[0].Ref.Name = "b" },
		func(p *incident.Plan) { p.Steps[0].Writes[0].Body = []byte(`[]`) },
		func(p *incident.Plan) { p.Steps[0].Writes[0].UID = "x" },
		func(p *incident.Plan) { p.Expires = p.Expires.Add(1) },
		func(p *incident.Plan) { p.Steps[2].Undo = nil },
		func(p *incident.Plan) { p.Requester.Name = "eve" },
	} {
		q, err := planner.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		change(&q)
		if d, err := planner.Digest(q); err != nil || d == base {
			t.Errorf("change %d leaves the digest: %v", i, err)
		}
	}
	for _, bad := range []string{`{}`, `{"version":1,"extra":2}`, string(raw) + "{}", strings.Replace(string(raw), `"version":1`, `"version":2`, 1), strings.Replace(string(raw), `"id":"s1"`, `"id":"s9"`, 1)} {
		if _, err := planner.Decode([]byte(bad)); err == nil {
			t.Errorf("%.60s is taken", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"plan-1","cluster_uid":"x","created":"2026-01-01T00:00:00Z","expires":"2026-01-02T00:00:00Z","steps":[{"id":"s1","writes":[{"id":"s1.1","api":"kubernetes","verb":"patch","version":"v1","resource":"nodes","uid":"u","ref":{"kind":"Node","name":"a"}}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := planner.Decode(raw)
		if err != nil {
			return
		}
		a, err := planner.Canonical(p)
		if err != nil {
			t.Skip(err)
		}
		q, err := planner.Decode(a)
		if err != nil {
			t.Fatalf("the canonical form is refused: %v", err)
		}
		if b, err := planner.Canonical(q); err != nil || string(a) != string(b) {
			t.Errorf("not canonical: %v", fmt.Sprint(err))
		}
	})
}
