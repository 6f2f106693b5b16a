package fit_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/place"
)

func desk(t *testing.T) *fit.Desk {
	t.Helper()
	d, err := fit.NewDesk()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCheck(t *testing.T) {
	t.Parallel()
	d := desk(t)
	tests := []struct {
		name    string
		in      fit.CheckIn
		verdict estimate.Verdict
		tp      int
		say     []string
	}{
		{"smallest count that fits", fit.CheckIn{Asked: fit.Asked{Model: "llama-3.3-70b"}, GPU: "H100"}, estimate.Fits, 4, []string{"2 x H100 would be tight", "8192 tokens (assumed"}},
		{"the count that is there", fit.CheckIn{Asked: fit.Asked{Model: "llama-3.3-70b"}, GPU: "H100", Count: 2}, estimate.Tight, 2, []string{"Would do", "--gpu-memory-utilization 0.95"}},
		{"given length", fit.CheckIn{Asked: fit.Asked{Model: "llama-3.1-8b", Context: 131072}, GPU: "L4", Count: 1}, estimate.No, 1, []string{"one sequence of 131072 tokens takes 16.00 GiB", "--max-model-len"}},
		{"an engine told nothing takes the longest", fit.CheckIn{Asked: fit.Asked{Model: "llama-3.1-8b", EngineArgs: "--tp 1"}, GPU: "L4"}, estimate.No, 1, []string{"takes the model's longest context, 131072"}},
		{"the engine's length decides", fit.CheckIn{Asked: fit.Asked{Model: "llama-3.1-8b", Context: 1000, EngineArgs: "--max-model-len 65536"}, GPU: "L4", Count: 1}, estimate.No, 1, []string{"--max-model-len 65536 decides"}},
		{"the command line names the model", fit.CheckIn{Asked: fit.Asked{EngineArgs: "vllm serve Qwen/Qwen3-32B --tensor-parallel-size 2 --max-model-len 8192"}, GPU: "L40S"}, estimate.Fits, 2, nil},
		{"memory as reported", fit.CheckIn{Asked: fit.Asked{Model: "phi-4-mini"}, GPU: "Mystery", GPUMemoryMiB: 200000}, estimate.Fits, 1, []string{"200000 MiB each (as given)"}},
		{"measured weights", fit.CheckIn{Asked: fit.Asked{Model: "llama-3.1-8b", WeightsGiB: 70}, GPU: "H100", Count: 1}, estimate.No, 1, []string{"70.00 GiB in all, as given"}},
		{"shape before memory", fit.CheckIn{Asked: fit.Asked{Model: "phi-4"}, GPU: "H200", Count: 4}, estimate.No, 4, []string{"10 key-value heads", "--tensor-parallel-size 2"}},
		{"8-bit weights made while loading", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b", EngineArgs: "--quantization fp8 --max-model-len 8192"}, GPU: "L40S", Count: 1}, estimate.Tight, 1, []string{"computed: 32.76 billion parameters, fp8"}},
		{"latent attention", fit.CheckIn{Asked: fit.Asked{Model: "deepseek-r1"}, GPU: "H200", Count: 8}, estimate.Fits, 8, []string{"latent keys and values of 576", "70272 bytes a token"}},
		{"SGLang", fit.CheckIn{Asked: fit.Asked{Model: "llama-3.1-8b", Engine: "sglang", EngineArgs: "--context-length 8192"}, GPU: "A10", Count: 1}, estimate.Fits, 1, []string{"SGLang", "memory fraction 0.88"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := d.Check(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if c.Result == nil || c.Result.Verdict != tc.verdict || c.Result.GPUs != tc.tp {
				t.Errorf("%+v\n%s", c.Result, c.Text())
			}
			for _, s := range tc.say {
				if !strings.Contains(c.Text(), s) {
					t.Errorf("%q is not said:\n%s", s, c.Text())
				}
			}
		})
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	c, err := desk(t).Check(fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b"}})
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]fit.SweepRow{}
	for _, r := range c.Sweep {
		have[r.GPU] = r
	}
	if r := have["H100"]; r.Count != 1 || r.Verdict != estimate.Fits {
		t.Errorf("H100: %+v", r)
	}
	if r := have["L40S"]; r.Count != 2 {
		t.Errorf("L40S: %+v", r)
	}
	limited, err := desk(t).Check(fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b"}, Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range limited.Sweep {
		if r.Count > 1 {
			t.Errorf("%s needs %d, one is there", r.GPU, r.Count)
		}
		if r.GPU == "T4" && r.Verdict != estimate.No {
			t.Errorf("T4: %+v", r)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := desk(t)
	tests := []struct {
		name string
		in   fit.CheckIn
		kind tool.Kind
		say  []string
	}{
		{"no model", fit.CheckIn{GPU: "H100"}, tool.Invalid, []string{"which model"}},
		{"unknown model", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-33b"}, GPU: "H100"}, tool.NotFound, []string{"qwen3-33b", "Qwen/Qwen3-32B", "--config FILE", "--fetch"}},
		{"unknown GPU", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b"}, GPU: "H101"}, tool.Invalid, []string{"H101", "near: H100", "--gpu-memory-mib"}},
		{"ambiguous GPU", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b"}, GPU: "A100"}, tool.Invalid, []string{"A100 40GB", "A100 80GB"}},
		{"a slice without its memory", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b"}, GPU: "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}, tool.Invalid, []string{"MIG slice", "nvidia.com/gpu.memory"}},
		{"absurd configuration", fit.CheckIn{Asked: fit.Asked{Model: "x", Config: `{"hidden_size":-4}`}, GPU: "H100"}, tool.Invalid, []string{"hidden_size", "-4"}},
		{"unreadable arguments", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b", EngineArgs: "--tensor-parallel-size many"}, GPU: "H100"}, tool.Invalid, []string{"--tensor-parallel-size", "many"}},
		{"unknown engine", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b", Engine: "ollama"}, GPU: "H100"}, tool.Invalid, []string{"ollama", "sglang"}},
		{"negative context", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b", Context: -1}, GPU: "H100"}, tool.Invalid, []string{"context -1"}},
		{"too many GPUs", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b"}, GPU: "H100", Count: 100000}, tool.Invalid, []string{"count 100000"}},
		{"negative memory", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b"}, GPU: "H100", GPUMemoryMiB: -5}, tool.Invalid, []string{"-5 MiB"}},
		{"negative weights", fit.CheckIn{Asked: fit.Asked{Model: "qwen3-32b", WeightsGiB: -5}, GPU: "H100"}, tool.Invalid, []string{"-5 GiB"}},
		{"unknown quantisation", fit.CheckIn{Asked: fit.Asked{Model: "x", Config: `{"model_type":"llama","hidden_size":64,"num_hidden_layers":4,"num_attention_heads":8,"intermediate_size":128,"vocab_size":100,"quantization_config":{"quant_method":"vptq"}}`}, GPU: "H100"}, tool.Invalid, []string{"vptq", "--weights-gib"}},
		{"unknown quantisation without a GPU", fit.CheckIn{Asked: fit.Asked{Model: "x", Config: `{"model_type":"llama","hidden_size":64,"num_hidden_layers":4,"num_attention_heads":8,"intermediate_size":128,"vocab_size":100,"quantization_config":{"quant_method":"vptq"}}`}}, tool.Invalid, []string{"vptq"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := d.Check(tc.in)
			if tool.KindOf(err) != tc.kind || err == nil {
				t.Fatalf("%v is %s, want %s", err, tool.KindOf(err), tc.kind)
			}
			for _, s := range tc.say {
				if !strings.Contains(tool.UserText(err), s) {
					t.Errorf("%q does not say %q", tool.UserText(err), s)
				}
			}
		})
	}
}

// stock is an inventory at hand.
type stock struct {
	fit.Stock
	err error
}

func (s stock) GPUs(context.Context) (fit.Stock, error) { return s.Stock, s.err }

func call(t *testing.T, ts *fit.Toolset, name string, args any) (tool.Result, error) {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ts.Tools() {
		if x.Info().Name == name {
			return x.Call(t.Context(), raw)
		}
	}
	t.Fatalf("no tool %s", name)
	return tool.Result{}, nil
}

func TestPlacementTool(t *testing.T) {
	t.Parallel()
	nodes := []place.Node{
		{Name: "gpu-1", Product: "NVIDIA-H100-80GB-HBM3", MiB: 81559, Total: 8, Free: 3, SKU: "p5.48xlarge", Region: "us-east-1"},
		{Name: "gpu-2", Product: "NVIDIA-L40S", MiB: 46068, Total: 4, Free: 4, Barred: "cordoned"},
	}
	ts, err := fit.New(fit.Config{Cluster: "test", Inventory: stock{Stock: fit.Stock{Nodes: nodes, Gaps: []incident.Gap{{Source: "ResourceSlices", Why: "forbidden"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := call(t, ts, "fit_placement", map[string]any{"model": "qwen3-32b", "context": 8192, "tokens_per_second": 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"node gpu-1: 1 of 8 NVIDIA-H100-80GB-HBM3, fits", "6.88 for the GPUs used", "2026-07-27", "USD a million tokens", "node gpu-2: cordoned (4 free GPUs)", "Not seen  ResourceSlices: forbidden", "azure Standard_NC24ads_A100_v4"} {
		if !strings.Contains(r.Text, s) {
			t.Errorf("%q is not said:\n%s", s, r.Text)
		}
	}
	var p fit.Placement
	if err := json.Unmarshal(r.Data, &p); err != nil || len(p.Cluster.Candidates) != 1 || len(p.Clouds.Candidates) == 0 {
		t.Errorf("%v %+v", err, p.Cluster)
	}
	blind, err := fit.New(fit.Config{Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	r, err = call(t, blind, "fit_placement", map[string]any{"model": "qwen3-32b"})
	if err != nil || !strings.Contains(r.Text, "Not seen  the cluster's free GPUs") || !strings.Contains(r.Text, "a million tokens: not known") {
		t.Errorf("%v\n%s", err, r.Text)
	}
	forbidden, err := fit.New(fit.Config{Cluster: "test", Inventory: stock{err: tool.Errorf(tool.Forbidden, "may not list nodes")}})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = call(t, forbidden, "fit_placement", map[string]any{"model": "qwen3-32b"}); err != nil || !strings.Contains(r.Text, "may not list nodes") {
		t.Errorf("%v\n%s", err, r.Text)
	}
	if _, err := call(t, blind, "fit_placement", map[string]any{"model": "qwen3-32b", "tokens_per_second": -1}); tool.KindOf(err) != tool.Invalid {
		t.Errorf("%v", err)
	}
	if _, err := call(t, blind, "fit_check", map[string]any{"model": "qwen3-32b", "colour": "red"}); tool.KindOf(err) != tool.Invalid {
		t.Errorf("an unknown field: %v", err)
	}
	r, err = call(t, blind, "fit_check", map[string]any{"model": "qwen3-32b", "gpu": "A10", "count": 1})
	if err != nil || len(r.Findings) != 1 || r.Findings[0].Role != incident.Context {
		t.Errorf("a question is no trouble: %+v %v", r.Findings, err)
	}
}

func TestPrices(t *testing.T) {
	t.Parallel()
	d, err := desk(t).WithPrices("mine.yaml", []byte("- provider: lab\n  source: contract 7\n  date: 2026-11-01\n  skus: [{sku: box, gpu: H100, count: 1, usd: 0.10}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Place(fit.PlacementIn{Asked: fit.Asked{Model: "llama-3.1-8b"}}, nil)
	if err != nil || !strings.HasPrefix(p.Clouds.Candidates[0].Where, "lab box") {
		t.Errorf("%v\n%s", err, p.Text(3))
	}
	if _, err := desk(t).WithPrices("mine.yaml", []byte("[")); tool.KindOf(err) != tool.Invalid {
		t.Errorf("%v", err)
	}
}

// Every code a finding may have is in the catalogue, with the facts it carries.
func TestToolset(t *testing.T) {
	t.Parallel()
	ts, err := fit.New(fit.Config{Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if ts.Status(t.Context()).State != tool.Ready || ts.Name() != "fit" || len(ts.Tools()) != 3 || len(ts.Checks()) != 1 {
		t.Error("the toolset is not what it was")
	}
	for _, x := range ts.Tools() {
		if x.Info().Effect != tool.Read {
			t.Errorf("%s has effect %s", x.Info().Name, x.Info().Effect)
		}
	}
	dead, err := fit.New(fit.Config{Reach: func(context.Context) error {
		return &tool.Error{Kind: tool.Unreachable, User: "the API server does not answer", Fix: "check the address"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if st := dead.Status(t.Context()); st.State != tool.Broken || st.Reason != "the API server does not answer" || st.Fix == "" {
		t.Errorf("%+v", st)
	}
	refused, err := fit.New(fit.Config{Reach: func(context.Context) error { return tool.Errorf(tool.Forbidden, "may not") }})
	if err != nil {
		t.Fatal(err)
	}
	if st := refused.Status(t.Context()); st.State != tool.Ready {
		t.Errorf("a server that refuses is there: %+v", st)
	}
	seen := map[string]bool{}
	for _, c := range ts.Codes() {
		if seen[c.Code] || !strings.HasPrefix(c.Code, "fit.") || c.Text == "" {
			t.Errorf("%+v", c)
		}
		seen[c.Code] = true
	}
	check := ts.Checks()[0]
	if !check.Applies(incident.Ref{Kind: "Pod"}) || check.Applies(incident.Ref{Kind: "Node"}) {
		t.Error("the check is for pods")
	}
}
