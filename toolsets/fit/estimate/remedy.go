package estimate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

// Remedy is a changed setting and what the estimate says of it.
type Remedy struct {
	// Setting as it is written on the command line, or in words.
	Setting string  `json:"setting"`
	Verdict Verdict `json:"verdict"`
	// Margin as in Result, with the change.
	Margin int64 `json:"margin"`
	// Note says what it costs.
	Note string `json:"note,omitempty"`
}

// fullest is how far the memory fraction is raised at most: beyond it engines
// run out of memory outside of their budget.
const fullest = 0.95

// reasonable is the shortest context worth proposing, in tokens.
const reasonable = 2048

// Remedies tries changes, each evaluated like the question itself, and gives
// those that make the verdict better, cheapest first. larger are other GPUs to
// try, smallest first.
func Remedies(in Input, r Result, larger []GPU) []Remedy {
	t := trial{in: in, was: r.Verdict}
	if structural(r) {
		t.parallel(r)
		return t.found
	}
	if r.Verdict == Fits {
		return []Remedy{}
	}
	t.context(r)
	t.fraction()
	t.cache()
	t.both(r)
	t.weights(r)
	t.parallel(r)
	t.pipeline()
	t.gpus(larger)
	return t.found
}

// structural reports whether a problem stands in the way that memory does not mend.
func structural(r Result) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Blocking })
}

// trial collects what helps.
type trial struct {
	in    Input
	was   Verdict
	found []Remedy
}

// try evaluates a change and keeps it when it is better than what was.
func (t *trial) try(setting, note string, change func(*Input)) bool {
	in := t.in
	change(&in)
	r, err := Evaluate(in)
	if err != nil || structural(r) || !r.Verdict.Better(t.was) {
		return false
	}
	t.found = append(t.found, Remedy{Setting: setting, Verdict: r.Verdict, Margin: r.Margin, Note: note})
	return true
}

// round makes a context a person would write: whole thousands of 1024 where possible.
func round(n int) int {
	for _, step := range []int{4096, 1024, 256, 16} {
		if n >= 4*step {
			return n / step * step
		}
	}
	return n
}

// context shortens the longest sequence.
func (t *trial) context(r Result) {
	n := round(r.Capacity.High.MaxContext)
	if n < min(reasonable, t.in.Context) {
		n = round(r.Capacity.Low.MaxContext)
	}
	if n >= t.in.Context || n < min(reasonable, t.in.Context) {
		return
	}
	t.try(fmt.Sprintf("%s %d", t.in.Engine.LenFlag(), n), fmt.Sprintf("longer requests than %d tokens are refused", n), func(in *Input) {
		in.Context, in.Engine.MaxLen, in.Engine.AutoLen = n, n, false
	})
}

// fraction raises the engine's share of the GPU.
func (t *trial) fraction() {
	f, _ := t.in.Engine.Fraction()
	if f >= fullest || t.in.Engine.KVBytes > 0 {
		return
	}
	note := "nothing else may use the GPU"
	setting := fmt.Sprintf("%s %.2f", t.in.Engine.FractionFlag(), fullest)
	change := func(in *Input) { in.Engine.Utilization = fullest }
	if t.in.Engine.Kind == engine.VLLM || t.in.Engine.Kind == "" {
		if t.in.Engine.Batched() > 1024 {
			// Fewer tokens a step keep the activations small; the estimate does not
			// count on it, the engine's logs show that it helps.
			setting += " --max-num-batched-tokens 1024"
			note += "; long prompts are read in more steps"
		}
	}
	t.try(setting, note, change)
}

// cache stores keys and values in 8 bits.
func (t *trial) cache() {
	e := t.in.Engine
	if e.KVFlag() == "" || strings.HasPrefix(e.KVType, "fp8") || e.KVType == "nvfp4" || t.in.GPU.Capability > 0 && t.in.GPU.Capability < 8.9 {
		return
	}
	name := "fp8"
	if e.Kind == engine.SGLang {
		name = "fp8_e4m3"
	}
	t.try(fmt.Sprintf("%s %s", e.KVFlag(), name), "a little less exact", func(in *Input) { in.Engine.KVType = name })
}

// both raises the fraction and shortens the context, where neither alone helps.
func (t *trial) both(r Result) {
	if len(t.found) > 0 || t.in.Engine.KVBytes > 0 {
		return
	}
	f, _ := t.in.Engine.Fraction()
	if f >= fullest {
		return
	}
	in := t.in
	in.Engine.Utilization = fullest
	wider, err := Evaluate(in)
	if err != nil {
		return
	}
	n := round(wider.Capacity.High.MaxContext)
	if n < reasonable {
		n = round(wider.Capacity.Low.MaxContext)
	}
	if n < reasonable || n >= r.Context {
		return
	}
	t.try(fmt.Sprintf("%s %.2f %s %d", in.Engine.FractionFlag(), fullest, in.Engine.LenFlag(), n), fmt.Sprintf("nothing else may use the GPU; longer requests than %d tokens are refused", n), func(in *Input) {
		in.Engine.Utilization, in.Engine.MaxLen, in.Context, in.Engine.AutoLen = fullest, n, n, false
	})
}

