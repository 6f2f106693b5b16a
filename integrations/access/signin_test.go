package access

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
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
