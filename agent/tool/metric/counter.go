package metric

import "time"

// Increase is how much a counter grew between its first and its last finite
// point. A fall is a restart of its process, which began at zero again. Unlike
// PromQL's increase it extrapolates nothing. False with fewer than two points.
func Increase(points []Point) (float64, bool) {
	points = finite(points)
	if len(points) < 2 {
		return 0, false
	}
	var sum float64
	for i, p := range points[1:] {
		if d := p.Value - points[i].Value; d >= 0 {
			sum += d
		} else {
			sum += p.Value
		}
	}
	return sum, true
}

// Rate is Increase per second. False with fewer than two points or no time
// between them.
func Rate(points []Point) (float64, bool) {
	points = finite(points)
	sum, ok := Increase(points)
	if !ok {
		return 0, false
	}
	d := points[len(points)-1].At.Sub(points[0].At).Seconds()
	if d <= 0 {
		return 0, false
	}
	return sum / d, true
}

// Rates turns a counter into its per-second rate between neighbouring points,
// each at the time of the later one. Neighbours further apart than maxGap give
// no point: the rate inside a gap is not known. maxGap 0 means no bound.
func Rates(points []Point, maxGap time.Duration) []Point {
	points = finite(points)
	if len(points) < 2 {
		return nil
	}
	out := make([]Point, 0, len(points)-1)
	for i, p := range points[1:] {
		gap := p.At.Sub(points[i].At)
		if gap <= 0 || maxGap > 0 && gap > maxGap {
			continue
		}
		d := p.Value - points[i].Value
		if d < 0 {
			d = p.Value
		}
		out = append(out, Point{At: p.At, Value: d / gap.Seconds()})
	}
	return out
}

// Resets is how often a counter fell: restarts of the process that counts.
func Resets(points []Point) int {
	points = finite(points)
	n := 0
	for i := 1; i < len(points); i++ {
		if points[i].Value < points[i-1].Value {
			n++
		}
	}
	return n
}

// Gap is a stretch without points.
type Gap struct {
	From, To time.Time
}

// Gaps finds where a series was away between from and to: before its first
// point, between neighbours more than one and a half steps apart, and after its
// last point. A series without points is one gap. A value that is NaN is a
// point: the series was there and had nothing to say.
func Gaps(points []Point, from, to time.Time, step time.Duration) []Gap {
	most := step + step/2
	if len(points) == 0 {
		if !to.After(from) {
			return nil
		}
		return []Gap{{from, to}}
	}
	var out []Gap
	if d := points[0].At.Sub(from); d > most {
		out = append(out, Gap{from, points[0].At})
	}
	for i := 1; i < len(points); i++ {
		if points[i].At.Sub(points[i-1].At) > most {
			out = append(out, Gap{points[i-1].At, points[i].At})
		}
	}
	if last := points[len(points)-1].At; to.Sub(last) > most {
		out = append(out, Gap{last, to})
	}
	return out
}
