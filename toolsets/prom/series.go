package prom

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric/alias"
)

// SeriesIn is the input of prom_series.
type SeriesIn struct {
	Name   string `json:"name,omitempty"`
	Match  string `json:"match,omitempty" jsonschema:"a selector such as up{job=\"vllm\"}"`
	Label  string `json:"label,omitempty"`
	Signal string `json:"signal,omitempty"`
	Limit  int    `json:"limit,omitempty" jsonschema:"default 40, at most 500"`
}

// SeriesOut is the answer of prom_series.
type SeriesOut struct {
	// Total is how many there are; the lists hold the first.
	Total int `json:"total"`
	// Metrics are set when metrics, a selector or a signal are asked for.
	Metrics []MetricInfo `json:"metrics,omitempty"`
	// Values of the label that was asked for.
	Values []string `json:"values,omitempty"`
	// Expr finds a signal under all its names.
	Expr    string   `json:"expr,omitempty"`
	Partial []string `json:"partial,omitempty"`
}

// MetricInfo says what is known of a metric.
type MetricInfo struct {
	Name string `json:"name"`
	Type string `json:"type,omitempty"`
	Help string `json:"help,omitempty"`
	// Signal it is known as, and what the reader should know.
	Signal string `json:"signal,omitempty"`
	Unit   string `json:"unit,omitempty"`
	Means  string `json:"means,omitempty"`
	// Series is how many there are, where a selector was asked for.
	Series int `json:"series,omitempty"`
	// Labels by name, with how many values each has and the first ones.
	Labels map[string]LabelInfo `json:"labels,omitempty"`
}

// LabelInfo says what values a label has.
type LabelInfo struct {
	Count  int      `json:"count"`
	Values []string `json:"values"`
}

const (
	// lookback is how far back series count as being there.
	lookback = time.Hour
	// seriesRead is how many series of a selector are read.
	seriesRead = 5_000
	// labelShown is how many values of a label are shown.
	labelShown = 5
)

// series finds what can be queried.
func (t *Toolset) series(ctx context.Context, in SeriesIn) (tool.Output[SeriesOut], error) {
	var out tool.Output[SeriesOut]
	limit, err := within1("limit", in.Limit, 40, 500)
	if err != nil {
		return out, err
	}
	p, err := t.client.prometheus(ctx)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	to := t.client.Now()
	from := to.Add(-lookback)
	switch {
	case in.Signal != "":
		return t.signal(ctx, p, in.Signal, from, to)
	case in.Label != "":
		var match []string
		if in.Match != "" {
			if err := bounded(in.Match); err != nil {
				return out, err
			}
			match = []string{in.Match}
		}
		values, warnings, _, err := p.LabelValues(ctx, in.Label, match, from, to, v1.WithLimit(seriesRead))
		if err != nil {
			return out, t.client.explain(ctx, err)
		}
		d := SeriesOut{Total: len(values), Values: []string{}, Partial: clipped(warnings)}
		for _, v := range values[:min(len(values), limit)] {
			d.Values = append(d.Values, clip(string(v), maxLabel))
		}
		out.Data, out.Text = d, valuesText(in.Label, d)
		return out, nil
	case in.Match != "":
		return t.selector(ctx, p, in.Match, from, to, limit)
	}
	return t.names(ctx, p, in.Name, from, to, limit)
}

func clipped(warnings []string) []string {
	var out []string
	for _, w := range warnings {
		out = append(out, clip(w, 300))
	}
	return out
}

func valuesText(label string, d SeriesOut) string {
	if d.Total == 0 {
		return "label " + label + " has no values in the last hour"
	}
	shown := make([]string, len(d.Values))
	for i, v := range d.Values {
		shown[i] = clip(v, maxShown)
	}
	text := fmt.Sprintf("%d values of %s: %s", d.Total, label, strings.Join(shown, ", "))
	if d.Total > len(d.Values) {
		text += ", ..."
	}
	return withPartial(text, d.Partial)
}

