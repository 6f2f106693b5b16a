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
			Follow: []string{graph.Claims, graph.FromTemplate, graph.Class, graph.TaintedBy, graph.HeldBy, graph.OfferedBy, graph.Publishes, graph.GatedBy, graph.RunsOn},
		},
		{
			Name: "claim allocation", Tool: "dra_explain", Applies: kind("ResourceClaim"),
			Args:   func(r incident.Ref) any { return ExplainIn{Namespace: r.Namespace, Claim: r.Name} },
			Follow: []string{graph.Class, graph.TaintedBy, graph.HeldBy, graph.OfferedBy, graph.FromTemplate},
		},
		{
			Name: "claim life-cycle", Tool: "dra_claim", Applies: kind("ResourceClaim"),
			Args: func(r incident.Ref) any { return ClaimIn{Namespace: r.Namespace, Name: r.Name} },
			// A holder's pods are not followed: that they fail does not explain that
			// the devices they hold are taken.
		},
		{
			Name: "pod's extended resources", Tool: "dra_extended", Applies: kind("Pod"),
			Args:   func(r incident.Ref) any { return ExtendedIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.Class},
		},
		{
			Name: "DRA driver", Tool: "dra_driver", Applies: kind("Driver"),
			Args:   func(r incident.Ref) any { return DriverIn{Driver: r.Name} },
			Follow: []string{graph.Publishes, graph.OfferedBy},
		},
		{
			Name: "device class", Tool: "dra_devices", Applies: kind("DeviceClass"),
			Args:   func(r incident.Ref) any { return DevicesIn{Class: r.Name} },
			Follow: []string{graph.OfferedBy},
		},
		{
			Name: "devices of the node", Tool: "dra_overview", Applies: kind("Node"),
			Args:   func(r incident.Ref) any { return OverviewIn{Node: r.Name} },
			Follow: []string{graph.OfferedBy, graph.Publishes},
		},
		{
			Name: "Kueue admission", Tool: "dra_kueue",
			Applies: func(r incident.Ref) bool { return kind("Job")(r) || kind("JobSet")(r) || kind("Workload")(r) },
			Args:    func(r incident.Ref) any { return KueueIn{Namespace: r.Namespace, Kind: r.Kind, Name: r.Name} },
			Follow:  []string{graph.GatedBy},
		},
		{
			Name: "claims in trouble", Tool: "dra_survey", Applies: kind("Namespace"), Survey: true,
			Args: func(r incident.Ref) any { return SurveyIn{Namespace: r.Name} },
		},
		{
			Name: "DRA of the cluster", Tool: "dra_survey", Applies: kind("Cluster"), Survey: true,
			Args: func(incident.Ref) any { return SurveyIn{} },
		},
	}
}
