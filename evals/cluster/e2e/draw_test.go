package e2e

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// world is one generated question: a few nodes with devices that no other world
// has, and one pod that wants some of them.
type world struct {
	name    string
	nodes   []*corev1.Node
	slices  []*resourceapi.ResourceSlice
	classes []*resourceapi.DeviceClass
	rules   []*resourceapi.DeviceTaintRule
	// claims of the pod and of the holders of devices, allocated where they have a status.
	claims []*resourceapi.ResourceClaim
	pod    *corev1.Pod
}

// drawer draws worlds from one seed; the same seed gives the same worlds.
type drawer struct {
	*rand.Rand
	name string
}

func newDrawer(seed uint64, name string) *drawer {
	h := seed
	for _, c := range name {
		h = h*1099511628211 + uint64(c)
	}
	return &drawer{Rand: rand.New(rand.NewPCG(seed, h)), name: name}
}

// oneIn is true once in n.
func (d *drawer) oneIn(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d *drawer, of ...T) T { return of[d.IntN(len(of))] }

func ptr[T any](v T) *T { return &v }

func (d *drawer) driver() string { return "gpu." + d.name + ".example.com" }
func (d *drawer) nic() string    { return "nic." + d.name + ".example.com" }

func (d *drawer) world() *world {
	w := &world{name: d.name}
	shared := d.oneIn(4)
	for i := range 1 + d.IntN(3) {
		n := d.node(i)
		w.nodes = append(w.nodes, n)
		if !shared || d.oneIn(2) {
			w.slices = append(w.slices, d.pool(d.driver(), n)...)
		}
		if d.oneIn(2) {
			w.slices = append(w.slices, d.nics(n))
		}
	}
	if shared {
		w.slices = append(w.slices, d.fabric(w.nodes)...)
	}
	w.classes = d.classes()
	w.rules = d.rules(w.slices)
	w.claims = d.holders(w.slices)
	d.wants(w)
	return w
}

func (d *drawer) node(i int) *corev1.Node {
	name := fmt.Sprintf("%s-%c", d.name, 'a'+i)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name, "world": d.name, "zone": pick(d, "x", "y")}}}
	room := corev1.ResourceList{"cpu": resource.MustParse("8"), "memory": resource.MustParse("16Gi"), "pods": resource.MustParse("110")}
	if d.oneIn(10) {
		room["cpu"] = resource.MustParse("1")
	}
	if d.oneIn(12) {
		room[corev1.ResourceName(d.extended())] = resource.MustParse(pick(d, "0", "1", "4"))
	}
	if d.oneIn(10) {
		n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "a", Effect: pick(d, corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute, corev1.TaintEffectPreferNoSchedule)}}
	}
	n.Spec.Unschedulable = d.oneIn(14)
	n.Status = corev1.NodeStatus{Capacity: room, Allocatable: room, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
	return n
}

// extended is the extended resource of the world.
func (d *drawer) extended() string { return d.name + ".example.com/gpu" }

// pool is what one node publishes: up to three slices, sometimes flawed.
func (d *drawer) pool(driver string, n *corev1.Node) []*resourceapi.ResourceSlice {
	if d.oneIn(9) {
		return nil
	}
	count := 1 + d.IntN(2)
	var out []*resourceapi.ResourceSlice
	for i := range count {
		s := d.slice(driver, n.Name, fmt.Sprintf("%s-%d", n.Name, i))
		s.Spec.NodeName = &n.Name
		s.Spec.Devices = d.devices(i * 4)
		out = append(out, s)
	}
	if d.oneIn(3) {
		out = append(out, d.partition(out, n.Name)...)
	}
	for _, s := range out {
		s.Spec.Pool.ResourceSliceCount = int64(len(out))
	}
	switch d.IntN(10) {
	case 0: // a slice is missing
		for _, s := range out {
			s.Spec.Pool.ResourceSliceCount++
		}
	case 1: // a slice of an older generation lies about
		old := out[0].DeepCopy()
		old.Name, old.Spec.Pool.Generation, old.Spec.Devices = old.Name+"-old", 0, d.devices(40)
		out = append(out, old)
	case 2: // one name twice
		if count == 2 {
			out[1].Spec.Devices[0].Name = out[0].Spec.Devices[0].Name
		}
	}
	return out
}

func (d *drawer) slice(driver, pool, name string) *resourceapi.ResourceSlice {
	return &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourceapi.ResourceSliceSpec{
		Driver: driver, Pool: resourceapi.ResourcePool{Name: pool, Generation: 1, ResourceSliceCount: 1}}}
}

