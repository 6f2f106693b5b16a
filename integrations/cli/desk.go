package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/tui"
)

// attachFlags say which server a command works through, if any.
type attachFlags struct {
	server, token, ca string
}

func (f *attachFlags) add(cmd *cobra.Command, g *globals, name string) {
	fl := cmd.Flags()
	fl.StringVar(&f.server, name, g.streams.Getenv("GUMSHOE_SERVER"), "`URL` of a server to work through (default GUMSHOE_SERVER, else this process)")
	fl.StringVar(&f.token, "token-file", g.streams.Getenv("GUMSHOE_TOKEN_FILE"), "`FILE` with the bearer token for the server")
	fl.StringVar(&f.ca, "server-ca", "", "`FILE` with certificates to trust for the server")
}

func (f attachFlags) client(source string) (*client.Client, error) {
	c, err := client.New(client.Config{URL: f.server, TokenFile: f.token, CAFile: f.ca, Source: source})
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}

// archive is what is kept of conversations, here or on a server.
type archive interface {
	tui.Runs
	Session(ctx context.Context, id string) (session.Session, error)
	Sessions(ctx context.Context, f session.Filter) ([]session.Session, error)
	DeleteSession(ctx context.Context, id string, by incident.Person) error
}

// openArchive opens what is kept, without a cluster.
func (g *globals) openArchive(ctx context.Context, f attachFlags, source string) (archive, func(), error) {
	if f.server != "" {
		c, err := f.client(source)
		return c, func() {}, err
	}
	cfg, err := g.load(sourceFlags{})
	if err != nil {
		return nil, nil, err
	}
	k, err := app.FileKeeper(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return nil, nil, err
	}
	a := app.NewArchive(k, "", nil)
	return a, func() { _ = a.Close() }, nil
}

// openService wires a service of this process: the store of the command line, a
// person's own rights. It works until the function that comes with it is called.
func openService(ctx context.Context, cfg app.Config, demo string, log slog.Handler) (*app.Service, func(), error) {
	var undo []func()
	closeAll := func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	open := app.New
	if demo != "" {
		dir, err := os.MkdirTemp("", "gumshoe-demo-")
		if err != nil {
			return nil, nil, err
		}
		undo = append(undo, func() { _ = os.RemoveAll(dir) })
		cfg.Store = app.StoreConfig{Dir: dir}
		open = app.StageCase(demo)
	}
	a, err := open(ctx, cfg)
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	undo = append(undo, func() { _ = a.Close() })
	k, err := app.FileKeeper(context.WithoutCancel(ctx), cfg)
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	s, err := app.NewService(a, app.ServiceConfig{Keeper: k, Queue: cfg.Server.Queue, Execute: true, Log: slog.New(log)})
	if err != nil {
		closeAll()
		return nil, nil, errors.Join(err, k.Close())
	}
	undo = append(undo, func() { _ = s.Close() })
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(work)
	}()
	undo = append(undo, func() { stop(); <-done })
	return s, closeAll, nil
}
