package mcpserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/mcpserver"
)

func own() []string {
	return []string{"follow_up", "investigate", "investigation_cancel", "investigation_get", "investigations_list", "plan_get", "plan_propose", "plans_list"}
}

func tools(t *testing.T, cs *sdk.ClientSession) map[string]*sdk.Tool {
	t.Helper()
	out := map[string]*sdk.Tool{}
	for x, err := range cs.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		out[x.Name] = x
	}
	return out
}

// The official client lists every tool over both transports, calls each, and gets what
// its output schema says.
func TestEveryTool(t *testing.T) {
	t.Parallel()
	for name, connect := range transports() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cs := connect(t, newServer(t, newBench(t, nil), mcpserver.Config{}), nil)
			listed := tools(t, cs)
			var names []string
			for n, x := range listed {
				names = append(names, n)
				readOnly := n != "investigate" && n != "follow_up" && n != "investigation_cancel" && n != "plan_propose"
				if a := x.Annotations; a == nil || a.ReadOnlyHint != readOnly || a.DestructiveHint == nil || *a.DestructiveHint || x.Description == "" {
					t.Errorf("%s: annotations %+v", n, a)
				}
				if raw, _ := json.Marshal(x.InputSchema); strings.Contains(string(raw), `"null"`) {
					t.Errorf("%s: the input has a union with null: %s", n, raw)
				}
			}
			slices.Sort(names)
			if diff := cmp.Diff(slices.Sorted(slices.Values(append(own(), "kube_pod"))), names); diff != "" {
				t.Fatal(diff)
			}
			called := map[string]bool{}
			use := func(name string, args any, want string) map[string]any {
				t.Helper()
				called[name] = true
				text, data, failed := call(t, cs, name, args)
				if failed || !strings.Contains(text, want) || data == nil {
					t.Fatalf("%s: failed %v, text %q does not hold %q, data %v", name, failed, text, want, data)
				}
				conforms(t, listed[name], data)
				return data
			}
			inv := use("investigate", map[string]any{"question": "why is llama-0 pending", "namespace": "train"}, "no device satisfies")
			if inv["state"] != "answered" || inv["outcome"] != "root_cause" {
				t.Errorf("%v", inv)
			}
			run, ses := inv["run"].(string), inv["session"].(string)
			use("follow_up", map[string]any{"session": ses, "question": "since when"}, "answered")
			use("investigation_get", map[string]any{"id": run}, "no device satisfies")
			use("investigation_get", map[string]any{"id": ses}, "since when")
			use("investigations_list", map[string]any{"search": "LLAMA"}, ses)
			use("plan_propose", map[string]any{"run": run, "set": map[string]string{"memory": "80Gi"}, "reason": "it waits"}, "Only a person decides")
			use("plan_get", map[string]any{"id": "plan-1"}, "patch claim template")
			use("plans_list", nil, "plan-1")
			use("kube_pod", map[string]any{"pod": "llama-0"}, "<data MARK1234>\nllama-0 is Pending")
			silent := use("investigate", map[string]any{"question": "again", "wait": false}, "waits for its turn")
			text, _, failed := call(t, cs, "investigation_cancel", map[string]any{"session": silent["session"], "turn": "run-nobody"})
			if !failed || !strings.Contains(text, `has no turn "run-nobody"`) {
				t.Errorf("cancel of nothing: %q", text)
			}
			called["investigation_cancel"] = true
			for n := range listed {
				if !called[n] {
					t.Errorf("%s was not called", n)
				}
			}
		})
	}
}

// conforms holds a result against the schema that its tool announces.
func conforms(t *testing.T, x *sdk.Tool, data map[string]any) {
	t.Helper()
	if x.OutputSchema == nil {
		return
	}
	raw, err := json.Marshal(x.OutputSchema)
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(data); err != nil {
		t.Errorf("%s: %v", x.Name, err)
	}
}

// said collects progress.
type said struct {
	mu    sync.Mutex
	lines []string
	c     chan string
}

func newSaid() *said { return &said{c: make(chan string, 100)} }

func (s *said) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	s.c <- line
}

// await reads on until a line holds a text.
func (s *said) await(t *testing.T, want string) {
	t.Helper()
	for {
		select {
		case line := <-s.c:
			if strings.Contains(line, want) {
				return
			}
		case <-t.Context().Done():
			t.Fatalf("nobody said %q: %q", want, s.lines)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for name, connect := range transports() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			b := newBench(t, func(b *bench) { b.gate = gate })
			progress := newSaid()
			cs := connect(t, newServer(t, b, mcpserver.Config{}), progress.add)
			done := make(chan map[string]any, 1)
			go func() {
				_, data, _ := call(t, cs, "investigate", map[string]any{"question": "why"})
				done <- data
			}()
			progress.await(t, "queued as run-")
			progress.await(t, "started, model offline")
			progress.await(t, `E1 kube_pod {"pod":"llama-0"}`)
			progress.await(t, "likely: no device satisfies")
			select {
			case d := <-done:
				t.Fatalf("answered before its run was: %v", d)
			default:
			}
			close(gate)
			if d := <-done; d["state"] != "answered" {
				t.Errorf("%v", d)
			}
			progress.mu.Lock()
			defer progress.mu.Unlock()
			for i, line := range progress.lines {
				if !strings.HasPrefix(line, fmt.Sprintf("%d ", i+1)) {
					t.Errorf("progress does not grow: %q", progress.lines)
				}
			}
			a := <-b.asked
			if a.Source != session.MCP || a.By.Surface != session.MCP {
				t.Errorf("asked as %+v", a.By)
			}
		})
	}
}

