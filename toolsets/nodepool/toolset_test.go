package nodepool_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
)

func TestScenes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	produced := map[string]bool{}
	for _, f := range files {
		for _, s := range loadScenes(t, f) {
			for _, want := range s.Findings {
				code, _, _ := strings.Cut(want, " on ")
				produced[code] = true
			}
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				judgeScene(t, s)
			})
		}
	}
	for _, c := range nodepool.Codes() {
		if !produced[c.Code] {
			t.Errorf("no fixture produces %s", c.Code)
		}
	}
}

func judgeScene(t *testing.T, s *scene) {
	res, err := call(t, s.start(t), s.Tool, s.Args)
	if err != nil {
		t.Fatal(tool.UserText(err))
	}
	known := map[string]tool.Code{}
	for _, c := range nodepool.Codes() {
		known[c.Code] = c
	}
	var got []string
	for _, f := range res.Findings {
		c, ok := known[f.Code]
		if !ok {
			t.Errorf("unknown code %s", f.Code)
		}
		if f.Role != c.Role || f.Severity != c.Severity || !slices.Contains(c.Kinds, f.Subject.Kind) {
			t.Errorf("%s on %s is a %s %s", f.Code, f.Subject, f.Severity, f.Role)
		}
		for _, p := range c.Params {
			if _, ok := f.Params[p]; !ok {
				t.Errorf("%s lacks the fact %s", f.Code, p)
			}
		}
		for p := range f.Params {
			if f.Role == incident.Fault && !slices.Contains(c.Params, p) && !slices.Contains(c.Optional, p) {
				t.Errorf("%s has a fact %s that codes.go does not name", f.Code, p)
			}
		}
		if !strings.Contains(res.Text, f.Message) {
			t.Errorf("the text lacks the words of %s", f.Code)
		}
		got = append(got, f.Code+" on "+f.Subject.Kind+" "+f.Subject.Path())
	}
	want := slices.Clone(s.Findings)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("findings\n got %q\nwant %q\n%s", got, want, res.Text)
	}
	for _, says := range s.Says {
		if !strings.Contains(res.Text, says) {
			t.Errorf("the text does not say %q:\n%s", says, res.Text)
		}
	}
	edges := map[string]bool{}
	for _, e := range res.Edges {
		edges[e.From.Kind+" "+e.From.Path()+" -"+e.Relation+"-> "+e.To.Kind+" "+e.To.Path()] = true
	}
	for _, e := range s.Edges {
		if !edges[e] {
			t.Errorf("no edge %q among %q", e, slices.Sorted(maps.Keys(edges)))
		}
	}
}

// failingCloud is a provider that does not answer.
type failingCloud struct {
	err   error
	asked *int
}

func (failingCloud) Name() string { return "AKS" }

func (c failingCloud) Pools(context.Context) ([]nodepool.CloudPool, error) {
	*c.asked++
	return nil, c.err
}

// TestCloudThatFails: a cloud that refuses is a limit and a sentence, it is asked once,
// and the pools are still seen by their labels.
func TestCloudThatFails(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.AddYAML("apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {agentpool: gpu}}\n")
	asked := 0
	ts := toolsetOf(t, srv, failingCloud{&tool.Error{Kind: tool.Forbidden, User: "Azure refuses (403)", Fix: "give the role"}, &asked})
	st := ts.Status(t.Context())
	if st.State != tool.Ready || len(st.Limits) != 1 || !strings.Contains(st.Limits[0].Why, "403") {
		t.Errorf("%+v", st)
	}
	res, err := call(t, ts, "nodepool_overview", map[string]any{})
	if err != nil || !strings.Contains(res.Text, "pool gpu (AKS): 1 nodes") || !strings.Contains(res.Text, "not seen: AKS API: Azure refuses (403)") {
		t.Errorf("%v\n%s", err, res.Text)
	}
	if asked != 1 {
		t.Errorf("the cloud was asked %d times", asked)
	}
}

func TestStatusAndErrors(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.Forbid = func(_, resource, _ string) bool { return resource == "nodes" }
	ts := toolsetOf(t, srv)
	if st := ts.Status(t.Context()); st.State != tool.Denied || st.Reason == "" || st.Fix == "" {
		t.Errorf("%+v", st)
	}
	if _, err := call(t, ts, "nodepool_overview", map[string]any{}); tool.KindOf(err) != tool.Forbidden {
		t.Errorf("%v", err)
	}
	ts = toolsetOf(t, sourcetest.Start(t))
	for name, tc := range map[string]struct {
		tool string
		args map[string]any
		kind tool.Kind
	}{
		"nothing named":       {"nodepool_growth", map[string]any{}, tool.Invalid},
		"no such pod":         {"nodepool_growth", map[string]any{"namespace": "ml", "pod": "x"}, tool.NotFound},
		"no such claim":       {"nodepool_growth", map[string]any{"node_claim": "x"}, tool.NotServed},
		"no such pool":        {"nodepool_overview", map[string]any{"pool": "x"}, tool.NotFound},
		"no such node":        {"nodepool_overview", map[string]any{"node": "x"}, tool.NotFound},
		"an unknown argument": {"nodepool_survey", map[string]any{"x": 1}, tool.Invalid},
	} {
		if _, err := call(t, ts, tc.tool, tc.args); tool.KindOf(err) != tc.kind || tool.UserText(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := sourcetest.Start(t)
	ts = toolsetOf(t, gone)
	gone.Stop()
	if st := ts.Status(t.Context()); st.State != tool.Broken {
		t.Errorf("%+v", st)
	}
	if _, err := nodepool.New(nodepool.Config{}); err == nil || !strings.Contains(err.Error(), "Reads.Nodes is required") {
		t.Errorf("%v", err)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.AddYAML("apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {agentpool: gpu}}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: n2, labels: {agentpool: gpubig}}\n")
	ts := toolsetOf(t, srv)
	r, err := ts.Resolve(t.Context(), tool.Mention{Kind: "pool", Name: "gpu"})
	if err != nil || len(r.Exact) != 1 || r.Exact[0].Name != "gpu" || len(r.Near) != 1 {
		t.Errorf("%v %+v", err, r)
	}
	if r, err := ts.Resolve(t.Context(), tool.Mention{Kind: "pod", Name: "gpu"}); err != nil || len(r.Exact)+len(r.Near) != 0 {
		t.Errorf("%v %+v", err, r)
	}
}
