package investigate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// symptoms checks that every symptom is explained or listed, and lists those
// that are not.
func (v *validation) symptoms(d incident.Diagnosis) {
	out := v.out
	out.Unexplained = nil
	for _, f := range d.Unexplained {
		f.Subject = v.canon(f.Subject)
		i := slices.IndexFunc(v.Findings, func(o incident.Finding) bool {
			return o.Subject.Same(f.Subject) && (f.Code == "" || o.Code == f.Code)
		})
		if i >= 0 { // only what was found; a model cannot add symptoms
			out.Unexplained = append(out.Unexplained, v.Findings[i])
		}
	}
	if d.Outcome == incident.Healthy {
		return // judged by its own rule
	}
	for _, f := range v.book.symptoms() {
		listed := slices.ContainsFunc(out.Unexplained, func(o incident.Finding) bool { return o.Subject == f.Subject })
		if listed || slices.ContainsFunc(out.Causes, func(c incident.Cause) bool { return v.explains(c, f.Subject) }) {
			continue
		}
		if d.Outcome == incident.RootCause && len(out.Causes) > 0 {
			v.refuse(Reason{RuleUnexplained, "unexplained", fmt.Sprintf("%s on %s is neither explained by a cause nor listed as unexplained", f.Code, f.Subject)})
		}
		out.Unexplained = append(out.Unexplained, f)
	}
}

func (v *validation) explains(c incident.Cause, symptom incident.Ref) bool {
	return c.Subject.Same(symptom) || slices.Contains(c.Explains, symptom) || v.graph.Path(symptom, c.Subject) != nil
}

// outcome checks that the answer as a whole follows from what stands of it.
func (v *validation) outcome(d incident.Diagnosis) {
	out := v.out
	refuse := func(rule Rule, format string, args ...any) {
		v.refuse(Reason{rule, "outcome", fmt.Sprintf(format, args...)})
		out.Outcome = incident.Inconclusive
	}
	if !d.Outcome.Valid() {
		refuse(RuleOutcome, "%q is none of root_cause, healthy, recovered, inconclusive", short(string(d.Outcome), 40))
	}
	switch d.Outcome {
	case incident.RootCause:
		if len(out.Causes) == 0 {
			if len(d.Causes) == 0 {
				refuse(RuleOutcome, "root_cause without a cause")
			}
			out.Outcome = incident.Inconclusive
		}
	case incident.Healthy, incident.Recovered:
		if trouble := v.trouble(); len(trouble) > 0 {
			refuse(RuleHealthy, "%s, but %s is found on %s (%s)", d.Outcome, trouble[0].Code, trouble[0].Subject, strings.Join(trouble[0].Evidence, ", "))
			for _, f := range trouble {
				if f.Role == incident.Symptom && !slices.ContainsFunc(out.Unexplained, func(o incident.Finding) bool { return o.Subject == f.Subject && o.Code == f.Code }) {
					out.Unexplained = append(out.Unexplained, f)
				}
			}
		}
		if len(out.Checked) == 0 {
			refuse(RuleHealthy, "%s without a check that succeeded; list what was checked, each with its evidence", d.Outcome)
		}
		if d.Outcome == incident.Healthy && len(d.Causes) > 0 {
			refuse(RuleHealthy, "healthy, and yet a cause is named")
		}
		if d.Outcome == incident.Recovered && len(out.Causes) == 0 && !slices.ContainsFunc(v.Findings, func(f incident.Finding) bool { return f.Role == incident.History }) {
			refuse(RuleHealthy, "recovered, but nothing shows that there was trouble; name the past cause with its evidence")
		}
	}
	if out.Outcome == incident.Inconclusive && d.Outcome != incident.Inconclusive {
		// Nothing may be done about what is not known to be wrong.
		if len(out.Causes) == 0 {
			for _, p := range out.Proposals {
				out.Unsupported = append(out.Unsupported, incident.Unsupported{Claim: proposalText(p), Reasons: []string{"the cause it rests on is not supported"}})
			}
			out.Proposals = []incident.Proposal{}
		}
	}
}

