// Package mcp makes a toolset of any server that speaks the Model Context Protocol,
// over standard input and output of a process or over streamable HTTP. Only tools that
// the user lists are offered, with the effect that the user declares; what a server
// says of its own tools is not believed. Answers are bounded, and are data.
package mcp

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Spec describes one server. Unknown fields are for the decoder to refuse.
type Spec struct {
	// Name is put before the names of the tools: "mcp_<name>_".
	Name string `json:"name"`
	// Command is a program with its arguments; it is started directly, without a shell.
	Command []string `json:"command,omitempty"`
	// Env are variables of the program. Of this process's own it gets PATH, HOME, the
	// locale and the temporary directory only.
	Env map[string]string `json:"env,omitempty"`
	// EnvFiles are variables whose values stand in files.
	EnvFiles map[string]string `json:"envFiles,omitempty"`
	Dir      string            `json:"dir,omitempty"`
	// URL of a streamable HTTP endpoint, instead of Command.
	URL             string `json:"url,omitempty"`
	BearerTokenFile string `json:"bearerTokenFile,omitempty"`
	OAuth           *OAuth `json:"oauth,omitempty"`
	// Tools that are offered; no other is.
	Tools []ToolSpec `json:"tools"`
	// StartTimeout bounds how long a start waits for the server, "3s" by default, at
	// most "30s". CallTimeout bounds one call, "30s" by default, at most "5m".
	StartTimeout string `json:"startTimeout,omitempty"`
	CallTimeout  string `json:"callTimeout,omitempty"`
}

// OAuth is the client credentials grant (RFC 6749 section 4.4).
type OAuth struct {
	TokenURL         string   `json:"tokenURL"`
	ClientID         string   `json:"clientID"`
	ClientSecretFile string   `json:"clientSecretFile"`
	Scopes           []string `json:"scopes,omitempty"`
}

// ToolSpec is one tool that is offered.
type ToolSpec struct {
	// Name as the server has it.
	Name string `json:"name"`
	// Effect is read or probe: what the user knows that a call does.
	Effect string `json:"effect"`
	// As is the name it is offered under where the server's own cannot be used.
	As string `json:"as,omitempty"`
	// Description replaces the server's own words.
	Description string `json:"description,omitempty"`
}

const (
	defaultStart = 3 * time.Second
	maxStart     = 30 * time.Second
	defaultCall  = 30 * time.Second
	maxCall      = 5 * time.Minute
)

