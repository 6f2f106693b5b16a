package policy

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Gumshoe is the author of a plan that comes from a validated diagnosis.
const Gumshoe = "gumshoe"

// Input is what the rules see of a plan, of who wants it, and of the moment. The
// names in the json tags are the names in CEL.
type Input struct {
	Steps  []Step    `json:"steps"`
	Plan   Plan      `json:"plan"`
	Caller Caller    `json:"caller"`
	Now    time.Time `json:"now"`
	// Cluster is the name of the cluster that the plan is for.
	Cluster string `json:"cluster"`
	Live    Live   `json:"live"`
}

// Step is one action with its parameters, what it relies on and what it writes.
type Step struct {
	ID      string            `json:"id"`
	Action  Action            `json:"action"`
	Params  map[string]string `json:"params"`
	Targets []Target          `json:"targets"`
	Writes  []Write           `json:"writes"`
}

// Action is what is done.
type Action struct {
	Name string `json:"name"`
	// Family is one of planner's: workloads, placement, dra, network, pools, images,
	// settings, people; empty when the catalogue has no such action.
	Family string `json:"family"`
	// Risk is low, medium, high or critical.
	Risk string `json:"risk"`
	// Reversible says that the undo brings back all there was.
	Reversible bool `json:"reversible"`
}

// Target is an object that a step relies on or changes, as it was.
type Target struct {
	Kind      string            `json:"kind"`
	Group     string            `json:"group"`
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	// Owner names the delivery tool or controller that keeps the object, if any.
	Owner string `json:"owner"`
	// Delivered is "Argo CD", "Flux" or "Helm" when the object is kept in a
	// repository.
	Delivered string `json:"delivered"`
	// System is set for what the cluster itself lives on.
	System bool `json:"system"`
}

