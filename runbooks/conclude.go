package runbooks

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// StepFact is what a step's tool answered.
type StepFact struct {
	Data     any
	Text     string
	Error    string
	Findings []map[string]any
}

// Facts are what conditions and texts read. Everything is plain data:
// maps, lists, strings, numbers.
type Facts struct {
	Subject  map[string]any
	Alert    map[string]any
	Findings []map[string]any
	Steps    map[string]StepFact
}

// States of a cause.
const (
	Fired    = "fired"
	RuledOut = "ruled_out"
	Unknown  = "unknown"
)

// Proposal is an action a cause suggests.
type Proposal struct {
	Action string
	Params map[string]string
	Why    string
}

// Rival is a cause that was ruled out.
type Rival struct {
	Code, What, Why string
	// Steps are the ids of the steps that ruled it out.
	Steps []string
}

// Verdict is what a runbook says about one cause and, for causes that fire once
// a finding, about one finding.
type Verdict struct {
	Cause      Cause
	State      string
	Subject    map[string]any
	Code       string
	Statement  string
	Detail     []string
	Confidence float64
	// Finding that the cause fired for, nil if it needs none.
	Finding map[string]any
	// Steps are the ids of the steps that its expressions read.
	Steps     []string
	Rivals    []Rival
	Proposals []Proposal
	// Err says why the state is unknown.
	Err string
}

