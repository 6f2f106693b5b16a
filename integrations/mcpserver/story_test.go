package mcpserver_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/app/apptest"
	"github.com/gumshoe-ai/gumshoe/integrations/mcpserver"
)

// bearer sends a token with every request.
type bearer struct {
	token string
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// The real service on a recorded cluster, behind the real gate: a client investigates
// and proposes; a person on another surface approves, and the client sees it mended.
func TestStory(t *testing.T) {
	t.Parallel()
	svc := apptest.Stage(t, "k8s-service-selector").Work(t)
	srv, err := svc.MCP(mcpserver.Config{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	token := func(name string) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte("a-token-of-"+name+"-0123456789\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	gate, err := access.New(access.Config{Tokens: []access.TokenConfig{{Name: "ada", Role: "asker", File: token("ada")}, {Name: "vic", Role: "viewer", File: token("vic")}}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := gate.Mux(srv.Routes())
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	as := func(name string, progress func(string)) *sdk.ClientSession {
		cs := client(t, &sdk.StreamableClientTransport{Endpoint: web.URL + mcpserver.Path, HTTPClient: &http.Client{Transport: bearer{"a-token-of-" + name + "-0123456789", web.Client().Transport}}}, progress)
		t.Cleanup(func() { _ = cs.Close() })
		return cs
	}

	progress := newSaid()
	ada := as("ada", progress.add)
	text, inv, failed := call(t, ada, "investigate", map[string]any{"question": "why does service web not answer", "namespace": "shop"})
	if failed || inv["outcome"] != "root_cause" || !strings.Contains(text, "selector") {
		t.Fatalf("failed %v: %s", failed, text)
	}
	progress.await(t, "E1 ")
	conforms(t, tools(t, ada)["investigate"], inv)
	cited := inv["evidence"].([]any)[0].(map[string]any)["uri"].(string)
	if res, err := ada.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: cited}); err != nil || len(res.Contents) == 0 || res.Contents[0].Text == "" {
		t.Errorf("%s: %v", cited, err)
	}
	if text, look, failed := call(t, ada, "kube_events", map[string]any{"namespace": "shop"}); failed {
		t.Errorf("a look: %s %v", text, look)
	}
	_, _, failed = call(t, as("vic", nil), "investigate", map[string]any{"question": "why"})
	if !failed {
		t.Error("a viewer asks")
	}

	text, plan, failed := call(t, ada, "plan_propose", map[string]any{"run": inv["run"], "session": inv["session"]})
	if failed || plan["state"] != "pending" {
		t.Fatalf("%s", text)
	}
	id := plan["id"].(string)
	rec, err := svc.Plan(t.Context(), id)
	if err != nil || rec.Plan.Requester.Name != "ada" || rec.Plan.Requester.Surface != "mcp" {
		t.Fatalf("%v %+v", err, rec.Plan.Requester)
	}
	if _, err := svc.Say(t.Context(), id, incident.Approved, "", incident.Person{Name: "bob", Groups: []string{"sre"}, Surface: "web", Proof: "login"}); err != nil {
		t.Fatal(err)
	}
	for n, err := range svc.Follow(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n.Plan != id {
			continue
		}
		text, plan, failed = call(t, ada, "plan_get", map[string]any{"id": id})
		if failed {
			t.Fatal(text)
		}
		if s := plan["state"]; s == "verified" || s == "stopped" || s == "undone" || s == "void" {
			break
		}
	}
	if plan["state"] != "verified" || !strings.Contains(text, "bob") {
		t.Errorf("the plan ends %v: %s", plan["state"], text)
	}
}
