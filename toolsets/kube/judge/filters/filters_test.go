package filters

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// read makes an object of YAML; it fails the test on an unknown field.
func read[T any](t testing.TB, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

func node(t testing.TB, name, extra string) *corev1.Node {
	t.Helper()
	n := read[corev1.Node](t, extra)
	n.Name = name
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelHostname] = name
	if n.Status.Allocatable == nil {
		n.Status.Allocatable = read[corev1.NodeStatus](t, `{allocatable: {cpu: "8", memory: 32Gi, pods: "110"}}`).Allocatable
	}
	return n
}

func pod(t testing.TB, name, onNode, spec string) *corev1.Pod {
	t.Helper()
	p := read[corev1.Pod](t, spec)
	p.Name, p.UID = name, types.UID(name)
	if p.Namespace == "" {
		p.Namespace = "team"
	}
	p.Spec.NodeName = onNode
	return p
}

const oneCPU = `{spec: {containers: [{name: c, resources: {requests: {cpu: "1", memory: 1Gi}}}]}}`

// said writes the refusals of a run: "node: filter key; filter key".
func said(vs []Verdict) []string {
	var out []string
	for _, v := range vs {
		var parts []string
		for _, r := range v.Refusals {
			parts = append(parts, strings.TrimSpace(string(r.Filter)+" "+r.Key))
		}
		out = append(out, v.Node.Name+": "+strings.Join(parts, "; "))
	}
	return out
}

