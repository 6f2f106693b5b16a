package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Config says who may enter. The tagged fields are the section server.auth of the
// configuration, and TLS is server.tls; the rest is wiring.
type Config struct {
	// OIDC is the provider whose bearer tokens and sign-ins are accepted.
	OIDC OIDCConfig `json:"oidc,omitzero"`
	// TokenReview accepts tokens that the cluster knows. An empty section is enough.
	TokenReview *TokenReviewConfig `json:"tokenReview,omitempty"`
	// Tokens are static bearer tokens from files.
	Tokens []TokenConfig `json:"tokens,omitempty"`
	// Roles gives persons their roles; the highest that matches counts.
	Roles RolesConfig `json:"roles,omitzero"`
	Rate  RateConfig  `json:"rate,omitzero"`
	// AllowedOrigins are origins ("https://host[:port]") whose pages may call the API
	// with a bearer token, or without one where the server is loopback only.
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
	// TrustedProxies are addresses or networks in CIDR notation of proxies before the
	// server. From them alone X-Forwarded-For and X-Forwarded-Proto are believed.
	TrustedProxies []string `json:"trustedProxies,omitempty"`
	// SessionTTL is how long a sign-in lasts; 0 means 8 hours.
	SessionTTL Duration `json:"sessionTTL,omitempty"`
	// SessionKeyFile holds the keys of the session cookies, one a line, at least 32
	// characters each: the first seals, all of them open. Empty means a key of this
	// process: sessions then end with it, and several replicas refuse each other's.
	SessionKeyFile string `json:"sessionKeyFile,omitempty"`
	// DrainTimeout is how long running requests may take once the server is asked to
	// end; 0 means 20 seconds.
	DrainTimeout Duration `json:"drainTimeout,omitempty"`

	// TLS is the server's certificate.
	TLS TLSConfig `json:"tls,omitzero"`

	// Reviewer answers TokenReview; it is required when that is configured.
	Reviewer TokenReviewer `json:"-"`
	// Revocations shares ended sessions between replicas; nil keeps them in memory.
	Revocations Revocations `json:"-"`
	// OnDenied is told of every request that was refused entrance, nil is fine. It
	// must not block.
	OnDenied func(ctx context.Context, reason string, r Denied) `json:"-"`
	// Previous is the gate that this one replaces when the configuration is read again:
	// sign-ins, sign-outs and the counts of callers go on. Nil means none.
	Previous *Gate `json:"-"`
	// Log takes the access log; nil means none.
	Log *slog.Logger `json:"-"`
	// Now is the clock; nil means the machine's.
	Now func() time.Time `json:"-"`
	// NewID makes ids of requests and sessions that nobody can guess; nil means
	// crypto/rand.Text.
	NewID func() string `json:"-"`
}

// Denied is a request that was refused entrance.
type Denied struct {
	// ID of the request, as the access log and the X-Request-Id header have it.
	ID     string
	Method string
	// Path without the query.
	Path string
	// Remote is the address it came from.
	Remote string
	// Status that was answered: 401, 403 or 429.
	Status int
	// Person as far as they were known.
	Person incident.Person
	// Needs is the role that the route asks for; None where it was not the role.
	Needs Role
}

// OIDCConfig names an OpenID Connect provider. The claims and prefixes mean what
// kube-apiserver's flags of the same names do (--oidc-username-claim ...), and have
// to say the same where the cluster should know the same people.
type OIDCConfig struct {
	// Issuer is the URL that tokens carry as iss; discovery is asked below it.
	Issuer string `json:"issuer,omitempty"`
	// ClientID of gumshoe at the provider.
	ClientID string `json:"clientID,omitempty"`
	// ClientSecretFile holds the client's secret; a public client has none.
	ClientSecretFile string `json:"clientSecretFile,omitempty"`
	// Audience that bearer tokens are for; empty means ClientID.
	Audience string `json:"audience,omitempty"`
	// UsernameClaim is the claim that names the person; empty means sub. With email, a
	// token that says email_verified: false is refused.
	UsernameClaim string `json:"usernameClaim,omitempty"`
	// UsernamePrefix goes before the name; empty means ISSUER# unless the claim is
	// email, and "-" means none: as kube-apiserver has it.
	UsernamePrefix string `json:"usernamePrefix,omitempty"`
	// GroupsClaim is the claim that lists groups; empty means no groups.
	GroupsClaim  string `json:"groupsClaim,omitempty"`
	GroupsPrefix string `json:"groupsPrefix,omitempty"`
	// Scopes that sign-in asks for besides openid; empty means profile and email.
	Scopes []string `json:"scopes,omitempty"`
	// RedirectURL is where the provider sends people back to: the server's own address
	// and /auth/callback. Empty means that there is no sign-in by browser.
	RedirectURL string `json:"redirectURL,omitempty"`
	// CAFile holds certificates (PEM) to trust for the provider besides the system's.
	CAFile string `json:"caFile,omitempty"`
}

