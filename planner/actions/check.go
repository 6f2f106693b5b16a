package actions

// Kinds of checks. Subject is the object asked about.
const (
	// CheckGone: no object of this name with the uid "uid" is there.
	CheckGone = "gone"
	// CheckExists: the object is there and is not being deleted.
	CheckExists = "exists"
	// CheckField: the field "path" (dots between names, [n] for elements, \. for a
	// dot in a name) is "value"; with "value" empty, it is not there.
	CheckField = "field"
	// CheckCondition: the condition "type" in status.conditions has the status "status".
	CheckCondition = "condition"
	// CheckRollout: the workload's newest revision is rolled out and available.
	CheckRollout = "rollout_complete"
	// CheckScheduled: the pod, or every pod of the workload, is bound to a node, with
	// its claims allocated.
	CheckScheduled = "pods_scheduled"
	// CheckPending: the pod, or a pod of the workload, waits for a node.
	CheckPending = "pods_pending"
	// CheckReady: the pod, or every pod of the workload, is ready.
	CheckReady = "pods_ready"
	// CheckDaemonPod: the DaemonSet has a ready pod on the node "node" that is not the
	// one with the uid "not".
	CheckDaemonPod = "daemon_pod_ready"
	// CheckAllocated: the ResourceClaim is allocated.
	CheckAllocated = "claim_allocated"
	// CheckUnused: the ResourceClaim is reserved for nobody that exists.
	CheckUnused = "claim_unused"
	// CheckEndpoints: the Service has at least "min" ready endpoints (default 1).
	CheckEndpoints = "endpoints_ready"
	// CheckEmpty: no pod runs on the node but those of DaemonSets and static ones.
	CheckEmpty = "node_empty"
	// CheckNodes: at least "min" nodes with the labels "selector" are ready and
	// schedulable.
	CheckNodes = "nodes_ready"
	// CheckOnNodes: at least "min" pods of the workload are on nodes with the labels
	// "selector".
	CheckOnNodes = "pods_on_nodes"
	// CheckPool: the provider "provider" reports the pool in one of the phases "phase"
	// (comma-separated), with "version", "image" and "count" where they are given.
	CheckPool = "pool_state"
	// CheckNoFinding: the checks that gumshoe's toolsets have for the subject no
	// longer give the finding "code" about it.
	CheckNoFinding = "no_finding"
	// CheckFinding: the finding "code" is still there: what a plan mends has not gone
	// away by itself.
	CheckFinding = "finding"
	// CheckNothingNew: around the subject there is no fault that was not there before.
	CheckNothingNew = "no_new_findings"
	// CheckTool: the read-only tool "tool" with the arguments "args" (JSON) gives
	// none of the findings "codes" (comma-separated).
	CheckTool = "tool"
	// CheckAnswers: the inference engine behind the subject answers: its health
	// endpoint, its metrics, and a request for one token where probes are allowed.
	CheckAnswers = "engine_answers"
)
