package gpu

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Codes lists every finding code this toolset may emit. A device's driver, pool
// and name are those of its DRA driver; where a device plugin hands GPUs out the
// driver is the resource, the pool the node, and the name the UUID.
func Codes() []tool.Code {
	s := func(v ...string) []string { return v }
	dev := func(opt ...string) []string { return append(opt, "uuid", "model") }
	on := s("gpu", "node")
	return []tool.Code{
		{Code: "gpu.pod_on_faulty_gpu", Role: incident.Symptom, Severity: incident.Warning, Kinds: s("Pod"), Params: s("gpu", "node", "how"), Text: "A GPU that the pod holds is at fault."},
		{Code: "gpu.job_held_up", Role: incident.Symptom, Severity: incident.Warning, Kinds: s("Pod"), Params: s("gpu", "pod"), Text: "The pod works in step with others, and a GPU of its job is slow or at fault."},
		{Code: "gpu.fell_off_bus", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: on, Optional: dev("xid", "meaning", "action", "from", "at", "process"), Text: "The GPU does not answer on PCIe any more (XID 79, 143, 167, gpu-lost)."},
		{Code: "gpu.xid_fatal", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: append(s("xid", "meaning", "action", "from"), on...), Optional: dev("at", "process"), Text: "An XID of a class that stops the GPU."},
		{Code: "gpu.xid_warning", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("xid", "meaning", "action", "from"), on...), Optional: dev("at", "process"), Text: "An XID that is no application's own error and does not stop the GPU."},
		{Code: "gpu.node_xid", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Node"), Params: s("xid", "meaning", "action", "from"), Text: "A fatal XID of a GPU of the node; which one is not told."},
		{Code: "gpu.memory_uncorrectable", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: on, Optional: dev("xid", "meaning", "action", "from", "at", "process", "errors"), Text: "Uncorrectable memory errors that were not contained (XID 48, 95, 140, ECC counters)."},
		{Code: "gpu.memory_contained", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("xid", "meaning", "action", "from"), on...), Optional: dev("at", "process"), Text: "A contained memory error: only the application that hit it dies (XID 94)."},
		{Code: "gpu.row_remap_pending", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("from"), on...), Optional: dev(), Text: "A memory row waits to be remapped until the GPU is reset."},
		{Code: "gpu.row_remap_failed", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: append(s("from"), on...), Optional: dev("xid", "meaning", "action", "at", "process"), Text: "A memory row could not be remapped."},
		{Code: "gpu.sram_threshold", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: on, Optional: dev(), Text: "The threshold of uncorrectable SRAM errors is passed."},
		{Code: "gpu.nvlink_error", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: on, Optional: dev("xid", "meaning", "action", "from", "at", "process", "errors"), Text: "NVLink errors of the GPU (XID 74, 136, 144 to 150, 155, SXid, counters)."},
		{Code: "gpu.nvlink_down", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: on, Optional: dev("down", "links", "others"), Text: "NVLinks of the GPU are down or silent while those of its peers work."},
		{Code: "gpu.node_nvlink", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Node"), Optional: s("condition", "reason", "message", "xid", "meaning", "action", "from"), Text: "NVLink or an NVSwitch of the node is in trouble, by a condition or a fatal SXid."},
		{Code: "gpu.fabric_not_ready", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: append(s("state"), on...), Optional: dev(), Text: "The GPU is not registered with the NVSwitch fabric: CUDA fails with error 802 (F51)."},
		{Code: "gpu.ib_link", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Node"), Params: s("condition"), Optional: s("reason", "message"), Text: "A condition of the node says that an InfiniBand link flaps or is down."},
		{Code: "gpu.missing", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Node"), Params: s("condition"), Optional: s("reason", "message"), Text: "The node has fewer GPUs than it should."},
		{Code: "gpu.series_vanished", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: append(s("others"), on...), Optional: dev("since"), Text: "The GPU is not measured any more while its neighbours are."},
		{Code: "gpu.throttled_thermal", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: append(s("share", "load", "reason"), on...), Optional: dev(), Text: "Heat holds the GPU's clocks down under load."},
		{Code: "gpu.throttled_power_brake", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: append(s("share", "load", "reason"), on...), Optional: dev(), Text: "An external power brake holds the GPU's clocks down under load."},
		{Code: "gpu.throttled_hardware", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: append(s("share", "load", "reason"), on...), Optional: dev(), Text: "A hardware slowdown or a limit of the board holds the GPU's clocks down under load."},
		{Code: "gpu.power_limit_lowered", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("limit", "default"), on...), Optional: dev(), Text: "The GPU's power limit is set below its default and it works under load."},
		{Code: "gpu.overheating", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("celsius", "limit"), on...), Optional: dev(), Text: "The GPU or its memory is too hot."},
		{Code: "gpu.pcie_degraded", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("width", "expected"), on...), Optional: dev(), Text: "The GPU's PCIe link is narrower than it can be or than that of its peers."},
		{Code: "gpu.pcie_replays", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("replays"), on...), Optional: dev(), Text: "PCIe replays of the GPU rise, those of its peers do not."},
		{Code: "gpu.straggler", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("figure", "value", "median", "peers"), on...), Optional: dev(), Text: "The GPU's clock stands below that of its peers in the same job at the same load."},
		{Code: "gpu.rank_idle", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Pod"), Params: s("gpu", "peers"), Text: "The pod's GPU is idle while all others of its job are at full load: this rank is not in the collective."},
		{Code: "gpu.recovery_needed", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Device"), Params: append(s("action", "from"), on...), Optional: dev(), Text: "The driver, or a monitor that asked it, names a recovery action for the GPU."},
		{Code: "gpu.xid_application", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Pod"), Params: append(s("xid", "meaning", "action", "from", "within"), on...), Optional: dev("at", "process"), Text: "An XID that the workload made itself (13, 31, 69 and others); the GPU is not at fault."},
		{Code: "gpu.xid_follows_gpu", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: append(s("xid", "meaning", "action", "from"), on...), Optional: dev("at", "process"), Text: "An application's XID that one GPU gives to different workloads."},
		{Code: "gpu.node_condition", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Node"), Params: s("condition"), Optional: s("reason", "message"), Text: "A GPU monitor set a condition on the node that names no XID."},
		{Code: "gpu.node_gpu_fault", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Node"), Params: s("gpu", "why"), Text: "A GPU of the node is at fault."},
		{Code: "gpu.software_failed", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Node"), Params: s("component", "pod", "why", "agents"), Text: "Driver, toolkit, plugin or validator of the node does not come up; what waits for it is not named."},
		{Code: "gpu.driver_unusable", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Node"), Params: s("means", "do", "pod"), Text: "The node cannot give a container its GPU: driver, library or runtime handler are missing or do not fit."},
		{Code: "gpu.mps_down", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Node"), Params: s("pod", "why", "agents"), Text: "The MPS control daemon of the node is down."},
		{Code: "gpu.exporter_down", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Node"), Params: s("pod", "why"), Text: "The DCGM exporter of the node is down: its GPUs are not seen."},
		{Code: "gpu.mig_config_failed", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Node"), Params: s("config", "state"), Text: "The MIG manager could not cut the node's GPUs as wanted."},
		{Code: "gpu.mig_pending", Role: incident.Fault, Severity: incident.Warning, Kinds: s("Device"), Params: on, Optional: dev(), Text: "MIG was switched on or off and waits for a reset."},
		{Code: "gpu.mig_not_offered", Role: incident.Fault, Severity: incident.Critical, Kinds: s("Pod"), Params: s("resource", "offered"), Text: "The pod asks for whole GPUs or for a MIG profile while the cluster's GPUs are cut otherwise."},
		{Code: "gpu.xid_follows", Role: incident.Context, Severity: incident.Info, Kinds: s("Device"), Params: append(s("xid", "meaning", "action", "from"), on...), Optional: dev("at", "process"), Text: "An XID that follows another one, on the same GPU or a neighbour."},
		{Code: "gpu.xid_noted", Role: incident.Context, Severity: incident.Info, Kinds: s("Device", "Node"), Params: s("xid", "meaning", "action", "from"), Optional: dev("gpu", "node", "at", "process"), Text: "An XID that says nothing against the GPU by itself."},
		{Code: "gpu.xid_past", Role: incident.History, Severity: incident.Info, Kinds: s("Device", "Pod", "Node"), Params: s("xid", "meaning", "action", "from"), Optional: dev("gpu", "node", "at", "process", "within"), Text: "An XID that is over: the GPU was reset, or works since."},
		{Code: "gpu.ecc_corrected", Role: incident.Context, Severity: incident.Info, Kinds: s("Device"), Params: s("errors"), Text: "Many corrected memory errors; they need no action by themselves."},
		{Code: "gpu.power_capped", Role: incident.Context, Severity: incident.Info, Kinds: s("Device"), Text: "The GPU works at its power limit, which is normal under full load."},
		{Code: "gpu.uneven", Role: incident.Context, Severity: incident.Info, Kinds: s("Device"), Params: s("figure", "value", "median", "peers"), Text: "A GPU draws less power or computes less than its peers; that may be its share of the work."},
	}
}
