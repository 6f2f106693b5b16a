package llm_test

import (
	"errors"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

func TestInfo(t *testing.T) {
	t.Parallel()
	i := llm.Info{Provider: "vllm", Name: "Qwen/Qwen3-32B", InputPrice: 2, OutputPrice: 10}
	if i.String() != "vllm/Qwen/Qwen3-32B" {
		t.Errorf("%s", i)
	}
	if got := i.Cost(500_000, 100_000); got != 2 {
		t.Errorf("cost %v, want 2", got)
	}
	if got := (llm.Info{}).Cost(1, 1); got != 0 {
		t.Errorf("cost %v without prices, want 0", got)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	e := &llm.Error{Kind: llm.Overloaded, Text: "busy", Err: cause}
	if e.Error() != "overloaded: busy" || !errors.Is(e, cause) {
		t.Errorf("%v", e)
	}
	for kind, want := range map[llm.ErrorKind]bool{
		llm.RateLimited: true, llm.Overloaded: true, llm.Incomplete: true, llm.Idle: true, llm.Unreachable: true, llm.Server: true,
		llm.Auth: false, llm.Overflow: false, llm.BadRequest: false, llm.NoModel: false, llm.NotAModel: false, llm.Cancelled: false,
	} {
		if got := (&llm.Error{Kind: kind}).Retryable(); got != want {
			t.Errorf("%s: retryable %v, want %v", kind, got, want)
		}
	}
}
