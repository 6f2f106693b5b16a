package prometheus

import (
	"bytes"
	"io"
	"net/http"
)

// transport answers requests by calling a handler.
type transport struct{ handler http.Handler }

var _ http.RoundTripper = transport{}

// RoundTrip implements http.RoundTripper. Answers are whole, not streamed.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	inner := r.Clone(r.Context())
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	inner.RequestURI = r.URL.RequestURI()
	w := &answer{header: http.Header{}, code: http.StatusOK}
	t.handler.ServeHTTP(w, inner)
	_ = inner.Body.Close()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{Status: http.StatusText(w.code), StatusCode: w.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, ContentLength: int64(w.body.Len()), Request: r, Body: io.NopCloser(&w.body)}, nil
}

// answer keeps what a handler writes.
type answer struct {
	header http.Header
	code   int
	wrote  bool
	body   bytes.Buffer
}

var _ http.ResponseWriter = (*answer)(nil)

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter; the first call counts.
func (a *answer) WriteHeader(code int) {
	if !a.wrote {
		a.wrote, a.code = true, code
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.wrote = true
	return a.body.Write(p)
}
