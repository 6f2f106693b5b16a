package cilium

// dropMeaning is what a drop reason says, and which fault it proves.
type dropMeaning struct {
	// text says it in words.
	text string
	// code of the fault on the node where it is seen; empty where the reason proves
	// none by itself.
	code string
}

// meaningOf knows the drop reasons of Cilium 1.20 that say something about a cluster
// (api/v1/flow/flow.proto, enum DropReason). A reason that is not here is told by
// its name.
func meaningOf(reason string) dropMeaning {
	m, ok := map[string]dropMeaning{
		"POLICY_DENIED":                          {"no policy rule allows it", ""},
		"POLICY_DENY":                            {"a deny rule forbids it", ""},
		"AUTH_REQUIRED":                          {"the rule wants mutual authentication, which has not happened", ""},
		"CT_MAP_INSERTION_FAILED":                {"the connection table of the node is full", "cilium.conntrack_full"},
		"CT_NO_MAP_FOUND":                        {"the endpoint has no connection table", "cilium.datapath_drops"},
		"NO_MAPPING_FOR_NAT_MASQUERADE":          {"the node has no source port left for address translation", "cilium.nat_exhausted"},
		"SNAT_NO_MAP_FOUND":                      {"the node has no table for address translation", "cilium.datapath_drops"},
		"FIB_LOOKUP_FAILED":                      {"the node has no route to the destination", "cilium.datapath_drops"},
		"STALE_OR_UNROUTABLE_IP":                 {"the address belongs to no pod any more, or is not routed", "cilium.datapath_drops"},
		"SERVICE_BACKEND_NOT_FOUND":              {"the Service has no backend", ""},
		"NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT":    {"the node does not know where the other node is", "cilium.datapath_drops"},
		"UNENCRYPTED_TRAFFIC":                    {"strict encryption is on and the packet was not encrypted", "cilium.strict_encryption"},
		"INVALID_IDENTITY":                       {"the identity of the sender is not known on this node", "cilium.identity_unknown"},
		"INVALID_CLUSTER_ID":                     {"the cluster id of the sender is not valid in the mesh", "cilium.cluster_id_clash"},
		"UNKNOWN_SENDER":                         {"the sender is not known on this node", "cilium.identity_unknown"},
		"NO_NODE_ID":                             {"the node has no number for the peer's node (A11)", "cilium.node_unknown"},
		"DROP_EP_NOT_READY":                      {"the endpoint's policy program is not in place", "cilium.datapath_drops"},
		"DROP_HOST_NOT_READY":                    {"the node's own program is not in place", "cilium.datapath_drops"},
		"DROP_RATE_LIMITED":                      {"the node limits the rate", "cilium.datapath_drops"},
		"REACHED_EDT_RATE_LIMITING_DROP_HORIZON": {"the pod's bandwidth limit is exceeded", "cilium.bandwidth_limit"},
		"DENIED_BY_LB_SRC_RANGE_CHECK":           {"the Service does not let this source range in", ""},
		"CT_MISSING_TCP_ACK_FLAG":                {"the packet is larger than the path takes (fragmentation needed)", "cilium.datapath_drops"},
		"IP_FRAGMENTATION_NOT_SUPPORTED":         {"the packet is a fragment, which is switched off", "cilium.datapath_drops"},
		"NO_EGRESS_GATEWAY":                      {"an egress gateway policy applies and no gateway node is there", "cilium.egress_gateway"},
		"DROP_NO_EGRESS_IP":                      {"the egress gateway node has no such address", "cilium.egress_gateway"},
		"VLAN_FILTERED":                          {"the VLAN tag is not let through", "cilium.datapath_drops"},
		"MISSED_TAIL_CALL":                       {"an eBPF program was missing, as for a moment at upgrades", ""},
		"INVALID_SOURCE_IP":                      {"the sender used an address that is not its own", ""},
		"UNSUPPORTED_L3_PROTOCOL":                {"no protocol that Cilium handles", ""},
		"TTL_EXCEEDED":                           {"the packet's time to live ran out, as in a loop", "cilium.datapath_drops"},
		"IGMP_HANDLED":                           {"handled by Cilium itself, nothing is lost", ""},
		"IGMP_SUBSCRIBED":                        {"handled by Cilium itself, nothing is lost", ""},
		"MULTICAST_HANDLED":                      {"handled by Cilium itself, nothing is lost", ""},
		"DROP_PUNT_PROXY":                        {"handed to the proxy, nothing is lost", ""},
	}[reason]
	if !ok {
		return dropMeaning{text: reason}
	}
	return m
}

// byPolicy reports whether a drop is the work of a policy.
func byPolicy(reason string) bool { return reason == "POLICY_DENIED" || reason == "POLICY_DENY" }
