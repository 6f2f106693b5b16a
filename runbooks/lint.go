package runbooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
)

// ToolSchema is what the linter knows of a tool: JSON Schemas.
type ToolSchema struct{ Input, Output json.RawMessage }

// CodeInfo is what the linter knows of a finding code.
type CodeInfo struct {
	// Params are carried by every finding, Optional ones where they apply.
	Params, Optional []string
	Role             string
}

// LintContext is what runbooks are checked against.
type LintContext struct {
	Tools   map[string]ToolSchema
	Codes   map[string]CodeInfo
	Actions map[string]ActionInfo
}

// Problem is something wrong in a runbook.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Field   string `json:"field"`
	Message string `json:"message"`
}

// String writes "file:line: field: message".
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Field, p.Message)
}

// Lint checks every runbook: tools and their arguments, finding codes and their
// params, actions and their parameters, rivals, and the types of every CEL
// expression against the tools' output schemas.
func Lint(lib *Library, c LintContext) []Problem {
	var out []Problem
	for _, r := range lib.All() {
		l := &linter{r: r, c: c}
		l.run()
		out = append(out, l.problems...)
	}
	return out
}

type linter struct {
	r        *Runbook
	c        LintContext
	problems []Problem
	env      *cel.Env
}

func (l *linter) add(field, format string, args ...any) {
	l.problems = append(l.problems, Problem{File: l.r.Source, Line: l.r.line(field), Field: field, Message: fmt.Sprintf(format, args...)})
}

// scope says what an expression may read beside subject, alert and findings.
type scope struct {
	// code of the finding; empty means that there is no finding to read.
	code string
	// steps that have run by then.
	steps []string
}

func (l *linter) run() {
	env, err := l.environment()
	if err != nil {
		l.add("steps", "%v", err)
		return
	}
	l.env = env
	m := l.r.Matches
	if len(m.Findings) == 0 && len(m.Alerts) == 0 && len(m.Words) < 2 && path.Base(l.r.Source) != skillFile {
		l.add("matches", "the runbook can never apply: name findings, alerts or at least two words")
	}
	for i, f := range m.Findings {
		if _, ok := l.c.Codes[f]; !ok {
			l.add(fmt.Sprintf("matches.findings[%d]", i), "there is no finding code %q", f)
		}
	}
	var run scope
	for i, s := range l.r.Steps {
		l.step(fmt.Sprintf("steps[%d]", i), s, run)
		run.steps = append(run.steps, s.ID)
	}
	for i, cause := range l.r.Causes {
		l.cause(fmt.Sprintf("causes[%d]", i), cause, scope{code: cause.Finding, steps: run.steps})
	}
}

func (l *linter) step(at string, s Step, sc scope) {
	l.bool(at+".when", s.When, sc)
	t, ok := l.c.Tools[s.Tool]
	if !ok {
		l.add(at+".tool", "there is no tool %q", s.Tool)
		return
	}
	var in schema
	if err := json.Unmarshal(t.Input, &in); err != nil {
		l.add(at+".tool", "the schema of %s cannot be read: %v", s.Tool, err)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(s.With)) {
		p, ok := in.Properties[k]
		if !ok {
			l.add(at+".with."+k, "%s takes no argument %q", s.Tool, k)
			continue
		}
		l.value(at+".with."+k, s.With[k], p, sc)
	}
	for _, k := range in.Required {
		if _, ok := s.With[k]; !ok {
			l.add(at+".with", "%s needs the argument %q", s.Tool, k)
		}
	}
}

