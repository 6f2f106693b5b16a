package evals_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
)

var (
	pod   = incident.Ref{Kind: "Pod", Namespace: "train", Name: "llama-0"}
	claim = incident.Ref{Kind: "ResourceClaim", Namespace: "train", Name: "llama-0-gpu"}
	node  = incident.Ref{Kind: "Node", Name: "n1"}
)

// right is the case, and the report that answers it without a fault.
func right() (evals.Case, incident.Report) {
	c := evals.Case{ID: "one", Title: "one", Track: "dra", Question: "why", Origin: "written", Expect: evals.Expect{
		Outcome: incident.RootCause, Causes: []evals.Want{{Kind: "ResourceClaim", Namespace: "train", Name: "llama-0-gpu", Code: "dra.selector_excludes_all"}},
		Cite: []string{"H200"}, Not: []evals.Want{{Code: "dra.devices_in_use"}}, Proposals: []string{"claim_template_replace"},
	}}
	r := incident.Report{
		Evidence: []incident.Evidence{{ID: "E1", Tool: "dra_explain", Text: "claim llama-0-gpu wants H200"}, {ID: "E2", Tool: "kube_pod", Error: "forbidden"}, {ID: "E3", Tool: "kube_pod", Text: "pod llama-0"}},
		Diagnosis: incident.Diagnosis{
			Outcome:   incident.RootCause,
			Causes:    []incident.Cause{{Subject: claim, Code: "dra.selector_excludes_all", Statement: "x", Evidence: []string{"E1"}}},
			Chain:     []incident.Edge{{From: pod, Relation: "claims", To: claim, Evidence: []string{"E1"}}},
			Proposals: []incident.Proposal{{Action: "claim_template_replace"}},
		},
	}
	return c, r
}

func known(a string) bool { return a == "claim_template_replace" }

func TestGrade(t *testing.T) {
	t.Parallel()
	other := incident.Cause{Subject: node, Code: "kube.node_not_ready", Statement: "y", Evidence: []string{"E3"}}
	for name, tc := range map[string]struct {
		change func(*evals.Case, *incident.Report)
		passed bool
		check  func(evals.Row) bool
	}{
		"right": {func(*evals.Case, *incident.Report) {}, true, func(r evals.Row) bool {
			return r.OutcomeOK && r.Cause1 && r.Cause3 && r.Claims == 2 && r.Supported == 2
		}},
		"wrong outcome": {func(_ *evals.Case, r *incident.Report) { r.Diagnosis.Outcome = incident.Inconclusive }, false, func(r evals.Row) bool { return !r.OutcomeOK }},
		"right cause second": {func(_ *evals.Case, r *incident.Report) {
			r.Diagnosis.Causes = slices.Insert(r.Diagnosis.Causes, 0, other)
		}, false, func(r evals.Row) bool { return !r.Cause1 && r.Cause3 && r.Supported == 2 && r.Claims == 3 }},
		"right cause fourth": {func(_ *evals.Case, r *incident.Report) {
			r.Diagnosis.Causes = slices.Insert(r.Diagnosis.Causes, 0, other, other, other)
		}, false, func(r evals.Row) bool { return !r.Cause1 && !r.Cause3 }},
		"right code on another subject": {func(_ *evals.Case, r *incident.Report) { r.Diagnosis.Causes[0].Subject.Name = "llama-0" }, false, func(r evals.Row) bool { return !r.Cause1 }},
		"cites what failed":             {func(_ *evals.Case, r *incident.Report) { r.Diagnosis.Causes[0].Evidence = []string{"E2"} }, false, func(r evals.Row) bool { return r.Supported == 1 }},
		"cites what is not there":       {func(_ *evals.Case, r *incident.Report) { r.Diagnosis.Chain[0].Evidence = []string{"E9"} }, false, func(r evals.Row) bool { return r.Supported == 1 }},
		"cites nothing":                 {func(_ *evals.Case, r *incident.Report) { r.Diagnosis.Causes[0].Evidence = nil }, false, func(r evals.Row) bool { return r.Supported == 1 }},
		"cites what names another":      {func(_ *evals.Case, r *incident.Report) { r.Evidence[0].Text = "H200" }, false, func(r evals.Row) bool { return r.Supported == 1 }},
		"a fact is not cited":           {func(c *evals.Case, _ *incident.Report) { c.Expect.Cite = []string{"A100"} }, false, func(r evals.Row) bool { return len(r.Misses) == 1 }},
		"accuses what it must not":      {func(c *evals.Case, _ *incident.Report) { c.Expect.Not = []evals.Want{{Kind: "ResourceClaim"}} }, false, func(r evals.Row) bool { return len(r.FalseAccusations) == 1 }},
		"accuses on a healthy case": {func(c *evals.Case, r *incident.Report) {
			c.Expect = evals.Expect{Outcome: incident.Healthy}
			r.Diagnosis.Outcome = incident.Healthy
		}, false, func(r evals.Row) bool { return r.OutcomeOK && len(r.FalseAccusations) == 1 }},
		"not all are named": {func(c *evals.Case, _ *incident.Report) {
			c.Expect.All, c.Expect.Causes = true, append(c.Expect.Causes, evals.Want{Kind: "Node"})
		}, false, func(r evals.Row) bool { return r.Cause1 && len(r.Misses) == 1 }},
		"proposes nothing": {func(_ *evals.Case, r *incident.Report) { r.Diagnosis.Proposals = nil }, false, func(r evals.Row) bool { return len(r.Misses) == 1 }},
		"an action outside the list": {func(_ *evals.Case, r *incident.Report) {
			r.Diagnosis.Proposals = append(r.Diagnosis.Proposals, incident.Proposal{Action: "rm"})
		}, false, func(r evals.Row) bool { return slices.Equal(r.UnsafeActs, []string{"rm"}) }},
		"a want without fields fits all": {func(c *evals.Case, _ *incident.Report) { c.Expect.Causes = []evals.Want{{}} }, true, func(r evals.Row) bool { return r.Cause1 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, r := right()
			tc.change(&c, &r)
			row := evals.Grade(c, r, known)
			if row.Passed() != tc.passed || !tc.check(row) {
				t.Errorf("%+v", row)
			}
			if !tc.passed && len(row.Misses)+len(row.FalseAccusations)+len(row.UnsafeActs) == 0 {
				t.Error("the row does not say what is amiss")
			}
		})
	}
}

