package prom_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

// gpus is a fleet of eight GPUs: one throttles from minute 40, one vanishes at 30.
func gpus() string {
	var b strings.Builder
	for i := range 8 {
		values := "1410x60"
		switch i {
		case 3:
			values = "1410x39 345x20"
		case 5:
			values = "1410x29 stale"
		}
		fmt.Fprintf(&b, "DCGM_FI_DEV_SM_CLOCK{gpu=\"%d\",Hostname=\"node-1\",modelName=\"H100\"} %s\n", i, values)
	}
	return b.String()
}

func TestQueryNamesWhatStandsApart(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, recording(t, "metrics/a.series", gpus()+"nothing_known{a=\"1\"} NaN NaN\n"))
	d, res := answerOf[prom.QueryOut](t, ts, "prom_query", prom.QueryIn{Expr: "DCGM_FI_DEV_SM_CLOCK"})
	if d.Total != 7 || len(d.Samples) != 7 || d.Samples[0].Labels["gpu"] != "3" || d.Samples[0].Apart >= 0 || *d.Samples[0].Value != 345 {
		t.Errorf("%+v", d)
	}
	want := `7 series at 2026-03-04 11:00:00, median 1410, all DCGM_FI_DEV_SM_CLOCK{Hostname="node-1",modelName="H100"}
{gpu="3"} 345  stands apart`
	if !strings.HasPrefix(res.Text, want) {
		t.Errorf("%s", res.Text)
	}
	d, _ = answerOf[prom.QueryOut](t, ts, "prom_query", prom.QueryIn{Expr: "DCGM_FI_DEV_SM_CLOCK", At: "-40m"})
	if d.Total != 8 || d.Median != nil {
		t.Errorf("at -40m: %+v", d)
	}
	d, res = answerOf[prom.QueryOut](t, ts, "prom_query", prom.QueryIn{Expr: "nothing_known", At: "2026-03-04T10:01:00Z"})
	if d.Samples[0].Value != nil || d.Samples[0].Text != "NaN" || !has(res.Text, `nothing_known{a="1"} NaN`) {
		t.Errorf("NaN: %+v", d)
	}
	if _, res = answerOf[prom.QueryOut](t, ts, "prom_query", prom.QueryIn{Expr: "nothing"}); !has(res.Text, "no series") {
		t.Error(res.Text)
	}
	_, res = answerOf[prom.QueryOut](t, ts, "prom_query", prom.QueryIn{Expr: "DCGM_FI_DEV_SM_CLOCK", Limit: 2})
	if !has(res.Text, "5 more; narrow") {
		t.Error(res.Text)
	}
	for in, says := range map[prom.QueryIn]string{
		{Expr: "up", At: "noon"}:                 "RFC 3339",
		{Expr: "up", Limit: -1}:                  "negative",
		{Expr: "DCGM_FI_DEV_SM_CLOCK[5m]"}:       "prom_range",
		{Expr: "sum("}:                           "parse error",
		{Expr: `{__name__=~".*",job=~".*"}`}:     "every series",
		{Expr: "rate(DCGM_FI_DEV_SM_CLOCK[8d])"}: "shorter range",
	} {
		if _, err := call(t, ts, "prom_query", in); tool.KindOf(err) != tool.Invalid || !has(tool.UserText(err), says) {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

func TestRangeReadsTheSeries(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, recording(t, "metrics/a.series", gpus()+`
queue 0x19 0+2x40
quiet{a="b"} NaN NaN NaN NaN
`))
	d, res := answerOf[prom.RangeOut](t, ts, "prom_range", prom.RangeIn{Expr: "DCGM_FI_DEV_SM_CLOCK", Step: "1m"})
	if d.Total != 8 || d.Step != 60 {
		t.Fatalf("%+v", d)
	}
	gone := d.Series[0]
	if gone.Labels["gpu"] != "5" || !gone.Ended.Equal(now.Add(-31*time.Minute)) {
		t.Errorf("what vanished comes first: %+v", gone)
	}
	slow := d.Series[1]
	if slow.Labels["gpu"] != "3" || len(slow.Shifts) != 1 || slow.Shifts[0].Before != 1410 || slow.Shifts[0].After != 345 || !slow.Shifts[0].At.Equal(now.Add(-20*time.Minute)) || slow.Apart >= 0 {
		t.Errorf("the straggler: %+v", slow)
	}
	for _, part := range []string{"NO POINTS since 2026-03-04 10:29:00", "from 1410 to 345 at 2026-03-04 10:40:00", "stands apart, below its 7 peers' median 1410", "8 series, 2026-03-04 10:00:00 to 2026-03-04 11:00:00, step 1m"} {
		if !has(res.Text, part) {
			t.Errorf("the text lacks %q:\n%s", part, res.Text)
		}
	}
	for _, s := range d.Series {
		if len(s.Points) > 60 {
			t.Errorf("%d points in the data", len(s.Points))
		}
	}
	d, res = answerOf[prom.RangeOut](t, ts, "prom_range", prom.RangeIn{Expr: "queue", From: "-40m", Step: "1m"})
	if d.Series[0].Trend != "rising" || *d.Series[0].Change < 70 || !has(res.Text, "rising by") {
		t.Errorf("%s", res.Text)
	}
	d, res = answerOf[prom.RangeOut](t, ts, "prom_range", prom.RangeIn{Expr: "quiet", From: "-1h", To: "-50m", Step: "1m"})
	if d.Series[0].NaNs == 0 || len(d.Series[0].Points) != 0 || !has(res.Text, "only NaN") {
		t.Errorf("NaN series: %+v\n%s", d, res.Text)
	}
	if _, res = answerOf[prom.RangeOut](t, ts, "prom_range", prom.RangeIn{Expr: "nothing"}); !has(res.Text, "matches nothing") {
		t.Error(res.Text)
	}
	for in, says := range map[prom.RangeIn]string{
		{Expr: "up", From: "-10m", To: "-20m"}: "is not before",
		{Expr: "up", From: "-30d"}:             "longer than 7d",
		{Expr: "up", Step: "often"}:            "is no duration",
	} {
		if _, err := call(t, ts, "prom_range", in); tool.KindOf(err) != tool.Invalid || !has(tool.UserText(err), says) {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

func TestSeriesFindsNamesLabelsAndSignals(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, recording(t, "metrics/a.series", gpus()+"vllm:gpu_cache_usage_perc{pod=\"llama-0\"} 0.5x60\n", "metrics/metadata.json", `{"DCGM_FI_DEV_SM_CLOCK":[{"type":"gauge","help":"SM clock frequency (in MHz).","unit":""}]}`))
	d, res := answerOf[prom.SeriesOut](t, ts, "prom_series", prom.SeriesIn{Name: "dcgm"})
	if d.Total != 1 || d.Metrics[0].Type != "gauge" || d.Metrics[0].Signal != "gpu.sm_clock" || !has(res.Text, "low under load means throttled") {
		t.Errorf("%+v\n%s", d, res.Text)
	}
	d, res = answerOf[prom.SeriesOut](t, ts, "prom_series", prom.SeriesIn{Match: `DCGM_FI_DEV_SM_CLOCK{Hostname="node-1"}`})
	if d.Metrics[0].Series != 8 || d.Metrics[0].Labels["gpu"].Count != 8 || len(d.Metrics[0].Labels["gpu"].Values) != 5 || !has(res.Text, "gpu: 0, 1, 2, 3, 4, ... (8)") {
		t.Errorf("%+v\n%s", d, res.Text)
	}
	d, _ = answerOf[prom.SeriesOut](t, ts, "prom_series", prom.SeriesIn{Label: "gpu", Match: "DCGM_FI_DEV_SM_CLOCK", Limit: 3})
	if diff := cmp.Diff([]string{"0", "1", "2"}, d.Values); diff != "" || d.Total != 8 {
		t.Error(diff, d.Total)
	}
	d, res = answerOf[prom.SeriesOut](t, ts, "prom_series", prom.SeriesIn{Signal: "engine.kv_usage"})
	if d.Total != 1 || d.Metrics[0].Name != "vllm:gpu_cache_usage_perc" || !has(d.Expr, "vllm:kv_cache_usage_perc") || !has(res.Text, "here as vllm:gpu_cache_usage_perc") {
		t.Errorf("%+v\n%s", d, res.Text)
	}
	if _, res = answerOf[prom.SeriesOut](t, ts, "prom_series", prom.SeriesIn{Signal: "gpu.xid_last"}); !has(res.Text, "not here") {
		t.Error(res.Text)
	}
	if _, err := call(t, ts, "prom_series", prom.SeriesIn{Signal: "gpu.odd"}); !has(tool.UserText(err), "gpu.utilization") {
		t.Error(err)
	}
	if _, err := call(t, ts, "prom_series", prom.SeriesIn{Match: `{__name__=~".+"}`}); !has(tool.UserText(err), "every series") {
		t.Error(err)
	}
}

// world is a recording with alerts of every state.
func world(t *testing.T) http.Handler {
	t.Helper()
	return recording(t,
		"metrics/a.series", `
up{job="dcgm",instance="10.0.0.9:9400",namespace="gpu-operator",pod="dcgm-x"} 1x30 0x29
up{job="api",instance="10.0.0.5:80",namespace="shop",pod="api-0"} 1x60
bad_pod{namespace="serve",pod="llama-0"} 1x60
bad_dep{namespace="serve",deployment="llama",job="kube-state-metrics",instance="10.0.0.2:8080"} 1x60
old{namespace="serve",pod="llama-1"} 1x20 stale
gone{namespace="serve",pod="deleted-7"} 1x60
hot{Hostname="node-1",job="nvidia-dcgm-exporter",pod="dcgm-exporter-abc",namespace="gpu-operator",container="dcgm-exporter"} 1x60
`,
		"rules/r.yaml", `
groups:
- name: g
  rules:
  - {alert: Watchdog, expr: vector(1), labels: {severity: none}}
  - {alert: EngineStuck, expr: bad_pod == 1, for: 5m, labels: {severity: critical}, annotations: {summary: "{{ $labels.pod }} answers nothing"}}
  - {alert: ReplicasMismatch, expr: bad_dep == 1, labels: {severity: warning}}
  - {alert: WasSlow, expr: old == 1, labels: {severity: warning}}
  - {alert: PodGone, expr: gone == 1, labels: {severity: warning}}
  - {alert: Chatty, expr: bad_pod == 1, labels: {severity: info}}
  - {alert: GpuHot, expr: hot == 1, labels: {severity: warning}}
  - {alert: TargetDown, expr: "up == 0", for: 5m, labels: {severity: warning}}
  - {alert: Soon, expr: bad_pod == 1, for: 3h, labels: {severity: warning}}
  - {record: broken:rule, expr: "up * on() group_right() bad_pod * on() group_left() up"}
  - {alert: Broken, expr: "up + on () group_left () up"}
`,
		"alerts.json", `[
{"labels":{"alertname":"ReplicasMismatch","namespace":"serve","deployment":"llama","job":"kube-state-metrics","instance":"10.0.0.2:8080","severity":"warning","prometheus":"a"},"status":{"state":"suppressed","silencedBy":["s1"]}},
{"labels":{"alertname":"EngineStuck","namespace":"serve","pod":"llama-0","severity":"critical"},"receivers":[{"name":"oncall"}]},
{"labels":{"alertname":"FromElsewhere","namespace":"shop","pod":"api-0","severity":"critical"},"annotations":{"summary":"sent by another"}}]`,
		"alertmanager.json", `{"silences":[{"id":"s1","createdBy":"ana","comment":"rollout","startsAt":"2026-03-04T09:00:00Z","endsAt":"2026-03-04T14:00:00Z","matchers":[{"name":"deployment","value":"llama","isRegex":false}]}]}`,
		"metrics/targets.json", `{"activeTargets":[{"labels":{"job":"dcgm","instance":"10.0.0.9:9400","namespace":"gpu-operator","pod":"dcgm-x"},"scrapePool":"serviceMonitor/gpu/dcgm/0","scrapeUrl":"http://10.0.0.9:9400/metrics","lastError":"Get \"http://10.0.0.9:9400/metrics\": dial tcp 10.0.0.9:9400: connect: connection refused","health":"down"},
{"labels":{"job":"api","instance":"10.0.0.5:80","namespace":"shop","pod":"api-0"},"scrapePool":"api","health":"up"}],"droppedTargets":[]}`,
	)
}

func TestAlertsBecomeFindings(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, world(t), "deleted-7")
	d, res := answerOf[prom.AlertsOut](t, ts, "prom_alerts", prom.AlertsIn{})
	want := []string{
		"prom.alert_firing symptom Node node-1",
		"prom.alert_firing symptom Pod gpu-operator/dcgm-x",
		"prom.alert_firing symptom Pod serve/llama-0",
		"prom.alert_firing symptom Pod shop/api-0",
		"prom.alert_noted context Deployment serve/llama",
		"prom.alert_noted context Pod serve/deleted-7",
		"prom.alert_noted context Pod serve/llama-0",
		"prom.alert_resolved history Pod serve/llama-1",
		"prom.scrape_failing fault Pod gpu-operator/dcgm-x",
	}
	if diff := cmp.Diff(want, codes(res.Findings)); diff != "" {
		t.Error(diff)
	}
	if d.Firing != 6 || d.Suppressed != 1 || d.Resolved != 1 || d.Pending != 1 || !d.Alertmanager {
		t.Errorf("%+v", d)
	}
	if len(d.Silences) != 1 || d.Silences[0].By != "ana" || d.Silences[0].Matchers[0] != `deployment="llama"` {
		t.Errorf("%+v", d.Silences)
	}
	for _, part := range []string{"EngineStuck (critical) about Pod serve/llama-0, since 2026-03-04 10:00:00: llama-0 answers nothing", "silence by ana until 2026-03-04 14:00:00", "does not exist any more"} {
		if !has(res.Text, part) {
			t.Errorf("the text lacks %q:\n%s", part, res.Text)
		}
	}
	if has(res.Text, "Watchdog") || has(res.Text, "pending Soon") {
		t.Errorf("a watchdog or a pending alert is told:\n%s", res.Text)
	}
	for _, f := range res.Findings {
		// Every name in a message occurs in the evidence.
		for _, name := range []string{f.Params["alert"], f.Params["job"], f.Params["instance"]} {
			if name != "" && !has(res.Text+string(res.Data), name) {
				t.Errorf("%s names %q, which the evidence lacks", f.Code, name)
			}
		}
		if f.Code == "prom.alert_resolved" && (f.LastSeen.IsZero() || f.Params["until"] == "") {
			t.Errorf("%+v", f)
		}
	}
	if !slices.ContainsFunc(res.Edges, func(e incident.Edge) bool {
		return e.From.Kind == "Alert" && e.From.Name == "EngineStuck" && e.To.Kind == "Pod" && e.To.Name == "llama-0"
	}) {
		t.Errorf("edges %+v", res.Edges)
	}
}

func TestAlertsOfOneThing(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, world(t))
	for name, tc := range map[string]struct {
		in   prom.AlertsIn
		want []string
	}{
		"pod":        {prom.AlertsIn{Namespace: "serve", Kind: "Pod", Name: "llama-0"}, []string{"prom.alert_firing symptom Pod serve/llama-0", "prom.alert_noted context Pod serve/llama-0"}},
		"recovered":  {prom.AlertsIn{Namespace: "serve", Kind: "Pod", Name: "llama-1"}, []string{"prom.alert_resolved history Pod serve/llama-1"}},
		"silenced":   {prom.AlertsIn{Namespace: "serve", Kind: "Deployment", Name: "llama"}, []string{"prom.alert_noted context Deployment serve/llama"}},
		"quiet":      {prom.AlertsIn{Namespace: "serve", Kind: "Pod", Name: "llama-9"}, []string{}},
		"namespace":  {prom.AlertsIn{Namespace: "shop"}, []string{"prom.alert_firing symptom Pod shop/api-0"}},
		"node":       {prom.AlertsIn{Kind: "Node", Name: "node-1"}, []string{"prom.alert_firing symptom Node node-1"}},
		"alert name": {prom.AlertsIn{Alert: "gpuhot"}, []string{"prom.alert_firing symptom Node node-1"}},
	} {
		_, res := answerOf[prom.AlertsOut](t, ts, "prom_alerts", tc.in)
		if diff := cmp.Diff(tc.want, codes(res.Findings)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := call(t, ts, "prom_alerts", prom.AlertsIn{Name: "x"}); tool.KindOf(err) != tool.Invalid {
		t.Error(err)
	}
	d, res := answerOf[prom.AlertsOut](t, ts, "prom_alerts", prom.AlertsIn{Namespace: "serve", Pending: true})
	if !has(res.Text, "pending Soon") || len(d.Groups) == 0 {
		t.Errorf("%s\n%+v", res.Text, d.Groups)
	}
}

// The checks judge what alerts name, and nothing else.
func TestChecksApplyToWhatAlertsName(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, world(t))
	applies := func(r incident.Ref) []string {
		var out []string
		for _, c := range ts.Checks() {
			if c.Applies(r) {
				out = append(out, c.Name)
			}
		}
		return out
	}
	pod := incident.Ref{Cluster: "c", Kind: "Pod", Namespace: "serve", Name: "llama-0"}
	if got := applies(pod); got != nil {
		t.Errorf("before the first look: %v", got)
	}
	if st := ts.Status(t.Context()); st.State != tool.Ready || len(st.Limits) > 0 {
		t.Fatalf("%+v", st)
	}
	other, elsewhere := pod, pod
	other.Name, elsewhere.Cluster = "quiet-0", "another"
	for name, tc := range map[string]struct {
		ref  incident.Ref
		want []string
	}{
		"named":           {pod, []string{"alerts about"}},
		"not named":       {other, nil},
		"another cluster": {elsewhere, nil},
		"namespace":       {incident.Ref{Cluster: "c", Kind: "Namespace", Name: "serve"}, []string{"alerts in namespace"}},
		"cluster":         {incident.Ref{Cluster: "c", Kind: "Cluster", Name: "c"}, []string{"alerts of the cluster", "scrape targets of the cluster", "rules of the cluster"}},
	} {
		if diff := cmp.Diff(tc.want, applies(tc.ref)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, c := range ts.Checks() {
		if c.Survey || c.Name == "alerts about" {
			raw, err := json.Marshal(c.Args(pod))
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range ts.Tools() {
				if one.Info().Name == c.Tool {
					if _, err := one.Call(t.Context(), raw); err != nil {
						t.Errorf("%s: %v", c.Name, err)
					}
				}
			}
		}
	}
}

func TestRulesThatFail(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, world(t))
	d, res := answerOf[prom.RulesOut](t, ts, "prom_rules", prom.RulesIn{})
	if d.Total != 11 || d.Failing != 2 || d.Rules[0].Health != "err" || d.Pending != 1 {
		t.Errorf("%+v", d)
	}
	want := []string{"prom.rule_failing context Rule g/Broken", "prom.rule_failing context Rule g/broken:rule"}
	if diff := cmp.Diff(want, codes(res.Findings)); diff != "" {
		t.Error(diff)
	}
	if !has(res.Text, "FAILS Broken (group g)") || !has(res.Text, "many-to-many") {
		t.Error(res.Text)
	}
	d, _ = answerOf[prom.RulesOut](t, ts, "prom_rules", prom.RulesIn{Name: "wasslow"})
	if len(d.Rules) != 1 || d.Rules[0].State != "inactive" {
		t.Errorf("%+v", d.Rules)
	}
}

func TestTargetsDownAndWhy(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, world(t))
	d, res := answerOf[prom.TargetsOut](t, ts, "prom_targets", prom.TargetsIn{})
	if d.Down != 1 || d.Targets[0].Reason != "refused" || d.Targets[0].About == nil || d.Targets[0].About.Name != "dcgm-x" {
		t.Errorf("%+v", d)
	}
	if diff := cmp.Diff([]string{"prom.target_down context Pod gpu-operator/dcgm-x"}, codes(res.Findings)); diff != "" {
		t.Error(diff)
	}
	if !has(res.Text, "connection refused") {
		t.Error(res.Text)
	}
	d, res = answerOf[prom.TargetsOut](t, ts, "prom_targets", prom.TargetsIn{All: true})
	if diff := cmp.Diff([]prom.JobCount{{Job: "api", Up: 1}, {Job: "dcgm", Down: 1}}, d.Jobs); diff != "" {
		t.Error(diff)
	}
	if !has(res.Text, "api: 1 up, 0 down") {
		t.Error(res.Text)
	}
	if d, _ = answerOf[prom.TargetsOut](t, ts, "prom_targets", prom.TargetsIn{Namespace: "shop"}); d.Down != 0 {
		t.Errorf("%+v", d)
	}
}

func TestToolsAreReadOnlyAndDescribed(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, world(t))
	known := map[string]tool.Code{}
	for _, c := range ts.Codes() {
		known[c.Code] = c
	}
	for _, one := range ts.Tools() {
		info := one.Info()
		if info.Effect != tool.Read || !strings.HasPrefix(info.Name, "prom_") || len(info.Text) < 40 {
			t.Errorf("%+v", info)
		}
	}
	// Findings carry the role and the facts that the catalogue says.
	for _, name := range []string{"prom_alerts", "prom_rules", "prom_targets"} {
		res, err := call(t, ts, name, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range res.Findings {
			c, ok := known[f.Code]
			if !ok || c.Role != f.Role {
				t.Errorf("%s has role %s, catalogue %+v", f.Code, f.Role, c)
			}
			for k := range f.Params {
				if !slices.Contains(c.Params, k) {
					t.Errorf("%s carries %s, which the catalogue does not name", f.Code, k)
				}
			}
		}
	}
}
