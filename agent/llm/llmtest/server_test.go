package llmtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
)

// post sends a body as any HTTP client would and returns status and answer.
func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	res, err := http.Post(url+"/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, _ := io.ReadAll(res.Body) // a cut answer is read as far as it came
	return res.StatusCode, string(got)
}

const asks = `{"model":"m","stream":%STREAM%,"stream_options":{"include_usage":true},"temperature":0,
"messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"why"}]},
{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"kube_get","arguments":"{}"}}]},
{"role":"tool","tool_call_id":"c1","content":"Forbidden"}],
"tools":[{"type":"function","function":{"name":"kube_get","description":"gets","parameters":{"type":"object"}}}]}`

func TestServerDecodesRequests(t *testing.T) {
	t.Parallel()
	srv := llmtest.NewServer(t, llmtest.When(func(r llmtest.Request) llmtest.Step {
		if r.LastText() == "Forbidden" && r.HasTool("kube_get") && r.Contains("be brief") {
			return llmtest.Say("I may not see it.")
		}
		return llmtest.Fail(400, "wrong")
	}))
	status, body := post(t, srv.URL, strings.ReplaceAll(asks, "%STREAM%", "false"))
	if status != 200 || !strings.Contains(body, `"content":"I may not see it."`) {
		t.Fatalf("status %d, body %s", status, body)
	}
	got := srv.Last()
	want := []llm.Message{
		{Role: llm.User, Text: "why"},
		{Role: llm.Assistant, Calls: []llm.Call{{ID: "c1", Name: "kube_get", Args: "{}"}}},
		{Role: llm.Tool, Text: "Forbidden", CallID: "c1"},
	}
	if diff := cmp.Diff(want, got.Messages); diff != "" {
		t.Error(diff)
	}
	if got.System != "be brief" || got.Model != "m" || got.Stream || !got.Usage || string(got.Fields["temperature"]) != "0" {
		t.Errorf("decoded %+v", got)
	}
	if diff := cmp.Diff([]string{"Forbidden"}, got.Results()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]llm.ToolDef{{Name: "kube_get", Text: "gets", Schema: json.RawMessage(`{"type":"object"}`)}}, got.Tools); diff != "" {
		t.Error(diff)
	}
}

func TestServerStreams(t *testing.T) {
	t.Parallel()
	srv := llmtest.NewServer(t,
		llmtest.Reply(llmtest.Answer{Reasoning: "hm", Text: "größer", Calls: []llm.Call{llmtest.Call("a", `{"x":`)}}),
		llmtest.Cut("half"),
		llmtest.Times(2, llmtest.RateLimit("Retry-After", "7")),
		llmtest.Forever(llmtest.Say("again")))
	if srv.Left() != 4 {
		t.Errorf("left %d, want 4", srv.Left())
	}
	body := strings.ReplaceAll(asks, "%STREAM%", "true")
	_, got := post(t, srv.URL, body)
	var text, args strings.Builder
	for line := range strings.Lines(got) {
		payload, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || payload == "[DONE]" {
			continue
		}
		var c struct {
			Choices []struct {
				Delta struct {
					Content   string
					ToolCalls []struct{ Function struct{ Arguments string } } `json:"tool_calls"`
				}
			}
		}
		if err := json.Unmarshal([]byte(payload), &c); err != nil {
			t.Fatalf("%v: %s", err, payload)
		}
		for _, ch := range c.Choices {
			text.WriteString(ch.Delta.Content)
			for _, tc := range ch.Delta.ToolCalls {
				args.WriteString(tc.Function.Arguments)
			}
		}
	}
	if text.String() != "größer" || args.String() != `{"x":` {
		t.Errorf("text %q, args %q", text.String(), args.String())
	}
	if !strings.Contains(got, `"finish_reason":"tool_calls"`) || !strings.Contains(got, `"prompt_tokens"`) || !strings.HasSuffix(got, "data: [DONE]\n\n") {
		t.Errorf("stream lacks its end:\n%s", got)
	}
	if _, got = post(t, srv.URL, body); !strings.Contains(got, "half") || strings.Contains(got, "DONE") {
		t.Errorf("cut stream gave %q", got)
	}
	for range 2 {
		if status, _ := post(t, srv.URL, body); status != 429 {
			t.Errorf("status %d, want 429", status)
		}
	}
	for range 3 {
		if _, got = post(t, srv.URL, body); !strings.Contains(got, "[DONE]") {
			t.Errorf("repeated step gave %q", got)
		}
	}
	if n := len(srv.Requests()); n != 7 {
		t.Errorf("requests %d, want 7", n)
	}
}

// recorder keeps what a test helper reports instead of failing the test.
type recorder struct {
	testing.TB
	errs bytes.Buffer
}

func (r *recorder) Errorf(format string, _ ...any) { r.errs.WriteString(format) }

func TestServerReportsMisuse(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"beyond the script":            strings.ReplaceAll(asks, "%STREAM%", "true"),
		"no JSON":                      `{`,
		"tool result without content":  `{"messages":[{"role":"tool","tool_call_id":"c1"}]}`,
		"content of an unknown format": `{"messages":[{"role":"user","content":5}]}`,
	} {
		r := &recorder{TB: t}
		srv := llmtest.NewServer(r)
		if status, _ := post(t, srv.URL, body); status < 400 {
			t.Errorf("%s: status %d", name, status)
		}
		if r.errs.Len() == 0 {
			t.Errorf("%s: the test was not failed", name)
		}
	}
	srv := llmtest.NewServer(t)
	res, err := http.Get(srv.URL + "/models")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("status %d, want 404", res.StatusCode)
	}
}
