package langchain

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tmc/langchaingo/llms"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

// translate gives a request in the library's terms.
func translate(req llm.Request) ([]llms.MessageContent, []llms.CallOption, error) {
	var messages []llms.MessageContent
	if req.System != "" {
		messages = append(messages, llms.TextParts(llms.ChatMessageTypeSystem, req.System))
	}
	for i, m := range req.Messages {
		text := transport.SentText(m)
		switch m.Role {
		case llm.User:
			messages = append(messages, llms.TextParts(llms.ChatMessageTypeHuman, text))
		case llm.Assistant:
			c := llms.MessageContent{Role: llms.ChatMessageTypeAI}
			if text != "" {
				c.Parts = append(c.Parts, llms.TextPart(text))
			}
			for _, call := range m.Calls {
				c.Parts = append(c.Parts, llms.ToolCall{ID: call.ID, Type: "function",
					FunctionCall: &llms.FunctionCall{Name: call.Name, Arguments: transport.SentArgs(call.Args)}})
			}
			messages = append(messages, c)
		case llm.Tool:
			messages = append(messages, llms.MessageContent{Role: llms.ChatMessageTypeTool,
				Parts: []llms.ContentPart{llms.ToolCallResponse{ToolCallID: m.CallID, Name: m.Name, Content: text}}})
		default:
			return nil, nil, fmt.Errorf("messages[%d]: unknown role %q; want user, assistant or tool", i, m.Role)
		}
	}
	var options []llms.CallOption
	var tools []llms.Tool
	for _, t := range req.Tools {
		schema, err := transport.SentSchema(t)
		if err != nil {
			return nil, nil, err
		}
		tools = append(tools, llms.Tool{Type: "function", Function: &llms.FunctionDefinition{Name: t.Name, Description: t.Text, Parameters: schema}})
	}
	if tools != nil {
		options = append(options, llms.WithTools(tools))
	}
	if req.Require != "" {
		// Not the library's type, which sends empty arguments with the name.
		options = append(options, llms.WithToolChoice(map[string]any{"type": "function", "function": map[string]string{"name": req.Require}}))
	}
	return messages, options, nil
}

// repair brings a whole answer into the one form that the library reads: it
// knows neither the field reasoning nor refusals, and fails on content in parts
// and on arguments that are an object.
func repair(body []byte) []byte {
	var doc map[string]json.RawMessage
	var choices []map[string]json.RawMessage
	if json.Unmarshal(body, &doc) != nil || json.Unmarshal(doc["choices"], &choices) != nil {
		return body
	}
	for _, c := range choices {
		var message map[string]any
		if json.Unmarshal(c["message"], &message) != nil || message == nil {
			continue
		}
		repairMessage(message, c)
		if fixed, err := json.Marshal(message); err == nil {
			c["message"] = fixed
		}
	}
	fixed, err := json.Marshal(choices)
	if err != nil {
		return body
	}
	doc["choices"] = fixed
	if out, err := json.Marshal(doc); err == nil {
		return out
	}
	return body
}

func repairMessage(message map[string]any, choice map[string]json.RawMessage) {
	if s, ok := message["reasoning_content"].(string); !ok || s == "" {
		message["reasoning_content"] = joined(message["reasoning"])
	}
	message["content"] = joined(message["content"])
	if refusal := joined(message["refusal"]); refusal != "" {
		message["content"] = joined(message["content"]) + refusal
		choice["finish_reason"] = json.RawMessage(`"content_filter"`)
	}
	calls, _ := message["tool_calls"].([]any)
	for _, c := range calls {
		call, ok := c.(map[string]any)
		if !ok {
			continue
		}
		fn, ok := call["function"].(map[string]any)
		if !ok {
			continue
		}
		args := fn["arguments"]
		if _, ok := args.(string); ok {
			continue
		}
		fn["arguments"] = ""
		if object, ok := args.(map[string]any); ok {
			if text, err := json.Marshal(object); err == nil {
				fn["arguments"] = string(text)
			}
		}
	}
}

// joined gives a string, or the texts of a list of parts; else nothing.
func joined(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var out strings.Builder
		for _, p := range v {
			if part, ok := p.(map[string]any); ok {
				out.WriteString(joined(part["text"]))
			}
		}
		return out.String()
	}
	return ""
}
