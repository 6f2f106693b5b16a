package runbooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
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

func (l *linter) add(field, text, format string, args ...any) {
	l.problems = append(l.problems, Problem{File: l.r.Source, Line: l.line(text), Field: field, Message: fmt.Sprintf(format, args...)})
}

// line finds where a text stands in the file; 1 where it was folded.
func (l *linter) line(text string) int {
	if i := bytes.Index(l.r.Raw, []byte(text)); text != "" && i >= 0 {
		return 1 + bytes.Count(l.r.Raw[:i], []byte("\n"))
	}
	return 1
}

func (l *linter) run() {
	env, err := l.environment()
	if err != nil {
		l.add("steps", "", "%v", err)
		return
	}
	l.env = env
	for _, f := range l.r.Matches.Findings {
		if _, ok := l.c.Codes[f]; !ok {
			l.add("matches.findings", f, "there is no finding code %q", f)
		}
	}
	for i, s := range l.r.Steps {
		l.step(fmt.Sprintf("steps[%d]", i), s)
	}
	for i, cause := range l.r.Causes {
		l.cause(fmt.Sprintf("causes[%d]", i), cause)
	}
}

func (l *linter) step(at string, s Step) {
	t, ok := l.c.Tools[s.Tool]
	if !ok {
		l.add(at+".tool", s.Tool, "there is no tool %q", s.Tool)
		return
	}
	var in schema
	if err := json.Unmarshal(t.Input, &in); err != nil {
		l.add(at+".tool", s.Tool, "the schema of %s cannot be read: %v", s.Tool, err)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(s.With)) {
		p, ok := in.Properties[k]
		if !ok {
			l.add(at+".with."+k, k, "%s takes no argument %q", s.Tool, k)
			continue
		}
		l.value(at+".with."+k, s.With[k], p)
	}
	for _, k := range in.Required {
		if _, ok := s.With[k]; !ok {
			l.add(at+".with", s.ID, "%s needs the argument %q", s.Tool, k)
		}
	}
	l.bool(at+".when", s.When)
}

// value checks a constant against the type of an argument.
func (l *linter) value(field string, v any, p *schema) {
	switch v := v.(type) {
	case string:
		if m := hole().FindStringSubmatch(v); m != nil {
			l.texts(field, v)
			return
		}
		if p.Type != "string" && p.Type != "" {
			l.add(field, v, "a text where %s is wanted", p.Type)
		}
	case bool:
		if p.Type != "boolean" && p.Type != "" {
			l.add(field, "", "true or false where %s is wanted", p.Type)
		}
	case float64:
		if p.Type != "integer" && p.Type != "number" && p.Type != "" {
			l.add(field, "", "a number where %s is wanted", p.Type)
		}
	}
}

func (l *linter) cause(at string, c Cause) {
	known, optional := map[string]bool{}, map[string]bool{}
	if c.Finding != "" {
		info, ok := l.c.Codes[c.Finding]
		if !ok {
			l.add(at+".finding", c.Finding, "there is no finding code %q", c.Finding)
		}
		for _, p := range info.Params {
			known[p] = true
		}
		for _, p := range info.Optional {
			known[p], optional[p] = true, true
		}
	}
	all := []string{c.Say, c.Unless, c.When, c.Subject}
	all = append(all, c.Detail...)
	l.bool(at+".when", c.When)
	if c.Subject != "" {
		l.expr(at+".subject", c.Subject)
	}
	l.texts(at+".say", c.Say)
	l.texts(at+".unless", c.Unless)
	for i, d := range c.Detail {
		l.texts(fmt.Sprintf("%s.detail[%d]", at, i), d)
	}
	for _, r := range c.Rivals {
		if !slices.ContainsFunc(l.r.Causes, func(o Cause) bool { return o.ID == r }) {
			l.add(at+".rivals", r, "there is no cause %q in this runbook", r)
		}
	}
	for i, f := range c.Fix {
		field := fmt.Sprintf("%s.fix[%d]", at, i)
		l.fix(field, f)
		all = append(all, f.Why, f.When)
		all = append(all, slices.Collect(maps.Values(f.With))...)
	}
	if c.Finding == "" {
		return
	}
	for _, t := range all {
		for _, m := range param().FindAllStringSubmatch(t, -1) {
			if !known[m[2]] {
				l.add(at, m[0], "findings of code %s carry no %q", c.Finding, m[2])
			}
		}
	}
	for i, f := range c.Fix {
		l.mayLack(fmt.Sprintf("%s.fix[%d]", at, i), f, optional)
	}
	for _, t := range slices.Concat([]string{c.Say, c.Unless, c.When, c.Subject}, c.Detail) {
		for _, m := range param().FindAllStringSubmatch(t, -1) {
			if optional[m[2]] && m[1] == "" {
				l.add(at, m[0], "not every finding of code %s carries %q: read it as finding.params.?%s", c.Finding, m[2], m[2])
			}
		}
	}
}

