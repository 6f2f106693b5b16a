package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// PlanView is what a surface shows of a plan. Everything but Prose comes from the
// plan's own bytes, the policy's decision and the journal.
type PlanView struct {
	Plan     incident.Plan
	Digest   string
	Decision incident.Decision
	State    incident.PlanState
	Reason   string
	Words    []incident.Approval
	// Prose is a model's; it is shown apart and marked.
	Prose  string
	Writes map[string]incident.WriteResult
	Checks []incident.CheckResult
	Left   []string
	Now    time.Time
}

// Plan writes the card of a plan: what is done, whom it hurts, how it is proved and
// taken back, and what consent it needs.
func Plan(v PlanView, o TextOptions) string {
	w := &writer{o: o}
	p := v.Plan
	w.aligned("Plan", span{dim, p.ID}, span{bold, Clean(p.Title)})
	w.row("State", span{bold, string(v.State)}, span{text: after(": ", v.Reason)})
	w.row("Cluster", span{text: Clean(p.Cluster)})
	if c := p.Cause; c != nil {
		w.aligned("Cause", span{dim, fmt.Sprintf("confidence %.2f", c.Confidence)}, span{text: Clean(c.Statement) + cite(c.Evidence)})
		w.row("", span{dim, c.Code + " on " + c.Subject.String() + after(", from ", p.Investigation)})
	}
	if p.Reason != "" {
		w.row("Reason", span{text: Clean(p.Reason)}, span{dim, " (" + Clean(p.Author) + ")"})
	}
	for _, s := range p.Steps {
		w.step(s, v)
	}
	w.blast("Hurts", p.Blast)
	for _, c := range p.Capacity {
		w.row("Fits", span{text: Clean(c.Text)})
	}
	checks(w, "Only if", p.Before)
	checks(w, "Proof", p.Verify)
	for _, a := range p.Alternatives {
		w.row("Instead", span{text: Clean(a.Action) + ": " + Clean(a.Why)})
	}
	w.consent(v)
	for _, c := range v.Checks {
		if c.Verdict != incident.Pass {
			w.row("Saw", span{text: Clean(c.Check.Say) + ": " + string(c.Verdict) + after(": ", c.Saw)})
		}
	}
	for _, l := range v.Left {
		w.row("Left", span{text: Clean(l)})
	}
	if s := Clean(v.Prose); s != "" {
		w.row("Model says", span{dim, "(not a part of what is approved) "}, span{text: s})
	}
	w.row("Digest", span{dim, v.Digest})
	return w.b.String()
}

func after(sep, s string) string {
	if s = Clean(s); s == "" {
		return ""
	}
	return sep + s
}

func checks(w *writer, label string, all []incident.Check) {
	seen := map[string]bool{}
	for _, c := range all {
		s := Clean(c.Say)
		if c.Within > 0 {
			s += fmt.Sprintf(" (within %s)", time.Duration(c.Within)*time.Second)
		}
		if !seen[s] {
			w.row(label, span{text: s})
		}
		seen[s] = true
	}
}

// step writes one step with its requests.
func (w *writer) step(s incident.Step, v PlanView) {
	w.aligned("Step "+strings.TrimPrefix(s.ID, "s"), span{dim, "risk " + string(s.Risk)}, span{bold, Clean(s.Say)})
	w.row("", span{dim, s.Action + params(s.Params)})
	if s.Source != nil {
		w.row("", span{text: fmt.Sprintf("is done in the source repository: %s %s %s", Clean(s.Source.Tool), Clean(s.Source.Owner.Path()), Clean(s.Source.Where))})
	}
	for _, x := range s.Writes {
		w.row("", span{text: x.ID + " " + x.Verb + " " + x.Ref.String()}, span{dim, stood(v.Writes[x.ID], x)})
	}
	for _, t := range s.Targets {
		if t.Owner != "" {
			w.row("", span{dim, t.Ref.String() + " is kept by " + Clean(t.Owner)})
		}
	}
	for _, n := range s.Warnings {
		w.row("", span{bold, "! "}, span{text: Clean(n)})
	}
	checks(w, "", s.Verify)
	switch {
	case s.Source != nil:
	case len(s.Undo) == 0:
		w.row("", span{text: "undo: none"}, span{text: after("; ", s.Lasting)})
	default:
		var back []string
		for _, u := range s.Undo {
			back = append(back, Clean(u.Say))
		}
		w.row("", span{text: "undo: " + strings.Join(back, ", ") + after("; ", s.Lasting)})
	}
}

// stood says what became of a write, or how the server answered its dry run.
func stood(r incident.WriteResult, w incident.Write) string {
	switch {
	case r.Done && r.Found:
		return " done (found after an interruption)"
	case r.Done:
		return " done"
	case r.Error != "":
		return " failed: " + Clean(r.Error)
	case w.Dry == "server":
		return " (the server accepts it in a dry run)"
	}
	return after(" (", w.Dry) + strings.Repeat(")", min(len(w.Dry), 1))
}

