package estimate_test

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hardware"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

// ask makes a question about a catalogue model on a GPU of the table.
func ask(t testing.TB, name, gpu string, context int, args string) estimate.Input {
	t.Helper()
	list, err := model.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	e, _, ok := model.Lookup(list, name)
	if !ok {
		t.Fatalf("no model %s", name)
	}
	m, err := e.Model()
	if err != nil {
		t.Fatal(err)
	}
	tab, err := hardware.GPUs()
	if err != nil {
		t.Fatal(err)
	}
	g, err := tab.Find(gpu)
	if err != nil {
		t.Fatal(err)
	}
	s, err := engine.ParseLine(args, engine.VLLM)
	if err != nil {
		t.Fatal(err)
	}
	if context == 0 {
		context = s.MaxLen
	}
	return estimate.Input{Model: m, Weights: e.Bytes(), Context: context, Engine: s, GPU: estimate.GPU{Name: g.Name, Bytes: g.Bytes(), Capability: g.Capability}}
}

func evaluate(t testing.TB, in estimate.Input) estimate.Result {
	t.Helper()
	r, err := estimate.Evaluate(in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		model, gpu string
		context    int
		args       string
		want       estimate.Verdict
		limit      string
	}{
		{"llama-3.1-8b", "H100", 131072, "", estimate.Fits, "left for the KV cache"},
		{"llama-3.1-8b", "L4", 131072, "", estimate.No, "one sequence of 131072 tokens"},
		{"llama-3.1-8b", "L4", 8192, "", estimate.Tight, "the engine's own needs decide"},
		{"llama-3.3-70b", "H100", 4096, "", estimate.No, "the weights alone"},
		{"llama-3.3-70b", "H100", 4096, "--tensor-parallel-size 4", estimate.Fits, ""},
		{"qwen3-32b", "A100 80GB", 8192, "", estimate.Fits, ""},
		{"qwen3-32b", "A100 40GB", 4096, "", estimate.No, "the weights alone"},
		{"deepseek-r1", "H200", 65536, "--tensor-parallel-size 8", estimate.Fits, ""},
		{"gpt-oss-120b", "H100", 8192, "", estimate.Tight, "the engine's own needs"},
		{"gpt-oss-120b", "H100", 32768, "--gpu-memory-utilization 0.95", estimate.Fits, ""},
		{"gpt-oss-120b", "H200", 131072, "", estimate.Fits, ""},
		{"phi-4", "L4", 4096, "--tensor-parallel-size 4", estimate.No, "10 key-value heads"},
		{"phi-4", "L4", 4096, "--tensor-parallel-size 3", estimate.No, "40 attention heads"},
		{"llama-3.1-8b", "H100", 200000, "", estimate.No, "longer than the 131072 tokens"},
		{"llama-3.1-8b", "H100", 4096, "--pipeline-parallel-size 64", estimate.No, "32 layers"},
	}
	for _, tc := range tests {
		t.Run(tc.model+" on "+tc.gpu+" "+tc.args, func(t *testing.T) {
			t.Parallel()
			r := evaluate(t, ask(t, tc.model, tc.gpu, tc.context, tc.args))
			if r.Verdict != tc.want || !strings.Contains(r.Limit, tc.limit) {
				t.Errorf("%s (%s), want %s (%s)", r.Verdict, r.Limit, tc.want, tc.limit)
			}
		})
	}
}

// The key regression: a point estimate says that gpt-oss-120b fits one H100, its
// log says that it does not. The answer is tight, with the flags that work.
func TestTightComesWithAWayOut(t *testing.T) {
	t.Parallel()
	in := ask(t, "gpt-oss-120b", "H100", 8192, "")
	r := evaluate(t, in)
	if r.Verdict != estimate.Tight {
		t.Fatalf("%s: %s", r.Verdict, r.Limit)
	}
	found := map[string]bool{}
	for _, m := range estimate.Remedies(in, r, []estimate.GPU{{Name: "H200", Bytes: 143771 << 20}}) {
		if m.Verdict != estimate.Fits {
			t.Errorf("%s gives %s, no better than tight", m.Setting, m.Verdict)
		}
		found[m.Setting] = true
	}
	for _, want := range []string{"--gpu-memory-utilization 0.95 --max-num-batched-tokens 1024", "--tensor-parallel-size 2", "GPU H200"} {
		if !found[want] {
			t.Errorf("no %q among %v", want, found)
		}
	}
}

