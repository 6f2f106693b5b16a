package engine_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want []string
	}{
		{`a b  c`, []string{"a", "b", "c"}},
		{`--x '{"a": 1}' "b c" d\ e`, []string{"--x", `{"a": 1}`, "b c", "d e"}},
		{"a \\\n  b", []string{"a", "b"}},
		{`"a\"b" 'c\d'`, []string{`a"b`, `c\d`}},
		{`a ""`, []string{"a", ""}},
		{"a # not this\nb", []string{"a", "\x00;", "b"}},
		{"a && b", []string{"a", "\x00;", "b"}},
		{``, nil},
	}
	for _, tc := range tests {
		got, err := engine.Split(tc.in)
		if err != nil {
			t.Errorf("%q: %v", tc.in, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%q: %s", tc.in, diff)
		}
	}
	if _, err := engine.Split(`a "b`); err == nil {
		t.Error("an open quotation mark is accepted")
	}
	if _, err := engine.Split(strings.Repeat("a", 300<<10)); err == nil {
		t.Error("an endless line is accepted")
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	env := map[string]string{"TP": "4", "EMPTY": ""}
	for in, want := range map[string]string{
		"$(TP)": "4", "$TP": "4", "${TP}": "4", "a$TP/b": "a4/b", "${LEN:-8192}": "8192", "${EMPTY:-x}": "x", "$EMPTY": "", "$(LEN)": "$(LEN)", "$": "$", "${": "${", "$1": "$1", "cost $": "cost $",
	} {
		if got := engine.Expand(in, env); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line string
		kind       engine.Kind
		want       engine.Settings
	}{
		{"vllm serve", `vllm serve org/m -tp 2 --gpu_memory_utilization=0.95 --max-model-len 32k --kv-cache-dtype fp8 --trust-remote-code --port 8000`, "",
			engine.Settings{Kind: engine.VLLM, Model: "org/m", TP: 2, Utilization: 0.95, MaxLen: 32000, KVType: "fp8"}},
		{"module", `python3 -m vllm.entrypoints.openai.api_server --model org/m --max-model-len 32K --enforce-eager`, "",
			engine.Settings{Kind: engine.VLLM, Model: "org/m", MaxLen: 32768, Eager: true}},
		{"flags alone", `--tensor-parallel-size 8 --pipeline-parallel-size 2 --data-parallel-size 2 --enable-expert-parallel --no-enable-prefix-caching`, "",
			engine.Settings{Kind: engine.VLLM, TP: 8, PP: 2, DP: 2, EP: true, NoPrefixCache: true}},
		{"auto length", `--max-model-len auto --max-num-seqs 64 --max-num-batched-tokens 1024 --block-size 32`, "",
			engine.Settings{Kind: engine.VLLM, AutoLen: true, MaxSeqs: 64, BatchedTokens: 1024, BlockSize: 32}},
		{"minus one is auto", `--max-model-len -1`, "", engine.Settings{Kind: engine.VLLM, AutoLen: true}},
		{"unknown flags with values", `--tool-call-parser hermes --served-model-name a --tp 2`, "", engine.Settings{Kind: engine.VLLM, TP: 2}},
		{"speculation", `--speculative-config '{"method":"mtp","num_speculative_tokens":3}'`, "", engine.Settings{Kind: engine.VLLM, Speculate: 3, Drafter: "mtp"}},
		{"speculation in pieces", `--speculative-config.method mtp --speculative_config.num_speculative_tokens 2`, "", engine.Settings{Kind: engine.VLLM, Speculate: 2, Drafter: "mtp"}},
		{"connectors turn the hybrid cache off", `--kv-transfer-config '{"kv_connector":"X"}'`, "", engine.Settings{Kind: engine.VLLM, NoHybrid: true}},
		{"fixed cache and offload", `--kv-cache-memory-bytes 8G --cpu-offload-gb 2.5 -q awq --dtype half`, "",
			engine.Settings{Kind: engine.VLLM, KVBytes: 8 << 30, OffloadBytes: 5 << 29, Quantization: "awq", DType: "half"}},
		{"settings file", `vllm serve --config /etc/vllm.yaml`, "", engine.Settings{Kind: engine.VLLM, File: "/etc/vllm.yaml"}},
		{"SGLang", `python -m sglang.launch_server --model-path org/m --tp 4 --mem-fraction-static 0.8 --context-length 16384 --dp 2 --enable-dp-attention --max-running-requests 32`, "",
			engine.Settings{Kind: engine.SGLang, Model: "org/m", TP: 4, DP: 2, DPAttention: true, Utilization: 0.8, MaxLen: 16384, MaxSeqs: 32}},
		{"TensorRT-LLM", `trtllm-serve org/m --tp_size 2 --kv_cache_free_gpu_memory_fraction 0.7 --max_seq_len 4096 --max_batch_size 16`, "",
			engine.Settings{Kind: engine.TRTLLM, Model: "org/m", TP: 2, Utilization: 0.7, MaxLen: 4096, MaxSeqs: 16}},
		{"TensorRT-LLM flags alone", `--tp_size 2`, engine.TRTLLM, engine.Settings{Kind: engine.TRTLLM, TP: 2}},
		{"the command ends", "vllm serve org/m --tp 2; echo --tp 9", "", engine.Settings{Kind: engine.VLLM, Model: "org/m", TP: 2}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := engine.ParseLine(tc.line, tc.kind)
			if err != nil {
				t.Fatal(err)
			}
			got.Ignored = nil
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for line, say := range map[string]string{
		"--tensor-parallel-size two":      `--tensor-parallel-size "two"`,
		"--tensor-parallel-size 0":        "at least 1",
		"--tp -4":                         "at least 1",
		"--gpu-memory-utilization 1.5":    "at most 1",
		"--gpu-memory-utilization NaN":    "at most 1",
		"--max-model-len much":            "32k",
		"--max-model-len":                 "a value is expected",
		"--max-model-len 99999999999999":  "tokens",
		"--speculative-config '{'":        "JSON",
		"--enforce-eager=maybe":           "true or false",
		"--tensor-parallel-size $TP":      "not known here",
		"--kv-cache-memory-bytes lots":    "bytes",
		"--cpu-offload-gb -1":             "GiB",
		`--max-model-len "`:               "quotation mark",
		"--tp " + strings.Repeat("9", 99): "at least 1",
	} {
		_, err := engine.ParseLine(line, "")
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v does not say %q", line, err, say)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	env := map[string]string{"TP": "2", "MODEL": "org/m"}
	tests := []struct {
		name  string
		words []string
		ok    bool
		model string
		tp    int
	}{
		{"plain", []string{"vllm", "serve", "$(MODEL)", "--tensor-parallel-size", "$(TP)"}, true, "org/m", 2},
		{"shell", []string{"/bin/sh", "-c", "export A=b && exec vllm serve ${MODEL} \\\n  --tensor-parallel-size ${TP}\n"}, true, "org/m", 2},
		{"path of the program", []string{"/usr/local/bin/vllm", "serve", "org/m"}, true, "org/m", 0},
		{"another program", []string{"nginx", "-g", "daemon off;"}, false, "", 0},
		{"vllm that does not serve", []string{"vllm", "bench"}, false, "", 0},
		{"nothing", nil, false, "", 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, ok, err := engine.Command(tc.words, env)
			if err != nil || ok != tc.ok || s.Model != tc.model || s.TP != tc.tp {
				t.Errorf("%+v %v %v", s, ok, err)
			}
		})
	}
	if _, ok, err := engine.Command([]string{"vllm", "serve", "m", "--tp", "$(NOWHERE)"}, nil); !ok || err == nil {
		t.Errorf("an unknown variable is no number: %v %v", ok, err)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	var s engine.Settings
	if f, byDefault := s.Fraction(); f != 0.9 || !byDefault {
		t.Errorf("fraction %v %v", f, byDefault)
	}
	if s.Block() != 16 || s.GPUs() != 1 || s.Title() != "vLLM" {
		t.Errorf("%+v", s)
	}
	s = engine.Settings{Kind: engine.SGLang, TP: 8, DP: 8, DPAttention: true}
	if f, _ := s.Fraction(); f != 0.88 || s.GPUs() != 8 {
		t.Errorf("SGLang: %v %d", f, s.GPUs())
	}
	for _, k := range []engine.Kind{engine.VLLM, engine.SGLang, engine.TRTLLM} {
		s := engine.Settings{Kind: k}
		for _, f := range []string{s.LenFlag(), s.FractionFlag(), s.TensorFlag()} {
			if !strings.HasPrefix(f, "--") {
				t.Errorf("%s has no flag %q", k, f)
			}
		}
		if got, err := engine.Parse([]string{s.TensorFlag(), "4", s.LenFlag(), "100", s.FractionFlag(), "0.5"}, k); err != nil || got.TP != 4 || got.MaxLen != 100 || got.Utilization != 0.5 {
			t.Errorf("%s does not read its own flags: %+v %v", k, got, err)
		}
	}
}

// FuzzParseLine: no command line makes the parser panic, and accepted numbers are in range.
func FuzzParseLine(f *testing.F) {
	for _, s := range []string{
		`vllm serve org/m -tp 2 --gpu_memory_utilization=0.95 --max-model-len 32k`, `--speculative-config '{"method":"mtp","num_speculative_tokens":3}'`,
		`python -m sglang.launch_server --model-path m --tp 4`, `trtllm-serve m --tp_size 2`, `sh -c "vllm serve ${M:-x} \\"`, `--no-enable-prefix-caching --enforce-eager=false`, "a\x00; $( ${ $",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, k := range []engine.Kind{"", engine.SGLang, engine.TRTLLM} {
			s, err := engine.ParseLine(line, k)
			if err != nil {
				continue
			}
			frac, _ := s.Fraction()
			if s.TP < 0 || s.GPUs() < 1 || frac <= 0 || frac > 1 || s.MaxLen < 0 || s.Block() < 1 || s.KVBytes < 0 || s.OffloadBytes < 0 || s.Speculate < 0 {
				t.Errorf("%q gives %+v", line, s)
			}
			_ = s.String()
		}
		if words, err := engine.Split(line); err == nil {
			if _, _, err := engine.Command(words, map[string]string{"A": "1"}); err != nil && slices.Contains(words, "") {
				t.Log(err)
			}
		}
		engine.Expand(line, map[string]string{"A": "$A"})
	})
}
