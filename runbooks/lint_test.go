package runbooks

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// against is what the runbooks of these tests are checked with.
func against() LintContext {
	return LintContext{
		Tools: map[string]ToolSchema{
			"dra_explain": {
				Input: []byte(`{"type":"object","properties":{"namespace":{"type":"string"},"pod":{"type":"string"},"limit":{"type":"integer"},"all":{"type":"boolean"},"kinds":{"type":"array","items":{"type":"string"}},"where":{"type":"object","properties":{"label":{"type":"string"}}},"any":{}},"required":["namespace"]}`),
				Output: []byte(`{"type":"object","properties":{"total":{"type":"integer"},"share":{"type":"number"},"name":{"type":"string"},"ok":{"type":"boolean"},"raw":{},
					"claim":{"$ref":"#/$defs/ref"},"rows":{"type":"array","items":{"type":"object","properties":{"n":{"type":"integer"}}}},
					"labels":{"type":"object","additionalProperties":{"type":"string"}},"tree":{"$ref":"#/$defs/node"}},
					"$defs":{"ref":{"type":"object","properties":{"kind":{"type":"string"},"name":{"type":"string"}}},
					"node":{"type":"object","properties":{"value":{"type":"string"},"child":{"$ref":"#/$defs/node"}}}}}`),
			},
			"broken_in":  {Input: []byte(`{`), Output: []byte(`{"type":"object"}`)},
			"broken_out": {Input: []byte(`{"type":"object"}`), Output: []byte(`{`)},
		},
		Codes:   map[string]CodeInfo{"dra.x": {Params: []string{"count", "p2"}, Role: "fault"}, "dra.y": {Role: "fault"}},
		Actions: map[string]ActionInfo{"cordon": {Name: "cordon", Params: []ParamInfo{{Name: "node", Required: true}, {Name: "why"}}}, "advise": {Name: "advise"}},
	}
}

func lint(t *testing.T, front ...string) []string {
	t.Helper()
	r, err := Parse("x.md", book(append([]string{"id: x", "title: X"}, front...)...))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range Lint(&Library{all: []*Runbook{r}}, against()) {
		out = append(out, p.String())
	}
	return out
}

const (
	matches = "matches: {findings: [dra.x]}"
	explain = "  - {id: explain, tool: dra_explain, with: {namespace: a}}"
)

