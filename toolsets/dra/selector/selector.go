// Package selector reads the CEL expressions of DRA device selectors: which
// attribute an expression wants, which value, and which part of it excludes a
// device. It uses the compiler the scheduler uses
// (k8s.io/dynamic-resource-allocation/cel), so what compiles here compiles there.
package selector

import (
	"context"
	"fmt"
	"slices"
	"strings"

	gocel "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/parser"
	"k8s.io/dynamic-resource-allocation/cel"
)

// Field kinds of a device.
const (
	Attribute = "attribute"
	Capacity  = "capacity"
	Driver    = "driver"
	Multi     = "allowMultipleAllocations"
)

// Field is something an expression reads of a device.
type Field struct {
	Kind   string `json:"kind"`
	Domain string `json:"domain,omitempty"`
	ID     string `json:"id,omitempty"`
}

// Name gives "domain/id", or the kind for a field that has no name.
func (f Field) Name() string {
	if f.Domain == "" && f.ID == "" {
		return f.Kind
	}
	return f.Domain + "/" + f.ID
}

// Predicate is one comparison of a device field with a constant.
type Predicate struct {
	Field Field
	// Op is ==, !=, <, <=, >, >=, contains, startsWith, endsWith, matches, in, exists or is.
	Op string
	// Want is the constant, without quotes; for "in" the list joined by ", ".
	Want string
	// Type of the constant: string, int, bool, quantity, version, list, or empty.
	Type string
	// Guarded: a missing field gives a default and is no error (optional chaining).
	Guarded bool
	// Fold: the field is compared in one letter case only.
	Fold bool
}

// String gives the predicate in words: `productName contains "H200"`.
func (p Predicate) String() string {
	want := p.Want
	if p.Type == "string" {
		want = fmt.Sprintf("%q", want)
	}
	if p.Op == "exists" {
		return p.Field.Short() + " to exist"
	}
	return strings.TrimSpace(p.Field.Short() + " " + p.Op + " " + want)
}

// Short gives the id alone, or the kind.
func (f Field) Short() string {
	if f.ID != "" {
		return f.ID
	}
	return f.Kind
}

// Part is one conjunct of an expression.
type Part struct {
	// Text is the conjunct in CEL.
	Text string
	// Predicates it is made of; empty when it is no simple comparison. Several
	// are alternatives (joined by ||).
	Predicates []Predicate
}

// Expression is a selector taken apart.
type Expression struct {
	Text string
	// Err is why it does not compile; empty when it does.
	Err string
	// Parts are joined by &&.
	Parts []Part
	// Fields read, each once; Exact is false when the expression may read others.
	Fields []Field
	Exact  bool

	compiled cel.CompilationResult
	parts    []cel.CompilationResult
}

// Compiler takes expressions apart and keeps the results. It is safe for concurrent use.
type Compiler struct{ cache *cel.Cache }

// NewCompiler makes a Compiler over the allocator's own cache of compiled expressions.
func NewCompiler(cache *cel.Cache) *Compiler { return &Compiler{cache: cache} }

// Parse compiles an expression and takes it apart.
func (c *Compiler) Parse(text string) *Expression {
	e := &Expression{Text: text, Exact: true}
	e.compiled = c.cache.GetOrCompile(text)
	if e.compiled.Error != nil {
		e.Err = e.compiled.Error.Detail
		e.Exact = false
		return e
	}
	tree, issues := e.compiled.Environment.Compile(text)
	if issues != nil && issues.Err() != nil {
		e.Exact = false
		return e
	}
	native := tree.NativeRep()
	r := &reading{e: e}
	r.walk(native.Expr())
	for _, conjunct := range split(native.Expr(), operators.LogicalAnd) {
		e.Parts = append(e.Parts, c.part(conjunct, native.SourceInfo()))
	}
	for _, p := range e.Parts {
		e.parts = append(e.parts, c.cache.GetOrCompile(p.Text))
	}
	return e
}