// value checks a constant, or the type of a value that is one hole, against the
// type of an argument.
func (l *linter) value(field string, v any, p *schema, sc scope) {
	if p == nil {
		p = &schema{}
	}
	want := func(have string, types ...string) {
		if p.Type != "" && !slices.Contains(types, p.Type) {
			l.add(field, "%s where %s is wanted", have, p.Type)
		}
	}
	switch v := v.(type) {
	case string:
		m := hole().FindStringSubmatchIndex(v)
		switch {
		case m == nil:
			l.texts(field, v, sc)
			want("a text", "string")
		case m[0] == 0 && m[1] == len(v):
			switch t := l.expr(field, strings.TrimSpace(v[m[2]:m[3]]), sc); {
			case t == nil:
			case t.IsExactType(cel.StringType):
				want("a text", "string")
			case t.IsExactType(cel.BoolType):
				want("true or false", "boolean")
			case t.IsExactType(cel.DoubleType), t.IsExactType(cel.IntType):
				want("a number", "integer", "number")
			}
		default:
			l.texts(field, v, sc)
			want("a text", "string")
		}
	case bool:
		want("true or false", "boolean")
	case int, float64:
		want("a number", "integer", "number")
	case []any:
		want("a list", "array")
		for i, x := range v {
			l.value(fmt.Sprintf("%s[%d]", field, i), x, p.Items, sc)
		}
	case map[string]any:
		want("a mapping", "object")
		for _, k := range slices.Sorted(maps.Keys(v)) {
			l.value(field+"."+k, v[k], p.Properties[k], sc)
		}
	}
}

func (l *linter) cause(at string, c Cause, sc scope) {
	if _, ok := l.c.Codes[c.Finding]; !ok && c.Finding != "" {
		l.add(at+".finding", "there is no finding code %q", c.Finding)
	}
	l.bool(at+".when", c.When, sc)
	if c.Subject != "" {
		l.expr(at+".subject", c.Subject, sc)
	}
	l.texts(at+".say", c.Say, sc)
	// The sentence is shown beside another cause, whose finding it then reads.
	l.texts(at+".unless", c.Unless, scope{code: anyCode, steps: sc.steps})
	for i, d := range c.Detail {
		l.texts(fmt.Sprintf("%s.detail[%d]", at, i), d, sc)
	}
	for i, r := range c.Rivals {
		field := fmt.Sprintf("%s.rivals[%d]", at, i)
		j := slices.IndexFunc(l.r.Causes, func(o Cause) bool { return o.ID == r })
		switch {
		case j < 0:
			l.add(field, "there is no cause %q in this runbook", r)
		case r == c.ID:
			l.add(field, "a cause is no rival of itself")
		case l.r.Causes[j].Unless == "":
			l.add(field, "%q has no unless, the sentence that says why it is ruled out", r)
		}
	}
	for i, f := range c.Fix {
		field := fmt.Sprintf("%s.fix[%d]", at, i)
		l.fix(field, f, sc)
		l.mayLack(field, f, l.c.Codes[c.Finding].Optional)
	}
	for _, t := range slices.Concat([]string{c.Say, c.Unless, c.When, c.Subject}, c.Detail) {
		for _, m := range param().FindAllStringSubmatch(t, -1) {
			if m[1] == "" && slices.Contains(l.c.Codes[c.Finding].Optional, m[2]) {
				l.add(at, "not every finding of code %s carries %q: read it as finding.params.?%s", c.Finding, m[2], m[2])
			}
		}
	}
}

// mayLack finds parameters of a fix that read a fact which not every finding
// carries, without a condition that asks for it.
func (l *linter) mayLack(at string, f Fix, optional []string) {
	asked := map[string]bool{}
	for _, m := range param().FindAllStringSubmatch(f.When, -1) {
		if m[1] == "" && slices.Contains(optional, m[2]) {
			l.add(at+".when", "not every finding carries %q: read it as finding.params.?%s", m[2], m[2])
		}
		asked[m[2]] = true
	}
	for _, t := range append(slices.Collect(maps.Values(f.With)), f.Why) {
		for _, m := range param().FindAllStringSubmatch(t, -1) {
			if m[1] == "" && slices.Contains(optional, m[2]) && !asked[m[2]] {
				l.add(at, "not every finding carries %q: the fix needs a condition (when) that asks for it", m[2])
			}
		}
	}
}

// param finds what an expression reads of a finding's params, and whether it asks
// first if it is there.
func param() *regexp.Regexp { return regexp.MustCompile(`finding\.params\.(\??)([a-z_]+)`) }

