package app

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/mcpserver"
)

// mcpTools are the tools of an App as the MCP server offers them.
type mcpTools struct{ app *App }

var _ mcpserver.Tools = mcpTools{}

// Infos implements mcpserver.Tools.
func (t mcpTools) Infos() []tool.Info {
	var out []tool.Info
	for _, ts := range t.app.toolsets {
		for _, x := range ts.Tools() {
			out = append(out, x.Info())
		}
	}
	return out
}

// CallTool implements mcpserver.Tools.
func (t mcpTools) CallTool(ctx context.Context, name string, args json.RawMessage) (mcpserver.Answer, error) {
	a, err := t.app.CallTool(ctx, name, args)
	return mcpserver.Answer(a), err
}

// MCP makes the MCP server of a service. draining reports that the process ends; it
// may be nil, and so may log.
func (s *Service) MCP(cfg mcpserver.Config, draining func() bool, log *slog.Logger) (*mcpserver.Server, error) {
	return mcpserver.New(cfg, mcpserver.Deps{
		Tools: mcpTools{s.app}, Conversations: s, Following: s, Findings: s, Plans: s, Runbooks: s.app.library,
		Version: Version(), Draining: draining, Log: log,
	})
}
