package controlplane

import (
	"context"
	"testing"
	"time"
)

// Soon waits until something holds, and fails the test when it does not within a time. An
// error says why it does not yet.
func Soon(t testing.TB, within time.Duration, what string, holds func(context.Context) (bool, error)) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		ok, err := holds(t.Context())
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
