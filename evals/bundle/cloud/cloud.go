// Package cloud keeps what a cloud's API answered in a bundle, and answers it again.
// A file cloud/<provider>/<name>.json is one answer: the request's method and path,
// status, and body. The provider's own SDK is put on the replay as on a network, so
// it cannot tell the difference; what was not recorded is a 404 that says so.
package cloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Limits of a recording: files of a provider, and bytes of one.
const (
	maxFiles = 500
	maxBytes = 8 << 20
)

// Answer is one file.
type Answer struct {
	Method string `json:"method"`
	// Path of the request, without host and without api-version, which each SDK sets
	// as it likes. A page's query stays, sorted.
	Path   string `json:"path"`
	Status int    `json:"status"`
	// RetryAfter is the header of that name, where there was one.
	RetryAfter string          `json:"retryAfter,omitempty"`
	Body       json.RawMessage `json:"body"`
}

// Replay answers requests from a recording. It is safe for concurrent use.
type Replay struct {
	provider string
	answers  map[string]Answer
}

var _ http.RoundTripper = (*Replay)(nil)

// Holds reports whether a bundle has answers of a provider.
func Holds(fsys fs.FS, provider string) bool {
	names, err := fs.Glob(fsys, path.Join("cloud", provider, "*.json"))
	return err == nil && len(names) > 0
}

// Open reads the answers of a provider. Errors name the file.
func Open(fsys fs.FS, provider string) (*Replay, error) {
	names, err := fs.Glob(fsys, path.Join("cloud", provider, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("cloud/%s: %w", provider, err)
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("cloud/%s has %d files, more than %d", provider, len(names), maxFiles)
	}
	r := &Replay{provider: provider, answers: map[string]Answer{}}
	for _, name := range names {
		a, err := read(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		k := key(a.Method, a.Path)
		if _, twice := r.answers[k]; twice {
			return nil, fmt.Errorf("%s: another file answers %s too", name, k)
		}
		r.answers[k] = a
	}
	return r, nil
}

func read(fsys fs.FS, name string) (Answer, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return Answer{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return Answer{}, err
	}
	if len(raw) > maxBytes {
		return Answer{}, fmt.Errorf("more than %d bytes", maxBytes)
	}
	return Decode(raw)
}

// Decode reads one file and refuses what could answer nothing.
func Decode(raw []byte) (Answer, error) {
	var a Answer
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return Answer{}, fmt.Errorf("it is no recorded answer: %w", err)
	}
	if a.Method == "" {
		a.Method = http.MethodGet
	}
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	u, err := url.Parse(a.Path)
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("path %q: %w", a.Path, err)
	case !strings.HasPrefix(a.Path, "/") || u.Host != "":
		return Answer{}, fmt.Errorf("path %q does not begin with a single /", a.Path)
	case a.Status < 200 || a.Status > 599:
		return Answer{}, fmt.Errorf("status %d is none of an answer", a.Status)
	}
	a.Path = plain(u)
	return a, nil
}

// plain is the path of a request as answers are kept under it.
func plain(u *url.URL) string {
	q := u.Query()
	q.Del("api-version")
	if len(q) == 0 {
		return u.EscapedPath()
	}
	return u.EscapedPath() + "?" + q.Encode()
}

// key tells requests apart; Azure's paths are the same in either case.
func key(method, path string) string { return method + " " + strings.ToLower(path) }

// Paths lists what is recorded, sorted.
func (r *Replay) Paths() []string {
	out := make([]string, 0, len(r.answers))
	for _, a := range r.answers {
		out = append(out, a.Path)
	}
	slices.Sort(out)
	return out
}

// Do answers a request; it is how the Azure SDK sends one.
func (r *Replay) Do(req *http.Request) (*http.Response, error) { return r.RoundTrip(req) }

// RoundTrip implements http.RoundTripper.
func (r *Replay) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		if err := req.Body.Close(); err != nil {
			return nil, err
		}
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	a, ok := r.answers[key(req.Method, plain(req.URL))]
	if !ok {
		body, err := json.Marshal(map[string]any{"error": map[string]any{"code": "NotRecorded", "status": "NOT_RECORDED", "message": fmt.Sprintf("the bundle has no answer of %s for %s %s", r.provider, req.Method, plain(req.URL))}})
		if err != nil {
			return nil, err
		}
		a = Answer{Status: http.StatusNotFound, Body: body}
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if a.RetryAfter != "" {
		h.Set("Retry-After", a.RetryAfter)
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status)), StatusCode: a.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader(a.Body)), ContentLength: int64(len(a.Body)), Request: req,
	}, nil
}
