package api_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// theCase is the recorded cluster that tests work on: a Service whose selector matches
// nothing, and controllers that react when it is mended.
const theCase = "k8s-service-selector"

// stage is the real service on the recorded cluster.
type stage struct {
	apptest.Staged
	// quiet is another service on the same store, which executes nothing.
	quiet *app.Service
}

func staged(t *testing.T) stage {
	t.Helper()
	rules := t.TempDir()
	if err := os.WriteFile(filepath.Join(rules, "roles.yaml"), []byte("settings:\n  roles:\n    admin:\n      users: [root]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := apptest.Stage(t, theCase, func(c *app.Config, _ *app.ServiceConfig) { c.Policy.Dirs = []string{rules} })
	quiet, err := app.NewService(s.App, app.ServiceConfig{Keeper: s.Keep})
	if err != nil {
		t.Fatal(err)
	}
	return stage{s, quiet}
}

// trip opens the breaker of the cluster of a plan, as an executor does.
func (s stage) trip(t *testing.T, cluster string) {
	t.Helper()
	if _, err := s.Keep.Append(t.Context(), app.BreakerSubject(cluster), 0, store.Entry{Type: "breaker.opened"}); err != nil {
		t.Fatal(err)
	}
}

// crew are the people of the tests, each with a static token: name and role.
func crew() map[string]access.Role {
	return map[string]access.Role{
		"nobody": access.None, "vic": access.Viewer, "ann": access.Asker, "bob": access.Approver, "cat": access.Approver, "root": access.Admin,
	}
}

func token(name string) string { return name + "-0123456789abcdef0123456789abcdef" }

// running is a server on a real listener.
type running struct {
	url    string
	api    *api.API
	tokens map[string]string // files by name
	stop   func()            // begins to drain
	done   chan error
}

// server serves the API of a service behind the gate until the test ends.
func server(t *testing.T, svc api.Service, cfg api.Config, change func(*access.Config)) *running {
	t.Helper()
	a, err := api.New(svc, cfg, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, a, change)
}

func serve(t *testing.T, a *api.API, change func(*access.Config)) *running {
	t.Helper()
	r := &running{api: a, tokens: map[string]string{}, done: make(chan error, 1)}
	// Tests send requests in bursts.
	ac := access.Config{Rate: access.RateConfig{PerMinute: 1_000_000, Burst: 100_000}}
	dir := t.TempDir()
	for name, role := range crew() {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(token(name)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.tokens[name] = file
		ac.Tokens = append(ac.Tokens, access.TokenConfig{Name: name, Groups: []string{"sre"}, Role: role.String(), File: file})
	}
	if change != nil {
		change(&ac)
	}
	gate, err := access.New(ac)
	if err != nil {
		t.Fatal(err)
	}
	h, err := gate.Mux(a.Routes())
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + l.Addr().String()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r.stop = stop
	go func() { r.done <- gate.Serve(ctx, l, h) }()
	t.Cleanup(func() {
		stop()
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		r.done <- nil
	})
	return r
}

// as gives a client of somebody.
func (r *running) as(t *testing.T, name string, change func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{URL: r.url, TokenFile: r.tokens[name]}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// hurry takes the pauses between tries out.
func hurry(c *client.Config) {
	c.Sleep = func(context.Context, time.Duration) {}
}

// request makes one for somebody; "" sends no token.
func (r *running) request(t *testing.T, name, method, path string) *http.Request {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		q.Header.Set("Authorization", "Bearer "+token(name))
	}
	return q
}
