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
	checks := []tool.Check{
		{
			Name: "network policy of", Tool: "cilium_policy", Applies: is("", "Pod"),
			Args:   func(r incident.Ref) any { return PolicyIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.IsolatedBy, graph.Calls, graph.RunsOn},
		},
		{
			Name: "mutual TLS of", Tool: "cilium_mtls", Applies: is("", "Pod"),
			Args:   func(r incident.Ref) any { return MTLSIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.IsolatedBy, graph.ServedBy, graph.RunsOn, graph.Calls, authenticatedBy},
		},
		{
			Name: "mutual TLS of", Tool: "cilium_mtls", Applies: is("", "Namespace"), Survey: true,
			Args: func(r incident.Ref) any { return MTLSIn{Namespace: r.Name} },
		},
		{
			Name: "Cilium of the cluster", Tool: "cilium_status", Applies: func(r incident.Ref) bool { return r.Group == "" && r.Kind == "Cluster" }, Survey: true,
			Args: func(incident.Ref) any { return StatusIn{} },
		},
		{
			Name: "Cluster Mesh of", Tool: "cilium_status", Applies: is("", "Service"),
			Args:   func(r incident.Ref) any { return StatusIn{Namespace: r.Namespace, Service: r.Name} },
			Follow: []string{graph.GatedBy},
		},
		{
			Name: "Cilium on", Tool: "cilium_node", Applies: is("", "Node"),
			Args:   func(r incident.Ref) any { return NodeIn{Node: r.Name} },
			Follow: []string{graph.ServedBy},
		},
	}
	// Without Hubble no flow is looked for: Status says that none were seen.
	if h := t.hubble.Load(); h != nil && h.here {
		checks = append(checks, tool.Check{
			Name: "network flows of", Tool: "cilium_flows", Applies: is("", "Pod"),
			Args:   func(r incident.Ref) any { return FlowsIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.Calls, graph.IsolatedBy, graph.RunsOn},
		}, tool.Check{
			Name: "network flows to", Tool: "cilium_flows", Applies: is("", "Service"),
			Args:   func(r incident.Ref) any { return FlowsIn{Namespace: r.Namespace, Service: r.Name} },
			Follow: []string{graph.Selects},
		}, tool.Check{
			Name: "dropped flows in", Tool: "cilium_flows", Applies: is("", "Namespace"), Survey: true,
			Args: func(r incident.Ref) any { return FlowsIn{Namespace: r.Name} },
		})
	}
	return checks
}
