package tui

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// brush is all that a finished item is drawn with.
type brush struct {
	th       theme
	width    int
	expanded bool
}

// item is a finished part of the conversation. It never changes.
type item interface{ draw(b brush) []string }

// cell keeps how an item was last drawn: ten thousand lines are not drawn again
// because one is added.
type cell struct {
	item
	drawn brush
	ok    bool
	lines []string
}

func (c *cell) view(b brush) []string {
	if !c.ok || c.drawn.width != b.width || c.drawn.expanded != b.expanded || c.drawn.th.name != b.th.name || c.drawn.th.accent.GetForeground() != b.th.accent.GetForeground() {
		c.lines, c.drawn, c.ok = hard(c.draw(b), b.width), b, true
	}
	return c.lines
}

// noteItem is a sentence of the chat itself.
type noteItem struct{ level, text string }

// Levels of a note.
const (
	noteInfo = "info"
	noteWarn = "warning"
	noteBad  = "error"
)

func (n noteItem) draw(b brush) []string {
	st, mark := b.th.faint, "· "
	switch n.level {
	case noteWarn:
		st, mark = b.th.warn, "! "
	case noteBad:
		st, mark = b.th.bad, "! "
	}
	var out []string
	for _, l := range wrap(clean(n.text), b.width-2) {
		out = append(out, st.Render(mark+l))
		mark = "  "
	}
	return out
}

// textItem is text of several lines that is shown as it is.
type textItem struct{ lines []string }

func (t textItem) draw(brush) []string { return t.lines }

// drawItem is drawn by a function.
type drawItem func(b brush) []string

func (d drawItem) draw(b brush) []string { return d(b) }

// asked is the line of a question.
func asked(th theme, text string, width int) []string {
	var out []string
	mark := th.accent.Render("› ")
	for _, l := range cleanLines(text) {
		for _, w := range wrap(l, width-2) {
			out = append(out, mark+th.strong.Render(w))
			mark = "  "
		}
	}
	if len(out) == 0 {
		out = append(out, mark)
	}
	return out
}

// turnItem is a question with its answer.
type turnItem struct {
	turn   session.Turn
	looks  []*look
	said   []string
	report *incident.Report
	// reason is why there is no report.
	reason   string
	warnings []string
}

// fewLooks is how many calls stay visible in a finished turn that is not expanded.
const fewLooks = 8

func (t turnItem) draw(b brush) []string {
	th := b.th
	out := asked(th, t.question(), b.width)
	shown := t.looks
	if !b.expanded && len(shown) > fewLooks {
		shown = shown[:fewLooks]
	}
	for _, l := range shown {
		out = append(out, lookLine(th, l, time.Time{}, b.width))
		if b.expanded {
			out = append(out, lookText(th, l, b.width)...)
		}
	}
	if n := len(t.looks) - len(shown); n > 0 {
		out = append(out, th.faint.Render(clip(fmt.Sprintf("  + %d more looks (ctrl+o expands, /evidence)", n), b.width)))
	}
	for _, s := range t.said {
		if t.report != nil && strings.TrimSpace(s) == strings.TrimSpace(t.report.Diagnosis.Summary) {
			continue // it stands in the answer
		}
		out = append(out, indent(renderMarkdown(th, s, b.width-2), "  ")...)
	}
	for _, w := range t.warnings {
		out = append(out, noteItem{noteWarn, w}.draw(b)...)
	}
	switch {
	case t.report != nil:
		out = append(out, answer(th, *t.report, b.width)...)
	default:
		out = append(out, noteItem{noteWarn, t.reason}.draw(b)...)
	}
	return append(out, "")
}

func (t turnItem) question() string { return questionText(t.turn.Question) }

// questionText is what was asked, or the alert that asked.
func questionText(q incident.Question) string {
	if q.Text == "" && q.Alert != nil {
		return "alert " + q.Alert.Name
	}
	return q.Text
}

// answer writes a report: the rows of every surface, the chain as a tree, and the
// lines of the series that decided.
func answer(th theme, r incident.Report, width int) []string {
	out := rows(width, func(w int) string { return render.Text(r, render.TextOptions{Width: w, Color: true, Bare: true}) })
	if chain := chainTree(th, r.Diagnosis.Chain); len(chain) > 0 {
		out = append(out, labelled(th, "Chain", chain, width)...)
	}
	if lines := sparks(th, r.Diagnosis, r.Evidence, width-labelCols); len(lines) > 0 {
		out = append(out, labelled(th, "Series", lines, width)...)
	}
	return append(out, th.faint.Render(clip(footer(r), width)))
}

