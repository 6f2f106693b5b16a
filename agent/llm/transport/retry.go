package transport

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/gumshoe-ai/gumshoe/agent/llm"
)

// Policy bounds the retries of one request. The zero value means: up to 4
// attempts, first pause about half a second, no pause above 30 seconds, at
// most 2 minutes in all.
type Policy struct {
	// Attempts counts the first one too; 1 means no retry.
	Attempts int
	// Pause is the first pause; later ones grow by half each time, with jitter.
	Pause time.Duration
	// Longest is the longest single pause. A server that wants more is not
	// waited for: its error goes to the caller, with RetryAfter.
	Longest time.Duration
	// Total bounds the time of all attempts and pauses.
	Total time.Duration
	// Notify, if not nil, is told of each retry before its pause.
	Notify func(err *llm.Error, pause time.Duration)
}

func (p Policy) filled() Policy {
	if p.Attempts <= 0 {
		p.Attempts = 4
	}
	if p.Pause <= 0 {
		p.Pause = 500 * time.Millisecond
	}
	if p.Longest <= 0 {
		p.Longest = 30 * time.Second
	}
	if p.Total <= 0 {
		p.Total = 2 * time.Minute
	}
	return p
}

// Retry runs an attempt until it succeeds, fails for good, the policy is at
// its end, or ctx is. Its error is always an *llm.Error. An attempt must not
// be retried once a part of its answer was delivered; that is why whoever
// delivers calls Retry, and not the Doer.
func Retry[T any](ctx context.Context, p Policy, attempt func() (T, *llm.Error)) (T, *llm.Error) {
	p = p.filled()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = p.Pause, p.Longest
	got, err := backoff.Retry(ctx, func() (T, error) {
		got, failed := attempt()
		switch {
		case failed == nil:
			return got, nil
		case !worthwhile(failed) || failed.RetryAfter > p.Longest:
			return got, backoff.Permanent(failed)
		case failed.RetryAfter > 0:
			return got, errors.Join(failed, &backoff.RetryAfterError{Duration: failed.RetryAfter})
		}
		return got, failed
	},
		backoff.WithBackOff(pauses), backoff.WithMaxTries(uint(p.Attempts)), backoff.WithMaxElapsedTime(p.Total),
		backoff.WithNotify(func(err error, pause time.Duration) {
			if p.Notify != nil {
				p.Notify(asError(err), pause)
			}
		}))
	if err == nil {
		return got, nil
	}
	if ended := ctx.Err(); ended != nil {
		return got, &llm.Error{Kind: llm.Cancelled, Text: "the request was ended: " + ended.Error(), Err: ended}
	}
	return got, asError(err)
}

// worthwhile reports whether an immediate retry may help. A silent server has
// cost minutes already; whether to spend more is for the caller to say. A bad
// certificate or an unknown host does not mend in seconds.
func worthwhile(e *llm.Error) bool {
	return e.Retryable() && e.Kind != llm.Idle && !hopeless(e.Err)
}
