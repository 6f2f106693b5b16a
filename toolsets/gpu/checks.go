package gpu

import (
	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Checks implements tool.Checker.
func (t *Toolset) Checks() []tool.Check {
	kind := func(want string) func(incident.Ref) bool {
		return func(r incident.Ref) bool { return r.Kind == want && (r.Cluster == "" || r.Cluster == t.Cluster) }
	}
	return []tool.Check{
		{
			// A pod that runs may be slow for its GPU: the check goes from the pod to
			// the device itself, past claims that are in order.
			Name: "GPUs of pod", Tool: "gpu_health", Applies: kind("Pod"),
			Args:   func(r incident.Ref) any { return HealthIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.Uses, graph.ServedBy},
		},
		{
			Name: "GPU peers of pod", Tool: "gpu_stragglers", Applies: kind("Pod"),
			Args:   func(r incident.Ref) any { return PeersIn{Namespace: r.Namespace, Pod: r.Name} },
			Follow: []string{graph.GroupedWith},
		},
		{
			Name: "GPUs of node", Tool: "gpu_health", Applies: kind("Node"),
			Args:   func(r incident.Ref) any { return HealthIn{Node: r.Name} },
			Follow: []string{graph.Has},
		},
		{
			Name: "GPU", Tool: "gpu_health",
			Applies: func(r incident.Ref) bool { return kind("Device")(r) && gpuDriver(r.Driver) },
			Args:    func(r incident.Ref) any { return HealthIn{Node: r.Pool, GPU: r.Device} },
		},
		{
			// A Service or a workload whose pods all run may be slow for one GPU.
			Name: "GPUs behind", Tool: "gpu_survey",
			Applies: func(r incident.Ref) bool {
				group, ok := workloadKinds()[r.Kind]
				return ok && r.Group == group && (r.Cluster == "" || r.Cluster == t.Cluster)
			},
			Args:   func(r incident.Ref) any { return SurveyIn{Namespace: r.Namespace, Kind: r.Kind, Name: r.Name} },
			Follow: []string{graph.Selects, graph.Owns},
		},
		{
			Name: "GPUs of namespace", Tool: "gpu_survey", Applies: kind("Namespace"), Survey: true,
			Args: func(r incident.Ref) any { return SurveyIn{Namespace: r.Name} },
		},
		{
			Name: "GPUs of the cluster", Tool: "gpu_survey", Applies: kind("Cluster"), Survey: true,
			Args: func(incident.Ref) any { return SurveyIn{} },
		},
	}
}

// gpuDriver reports whether a device's driver hands out GPUs: DRA drivers are
// named gpu.<vendor>, a device plugin's resource ends in /gpu.
func gpuDriver(driver string) bool {
	return len(driver) > 4 && (driver[:4] == "gpu." || driver[len(driver)-4:] == "/gpu")
}
