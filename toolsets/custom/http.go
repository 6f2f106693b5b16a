package custom

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// answer is the data of a call.
type answer struct {
	Status    int    `json:"status"`
	Matches   []any  `json:"matches"`
	Truncated bool   `json:"truncated"`
	Text      string `json:"text,omitempty"`
}

const (
	maxRedirects = 3
	maxText      = 16 << 10
	maxMatches   = 200
)

// Call implements tool.Tool.
func (h *httpTool) Call(ctx context.Context, args json.RawMessage) (tool.Result, error) {
	c := h.c
	values, err := c.arguments(args)
	if err != nil {
		return tool.Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, secrets, err := c.request(ctx, values)
	if err != nil {
		return tool.Result{}, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return tool.Result{}, c.failed(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.limit+1))
	if err != nil && len(body) == 0 {
		return tool.Result{}, c.failed(err)
	}
	cut := int64(len(body)) > c.limit || err != nil
	body = body[:min(int64(len(body)), c.limit)]
	for _, s := range secrets {
		// A server that echoes a header must not give the secret away.
		body = bytes.ReplaceAll(body, []byte(s), []byte("(secret)"))
	}
	if resp.StatusCode/100 != 2 {
		return tool.Result{}, c.refused(resp.StatusCode, body)
	}
	a := c.read(body, cut)
	a.Status = resp.StatusCode
	data, err := json.Marshal(a)
	if err != nil {
		return tool.Result{}, fmt.Errorf("%s: encode output: %w", c.name, err)
	}
	return tool.Result{Data: data, Text: c.text(a)}, nil
}

// arguments checks what the caller filled in.
func (c *call) arguments(args json.RawMessage) (map[string]string, error) {
	invalid := func(format string, a ...any) error {
		return &tool.Error{Kind: tool.Invalid, User: c.name + ": " + fmt.Sprintf(format, a...), Fix: "arguments: " + tool.Signature(c.schema)}
	}
	if len(bytes.TrimSpace(args)) == 0 {
		args = json.RawMessage("{}")
	}
	d := json.NewDecoder(bytes.NewReader(args))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); err != nil || d.More() {
		return nil, invalid("arguments are not valid JSON")
	}
	var plain any
	if err := json.Unmarshal(args, &plain); err != nil {
		return nil, invalid("arguments are not valid JSON")
	}
	if err := c.resolved.Validate(plain); err != nil {
		return nil, invalid("%v", err)
	}
	given, _ := raw.(map[string]any)
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch v := given[name].(type) {
		case string:
			if strings.ContainsFunc(v, unicode.IsControl) {
				return nil, invalid("%s holds control characters", name)
			}
			if re := c.patterns[name]; re != nil && !re.MatchString(v) {
				return nil, invalid("%s does not match %s", name, c.spec.Parameters[name].Pattern)
			}
			out[name] = v
		case json.Number:
			out[name] = v.String()
		case bool:
			out[name] = strconv.FormatBool(v)
		}
	}
	return out, nil
}

