package allocator

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestForServer(t *testing.T) {
	t.Parallel()
	on := func(a Assumption) map[string]bool {
		m := map[string]bool{"ext": a.ExtendedResources}
		for n := range a.Features.Set() {
			m[n] = true
		}
		return m
	}
	for minor, want := range map[int]map[string]bool{
		33: {"ext": false},
		34: {"ext": false, "DRAAdminAccess": true, "DRAPrioritizedList": true},
		36: {"ext": true, "DRAAdminAccess": true, "DRAPrioritizedList": true, "DRAPartitionableDevices": true, "DRADeviceTaints": true, "DRAConsumableCapacity": true, "DRADeviceBindingConditions+DRAResourceClaimDeviceStatus": true},
		37: {"ext": true, "DRAAdminAccess": true, "DRAPrioritizedList": true, "DRAPartitionableDevices": true, "DRADeviceTaints": true, "DRAConsumableCapacity": true, "DRADeviceBindingConditions+DRAResourceClaimDeviceStatus": true, "DRAFractionalCapacityRange": true},
	} {
		if diff := cmp.Diff(want, on(ForServer(minor))); diff != "" {
			t.Errorf("1.%d: %s", minor, diff)
		}
	}
	if !strings.Contains(ForServer(0).String(), "unknown") {
		t.Error("an unknown version is not said")
	}
}

// TestObserve: what the API server kept proves that its gate is on.
func TestObserve(t *testing.T) {
	t.Parallel()
	yes := true
	a := ForServer(34).Observe([]*resourceapi.ResourceSlice{{Spec: resourceapi.ResourceSliceSpec{Devices: []resourceapi.Device{
		{ConsumesCounters: []resourceapi.DeviceCounterConsumption{{CompatibilityGroups: []string{"a"}}}, AllowMultipleAllocations: &yes, BindingConditions: []string{"x"}, Taints: []resourceapi.DeviceTaint{{}},
			Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{"l": {IntValues: []int64{1}}}}}}}}, nil, nil, false)
	for _, f := range []string{"DRAPartitionableDevices", "DRADeviceCompatibilityGroups", "DRAConsumableCapacity", "DRADeviceTaints", "DRAListTypeAttributes"} {
		if !a.Features.Set().Has(f) {
			t.Errorf("%s not observed: %s", f, a)
		}
	}
	if ForServer(34).Observe(nil, nil, nil, true).Features.DeviceTaints != true {
		t.Error("a served DeviceTaintRule says that taints count")
	}
}

func world(devices int, taint bool) (Snapshot, *corev1.Node) {
	node := "n"
	s := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: resourceapi.ResourceSliceSpec{Driver: "d.io", NodeName: &node, Pool: resourceapi.ResourcePool{Name: "n", ResourceSliceCount: 1}}}
	for i := range devices {
		d := resourceapi.Device{Name: fmt.Sprintf("d%d", i), Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{}}
		v := fmt.Sprint(i)
		d.Attributes["id"] = resourceapi.DeviceAttribute{StringValue: &v}
		if taint {
			d.Taints = []resourceapi.DeviceTaint{{Key: "k", Effect: resourceapi.DeviceTaintEffectNoSchedule}}
		}
		s.Spec.Devices = append(s.Spec.Devices, d)
	}
	return Snapshot{Features: ForServer(37).Features, Slices: []*resourceapi.ResourceSlice{s}, Classes: []*resourceapi.DeviceClass{{ObjectMeta: metav1.ObjectMeta{Name: "c"}}}}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
}

func claim(class string, count int64) *resourceapi.ResourceClaim {
	return &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "x"}, Spec: resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{
		{Name: "r", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: count}}}}}}
}

