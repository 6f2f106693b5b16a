package selector

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types/ref"
)

// ref is a reference to a field, and how it is made.
type fieldRef struct {
	Field
	guarded bool
	fold    bool
	test    bool // has(...)
}

// isDevice matches device.<name>.
func isDevice(x ast.Expr, name string) bool {
	if x.Kind() != ast.SelectKind {
		return false
	}
	s := x.AsSelect()
	return s.FieldName() == name && s.Operand().Kind() == ast.IdentKind && s.Operand().AsIdent() == "device"
}

// inDomain matches device.attributes["d"] and device.capacity["d"], also with an optional index.
func inDomain(x ast.Expr) (kind, domain string, optional, ok bool) {
	if x.Kind() != ast.CallKind {
		return "", "", false, false
	}
	c := x.AsCall()
	if (c.FunctionName() != operators.Index && c.FunctionName() != operators.OptIndex) || len(c.Args()) != 2 {
		return "", "", false, false
	}
	d, isText := text(c.Args()[1])
	if !isText {
		return "", "", false, false
	}
	optional = c.FunctionName() == operators.OptIndex
	switch {
	case isDevice(c.Args()[0], "attributes"):
		return Attribute, d, optional, true
	case isDevice(c.Args()[0], "capacity"):
		return Capacity, d, optional, true
	}
	return "", "", false, false
}

// field matches every way of writing one field of a device.
func field(x ast.Expr) (fieldRef, bool) {
	switch {
	case isDevice(x, "driver"):
		return fieldRef{Field: Field{Kind: Driver}}, true
	case isDevice(x, "allowMultipleAllocations"):
		return fieldRef{Field: Field{Kind: Multi}}, true
	}
	switch x.Kind() {
	case ast.SelectKind:
		s := x.AsSelect()
		if kind, domain, opt, ok := inDomain(s.Operand()); ok {
			return fieldRef{Field: Field{kind, domain, s.FieldName()}, guarded: opt || s.IsTestOnly(), test: s.IsTestOnly()}, true
		}
	case ast.CallKind:
		c := x.AsCall()
		if c.IsMemberFunction() {
			return fieldRef{}, false
		}
		switch c.FunctionName() {
		case operators.OptSelect, operators.Index, operators.OptIndex:
			kind, domain, opt, ok := inDomain(c.Args()[0])
			id, isText := text(c.Args()[1])
			if ok && isText {
				return fieldRef{Field: Field{kind, domain, id}, guarded: opt || c.FunctionName() != operators.Index}, true
			}
		case operators.In:
			// "id" in device.attributes["d"] reads the presence of the field.
			id, isText := text(c.Args()[0])
			kind, domain, _, ok := inDomain(c.Args()[1])
			if ok && isText {
				return fieldRef{Field: Field{kind, domain, id}, guarded: true, test: true}, true
			}
		}
	}
	return fieldRef{}, false
}

// value matches a field with harmless wrapping: orValue, lowerAscii, upperAscii, trim, string().
func wrapped(x ast.Expr) (fieldRef, bool) {
	if f, ok := field(x); ok {
		return f, true
	}
	if x.Kind() != ast.CallKind {
		return fieldRef{}, false
	}
	c := x.AsCall()
	switch c.FunctionName() {
	case "orValue", "value", "lowerAscii", "upperAscii", "trim":
		if !c.IsMemberFunction() {
			return fieldRef{}, false
		}
		f, ok := wrapped(c.Target())
		f.guarded = f.guarded || c.FunctionName() == "orValue"
		f.fold = f.fold || c.FunctionName() == "lowerAscii" || c.FunctionName() == "upperAscii"
		return f, ok
	case "string":
		if len(c.Args()) == 1 && !c.IsMemberFunction() {
			return wrapped(c.Args()[0])
		}
	}
	return fieldRef{}, false
}

