package llmtest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// Options say what a model cannot show. What is skipped is reported as such.
type Options struct {
	// WholeTurn: the model asks for whole answers and never for a stream.
	WholeTurn bool
	// Recorded: the model answers from a record, so that what happens while an
	// answer arrives cannot be seen.
	Recorded bool
	// Wire is the protocol that is spoken; nil means OpenAI.
	Wire *Wire
	// Told hears of each case: how it ended, or why it does not apply. It may be nil.
	Told func(name string, passed bool, why string)
}

// patience bounds the wait for things that should happen at once.
const patience = 10 * time.Second

// contract is one case of the suite.
type contract struct {
	name   string
	script []Step
	req    llm.Request
	// want is compared with the collected turn, unless the case wants an error.
	want llm.Turn
	kind llm.ErrorKind
	// partial is the text that must have come before the error.
	partial string
	// wire: the script is bytes of a stream.
	wire bool
	// not says why the case does not apply to a protocol; empty means that it does.
	not func(*Wire) string
	// anyUsage leaves the token counts out of the comparison.
	anyUsage bool
	check    func(t *testing.T, srv *Server, turn llm.Turn, err *llm.Error)
}

// Run runs the contract suite against an adapter. open makes a model for a
// base URL of the chat-completions protocol, with short limits, since the suite
// provokes them: silence ends after at most a second, the first pause between
// retries takes at most 10 ms, no pause above 2 s is waited for, and there are
// at least 3 attempts. The caller must not have called t.Parallel: the suite
// looks for goroutines that are left behind.
func Run(t *testing.T, open func(t *testing.T, baseURL string) llm.Model, o Options) {
	t.Helper()
	if o.Wire == nil {
		o.Wire = OpenAI()
	}
	var cases []contract
	for _, list := range [][]contract{callCases(), textCases(), streamErrorCases(), httpErrorCases(), requestCases(), o.Wire.more} {
		cases = append(cases, list...)
	}
	run := func(name, not string, f func(t *testing.T)) {
		passed := t.Run(name, func(t *testing.T) {
			if not != "" {
				t.Skip(not)
			}
			f(t)
		})
		if o.Told != nil {
			o.Told(name, passed && not == "", not)
		}
	}
	const whole = "the model is asked for whole turns"
	for _, c := range cases {
		not := ""
		switch {
		case c.wire && o.WholeTurn:
			not = whole
		case c.not != nil:
			not = c.not(o.Wire)
		}
		run(c.name, not, func(t *testing.T) {
			srv := NewWireServer(t, o.Wire, c.script...)
			c.on(o.Wire).verify(t, srv, open(t, srv.URL))
		})
	}
	if o.Recorded {
		return
	}
	run("cancel before the first part", "", func(t *testing.T) { cancelEarly(t, open, o.Wire) })
	run("cancel between retries", "", func(t *testing.T) { cancelRetry(t, open, o.Wire) })
	streams := ""
	if o.WholeTurn {
		streams = whole
	}
	run("cancel mid-stream", streams, func(t *testing.T) { cancelMid(t, open) })
	run("break mid-stream", streams, func(t *testing.T) { breakMid(t, open) })
	run("parts arrive as they come", streams, func(t *testing.T) { arrive(t, open) })
}

// on is a case as a protocol can show it.
func (c contract) on(w *Wire) contract {
	if w.objects == "" {
		return c
	}
	c.want.Calls = slices.Clone(c.want.Calls)
	for i, call := range c.want.Calls {
		if call.Args == "" { // an object cannot be nothing
			c.want.Calls[i].Args = "{}"
		}
	}
	return c
}

