package investigate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// masks is a Redactor that knows one secret.
type masks struct{}

func (masks) String(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }
func (masks) JSON(raw json.RawMessage) json.RawMessage {
	return json.RawMessage(strings.ReplaceAll(string(raw), "hunter2", "***"))
}

// orders finds instruction-like text the simplest way.
func orders(s string) []string {
	if strings.Contains(strings.ToLower(s), "ignore previous instructions") {
		return []string{"ignore previous instructions"}
	}
	return nil
}

func clock() time.Time { return time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC) }

// kit is a toolset for tests.
type kit struct {
	name   string
	status tool.Status
	tools  []tool.Tool
	limits []incident.Gap
	// ask, if set, answers for status.
	ask func(context.Context) tool.Status
}

func (k kit) Name() string { return k.name }
func (k kit) Status(ctx context.Context) tool.Status {
	if k.ask != nil {
		return k.ask(ctx)
	}
	return k.status
}

func (k kit) Tools() []tool.Tool              { return k.tools }
func (k kit) Limits(time.Time) []incident.Gap { return k.limits }

func ready(tools ...tool.Tool) kit {
	return kit{name: "kube", status: tool.Status{State: tool.Ready}, tools: tools}
}

type podArgs struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Tail      int    `json:"tail,omitempty"`
}

type podData struct {
	Phase   string   `json:"phase"`
	Devices []string `json:"devices"`
}

func makeTool(t testing.TB, name string, fn tool.Func[podArgs, podData]) tool.Tool {
	t.Helper()
	f, err := tool.New(tool.Info{Name: name, Text: "Looks at " + name + ". Use it when asked.", Effect: tool.Read}, fn)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// raw is a tool that is not built by tool.New.
type raw struct {
	info tool.Info
	fn   func(context.Context, json.RawMessage) (tool.Result, error)
}

func (r raw) Info() tool.Info { return r.info }
func (r raw) Call(ctx context.Context, args json.RawMessage) (tool.Result, error) {
	return r.fn(ctx, args)
}

func text(name, out string) tool.Tool {
	return raw{tool.Info{Name: name, Text: "Gives text.", Effect: tool.Read}, func(context.Context, json.RawMessage) (tool.Result, error) {
		return tool.Result{Text: out}, nil
	}}
}

var (
	pod    = incident.Ref{Cluster: "lab", Kind: "Pod", Namespace: "train", Name: "llama-0"}
	claim  = incident.Ref{Cluster: "lab", Group: "resource.k8s.io", Kind: "ResourceClaim", Namespace: "train", Name: "llama-0-gpu-x7k2p"}
	secret = incident.Ref{Cluster: "lab", Kind: "Secret", Namespace: "train", Name: "hf-token"}
)

func symptomFinding() incident.Finding {
	return incident.Finding{Code: "kube.pod_unschedulable", Severity: incident.Critical, Role: incident.Symptom, Subject: pod, Message: "Pod train/llama-0 is Pending: 0/6 nodes are available"}
}

func faultFinding() incident.Finding {
	return incident.Finding{Code: "dra.selector_excludes_all", Severity: incident.Critical, Role: incident.Fault, Subject: claim, Confidence: 0.95,
		Message: `ResourceClaim train/llama-0-gpu-x7k2p asks for "H200" and all 48 devices are something else`, Params: map[string]string{"wanted": "H200"}}
}

// lab is a cluster with one pod whose claim no device satisfies.
func lab(t testing.TB, more ...tool.Tool) kit {
	kubePod := makeTool(t, "kube_pod", func(_ context.Context, in podArgs) (tool.Output[podData], error) {
		if in.Name != pod.Name {
			return tool.Output[podData]{}, tool.Errorf(tool.NotFound, "Pod %s/%s does not exist", in.Namespace, in.Name)
		}
		return tool.Output[podData]{Data: podData{Phase: "Pending", Devices: []string{}}, Text: "Pod train/llama-0 is Pending for 12m",
			Findings: []incident.Finding{symptomFinding()},
			Edges:    []incident.Edge{{From: pod, Relation: "claims", To: claim}}}, nil
	})
	explain := makeTool(t, "dra_explain", func(_ context.Context, in podArgs) (tool.Output[podData], error) {
		return tool.Output[podData]{Data: podData{Phase: "unallocated", Devices: []string{"gpu-0", "gpu-1", "gpu-2"}},
			Text: "48 devices: 40 NVIDIA H100 80GB HBM3, 8 NVIDIA A100-SXM4-80GB\nselector 0 wants H200; 12 H100 are free", Findings: []incident.Finding{faultFinding()}}, nil
	})
	return ready(append([]tool.Tool{kubePod, explain}, more...)...)
}

// triager makes a function a Triager.
type triager func(context.Context, incident.Question, tool.Caller) (incident.Assessment, error)

func (f triager) Assess(ctx context.Context, q incident.Question, c tool.Caller) (incident.Assessment, error) {
	return f(ctx, q, c)
}

// labTriage finds the cause of lab.
func labTriage(ctx context.Context, _ incident.Question, c tool.Caller) (incident.Assessment, error) {
	e1, r1 := c.Call(ctx, "kube_pod", podArgs{Namespace: "train", Name: "llama-0"})
	e2, r2 := c.Call(ctx, "dra_explain", podArgs{Namespace: "train", Name: "llama-0"})
	if err := ctx.Err(); err != nil {
		return incident.Assessment{}, err
	}
	findings := slices.Concat(r1.Findings, r2.Findings)
	return incident.Assessment{Subjects: []incident.Ref{pod}, Findings: findings, Edges: r1.Edges, Diagnosis: incident.Diagnosis{
		Outcome: incident.RootCause,
		Causes: []incident.Cause{{Subject: claim, Code: "dra.selector_excludes_all", Statement: faultFinding().Message, Confidence: 0.95,
			Evidence: []string{e2.ID}, Explains: []incident.Ref{pod}}},
		Chain:     r1.Edges,
		Checked:   []incident.CheckedItem{{What: "pod train/llama-0", Result: "1 abnormal", Evidence: []string{e1.ID}}},
		Proposals: []incident.Proposal{{Action: "claim_template_patch", Params: map[string]string{"namespace": "train", "name": "llama-0-gpu-x7k2p"}, Why: "ask for what is there"}},
	}}, nil
}

func actions() []Action {
	return []Action{
		{Name: "claim_template_patch", Text: "Replace a claim template.", Params: []Param{{Name: "namespace", Object: true, Required: true}, {Name: "name", Object: true, Required: true}, {Name: "selector"}}},
		{Name: "pod_delete", Text: "Delete a pod.", Params: []Param{{Name: "namespace", Object: true, Required: true}, {Name: "name", Object: true, Required: true}}},
	}
}

// tape records events.
type tape struct {
	mu     sync.Mutex
	events []event.Event
}

func (t *tape) Emit(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
}

func (t *tape) types() []event.Type {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []event.Type
	for _, e := range t.events {
		out = append(out, e.Type)
	}
	return out
}

func (t *tape) of(k event.Type) []event.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []event.Event
	for _, e := range t.events {
		if e.Type == k {
			out = append(out, e)
		}
	}
	return out
}