func TestFits(t *testing.T) {
	t.Parallel()
	holder := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "h"}, Status: resourceapi.ResourceClaimStatus{Allocation: &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{
		Results: []resourceapi.DeviceRequestAllocationResult{{Driver: "d.io", Pool: "n", Device: "d0"}}}}}}
	admin := holder.DeepCopy()
	yes := true
	admin.Status.Allocation.Devices.Results[0].AdminAccess = &yes
	driver := "d.io"
	for _, tc := range []struct {
		name    string
		devices int
		taint   bool
		claim   *resourceapi.ResourceClaim
		held    []*resourceapi.ResourceClaim
		rules   []*resourceapi.DeviceTaintRule
		want    bool
		err     string
	}{
		{name: "fits", devices: 1, claim: claim("c", 1), want: true},
		{name: "too few", devices: 1, claim: claim("c", 2)},
		{name: "tainted", devices: 1, taint: true, claim: claim("c", 1)},
		{name: "held", devices: 1, claim: claim("c", 1), held: []*resourceapi.ResourceClaim{holder}},
		{name: "admin access holds nothing", devices: 1, claim: claim("c", 1), held: []*resourceapi.ResourceClaim{admin}, want: true},
		{name: "class missing", devices: 1, claim: claim("nope", 1), err: "could not retrieve device class nope"},
		{name: "33 devices", devices: 40, claim: claim("c", 33), err: "exceeds the claim limit of 32"},
		{name: "rule", devices: 1, claim: claim("c", 1), rules: []*resourceapi.DeviceTaintRule{{Spec: resourceapi.DeviceTaintRuleSpec{DeviceSelector: &resourceapi.DeviceTaintSelector{Driver: &driver}, Taint: resourceapi.DeviceTaint{Key: "k", Effect: "NoExecute"}}}}},
		{name: "rule without selector", devices: 1, claim: claim("c", 1), rules: []*resourceapi.DeviceTaintRule{{Spec: resourceapi.DeviceTaintRuleSpec{Taint: resourceapi.DeviceTaint{Key: "k", Effect: "NoExecute"}}}}, want: true},
	} {
		s, n := world(tc.devices, tc.taint)
		s.Claims, s.Rules = tc.held, tc.rules
		got, err := Fits(context.Background(), s, []*resourceapi.ResourceClaim{tc.claim}, n)
		if got != tc.want || (err != nil) != (tc.err != "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
		if len(s.Slices[0].Spec.Devices[0].Taints) > 1 {
			t.Errorf("%s: the input was changed", tc.name)
		}
	}
}

// TestPinned: an allocated claim is used where its allocation says.
func TestPinned(t *testing.T) {
	t.Parallel()
	s, n := world(1, false)
	c := claim("c", 1)
	c.Status.Allocation = &resourceapi.AllocationResult{NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"other"}}}}}}}
	if ok, err := Fits(context.Background(), s, []*resourceapi.ResourceClaim{c}, n); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
}

func TestDeadlineAndLog(t *testing.T) {
	t.Parallel()
	s, n := world(2, false)
	in := Input{Features: s.Features, State: EmptyState(), Classes: Classes{"c": s.Classes[0]}, Slices: s.Slices, Cache: NewCache(s.Features)}
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	if v, err := Try(ctx, in, n, []*resourceapi.ResourceClaim{claim("c", 1)}); err != nil || !v.TimedOut {
		t.Errorf("%+v %v", v, err)
	}
	var log bytes.Buffer
	in.Log = slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.Level(-7)})
	in.State.AllocatedDevices.Insert(StateOf([]*resourceapi.ResourceClaim{{Status: resourceapi.ResourceClaimStatus{Allocation: &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{{Driver: "d.io", Pool: "n", Device: "d0"}}}}}}}, s.Features, nil).AllocatedDevices.UnsortedList()...)
	if v, err := Try(context.Background(), in, n, []*resourceapi.ResourceClaim{claim("c", 2)}); err != nil || v.Fits {
		t.Errorf("%+v %v", v, err)
	}
	if !strings.Contains(log.String(), "Device in use") {
		t.Errorf("the allocator's log is not heard: %s", log.String())
	}
}

// TestExtendedClaim: the requests are those the scheduler would generate.
func TestExtendedClaim(t *testing.T) {
	t.Parallel()
	gpu := corev1.ResourceName("acme.io/gpu")
	name := string(gpu)
	classes := Classes{"c": {ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: resourceapi.DeviceClassSpec{ExtendedResourceName: &name}}}
	with := func(n string, always bool) corev1.Container {
		c := corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{gpu: resource.MustParse(n), "cpu": resource.MustParse("1")}}}
		if always {
			p := corev1.ContainerRestartPolicyAlways
			c.RestartPolicy = &p
		}
		return c
	}
	for _, tc := range []struct {
		name   string
		inits  []corev1.Container
		mains  []corev1.Container
		want   map[string]int64
		plugin string
		unfit  corev1.ResourceName
		none   bool
	}{
		{name: "two containers", mains: []corev1.Container{with("2", false), with("1", false)}, want: map[string]int64{"container-0-request-0": 2, "container-1-request-0": 1}},
		{name: "init reuses", inits: []corev1.Container{with("2", false)}, mains: []corev1.Container{with("2", false)}, want: map[string]int64{"container-1-request-0": 2}},
		{name: "init needs more", inits: []corev1.Container{with("1", false), with("5", false)}, mains: []corev1.Container{with("2", false)}, want: map[string]int64{"container-1-request-0": 3, "container-2-request-0": 2}},
		{name: "sidecar adds", inits: []corev1.Container{with("1", true)}, mains: []corev1.Container{with("2", false)}, want: map[string]int64{"container-0-request-0": 1, "container-1-request-0": 2}},
		{name: "device plugin", mains: []corev1.Container{with("2", false)}, plugin: "4", none: true},
		{name: "device plugin gone", mains: []corev1.Container{with("2", false)}, plugin: "0", want: map[string]int64{"container-0-request-0": 2}},
	} {
		n := &corev1.Node{}
		if tc.plugin != "" {
			n.Status.Allocatable = corev1.ResourceList{gpu: resource.MustParse(tc.plugin)}
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{InitContainers: tc.inits, Containers: tc.mains}}
		c, unfit := ExtendedClaim(pod, n, classes)
		if (c == nil) != tc.none || unfit != tc.unfit {
			t.Errorf("%s: %v %q", tc.name, c, unfit)
			continue
		}
		got := map[string]int64{}
		if c != nil {
			for _, r := range c.Spec.Devices.Requests {
				got[r.Name] = r.Exactly.Count
			}
		}
		if !tc.none && !cmp.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	if _, unfit := ExtendedClaim(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{with("1", false)}}}, &corev1.Node{}, Classes{}); unfit != gpu {
		t.Errorf("unmapped resource: %q", unfit)
	}
}

