package model

import "strings"

// traits are what a family's layers have beside the plain decoder: projections
// with biases, norms on queries and keys, a feed-forward network of two
// matrices instead of three.
type traits struct {
	// plain: two matrices (up, down); gated: three.
	plain bool
	// qkvBias, outBias and feedBias add biases.
	qkvBias, outBias, feedBias bool
	// qkNorm is one norm of head_dim on queries and one on keys.
	qkNorm bool
	// gate doubles the query projection: attention output is gated.
	gate bool
	// norms a layer has; normBias says that each has a bias too.
	norms    int
	normBias bool
	// positions adds a table of learned positions, with so many extra rows.
	positions bool
	extraRows int
	// sinks adds one number a head.
	sinks bool
	// sharedGate adds hidden numbers a layer with shared experts.
	sharedGate bool
	// routerBias adds one number an expert.
	routerBias bool
	// expertBias adds biases to the experts' matrices.
	expertBias bool
	// tied is the family's default where the configuration does not say.
	tied bool
}

// family gives the traits of a model_type, and whether it is known in full.
func family(kind string) (traits, bool) {
	base := strings.TrimSuffix(strings.TrimSuffix(kind, "_text"), "_vl")
	t := traits{norms: 2}
	switch base {
	case "llama", "mistral", "mistral3", "ministral", "mixtral", "phi3", "yi", "granite", "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2":
		t.routerBias = base == "deepseek_v3" || base == "deepseek_v32" || base == "kimi_k2"
	case "qwen2", "qwen2_5":
		t.qkvBias = true
	case "qwen2_moe":
		t.qkvBias, t.sharedGate = true, true
	case "qwen3", "qwen3_moe":
		t.qkNorm = true
	case "qwen3_next", "qwen3_5", "qwen3_5_moe":
		t.qkNorm, t.gate, t.sharedGate = true, true, true
	case "gemma", "gemma2":
		t.tied = true
		if base == "gemma2" {
			t.norms = 4
		}
	case "gemma3":
		t.tied, t.qkNorm, t.norms = true, true, 4
	case "gpt_oss":
		t.qkvBias, t.outBias, t.sinks, t.routerBias, t.expertBias = true, true, true, true, true
	case "llama4":
	case "opt":
		t = traits{norms: 2, plain: true, qkvBias: true, outBias: true, feedBias: true, normBias: true, positions: true, extraRows: 2, tied: true}
	case "gpt2":
		t = traits{norms: 2, plain: true, qkvBias: true, outBias: true, feedBias: true, normBias: true, positions: true, tied: true}
	case "starcoder2":
		t = traits{norms: 2, plain: true, qkvBias: true, outBias: true, feedBias: true, normBias: true, tied: true}
	case "whisper":
		t = traits{norms: 3, plain: true, qkvBias: true, outBias: true, feedBias: true, normBias: true, positions: true, tied: true}
	case "nemotron_h":
		t = traits{norms: 1, plain: true}
	case "falcon_mamba", "mamba", "mamba2":
		t = traits{norms: 1, tied: true}
	case "jamba", "bamba", "granitemoehybrid":
	default:
		return t, false
	}
	return t, true
}

// ceiling is where products stop growing, so that absurd dimensions give a
// large number instead of a wrapped one.
const ceiling = int64(1) << 55

// times multiplies non-negative numbers up to the ceiling.
func times(factors ...int) int64 {
	n := int64(1)
	for _, f := range factors {
		if f <= 0 {
			return 0
		}
		if n > ceiling/int64(f) {
			return ceiling
		}
		n *= int64(f)
	}
	return n
}

// count fills in Params.
func (m *Model) count(o, outer *object) {
	t, known := family(m.Type)
	m.Known = known
	if !known {
		kind := m.Type
		if kind == "" {
			kind = "(none)"
		}
		m.note("model_type %s is not known here: its parameters are counted as a plain decoder's", kind)
	}
	t.qkvBias = o.flag(t.qkvBias, "qkv_bias", "use_qkv_bias", "attention_bias")
	t.outBias = o.flag(t.outBias, "attention_bias") && t.outBias || o.flag(false, "attention_bias") && (m.Type == "llama" || m.Type == "granite")
	t.feedBias = o.flag(t.feedBias, "mlp_bias")
	p := &m.Params
	p.Embedding = times(m.Vocab, m.Hidden)
	if !o.flag(t.tied, "tie_word_embeddings", "tie_embeddings") {
		p.Head = p.Embedding
	}
	for _, l := range m.Layers {
		m.mixer(t, l)
		m.feed(t, l)
		norm := m.Hidden
		if t.normBias {
			norm *= 2
		}
		if l.Mixer != Cross || m.Type != "whisper" {
			p.Other += times(t.norms, norm)
		}
	}
	p.Other += times(m.Hidden)
	if t.normBias {
		p.Other += times(m.Hidden)
	}
	if t.positions {
		p.Other += times(m.MaxContext+t.extraRows, m.Hidden)
	}
	m.draft(t)
	m.towers(o, outer)
	for _, n := range []*int64{&p.Embedding, &p.Head, &p.Attention, &p.Dense, &p.Shared, &p.Experts, &p.Other, &p.Vision, &p.Draft} {
		*n = min(*n, ceiling)
	}
}

