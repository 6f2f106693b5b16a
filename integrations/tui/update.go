package tui

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Update implements tea.Model.
func (c *chat) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	was := c.covered()
	cmd := c.handle(msg)
	if c.quitting { // what was said stays in the scrollback
		c.full, c.overlay = false, nil
	}
	if was && !c.covered() {
		cmd = tea.Batch(cmd, c.settle())
	}
	return c, tea.Batch(cmd, c.deliver(), c.tick())
}

func (c *chat) handle(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		return c.key(msg)
	case tea.PasteMsg:
		return c.paste(msg.Content)
	case tea.WindowSizeMsg:
		if msg.Width > 0 && msg.Height > 0 { // some terminals say 0 while they move
			c.resize(msg.Width, msg.Height)
		}
	case tea.ColorProfileMsg:
		if c.cfg.Profile == nil && c.cfg.env("NO_COLOR") == "" {
			c.profile = msg.Profile
		}
	case tea.BackgroundColorMsg:
		c.dark = msg.IsDark()
		c.th = newTheme(c.cfg.Theme, c.dark)
	case startMsg:
		c.settled = true
	case tickMsg:
		c.ticking = false
	case flushMsg:
		c.out.flying = false
	case logMsg:
		for _, n := range msg.notes {
			c.add(n)
		}
		if msg.lost > 0 {
			c.note(noteWarn, fmt.Sprintf("%d older log lines were dropped", msg.lost))
		}
		return c.cfg.Log.next(c.ctx)
	case askedMsg:
		return c.asked(msg)
	case toldMsg:
		return c.told(msg)
	case runMsg:
		return c.ran(msg)
	case sessionMsg:
		return c.gotSession(msg)
	case noticesMsg:
		return c.noticed(msg.b)
	case statusMsg:
		if msg.err == nil {
			c.status = msg.s
		}
	case modelsMsg:
		if msg.err == nil {
			c.models = msg.m
		}
	case modelMsg:
		c.busy = ""
		c.note(noteInfo, "this conversation uses "+firstOf(msg.s.Model, "the configured model"))
		return c.adopt(msg.s)
	case planMsg:
		return c.gotPlan(msg)
	case objectsMsg:
		c.complete.objects(msg)
	case againMsg:
		return c.resumeStream(msg.what)
	case editedMsg:
		if msg.err != nil {
			c.note(noteBad, msg.err.Error())
		} else {
			c.input.set(msg.text)
		}
	case showMsg:
		c.busy = ""
		if msg.err != nil {
			c.fail(msg.err)
		} else {
			c.add(msg.it)
		}
	case openMsg:
		c.busy = ""
		if msg.err != nil {
			c.fail(msg.err)
		} else {
			c.openOverlay(msg.o)
		}
	case outputMsg:
		c.gotOutput(msg)
	case exportedMsg:
		c.exported(msg)
	case recordedMsg:
		c.recorded(msg)
	}
	return nil
}

// fail shows an error as a sentence for people.
func (c *chat) fail(err error) {
	if errors.Is(err, context.Canceled) && c.ctx.Err() != nil {
		return
	}
	c.note(noteBad, tool.UserText(err))
}

func (c *chat) resize(width, height int) {
	c.width, c.height = width, height
	c.input.resize(c.textWidth(), height)
	if c.turn != nil && c.turn.live != nil {
		c.turn.live.resize(c.th, c.textWidth()-2)
	}
	if c.overlay != nil {
		c.overlay.resize(width, height)
	}
}

// ask puts a question, or lets it wait for the one at work.
func (c *chat) ask(text string) tea.Cmd {
	if c.turn != nil || c.asking {
		c.queue = append(c.queue, text)
		return nil
	}
	c.asking = true
	q := incident.Question{Text: text, Namespace: c.cfg.Namespace, Subjects: c.complete.subjects(text)}
	a := session.Ask{Session: c.session.ID, Question: q, By: c.cfg.By, Source: session.TUI, Key: c.complete.key(c.started, text)}
	if c.session.ID == "" {
		a.Model = c.cfg.Model
	}
	return func() tea.Msg {
		s, t, err := c.svc.Ask(c.ctx, a)
		return askedMsg{text, s, t, err}
	}
}

func (c *chat) asked(msg askedMsg) tea.Cmd {
	c.asking = false
	if c.failed = msg.err; msg.err != nil {
		c.fail(msg.err)
		if c.input.empty() {
			c.input.set(msg.text)
		}
		return nil
	}
	c.complete.keyUsed()
	return c.adopt(msg.s)
}

