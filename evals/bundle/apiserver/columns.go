package apiserver

import (
	"fmt"
	"slices"
	"strings"
)

// builtinColumns gives the columns of a built-in kind by its resource and
// group, nil for one that has only a name and an age.
func builtinColumns(resource string) []column {
	name := nameColumn()
	switch resource {
	case "pods":
		return []column{name, computed("Ready", readyContainers), computed("Status", podStatus), computed("Restarts", restarts), age(),
			wide(orNone("IP", "status.podIP")), wide(orNone("Node", "spec.nodeName")), wide(orNone("Nominated Node", "status.nominatedNodeName")), wide(computed("Readiness Gates", gates))}
	case "nodes":
		return []column{name, computed("Status", nodeStatus), computed("Roles", nodeRoles), age(), plainField("Version", "status.nodeInfo.kubeletVersion"),
			wide(address1("Internal-IP", "InternalIP")), wide(address1("External-IP", "ExternalIP")), wide(unknown("OS-Image", "status.nodeInfo.osImage")),
			wide(unknown("Kernel-Version", "status.nodeInfo.kernelVersion")), wide(unknown("Container-Runtime", "status.nodeInfo.containerRuntimeVersion"))}
	case "namespaces":
		return []column{name, plainField("Status", "status.phase"), age()}
	case "services":
		return []column{name, plainField("Type", "spec.type"), orNone("Cluster-IP", "spec.clusterIP"), computed("External-IP", externalIP), computed("Port(s)", servicePorts), age(),
			wide(computed("Selector", func(o cells) string { return labelsText(o.object("spec.selector")) }))}
	case "configmaps":
		return []column{name, {name: "Data", kind: "integer", value: func(o cells) any { return int64(len(o.object("data")) + len(o.object("binaryData"))) }}, age()}
	case "secrets":
		return []column{name, plainField("Type", "type"), {name: "Data", kind: "integer", value: func(o cells) any { return int64(len(o.object("data"))) }}, age()}
	case "serviceaccounts":
		return []column{name, {name: "Secrets", kind: "integer", value: func(o cells) any { return int64(len(o.list("secrets"))) }}, age()}
	case "events":
		return []column{computed("Last Seen", eventSeen), plainField("Type", "type"), plainField("Reason", "reason"), computed("Object", func(o cells) string {
			return strings.ToLower(o.text("involvedObject.kind")) + "/" + o.text("involvedObject.name")
		}), wide(plainField("Subobject", "involvedObject.fieldPath")), wide(computed("Source", eventSource)), computed("Message", func(o cells) string { return strings.TrimSpace(o.text("message")) }),
			wide(computed("First Seen", func(o cells) string { return o.ago("firstTimestamp") })), wide(column{name: "Count", kind: "string", value: func(o cells) any { return max(o.number("count"), 1) }}), wide(name)}
	case "persistentvolumeclaims":
		return []column{name, computed("Status", func(o cells) string { return terminating(o, o.text("status.phase")) }), plainField("Volume", "spec.volumeName"), plainField("Capacity", "status.capacity.storage"),
			computed("Access Modes", func(o cells) string { return modes(o, "status.accessModes") }), plainField("StorageClass", "spec.storageClassName"),
			unsetField("VolumeAttributesClass", "spec.volumeAttributesClassName"), age(), wide(unsetField("VolumeMode", "spec.volumeMode"))}
	case "persistentvolumes":
		return []column{name, plainField("Capacity", "spec.capacity.storage"), computed("Access Modes", func(o cells) string { return modes(o, "spec.accessModes") }),
			plainField("Reclaim Policy", "spec.persistentVolumeReclaimPolicy"), computed("Status", func(o cells) string { return terminating(o, o.text("status.phase")) }), computed("Claim", func(o cells) string {
				return strings.Trim(o.text("spec.claimRef.namespace")+"/"+o.text("spec.claimRef.name"), "/")
			}), plainField("StorageClass", "spec.storageClassName"), unsetField("VolumeAttributesClass", "spec.volumeAttributesClassName"), plainField("Reason", "status.reason"), age(), wide(unsetField("VolumeMode", "spec.volumeMode"))}
	case "resourcequotas":
		return []column{name, computed("Request", func(o cells) string { return quota(o, false) }), computed("Limit", func(o cells) string { return quota(o, true) }), age()}
	case "limitranges":
		return []column{name, createdAt()}
	case "endpoints":
		return []column{name, computed("Endpoints", endpoints), age()}
	case "replicationcontrollers":
		return workload(count("Desired", "spec.replicas"), count("Current", "status.replicas"), count("Ready", "status.readyReplicas"))
	case "podtemplates":
		return []column{name, computed("Containers", func(o cells) string { return joined(o.list("template.spec.containers"), "name", 0) }), computed("Images", func(o cells) string { return joined(o.list("template.spec.containers"), "image", 0) }),
			computed("Pod Labels", func(o cells) string { return labelsText(o.object("template.metadata.labels")) })}
	case "deployments.apps":
		return workload(computed("Ready", ready), count("Up-to-date", "status.updatedReplicas"), count("Available", "status.availableReplicas"))
	case "replicasets.apps":
		return workload(count("Desired", "spec.replicas"), count("Current", "status.replicas"), count("Ready", "status.readyReplicas"))
	case "statefulsets.apps":
		return slices.DeleteFunc(workload(computed("Ready", ready)), func(c column) bool { return c.name == "Selector" })
	case "daemonsets.apps":
		return workload(count("Desired", "status.desiredNumberScheduled"), count("Current", "status.currentNumberScheduled"), count("Ready", "status.numberReady"), count("Up-to-date", "status.updatedNumberScheduled"),
			count("Available", "status.numberAvailable"), computed("Node Selector", func(o cells) string { return labelsText(o.object("spec.template.spec.nodeSelector")) }))
	case "controllerrevisions.apps":
		return []column{name, computed("Controller", controller), count("Revision", "revision"), age()}
	case "jobs.batch":
		return workload(computed("Status", jobStatus), computed("Completions", completions), computed("Duration", jobDuration))
	case "cronjobs.batch":
		return append([]column{name, plainField("Schedule", "spec.schedule"), orNone("Timezone", "spec.timeZone"), computed("Suspend", func(o cells) string { return titled(or(o.text("spec.suspend"), "false")) }),
			{name: "Active", kind: "integer", value: func(o cells) any { return int64(len(o.list("status.active"))) }}, computed("Last Schedule", func(o cells) string {
				if o.at("status.lastScheduleTime") == nil {
					return "<none>"
				}
				return o.ago("status.lastScheduleTime")
			}), age()}, templateColumns("spec.jobTemplate.spec.template.spec.containers", "spec.jobTemplate.spec.selector")...)
	}
	return otherColumns(resource)
}

