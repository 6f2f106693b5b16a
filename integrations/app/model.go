package app

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/fallback"
	"github.com/gumshoe-ai/gumshoe/agent/llm/langchain"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// keyEnv names the environment variable in which a provider's own tools keep the key.
func keyEnv(provider string) string {
	switch provider {
	case langchain.Anthropic:
		return "ANTHROPIC_API_KEY"
	case langchain.Mistral:
		return "MISTRAL_API_KEY"
	case langchain.Cohere:
		return "CO_API_KEY"
	case langchain.Google:
		return "GEMINI_API_KEY"
	case langchain.Bedrock:
		return "AWS_BEARER_TOKEN_BEDROCK"
	}
	return openAIKey
}

const openAIKey = "OPENAI_API_KEY"

// provider is the part of a model's name before the slash.
func provider(name string) string {
	p, _, _ := strings.Cut(name, "/")
	return p
}

// modelEnv reads what the environment says of models. A key that it holds for a
// provider goes to that provider's own address only, not to one that a file names.
func (c *Config) modelEnv(getenv func(string) string) {
	if v := getenv("OPENAI_BASE_URL"); v != "" && c.Model.BaseURL == "" {
		c.Model.BaseURL, c.Model.baseEnv = v, true
	}
	c.Model.apiKey = getenv(openAIKey)
	c.keys = map[string]string{}
	for _, p := range langchain.Providers() {
		if env := keyEnv(p); env != openAIKey {
			c.keys[p] = getenv(env)
		}
	}
}

// envKey gives the key that the environment holds for a model at an address.
func (c Config) envKey(name, baseURL string) string {
	p := provider(name)
	switch {
	case keyEnv(p) != openAIKey && (baseURL == "" || p == langchain.Bedrock):
		return c.keys[p]
	case p == openaichat.OpenAI && baseURL == "":
		return c.Model.apiKey
	}
	return ""
}

// modelSecrets are the keys of the environment, to be masked everywhere.
func (c Config) modelSecrets() []string {
	return append(slices.Collect(maps.Values(c.keys)), c.Model.apiKey)
}

// checkModels reports what is wrong with the sections model and models.
func (c Config) checkModels() error {
	if c.Model.Window < 0 {
		return fmt.Errorf("model.window %d: a context window is a positive number of tokens", c.Model.Window)
	}
	for _, name := range append([]string{c.Model.Name}, c.Model.Fallback...) {
		if name != "" && name != Offline && !isModelName(name) {
			return fmt.Errorf("model %q is neither %q nor PROVIDER/NAME, for example openai/gpt-5-mini or vllm/qwen3-32b", name, Offline)
		}
	}
	seen := map[string]bool{}
	for i, m := range c.Models {
		switch {
		case !isModelName(m.Name):
			return fmt.Errorf("models[%d].name %q is not PROVIDER/NAME, for example anthropic/claude-sonnet-4-5", i, m.Name)
		case seen[m.Name]:
			return fmt.Errorf("models[%d].name %q stands twice: keep one", i, m.Name)
		case m.Window < 0:
			return fmt.Errorf("models[%d].window %d: a context window is a positive number of tokens, 0 is unknown", i, m.Window)
		case m.InputPrice < 0 || m.OutputPrice < 0:
			return fmt.Errorf("models[%d]: inputPrice %g and outputPrice %g are US dollars per million tokens and not negative", i, m.InputPrice, m.OutputPrice)
		case m.NoTools && isLangchain(m.Name):
			return fmt.Errorf("models[%d].noTools: %s has tools; give a model without them as compatible/NAME", i, m.Name)
		}
		seen[m.Name] = true
	}
	return nil
}

func isModelName(name string) bool {
	p, model, ok := strings.Cut(name, "/")
	return ok && p != "" && model != ""
}

func isLangchain(name string) bool { return slices.Contains(langchain.Providers(), provider(name)) }

