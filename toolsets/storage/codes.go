package storage

import (
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Codes lists every finding code this toolset may emit. ESn are the rows of the
// failure table for AI workloads on shared and attached storage.
func Codes() []tool.Code {
	strs := func(s ...string) []string { return s }
	fault := func(code string, sev incident.Severity, kinds, params, optional []string, text string) tool.Code {
		return tool.Code{Code: "storage." + code, Role: incident.Fault, Severity: sev, Kinds: kinds, Params: params, Optional: optional, Text: text}
	}
	words := strs("message", "way_out")
	return []tool.Code{
		{Code: "storage.start_slow", Role: incident.Symptom, Severity: incident.Warning, Kinds: strs("Pod"), Params: strs("what", "took", "peers"), Text: "The pod starts much slower than its peers did."},
		{Code: "storage.attaching", Role: incident.Context, Severity: incident.Info, Kinds: strs("VolumeAttachment"), Params: strs("pv", "node", "since"), Text: "The volume is being attached, within the usual time."},
		{Code: "storage.detaching", Role: incident.Context, Severity: incident.Info, Kinds: strs("VolumeAttachment"), Params: strs("pv", "node", "since"), Text: "The volume is being detached from the node it was on, within the usual time."},
		{Code: "storage.weights_shared", Role: incident.Context, Severity: incident.Info, Kinds: strs("PersistentVolumeClaim"), Params: strs("pods", "nodes", "access_modes"), Text: "Many pods on several nodes read one claim."},
		{Code: "storage.mount_options", Role: incident.Context, Severity: incident.Warning, Kinds: strs("PersistentVolume"), Params: strs("driver", "lacks"), Text: "The share is mounted without an option that large sequential reads want."},
		{Code: "storage.pulling", Role: incident.Context, Severity: incident.Info, Kinds: strs("Pod"), Params: strs("image", "since"), Text: "An image is being pulled, in the time that its peers took."},

		fault("attachment_on_dead_node", incident.Critical, strs("VolumeAttachment"), strs("pv", "node", "since"), nil, "The volume is still attached to a node that is dead, so no other node gets it (ES4)."),
		fault("attachment_orphaned", incident.Critical, strs("VolumeAttachment"), strs("pv", "node"), nil, "The volume is attached, by the API, to a node that does not exist (ES4)."),
		fault("attachment_leaked", incident.Critical, strs("VolumeAttachment"), strs("pv", "node", "since"), nil, "The volume stays attached to a node on which nothing uses it."),
		fault("detach_failed", incident.Critical, strs("VolumeAttachment"), strs("pv", "node", "message"), strs("way_out"), "The driver cannot detach the volume from the node it was on."),
		fault("attacher_silent", incident.Critical, strs("VolumeAttachment"), strs("pv", "node", "driver", "since"), nil, "Nobody answers the request to attach the volume."),
		fault("attach_storm", incident.Critical, strs("CSIDriver"), strs("driver", "waiting", "since"), nil, "So many volumes wait to be attached that the driver does not keep up (ES11)."),
		fault("held_by_pod", incident.Critical, strs("Pod"), strs("pv", "claim", "node", "state"), nil, "A pod on another node holds the volume, which one node at a time may use (ES2)."),
		fault("rwo_many_replicas", incident.Critical, strs("Deployment", "ReplicaSet", "StatefulSet", "Job"), strs("claim", "replicas", "access_modes"), nil, "Replicas on several nodes share one claim that one node at a time may use (ES8)."),
		fault("rwo_rolling_update", incident.Critical, strs("Deployment"), strs("claim", "holder", "access_modes"), nil, "The new pod of a rolling update waits for a volume that the old pod keeps until the new one is ready (ES2)."),
		fault("attach_limit_reached", incident.Critical, strs("CSINode", "CSIDriver"), strs("driver", "attached", "limit"), strs("message", "way_out", "node"), "Nodes have as many volumes of the driver as they may (ES1)."),
		fault("driver_not_registered", incident.Critical, strs("CSINode"), strs("driver", "node"), strs("message", "way_out"), "The CSI driver is not registered on the node, so it mounts none of its volumes."),
		fault("plugin_not_on_node", incident.Critical, strs("DaemonSet"), strs("driver", "node", "reason"), nil, "The driver's DaemonSet does not run on the node."),
		fault("controller_down", incident.Critical, strs("Deployment", "StatefulSet"), strs("driver", "role", "ready", "wanted"), nil, "The workload that attaches or provisions for the driver is scaled to zero."),
		{Code: "storage.controller_failing", Role: incident.Fault, Severity: incident.Warning, Kinds: strs("Deployment", "StatefulSet"), Params: strs("driver", "role", "ready", "wanted"), Text: "No replica of the workload that attaches or provisions for the driver is ready; what fails them is the deeper cause."},
		fault("driver_unknown", incident.Critical, strs("CSIDriver"), strs("driver"), nil, "The CSI driver of the volume is installed nowhere in the cluster."),
		fault("volume_node_gone", incident.Critical, strs("PersistentVolume"), strs("pv", "claim", "node"), nil, "The volume lies on a machine, and its node does not exist any more."),
		fault("resize_failed", incident.Critical, strs("PersistentVolumeClaim"), strs("size", "wanted", "message"), nil, "The volume was to be enlarged and the driver or kubelet could not."),
		fault("zone_mismatch", incident.Critical, strs("PersistentVolume"), words, strs("node_zone", "volume_zone", "node", "driver"), "The volume lies in another zone than the node (ES3)."),
		fault("cloud_throttled", incident.Critical, strs("CSIDriver"), words, strs("driver", "node"), "The cloud's API throttles the driver (ES11)."),
		fault("cloud_permission_denied", incident.Critical, strs("CSIDriver"), words, strs("driver", "action", "gcp", "node"), "The driver's identity lacks a right in the cloud (ES5)."),
		fault("cloud_quota_exceeded", incident.Critical, strs("StorageClass"), words, strs("driver", "node"), "A quota of the cloud keeps volumes from being made (ES5)."),
		fault("provider_not_registered", incident.Critical, strs("StorageClass", "CSIDriver"), words, strs("provider", "driver", "node"), "The subscription is not registered for the storage service (ES5)."),
		fault("class_parameters_refused", incident.Critical, strs("StorageClass"), words, strs("why", "key", "driver", "node"), "The driver refuses the parameters of the class."),
		fault("backend_full", incident.Critical, strs("StorageClass"), words, strs("driver", "node"), "The storage behind the class has no room."),
		fault("access_mode_unsupported", incident.Critical, strs("PersistentVolumeClaim"), words, strs("access_modes", "class", "driver", "node"), "The class's driver cannot give the access mode that the claim asks for (ES8)."),
		fault("topology_unknown", incident.Critical, strs("CSINode"), words, strs("node", "driver"), "The node that was chosen does not know the driver's topology."),
		fault("volume_gone", incident.Critical, strs("PersistentVolume"), words, strs("driver", "node"), "The volume behind the PersistentVolume does not exist."),
		fault("target_unreachable", incident.Critical, strs("PersistentVolume"), words, strs("node", "driver", "others"), "The node does not reach the storage over the network (ES7)."),
		fault("mount_denied", incident.Critical, strs("PersistentVolume"), words, strs("node", "driver"), "The file server refuses the mount."),
		fault("filesystem_damaged", incident.Critical, strs("PersistentVolume"), words, strs("node", "driver"), "The file system on the volume cannot be mounted."),
		fault("fsgroup_walk", incident.Critical, strs("Pod"), words, strs("files", "fs_group", "driver", "node"), "The kubelet changes the owner of every file before the pod may start (ES9)."),
		fault("san_ceiling", incident.Critical, strs("StorageClass"), strs("pods", "reads", "ceiling", "base"), nil, "The volumes of an Elastic SAN together read as much as it gives (ES6)."),
		fault("image_pull_slow", incident.Warning, strs("Node"), strs("image", "took", "peers"), strs("rate"), "The node pulls an image much slower than other nodes did."),
		fault("weights_load_slow", incident.Warning, strs("Node"), strs("container", "took", "peers"), nil, "The container that fetches the weights takes much longer on this node than on others."),
	}
}
