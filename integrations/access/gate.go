package access

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Gate lets requests in. It is safe for concurrent use.
type Gate struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	newID   func() string
	proxies []netip.Prefix

	oidc     *provider // nil where no provider is configured
	static   *staticTokens
	reviews  *reviewCache // nil where the cluster is not asked
	sessions *sessions
	limits   *limits

	cookies *http.CrossOriginProtection // requests that a session's cookie signs
	local   *http.CrossOriginProtection // requests that nothing signs
}

// New makes a gate. It reads the files that the configuration names and fails where
// one cannot be read; the provider is asked only when somebody brings its token.
func New(cfg Config) (*Gate, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.TokenReview != nil && cfg.Reviewer == nil {
		return nil, errors.New("server.auth.tokenReview is configured, but there is no cluster to ask")
	}
	g := &Gate{cfg: cfg, log: cfg.Log, now: cfg.Now, newID: cfg.NewID}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.now == nil {
		g.now = time.Now
	}
	if g.newID == nil {
		g.newID = rand.Text
	}
	var err error
	if g.proxies, err = parseNetworks(cfg.TrustedProxies); err != nil {
		return nil, err
	}
	if g.static, err = newStaticTokens(cfg.Tokens, g.now, g.log); err != nil {
		return nil, err
	}
	if cfg.OIDC.Issuer != "" {
		if g.oidc, err = newProvider(cfg.OIDC, g.now); err != nil {
			return nil, err
		}
	}
	if cfg.TokenReview != nil {
		g.reviews = newReviewCache(cfg.Reviewer, cfg.TokenReview.Audiences, g.now)
	}
	if g.sessions, err = newSessions(cfg, g.now, g.newID); err != nil {
		return nil, err
	}
	if cfg.TLS.on() {
		if _, err := newCertificates(cfg.TLS, g.now, g.log); err != nil {
			return nil, err
		}
	}
	g.limits = newLimits(cfg.Rate, g.now)
	if cfg.Previous != nil {
		g.inherit(cfg.Previous)
		g.cfg.Previous = nil // or each gate would keep all before it
	}
	g.cookies, g.local = http.NewCrossOriginProtection(), http.NewCrossOriginProtection()
	for _, o := range cfg.AllowedOrigins {
		if err := g.local.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("server.auth.allowedOrigins: %w", err)
		}
	}
	return g, nil
}

// inherit takes over what a configuration that is read again must not forget: who is
// signed in, who signed out, and who failed too often.
func (g *Gate) inherit(old *Gate) {
	if g.cfg.SessionKeyFile == "" && old.cfg.SessionKeyFile == "" {
		g.sessions.keys = old.sessions.keys
	}
	g.sessions.used = old.sessions.used
	if _, mine := g.sessions.revoked.(*ended); mine {
		g.sessions.revoked = old.sessions.revoked
	}
	g.limits.failures, g.limits.good = old.limits.failures, old.limits.good
	if g.limits.perMinute == old.limits.perMinute && g.limits.burst == old.limits.burst {
		g.limits.requests = old.limits.requests
	}
}

// Mux puts routes behind the gate. A route that is not whole, a pattern that is given
// twice and patterns that contradict each other are errors.
func (g *Gate) Mux(routes ...[]Route) (http.Handler, error) {
	mux := http.NewServeMux()
	seen := map[string]bool{}
	for _, r := range slices.Concat(routes...) {
		if err := r.check(); err != nil {
			return nil, err
		}
		if seen[r.pattern()] {
			return nil, fmt.Errorf("route %q is given twice", r.pattern())
		}
		seen[r.pattern()] = true
		if err := register(mux, r.pattern(), g.door(r)); err != nil {
			return nil, err
		}
	}
	return g.hall(mux), nil
}

// register turns the panic by which ServeMux refuses a pattern into an error.
func register(mux *http.ServeMux, pattern string, h http.Handler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("route %q: %v", pattern, p)
		}
	}()
	mux.Handle(pattern, h)
	return nil
}

// hall is what every request passes, whichever route it is for.
func (g *Gate) hall(mux *http.ServeMux) http.Handler {
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.preflight(w, r) {
			return
		}
		if !g.cfg.Authenticated() {
			if err := g.checkLocal(r); err != nil {
				g.deny(w, r, err, None)
				return
			}
		}
		h, pattern := mux.Handler(r)
		if pattern == "" {
			g.noRoute(w, r, h)
			return
		}
		mux.ServeHTTP(w, r)
	})
	return g.observe(inner)
}

// noRoute says in the gate's own way what ServeMux says: nothing there, or not by
// this method.
func (g *Gate) noRoute(w http.ResponseWriter, r *http.Request, h http.Handler) {
	if key := g.callerKey(r, Identity{}); !g.limits.allow(key, 0) {
		g.deny(w, r, tooMany(g.limits.wait(key, 0)), None)
		return
	}
	said := &discard{header: http.Header{}}
	h.ServeHTTP(said, r)
	if said.status == http.StatusMethodNotAllowed {
		allow := said.header.Get("Allow")
		w.Header().Set("Allow", allow)
		WriteError(w, r, &Error{Status: http.StatusMethodNotAllowed, User: fmt.Sprintf("%s is not served here by %s, only by %s", r.URL.Path, r.Method, allow)})
		return
	}
	WriteError(w, r, &Error{Status: http.StatusNotFound, User: fmt.Sprintf("there is nothing at %s", r.URL.Path)})
}

// discard keeps what a handler says and sends none of it.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(s int)   { d.status = s }
func (d *discard) Write(b []byte) (int, error) {
	if d.status == 0 {
		d.status = http.StatusOK
	}
	return len(b), nil
}

