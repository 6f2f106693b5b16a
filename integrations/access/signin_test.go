package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// browser keeps cookies and follows redirects, like the program of that name.
type browser struct {
	*http.Client
	at string
}

// open serves the gate that make gives for an address, and gives a browser for it.
func open(t *testing.T, make func(address string) *Gate) *browser {
	t.Helper()
	var h http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	g := make(srv.URL)
	h = mux(t, g, surface(), g.Routes())
	return newBrowser(t, srv.URL)
}

func newBrowser(t *testing.T, at string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &browser{Client: &http.Client{Jar: jar, Transport: tr}, at: at}
}

func (b *browser) do(t *testing.T, method, target string, form url.Values, headers ...string) (*http.Response, string) {
	t.Helper()
	if strings.HasPrefix(target, "/") {
		target = b.at + target
	}
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.at)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// cookies are those that the browser would send.
func (b *browser) cookies(t *testing.T) []*http.Cookie {
	t.Helper()
	u, err := url.Parse(b.at)
	if err != nil {
		t.Fatal(err)
	}
	return b.Jar.Cookies(u)
}

func withProvider(t *testing.T, p *idp) *browser {
	return open(t, func(address string) *Gate {
		cfg := p.config(t)
		cfg.OIDC.RedirectURL = address + callbackPath
		return newGate(t, cfg)
	})
}

func TestSignInAtTheProvider(t *testing.T) {
	t.Parallel()
	c := newClock()
	p := newIDP(t, c)
	b := withProvider(t, p)

	resp, body := b.do(t, "GET", "/page?x=1&y=2", nil)
	link := regexp.MustCompile(`url=([^"]+)"`).FindStringSubmatch(body)
	if resp.StatusCode != http.StatusUnauthorized || link == nil {
		t.Fatalf("without a sign-in: %d\n%s", resp.StatusCode, body)
	}
	resp, body = b.do(t, "GET", strings.ReplaceAll(link[1], "&amp;", "&"), nil)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "ann@example.com") || resp.Request.URL.RequestURI() != "/page?x=1&y=2" {
		t.Fatalf("after the sign-in: %d at %s\n%s", resp.StatusCode, resp.Request.URL, body)
	}
	if cs := b.cookies(t); len(cs) != 1 || cs[0].Name != sessionCookie || strings.Contains(cs[0].Value, "ann") {
		t.Errorf("cookies %v", cs)
	}
	stolen := b.cookies(t)[0].Value

	// A form of ours may post, one of another site may not, and roles still count.
	for _, tc := range []struct {
		path   string
		origin string
		site   string
		want   int
	}{
		{"/page", b.at, "same-origin", 200}, {"/page", b.at, "", 200}, {"/api/approver", b.at, "same-origin", 403},
		{"/page", "https://evil.example.com", "cross-site", 403}, {"/page", "https://evil.example.com", "", 403}, {"/page", "null", "", 403},
		{"/page", "https://other.example.com", "same-site", 403}, {"/auth/logout", "https://evil.example.com", "cross-site", 403},
	} {
		if resp, body := b.do(t, "POST", tc.path, url.Values{}, "Origin", tc.origin, "Sec-Fetch-Site", tc.site); resp.StatusCode != tc.want {
			t.Errorf("POST %s from %s (%s): %d %s", tc.path, tc.origin, tc.site, resp.StatusCode, body)
		}
	}

	resp, body = b.do(t, "POST", "/auth/logout", url.Values{})
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "Signed out") || len(b.cookies(t)) != 0 {
		t.Fatalf("signing out: %d, cookies %v\n%s", resp.StatusCode, b.cookies(t), body)
	}
	if resp, body := b.do(t, "GET", "/api/viewer", nil, "Cookie", sessionCookie+"="+stolen); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "was ended") {
		t.Errorf("the session after signing out: %d %s", resp.StatusCode, body)
	}
}

