package prom

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Endpoint is a server of one of the HTTP APIs.
type Endpoint struct {
	// URL is the base of the API, before /api/v1 or /api/v2. Empty means that
	// there is none.
	URL string
	// Client reaches it and carries the credentials; nil means a plain one.
	Client *http.Client
	// Origin says how the endpoint came to be known, for people: "configured".
	Origin string
}

// Credentials are how a server of metrics lets gumshoe in.
type Credentials struct {
	// Headers are sent with every request, for example X-Scope-OrgID.
	Headers map[string]string
	// BearerTokenFile is read for every request, so that a rotated token is used.
	BearerTokenFile string
	Username        string
	PasswordFile    string
	// CAFile, CertFile and KeyFile are PEM files; empty means the system's roots
	// and no client certificate.
	CAFile, CertFile, KeyFile string
	// ServerName overrides the name the certificate is checked for.
	ServerName string
	// InsecureSkipVerify accepts any certificate.
	InsecureSkipVerify bool
}

// NewEndpoint makes an Endpoint from a configured address. It fails when the
// address is no http or https URL or a file of the credentials cannot be used.
func NewEndpoint(address string, c Credentials) (Endpoint, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return Endpoint{}, fmt.Errorf("url %q is no http or https address such as https://prometheus.example:9090", address)
	}
	if u.User != nil {
		return Endpoint{}, errors.New("url carries a user; use username and passwordFile")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify} //nolint:gosec // the user's own choice
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return Endpoint{}, fmt.Errorf("caFile: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return Endpoint{}, fmt.Errorf("caFile %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return Endpoint{}, fmt.Errorf("certFile and keyFile: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	for _, f := range []string{c.BearerTokenFile, c.PasswordFile} {
		if f == "" {
			continue
		}
		if _, err := os.Stat(f); err != nil {
			return Endpoint{}, fmt.Errorf("credentials: %w", err)
		}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second}
	return Endpoint{URL: strings.TrimSuffix(address, "/"), Origin: "configured", Client: &http.Client{Transport: &authorize{next: transport, host: u.Host, c: c}}}, nil
}

// authorize puts credentials on requests to one host, and to no other: a
// redirect must not carry them away.
type authorize struct {
	next http.RoundTripper
	host string
	c    Credentials
}

var _ http.RoundTripper = (*authorize)(nil)

// RoundTrip implements http.RoundTripper.
func (a *authorize) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != a.host {
		return a.next.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	for k, v := range a.c.Headers {
		r.Header.Set(k, v)
	}
	if a.c.BearerTokenFile != "" {
		raw, err := os.ReadFile(a.c.BearerTokenFile)
		if err != nil {
			return nil, fmt.Errorf("bearerTokenFile: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(raw)))
	}
	if a.c.PasswordFile != "" {
		raw, err := os.ReadFile(a.c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("passwordFile: %w", err)
		}
		r.SetBasicAuth(a.c.Username, strings.TrimRight(string(raw), "\r\n"))
	}
	return a.next.RoundTrip(r)
}

// maxAnswer is how many bytes one answer may have.
const maxAnswer = 48 << 20

// maxURL is how long a query string may be: what common proxies accept.
const maxURL = 7 << 10

// statusError is an answer with a status that is none of the API's own.
type statusError struct {
	code int
	// kind and text are the API's own words where the body has them.
	kind, text string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("HTTP %d: %s", e.code, e.text)
}

// Errors of answers that cannot be used.
var (
	errTooLarge = fmt.Errorf("the answer has more than %d MiB", maxAnswer>>20)
	errCut      = errors.New("the answer is cut off")
	errNoAPI    = errors.New("answers with a web page, not with an API: a login page or another service is in the way")
	errLong     = fmt.Errorf("the query is longer than %d bytes", maxURL)
)

// guard makes answers of any server safe to decode: it bounds them, tells pages
// of HTML from the API, and gives statuses that are none of the API's own as
// errors. All requests become GET: reading needs no other right, neither of
// Prometheus nor of an API server that stands before it.
type guard struct{ next http.RoundTripper }

var _ http.RoundTripper = guard{}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost {
		form, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, err
		}
		get := r.Clone(r.Context())
		get.Method, get.Body, get.ContentLength, get.GetBody = http.MethodGet, nil, 0, nil
		get.Header.Del("Content-Type")
		u := *r.URL
		u.RawQuery = string(form)
		get.URL = &u
		r = get
	}
	if len(r.URL.RawQuery) > maxURL {
		return nil, errLong
	}
	r.Header.Set("Accept", "application/json")
	res, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	_ = res.Body.Close()
	switch {
	case r.Context().Err() != nil:
		return nil, r.Context().Err()
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errCut, err)
	case len(raw) > maxAnswer:
		return nil, errTooLarge
	case res.ContentLength > int64(len(raw)) && r.Method != http.MethodHead:
		return nil, errCut
	}
	if err := judge(res, raw); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(raw))
	return res, nil
}

// judge tells whether an answer may be handed on.
func judge(res *http.Response, raw []byte) error {
	trimmed := bytes.TrimSpace(raw)
	page := bytes.HasPrefix(trimmed, []byte("<"))
	var body struct {
		ErrorType string `json:"errorType"`
		Error     string `json:"error"`
		Message   string `json:"message"` // of an API server
	}
	isJSON := json.Unmarshal(trimmed, &body) == nil
	switch code := res.StatusCode; {
	case code/100 == 2 && page:
		return errNoAPI
	case code/100 == 2, code/100 == 3:
		return nil
	case (code == http.StatusBadRequest || code == http.StatusUnprocessableEntity) && isJSON && body.ErrorType != "":
		return nil // the API's own refusals, which the client reads
	case isJSON && body.Error != "":
		return &statusError{code, body.ErrorType, body.Error}
	case isJSON && body.Message != "":
		return &statusError{code: code, text: body.Message}
	case page || len(trimmed) == 0:
		return &statusError{code: code, text: http.StatusText(code)}
	default:
		return &statusError{code: code, text: clip(strings.Join(strings.Fields(string(trimmed)), " "), 200)}
	}
}

// guarded gives a client whose answers pass a guard. Redirects to another host
// are not followed: they lead to login pages.
func guarded(c *http.Client) *http.Client {
	out := http.Client{}
	if c != nil {
		out = *c
	}
	if out.Transport == nil {
		out.Transport = http.DefaultTransport
	}
	out.Transport = guard{out.Transport}
	out.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Host != via[0].URL.Host {
			return fmt.Errorf("redirects to %s: %w", r.URL.Host, errNoAPI)
		}
		if len(via) >= 5 {
			return errors.New("redirects without end")
		}
		return nil
	}
	return &out
}

// clip shortens a text to n bytes on a rune's border, and says so.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	cut := n
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:cut], len(s))
}
