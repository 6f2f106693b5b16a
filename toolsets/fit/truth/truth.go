// Package truth holds the estimate against published measurements: engines' own
// logs, each with its source. Tests and the generated page docs/fit.md read it;
// no part of the program does.
package truth

import (
	_ "embed"
	"fmt"
	"math"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hardware"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
)

//go:embed truth.yaml
var truthYAML []byte

// Measured is one published measurement; which fields it has depends on its kind.
type Measured struct {
	ID            string  `json:"id"`
	Source        string  `json:"source"`
	Note          string  `json:"note"`
	Model         string  `json:"model"`
	TP            int     `json:"tp"`
	KV            string  `json:"kv"`
	Speculate     int     `json:"speculate"`
	TotalGiB      float64 `json:"total_gib"`
	Fraction      float64 `json:"fraction"`
	WeightsGiB    float64 `json:"weights_gib"`
	NonTorchGiB   float64 `json:"non_torch_gib"`
	ActivationGiB float64 `json:"activation_gib"`
	CacheGiB      float64 `json:"cache_gib"`
	// Rounding is how far the published cache may be from the true one.
	Rounding    float64 `json:"cache_rounding_gib"`
	CacheBytes  int64   `json:"cache_bytes"`
	Context     int     `json:"context"`
	Tokens      int64   `json:"tokens"`
	Concurrency float64 `json:"concurrency"`
	PerToken    int64   `json:"per_token"`
	NeedGiB     float64 `json:"need_gib"`
	Tolerance   float64 `json:"tolerance"`
	Whole       bool    `json:"whole"`
}

// Golden is the table of expected verdicts.
type Golden struct {
	GPUs []string `json:"gpus"`
	Note string   `json:"note"`
	Rows []struct {
		Model string   `json:"model"`
		Want  []string `json:"want"`
	} `json:"rows"`
	Tight []struct {
		Model string `json:"model"`
		GPU   string `json:"gpu"`
		TP    int    `json:"tp"`
	} `json:"tight"`
}

type file struct {
	Budget  []Measured `json:"budget"`
	Predict []Measured `json:"predict"`
	Tokens  []Measured `json:"tokens"`
	Context []Measured `json:"context"`
	Need    []Measured `json:"need"`
	Ratio   []Measured `json:"ratio"`
	Kaito   []Measured `json:"kaito"`
	Golden  Golden     `json:"golden"`
}

// Row is one measurement beside what is computed.
type Row struct {
	ID, Source, What    string
	Published, Computed string
	// Off is the error in words.
	Off string
	// Held says that the error is within what the row allows.
	Held bool
	Note string
}

// Table is everything, computed.
type Table struct {
	Rows []Row
	// Header names the GPUs of the golden table.
	Header []string
	Golden []GoldenRow
	Tight  []Row
	Note   string
}

// GoldenRow is one model of the golden table: computed cells beside wanted ones.
type GoldenRow struct {
	Model     string
	Have      []string
	Different []string
}

// bench holds what the rows are computed with.
type bench struct {
	models []model.Entry
	gpus   hardware.Table
	err    error
}

// Compute reads the measurements and computes each.
func Compute() (Table, error) {
	var f file
	if err := yaml.UnmarshalStrict(truthYAML, &f); err != nil {
		return Table{}, fmt.Errorf("truth.yaml: %w", err)
	}
	models, err := model.Catalogue()
	if err != nil {
		return Table{}, err
	}
	gpus, err := hardware.GPUs()
	if err != nil {
		return Table{}, err
	}
	b := &bench{models: models, gpus: gpus}
	t := Table{Header: f.Golden.GPUs, Note: f.Golden.Note}
	for _, kind := range []struct {
		rows []Measured
		do   func(Measured) []Row
	}{{f.Budget, b.budget}, {f.Predict, b.predict}, {f.Tokens, b.tokens}, {f.Context, b.context}, {f.Need, b.need}, {f.Ratio, b.ratio}, {f.Kaito, b.kaito}} {
		for _, m := range kind.rows {
			t.Rows = append(t.Rows, kind.do(m)...)
		}
	}
	b.golden(f.Golden, &t)
	return t, b.err
}

func (b *bench) fail(err error) {
	if b.err == nil && err != nil {
		b.err = err
	}
}

func gib(g float64) int64 { return int64(g * estimate.GiB) }

