package prometheus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// CaptureOptions say what is recorded of a live Prometheus.
type CaptureOptions struct {
	// URL of Prometheus' HTTP API, without /api/v1; empty records no metrics.
	URL string
	// AlertmanagerURL, without /api/v2; empty records no alerts.
	AlertmanagerURL string
	// Client reaches Prometheus and carries the credentials, AlertmanagerClient
	// does for Alertmanager; nil means a plain one.
	Client, AlertmanagerClient *http.Client
	// Now is the end of the recording.
	Now func() time.Time
	// Window before Now; 0 means two hours. Step between points; 0 means a minute.
	Window, Step time.Duration
	// Series and Samples in all; 0 means 20,000 and 2,000,000.
	Series, Samples int
	// Namespaces narrow what is recorded of workloads; empty means all.
	Namespaces []string
	// Redact masks secrets in every text before it is written.
	Redact func(string) string
}

// Capture records metrics, rules and alerts into their places of a bundle.
type Capture struct {
	o      CaptureOptions
	parser parser.Parser
	left   []bundle.LeftOut
	series int
	points int
}

var _ bundle.Source = (*Capture)(nil)

// NewCapture makes a Capture; it asks nothing yet.
func NewCapture(o CaptureOptions) *Capture {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.AlertmanagerClient == nil {
		o.AlertmanagerClient = http.DefaultClient
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Redact == nil {
		o.Redact = func(s string) string { return s }
	}
	if o.Window <= 0 {
		o.Window = 2 * time.Hour
	}
	if o.Step <= 0 {
		o.Step = time.Minute
	}
	if o.Series <= 0 {
		o.Series = 20_000
	}
	if o.Samples <= 0 {
		o.Samples = 2_000_000
	}
	return &Capture{o: o, parser: parser.NewParser(parser.Options{})}
}

// Record implements bundle.Source. What does not answer is left out with the
// reason; only the end of ctx and a file that cannot be written fail it.
func (c *Capture) Record(ctx context.Context, write func(name string, raw []byte) error) ([]bundle.LeftOut, error) {
	if c.o.URL != "" {
		if err := c.metrics(ctx, write); err != nil {
			return nil, err
		}
	}
	if c.o.AlertmanagerURL != "" {
		if err := c.alerts(ctx, write); err != nil {
			return nil, err
		}
	}
	return c.left, ctx.Err()
}

func (c *Capture) leave(what string, err error) {
	c.left = append(c.left, bundle.LeftOut{What: what, Why: c.o.Redact(err.Error())})
}

// answers is how many bytes one answer may have.
const answers = 128 << 20

// get asks an API and decodes what it answers.
func (c *Capture) get(ctx context.Context, client *http.Client, base, p string, q url.Values, into any) error {
	u := strings.TrimSuffix(base, "/") + p
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, answers+1))
	switch {
	case err != nil:
		return fmt.Errorf("the answer of %s was cut off: %w", p, err)
	case len(raw) > answers:
		return fmt.Errorf("the answer of %s has more than %d bytes", p, answers)
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %d: %.200s", p, res.StatusCode, bytes.TrimSpace(raw))
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s answers no JSON of this API: %w", p, err)
	}
	return nil
}

// data asks Prometheus and unpacks the envelope.
func (c *Capture) data(ctx context.Context, p string, q url.Values, into any) (warnings []string, err error) {
	var env struct {
		Status   string          `json:"status"`
		Error    string          `json:"error"`
		Data     json.RawMessage `json:"data"`
		Warnings []string        `json:"warnings"`
	}
	if err := c.get(ctx, c.o.Client, c.o.URL, "/api/v1/"+p, q, &env); err != nil {
		return nil, err
	}
	if env.Status != "success" {
		return nil, fmt.Errorf("%s: %s", p, env.Error)
	}
	if err := json.Unmarshal(env.Data, into); err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return env.Warnings, nil
}

