package model_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

func entry(t *testing.T, name string) (model.Entry, model.Model) {
	t.Helper()
	list, err := model.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	e, near, ok := model.Lookup(list, name)
	if !ok {
		t.Fatalf("%s is not in the catalogue (near: %v)", name, near)
	}
	m, err := e.Model()
	if err != nil {
		t.Fatal(err)
	}
	return e, m
}

// Parameter counts of the reference table 6.7, rebuilt from the architecture.
func TestParameterCounts(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{
		"phi-4-mini": 3_836_021_760, "phi-3-mini-128k": 3_821_079_552, "qwen2.5-coder-7b": 7_615_616_512, "mistral-7b": 7_248_023_552,
		"llama-3.1-8b": 8_030_261_248, "qwen3-8b-awq": 8_190_735_360, "phi-4": 14_659_507_200, "deepseek-r1-distill-qwen-14b": 14_770_033_664,
		"qwen3-32b": 32_762_123_264, "llama-3.3-70b": 70_553_706_496,
	} {
		if _, m := entry(t, name); m.Params.Total() != want {
			t.Errorf("%s has %d parameters, counted %d", name, want, m.Params.Total())
		}
	}
}

// The weights computed from every entry's dimensions agree with the published
// size of its files: to the rounding of the figure where the family is plain,
// to 1.5 % where a tower is counted approximately or drafts come with the files.
func TestWeightsAgreeWithFiles(t *testing.T) {
	t.Parallel()
	list, err := model.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, e := range list {
		m, err := e.Model()
		if err != nil {
			t.Error(err)
			continue
		}
		if !m.Known {
			t.Errorf("%s: %v", e.ID, m.Notes)
		}
		if e.WeightsGiB == 0 {
			continue
		}
		checked++
		got := float64(m.Weights(m.Quant, model.DTypeBytes(m.DType), m.Drafts > 0).Total()) / (1 << 30)
		tolerance := 0.006
		if m.Params.Vision > 0 || m.Drafts > 0 || m.State != nil {
			tolerance = 0.015 * e.WeightsGiB
		}
		if math.Abs(got-e.WeightsGiB) > tolerance {
			t.Errorf("%s: %.3f GiB computed, %.2f published", e.ID, got, e.WeightsGiB)
		}
	}
	if checked < 14 {
		t.Errorf("only %d entries have a published size", checked)
	}
}

// gpt-oss-120b loads larger than its file: the experts are padded.
func TestPaddedExperts(t *testing.T) {
	t.Parallel()
	_, m := entry(t, "gpt-oss-120b")
	got := float64(m.Weights(m.Quant, 2, false).Total()) / (1 << 30)
	if got < 64.2 || got > 66.1 {
		t.Errorf("%.2f GiB, engines report 64.4 to 66.0", got)
	}
	if a := float64(m.Params.Total()) / 1e9; a < 116.5 || a > 117.1 {
		t.Errorf("%.1f billion parameters, 116.8 published", a)
	}
	if a := float64(m.Active()) / 1e9; a < 4.9 || a > 5.9 {
		t.Errorf("%.1f billion active parameters, 5.1 published", a)
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]map[model.Mixer]int{
		"gemma-3-27b":             {model.Full: 10, model.Window: 52},
		"gpt-oss-120b":            {model.Full: 18, model.Window: 18},
		"qwen3.6-35b-a3b":         {model.Full: 10, model.Linear: 30},
		"llama-4-scout":           {model.Full: 12, model.Chunked: 36},
		"nemotron-3-nano-30b-a3b": {model.Full: 6, model.Mamba2: 23, model.None: 23},
		"phi-4-mini":              {model.Full: 32},
		"mistral-7b":              {model.Full: 32},
	} {
		_, m := entry(t, name)
		for kind, n := range want {
			if m.Count(kind) != n {
				t.Errorf("%s has %d layers of %s, want %d", name, m.Count(kind), kind, n)
			}
		}
	}
}

