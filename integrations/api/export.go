package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// Markdown gives a conversation as a page: each question with its report, then the plans.
func Markdown(e wire.Export) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nSession %s, opened by %s on %s at %s", line(e.Session.Title), e.Session.ID, line(named(e.Session.Owner.Name)), e.Session.Source, e.Session.Opened.UTC().Format("2006-01-02 15:04:05 UTC"))
	if e.Session.Cluster != "" {
		fmt.Fprintf(&b, ", cluster %s", line(e.Session.Cluster))
	}
	b.WriteString(".\n")
	for i, t := range e.Session.Turns {
		asked := t.Question.Text
		if asked == "" && t.Question.Alert != nil {
			asked = "alert " + t.Question.Alert.Name
		}
		fmt.Fprintf(&b, "\n---\n\n## Question %d\n\n%s\n\n%s asked on %s at %s: %s", i+1, line(asked), line(named(t.By.Name)), t.Source, t.Asked.UTC().Format("2006-01-02 15:04:05 UTC"), t.State)
		if t.Reason != "" {
			fmt.Fprintf(&b, " (%s)", line(t.Reason))
		}
		b.WriteString(".\n")
		if j := slices.IndexFunc(e.Runs, func(r store.Run) bool { return r.ID == t.Run }); j >= 0 {
			b.WriteString("\n" + render.Markdown(e.Runs[j].Report))
		}
	}
	if len(e.Plans) > 0 {
		b.WriteString("\n---\n\n## Plans\n\n")
	}
	for _, p := range e.Plans {
		fmt.Fprintf(&b, "- %s: %s (%s, digest %s)\n", p.Plan.ID, line(p.Plan.Title), p.State, p.Digest)
		for _, s := range p.Plan.Steps {
			fmt.Fprintf(&b, "  - %s %s\n", s.ID, line(s.Say))
		}
		for _, w := range p.Words {
			fmt.Fprintf(&b, "  - %s: %s", line(w.By.Name), w.Word)
			if w.Comment != "" {
				fmt.Fprintf(&b, ", %s", line(w.Comment))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func named(who string) string {
	if who == "" {
		return "the server's own identity"
	}
	return who
}

// line keeps a text on one line and from being markup.
func line(s string) string { return render.MarkdownText(s) }
