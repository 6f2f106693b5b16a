package tui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// run does what a command says.
func (c *chat) run(cmd command) tea.Cmd {
	switch cmd.name {
	case "help":
		c.openOverlay(c.help())
	case "tools":
		return c.showTools()
	case "evidence":
		return c.showEvidence(cmd.args)
	case "plan":
		return c.plan(cmd.args)
	case "plans":
		return c.listPlans()
	case "approve":
		return c.toApprove(cmd.args)
	case "reject":
		return c.speak(cmd, incident.Rejected)
	case "comment":
		return c.speak(cmd, incident.Commented)
	case "undo":
		return c.undo(cmd)
	case "runbooks":
		return c.showBooks(cmd.args)
	case "sessions":
		return c.listSessions(cmd.rest)
	case "resume":
		return c.resume(cmd.args[0], "")
	case "new":
		return c.fresh()
	case "export":
		return c.export(cmd.args)
	case "context":
		c.add(textItem{c.contextLines()})
	case "model":
		return c.switchModel(cmd.args)
	case "mode":
		c.modeCommand(cmd.args)
	case "doctor":
		return c.doctor()
	case "copy":
		return c.copyOut(cmd.args)
	case "theme":
		c.cfg.Theme = cmd.args[0]
		c.th = newTheme(c.cfg.Theme, c.dark)
		c.hint = "theme " + cmd.args[0]
	case "full":
		c.full = !c.full
	case "cancel":
		if c.turn == nil {
			c.note(noteInfo, "nothing is at work")
		}
		return c.interrupt()
	case "quit":
		c.quitting = true
	}
	return nil
}

func (c *chat) help() overlay {
	th := c.th
	lines := []string{th.strong.Render("Keys"), ""}
	for _, k := range [][2]string{
		{"enter", "send; alt+enter, ctrl+j or \\ before enter begins a new line"},
		{"esc", "take back the question that is at work"},
		{"ctrl+c", "empty the line, then leave; twice while something is at work"},
		{"up, down", "what was typed before; ctrl+r searches it"},
		{"tab", "complete, or turn to the plan that waits"},
		{"shift+tab", "what may be done from here: observe, plan, act"},
		{"ctrl+o", "show or hide what the tools answered"},
		{"ctrl+t", "show or hide the hypotheses"},
		{"ctrl+g", "write in $EDITOR (ctrl+x ctrl+e does it too)"},
		{"ctrl+l", "draw the screen anew"},
		{"pgup, pgdown", "scroll, in full screen; else the terminal's own scrollback has all"},
		{"@", "name an object of the cluster; / begins a command"},
		{"?", "this page, on an empty line"},
	} {
		lines = append(lines, fmt.Sprintf("  %s  %s", th.accent.Render(fmt.Sprintf("%-13s", k[0])), k[1]))
	}
	lines = append(lines, "", th.strong.Render("Commands"), "")
	for _, s := range specs() {
		lines = append(lines, fmt.Sprintf("  %s  %s", th.accent.Render(fmt.Sprintf("%-38s", "/"+strings.TrimSpace(s.name+" "+s.args))), s.help))
	}
	lines = append(lines, "", th.strong.Render("Plans"), "",
		"  A plan is approved with y, after tab or /approve turned to it, in mode act, and only",
		"  when no key was pressed for a moment. Who has to approve, the policy says.")
	return newViewer("gumshoe: keys and commands", lines)
}

func (c *chat) showTools() tea.Cmd {
	th, width := c.th, c.textWidth()
	return c.waiting(func() tea.Msg {
		all, err := c.svc.Toolsets(c.ctx)
		if err != nil {
			return showMsg{err: err}
		}
		return showMsg{it: textItem{toolLines(th, all, width)}}
	})
}

func toolLines(th theme, all []session.Toolset, width int) []string {
	var out []string
	for _, t := range all {
		st := th.good
		if t.State != "ready" {
			st = th.warn
		}
		out = append(out, clip(fmt.Sprintf("  %s %s", st.Render(fmt.Sprintf("%-7s", clean(t.State))), th.strong.Render(clean(t.Name))), width))
		more := clean(strings.Join(t.Tools, ", "))
		if t.Reason != "" {
			more = clean(t.Reason)
			if t.Fix != "" {
				more += "; " + clean(t.Fix)
			}
		}
		for _, l := range wrap(th.faint.Render(more), max(width-10, 8)) {
			out = append(out, strings.Repeat(" ", 10)+l)
		}
	}
	return append(out, "")
}

