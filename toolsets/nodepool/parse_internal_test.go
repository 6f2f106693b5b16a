package nodepool

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

const yamlStatus = `time: 2026-11-27 11:59:40.1 +0000 UTC
autoscalerStatus: Running
aFieldOfTomorrow: {x: 1}
nodeGroups:
- name: aks-gpu-31147-vmss
  health:
    status: Unhealthy
    nodeCounts: {registered: {total: 3, ready: 2}, longUnregistered: 1, unregistered: 2}
    cloudProviderTarget: 5
    minSize: 1
    maxSize: 5
  scaleUp:
    status: Backoff
    backoffInfo: {errorCode: QuotaExceeded, errorMessage: no cores}
    lastTransitionTime: "2026-11-27T11:50:00Z"
- name: ""
`

const textStatus = `Cluster-autoscaler status at 2026-11-27 11:59:50.009 +0000 UTC:
Cluster-wide:
  Health:      Healthy (ready=7 unready=0)
NodeGroups:
  Name:        MachineDeployment/capi/gpu
  Health:      Unhealthy (ready=2 unready=1 notStarted=0 longNotStarted=0 registered=3 longUnregistered=1 cloudProviderTarget=5 (minSize=1, maxSize=5))
               LastTransitionTime: 2026-11-27 10:00:00.5 +0000 UTC m=+48.5
  ScaleUp:     Backoff (ready=2 cloudProviderTarget=5)
               LastProbeTime:      2026-11-27 11:59:49 +0000 UTC m=+571.7
               LastTransitionTime: 2026-11-27 11:50:00 +0000 UTC m=+547.3
  ScaleDown:   NoCandidates (candidates=0)
               LastTransitionTime: 2026-11-27 09:00:00 +0000 UTC m=+1
`

func TestParseStatus(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{"YAML": yamlStatus, "text": textStatus} {
		st, err := parseStatus(raw)
		if err != nil || len(st.groups) != 1 {
			t.Fatalf("%s: %v %+v", name, err, st)
		}
		g := st.groups[0]
		if g.min != 1 || g.max != 5 || g.target != 5 || g.ready != 2 || g.registered != 3 || g.longAbsent != 1 || g.healthy || g.scaleUp != "Backoff" || !g.atMax() ||
			st.at.Before(time.Date(2026, 11, 27, 11, 59, 0, 0, time.UTC)) || !g.since.Equal(time.Date(2026, 11, 27, 11, 50, 0, 0, time.UTC)) {
			t.Errorf("%s: %+v", name, g)
		}
	}
	for _, raw := range []string{"", "  \n", "nodeGroups: 7", strings.Repeat("x", maxStatus+1), "a: [b"} {
		if st, err := parseStatus(raw); err == nil || tool.UserText(err) == "" {
			t.Errorf("%.20q: %v %+v", raw, err, st)
		}
	}
	if (*group)(nil).atMax() || (&group{max: -1}).atMax() || (&group{max: 3, target: 2}).atMax() {
		t.Error("a group with room, or without figures, is called full")
	}
}

func TestReasonsOf(t *testing.T) {
	t.Parallel()
	for msg, want := range map[string][]string{
		"pod didn't trigger scale-up: 2 max node group size reached":                                 {"2 max node group size reached"},
		"pod didn't trigger scale-up: 1 Insufficient nvidia.com/gpu, 3 max node group size reached":  {"1 Insufficient nvidia.com/gpu", "3 max node group size reached"},
		"pod didn't trigger scale-up: 1 node(s) had untolerated taint {a: b, c}, 2 Insufficient cpu": {"1 node(s) had untolerated taint {a: b, c}", "2 Insufficient cpu"},
		"pod didn't trigger scale-up: ":                                        {},
		"pod didn't trigger scale-up (it wouldn't fit if a new node is added)": {},
		"pod didn't trigger scale-up: something without a figure":              {"something without a figure"},
	} {
		if got := reasonsOf(msg); !slices.Equal(got, want) {
			t.Errorf("%q: %q", msg, got)
		}
	}
	got := karpenterReasons(`Failed to schedule pod, incompatible with nodepool "a", did not tolerate x=y:NoSchedule; all available instance types exceed limits for nodepool: "b"`)
	if len(got) != 2 || exceeds.FindStringSubmatch(got[1])[1] != "b" || exceeds.FindStringSubmatch(got[0]) != nil {
		t.Errorf("%q", got)
	}
}