func TestSignInsThatAreNotOurs(t *testing.T) {
	t.Parallel()
	c := newClock()
	p := newIDP(t, c)
	// begin starts a sign-in and gives the address that the provider leads back to.
	begin := func(t *testing.T, b *browser) string {
		t.Helper()
		b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			if r.URL.Path == callbackPath {
				return http.ErrUseLastResponse
			}
			return nil
		}
		resp, body := b.do(t, "GET", loginPath+"?return=/page", nil)
		back := resp.Header.Get("Location")
		if !strings.Contains(back, callbackPath) {
			t.Fatalf("no way back: %d %s", resp.StatusCode, body)
		}
		return back
	}
	refused := func(t *testing.T, b *browser, target, says string, headers ...string) {
		t.Helper()
		resp, body := b.do(t, "GET", target, nil, headers...)
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, says) || strings.Contains(body, "http-equiv") {
			t.Errorf("%d, want a refusal that says %q and leads nowhere:\n%s", resp.StatusCode, says, body)
		}
		for _, c := range b.cookies(t) {
			if c.Name == sessionCookie {
				t.Error("it left a session")
			}
		}
	}
	t.Run("replayed", func(t *testing.T) {
		b := withProvider(t, p)
		back := begin(t, b)
		var kept string
		for _, c := range b.cookies(t) {
			kept += c.String()
		}
		if resp, _ := b.do(t, "GET", back, nil); resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/page" {
			t.Fatalf("the first time: %d at %s", resp.StatusCode, resp.Request.URL)
		}
		fresh := newBrowser(t, b.at)
		refused(t, fresh, back, "not begun in this browser")
		refused(t, fresh, back, "used already", "Cookie", kept)
	})
	t.Run("another browser's", func(t *testing.T) {
		b := withProvider(t, p)
		back := begin(t, b)
		victim := newBrowser(t, b.at)
		begin(t, victim)
		refused(t, victim, back, "not begun in this browser")
	})
	t.Run("late", func(t *testing.T) {
		late := newClock()
		slow := newIDP(t, late)
		b := withProvider(t, slow)
		back := begin(t, b)
		late.add(loginTTL)
		refused(t, b, back, "too long")
	})
	for what, tc := range map[string]struct {
		change func(map[string]any)
		says   string
	}{
		"other nonce":    {set("nonce", "x"), "another sign-in"},
		"no nonce":       {set("nonce", nil), "another sign-in"},
		"other party":    {set("azp", "grafana"), "another client"},
		"other audience": {set("aud", "grafana"), "did not make"},
		"expired":        {set("exp", 1), "expired"},
	} {
		t.Run(what, func(t *testing.T) {
			q := newIDP(t, c)
			q.set(func(q *idp) { q.change = tc.change })
			b := withProvider(t, q)
			says := tc.says
			if says == "did not make" {
				says = "made for this server"
			}
			refused(t, b, begin(t, b), says)
		})
	}
	t.Run("the provider refuses", func(t *testing.T) {
		q := newIDP(t, c)
		q.set(func(q *idp) { q.refuse = "access_denied<b>" })
		b := withProvider(t, q)
		refused(t, b, begin(t, b), "access_denied&lt;b&gt;")
	})
	t.Run("the provider does not know us", func(t *testing.T) {
		q := newIDP(t, c)
		b := withProvider(t, q)
		q.set(func(q *idp) { q.secret = "another" })
		refused(t, b, begin(t, b), "did not accept")
	})
	t.Run("no code", func(t *testing.T) {
		b := withProvider(t, p)
		u, err := url.Parse(begin(t, b))
		if err != nil {
			t.Fatal(err)
		}
		refused(t, b, callbackPath+"?state="+u.Query().Get("state"), "no code")
	})
	t.Run("nothing at all", func(t *testing.T) { refused(t, withProvider(t, p), callbackPath, "not begun") })
}

