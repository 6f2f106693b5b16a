package apptest

import (
	"context"
	"testing"

	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// Staged is a service on a recorded cluster that reacts to what is written to it.
type Staged struct {
	*app.Service
	App *app.App
	// Keep is the store that the service works on.
	Keep *app.Keeper
}

// Case gives a case that ships.
func Case(t testing.TB, id string) evals.Case {
	t.Helper()
	fsys, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	c, err := evals.Find(fsys, id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Stage opens a service on the recorded cluster of a case that ships, until the test
// ends. It executes plans; set may change how it is configured.
func Stage(t testing.TB, id string, set ...func(*app.Config, *app.ServiceConfig)) Staged {
	t.Helper()
	c := Case(t, id)
	cfg, sc := app.Defaults(), app.ServiceConfig{Execute: true}
	cfg.Store.Dir = t.TempDir()
	for _, f := range set {
		f(&cfg, &sc)
	}
	f, err := app.NewFactory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := f.Stage(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	if sc.Keeper, err = app.FileKeeper(context.WithoutCancel(t.Context()), cfg); err != nil {
		t.Fatal(err)
	}
	s, err := app.NewService(a, sc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return Staged{Service: s, App: a, Keep: sc.Keeper}
}

// Work answers questions, executes plans and does what else a service does of itself
// until the test ends. One that does not end well fails the test.
func (s Staged) Work(t testing.TB) *app.Service {
	t.Helper()
	until(t, s.Serve)
	return s.Service
}

// until runs something until the cleanups of a test, whose context has ended by then: what
// is cleaned up before may still need it.
func until(t testing.TB, run func(context.Context) error) <-chan error {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return done
}