// adopt takes a newer state of the session: what was asked elsewhere is shown, what
// ended is finished, what waits is followed.
func (c *chat) adopt(s session.Session) tea.Cmd {
	if c.session.ID != "" && (s.ID != c.session.ID || s.Seq < c.session.Seq) {
		return nil
	}
	var cmds []tea.Cmd
	known := c.session.Plans
	c.session = s
	for _, id := range s.Plans {
		if !slices.Contains(known, id) && (c.card == nil || c.card.rec.Plan.ID != id) && !c.proposing {
			cmds = append(cmds, c.loadPlan(id, true, false))
		}
	}
	if t := c.turn; t != nil {
		now, ok := s.Turn(t.ID)
		switch {
		case !ok:
		case now.State == session.Answered:
			t.Turn = now
			cmds = append(cmds, c.loadRun(t.ID, t.runID()))
		case now.State.Ended():
			t.Turn = now
			cmds = append(cmds, c.finish(nil))
		case now.Run != "" && now.Run != t.runID():
			t.restart(now.Run)
			t.Turn = now
			cmds = append(cmds, c.beginEvents())
		default:
			t.Turn = now
		}
	}
	return tea.Batch(append(cmds, c.pick())...)
}

// pick follows the oldest question of the session that is not answered and not shown.
func (c *chat) pick() tea.Cmd {
	if c.turn != nil {
		return nil
	}
	for _, t := range c.session.Turns {
		if _, shown := c.seen["turn."+t.ID]; shown {
			continue
		}
		c.seen["turn."+t.ID] = 1
		c.turn = newTurn(t, c.cfg.Now())
		switch {
		case t.State == session.Answered:
			return c.loadRun(t.ID, c.turn.runID())
		case t.State.Ended():
			return c.finish(nil)
		}
		return c.beginEvents()
	}
	return nil
}

func (c *chat) told(msg toldMsg) tea.Cmd {
	t := c.turn
	if t == nil || msg.run != t.runID() {
		return nil
	}
	for _, e := range msg.b.items {
		t.take(e, c.cfg.Now(), c.th, c.textWidth()-2)
	}
	switch {
	case t.ended:
		return c.loadRun(t.ID, t.runID())
	case msg.b.err != nil:
		if c.ctx.Err() != nil {
			return nil
		}
		c.hint = "the stream of the run broke off: " + clean(tool.UserText(msg.b.err)) + "; trying again"
		return c.later("events")
	case msg.b.ended:
		return tea.Batch(c.loadRun(t.ID, t.runID()), c.loadSession(c.session.ID))
	}
	return c.nextTold(msg.run)
}

func (c *chat) resumeStream(what string) tea.Cmd {
	switch {
	case what == "follow":
		return tea.Batch(c.beginFollow(), c.loadStatus())
	case what == "events" && c.turn != nil && !c.turn.ended:
		return tea.Batch(c.beginEvents(), c.loadSession(c.session.ID))
	}
	return nil
}

// ran has the journal's projection of a run: the report.
func (c *chat) ran(msg runMsg) tea.Cmd {
	t := c.turn
	if t == nil || t.ID != msg.turn {
		return nil
	}
	switch {
	case msg.err != nil && t.State.Ended():
		t.Reason = tool.UserText(msg.err)
		return c.finish(nil)
	case msg.err != nil:
		c.hint = "the run cannot be read: " + clean(tool.UserText(msg.err)) + "; trying again"
		return c.later("events")
	case msg.run.State == store.RunOpen && !t.State.Ended():
		return c.later("events")
	}
	r := msg.run.Report
	for _, e := range r.Evidence {
		t.finish(e)
	}
	return c.finish(&r)
}

