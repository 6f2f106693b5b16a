package investigate

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Action is a change that may be proposed: a name and the parameters it takes.
type Action struct {
	Name string
	// Text says in a sentence what the action does.
	Text   string
	Params []Param
}

// Param is one parameter of an Action. Values are strings.
type Param struct {
	Name string
	Text string
	// Object is set when the value names something that must exist: it then has
	// to occur in the evidence.
	Object   bool
	Required bool
}

// Grounds are what a diagnosis is judged against.
type Grounds struct {
	// Subjects the question is about; empty when it names none.
	Subjects []incident.Ref
	Evidence []incident.Evidence
	// Full gives the whole answer behind evidence that was shortened; nil means
	// that the evidence is all there is.
	Full     func(id string) (text string, data json.RawMessage, ok bool)
	Findings []incident.Finding
	Edges    []incident.Edge
	// Actions that may be proposed. With none, only Vouched proposals pass.
	Actions []Action
	// Vouched is a diagnosis whose sentences were written by code from typed data
	// (triage's). A claim that is word for word one of its claims is not searched
	// for quotes and figures: a runbook may say "retried every 5 minutes". All
	// other rules apply to it.
	Vouched incident.Diagnosis
	// Suspicious is set when instruction-like text was seen: a proposal that
	// neither a finding nor Vouched carries is then refused.
	Suspicious bool
}

// decent is the score from which a finding contradicts "healthy" and wants an
// explanation.
const decent = 0.5

// book is Grounds prepared for many questions.
type book struct {
	Grounds
	exhibits map[string]*exhibit
	graph    *graph.Graph
	known    []incident.Ref
	isKnown  map[incident.Ref]bool
}

func newBook(g Grounds) *book {
	b := &book{Grounds: g, exhibits: map[string]*exhibit{}, graph: graph.New(), isKnown: map[incident.Ref]bool{}}
	for _, ev := range g.Evidence {
		b.exhibits[ev.ID] = &exhibit{ev: ev, full: g.Full}
	}
	b.graph.Add(g.Edges...)
	for _, r := range g.Subjects {
		b.know(r)
	}
	for _, f := range g.Findings {
		b.know(f.Subject)
	}
	for _, r := range b.graph.Nodes() {
		b.know(r)
	}
	for _, c := range g.Vouched.Causes {
		b.know(c.Subject)
	}
	return b
}

func (b *book) know(r incident.Ref) {
	if !b.isKnown[r] {
		b.isKnown[r] = true
		b.known = append(b.known, r)
	}
}

// canon gives the reference under which code knows a thing that a model named
// loosely; the reference itself where none or several fit.
func (b *book) canon(r incident.Ref) incident.Ref {
	if b.isKnown[r] {
		return r
	}
	var fit []incident.Ref
	for _, k := range b.known {
		if k.Same(r) {
			fit = append(fit, k)
		}
	}
	if len(fit) == 1 {
		return fit[0]
	}
	return r
}

// carried reports whether code itself tied the thing to one of the cited
// evidences, by a finding or an edge.
func (b *book) carried(r incident.Ref, cited []string) bool {
	for _, f := range b.Findings {
		if f.Subject.Same(r) && overlap(f.Evidence, cited) {
			return true
		}
	}
	for _, e := range b.graph.Edges() {
		if (e.From.Same(r) || e.To.Same(r)) && overlap(e.Evidence, cited) {
			return true
		}
	}
	return false
}

// edge finds the recorded edge between two things, whatever the relation is
// called; the zero Edge if there is none.
func (b *book) edge(from, to incident.Ref) (incident.Edge, bool) {
	for _, e := range b.graph.Edges() {
		if e.From.Same(from) && e.To.Same(to) {
			return e, true
		}
	}
	return incident.Edge{}, false
}

// contains reports whether a subject that stands for many things has another in it.
func contains(scope, r incident.Ref) bool {
	switch scope.Kind {
	case "Cluster":
		return scope.Cluster == "" || r.Cluster == "" || scope.Cluster == r.Cluster
	case "Namespace":
		return r.Namespace == scope.Name
	}
	return false
}

// about reports whether a thing is one of the subjects, or in one of them.
func (b *book) about(r incident.Ref) bool {
	return slices.ContainsFunc(b.Subjects, func(s incident.Ref) bool { return s.Same(r) || contains(s, r) })
}

// concerns reports whether a thing is a subject or something a subject depends
// on. Without subjects everything concerns.
func (b *book) concerns(r incident.Ref) bool {
	if len(b.Subjects) == 0 || b.about(r) {
		return true
	}
	return slices.ContainsFunc(b.Subjects, func(s incident.Ref) bool { return b.graph.Path(b.canon(s), r) != nil })
}

// symptoms lists the symptom findings that want an explanation.
func (b *book) symptoms() []incident.Finding {
	var out []incident.Finding
	for _, f := range b.Findings {
		if f.Role == incident.Symptom && f.Score() >= decent && b.concerns(f.Subject) {
			out = append(out, f)
		}
	}
	return out
}

// trouble lists what speaks against "healthy": trouble on the subjects
// themselves, and symptoms on what they depend on.
func (b *book) trouble() []incident.Finding {
	out := b.symptoms()
	for _, f := range b.Findings {
		if f.Role == incident.Fault && f.Score() >= decent && b.about(f.Subject) {
			out = append(out, f)
		}
	}
	return out
}

// exhibit is one piece of evidence, searchable.
type exhibit struct {
	ev   incident.Evidence
	full func(string) (string, json.RawMessage, bool)

	ready   bool
	text    string
	lower   string
	figures map[string]bool
}

func (x *exhibit) open() {
	if x.ready {
		return
	}
	x.ready = true
	text, data := x.ev.Text, x.ev.Data
	if x.full != nil {
		if t, d, ok := x.full(x.ev.ID); ok {
			text, data = t, d
		}
	}
	x.text = strings.Join([]string{text, leaves(data), leaves(x.ev.Args), x.ev.Cluster}, "\n")
	x.lower = strings.ToLower(oneLine(x.text))
	x.figures = map[string]bool{}
	for _, n := range figures(x.text) {
		x.figures[n] = true
	}
}

func (b *book) any(cited []string, has func(*exhibit) bool) bool {
	for _, id := range cited {
		if x := b.exhibits[id]; x != nil && x.ev.Error == "" {
			x.open()
			if has(x) {
				return true
			}
		}
	}
	return false
}

// names reports whether one of the cited evidences holds a name as a whole word.
func (b *book) names(cited []string, name string) bool {
	return b.any(cited, func(x *exhibit) bool { return hasToken(x.text, name) })
}

// says reports whether one of the cited evidences holds a text, in any case and
// with any white space.
func (b *book) says(cited []string, text string) bool {
	text = strings.ToLower(oneLine(text))
	return b.any(cited, func(x *exhibit) bool { return strings.Contains(x.lower, text) })
}

func (b *book) counts(cited []string, figure string) bool {
	return b.any(cited, func(x *exhibit) bool { return x.figures[figure] })
}

// good lists the ids of all evidence that is no error.
func (b *book) good() []string {
	var out []string
	for _, ev := range b.Evidence {
		if ev.Error == "" {
			out = append(out, ev.ID)
		}
	}
	return out
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
