package access

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestConfigIsReadStrictly(t *testing.T) {
	t.Parallel()
	const text = `
oidc:
  issuer: https://login.example.com
  clientID: gumshoe
  clientSecretFile: /etc/gumshoe/secret
  audience: gumshoe-api
  usernameClaim: email
  usernamePrefix: "oidc:"
  groupsClaim: groups
  groupsPrefix: "oidc:"
  scopes: [profile, email, groups]
  redirectURL: https://gumshoe.example.com/auth/callback
  caFile: /etc/gumshoe/ca.pem
tokenReview: {audiences: [gumshoe]}
tokens:
- {name: ci, groups: [robots], role: asker, file: /etc/gumshoe/ci}
roles:
  viewer: {users: ["*"]}
  approver: {groups: ["oidc:sre"]}
  admin: {users: [ann@example.com]}
rate: {perMinute: 120, burst: 30}
allowedOrigins: [https://portal.example.com]
trustedProxies: [10.0.0.0/8]
sessionTTL: 4h
sessionKeyFile: /etc/gumshoe/session
drainTimeout: 10s
tls: {certFile: /tls/tls.crt, keyFile: /tls/tls.key, clientCAFile: /tls/ca.crt}
`
	var c Config
	if err := yaml.UnmarshalStrict([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if !c.Authenticated() || time.Duration(c.SessionTTL) != 4*time.Hour || c.Roles.role(incident.Person{Name: "x", Groups: []string{"oidc:sre"}}) != Approver || c.Roles.role(incident.Person{Name: "x"}) != Viewer || c.Roles.role(incident.Person{Name: "ann@example.com"}) != Admin {
		t.Errorf("read as %+v", c)
	}
	if err := yaml.UnmarshalStrict([]byte("oidc: {isuer: https://x}"), &Config{}); err == nil {
		t.Error("a field that does not exist is taken")
	}
	if err := yaml.UnmarshalStrict([]byte("sessionTTL: 4"), &Config{}); err == nil || !strings.Contains(err.Error(), "duration") {
		t.Errorf("a lifetime without a unit: %v", err)
	}
	if err := yaml.UnmarshalStrict([]byte("sessionTTL: soon"), &Config{}); err == nil || !strings.Contains(err.Error(), "duration") {
		t.Errorf("a lifetime in words: %v", err)
	}
	if raw, err := json.Marshal(Duration(90 * time.Second)); err != nil || string(raw) != `"1m30s"` {
		t.Errorf("a duration is written %s, %v", raw, err)
	}
	var empty Config
	if err := yaml.UnmarshalStrict([]byte("tokenReview: {}\nroles: {viewer: {users: ['*']}}"), &empty); err != nil || !empty.Authenticated() {
		t.Errorf("an empty tokenReview section: %v, %+v", err, empty)
	}
	if raw, err := json.Marshal(Config{}); err != nil || string(raw) != "{}" {
		t.Errorf("nothing is written as %s, %v", raw, err)
	}
}

func TestConfigThatCannotBe(t *testing.T) {
	t.Parallel()
	everyone := RolesConfig{Viewer: Members{Users: []string{"*"}}}
	oidc := func(change func(*OIDCConfig)) Config {
		c := Config{OIDC: OIDCConfig{Issuer: "https://login.example.com", ClientID: "gumshoe"}, Roles: everyone}
		change(&c.OIDC)
		return c
	}
	token := func(change func(*TokenConfig)) Config {
		c := Config{Tokens: []TokenConfig{{Name: "ci", File: "f"}}, Roles: everyone}
		change(&c.Tokens[0])
		return c
	}
	for what, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"roles for nobody":       {Config{Roles: everyone}, "nobody can sign in"},
		"nobody has a role":      {Config{TokenReview: &TokenReviewConfig{}}, "server.auth.roles is empty"},
		"issuer missing":         {Config{OIDC: OIDCConfig{ClientID: "x"}}, "server.auth.oidc.issuer"},
		"issuer by http":         {oidc(func(c *OIDCConfig) { c.Issuer = "http://login.example.com" }), "https"},
		"issuer no URL":          {oidc(func(c *OIDCConfig) { c.Issuer = "login" }), "no URL"},
		"issuer with a password": {oidc(func(c *OIDCConfig) { c.Issuer = "https://a:b@x" }), "no URL"},
		"no audience":            {oidc(func(c *OIDCConfig) { c.ClientID = "" }), "clientID"},
		"redirect without id":    {oidc(func(c *OIDCConfig) { c.ClientID, c.Audience, c.RedirectURL = "", "x", "https://x/auth/callback" }), "needs clientID"},
		"redirect by http":       {oidc(func(c *OIDCConfig) { c.RedirectURL = "http://gumshoe.example.com/auth/callback" }), "https"},
		"redirect elsewhere":     {oidc(func(c *OIDCConfig) { c.RedirectURL = "https://gumshoe.example.com/" }), "/auth/callback"},
		"token without name":     {token(func(c *TokenConfig) { c.Name = "" }), "tokens[0]"},
		"token of the cluster":   {token(func(c *TokenConfig) { c.Name = "system:admin" }), "keeps for itself"},
		"group of the cluster":   {token(func(c *TokenConfig) { c.Groups = []string{"system:masters"} }), "keeps for itself"},
		"token's role":           {token(func(c *TokenConfig) { c.Role = "root" }), "root"},
		"token twice":            {Config{Tokens: []TokenConfig{{Name: "ci", File: "a"}, {Name: "ci", File: "b"}}, Roles: everyone}, "twice"},
		"everybody approves":     {Config{TokenReview: &TokenReviewConfig{}, Roles: RolesConfig{Approver: Members{Users: []string{"*"}}}}, "name them"},
		"everybody's group":      {Config{TokenReview: &TokenReviewConfig{}, Roles: RolesConfig{Viewer: Members{Groups: []string{"*"}}}}, "users"},
		"empty name":             {Config{TokenReview: &TokenReviewConfig{}, Roles: RolesConfig{Viewer: Members{Groups: []string{" "}}}}, "empty name"},
		"rate":                   {Config{Rate: RateConfig{Burst: -1}}, "negative"},
		"session":                {Config{SessionTTL: -1}, "sessionTTL"},
		"endless session":        {Config{SessionTTL: Duration(1000 * time.Hour)}, "30 days"},
		"drain":                  {Config{DrainTimeout: -1}, "drainTimeout"},
		"half a certificate":     {Config{TLS: TLSConfig{CertFile: "x"}}, "together"},
		"authorities alone":      {Config{TLS: TLSConfig{ClientCAFile: "x"}}, "clientCAFile"},
		"origin":                 {Config{AllowedOrigins: []string{"https://x/"}}, "no origin"},
		"origin of all":          {Config{AllowedOrigins: []string{"*"}}, "no origin"},
		"origin null":            {Config{AllowedOrigins: []string{"null"}}, "no origin"},
		"proxy":                  {Config{TrustedProxies: []string{"proxy"}}, "trustedProxies"},
	} {
		if _, err := New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", what, err, tc.want)
		}
	}
}