// mixer counts what mixes tokens in one layer.
func (m *Model) mixer(t traits, l Layer) {
	p := &m.Params
	switch l.Mixer {
	case None:
	case Linear:
		s := m.State
		keys, values := s.KeyHeads*s.KeyDim, s.ValueHeads*s.ValueDim
		p.Attention += times(m.Hidden, 2*keys+2*values) + times(values, m.Hidden)
		p.Other += times(m.Hidden, 2*s.ValueHeads) + times(2*keys+values, s.Conv) + times(2, s.ValueHeads) + times(s.ValueDim)
	case Mamba2:
		s := m.State
		inner, groups := s.ValueHeads*s.ValueDim, 2*s.KeyHeads*s.KeyDim
		p.Attention += times(m.Hidden, 2*inner+groups+s.ValueHeads) + times(inner, m.Hidden)
		p.Other += times(inner+groups, s.Conv+1) + times(3, s.ValueHeads) + times(inner)
	case Mamba1:
		s := m.State
		inner, rank := s.ValueHeads, (m.Hidden+15)/16
		p.Attention += times(m.Hidden, 2*inner) + times(inner, rank+2*s.KeyDim) + times(rank, inner) + times(inner, m.Hidden)
		p.Other += times(inner, s.Conv+1) + times(inner, s.KeyDim) + times(2, inner)
	default:
		m.heads(t)
	}
}

// heads counts one attention layer.
func (m *Model) heads(t traits) {
	p := &m.Params
	if a := m.MLA; a != nil {
		query := times(m.Hidden, m.Heads, a.NopeDim+a.RopeDim)
		if a.QRank > 0 {
			query = times(m.Hidden, a.QRank) + times(a.QRank, m.Heads, a.NopeDim+a.RopeDim)
			p.Other += times(a.QRank)
		}
		p.Attention += query + times(m.Hidden, a.KVRank+a.RopeDim) + times(a.KVRank, m.Heads, a.NopeDim+a.ValueDim) + times(m.Heads, a.ValueDim, m.Hidden)
		p.Other += times(a.KVRank)
		return
	}
	q := m.Heads * m.HeadDim
	if t.gate {
		q *= 2
	}
	p.Attention += times(m.Hidden, q+m.KVHeads*(m.HeadDim+m.ValueDim)) + times(m.Heads*m.ValueDim, m.Hidden)
	if t.qkvBias {
		p.Other += times(q + m.KVHeads*(m.HeadDim+m.ValueDim))
	}
	if t.outBias {
		p.Other += times(m.Hidden)
	}
	if t.qkNorm {
		p.Other += times(2, m.HeadDim)
	}
	if t.sinks {
		p.Other += times(m.Heads)
	}
}

// feed counts the feed-forward part of one layer.
func (m *Model) feed(t traits, l Layer) {
	p := &m.Params
	matrices := 3
	if t.plain {
		matrices = 2
	}
	switch l.Feed {
	case Dense:
		p.Dense += times(matrices, m.Hidden, m.Intermediate)
		if t.feedBias {
			p.Other += times((matrices-1)*m.Intermediate + m.Hidden)
		}
	case Experts:
		x := m.MoE
		p.Experts += times(x.Experts, matrices, m.Hidden, x.Intermediate)
		p.Shared += times(matrices, m.Hidden, x.Shared)
		p.Other += times(m.Hidden, x.Experts)
		if t.routerBias {
			p.Other += times(x.Experts)
		}
		if t.expertBias {
			p.Other += times(x.Experts, (matrices-1)*x.Intermediate+m.Hidden)
		}
		if t.sharedGate && x.Shared > 0 {
			p.Other += times(m.Hidden)
		}
	case NoFeed:
	}
}

// draft counts what the layers for multi-token prediction hold: one decoder
// layer each, and the projection that joins hidden state and embedding.
func (m *Model) draft(t traits) {
	if m.Drafts == 0 {
		return
	}
	feed := Dense
	if m.MoE != nil {
		feed = Experts
	}
	one := Model{Hidden: m.Hidden, Heads: m.Heads, KVHeads: m.KVHeads, HeadDim: m.HeadDim, ValueDim: m.ValueDim, Intermediate: m.Intermediate, MLA: m.MLA, MoE: m.MoE}
	one.heads(t)
	one.feed(t, Layer{Feed: feed})
	m.Params.Draft = times(m.Drafts, int(min(one.Params.Total(), ceiling>>8))) + times(m.Drafts, 2*m.Hidden, m.Hidden)
}

// towers counts vision and audio encoders, by their width and depth only.
func (m *Model) towers(o, outer *object) {
	if m.Type == "whisper" {
		h, ffn, n := m.Hidden, o.count(maxWidth, "encoder_ffn_dim"), o.count(maxLayers, "encoder_layers")
		m.Params.Vision = times(n, 4*h, h) + times(n, 2*h, ffn) + times(m.CrossTokens, h)
		return
	}
	for _, name := range []string{"vision_config", "audio_config"} {
		v := outer.sub(name)
		if v == nil {
			continue
		}
		h := v.count(maxHidden, "hidden_size", "embed_dim", "width", "d_model")
		n := v.count(maxLayers, "num_hidden_layers", "depth", "layers", "encoder_layers")
		ffn := v.count(maxWidth, "intermediate_size", "encoder_ffn_dim")
		if ffn == 0 {
			ffn = 4 * h
		}
		if h == 0 || n == 0 {
			m.note("the %s has no dimensions that are known here: its weights are not counted", strings.TrimSuffix(name, "_config")+" tower")
			continue
		}
		m.Params.Vision += times(n, 4*h, h) + times(n, 2*h, ffn) + times(h, m.Hidden)
		m.note("the %s is counted by width and depth, approximately", strings.TrimSuffix(name, "_config")+" tower")
	}
}
