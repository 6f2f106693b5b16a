package app_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// fromFile wires an App to a configuration file of this text. The caller closes it.
func fromFile(t *testing.T, path, text string) (app.Config, *app.App) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := app.LoadConfig(path, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return cfg, a
}

// A tool of the configuration file is offered like any other, and what its server
// echoes of the secret is masked.
func TestCustomToolFromAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("topsecretvalue"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"owner":"ml-platform","saw":"` + r.Header.Get("X-Token") + `"}`))
	}))
	t.Cleanup(srv.Close)
	base := live(t, 0)
	path := filepath.Join(dir, "config.yaml")
	text := "kubernetes: {kubeconfig: " + base.Kubernetes.Kubeconfig + "}\ntools:\n- name: owner\n  description: Who owns a namespace.\n  url: " + srv.URL + "/ns/{name}\n  parameters: {name: {type: string, required: true}}\n  secretHeaders: {X-Token: {file: " + token + "}}\n"
	cfg, a := fromFile(t, path, text)
	ans, err := a.CallTool(t.Context(), "custom_owner", json.RawMessage(`{"name":"train"}`))
	if err != nil || !strings.Contains(ans.Evidence.Text, "ml-platform") || strings.Contains(ans.Evidence.Text, "topsecret") {
		t.Errorf("%+v %v", ans.Evidence, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	cfg.Tools[0].Method = "PATCH"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "tools[0].method") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte(text+"  command: [rm]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := app.LoadConfig(path, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "command") {
		t.Errorf("a field that does not exist: %v", err)
	}
}
