package dra

import (
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "Dynamic Resource Allocation: ResourceClaims, ResourceSlices, DeviceClasses, DeviceTaintRules and their drivers, judged by the scheduler's own allocator run as a library.",
		Rights: []tool.Right{
			{Verbs: []string{"get", "list"}, Resources: []string{"resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io"}, For: "who asks for devices and who holds them"},
			{Verbs: []string{"list"}, Resources: []string{"resourceslices.resource.k8s.io"}, For: "which devices there are"},
			{Verbs: []string{"list"}, Resources: []string{"deviceclasses.resource.k8s.io"}, For: "what a class selects"},
			{Verbs: []string{"list"}, Resources: []string{"devicetaintrules.resource.k8s.io"}, For: "taints that an administrator set"},
			{Verbs: []string{"list"}, Resources: []string{"pods", "nodes", "events"}, For: "consumers, where they may run, and what drivers said"},
			{Verbs: []string{"list"}, Resources: []string{"daemonsets.apps"}, For: "the plugins of drivers and the nodes they should be on"},
		},
		Found: "the API group resource.k8s.io, at whatever version the server has",
		Sources: []string{
			"k8s.io/dynamic-resource-allocation 0.37, structured allocator (linked)",
			"kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation",
			"KEPs 4381, 4815, 4816, 5004, 5018, 5055, 5075",
		},
	}
}
