package dra

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// bigWorld makes a cluster of equal nodes with GPUs and NICs, some in use.
func bigWorld(nodes, gpus, nics int, busy func(node int) int) *world {
	w := &world{fleet: newFleet(), byName: map[string]*corev1.Node{}, classes: allocator.Classes{}, api: served{version: "v1", rules: "v1", minor: 37}}
	for _, name := range []string{"gpu", "nic"} {
		w.classes[name] = &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourceapi.DeviceClassSpec{
			Selectors: []resourceapi.DeviceSelector{{CEL: celSelector(`device.driver == "` + name + `.acme.io"`)}}}}
	}
	for i := range nodes {
		name := fmt.Sprintf("node-%04d", i)
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
		w.nodes = append(w.nodes, n)
		w.byName[name] = n
		w.fleet.add(sliceOf(name, "gpu.acme.io", gpus, 8))
		if nics > 0 {
			w.fleet.add(sliceOf(name, "nic.acme.io", nics, 4))
		}
		if busy == nil || busy(i) == 0 {
			continue
		}
		c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "held-" + name, UID: types.UID("held-" + name)}, Status: resourceapi.ResourceClaimStatus{
			Allocation:  &resourceapi.AllocationResult{},
			ReservedFor: []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: "p"}},
		}}
		for g := range busy(i) {
			c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, resourceapi.DeviceRequestAllocationResult{Request: "gpu", Driver: "gpu.acme.io", Pool: name, Device: fmt.Sprintf("dev-%d", g)})
		}
		w.claims = append(w.claims, c)
	}
	w.fleet.seal()
	w.finish()
	return w
}

func sliceOf(node, driver string, devices, roots int) *resourceapi.ResourceSlice {
	s := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node + "-" + driver}, Spec: resourceapi.ResourceSliceSpec{
		Driver: driver, NodeName: &node, Pool: resourceapi.ResourcePool{Name: node, Generation: 1, ResourceSliceCount: 1}}}
	str := func(v string) resourceapi.DeviceAttribute { return resourceapi.DeviceAttribute{StringValue: &v} }
	ver := func(v string) resourceapi.DeviceAttribute { return resourceapi.DeviceAttribute{VersionValue: &v} }
	for d := range devices {
		index := int64(d)
		s.Spec.Devices = append(s.Spec.Devices, resourceapi.Device{
			Name: fmt.Sprintf("dev-%d", d),
			Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{
				"productName": str("ACME Tensor 80GB"), "type": str("gpu"), "brand": str("Acme"), "architecture": str("Delta"),
				"uuid": str(fmt.Sprintf("GPU-%s-%d-aaaa-bbbb-cccc-dddddddddddd", node, d)), "index": {IntValue: &index},
				"driverVersion": ver("570.86.15"), "cudaComputeCapability": ver("9.0.0"), "cudaDriverVersion": ver("12.8.0"),
				"resource.kubernetes.io/pcieRoot": str(fmt.Sprintf("pci%04d:00", d%roots)), "resource.kubernetes.io/pciBusID": str(fmt.Sprintf("%04d:17:00.0", d)),
			},
			Capacity: map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{
				"memory": {Value: resource.MustParse("81559Mi")}, "multiprocessors": {Value: resource.MustParse("132")}, "copyEngines": {Value: resource.MustParse("3")},
			},
		})
	}
	return s
}

func claimOf(selector string, count int64, constraint string) *resourceapi.ResourceClaim {
	c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "job", UID: "job"}}
	r := resourceapi.DeviceRequest{Name: "gpu", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: count}}
	if selector != "" {
		r.Exactly.Selectors = []resourceapi.DeviceSelector{{CEL: celSelector(selector)}}
	}
	c.Spec.Devices.Requests = []resourceapi.DeviceRequest{r}
	if constraint != "" {
		n := resourceapi.FullyQualifiedName(constraint)
		c.Spec.Devices.Requests = append(c.Spec.Devices.Requests, resourceapi.DeviceRequest{Name: "nic", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: "nic", AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: count}})
		c.Spec.Devices.Constraints = []resourceapi.DeviceConstraint{{MatchAttribute: &n}}
	}
	return c
}

func explainWorld(tb testing.TB, w *world, c *resourceapi.ResourceClaim) *Explanation {
	tb.Helper()
	t := newToolset(tb, caseDoc{}, []apiruntime.Object{&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "p", UID: "p"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}})
	out := &Explanation{}
	out.Claims = []ClaimView{view(c)}
	if err := t.newAnalysis(newAttempt(w, nil, []*resourceapi.ResourceClaim{c}), out).run(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return out
}

// BenchmarkExplain1000x16 is the promise of the design: one claim that cannot be
// allocated, explained on 1,000 nodes of 16 devices in less than a second.
func BenchmarkExplain1000x16(b *testing.B) {
	for _, bc := range []struct {
		name  string
		busy  func(int) int
		claim *resourceapi.ResourceClaim
	}{
		{"selector", nil, claimOf(`device.attributes["gpu.acme.io"].productName.contains("H200")`, 1, "")},
		{"in-use", func(int) int { return 8 }, claimOf("", 1, "")},
		{"mixed-use", func(n int) int { return n % 9 }, claimOf("", 12, "")},
		{"constraint", func(n int) int { return n % 4 }, claimOf("", 4, "resource.kubernetes.io/pcieRoot")},
	} {
		b.Run(bc.name, func(b *testing.B) {
			w := bigWorld(1000, 8, 8, bc.busy)
			b.ReportAllocs()
			for b.Loop() {
				if out := explainWorld(b, w, bc.claim); out.Verdict != "does_not_fit" {
					b.Fatalf("verdict %s", out.Verdict)
				}
			}
		})
	}
}

// BenchmarkFleetMemory reports what 5,000 slices of 16 devices cost in memory.
func BenchmarkFleetMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		w := bigWorld(5000, 16, 0, nil)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		runtime.KeepAlive(w)
	}
}
