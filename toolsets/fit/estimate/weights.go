package estimate

import (
	"fmt"
	"strings"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

// quantOf decides how the weights are stored: as the checkpoint says, else as
// the engine is told to store them while loading, else as the name of a GGUF
// file says.
func quantOf(m model.Model, e engine.Settings) (model.Quant, error) {
	if m.Quant.Method != "" {
		return m.Quant, nil
	}
	if k := ggufKind(e.Model); k != "" {
		return model.Named(k), nil
	}
	name := strings.ToLower(e.Quantization)
	switch name {
	case "", "none", "auto":
		return model.Quant{}, nil
	case "fp8", "ptpc_fp8", "w8a8_fp8", "bitsandbytes", "experts_int8":
		q := model.Named(name)
		q.ExpertsOnly = name == "experts_int8"
		return q, nil
	}
	q := model.Named(name)
	if q.Bytes == 0 {
		return q, fmt.Errorf("quantisation %q: how many bytes it takes is not known here", e.Quantization)
	}
	return q, fmt.Errorf("quantisation %q: config.json has no quantization_config, and %s does not make such weights while loading", e.Quantization, e.Title())
}

// ggufKind reads the kind out of the name of a GGUF file or of "repository:KIND".
func ggufKind(name string) string {
	low := strings.ToLower(name)
	base := low[strings.LastIndexByte(low, '/')+1:]
	kind := ""
	if i := strings.LastIndexByte(base, ':'); i >= 0 {
		kind = base[i+1:]
	} else if stem, ok := strings.CutSuffix(base, ".gguf"); ok {
		if i := strings.LastIndexAny(stem, "-."); i >= 0 {
			kind = stem[i+1:]
		}
	}
	if kind != "" && (kind[0] == 'q' || strings.HasSuffix(kind, "f16") || kind == "f32") && model.Named(kind).Bytes > 0 {
		return kind
	}
	return ""
}

// plainBytes is the size of one unquantised number.
func plainBytes(m model.Model, e engine.Settings) int {
	if b := model.DTypeBytes(e.DType); b >= 2 {
		return b
	}
	if b := model.DTypeBytes(m.DType); b >= 2 {
		return b
	}
	return 2
}

// stage is one pipeline stage: some layers, first and last with the tables.
type stage struct {
	layers      []model.Layer
	first, last bool
}

// stages cuts the layers for pipeline parallelism: evenly, what is left over
// going to the stages before the last, which holds the head.
func stages(m model.Model, pp int) []stage {
	n := len(m.Layers)
	sizes := make([]int, pp)
	for i := range sizes {
		sizes[i] = n / pp
	}
	for i := range n % pp {
		sizes[(2*pp-2-i)%pp]++
	}
	out := make([]stage, 0, pp)
	at := 0
	for i, size := range sizes {
		out = append(out, stage{layers: m.Layers[at : at+size], first: i == 0, last: i == pp-1})
		at += size
	}
	return out
}

// share is the part of the weights that one GPU of a stage holds, in bytes.
func (s stage) share(m model.Model, w model.Weights, e engine.Settings) int64 {
	all, here := census(m.Layers), census(s.layers)
	part := func(bytes int64, n, of int) int64 {
		if of == 0 {
			return 0
		}
		return bytes * int64(n) / int64(of)
	}
	tp := int64(e.Tensor())
	attention := part(w.Attention, here.mixers, all.mixers)
	if e.DPAttention {
		attention *= int64(e.Data())
	}
	experts := part(w.Experts, here.experts, all.experts)
	if !e.DPAttention {
		// Experts are spread over all data-parallel ranks too.
		experts /= int64(e.Data())
	}
	rest := part(w.Dense, here.dense, all.dense) + part(w.Shared, here.experts, all.experts) + part(w.Other, len(s.layers), len(m.Layers))
	if s.first {
		rest += w.Embedding + w.Vision
	}
	if s.last {
		rest += w.Head + w.Draft
		if w.Head == 0 && !s.first {
			rest += w.Embedding
		}
	}
	return (attention+experts+rest)/tp - min(e.OffloadBytes, (attention+experts+rest)/tp)
}

// counts of layers by what they hold.
type counts struct{ mixers, dense, experts int }

func census(layers []model.Layer) counts {
	var c counts
	for _, l := range layers {
		if l.Mixer != model.None {
			c.mixers++
		}
		switch l.Feed {
		case model.Dense:
			c.dense++
		case model.Experts:
			c.experts++
		case model.NoFeed:
		}
	}
	return c
}
