package dra

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// drawn is a random small world in both forms: API objects and ours.
type drawn struct {
	w     *world
	snap  allocator.Snapshot
	claim *resourceapi.ResourceClaim
}

func draw(t *rapid.T) drawn {
	d := drawn{w: &world{fleet: newFleet(), byName: map[string]*corev1.Node{}, classes: allocator.Classes{}, api: served{version: "v1", rules: "v1", minor: 37}}}
	class := &resourceapi.DeviceClass{ObjectMeta: metav1.ObjectMeta{Name: "gpu"}, Spec: resourceapi.DeviceClassSpec{Selectors: []resourceapi.DeviceSelector{{CEL: celSelector(`device.driver == "gpu.acme.io"`)}}}}
	d.w.classes["gpu"] = class
	nodes := rapid.IntRange(1, 6).Draw(t, "nodes")
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"zone": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone")}}}
		d.w.nodes = append(d.w.nodes, n)
		d.w.byName[name] = n
		d.snap.Slices = append(d.snap.Slices, drawSlices(t, name)...)
	}
	if rapid.Bool().Draw(t, "shared pool") {
		s := drawSlice(t, "fabric", 0)
		s.Spec.NodeName = nil
		if rapid.Bool().Draw(t, "all nodes") {
			yes := true
			s.Spec.AllNodes = &yes
		} else {
			s.Spec.NodeSelector = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}}}}}
		}
		d.snap.Slices = append(d.snap.Slices, s)
	}
	d.drawHolders(t)
	if rapid.Bool().Draw(t, "rule") {
		dev := fmt.Sprintf("d%d", rapid.IntRange(0, 3).Draw(t, "rule device"))
		driver := "gpu.acme.io"
		d.snap.Rules = append(d.snap.Rules, &resourceapi.DeviceTaintRule{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: resourceapi.DeviceTaintRuleSpec{
			DeviceSelector: &resourceapi.DeviceTaintSelector{Driver: &driver, Device: &dev}, Taint: resourceapi.DeviceTaint{Key: "k", Effect: resourceapi.DeviceTaintEffectNoSchedule}}})
	}
	d.claim = drawClaim(t)
	for _, s := range d.snap.Slices {
		d.w.fleet.add(s.DeepCopy())
	}
	d.w.fleet.seal()
	d.w.claims, d.w.rules = d.snap.Claims, d.snap.Rules
	d.w.finish()
	d.snap.Features = d.w.assume.Features
	d.snap.Classes = []*resourceapi.DeviceClass{class}
	return d
}

func drawSlices(t *rapid.T, node string) []*resourceapi.ResourceSlice {
	if rapid.IntRange(0, 8).Draw(t, "no slice") == 0 {
		return nil
	}
	var out []*resourceapi.ResourceSlice
	count := rapid.IntRange(1, 2).Draw(t, "slices")
	for i := range count {
		s := drawSlice(t, node, i)
		s.Spec.Pool.ResourceSliceCount = int64(count)
		out = append(out, s)
	}
	switch rapid.IntRange(0, 8).Draw(t, "flaw") {
	case 0:
		out[0].Spec.Pool.ResourceSliceCount++ // disagreeing or incomplete
		for _, s := range out {
			s.Spec.Pool.ResourceSliceCount = out[0].Spec.Pool.ResourceSliceCount
		}
	case 1:
		old := out[0].DeepCopy()
		old.Name += "-old"
		old.Spec.Pool.Generation = 0
		out = append(out, old)
	case 2:
		if len(out[0].Spec.Devices) > 1 {
			out[0].Spec.Devices[1].Name = out[0].Spec.Devices[0].Name
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "partitions") == 0 {
		counters := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node + "-counters"}, Spec: *out[0].Spec.DeepCopy()}
		counters.Spec.Devices = nil
		counters.Spec.SharedCounters = []resourceapi.CounterSet{{Name: "set", Counters: map[string]resourceapi.Counter{"m": {Value: resource.MustParse("4")}}}}
		for _, s := range out {
			s.Spec.Pool.ResourceSliceCount++
			for j := range s.Spec.Devices {
				s.Spec.Devices[j].ConsumesCounters = []resourceapi.DeviceCounterConsumption{{CounterSet: "set", Counters: map[string]resourceapi.Counter{"m": {Value: *resource.NewQuantity(int64(1+j%3), resource.DecimalSI)}}}}
			}
		}
		counters.Spec.Pool.ResourceSliceCount++
		out = append(out, counters)
	}
	return out
}

