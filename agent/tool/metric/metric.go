// Package metric holds the plain types of time series and pure functions that
// read them. Toolsets that consume metrics declare the two methods they need
// and get an implementation from the wiring:
//
//	type metrics interface {
//		Instant(ctx context.Context, expr string) ([]metric.Sample, error)
//		Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) ([]metric.Series, error)
//	}
//
// The contract of an implementation: an error is a *tool.Error; NotServed means
// that no metrics are to be had at all, so that a consumer says what it did not
// see. A *Partial error comes together with what was answered: what is there is
// true, what is missing proves nothing. An empty answer without an error means
// that no series matched. Values may be NaN or infinite, which JSON cannot
// carry; see Finite.
//
// The package imports the standard library only.
package metric

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Name is the label that holds the name of a metric.
const Name = "__name__"

// Sample is one value of one series, as an instant query gives it.
type Sample struct {
	// Labels of the series, the metric's name under Name where it has one.
	Labels map[string]string
	// Value may be NaN or infinite.
	Value float64
	// At is the evaluation time, not the time of the scrape.
	At time.Time
}

// Point is a value at a time.
type Point struct {
	At    time.Time
	Value float64
}

// Series is one series over time. Points ascend in time; a stretch in which the
// series did not exist has no points.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Partial says that the answer beside it is incomplete, with the server's own
// words: a store of a federated server did not answer, or a limit cut it.
type Partial struct {
	Warnings []string
}

// Error implements error.
func (p *Partial) Error() string {
	return "the answer is partial: " + strings.Join(p.Warnings, "; ")
}

// Finite reports whether a value is a number that JSON can carry.
func Finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Key writes labels as name{a="b",c="d"}, labels sorted, values quoted. Equal
// label sets have equal keys, so it serves as an identity and as a text.
func Key(labels map[string]string) string {
	var b strings.Builder
	b.WriteString(labels[Name])
	names := slices.Sorted(maps.Keys(labels))
	names = slices.DeleteFunc(names, func(n string) bool { return n == Name })
	if len(names) == 0 {
		if b.Len() == 0 {
			return "{}"
		}
		return b.String()
	}
	b.WriteByte('{')
	for i, n := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quoteName(n))
		b.WriteByte('=')
		b.WriteString(quote(labels[n]))
	}
	b.WriteByte('}')
	return b.String()
}

// finite gives the points whose value is a number.
func finite(points []Point) []Point {
	for i, p := range points {
		if Finite(p.Value) {
			continue
		}
		out := slices.Clone(points[:i])
		for _, q := range points[i+1:] {
			if Finite(q.Value) {
				out = append(out, q)
			}
		}
		return out
	}
	return points
}

func values(points []Point) []float64 {
	out := make([]float64, len(points))
	for i, p := range points {
		out[i] = p.Value
	}
	return out
}

// median of values, which it may reorder; NaN when there are none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	m := len(v) / 2
	if len(v)%2 == 1 {
		return v[m]
	}
	// The halves first: their sum may not fit.
	return v[m-1]/2 + v[m]/2
}
