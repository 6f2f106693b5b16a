package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

func TestRoles(t *testing.T) {
	t.Parallel()
	for r := None; r <= Admin; r++ {
		got, err := ParseRole(r.String())
		if err != nil || got != r {
			t.Errorf("ParseRole(%q) = %v, %v", r.String(), got, err)
		}
	}
	if _, err := ParseRole("Root"); err == nil || !strings.Contains(err.Error(), "approver") {
		t.Errorf("an unknown role: %v", err)
	}
	if got := Role(9).String(); got != "Role(9)" {
		t.Errorf("Role(9) is %q", got)
	}
	if _, ok := From(t.Context()); ok {
		t.Error("a context without a request has an identity")
	}
	want := Identity{Person: incident.Person{Name: "ann"}, Role: Asker}
	if got, ok := From(With(t.Context(), want)); !ok || got.Person.Name != "ann" || got.Role != Asker {
		t.Errorf("From(With) = %+v, %v", got, ok)
	}
}

// TestEveryRouteAsksForItsRole is the table over all roles, routes and methods.
func TestEveryRouteAsksForItsRole(t *testing.T) {
	t.Parallel()
	g := newGate(t, crew(t, newClock()))
	routes := slices.Concat(surface(), g.Routes())
	h := mux(t, g, routes)
	for _, route := range routes {
		t.Run(route.pattern(), func(t *testing.T) {
			t.Parallel()
			w := ask(t, h, route.Method, route.Pattern, "Accept", "application/json")
			if route.Public {
				if w.Code == http.StatusForbidden || w.Code == http.StatusNotFound {
					t.Fatalf("a public route answers %d", w.Code)
				}
				return
			}
			if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != `Bearer realm="gumshoe"` {
				t.Fatalf("without credentials: %d, WWW-Authenticate %q", w.Code, w.Header().Get("WWW-Authenticate"))
			}
			problem(t, w)
			for r := None; r <= Admin; r++ {
				w := ask(t, h, route.Method, route.Pattern, "Accept", "application/json", "Authorization", "Bearer "+tokenOf(r.String()))
				if r < route.Role {
					p := problem(t, w)
					if w.Code != http.StatusForbidden || !strings.Contains(p.Message, "needs "+route.Role.String()) || !strings.Contains(p.Message, r.String()+"-person") || !strings.Contains(p.Message, "crew") {
						t.Errorf("%s: %d %+v", r, w.Code, p)
					}
					continue
				}
				id := identity(t, w)
				if id.Role != r || id.Local || id.Person.Name != r.String()+"-person" || id.Person.Proof != proofToken {
					t.Errorf("%s entered as %+v", r, id)
				}
			}
		})
	}
}

