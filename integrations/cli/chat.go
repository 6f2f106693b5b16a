package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/tui"
)

// chatFlags are those of the terminal chat.
type chatFlags struct {
	src                        sourceFlags
	attach                     attachFlags
	resume, model, theme, demo string
	plain, fullScreen          bool
}

func (f *chatFlags) add(cmd *cobra.Command, g *globals) {
	f.src.add(cmd)
	f.attach.add(cmd, g, "attach")
	fl := cmd.Flags()
	fl.StringVar(&f.resume, "resume", "", "go on with the session `ID`, or latest")
	fl.StringVar(&f.model, "model", "", "\"offline\" or `PROVIDER/NAME` (default GUMSHOE_MODEL, else offline)")
	fl.StringVar(&f.theme, "theme", "", "`NAME` of the theme: "+strings.Join(tui.Themes(), ", "))
	fl.StringVar(&f.demo, "demo", "", "chat about the recorded cluster of a `CASE`; approved plans are executed on it")
	fl.BoolVar(&f.plain, "plain", false, "write lines in order and redraw nothing, for screen readers")
	fl.BoolVar(&f.fullScreen, "full-screen", false, "take the whole screen instead of the terminal's scrollback")
}

func newChat(g *globals) *cobra.Command {
	var f chatFlags
	cmd := &cobra.Command{
		Use:   "chat [QUESTION]",
		Short: "Talk about a cluster in the terminal: ask, look at evidence, approve a plan",
		Long: "Chat asks, shows the evidence while it is gathered, and goes on where it was left. Without a terminal it\n" +
			"reads questions line by line from standard input. /help lists what it takes.",
		Example: "  gumshoe chat\n  gumshoe chat \"why is pod train/llama-0 pending\"\n  gumshoe chat --resume latest\n  gumshoe chat --attach https://gumshoe.example.com --token-file ~/.gumshoe-token\n  gumshoe chat --demo k8s-service-selector",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.chat(cmd.Context(), f, strings.TrimSpace(strings.Join(args, " ")))
		},
	}
	f.add(cmd, g)
	return cmd
}

func (g *globals) chat(ctx context.Context, f chatFlags, question string) error {
	cfg, err := g.load(f.src)
	if err != nil {
		return err
	}
	if f.model != "" && f.attach.server == "" {
		cfg.Model.Name = f.model
		if err := cfg.Validate(); err != nil {
			return usage(err)
		}
	}
	if f.attach.server != "" && (f.demo != "" || f.src.bundle != "" || f.src.context != "" || f.src.kubeconfig != "") {
		return usage(errors.New("--attach works through a server, which has its own cluster: leave out --demo, --bundle, --context and --kubeconfig"))
	}
	log := tui.NewLog(slog.LevelWarn)
	tc := tui.Config{
		In: g.streams.In, Out: g.streams.Out, TTY: g.streams.InTTY && g.streams.OutTTY, Environ: os.Environ(), Theme: f.theme, Plain: f.plain, FullScreen: f.fullScreen,
		Resume: f.resume, Question: question, Namespace: cfg.Kubernetes.Namespace, Version: app.Version(), Log: log, Runbooks: bookshelf{cfg}, Now: time.Now,
	}
	if cfg.Store.Dir != "" && !cfg.Store.Off {
		tc.History = filepath.Join(cfg.Store.Dir, "history")
	}
	if f.attach.server != "" {
		c, err := f.attach.client("tui")
		if err != nil {
			return err
		}
		tc.Service, tc.Model = c, f.model
	} else {
		demo := ""
		if f.demo != "" {
			demo = demoCase(f.demo)
		}
		s, stop, err := openService(ctx, cfg, demo, log)
		if err != nil {
			return err
		}
		defer stop()
		tc.Service, tc.Record = s, s.Record
	}
	if err := tc.Validate(); err != nil {
		return usage(err)
	}
	if err := tui.Run(ctx, tc); err != nil {
		return fmt.Errorf("chat: %w", err)
	}
	return nil
}

// bookshelf gives the runbooks of a configuration.
type bookshelf struct{ cfg app.Config }

var _ tui.Bookshelf = bookshelf{}

// Books implements tui.Bookshelf.
func (b bookshelf) Books(context.Context) ([]tui.Book, error) {
	lib, err := app.Library(b.cfg)
	if err != nil {
		return nil, err
	}
	var out []tui.Book
	for _, r := range lib.All() {
		out = append(out, tui.Book{ID: r.ID, Title: r.Title, Text: r.Body})
	}
	return out, nil
}
