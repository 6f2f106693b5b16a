package llmtest

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// requestCases: what reaches the server.
func requestCases() []contract {
	ok := Reply(Answer{Text: "a", Input: 11, Output: 7})
	fine := llm.Turn{Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop}
	sends := func(name string, req llm.Request, check func(*testing.T, Request)) contract {
		return contract{name: name, script: []Step{ok}, req: req, want: fine,
			check: func(t *testing.T, srv *Server, _ llm.Turn, _ *llm.Error) { check(t, srv.Last()) }}
	}
	talk := []llm.Message{
		{Role: llm.User, Text: "why"},
		{Role: llm.Assistant, Text: "I look.", Calls: []llm.Call{call("c1", "f", `{"x":1}`), call("c2", "g", `{"x":`), call("c3", "g", ``)}},
		{Role: llm.Tool, CallID: "c1", Name: "f", Text: "found"},
		{Role: llm.Tool, CallID: "c2", Name: "g", Text: ""},
		{Role: llm.Tool, CallID: "c3", Name: "g", Text: "x <&> \"y\" 中"},
	}
	schema := json.RawMessage(`{"type":"object","properties":{"x":{"type":"integer","minimum":1}},"required":["x"],"additionalProperties":false}`)
	unlimited := sends("no limit of the answer", llm.Request{}, func(t *testing.T, r Request) {
		if r.Fields["max_tokens"] != nil || r.Fields["max_completion_tokens"] != nil {
			t.Errorf("a limit was sent: %s", r.Fields)
		}
	})
	unlimited.not = func(w *Wire) string { return w.wantsLimit }
	return []contract{
		unlimited,
		sends("temperature zero", llm.Request{}, func(t *testing.T, r Request) { number(t, r, "temperature", 0) }),
		sends("temperature", llm.Request{Temperature: 0.25}, func(t *testing.T, r Request) { number(t, r, "temperature", 0.25) }),
		sends("limit of the answer", llm.Request{MaxTokens: 321}, func(t *testing.T, r Request) {
			field := "max_tokens"
			if r.Fields[field] == nil {
				field = "max_completion_tokens"
			}
			number(t, r, field, 321)
		}),
		sends("conversation", llm.Request{System: "be brief", Messages: talk}, func(t *testing.T, r Request) {
			if r.System != "be brief" || len(r.Messages) != len(talk) {
				t.Fatalf("system %q and %d messages", r.System, len(r.Messages))
			}
			for i, m := range r.Messages {
				if m.Role != talk[i].Role || m.CallID != talk[i].CallID {
					t.Errorf("message %d: %+v", i, m)
				}
			}
			if r.Messages[1].Text != "I look." || r.LastText() != talk[4].Text {
				t.Errorf("texts are damaged: %+v", r.Messages)
			}
		}),
		sends("empty tool result", llm.Request{Messages: talk}, func(t *testing.T, r Request) {
			if r.Messages[3].Text == "" {
				t.Error("an empty result was sent; servers refuse it")
			}
		}),
		sends("empty texts", llm.Request{Messages: []llm.Message{{Role: llm.User}, {Role: llm.Assistant}, {Role: llm.User, Text: "q"}}}, func(t *testing.T, r Request) {
			if r.Messages[0].Text == "" || r.Messages[1].Text == "" {
				t.Errorf("an empty message was sent: %+v", r.Messages)
			}
		}),
		sends("arguments of earlier calls are valid", llm.Request{Messages: talk}, func(t *testing.T, r Request) {
			want := []string{`{"x":1}`, `{"invalid_arguments":"{\"x\":"}`, `{}`}
			for i, c := range r.Messages[1].Calls {
				if c.Args != want[i] {
					t.Errorf("call %d: arguments %s, want %s", i, c.Args, want[i])
				}
			}
		}),
		sends("tools", llm.Request{Tools: []llm.ToolDef{{Name: "f", Text: "finds", Schema: schema}, {Name: "g"}}}, func(t *testing.T, r Request) {
			if len(r.Tools) != 2 || r.Tools[0].Text != "finds" {
				t.Fatalf("tools %+v", r.Tools)
			}
			var want, got any
			if json.Unmarshal(schema, &want) != nil || json.Unmarshal(r.Tools[0].Schema, &got) != nil {
				t.Fatal("schema is no JSON")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if len(r.Tools[1].Schema) == 0 || string(r.Tools[1].Schema) == "null" {
				t.Error("a tool without a schema was sent without parameters; servers refuse it")
			}
		}),
		sends("required tool", llm.Request{Tools: []llm.ToolDef{{Name: "f"}, {Name: "g"}}, Require: "g"}, func(t *testing.T, r Request) {
			if r.Require != "g" {
				t.Errorf("tool_choice %s", r.Fields["tool_choice"])
			}
		}),
	}
}

func number(t *testing.T, r Request, field string, want float64) {
	t.Helper()
	var got *float64
	if err := json.Unmarshal(r.Fields[field], &got); err != nil || got == nil || *got != want {
		t.Errorf("%s on the wire is %q, want %v", field, r.Fields[field], want)
	}
}
