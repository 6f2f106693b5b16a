package app_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

func TestHubbleConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hubble app.HubbleConfig
		say    string
	}{
		"no port":            {app.HubbleConfig{Address: "relay"}, "host:port"},
		"half a pair":        {app.HubbleConfig{Address: "relay:443", TLS: app.TLSConfig{CertFile: "c"}}, "go together"},
		"plain text and TLS": {app.HubbleConfig{Plaintext: true, TLS: app.TLSConfig{CAFile: "c"}}, "exclude"},
		"as it should be":    {app.HubbleConfig{Address: "127.0.0.1:4245"}, ""},
	} {
		cfg := app.Defaults()
		cfg.Hubble = c.hubble
		err := cfg.Validate()
		if (err == nil) != (c.say == "") || err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v does not say %q", name, err, c.say)
		}
	}
}

const ciliumObjects = `apiVersion: v1
kind: Namespace
metadata: {name: serve}
---
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: node-a}
---
apiVersion: v1
kind: Pod
metadata: {name: router, namespace: serve, labels: {app: router}}
spec: {containers: [{name: c, image: i}]}
`

func ciliumBundle(flows string) fstest.MapFS {
	f := fstest.MapFS{
		"bundle.yaml":      {Data: []byte("formatVersion: 1\ncaptured: \"2026-11-25T10:00:00Z\"\ncluster: prod\n")},
		"objects/all.yaml": {Data: []byte(ciliumObjects)},
	}
	if flows != "" {
		f["flows/a.jsonl"] = &fstest.MapFile{Data: []byte(flows)}
	}
	return f
}

// The flows of a bundle come through a real Observer; a bundle without any says so.
func TestFlowsOfABundle(t *testing.T) {
	t.Parallel()
	const line = `{"flow":{"time":"2026-11-25T09:59:00Z","verdict":"FORWARDED","l4":{"TCP":{"destination_port":8000}},"source":{"namespace":"serve","pod_name":"router"},"destination":{"namespace":"serve","pod_name":"engine"}},"node_name":"node-a","time":"2026-11-25T09:59:00Z"}`
	a, err := app.NewFromBundle(t.Context(), app.Defaults(), ciliumBundle(line+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	ans, err := a.CallTool(t.Context(), "cilium_flows", json.RawMessage(`{"namespace":"serve","pod":"router"}`))
	if err != nil || !strings.Contains(ans.Evidence.Text, "serve/router -> serve/engine 8000/TCP: 1 forwarded") {
		t.Errorf("%v\n%s", err, ans.Evidence.Text)
	}
	none, err := app.NewFromBundle(t.Context(), app.Defaults(), ciliumBundle(""))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = none.Close() }()
	if _, err := none.CallTool(t.Context(), "cilium_flows", json.RawMessage(`{"namespace":"serve"}`)); tool.KindOf(err) != tool.NotServed || !strings.Contains(err.Error(), "no network flows") {
		t.Errorf("without flows: %v", err)
	}
	r, err := none.Investigate(t.Context(), incident.Question{Text: "is pod serve/router ok?"}, event.SinkFunc(func(event.Event) {}))
	if err != nil {
		t.Fatal(err)
	}
	said := false
	for _, g := range r.Diagnosis.NotSeen {
		said = said || g.Source == "network flows" && strings.Contains(g.Why, "holds no network flows")
	}
	if !said {
		t.Errorf("the answer does not say that flows were not seen: %+v", r.Diagnosis.NotSeen)
	}
	if _, err := app.NewFromBundle(t.Context(), app.Defaults(), ciliumBundle("{\n")); err == nil || !strings.Contains(err.Error(), "flows/a.jsonl:1") {
		t.Errorf("broken flows: %v", err)
	}
}
