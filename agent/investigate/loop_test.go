package investigate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/llm"
	"github.com/gumshoe-ai/gumshoe/agent/llm/llmtest"
	"github.com/gumshoe-ai/gumshoe/agent/llm/openaichat"
	"github.com/gumshoe-ai/gumshoe/agent/llm/transport"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// chat is a model over real HTTP to the scripted server.
func chat(t testing.TB, change func(*openaichat.Config), script ...llmtest.Step) (*llmtest.Server, llm.Model) {
	t.Helper()
	srv := llmtest.NewServer(t, script...)
	cfg := openaichat.Config{Provider: openaichat.Compatible, Name: "test", BaseURL: srv.URL, InputPrice: 1, OutputPrice: 2,
		Idle: 5 * time.Second, Wait: 5 * time.Second, Retry: transport.Policy{Attempts: 2, Pause: time.Millisecond, Longest: 2 * time.Millisecond},
		HTTP: &http.Transport{}}
	if change != nil {
		change(&cfg)
	}
	m, err := openaichat.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	t.Cleanup(cfg.HTTP.(*http.Transport).CloseIdleConnections)
	return srv, m
}

// talk runs lab with a scripted model.
func talk(t testing.TB, change func(*Config), script ...llmtest.Step) (incident.Report, *llmtest.Server, *tape) {
	t.Helper()
	srv, m := chat(t, nil, script...)
	cfg := base(t, labLogs())
	cfg.Model = m
	if change != nil {
		change(&cfg)
	}
	r, tp := investigate(t, cfg)
	return r, srv, tp
}

func labLogs() tool.Tool { return text("kube_logs", "GET /healthz 200\nno such file: weights.bin") }

// conclude is a call of the conclude tool.
func conclude(v any) llm.Call {
	b, err := json.Marshal(v)
	if err != nil {
		return llmtest.Call(concludeTool, err.Error())
	}
	return llmtest.Call(concludeTool, string(b))
}

type obj = map[string]any

func rightAnswer() obj {
	return obj{"outcome": "root_cause", "summary": "The claim wants an H200 and there is none.", "causes": []obj{{
		"subject": claim.String(), "code": "dra.selector_excludes_all", "statement": "The claim wants H200 and the 48 devices are H100 or A100", "confidence": 0.9, "evidence": []string{"E2"}}}}
}

func invented() obj {
	return obj{"outcome": "root_cause", "causes": []obj{{"subject": "Node gpu-node-9", "statement": "Node gpu-node-9 has a bad cable", "confidence": 0.99, "evidence": []string{"E77"}}}}
}

// keeps checks that triage's answer stands.
func keeps(t *testing.T, r incident.Report, stop incident.Stop) {
	t.Helper()
	d := r.Diagnosis
	if r.Stop != stop {
		t.Errorf("stop %s (%s), want %s", r.Stop, r.StopReason, stop)
	}
	if d.Outcome != incident.RootCause || len(d.Causes) == 0 || d.Causes[0].Subject != claim || d.Causes[0].Code != "dra.selector_excludes_all" || len(d.Chain) == 0 || len(d.Proposals) == 0 {
		t.Errorf("triage's answer does not stand: %+v", d)
	}
}

