package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Error is an answer other than success that a surface gives on purpose. Errors of
// tools need none: WriteError knows their kinds.
type Error struct {
	// Status is an HTTP status from 400 on.
	Status int
	// Code is a word for programs, such as "conflict"; empty means one for the status.
	Code string
	// User is the sentence that people read, Fix the way out, which may be empty.
	User, Fix string
	// RetryAfter, where given, is said in the header of that name, in whole seconds.
	RetryAfter time.Duration
	// Err is for operators and stays in the log.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.User, e.Err)
	}
	return e.User
}

// Unwrap gives the operator's error.
func (e *Error) Unwrap() error { return e.Err }

// Problem is the body of an answer to a program that is no success.
type Problem struct {
	Error ProblemDetail `json:"error"`
}

// ProblemDetail is what went wrong.
type ProblemDetail struct {
	// Code is a word for programs.
	Code string `json:"code"`
	// Message is a sentence, Fix the way out where there is one.
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// WriteError answers a request with an error: JSON (Problem) for programs, a page for
// people. An *Error is said as it is, a *tool.Error by its kind; of any other error
// the caller only learns the id under which the log has it. It writes nothing more
// once the answer has begun.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	writeError(w, r, err, "")
}

// writeError puts head, which is trusted HTML, into the head of a page.
func writeError(w http.ResponseWriter, r *http.Request, err error, head string) {
	e := asError(r.Context(), err)
	call := callOf(r.Context())
	level := slog.LevelDebug
	if e.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	call.log.LogAttrs(r.Context(), level, "request failed", slog.String("id", call.id), slog.Int("status", e.Status), slog.Any("error", err))
	if begun(w) {
		return
	}
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	if !wantsPage(r) {
		h.Set("Content-Type", "application/json")
		w.WriteHeader(e.Status)
		// The client may be gone; there is nobody else to tell.
		_ = json.NewEncoder(w).Encode(Problem{Error: ProblemDetail{Code: e.Code, Message: e.User, Fix: e.Fix}})
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<h1>%s</h1>\n<p>%s</p>\n", html.EscapeString(http.StatusText(e.Status)), html.EscapeString(sentence(e.User)))
	if e.Fix != "" {
		fmt.Fprintf(&b, "<p>%s</p>\n", html.EscapeString(sentence(e.Fix)))
	}
	if call.id != "" {
		fmt.Fprintf(&b, "<p class=id>request %s</p>\n", html.EscapeString(call.id))
	}
	writePage(w, e.Status, http.StatusText(e.Status), head, b.String())
}

// wantsPage says whether a person's browser asks.
func wantsPage(r *http.Request) bool {
	for _, p := range []string{"/api/", "/mcp", "/webhooks/"} {
		if strings.HasPrefix(r.URL.Path, p) {
			return false
		}
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if strings.Contains(accept, "text/html") {
		return true
	}
	return !strings.Contains(accept, "json") && !strings.Contains(accept, "text/event-stream")
}

// asError says what a request is answered for an error.
func asError(ctx context.Context, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		out := *e
		if out.Status < http.StatusBadRequest || out.Status > 599 {
			out.Status = http.StatusInternalServerError
		}
		if out.Code == "" {
			out.Code = code(out.Status)
		}
		return &out
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	if e, ok := errors.AsType[*tool.Error](err); ok && e.Kind != tool.Internal && e.Kind != "" {
		return &Error{Status: StatusOf(e.Kind), Code: string(e.Kind), User: e.User, Fix: e.Fix, Err: err}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Status: http.StatusGatewayTimeout, Code: string(tool.TimedOut), User: "this took longer than the server waits", Err: err}
	}
	out := &Error{Status: http.StatusInternalServerError, Code: string(tool.Internal), User: "the server failed at this", Err: err}
	if id := callOf(ctx).id; id != "" {
		out.Fix = "the server's log says more under the request's id " + id
	}
	return out
}

// StatusOf gives the HTTP status of what kind of look failed.
func StatusOf(k tool.Kind) int {
	switch k {
	case tool.NotFound:
		return http.StatusNotFound
	case tool.Forbidden:
		return http.StatusForbidden
	case tool.Invalid:
		return http.StatusBadRequest
	case tool.Unreachable:
		return http.StatusBadGateway
	case tool.TimedOut:
		return http.StatusGatewayTimeout
	case tool.NotServed:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// code is the word of a status for programs: not_found, too_many_requests.
func code(status int) string {
	text := http.StatusText(status)
	if text == "" {
		return "error"
	}
	return strings.ReplaceAll(strings.ToLower(text), " ", "_")
}

func tooLarge(limit int64) *Error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Code: "too_large", User: fmt.Sprintf("the request's body is larger than the %d bytes that are taken here", limit)}
}

// sentence makes a page's sentence of an error's text.
func sentence(s string) string {
	if s == "" {
		return s
	}
	first, n := utf8.DecodeRuneInString(s)
	if first != utf8.RuneError {
		s = string(unicode.ToUpper(first)) + s[n:]
	}
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, "?") || strings.HasSuffix(s, "!") {
		return s
	}
	return s + "."
}
