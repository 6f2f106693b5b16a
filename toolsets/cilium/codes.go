package cilium

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Codes lists every finding code this toolset may emit. A1, B7, C3 and the like are
// the modes of the mTLS failure catalogue.
func Codes() []tool.Code {
	strs := func(s ...string) []string { return s }
	policies := strs("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy")
	fault := func(code string, sev incident.Severity, kinds, params, optional []string, text string) tool.Code {
		return tool.Code{Code: code, Role: incident.Fault, Severity: sev, Kinds: kinds, Params: params, Optional: optional, Text: text}
	}
	pair := strs("from", "to", "port", "direction")
	drops := strs("to", "port", "reason", "count", "minutes")
	datapath := strs("reason", "meaning", "count", "minutes", "agents")
	near := strs("from", "to", "port", "direction", "rule", "wants", "has")
	return append(mtlsCodes(), []tool.Code{
		{Code: "cilium.traffic_denied", Role: incident.Symptom, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("to", "port", "direction", "policy"), Text: "Traffic that the pod wants is denied by policy."},
		{Code: "cilium.flows_dropped", Role: incident.Symptom, Severity: incident.Warning, Kinds: strs("Pod"), Params: drops, Text: "Hubble saw packets dropped that the pod needs to get through."},
		{Code: "cilium.clients_turned_away", Role: incident.Symptom, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("from", "port", "reason", "count", "minutes"), Text: "Hubble saw everything dropped that was sent to a port the pod serves."},
		{Code: "cilium.drops_background", Role: incident.Context, Severity: incident.Info, Kinds: strs("Pod"), Params: drops, Text: "Packets of the pod were dropped, and nothing says that it needs them, or they get through since."},
		fault("cilium.policy_denies", incident.Critical, policies, pair, nil, "The policy puts an end into default deny and no rule lets the wanted traffic pass."),
		fault("cilium.policy_forbids", incident.Critical, policies, strs("from", "to", "port", "direction", "rule"), nil, "A deny rule forbids the wanted traffic."),
		fault("cilium.policy_port", incident.Critical, policies, near, nil, "A rule lets the peer through, on another port."),
		fault("cilium.policy_peer_labels", incident.Critical, policies, near, nil, "A rule for this port names peers by labels that the peer does not have."),
		fault("cilium.policy_namespace_scope", incident.Critical, policies, near, nil, "A rule names the peer's labels and means its own namespace, and the peer is in another."),
		fault("cilium.policy_cidr_names_pods", incident.Critical, policies, near, nil, "A rule names by address what has an identity: a CIDR never means a pod."),
		fault("cilium.policy_fqdn_without_dns", incident.Critical, policies, near, nil, "A rule names a DNS name, and no rule sends DNS through the proxy, so that addresses are never learned."),
		fault("cilium.policy_fqdn_mismatch", incident.Critical, policies, near, nil, "A rule names DNS names, and the name that is wanted is none of them."),
		fault("cilium.policy_blocks_hbone", incident.Critical, policies, near, nil, "A policy lists application ports, and the traffic now travels on port 15008 (B7, C1)."),
		fault("cilium.endpoint_not_ready", incident.Critical, strs("CiliumEndpoint"), strs("state", "node"), nil, "Cilium has not finished the pod's endpoint."),
		fault("cilium.identity_stale", incident.Critical, strs("CiliumEndpoint"), strs("labels", "identity", "node"), nil, "The pod's identity carries other labels than the pod (A10)."),
		fault("cilium.identity_label_excluded", incident.Critical, strs("ConfigMap"), strs("labels", "filter", "pod"), nil, "Cilium's label filter keeps a label out of identities that a policy names."),
		fault("cilium.endpoint_missing", incident.Warning, strs("Pod"), strs("node", "others"), nil, "Cilium has no endpoint for a running pod."),
		fault("cilium.l7_denied", incident.Critical, policies, strs("from", "to", "port", "rule", "count", "l7"), nil, "The layer 7 rules of a policy turn requests away."),
		fault("cilium.conntrack_full", incident.Critical, strs("Node"), datapath, nil, "The node's connection table is full."),
		fault("cilium.nat_exhausted", incident.Critical, strs("Node"), datapath, nil, "The node has no source port left for address translation."),
		fault("cilium.strict_encryption", incident.Critical, strs("Node"), datapath, nil, "Strict encryption drops what is not encrypted."),
		fault("cilium.identity_unknown", incident.Critical, strs("Node"), datapath, nil, "The node does not know the identity of a sender."),
		fault("cilium.cluster_id_clash", incident.Critical, strs("Node"), datapath, nil, "A cluster id of the mesh is not valid or used twice."),
		fault("cilium.node_unknown", incident.Critical, strs("Node"), datapath, nil, "The node's agent does not know a peer's node (A11)."),
		fault("cilium.bandwidth_limit", incident.Warning, strs("Node"), datapath, nil, "A pod's bandwidth limit is exceeded."),
		fault("cilium.egress_gateway", incident.Critical, strs("Node"), datapath, nil, "An egress gateway policy has no usable gateway."),
		fault("cilium.datapath_drops", incident.Warning, strs("Node"), datapath, nil, "The node drops packets for a reason of its datapath."),
		fault("cilium.policy_invalid", incident.Warning, policies, strs("message"), strs("from", "to", "port"), "Cilium rejects the policy and does not enforce it."),
		fault("cilium.mesh_apiserver_down", incident.Critical, strs("Deployment"), strs("ready"), nil, "clustermesh-apiserver has no ready pod."),
		fault("cilium.mesh_address_pending", incident.Critical, strs("Service"), strs("message"), nil, "clustermesh-apiserver has no address that other clusters reach."),
		fault("cilium.mesh_cluster_id", incident.Critical, strs("ConfigMap"), strs("id", "most"), nil, "The cluster's id is none for a mesh."),
		fault("cilium.mesh_namespace_not_global", incident.Critical, strs("Namespace"), strs("service", "annotation", "value"), nil, "A Service is global and its namespace is not."),
		fault("cilium.mesh_remote_not_ready", incident.Warning, strs("RemoteCluster"), strs("target", "value"), nil, "A remote cluster of the mesh is not ready on some node."),
		fault("cilium.hubble_relay_down", incident.Warning, strs("Deployment"), strs("ready"), nil, "hubble-relay has no ready pod."),
		fault("cilium.flow_log_failed", incident.Warning, strs("ContainerNetworkLog"), strs("state", "message"), nil, "A flow-log object of AKS has failed."),
		fault("cilium.agent_down", incident.Critical, strs("Node"), strs("pod", "reason", "agents"), nil, "The Cilium agent of the node is not ready."),
	}...)
}
