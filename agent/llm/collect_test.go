package llm_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// parts is a model that yields a fixed sequence.
type parts struct {
	list []llm.Part
	err  error
}

func (p parts) Info() llm.Info { return llm.Info{Provider: "fixed", Name: "m"} }

func (p parts) Stream(context.Context, llm.Request) iter.Seq2[llm.Part, error] {
	return func(yield func(llm.Part, error) bool) {
		for _, part := range p.list {
			if !yield(part, nil) {
				return
			}
		}
		if p.err != nil {
			yield(llm.Part{}, p.err)
		}
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	text := func(s string) llm.Part { return llm.Part{Kind: llm.TextPart, Text: s} }
	call := llm.Call{ID: "1", Name: "n", Args: "{}"}
	done, stop := context.WithCancel(context.Background())
	stop()
	boom := errors.New("boom")
	tests := map[string]struct {
		ctx   context.Context
		model parts
		want  llm.Turn
		kind  llm.ErrorKind
	}{
		"everything": {model: parts{list: []llm.Part{
			{Kind: llm.ReasoningPart, Text: "hm "}, {Kind: llm.ReasoningPart, Text: "yes"}, text("a"), text("b"),
			{Kind: llm.CallPart, Call: call}, {Kind: llm.UsagePart, Input: 1, Output: 1},
			{Kind: llm.UsagePart, Input: 3, Output: 2, Estimated: true}, {Kind: llm.FinishPart, Reason: llm.FinishCalls},
			text("after the end"),
		}}, want: llm.Turn{Text: "ab", Reasoning: "hm yes", Calls: []llm.Call{call}, Input: 3, Output: 2, Estimated: true, Reason: llm.FinishCalls}},
		"no finish":        {model: parts{list: []llm.Part{text("half")}}, want: llm.Turn{Text: "half"}, kind: llm.Incomplete},
		"no finish, ended": {ctx: done, kind: llm.Cancelled},
		"error":            {model: parts{list: []llm.Part{text("half")}, err: &llm.Error{Kind: llm.Overloaded}}, want: llm.Turn{Text: "half"}, kind: llm.Overloaded},
		"foreign error":    {model: parts{err: boom}, kind: llm.Server},
		"foreign cancel":   {model: parts{err: context.Canceled}, kind: llm.Cancelled},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			var seen int
			got, err := llm.Collect(ctx, tc.model, llm.Request{}, func(llm.Part) { seen++ })
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			var e *llm.Error
			if errors.As(err, &e) != (tc.kind != "") || (e != nil && e.Kind != tc.kind) {
				t.Errorf("error %v, want kind %q", err, tc.kind)
			}
			if tc.kind == "" && seen != 8 {
				t.Errorf("onDelta saw %d parts, want the 8 up to the finish", seen)
			}
			if name == "foreign error" && !errors.Is(err, boom) {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestTurnMessageLeavesReasoningOut(t *testing.T) {
	t.Parallel()
	got := llm.Turn{Text: "t", Reasoning: "secret thoughts", Calls: []llm.Call{{ID: "1"}}}.Message()
	want := llm.Message{Role: llm.Assistant, Text: "t", Calls: []llm.Call{{ID: "1"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	req := llm.Request{System: "12345678", Messages: []llm.Message{{Text: "1234", Calls: []llm.Call{{Name: "ab", Args: "cd"}}}},
		Tools: []llm.ToolDef{{Name: "a", Text: "b", Schema: []byte(`{}`)}}}
	if got := llm.Estimate(req); got != 5 {
		t.Errorf("estimate %d, want 5", got)
	}
	if llm.Tokens(0) != 0 || llm.Tokens(1) != 1 {
		t.Error("Tokens rounds up")
	}
}