// turnEnds waits until the journal says that the last turn of the newest session ended.
func (b *bench) turnEnds(t *testing.T) session.Turn {
	t.Helper()
	for range b.Follow(t.Context(), nil) {
		s, err := b.Get(t.Context(), "latest")
		if err != nil {
			t.Fatal(err)
		}
		if turn, ok := s.Last(); ok && turn.State.Ended() {
			return turn
		}
	}
	t.Fatal("it never ended")
	return session.Turn{}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for name, connect := range transports() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(b *bench) { b.gate = make(chan struct{}) })
			progress := newSaid()
			cs := connect(t, newServer(t, b, mcpserver.Config{}), progress.add)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := cs.CallTool(ctx, &sdk.CallToolParams{Name: "investigate", Arguments: map[string]any{"question": "why"}, Meta: sdk.Meta{"progressToken": 7}})
				done <- err
			}()
			progress.await(t, "E1 kube_pod")
			cancel()
			if err := <-done; err == nil {
				t.Error("a cancelled call answers")
			}
			if turn := b.turnEnds(t); turn.State != session.Cancelled {
				t.Errorf("the turn is %s", turn.State)
			}
		})
	}
}

// A client that has no patience learns where the answer will be, and can take the
// question back.
func TestWaitEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(b *bench) { b.gate = make(chan struct{}) })
	cs := overStdio(t, newServer(t, b, mcpserver.Config{Wait: access.Duration(time.Millisecond)}), nil)
	text, data, failed := call(t, cs, "investigate", map[string]any{"question": "why"})
	if failed || data["state"] == "answered" || !strings.Contains(text, "investigation_get "+data["turn"].(string)) && !strings.Contains(text, "Nothing is known of "+data["turn"].(string)) {
		t.Fatalf("failed %v: %s %v", failed, text, data)
	}
	_, data, failed = call(t, cs, "investigation_cancel", map[string]any{"session": data["session"], "turn": data["turn"]})
	if failed || data["state"] != "cancelled" {
		t.Errorf("%v", data)
	}
	if turn := b.turnEnds(t); turn.State != session.Cancelled {
		t.Errorf("the turn is %s", turn.State)
	}
}

// A run that is cut off and begun again is followed to the answer of the second.
func TestSecondRun(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	b := newBench(t, func(b *bench) { b.gate = gate })
	progress := newSaid()
	cs := overStdio(t, newServer(t, b, mcpserver.Config{}), progress.add)
	done := make(chan map[string]any, 1)
	go func() {
		_, data, _ := call(t, cs, "investigate", map[string]any{"question": "why"})
		done <- data
	}()
	progress.await(t, "E1 kube_pod")
	s, err := b.Get(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	turn, _ := s.Last()
	data, err := json.Marshal(session.Change{Begun: &session.Begun{Turn: turn.ID, Run: turn.ID + "-2", Attempt: 2}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(t.Context(), s.ID, entry(session.TypeBegun, data)); err != nil {
		t.Fatal(err)
	}
	turn.Run = turn.ID + "-2"
	rep, err := (&bench{st: b.st, report: pending}).investigate(t.Context(), session.Job{Run: turn.Run, Question: incident.Question{Text: "why"}})
	if err != nil {
		t.Fatal(err)
	}
	turn.State, turn.Outcome = session.Answered, rep.Diagnosis.Outcome
	if data, err = json.Marshal(session.Change{Ended: &turn}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(t.Context(), s.ID, entry(session.TypeEnded, data)); err != nil {
		t.Fatal(err)
	}
	if d := <-done; d["run"] != turn.Run || d["state"] != "answered" {
		t.Errorf("%v", d)
	}
	close(gate)
}

// What happens in a run has words, and none of them breaks a line.
func TestNarrationOfEveryEvent(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(b *bench) {
		b.report = func(run string, q incident.Question) incident.Report {
			r := pending(run, q)
			r.Evidence[0].Args = json.RawMessage(`{"pod":"` + strings.Repeat("x", 5000) + `\n\u001b[2J"}`)
			return r
		}
	})
	progress := newSaid()
	cs := overStdio(t, newServer(t, b, mcpserver.Config{}), progress.add)
	if _, d, _ := call(t, cs, "investigate", map[string]any{"question": "why"}); d["state"] != "answered" {
		t.Fatal(d)
	}
	progress.await(t, "queued")
	progress.mu.Lock()
	defer progress.mu.Unlock()
	for _, l := range progress.lines {
		if len(l) > 1000 || strings.ContainsAny(l, "\n\x1b") {
			t.Errorf("%q", l)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{}`:                           "",
		`{"wait":"10m"}`:               "",
		`{"wait":"-1s"}`:               "server.mcp.wait -1s",
		`{"wait":"3h"}`:                "server.mcp.wait 3h0m0s",
		`{"maxRequest":10}`:            "server.mcp.maxRequest 10",
		`{"maxRequest":1000000000000}`: "server.mcp.maxRequest 1000000000000",
	} {
		var c mcpserver.Config
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(); want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := mcpserver.New(mcpserver.Config{}, mcpserver.Deps{}); err == nil || !strings.Contains(err.Error(), "Deps.Tools is required") {
		t.Errorf("%v", err)
	}
	if r := newServer(t, newBench(t, nil), mcpserver.Config{Off: true}).Routes(); len(r) != 0 {
		t.Errorf("it is off and serves %v", r)
	}
}
