package openaichat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
)

const canary = "key-canary-1234"

func TestParse(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string][2]string{
		"openai/gpt-5-mini":   {"openai", "gpt-5-mini"},
		"vllm/Qwen/Qwen3-32B": {"vllm", "Qwen/Qwen3-32B"},
		"ollama/qwen3:8b":     {"ollama", "qwen3:8b"},
		"llm-d/m":             {"llm-d", "m"},
		"azure/deployment":    {"azure", "deployment"},
		"compatible/m":        {"compatible", "m"},
	} {
		provider, name, err := openaichat.Parse(spec)
		if diff := cmp.Diff(want, [2]string{provider, name}); err != nil || diff != "" {
			t.Errorf("%s: %v %s", spec, err, diff)
		}
	}
	for _, spec := range []string{"", "gpt-5", "openai/", "/m", "nobody/m"} {
		if _, _, err := openaichat.Parse(spec); err == nil || !strings.Contains(err.Error(), "openai, azure") {
			t.Errorf("%q: error %v, want one that names the providers", spec, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config openaichat.Config
		says   string
	}{
		"no provider":      {openaichat.Config{Name: "m"}, "unknown provider"},
		"unknown provider": {openaichat.Config{Provider: "x", Name: "m"}, "unknown provider"},
		"no name":          {openaichat.Config{Provider: "ollama"}, "PROVIDER/NAME"},
		"no key":           {openaichat.Config{Provider: "openai", Name: "m"}, "API key is empty"},
		"no address":       {openaichat.Config{Provider: "compatible", Name: "m", APIKey: canary}, "base URL is empty"},
		"no URL":           {openaichat.Config{Provider: "compatible", Name: "m", BaseURL: "host:80/v1"}, "no http or https"},
		"broken URL":       {openaichat.Config{Provider: "compatible", Name: "m", BaseURL: "http://u:" + canary + "@%zz"}, "no http or https"},
		"other scheme":     {openaichat.Config{Provider: "compatible", Name: "m", BaseURL: "ftp://u:" + canary + "@h"}, "no http or https"},
		"key with an end":  {openaichat.Config{Provider: "openai", Name: "m", APIKey: canary + "\n"}, "white space"},
		"negative window":  {openaichat.Config{Provider: "ollama", Name: "m", Window: -1}, "negative"},
	} {
		_, err := openaichat.New(tc.config)
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: error %v, want %q and no secret", name, err, tc.says)
		}
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		provider, name string
		window, want   int
	}{
		{"openai", "gpt-4o", 0, 128_000},
		{"openai", "gpt-4o-mini-2024-07-18", 0, 128_000},
		{"openai", "gpt-4.1-nano", 0, 1_047_576},
		{"openai", "gpt-5-mini", 0, 400_000},
		{"openai", "gpt-5-chat-latest", 0, 128_000},
		{"openai", "gpt-5.9", 0, 0},
		{"openai", "o3", 0, 200_000},
		{"openai", "gpt-4o", 9_000, 9_000},
		{"vllm", "gpt-4o", 0, 0},
		{"openai", "somebody-else", 0, 0},
	} {
		m := open(t, openaichat.Config{Provider: tc.provider, Name: tc.name, APIKey: canary, Window: tc.window, InputPrice: 1, OutputPrice: 2})
		want := llm.Info{Provider: tc.provider, Name: tc.name, Window: tc.want, Tools: true, InputPrice: 1, OutputPrice: 2}
		if diff := cmp.Diff(want, m.Info()); diff != "" {
			t.Errorf("%s/%s: %s", tc.provider, tc.name, diff)
		}
	}
}

func TestKeyNeverShows(t *testing.T) {
	t.Parallel()
	c := quick("http://user:" + canary + "@h/v1?key=" + canary)
	m := open(t, c)
	asJSON, err := json.Marshal(struct{ C openaichat.Config }{openaichat.Config{APIKey: canary}})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", c, "model", m)
	shown := map[string]string{"JSON": string(asJSON), "log": log.String()}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		shown["config "+format] = fmt.Sprintf(format, c)
		shown["within "+format] = fmt.Sprintf(format, struct{ C openaichat.Config }{c})
		shown["model "+format] = fmt.Sprintf(format, m)
		shown["in model "+format] = fmt.Sprintf(format, struct{ M *openaichat.Model }{m})
	}
	for where, text := range shown {
		if strings.Contains(text, canary) {
			t.Errorf("%s: %s", where, text)
		}
	}
}

