package logs

import (
	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	ours := func(r incident.Ref) bool { return r.Cluster == "" || r.Cluster == t.cfg.Cluster }
	return []tool.Check{
		{
			Name: "ranks of", Tool: "logs_ranks",
			Applies: func(r incident.Ref) bool { return ours(r) && distributed(r) && r.Group != "batch.volcano.sh" },
			Args:    func(r incident.Ref) any { return RanksIn{Namespace: r.Namespace, Kind: r.Kind, Name: r.Name} },
			Follow:  []string{graph.Owns, graph.GroupedWith, graph.Uses},
		},
		{
			Name: "rank and its peers:", Tool: "logs_ranks",
			Applies: func(r incident.Ref) bool { return ours(r) && r.Group == "" && r.Kind == "Pod" },
			Args:    func(r incident.Ref) any { return RanksIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow:  []string{graph.GroupedWith},
		},
	}
}
