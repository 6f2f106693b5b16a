package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/prometheus"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

const monitored = `
apiVersion: v1
kind: Service
metadata: {name: prometheus-operated, namespace: monitoring}
spec: {ports: [{name: http-web, port: 9090}]}
---
apiVersion: v1
kind: Service
metadata: {name: alertmanager-operated, namespace: monitoring}
spec: {ports: [{name: http-web, port: 9093}]}
---
apiVersion: v1
kind: Pod
metadata: {name: llama-0, namespace: serve}
spec: {nodeName: a, containers: [{name: main, image: x}]}
status: {phase: Running}
`

// cluster is a bundle behind a real API server's port, whose service proxy
// leads to the recorded Prometheus; refuse is what the proxy answers instead.
func cluster(t *testing.T, kubeconfig string, refuse int) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	files := map[string]string{
		"bundle.yaml":       "formatVersion: 1\ncaptured: " + now.Format(time.RFC3339) + "\ncluster: c\n",
		"objects/a.yaml":    monitored,
		"metrics/a.series":  "start -1h\nload 1m\n  up{job=\"vllm\",namespace=\"serve\",pod=\"llama-0\"} 1x70\n",
		"rules/a.yaml":      "groups: [{name: g, rules: [{alert: Stuck, expr: up == 1, labels: {severity: critical}}]}]\n",
		"alerts.json":       "[]",
		"alertmanager.json": "{}",
	}
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	b, err := bundle.Open(fsys, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	kube, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := prometheus.Open(fsys, now, prometheus.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", kube)
	for _, svc := range []string{"http:prometheus-operated:9090", "http:alertmanager-operated:9093"} {
		base := "/api/v1/namespaces/monitoring/services/" + svc + "/proxy"
		mux.Handle(base+"/", http.StripPrefix(base, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				t.Errorf("%s %s: reading needs no other right than get", r.Method, r.URL.Path)
			}
			if refuse != 0 {
				w.WriteHeader(refuse)
				_, _ = io.WriteString(w, `{"kind":"Status","status":"Failure","message":"services \"x\" is forbidden: User \"u\" cannot get resource \"services/proxy\""}`)
				return
			}
			metrics.ServeHTTP(w, r)
		})))
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: " + srv.URL + "}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func live(t *testing.T, refuse int) app.Config {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	cluster(t, kubeconfig, refuse)
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = kubeconfig
	return cfg
}

