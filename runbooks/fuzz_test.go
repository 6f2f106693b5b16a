package runbooks

import "testing"

// Whatever an expression says, it ends, in the engine and in the linter.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		"subject.kind == 'Pod'", "explain.data.rows.all(x, x.n > 0)", "explain.data.?missing.orValue(0) == 0", "findings.exists(f, f.params['count'] == '8')",
		"lists.range(100).map(i, i * i).exists(x, x == 81)", "'%s %d'.format(['a', 1]).matches('a+')", "{'a': 1}.a == 1", "[1, 2][3] == 1", "logs.ran", "{{ }}", "explain.data.list.sort()",
	} {
		f.Add(s)
	}
	r := look(f)
	vars := facts().vars(r, facts().Findings[0])
	l := &linter{r: r, c: against()}
	env, err := l.environment()
	if err != nil {
		f.Fatal(err)
	}
	l.env = env
	f.Fuzz(func(t *testing.T, expr string) {
		e := NewEngine()
		if _, _, err := e.boolean(t.Context(), r, expr, vars); err != nil && expr == "true" {
			t.Fatal(err)
		}
		text, _, ok := e.text(t.Context(), r, "a {{ "+expr+" }} b", vars)
		if ok && text == "" {
			t.Fatalf("the text around %q is gone", expr)
		}
		l := *l
		l.problems = nil
		l.bool("steps[0].when", expr, scope{code: anyCode, steps: []string{"explain", "logs"}})
		for _, p := range l.problems {
			if p.Message == "" || p.Line < 1 {
				t.Fatalf("problem %+v", p)
			}
		}
	})
}
