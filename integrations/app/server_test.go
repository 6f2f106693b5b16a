package app_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/alertmanager"
	"github.com/gumshoe-ai/gumshoe/integrations/api/client"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/slack"
)

// secret writes a file of one line.
func secret(t testing.TB, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(f, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// serve runs a server on the staged recorded cluster of a case until the test ends, and
// gives its address.
func serve(t testing.TB, cfg app.Config) (*app.Server, string) {
	t.Helper()
	if cfg.Store.Dir == "" {
		cfg.Store.Dir = t.TempDir()
	}
	cfg.Server.Listen, cfg.Server.Execute = "127.0.0.1:0", true
	s := apptest.Serve(t, app.ServerOptions{Load: func() (app.Config, error) { return cfg, cfg.Validate() }, App: app.StageCase("k8s-service-selector")})
	return s.Server, s.URL
}

// everything configures each surface, with one token that opens the door.
func everything(t *testing.T) app.Config {
	t.Helper()
	cfg := app.Defaults()
	cfg.Server.Auth = access.Config{Tokens: []access.TokenConfig{{Name: "ann", Role: "admin", File: secret(t, "a-token-of-more-than-20-characters")}}}
	cfg.Server.Slack = &slack.Config{Mode: slack.ModeHTTP, BotTokenFile: secret(t, "xoxb-1"), SigningSecretFile: secret(t, "signing"), PublicURL: "https://gumshoe.example.com"}
	cfg.Server.Alertmanager = &alertmanager.Config{Auth: alertmanager.AuthConfig{BearerTokenFile: secret(t, "hook-token-of-more-than-20-characters")}}
	return cfg
}

// Every route of every surface refuses whoever does not say who they are, but for those
// that stand here with the reason why not.
func TestNoRouteIsOpen(t *testing.T) {
	t.Parallel()
	public := []string{"/auth/", "/healthz", "/readyz", "/slack/", "/webhooks/alertmanager", "/static/", "/signin", "/.well-known/", "/assets/", "/theme"}
	own := []string{"/slack/", "/webhooks/alertmanager"}
	s, at := serve(t, everything(t))
	routes := s.Routes()
	if len(routes) < 60 {
		t.Fatalf("only %d routes: a surface is missing", len(routes))
	}
	part := regexp.MustCompile(`\{[^}]*\}`)
	for _, r := range routes {
		method := r.Method
		if method == "" {
			method = http.MethodGet
		}
		req, err := http.NewRequestWithContext(t.Context(), method, at+part.ReplaceAllString(strings.TrimSuffix(r.Pattern, "{$}"), "x"), strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json")
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		in := func(prefixes []string) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(r.Pattern, p) })
		}
		switch {
		case !r.Public && res.StatusCode != http.StatusUnauthorized:
			t.Errorf("%s %s answers %d to a stranger: %.200s", method, r.Pattern, res.StatusCode, body)
		case r.Public && !in(public):
			t.Errorf("%s %s is public and not known to be (%s)", method, r.Pattern, r.Why)
		case in(own) && (res.StatusCode < 400 || res.StatusCode >= 500):
			t.Errorf("%s %s has an authentication of its own and answers %d to a stranger", method, r.Pattern, res.StatusCode)
		}
	}
}

// Without authentication nothing but loopback is served.
func TestServerFailsClosed(t *testing.T) {
	t.Parallel()
	cfg := app.Defaults()
	cfg.Store.Dir, cfg.Server.Listen = t.TempDir(), "0.0.0.0:0"
	s, err := app.NewServer(t.Context(), app.ServerOptions{Load: func() (app.Config, error) { return cfg, nil }, App: app.StageCase("k8s-service-selector")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no authentication is configured") {
		t.Errorf("it served: %v", err)
	}
}

// A reload takes what it can, keeps what runs, and leaves everything as it is when the new
// configuration cannot be used.
func TestServerReloads(t *testing.T) {
	t.Parallel()
	cfg := everything(t)
	cfg.Store.Dir = t.TempDir()
	cfg.Server.Listen, cfg.Server.Execute = "127.0.0.1:0", true
	loaded := make(chan func() (app.Config, error), 1)
	next := func() (app.Config, error) { return cfg, nil }
	addr := make(chan string, 1)
	s, err := app.NewServer(t.Context(), app.ServerOptions{
		Load: func() (app.Config, error) {
			select {
			case next = <-loaded:
			default:
			}
			return next()
		},
		App: app.StageCase("k8s-service-selector"), Ready: func(main, _ net.Addr) { addr <- "http://" + main.String() },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	at := <-addr
	token := func(text string) *client.Client {
		c, err := client.New(client.Config{URL: at, TokenFile: secret(t, text)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old, fresh := token("a-token-of-more-than-20-characters"), token("another-token-of-20-characters")
	if _, err := old.Status(ctx); err != nil {
		t.Fatal(err)
	}
	se, _, err := old.Ask(ctx, session.Ask{Question: incident.Question{Text: "why does service shop/web have no endpoints?"}})
	if err != nil {
		t.Fatal(err)
	}
	before := s.Service()
	loaded <- func() (app.Config, error) { return app.Config{}, os.ErrInvalid }
	s.Reload()
	two := cfg
	two.Server.Auth.Tokens = []access.TokenConfig{{Name: "bob", Role: "viewer", File: secret(t, "another-token-of-20-characters")}}
	for s.Service() == before {
		loaded <- func() (app.Config, error) { return two, nil }
		s.Reload()
		for len(loaded) > 0 && s.Service() == before {
			select {
			case err := <-done:
				t.Fatal(err)
			default:
			}
		}
	}
	if _, err := old.Status(ctx); err == nil {
		t.Error("a token that was taken out still opens the door")
	}
	if got, err := fresh.Session(ctx, se.ID); err != nil || got.ID != se.ID {
		t.Errorf("the session is gone: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
