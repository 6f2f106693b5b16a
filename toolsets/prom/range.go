package prom

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// RangeIn is the input of prom_range.
type RangeIn struct {
	Expr  string `json:"expr" jsonschema:"PromQL; take rate() of counters"`
	From  string `json:"from,omitempty" jsonschema:"RFC 3339 or -1h; default an hour before to"`
	To    string `json:"to,omitempty"`
	Step  string `json:"step,omitempty" jsonschema:"default fits the range"`
	Limit int    `json:"limit,omitempty" jsonschema:"series shown, default 12, at most 50"`
}

// RangeOut is the answer of prom_range.
type RangeOut struct {
	Expr string    `json:"expr"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Step between points, in seconds.
	Step float64 `json:"step_seconds"`
	// Total is how many series the expression gives; Series holds the most
	// telling.
	Total  int      `json:"total"`
	Series []Course `json:"series"`
	// Median of the series' means, where there are peers.
	Median  *float64 `json:"median,omitempty"`
	Partial []string `json:"partial,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// Course is one series over time, read.
type Course struct {
	Labels map[string]string `json:"labels"`
	First  *float64          `json:"first,omitempty"`
	Last   *float64          `json:"last,omitempty"`
	Min    *float64          `json:"min,omitempty"`
	Max    *float64          `json:"max,omitempty"`
	Mean   *float64          `json:"mean,omitempty"`
	// Trend is flat, rising, falling, unsteady or unknown.
	Trend string `json:"trend"`
	// Change is the slope over the whole range, for a trend.
	Change *float64 `json:"change,omitempty"`
	// Shifts are lasting changes of level.
	Shifts []Shift `json:"shifts,omitempty"`
	// Gaps are stretches without points, Ended the time of the last point when
	// the series stopped before the end of the range, Began that of the first
	// when it started late.
	Gaps  []Stretch `json:"gaps,omitempty"`
	Ended time.Time `json:"ended,omitzero"`
	Began time.Time `json:"began,omitzero"`
	// NaNs counts points that are no number.
	NaNs int `json:"nans,omitempty"`
	// Apart is how far the mean stands from that of its peers, in robust
	// standard deviations.
	Apart     float64 `json:"apart,omitempty"`
	Sparkline string  `json:"sparkline"`
	// Points are Unix seconds and values, thinned to at most 60 so that spikes
	// stay; a value that is no number is left out.
	Points [][2]float64 `json:"points"`
}

// Shift is a lasting change of level.
type Shift struct {
	At     time.Time `json:"at"`
	Before float64   `json:"before"`
	After  float64   `json:"after"`
}

// Stretch of time.
type Stretch struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

const (
	// rangeSeries is how many peers one answer compares.
	rangeSeries = 400
	// rangeSteps is how many points a series is read with.
	rangeSteps = 300
	// keptPoints is how many points of a series stay in the data.
	keptPoints = 60
	// sparkWidth is how many characters a sparkline has.
	sparkWidth = 24
	// mostWindow is how long a range may be.
	mostWindow = 7 * 24 * time.Hour
)

// queryRange evaluates an expression over time and reads what it gives.
func (t *Toolset) queryRange(ctx context.Context, in RangeIn) (tool.Output[RangeOut], error) {
	var out tool.Output[RangeOut]
	to, err := t.moment("to", in.To, t.client.Now())
	if err != nil {
		return out, err
	}
	from, err := t.moment("from", in.From, to.Add(-time.Hour))
	if err != nil {
		return out, err
	}
	limit, err := within1("limit", in.Limit, 12, 50)
	if err != nil {
		return out, err
	}
	var step time.Duration
	if in.Step != "" {
		d, err := model.ParseDuration(in.Step)
		if err != nil || d <= 0 {
			return out, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("step %q is no duration", clip(in.Step, 40)), Fix: "write 30s, 1m, 5m, or leave it out"}
		}
		step = time.Duration(d)
	}
	switch span := to.Sub(from); {
	case span <= 0:
		return out, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("from %s is not before to %s", stamp(from), stamp(to)), Fix: "from may be relative to now: -1h"}
	case span > mostWindow:
		return out, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("the range of %s is longer than %s", short(span), short(mostWindow)), Fix: "ask for the time around the incident"}
	}
	step = Step(from, to, step, rangeSteps)
	ans, err := t.client.queryRange(ctx, in.Expr, from, to, step, rangeSeries)
	if err != nil {
		return out, err
	}
	if ans.text != "" {
		return out, &tool.Error{Kind: tool.Invalid, User: "the expression gives a text, not series", Fix: "use prom_query"}
	}
	d := RangeOut{Expr: in.Expr, From: from, To: to, Step: ans.step.Seconds(), Total: len(ans.series), Series: []Course{}, Partial: ans.missing, Notes: ans.notes}
	all := make([]Course, len(ans.series))
	means := make([]float64, len(ans.series))
	for i, s := range ans.series {
		all[i], means[i] = course(s, from, to, ans.step)
	}
	for _, o := range metric.Outliers(means, share) {
		all[o.Index].Apart, d.Median = o.Score, num(o.Median)
	}
	slices.SortStableFunc(all, func(a, b Course) int { return cmp.Compare(telling(b), telling(a)) })
	d.Series = append(d.Series, all[:min(limit, len(all))]...)
	out.Data, out.Text = d, rangeText(d)
	return out, nil
}

