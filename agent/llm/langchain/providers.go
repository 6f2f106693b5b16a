package langchain

import (
	"context"
	"encoding/json"

	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/llms/anthropic"
	"github.com/tmc/langchaingo/llms/openai"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

// Providers. All but Anthropic are asked by the chat-completions protocol, at the
// endpoint that the provider documents for it.
const (
	// Chat is any server of the chat-completions protocol; its address must be given.
	Chat      = "langchain"
	Anthropic = "anthropic"
	Mistral   = "mistral"
	Cohere    = "cohere"
	Google    = "google"
	// Bedrock takes an API key of Bedrock, not a signed request; its address names a
	// region and must be given.
	Bedrock = "bedrock"
)

// Providers lists them.
func Providers() []string { return []string{Chat, Anthropic, Mistral, Cohere, Google, Bedrock} }

// address is where a provider documents its API, empty where it has no single one
// (docs.anthropic.com "Messages", docs.mistral.ai "Chat", docs.cohere.com
// "Compatibility API", ai.google.dev "OpenAI compatibility").
func address(provider string) string {
	switch provider {
	case Anthropic:
		return "https://api.anthropic.com/v1"
	case Mistral:
		return "https://api.mistral.ai/v1"
	case Cohere:
		return "https://api.cohere.ai/compatibility/v1"
	case Google:
		return "https://generativelanguage.googleapis.com/v1beta/openai"
	}
	return ""
}

// chatter is the part of the library's models that is used.
type chatter interface {
	GenerateContent(ctx context.Context, messages []llms.MessageContent, options ...llms.CallOption) (*llms.ContentResponse, error)
}

var (
	_ chatter = (*openai.LLM)(nil)
	_ chatter = (*anthropic.LLM)(nil)
)

// wire is what differs between the protocols.
type wire struct {
	translate func(llm.Request) ([]llms.MessageContent, []llms.CallOption, error)
	// shape and repair change what the library sends, and what it reads.
	shape  func(fields map[string]json.RawMessage) error
	repair func(body []byte) []byte
	// answer is the field that an answer must have; empty means choices.
	answer string
	// limit of the answer in tokens where the protocol asks for one, else 0.
	limit int
	// choice makes the field tool_choice where the library has none.
	choice func(tool string) any
	// args gives the arguments of a call as the model wrote them.
	args func(string) string
}

// open makes the library's client of a provider.
func open(provider, token, baseURL string, doer *transport.Doer) (chatter, wire, error) {
	if provider == Anthropic {
		m, err := anthropic.New(anthropic.WithToken(token), anthropic.WithModel(neutral), anthropic.WithBaseURL(baseURL), anthropic.WithHTTPClient(doer))
		return m, wire{translate: translateBlocks, shape: shapeBlocks, repair: repairBlocks, answer: "content", limit: answerLimit,
			choice: func(tool string) any { return map[string]string{"type": "tool", "name": tool} }, args: unboxed}, err
	}
	m, err := openai.New(openai.WithToken(token), openai.WithModel(neutral), openai.WithOrganization(""),
		openai.WithBaseURL(baseURL), openai.WithAPIType(openai.APITypeOpenAI), openai.WithHTTPClient(doer))
	return m, wire{translate: translate, repair: repair, args: func(s string) string { return s }}, err
}
