package allocator

import (
	"fmt"
	"sort"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/structured"
)

// Features is the set of DRA features the allocator honours.
type Features = structured.Features

// Assumption is a feature set together with the reasons for believing in it. A
// wrong gate gives a wrong verdict, so it is always shown.
type Assumption struct {
	Features Features
	// ExtendedResources: the scheduler maps extended resources to DeviceClasses (KEP-5004).
	ExtendedResources bool
	// Minor of Kubernetes 1.x; 0 when the server did not say.
	Minor int
	// Evidence lists why, one short clause each.
	Evidence []string
}

// ForServer gives what a scheduler of Kubernetes 1.minor runs with the default
// gates. Source: the version lists of k8s.io/kubernetes v1.37.2
// pkg/features/kube_features.go and AllocatorFeatures in
// pkg/scheduler/framework/plugins/dynamicresources. An unknown version (0) is
// taken for the newest known one.
func ForServer(minor int) Assumption {
	a := Assumption{Minor: minor}
	if minor == 0 {
		a.Evidence = append(a.Evidence, "server version unknown, default gates of 1.37 assumed")
		minor = 37
	} else {
		a.Evidence = append(a.Evidence, fmt.Sprintf("default gates of Kubernetes 1.%d", minor))
	}
	if minor >= 34 {
		a.Features.AdminAccess = true
		a.Features.PrioritizedList = true
	}
	if minor >= 36 {
		a.Features.PartitionableDevices = true
		a.Features.DeviceTaints = true
		a.Features.ConsumableCapacity = true
		a.Features.DeviceBindingAndStatus = true
		a.ExtendedResources = true
	}
	if minor >= 37 {
		a.Features.FractionalCapacityRange = true
	}
	return a
}

// Observe adds what the stored objects prove: an API server drops a field whose
// gate is off, so a field that is there says that the gate is on.
func (a Assumption) Observe(slices []*resourceapi.ResourceSlice, claims []*resourceapi.ResourceClaim, classes []*resourceapi.DeviceClass, taintRulesServed bool) Assumption {
	turn := func(on *bool, why string) {
		if !*on {
			*on = true
			a.Evidence = append(a.Evidence, why)
		}
	}
	if taintRulesServed {
		turn(&a.Features.DeviceTaints, "DeviceTaintRule is served")
	}
	for _, s := range slices {
		if len(s.Spec.SharedCounters) > 0 || s.Spec.PerDeviceNodeSelection != nil {
			turn(&a.Features.PartitionableDevices, "slices keep shared counters")
		}
		for i := range s.Spec.Devices {
			a.observeDevice(&s.Spec.Devices[i], turn)
		}
	}
	for _, c := range claims {
		for _, r := range c.Spec.Devices.Requests {
			if len(r.FirstAvailable) > 0 {
				turn(&a.Features.PrioritizedList, "claims keep firstAvailable")
			}
			if r.Exactly != nil && r.Exactly.AdminAccess != nil && *r.Exactly.AdminAccess {
				turn(&a.Features.AdminAccess, "claims keep adminAccess")
			}
		}
	}
	for _, c := range classes {
		if c.Spec.ExtendedResourceName != nil {
			turn(&a.ExtendedResources, "classes keep extendedResourceName")
		}
	}
	return a
}

func (a *Assumption) observeDevice(d *resourceapi.Device, turn func(*bool, string)) {
	if len(d.ConsumesCounters) > 0 {
		turn(&a.Features.PartitionableDevices, "devices keep consumesCounters")
	}
	for _, c := range d.ConsumesCounters {
		if len(c.CompatibilityGroups) > 0 {
			turn(&a.Features.CompatibilityGroups, "devices keep compatibilityGroups")
		}
	}
	if len(d.Taints) > 0 {
		turn(&a.Features.DeviceTaints, "devices keep taints")
	}
	if d.AllowMultipleAllocations != nil {
		turn(&a.Features.ConsumableCapacity, "devices keep allowMultipleAllocations")
	}
	if len(d.BindingConditions) > 0 {
		turn(&a.Features.DeviceBindingAndStatus, "devices keep bindingConditions")
	}
	for _, v := range d.Attributes {
		if v.IntValues != nil || v.BoolValues != nil || v.StringValues != nil || v.VersionValues != nil {
			turn(&a.Features.ListTypeAttributes, "devices keep list attributes")
		}
	}
}

// String names the features that are on, in the words of the feature gates.
func (a Assumption) String() string {
	names := a.Features.Set().UnsortedList()
	if a.ExtendedResources {
		names = append(names, "DRAExtendedResource")
	}
	sort.Strings(names)
	return strings.Join(names, " ") + " (" + strings.Join(a.Evidence, "; ") + ")"
}
