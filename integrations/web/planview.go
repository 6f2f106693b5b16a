package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	template "github.com/DataDog/datadog-agent/pkg/template/html"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// planRow is a line of a list of plans.
type planRow struct {
	ID, Title, Requester, Cluster string
	State                         badge
	Risk                          badge
	Need                          string
	Created, Expires              when
	Waits                         bool
}

// planView is a plan with everything that an approver has to know.
type planView struct {
	ID, Title, Cluster, Digest, Author, Reason, Investigation string
	State                                                     badge
	Risk                                                      badge
	Created                                                   when
	Cause                                                     *planCause
	Steps                                                     []stepView
	Blast                                                     blastView
	Capacity                                                  []claimView
	Before, Verify                                            []checkView
	Alternatives                                              []alternativeView
	BreakGlass                                                bool
	Prose                                                     template.HTML
	Consent                                                   consentView
	// Session is the page of the conversation that it comes from, if one is known.
	Session  string
	Progress progressView
	// Confirm asks once more before an approval counts.
	Confirm bool
	// Rehearsed holds what another dry run found, nil when none was asked for.
	Rehearsed *rehearsal
}

type rehearsal struct{ Problems []string }

type planCause struct {
	Statement, Code, Subject, Confidence string
	Evidence, Symptoms                   []string
}

type stepView struct {
	ID, Action, Say, Lasting string
	Risk                     badge
	Params                   []paramView
	Targets                  []targetView
	Writes, Undo             []writeView
	Before, Verify           []checkView
	Warnings                 []string
	Source                   *sourceView
	Blast                    blastView
}

type targetView struct {
	Ref, Observed, Owner string
	System               bool
}

type writeView struct {
	ID, Verb, Ref, Say, Dry, Body string
	Diff                          []diffLine
	DryRun                        bool
	State                         badge
	Error                         string
	Waits                         []checkView
}

type sourceView struct {
	Tool, Owner, Where, Body string
	Diff                     []diffLine
}

type checkView struct {
	Say     string
	Within  string
	Verdict badge
	Saw     string
}

type blastView struct {
	Nothing bool
	Lines   []string
	Notes   []string
}

type alternativeView struct{ Action, Why, Risk string }

// consentView is what is asked of people, what they said, and the forms for it.
type consentView struct {
	ID, Digest, Need          string
	Verdict                   badge
	Rules                     []ruleView
	Requester                 string
	Words                     []wordView
	Expires                   when
	Pending, Approved, Undoes bool
	// Mine says that who looks has approved already.
	Mine, High bool
	Can        can
	Local      bool
	Why        string
	Have, Of   int
}

type ruleView struct {
	Rule, Step, Reason string
}

type wordView struct {
	By, Word, Comment, Surface string
	Class                      string
	At                         when
}

// progressView is how far the execution came.
type progressView struct {
	ID     string
	State  badge
	Reason string
	By     string
	Begun  when
	Writes []writeView
	Checks []checkView
	Left   []string
	Busy   bool
	Undoes bool
	Final  bool
	Shown  bool
}

func planState(s incident.PlanState) badge {
	switch s {
	case incident.PlanPending:
		return badge{"wait", "waits for approval"}
	case incident.PlanApproved:
		return badge{"live", "approved"}
	case incident.PlanExecuting:
		return badge{"live", "executing"}
	case incident.PlanVerified:
		return badge{"good", "done and verified"}
	case incident.PlanUndone:
		return badge{"warn", "taken back"}
	case incident.PlanStopped:
		return badge{"bad", "stopped"}
	case incident.PlanRejected:
		return badge{"off", "rejected"}
	case incident.PlanExpired:
		return badge{"off", "expired"}
	case incident.PlanVoid:
		return badge{"off", "void"}
	}
	return badge{"off", clean(string(s))}
}

func riskBadge(r incident.Risk) badge {
	class := "bad"
	switch r {
	case incident.RiskLow:
		class = "good"
	case incident.RiskMedium:
		class = "warn"
	}
	return badge{class, clean(string(r)) + " risk"}
}

// worst is the highest risk of a plan's steps.
func worst(p incident.Plan) incident.Risk {
	risk := incident.RiskLow
	for _, s := range p.Steps {
		if s.Risk.Weight() > risk.Weight() {
			risk = s.Risk
		}
	}
	return risk
}

