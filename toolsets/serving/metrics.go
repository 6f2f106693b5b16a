package serving

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric/alias"
)

// Windows of what is read: the present is the last nowWindow, which is compared
// with what was before it started to differ.
const (
	lookBack  = 3 * time.Hour
	nowWindow = 10 * time.Minute
	nowText   = "10 minutes"
	stepTime  = time.Minute
	// scrapeBytes bounds one text of metrics, scrapePods how many are fetched
	// where there is no Prometheus.
	scrapeBytes = 4 << 20
	scrapePods  = 8
)

// signals that are read, and how the series of one pod are put together.
func readSignals() []struct{ name, wrap, join string } {
	return []struct{ name, wrap, join string }{
		{"engine.running", "", "sum"}, {"engine.waiting", "", "sum"}, {"engine.kv_usage", "", "max"},
		{"engine.preemptions", "rate(%s[5m])", "sum"}, {"engine.success", "rate(%s[5m])", "sum"}, {"engine.generation_tokens", "rate(%s[5m])", "sum"},
		{"engine.prefix_hits", "rate(%s[5m])", "sum"}, {"engine.prefix_queries", "rate(%s[5m])", "sum"},
		{"engine.kv_transfer_failures", "rate(%s[5m])", "sum"}, {"engine.corrupted", "rate(%s[5m])", "sum"},
		{"engine.ttft", "p95", "max"}, {"engine.itl", "p95", "max"},
		{"frontend.model_workers", "", "max"},
	}
}

// gauges are the engine metrics of one namespace, by pod and signal.
type gauges struct {
	byPod map[string]map[string][]metric.Point
	// cache settings of a pod's engine, from its info metric.
	blocks map[string]string
	// source says where they come from, why what stands in the way.
	source, why string
}

// keepFor is how long metrics are reused: the looks of one investigation share one set
// of queries.
const keepFor = 30 * time.Second

// gauges reads the engine metrics of a namespace from Prometheus, or, where there
// is none, of the given pods through the API server.
func (t *Toolset) gauges(ctx context.Context, namespace string, pods []*corev1.Pod) gauges {
	g, err := t.queried.Do(ctx, namespace, func(ctx context.Context) tool.Answer[gauges] {
		a := tool.Answer[gauges]{Value: t.fromProm(ctx, namespace), Weight: 1}
		if a.Value.source == fromPrometheus {
			a.For = keepFor
		}
		return a
	})
	if err != nil {
		g = gauges{why: tool.UserText(err)}
	}
	if len(g.byPod) > 0 || t.proxy == nil {
		return g
	}
	direct, err := t.scraped.Get(ctx, namespace+"/"+uids(pods), func(ctx context.Context) (gauges, error) { return t.scrape(ctx, pods), nil })
	if err != nil || len(direct.byPod) == 0 {
		return g
	}
	direct.why = g.why
	return direct
}

