package openaichat

import (
	"encoding/json"
	"fmt"

	openai "github.com/sashabaranov/go-openai"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// Texts in place of empty ones, whose content field go-openai would leave out;
// servers answer 400 to a message without one.
const (
	noOutput = "(no output)"
	noText   = "(empty)"
)

// wireRequest translates a request.
func wireRequest(req llm.Request, known habit, tools bool) (openai.ChatCompletionRequest, error) {
	out := openai.ChatCompletionRequest{Model: neutral}
	if known&noStreamOptions == 0 {
		out.StreamOptions = &openai.StreamOptions{IncludeUsage: true}
	}
	if req.System != "" {
		out.Messages = append(out.Messages, openai.ChatCompletionMessage{Role: openai.ChatMessageRoleSystem, Content: req.System})
	}
	for i, m := range req.Messages {
		w, err := wireMessage(m)
		if err != nil {
			return out, fmt.Errorf("messages[%d]: %w", i, err)
		}
		out.Messages = append(out.Messages, w)
	}
	if !tools {
		return out, nil
	}
	for _, t := range req.Tools {
		if req.Require != "" && known&noToolChoice != 0 && t.Name != req.Require {
			continue
		}
		schema := t.Schema
		if len(schema) == 0 {
			schema = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		if !json.Valid(schema) {
			return out, fmt.Errorf("tool %s: its schema is no JSON", t.Name)
		}
		out.Tools = append(out.Tools, openai.Tool{Type: openai.ToolTypeFunction,
			Function: &openai.FunctionDefinition{Name: t.Name, Description: t.Text, Parameters: schema}})
	}
	if req.Require != "" && known&noToolChoice == 0 {
		out.ToolChoice = openai.ToolChoice{Type: openai.ToolTypeFunction, Function: openai.ToolFunction{Name: req.Require}}
	}
	return out, nil
}

func wireMessage(m llm.Message) (openai.ChatCompletionMessage, error) {
	w := openai.ChatCompletionMessage{Role: string(m.Role), Content: m.Text}
	switch m.Role {
	case llm.User:
		if w.Content == "" {
			w.Content = noText
		}
	case llm.Assistant:
		for _, c := range m.Calls {
			w.ToolCalls = append(w.ToolCalls, openai.ToolCall{ID: c.ID, Type: openai.ToolTypeFunction,
				Function: openai.FunctionCall{Name: c.Name, Arguments: sentArgs(c.Args)}})
		}
		if w.Content == "" && len(w.ToolCalls) == 0 {
			w.Content = noText
		}
	case llm.Tool:
		w.ToolCallID = m.CallID
		if w.Content == "" {
			w.Content = noOutput
		}
	default:
		return w, fmt.Errorf("unknown role %q; want user, assistant or tool", m.Role)
	}
	return w, nil
}

// sentArgs makes arguments fit to be sent back. vLLM and Ollama parse the
// arguments of earlier calls and fail on the whole request when they are no
// JSON object, so a model's slip would end the conversation.
func sentArgs(args string) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(args), &fields) == nil && fields != nil {
		return args
	}
	if args == "" {
		return "{}"
	}
	kept, err := json.Marshal(map[string]string{"invalid_arguments": args})
	if err != nil {
		return "{}"
	}
	return string(kept)
}
