package prometheus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// ruleFile is one file of rules.
type ruleFile struct {
	name   string
	groups []rulefmt.RuleGroup
}

// readRules reads a rule file the way Prometheus loads one: a file with a rule
// that does not parse is refused.
func (r *reader) readRules(name string, raw []byte) error {
	groups, errs := rulefmt.Parse(raw, false, model.UTF8Validation, r.parser, slog.New(slog.DiscardHandler))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.rules = append(r.rules, ruleFile{name: name, groups: groups.Groups})
	return nil
}

const (
	// ruleInterval is Prometheus' default evaluation interval.
	ruleInterval = time.Minute
	// ruleSteps bounds how far back a rule is evaluated.
	ruleSteps = 1500
)

// derived is what follows from the series: the state of the rules, and the
// series that rules write.
type derived struct {
	store  *store
	groups []ruleGroup
}

// evaluate runs the rules over the recording as Prometheus would have: recording
// rules write series, alerting rules go from pending to firing. A bundle that
// recorded the state of its rules keeps that: its series are a part of what the
// server had, and would say something else.
func (s *Server) evaluate() *derived {
	d := &derived{store: s.store, groups: []ruleGroup{}}
	if s.rec.hasRules {
		d.groups = append(d.groups, s.rec.rules...)
		return d
	}
	hasAlerts := len(s.store.byName["ALERTS"]) > 0
	var alerts []*series
	for _, f := range s.files {
		for _, g := range f.groups {
			e := evaluation{Server: s, store: d.store, group: g, every: time.Duration(g.Interval)}
			if e.every <= 0 {
				e.every = ruleInterval
			}
			out := ruleGroup{Name: g.Name, File: f.name, Interval: e.every.Seconds(), Limit: g.Limit, LastEvaluation: s.now, Rules: []any{}}
			for _, r := range g.Rules {
				if r.Record != "" {
					out.Rules = append(out.Rules, e.record(r))
					continue
				}
				rule, history := e.alert(r)
				out.Rules = append(out.Rules, rule)
				alerts = append(alerts, history...)
			}
			d.store = e.store
			d.groups = append(d.groups, out)
		}
	}
	if !hasAlerts && len(alerts) > 0 {
		d.store = d.store.with(alerts)
	}
	return d
}

// evaluation of one group.
type evaluation struct {
	*Server
	store *store
	group rulefmt.RuleGroup
	every time.Duration
}

// over evaluates an expression at every step up to the capture.
func (e *evaluation) over(ctx context.Context, expr string) (promql.Matrix, func(), error) {
	first := e.store.first()
	if first == math.MaxInt64 || first > e.now.UnixMilli() {
		first = e.now.UnixMilli()
	}
	steps := min((e.now.UnixMilli()-first)/e.every.Milliseconds(), ruleSteps)
	q, err := e.engine.NewRangeQuery(ctx, e.store, nil, expr, e.now.Add(-time.Duration(steps)*e.every), e.now, e.every)
	if err != nil {
		return nil, nil, err
	}
	res := q.Exec(ctx)
	if res.Err != nil {
		q.Close()
		return nil, nil, res.Err
	}
	m, err := res.Matrix()
	if err != nil {
		q.Close()
		return nil, nil, err
	}
	return m, q.Close, nil
}

// healthy evaluates the expression once, at the capture: the health of a rule is
// that of its last evaluation.
func (e *evaluation) healthy(ctx context.Context, expr string) (health, lastError string) {
	res, done, err := e.instant(ctx, e.store, expr, e.now)
	if err == nil {
		defer done()
		err = res.Err
	}
	if err != nil {
		return "err", err.Error()
	}
	return "ok", ""
}

// pretty writes an expression as Prometheus' API does.
func (e *evaluation) pretty(expr string) string {
	parsed, err := e.parser.ParseExpr(expr)
	if err != nil {
		return expr
	}
	return parsed.String()
}

// record evaluates a recording rule; its series join the store unless the
// bundle has series of that name.
func (e *evaluation) record(r rulefmt.Rule) *recordingRule {
	ctx := context.Background()
	out := &recordingRule{Name: r.Record, Query: e.pretty(r.Expr), Labels: e.labels(r), LastEvaluation: e.now, Type: "recording"}
	if out.Health, out.LastError = e.healthy(ctx, r.Expr); out.Health != "ok" || len(e.store.byName[r.Record]) > 0 {
		return out
	}
	m, done, err := e.over(ctx, r.Expr)
	if err != nil {
		return out
	}
	defer done()
	var more []*series
	seen := map[string]bool{}
	for _, found := range m {
		b := labels.NewBuilder(found.Metric).Set(model.MetricNameLabel, r.Record)
		out.Labels.Range(func(l labels.Label) { b.Set(l.Name, l.Value) })
		at := &series{labels: b.Labels()}
		for _, p := range found.Floats {
			at.points = append(at.points, point{t: p.T, f: p.F})
		}
		for _, p := range found.Histograms {
			at.points = append(at.points, point{t: p.T, h: p.H.Copy()})
		}
		if key := at.labels.String(); !seen[key] {
			seen[key] = true
			more = append(more, at)
		}
	}
	e.store = e.store.with(more)
	return out
}

// labels a rule adds, those of its group first.
func (e *evaluation) labels(r rulefmt.Rule) labels.Labels {
	b := labels.NewBuilder(labels.FromMap(e.group.Labels))
	for k, v := range r.Labels {
		b.Set(k, v)
	}
	return b.Labels()
}