// entry describes a model that the configuration names: one of models, else the
// section model, whose endpoint its fallbacks share.
func (c Config) entry(name string) (ModelEntry, bool) {
	if i := slices.IndexFunc(c.Models, func(m ModelEntry) bool { return m.Name == name }); i >= 0 {
		m := c.Models[i]
		if m.APIKeyFile == "" {
			m.apiKey = c.envKey(m.Name, m.BaseURL)
		}
		return m, true
	}
	m := c.Model
	own := ModelEntry{Name: name, BaseURL: m.BaseURL, APIKeyFile: m.APIKeyFile, apiKey: m.apiKey, NoTools: m.NoTools, Window: m.Window, InputPrice: m.InputPrice, OutputPrice: m.OutputPrice}
	if keyEnv(provider(name)) != openAIKey { // what the environment says of OpenAI is not meant for it
		if m.baseEnv {
			own.BaseURL = ""
		}
		own.apiKey = c.envKey(name, own.BaseURL)
	}
	return own, name == m.Name || slices.Contains(m.Fallback, name)
}

// chain gives the models that are asked, in order: those of the configuration, or the
// one that is named. None means offline.
func (c Config) chain(name string) ([]ModelEntry, error) {
	names := []string{name}
	if name == "" || name == c.Model.Name {
		names = append([]string{c.Model.Name}, c.Model.Fallback...)
	}
	if names[0] == Offline || names[0] == "" {
		return nil, nil
	}
	var out []ModelEntry
	for _, n := range names {
		if n == Offline { // what is offline answers always: nothing comes after it
			break
		}
		m, ok := c.entry(n)
		if !ok {
			return nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("there is no model %q here", n), Fix: "see the sections model and models of the configuration"}
		}
		out = append(out, m)
	}
	return out, nil
}

// openModel makes the model that is named, empty for the configured one with its
// fallbacks; nil when offline. close is never nil.
func openModel(c Config, name string, mask func(string) string, sink event.Sink) (llm.Model, func(), error) {
	entries, err := c.chain(name)
	if err != nil || len(entries) == 0 {
		return nil, func() {}, err
	}
	var models []llm.Model
	var closers []func()
	closeAll := func() {
		for _, f := range closers {
			f()
		}
	}
	for _, e := range entries {
		m, closer, err := oneModel(e, mask)
		if err != nil {
			closeAll()
			return nil, func() {}, &tool.Error{Kind: tool.Invalid, User: err.Error(), Err: err}
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

func oneModel(e ModelEntry, mask func(string) string) (llm.Model, func(), error) {
	key := e.apiKey
	if e.APIKeyFile != "" {
		raw, err := os.ReadFile(e.APIKeyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("apiKeyFile of model %s: %w", e.Name, err)
		}
		key = strings.TrimSpace(string(raw))
	}
	if p, name, ok := strings.Cut(e.Name, "/"); ok && isLangchain(e.Name) {
		m, err := langchain.New(langchain.Config{Provider: p, Name: name, BaseURL: e.BaseURL, APIKey: key, Window: e.Window, InputPrice: e.InputPrice, OutputPrice: e.OutputPrice, Redact: mask})
		if err != nil {
			return nil, nil, err
		}
		return m, m.Close, nil
	}
	p, name, err := openaichat.Parse(e.Name)
	if err != nil {
		return nil, nil, fmt.Errorf("%w, %s", err, strings.Join(langchain.Providers(), ", "))
	}
	m, err := openaichat.New(openaichat.Config{Provider: p, Name: name, BaseURL: e.BaseURL, APIKey: key, Window: e.Window,
		InputPrice: e.InputPrice, OutputPrice: e.OutputPrice, NoTools: e.NoTools, Redact: mask})
	if err != nil {
		return nil, nil, err
	}
	return m, func() { m.Close() }, nil
}

// modelList lists the models that can be switched to, the configured one first and
// offline last.
func modelList(c Config) []session.Model {
	out := []session.Model{}
	add := func(name string) {
		m, ok := c.entry(name)
		if !ok || name == Offline || name == "" || slices.ContainsFunc(out, func(o session.Model) bool { return o.Name == name }) {
			return
		}
		out = append(out, session.Model{Name: name, Window: m.Window, InputPrice: m.InputPrice, OutputPrice: m.OutputPrice, Default: name == c.Model.Name})
	}
	add(c.Model.Name)
	for _, n := range c.Model.Fallback {
		add(n)
	}
	for _, m := range c.Models {
		add(m.Name)
	}
	return append(out, session.Model{Name: Offline, Default: c.Model.Name == "" || c.Model.Name == Offline})
}
