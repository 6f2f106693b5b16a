package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
)

// progress shows on stderr what is being looked at. On a terminal it is one
// line that redraws itself with the elapsed time; elsewhere plain lines.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	start time.Time
	line  string
	drawn bool
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
}

var _ event.Sink = (*progress)(nil)

// tick is how often the line redraws: often enough to look alive.
const tick = 120 * time.Millisecond

func newProgress(s Streams) *progress {
	p := &progress{w: s.Err, tty: s.ErrTTY && s.Getenv("TERM") != "dumb" && s.Getenv("CI") == "", start: time.Now(), stop: make(chan struct{}), done: make(chan struct{})}
	if !p.tty {
		close(p.done)
		return p
	}
	go func() {
		defer close(p.done)
		t := time.NewTicker(tick)
		defer t.Stop()
		for n := 0; ; n++ {
			select {
			case <-t.C:
				p.draw(n)
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

// Emit implements event.Sink.
func (p *progress) Emit(e event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Type {
	case event.ToolStarted:
		if e.Call != nil {
			p.say(e.Call.Tool + " " + clip(render.Clean(e.Call.Args), 80))
		}
	case event.Phase:
		p.say(e.Phase)
	case event.ModelStarted:
		if e.Model != nil {
			p.say(fmt.Sprintf("%s thinks (turn %d)", e.Model.Name, e.Model.Turn))
		}
	case event.Notice:
		if e.Notice != nil {
			p.clear()
			fmt.Fprintf(p.w, "%s: %s\n", e.Notice.Level, render.Clean(e.Notice.Text))
		}
	}
}

// say sets the line, or prints it where there is no terminal.
func (p *progress) say(s string) {
	p.line = s
	if !p.tty {
		fmt.Fprintf(p.w, "… %s\n", s)
	}
}

func (p *progress) draw(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	fmt.Fprintf(p.w, "\r\x1b[2K%c %4.1fs %s", frames[n%len(frames)], time.Since(p.start).Seconds(), clip(p.line, 100))
	p.drawn = true
}

func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[2K")
		p.drawn = false
	}
}

// Stop ends the redrawing and leaves a clean line.
func (p *progress) Stop() {
	p.once.Do(func() {
		close(p.stop)
		<-p.done
		p.mu.Lock()
		defer p.mu.Unlock()
		p.clear()
	})
}

func clip(s string, n int) string {
	r := []rune(strings.TrimSpace(s))
	if len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return string(r)
}
