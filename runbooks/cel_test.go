package runbooks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// look is a runbook with the steps that expressions of these tests read.
func look(t testing.TB, more ...string) *Runbook {
	return parse(t, append([]string{"id: x", "title: X", "steps:", "  - {id: explain, tool: dra_explain}", "  - {id: logs, tool: kube_logs}"}, more...)...)
}

func subject(kind, ns, name string) map[string]any {
	return map[string]any{"cluster": "lab", "namespace": ns, "group": "", "kind": kind, "name": name}
}

// facts are what a run would have gathered: one step answered, one failed.
func facts() Facts {
	return Facts{
		Subject: subject("Pod", "train", "llama-0"),
		Alert:   map[string]any{"name": "KubePodNotReady", "labels": map[string]any{"pod": "llama-0"}},
		Findings: []map[string]any{
			{"code": "dra.x", "role": "fault", "message": "m1", "severity": "critical", "confidence": 0.9, "subject": subject("ResourceClaim", "train", "c1"), "params": map[string]any{"count": "8", "driver": "gpu.nvidia.com"}},
			{"code": "dra.x", "role": "fault", "message": "m2", "severity": "critical", "subject": subject("ResourceClaim", "train", "c2"), "params": map[string]any{}},
			{"code": "dra.old", "role": "history", "message": "m3", "subject": subject("Pod", "train", "llama-0"), "params": map[string]any{}},
		},
		Steps: map[string]StepFact{
			"explain": {Text: "8 devices", Data: map[string]any{
				"total": 48.0, "share": 0.256, "big": 81559.5, "huge": 1e300, "none": nil, "list": []any{"a", "b"}, "numbers": []any{1500000.0, 0.5}, "flag": true,
				"claim": map[string]any{"kind": "ResourceClaim", "name": "c1"}, "rows": []any{map[string]any{"n": 1.0}, map[string]any{"n": 2.0}},
			}},
			"logs": {Error: "may not read logs"},
		},
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	e, r := NewEngine(), look(t)
	tests := []struct {
		expr  string
		want  bool
		fails string
	}{
		{"", true, ""},
		{"true", true, ""},
		{"subject.kind == 'Pod' && subject.namespace == 'train'", true, ""},
		{"explain.data.total > 40", true, ""},
		{"explain.data.total == 48.0 && explain.data.share < 1", true, ""},
		{"explain.data.rows.all(x, x.n > 0) && explain.data.rows.exists(x, x.n > 1)", true, ""},
		{"explain.ran && !logs.ran && logs.error.contains('may not')", true, ""},
		{"findings.exists(f, f.code == 'dra.x' && f.params.?count.orValue('') == '8')", true, ""},
		{"alert.labels['pod'] == subject.name", true, ""},
		{"has(explain.data.total) && !has(explain.data.missing)", true, ""},
		{"explain.data.?missing.hasValue()", false, ""},
		{"size(findings) == 3", true, ""},
		// What is missing is an error, and an error is not true.
		{"explain.data.missing > 1", false, "no such key"},
		{"!explain.data.missing", false, "no such key"},
		{"logs.data.lines.size() == 0", false, "no such key"},
		{"finding.code == 'dra.x'", false, "no such key"},
		{"explain.data.none > 1", false, "no such overload"},
		{"explain.data.list[5] == 'a'", false, "index out of bounds"},
		{"explain.data.total / 0 > 1", false, "no such overload"},
		{"1 / 0 > 1", false, "division by zero"},
		{"explain.data.list", false, "not true or false"},
		{"'yes'", false, "not true or false"},
		{"nothing.data", false, "undeclared reference"},
		{"subject.kind ==", false, "Syntax error"},
		{"true || explain.data.missing", true, ""},
		{"false && explain.data.missing", false, ""},
	}
	for _, tc := range tests {
		t.Run(tc.expr, func(t *testing.T) {
			t.Parallel()
			got, _, err := e.boolean(t.Context(), r, tc.expr, facts().vars(r, nil))
			if got != tc.want || (err == nil) != (tc.fails == "") {
				t.Fatalf("%v, %v; want %v", got, err, tc.want)
			}
			if err != nil && (!strings.Contains(err.Error(), tc.fails) || !strings.Contains(err.Error(), fmt.Sprintf("%q", tc.expr))) {
				t.Errorf("%v names neither %q nor the expression", err, tc.fails)
			}
		})
	}
}

// Which steps an expression reads decides which evidence is cited: names inside
// texts, fields and bound variables are no reading.
func TestStepsRead(t *testing.T) {
	t.Parallel()
	e, r := NewEngine(), look(t)
	for expr, want := range map[string]string{
		"explain.data.total > 1":                        "explain",
		"logs.ran && explain.ran":                       "explain logs",
		"explain['data'].total > 1":                     "explain",
		"explain == logs":                               "explain logs",
		"[explain].size() == 1":                         "explain",
		"subject.name == 'explain.data'":                "",
		"has(subject.explain) || true":                  "",
		"subject.name.matches('logs.*')":                "",
		"findings.exists(logs, logs.code == 'x')":       "",
		"explain.data.rows.exists(x, x.n == logs.data)": "explain logs",
	} {
		_, reads, err := e.boolean(t.Context(), r, expr, facts().vars(r, nil))
		if strings.HasPrefix(expr, "findings.exists(logs") {
			// A bound variable of a step's name is indeed read as the step: citing
			// too much is better than too little.
			want = "logs"
		}
		if got := strings.Join(reads, " "); got != want {
			t.Errorf("%s reads %q, want %q (%v)", expr, got, want, err)
		}
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	e, r := NewEngine(), look(t)
	f := facts()
	for tmpl, want := range map[string]string{
		"no hole":            "no hole",
		"":                   "",
		"{{ subject.name }}": "llama-0",
		"{{subject.namespace}}/{{subject.name}} waits":          "train/llama-0 waits",
		"{{ explain.data.total }} devices":                      "48 devices",
		"{{ explain.data.share }} and {{ explain.data.big }}":   "0.256 and 81559.5",
		"{{ explain.data.huge }}":                               "1e+300",
		"{{ explain.data.list }}":                               "a, b",
		"{{ explain.data.numbers }}":                            "1500000, 0.5",
		"{{ explain.data.rows.map(x, x.n) }}":                   "1, 2",
		"{{ explain.data.flag }}":                               "true",
		"{{ explain.data.none }}.":                              ".",
		"{{ explain.data.claim }}":                              "kind: ResourceClaim, name: c1",
		"{{ explain.data.rows }}":                               "n: 1, n: 2",
		"{{ explain.data.total > 1 ? 'many' : 'few' }}":         "many",
		"{{ explain.data.?missing.orValue('none') }} are":       "none are",
		"{{ finding.params.?driver.orValue('') }}":              "gpu.nvidia.com",
		"{{ finding.params\n.driver }}":                         "gpu.nvidia.com",
		"{{ 3 }} and {{ 2u }} and {{ -1 }}":                     "3 and 2 and -1",
		"{{ 'a' + 'b' }}{{ \"}\" }}":                            "ab}",
		"{{ ['x', 'y'].join('+') }}":                            "x+y",
		"  {{ subject.kind }}  ":                                "Pod",
		"braces { } }} stay":                                    "braces { } }} stay",
		"{{ logs.error }}":                                      "may not read logs",
		"{{ finding.confidence > 0.5 ? 'likely' : 'perhaps' }}": "likely",
		"{{ {'a': 1, 'b': [true, null]} }}":                     "a: 1, b: true,",
	} {
		got, _, ok := e.text(t.Context(), r, tmpl, f.vars(r, f.Findings[0]))
		if got != want || !ok {
			t.Errorf("%q gives %q (%v), want %q", tmpl, got, ok, want)
		}
	}
	// A text with a hole that cannot be filled is no text.
	for _, tmpl := range []string{"{{ explain.data.missing }}", "ask for {{ finding.params.limit }} of it", "{{ broken", "{{ }}", "{{ 1 + }}", "{{ logs.data.lines }}"} {
		if got, _, ok := e.text(t.Context(), r, tmpl, f.vars(r, f.Findings[0])); ok && tmpl != "{{ broken" {
			t.Errorf("%q gives %q and says that this is whole", tmpl, got)
		}
	}
	_, reads, _ := e.text(t.Context(), r, "{{ explain.data.total }} {{ logs.error }} {{ explain.text }}", f.vars(r, nil))
	if diff := cmp.Diff([]string{"explain", "logs", "explain"}, reads); diff != "" {
		t.Error(diff)
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	e := NewEngine()
	r := look(t, "  - id: more", "    tool: t", "    with:", "      name: '{{ subject.name }}'", "      total: '{{ explain.data.total }}'", "      all: true", "      n: 5",
		"      list: ['{{ subject.kind }}', '{{ explain.data.missing }}', x]", "      nested: {a: '{{ explain.data.list }}', b: '{{ finding.x }}'}",
		"      text: 'pod {{ subject.name }}'", "      gone: '{{ explain.data.missing }}'", "      half: 'a{{ explain.data.missing }}b'", "      empty: '{{ explain.data.none }}'", "      blank: ''")
	got := e.Inputs(t.Context(), r, r.Steps[2], facts())
	want := map[string]any{"name": "llama-0", "total": 48.0, "all": true, "n": 5, "list": []any{"Pod", "x"}, "nested": map[string]any{"a": []any{"a", "b"}}, "text": "pod llama-0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := e.Inputs(t.Context(), r, r.Steps[0], Facts{}); len(got) != 0 || got == nil {
		t.Errorf("a step without arguments: %v", got)
	}
	for when, want := range map[string]bool{"": true, "explain.ran": true, "logs.ran": false} {
		if ok, err := e.Wanted(t.Context(), r, Step{ID: "s", When: when}, facts()); ok != want || err != nil {
			t.Errorf("%q: %v %v", when, ok, err)
		}
	}
	if ok, err := e.Wanted(t.Context(), r, Step{ID: "s", When: "explain.data.gone"}, facts()); ok || err == nil {
		t.Errorf("a condition that fails wants the step: %v %v", ok, err)
	}
}

// wide is a fact that a hostile cluster can make as large as it likes.
func wide(n int) Facts {
	rows := make([]any, n)
	for i := range rows {
		rows[i] = map[string]any{"name": fmt.Sprintf("gpu-%d", i), "text": strings.Repeat("a", 200)}
	}
	return Facts{Subject: subject("Pod", "a", "b"), Steps: map[string]StepFact{"explain": {Data: map[string]any{"rows": rows, "text": strings.Repeat("ab", 1<<20)}}}}
}

// An expression over large data ends at its bound and does not fire.
func TestCostIsBounded(t *testing.T) {
	t.Parallel()
	e, r := NewEngine(), look(t)
	e.patience = time.Minute // a busy machine is no reason to fail
	vars := wide(5000).vars(r, nil)
	// What a runbook would ask of a large cluster is within the bound of cost.
	e.patience = time.Hour
	if ok, _, err := e.boolean(t.Context(), r, "explain.data.rows.all(x, x.name.startsWith('gpu-')) && explain.data.rows.filter(x, x.text.contains('b')).size() == 0", vars); !ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	e.patience = 300 * time.Millisecond
	for _, expr := range []string{
		"explain.data.rows.all(x, explain.data.rows.all(y, explain.data.rows.all(z, x.name + y.name + z.name != '')))",
		"explain.data.rows.exists(x, explain.data.rows.exists(y, x.text.matches('(a*)*b') && y.text.matches('(a|aa)+$b')))",
		"explain.data.rows.map(x, explain.data.rows.map(y, x.text + y.text)).size() == 0",
		"lists.range(1000000000).size() > 0",
		"lists.range(10000).all(x, lists.range(10000).all(y, x != y || true))",
		"explain.data.rows.all(x, explain.data.text.replace('a', 'bbbbbbbbbbbbbbbb').size() > 0)",
		"explain.data.rows.all(x, explain.data.text.split('').size() > 0)",
		"explain.data.rows.map(x, x.name).sort().all(x, explain.data.rows.map(y, y.name).sort().size() > 0)",
		"'%.999999999f'.format([1.0]).size() < 0",
	} {
		got, _, err := e.boolean(t.Context(), r, expr, vars)
		if got || err == nil {
			t.Errorf("%s ran to its end: %v", expr, got)
		}
	}
	// Doubling a text again and again would need the memory of the machine.
	double := "explain.data.text"
	for range 12 {
		double = "[" + double + "].map(x, x + x + x + x)[0]"
	}
	if got, _, err := e.boolean(t.Context(), r, double+" == ''", vars); got || err == nil {
		t.Errorf("doubling ran to its end: %v", got)
	}
	if _, _, err := e.boolean(t.Context(), r, "["+strings.Repeat("1,", maxExpr)+"1].size() > 0", vars); err == nil {
		t.Error("an expression of any length is taken")
	}
	if _, _, err := e.boolean(t.Context(), r, strings.Repeat("(", 1000)+"true"+strings.Repeat(")", 1000), vars); err == nil {
		t.Error("an expression of any depth is taken")
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	e, r := NewEngine(), look(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := e.boolean(ctx, r, "explain.data.rows.all(x, explain.data.rows.exists(y, x.name != y.name))", wide(3000).vars(r, nil))
	if err == nil {
		t.Error("the end of the context does not end an expression")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// One engine serves the investigations of a whole server.
func TestEngineIsConcurrent(t *testing.T) {
	t.Parallel()
	e := NewEngine()
	a, b := look(t), parse(t, "id: y", "title: Y", "steps:", "  - {id: explain, tool: t}")
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			r := a
			if i%2 == 0 {
				r = b
			}
			for range 20 {
				if ok, _, err := e.boolean(t.Context(), r, "explain.data.total > 1", facts().vars(r, nil)); !ok || err != nil {
					t.Errorf("%v %v", ok, err)
				}
			}
		})
	}
	wg.Wait()
}
