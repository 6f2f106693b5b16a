package langchain

import (
	"encoding/json"
	"fmt"

	"github.com/tmc/langchaingo/llms"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// answerLimit is asked for where a request has no limit: Anthropic's protocol wants
// one. A conclusion takes less than half of it.
const answerLimit = 8192

// box is how arguments travel through the library. It reads them into Go maps, which
// rounds long numbers and sorts the names; as one text they stay as they were written.
type box struct {
	JSON string `json:"json"`
}

func boxed(args string) (string, error) {
	raw, err := json.Marshal(box{args})
	return string(raw), err
}

func unboxed(args string) string {
	var b box
	if json.Unmarshal([]byte(args), &b) != nil {
		return args
	}
	return b.JSON
}

// translateBlocks gives a request in the library's terms for Anthropic. The library
// reads the first part of a message only, so each part is a message of its own;
// shapeBlocks puts them together again.
func translateBlocks(req llm.Request) ([]llms.MessageContent, []llms.CallOption, error) {
	messages, options, err := translate(req)
	if err != nil {
		return nil, nil, err
	}
	var out []llms.MessageContent
	for _, m := range messages {
		for _, p := range m.Parts {
			if c, ok := p.(llms.ToolCall); ok {
				args, err := boxed(c.FunctionCall.Arguments)
				if err != nil {
					return nil, nil, fmt.Errorf("arguments of %s: %w", c.FunctionCall.Name, err)
				}
				c.FunctionCall = &llms.FunctionCall{Name: c.FunctionCall.Name, Arguments: args}
				p = c
			}
			out = append(out, llms.MessageContent{Role: m.Role, Parts: []llms.ContentPart{p}})
		}
	}
	return out, options, nil
}

// turn is a message of Anthropic's protocol.
type turn struct {
	Role    string                       `json:"role"`
	Content []map[string]json.RawMessage `json:"content"`
}

// shapeBlocks makes one message of those that follow each other with one role, as the
// protocol has it (all results of one turn stand in one message), and unpacks
// arguments.
func shapeBlocks(fields map[string]json.RawMessage) error {
	var turns []turn
	if err := json.Unmarshal(fields["messages"], &turns); err != nil {
		return fmt.Errorf("the messages of the request: %w", err)
	}
	var out []turn
	for _, t := range turns {
		for _, b := range t.Content {
			if string(b["type"]) == `"tool_use"` {
				if args := unboxed(string(b["input"])); json.Valid([]byte(args)) {
					b["input"] = json.RawMessage(args)
				}
			}
		}
		if n := len(out); n > 0 && out[n-1].Role == t.Role {
			out[n-1].Content = append(out[n-1].Content, t.Content...)
			continue
		}
		out = append(out, t)
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("the messages of the request: %w", err)
	}
	fields["messages"] = raw
	return nil
}

// repairBlocks brings an answer into the form that the library reads: blocks that it
// does not know (redacted thinking, calls of the server's own tools) are left out, an
// answer without any gets an empty text, and arguments are packed.
func repairBlocks(body []byte) []byte {
	var doc map[string]json.RawMessage
	var blocks []map[string]json.RawMessage
	if json.Unmarshal(body, &doc) != nil || json.Unmarshal(doc["content"], &blocks) != nil {
		return body
	}
	known := []map[string]json.RawMessage{}
	for _, b := range blocks {
		switch string(b["type"]) {
		case `"text"`, `"thinking"`:
		case `"tool_use"`:
			args, err := boxed(string(b["input"]))
			if err != nil {
				continue
			}
			b["input"] = json.RawMessage(args)
		default:
			continue
		}
		known = append(known, b)
	}
	if len(known) == 0 {
		known = append(known, map[string]json.RawMessage{"type": json.RawMessage(`"text"`), "text": json.RawMessage(`""`)})
	}
	raw, err := json.Marshal(known)
	if err != nil {
		return body
	}
	doc["content"] = raw
	if out, err := json.Marshal(doc); err == nil {
		return out
	}
	return body
}