func (d *drawer) devices(from int) []resourceapi.Device {
	var out []resourceapi.Device
	for i := range 1 + d.IntN(4) {
		dev := resourceapi.Device{Name: fmt.Sprintf("d%d", from+i),
			Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{"model": {StringValue: ptr(pick(d, "A", "A", "B"))}, "driverVersion": {VersionValue: ptr(pick(d, "570.86.15", "580.1.0"))}},
			Capacity:   map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"memory": {Value: resource.MustParse(pick(d, "40Gi", "80Gi"))}}}
		if !d.oneIn(8) {
			dev.Attributes["resource.kubernetes.io/pcieRoot"] = resourceapi.DeviceAttribute{StringValue: ptr(pick(d, "pci0000:00", "pci0000:10"))}
		}
		if !d.oneIn(12) {
			dev.Attributes["resource.kubernetes.io/numaNode"] = resourceapi.DeviceAttribute{IntValue: ptr(int64(d.IntN(2)))}
		}
		if d.oneIn(3) {
			dev.Attributes["fabric"] = resourceapi.DeviceAttribute{IntValue: ptr(int64(d.IntN(3)))}
		}
		if d.oneIn(7) {
			dev.Taints = []resourceapi.DeviceTaint{{Key: pick(d, "ecc", "wear"), Value: "bad", Effect: pick(d, resourceapi.DeviceTaintEffectNoSchedule, resourceapi.DeviceTaintEffectNoExecute, resourceapi.DeviceTaintEffectNone)}}
		}
		if d.oneIn(6) {
			d.share(&dev)
		}
		out = append(out, dev)
	}
	return out
}

// share lets several claims have a device, each a part of its bandwidth.
func (d *drawer) share(dev *resourceapi.Device) {
	dev.AllowMultipleAllocations = ptr(true)
	c := resourceapi.DeviceCapacity{Value: resource.MustParse("10")}
	switch d.IntN(4) {
	case 0:
		c.RequestPolicy = &resourceapi.CapacityRequestPolicy{Default: ptr(resource.MustParse("2")), ValidRange: &resourceapi.CapacityRequestPolicyRange{Min: ptr(resource.MustParse("2")), Max: ptr(resource.MustParse("8")), Step: ptr(resource.MustParse("2"))}}
	case 1:
		c.RequestPolicy = &resourceapi.CapacityRequestPolicy{Default: ptr(resource.MustParse("4")), ValidValues: []resource.Quantity{resource.MustParse("4"), resource.MustParse("6")}}
	}
	dev.Capacity["bandwidth"] = c
}

// partition makes the devices of slices share counters, in a slice of their own.
func (d *drawer) partition(of []*resourceapi.ResourceSlice, pool string) []*resourceapi.ResourceSlice {
	c := d.slice(of[0].Spec.Driver, pool, pool+"-counters")
	c.Spec.NodeName = of[0].Spec.NodeName
	c.Spec.SharedCounters = []resourceapi.CounterSet{{Name: "set", Counters: map[string]resourceapi.Counter{"memory": {Value: resource.MustParse("4")}, "engines": {Value: resource.MustParse("3")}}}}
	for _, s := range of {
		for i := range s.Spec.Devices {
			use := map[string]resourceapi.Counter{"memory": {Value: *resource.NewQuantity(int64(1+d.IntN(4)), resource.DecimalSI)}}
			if d.oneIn(3) {
				use["engines"] = resourceapi.Counter{Value: *resource.NewQuantity(int64(1+d.IntN(2)), resource.DecimalSI)}
			}
			if d.oneIn(4) {
				continue
			}
			s.Spec.Devices[i].ConsumesCounters = []resourceapi.DeviceCounterConsumption{{CounterSet: "set", Counters: use}}
		}
	}
	if d.oneIn(14) { // consumption of a counter that no set has
		for i := range of[0].Spec.Devices {
			if u := of[0].Spec.Devices[i].ConsumesCounters; len(u) > 0 {
				u[0].Counters["nobody"] = resourceapi.Counter{Value: resource.MustParse("1")}
			}
		}
	}
	return []*resourceapi.ResourceSlice{c}
}

