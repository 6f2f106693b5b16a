package dra

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestTogether(t *testing.T) {
	t.Parallel()
	claim := incident.Ref{Kind: "ResourceClaim", Namespace: "a", Name: "c"}
	f := func(msg string) incident.Finding {
		return incident.Finding{Code: "dra.selector_excludes_all", Role: incident.Fault, Subject: claim, Message: msg}
	}
	got := together([]incident.Finding{f("Request gpu/h200: no H200"), f("Request gpu/l40s: no L40S")}, 2)
	if len(got) != 1 || !strings.Contains(got[0].Message, "none of the 2 alternatives") || !strings.Contains(got[0].Message, "no H200; request gpu/l40s: no L40S") {
		t.Errorf("%+v", got)
	}
	if one := together([]incident.Finding{f("Request gpu: no H200")}, 1); len(one) != 1 || one[0].Message != "Request gpu: no H200" {
		t.Errorf("a request without alternatives: %+v", one)
	}
	other := f("x")
	other.Subject.Name = "d"
	if two := together([]incident.Finding{f("y"), other}, 2); len(two) != 2 {
		t.Errorf("two claims: %+v", two)
	}
}

func TestHardware(t *testing.T) {
	t.Parallel()
	for label, want := range map[string]bool{
		"nvidia.com/gpu.present": true, "feature.node.kubernetes.io/pci-10de.present": true, "feature.node.kubernetes.io/pci-0302_10de.present": true,
		"amd.com/gpu.family": true, "kubernetes.io/hostname": false, "feature.node.kubernetes.io/pci-8086.present": false, "topology.kubernetes.io/zone": false,
	} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{label: "true"}}}
		if got := hardware(n); got != want {
			t.Errorf("%s: %t", label, got)
		}
	}
}

func TestSaidOf(t *testing.T) {
	t.Parallel()
	r := resourceapi.DeviceRequestAllocationResult{Driver: "d", Pool: "p", Device: "g"}
	c := &resourceapi.ResourceClaim{Status: resourceapi.ResourceClaimStatus{Devices: []resourceapi.AllocatedDeviceStatus{{Driver: "d", Pool: "p", Device: "g", Conditions: []metav1.Condition{
		{Type: "attached", Status: "False", Reason: "Unreachable", Message: "no route to host"}, {Type: "other", Reason: "X"},
	}}}}}
	if got := saidOf(c, &r, []string{"attached"}); got != " (Unreachable: no route to host)" {
		t.Errorf("%q", got)
	}
	if got := saidOf(c, &r, []string{"silent"}); got != "" {
		t.Errorf("%q", got)
	}
}

func TestOfferedLike(t *testing.T) {
	t.Parallel()
	name := "nvidia.com/gpus"
	w := &world{
		nodes:   []*corev1.Node{{Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{"nvidia.com/mig-3g.40gb": resource.MustParse("8"), "nvidia.com/gpu": resource.MustParse("0"), "cpu": resource.MustParse("4")}}}},
		classes: map[string]*resourceapi.DeviceClass{"gpu.nvidia.com": {Spec: resourceapi.DeviceClassSpec{ExtendedResourceName: &name}}},
	}
	if got := offeredLike(w, "nvidia.com/mig-3g.20gb"); got != "nvidia.com/gpus (DeviceClass gpu.nvidia.com), nvidia.com/mig-3g.40gb" {
		t.Errorf("%q", got)
	}
	if got := offeredLike(w, "amd.com/gpu"); got != "" {
		t.Errorf("%q", got)
	}
}
