package serving

import "testing"

func TestSetting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ code, line, want string }{
		{"serving.engine_memory", "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (5.20 GiB). Based on the available memory, the estimated maximum model length is 42592.", "--max-model-len=42592"},
		{"serving.engine_memory", "the estimated maximum model length is 0", ""},
		{"serving.engine_memory", "No available memory for the cache blocks", ""},
		{"serving.lora_refused", "ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "--max-lora-rank=64"},
		{"serving.lora_refused", "LoRA rank 40 is greater than max_lora_rank 16", "--max-lora-rank=64"},
		{"serving.lora_refused", "LoRA rank 1024 is greater than max_lora_rank 16", ""},
		{"serving.parallel_layout", "LoRA rank 64 is greater than max_lora_rank 16", ""},
	} {
		if got := setting(tt.code, tt.line); got != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.code, tt.line, got, tt.want)
		}
	}
}