// Write is one request of a step, or of its undo.
type Write struct {
	Verb string `json:"verb"`
	// API is kubernetes or that of a cloud.
	API       string `json:"api"`
	Kind      string `json:"kind"`
	Group     string `json:"group"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Undo is set for a request that takes another back.
	Undo bool `json:"undo"`
	// System is set for what the cluster itself lives on.
	System bool `json:"system"`
	// Fields are the paths that a patch changes; see the function Fields.
	Fields []string `json:"fields"`
}

// Plan is what holds for all steps.
type Plan struct {
	// Author is Gumshoe or the person who wrote the steps by hand.
	Author    string `json:"author"`
	Requester string `json:"requester"`
	Reason    string `json:"reason"`
	Steps     int    `json:"steps"`
	// Risk is the highest of the steps.
	Risk       string    `json:"risk"`
	Blast      Blast     `json:"blast"`
	BreakGlass bool      `json:"break_glass"`
	Created    time.Time `json:"created"`
	Expires    time.Time `json:"expires"`
	Cause      Cause     `json:"cause"`
	// FromModel says that a model chose an action or a parameter.
	FromModel bool `json:"from_model"`
}

// Blast is whom the plan hurts, as numbers.
type Blast struct {
	Pods      int     `json:"pods"`
	Workloads int     `json:"workloads"`
	Nodes     int     `json:"nodes"`
	GPUs      int     `json:"gpus"`
	GPUHours  float64 `json:"gpu_hours"`
	// BelowBudget counts the PodDisruptionBudgets that allow less than is needed.
	BelowBudget int `json:"below_budget"`
}

// Cause is the validated cause that the plan mends; its code is empty when there
// is none.
type Cause struct {
	Code       string  `json:"code"`
	Confidence float64 `json:"confidence"`
	// Evidence counts the pieces of evidence that the cause cites.
	Evidence int `json:"evidence"`
}

// Caller is who asks.
type Caller struct {
	Name    string   `json:"name"`
	Groups  []string `json:"groups"`
	Surface string   `json:"surface"`
	// Proof says how the name is known; without one the caller is nobody.
	Proof string `json:"proof"`
	// Roles are given by the settings of the policy and by nothing else: what a
	// caller brings along is replaced.
	Roles []string `json:"roles"`
}

// Live is how things stand at the moment, within the breaker's window where it is
// about the past.
type Live struct {
	// OpenRequests are the other plans that wait for approval. It is 0 when a plan
	// is judged again before its execution.
	OpenRequests int `json:"open_requests"`
	// Actions and Nodes were executed and touched within Settings.Breaker.Window.
	Actions int `json:"actions"`
	Nodes   int `json:"nodes"`
	// NodesTotal of the cluster; 0 when it is not known.
	NodesTotal int `json:"nodes_total"`
	// BreakerOpen says that the breaker tripped and that no person reset it yet.
	BreakerOpen bool `json:"breaker_open"`
}

// InputOf makes the input of a plan. The family of an action is asked of the
// catalogue, which gives "" for one it does not have. Caller, Now, Live and
// Plan.FromModel are the caller's to fill.
func InputOf(p incident.Plan, family func(action string) string) Input {
	in := Input{Cluster: p.Cluster, Plan: Plan{
		Author: p.Author, Requester: p.Requester.Name, Reason: p.Reason, Steps: len(p.Steps), BreakGlass: p.BreakGlass, Created: p.Created, Expires: p.Expires,
		Blast: Blast{Pods: p.Blast.PodCount, Workloads: len(p.Blast.Workloads), Nodes: len(p.Blast.Nodes), GPUs: p.Blast.GPUs, GPUHours: p.Blast.GPUHours, BelowBudget: len(p.Blast.BelowBudget)},
	}}
	if p.Cause != nil {
		in.Plan.Cause = Cause{Code: p.Cause.Code, Confidence: p.Cause.Confidence, Evidence: len(p.Cause.Evidence)}
	}
	top := incident.Risk("")
	for _, s := range p.Steps {
		if top == "" || s.Risk.Weight() > top.Weight() {
			top = s.Risk
		}
		step := Step{ID: s.ID, Params: maps.Clone(s.Params), Action: Action{
			Name: s.Action, Family: family(s.Action), Risk: string(s.Risk), Reversible: s.Lasting == "" && (len(s.Writes) == 0 || len(s.Undo) > 0),
		}}
		for _, t := range s.Targets {
			step.Targets = append(step.Targets, Target{
				Kind: t.Ref.Kind, Group: t.Ref.Group, Namespace: t.Ref.Namespace, Name: t.Ref.Name,
				Labels: maps.Clone(t.Labels), Owner: t.Owner, Delivered: delivered(t.Owner), System: t.System,
			})
		}
		for _, w := range s.Writes {
			step.Writes = append(step.Writes, writeOf(w, false))
		}
		for _, w := range s.Undo {
			step.Writes = append(step.Writes, writeOf(w, true))
		}
		in.Steps = append(in.Steps, step)
	}
	in.Plan.Risk = string(top)
	return in
}

func writeOf(w incident.Write, undo bool) Write {
	out := Write{Verb: w.Verb, API: w.API, Kind: w.Ref.Kind, Group: w.Ref.Group, Namespace: w.Ref.Namespace, Name: w.Ref.Name, Undo: undo}
	if w.Verb == incident.VerbPatch {
		out.Fields = Fields(w.Body)
	}
	return out
}

// Fields lists the paths that a JSON patch (RFC 6902) or a JSON merge patch (RFC 7396)
// changes, sorted: names and indices with dots between, a dot within a name written
// "\.". What is no patch gives none.
func Fields(body json.RawMessage) []string {
	var out []string
	var ops []struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		From  string `json:"from"`
		Value any    `json:"value"`
	}
	var merge map[string]any
	switch {
	case json.Unmarshal(body, &merge) == nil:
		out = fields(merge, "")
	case json.Unmarshal(body, &ops) == nil:
		for _, o := range ops {
			switch o.Op {
			case "test":
			case "add", "replace":
				if m, ok := o.Value.(map[string]any); ok && len(m) > 0 {
					out = append(out, fields(m, dotted(o.Path)+".")...)
					continue
				}
				out = append(out, dotted(o.Path))
			case "move":
				out = append(out, dotted(o.From), dotted(o.Path))
			default:
				out = append(out, dotted(o.Path))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// dotted writes a JSON pointer (RFC 6901) with dots.
func dotted(pointer string) string {
	names := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, n := range names {
		names[i] = escape(strings.ReplaceAll(strings.ReplaceAll(n, "~1", "/"), "~0", "~"))
	}
	return strings.Join(names, ".")
}

func escape(name string) string { return strings.ReplaceAll(name, ".", `\.`) }

// fields lists the paths of a merge patch, or of a value that is put in.
func fields(v map[string]any, above string) []string {
	var out []string
	for k, v := range v {
		path := above + escape(k)
		if m, ok := v.(map[string]any); ok && len(m) > 0 {
			out = append(out, fields(m, path+".")...)
			continue
		}
		out = append(out, path)
	}
	return out
}

// delivered gives the delivery tool that an owner's words name.
func delivered(owner string) string {
	for _, tool := range []string{"Argo CD", "Flux", "Helm"} {
		if strings.HasPrefix(owner, tool+" ") {
			return tool
		}
	}
	return ""
}

// CallerOf makes the caller of a person.
func CallerOf(p incident.Person) Caller {
	return Caller{Name: p.Name, Groups: slices.Clone(p.Groups), Surface: p.Surface, Proof: p.Proof}
}