// Each kind of problem is told, once, with its line and field.
func TestLintProblems(t *testing.T) {
	t.Parallel()
	step := func(more string) []string {
		return []string{matches, "steps:", "  - {id: explain, tool: dra_explain" + more + "}"}
	}
	cause := func(more string) []string {
		return []string{matches, "steps:", explain, "causes:", "  - id: c", "    finding: dra.x", more}
	}
	tests := []struct {
		name  string
		front []string
		want  string
	}{
		{"it never applies", []string{"matches: {words: [gpu]}"}, "x.md:4: matches: the runbook can never apply"},
		{"it says not when it applies", nil, "x.md:1: matches: the runbook can never apply"},
		{"a code that does not exist", []string{"matches:", "  findings:", "    - dra.x", "    - dra.z"}, `x.md:7: matches.findings[1]: there is no finding code "dra.z"`},
		{"a tool that does not exist", []string{matches, "steps:", "  - {id: a, tool: dra_expl}"}, `x.md:6: steps[0].tool: there is no tool "dra_expl"`},
		{"a tool whose input cannot be read", []string{matches, "steps:", "  - {id: a, tool: broken_in}"}, "x.md:6: steps[0].tool: the schema of broken_in cannot be read"},
		{"a tool whose output cannot be read", []string{matches, "steps:", "  - {id: a, tool: broken_out}"}, "x.md:5: steps: the output schema of broken_out cannot be read"},
		{"an argument that does not exist", step(", with: {namespace: a, pods: b}"), `x.md:6: steps[0].with.pods: dra_explain takes no argument "pods"`},
		{"an argument that is needed", step(", with: {pod: a}"), `x.md:6: steps[0].with: dra_explain needs the argument "namespace"`},
		{"no arguments where one is needed", step(""), `x.md:6: steps[0].with: dra_explain needs the argument "namespace"`},
		{"a number for a text", step(", with: {namespace: 5}"), "x.md:6: steps[0].with.namespace: a number where string is wanted"},
		{"a text for a number", step(", with: {namespace: a, limit: five}"), "steps[0].with.limit: a text where integer is wanted"},
		{"true for a number", step(", with: {namespace: a, limit: true}"), "steps[0].with.limit: true or false where integer is wanted"},
		{"a text for true", step(", with: {namespace: a, all: 'yes'}"), "steps[0].with.all: a text where boolean is wanted"},
		{"a list for a text", step(", with: {namespace: [a]}"), "steps[0].with.namespace: a list where string is wanted"},
		{"a number in a list of texts", step(", with: {namespace: a, kinds: [b, 5]}"), "steps[0].with.kinds[1]: a number where string is wanted"},
		{"a mapping for a text", step(", with: {namespace: {b: c}}"), "steps[0].with.namespace: a mapping where string is wanted"},
		{"a number inside a mapping", step(", with: {namespace: a, where: {label: 1}}"), "steps[0].with.where.label: a number where string is wanted"},
		{"a text as the hole for a number", step(", with: {namespace: a, limit: '{{ subject.name }}'}"), "steps[0].with.limit: a text where integer is wanted"},
		{"a number as the hole for a text", step(", with: {namespace: '{{ findings.size() }}'}"), "steps[0].with.namespace: a number where string is wanted"},
		{"true as the hole for a text", step(", with: {namespace: '{{ subject.name == \"a\" }}'}"), "steps[0].with.namespace: true or false where string is wanted"},
		{"a text around a hole for a number", step(", with: {namespace: a, limit: 'x{{ subject.name }}'}"), "steps[0].with.limit: a text where integer is wanted"},
		{"a hole in a list that does not compile", step(", with: {namespace: a, kinds: ['{{ nosuch }}']}"), "steps[0].with.kinds[0]: ERROR"},
		{"a condition of another type", step(", with: {namespace: a}, when: subject.name"), "steps[0].when: gives string, not true or false"},
		{"a condition that does not compile", step(", with: {namespace: a}, when: 'subject.'"), "steps[0].when: ERROR"},
		{"a step that reads itself", step(", with: {namespace: a}, when: explain.ran"), `steps[0].when: reads step "explain", which has not run by then`},
		{"a step that reads a later one", []string{matches, "steps:", "  - {id: first, tool: dra_explain, with: {namespace: '{{ explain.data.name }}'}}", explain}, `x.md:6: steps[0].with.namespace: reads step "explain", which has not run by then`},
		{"a step that reads the finding", step(", with: {namespace: '{{ finding.subject.namespace }}'}"), "steps[0].with.namespace: reads the finding, and there is none here"},

		{"a cause's code that does not exist", []string{matches, "causes:", "  - {id: c, finding: dra.z}"}, `x.md:6: causes[0].finding: there is no finding code "dra.z"`},
		{"a field a tool does not have", cause("    when: explain.data.totals > 1"), "x.md:10: causes[0].when: ERROR: <input>:1:13: undefined field 'totals'"},
		{"a field of a list's entries", cause("    when: explain.data.rows.all(x, x.m > 1)"), "undefined field 'm'"},
		{"a field behind a reference", cause("    when: explain.data.claim.nome == ''"), "undefined field 'nome'"},
		{"a field of a tree", cause("    when: explain.data.tree.child.child.vlaue == ''"), "undefined field 'vlaue'"},
		{"a value of a mapping", cause("    when: explain.data.labels['a'] > 1"), "no matching overload"},
		{"a text compared with a number", cause("    when: explain.data.name > 5"), "no matching overload"},
		{"a number for a condition", cause("    when: explain.data.total"), "causes[0].when: gives double, not true or false"},
		{"a variable that does not exist", cause("    when: explian.ran"), "undeclared reference to 'explian'"},
		{"a field of the subject", cause("    when: subject.nome == ''"), "undefined field 'nome'"},
		{"a fact the code does not carry", cause("    say: '{{ finding.params.driver }} is down'"), `x.md:10: causes[0].say: findings of code dra.x carry no "driver"`},
		{"an optional fact it does not carry", cause("    say: \"{{ finding.params.?driver.orValue('') }}\""), `causes[0].say: findings of code dra.x carry no "driver"`},
		{"a fact by its key", cause("    say: \"{{ finding.params['driver'] }}\""), `causes[0].say: findings of code dra.x carry no "driver"`},
		{"a fact asked for", cause("    when: has(finding.params.driver)"), `causes[0].when: findings of code dra.x carry no "driver"`},
		{"the finding without one", []string{matches, "causes:", "  - {id: c, code: a, say: '{{ finding.message }}', when: 'true'}"}, "causes[0].say: reads the finding, and there is none here"},
		{"a subject that does not compile", cause("    subject: explain.data.clam"), "causes[0].subject: ERROR"},
		{"words that do not compile", cause("    say: 'a {{ explain.data.name + 1 }}'"), "causes[0].say: ERROR"},
		{"a detail that does not compile", cause("    detail: [a, '{{ b }}']"), "x.md:10: causes[0].detail[1]: ERROR"},
		{"an unless that does not compile", cause("    unless: '{{ c }}'"), "causes[0].unless: ERROR"},
		{"an empty hole", cause("    say: '{{ }}'"), "causes[0].say: ERROR"},
		{"a hole without an end", cause("    say: 'a {{ explain.data.name'"), "causes[0].say: a {{ without its }}"},
		{"a hole without a beginning", cause("    say: 'a explain.data.name }}'"), "causes[0].say: a {{ without its }}"},
		{"a rival that does not exist", cause("    rivals: [d]"), `x.md:10: causes[0].rivals[0]: there is no cause "d" in this runbook`},
		{"its own rival", cause("    rivals: [c]"), "causes[0].rivals[0]: a cause is no rival of itself"},
		{"a rival that nothing can rule out", append(cause("    rivals: [d]"), "  - {id: d, finding: dra.y}"), `causes[0].rivals[0]: "d" has no unless`},
		{"an action that does not exist", cause("    fix: [{action: delete_cluster}]"), `x.md:10: causes[0].fix[0].action: there is no action "delete_cluster"`},
		{"a parameter that does not exist", cause("    fix: [{action: cordon, with: {node: a, nodes: b}}]"), `causes[0].fix[0].with.nodes: cordon takes no parameter "nodes"`},
		{"a parameter that is needed", cause("    fix: [{action: cordon, with: {why: a}}]"), `causes[0].fix[0].with: cordon needs the parameter "node"`},
		{"a parameter that does not compile", cause("    fix: [{action: cordon, with: {node: '{{ a }}'}}]"), "causes[0].fix[0].with.node: ERROR"},
		{"a why that does not compile", cause("    fix: [{action: advise, why: '{{ a }}'}]"), "causes[0].fix[0].why: ERROR"},
		{"a fix's condition of another type", cause("    fix: [{action: advise, when: finding.message}]"), "causes[0].fix[0].when: gives string"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := lint(t, tc.front...)
			if len(got) != 1 || !strings.Contains(got[0], tc.want) {
				t.Errorf("problems %q\nwant     %q", got, tc.want)
			}
		})
	}
}

