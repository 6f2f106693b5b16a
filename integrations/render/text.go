package render

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// TextOptions for a terminal.
type TextOptions struct {
	// Width in columns to wrap at; 0 leaves lines as they are.
	Width int
	// Color turns on ANSI styles.
	Color bool
}

// label column: the longest label is "Unexplained".
const labelWidth = 11

// Text writes a report the way a tired person reads it: the question, the
// cause, how it hangs together, what it is not, and what to do next.
func Text(r incident.Report, o TextOptions) string {
	w := &writer{o: o}
	d := r.Diagnosis
	w.row("Question", Clean(r.Question))
	if d.Outcome != incident.RootCause || len(d.Causes) == 0 {
		w.row("Answer", w.bold(headline(d)))
	}
	for i, c := range d.Causes {
		label := "Cause"
		if len(d.Causes) > 1 {
			label = fmt.Sprintf("Cause %d", i+1)
		}
		head := Clean(c.Statement)
		ids := cite(c.Evidence)
		if len(c.Detail) > 0 {
			w.row(label, w.bold(head)+fmt.Sprintf("   confidence %.2f", c.Confidence))
			for j, line := range c.Detail {
				if j == len(c.Detail)-1 {
					line = Clean(line) + ids
				}
				w.row("", Clean(line))
			}
			continue
		}
		w.row(label, w.bold(head)+ids+fmt.Sprintf("   confidence %.2f", c.Confidence))
	}
	if len(d.Chain) > 0 {
		w.row("Chain", Chain(d.Chain))
	}
	if len(d.RuledOut) > 0 {
		var parts []string
		for _, f := range d.RuledOut {
			s := Clean(f.What)
			if f.Why != "" {
				s += " (" + Clean(f.Why) + ")"
			}
			parts = append(parts, s+cite(f.Evidence))
		}
		w.row("Ruled out", strings.Join(parts, " · "))
	}
	for _, f := range d.Unexplained {
		w.row("Unexplained", Clean(f.Message)+cite(f.Evidence))
	}
	if d.Ask != nil && d.Outcome != incident.Inconclusive {
		w.row("Note", Clean(d.Ask.Text))
	}
	if len(d.Causes) == 0 {
		for _, c := range d.Checked {
			w.row("Checked", Clean(c.What)+": "+Clean(c.Result)+cite(c.Evidence))
		}
	}
	if len(d.NotSeen) > 0 {
		var parts []string
		for _, g := range d.NotSeen {
			s := Clean(g.Source)
			if g.Why != "" {
				s += " (" + Clean(g.Why) + ")"
			}
			parts = append(parts, s)
		}
		w.row("Not seen", strings.Join(parts, " · "))
	}
	for _, c := range d.WouldFit {
		w.row("Would fit", Clean(c.Text)+cite(c.Evidence))
	}
	for _, p := range d.Proposals {
		why := ""
		if p.Why != "" {
			why = Clean(p.Why) + "  "
		}
		w.row("Next", why+w.dim("("+proposal(p)+")")+cite(p.Evidence))
	}
	for _, u := range d.Unsupported {
		w.row("Unsupported", Clean(u.Claim)+": "+Clean(strings.Join(u.Reasons, "; ")))
	}
	if d.Summary != "" {
		w.row("Model says", Clean(d.Summary))
	}
	if len(r.Suspicious) > 0 {
		w.row("Warning", "instruction-like text was seen in the cluster's data and was treated as data: "+Clean(strings.Join(r.Suspicious, "; ")))
	}
	if r.StopReason != "" {
		w.row("Stopped", Clean(r.StopReason))
	}
	return w.b.String()
}

type writer struct {
	b    strings.Builder
	o    TextOptions
	last string
}

func (w *writer) bold(s string) string { return w.style("1", s) }
func (w *writer) dim(s string) string  { return w.style("2", s) }

func (w *writer) style(code, s string) string {
	if !w.o.Color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// row writes a labelled line; a label that repeats is written once.
func (w *writer) row(label, text string) {
	shown := label
	if label == w.last && label != "" {
		shown = ""
	}
	if label != "" {
		w.last = label
	}
	lines := wrap(text, w.o.Width-labelWidth-1)
	for i, l := range lines {
		if i > 0 {
			shown = ""
		}
		pad := strings.Repeat(" ", labelWidth-utf8.RuneCountInString(shown))
		if shown != "" {
			shown = w.style("36", shown)
		}
		w.b.WriteString(strings.TrimRight(shown+pad+" "+l, " "))
		w.b.WriteByte('\n')
	}
}

// wrap breaks a line at spaces so that it fits; words longer than the width
// stay whole. Styles count as no columns.
func wrap(s string, width int) []string {
	if width < 20 {
		return []string{s}
	}
	var lines []string
	var line strings.Builder
	cols := 0
	for i, word := range strings.Split(s, " ") {
		n := columns(word)
		if i > 0 && cols+1+n > width && cols > 0 {
			lines = append(lines, line.String())
			line.Reset()
			cols = 0
		} else if i > 0 {
			line.WriteByte(' ')
			cols++
		}
		line.WriteString(word)
		cols += n
	}
	return append(lines, line.String())
}

// columns counts runes outside of ANSI style sequences.
func columns(s string) int {
	n, in := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			in = true
		case in && r == 'm':
			in = false
		case !in:
			n++
		}
	}
	return n
}
