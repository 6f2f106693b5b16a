package tui

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// plain drives the same chat without a screen: lines in, lines out, in order. Nothing is
// redrawn, so a screen reader, a pipe and a dumb terminal read it alike. Without a
// terminal it never waits for a word on a plan.
type plain struct {
	c    *chat
	out  io.Writer
	msgs chan tea.Msg
	err  error
	// looks and phase are what of the turn at work was told already.
	looks map[string]bool
	phase string
	hint  string
	// confirm is the plan that waits for a "yes", since is when it was asked for.
	confirm string
	since   time.Time
	ready   bool
	prompt  bool
}

// plainWidth is where lines are wrapped when no width is known.
const plainWidth = 100

func runPlain(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancel(ctx)
	cfg.Theme, cfg.FullScreen = "ansi", false
	p := &plain{out: cfg.Out, msgs: make(chan tea.Msg), looks: map[string]bool{}}
	if cfg.Width == 0 {
		cfg.Width = plainWidth
	}
	cfg.Height = 24
	none := colorprofile.NoTTY
	cfg.Profile = &none
	p.c = newChat(ctx, cfg)
	p.c.shown = len(p.c.cells) // the greeting is about keys
	p.c.pause = 0
	defer func() {
		cancel()
		p.c.close()
	}()
	p.start(ctx, p.c.Init())
	return p.loop(ctx, readLines(ctx, cfg.In))
}

// readLines reads in its own goroutine, which ends with the input or, once it has a
// line, with ctx: a read from a terminal cannot be taken back.
func readLines(ctx context.Context, in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		sc := bufio.NewScanner(in)
		sc.Buffer(nil, maxInput)
		for sc.Scan() {
			select {
			case lines <- sc.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

func (p *plain) loop(ctx context.Context, lines <-chan string) error {
	open := true
	for p.err == nil {
		p.print()
		idle := p.idle()
		if idle && (p.c.quitting || !open) {
			return p.c.failed
		}
		var take <-chan string
		if open && idle {
			take = lines
			p.ask()
		}
		select {
		case <-ctx.Done():
			return nil
		case msg := <-p.msgs:
			if _, ok := msg.(statusMsg); ok {
				p.ready = true
			}
			p.start(ctx, p.c.handle(msg))
		case line, ok := <-take:
			p.prompt = false
			if open = ok; ok {
				p.start(ctx, p.line(line))
			}
		}
	}
	return fmt.Errorf("write to the terminal: %w", p.err)
}

// idle reports whether the next line may be taken. The first one waits until the
// service has answered at all.
func (p *plain) idle() bool {
	c := p.c
	return p.ready && c.turn == nil && !c.asking && c.busy == "" && len(c.queue) == 0 && (c.card == nil || !c.card.busy)
}

// start runs a command as bubbletea does.
func (p *plain) start(ctx context.Context, cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	p.c.wg.Go(func() {
		msg := cmd()
		if batch, ok := msg.(tea.BatchMsg); ok {
			for _, b := range batch {
				p.start(ctx, b)
			}
			return
		}
		if msg == nil {
			return
		}
		select {
		case p.msgs <- msg:
		case <-ctx.Done():
		}
	})
}

// ask writes the prompt where a person sits.
func (p *plain) ask() {
	if !p.c.cfg.TTY || p.prompt {
		return
	}
	p.prompt = true
	p.write("gumshoe (" + p.c.mode.String() + ")> ")
}

func (p *plain) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.out, s)
	}
}

func (p *plain) say(lines ...string) {
	if p.prompt {
		p.prompt = false
		p.write("\n")
	}
	for _, l := range lines {
		p.write(strings.TrimRight(downsample(colorprofile.NoTTY, l), " ") + "\n")
	}
}

// line takes what was typed.
func (p *plain) line(s string) tea.Cmd {
	c := p.c
	text := strings.TrimSpace(strings.Join(cleanLines(s), "\n"))
	if p.confirm != "" {
		return p.confirmed(text)
	}
	if text == "" {
		return nil
	}
	if err := c.input.hist.add(text); err != nil {
		c.note(noteWarn, err.Error())
	}
	cmd, ok, err := parseCommand(text)
	switch {
	case err != nil:
		c.note(noteBad, err.Error())
		return nil
	case ok && cmd.name == "approve" && !c.cfg.TTY:
		c.failed = fmt.Errorf("nothing is approved without a terminal; gumshoe plan approve ID does it by name")
		c.note(noteBad, c.failed.Error())
		return nil
	case ok && cmd.name == "copy":
		c.note(noteInfo, "nothing can be copied without a screen; /evidence and /export give the text")
		return nil
	case ok:
		return c.run(cmd)
	}
	return c.ask(text)
}

// confirmed takes the answer to whether a plan is approved: only "yes", and not from
// what was typed or pasted before the question stood there.
func (p *plain) confirmed(text string) tea.Cmd {
	id := p.confirm
	p.confirm = ""
	switch {
	case !strings.EqualFold(text, "yes"):
		p.say("not approved")
	case p.c.cfg.Now().Sub(p.since) < Quiet:
		p.say("not approved: the answer came before the question could be read; /approve asks again")
	default:
		return p.c.say(id, incident.Approved, "")
	}
	return nil
}

// print writes what is new.
func (p *plain) print() {
	c := p.c
	p.progress()
	for ; c.shown < len(c.cells); c.shown++ {
		it := c.cells[c.shown].item
		if t, ok := it.(turnItem); ok {
			t.looks = nil // they were told one by one
			it = t
			p.looks, p.phase = map[string]bool{}, ""
		}
		p.say(it.draw(c.brush())...)
	}
	if c.overlay != nil {
		switch o := c.overlay.(type) {
		case *viewer:
			p.say(o.title)
			p.say(o.lines...)
		case *list:
			p.say(o.title)
			for _, e := range o.all {
				p.say(e.line)
			}
		}
		c.overlay = nil
	}
	if c.hint != p.hint {
		p.hint = c.hint
		if p.hint != "" {
			p.say(p.hint)
		}
	}
	p.decide()
}

// progress tells of the turn at work, one line a look.
func (p *plain) progress() {
	t := p.c.turn
	if t == nil {
		return
	}
	if t.phase != p.phase && t.phase != "" {
		p.say("… " + t.phase)
	}
	p.phase = t.phase
	for _, l := range t.looks {
		if !l.done || p.looks[l.id] {
			continue
		}
		p.looks[l.id] = true
		s := fmt.Sprintf("%s %s %s (%s)", l.id, l.tool, l.args, took(time.Duration(l.millis)*time.Millisecond))
		if l.err != "" {
			s = fmt.Sprintf("%s %s failed: %s", l.id, l.tool, l.err)
		}
		p.say(s)
	}
}

// decide asks about a plan that was turned to.
func (p *plain) decide() {
	k := p.c.card
	if k == nil {
		return
	}
	if k.note != "" {
		p.say(k.note)
		k.note = ""
	}
	if !k.focus {
		return
	}
	k.focus = false
	switch {
	case !p.c.cfg.TTY:
	case p.c.mode != act:
		p.say("nothing is approved in mode " + p.c.mode.String() + "; /mode act, then /approve")
	default:
		p.confirm, p.since = k.rec.Plan.ID, p.c.cfg.Now()
		p.say("Type yes to approve " + clean(k.rec.Plan.ID) + ", anything else leaves it as it is.")
	}
}
