package tui

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// outbox holds lines that wait for the scrollback. They are printed in order, one part
// at a time: parts that are printed side by side could change places, and one that is
// taller than what is free above the live tail would tear it.
type outbox struct {
	lines  []string
	flying bool
	// part is how many lines are flying.
	part int
}

// flush prints the next part; free is how many rows are free above the live tail.
func (o *outbox) flush(free int, draw func(string) string) tea.Cmd {
	if o.flying || len(o.lines) == 0 {
		return nil
	}
	n := min(max(free, 1), len(o.lines))
	part := draw(strings.Join(o.lines[:n], "\n"))
	o.lines, o.flying, o.part = o.lines[n:], true, n
	if part == "" { // an empty text is not printed at all
		part = " "
	}
	return tea.Sequence(tea.Println(part), func() tea.Msg { return flushMsg{} })
}

// frames remembers how tall the live tail is on the screen. The renderer draws a frame
// some time after it was asked to, so the tallest of the last moments counts: lines
// that are printed above a tail that is taken for shorter than it is tear it.
type frames struct {
	tall int
	at   time.Time
}

// stale is after how long the renderer has drawn the newest frame for sure.
const stale = 10 * time.Second / fps

// room is how tall the live tail may be: while lines fly, no taller than it was when
// their number was chosen.
func (c *chat) room() int {
	if c.out.flying {
		return max(c.height-1-c.out.part, 1)
	}
	return max(c.height-1, 1)
}

// saw takes the height of a new frame. The time is the machine's: it is about the
// renderer, not about what is shown.
func (f *frames) saw(rows int) {
	now := time.Now()
	if rows >= f.tall || now.Sub(f.at) > stale {
		f.tall, f.at = rows, now
	}
}

// deliver moves finished parts to the scrollback, where the chat writes there.
func (c *chat) deliver() tea.Cmd {
	if c.covered() || !c.settled {
		return nil
	}
	for ; c.shown < len(c.cells); c.shown++ {
		c.out.lines = append(c.out.lines, c.cells[c.shown].view(c.brush())...)
	}
	cmd := c.out.flush(c.height-c.frames.tall-1, func(s string) string { return downsample(c.profile, s) })
	if cmd == nil && c.quitting && !c.out.flying {
		return tea.Quit
	}
	return cmd
}
