package investigate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func investigate(t testing.TB, cfg Config) (incident.Report, *tape) {
	t.Helper()
	return investigateIn(t, t.Context(), cfg)
}

func investigateIn(t testing.TB, ctx context.Context, cfg Config) (incident.Report, *tape) {
	t.Helper()
	inv, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tp := &tape{}
	r, err := inv.Run(ctx, incident.Question{Text: "why is pod train/llama-0 pending?"}, tp)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, r)
	ended := tp.of(event.RunEnded)
	if len(ended) != 1 || tp.types()[len(tp.types())-1] != event.RunEnded || !cmp.Equal(*ended[0].Report, r) {
		t.Error("the stream does not end with the report")
	}
	return r, tp
}

func TestOffline(t *testing.T) {
	t.Parallel()
	r, tp := investigate(t, base(t))
	d := r.Diagnosis
	if r.Stop != incident.StopDone || r.Model != "offline" || r.ID != "run-1" || d.Outcome != incident.RootCause || len(d.Causes) != 1 || d.Causes[0].Subject != claim {
		t.Fatalf("%s %s %+v", r.Stop, r.StopReason, d)
	}
	if len(d.Chain) != 1 || len(d.Proposals) != 1 || len(d.Unsupported) != 0 || len(d.Unexplained) != 0 {
		t.Errorf("%+v", d)
	}
	if r.Usage.ToolCalls != 2 || r.Usage.Steps != 0 || len(r.Evidence) != 2 || len(r.Findings) != 2 {
		t.Errorf("%+v", r.Usage)
	}
	want := []event.Type{event.RunStarted, event.Phase, event.ToolStarted, event.ToolFinished, event.Found, event.ToolStarted, event.ToolFinished, event.Found,
		event.Resolved, event.Concluded, event.RunEnded}
	if diff := cmp.Diff(want, tp.types()); diff != "" {
		t.Error(diff)
	}
	for i, e := range tp.events {
		if e.Seq != uint64(i+1) || e.Run != "run-1" {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

func TestOfflineIsTheSameTwice(t *testing.T) {
	t.Parallel()
	a, _ := investigate(t, base(t))
	b, _ := investigate(t, base(t))
	a.Usage.Seconds, b.Usage.Seconds = 0, 0
	for i := range a.Evidence {
		a.Evidence[i].Millis, b.Evidence[i].Millis = 0, 0
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
}

// TestOfflineUnsupported: triage is under the validator like everybody.
func TestOfflineUnsupported(t *testing.T) {
	t.Parallel()
	cfg := base(t)
	cfg.Triager = triager(func(ctx context.Context, q incident.Question, c tool.Caller) (incident.Assessment, error) {
		a, err := labTriage(ctx, q, c)
		a.Diagnosis.Causes[0].Evidence = []string{"E7"}
		return a, err
	})
	r, tp := investigate(t, cfg)
	if r.Diagnosis.Outcome != incident.Inconclusive || len(r.Diagnosis.Causes) != 0 || len(r.Diagnosis.Proposals) != 0 || len(r.Diagnosis.Unsupported) == 0 || len(r.Diagnosis.Unexplained) != 1 {
		t.Errorf("%+v", r.Diagnosis)
	}
	if rs := tp.of(event.Rejected); len(rs) != 1 || !rs[0].Rejection.Final {
		t.Error("the rejection is not in the stream")
	}
}

func TestNotSeen(t *testing.T) {
	t.Parallel()
	cfg := base(t)
	gap := incident.Gap{Source: "nodes", Why: "may not list nodes"}
	k := lab(t)
	k.status.Limits, k.limits = []incident.Gap{gap}, []incident.Gap{gap, {Source: "events", Why: "may not list events, hunter2"}}
	cfg.Toolsets = []tool.Toolset{k,
		kit{name: "prom", status: tool.Status{State: tool.Absent, Reason: "Prometheus is not configured", Fix: "set prometheus.url"}, tools: []tool.Tool{text("prom_query", "x")}},
		kit{name: "gpu", status: tool.Status{State: tool.Broken}}}
	r, _ := investigate(t, cfg)
	want := []incident.Gap{gap, {Source: "events", Why: "may not list events, ***"}, {Source: "prom", Why: "Prometheus is not configured", Fix: "set prometheus.url"}, {Source: "gpu", Why: "the toolset is broken"}}
	if diff := cmp.Diff(want, r.Diagnosis.NotSeen); diff != "" {
		t.Error(diff)
	}
}

func TestToolsOfToolsetsThatAreNotReady(t *testing.T) {
	t.Parallel()
	cfg := base(t)
	cfg.Toolsets = append(cfg.Toolsets, kit{name: "prom", status: tool.Status{State: tool.Denied, Reason: "no"}, tools: []tool.Tool{text("prom_query", "x")}})
	var got incident.Evidence
	cfg.Triager = triager(func(ctx context.Context, _ incident.Question, c tool.Caller) (incident.Assessment, error) {
		got, _ = c.Call(ctx, "prom_query", nil)
		return incident.Assessment{Diagnosis: incident.Diagnosis{Outcome: incident.Inconclusive}}, nil
	})
	investigate(t, cfg)
	if got.ErrorKind != string(tool.Invalid) {
		t.Errorf("%+v", got)
	}
}

func TestTriageFails(t *testing.T) {
	t.Parallel()
	fails := func(err error) Config {
		cfg := base(t)
		cfg.Triager = triager(func(ctx context.Context, q incident.Question, c tool.Caller) (incident.Assessment, error) {
			_, _ = labTriage(ctx, q, c)
			return incident.Assessment{}, err
		})
		return cfg
	}
	r, _ := investigate(t, fails(tool.Errorf(tool.Unreachable, "the API server at lab does not answer")))
	if r.Stop != incident.StopUnreachable || r.StopReason != "the API server at lab does not answer" || r.Diagnosis.Outcome != incident.Inconclusive || len(r.Diagnosis.Checked) != 2 {
		t.Errorf("%s %q %+v", r.Stop, r.StopReason, r.Diagnosis)
	}
	inv, err := New(fails(errors.New("odd hunter2")))
	if err != nil {
		t.Fatal(err)
	}
	r, err = inv.Run(t.Context(), incident.Question{Text: "x"}, nil)
	if err == nil || len(r.Evidence) != 2 {
		t.Errorf("%v, %d evidence", err, len(r.Evidence))
	}
	sound(t, r)
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	hang := func(started chan struct{}) triager {
		return func(ctx context.Context, q incident.Question, c tool.Caller) (incident.Assessment, error) {
			_, _ = labTriage(ctx, q, c)
			close(started)
			<-ctx.Done()
			return incident.Assessment{}, ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	cfg := base(t)
	cfg.Triager = hang(started)
	go func() { <-started; cancel() }()
	r, _ := investigateIn(t, ctx, cfg)
	if r.Stop != incident.StopInterrupted || len(r.Evidence) != 2 || len(r.Diagnosis.Unexplained) == 0 {
		t.Errorf("%s %+v", r.Stop, r.Diagnosis)
	}
	cfg.Triager = hang(make(chan struct{}))
	cfg.Budget.WallClock = 20 * time.Millisecond
	r, _ = investigate(t, cfg)
	if r.Stop != incident.StopBudget || !strings.Contains(r.StopReason, "20ms") {
		t.Errorf("%s %s", r.Stop, r.StopReason)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"no triager":      func(c *Config) { c.Triager = nil },
		"no redactor":     func(c *Config) { c.Redactor = nil },
		"negative budget": func(c *Config) { c.Budget.Steps = -1 },
		"two of one name": func(c *Config) { c.Toolsets = append(c.Toolsets, c.Toolsets[0]) },
	} {
		cfg := base(t)
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	cfg := base(t)
	cfg.Now, cfg.NewID = nil, nil
	inv, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a, b := inv.cfg.NewID(), inv.cfg.NewID()
	if a == b || !strings.HasPrefix(a, "run-") {
		t.Errorf("ids %q %q", a, b)
	}
}

func TestQuestionIsRedacted(t *testing.T) {
	t.Parallel()
	inv, err := New(base(t))
	if err != nil {
		t.Fatal(err)
	}
	tp := &tape{}
	q := incident.Question{Cluster: "other", Alert: &incident.Alert{Name: "KubePodNotReady", Labels: map[string]string{"pod": "llama-0", "x": "hunter2"}}}
	r, err := inv.Run(t.Context(), q, tp)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, r)
	if r.Question != "alert KubePodNotReady" || r.Alert.Labels["x"] != "***" || q.Alert.Labels["x"] != "hunter2" {
		t.Errorf("%q %v", r.Question, r.Alert)
	}
	if r.Cluster != "other" || r.Evidence[0].Cluster != "other" {
		t.Error("the question's cluster does not go first")
	}
	if slices.ContainsFunc(tp.events, func(e event.Event) bool { return e.Started != nil && e.Started.Question.Alert.Labels["x"] != "***" }) {
		t.Error("a secret is in the stream")
	}
}

// TestNothingToLookAt: a cluster that does not answer is said, not guessed around.
func TestNothingToLookAt(t *testing.T) {
	t.Parallel()
	absent := kit{name: "prom", status: tool.Status{State: tool.Absent, Reason: "not configured"}}
	broken := kit{name: "kube", status: tool.Status{State: tool.Broken, Reason: "the token has expired", Fix: "log in again"}}
	panics := kit{name: "kube", ask: func(context.Context) tool.Status { panic("boom") }}
	for _, tc := range []struct {
		name   string
		sets   []tool.Toolset
		stop   incident.Stop
		reason string
	}{
		{"broken", []tool.Toolset{absent, broken}, incident.StopUnreachable, "the token has expired; log in again"},
		{"panics", []tool.Toolset{panics}, incident.StopUnreachable, "kube failed inside when it was asked for its state"},
		{"one is ready", []tool.Toolset{broken, func() kit { k := lab(t); k.name = "lab"; return k }()}, incident.StopDone, ""},
		{"absent only", []tool.Toolset{absent}, incident.StopDone, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := base(t)
			cfg.Toolsets = tc.sets
			r, _ := investigate(t, cfg)
			if r.Stop != tc.stop || r.StopReason != tc.reason {
				t.Errorf("%s %q", r.Stop, r.StopReason)
			}
			if tc.stop == incident.StopUnreachable && (r.Diagnosis.Outcome != incident.Inconclusive || len(r.Diagnosis.NotSeen) != len(tc.sets)) {
				t.Errorf("%+v", r.Diagnosis)
			}
		})
	}
}

func TestStatusDoesNotAnswer(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	defer close(free)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	st := ask(ctx, kit{name: "kube", ask: func(context.Context) tool.Status { <-free; return tool.Status{} }})
	if st.State != tool.Broken || !strings.Contains(st.Reason, "in time") {
		t.Errorf("%+v", st)
	}
}
