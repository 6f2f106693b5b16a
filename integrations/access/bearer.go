package access

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Proofs of a name, beside those that integrations/app knows.
const (
	proofLogin = "login"   // the provider's token or sign-in
	proofToken = "token"   // a static token of the configuration
	proofKube  = "cluster" // TokenReview
)

// maxToken is the longest bearer token that is looked at, in bytes. It is below what
// a connection takes as headers.
const maxToken = 16 << 10

// caller is who a credential names.
type caller struct {
	person incident.Person
	// static says that the credential is a static token of the configuration, whose
	// digest a session keeps to end with it.
	static      bool
	tokenDigest []byte
	// reviewed says that a cluster vouched for the credential.
	reviewed bool
	// expiry of the credential; zero where it says none.
	expiry time.Time
}

// isBearer says whether an Authorization header is of that scheme.
func isBearer(header string) bool {
	scheme, _, _ := strings.Cut(header, " ")
	return strings.EqualFold(scheme, "Bearer")
}

// bearer reads the token of Authorization headers, of which there must be one.
func bearer(values []string) (string, error) {
	if len(values) != 1 {
		return "", unauthorized("invalid_token", "the request carries more than one Authorization header", "send one: Authorization: Bearer TOKEN")
	}
	if !isBearer(values[0]) {
		return "", unauthorized("invalid_token", "the Authorization header is not of the scheme Bearer", "send Authorization: Bearer TOKEN")
	}
	_, token, _ := strings.Cut(values[0], " ")
	return cleanToken(token)
}

// cleanToken takes white space off a token and refuses what cannot be one.
func cleanToken(token string) (string, error) {
	token = strings.TrimSpace(token)
	switch {
	case token == "":
		return "", unauthorized("invalid_token", "the bearer token is empty", "send Authorization: Bearer TOKEN")
	case len(token) > maxToken:
		return "", unauthorized("invalid_token", "the bearer token is longer than any that this server knows", "")
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return "", unauthorized("invalid_token", "the bearer token holds characters that no token has", "")
		}
	}
	return token, nil
}

// check says whose token this is. Failures are counted by address, and a token that
// was never good waits while that address has failed too often.
func (g *Gate) check(r *http.Request, token string) (caller, error) {
	digest := sha256.Sum256([]byte(token))
	key := string(digest[:])
	if _, known := g.limits.good.get(key); known {
		c, err := g.whose(r, token, digest)
		if err != nil && asError(r.Context(), err).Status == http.StatusUnauthorized {
			g.limits.good.remove(key)
			g.limits.try(g.addressKey(r)) // nothing forgives it: it failed
		}
		return c, err
	}
	c, err := g.trySignIn(r, func() (caller, error) { return g.whose(r, token, digest) })
	if err == nil {
		g.limits.good.put(key, struct{}{})
	}
	return c, err
}

// whose asks who knows a token: the configured ones, then the provider where the
// token says that it is the provider's, then the cluster.
func (g *Gate) whose(r *http.Request, token string, digest [sha256.Size]byte) (caller, error) {
	if c, ok := g.static.lookup(digest); ok {
		return c, nil
	}
	if g.oidc != nil && issuerOf(token) == g.oidc.cfg.Issuer {
		return g.oidc.bearer(r.Context(), token)
	}
	if g.reviews != nil {
		return g.reviews.review(r.Context(), token, digest)
	}
	if g.oidc != nil {
		return caller{}, unauthorized("invalid_token", "the token is none that this server knows", "send a token of the provider "+g.oidc.cfg.Issuer)
	}
	return caller{}, unauthorized("invalid_token", "the token is none that this server knows", "")
}

// issuerOf reads who a token says it is from, before anything of it is proven: it
// only decides who is asked.
func issuerOf(token string) string {
	claims, ok := payloadOf(token)
	if !ok {
		return ""
	}
	return claims.Issuer
}

type peeked struct {
	Issuer string  `json:"iss"`
	Expiry float64 `json:"exp"`
}

// payloadOf reads the claims of a token that has the shape of a signed one.
func payloadOf(token string) (peeked, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return peeked{}, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return peeked{}, false
	}
	var p peeked
	return p, json.Unmarshal(raw, &p) == nil
}
