// Package langchain is a second adapter, on llms/openai and llms/anthropic of
// github.com/tmc/langchaingo. It serves providers whose own protocol openaichat does
// not speak (Anthropic), and those whose chat-completions endpoints are asked for
// whole turns; Providers lists them.
//
// It is narrow on purpose. Answers come whole, never as a stream, because the
// library's streams mix up parallel calls and swallow errors; so there is no
// text while the model thinks, and a cut is seen as a cut document. Errors are
// classified below the library, which keeps neither status nor headers. Nothing
// of its agents, chains, memory, prompts, callbacks and token counting (which
// downloads) is used. Of its other clients none passes the contract suite: mistral
// takes neither context nor transport and drops the ids of tool results, cohere sends
// the first message alone, ollama takes no tools, and googleai and bedrock bring an SDK
// each; docs/models.md says how those models are reached. A model that does not let its
// temperature be set needs openaichat.
package langchain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tmc/langchaingo/llms"
	"github.com/tmc/langchaingo/llms/anthropic"
	"github.com/tmc/langchaingo/llms/openai"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

var _ llm.Model = (*Model)(nil)

// neutral is the model name that the library sees. It drops the system prompt
// or the temperature by name, also for models of one's own.
const neutral = "chat"

// Config of a model. Name is required. The library's environment variables are not
// read. The key does not appear when a Config is printed.
type Config struct {
	// Provider is one of Providers; empty means Chat.
	Provider string
	Name     string
	// BaseURL up to, not including, "/chat/completions" or "/messages". It may be empty
	// for providers that have one address.
	BaseURL string
	// APIKey may be empty for servers that want none.
	APIKey string `json:"-"`
	// Window in tokens; prices in US dollars per million tokens; 0 means unknown.
	Window                  int
	InputPrice, OutputPrice float64
	// LimitField is the name of the limit of the answer on the wire; empty means
	// max_tokens. Anthropic's is always max_tokens.
	LimitField string
	// Wait bounds the server's silence before the answer, Idle within it.
	Wait, Idle time.Duration
	Retry      transport.Policy `json:"-"`
	// Redact masks text of the server in errors; it may be nil.
	Redact func(string) string `json:"-"`
	// HTTP carries the requests; nil means an own transport.
	HTTP http.RoundTripper `json:"-"`
}

// String describes the model without the key.
func (c Config) String() string { return cmp.Or(c.Provider, Chat) + "/" + c.Name }

// GoString keeps the key out of %#v.
func (c Config) GoString() string { return c.String() }

// LogValue keeps the key out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Model is one model of one server. It is safe for concurrent use.
type Model struct {
	info  llm.Info
	chat  chatter
	wire  wire
	doer  *transport.Doer
	retry transport.Policy
	limit string
	open  bool // the server wants no key
}

// New makes a model. It opens no connection.
func New(c Config) (*Model, error) {
	c.Provider = cmp.Or(c.Provider, Chat)
	if !slices.Contains(Providers(), c.Provider) {
		return nil, fmt.Errorf("model %s: unknown provider %q; want one of %s", c, c.Provider, strings.Join(Providers(), ", "))
	}
	if c.Name == "" {
		return nil, fmt.Errorf("%s model: name is empty; set it to the model's name", c.Provider)
	}
	c.BaseURL = cmp.Or(c.BaseURL, address(c.Provider))
	// The parser's own error would repeat the address with its credentials.
	if u, err := url.Parse(c.BaseURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("model %s: the base URL is no http or https address; write it like https://host/v1", c)
	}
	doer := transport.New(transport.Options{Base: c.HTTP, Wait: c.Wait, Idle: c.Idle, Secrets: []string{c.APIKey}, Redact: c.Redact})
	token := c.APIKey
	if token == "" {
		token = "none" // the library refuses to start without; it is taken off again
	}
	chat, w, err := open(c.Provider, token, strings.TrimRight(c.BaseURL, "/"), doer)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", c, err)
	}
	if c.LimitField == "" {
		c.LimitField = "max_tokens"
	}
	return &Model{chat: chat, wire: w, doer: doer, retry: c.Retry, limit: c.LimitField, open: c.APIKey == "",
		info: llm.Info{Provider: c.Provider, Name: c.Name, Window: c.Window, Tools: true, InputPrice: c.InputPrice, OutputPrice: c.OutputPrice}}, nil
}

// Info implements llm.Model.
func (m *Model) Info() llm.Info { return m.info }

// String gives "provider/name".
func (m *Model) String() string { return m.info.String() }

