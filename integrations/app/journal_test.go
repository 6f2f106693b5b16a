package app

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/investigate"
	"github.com/gumshoe-ai/gumshoe/agent/store/file"
)

func TestStoreConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		yaml string
		env  map[string]string
		want StoreConfig
	}{
		"home":                      {"", map[string]string{"HOME": "/home/u"}, StoreConfig{Dir: "/home/u/.local/state/gumshoe"}},
		"XDG":                       {"", map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "/s"}, StoreConfig{Dir: "/s/gumshoe"}},
		"a relative XDG is ignored": {"", map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "s"}, StoreConfig{Dir: "/home/u/.local/state/gumshoe"}},
		"no home":                   {"", nil, StoreConfig{}},
		"file":                      {"store: {dir: /j, keep: 7}", map[string]string{"HOME": "/home/u"}, StoreConfig{Dir: "/j", Keep: 7}},
		"environment over file":     {"store: {dir: /j, keep: 7}", map[string]string{"GUMSHOE_STATE": "/e"}, StoreConfig{Dir: "/e", Keep: 7}},
		"off in the file":           {"store: off", nil, StoreConfig{Off: true}},
		"off in quotes":             {"store: \"off\"", nil, StoreConfig{Off: true}},
		"off in the environment":    {"store: {dir: /j}", map[string]string{"GUMSHOE_STATE": "off"}, StoreConfig{Dir: "/j", Off: true}},
		"on again":                  {"store: off", map[string]string{"GUMSHOE_STATE": "/e"}, StoreConfig{Dir: "/e"}},
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(c.yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := LoadConfig(path, func(k string) string { return c.env[k] })
		if err == nil {
			err = cfg.Validate()
		}
		if err != nil || cfg.Store != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, cfg.Store, err, c.want)
		}
		if want := !c.want.Off && c.want.Dir != ""; cfg.Store.wanted() != want {
			t.Errorf("%s: wanted is not %t", name, want)
		}
	}
	for yaml, say := range map[string]string{
		"store: {keep: -1}":     "store.keep",
		"store: {dir: ~/state}": "store.dir",
		"store: {path: /x}":     "path",
		"store: 7":              "dir and keep",
		"store: {dir: 7}":       "dir and keep",
		"store: {off: true}":    "or is off",
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := LoadConfig(path, func(string) string { return "" })
		if err == nil {
			err = cfg.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v does not name %q", yaml, err, say)
		}
	}
}

// A disk that takes no output takes nothing from the run that reads it back.
func TestSpillWithoutDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := file.Open(file.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	var failed []error
	sp := &spill{disk: s.Outputs(t.Context()), memory: investigate.NewMemorySpill(0), failed: func(err error) { failed = append(failed, err) }}
	id := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	if err := sp.Put(id("one"), []byte("one")); err != nil || len(failed) != 0 {
		t.Fatalf("put: %v, %v", err, failed)
	}
	if _, err := sp.memory.Get(id("one")); err == nil {
		t.Error("what the disk took is in memory too")
	}
	// The directory goes away under the run.
	if err := os.Rename(filepath.Join(dir, "outputs"), filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := sp.Put(id("two"), []byte("two")); err != nil || len(failed) != 1 {
		t.Fatalf("put without a disk: %v, %v", err, failed)
	}
	if got, err := sp.Get(id("two")); err != nil || string(got) != "two" {
		t.Errorf("get without a disk: %q, %v", got, err)
	}
	if err := os.Rename(filepath.Join(dir, "gone"), filepath.Join(dir, "outputs")); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if got, err := sp.Get(id(text)); err != nil || string(got) != text {
			t.Errorf("get: %q, %v", got, err)
		}
	}
	if _, err := sp.Get(id("three")); err == nil {
		t.Error("an output that was never put is there")
	}
}
