// Package client speaks to a gumshoe server through /api/v1. A Client has the methods
// of the server's own service, so that whoever works through that service can work
// through a server instead.
//
// The server knows by its token who asks: the persons in arguments are not sent.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
)

// Config says where the server is and who asks.
type Config struct {
	// URL of the server, such as https://gumshoe.example.com; a path is kept as prefix.
	URL string
	// TokenFile holds the bearer token; it is read again when it changes. Empty sends none.
	TokenFile string
	// CAFile holds certificates (PEM) to trust besides the system's.
	CAFile string
	// Source is the surface that asks: "cli", "tui"; empty is "api".
	Source string
	// Tries is how often in a row a stream is taken up again in vain before it ends with
	// an error; 0 means 12, which is some minutes.
	Tries int
	// OnRetry is told before a stream is taken up again, and why; nil is fine.
	OnRetry func(err error, wait time.Duration)
	// NewID makes idempotency keys; nil means crypto/rand.Text.
	NewID func() string
	// Sleep waits between the tries; nil waits by the machine's clock.
	Sleep func(ctx context.Context, d time.Duration)
}

// maxAnswer is the largest document that is read, in bytes. Reports of large runs and
// exports have tens of megabytes.
const maxAnswer = 256 << 20

// timeout is how long an answer may take: plans are compiled and dry-run meanwhile.
const timeout = 2 * time.Minute

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client

	mu    sync.Mutex
	token string
	read  stamp
	// seen are the digests of plans that were shown to whoever works through the client,
	// order their ids from the oldest.
	seen  map[string]string
	order []string
}

// stamp tells whether a file changed.
type stamp struct {
	at   time.Time
	size int64
}

// New makes a client. Nothing is sent yet, but the files are read.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("the server's address %q is no URL such as https://gumshoe.example.com", cfg.URL)
	}
	if u.Scheme == "http" && cfg.TokenFile != "" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("a token is not sent to %s in the clear: give an https address", u.Host)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), wire.Prefix)
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: timeout, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 8,
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the certificates of the server: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", cfg.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	if cfg.Source == "" {
		cfg.Source = session.API
	}
	if cfg.Tries == 0 {
		cfg.Tries = 12
	}
	if cfg.NewID == nil {
		cfg.NewID = rand.Text
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	c := &Client{cfg: cfg, base: u, seen: map[string]string{}, http: &http.Client{
		Transport: transport,
		// A redirect would send the token somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if _, err := c.bearer(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// bearer gives the token as the file has it now.
func (c *Client) bearer() (string, error) {
	if c.cfg.TokenFile == "" {
		return "", nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.cfg.TokenFile)
	if err != nil {
		return "", &tool.Error{Kind: tool.Forbidden, User: "the token cannot be read: " + err.Error(), Err: err}
	}
	now := stamp{info.ModTime(), info.Size()}
	if now == c.read && c.token != "" {
		return c.token, nil
	}
	raw, err := os.ReadFile(c.cfg.TokenFile)
	if err != nil {
		return "", &tool.Error{Kind: tool.Forbidden, User: "the token cannot be read: " + err.Error(), Err: err}
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", &tool.Error{Kind: tool.Forbidden, User: c.cfg.TokenFile + " holds no token", Fix: "write the token into it, on one line"}
	}
	c.token, c.read = token, now
	return token, nil
}

// request is one call of the API.
type request struct {
	method string
	// path below the prefix, its parts escaped.
	path   string
	query  url.Values
	header map[string]string
	body   any
	stream bool
}

// path joins parts, each as one part whatever is in it.
func path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}

// send gives the answer of the server when it is a success.
func (c *Client) send(ctx context.Context, q request) (*http.Response, error) {
	u := c.base.JoinPath(wire.Prefix).String() + q.path
	if len(q.query) > 0 {
		u += "?" + q.query.Encode()
	}
	var body io.Reader
	if q.body != nil {
		raw, err := json.Marshal(q.body)
		if err != nil {
			return nil, &tool.Error{Kind: tool.Invalid, User: "the request cannot be written: " + err.Error(), Err: err}
		}
		body = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, q.method, u, body)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Invalid, User: err.Error(), Err: err}
	}
	r.Header.Set("Accept", "application/json")
	if q.stream {
		r.Header.Set("Accept", "text/event-stream")
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	token, err := c.bearer()
	if err != nil {
		return nil, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, refusal(resp)
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind := tool.Unreachable
	if e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && e.Timeout() {
		kind = tool.TimedOut
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the address a second time
	}
	return &tool.Error{Kind: kind, User: fmt.Sprintf("the server %s cannot be reached: %v", c.base.Host, err), Fix: "check its address, and that it runs", Err: err}
}

// Refused is the answer of a server that is no success, as the cause of a *tool.Error.
type Refused struct {
	Status int
	// Code is the server's word for it, such as "digest_differs".
	Code string
	// RetryAfter is what the server asks to wait, 0 where it does not say.
	RetryAfter time.Duration
}

// Error implements error.
func (e *Refused) Error() string {
	return fmt.Sprintf("the server answers %d %s", e.Status, e.Code)
}

// refusal reads the error of an answer.
func refusal(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what is cut is said by its status
	cause := &Refused{Status: resp.StatusCode}
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		cause.RetryAfter = time.Duration(min(n, 3600)) * time.Second
	}
	return problem(raw, cause)
}

// problem makes an error of the document of one.
func problem(raw []byte, cause *Refused) *tool.Error {
	var p struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Fix     string `json:"fix"`
		} `json:"error"`
	}
	if err := json.Unmarshal(raw, &p); err != nil || p.Error.Message == "" {
		text := http.StatusText(cause.Status)
		return &tool.Error{Kind: kindOf("", cause.Status), User: strings.TrimSpace(fmt.Sprintf("the server answers %d %s", cause.Status, text)), Fix: "check that the address is that of a gumshoe server", Err: cause}
	}
	cause.Code = p.Error.Code
	return &tool.Error{Kind: kindOf(p.Error.Code, cause.Status), User: p.Error.Message, Fix: p.Error.Fix, Err: cause}
}

