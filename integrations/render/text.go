package render

import (
	"fmt"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// TextOptions for a terminal.
type TextOptions struct {
	// Width in columns to wrap at; 0 leaves lines as they are.
	Width int
	// Color turns on ANSI styles.
	Color bool
	// Bare leaves out the question and the chain, for a surface that shows them itself.
	Bare bool
}

// maxAsked bounds the question that is shown, in characters: a log that was
// pasted in does not stand before its answer.
const maxAsked = 400

// Text writes a report the way a tired person reads it: the question, the
// cause, how it hangs together, what it is not, what could not be seen, and what
// to do next.
func Text(r incident.Report, o TextOptions) string {
	w := &writer{o: o}
	d := r.Diagnosis
	if !o.Bare {
		w.row("Question", span{text: asked(r)})
	}
	if d.Outcome != incident.RootCause || len(d.Causes) == 0 {
		w.row("Answer", span{bold, headline(d)})
	}
	for i, c := range d.Causes {
		label := "Cause"
		if len(d.Causes) > 1 {
			label = fmt.Sprintf("Cause %d", i+1)
		}
		w.cause(label, c)
	}
	if len(d.Chain) > 0 && !o.Bare {
		w.row("Chain", span{text: Chain(d.Chain)})
	}
	list(w, "Ruled out", d.RuledOut, func(f incident.Refutation) string { return bracketed(f.What, f.Why) + cite(f.Evidence) })
	for _, f := range d.Unexplained {
		w.row("Unexplained", span{text: Clean(f.Message) + cite(f.Evidence)})
	}
	if d.Ask != nil && !answersWithAsk(d) {
		w.row("Note", span{text: Clean(d.Ask.Text)})
	}
	if len(d.Causes) == 0 {
		for _, c := range d.Checked {
			w.row("Checked", span{text: Clean(c.What) + ": " + Clean(c.Result) + cite(c.Evidence)})
		}
	}
	list(w, "Not seen", d.NotSeen, func(g incident.Gap) string { return bracketed(g.Source, g.Why, g.Fix) })
	for _, c := range d.WouldFit {
		w.row("Would fit", span{text: Clean(c.Text) + cite(c.Evidence)})
	}
	for _, p := range d.Proposals {
		w.next(p)
	}
	for _, u := range d.Unsupported {
		w.row("Unsupported", span{text: joined(u.Claim, strings.Join(u.Reasons, "; "))})
	}
	if s := Clean(d.Summary); s != "" {
		w.row("Model says", span{text: s})
	}
	if s := warning(r); s != "" {
		w.row("Warning", span{text: s})
	}
	if s := stopped(r); s != "" {
		w.row("Stopped", span{text: s})
	}
	return w.b.String()
}

// cause writes the statement with its confidence at the edge, and the figures
// that decide it. The evidence stands behind the last of them.
func (w *writer) cause(label string, c incident.Cause) {
	var detail []string
	for _, line := range c.Detail {
		if line = Clean(line); line != "" {
			detail = append(detail, line)
		}
	}
	head := []span{{bold, Clean(c.Statement)}}
	ids := span{text: cite(c.Evidence)}
	if len(detail) == 0 {
		head = append(head, ids)
	}
	w.aligned(label, span{dim, fmt.Sprintf("confidence %.2f", c.Confidence)}, head...)
	for i, line := range detail {
		if i < len(detail)-1 {
			w.row("", span{text: line})
		} else {
			w.row("", span{text: line}, ids)
		}
	}
}

// next writes a proposal: why, and the action with what the reason does not say.
func (w *writer) next(p incident.Proposal) {
	why := Clean(p.Why)
	spans := []span{{text: why}}
	if why != "" {
		spans = append(spans, span{text: " "}, span{dim, "(" + proposal(p, why) + ")"})
	} else {
		spans = []span{{text: proposal(p, "")}}
	}
	w.row("Next", append(spans, span{text: cite(p.Evidence)})...)
}

// list writes several things on one line.
func list[T any](w *writer, label string, all []T, say func(T) string) {
	var parts []string
	for _, x := range all {
		if s := say(x); s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) > 0 {
		w.row(label, span{text: strings.Join(parts, " · ")})
	}
}
