package nodepool

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "Pools of nodes (labels of AKS, EKS, GKE, Karpenter, Cluster API), what the cluster autoscaler and Karpenter say of pods that wait, and, where configured, the API of AKS or GKE.",
		Rights: []tool.Right{
			{Verbs: []string{"list"}, Resources: []string{"nodes", "pods", "events"}, For: "the pools, and what an autoscaler said of a pod"},
			{Verbs: []string{"get"}, Resources: []string{"configmaps"}, For: "cluster-autoscaler-status in kube-system: sizes, maxima, back-off"},
			{Verbs: []string{"list"}, Resources: []string{"nodepools.karpenter.sh", "nodeclaims.karpenter.sh"}, For: "limits and conditions of Karpenter"},
			{Verbs: []string{"list"}, Resources: []string{"machinedeployments.cluster.x-k8s.io", "machines.cluster.x-k8s.io"}, For: "machines that Cluster API could not make"},
		},
		Config: "azure, gke",
		Found:  "the API server; a cloud is asked only where it is configured or recorded in the bundle",
		Sources: []string{
			"cluster-autoscaler events and status ConfigMap, both formats; Karpenter v1 NodePool and NodeClaim; Cluster API v1beta1 and v1beta2",
			"error codes of Azure, AWS and Google Cloud, each row with its source in errors.json",
		},
	}
}
