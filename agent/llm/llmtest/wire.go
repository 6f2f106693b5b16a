package llmtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// Wire is a protocol that the scripted server speaks.
type Wire struct {
	// Name is what people call it.
	Name string
	// path ends the address of a request.
	path   string
	decode func(body []byte) (Request, error)
	// whole sends a turn in one document; refuse a refusal, nil means as the
	// chat-completions protocol has it.
	whole  func(x *Exchange, a Answer)
	refuse func(x *Exchange, text string)
	// streams says that the scripted server can stream it.
	streams bool
	// objects says that arguments are JSON objects and not texts, wantsLimit that a
	// request must bound its answer: why cases of these do not apply.
	objects, wantsLimit string
	// more are cases of this protocol alone.
	more []contract
}

// OpenAI is the chat-completions protocol.
func OpenAI() *Wire {
	return &Wire{Name: "chat completions", path: "/chat/completions", decode: decode, whole: wholeChat, streams: true}
}

// chatOnly leaves a case to the chat-completions protocol.
func chatOnly(w *Wire) string {
	if w.streams {
		return ""
	}
	return "a form of the chat-completions protocol"
}

// Anthropic is the Messages protocol of Anthropic (version 2023-06-01), as its API
// reference describes it. The scripted server gives whole turns only, and is as strict
// as the real one: roles alternate after those that follow each other were merged,
// each tool_use has its tool_result in the next message, a limit is given.
func Anthropic() *Wire {
	return &Wire{
		Name: "Anthropic Messages", path: "/messages", decode: decodeBlocks, whole: wholeBlocks,
		refuse: func(x *Exchange, text string) {
			x.wire.whole(x, Answer{Text: text, Finish: "content_filter", Input: 1, Output: 1})
		},
		objects:    "arguments are JSON objects in this protocol and cannot be broken",
		wantsLimit: "the protocol wants a limit of the answer",
		more:       blockCases(),
	}
}

type block struct {
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Input     json.RawMessage `json:"input"`
	ToolUseID string          `json:"tool_use_id"`
	Content   json.RawMessage `json:"content"`
}

type blockRequest struct {
	Model     string          `json:"model"`
	System    json.RawMessage `json:"system"`
	MaxTokens int             `json:"max_tokens"`
	Stream    bool            `json:"stream"`
	Messages  []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Tools []struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		InputSchema json.RawMessage `json:"input_schema"`
	} `json:"tools"`
	ToolChoice struct {
		Type string `json:"type"`
		Name string `json:"name"`
	} `json:"tool_choice"`
}

func decodeBlocks(body []byte) (Request, error) {
	var w blockRequest
	if err := json.Unmarshal(body, &w); err != nil {
		return Request{}, err
	}
	req := Request{Model: w.Model, Stream: w.Stream}
	if err := json.Unmarshal(body, &req.Fields); err != nil {
		return Request{}, err
	}
	var err error
	if req.System, err = content(w.System); err != nil {
		return Request{}, fmt.Errorf("system: %w", err)
	}
	if w.MaxTokens < 1 {
		return Request{}, fmt.Errorf("max_tokens: Field required")
	}
	open, last := map[string]bool{}, ""
	for i, m := range w.Messages {
		blocks, err := blocksOf(m.Content)
		if err != nil {
			return Request{}, fmt.Errorf("messages.%d: %w", i, err)
		}
		if m.Role == last || i == 0 && m.Role != "user" {
			return Request{}, fmt.Errorf("messages.%d: role %s after %q", i, m.Role, last)
		}
		last = m.Role
		said, err := unblock(llm.Role(m.Role), blocks, open)
		if err != nil {
			return Request{}, fmt.Errorf("messages.%d: %w", i, err)
		}
		req.Messages = append(req.Messages, said...)
	}
	for _, t := range w.Tools {
		req.Tools = append(req.Tools, llm.ToolDef{Name: t.Name, Text: t.Description, Schema: t.InputSchema})
	}
	if w.ToolChoice.Type == "tool" {
		req.Require = w.ToolChoice.Name
	}
	return req, nil
}

func blocksOf(raw json.RawMessage) ([]block, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []block{{Type: "text", Text: text}}, nil
	}
	var blocks []block
	err := json.Unmarshal(raw, &blocks)
	if err == nil && len(blocks) == 0 {
		err = fmt.Errorf("content is empty")
	}
	return blocks, err
}

