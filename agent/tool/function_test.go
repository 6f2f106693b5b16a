package tool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

type place struct {
	Namespace string `json:"namespace"`
	Node      string `json:"node,omitempty"`
}

type wide struct {
	Place  place           `json:"place"`
	Places []place         `json:"places,omitempty"`
	More   *place          `json:"more,omitempty"`
	By     map[string]int  `json:"by,omitempty"`
	Any    json.RawMessage `json:"any,omitempty"`
	Ratio  float64         `json:"ratio,omitzero"`
}

type answer struct {
	Got   wide    `json:"got"`
	Ratio float64 `json:"ratio"`
	Next  *place  `json:"next"`
}

func echo(t testing.TB) tool.Tool {
	t.Helper()
	f, err := tool.New(tool.Info{Name: "echo", Text: "Says it again.", Effect: tool.Probe, MaxText: 100}, func(ctx context.Context, in wide) (tool.Output[answer], error) {
		if err := ctx.Err(); err != nil {
			return tool.Output[answer]{}, err
		}
		out := answer{Got: in, Ratio: in.Ratio}
		if in.Ratio < 0 {
			out.Ratio = math.NaN()
		}
		return tool.Output[answer]{Data: out, Edges: []incident.Edge{{Relation: "x"}}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCallChecksNestedArguments(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		`{"place":{"namespace":"a"}}`: "",
		`{"place":{"namespace":"a"},"places":[{"namespace":"b","node":"n"}],"more":{"namespace":"c"},"by":{"x":1},"any":[1,{"a":null}],"ratio":0.5}`: "",
		` {"place":{"namespace":""}} `:          "",
		`{}`:                                    "place",
		`null`:                                  "object",
		`[]`:                                    "object",
		`"place"`:                               "object",
		`{"place":{}}`:                          "namespace",
		`{"place":{"namespace":"a","pod":"b"}}`: "pod",
		`{"place":{"namespace":"a"},"places":[{"node":"n"}]}`:         "namespace",
		`{"place":{"namespace":"a"},"places":"b"}`:                    "places",
		`{"place":{"namespace":"a"},"by":{"x":"1"}}`:                  "by",
		`{"place":{"namespace":"a"},"more":{"what":"c"}}`:             "what",
		`{"place":{"namespace":"a"},"ratio":"1"}`:                     "ratio",
		`{"place":{"namespace":"a"},"Place":{"namespace":"b"}}`:       "Place",
		`{"place":{"namespace":"a"}} {"place":{}}`:                    "not valid JSON",
		`{"place":{"namespace":"a"},"ratio":1e999}`:                   "not valid JSON",
		strings.Repeat("[", 100_000) + strings.Repeat("]", 1e5):       "not valid JSON",
		`{"place":{"namespace":"` + "\x00" + `"}}`:                    "not valid JSON",
		`{"place":{"namespace":"a","node":null}}`:                     "null",
		`{"place":{"namespace":["a"]}}`:                               "namespace",
		`{"place":{"namespace":"a"},"by":{"x":1.5}}`:                  "by",
		`{"place":{"namespace":"a"},"by":{"x":99999999999999999999}}`: "by",
	} {
		short := args[:min(len(args), 60)]
		res, err := echo(t).Call(t.Context(), json.RawMessage(args))
		if want == "" {
			if err != nil || !json.Valid(res.Data) || len(res.Edges) != 1 {
				t.Errorf("%s: %v %+v", short, err, res)
			}
			continue
		}
		if tool.KindOf(err) != tool.Invalid || !strings.Contains(tool.UserText(err), want) || !strings.HasPrefix(tool.UserText(err), "echo: ") {
			t.Errorf("%s: %v is no refusal that names %q", short, err, want)
		}
		if len(tool.UserText(err)) > 1000 {
			t.Errorf("%s: the refusal has %d bytes", short, len(tool.UserText(err)))
		}
	}
}

func TestCallFailures(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := echo(t).Call(ctx, json.RawMessage(`{"place":{"namespace":"a"}}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("the end of the context is lost: %v", err)
	}
	_, err := echo(t).Call(t.Context(), json.RawMessage(`{"place":{"namespace":"a"},"ratio":-1}`))
	if tool.KindOf(err) != tool.Internal || !strings.Contains(err.Error(), "echo: encode output") {
		t.Errorf("an answer that is no JSON: %v", err)
	}
	info := echo(t).Info()
	if info.Effect != tool.Probe || info.MaxText != 100 {
		t.Errorf("%+v", info)
	}
}

func TestNewRefusesTypes(t *testing.T) {
	t.Parallel()
	ok := tool.Info{Name: "x", Text: "X.", Effect: tool.Read}
	check := func(name string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	_, err := tool.New(ok, func(context.Context, string) (tool.Output[place], error) { return tool.Output[place]{}, nil })
	check("a text as input", err, "tool x: its input is string")
	_, err = tool.New(ok, func(context.Context, []place) (tool.Output[place], error) { return tool.Output[place]{}, nil })
	check("a list as input", err, "use a struct")
	_, err = tool.New(ok, func(context.Context, struct{ F func() }) (tool.Output[place], error) {
		return tool.Output[place]{}, nil
	})
	check("a function in the input", err, "tool x: input schema")
	_, err = tool.New(ok, func(context.Context, place) (tool.Output[chan int], error) { return tool.Output[chan int]{}, nil })
	check("a channel as output", err, "tool x: output schema")
	_, err = tool.New[place, place](ok, nil)
	check("no function", err, "text and function are required")
	for _, name := range []string{"a b", "ünder", "a.b", "a/b", strings.Repeat("x", 65), "a\n", "<a>"} {
		_, err = tool.New(tool.Info{Name: name, Text: "X.", Effect: tool.Read}, func(context.Context, place) (tool.Output[place], error) { return tool.Output[place]{}, nil })
		check(name, err, "a name has 1 to 64")
	}
	if _, err := tool.New(ok, func(context.Context, struct{}) (tool.Output[[]string], error) { return tool.Output[[]string]{}, nil }); err != nil {
		t.Errorf("a list as output, nothing as input: %v", err)
	}
}

func TestSchemasOfNestedTypes(t *testing.T) {
	t.Parallel()
	info := echo(t).Info()
	raw, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), `"null"`) {
		t.Errorf("a union with null: %s", raw)
	}
	if diff := cmp.Diff("place (object), places (array, optional), more (object, optional), by (object, optional), any (any, optional), ratio (number, optional)", tool.Signature(info.Input)); diff != "" {
		t.Error(diff)
	}
	// Without an order of its own a signature is still the same on every run.
	s := &jsonschema.Schema{Properties: map[string]*jsonschema.Schema{"c": {Type: "string"}, "a": {Type: "string"}, "b": {Type: "string"}, "d": nil}, Required: []string{"b"}}
	for range 20 {
		if got := tool.Signature(s); got != "a (string, optional), b (string), c (string, optional)" {
			t.Fatal(got)
		}
	}
	if tool.Signature(nil) != "none" || tool.Signature(&jsonschema.Schema{}) != "none" {
		t.Error("a signature without parameters")
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	first, second := errors.New("403"), fs.ErrNotExist
	both := tool.Errorf(tool.Forbidden, "list pods: %w, %w", first, second)
	if !errors.Is(both, first) || !errors.Is(both, second) || both.Error() != "list pods: 403, file does not exist" {
		t.Errorf("%v lost a cause", both)
	}
	plain := tool.Errorf(tool.NotFound, "pod %s does not exist", "a/b")
	wrapped := fmt.Errorf("look: %w", plain)
	for name, tc := range map[string]struct {
		err  error
		kind tool.Kind
		user string
		text string
	}{
		"plain":    {plain, tool.NotFound, "pod a/b does not exist", "pod a/b does not exist"},
		"wrapped":  {wrapped, tool.NotFound, "pod a/b does not exist", "look: pod a/b does not exist"},
		"way out":  {&tool.Error{Kind: tool.Forbidden, User: "no right", Fix: "bind view", Err: first}, tool.Forbidden, "no right; bind view", "no right: 403"},
		"no kind":  {&tool.Error{User: "odd"}, tool.Internal, "odd", "odd"},
		"foreign":  {first, tool.Internal, "403", "403"},
		"only Err": {&tool.Error{Kind: tool.TimedOut, User: "403", Err: first}, tool.TimedOut, "403", "403"},
	} {
		if tool.KindOf(tc.err) != tc.kind || tool.UserText(tc.err) != tc.user || tc.err.Error() != tc.text {
			t.Errorf("%s: kind %s, user %q, text %q", name, tool.KindOf(tc.err), tool.UserText(tc.err), tc.err.Error())
		}
	}
	if tool.KindOf(nil) != tool.Internal {
		t.Errorf("no error is %s", tool.KindOf(nil))
	}
}

// Whatever arguments a model writes: the function sees only what fits, and what
// it sees is what was written.
func FuzzCall(f *testing.F) {
	for _, s := range []string{`{"place":{"namespace":"a"}}`, `{"place":{"namespace":"a","node":"b"},"by":{"x":1},"any":[{}],"ratio":-0}`, `{"place":null}`, `{"a":`, "", "\xff", `{"place":{"namespace":"\ud800"}}`} {
		f.Add(s)
	}
	tl := echo(f)
	f.Fuzz(func(t *testing.T, args string) {
		res, err := tl.Call(t.Context(), json.RawMessage(args))
		if err != nil {
			if k := tool.KindOf(err); k != tool.Invalid && k != tool.Internal {
				t.Fatalf("kind %s: %v", k, err)
			}
			return
		}
		var in wide
		var out answer
		if json.Unmarshal([]byte(args), &in) != nil || json.Unmarshal(res.Data, &out) != nil {
			t.Fatalf("%q was taken and answered by %q", args, res.Data)
		}
		in.Any, out.Got.Any = nil, nil
		if !reflect.DeepEqual(in, out.Got) {
			t.Fatalf("%q was read as %+v", args, out.Got)
		}
	})
}