// uids tells one set of pods from another.
func uids(pods []*corev1.Pod) string {
	out := make([]string, 0, len(pods))
	for _, p := range pods {
		out = append(out, p.Name+"@"+string(p.UID))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

const fromPrometheus = "Prometheus"

func (t *Toolset) fromProm(ctx context.Context, namespace string) gauges {
	g := gauges{byPod: map[string]map[string][]metric.Point{}, blocks: map[string]string{}}
	if t.metrics == nil {
		g.why = "no source of metrics is configured"
		return g
	}
	to := t.now()
	for _, s := range readSignals() {
		expr, err := t.expression(s.name, s.wrap, namespace)
		if err != nil {
			g.why = err.Error()
			return g
		}
		series, err := t.metrics.Range(ctx, expr, to.Add(-lookBack), to, stepTime)
		if _, partial := errors.AsType[*metric.Partial](err); err != nil && !partial {
			g.why = tool.UserText(err)
			return g
		}
		for _, one := range series {
			id := t.alias.Identify("engine", one.Labels)
			pod := id["pod"]
			if pod == "" {
				continue
			}
			if g.byPod[pod] == nil {
				g.byPod[pod] = map[string][]metric.Point{}
			}
			g.byPod[pod][s.name] = join(g.byPod[pod][s.name], one.Points, s.join)
		}
	}
	g.source = fromPrometheus
	if expr, err := t.expression("engine.cache_config", "", namespace); err == nil {
		if samples, err := t.metrics.Instant(ctx, expr); err == nil {
			for _, x := range samples {
				if pod := t.alias.Identify("engine", x.Labels)["pod"]; pod != "" {
					g.blocks[pod] = x.Labels["block_size"]
				}
			}
		}
	}
	return g
}

// expression writes the query of a signal for one namespace. A histogram is read
// as its 95th percentile over five minutes, a pod at a time.
func (t *Toolset) expression(signal, wrap, namespace string) (string, error) {
	equal := map[string]string{"namespace": namespace}
	if wrap != "p95" {
		return t.alias.Expr(signal, equal, wrap)
	}
	s, ok := t.alias.Signal(signal)
	if !ok {
		return "", fmt.Errorf("there is no signal %q", signal)
	}
	var parts []string
	for _, m := range s.Metrics {
		for _, label := range []string{"exported_namespace", "namespace"} {
			one := fmt.Sprintf("(histogram_quantile(0.95, sum by (le, pod, namespace, exported_pod, exported_namespace) (rate(%s[5m]))))", metric.Selector(m.Name+"_bucket", map[string]string{label: namespace}))
			if m.Scale != 0 && m.Scale != 1 {
				one = fmt.Sprintf("(%s * %v)", one, m.Scale)
			}
			parts = append(parts, one)
		}
	}
	return strings.Join(parts, " or "), nil
}

// join puts the series of one pod together point by point: engines of one pod add
// up their requests, and the worst of them stands for latency and cache.
func join(have, more []metric.Point, how string) []metric.Point {
	byTime := map[int64]float64{}
	for _, p := range have {
		byTime[p.At.UnixMilli()] = p.Value
	}
	for _, p := range more {
		if !metric.Finite(p.Value) {
			continue
		}
		at := p.At.UnixMilli()
		old, ok := byTime[at]
		switch {
		case !ok:
			byTime[at] = p.Value
		case how == "max":
			byTime[at] = max(old, p.Value)
		default:
			byTime[at] = old + p.Value
		}
	}
	out := make([]metric.Point, 0, len(byTime))
	for at, v := range byTime {
		out = append(out, metric.Point{At: time.UnixMilli(at).UTC(), Value: v})
	}
	slices.SortFunc(out, func(a, b metric.Point) int { return a.At.Compare(b.At) })
	return out
}

// scrape fetches the metrics of engines through the API server: one moment, so
// nothing is said of rates or of what was before.
func (t *Toolset) scrape(ctx context.Context, pods []*corev1.Pod) gauges {
	g := gauges{byPod: map[string]map[string][]metric.Point{}, blocks: map[string]string{}, source: "the engines themselves, one moment"}
	n := 0
	for _, p := range pods {
		e, ok := engineOf(p)
		if !ok || e.kind == picker || p.Status.Phase != corev1.PodRunning {
			continue
		}
		port, path := e.metricsPort()
		if port == 0 {
			continue
		}
		if n++; n > scrapePods {
			break
		}
		raw, err := t.proxy.Get(ctx, p.Namespace, p.Name, port, path, scrapeBytes)
		if err != nil {
			g.why = tool.UserText(err)
			if tool.KindOf(err) == tool.Forbidden {
				return g
			}
			continue
		}
		got, block, err := parseText(raw, t.alias, t.now())
		if err != nil {
			g.why = fmt.Sprintf("metrics of pod %s cannot be read: %v", p.Name, err)
			continue
		}
		if len(got) > 0 {
			g.byPod[p.Name] = got
			g.blocks[p.Name] = block
		}
	}
	return g
}

// parseText reads Prometheus' text format and keeps the gauges that are known.
func parseText(raw []byte, table *alias.Table, now time.Time) (map[string][]metric.Point, string, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(raw))
	if err != nil && len(families) == 0 {
		return nil, "", err
	}
	out := map[string][]metric.Point{}
	block := ""
	for _, name := range sortedKeys(families) {
		s, ok := table.Meaning(name)
		if !ok || s.Kind != alias.Gauge && s.Kind != alias.Info {
			continue
		}
		how := "sum"
		if s.Signal == "engine.kv_usage" {
			how = "max"
		}
		for _, m := range families[name].GetMetric() {
			if s.Kind == alias.Info {
				for _, l := range m.GetLabel() {
					if l.GetName() == "block_size" {
						block = l.GetValue()
					}
				}
				continue
			}
			v, ok := value(m)
			if ok && metric.Finite(v) {
				out[s.Signal] = join(out[s.Signal], []metric.Point{{At: now, Value: v}}, how)
			}
		}
	}
	return out, block, nil
}

func value(m *dto.Metric) (float64, bool) {
	switch {
	case m.GetGauge() != nil:
		return m.GetGauge().GetValue(), true
	case m.GetUntyped() != nil:
		return m.GetUntyped().GetValue(), true
	}
	return 0, false
}
