package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sizes of a chart in its own units.
const (
	chartWidth, chartHeight                   = 520, 230
	chartLeft, chartRight, chartTop, chartLow = 58, 12, 12, 30
	// maxLines is how many series one chart shows, maxCharts how many charts a piece
	// of evidence.
	maxLines, maxCharts = 8, 4
	// maxPoints bounds the points of a series.
	maxPoints = 2000
	// largest is the largest value that is drawn; what is beyond cannot be scaled.
	largest = 1e300
)

// chart is a drawing of series over time.
type chart struct {
	Title, Evidence  string
	Width, Height    int
	X1, X2, Y1, Y2   float64
	XTicks, YTicks   []tick
	Lines            []chartLine
	Shifts           []shiftMark
	Left, Alt, Range string
}

// tick is a mark of an axis.
type tick struct {
	At    float64
	Label string
}

// chartLine is a series.
type chartLine struct {
	// Style numbers colour and dashes.
	Style int
	Name  string
	// Paths are its stretches without gaps; Dots are stretches of one point.
	Paths            []string
	Dots             [][2]float64
	First, Last      string
	Least, Most      string
	Trend, Sparkline string
}

// shiftMark is a lasting change of level.
type shiftMark struct {
	X    float64
	Text string
}

// course is the part of a series in a tool's data that a chart needs: points of Unix
// seconds and values. toolsets/prom's prom_range gives it.
type course struct {
	Labels    map[string]string `json:"labels"`
	Name      string            `json:"name"`
	Trend     string            `json:"trend"`
	Sparkline string            `json:"sparkline"`
	Shifts    []struct {
		At     time.Time `json:"at"`
		Before float64   `json:"before"`
		After  float64   `json:"after"`
	} `json:"shifts"`
	Points [][2]float64 `json:"points"`
}

// charts draws the series in a tool's data, wherever they stand in it.
func charts(evidence, toolName string, data json.RawMessage) []chart {
	if len(data) == 0 || !strings.Contains(string(data), `"points"`) {
		return nil
	}
	var out []chart
	find(data, 0, func(title string, step float64, series []course, total int) {
		if len(out) < maxCharts {
			if title == "" {
				title = toolName
			}
			if c, ok := plot(title, step, series, total); ok {
				c.Evidence = evidence
				out = append(out, c)
			}
		}
	})
	return out
}

// maxDepth is how deep in a document series are looked for.
const maxDepth = 4

// find tells of the lists of series in a document, in the order of their keys.
func find(data json.RawMessage, depth int, tell func(string, float64, []course, int)) {
	if depth > maxDepth {
		return
	}
	var list []json.RawMessage
	if json.Unmarshal(data, &list) == nil {
		for _, d := range list {
			find(d, depth+1, tell)
		}
		return
	}
	var obj map[string]json.RawMessage
	if json.Unmarshal(data, &obj) != nil {
		return
	}
	var named struct {
		Expr   string            `json:"expr"`
		Metric string            `json:"metric"`
		Step   float64           `json:"step_seconds"`
		Total  int               `json:"total"`
		Series []json.RawMessage `json:"series"`
	}
	if json.Unmarshal(data, &named) == nil && len(named.Series) > 0 {
		var series []course
		for _, raw := range named.Series {
			var c course
			if json.Unmarshal(raw, &c) == nil && len(c.Points) > 0 && len(c.Points) <= maxPoints {
				series = append(series, c)
			}
		}
		if len(series) > 0 {
			tell(cmp.Or(named.Expr, named.Metric), named.Step, series, max(named.Total, len(named.Series)))
			return
		}
	}
	for _, k := range slices.Sorted(maps.Keys(obj)) {
		find(obj[k], depth+1, tell)
	}
}

