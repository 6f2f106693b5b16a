package metric

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Summary is what a series is at a glance. The figures are of its finite
// points; all are NaN where there are none.
type Summary struct {
	// Points is the count of finite points, NaNs that of the others.
	Points, NaNs                        int
	First, Last, Min, Max, Mean, Median float64
	FirstAt, LastAt, MinAt, MaxAt       time.Time
	// Spread is the robust deviation: 1.4826 times the median distance from the
	// median, which is the standard deviation where values are normal.
	Spread float64
}

// Summarise gives the figures of a series.
func Summarise(points []Point) Summary {
	f := finite(points)
	s := Summary{Points: len(f), NaNs: len(points) - len(f)}
	if len(f) == 0 {
		n := math.NaN()
		s.First, s.Last, s.Min, s.Max, s.Mean, s.Median, s.Spread = n, n, n, n, n, n, n
		return s
	}
	lo, hi := f[0], f[0]
	for i, p := range f {
		// A running mean, since the sum of large values may not fit.
		s.Mean += (p.Value - s.Mean) / float64(i+1)
		if p.Value < lo.Value {
			lo = p
		}
		if p.Value > hi.Value {
			hi = p
		}
	}
	last := f[len(f)-1]
	s.First, s.FirstAt, s.Last, s.LastAt = f[0].Value, f[0].At, last.Value, last.At
	s.Min, s.MinAt, s.Max, s.MaxAt = lo.Value, lo.At, hi.Value, hi.At
	v := values(f)
	s.Median = median(v)
	s.Spread = 1.4826 * mad(v, s.Median)
	return s
}

// mad is the median distance of values from a centre. It leaves v as it is.
func mad(v []float64, centre float64) float64 {
	d := make([]float64, len(v))
	for i, x := range v {
		d[i] = math.Abs(x - centre)
	}
	return median(d)
}

// Thin keeps at most most points: the first, the last, and of each stretch
// between them the lowest and the highest, so that no spike is lost. Points that
// are not finite are kept only where a stretch has no others. most under 4
// keeps the ends alone.
func Thin(points []Point, most int) []Point {
	if len(points) <= most {
		return points
	}
	if most < 2 {
		return points[len(points)-1:]
	}
	first, last, inner := points[0], points[len(points)-1], points[1:len(points)-1]
	out := append(make([]Point, 0, most), first)
	n := (most - 2) / 2
	for i := range n {
		part := inner[i*len(inner)/n : (i+1)*len(inner)/n]
		if len(part) == 0 {
			continue
		}
		f := finite(part)
		if len(f) == 0 {
			out = append(out, part[0])
			continue
		}
		byValue := func(a, b Point) int {
			if a.Value < b.Value {
				return -1
			}
			if a.Value > b.Value {
				return 1
			}
			return 0
		}
		lo, hi := slices.MinFunc(f, byValue), slices.MaxFunc(f, byValue)
		if hi.At.Before(lo.At) {
			lo, hi = hi, lo
		}
		out = append(out, lo)
		if hi.At.After(lo.At) {
			out = append(out, hi)
		}
	}
	return append(out, last)
}

// Sparkline draws a series between two times in width characters. A stretch
// without points is a blank, one with only NaN an x. Of the points in one
// character the one furthest from the series' median is drawn, so that spikes
// and dips both show. A constant series is a low line.
func Sparkline(points []Point, from, to time.Time, width int) string {
	span := to.Sub(from)
	if width <= 0 || span < 0 {
		return ""
	}
	s := Summarise(points)
	cells := make([]float64, width)
	seen := make([]bool, width)
	for i := range cells {
		cells[i] = math.NaN()
	}
	for _, p := range points {
		if p.At.Before(from) || p.At.After(to) {
			continue
		}
		i := 0
		if span > 0 {
			i = min(int(float64(p.At.Sub(from))/float64(span)*float64(width)), width-1)
		}
		seen[i] = true
		if Finite(p.Value) && (math.IsNaN(cells[i]) || math.Abs(p.Value-s.Median) > math.Abs(cells[i]-s.Median)) {
			cells[i] = p.Value
		}
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for i, v := range cells {
		switch {
		case !seen[i]:
			b.WriteByte(' ')
		case math.IsNaN(v):
			b.WriteByte('x')
		default:
			// Halved, since max minus min may not fit.
			at, span := 0, s.Max/2-s.Min/2
			if span > 0 {
				at = int((v/2 - s.Min/2) / span * float64(len(levels)))
			}
			b.WriteRune(levels[min(at, len(levels)-1)])
		}
	}
	return b.String()
}
