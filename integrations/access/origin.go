package access

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// checkLocal refuses what did not come from a program or page of this machine to a
// server that asks for no authentication: another address, a proxy, a name that a
// foreign site made point here (DNS rebinding), and a foreign site's page.
func (g *Gate) checkLocal(r *http.Request) error {
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !a.Addr().Unmap().IsLoopback() {
		return &Error{Status: http.StatusForbidden, Code: "not_local", User: "this server asks for no authentication and so answers to its own machine only", Fix: "configure server.auth to let others in"}
	}
	if !loopbackName(hostOnly(r.Host)) {
		return &Error{Status: http.StatusForbidden, Code: "not_local", User: "this server asks for no authentication and so answers to localhost and 127.0.0.1 only, not to other names", Fix: "use http://localhost, or configure server.auth"}
	}
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip"} {
		if r.Header.Get(h) != "" {
			return &Error{Status: http.StatusForbidden, Code: "not_local", User: "this request came through a proxy (" + h + "), and this server asks for no authentication: it answers to its own machine only", Fix: "configure server.auth to serve behind a proxy"}
		}
	}
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		if len(origins) == 1 && (sameOrigin(origins[0], r) || slices.Contains(g.cfg.AllowedOrigins, origins[0])) {
			return nil
		}
		return foreign()
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return nil
	}
	// A link from elsewhere may lead here; a script, an image or a frame may not.
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" {
		return nil
	}
	return foreign()
}

// checkOrigin refuses requests that change something and that a page of another
// origin sent. A bearer token is exempt: a page cannot make a browser add one.
func (g *Gate) checkOrigin(r *http.Request) error {
	if len(r.Header.Values("Authorization")) == 1 && isBearer(r.Header.Get("Authorization")) {
		return nil
	}
	protection := g.cookies
	if !g.cfg.Authenticated() {
		protection = g.local
	}
	if protection.Check(r) != nil {
		return foreign()
	}
	return nil
}

func foreign() *Error {
	return &Error{Status: http.StatusForbidden, Code: "foreign_origin", User: "a page of another site sent this request", Fix: "use the server's own pages, or send a bearer token"}
}

// sameOrigin compares the Origin header with where the request was sent to.
func sameOrigin(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return u.Scheme == scheme && strings.EqualFold(u.Host, r.Host)
}

// preflight adds what lets the pages of allowed origins read answers, and answers the
// question that browsers ask before. Credentials of the browser are never allowed.
func (g *Gate) preflight(w http.ResponseWriter, r *http.Request) bool {
	if len(g.cfg.AllowedOrigins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !slices.Contains(g.cfg.AllowedOrigins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After, Location, Mcp-Session-Id")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, Idempotency-Key, Last-Event-ID, Mcp-Session-Id, Mcp-Protocol-Version")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// clientIP gives the address that a request came from: the connection's, or, where
// that is a trusted proxy's, the last one before the trusted proxies.
func (g *Gate) clientIP(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	if !g.trusted(ip) {
		return ip
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		next, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			return ip
		}
		if ip = next.Unmap().WithZone(""); !g.trusted(ip) {
			return ip
		}
	}
	return ip
}

func (g *Gate) trusted(ip netip.Addr) bool {
	return slices.ContainsFunc(g.proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// secure says whether the browser speaks TLS, to the server or to a trusted proxy.
func (g *Gate) secure(r *http.Request) bool {
	if r.TLS != nil || strings.HasPrefix(g.cfg.OIDC.RedirectURL, "https://") {
		return true
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && g.trusted(ap.Addr().Unmap()) && r.Header.Get("X-Forwarded-Proto") == "https"
}