func (s *Web) planRow(r planner.Record) planRow {
	now := s.now()
	b := r.Brief()
	row := planRow{
		ID: r.Plan.ID, Title: clip(clean(r.Plan.Title), 120), Requester: clean(r.Plan.Requester.Name), Cluster: clean(r.Plan.Cluster), State: planState(r.State), Risk: riskBadge(worst(r.Plan)),
		Created: moment(r.Plan.Created, now), Waits: r.State == incident.PlanPending,
	}
	if row.Waits {
		row.Need, row.Expires = fmt.Sprintf("%d of %d approvals", b.Approvals, b.Needed), moment(r.Plan.Expires, now)
		if b.Needed == 0 {
			row.Need = "no approval needed"
		}
	}
	return row
}

// viewPlan shows a record; who looks decides which forms there are.
func (s *Web) viewPlan(r planner.Record, who incident.Person, c can, local bool) (planView, error) {
	p := r.Plan
	v := planView{
		ID: p.ID, Title: clean(p.Title), Cluster: clean(p.Cluster), Digest: r.Digest, Author: clean(p.Author), Reason: clean(p.Reason), Investigation: clean(p.Investigation),
		State: planState(r.State), Risk: riskBadge(worst(p)), Created: moment(p.Created, s.now()), Blast: blast(p.Blast), BreakGlass: p.BreakGlass, Before: checks(p.Before), Verify: checks(p.Verify),
	}
	if x := p.Cause; x != nil {
		v.Cause = &planCause{Statement: sentence(clean(x.Statement)), Code: clean(x.Code), Subject: clean(x.Subject.String()), Confidence: percent(x.Confidence), Evidence: cleanAll(x.Evidence), Symptoms: refs(x.Symptoms)}
	}
	for _, st := range p.Steps {
		v.Steps = append(v.Steps, stepOf(st))
	}
	for _, x := range p.Capacity {
		v.Capacity = append(v.Capacity, claimView{Text: sentence(clean(x.Text)), Evidence: cleanAll(x.Evidence)})
	}
	for _, a := range p.Alternatives {
		v.Alternatives = append(v.Alternatives, alternativeView{clean(a.Action), sentence(clean(a.Why)), clean(string(a.Risk))})
	}
	if strings.TrimSpace(r.Prose) != "" {
		var err error
		if v.Prose, err = s.md.html(r.Prose); err != nil {
			return v, err
		}
	}
	v.Consent, v.Progress = s.consent(r, who, c, local), s.progress(r)
	return v, nil
}

func stepOf(st incident.Step) stepView {
	v := stepView{
		ID: st.ID, Action: clean(st.Action), Say: sentence(clean(st.Say)), Lasting: sentence(clean(st.Lasting)), Risk: riskBadge(st.Risk), Before: checks(st.Before), Verify: checks(st.Verify),
		Warnings: cleanAll(st.Warnings), Blast: blast(st.Blast),
	}
	for _, k := range slices.Sorted(maps.Keys(st.Params)) {
		if st.Params[k] != "" {
			v.Params = append(v.Params, paramView{Name: clean(k), Value: clean(st.Params[k])})
		}
	}
	for _, t := range st.Targets {
		v.Targets = append(v.Targets, targetView{Ref: clean(t.Ref.String()), Observed: clean(t.Observed), Owner: clean(t.Owner), System: t.System})
	}
	for _, w := range st.Writes {
		v.Writes = append(v.Writes, writeOf(w))
	}
	for _, w := range st.Undo {
		v.Undo = append(v.Undo, writeOf(w))
	}
	if x := st.Source; x != nil {
		v.Source = &sourceView{Tool: clean(x.Tool), Owner: clean(x.Owner.String()), Where: clean(x.Where), Body: block(x.Body), Diff: diff(x.Diff)}
	}
	return v
}

func writeOf(w incident.Write) writeView {
	v := writeView{ID: w.ID, Verb: clean(w.Verb), Ref: clean(w.Ref.String()), Say: sentence(clean(w.Say)), Diff: diff(w.Diff), DryRun: w.Dry == "server", Body: pretty(w.Body), Waits: checks(w.Await)}
	if !v.DryRun {
		v.Dry = sentence(clean(w.Dry))
	}
	if w.API != "" && w.API != incident.APIKubernetes {
		v.Verb = clean(w.API) + " " + v.Verb
	}
	return v
}

