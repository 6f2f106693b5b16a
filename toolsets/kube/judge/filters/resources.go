package filters

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Pods is the resource name of a node's number of pods.
const Pods = string(corev1.ResourcePods)

// amount is a quantity in the scheduler's own unit: thousandths for cpu, whole
// numbers for the rest.
func amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// requested is what the scheduler counts for the pod: containers, init
// containers, sidecars and overhead.
func (s *Simulation) requested() (map[corev1.ResourceName]int64, map[corev1.ResourceName]resource.Format) {
	need, formats := map[corev1.ResourceName]int64{}, map[corev1.ResourceName]resource.Format{}
	for name, q := range resourcehelper.PodRequests(s.w.Pod, resourcehelper.PodResourcesOptions{}) {
		if n := amount(name, q); n > 0 {
			need[name], formats[name] = n, q.Format
		}
	}
	return need, formats
}

// Text writes an amount of a resource as Kubernetes would.
func (s *Simulation) Text(name string, n int64) string {
	if name == string(corev1.ResourceCPU) {
		return resource.NewMilliQuantity(n, resource.DecimalSI).String()
	}
	f := s.formats[corev1.ResourceName(name)]
	if f == "" {
		f = resource.DecimalSI
	}
	// A free amount is seldom a round number; the nearest smaller Mi reads better.
	if f == resource.BinarySI && n > 1<<30 && n%(1<<20) != 0 {
		n -= n % (1 << 20)
	}
	return resource.NewQuantity(n, f).String()
}

// Need is the pod's request of a resource, 0 if there is none.
func (s *Simulation) Need(name string) int64 {
	if name == Pods {
		return 1
	}
	return s.need[corev1.ResourceName(name)]
}

// Extended reports whether the pod requests a resource that only some nodes
// have: a device.
func (s *Simulation) Extended() bool {
	for name := range s.need {
		if IsExtended(string(name)) {
			return true
		}
	}
	return false
}

// IsExtended reports whether a resource name is a device plugin's.
func IsExtended(name string) bool {
	return strings.Contains(name, "/") && !strings.HasPrefix(name, corev1.ResourceHugePagesPrefix) && !strings.HasPrefix(name, corev1.ResourceDefaultNamespacePrefix)
}

// usage sums what the pods of a node hold of the resources the pod wants.
// Terminating pods count until they are gone, as they do for the scheduler.
func (s *Simulation) usage(node string, count func(*corev1.Pod) bool) map[corev1.ResourceName]int64 {
	used := make(map[corev1.ResourceName]int64, len(s.need))
	var reuse corev1.ResourceList
	for _, p := range s.byNode[node] {
		if count != nil && !count(p) {
			continue
		}
		reuse = resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{Reuse: reuse, UseStatusResources: true})
		for name := range s.need {
			if q, ok := reuse[name]; ok {
				used[name] += amount(name, q)
			}
		}
	}
	return used
}

