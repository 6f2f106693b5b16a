package runbooks

import (
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"
)

// Bounds of one expression.
const (
	// costLimit is in CEL's cost units, about one a step; generous for lists of a
	// few thousand entries.
	costLimit = 1_000_000
	// patience is how long one expression may run. cel-go's own accounting of
	// cost takes a time that grows with the square of nested lists, so the cost
	// limit alone does not end such an expression soon.
	patience = 5 * time.Second
	// maxRange is the longest list that lists.range makes.
	maxRange = 10_000
	// maxExpr is the longest expression, in characters.
	maxExpr = 4 << 10
)

// Engine compiles and runs the CEL of runbooks. Programs are kept; it is safe
// for concurrent use.
type Engine struct {
	mu       sync.Mutex
	programs map[string]compiled
	envs     map[string]*cel.Env
	// actions is the catalogue that proposals are held against.
	actions  func() map[string]ActionInfo
	patience time.Duration
}

type compiled struct {
	program cel.Program
	err     error
	// reads are the variables the expression reads.
	reads []string
}

// NewEngine makes an engine. Its proposals name actions of the embedded catalogue.
func NewEngine() *Engine {
	return &Engine{programs: map[string]compiled{}, envs: map[string]*cel.Env{}, patience: patience, actions: sync.OnceValue(func() map[string]ActionInfo {
		all, err := Actions()
		if err != nil {
			return nil // without a catalogue nothing is proposed
		}
		return all
	})}
}

// base is what every expression may use, beside the variables.
func base() []cel.EnvOption {
	return []cel.EnvOption{
		ext.Strings(), ext.Math(), ext.Lists(ext.ListsMaxRangeSize(maxRange)), ext.Sets(), cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxExpr),
	}
}

// variables of the expressions of a runbook.
func variables(r *Runbook) []string {
	vars := given()
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
	checked, iss := env.Compile(expr)
	if iss.Err() != nil {
		return compiled{err: iss.Err()}
	}
	p, err := env.Program(checked, cel.CostTracking(sizes{}), cel.CostLimit(costLimit), cel.InterruptCheckFrequency(1000))
	if err != nil {
		return compiled{err: err}
	}
	return compiled{program: p, reads: stepsRead(r, checked)}
}

// sizes charges by size for what cel-go charges one unit for: operators on values
// whose types are known only at run time. Without it, a text doubled again and
// again costs nothing until the memory is gone.
type sizes struct{}

var _ interpreter.ActualCostEstimator = sizes{}

// CallCost implements interpreter.ActualCostEstimator.
func (sizes) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	if overload != "" {
		return nil
	}
	var n uint64
	switch function {
	case operators.Add:
		n = size(result)
	case operators.Equals, operators.NotEquals, operators.In:
		for _, a := range args {
			n += size(a)
		}
	default:
		return nil
	}
	n++
	return &n
}

// size of a value in cost units: ten bytes of text or one entry a unit, as
// cel-go counts.
func size(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	case traits.Lister:
		if n, ok := v.Size().(types.Int); ok {
			return uint64(max(n, 0))
		}
	}
	return 0
}

// stepsRead lists the steps whose answers an expression reads, in the order of
// the runbook. A word in a text or the name of a field is no reading.
func stepsRead(r *Runbook, checked *cel.Ast) []string {
	idents := map[string]bool{}
	ast.PreOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.IdentKind {
			idents[strings.TrimPrefix(e.AsIdent(), ".")] = true
		}
	}))
	var out []string
	for _, s := range r.Steps {
		if idents[s.ID] {
			out = append(out, s.ID)
		}
	}
	return out
}

// eval runs an expression over facts.
func (e *Engine) eval(ctx context.Context, r *Runbook, expr string, vars map[string]any) (ref.Val, []string, error) {
	c := e.compile(r, expr)
	if c.err != nil {
		return nil, nil, fmt.Errorf("%q: %w", expr, c.err)
	}
	ctx, cancel := context.WithTimeout(ctx, e.patience)
	defer cancel()
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
func hole() *regexp.Regexp { return regexp.MustCompile(`(?s)\{\{(.*?)\}\}`) }

// text fills the holes of a template. ok is false when a hole could not be
// filled because what it reads is missing or of another shape; the text is then
// full of gaps and no text to show.
func (e *Engine) text(ctx context.Context, r *Runbook, tmpl string, vars map[string]any) (text string, reads []string, ok bool) {
	if !strings.Contains(tmpl, "{{") {
		return tmpl, nil, true
	}
	ok = true
	out := hole().ReplaceAllStringFunc(tmpl, func(h string) string {
		v, rd, err := e.eval(ctx, r, strings.TrimSpace(h[2:len(h)-2]), vars)
		reads = append(reads, rd...)
		if err != nil {
			ok = false
			return ""
		}
		return format(v)
	})
	return strings.TrimSpace(out), reads, ok
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
		s, _, ok := e.text(ctx, r, v, vars)
		if !ok {
			return nil
		}
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
			if y := e.value(ctx, r, x, vars); y != nil {
				out = append(out, y)
			}
		}
		return out
	}
	return v
}

// format writes a value for people: whole numbers without a fraction or an
// exponent, lists joined by commas, mappings as "key: value" in a stable order.
func format(v ref.Val) string { return written(native(v)) }

func written(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		// Beyond 2^53 a float64 is no exact whole number any more.
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return strconv.FormatInt(int64(v), 10)
		}
		if math.Abs(v) >= 1000 && math.Abs(v) < 1<<53 {
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return strconv.FormatFloat(v, 'g', 3, 64)
	case []any:
		parts := make([]string, 0, len(v))
		for _, x := range v {
			parts = append(parts, written(x))
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, k+": "+written(v[k]))
		}
		return strings.Join(parts, ", ")
	}
	return fmt.Sprint(v)
}

// native turns a CEL value into plain Go data: maps, lists, scalars and nil.
func native(v ref.Val) any {
	switch v := v.(type) {
	case types.Null:
		return nil
	case *types.Optional:
		if !v.HasValue() {
			return nil
		}
		return native(v.GetValue())
	case traits.Lister:
		out := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			out = append(out, native(it.Next()))
		}
		return out
	case traits.Mapper:
		out := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			out[fmt.Sprint(k.Value())] = native(v.Get(k))
		}
		return out
	}
	return v.Value()
}
