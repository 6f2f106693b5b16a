// Package filters asks the questions the scheduler's Filter plugins ask, for one
// pod and every node at once, and keeps all answers instead of the first: only
// then can one say which single refusal stands between a pod and a node. It is
// pure: everything it looks at is handed in.
package filters

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// Filter names a kind of refusal.
type Filter string

// Filters, named by what a person would change.
const (
	// Cordon: spec.unschedulable or its taint.
	Cordon Filter = "cordon"
	// Lifecycle: a taint that says the node itself is in trouble or still starting.
	Lifecycle Filter = "node-trouble"
	// Taint: any other NoSchedule or NoExecute taint.
	Taint Filter = "taint"
	// Selector: nodeSelector or required node affinity.
	Selector Filter = "selector"
	Resource Filter = "resources"
	// Affinity: required pod affinity or anti-affinity, of either side.
	Affinity Filter = "affinity"
	Spread   Filter = "spread"
	Port     Filter = "port"
	// Volume: a volume that cannot be reached from the node.
	Volume Filter = "volume"
	// Attach: the node's limit of attached volumes.
	Attach Filter = "attach-limit"
)

// World is the part of a cluster the filters look at.
type World struct {
	Pod   *corev1.Pod
	Nodes []*corev1.Node
	// Pods are all pods that may be on a node; those without one and those that
	// ended are passed over.
	Pods []*corev1.Pod
	// NamespaceLabels gives the labels of a namespace, for namespace selectors.
	// Nil means unknown: then only an empty selector matches.
	NamespaceLabels func(namespace string) (map[string]string, bool)
	// Volumes are what the pod's claims ask of a node.
	Volumes []VolumeNeed
	// Delegated reports an extended resource that a DeviceClass maps: where no
	// device plugin offers it, the DRA allocator answers and not the node.
	Delegated func(corev1.ResourceName) bool
	// FreeAttachments is how many more volumes of a CSI driver a node takes;
	// false where there is no limit. Nil means no limits are known.
	FreeAttachments func(node, driver string) (int, bool)
}

// VolumeNeed is what one of the pod's claims asks of a node.
type VolumeNeed struct {
	Claim, PV string
	// Affinity is the bound volume's required node affinity, nil for none.
	Affinity *corev1.NodeSelector
	// Topologies are where an unbound claim's class may provision; empty: anywhere.
	Topologies []corev1.TopologySelectorTerm
	// Driver is the CSI driver; Attached are the nodes that have the volume already.
	Driver   string
	Attached map[string]bool
	// HeldBy is the pod that uses a ReadWriteOncePod claim; it refuses every node.
	HeldBy string
}

// Refusal is one reason why one node does not take the pod.
type Refusal struct {
	Filter Filter
	// Key is the taint, resource, topology key, port or claim that decides.
	Key string
	// Why is a clause that fits "node X ...", without figures of the one node, so
	// that nodes of one shape have one text.
	Why string
	// Never says that the node could not take the pod even if it were empty.
	Never bool
	// Free and Capacity are the amounts of the resource, where it is one: free
	// now, and in all.
	Free, Capacity int64
	// Holder is the pod that has what is wanted, "namespace/name".
	Holder string
}

// Verdict is what one node says.
type Verdict struct {
	Node     *corev1.Node
	Refusals []Refusal
}

// Fits reports whether no filter refuses.
func (v Verdict) Fits() bool { return len(v.Refusals) == 0 }

// Filters lists the kinds of refusal, each once.
func (v Verdict) Filters() []Filter {
	var out []Filter
	for _, r := range v.Refusals {
		if !slices.Contains(out, r.Filter) {
			out = append(out, r.Filter)
		}
	}
	return out
}

// Simulation holds the indexes that make one pass over the nodes cheap.
type Simulation struct {
	w       World
	need    map[corev1.ResourceName]int64
	formats map[corev1.ResourceName]resource.Format
	byNode  map[string][]*corev1.Pod
	nodeOf  map[string]*corev1.Node
	require nodeaffinity.RequiredNodeAffinity
	volumes []volumeRule
	near    affinityIndex
	spread  []spreadRule
	ports   []hostPort
	logger  klog.Logger
}