// A Prometheus that runs in the cluster is found and read through the API
// server, with nothing configured.
func TestPrometheusIsDiscovered(t *testing.T) {
	t.Parallel()
	a, err := app.New(t.Context(), live(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	ans, err := a.CallTool(t.Context(), "prom_query", json.RawMessage(`{"expr":"up"}`))
	if err != nil || !strings.Contains(ans.Evidence.Text, "1 series") {
		t.Fatalf("%v %s", err, ans.Evidence.Text)
	}
	ans, err = a.CallTool(t.Context(), "prom_alerts", json.RawMessage(`{"namespace":"serve"}`))
	if err != nil || len(ans.Findings) != 1 || ans.Findings[0].Subject.Name != "llama-0" {
		t.Errorf("%v %+v", err, ans.Findings)
	}
}

func health(hs []app.Health, what string) app.Health {
	for _, h := range hs {
		if h.What == what {
			return h
		}
	}
	return app.Health{}
}

func TestDoctorTellsOfPrometheus(t *testing.T) {
	t.Parallel()
	if h := health(app.Doctor(t.Context(), live(t, 0)), "toolset prom"); h.State != "ok" || h.Text != "6 tools" {
		t.Errorf("%+v", h)
	}
	if h := health(app.Doctor(t.Context(), live(t, http.StatusForbidden)), "toolset prom"); h.State != "broken" || !strings.Contains(h.Text, "services/proxy") || h.Fix == "" {
		t.Errorf("denied: %+v", h)
	}
	cfg := live(t, 0)
	cfg.Prometheus.NoDiscovery = true
	if h := health(app.Doctor(t.Context(), cfg), "toolset prom"); h.State != "off" || h.Text != "Prometheus not configured" || h.Fix == "" {
		t.Errorf("nothing configured: %+v", h)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	cfg.Prometheus.URL = gone.URL
	if h := health(app.Doctor(t.Context(), cfg), "toolset prom"); h.State != "broken" || !strings.Contains(h.Text, "cannot be reached") {
		t.Errorf("gone: %+v", h)
	}
}

// Without metrics an answer says that it did not see them.
func TestNoMetricsIsSaid(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"bundle.yaml":    &fstest.MapFile{Data: []byte("formatVersion: 1\ncaptured: 2026-03-04T11:00:00Z\ncluster: c\n")},
		"objects/a.yaml": &fstest.MapFile{Data: []byte(monitored)},
	}
	a, err := app.NewFromBundle(t.Context(), app.Defaults(), fsys)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	rep, err := a.Investigate(t.Context(), incident.Question{Text: "what is wrong in namespace serve"}, event.SinkFunc(func(event.Event) {}))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, g := range rep.Diagnosis.NotSeen {
		found = found || g.Source == "GPU telemetry" && g.Why == "Prometheus not configured"
	}
	if !found {
		t.Errorf("%+v", rep.Diagnosis.NotSeen)
	}
	if _, err := a.CallTool(t.Context(), "prom_query", json.RawMessage(`{"expr":"up"}`)); tool.KindOf(err) != tool.NotServed {
		t.Error(err)
	}
}

// A capture of a cluster holds its metrics, and an investigation of the capture
// reads them.
func TestCaptureHoldsMetrics(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "b")
	sum, err := app.CaptureBundle(t.Context(), live(t, 0), out, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{"metrics", "rules", "alerts.json", "alertmanager.json"} {
		if !strings.Contains(strings.Join(sum.Places, " "), place) {
			t.Errorf("places %v lack %s", sum.Places, place)
		}
	}
	cfg := app.Defaults()
	cfg.Bundle = out
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	ans, err := a.CallTool(t.Context(), "prom_alerts", json.RawMessage(`{}`))
	if err != nil || len(ans.Findings) != 1 || ans.Findings[0].Code != "prom.alert_firing" {
		t.Errorf("%v %+v", err, ans.Findings)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = app.ServeBundle(ctx, out, "", "", func(at app.Served) error {
		defer cancel()
		res, err := http.Get(at.Metrics + "/api/v1/query?query=up")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if !strings.Contains(string(raw), "llama-0") {
			t.Errorf("%s", raw)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPrometheusConfigIsChecked(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*app.PrometheusConfig){
		"prometheus: url":            func(c *app.PrometheusConfig) { c.URL = "prometheus:9090" },
		"prometheus.alertmanagerURL": func(c *app.PrometheusConfig) { c.AlertmanagerURL = "x" },
		"go together":                func(c *app.PrometheusConfig) { c.Username = "u" },
		"exclude each other":         func(c *app.PrometheusConfig) { c.Username, c.PasswordFile, c.BearerTokenFile = "u", "p", "t" },
		"caFile":                     func(c *app.PrometheusConfig) { c.URL, c.TLS.CAFile = "https://h", "/nothing/there" },
	} {
		cfg := app.Defaults()
		change(&cfg.Prometheus)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	file := filepath.Join(t.TempDir(), "c.yaml")
	text := "prometheus:\n  url: https://p.example\n  alertmanagerURL: https://a.example\n  headers: {X-Scope-OrgID: team}\n  noDiscovery: true\n  tls: {insecureSkipVerify: true}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := app.LoadConfig(file, func(string) string { return "" })
	if err != nil || cfg.Prometheus.URL != "https://p.example" || cfg.Prometheus.Headers["X-Scope-OrgID"] != "team" || !cfg.Prometheus.TLS.InsecureSkipVerify || !cfg.Prometheus.NoDiscovery {
		t.Errorf("%v %+v", err, cfg.Prometheus)
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}
