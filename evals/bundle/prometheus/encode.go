package prometheus

import (
	"math"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// encode writes a series on a grid of times in the notation that readSeries
// reads: index i of values is the i-th step. Runs are folded: "1x59" is sixty
// ones, "0+2x9" ten values two apart, "_x4" five steps without a value. Where a
// series ends a stale marker stands, so that a replay ends it there too.
func encode(ls labels.Labels, values []cell) string {
	var b strings.Builder
	b.WriteString(ls.String())
	for i := 0; i < len(values); {
		b.WriteByte(' ')
		n := run(values[i:])
		switch v := values[i]; {
		case v.missing && i > 0 && !values[i-1].missing:
			b.WriteString("stale")
			n = 1
		case v.missing:
			// "_x4" is four steps, where "1x4" is five values.
			b.WriteByte('_')
			if n > 1 {
				b.WriteString("x" + strconv.Itoa(n))
			}
		case math.IsNaN(v.f), math.IsInf(v.f, 0):
			b.WriteString(number(v.f))
			n = 1 // "NaNx3" would read as a name
		default:
			b.WriteString(number(v.f))
			if step, m := ramp(values[i:]); m > n {
				n = m
				if step >= 0 {
					b.WriteByte('+')
				}
				b.WriteString(number(step))
			}
			times(&b, n)
		}
		i += n
	}
	return b.String()
}

// cell is a value at a step, or the lack of one.
type cell struct {
	f       float64
	missing bool
}

func times(b *strings.Builder, n int) {
	if n > 1 {
		b.WriteByte('x')
		b.WriteString(strconv.Itoa(n - 1))
	}
}

// run is how many cells from the first are the same.
func run(cells []cell) int {
	n := 1
	for n < len(cells) && cells[n].missing == cells[0].missing && (cells[0].missing || math.Float64bits(cells[n].f) == math.Float64bits(cells[0].f)) {
		n++
	}
	return n
}

// ramp is how many cells from the first rise or fall evenly, by which step. Only
// whole numbers count, for which repeated addition is exact.
func ramp(cells []cell) (step float64, n int) {
	whole := func(c cell) bool {
		return !c.missing && c.f == math.Trunc(c.f) && math.Abs(c.f) < 1<<52
	}
	if len(cells) < 3 || !whole(cells[0]) || !whole(cells[1]) || cells[0].f == cells[1].f {
		return 0, 0
	}
	step = cells[1].f - cells[0].f
	for n = 2; n < len(cells) && whole(cells[n]) && cells[n].f-cells[n-1].f == step; n++ {
	}
	if n < 3 {
		return 0, 0
	}
	return step, n
}

func number(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Inf"
	case math.IsInf(f, -1):
		return "-Inf"
	case f == 0:
		return "0" // the notation has no negative zero
	}
	// Plain digits where they are short; an exponent's sign would read as a step.
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'e', -1, 64)
}

// grid puts points into cells, one each step from start. Points off the grid go
// to the step before them; stale markers are no values.
func grid(ps []point, start, step int64, n int) []cell {
	out := make([]cell, n)
	for i := range out {
		out[i].missing = true
	}
	for _, p := range ps {
		if i := (p.t - start) / step; p.t >= start && i < int64(n) && p.h == nil && !value.IsStaleNaN(p.f) {
			out[i] = cell{f: p.f}
		}
	}
	return out
}
