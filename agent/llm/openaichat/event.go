package openaichat

import (
	"bytes"
	"encoding/json"
)

// event is one payload of a stream, or a whole answer of a server that does not
// stream. go-openai's own type drops one of the two reasoning fields and
// damages strings that a server split inside a character.
type event struct {
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage"`
}

type usage struct {
	Input  int `json:"prompt_tokens"`
	Output int `json:"completion_tokens"`
}

type choice struct {
	Index   int    `json:"index"`
	Delta   *delta `json:"delta"`
	Message *delta `json:"message"`
	Finish  string `json:"finish_reason"`
}

func (c choice) delta() *delta {
	if c.Delta != nil {
		return c.Delta
	}
	return c.Message
}

type delta struct {
	Content          text        `json:"content"`
	Refusal          text        `json:"refusal"`
	ReasoningContent text        `json:"reasoning_content"`
	Reasoning        text        `json:"reasoning"`
	ToolCalls        []callDelta `json:"tool_calls"`
	FunctionCall     *function   `json:"function_call"`
}

// reasoning reads either field; gateways that fill both repeat the text.
func (d delta) reasoning() text {
	if len(d.ReasoningContent) > 0 {
		return d.ReasoningContent
	}
	return d.Reasoning
}

// calls gives the pieces of calls, with the protocol's older single call as one.
func (d delta) calls() []callDelta {
	if d.FunctionCall == nil || len(d.ToolCalls) > 0 {
		return d.ToolCalls
	}
	first := 0
	return []callDelta{{Index: &first, Function: *d.FunctionCall}}
}

type callDelta struct {
	Index    *int     `json:"index"`
	ID       text     `json:"id"`
	Function function `json:"function"`
}

type function struct {
	Name      text `json:"name"`
	Arguments text `json:"arguments"`
}

func decodeEvent(raw []byte) (event, error) {
	var e event
	err := json.Unmarshal(raw, &e)
	return e, err
}

// text is a JSON string as bytes, not repaired: half a character stays half a
// character, until the other half comes. It also reads what some servers put
// where the protocol has a string: null, a list of parts, an object.
type text []byte

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(raw []byte) error {
	*t = nil
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case raw[0] == '"':
		*t = unquote(raw)
	case raw[0] == '[':
		var parts []struct {
			Text text `json:"text"`
		}
		if json.Unmarshal(raw, &parts) == nil {
			for _, p := range parts {
				*t = append(*t, p.Text...)
			}
		}
	default:
		// An object in place of the arguments' text, or a number for an id.
		*t = append(*t, raw...)
	}
	return nil
}