// plan shows a plan by its id, or makes one of the last answer.
func (c *chat) plan(args []string) tea.Cmd {
	if len(args) == 0 {
		return c.propose("", nil)
	}
	if strings.HasPrefix(args[0], "plan-") {
		c.card = nil
		return c.waiting(c.loadPlan(args[0], true, true))
	}
	set := map[string]string{}
	for _, a := range args[1:] {
		k, v, ok := strings.Cut(a, "=")
		if !ok || k == "" {
			c.note(noteBad, fmt.Sprintf("/plan ACTION takes NAME=VALUE, not %q", a))
			return nil
		}
		set[k] = v
	}
	return c.propose(args[0], set)
}

func (c *chat) listPlans() tea.Cmd {
	th, now := c.th, c.cfg.Now()
	return c.waiting(func() tea.Msg {
		all, err := c.svc.Plans(c.ctx)
		if err != nil {
			return openMsg{err: err}
		}
		slices.SortStableFunc(all, func(a, b planner.Record) int { return waits(b) - waits(a) })
		var es []entry
		for _, r := range all {
			b := r.Brief()
			line := fmt.Sprintf("%s  %s  %s  %s", th.accent.Render(fmt.Sprintf("%-18s", clean(b.ID))), fmt.Sprintf("%-9s", b.State), clean(b.Title), th.faint.Render(clean(b.By)))
			if b.State == incident.PlanPending {
				line += th.warn.Render(fmt.Sprintf("  %d of %d, %s left", b.Approvals, b.Needed, left(b.Expires.Sub(now))))
			}
			es = append(es, entry{line: line, pick: func() tea.Cmd { return c.waiting(c.loadPlan(b.ID, true, true)) }})
		}
		return openMsg{o: newList(fmt.Sprintf("plans (%d)", len(es)), es)}
	})
}

func waits(r planner.Record) int {
	if r.State == incident.PlanPending {
		return 1
	}
	return 0
}

// toApprove turns to a plan; the word itself is always the key y.
func (c *chat) toApprove(args []string) tea.Cmd {
	switch {
	case len(args) > 0 && (c.card == nil || c.card.rec.Plan.ID != args[0]):
		c.card = nil
		return c.waiting(c.loadPlan(args[0], true, true))
	case c.card == nil:
		c.note(noteWarn, "no plan waits here; /plans lists all")
		return nil
	case c.card.rec.State != incident.PlanPending:
		c.note(noteWarn, fmt.Sprintf("plan %s is %s", c.card.rec.Plan.ID, c.card.rec.State))
		return nil
	}
	c.turnTo()
	return nil
}

// target gives the plan that a command is about, and the words behind it.
func (c *chat) target(cmd command) (id, words string, ok bool) {
	if strings.HasPrefix(cmd.args[0], "plan-") {
		return cmd.args[0], strings.TrimSpace(strings.TrimPrefix(cmd.rest, cmd.args[0])), true
	}
	if c.card == nil {
		c.note(noteWarn, "no plan waits here; name one: /"+cmd.name+" ID ...")
		return "", "", false
	}
	return c.card.rec.Plan.ID, cmd.rest, true
}

func (c *chat) speak(cmd command, word string) tea.Cmd {
	id, words, ok := c.target(cmd)
	if !ok {
		return nil
	}
	if words == "" {
		c.note(noteBad, "/"+cmd.name+" needs a few words behind the id")
		return nil
	}
	return c.say(id, word, words)
}

func (c *chat) undo(cmd command) tea.Cmd {
	id, why := cmd.args[0], strings.TrimSpace(strings.TrimPrefix(cmd.rest, cmd.args[0]))
	if c.mode != act {
		c.note(noteWarn, "nothing is taken back in mode "+c.mode.String()+"; shift+tab goes to act")
		return nil
	}
	by := c.cfg.By
	return c.waiting(func() tea.Msg {
		r, err := c.svc.Undo(c.ctx, id, why, by)
		return planMsg{rec: r, err: err, open: true}
	})
}