// row makes a row out of two numbers; allowed is the error that holds.
func (m Measured) row(what, format string, published, computed, allowed float64) Row {
	r := Row{ID: m.ID, Source: m.Source, What: what, Note: m.Note, Published: fmt.Sprintf(format, published), Computed: fmt.Sprintf(format, computed)}
	off := computed - published
	r.Held = math.Abs(off) <= allowed
	switch {
	case published == 0:
		r.Off = fmt.Sprintf(format, off)
	default:
		r.Off = fmt.Sprintf("%+.2f %%", 100*off/math.Abs(published))
	}
	return r
}

// budget: total x fraction - weights - non-torch - activations.
func (b *bench) budget(m Measured) []Row {
	cache := m.TotalGiB*m.Fraction - m.WeightsGiB - m.NonTorchGiB - m.ActivationGiB
	return []Row{m.row("KV cache from the log's own terms, GiB", "%.2f", m.CacheGiB, cache, 0.015)}
}

// predict: the same with the band instead of the log's overhead.
func (b *bench) predict(m Measured) []Row {
	in := estimate.Input{
		Model: plain(), GPU: estimate.GPU{Name: m.ID, Bytes: gib(m.TotalGiB)}, Weights: gib(m.WeightsGiB), Context: 1,
		Engine: engine.Settings{Kind: engine.VLLM, Utilization: m.Fraction},
	}
	r, err := estimate.Evaluate(in)
	b.fail(err)
	c := r.PerGPU.Cache
	row := m.row("KV cache predicted without the log's overhead, GiB", "%.2f", m.CacheGiB, float64(c.Mid)/estimate.GiB, 2.3)
	row.Off = fmt.Sprintf("%+.2f GiB", float64(c.Mid)/estimate.GiB-m.CacheGiB)
	low, high := float64(c.Low)/estimate.GiB, float64(c.High)/estimate.GiB
	where := "inside"
	if m.CacheGiB > low || m.CacheGiB < high {
		where = "outside"
	} else {
		row.Held = true
	}
	row.Computed += fmt.Sprintf(" (%.2f to %.2f: %s)", high, low, where)
	return []Row{row}
}

// plain is a model whose dimensions do not matter.
func plain() model.Model {
	return model.Model{Type: "llama", DType: "bfloat16", Hidden: 1, Vocab: 1, Heads: 1, KVHeads: 1, HeadDim: 1, ValueDim: 1, Layers: []model.Layer{{}}, Params: model.Params{Dense: 1}}
}

// plan lays out the cache of a row's model.
func (b *bench) plan(m Measured) (estimate.Plan, model.Model) {
	e, near, ok := model.Lookup(b.models, m.Model)
	if !ok {
		b.fail(fmt.Errorf("%s: model %s is not in the catalogue (near: %v)", m.ID, m.Model, near))
		return estimate.Plan{}, model.Model{}
	}
	mod, err := e.Model()
	b.fail(err)
	s := engine.Settings{Kind: engine.VLLM, KVType: m.KV, TP: max(m.TP, 1), Speculate: m.Speculate}
	p, err := estimate.NewPlan(mod, mod.Layers, s, 2, s.TP)
	b.fail(err)
	return p, mod
}

func (m Measured) cache() int64 {
	if m.CacheBytes > 0 {
		return m.CacheBytes
	}
	return gib(m.CacheGiB)
}

func (b *bench) tokens(m Measured) []Row {
	p, _ := b.plan(m)
	c := p.Capacity(m.cache(), m.Context, 1<<30)
	allowed := 1.0
	if m.Tolerance > 0 {
		allowed = m.Tolerance * float64(m.Tokens)
	}
	rows := []Row{
		m.row("tokens in the KV cache", "%.0f", float64(m.Tokens), float64(c.Tokens), allowed),
		m.row(fmt.Sprintf("sequences of %d tokens", m.Context), "%.2f", m.Concurrency, c.Concurrency, math.Max(0.0051, m.Tolerance*m.Concurrency)),
	}
	if m.PerToken > 0 {
		rows = append(rows, m.row("bytes a token and GPU", "%.0f", float64(m.PerToken), float64(p.Growth), 0))
	}
	return rows
}

