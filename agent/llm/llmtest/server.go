// Package llmtest holds what tests of language models need: a scripted server
// that speaks the OpenAI chat-completions protocol, or Anthropic's, over real HTTP,
// and the contract suite that every adapter passes.
//
// A script is a list of steps; each request consumes one. A request after the
// last step fails the test and is answered with status 500.
//
//	srv := llmtest.NewServer(t,
//		llmtest.Ask(llmtest.Call("kube_get", `{"kind":"Pod","name":"a"}`)), // the model calls a tool
//		llmtest.When(func(r llmtest.Request) llmtest.Step {                 // answer by what was sent
//			if strings.Contains(r.LastText(), "Forbidden") {
//				return llmtest.Say("I may not see it.")
//			}
//			return llmtest.Say("It is pending.")
//		}),
//	)
//	model, err := openaichat.New(openaichat.Config{Provider: "compatible", Name: "test", BaseURL: srv.URL})
//
// Steps for adversarial scripts: Forever(step) for an endless loop, Times(n,
// step), Ask with invalid arguments or invented tools, Line(1 MiB of text),
// Cut, Hang, Fail(429, ...), HTML, Refuse, Events and Raw for exact bytes.
// Requests gives what the server received, decoded.
//
// The same step answers a client that streams and one that asks for a whole
// turn. Steps built from exact bytes (Events, Raw, Cut, Hang) are streams only.
package llmtest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// Server is a scripted model behind one of the protocols. It is safe for use by
// several clients at once; they share the script.
type Server struct {
	// URL is the base URL for clients; requests go to URL + "/chat/completions", or to
	// what the protocol has in its place.
	URL string

	wire *Wire

	t      testing.TB
	closed chan struct{}

	mu       sync.Mutex
	script   []Step
	at, used int
	requests []Request
}

// NewServer starts a server of the chat-completions protocol that is stopped when the
// test ends.
func NewServer(t testing.TB, script ...Step) *Server {
	t.Helper()
	return NewWireServer(t, OpenAI(), script...)
}

// NewWireServer starts a server of a protocol.
func NewWireServer(t testing.TB, wire *Wire, script ...Step) *Server {
	t.Helper()
	s := &Server{wire: wire, t: t, closed: make(chan struct{}), script: script}
	h := httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = h.URL + "/v1"
	t.Cleanup(func() {
		close(s.closed)
		h.CloseClientConnections()
		h.Close()
	})
	return s
}

// Requests gives the requests received so far, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Last gives the newest request; the zero Request if there was none.
func (s *Server) Last() Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) == 0 {
		return Request{}
	}
	return s.requests[len(s.requests)-1]
}

// Left gives the number of scripted requests that did not come; a step that
// repeats for ever counts as none.
func (s *Server) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := -s.used
	for _, step := range s.script[s.at:] {
		n += step.count()
	}
	return max(n, 0)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away while it was sending
	}
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, s.wire.path) {
		http.NotFound(w, r)
		return
	}
	req, err := s.wire.decode(body)
	if err != nil {
		s.t.Errorf("llmtest: a client sent a request that does not decode: %v\n%s", err, body)
		http.Error(w, `{"error":{"message":"bad request: `+err.Error()+`"}}`, http.StatusBadRequest)
		return
	}
	req.Header, req.Path = r.Header.Clone(), r.URL.RequestURI()
	step, n, ok := s.next(req)
	x := &Exchange{wire: s.wire, Request: req, Number: n, Remote: r.RemoteAddr, Done: r.Context().Done(), w: w, closed: s.closed}
	if !ok {
		s.t.Errorf("llmtest: request %d came, but the script has only %d", n, n-1)
		x.Status(http.StatusInternalServerError, "application/json", `{"error":{"message":"the script is at its end"}}`)
		return
	}
	step.play(x)
}

// next takes the step for a request and its number, which starts at 1.
func (s *Server) next(req Request) (Step, int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
	n := len(s.requests)
	if s.at >= len(s.script) {
		return Step{}, n, false
	}
	step := s.script[s.at]
	s.used++
	if !step.forever && s.used >= step.count() {
		s.at, s.used = s.at+1, 0
	}
	return step, n, true
}

// Request is a received request, decoded.
type Request struct {
	Model    string
	System   string
	Messages []llm.Message
	Tools    []llm.ToolDef
	// Require is the tool that must be called, empty if none must.
	Require string
	// Stream says whether the client asked for a stream, Usage whether it asked
	// for token counts in it.
	Stream, Usage bool
	// Fields are the top-level fields of the body as they were on the wire.
	Fields map[string]json.RawMessage
	Header http.Header
	// Path is the path and query of the request.
	Path string
}

// LastText gives the text of the newest message.
func (r Request) LastText() string {
	if len(r.Messages) == 0 {
		return ""
	}
	return r.Messages[len(r.Messages)-1].Text
}

// HasTool reports whether a tool of that name was offered.
func (r Request) HasTool(name string) bool {
	for _, t := range r.Tools {
		if t.Name == name {
			return true
		}
	}
	return false
}

// Results gives the texts of all tool results in the conversation, oldest first.
func (r Request) Results() []string {
	var texts []string
	for _, m := range r.Messages {
		if m.Role == llm.Tool {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

// Contains reports whether a text occurs in the system prompt or any message.
func (r Request) Contains(text string) bool {
	if strings.Contains(r.System, text) {
		return true
	}
	for _, m := range r.Messages {
		if strings.Contains(m.Text, text) {
			return true
		}
	}
	return false
}