func (c *Compiler) part(x ast.Expr, info *ast.SourceInfo) Part {
	text, err := parser.Unparse(x, info)
	if err != nil {
		return Part{}
	}
	p := Part{Text: text}
	for _, alt := range split(x, operators.LogicalOr) {
		pred, ok := predicate(alt)
		if !ok {
			return Part{Text: text}
		}
		p.Predicates = append(p.Predicates, pred)
	}
	return p
}

// split lists the operands of a chain of && or ||.
func split(x ast.Expr, op string) []ast.Expr {
	if x.Kind() == ast.CallKind && x.AsCall().FunctionName() == op {
		var out []ast.Expr
		for _, a := range x.AsCall().Args() {
			out = append(out, split(a, op)...)
		}
		return out
	}
	return []ast.Expr{x}
}

// Matches evaluates the whole expression against a device.
func (e *Expression) Matches(ctx context.Context, d cel.Device) (bool, error) {
	if e.Err != "" {
		return false, fmt.Errorf("compile: %s", e.Err)
	}
	ok, _, err := e.compiled.DeviceMatches(ctx, d)
	if err != nil {
		return false, cel.EnhanceRuntimeError(err)
	}
	return ok, nil
}

// Failing lists the indices of the parts that are false for the device, each
// evaluated by itself. A part that cannot be evaluated alone counts as failing.
func (e *Expression) Failing(ctx context.Context, d cel.Device) []int {
	var out []int
	for i, p := range e.parts {
		if p.Error != nil {
			continue
		}
		if ok, _, err := p.DeviceMatches(ctx, d); err != nil || !ok {
			out = append(out, i)
		}
	}
	return out
}

// With gives the text of the expression with one part replaced; an empty
// replacement drops the part.
func (e *Expression) With(i int, text string) string {
	var parts []string
	for j, p := range e.Parts {
		t := p.Text
		if j == i {
			t = text
		} else if strings.Contains(t, "||") || strings.Contains(t, "?") {
			t = "(" + t + ")"
		}
		if t != "" {
			parts = append(parts, t)
		}
	}
	if len(parts) == 0 {
		return "true"
	}
	return strings.Join(parts, " && ")
}

// reading collects the fields an expression reads.
type reading struct{ e *Expression }

// walk marks every field that is named by constants. A use of device.attributes,
// device.capacity or device that is not such a field makes the reading inexact.
func (r *reading) walk(x ast.Expr) {
	if f, ok := field(x); ok {
		if !slices.Contains(r.e.Fields, f.Field) {
			r.e.Fields = append(r.e.Fields, f.Field)
		}
		return
	}
	if x.Kind() == ast.IdentKind && x.AsIdent() == "device" {
		r.e.Exact = false
		return
	}
	switch x.Kind() {
	case ast.CallKind:
		call := x.AsCall()
		if call.IsMemberFunction() {
			r.walk(call.Target())
		}
		for _, a := range call.Args() {
			r.walk(a)
		}
	case ast.SelectKind:
		r.walk(x.AsSelect().Operand())
	case ast.ListKind:
		for _, el := range x.AsList().Elements() {
			r.walk(el)
		}
	case ast.ComprehensionKind:
		c := x.AsComprehension()
		for _, p := range []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
			r.walk(p)
		}
	case ast.MapKind:
		for _, en := range x.AsMap().Entries() {
			r.walk(en.AsMapEntry().Key())
			r.walk(en.AsMapEntry().Value())
		}
	case ast.StructKind:
		r.e.Exact = false
	}
}

// OfDriver gives the driver an expression insists on, empty when it names none.
func (e *Expression) OfDriver() string {
	for _, p := range e.Parts {
		if len(p.Predicates) == 1 && p.Predicates[0].Field.Kind == Driver && p.Predicates[0].Op == "==" {
			return p.Predicates[0].Want
		}
	}
	return ""
}

// OutputType is what the expression yields, for messages.
func (e *Expression) OutputType() *gocel.Type { return e.compiled.OutputType }