func TestClassFor(t *testing.T) {
	t.Parallel()
	name := "acme.io/gpu"
	at := func(n string, day int) *resourceapi.DeviceClass {
		return &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: n, CreationTimestamp: metav1.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)}, Spec: resourceapi.DeviceClassSpec{ExtendedResourceName: &name}}
	}
	classes := Classes{"old": at("old", 1), "b": at("b", 2), "a": at("a", 2), "plain": {ObjectMeta: metav1.ObjectMeta{Name: "plain"}}}
	if c := ClassFor(classes, corev1.ResourceName(name)); c == nil || c.Name != "a" {
		t.Errorf("%v", c)
	}
	if c := ClassFor(classes, "deviceclass.resource.kubernetes.io/plain"); c == nil || c.Name != "plain" {
		t.Errorf("implicit name: %v", c)
	}
	for n, want := range map[corev1.ResourceName]bool{"acme.io/gpu": true, "cpu": false, "hugepages-2Mi": false, "kubernetes.io/x": false, "requests.acme.io/gpu": false, "deviceclass.resource.kubernetes.io/x": true} {
		if IsExtended(n) != want {
			t.Errorf("%s: %v", n, !want)
		}
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	slice := &resourceapi.ResourceSlice{Spec: resourceapi.ResourceSliceSpec{Driver: "d", NodeName: new("n"), Pool: resourceapi.ResourcePool{Name: "n", Generation: 1, ResourceSliceCount: 1}, Devices: []resourceapi.Device{{Name: "g0"}, {Name: "g1"}}}}
	class := &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: resourceapi.DeviceClassSpec{ExtendedResourceName: new("x.example.com/gpu")}}
	world := Snapshot{Features: ForServer(37).Features, Slices: []*resourceapi.ResourceSlice{slice}, Classes: []*resourceapi.DeviceClass{class}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	claim := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: "k", Namespace: "ns", UID: "k"}}
	claim.Spec.Devices.Requests = []resourceapi.DeviceRequest{{Name: "r", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: "c", AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: 1}}}
	asks := func(n string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "m"}}}}
		if n != "" {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"x.example.com/gpu": resource.MustParse(n)}
		}
		return p
	}
	got, why, err := Place(t.Context(), world, node, asks("1"), []*resourceapi.ResourceClaim{claim})
	if err != nil || why != "" || len(got) != 2 || got[0].Status.Allocation == nil || got[1].Status.Allocation == nil || claim.Status.Allocation != nil {
		t.Fatalf("%v %q %v", got, why, err)
	}
	// What was given is taken for the next pod.
	world.Claims = got
	if _, why, err = Place(t.Context(), world, node, asks("1"), nil); err != nil || why == "" {
		t.Errorf("%q %v", why, err)
	}
	// An allocated claim is used where its devices are.
	if _, why, err = Place(t.Context(), world, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, asks(""), got[:1]); err != nil || !strings.Contains(why, "cannot be reached") {
		t.Errorf("%q %v", why, err)
	}
	claim.Spec.Devices.Requests[0].Exactly.DeviceClassName = "gone"
	if _, _, err = Place(t.Context(), world, node, asks(""), []*resourceapi.ResourceClaim{claim}); err == nil {
		t.Error("a class that is not there aborts")
	}
}
