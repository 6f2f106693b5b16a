package runbooks

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// conclude judges a runbook with the steps explain and logs, and these causes.
func conclude(t *testing.T, f Facts, causes ...string) []Verdict {
	t.Helper()
	r := look(t, append([]string{"causes:"}, causes...)...)
	return NewEngine().Conclude(t.Context(), r, f)
}

func one(t *testing.T, f Facts, cause ...string) Verdict {
	t.Helper()
	vs := conclude(t, f, cause...)
	if len(vs) != 1 {
		t.Fatalf("%d verdicts: %+v", len(vs), vs)
	}
	return vs[0]
}

func TestCauseByCondition(t *testing.T) {
	t.Parallel()
	cause := func(more ...string) []string {
		return append([]string{"  - id: c", "    code: my.code", "    say: '{{ subject.name }}: {{ explain.data.total }} devices'"}, more...)
	}
	tests := []struct {
		name  string
		cause []string
		state string
		err   string
	}{
		{"it holds", cause("    when: explain.data.total > 1"), Fired, ""},
		{"it does not hold", cause("    when: explain.data.total > 100"), RuledOut, ""},
		{"what it reads is missing", cause("    when: explain.data.missing > 1"), Unknown, "no such key"},
		{"also when asked the other way round", cause("    when: '!(explain.data.missing > 1)'"), Unknown, "no such key"},
		{"its step failed", cause("    when: '!logs.ran'"), Unknown, "step logs failed: may not read logs"},
		{"its step failed and the words would hold", cause("    when: logs.data == {}"), Unknown, "step logs failed"},
		{"it gives no boolean", cause("    when: explain.data.total"), Unknown, "not true or false"},
		{"it does not compile", cause("    when: 'explain.data.total >'"), Unknown, "Syntax error"},
		{"it reads nothing that is there", cause("    when: nosuch.thing"), Unknown, "undeclared reference"},
		{"it runs without end", cause("    when: 'lists.range(10000).all(x, lists.range(10000).all(y, lists.range(10000).all(z, true)))'"), Unknown, "operation"},
		{"its words cannot be filled", []string{"  - {id: c, code: a, when: 'true', say: 'has {{ explain.data.missing }}'}"}, Unknown, "its words cannot be filled"},
		{"its subject is no reference", cause("    when: 'true'", "    subject: explain.data.total"), Unknown, "is no reference"},
		{"its subject has no name", cause("    when: 'true'", `    subject: "{'kind': 'Pod'}"`), Unknown, "is no reference"},
		{"its subject is missing", cause("    when: 'true'", "    subject: explain.data.owner"), Unknown, "is no reference"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			v := one(t, facts(), tc.cause...)
			if v.State != tc.state || !strings.Contains(v.Err, tc.err) || (v.Err == "") != (tc.err == "") {
				t.Errorf("%s, %q; want %s, %q", v.State, v.Err, tc.state, tc.err)
			}
			if v.State != Fired && (v.Statement != "" || len(v.Proposals) > 0 || len(v.Rivals) > 0) {
				t.Errorf("a cause that did not fire speaks: %+v", v)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	v := one(t, facts(), "  - id: c", "    title: The claim asks for too much", "    code: my.code", "    when: explain.data.total > 1", "    subject: explain.data.claim", "    confidence: 0.7",
		"    say: '{{ explain.data.claim.name }} asks for {{ explain.data.total }}'",
		"    detail: ['{{ explain.text }}', 'gap {{ explain.data.missing }}', '{{ explain.data.none }}', plain]",
		"    fix:",
		"      - {action: claim_recreate, with: {claim: '{{ explain.data.claim.name }}', change: '{{ explain.data.none }}', namespace: '{{ subject.namespace }}', empty: ''}, why: 'recreate {{ explain.data.claim.name }}'}",
		"      - {action: claim_delete, with: {claim: '{{ explain.data.missing }}', namespace: train}, why: a hole that cannot be filled}",
		"      - {action: advise, when: explain.data.total > 100, why: too many}",
		"      - {action: advise, when: explain.data.missing, why: not known}",
		"      - {action: cordon, when: explain.data.flag, with: {node: n1}, why: 'because {{ explain.data.missing }}'}")
	want := Verdict{
		Cause: v.Cause, State: Fired, Code: "my.code", Subject: map[string]any{"kind": "ResourceClaim", "name": "c1"}, Statement: "c1 asks for 48", Confidence: 0.7,
		Detail: []string{"8 devices", "plain"}, Steps: []string{"explain"},
		Proposals: []Proposal{
			{Action: "claim_recreate", Params: map[string]string{"claim": "c1", "namespace": "train"}, Why: "recreate c1"},
			{Action: "cordon", Params: map[string]string{"node": "n1"}, Why: "because"},
		},
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
}

func TestCauseByFinding(t *testing.T) {
	t.Parallel()
	vs := conclude(t, facts(), "  - id: c", "    finding: dra.x", "    say: '{{ finding.subject.name }} has {{ finding.params.count }}'",
		"  - {id: old, finding: dra.old, when: 'true'}", "  - {id: gone, finding: dra.gone, code: my.gone}",
		"  - {id: narrow, finding: dra.x, code: my.narrow, when: finding.subject.name == 'c2', confidence: 0.4}")
	type row struct {
		ID, State, Code, Statement string
		Subject                    string
		Confidence                 float64
	}
	var got []row
	for _, v := range vs {
		name, _ := v.Subject["name"].(string)
		got = append(got, row{v.Cause.ID, v.State, v.Code, v.Statement, name, v.Confidence})
	}
	want := []row{
		{"c", Fired, "dra.x", "c1 has 8", "c1", 0.9},
		// The second finding carries no count: its own message is said, not a gap.
		{"c", Fired, "dra.x", "m2", "c2", 0},
		// What is over is no cause, whatever the condition says.
		{"old", RuledOut, "dra.old", "", "", 0},
		{"gone", RuledOut, "my.gone", "", "", 0},
		{"narrow", RuledOut, "my.narrow", "", "llama-0", 0.4},
		{"narrow", Fired, "my.narrow", "m2", "c2", 0.4},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Context explains nothing by itself; a cause may say when it counts.
func TestRolesThatFire(t *testing.T) {
	t.Parallel()
	for role, want := range map[string][2]string{"fault": {Fired, Fired}, "symptom": {Fired, Fired}, "context": {RuledOut, Fired}, "history": {RuledOut, RuledOut}, "": {RuledOut, RuledOut}, "odd": {RuledOut, RuledOut}} {
		f := Facts{Subject: subject("Pod", "a", "b"), Findings: []map[string]any{{"code": "x.y", "role": role, "message": "m", "subject": subject("Pod", "a", "b")}}}
		if v := one(t, f, "  - {id: c, finding: x.y}"); v.State != want[0] {
			t.Errorf("%s fires %s without a condition, want %s", role, v.State, want[0])
		}
		if v := one(t, f, "  - {id: c, finding: x.y, when: 'true'}"); v.State != want[1] {
			t.Errorf("%s fires %s with a condition, want %s", role, v.State, want[1])
		}
	}
}

// A finding of a step is seen like any other, and once.
func TestFindingsOfSteps(t *testing.T) {
	t.Parallel()
	f := facts()
	st := f.Steps["explain"]
	st.Findings = []map[string]any{f.Findings[0], {"code": "dra.new", "role": "fault", "message": "found by the step", "subject": subject("Node", "", "n1"), "params": map[string]any{}}}
	f.Steps["explain"] = st
	vs := conclude(t, f, "  - {id: n, finding: dra.new}", "  - {id: x, finding: dra.x}", "  - {id: seen, code: a, say: b, when: 'explain.findings.size() == 2 && findings.size() == 4'}")
	var got []string
	for _, v := range vs {
		got = append(got, v.Cause.ID+" "+v.State+" "+v.Statement)
	}
	if diff := cmp.Diff([]string{"n fired found by the step", "x fired m1", "x fired m2", "seen fired b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRivals(t *testing.T) {
	t.Parallel()
	base := []string{"  - {id: c, finding: dra.x, when: finding.subject.name == 'c1', rivals: [r]}"}
	tests := []struct {
		name  string
		rival []string
		facts func(*Facts)
		want  []Rival
	}{
		{name: "no finding, and the evidence says why", rival: []string{"  - {id: r, title: taints, finding: dra.tainted, unless: '0 of {{ explain.data.total }} are tainted'}"},
			want: []Rival{{Code: "dra.tainted", What: "taints", Why: "0 of 48 are tainted", Steps: []string{"explain"}}}},
		{name: "the condition does not hold", rival: []string{"  - {id: r, code: my.r, say: s, when: explain.data.total > 100, unless: too few}"},
			want: []Rival{{Code: "my.r", What: "r", Why: "too few", Steps: []string{"explain"}}}},
		{name: "the condition does not hold, and nothing says why", rival: []string{"  - {id: r, code: my.r, say: s, when: explain.data.total > 100}"}},
		{name: "a sentence that rests on nothing", rival: []string{"  - {id: r, finding: dra.tainted, unless: surely not}"}},
		{name: "the condition, and a sentence of the finding", rival: []string{"  - {id: r, code: my.r, say: s, when: explain.data.total > 100, unless: '{{ finding.params.count }} are there'}"},
			want: []Rival{{Code: "my.r", What: "r", Why: "8 are there", Steps: []string{"explain"}}}},
		{name: "nobody looked", rival: []string{"  - {id: r, finding: dra.tainted}"}},
		{name: "what would say why failed", rival: []string{"  - {id: r, finding: dra.tainted, unless: 'the log is clean{{ logs.text }}'}"}},
		{name: "what would say why is missing", rival: []string{"  - {id: r, finding: dra.tainted, unless: '{{ explain.data.tainted }} of {{ explain.data.total }} are tainted'}"}},
		{name: "what would say why says nothing", rival: []string{"  - {id: r, finding: dra.tainted, unless: \"{{ explain.data.total > 100 ? 'enough' : '' }}\"}"}},
		{name: "it is not known", rival: []string{"  - {id: r, code: my.r, say: s, when: explain.data.missing, unless: never}"}},
		{name: "it fired", rival: []string{"  - {id: r, code: my.r, say: s, when: 'true', unless: never}"}},
		{name: "it fired for one finding of two", rival: []string{"  - {id: r, finding: dra.x, code: my.r, when: finding.subject.name == 'c2', unless: '{{ explain.data.total }} devices'}"}},
		{name: "a fault of its code is there", rival: []string{"  - {id: r, finding: dra.other, when: 'false', unless: '{{ explain.data.total }} devices'}"},
			facts: func(f *Facts) {
				f.Findings = append(f.Findings, map[string]any{"code": "dra.other", "role": "fault", "subject": subject("Node", "", "n"), "message": "m"})
			}},
		{name: "it was history", rival: []string{"  - {id: r, finding: dra.old, unless: '{{ explain.data.total }} devices'}"},
			want: []Rival{{Code: "dra.old", What: "r", Why: "48 devices", Steps: []string{"explain"}}}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := facts()
			if tc.facts != nil {
				tc.facts(&f)
			}
			vs := conclude(t, f, append(base[:1:1], tc.rival...)...)
			if vs[0].State != Fired {
				t.Fatalf("%+v", vs[0])
			}
			if diff := cmp.Diff(tc.want, vs[0].Rivals); diff != "" {
				t.Error(diff)
			}
		})
	}
	if vs := conclude(t, facts(), "  - {id: c, finding: dra.x, rivals: [nobody]}"); len(vs[0].Rivals) > 0 {
		t.Errorf("a rival that does not exist is ruled out: %+v", vs[0].Rivals)
	}
}

// Without anything known nothing fires and nothing is ruled out by evidence.
func TestConcludeWithoutFacts(t *testing.T) {
	t.Parallel()
	vs := conclude(t, Facts{}, "  - {id: a, code: a, say: s, when: subject.kind == 'Pod'}", "  - {id: b, code: b, say: s, when: '!explain.ran'}", "  - {id: c, finding: x.y}",
		"  - {id: d, code: d, say: s, when: alert.name == 'X'}", "  - {id: e, code: e, say: s, when: findings.size() == 0, rivals: [c]}")
	got := map[string]string{}
	for _, v := range vs {
		got[v.Cause.ID] = strings.TrimSpace(v.State + " " + v.Err)
		if len(v.Rivals) > 0 {
			t.Errorf("%s has rivals %+v", v.Cause.ID, v.Rivals)
		}
	}
	for id, want := range map[string]string{"a": "unknown", "b": "unknown step explain was not run", "c": "ruled_out", "d": "unknown", "e": "fired"} {
		if !strings.HasPrefix(got[id], want) {
			t.Errorf("%s: %s, want %s", id, got[id], want)
		}
	}
}

// Concluding changes none of the facts: several runbooks share them.
func TestConcludeLeavesTheFacts(t *testing.T) {
	t.Parallel()
	f := facts()
	before := maps.Clone(f.Findings[0])
	n := len(f.Findings)
	conclude(t, f, "  - {id: c, finding: dra.x, say: '{{ finding.message }}', fix: [{action: a, with: {b: '{{ finding.params.count }}'}}]}")
	if diff := cmp.Diff(before, f.Findings[0]); diff != "" || len(f.Findings) != n {
		t.Errorf("%d findings, %s", len(f.Findings), diff)
	}
}