// mayLack finds parameters of a fix that read a fact which not every finding
// carries, without a condition that asks for it.
func (l *linter) mayLack(at string, f Fix, optional map[string]bool) {
	asked := map[string]bool{}
	for _, m := range param().FindAllStringSubmatch(f.When, -1) {
		if optional[m[2]] && m[1] == "" {
			l.add(at+".when", m[0], "not every finding carries %q: read it as finding.params.?%s", m[2], m[2])
		}
		asked[m[2]] = true
	}
	for _, t := range append(slices.Collect(maps.Values(f.With)), f.Why) {
		for _, m := range param().FindAllStringSubmatch(t, -1) {
			if optional[m[2]] && m[1] == "" && !asked[m[2]] {
				l.add(at, m[0], "not every finding carries %q: the fix needs a condition (when) that asks for it", m[2])
			}
		}
	}
}

// param finds what an expression reads of a finding's params, and whether it asks
// first if it is there.
func param() *regexp.Regexp { return regexp.MustCompile(`finding\.params\.(\??)([a-z_]+)`) }

func (l *linter) fix(field string, f Fix) {
	a, ok := l.c.Actions[f.Action]
	if !ok {
		l.add(field+".action", f.Action, "there is no action %q", f.Action)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(f.With)) {
		if !slices.ContainsFunc(a.Params, func(p ParamInfo) bool { return p.Name == k }) {
			l.add(field+".with."+k, k, "%s takes no parameter %q", f.Action, k)
		}
		l.texts(field+".with."+k, f.With[k])
	}
	for _, p := range a.Params {
		if _, ok := f.With[p.Name]; p.Required && !ok {
			l.add(field+".with", f.Action, "%s needs the parameter %q", f.Action, p.Name)
		}
	}
	l.texts(field+".why", f.Why)
	l.bool(field+".when", f.When)
}

func (l *linter) texts(field, tmpl string) {
	for _, m := range hole().FindAllStringSubmatch(tmpl, -1) {
		l.expr(field, strings.TrimSpace(m[1]))
	}
	if strings.Count(tmpl, "{{") != len(hole().FindAllString(tmpl, -1)) {
		l.add(field, tmpl, "a {{ without its }}")
	}
}

func (l *linter) expr(field, expr string) *cel.Type {
	ast, iss := l.env.Compile(expr)
	if iss.Err() != nil {
		l.add(field, expr, "%s", strings.Join(strings.Fields(iss.Err().Error()), " "))
		return nil
	}
	return ast.OutputType()
}

func (l *linter) bool(field, expr string) {
	if expr == "" {
		return
	}
	if t := l.expr(field, expr); t != nil && !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		l.add(field, expr, "gives %s, not true or false", t)
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

func (s *schemaTypes) fromSchema(name string, x, root *schema, depth int) *types.Type {
	if x != nil && strings.HasPrefix(x.Ref, "#/$defs/") {
		x = root.Defs[strings.TrimPrefix(x.Ref, "#/$defs/")]
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
