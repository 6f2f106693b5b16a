package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// idp is an OpenID Connect provider: discovery, keys, the authorization endpoint with
// PKCE and the token endpoint, over HTTP.
type idp struct {
	*httptest.Server
	clock *clock

	mu      sync.Mutex
	keys    map[jose.SignatureAlgorithm]jose.JSONWebKey
	round   int
	fetched int
	down    bool
	codes   map[string]url.Values // what the authorization request of a code said
	secret  string
	// change alters the claims of the id_token of a sign-in; refuse is the error that
	// the authorization endpoint answers instead of a code.
	change func(claims map[string]any)
	refuse string
}

const (
	clientID     = "gumshoe"
	clientSecret = "client-secret"
)

func newIDP(t *testing.T, c *clock) *idp {
	t.Helper()
	p := &idp{clock: c, codes: map[string]url.Values{}, secret: clientSecret}
	p.rotate(t)
	m := http.NewServeMux()
	m.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	m.HandleFunc("GET /keys", p.jwks)
	m.HandleFunc("GET /authorize", p.authorize)
	m.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if down {
			http.Error(w, "maintenance", http.StatusServiceUnavailable)
			return
		}
		m.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// rsaPair is slow to make: all providers of the tests sign with the same two in turn.
var rsaPair = sync.OnceValue(func() (out [2]*rsa.PrivateKey) {
	for i := range out {
		out[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return out
})

// rotate replaces the keys: tokens of the ones before are no longer the provider's.
func (p *idp) rotate(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
	pair := rsaPair()
	r := pair[p.round%2]
	if r == nil {
		t.Fatal("no RSA key")
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.keys = map[jose.SignatureAlgorithm]jose.JSONWebKey{}
	for alg, k := range map[jose.SignatureAlgorithm]crypto.Signer{jose.RS256: r, jose.ES256: e} {
		p.keys[alg] = jose.JSONWebKey{Key: k, KeyID: fmt.Sprintf("%s-%d", alg, p.round), Algorithm: string(alg), Use: "sig"}
	}
}

func (p *idp) set(change func(*idp)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *idp) discovery(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "HS256", "none"},
	})
}

func (p *idp) jwks(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched++
	var set jose.JSONWebKeySet
	for _, k := range p.keys {
		set.Keys = append(set.Keys, k.Public())
	}
	_ = json.NewEncoder(w).Encode(set)
}

// claims are those of a good token.
func (p *idp) claims(change ...func(map[string]any)) map[string]any {
	now := p.clock.now()
	out := map[string]any{
		"iss": p.URL, "aud": clientID, "sub": "u-1", "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
		"email": "ann@example.com", "email_verified": true, "groups": []string{"sre", "oncall"},
	}
	for _, c := range change {
		c(out)
	}
	return out
}

func (p *idp) sign(t testing.TB, alg jose.SignatureAlgorithm, claims map[string]any) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	out, err := signWith(alg, p.keys[alg], claims)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func signWith(alg jose.SignatureAlgorithm, key any, claims map[string]any) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	s, err := signer.Sign(raw)
	if err != nil {
		return "", err
	}
	return s.CompactSerialize()
}

func (p *idp) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != clientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("state") == "" || q.Get("nonce") == "" {
		http.Error(w, "bad authorization request", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	back := url.Values{"state": {q.Get("state")}}
	if p.refuse != "" {
		back.Set("error", p.refuse)
	} else {
		code := rand.Text()
		p.codes[code] = q
		back.Set("code", code)
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther)
}

func (p *idp) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, secret, ok := r.BasicAuth()
	if !ok {
		id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	asked, known := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	w.Header().Set("Content-Type", "application/json")
	if id != clientID || secret != p.secret || !known || asked.Get("redirect_uri") != r.FormValue("redirect_uri") || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant"})
		return
	}
	claims := maps.Clone(p.claims())
	claims["nonce"] = asked.Get("nonce")
	if p.change != nil {
		p.change(claims)
	}
	raw, err := signWith(jose.ES256, p.keys[jose.ES256], claims)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "id_token": raw, "expires_in": 600})
}

// config is a configuration that trusts the provider.
func (p *idp) config(t *testing.T) Config {
	t.Helper()
	return Config{
		Now: p.clock.now,
		OIDC: OIDCConfig{
			Issuer: p.URL, ClientID: clientID, ClientSecretFile: write(t, "secret", p.secret+"\n"),
			UsernameClaim: "email", GroupsClaim: "groups", GroupsPrefix: "oidc:",
		},
		Roles: RolesConfig{Asker: Members{Groups: []string{"oidc:sre"}}, Viewer: Members{Users: []string{"bob@example.com"}}},
	}
}