// unblock reads one message. open are the calls that wait for their results: all of
// them have to come in the message after.
func unblock(role llm.Role, blocks []block, open map[string]bool) ([]llm.Message, error) {
	var results []llm.Message
	said := llm.Message{Role: role}
	text := false
	for i, b := range blocks {
		switch b.Type {
		case "text":
			if b.Text == "" {
				return nil, fmt.Errorf("content.%d: text content blocks must be non-empty", i)
			}
			said.Text, text = said.Text+b.Text, true
		case "tool_use":
			var input map[string]json.RawMessage
			if json.Unmarshal(b.Input, &input) != nil || input == nil || role != llm.Assistant {
				return nil, fmt.Errorf("content.%d.input: Input should be a valid dictionary", i)
			}
			said.Calls, open[b.ID] = append(said.Calls, llm.Call{ID: b.ID, Name: b.Name, Args: string(b.Input)}), true
		case "tool_result":
			if !open[b.ToolUseID] || role != llm.User {
				return nil, fmt.Errorf("content.%d: unexpected tool_use_id %q", i, b.ToolUseID)
			}
			delete(open, b.ToolUseID)
			out, err := content(b.Content)
			if err != nil {
				return nil, err
			}
			results = append(results, llm.Message{Role: llm.Tool, CallID: b.ToolUseID, Text: out})
		default:
			return nil, fmt.Errorf("content.%d: type %q", i, b.Type)
		}
	}
	if role == llm.User && len(open) > 0 {
		return nil, fmt.Errorf("tool_use ids were found without tool_result blocks immediately after")
	}
	if text || len(said.Calls) > 0 {
		results = append(results, said)
	}
	return results, nil
}

func wholeBlocks(x *Exchange, a Answer) {
	blocks := []any{}
	if a.Reasoning != "" {
		blocks = append(blocks, map[string]any{"type": "thinking", "thinking": a.Reasoning, "signature": "sig"})
	}
	if a.Text != "" {
		blocks = append(blocks, map[string]any{"type": "text", "text": a.Text})
	}
	for _, c := range a.Calls {
		input := json.RawMessage(c.Args)
		if c.Args == "" {
			input = json.RawMessage("{}")
		}
		blocks = append(blocks, map[string]any{"type": "tool_use", "id": c.ID, "name": c.Name, "input": input})
	}
	reason := map[string]string{"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}[a.Finish]
	doc := map[string]any{"id": "msg_test", "type": "message", "role": "assistant", "model": x.Request.Model, "content": blocks, "stop_reason": reason, "stop_sequence": nil}
	if !a.NoUsage {
		doc["usage"] = map[string]any{"input_tokens": a.Input, "output_tokens": a.Output}
	}
	x.document(doc)
}

// blockCases are what only Anthropic's protocol has.
func blockCases() []contract {
	fails := func(name string, kind llm.ErrorKind, status int, typ, message string) contract {
		return contract{name: name, kind: kind, script: []Step{Forever(Fail(status, fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q},"request_id":"req_1"}`, typ, message)))}}
	}
	answers := func(name, doc string, want llm.Turn) contract {
		return contract{name: name, want: want, script: []Step{Do(func(x *Exchange) { x.Status(http.StatusOK, "application/json", doc) })}}
	}
	head := func(t *testing.T, srv *Server, _ llm.Turn, _ *llm.Error) {
		r := srv.Last()
		if r.Header.Get("Anthropic-Version") != "2023-06-01" || r.Header.Get("X-Api-Key") == "" || r.Header.Get("Authorization") != "" {
			t.Errorf("header %v", r.Header)
		}
	}
	version := answers("version and key", `{"type":"message","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":{"input_tokens":11,"output_tokens":7}}`, llm.Turn{Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop})
	version.check = head
	return []contract{
		fails("Anthropic: overloaded", llm.Overloaded, 529, "overloaded_error", "Overloaded"),
		fails("Anthropic: prompt too long", llm.Overflow, 400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
		fails("Anthropic: no such model", llm.NoModel, 404, "not_found_error", "model: claude-9"),
		fails("Anthropic: wrong key", llm.Auth, 401, "authentication_error", "invalid x-api-key"),
		fails("Anthropic: no credit", llm.Auth, 400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
		fails("Anthropic: bad request", llm.BadRequest, 400, "invalid_request_error", "messages: roles must alternate"),
		version,
		answers("Anthropic: blocks of other kinds", `{"type":"message","content":[{"type":"redacted_thinking","data":"x"},{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"one "},`+
			`{"type":"server_tool_use","id":"s1","name":"web_search","input":{}},{"type":"text","text":"two"},{"type":"tool_use","id":"c1","name":"f","input":{"z":12345678901234567890,"a":1.50}}],`+
			`"stop_reason":"tool_use","usage":{"input_tokens":11,"output_tokens":7}}`,
			llm.Turn{Reasoning: "hm", Text: "one two", Calls: []llm.Call{call("c1", "f", `{"z":12345678901234567890,"a":1.50}`)}, Input: 11, Output: 7, Reason: llm.FinishCalls}),
		answers("Anthropic: tokens of the cache", `{"type":"message","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"cache_read_input_tokens":6,"cache_creation_input_tokens":4,"output_tokens":7}}`,
			llm.Turn{Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop}),
		answers("Anthropic: no blocks", `{"type":"message","content":[],"stop_reason":"end_turn","usage":{"input_tokens":11,"output_tokens":7}}`, llm.Turn{Input: 11, Output: 7, Reason: llm.FinishStop}),
	}
}
