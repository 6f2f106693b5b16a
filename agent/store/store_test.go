package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

func at(n int) time.Time { return time.Date(2026, 11, 24, 3, 0, n, 0, time.UTC) }

func open(t *testing.T) *file.Store {
	t.Helper()
	s, err := file.Open(file.Config{Dir: t.TempDir(), Sync: func(*os.File) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func evidence(n int) incident.Evidence {
	return incident.Evidence{ID: fmt.Sprintf("E%d", n), Tool: "kube_pod", Cluster: "prod", At: at(n), Text: "Pending", Data: json.RawMessage(`{"phase":"Pending"}`)}
}

func diagnosis() incident.Diagnosis {
	return incident.Diagnosis{
		Outcome: incident.RootCause, Chain: []incident.Edge{}, Checked: []incident.CheckedItem{}, NotSeen: []incident.Gap{}, Proposals: []incident.Proposal{},
		Causes: []incident.Cause{{Subject: incident.Ref{Kind: "Pod", Namespace: "a", Name: "b"}, Code: "kube.x", Statement: "it is so", Confidence: 0.9, Evidence: []string{"E1"}}},
	}
}

func report(id string) incident.Report {
	return incident.Report{
		ID: id, Question: "why", Cluster: "prod", Model: "offline", Started: at(0), Ended: at(9), Stop: incident.StopDone,
		Diagnosis: diagnosis(), Evidence: []incident.Evidence{evidence(1), evidence(2)}, Findings: []incident.Finding{{Code: "kube.x"}},
		Usage: incident.Usage{ToolCalls: 2, Seconds: 9},
	}
}

// stream is a whole run, as the investigator emits it.
func stream(id string) []event.Event {
	e1, e2, d, r := evidence(1), evidence(2), diagnosis(), report(id)
	return []event.Event{
		{Type: event.RunStarted, Started: &event.Started{Question: incident.Question{Text: "why"}, Model: "offline"}},
		{Type: event.Phase, Phase: "triage"},
		{Type: event.ToolStarted, Call: &event.Call{ID: "E1", Tool: "kube_pod"}},
		// Parallel calls end in any order.
		{Type: event.ToolFinished, Evidence: &e2},
		{Type: event.ToolFinished, Evidence: &e1},
		{Type: event.Found, Finding: &incident.Finding{Code: "kube.x"}},
		{Type: event.Resolved, Subjects: []incident.Ref{{Kind: "Pod", Namespace: "a", Name: "b"}}},
		{Type: event.Hypotheses, Hypotheses: []incident.Hypothesis{{Cause: d.Causes[0]}}},
		{Type: event.Delta, Model: &event.Model{Text: "hm"}},
		{Type: event.ModelEnded, Model: &event.Model{InputTokens: 10, OutputTokens: 3, Cost: 0.5}},
		{Type: event.Concluded, Diagnosis: &d},
		{Type: event.RunEnded, Report: &r},
	}
}

// emit sends events through a recorder, as a run does.
func emit(id string, sink event.Sink, events []event.Event) {
	n := 0
	rec := event.NewRecorder(id, func() time.Time { n++; return at(n) }, sink)
	for _, e := range events {
		rec.Emit(e)
	}
}

// A whole run comes back as the report it gave.
func TestRunIsRebuilt(t *testing.T) {
	t.Parallel()
	s := open(t)
	log := store.NewRunLog(t.Context(), s, store.RunLogOptions{Failed: func(err error) { t.Error(err) }})
	emit("run-1", log, stream("run-1"))
	if log.Subject() != "run.run-1" || !log.Ended() {
		t.Errorf("the log is of %q, ended %t", log.Subject(), log.Ended())
	}
	var types []string
	for r, err := range s.Load(t.Context(), "run.run-1", 0) {
		if err != nil {
			t.Fatal(err)
		}
		var e event.Event
		if err := json.Unmarshal(r.Data, &e); err != nil || string(e.Type) != r.Type || e.Run != "run-1" {
			t.Errorf("record %d of type %s holds %+v, %v", r.Seq, r.Type, e, err)
		}
		types = append(types, r.Type)
	}
	want := "run.started tool.started tool.finished tool.finished finding subject.resolved hypotheses model.finished diagnosis run.ended"
	if got := strings.Join(types, " "); got != want {
		t.Errorf("journalled %s\nwant       %s", got, want)
	}
	r, err := store.LoadRun(t.Context(), s, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	if r.State != store.RunDone || len(r.Hypotheses) != 1 || r.Seq == 0 || r.At.IsZero() {
		t.Errorf("the run is %+v", r)
	}
	if diff := cmp.Diff(report("run-1"), r.Report); diff != "" {
		t.Errorf("the report (-given +rebuilt):\n%s", diff)
	}
	if _, err := store.LoadRun(t.Context(), s, "run-2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a run that is not there: %v", err)
	}
	if _, err := store.LoadRun(t.Context(), s, "../x"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a path as id: %v", err)
	}
	// The end is the end.
	again, err := store.Abandon(t.Context(), s, "run-1", "nobody")
	if err != nil || again.State != store.RunDone {
		t.Errorf("an ended run is abandoned: %+v, %v", again.State, err)
	}
}

// A run that was cut off after any of its events says so, with what is there.
func TestRunCutOff(t *testing.T) {
	t.Parallel()
	s := open(t)
	whole := stream("x")
	for n := 1; n < len(whole); n++ {
		id := fmt.Sprintf("cut-%d", n)
		emit(id, store.NewRunLog(t.Context(), s, store.RunLogOptions{}), whole[:n])
		r, err := store.LoadRun(t.Context(), s, id)
		if err != nil {
			t.Fatalf("after %d events: %v", n, err)
		}
		p := r.Report
		if r.State != store.RunOpen || p.Stop != incident.StopInterrupted || !strings.Contains(p.StopReason, "cut off") || p.Question != "why" || p.ID != id || p.Started.IsZero() {
			t.Errorf("after %d events: %s, %+v", n, r.State, p)
		}
		concluded := whole[n-1].Type == event.Concluded
		if concluded != (p.Diagnosis.Outcome == incident.RootCause) || !p.Diagnosis.Outcome.Valid() {
			t.Errorf("after %d events, the last %s: the outcome is %s", n, whole[n-1].Type, p.Diagnosis.Outcome)
		}
		if !concluded && (len(p.Diagnosis.NotSeen) != 1 || p.Diagnosis.Causes == nil) {
			t.Errorf("after %d events: the diagnosis is %+v", n, p.Diagnosis)
		}
		if n >= 5 {
			if diff := cmp.Diff(report("").Evidence, p.Evidence); diff != "" {
				t.Errorf("after %d events: evidence (-given +rebuilt):\n%s", n, diff)
			}
			if !strings.Contains(p.StopReason, "E2") || p.Cluster != "prod" || p.Usage.ToolCalls != 2 {
				t.Errorf("after %d events: %+v", n, p)
			}
		}
		r, err = store.Abandon(t.Context(), s, id, "its process is gone")
		if err != nil || r.State != store.RunAbandoned || !strings.Contains(r.Report.StopReason, "its process is gone") {
			t.Errorf("after %d events: abandoned %s, %q, %v", n, r.State, r.Report.StopReason, err)
		}
		seq := r.Seq
		if r, err = store.Abandon(t.Context(), s, id, "twice"); err != nil || r.Seq != seq {
			t.Errorf("after %d events: marked twice: %d then %d, %v", n, seq, r.Seq, err)
		}
	}
	// A run that was taken for dead and was not: its end counts.
	log := store.NewRunLog(t.Context(), s, store.RunLogOptions{Failed: func(err error) { t.Error(err) }})
	emit("slow", event.SinkFunc(func(e event.Event) {
		if e.Type == event.RunEnded {
			if _, err := store.Abandon(t.Context(), s, "slow", "it seems dead"); err != nil {
				t.Error(err)
			}
		}
		log.Emit(e)
	}), stream("slow"))
	if r, err := store.LoadRun(t.Context(), s, "slow"); err != nil || r.State != store.RunDone || r.Report.Stop != incident.StopDone {
		t.Errorf("the slow run is %s, %+v, %v", r.State, r.Report.Stop, err)
	}
}

// What is too large for a record is kept without what stands elsewhere.
func TestLargeRun(t *testing.T) {
	t.Parallel()
	s := open(t)
	events := stream("big")
	var all []incident.Evidence
	huge := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)
	for n := range 6 {
		ev := evidence(n + 1)
		ev.Data = huge
		all = append(all, ev)
	}
	var list []event.Event
	list = append(list, events[0])
	for i := range all {
		list = append(list, event.Event{Type: event.ToolFinished, Evidence: &all[i]})
	}
	tooBig := evidence(7)
	tooBig.Data = json.RawMessage(`"` + strings.Repeat("x", store.MaxData) + `"`)
	tooBig.Digest = "sha256:x"
	r := report("big")
	r.Evidence = all
	list = append(list, event.Event{Type: event.ToolFinished, Evidence: &tooBig}, event.Event{Type: event.RunEnded, Report: &r})
	emit("big", store.NewRunLog(t.Context(), s, store.RunLogOptions{Failed: func(err error) { t.Error(err) }}), list)
	got, err := store.LoadRun(t.Context(), s, "big")
	if err != nil {
		t.Fatal(err)
	}
	if got.State != store.RunDone || len(got.Report.Evidence) != 7 || !reflect.DeepEqual(all, got.Report.Evidence[:6]) {
		t.Fatalf("the run is %s with %d pieces of evidence", got.State, len(got.Report.Evidence))
	}
	last := got.Report.Evidence[6]
	if last.Data != nil || !last.Truncated || last.Text != "Pending" || last.Digest != "sha256:x" {
		t.Errorf("evidence too large for a record is kept as %+v", last)
	}
	if diff := cmp.Diff(report("big").Diagnosis, got.Report.Diagnosis); diff != "" {
		t.Errorf("the diagnosis (-given +rebuilt):\n%s", diff)
	}
}

// broken refuses everything from some record on.
type broken struct {
	store.Appender
	left int
	err  error
}

func (b *broken) Append(ctx context.Context, subject string, expect uint64, entries ...store.Entry) (uint64, error) {
	if b.left--; b.left < 0 {
		return 0, b.err
	}
	return b.Appender.Append(ctx, subject, expect, entries...)
}

// A journal that fails is said once and not asked again.
func TestRunLogFails(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for left := range 4 {
		s := open(t)
		var said []error
		b := &broken{Appender: s, left: left, err: full}
		log := store.NewRunLog(t.Context(), b, store.RunLogOptions{Failed: func(err error) { said = append(said, err) }})
		emit("r", log, stream("r"))
		if len(said) != 1 || !errors.Is(said[0], full) || b.left != -1 || log.Ended() {
			t.Errorf("after %d records: said %v, asked %d times more, ended %t", left, said, -1-b.left, log.Ended())
		}
		r, err := store.LoadRun(t.Context(), s, "r")
		if left == 0 && !errors.Is(err, store.ErrNotFound) || left > 0 && (err != nil || r.State != store.RunOpen) {
			t.Errorf("after %d records the run is %s, %v", left, r.State, err)
		}
	}
	// The run's id is another run's already.
	s := open(t)
	emit("r", store.NewRunLog(t.Context(), s, store.RunLogOptions{}), stream("r"))
	var said []error
	options := store.RunLogOptions{Failed: func(err error) { said = append(said, err) }}
	emit("r", store.NewRunLog(t.Context(), s, options), stream("r"))
	emit("bad id", store.NewRunLog(t.Context(), s, options), stream("bad id"))
	options.Begin = func(context.Context, string) error { return full }
	emit("r2", store.NewRunLog(t.Context(), s, options), stream("r2"))
	if len(said) != 3 || !errors.As(said[0], new(*store.ConflictError)) || !errors.Is(said[1], store.ErrInvalid) || !errors.Is(said[2], full) {
		t.Errorf("said %v", said)
	}
}

// An interrupted run still says so.
func TestRunLogOutlivesItsContext(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx, stop := context.WithCancel(t.Context())
	log := store.NewRunLog(ctx, s, store.RunLogOptions{Failed: func(err error) { t.Error(err) }})
	stop()
	emit("r", log, stream("r"))
	if !log.Ended() {
		t.Error("the end is not journalled")
	}
}

// records is a journal in memory, for what no store would give.
type records []store.Record

func (r records) Load(context.Context, string, uint64) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for i, rec := range r {
			rec.Seq = uint64(i + 1)
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// A later version may write records that this one does not know; a known one
// that cannot be read is named.
func TestStrangeRecords(t *testing.T) {
	t.Parallel()
	r, err := store.LoadRun(t.Context(), records{
		{Type: "run.started", Data: []byte(`{"started":{"question":{"text":"why"},"model":"m","new":1},"later":2}`)},
		{Type: "run.commented", Data: []byte(`"hello"`)},
		{Type: "finding", Data: []byte(`{}`)}, {Type: "tool.finished", Data: []byte(`{}`)}, {Type: "diagnosis", Data: []byte(`null`)},
	}, "r")
	if err != nil || r.Report.Question != "why" || r.Seq != 5 || len(r.Report.Findings) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []store.Record{{Type: "run.started", Data: []byte(`[]`)}, {Type: store.Abandoned, Data: []byte(`7`)}} {
		if _, err := store.LoadRun(t.Context(), records{bad}, "r"); err == nil || !strings.Contains(err.Error(), "run.r, sequence 1 ("+bad.Type+")") {
			t.Errorf("%s %s: %v", bad.Type, bad.Data, err)
		}
	}
	// The end without a report: what the events hold.
	r, err = store.LoadRun(t.Context(), records{
		{Type: "run.started", Data: []byte(`{"started":{"question":{"text":"why"},"model":"m"}}`)},
		{Type: "run.ended", Data: []byte(`{}`)},
	}, "r")
	if err != nil || r.State != store.RunDone || r.Report.Stop != incident.StopDone || r.Report.StopReason == "" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{">", "a", true}, {">", "a.b.c", true}, {"a", "a", true}, {"a", "a.b", false}, {"a.>", "a.b", true}, {"a.>", "a.b.c", true},
		{"a.>", "a", false}, {"a.>", "ab", false}, {"a.>", "ab.c", false}, {"a.b.>", "a.bc", false}, {"a", "A", false},
	} {
		if got := store.Match(c.pattern, c.subject); got != c.want {
			t.Errorf("%s matches %s: %t", c.pattern, c.subject, got)
		}
	}
}