// TestKeyInAnswers: servers repeat the key in their messages, bodies and pages.
func TestKeyInAnswers(t *testing.T) {
	for name, step := range map[string]llmtest.Step{
		"json":    llmtest.Fail(401, `{"error":{"message":"Incorrect API key provided: `+canary+`."}}`),
		"text":    llmtest.Fail(400, "Authorization: Bearer "+canary+" refused"),
		"shape":   llmtest.Fail(400, "somebody's sk-proj-AbCdEf0123456789AbCdEf was refused"),
		"stream":  llmtest.Events(llmtest.TextChunk("a"), `{"error":{"message":"key `+canary+`"}}`),
		"headers": llmtest.Fail(302, "", "Location", "https://h/?k="+canary),
	} {
		t.Run(name, func(t *testing.T) {
			srv := llmtest.NewServer(t, step)
			c := quick(srv.URL)
			_, err := llm.Collect(t.Context(), open(t, c), llm.Request{}, nil)
			if err == nil {
				t.Fatal("no error")
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				if s := fmt.Sprintf("%v %+v %#v", e, e, e); strings.Contains(s, canary) || strings.Contains(s, "AbCdEf0123") {
					t.Errorf("the key shows: %s", s)
				}
			}
			if got := srv.Last().Header.Get("Authorization"); got != "Bearer "+canary {
				t.Errorf("the server got %q", got)
			}
		})
	}
}

func TestProviders(t *testing.T) {
	reply := llmtest.Reply(llmtest.Answer{Text: "a"})
	ask := func(t *testing.T, c openaichat.Config, srv *llmtest.Server) llmtest.Request {
		t.Helper()
		if _, err := llm.Collect(t.Context(), open(t, c), llm.Request{MaxTokens: 9}, nil); err != nil {
			t.Fatal(err)
		}
		return srv.Last()
	}
	t.Run("azure", func(t *testing.T) {
		srv := llmtest.NewServer(t, reply)
		c := quick(strings.TrimSuffix(srv.URL, "/v1") + "/")
		c.Provider, c.Name = openaichat.Azure, "gpt-3.5:my"
		r := ask(t, c, srv)
		if r.Path != "/openai/deployments/gpt-3.5:my/chat/completions?api-version=2024-10-21" || r.Header.Get("Api-Key") != canary || r.Header.Get("Authorization") != "" {
			t.Errorf("path %s, header %v", r.Path, r.Header)
		}
		if r.Fields["max_completion_tokens"] == nil || r.Fields["max_tokens"] != nil {
			t.Errorf("fields %v", r.Fields)
		}
	})
	t.Run("azure, newer address", func(t *testing.T) {
		srv := llmtest.NewServer(t, reply)
		c := quick(strings.TrimSuffix(srv.URL, "/v1") + "/openai/v1/")
		c.Provider = openaichat.Azure
		if r := ask(t, c, srv); r.Path != "/openai/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer "+canary {
			t.Errorf("path %s, header %v", r.Path, r.Header)
		}
	})
	t.Run("openai", func(t *testing.T) {
		srv := llmtest.NewServer(t, reply)
		c := quick(srv.URL)
		c.Provider, c.Organization = openaichat.OpenAI, "org-1"
		if r := ask(t, c, srv); r.Header.Get("OpenAI-Organization") != "org-1" || string(r.Fields["max_completion_tokens"]) != "9" {
			t.Errorf("header %v, fields %v", r.Header, r.Fields)
		}
	})
	t.Run("no key, full address, extra fields", func(t *testing.T) {
		srv := llmtest.NewServer(t, reply)
		c := quick(srv.URL + "/chat/completions")
		c.Provider, c.APIKey = openaichat.VLLM, ""
		c.Extra = map[string]any{"top_k": 1, "model": "other", "chat_template_kwargs": map[string]any{"enable_thinking": false}}
		r := ask(t, c, srv)
		if r.Header.Get("Authorization") != "" || r.Path != "/v1/chat/completions" || r.Model != "m" || string(r.Fields["max_tokens"]) != "9" ||
			string(r.Fields["top_k"]) != "1" || string(r.Fields["chat_template_kwargs"]) != `{"enable_thinking":false}` {
			t.Errorf("path %s, header %v, fields %s", r.Path, r.Header, r.Fields)
		}
		if len(c.Extra) != 3 || c.Extra["model"] != "other" {
			t.Error("the caller's map was changed")
		}
	})
	t.Run("no tools", func(t *testing.T) {
		srv := llmtest.NewServer(t, reply)
		c := quick(srv.URL)
		c.NoTools = true
		m := open(t, c)
		if _, err := llm.Collect(t.Context(), m, llm.Request{Tools: []llm.ToolDef{{Name: "f"}}, Require: "f"}, nil); err != nil {
			t.Fatal(err)
		}
		if r := srv.Last(); len(r.Tools) > 0 || r.Fields["tool_choice"] != nil || m.Info().Tools {
			t.Errorf("tools were sent: %v", r.Fields)
		}
	})
}

