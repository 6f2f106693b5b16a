package llm

import (
	"context"
	"errors"
	"strings"
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
	// Model is the one that answered, where it is not the one that was asked.
	Model *Info
}

// Message gives the turn as an entry of the conversation. Reasoning is left
// out: providers do not want it back.
func (t Turn) Message() Message { return Message{Role: Assistant, Text: t.Text, Calls: t.Calls} }

// Collector puts a turn together from its parts. The zero Collector is ready.
// It does not copy what came before, so that an answer in very many small
// parts costs no more than a short one of the same length.
type Collector struct {
	text, reasoning strings.Builder
	turn            Turn
}

// Add takes the next part.
func (c *Collector) Add(p Part) {
	if p.Model != nil {
		c.turn.Model = p.Model
	}
	switch p.Kind {
	case TextPart:
		c.text.WriteString(p.Text)
	case ReasoningPart:
		c.reasoning.WriteString(p.Text)
	case CallPart:
		c.turn.Calls = append(c.turn.Calls, p.Call)
	case UsagePart:
		c.turn.Input, c.turn.Output, c.turn.Estimated = p.Input, p.Output, p.Estimated
	case FinishPart:
		c.turn.Reason = p.Reason
	}
}

// Turn gives what has come so far.
func (c *Collector) Turn() Turn {
	t := c.turn
	t.Text, t.Reasoning = c.text.String(), c.reasoning.String()
	return t
}

// Collect drains the answer to a request. onDelta, if not nil, sees each part
// as it comes, before Collect returns. On an error, which is always an *Error,
// the turn holds what had come until then.
func Collect(ctx context.Context, m Model, req Request, onDelta func(Part)) (Turn, error) {
	var c Collector
	for part, err := range m.Stream(ctx, req) {
		if err != nil {
			return c.Turn(), asError(err)
		}
		if onDelta != nil {
			onDelta(part)
		}
		c.Add(part)
		if part.Kind == FinishPart {
			return c.Turn(), nil
		}
	}
	if err := ctx.Err(); err != nil {
		return c.Turn(), &Error{Kind: Cancelled, Text: err.Error(), Err: err}
	}
	return c.Turn(), &Error{Kind: Incomplete, Text: m.Info().String() + " ended its answer without a finish reason; ask again"}
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
