// Package apptest runs gumshoe's server for tests. No production code imports it.
package apptest

import (
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
	done := until(t, out.Run)
	select {
	case <-ready:
	case err := <-done: // closed: the cleanup finds no second error
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
