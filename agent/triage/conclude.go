package triage

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// maxCauses bounds how many independent causes one answer names.
const maxCauses = 5

// conclude turns findings and runbook verdicts into the assessment.
func (s *session) conclude(fired []*candidate) incident.Assessment {
	s.reached = map[incident.Ref]map[incident.Ref]int{} // the graph is complete
	cands := s.rank(s.candidates(fired))
	hist := s.history()
	symptoms := s.symptoms()
	d := incident.Diagnosis{Checked: s.checked, NotSeen: s.gaps, Causes: []incident.Cause{}, Chain: []incident.Edge{}, Proposals: []incident.Proposal{}}

	picked := s.pick(cands, symptoms)
	switch {
	case len(picked) > 0:
		d.Outcome = incident.RootCause
		s.fill(&d, picked, symptoms)
	case len(symptoms) > 0:
		d.Outcome = incident.Inconclusive
		d.Unexplained = symptoms
	case len(s.checked) == 0 || len(s.unseen) > 0:
		// What could not be looked at is not known to be well.
		d.Outcome = incident.Inconclusive
	case len(hist) > 0 && s.rooted(hist):
		d.Outcome = incident.Recovered
		for _, f := range hist {
			d.Checked = append(d.Checked, incident.CheckedItem{What: "history of " + f.Subject.Path(), Result: f.Message, Subject: f.Subject, Evidence: f.Evidence})
		}
	default:
		d.Outcome = incident.Healthy
	}
	a := incident.Assessment{Subjects: s.roots, Findings: s.findings, Edges: s.graph.Edges(), Diagnosis: d}
	for _, c := range cands {
		h := incident.Hypothesis{Cause: c.cause}
		h.Cause.Confidence = round(c.score)
		if c.under != nil {
			h.RuledBy = append(h.RuledBy, incident.Refutation{Code: c.under.cause.Code, What: c.cause.Statement, Why: "a consequence of: " + c.under.cause.Statement, Evidence: c.under.cause.Evidence})
		}
		a.Hypotheses = append(a.Hypotheses, h)
	}
	return a
}

// measured are alerts about a quantity, which the objects of a cluster do not show.
var measured = regexp.MustCompile(`(?i)filling|outofspace|almostout|spacelow|diskfull|throttl|latency|errorbudget|burn|saturat|overcommit|temperature|memory(?:usage|high|pressure)|cpu(?:usage|high)|high(?:memory|cpu|load)|errorrate|errors?high|5xx|4xx|slow|utili[sz]ation|\becc|xid|nvlink|dcgm|clockevent|iops|inode`)

// unmeasured takes back that all is well, where an alert speaks of a quantity that
// nothing here has read.
func unmeasured(a *incident.Alert, d *incident.Diagnosis) {
	if a == nil || d.Outcome != incident.Healthy || !measured.MatchString(a.Name) {
		return
	}
	d.Outcome = incident.Inconclusive
	d.NotSeen = append(d.NotSeen, incident.Gap{Source: "what alert " + a.Name + " measures", Why: "it is about a quantity that the objects of the cluster do not show; they show nothing abnormal", Fix: "connect the source of the metric"})
}

// candidates merges the faults that were found with what runbooks say about
// them; a runbook's words and rivals stand over the bare finding.
func (s *session) candidates(fired []*candidate) []*candidate {
	out := slices.Clone(fired)
	for _, f := range s.findings {
		if f.Role != incident.Fault {
			continue
		}
		named := false
		for _, c := range fired {
			// A runbook may give the fault another code or blame something else for it.
			if c.cause.Code == f.Code && c.cause.Subject == f.Subject || c.finding.Code == f.Code && c.finding.Subject == f.Subject {
				named = true
				c.cause.Evidence = appendNew(c.cause.Evidence, f.Evidence...)
				if c.finding.Code == "" {
					c.finding, c.severity = f, f.Severity
				}
			}
		}
		if !named {
			out = append(out, &candidate{finding: f, severity: f.Severity, cause: incident.Cause{
				Subject: f.Subject, Code: f.Code, Statement: f.Message, Confidence: f.Score(), Evidence: slices.Clone(f.Evidence),
			}})
		}
	}
	return out
}

// pick takes the causes that stand: not explained by another, tied to what was
// asked, well supported, and each accounting for a symptom that no earlier one
// accounts for. A fault without any symptom counts when it is on a subject asked
// about, is one a survey turned up, or is critical and directly beneath the
// subject.
func (s *session) pick(cands []*candidate, symptoms []incident.Finding) []*candidate {
	open := map[incident.Ref]bool{}
	for _, f := range symptoms {
		open[f.Subject] = true
	}
	if len(symptoms) == 0 {
		// A fault on what was asked about wants an explanation as a symptom does.
		for _, r := range s.roots {
			if s.sick(r) {
				open[r] = true
			}
		}
	}
	var out []*candidate
	for _, c := range cands {
		if c.under != nil || c.depth < 0 || len(out) == maxCauses {
			continue
		}
		stands := false
		switch {
		case c.score < strong:
			// True, but not shown to stand in the way: it is an answer only where it
			// was asked about and nothing else is wrong.
			stands = len(symptoms) == 0 && c.depth == 0
		case s.closes(c, open, cands):
			stands = true
		case len(symptoms) == 0 && (c.depth == 0 || c.depth == 1 && c.severity == incident.Critical):
			stands = true
		case s.turnedUp(c) && !s.beside(c, out):
			stands = true
		case len(out) > 0 && c.score >= out[0].score-0.02 && s.sameSymptom(c, out[0], symptoms):
			// As well supported as the first and about the same symptom: both are
			// named, since removing one alone would not help.
			stands = true
		}
		if stands {
			out = append(out, c)
		}
	}
	return out
}