func (c *chat) showBooks(args []string) tea.Cmd {
	th, width := c.th, c.textWidth()
	if c.cfg.Runbooks == nil {
		c.note(noteInfo, "runbooks that named causes here: "+firstOf(strings.Join(c.namedBooks(), ", "), "none"))
		return nil
	}
	return c.waiting(func() tea.Msg {
		all, err := c.cfg.Runbooks.Books(c.ctx)
		if err != nil {
			return openMsg{err: err}
		}
		page := func(b Book) overlay { return newViewer("runbook "+clean(b.ID), renderMarkdown(th, b.Text, width-1)) }
		if len(args) > 0 {
			i := slices.IndexFunc(all, func(b Book) bool { return b.ID == args[0] })
			if i < 0 {
				return openMsg{err: fmt.Errorf("there is no runbook %q; /runbooks lists them", clean(args[0]))}
			}
			return openMsg{o: page(all[i])}
		}
		var es []entry
		for _, b := range all {
			es = append(es, entry{line: fmt.Sprintf("%s  %s", th.accent.Render(clean(b.ID)), clean(b.Title)), text: b.Text, pick: func() tea.Cmd {
				return func() tea.Msg { return openMsg{o: page(b)} }
			}})
		}
		l := newList(fmt.Sprintf("runbooks (%d)", len(es)), es)
		l.stay = true
		return openMsg{o: l}
	})
}

func (c *chat) namedBooks() []string {
	var out []string
	if c.last != nil {
		for _, x := range c.last.Diagnosis.Causes {
			if x.Runbook != "" && !slices.Contains(out, x.Runbook) {
				out = append(out, x.Runbook)
			}
		}
	}
	return out
}

func (c *chat) listSessions(text string) tea.Cmd {
	th := c.th
	return c.waiting(func() tea.Msg {
		all, err := c.svc.Sessions(c.ctx, session.Filter{Text: text, Limit: 200})
		if err != nil && len(all) == 0 {
			return openMsg{err: err}
		}
		var es []entry
		for _, s := range all {
			last, _ := s.Last()
			line := fmt.Sprintf("%s  %s  %s  %s", th.accent.Render(clean(s.ID)), s.Changed.UTC().Format("01-02 15:04"), clean(s.Title), th.faint.Render(clean(firstOf(last.Headline, string(last.State)))))
			es = append(es, entry{line: line, text: sessionText(s), pick: func() tea.Cmd { return c.resume(s.ID, "") }})
		}
		return openMsg{o: newList(fmt.Sprintf("conversations (%d)", len(es)), es)}
	})
}

func sessionText(s session.Session) string {
	var b strings.Builder
	for _, t := range s.Turns {
		b.WriteString(questionText(t.Question) + "\n" + t.Headline + "\n")
	}
	return b.String()
}

// fresh begins another conversation; what is at work goes on by itself.
func (c *chat) fresh() tea.Cmd {
	if c.turn != nil {
		c.note(noteInfo, "the question at work goes on; /resume "+c.session.ID+" returns to it")
	}
	c.events.stop()
	c.session, c.turn, c.last, c.card, c.queue, c.asking = session.Session{}, nil, nil, nil, nil, false
	c.note(noteInfo, "a new conversation")
	return nil
}

func (c *chat) switchModel(args []string) tea.Cmd {
	if len(args) == 0 {
		var lines []string
		for _, m := range c.models {
			line := "  " + clean(m.Name)
			if m.Name == c.modelName() {
				line = "  " + c.th.strong.Render(clean(m.Name)) + c.th.good.Render(" in use")
			}
			if m.Window > 0 {
				line += c.th.faint.Render(fmt.Sprintf("  window %s", count(m.Window)))
			}
			if m.InputPrice+m.OutputPrice > 0 {
				line += c.th.faint.Render(fmt.Sprintf("  $%.2f in, $%.2f out a million tokens", m.InputPrice, m.OutputPrice))
			}
			lines = append(lines, line)
		}
		c.add(textItem{append(lines, "")})
		return nil
	}
	name := args[0]
	if len(c.models) > 0 && !slices.ContainsFunc(c.models, func(m session.Model) bool { return m.Name == name }) {
		c.note(noteBad, fmt.Sprintf("model %q is none of those that can be used; /model lists them", name))
		return nil
	}
	if c.session.ID == "" {
		c.cfg.Model = name
		c.note(noteInfo, "the next conversation uses "+name)
		return nil
	}
	id, by := c.session.ID, c.cfg.By
	return c.waiting(func() tea.Msg {
		s, err := c.svc.SetModel(c.ctx, id, name, by)
		if err != nil {
			return showMsg{err: err}
		}
		return modelMsg{s}
	})
}