func TestFilesThatCannotBe(t *testing.T) {
	t.Parallel()
	everyone := RolesConfig{Viewer: Members{Users: []string{"*"}}}
	cert, key := newAuthority(t).issue(t)
	_, otherKey := newAuthority(t).issue(t)
	missing := t.TempDir() + "/missing"
	for what, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"no token file":       {Config{Tokens: []TokenConfig{{Name: "ci", File: missing}}, Roles: everyone}, "missing"},
		"short token":         {Config{Tokens: []TokenConfig{{Name: "ci", File: write(t, "t", "short")}}, Roles: everyone}, "guessed"},
		"two tokens":          {Config{Tokens: []TokenConfig{{Name: "ci", File: write(t, "t", tokenOf("a")+"\n"+tokenOf("b"))}}, Roles: everyone}, "one token"},
		"no cluster":          {Config{TokenReview: &TokenReviewConfig{}, Roles: everyone}, "no cluster to ask"},
		"no secret":           {Config{OIDC: OIDCConfig{Issuer: "https://x", ClientID: "x", ClientSecretFile: missing}, Roles: everyone}, "clientSecretFile"},
		"empty secret":        {Config{OIDC: OIDCConfig{Issuer: "https://x", ClientID: "x", ClientSecretFile: write(t, "s", "\n")}, Roles: everyone}, "is empty"},
		"no authority":        {Config{OIDC: OIDCConfig{Issuer: "https://x", ClientID: "x", CAFile: missing}, Roles: everyone}, "caFile"},
		"authority is text":   {Config{OIDC: OIDCConfig{Issuer: "https://x", ClientID: "x", CAFile: write(t, "c", "x")}, Roles: everyone}, "no certificate"},
		"no keys":             {Config{SessionKeyFile: missing}, "sessionKeyFile"},
		"empty keys":          {Config{SessionKeyFile: write(t, "k", "\n\n")}, "no key"},
		"short key":           {Config{SessionKeyFile: write(t, "k", "short\n")}, "shorter"},
		"no certificate":      {Config{TLS: TLSConfig{CertFile: missing, KeyFile: missing}}, "certFile"},
		"another's key":       {Config{TLS: TLSConfig{CertFile: write(t, "c", cert), KeyFile: write(t, "k", otherKey)}}, "no pair"},
		"no client's CA":      {Config{TLS: TLSConfig{CertFile: write(t, "c", cert), KeyFile: write(t, "k", key), ClientCAFile: missing}}, "clientCAFile"},
		"client's CA is text": {Config{TLS: TLSConfig{CertFile: write(t, "c", cert), KeyFile: write(t, "k", key), ClientCAFile: write(t, "a", "x")}}, "no certificate"},
	} {
		if _, err := New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", what, err, tc.want)
		}
	}
}

