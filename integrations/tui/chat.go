package tui

import (
	"context"
	"iter"
	"maps"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// mode is what may be done from the terminal.
type mode int

// Modes, in the order in which shift+tab goes through them.
const (
	// observe asks and looks.
	observe mode = iota
	// planning also makes a plan of every answer that proposes something.
	planning
	// act also lets the person approve.
	act
)

func (m mode) String() string { return [...]string{"observe", "plan", "act"}[m] }

// chat is the state of the screen. bubbletea calls Update and View from one goroutine;
// nothing else touches it.
type chat struct {
	cfg     Config
	ctx     context.Context
	svc     Service
	th      theme
	dark    bool
	profile colorprofile.Profile
	width   int
	height  int
	started time.Time

	session session.Session
	status  session.Status
	models  []session.Model
	mode    mode

	// cells are the finished parts; shown of them are in the scrollback.
	cells  []*cell
	shown  int
	out    outbox
	full   bool
	scroll int // rows from the end, in full screen

	turn  *turn
	queue []string
	// last is the newest report that was shown, with its run.
	last *incident.Report
	// asking says that a question is on its way to the service.
	asking bool
	// busy is what the service is asked for at the moment, besides a turn.
	busy string
	// proposing says that a plan is being made here.
	proposing bool
	// settled says that a picture stands on the main screen.
	settled bool

	card     *card
	prompt   *wordPrompt
	input    *input
	complete completer
	overlay  overlay
	expanded bool
	hidePane bool
	hint     string
	// leaving counts ctrl+c; quitting says that the chat ends once all is printed.
	leaving  int
	quitting bool
	lastKey  time.Time
	ticking  bool

	events *feed[session.Told]
	follow *feed[session.Notice]
	seen   map[string]uint64
	wg     sync.WaitGroup
	frames frames
	// lastWindow is what the last model turn of a finished question took.
	lastWindow int

	// failed is the last refusal of a question, for a caller without a screen.
	failed error

	// pause overrides how long feeds gather.
	pause time.Duration
}

var _ tea.Model = (*chat)(nil)

func newChat(ctx context.Context, cfg Config) *chat {
	hist, err := openHistory(cfg.History)
	c := &chat{
		cfg: cfg, ctx: ctx, svc: cfg.Service, dark: true, profile: cfg.profile(), width: cfg.Width, height: cfg.Height,
		full: cfg.FullScreen, input: newInput(hist), seen: map[string]uint64{}, pause: gap, started: cfg.Now(),
	}
	if c.width == 0 || c.height == 0 {
		c.width, c.height = 80, 24
	}
	c.th = newTheme(cfg.Theme, c.dark)
	c.input.resize(c.textWidth(), c.height)
	c.greet()
	if err != nil {
		c.note(noteWarn, err.Error())
	}
	return c
}

// textWidth is how wide lines are: the last column stays empty, because terminals do
// not agree on what happens after it.
func (c *chat) textWidth() int { return max(c.width-1, 1) }

func (c *chat) brush() brush { return brush{th: c.th, width: c.textWidth(), expanded: c.expanded} }

func (c *chat) greet() {
	v := ""
	if c.cfg.Version != "" {
		v = " " + clean(strings.TrimPrefix(c.cfg.Version, "gumshoe "))
	}
	c.add(drawItem(func(b brush) []string {
		return []string{clip(b.th.heading.Render("gumshoe")+b.th.faint.Render(v+" · finds out why workloads misbehave, and proves it"), b.width),
			clip(b.th.faint.Render("? keys · / commands · @ objects · shift+tab what may be done"), b.width), ""}
	}))
}

// add appends a finished part.
func (c *chat) add(it item) { c.cells = append(c.cells, &cell{item: it}) }

func (c *chat) note(level, text string) { c.add(noteItem{level, text}) }

// Init implements tea.Model.
func (c *chat) Init() tea.Cmd {
	cmds := []tea.Cmd{c.settle(), c.loadStatus(), c.loadModels(), c.beginFollow(), c.cfg.Log.next(c.ctx)}
	if c.cfg.Theme == "auto" {
		cmds = append(cmds, tea.RequestBackgroundColor)
	}
	switch {
	case c.cfg.Resume != "":
		cmds = append(cmds, c.resume(c.cfg.Resume, c.cfg.Question))
	case c.cfg.Question != "":
		cmds = append(cmds, c.ask(c.cfg.Question))
	}
	return tea.Batch(cmds...)
}

// covered reports whether the alternate screen is in use.
func (c *chat) covered() bool { return c.full || c.overlay != nil }

// settle waits until the renderer has drawn a picture: lines can be printed only above
// one that stands, and not on the alternate screen.
func (c *chat) settle() tea.Cmd {
	c.settled = false
	return tea.Tick(stale/3, func(time.Time) tea.Msg { return startMsg{} })
}

// close ends what reads in the background.
func (c *chat) close() {
	c.events.stop()
	c.follow.stop()
	c.wg.Wait()
}

// Messages of the service. Each carries what it is the answer to, so that a late one is
// known.
type (
	askedMsg struct {
		text string
		s    session.Session
		t    session.Turn
		err  error
	}
	toldMsg struct {
		run string
		b   batch[session.Told]
	}
	runMsg struct {
		turn string
		run  store.Run
		err  error
	}
	sessionMsg struct {
		s   session.Session
		err error
		// resumed says that it was asked for, and what is to be asked then.
		resumed bool
		ask     string
	}
	noticesMsg struct{ b batch[session.Notice] }
	statusMsg  struct {
		s   session.Status
		err error
	}
	modelsMsg struct {
		m   []session.Model
		err error
	}
	planMsg struct {
		rec planner.Record
		err error
		// open says that the card was asked for; focus that the person decides now.
		open, focus bool
		// made says that the plan was asked for here.
		made bool
		// said is the word that was given, if one was.
		said string
	}
	againMsg struct{ what string }
	startMsg struct{}
	tickMsg  struct{}
	flushMsg struct{}
	showMsg  struct {
		it  item
		err error
	}
)

// frame is how often the live tail moves while something is at work.
const frame = 120 * time.Millisecond

func (c *chat) tick() tea.Cmd {
	if c.ticking || !c.working() {
		return nil
	}
	c.ticking = true
	return tea.Tick(frame, func(time.Time) tea.Msg { return tickMsg{} })
}

// working reports whether something moves on the screen.
func (c *chat) working() bool {
	return c.turn != nil || c.asking || c.busy != "" || c.card != nil && (c.card.busy || c.card.rec.State == incident.PlanExecuting)
}

func (c *chat) loadStatus() tea.Cmd {
	return func() tea.Msg {
		s, err := c.svc.Status(c.ctx)
		return statusMsg{s, err}
	}
}

func (c *chat) loadModels() tea.Cmd {
	return func() tea.Msg {
		m, err := c.svc.Models(c.ctx)
		return modelsMsg{m, err}
	}
}

// waiting says that the person waits for a command.
func (c *chat) waiting(cmd tea.Cmd) tea.Cmd {
	c.busy = "asking the service"
	return cmd
}

func (c *chat) loadSession(id string) tea.Cmd {
	return func() tea.Msg {
		s, err := c.svc.Session(c.ctx, id)
		return sessionMsg{s: s, err: err}
	}
}

func (c *chat) resume(id, ask string) tea.Cmd {
	return c.waiting(func() tea.Msg {
		s, err := c.svc.Session(c.ctx, id)
		return sessionMsg{s: s, err: err, resumed: true, ask: ask}
	})
}

func (c *chat) loadRun(turn, run string) tea.Cmd {
	return func() tea.Msg {
		r, err := c.svc.Run(c.ctx, run)
		return runMsg{turn, r, err}
	}
}

func (c *chat) loadPlan(id string, open, focus bool) tea.Cmd {
	return func() tea.Msg {
		r, err := c.svc.Plan(c.ctx, id)
		return planMsg{rec: r, err: err, open: open, focus: focus}
	}
}

// beginFollow follows all sessions and plans, above what was seen.
func (c *chat) beginFollow() tea.Cmd {
	c.follow.stop()
	seen := maps.Clone(c.seen)
	c.follow = newFeed(c.ctx, &c.wg, c.pause, func(ctx context.Context) iter.Seq2[session.Notice, error] {
		return c.svc.Follow(ctx, func(subject string) uint64 { return seen[subject] })
	})
	return c.nextNotices()
}

func (c *chat) nextNotices() tea.Cmd {
	return c.follow.next(func(b batch[session.Notice]) tea.Msg { return noticesMsg{b} })
}

// beginEvents follows the run of the turn at work.
func (c *chat) beginEvents() tea.Cmd {
	c.events.stop()
	id, after := c.turn.runID(), c.turn.seq
	c.events = newFeed(c.ctx, &c.wg, c.pause, func(ctx context.Context) iter.Seq2[session.Told, error] {
		return c.svc.Events(ctx, id, after)
	})
	return c.nextTold(id)
}

func (c *chat) nextTold(id string) tea.Cmd {
	return c.events.next(func(b batch[session.Told]) tea.Msg { return toldMsg{id, b} })
}

// again is how long a broken stream waits before it is taken up again.
const again = 2 * time.Second

func (c *chat) later(what string) tea.Cmd {
	return tea.Tick(again, func(time.Time) tea.Msg { return againMsg{what} })
}
