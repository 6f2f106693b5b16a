// Package model reads what a Hugging Face config.json says about a model: its
// layers, what each of them remembers of a sequence, how many parameters there
// are of which kind, and how they are quantised. It is pure: no files, no
// network. What a configuration does not say is an error or a note, never a guess.
package model

// Mixer is what a layer mixes tokens with, and so what it keeps of a sequence.
type Mixer uint8

const (
	// Full attention keeps keys and values of every token.
	Full Mixer = iota
	// Window attention needs the last Model.Window tokens.
	Window
	// Chunked attention needs the tokens of the current chunk; engines keep all
	// of them unless told otherwise.
	Chunked
	// Linear attention (gated delta rule) keeps a state of fixed size.
	Linear
	// Mamba1 and Mamba2 keep a state of fixed size.
	Mamba1
	Mamba2
	// Cross attention keeps keys and values of the encoder's tokens.
	Cross
	// None keeps nothing: the layer has no mixer, or shares the cache of another.
	None
)

// String gives the mixer in words.
func (m Mixer) String() string {
	names := [...]string{"full attention", "sliding-window attention", "chunked attention", "linear attention", "Mamba", "Mamba-2", "cross attention", "no mixer"}
	if int(m) < len(names) {
		return names[m]
	}
	return "unknown mixer"
}

// Feed is the feed-forward part of a layer.
type Feed uint8

const (
	// Dense is one feed-forward network.
	Dense Feed = iota
	// Experts is a mixture of experts.
	Experts
	// NoFeed is no feed-forward part.
	NoFeed
)

// Layer is one layer of the decoder.
type Layer struct {
	Mixer Mixer
	Feed  Feed
	// Shares says that the layer reads the cache of an earlier one and has none
	// of its own.
	Shares bool
}

// MLA is multi-head latent attention: keys and values of a token are one vector
// of KVRank + RopeDim numbers, whatever the number of heads.
type MLA struct {
	KVRank, QRank, NopeDim, RopeDim, ValueDim int
}

// MoE is a mixture of experts.
type MoE struct {
	// Experts that are routed to, and how many each token visits.
	Experts, PerToken int
	// Intermediate is the width of one routed expert.
	Intermediate int
	// Shared is the summed width of the experts that every token visits.
	Shared int
}

// State is the fixed-size memory of a linear-attention or Mamba layer.
type State struct {
	// KeyHeads, KeyDim, ValueHeads and ValueDim describe the matrix state: one of
	// ValueDim x KeyDim a value head. For Mamba-2 the key dimension is the state
	// size and KeyHeads the number of groups; Mamba-1 has ValueDim 1.
	KeyHeads, KeyDim, ValueHeads, ValueDim int
	// Conv is the kernel of the short convolution before it.
	Conv int
	// Bytes of one number of the matrix state.
	Bytes int
}

// Model is what the estimate needs to know.
type Model struct {
	// Name as the caller knows it, Type is config.json's model_type.
	Name, Type string
	// Known says that the parameter count of this type is modelled in full;
	// otherwise it is counted as a plain decoder and Notes say so.
	Known bool
	// Layers in order.
	Layers []Layer
	// Hidden is the width of the residual stream, Vocab the number of tokens.
	Hidden, Vocab int
	// MaxContext is the longest sequence the configuration allows; 0 if not said.
	MaxContext int
	// DType of the weights as the configuration names it.
	DType string
	// Heads and KVHeads of attention, HeadDim and ValueDim in numbers.
	Heads, KVHeads, HeadDim, ValueDim int
	// Window and Chunk in tokens, 0 where no layer has one.
	Window, Chunk int
	// CrossTokens is how many encoder tokens a sequence holds.
	CrossTokens int
	// Intermediate is the width of the dense feed-forward network.
	Intermediate int
	MLA          *MLA
	MoE          *MoE
	State        *State
	// Drafts is the number of layers for multi-token prediction that the
	// checkpoint brings; they are loaded only for speculative decoding.
	Drafts int
	Quant  Quant
	Params Params
	// Notes say what was assumed or left out, one sentence each.
	Notes []string
}

// Count counts the layers of a mixer.
func (m Model) Count(x Mixer) int {
	n := 0
	for _, l := range m.Layers {
		if l.Mixer == x {
			n++
		}
	}
	return n
}

// Hybrid reports whether some layers keep less than every token.
func (m Model) Hybrid() bool {
	first := None
	for _, l := range m.Layers {
		if l.Mixer == None {
			continue
		}
		if first == None {
			first = l.Mixer
		} else if l.Mixer != first {
			return true
		}
	}
	return false
}

// Params counts parameters by what happens to them: the classes are quantised
// and split over GPUs differently.
type Params struct {
	// Embedding and Head are the token tables; Head is 0 when tied.
	Embedding, Head int64
	// Attention is all mixers' projections.
	Attention int64
	// Dense and Shared are feed-forward networks that every token visits.
	Dense, Shared int64
	// Experts are the routed experts.
	Experts int64
	// Other is norms, routers, biases, convolutions: never quantised.
	Other int64
	// Vision is a vision or audio tower, approximately.
	Vision int64
	// Draft is what Model.Drafts layers hold.
	Draft int64
}

// Total counts what an engine loads when it does not speculate: all but Draft.
func (p Params) Total() int64 {
	return p.Embedding + p.Head + p.Attention + p.Dense + p.Shared + p.Experts + p.Other + p.Vision
}

// Active counts the parameters that one token passes.
func (m Model) Active() int64 {
	p := m.Params
	act := p.Total() - p.Vision - p.Embedding
	if p.Head == 0 {
		act += p.Embedding
	}
	if m.MoE != nil && m.MoE.Experts > 0 {
		act -= p.Experts - p.Experts/int64(m.MoE.Experts)*int64(m.MoE.PerToken)
	}
	return act
}