// otherColumns are those of the groups beside core, apps and batch.
func otherColumns(resource string) []column {
	name := nameColumn()
	switch resource {
	case "horizontalpodautoscalers.autoscaling":
		return []column{name, computed("Reference", func(o cells) string {
			return o.text("spec.scaleTargetRef.kind") + "/" + o.text("spec.scaleTargetRef.name")
		}), computed("Targets", targets), unsetField("MinPods", "spec.minReplicas"), count("MaxPods", "spec.maxReplicas"), count("Replicas", "status.currentReplicas"), age()}
	case "poddisruptionbudgets.policy":
		return []column{name, computed("Min Available", func(o cells) string { return or(o.text("spec.minAvailable"), "N/A") }), computed("Max Unavailable", func(o cells) string { return or(o.text("spec.maxUnavailable"), "N/A") }),
			count("Allowed Disruptions", "status.disruptionsAllowed"), age()}
	case "ingresses.networking.k8s.io":
		return []column{name, orNone("Class", "spec.ingressClassName"), computed("Hosts", hosts), computed("Address", balancer), computed("Ports", func(o cells) string {
			if len(o.list("spec.tls")) > 0 {
				return "80, 443"
			}
			return "80"
		}), age()}
	case "ingressclasses.networking.k8s.io":
		return []column{name, plainField("Controller", "spec.controller"), computed("Parameters", func(o cells) string {
			kind := o.text("spec.parameters.kind")
			if g := o.text("spec.parameters.apiGroup"); g != "" {
				kind += "." + g
			}
			return or(strings.Trim(kind+"/"+o.text("spec.parameters.name"), "/"), "<none>")
		}), age()}
	case "networkpolicies.networking.k8s.io":
		return []column{name, computed("Pod-Selector", func(o cells) string { return selectorOf(o, "spec.podSelector") }), age()}
	case "endpointslices.discovery.k8s.io":
		return []column{name, plainField("AddressType", "addressType"), computed("Ports", func(o cells) string { return or(joined(o.list("ports"), "port", 3), "<unset>") }), computed("Endpoints", sliceEndpoints), age()}
	case "storageclasses.storage.k8s.io":
		return []column{computedName(func(o cells) string {
			if o.object("metadata.annotations")["storageclass.kubernetes.io/is-default-class"] == "true" {
				return " (default)"
			}
			return ""
		}), plainField("Provisioner", "provisioner"), plainField("ReclaimPolicy", "reclaimPolicy"), plainField("VolumeBindingMode", "volumeBindingMode"), computed("AllowVolumeExpansion", func(o cells) string { return or(o.text("allowVolumeExpansion"), "false") }), age()}
	case "csidrivers.storage.k8s.io":
		return []column{name, computed("AttachRequired", func(o cells) string { return or(o.text("spec.attachRequired"), "true") }), computed("PodInfoOnMount", func(o cells) string { return or(o.text("spec.podInfoOnMount"), "false") }),
			computed("StorageCapacity", func(o cells) string { return or(o.text("spec.storageCapacity"), "false") }), computed("TokenRequests", func(o cells) string { return or(joined(o.list("spec.tokenRequests"), "audience", 0), "<unset>") }),
			computed("RequiresRepublish", func(o cells) string { return or(o.text("spec.requiresRepublish"), "false") }), computed("Modes", func(o cells) string { return or(strings.Join(texts(o, "spec.volumeLifecycleModes"), ","), "Persistent") }), age()}
	case "csinodes.storage.k8s.io":
		return []column{name, {name: "Drivers", kind: "integer", value: func(o cells) any { return int64(len(o.list("spec.drivers"))) }}, age()}
	case "volumeattachments.storage.k8s.io":
		return []column{name, plainField("Attacher", "spec.attacher"), plainField("PV", "spec.source.persistentVolumeName"), plainField("Node", "spec.nodeName"), computed("Attached", func(o cells) string { return or(o.text("status.attached"), "false") }), age()}
	case "priorityclasses.scheduling.k8s.io":
		return []column{name, count("Value", "value"), computed("Global-Default", func(o cells) string { return or(o.text("globalDefault"), "false") }), age(), plainField("PreemptionPolicy", "preemptionPolicy")}
	case "runtimeclasses.node.k8s.io":
		return []column{name, plainField("Handler", "handler"), age()}
	case "leases.coordination.k8s.io":
		return []column{name, plainField("Holder", "spec.holderIdentity"), age()}
	case "validatingwebhookconfigurations.admissionregistration.k8s.io", "mutatingwebhookconfigurations.admissionregistration.k8s.io":
		return []column{name, {name: "Webhooks", kind: "integer", value: func(o cells) any { return int64(len(o.list("webhooks"))) }}, age()}
	case "apiservices.apiregistration.k8s.io":
		return []column{name, computed("Service", func(o cells) string {
			return or(strings.Trim(o.text("spec.service.namespace")+"/"+o.text("spec.service.name"), "/"), "Local")
		}), computed("Available", available), age()}
	case "customresourcedefinitions.apiextensions.k8s.io", "roles.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io":
		return []column{name, createdAt()}
	case "rolebindings.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io":
		return []column{name, computed("Role", func(o cells) string { return o.text("roleRef.kind") + "/" + o.text("roleRef.name") }), age()}
	case "resourceclaims.resource.k8s.io":
		return []column{name, computed("State", claimState), age()}
	case "resourceslices.resource.k8s.io":
		return []column{name, computed("Node", sliceNode), plainField("Driver", "spec.driver"), plainField("Pool", "spec.pool.name"), age()}
	}
	return nil
}