func (l *linter) fix(field string, f Fix, sc scope) {
	l.texts(field+".why", f.Why, sc)
	l.bool(field+".when", f.When, sc)
	for _, k := range slices.Sorted(maps.Keys(f.With)) {
		l.texts(field+".with."+k, f.With[k], sc)
	}
	a, ok := l.c.Actions[f.Action]
	if !ok {
		l.add(field+".action", "there is no action %q", f.Action)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(f.With)) {
		if !slices.ContainsFunc(a.Params, func(p ParamInfo) bool { return p.Name == k }) {
			l.add(field+".with."+k, "%s takes no parameter %q", f.Action, k)
		}
	}
	for _, p := range a.Params {
		if _, ok := f.With[p.Name]; p.Required && !ok {
			l.add(field+".with", "%s needs the parameter %q", f.Action, p.Name)
		}
	}
}

func (l *linter) texts(field, tmpl string, sc scope) {
	for _, m := range hole().FindAllStringSubmatch(tmpl, -1) {
		l.expr(field, strings.TrimSpace(m[1]), sc)
	}
	if rest := hole().ReplaceAllString(tmpl, ""); strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
		l.add(field, "a {{ without its }}, or the other way round")
	}
}

// expr checks an expression and gives its type, nil if it does not compile.
func (l *linter) expr(field, expr string, sc scope) *cel.Type {
	checked, iss := l.env.Compile(expr)
	if iss.Err() != nil {
		l.add(field, "%s", strings.Join(strings.Fields(iss.Err().Error()), " "))
		return nil
	}
	for _, id := range stepsRead(l.r, checked) {
		if !slices.Contains(sc.steps, id) {
			l.add(field, "reads step %q, which has not run by then", id)
		}
	}
	l.finding(field, checked, sc.code)
	return checked.OutputType()
}

// anyCode is the scope of texts that read the finding of another cause.
const anyCode = "*"

// finding checks what an expression reads of the finding: that there is one, and
// that findings of its code carry the named facts.
func (l *linter) finding(field string, checked *cel.Ast, code string) {
	params := func(e ast.Expr) bool {
		return e.Kind() == ast.SelectKind && e.AsSelect().FieldName() == "params" && e.AsSelect().Operand().Kind() == ast.IdentKind && e.AsSelect().Operand().AsIdent() == "finding"
	}
	carries := func(key string) {
		if info, ok := l.c.Codes[code]; ok && !slices.Contains(info.Params, key) && !slices.Contains(info.Optional, key) {
			l.add(field, "findings of code %s carry no %q", code, key)
		}
	}
	reads := false
	ast.PreOrderVisit(checked.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.IdentKind:
			reads = reads || e.AsIdent() == "finding"
		case ast.SelectKind:
			if params(e.AsSelect().Operand()) {
				carries(e.AsSelect().FieldName())
			}
		case ast.CallKind:
			// finding.params["x"] and finding.params.?x
			c := e.AsCall()
			if a := c.Args(); len(a) == 2 && params(a[0]) && a[1].Kind() == ast.LiteralKind {
				if key, ok := a[1].AsLiteral().Value().(string); ok {
					carries(key)
				}
			}
		}
	}))
	if reads && code == "" {
		l.add(field, "reads the finding, and there is none here: a cause with finding has one")
	}
}

func (l *linter) bool(field, expr string, sc scope) {
	if expr == "" {
		return
	}
	if t := l.expr(field, expr, sc); t != nil && !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		l.add(field, "gives %s, not true or false", t)
	}
}

// environment declares the runbook's variables with the types of the tools.
func (l *linter) environment() (*cel.Env, error) {
	reg := &schemaTypes{fields: map[string]map[string]*types.Type{}}
	str := cel.StringType
	subject := reg.object("Subject", map[string]*types.Type{"cluster": str, "namespace": str, "group": str, "kind": str, "name": str, "driver": str, "pool": str, "device": str})
	finding := reg.object("Finding", map[string]*types.Type{"code": str, "severity": str, "role": str, "message": str, "subject": subject, "params": cel.MapType(str, str), "confidence": cel.DoubleType})
	opts := base()
	for name, t := range map[string]*types.Type{"subject": subject, "finding": finding, "findings": cel.ListType(finding),
		"alert": reg.object("Alert", map[string]*types.Type{"name": str, "status": str, "labels": cel.MapType(str, str), "annotations": cel.MapType(str, str)})} {
		opts = append(opts, cel.Variable(name, t))
	}
	for _, s := range l.r.Steps {
		data := cel.DynType
		if t, ok := l.c.Tools[s.Tool]; ok {
			var root schema
			if err := json.Unmarshal(t.Output, &root); err != nil {
				return nil, fmt.Errorf("the output schema of %s cannot be read: %w", s.Tool, err)
			}
			data = reg.fromSchema(s.Tool, &root, &root, 0)
		}
		opts = append(opts, cel.Variable(s.ID, reg.object("Step_"+s.ID, map[string]*types.Type{"data": data, "text": str, "error": str, "ran": cel.BoolType, "findings": cel.ListType(finding)})))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, err
	}
	reg.Provider = env.CELTypeProvider()
	return env.Extend(cel.CustomTypeProvider(reg))
}

