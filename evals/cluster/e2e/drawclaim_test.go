package e2e

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func celOf(expr string) resourceapi.DeviceSelector {
	return resourceapi.DeviceSelector{CEL: &resourceapi.CELDeviceSelector{Expression: expr}}
}

func (d *drawer) classes() []*resourceapi.DeviceClass {
	class := func(name, driver string) *resourceapi.DeviceClass {
		return &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: resourceapi.DeviceClassSpec{Selectors: []resourceapi.DeviceSelector{celOf(fmt.Sprintf("device.driver == %q", driver))}}}
	}
	gpu, nic, narrow := class("gpu."+d.name, d.driver()), class("nic."+d.name, d.nic()), class("narrow."+d.name, d.driver())
	gpu.Spec.ExtendedResourceName = ptr(d.extended())
	narrow.Spec.Selectors = append(narrow.Spec.Selectors, celOf(fmt.Sprintf("device.attributes[%q].model == \"A\"", d.driver())))
	return []*resourceapi.DeviceClass{gpu, nic, narrow}
}

// wants draws the pod and its claims.
func (d *drawer) wants(w *world) {
	room := corev1.ResourceList{"cpu": resource.MustParse("2")}
	w.pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: d.name, Name: "wants"}, Spec: corev1.PodSpec{
		NodeSelector: map[string]string{"world": d.name}, RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{Name: "main", Image: "registry.example.com/ml/train:1", Resources: corev1.ResourceRequirements{Requests: room}}}}}
	main := &w.pod.Spec.Containers[0]
	if d.oneIn(10) {
		w.pod.Spec.NodeSelector["zone"] = pick(d, "x", "y")
	}
	if d.oneIn(6) {
		w.pod.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	}
	use := func(name, claim string) {
		w.pod.Spec.ResourceClaims = append(w.pod.Spec.ResourceClaims, corev1.PodResourceClaim{Name: name, ResourceClaimName: &claim})
		main.Resources.Claims = append(main.Resources.Claims, corev1.ResourceClaim{Name: name})
	}
	extended := d.oneIn(9)
	if extended {
		n := *resource.NewQuantity(int64(1+d.IntN(3)), resource.DecimalSI)
		name := corev1.ResourceName(pick(d, d.extended(), "deviceclass.resource.kubernetes.io/narrow."+d.name))
		main.Resources.Requests[name] = n
		main.Resources.Limits = corev1.ResourceList{name: n}
	}
	if !extended || d.oneIn(3) {
		for i := range 1 + d.IntN(5)/4 {
			c := d.claim(i)
			w.claims = append(w.claims, c)
			use(fmt.Sprintf("c%d", i), c.Name)
		}
	}
	if len(w.slices) > 0 && d.oneIn(12) {
		d.shared(w, use)
	}
}

// shared is a claim of the pod that is allocated already, to it and to another.
func (d *drawer) shared(w *world, use func(name, claim string)) {
	s := pick(d, w.slices...)
	if s.Spec.NodeName == nil || len(s.Spec.Devices) == 0 {
		return
	}
	dev := pick(d, s.Spec.Devices...)
	if dev.AllowMultipleAllocations != nil || slices.ContainsFunc(w.claims, func(c *resourceapi.ResourceClaim) bool {
		return c.Status.Allocation != nil && c.Status.Allocation.Devices.Results[0].Device == dev.Name && c.Status.Allocation.Devices.Results[0].Pool == s.Spec.Pool.Name
	}) {
		return
	}
	on := &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{*s.Spec.NodeName}}}}}}
	c := d.held("shared", on, resourceapi.DeviceRequestAllocationResult{Request: "held", Driver: s.Spec.Driver, Pool: s.Spec.Pool.Name, Device: dev.Name})
	w.claims = append(w.claims, c)
	use("shared", c.Name)
}

func (d *drawer) claim(i int) *resourceapi.ResourceClaim {
	c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: d.name, Name: fmt.Sprintf("claim-%d", i)}}
	rs := &c.Spec.Devices
	for j := range 1 + d.IntN(5)/3 {
		r := resourceapi.DeviceRequest{Name: fmt.Sprintf("r%d%d", i, j)}
		switch {
		case j > 0 && d.oneIn(2):
			r.Exactly = d.exactly("nic." + d.name)
			r.Exactly.Selectors = nil
			if d.oneIn(3) {
				r.Exactly.Selectors = []resourceapi.DeviceSelector{celOf(fmt.Sprintf("device.attributes[%q].rdma", d.nic()))}
			}
			r.Exactly.Capacity = nil
		case d.oneIn(5):
			for k := range 2 + d.IntN(2) {
				e := d.exactly(d.class())
				r.FirstAvailable = append(r.FirstAvailable, resourceapi.DeviceSubRequest{Name: fmt.Sprintf("s%d", k), DeviceClassName: e.DeviceClassName,
					AllocationMode: e.AllocationMode, Count: e.Count, Selectors: e.Selectors, Tolerations: e.Tolerations, Capacity: e.Capacity})
			}
		default:
			r.Exactly = d.exactly(d.class())
			if d.oneIn(20) {
				r.Exactly.AdminAccess = ptr(true)
			}
		}
		rs.Requests = append(rs.Requests, r)
	}
	if d.oneIn(3) {
		rs.Constraints = append(rs.Constraints, d.constraint(rs.Requests))
	}
	return c
}