// course reads one series; the mean is NaN where it has no numbers.
func course(s metric.Series, from, to time.Time, step time.Duration) (Course, float64) {
	sum := metric.Summarise(s.Points)
	trend := metric.Trend(s.Points)
	c := Course{Labels: s.Labels, First: num(sum.First), Last: num(sum.Last), Min: num(sum.Min), Max: num(sum.Max), Mean: num(sum.Mean), NaNs: sum.NaNs,
		Trend: string(trend.Direction), Sparkline: metric.Sparkline(s.Points, from, to, sparkWidth), Points: [][2]float64{}}
	if trend.Direction == metric.Rising || trend.Direction == metric.Falling {
		c.Change = num(trend.Change)
	}
	for _, sh := range metric.ChangePoints(s.Points) {
		c.Shifts = append(c.Shifts, Shift{At: sh.At, Before: sh.Before, After: sh.After})
	}
	for _, g := range metric.Gaps(s.Points, from, to, step) {
		switch {
		case len(s.Points) == 0:
		case g.From.Equal(from) && !s.Points[0].At.Equal(from):
			c.Began = g.To
		case g.To.Equal(to) && !s.Points[len(s.Points)-1].At.Equal(to):
			c.Ended = g.From
		case len(c.Gaps) < 5:
			c.Gaps = append(c.Gaps, Stretch{g.From, g.To})
		}
	}
	for _, p := range metric.Thin(s.Points, keptPoints) {
		if metric.Finite(p.Value) {
			c.Points = append(c.Points, [2]float64{float64(p.At.UnixMilli()) / 1000, p.Value})
		}
	}
	return c, sum.Mean
}

// telling is how much a series has to say: one that stopped or stands apart
// first, then shifts, then trends.
func telling(c Course) float64 {
	v := math.Min(math.Abs(c.Apart), 50)
	if !c.Ended.IsZero() {
		v += 100
	}
	if len(c.Shifts) > 0 {
		v += 20
	}
	switch c.Trend {
	case string(metric.Rising), string(metric.Falling):
		v += 10
	case string(metric.Unsteady):
		v += 5
	}
	if !c.Began.IsZero() {
		v += 8
	}
	if len(c.Gaps) > 0 || c.NaNs > 0 {
		v += 6
	}
	return v
}

func rangeText(d RangeOut) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d series, %s to %s, step %s", d.Total, stamp(d.From), stamp(d.To), short(time.Duration(d.Step*float64(time.Second))))
	list := make([]map[string]string, len(d.Series))
	for i, s := range d.Series {
		list[i] = s.Labels
	}
	common := shared(list)
	if len(common) > 0 {
		fmt.Fprintf(&b, ", all %s", metric.Key(common))
	}
	b.WriteByte('\n')
	for _, s := range d.Series {
		b.WriteString(differing(s.Labels, common) + " " + s.words(d) + "\n")
	}
	if d.Total > len(d.Series) {
		fmt.Fprintf(&b, "%d more that say less\n", d.Total-len(d.Series))
	}
	if d.Total == 0 {
		b.WriteString("the expression matches nothing in this time\n")
	}
	remarks(&b, d.Partial, d.Notes)
	return strings.TrimRight(b.String(), "\n")
}

// words writes a course on one line.
func (c Course) words(d RangeOut) string {
	if c.First == nil {
		if c.NaNs > 0 {
			return fmt.Sprintf("|%s| only NaN (%d points): the source has nothing to say", c.Sparkline, c.NaNs)
		}
		return "no points"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "|%s| %s to %s, min %s, max %s, mean %s, %s", c.Sparkline, number(*c.First), number(*c.Last), number(*c.Min), number(*c.Max), number(*c.Mean), c.Trend)
	if c.Change != nil {
		fmt.Fprintf(&b, " by %s", number(*c.Change))
	}
	for _, s := range c.Shifts {
		fmt.Fprintf(&b, "; from %s to %s at %s", number(s.Before), number(s.After), stamp(s.At))
	}
	if !c.Began.IsZero() {
		fmt.Fprintf(&b, "; first point %s", stamp(c.Began))
	}
	if !c.Ended.IsZero() {
		fmt.Fprintf(&b, "; NO POINTS since %s", stamp(c.Ended))
	}
	for _, g := range c.Gaps {
		fmt.Fprintf(&b, "; gap %s to %s", stamp(g.From), stamp(g.To))
	}
	if c.NaNs > 0 {
		fmt.Fprintf(&b, "; %d points NaN", c.NaNs)
	}
	if c.Apart != 0 && d.Median != nil {
		side := "above"
		if c.Apart < 0 {
			side = "below"
		}
		fmt.Fprintf(&b, "; stands apart, %s its %d peers' median %s", side, d.Total-1, number(*d.Median))
	}
	return b.String()
}
