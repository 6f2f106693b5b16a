// Package engine reads the arguments of vLLM, SGLang and TensorRT-LLM servers as
// far as they bear on GPU memory. It is pure. What it does not know it leaves
// alone and lists; a value it cannot read is an error that names the flag.
package engine

import (
	"fmt"
	"strings"
)

// Kind is a serving engine.
type Kind string

// Engines whose memory rules are known.
const (
	VLLM   Kind = "vllm"
	SGLang Kind = "sglang"
	TRTLLM Kind = "tensorrt-llm"
)

// Settings are what decides memory. Zero values mean "not said"; the methods
// give the engine's own default then.
type Settings struct {
	Kind Kind `json:"engine"`
	// Model as it stands in the arguments: a repository name or a path.
	Model string `json:"model,omitempty"`
	// ConfigPath is a directory with the config.json, if one is named apart.
	ConfigPath string `json:"config_path,omitempty"`
	TP         int    `json:"tensor_parallel,omitempty"`
	PP         int    `json:"pipeline_parallel,omitempty"`
	DP         int    `json:"data_parallel,omitempty"`
	// EP spreads whole experts over the GPUs instead of slices of each.
	EP bool `json:"expert_parallel,omitempty"`
	// DPAttention replicates attention over the tensor-parallel group (SGLang).
	DPAttention bool `json:"dp_attention,omitempty"`
	// Utilization is the fraction of GPU memory the engine takes; what it covers
	// differs by engine.
	Utilization float64 `json:"memory_fraction,omitempty"`
	// MaxLen is the longest sequence in tokens; AutoLen lets the engine shrink it.
	MaxLen  int  `json:"max_len,omitempty"`
	AutoLen bool `json:"auto_len,omitempty"`
	// MaxSeqs is how many sequences run at once, BatchedTokens how many tokens one step takes.
	MaxSeqs       int `json:"max_seqs,omitempty"`
	BatchedTokens int `json:"max_batched_tokens,omitempty"`
	// BlockSize is the number of tokens of a cache block.
	BlockSize int `json:"block_size,omitempty"`
	// KVType, DType and Quantization as written; empty and "auto" mean what the
	// model says.
	KVType       string `json:"kv_cache_dtype,omitempty"`
	DType        string `json:"dtype,omitempty"`
	Quantization string `json:"quantization,omitempty"`
	// KVBytes fixes the size of the cache a GPU, in bytes.
	KVBytes int64 `json:"kv_cache_bytes,omitempty"`
	// OffloadBytes of the weights a GPU live in host memory.
	OffloadBytes int64 `json:"cpu_offload_bytes,omitempty"`
	// NoPrefixCache and NoHybrid turn those features off.
	NoPrefixCache bool `json:"no_prefix_caching,omitempty"`
	NoHybrid      bool `json:"no_hybrid_cache,omitempty"`
	Eager         bool `json:"eager,omitempty"`
	// Speculate is the number of drafted tokens, Drafter how they are made and
	// DraftModel the model that makes them, if it is another one.
	Speculate  int    `json:"speculative_tokens,omitempty"`
	Drafter    string `json:"speculative_method,omitempty"`
	DraftModel string `json:"speculative_model,omitempty"`
	// LoRA says that adapters are loaded too.
	LoRA bool `json:"lora,omitempty"`
	// File is a file with more settings that is not read.
	File string `json:"settings_file,omitempty"`
	// Ignored lists arguments that were passed over.
	Ignored []string `json:"-"`
}

// Title names the engine for people.
func (s Settings) Title() string {
	switch s.Kind {
	case SGLang:
		return "SGLang"
	case TRTLLM:
		return "TensorRT-LLM"
	}
	return "vLLM"
}

// Tensor, Pipe and Data are the sizes of the parallel groups, 1 where not said.
func (s Settings) Tensor() int { return max(s.TP, 1) }

