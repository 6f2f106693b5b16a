package app_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// The examples of the pages on the server are configurations that are taken.
func TestServerDocsAreTaken(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/server.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(raw, -1)
	if len(blocks) == 0 {
		t.Fatal("the page has no example")
	}
	dir := t.TempDir()
	for i, b := range blocks {
		f := filepath.Join(dir, "gumshoe.yaml")
		if err := os.WriteFile(f, b[1], 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := app.LoadConfig(f, func(string) string { return "" })
		if err != nil {
			t.Errorf("example %d: %v", i+1, err)
			continue
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("example %d: %v", i+1, err)
		}
	}
}
