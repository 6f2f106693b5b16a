package serving

import (
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	here := func(r incident.Ref) bool { return r.Cluster == "" || r.Cluster == t.cluster }
	custom := func(r incident.Ref) bool {
		_, ok := t.book.shape(r.Group, r.Kind)
		return ok && here(r)
	}
	return []tool.Check{
		{
			Name: "serving resource", Tool: "serving_explain", Applies: custom, Through: true,
			Args: func(r incident.Ref) any {
				return ExplainIn{Kind: r.Kind, Group: r.Group, Namespace: r.Namespace, Name: r.Name}
			},
			Follow: []string{graph.Owns, graph.GatedBy, graph.ServedBy, graph.Uses},
		},
		{
			Name: "inference engine of", Tool: "serving_pod",
			Applies: func(r incident.Ref) bool { return r.Group == "" && r.Kind == "Pod" && here(r) },
			Args:    func(r incident.Ref) any { return PodIn{Namespace: r.Namespace, Name: r.Name} },
			Follow:  []string{graph.GatedBy, graph.GroupedWith, graph.BlockedBy, graph.RunsOn},
		},
		{
			Name: "inference routing of", Tool: "serving_route", Through: true,
			Applies: func(r incident.Ref) bool {
				return here(r) && (r.Kind == "InferencePool" && (r.Group == poolGroup || r.Group == oldPoolGroup) || r.Kind == "HTTPRoute" && r.Group == gatewayGroup)
			},
			Args: func(r incident.Ref) any {
				return RouteIn{Kind: r.Kind, Group: r.Group, Namespace: r.Namespace, Name: r.Name}
			},
			Follow: []string{graph.RoutesTo, graph.PickedBy, graph.Selects},
		},
		{
			Name: "inference latency and load of", Tool: "serving_diagnose", Through: true,
			Applies: func(r incident.Ref) bool {
				_, known := t.book.shape(r.Group, r.Kind)
				return here(r) && (known || r.Group == "" && (r.Kind == "Service" || r.Kind == "Pod") || r.Group == "apps" && (r.Kind == "Deployment" || r.Kind == "StatefulSet") ||
					r.Kind == "InferencePool" && (r.Group == poolGroup || r.Group == oldPoolGroup) || r.Kind == "HTTPRoute" && r.Group == gatewayGroup)
			},
			Args: func(r incident.Ref) any {
				return DiagnoseIn{Kind: r.Kind, Group: r.Group, Namespace: r.Namespace, Name: r.Name}
			},
			Follow: []string{graph.RoutesTo, graph.PickedBy, graph.Selects, graph.Owns, graph.RunsOn},
		},
		{
			Name: "queue of", Tool: "serving_queue",
			Applies: func(r incident.Ref) bool {
				return here(r) && r.Group == kueueGroup && slices.Contains([]string{"Workload", "LocalQueue", "ClusterQueue"}, r.Kind)
			},
			Args:   func(r incident.Ref) any { return QueueIn{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name} },
			Follow: []string{graph.Uses, graph.GatedBy},
		},
		{
			Name: "serving systems", Tool: "serving_overview", Survey: true,
			Applies: func(r incident.Ref) bool { return r.Group == "" && r.Kind == "Cluster" && here(r) },
			Args:    func(incident.Ref) any { return OverviewIn{} },
		},
		{
			Name: "serving resources in", Tool: "serving_survey", Survey: true,
			Applies: func(r incident.Ref) bool { return r.Group == "" && r.Kind == "Namespace" && here(r) },
			Args:    func(r incident.Ref) any { return SurveyIn{Namespace: r.Name} },
		},
	}
}
