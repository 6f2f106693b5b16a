package investigate

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Rule names what a claim offends.
type Rule string

// Rules of the validator.
const (
	RuleOutcome     Rule = "outcome"
	RuleCitation    Rule = "citation"    // evidence that is cited exists and is no error
	RuleQuote       Rule = "quote"       // quoted values occur in the cited evidence
	RuleName        Rule = "name"        // named objects occur in the cited evidence
	RuleFigure      Rule = "figure"      // numbers occur in the cited evidence
	RuleChain       Rule = "chain"       // the cause is tied to what was asked
	RuleUnexplained Rule = "unexplained" // every symptom is explained or listed
	RuleHealthy     Rule = "healthy"     // nothing found speaks against it, and checks are listed
	RuleConfidence  Rule = "confidence"  // between 0 and 1
	RuleAction      Rule = "action"      // proposals name known actions with their parameters
	RuleSuspicious  Rule = "suspicious"  // proposals that only untrusted text carries
	RuleRefutation  Rule = "refutation"  // a finding is refuted by other evidence than its own
	RuleEmpty       Rule = "empty"       // a claim says something
	unfounded            = 0.7           // most confidence of a claim without a finding behind it
	sure                 = 0.99          // nothing is certain
	maxReasons           = 24            // reasons kept of one verdict
)

// Reason says why a part of a diagnosis was refused.
type Reason struct {
	Rule Rule
	// Where is the part: "causes[0]", "chain[2]", "outcome".
	Where string
	Text  string
}

// String gives "causes[0]: text".
func (r Reason) String() string { return r.Where + ": " + r.Text }

// Verdict on a diagnosis.
type Verdict struct {
	// Reasons are empty when the diagnosis stands as it is.
	Reasons []Reason
	// Diagnosis is what stands: refused claims are under Unsupported, references
	// are those that code knows, confidences are capped, the chain is completed
	// from the graph, and symptoms nobody explained are listed.
	Diagnosis incident.Diagnosis
}

// OK reports whether nothing was refused.
func (v Verdict) OK() bool { return len(v.Reasons) == 0 }

// Strings gives the reasons as sentences.
func (v Verdict) Strings() []string {
	var out []string
	for _, r := range v.Reasons {
		out = append(out, r.String())
	}
	return out
}

// Validate judges a diagnosis against what was seen. It is a pure function.
func Validate(d incident.Diagnosis, g Grounds) Verdict {
	v := &validation{book: newBook(g), lexicon: newLexicon()}
	out := d
	out.Causes, out.Chain, out.Proposals = []incident.Cause{}, []incident.Edge{}, []incident.Proposal{}
	out.RuledOut, out.Checked, out.WouldFit = nil, []incident.CheckedItem{}, nil
	out.Unsupported = slices.Clone(d.Unsupported)
	if out.NotSeen == nil {
		out.NotSeen = []incident.Gap{}
	}
	v.out = &out

	v.chain(d.Chain)
	for i, c := range d.Causes {
		v.cause(fmt.Sprintf("causes[%d]", i), c)
	}
	for i, r := range d.RuledOut {
		v.refutation(fmt.Sprintf("ruled_out[%d]", i), r)
	}
	for i, c := range d.Checked {
		v.checked(fmt.Sprintf("checked[%d]", i), c)
	}
	for i, c := range d.WouldFit {
		where := fmt.Sprintf("would_fit[%d]", i)
		vouched := slices.ContainsFunc(v.Vouched.WouldFit, func(o incident.Claim) bool { return o.Text == c.Text })
		if v.judge(c.Text, v.claim(where, c.Text, c.Evidence, vouched)) {
			out.WouldFit = append(out.WouldFit, c)
		}
	}
	for i, p := range d.Proposals {
		v.proposal(fmt.Sprintf("proposals[%d]", i), p)
	}
	v.symptoms(d)
	v.outcome(d)
	return Verdict{Reasons: v.reasons, Diagnosis: out}
}