func kindOf(code string, status int) tool.Kind {
	switch k := tool.Kind(code); k {
	case tool.NotFound, tool.Forbidden, tool.Unreachable, tool.Invalid, tool.TimedOut, tool.NotServed, tool.Internal:
		return k
	}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return tool.Forbidden
	case status == http.StatusNotFound:
		return tool.NotFound
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == http.StatusBadGateway:
		return tool.Unreachable
	case status == http.StatusGatewayTimeout:
		return tool.TimedOut
	case status == http.StatusNotImplemented, status == http.StatusMethodNotAllowed:
		return tool.NotServed
	case status >= 400 && status < 500:
		return tool.Invalid
	}
	return tool.Internal
}

// call sends a request and reads the document of the answer.
func call[T any](ctx context.Context, c *Client, q request) (T, error) {
	var out T
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := c.bytes(ctx, q)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, &tool.Error{Kind: tool.Internal, User: "the answer of the server is not understood", Fix: "the server and this program may be of different versions", Err: err}
	}
	return out, nil
}

func (c *Client) bytes(ctx context.Context, q request) ([]byte, error) {
	resp, err := c.send(ctx, q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, c.unreachable(ctx, err)
	case len(raw) > maxAnswer:
		return nil, &tool.Error{Kind: tool.Internal, User: fmt.Sprintf("the answer of the server is larger than %d bytes", maxAnswer)}
	}
	return raw, nil
}

// pages gives all items of a list that the server gives in pages.
func pages[P, T any](ctx context.Context, c *Client, q request, limit int, items func(P) ([]T, string, []string)) ([]T, error) {
	var out []T
	var unread []string
	if q.query == nil {
		q.query = url.Values{}
	}
	for {
		n := 200
		if limit > 0 {
			n = min(n, limit-len(out))
		}
		q.query.Set("limit", strconv.Itoa(n))
		p, err := call[P](ctx, c, q)
		if err != nil {
			return out, err
		}
		some, next, problems := items(p)
		out = append(out, some...)
		unread = problems
		if next == "" || next == q.query.Get("cursor") || limit > 0 && len(out) >= limit {
			break
		}
		q.query.Set("cursor", next)
	}
	if len(unread) > 0 {
		return out, &tool.Error{Kind: tool.Internal, User: strings.Join(unread, "; ")}
	}
	return out, nil
}
