package fit

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/engine"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hardware"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/model"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/place"
)

// Desk answers questions from its tables alone: no cluster, no network.
type Desk struct {
	models []model.Entry
	gpus   hardware.Table
	skus   []hardware.SKU
}

// shippedDesk has the tables that ship, read once in the life of the process. Nobody
// changes them: WithPrices makes a table of its own.
var shippedDesk = sync.OnceValues(readDesk)

// NewDesk gives the desk with the tables that ship. It may be shared.
func NewDesk() (*Desk, error) { return shippedDesk() }

func readDesk() (*Desk, error) {
	models, err := model.Catalogue()
	if err != nil {
		return nil, fmt.Errorf("fit: %w", err)
	}
	gpus, err := hardware.GPUs()
	if err != nil {
		return nil, fmt.Errorf("fit: %w", err)
	}
	skus, err := hardware.SKUs(gpus)
	if err != nil {
		return nil, fmt.Errorf("fit: %w", err)
	}
	return &Desk{models: models, gpus: gpus, skus: skus}, nil
}

// WithPrices lays a user's price file over the table of prices.
func (d *Desk) WithPrices(name string, raw []byte) (*Desk, error) {
	skus, err := hardware.Prices(name, raw, d.gpus, d.skus)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Invalid, User: err.Error(), Err: err}
	}
	return &Desk{models: d.models, gpus: d.gpus, skus: skus}, nil
}

// Asked is what is asked about a model and an engine.
type Asked struct {
	Model      string  `json:"model,omitempty" jsonschema:"repository name, Qwen/Qwen3-32B"`
	Config     string  `json:"config,omitempty" jsonschema:"its config.json, for a model not in the catalogue"`
	Context    int     `json:"context,omitempty" jsonschema:"tokens of one sequence"`
	Engine     string  `json:"engine,omitempty" jsonschema:"vllm, sglang or tensorrt-llm"`
	EngineArgs string  `json:"engine_args,omitempty" jsonschema:"flags or whole command line of the server"`
	WeightsGiB float64 `json:"weights_gib,omitempty" jsonschema:"measured size of the weights"`
}

// modest is the context that is asked for where nobody says one: the longest
// that a model allows is seldom what is needed.
const modest = 8192

// question is an Asked that was read.
type question struct {
	input estimate.Input
	// about says where the model's figures come from.
	about string
	// assumed says that nobody asked for this context.
	assumed bool
	// fixed says that the engine's parallel sizes were given.
	fixed bool
	notes []string
}

// read makes a question of what was asked.
func (d *Desk) read(a Asked) (question, error) {
	kind, err := engineKind(a.Engine)
	if err != nil {
		return question{}, err
	}
	s, err := engine.ParseLine(a.EngineArgs, kind)
	if err != nil {
		return question{}, &tool.Error{Kind: tool.Invalid, User: "engine arguments: " + err.Error(), Fix: "write the server's flags as on its command line", Err: err}
	}
	if math.IsNaN(a.WeightsGiB) || a.WeightsGiB < 0 || a.WeightsGiB > 1e6 {
		return question{}, tool.Errorf(tool.Invalid, "weights of %v GiB: a positive number is expected", a.WeightsGiB)
	}
	if a.Context < 0 || a.Context > 1<<30 {
		return question{}, tool.Errorf(tool.Invalid, "context %d: a number of tokens from 1 to %d is expected", a.Context, 1<<30)
	}
	q := question{fixed: s.TP > 0 || s.PP > 0 || s.DP > 0}
	q.input = estimate.Input{Engine: s, Weights: int64(a.WeightsGiB * estimate.GiB)}
	if err := d.model(&q, a); err != nil {
		return question{}, err
	}
	q.context(a)
	return q, nil
}

func engineKind(name string) (engine.Kind, error) {
	switch strings.ToLower(name) {
	case "", "vllm":
		return engine.VLLM, nil
	case "sglang":
		return engine.SGLang, nil
	case "tensorrt-llm", "trtllm", "trt-llm", "tensorrtllm":
		return engine.TRTLLM, nil
	}
	return "", tool.Errorf(tool.Invalid, "engine %q is none of vllm, sglang, tensorrt-llm", name)
}

