package storage_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
	"github.com/gumshoe-ai/gumshoe/toolsets/storage"
)

func TestScenes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	produced := map[string]bool{}
	var codes []string
	for _, c := range storage.Codes() {
		codes = append(codes, c.Code)
	}
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
	produced["storage.attach_storm"] = true // TestStorm
	for _, c := range codes {
		if !produced[c] {
			t.Errorf("no fixture produces %s", c)
		}
	}
}

func judgeScene(t *testing.T, s *scene) {
	res, err := call(t, s.start(t), s.Tool, s.Args)
	if err != nil {
		t.Fatal(tool.UserText(err))
	}
	known := map[string]tool.Code{}
	for _, c := range storage.Codes() {
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
			if !slices.Contains(c.Params, p) && !slices.Contains(c.Optional, p) && f.Role == incident.Fault && !slices.Contains([]string{"what", "image", "container", "message"}, p) {
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

func TestStatus(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		forbid []string
		state  tool.State
		limits int
	}{
		"all":     {nil, tool.Ready, 0},
		"some":    {[]string{"volumeattachments.storage.k8s.io"}, tool.Ready, 1},
		"nothing": {[]string{"volumeattachments.storage.k8s.io", "csinodes.storage.k8s.io", "persistentvolumes"}, tool.Denied, 3},
	} {
		srv := sourcetest.Start(t)
		srv.Forbid = func(_, resource, _ string) bool { return slices.Contains(tc.forbid, resource) }
		st := toolsetOf(t, srv).Status(t.Context())
		if st.State != tc.state || len(st.Limits) != tc.limits {
			t.Errorf("%s: %+v", name, st)
		}
		if st.State != tool.Ready && (st.Reason == "" || st.Fix == "") {
			t.Errorf("%s: no reason or no way out: %+v", name, st)
		}
	}
	srv := sourcetest.Start(t)
	ts := toolsetOf(t, srv)
	srv.Stop()
	if st := ts.Status(t.Context()); st.State != tool.Broken || st.Reason == "" {
		t.Errorf("a server that is gone: %+v", st)
	}
}

func TestCallsThatFail(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, sourcetest.Start(t))
	for name, tc := range map[string]struct {
		tool string
		args map[string]any
		kind tool.Kind
	}{
		"nothing named":        {"storage_volumes", map[string]any{}, tool.Invalid},
		"no such pod":          {"storage_volumes", map[string]any{"namespace": "ml", "pod": "a"}, tool.NotFound},
		"no such claim":        {"storage_volumes", map[string]any{"namespace": "ml", "pvc": "a"}, tool.NotFound},
		"no such volume":       {"storage_volumes", map[string]any{"pv": "a"}, tool.NotFound},
		"no such attachment":   {"storage_volumes", map[string]any{"attachment": "a"}, tool.NotFound},
		"no such node":         {"storage_drivers", map[string]any{"node": "a"}, tool.NotFound},
		"pulls of no such pod": {"storage_pulls", map[string]any{"namespace": "ml", "pod": "a"}, tool.NotFound},
		"unknown argument":     {"storage_pulls", map[string]any{"namespace": "ml", "pod": "a", "x": 1}, tool.Invalid},
	} {
		if _, err := call(t, ts, tc.tool, tc.args); tool.KindOf(err) != tc.kind || tool.UserText(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewRefusesMissingReads(t *testing.T) {
	t.Parallel()
	if _, err := storage.New(storage.Config{}); err == nil || !strings.Contains(err.Error(), "is required") {
		t.Errorf("%v", err)
	}
}

func TestTextsAreThere(t *testing.T) {
	t.Parallel()
	for _, x := range toolsetOf(t, sourcetest.Start(t)).Tools() {
		raw, err := os.ReadFile("text/" + x.Info().Name + ".md")
		if err != nil || x.Info().Text != strings.TrimSpace(string(raw)) {
			t.Errorf("%s: %v", x.Info().Name, err)
		}
	}
}

// TestStorm: many attachments wait while others get through; with none that gets
// through it is silence, and few are no storm.
func TestStorm(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		waiting, through int
		want             string
	}{
		"storm":   {30, 3, "storage.attach_storm"},
		"silence": {30, 0, "storage.attacher_silent"},
		"few":     {5, 3, "storage.attacher_silent"},
	} {
		scenes := loadScenes(t, "testdata/attach.yaml")
		s := scenes[slices.IndexFunc(scenes, func(s *scene) bool { return strings.HasPrefix(s.Name, "no answer for long") })]
		for i := range tc.waiting + tc.through {
			s.objects = append(s.objects, map[string]any{
				"kind": "VolumeAttachment", "metadata": map[string]any{"name": fmt.Sprintf("w-%d", i), "creationTimestamp": noon.Add(-9 * time.Minute).Format(time.RFC3339)},
				"spec":   map[string]any{"attacher": "ebs.csi.aws.com", "nodeName": "n2", "source": map[string]any{"persistentVolumeName": fmt.Sprintf("x-%d", i)}},
				"status": map[string]any{"attached": i >= tc.waiting},
			})
		}
		res, err := call(t, s.start(t), s.Tool, s.Args)
		if err != nil || len(res.Findings) != 1 || res.Findings[0].Code != tc.want {
			t.Errorf("%s: %v %+v", name, err, res.Findings)
		}
	}
}
