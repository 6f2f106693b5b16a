package triage

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/runbooks"
)

// runRunbooks runs the steps of the runbooks that match and gives the causes
// they name. A runbook that matched by a finding is about that finding's
// subject; one that matched by alert or words is about what was asked.
func (s *session) runRunbooks(ctx context.Context, q incident.Question, r reading) ([]*candidate, error) {
	if s.library == nil {
		return nil, nil
	}
	query := runbooks.Query{Words: r.words, Alerts: r.alerts}
	for _, f := range s.findings {
		if abnormal(f) {
			query.Findings = appendNew(query.Findings, f.Code)
		}
	}
	var alert map[string]any
	if q.Alert != nil {
		query.Alerts = appendNew(query.Alerts, q.Alert.Name)
		alert = plain(q.Alert)
	}
	// What names no cause, such as a skill, is for reading.
	matches := slices.DeleteFunc(s.library.Match(query), func(m runbooks.Match) bool { return len(m.Runbook.Causes) == 0 })
	var out []*candidate
	for _, m := range limit(s.order(matches), s.limits.Runbooks) {
		about := s.subjectsOf(m.Runbook)
		for _, subject := range limit(about, maxRuns) {
			found, err := s.runOne(ctx, m.Runbook, subject, limit(about, maxRuns), alert)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	return merge(out), nil
}

// maxRuns is for how many subjects one runbook's steps are run. Faults of its
// kind on further subjects stand as they were found.
const maxRuns = 3

// order puts runbooks first that match faults, since those can name a cause.
func (s *session) order(ms []runbooks.Match) []runbooks.Match {
	faults := map[string]bool{}
	for _, f := range s.findings {
		faults[f.Code] = faults[f.Code] || f.Role == incident.Fault
	}
	hits := func(m runbooks.Match) int {
		n := 0
		for _, c := range m.Runbook.Causes {
			if faults[c.Finding] {
				n++
			}
		}
		return n
	}
	slices.SortStableFunc(ms, func(a, b runbooks.Match) int { return min(hits(b), 1) - min(hits(a), 1) })
	return ms
}

// runOne runs a runbook for one of the subjects it is about.
func (s *session) runOne(ctx context.Context, r *runbooks.Runbook, subject incident.Ref, about []incident.Ref, alert map[string]any) ([]*candidate, error) {
	facts := runbooks.Facts{Subject: plain(subject), Alert: alert, Steps: map[string]runbooks.StepFact{}}
	for _, f := range s.findings {
		facts.Findings = append(facts.Findings, plain(f))
	}
	cited := map[string]string{}
	own := map[incident.Ref]bool{subject: true} // what the steps speak of
	for _, st := range r.Steps {
		wanted, err := s.engine.Wanted(ctx, r, st, facts)
		if err != nil || !wanted {
			continue
		}
		ev, res := s.caller.Call(ctx, st.Tool, s.engine.Inputs(ctx, r, st, facts))
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		fact := runbooks.StepFact{Data: data(res.Data), Text: res.Text, Error: ev.Error}
		for _, f := range res.Findings {
			fact.Findings = append(fact.Findings, plain(f))
		}
		facts.Steps[st.ID] = fact
		if ev.Error != "" {
			if ev.ErrorKind != string(tool.NotServed) && ev.ErrorKind != string(tool.Invalid) {
				s.gap(incident.Gap{Source: st.Tool, Why: ev.Error})
			}
			continue
		}
		cited[st.ID] = ev.ID
		s.addFindings(res.Findings)
		s.graph.Add(res.Edges...)
		for _, f := range res.Findings {
			own[f.Subject] = true
		}
	}
	reach := s.graph.Reach(subject)
	var out []*candidate
	for _, v := range s.engine.Conclude(ctx, r, facts) {
		if v.State != runbooks.Fired {
			continue
		}
		c := s.candidate(r, v, cited)
		on := c.finding.Subject
		// What the steps said of one subject proves nothing of another: a finding
		// elsewhere is judged in the run for its own subject.
		if v.Finding != nil && !own[on] {
			_, below := reach[on]
			if slices.Contains(about, on) || len(v.Steps) > 0 && !below && s.graph.Depth(on, subject) < 0 {
				continue
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// subjectsOf lists the subjects of the findings that the runbook is about, those
// of faults if there are any, else the thing asked about.
func (s *session) subjectsOf(r *runbooks.Runbook) []incident.Ref {
	for _, role := range []incident.Role{incident.Fault, incident.Symptom} {
		var out []incident.Ref
		for _, f := range s.findings {
			if f.Role == role && slices.Contains(r.Matches.Findings, f.Code) {
				out = appendNew(out, f.Subject)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return s.roots[:1]
}

// candidate turns a verdict into a possible cause with its citations.
func (s *session) candidate(r *runbooks.Runbook, v runbooks.Verdict, cited map[string]string) *candidate {
	c := &candidate{severity: incident.Critical, revert: v.Cause.Revert}
	ids := func(steps []string) []string {
		var out []string
		for _, id := range steps {
			if e := cited[id]; e != "" {
				out = appendNew(out, e)
			}
		}
		return out
	}
	c.cause = incident.Cause{Code: v.Code, Statement: sentence(v.Statement), Detail: v.Detail, Confidence: v.Confidence, Runbook: r.ID, Evidence: ids(v.Steps)}
	decode(v.Subject, &c.cause.Subject)
	if v.Finding != nil {
		decode(v.Finding, &c.finding)
		// The session's copy carries all evidence, also that of later looks.
		if i, known := s.at[found{c.finding.Code, c.finding.Subject}]; known {
			c.finding = s.findings[i]
		}
		c.severity = c.finding.Severity
		c.cause.Evidence = appendNew(slices.Clone(c.finding.Evidence), c.cause.Evidence...)
		if v.Confidence == 0 {
			c.cause.Confidence = c.finding.Score()
		}
	}
	if c.cause.Confidence == 0 {
		c.cause.Confidence = strong
	}
	for _, p := range v.Proposals {
		c.proposals = append(c.proposals, incident.Proposal{Action: p.Action, Params: s.controlled(p.Params), Why: p.Why, Evidence: c.cause.Evidence, Cause: c.cause.Code, Runbook: c.cause.Runbook})
	}
	for _, rv := range v.Rivals {
		ev := ids(rv.Steps)
		if len(ev) == 0 {
			ev = c.finding.Evidence
		}
		c.refuted = append(c.refuted, incident.Refutation{Code: rv.Code, What: rv.What, Why: rv.Why, Evidence: ev})
	}
	return c
}

// controlled turns a change of an object into the change of what controls it: a
// controller would make the object again as it was.
func (s *session) controlled(params map[string]string) map[string]string {
	at := slices.IndexFunc(s.graph.Nodes(), func(r incident.Ref) bool {
		return params["name"] != "" && r.Name == params["name"] && r.Namespace == params["namespace"] && r.Kind == params["kind"]
	})
	if at < 0 {
		return params
	}
	top := s.graph.Nodes()[at]
	for range s.graph.Nodes() {
		i := slices.IndexFunc(s.graph.Out(top), func(e incident.Edge) bool { return e.Relation == graph.Controlled })
		if i < 0 {
			break
		}
		top = s.graph.Out(top)[i].To
	}
	out := maps.Clone(params)
	out["kind"], out["namespace"], out["name"] = top.Kind, top.Namespace, top.Name
	return out
}

// merge keeps one candidate for each code and subject, the better supported.
func merge(in []*candidate) []*candidate {
	var out []*candidate
	for _, c := range in {
		i := slices.IndexFunc(out, func(o *candidate) bool { return o.cause.Code == c.cause.Code && o.cause.Subject == c.cause.Subject })
		if i < 0 {
			out = append(out, c)
			continue
		}
		o := out[i]
		if c.cause.Confidence > o.cause.Confidence {
			out[i], o, c = c, c, o
		}
		o.cause.Evidence = appendNew(o.cause.Evidence, c.cause.Evidence...)
		o.proposals = append(o.proposals, c.proposals...)
		if len(o.refuted) == 0 {
			o.refuted = c.refuted
		}
	}
	return out
}

// plain turns a value into maps, lists and scalars, as JSON would write it.
func plain(v any) map[string]any {
	raw, err := json.Marshal(v)
	if err != nil {
		return map[string]any{}
	}
	m, _ := data(raw).(map[string]any)
	// Conditions may read these without asking whether they are there.
	if _, ok := m["kind"]; ok {
		for _, k := range []string{"cluster", "namespace", "group", "kind", "name"} {
			if _, ok := m[k]; !ok {
				m[k] = ""
			}
		}
	}
	if sub, ok := m["subject"].(map[string]any); ok {
		for _, k := range []string{"cluster", "namespace", "group", "kind", "name"} {
			if _, ok := sub[k]; !ok {
				sub[k] = ""
			}
		}
		if _, ok := m["params"]; !ok {
			m["params"] = map[string]any{}
		}
	}
	return m
}

func decode(m map[string]any, into any) {
	raw, err := json.Marshal(m)
	if err == nil {
		_ = json.Unmarshal(raw, into)
	}
}
