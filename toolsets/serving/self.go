package serving

import (
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	var custom []string
	for _, s := range t.book.Systems {
		for _, g := range s.Groups {
			if len(s.Kinds) == 0 {
				custom = append(custom, "*."+g)
			}
		}
	}
	slices.Sort(custom)
	return tool.Description{
		Reads: "Inference runtimes: AI Runway, KAITO, KubeRay, Dynamo and Grove, llm-d, the Gateway API Inference Extension, LeaderWorkerSet, KServe, JobSet and Kueue by their own resources; vLLM, SGLang, TensorRT-LLM and Triton by their logs and metrics.",
		Rights: []tool.Right{
			{Verbs: []string{"get", "list"}, Resources: append(custom, "dynamographdeployments.nvidia.com", "dynamocomponentdeployments.nvidia.com"), For: "what is served, and what its system says of it"},
			{Verbs: []string{"get", "list"}, Resources: []string{"pods", "services", "deployments.apps", "statefulsets.apps", "nodes", "configmaps"}, For: "the pods behind a resource, operators, endpoint pickers and their settings"},
			{Verbs: []string{"get", "list"}, Resources: []string{"httproutes.gateway.networking.k8s.io", "referencegrants.gateway.networking.k8s.io"}, For: "how requests reach a pool"},
			{Verbs: []string{"list"}, Resources: []string{"nodeclaims.karpenter.sh"}, For: "nodes that a Workspace waits for"},
			{Verbs: []string{"get"}, Resources: []string{"pods/log"}, For: "what engines, routers and operators say"},
			{Verbs: []string{"get"}, Resources: []string{"pods/proxy"}, For: "metrics of engines where there is no Prometheus"},
			{Verbs: []string{"create"}, Resources: []string{"pods/proxy"}, For: "serving_probe only, which asks first"},
		},
		Found: "the API groups that the server has, at whatever versions; engines by image and arguments; metrics by Prometheus, else through the API server",
		Sources: []string{
			"conditions, states and labels: AI Runway 0.7, KAITO 0.12, KubeRay 1.7, Dynamo 1.5, Grove 0.1, GAIE 1.6, llm-d-router 0.10, LeaderWorkerSet 0.10, KServe 0.20, Kueue 0.14 (conditions.json, systems.json)",
			"log signatures: issues of the projects, named one by one in signatures.json",
			"metrics: llm-d docs/operations/observability/promql.md and the engines' own documents",
		},
	}
}