var (
	serverName = regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`)
	offered    = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	envName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// server is a Spec that was checked.
type server struct {
	spec        Spec
	start, call time.Duration
	effects     map[string]tool.Effect
}

// check names every mistake with its field.
func check(s Spec) (*server, error) {
	out := &server{spec: s, start: defaultStart, call: defaultCall, effects: map[string]tool.Effect{}}
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
	}
	if !serverName.MatchString(s.Name) {
		bad("name", "%q: lower case letters and digits, beginning with a letter, at most 16", s.Name)
	}
	switch {
	case len(s.Command) == 0 && s.URL == "", len(s.Command) > 0 && s.URL != "":
		bad("command", "give either command or url")
	case s.URL != "":
		checkHTTP(s, bad)
	default:
		checkCommand(s, bad)
	}
	checkTools(s, out, bad)
	for _, d := range []struct {
		field, text string
		most        time.Duration
		to          *time.Duration
	}{{"startTimeout", s.StartTimeout, maxStart, &out.start}, {"callTimeout", s.CallTimeout, maxCall, &out.call}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil || v <= 0 || v > d.most {
			bad(d.field, "%q: a duration up to %s such as 5s", d.text, d.most)
			continue
		}
		*d.to = v
	}
	return out, errors.Join(errs...)
}

type complain func(field, format string, args ...any)

func checkCommand(s Spec, bad complain) {
	if s.BearerTokenFile != "" || s.OAuth != nil {
		bad("bearerTokenFile", "credentials of HTTP go with url; give a program its own by envFiles")
	}
	switch base := filepath.Base(s.Command[0]); {
	case s.Command[0] == "":
		bad("command[0]", "a program is required")
	case slices.Contains([]string{"sh", "bash", "zsh", "dash", "ash", "ksh", "fish", "cmd", "cmd.exe", "powershell", "powershell.exe", "pwsh"}, base):
		bad("command[0]", "%q is a shell; name the program itself", s.Command[0])
	}
	if s.Dir != "" {
		if st, err := os.Stat(s.Dir); err != nil || !st.IsDir() {
			bad("dir", "%s is no directory", s.Dir)
		}
	}
	for _, k := range slices.Concat(slices.Sorted(maps.Keys(s.Env)), slices.Sorted(maps.Keys(s.EnvFiles))) {
		if !envName.MatchString(k) {
			bad("env", "%q is no name of a variable", k)
		}
		if _, twice := s.Env[k]; twice && s.EnvFiles[k] != "" {
			bad("envFiles", "%s is given under env too", k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.EnvFiles)) {
		readable("envFiles."+k, s.EnvFiles[k], bad)
	}
}

func readable(field, file string, bad complain) {
	if st, err := os.Stat(file); err != nil || st.IsDir() {
		bad(field, "file %q cannot be read", file)
	}
}

func checkHTTP(s Spec, bad complain) {
	if len(s.Env) > 0 || len(s.EnvFiles) > 0 || s.Dir != "" {
		bad("env", "env, envFiles and dir go with command")
	}
	secret := s.BearerTokenFile != "" || s.OAuth != nil
	address(s.URL, "url", secret, bad)
	if s.BearerTokenFile != "" {
		readable("bearerTokenFile", s.BearerTokenFile, bad)
		if s.OAuth != nil {
			bad("oauth", "bearerTokenFile and oauth exclude each other")
		}
	}
	if o := s.OAuth; o != nil {
		address(o.TokenURL, "oauth.tokenURL", true, bad)
		if o.ClientID == "" {
			bad("oauth.clientID", "is required")
		}
		readable("oauth.clientSecretFile", o.ClientSecretFile, bad)
	}
}

// address checks a URL. Credentials travel encrypted, on this machine, or within the
// cluster.
func address(text, field string, secret bool, bad complain) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		bad(field, "%q is no http or https address", text)
	case u.User != nil:
		bad(field, "it carries a user; use bearerTokenFile or oauth")
	case secret && u.Scheme == "http" && !near(u.Hostname()):
		bad(field, "credentials would travel unencrypted to %s: use https", u.Host)
	}
}

func near(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback() || strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".svc.cluster.local")
}

func checkTools(s Spec, out *server, bad complain) {
	if len(s.Tools) == 0 {
		bad("tools", "list the tools that may be offered, each with effect read or probe; none is offered otherwise")
	}
	seen := map[string]bool{}
	for i, t := range s.Tools {
		field := fmt.Sprintf("tools[%d]", i)
		switch e := tool.Effect(t.Effect); e {
		case tool.Read, tool.Probe:
			out.effects[t.Name] = e
		default:
			bad(field+".effect", "%q of tool %q: read or probe; what changes anything is not offered", t.Effect, t.Name)
		}
		if t.Name == "" {
			bad(field+".name", "is required")
		}
		name := out.offered(t)
		if !offered.MatchString(name) {
			bad(field+".as", "%q would be offered as %q: letters, digits, _ and -, at most 64; choose another name with as", t.Name, name)
		}
		if seen[name] {
			bad(field, "%q is listed twice", name)
		}
		seen[name] = true
		if len(t.Description) > maxDescription {
			bad(field+".description", "%d bytes are more than %d", len(t.Description), maxDescription)
		}
	}
}

// offered is the name that a tool is offered under.
func (s *server) offered(t ToolSpec) string {
	name := t.Name
	if t.As != "" {
		name = t.As
	}
	return "mcp_" + s.spec.Name + "_" + name
}

// secrets are the values that must not be shown.
func (s *server) secrets() []string {
	files := slices.Collect(maps.Values(s.spec.EnvFiles))
	files = append(files, s.spec.BearerTokenFile)
	if s.spec.OAuth != nil {
		files = append(files, s.spec.OAuth.ClientSecretFile)
	}
	var out []string
	for _, f := range files {
		if raw, err := os.ReadFile(f); f != "" && err == nil {
			out = append(out, strings.TrimSpace(string(raw)))
		}
	}
	return out
}

// bearer puts a token from a file on requests to one host; it is read each time, so
// that a rotated one is used.
type bearer struct {
	next http.RoundTripper
	host string
	file string
}

var _ http.RoundTripper = (*bearer)(nil)

// RoundTrip implements http.RoundTripper.
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != b.host {
		return b.next.RoundTrip(r)
	}
	raw, err := os.ReadFile(b.file)
	if err != nil {
		return nil, fmt.Errorf("bearerTokenFile: %w", err)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(raw)))
	return b.next.RoundTrip(r)
}