// door is what a request passes on its way into one route.
func (g *Gate) door(route Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		callOf(r.Context()).route = route.pattern()
		var id Identity
		if !route.Public {
			var err error
			if id, err = g.identify(r); err != nil {
				if key := g.callerKey(r, Identity{}); !g.limits.allow(key, 0) {
					err = tooMany(g.limits.wait(key, 0))
				}
				g.deny(w, r, err, route.Role)
				return
			}
			callOf(r.Context()).person = id.Person
		}
		if err := g.checkOrigin(r); err != nil {
			g.deny(w, r, err, None)
			return
		}
		if key := g.callerKey(r, id); !g.limits.allow(g.routeKey(key, route), route.PerMinute) {
			g.deny(w, r, tooMany(g.limits.wait(g.routeKey(key, route), route.PerMinute)), None)
			return
		}
		if !route.Public {
			if id.Role < route.Role {
				g.deny(w, r, g.lacks(id, route.Role), route.Role)
				return
			}
			r = r.WithContext(With(r.Context(), id))
		}
		if err := limitBody(w, r, route); err != nil {
			WriteError(w, r, err)
			return
		}
		if route.Stream {
			g.stream(w, r, route)
			return
		}
		route.Handler.ServeHTTP(w, r)
	})
}

// identify says who sends a request, by the authentication that is configured.
func (g *Gate) identify(r *http.Request) (Identity, error) {
	if !g.cfg.Authenticated() {
		return Identity{Role: Admin, Local: true}, nil
	}
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		token, err := bearer(values)
		if err != nil {
			return Identity{}, err
		}
		c, err := g.check(r, token)
		if err != nil {
			return Identity{}, err
		}
		return Identity{Person: c.person, Role: g.roleOf(c)}, nil
	}
	c, err := g.sessions.open(r, g.secure(r))
	if err != nil {
		return Identity{}, err
	}
	if c.tokenDigest != nil && !g.static.still(c.person.Name, c.tokenDigest) {
		return Identity{}, unauthorized("session_ended", "the token that this sign-in was made with is no longer valid", "sign in again")
	}
	return Identity{Person: c.person, Role: g.roleOf(c)}, nil
}

// roleOf gives the role of a caller: what their static token says, else what the
// configuration gives their name and groups.
func (g *Gate) roleOf(c caller) Role {
	if c.static {
		if r, ok := g.static.role(c.person.Name); ok {
			return r
		}
	}
	return g.cfg.Roles.role(c.person)
}

// lacks names what a known person is missing.
func (g *Gate) lacks(id Identity, needs Role) *Error {
	has := "has no role on this server"
	if id.Role != None {
		has = fmt.Sprintf("has the role %s", id.Role)
	}
	groups := "no groups"
	if n := len(id.Person.Groups); n > 0 {
		const shown = 10
		groups = "groups " + strings.Join(id.Person.Groups[:min(n, shown)], ", ")
		if n > shown {
			groups += fmt.Sprintf(" and %d more", n-shown)
		}
	}
	return &Error{
		Status: http.StatusForbidden,
		Code:   "role_missing",
		User:   fmt.Sprintf("%s (%s) %s; this needs %s", id.Person.Name, groups, has, needs),
		Fix:    fmt.Sprintf("an administrator gives roles in server.auth.roles: %s.users or %s.groups has to name you or a group of yours", needs, needs),
	}
}

// deny answers a request that may not enter and tells the audit hook.
func (g *Gate) deny(w http.ResponseWriter, r *http.Request, err error, needs Role) {
	e := asError(r.Context(), err)
	call := callOf(r.Context())
	call.denied = e.Code
	if g.cfg.OnDenied != nil && e.Status < http.StatusInternalServerError {
		g.cfg.OnDenied(r.Context(), err.Error(), Denied{
			ID: call.id, Method: r.Method, Path: r.URL.Path, Remote: call.remote, Status: e.Status,
			Person: incident.Person{Name: call.person.Name, Groups: slices.Clone(call.person.Groups), Proof: call.person.Proof}, Needs: needs,
		})
	}
	head := ""
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", g.challenge(e.Code))
		if r.Method == http.MethodGet {
			head = refresh(r)
		}
	}
	writeError(w, r, err, head)
}

// challenge is the WWW-Authenticate header of RFC 6750, with the parameter of RFC 9728
// by which MCP clients find the provider.
func (g *Gate) challenge(code string) string {
	out := `Bearer realm="gumshoe"`
	if code != "no_credentials" {
		out += `, error="invalid_token"`
	}
	if at := g.publicURL(); at != "" {
		out += `, resource_metadata="` + at + resourcePath + `"`
	}
	return out
}

func unauthorized(code, user, fix string) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: code, User: user, Fix: fix}
}

func tooMany(wait time.Duration) *Error {
	return &Error{Status: http.StatusTooManyRequests, User: "too many requests", Fix: fmt.Sprintf("try again in %d seconds", int((wait+time.Second-1)/time.Second)), RetryAfter: wait}
}

// call is what the gate learns of a request on its way.
type call struct {
	id     string
	remote string
	route  string
	denied string
	person incident.Person
	log    *slog.Logger
}

type callKey struct{}

// callOf gives the notes of a request, never nil: outside of a gate they go nowhere.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{log: slog.New(slog.DiscardHandler)}
}

// RequestID gives the id under which the access log has a request; "" outside of a gate.
func RequestID(ctx context.Context) string { return callOf(ctx).id }