// Pipe is the pipeline-parallel size.
func (s Settings) Pipe() int { return max(s.PP, 1) }

// Data is the data-parallel size.
func (s Settings) Data() int { return max(s.DP, 1) }

// GPUs is how many GPUs one instance takes.
func (s Settings) GPUs() int {
	if s.DPAttention {
		return s.Tensor() * s.Pipe()
	}
	return s.Tensor() * s.Pipe() * s.Data()
}

// Fraction gives the memory fraction and whether it is the engine's default.
// vLLM's was 0.90 for years and is 0.92 in late versions (vllm/config/cache.py);
// without knowing the version the lower one is the safe side. SGLang's depends on
// the GPU and is about 0.88; TensorRT-LLM takes 0.90 of what is free after loading.
func (s Settings) Fraction() (float64, bool) {
	if s.Utilization > 0 {
		return s.Utilization, false
	}
	if s.Kind == SGLang {
		return 0.88, true
	}
	return 0.90, true
}

// Block is the number of tokens of a cache block.
func (s Settings) Block() int {
	if s.BlockSize > 0 {
		return s.BlockSize
	}
	switch s.Kind {
	case SGLang:
		return 1
	case TRTLLM:
		return 32
	}
	return 16
}

// Batched is how many tokens one step may take: vLLM's default for a server on
// large GPUs where nothing is said.
func (s Settings) Batched() int {
	if s.BatchedTokens > 0 {
		return s.BatchedTokens
	}
	return 8192
}

// Seqs is how many sequences run at once; vLLM's long-standing default is 256.
func (s Settings) Seqs() int {
	if s.MaxSeqs > 0 {
		return s.MaxSeqs
	}
	return 256
}

// LenFlag and the like name the flag that changes a setting.
func (s Settings) LenFlag() string {
	switch s.Kind {
	case SGLang:
		return "--context-length"
	case TRTLLM:
		return "--max_seq_len"
	}
	return "--max-model-len"
}

// FractionFlag names the flag of the memory fraction.
func (s Settings) FractionFlag() string {
	switch s.Kind {
	case SGLang:
		return "--mem-fraction-static"
	case TRTLLM:
		return "--kv_cache_free_gpu_memory_fraction"
	}
	return "--gpu-memory-utilization"
}

// TensorFlag names the flag of tensor parallelism.
func (s Settings) TensorFlag() string {
	switch s.Kind {
	case SGLang:
		return "--tp-size"
	case TRTLLM:
		return "--tp_size"
	}
	return "--tensor-parallel-size"
}

// KVFlag names the flag of the cache's data type, empty if there is none.
func (s Settings) KVFlag() string {
	if s.Kind == TRTLLM {
		return ""
	}
	return "--kv-cache-dtype"
}

// String lists what was said, for people.
func (s Settings) String() string {
	var parts []string
	add := func(cond bool, format string, args ...any) {
		if cond {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(true, "tensor parallel %d", s.Tensor())
	add(s.Pipe() > 1, "pipeline parallel %d", s.Pipe())
	add(s.Data() > 1, "data parallel %d", s.Data())
	add(s.EP, "expert parallel")
	f, byDefault := s.Fraction()
	if s.KVBytes > 0 {
		add(true, "KV cache fixed at %d bytes", s.KVBytes)
	} else if byDefault {
		add(true, "memory fraction %.2f (default)", f)
	} else {
		add(true, "memory fraction %.2f", f)
	}
	add(s.MaxLen > 0, "context %d", s.MaxLen)
	add(s.AutoLen, "context as long as fits")
	add(s.KVType != "" && s.KVType != "auto", "KV cache %s", s.KVType)
	add(s.Quantization != "", "quantisation %s", s.Quantization)
	add(s.DType != "" && s.DType != "auto", "dtype %s", s.DType)
	add(s.Speculate > 0, "%d speculative tokens (%s)", s.Speculate, s.Drafter)
	return strings.Join(parts, ", ")
}
