// Package redact masks secrets before text reaches a model, a disk, a screen or
// a chat, and fences what a cluster says so that it stays data. Known values go
// first, then the shapes of well-known credentials, then values behind telling
// names. Masking twice changes nothing.
package redact

import (
	"encoding/json"
	"regexp"
	"sort"
	"strings"
	"sync"
)

// Redactor masks secrets. It is safe for concurrent use.
type Redactor struct {
	mu    sync.RWMutex
	known []string
	label map[string]string

	shapes []shape
	keyed  *regexp.Regexp
	// hints are what every match of keyed holds one of, in lower case.
	hints []string
	names *regexp.Regexp
}

// shape is a credential that is known by its form.
type shape struct {
	label string
	re    *regexp.Regexp
	// group is the part that is masked; 0 masks all.
	group int
	// hint must occur, in lower case, before the expression is tried.
	hint string
}

// minKnown is the shortest known value that is masked: shorter ones would
// blank ordinary words.
const minKnown = 6

// New makes a redactor.
func New() *Redactor {
	s := func(label, hint, re string, group int) shape {
		return shape{label: label, hint: hint, re: regexp.MustCompile(re), group: group}
	}
	return &Redactor{
		label: map[string]string{},
		shapes: []shape{
			s("private-key", "-----begin", `(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`, 0),
			s("jwt", "eyj", `\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?`, 0),
			s("aws-key-id", "a", `\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`, 0),
			s("github-token", "gh", `\bgh[pousr]_[A-Za-z0-9]{20,}\b`, 0),
			s("github-token", "github_pat_", `\bgithub_pat_[A-Za-z0-9_]{20,}\b`, 0),
			s("gitlab-token", "glpat-", `\bglpat-[A-Za-z0-9_-]{16,}`, 0),
			s("slack-token", "xox", `\bxox[abeoprs]-[A-Za-z0-9-]{10,}`, 0),
			s("slack-token", "xapp-", `\bxapp-[A-Za-z0-9-]{10,}`, 0),
			s("slack-webhook", "hooks.slack.com", `hooks\.slack\.com/services/([A-Za-z0-9/_-]{10,})`, 1),
			s("huggingface-token", "hf_", `\bhf_[A-Za-z0-9]{20,}\b`, 0),
			s("nvidia-key", "nvapi-", `\bnvapi-[A-Za-z0-9_-]{20,}`, 0),
			s("api-key", "sk-", `\bsk-[A-Za-z0-9_-]{16,}`, 0),
			s("google-key", "aiza", `\bAIza[A-Za-z0-9_-]{30,}`, 0),
			s("azure-account-key", "accountkey=", `(?i)\bAccountKey=([A-Za-z0-9+/=]{20,})`, 1),
			s("azure-sas", "sig=", `(?i)[?&;]sig=([A-Za-z0-9%+/=_-]{16,})`, 1),
			s("url-password", "://", `://[^\s:/@]*:([^\s/@]+)@`, 1),
			s("bearer", "bearer", `(?i)\bbearer\s+([A-Za-z0-9._~+/=-]{8,})`, 1),
			s("basic-auth", "basic", `(?i)\bauthorization["']?\s*[:=]\s*["']?basic\s+([A-Za-z0-9+/=]{8,})`, 1),
			s("docker-auth", "auth", `"auth"\s*:\s*"([A-Za-z0-9+/=]{8,})"`, 1),
		},
		keyed: regexp.MustCompile(`(?i)((?:^|[^a-z0-9])["']?[a-z0-9_.-]*(?:` + telling + `)["']?\s*(?:=|:\s|:["'])\s*)("(?:[^"\\]|\\.)+"|'[^']+'|[^\s"',;}&]+)`),
		hints: []string{"passw", "passphrase", "pwd", "secret", "key", "token", "string", "credential"},
		names: regexp.MustCompile(`(?i)(?:^|[^a-z0-9]|_)(?:` + telling + `)$`),
	}
}

