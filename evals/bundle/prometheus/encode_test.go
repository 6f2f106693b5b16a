package prometheus

import (
	"math"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
)

func TestEncodeFolds(t *testing.T) {
	t.Parallel()
	gap := cell{missing: true}
	of := func(v ...float64) []cell {
		out := make([]cell, len(v))
		for i := range v {
			out[i].f = v[i]
		}
		return out
	}
	ls := labels.FromStrings("__name__", "up", "job", `a "b"`)
	for name, tc := range map[string]struct {
		in   []cell
		want string
	}{
		"run":       {of(1, 1, 1, 1), "1x3"},
		"ramp":      {of(0, 2, 4, 6), "0+2x3"},
		"falling":   {of(6, 4, 2), "6-2x2"},
		"two":       {of(1, 2), "1 2"},
		"gap":       {append(append(of(1), gap, gap, gap), of(2)...), "1 stale _x2 2"},
		"late":      {append([]cell{gap, gap}, of(2)...), "_x2 2"},
		"fractions": {of(0.5, 1.0, 1.5), "0.5 1 1.5"},
		"special":   {of(math.NaN(), math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)), "NaN NaN Inf -Inf 0"},
	} {
		got := encode(ls, tc.in)
		if want := `{__name__="up", job="a \"b\""} ` + tc.want; got != want && got != `up{job="a \"b\""} `+tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// FuzzEncode writes any values and reads them back: nothing may change.
func FuzzEncode(f *testing.F) {
	f.Add([]byte{1, 1, 1, 2, 3, 4, 5, 0, 0, 250, 251, 9}, "label")
	f.Add([]byte{250, 250, 250, 251, 251, 252, 252, 253, 254}, "")
	f.Add([]byte{0, 0, 3}, "x\"y\\z\n")
	f.Fuzz(func(t *testing.T, raw []byte, label string) {
		if len(raw) == 0 || len(raw) > 500 {
			return
		}
		special := []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e-300, 1e300, -1.5}
		cells := make([]cell, len(raw))
		for i, b := range raw {
			switch {
			case b == 0:
				cells[i].missing = true
			case int(b) >= 250:
				cells[i].f = special[int(b)-250]
			case b%2 == 0:
				cells[i].f = float64(int(b) - 100)
			default:
				cells[i].f = float64(b) / 7
			}
		}
		ls := labels.FromStrings("__name__", "m", "l", strings.ToValidUTF8(label, "?"))
		text := encode(ls, cells)
		if n := expands(text); n < len(cells) {
			t.Fatalf("%q is counted as %d, and stands for %d", text, n, len(cells))
		}
		got, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if labels.Compare(got, ls) != 0 || len(values) != len(cells) {
			t.Fatalf("%q reads as %s with %d values, want %d", text, got, len(values), len(cells))
		}
		for i, v := range values {
			c := cells[i]
			switch {
			case c.missing && (v.Omitted || value.IsStaleNaN(v.Value)):
			case c.missing, v.Omitted:
				t.Fatalf("%q: value %d", text, i)
			case math.IsNaN(c.f) && math.IsNaN(v.Value) && !value.IsStaleNaN(v.Value):
			case c.f != v.Value:
				t.Fatalf("%q: value %d is %v, want %v", text, i, v.Value, c.f)
			}
		}
	})
}