func params(p map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(p)) {
		if p[k] != "" {
			b.WriteString(" " + k + "=" + Clean(p[k]))
		}
	}
	return b.String()
}

// blast writes whom a plan hurts.
func (w *writer) blast(label string, b incident.Blast) {
	if b.PodCount == 0 && len(b.Nodes) == 0 && len(b.Notes) == 0 && len(b.BelowBudget) == 0 {
		w.row(label, span{text: "nothing that runs"})
		return
	}
	parts := []string{}
	if b.PodCount > 0 {
		names := []string{}
		for _, r := range b.Pods[:min(len(b.Pods), 5)] {
			names = append(names, r.Path())
		}
		s := fmt.Sprintf("stops %d pods (%s", b.PodCount, strings.Join(names, ", "))
		if b.PodCount > len(names) {
			s += ", ..."
		}
		parts = append(parts, s+")")
	}
	if b.GPUs > 0 {
		parts = append(parts, fmt.Sprintf("%d GPUs, %.1f GPU-hours since their start", b.GPUs, b.GPUHours))
	}
	switch {
	case b.Requests > 0:
		parts = append(parts, fmt.Sprintf("%.0f requests in flight", b.Requests))
	case b.Requests < 0 && b.GPUs > 0:
		parts = append(parts, "requests in flight are not known")
	}
	for _, n := range b.Nodes {
		parts = append(parts, "node "+n.Name)
	}
	for _, n := range b.BelowBudget {
		parts = append(parts, "below the disruption budget "+Clean(n))
	}
	if len(parts) > 0 {
		w.row(label, span{text: strings.Join(parts, "; ")})
	}
	for _, n := range b.Notes {
		w.row(label, span{text: Clean(n)})
	}
}

// consent writes what the policy asks and who said what.
func (w *writer) consent(v PlanView) {
	need := map[int]string{0: "nobody has to approve", 1: "one person has to approve", 2: "two people have to approve"}[v.Decision.Approvers]
	if v.Decision.Verdict == incident.Deny {
		need = "the policy denies it"
	}
	w.row("Policy", span{bold, need})
	for _, r := range v.Decision.Rules {
		if r.Verdict == v.Decision.Verdict {
			w.row("", span{dim, r.Rule + after(" on ", r.Step) + after(": ", r.Reason)})
		}
	}
	w.row("Requester", span{text: Clean(v.Plan.Requester.Name)})
	for _, a := range v.Words {
		w.row("Said", span{text: fmt.Sprintf("%s: %s%s", Clean(a.By.Name), a.Word, after(": ", a.Comment))}, span{dim, " " + a.At.UTC().Format("2006-01-02 15:04 MST") + after(" ", a.By.Surface)})
	}
	if v.State == incident.PlanPending || v.State == incident.PlanApproved {
		left := v.Plan.Expires.Sub(v.Now).Round(time.Minute)
		w.row("Expires", span{text: fmt.Sprintf("%s (in %s)", v.Plan.Expires.UTC().Format("2006-01-02 15:04 MST"), left)})
	}
}

// PlanDiff writes the diff of every write, and of what belongs into a repository.
func PlanDiff(p incident.Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		if s.Source != nil {
			fmt.Fprintf(&b, "# %s: %s\n# %s\n%s\n", s.ID, Clean(s.Say), Clean(s.Source.Where), lines(s.Source.Diff))
			continue
		}
		for _, w := range s.Writes {
			fmt.Fprintf(&b, "# %s: %s\n", w.ID, Clean(w.Say))
			if w.Dry != "" && w.Dry != "server" {
				fmt.Fprintf(&b, "# %s\n", Clean(w.Dry))
			}
			if w.Diff != "" {
				b.WriteString(lines(w.Diff))
			}
		}
	}
	return b.String()
}

// lines cleans a text of several lines and keeps its lines and indents.
func lines(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		l = strings.TrimRight(l, "\r\n")
		indent := l[:len(l)-len(strings.TrimLeft(l, " "))]
		mark := ""
		if len(indent) == 0 && l != "" && strings.ContainsRune("+-@", rune(l[0])) {
			mark, l = l[:1], l[1:]
			indent = l[:len(l)-len(strings.TrimLeft(l, " "))]
		}
		b.WriteString(mark + indent + Clean(l) + "\n")
	}
	return b.String()
}

// PlanList writes one line a plan.
func PlanList(views []PlanView) string {
	var b strings.Builder
	for _, v := range views {
		fmt.Fprintf(&b, "%-18s %-10s %-9s %s  %s\n", v.Plan.ID, v.State, v.Plan.Created.UTC().Format("01-02 15:04"), Clean(v.Plan.Title), Clean(v.Plan.Requester.Name))
	}
	return b.String()
}