type validation struct {
	*book
	lexicon lexicon
	reasons []Reason
	out     *incident.Diagnosis
}

func (v *validation) refuse(rs ...Reason) {
	for _, r := range rs {
		if len(v.reasons) < maxReasons {
			v.reasons = append(v.reasons, r)
		}
	}
}

// judge records why a claim is refused, and shows it as unsupported; true means
// that it stands.
func (v *validation) judge(claim string, rs []Reason) bool {
	if len(rs) == 0 {
		return true
	}
	v.refuse(rs...)
	u := incident.Unsupported{Claim: claim}
	for _, r := range rs {
		u.Reasons = append(u.Reasons, r.Text)
	}
	v.out.Unsupported = append(v.out.Unsupported, u)
	return false
}

// citations checks ids alone.
func (v *validation) citations(where string, ids []string) []Reason {
	if len(ids) == 0 {
		return []Reason{{RuleCitation, where, "cites no evidence"}}
	}
	var out []Reason
	for _, id := range ids {
		x := v.exhibits[id]
		switch {
		case x == nil:
			out = append(out, Reason{RuleCitation, where, fmt.Sprintf("cites %s, which does not exist", short(id, 40))})
		case x.ev.Error != "":
			out = append(out, Reason{RuleCitation, where, fmt.Sprintf("cites %s, a call that failed (%s)", id, short(x.ev.Error, 120))})
		}
	}
	return out
}

// claim checks a sentence and its citations.
func (v *validation) claim(where, text string, ids []string, vouched bool) []Reason {
	if strings.TrimSpace(text) == "" {
		return []Reason{{RuleEmpty, where, "says nothing"}}
	}
	out := v.citations(where, ids)
	if len(out) > 0 || vouched {
		return out
	}
	return v.sentence(where, text, ids)
}

// sentence checks that what a sentence quotes, names and counts is in the
// evidence it cites.
func (v *validation) sentence(where, text string, ids []string) []Reason {
	in := strings.Join(ids, ", ")
	c := v.lexicon.read(text)
	var out []Reason
	for _, id := range c.ids {
		if x := v.exhibits[id]; x == nil || x.ev.Error != "" {
			out = append(out, Reason{RuleCitation, where, fmt.Sprintf("mentions %s, which does not exist or failed", id)})
		}
	}
	for _, q := range c.quoted {
		if !v.says(ids, q) && !v.says(ids, strings.TrimRight(q, ".,;:!?")) {
			out = append(out, Reason{RuleQuote, where, fmt.Sprintf("%q is not in %s", short(q, 120), in)})
		}
	}
	for _, n := range c.names {
		if !v.names(ids, n) && !v.says(ids, n) && !v.subjectNamed(n) {
			out = append(out, Reason{RuleName, where, fmt.Sprintf("nothing called %q is in %s", n, in)})
		}
	}
	for _, n := range c.figures {
		if !v.counts(ids, n) {
			out = append(out, Reason{RuleFigure, where, fmt.Sprintf("the number %s is not in %s", n, in)})
		}
	}
	return out
}

// subjectNamed reports whether a word is part of the name of what was asked about.
func (v *validation) subjectNamed(n string) bool {
	return slices.ContainsFunc(v.Subjects, func(r incident.Ref) bool { return r.Name == n || r.Namespace == n })
}

