package llmtest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// wireMessage is a message of the chat-completions protocol.
type wireMessage struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	Name       string          `json:"name"`
	ToolCallID string          `json:"tool_call_id"`
	ToolCalls  []struct {
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

type wireRequest struct {
	Model    string        `json:"model"`
	Stream   bool          `json:"stream"`
	Messages []wireMessage `json:"messages"`
	Tools    []struct {
		Function struct {
			Name        string          `json:"name"`
			Description string          `json:"description"`
			Parameters  json.RawMessage `json:"parameters"`
		} `json:"function"`
	} `json:"tools"`
	ToolChoice    json.RawMessage `json:"tool_choice"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// decode is as strict as the strictest servers: a tool result without content
// is refused.
func decode(body []byte) (Request, error) {
	var w wireRequest
	if err := json.Unmarshal(body, &w); err != nil {
		return Request{}, err
	}
	req := Request{Model: w.Model, Stream: w.Stream, Usage: w.StreamOptions.IncludeUsage}
	if err := json.Unmarshal(body, &req.Fields); err != nil {
		return Request{}, err
	}
	var choice struct {
		Type     string
		Function struct{ Name string }
	}
	if json.Unmarshal(w.ToolChoice, &choice) == nil && choice.Type == "function" {
		req.Require = choice.Function.Name
	}
	for i, m := range w.Messages {
		text, err := content(m.Content)
		if err != nil {
			return Request{}, fmt.Errorf("messages[%d].content: %w", i, err)
		}
		if len(m.Content) == 0 && len(m.ToolCalls) == 0 {
			return Request{}, fmt.Errorf("messages[%d]: role %s has no content", i, m.Role)
		}
		if m.Role == "system" || m.Role == "developer" {
			req.System += text
			continue
		}
		msg := llm.Message{Role: llm.Role(m.Role), Text: text, CallID: m.ToolCallID, Name: m.Name}
		for _, c := range m.ToolCalls {
			msg.Calls = append(msg.Calls, llm.Call{ID: c.ID, Name: c.Function.Name, Args: c.Function.Arguments})
		}
		req.Messages = append(req.Messages, msg)
	}
	for _, t := range w.Tools {
		req.Tools = append(req.Tools, llm.ToolDef{Name: t.Function.Name, Text: t.Function.Description, Schema: t.Function.Parameters})
	}
	return req, nil
}

// content is a string, null, or a list of parts of which the texts are joined.
func content(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err == nil {
		return text, nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
	}
	return b.String(), nil
}