// pretty writes a request's body with indents, as it is sent otherwise.
func pretty(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return block(string(raw))
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return block(string(raw))
	}
	return block(string(out))
}

func checks(all []incident.Check) []checkView {
	var out []checkView
	for _, c := range all {
		v := checkView{Say: sentence(clean(c.Say))}
		if c.Within > 0 {
			v.Within = "within " + span(time.Duration(c.Within)*time.Second)
		}
		if c.Hold > 0 {
			v.Within = strings.TrimPrefix(v.Within+", held for "+span(time.Duration(c.Hold)*time.Second), ", ")
		}
		if !slices.ContainsFunc(out, func(o checkView) bool { return o.Say == v.Say && o.Within == v.Within }) {
			out = append(out, v)
		}
	}
	return out
}

// blast says whom a plan hurts.
func blast(b incident.Blast) blastView {
	v := blastView{Notes: cleanAll(b.Notes)}
	if b.PodCount > 0 {
		names := refs(b.Pods[:min(len(b.Pods), 8)])
		more := ""
		if b.PodCount > len(names) {
			more = ", and more"
		}
		v.Lines = append(v.Lines, fmt.Sprintf("Stops %s: %s%s.", plural(b.PodCount, "pod", "pods"), strings.Join(names, ", "), more))
	}
	if len(b.Workloads) > 0 {
		v.Lines = append(v.Lines, "They belong to "+strings.Join(refs(b.Workloads), ", ")+".")
	}
	if b.GPUs > 0 {
		v.Lines = append(v.Lines, fmt.Sprintf("They hold %s, with %.1f GPU-hours of work since they started.", plural(b.GPUs, "GPU", "GPUs"), b.GPUHours))
	}
	switch {
	case b.Requests > 0:
		v.Lines = append(v.Lines, fmt.Sprintf("%.0f requests are in flight.", b.Requests))
	case b.Requests < 0 && b.GPUs > 0:
		v.Lines = append(v.Lines, "How many requests are in flight is not known.")
	}
	if len(b.Nodes) > 0 {
		v.Lines = append(v.Lines, "Nodes touched: "+strings.Join(refs(b.Nodes), ", ")+".")
	}
	if len(b.BelowBudget) > 0 {
		v.Lines = append(v.Lines, "Fewer disruptions are allowed than needed by "+strings.Join(cleanAll(b.BelowBudget), ", ")+".")
	}
	v.Nothing = len(v.Lines) == 0 && len(v.Notes) == 0
	return v
}

// consent says what is asked of people and what they said.
func (s *Web) consent(r planner.Record, who incident.Person, c can, local bool) consentView {
	now := s.now()
	b := r.Brief()
	v := consentView{
		ID: r.Plan.ID, Digest: r.Digest, Requester: clean(r.Plan.Requester.Name), Have: b.Approvals, Of: b.Needed, Can: c, Local: local,
		Pending: r.State == incident.PlanPending, Approved: r.State == incident.PlanApproved, Undoes: r.State == incident.PlanVerified, High: worst(r.Plan).Weight() >= incident.RiskHigh.Weight(),
	}
	switch r.Decision.Verdict {
	case incident.Deny:
		v.Need, v.Verdict = "The policy denies it.", badge{"bad", "denied"}
	case incident.Allow:
		v.Need, v.Verdict = "Nobody has to approve it.", badge{"good", "allowed"}
	case incident.AskTwo:
		v.Need, v.Verdict = "Two people have to approve it.", badge{"warn", "asks two"}
	default:
		v.Need, v.Verdict = "One person has to approve it.", badge{"warn", "asks one"}
	}
	if r.Decision.Approvers > 0 && !r.Decision.SelfApproval {
		v.Need += " Who asked for it cannot be one of them."
	}
	for _, h := range r.Decision.Rules {
		if h.Verdict == r.Decision.Verdict {
			v.Rules = append(v.Rules, ruleView{clean(h.Rule), clean(h.Step), sentence(clean(h.Reason))})
		}
	}
	if v.Pending || v.Approved {
		v.Expires = moment(r.Plan.Expires, now)
	}
	for _, w := range r.Words {
		v.Words = append(v.Words, wordView{By: clean(w.By.Name), Word: said(w.Word), Class: clean(w.Word), Comment: clean(w.Comment), Surface: clean(w.By.Surface), At: moment(w.At, now)})
		if who.Name != "" && w.By.Name == who.Name {
			switch w.Word {
			case incident.Approved:
				v.Mine = true
			case incident.Revoked:
				v.Mine = false
			}
		}
	}
	switch {
	case !c.Approve:
		v.Why = "Your role does not approve plans."
	case who.Name != "" && who.Name == r.Plan.Requester.Name && !r.Decision.SelfApproval && r.Decision.Approvers > 0:
		v.Why = "You asked for this plan; somebody else has to approve it."
	}
	return v
}

