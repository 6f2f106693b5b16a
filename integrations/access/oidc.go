package access

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

const (
	// clockSkew is how far the provider's clock and ours may be apart.
	clockSkew = time.Minute
	// discoveryPause keeps a provider that cannot be reached from being asked by every
	// request.
	discoveryPause  = 5 * time.Second
	providerTimeout = 10 * time.Second
)

// provider verifies what an OpenID Connect provider signs. It is asked for its
// addresses and keys when first needed: a provider that is down does not keep the
// server from starting, and keys that it changes are found by their id.
type provider struct {
	cfg    OIDCConfig
	now    func() time.Time
	client *http.Client
	secret string

	mu     sync.Mutex
	found  *oidc.Provider
	failed error
	retry  time.Time
}

func newProvider(cfg OIDCConfig, now func() time.Time) (*provider, error) {
	p := &provider{cfg: cfg, now: now, client: &http.Client{Timeout: providerTimeout}}
	if cfg.ClientSecretFile != "" {
		raw, err := os.ReadFile(cfg.ClientSecretFile)
		if err != nil {
			return nil, fmt.Errorf("server.auth.oidc.clientSecretFile: %w", err)
		}
		if p.secret = strings.TrimSpace(string(raw)); p.secret == "" {
			return nil, fmt.Errorf("server.auth.oidc.clientSecretFile %s is empty", cfg.ClientSecretFile)
		}
	}
	if cfg.CAFile != "" {
		raw, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("server.auth.oidc.caFile: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("server.auth.oidc.caFile %s holds no certificate", cfg.CAFile)
		}
		t, ok := http.DefaultTransport.(*http.Transport)
		if !ok {
			t = &http.Transport{Proxy: http.ProxyFromEnvironment}
		}
		t = t.Clone()
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		p.client.Transport = t
	}
	return p, nil
}

// discover gives the provider's addresses and keys.
func (p *provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	now := p.now()
	if p.failed != nil && now.Before(p.retry) {
		return nil, p.failed
	}
	// Not the request's context: who hangs up does not fail the others who wait.
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), p.client), providerTimeout)
	defer cancel()
	found, err := oidc.NewProvider(ctx, p.cfg.Issuer)
	if err != nil {
		p.failed, p.retry = p.unreachable(err), now.Add(discoveryPause)
		return nil, p.failed
	}
	p.found, p.failed = found, nil
	return found, nil
}

func (p *provider) unreachable(err error) error {
	return &Error{Status: http.StatusServiceUnavailable, Code: "unavailable", User: "the sign-in provider " + p.cfg.Issuer + " cannot be reached or is no OpenID Connect provider", Fix: "try again in a moment; the server's log says more", RetryAfter: discoveryPause, Err: err}
}

// bearer says whose bearer token this is.
func (p *provider) bearer(ctx context.Context, token string) (caller, error) {
	verified, err := p.verify(ctx, token, cmp.Or(p.cfg.Audience, p.cfg.ClientID))
	if err != nil {
		return caller{}, err
	}
	return p.caller(verified)
}

// verify holds a token against signature, algorithm, issuer, audience and time. The
// algorithms are the asymmetric ones that the provider says it uses, never none.
func (p *provider) verify(ctx context.Context, token, audience string) (*oidc.IDToken, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	// The library's own leeway is none for the end and five minutes for the beginning;
	// both are checked below instead.
	v := found.Verifier(&oidc.Config{ClientID: audience, SkipExpiryCheck: true})
	verified, err := v.Verify(oidc.ClientContext(ctx, p.client), token)
	if err != nil {
		if strings.HasPrefix(err.Error(), "failed to verify signature: fetching keys") {
			return nil, p.unreachable(err)
		}
		e := unauthorized("invalid_token", "the token is not one that "+p.cfg.Issuer+" made for this server", "sign in again; the server asks for the audience "+audience)
		e.Err = err
		return nil, e
	}
	var times struct {
		NotBefore float64 `json:"nbf"`
	}
	if err := verified.Claims(&times); err != nil {
		e := unauthorized("invalid_token", "the token's claims cannot be read", "")
		e.Err = err
		return nil, e
	}
	now := p.now()
	switch {
	case verified.Expiry.IsZero() || verified.Expiry.Unix() <= 0:
		return nil, unauthorized("invalid_token", "the token never expires, which this server does not take", "")
	case !now.Before(verified.Expiry.Add(clockSkew)):
		return nil, unauthorized("token_expired", "the token has expired", "sign in again")
	case times.NotBefore > float64(now.Add(clockSkew).Unix()), now.Add(clockSkew).Before(verified.IssuedAt):
		return nil, unauthorized("invalid_token", "the token is not valid yet", "the clocks of the provider and the server differ by more than a minute")
	}
	return verified, nil
}

