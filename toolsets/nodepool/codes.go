package nodepool

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Codes lists every finding code this toolset may emit.
func Codes() []tool.Code {
	strs := func(s ...string) []string { return s }
	pools := strs("NodePool", "MachineDeployment")
	claims := strs("NodePool", "NodeClaim", "MachineDeployment", "Machine")
	fault := func(code string, kinds, params, optional []string, text string) tool.Code {
		return tool.Code{Code: "nodepool." + code, Role: incident.Fault, Severity: incident.Critical, Kinds: kinds, Params: params, Optional: optional, Text: text}
	}
	context := func(code string, kinds, params []string, text string) tool.Code {
		return tool.Code{Code: "nodepool." + code, Role: incident.Context, Severity: incident.Info, Kinds: kinds, Params: params, Text: text}
	}
	// cloudy are the facts of every fault that is read out of a provider's words.
	cloudy, more := strs("pool", "message", "way_out"), strs("error_code", "since", "claim")
	return []tool.Code{
		context("scaling_up", claims, strs("pool", "since"), "A node for the pod is on its way, within the usual time."),
		context("scale_up_declined", strs("Pod"), strs("message", "reasons"), "The autoscaler adds no node, since none of its groups would help."),
		context("upgrading", strs("NodePool", "MachineDeployment"), strs("pool", "phase"), "The pool is being upgraded, and nothing of it is stuck."),
		context("images_mixed", strs("NodePool", "MachineDeployment"), strs("pool", "old", "new", "phase"), "The pool has nodes of two images, as in an upgrade."),
		context("rollback_possible", strs("NodePool"), strs("pool", "image", "until"), "The provider would take the pool back to the image before."),
		context("pools_differ", strs("NodePool", "MachineDeployment"), strs("pool", "other", "differences"), "Two pools with the same machines differ."),
		context("node_upgrading", strs("Node"), strs("pool", "phase"), "The node is cordoned while its pool is being upgraded."),

		fault("autoscaler_down", strs("Deployment"), strs("ready", "wanted"), nil, "The autoscaler is scaled to zero, so no pool grows."),
		{Code: "nodepool.autoscaler_failing", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Deployment"), Params: strs("ready", "wanted"), Text: "No replica of the autoscaler is ready, so no pool grows; what fails them is the deeper cause."},
		fault("autoscaler_silent", strs("ConfigMap"), strs("since"), nil, "The cluster autoscaler has stopped writing its status."),
		fault("max_size_reached", pools, strs("pool", "max", "count"), strs("message"), "The pool that would help is at its maximum size."),
		fault("limit_reached", strs("NodePool"), strs("pool", "resource", "limit", "used"), strs("message"), "The limits of the Karpenter NodePool are used up."),
		fault("quota_exceeded", claims, cloudy, more, "A quota of the cloud keeps the pool from growing."),
		fault("no_capacity", claims, cloudy, more, "The cloud has no such machine to give."),
		fault("subnet_full", claims, cloudy, more, "The subnet of the pool has no addresses left."),
		fault("cloud_permission_denied", claims, cloudy, more, "The identity that makes the machines lacks a right in the cloud."),
		fault("policy_refuses", claims, cloudy, more, "A policy of the cloud forbids the machine."),
		fault("cloud_throttled", claims, cloudy, more, "The cloud's API throttles the calls that make machines."),
		fault("machine_type_unknown", claims, cloudy, more, "The machine type of the pool does not exist in the region."),
		fault("bootstrap_failed", claims, cloudy, more, "Machines are made and do not become nodes."),
		fault("drain_blocked", claims, cloudy, more, "Pods on a node of the pool cannot be evicted, so its upgrade fails."),
		fault("provisioning_failed", claims, cloudy, more, "The provider could not make the machine, for another reason."),
		fault("nodes_do_not_come", pools, strs("pool", "since"), strs("target", "registered"), "The pool was told to grow and its nodes do not register."),
		fault("not_ready", strs("NodePool"), strs("pool", "condition", "message"), strs("node_class"), "Karpenter does not use the NodePool, since it or its node class is not ready."),
		fault("node_not_registered", strs("NodeClaim", "Machine"), strs("pool", "since"), strs("message", "claim"), "The machine runs and does not become a node."),
		fault("node_not_initialized", strs("NodeClaim"), strs("pool", "since", "message"), strs("claim", "node"), "The node registered and lacks what it was made for."),
		fault("machine_failed", strs("Machine"), strs("pool", "message"), strs("reason"), "Cluster API gave the machine up."),
		fault("paused", strs("MachineDeployment"), strs("pool"), nil, "The MachineDeployment or its cluster is paused, so no machine is made."),
		fault("upgrade_failed", pools, strs("pool", "state", "message"), strs("error_code"), "The last operation of the pool failed."),
		fault("stopped", pools, strs("pool", "state"), nil, "The pool is stopped."),
		// What runs on such a node runs: this explains no pod's trouble.
		{Code: "nodepool.upgrade_stuck", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Node"), Params: strs("pool", "label"), Text: "The upgrade could not drain the node and left it behind."},
		fault("sick_share_pool", pools, strs("pool", "sick", "well", "differences"), nil, "All replicas that fail are in one pool and those elsewhere are well, by the same template."),
	}
}
