package estimate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

// Plan is how an engine lays out the cache of one pipeline stage on one GPU. All
// sizes are bytes on one GPU.
//
// vLLM cuts the cache into blocks of equal size and gives each layer kind its own
// groups of equally many layers, so that any group can take any block; a layer
// with a fixed state takes one block where attention takes one for each
// BlockTokens tokens. That is why "GPU KV cache size" of a hybrid model is a
// figure derived from whole sequences and not tokens times bytes (vllm
// v1/core/kv_cache_utils.py and v1/kv_cache_interface.py; checked against the
// logs in noonghunna/club-3090 issues 594, 612 and 652, to the token).
type Plan struct {
	// BlockTokens a block of an attention group holds, BlockBytes it takes.
	BlockTokens int
	BlockBytes  int64
	// PerToken is what a token takes while every attention layer keeps it; Growth
	// what it takes in the long run, once windows are full.
	PerToken, Growth int64
	// State is what a sequence takes whatever its length.
	State int64
	// Hybrid says that layers keep different amounts.
	Hybrid bool

	groups []group
	// fixed is state that lives outside the blocks.
	fixed int64
}

// group is layers of one kind: copies of it, each as wide as the plan's groups.
type group struct {
	kind   model.Mixer
	copies int
	// window in tokens and batched tokens of a step, for sliding windows.
	window, batched int
	// tokens of an encoder, for cross attention.
	tokens int
	// blocks a fixed state takes.
	blocks int
}

// cacheType is how a number of the cache is stored.
type cacheType struct {
	// half bytes of one number, so that four-bit types are exact.
	half int64
	// scale bytes a head for keys and as many for values.
	scale int64
	// block adds one byte for so many numbers.
	block int64
	// flat replaces everything else, for latent attention.
	flat int64
}

// typeOf reads a cache data type; ok is false when it is not known here.
func typeOf(name string, plain int) (cacheType, bool) {
	switch strings.ToLower(name) {
	case "", "auto":
		return cacheType{half: int64(plain) * 2}, true
	case "float16", "bfloat16", "half", "bf16", "fp16":
		return cacheType{half: 4}, true
	case "float32":
		return cacheType{half: 8}, true
	case "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "int8":
		return cacheType{half: 2}, true
	case "int8_per_token_head", "fp8_per_token_head":
		return cacheType{half: 2, scale: 4}, true
	case "int4_per_token_head":
		return cacheType{half: 1, scale: 4}, true
	case "nvfp4", "nvfp4_4over6", "fp4_e2m1":
		return cacheType{half: 1, block: 16}, true
	case "fp8_ds_mla":
		return cacheType{half: 2, flat: 656}, true
	}
	return cacheType{}, false
}

// perToken is what one attention layer keeps of one token.
func (c cacheType) perToken(heads, key, value int) int64 {
	n := int64(heads) * int64(key+value)
	b := (n*c.half + 1) / 2
	if c.block > 0 {
		b += n / c.block
	}
	return b + 2*int64(heads)*c.scale
}

// layerBytes is what one attention layer of m keeps of one token on one GPU of a
// tensor-parallel group: key-value heads are split, and replicated where there
// are fewer of them than GPUs; a latent vector is never split.
func layerBytes(m model.Model, c cacheType, tp int) int64 {
	if m.MLA != nil {
		if c.flat > 0 {
			return c.flat
		}
		return (int64(m.MLA.KVRank+m.MLA.RopeDim)*c.half + 1) / 2
	}
	return c.perToken(max(1, (m.KVHeads+tp-1)/tp), m.HeadDim, m.ValueDim)
}

// stateBytes is what one linear-attention or Mamba layer keeps of a sequence on
// one GPU: the matrix state and the last inputs of its convolution, which
// speculation makes longer.
func stateBytes(m model.Model, tp, plain, drafts int) int64 {
	s := m.State
	if s == nil {
		return 0
	}
	split := func(n int) int64 { return int64((n + tp - 1) / tp) }
	values := split(s.ValueHeads) * int64(s.ValueDim)
	matrix := values * int64(s.KeyDim) * int64(s.Bytes)
	channels := values
	if m.Count(model.Linear) > 0 {
		channels += 2 * split(s.KeyHeads) * int64(s.KeyDim)
	} else if m.Count(model.Mamba2) > 0 {
		// Groups are replicated where there are fewer than GPUs.
		channels += 2 * max(1, split(s.KeyHeads)) * int64(s.KeyDim)
	}
	return matrix + channels*int64(max(s.Conv-1, 0)+drafts)*int64(plain)
}

