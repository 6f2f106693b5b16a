package render

import (
	"fmt"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Markdown writes a report for tickets and chats, evidence included.
func Markdown(r incident.Report) string {
	var b strings.Builder
	d := r.Diagnosis
	fmt.Fprintf(&b, "## %s\n\n", md(r.Question))
	if len(d.Causes) == 0 || d.Outcome != incident.RootCause {
		fmt.Fprintf(&b, "**%s**\n\n", md(headline(d)))
	}
	for _, c := range d.Causes {
		fmt.Fprintf(&b, "**Cause:** %s (%s, confidence %.2f)%s\n\n", md(c.Statement), c.Code, c.Confidence, cite(c.Evidence))
		for _, line := range c.Detail {
			fmt.Fprintf(&b, "- %s\n", md(line))
		}
		if len(c.Detail) > 0 {
			b.WriteByte('\n')
		}
	}
	if len(d.Chain) > 0 {
		fmt.Fprintf(&b, "**Chain:** %s\n\n", md(Chain(d.Chain)))
	}
	list := func(title string, items []string) {
		if len(items) == 0 {
			return
		}
		fmt.Fprintf(&b, "**%s**\n\n", title)
		for _, i := range items {
			fmt.Fprintf(&b, "- %s\n", i)
		}
		b.WriteByte('\n')
	}
	var ruled, open, checked, unseen, fits, next, refused []string
	for _, f := range d.RuledOut {
		ruled = append(ruled, md(f.What)+": "+md(f.Why)+cite(f.Evidence))
	}
	for _, f := range d.Unexplained {
		open = append(open, md(f.Message)+cite(f.Evidence))
	}
	for _, c := range d.Checked {
		checked = append(checked, md(c.What)+": "+md(c.Result)+cite(c.Evidence))
	}
	for _, g := range d.NotSeen {
		unseen = append(unseen, strings.TrimSuffix(md(g.Source)+": "+md(g.Why)+". "+md(g.Fix), ". "))
	}
	for _, c := range d.WouldFit {
		fits = append(fits, md(c.Text)+cite(c.Evidence))
	}
	for _, p := range d.Proposals {
		next = append(next, md(p.Why)+" `"+strings.ReplaceAll(proposal(p), "`", "'")+"`"+cite(p.Evidence))
	}
	for _, u := range d.Unsupported {
		refused = append(refused, md(u.Claim)+": "+md(strings.Join(u.Reasons, "; ")))
	}
	list("Ruled out", ruled)
	list("Unexplained", open)
	list("Would fit", fits)
	list("Next", next)
	list("Checked", checked)
	list("Not seen", unseen)
	list("Unsupported claims", refused)
	if d.Summary != "" {
		fmt.Fprintf(&b, "**The model's words (not validated):** %s\n\n", md(d.Summary))
	}
	if len(r.Evidence) > 0 {
		b.WriteString("| evidence | tool | arguments | result |\n|---|---|---|---|\n")
		for _, e := range r.Evidence {
			first, _, _ := strings.Cut(e.Text, "\n")
			if e.Error != "" {
				first = "failed: " + e.Error
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", e.ID, e.Tool, cell(string(e.Args)), cell(first))
		}
	}
	return b.String()
}

// md keeps cluster text from becoming markup.
func md(s string) string {
	return strings.NewReplacer("\\", "\\\\", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]", "<", "&lt;", "|", "\\|", "#", "\\#").Replace(Clean(s))
}

func cell(s string) string {
	s = Clean(s)
	if r := []rune(s); len(r) > 160 {
		s = string(r[:160]) + "…"
	}
	return strings.ReplaceAll(md(s), "\n", " ")
}
