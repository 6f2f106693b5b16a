package openaichat

import (
	"fmt"

	openai "github.com/sashabaranov/go-openai"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
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
		schema, err := transport.SentSchema(t)
		if err != nil {
			return out, err
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
	w := openai.ChatCompletionMessage{Role: string(m.Role), Content: transport.SentText(m)}
	switch m.Role {
	case llm.User:
	case llm.Assistant:
		for _, c := range m.Calls {
			w.ToolCalls = append(w.ToolCalls, openai.ToolCall{ID: c.ID, Type: openai.ToolTypeFunction,
				Function: openai.FunctionCall{Name: c.Name, Arguments: transport.SentArgs(c.Args)}})
		}
	case llm.Tool:
		w.ToolCallID = m.CallID
	default:
		return w, fmt.Errorf("unknown role %q; want user, assistant or tool", m.Role)
	}
	return w, nil
}
