package investigate

import (
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// merge joins a model's validated diagnosis with triage's. The model may add,
// reorder and refute, each with evidence; what it merely leaves out stays.
//
// A cause of the model goes before a cause of triage that it does not mention
// only when a fault that code found is behind it and it does not itself depend
// on that cause: the deepest thing wrong comes first.
func merge(triage, model incident.Diagnosis, g Grounds) incident.Diagnosis {
	b := newBook(g)
	var left []incident.Cause
	for _, c := range triage.Causes {
		if !slices.ContainsFunc(model.RuledOut, func(r incident.Refutation) bool { return refutes(r, c) }) {
			left = append(left, c)
		}
	}
	stands := len(left) > 0
	var ahead, behind []incident.Cause
	for _, c := range model.Causes {
		i := slices.IndexFunc(left, func(o incident.Cause) bool { return sameCause(o, c) })
		if i >= 0 {
			ahead = append(ahead, joinCause(left[i], c))
			left = slices.Delete(left, i, i+1)
			continue
		}
		if slices.ContainsFunc(triage.Causes, func(o incident.Cause) bool { return sameCause(o, c) }) && slices.ContainsFunc(model.RuledOut, func(r incident.Refutation) bool { return refutes(r, c) }) {
			continue // named and refuted in one breath
		}
		if b.founded(c) {
			ahead = append(ahead, c)
		} else {
			behind = append(behind, c)
		}
	}
	out := model
	out.Causes = b.deepest(ahead, left)
	out.Causes = append(out.Causes, behind...)
	out.Chain = append(slices.Clone(triage.Chain), model.Chain...)
	if !stands {
		out.Chain = model.Chain
	}
	out.NotSeen, out.Ask, out.WouldFit = triage.NotSeen, triage.Ask, triage.WouldFit
	out.RuledOut = addNew(triage.RuledOut, model.RuledOut, func(a, b incident.Refutation) bool {
		return strings.EqualFold(a.What, b.What)
	})
	out.Checked = addNew(triage.Checked, model.Checked, func(a, b incident.CheckedItem) bool {
		return strings.EqualFold(a.What, b.What)
	})
	if stands || len(triage.Causes) == 0 {
		out.Proposals = addNew(triage.Proposals, model.Proposals, sameProposal)
	}
	out.Unsupported = append(slices.Clone(triage.Unsupported), model.Unsupported...)
	switch {
	case len(out.Causes) > 0 && model.Outcome == incident.Recovered && !stands:
		out.Outcome = incident.Recovered
	case len(out.Causes) > 0:
		out.Outcome = incident.RootCause
	case model.Outcome == incident.Inconclusive && len(triage.Causes) == 0:
		out.Outcome = triage.Outcome
	}
	return out
}

// sameCause reports whether two causes are one: the same thing, and the same
// code or none that code knows.
func sameCause(a, b incident.Cause) bool {
	return a.Subject.Same(b.Subject) && (a.Code == b.Code || !strings.Contains(b.Code, "."))
}

// joinCause keeps the words of code, which are exact, with the model's place,
// confidence and further evidence.
func joinCause(code, model incident.Cause) incident.Cause {
	code.Evidence = union(code.Evidence, model.Evidence)
	if model.Confidence > 0 {
		code.Confidence = model.Confidence
	}
	return code
}

// founded reports whether a fault that code found is behind a cause.
func (b *book) founded(c incident.Cause) bool {
	return slices.ContainsFunc(b.Findings, func(f incident.Finding) bool {
		return f.Role == incident.Fault && f.Subject.Same(c.Subject) && overlap(f.Evidence, c.Evidence)
	})
}

// deepest puts the causes that a model named before those it left alone, except
// where its cause depends on one of them.
func (b *book) deepest(named, left []incident.Cause) []incident.Cause {
	out := []incident.Cause{}
	var late []incident.Cause
	for _, c := range named {
		if slices.ContainsFunc(left, func(o incident.Cause) bool { return b.graph.Path(c.Subject, o.Subject) != nil }) {
			late = append(late, c)
			continue
		}
		out = append(out, c)
	}
	return append(append(out, left...), late...)
}

// addNew appends what no entry is the same as.
func addNew[T any](have, add []T, same func(a, b T) bool) []T {
	out := slices.Clone(have)
	for _, a := range add {
		if !slices.ContainsFunc(out, func(o T) bool { return same(o, a) }) {
			out = append(out, a)
		}
	}
	return out
}
