package transport

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter bounds what a header can ask for, against overflow and nonsense.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads when the server wants to be asked again: milliseconds
// (retry-after-ms of OpenAI and Azure, x-ms-retry-after-ms of Azure), seconds
// or a date (RFC 9110, 10.2.3), and at last OpenAI's x-ratelimit-reset of the
// limit that is used up. It is 0 if there is nothing usable.
func retryAfter(h http.Header, now time.Time) time.Duration {
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if ms, err := strconv.ParseFloat(strings.TrimSpace(h.Get(name)), 64); err == nil && ms > 0 {
			return bounded(ms * float64(time.Millisecond))
		}
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		return bounded(s * float64(time.Second))
	}
	if d, err := time.ParseDuration(value); err == nil {
		return bounded(float64(d))
	}
	if at, err := http.ParseTime(value); err == nil {
		// The server's own clock, if it says it, so that skew does not matter.
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			now = date
		}
		return bounded(float64(at.Sub(now)))
	}
	var reset time.Duration
	for _, what := range []string{"Requests", "Tokens"} {
		if h.Get("X-Ratelimit-Remaining-"+what) != "0" {
			continue
		}
		if d, err := time.ParseDuration(h.Get("X-Ratelimit-Reset-" + what)); err == nil {
			reset = max(reset, bounded(float64(d)))
		}
	}
	return reset
}

func bounded(d float64) time.Duration {
	if !(d > 0) { // NaN too
		return 0
	}
	return time.Duration(min(d, float64(maxRetryAfter)))
}
