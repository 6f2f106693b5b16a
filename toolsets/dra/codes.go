package dra

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Codes lists every finding code this toolset may emit: Dynamic Resource
// Allocation; Fnn are the modes of the DRA failure catalogue. A fault of a claim
// that the scheduler would generate for extended resources is reported on the Pod.
func Codes() []tool.Code {
	// template and standalone say where the spec of a claim comes from, see withOrigin;
	// fix_... are the change of it that was tried and fits, see fix.
	strs := func(s ...string) []string { return s }
	origin := append(strs("template", "standalone"), fixParams()...)
	return []tool.Code{
		{Code: "dra.claim_unallocated", Role: incident.Symptom, Severity: incident.Warning, Kinds: strs("ResourceClaim"), Text: "The claim has no devices yet."},
		{Code: "dra.claim_allocated", Role: incident.Context, Severity: incident.Info, Kinds: strs("ResourceClaim"), Params: strs("devices", "node"), Text: "The claim has its devices."},
		{Code: "dra.driver_no_slices", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Driver"), Params: strs("driver", "class"), Text: "The driver the class selects publishes no device anywhere (F01)."},
		{Code: "dra.node_no_slices", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Node"), Params: strs("driver"), Text: "The node should offer devices of a driver and publishes no slice, while others do (F02)."},
		{Code: "dra.plugin_down", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Node"), Params: strs("driver", "pod", "reason"), Text: "The driver's kubelet plugin on the node is not ready; its slices may be stale (F03)."},
		{Code: "dra.driver_not_registered", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Node"), Params: strs("driver"), Text: "The kubelet knows no such DRA driver (F04)."},
		{Code: "dra.pool_incomplete", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourcePool"), Params: strs("driver", "pool", "have", "want"), Text: "The pool's newest generation lacks slices (F05, F18)."},
		{Code: "dra.pool_invalid", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourcePool"), Params: strs("driver", "pool", "message"), Text: "The pool's slices contradict each other (F06)."},
		{Code: "dra.slice_orphaned", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("ResourceSlice"), Params: strs("node"), Text: "The slice names a node that does not exist (F07)."},
		{Code: "dra.field_dropped", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("ResourceSlice", "DeviceClass", "ResourceClaimTemplate"), Params: strs("field"), Text: "A field was set and the API server did not keep it: its feature gate is off (F08)."},
		{Code: "dra.publish_failed", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Pod"), Params: strs("driver", "message"), Text: "The driver fails to publish its slices (F09)."},
		{Code: "dra.double_selling", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Node"), Params: strs("resource", "driver", "allocatable"), Text: "The same GPUs are offered by a device plugin and by a DRA driver (F10)."},
		{Code: "dra.scale_from_zero", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("group"), Text: "No node offers the device and the autoscaler cannot add one (F11)."},
		{Code: "dra.class_missing", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("DeviceClass"), Params: strs("class", "request"), Optional: append(strs("namespace", "claim"), origin...), Text: "The DeviceClass does not exist (F12)."},
		{Code: "dra.cel_runtime_error", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "DeviceClass", "Pod"), Params: strs("expression", "message", "device"), Optional: origin, Text: "A selector fails on a device, which aborts scheduling on every node (F13)."},
		{Code: "dra.cel_compile_error", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "DeviceClass", "Pod"), Params: strs("expression", "message"), Optional: origin, Text: "A selector does not compile."},
		{Code: "dra.selector_excludes_all", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "DeviceClass", "Pod"), Params: strs("selector", "attribute", "wanted", "offered", "request"), Optional: origin, Text: "No device satisfies a selector (F14)."},
		{Code: "dra.constraint_attribute_missing", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("attribute", "request", "driver"), Optional: origin, Text: "Devices of a request lack the attribute that a constraint compares (F15)."},
		{Code: "dra.constraint_unsatisfiable", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("attribute", "reason"), Optional: origin, Text: "The values a constraint compares never meet (F15)."},
		{Code: "dra.constraint_fragmented", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("attribute"), Optional: origin, Text: "The constraint could be met, but not with the devices that are free (F16)."},
		{Code: "dra.too_many_devices", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("devices", "limit"), Optional: origin, Text: "The claim asks for more than 32 devices (F17)."},
		{Code: "dra.all_mode_incomplete", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("pool", "driver"), Optional: origin, Text: "allocationMode All with a pool that is being updated aborts scheduling (F18)."},
		{Code: "dra.all_mode_busy", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("blocking"), Optional: origin, Text: "allocationMode All and one matching device is in use or tainted (F19)."},
		{Code: "dra.counters_exhausted", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("counter_set", "counter", "needed", "left"), Optional: origin, Text: "The partition's shared counters are used up (F20)."},
		{Code: "dra.capacity_request_invalid", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("capacity", "requested", "policy"), Optional: origin, Text: "The capacity request breaks the device's request policy (F22)."},
		{Code: "dra.capacity_exhausted", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("capacity", "requested", "left"), Optional: origin, Text: "No device has the requested capacity left (F22)."},
		{Code: "dra.devices_in_use", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("matching", "in_use", "holders"), Optional: origin, Text: "Every device that matches is allocated to other claims."},
		{Code: "dra.count_exceeds_node", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("count", "largest", "request"), Optional: origin, Text: "No single node has as many matching devices."},
		{Code: "dra.requests_scattered", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("requests"), Optional: origin, Text: "Each request finds devices, but no node has them for all requests together."},
		{Code: "dra.claim_rejected", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "Pod"), Params: strs("message"), Optional: origin, Text: "The allocator refuses the claim with an error on every node."},
		{Code: "dra.devices_tainted", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "DeviceTaintRule", "Pod"), Params: strs("taint", "devices", "rule"), Optional: origin, Text: "The devices that fit carry a taint that is not tolerated (F23)."},
		{Code: "dra.taint_rule_matches_all", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("DeviceTaintRule"), Params: strs("effect"), Text: "The rule's selector is empty and taints every device of the cluster (F24)."},
		{Code: "dra.taint_eviction", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("DeviceTaintRule", "Device"), Params: strs("rule", "device"), Text: "A NoExecute device taint evicted the pod."},
		{Code: "dra.taint_eviction_missed", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("device"), Text: "A NoExecute taint does not evict a pod that holds its device by extended resource (F25)."},
		{Code: "dra.toleration_not_copied", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("toleration"), Text: "The claim tolerates the taint, its allocation does not say so (F26)."},
		{Code: "dra.admin_access_denied", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Namespace"), Params: strs("claim"), Text: "adminAccess needs a label on the namespace (F27)."},
		{Code: "dra.extended_resource_unmapped", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Pod"), Params: strs("resource", "offered"), Text: "No DeviceClass maps the extended resource and no node offers it (F28)."},
		{Code: "dra.extended_resource_ambiguous", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("DeviceClass"), Params: strs("resource", "classes", "wins"), Text: "Several DeviceClasses map one extended resource; the newest wins (F29)."},
		{Code: "dra.claim_missing", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("pod"), Text: "The pod names a ResourceClaim that does not exist (F30)."},
		{Code: "dra.claim_not_owned", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("pod", "owner"), Optional: origin, Text: "A claim of the generated name belongs to another pod (F30)."},
		{Code: "dra.claim_deleting", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("finalizers"), Optional: origin, Text: "The claim is being deleted (F30)."},
		{Code: "dra.template_missing", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaimTemplate"), Params: strs("pod"), Text: "The pod names a ResourceClaimTemplate that does not exist (F31)."},
		{Code: "dra.claim_create_failed", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Pod"), Params: strs("message"), Text: "The controller cannot create the pod's claim (F31)."},
		{Code: "dra.claim_reserved_full", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("consumers"), Optional: origin, Text: "The claim is reserved for 256 consumers (F32)."},
		{Code: "dra.claim_leaked", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("ResourceClaim"), Params: strs("devices"), Text: "The claim holds devices and no pod uses it (F33)."},
		{Code: "dra.reserved_for_foreign", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("ResourceClaim"), Params: strs("consumer"), Text: "The claim is reserved for something that is not a pod (F34)."},
		{Code: "dra.device_double_allocated", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Device"), Params: strs("claims"), Optional: strs("node"), Text: "Two claims hold one device (F35)."},
		{Code: "dra.claim_oscillates", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("ResourceClaim"), Params: strs("pod"), Text: "A finished pod is reserved for the claim again and again (F36)."},
		{Code: "dra.claim_pinned_elsewhere", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("node_selector"), Optional: origin, Text: "The allocated claim can be used only on nodes the pod cannot use (F37)."},
		{Code: "dra.gang_claim_contention", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("group"), Optional: origin, Text: "Pods of a gang block each other on a shared claim (F38)."},
		{Code: "dra.claim_uid_stale", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("message"), Optional: origin, Text: "The kubelet still holds an older claim of the same name (F39)."},
		{Code: "dra.not_reserved_for_pod", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("pod"), Optional: origin, Text: "The pod runs on a claim that is not reserved for it (F40)."},
		{Code: "dra.binding_conditions_waiting", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim"), Params: strs("conditions", "device"), Optional: origin, Text: "The device's binding conditions are not met (F41)."},
		{Code: "dra.kueue_class_unmapped", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Workload"), Params: strs("class"), Text: "Kueue knows no mapping for the DeviceClass (F42)."},
		{Code: "dra.prepare_failed", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Pod"), Params: strs("message", "driver"), Text: "The kubelet could not prepare the pod's devices."},
		{Code: "dra.device_unhealthy", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Device"), Params: strs("health", "message"), Text: "The driver reports the device unhealthy."},
		{Code: "dra.fits_only_refused_nodes", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("Pod"), Params: strs("nodes", "reasons"), Text: "The claim would fit, but only on nodes that refuse the pod for other reasons."},
		{Code: "dra.alignment_impossible", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Node"), Params: strs("attribute", "reason"), Text: "GPU and NIC cannot be aligned by this attribute on this platform."},
		{Code: "dra.lint_error", Role: incident.Fault, Severity: incident.Critical, Kinds: strs("ResourceClaim", "ResourceClaimTemplate", "DeviceClass", "DeviceTaintRule"), Params: strs("field", "message"), Text: "The manifest would be refused or never satisfied."},
		{Code: "dra.lint_warning", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("ResourceClaim", "ResourceClaimTemplate", "DeviceClass", "DeviceTaintRule"), Params: strs("field", "message"), Text: "The manifest is accepted and likely to disappoint."},
	}
}
