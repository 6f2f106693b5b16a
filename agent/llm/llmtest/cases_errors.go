package llmtest

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// streamErrorCases: what goes wrong after status 200.
func streamErrorCases() []contract {
	const fault = `{"error":{"message":"CUDA out of memory","type":"internal_error","code":500}}`
	late := `{"id":"x","object":"chat.completion.chunk","choices":[],"error":{"message":"CUDA out of memory","code":500}}`
	stream := func(name string, kind llm.ErrorKind, partial, body string) contract {
		return contract{name: name, wire: true, script: []Step{Raw(body)}, kind: kind, partial: partial}
	}
	a := "data: " + TextChunk("a") + "\n\n"
	return []contract{
		{name: "stream cut", wire: true, script: []Step{Cut("half")}, kind: llm.Incomplete, partial: "half"},
		stream("stream ended without a reason", llm.Incomplete, "a", a),
		{name: "stream cut in a call", wire: true, script: []Step{Forever(Events(CallChunk(0, "c1", "f", `{"a":`)))}, kind: llm.Incomplete},
		stream("broken event", llm.Incomplete, "a", a+"data: {\"choices\":[{\n\n"),
		{name: "error first", wire: true, script: []Step{Times(3, Events(fault)), Reply(Answer{Text: "a", Input: 11, Output: 7})},
			want: llm.Turn{Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop}},
		stream("error mid", llm.Server, "a", a+"data: "+fault+"\n\n"+a),
		stream("error beside other fields", llm.Server, "a", a+"data: "+late+"\n\n"),
		stream("error last", llm.Server, "a", a+"data: "+FinishChunk("stop")+"\n\ndata: "+fault+"\n\n"),
		stream("error event", llm.Server, "a", a+"event: error\ndata: {\"message\":\"CUDA out of memory\"}\n\n"),
		stream("error event in plain text", llm.Server, "a", a+"event: error\ndata: CUDA out of memory\n\n"),
		stream("object error", llm.BadRequest, "a", a+`data: {"object":"error","message":"bad","type":"BadRequestError","code":400}`+"\n\n"),
		stream("error in a choice", llm.Server, "a", a+`data: {"choices":[{"index":0,"delta":{},"error":{"message":"bad","code":502}}]}`+"\n\n"),
		stream("finish reason error", llm.Server, "a", a+"data: "+FinishChunk("error")+"\n\n"),
		stream("error without data prefix", llm.Server, "a", a+fault+"\n"),
		stream("overflow mid-stream", llm.Overflow, "a", a+`data: {"error":{"message":"This model's maximum context length is 8192 tokens","code":400}}`+"\n\n"),
		stream("overloaded mid-stream", llm.Overloaded, "a", a+`data: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}`+"\n\n"),
		stream("page in a stream", llm.NotAModel, "", "<!DOCTYPE html>\n<html>\n"),
		{name: "idle stream", wire: true, script: []Step{Hang("half")}, kind: llm.Idle, partial: "half"},
		{name: "error with status 200", script: []Step{Times(2, Fail(200, fault)), Reply(Answer{Text: "a", Input: 11, Output: 7})},
			want: llm.Turn{Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop}},
		{name: "page with status 200", script: []Step{HTML(200)}, kind: llm.NotAModel},
		{name: "JSON of another service", script: []Step{Fail(200, `{"status":"ok"}`)}, kind: llm.NotAModel},
		{name: "text of another service", script: []Step{Fail(200, "ok")}, kind: llm.NotAModel},
	}
}

