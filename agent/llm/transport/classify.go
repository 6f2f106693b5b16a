package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// because makes an error of our own finding.
func (d *Doer) because(kind llm.ErrorKind, req *http.Request, status int, text string) *llm.Error {
	return &llm.Error{Kind: kind, Status: status, Text: d.clean.line(req.URL.Host + ": " + text + advice(kind))}
}

// advice names the way out.
func advice(kind llm.ErrorKind) string {
	switch kind {
	case llm.Auth:
		return " (check the API key, its rights and its credit)"
	case llm.NoModel:
		return " (check the model's name)"
	case llm.NotAModel:
		return " (check the base URL; it mostly ends in /v1)"
	case llm.Unreachable:
		return " (check the base URL and the network)"
	}
	return ""
}

// network classifies a failure below HTTP. otherwise is the kind when neither
// the caller nor our own watch ended the request.
func (d *Doer) network(req *http.Request, ctx context.Context, err error, otherwise llm.ErrorKind) *llm.Error {
	if err := req.Context().Err(); err != nil {
		return &llm.Error{Kind: llm.Cancelled, Text: "the request was ended: " + err.Error(), Err: err}
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		e := d.because(llm.Idle, req, 0, "the server fell silent")
		e.Err = errSilent
		return e
	}
	// A *url.Error repeats the address, which may hold credentials.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	text := err.Error()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		text = "the connection was closed"
	}
	e := d.because(otherwise, req, 0, text)
	e.Err = err
	return e
}

// refused classifies an answer that is not 2xx.
func (d *Doer) refused(req *http.Request, res *http.Response, body io.Reader) *llm.Error {
	raw, err := io.ReadAll(io.LimitReader(body, maxErrorBody))
	if known, ok := errors.AsType[*llm.Error](err); ok && (known.Kind == llm.Cancelled || known.Kind == llm.Idle) {
		return known
	}
	f := parseFault(raw)
	kind := f.kind(res.StatusCode)
	text := f.message
	if isPage(res, raw) {
		kind = pageKind(res.StatusCode)
		text = "a web page came instead of an answer"
	}
	if res.StatusCode >= 300 && res.StatusCode < 400 {
		kind = llm.NotAModel
		text = "the server redirects"
		if to, err := res.Location(); err == nil {
			text += " to " + to.Scheme + "://" + to.Host
		}
	}
	if text == "" {
		text = http.StatusText(res.StatusCode)
	}
	e := d.because(kind, req, res.StatusCode, fmt.Sprintf("HTTP %d: %s", res.StatusCode, d.clean.short(text)))
	e.RetryAfter = retryAfter(res.Header, d.now())
	return e
}

// isPage tells a web page by its type or its first byte.
func isPage(res *http.Response, body []byte) bool {
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		return true
	}
	return strings.HasPrefix(strings.TrimSpace(string(body[:min(len(body), 64)])), "<")
}

// pageKind: a page with 5xx comes from a proxy before a model that is down; a
// page with anything else means that no model lives at this address.
func pageKind(status int) llm.ErrorKind {
	switch {
	case status == http.StatusServiceUnavailable:
		return llm.Overloaded
	case status >= 500:
		return llm.Server
	case status == http.StatusTooManyRequests:
		return llm.RateLimited
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return llm.Auth
	}
	return llm.NotAModel
}

// midStream finds an error in a payload of a successful answer; nil if there
// is none. named says that the event was called an error.
func (d *Doer) midStream(req *http.Request, payload []byte, named bool) *llm.Error {
	if !named && !strings.Contains(strings.ToLower(string(payload)), `error`) {
		return nil
	}
	if !named && !hasFault(payload) {
		return nil
	}
	f := parseFault(payload)
	status := 0
	for _, c := range f.codes {
		if n, err := strconv.Atoi(c); err == nil && n >= 400 && n < 600 {
			status = n
			break
		}
	}
	if f.message == "" {
		f.message = "the server reported an error without a text"
	}
	return d.because(f.kind(status), req, status, "error in the answer: "+d.clean.short(f.message))
}

