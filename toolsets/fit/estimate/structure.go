package estimate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

// structure finds what no amount of memory mends.
func (r *Result) structure(in Input) {
	m, e := in.Model, in.Engine
	add := func(p Problem) { r.Problems = append(r.Problems, p) }
	tp := e.Tensor()
	attention := tp
	if e.DPAttention {
		if e.Data() > tp || tp%e.Data() != 0 {
			add(Problem{Code: "tp_indivisible", Blocking: true, Text: fmt.Sprintf("tensor parallel size %d is not divisible by the data-parallel attention size %d", tp, e.Data())})
		}
		attention = max(1, tp/e.Data())
	}
	if why := m.Indivisible(attention); why != "" {
		add(Problem{Code: "tp_indivisible", Blocking: true, Text: why, Fix: fmt.Sprintf("%s one of %s", e.TensorFlag(), words(m.Splits(16)))})
	}
	if q := m.Quant; q.Method != "" && !e.EP {
		if why := m.Unaligned(tp); why != "" {
			add(Problem{Code: "quantisation_unaligned", Blocking: true, Text: why, Fix: "a smaller tensor parallel size" + expertWay(m)})
		}
	}
	if m.MoE != nil && e.EP {
		if group := tp * e.Data(); m.MoE.Experts < group {
			add(Problem{Code: "tp_indivisible", Blocking: true, Text: fmt.Sprintf("%d experts cannot be spread over %d GPUs", m.MoE.Experts, group), Fix: "fewer GPUs in the expert-parallel group"})
		}
	}
	if e.Pipe() > len(m.Layers) {
		add(Problem{Code: "stages", Blocking: true, Text: fmt.Sprintf("pipeline parallel size %d is more than the model's %d layers", e.Pipe(), len(m.Layers))})
	}
	if in.Available > 0 && e.GPUs() > in.Available {
		add(Problem{Code: "gpu_count", Blocking: true, Text: fmt.Sprintf("the settings take %d GPUs (%s), %d are there", e.GPUs(), strings.TrimSpace(groups(e)), in.Available),
			Fix: fmt.Sprintf("ask for %d GPUs, or %s %d", e.GPUs(), e.TensorFlag(), largest(m, in.Available))})
	}
	if m.MaxContext > 0 && in.Context > m.MaxContext {
		add(Problem{Code: "context_exceeds_model", Blocking: true, Text: fmt.Sprintf("context %d is longer than the %d tokens the model was made for", in.Context, m.MaxContext), Fix: fmt.Sprintf("%s %d", e.LenFlag(), m.MaxContext)})
	}
}

func expertWay(m model.Model) string {
	if m.MoE == nil {
		return ""
	}
	return ", or expert parallelism"
}

func groups(e engine.Settings) string {
	s := fmt.Sprintf("tensor parallel %d", e.Tensor())
	if e.Pipe() > 1 {
		s += fmt.Sprintf(" x pipeline parallel %d", e.Pipe())
	}
	if e.Data() > 1 && !e.DPAttention {
		s += fmt.Sprintf(" x data parallel %d", e.Data())
	}
	return s
}

// largest gives the largest size that divides the model and is there.
func largest(m model.Model, most int) int {
	ok := m.Splits(min(max(most, 1), 64))
	return slices.Max(ok)
}

// kernels notes what the GPU's generation may not run. Only what engines refuse
// outright is a problem; what goes through slower kernels or may fail is a note.
func (r *Result) kernels(in Input, q model.Quant) {
	cc := in.GPU.Capability
	if cc == 0 {
		return
	}
	dtype := strings.ToLower(in.Engine.DType)
	if dtype == "" || dtype == "auto" {
		dtype = in.Model.DType
	}
	if cc < 8 && (dtype == "bfloat16" || dtype == "bf16") {
		r.Problems = append(r.Problems, Problem{Code: "dtype_unsupported", Text: fmt.Sprintf("bfloat16 needs compute capability 8.0, %s has %.1f", in.GPU.Name, cc), Fix: "--dtype half"})
	}
	eight := strings.Contains(q.Method, "fp8") || strings.HasPrefix(q.Method, "compressed-tensors float8")
	four := strings.Contains(q.Method, "fp4") || strings.HasPrefix(q.Method, "compressed-tensors float4")
	if eight && cc < 8.9 || four && cc < 10 && q.Method != "mxfp4" || q.Method == "mxfp4" && cc < 9 {
		r.Notes = append(r.Notes, fmt.Sprintf("%s has no native support for %s (compute capability %.1f): the weights go through weight-only kernels, or the engine refuses them", in.GPU.Name, q.Method, cc))
	}
	if strings.HasPrefix(strings.ToLower(in.Engine.KVType), "fp8") && cc < 8.9 {
		r.Notes = append(r.Notes, fmt.Sprintf("an FP8 KV cache on compute capability %.1f depends on the attention backend", cc))
	}
}