// object checks that a thing is in the cited evidence, and is what it is said to be.
func (v *validation) object(where string, r incident.Ref, ids []string) []Reason {
	if r.Kind == "Cluster" {
		return nil
	}
	if r.Kind == "" || r.Name == "" {
		return []Reason{{RuleName, where, "names no object; say kind, namespace and name"}}
	}
	if v.carried(r, ids) {
		return nil
	}
	in := strings.Join(ids, ", ")
	for _, n := range [...]string{r.Name, r.Namespace, r.Driver, r.Pool} {
		if n != "" && !v.names(ids, n) {
			return []Reason{{RuleName, where, fmt.Sprintf("%s: %q does not occur in %s", r, n, in)}}
		}
	}
	if r.Cluster != "" && !v.any(ids, func(x *exhibit) bool { return x.ev.Cluster == "" || x.ev.Cluster == r.Cluster }) {
		return []Reason{{RuleName, where, fmt.Sprintf("%s is in cluster %s and the evidence is of another", r, r.Cluster)}}
	}
	// The name may be somebody else's: a Secret is no ConfigMap of that name.
	if !v.says(ids, r.Kind) {
		for _, k := range v.known {
			if k.Name == r.Name && k.Namespace == r.Namespace && !strings.EqualFold(k.Kind, r.Kind) {
				return []Reason{{RuleName, where, fmt.Sprintf("%s is known as a %s", r, k.Kind)}}
			}
		}
	}
	return nil
}

func (v *validation) cause(where string, c incident.Cause) {
	c.Subject = v.canon(c.Subject)
	vouched, _ := v.vouched(c)
	rs := v.claim(where, c.Statement, c.Evidence, vouched)
	if len(rs) == 0 && !vouched {
		for _, line := range c.Detail {
			rs = append(rs, v.sentence(where+".detail", line, c.Evidence)...)
		}
	}
	if len(v.citations(where, c.Evidence)) == 0 {
		rs = append(rs, v.object(where, c.Subject, c.Evidence)...)
	}
	if math.IsNaN(c.Confidence) || c.Confidence < 0 || c.Confidence > 1 {
		rs = append(rs, Reason{RuleConfidence, where, "confidence is not between 0 and 1"})
	}
	if len(rs) == 0 {
		rs = v.tied(where, c.Subject)
	}
	if v.judge(c.Statement, rs) {
		c.Confidence = min(c.Confidence, v.cap(c))
		v.out.Causes = append(v.out.Causes, c)
	}
}

// vouched reports whether code wrote the cause word for word, and gives it.
func (v *validation) vouched(c incident.Cause) (bool, incident.Cause) {
	for _, o := range v.Vouched.Causes {
		if o.Subject == c.Subject && o.Code == c.Code && o.Statement == c.Statement {
			return true, o
		}
	}
	return false, incident.Cause{}
}

// cap gives the most confidence that code grants a cause: its own where it names
// the same cause, a finding's where one is behind it, else little.
func (v *validation) cap(c incident.Cause) float64 {
	most := 0.0
	for _, o := range v.Vouched.Causes {
		if o.Subject == c.Subject && o.Code == c.Code {
			most = max(most, o.Confidence)
		}
	}
	for _, f := range v.Findings {
		if (f.Role == incident.Fault || f.Role == incident.Symptom) && f.Subject.Same(c.Subject) && overlap(f.Evidence, c.Evidence) {
			most = max(most, f.Score())
		}
	}
	if most == 0 {
		most = unfounded
	}
	return min(most, sure)
}

// tied checks that a way leads from what was asked, or from a symptom of it, to
// the cause, and completes the chain.
func (v *validation) tied(where string, to incident.Ref) []Reason {
	if v.about(to) {
		for _, s := range v.Subjects {
			if !s.Same(to) {
				v.link(v.graph.Path(v.canon(s), to))
			}
		}
		return nil
	}
	var starts []incident.Ref
	for _, s := range v.Subjects {
		starts = append(starts, v.canon(s))
	}
	for _, f := range v.book.symptoms() {
		starts = append(starts, f.Subject)
	}
	for _, s := range starts {
		if s == to {
			return nil
		}
		if p := v.graph.Path(s, to); p != nil {
			v.link(p)
			return nil
		}
	}
	if len(v.Subjects) == 0 && len(starts) == 0 {
		return nil
	}
	return []Reason{{RuleChain, where, fmt.Sprintf("nothing in the evidence ties %s to what was asked; give the links in chain, each with its evidence", to)}}
}

