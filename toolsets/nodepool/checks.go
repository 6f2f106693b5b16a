package nodepool

import (
	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	kind := func(group, want string) func(incident.Ref) bool {
		return func(r incident.Ref) bool {
			return r.Group == group && r.Kind == want && (r.Cluster == "" || r.Cluster == t.cluster)
		}
	}
	pool := func(r incident.Ref) bool {
		return kind("", "NodePool")(r) || kind(karpenterGroup, "NodePool")(r) || kind(capiGroup, "MachineDeployment")(r)
	}
	return []tool.Check{
		{
			Name: "pools for", Tool: "nodepool_growth", Applies: kind("", "Pod"),
			Args:   func(r incident.Ref) any { return GrowthIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.GrownBy, graph.RunsOn},
		},
		{
			Name: "pool of node", Tool: "nodepool_overview", Applies: kind("", "Node"),
			Args:   func(r incident.Ref) any { return OverviewIn{Node: r.Name} },
			Follow: []string{graph.InPool},
		},
		{
			Name: "pool", Tool: "nodepool_overview", Applies: pool,
			Args: func(r incident.Ref) any { return OverviewIn{Pool: r.Name} },
		},
		{
			Name: "machine", Tool: "nodepool_growth", Applies: kind(karpenterGroup, "NodeClaim"),
			Args:   func(r incident.Ref) any { return GrowthIn{NodeClaim: r.Name} },
			Follow: []string{graph.InPool},
		},
		{
			Name: "pools of the cluster", Tool: "nodepool_survey", Applies: kind("", "Cluster"), Survey: true,
			Args: func(incident.Ref) any { return SurveyIn{} },
		},
	}
}