// What is sound stays unreported: types through references, lists, mappings and
// trees, and what a schema leaves open.
func TestLintClean(t *testing.T) {
	t.Parallel()
	got := lint(t, "matches: {alerts: [A]}", "steps:",
		"  - {id: explain, tool: dra_explain, when: \"subject.kind == 'Pod' && alert.labels['pod'] != ''\", with: {namespace: '{{ subject.namespace }}', limit: 5, all: true, kinds: [a, '{{ subject.kind }}'], where: {label: x}, any: [1, {b: c}]}}",
		"  - {id: again, tool: dra_explain, when: explain.ran && explain.data.total > 1, with: {namespace: 'a-{{ explain.data.name }}', limit: '{{ explain.data.rows.size() }}', any: '{{ explain.data.raw.what.ever }}'}}",
		"causes:", "  - id: c", "    finding: dra.x", "    when: \"finding.params.count == '8' && finding.params.?p2.orValue('') == '' && explain.data.rows.exists(x, x.n > 1)\"",
		"    subject: explain.data.claim", "    say: \"{{ explain.data.labels['app'] }} {{ explain.data.tree.child.child.value }} {{ explain.data.raw.anything[0] }}\"",
		"    detail: ['{{ again.text }}', '{{ again.findings.size() }}']", "    rivals: [d, e]",
		"    fix: [{action: cordon, when: explain.data.ok, with: {node: '{{ finding.subject.name }}'}, why: 'x {{ explain.data.share }}'}]",
		"  - {id: d, finding: dra.y, unless: '{{ finding.params.count }} of {{ explain.data.total }}'}",
		"  - {id: e, code: my.e, say: s, when: 'explain.data.total > 5', unless: only a few}")
	if len(got) > 0 {
		t.Errorf("%q", got)
	}
	skill, err := Parse("SKILL.md", book("name: s", "description: d"))
	if err != nil {
		t.Fatal(err)
	}
	if p := Lint(&Library{all: []*Runbook{skill}}, against()); len(p) > 0 {
		t.Errorf("a skill: %v", p)
	}
}

