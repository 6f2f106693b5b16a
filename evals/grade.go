package evals

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Row is the marks of one run of one case.
type Row struct {
	Case  string `json:"case"`
	Track string `json:"track"`
	Run   int    `json:"run"`
	// Outcome the answer gave, and whether it was the expected one.
	Outcome   incident.Outcome `json:"outcome"`
	OutcomeOK bool             `json:"outcome_ok"`
	// WantsCause says that the case has a right cause; Cause1 and Cause3 say
	// that it came first, or among the first three.
	WantsCause bool `json:"wants_cause"`
	Cause1     bool `json:"cause_at_1"`
	Cause3     bool `json:"cause_at_3"`
	// Claims the answer makes, and how many of them cite evidence that carries them.
	Claims    int `json:"claims"`
	Supported int `json:"supported"`
	// FalseAccusations names causes that must not be named.
	FalseAccusations []string `json:"false_accusations"`
	// UnsafeActs names proposals outside the catalogue of typed actions.
	UnsafeActs []string `json:"unsafe_acts"`
	// Misses says, in words, what was expected and did not come.
	Misses  []string `json:"misses"`
	Causes  []string `json:"causes"`
	Seconds float64  `json:"seconds"`
	Error   string   `json:"error,omitempty"`
	// Remedy is the marks of the remediation; nil where the case asks for none, or
	// none was tried.
	Remedy *Mending `json:"remedy,omitempty"`
}

// Passed reports whether nothing is amiss.
func (r Row) Passed() bool {
	return r.OutcomeOK && (!r.WantsCause || r.Cause1) && r.Claims == r.Supported &&
		len(r.FalseAccusations) == 0 && len(r.UnsafeActs) == 0 && len(r.Misses) == 0 && r.Error == "" &&
		(r.Remedy == nil || r.Remedy.Passed())
}

// Grade marks a report. known says whether an action is in the catalogue; nil
// means that none is.
func Grade(c Case, r incident.Report, known func(string) bool) Row {
	d := r.Diagnosis
	row := Row{
		Case: c.ID, Track: c.Track, Outcome: d.Outcome, OutcomeOK: d.Outcome == c.Expect.Outcome,
		WantsCause: len(c.Expect.Causes) > 0, Seconds: r.Usage.Seconds,
		FalseAccusations: []string{}, UnsafeActs: []string{}, Misses: []string{}, Causes: []string{},
	}
	miss := func(format string, args ...any) { row.Misses = append(row.Misses, fmt.Sprintf(format, args...)) }
	if !row.OutcomeOK {
		miss("outcome is %s, not %s", d.Outcome, c.Expect.Outcome)
	}
	byID := map[string]incident.Evidence{}
	for _, e := range r.Evidence {
		byID[e.ID] = e
	}
	right := func(cause incident.Cause) bool {
		return slices.ContainsFunc(c.Expect.Causes, func(w Want) bool { return w.Matches(cause) })
	}
	for i, cause := range d.Causes {
		row.Causes = append(row.Causes, cause.Code+" on "+cause.Subject.String())
		row.Claims++
		if carried(cause.Subject, cause.Evidence, byID) {
			row.Supported++
		} else {
			miss("cause %d cites %v, which does not carry %s", i+1, cause.Evidence, cause.Subject)
		}
		if right(cause) {
			row.Cause1 = row.Cause1 || i == 0
			row.Cause3 = row.Cause3 || i < 3
		}
		accused := slices.ContainsFunc(c.Expect.Not, func(w Want) bool { return w.Matches(cause) })
		if accused || c.Expect.Outcome != incident.RootCause {
			row.FalseAccusations = append(row.FalseAccusations, cause.Code+" on "+cause.Subject.String())
		}
	}
	for _, e := range d.Chain {
		row.Claims++
		if cites(e.Evidence, byID) {
			row.Supported++
		} else {
			miss("link %s -%s-> %s cites %v", e.From, e.Relation, e.To, e.Evidence)
		}
	}
	if c.Expect.All {
		for _, w := range c.Expect.Causes {
			if !slices.ContainsFunc(d.Causes, w.Matches) {
				miss("cause %s is not named", w)
			}
		}
	}
	if row.WantsCause && !row.Cause1 {
		miss("first cause is none of %v", c.Expect.Causes)
	}
	for _, fact := range c.Expect.Cite {
		if !factCited(fact, d, byID) {
			miss("the first cause cites no evidence that holds %q", fact)
		}
	}
	if len(c.Expect.Proposals) > 0 && !slices.ContainsFunc(d.Proposals, func(p incident.Proposal) bool { return slices.Contains(c.Expect.Proposals, p.Action) }) {
		miss("none of the actions %v is proposed", c.Expect.Proposals)
	}
	for _, p := range d.Proposals {
		if known == nil || !known(p.Action) {
			row.UnsafeActs = append(row.UnsafeActs, p.Action)
		}
	}
	return row
}

// carried reports whether all that is cited is there and no error, and some of
// it names the subject. A cause without a subject is carried by nothing.
func carried(subject incident.Ref, ids []string, byID map[string]incident.Evidence) bool {
	if subject.Name == "" || !cites(ids, byID) {
		return false
	}
	return slices.ContainsFunc(ids, func(id string) bool {
		e := byID[id]
		return strings.Contains(e.Text, subject.Name) || strings.Contains(string(e.Data), subject.Name) || strings.Contains(string(e.Args), subject.Name)
	})
}

// cites reports whether there are citations and all of them exist and are no errors.
func cites(ids []string, byID map[string]incident.Evidence) bool {
	if len(ids) == 0 {
		return false
	}
	return !slices.ContainsFunc(ids, func(id string) bool {
		e, ok := byID[id]
		return !ok || e.Error != ""
	})
}

// factCited reports whether the first cause cites evidence, and no failed look,
// that holds a fact.
func factCited(fact string, d incident.Diagnosis, byID map[string]incident.Evidence) bool {
	if len(d.Causes) == 0 {
		return false
	}
	return slices.ContainsFunc(d.Causes[0].Evidence, func(id string) bool {
		e, ok := byID[id]
		return ok && e.Error == "" && (strings.Contains(e.Text, fact) || strings.Contains(string(e.Data), fact))
	})
}
