package runbooks

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// book makes a runbook of front matter lines.
func book(front ...string) []byte {
	return []byte("---\n" + strings.Join(front, "\n") + "\n---\n# Body\n")
}

func parse(t testing.TB, front ...string) *Runbook {
	t.Helper()
	r, err := Parse("x.md", book(front...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParse(t *testing.T) {
	t.Parallel()
	r, err := Parse("dir/gpu.md", []byte("\ufeff---\r\n"+strings.Join([]string{
		"id: gpu-driver-down", `title: "The driver's plugin is down: GPU ✗"`, "modes: [F03]",
		"matches: {alerts: [KubePodNotReady], findings: [dra.plugin_down], words: [gpu, driver]}",
		"steps:", "  - {id: driver, tool: dra_driver, with: {driver: gpu.nvidia.com, limit: 5, all: true}, when: \"subject.kind == 'Node'\"}",
		"causes:", "  - id: cause", "    finding: dra.plugin_down", "    confidence: 0.8", "    detail:", "      - one", "    fix:", "      - {action: cordon, with: {node: n1}}",
	}, "\r\n")+"\r\n---  \r\n# What\r\n\r\n---\r\nrule\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r.ID != "gpu-driver-down" || r.Title != "The driver's plugin is down: GPU ✗" || r.Source != "dir/gpu.md" || r.Causes[0].Confidence != 0.8 {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff("# What\n\n---\nrule\n", r.Body); diff != "" {
		t.Errorf("body: %s", diff)
	}
	if diff := cmp.Diff([]Step{{ID: "driver", Tool: "dra_driver", When: "subject.kind == 'Node'", With: map[string]any{"driver": "gpu.nvidia.com", "limit": 5, "all": true}}}, r.Steps); diff != "" {
		t.Errorf("steps: %s", diff)
	}
	for at, want := range map[string]int{"id": 2, "matches.words": 5, "steps[0]": 7, "steps[0].with.limit": 7, "causes[0].finding": 10, "causes[0].detail[0]": 13, "causes[0].fix[0].with.node": 15,
		"causes[0].say": 9, "causes[0].rivals[3]": 9, "nothing": 1, "causes[7].say": 8, "": 1} {
		if got := r.line(at); got != want {
			t.Errorf("%s stands on line %d, want %d", at, got, want)
		}
	}
	if _, err := Parse("x.md", []byte("---\nid: a\ntitle: A\n---")); err != nil {
		t.Errorf("a runbook without a body: %v", err)
	}
}

// Every error names the file and line, the field, the value, and the way out.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	ok := []string{"id: x", "title: X"}
	with := func(more ...string) []byte { return book(append(ok[:2:2], more...)...) }
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "x.md:1: a runbook begins with a line of ---"},
		{"no front matter", []byte("# Hello\n"), "x.md:1: a runbook begins with a line of ---"},
		{"not closed", []byte("---\nid: x\ntitle: X\n"), "x.md:1: the front matter has no closing line"},
		{"not closed by a longer line", []byte("---\nid: x\n----\n"), "x.md:1: the front matter has no closing line"},
		{"empty", []byte("---\n---\nbody"), "x.md:1: the front matter is empty: id and title are required"},
		{"only a comment", book("# nothing"), "x.md:1: the front matter is empty"},
		{"not UTF-8", []byte("---\nid: \xff\xfe\n---\n"), "x.md:1: the file is not UTF-8 text: save it as UTF-8"},
		{"a list", book("- id: x"), "no mapping of fields"},
		{"a word", book("hello"), "no mapping of fields"},
		{"broken YAML", book("id: x", "title: [a"), "x.md:3: front matter: did not find expected"},
		{"a tab", book("id: x", "title: X", "matches:", "\twords: [a]"), "x.md:5: front matter: found character that cannot start any token"},
		{"two documents", book("id: x", "title: X", "--- # more", "id: y"), "x.md:4: the front matter holds more than one YAML document"},
		{"unknown field", with("stepz: []"), `x.md:4: unknown field "stepz": a runbook takes id, title, modes, matches, steps, causes`},
		{"unknown field of a step", with("steps:", "  - id: a", "    toool: b"), `x.md:6: unknown field "toool": a step takes id, tool, with, when`},
		{"unknown field of a cause", with("causes:", "  - {id: a, finding: b, sey: c}"), `x.md:5: unknown field "sey": a cause takes`},
		{"unknown field of a fix", with("causes:", "  - {id: a, finding: b, fix: [{act: c}]}"), `x.md:5: unknown field "act": a fix takes action, with, why, when`},
		{"unknown field of matches", with("matches: {alert: [a]}"), `x.md:4: unknown field "alert": matches takes alerts, findings, words`},
		{"other case is another field", book("ID: x", "title: X"), `x.md:2: unknown field "ID"`},
		{"repeated field", with("id: y"), `x.md:4: front matter: "id" stands twice, first on line 2`},
		{"repeated argument", with("steps:", "  - id: a", "    tool: b", "    with: {p: 1, p: 2}"), `x.md:7: steps[0].with: "p" stands twice`},
		{"text for a list", with("steps: none"), "x.md:4: a text (none) stands where a list is wanted"},
		{"list for a text", book("id: [x]", "title: X"), "x.md:2: a list stands where a text is wanted"},
		{"mapping for a text", book("id: {a: b}", "title: X"), "x.md:2: a mapping stands where a text is wanted"},
		{"text for a step", with("steps: [look]"), "x.md:4: a text (look) stands where a step (id, tool, with, when) is wanted"},
		{"text for a number", with("causes:", "  - {id: a, finding: b, confidence: high}"), "x.md:5: a text (high) stands where a number is wanted"},
		{"text for arguments", with("steps:", "  - {id: a, tool: b, with: c}"), "x.md:5: a text (c) stands where a mapping is wanted"},
		{"list for a fix's parameters", with("causes:", "  - {id: a, finding: b, fix: [{action: c, with: [d]}]}"), "x.md:5: a list stands where a mapping is wanted"},
		{"anchor", with("modes: &a [b]"), "x.md:4: modes: anchors and aliases"},
		{"alias", with("modes: *a"), `x.md:4: front matter: unknown anchor "a": anchors and aliases`},
		{"anchor of a field's name", with("&a modes: []"), "x.md:4: front matter: a field's name is a plain word"},
		{"a list as a field's name", with("? [a]", ": b"), "x.md:4: front matter: a field's name is a plain word"},
		{"deep", with("steps: " + strings.Repeat("[", 40) + strings.Repeat("]", 40)), "is nested more than 16 deep"},
		{"very deep", with("steps: " + strings.Repeat("[", 20_000)), "x.md:4: front matter: exceeded max depth"},
		{"large front matter", with("title2: " + strings.Repeat("x", maxFront)), "the front matter has 65"},
		{"large file", append(with(), make([]byte, maxFile)...), "bytes, more than 1048576: split it"},
		{"control character", with("modes: [\"\x01\"]"), "control characters are not allowed"},
		{"merge key", with("<<: {modes: [a]}"), "x.md:4: front matter: merge keys (<<) are not taken"},

		{"no id", book("title: X"), `x.md:1: id: "": lower-case words joined by hyphens`},
		{"an id in other letters", book("id: GPU_Down", "title: X"), `x.md:2: id: "GPU_Down": lower-case words`},
		{"an id that looks right", book("id: gpu-dоwn", "title: X"), `x.md:2: id: "gpu-dоwn": lower-case words`},
		{"no title", book("id: x", "title: ' '"), "x.md:3: title: a title is required"},
		{"a step without id", with("steps:", "  - {tool: a}"), `x.md:5: steps[0].id: "": a name that CEL can read`},
		{"a step id for CEL", with("steps:", "  - {id: a-b, tool: a}"), `x.md:5: steps[0].id: "a-b": a name that CEL can read`},
		{"a step id that is taken", with("steps:", "  - {id: subject, tool: a}"), `x.md:5: steps[0].id: "subject" is taken by a variable: choose another`},
		{"a step id that is a word of CEL", with("steps:", "  - {id: package, tool: a}"), `x.md:5: steps[0].id: "package" is a word of CEL: choose another`},
		{"a step id twice", with("steps:", "  - {id: a, tool: a}", "  - {id: a, tool: b}"), `x.md:6: steps[1].id: "a" stands twice`},
		{"a step without tool", with("steps:", "  - {id: a}"), "x.md:5: steps[0].tool: a step names the tool"},
		{"a cause without id", with("causes:", "  - {finding: a}"), "x.md:5: causes[0].id: an id is required"},
		{"a cause twice", with("causes:", "  - {id: a, finding: a}", "  - {id: a, finding: b}"), `x.md:6: causes[1].id: "a" stands twice`},
		{"a cause that always holds", with("causes:", "  - {id: a, code: b, say: c}"), "x.md:5: causes[0]: a: finding or when is required"},
		{"a cause without words", with("causes:", "  - {id: a, when: 'true', code: b}"), "x.md:5: causes[0]: a: code and say are required"},
		{"too sure", with("causes:", "  - {id: a, finding: b, confidence: 1.5}"), "x.md:5: causes[0].confidence: 1.5 is not between 0 and 1"},
		{"not sure at all", with("causes:", "  - {id: a, finding: b, confidence: .nan}"), "x.md:5: causes[0].confidence: NaN is not between 0 and 1"},
		{"a fix without action", with("causes:", "  - id: a", "    finding: b", "    fix:", "      - {why: c}"), "x.md:8: causes[0].fix[0].action: an action is required"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, err := Parse("x.md", tc.data)
			if err == nil {
				t.Fatalf("it was taken: %+v", r)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error  %v\nwants  %s", err, tc.want)
			}
			if !strings.HasPrefix(err.Error(), "x.md:") {
				t.Errorf("%v does not begin with the file", err)
			}
			for _, go_ := range []string{"runbooks.", "unmarshal", "json:", "%!", "[]"} {
				if strings.Contains(err.Error(), go_) {
					t.Errorf("%v speaks Go: %q", err, go_)
				}
			}
			if len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// A few hundred bytes that would unfold to gigabytes are refused unexpanded.
func TestParseYAMLBomb(t *testing.T) {
	t.Parallel()
	lines := []string{"id: x", "title: X", "a0: &a0 [x, x, x, x, x, x, x, x, x]"}
	for i := 1; i < 12; i++ {
		ref := fmt.Sprintf("*a%d", i-1)
		lines = append(lines, fmt.Sprintf("a%d: &a%d [%s]", i, i, strings.Join([]string{ref, ref, ref, ref, ref, ref, ref, ref, ref}, ", ")))
	}
	_, err := Parse("x.md", book(lines...))
	if err == nil || !strings.Contains(err.Error(), "x.md:4: a0: anchors and aliases") {
		t.Errorf("%v", err)
	}
	_, err = Parse("SKILL.md", book("name: a", "description: &d [*d, *d]"))
	if err == nil {
		t.Error("a skill took a bomb")
	}
}

func TestParseSkill(t *testing.T) {
	t.Parallel()
	r, err := Parse("gpu/SKILL.md", book("name: GPU Checks", "description: |", "  Use this when pods with GPUs crash,", "  or when XID errors appear.", "license: MIT", "metadata: {version: 2}"))
	if err != nil {
		t.Fatal(err)
	}
	if r.ID != "gpu-checks" || r.Title != "Use this when pods with GPUs crash, or when XID errors appear." || len(r.Steps)+len(r.Causes) > 0 || r.Body != "# Body\n" {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff([]string{"appear", "crash", "errors", "gpus", "pods"}, r.Matches.Words); diff != "" {
		t.Errorf("words: %s", diff)
	}
	for name, tc := range map[string]struct {
		front []string
		want  string
	}{
		"no name":          {[]string{"description: d"}, "SKILL.md:1: name: \"\""},
		"name of signs":    {[]string{"name: '///'", "description: d"}, "SKILL.md:2: name: \"///\""},
		"an endless name":  {[]string{"name: " + strings.Repeat("a", 65), "description: d"}, "SKILL.md:2: name: longer than 64"},
		"no description":   {[]string{"name: a"}, "SKILL.md:1: description: a skill needs one"},
		"a list as a name": {[]string{"name: [a]", "description: d"}, "SKILL.md:2: a list stands where a text is wanted"},
		"repeated name":    {[]string{"name: a", "name: b", "description: d"}, `SKILL.md:3: front matter: "name" stands twice`},
	} {
		if _, err := Parse("SKILL.md", book(tc.front...)); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

// Whatever the bytes are: an answer or a located error, and what is taken is sound.
func FuzzParse(f *testing.F) {
	f.Add([]byte("---\nid: a\ntitle: A\n---\nbody"))
	f.Add(book("id: x", "title: X", "steps:", "  - {id: a, tool: b, with: {c: [1, {d: e}]}, when: 'a.ran'}", "causes:", "  - {id: a, finding: b, fix: [{action: c, with: {d: '{{ finding.params.x }}'}}]}"))
	f.Add([]byte("---\na: &a [*a]\n---\n"))
	f.Add([]byte("---\nid: !!binary aGk=\ntitle: 2001-01-01\n---\n"))
	f.Add([]byte("---\n? |\n  x\n: y\n--- \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"x.md", "SKILL.md"} {
			r, err := Parse(name, data)
			if err != nil {
				if !strings.HasPrefix(err.Error(), name+":") {
					t.Fatalf("%v names no file", err)
				}
				continue
			}
			if r.ID == "" || r.Title == "" {
				t.Fatalf("%q was taken without id or title", data)
			}
			for at, line := range r.lines {
				if line < 1 || line > 1+strings.Count(string(data), "\n")+strings.Count(string(data), "\r") {
					t.Fatalf("%s stands on line %d of %q", at, line, data)
				}
			}
			lib := &Library{all: []*Runbook{r}, byID: map[string]*Runbook{r.ID: r}}
			for _, p := range Lint(lib, LintContext{}) {
				if p.File != name || p.Line < 1 || p.Message == "" {
					t.Fatalf("problem %+v", p)
				}
			}
		}
	})
}
