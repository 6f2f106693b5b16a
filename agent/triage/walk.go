package triage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// look is one check of one subject and what it answered.
type look struct {
	subject incident.Ref
	check   tool.Check
	ev      incident.Evidence
	res     tool.Result
}

// walk judges the subjects level by level. A subject is entered when it was
// asked about or when something abnormal leads to it; what it depends on is
// followed only while it is itself abnormal, so a healthy dependency ends the
// way and a large cluster is not read through. What the limits leave out is said.
func (s *session) walk(ctx context.Context) error {
	level := slices.Clone(s.roots)
	left := map[incident.Ref]bool{}
	for depth := 0; len(level) > 0; depth++ {
		var subjects []incident.Ref
		for _, ref := range level {
			switch {
			case s.visited[ref]:
			case len(s.visited) >= s.limits.Subjects || depth > s.limits.Depth:
				left[ref] = s.judged(ref)
			default:
				s.visited[ref] = true
				subjects = append(subjects, ref)
			}
		}
		looks, err := s.lookAll(ctx, subjects)
		if err != nil {
			return err
		}
		if depth == 0 {
			s.unjudged(subjects, looks)
		}
		level = s.next(looks, depth)
	}
	n := 0
	for ref, counts := range left {
		if counts && !s.visited[ref] {
			n++
		}
	}
	if n > 0 {
		s.gap(incident.Gap{Source: fmt.Sprintf("%d more things", n), Why: fmt.Sprintf("the walk ends after %d subjects and %d edges", s.limits.Subjects, s.limits.Depth), Fix: "ask about a smaller part"})
	}
	return ctx.Err()
}

// judged reports whether any check judges a thing.
func (s *session) judged(ref incident.Ref) bool {
	return slices.ContainsFunc(s.checks, func(c tool.Check) bool { return c.Applies(ref) })
}

// unjudged says of what was asked about that nothing here can judge it.
func (s *session) unjudged(roots []incident.Ref, looks []look) {
	for _, ref := range roots {
		if !slices.ContainsFunc(looks, func(l look) bool { return l.subject == ref }) {
			s.gap(incident.Gap{Source: ref.String(), Why: "no check judges a " + ref.Kind})
		}
	}
}

