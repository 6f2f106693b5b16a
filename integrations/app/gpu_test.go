package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

const gpuNode = `apiVersion: v1
kind: Node
metadata: {name: n1, creationTimestamp: "2026-03-01T00:00:00Z", labels: {nvidia.com/gpu.present: "true"}}
status:
  capacity: {nvidia.com/gpu: "1"}
  allocatable: {nvidia.com/gpu: "1"}
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-03-01T00:00:00Z"}]
`

// A report of gumshoe-nvml gets from the configured directory into a bundle, and
// out of the bundle to the tool that reads it.
func TestNVMLThroughABundle(t *testing.T) {
	t.Parallel()
	recorded, err := bundle.Open(fstest.MapFS{
		"bundle.yaml":    &fstest.MapFile{Data: []byte("formatVersion: 1\ncaptured: 2026-03-04T11:00:00Z\ncluster: c\n")},
		"objects/a.yaml": &fstest.MapFile{Data: []byte(gpuNode)},
	}, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := apiserver.New(recorded)
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := apiserver.Serve(t.Context(), srv, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	cfg := app.Defaults()
	cfg.Kubernetes.Kubeconfig = file("kubeconfig", "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: \""+url+"\"}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n")
	cfg.Prometheus.NoDiscovery = true
	cfg.GPU.NVMLDir = filepath.Join(dir, "reports")
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "gpu.nvmlDir") {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := os.Mkdir(cfg.GPU.NVMLDir, 0o700); err != nil {
		t.Fatal(err)
	}
	file("reports/n1.json", `{"format":1,"node":"n1","at":"2026-03-04T10:59:00Z","driver":"580","unknown":"canary","gpus":[{"index":0,"uuid":"GPU-1","lost":true}]}`)
	file("reports/n2.json", `no report`)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	sum, err := app.CaptureBundle(t.Context(), cfg, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	left, err := json.Marshal(sum)
	if err != nil || !strings.Contains(string(left), "NVML report of node n2") {
		t.Errorf("%v %s", err, left)
	}
	raw, err := os.ReadFile(filepath.Join(out, "nodes", "n1", "nvml.json"))
	if err != nil || strings.Contains(string(raw), "canary") || !strings.Contains(string(raw), "GPU-1") {
		t.Fatalf("%v %s", err, raw)
	}
	// The bundle's clock is the capture, long after the report.
	manifest, err := os.ReadFile(filepath.Join(out, "bundle.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for l := range strings.Lines(string(manifest)) {
		if strings.HasPrefix(l, "captured:") {
			l = "captured: \"2026-03-04T11:00:00Z\"\n"
		}
		lines = append(lines, l)
	}
	if err := os.WriteFile(filepath.Join(out, "bundle.yaml"), []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	again := app.Defaults()
	again.Bundle = out
	a, err := app.New(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	ans, err := a.CallTool(t.Context(), "gpu_health", json.RawMessage(`{"node":"n1"}`))
	if err != nil {
		t.Fatal(tool.UserText(err))
	}
	found := false
	for _, f := range ans.Findings {
		found = found || f.Code == "gpu.fell_off_bus" && f.Subject.Device == "GPU-1"
	}
	if !found {
		t.Errorf("%+v\n%s", ans.Findings, ans.Evidence.Text)
	}
}
