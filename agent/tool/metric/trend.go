package metric

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Direction of a trend.
type Direction string

// Directions. Unsteady means that values move a lot and to no side.
const (
	Flat     Direction = "flat"
	Rising   Direction = "rising"
	Falling  Direction = "falling"
	Unsteady Direction = "unsteady"
	// Unknown means that there are too few points to say.
	Unknown Direction = "unknown"
)

// Course is where a series is going.
type Course struct {
	Direction Direction
	// PerSecond is the Theil-Sen slope: the median of the slopes between pairs
	// of points, which single spikes do not move.
	PerSecond float64
	// Change is PerSecond over the whole time of the series.
	Change float64
	// Tau is Kendall's rank correlation with time, -1 to 1.
	Tau float64
}

const (
	// fewest points of which a trend is told.
	fewest = 4
	// mostPairs bounds the quadratic part: longer series are sampled evenly.
	mostTrendPoints = 240
	// clear is the rank correlation from which a series goes somewhere.
	clear = 0.5
	// slight is the change, as a share of the largest value, that is no change.
	slight = 0.05
)

// Trend tells where a series is going, robust against spikes. Rising and
// falling want a rank correlation of at least 0.5 and a change of at least 5 %
// of the largest value; without them a series whose robust spread is above 25 %
// of its median is unsteady and any other one flat.
func Trend(points []Point) Course {
	f := finite(points)
	if len(f) < fewest {
		return Course{Direction: Unknown}
	}
	s := Summarise(f)
	if s.Max <= s.Min {
		return Course{Direction: Flat}
	}
	if len(f) > mostTrendPoints {
		even := make([]Point, mostTrendPoints)
		for i := range even {
			even[i] = f[i*(len(f)-1)/(mostTrendPoints-1)]
		}
		f = even
	}
	var slopes []float64
	var up, down, all int
	for i, a := range f {
		for _, b := range f[i+1:] {
			d := b.At.Sub(a.At).Seconds()
			if d <= 0 {
				continue
			}
			all++
			switch {
			case b.Value > a.Value:
				up++
			case b.Value < a.Value:
				down++
			}
			if slope := b.Value/d - a.Value/d; Finite(slope) {
				slopes = append(slopes, slope)
			}
		}
	}
	if all == 0 || len(slopes) == 0 {
		return Course{Direction: Unknown}
	}
	c := Course{PerSecond: median(slopes), Tau: float64(up-down) / float64(all)}
	c.Change = c.PerSecond * f[len(f)-1].At.Sub(f[0].At).Seconds()
	// Pairs of equal values count for neither side, so a level that was left
	// once, late, has a small tau and no slope: that is a change point's to say.
	big := math.Max(math.Abs(s.Max), math.Abs(s.Min))
	switch {
	case math.Abs(c.Tau) >= clear && math.Abs(c.Change) >= slight*big && c.Change > 0:
		c.Direction = Rising
	case math.Abs(c.Tau) >= clear && math.Abs(c.Change) >= slight*big:
		c.Direction = Falling
	case s.Spread > 0.25*math.Abs(s.Median):
		c.Direction = Unsteady
	default:
		c.Direction = Flat
	}
	return c
}

// Shift is a lasting change of level.
type Shift struct {
	// At is the first point of the new level.
	At time.Time
	// Before and After are the medians on both sides, up to the neighbouring
	// shifts.
	Before, After float64
	// Score is the jump in units of the noise between neighbouring points, at
	// most 1000.
	Score float64
}

const (
	// side is how many points a level needs to be one.
	side = 5
	// window is how many points beside a shift are compared.
	window = 5
	// loud is the score from which a jump is a shift. A steady ramp scores under
	// 5 over the window and so has none.
	loud = 5.5
	// mostShifts bounds the answer; the largest are kept.
	mostShifts = 5
	topScore   = 1000
)

// ChangePoints finds lasting changes of level, oldest first, at most five: the
// series is cut where that explains most of its variance, then each part again.
// Spikes of one or two points are none, nor is a steady rise.
func ChangePoints(points []Point) []Shift {
	f := finite(points)
	if len(f) < 2*side {
		return nil
	}
	v := values(f)
	steps := make([]float64, len(v)-1)
	for i := range steps {
		steps[i] = math.Abs(v[i+1] - v[i])
	}
	noise := 1.4826 * median(steps) / math.Sqrt2
	s := Summarise(f)
	// Where most neighbours are equal the noise is nil: a fiftieth of what the
	// series spans is then the least that counts.
	least := math.Max(noise*loud, (s.Max/2-s.Min/2)/25)
	if least <= 0 || !Finite(least) {
		return nil
	}
	var cuts []int
	var split func(lo, hi int)
	split = func(lo, hi int) {
		k := bestCut(v[lo:hi])
		if k < 0 {
			return
		}
		k += lo
		if math.Abs(jump(v, lo, k, hi)) < least {
			return
		}
		cuts = append(cuts, k)
		split(lo, k)
		split(k, hi)
	}
	split(0, len(v))
	slices.Sort(cuts)
	out := make([]Shift, 0, len(cuts))
	for i, k := range cuts {
		lo, hi := 0, len(v)
		if i > 0 {
			lo = cuts[i-1]
		}
		if i+1 < len(cuts) {
			hi = cuts[i+1]
		}
		score := math.Abs(jump(v, lo, k, hi)) / (least / loud)
		out = append(out, Shift{At: f[k].At, Before: median(slices.Clone(v[lo:k])), After: median(slices.Clone(v[k:hi])), Score: math.Min(score, topScore)})
	}
	if len(out) > mostShifts {
		slices.SortStableFunc(out, func(a, b Shift) int { return cmp.Compare(b.Score, a.Score) })
		out = out[:mostShifts]
		slices.SortFunc(out, func(a, b Shift) int { return a.At.Compare(b.At) })
	}
	return out
}

// bestCut is where two means explain most, -1 when v is too short or constant.
func bestCut(v []float64) int {
	n := len(v)
	if n < 2*side {
		return -1
	}
	scale := 0.0
	for _, x := range v {
		scale = math.Max(scale, math.Abs(x))
	}
	if scale == 0 {
		return -1
	}
	var total float64
	for _, x := range v {
		total += x / scale
	}
	best, at, left := 0.0, -1, 0.0
	for k := 1; k <= n-side; k++ {
		left += v[k-1] / scale
		if k < side {
			continue
		}
		d := left/float64(k) - (total-left)/float64(n-k)
		if gain := d * d * float64(k) * float64(n-k) / float64(n); gain > best {
			best, at = gain, k
		}
	}
	return at
}

// jump compares the medians of the points just beside a cut.
func jump(v []float64, lo, k, hi int) float64 {
	return median(slices.Clone(v[k:min(k+window, hi)])) - median(slices.Clone(v[max(k-window, lo):k]))
}