// lookAll runs the checks of the subjects in parallel and takes the answers in
// over a fixed order, so that the same cluster gives the same report.
func (s *session) lookAll(ctx context.Context, subjects []incident.Ref) ([]look, error) {
	var looks []look
	for _, ref := range subjects {
		for _, c := range s.checks {
			if c.Applies(ref) {
				looks = append(looks, look{subject: ref, check: c})
			}
		}
	}
	names, args := make([]string, len(looks)), make([]any, len(looks))
	for i, l := range looks {
		names[i], args[i] = l.check.Tool, l.check.Args(l.subject)
	}
	evs, ress := s.callAll(ctx, names, args)
	for i := range looks {
		looks[i].ev, looks[i].res = evs[i], ress[i]
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	failed := 0
	for i := range looks {
		s.take(&looks[i])
		if looks[i].ev.ErrorKind == string(tool.Unreachable) {
			failed++
		}
	}
	if failed > 0 && failed == len(looks) && len(s.findings) == 0 {
		return nil, &tool.Error{Kind: tool.Unreachable, User: looks[0].ev.Error}
	}
	return looks, nil
}

// batchCaller is a caller that runs several calls at once and numbers their
// evidence in the order given.
type batchCaller interface {
	CallAll(ctx context.Context, names []string, args []any) ([]incident.Evidence, []tool.Result)
}

// callAll uses the caller's own batches, or calls one by one.
func (s *session) callAll(ctx context.Context, names []string, args []any) ([]incident.Evidence, []tool.Result) {
	if b, ok := s.caller.(batchCaller); ok {
		return b.CallAll(ctx, names, args)
	}
	evs, ress := make([]incident.Evidence, len(names)), make([]tool.Result, len(names))
	for i := range names {
		evs[i], ress[i] = s.caller.Call(ctx, names[i], args[i])
	}
	return evs, ress
}

// take puts one answer into the session.
func (s *session) take(l *look) {
	what := l.check.Name + " " + l.subject.Path()
	if l.ev.Error != "" {
		s.gap(incident.Gap{Source: what, Why: l.ev.Error})
		if l.ev.ErrorKind != string(tool.NotServed) && slices.Contains(s.roots, l.subject) {
			s.unseen[l.subject] = true
		}
		return
	}
	s.addFindings(l.res.Findings)
	s.graph.Add(l.res.Edges...)
	result := "nothing abnormal"
	if n := countAbnormal(l.res.Findings); n > 0 {
		result = fmt.Sprintf("%d abnormal", n)
	}
	s.checked = append(s.checked, incident.CheckedItem{What: what, Result: result, Subject: l.subject, Evidence: []string{l.ev.ID}})
}

// addFindings merges findings: the same code on the same subject from two looks
// is one finding with both evidences.
func (s *session) addFindings(fs []incident.Finding) {
	for _, f := range fs {
		k := found{f.Code, f.Subject}
		i, known := s.at[k]
		if !known {
			s.at[k] = len(s.findings)
			f.Evidence = slices.Clone(f.Evidence)
			s.findings = append(s.findings, f)
			continue
		}
		o := &s.findings[i]
		o.Evidence = appendNew(o.Evidence, f.Evidence...)
		if f.Score() > o.Score() {
			f.Evidence = o.Evidence
			*o = f
		}
	}
}

// next lists what the abnormal subjects of a level depend on.
func (s *session) next(looks []look, depth int) []incident.Ref {
	var out []incident.Ref
	seen := map[incident.Ref]bool{}
	add := func(ref incident.Ref) {
		if !seen[ref] {
			seen[ref] = true
			out = append(out, ref)
		}
	}
	for _, l := range looks {
		if l.ev.Error != "" {
			continue
		}
		if l.check.Survey {
			// A survey names other things: those in trouble are entered, the worst first.
			worst := slices.DeleteFunc(slices.Clone(l.res.Findings), func(f incident.Finding) bool { return !abnormal(f) || f.Subject == l.subject })
			slices.SortStableFunc(worst, func(a, b incident.Finding) int { return b.Severity.Weight() - a.Severity.Weight() })
			for _, f := range worst {
				s.graph.Add(incident.Edge{From: l.subject, Relation: graph.Contains, To: f.Subject, Evidence: f.Evidence})
				add(f.Subject)
			}
			continue
		}
		if depth > 0 && !l.check.Through && !s.sick(l.subject) {
			continue
		}
		for _, rel := range l.check.Follow {
			for _, e := range s.graph.Out(l.subject) {
				if e.Relation == rel {
					add(e.To)
					for _, further := range s.past(e.To, l.check.Follow) {
						add(further)
					}
				}
			}
		}
	}
	return out
}

// past gives what a thing leads to that no check judges, a Secret that is not there
// for one: the walk would end at it.
func (s *session) past(r incident.Ref, follow []string) []incident.Ref {
	if slices.ContainsFunc(s.checks, func(c tool.Check) bool { return c.Applies(r) }) {
		return nil
	}
	var out []incident.Ref
	for _, e := range s.graph.Out(r) {
		if slices.Contains(follow, e.Relation) {
			out = append(out, e.To)
		}
	}
	return out
}

// sick reports whether something is wrong with the subject now.
func (s *session) sick(r incident.Ref) bool {
	return slices.ContainsFunc(s.findings, func(f incident.Finding) bool { return f.Subject == r && abnormal(f) })
}

// abnormal reports whether a finding is trouble now.
func abnormal(f incident.Finding) bool {
	return f.Role == incident.Symptom || f.Role == incident.Fault
}

func countAbnormal(fs []incident.Finding) int {
	n := 0
	for _, f := range fs {
		if abnormal(f) {
			n++
		}
	}
	return n
}

// gap records what could not be seen, once.
func (s *session) gap(g incident.Gap) {
	if g.Why != "" && !slices.Contains(s.gaps, g) {
		s.gaps = append(s.gaps, g)
	}
}

// data decodes the typed output of a piece of evidence into plain values.
func data(raw json.RawMessage) any {
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	var v any
	if err := d.Decode(&v); err != nil {
		return nil
	}
	return v
}