func drawSlice(t *rapid.T, node string, part int) *resourceapi.ResourceSlice {
	s := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", node, part)}, Spec: resourceapi.ResourceSliceSpec{
		Driver: "gpu.acme.io", NodeName: &node, Pool: resourceapi.ResourcePool{Name: node, Generation: 1, ResourceSliceCount: 1}}}
	for i := range rapid.IntRange(1, 4).Draw(t, "devices") {
		model := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "model")
		d := resourceapi.Device{Name: fmt.Sprintf("d%d", part*4+i), Attributes: map[resourceapi.QualifiedName]resourceapi.DeviceAttribute{"model": {StringValue: &model}}}
		if rapid.IntRange(0, 9).Draw(t, "no root") != 0 {
			root := rapid.SampledFrom([]string{"r0", "r1"}).Draw(t, "root")
			d.Attributes["resource.kubernetes.io/pcieRoot"] = resourceapi.DeviceAttribute{StringValue: &root}
		}
		if rapid.IntRange(0, 5).Draw(t, "taint") == 0 {
			d.Taints = []resourceapi.DeviceTaint{{Key: "own", Effect: rapid.SampledFrom([]resourceapi.DeviceTaintEffect{"NoSchedule", "NoExecute", "None"}).Draw(t, "effect")}}
		}
		if rapid.IntRange(0, 5).Draw(t, "shared") == 0 {
			yes := true
			d.AllowMultipleAllocations = &yes
			d.Capacity = map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"bw": {Value: resource.MustParse("10")}}
		}
		s.Spec.Devices = append(s.Spec.Devices, d)
	}
	return s
}

func (d *drawn) drawHolders(t *rapid.T) {
	n := 0
	for _, s := range d.snap.Slices {
		for i := range s.Spec.Devices {
			if rapid.IntRange(0, 4).Draw(t, "held") != 0 {
				continue
			}
			n++
			dev := &s.Spec.Devices[i]
			r := resourceapi.DeviceRequestAllocationResult{Request: "gpu", Driver: s.Spec.Driver, Pool: s.Spec.Pool.Name, Device: dev.Name}
			if dev.AllowMultipleAllocations != nil {
				share := types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", n))
				r.ShareID = &share
				r.ConsumedCapacity = map[resourceapi.QualifiedName]resource.Quantity{"bw": *resource.NewQuantity(int64(rapid.IntRange(1, 9).Draw(t, "bw")), resource.DecimalSI)}
			}
			d.snap.Claims = append(d.snap.Claims, &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: fmt.Sprintf("h%d", n), UID: types.UID(fmt.Sprintf("h%d", n))},
				Status: resourceapi.ResourceClaimStatus{Allocation: &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{r}}}}})
		}
	}
}

