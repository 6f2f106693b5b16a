package app_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// lokiCluster is a cluster with a Loki behind its API server's service proxy.
func lokiCluster(t *testing.T, objects string, loki http.HandlerFunc) string {
	t.Helper()
	fsys := fstest.MapFS{
		"bundle.yaml":    {Data: []byte("formatVersion: 1\ncaptured: " + time.Now().UTC().Format(time.RFC3339) + "\ncluster: c\n")},
		"objects/a.yaml": {Data: []byte(objects)},
	}
	b, err := bundle.Open(fsys, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	kube, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", kube)
	const base = "/api/v1/namespaces/logging/services/http:loki-gateway:80/proxy"
	mux.Handle(base+"/", http.StripPrefix(base, loki))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: \"" + srv.URL + "\"}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const lokiService = `
apiVersion: v1
kind: Service
metadata: {name: loki-gateway, namespace: logging, labels: {app.kubernetes.io/name: loki, app.kubernetes.io/component: gateway}}
spec: {ports: [{name: http, port: 80}]}
`

func TestLokiIsFoundBehindTheAPIServer(t *testing.T) {
	t.Parallel()
	path := lokiCluster(t, lokiService, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Scope-OrgID") != "team" {
			http.Error(w, "no org id", http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"status":"success","data":["namespace","pod"]}`))
	})
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = path
	cfg.Store = app.StoreConfig{}
	ask := func(cfg app.Config) (app.ToolAnswer, error) {
		a, err := app.New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		return a.CallTool(t.Context(), "loki_labels", json.RawMessage(`{}`))
	}
	_, err := ask(cfg)
	if tool.KindOf(err) != tool.Forbidden || !strings.Contains(tool.UserText(err), "loki.tenant") {
		t.Errorf("without a tenant: %v", err)
	}
	cfg.Loki.Tenant = "team"
	ans, err := ask(cfg)
	if err != nil || !strings.Contains(ans.Evidence.Text, "namespace, pod") {
		t.Errorf("%+v %v", ans.Evidence, err)
	}
	cfg.Loki.NoDiscovery = true
	if _, err = ask(cfg); tool.KindOf(err) != tool.NotServed {
		t.Errorf("discovery was switched off: %v", err)
	}
}

func TestLokiConfig(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]app.LokiConfig{
		"loki: url": {URL: "ftp://x"},
		"loki: username and passwordFile go together": {URL: "https://x", Username: "u"},
		"loki: credentials without url":               {BearerTokenFile: "/nowhere"},
		"no such file":                                {URL: "https://x", BearerTokenFile: "/nowhere/token"},
	} {
		cfg := app.Defaults()
		cfg.Loki = c
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	ok := app.Defaults()
	ok.Loki = app.LokiConfig{URL: "https://loki.example:3100", Tenant: "a"}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
}