func (s *Simulation) resources(n *corev1.Node, out []Refusal) []Refusal {
	// A node that does not say how many pods it takes (a recorded one) is not full.
	if q, said := n.Status.Allocatable[corev1.ResourcePods]; said && int64(len(s.byNode[n.Name]))+1 > q.Value() {
		most := q.Value()
		out = append(out, Refusal{Filter: Resource, Key: Pods, Why: "has no room for another pod", Free: max(most-int64(len(s.byNode[n.Name])), 0), Capacity: most, Never: most == 0})
	}
	if len(s.need) == 0 {
		return out
	}
	used := s.usage(n.Name, nil)
	from := len(out)
	for name, want := range s.need {
		q := n.Status.Allocatable[name]
		capacity := amount(name, q)
		if capacity == 0 && IsExtended(string(name)) && s.w.Delegated != nil && s.w.Delegated(name) {
			continue
		}
		if free := capacity - used[name]; free < want {
			why := "has too little " + string(name) + " free"
			switch {
			case capacity == 0 && IsExtended(string(name)):
				why = "has no " + string(name)
			case capacity < want:
				why = "has too little " + string(name) + " even when empty"
			}
			out = append(out, Refusal{Filter: Resource, Key: string(name), Why: why, Free: max(free, 0), Capacity: capacity, Never: capacity < want})
		}
	}
	slices.SortFunc(out[from:], func(a, b Refusal) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Offered reports whether any node has the resource at all.
func (s *Simulation) Offered(name string) bool {
	return slices.ContainsFunc(s.w.Nodes, func(n *corev1.Node) bool {
		q := n.Status.Allocatable[corev1.ResourceName(name)]
		return !q.IsZero()
	})
}

// HeldBack reports whether a node has the resource installed but does not offer
// enough of it, so that the healthy rest is what is missing.
func (s *Simulation) HeldBack(n *corev1.Node, name string) bool {
	have, offered := n.Status.Capacity[corev1.ResourceName(name)], n.Status.Allocatable[corev1.ResourceName(name)]
	if !IsExtended(name) || have.Cmp(offered) <= 0 {
		return false
	}
	used := s.usage(n.Name, nil)[corev1.ResourceName(name)]
	return amount(corev1.ResourceName(name), have)-used >= s.need[corev1.ResourceName(name)]
}

// room reports whether the pod's requests fit a node if only the pods that keep
// says so were there.
func (s *Simulation) room(n *corev1.Node, keep func(*corev1.Pod) bool) bool {
	used := s.usage(n.Name, keep)
	for name, want := range s.need {
		q := n.Status.Allocatable[name]
		if amount(name, q)-used[name] < want {
			return false
		}
	}
	return true
}

// Preemptible counts the nodes, of those given, that would have room without
// the pods of lower priority. A pod that may not preempt counts none.
func (s *Simulation) Preemptible(nodes []*corev1.Node) int {
	if pp := s.w.Pod.Spec.PreemptionPolicy; pp != nil && *pp == corev1.PreemptNever {
		return 0
	}
	mine, k := priority(s.w.Pod), 0
	for _, n := range nodes {
		if s.room(n, func(p *corev1.Pod) bool { return priority(p) >= mine }) {
			k++
		}
	}
	return k
}

// Leaving lists the terminating pods of a node without which the pod would fit,
// nil if they make no difference.
func (s *Simulation) Leaving(n *corev1.Node) []*corev1.Pod {
	if !s.room(n, func(p *corev1.Pod) bool { return p.DeletionTimestamp == nil }) {
		return nil
	}
	var out []*corev1.Pod
	for _, p := range s.byNode[n.Name] {
		if p.DeletionTimestamp != nil {
			out = append(out, p)
		}
	}
	return out
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// hostPort is a port of the node that a container wants.
type hostPort struct {
	ip, protocol string
	port         int32
}

// hostPorts lists the host ports of a pod: of its containers and its sidecars.
func hostPorts(p *corev1.Pod) []hostPort {
	var out []hostPort
	add := func(c *corev1.Container) {
		for _, cp := range c.Ports {
			if cp.HostPort > 0 {
				protocol := string(cp.Protocol)
				if protocol == "" {
					protocol = string(corev1.ProtocolTCP)
				}
				ip := cp.HostIP
				if ip == "" {
					ip = "0.0.0.0"
				}
				out = append(out, hostPort{ip: ip, protocol: protocol, port: cp.HostPort})
			}
		}
	}
	for i := range p.Spec.InitContainers {
		if r := p.Spec.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			add(&p.Spec.InitContainers[i])
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return out
}

func (h hostPort) clashes(o hostPort) bool {
	return h.port == o.port && h.protocol == o.protocol && (h.ip == o.ip || h.ip == "0.0.0.0" || o.ip == "0.0.0.0")
}

func (s *Simulation) hostPortsOf(n *corev1.Node, out []Refusal) []Refusal {
	if len(s.ports) == 0 {
		return out
	}
	for _, p := range s.byNode[n.Name] {
		for _, theirs := range hostPorts(p) {
			for _, mine := range s.ports {
				if mine.clashes(theirs) {
					return append(out, Refusal{Filter: Port, Key: fmt.Sprint(mine.port), Why: fmt.Sprintf("has host port %d taken", mine.port), Holder: p.Namespace + "/" + p.Name})
				}
			}
		}
	}
	return out
}

// Slots counts how many pods like this one the nodes that fit have room for,
// by resources alone, at most enough.
func (s *Simulation) Slots(vs []Verdict, enough int) int {
	slots := 0
	for _, v := range vs {
		if !v.Fits() {
			continue
		}
		used := s.usage(v.Node.Name, nil)
		room := enough
		for name, want := range s.need {
			q := v.Node.Status.Allocatable[name]
			if have := amount(name, q); have > 0 {
				room = min(room, int((have-used[name])/want))
			}
		}
		if q, said := v.Node.Status.Allocatable[corev1.ResourcePods]; said {
			room = min(room, int(q.Value())-len(s.byNode[v.Node.Name]))
		}
		if slots += max(room, 0); slots >= enough {
			return enough
		}
	}
	return slots
}
