package tui

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// series is what a tool gave as a line over time: any object of its data that has
// "points" as pairs of Unix seconds and value, the form of prom_range.
type series struct {
	name   string
	points []metric.Point
}

// maxSeries bounds how many lines one piece of evidence draws.
const maxSeries = 4

// seriesOf finds the series in the data of evidence.
func seriesOf(e incident.Evidence) []series {
	if len(e.Data) == 0 || !strings.Contains(string(e.Data), `"points"`) {
		return nil
	}
	var v any
	if json.Unmarshal(e.Data, &v) != nil {
		return nil
	}
	var out []series
	walkSeries(v, &out)
	return out
}

func walkSeries(v any, out *[]series) {
	if len(*out) >= maxSeries {
		return
	}
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			walkSeries(x, out)
		}
	case map[string]any:
		if pts := pointsOf(v["points"]); len(pts) > 1 {
			*out = append(*out, series{name: labelsOf(v), points: pts})
			return
		}
		for _, k := range sortedKeys(v) {
			walkSeries(v[k], out)
		}
	}
}

func pointsOf(v any) []metric.Point {
	list, ok := v.([]any)
	if !ok {
		return nil
	}
	var out []metric.Point
	for _, p := range list {
		pair, ok := p.([]any)
		if !ok || len(pair) != 2 {
			return nil
		}
		at, ok := pair[0].(float64)
		val, ok2 := pair[1].(float64)
		if !ok || !ok2 || math.Abs(at) > 1e11 {
			return nil
		}
		sec, frac := math.Modf(at)
		out = append(out, metric.Point{At: time.Unix(int64(sec), int64(frac*1e9)).UTC(), Value: val})
	}
	if !slices.IsSortedFunc(out, func(a, b metric.Point) int { return a.At.Compare(b.At) }) {
		return nil
	}
	return out
}

// labelsOf names a series by its labels.
func labelsOf(v map[string]any) string {
	labels, ok := v["labels"].(map[string]any)
	if !ok {
		if s, ok := v["name"].(string); ok {
			return clean(s)
		}
		return ""
	}
	var parts []string
	name := ""
	for _, k := range sortedKeys(labels) {
		s, ok := labels[k].(string)
		switch {
		case !ok:
		case k == metric.Name:
			name = s
		default:
			parts = append(parts, k+"="+s)
		}
	}
	return clean(strings.TrimSpace(name + " " + strings.Join(parts, " ")))
}

// sparks draws the series of the evidence that a diagnosis rests on.
func sparks(th theme, d incident.Diagnosis, all []incident.Evidence, width int) []string {
	cited := citedBy(d)
	var out []string
	for _, e := range all {
		if cited[e.ID] {
			out = append(out, sparkLines(th, e, width)...)
		}
	}
	return out
}

// sparkLines draws the series of one piece of evidence.
func sparkLines(th theme, e incident.Evidence, width int) []string {
	var out []string
	cols := min(max(width/3, 8), 40)
	for _, s := range seriesOf(e) {
		first, last := s.points[0], s.points[len(s.points)-1]
		line := metric.Sparkline(s.points, first.At, last.At, cols)
		lo, hi := s.points[0].Value, s.points[0].Value
		for _, p := range s.points {
			lo, hi = min(lo, p.Value), max(hi, p.Value)
		}
		out = append(out, clip(fmt.Sprintf("%s %s %s", th.accent.Render(line), th.faint.Render(fmt.Sprintf("%.4g to %.4g, now %.4g", lo, hi, last.Value)), s.name+th.faint.Render(" ["+clean(e.ID)+"]")), width))
	}
	return out
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