// model finds the model's dimensions: in the configuration given, else in the
// catalogue. A model that is in neither is said to be unknown.
func (d *Desk) model(q *question, a Asked) error {
	name := cmp.Or(a.Model, q.input.Engine.Model)
	if a.Config != "" {
		m, err := model.Parse(cmp.Or(name, "the given configuration"), []byte(a.Config))
		if err != nil {
			return &tool.Error{Kind: tool.Invalid, User: err.Error(), Fix: "check the file against the one in the model's repository", Err: err}
		}
		q.input.Model, q.about = m, "the given config.json"
		return nil
	}
	if name == "" {
		return tool.Errorf(tool.Invalid, "which model? name one, for example Qwen/Qwen3-32B, or give its config.json")
	}
	e, near, ok := model.Lookup(d.models, name)
	if !ok {
		err := tool.Errorf(tool.NotFound, "model %s is not in the catalogue, so its dimensions are not known", name)
		if len(near) > 0 {
			err = tool.Errorf(tool.NotFound, "model %s is not in the catalogue, so its dimensions are not known; near: %s", name, strings.Join(near, ", "))
		}
		err.Fix = "give its config.json (gumshoe fit: --config FILE), or read it from the hub (--fetch)"
		return err
	}
	m, err := e.Model()
	if err != nil {
		return err
	}
	q.input.Model, q.about = m, "catalogue: "+e.Source
	if q.input.Weights == 0 && !restored(m, q.input.Engine) {
		q.input.Weights, q.input.WeightsFrom = e.Bytes(), published(e)
	}
	return nil
}

// published says where the size of a catalogue model's weights is from.
func published(e model.Entry) string {
	if e.LoadedGiB > 0 {
		return "as engines report it after loading"
	}
	return "the size of its files"
}

// restored reports whether the engine stores the weights otherwise than the
// checkpoint does, so that the size of its files says nothing.
func restored(m model.Model, e engine.Settings) bool {
	if b := model.DTypeBytes(e.DType); b > 0 && b != model.DTypeBytes(m.DType) {
		return true
	}
	return m.Quant.Method == "" && (e.Quantization != "" || strings.Contains(strings.ToLower(e.Model), "gguf"))
}

// context decides which sequence length is asked for. An engine that is told
// nothing takes the longest the model allows and refuses to start without room
// for it; a person who asks about a model seldom means that.
func (q *question) context(a Asked) {
	s, m := q.input.Engine, q.input.Model
	switch {
	case a.Context > 0 && s.MaxLen > a.Context:
		q.input.Context = s.MaxLen
		q.notes = append(q.notes, fmt.Sprintf("%s %d decides, not the %d asked for: the engine starts only with room for one such sequence", s.LenFlag(), s.MaxLen, a.Context))
	case a.Context > 0:
		q.input.Context = a.Context
	case s.MaxLen > 0:
		q.input.Context = s.MaxLen
	case a.EngineArgs != "" && !s.AutoLen && m.MaxContext > 0:
		q.input.Context = m.MaxContext
		q.notes = append(q.notes, fmt.Sprintf("without %s the engine takes the model's longest context, %d", s.LenFlag(), m.MaxContext))
	default:
		q.input.Context, q.assumed = modest, true
		if m.MaxContext > 0 {
			q.input.Context = min(modest, m.MaxContext)
		}
	}
}

// gpu finds the GPU; ok is false when none was named.
func (d *Desk) gpu(name string, mib int) (g estimate.GPU, about string, ok bool, err error) {
	if mib < 0 || mib > 16<<20 {
		return g, "", false, tool.Errorf(tool.Invalid, "GPU memory of %d MiB: a positive number is expected, for example 81559", mib)
	}
	if name == "" && mib == 0 {
		return g, "", false, nil
	}
	m, unknown := d.gpus.Find(name)
	switch {
	case mib > 0:
		// The memory is what matters; an unknown type only lacks its generation.
		return estimate.GPU{Name: cmp.Or(m.Name, name, "GPU"), Bytes: int64(mib) << 20, Capability: m.Capability}, "as given", true, nil
	case unknown != nil:
		return g, "", false, &tool.Error{Kind: tool.Invalid, User: unknown.Error(), Fix: "name one of " + strings.Join(d.names(), ", ") + ", or give its memory (--gpu-memory-mib)", Err: unknown}
	case m.MIG != "":
		return g, "", false, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s is a MIG slice of %s, whose memory is not in the table", name, m.Name), Fix: "give its memory (--gpu-memory-mib), as the node label nvidia.com/gpu.memory says it"}
	}
	return estimate.GPU{Name: m.Name, Bytes: m.Bytes(), Capability: m.Capability}, m.Source, true, nil
}

func (d *Desk) names() []string {
	var out []string
	for _, g := range d.gpus.All() {
		out = append(out, g.Name)
	}
	return out
}

// larger lists the GPUs of the table, smallest first, for remedies.
func (d *Desk) larger() []estimate.GPU {
	var out []estimate.GPU
	for _, g := range d.gpus.All() {
		if g.Vendor == "" {
			out = append(out, estimate.GPU{Name: g.Name, Bytes: g.Bytes(), Capability: g.Capability})
		}
	}
	return out
}

// query makes a placement query.
func (q question) query(tokensPerSecond float64) place.Query {
	return place.Query{Input: q.input, Fixed: q.fixed, TokensPerSecond: tokensPerSecond}
}