// request fills the parameters in and checks once more where the call goes.
func (c *call) request(ctx context.Context, values map[string]string) (*http.Request, []string, error) {
	u := *c.url
	var segments []string
	for s := range strings.SplitSeq(c.url.Path, "/") {
		filled := fill(s, values, func(v string) string { return v })
		if s != filled && (filled == "." || filled == ".." || filled == "" || strings.ContainsAny(filled, `/\`)) {
			return nil, nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s: %q cannot be a part of a path", c.name, short(filled, 80))}
		}
		segments = append(segments, filled)
	}
	u.Path, u.RawPath = strings.Join(segments, "/"), ""
	q := url.Values{}
	for k, v := range c.spec.Query {
		if s, ok := optional(v, values); ok {
			q.Set(k, s)
		}
	}
	u.RawQuery = q.Encode()
	if err := c.allowed(&u); err != nil {
		return nil, nil, err
	}
	var body io.Reader
	if c.body != nil {
		raw, err := json.Marshal(filled(c.body, values, c.spec.Parameters))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: body: %w", c.name, err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, u.String(), body)
	if err != nil {
		return nil, nil, tool.Errorf(tool.Invalid, "%s: %w", c.name, err)
	}
	req.Header.Set("User-Agent", "gumshoe")
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range c.spec.Headers {
		req.Header.Set(k, v)
	}
	var secrets []string
	for k, h := range c.spec.SecretHeaders {
		raw, err := os.ReadFile(h.File)
		if err != nil {
			return nil, nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s: the file of header %s cannot be read", c.name, k), Fix: "check tools.secretHeaders", Err: err}
		}
		v := strings.TrimSpace(string(raw))
		if strings.ContainsAny(v, "\r\n") || v == "" {
			return nil, nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%s: the file of header %s does not hold one line", c.name, k), Fix: "check tools.secretHeaders"}
		}
		if len(v) >= 4 {
			secrets = append(secrets, v)
		}
		req.Header.Set(k, h.Prefix+v)
	}
	return req, secrets, nil
}

// fill puts parameters into a text.
func fill(text string, values map[string]string, escape func(string) string) string {
	return hole.ReplaceAllStringFunc(text, func(m string) string { return escape(values[m[1:len(m)-1]]) })
}

// optional fills a text; ok is false when it has parameters and none was given.
func optional(text string, values map[string]string) (string, bool) {
	holes := hole.FindAllStringSubmatch(text, -1)
	if len(holes) > 0 && !slices.ContainsFunc(holes, func(m []string) bool { _, ok := values[m[1]]; return ok }) {
		return "", false
	}
	return fill(text, values, func(v string) string { return v }), true
}

// filled puts parameters into the texts of a JSON value. A text that is one parameter
// and nothing else takes the parameter's type; one that was left out is left out.
func filled(v any, values map[string]string, params map[string]Parameter) any {
	switch v := v.(type) {
	case string:
		if m := hole.FindStringSubmatch(v); m != nil && m[0] == v {
			s, ok := values[m[1]]
			if !ok {
				return nil
			}
			if params[m[1]].Type != "string" {
				return json.RawMessage(s)
			}
			return s
		}
		return fill(v, values, func(s string) string { return s })
	case []any:
		out := make([]any, 0, len(v))
		for _, e := range v {
			if f := filled(e, values, params); f != nil || e == nil {
				out = append(out, f)
			}
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			if f := filled(e, values, params); f != nil || e == nil {
				out[k] = f
			}
		}
		return out
	}
	return v
}

// allowed holds an address against the lists: the first request's and each redirect's.
func (c *call) allowed(u *url.URL) error {
	deny := func(format string, a ...any) error {
		return &tool.Error{Kind: tool.Forbidden, User: c.name + ": " + fmt.Sprintf(format, a...), Fix: "widen tools.allow if that is meant"}
	}
	switch {
	case u.Scheme != c.url.Scheme && u.Scheme != "https":
		return deny("%s would leave https", short(u.Redacted(), 200))
	case u.User != nil:
		return deny("an address with a user is not followed")
	case !slices.Contains(c.hosts, strings.ToLower(u.Host)):
		return deny("host %s is not allowed", short(u.Host, 100))
	case u.Path != "" && path.Clean(u.Path) != u.Path && path.Clean(u.Path)+"/" != u.Path:
		return deny("path %s is not in its shortest form", short(u.Path, 200))
	}
	if !slices.ContainsFunc(c.prefixes, func(p string) bool { return within(u.Path, p) }) {
		return deny("path %s is not allowed", short(u.Path, 200))
	}
	return nil
}

// within reports whether a path lies beneath a prefix, by whole segments.
func within(p, prefix string) bool {
	rest, ok := strings.CutPrefix(p, prefix)
	return ok && (rest == "" || prefix == "" || strings.HasSuffix(prefix, "/") || strings.HasPrefix(rest, "/"))
}

// metadata are addresses at which clouds tell machines about themselves and that are
// no link-local ones: AWS over IPv6, Alibaba, Azure's platform address.
var metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16")}

// guarded reports why an address may not be connected to without being named.
func guarded(ip netip.Addr) string {
	ip = ip.Unmap()
	switch {
	case ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast():
		return "link-local"
	case ip.IsLoopback():
		return "loopback"
	case ip.IsUnspecified() || ip.IsMulticast() || ip.IsInterfaceLocalMulticast():
		return "no host's address"
	case slices.Contains(metadata, ip):
		return "a cloud's metadata service"
	}
	return ""
}

// httpClient makes the client of one tool. The check of addresses is made on what is
// really dialled, after the name was resolved; no proxy stands between.
func (c *call) httpClient() *http.Client {
	d := &net.Dialer{Timeout: c.timeout, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %q: %w", address, err)
		}
		if why := guarded(at.Addr()); why != "" && !slices.Contains(c.addresses, at.Addr().Unmap()) {
			return &guardError{fmt.Sprintf("%s is %s and is not named under allow.addresses", at.Addr(), why)}
		}
		return nil
	}}
	return &http.Client{
		Transport: &http.Transport{DialContext: d.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: c.timeout, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return &guardError{fmt.Sprintf("more than %d redirects", maxRedirects)}
			}
			if r.Method != c.method && r.Method != http.MethodGet {
				return &guardError{"a redirect to another method"}
			}
			if err := c.allowed(r.URL); err != nil {
				return err
			}
			if r.URL.Host != via[0].URL.Host {
				// The secret is for the host it was given for.
				for k := range c.spec.SecretHeaders {
					r.Header.Del(k)
				}
			}
			return nil
		},
	}
}

// guardError is a refusal of this package's own.
type guardError struct{ text string }

func (e *guardError) Error() string { return e.text }

// failed words an error of the transport without the address's query.
func (c *call) failed(err error) error {
	if e, ok := errors.AsType[*tool.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*guardError](err); ok {
		return &tool.Error{Kind: tool.Forbidden, User: c.name + ": " + e.text, Err: err}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &tool.Error{Kind: tool.TimedOut, User: fmt.Sprintf("%s: %s does not answer within %s", c.name, c.url.Host, c.timeout), Fix: "raise the tool's timeout", Err: err}
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("%s: %s does not answer: %v", c.name, c.url.Host, err), Err: err}
}

// refused words an error status.
func (c *call) refused(code int, body []byte) error {
	kind := tool.Unreachable
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = tool.Forbidden
	case http.StatusNotFound:
		kind = tool.NotFound
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		kind = tool.Invalid
	case http.StatusTooManyRequests, http.StatusGatewayTimeout:
		kind = tool.TimedOut
	}
	text := strings.TrimSpace(strings.ToValidUTF8(string(body[:min(len(body), 300)]), ""))
	if strings.HasPrefix(text, "<") || text == "" {
		text = http.StatusText(code)
	}
	return &tool.Error{Kind: kind, User: fmt.Sprintf("%s: %s answers HTTP %d: %s", c.name, c.url.Host, code, text)}
}

// read takes the answer apart: JSON by the path, anything else as text.
func (c *call) read(body []byte, cut bool) answer {
	a := answer{Matches: []any{}, Truncated: cut}
	var v any
	if len(body) == 0 {
		return a
	}
	if err := json.Unmarshal(body, &v); err != nil {
		// A JSON that was cut off is text.
		a.Text = strings.ToValidUTF8(string(body[:min(len(body), maxText)]), "�")
		a.Truncated = a.Truncated || len(body) > maxText
		return a
	}
	if c.path == nil {
		a.Matches = append(a.Matches, v)
		return a
	}
	nodes := c.path.Select(v)
	a.Truncated = a.Truncated || len(nodes) > maxMatches
	a.Matches = append(a.Matches, nodes[:min(len(nodes), maxMatches)]...)
	return a
}

func (c *call) text(a answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s answers HTTP %d", c.url.Host, a.Status)
	if c.path != nil && a.Text == "" {
		fmt.Fprintf(&b, ", %d matches of %s", len(a.Matches), c.spec.Output.JSONPath)
	}
	if a.Truncated {
		b.WriteString(" (cut off)")
	}
	b.WriteString("\n")
	for _, m := range a.Matches {
		line, err := json.Marshal(m)
		if s, ok := m.(string); ok {
			line, err = []byte(s), nil
		}
		if err != nil {
			continue
		}
		if b.Len()+len(line) > maxText {
			b.WriteString("(more)\n")
			break
		}
		b.Write(line)
		b.WriteString("\n")
	}
	b.WriteString(a.Text)
	return b.String()
}

func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
