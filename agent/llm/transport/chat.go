package transport

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// Texts in place of empty ones. SDKs leave an empty content field out, and
// servers answer 400 to a message without one.
const (
	NoOutput = "(no output)"
	NoText   = "(empty)"
)

// SentText gives the text of a message as it is sent: never empty, but for an
// assistant that called tools.
func SentText(m llm.Message) string {
	switch {
	case m.Text != "" || len(m.Calls) > 0:
		return m.Text
	case m.Role == llm.Tool:
		return NoOutput
	}
	return NoText
}

// SentArgs makes a call's arguments fit to be sent back. vLLM and Ollama parse
// the arguments of earlier calls and fail on the whole request when they are no
// JSON object, so that a model's slip would end the conversation.
func SentArgs(args string) string {
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

// SentSchema gives a tool's parameters as they are sent.
func SentSchema(t llm.ToolDef) (json.RawMessage, error) {
	if len(t.Schema) == 0 {
		return json.RawMessage(`{"type":"object","properties":{}}`), nil
	}
	if !json.Valid(t.Schema) {
		return nil, fmt.Errorf("tool %s: its schema is no JSON", t.Name)
	}
	return t.Schema, nil
}

// FinishReason normalises. Many servers say "stop" although there are calls.
func FinishReason(wire string, calls, refused bool) string {
	switch strings.ToLower(wire) {
	case "length", "max_tokens", "max_length", "model_length":
		return llm.FinishLength
	case "content_filter", "refusal", "safety", "recitation", "prohibited_content":
		return llm.FinishRefused
	}
	switch {
	case calls:
		return llm.FinishCalls
	case refused:
		return llm.FinishRefused
	}
	return llm.FinishStop
}

// NameCalls gives an id to each call that has none, or one that the
// conversation has already: results are matched to calls by id.
func NameCalls(req llm.Request, calls []llm.Call) []llm.Call {
	used := map[string]bool{"": true}
	for _, m := range req.Messages {
		for _, c := range m.Calls {
			used[c.ID] = true
		}
	}
	out := make([]llm.Call, len(calls))
	for i, c := range calls {
		for n := 0; used[c.ID]; n++ {
			c.ID = fmt.Sprintf("call_%d_%d", len(req.Messages), i)
			if n > 0 {
				c.ID += fmt.Sprintf("_%d", n)
			}
		}
		used[c.ID] = true
		out[i] = c
	}
	return out
}

// Usage gives the part with the token counts, estimated if the server gave none.
func Usage(req llm.Request, input, output, bytes int) llm.Part {
	if input+output > 0 {
		return llm.Part{Kind: llm.UsagePart, Input: input, Output: output}
	}
	return llm.Part{Kind: llm.UsagePart, Input: llm.Estimate(req), Output: llm.Tokens(bytes), Estimated: true}
}
