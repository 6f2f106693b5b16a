package allocator

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	resourcehelper "k8s.io/component-helpers/resource"
)

// IsExtended reports whether a resource name is one that a DeviceClass may map
// (k8s.io/kubernetes v1.37.2 pkg/scheduler/util IsDRAExtendedResourceName).
func IsExtended(name corev1.ResourceName) bool {
	n := string(name)
	if strings.HasPrefix(n, resourceapi.ResourceDeviceClassPrefix) {
		return true
	}
	if !strings.Contains(n, "/") || strings.Contains(n, corev1.ResourceDefaultNamespacePrefix) || strings.HasPrefix(n, corev1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+n)) == 0
}

// ClassFor gives the class that answers for an extended resource, nil if there
// is none. Of several with one name the newest wins, then the lowest name
// (k8s.io/dynamic-resource-allocation/deviceclass/extendedresourcecache).
func ClassFor(classes Classes, name corev1.ResourceName) *resourceapi.DeviceClass {
	if c, ok := strings.CutPrefix(string(name), resourceapi.ResourceDeviceClassPrefix); ok {
		return classes[c]
	}
	if all := ClassesFor(classes, name); len(all) > 0 {
		return all[0]
	}
	return nil
}

// ClassesFor lists every class that declares the extended resource, the one that wins first.
func ClassesFor(classes Classes, name corev1.ResourceName) []*resourceapi.DeviceClass {
	var out []*resourceapi.DeviceClass
	for _, c := range classes {
		if c.Spec.ExtendedResourceName != nil && *c.Spec.ExtendedResourceName == string(name) {
			out = append(out, c)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i].CreationTimestamp, out[j].CreationTimestamp
		if !a.Equal(&b) {
			return a.After(b.Time)
		}
		return out[i].Name < out[j].Name
	})
	return out
}

// ExtendedRequests lists the extended resources the pod asks for, with amounts.
func ExtendedRequests(pod *corev1.Pod) map[corev1.ResourceName]int64 {
	out := map[corev1.ResourceName]int64{}
	for name, q := range resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}) {
		if n := q.Value(); n > 0 && IsExtended(name) {
			out[name] = n
		}
	}
	return out
}

// ExtendedClaim makes the claim that the scheduler would generate for the pod on
// a node: one request per container and resource that a class maps and the node
// does not offer through a device plugin. A resource neither mapped nor offered
// is returned as unfit. The claim is nil when nothing is left for DRA. The rules
// are those of k8s.io/kubernetes v1.37.2 dynamicresources/extendeddynamicresources.go.
func ExtendedClaim(pod *corev1.Pod, node *corev1.Node, classes Classes) (claim *resourceapi.ResourceClaim, unfit corev1.ResourceName) {
	var viaDRA []corev1.ResourceName
	requests := ExtendedRequests(pod)
	names := make([]corev1.ResourceName, 0, len(requests))
	for n := range requests {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, name := range names {
		q, offered := node.Status.Allocatable[name]
		mapped := ClassFor(classes, name) != nil
		switch {
		case mapped && (!offered || q.Value() == 0):
			viaDRA = append(viaDRA, name)
		case !offered:
			return nil, name
		}
	}
	if len(viaDRA) == 0 {
		return nil, ""
	}
	claim = &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: pod.Namespace, Name: pod.Name + "-extended-resources",
		Annotations: map[string]string{resourceapi.ExtendedResourceClaimAnnotation: "true"},
	}}
	for _, name := range viaDRA {
		claim.Spec.Devices.Requests = append(claim.Spec.Devices.Requests, requestsFor(pod, name, ClassFor(classes, name).Name)...)
	}
	sort.Slice(claim.Spec.Devices.Requests, func(i, j int) bool {
		return claim.Spec.Devices.Requests[i].Name < claim.Spec.Devices.Requests[j].Name
	})
	return claim, ""
}

// requestsFor makes the device requests of one resource. Containers that run
// side by side (regular ones and sidecars) add up; init containers run one after
// another, may use what later containers get, and need only the largest rest.
func requestsFor(pod *corev1.Pod, name corev1.ResourceName, class string) []resourceapi.DeviceRequest {
	all := append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...)
	inits := len(pod.Spec.InitContainers)
	short := func(i int) bool {
		return i < inits && (all[i].RestartPolicy == nil || *all[i].RestartPolicy != corev1.ContainerRestartPolicyAlways)
	}
	long := make([]int64, len(all))
	var out []resourceapi.DeviceRequest
	for i := range all {
		if n := amount(&all[i], name); n > 0 && !short(i) {
			long[i] = n
			out = append(out, request(&all[i], i, name, class, n))
		}
	}
	most, at := int64(0), -1
	for i := range all {
		n := amount(&all[i], name)
		if n == 0 || !short(i) {
			continue
		}
		for _, later := range long[i:] {
			n -= later
		}
		if n > most {
			most, at = n, i
		}
	}
	if at >= 0 {
		out = append(out, request(&all[at], at, name, class, most))
	}
	return out
}

func amount(c *corev1.Container, name corev1.ResourceName) int64 {
	q, ok := c.Resources.Requests[name]
	if !ok {
		return 0
	}
	n, ok := q.AsInt64()
	if !ok || n < 0 {
		return 0
	}
	return n
}

func request(c *corev1.Container, i int, name corev1.ResourceName, class string, n int64) resourceapi.DeviceRequest {
	keys := make([]string, 0, len(c.Resources.Requests))
	for k := range c.Resources.Requests {
		keys = append(keys, string(k))
	}
	slices.Sort(keys)
	return resourceapi.DeviceRequest{
		Name: fmt.Sprintf("container-%d-request-%d", i, slices.Index(keys, string(name))),
		Exactly: &resourceapi.ExactDeviceRequest{
			DeviceClassName: class, AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: n,
		},
	}
}