// plot draws one chart. Points that are no number are left out; it is false when
// none is left.
func plot(title string, step float64, series []course, total int) (chart, bool) {
	c := chart{Title: clean(title), Width: chartWidth, Height: chartHeight, X1: chartLeft, X2: chartWidth - chartRight, Y1: chartTop, Y2: chartHeight - chartLow}
	if len(series) > maxLines {
		series = series[:maxLines]
	}
	if total > len(series) {
		c.Left = fmt.Sprintf("%d of %d series are drawn.", len(series), total)
	}
	from, to := math.Inf(1), math.Inf(-1)
	least, most := math.Inf(1), math.Inf(-1)
	for i := range series {
		series[i].Points = slices.DeleteFunc(slices.Clone(series[i].Points), func(p [2]float64) bool { return !finite(p[0]) || !(math.Abs(p[1]) <= largest) })
		slices.SortStableFunc(series[i].Points, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
		for _, p := range series[i].Points {
			from, to = min(from, p[0]), max(to, p[0])
			least, most = min(least, p[1]), max(most, p[1])
		}
	}
	if !finite(from) || !finite(least) || !finite(most-least) || math.Abs(from) > 1e11 || math.Abs(to) > 1e11 {
		return c, false
	}
	if to == from {
		from, to = from-30, to+30
	}
	low, high, unit := scale(least, most)
	x := func(t float64) float64 { return round(c.X1 + (t-from)/(to-from)*(c.X2-c.X1)) }
	y := func(v float64) float64 { return round(c.Y2 - (v-low)/(high-low)*(c.Y2-c.Y1)) }
	for n := 0; ; n++ {
		v := low + float64(n)*unit
		if v > high+unit/2 || n > 12 {
			break
		}
		c.YTicks = append(c.YTicks, tick{y(v), figure(v)})
	}
	c.XTicks = timeTicks(from, to, x)
	for i, s := range series {
		if len(s.Points) == 0 {
			continue
		}
		c.Lines = append(c.Lines, line(i, s, step, x, y))
		for _, sh := range s.Shifts {
			if t := float64(sh.At.Unix()); t >= from && t <= to && len(c.Shifts) < maxLines {
				c.Shifts = append(c.Shifts, shiftMark{x(t), fmt.Sprintf("%s: from %s to %s at %s", name(s, i), figure(sh.Before), figure(sh.After), sh.At.UTC().Format("15:04"))})
			}
		}
	}
	a, b := time.Unix(int64(from), 0).UTC(), time.Unix(int64(to), 0).UTC()
	c.Range = a.Format("2006-01-02 15:04") + " to " + b.Format("2006-01-02 15:04") + " UTC"
	c.Alt = fmt.Sprintf("Chart of %s, %s, %s. Values from %s to %s.", c.Title, plural(len(c.Lines), "series", "series"), c.Range, figure(least), figure(most))
	return c, true
}

// line draws one series; a gap of more than three steps is left open.
func line(i int, s course, step float64, x, y func(float64) float64) chartLine {
	l := chartLine{Style: i % maxLines, Name: name(s, i), Trend: clean(s.Trend), Sparkline: clean(s.Sparkline)}
	gap := 3 * step
	if gap <= 0 {
		gap = 3 * median(s.Points)
	}
	var b strings.Builder
	n := 0
	var last [2]float64
	flush := func() {
		switch {
		case n > 1:
			l.Paths = append(l.Paths, b.String())
		case n == 1:
			l.Dots = append(l.Dots, [2]float64{x(last[0]), y(last[1])})
		}
		b.Reset()
		n = 0
	}
	least, most := math.Inf(1), math.Inf(-1)
	for _, p := range s.Points {
		if n > 0 && gap > 0 && p[0]-last[0] > max(gap, 3*median(s.Points)) {
			flush()
		}
		cmd := "L"
		if n == 0 {
			cmd = "M"
		}
		fmt.Fprintf(&b, "%s%g %g", cmd, x(p[0]), y(p[1]))
		n++
		last = p
		least, most = min(least, p[1]), max(most, p[1])
	}
	flush()
	l.First, l.Last, l.Least, l.Most = figure(s.Points[0][1]), figure(last[1]), figure(least), figure(most)
	return l
}

// median gives the middle distance of points in time, in seconds.
func median(points [][2]float64) float64 {
	if len(points) < 2 {
		return 0
	}
	ds := make([]float64, 0, len(points)-1)
	for i := range points[1:] {
		ds = append(ds, points[i+1][0]-points[i][0])
	}
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// name says which series it is: its labels without the metric's name.
func name(s course, i int) string {
	if s.Name != "" {
		return clip(clean(s.Name), 80)
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		if k != "__name__" {
			parts = append(parts, clean(k)+"="+clean(s.Labels[k]))
		}
	}
	if len(parts) == 0 {
		return cmp.Or(clean(s.Labels["__name__"]), "series "+strconv.Itoa(i+1))
	}
	return clip(strings.Join(parts, " "), 80)
}

// scale gives a range of round numbers that holds the values, and the step of its ticks.
func scale(least, most float64) (low, high, unit float64) {
	if least > 0 && (least < most/2 || least == most) {
		least = 0
	}
	if most < 0 && (most > least/2 || least == most) {
		most = 0
	}
	// A line that is flat but for the last digits is flat.
	if most-least <= 1e-12*max(math.Abs(least), math.Abs(most)) || most-least < 1e-200 {
		half := max(1, math.Abs(most)/10) / 2
		least, most = least-half, most+half
	}
	raw := (most - least) / 4
	mag := math.Pow(10, math.Floor(math.Log10(raw)))
	unit = 10 * mag
	for _, m := range []float64{1, 2, 2.5, 5} {
		if raw <= m*mag {
			unit = m * mag
			break
		}
	}
	low, high = math.Floor(least/unit)*unit, math.Ceil(most/unit)*unit
	if !finite(low) || !finite(high) || high <= low {
		return least, most, (most - least) / 4
	}
	return low, high, unit
}

// timeTicks marks round times of the day.
func timeTicks(from, to float64, x func(float64) float64) []tick {
	const most = 6
	step := (to - from) / most
	for _, s := range []float64{1, 5, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800} {
		if step = s; (to-from)/s <= most {
			break
		}
	}
	layout := "15:04"
	switch {
	case step < 60:
		layout = "15:04:05"
	case to-from > 24*3600:
		layout = "01-02 15:04"
	}
	if step >= 86400 {
		layout = "01-02"
	}
	var out []tick
	for t := math.Ceil(from/step) * step; t <= to && len(out) <= most; t += step {
		out = append(out, tick{x(t), time.Unix(int64(t), 0).UTC().Format(layout)})
	}
	return out
}

// figure writes a value with four digits and the prefix of its size.
func figure(v float64) string {
	a := math.Abs(v)
	for _, u := range []struct {
		of   float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}} {
		if a >= u.of {
			return strconv.FormatFloat(v/u.of, 'g', 4, 64) + u.name
		}
	}
	switch {
	case a >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a < 1e-9:
		return "0"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func round(f float64) float64 { return math.Round(f*10) / 10 }
