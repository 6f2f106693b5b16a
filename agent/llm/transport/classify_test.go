package transport

import (
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

func TestKinds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status int
		body   string
		want   llm.ErrorKind
	}{
		{400, `{"error":{"message":"This model's maximum context length is 4096 tokens","code":"context_length_exceeded"}}`, llm.Overflow},
		{400, `{"error":{"message":"prompt is too long: 250000 tokens > 200000 maximum","type":"invalid_request_error"}}`, llm.Overflow},
		{422, `{"error":"Input validation error: ` + "`inputs` tokens + `max_new_tokens`" + ` must be <= 4096","error_type":"validation"}`, llm.Overflow},
		{500, `{"error":{"code":500,"message":"the request exceeds the available context size. try increasing the context size"}}`, llm.Overflow},
		{429, `{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 41000.","code":"rate_limit_exceeded"}}`, llm.Overflow},
		{429, `slow down`, llm.RateLimited},
		{429, `{"error":{"code":"insufficient_quota"}}`, llm.Auth},
		{402, `{"error":{"message":"Insufficient Balance"}}`, llm.Auth},
		{400, `{"error":{"code":"model_not_found","message":"x"}}`, llm.NoModel},
		{400, `{"error":{"message":"openai/foo is not a valid model ID"}}`, llm.NoModel},
		{400, `{"error":{"message":"tool f not found"}}`, llm.BadRequest},
		{404, `{"object":"error","message":"The model 'x' does not exist.","type":"NotFoundError","code":404}`, llm.NoModel},
		{404, `{"detail":"Not Found"}`, llm.NotAModel},
		{405, `{"detail":"Method Not Allowed"}`, llm.NotAModel},
		{408, ``, llm.Server},
		{418, `tea`, llm.BadRequest},
		{500, `{"error":{"message":"boom"}}`, llm.Server},
		{500, `{"error":{"type":"overloaded_error"}}`, llm.Overloaded},
		{503, `no healthy upstream`, llm.Overloaded},
		{529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, llm.Overloaded},
		{0, `{"error":{"type":"rate_limit_error","message":"x"}}`, llm.RateLimited},
		{0, `{"error":{"type":"invalid_request_error","message":"x"}}`, llm.BadRequest},
		{0, `{"error":{"type":"authentication_error","message":"x"}}`, llm.Auth},
		{0, `{"error":"boom"}`, llm.Server},
		{0, `[{"error":{"status":"RESOURCE_EXHAUSTED","message":"x"}}]`, llm.RateLimited},
	} {
		if got := parseFault([]byte(tc.body)).kind(tc.status); got != tc.want {
			t.Errorf("%d %s: %s, want %s", tc.status, tc.body, got, tc.want)
		}
	}
}

func TestFaultMessages(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"error":{"message":"a"}}`:                       "a",
		`{"error":"a"}`:                                   "a",
		`{"error":{"message":["a","b"]}}`:                 "a",
		`{"object":"error","message":"a"}`:                "a",
		`{"detail":"a"}`:                                  "a",
		`{"detail":[{"msg":"a"}]}`:                        "a",
		`{"errors":[{"message":"a"}]}`:                    "a",
		`[{"error":{"message":"a"}}]`:                     "a",
		`{"choices":[{"error":{"message":"a"}}]}`:         "a",
		`{"error":{"error":{"error":{"error":{"x":1}}}}}`: "",
		`plain`:                        "plain",
		`{"error":null,"message":"a"}`: "a",
		``:                             "",
	} {
		if got := parseFault([]byte(body)).message; got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestHasFault(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{"choices":[],"error":{"message":"x"}}`:  true,
		`{"error":"x"}`:                           true,
		`{"error":null}`:                          false,
		`{"error":{}}`:                            false,
		`{"error":""}`:                            false,
		`{"object":"error"}`:                      true,
		`{"type":"error"}`:                        true,
		`{"choices":[{"finish_reason":"error"}]}`: true,
		`{"choices":[{"delta":{"content":"error: \"error\": 1"}}]}`: false,
		`[{"error":{"message":"x"}}]`:                               true,
		`[]`:                                                        false,
		`"error"`:                                                   false,
	} {
		if got := hasFault([]byte(body)); got != want {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
}
