package langchain

import (
	"encoding/json"
	"testing"
)

// Whatever a server answers: what is valid JSON stays it, and no call is invented.
func FuzzRepairBlocks(f *testing.F) {
	for _, s := range []string{
		`{"content":[{"type":"text","text":"a"},{"type":"tool_use","id":"c","name":"f","input":{"x":1e400,"x":2}}]}`,
		`{"content":[{"type":"redacted_thinking"}]}`, `{"content":[]}`, `{"content":null}`, `{"content":[null]}`, `{"content":[{"type":"tool_use"}]}`, `[]`, `{`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		out := repairBlocks(body)
		if json.Valid(body) != json.Valid(out) {
			t.Fatalf("%q becomes %q", body, out)
		}
		var before, after struct {
			Content []struct {
				Type  string          `json:"type"`
				Input json.RawMessage `json:"input"`
			} `json:"content"`
		}
		if json.Unmarshal(body, &before) != nil || json.Unmarshal(out, &after) != nil {
			return
		}
		var want, got []string
		for _, b := range before.Content {
			if b.Type == "tool_use" {
				want = append(want, string(b.Input))
			}
		}
		for _, b := range after.Content {
			if b.Type == "tool_use" {
				got = append(got, unboxed(string(b.Input)))
			}
		}
		if len(got) > len(want) {
			t.Fatalf("%q: calls %q become %q", body, want, got)
		}
	})
}

// A request of any shape is put together without loss, or refused.
func FuzzShapeBlocks(f *testing.F) {
	for _, s := range []string{`[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"user","content":[{"type":"text","text":"b"}]}]`, `[]`, `null`, `[{"role":"assistant","content":[{"type":"tool_use","input":{"json":"{\"a\":1}"}}]}]`, `{}`, `[{"content":[null]}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, messages []byte) {
		if !json.Valid(messages) {
			return
		}
		fields := map[string]json.RawMessage{"messages": messages}
		if shapeBlocks(fields) != nil {
			return
		}
		var before, after []turn
		if json.Unmarshal(messages, &before) != nil || json.Unmarshal(fields["messages"], &after) != nil {
			t.Fatalf("%s becomes %s", messages, fields["messages"])
		}
		n, m := 0, 0
		for _, t := range before {
			n += len(t.Content)
		}
		for i, one := range after {
			m += len(one.Content)
			if i > 0 && after[i-1].Role == one.Role {
				t.Fatalf("two turns of %q follow each other: %s", one.Role, fields["messages"])
			}
		}
		if n != m {
			t.Fatalf("%d blocks become %d", n, m)
		}
	})
}
