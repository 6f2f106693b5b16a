// Package access decides who may enter the server and what they may do there.
//
// A Gate stands in front of every surface (API, web, webhooks, MCP). It fails
// closed: without any authentication configured it serves loopback only, and there
// it also asks that the Host header is a loopback name and that no other site's page
// sent the request. With authentication a request carries an OpenID Connect bearer
// token, a token that the cluster knows (TokenReview), a static token from a file, or
// the session cookie of the sign-in pages that Routes gives.
//
// Surfaces give their routes as data (Route), so that one place, Mux, asks for the
// role of each, and one test can walk over all of them.
//
// Sessions are sealed cookies: nothing is kept on the server but the ids of sessions
// that ended early. Several replicas need one key file (Config.SessionKeyFile), and
// share those ids through Config.Revocations; without it a session that was signed out
// at one replica lasts until it expires at the others.
//
// A `kubectl port-forward` to a server without authentication arrives from loopback:
// whoever has the right pods/portforward there is let in as its administrator.
package access

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Role is what a person may do on the server. Each role may do what the ones below
// it may.
type Role int

// Roles, least first.
const (
	// None may do nothing: the person is known, but no entry of the configuration
	// gives them a role.
	None Role = iota
	// Viewer reads investigations, evidence, plans and the audit trail.
	Viewer
	// Asker also starts and continues investigations, and proposes plans.
	Asker
	// Approver also approves and rejects plans.
	Approver
	// Admin also does what concerns the server itself.
	Admin
)

// String gives the name of the role as the configuration spells it.
func (r Role) String() string {
	switch r {
	case None:
		return "none"
	case Viewer:
		return "viewer"
	case Asker:
		return "asker"
	case Approver:
		return "approver"
	case Admin:
		return "admin"
	}
	return fmt.Sprintf("Role(%d)", int(r))
}

// ParseRole reads a role's name as String gives it.
func ParseRole(s string) (Role, error) {
	for r := None; r <= Admin; r++ {
		if r.String() == s {
			return r, nil
		}
	}
	return None, fmt.Errorf("role %q is not one of none, viewer, asker, approver, admin", s)
}

// Identity is who sent a request and what they may do.
type Identity struct {
	Person incident.Person
	Role   Role
	// Local says that the request came from this machine to a server without
	// authentication: Person is empty, and the server's own identity acts, as it does
	// on the command line.
	Local bool
}

type identityKey struct{}

// From gives the identity that the gate put into the context of a request. It is
// false for public routes and outside of requests.
func From(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// With gives a context that carries an identity.
func With(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// Route is one thing that a surface serves.
type Route struct {
	// Method is "" for every method; GET serves HEAD too.
	Method string
	// Pattern is a path pattern of net/http.ServeMux without method and host.
	Pattern string
	// Role is the least role that may enter; not None unless Public.
	Role Role
	// Handler finds who asks with From.
	Handler http.Handler
	// Public routes ask for no identity: a webhook with an authentication of its own,
	// the sign-in pages, health, static assets.
	Public bool
	// Why a route is public, one clause; it is required there.
	Why string
	// Stream takes the deadline of the whole answer off: a single write may still not
	// take longer than half a minute, and the request's context ends when the server
	// begins to drain. Its request body is read before the handler runs.
	Stream bool
	// WriteTimeout is how long a single write of a stream may take instead of the half
	// minute; 0 keeps that.
	WriteTimeout time.Duration
	// MaxBody is the largest request body in bytes; 0 means 1 MiB.
	MaxBody int64
	// PerMinute is how many requests a minute one caller may send to this route
	// instead of the configured number, counted for this route alone; 0 keeps that
	// number. It is for webhooks: a storm of alerts comes from one address.
	PerMinute int
}

const defaultMaxBody = 1 << 20

func (r Route) maxBody() int64 {
	if r.MaxBody > 0 {
		return r.MaxBody
	}
	return defaultMaxBody
}

// pattern is the route as ServeMux spells it.
func (r Route) pattern() string {
	return strings.TrimSpace(r.Method + " " + r.Pattern)
}

func (r Route) check() error {
	switch {
	case r.Handler == nil:
		return fmt.Errorf("route %q has no handler", r.pattern())
	case !strings.HasPrefix(r.Pattern, "/"):
		return fmt.Errorf("route %q: the pattern is a path without method and host, and begins with /", r.pattern())
	case r.Method != strings.ToUpper(r.Method) || strings.ContainsAny(r.Method, " \t"):
		return fmt.Errorf("route %q: %q is not a method in capitals", r.pattern(), r.Method)
	case r.MaxBody < 0 || r.PerMinute < 0 || r.WriteTimeout < 0:
		return fmt.Errorf("route %q: MaxBody, PerMinute and WriteTimeout cannot be negative", r.pattern())
	case r.Public && r.Why == "":
		return fmt.Errorf("route %q is public and does not say why", r.pattern())
	case r.Public && r.Role != None:
		return fmt.Errorf("route %q is public and asks for the role %s: it is one or the other", r.pattern(), r.Role)
	case !r.Public && (r.Role < Viewer || r.Role > Admin):
		return fmt.Errorf("route %q names no role: whoever is signed in would enter", r.pattern())
	}
	return nil
}

// TokenReviewer asks a cluster whose token this is. The answer is false for a token
// that the cluster does not know or that is for none of the audiences; an error means
// that the cluster could not be asked. Implementations are safe for concurrent use.
type TokenReviewer interface {
	Review(ctx context.Context, token string, audiences []string) (incident.Person, bool, error)
}

// Revocations remembers sessions that ended before their time, for all replicas.
// Without one they are kept in the memory of this process. Implementations are safe
// for concurrent use.
type Revocations interface {
	// Revoke ends a session; it need not be remembered after expiry,
	// when the session is over by itself.
	Revoke(ctx context.Context, session string, expiry time.Time) error
	// Revoked says whether a session was ended. An error keeps the request out.
	Revoked(ctx context.Context, session string) (bool, error)
}
