// Package custom makes tools of HTTP endpoints that a configuration describes: a
// CMDB, a deployment log, a ticket search, a store of logs. What is called is fixed by
// the configuration: host, path, method and headers; a caller fills typed parameters
// only. Nothing is written, no shell is run, and no redirect leaves what is allowed.
package custom

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/theory/jsonpath"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Spec describes one tool. Unknown fields are for the decoder to refuse.
type Spec struct {
	// Name of the tool; "custom_" is put before it.
	Name string `json:"name"`
	// Description is what a model is told: what it answers and when to use it.
	Description string `json:"description"`
	// URL with parameters in braces in its path: https://cmdb.example.com/api/hosts/{host}
	URL string `json:"url"`
	// Method is GET (the default), HEAD, or POST with readOnly.
	Method string `json:"method,omitempty"`
	// ReadOnly declares that a POST only reads.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Probe says that the call touches a workload, so that it is asked for first.
	Probe bool `json:"probe,omitempty"`
	// Query are the parameters of the query string; values may hold {parameters}. A
	// value all of whose parameters are left out is left out.
	Query map[string]string `json:"query,omitempty"`
	// Headers are sent as they are; they hold no secrets and no parameters.
	Headers map[string]string `json:"headers,omitempty"`
	// SecretHeaders are read from files at each call.
	SecretHeaders map[string]SecretHeader `json:"secretHeaders,omitempty"`
	// Body of a POST: JSON whose texts may be "{parameter}".
	Body json.RawMessage `json:"body,omitempty"`
	// Parameters that a caller may fill, by name.
	Parameters map[string]Parameter `json:"parameters,omitempty"`
	Output     Output               `json:"output,omitzero"`
	// Timeout of one call, "10s" by default, at most "60s".
	Timeout string `json:"timeout,omitempty"`
	Allow   Allow  `json:"allow,omitzero"`
}

// SecretHeader is a header whose value stands in a file.
type SecretHeader struct {
	File string `json:"file"`
	// Prefix is put before the value: "Bearer ".
	Prefix string `json:"prefix,omitempty"`
}

// Parameter is what a caller may fill in.
type Parameter struct {
	// Type is string, integer, number or boolean.
	Type        string `json:"type"`
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	// Pattern is an RE2 expression that the whole of a string must match.
	Pattern string   `json:"pattern,omitempty"`
	Enum    []string `json:"enum,omitempty"`
	// MaxLength of a string in characters; 256 by default.
	MaxLength int      `json:"maxLength,omitempty"`
	Minimum   *float64 `json:"minimum,omitempty"`
	Maximum   *float64 `json:"maximum,omitempty"`
}

// Output says what of an answer is shown.
type Output struct {
	// JSONPath (RFC 9535) selects from a JSON answer.
	JSONPath string `json:"jsonPath,omitempty"`
	// MaxBytes of an answer that are read; 1 MiB by default, at most 8 MiB.
	MaxBytes int64 `json:"maxBytes,omitempty"`
}

// Allow widens or narrows where calls and their redirects may go.
type Allow struct {
	// Hosts, with a port where it is not the scheme's own; that of the URL is always allowed.
	Hosts []string `json:"hosts,omitempty"`
	// Paths are prefixes; default: the URL's path up to its first parameter.
	Paths []string `json:"paths,omitempty"`
	// Addresses are link-local, loopback or metadata addresses that may be connected
	// to. Without being named here none is, whatever a host name resolves to.
	Addresses []string `json:"addresses,omitempty"`
}

const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = time.Minute
	defaultBytes   = 1 << 20
	maxBytes       = 8 << 20
	defaultLength  = 256
	maxTools       = 64
	maxParameters  = 16
)

// call is a Spec that was checked.
type call struct {
	spec      Spec
	name      string
	method    string
	url       *url.URL
	timeout   time.Duration
	limit     int64
	path      *jsonpath.Path
	body      any
	schema    *jsonschema.Schema
	resolved  *jsonschema.Resolved
	patterns  map[string]*regexp.Regexp
	hosts     []string
	prefixes  []string
	addresses []netip.Addr
	client    *http.Client
}