func TestSignInByToken(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := crew(t, c)
	b := open(t, func(string) *Gate { return newGate(t, cfg) })
	_, page := b.do(t, "GET", loginPath+`?return=/page"><script>`, nil)
	if !strings.Contains(page, "<form method=post action=/auth/token>") || strings.Contains(page, "<script>") {
		t.Fatalf("the sign-in page:\n%s", page)
	}
	if resp, body := b.do(t, "POST", tokenPath, url.Values{"token": {"nothing-of-the-kind-here"}}); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong token: %d %s", resp.StatusCode, body)
	}
	if resp, _ := b.do(t, "POST", tokenPath, url.Values{"token": {tokenOf("asker")}}, "Origin", "https://evil.example.com", "Sec-Fetch-Site", "cross-site"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign page signs a browser in: %d", resp.StatusCode)
	}
	resp, body := b.do(t, "POST", tokenPath, url.Values{"token": {" " + tokenOf("asker") + "\n"}, "return": {"/page"}})
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "asker-person") || resp.Request.URL.Path != "/page" {
		t.Fatalf("a good token: %d at %s\n%s", resp.StatusCode, resp.Request.URL, body)
	}
	// The session ends with the token that it was made with.
	for _, tok := range cfg.Tokens {
		if tok.Name == "asker-person" {
			overwrite(t, tok.File, tokenOf("another"))
		}
	}
	c.add(tokenCheck)
	if resp, body := b.do(t, "GET", "/page", nil); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "no longer valid") {
		t.Errorf("after its token was replaced: %d %s", resp.StatusCode, body)
	}
	if resp, body := b.do(t, "POST", tokenPath, url.Values{"token": {strings.Repeat("a", maxTokenForm)}}); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a huge form: %d %s", resp.StatusCode, body)
	}
}

func TestHowLongASignInLasts(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		ttl    time.Duration
		caller caller
		want   time.Duration
	}{
		"the usual":                   {0, caller{static: true}, 8 * time.Hour},
		"as configured":               {20 * time.Minute, caller{person: incident.Person{Proof: proofLogin}}, 20 * time.Minute},
		"a cluster's token":           {0, caller{person: incident.Person{Proof: proofKube}}, time.Hour},
		"a cluster's token, shorter":  {10 * time.Minute, caller{person: incident.Person{Proof: proofKube}}, 10 * time.Minute},
		"not beyond the token's end":  {0, caller{expiry: newClock().now().Add(5 * time.Minute)}, 5 * time.Minute},
		"a token that outlives it":    {0, caller{expiry: newClock().now().Add(50 * time.Hour)}, 8 * time.Hour},
		"a provider's, without bound": {0, caller{person: incident.Person{Proof: proofLogin}}, 8 * time.Hour},
	} {
		c := newClock()
		g := newGate(t, Config{Now: c.now, SessionTTL: Duration(tc.ttl), Tokens: crew(t, c).Tokens, Roles: crew(t, c).Roles})
		tc.caller.person.Name = "ann"
		w := httptest.NewRecorder()
		if err := g.sessions.start(w, request("GET", "/", ""), tc.caller, true); err != nil {
			t.Fatal(err)
		}
		set := w.Result().Cookies()
		if len(set) != 1 || set[0].Name != "__Host-gumshoe_session" || !set[0].HttpOnly || !set[0].Secure || set[0].SameSite != http.SameSiteLaxMode || set[0].Path != "/" || set[0].Domain != "" || set[0].MaxAge != int(tc.want.Seconds()) {
			t.Errorf("%s: cookie %v", what, set)
			continue
		}
		r := request("GET", "/", "")
		r.AddCookie(set[0])
		c.add(tc.want - time.Second)
		if who, err := g.sessions.open(r, true); err != nil || who.person.Name != "ann" {
			t.Errorf("%s: a second before its end: %v", what, err)
		}
		c.add(time.Second)
		if _, err := g.sessions.open(r, true); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%s: at its end: %v", what, err)
		}
		// Over plain HTTP it is another cookie: this one is not even read.
		if _, err := g.sessions.open(r, false); err == nil || !strings.Contains(err.Error(), "needs a sign-in") {
			t.Errorf("%s: over plain HTTP: %v", what, err)
		}
	}
}

