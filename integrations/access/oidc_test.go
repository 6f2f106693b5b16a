package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func set(name string, v any) func(map[string]any) {
	return func(c map[string]any) {
		if v == nil {
			delete(c, name)
			return
		}
		c[name] = v
	}
}

func TestOIDCBearer(t *testing.T) {
	t.Parallel()
	c := newClock()
	p := newIDP(t, c)
	other := newIDP(t, c)
	now := c.now()
	unix := func(d time.Duration) int64 { return now.Add(d).Unix() }
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := signWith(jose.ES256, jose.JSONWebKey{Key: stranger, KeyID: p.keys[jose.ES256].KeyID}, p.claims())
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, ok := p.keys[jose.RS256].Key.(*rsa.PrivateKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	public, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	confused, err := signWith(jose.HS256, jose.JSONWebKey{Key: public, KeyID: p.keys[jose.RS256].KeyID}, p.claims())
	if err != nil {
		t.Fatal(err)
	}
	good := p.sign(t, jose.RS256, p.claims())
	parts := strings.Split(good, ".")
	es := func(change ...func(map[string]any)) string { return p.sign(t, jose.ES256, p.claims(change...)) }

	for what, tc := range map[string]struct {
		token string
		want  int
		says  string
	}{
		"RS256":                    {good, 200, ""},
		"ES256":                    {es(), 200, ""},
		"one of several audiences": {es(set("aud", []string{"x", clientID})), 200, ""},
		"expired within the skew":  {es(set("exp", unix(-59*time.Second))), 200, ""},
		"begins within the skew":   {es(set("nbf", unix(59*time.Second)), set("iat", unix(59*time.Second))), 200, ""},
		"expired":                  {es(set("exp", unix(-time.Minute))), 401, "expired"},
		"never expires":            {es(set("exp", nil)), 401, "never expires"},
		"not valid yet":            {es(set("nbf", unix(2*time.Minute))), 401, "not valid yet"},
		"from the future":          {es(set("iat", unix(2*time.Minute))), 401, "not valid yet"},
		"other audience":           {es(set("aud", "grafana")), 401, "audience gumshoe"},
		"no audience":              {es(set("aud", nil)), 401, ""},
		"other issuer":             {other.sign(t, jose.ES256, other.claims()), 401, "none that this server knows"},
		"issuer is a lie":          {other.sign(t, jose.ES256, p.claims()), 401, ""},
		"foreign key, our id":      {foreign, 401, ""},
		"algorithm none":           {part(map[string]string{"alg": "none"}) + "." + part(p.claims()) + ".", 401, ""},
		"public key as a secret":   {confused, 401, ""},
		"changed claims":           {parts[0] + "." + part(p.claims(set("email", "root@example.com"))) + "." + parts[2], 401, ""},
		"no signature":             {parts[0] + "." + parts[1] + ".", 401, ""},
		"unverified address":       {es(set("email_verified", false)), 401, "not verified"},
		"address nobody verifies":  {es(set("email_verified", nil)), 200, ""},
		"no name":                  {es(set("email", nil)), 401, "no claim email"},
		"blank name":               {es(set("email", " ")), 401, "no claim email"},
		"a name of the cluster's":  {es(set("email", "system:admin")), 401, "system:"},
		"name is no text":          {es(set("email", 7)), 401, "no claim email"},
		"groups are no list":       {es(set("groups", 7)), 401, "no list"},
		"no groups":                {es(set("groups", nil)), 403, "no groups"},
		"one group":                {es(set("groups", "sre")), 200, ""},
		"other groups":             {es(set("groups", []string{"ml"})), 403, "oidc:ml"},
		"nonsense":                 {"a.b.c", 401, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, p.config(t))
			h := mux(t, g, surface())
			w := ask(t, h, "GET", "/api/asker", "Authorization", "Bearer "+tc.token)
			if w.Code != tc.want {
				t.Fatalf("%d, want %d: %s", w.Code, tc.want, w.Body)
			}
			if tc.want != http.StatusOK {
				if msg := problem(t, w); !strings.Contains(msg.Message+msg.Fix, tc.says) {
					t.Errorf("says %+v, want %q", msg, tc.says)
				}
				return
			}
			id := identity(t, w)
			if id.Person.Name != "ann@example.com" || !slices.Contains(id.Person.Groups, "oidc:sre") || id.Person.Proof != proofLogin || id.Role != Asker || id.Local {
				t.Errorf("entered as %+v", id)
			}
		})
	}
}

