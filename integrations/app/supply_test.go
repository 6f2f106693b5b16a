package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

func TestSupplyConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bad := file("bad.json", `{"auths":{"x":{"auth":"hunter2`)
	for want, c := range map[string]app.SupplyConfig{
		`registries[0].host ""`:            {Registries: []app.RegistryConfig{{}}},
		"a registry's name as in an image": {Registries: []app.RegistryConfig{{Host: "https://ghcr.io"}}},
		"is listed twice":                  {Registries: []app.RegistryConfig{{Host: "ghcr.io"}, {Host: "ghcr.io"}}},
		"go together":                      {Registries: []app.RegistryConfig{{Host: "ghcr.io", Username: "u"}}},
		`not "*"`:                          {Registries: []app.RegistryConfig{{Host: "*", Insecure: true}}},
		"passwordFile":                     {Registries: []app.RegistryConfig{{Host: "ghcr.io", Username: "u", PasswordFile: "/nowhere"}}},
		"supply.keys[0]":                   {Keys: []string{"/nowhere"}},
		"holds no PEM":                     {Keys: []string{bad}},
		"no JSON of Docker's":              {DockerConfig: bad},
	} {
		cfg := app.Defaults()
		cfg.Supply = c
		err := cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	ok := app.Defaults()
	ok.Supply = app.SupplyConfig{Registries: []app.RegistryConfig{{Host: "*"}, {Host: "r.example.com:5000", Username: "u", PasswordFile: file("pw", "x")}}, DockerConfig: file("ok.json", `{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}`)}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
}

// A registry that is not listed is never asked.
func TestUnlistedRegistryIsNotAsked(t *testing.T) {
	t.Parallel()
	cfg := live(t, 0)
	a, err := app.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	_, err = a.CallTool(t.Context(), "supply_image", json.RawMessage(`{"image":"ghcr.io/example/x:1"}`))
	if tool.KindOf(err) != tool.NotServed || !strings.Contains(tool.UserText(err), "supply.registries") {
		t.Errorf("%v", err)
	}
}
