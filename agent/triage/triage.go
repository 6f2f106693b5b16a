// Package triage is the code-first diagnosis. It resolves what a question is
// about, runs the checks that apply, builds the dependency graph, walks it from
// each symptom to what it depends on until nothing deeper is abnormal, runs the
// runbooks that match, and ranks what it found. It needs no model.
package triage

import (
	"context"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/runbooks"
)

// Library finds the runbooks that fit what was seen.
type Library interface {
	Match(runbooks.Query) []runbooks.Match
}

// Config of a Triage.
type Config struct {
	// Cluster is the name every subject is looked up in.
	Cluster  string
	Toolsets []tool.Toolset
	Library  Library
	// Engine runs the expressions of the runbooks; nil makes one. One that is shared compiles
	// each expression once for all.
	Engine *runbooks.Engine
	// Limits bound the walk; zero fields take DefaultLimits.
	Limits Limits
}

// Limits bound one assessment, so that no graph, however large or looped, keeps
// a person waiting.
type Limits struct {
	// Subjects that may be judged in one walk.
	Subjects int
	// Depth of the walk in edges from the subject asked about.
	Depth int
	// Runbooks whose steps are run.
	Runbooks int
}

// DefaultLimits are the bounds used when Config leaves them out.
func DefaultLimits() Limits { return Limits{Subjects: 48, Depth: 8, Runbooks: 6} }

// Triage assesses questions. It holds no state between assessments.
type Triage struct {
	cluster  string
	toolsets []tool.Toolset
	library  Library
	engine   *runbooks.Engine
	limits   Limits
	words    *vocabulary
}

// New makes a Triage.
func New(cfg Config) *Triage {
	l, d := cfg.Limits, DefaultLimits()
	if l.Subjects <= 0 {
		l.Subjects = d.Subjects
	}
	if l.Depth <= 0 {
		l.Depth = d.Depth
	}
	if l.Runbooks <= 0 {
		l.Runbooks = d.Runbooks
	}
	engine := cfg.Engine
	if engine == nil {
		engine = runbooks.NewEngine()
	}
	return &Triage{cluster: cfg.Cluster, toolsets: cfg.Toolsets, library: cfg.Library, engine: engine, limits: l, words: newVocabulary()}
}

// session is the state of one assessment.
type session struct {
	*Triage
	caller tool.Caller
	ready  []tool.Toolset
	checks []tool.Check

	graph    *graph.Graph
	findings []incident.Finding
	// at finds a finding by code and subject.
	at      map[found]int
	checked []incident.CheckedItem
	gaps    []incident.Gap
	roots   []incident.Ref
	// surveyed are the roots that stand for many things: a namespace, the cluster.
	surveyed map[incident.Ref]bool
	visited  map[incident.Ref]bool
	// unseen are the roots of which a check failed: they are not known to be healthy.
	unseen map[incident.Ref]bool
	// reached remembers what each thing depends on once the graph is complete.
	reached map[incident.Ref]map[incident.Ref]int
}

type found struct {
	code    string
	subject incident.Ref
}

// Assess answers a question from what code alone can see. The error is non-nil
// only when nothing could be asked at all (ctx ended, cluster unreachable);
// everything else is an assessment, if need be an inconclusive one.
func (t *Triage) Assess(ctx context.Context, q incident.Question, caller tool.Caller) (incident.Assessment, error) {
	s := &session{
		Triage: t, caller: caller, graph: graph.New(), at: map[found]int{},
		surveyed: map[incident.Ref]bool{}, visited: map[incident.Ref]bool{}, unseen: map[incident.Ref]bool{},
	}
	for _, ts := range t.toolsets {
		if ts.Status(ctx).State != tool.Ready {
			continue
		}
		s.ready = append(s.ready, ts)
		if c, ok := ts.(tool.Checker); ok {
			s.checks = append(s.checks, c.Checks()...)
		}
	}
	r := s.words.read(worded(q))
	if q.Alert == nil && r.alert != nil {
		q.Alert = r.alert
	}
	roots, ask, err := s.resolve(ctx, q, r)
	if err != nil {
		return incident.Assessment{}, err
	}
	if len(roots) == 0 {
		return incident.Assessment{Diagnosis: incident.Diagnosis{Outcome: incident.Inconclusive, Ask: ask, Checked: s.checked, NotSeen: s.gaps}}, nil
	}
	s.roots = roots
	for _, c := range s.checks {
		for _, ref := range roots {
			s.surveyed[ref] = s.surveyed[ref] || c.Survey && c.Applies(ref)
		}
	}
	if err := s.walk(ctx); err != nil {
		return incident.Assessment{}, err
	}
	fired, err := s.runRunbooks(ctx, q, r)
	if err != nil {
		return incident.Assessment{}, err
	}
	a := s.conclude(fired)
	a.Diagnosis.Ask = ask
	alert := q.Alert
	if alert == nil {
		alert = r.alert
	}
	unmeasured(alert, &a.Diagnosis)
	return a, nil
}

// worded adds the prose of an alert to a question, for alerts whose labels name
// nothing.
func worded(q incident.Question) incident.Question {
	if q.Alert == nil {
		return q
	}
	for _, k := range []string{"summary", "description", "message"} {
		if t := q.Alert.Annotations[k]; t != "" {
			q.Text += "\n" + t
		}
	}
	return q
}

// unreachable reports whether an error means that nothing more can be asked.
func unreachable(err error) bool {
	return tool.KindOf(err) == tool.Unreachable
}
