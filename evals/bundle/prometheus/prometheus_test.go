package prometheus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/gumshoe-ai/gumshoe/evals/bundle/prometheus"
)

var now = time.Date(2026, 3, 4, 11, 0, 0, 0, time.UTC)

func files(kv ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = &fstest.MapFile{Data: []byte(kv[i+1])}
	}
	return m
}

// cluster is a small recording with everything in it.
func cluster() fstest.MapFS {
	return files(
		"metrics/header.yaml", "start: -1h\ninterval: 1m\n",
		"metrics/a.series", `
# targets
up{job="vllm",instance="10.0.0.1:8000",namespace="serve"} 1x60
up{job="dcgm",instance="10.0.0.9:9400"} 1x30 0x29
up{job="gone",instance="10.0.0.7:1"} 1x30 stale
requests_total{pod="a"} 0+60x60
requests_total{pod="b"} 0+120x30 0+60x29
temp{gpu="0"} 60x40 NaN NaN 61x18
`,
		"metrics/b.series", "start 2026-03-04T10:30:00Z\nload 30s\n  vllm:num_requests_waiting{pod=\"llama-0\"} 0+2x60\n  {\"http.server.duration\",\"k8s.pod.name\"=\"p\"} 1.5x60\n",
		"metrics/c.om", `# HELP gpu_info What the GPU is.
# TYPE gpu_info gauge
gpu_info{model="H100"} 1 1772621940
gpu_info{model="H100"} 1 1772622000
# TYPE req counter
# UNIT req_seconds seconds
req_total 5 1772621940
req_total 7 1772622000
# EOF
`,
		"rules/r.yaml", `
groups:
- name: gpu
  interval: 1m
  rules:
  - record: job:up:sum
    expr: sum by (job) (up)
  - alert: TargetDown
    expr: up == 0
    for: 10m
    labels: {severity: critical, where: "{{ $labels.instance }}"}
    annotations: {summary: "{{ $labels.job }} is down: {{ $value }}"}
  - alert: JustNow
    expr: vllm:num_requests_waiting > 100
    for: 15m
  - alert: Quiet
    expr: up > 5
  - alert: Broken
    expr: requests_total * on () group_right () up
`,
		"alerts.json", `[{"labels":{"alertname":"TargetDown","job":"dcgm"},"annotations":{"summary":"x"},"startsAt":"2026-03-04T10:41:00Z"},
 {"labels":{"alertname":"Old"},"startsAt":"2026-03-04T09:00:00Z","endsAt":"2026-03-04T10:00:00Z"},
 {"labels":{"alertname":"Hushed"},"status":{"silencedBy":["s1"]},"receivers":[{"name":"oncall"}]}]`,
		"alertmanager.json", `{"silences":[{"id":"s1","startsAt":"2026-03-04T10:00:00Z","endsAt":"2026-03-04T12:00:00Z","createdBy":"ana","comment":"planned","matchers":[{"name":"alertname","value":"Hushed","isRegex":false}]}]}`,
	)
}

