package prometheus

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// Serve listens on a free loopback port until stop is called or ctx ends. The
// address is the base of both APIs.
func (s *Server) Serve(ctx context.Context) (url string, stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	base, cancel := context.WithCancel(ctx)
	srv := &http.Server{Handler: local(s), ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return base }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	return "http://" + l.Addr().String(), func() {
		cancel()
		_ = srv.Close()
		<-done
	}, nil
}

// local refuses requests under another name than loopback's: a page in a browser
// could otherwise read the recording by pointing its own name here.
func local(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this server answers on loopback only", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

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
