package openaichat

import (
	"maps"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// habit is a set of deviations from the protocol that a server was found to
// need. They are learned from its refusals, not guessed from the model's name:
// names say nothing about servers of one's own.
type habit uint32

const (
	// completionTokens: the limit is called max_completion_tokens.
	completionTokens habit = 1 << iota
	// ownTemperature: the temperature cannot be set (reasoning models).
	ownTemperature
	// noStreamOptions: token counts in a stream cannot be asked for.
	noStreamOptions
	// noToolChoice: a tool cannot be required; it is offered alone instead.
	noToolChoice
	// swapped: the name of the limit was changed once already.
	swapped
)

// learn gives the habits after a refusal; the same if it teaches nothing.
func learn(known habit, failed *llm.Error, req llm.Request) habit {
	if failed.Kind != llm.BadRequest || failed.Status < 400 {
		return known
	}
	text := strings.ToLower(failed.Text)
	switch {
	case known&noStreamOptions == 0 && strings.Contains(text, "stream_options"):
		return known | noStreamOptions
	case known&noToolChoice == 0 && req.Require != "" && strings.Contains(text, "tool_choice"):
		return known | noToolChoice
	case known&swapped == 0 && req.MaxTokens > 0 && (strings.Contains(text, "max_tokens") || strings.Contains(text, "max_completion_tokens")):
		return (known ^ completionTokens) | swapped
	case known&ownTemperature == 0 && strings.Contains(text, "temperature"):
		return known | ownTemperature
	}
	return known
}

// patch gives the fields that go-openai would drop, refuse or not know.
func (m *Model) patch(req llm.Request, known habit) map[string]any {
	fields := maps.Clone(m.extra)
	if fields == nil {
		fields = map[string]any{}
	}
	fields["model"] = m.info.Name
	if known&ownTemperature == 0 {
		fields["temperature"] = req.Temperature // the library omits 0
	} else {
		delete(fields, "temperature")
	}
	if req.MaxTokens > 0 {
		if known&completionTokens != 0 {
			fields["max_completion_tokens"] = req.MaxTokens
		} else {
			fields["max_tokens"] = req.MaxTokens
		}
	}
	return fields
}