func TestGroupsOfTheClusterAreNobodys(t *testing.T) {
	t.Parallel()
	p := newIDP(t, newClock())
	cfg := p.config(t)
	cfg.OIDC.GroupsPrefix = ""
	cfg.Roles.Asker.Groups = []string{"sre"}
	h := mux(t, newGate(t, cfg), surface())
	id := identity(t, ask(t, h, "GET", "/api/asker", "Authorization", "Bearer "+p.sign(t, jose.RS256, p.claims(set("groups", []string{"system:masters", "", "sre"})))))
	if !slices.Equal(id.Person.Groups, []string{"sre"}) {
		t.Errorf("groups %q", id.Person.Groups)
	}
}

func TestNamesAsTheClusterHasThem(t *testing.T) {
	t.Parallel()
	p := newIDP(t, newClock())
	for _, tc := range []struct{ claim, prefix, want string }{
		{"", "", p.URL + "#u-1"}, {"sub", "-", "u-1"}, {"sub", "oidc:", "oidc:u-1"},
		{"email", "", "ann@example.com"}, {"email", "oidc:", "oidc:ann@example.com"},
	} {
		cfg := p.config(t)
		cfg.OIDC.UsernameClaim, cfg.OIDC.UsernamePrefix = tc.claim, tc.prefix
		h := mux(t, newGate(t, cfg), surface())
		if id := identity(t, ask(t, h, "GET", "/api/viewer", "Authorization", "Bearer "+p.sign(t, jose.RS256, p.claims()))); id.Person.Name != tc.want {
			t.Errorf("claim %q prefix %q gives %q, want %q", tc.claim, tc.prefix, id.Person.Name, tc.want)
		}
	}
}

func TestAudienceOfItsOwn(t *testing.T) {
	t.Parallel()
	p := newIDP(t, newClock())
	cfg := p.config(t)
	cfg.OIDC.Audience = "gumshoe-api"
	h := mux(t, newGate(t, cfg), surface())
	if w := ask(t, h, "GET", "/api/asker", "Authorization", "Bearer "+p.sign(t, jose.RS256, p.claims())); w.Code != http.StatusUnauthorized {
		t.Errorf("a token for the client: %d", w.Code)
	}
	if w := ask(t, h, "GET", "/api/asker", "Authorization", "Bearer "+p.sign(t, jose.RS256, p.claims(set("aud", "gumshoe-api")))); w.Code != http.StatusOK {
		t.Errorf("a token for the audience: %d %s", w.Code, w.Body)
	}
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	p := newIDP(t, newClock())
	h := mux(t, newGate(t, p.config(t)), surface())
	enter := func(token string) int {
		return ask(t, h, "GET", "/api/asker", "Authorization", "Bearer "+token).Code
	}
	before := p.sign(t, jose.RS256, p.claims())
	for range 3 {
		if got := enter(before); got != http.StatusOK {
			t.Fatalf("before the rotation: %d", got)
		}
	}
	p.set(func(p *idp) {
		if p.fetched != 1 {
			t.Errorf("the keys were fetched %d times for one key", p.fetched)
		}
	})
	p.rotate(t)
	if got := enter(p.sign(t, jose.ES256, p.claims())); got != http.StatusOK {
		t.Errorf("a token of the new key: %d", got)
	}
	if got := enter(before); got != http.StatusUnauthorized {
		t.Errorf("a token of the key that is gone: %d", got)
	}
}

func TestProviderThatIsDown(t *testing.T) {
	t.Parallel()
	c := newClock()
	p := newIDP(t, c)
	p.set(func(p *idp) { p.down = true })
	h := mux(t, newGate(t, p.config(t)), surface())
	token := "Bearer " + p.sign(t, jose.RS256, p.claims())
	w := ask(t, h, "GET", "/api/asker", "Authorization", token)
	if msg := problem(t, w); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" || !strings.Contains(msg.Message, p.URL) {
		t.Fatalf("%d %+v", w.Code, msg)
	}
	p.set(func(p *idp) { p.down = false })
	if w := ask(t, h, "GET", "/api/asker", "Authorization", token); w.Code != http.StatusServiceUnavailable {
		t.Errorf("it was asked again at once: %d", w.Code)
	}
	c.add(discoveryPause)
	if w := ask(t, h, "GET", "/api/asker", "Authorization", token); w.Code != http.StatusOK {
		t.Errorf("when it is up: %d %s", w.Code, w.Body)
	}
	// Keys that cannot be fetched are no fault of the token's.
	p.rotate(t)
	fresh := "Bearer " + p.sign(t, jose.RS256, p.claims())
	p.set(func(p *idp) { p.down = true })
	for range failBurst + 2 {
		if w := ask(t, h, "GET", "/api/asker", "Authorization", fresh); w.Code != http.StatusServiceUnavailable {
			t.Fatalf("keys cannot be fetched: %d %s", w.Code, w.Body)
		}
	}
}

