package mcp

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads:   "A server of the Model Context Protocol, over a process's standard input and output or over streamable HTTP. Only the tools that the configuration lists are offered, with the effect it declares.",
		Config:  "mcp",
		Found:   "nothing is looked for: each server names its command or address; it is connected when its tools are first wanted",
		Sources: []string{"Model Context Protocol specification"},
	}
}