// caller reads name and groups from a verified token, as kube-apiserver would. Names
// that a cluster keeps for itself are nobody's.
func (p *provider) caller(token *oidc.IDToken) (caller, error) {
	claims := map[string]json.RawMessage{}
	if err := token.Claims(&claims); err != nil {
		e := unauthorized("invalid_token", "the token's claims cannot be read", "")
		e.Err = err
		return caller{}, e
	}
	claim := cmp.Or(p.cfg.UsernameClaim, "sub")
	var name string
	if err := json.Unmarshal(claims[claim], &name); err != nil || strings.TrimSpace(name) == "" {
		return caller{}, unauthorized("invalid_token", "the token has no claim "+claim+" that names a person", "server.auth.oidc.usernameClaim says which claim it is")
	}
	if claim == "email" && len(claims["email_verified"]) > 0 {
		var verified bool
		if err := json.Unmarshal(claims["email_verified"], &verified); err != nil || !verified {
			return caller{}, unauthorized("invalid_token", "the provider has not verified the e-mail address "+name, "")
		}
	}
	name = p.prefix(claim) + name
	if strings.HasPrefix(name, reserved) {
		return caller{}, unauthorized("invalid_token", "the token names "+name+", and a cluster keeps names with "+reserved+" for itself", "")
	}
	groups, err := p.groups(claims)
	if err != nil {
		return caller{}, err
	}
	return caller{person: incident.Person{Name: name, Groups: groups, Proof: proofLogin}, expiry: token.Expiry}, nil
}

// prefix is what goes before a name, by kube-apiserver's rule.
func (p *provider) prefix(claim string) string {
	switch {
	case p.cfg.UsernamePrefix == "-":
		return ""
	case p.cfg.UsernamePrefix != "" || claim == "email":
		return p.cfg.UsernamePrefix
	}
	return p.cfg.Issuer + "#"
}

// groups reads the groups claim, which is a list or one name.
func (p *provider) groups(claims map[string]json.RawMessage) ([]string, error) {
	raw := claims[p.cfg.GroupsClaim]
	if p.cfg.GroupsClaim == "" || len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		var one string
		if json.Unmarshal(raw, &one) != nil {
			return nil, unauthorized("invalid_token", "the token's claim "+p.cfg.GroupsClaim+" is no list of groups", "server.auth.oidc.groupsClaim says which claim it is")
		}
		list = []string{one}
	}
	for i := range list {
		list[i] = p.cfg.GroupsPrefix + list[i]
	}
	return slices.DeleteFunc(list, func(g string) bool { return g == p.cfg.GroupsPrefix || strings.HasPrefix(g, reserved) }), nil
}

// oauth is the client of the authorization code flow.
func (p *provider) oauth(found *oidc.Provider) *oauth2.Config {
	scopes := p.cfg.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email"}
	}
	if !slices.Contains(scopes, oidc.ScopeOpenID) {
		scopes = append([]string{oidc.ScopeOpenID}, scopes...)
	}
	return &oauth2.Config{ClientID: p.cfg.ClientID, ClientSecret: p.secret, Endpoint: found.Endpoint(), RedirectURL: p.cfg.RedirectURL, Scopes: scopes}
}

// begin gives the address at the provider where a sign-in starts.
func (p *provider) begin(ctx context.Context, l login) (string, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	return p.oauth(found).AuthCodeURL(l.State, oidc.Nonce(l.Nonce), oauth2.S256ChallengeOption(l.Verifier)), nil
}

// finish changes a code for who signed in.
func (p *provider) finish(ctx context.Context, l login, code string) (caller, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return caller{}, err
	}
	tok, err := p.oauth(found).Exchange(oidc.ClientContext(ctx, p.client), code, oauth2.VerifierOption(l.Verifier))
	if err != nil {
		if _, ok := errors.AsType[*oauth2.RetrieveError](err); !ok {
			return caller{}, p.unreachable(err)
		}
		e := unauthorized("sign_in_failed", "the provider did not accept this sign-in", "sign in again")
		e.Err = err
		return caller{}, e
	}
	raw, _ := tok.Extra("id_token").(string)
	if raw == "" {
		return caller{}, &Error{Status: http.StatusBadGateway, Code: "sign_in_failed", User: "the provider answered without an id_token", Fix: "the client has to be one for OpenID Connect, with the scope openid"}
	}
	verified, err := p.verify(ctx, raw, p.cfg.ClientID)
	if err != nil {
		return caller{}, err
	}
	if verified.Nonce != l.Nonce {
		return caller{}, unauthorized("sign_in_failed", "the provider's answer belongs to another sign-in", "sign in again")
	}
	var party struct {
		AZP string `json:"azp"`
	}
	if err := verified.Claims(&party); err != nil || party.AZP != "" && party.AZP != p.cfg.ClientID {
		return caller{}, unauthorized("sign_in_failed", "the provider's answer was made for another client", "")
	}
	who, err := p.caller(verified)
	// The token is proof of this moment alone: how long the sign-in lasts is ours to say.
	who.expiry = time.Time{}
	return who, err
}