// httpErrorCases: answers that are not 2xx.
func httpErrorCases() []contract {
	fails := func(name string, kind llm.ErrorKind, status int, body string) contract {
		return contract{name: name, script: []Step{Fail(status, body)}, kind: kind, check: func(t *testing.T, _ *Server, _ llm.Turn, err *llm.Error) {
			if err.Status != status {
				t.Errorf("status %d, want %d", err.Status, status)
			}
		}}
	}
	after := func(least, most time.Duration) func(*testing.T, *Server, llm.Turn, *llm.Error) {
		return func(t *testing.T, srv *Server, _ llm.Turn, err *llm.Error) {
			if err.RetryAfter < least || err.RetryAfter > most {
				t.Errorf("retry after %s, want %s to %s", err.RetryAfter, least, most)
			}
			if !err.Retryable() {
				t.Error("a rate limit is retryable")
			}
		}
	}
	ok := Reply(Answer{Text: "a", Input: 11, Output: 7})
	fine := llm.Turn{Text: "a", Input: 11, Output: 7, Reason: llm.FinishStop}
	return []contract{
		{name: "429 in seconds", script: []Step{RateLimit("Retry-After", "7")}, kind: llm.RateLimited, check: after(7*time.Second, 7*time.Second)},
		{name: "429 in milliseconds", script: []Step{RateLimit("Retry-After-Ms", "7500", "Retry-After", "8")}, kind: llm.RateLimited, check: after(7500*time.Millisecond, 7500*time.Millisecond)},
		{name: "429 until a date", script: []Step{Do(func(x *Exchange) {
			x.w.Header().Set("Retry-After", time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat))
			x.Status(429, "text/plain", "slow down")
		})}, kind: llm.RateLimited, check: after(85*time.Second, 91*time.Second)},
		{name: "429 retried", script: []Step{RateLimit("Retry-After-Ms", "5"), RateLimit(), ok}, want: fine},
		{name: "503 retried", script: []Step{Times(2, Fail(503, `{"error":"loading model"}`)), ok}, want: fine},
		{name: "500 page", script: []Step{Forever(HTML(500))}, kind: llm.Server, check: short},
		{name: "502 page retried", script: []Step{HTML(502), ok}, want: fine},
		{name: "503 page", script: []Step{Forever(HTML(503))}, kind: llm.Overloaded, check: short},
		{name: "404 page", script: []Step{HTML(404)}, kind: llm.NotAModel, check: short},
		{name: "redirect", script: []Step{Fail(302, "", "Location", "https://login.example.com/?token=geheim1234")}, kind: llm.NotAModel,
			check: func(t *testing.T, _ *Server, _ llm.Turn, err *llm.Error) {
				if !strings.Contains(err.Text, "login.example.com") || strings.Contains(err.Text, "geheim1234") {
					t.Errorf("text %q, want the host and not the query", err.Text)
				}
			}},
		{name: "overflow", script: []Step{Overflow()}, kind: llm.Overflow},
		fails("overflow of vLLM", llm.Overflow, 400, `{"object":"error","message":"The decoder prompt (length 9001) is longer than the maximum model length of 8192.","type":"BadRequestError","code":400}`),
		fails("overflow of llama.cpp", llm.Overflow, 400, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}`),
		fails("too large", llm.Overflow, 413, "Payload Too Large"),
		fails("wrong key", llm.Auth, 401, `{"error":{"message":"Incorrect API key provided: sk-abcd****wxyz.","code":"invalid_api_key"}}`),
		fails("no rights", llm.Auth, 403, `{"detail":"Forbidden"}`),
		fails("no credit", llm.Auth, 429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`),
		fails("no such model", llm.NoModel, 404, `{"error":{"message":"The model gpt-9 does not exist","code":"model_not_found"}}`),
		fails("no such model in Ollama", llm.NoModel, 404, `{"error":{"message":"model \"x\" not found, try pulling it first","type":"api_error"}}`),
		fails("no such deployment", llm.NoModel, 404, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`),
		fails("no such path", llm.NotAModel, 404, "404 page not found"),
		fails("bad request", llm.BadRequest, 400, `{"error":{"message":"messages.0 is bad","type":"invalid_request_error"}}`),
		fails("bad request of FastAPI", llm.BadRequest, 422, `{"detail":[{"loc":["body","messages"],"msg":"Field required"}]}`),
		fails("key refused in a list", llm.Auth, 400, `[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]`),
	}
}

// short checks that a page does not become the message.
func short(t *testing.T, _ *Server, _ llm.Turn, err *llm.Error) {
	t.Helper()
	if strings.Contains(err.Text, "nginx") || len(err.Text) > 700 || strings.ContainsAny(err.Text, "\n\r") || !utf8.ValidString(err.Text) {
		t.Errorf("text is not one short line: %q", err.Text)
	}
}
