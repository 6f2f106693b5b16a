package access

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
)

// Paths of the sign-in.
const (
	loginPath    = "/auth/login"
	callbackPath = "/auth/callback"
	tokenPath    = "/auth/token"
	logoutPath   = "/auth/logout"

	// resourcePath is where RFC 9728 has the metadata of a protected resource.
	resourcePath = "/.well-known/oauth-protected-resource"

	maxTokenForm = 64 << 10
	maxReturn    = 2048
)

// Routes are the sign-in by browser: at the provider where server.auth.oidc.redirectURL
// is given, else by a pasted token. There are none on a server without authentication.
//
//	GET  /auth/login?return=PATH  begins a sign-in and leads back to PATH
//	GET  /auth/callback           where the provider sends people back to
//	POST /auth/token              form fields token and return
//	POST /auth/logout             ends the session
//
// With the provider's sign-in, /.well-known/oauth-protected-resource says to programs
// whose tokens are asked for (RFC 9728).
func (g *Gate) Routes() []Route {
	if !g.cfg.Authenticated() {
		return nil
	}
	out := []Route{
		{Method: http.MethodGet, Pattern: loginPath, Handler: http.HandlerFunc(g.login), Public: true, Why: "it is how people sign in"},
		{Method: http.MethodPost, Pattern: logoutPath, Handler: http.HandlerFunc(g.logout), Public: true, Why: "it only ends the session that the request carries"},
	}
	if g.atProvider() {
		return append(out,
			Route{Method: http.MethodGet, Pattern: callbackPath, Handler: http.HandlerFunc(g.callback), Public: true, Why: "it is how people come back from the provider"},
			Route{Method: http.MethodGet, Pattern: resourcePath, Handler: http.HandlerFunc(g.resource), Public: true, Why: "it says to programs where they get a token"},
		)
	}
	return append(out, Route{Method: http.MethodPost, Pattern: tokenPath, Handler: http.HandlerFunc(g.pasted), Public: true, Why: "it is how people sign in", MaxBody: maxTokenForm})
}

// atProvider says whether people sign in at the provider.
func (g *Gate) atProvider() bool { return g.oidc != nil && g.cfg.OIDC.RedirectURL != "" }

// publicURL is the server's own address, as the configuration says it; "" where it
// does not. What a request calls the server is not believed.
func (g *Gate) publicURL() string {
	if !g.atProvider() {
		return ""
	}
	return strings.TrimSuffix(g.cfg.OIDC.RedirectURL, callbackPath)
}

// resource says whose tokens the server asks for.
func (g *Gate) resource(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"resource": g.publicURL(), "resource_name": "gumshoe", "authorization_servers": []string{g.cfg.OIDC.Issuer}, "bearer_methods_supported": []string{"header"},
	})
}

// refresh leads a browser that was refused to the sign-in and back again.
func refresh(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, "/auth/") {
		return ""
	}
	to := loginPath + "?return=" + url.QueryEscape(localPath(r.URL.RequestURI()))
	return `<meta http-equiv="refresh" content="0; url=` + html.EscapeString(to) + `">`
}

// localPath gives a path of this server, "/" for whatever leads elsewhere.
func localPath(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.IsAbs() || u.Host != "" || len(raw) > maxReturn || !strings.HasPrefix(raw, "/") || strings.HasPrefix(raw, "/auth/") {
		return "/"
	}
	// Browsers take a backslash for a slash, and drop control characters.
	if strings.HasPrefix(raw, "//") || strings.ContainsFunc(raw, func(c rune) bool { return c == '\\' || c < ' ' || c == 0x7f }) {
		return "/"
	}
	return raw
}

// login begins a sign-in.
func (g *Gate) login(w http.ResponseWriter, r *http.Request) {
	back := localPath(r.URL.Query().Get("return"))
	if !g.atProvider() {
		writePage(w, http.StatusOK, "Sign in", "", fmt.Sprintf("<h1>Sign in</h1>\n<form method=post action=%s>\n<input type=hidden name=return value=\"%s\">\n"+
			"<label>Token<input type=password name=token autocomplete=off required autofocus></label>\n<button>Sign in</button>\n</form>\n<p>%s</p>\n",
			tokenPath, html.EscapeString(back), html.EscapeString(g.tokenHint())))
		return
	}
	l := login{State: g.newID(), Nonce: g.newID(), Verifier: oauth2.GenerateVerifier(), Return: back, Expires: g.now().Add(loginTTL)}
	to, err := g.oidc.begin(r.Context(), l)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	sealed, err := g.sessions.seal(loginCookie, l)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	secure := g.secure(r)
	http.SetCookie(w, cookie(cookieName(loginCookie, secure), sealed, secure, int(loginTTL.Seconds())))
	redirect(w, to)
}

