package llmtest

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// Step is the answer to one request. The zero Step answers with an empty text.
type Step struct {
	run     func(*Exchange)
	times   int
	forever bool
}

func (s Step) count() int {
	if s.forever {
		return 0
	}
	return max(s.times, 1)
}

func (s Step) play(x *Exchange) {
	if s.run == nil {
		x.Reply(Answer{})
		return
	}
	s.run(x)
}

// Do makes a step of a function that writes the answer itself.
func Do(run func(*Exchange)) Step { return Step{run: run} }

// When makes a step whose answer depends on the request.
func When(choose func(Request) Step) Step {
	return Do(func(x *Exchange) { choose(x.Request).play(x) })
}

// Forever answers this and every later request with a step.
func Forever(s Step) Step { return Step{run: s.play, forever: true} }

// Times answers n requests with a step.
func Times(n int, s Step) Step { return Step{run: s.play, times: n} }

// Answer is one turn of the model.
type Answer struct {
	Reasoning string
	Text      string
	Calls     []llm.Call
	// Finish is the reason on the wire; empty means "tool_calls" when there are
	// calls, else "stop".
	Finish string
	// Input and Output are token counts; 0 means a quarter of the bytes.
	Input, Output int
	// NoUsage leaves the token counts out.
	NoUsage bool
	// OneLine sends the whole text in one event instead of several.
	OneLine bool
}

// Reply answers with a turn. Calls without an id get one that is unique in the
// conversation.
func Reply(a Answer) Step { return Do(func(x *Exchange) { x.Reply(a) }) }

// Say answers with text.
func Say(text string) Step { return Reply(Answer{Text: text}) }

// Line answers with text in a single line of the stream, however long.
func Line(text string) Step { return Reply(Answer{Text: text, OneLine: true}) }

// Ask answers with tool calls.
func Ask(calls ...llm.Call) Step { return Reply(Answer{Calls: calls}) }

// Call is a tool call with arguments as the model writes them, which may be
// invalid JSON.
func Call(name, args string) llm.Call { return llm.Call{Name: name, Args: args} }

// Refuse answers with a refusal in the protocol's own field.
func Refuse(text string) Step {
	return Do(func(x *Exchange) {
		if x.wire.refuse != nil {
			x.wire.refuse(x, text)
			return
		}
		if !x.Request.Stream {
			x.Status(http.StatusOK, "application/json", fmt.Sprintf(
				`{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":%s},"finish_reason":"content_filter"}]}`, quote(text)))
			return
		}
		x.Event(chunk(`{"refusal":`+quote(text)+`}`), FinishChunk("content_filter"), "[DONE]")
	})
}

// Fail answers with a status and a body. The header is given as name, value,
// name, value; a body that begins with '{' is sent as JSON.
func Fail(status int, body string, header ...string) Step {
	return Do(func(x *Exchange) {
		for i := 0; i+1 < len(header); i += 2 {
			x.w.Header().Set(header[i], header[i+1])
		}
		kind := "text/plain; charset=utf-8"
		if strings.HasPrefix(strings.TrimSpace(body), "{") {
			kind = "application/json"
		}
		x.Status(status, kind, body)
	})
}

// RateLimit answers with status 429; the header is given as in Fail.
func RateLimit(header ...string) Step {
	return Fail(http.StatusTooManyRequests,
		`{"error":{"message":"Rate limit reached for requests","type":"requests","code":"rate_limit_exceeded"}}`, header...)
}

// Overflow answers as servers do when the conversation is larger than the
// model's window.
func Overflow() Step {
	return Fail(http.StatusBadRequest, `{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.","type":"invalid_request_error","code":"context_length_exceeded"}}`)
}

// HTML answers with a web page, as proxies and wrong addresses do.
func HTML(status int) Step {
	return Do(func(x *Exchange) {
		x.Status(status, "text/html; charset=utf-8",
			"<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body>"+strings.Repeat("<p>nginx</p>", 200)+"</body></html>")
	})
}

// Cut streams a text and closes the connection before the finish reason.
func Cut(text string) Step {
	return Do(func(x *Exchange) {
		x.Event(TextChunk(text))
		x.Abort()
	})
}

// Hang streams a text (none if empty) and then stays silent until the client
// leaves or the test ends.
func Hang(text string) Step {
	return Do(func(x *Exchange) {
		if text != "" {
			x.Event(TextChunk(text))
		} else {
			x.Open()
		}
		x.Wait()
	})
}

// Events streams payloads, each as one server-sent event; nothing is added at
// the end. See TextChunk, CallChunk, FinishChunk and UsageChunk.
func Events(payloads ...string) Step {
	return Do(func(x *Exchange) { x.Event(payloads...) })
}

// Raw streams exact bytes with the content type of a stream.
func Raw(body string) Step { return Do(func(x *Exchange) { x.Write(body) }) }