// New indexes a world. It costs one pass over the pods.
func New(w World) *Simulation {
	s := &Simulation{w: w, byNode: map[string][]*corev1.Pod{}, nodeOf: make(map[string]*corev1.Node, len(w.Nodes)), logger: klog.Background()}
	for _, n := range w.Nodes {
		s.nodeOf[n.Name] = n
	}
	placed := make([]*corev1.Pod, 0, len(w.Pods))
	for _, p := range w.Pods {
		if p.Spec.NodeName == "" || over(p) || same(p, w.Pod) || s.nodeOf[p.Spec.NodeName] == nil {
			continue
		}
		s.byNode[p.Spec.NodeName] = append(s.byNode[p.Spec.NodeName], p)
		placed = append(placed, p)
	}
	s.require = nodeaffinity.GetRequiredNodeAffinity(w.Pod)
	s.need, s.formats = s.requested()
	s.ports = hostPorts(w.Pod)
	s.volumes = volumeRules(w.Volumes)
	s.near = s.indexAffinity(placed)
	s.spread = s.indexSpread()
	return s
}

func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func same(a, b *corev1.Pod) bool {
	return a == b || (a.UID != "" && a.UID == b.UID) || (a.Namespace == b.Namespace && a.Name == b.Name)
}

// Run asks every node, in the order in which the nodes were given.
func (s *Simulation) Run() []Verdict {
	out := make([]Verdict, len(s.w.Nodes))
	for i, n := range s.w.Nodes {
		out[i] = Verdict{Node: n, Refusals: s.ask(n)}
	}
	return out
}

func (s *Simulation) ask(n *corev1.Node) []Refusal {
	out := s.taints(n, nil)
	if ok, err := s.require.Match(n); !ok || err != nil {
		out = append(out, Refusal{Filter: Selector, Why: "labels do not match the node selector or affinity"})
	}
	out = s.resources(n, out)
	out = s.hostPortsOf(n, out)
	out = s.volumesOf(n, out)
	out = s.affinityOf(n, out)
	return s.spreadOf(n, out)
}

// taints collects every taint that refuses, where the scheduler stops at the first.
func (s *Simulation) taints(n *corev1.Node, out []Refusal) []Refusal {
	cordoned := n.Spec.Unschedulable
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		if t.Effect != corev1.TaintEffectNoSchedule && t.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		if t.Key == corev1.TaintNodeUnschedulable {
			cordoned = true
			continue
		}
		if corev1helpers.TolerationsTolerateTaint(s.logger, s.w.Pod.Spec.Tolerations, t, true) {
			continue
		}
		r := Refusal{Filter: Taint, Key: TaintText(*t), Why: "has taint " + TaintText(*t)}
		if IsLifecycle(t.Key) {
			r.Filter = Lifecycle
		}
		out = append(out, r)
	}
	if cordoned && !corev1helpers.TolerationsTolerateTaint(s.logger, s.w.Pod.Spec.Tolerations, &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}, true) {
		out = append(out, Refusal{Filter: Cordon, Why: "is cordoned"})
	}
	return out
}

// TaintText writes a taint as kubectl takes it: key=value:Effect.
func TaintText(t corev1.Taint) string {
	s := t.Key
	if t.Value != "" {
		s += "=" + t.Value
	}
	return s + ":" + string(t.Effect)
}

// IsLifecycle reports whether a taint is put on by the control plane or a node
// agent because the node is in trouble or not yet set up, rather than by a
// person who keeps pods away. Names: k8s.io/api/core/v1 well_known_taints.go,
// k8s.io/cloud-provider/api, and the start-up taints of Cilium and Karpenter.
func IsLifecycle(key string) bool {
	switch key {
	case corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure,
		corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeOutOfService:
		return true
	}
	return StartupTaint(key)
}

// StartupTaint reports whether a taint goes away by itself once an agent of the
// node has come up.
func StartupTaint(key string) bool {
	domain, name, ok := strings.Cut(key, "/")
	if !ok {
		return false
	}
	if domain == "node.kubernetes.io" || domain == "node-role.kubernetes.io" {
		return false
	}
	for _, w := range []string{"uninitialized", "agent-not-ready", "not-ready", "notready", "startup", "unregistered", "drifted", "disrupted"} {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}

// ControlPlane reports whether a taint marks the control plane's own nodes.
func ControlPlane(taint string) bool {
	return strings.HasPrefix(taint, "node-role.kubernetes.io/control-plane") || strings.HasPrefix(taint, "node-role.kubernetes.io/master")
}
