package metric

import (
	"cmp"
	"math"
	"slices"
)

// Outlier is a value that stands apart from its peers.
type Outlier struct {
	// Index into the values that were given.
	Index int
	Value float64
	// Median of all finite values.
	Median float64
	// Score is the distance from the median in robust standard deviations, with
	// the sign of the distance, at most 1000.
	Score float64
}

// apart is the score from which a value stands apart, as Iglewicz and Hoaglin
// propose for the modified z-score ("How to Detect and Handle Outliers", 1993).
const apart = 3.5

// Outliers finds the values that stand apart from their peers, furthest first.
// Distance is measured in median absolute deviations, which the outliers
// themselves do not widen; a distance under share of the median never counts,
// so that equal peers do not make an outlier of a rounding difference. A value
// that is not finite is left out. Fewer than three peers prove nothing.
func Outliers(values []float64, share float64) []Outlier {
	ok := make([]float64, 0, len(values))
	for _, v := range values {
		if Finite(v) {
			ok = append(ok, v)
		}
	}
	if len(ok) < 3 {
		return nil
	}
	m := median(ok)
	unit := math.Max(1.4826*mad(ok, m), share*math.Abs(m)/apart)
	var out []Outlier
	for i, v := range values {
		if !Finite(v) || v == m {
			continue
		}
		score := float64(topScore)
		if unit > 0 {
			score = math.Min(math.Abs(v-m)/unit, topScore)
		}
		if score < apart {
			continue
		}
		out = append(out, Outlier{Index: i, Value: v, Median: m, Score: math.Copysign(score, v-m)})
	}
	slices.SortStableFunc(out, func(a, b Outlier) int { return cmp.Compare(math.Abs(b.Score), math.Abs(a.Score)) })
	return out
}