// modelMsg has the session whose model was switched.
type modelMsg struct{ s session.Session }

func (c *chat) modeCommand(args []string) {
	if len(args) == 0 {
		c.note(noteInfo, "mode "+c.mode.String())
		return
	}
	for m := observe; m <= act; m++ {
		if m.String() == args[0] {
			c.setMode(m)
		}
	}
}

func (c *chat) doctor() tea.Cmd {
	th, width := c.th, c.textWidth()
	return c.waiting(func() tea.Msg {
		s, err := c.svc.Status(c.ctx)
		if err != nil {
			return showMsg{err: err}
		}
		all, err := c.svc.Toolsets(c.ctx)
		if err != nil {
			return showMsg{err: err}
		}
		lines := []string{
			fmt.Sprintf("  cluster    %s", clean(firstOf(s.Cluster, "(none)"))),
			fmt.Sprintf("  namespace  %s", clean(firstOf(s.Namespace, "(any)"))),
			fmt.Sprintf("  service    %s, %s", clean(s.Version), clean(s.Mode)),
			fmt.Sprintf("  model      %s", clean(s.Model)),
			fmt.Sprintf("  work       %d running, %d queued, %d plans wait", s.Running, s.Queued, s.Pending), "",
		}
		return showMsg{it: textItem{append(lines, toolLines(th, all, width)...)}}
	})
}

// modelName is the model that answers in this conversation.
func (c *chat) modelName() string {
	return firstOf(c.session.Model, c.cfg.Model, c.status.Model, "offline")
}

// window is the model's, 0 if unknown.
func (c *chat) window() int {
	for _, m := range c.models {
		if m.Name == c.modelName() {
			return m.Window
		}
	}
	return 0
}

// spent sums up the conversation; the turn at work counts as far as it came.
func (c *chat) spent() (in, out int, cost float64) {
	for _, t := range c.session.Turns {
		if c.turn != nil && t.ID == c.turn.ID {
			continue
		}
		in, out, cost = in+t.Usage.InputTokens, out+t.Usage.OutputTokens, cost+t.Usage.Cost
	}
	if t := c.turn; t != nil {
		in, out, cost = in+t.in, out+t.out, cost+t.cost
	}
	return in, out, cost
}

func (c *chat) contextLines() []string {
	in, out, cost := c.spent()
	lines := []string{fmt.Sprintf("  model    %s", clean(c.modelName()))}
	if w := c.window(); w > 0 {
		used := c.used()
		lines = append(lines, fmt.Sprintf("  window   %s of %s tokens in the last model turn (%d%%)", count(used), count(w), 100*used/w))
	} else {
		lines = append(lines, "  window   not known, or no model is used")
	}
	lines = append(lines, fmt.Sprintf("  tokens   %s in, %s out in this conversation", count(in), count(out)), fmt.Sprintf("  cost     $%.4f", cost))
	for i, t := range c.session.Turns {
		lines = append(lines, clip(c.th.faint.Render(fmt.Sprintf("  %2d  %s in %s out $%.4f %s  %s", i+1, count(t.Usage.InputTokens), count(t.Usage.OutputTokens), t.Usage.Cost, took(time.Duration(t.Usage.Seconds*float64(time.Second))), clean(questionText(t.Question)))), c.textWidth()))
	}
	return append(lines, "")
}

// used is how much of the window the last model turn took.
func (c *chat) used() int {
	if c.turn != nil && c.turn.window > 0 {
		return c.turn.window
	}
	return c.lastWindow
}