// tokenHint says where a token comes from.
func (g *Gate) tokenHint() string {
	switch {
	case g.reviews != nil && len(g.cfg.TokenReview.Audiences) > 0:
		return "A token of the cluster is printed by: kubectl create token NAME --audience " + g.cfg.TokenReview.Audiences[0]
	case g.reviews != nil:
		return "A token of the cluster is printed by: kubectl create token NAME"
	case g.oidc != nil:
		return "A token of " + g.cfg.OIDC.Issuer + ", or one that the server's configuration names."
	}
	return "The server's configuration names who has a token."
}

// redirect sends a browser on by GET.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// callback takes a person back from the provider.
func (g *Gate) callback(w http.ResponseWriter, r *http.Request) {
	secure := g.secure(r)
	name := cookieName(loginCookie, secure)
	var sealed string
	if c, err := r.Cookie(name); err == nil {
		sealed = c.Value
		http.SetCookie(w, cookie(name, "", secure, -1))
	}
	back := "/"
	who, err := g.trySignIn(r, func() (caller, error) {
		l, err := g.answered(sealed, r.URL.Query())
		if err != nil {
			return caller{}, err
		}
		back = l.Return
		return g.oidc.finish(r.Context(), l, r.URL.Query().Get("code"))
	})
	if err != nil {
		g.deny(w, r, err, None)
		return
	}
	g.signedIn(w, r, who, back)
}

// answered gives the sign-in that the provider's answer belongs to: it must have been
// begun by the same browser, and it counts once.
func (g *Gate) answered(sealed string, q url.Values) (login, error) {
	var l login
	if err := g.sessions.unseal(loginCookie, sealed, &l); err != nil || l.State == "" || subtle.ConstantTimeCompare([]byte(l.State), []byte(q.Get("state"))) != 1 {
		return login{}, signInFailed("this sign-in was not begun in this browser, or another was begun after it")
	}
	switch {
	case !g.now().Before(l.Expires):
		return login{}, signInFailed("this sign-in took too long")
	case !g.sessions.used.first(l.State, l.Expires):
		return login{}, signInFailed("this sign-in was used already")
	case q.Get("error") != "":
		return login{}, signInFailed(fmt.Sprintf("the provider did not sign you in: %.100q", q.Get("error")))
	case q.Get("code") == "":
		return login{}, signInFailed("the provider sent no code")
	}
	return l, nil
}

func signInFailed(user string) error {
	return unauthorized("sign_in_failed", user, "sign in again at "+loginPath)
}

// pasted signs in with a token that a person put into the form.
func (g *Gate) pasted(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); !ok {
			err = &Error{Status: http.StatusBadRequest, User: "the form cannot be read", Err: err}
		}
		WriteError(w, r, err)
		return
	}
	token, err := cleanToken(r.PostForm.Get("token"))
	if err != nil {
		g.deny(w, r, err, None)
		return
	}
	who, err := g.check(r, token)
	if err != nil {
		g.deny(w, r, err, None)
		return
	}
	g.signedIn(w, r, who, localPath(r.PostForm.Get("return")))
}

func (g *Gate) signedIn(w http.ResponseWriter, r *http.Request, who caller, back string) {
	callOf(r.Context()).person = who.person
	if err := g.sessions.start(w, r, who, g.secure(r)); err != nil {
		g.deny(w, r, err, None)
		return
	}
	redirect(w, back)
}

// logout ends the session. It answers with a page and not with the sign-in, which at
// a provider would let the person right in again.
func (g *Gate) logout(w http.ResponseWriter, r *http.Request) {
	if err := g.sessions.end(r.Context(), w, r, g.secure(r)); err != nil {
		WriteError(w, r, err)
		return
	}
	writePage(w, http.StatusOK, "Signed out", "", "<h1>Signed out</h1>\n<p><a href=\""+loginPath+"\">Sign in again</a></p>\n")
}
