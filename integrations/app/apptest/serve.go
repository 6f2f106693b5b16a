// Package apptest runs gumshoe's server for tests. No production code imports it.
package apptest

import (
	"context"
	"net"
	"testing"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// Served is a server that answers until its test ends.
type Served struct {
	*app.Server
	// URL of the server, and of its metrics where they have an address of their own.
	URL, Metrics string
}

// Serve runs a server until the test ends, and waits for its addresses. One that does not
// serve, or does not end well, fails the test.
func Serve(t testing.TB, o app.ServerOptions) Served {
	t.Helper()
	out := Served{}
	ready := make(chan struct{})
	o.Ready = func(main, metrics net.Addr) {
		out.URL = address(main)
		if metrics != nil {
			out.Metrics = address(metrics)
		}
		close(ready)
	}
	var err error
	if out.Server, err = app.NewServer(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	// The context of the test ends before its cleanups: those still talk to the server.
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- out.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("the server does not serve: %v", err)
	}
	return out
}

// address is where a listener of this machine is reached: one of all addresses on loopback.
func address(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}