func said(word string) string {
	return cmp.Or(map[string]string{incident.Approved: "approved", incident.Rejected: "rejected", incident.Revoked: "took the approval back", incident.Commented: "said"}[word], clean(word))
}

// progress says how far the execution came.
func (s *Web) progress(r planner.Record) progressView {
	v := progressView{ID: r.Plan.ID, State: planState(r.State), Reason: sentence(clean(r.Reason)), By: clean(r.By.Name), Begun: moment(r.Begun, s.now()), Left: cleanAll(r.Left), Busy: r.State == incident.PlanExecuting, Undoes: r.Undoing, Final: r.State.Final()}
	for _, st := range r.Plan.Steps {
		for _, list := range [][]incident.Write{st.Writes, st.Undo} {
			for _, w := range list {
				res, known := r.Writes[w.ID]
				if w.Of != "" && !known && r.Open != w.ID {
					continue // an undo that nobody asked for
				}
				x := writeView{ID: w.ID, Verb: clean(w.Verb), Ref: clean(w.Ref.String()), Say: sentence(clean(w.Say)), State: badge{"off", "not begun"}, Error: sentence(clean(res.Error))}
				switch {
				case res.Done && res.Found:
					x.State = badge{"good", "done, found after an interruption"}
				case res.Done:
					x.State = badge{"good", "done"}
				case known:
					x.State = badge{"bad", "failed"}
				case r.Open == w.ID:
					x.State = badge{"live", "being sent"}
				}
				v.Writes = append(v.Writes, x)
			}
		}
	}
	for _, c := range r.Checks {
		x := checkView{Say: sentence(clean(c.Check.Say)), Saw: clean(c.Saw)}
		switch c.Verdict {
		case incident.Pass:
			x.Verdict = badge{"good", "pass"}
		case incident.Fail:
			x.Verdict = badge{"bad", "fail"}
		default:
			x.Verdict = badge{"warn", "inconclusive"}
		}
		v.Checks = append(v.Checks, x)
	}
	v.Shown = !r.Begun.IsZero() || v.Final
	if strings.EqualFold(strings.TrimSuffix(v.Reason, "."), v.State.Text) {
		v.Reason = ""
	}
	return v
}

// diffLine is a line of a unified diff.
type diffLine struct{ Class, Mark, Text string }

// maxDiff bounds the lines of a diff on a page.
const maxDiff = 2000

// diff takes a unified diff apart. The mark stays beside the line, so that it can be
// read without colours.
func diff(s string) []diffLine {
	var out []diffLine
	for l := range strings.Lines(s) {
		if len(out) == maxDiff {
			return append(out, diffLine{"hunk", " ", "The diff goes on; the request's body has all of it."})
		}
		l = strings.TrimRight(l, "\r\n")
		d := diffLine{Class: "same", Mark: " "}
		switch {
		case strings.HasPrefix(l, "@@"), strings.HasPrefix(l, "+++ "), strings.HasPrefix(l, "--- "):
			d.Class = "hunk"
		case strings.HasPrefix(l, "+"):
			d.Class, d.Mark, l = "add", "+", l[1:]
		case strings.HasPrefix(l, "-"):
			d.Class, d.Mark, l = "del", "-", l[1:]
		case strings.HasPrefix(l, " "):
			l = l[1:]
		}
		d.Text = block(l)
		out = append(out, d)
	}
	return out
}