func drawClaim(t *rapid.T) *resourceapi.ResourceClaim {
	sel := func() []resourceapi.DeviceSelector {
		e := rapid.SampledFrom([]string{"", `device.attributes["gpu.acme.io"].model == "A"`, `device.attributes["resource.kubernetes.io"].pcieRoot == "r0"`, `device.attributes["resource.kubernetes.io"].?pcieRoot.orValue("") == "r1"`}).Draw(t, "selector")
		if e == "" {
			return nil
		}
		return []resourceapi.DeviceSelector{{CEL: celSelector(e)}}
	}
	exact := func() *resourceapi.ExactDeviceRequest {
		r := &resourceapi.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourceapi.DeviceAllocationModeExactCount, Count: rapid.SampledFrom([]int64{1, 1, 1, 2, 2, 4}).Draw(t, "count"), Selectors: sel()}
		if rapid.IntRange(0, 11).Draw(t, "all") == 0 {
			r.AllocationMode, r.Count = resourceapi.DeviceAllocationModeAll, 0
		}
		if rapid.IntRange(0, 3).Draw(t, "tolerates") == 0 {
			r.Tolerations = []resourceapi.DeviceToleration{{Operator: resourceapi.DeviceTolerationOpExists}}
		}
		if rapid.IntRange(0, 5).Draw(t, "capacity") == 0 {
			r.Capacity = &resourceapi.CapacityRequirements{Requests: map[resourceapi.QualifiedName]resource.Quantity{"bw": *resource.NewQuantity(int64(rapid.IntRange(1, 12).Draw(t, "asked")), resource.DecimalSI)}}
		}
		return r
	}
	c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "job", UID: "job"}}
	for i := range rapid.IntRange(1, 2).Draw(t, "requests") {
		r := resourceapi.DeviceRequest{Name: fmt.Sprintf("r%d", i)}
		if rapid.IntRange(0, 3).Draw(t, "alternatives") == 0 {
			for j := range 2 {
				e := exact()
				r.FirstAvailable = append(r.FirstAvailable, resourceapi.DeviceSubRequest{Name: fmt.Sprintf("s%d", j), DeviceClassName: "gpu", AllocationMode: e.AllocationMode, Count: e.Count, Selectors: e.Selectors, Tolerations: e.Tolerations, Capacity: e.Capacity})
			}
		} else {
			r.Exactly = exact()
		}
		c.Spec.Devices.Requests = append(c.Spec.Devices.Requests, r)
	}
	if rapid.IntRange(0, 2).Draw(t, "constrained") == 0 {
		n := resourceapi.FullyQualifiedName(rapid.SampledFrom([]string{"resource.kubernetes.io/pcieRoot", "gpu.acme.io/model"}).Draw(t, "attribute"))
		c.Spec.Devices.Constraints = []resourceapi.DeviceConstraint{{MatchAttribute: &n}}
	}
	return c
}

// TestGroupsSpeakForTheirNodes holds the grouping to its promise: the verdict of
// a sort of node is the allocator's verdict, over all slices, for each node of it.
func TestGroupsSpeakForTheirNodes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		a := newAttempt(d.w, nil, []*resourceapi.ResourceClaim{d.claim})
		a.split()
		if err := a.baseline(context.Background()); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, g := range a.groups {
			for _, n := range g.nodes {
				seen++
				fits, err := allocator.Fits(context.Background(), d.snap, []*resourceapi.ResourceClaim{d.claim}, n)
				if fits != g.verdict.Fits || (err != nil) != (g.verdict.Abort != "") {
					t.Fatalf("node %s (group of %s): allocator says %v, %v; group says %+v", n.Name, g.rep().Name, fits, err, g.verdict)
				}
			}
		}
		if seen != len(d.w.nodes) {
			t.Fatalf("%d nodes in groups, %d in the cluster", seen, len(d.w.nodes))
		}
	})
}

// TestExplanationsAreComplete: whatever the world, a claim that fits has no
// fault, and one that does not has a cause with a known code.
func TestExplanationsAreComplete(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, caseDoc{}, nil)
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		out := &Explanation{Claims: []ClaimView{view(d.claim)}}
		n := ts.newAnalysis(newAttempt(d.w, nil, []*resourceapi.ResourceClaim{d.claim}), out)
		if err := n.run(context.Background()); err != nil {
			t.Fatal(err)
		}
		faults := 0
		for _, f := range n.findings {
			if f.Role == "fault" {
				faults++
			}
			if f.Confidence < 0 || f.Confidence > 1 {
				t.Fatalf("confidence %v", f.Confidence)
			}
			if !slices.ContainsFunc(ts.Codes(), func(c tool.Code) bool { return c.Code == f.Code }) {
				t.Fatalf("code %s is not in the catalogue", f.Code)
			}
		}
		switch {
		case out.Verdict == "fits" && faults > 0:
			t.Fatalf("fits, and yet %v", n.findings)
		case out.Verdict != "fits" && faults == 0:
			t.Fatalf("%s without a cause: %s", out.Verdict, explainText(out, n.findings))
		}
	})
}
