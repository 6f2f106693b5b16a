package web_test

import (
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/html"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/web"
)

func TestMain(m *testing.M) {
	// klog's flush daemon belongs to client-go and lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// tokens of the people of the tests, by name.
func token(name string) string { return name + "-0123456789-0123456789" }

// house is a server with the pages over the real service, on a recorded cluster that
// reacts to what is written.
type house struct {
	t   *testing.T
	svc *app.Service
	srv *httptest.Server
	// keep is the store that the service works on.
	keep *app.Keeper
}

// stage starts a server on a case; svc may be changed before it is shown.
func stage(t *testing.T, id string, wrap func(*app.Service) web.Service) *house {
	t.Helper()
	staged := apptest.Stage(t, id)
	svc := staged.Work(t)
	shown := web.Service(svc)
	if wrap != nil {
		shown = wrap(svc)
	}
	return &house{t: t, svc: svc, srv: serve(t, shown), keep: staged.Keep}
}

// people of the tests: vic looks, ann asks, bob and cal approve, root does everything.
func people(t *testing.T) []access.TokenConfig {
	t.Helper()
	var out []access.TokenConfig
	for name, role := range map[string]string{"vic": "viewer", "ann": "asker", "bob": "approver", "cal": "approver", "root": "admin"} {
		out = append(out, access.TokenConfig{Name: name, Groups: []string{"sre"}, Role: role, File: secret(t, token(name))})
	}
	return out
}

// secret keeps a text in a file of its own.
func secret(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// gate lets the people of the tests in.
func gate(t *testing.T) *access.Gate {
	t.Helper()
	g, err := access.New(access.Config{Tokens: people(t)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// serve puts the pages of a service behind the gate, on loopback.
func serve(t *testing.T, svc web.Service) *httptest.Server {
	t.Helper()
	return serveWith(t, svc, web.Config{})
}

func serveWith(t *testing.T, svc web.Service, cfg web.Config) *httptest.Server {
	t.Helper()
	w, err := web.New(web.Options{Config: cfg, Service: svc, Now: time.Now, NewKey: rand.Text, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	g := gate(t)
	h, err := g.Mux(g.Routes(), w.Routes())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// answer is what a request came to.
type answer struct {
	t      *testing.T
	status int
	head   http.Header
	body   string
}

// as sends a request as one of the people; a form makes it a POST. Redirections are
// not followed.
func (h *house) as(name, path string, form url.Values) answer {
	h.t.Helper()
	return call(h.t, h.srv, name, path, form)
}

func call(t *testing.T, srv *httptest.Server, name, path string, form url.Values) answer {
	t.Helper()
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if name != "" {
		req.Header.Set("Authorization", "Bearer "+token(name))
	}
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{t, res.StatusCode, res.Header, string(raw)}
	if strings.HasPrefix(a.head.Get("Content-Type"), "text/html") && strings.Contains(a.head.Get("Content-Security-Policy"), "script-src") {
		if why := malformed(a.body); why != "" {
			t.Errorf("%s: %s", path, why)
		}
	}
	return a
}

// is checks the status and that the page says all of some texts.
func (a answer) is(status int, says ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, not %d: %s", a.status, status, clipped(a.text()))
	}
	text := a.text()
	for _, s := range says {
		if !strings.Contains(text, s) {
			a.t.Fatalf("the page does not say %q: %s", s, clipped(text))
		}
	}
	return a
}

func clipped(s string) string { return s[:min(len(s), 3000)] }

// to is where a redirection leads, without its note.
func (a answer) to() string {
	a.t.Helper()
	a.is(http.StatusSeeOther)
	path, _, _ := strings.Cut(a.head.Get("Location"), "?")
	return path
}

// doc parses the page.
func (a answer) doc() *html.Node {
	a.t.Helper()
	n, err := html.Parse(strings.NewReader(a.body))
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

// text is what a person reads, with single spaces.
func (a answer) text() string {
	if a.body == "" {
		return ""
	}
	var b strings.Builder
	for n := range a.doc().Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "script" && n.Parent.Data != "style" {
			b.WriteString(n.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// field gives the value of the first field of that name.
func (a answer) field(name string) string {
	a.t.Helper()
	for n := range a.doc().Descendants() {
		if attr(n, "name") == name {
			return attr(n, "value")
		}
	}
	a.t.Fatalf("the page has no field %s: %s", name, clipped(a.body))
	return ""
}

func attr(n *html.Node, key string) string {
	for _, x := range n.Attr {
		if x.Key == key {
			return x.Val
		}
	}
	return ""
}

// asked puts a question and waits until it is answered.
func (h *house) asked(q incident.Question) (session.Session, session.Turn) {
	h.t.Helper()
	s, turn, err := h.svc.Ask(h.t.Context(), session.Ask{Question: q, By: incident.Person{Name: "ann", Groups: []string{"sre"}, Surface: session.Web}, Source: session.Web})
	if err != nil {
		h.t.Fatal(err)
	}
	return h.ended(s.ID, turn.ID)
}

// ended waits for the end of a question.
func (h *house) ended(id, turn string) (session.Session, session.Turn) {
	h.t.Helper()
	for n, err := range h.svc.Follow(h.t.Context(), nil) {
		if err != nil {
			h.t.Fatal(err)
		}
		if n.Session != id || n.Type != session.TypeEnded {
			continue
		}
		s, err := h.svc.Session(h.t.Context(), id)
		if err != nil {
			h.t.Fatal(err)
		}
		if got, _ := s.Turn(turn); got.State.Ended() {
			return s, got
		}
	}
	h.t.Fatal("the question was never answered")
	return session.Session{}, session.Turn{}
}
