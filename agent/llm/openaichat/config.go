// Package openaichat talks to servers that speak the OpenAI chat-completions
// protocol: OpenAI, Azure OpenAI, vLLM, llm-d, Ollama and any compatible base
// URL. It builds on github.com/sashabaranov/go-openai for requests and framing,
// and on package transport for everything in which that library is too trusting.
package openaichat

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

// Providers.
const (
	OpenAI     = "openai"
	Azure      = "azure"
	VLLM       = "vllm"
	LLMD       = "llm-d"
	Ollama     = "ollama"
	Compatible = "compatible"
)

// azureVersion is the newest stable version of Azure's deployment-scoped API
// (learn.microsoft.com, "Azure OpenAI REST API reference", data plane).
const azureVersion = "2024-10-21"

// Config of a model. Provider and Name are required; what else is depends on
// the provider. The key does not appear when a Config is printed or logged.
type Config struct {
	Provider string
	// Name of the model; with Azure, of the deployment.
	Name string
	// BaseURL up to, not including, "/chat/completions". Empty means OpenAI's own
	// for openai, and the usual local port for vllm and ollama; the rest need it.
	BaseURL string
	// APIKey may be empty for servers that want none.
	APIKey string `json:"-"`
	// Organization for OpenAI, APIVersion for Azure; both may be empty.
	Organization, APIVersion string
	// Window in tokens; 0 means what is known of the name, else unknown.
	Window int
	// Prices in US dollars per million tokens; 0 means unknown.
	InputPrice, OutputPrice float64
	// NoTools says that the model takes no tool definitions; they are not sent.
	NoTools bool
	// Extra are further fields of the request body, for options of one vendor.
	Extra map[string]any
	// Wait and Idle bound the server's silence, see transport.Options.
	Wait, Idle time.Duration
	// Retry bounds the retries before the first part is delivered.
	Retry transport.Policy `json:"-"`
	// Redact masks text of the server in errors, beyond the key and the usual
	// shapes of credentials; it may be nil.
	Redact func(string) string `json:"-"`
	// HTTP carries the requests; nil means an own transport.
	HTTP http.RoundTripper `json:"-"`
}

// String describes the model without the key.
func (c Config) String() string {
	key := "no key"
	if c.APIKey != "" {
		key = "key set"
	}
	return fmt.Sprintf("%s/%s at %s (%s)", c.Provider, c.Name, place(c.BaseURL), key)
}

// GoString keeps the key out of %#v.
func (c Config) GoString() string { return c.String() }

// LogValue keeps the key out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// place shows a base URL without credentials and query.
func place(base string) string {
	if base == "" {
		return "the default address"
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return "an invalid address"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// Parse splits "PROVIDER/NAME". The name may hold slashes, as in
// "vllm/Qwen/Qwen3-32B".
func Parse(spec string) (provider, name string, err error) {
	provider, name, found := strings.Cut(spec, "/")
	if !found || name == "" {
		return "", "", fmt.Errorf("model %q: want PROVIDER/NAME, with a provider of %s", spec, strings.Join(providers(), ", "))
	}
	if slices.Contains(providers(), provider) {
		return provider, name, nil
	}
	return "", "", fmt.Errorf("model %q: unknown provider %q; want one of %s", spec, provider, strings.Join(providers(), ", "))
}

func providers() []string { return []string{OpenAI, Azure, VLLM, LLMD, Ollama, Compatible} }

// complete checks a configuration and fills in what follows from the provider.
func (c Config) complete() (Config, error) {
	if _, _, err := Parse(c.Provider + "/" + c.Name); err != nil {
		return c, err
	}
	if c.BaseURL == "" {
		switch c.Provider {
		case OpenAI:
			c.BaseURL = "https://api.openai.com/v1"
		case VLLM:
			c.BaseURL = "http://localhost:8000/v1"
		case Ollama:
			c.BaseURL = "http://localhost:11434/v1"
		default:
			return c, fmt.Errorf("model %s/%s: base URL is empty; set it to the server's address, up to and without /chat/completions", c.Provider, c.Name)
		}
	}
	c.BaseURL = strings.TrimSuffix(strings.TrimRight(c.BaseURL, "/"), "/chat/completions")
	// The parser's own error would repeat the address with its credentials.
	u, err := url.Parse(c.BaseURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return c, fmt.Errorf("model %s/%s: the base URL is no http or https address; write it like https://host/v1", c.Provider, c.Name)
	}
	if c.APIKey == "" && (c.Provider == OpenAI || c.Provider == Azure) {
		return c, fmt.Errorf("model %s/%s: API key is empty; this provider needs one", c.Provider, c.Name)
	}
	if strings.ContainsAny(c.APIKey, "\r\n\x00") || strings.TrimSpace(c.APIKey) != c.APIKey {
		return c, fmt.Errorf("model %s/%s: the API key has white space around or line ends in it; remove them", c.Provider, c.Name)
	}
	if c.Window < 0 || c.InputPrice < 0 || c.OutputPrice < 0 {
		return c, errors.New("model " + c.Provider + "/" + c.Name + ": window and prices must not be negative; 0 means unknown")
	}
	if c.APIVersion == "" {
		c.APIVersion = azureVersion
	}
	if c.Window == 0 {
		c.Window = knownWindow(c.Provider, c.Name)
	}
	return c, nil
}

// info is what the configuration says about the model.
func (c Config) info() llm.Info {
	return llm.Info{Provider: c.Provider, Name: c.Name, Window: c.Window, Tools: !c.NoTools,
		InputPrice: c.InputPrice, OutputPrice: c.OutputPrice}
}

// knownWindow gives the context size of OpenAI's hosted models, from the model
// pages at platform.openai.com/docs/models. For servers of one's own the window
// is a start option (--max-model-len, num_ctx), so that no name tells it.
func knownWindow(provider, name string) int {
	if provider != OpenAI && provider != Azure {
		return 0
	}
	for _, known := range []struct {
		prefix string
		window int
	}{
		{"gpt-5-chat", 128_000},
		{"gpt-5", 400_000},
		{"gpt-4.1", 1_047_576},
		{"gpt-4o", 128_000},
		{"gpt-4-turbo", 128_000},
		{"o1-mini", 128_000},
		{"o1-preview", 128_000},
		{"o1", 200_000},
		{"o3", 200_000},
		{"o4-mini", 200_000},
		{"gpt-3.5-turbo", 16_385},
	} {
		// A whole name, or one with a date or a size behind it: "gpt-5.1" may differ.
		if rest, ok := strings.CutPrefix(name, known.prefix); ok && (rest == "" || rest[0] == '-') {
			return known.window
		}
	}
	return 0
}