// NewPlan lays out the cache for the layers of one stage. plain is the bytes of
// one unquantised number, tp the GPUs that share attention.
func NewPlan(m model.Model, layers []model.Layer, e engine.Settings, plain, tp int) (Plan, error) {
	c, ok := typeOf(e.KVType, plain)
	if !ok {
		return Plan{}, fmt.Errorf("%s %q: how many bytes this cache type takes is not known here", e.KVFlag(), e.KVType)
	}
	exact := e.Kind == engine.VLLM || e.Kind == ""
	counts := map[model.Mixer]int{}
	for _, l := range layers {
		if l.Shares || l.Mixer == model.None {
			continue
		}
		counts[seen(l.Mixer, exact, e.NoHybrid)]++
	}
	if e.Speculate > 0 && m.Drafts > 0 && e.DraftModel == "" && (counts[model.Full] > 0 || len(counts) > 0) {
		counts[model.Full]++
	}
	p := Plan{BlockTokens: e.Block()}
	token, state := layerBytes(m, c, tp), stateBytes(m, tp, plain, e.Speculate)
	attention := counts[model.Full] + counts[model.Window]
	states := counts[model.Linear] + counts[model.Mamba1] + counts[model.Mamba2]
	p.PerToken = int64(attention) * token
	p.Growth = int64(counts[model.Full]) * token
	p.State = int64(states)*state + int64(counts[model.Cross])*int64(m.CrossTokens)*token
	p.Hybrid = len(counts) > 1
	if len(counts) == 0 {
		return p, nil
	}
	if !exact {
		p.BlockBytes = p.PerToken * int64(p.BlockTokens)
		p.fixed = p.State
		if attention > 0 {
			p.groups = []group{{kind: model.Full, copies: 1}}
		}
		return p, nil
	}
	page := token * int64(p.BlockTokens)
	if states > 0 {
		page = state
		if attention > 0 {
			// The block grows until an attention page holds a state.
			p.BlockTokens = int((state+token-1)/token+15) / 16 * 16
			p.BlockTokens = max(p.BlockTokens, 16)
			page = int64(p.BlockTokens) * token
		}
	}
	width := groupWidth(counts)
	widest := 0
	for _, kind := range []model.Mixer{model.Full, model.Window, model.Linear, model.Mamba1, model.Mamba2, model.Cross} {
		n := counts[kind]
		if n == 0 {
			continue
		}
		g := group{kind: kind, copies: (n + width - 1) / width, window: m.Window, batched: e.Batched(), tokens: m.CrossTokens, blocks: 1 + e.Speculate}
		if !e.NoPrefixCache {
			// One more for the state at the last block boundary.
			g.blocks++
		}
		p.groups = append(p.groups, g)
		widest = max(widest, min(n, width))
	}
	p.BlockBytes = page * int64(widest)
	return p, nil
}

// seen is how an engine treats a kind of layer: chunks are kept whole, windows
// too where the engine or its settings have no cache for them.
func seen(x model.Mixer, exact, noHybrid bool) model.Mixer {
	if x == model.Chunked || x == model.Window && (!exact || noHybrid) {
		return model.Full
	}
	return x
}

// groupWidth is how many layers a group has: as many as the rarest kind, or as
// many as the commonest where that is less than a quarter more.
func groupWidth(counts map[model.Mixer]int) int {
	var ns []int
	for _, n := range counts {
		if n > 0 {
			ns = append(ns, n)
		}
	}
	least, most := slices.Min(ns), slices.Max(ns)
	if 4*most < 5*least {
		return most
	}
	return least
}

// Blocks is how many blocks a sequence of so many tokens takes.
func (p Plan) Blocks(context int) int64 {
	var n int64
	for _, g := range p.groups {
		n += int64(g.copies) * g.need(context, p.BlockTokens)
	}
	return n
}

func (g group) need(context, block int) int64 {
	up := func(tokens int) int64 { return (int64(tokens) + int64(block) - 1) / int64(block) }
	switch g.kind {
	case model.Window:
		// The window need not start at the beginning of a block.
		return up(min(g.window-1+g.batched, context)) + 1
	case model.Linear, model.Mamba1, model.Mamba2:
		return int64(g.blocks)
	case model.Cross:
		return up(g.tokens)
	}
	return up(context)
}

// Need is the bytes that one sequence of so many tokens takes on one GPU.
func (p Plan) Need(context int) int64 { return p.Blocks(context)*p.BlockBytes + p.fixed }

// Capacity is what a cache of some size holds.
type Capacity struct {
	// Tokens as the engine would report them: blocks times tokens where all layers
	// are alike, else Concurrency times the asked context.
	Tokens int64 `json:"tokens"`
	// MaxContext is the longest sequence that fits, up to what the model allows.
	MaxContext int `json:"max_context"`
	// Concurrency is how many sequences of the asked context fit at once.
	Concurrency float64 `json:"concurrency"`
}

// endless stands for the longest sequence of a model that names none.
const endless = 1 << 24

// Capacity computes what avail bytes hold, for sequences of context tokens, with
// limit as the longest sequence of the model (0 if it has none).
func (p Plan) Capacity(avail int64, context, limit int) Capacity {
	if limit <= 0 {
		limit = endless
	}
	if avail <= 0 {
		return Capacity{}
	}
	c := Capacity{}
	if p.Need(1) == 0 {
		return Capacity{Tokens: int64(limit), MaxContext: limit, Concurrency: 1}
	}
	lo, hi := 0, limit
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		if p.Need(mid) <= avail {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	c.MaxContext = lo
	if p.fixed > 0 || p.BlockBytes == 0 {
		c.Concurrency = float64(avail) / float64(p.Need(context))
	} else {
		c.Concurrency = float64(avail/p.BlockBytes) / float64(p.Blocks(context))
	}
	if !p.Hybrid && p.BlockBytes > 0 && len(p.groups) == 1 && p.groups[0].kind == model.Full {
		c.Tokens = avail / p.BlockBytes * int64(p.BlockTokens)
	} else {
		c.Tokens = int64(c.Concurrency * float64(context))
	}
	return c
}