func base(t testing.TB, more ...tool.Tool) Config {
	n := 0
	return Config{Cluster: "lab", Toolsets: []tool.Toolset{lab(t, more...)}, Triager: triager(labTriage), Actions: actions(),
		Redactor: masks{}, Suspicious: orders, Now: clock, NewID: func() string { n++; return fmt.Sprintf("run-%d", n) }}
}

func newLedger(t testing.TB, change func(*LedgerConfig), tools ...tool.Tool) *Ledger {
	t.Helper()
	cfg := LedgerConfig{Cluster: "lab", Redactor: masks{}, Suspicious: orders, Now: clock}
	if change != nil {
		change(&cfg)
	}
	l, err := NewLedger(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Register(tools...); err != nil {
		t.Fatal(err)
	}
	return l
}

// sound fails the test when a report is not one that can be handed out: valid
// under its own validator, with evidence for every claim.
func sound(t testing.TB, r incident.Report) {
	t.Helper()
	d := r.Diagnosis
	if !d.Outcome.Valid() {
		t.Errorf("outcome %q", d.Outcome)
	}
	good := map[string]bool{}
	for _, ev := range r.Evidence {
		good[ev.ID] = ev.Error == ""
	}
	for _, c := range d.Causes {
		if len(c.Evidence) == 0 {
			t.Errorf("cause %q cites nothing", c.Statement)
		}
		for _, id := range c.Evidence {
			if !good[id] {
				t.Errorf("cause %q cites %s, which is not there or failed", c.Statement, id)
			}
		}
		if c.Confidence < 0 || c.Confidence > sure {
			t.Errorf("confidence %v", c.Confidence)
		}
	}
	if d.Causes == nil || d.Chain == nil || d.Checked == nil || d.NotSeen == nil || d.Proposals == nil {
		t.Error("a list is null")
	}
	if r.Stop != incident.StopDone && r.StopReason == "" {
		t.Errorf("stop %s without a reason", r.Stop)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(string(raw), "hunter2") {
		t.Error("the report holds a secret")
	}
}