func TestTokensThatChange(t *testing.T) {
	t.Parallel()
	c := newClock()
	cfg := Config{Now: c.now, Tokens: []TokenConfig{
		{Name: "ci", Role: "viewer", Groups: []string{"sre"}, File: write(t, "ci", tokenOf("ci"))},
		{Name: "bot", File: write(t, "bot", tokenOf("bot"))},
	}, Roles: RolesConfig{Admin: Members{Groups: []string{"sre"}}}}
	h := mux(t, newGate(t, cfg), surface())
	enter := func(path, token string) int {
		return ask(t, h, "GET", path, "Authorization", "Bearer "+token).Code
	}
	// The entry's own role counts, and no group raises it.
	if a, b := enter("/api/viewer", tokenOf("ci")), enter("/api/admin", tokenOf("ci")); a != http.StatusOK || b != http.StatusForbidden {
		t.Errorf("ci: %d and %d", a, b)
	}
	if got := enter("/api/viewer", tokenOf("bot")); got != http.StatusForbidden {
		t.Errorf("bot has no role: %d", got)
	}
	overwrite(t, cfg.Tokens[0].File, tokenOf("new"))
	if got := enter("/api/viewer", tokenOf("ci")); got != http.StatusOK {
		t.Errorf("before the file is read again: %d", got)
	}
	c.add(tokenCheck)
	if a, b := enter("/api/viewer", tokenOf("new")), enter("/api/viewer", tokenOf("ci")); a != http.StatusOK || b != http.StatusUnauthorized {
		t.Errorf("the new token %d, the one before %d", a, b)
	}
	for _, broken := range []string{"", "short"} {
		overwrite(t, cfg.Tokens[0].File, broken)
		c.add(tokenCheck)
		if a, b := enter("/api/viewer", tokenOf("new")), enter("/api/viewer", broken); a != http.StatusUnauthorized || b != http.StatusUnauthorized {
			t.Errorf("with %q in the file: %d and %d", broken, a, b)
		}
		c.add(time.Minute)
	}
	overwrite(t, cfg.Tokens[0].File, tokenOf("back"))
	c.add(tokenCheck)
	if got := enter("/api/viewer", tokenOf("back")); got != http.StatusOK {
		t.Errorf("after it came back: %d", got)
	}
}

func TestPagesOfOtherOrigins(t *testing.T) {
	t.Parallel()
	const portal, evil = "https://portal.example.com", "https://evil.example.com"
	cfg := crew(t, newClock())
	cfg.AllowedOrigins = []string{portal}
	g := newGate(t, cfg)
	h := mux(t, g, surface(), g.Routes())
	w := ask(t, h, "OPTIONS", "/api/viewer", "Origin", portal, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
	if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != portal || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "Authorization") || w.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("an allowed page asks before: %d %v", w.Code, w.Header())
	}
	for _, origin := range []string{portal, evil} {
		w := ask(t, h, "POST", "/api/viewer", "Origin", origin, "Sec-Fetch-Site", "cross-site", "Authorization", "Bearer "+tokenOf("viewer"))
		allowed := w.Header().Get("Access-Control-Allow-Origin")
		if w.Code != http.StatusOK || (allowed == portal) != (origin == portal) || w.Header().Get("Vary") != "Origin" {
			t.Errorf("%s with a token: %d, allowed %q", origin, w.Code, allowed)
		}
	}
	if w := ask(t, h, "OPTIONS", "/api/viewer", "Origin", evil, "Access-Control-Request-Method", "POST"); w.Code == http.StatusNoContent || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another page asks before: %d %v", w.Code, w.Header())
	}
	// Not even an allowed page may use the cookie of a person who is signed in.
	signedIn := send(h, request("POST", tokenPath, "token="+tokenOf("viewer"), "Content-Type", "application/x-www-form-urlencoded"))
	cookie := signedIn.Result().Cookies()[0].String()
	for origin, want := range map[string]int{"http://gumshoe.example.com": 200, portal: 403, evil: 403} {
		if w := ask(t, h, "POST", "/api/viewer", "Origin", origin, "Cookie", cookie); w.Code != want {
			t.Errorf("%s with the cookie: %d, want %d", origin, w.Code, want)
		}
		// A second header does not make it a program's request.
		if w := ask(t, h, "POST", "/api/viewer", "Origin", origin, "Cookie", cookie, "Authorization", "Basic eDp5"); w.Code == http.StatusOK {
			t.Errorf("%s with the cookie and a password: %d", origin, w.Code)
		}
	}
}