func (d *drawer) class() string {
	if d.oneIn(40) {
		return "nowhere." + d.name
	}
	return pick(d, "gpu.", "gpu.", "gpu.", "narrow.") + d.name
}

func (d *drawer) constraint(of []resourceapi.DeviceRequest) resourceapi.DeviceConstraint {
	attribute := resourceapi.FullyQualifiedName(pick(d, "resource.kubernetes.io/pcieRoot", "resource.kubernetes.io/numaNode", d.driver()+"/model", d.driver()+"/fabric"))
	k := resourceapi.DeviceConstraint{}
	if d.oneIn(4) {
		k.DistinctAttribute = &attribute
	} else {
		k.MatchAttribute = &attribute
	}
	if d.oneIn(4) {
		k.Requests = []string{of[0].Name}
		if f := of[0].FirstAvailable; len(f) > 0 && d.oneIn(2) {
			k.Requests = []string{of[0].Name + "/" + f[0].Name}
		}
	}
	return k
}

// exactly draws one request; most selectors are safe, few end in an error.
func (d *drawer) exactly(class string) *resourceapi.ExactDeviceRequest {
	r := &resourceapi.ExactDeviceRequest{DeviceClassName: class, AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: pick(d, int64(1), 1, 1, 2, 2, 3, 4)}
	if d.oneIn(50) {
		r.Count = 33
	}
	if d.oneIn(12) {
		r.AllocationMode, r.Count = resourceapi.DeviceAllocationModeAll, 0
	}
	dom := d.driver()
	for d.oneIn(2) && len(r.Selectors) < 2 {
		expr := pick(d,
			fmt.Sprintf("device.attributes[%q].model == \"A\"", dom), fmt.Sprintf("device.attributes[%q].model == \"B\"", dom), fmt.Sprintf("device.attributes[%q].model == \"C\"", dom),
			fmt.Sprintf("device.attributes[%q].model in [\"B\", \"C\"]", dom),
			fmt.Sprintf("device.attributes[%q].driverVersion.isGreaterThan(semver(\"575.0.0\"))", dom),
			fmt.Sprintf("device.attributes[%q].driverVersion.compareTo(semver(\"570.86.15\")) == 0", dom),
			fmt.Sprintf("device.capacity[%q].memory.compareTo(quantity(\"80Gi\")) >= 0", dom), fmt.Sprintf("device.capacity[%q].memory.isGreaterThan(quantity(\"80Gi\"))", dom),
			"device.attributes[\"resource.kubernetes.io\"].?pcieRoot.orValue(\"\") == \"pci0000:10\"",
			fmt.Sprintf("device.attributes[%q].?fabric.orValue(-1) > 0", dom),
			fmt.Sprintf("\"fabric\" in device.attributes[%q] && device.attributes[%q].fabric == 1", dom, dom),
			"device.allowMultipleAllocations == false",
		)
		if d.oneIn(14) {
			expr = pick(d, fmt.Sprintf("device.attributes[%q].fabric == 1", dom), "device.attributes[\"resource.kubernetes.io\"].pcieRoot == \"pci0000:00\"", fmt.Sprintf("device.attributes[%q].driverVersion == \"580.1.0\"", dom))
		}
		r.Selectors = append(r.Selectors, celOf(expr))
	}
	if d.oneIn(4) {
		r.Tolerations = []resourceapi.DeviceToleration{pick(d, resourceapi.DeviceToleration{Operator: resourceapi.DeviceTolerationOpExists},
			resourceapi.DeviceToleration{Key: "ecc", Operator: resourceapi.DeviceTolerationOpEqual, Value: "bad"},
			resourceapi.DeviceToleration{Key: "maintenance", Operator: resourceapi.DeviceTolerationOpExists, Effect: resourceapi.DeviceTaintEffectNoSchedule})}
	}
	if d.oneIn(8) {
		r.Capacity = &resourceapi.CapacityRequirements{Requests: map[resourceapi.QualifiedName]resource.Quantity{
			pick(d, resourceapi.QualifiedName("bandwidth"), "bandwidth", "memory"): resource.MustParse(pick(d, "1", "3", "6", "9", "12", "60Gi"))}}
	}
	return r
}
