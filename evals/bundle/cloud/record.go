package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// Recorder keeps the answers of a provider while they pass. Of a request only method
// and path are kept, so no token; of an answer status and a body that is JSON.
type Recorder struct {
	provider string
	next     http.RoundTripper
	redact   func(string) string
	// look makes the requests that are to be recorded.
	look func(context.Context) error

	mu      sync.Mutex
	answers []Answer
	skipped []string
}

var (
	_ http.RoundTripper = (*Recorder)(nil)
	_ bundle.Source     = (*Recorder)(nil)
)

// NewRecorder makes a recorder of a provider's answers; next sends the requests, and
// redact masks what is no one's business.
func NewRecorder(provider string, next http.RoundTripper, redact func(string) string) *Recorder {
	return &Recorder{provider: provider, next: next, redact: redact}
}

// Look sets what makes the requests; Record runs it once.
func (r *Recorder) Look(look func(context.Context) error) { r.look = look }

// Do sends a request as the Azure SDK does.
func (r *Recorder) Do(req *http.Request) (*http.Response, error) { return r.RoundTrip(req) }

// RoundTrip implements http.RoundTripper.
func (r *Recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := r.next.RoundTrip(req)
	if err != nil || req.Method != http.MethodGet {
		return res, err
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBytes+1))
	rest := res.Body
	// The caller reads on where the recording stopped.
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(raw), rest), rest}
	if err != nil {
		return res, nil //nolint:nilerr // the caller meets the error itself where it reads on
	}
	masked := []byte(r.redact(string(raw)))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(raw) > maxBytes || !json.Valid(masked) || len(r.answers) >= maxFiles {
		r.skipped = append(r.skipped, plain(req.URL))
		return res, nil
	}
	a := Answer{Method: req.Method, Path: plain(req.URL), Status: res.StatusCode, RetryAfter: res.Header.Get("Retry-After"), Body: masked}
	for i, o := range r.answers {
		if key(o.Method, o.Path) == key(a.Method, a.Path) {
			r.answers[i] = a // a retry: the last word counts
			return res, nil
		}
	}
	r.answers = append(r.answers, a)
	return res, nil
}

// Record implements bundle.Source: it makes the requests and writes the answers.
func (r *Recorder) Record(ctx context.Context, write func(name string, raw []byte) error) ([]bundle.LeftOut, error) {
	var left []bundle.LeftOut
	if r.look != nil {
		if err := r.look(ctx); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			left = append(left, bundle.LeftOut{What: "cloud/" + r.provider, Why: r.redact(err.Error())})
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.skipped {
		left = append(left, bundle.LeftOut{What: "cloud/" + r.provider + ": " + p, Why: "the answer is too large or no JSON"})
	}
	for i, a := range r.answers {
		raw, err := json.MarshalIndent(a, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("cloud/%s: %w", r.provider, err)
		}
		if err := write(path.Join("cloud", r.provider, fmt.Sprintf("%03d.json", i+1)), append(raw, '\n')); err != nil {
			return nil, err
		}
	}
	return left, nil
}
