package prom_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	whole := recording(t, "metrics/a.series", "up 1x60\n", "alerts.json", "[]")
	refuse := func(code int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		})
	}
	part := func(away ...string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, p := range away {
				if strings.HasPrefix(r.URL.Path, p) {
					http.Error(w, "away", http.StatusServiceUnavailable)
					return
				}
			}
			whole.ServeHTTP(w, r)
		})
	}
	for name, tc := range map[string]struct {
		serve  http.Handler
		state  tool.State
		reason string
		limits []string
	}{
		"ready":            {whole, tool.Ready, "", nil},
		"503":              {refuse(503, "no healthy upstream"), tool.Broken, "HTTP 503: no healthy upstream", nil},
		"page":             {refuse(200, "<html>"), tool.Broken, "a web page", nil},
		"401":              {refuse(401, ""), tool.Denied, "does not accept these credentials", nil},
		"403":              {refuse(403, "no"), tool.Denied, "may not be read", nil},
		"404":              {refuse(404, "404 page not found"), tool.Broken, "does not serve this", nil},
		"no rules":         {part("/api/v1/rules"), tool.Ready, "", []string{"alerting rules"}},
		"no Alertmanager":  {part("/api/v2/"), tool.Ready, "", []string{"Alertmanager"}},
		"targets are read": {part("/api/v1/targets"), tool.Ready, "", nil},
	} {
		st := toolsetOf(t, tc.serve).Status(t.Context())
		var limits []string
		for _, l := range st.Limits {
			limits = append(limits, l.Source)
		}
		if st.State != tc.state || !strings.Contains(st.Reason, tc.reason) {
			t.Errorf("%s: %+v", name, st)
		}
		if diff := cmp.Diff(tc.limits, limits); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	none, err := prom.New(prom.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if st := none.Status(t.Context()); st.State != tool.Absent || st.Reason != "Prometheus not configured" || st.Fix == "" {
		t.Errorf("nothing configured: %+v", st)
	}
	// Alertmanager alone still tells what fires.
	srv := clientOf(t, recording(t, "alerts.json", `[{"labels":{"alertname":"A","namespace":"n","pod":"p","severity":"page"}}]`))
	found, err := srv.Endpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ts, err := prom.New(prom.Config{Cluster: "c", Client: prom.NewClient(prom.ClientConfig{Now: clock, Found: prom.Found{Alertmanager: found.Alertmanager}})})
	if err != nil {
		t.Fatal(err)
	}
	if st := ts.Status(t.Context()); st.State != tool.Ready || len(st.Limits) != 1 || st.Limits[0].Source != "metrics" {
		t.Errorf("Alertmanager alone: %+v", st)
	}
	if _, res := answerOf[prom.AlertsOut](t, ts, "prom_alerts", prom.AlertsIn{}); len(res.Findings) != 1 || res.Findings[0].Severity != incident.Critical {
		t.Errorf("%+v", res.Findings)
	}
}

// A server without rules of its own still has the series that rules wrote.
func TestAlertsFromSeries(t *testing.T) {
	t.Parallel()
	inner := recording(t, "metrics/a.series", `ALERTS{alertname="Stuck",alertstate="firing",severity="critical",namespace="n",pod="p"} 1x60
ALERTS{alertname="Over",alertstate="firing",severity="warning",namespace="n",pod="q"} 1x20 stale
`)
	ts := toolsetOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/rules" {
			http.NotFound(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	_, res := answerOf[prom.AlertsOut](t, ts, "prom_alerts", prom.AlertsIn{})
	want := []string{"prom.alert_firing symptom Pod n/p", "prom.alert_resolved history Pod n/q"}
	if diff := cmp.Diff(want, codes(res.Findings)); diff != "" {
		t.Error(diff)
	}
	if _, err := call(t, ts, "prom_rules", prom.RulesIn{}); tool.KindOf(err) != tool.NotServed {
		t.Error(err)
	}
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	port := func(name string, n int32) []prom.Port { return []prom.Port{{Name: name, Number: n}} }
	label := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for name, tc := range map[string]struct {
		in         []prom.Service
		prom, am   string
		port       int32
		path       string
		candidates int
	}{
		"kube-prometheus-stack": {[]prom.Service{
			{Namespace: "monitoring", Name: "alertmanager-operated", Ports: port("http-web", 9093)},
			{Namespace: "monitoring", Name: "prometheus-operated", Ports: port("http-web", 9090)},
			{Namespace: "monitoring", Name: "kube-prometheus-stack-prometheus", Labels: label("app", "kube-prometheus-stack-prometheus"), Ports: append(port("http-web", 9090), prom.Port{Name: "reloader-web", Number: 8080})},
			{Namespace: "monitoring", Name: "kube-prometheus-stack-operator", Ports: port("https", 443)},
			{Namespace: "monitoring", Name: "prometheus-node-exporter", Labels: label("app.kubernetes.io/name", "prometheus-node-exporter"), Ports: port("http", 9100)},
		}, "monitoring/kube-prometheus-stack-prometheus", "monitoring/alertmanager-operated", 9090, "", 2},
		"release name before it": {[]prom.Service{{Namespace: "m", Name: "mon-kube-prometheus-stack-prometheus", Ports: port("http-web", 9090)}}, "m/mon-kube-prometheus-stack-prometheus", "", 9090, "", 1},
		"community chart":        {[]prom.Service{{Namespace: "p", Name: "prometheus-server", Labels: label("app.kubernetes.io/name", "prometheus", "app.kubernetes.io/component", "server"), Ports: port("http", 80)}}, "p/prometheus-server", "", 80, "", 1},
		"Thanos sees more":       {[]prom.Service{{Namespace: "p", Name: "prometheus-k8s", Ports: port("web", 9090)}, {Namespace: "t", Name: "thanos-query", Ports: append(port("grpc", 10901), prom.Port{Name: "http", Number: 9090})}}, "t/thanos-query", "", 9090, "", 2},
		"Mimir":                  {[]prom.Service{{Namespace: "m", Name: "mimir-query-frontend", Ports: append(port("http-metrics", 8080), prom.Port{Name: "grpc", Number: 9095})}, {Namespace: "m", Name: "mimir-alertmanager", Ports: port("http-metrics", 8080)}}, "m/mimir-query-frontend", "m/mimir-alertmanager", 8080, "/prometheus", 1},
		"VictoriaMetrics":        {[]prom.Service{{Namespace: "v", Name: "vmselect-main", Labels: label("app.kubernetes.io/name", "vmselect"), Ports: port("http", 8481)}}, "v/vmselect-main", "", 8481, "/select/0/prometheus", 1},
		"nothing":                {[]prom.Service{{Namespace: "d", Name: "web", Ports: port("http", 80)}, {Namespace: "d", Name: "prometheus-pushgateway", Ports: port("http", 9091)}}, "", "", 0, "", 0},
		"label of the exporter":  {[]prom.Service{{Namespace: "d", Name: "my-exporter", Labels: label("app", "prometheus"), Ports: port("http", 9100)}}, "", "", 0, "", 0},
	} {
		ps, ams := prom.Discover(tc.in)
		got, gotAM := "", ""
		if len(ps) > 0 {
			got = ps[0].Namespace + "/" + ps[0].Name
			if ps[0].Port.Number != tc.port || ps[0].Path != tc.path {
				t.Errorf("%s: %+v", name, ps[0])
			}
		}
		if len(ams) > 0 {
			gotAM = ams[0].Namespace + "/" + ams[0].Name
		}
		if got != tc.prom || gotAM != tc.am || len(ps) != tc.candidates {
			t.Errorf("%s: %q %q of %d, want %q %q of %d", name, got, gotAM, len(ps), tc.prom, tc.am, tc.candidates)
		}
	}
}

func TestAbout(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   map[string]string
		want []string
	}{
		"pod on a node":         {map[string]string{"namespace": "n", "pod": "p", "node": "a"}, []string{"Pod n/p", "Node a"}},
		"exported":              {map[string]string{"exported_namespace": "n", "exported_pod": "p", "namespace": "mon", "pod": "dcgm-exporter-x", "job": "dcgm-exporter"}, []string{"Pod n/p"}},
		"kube-state-metrics":    {map[string]string{"namespace": "n", "deployment": "d", "job": "kube-state-metrics", "pod": "kube-state-metrics-5", "service": "kube-state-metrics"}, []string{"Deployment n/d"}},
		"GPU without workload":  {map[string]string{"Hostname": "a", "pod": "nvidia-dcgm-exporter-x", "namespace": "gpu", "container": "nvidia-dcgm-exporter"}, []string{"Node a"}},
		"scrape job is no Job":  {map[string]string{"namespace": "n", "job": "api"}, []string{"Namespace n"}},
		"Job":                   {map[string]string{"namespace": "n", "job_name": "train"}, []string{"Job n/train"}},
		"node exporter":         {map[string]string{"job": "node-exporter", "instance": "gpu-1:9100", "namespace": "mon"}, []string{"Node gpu-1"}},
		"node exporter by IP":   {map[string]string{"job": "node-exporter", "instance": "10.0.0.1:9100", "namespace": "mon"}, nil},
		"claim":                 {map[string]string{"dra_claim_name": "c", "dra_claim_namespace": "n", "namespace": "gpu"}, []string{"ResourceClaim n/c"}},
		"volume":                {map[string]string{"namespace": "n", "persistentvolumeclaim": "v", "pod": "p"}, []string{"PersistentVolumeClaim n/v", "Pod n/p"}},
		"pod without namespace": {map[string]string{"pod": "p"}, nil},
		"nothing":               {map[string]string{"alertname": "x"}, nil},
	} {
		var got []string
		for _, r := range prom.About("c", tc.in) {
			if r.Cluster != "c" {
				t.Errorf("%s: %+v", name, r)
			}
			got = append(got, r.String())
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What cannot be looked up is not called gone.
func TestUnknownExistenceAccusesAsBefore(t *testing.T) {
	t.Parallel()
	ts := toolsetOf(t, recording(t, "alerts.json", `[{"labels":{"alertname":"A","namespace":"n","pod":"unknown"}}]`))
	_, res := answerOf[prom.AlertsOut](t, ts, "prom_alerts", prom.AlertsIn{})
	if diff := cmp.Diff([]string{"prom.alert_firing symptom Pod n/unknown"}, codes(res.Findings)); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fresh := toolsetOf(t, recording(t, "metrics/a.series", "up 1x60\n"))
	if st := fresh.Status(ctx); st.State == tool.Ready {
		t.Errorf("a status that could not be asked for: %+v", st)
	}
}