func TestGroupsAndPools(t *testing.T) {
	t.Parallel()
	for group, want := range map[string][3]string{
		"aks-gpunp-98036146-vmss":                           {"gpunp", aks, ""},
		"eks-p4d-96c0a1b2-7d1e-4c0f-9a5b-0123456789ab":      {"p4d", eks, ""},
		"MachineDeployment/capi/gpu-md-0":                   {"gpu-md-0", capi, "capi"},
		"https://x/zones/z/instanceGroups/gke-c-a-1a2b-grp": {"gke-c-a-1a2b-grp", labelled, ""},
		"my-asg": {"my-asg", labelled, ""},
	} {
		name, provider, ns := groupPool(group)
		if got := [3]string{name, provider, ns}; got != want {
			t.Errorf("%s: %q", group, got)
		}
	}
	w := &world{pools: []*pool{{name: "gpu"}, {name: "gpu-large"}, {name: "cpu"}}}
	if p := w.ofGroup("https://x/instanceGroups/gke-c-gpu-large-1a2b-grp"); p == nil || p.name != "gpu-large" {
		t.Errorf("%+v", p)
	}
	if p := w.ofGroup("gke-c-gpularge-1a2b-grp"); p != nil {
		t.Errorf("half a word is a pool: %+v", p)
	}
	for want, n := range map[string]*corev1.Node{
		"gpu/Karpenter":            {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"karpenter.sh/nodepool": "gpu", "agentpool": "x"}}},
		"a100/AKS":                 {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"agentpool": "a100"}}},
		"md-0/Cluster API":         {ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"cluster.x-k8s.io/owner-kind": "MachineSet", "cluster.x-k8s.io/owner-name": "md-0-abc12"}}},
		"p4d.24xlarge/H100/labels": {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"node.kubernetes.io/instance-type": "p4d.24xlarge", "nvidia.com/gpu.product": "H100"}}},
		"control-plane/labels":     {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"node-role.kubernetes.io/control-plane": ""}}},
		"/":                        {},
	} {
		name, provider := memberOf(n)
		if got := name + "/" + provider; got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

func TestDriverOf(t *testing.T) {
	t.Parallel()
	for want, labels := range map[string]map[string]string{
		"580.12.04": {"nvidia.com/cuda.driver-version.full": "580.12.04", "nvidia.com/cuda.driver.major": "570"},
		"570.86.15": {"nvidia.com/cuda.driver.major": "570", "nvidia.com/cuda.driver.minor": "86", "nvidia.com/cuda.driver.rev": "15"},
		"570":       {"nvidia.com/cuda.driver.major": "570"},
		"":          {"nvidia.com/cuda.driver.minor": "86"},
	} {
		if got := driverOf(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: labels}}); got != want {
			t.Errorf("%v: %q", labels, got)
		}
	}
}