// alert evaluates an alerting rule, and gives its ALERTS series.
func (e *evaluation) alert(r rulefmt.Rule) (*alertingRule, []*series) {
	ctx := context.Background()
	out := &alertingRule{State: "inactive", Name: r.Alert, Query: e.pretty(r.Expr), Duration: time.Duration(r.For).Seconds(), KeepFiringFor: time.Duration(r.KeepFiringFor).Seconds(),
		Labels: e.labels(r), Annotations: labels.FromMap(r.Annotations), Alerts: []alert{}, LastEvaluation: e.now, Type: "alerting"}
	if out.Health, out.LastError = e.healthy(ctx, r.Expr); out.Health != "ok" {
		return out, nil
	}
	m, done, err := e.over(ctx, r.Expr)
	if err != nil {
		out.Health, out.LastError = "err", err.Error()
		return out, nil
	}
	defer done()
	var history []*series
	for _, found := range m {
		a, series := e.course(ctx, r, out.Labels, found)
		history = append(history, series...)
		if a == nil {
			continue
		}
		out.Alerts = append(out.Alerts, *a)
		if a.State == "firing" || out.State == "inactive" {
			out.State = a.State
		}
	}
	return out, history
}

// course walks one result of an alert's expression through time, and gives the
// alert as it stands at the capture (nil when it is inactive) and its ALERTS
// series, one for each state it was in.
func (e *evaluation) course(ctx context.Context, r rulefmt.Rule, ruleLabels labels.Labels, found promql.Series) (*alert, []*series) {
	values := map[int64]float64{}
	for _, p := range found.Floats {
		values[p.T] = p.F
	}
	for _, p := range found.Histograms {
		values[p.T] = p.H.Sum
	}
	var activeAt, keepSince time.Time
	state, value := "", 0.0
	past := map[string][]point{}
	for t := e.begin(found); !t.After(e.now); t = t.Add(e.every) {
		v, present := values[t.UnixMilli()]
		switch {
		case present:
			if state == "" {
				activeAt = t
			}
			value, keepSince = v, time.Time{}
			if state != "firing" {
				state = "pending"
			}
			if t.Sub(activeAt) >= time.Duration(r.For) {
				state = "firing"
			}
		case state == "firing" && r.KeepFiringFor > 0:
			if keepSince.IsZero() {
				keepSince = t
			}
			if t.Sub(keepSince) >= time.Duration(r.KeepFiringFor) {
				state = ""
			}
		default:
			state = ""
		}
		if state != "" {
			past[state] = append(past[state], point{t: t.UnixMilli(), f: 1})
		}
	}
	ls, annotations := e.texts(ctx, r, ruleLabels, found.Metric, value)
	var history []*series
	for st, ps := range past {
		b := labels.NewBuilder(ls).Set(model.MetricNameLabel, "ALERTS").Set("alertstate", st)
		history = append(history, &series{labels: b.Labels(), points: staled(ps, e.every, e.now)})
	}
	if state == "" {
		return nil, history
	}
	a := &alert{Labels: ls, Annotations: annotations, State: state, ActiveAt: &activeAt, Value: strconv.FormatFloat(value, 'e', -1, 64)}
	if !keepSince.IsZero() {
		a.KeepFiringSince = &keepSince
	}
	return a, history
}

// begin is the step at which a result first appeared.
func (e *evaluation) begin(found promql.Series) time.Time {
	first := int64(math.MaxInt64)
	if len(found.Floats) > 0 {
		first = found.Floats[0].T
	}
	if len(found.Histograms) > 0 {
		first = min(first, found.Histograms[0].T)
	}
	if first == math.MaxInt64 {
		return e.now.Add(time.Nanosecond)
	}
	// Steps are counted back from the capture, so that its fraction of a
	// millisecond stays in all of them.
	return e.now.Add(-time.Duration((e.now.UnixMilli()-first)/e.every.Milliseconds()) * e.every)
}

// texts expands the templates of an alert's labels and annotations.
func (e *evaluation) texts(ctx context.Context, r rulefmt.Rule, ruleLabels, metric labels.Labels, value float64) (ls, annotations labels.Labels) {
	data := alertData{Labels: metric.Map(), Value: value}
	query := func(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
		res, done, err := e.instant(ctx, e.store, expr, at)
		if err != nil {
			return nil, err
		}
		defer done()
		if res.Err != nil {
			return nil, res.Err
		}
		v, err := res.Vector()
		if err != nil {
			return nil, err
		}
		return append(promql.Vector(nil), v...), nil
	}
	text := func(text string) string {
		got, err := expand(ctx, "__alert_"+r.Alert, text, data, e.now.Truncate(time.Millisecond), query)
		if err != nil {
			return fmt.Sprintf("<error expanding template: %v>", err)
		}
		return got
	}
	b := labels.NewBuilder(metric).Del(model.MetricNameLabel)
	ruleLabels.Range(func(l labels.Label) { b.Set(l.Name, text(l.Value)) })
	b.Set(labels.AlertName, r.Alert)
	a := labels.NewBuilder(labels.EmptyLabels())
	for k, v := range r.Annotations {
		a.Set(k, text(v))
	}
	return b.Labels(), a.Labels()
}

// selectorsOf lists the selectors of series an expression reads.
func selectorsOf(p parser.Parser, expr string) []string {
	parsed, err := p.ParseExpr(expr)
	if err != nil {
		return nil
	}
	var out []string
	for _, ms := range parser.ExtractSelectors(parsed) {
		vs := &parser.VectorSelector{LabelMatchers: ms}
		out = append(out, vs.String())
	}
	return out
}
