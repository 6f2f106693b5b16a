package triage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/investigate"
	"github.com/gumshoe-ai/gumshoe/agent/redact"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/runbooks"
)

// lab is a toolset over a made world: what each thing says of itself and what it
// depends on. Its tools are real ones, called through the real ledger, so what
// triage sees is what any toolset gives.
type lab struct {
	t      testing.TB
	name   string
	status tool.Status
	things map[incident.Ref]*thing
	order  []incident.Ref
	// blind are kinds that no check judges.
	blind []string
	// noResolver makes a toolset that cannot look names up, lookup one that fails.
	noResolver bool
	lookup     error

	mu     sync.Mutex
	calls  []string
	lookTo func(incident.Ref)
}

type thing struct {
	findings []incident.Finding
	edges    []incident.Edge
	fail     error
}

const cluster = "lab"

// relations that the lab's check follows.
func relations() []string {
	return []string{"needs", "runs-on", "class", "offered-by", "owns", "grouped-with"}
}

func newLab(t testing.TB) *lab {
	return &lab{t: t, name: "lab", status: tool.Status{State: tool.Ready}, things: map[incident.Ref]*thing{}}
}

// ref reads "Pod train/a-0" or "Node n1".
func ref(s string) incident.Ref {
	kind, path, _ := strings.Cut(s, " ")
	r := incident.Ref{Cluster: cluster, Kind: kind, Name: path}
	if ns, name, ok := strings.Cut(path, "/"); ok {
		r.Namespace, r.Name = ns, name
	}
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet":
		r.Group = "apps"
	case "Job", "CronJob":
		r.Group = "batch"
	case "ResourceClaim", "DeviceClass":
		r.Group = "resource.k8s.io"
	}
	return r
}

func (l *lab) at(s string) *thing {
	r := ref(s)
	if l.things[r] == nil {
		l.things[r] = &thing{}
		l.order = append(l.order, r)
	}
	return l.things[r]
}

// exist puts healthy things there.
func (l *lab) exist(names ...string) *lab {
	for _, n := range names {
		l.at(n)
	}
	return l
}

// says adds a finding: "symptom", "fault", "context" or "history" of a code, with
// a confidence; 0.9 and more is critical, 0.3 and less informative.
func (l *lab) says(on, role, code string, confidence float64, params ...string) *lab {
	f := incident.Finding{Code: "lab." + code, Role: incident.Role(role), Subject: ref(on), Confidence: confidence, Severity: incident.Warning,
		Message: fmt.Sprintf("%s: %s", ref(on), strings.ReplaceAll(code, "_", " ")), Params: map[string]string{}}
	switch {
	case confidence >= 0.9:
		f.Severity = incident.Critical
	case confidence <= 0.3:
		f.Severity = incident.Info
	}
	for i := 0; i+1 < len(params); i += 2 {
		f.Params[params[i]] = params[i+1]
	}
	l.at(on).findings = append(l.at(on).findings, f)
	return l
}

// from makes the last finding of a thing begin at a time.
func (l *lab) from(on string, at time.Time) *lab {
	fs := l.at(on).findings
	fs[len(fs)-1].FirstSeen = at
	return l
}

// edge reads "Pod train/a-0 -needs-> ResourceClaim train/c".
func (l *lab) edge(lines ...string) *lab {
	for _, line := range lines {
		from, rest, ok := strings.Cut(line, " -")
		relation, to, ok2 := strings.Cut(rest, "-> ")
		if !ok || !ok2 {
			l.t.Fatalf("no edge: %q", line)
		}
		l.at(to)
		l.at(from).edges = append(l.at(from).edges, incident.Edge{From: ref(from), Relation: relation, To: ref(to)})
	}
	return l
}

// fails makes every look at a thing fail.
func (l *lab) fails(on string, kind tool.Kind, user string) *lab {
	l.at(on).fail = &tool.Error{Kind: kind, User: user}
	return l
}

var (
	_ tool.Toolset  = (*lab)(nil)
	_ tool.Checker  = (*lab)(nil)
	_ tool.Resolver = labResolver{}
)

// labResolver is a lab that can look names up.
type labResolver struct{ *lab }

