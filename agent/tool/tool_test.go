package tool_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

type in struct {
	Namespace string   `json:"namespace" jsonschema:"where the pod is"`
	Pod       string   `json:"pod"`
	Limit     int      `json:"limit,omitempty"`
	Columns   []string `json:"columns,omitempty"`
}

type out struct {
	Phase string            `json:"phase"`
	Nodes []string          `json:"nodes"`
	Extra map[string]string `json:"extra,omitempty"`
}

func podTool(t *testing.T) tool.Tool {
	t.Helper()
	f, err := tool.New(tool.Info{Name: "kube_pod", Text: "Judges a pod.", Effect: tool.Read},
		func(_ context.Context, i in) (tool.Output[out], error) {
			if i.Pod == "gone" {
				return tool.Output[out]{}, &tool.Error{Kind: tool.NotFound, User: "pod " + i.Namespace + "/gone does not exist", Fix: "check the namespace"}
			}
			return tool.Output[out]{Data: out{Phase: "Pending", Nodes: []string{}}, Text: i.Pod + " is Pending",
				Findings: []incident.Finding{{Code: "kube.pod_pending", Role: incident.Symptom}}}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFunctionCall(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, args string
		wantKind   tool.Kind
		wantText   string
	}{
		{name: "good", args: `{"namespace":"train","pod":"a-0"}`},
		{name: "missing field", args: `{"pod":"a-0"}`, wantKind: tool.Invalid, wantText: "namespace"},
		{name: "unknown field", args: `{"namespace":"train","pod":"a-0","shell":"rm"}`, wantKind: tool.Invalid, wantText: "shell"},
		{name: "wrong type", args: `{"namespace":"train","pod":7}`, wantKind: tool.Invalid, wantText: "pod"},
		{name: "fraction for an integer", args: `{"namespace":"train","pod":"a","limit":1.5}`, wantKind: tool.Invalid, wantText: "limit"},
		{name: "not JSON", args: `{"namespace":`, wantKind: tool.Invalid, wantText: "not valid JSON"},
		{name: "nothing", args: ``, wantKind: tool.Invalid, wantText: "namespace"},
		{name: "tool's own error", args: `{"namespace":"train","pod":"gone"}`, wantKind: tool.NotFound, wantText: "check the namespace"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			res, err := podTool(t).Call(context.Background(), json.RawMessage(tc.args))
			if tc.wantKind == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(`{"phase":"Pending","nodes":[]}`, string(res.Data)); diff != "" {
					t.Error(diff)
				}
				if len(res.Findings) != 1 || res.Text != "a-0 is Pending" {
					t.Errorf("result %+v", res)
				}
				return
			}
			if got := tool.KindOf(err); got != tc.wantKind {
				t.Errorf("kind %q, want %q (%v)", got, tc.wantKind, err)
			}
			if got := tool.UserText(err); !strings.Contains(got, tc.wantText) {
				t.Errorf("text %q does not name %q", got, tc.wantText)
			}
		})
	}
}

func TestSchemasHaveNoUnions(t *testing.T) {
	t.Parallel()
	info := podTool(t).Info()
	for name, s := range map[string]any{"input": info.Input, "output": info.Output} {
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), `"null"`) {
			t.Errorf("%s schema has a union with null, which some model servers refuse: %s", name, raw)
		}
	}
	if got, want := tool.Signature(info.Input), "namespace (string), pod (string), limit (integer, optional), columns (array, optional)"; got != want {
		t.Errorf("signature %q, want %q", got, want)
	}
	if info.MaxText != tool.DefaultMaxText {
		t.Errorf("MaxText %d, want the default", info.MaxText)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	fn := func(context.Context, struct{}) (tool.Output[struct{}], error) { return tool.Output[struct{}]{}, nil }
	for name, info := range map[string]tool.Info{
		"no name":        {Text: "x", Effect: tool.Read},
		"no text":        {Name: "x", Effect: tool.Read},
		"no effect":      {Name: "x", Text: "x"},
		"unknown effect": {Name: "x", Text: "x", Effect: "write"},
	} {
		if _, err := tool.New(info, fn); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestErrorf(t *testing.T) {
	t.Parallel()
	cause := errors.New("403")
	err := tool.Errorf(tool.Forbidden, "list pods in %s: %w", "train", cause)
	if !errors.Is(err, cause) || tool.KindOf(err) != tool.Forbidden {
		t.Errorf("cause or kind lost: %v", err)
	}
	if tool.KindOf(cause) != tool.Internal {
		t.Error("a plain error must be internal")
	}
}
