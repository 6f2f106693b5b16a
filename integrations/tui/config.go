// Package tui is the terminal chat: questions, live progress, answers with their
// evidence, and plans with a person's word. It works through a Service, in the same
// process or on a server, and keeps nothing that the journal does not hold.
//
// By default it writes into the terminal's own scrollback and redraws only the live
// tail; it can take the whole screen, or write plain lines for screen readers, pipes
// and dumb terminals.
package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// Config of a chat. Service, In and Out are needed; everything else may be left out.
type Config struct {
	Service Service
	// Runbooks is what /runbooks shows; nil shows those that named causes.
	Runbooks Bookshelf

	In  io.Reader
	Out io.Writer
	// TTY says that In and Out are terminals. Without it the chat is plain: it reads
	// lines and never waits for a word on a plan.
	TTY bool
	// Width and Height in columns and rows; 0 asks the terminal, or 80 by 24.
	Width, Height int
	// Environ is the environment as "NAME=value": TERM, NO_COLOR, COLORTERM, VISUAL,
	// EDITOR. Nil is empty.
	Environ []string
	// Profile forces how many colors are drawn; nil asks the environment.
	Profile *colorprofile.Profile
	// Theme is "auto" (or empty), "dark", "light" or "ansi".
	Theme string
	// Plain writes lines in order and redraws nothing: for screen readers.
	Plain bool
	// FullScreen takes the whole screen instead of writing into the scrollback.
	FullScreen bool

	// Resume is the id of a session to go on with, or "latest".
	Resume string
	// Question is asked at once.
	Question string
	// Namespace narrows questions.
	Namespace string
	// Model to open new sessions with; empty is the configured one.
	Model string
	// By is who sits at the terminal. An empty name lets the service ask the cluster.
	By incident.Person
	// Version of the program, for the greeting.
	Version string

	// History is the file that keeps what was typed; empty keeps it in memory.
	History string
	// Log delivers log records, which become lines of the chat instead of tearing the
	// screen; may be nil.
	Log *Log
	// Answered is told every report as it is shown; may be nil.
	Answered func(incident.Report)

	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Editor makes the command that edits a file; nil takes VISUAL or EDITOR.
	Editor func(file string) (tea.ExecCommand, error)
	// Record writes what the cluster says of namespaces now into a bundle at out, and says
	// how many objects it holds; nil where the cluster is behind a server.
	Record func(ctx context.Context, out string, namespaces []string) (objects int, err error)
	// WriteFile keeps an export; nil writes a new file that only its owner reads.
	WriteFile func(name string, data []byte) error
}

// Themes are the names that Config.Theme and /theme take.
func Themes() []string { return []string{"auto", "dark", "light", "ansi"} }

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.Service == nil:
		return errors.New("tui: Service is missing")
	case c.In == nil || c.Out == nil:
		return errors.New("tui: In and Out are needed")
	case c.Width < 0 || c.Height < 0:
		return fmt.Errorf("tui: a size of %d x %d is none", c.Width, c.Height)
	case c.Theme != "" && !slices.Contains(Themes(), c.Theme):
		return fmt.Errorf("theme %q is none of %s", c.Theme, strings.Join(Themes(), ", "))
	}
	return nil
}

// withDefaults fills what was left out.
func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.By.Surface == "" {
		c.By.Surface = session.TUI
	}
	if c.WriteFile == nil {
		c.WriteFile = writeNew
	}
	if c.Theme == "" {
		c.Theme = "auto"
	}
	return c
}

// writeNew writes a file that must not be there yet.
func writeNew(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// env reads a variable of Environ; the last one counts, as in a shell.
func (c Config) env(name string) string {
	for _, kv := range slices.Backward(c.Environ) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

// plain reports whether lines are written instead of a screen.
func (c Config) plain() bool {
	return c.Plain || !c.TTY || c.env("TERM") == "dumb" || c.env("CI") != ""
}

// profile gives how many colors are drawn.
func (c Config) profile() colorprofile.Profile {
	if c.Profile != nil {
		return *c.Profile
	}
	p := colorprofile.Env(c.Environ)
	if c.env("NO_COLOR") != "" && p > colorprofile.Ascii {
		return colorprofile.Ascii
	}
	return p
}

// Run holds the chat until the person leaves it, the input ends or ctx does. Leaving
// is no error; neither is the end of ctx. A turn that is still at work goes on where the
// service works, and can be resumed.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if cfg.plain() {
		return runPlain(ctx, cfg)
	}
	return runScreen(ctx, cfg)
}

// fps bounds how often the screen is drawn a second.
const fps = 30

func runScreen(ctx context.Context, cfg Config) error {
	c := newChat(ctx, cfg)
	opts := []tea.ProgramOption{
		tea.WithContext(ctx), tea.WithInput(cfg.In), tea.WithOutput(cfg.Out), tea.WithEnvironment(cfg.Environ),
		tea.WithFPS(fps), tea.WithColorProfile(c.profile), tea.WithoutSignalHandler(),
	}
	if cfg.Width > 0 && cfg.Height > 0 {
		opts = append(opts, tea.WithWindowSize(cfg.Width, cfg.Height))
	}
	_, err := tea.NewProgram(c, opts...).Run()
	c.close()
	if err != nil && ctx.Err() == nil && !errors.Is(err, tea.ErrInterrupted) {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}
