package runbooks

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func file(front ...string) *fstest.MapFile { return &fstest.MapFile{Data: book(front...)} }

func ids(l *Library) []string {
	var out []string
	for _, r := range l.All() {
		out = append(out, r.ID)
	}
	return out
}

func TestLoad(t *testing.T) {
	t.Parallel()
	shipped := fstest.MapFS{
		"README.md": file("not: a runbook"), "b.md": file("id: b", "title: B shipped"), "deep/er/a.md": file("id: a", "title: A"),
		"notes.txt": {Data: []byte("x")}, ".hidden.md": {Data: []byte("x")}, ".git/x.md": {Data: []byte("x")},
	}
	own := fstest.MapFS{
		"other-name.md":                {Data: []byte("---\nid: b\ntitle: B of mine\n---\nmine\n")},
		"skill/SKILL.md":               file("name: skill", "description: when pods crash"),
		"skill/references/errors.md":   {Data: []byte("no front matter: it belongs to the skill")},
		"skill/notes.md":               {Data: []byte("so does this")},
		"..2026_03_01_10_00_00/cm.md":  {Data: []byte("a mounted ConfigMap keeps its versions here")},
		"skill/sub/deeper/SKILL.md":    file("name: inner", "description: a skill in a skill"),
		"skills-like/not-a-skill.md":   file("id: c", "title: C"),
		"skills-like/Readme.md":        {Data: []byte("x")},
		"skills-like/UPPER.MD":         {Data: []byte("another extension")},
		"skills-like/empty/.gitignore": {Data: nil},
	}
	l, err := Load(shipped, own)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "inner", "skill"}, ids(l)); diff != "" {
		t.Error(diff)
	}
	b, ok := l.Get("b")
	if !ok || b.Title != "B of mine" || b.Body != "mine\n" || b.Source != "other-name.md" {
		t.Errorf("the user's runbook does not win: %+v", b)
	}
	if _, ok := l.Get("nothing"); ok {
		t.Error("there is a runbook called nothing")
	}
	l.All()[0] = nil
	if l.All()[0] == nil {
		t.Error("a caller can change the library")
	}
	reversed, err := Load(own, shipped)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := reversed.Get("b"); b.Title != "B shipped" {
		t.Errorf("the later does not win: %s", b.Title)
	}
}

// All broken files are told at once, and the sound ones are there all the same.
func TestLoadReportsEveryBrokenFile(t *testing.T) {
	t.Parallel()
	l, err := Load(fstest.MapFS{
		"a.md": file("id: a", "title: A"), "b.md": file("id: b", "title: B", "stepz: 1"), "c.md": {Data: []byte("text")}, "d/a2.md": file("id: a", "title: twice"),
		"huge.md": {Data: make([]byte, maxFile+1)}, "odd.md": {Mode: fs.ModeNamedPipe},
	})
	for _, want := range []string{`b.md:4: unknown field "stepz"`, "c.md:1: a runbook begins", `d/a2.md:2: id: "a" is also the id of a.md: give one of them another`, "huge.md: 1048577 bytes", "odd.md: not an ordinary file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if a, ok := l.Get("a"); !ok || a.Title != "A" || len(l.All()) != 1 {
		t.Errorf("%v", ids(l))
	}
	if _, err := Load(fstest.MapFS{}, os.DirFS(filepath.Join(t.TempDir(), "gone"))); err == nil || !strings.Contains(err.Error(), "read runbooks") {
		t.Errorf("a directory that is gone: %v", err)
	}
}

