package serving

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Codes lists every finding code this toolset may emit; Fnn are the modes of the
// serving failure catalogue.
func Codes() []tool.Code {
	strs := func(s ...string) []string { return s }
	var out []tool.Code
	add := func(code string, role incident.Role, sev incident.Severity, kinds, params []string, text string) {
		out = append(out, tool.Code{Code: "serving." + code, Role: role, Severity: sev, Kinds: kinds, Params: params, Text: text})
	}
	any := strs("custom resources of serving systems")
	pod := strs("Pod")
	pool := strs("InferencePool")
	said := strs("condition", "reason", "message", "mode", "way")
	line := strs("container", "line", "mode", "meaning", "way", "count")

	// What custom resources say of themselves.
	add("not_ready", incident.Symptom, incident.Warning, any, said, "A custom resource says that it is not ready, or its pods are not.")
	add("not_reconciled", incident.Symptom, incident.Warning, any, strs("system", "what"), "Nobody acts for a custom resource: its status is missing or about an earlier generation.")
	for _, c := range []struct{ code, text string }{
		{"spec_invalid", "The controller refuses the spec (F55, F78i, F78j)."},
		{"create_failed", "The controller cannot create what the resource needs (F47, F78)."},
		{"config_missing", "A configuration that the resource is based on does not exist (F78j)."},
		{"runtime_unsupported", "No serving runtime supports the model's format, or the named one is unknown or disabled (F78i)."},
		{"provider_missing", "No registered provider can take the ModelDeployment (F78a)."},
		{"provider_change", "A provider cannot be changed in place (F78e)."},
		{"resource_conflict", "An object of that name exists and belongs to somebody else (F78c)."},
		{"upstream_missing", "The operator or the CRDs behind it are missing (F78b, F78j)."},
		{"gateway_missing", "There is no Gateway, or the cluster lacks the Gateway's kinds (F78d, F71)."},
		{"image_unresolved", "The controller cannot resolve the image (F78h)."},
		{"node_provisioning", "The cloud does not provide the node (F48)."},
		{"model_exceeds_sku", "The model does not fit the instance type (F50)."},
		{"node_without_plugin", "The nodes came up and offer no GPU (F45)."},
		{"ray_initializing_timeout", "The RayService did not become ready within its initializing timeout (F57)."},
		{"ray_head_missing", "The Ray head pod is gone and is not made again (F58)."},
		{"topology_unavailable", "The topology levels that a gang asks for do not exist (F65)."},
		{"gang_unscheduled", "A gang does not find room for all of its pods at once (F65)."},
		{"pool_not_supported", "The Gateway's controller does not support inference pools (F71)."},
		{"picker_missing", "The endpoint picker that a pool names does not exist (F69)."},
	} {
		add(c.code, incident.Fault, incident.Critical, any, said, c.text)
	}
	add("operator_down", incident.Fault, incident.Critical, strs("Deployment"), strs("system", "operator", "ready", "desired"), "The operator of a serving system has no replica ready (F51, F59, F78a).")
	add("operator_missing", incident.Fault, incident.Critical, any, strs("system", "operator"), "The kinds are there and no operator for them is.")
	add("operator_forbidden", incident.Fault, incident.Critical, strs("ServiceAccount"), strs("system", "operator", "verb", "resource", "group"), "The operator lacks a right (F59).")
	add("status_unread", incident.Fault, incident.Critical, strs("ModelDeployment"), strs("child", "version", "pods_ready"), "The provider's object is well and its newer status shape is not read (F78g).")
	add("benchmark_failed", incident.Fault, incident.Warning, strs("Workspace"), strs("message"), "Only the benchmark failed; the Workspace serves (F52).")
	add("nodes_not_chosen", incident.Fault, incident.Critical, strs("Workspace"), strs("nodes", "count"), "GPU nodes are there and none is what the Workspace asks for (F49).")
	add("ray_app_failed", incident.Fault, incident.Critical, strs("RayService"), strs("app", "state", "message"), "A Serve application failed to deploy or is unhealthy (F55).")
	add("ray_upgrade_stuck", incident.Fault, incident.Critical, strs("RayService"), strs("active", "pending", "waiting", "gpus"), "An upgrade waits for GPUs that the active cluster holds (F56).")
	add("startup_deadlock", incident.Fault, incident.Critical, strs("LeaderWorkerSet"), strs("leader", "line"), "The leader waits for workers that are made only once it is ready (F18).")
	add("exclusive_topology", incident.Context, incident.Info, strs("LeaderWorkerSet"), strs("key", "group"), "A group must have a topology domain to itself (F18).")

	// Routing.
	add("no_endpoint", incident.Symptom, incident.Warning, strs("InferencePool", "Pod"), line, "A pool has no engine that may be chosen (F67).")
	add("pool_selects_nothing", incident.Fault, incident.Critical, pool, strs("selector", "near"), "No pod has the labels that the pool selects (F67).")
	out[len(out)-1].Optional = strs("label")
	add("pool_port_mismatch", incident.Fault, incident.Critical, pool, strs("port", "listening", "pod"), "The pool sends requests to a port on which its pods do not listen (F67).")
	add("pool_mixed_models", incident.Fault, incident.Critical, pool, strs("models"), "The pool selects pods of several base models (F76).")
	add("scaled_to_zero", incident.Fault, incident.Critical, strs("Deployment", "StatefulSet", "LeaderWorkerSet"), strs("wanted_by"), "The workload whose pods a pool selects is scaled to zero.")
	add("picker_down", incident.Symptom, incident.Warning, pool, strs("picker", "failure_mode"), "The pool's endpoint picker does not answer (F69).")
	add("engine_type_unsaid", incident.Fault, incident.Critical, pool, strs("engine", "pod", "label"), "The endpoint picker reads metrics by names that these engines do not have (F77).")
	add("sheddable_objective", incident.Fault, incident.Warning, strs("InferenceObjective"), strs("priority", "pool", "line"), "Requests of a negative priority are dropped while the pool counts as saturated (F70).")
	add("picker_port_mismatch", incident.Fault, incident.Critical, pool, strs("port", "have", "picker"), "The pool calls its endpoint picker on a port that the Service does not have (F69).")
	add("route_unresolved", incident.Symptom, incident.Warning, strs("HTTPRoute"), strs("backend"), "A route does not lead to engines (F71).")
	add("route_backend_missing", incident.Fault, incident.Critical, strs("HTTPRoute"), strs("backend", "group", "why", "near"), "A route names an inference pool that does not exist in that group (F71).")
	add("route_not_granted", incident.Fault, incident.Critical, strs("HTTPRoute"), strs("backend", "namespace"), "A route names a pool of another namespace without a ReferenceGrant (F71).")
	add("model_name_mismatch", incident.Fault, incident.Critical, strs("HTTPRoute", "Pod"), strs("asked", "served", "where"), "Requests ask for a model name that the engines do not serve (F78k).")

	// Queues.
	add("workload_queued", incident.Symptom, incident.Warning, strs("Workload"), strs("queue", "message"), "Kueue has not admitted the Workload (F47).")
	add("queue_evicted", incident.Symptom, incident.Warning, strs("Workload"), strs("reason", "message"), "Kueue put the Workload back.")
	quota := strs("resource", "flavor", "more", "queue", "holders", "message")
	add("queue_quota", incident.Fault, incident.Critical, strs("Workload"), quota, "The ClusterQueue's quota is used up (F47).")
	add("queue_never_fits", incident.Fault, incident.Critical, strs("Workload"), quota, "The Workload asks for more than the queue may ever give (F47).")
	add("queue_missing", incident.Fault, incident.Critical, strs("Workload", "LocalQueue"), strs("queue", "kind", "near"), "The queue does not exist (F47).")
	add("queue_stopped", incident.Fault, incident.Critical, strs("LocalQueue", "ClusterQueue"), strs("policy", "reason", "message"), "The queue is stopped or not active (F47).")
	add("queue_preempted", incident.Fault, incident.Critical, strs("Workload"), strs("message", "reason"), "Kueue preempted the Workload for another one (F47).")
	add("queue_check", incident.Fault, incident.Critical, strs("Workload"), strs("check", "state", "message"), "An admission check refuses the Workload (F47).")

	// What engines measure.
	lat := strs("now", "before", "replicas", "window")
	add("ttft_high", incident.Symptom, incident.Warning, any, lat, "The time to the first token rose against what was before.")
	add("itl_high", incident.Symptom, incident.Warning, any, lat, "The time between tokens rose against what was before.")
	add("prefix_cache_lost", incident.Symptom, incident.Warning, any, lat, "The prefix cache hits far less than before (F72).")
	add("uneven", incident.Symptom, incident.Warning, any, strs("replicas", "how"), "Replicas of one model differ where they should not.")
	add("replica_slow", incident.Symptom, incident.Warning, pod, strs("now", "peers", "node", "window"), "One replica produces tokens slower than its peers.")
	add("replica_hot", incident.Symptom, incident.Warning, pod, strs("waiting", "peers", "node", "window"), "Requests pile up on one replica (F72).")
	add("traffic_stopped", incident.Context, incident.Info, any, strs("before", "replicas", "window"), "No request reaches engines that had some before.")
	add("engine_hung", incident.Fault, incident.Critical, pod, strs("running", "waiting", "window", "node"), "The engine holds requests and produces no token (F22 to F24).")
	add("kv_exhausted", incident.Fault, incident.Critical, strs("Pod", "what serves"), strs("waiting", "kv", "preempted", "replicas", "window"), "The KV cache is full: requests wait and running ones are put back (F08).")
	add("batch_limit", incident.Fault, incident.Critical, pod, strs("limit", "running", "waiting", "kv", "container"), "The engine runs as many sequences as it is told to, with room for more.")
	add("roles_unbalanced", incident.Fault, incident.Warning, any, strs("busy", "idle", "waiting", "replicas"), "Requests queue at prefill or at decode only (F75).")
	add("kv_held", incident.Fault, incident.Critical, pod, strs("running", "kv", "waiting"), "The KV cache of a prefill engine is full of blocks that decode does not fetch (F74).")
	add("output_corrupted", incident.Symptom, incident.Warning, pod, strs("rate", "node", "window"), "The engine's output holds NaN (F26).")
	add("demand_grew", incident.Fault, incident.Warning, any, strs("now", "before", "replicas"), "More requests come than the replicas keep up with.")
	add("frontend_blind", incident.Fault, incident.Critical, pod, strs("ready"), "A frontend knows no worker while workers are ready (F62).")
	add("picker_split", incident.Fault, incident.Critical, pool, strs("picker", "replicas"), "Several endpoint pickers choose at once, each with its own index (F72).")
	add("hash_seed_differs", incident.Fault, incident.Critical, pool, strs("seeds"), "Engines hash prefixes with different seeds (F72).")
	add("block_size_differs", incident.Fault, incident.Critical, pool, strs("picker", "wanted", "have"), "The endpoint picker looks for prefixes in other blocks than the engines keep (F72).")

	// What engines say.
	add("no_readiness_probe", incident.Context, incident.Info, pod, strs("container"), "The engine has no readiness probe: it gets requests before it can answer them (F40).")
	add("loading", incident.Context, incident.Info, pod, strs("container", "line"), "The engine is on its way up.")
	add("log_line", incident.Context, incident.Info, pod, line, "A line of the log that explains nothing by itself.")
	add("context_shrunk", incident.Context, incident.Info, pod, line, "The engine shortened its context (F09).")
	add("prompt_too_long", incident.Context, incident.Info, pod, line, "Clients send prompts beyond the engine's context (F78l).")
	for _, c := range []struct{ code, text string }{
		{"requests_shed", "The endpoint picker drops sheddable requests (F70)."},
		{"picker_blind", "The endpoint picker cannot read the engines' metrics (F77)."},
	} {
		add(c.code, incident.Symptom, incident.Warning, strs("Pod", "InferencePool"), line, c.text)
	}
	for _, c := range []struct{ code, text string }{
		{"collective_timeout", "A collective timed out on this rank: it waited for another (F16)."},
		{"group_waiting", "A leader waits for its workers (F18)."},
		{"engine_stalled", "The engine waits for a worker process again and again (F23)."},
		{"head_unreachable", "A Ray process does not reach its head (F54)."},
		{"model_name_unknown", "Clients ask for a model name that is not served (F78k)."},
	} {
		add(c.code, incident.Symptom, incident.Warning, pod, line, c.text)
	}
	for _, c := range []struct{ code, text string }{
		{"engine_memory", "The engine's own words are that GPU memory does not suffice (F01 to F04, F07)."},
		{"gpu_not_empty", "The GPU is not empty when the engine starts (F05)."},
		{"parallel_layout", "The model cannot be split over the GPUs as told (F11 to F13)."},
		{"shm_too_small", "/dev/shm is too small (F14)."},
		{"nccl_setup", "NCCL cannot set up its network or devices (F15)."},
		{"driver_mismatch", "CUDA of the image and driver of the node do not fit (F19)."},
		{"arch_unsupported", "No kernel of the image or quantisation is for this GPU (F20, F21)."},
		{"gpu_error", "CUDA reports an error of the device (F22)."},
		{"model_gated", "The model's repository is gated (F27)."},
		{"model_not_found", "There is no such model repository (F28)."},
		{"hub_throttled", "Hugging Face throttles the downloads (F29)."},
		{"model_unknown_architecture", "The engine does not know the model's architecture (F30)."},
		{"remote_code_refused", "The model needs code of its own, which is not allowed (F31)."},
		{"plan_mismatch", "The TensorRT engine fits neither version nor GPU (F32)."},
		{"cache_corrupt", "A file of the model is damaged or incomplete (F34)."},
		{"ray_memory", "Ray's memory monitor killed a worker (F54)."},
		{"discovery_backend_down", "etcd or NATS does not answer Dynamo (F60)."},
		{"discovery_empty", "Dynamo's discovery finds no worker (F61)."},
		{"planner_blind", "Dynamo's planner lacks its figures (F64)."},
		{"picker_crd_missing", "The endpoint picker wants kinds that are not served (F68)."},
		{"kv_transfer_failing", "KV blocks do not come from prefill to decode (F73)."},
		{"lora_refused", "An adapter is larger than the engine allows (F78m)."},
	} {
		add(c.code, incident.Fault, incident.Critical, pod, line, c.text)
		out[len(out)-1].Optional = strs("set", "within")
	}
	add("probe_kills_loading", incident.Fault, incident.Critical, pod, strs("container", "probe", "budget", "lived", "line"), "A probe ends the engine while it is still loading (F39).")
	add("side_channel_host", incident.Fault, incident.Critical, pod, strs("host", "ip", "container"), "The address given to peers for KV transfer is not the pod's (F73).")
	return out
}
