package llm

import (
	"context"
	"errors"
)

// Turn is a whole answer.
type Turn struct {
	Text      string
	Reasoning string
	// Calls are complete, in the order in which the model began them. With
	// Reason FinishLength the arguments of the last may be cut off.
	Calls []Call
	// Input and Output are token counts; Estimated says that the server gave none.
	Input, Output int
	Estimated     bool
	// Reason is one of the finish reasons.
	Reason string
}

// Message gives the turn as an entry of the conversation. Reasoning is left
// out: providers do not want it back.
func (t Turn) Message() Message { return Message{Role: Assistant, Text: t.Text, Calls: t.Calls} }

// Collect drains the answer to a request. onDelta, if not nil, sees each part
// as it comes, before Collect returns. On an error, which is always an *Error,
// the turn holds what had come until then.
func Collect(ctx context.Context, m Model, req Request, onDelta func(Part)) (Turn, error) {
	var t Turn
	for part, err := range m.Stream(ctx, req) {
		if err != nil {
			return t, asError(err)
		}
		if onDelta != nil {
			onDelta(part)
		}
		switch part.Kind {
		case TextPart:
			t.Text += part.Text
		case ReasoningPart:
			t.Reasoning += part.Text
		case CallPart:
			t.Calls = append(t.Calls, part.Call)
		case UsagePart:
			t.Input, t.Output, t.Estimated = part.Input, part.Output, part.Estimated
		case FinishPart:
			t.Reason = part.Reason
			return t, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return t, &Error{Kind: Cancelled, Text: err.Error(), Err: err}
	}
	return t, &Error{Kind: Incomplete, Text: m.Info().String() + " ended its answer without a finish reason; ask again"}
}

// asError keeps the promise of the type for models that break theirs.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Error{Kind: Cancelled, Text: err.Error(), Err: err}
	}
	return &Error{Kind: Server, Text: err.Error(), Err: err}
}

// Estimate gives the number of tokens of a request by the rule of thumb of
// four bytes a token. It needs no tokenizer and so no download.
func Estimate(req Request) int {
	n := len(req.System)
	for _, m := range req.Messages {
		n += len(m.Text)
		for _, c := range m.Calls {
			n += len(c.Name) + len(c.Args)
		}
	}
	for _, t := range req.Tools {
		n += len(t.Name) + len(t.Text) + len(t.Schema)
	}
	return Tokens(n)
}

// Tokens gives the estimated number of tokens in a number of bytes, rounded up.
func Tokens(bytes int) int { return (bytes + 3) / 4 }