func (d *drawer) nics(n *corev1.Node) *resourceapi.ResourceSlice {
	s := d.slice(d.nic(), n.Name, n.Name+"-nic")
	s.Spec.NodeName = &n.Name
	for i := range 1 + d.IntN(3) {
		dev := resourceapi.Device{Name: fmt.Sprintf("n%d", i), Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{"rdma": {BoolValue: ptr(d.oneIn(2))}}}
		if !d.oneIn(6) {
			dev.Attributes["resource.kubernetes.io/pcieRoot"] = resourceapi.DeviceAttribute{StringValue: ptr(pick(d, "pci0000:00", "pci0000:10", "pci0101:00"))}
		}
		dev.Attributes["resource.kubernetes.io/numaNode"] = resourceapi.DeviceAttribute{IntValue: ptr(int64(d.IntN(2)))}
		s.Spec.Devices = append(s.Spec.Devices, dev)
	}
	return s
}

// fabric is a pool that several nodes reach.
func (d *drawer) fabric(nodes []*corev1.Node) []*resourceapi.ResourceSlice {
	s := d.slice(d.driver(), d.name+"-fabric", d.name+"-fabric")
	s.Spec.Devices = d.devices(80)
	zone := func(z string) *corev1.NodeSelector {
		return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: "world", Operator: corev1.NodeSelectorOpIn, Values: []string{d.name}}, {Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{z}}}}}}
	}
	switch d.IntN(3) {
	case 0:
		s.Spec.NodeSelector = zone(pick(d, "x", "y"))
	case 1:
		s.Spec.AllNodes = ptr(true)
	case 2:
		s.Spec.PerDeviceNodeSelection = ptr(true)
		for i := range s.Spec.Devices {
			switch d.IntN(3) {
			case 0:
				s.Spec.Devices[i].NodeName = ptr(pick(d, nodes...).Name)
			case 1:
				s.Spec.Devices[i].NodeSelector = zone(pick(d, "x", "y"))
			case 2:
				s.Spec.Devices[i].AllNodes = ptr(true)
			}
		}
	}
	if d.oneIn(8) {
		s.Spec.Pool.ResourceSliceCount = 2
	}
	return []*resourceapi.ResourceSlice{s}
}

func (d *drawer) rules(slices []*resourceapi.ResourceSlice) []*resourceapi.DeviceTaintRule {
	if len(slices) == 0 || !d.oneIn(6) {
		return nil
	}
	s := pick(d, slices...)
	sel := &resourceapi.DeviceTaintSelector{Driver: &s.Spec.Driver}
	if d.oneIn(2) {
		sel.Pool = &s.Spec.Pool.Name
	}
	if len(s.Spec.Devices) > 0 && d.oneIn(2) {
		sel.Device = ptr(pick(d, s.Spec.Devices...).Name)
	}
	return []*resourceapi.DeviceTaintRule{{ObjectMeta: metav1.ObjectMeta{Name: d.name}, Spec: resourceapi.DeviceTaintRuleSpec{DeviceSelector: sel,
		Taint: resourceapi.DeviceTaint{Key: "maintenance", Effect: pick(d, resourceapi.DeviceTaintEffectNoSchedule, resourceapi.DeviceTaintEffectNone)}}}}
}

// holders are claims of others that have some of the devices.
func (d *drawer) holders(slices []*resourceapi.ResourceSlice) []*resourceapi.ResourceClaim {
	var out []*resourceapi.ResourceClaim
	for _, s := range slices {
		for i := range s.Spec.Devices {
			if dev := &s.Spec.Devices[i]; d.oneIn(6) {
				n := len(out)
				r := resourceapi.DeviceRequestAllocationResult{Request: "held", Driver: s.Spec.Driver, Pool: s.Spec.Pool.Name, Device: dev.Name}
				if dev.AllowMultipleAllocations != nil {
					r.ShareID = ptr(types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)))
					r.ConsumedCapacity = map[resourceapi.QualifiedName]resource.Quantity{"bandwidth": resource.MustParse(pick(d, "2", "4", "6"))}
				}
				out = append(out, d.held(fmt.Sprintf("held-%d", n), nil, r))
			}
		}
	}
	return out
}

// held is a claim that is allocated and in use by a pod elsewhere.
func (d *drawer) held(name string, on *corev1.NodeSelector, r resourceapi.DeviceRequestAllocationResult) *resourceapi.ResourceClaim {
	return &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: d.name, Name: name},
		Spec: resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{{Name: "held", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: "gpu." + d.name}}}}},
		Status: resourceapi.ResourceClaimStatus{
			Allocation:  &resourceapi.AllocationResult{AllocationTimestamp: ptr(metav1.Now()), NodeSelector: on, Devices: resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{r}}},
			ReservedFor: []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: "elsewhere", UID: "elsewhere"}},
		}}
}
