package fit

import (
	"context"
	"fmt"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
)

// CheckIn asks whether a model fits.
type CheckIn struct {
	Asked
	GPU          string `json:"gpu,omitempty" jsonschema:"H100, NVIDIA-A100-SXM4-80GB; without one all types are tried"`
	GPUMemoryMiB int    `json:"gpu_memory_mib,omitempty" jsonschema:"memory of one GPU as reported"`
	Count        int    `json:"count,omitempty" jsonschema:"how many GPUs there are"`
}

// ModelSum is the model in figures.
type ModelSum struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Parameters int64  `json:"parameters"`
	Active     int64  `json:"active_parameters"`
	Layers     int    `json:"layers"`
	Heads      int    `json:"heads"`
	KVHeads    int    `json:"kv_heads"`
	HeadDim    int    `json:"head_dim"`
	Experts    int    `json:"experts,omitempty"`
	MaxContext int    `json:"max_context,omitempty"`
	DType      string `json:"dtype"`
	Quant      string `json:"quantisation,omitempty"`
	Splits     []int  `json:"tensor_parallel_sizes"`
	Source     string `json:"source"`
}

// GPUSum is the GPU in figures.
type GPUSum struct {
	Name   string `json:"name"`
	MiB    int64  `json:"mib"`
	Source string `json:"source"`
}

// SweepRow is one GPU type: the smallest number of them that holds the model.
type SweepRow struct {
	GPU     string           `json:"gpu"`
	Count   int              `json:"count"`
	Verdict estimate.Verdict `json:"verdict"`
	// MaxContext and Concurrency as the verdict's side of the band has them.
	MaxContext  int     `json:"max_context"`
	Concurrency float64 `json:"concurrency"`
}

// Check is the answer.
type Check struct {
	Model          ModelSum          `json:"model"`
	Engine         string            `json:"engine"`
	Settings       string            `json:"settings"`
	Context        int               `json:"context"`
	ContextAssumed bool              `json:"context_assumed"`
	GPU            *GPUSum           `json:"gpu,omitempty"`
	Result         *estimate.Result  `json:"result,omitempty"`
	Remedies       []estimate.Remedy `json:"remedies"`
	Sweep          []SweepRow        `json:"sweep" jsonschema:"per GPU type the smallest count, when no GPU was named"`
	Notes          []string          `json:"notes"`
}

// maxCount is the most GPUs that are asked about.
const maxCount = 1024

// Check answers whether a model fits. Errors are tool.Errors.
func (d *Desk) Check(in CheckIn) (Check, error) {
	if in.Count < 0 || in.Count > maxCount {
		return Check{}, tool.Errorf(tool.Invalid, "count %d: a number of GPUs from 1 to %d is expected", in.Count, maxCount)
	}
	q, err := d.read(in.Asked)
	if err != nil {
		return Check{}, err
	}
	g, about, named, err := d.gpu(in.GPU, in.GPUMemoryMiB)
	if err != nil {
		return Check{}, err
	}
	out := Check{Model: q.summary(), Context: q.input.Context, ContextAssumed: q.assumed, Remedies: []estimate.Remedy{}, Sweep: []SweepRow{}, Notes: append([]string{}, q.notes...)}
	q.input.Available = in.Count
	if !named {
		if out.Sweep, err = d.sweep(q, in.Count); err != nil {
			return Check{}, err
		}
		out.Engine, out.Settings = q.input.Engine.Title(), q.input.Engine.String()
		return out, nil
	}
	q.input.GPU = g
	if !q.fixed {
		q.choose(in.Count)
	}
	r, err := estimate.Evaluate(q.input)
	if err != nil {
		return Check{}, &tool.Error{Kind: tool.Invalid, User: err.Error(), Fix: "give the size of the weights (--weights-gib), or another setting", Err: err}
	}
	out.GPU = &GPUSum{Name: g.Name, MiB: g.Bytes >> 20, Source: about}
	out.Engine, out.Settings = q.input.Engine.Title(), q.input.Engine.String()
	out.Result = &r
	out.Remedies = append(out.Remedies, estimate.Remedies(q.input, r, d.larger())...)
	return out, nil
}

// choose picks the tensor-parallel size where nobody said one: as many GPUs as
// there are, else the smallest number that fits, else that is tight.
func (q *question) choose(count int) {
	if count > 0 {
		q.input.Engine.TP = count
		return
	}
	for _, want := range []estimate.Verdict{estimate.Fits, estimate.Tight} {
		if in, _, ok := estimate.Smallest(q.input, 16, func(r estimate.Result) bool { return r.Verdict == want }); ok {
			q.input = in
			return
		}
	}
	q.input.Engine.TP = 1
}

