package tool

import (
	"context"
	"time"
)

// notBefore is the key of the time that Fresh sets.
type notBefore struct{}

// Fresh says that what was read before a time does not answer in this context: a toolset
// that reuses answers of its source reads again what is older. An investigation sets its
// own beginning, so that "is it over?" is never answered with what was so a moment ago.
func Fresh(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, notBefore{}, at)
}

// FreshSince gives the time that Fresh set; zero, where none did, takes whatever a
// toolset still reuses.
func FreshSince(ctx context.Context) time.Time {
	at, _ := ctx.Value(notBefore{}).(time.Time)
	return at
}