func (c contract) verify(t *testing.T, srv *Server, m llm.Model) {
	t.Helper()
	req := c.req
	if req.Messages == nil {
		req.Messages = []llm.Message{{Role: llm.User, Text: "why is it pending"}}
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	var last llm.Part
	turn, err := llm.Collect(ctx, m, req, func(p llm.Part) { last = p })
	var failed *llm.Error
	if err != nil && !errors.As(err, &failed) {
		t.Fatalf("error of type %T, want *llm.Error: %v", err, err)
	}
	switch {
	case c.kind == "" && err != nil:
		t.Fatalf("error %v", err)
	case c.kind != "" && failed == nil:
		t.Fatalf("no error but %+v; want %s", turn, c.kind)
	case c.kind != "" && failed.Kind != c.kind:
		t.Fatalf("error of kind %s, want %s: %v", failed.Kind, c.kind, err)
	case c.kind != "" && turn.Text != c.partial:
		t.Errorf("text before the error %q, want %q", turn.Text, c.partial)
	case c.kind == "":
		if last.Kind != llm.FinishPart {
			t.Errorf("last part is %q, want finish", last.Kind)
		}
		got := turn
		if c.anyUsage {
			got.Input, got.Output, got.Estimated = c.want.Input, c.want.Output, c.want.Estimated
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("turn (-want +got):\n%s", diff)
		}
	}
	if c.check != nil {
		c.check(t, srv, turn, failed)
	}
	if n := srv.Left(); n > 0 {
		t.Errorf("%d scripted requests did not come", n)
	}
}

func ask() llm.Request {
	return llm.Request{Messages: []llm.Message{{Role: llm.User, Text: "why is it pending"}}}
}

// settled fails the test when goroutines stay that were not there before.
func settled(t *testing.T, before goleak.Option) {
	t.Helper()
	if err := goleak.Find(before); err != nil {
		t.Errorf("goroutines stay: %v", err)
	}
}

func left(t *testing.T, gone <-chan struct{}) {
	t.Helper()
	select {
	case <-gone:
	case <-time.After(patience):
		t.Error("the connection to the server stays open")
	}
}

// hanging is a step that says when a request has come and when its client left.
func hanging(text string) (step Step, came, gone chan struct{}) {
	came, gone = make(chan struct{}), make(chan struct{})
	return Do(func(x *Exchange) {
		if x.Request.Stream {
			x.Open()
		}
		if text != "" {
			x.Event(TextChunk(text))
		}
		close(came)
		// Keep-alives, so that the model does not take it for silence.
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-x.Done:
				close(gone)
				return
			case <-x.closed:
				return
			case <-tick.C:
				if x.Request.Stream && text != "" {
					x.Write(": keep-alive\n\n")
				}
			}
		}
	}), came, gone
}

func wantCancelled(t *testing.T, err error) {
	t.Helper()
	var failed *llm.Error
	if !errors.As(err, &failed) || failed.Kind != llm.Cancelled || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled with context.Canceled as the cause", err)
	}
}

type opener func(t *testing.T, baseURL string) llm.Model

func cancelEarly(t *testing.T, open opener, wire *Wire) {
	step, came, gone := hanging("")
	srv := NewWireServer(t, wire, step)
	m := open(t, srv.URL)
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-came; cancel() }()
	_, err := llm.Collect(ctx, m, ask(), nil)
	wantCancelled(t, err)
	left(t, gone)
	settled(t, before)
}

func cancelRetry(t *testing.T, open opener, wire *Wire) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	srv := NewWireServer(t, wire, Do(func(x *Exchange) {
		x.w.Header().Set("Retry-After", "2")
		x.Status(429, "application/json", `{"error":{"message":"slow down"}}`)
		cancel()
	}))
	started := time.Now()
	_, err := llm.Collect(ctx, open(t, srv.URL), ask(), nil)
	wantCancelled(t, err)
	if d := time.Since(started); d > 1900*time.Millisecond {
		t.Errorf("the pause went on for %s after the cancellation", d)
	}
}

func cancelMid(t *testing.T, open opener) {
	step, _, gone := hanging("half")
	srv := NewServer(t, step)
	m := open(t, srv.URL)
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	turn, err := llm.Collect(ctx, m, ask(), func(llm.Part) { cancel() })
	wantCancelled(t, err)
	if turn.Text != "half" {
		t.Errorf("text %q, want what had come", turn.Text)
	}
	left(t, gone)
	settled(t, before)
}

func breakMid(t *testing.T, open opener) {
	step, _, gone := hanging("half")
	srv := NewServer(t, step)
	m := open(t, srv.URL)
	before := goleak.IgnoreCurrent()
	for _, err := range m.Stream(t.Context(), ask()) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	left(t, gone)
	settled(t, before)
}

// arrive checks that parts are not held back until the answer is whole.
func arrive(t *testing.T, open opener) {
	next := make(chan struct{})
	srv := NewServer(t, Do(func(x *Exchange) {
		x.Event(TextChunk("one"))
		select {
		case <-next:
		case <-x.closed:
		case <-x.Done:
		}
		x.Event(TextChunk("two"), FinishChunk("stop"), "[DONE]")
	}))
	var got []string
	_, err := llm.Collect(t.Context(), open(t, srv.URL), ask(), func(p llm.Part) {
		if p.Kind == llm.TextPart {
			got = append(got, p.Text)
		}
		if len(got) == 1 && p.Kind == llm.TextPart {
			close(next)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "two"}, got); diff != "" {
		t.Error(diff)
	}
}
