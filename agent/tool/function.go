package tool

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Output is the typed answer of a function tool.
type Output[Out any] struct {
	Data     Out
	Text     string
	Findings []incident.Finding
	Edges    []incident.Edge
}

// Func is the typed body of a tool.
type Func[In, Out any] func(ctx context.Context, in In) (Output[Out], error)

// Function is a Tool made from a typed Go function. Both schemas are inferred
// from the types: json tags give names, `jsonschema:"..."` tags descriptions,
// omitempty or omitzero makes an input optional. Unknown input fields are refused.
type Function[In, Out any] struct {
	info Info
	// in makes the check of arguments at the first call: most tools are not called.
	in func() (*jsonschema.Resolved, error)
	fn Func[In, Out]
}

var _ Tool = (*Function[struct{}, struct{}])(nil)

// New makes a tool. It fails when a schema cannot be inferred, the input is no
// object, the name is not one that model servers take or the effect is unknown;
// a toolset returns that error from its own New.
func New[In, Out any](info Info, fn Func[In, Out]) (*Function[In, Out], error) {
	if !validName(info.Name) {
		return nil, fmt.Errorf("tool %q: a name has 1 to 64 letters, digits, _ or -", info.Name)
	}
	if strings.TrimSpace(info.Text) == "" || fn == nil {
		return nil, fmt.Errorf("tool %s: text and function are required", info.Name)
	}
	if info.Effect != Read && info.Effect != Probe {
		return nil, fmt.Errorf("tool %s: effect %q is neither %q nor %q", info.Name, info.Effect, Read, Probe)
	}
	opts := &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[json.RawMessage](): {},
	}}
	in, err := jsonschema.For[In](opts)
	if err != nil {
		return nil, fmt.Errorf("tool %s: input schema: %w", info.Name, err)
	}
	if in.Type != "object" {
		return nil, fmt.Errorf("tool %s: its input is %s, and a call's arguments are an object: use a struct", info.Name, reflect.TypeFor[In]())
	}
	flatten(in)
	out, err := jsonschema.For[Out](opts)
	if err != nil {
		return nil, fmt.Errorf("tool %s: output schema: %w", info.Name, err)
	}
	flatten(out)
	info.Input, info.Output = in, out
	if info.MaxText == 0 {
		info.MaxText = DefaultMaxText
	}
	return &Function[In, Out]{info: info, in: sync.OnceValues(func() (*jsonschema.Resolved, error) { return in.Resolve(nil) }), fn: fn}, nil
}

// validName reports whether a name is one that OpenAI's API takes, the narrowest.
func validName(name string) bool {
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
}

// Info implements Tool.
func (f *Function[In, Out]) Info() Info { return f.info }

// Call implements Tool.
func (f *Function[In, Out]) Call(ctx context.Context, args json.RawMessage) (Result, error) {
	if len(strings.TrimSpace(string(args))) == 0 {
		args = json.RawMessage("{}")
	}
	var raw any
	if err := json.Unmarshal(args, &raw); err != nil {
		return Result{}, &Error{Kind: Invalid, User: fmt.Sprintf("%s: arguments are not valid JSON: %v", f.info.Name, err), Err: err}
	}
	check, err := f.in()
	if err != nil {
		return Result{}, fmt.Errorf("tool %s: input schema: %w", f.info.Name, err)
	}
	if err := check.Validate(raw); err != nil {
		return Result{}, &Error{Kind: Invalid, User: fmt.Sprintf("%s: %v", f.info.Name, err), Fix: "arguments: " + Signature(f.info.Input), Err: err}
	}
	var in In
	if err := json.Unmarshal(args, &in); err != nil {
		return Result{}, &Error{Kind: Invalid, User: fmt.Sprintf("%s: %v", f.info.Name, err), Err: err}
	}
	out, err := f.fn(ctx, in)
	if err != nil {
		return Result{}, err
	}
	data, err := json.Marshal(out.Data)
	if err != nil {
		return Result{}, fmt.Errorf("tool %s: encode output: %w", f.info.Name, err)
	}
	return Result{Data: data, Text: out.Text, Findings: out.Findings, Edges: out.Edges}, nil
}

// flatten turns the ["null", T] unions that inference makes of pointers and
// slices into plain T: some model servers refuse unions.
func flatten(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if len(s.Types) == 2 {
		for i, t := range s.Types {
			if t == "null" {
				s.Type, s.Types = s.Types[1-i], nil
				break
			}
		}
	}
	for _, p := range s.Properties {
		flatten(p)
	}
	flatten(s.Items)
	flatten(s.AdditionalProperties)
	for _, d := range s.Defs {
		flatten(d)
	}
}

// Signature writes the parameters of a schema on one line: "pod (string),
// namespace (string, optional)".
func Signature(s *jsonschema.Schema) string {
	if s == nil || len(s.Properties) == 0 {
		return "none"
	}
	required := map[string]bool{}
	for _, r := range s.Required {
		required[r] = true
	}
	names := s.PropertyOrder
	if len(names) == 0 {
		for n := range s.Properties {
			names = append(names, n)
		}
		slices.Sort(names)
	}
	parts := make([]string, 0, len(names))
	for _, n := range names {
		p := s.Properties[n]
		if p == nil {
			continue
		}
		t := p.Type
		if t == "" {
			t = "any"
		}
		if !required[n] {
			t += ", optional"
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", n, t))
	}
	return strings.Join(parts, ", ")
}
