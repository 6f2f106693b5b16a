package tui

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Quiet is how long no key may have been pressed before the key that approves counts:
// a key that was meant for something else comes in a burst, or right after the card.
const Quiet = 425 * time.Millisecond

// card is a plan that waits for a decision, or is being executed. The whole plan stands
// in the flow above; the card holds what is to be decided.
type card struct {
	rec planner.Record
	// since is when the card came or was turned to.
	since time.Time
	focus bool
	// busy says that a word is on its way.
	busy bool
	note string
}

// wordPrompt asks for the words that go with a decision; the input line takes them.
type wordPrompt struct {
	plan, word string
}

func (c *chat) propose(action string, set map[string]string) tea.Cmd {
	if c.last == nil {
		c.note(noteWarn, "there is no answer to make a plan of; ask first, or name a plan: /plan ID")
		return nil
	}
	c.busy, c.proposing = "making a plan: compiled and tried in a dry run", true
	ask := session.PlanAsk{Session: c.session.ID, Run: c.last.ID, Action: action, Set: set, By: c.cfg.By, Source: session.TUI}
	return func() tea.Msg {
		r, err := c.svc.Propose(c.ctx, ask)
		return planMsg{rec: r, err: err, open: true, made: true}
	}
}

func (c *chat) gotPlan(msg planMsg) tea.Cmd {
	if msg.open || msg.said != "" {
		c.busy = ""
	}
	if msg.made {
		c.proposing = false
	}
	if c.card != nil && msg.said != "" {
		c.card.busy = false
	}
	if msg.err != nil {
		if c.card != nil && msg.said != "" {
			c.card.note = clean(tool.UserText(msg.err))
			return c.loadPlan(c.card.rec.Plan.ID, false, false)
		}
		c.fail(msg.err)
		return nil
	}
	r := msg.rec
	switch {
	case c.card != nil && c.card.rec.Plan.ID == r.Plan.ID:
		c.refresh(r)
		if msg.focus {
			c.turnTo()
		}
	case msg.open:
		c.add(planItem{r, c.cfg.Now()})
		if r.State.Final() {
			break
		}
		c.card = &card{rec: r, since: c.cfg.Now()}
		if msg.focus {
			c.turnTo()
		}
	case msg.said != "":
		c.note(noteInfo, lastWord(r))
	}
	return c.loadStatus()
}

// refresh takes a newer record of the plan that is shown. A decision that was made
// anywhere closes the card at once.
func (c *chat) refresh(r planner.Record) {
	if r.At.Before(c.card.rec.At) {
		return
	}
	before := len(c.card.rec.Words)
	c.card.rec = r
	for _, w := range r.Words[min(before, len(r.Words)):] {
		c.note(noteInfo, wordLine(w))
	}
	if r.State != incident.PlanPending {
		c.card.focus, c.card.note = false, ""
		if c.prompt != nil && c.prompt.plan == r.Plan.ID {
			c.prompt = nil
		}
	}
	if r.State.Final() {
		c.add(drawItem(func(b brush) []string { return planEnd(b, r) }))
		c.card = nil
	}
}

// planEnd says how a plan ended.
func planEnd(b brush, r planner.Record) []string {
	st := b.th.warn
	if r.State == incident.PlanVerified {
		st = b.th.good
	}
	out := wrap(st.Render(fmt.Sprintf("plan %s is %s", clean(r.Plan.ID), r.State))+afterColon(r.Reason), b.width)
	for _, c := range r.Checks {
		if c.Verdict != incident.Pass {
			out = append(out, wrap("  "+clean(c.Check.Say)+": "+string(c.Verdict)+afterColon(c.Saw), b.width)...)
		}
	}
	for _, l := range r.Left {
		out = append(out, wrap("  left: "+clean(l), b.width)...)
	}
	return append(out, "")
}

func afterColon(s string) string {
	if s = clean(s); s == "" {
		return ""
	}
	return ": " + s
}

func wordLine(a incident.Approval) string {
	s := fmt.Sprintf("%s: %s", firstOf(a.By.Name, "somebody"), a.Word)
	if a.By.Surface != "" {
		s += " on " + a.By.Surface
	}
	return s + afterColon(a.Comment)
}

func lastWord(r planner.Record) string {
	if n := len(r.Words); n > 0 {
		return r.Plan.ID + ": " + wordLine(r.Words[n-1])
	}
	return r.Plan.ID + " is " + string(r.State)
}

// turnTo gives the card the keys. The quiet period begins again.
func (c *chat) turnTo() {
	if c.card == nil || c.card.rec.State != incident.PlanPending {
		return
	}
	c.card.focus, c.card.since, c.card.note = true, c.cfg.Now(), ""
}