func TestFilters(t *testing.T) {
	t.Parallel()
	n := func(name, extra string) *corev1.Node { return node(t, name, extra) }
	p := func(name, on, spec string) *corev1.Pod { return pod(t, name, on, spec) }
	replicas := `{metadata: {labels: {app: web}}, spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}]}}}}`
	cases := []struct {
		name  string
		world World
		want  []string
	}{
		{"an empty node fits", World{Pod: p("x", "", oneCPU), Nodes: []*corev1.Node{n("a", "{}")}}, []string{"a: "}},
		{"taints: all that refuse, PreferNoSchedule never, trouble told apart", World{Pod: p("x", "", `{spec: {tolerations: [{key: ok, operator: Exists}]}}`), Nodes: []*corev1.Node{
			n("a", `{spec: {taints: [{key: ok, effect: NoSchedule}, {key: soft, effect: PreferNoSchedule}]}}`),
			n("b", `{spec: {taints: [{key: team, value: ml, effect: NoSchedule}, {key: node.kubernetes.io/not-ready, effect: NoExecute}]}}`),
			n("c", `{spec: {taints: [{key: node.cilium.io/agent-not-ready, effect: NoExecute}]}}`)}},
			[]string{"a: ", "b: taint team=ml:NoSchedule; node-trouble node.kubernetes.io/not-ready:NoExecute", "c: node-trouble node.cilium.io/agent-not-ready:NoExecute"}},
		{"a cordon is one refusal, with and without its taint", World{Pod: p("x", "", "{}"), Nodes: []*corev1.Node{
			n("a", `{spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}}`), n("b", `{spec: {unschedulable: true}}`)}},
			[]string{"a: cordon", "b: cordon"}},
		{"a pod that tolerates the unschedulable taint goes to a cordoned node", World{Pod: p("x", "", `{spec: {tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists, effect: NoSchedule}]}}`), Nodes: []*corev1.Node{n("a", `{spec: {unschedulable: true}}`)}}, []string{"a: "}},
		{"node selector and affinity, by label and by name", World{Pod: p("x", "", `{spec: {nodeSelector: {disk: ssd}, affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [a]}]}]}}}}}`), Nodes: []*corev1.Node{
			n("a", `{metadata: {labels: {disk: ssd}}}`), n("b", "{}"), n("c", `{metadata: {labels: {disk: ssd}}}`)}}, []string{"a: ", "b: selector", "c: selector"}},
		{"resources: requests of the pods there, sidecars and overhead counted, ended pods not", World{Pod: p("x", "", `{spec: {overhead: {cpu: 500m}, initContainers: [{name: s, restartPolicy: Always, resources: {requests: {cpu: "1"}}}], containers: [{name: c, resources: {requests: {cpu: "6"}}}]}}`), Nodes: []*corev1.Node{n("a", "{}"), n("b", "{}"), n("c", "{}")},
			Pods: []*corev1.Pod{p("p1", "a", oneCPU), p("p2", "b", `{spec: {containers: [{name: c, resources: {requests: {cpu: 400m}}}]}}`), p("p3", "c", `{status: {phase: Succeeded}, spec: {containers: [{name: c, resources: {requests: {cpu: "8"}}}]}}`)}},
			[]string{"a: resources cpu", "b: ", "c: "}},
		{"the pod itself does not stand in its own way", World{Pod: p("x", "", `{spec: {containers: [{name: c, resources: {requests: {cpu: "5"}}}]}}`), Nodes: []*corev1.Node{n("a", "{}")}, Pods: []*corev1.Pod{p("x", "a", `{spec: {containers: [{name: c, resources: {requests: {cpu: "5"}}}]}}`)}}, []string{"a: "}},
		{"a full node takes no more pods", World{Pod: p("x", "", "{}"), Nodes: []*corev1.Node{n("a", `{status: {allocatable: {cpu: "8", pods: "1"}}}`)}, Pods: []*corev1.Pod{p("p1", "a", "{}")}}, []string{"a: resources pods"}},
		{"an extended resource nobody offers, unless DRA answers for it", World{Pod: p("x", "", `{spec: {containers: [{name: c, resources: {requests: {example.com/gpu: "2", example.com/nic: "1"}}}]}}`), Nodes: []*corev1.Node{n("a", "{}")}, Delegated: func(r corev1.ResourceName) bool { return r == "example.com/nic" }}, []string{"a: resources example.com/gpu"}},
		{"host ports clash by port, protocol and address", World{Pod: p("x", "", `{spec: {containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080}]}]}}`), Nodes: []*corev1.Node{n("a", "{}"), n("b", "{}"), n("c", "{}")}, Pods: []*corev1.Pod{
			p("p1", "a", `{spec: {containers: [{name: c, ports: [{containerPort: 1, hostPort: 8080, protocol: TCP, hostIP: 10.0.0.1}]}]}}`),
			p("p2", "b", `{spec: {containers: [{name: c, ports: [{containerPort: 1, hostPort: 8080, protocol: UDP}]}]}}`)}}, []string{"a: port 8080", "b: ", "c: "}},
		{"anti-affinity among replicas is one refusal", World{Pod: p("x", "", replicas), Nodes: []*corev1.Node{n("a", "{}"), n("b", "{}")}, Pods: []*corev1.Pod{p("p1", "a", replicas)}}, []string{"a: affinity app=web in one kubernetes.io/hostname", "b: "}},
		{"the anti-affinity of pods already there refuses too", World{Pod: p("x", "", `{metadata: {labels: {app: web}}}`), Nodes: []*corev1.Node{n("a", "{}"), n("b", "{}")}, Pods: []*corev1.Pod{p("p1", "a", replicas)}}, []string{"a: affinity anti-affinity over kubernetes.io/hostname", "b: "}},
		{"anti-affinity of another namespace does not reach here", World{Pod: p("x", "", `{metadata: {labels: {app: web}}}`), Nodes: []*corev1.Node{n("a", "{}")}, Pods: []*corev1.Pod{p("p1", "a", strings.Replace(replicas, "metadata: {", "metadata: {namespace: other, ", 1))}}, []string{"a: "}},
		{"affinity wants company in the same zone", World{Pod: p("x", "", `{spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {app: cache}}}]}}}}`),
			Nodes: []*corev1.Node{n("a", `{metadata: {labels: {zone: z1}}}`), n("b", `{metadata: {labels: {zone: z1}}}`), n("c", `{metadata: {labels: {zone: z2}}}`), n("d", "{}")}, Pods: []*corev1.Pod{p("p1", "a", `{metadata: {labels: {app: cache}}}`)}},
			[]string{"a: ", "b: ", "c: affinity app=cache in one zone", "d: affinity app=cache in one zone"}},
		{"the first of a group that asks for itself fits anywhere", World{Pod: p("x", "", `{metadata: {labels: {app: ring}}, spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone, labelSelector: {matchLabels: {app: ring}}}]}}}}`), Nodes: []*corev1.Node{n("a", `{metadata: {labels: {zone: z1}}}`)}}, []string{"a: "}},
		{"a namespace selector is matched against the namespace's labels", World{Pod: p("x", "", `{spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {}, namespaceSelector: {matchLabels: {tier: db}}}]}}}}`), Nodes: []*corev1.Node{n("a", "{}"), n("b", "{}")},
			Pods: []*corev1.Pod{p("p1", "a", `{metadata: {namespace: data}}`), p("p2", "b", `{metadata: {namespace: web}}`)},
			NamespaceLabels: func(ns string) (map[string]string, bool) {
				return map[string]string{"tier": map[string]string{"data": "db"}[ns]}, true
			}}, []string{"a: affinity <none> in one kubernetes.io/hostname", "b: "}},
		{"spread counts over eligible nodes and pods that stay", World{Pod: p("x", "", `{metadata: {labels: {app: web}}, spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}]}}`),
			Nodes: []*corev1.Node{n("a", `{metadata: {labels: {zone: z1}}}`), n("b", `{metadata: {labels: {zone: z2}}}`), n("c", "{}")}, Pods: []*corev1.Pod{p("p1", "a", `{metadata: {labels: {app: web}}}`)}},
			[]string{"a: spread zone", "b: ", "c: spread zone"}},
		{"spread with too few domains counts the missing ones as empty", World{Pod: p("x", "", `{metadata: {labels: {app: web}}, spec: {topologySpreadConstraints: [{maxSkew: 1, minDomains: 3, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}]}}`),
			Nodes: []*corev1.Node{n("a", `{metadata: {labels: {zone: z1}}}`), n("b", `{metadata: {labels: {zone: z2}}}`)}, Pods: []*corev1.Pod{p("p1", "a", `{metadata: {labels: {app: web}}}`), p("p2", "b", `{metadata: {labels: {app: web}}}`)}},
			[]string{"a: spread zone", "b: spread zone"}},
		{"spread that may be broken refuses nothing", World{Pod: p("x", "", `{metadata: {labels: {app: web}}, spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}]}}`), Nodes: []*corev1.Node{n("a", "{}")}}, []string{"a: "}},
		{"spread over nodes the pod tolerates only, when it says so", World{Pod: p("x", "", `{metadata: {labels: {app: web}}, spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, nodeTaintsPolicy: Honor, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}]}}`),
			Nodes: []*corev1.Node{n("a", `{metadata: {labels: {zone: z1}}}`), n("b", `{metadata: {labels: {zone: z2}}, spec: {taints: [{key: t, effect: NoSchedule}]}}`)}, Pods: []*corev1.Pod{p("p1", "a", `{metadata: {labels: {app: web}}}`)}},
			[]string{"a: ", "b: taint t:NoSchedule"}},
		{"a volume is reached from its zone only", World{Pod: p("x", "", "{}"), Nodes: []*corev1.Node{n("a", `{metadata: {labels: {zone: z1}}}`), n("b", `{metadata: {labels: {zone: z2}}}`)},
			Volumes: []VolumeNeed{{Claim: "data", PV: "pv1", Affinity: read[corev1.NodeSelector](t, `{nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [z1]}]}]}`)}}}, []string{"a: ", "b: volume data"}},
		{"an unbound claim is provisioned where its class may", World{Pod: p("x", "", "{}"), Nodes: []*corev1.Node{n("a", `{metadata: {labels: {zone: z1}}}`), n("b", `{metadata: {labels: {zone: z2}}}`)},
			Volumes: []VolumeNeed{{Claim: "data", Topologies: []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: "zone", Values: []string{"z2"}}}}}}}}, []string{"a: volume data", "b: "}},
		{"a ReadWriteOncePod claim in use refuses every node", World{Pod: p("x", "", "{}"), Nodes: []*corev1.Node{n("a", "{}")}, Volumes: []VolumeNeed{{Claim: "data", HeldBy: "team/other"}}}, []string{"a: volume data"}},
		{"attach limits count volumes not there yet", World{Pod: p("x", "", "{}"), Nodes: []*corev1.Node{n("a", "{}"), n("b", "{}"), n("c", "{}")},
			Volumes:         []VolumeNeed{{Claim: "d1", Driver: "csi.example.com", Attached: map[string]bool{"b": true}}, {Claim: "d2", Driver: "csi.example.com"}},
			FreeAttachments: func(n, _ string) (int, bool) { return map[string]int{"a": 1, "b": 1}[n], n != "c" }}, []string{"a: attach-limit csi.example.com", "b: ", "c: "}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, said(New(c.world).Run())); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	full := func(on string) *corev1.Pod {
		return pod(t, "full-"+on, on, `{spec: {containers: [{name: c, resources: {requests: {cpu: "8"}}}]}}`)
	}
	gpu := `{spec: {containers: [{name: c, resources: {requests: {example.com/gpu: "1"}}}]}}`
	gpuNode := `status: {allocatable: {cpu: "8", memory: 32Gi, pods: "110", example.com/gpu: "4"}}`
	cases := []struct {
		name   string
		pod    string
		nodes  map[string]string
		pods   []*corev1.Pod
		main   Filter
		count  int
		with   []Filter
		others []Filter
	}{
		{name: "the control plane's taint is meant, full workers are not", pod: oneCPU, main: Resource, count: 1, others: []Filter{Taint},
			nodes: map[string]string{"cp": `{spec: {taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]}}`, "w1": "{}"}, pods: []*corev1.Pod{full("w1")}},
		{name: "only a control plane: then its taint decides", pod: oneCPU, main: Taint, count: 1, nodes: map[string]string{"cp": `{spec: {taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]}}`}},
		{name: "nodes without the device do not count; the tainted ones that have it do", pod: gpu, main: Taint, count: 1, others: []Filter{Resource},
			nodes: map[string]string{"cpu-1": "{}", "cpu-2": "{}", "gpu-1": `{spec: {taints: [{key: gpu, effect: NoSchedule}]}, ` + gpuNode + `}`}},
		{name: "a dedicated pool is meant, the shared one is full", pod: oneCPU, main: Resource, count: 1, others: []Filter{Taint},
			nodes: map[string]string{"w1": "{}", "d1": `{spec: {taints: [{key: dedicated, value: ml, effect: NoSchedule}]}}`, "d2": `{spec: {taints: [{key: dedicated, value: ml, effect: NoSchedule}]}}`}, pods: []*corev1.Pod{full("w1")}},
		{name: "more nodes out of service than full", pod: oneCPU, main: Cordon, count: 2, others: []Filter{Resource},
			nodes: map[string]string{"w1": "{}", "w2": `{spec: {unschedulable: true}}`, "w3": `{spec: {unschedulable: true}}`}, pods: []*corev1.Pod{full("w1")}},
		{name: "more nodes full than cordoned", pod: oneCPU, main: Resource, count: 2, others: []Filter{Cordon},
			nodes: map[string]string{"w1": "{}", "w2": "{}", "w3": `{spec: {unschedulable: true}}`}, pods: []*corev1.Pod{full("w1"), full("w2")}},
		{name: "the nodes the pod selects are full; that others are not is its own wish", pod: `{spec: {nodeSelector: {pool: a}, containers: [{name: c, resources: {requests: {cpu: "1"}}}]}}`, main: Resource, count: 1, others: []Filter{Selector},
			nodes: map[string]string{"w1": `{metadata: {labels: {pool: a}}}`, "w2": `{metadata: {labels: {pool: b}}}`}, pods: []*corev1.Pod{full("w1")}},
		{name: "no node has the label", pod: `{spec: {nodeSelector: {pool: c}}}`, main: Selector, count: 2, nodes: map[string]string{"w1": `{metadata: {labels: {pool: a}}}`, "w2": "{}"}},
		{name: "the nodes it selects never have the device, others do", pod: `{spec: {nodeSelector: {pool: a}, containers: [{name: c, resources: {requests: {example.com/gpu: "1"}}}]}}`, main: Selector, count: 1, others: []Filter{Resource},
			nodes: map[string]string{"w1": `{metadata: {labels: {pool: a}}}`, "g1": `{metadata: {labels: {pool: g}}, ` + gpuNode + `}`}},
		{name: "two things at once on the node it wants", pod: `{spec: {nodeSelector: {pool: a}, containers: [{name: c, resources: {requests: {cpu: "1"}}}]}}`, main: Taint, count: 1, with: []Filter{Resource}, others: []Filter{Selector},
			nodes: map[string]string{"w1": `{metadata: {labels: {pool: a}}, spec: {taints: [{key: t, effect: NoSchedule}]}}`, "w2": "{}"}, pods: []*corev1.Pod{full("w1")}},
		{name: "a node that is down and cordoned is down", pod: oneCPU, main: Lifecycle, count: 1, nodes: map[string]string{"w1": `{spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unreachable, effect: NoSchedule}]}}`}},
		{name: "too large for every node", pod: `{spec: {containers: [{name: c, resources: {requests: {memory: 200Gi}}}]}}`, main: Resource, count: 2, nodes: map[string]string{"w1": "{}", "w2": "{}"}},
		{name: "something fits", pod: oneCPU, nodes: map[string]string{"w1": "{}", "w2": `{spec: {unschedulable: true}}`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var nodes []*corev1.Node
			for _, name := range []string{"cp", "cpu-1", "cpu-2", "d1", "d2", "g1", "gpu-1", "w1", "w2", "w3"} {
				if extra, ok := c.nodes[name]; ok {
					nodes = append(nodes, node(t, name, extra))
				}
			}
			s := New(World{Pod: pod(t, "x", "", c.pod), Nodes: nodes, Pods: c.pods})
			d := s.Decide(s.Run())
			if c.main == "" {
				if d.Main != nil || d.Fits == 0 {
					t.Fatalf("want a node that fits, got %+v", d)
				}
				return
			}
			if d.Main == nil {
				t.Fatal("no cause")
			}
			var others []Filter
			for _, o := range d.Others {
				others = append(others, o.Filter)
			}
			type answer struct {
				Main         Filter
				Count        int
				With, Others []Filter
			}
			got := answer{d.Main.Filter, len(d.Main.Nodes), d.Main.With, others}
			if len(got.With) == 0 {
				got.With = nil
			}
			if diff := cmp.Diff(answer{c.main, c.count, c.with, c.others}, got); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	cases := []struct {
		text string
		want Said
	}{
		{"0/4 nodes are available: 1 node(s) had untolerated taint {gpu: true}, 1 node(s) were unschedulable, 2 Insufficient cpu, 2 Insufficient memory. preemption: 0/4 nodes are available: 2 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.",
			Said{Nodes: 4, Counts: map[Filter]int{Taint: 1, Cordon: 1, Resource: 4}}},
		{"0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod anti-affinity rules, 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.", Said{Nodes: 3, Counts: map[Filter]int{Selector: 1, Affinity: 1, Lifecycle: 1}}},
		{"0/2 nodes are available: 2 node(s) had volume node affinity conflict.", Said{Nodes: 2, Counts: map[Filter]int{Volume: 2}}},
		{"0/2 nodes are available: 2 cannot allocate all claims.", Said{Nodes: 2, Counts: map[Filter]int{}, Claims: true, Claimed: 2}},
		{"0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.", Said{Nodes: 2, Counts: map[Filter]int{}, Waits: true}},
		{`0/2 nodes are available: persistentvolumeclaim "x" not found.`, Said{Nodes: 2, Counts: map[Filter]int{}, Waits: true}},
		{"0/5 nodes are available: 5 node(s) were refused by the house plugin.", Said{Nodes: 5, Counts: map[Filter]int{}, Unknown: []string{"node(s) were refused by the house plugin"}}},
		{"", Said{Counts: map[Filter]int{}}},
	}
	for _, c := range cases {
		if diff := cmp.Diff(c.want, Read(c.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.text, diff)
		}
	}
}

func TestOnlyClaims(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.": true,
		"0/3 nodes are available: 1 cannot allocate all claims, 2 resourceclaim not available on the node.":                                                              true,
		"0/3 nodes are available: 1 Insufficient cpu, 2 cannot allocate all claims.":                                                                                     false,
		"0/3 nodes are available: 2 cannot allocate all claims.":                                                                                                         false,
		"0/3 nodes are available: 1 node(s) were refused by the house plugin, 2 cannot allocate all claims.":                                                             false,
		"0/3 nodes are available: waiting for resource driver to provide information.":                                                                                   false,
		"cannot allocate all claims": false,
		"":                           false,
	} {
		if got := Read(text).OnlyClaims(); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestDiffers(t *testing.T) {
	t.Parallel()
	fits := []Verdict{{Node: &corev1.Node{}}, {Node: &corev1.Node{}, Refusals: []Refusal{{Filter: Resource}}}}
	got := Read("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}.").Differs(fits)
	want := []string{"the scheduler counted 2 nodes against taint, and now none is", "1 nodes fit by this simulation", "it saw 3 nodes, now there are 2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Read("0/2 nodes are available: 2 cannot allocate all claims.").Differs(fits); got != nil {
		t.Errorf("devices are judged elsewhere, got %v", got)
	}
}

func TestDemands(t *testing.T) {
	t.Parallel()
	s := New(World{Pod: pod(t, "x", "", `{spec: {nodeSelector: {zone: z9, pool: gpu}}}`), Nodes: []*corev1.Node{
		node(t, "a", `{metadata: {labels: {zone: z1, pool: gpu}}}`), node(t, "b", `{metadata: {labels: {zone: z1, pool: cpu}}}`), node(t, "c", `{metadata: {labels: {zone: z2, pool: gpu}}}`)}})
	want := []Demand{{Text: "pool=gpu", Nodes: 2, Values: []string{"gpu (2)", "cpu (1)"}}, {Text: "zone=z9", Values: []string{"z1 (2)", "z2 (1)"}, Alone: true}}
	if diff := cmp.Diff(want, s.Demands(nil)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRoom(t *testing.T) {
	t.Parallel()
	low, gone := int32(-10), metav1.NewTime(time.Unix(1, 0))
	cheap := pod(t, "cheap", "a", `{spec: {containers: [{name: c, resources: {requests: {cpu: "8"}}}]}}`)
	cheap.Spec.Priority = &low
	leaving := pod(t, "leaving", "b", `{spec: {containers: [{name: c, resources: {requests: {cpu: "8"}}}]}}`)
	leaving.DeletionTimestamp = &gone
	nodes := []*corev1.Node{node(t, "a", "{}"), node(t, "b", "{}"), node(t, "c", "{}")}
	s := New(World{Pod: pod(t, "x", "", oneCPU), Nodes: nodes, Pods: []*corev1.Pod{cheap, leaving}})
	if got := s.Preemptible(nodes[:2]); got != 1 {
		t.Errorf("preemptible %d, want the node of the cheap pod", got)
	}
	if got := s.Leaving(nodes[1]); len(got) != 1 || got[0].Name != "leaving" {
		t.Errorf("leaving %v", got)
	}
	if got := s.Leaving(nodes[0]); got != nil {
		t.Errorf("nobody leaves a, got %v", got)
	}
	if got := s.Slots(s.Run(), 100); got != 8 {
		t.Errorf("slots %d, want the 8 of node c", got)
	}
	never := corev1.PreemptNever
	s.w.Pod.Spec.PreemptionPolicy = &never
	if got := s.Preemptible(nodes); got != 0 {
		t.Errorf("a pod that may not preempt: %d", got)
	}
}

func BenchmarkRun(b *testing.B) {
	var nodes []*corev1.Node
	var pods []*corev1.Pod
	spec := `{metadata: {labels: {app: web}}, spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}]}},
	topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}], containers: [{name: c, resources: {requests: {cpu: "1", memory: 1Gi}}}]}}`
	for i := range 5000 {
		nodes = append(nodes, node(b, fmt.Sprint("n", i), fmt.Sprintf(`{metadata: {labels: {zone: z%d}}}`, i%3)))
	}
	for i := range 20000 {
		pods = append(pods, pod(b, fmt.Sprint("p", i), fmt.Sprint("n", i%5000), spec))
	}
	w := World{Pod: pod(b, "x", "", spec), Nodes: nodes, Pods: pods}
	b.ReportAllocs()
	for b.Loop() {
		s := New(w)
		if d := s.Decide(s.Run()); d.Fits != 0 {
			b.Fatal("one node fits")
		}
	}
}