var (
	toolName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,50}$`)
	paramName = regexp.MustCompile(`^[a-z][a-zA-Z0-9_]{0,39}$`)
	hole      = regexp.MustCompile(`\{([^{}]*)\}`)
)

// check makes a call of a Spec. All mistakes are named, each with its field.
func check(s Spec) (*call, error) {
	c := &call{spec: s, name: "custom_" + s.Name, timeout: defaultTimeout, limit: defaultBytes, patterns: map[string]*regexp.Regexp{}}
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
	}
	if !toolName.MatchString(s.Name) {
		bad("name", "%q: lower case letters, digits and _, beginning with a letter, at most 51", s.Name)
	}
	if strings.TrimSpace(s.Description) == "" || len(s.Description) > 2000 {
		bad("description", "one paragraph for the model, of at most 2000 bytes, is required")
	}
	c.checkMethod(bad)
	c.checkURL(bad)
	c.checkHeaders(bad)
	c.checkParameters(bad)
	c.checkOutput(bad)
	c.checkHoles(bad)
	if s.Timeout != "" {
		d, err := time.ParseDuration(s.Timeout)
		if err != nil || d <= 0 || d > maxTimeout {
			bad("timeout", "%q: a duration from 1ms to %s such as 10s", s.Timeout, maxTimeout)
		}
		c.timeout = d
	}
	return c, errors.Join(errs...)
}

type complain func(field, format string, args ...any)

func (c *call) checkMethod(bad complain) {
	s := c.spec
	c.method = strings.ToUpper(s.Method)
	switch c.method {
	case "":
		c.method = http.MethodGet
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		if !s.ReadOnly {
			bad("method", "POST is allowed only with readOnly: true, which declares that it changes nothing")
		}
	default:
		bad("method", "%q: GET, HEAD, or POST with readOnly: true; nothing that changes anything", s.Method)
	}
	if len(s.Body) > 0 {
		if c.method != http.MethodPost {
			bad("body", "a %s has none", c.method)
		}
		if err := json.Unmarshal(s.Body, &c.body); err != nil {
			bad("body", "not valid JSON: %w", err)
		}
	}
}

func (c *call) checkURL(bad complain) {
	s := c.spec
	_, authority, _ := strings.Cut(s.URL, "://")
	authority, _, _ = strings.Cut(authority, "/")
	u, err := url.Parse(s.URL)
	switch {
	case strings.ContainsAny(authority, "{}"):
		bad("url", "the host %q is fixed: parameters stand in the path, the query or the body", authority)
		return
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		bad("url", "%q is no http or https address", s.URL)
		return
	case u.User != nil:
		bad("url", "it carries a user; use secretHeaders")
		return
	case u.RawQuery != "" || u.Fragment != "":
		bad("url", "the query string belongs into query")
		return
	}
	c.url = u
	c.hosts = []string{strings.ToLower(u.Host)}
	for i, h := range s.Allow.Hosts {
		if h == "" || strings.ContainsAny(h, "/*@ {}") {
			bad(fmt.Sprintf("allow.hosts[%d]", i), "%q is no host, with its port where it has one of its own; patterns are not taken", h)
		}
		c.hosts = append(c.hosts, strings.ToLower(h))
	}
	for i, p := range s.Allow.Paths {
		if !strings.HasPrefix(p, "/") || strings.Contains(p, "..") || strings.ContainsAny(p, "{}*?#") {
			bad(fmt.Sprintf("allow.paths[%d]", i), "%q is no prefix of a path such as /api/v1/", p)
		}
	}
	c.prefixes = s.Allow.Paths
	if len(c.prefixes) == 0 {
		head, _, cut := strings.Cut(u.Path, "{")
		if cut {
			head = head[:strings.LastIndex(head, "/")+1]
		}
		c.prefixes = []string{head}
	}
	for i, a := range s.Allow.Addresses {
		ip, err := netip.ParseAddr(a)
		if err != nil {
			bad(fmt.Sprintf("allow.addresses[%d]", i), "%q is no IP address", a)
			continue
		}
		c.addresses = append(c.addresses, ip.Unmap())
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		c.addresses = append(c.addresses, ip.Unmap()) // named in the URL itself
	}
}

// hopHeaders are set by the transport or would change what the server is.
var hopHeaders = []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Te", "Trailer", "Proxy-Authorization", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

func (c *call) checkHeaders(bad complain) {
	seen := map[string]bool{}
	name := func(field, h string) {
		canonical := http.CanonicalHeaderKey(h)
		switch {
		case h == "" || strings.ContainsAny(h, " :\r\n\t"):
			bad(field, "%q is no name of a header", h)
		case slices.Contains(hopHeaders, canonical):
			bad(field, "header %s may not be set", canonical)
		case seen[canonical]:
			bad(field, "header %s is given twice", canonical)
		}
		seen[canonical] = true
	}
	for _, h := range slices.Sorted(maps.Keys(c.spec.Headers)) {
		v := c.spec.Headers[h]
		name("headers", h)
		low := strings.ToLower(h)
		if low == "authorization" || low == "cookie" || strings.Contains(low, "token") || strings.Contains(low, "api-key") || strings.Contains(low, "secret") {
			bad("headers", "%s is a secret: give its file under secretHeaders", h)
		}
		if strings.ContainsAny(v, "\r\n{}") {
			bad("headers", "%s: a value is one line without parameters", h)
		}
	}
	for _, h := range slices.Sorted(maps.Keys(c.spec.SecretHeaders)) {
		v := c.spec.SecretHeaders[h]
		name("secretHeaders", h)
		if v.File == "" {
			bad("secretHeaders", "%s: file is required", h)
		} else if st, err := os.Stat(v.File); err != nil || st.IsDir() {
			bad("secretHeaders", "%s: file %s cannot be read", h, v.File)
		}
		if strings.ContainsAny(v.Prefix, "\r\n") {
			bad("secretHeaders", "%s: prefix is one line", h)
		}
	}
}

func (c *call) checkParameters(bad complain) {
	c.schema = &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	if len(c.spec.Parameters) > maxParameters {
		bad("parameters", "%d are more than %d", len(c.spec.Parameters), maxParameters)
	}
	for _, name := range slices.Sorted(maps.Keys(c.spec.Parameters)) {
		p := c.spec.Parameters[name]
		field := "parameters." + name
		if name == "true" || name == "false" {
			bad(field, "YAML reads y, n, yes, no, on and off as truth values: put the name in quotes, or choose another")
		}
		if !paramName.MatchString(name) {
			bad(field, "a name has letters, digits and _, beginning with a lower case letter, at most 40")
		}
		s := &jsonschema.Schema{Type: p.Type, Description: p.Description, Minimum: p.Minimum, Maximum: p.Maximum}
		switch p.Type {
		case "string":
			length := p.MaxLength
			if length == 0 {
				length = defaultLength
			}
			if length < 0 || length > 8192 {
				bad(field+".maxLength", "%d is not from 1 to 8192", p.MaxLength)
			}
			s.MaxLength = &length
			if p.Pattern != "" {
				re, err := regexp.Compile(`^(?:` + p.Pattern + `)$`)
				if err != nil {
					bad(field+".pattern", "%w", err)
				} else {
					c.patterns[name] = re
				}
			}
			for _, e := range p.Enum {
				s.Enum = append(s.Enum, e)
			}
		case "integer", "number", "boolean":
			if p.Pattern != "" || len(p.Enum) > 0 || p.MaxLength != 0 {
				bad(field, "pattern, enum and maxLength are for strings")
			}
		default:
			bad(field+".type", "%q: string, integer, number or boolean", p.Type)
			continue
		}
		if p.Type == "string" || p.Type == "boolean" {
			if p.Minimum != nil || p.Maximum != nil {
				bad(field, "minimum and maximum are for numbers")
			}
		}
		c.schema.Properties[name] = s
		c.schema.PropertyOrder = append(c.schema.PropertyOrder, name)
		if p.Required {
			c.schema.Required = append(c.schema.Required, name)
		}
	}
	r, err := c.schema.Resolve(nil)
	if err != nil {
		bad("parameters", "%w", err)
	}
	c.resolved = r
}

func (c *call) checkOutput(bad complain) {
	o := c.spec.Output
	if o.MaxBytes < 0 || o.MaxBytes > maxBytes {
		bad("output.maxBytes", "%d is not from 1 to %d", o.MaxBytes, maxBytes)
	}
	if o.MaxBytes > 0 {
		c.limit = o.MaxBytes
	}
	if o.JSONPath == "" {
		return
	}
	p, err := jsonpath.Parse(o.JSONPath)
	if err != nil {
		bad("output.jsonPath", "%q: %w", o.JSONPath, err)
	}
	c.path = p
}

// checkHoles holds the parameters in braces against those that are declared.
func (c *call) checkHoles(bad complain) {
	used := map[string]bool{}
	in := func(field, text string, must bool) {
		for _, m := range hole.FindAllStringSubmatch(text, -1) {
			p, ok := c.spec.Parameters[m[1]]
			switch {
			case !ok:
				bad(field, "{%s} is no declared parameter", m[1])
			case must && !p.Required:
				bad(field, "{%s} must be required: a path has no optional parts", m[1])
			}
			used[m[1]] = true
		}
		if strings.ContainsAny(hole.ReplaceAllString(text, ""), "{}") {
			bad(field, "a brace without its counterpart in %q", text)
		}
	}
	if c.url != nil {
		for segment := range strings.SplitSeq(c.url.Path, "/") {
			in("url", segment, true)
		}
		if plain := hole.ReplaceAllString(c.url.Path, "x"); plain != "" && path.Clean(plain) != strings.TrimSuffix(plain, "/") && plain != "/" {
			bad("url", "the path %q is not in its shortest form", c.url.Path)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.spec.Query)) {
		in("query."+k, c.spec.Query[k], false)
	}
	texts(c.body, func(s string) { in("body", s, false) })
	for _, name := range slices.Sorted(maps.Keys(c.spec.Parameters)) {
		if !used[name] {
			bad("parameters."+name, "it is used neither in url nor in query nor in body")
		}
	}
}

// texts visits the texts of a JSON value.
func texts(v any, f func(string)) {
	switch v := v.(type) {
	case string:
		f(v)
	case []any:
		for _, e := range v {
			texts(e, f)
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			texts(v[k], f)
		}
	}
}

func (c *call) effect() tool.Effect {
	if c.spec.Probe {
		return tool.Probe
	}
	return tool.Read
}