// TokenReviewConfig says which tokens the cluster is asked about.
type TokenReviewConfig struct {
	// Audiences that tokens must be for; empty means the cluster's own.
	Audiences []string `json:"audiences,omitempty"`
}

// TokenConfig is one static bearer token.
type TokenConfig struct {
	// Name of the person or program.
	Name   string   `json:"name"`
	Groups []string `json:"groups,omitempty"`
	// Role of whoever brings it; empty means what Roles gives the name and groups.
	Role string `json:"role,omitempty"`
	// File holds the token, at least 20 characters; it is read again when it changes.
	File string `json:"file"`
}

// RolesConfig says who has which role.
type RolesConfig struct {
	Viewer   Members `json:"viewer,omitzero"`
	Asker    Members `json:"asker,omitzero"`
	Approver Members `json:"approver,omitzero"`
	Admin    Members `json:"admin,omitzero"`
}

// Members are persons by name and by group. The user "*" is everybody who is signed
// in, for viewer and asker alone.
type Members struct {
	Users  []string `json:"users,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

func (m Members) empty() bool { return len(m.Users)+len(m.Groups) == 0 }

func (m Members) has(p incident.Person) bool {
	if slices.Contains(m.Users, everybody) || slices.Contains(m.Users, p.Name) {
		return true
	}
	return slices.ContainsFunc(p.Groups, func(g string) bool { return slices.Contains(m.Groups, g) })
}

const everybody = "*"

// of gives the members of a role.
func (c RolesConfig) of(r Role) Members {
	switch r {
	case Viewer:
		return c.Viewer
	case Asker:
		return c.Asker
	case Approver:
		return c.Approver
	case Admin:
		return c.Admin
	}
	return Members{}
}

// role gives the highest role whose members a person is among.
func (c RolesConfig) role(p incident.Person) Role {
	for r := Admin; r > None; r-- {
		if c.of(r).has(p) {
			return r
		}
	}
	return None
}

func (c RolesConfig) empty() bool {
	return c.Viewer.empty() && c.Asker.empty() && c.Approver.empty() && c.Admin.empty()
}

// TLSConfig names the files of the server's certificate. They are read again when
// they change.
type TLSConfig struct {
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	// ClientCAFile, where given, asks every client for a certificate of these
	// authorities. It is one more door, and names nobody: authentication is still asked.
	ClientCAFile string `json:"clientCAFile,omitempty"`
}

func (c TLSConfig) on() bool { return c != TLSConfig{} }

// RateConfig bounds the requests of one person, or of one address where the person
// is not known. A server that is loopback only has no such bound.
type RateConfig struct {
	// PerMinute is how many requests a minute; 0 means 600.
	PerMinute int `json:"perMinute,omitempty"`
	// Burst is how many at once; 0 means 200.
	Burst int `json:"burst,omitempty"`
}

// Duration is written as "30s" or "8h".
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return fmt.Errorf("%s is not a duration in quotes such as \"8h\"", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30m or 8h", s)
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	return []byte(strconv.Quote(time.Duration(d).String())), nil
}

// Authenticated says whether any authentication is configured. Without, the server
// is loopback only.
func (c Config) Authenticated() bool {
	return c.OIDC.Issuer != "" || c.TokenReview != nil || len(c.Tokens) > 0
}

// Validate checks the tagged fields against each other; the error names the field.
func (c Config) Validate() error {
	if err := c.OIDC.validate(); err != nil {
		return err
	}
	if err := validateTokens(c.Tokens); err != nil {
		return err
	}
	if err := c.Roles.validate(); err != nil {
		return err
	}
	tokenRoles := slices.ContainsFunc(c.Tokens, func(t TokenConfig) bool { return t.Role != "" })
	switch {
	case !c.Authenticated() && !c.Roles.empty():
		return errors.New("server.auth.roles is given, but nobody can sign in: configure server.auth.oidc, tokenReview or tokens")
	case c.Authenticated() && c.Roles.empty() && !tokenRoles:
		return errors.New("server.auth.roles is empty: whoever signs in could do nothing; give viewer, asker, approver or admin users or groups")
	case c.Rate.PerMinute < 0 || c.Rate.Burst < 0:
		return errors.New("server.auth.rate: perMinute and burst cannot be negative")
	case c.SessionTTL < 0 || c.SessionTTL > Duration(30*24*time.Hour):
		return fmt.Errorf("server.auth.sessionTTL %s: a sign-in lasts between a moment and 30 days", time.Duration(c.SessionTTL))
	case c.DrainTimeout < 0:
		return errors.New("server.auth.drainTimeout cannot be negative")
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("server.tls: certFile and keyFile are given together")
	case c.TLS.ClientCAFile != "" && c.TLS.CertFile == "":
		return errors.New("server.tls.clientCAFile needs certFile and keyFile: clients show certificates over TLS only")
	}
	for _, o := range c.AllowedOrigins {
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.Scheme+"://"+u.Host != o {
			return fmt.Errorf("server.auth.allowedOrigins: %q is no origin such as https://portal.example.com", o)
		}
	}
	_, err := parseNetworks(c.TrustedProxies)
	return err
}

func (c OIDCConfig) validate() error {
	if c.Issuer == "" {
		if c.ClientID+c.ClientSecretFile+c.Audience+c.UsernameClaim+c.UsernamePrefix+c.GroupsClaim+c.GroupsPrefix+c.RedirectURL+c.CAFile != "" || len(c.Scopes) > 0 {
			return errors.New("server.auth.oidc.issuer is missing")
		}
		return nil
	}
	if err := secureURL("server.auth.oidc.issuer", c.Issuer); err != nil {
		return err
	}
	if c.ClientID == "" && c.Audience == "" {
		return errors.New("server.auth.oidc.clientID is missing: without it, or an audience, a token for any other program would be accepted")
	}
	if c.RedirectURL == "" {
		return nil
	}
	if c.ClientID == "" {
		return errors.New("server.auth.oidc.redirectURL needs clientID: a sign-in is for a client of the provider")
	}
	if err := secureURL("server.auth.oidc.redirectURL", c.RedirectURL); err != nil {
		return err
	}
	if u, err := url.Parse(c.RedirectURL); err != nil || u.Path != callbackPath || u.RawQuery != "" {
		return fmt.Errorf("server.auth.oidc.redirectURL %q has to end with %s, where the server takes sign-ins back", c.RedirectURL, callbackPath)
	}
	return nil
}

// secureURL refuses an address that is neither https nor loopback: codes and tokens
// travel there.
func secureURL(field, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%s %q is no URL such as https://login.example.com", field, raw)
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopbackName(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%s %q has to be https: tokens travel there", field, raw)
}

// reserved marks names that a cluster keeps for itself: system:masters may do
// anything there, whoever says it.
const reserved = "system:"

func validateTokens(tokens []TokenConfig) error {
	seen := map[string]bool{}
	for i, t := range tokens {
		field := fmt.Sprintf("server.auth.tokens[%d]", i)
		switch {
		case t.Name == "" || t.File == "":
			return fmt.Errorf("%s: name and file are both needed", field)
		case seen[t.Name]:
			return fmt.Errorf("%s: the name %q is given twice", field, t.Name)
		case strings.HasPrefix(t.Name, reserved):
			return fmt.Errorf("%s: the name %q begins with %s, which a cluster keeps for itself", field, t.Name, reserved)
		}
		seen[t.Name] = true
		for _, g := range t.Groups {
			if strings.HasPrefix(g, reserved) {
				return fmt.Errorf("%s: the group %q begins with %s, which a cluster keeps for itself", field, g, reserved)
			}
		}
		if t.Role == "" {
			continue
		}
		if _, err := ParseRole(t.Role); err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
	}
	return nil
}

func (c RolesConfig) validate() error {
	for r := Viewer; r <= Admin; r++ {
		m := c.of(r)
		for _, name := range slices.Concat(m.Users, m.Groups) {
			if strings.TrimSpace(name) == "" {
				return fmt.Errorf("server.auth.roles.%s holds an empty name", r)
			}
		}
		if slices.Contains(m.Groups, everybody) {
			return fmt.Errorf("server.auth.roles.%s.groups: %q is no group; everybody is written in users", r, everybody)
		}
		if r >= Approver && slices.Contains(m.Users, everybody) {
			return fmt.Errorf("server.auth.roles.%s.users: %q would let everybody who is signed in change clusters; name them", r, everybody)
		}
	}
	return nil
}

func parseNetworks(raw []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range raw {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("server.auth.trustedProxies: %q is neither an address nor a network such as 10.0.0.0/8", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// loopbackName says whether a host without port can only be this machine.
func loopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.Unmap().IsLoopback()
}

// hostOnly takes the port off a Host header.
func hostOnly(hostport string) string {
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		return h
	}
	return hostport
}