// link adds edges to the chain that are not in it yet.
func (v *validation) link(path []incident.Edge) {
	for _, e := range path {
		if !slices.ContainsFunc(v.out.Chain, func(o incident.Edge) bool { return o.From == e.From && o.Relation == e.Relation && o.To == e.To }) {
			v.out.Chain = append(v.out.Chain, e)
		}
	}
}

// chain checks the links. One that code recorded stands as recorded; another
// needs evidence that holds both ends.
func (v *validation) chain(edges []incident.Edge) {
	for i, e := range edges {
		where := fmt.Sprintf("chain[%d]", i)
		e.From, e.To = v.canon(e.From), v.canon(e.To)
		if have, ok := v.edge(e.From, e.To); ok {
			v.link([]incident.Edge{have})
			continue
		}
		// People and models also write "Deployment owns Pod" where the graph
		// says that the Pod is controlled by it.
		if have, ok := v.edge(e.To, e.From); ok {
			v.link([]incident.Edge{have})
			continue
		}
		claim := fmt.Sprintf("%s -%s-> %s", e.From, e.Relation, e.To)
		rs := v.citations(where, e.Evidence)
		if e.Relation == "" {
			rs = append(rs, Reason{RuleChain, where, "has no relation"})
		}
		if len(rs) == 0 && !slices.ContainsFunc(e.Evidence, func(id string) bool {
			one := []string{id}
			return len(v.object(where, e.From, one)) == 0 && len(v.object(where, e.To, one)) == 0
		}) {
			rs = append(rs, Reason{RuleChain, where, fmt.Sprintf("no single evidence of %s holds both %s and %s", strings.Join(e.Evidence, ", "), e.From, e.To)})
		}
		if v.judge(claim, rs) {
			v.graph.Add(e)
			v.link([]incident.Edge{e})
		}
	}
}

func (v *validation) checked(where string, c incident.CheckedItem) {
	if strings.TrimSpace(c.What) == "" {
		v.refuse(Reason{RuleEmpty, where, "does not say what was checked"})
		return
	}
	vouched := slices.ContainsFunc(v.Vouched.Checked, func(o incident.CheckedItem) bool { return o.What == c.What && o.Result == c.Result })
	if v.judge(c.What+": "+c.Result, v.claim(where, c.What+": "+c.Result, c.Evidence, vouched)) {
		v.out.Checked = append(v.out.Checked, c)
	}
}

// refutation checks a rival's refusal. What a finding carries is only refuted
// by evidence beyond its own.
func (v *validation) refutation(where string, r incident.Refutation) {
	vouched := slices.ContainsFunc(v.Vouched.RuledOut, func(o incident.Refutation) bool { return o.Code == r.Code && o.What == r.What && o.Why == r.Why })
	if vouched && len(r.Evidence) == 0 { // a rival ruled out by what was not found
		v.out.RuledOut = append(v.out.RuledOut, r)
		return
	}
	rs := v.claim(where, r.Why, r.Evidence, vouched)
	if len(rs) == 0 && !vouched {
		for _, c := range v.Vouched.Causes {
			if refutes(r, c) && !slices.ContainsFunc(r.Evidence, func(id string) bool { return !slices.Contains(c.Evidence, id) }) {
				rs = append(rs, Reason{RuleRefutation, where, fmt.Sprintf("refutes %s with the evidence that carries it; cite other evidence", c.Code)})
			}
		}
	}
	if v.judge("ruled out: "+r.What, rs) {
		v.out.RuledOut = append(v.out.RuledOut, r)
	}
}

// refutes reports whether a refutation is about a cause.
func refutes(r incident.Refutation, c incident.Cause) bool {
	if r.Code != "" {
		return r.Code == c.Code
	}
	return hasToken(r.What, c.Code) || strings.EqualFold(oneLine(r.What), oneLine(c.Statement))
}
