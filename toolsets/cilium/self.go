package cilium

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "Network policies of Cilium and Kubernetes, Cilium's endpoints, identities and agents: whether a pod may talk to a peer, and which rule decides or came nearest.",
		Rights: []tool.Right{
			{Verbs: []string{"list"}, Resources: []string{"ciliumnetworkpolicies.cilium.io", "ciliumclusterwidenetworkpolicies.cilium.io", "networkpolicies.networking.k8s.io"}, For: "what is allowed"},
			{Verbs: []string{"get", "list"}, Resources: []string{"ciliumendpoints.cilium.io", "ciliumidentities.cilium.io", "ciliumnodes.cilium.io"}, For: "by which labels Cilium knows a pod"},
			{Verbs: []string{"get", "list"}, Resources: []string{"pods", "services", "namespaces", "nodes"}, For: "who is behind a name"},
			{Verbs: []string{"get"}, Resources: []string{"configmaps"}, For: "cilium-config: policy mode, audit mode, label filters"},
			{Verbs: []string{"get"}, Resources: []string{"pods/log"}, For: "peers that a pod says it cannot reach"},
		},
		Found: "the API groups cilium.io and security.istio.io; where neither is, toolset kube judges NetworkPolicies",
		Sources: []string{
			"docs.cilium.io 1.20: network policy, identities, troubleshooting",
			"networking.k8s.io/v1 NetworkPolicy",
		},
	}
}
