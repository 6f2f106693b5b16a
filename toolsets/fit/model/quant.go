package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Quant says how the weights are stored.
type Quant struct {
	// Method is the name an engine knows it by; empty for none.
	Method string
	// Bytes of one quantised parameter with its share of the scales; 0 means that
	// the method is not known here.
	Bytes float64
	// Block is how many neighbouring numbers share a scale along the split
	// dimension; shards must hold whole blocks. 0 or 1 where it does not matter.
	Block int
	// ExpertsOnly leaves everything but the routed experts at DType.
	ExpertsOnly bool
	// KeepAttention leaves the mixers at DType.
	KeepAttention bool
	// Head says that the output head is quantised too.
	Head bool
	// Pad rounds the experts' width up to a multiple, as the kernels do.
	Pad int
}

// Known reports whether the bytes a parameter takes are known.
func (q Quant) Known() bool { return q.Method == "" || q.Bytes > 0 }

// grouped gives the bytes of a parameter of so many bits whose groups share a
// 16-bit scale and a zero point of the same bits, as AWQ and GPTQ store them.
func grouped(bits, group int) float64 {
	b := float64(bits) / 8
	if group <= 0 {
		return b
	}
	return b + (2+float64(bits)/8)/float64(group)
}

// mxPad is the multiple to which the MXFP4 kernels pad the experts' width on
// Hopper: gpt-oss-120b, 2880 wide, loads as if it were 3072 (vLLM issues 23278
// and 33155 report 64.4 to 66.0 GiB where the file has 60.8).
const mxPad = 256

// Named gives the quantisation an engine applies or expects under this name;
// Bytes is 0 when the name is not known.
func Named(name string) Quant {
	q := Quant{Method: strings.ToLower(name)}
	switch q.Method {
	case "awq", "awq_marlin", "gptq", "gptq_marlin", "auto-round", "auto_round", "inc", "intel/auto-round":
		q.Bytes, q.Block = grouped(4, 128), 128
	case "fp8", "fbgemm_fp8", "ptpc_fp8", "modelopt", "modelopt_fp8", "w8a8_fp8":
		q.Bytes = 1
	case "int8", "w8a8_int8", "experts_int8", "tpu_int8":
		q.Bytes = 1
	case "nvfp4", "modelopt_fp4":
		q.Bytes, q.Block = 0.5+1.0/16, 16
	case "mxfp4":
		q.Bytes, q.ExpertsOnly, q.Pad = 0.5+1.0/32, true, mxPad
	case "bitsandbytes":
		// NF4 with one 32-bit scale for 64 numbers.
		q.Bytes = 0.5 + 4.0/64
	default:
		if b := gguf(q.Method); b > 0 {
			q.Bytes, q.Head = b, true
		}
	}
	return q
}

// gguf gives the bytes of a parameter of a GGUF file. The plain kinds follow from
// the block layout of the format; the mixed kinds are averages over published
// files (the reference table of this project: 0.60, 0.71, 1.06).
func gguf(kind string) float64 {
	kind = strings.TrimPrefix(strings.TrimPrefix(kind, "gguf:"), "gguf-")
	return map[string]float64{
		"q4_k_m": 0.60, "q5_k_m": 0.71, "q8_0": 34.0 / 32, "q6_k": 210.0 / 256,
		"q4_0": 18.0 / 32, "q4_1": 20.0 / 32, "q5_0": 22.0 / 32, "q5_1": 24.0 / 32,
		"q4_k_s": 144.0 / 256, "q5_k_s": 176.0 / 256, "f16": 2, "bf16": 2, "f32": 4,
	}[kind]
}