// schema is the part of JSON Schema that tools use.
type schema struct {
	Type                 string             `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	Items                *schema            `json:"items"`
	AdditionalProperties json.RawMessage    `json:"additionalProperties"`
	Required             []string           `json:"required"`
	Ref                  string             `json:"$ref"`
	Defs                 map[string]*schema `json:"$defs"`
}

// schemaTypes gives CEL the types of JSON Schemas.
type schemaTypes struct {
	types.Provider
	fields map[string]map[string]*types.Type
}

var _ types.Provider = (*schemaTypes)(nil)

func (s *schemaTypes) object(name string, fields map[string]*types.Type) *types.Type {
	s.fields[name] = fields
	return types.NewObjectType(name)
}

// FindStructType implements types.Provider.
func (s *schemaTypes) FindStructType(name string) (*types.Type, bool) {
	if _, ok := s.fields[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return s.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (s *schemaTypes) FindStructFieldNames(name string) ([]string, bool) {
	if f, ok := s.fields[name]; ok {
		return slices.Sorted(maps.Keys(f)), true
	}
	return s.Provider.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider.
func (s *schemaTypes) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if f, ok := s.fields[name]; ok {
		t, ok := f[field]
		return &types.FieldType{Type: t}, ok
	}
	return s.Provider.FindStructFieldType(name, field)
}

// deepest nesting of a schema that is followed; beyond it anything goes.
const deepest = 12

// fromSchema gives the type of a schema. A definition becomes one type, however
// often and by itself it is referred to.
func (s *schemaTypes) fromSchema(name string, x, root *schema, depth int) *types.Type {
	if x != nil && strings.HasPrefix(x.Ref, "#/$defs/") {
		def := strings.TrimPrefix(x.Ref, "#/$defs/")
		name, _, _ = strings.Cut(name, "#")
		name += "#" + def
		if _, known := s.fields[name]; known {
			return types.NewObjectType(name)
		}
		x = root.Defs[def]
		if x != nil && x.Type == "object" && len(x.Properties) > 0 && depth <= deepest {
			s.object(name, nil)
		}
	}
	if x == nil || depth > deepest {
		return cel.DynType
	}
	switch x.Type {
	case "string":
		return cel.StringType
	case "integer", "number":
		return cel.DoubleType
	case "boolean":
		return cel.BoolType
	case "array":
		return cel.ListType(s.fromSchema(name+"_item", x.Items, root, depth+1))
	case "object":
		if len(x.Properties) == 0 {
			var sub schema
			if json.Unmarshal(x.AdditionalProperties, &sub) == nil && sub.Type != "" {
				return cel.MapType(cel.StringType, s.fromSchema(name+"_value", &sub, root, depth+1))
			}
			return cel.DynType
		}
		fields := map[string]*types.Type{}
		for k, p := range x.Properties {
			fields[k] = s.fromSchema(name+"_"+k, p, root, depth+1)
		}
		return s.object(name, fields)
	}
	return cel.DynType
}

// Index lists the runbooks as a Markdown table.
func Index(lib *Library) []byte {
	var b bytes.Buffer
	b.WriteString("| runbook | modes | title |\n|---|---|---|\n")
	for _, r := range lib.All() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.ID, strings.Join(r.Modes, ", "), r.Title)
	}
	return b.Bytes()
}
