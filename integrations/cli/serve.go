package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// serveFlags are those of a server.
type serveFlags struct {
	src    sourceFlags
	listen string
	nats   []string
	demo   string
}

func newServer(g *globals) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the web pages, the API, Slack, alerts and MCP from one durable process",
		Long: "Serve takes questions from every surface, works on them one after the other, and keeps everything in a\n" +
			"store that survives the process: a NATS JetStream inside of it, or your own with --nats. Without\n" +
			"authentication configured it listens on loopback only. SIGHUP reads the configuration again.",
		Example: "  gumshoe serve\n  gumshoe serve --config gumshoe.yaml\n  gumshoe serve --nats nats://nats-0:4222,nats://nats-1:4222\n  gumshoe serve --demo k8s-service-selector",
		Args:    argCount(0, 0, "no arguments"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return g.serve(cmd.Context(), f) },
	}
	f.src.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "", "`HOST:PORT` (default server.listen, else "+app.DefaultListen+")")
	fl.StringSliceVar(&f.nats, "nats", nil, "`URL` of your own NATS, several with commas, in place of the one inside")
	fl.StringVar(&f.demo, "demo", "", "serve the recorded cluster of a `CASE` that reacts to approved plans; see gumshoe demo --list")
	return cmd
}

// serve serves until ctx ends.
func (g *globals) serve(ctx context.Context, f serveFlags) error {
	load := func() (app.Config, error) {
		cfg, err := g.load(f.src)
		if err != nil {
			return cfg, err
		}
		if f.listen != "" {
			cfg.Server.Listen = f.listen
		}
		if len(f.nats) > 0 {
			cfg.Server.NATS.URLs = f.nats
		}
		if f.demo != "" {
			cfg.Server.Execute = true
		}
		if err := cfg.Validate(); err != nil {
			return cfg, usage(err)
		}
		return cfg, nil
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	opts := app.ServerOptions{Load: load, Log: newLog(cfg.Server, g.streams.Err), Ready: func(main, metrics net.Addr) {
		scheme := "http"
		if cfg.Server.TLS.CertFile != "" {
			scheme = "https"
		}
		fmt.Fprintf(g.streams.Err, "gumshoe serves on %s://%s\n", scheme, main)
		if metrics != nil {
			fmt.Fprintf(g.streams.Err, "metrics and health on http://%s\n", metrics)
		}
	}}
	if f.demo != "" {
		opts.App = app.StageCase(demoCase(f.demo))
	}
	s, err := app.NewServer(ctx, opts)
	if err != nil {
		return err
	}
	stop := onHangup(ctx, s.Reload)
	defer stop()
	return s.Run(ctx)
}

// newLog makes the log of a server.
func newLog(c app.ServerConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if c.LogLevel != "" {
		_ = level.UnmarshalText([]byte(strings.ToUpper(c.LogLevel))) // it was validated
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// onHangup calls a function for each SIGHUP until it is stopped.
func onHangup(ctx context.Context, f func()) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, hangup()...)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-c:
				f()
			}
		}
	}()
	return func() { signal.Stop(c); cancel() }
}
