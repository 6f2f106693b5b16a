package runbooks

import (
	"strings"
	"testing"
	"testing/fstest"
)

const mending = `---
id: mending
title: A claim is mended where it comes from
matches: {findings: [dra.claim_bad]}
causes:
  - id: bad
    finding: dra.claim_bad
    fix:
%s
---
text
`

func fixes(t *testing.T, fix string, params, subject map[string]any) []Proposal {
	t.Helper()
	r, err := Parse("mending.md", []byte(strings.Replace(mending, "%s", fix, 1)))
	if err != nil {
		t.Fatal(err)
	}
	f := map[string]any{"code": "dra.claim_bad", "role": "fault", "subject": subject, "params": params}
	vs := NewEngine().Conclude(t.Context(), r, Facts{Findings: []map[string]any{f}})
	if len(vs) != 1 || vs[0].State != Fired {
		t.Fatalf("the cause did not fire: %+v", vs)
	}
	return vs[0].Proposals
}

// A proposal is made only when all it rests on is known: with a parameter missing it
// would change the wrong object, or none.
func TestAProposalIsNotMadeWithAHole(t *testing.T) {
	t.Parallel()
	subject := map[string]any{"namespace": "ml", "kind": "ResourceClaim", "name": "gpu"}
	const replace = `      - {action: claim_template_replace, with: {namespace: "{{ finding.subject.namespace }}", template: "{{ finding.params.template }}", request: "{{ finding.params.?request.orValue('') }}"}}`
	for _, c := range []struct {
		name, fix string
		params    map[string]any
		subject   map[string]any
		want      map[string]string
	}{
		{"all is known", replace, map[string]any{"template": "t", "request": "r"}, subject, map[string]string{"namespace": "ml", "template": "t", "request": "r"}},
		{"what may be empty is left out", replace, map[string]any{"template": "t"}, subject, map[string]string{"namespace": "ml", "template": "t"}},
		{"the required fact is missing", replace, map[string]any{"request": "r"}, subject, nil},
		{"the required fact is empty", replace, map[string]any{"template": ""}, subject, nil},
		{"the namespace is empty", replace, map[string]any{"template": "t"}, map[string]any{"namespace": "", "kind": "ResourceClaim", "name": "gpu"}, nil},
		{"a required parameter is not named", `      - {action: claim_template_replace, with: {namespace: "{{ finding.subject.namespace }}"}}`, nil, subject, nil},
		{"an object that is named and empty", `      - {action: driver_plugin_restart, with: {driver: "d", node: "{{ finding.params.?node.orValue('') }}"}}`, nil, subject, nil},
		{"a part of a text is empty", `      - {action: advise, with: {about: "node {{ finding.params.?node.orValue('') }}"}}`, nil, subject, nil},
		{"a part of a text is missing", `      - {action: advise, with: {about: "node {{ finding.params.node }}"}}`, nil, subject, nil},
		{"a text of two parts", `      - {action: advise, with: {about: "{{ finding.params.a }}/{{ finding.params.b }}"}}`, map[string]any{"a": "x", "b": "y"}, subject, map[string]string{"about": "x/y"}},
		{"an action that is not in the catalogue", `      - {action: rm_rf, with: {name: "x"}}`, nil, subject, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := fixes(t, c.fix, c.params, c.subject)
			if c.want == nil {
				if len(got) != 0 {
					t.Fatalf("proposed %+v", got)
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("proposals %+v, want one", got)
			}
			for k, v := range c.want {
				if got[0].Params[k] != v {
					t.Errorf("%s is %q, want %q", k, got[0].Params[k], v)
				}
			}
			if len(got[0].Params) != len(c.want) {
				t.Errorf("params %v, want %v", got[0].Params, c.want)
			}
		})
	}
}

// A fact that not every finding of a code carries must be asked for.
func TestLintWantsOptionalParamsAskedFor(t *testing.T) {
	t.Parallel()
	actions, err := Actions()
	if err != nil {
		t.Fatal(err)
	}
	ctx := LintContext{Actions: actions, Codes: map[string]CodeInfo{"dra.claim_bad": {Params: []string{"always"}, Optional: []string{"template"}, Role: "fault"}}}
	for _, c := range []struct{ name, fix, want string }{
		{"asked for by the condition", `      - {action: advise, when: "finding.params.?template.orValue('') != ''", with: {about: "{{ finding.params.template }}"}}`, ""},
		{"read with its absence in mind", `      - {action: advise, with: {about: "{{ finding.params.?template.orValue('') }}"}}`, ""},
		{"always there", `      - {action: advise, with: {about: "{{ finding.params.always }}"}}`, ""},
		{"not asked for", `      - {action: advise, with: {about: "{{ finding.params.template }}"}}`, "needs a condition"},
		{"not asked for in the reason", `      - {action: advise, why: "see {{ finding.params.template }}"}`, "needs a condition"},
		{"the condition itself fails without it", `      - {action: advise, when: "finding.params.template != ''", with: {about: "{{ finding.params.template }}"}}`, "read it as finding.params.?template"},
		{"not carried at all", `      - {action: advise, with: {about: "{{ finding.params.other }}"}}`, `carry no "other"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lib, err := Load(fstest.MapFS{"mending.md": {Data: []byte(strings.Replace(mending, "%s", c.fix, 1))}})
			if err != nil {
				t.Fatal(err)
			}
			ps := Lint(lib, ctx)
			if c.want == "" && len(ps) > 0 || c.want != "" && (len(ps) == 0 || !strings.Contains(ps[0].Message, c.want)) {
				t.Errorf("problems %v, want %q", ps, c.want)
			}
		})
	}
}