// TestSigns holds the table against the words of clouds, and against words that only
// look like them.
func TestSigns(t *testing.T) {
	t.Parallel()
	rows, err := loadSigns()
	if err != nil {
		t.Fatal(err)
	}
	ts := &Toolset{signs: rows}
	seen := map[string]bool{}
	for msg, id := range map[string]string{
		"Operation could not be completed as it results in exceeding approved standardNDv5 Cores quota": "quota",
		"VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit of 0":    "quota",
		"QUOTA_EXCEEDED Instance 'a' creation failed: Quota 'NVIDIA_H100_GPUS' exceeded":                "quota",
		"GCE quota exceeded": "quota",
		"AllocationFailed: Allocation failed. We do not have sufficient capacity":                "capacity",
		"SkuNotAvailable: The requested VM size is currently not available":                      "capacity",
		"InsufficientInstanceCapacity: We currently do not have sufficient p5.48xlarge capacity": "capacity",
		"ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS":                                              "capacity",
		"GCE out of resources": "capacity",
		"SubnetIsFull: Subnet gpu with address prefix 10.1.0.0/24 does not have enough capacity": "addresses",
		"InsufficientFreeAddressesInSubnet":                                                                    "addresses",
		"AuthorizationFailed: The client does not have authorization to perform action":                        "permission",
		"UnauthorizedOperation: You are not authorized to perform this operation":                              "permission",
		"RequestDisallowedByPolicy: Resource was disallowed by policy":                                         "policy",
		"PodDrainFailure: Drain node failed: Cannot evict pod as it would violate the pod's disruption budget": "drain",
		"VMExtensionProvisioningError: VM has reported a failure when processing extension":                    "bootstrap",
		"TooManyRequests: the server is busy":                                                                  "throttled",
		"Ec2InstanceTypeDoesNotExist":                                                                          "machine-type",
		"the frobnicator is upset":                                                                             "other",
	} {
		got := ts.read(msg).ID
		seen[got] = true
		if got != id {
			t.Errorf("%q: row %s, want %s", msg, got, id)
		}
	}
	for _, r := range rows {
		if !seen[r.ID] {
			t.Errorf("no words are tried against row %s", r.ID)
		}
	}
}

func TestPhaseOf(t *testing.T) {
	t.Parallel()
	node := func(name, image string, age int, cordoned, up bool) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.azure.com/node-image-version": image}, CreationTimestamp: metav1.NewTime(time.Unix(int64(1e9-age), 0))}}
		n.Spec.Unschedulable = cordoned
		if up {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		}
		return n
	}
	busy := []*corev1.Pod{{Spec: corev1.PodSpec{NodeName: "b1"}}}
	for want, tc := range map[string]struct {
		nodes []*corev1.Node
		pods  []*corev1.Pod
	}{
		PhaseIdle:        {[]*corev1.Node{node("b1", "1", 9, false, true)}, busy},
		PhaseAddingGreen: {[]*corev1.Node{node("b1", "1", 9, false, true), node("g1", "2", 1, false, false)}, busy},
		PhaseUpgrading:   {[]*corev1.Node{node("b1", "1", 9, false, true), node("g1", "2", 1, false, true)}, busy},
		PhaseCordoning:   {[]*corev1.Node{node("b1", "1", 9, true, true), node("b2", "1", 9, false, true), node("g1", "2", 1, false, true)}, busy},
		PhaseDraining:    {[]*corev1.Node{node("b1", "1", 9, true, true), node("g1", "2", 1, false, true)}, busy},
		PhaseSoaking:     {[]*corev1.Node{node("b1", "1", 9, true, true), node("g1", "2", 1, false, true)}, nil},
	} {
		if got := phaseOf(colours(&pool{nodes: tc.nodes}), tc.pods); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// FuzzParseStatus: whatever is in the ConfigMap, an answer is bounded by it.
func FuzzParseStatus(f *testing.F) {
	for _, s := range []string{yamlStatus, textStatus, "", "Cluster-wide:", "Name: x\nHealth: (ready=99999999999999999999)", "nodeGroups: [{name: x, health: 7}]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		st, err := parseStatus(s)
		if err != nil {
			if tool.UserText(err) == "" {
				t.Fatal("an error without a sentence")
			}
			return
		}
		if len(st.groups) > len(s) {
			t.Fatalf("%d groups out of %d bytes", len(st.groups), len(s))
		}
	})
}

// FuzzReasonsOf: clauses are parts of the message, and there is an end to them.
func FuzzReasonsOf(f *testing.F) {
	for _, s := range []string{"pod didn't trigger scale-up: 2 max node group size reached, 1 x", "scale-up:1", "scale-up: , , 3 ", "scale-up: 9 9 9, 9 9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := reasonsOf(s); len(got) > len(s)+1 {
			t.Fatalf("%d reasons out of %d bytes", len(got), len(s))
		}
		karpenterReasons(s)
		scaled.FindAllStringSubmatch(s, 5)
		groupPool(s)
	})
}
