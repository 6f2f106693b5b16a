package serving

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "Inference runtimes through their custom resources and the words of their engines: AI Runway, KAITO, KubeRay, NVIDIA Dynamo and Grove, llm-d, the Gateway API Inference Extension, LeaderWorkerSet, KServe, JobSet and Kueue; vLLM, SGLang, TensorRT-LLM, Triton and Ray.",
		Rights: []tool.Right{
			{Verbs: []string{"get", "list"}, Resources: []string{"the custom resources of the systems that are installed"}, For: "what is served, by whom, and what the operator says of it"},
			{Verbs: []string{"get", "list"}, Resources: []string{"pods", "services", "deployments.apps", "statefulsets.apps"}, For: "replicas, routers and operators"},
			{Verbs: []string{"get"}, Resources: []string{"pods/log"}, For: "what the engine said, also before its last restart"},
			{Verbs: []string{"list"}, Resources: []string{"clusterqueues.kueue.x-k8s.io", "localqueues.kueue.x-k8s.io", "workloads.kueue.x-k8s.io"}, For: "why a workload is queued"},
		},
		Found: "the API groups that the server has, at whatever version; unknown versions are read field by field",
		Sources: []string{
			"the API references of each system, at the versions of systems.json",
			"log signatures F01 to F78 with the issue or document each is from, in signatures.json",
		},
	}
}