func TestRemedies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		model, gpu string
		context    int
		args, want string
	}{
		{"llama-3.1-8b", "A10", 131072, "", "--max-model-len"},
		{"llama-3.1-8b", "L4", 32768, "", "--kv-cache-dtype fp8"},
		{"llama-3.3-70b", "H100", 8192, "", "--tensor-parallel-size 4"},
		{"qwen3-32b", "L40S", 8192, "", "--quantization fp8"},
		{"qwen3-32b", "A100 40GB", 8192, "", "AWQ"},
		{"phi-4", "L4", 4096, "--tensor-parallel-size 4", "--tensor-parallel-size 2"},
		{"llama-3.1-405b", "A100 40GB", 4096, "--tensor-parallel-size 16", "--pipeline-parallel-size"},
	}
	for _, tc := range tests {
		t.Run(tc.model+" on "+tc.gpu, func(t *testing.T) {
			t.Parallel()
			in := ask(t, tc.model, tc.gpu, tc.context, tc.args)
			r := evaluate(t, in)
			all := estimate.Remedies(in, r, nil)
			ok := false
			var have []string
			for _, m := range all {
				have = append(have, m.Setting)
				ok = ok || strings.Contains(m.Setting, tc.want)
				if !m.Verdict.Better(r.Verdict) {
					t.Errorf("%s makes %s of %s", m.Setting, m.Verdict, r.Verdict)
				}
			}
			if !ok {
				t.Errorf("%s (%s): no %q among %q", r.Verdict, r.Limit, tc.want, have)
			}
		})
	}
	in := ask(t, "llama-3.1-8b", "H100", 4096, "")
	if got := estimate.Remedies(in, evaluate(t, in), nil); len(got) != 0 {
		t.Errorf("what fits needs no remedy: %v", got)
	}
	in = ask(t, "llama-3.1-8b", "H100", 4096, "--tensor-parallel-size 8")
	in.Available = 2
	r := evaluate(t, in)
	if r.Verdict != estimate.No || r.Problems[0].Code != "gpu_count" {
		t.Fatalf("%+v", r.Problems)
	}
	for _, m := range estimate.Remedies(in, r, nil) {
		if strings.HasSuffix(m.Setting, " 4") || strings.HasSuffix(m.Setting, " 8") {
			t.Errorf("%s needs more GPUs than there are", m.Setting)
		}
	}
}

func TestMLAIsNotSplit(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--tp 8", "--tp 16"} {
		if r := evaluate(t, ask(t, "deepseek-r1", "H200", 4096, args)); r.PerToken != 70272 {
			t.Errorf("%s: %d bytes a token, want 70272 whatever the split", args, r.PerToken)
		}
	}
	r := evaluate(t, ask(t, "deepseek-r1", "H200", 4096, "--tp 8 --kv-cache-dtype fp8_ds_mla"))
	if r.PerToken != 61*656 {
		t.Errorf("%d bytes a token, want 61 x 656", r.PerToken)
	}
}

func TestKeyValueHeadsAreReplicated(t *testing.T) {
	t.Parallel()
	one := evaluate(t, ask(t, "qwen2.5-7b", "L4", 4096, "--tp 4")).PerToken
	more := evaluate(t, ask(t, "qwen2.5-7b", "L4", 4096, "--tp 28")).PerToken
	if one != more || one != 57344/4 {
		t.Errorf("%d and %d bytes a token, want %d for both", one, more, 57344/4)
	}
}

