package langchain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/langchain"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "key-canary-1234"

func open(t *testing.T, name, url, apiKey string) *langchain.Model {
	t.Helper()
	return with(t, langchain.Config{Name: name, BaseURL: url, APIKey: apiKey})
}

func with(t *testing.T, c langchain.Config) *langchain.Model {
	t.Helper()
	c.Idle, c.Wait = 500*time.Millisecond, 5*time.Second
	c.Retry = transport.Policy{Pause: time.Millisecond, Longest: 2 * time.Second}
	m, err := langchain.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestContract(t *testing.T) {
	for _, name := range []string{"plain", "o1", "gpt-5-mini"} {
		t.Run(name, func(t *testing.T) {
			llmtest.Run(t, func(t *testing.T, url string) llm.Model { return open(t, name, url, key) }, llmtest.Options{WholeTurn: true})
		})
	}
}

// TestModelsPage in llmtest runs the suite for each of the other providers.
func TestContractOfAnthropic(t *testing.T) {
	llmtest.Run(t, func(t *testing.T, url string) llm.Model {
		return with(t, langchain.Config{Provider: langchain.Anthropic, Name: "m", BaseURL: url, APIKey: key})
	}, llmtest.Options{WholeTurn: true, Wire: llmtest.Anthropic()})
}

func TestNoKeyMeansNoCredentials(t *testing.T) {
	srv := llmtest.NewServer(t, llmtest.Times(2, llmtest.Say("a")))
	for _, k := range []string{"", key} {
		if _, err := llm.Collect(t.Context(), open(t, "m", srv.URL, k), llm.Request{}, nil); err != nil {
			t.Fatal(err)
		}
		want := ""
		if k != "" {
			want = "Bearer " + key
		}
		if got := srv.Last().Header.Get("Authorization"); got != want {
			t.Errorf("Authorization %q, want %q", got, want)
		}
	}
}

func TestEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "env-key")
	t.Setenv("OPENAI_BASE_URL", "http://192.0.2.1/v1")
	t.Setenv("OPENAI_MODEL", "env-model")
	t.Setenv("OPENAI_ORGANIZATION", "env-org")
	srv := llmtest.NewServer(t, llmtest.Say("a"))
	if _, err := llm.Collect(t.Context(), open(t, "m", srv.URL, ""), llm.Request{}, nil); err != nil {
		t.Fatal(err)
	}
	r := srv.Last()
	if r.Model != "m" || r.Header.Get("OpenAI-Organization") != "" || strings.Contains(fmt.Sprint(r.Header), "env-") {
		t.Errorf("model %q, header %v", r.Model, r.Header)
	}
}

func TestUnknownFormsAreErrors(t *testing.T) {
	for _, body := range []string{
		`{"choices":[{"message":5}]}`,
		`{"choices":[{"message":{"tool_calls":["junk"]}}]}`,
		`{"choices":[]}`,
		`{"choices":{}}`,
	} {
		srv := llmtest.NewServer(t, llmtest.Forever(llmtest.Fail(200, body)))
		got, err := llm.Collect(t.Context(), open(t, "m", srv.URL, key), llm.Request{}, nil)
		var failed *llm.Error
		if !errors.As(err, &failed) || !failed.Retryable() {
			t.Errorf("%s: turn %+v, error %v", body, got, err)
		}
	}
}

func TestChoicesAreMerged(t *testing.T) {
	srv := llmtest.NewServer(t, llmtest.Do(func(x *llmtest.Exchange) {
		x.Status(200, "application/json", `{"usage":{"prompt_tokens":3,"completion_tokens":4},"choices":[
			{"message":{"content":[{"type":"text","text":"one "},{"type":"text","text":"two"}]},"finish_reason":"stop"},
			{"message":{"content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":{"x":1}}}]},"finish_reason":"tool_calls"}]}`)
	}))
	got, err := llm.Collect(t.Context(), open(t, "m", srv.URL, key), llm.Request{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := llm.Turn{Text: "one two", Calls: []llm.Call{{ID: "c1", Name: "f", Args: `{"x":1}`}}, Input: 3, Output: 4, Reason: llm.FinishCalls}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]langchain.Config{
		"name":        {BaseURL: "http://x/v1"},
		"base URL is": {Name: "m", APIKey: key},
		"http":        {Name: "m", BaseURL: "ftp://user:" + key + "@x", APIKey: key},
	} {
		_, err := langchain.New(c)
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), key) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	c := langchain.Config{Name: "m", BaseURL: "http://x", APIKey: key, Window: 7}
	m, err := langchain.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format+" "+format, c, m); strings.Contains(s, key) {
			t.Errorf("%s prints the key: %s", format, s)
		}
	}
	if m.Info().Window != 7 || m.Info().String() != "langchain/m" {
		t.Errorf("info %+v", m.Info())
	}
}