func open(t testing.TB, fsys fstest.MapFS) *prometheus.Server {
	t.Helper()
	s, err := prometheus.Open(fsys, now, prometheus.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func client(t testing.TB, s *prometheus.Server) v1.API {
	t.Helper()
	c, err := api.NewClient(api.Config{Address: prometheus.BaseURL, Client: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return v1.NewAPI(c)
}

func TestQueriesAreTheEngines(t *testing.T) {
	t.Parallel()
	c := client(t, open(t, cluster()))
	for expr, want := range map[string]string{
		`up{job="vllm"}`:                               `up{instance="10.0.0.1:8000", job="vllm", namespace="serve"} => 1 @[1772622000]`,
		`up{job="gone"}`:                               ``, // stale
		`sum(rate(requests_total[10m]))`:               `{} => 2 @[1772622000]`,
		`resets(requests_total{pod="b"}[1h])`:          `{pod="b"} => 1 @[1772622000]`,
		`vllm:num_requests_waiting`:                    `vllm:num_requests_waiting{pod="llama-0"} => 120 @[1772622000]`,
		`{"http.server.duration"}`:                     `http.server.duration{k8s.pod.name="p"} => 1.5 @[1772622000]`,
		`req_total`:                                    `req_total => 7 @[1772622000]`,
		`gpu_info`:                                     `gpu_info{model="H100"} => 1 @[1772622000]`,
		`job:up:sum`:                                   "job:up:sum{job=\"dcgm\"} => 0 @[1772622000]\njob:up:sum{job=\"vllm\"} => 1 @[1772622000]",
		`ALERTS{alertname="TargetDown"}`:               `ALERTS{alertname="TargetDown", alertstate="firing", instance="10.0.0.9:9400", job="dcgm", severity="critical", where="10.0.0.9:9400"} => 1 @[1772622000]`,
		`time()`:                                       `scalar: 1772622000 @[1772622000]`,
		`temp @ 1772620860`:                            `temp{gpu="0"} => NaN @[1772622000]`,
		`absent(nothing{job="x"})`:                     `{job="x"} => 1 @[1772622000]`,
		`count_over_time(up{job="gone"}[2h])`:          `{instance="10.0.0.7:1", job="gone"} => 31 @[1772622000]`,
		`max_over_time(vllm:num_requests_waiting[5m])`: `{pod="llama-0"} => 120 @[1772622000]`,
	} {
		v, _, _, err := c.Query(t.Context(), expr, time.Time{})
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if diff := cmp.Diff(want, v.String()); diff != "" {
			t.Errorf("%s: %s", expr, diff)
		}
	}
}

func TestRangeMarksGapsAndTime(t *testing.T) {
	t.Parallel()
	c := client(t, open(t, cluster()))
	v, _, _, err := c.QueryRange(t.Context(), `up{job=~"gone|dcgm"}`, v1.Range{Start: now.Add(-40 * time.Minute), End: now, Step: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	want := "up{instance=\"10.0.0.7:1\", job=\"gone\"} =>\n1 @[1772619600]\n1 @[1772620200]\nup{instance=\"10.0.0.9:9400\", job=\"dcgm\"} =>\n1 @[1772619600]\n1 @[1772620200]\n0 @[1772620800]\n0 @[1772621400]\n0 @[1772622000]"
	if diff := cmp.Diff(want, v.String()); diff != "" {
		t.Error(diff)
	}
}

func TestRulesGoFromPendingToFiring(t *testing.T) {
	t.Parallel()
	c := client(t, open(t, cluster()))
	res, err := c.Rules(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Groups) != 1 || res.Groups[0].File != "rules/r.yaml" || res.Groups[0].Interval != 60 {
		t.Fatalf("groups %+v", res.Groups)
	}
	states := map[string]string{}
	for _, r := range res.Groups[0].Rules {
		switch r := r.(type) {
		case v1.AlertingRule:
			states[r.Name] = r.State + " " + string(r.Health)
			if r.Name == "Broken" && !strings.Contains(r.LastError, "many-to-many") {
				t.Errorf("the engine's words are lost: %q", r.LastError)
			}
			if r.Name == "TargetDown" {
				if len(r.Alerts) != 1 || !r.Alerts[0].ActiveAt.Equal(now.Add(-29*time.Minute)) || r.Alerts[0].Annotations["summary"] != "dcgm is down: 0" || r.Alerts[0].Labels["where"] != "10.0.0.9:9400" {
					t.Errorf("alert %+v", r.Alerts)
				}
			}
		case v1.RecordingRule:
			states[r.Name] = string(r.Health)
		}
	}
	want := map[string]string{"job:up:sum": "ok", "TargetDown": "firing ok", "JustNow": "pending ok", "Quiet": "inactive ok", "Broken": "inactive err"}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
	alerts, err := c.Alerts(t.Context())
	if err != nil || len(alerts.Alerts) != 2 {
		t.Errorf("active alerts %+v, %v", alerts, err)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	c := client(t, open(t, cluster()))
	ctx := t.Context()
	names, _, _, err := c.LabelNames(ctx, []string{`up{job="vllm"}`}, now.Add(-time.Hour), now)
	if diff := cmp.Diff(model.LabelNames{"__name__", "instance", "job", "namespace"}, names); diff != "" || err != nil {
		t.Error(diff, err)
	}
	values, _, _, err := c.LabelValues(ctx, "job", []string{"up"}, now.Add(-5*time.Minute), now)
	if diff := cmp.Diff(model.LabelValues{"dcgm", "vllm"}, values); diff != "" || err != nil {
		t.Error("a series that ended before is not there:", diff, err)
	}
	series, warnings, _, err := c.Series(ctx, []string{"up", "temp"}, now.Add(-time.Hour), now, v1.WithLimit(2))
	if err != nil || len(series) != 2 || len(warnings) != 1 {
		t.Errorf("series %v, warnings %v, %v", series, warnings, err)
	}
	meta, err := c.Metadata(ctx, "", "")
	if err != nil || meta["gpu_info"][0].Help != "What the GPU is." || meta["req"][0].Type != "counter" {
		t.Errorf("metadata %+v %v", meta, err)
	}
	targets, err := c.Targets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	health := map[string]string{}
	for _, tg := range targets.Active {
		health[tg.ScrapePool] = string(tg.Health)
	}
	if diff := cmp.Diff(map[string]string{"vllm": "up", "dcgm": "down"}, health); diff != "" {
		t.Error(diff)
	}
	if b, err := c.Buildinfo(ctx); err != nil || b.Version == "" {
		t.Error(b, err)
	}
}

func TestFailuresAreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(open(t, cluster()))
	defer srv.Close()
	for _, tc := range []struct {
		path string
		code int
		kind string
		says string
	}{
		{"query?query=up%7B", 400, "bad_data", `invalid parameter "query": 1:4: parse error`},
		{"query?query=up&time=noon", 400, "bad_data", `invalid parameter "time"`},
		{"query?query=up&limit=-1", 400, "bad_data", "limit must be non-negative"},
		{"query?query=requests_total*on()group_right()up", 422, "execution", "found duplicate series for the match group"},
		{"query_range?query=up&start=0&end=1000000&step=1", 400, "bad_data", "exceeded maximum resolution of 11,000 points"},
		{"query_range?query=up&start=10&end=1&step=1", 400, "bad_data", "end timestamp must not be before start time"},
		{"query_range?query=up&start=0&end=1&step=0", 400, "bad_data", "zero or negative query resolution"},
		{"query_range?query=up&start=0&end=1&step=1e300", 400, "bad_data", "overflows"},
		{"series", 400, "bad_data", "no match[] parameter provided"},
		{"series?match[]=%7Bjob%3D~%22.*%22%7D", 400, "bad_data", "at least one non-empty matcher"},
		{"rules?type=odd", 400, "bad_data", "not supported value"},
		{"metadata?limit=x", 400, "bad_data", "limit must be a number"},
	} {
		res, err := http.Get(srv.URL + "/api/v1/" + tc.path)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var body struct{ Status, ErrorType, Error string }
		if err := json.Unmarshal(raw, &body); err != nil {
			t.Fatalf("%s: %v %s", tc.path, err, raw)
		}
		if res.StatusCode != tc.code || body.Status != "error" || body.ErrorType != tc.kind || !strings.Contains(body.Error, tc.says) {
			t.Errorf("%s: %d %+v", tc.path, res.StatusCode, body)
		}
	}
	res, err := http.PostForm(srv.URL+"/api/v1/query", url.Values{"query": {"vector(1)"}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if raw, _ := io.ReadAll(res.Body); !strings.Contains(string(raw), `"value":[1772622000,"1"]`) {
		t.Errorf("POST: %s", raw)
	}
}

func TestQueriesAreBounded(t *testing.T) {
	t.Parallel()
	l := prometheus.DefaultLimits()
	l.QuerySamples = 100
	s, err := prometheus.Open(cluster(), now, l)
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = client(t, s).Query(t.Context(), "sum(count_over_time(up[1h:1s]))", now)
	if err == nil || !strings.Contains(err.Error(), "too many samples") {
		t.Errorf("a runaway query ended with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := client(t, s).Query(ctx, "up", now); err == nil {
		t.Error("a query of a client that is gone was answered")
	}
}

func TestAlertmanager(t *testing.T) {
	t.Parallel()
	s := open(t, cluster())
	get := func(p string, into any) int {
		t.Helper()
		res, err := s.Client().Get(prometheus.BaseURL + "/api/v2/" + p)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		return res.StatusCode
	}
	type al struct {
		Labels    map[string]string
		Status    struct{ State string }
		Receivers []struct{ Name string }
	}
	names := func(list []al) (out []string) {
		for _, a := range list {
			out = append(out, a.Labels["alertname"]+" "+a.Status.State)
		}
		return out
	}
	for p, want := range map[string][]string{
		"alerts":                                  {"TargetDown active", "Hushed suppressed"},
		"alerts?silenced=false":                   {"TargetDown active"},
		"alerts?active=false":                     {"Hushed suppressed"},
		"alerts?receiver=on.*":                    {"Hushed suppressed"},
		"alerts?filter=job%3D%22dcgm%22":          {"TargetDown active"},
		"alerts?filter=alertname!~%22Target.*%22": {"Hushed suppressed"},
	} {
		var list []al
		get(p, &list)
		if diff := cmp.Diff(want, names(list)); diff != "" {
			t.Errorf("%s: %s", p, diff)
		}
	}
	var word string
	if code := get("alerts?filter=%7B%7B", &word); code != 400 || !strings.Contains(word, "bad matcher format") {
		t.Errorf("%d %q", code, word)
	}
	var groups []struct {
		Labels map[string]string
		Alerts []al
	}
	get("alerts/groups", &groups)
	if len(groups) != 2 || groups[0].Labels["alertname"] != "TargetDown" {
		t.Errorf("groups %+v", groups)
	}
	var silences []struct {
		ID     string
		Status struct{ State string }
	}
	get("silences", &silences)
	if len(silences) != 1 || silences[0].Status.State != "active" {
		t.Errorf("silences %+v", silences)
	}
	// A bundle without alerts has no Alertmanager.
	none := open(t, files("metrics/a.series", "start -1h\nload 1m\nup 1\n"))
	res, err := none.Client().Get(prometheus.BaseURL + "/api/v2/alerts")
	if err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("%v %v", res, err)
	}
}

func TestBrokenFilesAreNamed(t *testing.T) {
	t.Parallel()
	small := prometheus.DefaultLimits()
	small.Series, small.Samples, small.FileBytes = 3, 1000, 4000
	for name, tc := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"no start":             {files("metrics/a.series", "up 1\n"), "metrics/a.series: line 1: a series before its start"},
		"bad start":            {files("metrics/a.series", "start noon\nload 1m\nup 1\n"), "line 3: start \"noon\" is neither"},
		"bad interval":         {files("metrics/a.series", "start -1h\nload 0s\nup 1\n"), "interval \"0s\" is not positive"},
		"bad series":           {files("metrics/a.series", "start -1h\nload 1m\n\nup{job=} 1\n"), "metrics/a.series: line 4: 1:8: parse error"},
		"no name":              {files("metrics/a.series", "start -1h\nload 1m\n{job=\"a\"} 1\n"), "has no name"},
		"bomb":                 {files("metrics/a.series", "start -1h\nload 1m\nup 1x2000000000\n"), "expands to 2000000001 points"},
		"bomb of gaps":         {files("metrics/a.series", "start -1h\nload 1m\nup _x99999999999999999999\n"), "expands to"},
		"many series":          {files("metrics/a.series", "start -1h\nload 1m\na 1\nb 1\nc 1\nd 1\n"), "line 6: more than 3 series"},
		"many samples":         {files("metrics/a.series", "start -1h\nload 1m\na 1x2000\n"), "more than 1000 samples"},
		"large":                {files("metrics/a.series", strings.Repeat("# comment\n", 1000)), "more than 4000 bytes"},
		"no timestamp":         {files("metrics/a.om", "up 1\n# EOF\n"), "has no timestamp"},
		"no EOF":               {files("metrics/a.om", "up 1 5\n"), "metrics/a.om: after 1 samples"},
		"broken JSON":          {files("metrics/targets.json", "{"), "metrics/targets.json: unexpected end"},
		"unknown answer":       {files("metrics/other.json", "{}"), "no answer that is replayed"},
		"unknown file":         {files("metrics/a.csv", "1,2"), "metrics/a.csv: no file of metrics or rules"},
		"rule that is none":    {files("rules/a.yaml", "groups:\n- name: a\n  rules:\n  - alert: X\n    expr: 'sum('\n"), "rules/a.yaml: 5:"},
		"rule type":            {files("rules/state.json", `{"groups":[{"name":"g","rules":[{"type":"odd"}]}]}`), "type \"odd\""},
		"alert without a name": {files("alerts.json", `[{"labels":{}}]`), "alerts.json: alert 0: labels.alertname is required"},
		"broken header":        {files("metrics/header.yaml", "begin: x\n"), "metrics/header.yaml: "},
	} {
		_, err := prometheus.Open(tc.files, now, small)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestCaptureReplaysTheSame captures one recording over real HTTP and asks both
// the same: a capture of a capture is the same again.
func TestCaptureReplaysTheSame(t *testing.T) {
	t.Parallel()
	src := open(t, cluster())
	srv := httptest.NewServer(src)
	defer srv.Close()
	out := fstest.MapFS{}
	write := func(name string, raw []byte) error {
		out[name] = &fstest.MapFile{Data: raw}
		return nil
	}
	left, err := prometheus.NewCapture(prometheus.CaptureOptions{URL: srv.URL, AlertmanagerURL: srv.URL, Now: func() time.Time { return now }, Window: time.Hour,
		Redact: func(s string) string { return strings.ReplaceAll(s, "planned", "***") }}).Record(t.Context(), write)
	if err != nil || len(left) > 0 {
		t.Fatal(err, left)
	}
	again := open(t, out)
	a, b := client(t, src), client(t, again)
	for _, expr := range []string{"up", `vllm:num_requests_waiting`, `ALERTS`, `rate(vllm:num_requests_waiting[10m])`, `count_over_time(up{job="gone"}[1h])`} {
		x, _, _, err := a.QueryRange(t.Context(), expr, v1.Range{Start: now.Add(-30 * time.Minute), End: now, Step: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		y, _, _, err := b.QueryRange(t.Context(), expr, v1.Range{Start: now.Add(-30 * time.Minute), End: now, Step: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if x.String() == "" && expr != `count_over_time(up{job="gone"}[1h])` {
			t.Errorf("%s gives nothing to compare", expr)
		}
		if strings.HasPrefix(expr, "rate(vllm") {
			continue // sampled every 30 s there, every minute here
		}
		if diff := cmp.Diff(x.String(), y.String()); diff != "" {
			t.Errorf("%s: %s", expr, diff)
		}
	}
	for _, p := range []string{"/api/v1/rules", "/api/v1/alerts", "/api/v2/alerts", "/api/v2/alerts/groups"} {
		if diff := cmp.Diff(body(t, src, p), body(t, again, p)); diff != "" {
			t.Errorf("%s: %s", p, diff)
		}
	}
	for name, f := range out {
		if strings.Contains(string(f.Data), "planned") {
			t.Errorf("%s is not redacted", name)
		}
	}
	if _, ok := out["metrics/alert-01.series"]; ok {
		t.Error("series that are recorded already are recorded for an alert again")
	}
}

func body(t *testing.T, s *prometheus.Server, p string) string {
	t.Helper()
	res, err := s.Client().Get(prometheus.BaseURL + p)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	raw, err = json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestCaptureIsBoundedAndGoesOn(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	many.WriteString("start -1h\nload 1m\n")
	for i := range 200 {
		fmt.Fprintf(&many, "DCGM_FI_DEV_GPU_UTIL{gpu=\"%d\"} 50x60\n", i)
	}
	many.WriteString("up{job=\"a\"} 1x60\n")
	inner := open(t, files("metrics/a.series", many.String()))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/targets"):
			http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
		case strings.HasSuffix(r.URL.Path, "/metadata"):
			_, _ = w.Write([]byte(`{"status":"success","data":{"up":[{"ty`))
		default:
			inner.ServeHTTP(w, r)
		}
	}))
	defer srv.Close()
	out := fstest.MapFS{}
	left, err := prometheus.NewCapture(prometheus.CaptureOptions{URL: srv.URL, AlertmanagerURL: srv.URL, Now: func() time.Time { return now }, Series: 50}).
		Record(t.Context(), func(name string, raw []byte) error { out[name] = &fstest.MapFile{Data: raw}; return nil })
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, l := range left {
		got[l.What] = l.Why
	}
	for what, why := range map[string]string{"Prometheus targets": "503", "metrics gpu": "200 series are more than the 49", "metadata of metrics": "no JSON", "Alertmanager alerts": "404"} {
		if !strings.Contains(got[what], why) {
			t.Errorf("%s: %q, want %q (%v)", what, got[what], why, left)
		}
	}
	if _, ok := out["metrics/targets.series"]; !ok {
		t.Error("what fits was not recorded")
	}
	open(t, out)
}

func TestHolds(t *testing.T) {
	t.Parallel()
	if m, a := prometheus.Holds(cluster()); !m || !a {
		t.Error(m, a)
	}
	if m, a := prometheus.Holds(files("objects/a.yaml", "")); m || a {
		t.Error(m, a)
	}
}

func FuzzSeries(f *testing.F) {
	f.Add("start -1h\nload 1m\nup{job=\"a\"} 0+1x10 _x3 stale NaN -Inf 1e9\n")
	f.Add("load 1m\nup 1x99999999\n")
	f.Add("start 2026-03-04T10:00:00Z\nload 5s\nh {{schema:1 sum:3 count:4 buckets:[1 2 1]}}x3\n")
	f.Fuzz(func(t *testing.T, text string) {
		l := prometheus.DefaultLimits()
		l.Points, l.Samples = 1000, 10_000
		s, err := prometheus.Open(files("metrics/a.series", text), now, l)
		if err != nil {
			return
		}
		if _, _, _, err := client(t, s).Query(t.Context(), `count({__name__!=""})`, now); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzOpenMetrics(f *testing.F) {
	f.Add("# TYPE a gauge\na{b=\"c\"} 1 1772622000\n# EOF\n")
	f.Add("a 1 9e99\n# EOF\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := prometheus.Open(files("metrics/a.om", text), now, prometheus.DefaultLimits())
		if err != nil {
			return
		}
		if _, _, _, err := client(t, s).Query(t.Context(), `count({__name__!=""})`, now); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add(`{"groups":[{"name":"g","rules":[{"type":"alerting","state":"firing","alerts":[{"labels":{"a":"b"}}]}]}]}`, `[{"labels":{"alertname":"x"}}]`)
	f.Fuzz(func(t *testing.T, state, alerts string) {
		s, err := prometheus.Open(files("rules/state.json", state, "alerts.json", alerts), now, prometheus.DefaultLimits())
		if err != nil {
			return
		}
		for _, p := range []string{"/api/v1/rules", "/api/v1/alerts", "/api/v2/alerts", "/api/v2/alerts/groups"} {
			res, err := s.Client().Get(prometheus.BaseURL + p)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatal(p, res, err)
			}
			raw, _ := io.ReadAll(res.Body)
			if !json.Valid(raw) {
				t.Fatalf("%s: %s", p, raw)
			}
		}
	})
}

func TestServeOnLoopback(t *testing.T) {
	t.Parallel()
	at, stop, err := open(t, cluster()).Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for host, want := range map[string]int{"": http.StatusOK, "localhost:9": http.StatusOK, "evil.example": http.StatusForbidden} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/api/v1/query?query=up", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("host %q: %d, want %d", host, res.StatusCode, want)
		}
	}
}
