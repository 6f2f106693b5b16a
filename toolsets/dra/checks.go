package dra

import (
	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	kind := func(want string) func(incident.Ref) bool {
		return func(r incident.Ref) bool { return r.Kind == want && (r.Cluster == "" || r.Cluster == t.cluster) }
	}
	return []tool.Check{
		{
			Name: "pod's devices", Tool: "dra_explain", Applies: kind("Pod"),
			Args:   func(r incident.Ref) any { return ExplainIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.Claims, graph.FromTemplate, graph.Class, graph.TaintedBy, graph.HeldBy, graph.OfferedBy, graph.GatedBy, graph.RunsOn},
		},
		{
			Name: "claim allocation", Tool: "dra_explain", Applies: kind("ResourceClaim"),
			Args:   func(r incident.Ref) any { return ExplainIn{Namespace: r.Namespace, Claim: r.Name} },
			Follow: []string{graph.Class, graph.TaintedBy, graph.HeldBy, graph.OfferedBy, graph.FromTemplate},
		},
	}
}