// labelCols is where text begins behind a label; render uses the same.
const labelCols = 12

// narrow is the width below which labels stand on lines of their own.
const narrow = 48

// rows splits what render wrote. In a narrow window it is written without wrapping and
// wrapped here, below its labels.
func rows(width int, text func(width int) string) []string {
	if width >= narrow {
		return strings.Split(strings.TrimRight(text(width), "\n"), "\n")
	}
	var out []string
	for l := range strings.SplitSeq(strings.TrimRight(text(0), "\n"), "\n") {
		if label := ansi.Cut(l, 0, labelCols); strings.TrimSpace(ansi.Strip(label)) != "" {
			out = append(out, strings.TrimRight(label, " "))
		}
		out = append(out, indent(wrap(ansi.Cut(l, labelCols, ansi.StringWidth(l)), max(width-2, 8)), "  ")...)
	}
	return out
}

// labelled writes lines behind a label.
func labelled(th theme, label string, lines []string, width int) []string {
	var out []string
	pad := labelCols
	if width < narrow {
		pad = 2
		out = append(out, th.accent.Render(label))
		label = ""
	}
	for i, l := range lines {
		head := strings.Repeat(" ", pad)
		if i == 0 && label != "" {
			head = th.accent.Render(label) + strings.Repeat(" ", pad-len(label))
		}
		out = append(out, head+l)
	}
	return out
}

// footer says what the answer cost.
func footer(r incident.Report) string {
	u := r.Usage
	parts := []string{clean(r.ID), fmt.Sprintf("%d looks", len(r.Evidence)), took(time.Duration(u.Seconds * float64(time.Second)))}
	if r.Model != "" {
		parts = append(parts, clean(r.Model))
	}
	if u.InputTokens+u.OutputTokens > 0 {
		parts = append(parts, fmt.Sprintf("%s in, %s out", count(u.InputTokens), count(u.OutputTokens)))
	}
	if u.Cost > 0 {
		parts = append(parts, fmt.Sprintf("$%.4f", u.Cost))
	}
	if r.Diagnosis.Outcome == incident.RootCause && len(r.Diagnosis.Proposals) > 0 {
		parts = append(parts, "/plan makes a plan")
	}
	return strings.Join(parts, " · ")
}

// count shortens a number of tokens.
func count(n int) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	case n >= 1000:
		return fmt.Sprintf("%.1fk", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}

// planItem is the card of a plan in the flow: why, the exact steps, whom it hurts, how
// it is proved and taken back, and the diff.
type planItem struct {
	rec planner.Record
	now time.Time
}

func (p planItem) draw(b brush) []string {
	return planCardLines(b.th, p.rec, p.now, b.width)
}

func planView(r planner.Record, now time.Time) render.PlanView {
	return render.PlanView{Plan: r.Plan, Digest: r.Digest, Decision: r.Decision, State: r.State, Reason: r.Reason, Words: r.Words, Prose: r.Prose, Writes: r.Writes, Checks: r.Checks, Left: r.Left, Now: now}
}

func planCardLines(th theme, r planner.Record, now time.Time, width int) []string {
	out := rows(width, func(w int) string { return render.Plan(planView(r, now), render.TextOptions{Width: w, Color: true}) })
	if diff := strings.TrimRight(render.PlanDiff(r.Plan), "\n"); diff != "" {
		var lines []string
		pad := labelCols
		if width < narrow {
			pad = 2
		}
		for l := range strings.SplitSeq(diff, "\n") {
			for _, w := range hard([]string{l}, max(width-pad, 8)) {
				lines = append(lines, diffLine(th, w))
			}
		}
		out = append(out, labelled(th, "Diff", lines, width)...)
	}
	return append(out, "")
}

func indent(lines []string, by string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.TrimRight(by+l, " ")
	}
	return out
}

// padBetween puts one text at the left and one at the right edge.
func padBetween(left, right string, width int) string {
	pad := width - ansi.StringWidth(left) - ansi.StringWidth(right)
	if pad < 1 {
		return clip(left+" "+right, width)
	}
	return left + strings.Repeat(" ", pad) + right
}