func (b *bench) context(m Measured) []Row {
	p, mod := b.plan(m)
	at := func(g float64) int { return p.Capacity(gib(g), m.Context, mod.MaxContext).MaxContext }
	low, mid, high := at(m.CacheGiB-m.Rounding), at(m.CacheGiB), at(m.CacheGiB+m.Rounding)
	r := m.row("longest sequence in the cache", "%.0f", float64(m.Context), float64(mid), float64(high-low))
	r.Held = low <= m.Context && m.Context <= high
	r.Computed += fmt.Sprintf(" (%d to %d with the log's rounding)", low, high)
	return []Row{r, m.row("bytes a token and GPU", "%.0f", float64(m.PerToken), float64(p.PerToken), 0)}
}

func (b *bench) need(m Measured) []Row {
	p, _ := b.plan(m)
	rows := []Row{m.row(fmt.Sprintf("GiB for one sequence of %d tokens", m.Context), "%.2f", m.NeedGiB, float64(p.Need(m.Context))/estimate.GiB, 0.005)}
	if m.PerToken > 0 {
		rows = append(rows, m.row("bytes a token and GPU", "%.0f", float64(m.PerToken), float64(p.PerToken), 0))
	}
	return rows
}

func (b *bench) ratio(m Measured) []Row {
	return []Row{m.row(fmt.Sprintf("sequences of %d tokens out of %d tokens", m.Context, m.Tokens), "%.2f", m.Concurrency, float64(m.Tokens)/float64(m.Context), 0.0051)}
}

func (b *bench) kaito(m Measured) []Row {
	_, mod := b.plan(m)
	r, err := estimate.Evaluate(estimate.Input{
		Model: mod, GPU: estimate.GPU{Name: m.ID, Bytes: gib(m.TotalGiB)}, Weights: gib(m.WeightsGiB), Context: 2048,
		Engine: engine.Settings{Kind: engine.VLLM, Utilization: m.Fraction},
	})
	b.fail(err)
	tokens := float64(r.Capacity.Mid.Tokens)
	if m.Whole {
		tokens = float64(r.Capacity.Mid.MaxContext)
	}
	return []Row{m.row("tokens in the KV cache, by another estimator", "%.0f", float64(m.Tokens), tokens, 0.06*float64(m.Tokens))}
}

// golden computes the table of verdicts and compares it cell by cell.
func (b *bench) golden(g Golden, t *Table) {
	for _, row := range g.Rows {
		out := GoldenRow{Model: row.Model}
		for i, name := range g.GPUs {
			have := b.cell(row.Model, name)
			out.Have = append(out.Have, have)
			if i >= len(row.Want) || have != row.Want[i] {
				out.Different = append(out.Different, fmt.Sprintf("%s: %s instead of %v", name, have, row.Want[min(i, len(row.Want)-1)]))
			}
		}
		t.Golden = append(t.Golden, out)
	}
	for _, c := range g.Tight {
		in, ok := b.input(c.Model, c.GPU)
		if !ok {
			continue
		}
		in.Engine.TP = c.TP
		r, err := estimate.Evaluate(in)
		b.fail(err)
		t.Tight = append(t.Tight, Row{ID: c.Model, Source: c.GPU, What: fmt.Sprintf("%d x %s", c.TP, c.GPU), Published: string(estimate.Tight), Computed: string(r.Verdict), Held: r.Verdict == estimate.Tight, Note: r.Limit})
	}
}

// input is a golden cell's question: every layer keeps every token.
func (b *bench) input(name, gpu string) (estimate.Input, bool) {
	e, _, ok := model.Lookup(b.models, name)
	if !ok {
		b.fail(fmt.Errorf("golden: model %s is not in the catalogue", name))
		return estimate.Input{}, false
	}
	mod, err := e.Model()
	b.fail(err)
	g, err := b.gpus.Find(gpu)
	b.fail(err)
	return estimate.Input{
		Model: mod, Weights: e.Bytes(), Context: 4096, GPU: estimate.GPU{Name: g.Name, Bytes: g.Bytes(), Capability: g.Capability},
		Engine: engine.Settings{Kind: engine.VLLM, Utilization: 0.9, NoHybrid: true},
	}, err == nil
}

func (b *bench) cell(name, gpu string) string {
	in, ok := b.input(name, gpu)
	if !ok {
		return "?"
	}
	found, r, ok := estimate.Smallest(in, 16, func(r estimate.Result) bool { return r.Capacity.Mid.Tokens >= 4096 })
	if !ok {
		return "no"
	}
	return fmt.Sprintf("%d:%d", found.Engine.TP, r.Capacity.Mid.Tokens/1000)
}