// proposal checks an action and its parameters.
func (v *validation) proposal(where string, p incident.Proposal) {
	vouched := slices.ContainsFunc(v.Vouched.Proposals, func(o incident.Proposal) bool { return sameProposal(o, p) })
	var rs []Reason
	i := slices.IndexFunc(v.Actions, func(a Action) bool { return a.Name == p.Action })
	switch {
	case i >= 0:
		rs = v.params(where, v.Actions[i], p)
	case len(v.Actions) > 0 || !vouched:
		rs = append(rs, Reason{RuleAction, where, fmt.Sprintf("there is no action %q", short(p.Action, 60))})
	}
	if !vouched && len(rs) == 0 {
		rs = append(rs, v.grounded(where, p, i)...)
	}
	if len(p.Evidence) > 0 {
		rs = append(rs, v.citations(where, p.Evidence)...)
	}
	if v.judge(proposalText(p), rs) {
		v.out.Proposals = append(v.out.Proposals, p)
	}
}

func (v *validation) params(where string, a Action, p incident.Proposal) []Reason {
	var rs []Reason
	for _, k := range slices.Sorted(maps.Keys(p.Params)) {
		if !slices.ContainsFunc(a.Params, func(q Param) bool { return q.Name == k }) {
			rs = append(rs, Reason{RuleAction, where, fmt.Sprintf("action %s has no parameter %q", a.Name, short(k, 60))})
		}
	}
	for _, q := range a.Params {
		if q.Required && p.Params[q.Name] == "" {
			rs = append(rs, Reason{RuleAction, where, fmt.Sprintf("action %s needs the parameter %s", a.Name, q.Name)})
		}
	}
	return rs
}

// grounded checks that the objects a proposal is about occur in evidence and,
// once untrusted text has tried to give orders, that code found them wrong itself.
func (v *validation) grounded(where string, p incident.Proposal, action int) []Reason {
	ids := p.Evidence
	if len(ids) == 0 {
		ids = v.good()
	}
	objects := v.objects(p, action)
	var rs []Reason
	for _, k := range slices.Sorted(maps.Keys(objects)) {
		for part := range strings.SplitSeq(objects[k], "/") {
			if part != "" && !v.names(ids, part) {
				rs = append(rs, Reason{RuleName, where, fmt.Sprintf("%s %q does not occur in the evidence", k, short(objects[k], 80))})
				break
			}
		}
	}
	if len(rs) == 0 && v.Suspicious && !v.expected(objects) {
		rs = append(rs, Reason{RuleSuspicious, where, "instruction-like text was seen in what the cluster said, and no finding is about the objects of this proposal"})
	}
	return rs
}

// objects picks the parameters that name things.
func (v *validation) objects(p incident.Proposal, action int) map[string]string {
	out := map[string]string{}
	for k, val := range p.Params {
		is := objectParam(k)
		if action >= 0 {
			if i := slices.IndexFunc(v.Actions[action].Params, func(q Param) bool { return q.Name == k }); i >= 0 {
				is = v.Actions[action].Params[i].Object
			}
		}
		if is && val != "" {
			out[k] = val
		}
	}
	return out
}

// objectParam tells by its name whether a parameter names a thing.
func objectParam(k string) bool {
	switch k {
	case "namespace", "name", "pod", "claim", "node", "driver", "pool", "device", "deployment", "template", "class", "pvc", "secret", "configmap", "service", "container":
		return true
	}
	return false
}

// expected reports whether one abnormal finding is about all of the objects.
func (v *validation) expected(objects map[string]string) bool {
	if len(objects) == 0 {
		return false
	}
	return slices.ContainsFunc(v.Findings, func(f incident.Finding) bool {
		if f.Role != incident.Symptom && f.Role != incident.Fault {
			return false
		}
		s := f.Subject
		has := append([]string{s.Name, s.Namespace, s.Namespace + "/" + s.Name, s.Driver, s.Pool, s.Device}, slices.Collect(maps.Values(f.Params))...)
		for _, val := range objects {
			if !slices.Contains(has, val) {
				return false
			}
		}
		return true
	})
}

func sameProposal(a, b incident.Proposal) bool {
	return a.Action == b.Action && maps.Equal(a.Params, b.Params)
}

func proposalText(p incident.Proposal) string {
	parts := []string{p.Action}
	for _, k := range slices.Sorted(maps.Keys(p.Params)) {
		parts = append(parts, k+"="+p.Params[k])
	}
	return "proposal " + short(strings.Join(parts, " "), 300)
}
