// Package llm is the contract for language models. An adapter turns one
// provider's wire protocol into a stream of parts; the suite in llmtest decides
// whether it does so correctly.
package llm

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// Model answers a request with a stream of parts.
//
// The sequence ends after a Finish part, or after the first non-nil error,
// which is always an *Error. Breaking out of the loop or ending ctx stops the
// request and leaves no goroutine. A stream that is cut before its finish reason
// is an error of kind Incomplete, never a short answer.
type Model interface {
	Info() Info
	Stream(ctx context.Context, req Request) iter.Seq2[Part, error]
}

// Info is what is known about a model without asking it.
type Info struct {
	Provider string
	Name     string
	// Window is the context size in tokens; 0 means unknown.
	Window int
	// Tools says whether the model takes tool definitions.
	Tools bool
	// InputPrice and OutputPrice are US dollars per million tokens; 0 means unknown.
	InputPrice, OutputPrice float64
}

// String gives "provider/name".
func (i Info) String() string { return i.Provider + "/" + i.Name }

// Cost of a number of tokens in US dollars.
func (i Info) Cost(in, out int) float64 {
	return (float64(in)*i.InputPrice + float64(out)*i.OutputPrice) / 1e6
}

// Role of a message.
type Role string

// Roles.
const (
	User      Role = "user"
	Assistant Role = "assistant"
	Tool      Role = "tool"
)

// Message is one entry of the conversation. Text belongs to user and assistant,
// Calls to assistant, CallID and Text to tool.
type Message struct {
	Role   Role   `json:"role"`
	Text   string `json:"text,omitempty"`
	Calls  []Call `json:"calls,omitempty"`
	CallID string `json:"call_id,omitempty"`
	// Name of the tool that answers, for providers that want it.
	Name string `json:"name,omitempty"`
}

// Call is a model's wish to call a tool. Args is exactly what the model wrote
// and may be invalid JSON; the loop returns that to the model as an error.
type Call struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Args string `json:"args"`
}

// ToolDef describes a tool to the model.
type ToolDef struct {
	Name   string          `json:"name"`
	Text   string          `json:"text"`
	Schema json.RawMessage `json:"schema"`
}

// Request is one turn.
type Request struct {
	System   string
	Messages []Message
	Tools    []ToolDef
	// Require names the one tool the model must call; empty leaves it free.
	Require string
	// MaxTokens of the answer; 0 leaves it to the server.
	MaxTokens int
	// Temperature is always sent: 0 means 0.
	Temperature float64
}

// PartKind tells the fields of a Part that are set.
type PartKind string

const (
	// TextPart carries a piece of the answer in Text.
	TextPart PartKind = "text"
	// ReasoningPart carries a piece of the model's reasoning in Text.
	ReasoningPart PartKind = "reasoning"
	// CallPart carries one complete tool call.
	CallPart PartKind = "call"
	// UsagePart carries token counts of the whole turn; the last one counts.
	UsagePart PartKind = "usage"
	// FinishPart ends the stream with a reason.
	FinishPart PartKind = "finish"
)

// Finish reasons, normalised.
const (
	FinishStop    = "stop"
	FinishCalls   = "tool_calls"
	FinishLength  = "length"
	FinishRefused = "refused"
)

// Part is one piece of a streamed answer.
type Part struct {
	Kind   PartKind
	Text   string
	Call   Call
	Input  int
	Output int
	// Estimated says that the server gave no token counts and that Input and
	// Output are a quarter of the bytes instead.
	Estimated bool
	Reason    string
	// Model is set where another model answers than the one that Info names, as in
	// a chain: its prices are the ones that count.
	Model *Info
}

// ErrorKind classifies a failed request.
type ErrorKind string

// Kinds of failure.
const (
	RateLimited ErrorKind = "rate_limited"
	Overloaded  ErrorKind = "overloaded"
	Auth        ErrorKind = "auth"
	Overflow    ErrorKind = "context_overflow"
	BadRequest  ErrorKind = "bad_request"
	NoModel     ErrorKind = "model_not_found"
	Incomplete  ErrorKind = "incomplete_stream"
	Idle        ErrorKind = "idle_stream"
	NotAModel   ErrorKind = "not_a_model_endpoint"
	Unreachable ErrorKind = "unreachable"
	Cancelled   ErrorKind = "cancelled"
	Server      ErrorKind = "server_error"
)

// Error is a failed request, classified from the transport's own facts.
type Error struct {
	Kind ErrorKind
	// Status is the HTTP status, 0 if there was none.
	Status int
	// RetryAfter is the server's wish, 0 if it had none.
	RetryAfter time.Duration
	// Text for people: capped, redacted, one line.
	Text string
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return string(e.Kind) + ": " + e.Text }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same request may succeed later.
func (e *Error) Retryable() bool {
	switch e.Kind {
	case RateLimited, Overloaded, Incomplete, Idle, Unreachable, Server:
		return true
	}
	return false
}
