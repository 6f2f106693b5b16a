package evals_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with its file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%s differs (%v):\n%s", name, err, got)
	}
}

// mixed is a run with one of each: a right answer, one accusation, one unsafe
// act, one failure.
func mixed(t *testing.T, runs int) evals.Result {
	t.Helper()
	c, r := right()
	r.Model, r.Usage.Seconds = "offline", 0.25
	twin := evals.Case{ID: "twin-quiet", Track: "twin", Expect: evals.Expect{Outcome: incident.Healthy}}
	rash, broken := c, c
	rash.ID, broken.ID = "rash", "broken"
	res, err := evals.Run(t.Context(), []evals.Case{c, twin, rash, broken}, func(_ context.Context, c evals.Case) (incident.Report, error) {
		out := r
		switch c.ID {
		case "twin-quiet":
			out.Diagnosis.Chain, out.Diagnosis.Proposals = nil, nil
		case "rash":
			out.Diagnosis.Proposals = []incident.Proposal{{Action: "node_delete"}}
		case "broken":
			return incident.Report{}, errors.New("the bundle cannot be read")
		}
		return out, nil
	}, evals.Options{Runs: runs, Known: known})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestTextGolden(t *testing.T) {
	t.Parallel()
	for name, runs := range map[string]int{"result.txt": 1, "result-2-runs.txt": 2} {
		var out bytes.Buffer
		if err := mixed(t, runs).WriteText(&out); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
	}
	if err := mixed(t, 1).WriteText(full{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestJSONGolden(t *testing.T) {
	t.Parallel()
	raw, err := json.MarshalIndent(mixed(t, 1), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "result.json", string(raw)+"\n")
	// A run of nothing has its lists and rates, not nulls.
	res, err := evals.Run(t.Context(), nil, nil, evals.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(res); err != nil || strings.Contains(string(raw), "null") || res.OutcomeRate != 1 {
		t.Errorf("%s %v", raw, err)
	}
}

// TestRunEnds: when the time is over, what was done counts and what was cut
// short does not.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	c, r := right()
	second := c
	second.ID = "two"
	for _, last := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		cases := []evals.Case{c, second}
		if !last {
			cases = append(cases, c)
		}
		res, err := evals.Run(ctx, cases, func(ctx context.Context, c evals.Case) (incident.Report, error) {
			if c.ID == "two" {
				cancel()
				return incident.Report{}, ctx.Err()
			}
			return r, nil
		}, evals.Options{Known: known})
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "two") {
			t.Errorf("%v", err)
		}
		if res.Cases != 1 || res.Passed != 1 || res.OutcomeRate != 1 || res.Tracks["dra"].Cases != 1 || len(res.Results) != 1 {
			t.Errorf("%+v", res)
		}
		cancel()
	}
}

// TestGradeIsStrict has answers that look right.
func TestGradeIsStrict(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*evals.Case, *incident.Report){
		"a fact in what only the second cause cites": func(_ *evals.Case, r *incident.Report) {
			r.Evidence[0].Text = "claim llama-0-gpu"
			r.Evidence = append(r.Evidence, incident.Evidence{ID: "E4", Text: "n1 H200"})
			r.Diagnosis.Causes = append(r.Diagnosis.Causes, incident.Cause{Subject: node, Code: "x", Evidence: []string{"E4"}})
		},
		"a fact in a look that failed": func(_ *evals.Case, r *incident.Report) {
			r.Evidence[0].Text = "claim llama-0-gpu"
			r.Evidence[1].Text = "H200"
			r.Diagnosis.Causes[0].Evidence = []string{"E1", "E2"}
		},
		"a fact in what nobody cites": func(_ *evals.Case, r *incident.Report) {
			r.Evidence[0].Text, r.Evidence[2].Text = "claim llama-0-gpu", "H200"
		},
		"a cause without a name": func(c *evals.Case, r *incident.Report) {
			c.Expect.Causes[0].Name = ""
			r.Diagnosis.Causes[0].Subject.Name = ""
		},
		"one good citation beside an invented one": func(_ *evals.Case, r *incident.Report) {
			r.Diagnosis.Causes[0].Evidence = []string{"E1", "E99"}
		},
		"a link that cites nothing": func(_ *evals.Case, r *incident.Report) { r.Diagnosis.Chain[0].Evidence = nil },
		"no cause at all":           func(_ *evals.Case, r *incident.Report) { r.Diagnosis.Causes = nil },
		"an accusation in second place": func(_ *evals.Case, r *incident.Report) {
			r.Diagnosis.Causes = append(r.Diagnosis.Causes, incident.Cause{Subject: claim, Code: "dra.devices_in_use", Evidence: []string{"E1"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, r := right()
			change(&c, &r)
			row := evals.Grade(c, r, known)
			if row.Passed() || len(row.Misses)+len(row.FalseAccusations) == 0 {
				t.Errorf("%+v", row)
			}
		})
	}
	c, r := right()
	if row := evals.Grade(c, r, nil); row.Passed() || len(row.UnsafeActs) != 1 {
		t.Errorf("without a catalogue every act is unsafe: %+v", row)
	}
	// A fact, and a subject, may be in the data or the arguments of evidence.
	r.Evidence[0] = incident.Evidence{ID: "E1", Tool: "dra_explain", Args: []byte(`{"claim":"llama-0-gpu"}`), Data: []byte(`{"wants":"H200"}`)}
	if row := evals.Grade(c, r, known); !row.Passed() {
		t.Errorf("%+v", row)
	}
}

func TestLoadIsStrict(t *testing.T) {
	t.Parallel()
	const good = "title: t\ntrack: dra\nquestion: why\norigin: written\nexpect: {outcome: root_cause, causes: [{kind: Pod}]}\n"
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for says, fsys := range map[string]fstest.MapFS{
		"x/case.yaml: expect.causes[1] is empty":                   {"x/case.yaml": file(strings.Replace(good, "[{kind: Pod}]", "[{kind: Pod}, {}]", 1)), "x/bundle/bundle.yaml": {}},
		"x/case.yaml: expect.not[0] is empty":                      {"x/case.yaml": file(strings.Replace(good, "outcome:", "not: [{}], outcome:", 1)), "x/bundle/bundle.yaml": {}},
		"x/case.yaml: expect.cite[0] is empty":                     {"x/case.yaml": file(strings.Replace(good, "outcome:", "cite: [''], outcome:", 1)), "x/bundle/bundle.yaml": {}},
		"x/case.yaml: expect.all wants":                            {"x/case.yaml": file(strings.Replace(good, "outcome: root_cause, causes: [{kind: Pod}]", "outcome: healthy, all: true", 1)), "x/bundle/bundle.yaml": {}},
		"x/case.yaml: alert.name is required":                      {"x/case.yaml": file(strings.Replace(good, "question: why", "alert: {status: firing}", 1)), "x/bundle/bundle.yaml": {}},
		"x/case.yaml has 1048577 bytes":                            {"x/case.yaml": file(strings.Repeat("#", 1<<20+1)), "x/bundle/bundle.yaml": {}},
		"b/x/case.yaml: there is a case x in a/x already":          {"a/x/case.yaml": file(good), "a/x/bundle/bundle.yaml": {}, "b/x/case.yaml": file(good), "b/x/bundle/bundle.yaml": {}},
		"case.yaml: a case lies in a directory that has its name":  {"case.yaml": file(good), "bundle/bundle.yaml": {}},
		"x/case.yaml: error converting YAML to JSON: yaml: line 2": {"x/case.yaml": file("title: t\n\tx: y\n"), "x/bundle/bundle.yaml": {}},
	} {
		if _, err := evals.Load(fsys); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
	// All that is broken is told at once, and the rest is there.
	cases, err := evals.Load(fstest.MapFS{"a/case.yaml": file("x"), "b/case.yaml": file("y"), "c/case.yaml": file(good), "c/bundle/bundle.yaml": {}, "c/bundle/objects/case.yaml": file("not a case")})
	if err == nil || !strings.Contains(err.Error(), "a/case.yaml") || !strings.Contains(err.Error(), "b/case.yaml") || strings.Contains(err.Error(), "c/bundle") || len(cases) != 1 {
		t.Errorf("%v %v", cases, err)
	}
}

func TestAsk(t *testing.T) {
	t.Parallel()
	alert := &incident.Alert{Name: "KubePodNotReady"}
	for want, c := range map[string]evals.Case{
		"why":                   {Question: "why", Alert: alert, Namespace: "shop"},
		"Alert KubePodNotReady": {Alert: alert},
	} {
		q := c.Ask()
		if q.Text != want || q.Alert != c.Alert || q.Namespace != c.Namespace {
			t.Errorf("%+v", q)
		}
	}
}

// TestEmbedded: the cases that ship are whole, and have what the plan asks for.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	fsys, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	cases, err := evals.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	demo := 0
	for _, c := range cases {
		n[c.Track]++
		if c.Demo {
			demo++
		}
	}
	if n["dra"] < 30 || n["kubernetes"] < 25 || n["twin"] < 20 || demo == 0 {
		t.Errorf("cases: %v, for the demo %d", n, demo)
	}
}
