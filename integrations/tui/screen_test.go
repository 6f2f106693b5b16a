package tui_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/vt"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/tui"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// terminal is a virtual terminal with the chat in it: what the chat writes is drawn,
// what the terminal is asked it answers, and keys are bytes.
type terminal struct {
	t     *testing.T
	mu    sync.Mutex
	emu   *vt.Emulator
	raw   bytes.Buffer
	in    *io.PipeWriter
	clock *clock
	wrote chan struct{}
	done  chan error
	stop  context.CancelFunc
}

// Write implements io.Writer. Lines end as a terminal in cooked mode ends them.
func (v *terminal) Write(p []byte) (int, error) {
	v.mu.Lock()
	v.raw.Write(p)
	_, err := v.emu.Write(bytes.ReplaceAll(bytes.ReplaceAll(p, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")))
	v.mu.Unlock()
	select {
	case v.wrote <- struct{}{}:
	default:
	}
	return len(p), err
}

// open starts the chat in a terminal of a size.
func open(t *testing.T, width, height int, cfg tui.Config) *terminal {
	t.Helper()
	pr, pw := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	v := &terminal{t: t, emu: vt.NewEmulator(width, height), in: pw, clock: newClock(), wrote: make(chan struct{}, 1), done: make(chan error, 1), stop: stop}
	all := colorprofile.TrueColor
	cfg.In, cfg.Out, cfg.TTY, cfg.Width, cfg.Height, cfg.Now = pr, v, true, width, height, v.clock.Now
	if cfg.Profile == nil {
		cfg.Profile = &all
	}
	if cfg.Theme == "" {
		cfg.Theme = "dark"
	}
	if cfg.By.Name == "" {
		cfg.By = incident.Person{Name: "ann", Groups: []string{"sre"}}
	}
	cfg.Environ = append([]string{"TERM=xterm-256color"}, cfg.Environ...)
	go func() { // answers of the terminal itself
		buf := make([]byte, 256)
		for {
			n, err := v.emu.Read(buf)
			if err != nil {
				return
			}
			if _, err := pw.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	go func() { v.done <- tui.Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		_ = pw.Close()
		if c, ok := v.emu.InputPipe().(io.Closer); ok { // ends its reader, too
			_ = c.Close()
		}
	})
	return v
}

// screen gives what is seen.
func (v *terminal) screen() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return trimmed(v.emu.String())
}

// all gives the scrollback and what is seen.
func (v *terminal) all() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	for y := range v.emu.ScrollbackLen() {
		for x := 0; x < v.emu.Width(); {
			c := v.emu.ScrollbackCellAt(x, y)
			if c == nil || c.Width == 0 {
				x++
				continue
			}
			b.WriteString(c.Content)
			x += c.Width
		}
		b.WriteByte('\n')
	}
	return trimmed(b.String() + v.emu.String())
}

func trimmed(s string) string {
	var out []string
	for l := range strings.SplitSeq(s, "\n") {
		out = append(out, strings.TrimRight(l, " "))
	}
	return strings.TrimRight(strings.Join(out, "\n"), "\n")
}

// patience bounds how long a test waits for the screen; it is no measurement.
const patience = 30 * time.Second

// wait gives the screen once it holds a text.
func (v *terminal) wait(text string) string {
	v.t.Helper()
	return v.until("shows "+text, func(s string) bool { return strings.Contains(s, text) })
}

// gone waits until a text is not seen any more.
func (v *terminal) gone(text string) string {
	v.t.Helper()
	return v.until("is without "+text, func(s string) bool { return !strings.Contains(s, text) })
}

func (v *terminal) until(what string, ok func(string) bool) string {
	v.t.Helper()
	late := time.After(patience)
	for {
		if s := v.all(); ok(s) {
			return s
		}
		select {
		case <-v.wrote:
		case err := <-v.done:
			v.done <- err
			if s := v.all(); ok(s) {
				return s
			}
			v.t.Fatalf("the chat ended (%v) before the screen %s:\n%s", err, what, v.all())
		case <-late:
			v.t.Fatalf("the screen never %s:\n%s", what, v.all())
		}
	}
}

// press sends keys as a terminal does.
func (v *terminal) press(keys ...string) {
	v.t.Helper()
	for _, k := range keys {
		if _, err := io.WriteString(v.in, k); err != nil {
			v.t.Fatal(err)
		}
	}
}

// say types a line and sends it.
func (v *terminal) say(line string) {
	v.t.Helper()
	v.press(line)
	v.wait(line)
	v.press("\r")
}

// answered waits until an answer stands and nothing is at work.
func (v *terminal) answered() string {
	v.t.Helper()
	return v.until("shows an answer", func(s string) bool {
		return strings.Contains(s, "run-") && !strings.ContainsAny(s, "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏") && !strings.Contains(s, "sending")
	})
}

// end waits for the end of the chat.
func (v *terminal) end() {
	v.t.Helper()
	select {
	case err := <-v.done:
		v.done <- err
		if err != nil {
			v.t.Errorf("the chat ended with %v", err)
		}
	case <-time.After(patience):
		v.t.Fatalf("the chat did not end:\n%s", v.all())
	}
}

// Keys as a terminal sends them.
const (
	enter    = "\r"
	escape   = "\x1b"
	tab      = "\t"
	shiftTab = "\x1b[Z"
	ctrlC    = "\x03"
	ctrlO    = "\x0f"
	ctrlR    = "\x12"
	up       = "\x1b[A"
	down     = "\x1b[B"
)

var volatile = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`run-[0-9a-f]{16}`), "run-0123456789abcdef"},
	{regexp.MustCompile(`s-[0-9a-f]{16}`), "s-0123456789abcdef"},
	{regexp.MustCompile(`plan-[0-9a-z]+`), "plan-0123456789"},
	{regexp.MustCompile(`sha256:[0-9a-f]+(\n *[0-9a-f]{4,}\n)?`), "sha256:0\n"},
	{regexp.MustCompile(`\d+\.\ds`), "0.0s"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d`), "2026-11-28 01:00"},
	{regexp.MustCompile(`in \d+h\d+m\d*s?`), "in 1h00m"},
}

// golden waits until the screen is the one that is kept. The clock and the ids of the
// service are the real ones and are written over.
func (v *terminal) golden(name string, screen func() string) {
	v.t.Helper()
	still := func() string {
		got := screen()
		for _, x := range volatile {
			got = x.re.ReplaceAllString(got, x.to)
		}
		return got + "\n"
	}
	file := filepath.Join("testdata", name+".txt")
	if *update {
		for quiet := false; !quiet; { // until nothing is drawn any more
			select {
			case <-v.wrote:
			case <-time.After(time.Second):
				quiet = true
			}
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			v.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(still()), 0o644); err != nil {
			v.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		v.t.Fatal(err)
	}
	late := time.After(patience)
	for still() != string(want) {
		select {
		case <-v.wrote:
		case <-late:
			v.t.Errorf("%s (-want +got):\n%s", name, cmp.Diff(string(want), still()))
			return
		}
	}
}

// From a question to a verified fix, with keys only.
func TestStory(t *testing.T) {
	t.Parallel()
	s := apptest.Stage(t, "k8s-service-selector").Work(t)
	v := open(t, 80, 24, tui.Config{Service: s, Namespace: "shop"})
	v.wait("observe")
	v.say("why does service web not answer")
	v.wait("/plan makes a plan")
	v.say("/plan")
	v.wait("tab: decide")
	v.press(shiftTab, shiftTab)
	v.wait("act: you may approve")
	v.press(tab)
	v.wait("y approve ·")
	v.press("y")
	v.wait("too soon")
	v.clock.Add(tui.Quiet)
	v.press("y")
	v.wait("is verified")
	t.Log(v.all())
	v.press(ctrlC)
	v.end()
}

// resize changes the window, and says so in the terminal's own words (in-band resize,
// mode 2048).
func (v *terminal) resize(width, height int) {
	v.t.Helper()
	v.mu.Lock()
	v.emu.Resize(width, height)
	v.mu.Unlock()
	v.press(fmt.Sprintf("\x1b[48;%d;%d;0;0t", height, width))
}