// A directory on disk: links to files are followed, as a ConfigMap mount needs;
// links to directories and devices are not.
func TestLoadFromDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "..data")
	for _, err := range []error{
		os.Mkdir(data, 0o755), os.WriteFile(filepath.Join(data, "a.md"), book("id: a", "title: A"), 0o644),
		os.Symlink(filepath.Join("..data", "a.md"), filepath.Join(dir, "a.md")), os.Symlink(dir, filepath.Join(dir, "loop")),
		os.Symlink(os.DevNull, filepath.Join(dir, "null.md")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := Load(os.DirFS(dir))
	if err == nil || !strings.Contains(err.Error(), "null.md: not an ordinary file") || strings.Contains(err.Error(), "a.md") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"a"}, ids(l)); diff != "" {
		t.Error(diff)
	}
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	f, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.All()) < 50 {
		t.Errorf("only %d runbooks", len(l.All()))
	}
	known, err := Actions()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range l.All() {
		for _, part := range []string{"What it means", "Fix"} {
			if !strings.Contains(r.Body, "# "+part) {
				t.Errorf("%s has no section %q", r.Source, part)
			}
		}
		for _, c := range r.Causes {
			for _, f := range c.Fix {
				if _, ok := known[f.Action]; !ok {
					t.Errorf("%s proposes %s, which is no action", r.Source, f.Action)
				}
			}
		}
	}
	index := string(Index(l))
	if n := strings.Count(index, "\n"); n != len(l.All())+2 || !strings.Contains(index, "| `kube-crash` |") {
		t.Errorf("the index has %d lines for %d runbooks", n, len(l.All()))
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	l, err := Load(fstest.MapFS{
		"a.md": file("id: a", "title: A", "matches: {findings: [kube.x, kube.y], alerts: [KubePodNotReady], words: [GPU, pending, claim]}"),
		"b.md": file("id: b", "title: B", "matches: {findings: [kube.x]}"),
		"c.md": file("id: c", "title: C", "matches: {alerts: [KubePodNotReady], words: [gpu]}"),
		"d.md": file("id: d", "title: D", "matches: {words: [gpu, pending, scheduler]}"),
		"e.md": file("id: e", "title: E"),
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		q    Query
		want string
	}{
		{"nothing known", Query{}, ""},
		{"finding before all, two findings before one", Query{Findings: []string{"kube.x", "kube.y"}}, "a 200 finding kube.x; b 100 finding kube.x"},
		{"alert", Query{Alerts: []string{"KubePodNotReady"}}, "a 30 alert KubePodNotReady; c 30 alert KubePodNotReady"},
		{"alert and words", Query{Alerts: []string{"KubePodNotReady"}, Words: []string{"gpu", "pending"}}, "a 32 alert KubePodNotReady; c 30 alert KubePodNotReady; d 2 words gpu, pending"},
		{"one word is no match", Query{Words: []string{"gpu", "x"}}, ""},
		{"words in any case", Query{Words: []string{"gpu", "claim"}}, "a 2 words GPU, claim"},
		{"order by id where all else is the same", Query{Words: []string{"gpu", "pending"}}, "a 2 words GPU, pending; d 2 words gpu, pending"},
		{"a part of a name is no name", Query{Findings: []string{"kube.xy", "kube"}, Alerts: []string{"KubePod"}}, ""},
	}
	for _, tc := range tests {
		var got []string
		for _, m := range l.Match(tc.q) {
			got = append(got, fmt.Sprintf("%s %d %s", m.Runbook.ID, m.Score, m.Why))
		}
		if diff := cmp.Diff(tc.want, strings.Join(got, "; ")); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	all, err := Actions()
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range all {
		if name != a.Name || strings.ToLower(name) != name || !strings.HasSuffix(a.Text, ".") {
			t.Errorf("action %q: %+v", name, a)
		}
		// What changes an object says which one.
		if name != "advise" && !slices.ContainsFunc(a.Params, func(p ParamInfo) bool { return p.Object || p.Name == "driver" }) {
			t.Errorf("%s names no object", name)
		}
	}
	for name, tc := range map[string]struct{ data, want string }{
		"twice":           {"- {name: a, text: A.}\n- {name: a, text: B.}", `action "a" stands twice`},
		"no text":         {"- {name: a}", `entry 0 ("a"): name and text are required`},
		"no name":         {"- {text: A.}", `entry 0 (""): name and text are required`},
		"unknown field":   {"- {name: a, text: A.}\n- {name: b, text: B., risk: high}", `f.yaml:2: unknown field "risk": an action takes name, text, params`},
		"parameter twice": {"- {name: a, text: A., params: [{name: p}, {name: p}]}", `action a: parameter "p"`},
		"parameter's field": {"- {name: a, text: A., params: [{title: p}]}",
			`unknown field "title": a parameter takes name, text, required, object`},
		"no list": {"name: a", "f.yaml:1: a mapping stands where a list is wanted"},
	} {
		if _, err := catalogue("f.yaml", []byte(tc.data)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}