// telling are the ends of names whose values are secrets.
const telling = `passwd|password|passphrase|pwd|secret[_-]?key|secret[_-]?access[_-]?key|client[_-]?secret|api[_-]?key|apikey|access[_-]?token|auth[_-]?token|refresh[_-]?token|session[_-]?token|id[_-]?token|bearer[_-]?token|api[_-]?token|hf[_-]?token|private[_-]?key|connection[_-]?string|sas[_-]?token|account[_-]?key|credential`

// AddKnown masks a value wherever it occurs; values shorter than six bytes are
// not taken, since they would blank ordinary words.
func (r *Redactor) AddKnown(value, label string) {
	if len(value) < minKnown {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.label[value] != "" {
		return
	}
	r.label[value] = label
	r.known = append(r.known, value)
	// Longer values first: one may hold another.
	sort.Slice(r.known, func(i, j int) bool { return len(r.known[i]) > len(r.known[j]) })
}

func mark(label string) string { return "[redacted:" + label + "]" }

// String masks the secrets of a text.
func (r *Redactor) String(s string) string {
	if s == "" {
		return s
	}
	r.mu.RLock()
	for _, v := range r.known {
		if strings.Contains(s, v) {
			s = strings.ReplaceAll(s, v, mark(r.label[v]))
		}
	}
	r.mu.RUnlock()
	lower := folded(s)
	for _, sh := range r.shapes {
		if strings.Contains(lower, sh.hint) {
			s = replace(s, sh)
		}
	}
	if strings.ContainsAny(s, "=:") && holdsAny(lower, r.hints) {
		s = r.keyed.ReplaceAllStringFunc(s, func(m string) string {
			g := r.keyed.FindStringSubmatch(m)
			return g[1] + quoted(g[2])
		})
	}
	return s
}

// quoted masks a value and keeps its quotes. References and placeholders are
// no secrets.
func quoted(v string) string {
	inner, q := v, ""
	if len(v) > 1 && (v[0] == '"' || v[0] == '\'') {
		q, inner = v[:1], v[1:len(v)-1]
	}
	switch {
	case strings.Contains(inner, "[redacted:"), harmless(inner):
		return v
	}
	return q + mark("value") + q
}

// harmless values say that something is or is not there, and give nothing away.
func harmless(v string) bool {
	switch strings.ToLower(v) {
	case "", "true", "false", "null", "none", "nil", "<none>", "<nil>", "{", "[", "required", "missing", "not", "is", "optional", "***", "****", "*****", "xxx", "<redacted>", "redacted":
		return true
	}
	return strings.HasPrefix(v, "$(") || strings.HasPrefix(v, "${") || strings.HasPrefix(v, "<") || strings.HasPrefix(v, "map[")
}

func replace(s string, sh shape) string {
	var b strings.Builder
	last := 0
	for _, m := range sh.re.FindAllStringSubmatchIndex(s, -1) {
		from, to := m[2*sh.group], m[2*sh.group+1]
		if strings.Contains(s[from:to], "[redacted") {
			continue
		}
		b.WriteString(s[last:from])
		b.WriteString(mark(sh.label))
		last = to
	}
	b.WriteString(s[last:])
	return b.String()
}

// JSON masks every string of a document and the values of telling keys. What
// is no JSON is masked as text and comes back as a JSON string.
func (r *Redactor) JSON(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return raw
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		out, _ := json.Marshal(r.String(string(raw)))
		return out
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r.value("", v)); err != nil {
		return json.RawMessage(`"` + mark("unreadable") + `"`)
	}
	return json.RawMessage(strings.TrimSuffix(b.String(), "\n"))
}

func (r *Redactor) value(key string, v any) any {
	switch v := v.(type) {
	case string:
		if key != "" && r.names.MatchString(key) && !harmless(v) && !strings.Contains(v, "[redacted:") {
			return mark("value")
		}
		return r.String(v)
	case []any:
		for i := range v {
			v[i] = r.value(key, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = r.value(k, v[k])
		}
	}
	return v
}