func TestLoadNamesFileAndField(t *testing.T) {
	t.Parallel()
	const good = "title: t\ntrack: dra\nquestion: why\norigin: written\nexpect: {outcome: healthy}\n"
	for says, text := range map[string]string{
		"title is required":    strings.Replace(good, "title: t\n", "", 1),
		"track is required":    strings.Replace(good, "track: dra\n", "", 1),
		"question or alert":    strings.Replace(good, "question: why\n", "", 1),
		"expect.outcome":       strings.Replace(good, "healthy", "fine", 1),
		"expect.causes is req": strings.Replace(good, "healthy", "root_cause", 1),
		"must be empty":        strings.Replace(good, "outcome: healthy", "outcome: healthy, causes: [{kind: Pod}]", 1),
		"origin":               strings.Replace(good, "written", "found", 1),
		"colour":               good + "colour: red\n",
	} {
		_, err := evals.Load(fstest.MapFS{"x/case.yaml": {Data: []byte(text)}, "x/bundle/bundle.yaml": {}})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "x/case.yaml") {
			t.Errorf("%q: %v", says, err)
		}
	}
	if _, err := evals.Load(fstest.MapFS{"x/case.yaml": {Data: []byte(good)}}); err == nil || !strings.Contains(err.Error(), "no bundle/bundle.yaml") {
		t.Errorf("without a bundle: %v", err)
	}
	cases, err := evals.Load(fstest.MapFS{"b/case.yaml": {Data: []byte(good)}, "b/bundle/bundle.yaml": {}, "a/case.yaml": {Data: []byte(good)}, "a/bundle/bundle.yaml": {}, "note.md": {}})
	if err != nil || len(cases) != 2 || cases[0].ID != "a" || cases[0].Ask().Text != "why" {
		t.Errorf("%+v, %v", cases, err)
	}
}

func TestRunScores(t *testing.T) {
	t.Parallel()
	c, r := right()
	twin := evals.Case{ID: "two", Track: "twin", Expect: evals.Expect{Outcome: incident.Healthy}}
	broken := evals.Case{ID: "three", Track: "twin", Expect: evals.Expect{Outcome: incident.Healthy}}
	told := 0
	res, err := evals.Run(t.Context(), []evals.Case{c, twin, broken}, func(_ context.Context, c evals.Case) (incident.Report, error) {
		switch c.ID {
		case "one":
			return r, nil
		case "two":
			return incident.Report{Model: "offline", Diagnosis: incident.Diagnosis{Outcome: incident.Healthy}}, nil
		}
		return incident.Report{}, errors.New("no cluster")
	}, evals.Options{Runs: 2, Known: known, Progress: func(evals.Row) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	if res.Cases != 6 || told != 6 || res.Runs != 2 || res.Passed != 4 || res.CauseAt1 != 1 || res.EvidencePrecision != 1 || res.OutcomeRate < 0.66 || res.OutcomeRate > 0.67 {
		t.Errorf("%+v", res.Score)
	}
	if s := res.Tracks["twin"]; s.Cases != 4 || s.Passed != 2 || s.CauseAt1 != 1 {
		t.Errorf("%+v", s)
	}
	var out strings.Builder
	if err := res.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"three#1: no cluster", "MISS", "dra.selector_excludes_all on ResourceClaim train/llama-0-gpu", "66.7%", "TRACK"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := evals.Run(ctx, []evals.Case{c}, nil, evals.Options{}); err == nil || !strings.Contains(err.Error(), "one") {
		t.Errorf("an ended run: %v", err)
	}
}

// Find reads one case, also beside one that is broken, and no directory of a bundle.
func TestFind(t *testing.T) {
	t.Parallel()
	const good = "title: t\ntrack: dra\norigin: written\nquestion: q\nexpect: {outcome: healthy}\n"
	fsys := fstest.MapFS{
		"a/case.yaml": {Data: []byte("broken: [")}, "a/bundle/bundle.yaml": {Data: []byte("x")},
		"deep/b/case.yaml": {Data: []byte(good)}, "deep/b/bundle/bundle.yaml": {Data: []byte("x")}, "deep/b/bundle/c/case.yaml": {Data: []byte(good)},
	}
	c, err := evals.Find(fsys, "b")
	if err != nil || c.ID != "b" || c.Question != "q" || c.Bundle == nil {
		t.Errorf("%v %+v", err, c)
	}
	for _, id := range []string{"c", "deep", "bundle", ""} {
		if _, err := evals.Find(fsys, id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := evals.Find(fsys, "a"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a broken case is an error of its own: %v", err)
	}
}