// hasFault reports whether a payload is, or holds, an error: a field error that
// is not empty, beside whatever else, or the type or finish reason error.
func hasFault(payload []byte) bool {
	var p struct {
		Error   json.RawMessage `json:"error"`
		Object  any             `json:"object"`
		Type    any             `json:"type"`
		Choices []struct {
			Error  json.RawMessage `json:"error"`
			Finish any             `json:"finish_reason"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		var list []json.RawMessage
		return json.Unmarshal(payload, &list) == nil && len(list) > 0 && hasFault(list[0])
	}
	if filled(p.Error) || p.Object == "error" || p.Type == "error" {
		return true
	}
	for _, c := range p.Choices {
		if filled(c.Error) || c.Finish == "error" {
			return true
		}
	}
	return false
}

func filled(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "{}", `""`, "false", "0":
		return false
	}
	return true
}

// fault is what a server says about a failure.
type fault struct {
	message string
	// codes are its code, type and status, as far as given.
	codes []string
}

// parseFault reads the shapes in use: {"error":{...}} (OpenAI, vLLM, Ollama),
// {"error":"text"}, {"object":"error","message":...} (older vLLM),
// {"detail":...} (FastAPI), a list of one of these (Gemini), an error within a
// choice (OpenRouter), plain text.
func parseFault(raw []byte) fault {
	var f fault
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		f.message = string(raw)
		return f
	}
	f.read(doc, 0)
	return f
}

func (f *fault) read(doc any, depth int) {
	if depth > 4 {
		return
	}
	switch v := doc.(type) {
	case string:
		f.say(v)
	case []any:
		if len(v) > 0 {
			f.read(v[0], depth+1)
		}
	case map[string]any:
		if e, ok := v["error"]; ok && e != nil {
			f.read(e, depth+1)
		}
		for _, key := range []string{"code", "type", "status"} {
			switch c := v[key].(type) {
			case string:
				f.codes = append(f.codes, c)
			case float64:
				f.codes = append(f.codes, strconv.Itoa(int(c)))
			}
		}
		for _, key := range []string{"message", "msg", "detail", "errors", "choices"} {
			if f.message == "" && v[key] != nil {
				f.read(v[key], depth+1)
			}
		}
	}
}

func (f *fault) say(text string) {
	if f.message == "" {
		f.message = text
	}
}

// kind classifies by status first, and by the server's words where a status
// means several things. Status 0 stands for an error within an answer.
func (f fault) kind(status int) llm.ErrorKind {
	words := strings.ToLower(f.message)
	codes := strings.ToLower(strings.Join(f.codes, " "))
	switch status {
	case 0, 400, 413, 422, 500:
		if overflows(words, codes) {
			return llm.Overflow
		}
	case 429:
		// Waiting helps neither an empty account nor a request above the quota.
		if strings.Contains(codes, "insufficient_quota") {
			return llm.Auth
		}
		if strings.Contains(words, "request too large") {
			return llm.Overflow
		}
		return llm.RateLimited
	}
	if missesModel(status, words, codes) {
		return llm.NoModel
	}
	switch {
	case status == 401, status == 402, status == 403, status == 407, contains(codes, "invalid_api_key", "authentication", "unauthenticated", "permission", "insufficient_quota"), contains(words, "api key not valid", "credit balance is too low"):
		return llm.Auth
	case status == 404, status == 405:
		return llm.NotAModel
	case status == 413:
		return llm.Overflow
	case status == 425, status == 0 && contains(codes, "rate_limit", "resource_exhausted", "too_many_requests"):
		return llm.RateLimited
	case status == 503, status == 529, contains(codes, "overloaded", "unavailable"):
		return llm.Overloaded
	case status == 408, status == 409, status >= 500:
		return llm.Server
	case status >= 400, contains(codes, "invalid_request", "badrequest"):
		return llm.BadRequest
	}
	return llm.Server
}

// overflows knows how servers say that a conversation does not fit: OpenAI and
// Azure by code, vLLM ("maximum context length", "maximum model length"),
// llama.cpp ("exceed_context_size_error"), TGI ("max_new_tokens"), Anthropic
// and gateways ("prompt is too long", "context window").
func overflows(words, codes string) bool {
	return contains(codes, "context_length_exceeded", "exceed_context_size", "string_above_max_length") ||
		contains(words, "maximum context length", "context length exceeded", "exceeds the context", "exceeds the available context",
			"context window", "maximum model length", "max_model_len", "prompt is too long", "input is too long", "input length", "too many tokens",
			"reduce the length of the messages", "`inputs` tokens + `max_new_tokens`", "context size")
}

func missesModel(status int, words, codes string) bool {
	// Anthropic: type not_found_error, "model: NAME".
	if contains(codes, "model_not_found", "deploymentnotfound") || contains(codes, "not_found_error") && strings.HasPrefix(words, "model:") {
		return true
	}
	named := contains(words, "model", "deployment")
	absent := contains(words, "not found", "does not exist", "not exist", "unknown model", "no such model", "not a valid model", "invalid model")
	return named && absent && (status == 0 || status == 400 || status == 404 || status == 422)
}

func contains(s string, any ...string) bool {
	for _, a := range any {
		if strings.Contains(s, a) {
			return true
		}
	}
	return false
}
