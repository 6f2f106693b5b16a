package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Largest values that are read as a dimension: a few times what the largest
// published models have, so that a slip of digits is caught.
const (
	maxLayers  = 2048
	maxHidden  = 1 << 18
	maxWidth   = 1 << 22
	maxVocab   = 1 << 24
	maxHeads   = 1 << 12
	maxHeadDim = 1 << 14
	maxExperts = 1 << 14
	maxContext = 1 << 30
	// maxParams is a hundred trillion.
	maxParams = 1e14
)

// nested are the names under which multimodal configurations keep the language
// model, outermost first.
func nested() []string {
	return []string{"text_config", "llm_config", "language_config", "thinker_config", "language_model"}
}

// Parse reads a config.json (or Mistral's params.json). The error names the
// field, its value and what is expected. name is what the model is called.
func Parse(name string, raw []byte) (Model, error) {
	o, err := decode(raw)
	if err != nil {
		return Model{}, err
	}
	m := Model{Name: name}
	outer := o
	for range 3 {
		inner := innermost(o)
		if inner == nil {
			break
		}
		inner.outer = o
		o = inner
	}
	if *o.err != nil {
		return Model{}, *o.err
	}
	m.Type = strings.ToLower(cmp.Or(asText(o.own("model_type")), o.text("model_type")))
	if m.Type == "" && o.own("dim") != nil && o.own("n_layers") != nil {
		m.Type = "mistral"
		if o.own("moe") != nil {
			m.Type = "mixtral"
		}
		m.note("this is a params.json in Mistral's own format")
	}
	if err := m.supported(o); err != nil {
		return Model{}, err
	}
	m.shape(o)
	if *o.err == nil {
		m.schedule(o)
	}
	if *o.err != nil {
		return Model{}, *o.err
	}
	m.Quant = readQuant(o)
	if *o.err != nil {
		return Model{}, *o.err
	}
	m.count(o, outer)
	if *o.err != nil {
		return Model{}, *o.err
	}
	if t := m.Params.Total(); t <= 0 || float64(t) > maxParams {
		return Model{}, &FieldError{Field: "the dimensions", Value: fmt.Sprintf("%.3g parameters", float64(t)), Why: "no model is as large; check hidden_size, num_hidden_layers, intermediate_size and the number of experts"}
	}
	return m, nil
}

func asText(v any) string {
	s, _ := v.(string)
	return s
}

// innermost gives the nested language model, if this object is only its wrapper.
func innermost(o *object) *object {
	for _, n := range nested() {
		if inner := o.sub(n); inner != nil && len(inner.fields) > 0 {
			return inner
		}
	}
	return nil
}

func (m *Model) note(format string, args ...any) {
	m.Notes = append(m.Notes, fmt.Sprintf(format, args...))
}

// supported refuses what is not modelled, instead of giving a wrong figure.
func (m *Model) supported(o *object) error {
	refuse := func(why string) error {
		return &FieldError{Field: "model_type", Value: fmt.Sprintf("%q", m.Type), Why: why}
	}
	switch m.Type {
	case "falcon_h1", "zamba", "zamba2", "hymba":
		return refuse("its layers hold attention and a state at once, which is not modelled")
	case "rwkv", "rwkv6", "rwkv7", "recurrent_gemma", "lfm2", "lfm2_moe", "minimax", "minimax_text_01", "kimi_linear", "plamo2":
		return refuse("the state its layers keep is not modelled")
	case "stable-diffusion", "flux", "bert", "roberta", "xlm-roberta", "modernbert", "clip":
		return refuse("it does not generate text and keeps no cache")
	}
	if o.flag(false, "is_encoder_decoder") && m.Type != "whisper" {
		return refuse("encoder-decoder models other than Whisper are not modelled")
	}
	return nil
}

// shape reads the dimensions.
func (m *Model) shape(o *object) {
	m.Hidden = o.need(maxHidden, "hidden_size", "n_embd", "d_model", "dim")
	m.Vocab = o.need(maxVocab, "vocab_size", "padded_vocab_size")
	m.DType = strings.TrimPrefix(strings.ToLower(o.text("torch_dtype", "dtype")), "torch.")
	if m.DType != "" && DTypeBytes(m.DType) == 0 {
		o.fail("torch_dtype", fmt.Sprintf("%q", m.DType), "bfloat16, float16 or float32 is expected")
		return
	}
	if m.DType == "" {
		m.DType = "bfloat16"
		m.note("torch_dtype is not said: taken for bfloat16")
	}
	if m.Type != "mamba" && m.Type != "falcon_mamba" {
		m.attention(o)
	}
	m.Intermediate = o.count(maxWidth, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "decoder_ffn_dim", "hidden_dim")
	if m.Intermediate == 0 && (m.Type == "gpt2" || m.Type == "gpt_bigcode" || m.Type == "falcon" || m.Type == "bloom") {
		m.Intermediate = 4 * m.Hidden
	}
	m.MaxContext = longest(o)
	m.experts(o)
}

