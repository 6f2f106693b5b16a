// Package replay holds models that need no server: scripted ones, and
// recordings of real ones (cassettes).
package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

var _ llm.Model = (*Script)(nil)

// Script is a model whose answers are given by a function. It is safe for
// concurrent use if the function is.
type Script struct {
	info   llm.Info
	answer func(n int, req llm.Request) (llm.Turn, error)
	mu     sync.Mutex
	n      int
}

// Func makes a model of a function, which gets the number of the turn, from 1,
// and the request. An empty finish reason and empty token counts are filled in.
func Func(info llm.Info, answer func(n int, req llm.Request) (llm.Turn, error)) *Script {
	return &Script{info: info, answer: answer}
}

// Turns makes a model that answers with turns in order. To ask for one more is
// an error.
func Turns(info llm.Info, turns ...llm.Turn) *Script {
	return Func(info, func(n int, _ llm.Request) (llm.Turn, error) {
		if n > len(turns) {
			return llm.Turn{}, &llm.Error{Kind: llm.BadRequest, Text: fmt.Sprintf("the script has %d turns; turn %d was asked for", len(turns), n)}
		}
		return turns[n-1], nil
	})
}

// Info implements llm.Model.
func (s *Script) Info() llm.Info { return s.info }

// Stream implements llm.Model. What the function gives beside an error is
// delivered before it.
func (s *Script) Stream(ctx context.Context, req llm.Request) iter.Seq2[llm.Part, error] {
	return func(yield func(llm.Part, error) bool) {
		if ended := cancelled(ctx); ended != nil {
			yield(llm.Part{}, ended)
			return
		}
		s.mu.Lock()
		s.n++
		n := s.n
		s.mu.Unlock()
		turn, err := s.answer(n, req)
		play(ctx, filled(turn, req), err, yield)
	}
}

// filled completes a turn as a server would.
func filled(t llm.Turn, req llm.Request) llm.Turn {
	if t.Reason == "" {
		t.Reason = llm.FinishStop
		if len(t.Calls) > 0 {
			t.Reason = llm.FinishCalls
		}
	}
	if t.Input+t.Output == 0 {
		bytes := len(t.Text) + len(t.Reasoning)
		for _, c := range t.Calls {
			bytes += len(c.Name) + len(c.Args)
		}
		t.Input, t.Output, t.Estimated = llm.Estimate(req), llm.Tokens(bytes), true
	}
	return t
}

// play delivers a turn as parts, or what came of it and an error.
func play(ctx context.Context, t llm.Turn, err error, yield func(llm.Part, error) bool) {
	var parts []llm.Part
	if t.Reasoning != "" {
		parts = append(parts, llm.Part{Kind: llm.ReasoningPart, Text: t.Reasoning})
	}
	if t.Text != "" {
		parts = append(parts, llm.Part{Kind: llm.TextPart, Text: t.Text})
	}
	for _, c := range t.Calls {
		parts = append(parts, llm.Part{Kind: llm.CallPart, Call: c})
	}
	if err == nil {
		parts = append(parts,
			llm.Part{Kind: llm.UsagePart, Input: t.Input, Output: t.Output, Estimated: t.Estimated},
			llm.Part{Kind: llm.FinishPart, Reason: t.Reason})
	}
	for _, p := range parts {
		if ended := cancelled(ctx); ended != nil {
			yield(llm.Part{}, ended)
			return
		}
		if !yield(p, nil) {
			return
		}
	}
	if err == nil {
		return
	}
	failed, ok := errors.AsType[*llm.Error](err)
	if !ok {
		failed = &llm.Error{Kind: llm.Server, Text: err.Error(), Err: err}
	}
	yield(llm.Part{}, failed)
}

func cancelled(ctx context.Context) *llm.Error {
	if err := ctx.Err(); err != nil {
		return &llm.Error{Kind: llm.Cancelled, Text: "the request was ended: " + err.Error(), Err: err}
	}
	return nil
}
