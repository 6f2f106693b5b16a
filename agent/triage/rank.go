package triage

import (
	"cmp"
	"slices"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// candidate is a possible cause while it is weighed.
type candidate struct {
	cause    incident.Cause
	severity incident.Severity
	finding  incident.Finding
	// root and depth say from which subject asked about the cause is reached
	// and over how many edges; depth is -1 when no way leads there.
	root  incident.Ref
	depth int
	// under is set when a deeper or more telling cause explains this one.
	under *candidate
	score float64
	// proposals the runbook that named the cause makes.
	proposals []incident.Proposal
	// revert is the part of a pod template that brings it about, as the runbook says.
	revert  string
	refuted []incident.Refutation
}

// Weights of the ranking. They are judgements, kept together so that they can
// be argued about: evidence first, then how directly the cause is tied to what
// was asked.
const (
	// strong is the score from which a fault explains what depends on it.
	strong = 0.5
	// unconnected multiplies the score of a fault no edge ties to the question.
	unconnected = 0.4
	// slack is by how much less a deeper fault may be supported than what it
	// explains: a node's mild trouble does not explain that an image is not found.
	slack = 0.05
	// criticalSlack is that of a critical fault: what stops a node outright is
	// often less sure than the words of the program that suffers.
	criticalSlack = 0.16
)

// rank orders the candidates: what explains others before what is explained,
// then by score, nearness in the evidence, and name.
func (s *session) rank(cands []*candidate) []*candidate {
	for _, c := range cands {
		c.root, c.depth = s.reach(c.cause.Subject)
		c.score = c.cause.Confidence
		if c.depth < 0 {
			c.score *= unconnected
		}
	}
	for _, c := range cands {
		c.under = s.explainer(c, cands)
	}
	slices.SortStableFunc(cands, func(a, b *candidate) int {
		if d := cmp.Compare(bool2int(a.under != nil), bool2int(b.under != nil)); d != 0 {
			return d
		}
		if d := cmp.Compare(b.score, a.score); d != 0 {
			return d
		}
		if d := cmp.Compare(b.severity.Weight(), a.severity.Weight()); d != 0 {
			return d
		}
		if d := cmp.Compare(b.depth, a.depth); d != 0 {
			return d
		}
		if a.cause.Subject != b.cause.Subject {
			if a.cause.Subject.Less(b.cause.Subject) {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.cause.Code, b.cause.Code)
	})
	return s.ownFirst(cands)
}

// ownFirst puts a cause that lies within a subject before faults of what the
// subject runs on: those may be true, and they are not why.
func (s *session) ownFirst(cands []*candidate) []*candidate {
	for i := 1; i < len(cands); i++ {
		c := cands[i]
		if c.under != nil || c.finding.Params["within"] == "" || c.cause.Confidence < strong {
			continue
		}
		to := slices.IndexFunc(cands[:i], func(o *candidate) bool {
			way := s.graph.Path(c.cause.Subject, o.cause.Subject)
			return way != nil && beneath(way)
		})
		if to >= 0 {
			cands = slices.Insert(slices.Delete(cands, i, i+1), to, c)
		}
	}
	return cands
}

// explainer finds a candidate on something that c's subject depends on and that
// is about as well supported, or more severe. On one and the same subject the
// more severe explains the milder: that a container was killed for memory
// explains that it restarts.
func (s *session) explainer(c *candidate, all []*candidate) *candidate {
	var best *candidate
	for _, o := range all {
		if o == c || o.cause.Confidence < strong || !notLater(o, c) {
			continue
		}
		if o.cause.Subject == c.cause.Subject {
			if o.severity.Weight() > c.severity.Weight() && (best == nil || o.score > best.score) {
				best = o
			}
			continue
		}
		there := s.graph.Path(c.cause.Subject, o.cause.Subject)
		if there != nil && c.finding.Params["within"] != "" && beneath(there) {
			continue
		}
		severer := o.severity.Weight() > c.severity.Weight()
		allowed := slack
		if o.severity == incident.Critical || c.finding.Params["below"] != "" && beneath(there) {
			allowed = criticalSlack
		}
		// What is not there is explained by what should have made it, however sure.
		if c.finding.Params["made_by"] != "" {
			allowed = 1
		}
		if !s.depends(c.cause.Subject, o.cause.Subject) || o.cause.Confidence+allowed < c.cause.Confidence && !severer {
			continue
		}
		// Two things that depend on each other explain nothing: keep both.
		// That an agent runs on the node which fails for want of it is no such circle,
		// nor that the victim of a peer is owned by the same job as the peer.
		if s.depends(o.cause.Subject, c.cause.Subject) && !severer && !s.agentOf(o, c) && !s.victimOf(c, o) {
			continue
		}
		if best == nil || o.score > best.score {
			best = o
		}
	}
	return best
}

// beneath reports whether a way leads to the machine that a thing runs on. A fault
// whose cause lies within the program, its image or its limits (param "within") is
// not explained from there: a node in trouble writes no wrong configuration.
func beneath(way []incident.Edge) bool {
	return slices.ContainsFunc(way, func(e incident.Edge) bool { return e.Relation == graph.RunsOn })
}

// byAgent reports whether a fault of a node is the work of an agent on it: a
// driver's plugin, a network agent.
func byAgent(f incident.Finding) bool {
	return f.Params["driver"] != "" || f.Params["agents"] != ""
}

// agentOf reports whether o sits on an agent that runs on the node which c is
// about, and whose work c's fault is.
func (s *session) agentOf(o, c *candidate) bool {
	back := s.graph.Path(o.cause.Subject, c.cause.Subject)
	return byAgent(c.finding) && len(back) == 1 && beneath(back)
}

// victimOf reports whether c's subject is known to suffer from its peer, o's
// subject, and not the other way round.
func (s *session) victimOf(c, o *candidate) bool {
	suffers := func(from, to incident.Ref) bool {
		way := s.graph.Path(from, to)
		return len(way) == 1 && way[0].Relation == graph.GroupedWith
	}
	return suffers(c.cause.Subject, o.cause.Subject) && !suffers(o.cause.Subject, c.cause.Subject)
}

// notLater reports whether o may have caused c: a cause does not begin after
// its effect. Unknown times forbid nothing.
func notLater(o, c *candidate) bool {
	a, b := o.finding.FirstSeen, c.finding.FirstSeen
	if a.IsZero() || b.IsZero() {
		return true
	}
	return !a.After(b.Add(time.Hour))
}

// reach gives the nearest subject asked about from which a thing is reached.
func (s *session) reach(to incident.Ref) (incident.Ref, int) {
	best, depth := incident.Ref{}, -1
	for _, r := range s.roots {
		if d, ok := s.below(r)[to]; ok && (depth < 0 || d < depth) {
			best, depth = r, d
		}
	}
	return best, depth
}

// below gives what a thing depends on, remembered: the ranking asks about every
// pair, and a survey of a large cluster has thousands of things.
func (s *session) below(from incident.Ref) map[incident.Ref]int {
	if r, ok := s.reached[from]; ok {
		return r
	}
	r := s.graph.Reach(from)
	s.reached[from] = r
	return r
}

// depends reports whether one thing depends on another.
func (s *session) depends(from, on incident.Ref) bool {
	_, ok := s.below(from)[on]
	return ok && from != on
}

// symptoms lists the symptoms of what was asked about and of what it depends on,
// those on the subjects asked about first.
func (s *session) symptoms() []incident.Finding {
	var out []incident.Finding
	for _, f := range s.findings {
		if _, d := s.reach(f.Subject); f.Role == incident.Symptom && d >= 0 {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b incident.Finding) int {
		return cmp.Compare(bool2int(!slices.Contains(s.roots, a.Subject)), bool2int(!slices.Contains(s.roots, b.Subject)))
	})
	return out
}

// explains reports whether a cause accounts for a symptom: it sits on the same
// thing or on something the thing depends on.
func (s *session) explains(c incident.Ref, symptom incident.Ref) bool {
	return c == symptom || s.depends(symptom, c)
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}