// finish moves the turn at work to what is finished, and goes on with what waits.
func (c *chat) finish(r *incident.Report) tea.Cmd {
	t := c.turn
	c.turn, c.hint = nil, ""
	c.events.stop()
	if t.window > 0 {
		c.lastWindow = t.window
	}
	it := turnItem{turn: t.Turn, looks: t.looks, said: t.said, report: r, reason: clean(t.Reason), warnings: t.warnings}
	if r == nil && it.reason == "" {
		it.reason = "the question ended as " + string(t.State)
	}
	c.add(it)
	var cmds []tea.Cmd
	if r != nil {
		c.last = r
		if c.cfg.Answered != nil {
			c.cfg.Answered(*r)
		}
		if d := r.Diagnosis; c.mode >= planning && d.Outcome == incident.RootCause && len(d.Proposals) > 0 && c.card == nil {
			cmds = append(cmds, c.propose("", nil))
		}
	}
	if t.stopping && len(c.queue) > 0 { // what waited is given back, not asked
		c.input.set(strings.Join(append(c.queue, c.input.value()), "\n"))
		c.queue = nil
	}
	cmds = append(cmds, c.pick())
	if c.turn == nil && len(c.queue) > 0 {
		next := c.queue[0]
		c.queue = c.queue[1:]
		cmds = append(cmds, c.ask(next))
	}
	return tea.Batch(append(cmds, c.loadStatus())...)
}

// interrupt takes back the question at work.
func (c *chat) interrupt() tea.Cmd {
	t := c.turn
	if t == nil || t.stopping {
		return nil
	}
	t.stopping = true
	id, turn, by := c.session.ID, t.ID, c.cfg.By
	return func() tea.Msg {
		s, err := c.svc.Cancel(c.ctx, id, turn, by)
		return sessionMsg{s: s, err: err}
	}
}

func (c *chat) gotSession(msg sessionMsg) tea.Cmd {
	if msg.resumed {
		c.busy = ""
	}
	if msg.err != nil {
		if c.turn != nil {
			c.turn.stopping = false
		}
		c.fail(msg.err)
		if msg.ask != "" {
			return c.ask(msg.ask)
		}
		return nil
	}
	if !msg.resumed {
		return c.adopt(msg.s)
	}
	return c.resumed(msg.s, msg.ask)
}

// resumed goes on with a session: what was asked before is listed, the newest answer
// is shown whole, and what is at work is followed.
func (c *chat) resumed(s session.Session, ask string) tea.Cmd {
	c.events.stop()
	c.session, c.turn, c.last, c.card, c.queue = session.Session{}, nil, nil, nil, nil
	c.note(noteInfo, fmt.Sprintf("%s: %s", s.ID, s.Title))
	for i, t := range s.Turns {
		if !t.State.Ended() || i == len(s.Turns)-1 {
			break
		}
		c.seen["turn."+t.ID] = 1
		c.add(drawItem(func(b brush) []string {
			return append(asked(b.th, questionText(t.Question), b.width), wrap(b.th.faint.Render(clean(firstOf(t.Headline, t.Reason, string(t.State)))), b.width)...)
		}))
	}
	for _, t := range s.Turns[max(len(s.Turns)-1, 0):] {
		delete(c.seen, "turn."+t.ID)
	}
	if n := len(s.Plans); n > 0 { // the older ones are in /plans
		c.session = session.Session{ID: s.ID, Plans: s.Plans[:n-1]}
	}
	cmds := []tea.Cmd{c.adopt(s)}
	if ask != "" {
		cmds = append(cmds, c.ask(ask))
	}
	return tea.Batch(cmds...)
}

func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// noticed takes what changed anywhere.
func (c *chat) noticed(b batch[session.Notice]) tea.Cmd {
	var cmds []tea.Cmd
	plans, changed := false, false
	for _, n := range b.items {
		subject, err := "", error(nil)
		if n.Plan != "" {
			subject, err = planner.Subject(n.Plan)
		} else {
			subject, err = session.Subject(n.Session)
		}
		if err != nil {
			continue
		}
		c.seen[subject] = max(c.seen[subject], n.Seq)
		switch {
		case n.Session != "" && n.Session == c.session.ID && n.Seq > c.session.Seq:
			changed = true
		case n.Plan != "":
			plans = true
			if c.card != nil && c.card.rec.Plan.ID == n.Plan {
				cmds = append(cmds, c.loadPlan(n.Plan, false, false))
			}
		}
	}
	if changed {
		cmds = append(cmds, c.loadSession(c.session.ID))
	}
	if plans {
		cmds = append(cmds, c.loadStatus())
	}
	switch {
	case b.err != nil && c.ctx.Err() == nil:
		c.hint = "what happens elsewhere is not seen at the moment: " + clean(tool.UserText(b.err))
		return tea.Batch(append(cmds, c.later("follow"))...)
	case b.ended:
		return tea.Batch(cmds...)
	}
	return tea.Batch(append(cmds, c.nextNotices())...)
}