func TestParallelism(t *testing.T) {
	t.Parallel()
	weights := func(args string) int64 {
		return evaluate(t, ask(t, "qwen3-235b-a22b", "H200", 4096, args)).PerGPU.Weights
	}
	tp8, dp8, pp2 := weights("--tp 8"), weights("--tp 1 --dp 8 --enable-expert-parallel"), weights("--tp 4 --pp 2")
	if dp8 <= tp8 {
		t.Errorf("data parallelism replicates attention: %d is no more than %d", dp8, tp8)
	}
	if d := float64(pp2)/float64(tp8) - 1; d < 0 || d > 0.05 {
		t.Errorf("4 x 2 GPUs hold %d each, 8 hold %d", pp2, tp8)
	}
	sgl := ask(t, "deepseek-r1", "H200", 4096, "--tp 8")
	sgl.Engine = engine.Settings{Kind: engine.SGLang, TP: 8, DP: 8, DPAttention: true}
	with := evaluate(t, sgl)
	sgl.Engine.DPAttention, sgl.Engine.DP = false, 0
	without := evaluate(t, sgl)
	if with.PerGPU.Weights <= without.PerGPU.Weights || with.GPUs != 8 {
		t.Errorf("data-parallel attention replicates attention: %d against %d", with.PerGPU.Weights, without.PerGPU.Weights)
	}
	cpu := evaluate(t, ask(t, "llama-3.1-8b", "T4", 4096, "--cpu-offload-gb 8"))
	if none := evaluate(t, ask(t, "llama-3.1-8b", "T4", 4096, "")); cpu.PerGPU.Weights != none.PerGPU.Weights-8<<30 {
		t.Errorf("offloaded weights still count: %d of %d", cpu.PerGPU.Weights, none.PerGPU.Weights)
	}
}

// Each engine's memory fraction means something else.
func TestEnginesDiffer(t *testing.T) {
	t.Parallel()
	in := ask(t, "llama-3.1-8b", "A100 40GB", 8192, "")
	cache := map[engine.Kind]int64{}
	for _, k := range []engine.Kind{engine.VLLM, engine.SGLang, engine.TRTLLM} {
		in.Engine = engine.Settings{Kind: k, Utilization: 0.9}
		cache[k] = evaluate(t, in).PerGPU.Cache.Mid
	}
	if cache[engine.SGLang] <= cache[engine.VLLM] {
		t.Errorf("SGLang's fraction does not cover activations: %v", cache)
	}
	free := int64(40960<<20) - in.Weights - in.Weights/20 - 23*estimate.GiB/10
	if got := cache[engine.TRTLLM]; got < int64(0.9*float64(free))-1<<20 || got > int64(0.9*float64(free))+1<<20 {
		t.Errorf("TensorRT-LLM takes 0.9 of what is free after loading: %d of %d", got, free)
	}
	in.Engine = engine.Settings{Kind: engine.VLLM, KVBytes: 60 << 30}
	if r := evaluate(t, in); r.Verdict != estimate.No {
		t.Errorf("a fixed cache larger than the GPU: %s", r.Verdict)
	}
	in.Engine.KVBytes = 8 << 30
	if r := evaluate(t, in); r.Verdict != estimate.Fits || r.PerGPU.Cache.High != 8<<30 {
		t.Errorf("a fixed cache: %+v", r.PerGPU)
	}
}

