package render

import (
	"fmt"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// Conversation writes a session as Markdown: what was asked, by whom, and the report
// that answers it. reports are by run; a turn without one is told by its state.
func Conversation(s session.Session, reports map[string]incident.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", md(s.Title))
	fmt.Fprintf(&b, "Session %s, opened %s on %s", s.ID, s.Opened.UTC().Format(time.RFC3339), s.Source)
	if s.Owner.Name != "" {
		fmt.Fprintf(&b, " by %s", md(s.Owner.Name))
	}
	if s.Cluster != "" {
		fmt.Fprintf(&b, ", cluster %s", md(s.Cluster))
	}
	b.WriteString(".\n")
	for _, a := range s.Alerts {
		fmt.Fprintf(&b, "\n- alert %s is %s", md(a.Name), a.Status)
		if !a.StartsAt.IsZero() {
			fmt.Fprintf(&b, ", since %s", a.StartsAt.UTC().Format(time.RFC3339))
		}
	}
	if len(s.Alerts) > 0 {
		b.WriteString("\n")
	}
	for i, t := range s.Turns {
		q := t.Question.Text
		if q == "" && t.Question.Alert != nil {
			q = "alert " + t.Question.Alert.Name
		}
		fmt.Fprintf(&b, "\n## %d. %s\n\n", i+1, md(q))
		who := t.Source
		if t.By.Name != "" {
			who = md(t.By.Name) + ", " + who
		}
		fmt.Fprintf(&b, "Asked %s (%s), %s", t.Asked.UTC().Format(time.RFC3339), who, t.State)
		if t.Reason != "" {
			fmt.Fprintf(&b, ": %s", md(t.Reason))
		}
		b.WriteString(".\n")
		if r, ok := reports[t.Run]; ok {
			b.WriteString("\n" + body(r))
		}
	}
	for _, p := range s.Plans {
		fmt.Fprintf(&b, "\nPlan %s was made of it.\n", p)
	}
	return b.String()
}

// body is a report without its heading, which the question is already.
func body(r incident.Report) string {
	_, rest, _ := strings.Cut(Markdown(r), "\n")
	return strings.TrimLeft(rest, "\n")
}
