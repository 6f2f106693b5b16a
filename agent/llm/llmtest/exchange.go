package llmtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// Exchange is one request and the means to answer it. It belongs to the step
// that plays it and is not safe for concurrent use.
type Exchange struct {
	Request Request
	// Number of the request, from 1.
	Number int
	// Remote is the client's address; requests on one connection share it.
	Remote string
	// Done is closed when the client has gone.
	Done <-chan struct{}

	wire   *Wire
	w      http.ResponseWriter
	closed <-chan struct{}
	opened bool
}

// Status writes a whole answer.
func (x *Exchange) Status(status int, contentType, body string) {
	x.w.Header().Set("Content-Type", contentType)
	x.w.WriteHeader(status)
	_, _ = io.WriteString(x.w, body)
}

// Open sends the header of a stream.
func (x *Exchange) Open() { x.Write("") }

// Write sends bytes of a stream at once.
func (x *Exchange) Write(body string) {
	if !x.opened {
		x.opened = true
		x.w.Header().Set("Content-Type", "text/event-stream")
		x.w.WriteHeader(http.StatusOK)
	}
	_, _ = io.WriteString(x.w, body)
	_ = http.NewResponseController(x.w).Flush()
}

// Event sends payloads, each as one server-sent event.
func (x *Exchange) Event(payloads ...string) {
	for _, p := range payloads {
		x.Write("data: " + p + "\n\n")
	}
}

// Abort closes the connection without ending the answer.
func (x *Exchange) Abort() {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// Wait blocks until the client has gone or the test ends.
func (x *Exchange) Wait() {
	select {
	case <-x.Done:
	case <-x.closed:
	}
}

// Reply sends a turn: as a stream if the client asked for one, else whole.
func (x *Exchange) Reply(a Answer) {
	for i := range a.Calls {
		if a.Calls[i].ID == "" {
			a.Calls = append([]llm.Call(nil), a.Calls...)
			a.Calls[i].ID = fmt.Sprintf("call_%d_%d", x.Number, i)
		}
	}
	if x.Request.Stream && !x.wire.streams {
		x.Status(http.StatusBadRequest, "application/json", `{"error":{"message":"this scripted server gives whole turns only"}}`)
		return
	}
	if a.Finish == "" {
		a.Finish = "stop"
		if len(a.Calls) > 0 {
			a.Finish = "tool_calls"
		}
	}
	x.count(&a)
	if !x.Request.Stream {
		x.wire.whole(x, a)
		return
	}
	for _, piece := range pieces(a.Reasoning, a.OneLine) {
		x.Event(ReasoningChunk("reasoning_content", piece))
	}
	for _, piece := range pieces(a.Text, a.OneLine) {
		x.Event(TextChunk(piece))
	}
	for i, c := range a.Calls {
		x.Event(CallChunk(i, c.ID, c.Name, ""))
		for _, piece := range pieces(c.Args, a.OneLine) {
			x.Event(CallChunk(i, "", "", piece))
		}
	}
	x.Event(FinishChunk(a.Finish))
	if x.Request.Usage && !a.NoUsage {
		x.Event(UsageChunk(a.Input, a.Output))
	}
	x.Event("[DONE]")
}

// count fills in token counts that the script left open.
func (x *Exchange) count(a *Answer) {
	if a.Input == 0 {
		for _, m := range x.Request.Messages {
			a.Input += len(m.Text) / 4
		}
		a.Input += len(x.Request.System)/4 + 1
	}
	if a.Output == 0 {
		a.Output = (len(a.Text)+len(a.Reasoning))/4 + 1
		for _, c := range a.Calls {
			a.Output += (len(c.Name) + len(c.Args)) / 4
		}
	}
}

// wholeChat sends a turn in one JSON document of the chat-completions protocol.
func wholeChat(x *Exchange, a Answer) {
	message := map[string]any{"role": "assistant", "content": a.Text}
	if a.Reasoning != "" {
		message["reasoning_content"] = a.Reasoning
	}
	var calls []any
	for _, c := range a.Calls {
		calls = append(calls, map[string]any{"id": c.ID, "type": "function",
			"function": map[string]any{"name": c.Name, "arguments": c.Args}})
	}
	if calls != nil {
		message["tool_calls"] = calls
	}
	doc := map[string]any{"id": "chatcmpl-test", "object": "chat.completion", "model": x.Request.Model,
		"choices": []any{map[string]any{"index": 0, "message": message, "finish_reason": a.Finish}}}
	if !a.NoUsage {
		doc["usage"] = map[string]any{"prompt_tokens": a.Input, "completion_tokens": a.Output, "total_tokens": a.Input + a.Output}
	}
	x.document(doc)
}

// document sends JSON with status 200.
func (x *Exchange) document(doc any) {
	body, err := json.Marshal(doc)
	if err != nil {
		x.Status(http.StatusInternalServerError, "text/plain", err.Error())
		return
	}
	x.Status(http.StatusOK, "application/json", string(body))
}

// pieces splits a text into at most three at rune boundaries; none if empty.
func pieces(text string, whole bool) []string {
	if text == "" {
		return nil
	}
	var out []string
	for range 2 {
		n := len(text) / 2
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n++
		}
		if whole || n == 0 || n == len(text) {
			break
		}
		out, text = append(out, text[:n]), text[n:]
	}
	return append(out, text)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(b)
}

func chunk(delta string) string {
	return `{"id":"chatcmpl-test","object":"chat.completion.chunk","choices":[{"index":0,"delta":` + delta + `,"finish_reason":null}]}`
}

// TextChunk is the payload of a piece of text.
func TextChunk(text string) string { return chunk(`{"content":` + quote(text) + `}`) }

// ReasoningChunk is the payload of a piece of reasoning in the named field:
// "reasoning_content" or "reasoning".
func ReasoningChunk(field, text string) string { return chunk(`{"` + field + `":` + quote(text) + `}`) }

// CallChunk is the payload of a piece of a tool call. A negative index leaves
// the index out; an empty id leaves id and type out, an empty name the name.
func CallChunk(index int, id, name, args string) string {
	var b strings.Builder
	b.WriteString(`{"tool_calls":[{`)
	if index >= 0 {
		fmt.Fprintf(&b, `"index":%d,`, index)
	}
	if id != "" {
		fmt.Fprintf(&b, `"id":%s,"type":"function",`, quote(id))
	}
	b.WriteString(`"function":{`)
	if name != "" {
		b.WriteString(`"name":` + quote(name) + `,`)
	}
	b.WriteString(`"arguments":` + quote(args) + `}}]}`)
	return chunk(b.String())
}

// FinishChunk is the payload that ends the choice with a reason.
func FinishChunk(reason string) string {
	return `{"id":"chatcmpl-test","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":` + quote(reason) + `}]}`
}

// UsageChunk is the payload with token counts and no choices.
func UsageChunk(input, output int) string {
	return fmt.Sprintf(`{"id":"chatcmpl-test","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`,
		input, output, input+output)
}
