package access

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func newGate(t *testing.T, cfg Config) *Gate {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func mux(t *testing.T, g *Gate, routes ...[]Route) http.Handler {
	t.Helper()
	h, err := g.Mux(routes...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// whoami answers with the identity that the gate gives.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	id, ok := From(r.Context())
	_ = json.NewEncoder(w).Encode(map[string]any{"identity": id, "ok": ok})
})

// surface has a route for every role, by two methods, and a public one.
func surface() []Route {
	var out []Route
	for r := Viewer; r <= Admin; r++ {
		out = append(out,
			Route{Method: http.MethodGet, Pattern: "/api/" + r.String(), Role: r, Handler: whoami},
			Route{Method: http.MethodPost, Pattern: "/api/" + r.String(), Role: r, Handler: whoami},
		)
	}
	return append(out,
		Route{Method: http.MethodGet, Pattern: "/page", Role: Viewer, Handler: whoami},
		Route{Method: http.MethodPost, Pattern: "/page", Role: Viewer, Handler: whoami},
		Route{Method: http.MethodGet, Pattern: "/healthz", Handler: whoami, Public: true, Why: "probes have no identity"},
		Route{Method: http.MethodPost, Pattern: "/webhooks/alertmanager", Handler: whoami, Public: true, Why: "it checks its own secret", PerMinute: 6000},
	)
}

// ask sends a request as a client of another machine would, headers in pairs.
func ask(t *testing.T, h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return send(h, request(method, target, "", headers...))
}

func request(method, target, body string, headers ...string) *http.Request {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, rd)
	r.Host = "gumshoe.example.com"
	for i := 0; i+1 < len(headers); i += 2 {
		switch headers[i] {
		case "Host":
			r.Host = headers[i+1]
		case "remote":
			r.RemoteAddr = headers[i+1]
		default:
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	return r
}

func send(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// problem reads the body of a refusal.
func problem(t *testing.T, w *httptest.ResponseRecorder) ProblemDetail {
	t.Helper()
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d with a body that is no problem: %v\n%s", w.Code, err, w.Body)
	}
	if p.Error.Code == "" || p.Error.Message == "" {
		t.Fatalf("a problem without code or message: %s", w.Body)
	}
	return p.Error
}

// identity reads what whoami wrote.
func identity(t *testing.T, w *httptest.ResponseRecorder) Identity {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var out struct {
		Identity Identity `json:"identity"`
		OK       bool     `json:"ok"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || !out.OK {
		t.Fatalf("no identity (%v): %s", err, w.Body)
	}
	return out.Identity
}

// cluster reviews tokens as a cluster does: it knows some.
type cluster struct {
	mu    sync.Mutex
	known map[string]incident.Person
	down  error
	asked int
	aud   []string
}

var _ TokenReviewer = (*cluster)(nil)

func (c *cluster) Review(_ context.Context, token string, audiences []string) (incident.Person, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.aud = audiences
	if c.down != nil {
		return incident.Person{}, false, c.down
	}
	p, ok := c.known[token]
	return p, ok, nil
}

// tokenOf is a static token that is long enough.
func tokenOf(name string) string { return name + "-0123456789abcdef0123456789abcdef" }

// crew is a configuration with one static token for each role, and one without.
func crew(t *testing.T, c *clock) Config {
	t.Helper()
	cfg := Config{Now: c.now}
	for r := None; r <= Admin; r++ {
		cfg.Tokens = append(cfg.Tokens, TokenConfig{Name: r.String() + "-person", Groups: []string{"crew", r.String() + "s"}, File: write(t, "token", tokenOf(r.String())+"\n")})
	}
	cfg.Roles = RolesConfig{
		Viewer: Members{Users: []string{"viewer-person"}}, Asker: Members{Groups: []string{"askers"}},
		Approver: Members{Groups: []string{"approvers"}}, Admin: Members{Users: []string{"admin-person"}},
	}
	return cfg
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func overwrite(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeFile(file, text string) error { return os.WriteFile(file, []byte(text), 0o600) }

// keyed verifies signatures with one secret, for tests of what follows.
type keyed []byte

func (k keyed) VerifySignature(_ context.Context, raw string) ([]byte, error) {
	s, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return nil, err
	}
	return s.Verify([]byte(k))
}

// unchecked reads a token whose signature alone was checked.
func unchecked(raw string, key []byte) (*oidc.IDToken, error) {
	return oidc.NewVerifier("", keyed(key), &oidc.Config{SkipClientIDCheck: true, SkipExpiryCheck: true, SkipIssuerCheck: true, SupportedSigningAlgs: []string{"HS256"}}).Verify(context.Background(), raw)
}
