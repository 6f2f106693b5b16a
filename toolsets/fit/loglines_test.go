package fit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Lines as the engines print them, shortened.
func TestReadLog(t *testing.T) {
	t.Parallel()
	r := newLogReader()
	tests := []struct {
		name, log string
		want      logFacts
	}{
		{"vLLM 0.6", "INFO model weights take 7.51GiB; non_torch_memory takes 0.39GiB; PyTorch activation peak memory takes 2.53GiB; the rest of the memory reserved for KV Cache is 3.76GiB.\n", logFacts{LoadedGiB: 7.51, CacheGiB: 3.76, Cache: true}},
		{"vLLM 0.5", "Loading model weights took 14.9888 GB\nThe model's max seq len (29000) is larger than the maximum number of tokens that can be stored in KV cache (23648). Try increasing `gpu_memory_utilization`\n",
			logFacts{LoadedGiB: 14.9888, Longest: 23648, Reason: tooLong, Line: "The model's max seq len (29000) is larger than the maximum number of tokens that can be stored in KV cache (23648). Try increasing `gpu_memory_utilization`"}},
		{"a length that was shrunk (V12)", "Auto-fit max_model_len: reduced from 262144 to 117264\n", logFacts{MaxLen: 262144, ShrunkTo: 117264}},
		{"SGLang", "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.\n", logFacts{Reason: noCache, Line: "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."}},
		{"the cause comes before the last words", "ValueError: Total number of attention heads (40) must be divisible by tensor parallel size (3).\nRuntimeError: Engine core initialization failed. See root cause above.\n",
			logFacts{Reason: indivisible, Line: "ValueError: Total number of attention heads (40) must be divisible by tensor parallel size (3)."}},
		{"another error", "ImportError: libcudart.so.12: cannot open shared object file\nRuntimeError: Engine core initialization failed.\n", logFacts{Other: "ImportError: libcudart.so.12: cannot open shared object file"}},
		{"the more telling of two", "torch.OutOfMemoryError: CUDA out of memory.\nValueError: No available memory for the cache blocks.\n", logFacts{Reason: noCache, Line: "ValueError: No available memory for the cache blocks."}},
		{"nothing", "INFO started\n", logFacts{}},
		{"empty", "", logFacts{}},
		{"absurd numbers", "Available KV cache memory: 99999999999999999999 GiB\n", logFacts{Cache: true}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, r.read(tc.log)); diff != "" {
				t.Error(diff)
			}
		})
	}
	long := r.read(strings.Repeat("x", 1<<20) + " CUDA out of memory")
	if long.Reason != "" {
		t.Error("a line without end is read to its end")
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add("ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (3.61 GiB). Based on the available memory, the estimated maximum model length is 29552.")
	f.Add("Auto-fit max_model_len: reduced from 262144 to 117264")
	f.Add("User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=40960 or model_max_length=None)")
	r := newLogReader()
	f.Fuzz(func(t *testing.T, text string) {
		got := r.read(text)
		if len([]rune(got.Line)) > 400 || len([]rune(got.Other)) > 400 {
			t.Errorf("a line of %d letters", len(got.Line))
		}
	})
}
