package estimate_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hardware"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

// draw makes a question of a catalogue model, any GPU and any settings.
func draw(t *rapid.T, models []model.Model, gpus []hardware.GPU) estimate.Input {
	m := rapid.SampledFrom(models).Draw(t, "model")
	g := rapid.SampledFrom(gpus).Draw(t, "gpu")
	limit := m.MaxContext
	if limit == 0 {
		limit = 1 << 20
	}
	return estimate.Input{
		Model: m, GPU: estimate.GPU{Name: g.Name, Bytes: g.Bytes(), Capability: g.Capability}, Context: rapid.IntRange(1, limit).Draw(t, "context"),
		Engine: engine.Settings{
			Kind:          rapid.SampledFrom([]engine.Kind{engine.VLLM, engine.SGLang, engine.TRTLLM}).Draw(t, "engine"),
			TP:            rapid.SampledFrom(m.Splits(16)).Draw(t, "tp"),
			PP:            rapid.SampledFrom([]int{1, 2, 3}).Draw(t, "pp"),
			Utilization:   rapid.Float64Range(0.3, 0.95).Draw(t, "fraction"),
			NoHybrid:      rapid.Bool().Draw(t, "no hybrid"),
			NoPrefixCache: rapid.Bool().Draw(t, "no prefix cache"),
			BatchedTokens: rapid.IntRange(512, 16384).Draw(t, "batched"),
		},
	}
}

func catalogue(t *testing.T) ([]model.Model, []hardware.GPU) {
	t.Helper()
	list, err := model.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	var models []model.Model
	for _, e := range list {
		m, err := e.Model()
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, m)
	}
	tab, err := hardware.GPUs()
	if err != nil {
		t.Fatal(err)
	}
	return models, tab.All()
}

func must(t *rapid.T, in estimate.Input) estimate.Result {
	r, err := estimate.Evaluate(in)
	if err != nil {
		t.Fatalf("%+v: %v", in.Engine, err)
	}
	return r
}

// worse fails when b is better than a.
func worse(t *rapid.T, what string, a, b estimate.Result) {
	if b.Verdict.Better(a.Verdict) || b.Margin > a.Margin {
		t.Fatalf("%s: %s (%d) became %s (%d)", what, a.Verdict, a.Margin, b.Verdict, b.Margin)
	}
}

// More is never less: a longer context, a smaller GPU, a smaller share of it, a
// wider cache type, more weights or fewer GPUs never make a verdict better.
func TestMonotone(t *testing.T) {
	t.Parallel()
	models, gpus := catalogue(t)
	rapid.Check(t, func(t *rapid.T) {
		in := draw(t, models, gpus)
		r := must(t, in)
		if r.PerGPU.Cache.Low < r.PerGPU.Cache.Mid || r.PerGPU.Cache.Mid < r.PerGPU.Cache.High {
			t.Fatalf("the band is upside down: %+v", r.PerGPU.Cache)
		}
		if r.Capacity.Low.MaxContext < r.Capacity.High.MaxContext {
			t.Fatalf("less overhead holds less: %+v", r.Capacity)
		}

		longer := in
		longer.Context += rapid.IntRange(1, 100000).Draw(t, "more context")
		worse(t, "a longer context", r, must(t, longer))

		smaller := in
		smaller.GPU.Bytes = in.GPU.Bytes / int64(rapid.IntRange(1, 4).Draw(t, "GPU divided by"))
		worse(t, "a smaller GPU", r, must(t, smaller))

		less := in
		less.Engine.Utilization *= rapid.Float64Range(0.5, 1).Draw(t, "fraction times")
		worse(t, "a smaller share", r, must(t, less))

		heavy := in
		heavy.Weights = r.WeightsTotal + int64(rapid.IntRange(0, 1<<30).Draw(t, "more weights"))
		worse(t, "more weights", r, must(t, heavy))

		narrow := in
		narrow.Engine.KVType = "fp8"
		if in.Model.State == nil {
			// With states the block is cut anew, and its rounding may go either way.
			worse(t, "a wider cache type", must(t, narrow), r)
		}

		if in.Engine.TP > 1 && in.Engine.PP == 1 {
			fewer := in
			fewer.Engine.TP = 1
			single := must(t, fewer)
			if single.PerGPU.Weights < r.PerGPU.Weights {
				t.Fatalf("one GPU holds %d, each of %d holds %d", single.PerGPU.Weights, in.Engine.TP, r.PerGPU.Weights)
			}
		}
	})
}

// What is said to be the longest sequence fits, and one block more does not.
func TestLongestSequenceIsTheLongest(t *testing.T) {
	t.Parallel()
	models, gpus := catalogue(t)
	rapid.Check(t, func(t *rapid.T) {
		in := draw(t, models, gpus)
		in.Engine.PP = 1
		r := must(t, in)
		longest := r.Capacity.Mid.MaxContext
		if longest < 1 {
			return
		}
		at := in
		at.Context = longest
		if got := must(t, at); got.Margin < 0 {
			t.Fatalf("the longest sequence %d is short of %d bytes", longest, -got.Margin)
		}
		if in.Model.MaxContext > 0 && longest >= in.Model.MaxContext {
			return
		}
		at.Context = longest + 4096*64
		if got := must(t, at); got.Margin >= 0 {
			t.Fatalf("%d fits too, %d is called the longest", at.Context, longest)
		}
	})
}

// The weights that the stages hold add up to the weights of the model, and no
// GPU holds more than all.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	models, gpus := catalogue(t)
	rapid.Check(t, func(t *rapid.T) {
		in := draw(t, models, gpus)
		in.Engine.TP, in.Engine.PP = 1, 1
		whole := must(t, in)
		if d := whole.WeightsTotal - whole.PerGPU.Weights; d < -16 || d > 16 {
			t.Fatalf("one GPU holds %d of %d", whole.PerGPU.Weights, whole.WeightsTotal)
		}
		in.Engine.PP = rapid.IntRange(2, 4).Draw(t, "stages")
		if r := must(t, in); r.PerGPU.Weights*int64(in.Engine.PP) < whole.WeightsTotal*9/10/2 || r.PerGPU.Weights > whole.WeightsTotal {
			t.Fatalf("%d stages, the tightest holds %d of %d", in.Engine.PP, r.PerGPU.Weights, whole.WeightsTotal)
		}
	})
}