// closes takes the symptoms that a cause accounts for out of the open ones, and
// reports whether there was one. A cause that began long after another that also
// accounts for a symptom leaves it to that one.
func (s *session) closes(c *candidate, open map[incident.Ref]bool, all []*candidate) bool {
	closed := false
	for ref := range open {
		if !s.explains(c.cause.Subject, ref) {
			continue
		}
		earlier := slices.ContainsFunc(all, func(o *candidate) bool {
			return o != c && o.under == nil && o.score >= strong && !notLater(c, o) && s.explains(o.cause.Subject, ref)
		})
		if !earlier {
			closed = true
			delete(open, ref)
		}
	}
	return closed
}

// turnedUp reports whether a survey that was asked for leads to a cause.
func (s *session) turnedUp(c *candidate) bool {
	return slices.ContainsFunc(s.roots, func(r incident.Ref) bool { return s.surveyed[r] && s.explains(c.cause.Subject, r) })
}

// beside reports whether a picked cause sits on the same subject already.
func (s *session) beside(c *candidate, picked []*candidate) bool {
	return slices.ContainsFunc(picked, func(o *candidate) bool {
		return o.cause.Subject == c.cause.Subject || s.depends(o.cause.Subject, c.cause.Subject) || s.depends(c.cause.Subject, o.cause.Subject)
	})
}

func (s *session) sameSymptom(a, b *candidate, symptoms []incident.Finding) bool {
	return slices.ContainsFunc(symptoms, func(f incident.Finding) bool {
		return s.explains(a.cause.Subject, f.Subject) && s.explains(b.cause.Subject, f.Subject)
	})
}

// fill writes causes, chain, proposals and what was ruled out.
func (s *session) fill(d *incident.Diagnosis, picked []*candidate, symptoms []incident.Finding) {
	explained := map[incident.Ref]bool{}
	for i, c := range picked {
		cause := c.cause
		cause.Confidence = round(c.score)
		for _, f := range symptoms {
			if s.explains(cause.Subject, f.Subject) && !slices.Contains(cause.Explains, f.Subject) {
				cause.Explains = append(cause.Explains, f.Subject)
				explained[f.Subject] = true
			}
		}
		d.Causes = append(d.Causes, cause)
		for _, e := range s.graph.Path(c.root, cause.Subject) {
			if !slices.ContainsFunc(d.Chain, func(o incident.Edge) bool { return o.From == e.From && o.Relation == e.Relation && o.To == e.To }) {
				d.Chain = append(d.Chain, e)
			}
		}
		if i == 0 {
			d.Chain = append(d.Chain, s.tail(cause.Subject)...)
		}
		for _, p := range slices.Concat(s.reverts(c), c.proposals) {
			if !slices.ContainsFunc(d.Proposals, func(o incident.Proposal) bool {
				return o.Action == p.Action && fmt.Sprint(o.Params) == fmt.Sprint(p.Params)
			}) {
				d.Proposals = append(d.Proposals, p)
			}
		}
		if i == 0 {
			d.RuledOut = c.refuted
		}
		if w := c.finding.Params["would_fit"]; w != "" {
			d.WouldFit = append(d.WouldFit, incident.Claim{Text: w, Evidence: c.finding.Evidence})
		}
	}
	for _, f := range symptoms {
		if !explained[f.Subject] {
			d.Unexplained = append(d.Unexplained, f)
		}
	}
}

// tail continues a chain beyond the cause: from a claim to its class and to
// who offers it, which says what the cause was weighed against.
func (s *session) tail(at incident.Ref) []incident.Edge {
	var out []incident.Edge
	for _, rel := range []string{graph.Class, graph.OfferedBy} {
		i := slices.IndexFunc(s.graph.Out(at), func(e incident.Edge) bool { return e.Relation == rel })
		if i < 0 {
			break
		}
		e := s.graph.Out(at)[i]
		out = append(out, e)
		at = e.To
	}
	return out
}

// history lists what was trouble and is over, on things the walk reached.
func (s *session) history() []incident.Finding {
	var out []incident.Finding
	for _, f := range s.findings {
		if f.Role == incident.History {
			out = append(out, f)
		}
	}
	return out
}

// rooted reports whether a finding is about a subject asked about or something
// it owns: what happened elsewhere does not make the subject "recovered".
func (s *session) rooted(fs []incident.Finding) bool {
	return slices.ContainsFunc(fs, func(f incident.Finding) bool {
		_, d := s.reach(f.Subject)
		return d >= 0 && f.Severity != incident.Info
	})
}

func round(f float64) float64 {
	return float64(int(min(f, 0.99)*100+0.5)) / 100
}

// sentence makes a statement out of a message: one line, no full stop.
func sentence(s string) string {
	return strings.TrimRight(strings.Join(strings.Fields(s), " "), ". ")
}