func TestMuxRefusesRoutesThatAreNotWhole(t *testing.T) {
	t.Parallel()
	g := newGate(t, Config{})
	ok := Route{Method: http.MethodGet, Pattern: "/a", Role: Viewer, Handler: whoami}
	with := func(change func(*Route)) Route {
		r := ok
		change(&r)
		return r
	}
	for name, tc := range map[string]struct {
		routes [][]Route
		want   string
	}{
		"no handler":         {[][]Route{{with(func(r *Route) { r.Handler = nil })}}, "no handler"},
		"method in pattern":  {[][]Route{{with(func(r *Route) { r.Pattern = "GET /a" })}}, "begins with /"},
		"host in pattern":    {[][]Route{{with(func(r *Route) { r.Pattern = "example.com/a" })}}, "begins with /"},
		"small method":       {[][]Route{{with(func(r *Route) { r.Method = "get" })}}, "capitals"},
		"no role":            {[][]Route{{with(func(r *Route) { r.Role = None })}}, "names no role"},
		"unknown role":       {[][]Route{{with(func(r *Route) { r.Role = Admin + 1 })}}, "names no role"},
		"public without why": {[][]Route{{with(func(r *Route) { r.Role, r.Public = None, true })}}, "does not say why"},
		"public with role":   {[][]Route{{with(func(r *Route) { r.Public, r.Why = true, "x" })}}, "one or the other"},
		"negative body":      {[][]Route{{with(func(r *Route) { r.MaxBody = -1 })}}, "negative"},
		"twice":              {[][]Route{{ok}, {ok}}, "given twice"},
		"twice, other name":  {[][]Route{{with(func(r *Route) { r.Pattern = "/{x}" }), with(func(r *Route) { r.Pattern = "/{y}" })}}, "conflicts"},
		"broken pattern":     {[][]Route{{with(func(r *Route) { r.Pattern = "/{x" })}}, "route"},
	} {
		if _, err := g.Mux(tc.routes...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if _, err := g.Mux([]Route{ok}, nil, []Route{with(func(r *Route) { r.Pattern = "/b" })}); err != nil {
		t.Error(err)
	}
}

func TestLoopbackWithoutConfiguration(t *testing.T) {
	t.Parallel()
	g := newGate(t, Config{AllowedOrigins: []string{"http://portal.example.com"}})
	if g.Routes() != nil {
		t.Error("a server without authentication offers a sign-in")
	}
	h := mux(t, g, surface())
	const here, name = "127.0.0.1:4711", "localhost:8080"
	for what, tc := range map[string]struct {
		method  string
		headers []string
		want    int
	}{
		"curl":                           {"GET", []string{"remote", here, "Host", name}, 200},
		"by address":                     {"GET", []string{"remote", here, "Host", "127.0.0.1:8080"}, 200},
		"by IPv6":                        {"GET", []string{"remote", "[::1]:4711", "Host", "[::1]:8080"}, 200},
		"mapped address":                 {"POST", []string{"remote", "[::ffff:127.0.0.1]:4711", "Host", name}, 200},
		"name in capitals":               {"GET", []string{"remote", here, "Host", "LocalHost"}, 200},
		"post without origin":            {"POST", []string{"remote", here, "Host", name}, 200},
		"own page":                       {"POST", []string{"remote", here, "Host", name, "Origin", "http://localhost:8080", "Sec-Fetch-Site", "same-origin"}, 200},
		"allowed page":                   {"POST", []string{"remote", here, "Host", name, "Origin", "http://portal.example.com", "Sec-Fetch-Site", "cross-site"}, 200},
		"a link":                         {"GET", []string{"remote", here, "Host", name, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		"other machine":                  {"GET", []string{"remote", "10.1.2.3:4711", "Host", name}, 403},
		"no address":                     {"GET", []string{"remote", "@", "Host", name}, 403},
		"rebound name":                   {"GET", []string{"remote", here, "Host", "evil.example.com:8080"}, 403},
		"rebound name like ours":         {"GET", []string{"remote", here, "Host", "localhost.evil.example.com"}, 403},
		"no name":                        {"GET", []string{"remote", here, "Host", ""}, 403},
		"a proxy":                        {"GET", []string{"remote", here, "Host", name, "X-Forwarded-For", "10.1.2.3"}, 403},
		"foreign page reads":             {"GET", []string{"remote", here, "Host", name, "Origin", "http://evil.example.com"}, 403},
		"foreign page posts":             {"POST", []string{"remote", here, "Host", name, "Origin", "http://evil.example.com"}, 403},
		"page of another port":           {"GET", []string{"remote", here, "Host", name, "Origin", "http://localhost:3000"}, 403},
		"page of another scheme":         {"POST", []string{"remote", here, "Host", name, "Origin", "https://localhost:8080"}, 403},
		"page without origin":            {"POST", []string{"remote", here, "Host", name, "Origin", "null"}, 403},
		"two origins":                    {"GET", []string{"remote", here, "Host", name, "Origin", "http://localhost:8080", "Origin", "http://evil.example.com"}, 403},
		"foreign image":                  {"GET", []string{"remote", here, "Host", name, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 403},
		"foreign frame":                  {"GET", []string{"remote", here, "Host", name, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		"foreign form":                   {"POST", []string{"remote", here, "Host", name, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 403},
		"same site, another port":        {"POST", []string{"remote", here, "Host", name, "Sec-Fetch-Site", "same-site"}, 403},
		"bearer does not help a foreign": {"POST", []string{"remote", here, "Host", name, "Origin", "http://evil.example.com", "Authorization", "Bearer " + tokenOf("admin")}, 403},
	} {
		w := ask(t, h, tc.method, "/api/admin", append(tc.headers, "Accept", "application/json")...)
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d: %s", what, w.Code, tc.want, w.Body)
			continue
		}
		if tc.want == http.StatusOK {
			if id := identity(t, w); !id.Local || id.Role != Admin || id.Person.Name != "" {
				t.Errorf("%s: %+v", what, id)
			}
		}
	}
	// The check is before every route, public ones and none too.
	for _, path := range []string{"/healthz", "/nowhere"} {
		if w := ask(t, h, "GET", path, "remote", here, "Host", "evil.example.com"); w.Code != http.StatusForbidden {
			t.Errorf("%s by a rebound name: %d", path, w.Code)
		}
	}
}

func TestCredentialsOfAnUnknownKind(t *testing.T) {
	t.Parallel()
	g := newGate(t, crew(t, newClock()))
	h := mux(t, g, surface())
	for what, headers := range map[string][]string{
		"basic":         {"Authorization", "Basic YWRtaW46YWRtaW4="},
		"empty":         {"Authorization", ""},
		"other scheme":  {"Authorization", "Token " + tokenOf("admin")},
		"empty bearer":  {"Authorization", "Bearer "},
		"unknown token": {"Authorization", "Bearer " + tokenOf("nobody")},
		"two headers":   {"Authorization", "Bearer " + tokenOf("admin"), "Authorization", "Bearer " + tokenOf("admin")},
		"control":       {"Authorization", "Bearer a\x00b"},
		"two words":     {"Authorization", "Bearer " + tokenOf("admin") + " " + tokenOf("admin")},
		"prefix":        {"Authorization", "Bearer " + tokenOf("admin")[:20]},
		"too long":      {"Authorization", "Bearer " + strings.Repeat("a", maxToken+1)},
		"query":         {},
		"cookie":        {"Cookie", "gumshoe_session=" + tokenOf("admin")},
	} {
		w := ask(t, h, "GET", "/api/viewer?access_token="+tokenOf("admin"), append(headers, "Accept", "application/json", "remote", "192.0.2."+fmt.Sprint(len(what))+":1")...)
		if w.Code != http.StatusUnauthorized || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: %d %q", what, w.Code, w.Header().Get("WWW-Authenticate"))
			continue
		}
		problem(t, w)
	}
	if w := ask(t, h, "GET", "/api/viewer", "Authorization", "bearer "+tokenOf("viewer")); w.Code != http.StatusOK {
		t.Errorf("the scheme in small letters: %d", w.Code)
	}
}

func TestErrorsAreSentences(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err    error
		status int
		code   string
		has    string
	}{
		{tool.Errorf(tool.NotFound, "no pod %s", "a"), 404, "not_found", "no pod a"},
		{fmt.Errorf("look: %w", &tool.Error{Kind: tool.Forbidden, User: "may not list pods", Fix: "grant list"}), 403, "forbidden", "may not list pods"},
		{tool.Errorf(tool.Invalid, "bad"), 400, "invalid_input", "bad"},
		{tool.Errorf(tool.Unreachable, "down"), 502, "unreachable", "down"},
		{tool.Errorf(tool.TimedOut, "slow"), 504, "timeout", "slow"},
		{tool.Errorf(tool.NotServed, "no DRA"), 501, "not_served", "no DRA"},
		{tool.Errorf(tool.Internal, "secret detail"), 500, "internal", "the server failed"},
		{errors.New("secret detail"), 500, "internal", "the server failed"},
		{context.DeadlineExceeded, 504, "timeout", "longer"},
		{&http.MaxBytesError{Limit: 7}, 413, "too_large", "7 bytes"},
		{fmt.Errorf("x: %w", &Error{Status: 409, User: "approved already"}), 409, "conflict", "approved already"},
		{&Error{Status: 200, User: "odd"}, 500, "internal_server_error", "odd"},
	} {
		w := send(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { WriteError(w, r, tc.err) }), request("GET", "/api/x", ""))
		p := problem(t, w)
		if w.Code != tc.status || p.Code != tc.code || !strings.Contains(p.Message, tc.has) || strings.Contains(w.Body.String(), "secret detail") {
			t.Errorf("%v: %d %+v", tc.err, w.Code, p)
		}
	}
	page := send(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteError(w, r, &Error{Status: 409, User: `plan <script>alert("x")</script> is gone`, Fix: "ask again", RetryAfter: 1500 * time.Millisecond})
	}), request("GET", "/plans/1", "", "Accept", "text/html,application/xhtml+xml"))
	body := page.Body.String()
	if page.Header().Get("Content-Type") != "text/html; charset=utf-8" || strings.Contains(body, "<script>") || !strings.Contains(body, "Plan &lt;script&gt;") || !strings.Contains(body, "Ask again.") || page.Header().Get("Retry-After") != "2" {
		t.Errorf("page %v\n%s", page.Header(), body)
	}
}

func TestWhoGetsAPage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path, accept string
		page         bool
	}{
		{"/investigations", "text/html", true}, {"/investigations", "", true}, {"/investigations", "*/*", true},
		{"/investigations", "application/json", false}, {"/investigations", "text/event-stream", false},
		{"/api/v1/investigations", "text/html", false}, {"/mcp", "text/html", false}, {"/webhooks/alertmanager", "", false},
		{"/investigations", "text/html, application/json;q=0.1", true},
	} {
		if got := wantsPage(request("GET", tc.path, "", "Accept", tc.accept)); got != tc.page {
			t.Errorf("%s, Accept %q: page %v", tc.path, tc.accept, got)
		}
	}
}

