package app

import (
	"errors"
	"fmt"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/mcp"
)

// newMCP makes one toolset a configured MCP server. Nothing is started here. A
// recording has none: the servers speak of another time.
func newMCP(src *source) ([]tool.Toolset, error) {
	if src.recorded {
		return nil, nil
	}
	model := src.cfg.Model.Name
	var out []tool.Toolset
	for i, s := range src.cfg.MCP {
		t, err := mcp.New(mcp.Config{Spec: s, Wanted: model != "" && model != Offline})
		if err != nil {
			return nil, fmt.Errorf("mcp[%d]: %w", i, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// mcpSpecs is the section mcp.
type mcpSpecs []mcp.Spec

// validate names every mistake.
func (specs mcpSpecs) validate() error {
	var errs []error
	seen := map[string]int{}
	for i, s := range specs {
		_, err := mcp.New(mcp.Config{Spec: s})
		if j, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range j.Unwrap() {
				errs = append(errs, fmt.Errorf("mcp[%d].%w", i, e))
			}
		} else if err != nil {
			errs = append(errs, fmt.Errorf("mcp[%d].%w", i, err))
		}
		if first, twice := seen[s.Name]; twice && s.Name != "" {
			errs = append(errs, fmt.Errorf("mcp[%d].name: %q is mcp[%d]'s already", i, s.Name, first))
		}
		seen[s.Name] = i
	}
	return errors.Join(errs...)
}
