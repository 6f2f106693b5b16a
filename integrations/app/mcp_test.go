package app_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/integrations/app"
)

// A real MCP server becomes a toolset; a tool that is not listed is not there, and a
// server that is away is a line of doctor's, not an error of the start.
func TestMCPServerFromAFile(t *testing.T) {
	t.Parallel()
	server := sdk.NewServer(&sdk.Implementation{Name: "cmdb", Version: "1"}, nil)
	type in struct {
		Host string `json:"host"`
	}
	for _, name := range []string{"owner", "delete_host"} {
		sdk.AddTool(server, &sdk.Tool{Name: name, Description: "d"}, func(_ context.Context, _ *sdk.CallToolRequest, v in) (*sdk.CallToolResult, any, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: name + " of " + v.Host + " is ml-platform"}}}, nil, nil
		})
	}
	srv := httptest.NewServer(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil))
	t.Cleanup(srv.Close)
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := "kubernetes: {kubeconfig: " + live(t, 0).Kubernetes.Kubeconfig + "}\nmcp:\n- {name: cmdb, url: \"" + srv.URL + "\", tools: [{name: owner, effect: read}]}\n- {name: away, command: [/nowhere/server], tools: [{name: x, effect: read}]}\n"
	cfg, a := fromFile(t, path, text)
	defer func() { _ = a.Close() }()
	ans, err := a.CallTool(t.Context(), "mcp_cmdb_owner", json.RawMessage(`{"host":"gpu-1"}`))
	if err != nil || !strings.Contains(ans.Evidence.Text, "owner of gpu-1 is ml-platform") {
		t.Errorf("%+v %v", ans.Evidence, err)
	}
	if _, err := a.CallTool(t.Context(), "mcp_cmdb_delete_host", json.RawMessage(`{"host":"gpu-1"}`)); err == nil {
		t.Error("a tool that is not listed was called")
	}
	cfg.Model.Name = "openai/x"
	if h := health(app.Doctor(t.Context(), cfg), "toolset mcp_away"); h.State != "broken" || !strings.Contains(h.Text, "/nowhere/server") {
		t.Errorf("%+v", h)
	}
	cfg.MCP[1].Name, cfg.MCP[0].Tools[0].Effect = "cmdb", "delete"
	err = cfg.Validate()
	for _, want := range []string{`mcp[0].tools[0].effect`, `mcp[1].name: "cmdb" is mcp[0]'s already`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