func TestBodiesPanicsAndHeaders(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	g := newGate(t, Config{Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), NewID: func() string { return "id-1" }})
	reads := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			WriteError(w, r, fmt.Errorf("reading: %w", err))
			return
		}
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		w.WriteHeader(http.StatusCreated)
	})
	h := mux(t, g, []Route{
		{Method: "POST", Pattern: "/api/small", Role: Viewer, Handler: reads, MaxBody: 4},
		{Method: "POST", Pattern: "/api/stream", Role: Viewer, Handler: reads, MaxBody: 4, Stream: true},
		{Method: "POST", Pattern: "/api/usual", Role: Viewer, Handler: reads},
		{Method: "POST", Pattern: "/api/blind", Role: Viewer, Handler: whoami, MaxBody: 4},
		{Method: "GET", Pattern: "/api/panic", Role: Viewer, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })},
	})
	local := []string{"remote", "127.0.0.1:1", "Host", "localhost"}
	for path, big := range map[string]string{"/api/small": "12345", "/api/stream": "12345", "/api/usual": strings.Repeat("x", 1<<20+1)} {
		for _, declared := range []bool{true, false} {
			r := request("POST", path, big, local...)
			if !declared {
				r.ContentLength = -1
			}
			w := send(h, r)
			if p := problem(t, w); w.Code != http.StatusRequestEntityTooLarge || p.Code != "too_large" {
				t.Errorf("%s with %d bytes (declared %v): %d %+v", path, len(big), declared, w.Code, p)
			}
		}
		w := send(h, request("POST", path, "1234", local...))
		if w.Code != http.StatusCreated || w.Header().Get("Content-Security-Policy") != "default-src 'self'" {
			t.Errorf("%s with 4 bytes: %d %s", path, w.Code, w.Header().Get("Content-Security-Policy"))
		}
	}
	if w := send(h, request("POST", "/api/blind", "12345", local...)); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that nobody reads: %d", w.Code)
	}
	w := send(h, request("GET", "/api/panic", "", local...))
	if p := problem(t, w); w.Code != 500 || !strings.Contains(p.Fix, "id-1") || strings.Contains(w.Body.String(), "boom") {
		t.Errorf("panic: %d %s", w.Code, w.Body)
	}
	if log := out.String(); !strings.Contains(log, "boom") || !strings.Contains(log, "gate_test.go") || !strings.Contains(log, "id=id-1") {
		t.Errorf("the log of a panic: %s", log)
	}
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY", "X-Request-Id": "id-1", "Cache-Control": "no-store",
		"Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if w := send(h, request("PUT", "/api/small", "", local...)); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("another method: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	if w := send(h, request("GET", "/api/none", "", local...)); w.Code != http.StatusNotFound || problem(t, w).Code != "not_found" {
		t.Errorf("nowhere: %d", w.Code)
	}
}

