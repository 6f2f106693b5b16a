package app

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/evals"
)

func configured(t *testing.T, yaml string, env map[string]string) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gumshoe.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(file, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Each model of a chain has its own endpoint, key, window and prices; what the
// environment holds goes to the provider's own address only.
func TestModelResolution(t *testing.T) {
	t.Parallel()
	env := map[string]string{"OPENAI_API_KEY": "openai-key", "OPENAI_BASE_URL": "http://gateway/v1", "ANTHROPIC_API_KEY": "anthropic-key", "MISTRAL_API_KEY": "mistral-key", "AWS_BEARER_TOKEN_BEDROCK": "aws-key"}
	const list = `
model: {name: vllm/qwen3-32b, baseURL: "http://gpu:8000/v1", window: 32768, fallback: [anthropic/claude-x, vllm/small, offline, openai/never]}
models:
- {name: anthropic/claude-x, window: 200000, inputPrice: 3, outputPrice: 15}
- {name: anthropic/proxied, baseURL: "http://proxy/v1"}
- {name: openai/gpt-x, apiKeyFile: /run/key}
- {name: openai/elsewhere, baseURL: "http://other/v1"}
- {name: bedrock/gpt-oss, baseURL: "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1"}
`
	c := configured(t, list, env)
	type got struct{ Name, URL, Key, File string }
	for name, want := range map[string][]got{
		"":                   {{"vllm/qwen3-32b", "http://gpu:8000/v1", "openai-key", ""}, {"anthropic/claude-x", "", "anthropic-key", ""}, {"vllm/small", "http://gpu:8000/v1", "openai-key", ""}},
		"vllm/small":         {{"vllm/small", "http://gpu:8000/v1", "openai-key", ""}},
		"anthropic/claude-x": {{"anthropic/claude-x", "", "anthropic-key", ""}},
		"anthropic/proxied":  {{"anthropic/proxied", "http://proxy/v1", "", ""}},
		"openai/gpt-x":       {{"openai/gpt-x", "", "", "/run/key"}},
		"openai/elsewhere":   {{"openai/elsewhere", "http://other/v1", "", ""}},
		"bedrock/gpt-oss":    {{"bedrock/gpt-oss", "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", "aws-key", ""}},
		"offline":            nil,
	} {
		chain, err := c.chain(name)
		if err != nil {
			t.Fatal(err)
		}
		var have []got
		for _, e := range chain {
			have = append(have, got{e.Name, e.BaseURL, e.apiKey, e.APIKeyFile})
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
	}
	if _, err := c.chain("openai/nobody"); err == nil || !strings.Contains(err.Error(), `no model "openai/nobody"`) {
		t.Errorf("a model that nobody configured: %v", err)
	}
	var names []string
	for _, m := range modelList(c) {
		names = append(names, m.Name)
		if m.Name == "anthropic/claude-x" && (m.Window != 200000 || m.InputPrice != 3 || m.OutputPrice != 15) || m.Default != (m.Name == "vllm/qwen3-32b") {
			t.Errorf("%+v", m)
		}
	}
	if diff := cmp.Diff([]string{"vllm/qwen3-32b", "anthropic/claude-x", "vllm/small", "openai/never", "anthropic/proxied", "openai/gpt-x", "openai/elsewhere", "bedrock/gpt-oss", "offline"}, names); diff != "" {
		t.Error(diff)
	}
	// The address that the environment holds for OpenAI is not Anthropic's, and a flag may
	// come after the environment was read.
	c = configured(t, "{}", env)
	c.Model.Name = "anthropic/claude-x"
	if e, _ := c.entry(c.Model.Name); e.BaseURL != "" || e.apiKey != "anthropic-key" {
		t.Errorf("%+v", e)
	}
	c.Model.Name = "compatible/x"
	if e, _ := c.entry(c.Model.Name); e.BaseURL != "http://gateway/v1" || e.apiKey != "openai-key" {
		t.Errorf("%+v", e)
	}
	secrets := c.modelSecrets()
	for _, k := range []string{"openai-key", "anthropic-key", "mistral-key", "aws-key"} {
		if !slices.Contains(secrets, k) {
			t.Errorf("%s is not masked", k)
		}
	}
}

func TestModelsAreChecked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`[{name: x}]`:                        `models[0].name "x" is not PROVIDER/NAME`,
		`[{}]`:                               `models[0].name "" is not PROVIDER/NAME`,
		`[{name: a/b}, {name: a/b}]`:         `models[1].name "a/b" stands twice`,
		`[{name: a/b, window: -1}]`:          `models[0].window -1`,
		`[{name: a/b, inputPrice: -1}]`:      `models[0]: inputPrice -1`,
		`[{name: mistral/b, noTools: true}]`: `models[0].noTools: mistral/b has tools`,
	} {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte("models: "+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(file, func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, _, err := oneModel(ModelEntry{Name: "anthropic/x", APIKeyFile: "/nowhere/key"}, strings.ToUpper); err == nil || !strings.Contains(err.Error(), "apiKeyFile of model anthropic/x") {
		t.Errorf("%v", err)
	}
	if _, _, err := oneModel(ModelEntry{Name: "nobody/x"}, strings.ToUpper); err == nil || !strings.Contains(err.Error(), "anthropic") {
		t.Errorf("an unknown provider: %v", err)
	}
	if _, _, err := oneModel(ModelEntry{Name: "bedrock/x"}, strings.ToUpper); err == nil || !strings.Contains(err.Error(), "base URL") {
		t.Errorf("bedrock without an address: %v", err)
	}
}

// A run is asked of the model that the session switched to; where a chain falls back,
// the tokens of each model are paid at its own price, also across protocols.
func TestSwitchAndPricesOfAChain(t *testing.T) {
	t.Parallel()
	fsys, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	c, err := evals.Find(fsys, "k8s-service-selector")
	if err != nil {
		t.Fatal(err)
	}
	closing := llmtest.Reply(llmtest.Answer{Text: "I have nothing to add.", Input: 1000, Output: 100})
	dear := llmtest.NewServer(t, llmtest.Forever(llmtest.Fail(401, `{"error":{"message":"no"}}`)))
	cheap := llmtest.NewWireServer(t, llmtest.Anthropic(), llmtest.Forever(closing))
	other := llmtest.NewServer(t, llmtest.Forever(closing))
	cfg := Defaults()
	cfg.Model = ModelConfig{Name: "compatible/dear", BaseURL: dear.URL, InputPrice: 1000, OutputPrice: 1000, Fallback: []string{"anthropic/cheap"}}
	cfg.Models = []ModelEntry{
		{Name: "anthropic/cheap", BaseURL: cheap.URL, InputPrice: 1, OutputPrice: 10},
		{Name: "langchain/other", BaseURL: other.URL, InputPrice: 2, OutputPrice: 20},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	f, err := NewFactory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := f.Stage(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	ask := func(model string) (incident.Report, map[string]int) {
		t.Helper()
		turns := map[string]int{}
		rep, err := a.run(t.Context(), incident.Question{Text: "why does service web not answer", Namespace: "shop"}, runOptions{Model: model, Sink: event.SinkFunc(func(e event.Event) {
			if e.Type == event.ModelEnded {
				turns[e.Model.Name]++
			}
		})})
		if err != nil {
			t.Fatal(err)
		}
		return rep, turns
	}
	near := func(rep incident.Report, in, out float64) bool {
		want := (float64(rep.Usage.InputTokens)*in + float64(rep.Usage.OutputTokens)*out) / 1e6
		return rep.Usage.InputTokens > 0 && math.Abs(rep.Usage.Cost-want) < 1e-9
	}
	rep, turns := ask("")
	if !near(rep, 1, 10) || turns["anthropic/cheap"] == 0 || len(turns) != 1 || len(dear.Requests()) == 0 {
		t.Errorf("over the chain: cost %g of %+v, turns %v", rep.Usage.Cost, rep.Usage, turns)
	}
	asked := len(dear.Requests())
	rep, turns = ask("langchain/other")
	if !near(rep, 2, 20) || turns["langchain/other"] == 0 || len(turns) != 1 || len(dear.Requests()) != asked {
		t.Errorf("switched: cost %g of %+v, turns %v", rep.Usage.Cost, rep.Usage, turns)
	}
	rep, turns = ask(Offline)
	if rep.Usage.Cost != 0 || len(turns) != 0 {
		t.Errorf("offline: %+v %v", rep.Usage, turns)
	}
	if _, err := a.run(t.Context(), incident.Question{Text: "x"}, runOptions{Model: "openai/nobody", Sink: event.SinkFunc(func(event.Event) {})}); err == nil {
		t.Error("a model that nobody configured answers")
	}
	svc := &Service{app: a}
	models, err := svc.Models(t.Context())
	if err != nil || !slices.ContainsFunc(models, func(m session.Model) bool { return m.Name == "langchain/other" && m.InputPrice == 2 }) {
		t.Errorf("%v %+v", err, models)
	}
	if n := (llm.Info{InputPrice: 1}).Cost(1e6, 0); n != 1 {
		t.Errorf("a million tokens at a dollar cost %g", n)
	}
}
