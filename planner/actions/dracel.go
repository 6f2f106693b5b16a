package actions

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	resourceapi "k8s.io/api/resource/v1"
	dracel "k8s.io/dynamic-resource-allocation/cel"
)

// compiles checks a device selector with the library that the API server uses. The
// error is a *planner.Missing.
func compiles(p params, param, expr string) error {
	r := dracel.GetCompiler(dracel.Features{EnableConsumableCapacity: true}).CompileCELExpression(expr, dracel.Options{})
	switch {
	case r.Error != nil:
		return p.missing(param, "%s does not compile: %s", short(expr), r.Error.Detail)
	case r.MaxCost > resourceapi.CELSelectorExpressionMaxCost:
		return p.missing(param, "%s costs too much to evaluate, the API server would refuse it", short(expr))
	case len(expr) > resourceapi.CELSelectorExpressionMaxLength:
		return p.missing(param, "the expression has %d bytes, the API server takes %d", len(expr), resourceapi.CELSelectorExpressionMaxLength)
	}
	return nil
}

// otherDevices warns that other devices are asked for than before: what the expressions
// compare with is put side by side, so that a person sees that the model changes.
func otherDevices(who string, before, after []string) []string {
	var was, is []string
	for _, e := range before {
		was = append(was, constants(e)...)
	}
	for _, e := range after {
		is = append(is, constants(e)...)
	}
	gone := slices.DeleteFunc(slices.Clone(was), func(s string) bool { return slices.Contains(is, s) })
	come := slices.DeleteFunc(slices.Clone(is), func(s string) bool { return slices.Contains(was, s) })
	switch {
	case len(gone) > 0 && len(come) > 0:
		return []string{fmt.Sprintf("%s asks for %s and would get %s: other devices than the workload was written for", who, strings.Join(gone, ", "), strings.Join(come, ", "))}
	case len(gone) > 0:
		return []string{fmt.Sprintf("%s no longer asks for %s: other devices than the workload was written for may be given", who, strings.Join(gone, ", "))}
	case !slices.Equal(before, after):
		return []string{who + " asks for devices in other words than before: look at the difference"}
	}
	return nil
}

// constants gives the values that an expression compares fields with, as text; the
// names of fields and domains are none. What does not parse has none.
func constants(expr string) []string {
	r := dracel.GetCompiler(dracel.Features{EnableConsumableCapacity: true}).CompileCELExpression(expr, dracel.Options{DisableCostEstimation: true})
	if r.Environment == nil {
		return nil
	}
	parsed, issues := r.Environment.Parse(expr)
	if issues != nil && issues.Err() != nil {
		return nil
	}
	var out []string
	var walk func(ast.Expr)
	walk = func(e ast.Expr) {
		switch e.Kind() {
		case ast.LiteralKind:
			if s := fmt.Sprint(e.AsLiteral().Value()); s != "" && !slices.Contains(out, s) {
				out = append(out, s)
			}
		case ast.SelectKind:
			walk(e.AsSelect().Operand())
		case ast.ListKind:
			for _, x := range e.AsList().Elements() {
				walk(x)
			}
		case ast.ComprehensionKind:
			walk(e.AsComprehension().IterRange())
			walk(e.AsComprehension().LoopStep())
		case ast.CallKind:
			call := e.AsCall()
			args := call.Args()
			if call.IsMemberFunction() {
				walk(call.Target())
			}
			switch {
			case call.FunctionName() == operators.Index && len(args) == 2:
				walk(args[0]) // the index is the name of a domain or a field
				return
			case call.FunctionName() == operators.In && len(args) == 2 && args[1].Kind() != ast.ListKind:
				return // whether a field is there
			case slices.ContainsFunc(args, func(a ast.Expr) bool { return a.Kind() == ast.CallKind && a.AsCall().FunctionName() == "compareTo" }):
				// compareTo(x) >= 0: the number says how it is compared
				for _, a := range args {
					if a.Kind() != ast.LiteralKind {
						walk(a)
					}
				}
				return
			}
			for _, a := range args {
				walk(a)
			}
		}
	}
	walk(parsed.NativeRep().Expr())
	return out
}