func TestModelConcludes(t *testing.T) {
	t.Parallel()
	r, srv, tp := talk(t, nil,
		llmtest.Reply(llmtest.Answer{Text: "I look at the logs.", Calls: []llm.Call{llmtest.Call("kube_logs", `{}`), llmtest.Call("kube_pod", `{"namespace":"train","name":"llama-0"}`)}}),
		llmtest.When(func(q llmtest.Request) llmtest.Step {
			res := q.Results()
			if len(res) != 2 || !strings.Contains(res[0], "[E3] kube_logs") || !strings.Contains(res[0], "weights.bin") || !strings.Contains(res[1], "[E1] kube_pod") {
				t.Errorf("results %q", res)
			}
			return llmtest.Ask(conclude(rightAnswer()))
		}))
	keeps(t, r, incident.StopDone)
	if r.Diagnosis.Summary != "The claim wants an H200 and there is none." || len(r.Diagnosis.Unsupported) != 0 || len(r.Diagnosis.Causes) != 1 {
		t.Errorf("%+v", r.Diagnosis)
	}
	u := r.Usage
	if u.Steps != 2 || u.ToolCalls != 3 || u.InputTokens == 0 || u.OutputTokens == 0 || u.Cost <= 0 || u.Seconds <= 0 {
		t.Errorf("%+v", u)
	}
	first := srv.Requests()[0]
	for _, name := range []string{"conclude", "evidence_read", "kube_pod", "kube_logs", "dra_explain"} {
		if !first.HasTool(name) {
			t.Errorf("%s is not offered", name)
		}
	}
	for _, want := range []string{"why is pod train/llama-0 pending?", "dra.selector_excludes_all", "48 devices", "[E2] dra_explain", "-claims->", "claim_template_patch"} {
		if !first.Contains(want) {
			t.Errorf("the first request does not hold %q", want)
		}
	}
	deltas := ""
	for _, e := range tp.of(event.Delta) {
		deltas += e.Model.Text
	}
	if deltas != "I look at the logs." {
		t.Errorf("deltas %q", deltas)
	}
	if n := len(tp.of(event.ModelEnded)); n != 2 {
		t.Errorf("%d turns in the stream", n)
	}
}