// cardKey takes a key while the card has the keys; done says that it was taken.
// before is when the key before it was pressed.
func (c *chat) cardKey(k tea.KeyPressMsg, before time.Time) (tea.Cmd, bool) {
	card := c.card
	switch k.String() {
	case "y":
		return c.approve(before), true
	case "n":
		card.focus = false
		c.prompt = &wordPrompt{card.rec.Plan.ID, incident.Rejected}
	case "c":
		card.focus = false
		c.prompt = &wordPrompt{card.rec.Plan.ID, incident.Commented}
	case "d":
		c.openOverlay(newViewer("plan "+card.rec.Plan.ID, planCardLines(c.th, card.rec, c.cfg.Now(), c.textWidth())))
	case "esc", "tab":
		card.focus = false
	case "ctrl+c", "shift+tab", "ctrl+o", "ctrl+l", "pgup", "pgdown":
		return nil, false
	default:
		if k.Text != "" { // a person who types means the input
			card.focus = false
			return nil, false
		}
	}
	return nil, true
}

// approve gives the word, unless the key may have been meant for something else.
func (c *chat) approve(before time.Time) tea.Cmd {
	card, now := c.card, c.cfg.Now()
	switch {
	case card.busy:
		return nil
	case c.mode != act:
		card.note = "nothing is approved in mode " + c.mode.String() + "; shift+tab goes to act"
		return nil
	case now.Sub(before) < Quiet || now.Sub(card.since) < Quiet:
		card.note = "too soon after another key or the card itself; read it, then press y"
		return nil
	}
	return c.say(card.rec.Plan.ID, incident.Approved, "")
}

// say gives a word about a plan.
func (c *chat) say(id, word, comment string) tea.Cmd {
	if c.card != nil && c.card.rec.Plan.ID == id {
		c.card.busy, c.card.note = true, ""
	}
	by := c.cfg.By
	return c.waiting(func() tea.Msg {
		r, err := c.svc.Say(c.ctx, id, word, comment, by)
		return planMsg{rec: r, err: err, said: word}
	})
}

// lines draws the card at the bottom of the flow.
func (c *chat) cardLines(width, rows int) []string {
	k := c.card
	if k == nil || rows < 1 {
		return nil
	}
	r, th := k.rec, c.th
	b := r.Brief()
	head := th.strong.Render("plan "+clean(r.Plan.ID)) + " " + clean(r.Plan.Title)
	var state []string
	state = append(state, string(r.State))
	if r.Decision.Approvers > 0 {
		state = append(state, fmt.Sprintf("%d of %d approvals", b.Approvals, b.Needed))
	}
	if risk := planRisk(r.Plan); risk != "" {
		state = append(state, "risk "+risk)
	}
	if n := r.Plan.Blast.PodCount; n > 0 {
		state = append(state, fmt.Sprintf("stops %d pods", n))
	}
	if r.State == incident.PlanPending {
		state = append(state, "expires in "+left(r.Plan.Expires.Sub(c.cfg.Now())))
	}
	keys := "tab: decide · /reject REASON"
	switch {
	case k.busy:
		keys = "asking the service ..."
	case r.State == incident.PlanExecuting:
		keys = progressLine(r)
	case r.State == incident.PlanApproved:
		keys = "approved; it is executed where an executor runs"
		if c.status.Mode == "read-only" {
			keys = "approved; nothing executes here: gumshoe plan execute " + clean(r.Plan.ID)
		}
	case k.focus:
		keys = "y approve · n reject · c comment · d whole plan · esc back"
		if c.mode != act {
			keys = "mode " + c.mode.String() + ": shift+tab to act · n reject · c comment · d whole plan · esc back"
		}
	}
	lines := []string{head, th.faint.Render(strings.Join(state, " · "))}
	if k.note != "" {
		lines = append(lines, th.warn.Render(k.note))
	}
	st := th.faint
	if k.focus {
		st = th.accent
	}
	lines = append(lines, st.Render(keys))
	switch { // in a small window what is decided and how stays
	case rows == 1:
		lines = []string{st.Render(clean(r.Plan.ID) + ": " + keys)}
	case rows < len(lines):
		lines = append([]string{head}, lines[len(lines)-rows+1:]...)
	}
	bar := th.warn.Render("┃ ")
	for i, l := range lines {
		lines[i] = bar + clip(l, width-2)
	}
	return lines
}

func planRisk(p incident.Plan) string {
	worst := incident.Risk("")
	for _, s := range p.Steps {
		if worst == "" || s.Risk.Weight() > worst.Weight() {
			worst = s.Risk
		}
	}
	return string(worst)
}

func left(d time.Duration) string {
	switch {
	case d <= 0:
		return "no time"
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

// progressLine says how far the execution came.
func progressLine(r planner.Record) string {
	total, done := 0, 0
	for _, s := range r.Plan.Steps {
		for _, w := range s.Writes {
			total++
			if r.Writes[w.ID].Done {
				done++
			}
		}
	}
	s := fmt.Sprintf("%d of %d writes stand", done, total)
	if r.Undoing {
		s = "being taken back: " + clean(r.Reason)
	} else if r.Open != "" {
		s += ", " + clean(r.Open) + " is being sent"
	} else if done == total {
		s += ", the checks are being asked"
	}
	return s
}
