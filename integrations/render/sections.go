package render

import (
	"fmt"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Section is a part of an answer for surfaces that lay it out themselves, such as
// a chat. Its texts are cleaned and hold no markup; the surface escapes what has a
// meaning there.
type Section struct {
	// Title is "Cause", "Chain", "Ruled out", ...
	Title string
	// Note stands beside the title: a confidence.
	Note string
	// Lines in the order in which they are read, evidence ids behind them.
	Lines []string
}

// Headline is the answer in one sentence.
func Headline(d incident.Diagnosis) string {
	if d.Outcome == incident.RootCause && len(d.Causes) > 0 {
		return Clean(d.Causes[0].Statement)
	}
	return headline(d)
}

// Asked is the question as it is shown, shortened.
func Asked(r incident.Report) string { return asked(r) }

// Sections gives the parts of an answer, the most important first; parts that have
// nothing to say are left out.
func Sections(r incident.Report) []Section {
	d := r.Diagnosis
	var out []Section
	add := func(title, note string, lines ...string) {
		var kept []string
		for _, l := range lines {
			if l = strings.TrimSpace(l); l != "" {
				kept = append(kept, l)
			}
		}
		if len(kept) > 0 {
			out = append(out, Section{Title: title, Note: note, Lines: kept})
		}
	}
	if len(d.Causes) == 0 || d.Outcome != incident.RootCause {
		add("Answer", "", headline(d))
	}
	for i, c := range d.Causes {
		title := "Cause"
		if len(d.Causes) > 1 {
			title = fmt.Sprintf("Cause %d", i+1)
		}
		lines := []string{Clean(c.Statement) + cite(c.Evidence)}
		for _, l := range c.Detail {
			lines = append(lines, Clean(l))
		}
		add(title, fmt.Sprintf("confidence %.2f", c.Confidence), lines...)
	}
	if len(d.Chain) > 0 {
		add("Chain", "", Chain(d.Chain))
	}
	add("Ruled out", "", each(d.RuledOut, func(f incident.Refutation) string { return bracketed(f.What, f.Why) + cite(f.Evidence) })...)
	add("Unexplained", "", each(d.Unexplained, func(f incident.Finding) string { return Clean(f.Message) + cite(f.Evidence) })...)
	if d.Ask != nil && !answersWithAsk(d) {
		add("Note", "", Clean(d.Ask.Text))
	}
	if len(d.Causes) == 0 {
		add("Checked", "", each(d.Checked, func(c incident.CheckedItem) string { return joined(c.What, c.Result) + cite(c.Evidence) })...)
	}
	add("Not seen", "", each(d.NotSeen, func(g incident.Gap) string { return bracketed(g.Source, g.Why, g.Fix) })...)
	add("Would fit", "", each(d.WouldFit, func(c incident.Claim) string { return Clean(c.Text) + cite(c.Evidence) })...)
	add("Next", "", each(d.Proposals, func(p incident.Proposal) string {
		why := Clean(p.Why)
		if why == "" {
			return proposal(p, "") + cite(p.Evidence)
		}
		return why + " (" + proposal(p, why) + ")" + cite(p.Evidence)
	})...)
	add("Unsupported", "", each(d.Unsupported, func(u incident.Unsupported) string { return joined(u.Claim, strings.Join(u.Reasons, "; ")) })...)
	add("Model says", "not validated", Clean(d.Summary))
	add("Warning", "", warning(r))
	add("Stopped", "", stopped(r))
	return out
}

func each[T any](all []T, say func(T) string) []string {
	out := make([]string, len(all))
	for i, x := range all {
		out[i] = say(x)
	}
	return out
}

// Cost is what a run took, in one line: "offline, 12 looks, 3.2 s".
func Cost(r incident.Report) string {
	u := r.Usage
	parts := []string{first(Clean(r.Model), "offline"), fmt.Sprintf("%d looks", u.ToolCalls)}
	if u.Seconds > 0 {
		parts = append(parts, (time.Duration(u.Seconds*10) * time.Second / 10).String())
	}
	if n := u.InputTokens + u.OutputTokens; n > 0 {
		parts = append(parts, fmt.Sprintf("%d tokens", n))
	}
	if u.Cost > 0 {
		parts = append(parts, fmt.Sprintf("$%.3f", u.Cost))
	}
	return strings.Join(parts, ", ")
}

// PlanSections gives the parts of a plan's card, those a person has to know before
// saying yes first: why, the steps, whom it hurts, how it is proved and taken back.
func PlanSections(p incident.Plan) []Section {
	var out []Section
	add := func(title, note string, lines ...string) {
		if len(lines) > 0 {
			out = append(out, Section{Title: title, Note: note, Lines: lines})
		}
	}
	if c := p.Cause; c != nil {
		add("Why", fmt.Sprintf("confidence %.2f", c.Confidence), Clean(c.Statement)+cite(c.Evidence))
	}
	if s := Clean(p.Reason); s != "" {
		add("Reason", Clean(p.Author), s)
	}
	var undo []string
	for _, s := range p.Steps {
		lines := []string{Clean(s.Say)}
		if s.Source != nil {
			lines = append(lines, fmt.Sprintf("is done in the source repository: %s %s %s", Clean(s.Source.Tool), Clean(s.Source.Owner.Path()), Clean(s.Source.Where)))
		}
		for _, w := range s.Writes {
			lines = append(lines, Clean(w.ID+" "+w.Verb+" "+w.Ref.String())+stood(incident.WriteResult{}, w))
		}
		for _, t := range s.Targets {
			if t.Owner != "" {
				lines = append(lines, Clean(t.Ref.String())+" is kept by "+Clean(t.Owner))
			}
		}
		for _, n := range s.Warnings {
			lines = append(lines, "! "+Clean(n))
		}
		add("Step "+strings.TrimPrefix(s.ID, "s"), "risk "+Clean(string(s.Risk)), lines...)
		switch {
		case s.Source != nil:
		case len(s.Undo) == 0:
			undo = append(undo, s.ID+": none"+after("; ", s.Lasting))
		default:
			var back []string
			for _, u := range s.Undo {
				back = append(back, Clean(u.Say))
			}
			undo = append(undo, s.ID+": "+strings.Join(back, ", ")+after("; ", s.Lasting))
		}
	}
	add("Hurts", "", hurts(p.Blast)...)
	add("Fits", "", each(p.Capacity, func(c incident.Claim) string { return Clean(c.Text) })...)
	add("Proof", "", proofs(p)...)
	add("Undo", "", undo...)
	return out
}

// hurts gives the lines of whom a plan hurts, as the card in a terminal has them.
func hurts(b incident.Blast) []string {
	w := &writer{}
	w.blast("", b)
	var out []string
	for l := range strings.Lines(w.b.String()) {
		out = append(out, strings.TrimSpace(l))
	}
	return out
}

// proofs gives what must hold afterwards, each sentence once.
func proofs(p incident.Plan) []string {
	w := &writer{}
	for _, s := range p.Steps {
		checks(w, "", s.Verify)
	}
	checks(w, "", p.Verify)
	var out []string
	seen := map[string]bool{}
	for l := range strings.Lines(w.b.String()) {
		if l = strings.TrimSpace(l); l != "" && !seen[l] {
			out = append(out, l)
			seen[l] = true
		}
	}
	return out
}