// A tool that did not fit into the first request is opened by name and then
// called; opening what there is not is an answer, not a failure of the run.
func TestModelOpensTools(t *testing.T) {
	t.Parallel()
	var many []tool.Tool
	for i := range 60 {
		many = append(many, sized[listArgs](t, fmt.Sprintf("other_tool_%d", i)))
	}
	srv, m := chat(t, nil,
		llmtest.When(func(q llmtest.Request) llmtest.Step {
			if q.HasTool("other_tool_59") || !q.HasTool(openTool) {
				t.Errorf("offered: %v", q.Tools)
			}
			return llmtest.Ask(llmtest.Call(openTool, `{"names":["other_tool_59","conclude","nosuch"]}`))
		}),
		llmtest.When(func(q llmtest.Request) llmtest.Step {
			res := q.Results()
			if !q.HasTool("other_tool_59") || len(res) != 1 || !strings.Contains(res[0], "other_tool_59(kind") || !strings.Contains(res[0], "conclude is open") || !strings.Contains(res[0], `no tool "nosuch"`) {
				t.Errorf("results %q", res)
			}
			return llmtest.Ask(llmtest.Call("other_tool_59", `{"kind":"Pod"}`), llmtest.Call(openTool, `{"names":7}`))
		}),
		llmtest.When(func(q llmtest.Request) llmtest.Step {
			if res := q.Results(); len(res) < 3 || !strings.Contains(res[1], "[E3] other_tool_59") || !strings.Contains(res[2], "arguments") {
				t.Errorf("results %q", res)
			}
			return llmtest.Ask(conclude(rightAnswer()))
		}))
	cfg := base(t, many...)
	cfg.Model = m
	r, _ := investigate(t, cfg)
	keeps(t, r, incident.StopDone)
	if n := len(srv.Requests()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

func TestModelParallelCallsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	slow := raw{tool.Info{Name: "slow", Text: "x", Effect: tool.Read}, func(context.Context, json.RawMessage) (tool.Result, error) {
		<-gate
		return tool.Result{Text: "slow"}, nil
	}}
	fast := raw{tool.Info{Name: "fast", Text: "x", Effect: tool.Read}, func(context.Context, json.RawMessage) (tool.Result, error) {
		close(gate)
		return tool.Result{Text: "fast"}, nil
	}}
	srv, m := chat(t, nil, llmtest.Ask(llmtest.Call("slow", ``), llmtest.Call("fast", `{}`)), llmtest.Ask(conclude(rightAnswer())))
	cfg := base(t, slow, fast)
	cfg.Model = m
	r, _ := investigate(t, cfg)
	keeps(t, r, incident.StopDone)
	if res := srv.Last().Results(); len(res) != 2 || !strings.HasPrefix(res[0], "[E3] slow") || !strings.HasPrefix(res[1], "[E4] fast") {
		t.Errorf("%q", res)
	}
}

// TestAdversary: whatever a model does, the run ends with a valid report.
func TestAdversary(t *testing.T) {
	t.Parallel()
	ask := func(name, args string) llmtest.Step { return llmtest.Ask(llmtest.Call(name, args)) }
	n := 0
	fresh := llmtest.Do(func(x *llmtest.Exchange) {
		n++
		x.Reply(llmtest.Answer{Calls: []llm.Call{llmtest.Call("kube_pod", fmt.Sprintf(`{"namespace":"train","name":"p-%d"}`, n))}})
	})
	steps := func(n int) func(*Config) { return func(c *Config) { c.Budget.Steps = n } }
	for _, tc := range []struct {
		name   string
		change func(*Config)
		script []llmtest.Step
		stop   incident.Stop
		check  func(*testing.T, incident.Report, *llmtest.Server)
	}{
		{"endless new calls", steps(6), []llmtest.Step{llmtest.Forever(fresh)}, incident.StopBudget, func(t *testing.T, r incident.Report, s *llmtest.Server) {
			if len(s.Requests()) != 6 || r.Usage.Steps != 6 {
				t.Errorf("%d requests", len(s.Requests()))
			}
			if last := s.Last(); len(last.Tools) != 1 || !strings.Contains(string(last.Fields["tool_choice"]), concludeTool) || !strings.Contains(last.LastText(), "budget of 6 steps") {
				t.Errorf("the last turn does not ask for the conclusion: %q", last.LastText())
			}
		}},
		{"endless same call", nil, []llmtest.Step{llmtest.Forever(ask("kube_logs", `{}`))}, incident.StopModel, func(t *testing.T, r incident.Report, s *llmtest.Server) {
			if len(s.Requests()) > 6 || r.Usage.ToolCalls != 3 {
				t.Errorf("%d requests, %d calls", len(s.Requests()), r.Usage.ToolCalls)
			}
			if !s.Last().Contains("You made this call before") {
				t.Error("no hint was given")
			}
		}},
		{"A/B loop", nil, []llmtest.Step{
			ask("kube_logs", `{}`), ask("evidence_read", `{"id":"E2"}`), ask("kube_logs", `{}`), ask("evidence_read", `{"id":"E2"}`), ask("kube_logs", `{}`),
			llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, r incident.Report, s *llmtest.Server) {
			if !s.Last().Contains("The same calls keep coming back") {
				t.Error("the loop was not ended")
			}
		}},
		{"invalid arguments for ever", nil, []llmtest.Step{llmtest.Forever(ask("kube_pod", `{"namespace":`))}, incident.StopModel, func(t *testing.T, r incident.Report, s *llmtest.Server) {
			if !s.Last().Contains("not valid JSON") || len(s.Requests()) > 6 || len(r.Evidence) != 2 {
				t.Errorf("%d requests", len(s.Requests()))
			}
		}},
		{"invented tools", nil, []llmtest.Step{llmtest.Ask(llmtest.Call("kubectl_delete", `{"all":true}`), llmtest.Call("shell", `{"cmd":"rm -rf /"}`)), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, r incident.Report, s *llmtest.Server) {
			if !s.Last().Contains(`there is no tool "shell"`) || r.Usage.ToolCalls != 2 {
				t.Error("an invented tool was not refused")
			}
		}},
		{"schema violations", nil, []llmtest.Step{ask("kube_pod", `{"namespace":7,"pod":"x"}`), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, _ incident.Report, s *llmtest.Server) {
			if !s.Last().Contains("namespace (string)") {
				t.Error("the error does not say what the arguments are")
			}
		}},
		{"invented evidence, twice", nil, []llmtest.Step{llmtest.Times(2, llmtest.Ask(conclude(invented())))}, incident.StopDone, func(t *testing.T, r incident.Report, s *llmtest.Server) {
			if len(s.Requests()) != 2 || !s.Last().Contains("E77, which does not exist") {
				t.Error("it was not sent back once")
			}
			if len(r.Diagnosis.Unsupported) == 0 || !strings.Contains(r.Diagnosis.Unsupported[0].Claim, "cable") {
				t.Errorf("%+v", r.Diagnosis.Unsupported)
			}
		}},
		{"invented evidence, corrected", nil, []llmtest.Step{llmtest.Ask(conclude(invented())), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if len(r.Diagnosis.Unsupported) != 0 {
				t.Errorf("%+v", r.Diagnosis.Unsupported)
			}
		}},
		{"invented object", nil, []llmtest.Step{llmtest.Times(2, llmtest.Ask(conclude(obj{"outcome": "root_cause", "causes": []obj{
			{"subject": "Secret train/ghost-token", "statement": "Secret ghost-token is missing", "confidence": 0.9, "evidence": "E1"}}})))}, incident.StopDone, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if len(r.Diagnosis.Causes) != 1 || len(r.Diagnosis.Unsupported) != 1 {
				t.Errorf("%+v", r.Diagnosis)
			}
		}},
		{"healthy against the findings", nil, []llmtest.Step{llmtest.Times(2, llmtest.Ask(conclude(obj{"outcome": "healthy", "checked": []obj{{"what": "pod", "result": "fine", "evidence": []string{"E1"}}}})))}, incident.StopDone, nil},
		{"nothing at all", nil, []llmtest.Step{llmtest.Times(2, llmtest.Ask(llmtest.Call(concludeTool, `{"outcome":"inconclusive"}`)))}, incident.StopDone, nil},
		{"conclusion that is no JSON", nil, []llmtest.Step{llmtest.Forever(ask(concludeTool, `{"outcome":`))}, incident.StopModel, nil},
		{"conclusion of other types", nil, []llmtest.Step{ask(concludeTool, `{"outcome":"root_cause","causes":"the pod"}`), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, _ incident.Report, s *llmtest.Server) {
			if !s.Last().Contains(`belongs at "causes"`) {
				t.Errorf("%q", s.Last().LastText())
			}
		}},
		{"a megabyte of text", nil, []llmtest.Step{llmtest.Line(strings.Repeat("x", 1<<20)), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if len(r.Diagnosis.Summary) > maxSummary+10 {
				t.Errorf("a summary of %d bytes", len(r.Diagnosis.Summary))
			}
		}},
		{"a megabyte of braces", nil, []llmtest.Step{llmtest.Times(2, llmtest.Line(strings.Repeat(`{"a":`, 200_000)))}, incident.StopDone, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if len(r.Diagnosis.Summary) > maxSummary+10 {
				t.Errorf("a summary of %d bytes", len(r.Diagnosis.Summary))
			}
		}},
		{"a megabyte of arguments", nil, []llmtest.Step{ask("kube_pod", `{"namespace":"`+strings.Repeat("x", 1<<20)+`","name":"y"}`), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, nil},
		{"hundred calls in one turn", nil, []llmtest.Step{llmtest.Ask(slices.Repeat([]llm.Call{llmtest.Call("kube_logs", `{}`)}, 100)...), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, r incident.Report, s *llmtest.Server) {
			if r.Usage.ToolCalls != 3 || !s.Last().Contains("at most 12 calls") {
				t.Errorf("%d calls", r.Usage.ToolCalls)
			}
		}},
		{"stream cut once", nil, []llmtest.Step{llmtest.Cut("The claim"), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, nil},
		{"stream always cut", nil, []llmtest.Step{llmtest.Forever(llmtest.Cut("The claim"))}, incident.StopModel, func(t *testing.T, _ incident.Report, s *llmtest.Server) {
			if len(s.Requests()) != 2 {
				t.Errorf("%d requests", len(s.Requests()))
			}
		}},
		{"429 once", nil, []llmtest.Step{llmtest.RateLimit("Retry-After-Ms", "1"), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, nil},
		{"429 for ever", nil, []llmtest.Step{llmtest.Forever(llmtest.RateLimit("Retry-After-Ms", "1"))}, incident.StopModel, nil},
		{"429 after a rejected answer", nil, []llmtest.Step{llmtest.Ask(conclude(obj{"outcome": "root_cause", "causes": []obj{rightAnswer()["causes"].([]obj)[0], invented()["causes"].([]obj)[0]}})),
			llmtest.Forever(llmtest.RateLimit("Retry-After-Ms", "1"))}, incident.StopModel, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if len(r.Diagnosis.Unsupported) != 1 {
				t.Errorf("the draft was thrown away: %+v", r.Diagnosis)
			}
		}},
		{"HTML", nil, []llmtest.Step{llmtest.Forever(llmtest.HTML(200))}, incident.StopModel, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if strings.Contains(r.StopReason, "<p>") || len(r.StopReason) > 800 {
				t.Errorf("%q", r.StopReason)
			}
		}},
		{"wrong key", nil, []llmtest.Step{llmtest.Fail(401, `{"error":{"message":"Incorrect API key provided"}}`)}, incident.StopModel, nil},
		{"refusal", nil, []llmtest.Step{llmtest.Refuse("I cannot help with that.")}, incident.StopModel, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if !strings.Contains(r.StopReason, "refused") || r.Diagnosis.Summary != "" {
				t.Errorf("%q", r.StopReason)
			}
		}},
		{"empty answers", nil, []llmtest.Step{llmtest.Times(2, llmtest.Say(""))}, incident.StopModel, nil},
		{"prose only", nil, []llmtest.Step{llmtest.Times(2, llmtest.Say("I think the hunter2 GPU is too small."))}, incident.StopDone, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if r.Diagnosis.Summary != "I think the *** GPU is too small." {
				t.Errorf("summary %q", r.Diagnosis.Summary)
			}
		}},
		{"conclusion in prose", nil, []llmtest.Step{llmtest.Do(func(x *llmtest.Exchange) {
			b, _ := json.Marshal(rightAnswer())
			x.Reply(llmtest.Answer{Text: "Here {it} is:\n```json\n" + string(b) + "\n```\nThat is all."})
		})}, incident.StopDone, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if r.Diagnosis.Summary != "The claim wants an H200 and there is none." {
				t.Errorf("summary %q", r.Diagnosis.Summary)
			}
		}},
		{"server without tools", nil, []llmtest.Step{llmtest.Fail(400, `{"object":"error","message":"\"auto\" tool choice requires --enable-auto-tool-choice","code":400}`), llmtest.When(func(q llmtest.Request) llmtest.Step {
			b, _ := json.Marshal(obj{"conclusion": rightAnswer()})
			if len(q.Tools) != 0 || !q.Contains("exactly one JSON object") || !q.Contains("kube_logs(") {
				return llmtest.Say("the prompt is wrong")
			}
			return llmtest.Say(string(b))
		})}, incident.StopDone, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if r.Diagnosis.Summary != "The claim wants an H200 and there is none." {
				t.Errorf("summary %q", r.Diagnosis.Summary)
			}
		}},
		{"cut at the longest length", nil, []llmtest.Step{llmtest.Reply(llmtest.Answer{Calls: []llm.Call{llmtest.Call(concludeTool, `{"outcome":"root_ca`)}, Finish: "length"}), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, _ incident.Report, s *llmtest.Server) {
			if !s.Last().Contains("be briefer") {
				t.Errorf("%q", s.Last().LastText())
			}
		}},
		{"overflow once", nil, []llmtest.Step{llmtest.Overflow(), llmtest.Ask(conclude(rightAnswer()))}, incident.StopDone, func(t *testing.T, _ incident.Report, s *llmtest.Server) {
			size := func(q llmtest.Request) int { return len(q.System) + len(q.Messages[0].Text) }
			if rs := s.Requests(); size(rs[1]) >= size(rs[0]) {
				t.Errorf("%d bytes, then %d", size(rs[0]), size(rs[1]))
			}
		}},
		{"overflow for ever", nil, []llmtest.Step{llmtest.Forever(llmtest.Overflow())}, incident.StopModel, func(t *testing.T, _ incident.Report, s *llmtest.Server) {
			if len(s.Requests()) != 2 {
				t.Errorf("%d requests", len(s.Requests()))
			}
		}},
		{"token budget of nothing", func(c *Config) { c.Budget.Tokens = 50 }, nil, incident.StopBudget, nil},
		{"token budget for one turn", func(c *Config) { c.Budget.Tokens = 9000 }, []llmtest.Step{llmtest.Ask(conclude(rightAnswer()))}, incident.StopBudget, func(t *testing.T, r incident.Report, s *llmtest.Server) {
			if len(s.Last().Tools) != 1 || r.Usage.InputTokens+r.Usage.OutputTokens > 9000 {
				t.Errorf("%+v", r.Usage)
			}
		}},
		{"cost budget", func(c *Config) { c.Budget.Cost = 0.000001 }, nil, incident.StopBudget, func(t *testing.T, r incident.Report, _ *llmtest.Server) {
			if r.Usage.Cost != 0 {
				t.Errorf("%+v", r.Usage)
			}
		}},
		{"one step", steps(1), []llmtest.Step{llmtest.Ask(conclude(rightAnswer()))}, incident.StopBudget, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, srv, _ := talk(t, tc.change, tc.script...)
			keeps(t, r, tc.stop)
			if tc.check != nil {
				tc.check(t, r, srv)
			}
		})
	}
}

