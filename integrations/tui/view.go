package tui

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// View implements tea.Model. Inline it is the live tail only; what is finished is in
// the scrollback already.
func (c *chat) View() tea.View {
	if c.overlay != nil && !c.out.flying {
		v := tea.NewView(strings.Join(c.overlay.view(c.th, c.width, c.height), "\n"))
		v.AltScreen = true
		return v
	}
	if c.quitting {
		return tea.NewView("")
	}
	rows := c.height
	full := c.full && !c.out.flying
	if !full {
		rows = c.room()
	}
	lines, at := c.tail(rows)
	if full {
		above := c.transcript(rows - len(lines))
		at += len(above)
		lines = append(above, lines...)
	}
	c.frames.saw(len(lines))
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = full
	v.WindowTitle = "gumshoe"
	if cur := c.input.area.Cursor(); cur != nil {
		cur.Y += at
		if cur.Y < len(lines) && (c.card == nil || !c.card.focus) {
			v.Cursor = cur
		}
	}
	return v
}

// tail gives the live part in at most so many rows, and the row of the input. What
// matters most keeps its place in a small window: input, mode line, what is at work.
func (c *chat) tail(rows int) (lines []string, at int) {
	width := c.textWidth()
	input := c.inputLines(width)
	if len(input) > max(rows-1, 1) {
		input = input[:max(rows-1, 1)]
	}
	left := rows - len(input)
	var foot []string
	if left > 0 {
		foot = []string{c.modeLine(width)}
		left--
	}
	work := c.workLine(width)
	if work != "" && left > 0 {
		left--
	} else {
		work = ""
	}
	popup := c.completions(width, min(left, maxChoices))
	left -= len(popup)
	if h := c.hintLine(width); h != "" && left > 0 {
		foot = append([]string{h}, foot...)
		left--
	}
	card := c.cardLines(width, min(left, 6))
	left -= len(card)
	queue := c.queueLines(width, left/3)
	left -= len(queue)
	if len(card) > 0 && left > 0 && rows > 12 {
		card = append(card, "")
		left--
	}
	lines = append(lines, c.turnLines(width, left)...)
	if work != "" {
		lines = append(lines, work)
	}
	lines = append(append(lines, queue...), card...)
	at = len(lines)
	lines = append(append(lines, input...), popup...)
	return append(lines, foot...), at
}

// inputLines draws the input, with what it is asked for.
func (c *chat) inputLines(width int) []string {
	var out []string
	switch {
	case c.input.searching:
		out = append(out, clip(c.th.accent.Render("search: ")+c.input.needle+c.th.faint.Render("  ctrl+r older · enter takes it · esc"), width))
	case c.prompt != nil:
		out = append(out, clip(c.th.accent.Render(map[string]string{"reject": "why not? ", "comment": "what is to be said? "}[c.prompt.word])+c.th.faint.Render(clean(c.prompt.plan)+" · enter sends · esc"), width))
	}
	return append(out, strings.Split(c.input.area.View(), "\n")...)
}

// turnLines draws the turn at work, the newest at the bottom.
func (c *chat) turnLines(width, rows int) []string {
	t := c.turn
	if t == nil || rows < 1 {
		return nil
	}
	head := asked(c.th, questionText(t.Question), width)
	if len(head) > 1 && (rows < 8 || len(head) > rows/3) {
		head = head[:1]
	}
	rows -= len(head)
	var pane []string
	if !c.hidePane {
		pane = hypothesesPane(c.th, t.hyps, width, min(rows/2, 10))
	}
	rows -= len(pane)
	var body []string
	for _, l := range t.looks {
		body = append(body, lookLine(c.th, l, c.cfg.Now(), width))
		if c.expanded && l.done {
			body = append(body, lookText(c.th, l, width)...)
		}
	}
	for _, s := range t.said {
		body = append(body, indent(renderMarkdown(c.th, s, width-2), "  ")...)
	}
	if t.live != nil {
		body = append(body, indent(t.live.view(), "  ")...)
	}
	if over := len(body) - rows; over > 0 && rows > 0 {
		body = body[over:]
		if rows > 2 {
			body[0] = c.th.faint.Render(fmt.Sprintf("  + %d lines above", over+1))
		}
	}
	if rows <= 0 {
		body = nil
	}
	return append(append(head, hard(body, width)[:min(len(body), max(rows, 0))]...), pane...)
}

// spinner is drawn by the clock, so that the same moment gives the same picture.
func spinner(d time.Duration) string {
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	return string(frames[int(max(d, 0)/frame)%len(frames)])
}

