package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// TestCloudSections: a section names a cluster wholly or not at all, and each part of
// it is a name, since it becomes a part of a URL.
func TestCloudSections(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		"azure: {subscription: s, resourceGroup: g, cluster: c}":                    "",
		"azure: {subscription: s, resourceGroup: g, cluster: c, cloud: government}": "",
		"gke: {project: p, location: us-central1, cluster: c, timeout: 5s}":         "",
		"azure: {subscription: s, cluster: c}":                                      "azure.resourceGroup is empty",
		"azure: {cloud: china}":                                                     "azure.subscription is empty",
		"azure: {subscription: s, resourceGroup: g, cluster: c, cloud: moon}":       "azure.cloud \"moon\"",
		"azure: {subscription: s, resourceGroup: g, cluster: a/../b}":               "azure.cluster \"a/../b\" is no name",
		"azure: {subscription: s, resourceGroup: g, cluster: c, timeout: -1s}":      "azure.timeout",
		"gke: {project: p, location: l}":                                            "gke.cluster is empty",
		"gke: {project: p, location: 'l?x', cluster: c}":                            "gke.location",
		"gke: {project: p, location: l, cluster: c, timeout: -1s}":                  "gke.timeout",
		"gke: {zone: z}": "zone",
	} {
		file := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := app.LoadConfig(file, func(string) string { return "" })
		if err == nil {
			err = c.Validate()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", yaml, err, want)
		}
	}
}

// TestBrokenCloudRecording: a bundle whose cloud answers cannot be read says which file.
func TestBrokenCloudRecording(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"{":                               "cloud/aks/a.json",
		`{"path":"/elsewhere","body":{}}`: "no file answers a list of pools",
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "cloud", "aks"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"bundle.yaml": "formatVersion: 1\ncluster: test\ncaptured: \"2026-11-27T12:00:00Z\"\n", "cloud/aks/a.json": raw} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg := app.Defaults()
		cfg.Bundle = dir
		if _, err := app.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
