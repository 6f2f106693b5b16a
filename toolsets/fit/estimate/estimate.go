// Package estimate says whether a model fits on GPUs under an engine's settings:
// fits, tight or no, by how many bytes, and what would change that. It is pure
// arithmetic over what the other packages read; it has no clock, no network and
// no cluster.
//
// The answer is a band. What an engine needs beside weights and cache
// (activations, CUDA context, graphs, communication buffers) was between 1.3 and
// 5 GiB a GPU, plus about 5 % of its weights, in the published logs that the
// package truth holds this one against. "fits" means that one sequence of the
// asked length has room even with the most, "tight" only with the least.
package estimate

import (
	"fmt"
	"math"
	"strings"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

// GiB is 2^30 bytes.
const GiB = 1 << 30

// Overheads beside weights and cache, in bytes a GPU; share is the part of the
// weights that comes on top.
const (
	overheadLow  = 13 * GiB / 10
	overheadMid  = 23 * GiB / 10
	overheadHigh = 5 * GiB
	share        = 0.05
)

// Verdict is the answer in one word.
type Verdict string

// Verdicts, best first.
const (
	Fits  Verdict = "fits"
	Tight Verdict = "tight"
	No    Verdict = "no"
)

// Better reports whether a verdict is better than another.
func (v Verdict) Better(o Verdict) bool { return v.weight() > o.weight() }

func (v Verdict) weight() int {
	switch v {
	case Fits:
		return 2
	case Tight:
		return 1
	case No:
		return 0
	}
	return 0
}

// GPU is what is known of the GPUs; all of one instance are alike.
type GPU struct {
	Name string
	// Bytes of memory as NVML reports them.
	Bytes int64
	// Capability is the compute capability, 0 if unknown.
	Capability float64
}

// Input is one question.
type Input struct {
	Model  model.Model
	Engine engine.Settings
	GPU    GPU
	// Weights in bytes on all GPUs of one replica together, where they are
	// measured or read from the files; 0 means computed from the dimensions.
	Weights int64
	// Context is the sequence length asked for, in tokens, at least 1.
	Context int
	// Available is how many GPUs there are; 0 means as many as the engine takes.
	Available int
}

// Band is three values for the least, the middle and the most overhead.
type Band[T any] struct {
	Low  T `json:"low_overhead"`
	Mid  T `json:"mid_overhead"`
	High T `json:"high_overhead"`
}

// Problem is something that no amount of memory mends, or that the arithmetic
// cannot see past.
type Problem struct {
	// Code is tp_indivisible, gpu_count, context_exceeds_model, dtype_unsupported,
	// quantisation_unaligned, stages, quantisation, cache_type or weights_unknown.
	Code string `json:"code"`
	// Blocking says that the engine does not start like this.
	Blocking bool   `json:"blocking"`
	Text     string `json:"text"`
	// Fix is the way out, may be empty.
	Fix string `json:"fix,omitempty"`
}

// Breakdown is the memory of the GPU that is fullest, in bytes.
type Breakdown struct {
	Total   int64 `json:"total"`
	Budget  int64 `json:"budget" jsonschema:"what the engine may take"`
	Weights int64 `json:"weights"`
	// Overhead is everything else that is not cache.
	Overhead Band[int64] `json:"overhead"`
	// Cache is what is left for the KV cache; negative means that there is none.
	Cache Band[int64] `json:"cache"`
	// Need is what one sequence of the asked context takes.
	Need int64 `json:"need" jsonschema:"KV cache of one sequence of the asked context"`
}

// Result is the answer.
type Result struct {
	Verdict Verdict `json:"verdict"`
	// Margin in bytes a GPU: what is left of the cache after one sequence of the
	// asked context, with middle overhead. Negative means missing.
	Margin  int64 `json:"margin"`
	Context int   `json:"context"`
	GPUs    int   `json:"gpus"`
	// PerGPU is the fullest GPU.
	PerGPU Breakdown `json:"per_gpu"`
	// PerToken is cache bytes a token and GPU while all layers keep it, Growth
	// once windows are full, State what a sequence takes whatever its length.
	PerToken int64          `json:"kv_bytes_per_token"`
	Growth   int64          `json:"kv_bytes_per_token_long_run"`
	State    int64          `json:"state_bytes_per_sequence"`
	Capacity Band[Capacity] `json:"capacity"`
	// WeightsTotal is the weights of one replica, and where the figure is from.
	WeightsTotal  int64     `json:"weights_total"`
	WeightsSource string    `json:"weights_source"`
	Limit         string    `json:"limit" jsonschema:"what decides the verdict, in words"`
	Problems      []Problem `json:"problems"`
	Notes         []string  `json:"notes"`
}

// Evaluate answers one question. An error means that the question cannot be
// answered: the weights or the cache type are not known.
func Evaluate(in Input) (Result, error) {
	r := Result{Context: in.Context, GPUs: in.Engine.GPUs(), Problems: []Problem{}, Notes: append([]string{}, in.Model.Notes...)}
	if in.Context < 1 || in.GPU.Bytes < 1 {
		return r, fmt.Errorf("context %d, GPU memory %d: both must be positive", in.Context, in.GPU.Bytes)
	}
	r.structure(in)
	q, err := quantOf(in.Model, in.Engine)
	if err != nil {
		r.Problems = append(r.Problems, Problem{Code: "quantisation", Blocking: true, Text: err.Error()})
	}
	plain := plainBytes(in.Model, in.Engine)
	if !q.Known() && in.Weights == 0 {
		return r, fmt.Errorf("quantisation %q: how many bytes a parameter takes is not known here; give the size of the weights", q.Method)
	}
	r.kernels(in, q)
	drafts := in.Engine.Speculate > 0 && in.Model.Drafts > 0 && in.Engine.DraftModel == ""
	w := in.Model.Weights(q, plain, drafts)
	r.WeightsTotal, r.WeightsSource = w.Total(), source(in.Model, q, plain)
	if in.Weights > 0 {
		w = scale(w, in.Weights)
		r.WeightsTotal, r.WeightsSource = in.Weights, "as given or measured"
	}
	if err := r.fill(in, w, plain); err != nil {
		return r, err
	}
	r.decide(in)
	r.remarks(in)
	return r, nil
}

// source says how the weights were computed.
func source(m model.Model, q model.Quant, plain int) string {
	how := fmt.Sprintf("%d bytes a parameter", plain)
	if q.Method != "" {
		how = fmt.Sprintf("%s, %.3g bytes a quantised parameter, %d elsewhere", q.Method, q.Bytes, plain)
	}
	return fmt.Sprintf("computed: %.2f billion parameters, %s", float64(m.Params.Total())/1e9, how)
}

// scale stretches the classes so that they add up to a measured total.
func scale(w model.Weights, total int64) model.Weights {
	have := w.Total()
	if have <= 0 {
		return model.Weights{Dense: total}
	}
	f := float64(total) / float64(have)
	for _, p := range []*int64{&w.Embedding, &w.Head, &w.Attention, &w.Dense, &w.Shared, &w.Experts, &w.Other, &w.Vision, &w.Draft} {
		*p = int64(float64(*p) * f)
	}
	return w
}

// fill computes the memory of every stage and keeps the tightest.
func (r *Result) fill(in Input, w model.Weights, plain int) error {
	e := in.Engine
	pp := min(e.Pipe(), len(in.Model.Layers))
	attention := e.Tensor()
	if e.DPAttention {
		attention = max(1, attention/e.Data())
	}
	for i, s := range stages(in.Model, pp) {
		p, err := NewPlan(in.Model, s.layers, e, plain, attention)
		if err != nil {
			return err
		}
		b := breakdown(in, s.share(in.Model, w, e))
		b.Need = p.Need(in.Context)
		caps := Band[Capacity]{
			Low:  p.Capacity(b.Cache.Low, in.Context, in.Model.MaxContext),
			Mid:  p.Capacity(b.Cache.Mid, in.Context, in.Model.MaxContext),
			High: p.Capacity(b.Cache.High, in.Context, in.Model.MaxContext),
		}
		if margin := b.Cache.Mid - b.Need; i == 0 || margin < r.Margin {
			r.Margin, r.PerGPU = margin, b
			r.PerToken, r.Growth, r.State = p.PerToken, p.Growth, p.State
		}
		if i == 0 {
			r.Capacity = caps
			continue
		}
		for _, c := range []struct{ have, add *Capacity }{{&r.Capacity.Low, &caps.Low}, {&r.Capacity.Mid, &caps.Mid}, {&r.Capacity.High, &caps.High}} {
			c.have.Tokens = min(c.have.Tokens, c.add.Tokens)
			c.have.MaxContext = min(c.have.MaxContext, c.add.MaxContext)
			c.have.Concurrency = math.Min(c.have.Concurrency, c.add.Concurrency)
		}
	}
	seqs := float64(e.Seqs())
	for _, c := range []*Capacity{&r.Capacity.Low, &r.Capacity.Mid, &r.Capacity.High} {
		c.Concurrency = math.Min(c.Concurrency, seqs)
	}
	return nil
}

// breakdown applies the engine's memory rule to one GPU.
func breakdown(in Input, weights int64) Breakdown {
	f, _ := in.Engine.Fraction()
	total := in.GPU.Bytes
	more := int64(share * float64(weights))
	b := Breakdown{
		Total: total, Budget: int64(f * float64(total)), Weights: weights,
		Overhead: Band[int64]{overheadLow + more, overheadMid + more, overheadHigh + more},
	}
	cache := func(overhead int64) int64 {
		free := total - weights - overhead
		switch {
		case in.Engine.KVBytes > 0:
			// The size is fixed: without room for all of it the engine does not start.
			if free < in.Engine.KVBytes {
				return free - in.Engine.KVBytes
			}
			return in.Engine.KVBytes
		case in.Engine.Kind == engine.SGLang:
			// The fraction covers weights and cache; the rest of the GPU must hold
			// the activations.
			return min(b.Budget-weights-more, free)
		case in.Engine.Kind == engine.TRTLLM:
			if free < 0 {
				return free
			}
			return int64(f * float64(free))
		}
		return b.Budget - weights - overhead
	}
	if in.Engine.Kind == engine.TRTLLM || in.Engine.KVBytes > 0 {
		b.Budget = total
	}
	b.Cache = Band[int64]{cache(b.Overhead.Low), cache(b.Overhead.Mid), cache(b.Overhead.High)}
	return b
}

// decide gives the verdict and names the term that decides it.
func (r *Result) decide(in Input) {
	room := func(cache int64) bool { return cache > 0 && cache >= r.PerGPU.Need }
	switch {
	case room(r.PerGPU.Cache.High):
		r.Verdict = Fits
	case room(r.PerGPU.Cache.Low):
		r.Verdict = Tight
	default:
		r.Verdict = No
	}
	b := r.PerGPU
	switch {
	case b.Weights >= b.Total:
		r.Limit = fmt.Sprintf("the weights alone, %s a GPU, are more than its memory of %s", Size(b.Weights), Size(b.Total))
	case b.Cache.Low <= 0:
		r.Limit = fmt.Sprintf("weights of %s a GPU leave nothing for the KV cache within %s", Size(b.Weights), Size(b.Budget))
	case r.Verdict == No:
		r.Limit = fmt.Sprintf("one sequence of %d tokens takes %s of KV cache a GPU; %s to %s are left", r.Context, Size(b.Need), Size(max(b.Cache.High, 0)), Size(b.Cache.Low))
	case r.Verdict == Tight:
		r.Limit = fmt.Sprintf("the engine's own needs decide: they leave between %s and %s a GPU for the KV cache, one sequence of %d tokens takes %s", Size(b.Cache.High), Size(b.Cache.Low), r.Context, Size(b.Need))
	default:
		r.Limit = fmt.Sprintf("at least %s a GPU are left for the KV cache, one sequence of %d tokens takes %s", Size(b.Cache.High), r.Context, Size(b.Need))
	}
	for _, p := range r.Problems {
		if p.Blocking {
			r.Verdict, r.Limit = No, p.Text
			break
		}
	}
}

// remarks notes what the figures leave out.
func (r *Result) remarks(in Input) {
	e := in.Engine
	note := func(cond bool, format string, args ...any) {
		if cond {
			r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
		}
	}
	note(e.DraftModel != "", "the draft model %s is not counted", e.DraftModel)
	note(e.Speculate > 0 && e.DraftModel == "" && in.Model.Drafts == 0, "speculation by %s is not counted", e.Drafter)
	note(e.LoRA, "LoRA adapters are not counted")
	note(e.File != "", "settings in %s are not seen", e.File)
	note(e.OffloadBytes > 0, "%s of the weights a GPU live in host memory", Size(e.OffloadBytes))
	if n := in.Model.Count(model.Window); n > 0 && (e.NoHybrid || e.Kind == engine.SGLang || e.Kind == engine.TRTLLM) {
		note(true, "%d sliding-window layers are counted as if they kept every token: the safe bound", n)
	}
	note(in.Model.Count(model.Chunked) > 0, "%d chunked-attention layers keep every token, as the engine does by default", in.Model.Count(model.Chunked))
	if logits := float64(e.Seqs()) * float64(in.Model.Vocab) * 4; logits > GiB {
		note(true, "the sampler's warm-up with %d sequences takes %s and more", e.Seqs(), Size(int64(logits)))
	}
}

// Size writes bytes for people, in GiB with two digits, or MiB below 0.1 GiB.
func Size(n int64) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	if n < GiB/10 {
		return fmt.Sprintf("%s%.1f MiB", sign, float64(n)/(1<<20))
	}
	return fmt.Sprintf("%s%.2f GiB", sign, float64(n)/GiB)
}

// Blocking lists the problems that keep the engine from starting, in words.
func (r Result) Blocking() []string {
	var out []string
	for _, p := range r.Problems {
		if p.Blocking {
			out = append(out, p.Text)
		}
	}
	return out
}

// words joins numbers for a sentence.
func words(ns []int) string {
	parts := make([]string, len(ns))
	for i, n := range ns {
		parts[i] = fmt.Sprint(n)
	}
	return strings.Join(parts, ", ")
}