func TestAccessLogHoldsNoToken(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var told []Denied
	cfg := crew(t, newClock())
	cfg.Log = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.OnDenied = func(_ context.Context, reason string, d Denied) {
		if reason == "" {
			t.Error("refused without a reason")
		}
		told = append(told, d)
	}
	g := newGate(t, cfg)
	h := mux(t, g, surface(), g.Routes())
	ask(t, h, "GET", "/api/viewer?token=query-secret", "Authorization", "Bearer "+tokenOf("viewer"))
	ask(t, h, "GET", "/api/admin", "Authorization", "Bearer "+tokenOf("viewer"))
	ask(t, h, "GET", "/api/admin", "Authorization", "Bearer wrong-secret-wrong-secret")
	send(h, request("POST", "/auth/token", "token="+tokenOf("asker"), "Content-Type", "application/x-www-form-urlencoded"))
	send(h, request("POST", "/auth/token", "token=form-secret-form-secret", "Content-Type", "application/x-www-form-urlencoded"))
	log := out.String()
	for _, secret := range []string{tokenOf("viewer"), tokenOf("asker"), "query-secret", "wrong-secret", "form-secret"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q:\n%s", secret, log)
		}
	}
	for _, want := range []string{`"person":"viewer-person"`, `"route":"GET /api/viewer"`, `"status":200`, `"denied":"role_missing"`, `"status":401`, `"remote":"192.0.2.1"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	if len(told) != 3 || told[0].Status != 403 || told[0].Needs != Admin || told[0].Person.Name != "viewer-person" || told[1].Status != 401 || told[1].Remote != "192.0.2.1" || told[2].Path != "/auth/token" {
		t.Errorf("the audit hook was told %+v", told)
	}
}