func TestWindowsAndStates(t *testing.T) {
	t.Parallel()
	windowed := evaluate(t, ask(t, "gemma-3-27b", "H200", 131072, ""))
	whole := evaluate(t, ask(t, "gemma-3-27b", "H200", 131072, "--disable-hybrid-kv-cache-manager"))
	if whole.PerToken != 507904 || windowed.PerToken != 507904 {
		t.Errorf("bytes a token: %d, %d; the safe bound is 507904", whole.PerToken, windowed.PerToken)
	}
	if 3*windowed.PerGPU.Need > whole.PerGPU.Need {
		t.Errorf("52 of 62 layers see 1024 tokens: %d is no third of %d", windowed.PerGPU.Need, whole.PerGPU.Need)
	}
	sgl := ask(t, "gemma-3-27b", "H200", 131072, "")
	sgl.Engine.Kind = engine.SGLang
	if r := evaluate(t, sgl); r.PerGPU.Need < whole.PerGPU.Need || !strings.Contains(strings.Join(r.Notes, " "), "safe bound") {
		t.Errorf("without facts the bound stands: %d %v", r.PerGPU.Need, r.Notes)
	}
	hybrid := evaluate(t, ask(t, "qwen3.6-35b-a3b", "H100", 8192, ""))
	if hybrid.Growth != 20480 || hybrid.State == 0 {
		t.Errorf("10 of 40 layers grow: %d, state %d", hybrid.Growth, hybrid.State)
	}
	plain := evaluate(t, ask(t, "qwen3.6-35b-a3b", "H100", 8192, "--no-enable-prefix-caching"))
	if plain.PerGPU.Need >= hybrid.PerGPU.Need {
		t.Errorf("without prefix caching a sequence keeps one state: %d against %d", plain.PerGPU.Need, hybrid.PerGPU.Need)
	}
	nemotron := evaluate(t, ask(t, "nemotron-3-nano-30b-a3b", "H100", 8192, ""))
	if nemotron.Growth != 6*2*2*128*2 {
		t.Errorf("6 attention layers of 52: %d bytes a token", nemotron.Growth)
	}
}

func TestUnknownIsSaid(t *testing.T) {
	t.Parallel()
	in := ask(t, "llama-3.1-8b", "H100", 4096, "")
	in.Weights, in.Model.Quant = 0, model.Quant{Method: "vptq"}
	if _, err := estimate.Evaluate(in); err == nil || !strings.Contains(err.Error(), "vptq") {
		t.Errorf("an unknown quantisation: %v", err)
	}
	in.Weights = 4 << 30
	if r := evaluate(t, in); r.WeightsTotal != 4<<30 {
		t.Errorf("given weights: %+v", r)
	}
	in = ask(t, "llama-3.1-8b", "H100", 4096, "--kv-cache-dtype turboquant_k8v4")
	if _, err := estimate.Evaluate(in); err == nil || !strings.Contains(err.Error(), "turboquant_k8v4") {
		t.Errorf("an unknown cache type: %v", err)
	}
	in = ask(t, "llama-3.1-8b", "H100", 4096, "--quantization awq")
	if r := evaluate(t, in); r.Verdict != estimate.No || !strings.Contains(r.Limit, "quantization_config") {
		t.Errorf("a quantisation the checkpoint lacks: %s %s", r.Verdict, r.Limit)
	}
	in = ask(t, "llama-3.1-8b", "T4", 4096, "--tp 2")
	r := evaluate(t, in)
	if len(r.Problems) == 0 || r.Problems[0].Code != "dtype_unsupported" || r.Problems[0].Fix != "--dtype half" {
		t.Errorf("bfloat16 on a T4: %+v", r.Problems)
	}
	in = ask(t, "gpt-oss-120b", "A100 80GB", 4096, "")
	if r := evaluate(t, in); !strings.Contains(strings.Join(r.Notes, " "), "no native support") {
		t.Errorf("MXFP4 on an A100: %v", r.Notes)
	}
	gguf := ask(t, "llama-3.1-8b", "T4", 4096, "")
	gguf.Weights, gguf.Engine.Model = 0, "bartowski/Meta-Llama-3.1-8B-Instruct-GGUF/Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf"
	if r := evaluate(t, gguf); r.WeightsTotal > 6<<30 || !strings.Contains(r.WeightsSource, "q4_k_m") {
		t.Errorf("a GGUF file: %d, %s", r.WeightsTotal, r.WeightsSource)
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	c := estimate.CostOf(55.04, 1, 2, 8, 0)
	if c.Hour != 55.04 || c.Attributed != 13.76 || c.PerMillion != 0 {
		t.Errorf("%+v", c)
	}
	c = estimate.CostOf(7.2, 2, 2, 1, 1000)
	if c.Hour != 14.4 || c.Attributed != 14.4 || c.PerMillion != 4 || c.Month != 14.4*730 {
		t.Errorf("%+v", c)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0.0 MiB", 1 << 20: "1.0 MiB", estimate.GiB: "1.00 GiB", -3 * estimate.GiB / 2: "-1.50 GiB"} {
		if got := estimate.Size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
