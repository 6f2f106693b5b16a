package replay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
	"github.com/gumshoe-ai/gumshoe/agent/llm/replay"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, url string) llm.Model {
	t.Helper()
	m, err := openaichat.New(openaichat.Config{Provider: openaichat.Compatible, Name: "m", BaseURL: url, Window: 8000,
		Idle: 500 * time.Millisecond, Retry: transport.Policy{Pause: time.Millisecond, Longest: 2 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestRecorderContract(t *testing.T) {
	llmtest.Run(t, func(t *testing.T, url string) llm.Model {
		return replay.Record(open(t, url), &bytes.Buffer{}, nil)
	}, llmtest.Options{})
}

// rerun records each answer and gives what the recording says of it.
type rerun struct{ live llm.Model }

func (r rerun) Info() llm.Info { return r.live.Info() }

func (r rerun) Stream(ctx context.Context, req llm.Request) iter.Seq2[llm.Part, error] {
	var tape bytes.Buffer
	_, _ = llm.Collect(ctx, replay.Record(r.live, &tape, strings.ToUpper), req, nil) // an error is on the tape too
	c, err := replay.Open(&tape, strings.ToUpper)
	if err != nil {
		return func(yield func(llm.Part, error) bool) { yield(llm.Part{}, err) }
	}
	return c.Stream(ctx, req)
}

// plain is rerun without scrubbing.
type plain struct{ live llm.Model }

func (r plain) Info() llm.Info { return r.live.Info() }

func (r plain) Stream(ctx context.Context, req llm.Request) iter.Seq2[llm.Part, error] {
	var tape bytes.Buffer
	_, _ = llm.Collect(ctx, replay.Record(r.live, &tape, nil), req, nil) // an error is on the tape too
	c, err := replay.Open(&tape, nil)
	if err != nil {
		return func(yield func(llm.Part, error) bool) { yield(llm.Part{}, err) }
	}
	return c.Stream(ctx, req)
}

func TestCassetteContract(t *testing.T) {
	llmtest.Run(t, func(t *testing.T, url string) llm.Model { return plain{open(t, url)} }, llmtest.Options{Recorded: true})
}

func TestScrubbedRequestsStillMatch(t *testing.T) {
	srv := llmtest.NewServer(t, llmtest.Say("abc"))
	got, err := llm.Collect(t.Context(), rerun{open(t, srv.URL)}, user("why"), nil)
	if err != nil || got.Text != "ABC" {
		t.Errorf("turn %+v, error %v", got, err)
	}
}

func user(text string) llm.Request {
	return llm.Request{Messages: []llm.Message{{Role: llm.User, Text: text}}}
}

const canary = `geh"eim` + "\n" + `<1234>`

func TestSecretsDoNotReachTheCassette(t *testing.T) {
	escaped, err := json.Marshal(map[string]string{"password": canary, canary: "x"})
	if err != nil {
		t.Fatal(err)
	}
	args := string(escaped)
	srv := llmtest.NewServer(t,
		llmtest.Reply(llmtest.Answer{Reasoning: "r " + canary, Text: "in pieces: " + canary, Calls: []llm.Call{llmtest.Call("f", args)}}),
		llmtest.Fail(400, `{"error":{"message":"you sent geheim-im-fehler"}}`))
	var tape bytes.Buffer
	scrub := strings.NewReplacer(canary, "[masked]", "geheim-im-fehler", "[masked]").Replace
	m := replay.Record(open(t, srv.URL), &tape, scrub)
	req := llm.Request{System: "s " + canary, Messages: []llm.Message{
		{Role: llm.User, Text: canary}, {Role: llm.Assistant, Calls: []llm.Call{{ID: "c1", Name: "f", Args: args}}},
		{Role: llm.Tool, CallID: "c1", Text: `[1.50, ` + args + `]`},
	}, Tools: []llm.ToolDef{{Name: "f", Text: canary, Schema: escaped}}}
	live, err := llm.Collect(t.Context(), m, req, nil)
	if err != nil || !strings.Contains(live.Text, canary) {
		t.Fatalf("the caller gets the text as it is: %+v, %v", live, err)
	}
	if _, err := llm.Collect(t.Context(), m, req, nil); err == nil {
		t.Fatal("no error")
	}
	// The secret in any of the forms that JSON within JSON gives it.
	for _, piece := range []string{"eim", "1234"} {
		if strings.Contains(tape.String(), piece) {
			t.Errorf("the cassette holds %q:\n%s", piece, tape.String())
		}
	}
	if n := strings.Count(tape.String(), "[masked]"); n < 20 {
		t.Errorf("%d places are masked; the scrubber did not see all", n)
	}
	if !strings.Contains(tape.String(), "1.50") {
		t.Error("numbers are changed by the scrubbing")
	}
	c, err := replay.Open(&tape, scrub)
	if err != nil {
		t.Fatal(err)
	}
	got, err := llm.Collect(t.Context(), c, req, nil)
	if err != nil || got.Text != "in pieces: [masked]" {
		t.Errorf("replayed %+v, %v", got, err)
	}
}

func TestCassetteSaysWhatDiffers(t *testing.T) {
	srv := llmtest.NewServer(t, llmtest.Say("one"), llmtest.Say("two"))
	var tape bytes.Buffer
	rec := replay.Record(open(t, srv.URL), &tape, nil)
	first, second := user("why is it pending in team-a"), user("and now")
	first.Tools = []llm.ToolDef{{Name: "f", Text: "finds", Schema: json.RawMessage(`{ "type": "object" }`)}}
	for _, r := range []llm.Request{first, second} {
		if _, err := llm.Collect(t.Context(), rec, r, nil); err != nil {
			t.Fatal(err)
		}
	}
	change := func(f func(*llm.Request)) llm.Request {
		r := first
		r.Messages = append([]llm.Message(nil), first.Messages...)
		r.Tools = append([]llm.ToolDef(nil), first.Tools...)
		f(&r)
		return r
	}
	tests := map[string]struct {
		req  llm.Request
		want string
	}{
		"text":        {change(func(r *llm.Request) { r.Messages[0].Text = "why is it pending in team-b" }), `messages[0].text was "... it pending in team-a", is "... it pending in team-b"`},
		"system":      {change(func(r *llm.Request) { r.System = "x" }), `system was "", is "x"`},
		"more":        {change(func(r *llm.Request) { r.Messages = append(r.Messages, llm.Message{Role: llm.User}) }), `the number of messages was "1", is "2"`},
		"tool":        {change(func(r *llm.Request) { r.Tools[0].Name = "g" }), `the tools was "f", is "g"`},
		"schema":      {change(func(r *llm.Request) { r.Tools[0].Schema = json.RawMessage(`{"type":"array"}`) }), `the schema of tool f was`},
		"temperature": {change(func(r *llm.Request) { r.Temperature = 1 }), `temperature was "0", is "1"`},
		"many": {change(func(r *llm.Request) {
			r.System, r.Require, r.MaxTokens, r.Temperature = "x", "f", 1, 1
		}), `and 1 more`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := replay.Open(bytes.NewReader(tape.Bytes()), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = llm.Collect(t.Context(), c, tc.req, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "turn 1") {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	c, err := replay.Open(bytes.NewReader(tape.Bytes()), nil)
	if err != nil {
		t.Fatal(err)
	}
	spaced := change(func(r *llm.Request) { r.Tools[0].Schema = json.RawMessage(`{"type":"object"}`) })
	for i, r := range []llm.Request{second, spaced} { // in another order than recorded
		if got, err := llm.Collect(t.Context(), c, r, nil); err != nil || got.Text != []string{"two", "one"}[i] {
			t.Errorf("turn %+v, error %v", got, err)
		}
	}
	if c.Left() != 0 || c.Info().Window != 8000 {
		t.Errorf("left %d, info %+v", c.Left(), c.Info())
	}
	if _, err = llm.Collect(t.Context(), c, second, nil); err == nil || !strings.Contains(err.Error(), "once more") {
		t.Errorf("error %v for a repeated request", err)
	}
	if _, err = llm.Collect(t.Context(), c, user("new"), nil); err == nil || !strings.Contains(err.Error(), "at its end") {
		t.Errorf("error %v for a request after the end", err)
	}
}

type broken struct{ after int }

func (b *broken) Write(p []byte) (int, error) {
	if b.after--; b.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestRecorderSaysThatItCannotWrite(t *testing.T) {
	t.Parallel()
	for after := range 2 {
		m := replay.Record(replay.Turns(llm.Info{}, llm.Turn{Text: "a"}), &broken{after}, nil)
		_, err := llm.Collect(t.Context(), m, user("q"), nil)
		if err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("error %v", err)
		}
	}
	m := replay.Record(replay.Turns(llm.Info{}), &broken{}, nil)
	if _, err := llm.Collect(t.Context(), m, user("q"), nil); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("error %v", err)
	}
}

func TestBrokenOffAnswersAreNotRecorded(t *testing.T) {
	t.Parallel()
	var tape bytes.Buffer
	m := replay.Record(replay.Turns(llm.Info{}, llm.Turn{Text: "a"}, llm.Turn{Text: "b"}), &tape, nil)
	for range m.Stream(t.Context(), user("q")) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := llm.Collect(ctx, m, user("q"), func(llm.Part) { cancel() })
	var failed *llm.Error
	if !errors.As(err, &failed) || failed.Kind != llm.Cancelled {
		t.Errorf("error %v, want cancelled", err)
	}
	if tape.Len() > 0 {
		t.Errorf("the cassette holds %s", tape.String())
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for want, in := range map[string]string{
		"no cassette": `{"a":1}` + "\n",
		"empty":       "",
		"version 9":   `{"gumshoe_cassette":9}` + "\n",
		"line 2":      `{"gumshoe_cassette":1}` + "\n{\n",
		"too long":    strings.Repeat("x", 64<<20+1),
	} {
		if _, err := replay.Open(strings.NewReader(in), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	info := llm.Info{Provider: "script", Name: "s", Window: 1}
	call := llm.Call{ID: "1", Name: "f", Args: "{}"}
	m := replay.Turns(info, llm.Turn{Reasoning: "hm", Text: "abcde", Calls: []llm.Call{call}}, llm.Turn{Text: "x", Input: 5, Output: 6, Reason: llm.FinishLength})
	want := []llm.Turn{
		{Reasoning: "hm", Text: "abcde", Calls: []llm.Call{call}, Input: 1, Output: 3, Estimated: true, Reason: llm.FinishCalls},
		{Text: "x", Input: 5, Output: 6, Reason: llm.FinishLength},
	}
	for _, w := range want {
		got, err := llm.Collect(t.Context(), m, user("why"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(w, got); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := llm.Collect(t.Context(), m, user("why"), nil); err == nil || !strings.Contains(err.Error(), "2 turns; turn 3") {
		t.Errorf("error %v", err)
	}
	if m.Info() != info {
		t.Errorf("info %+v", m.Info())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := llm.Collect(ctx, m, user("why"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

func TestFunc(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	m := replay.Func(llm.Info{}, func(n int, req llm.Request) (llm.Turn, error) {
		if req.Messages[0].Text == "fail" {
			return llm.Turn{Text: "half"}, boom
		}
		return llm.Turn{Text: fmt.Sprint(req.Messages[0].Text, " ", n > 0)}, nil
	})
	got, err := llm.Collect(t.Context(), m, user("fail"), nil)
	if !errors.Is(err, boom) || got.Text != "half" {
		t.Errorf("turn %+v, error %v", got, err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got, err := llm.Collect(t.Context(), m, user("q"), nil); err != nil || got.Text != "q true" {
				t.Errorf("turn %+v, error %v", got, err)
			}
		})
	}
	all.Wait()
}