// families are the series worth recording for an AI workload, most telling
// first: what comes after the budget is spent is left out. Namespaced ones are
// narrowed to the captured namespaces.
func families() []family {
	return []family{
		{name: "targets", match: "up|scrape_samples_scraped"},
		{name: "alerts", match: "ALERTS|ALERTS_FOR_STATE"},
		{name: "gpu", match: "DCGM_.*|dcgm_.*"},
		{name: "dra", match: "nvidia_dra_.*|dra_.*|dynamic_resource_allocation_.*|device_taint_eviction_.*|scheduler_pending_pods|scheduler_dra_.*"},
		{name: "serving", match: "(ray_)?(vllm|sglang|trtllm|nv|dynamo|lmcache|kserve|kaito|airunway|kueue|lws|inference|llm_d|epp)[:_].*", not: ".*_bucket"},
		{name: "workloads", match: "kube_(pod|deployment|statefulset|daemonset|job|replicaset|horizontalpodautoscaler|persistentvolumeclaim)_(status|spec|container|created|info|owner).*", namespaced: true},
		{name: "nodes", match: "kube_node_(status_condition|status_allocatable|spec_unschedulable|spec_taint|info)"},
		{name: "containers", match: "container_(cpu_usage_seconds_total|cpu_cfs_throttled_periods_total|cpu_cfs_periods_total|memory_working_set_bytes|oom_events_total|network_(receive|transmit)_(bytes|packets_dropped|errors)_total|fs_usage_bytes)", namespaced: true},
		{name: "network", match: "hubble_(drop|flows_processed|tcp_flags|http_requests)_total|cilium_(drop_count_total|policy_.*|endpoint_state|unreachable_.*)"},
		{name: "machines", match: "node_(load1|memory_MemAvailable_bytes|memory_MemTotal_bytes|filesystem_avail_bytes|filesystem_size_bytes|network_(receive|transmit)_(bytes|drop|errs)_total|infiniband_.*|pressure_.*|vmstat_oom_kill)"},
		{name: "latencies", match: "(ray_)?(vllm|sglang|trtllm|nv|inference)[:_].*_bucket"},
	}
}

type family struct {
	name, match, not string
	namespaced       bool
}