func withPartial(text string, partial []string) string {
	var b strings.Builder
	b.WriteString(strings.TrimRight(text, "\n"))
	remarks(&b, partial, nil)
	return b.String()
}

// selector groups the series of a selector by metric, and counts the values of
// each label: which labels tell the series apart.
func (t *Toolset) selector(ctx context.Context, p v1.API, match string, from, to time.Time, limit int) (tool.Output[SeriesOut], error) {
	var out tool.Output[SeriesOut]
	if err := bounded(match); err != nil {
		return out, err
	}
	sets, warnings, _, err := p.Series(ctx, []string{match}, from, to, v1.WithLimit(seriesRead))
	if err != nil {
		return out, t.client.explain(ctx, err)
	}
	d := SeriesOut{Partial: clipped(warnings)}
	byName := map[string]*MetricInfo{}
	seen := map[string]map[string]map[string]bool{}
	for _, set := range sets {
		name := clip(string(set[model.MetricNameLabel]), maxLabel)
		m := byName[name]
		if m == nil {
			m = t.info(name)
			m.Labels = map[string]LabelInfo{}
			byName[name], seen[name] = m, map[string]map[string]bool{}
		}
		m.Series++
		for k, v := range set {
			label, value := clip(string(k), maxLabel), clip(string(v), maxLabel)
			if label == metric.Name {
				continue
			}
			if seen[name][label] == nil {
				seen[name][label] = map[string]bool{}
			}
			seen[name][label][value] = true
		}
	}
	for _, m := range byName {
		for label, values := range seen[m.Name] {
			sorted := slices.Sorted(maps.Keys(values))
			m.Labels[label] = LabelInfo{Count: len(sorted), Values: sorted[:min(len(sorted), labelShown)]}
		}
		d.Metrics = append(d.Metrics, *m)
	}
	slices.SortFunc(d.Metrics, func(a, b MetricInfo) int { return strings.Compare(a.Name, b.Name) })
	d.Total = len(d.Metrics)
	d.Metrics = d.Metrics[:min(limit, len(d.Metrics))]
	out.Data = d
	var b strings.Builder
	fmt.Fprintf(&b, "%d series of %d metrics in the last hour\n", len(sets), d.Total)
	for _, m := range d.Metrics {
		fmt.Fprintf(&b, "%s: %d series%s\n", m.Name, m.Series, means(m))
		for _, label := range byCount(m.Labels) {
			l := m.Labels[label]
			shown := make([]string, len(l.Values))
			for i, v := range l.Values {
				shown[i] = clip(v, maxShown)
			}
			more := ""
			if l.Count > len(l.Values) {
				more = fmt.Sprintf(", ... (%d)", l.Count)
			}
			fmt.Fprintf(&b, "  %s: %s%s\n", label, strings.Join(shown, ", "), more)
		}
	}
	out.Text = withPartial(b.String(), d.Partial)
	return out, nil
}

// byCount orders labels by how many values they have, the most first: those
// tell series apart.
func byCount(labels map[string]LabelInfo) []string {
	names := slices.Sorted(maps.Keys(labels))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(labels[b].Count, labels[a].Count) })
	return names
}

// info is what the alias table knows of a metric.
func (t *Toolset) info(name string) *MetricInfo {
	m := &MetricInfo{Name: name}
	if s, ok := t.aliases.Meaning(name); ok {
		m.Signal, m.Unit, m.Means = s.Signal, s.Unit, s.Text
	}
	return m
}

func means(m MetricInfo) string {
	var parts []string
	if m.Type != "" && m.Type != "unknown" {
		parts = append(parts, m.Type)
	}
	switch {
	case m.Means != "":
		parts = append(parts, m.Signal+": "+m.Means)
	case m.Help != "":
		parts = append(parts, m.Help)
	}
	if len(parts) == 0 {
		return ""
	}
	return "  " + strings.Join(parts, ", ")
}

