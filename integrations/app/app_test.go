package app_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/prompt"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// Every case that ships gets the answer it wants, offline. This is the promise
// of the README: outcome always right, no false accusation, every claim cited.
func TestCasesOffline(t *testing.T) {
	t.Parallel()
	fsys, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	cases, err := evals.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	known, err := app.KnownActions()
	if err != nil {
		t.Fatal(err)
	}
	check := published(t)
	factory, err := app.NewFactory(app.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	res, err := evals.Run(context.Background(), cases, func(ctx context.Context, c evals.Case) (incident.Report, error) {
		a, err := factory.FromBundle(ctx, c.Bundle)
		if err != nil {
			return incident.Report{}, err
		}
		defer func() { _ = a.Close() }()
		r, err := a.Investigate(ctx, c.Ask(), event.SinkFunc(func(event.Event) {}))
		if bad := check(r); bad != nil {
			t.Errorf("the report of %s is none by docs/report.schema.json: %v", c.ID, bad)
		}
		return r, err
	}, evals.Options{Known: known})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range res.Results {
		if !r.Passed() {
			t.Errorf("%s: %s %v", r.Case, r.Error, r.Misses)
		}
	}
	if res.OutcomeRate != 1 || res.CauseAt1 < 0.95 || res.FalseAccusations != 0 || res.EvidencePrecision != 1 || res.UnsafeActs != 0 {
		t.Errorf("scores: %+v", res.Score)
	}
	counts := map[string]int{}
	for _, c := range cases {
		counts[c.Track]++
	}
	for track, least := range map[string]int{"dra": 30, "kubernetes": 25, "twin": 20} {
		if counts[track] < least {
			t.Errorf("%d cases on track %s, fewer than %d", counts[track], track, least)
		}
	}
}

// The library is clean against the tools that ship, covers every mode of the
// DRA catalogue, and can name every fault.
func TestRunbooksAreComplete(t *testing.T) {
	t.Parallel()
	problems, n, err := app.LintRunbooks(app.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	if n < 50 {
		t.Errorf("only %d runbooks", n)
	}
	lib, err := app.Library(app.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	modes, named := map[string]bool{}, map[string]bool{}
	for _, r := range lib.All() {
		for _, m := range r.Modes {
			modes[m] = true
		}
		for _, c := range r.Causes {
			named[c.Finding] = true
		}
	}
	for i := 1; i <= 42; i++ {
		if m := fmt.Sprintf("F%02d", i); !modes[m] {
			t.Errorf("no runbook covers %s", m)
		}
	}
	for _, c := range app.Codes() {
		if c.Role == incident.Fault && !named[c.Code] {
			t.Errorf("no runbook names %s", c.Code)
		}
	}
}

// All tools only read, their names are unique, and what a model is told of them
// fits the first turn.
func TestTools(t *testing.T) {
	t.Parallel()
	tools, err := app.Tools()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	tokens := 0
	for _, x := range tools {
		// One tool touches a workload, and is refused unless a person allows it.
		if x.Effect != tool.Read && (x.Name != "serving_probe" || x.Effect != tool.Probe) {
			t.Errorf("%s has effect %s", x.Name, x.Effect)
		}
		if slices.Contains(names, x.Name) {
			t.Errorf("%s stands twice", x.Name)
		}
		names = append(names, x.Name)
		raw, err := x.Input.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		tokens += prompt.Tokens(x.Name + x.Text + string(raw))
	}
	for want := range strings.FieldsSeq("kube_get kube_list kube_describe kube_events kube_logs kube_pod kube_workload kube_scheduling kube_network kube_storage kube_node kube_changes kube_access kube_survey dra_explain dra_what_if dra_overview dra_topology dra_extended dra_lint") {
		if !slices.Contains(names, want) {
			t.Errorf("there is no tool %s", want)
		}
	}
	// A model is offered a part of them at first (agent/investigate); this keeps the texts short.
	if tokens > 8000 {
		t.Errorf("the tools take %d tokens", tokens)
	}
}

func TestConfigRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*app.Config)
		say    string
	}{
		"bundle and context": {func(c *app.Config) { c.Bundle, c.Kubernetes.Context = "b", "c" }, "--context"},
		"model without name": {func(c *app.Config) { c.Model.Name = "openai" }, "PROVIDER/NAME"},
		"negative budget":    {func(c *app.Config) { c.Budget.Steps = -1 }, "budget"},
		"negative window":    {func(c *app.Config) { c.Model.Window = -1 }, "model.window"},
	} {
		cfg := app.Defaults()
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v does not name %s", name, err, c.say)
		}
	}
	cfg := app.Defaults()
	if err := cfg.Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}