func (f Facts) vars(r *Runbook, finding map[string]any) map[string]any {
	list := func(fs []map[string]any) []any {
		out := make([]any, 0, len(fs))
		for _, x := range fs {
			out = append(out, x)
		}
		return out
	}
	all := f.all(r)
	v := map[string]any{"subject": orEmpty(f.Subject), "alert": orEmpty(f.Alert), "findings": list(all), "finding": orEmpty(finding)}
	for _, s := range r.Steps {
		st, ok := f.Steps[s.ID]
		d := st.Data
		if d == nil {
			d = map[string]any{}
		}
		v[s.ID] = map[string]any{"data": d, "text": st.Text, "error": st.Error, "findings": list(st.Findings), "ran": ok && st.Error == ""}
	}
	return v
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// all lists the findings of the incident and of the steps, each once.
func (f Facts) all(r *Runbook) []map[string]any {
	out := slices.Clone(f.Findings)
	for _, s := range r.Steps {
		for _, x := range f.Steps[s.ID].Findings {
			if !slices.ContainsFunc(out, func(o map[string]any) bool { return same(o, x) }) {
				out = append(out, x)
			}
		}
	}
	return out
}

func same(a, b map[string]any) bool {
	sa, _ := a["subject"].(map[string]any)
	sb, _ := b["subject"].(map[string]any)
	return a["code"] == b["code"] && maps.EqualFunc(sa, sb, func(x, y any) bool { return x == y })
}

// Inputs renders the arguments of a step.
func (e *Engine) Inputs(ctx context.Context, r *Runbook, s Step, f Facts) map[string]any {
	out, _ := e.value(ctx, r, s.With, f.vars(r, nil)).(map[string]any)
	for k, v := range out {
		if v == "" {
			delete(out, k)
		}
	}
	return orEmpty(out)
}

// Wanted reports whether a step's condition holds.
func (e *Engine) Wanted(ctx context.Context, r *Runbook, s Step, f Facts) (bool, error) {
	ok, _, err := e.boolean(ctx, r, s.When, f.vars(r, nil))
	return ok, err
}

// Conclude judges every cause of a runbook.
func (e *Engine) Conclude(ctx context.Context, r *Runbook, f Facts) []Verdict {
	var out []Verdict
	for _, c := range r.Causes {
		if c.Finding == "" {
			out = append(out, e.judge(ctx, r, c, f, nil))
			continue
		}
		hit := false
		for _, x := range f.all(r) {
			if x["code"] == c.Finding && (x["role"] == "fault" || x["role"] == "symptom" || c.When != "") {
				hit = true
				out = append(out, e.judge(ctx, r, c, f, x))
			}
		}
		if !hit {
			v := Verdict{Cause: c, State: RuledOut, Code: first(c.Code, c.Finding)}
			out = append(out, v)
		}
	}
	e.rivals(ctx, r, f, out)
	return out
}

// judge weighs one cause, for one finding if it has one.
func (e *Engine) judge(ctx context.Context, r *Runbook, c Cause, f Facts, finding map[string]any) Verdict {
	vars := f.vars(r, finding)
	v := Verdict{Cause: c, Finding: finding, Code: c.Code, Confidence: c.Confidence, Subject: f.Subject}
	ok, reads, err := e.boolean(ctx, r, c.When, vars)
	v.Steps = append(v.Steps, reads...)
	if missing := f.failed(reads); missing != "" {
		v.State, v.Err = Unknown, missing
		return v
	}
	switch {
	case err != nil:
		v.State, v.Err = Unknown, err.Error()
		return v
	case !ok:
		v.State = RuledOut
		return v
	}
	v.State = Fired
	if finding != nil {
		v.Code = first(c.Code, str(finding["code"]))
		if m, ok := finding["subject"].(map[string]any); ok {
			v.Subject = m
		}
		v.Statement = str(finding["message"])
		if n, ok := finding["confidence"].(float64); ok && v.Confidence == 0 {
			v.Confidence = n
		}
	}
	if c.Subject != "" {
		if x, reads, err := e.eval(ctx, r, c.Subject, vars); err == nil {
			if m, ok := native(x).(map[string]any); ok {
				v.Subject = m
				v.Steps = append(v.Steps, reads...)
			}
		}
	}
	fill := func(t string) string {
		s, reads := e.text(ctx, r, t, vars)
		v.Steps = append(v.Steps, reads...)
		return s
	}
	if c.Say != "" {
		v.Statement = fill(c.Say)
	}
	for _, d := range c.Detail {
		if s := fill(d); s != "" {
			v.Detail = append(v.Detail, s)
		}
	}
	for _, fx := range c.Fix {
		if ok, _, err := e.boolean(ctx, r, fx.When, vars); err != nil || !ok {
			continue
		}
		if params, ok := e.params(ctx, r, fx, vars); ok {
			v.Proposals = append(v.Proposals, Proposal{Action: fx.Action, Params: params, Why: fill(fx.Why)})
		}
	}
	slices.Sort(v.Steps)
	v.Steps = slices.Compact(v.Steps)
	return v
}

// params fills the parameters of a fix. A fix with a hole that cannot be filled,
// without a parameter that its action requires, without an object that it names, or
// for an action that the catalogue lacks, is none: it would change the wrong thing,
// or nothing. Another text that is one hole may come out empty; it is left out then.
func (e *Engine) params(ctx context.Context, r *Runbook, fx Fix, vars map[string]any) (map[string]string, bool) {
	action, known := e.actions()[fx.Action]
	if !known {
		return nil, false
	}
	out := map[string]string{}
	for name, tmpl := range fx.With {
		whole := hole().FindString(tmpl) == strings.TrimSpace(tmpl)
		for _, m := range hole().FindAllStringSubmatch(tmpl, -1) {
			x, _, err := e.eval(ctx, r, strings.TrimSpace(m[1]), vars)
			if err != nil || !whole && strings.TrimSpace(format(x)) == "" {
				return nil, false
			}
		}
		if s, _ := e.text(ctx, r, tmpl, vars); s != "" {
			out[name] = s
		}
	}
	for _, p := range action.Params {
		_, named := fx.With[p.Name]
		if (p.Required || p.Object && named) && out[p.Name] == "" {
			return nil, false
		}
	}
	return out, true
}

// failed says which of the steps did not answer.
func (f Facts) failed(steps []string) string {
	for _, id := range steps {
		if st, ok := f.Steps[id]; !ok {
			return "step " + id + " was not run"
		} else if st.Error != "" {
			return "step " + id + " failed: " + st.Error
		}
	}
	return ""
}

// rivals tells each cause that fired which of its rivals are ruled out.
func (e *Engine) rivals(ctx context.Context, r *Runbook, f Facts, all []Verdict) {
	codes := map[string]bool{}
	for _, x := range f.all(r) {
		if x["role"] == "fault" {
			codes[str(x["code"])] = true
		}
	}
	for i := range all {
		if all[i].State != Fired {
			continue
		}
		for _, name := range all[i].Cause.Rivals {
			j := slices.IndexFunc(all, func(v Verdict) bool { return v.Cause.ID == name })
			if j < 0 || all[j].State != RuledOut || codes[all[j].Code] {
				continue
			}
			c := all[j].Cause
			why, reads := e.text(ctx, r, c.Unless, f.vars(r, all[i].Finding))
			if f.failed(reads) != "" || (c.Unless != "" && why == "") {
				continue
			}
			all[i].Rivals = append(all[i].Rivals, Rival{Code: all[j].Code, What: first(c.Title, c.ID), Why: why, Steps: slices.Compact(slices.Sorted(slices.Values(append(reads, all[j].Steps...))))})
		}
	}
}

func str(v any) string {
	s, _ := v.(string)
	return s
}
