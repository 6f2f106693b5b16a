package app

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/fallback"
	"github.com/gumshoe-ai/gumshoe/agent/llm/langchain"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// openModel makes the configured model, nil when offline. close is never nil.
func openModel(c ModelConfig, mask func(string) string, sink event.Sink) (llm.Model, func(), error) {
	none := func() {}
	if c.Name == "" || c.Name == Offline {
		return nil, none, nil
	}
	key := c.apiKey
	if c.APIKeyFile != "" {
		raw, err := os.ReadFile(c.APIKeyFile)
		if err != nil {
			return nil, none, &tool.Error{Kind: tool.Invalid, User: "model.apiKeyFile: " + err.Error(), Err: err}
		}
		key = strings.TrimSpace(string(raw))
	}
	var models []llm.Model
	var closers []func()
	closeAll := func() {
		for _, f := range closers {
			f()
		}
	}
	for _, name := range append([]string{c.Name}, c.Fallback...) {
		m, closer, err := oneModel(name, key, c, mask)
		if err != nil {
			closeAll()
			return nil, none, &tool.Error{Kind: tool.Invalid, User: err.Error(), Err: err}
		}
		models = append(models, m)
		closers = append(closers, closer)
	}
	if len(models) == 1 {
		return models[0], closeAll, nil
	}
	chain, err := fallback.New(func(s fallback.Switch) {
		sink.Emit(event.Event{Type: event.Notice, Notice: &event.Message{Level: "warning", Text: fmt.Sprint(s)}})
	}, models...)
	return chain, closeAll, err
}

func oneModel(spec, key string, c ModelConfig, mask func(string) string) (llm.Model, func(), error) {
	if name, ok := strings.CutPrefix(spec, "langchain/"); ok {
		if c.BaseURL == "" {
			return nil, nil, errors.New("model langchain/" + name + ": model.baseURL or OPENAI_BASE_URL is required")
		}
		m, err := langchain.New(langchain.Config{Name: name, BaseURL: c.BaseURL, APIKey: key, Window: c.Window, InputPrice: c.InputPrice, OutputPrice: c.OutputPrice, Redact: mask})
		return m, func() {}, err
	}
	provider, name, err := openaichat.Parse(spec)
	if err != nil {
		return nil, nil, err
	}
	m, err := openaichat.New(openaichat.Config{Provider: provider, Name: name, BaseURL: c.BaseURL, APIKey: key, Window: c.Window,
		InputPrice: c.InputPrice, OutputPrice: c.OutputPrice, NoTools: c.NoTools, Redact: mask})
	if err != nil {
		return nil, nil, err
	}
	return m, func() { m.Close() }, nil
}

// modelNamed gives the configuration of a model by its name: offline, or one of the
// configuration.
func modelNamed(c Config, name string) (ModelConfig, error) {
	if name == Offline {
		return ModelConfig{Name: Offline}, nil
	}
	m := c.Model
	if name == m.Name {
		return m, nil
	}
	for _, f := range m.Fallback {
		if f == name {
			m.Name, m.Fallback = name, nil
			return m, nil
		}
	}
	return m, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("there is no model %q here", name), Fix: "see the section model of the configuration"}
}

// modelList lists the models that can be switched to, the configured one first.
func modelList(c Config) []session.Model {
	out := []session.Model{}
	if c.Model.Name != "" && c.Model.Name != Offline {
		out = append(out, session.Model{Name: c.Model.Name, Window: c.Model.Window, InputPrice: c.Model.InputPrice, OutputPrice: c.Model.OutputPrice, Default: true})
		for _, f := range c.Model.Fallback {
			out = append(out, session.Model{Name: f})
		}
	}
	return append(out, session.Model{Name: Offline, Default: len(out) == 0})
}