func TestModelHangs(t *testing.T) {
	t.Parallel()
	r, srv, _ := talk(t, func(c *Config) { c.Budget.WallClock = 500 * time.Millisecond }, llmtest.Forever(llmtest.Hang("The claim")))
	keeps(t, r, incident.StopBudget)
	if len(srv.Requests()) != 2 || !strings.Contains(srv.Last().LastText(), "time budget") {
		t.Errorf("%d requests, last %q", len(srv.Requests()), srv.Last().LastText())
	}
}

func TestModelInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	_, m := chat(t, nil, llmtest.Do(func(x *llmtest.Exchange) { x.Open(); cancel(); x.Wait() }))
	cfg := base(t)
	cfg.Model = m
	r, _ := investigateIn(t, ctx, cfg)
	keeps(t, r, incident.StopInterrupted)
}

func TestModelNowhere(t *testing.T) {
	t.Parallel()
	_, m := chat(t, func(c *openaichat.Config) { c.BaseURL = "http://127.0.0.1:1/v1" })
	cfg := base(t)
	cfg.Model = m
	r, _ := investigate(t, cfg)
	keeps(t, r, incident.StopModel)
}

func TestModelWithoutTools(t *testing.T) {
	t.Parallel()
	says := func(v any) llmtest.Step {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return llmtest.Say(string(b))
	}
	srv, m := chat(t, func(c *openaichat.Config) { c.NoTools = true },
		says(obj{"calls": []obj{{"tool": "kube_logs", "args": obj{}}, {"tool": "shell", "args": obj{"cmd": "ls"}}}}),
		llmtest.Say("Hm, let me think."),
		llmtest.When(func(q llmtest.Request) llmtest.Step {
			if len(q.Tools) != 0 || !q.Contains("[E3] kube_logs") || !q.Contains(`there is no tool "shell"`) || !q.Contains("exactly one JSON object as described") {
				t.Errorf("the conversation is wrong: %+v", q.Messages)
			}
			for i := 1; i < len(q.Messages); i++ {
				if q.Messages[i].Role == q.Messages[i-1].Role || q.Messages[i].Role == llm.Tool {
					t.Errorf("message %d of role %s follows the same", i, q.Messages[i].Role)
				}
			}
			return says(obj{"conclusion": rightAnswer()})
		}))
	cfg := base(t, labLogs())
	cfg.Model = m
	r, _ := investigate(t, cfg)
	keeps(t, r, incident.StopDone)
	if r.Diagnosis.Summary == "" || srv.Left() != 0 {
		t.Errorf("%+v", r.Diagnosis)
	}
}

// TestModelIsNotAskedWithoutASubject: a name that does not exist is answered as such.
func TestModelIsNotAskedWithoutASubject(t *testing.T) {
	t.Parallel()
	r, srv, _ := talk(t, func(c *Config) {
		c.Triager = triager(func(context.Context, incident.Question, tool.Caller) (incident.Assessment, error) {
			return incident.Assessment{Diagnosis: incident.Diagnosis{Outcome: incident.Inconclusive, Ask: &incident.Clarification{Text: "pod x does not exist", Choices: []incident.Ref{pod}}}}, nil
		})
	})
	if len(srv.Requests()) != 0 || r.Diagnosis.Ask == nil || r.Stop != incident.StopDone {
		t.Errorf("%+v", r.Diagnosis)
	}
}
