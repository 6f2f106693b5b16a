package tool

import (
	"context"
	"time"
)

// notBefore is the key of the moment that Fresh sets.
type notBefore struct{}

// Fresh says that only what is read from now on answers in this context: a toolset that
// reuses answers of its source (see Kept) reads again what is older. An investigation
// begins with it, so that "is it over?" is never answered with what was so a moment ago.
//
// Now is told by the clock of this process and not by the one of the source: that of a
// recorded cluster stands still, also where the cluster reacts to what is written.
func Fresh(ctx context.Context) context.Context { return FreshFrom(ctx, time.Now()) }

// FreshFrom is Fresh with a moment; the zero one takes whatever a toolset still reuses.
func FreshFrom(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, notBefore{}, at)
}

// FreshSince gives the moment that Fresh set; zero, where none did, takes whatever a
// toolset still reuses.
func FreshSince(ctx context.Context) time.Time {
	at, _ := ctx.Value(notBefore{}).(time.Time)
	return at
}
