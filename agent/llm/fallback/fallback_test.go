package fallback_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/fallback"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, name, url string, window int) llm.Model {
	t.Helper()
	m, err := openaichat.New(openaichat.Config{Provider: openaichat.Compatible, Name: name, BaseURL: url, Window: window,
		Idle: 500 * time.Millisecond, Retry: transport.Policy{Pause: time.Millisecond, Longest: 2 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestContract(t *testing.T) {
	llmtest.Run(t, func(t *testing.T, url string) llm.Model {
		c, err := fallback.New(nil, open(t, "m", url, 0))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, llmtest.Options{})
}

func TestChain(t *testing.T) {
	refused := func(status int, body string) llmtest.Step { return llmtest.Forever(llmtest.Fail(status, body)) }
	tests := map[string]struct {
		first    llmtest.Step
		second   []llmtest.Step
		want     string
		kind     llm.ErrorKind
		switched llm.ErrorKind
	}{
		"auth":                     {first: refused(401, "no"), second: []llmtest.Step{llmtest.Say("two")}, want: "two", switched: llm.Auth},
		"overloaded":               {first: refused(503, "busy"), second: []llmtest.Step{llmtest.Say("two")}, want: "two", switched: llm.Overloaded},
		"server":                   {first: refused(500, "oops"), second: []llmtest.Step{llmtest.Say("two")}, want: "two", switched: llm.Server},
		"rate limit":               {first: llmtest.RateLimit("Retry-After", "60"), second: []llmtest.Step{llmtest.Say("two")}, want: "two", switched: llm.RateLimited},
		"not a model":              {first: llmtest.HTML(200), second: []llmtest.Step{llmtest.Say("two")}, want: "two", switched: llm.NotAModel},
		"no such model":            {first: refused(404, `{"error":{"code":"model_not_found","message":"x"}}`), second: []llmtest.Step{llmtest.Say("two")}, want: "two", switched: llm.NoModel},
		"first answers":            {first: llmtest.Say("one"), want: "one"},
		"overflow stays":           {first: llmtest.Overflow(), kind: llm.Overflow},
		"bad request stays":        {first: refused(400, "bad"), kind: llm.BadRequest},
		"cut stays":                {first: llmtest.Cut("half"), want: "half", kind: llm.Incomplete},
		"error after a part stays": {first: llmtest.Events(llmtest.TextChunk("half"), `{"error":{"message":"x"}}`), want: "half", kind: llm.Server},
		"both fail":                {first: refused(401, "no"), second: []llmtest.Step{refused(503, "busy")}, kind: llm.Overloaded, switched: llm.Auth},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			one, two := llmtest.NewServer(t, tc.first), llmtest.NewServer(t, tc.second...)
			var switched []llm.ErrorKind
			c, err := fallback.New(func(s fallback.Switch) {
				switched = append(switched, s.Err.Kind)
				if s.From.Name != "one" || s.To.Name != "two" {
					t.Errorf("switch %+v", s)
				}
			}, open(t, "one", one.URL, 0), open(t, "two", two.URL, 0))
			if err != nil {
				t.Fatal(err)
			}
			got, err := llm.Collect(t.Context(), c, llm.Request{}, nil)
			var failed *llm.Error
			if errors.As(err, &failed) != (tc.kind != "") || (failed != nil && failed.Kind != tc.kind) {
				t.Errorf("error %v, want kind %q", err, tc.kind)
			}
			if got.Text != tc.want {
				t.Errorf("text %q, want %q", got.Text, tc.want)
			}
			if second := got.Model != nil && got.Model.Name == "two"; second != (tc.want == "two") || got.Model != nil && !second {
				t.Errorf("the answer is said to be of %+v", got.Model)
			}
			var want []llm.ErrorKind
			if tc.switched != "" {
				want = append(want, tc.switched)
			}
			if diff := cmp.Diff(want, switched); diff != "" {
				t.Error(diff)
			}
			if name == "both fail" && (!strings.Contains(err.Error(), "compatible/one: auth") || !strings.Contains(err.Error(), "compatible/two: overloaded")) {
				t.Errorf("error %v does not tell of both", err)
			}
		})
	}
}

func TestUnreachableGoesOn(t *testing.T) {
	two := llmtest.NewServer(t, llmtest.Say("two"))
	c, err := fallback.New(nil, open(t, "one", "http://127.0.0.1:1/v1", 0), open(t, "two", two.URL, 0))
	if err != nil {
		t.Fatal(err)
	}
	got, err := llm.Collect(t.Context(), c, llm.Request{}, nil)
	if err != nil || got.Text != "two" {
		t.Errorf("turn %+v, error %v", got, err)
	}
}

func TestCancelledDoesNotGoOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, err := fallback.New(func(fallback.Switch) { t.Error("switched after the cancellation") },
		open(t, "one", "http://127.0.0.1:1/v1", 0), open(t, "two", "http://127.0.0.1:1/v1", 0))
	if err != nil {
		t.Fatal(err)
	}
	_, err = llm.Collect(ctx, c, llm.Request{}, nil)
	var failed *llm.Error
	if !errors.As(err, &failed) || failed.Kind != llm.Cancelled {
		t.Errorf("error %v, want cancelled", err)
	}
}

func TestInfoIsTheSmallest(t *testing.T) {
	c, err := fallback.New(nil, open(t, "one", "http://x/v1", 0), open(t, "two", "http://x/v1", 32_000), open(t, "three", "http://x/v1", 8_000))
	if err != nil {
		t.Fatal(err)
	}
	want := llm.Info{Provider: "compatible", Name: "one", Window: 8_000, Tools: true}
	if diff := cmp.Diff(want, c.Info()); diff != "" {
		t.Error(diff)
	}
	if _, err := fallback.New(nil); err == nil {
		t.Error("an empty chain was made")
	}
	if _, err := fallback.New(nil, nil, open(t, "one", "http://x/v1", 0)); err == nil {
		t.Error("a chain with a nil model was made")
	}
}
