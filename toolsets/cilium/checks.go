package cilium

import (
	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	is := func(group, kind string) func(incident.Ref) bool {
		return func(r incident.Ref) bool { return r.Group == group && r.Kind == kind && r.Name != "" }
	}
	return []tool.Check{
		{
			Name: "network policy of", Tool: "cilium_policy", Applies: is("", "Pod"),
			Args:   func(r incident.Ref) any { return PolicyIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.IsolatedBy, graph.Calls, graph.RunsOn},
		},
		{
			Name: "Cilium on", Tool: "cilium_node", Applies: is("", "Node"),
			Args:   func(r incident.Ref) any { return NodeIn{Node: r.Name} },
			Follow: []string{graph.ServedBy},
		},
	}
}