// GoString keeps the client, which knows the key, out of %#v.
func (m *Model) GoString() string { return m.info.String() }

// Close ends idle connections; the model stays usable.
func (m *Model) Close() { m.doer.Close() }

// Stream implements llm.Model. All parts come at once, when the answer is whole.
func (m *Model) Stream(ctx context.Context, req llm.Request) iter.Seq2[llm.Part, error] {
	return func(yield func(llm.Part, error) bool) {
		parts, failed := transport.Retry(ctx, m.retry, func() ([]llm.Part, *llm.Error) { return m.ask(ctx, req) })
		if failed != nil {
			yield(llm.Part{}, failed)
			return
		}
		for _, p := range parts {
			if !yield(p, nil) {
				return
			}
		}
	}
}

// ask makes one request.
func (m *Model) ask(ctx context.Context, req llm.Request) ([]llm.Part, *llm.Error) {
	messages, options, err := m.wire.translate(req)
	if err != nil {
		return nil, &llm.Error{Kind: llm.BadRequest, Text: err.Error(), Err: err}
	}
	x := &transport.Exchange{NoAuth: m.open, Repair: m.wire.repair, Shape: m.wire.shape, Answer: m.wire.answer,
		Patch: map[string]any{"model": m.info.Name, "temperature": req.Temperature, "max_tokens": nil, "max_completion_tokens": nil}}
	if limit := cmp.Or(max(req.MaxTokens, 0), m.wire.limit); limit > 0 {
		x.Patch[m.limit] = limit
	}
	if req.Require != "" && m.wire.choice != nil {
		x.Patch["tool_choice"] = m.wire.choice(req.Require)
	}
	res, err := m.chat.GenerateContent(transport.With(ctx, x), messages, options...)
	switch {
	case x.Err != nil:
		return nil, x.Err
	case ctx.Err() != nil:
		return nil, &llm.Error{Kind: llm.Cancelled, Text: "the request was ended: " + ctx.Err().Error(), Err: ctx.Err()}
	case errors.Is(err, openai.ErrEmptyResponse), errors.Is(err, anthropic.ErrEmptyResponse):
		return nil, &llm.Error{Kind: llm.Incomplete, Text: "the answer has no choices; ask again", Err: err}
	case err != nil:
		return nil, &llm.Error{Kind: llm.Server, Text: "the answer has an unknown form", Err: err}
	}
	return parts(req, res, m.wire.args), nil
}

// parts merges all choices: some providers spread one answer over several.
func parts(req llm.Request, res *llms.ContentResponse, args func(string) string) []llm.Part {
	var reasoning, text, reason string
	var calls []llm.Call
	var input, output int
	for _, c := range res.Choices {
		reasoning += c.ReasoningContent
		if thought, ok := c.GenerationInfo["ThinkingContent"].(string); ok && c.Content == "" && len(c.ToolCalls) == 0 {
			reasoning += thought // a block of its own; within a text it is part of the text
		}
		text += c.Content
		for _, t := range c.ToolCalls {
			if t.FunctionCall != nil {
				calls = append(calls, llm.Call{ID: t.ID, Name: t.FunctionCall.Name, Args: args(t.FunctionCall.Arguments)})
			}
		}
		if reason == "" || c.StopReason != "stop" {
			reason = c.StopReason
		}
		input = count(c.GenerationInfo, "InputTokens", count(c.GenerationInfo, "PromptTokens", input))
		input += count(c.GenerationInfo, "CacheReadInputTokens", 0) + count(c.GenerationInfo, "CacheCreationInputTokens", 0)
		output = count(c.GenerationInfo, "OutputTokens", count(c.GenerationInfo, "CompletionTokens", output))
	}
	var out []llm.Part
	bytes := len(reasoning) + len(text)
	if reasoning != "" {
		out = append(out, llm.Part{Kind: llm.ReasoningPart, Text: reasoning})
	}
	if text != "" {
		out = append(out, llm.Part{Kind: llm.TextPart, Text: text})
	}
	for _, c := range transport.NameCalls(req, calls) {
		bytes += len(c.Name) + len(c.Args)
		out = append(out, llm.Part{Kind: llm.CallPart, Call: c})
	}
	return append(out, transport.Usage(req, input, output, bytes),
		llm.Part{Kind: llm.FinishPart, Reason: transport.FinishReason(reason, len(calls) > 0, false)})
}

// count reads a number that the library repeats in each choice.
func count(info map[string]any, key string, otherwise int) int {
	if n, ok := info[key].(int); ok {
		return n
	}
	return otherwise
}