// selector writes the selector of a family.
func (f family) selector(namespaces []string) string {
	parts := []string{"__name__=~" + strconv.Quote(f.match)}
	if f.not != "" {
		parts = append(parts, "__name__!~"+strconv.Quote(f.not))
	}
	if f.namespaced && len(namespaces) > 0 {
		quoted := make([]string, len(namespaces))
		for i, ns := range namespaces {
			quoted[i] = regexp.QuoteMeta(ns)
		}
		parts = append(parts, "namespace=~"+strconv.Quote(strings.Join(quoted, "|")))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// metrics records rules, targets and series.
func (c *Capture) metrics(ctx context.Context, write func(string, []byte) error) error {
	var build map[string]string
	if _, err := c.data(ctx, "status/buildinfo", nil, &build); err != nil {
		// Not every server of the API has it (Thanos, Mimir); the next call tells.
		build = nil
	}
	var rules ruleData
	active, err := c.rules(ctx, &rules)
	if err != nil {
		c.leave("Prometheus rules", err)
	} else if err := c.file(write, rulesDir+"/state.json", rules); err != nil {
		return err
	}
	if len(build) > 0 {
		if err := c.file(write, metricsDir+"/buildinfo.json", build); err != nil {
			return err
		}
	}
	var targets targetDiscovery
	if _, err := c.data(ctx, "targets", url.Values{"state": {"active"}}, &targets); err != nil {
		c.leave("Prometheus targets", err)
	} else {
		for i := range targets.Active {
			// Every label of every Pod stands in there, annotations with tokens included.
			maps.DeleteFunc(targets.Active[i].Discovered, func(k, _ string) bool { return k != "__address__" && k != "job" })
		}
		targets.Dropped, targets.Counts = []droppedTarget{}, nil
		if err := c.file(write, metricsDir+"/targets.json", targets); err != nil {
			return err
		}
	}
	end := c.o.Now().Truncate(c.o.Step)
	head := fmt.Sprintf("start %s\nload %s\n", end.Add(-c.o.Window).UTC().Format(time.RFC3339), model.Duration(c.o.Step))
	kept := map[string]bool{}
	record := func(name, selector string) error {
		text, err := c.record(ctx, selector, end, kept)
		if err != nil {
			c.leave("metrics "+name, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if text == "" {
			return nil
		}
		return write(metricsDir+"/"+name+".series", []byte(head+text))
	}
	for _, f := range families() {
		if err := record(f.name, f.selector(c.o.Namespaces)); err != nil {
			return err
		}
	}
	for i, selector := range active {
		if err := record(fmt.Sprintf("alert-%02d", i+1), selector); err != nil {
			return err
		}
	}
	return c.meta(ctx, kept, write)
}

// activeSelectors bounds how many selectors of active alerts are recorded.
const activeSelectors = 24

// rules reads the rules and gives the selectors that active alerts look at.
func (c *Capture) rules(ctx context.Context, d *ruleData) ([]string, error) {
	if _, err := c.data(ctx, "rules", nil, d); err != nil {
		return nil, err
	}
	var out []string
	for _, g := range d.Groups {
		for _, rule := range g.Rules {
			a, ok := rule.(*alertingRule)
			if !ok || a.State == "inactive" || a.State == "" {
				continue
			}
			for _, sel := range selectorsOf(c.parser, a.Query) {
				if !slices.Contains(out, sel) && len(out) < activeSelectors {
					out = append(out, sel)
				}
			}
		}
	}
	return out, nil
}

// record asks for the series of a selector within what is left of the budget
// and writes them. kept holds the series that are recorded already.
func (c *Capture) record(ctx context.Context, selector string, end time.Time, kept map[string]bool) (string, error) {
	steps := int(c.o.Window/c.o.Step) + 1
	room := min(c.o.Series-c.series, (c.o.Samples-c.points)/steps)
	var count []struct {
		Value model.SamplePair `json:"value"`
	}
	var counted struct {
		Result json.RawMessage `json:"result"`
	}
	// Counted over the whole window: a series that vanished counts too.
	q := url.Values{"query": {fmt.Sprintf("count(last_over_time(%s[%s]))", selector, model.Duration(c.o.Window))}, "time": {seconds(end)}}
	if _, err := c.data(ctx, "query", q, &counted); err != nil {
		return "", err
	}
	if err := json.Unmarshal(counted.Result, &count); err != nil {
		return "", fmt.Errorf("query: %w", err)
	}
	if len(count) == 0 {
		return "", nil
	}
	if n := float64(count[0].Value.Value); n > float64(room) {
		return "", fmt.Errorf("%.0f series are more than the %d that are left of the budget", n, max(room, 0))
	}
	start := end.Add(-c.o.Window)
	q = url.Values{"query": {selector}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {strconv.FormatFloat(c.o.Step.Seconds(), 'f', -1, 64)}}
	var got struct {
		Result model.Matrix `json:"result"`
	}
	warnings, err := c.data(ctx, "query_range", q, &got)
	if err != nil {
		return "", err
	}
	if len(warnings) > 0 {
		c.leave("metrics "+selector, errors.New("the answer is partial: "+strings.Join(warnings, "; ")))
	}
	var lines []string
	for _, found := range got.Result {
		b := labels.NewBuilder(labels.EmptyLabels())
		for k, v := range found.Metric {
			b.Set(string(k), c.o.Redact(string(v)))
		}
		ls := b.Labels()
		if key := ls.String(); kept[key] || len(found.Values) == 0 {
			continue
		} else {
			kept[key] = true
		}
		ps := make([]point, len(found.Values))
		for i, v := range found.Values {
			ps[i] = point{t: int64(v.Timestamp), f: float64(v.Value)}
		}
		c.series++
		c.points += steps
		lines = append(lines, "  "+encode(ls, grid(ps, start.UnixMilli(), c.o.Step.Milliseconds(), steps))+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

// meta keeps the descriptions of the metrics that were recorded.
func (c *Capture) meta(ctx context.Context, kept map[string]bool, write func(string, []byte) error) error {
	all := map[string][]metadata{}
	if _, err := c.data(ctx, "metadata", url.Values{"limit_per_metric": {"1"}}, &all); err != nil {
		c.leave("metadata of metrics", err)
		return nil
	}
	names := map[string]bool{}
	for key := range kept {
		name, _, _ := strings.Cut(key, "{")
		names[name] = true
	}
	maps.DeleteFunc(all, func(name string, _ []metadata) bool {
		return !slices.ContainsFunc([]string{"", "_bucket", "_sum", "_count", "_total"}, func(suffix string) bool { return names[name+suffix] })
	})
	if len(all) == 0 {
		return nil
	}
	return c.file(write, metricsDir+"/metadata.json", all)
}

// alerts records what Alertmanager knows.
func (c *Capture) alerts(ctx context.Context, write func(string, []byte) error) error {
	ask := func(p string, into any) bool {
		if err := c.get(ctx, c.o.AlertmanagerClient, c.o.AlertmanagerURL, "/api/v2/"+p, nil, into); err != nil {
			c.leave("Alertmanager "+p, err)
			return false
		}
		return true
	}
	list := []amAlert{}
	if !ask("alerts", &list) {
		return ctx.Err()
	}
	if err := c.file(write, alertsFile, list); err != nil {
		return err
	}
	var rest amRest
	var status map[string]any
	if ask("status", &status) {
		// The configuration names webhooks and keys.
		status["config"] = map[string]string{"original": ""}
		raw, err := json.Marshal(status)
		if err != nil {
			return err
		}
		rest.Status = raw
	}
	ask("silences", &rest.Silences)
	ask("receivers", &rest.Receivers)
	ask("alerts/groups", &rest.Groups)
	return c.file(write, alertmanagerFile, rest)
}

// file writes a value as JSON with every text masked.
func (c *Capture) file(write func(string, []byte) error, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var plain any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&plain); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if raw, err = json.MarshalIndent(c.mask(plain), "", "  "); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return write(name, append(raw, '\n'))
}

func (c *Capture) mask(v any) any {
	switch v := v.(type) {
	case string:
		return c.o.Redact(v)
	case []any:
		for i := range v {
			v[i] = c.mask(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = c.mask(v[k])
		}
	}
	return v
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(math.Round(float64(t.UnixMilli()))/1000, 'f', -1, 64)
}