// TestHabits: a refused field is left out, at once and from then on.
func TestHabits(t *testing.T) {
	refuse := func(text string) llmtest.Step {
		return llmtest.Fail(400, `{"error":{"message":"`+text+`","type":"invalid_request_error"}}`)
	}
	say := llmtest.Say("a")
	req := llm.Request{MaxTokens: 9, Tools: []llm.ToolDef{{Name: "f"}, {Name: "g"}}, Require: "g"}
	for name, tc := range map[string]struct {
		text  string
		check func(r llmtest.Request) bool
	}{
		"temperature": {"Unsupported value: 'temperature' does not support 0 with this model.", func(r llmtest.Request) bool { return r.Fields["temperature"] == nil }},
		"limit": {"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", func(r llmtest.Request) bool {
			return r.Fields["max_tokens"] == nil && string(r.Fields["max_completion_tokens"]) == "9"
		}},
		"stream options": {"extra fields not permitted: stream_options", func(r llmtest.Request) bool { return r.Fields["stream_options"] == nil }},
		"tool choice": {"tool_choice is not supported", func(r llmtest.Request) bool {
			return r.Fields["tool_choice"] == nil && len(r.Tools) == 1 && r.HasTool("g")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := llmtest.NewServer(t, refuse(tc.text), say, say)
			m := open(t, quick(srv.URL))
			for range 2 {
				if _, err := llm.Collect(t.Context(), m, req, nil); err != nil {
					t.Fatal(err)
				}
				if !tc.check(srv.Last()) {
					t.Errorf("fields %s", srv.Last().Fields)
				}
			}
			if n := len(srv.Requests()); n != 3 {
				t.Errorf("%d requests, want 3", n)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		srv := llmtest.NewServer(t, refuse("stream_options"), refuse("temperature"), refuse("max_tokens"), refuse("tool_choice"), say)
		if _, err := llm.Collect(t.Context(), open(t, quick(srv.URL)), req, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a server that is never content", func(t *testing.T) {
		srv := llmtest.NewServer(t, llmtest.Forever(refuse("stream_options temperature max_tokens tool_choice")))
		_, err := llm.Collect(t.Context(), open(t, quick(srv.URL)), req, nil)
		if e, ok := errors.AsType[*llm.Error](err); !ok || e.Kind != llm.BadRequest || len(srv.Requests()) > 5 {
			t.Errorf("error %v after %d requests", err, len(srv.Requests()))
		}
	})
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	srv := llmtest.NewServer(t)
	m := open(t, quick(srv.URL))
	for name, req := range map[string]llm.Request{
		"unknown role": {Messages: []llm.Message{{Role: "system", Text: "x"}}},
		"its schema":   {Tools: []llm.ToolDef{{Name: "f", Schema: json.RawMessage(`{`)}}},
	} {
		_, err := llm.Collect(t.Context(), m, req, nil)
		if e, ok := errors.AsType[*llm.Error](err); !ok || e.Kind != llm.BadRequest || !strings.Contains(e.Text, name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestConnectionsAreUsedAgain: a finished stream leaves its connection open.
func TestConnectionsAreUsedAgain(t *testing.T) {
	var ports []string
	srv := llmtest.NewServer(t, llmtest.Times(3, llmtest.Do(func(x *llmtest.Exchange) {
		ports = append(ports, x.Remote)
		x.Reply(llmtest.Answer{Text: "a"})
		time.Sleep(5 * time.Millisecond) // the end of the body comes a little after the end mark
	})))
	m := open(t, quick(srv.URL))
	for range 3 {
		if _, err := llm.Collect(context.Background(), m, llm.Request{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if ports[0] != ports[1] || ports[1] != ports[2] {
		t.Errorf("connections from %v, want one", ports)
	}
}

func TestTooManyCalls(t *testing.T) {
	srv := llmtest.NewServer(t, llmtest.Do(func(x *llmtest.Exchange) {
		x.Event(llmtest.TextChunk("a"))
		for i := range 1100 {
			x.Event(llmtest.CallChunk(i, fmt.Sprint("c", i), "f", "{}"))
		}
		x.Event(llmtest.FinishChunk("tool_calls"), "[DONE]")
	}))
	_, err := llm.Collect(t.Context(), open(t, quick(srv.URL)), llm.Request{}, nil)
	if err == nil || !strings.Contains(err.Error(), "more than 1024 tool calls") {
		t.Errorf("error %v", err)
	}
}

// lingering is a body that stays open after its text.
type lingering struct {
	io.Reader
	ctx context.Context
}

func (l *lingering) Read(p []byte) (int, error) {
	if n, err := l.Reader.Read(p); err == nil {
		return n, nil
	}
	<-l.ctx.Done()
	return 0, l.ctx.Err()
}

func (l *lingering) Close() error { return nil }

type trip func(*http.Request) (*http.Response, error)

func (t trip) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// TestAnOpenEndIsNotWaitedFor: with the finish reason the answer is whole.
func TestAnOpenEndIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := quick("http://model.example/v1")
		c.Idle, c.Wait = 0, 0 // the usual ones: minutes
		c.HTTP = trip(func(r *http.Request) (*http.Response, error) {
			body := strings.NewReader("data: " + llmtest.TextChunk("a") + "\n\ndata: " + llmtest.FinishChunk("stop") + "\n\n")
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: &lingering{body, r.Context()}}, nil
		})
		started := time.Now()
		turn, err := llm.Collect(t.Context(), open(t, c), llm.Request{}, nil)
		if took := time.Since(started); err != nil || turn.Text != "a" || took > 5*time.Second {
			t.Errorf("turn %+v, error %v, after %s", turn, err, took)
		}
	})
}
