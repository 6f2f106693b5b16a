package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Bounds of a connection. A client has ten seconds for its headers and a minute for
// its body; an answer takes a minute at most, streams apart.
const (
	readHeaderTimeout = 10 * time.Second
	requestTimeout    = time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
	defaultDrain      = 20 * time.Second
)

// drainKey holds the context that ends when the server begins to drain.
type drainKey struct{}

// Serve serves a handler that Mux made until ctx ends, and then waits for running
// requests (Config.DrainTimeout) before it cuts them off; streams are told at once.
// It closes the listener, and it refuses one that is not loopback where no
// authentication is configured. The end of ctx is no error.
func (g *Gate) Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	defer l.Close()
	if !g.cfg.Authenticated() && !loopbackAddr(l.Addr()) {
		return fmt.Errorf("no authentication is configured, so the server listens on loopback only, and %s is not: configure server.auth (oidc, tokenReview or tokens), or listen on 127.0.0.1", l.Addr())
	}
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	draining, drain := context.WithCancel(requests)
	defer drain()
	srv := g.server(h)
	srv.BaseContext = func(net.Listener) context.Context { return context.WithValue(requests, drainKey{}, draining) }

	serve := func() error { return srv.Serve(l) }
	if g.cfg.TLS.on() {
		certs, err := newCertificates(g.cfg.TLS, g.now, g.log)
		if err != nil {
			return err
		}
		srv.TLSConfig = certs.config()
		serve = func() error { return srv.ServeTLS(l, "", "") }
	} else if g.cfg.Authenticated() && !loopbackAddr(l.Addr()) {
		g.log.WarnContext(ctx, "the server speaks plain HTTP: tokens travel unencrypted unless a proxy before it ends TLS (server.tls.certFile and keyFile)", "address", l.Addr().String())
	}
	failed := make(chan error, 1)
	go func() { failed <- serve() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}

	drain()
	wait := time.Duration(g.cfg.DrainTimeout)
	if wait == 0 {
		wait = defaultDrain
	}
	limit, done := context.WithTimeout(requests, wait)
	defer done()
	err := srv.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		g.log.WarnContext(ctx, "requests still ran when the server ended; they were cut off", "waited", wait)
		cut()
		err = srv.Close()
	}
	if served := <-failed; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	if err != nil {
		return fmt.Errorf("ending the server on %s: %w", l.Addr(), err)
	}
	return nil
}

// server is the HTTP server with its bounds.
func (g *Gate) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
}

// loopbackAddr says whether only this machine reaches an address.
func loopbackAddr(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip, ok := netip.AddrFromSlice(t.IP)
	return ok && ip.Unmap().IsLoopback()
}