// workload puts a name before and an age and the template's columns after the
// columns of a kind that runs pods.
func workload(cols ...column) []column {
	out := append([]column{nameColumn()}, cols...)
	out = append(out, age())
	return append(out, templateColumns("spec.template.spec.containers", "spec.selector")...)
}

func templateColumns(containers, selector string) []column {
	return []column{
		wide(computed("Containers", func(o cells) string { return joined(o.list(containers), "name", 0) })),
		wide(computed("Images", func(o cells) string { return joined(o.list(containers), "image", 0) })),
		wide(computed("Selector", func(o cells) string {
			if _, old := o.object(selector)["matchLabels"]; !old && o.text("kind") == "ReplicationController" {
				return labelsText(o.object(selector))
			}
			return selectorOf(o, selector)
		})),
	}
}

func computedName(suffix func(cells) string) column {
	return column{name: "Name", kind: "string", format: "name", value: func(o cells) any { return o.text("metadata.name") + suffix(o) }}
}

func unknown(name, path string) column {
	return computed(name, func(o cells) string { return or(o.text(path), "<unknown>") })
}

func titled(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func texts(o cells, path string) []string {
	items, _ := o.at(path).([]any)
	out := make([]string, 0, len(items))
	for _, i := range items {
		out = append(out, fmt.Sprint(i))
	}
	return out
}
