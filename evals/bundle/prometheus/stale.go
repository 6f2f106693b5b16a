package prometheus

import (
	"math"
	"time"

	"github.com/prometheus/prometheus/model/value"
)

// staled puts staleness markers after every stretch of points, as Prometheus
// does when a series ends: without them the engine would see the last value for
// five minutes more.
func staled(ps []point, every time.Duration, end time.Time) []point {
	stale := math.Float64frombits(value.StaleNaN)
	step := every.Milliseconds()
	out := make([]point, 0, len(ps)+1)
	for i, p := range ps {
		out = append(out, p)
		next := end.UnixMilli() + 1
		if i+1 < len(ps) {
			next = ps[i+1].t
		}
		if next-p.t > step && p.t+step <= end.UnixMilli() {
			out = append(out, point{t: p.t + step, f: stale})
		}
	}
	return out
}
