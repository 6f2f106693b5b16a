package model

import (
	"fmt"
	"slices"
	"strings"
)

// schedule says what each layer is. Families write it down in many ways; they
// are tried from the most explicit to the least.
func (m *Model) schedule(o *object) {
	if p := o.text2("hybrid_override_pattern"); p != "" {
		m.pattern(o, p)
	} else {
		n := o.need(maxLayers, "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
		if *o.err != nil {
			return
		}
		m.Layers = make([]Layer, n)
		m.mixers(o)
		m.feeds(o)
		m.shares(o)
	}
	if *o.err == nil {
		m.states(o)
	}
	if *o.err == nil && m.Type == "whisper" {
		m.whisper(o)
	}
	m.Drafts = o.number(0, 64, "num_nextn_predict_layers", "mtp_num_hidden_layers")
	m.windows(o)
}

// text2 reads a string of one letter a layer, which may be long.
func (o *object) text2(name string) string {
	v := o.own(name)
	if v == nil {
		return ""
	}
	s, ok := v.(string)
	if !ok || len(s) > maxLayers {
		o.fail(name, short(v), fmt.Sprintf("a string of at most %d letters is expected", maxLayers))
		return ""
	}
	return s
}

// pattern reads Nemotron-H's letters: M Mamba-2, * attention, - feed-forward, E experts.
func (m *Model) pattern(o *object, p string) {
	for i, c := range p {
		switch c {
		case 'M':
			m.Layers = append(m.Layers, Layer{Mixer: Mamba2, Feed: NoFeed})
		case '*':
			m.Layers = append(m.Layers, Layer{Mixer: Full, Feed: NoFeed})
		case '-':
			m.Layers = append(m.Layers, Layer{Mixer: None, Feed: Dense})
		case 'E':
			m.Layers = append(m.Layers, Layer{Mixer: None, Feed: Experts})
		default:
			o.fail("hybrid_override_pattern", fmt.Sprintf("%q at %d", c, i), "the letters M, *, - and E are known")
			return
		}
	}
}

// kinds are the words of layer lists.
func kinds() map[string]Mixer {
	return map[string]Mixer{
		"full_attention": Full, "attention": Full, "global": Full, "global_attention": Full,
		"sliding_attention": Window, "sliding_window": Window, "local": Window, "local_attention": Window,
		"chunked_attention": Chunked, "linear_attention": Linear, "mamba": Mamba2, "mamba2": Mamba2,
	}
}

// mixers fills in what each layer mixes with.
func (m *Model) mixers(o *object) {
	n := len(m.Layers)
	set := func(pick func(i int) Mixer) {
		for i := range m.Layers {
			m.Layers[i].Mixer = pick(i)
		}
	}
	words := o.texts("layer_types", "layers_block_type")
	every := o.count(maxLayers, "full_attention_interval")
	period := o.count(maxLayers, "sliding_window_pattern", "_sliding_window_pattern")
	switch {
	case m.Type == "mamba" || m.Type == "falcon_mamba":
		set(func(int) Mixer { return Mamba1 })
	case m.Type == "mamba2":
		set(func(int) Mixer { return Mamba2 })
	case len(words) > 0:
		m.named(o, words)
	case o.own("attn_layer_period") != nil:
		p, off := o.need(maxLayers, "attn_layer_period"), o.number(0, maxLayers, "attn_layer_offset")
		if p > 0 {
			set(func(i int) Mixer { return pick(i%p == off%p, Full, Mamba1) })
		}
	case o.own("attn_layer_indices") != nil:
		at := map[int]bool{}
		for _, v := range o.list("attn_layer_indices") {
			i, why := whole(v)
			if why != "" || i < 0 || i >= int64(n) {
				o.fail("attn_layer_indices", short(v), fmt.Sprintf("layers from 0 to %d are expected", n-1))
				return
			}
			at[int(i)] = true
		}
		set(func(i int) Mixer { return pick(at[i], Full, Mamba2) })
	case every > 0 && o.own("linear_num_value_heads") != nil:
		set(func(i int) Mixer { return pick((i+1)%every == 0, Full, Linear) })
	case o.own("cross_attention_layers") != nil:
		for _, v := range o.list("cross_attention_layers") {
			i, why := whole(v)
			if why != "" || i < 0 || i >= int64(n) {
				o.fail("cross_attention_layers", short(v), fmt.Sprintf("layers from 0 to %d are expected", n-1))
				return
			}
			m.Layers[i].Mixer = Cross
		}
		m.CrossTokens = mllamaTokens
	case strings.HasPrefix(m.Type, "llama4"):
		m.chunks(o, set)
	case period > 0:
		set(func(i int) Mixer { return pick((i+1)%period == 0, Full, Window) })
	case m.Type == "gpt_oss":
		set(func(i int) Mixer { return pick(i%2 == 1, Full, Window) })
	case m.Type == "gemma2":
		set(func(i int) Mixer { return pick(i%2 == 1, Full, Window) })
	case m.Type == "gemma3" || m.Type == "gemma3_text":
		set(func(i int) Mixer { return pick((i+1)%6 == 0, Full, Window) })
	default:
		m.windowed(o, set)
	}
}

func pick[T any](cond bool, a, b T) T {
	if cond {
		return a
	}
	return b
}

// named takes a list with one word a layer.
func (m *Model) named(o *object, words []string) {
	if len(words) != len(m.Layers) {
		o.fail("layer_types", fmt.Sprintf("a list of %d", len(words)), fmt.Sprintf("num_hidden_layers is %d", len(m.Layers)))
		return
	}
	known := kinds()
	for i, w := range words {
		x, ok := known[w]
		if !ok {
			o.fail(fmt.Sprintf("layer_types[%d]", i), fmt.Sprintf("%q", w), "this kind of layer is not modelled")
			return
		}
		if x == Mamba2 && (m.Type == "jamba" || o.own("mamba_dt_rank") != nil) {
			x = Mamba1
		}
		m.Layers[i].Mixer = x
	}
}

// chunks reads Llama 4: layers with rope look at chunks, those without at all.
func (m *Model) chunks(o *object, set func(func(int) Mixer)) {
	if o.own("attention_chunk_size") == nil {
		return
	}
	marks := o.list("no_rope_layers")
	interval := o.count(maxLayers, "no_rope_layer_interval")
	if interval == 0 {
		interval = 4
	}
	set(func(i int) Mixer {
		if i < len(marks) {
			v, _ := whole(marks[i])
			return pick(v == 0, Full, Chunked)
		}
		return pick((i+1)%interval == 0, Full, Chunked)
	})
}

// windowed reads a plain sliding_window, which some families write and do not use.
func (m *Model) windowed(o *object, set func(func(int) Mixer)) {
	if o.own("sliding_window") == nil {
		return
	}
	from := 0
	if strings.HasPrefix(m.Type, "qwen") {
		if !o.flag(false, "use_sliding_window") {
			return
		}
		from = o.number(0, maxLayers, "max_window_layers")
	} else if !o.flag(true, "use_sliding_window") {
		return
	}
	set(func(i int) Mixer { return pick(i >= from, Window, Full) })
}

// windows reads the sizes; a window that no sequence outgrows is none.
func (m *Model) windows(o *object) {
	if m.Count(Chunked) > 0 {
		m.Chunk = o.need(maxContext, "attention_chunk_size")
	}
	if m.Count(Window) == 0 {
		return
	}
	m.Window = o.need(maxContext, "sliding_window", "sliding_window_size", "window_size")
	if m.Window > 0 && m.MaxContext > 0 && m.Window >= m.MaxContext {
		for i := range m.Layers {
			if m.Layers[i].Mixer == Window {
				m.Layers[i].Mixer = Full
			}
		}
		m.Window = 0
	}
}

// feeds says which layers have experts.
func (m *Model) feeds(o *object) {
	if m.MoE == nil {
		if m.Type == "mamba" || m.Type == "falcon_mamba" || m.Type == "mamba2" {
			for i := range m.Layers {
				m.Layers[i].Feed = NoFeed
			}
		}
		return
	}
	first := o.number(0, maxLayers, "first_k_dense_replace")
	step, offset := 1, -1
	switch {
	case o.own("interleave_moe_layer_step") != nil:
		step = o.need(maxLayers, "interleave_moe_layer_step")
	case o.own("decoder_sparse_step") != nil:
		step = o.need(maxLayers, "decoder_sparse_step")
	case o.own("expert_layer_period") != nil:
		step, offset = o.need(maxLayers, "expert_layer_period"), o.number(0, maxLayers, "expert_layer_offset")
	case o.own("moe_layer_freq") != nil:
		if _, isList := o.own("moe_layer_freq").([]any); !isList {
			step = o.need(maxLayers, "moe_layer_freq")
		}
	}
	if *o.err != nil || step == 0 {
		return
	}
	if offset < 0 {
		offset = step - 1
	}
	freq := []any(nil)
	if l, ok := o.own("moe_layer_freq").([]any); ok {
		freq = l
	}
	only := map[int64]bool{}
	for _, v := range o.list("mlp_only_layers") {
		if i, why := whole(v); why == "" {
			only[i] = true
		}
	}
	for i := range m.Layers {
		moe := i >= first && i%step == offset%step && !only[int64(i)]
		if i < len(freq) {
			v, _ := whole(freq[i])
			moe = v != 0
		}
		if moe {
			m.Layers[i].Feed = Experts
		}
	}
	dense := slices.ContainsFunc(m.Layers, func(l Layer) bool { return l.Feed == Dense })
	if dense && m.Intermediate == 0 {
		o.fail("intermediate_size", "", "is missing; some layers have no experts")
	}
}

// shares marks layers that read the cache of an earlier one.
func (m *Model) shares(o *object) {
	n := o.number(0, maxLayers, "num_kv_shared_layers")
	if n >= len(m.Layers) && n > 0 {
		o.fail("num_kv_shared_layers", fmt.Sprint(n), fmt.Sprintf("there are %d layers", len(m.Layers)))
		return
	}
	for i := len(m.Layers) - n; i < len(m.Layers); i++ {
		m.Layers[i].Shares = true
	}
}

// states reads the sizes of linear-attention and Mamba states.
func (m *Model) states(o *object) {
	ssm := DTypeBytes(o.text("mamba_ssm_dtype", "mamba_ssm_cache_dtype", "ssm_dtype"))
	if ssm == 0 {
		ssm = 4
	}
	switch {
	case m.Count(Linear) > 0:
		m.State = &State{
			KeyHeads: o.need(maxHeads, "linear_num_key_heads"), KeyDim: o.need(maxHeadDim, "linear_key_head_dim"),
			ValueHeads: o.need(maxHeads, "linear_num_value_heads"), ValueDim: o.need(maxHeadDim, "linear_value_head_dim"),
			Conv: o.need(64, "linear_conv_kernel_dim"), Bytes: ssm,
		}
	case m.Count(Mamba2) > 0:
		m.State = &State{
			KeyHeads: o.need(maxHeads, "n_groups", "mamba_n_groups"), KeyDim: o.need(maxHeadDim, "ssm_state_size", "mamba_d_state", "state_size"),
			ValueHeads: o.need(maxHeads, "mamba_num_heads", "mamba_n_heads", "num_heads"), ValueDim: o.need(maxHeadDim, "mamba_head_dim", "mamba_d_head", "head_dim"),
			Conv: o.need(64, "conv_kernel", "mamba_d_conv"), Bytes: ssm,
		}
	case m.Count(Mamba1) > 0:
		inner := o.count(maxWidth, "intermediate_size")
		if e := o.count(64, "mamba_expand", "expand"); e > 0 && (m.Type == "jamba" || inner == 0) {
			inner = e * m.Hidden
		}
		if inner == 0 {
			o.fail("intermediate_size", "", "is missing; without it the Mamba state cannot be computed")
			return
		}
		m.State = &State{
			KeyHeads: 1, KeyDim: o.need(maxHeadDim, "state_size", "mamba_d_state"), ValueHeads: inner, ValueDim: 1,
			Conv: o.need(64, "conv_kernel", "mamba_d_conv"), Bytes: ssm,
		}
	}
}

// mllamaTokens is how many image tokens a sequence of Llama 3.2 Vision holds in
// its cross-attention layers: 4 tiles of 1601 patches (Hugging Face's Mllama
// documentation: image_size 560, patch 14, one class token).
const mllamaTokens = 4 * 1601

// whisper gives each decoder layer its look at the encoder.
func (m *Model) whisper(o *object) {
	m.CrossTokens = o.need(maxContext, "max_source_positions")
	for range len(m.Layers) {
		m.Layers = append(m.Layers, Layer{Mixer: Cross, Feed: NoFeed})
	}
}
