package tui

import (
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// key takes a key. The order is that of what covers what: an overlay, the search of
// the history, the card, a list of completions, the chat itself, the input.
func (c *chat) key(k tea.KeyPressMsg) tea.Cmd {
	before := c.lastKey
	c.lastKey = c.cfg.Now()
	name := k.String()
	if name != "ctrl+c" {
		c.leaving = 0
	}
	if c.quitting {
		return nil
	}
	if c.overlay != nil {
		return c.overlayKey(k)
	}
	if c.input.searching {
		if !c.input.searchKey(k) {
			return nil
		}
	}
	if c.card != nil && c.card.focus {
		if cmd, done := c.cardKey(k, before); done {
			return cmd
		}
	}
	if c.input.pending {
		c.input.pending = false
		if name == "ctrl+e" {
			return edit(c.cfg, c.input.value())
		}
	}
	if cmd, done := c.completeKey(name); done {
		return cmd
	}
	if cmd, done := c.chatKey(k, name); done {
		return cmd
	}
	return c.typed(k)
}

// typed gives a key to the input.
func (c *chat) typed(k tea.KeyPressMsg) tea.Cmd {
	var cmd tea.Cmd
	c.input.area, cmd = c.input.area.Update(k)
	return tea.Batch(cmd, c.lookUp())
}

// chatKey takes the keys of the chat itself.
func (c *chat) chatKey(k tea.KeyPressMsg, name string) (tea.Cmd, bool) {
	switch name {
	case "enter":
		return c.enter(), true
	case "esc":
		return c.escape(), true
	case "ctrl+c":
		return c.ctrlC(), true
	case "ctrl+d":
		if !c.input.empty() {
			return nil, false
		}
		c.quitting = true
	case "shift+tab":
		c.setMode((c.mode + 1) % (act + 1))
	case "tab":
		if c.card == nil || c.card.rec.State != incident.PlanPending || c.prompt != nil {
			return nil, true
		}
		c.turnTo()
	case "ctrl+o":
		c.expand()
	case "ctrl+t":
		c.hidePane = !c.hidePane
	case "ctrl+r":
		c.input.search()
	case "ctrl+g":
		return edit(c.cfg, c.input.value()), true
	case "ctrl+x":
		c.input.pending = true
	case "ctrl+l":
		return tea.ClearScreen, true
	case "pgup", "pgdown":
		if !c.full {
			return nil, true
		}
		c.scrollBy(map[string]int{"pgup": 1, "pgdown": -1}[name] * max(c.height/2, 1))
	case "up":
		return nil, c.input.up()
	case "down":
		return nil, c.input.down()
	case "?":
		if !c.input.empty() || c.prompt != nil {
			return nil, false
		}
		c.openOverlay(c.help())
	default:
		return nil, false
	}
	return nil, true
}

func (c *chat) setMode(m mode) {
	c.mode = m
	c.hint = map[mode]string{
		observe:  "observe: questions and looks only",
		planning: "plan: an answer that proposes something is made into a plan at once",
		act:      "act: you may approve plans; the policy still says who has to",
	}[m]
	if c.card != nil {
		c.card.note = ""
	}
}

// enter sends what was typed.
func (c *chat) enter() tea.Cmd {
	if c.input.newline() {
		return nil
	}
	if p := c.prompt; p != nil {
		return c.spoken(p)
	}
	text, err := c.input.take()
	if err != nil {
		c.note(noteWarn, err.Error())
	}
	c.complete.close()
	c.hint, c.scroll = "", 0
	if text == "" {
		return nil
	}
	cmd, ok, err := parseCommand(text)
	switch {
	case err != nil:
		c.note(noteBad, err.Error())
		return nil
	case ok:
		return c.run(cmd)
	}
	return c.ask(text)
}

// spoken has the words that go with a decision.
func (c *chat) spoken(p *wordPrompt) tea.Cmd {
	text := strings.TrimSpace(c.input.value())
	if text == "" {
		c.hint = "a few words are needed; esc keeps the plan as it is"
		return nil
	}
	c.input.area.Reset()
	c.prompt, c.hint = nil, ""
	return c.say(p.plan, p.word, text)
}

// escape closes what is open, then takes back the question at work.
func (c *chat) escape() tea.Cmd {
	switch {
	case c.prompt != nil:
		c.prompt, c.hint = nil, ""
		c.input.area.Reset()
		c.turnTo()
		return nil
	case c.turn != nil:
		return c.interrupt()
	case len(c.queue) > 0:
		c.queue = nil
		return nil
	}
	c.hint = ""
	return nil
}

// ctrlC empties the input, then leaves; while something is at work it asks for a
// second time.
func (c *chat) ctrlC() tea.Cmd {
	c.leaving++
	switch {
	case c.leaving > 1:
		c.quitting = true
	case c.turn != nil || c.asking:
		c.hint = "ctrl+c again leaves; the question goes on without you, esc takes it back"
	case !c.input.empty():
		c.input.area.Reset()
		c.prompt = nil
		c.hint = "ctrl+c again leaves"
	default:
		c.quitting = true
	}
	return nil
}

// expand shows what tools answered, or hides it. The scrollback cannot be drawn
// again, so the last answer is written anew there.
func (c *chat) expand() {
	c.expanded = !c.expanded
	if c.full || !c.expanded || c.turn != nil {
		return
	}
	for _, cell := range slices.Backward(c.cells) {
		if t, ok := cell.item.(turnItem); ok {
			c.add(t)
			return
		}
	}
}

// paste takes pasted text. It never sends, approves or searches.
func (c *chat) paste(s string) tea.Cmd {
	c.lastKey = c.cfg.Now()
	c.leaving = 0
	if c.overlay != nil {
		c.overlay.paste(s)
		return nil
	}
	if c.card != nil {
		c.card.focus = false
	}
	c.input.searching = false
	c.input.paste(s)
	return c.lookUp()
}