// workLine says what is at work, for how long, and how to stop it.
func (c *chat) workLine(width int) string {
	now := c.cfg.Now()
	switch t := c.turn; {
	case t != nil:
		d := now.Sub(t.asked)
		what := firstOf(t.phase, "queued")
		if t.seq > 0 && t.phase == "" {
			what = "looking"
		}
		for _, l := range t.looks {
			if !l.done {
				what = l.tool
			}
		}
		switch {
		case t.stopping:
			what = "stopping"
		case t.thinking:
			what += ", reasoning"
		}
		return clip(c.th.accent.Render(spinner(d))+" "+took(d)+" "+what+c.th.faint.Render(fmt.Sprintf(" · %d looks · %d findings · esc interrupts", len(t.looks), t.found)), width)
	case c.asking:
		return clip(c.th.faint.Render("  sending the question"), width)
	case c.busy != "":
		return clip(c.th.accent.Render(spinner(now.Sub(c.started)))+" "+c.busy, width)
	}
	return ""
}

func (c *chat) queueLines(width, rows int) []string {
	var out []string
	for i, q := range c.queue {
		if i >= rows && rows > 0 {
			out[len(out)-1] = c.th.faint.Render(fmt.Sprintf("  + %d more wait", len(c.queue)-rows+1))
			break
		}
		if rows == 0 {
			break
		}
		out = append(out, clip(c.th.faint.Render("  waits: "+clean(q)), width))
	}
	return out
}

func (c *chat) hintLine(width int) string {
	if c.hint == "" {
		return ""
	}
	return clip(c.th.warn.Render(c.hint), width)
}

// modeLine is the line at the bottom. What matters least goes first when it is narrow.
func (c *chat) modeLine(width int) string {
	th := c.th
	type part struct {
		text string
		rank int // what is dropped first has the highest
	}
	var parts []part
	where := clean(firstOf(c.session.Cluster, c.status.Cluster))
	if ns := clean(firstOf(c.cfg.Namespace, c.session.Namespace, c.status.Namespace)); ns != "" {
		where = strings.TrimPrefix(where+"/"+ns, "/")
	}
	if where != "" {
		parts = append(parts, part{where, 3})
	}
	st := th.faint
	if c.mode == act {
		st = th.warn
	}
	parts = append(parts, part{st.Render(c.mode.String()), 0}, part{clean(c.modelName()), 4})
	if t := c.turn; t != nil {
		parts = append(parts, part{took(c.cfg.Now().Sub(t.asked)), 6})
	}
	in, out, cost := c.spent()
	if in+out > 0 {
		parts = append(parts, part{count(in) + "↑ " + count(out) + "↓", 7})
	}
	if w, u := c.window(), c.used(); w > 0 && u > 0 {
		parts = append(parts, part{fmt.Sprintf("ctx %d%%", 100*u/w), 5})
	}
	if cost > 0 {
		parts = append(parts, part{fmt.Sprintf("$%.2f", cost), 8})
	}
	if n := c.status.Pending; n > 0 {
		s := fmt.Sprintf("%d plans wait", n)
		if n == 1 {
			s = "1 plan waits"
		}
		parts = append(parts, part{th.warn.Render(s), 1})
	}
	for {
		texts := make([]string, len(parts))
		worst := 0
		for i, p := range parts {
			texts[i] = p.text
			if p.rank > parts[worst].rank {
				worst = i
			}
		}
		line := strings.Join(texts, th.faint.Render(" · "))
		if ansi.StringWidth(line) <= width || len(parts) == 1 {
			return clip(line, width)
		}
		parts = append(parts[:worst:worst], parts[worst+1:]...)
	}
}

// transcript gives the rows of the finished parts that a full screen shows. Cells are
// kept as they were drawn, so scrolling costs what is seen.
func (c *chat) transcript(rows int) []string {
	if rows < 1 {
		return nil
	}
	b := c.brush()
	need := rows + c.scroll
	var parts [][]string
	have := 0
	for i := len(c.cells) - 1; i >= 0 && have < need; i-- {
		l := c.cells[i].view(b)
		parts = append(parts, l)
		have += len(l)
	}
	c.scroll = max(min(c.scroll, have-rows), 0)
	out := make([]string, 0, rows)
	skip := have - rows - c.scroll // rows at the top that are not seen
	for i := len(parts) - 1; i >= 0 && len(out) < rows; i-- {
		l := parts[i]
		if skip >= len(l) {
			skip -= len(l)
			continue
		}
		l = l[max(skip, 0):]
		skip = 0
		out = append(out, l[:min(len(l), rows-len(out))]...)
	}
	for len(out) < rows {
		out = append(out, "")
	}
	return out
}

func (c *chat) scrollBy(n int) { c.scroll = max(c.scroll+n, 0) }