func TestProviderWithACertificateOfItsOwn(t *testing.T) {
	t.Parallel()
	p := newIDP(t, newClock())
	plain := p.Config.Handler
	p.Server = httptest.NewTLSServer(plain)
	t.Cleanup(p.Close)
	cfg := p.config(t)
	h := mux(t, newGate(t, cfg), surface())
	token := "Bearer " + p.sign(t, jose.ES256, p.claims())
	if w := ask(t, h, "GET", "/api/asker", "Authorization", token); w.Code != http.StatusServiceUnavailable {
		t.Fatalf("an unknown authority: %d", w.Code)
	}
	cfg.OIDC.CAFile = write(t, "ca.pem", certPEM(p.Certificate()))
	h = mux(t, newGate(t, cfg), surface())
	if w := ask(t, h, "GET", "/api/asker", "Authorization", token); w.Code != http.StatusOK {
		t.Errorf("with its authority: %d %s", w.Code, w.Body)
	}
}

func TestTokenReview(t *testing.T) {
	t.Parallel()
	c := newClock()
	k := &cluster{known: map[string]incident.Person{
		"opaque": {Name: "ann", Groups: []string{"system:authenticated", "sre"}, Proof: "cluster"},
		"empty":  {},
	}}
	h := mux(t, newGate(t, Config{Now: c.now, TokenReview: &TokenReviewConfig{Audiences: []string{"gumshoe"}}, Reviewer: k, Roles: RolesConfig{Viewer: Members{Groups: []string{"sre"}}}}), surface())
	enter := func(token string) *httptest.ResponseRecorder {
		return ask(t, h, "GET", "/api/viewer", "Authorization", "Bearer "+token, "remote", fmt.Sprintf("192.0.2.%d:1", len(token)))
	}
	for range 3 {
		if id := identity(t, enter("opaque")); id.Person.Name != "ann" || id.Person.Proof != "cluster" {
			t.Errorf("entered as %+v", id)
		}
	}
	if k.asked != 1 || !slices.Equal(k.aud, []string{"gumshoe"}) {
		t.Errorf("the cluster was asked %d times, for %q", k.asked, k.aud)
	}
	for _, token := range []string{"unknown", "empty"} {
		if w := enter(token); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", token, w.Code)
		}
	}
	// What the cluster takes back lasts as long as its word is kept, and no longer.
	k.known = nil
	if w := enter("opaque"); w.Code != http.StatusOK {
		t.Errorf("within the minute: %d", w.Code)
	}
	c.add(reviewKept)
	if w := enter("opaque"); w.Code != http.StatusUnauthorized {
		t.Errorf("after it: %d", w.Code)
	}
	k.down = errors.New("connection refused")
	w := enter("opaque2")
	if msg := problem(t, w); w.Code != http.StatusServiceUnavailable || strings.Contains(msg.Message, "refused") {
		t.Errorf("a cluster that is down: %d %+v", w.Code, msg)
	}
	// A token's own end is earlier than that of the cluster's word.
	p := newIDP(t, c)
	short := p.sign(t, jose.ES256, p.claims(set("exp", c.now().Add(10*time.Second).Unix())))
	k.down, k.known, k.asked = nil, map[string]incident.Person{short: {Name: "bob", Groups: []string{"sre"}}}, 0
	if id := identity(t, enter(short)); id.Person.Proof != proofKube {
		t.Errorf("entered as %+v", id)
	}
	k.known = nil
	c.add(10 * time.Second)
	if w := enter(short); w.Code != http.StatusUnauthorized || k.asked != 2 {
		t.Errorf("past its end: %d, asked %d times", w.Code, k.asked)
	}
}