// names lists metrics whose name contains a text, with what the server knows of
// them.
func (t *Toolset) names(ctx context.Context, p v1.API, part string, from, to time.Time, limit int) (tool.Output[SeriesOut], error) {
	var out tool.Output[SeriesOut]
	values, warnings, _, err := p.LabelValues(ctx, metric.Name, nil, from, to)
	if err != nil {
		return out, t.client.explain(ctx, err)
	}
	d := SeriesOut{Partial: clipped(warnings)}
	for _, v := range values {
		name := clip(string(v), maxLabel)
		if strings.Contains(strings.ToLower(name), strings.ToLower(part)) {
			d.Total++
			if len(d.Metrics) < limit {
				d.Metrics = append(d.Metrics, *t.info(name))
			}
		}
	}
	if part != "" && len(d.Metrics) > 0 {
		t.describe(ctx, p, d.Metrics)
	}
	out.Data = d
	var b strings.Builder
	fmt.Fprintf(&b, "%d metrics", d.Total)
	if part != "" {
		fmt.Fprintf(&b, " whose name contains %q", clip(part, 60))
	}
	fmt.Fprintf(&b, ", of %d in the last hour\n", len(values))
	for _, m := range d.Metrics {
		b.WriteString(m.Name + means(m) + "\n")
	}
	if d.Total > len(d.Metrics) {
		fmt.Fprintf(&b, "%d more; narrow by name\n", d.Total-len(d.Metrics))
	}
	out.Text = withPartial(b.String(), d.Partial)
	return out, nil
}

// mostDescribed is how many metrics are asked about one by one.
const mostDescribed = 8

// describe fills in type and help. A server without metadata leaves them out.
func (t *Toolset) describe(ctx context.Context, p v1.API, list []MetricInfo) {
	for i := range list[:min(len(list), mostDescribed)] {
		m := &list[i]
		for _, name := range []string{m.Name, strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(m.Name, "_bucket"), "_sum"), "_count"), "_total")} {
			meta, err := p.Metadata(ctx, name, "1")
			if err != nil {
				return
			}
			if got := meta[name]; len(got) > 0 {
				m.Type, m.Help = string(got[0].Type), clip(got[0].Help, 200)
				break
			}
		}
	}
}

// signal tells under which of its names a signal is here.
func (t *Toolset) signal(ctx context.Context, p v1.API, name string, from, to time.Time) (tool.Output[SeriesOut], error) {
	var out tool.Output[SeriesOut]
	s, ok := t.aliases.Signal(name)
	if !ok {
		var near []string
		group, _, _ := strings.Cut(name, ".")
		for _, o := range t.aliases.List {
			if strings.HasPrefix(o.Signal, group+".") || strings.Contains(o.Signal, name) {
				near = append(near, o.Signal)
			}
		}
		if len(near) == 0 {
			near = []string{"gpu.utilization", "engine.kv_usage", "container.memory", "node.condition"}
		}
		return out, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("there is no signal %q", clip(name, 60)), Fix: "one of " + strings.Join(near, ", ")}
	}
	names := make([]string, 0, len(s.Metrics))
	for _, m := range s.Metrics {
		names = append(names, m.Name)
		if s.Kind == alias.Histogram {
			names = append(names, m.Name+"_bucket")
		}
	}
	found, warnings, _, err := p.LabelValues(ctx, metric.Name, []string{"{__name__=~" + metric.AnyOf(names...) + "}"}, from, to)
	if err != nil {
		return out, t.client.explain(ctx, err)
	}
	d := SeriesOut{Total: len(found), Partial: clipped(warnings)}
	for _, v := range found {
		d.Metrics = append(d.Metrics, *t.info(string(v)))
	}
	if d.Expr, err = t.aliases.Expr(s.Signal, nil, ""); err != nil {
		return out, err
	}
	out.Data = d
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s%s): %s\n", s.Signal, s.Kind, unit(s.Unit), s.Text)
	if d.Total == 0 {
		fmt.Fprintf(&b, "not here in the last hour under any of its names: %s", strings.Join(names, ", "))
	}
	for _, m := range d.Metrics {
		fmt.Fprintf(&b, "here as %s\n", m.Name)
	}
	out.Text = withPartial(b.String(), d.Partial)
	return out, nil
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return ", " + u
}
