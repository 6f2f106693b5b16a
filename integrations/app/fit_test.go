package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/place"
)

func machine(labels map[string]string, change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: labels}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if change != nil {
		change(n)
	}
	return n
}

// A node is barred when a new pod may not come; the taints that keep pods without
// GPUs away bar nobody who asks for one.
func TestNodeOf(t *testing.T) {
	t.Parallel()
	taint := func(key, value string, effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: key, Value: value, Effect: effect}}
		}
	}
	tests := []struct {
		name   string
		labels map[string]string
		change func(*corev1.Node)
		want   place.Node
	}{
		{"plain", map[string]string{"node.kubernetes.io/instance-type": "p5.48xlarge", "topology.kubernetes.io/region": "us-east-1"}, nil, place.Node{Name: "n1", SKU: "p5.48xlarge", Region: "us-east-1"}},
		{"spot", map[string]string{"kubernetes.azure.com/scalesetpriority": "spot"}, taint("sku", "gpu", corev1.TaintEffectNoSchedule), place.Node{Name: "n1", Spot: true}},
		{"GPU taint", nil, taint("nvidia.com/gpu", "present", corev1.TaintEffectNoSchedule), place.Node{Name: "n1"}},
		{"preference", nil, taint("team", "a", corev1.TaintEffectPreferNoSchedule), place.Node{Name: "n1"}},
		{"foreign taint", nil, taint("team", "a", corev1.TaintEffectNoSchedule), place.Node{Name: "n1", Barred: "tainted team=a:NoSchedule, which the pod must tolerate"}},
		{"cordoned", nil, func(n *corev1.Node) { n.Spec.Unschedulable = true }, place.Node{Name: "n1", Barred: "cordoned"}},
		{"not ready", nil, func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }, place.Node{Name: "n1", Barred: "not ready"}},
		{"no condition", nil, func(n *corev1.Node) { n.Status.Conditions = nil }, place.Node{Name: "n1", Barred: "not ready"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, nodeOf(machine(tc.labels, tc.change))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlugged(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		resource corev1.ResourceName
		labels   map[string]string
		product  string
		mib      int
	}{
		{"nvidia.com/gpu", map[string]string{"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}, "NVIDIA-L4", 23034},
		{"nvidia.com/gpu", map[string]string{"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "much"}, "NVIDIA-L4", 0},
		{"nvidia.com/gpu", nil, "", 0},
		{"nvidia.com/mig-1g.10gb", map[string]string{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/mig-1g.10gb.memory": "9984"}, "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", 9984},
		{"nvidia.com/gpu.shared", map[string]string{"nvidia.com/gpu.product": "NVIDIA-A10"}, "NVIDIA-A10-SHARED", 0},
		{"amd.com/gpu", map[string]string{"amd.com/gpu.product-name": "AMD_Instinct_MI300X"}, "AMD_Instinct_MI300X", 0},
	} {
		n := plugged(machine(tc.labels, nil), tc.resource)
		if n.Product != tc.product || n.MiB != tc.mib {
			t.Errorf("%s with %v: %q, %d MiB", tc.resource, tc.labels, n.Product, n.MiB)
		}
	}
}

func TestGPURequests(t *testing.T) {
	t.Parallel()
	ask := func(n int64) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(n, resource.DecimalSI), "cpu": *resource.NewQuantity(4, resource.DecimalSI)}}
	}
	p := &corev1.Pod{Spec: corev1.PodSpec{
		Containers:     []corev1.Container{{Resources: ask(1)}, {Resources: ask(2)}},
		InitContainers: []corev1.Container{{Resources: ask(4)}, {Resources: ask(1)}},
	}}
	if diff := cmp.Diff(map[corev1.ResourceName]int64{"nvidia.com/gpu": 4}, gpuRequests(p)); diff != "" {
		t.Error(diff)
	}
	p.Spec.InitContainers = nil
	if diff := cmp.Diff(map[corev1.ResourceName]int64{"nvidia.com/gpu": 3}, gpuRequests(p)); diff != "" {
		t.Error(diff)
	}
}

// The inventory of a recorded cluster: what its pods hold is not free.
func TestInventoryOfBundle(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.Bundle = "../../evals/cases/fit-fewer-gpus-than-split/bundle"
	s, err := clusterStock(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := []place.Node{{Name: "gpu-h100-1", Product: "NVIDIA-H100-80GB-HBM3", MiB: 81559, Total: 8, Free: 7, SKU: "p5.48xlarge", Region: "us-east-1", Source: "allocatable nvidia.com/gpu"}}
	if diff := cmp.Diff(want, s.Nodes); diff != "" {
		t.Error(diff)
	}
	if len(s.Gaps) != 0 {
		t.Errorf("%+v", s.Gaps)
	}
	cfg.Bundle = "../../evals/cases/dra-selector-excludes-all/bundle"
	if s, err = clusterStock(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range s.Nodes {
		total += n.Total
		if n.MiB == 0 || n.Product == "" {
			t.Errorf("%+v", n)
		}
	}
	if total != 48 {
		t.Errorf("%d GPUs, the cluster has 48", total)
	}
}
