package custom

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads:   "HTTP endpoints that the configuration describes: a CMDB, a deployment log, a ticket search, a store of logs. Host, path, method and headers are fixed there; a caller fills typed parameters.",
		Config:  "tools",
		Found:   "nothing is looked for: each tool names its address",
		Sources: []string{"JSONPath as RFC 9535"},
	}
}