// All problems of all runbooks are told, in the order of their ids.
func TestLintTellsAll(t *testing.T) {
	t.Parallel()
	a := parse(t, "id: a", "title: A", "matches: {findings: [dra.z, dra.w]}", "causes:", "  - {id: c, finding: dra.z, say: '{{ x }} {{ y }}', rivals: [d]}")
	b := parse(t, "id: b", "title: B")
	var got []string
	for _, p := range Lint(&Library{all: []*Runbook{a, b}}, against()) {
		got = append(got, p.Field)
	}
	want := []string{"matches.findings[0]", "matches.findings[1]", "causes[0].finding", "causes[0].say", "causes[0].say", "causes[0].rivals[0]", "matches"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A schema that refers to itself many times over is followed so far and no further.
func TestLintDeepSchema(t *testing.T) {
	t.Parallel()
	c := against()
	c.Tools["dra_explain"] = ToolSchema{Input: []byte(`{"type":"object"}`), Output: []byte(`{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{
		"a":{"$ref":"#/$defs/n"},"b":{"$ref":"#/$defs/n"},"c":{"$ref":"#/$defs/n"},"d":{"$ref":"#/$defs/n"},"e":{"$ref":"#/$defs/n"},"f":{"$ref":"#/$defs/n"},"v":{"type":"string"},"l":{"$ref":"#/$defs/l"}}},
		"l":{"type":"array","items":{"$ref":"#/$defs/l"}}}}`)}
	r := parse(t, "id: a", "title: A", matches, "steps:", "  - {id: s, tool: dra_explain}", "causes:", "  - {id: c, finding: dra.x, when: 's.data.a.b.c.d.e.f.a.b.c.v == \"\"'}", "  - {id: d, finding: dra.x, when: s.data.a.w}", "  - {id: e, finding: dra.x, when: 's.data.l[0][0][0].size() > 0'}")
	got := Lint(&Library{all: []*Runbook{r}}, c)
	if len(got) != 1 || !strings.Contains(got[0].Message, "undefined field 'w'") {
		t.Errorf("%v", got)
	}
}