// weights stores the weights in fewer bits, where they are in 16.
func (t *trial) weights(r Result) {
	if t.in.Model.Quant.Method != "" || t.in.Engine.Quantization != "" || ggufKind(t.in.Engine.Model) != "" || t.in.Weights > 0 && r.WeightsTotal == 0 {
		return
	}
	plain := plainBytes(t.in.Model, t.in.Engine)
	full := t.in.Model.Weights(model.Quant{}, plain, false).Total()
	with := func(name string) func(*Input) {
		q := model.Named(name)
		return func(in *Input) {
			in.Model.Quant = q
			if in.Weights > 0 && full > 0 {
				in.Weights = int64(float64(in.Weights) * float64(in.Model.Weights(q, plain, false).Total()) / float64(full))
			}
		}
	}
	if t.in.GPU.Capability == 0 || t.in.GPU.Capability >= 8.9 {
		if t.try("--quantization fp8", "8-bit weights, made while loading; or an FP8 checkpoint of the model", with("fp8")) {
			return
		}
	}
	t.try("a 4-bit checkpoint of the model (AWQ or GPTQ)", "less exact; another file to load", with("awq"))
}

// parallel spreads the model over more GPUs.
func (t *trial) parallel(r Result) {
	most := 16
	for _, tp := range powers(most) {
		if structural(r) && t.in.Available > 0 && tp > t.in.Available {
			continue
		}
		if tp == t.in.Engine.Tensor() || tp < t.in.Engine.Tensor() && !structural(r) {
			continue
		}
		note := fmt.Sprintf("%d GPUs on one node", tp)
		if t.try(fmt.Sprintf("%s %d", t.in.Engine.TensorFlag(), tp), note, func(in *Input) {
			in.Engine.TP = tp
			if !structural(r) {
				in.Available = 0
			}
		}) && t.found[len(t.found)-1].Verdict == Fits {
			return
		}
	}
}

// powers lists 1, 2, 4 ... up to most: the sizes nodes come in.
func powers(most int) []int {
	var out []int
	for n := 1; n <= most; n *= 2 {
		out = append(out, n)
	}
	return out
}

// pipeline is the way where heads allow no more tensor parallelism.
func (t *trial) pipeline() {
	if t.in.Engine.Pipe() > 1 || slices.ContainsFunc(t.found, func(r Remedy) bool {
		return strings.HasPrefix(r.Setting, t.in.Engine.TensorFlag()) && r.Verdict == Fits
	}) {
		return
	}
	for _, pp := range []int{2, 4} {
		if t.try(fmt.Sprintf("--pipeline-parallel-size %d", pp), fmt.Sprintf("%d GPUs, which may be on several nodes", pp*t.in.Engine.Tensor()), func(in *Input) {
			in.Engine.PP, in.Available = pp, 0
		}) {
			return
		}
	}
}

// gpus tries larger GPUs with everything else as it is.
func (t *trial) gpus(larger []GPU) {
	for _, g := range larger {
		if g.Bytes <= t.in.GPU.Bytes {
			continue
		}
		if t.try("GPU "+g.Name, "", func(in *Input) { in.GPU = g }) && t.found[len(t.found)-1].Verdict == Fits {
			return
		}
	}
}

// Smallest finds the smallest tensor-parallel size of 1, 2, 4, 8, 16 up to most
// whose result is accepted. in.Engine's own tensor-parallel size is ignored.
func Smallest(in Input, most int, accept func(Result) bool) (Input, Result, bool) {
	for _, tp := range powers(min(most, 16)) {
		try := in
		try.Engine.TP = tp
		r, err := Evaluate(try)
		if err == nil && !structural(r) && accept(r) {
			return try, r, true
		}
	}
	return in, Result{}, false
}

// Cost of running something, in US dollars.
type Cost struct {
	// Hour is what is billed: whole machines.
	Hour float64 `json:"usd_per_hour"`
	// Attributed is the share of the GPUs used.
	Attributed float64 `json:"usd_per_hour_attributed"`
	// Month is Hour x 730.
	Month float64 `json:"usd_per_month"`
	// PerMillion output tokens; 0 means that it is not known, since no throughput
	// was given or measured.
	PerMillion float64 `json:"usd_per_million_tokens,omitempty"`
}

// CostOf computes the cost of machines at price dollars an hour each, of whose
// GPUs used of each machine's count are taken, at tokensPerSecond (0: not known).
func CostOf(price float64, machines, used, count int, tokensPerSecond float64) Cost {
	c := Cost{Hour: price * float64(machines)}
	c.Attributed = c.Hour
	if all := machines * count; all > 0 && used < all {
		c.Attributed = c.Hour * float64(used) / float64(all)
	}
	c.Month = c.Hour * 730
	if tokensPerSecond > 0 {
		c.PerMillion = c.Hour / (tokensPerSecond * 3600) * 1e6
	}
	if math.IsInf(c.PerMillion, 0) || math.IsNaN(c.PerMillion) {
		c.PerMillion = 0
	}
	return c
}