func (l *lab) toolset() tool.Toolset {
	if l.noResolver {
		return l
	}
	return labResolver{l}
}

func (l *lab) Name() string                       { return l.name }
func (l *lab) Status(context.Context) tool.Status { return l.status }

type lookIn struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

type lookOut struct {
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Problems []string `json:"problems"`
	Needs    []string `json:"needs"`
}

func (l *lab) Tools() []tool.Tool {
	var out []tool.Tool
	for _, name := range []string{"look", "survey", "more"} {
		f, err := tool.New(tool.Info{Name: l.name + "_" + name, Text: "Looks at a thing.", Effect: tool.Read}, func(ctx context.Context, in lookIn) (tool.Output[lookOut], error) {
			l.mu.Lock()
			l.calls = append(l.calls, strings.TrimSpace(name+" "+in.Kind+" "+strings.TrimPrefix(in.Namespace+"/"+in.Name, "/")))
			l.mu.Unlock()
			if err := ctx.Err(); err != nil {
				return tool.Output[lookOut]{}, err
			}
			return l.look(name, in)
		})
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func (l *lab) look(name string, in lookIn) (tool.Output[lookOut], error) {
	out := tool.Output[lookOut]{Data: lookOut{Kind: in.Kind, Name: in.Name, Problems: []string{}, Needs: []string{}}}
	var text []string
	for _, r := range l.order {
		th := l.things[r]
		mine := r.Kind == in.Kind && r.Namespace == in.Namespace && r.Name == in.Name
		if name == "survey" {
			mine = mine || in.Kind == "Cluster" || r.Namespace == in.Name
		}
		if !mine {
			continue
		}
		if l.lookTo != nil {
			l.lookTo(r)
		}
		if th.fail != nil {
			return tool.Output[lookOut]{}, th.fail
		}
		text = append(text, r.String())
		for _, f := range th.findings {
			out.Findings = append(out.Findings, f)
			out.Data.Problems = append(out.Data.Problems, f.Code)
			text = append(text, f.Message)
		}
		if name == "survey" {
			continue
		}
		for _, e := range th.edges {
			out.Edges = append(out.Edges, e)
			out.Data.Needs = append(out.Data.Needs, e.To.Name)
			text = append(text, e.Relation+" "+e.To.String())
		}
	}
	out.Text = strings.Join(text, "\n")
	if len(text) == 0 && in.Kind != "Cluster" {
		return out, tool.Errorf(tool.NotFound, "%s %s does not exist", in.Kind, in.Name)
	}
	return out, nil
}

func (l *lab) Checks() []tool.Check {
	survey := func(r incident.Ref) bool { return r.Kind == "Namespace" || r.Kind == "Cluster" }
	args := func(r incident.Ref) any { return lookIn{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name} }
	return []tool.Check{
		{Name: "thing", Tool: l.name + "_look", Args: args, Follow: relations(), Applies: func(r incident.Ref) bool { return !survey(r) && !slices.Contains(l.blind, r.Kind) }},
		{Name: "survey", Tool: l.name + "_survey", Args: args, Survey: true, Applies: survey},
	}
}

// Resolve finds exact names; near are those that begin alike or differ in case.
func (l labResolver) Resolve(ctx context.Context, m tool.Mention) (tool.Resolution, error) {
	l.mu.Lock()
	l.calls = append(l.calls, strings.Join(strings.Fields("resolve "+m.Kind+" "+m.Namespace+" "+m.Name), " "))
	l.mu.Unlock()
	if l.lookup != nil {
		return tool.Resolution{}, l.lookup
	}
	if err := ctx.Err(); err != nil {
		return tool.Resolution{}, err
	}
	var res tool.Resolution
	namespaces := map[string]bool{}
	for _, r := range l.order {
		namespaces[r.Namespace] = true
		if r.Kind == "Namespace" {
			namespaces[r.Name] = true
		}
	}
	res.NoNamespace = m.Namespace != "" && !namespaces[m.Namespace]
	for _, r := range l.order {
		if m.Kind != "" && !strings.EqualFold(m.Kind, r.Kind) {
			continue
		}
		inPlace := m.Namespace == "" || r.Namespace == "" || r.Namespace == m.Namespace
		switch {
		case r.Name == m.Name && inPlace:
			res.Exact = append(res.Exact, r)
		case len(m.Name) > 3 && len(r.Name) > 3 && r.Name[:4] == m.Name[:4]:
			res.Near = append(res.Near, r)
		}
	}
	if len(res.Exact) > 0 {
		res.Near = nil
	}
	return res, nil
}

// called lists the calls whose line begins with a word, in a stable order.
func (l *lab) called(word string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, c := range l.calls {
		if strings.HasPrefix(c, word+" ") {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

// setup of one assessment.
type setup struct {
	limits Limits
	books  []string
	more   []tool.Toolset
	ctx    context.Context
}

func (l *lab) library(books []string) Library {
	if len(books) == 0 {
		return nil
	}
	files := fstest.MapFS{}
	for i, b := range books {
		files[fmt.Sprintf("b%d.md", i)] = &fstest.MapFile{Data: []byte("---\n" + b + "\n---\n")}
	}
	lib, err := runbooks.Load(files)
	if err != nil {
		l.t.Fatal(err)
	}
	return lib
}

// try assesses a question; the ledger is the one of real runs.
func (l *lab) try(q incident.Question, s setup) (incident.Assessment, *investigate.Ledger, error) {
	l.t.Helper()
	led, err := investigate.NewLedger(investigate.LedgerConfig{Cluster: cluster, Redactor: redact.New(), Now: func() time.Time { return time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC) }})
	if err != nil {
		l.t.Fatal(err)
	}
	sets := append([]tool.Toolset{l.toolset()}, s.more...)
	for _, ts := range sets {
		if ts.Status(l.t.Context()).State == tool.Ready {
			if err := led.Register(ts.Tools()...); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	ctx := s.ctx
	if ctx == nil {
		ctx = l.t.Context()
	}
	a, err := New(Config{Cluster: cluster, Toolsets: sets, Library: l.library(s.books), Limits: s.limits}).Assess(ctx, q, led)
	return a, led, err
}

// assess answers a question and holds the answer against the validator that every
// answer goes through.
func (l *lab) assess(q incident.Question, s setup) incident.Assessment {
	l.t.Helper()
	a, led, err := l.try(q, s)
	if err != nil {
		l.t.Fatal(err)
	}
	v := investigate.Validate(a.Diagnosis, investigate.Grounds{Subjects: a.Subjects, Evidence: led.Evidence(), Full: led.Full, Findings: led.Findings(),
		Edges: slices.Concat(led.Edges(), a.Edges), Vouched: a.Diagnosis})
	if !v.OK() {
		l.t.Errorf("%q: the validator refuses: %v", q.Text, v.Strings())
	}
	return a
}

// ask assesses a text and writes the answer on a few lines.
func (l *lab) ask(text string, s ...setup) string {
	l.t.Helper()
	return answer(l.assess(incident.Question{Text: text}, append(s, setup{})[0]))
}

// answer writes what a person would be told:
//
//	root_cause
//	cause lab.x on Pod train/a 0.90 [E2]
//	explains Pod train/b
func answer(a incident.Assessment) string {
	d := a.Diagnosis
	lines := []string{string(d.Outcome)}
	for _, c := range d.Causes {
		lines = append(lines, fmt.Sprintf("cause %s on %s %.2f", c.Code, c.Subject, c.Confidence))
	}
	for _, f := range d.Unexplained {
		lines = append(lines, fmt.Sprintf("unexplained %s on %s", f.Code, f.Subject))
	}
	for _, r := range d.RuledOut {
		lines = append(lines, fmt.Sprintf("ruled out %s: %s", r.What, r.Why))
	}
	for _, g := range d.NotSeen {
		lines = append(lines, fmt.Sprintf("not seen %s: %s", g.Source, g.Why))
	}
	if d.Ask != nil {
		lines = append(lines, "says "+d.Ask.Text)
	}
	return strings.Join(lines, "\n")
}

func lines(s ...string) string { return strings.Join(s, "\n") }