// attention reads heads; engines split them, so they must be exact.
func (m *Model) attention(o *object) {
	m.Heads = o.need(maxHeads, "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
	m.KVHeads = o.count(maxHeads, "num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "multi_query_group_num")
	if m.KVHeads == 0 || m.Type == "falcon" && !o.flag(false, "new_decoder_architecture") {
		m.KVHeads = m.Heads
		if o.flag(false, "multi_query") || m.Type == "falcon" && o.flag(true, "multi_query") {
			m.KVHeads = 1
		}
	}
	if m.Heads > 0 && (m.KVHeads > m.Heads || m.Heads%m.KVHeads != 0) {
		o.fail("num_key_value_heads", fmt.Sprint(m.KVHeads), fmt.Sprintf("it must divide num_attention_heads %d", m.Heads))
		return
	}
	m.HeadDim = o.count(maxHeadDim, "head_dim", "kv_channels", "attention_head_dim")
	if m.HeadDim == 0 && m.Heads > 0 {
		m.HeadDim = m.Hidden / m.Heads
	}
	m.ValueDim = cmp.Or(o.count(maxHeadDim, "v_head_dim"), m.HeadDim)
	if rank := o.count(maxHidden, "kv_lora_rank"); rank > 0 {
		m.MLA = &MLA{
			KVRank: rank, QRank: o.count(maxHidden, "q_lora_rank"), NopeDim: o.need(maxHeadDim, "qk_nope_head_dim"),
			RopeDim: o.need(maxHeadDim, "qk_rope_head_dim"), ValueDim: o.need(maxHeadDim, "v_head_dim"),
		}
		m.KVHeads = 1
		m.HeadDim, m.ValueDim = m.MLA.NopeDim+m.MLA.RopeDim, m.MLA.ValueDim
		if o.own("index_head_dim") != nil {
			m.note("the cache of the sparse-attention indexer is not counted")
		}
	} else if g := o.count(maxHeadDim, "global_head_dim"); g > 0 && g != m.HeadDim {
		o.fail("global_head_dim", fmt.Sprint(g), fmt.Sprintf("layers whose heads differ in size (head_dim %d) are not modelled", m.HeadDim))
	} else if m.ValueDim == 0 || m.HeadDim == 0 {
		o.fail("head_dim", "", "is missing and hidden_size is smaller than num_attention_heads")
	}
}

// experts reads a mixture of experts; the field names differ by family.
func (m *Model) experts(o *object) {
	moe := o.sub("moe")
	if moe == nil {
		moe = o.sub("ffn_config")
	}
	n, per := 0, 0
	if moe != nil {
		n = moe.count(maxExperts, "num_experts", "moe_num_experts")
		per = moe.count(maxExperts, "num_experts_per_tok", "moe_top_k")
	}
	n = cmp.Or(n, o.count(maxExperts, "num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"))
	if n <= 1 {
		return
	}
	x := &MoE{Experts: n, Intermediate: o.count(maxWidth, "moe_intermediate_size", "expert_hidden_size")}
	x.PerToken = cmp.Or(per, o.count(maxExperts, "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "experts_per_token", "moe_top_k"))
	if x.PerToken > n {
		o.fail("num_experts_per_tok", fmt.Sprint(x.PerToken), fmt.Sprintf("there are only %d experts", n))
	}
	if x.PerToken == 0 {
		x.PerToken = n
		m.note("how many experts a token visits is not said: taken for all of them")
	}
	if x.Intermediate == 0 {
		x.Intermediate = m.Intermediate
	}
	if x.Intermediate == 0 {
		o.fail("moe_intermediate_size", "", "is missing; without it the experts cannot be counted")
	}
	switch {
	case o.own("shared_expert_intermediate_size") != nil:
		x.Shared = o.number(0, maxWidth, "shared_expert_intermediate_size")
	case o.own("moe_shared_expert_intermediate_size") != nil:
		x.Shared = o.number(0, maxWidth, "moe_shared_expert_intermediate_size") * max(1, o.number(0, 64, "n_shared_experts"))
	case o.own("n_shared_experts") != nil:
		x.Shared = o.number(0, 1024, "n_shared_experts") * x.Intermediate
	case strings.HasPrefix(m.Type, "llama4"):
		x.Shared = x.Intermediate
	case o.own("shared_intermediate_size") != nil:
		x.Shared = o.number(0, maxWidth, "shared_intermediate_size")
	}
	if strings.HasPrefix(m.Type, "llama4") {
		m.Intermediate = cmp.Or(o.count(maxWidth, "intermediate_size_mlp"), m.Intermediate)
	}
	m.MoE = x
}

// longest gives the longest sequence: what the configuration says, stretched by
// its rope scaling where that is not counted in yet.
func longest(o *object) int {
	n := o.count(maxContext, "max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "model_max_length", "max_target_positions")
	r := o.sub("rope_scaling")
	if r == nil {
		r = o.sub("rope_parameters")
	}
	if r == nil || n == 0 {
		return n
	}
	kind := r.text("rope_type", "type")
	factor := r.fraction("factor")
	switch kind {
	case "yarn", "deepseek_yarn":
		if base := r.count(maxContext, "original_max_position_embeddings"); base > 0 && factor > 0 {
			return int(math.Min(float64(base)*factor, maxContext))
		}
	case "linear", "dynamic":
		if factor > 1 && !strings.HasPrefix(asText(o.own("model_type")), "gemma3") {
			return int(math.Min(float64(n)*factor, maxContext))
		}
	}
	return n
}

// DTypeBytes gives the bytes of one number of a data type; 0 if it is unknown.
func DTypeBytes(name string) int {
	switch strings.TrimPrefix(strings.ToLower(name), "torch.") {
	case "bfloat16", "bf16", "float16", "fp16", "half":
		return 2
	case "float32", "fp32", "float":
		return 4
	case "float8_e4m3fn", "float8_e5m2", "fp8", "fp8_e4m3", "fp8_e5m2":
		return 1
	}
	return 0
}

// Splits lists the tensor-parallel sizes up to most that attention heads,
// key-value heads and states allow.
func (m Model) Splits(most int) []int {
	var out []int
	for tp := 1; tp <= most; tp++ {
		if m.Indivisible(tp) == "" {
			out = append(out, tp)
		}
	}
	return out
}

// Indivisible says, in words, why the model cannot be split over tp GPUs;
// empty if it can.
func (m Model) Indivisible(tp int) string {
	if tp <= 1 {
		return ""
	}
	if m.Heads > 0 && m.Heads%tp != 0 {
		return fmt.Sprintf("%d attention heads are not divisible by tensor parallel size %d", m.Heads, tp)
	}
	if m.MLA == nil && m.KVHeads > 0 && m.KVHeads%tp != 0 && tp%m.KVHeads != 0 {
		return fmt.Sprintf("%d key-value heads can be neither split nor replicated over tensor parallel size %d", m.KVHeads, tp)
	}
	if s := m.State; s != nil {
		if m.Count(Linear)+m.Count(Mamba2) > 0 && s.ValueHeads%tp != 0 {
			return fmt.Sprintf("%d heads of the state layers are not divisible by tensor parallel size %d", s.ValueHeads, tp)
		}
		if m.Count(Linear) > 0 && s.KeyHeads%tp != 0 {
			return fmt.Sprintf("%d key heads of the linear-attention layers are not divisible by tensor parallel size %d", s.KeyHeads, tp)
		}
	}
	return ""
}

// Unaligned says why quantised weights cannot be split over tp GPUs: a shard
// must hold whole blocks. Empty if it can, or is not quantised in blocks.
func (m Model) Unaligned(tp int) string {
	if tp <= 1 || m.Quant.Block <= 1 {
		return ""
	}
	check := func(what string, width int) string {
		if width > 0 && (width%tp != 0 || width/tp%m.Quant.Block != 0) {
			return fmt.Sprintf("%s %d over tensor parallel size %d is not a multiple of the %s block of %d", what, width, tp, m.Quant.Method, m.Quant.Block)
		}
		return ""
	}
	var found []string
	hasDense := slices.ContainsFunc(m.Layers, func(l Layer) bool { return l.Feed == Dense })
	if hasDense && !m.Quant.ExpertsOnly {
		found = append(found, check("intermediate_size", m.Intermediate))
	}
	if m.MoE != nil {
		found = append(found, check("the experts' width", m.MoE.Intermediate))
	}
	return cmp.Or(found...)
}
