package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/gumshoe-ai/gumshoe/agent/investigate"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
	"github.com/gumshoe-ai/gumshoe/agent/store/jetstream"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Keeper is a store with what else a service keeps in it.
type Keeper struct {
	store.Store
	// Spill keeps full outputs, Live what is told and not kept.
	Spill investigate.Spill
	Live  session.Live
	// Delete removes whole subjects; it is asked for sessions, runs and what hangs on
	// them, never for plans and the audit trail.
	Delete func(ctx context.Context, subjects ...string) error
	// Prune removes the oldest runs beyond what is to be kept.
	Prune func(ctx context.Context) error
	// Health says whether the store answers.
	Health func(ctx context.Context) error
}

// FileKeeper keeps a service in the store of the command line.
func FileKeeper(ctx context.Context, cfg Config) (*Keeper, error) {
	if !cfg.Store.wanted() {
		return nil, &tool.Error{Kind: tool.Invalid, User: "a conversation has to be kept, and the store is off", Fix: "set store.dir or GUMSHOE_STATE to a directory"}
	}
	s, err := file.Open(file.Config{Dir: cfg.Store.Dir, Lazy: []string{store.Runs}, LockWait: storeWait})
	if err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "the store cannot be opened: " + err.Error(), Fix: storeFix, Err: err}
	}
	return &Keeper{
		Store: s, Spill: s.Outputs(ctx), Live: session.NewLocal(), Delete: s.Remove,
		Prune: func(ctx context.Context) error {
			_, err := s.Prune(ctx, file.Retention{Pattern: store.Runs, Keep: cfg.Store.keep(), OutputBytes: maxOutputs})
			return err
		},
		Health: func(ctx context.Context) error {
			for _, err := range s.List(ctx, session.Subjects) {
				if err != nil {
					return fmt.Errorf("the store: %w", err)
				}
				break
			}
			return nil
		},
	}, nil
}

// serverKeep is how many runs a server keeps where nothing else is configured.
const serverKeep = 5000

// ServerKeeper opens the store of a server: the NATS that the configuration names, or
// one in the process.
func ServerKeeper(ctx context.Context, cfg Config, log *slog.Logger) (*Keeper, error) {
	n := cfg.Server.NATS
	jc := jetstream.Config{URLs: n.URLs, Credentials: n.CredentialsFile, CA: n.CAFile, Cert: n.CertFile, Key: n.KeyFile, Replicas: n.Replicas, Log: log}
	if len(n.URLs) == 0 {
		if !cfg.Store.wanted() {
			return nil, &tool.Error{Kind: tool.Invalid, User: "a server keeps what it takes, and the store is off", Fix: "set store.dir or GUMSHOE_STATE to a directory, or server.nats.urls"}
		}
		jc.Dir = filepath.Join(cfg.Store.Dir, "server")
	}
	s, err := jetstream.Open(ctx, jc)
	if err != nil {
		fix := "see server.nats"
		if jc.Dir != "" {
			fix = storeFix
		}
		return nil, &tool.Error{Kind: tool.Unreachable, User: "the store cannot be opened: " + err.Error(), Fix: fix, Err: err}
	}
	keep := cfg.Store.Keep
	if keep == 0 {
		keep = serverKeep
	}
	return &Keeper{
		Store: s, Spill: s.Outputs(context.WithoutCancel(ctx)), Live: s, Health: s.Health,
		Delete: s.Delete,
		Prune: func(ctx context.Context) error {
			var errs []error
			for pattern, most := range retained(keep) {
				_, err := s.Prune(ctx, jetstream.Retention{Pattern: pattern, Keep: most})
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}, nil
}

// retained says how many subjects of each kind a server keeps, those appended to last.
// Plans and the audit trail stay for good. Work beyond these numbers was done long ago:
// no queue is as long.
func retained(runs int) map[string]int {
	return map[string]int{
		store.Runs: runs, session.Subjects: 4 * runs, "work.>": 20 * runs, "alerts.>": 4 * runs,
		"slackin.>": 10 * runs, "slackpost.>": 4 * runs, "link.>": 8 * runs, "signout.>": 4 * runs, "due.>": 4 * runs, "spend.>": 400,
	}
}

// gone turns a store's "not there" into an error for people.
func gone(err error, format string, args ...any) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf(format, args...), Err: err}
	}
	return err
}
