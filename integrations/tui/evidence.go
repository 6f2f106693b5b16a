package tui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// showEvidence opens the evidence of the last answer: all of it to choose from, or one.
func (c *chat) showEvidence(args []string) tea.Cmd {
	if c.last == nil {
		c.note(noteWarn, "no answer has been given here yet")
		return nil
	}
	all := c.last.Evidence
	if len(args) > 0 {
		i := slices.IndexFunc(all, func(e incident.Evidence) bool { return strings.EqualFold(e.ID, args[0]) })
		if i < 0 {
			c.note(noteWarn, fmt.Sprintf("there is no evidence %s; the last answer has %d", clean(args[0]), len(all)))
			return nil
		}
		c.openOverlay(c.evidenceViewer(all[i]))
		return nil
	}
	cited := citedBy(c.last.Diagnosis)
	var es []entry
	for _, e := range all {
		mark := "  "
		if cited[e.ID] {
			mark = c.th.accent.Render("* ")
		}
		l := &look{id: clean(e.ID), tool: clean(e.Tool), args: argsLine(string(e.Args)), done: true, millis: e.Millis, err: clean(e.Error)}
		es = append(es, entry{
			line: mark + strings.TrimPrefix(lookLine(c.th, l, time.Time{}, c.textWidth()-2), "  "), text: e.Text,
			pick: func() tea.Cmd {
				c.openOverlay(c.evidenceViewer(e))
				return nil
			},
		})
	}
	l := newList(fmt.Sprintf("evidence of %s (%d; * carries the answer)", clean(c.last.ID), len(es)), es)
	l.stay = true
	c.openOverlay(l)
	return nil
}

// citedBy gives the evidence that a diagnosis rests on.
func citedBy(d incident.Diagnosis) map[string]bool {
	out := map[string]bool{}
	for _, c := range d.Causes {
		for _, id := range c.Evidence {
			out[id] = true
		}
	}
	for _, r := range d.RuledOut {
		for _, id := range r.Evidence {
			out[id] = true
		}
	}
	for _, e := range d.Chain {
		for _, id := range e.Evidence {
			out[id] = true
		}
	}
	return out
}

// evidenceViewer shows one look: what was asked, what was answered, its series and its
// data.
func (c *chat) evidenceViewer(e incident.Evidence) *viewer {
	v := newViewer(fmt.Sprintf("%s %s", clean(e.ID), clean(e.Tool)), c.evidenceLines(e, e.Text))
	v.help = "c copy"
	v.keys = map[string]func() tea.Cmd{
		"c": func() tea.Cmd { return tea.SetClipboard(strings.Join(cleanLines(e.Text), "\n")) },
	}
	if e.Truncated && e.Digest != "" {
		v.help = "f full output · c copy"
		v.keys["f"] = func() tea.Cmd {
			return func() tea.Msg {
				raw, err := c.svc.Output(c.ctx, e.Digest)
				return outputMsg{e, raw, err}
			}
		}
	}
	return v
}

// outputMsg has the full output of evidence that was shortened.
type outputMsg struct {
	e   incident.Evidence
	raw []byte
	err error
}

func (c *chat) gotOutput(msg outputMsg) {
	if msg.err != nil {
		c.overlay = nil
		c.fail(msg.err)
		return
	}
	e := msg.e
	e.Truncated, e.Data, e.Text = false, nil, string(msg.raw)
	v := c.evidenceViewer(e)
	v.title += fmt.Sprintf(", full output (%d bytes)", len(msg.raw))
	if now, ok := c.overlay.(*viewer); ok {
		v.back = now.back
	}
	c.openOverlay(v)
}

func (c *chat) evidenceLines(e incident.Evidence, text string) []string {
	th := c.th
	out := []string{
		th.faint.Render(clean(fmt.Sprintf("cluster %s · %s · %s", e.Cluster, e.At.UTC().Format("2006-01-02 15:04:05 MST"), took(time.Duration(e.Millis)*time.Millisecond)))),
		th.faint.Render(argsLine(string(e.Args))), "",
	}
	if e.Error != "" {
		out = append(out, th.warn.Render("failed ("+clean(e.ErrorKind)+"): "+clean(e.Error)), "")
	}
	for _, s := range e.Suspicious {
		out = append(out, th.warn.Render("instruction-like text, shown as data: "+clean(s)))
	}
	out = append(out, cleanLines(text)...)
	if lines := sparkLines(th, e, c.textWidth()); len(lines) > 0 {
		out = append(append(out, ""), lines...)
	}
	if len(e.Data) > 0 {
		var b bytes.Buffer
		if json.Indent(&b, e.Data, "", "  ") == nil {
			out = append(out, "", th.faint.Render("data"))
			out = append(out, cleanLines(b.String())...)
		}
	}
	return out
}
