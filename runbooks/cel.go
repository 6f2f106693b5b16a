package runbooks

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
)

// costLimit bounds one expression; generous for lists of a few thousand entries.
const costLimit = 5_000_000

// Engine compiles and runs the CEL of runbooks. Programs are kept; it is safe
// for concurrent use.
type Engine struct {
	mu       sync.Mutex
	programs map[string]compiled
	envs     map[string]*cel.Env
	// actions is the catalogue that proposals are held against.
	actions func() map[string]ActionInfo
}

type compiled struct {
	program cel.Program
	err     error
	// reads are the variables the expression reads.
	reads []string
}

// NewEngine makes an engine. Its proposals name actions of the embedded catalogue.
func NewEngine() *Engine {
	return &Engine{programs: map[string]compiled{}, envs: map[string]*cel.Env{}, actions: sync.OnceValue(func() map[string]ActionInfo {
		all, err := Actions()
		if err != nil {
			return nil // without a catalogue nothing is proposed
		}
		return all
	})}
}

// base is what every expression may use, beside the variables.
func base() []cel.EnvOption {
	return []cel.EnvOption{ext.Strings(), ext.Math(), ext.Lists(), ext.Sets(), cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true)}
}

// variables of the expressions of a runbook.
func variables(r *Runbook) []string {
	vars := []string{"subject", "alert", "findings", "finding"}
	for _, s := range r.Steps {
		vars = append(vars, s.ID)
	}
	return vars
}

// env is the dynamic environment of a runbook: types are checked by the linter,
// against the tools' schemas, not at run time.
func (e *Engine) env(r *Runbook) (*cel.Env, error) {
	vars := variables(r)
	k := strings.Join(vars, ",")
	if env, ok := e.envs[k]; ok {
		return env, nil
	}
	opts := base()
	for _, v := range vars {
		opts = append(opts, cel.Variable(v, cel.DynType))
	}
	env, err := cel.NewEnv(opts...)
	if err == nil {
		e.envs[k] = env
	}
	return env, err
}

func (e *Engine) compile(r *Runbook, expr string) compiled {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := strings.Join(variables(r), ",") + "|" + expr
	if c, ok := e.programs[k]; ok {
		return c
	}
	c := e.build(r, expr)
	e.programs[k] = c
	return c
}

func (e *Engine) build(r *Runbook, expr string) compiled {
	env, err := e.env(r)
	if err != nil {
		return compiled{err: err}
	}
	ast, iss := env.Compile(expr)
	if iss.Err() != nil {
		return compiled{err: iss.Err()}
	}
	p, err := env.Program(ast, cel.CostLimit(costLimit), cel.InterruptCheckFrequency(1000))
	if err != nil {
		return compiled{err: err}
	}
	var reads []string
	for _, s := range r.Steps {
		if regexp.MustCompile(`\b` + regexp.QuoteMeta(s.ID) + `\.`).MatchString(expr) {
			reads = append(reads, s.ID)
		}
	}
	return compiled{program: p, reads: reads}
}

// eval runs an expression over facts.
func (e *Engine) eval(ctx context.Context, r *Runbook, expr string, vars map[string]any) (ref.Val, []string, error) {
	c := e.compile(r, expr)
	if c.err != nil {
		return nil, nil, fmt.Errorf("%q: %w", expr, c.err)
	}
	v, _, err := c.program.ContextEval(ctx, vars)
	if err != nil {
		return nil, c.reads, fmt.Errorf("%q: %w", expr, err)
	}
	return v, c.reads, nil
}

// boolean runs a condition; an empty one holds.
func (e *Engine) boolean(ctx context.Context, r *Runbook, expr string, vars map[string]any) (bool, []string, error) {
	if expr == "" {
		return true, nil, nil
	}
	v, reads, err := e.eval(ctx, r, expr, vars)
	if err != nil {
		return false, reads, err
	}
	b, ok := v.Value().(bool)
	if !ok {
		return false, reads, fmt.Errorf("%q gives %v, not true or false", expr, v.Type())
	}
	return b, reads, nil
}

// hole finds {{ expr }}.
func hole() *regexp.Regexp { return regexp.MustCompile(`\{\{(.*?)\}\}`) }

// text fills the holes of a template. What cannot be evaluated because it is
// missing becomes empty; the linter warns about it beforehand.
func (e *Engine) text(ctx context.Context, r *Runbook, tmpl string, vars map[string]any) (string, []string) {
	if !strings.Contains(tmpl, "{{") {
		return tmpl, nil
	}
	var reads []string
	out := hole().ReplaceAllStringFunc(tmpl, func(h string) string {
		v, rd, err := e.eval(ctx, r, strings.TrimSpace(h[2:len(h)-2]), vars)
		reads = append(reads, rd...)
		if err != nil {
			return ""
		}
		return format(v)
	})
	return strings.TrimSpace(out), reads
}

// value renders a template; one that is exactly one hole keeps its type.
func (e *Engine) value(ctx context.Context, r *Runbook, v any, vars map[string]any) any {
	switch v := v.(type) {
	case string:
		m := hole().FindStringSubmatchIndex(v)
		if m != nil && m[0] == 0 && m[1] == len(v) {
			out, _, err := e.eval(ctx, r, strings.TrimSpace(v[m[2]:m[3]]), vars)
			if err != nil {
				return nil
			}
			return native(out)
		}
		s, _ := e.text(ctx, r, v, vars)
		return s
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if y := e.value(ctx, r, x, vars); y != nil {
				out[k] = y
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, x := range v {
			out = append(out, e.value(ctx, r, x, vars))
		}
		return out
	}
	return v
}

// format writes a value for people: whole numbers without a fraction.
func format(v ref.Val) string {
	switch x := v.Value().(type) {
	case string:
		return x
	case float64:
		if x == float64(int64(x)) {
			return fmt.Sprint(int64(x))
		}
		return fmt.Sprintf("%.3g", x)
	case nil:
		return ""
	}
	if v.Type() == types.NullType {
		return ""
	}
	n := native(v)
	if l, ok := n.([]any); ok {
		parts := make([]string, 0, len(l))
		for _, p := range l {
			parts = append(parts, fmt.Sprint(p))
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprint(n)
}

// native turns a CEL value into plain Go data.
func native(v ref.Val) any {
	switch v.Type() {
	case types.ListType:
		if x, err := v.ConvertToNative(reflect.TypeFor[[]any]()); err == nil {
			return x
		}
	case types.MapType:
		if x, err := v.ConvertToNative(reflect.TypeFor[map[string]any]()); err == nil {
			return x
		}
	case types.NullType:
		return nil
	}
	return v.Value()
}