// constant matches literals, lists of them, quantity("…") and semver("…").
func constant(x ast.Expr) (want, typ string, ok bool) {
	switch x.Kind() {
	case ast.LiteralKind:
		v := x.AsLiteral()
		return plain(v), typeOf(v), true
	case ast.ListKind:
		var parts []string
		for _, el := range x.AsList().Elements() {
			w, _, ok := constant(el)
			if !ok {
				return "", "", false
			}
			parts = append(parts, w)
		}
		return strings.Join(parts, ", "), "list", true
	case ast.CallKind:
		c := x.AsCall()
		if c.IsMemberFunction() {
			switch c.FunctionName() {
			case "lowerAscii", "upperAscii":
				return constant(c.Target())
			}
			return "", "", false
		}
		switch c.FunctionName() {
		case "quantity", "semver":
			w, _, ok := constant(c.Args()[0])
			return w, map[string]string{"quantity": "quantity", "semver": "version"}[c.FunctionName()], ok
		case operators.Negate:
			w, t, ok := constant(c.Args()[0])
			return "-" + w, t, ok
		}
	}
	return "", "", false
}

var comparisons = map[string]string{
	operators.Equals: "==", operators.NotEquals: "!=",
	operators.Less: "<", operators.LessEquals: "<=", operators.Greater: ">", operators.GreaterEquals: ">=",
}

func mirrored(op string) string {
	switch op {
	case "<":
		return ">"
	case "<=":
		return ">="
	case ">":
		return "<"
	case ">=":
		return "<="
	}
	return op
}

// predicate decodes one comparison.
func predicate(x ast.Expr) (Predicate, bool) {
	if f, ok := field(x); ok && f.test {
		return Predicate{Field: f.Field, Op: "exists", Guarded: true}, true
	}
	if f, ok := wrapped(x); ok && !f.test {
		return Predicate{Field: f.Field, Op: "is", Want: "true", Type: "bool", Guarded: f.guarded}, true
	}
	if x.Kind() != ast.CallKind {
		return Predicate{}, false
	}
	c := x.AsCall()
	if op, ok := comparisons[c.FunctionName()]; ok && len(c.Args()) == 2 {
		return compared(c.Args()[0], c.Args()[1], op)
	}
	switch c.FunctionName() {
	case operators.LogicalNot:
		if f, ok := wrapped(c.Args()[0]); ok {
			return Predicate{Field: f.Field, Op: "is", Want: "false", Type: "bool", Guarded: f.guarded}, true
		}
	case operators.In, operators.OldIn:
		f, ok := wrapped(c.Args()[0])
		want, typ, isConst := constant(c.Args()[1])
		if ok && isConst {
			return Predicate{Field: f.Field, Op: "in", Want: want, Type: typ, Guarded: f.guarded, Fold: f.fold}, true
		}
	case "contains", "startsWith", "endsWith", "matches", "includes":
		if c.IsMemberFunction() && len(c.Args()) == 1 {
			return member(c, c.FunctionName())
		}
	case "isGreaterThan":
		return member(c, ">")
	case "isLessThan":
		return member(c, "<")
	}
	return Predicate{}, false
}

func member(c ast.CallExpr, op string) (Predicate, bool) {
	f, ok := wrapped(c.Target())
	if !ok || len(c.Args()) != 1 {
		return Predicate{}, false
	}
	want, typ, isConst := constant(c.Args()[0])
	return Predicate{Field: f.Field, Op: op, Want: want, Type: typ, Guarded: f.guarded, Fold: f.fold}, isConst
}

// compared decodes a == b, a < b and so on, also a.compareTo(b) >= 0.
func compared(a, b ast.Expr, op string) (Predicate, bool) {
	if a.Kind() == ast.CallKind && a.AsCall().FunctionName() == "compareTo" {
		if zero, typ, ok := constant(b); ok && typ == "int" && zero == "0" {
			return member(a.AsCall(), op)
		}
	}
	if f, ok := wrapped(a); ok {
		if want, typ, isConst := constant(b); isConst {
			return Predicate{Field: f.Field, Op: op, Want: want, Type: typ, Guarded: f.guarded, Fold: f.fold}, true
		}
	}
	if f, ok := wrapped(b); ok {
		if want, typ, isConst := constant(a); isConst {
			return Predicate{Field: f.Field, Op: mirrored(op), Want: want, Type: typ, Guarded: f.guarded, Fold: f.fold}, true
		}
	}
	return Predicate{}, false
}

func text(x ast.Expr) (string, bool) {
	if x.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := x.AsLiteral().Value().(string)
	return s, ok
}

func plain(v ref.Val) string { return fmt.Sprint(v.Value()) }

func typeOf(v ref.Val) string {
	switch v.Value().(type) {
	case string:
		return "string"
	case bool:
		return "bool"
	case int64, uint64:
		return "int"
	}
	return ""
}