// readQuant reads quantization_config, wherever the family keeps it.
func readQuant(o *object) Quant {
	c := o.sub("quantization_config")
	for at := o.outer; c == nil && at != nil; at = at.outer {
		c = at.sub("quantization_config")
	}
	if c == nil {
		c = o.sub("compression_config")
	}
	if c == nil {
		return Quant{}
	}
	method := strings.ToLower(c.text("quant_method", "quantization_method"))
	algo := strings.ToLower(c.text("quant_algo"))
	if inner := c.sub("quantization"); inner != nil && algo == "" {
		algo = strings.ToLower(inner.text("quant_algo"))
	}
	if method == "" && algo != "" {
		method = "modelopt"
	}
	if method == "" {
		c.fail("quant_method", "", "is missing")
		return Quant{}
	}
	q := Named(method)
	switch {
	case strings.Contains(algo, "nvfp4"):
		q = Named("nvfp4")
	case method == "modelopt" && algo != "" && !strings.Contains(algo, "fp8"):
		q = Quant{Method: "modelopt " + algo}
	case method == "compressed-tensors":
		q = compressed(c)
	case q.Block == 128 && q.Bytes > 0:
		bits := cmp.Or(c.count(16, "bits", "w_bit", "weight_bits"), 4)
		group := 128
		if v := c.own("group_size"); v != nil {
			group = c.number(-1, 1<<16, "group_size")
		} else if g := c.count(1<<16, "q_group_size"); g > 0 {
			group = g
		}
		q.Bytes, q.Block = grouped(bits, group), max(group, 1)
		if q.Method == "gptq" {
			q.Head = c.flag(false, "lm_head")
		}
	case method == "bitsandbytes" && c.flag(false, "load_in_8bit", "_load_in_8bit"):
		q.Bytes = 1
	case method == "fp8":
		if b := c.list("weight_block_size"); len(b) == 2 {
			n, why := whole(b[0])
			k, why2 := whole(b[1])
			if why+why2 != "" || n < 1 || k < 1 || n > 1<<20 || k > 1<<20 {
				c.fail("weight_block_size", short(any(b)), "two positive whole numbers are expected")
				return Quant{}
			}
			q.Bytes, q.Block = 1+4/float64(n*k), int(n)
		}
	}
	left := slices.Concat(c.texts("modules_to_not_convert"), c.texts("ignore"), c.texts("exclude_modules"), c.texts("ignored_layers"))
	q.KeepAttention = slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, "self_attn") || strings.Contains(s, "*attn*") }) && sweeping(left)
	return q
}

// sweeping reports whether the attention of all layers is left out, by a
// pattern or by many names, and not only that of a few layers.
func sweeping(names []string) bool {
	n := 0
	for _, s := range names {
		if !strings.Contains(s, "attn") {
			continue
		}
		if strings.ContainsAny(s, "*") || strings.HasPrefix(s, "re:") {
			return true
		}
		n++
	}
	return n > 16
}

// compressed reads the compressed-tensors format: the first group's weights.
func compressed(c *object) Quant {
	q := Quant{Method: "compressed-tensors"}
	groups := c.sub("config_groups")
	if groups == nil {
		return q
	}
	names := make([]string, 0, len(groups.fields))
	for n := range groups.fields {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		g := groups.sub(n)
		if g == nil {
			continue
		}
		w := g.sub("weights")
		if w == nil {
			continue
		}
		bits, kind := w.count(32, "num_bits"), w.text("type")
		group := w.number(-1, 1<<16, "group_size")
		switch {
		case bits == 4 && kind == "float" && group > 0 && group <= 32:
			// One 8-bit scale a group.
			q.Bytes, q.Block = 0.5+1/float64(group), group
		case bits == 4 || bits == 8 && group > 1:
			q.Bytes, q.Block = grouped(bits, group), max(group, 1)
		case bits == 8:
			q.Bytes = 1
		case bits > 0:
			q.Bytes = float64(bits) / 8
		}
		q.Method = fmt.Sprintf("compressed-tensors %s%d", kind, bits)
		break
	}
	return q
}

// Weights gives the bytes of the weights on all GPUs together, by class, for a
// quantisation and the bytes of one unquantised number. drafts adds the layers
// for multi-token prediction.
func (m Model) Weights(q Quant, plain int, drafts bool) Weights {
	p := m.Params
	low := float64(plain)
	of := func(n int64, quantised bool) int64 {
		if quantised && q.Bytes > 0 {
			return int64(float64(n) * q.Bytes)
		}
		return int64(float64(n) * low)
	}
	dense := !q.ExpertsOnly
	w := Weights{
		Embedding: of(p.Embedding, q.Head && p.Head == 0),
		Head:      of(p.Head, q.Head),
		Attention: of(p.Attention, dense && !q.KeepAttention),
		Dense:     of(p.Dense, dense),
		Shared:    of(p.Shared, dense),
		Experts:   of(p.Experts, true),
		Other:     of(p.Other, false),
		Vision:    of(p.Vision, false),
	}
	if q.Pad > 1 && m.MoE != nil {
		wide := (m.MoE.Intermediate + q.Pad - 1) / q.Pad * q.Pad
		w.Experts = int64(float64(w.Experts) * float64(wide) / float64(m.MoE.Intermediate))
	}
	if drafts {
		w.Draft = of(p.Draft, dense)
	}
	return w
}

// Weights are bytes by class.
type Weights struct {
	Embedding, Head, Attention, Dense, Shared, Experts, Other, Vision, Draft int64
}

// Total adds them up.
func (w Weights) Total() int64 {
	return w.Embedding + w.Head + w.Attention + w.Dense + w.Shared + w.Experts + w.Other + w.Vision + w.Draft
}