// sweep tries every GPU type of the table.
func (d *Desk) sweep(q question, count int) ([]SweepRow, error) {
	rows := []SweepRow{}
	for _, g := range d.gpus.All() {
		in := q.input
		in.GPU = estimate.GPU{Name: g.Name, Bytes: g.Bytes(), Capability: g.Capability}
		row := SweepRow{GPU: g.Name, Verdict: estimate.No}
		take := func(in estimate.Input, r estimate.Result) {
			c := r.Capacity.High
			if r.Verdict == estimate.Tight {
				c = r.Capacity.Mid
			}
			row.Count, row.Verdict, row.MaxContext, row.Concurrency = in.Engine.GPUs(), r.Verdict, c.MaxContext, c.Concurrency
		}
		if q.fixed {
			r, err := estimate.Evaluate(in)
			if err != nil {
				return nil, &tool.Error{Kind: tool.Invalid, User: err.Error(), Fix: "give the size of the weights (--weights-gib), or another setting", Err: err}
			}
			take(in, r)
		} else {
			most := 16
			if count > 0 {
				most = count
			}
			if _, err := estimate.Evaluate(in); err != nil {
				return nil, &tool.Error{Kind: tool.Invalid, User: err.Error(), Fix: "give the size of the weights (--weights-gib), or another setting", Err: err}
			}
			for _, want := range []estimate.Verdict{estimate.Fits, estimate.Tight} {
				if found, r, ok := estimate.Smallest(in, most, func(r estimate.Result) bool { return r.Verdict == want }); ok {
					take(found, r)
					break
				}
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (q question) summary() ModelSum {
	m := q.input.Model
	s := ModelSum{
		Name: m.Name, Type: m.Type, Parameters: m.Params.Total(), Active: m.Active(), Layers: len(m.Layers), Heads: m.Heads, KVHeads: m.KVHeads, HeadDim: m.HeadDim,
		MaxContext: m.MaxContext, DType: m.DType, Quant: m.Quant.Method, Splits: m.Splits(16), Source: q.about,
	}
	if m.MoE != nil {
		s.Experts = m.MoE.Experts
	}
	return s
}

// Text writes the answer for people and models, figures first.
func (c Check) Text() string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", label, fmt.Sprintf(format, args...))
	}
	line("Model", "%s", c.Model.text())
	if c.GPU != nil {
		line("GPU", "%d x %s, %d MiB each (%s)", c.Result.GPUs, c.GPU.Name, c.GPU.MiB, c.GPU.Source)
	}
	line("Engine", "%s: %s", c.Engine, c.Settings)
	asked := ""
	if c.ContextAssumed {
		asked = " (assumed; nobody said one)"
	}
	line("Context", "%d tokens%s", c.Context, asked)
	if c.Result != nil {
		c.result(line)
	} else {
		c.table(&b)
	}
	for _, r := range c.Remedies {
		line("Would do", "%s: %s, margin %s a GPU%s", r.Setting, r.Verdict, estimate.Size(r.Margin), note(r.Note))
	}
	notes := c.Notes
	if c.Result != nil {
		notes = append(append([]string{}, notes...), c.Result.Notes...)
	}
	for _, n := range notes {
		line("Note", "%s", n)
	}
	return strings.TrimRight(b.String(), "\n")
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func (m ModelSum) text() string {
	s := fmt.Sprintf("%s: %.2f billion parameters", m.Name, float64(m.Parameters)/1e9)
	if m.Experts > 0 {
		s += fmt.Sprintf(" (%.2f active, %d experts)", float64(m.Active)/1e9, m.Experts)
	}
	s += fmt.Sprintf(", %d layers, %d heads, %d KV heads of %d", m.Layers, m.Heads, m.KVHeads, m.HeadDim)
	if m.Quant != "" {
		s += ", " + m.Quant
	} else {
		s += ", " + m.DType
	}
	if m.MaxContext > 0 {
		s += fmt.Sprintf(", context up to %d", m.MaxContext)
	}
	return s + " (" + m.Source + ")"
}

// result writes the verdict and what it is made of.
func (c Check) result(line func(label, format string, args ...any)) {
	r := c.Result
	b := r.PerGPU
	line("Verdict", "%s, margin %s a GPU: %s", r.Verdict, estimate.Size(r.Margin), r.Limit)
	line("Memory", "of %s a GPU the engine may take %s: weights %s, engine %s to %s, KV cache %s to %s",
		estimate.Size(b.Total), estimate.Size(b.Budget), estimate.Size(b.Weights), estimate.Size(b.Overhead.Low), estimate.Size(b.Overhead.High), estimate.Size(b.Cache.High), estimate.Size(b.Cache.Low))
	line("Weights", "%s in all, %s", estimate.Size(r.WeightsTotal), r.WeightsSource)
	kv := fmt.Sprintf("%d bytes a token and GPU", r.PerToken)
	if r.Growth != r.PerToken {
		kv += fmt.Sprintf(" while all layers keep it, %d in the long run", r.Growth)
	}
	if r.State > 0 {
		kv += fmt.Sprintf(", and %s a sequence whatever its length", estimate.Size(r.State))
	}
	line("KV cache", "%s; one sequence of %d tokens takes %s", kv, r.Context, estimate.Size(b.Need))
	line("Largest", "context %d to %d tokens; %s to %s sequences of %d tokens at once; %d to %d tokens in all",
		r.Capacity.High.MaxContext, r.Capacity.Low.MaxContext, times(r.Capacity.High.Concurrency), times(r.Capacity.Low.Concurrency), r.Context, r.Capacity.High.Tokens, r.Capacity.Low.Tokens)
	for _, p := range r.Problems {
		line("Problem", "%s%s", p.Text, note(p.Fix))
	}
}

func times(f float64) string { return fmt.Sprintf("%.2f", f) }

// table writes the sweep over GPU types.
func (c Check) table(b *strings.Builder) {
	fmt.Fprintf(b, "%-14s %5s  %-7s %12s %12s\n", "GPU type", "count", "verdict", "max context", "concurrency")
	for _, s := range c.Sweep {
		if s.Verdict == estimate.No {
			fmt.Fprintf(b, "%-14s %5s  %-7s\n", s.GPU, "-", s.Verdict)
			continue
		}
		fmt.Fprintf(b, "%-14s %5d  %-7s %12d %12.2f\n", s.GPU, s.Count, s.Verdict, s.MaxContext, s.Concurrency)
	}
}

// checkTool answers fit_check.
func (t *Toolset) checkTool() (tool.Tool, error) {
	return read("fit_check", func(_ context.Context, in CheckIn) (tool.Output[Check], error) {
		c, err := t.desk.Check(in)
		if err != nil {
			return tool.Output[Check]{}, err
		}
		return tool.Output[Check]{Data: c, Text: c.Text(), Findings: t.remarks(c)}, nil
	})
}
