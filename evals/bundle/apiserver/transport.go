package apiserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// RESTConfig is a client configuration whose requests never leave the process:
// it works without a network, even without loopback.
func (s *Server) RESTConfig() *rest.Config {
	return &rest.Config{Host: "http://bundle.invalid", Transport: &transport{handler: s}, QPS: -1}
}

// transport answers requests by calling a handler. Bodies are streamed, so that
// a watch works; ending the request's context or closing the body ends the handler.
type transport struct{ handler http.Handler }

var _ http.RoundTripper = (*transport)(nil)

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	pr, pw := io.Pipe()
	w := &responseWriter{header: http.Header{}, pipe: pw, ready: make(chan struct{})}
	inner := r.Clone(ctx)
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	inner.RequestURI = r.URL.RequestURI()
	inner.RemoteAddr = "bundle.invalid:0"
	go func() {
		defer cancel()
		t.handler.ServeHTTP(w, inner)
		_ = inner.Body.Close()
		w.WriteHeader(http.StatusOK)
		_ = pw.Close()
	}()
	stop := context.AfterFunc(ctx, func() { _ = pw.CloseWithError(context.Cause(ctx)) })
	select {
	case <-w.ready:
	case <-r.Context().Done():
		cancel()
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.code, http.StatusText(w.code)), StatusCode: w.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, ContentLength: -1, Request: r, Body: &body{ReadCloser: pr, cancel: cancel, stop: stop},
	}, nil
}

// body ends the handler when the client closes it.
type body struct {
	io.ReadCloser
	cancel context.CancelFunc
	stop   func() bool
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.cancel()
	b.stop()
	return b.ReadCloser.Close()
}

// responseWriter hands what a handler writes to the client's end of a pipe.
type responseWriter struct {
	once   sync.Once
	header http.Header
	sent   http.Header
	code   int
	pipe   *io.PipeWriter
	ready  chan struct{}
}

var _ http.Flusher = (*responseWriter)(nil)

// Header implements http.ResponseWriter.
func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter; the first call counts.
func (w *responseWriter) WriteHeader(code int) {
	w.once.Do(func() {
		w.code, w.sent = code, w.header.Clone()
		close(w.ready)
	})
}

// Write implements http.ResponseWriter.
func (w *responseWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(p)
}

// Flush implements http.Flusher; the pipe holds nothing back.
func (w *responseWriter) Flush() { w.WriteHeader(http.StatusOK) }

// Serve listens on an address, loopback unless said otherwise, until stop is
// called or ctx ends. An empty address takes a free port. On loopback only
// requests to loopback are answered: a page in a browser cannot reach the
// bundle through a name of its own.
func Serve(ctx context.Context, s *Server, addr string) (url string, stop func(), err error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", nil, err
	}
	var h http.Handler = s
	if loopback(l.Addr().String()) {
		h = localOnly(s)
	}
	base, cancel := context.WithCancel(ctx)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return base }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	end := sync.OnceFunc(func() {
		cancel()
		_ = srv.Close()
		<-done
	})
	context.AfterFunc(base, end)
	return "http://" + l.Addr().String(), end, nil
}

// loopback reports whether a host, with or without a port, is this machine.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback(r.Host) {
			http.Error(w, "this bundle is served to this machine only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