func TestTamperedSessions(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := crew(t, c)
	cfg.SessionKeyFile = write(t, "keys", strings.Repeat("k", 40)+"\n")
	cfg.Rate = RateConfig{Burst: 10_000}
	g := newGate(t, cfg)
	h := mux(t, g, surface())
	w := httptest.NewRecorder()
	if err := g.sessions.start(w, request("GET", "/", ""), caller{person: incident.Person{Name: "viewer-person", Proof: proofLogin}}, false); err != nil {
		t.Fatal(err)
	}
	good := w.Result().Cookies()[0].Value
	enter := func(h http.Handler, value string) int {
		return ask(t, h, "GET", "/api/viewer", "Cookie", sessionCookie+"="+value).Code
	}
	if got := enter(h, good); got != http.StatusOK {
		t.Fatalf("the session as it was made: %d", got)
	}
	for i := range good {
		flipped := []byte(good)
		if flipped[i]++; flipped[i] > 'z' {
			flipped[i] = 'A'
		}
		if got := enter(h, string(flipped)); got != http.StatusUnauthorized {
			t.Fatalf("with character %d changed: %d", i, got)
		}
	}
	for _, cut := range []string{"", good[:len(good)-1], good[1:], good + "A", good + good} {
		if got := enter(h, cut); got != http.StatusUnauthorized {
			t.Errorf("cut to %d of %d characters: %d", len(cut), len(good), got)
		}
	}
	// What was sealed as something else is no session.
	other, err := g.sessions.seal(loginCookie, session{ID: "1", Name: "admin-person", Expires: c.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if got := enter(h, other); got != http.StatusUnauthorized {
		t.Errorf("a sealed sign-in as a session: %d", got)
	}
	// A replica with the same keys opens it, also while they are being replaced; one with others does not.
	for keys, want := range map[string]int{
		strings.Repeat("k", 40): 200, strings.Repeat("n", 40) + "\n\n" + strings.Repeat("k", 40) + "\n": 200, strings.Repeat("n", 40): 401,
	} {
		replica := cfg
		replica.SessionKeyFile = write(t, "keys", keys)
		if got := enter(mux(t, newGate(t, replica), surface()), good); got != want {
			t.Errorf("keys %.3s...: %d, want %d", keys, got, want)
		}
	}
	replica := cfg
	replica.SessionKeyFile = ""
	if got := enter(mux(t, newGate(t, replica), surface()), good); got != http.StatusUnauthorized {
		t.Errorf("a process with its own key: %d", got)
	}
}

func TestManyGroups(t *testing.T) {
	t.Parallel()
	g := newGate(t, crew(t, newClock()))
	who := caller{person: incident.Person{Name: "ann", Proof: proofLogin}}
	for i := range 200 {
		who.person.Groups = append(who.person.Groups, fmt.Sprintf("11111111-2222-3333-4444-%012d", i))
	}
	w := httptest.NewRecorder()
	if err := g.sessions.start(w, request("GET", "/", ""), who, true); err != nil {
		t.Fatal(err)
	}
	r := request("GET", "/", "")
	for _, c := range w.Result().Cookies() {
		if len(c.String()) > 4096 {
			t.Errorf("a cookie of %d bytes, which browsers drop", len(c.String()))
		}
		r.AddCookie(c)
	}
	if got, err := g.sessions.open(r, true); err != nil || len(got.person.Groups) != 200 || len(r.Cookies()) < 2 {
		t.Fatalf("%d groups out of %d cookies: %v", len(got.person.Groups), len(r.Cookies()), err)
	}
	// A shorter session takes the other parts away, and so does signing out.
	w = httptest.NewRecorder()
	if err := g.sessions.start(w, r, caller{person: incident.Person{Name: "bob"}}, true); err != nil {
		t.Fatal(err)
	}
	if set := w.Result().Cookies(); len(set) != len(r.Cookies()) || set[1].MaxAge >= 0 {
		t.Errorf("the shorter session sets %v", set)
	}
	w = httptest.NewRecorder()
	if err := g.sessions.end(t.Context(), w, r, true); err != nil {
		t.Fatal(err)
	}
	if set := w.Result().Cookies(); len(set) != len(r.Cookies()) || set[0].MaxAge >= 0 || set[1].MaxAge >= 0 {
		t.Errorf("signing out sets %v", set)
	}
	for len(who.person.Groups) < 2000 {
		who.person.Groups = append(who.person.Groups, who.person.Groups...)
	}
	if err := g.sessions.start(httptest.NewRecorder(), r, who, true); err == nil || !strings.Contains(err.Error(), "groups") {
		t.Errorf("groups past all cookies: %v", err)
	}
}

// shared is a memory of ended sessions that fails when told to.
type shared struct {
	ended
	down error
}

func (s *shared) Revoke(ctx context.Context, id string, until time.Time) error {
	if s.down != nil {
		return s.down
	}
	return s.ended.Revoke(ctx, id, until)
}

func (s *shared) Revoked(ctx context.Context, id string) (bool, error) {
	if s.down != nil {
		return false, s.down
	}
	return s.ended.Revoked(ctx, id)
}

func TestReplicasShareEndedSessions(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := crew(t, c)
	cfg.SessionKeyFile = write(t, "keys", strings.Repeat("k", 40))
	mem := &shared{ended: ended{now: c.now, until: map[string]time.Time{}}}
	cfg.Revocations = mem
	one, two := newGate(t, cfg), newGate(t, cfg)
	h := mux(t, two, surface())
	w := httptest.NewRecorder()
	if err := one.sessions.start(w, request("GET", "/", ""), caller{person: incident.Person{Name: "viewer-person", Proof: proofLogin}}, false); err != nil {
		t.Fatal(err)
	}
	cookie := w.Result().Cookies()[0].String()
	if w := ask(t, h, "GET", "/api/viewer", "Cookie", cookie); w.Code != http.StatusOK {
		t.Fatalf("at the other replica: %d %s", w.Code, w.Body)
	}
	mem.down = errors.New("store is away")
	if w := ask(t, h, "GET", "/api/viewer", "Cookie", cookie); w.Code != http.StatusServiceUnavailable {
		t.Errorf("when nobody knows whether it was ended: %d", w.Code)
	}
	signOut := mux(t, one, one.Routes())
	if w := ask(t, signOut, "POST", logoutPath, "Cookie", cookie); w.Code != http.StatusServiceUnavailable {
		t.Errorf("signing out that cannot be noted: %d", w.Code)
	}
	mem.down = nil
	if w := ask(t, signOut, "POST", logoutPath, "Cookie", cookie); w.Code != http.StatusOK {
		t.Errorf("signing out: %d", w.Code)
	}
	if w := ask(t, h, "GET", "/api/viewer", "Cookie", cookie); w.Code != http.StatusUnauthorized {
		t.Errorf("at the other replica after signing out: %d", w.Code)
	}
}

func TestEndedSessionsAreForgottenInTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	e := newEnded(c.now)
	for i := range 10 * sweepEvery {
		if !e.first(fmt.Sprint(i), c.now().Add(time.Minute)) {
			t.Fatal("a new id is not new")
		}
		c.add(time.Second)
	}
	if n := len(e.until); n > sweepEvery+60 {
		t.Errorf("%d ids are kept", n)
	}
	if e.first(fmt.Sprint(10*sweepEvery-1), c.now()) {
		t.Error("the newest was forgotten")
	}
}

func TestReturnLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "https://evil.example.com", "//evil.example.com", `/\evil.example.com`, `\\evil.example.com`, "/\t/evil.example.com", "/a\r\nLocation: x", "javascript:alert(1)", "evil", "/auth/logout", "/" + strings.Repeat("a", maxReturn), "/\x7f", "http:/x", "/%zz"} {
		if got := localPath(raw); got != "/" {
			t.Errorf("%q leads to %q", raw, got)
		}
	}
	for _, raw := range []string{"/", "/investigations/1?tab=evidence#x", "/a%20b"} {
		if got := localPath(raw); got != raw {
			t.Errorf("%q leads to %q", raw, got)
		}
	}
}

func TestProgramsFindTheProvider(t *testing.T) {
	t.Parallel()
	p := newIDP(t, newClock())
	b := withProvider(t, p)
	resp, _ := b.do(t, "GET", "/api/viewer", nil)
	at := regexp.MustCompile(`resource_metadata="([^"]+)"`).FindStringSubmatch(resp.Header.Get("WWW-Authenticate"))
	if at == nil {
		t.Fatalf("WWW-Authenticate %q", resp.Header.Get("WWW-Authenticate"))
	}
	_, body := b.do(t, "GET", at[1], nil)
	var meta struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
	}
	if err := json.Unmarshal([]byte(body), &meta); err != nil || meta.Resource != b.at || len(meta.Servers) != 1 || meta.Servers[0] != p.URL {
		t.Errorf("%v: %s", err, body)
	}
}
