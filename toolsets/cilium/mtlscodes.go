package cilium

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// mtlsCodes are the codes of mutual TLS, with the modes of the mTLS failure catalogue.
func mtlsCodes() []tool.Code {
	strs := func(s ...string) []string { return s }
	fault := func(code string, sev incident.Severity, kind string, text string, params ...string) tool.Code {
		return tool.Code{Code: "cilium." + code, Role: incident.Fault, Severity: sev, Kinds: []string{kind}, Params: params, Text: text}
	}
	// logged is a fault that a part's own words prove.
	logged := func(code, kind, text string) tool.Code {
		return tool.Code{Code: "cilium." + code, Role: incident.Fault, Severity: incident.Critical, Kinds: []string{kind, "Node"}, Params: strs("line", "pod", "node"), Optional: strs("agents", "ip"), Text: text}
	}
	const crit, warn = incident.Critical, incident.Warning
	policies := strs("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
	onPolicy := func(code, text string, params ...string) tool.Code {
		return tool.Code{Code: "cilium." + code, Role: incident.Fault, Severity: crit, Kinds: policies, Params: append(strs("from", "to", "policy", "rule"), params...), Text: text}
	}
	pair := func(more ...string) []string { return append(strs("from", "to", "policy", "rule"), more...) }
	return []tool.Code{
		{Code: "cilium.peer_not_authenticated", Role: incident.Symptom, Severity: warn, Kinds: strs("Pod"), Params: strs("to", "port", "policy"), Text: "The pod complains of a peer that a policy wants authenticated."},
		{Code: "cilium.peer_unreachable", Role: incident.Symptom, Severity: warn, Kinds: strs("Pod"), Params: strs("to", "port", "line"), Text: "The pod complains of a peer to which mutual TLS applies."},
		{Code: "cilium.auth_deprecated", Role: incident.Context, Severity: warn, Kinds: policies, Params: strs("mode", "rule"), Text: "The policy asks for mutual authentication, which Cilium 1.21 removes (A20)."},
		fault("auth_off", crit, "ConfigMap", "Policies ask for mutual authentication and it is switched off (A1).", pair("value")...),
		fault("spire_agent_untolerated", crit, "DaemonSet", "spire-agent does not tolerate the taint of a node, so pods there get no certificate (A2).", pair("node", "taint", "identity")...),
		fault("spire_agent_missing", crit, "DaemonSet", "A node has no spire-agent (A2).", pair("node", "identity")...),
		fault("spire_agent_down", crit, "Pod", "The spire-agent of a node is not ready (A2).", pair("node", "identity")...),
		fault("spire_server_down", crit, "StatefulSet", "The SPIRE server has no ready pod (A5, A7).", pair("ready")...),
		fault("trust_domain_differs", crit, "ConfigMap", "Cilium and SPIRE have different trust domains (A4).", pair("spire", "cilium")...),
		onPolicy("auth_port_closed", "A host policy keeps other nodes from the port over which agents authenticate (A8).", "port", "node"),
		onPolicy("auth_reserved", "A rule wants authentication of what has no certificate (A14).", "reserved"),
		onPolicy("auth_cross_cluster", "A rule wants authentication of a peer in another cluster (A17).", "clusters"),
		onPolicy("auth_test_mode", "A rule has the mode test-always-fail (A19)."),
		logged("spire_delegate_missing", "StatefulSet", "The SPIRE server has no entry for the Cilium agent (A3)."),
		logged("spire_delegate_unauthorized", "ConfigMap", "The SPIRE agent does not take the Cilium agent for a delegate (A4)."),
		logged("spire_unreachable", "StatefulSet", "The operator cannot reach the SPIRE server (A5)."),
		logged("spire_entry_missing", "CiliumIdentity", "SPIRE has no entry for an identity (A6)."),
		logged("auth_dial_timeout", "Node", "An agent cannot reach the agent of another node on TCP 4250 (A8)."),
		logged("auth_external_ip", "Node", "An agent dials the external address of another node (A9)."),
		logged("identity_moved", "CiliumIdentity", "The agent asked has no endpoint of the identity (A10)."),
		logged("node_unknown_to_auth", "Node", "An agent does not know the address of a peer's node (A11)."),
		logged("svid_expired", "Node", "A certificate has expired or the clock is wrong (A12)."),
		logged("trust_bundle_stale", "Node", "An agent trusts another authority than the one that signed (A13)."),
		fault("trust_bundle_expired", crit, "ConfigMap", "All certificates of a trust bundle have expired.", "not_after"),
		{Code: "cilium.trust_bundle_expires", Role: incident.Context, Severity: warn, Kinds: strs("ConfigMap"), Params: strs("not_after"), Text: "A trust bundle expires soon."},
		logged("ztunnel_ca_failed", "Node", "The agent's certificate authority for ztunnel did not start (B2)."),
		{Code: "cilium.ztunnel_with_clustermesh", Role: incident.Fault, Severity: crit, Kinds: strs("ConfigMap"), Optional: strs("setting", "line", "pod", "node", "agents"), Text: "ztunnel and Cluster Mesh are both switched on (B3)."},
		fault("mtls_label_wrong", crit, "Namespace", "The enrolment label has a value that enrols nothing (B4).", "label", "value"),
		{Code: "cilium.mtls_host_network", Role: incident.Context, Severity: warn, Kinds: strs("Pod"), Params: strs("namespace"), Text: "A pod of an enrolled namespace uses the host's network (B5)."},
		fault("mtls_half_enrolled", warn, "Namespace", "Only one end of a failing pair is enrolled (B6).", "from", "to"),
		logged("ztunnel_hbone_blocked", "Node", "ztunnel says that a policy blocks port 15008 (B7)."),
		logged("ztunnel_csr_refused", "ServiceAccount", "The agent signs no certificate for a service account (B9)."),
		fault("ztunnel_down", crit, "Node", "ztunnel is not ready on a node with enrolled pods (B1, B10).", "pod", "reason", "agents"),
		logged("ztunnel_bootstrap", "Node", "ztunnel and the agent do not trust each other at start (B11)."),
		logged("ztunnel_enroll_failed", "Node", "The agent failed to enrol a pod (B12)."),
		logged("ztunnel_nack", "Node", "ztunnel refuses the agent's configuration (B13)."),
		logged("spire_upsert_failed", "StatefulSet", "The operator cannot write SPIRE entries of service accounts (B14)."),
		logged("ztunnel_no_identity", "Node", "SPIRE gives ztunnel no certificates (B15)."),
		logged("ztunnel_san_mismatch", "Node", "A peer shows another identity than expected (B16)."),
		logged("ztunnel_root_mismatch", "Node", "Nodes trust different roots (B17, C12)."),
		fault("mtls_off_while_enrolled", warn, "Namespace", "Namespaces are enrolled while mTLS is off (B18).", "label"),
		{Code: "cilium.ambient_probe_blocked", Role: incident.Fault, Severity: crit, Kinds: append(policies, "NetworkPolicy"), Params: strs("pod", "port", "source"), Text: "A policy blocks the address of ambient mode's probes (C2)."},
		fault("istio_l7_without_waypoint", crit, "AuthorizationPolicy", "An ALLOW policy by HTTP attributes has no waypoint and allows nobody (C3).", "message", "action"),
		fault("istio_deny_ineffective", warn, "AuthorizationPolicy", "A DENY policy by HTTP attributes has no waypoint and denies nothing (C4).", "message", "action"),
		logged("istio_not_allowed", "AuthorizationPolicy", "No ALLOW policy lets the peer in (C5)."),
		logged("istio_strict_plaintext", "PeerAuthentication", "A plain text client meets STRICT (C6)."),
		logged("istio_denied", "AuthorizationPolicy", "An AuthorizationPolicy denies the peer (C7)."),
		fault("waypoint_missing", crit, "Gateway", "A waypoint is named that does not exist (C8).", "service", "named_by"),
		fault("waypoint_scope", warn, "Gateway", "A waypoint does not cover the traffic (C9).", "service", "scope"),
		logged("istio_hbone_peer", "Node", "A peer does not speak HBONE on its port (C10)."),
		logged("istio_ca_refused", "Node", "The control plane signs nothing for a node's ztunnel (C11)."),
		fault("cni_exclusive", crit, "ConfigMap", "Cilium removes istio-cni from the chain (C13).", "pod", "setting"),
		fault("istio_cni_down", crit, "Node", "istio-cni is not in place on a node (C13).", "pod", "reason", "agents"),
		fault("ambient_not_captured", crit, "Pod", "An enrolled pod's traffic is not redirected (C13).", "annotation"),
		logged("appnet_no_control_plane", "Node", "ztunnel has no connection to its control plane (C15)."),
	}
}