func TestSplits(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]int{
		"phi-4":         {1, 2, 5, 10, 20},
		"llama-3.1-8b":  {1, 2, 4, 8, 16, 32},
		"qwen2.5-7b":    {1, 2, 4, 28},
		"deepseek-r1":   {1, 2, 4, 8, 16, 32},
		"qwen3.8-27b":   {1, 2, 4, 8},
		"llama-4-scout": {1, 2, 4, 8},
		"phi-4-mini":    {1, 2, 4, 8, 24},
	} {
		_, m := entry(t, name)
		if got := m.Splits(32); !slices.Equal(got, want) {
			t.Errorf("%s splits over %v, want %v", name, got, want)
		}
	}
	_, m := entry(t, "qwen2.5-72b")
	m.Quant = model.Named("gptq")
	if why := m.Unaligned(8); !strings.Contains(why, "29568") {
		t.Errorf("29568/8 is no multiple of 128, got %q", why)
	}
	if why := m.Unaligned(1); why != "" {
		t.Errorf("one GPU has nothing to split, got %q", why)
	}
	if why := m.Unaligned(3); why != "" {
		t.Errorf("29568/3 is 77 blocks of 128, got %q", why)
	}
}

func TestParseShapes(t *testing.T) {
	t.Parallel()
	base := `"model_type":"llama","hidden_size":64,"num_hidden_layers":4,"num_attention_heads":8,"intermediate_size":128,"vocab_size":100`
	tests := []struct {
		name, config string
		check        func(model.Model) bool
	}{
		{"no key-value heads means as many as heads", `{` + base + `}`, func(m model.Model) bool { return m.KVHeads == 8 && m.HeadDim == 8 }},
		{"multi-query", `{` + base + `,"multi_query":true}`, func(m model.Model) bool { return m.KVHeads == 1 }},
		{"explicit head size", `{` + base + `,"head_dim":16}`, func(m model.Model) bool { return m.HeadDim == 16 }},
		{"null is absent", `{` + base + `,"num_key_value_heads":null,"sliding_window":null,"quantization_config":null}`, func(m model.Model) bool { return m.KVHeads == 8 && m.Window == 0 }},
		{"nested twice", `{"architectures":["X"],"thinker_config":{"text_config":{` + base + `}}}`, func(m model.Model) bool { return m.Hidden == 64 && m.Type == "llama" }},
		{"outer fields count", `{"tie_word_embeddings":true,"torch_dtype":"float16","text_config":{` + base + `}}`, func(m model.Model) bool { return m.Params.Head == 0 && m.DType == "float16" }},
		{"quantisation outside the language model", `{"quantization_config":{"quant_method":"fp8"},"text_config":{` + base + `}}`, func(m model.Model) bool { return m.Quant.Method == "fp8" }},
		{"yarn stretches", `{` + base + `,"max_position_embeddings":32768,"rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768}}`, func(m model.Model) bool { return m.MaxContext == 131072 }},
		{"llama3 scaling is counted in", `{` + base + `,"max_position_embeddings":131072,"rope_scaling":{"rope_type":"llama3","factor":8.0,"original_max_position_embeddings":8192}}`, func(m model.Model) bool { return m.MaxContext == 131072 }},
		{"all layers windowed", `{` + base + `,"sliding_window":16,"max_position_embeddings":1024}`, func(m model.Model) bool { return m.Count(model.Window) == 4 && m.Window == 16 }},
		{"window nobody outgrows", `{` + base + `,"sliding_window":4096,"max_position_embeddings":1024}`, func(m model.Model) bool { return m.Count(model.Full) == 4 }},
		{"Qwen writes a window and does not use it", `{` + strings.Replace(base, "llama", "qwen2", 1) + `,"sliding_window":16,"use_sliding_window":false}`, func(m model.Model) bool { return m.Count(model.Window) == 0 }},
		{"shared caches", `{` + base + `,"num_kv_shared_layers":2}`, func(m model.Model) bool { return !m.Layers[1].Shares && m.Layers[2].Shares }},
		{"cross attention", `{` + base + `,"cross_attention_layers":[1,3]}`, func(m model.Model) bool { return m.Count(model.Cross) == 2 && m.CrossTokens == 6404 }},
		{"Jamba", `{` + strings.Replace(base, "llama", "jamba", 1) + `,"attn_layer_period":4,"attn_layer_offset":2,"mamba_d_state":16,"mamba_d_conv":4,"mamba_expand":2}`, func(m model.Model) bool {
			return m.Count(model.Full) == 1 && m.Count(model.Mamba1) == 3 && m.State.ValueHeads == 128
		}},
		{"Bamba", `{` + strings.Replace(base, "llama", "bamba", 1) + `,"attn_layer_indices":[1],"mamba_n_heads":4,"mamba_d_head":8,"mamba_d_state":16,"mamba_n_groups":1,"mamba_d_conv":4}`, func(m model.Model) bool {
			return m.Count(model.Full) == 1 && m.Count(model.Mamba2) == 3
		}},
		{"Mistral's own format", `{"dim":64,"n_layers":4,"n_heads":8,"n_kv_heads":2,"head_dim":8,"hidden_dim":128,"vocab_size":100}`, func(m model.Model) bool { return m.KVHeads == 2 && m.Intermediate == 128 && m.Known }},
		{"Whisper", `{"model_type":"whisper","is_encoder_decoder":true,"d_model":64,"vocab_size":100,"decoder_layers":2,"decoder_attention_heads":4,"decoder_ffn_dim":128,"encoder_layers":2,"encoder_ffn_dim":128,"max_source_positions":1500,"max_target_positions":448,"torch_dtype":"float16"}`, func(m model.Model) bool {
			return m.Count(model.Cross) == 2 && m.Count(model.Full) == 2 && m.CrossTokens == 1500 && m.MaxContext == 448
		}},
		{"unknown family is said", `{` + strings.Replace(base, "llama", "brandnew", 1) + `}`, func(m model.Model) bool { return !m.Known && strings.Contains(strings.Join(m.Notes, " "), "brandnew") }},
		{"whole number written as a float", `{` + strings.Replace(base, `"hidden_size":64`, `"hidden_size":64.0`, 1) + `}`, func(m model.Model) bool { return m.Hidden == 64 }},
		{"a sparse layer list", `{` + strings.Replace(base, "llama", "qwen3_moe", 1) + `,"num_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":32,"mlp_only_layers":[0]}`, func(m model.Model) bool {
			return m.Layers[0].Feed == model.Dense && m.Layers[1].Feed == model.Experts
		}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m, err := model.Parse("x", []byte(tc.config))
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(m) {
				t.Errorf("%+v", m)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	with := func(field, value string) string {
		return `{"model_type":"llama","hidden_size":64,"num_hidden_layers":4,"num_attention_heads":8,"intermediate_size":128,"vocab_size":100,"` + field + `":` + value + `}`
	}
	tests := []struct {
		name, config string
		say          []string
	}{
		{"empty", ``, []string{"empty"}},
		{"not JSON", `{"hidden_size": }`, []string{"not valid JSON"}},
		{"a list", `[1]`, []string{"a list"}},
		{"two values", `{} {}`, []string{"more than one"}},
		{"nothing in it", `{}`, []string{"hidden_size", "missing"}},
		{"no layers", `{"hidden_size":64,"vocab_size":10,"num_attention_heads":8}`, []string{"num_hidden_layers", "missing"}},
		{"negative", with("num_key_value_heads", "-8"), []string{"num_key_value_heads", "-8"}},
		{"zero", with("head_dim", "0"), []string{"head_dim", "0"}},
		{"huge", with("num_key_value_heads", "999999999999999999999"), []string{"num_key_value_heads", "whole number"}},
		{"a string", with("head_dim", `"128"`), []string{"head_dim", `"128"`, "string"}},
		{"a fraction", with("head_dim", "1.5"), []string{"head_dim", "1.5"}},
		{"a list for a number", with("head_dim", "[1]"), []string{"head_dim", "list"}},
		{"heads that do not divide", with("num_key_value_heads", "3"), []string{"num_key_value_heads", "3", "divide"}},
		{"unknown layer kind", with("layer_types", `["full_attention","retention","full_attention","full_attention"]`), []string{"layer_types[1]", "retention"}},
		{"too few layer kinds", with("layer_types", `["full_attention"]`), []string{"layer_types", "num_hidden_layers is 4"}},
		{"unknown letter", with("hybrid_override_pattern", `"M*Q"`), []string{"hybrid_override_pattern", "Q"}},
		{"quantisation without a method", with("quantization_config", `{"bits":4}`), []string{"quantization_config.quant_method", "missing"}},
		{"quantisation is no object", with("quantization_config", `"awq"`), []string{"quantization_config", "object"}},
		{"state that is not modelled", `{"model_type":"rwkv7"}`, []string{"model_type", "rwkv7", "not modelled"}},
		{"translator", with("is_encoder_decoder", "true"), []string{"encoder-decoder"}},
		{"unknown dtype", with("torch_dtype", `"int3"`), []string{"torch_dtype", "int3"}},
		{"negative window", with("sliding_window", "-1"), []string{"sliding_window", "-1"}},
		{"nested error names the path", `{"text_config":{"hidden_size":-4}}`, []string{"text_config.hidden_size", "-4"}},
		{"more experts visited than there are", with("num_local_experts", `4,"num_experts_per_tok":9`), []string{"num_experts_per_tok", "9"}},
		{"absurd in sum", `{"model_type":"llama","hidden_size":262144,"num_hidden_layers":2048,"num_attention_heads":4096,"intermediate_size":4194304,"vocab_size":100}`, []string{"parameters", "no model is as large"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := model.Parse("x", []byte(tc.config))
			if err == nil {
				t.Fatal("no error")
			}
			for _, s := range tc.say {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
	if _, err := model.Parse("x", make([]byte, model.MaxConfig+1)); err == nil || !strings.Contains(err.Error(), "no model configuration") {
		t.Errorf("an oversized file: %v", err)
	}
}

func TestQuantisation(t *testing.T) {
	t.Parallel()
	base := `"model_type":"llama","hidden_size":64,"num_hidden_layers":4,"num_attention_heads":8,"intermediate_size":128,"vocab_size":100,"quantization_config":`
	tests := []struct {
		name, config string
		bytes        float64
		block        int
	}{
		{"awq", `{"quant_method":"awq","bits":4,"group_size":128}`, 0.51953125, 128},
		{"awq in its older words", `{"quant_method":"awq","w_bit":4,"q_group_size":64}`, 0.5390625, 64},
		{"gptq 8 bit without groups", `{"quant_method":"gptq","bits":8,"group_size":-1}`, 1, 1},
		{"auto-round", `{"quant_method":"auto-round","bits":4,"group_size":128}`, 0.51953125, 128},
		{"fp8 in blocks", `{"quant_method":"fp8","weight_block_size":[128,128]}`, 1.000244140625, 128},
		{"fp8", `{"quant_method":"fp8"}`, 1, 0},
		{"nvfp4 of modelopt", `{"quant_method":"modelopt","quant_algo":"NVFP4"}`, 0.5625, 16},
		{"nvfp4 nested", `{"quantization":{"quant_algo":"NVFP4"}}`, 0, 0},
		{"fp8 of modelopt", `{"quant_method":"modelopt","quantization":{"quant_algo":"FP8"}}`, 1, 0},
		{"mxfp4", `{"quant_method":"mxfp4"}`, 0.53125, 0},
		{"compressed-tensors int4", `{"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"num_bits":4,"type":"int","group_size":128}}}}`, 0.51953125, 128},
		{"compressed-tensors int8", `{"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"num_bits":8,"type":"int","strategy":"channel"}}}}`, 1, 0},
		{"compressed-tensors nvfp4", `{"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"num_bits":4,"type":"float","group_size":16}}}}`, 0.5625, 16},
		{"bitsandbytes", `{"quant_method":"bitsandbytes","load_in_4bit":true}`, 0.5625, 0},
		{"bitsandbytes 8 bit", `{"quant_method":"bitsandbytes","load_in_8bit":true}`, 1, 0},
		{"not known", `{"quant_method":"vptq"}`, 0, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m, err := model.Parse("x", []byte(`{`+base+tc.config+`}`))
			if tc.name == "nvfp4 nested" {
				if err != nil || m.Quant.Method != "nvfp4" {
					t.Errorf("%v %+v", err, m.Quant)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.Quant.Bytes != tc.bytes || m.Quant.Block != tc.block {
				t.Errorf("%+v, want %v bytes, block %d", m.Quant, tc.bytes, tc.block)
			}
			if m.Quant.Known() != (tc.bytes > 0) {
				t.Errorf("known: %v", m.Quant.Known())
			}
		})
	}
	m, err := model.Parse("x", []byte(`{`+base+`{"quant_method":"modelopt","quant_algo":"NVFP4","ignore":["*self_attn*","lm_head"]}}`))
	if err != nil || !m.Quant.KeepAttention {
		t.Errorf("attention that is left out is not quantised: %+v %v", m.Quant, err)
	}
	if b := model.Named("q4_k_m").Bytes; b != 0.60 {
		t.Errorf("Q4_K_M takes %v bytes", b)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	list, err := model.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range list {
		if e.Source == "" {
			t.Errorf("%s has no source", e.ID)
		}
		for _, n := range append([]string{e.ID}, e.Aliases...) {
			if k := strings.ToLower(n); seen[k] {
				t.Errorf("%s stands twice", n)
			} else {
				seen[k] = true
			}
		}
	}
	if e, _, ok := model.Lookup(list, "META-LLAMA/llama-3.1-8b-instruct"); !ok || e.ID != "meta-llama/Llama-3.1-8B-Instruct" {
		t.Errorf("case matters: %v", e.ID)
	}
	if _, near, ok := model.Lookup(list, "lama-3.1-8b"); ok || len(near) == 0 || near[0] != "meta-llama/Llama-3.1-8B-Instruct" {
		t.Errorf("near %v", near)
	}
	if _, near, ok := model.Lookup(list, "something/else-entirely"); ok || len(near) != 0 {
		t.Errorf("near %v", near)
	}
}

// FuzzParse: no input makes the parser panic, and what it accepts is sound.
func FuzzParse(f *testing.F) {
	list, err := model.Catalogue()
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range list {
		f.Add([]byte(e.Config))
	}
	f.Add([]byte(`{"text_config":{"hidden_size":-1}}`))
	f.Add([]byte(`{"dim":64,"n_layers":4,"n_heads":8,"hidden_dim":1e3,"vocab_size":100,"moe":{"num_experts":8}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := model.Parse("fuzz", raw)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "config.json") {
				t.Errorf("an error that does not name the file: %v", err)
			}
			return
		}
		if len(m.Layers) == 0 || m.Params.Total() <= 0 || m.Active() < 0 {
			t.Errorf("accepted without layers or parameters: %+v", m.Params)
		}
		if got := m.Weights(m.Quant, 2, true).Total(); m.Quant.Known() && got <= 0 {
			t.Errorf("weights of %d bytes", got)
		}
		for _, tp := range m.Splits(16) {
			if m.Heads > 0 && m.Heads%tp != 0 {
				t.Errorf("%d heads split over %d", m.Heads, tp)
			}
		}
	})
}
