package actions

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// room is where pods can go: the nodes as the plan so far leaves them and what is
// taken on each. Placing a pod takes its place away from the next one.
type room struct {
	c     *Cluster
	nodes []*corev1.Node
	on    map[string]*load
	// pods that stay or were placed, all bound to a node.
	pods    []*corev1.Pod
	dra     *devices
	spaces  map[string]map[string]string
	volumes map[types.NamespacedName]reachable
}

// load is what the pods of a node take.
type load struct {
	used  corev1.ResourceList
	pods  int64
	ports map[string]string
}

// room reads the cluster without the pods that leave.
func (c *Cluster) room(ctx context.Context, leaving []*corev1.Pod) (*room, error) {
	r := &room{c: c, on: map[string]*load{}, volumes: map[types.NamespacedName]reachable{}}
	nodes, err := c.List(ctx, "Node", "", "", "")
	if err != nil {
		return nil, err
	}
	for _, o := range nodes {
		n, err := as[corev1.Node](o)
		if err != nil {
			return nil, err
		}
		r.nodes = append(r.nodes, n)
		r.on[n.Name] = &load{used: corev1.ResourceList{}, ports: map[string]string{}}
	}
	pods, err := c.List(ctx, "Pod", "", "", "")
	if err != nil {
		return nil, err
	}
	gone := map[types.UID]bool{}
	for _, p := range leaving {
		gone[p.UID] = true
	}
	for _, o := range pods {
		p, err := as[corev1.Pod](o)
		if err != nil {
			return nil, err
		}
		if !gone[p.UID] {
			r.take(p)
		}
	}
	for _, p := range c.placed {
		r.take(p)
	}
	r.dra = newDevices(ctx, c, leaving)
	return r, nil
}

// take counts a pod on its node. Finished pods and those without a node take nothing.
func (r *room) take(p *corev1.Pod) {
	l := r.on[p.Spec.NodeName]
	if l == nil || finished(p) {
		return
	}
	r.pods = append(r.pods, p)
	l.pods++
	for name, q := range resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{UseStatusResources: true}) {
		sum := l.used[name]
		sum.Add(q)
		l.used[name] = sum
	}
	for _, port := range hostPorts(p) {
		l.ports[port] = p.Namespace + "/" + p.Name
	}
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// place is the answer for one pod.
type place struct {
	pod *corev1.Pod
	// node it fits on, empty when there is none, and what is free there.
	node, free string
	// why no node takes it, in the words of each sort of refusal.
	why string
	// open are the constraints that could not be judged: with one of them a fit is no proof.
	open []string
}

// put finds a node for the successor of a pod among those allowed, and takes the
// place. The fullest node that fits wins, so that large pods find room later.
func (r *room) put(ctx context.Context, p *corev1.Pod, allowed func(*corev1.Node) bool) place {
	next := p.DeepCopy()
	next.Spec.NodeName, next.Status = "", corev1.PodStatus{}
	out := place{pod: p}
	claims, open := r.dra.wants(ctx, next)
	out.open = open
	reasons := map[string]int{}
	var fit []*corev1.Node
	for _, n := range r.nodes {
		if !allowed(n) {
			continue
		}
		if why := r.refuses(ctx, n, next, &out); why != "" {
			reasons[why]++
			continue
		}
		fit = append(fit, n)
	}
	slices.SortStableFunc(fit, func(a, b *corev1.Node) int {
		return cmp.Or(cmp.Compare(r.spare(a, next), r.spare(b, next)), strings.Compare(a.Name, b.Name))
	})
	for _, n := range fit {
		why, err := r.dra.allocate(ctx, n, next, claims)
		if err != nil {
			out.open = append(out.open, err.Error())
			continue
		}
		if why != "" {
			reasons[why]++
			continue
		}
		out.node, out.free = n.Name, r.freeText(n, next)
		next.Spec.NodeName = n.Name
		next.UID = types.UID("successor of " + string(p.UID))
		r.take(next)
		break
	}
	out.open = uniq(out.open)
	if out.node == "" {
		out.why = reasonsText(reasons)
	} else {
		out.pod = next
	}
	return out
}

// spare is how much of the scarcest thing that the pod asks for a node has left.
func (r *room) spare(n *corev1.Node, p *corev1.Pod) int64 {
	name := scarce(p)
	have, used := n.Status.Allocatable[name], r.on[n.Name].used[name]
	return have.MilliValue() - used.MilliValue()
}

// scarce names what is hardest to find of what a pod asks for: an extended
// resource, else memory.
func scarce(p *corev1.Pod) corev1.ResourceName {
	for _, name := range slices.Sorted(maps.Keys(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{}))) {
		if strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			return name
		}
	}
	return corev1.ResourceMemory
}

// freeText says what is free on a node before the pod comes, of what it asks for.
func (r *room) freeText(n *corev1.Node, p *corev1.Pod) string {
	if s := r.dra.free(n, p); s != "" {
		return s
	}
	var parts []string
	want := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	for _, name := range slices.Sorted(maps.Keys(want)) {
		have, used := n.Status.Allocatable[name].DeepCopy(), r.on[n.Name].used[name]
		all := have.DeepCopy()
		if have.Sub(used); name == corev1.ResourceMemory || name == corev1.ResourceCPU {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s of %s %s free", have.String(), all.String(), name))
	}
	if len(parts) == 0 {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			have, used := n.Status.Allocatable[name].DeepCopy(), r.on[n.Name].used[name]
			have.Sub(used)
			parts = append(parts, fmt.Sprintf("%s %s free", have.String(), name))
		}
	}
	return strings.Join(parts, ", ")
}

// reasonsText counts the refusals, the most common first.
func reasonsText(reasons map[string]int) string {
	if len(reasons) == 0 {
		return "there is no node to go to"
	}
	keys := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), strings.Compare(a, b))
	})
	var parts []string
	for i, k := range keys {
		if i == 5 {
			parts = append(parts, fmt.Sprintf("%d more reasons", len(keys)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s: %s", count(reasons[k], "node"), k))
	}
	return strings.Join(parts, "; ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func uniq(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}

// proof says whether pods will fit elsewhere.
type proof struct {
	claims []incident.Claim
	// lost are pods that fit nowhere, with the reason; open those of which it cannot be said.
	lost, open []string
}

// prove places the successors of pods that leave, the most demanding first, on the
// nodes that are allowed. where completes "fits on no ...".
func (c *Cluster) prove(ctx context.Context, pods []*corev1.Pod, where string, allowed func(*corev1.Node) bool) (*proof, error) {
	out := &proof{}
	if len(pods) == 0 {
		return out, nil
	}
	r, err := c.room(ctx, pods)
	if err != nil {
		return nil, err
	}
	ordered := slices.Clone(pods)
	slices.SortStableFunc(ordered, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
	})
	for _, p := range ordered {
		spec, err := c.successor(ctx, p)
		if err != nil {
			return nil, err
		}
		got := r.put(ctx, spec, allowed)
		name := p.Namespace + "/" + p.Name
		switch {
		case got.node == "" && len(got.open) > 0:
			out.open = append(out.open, name)
			out.claim("whether pod %s fits on %s is not known: %s", name, where, strings.Join(got.open, "; "))
		case got.node == "":
			out.lost = append(out.lost, name)
			out.claim("pod %s fits on no %s: %s", name, where, got.why)
		case len(got.open) > 0:
			out.open = append(out.open, name)
			out.claim("pod %s would fit on node %s (%s), but this is not judged: %s", name, got.node, got.free, strings.Join(got.open, "; "))
		default:
			out.claim("pod %s fits on node %s: %s", name, got.node, got.free)
		}
		if got.node != "" {
			c.placed = append(c.placed, got.pod)
		}
	}
	return out, nil
}

func (p *proof) claim(text string, args ...any) {
	p.claims = append(p.claims, incident.Claim{Text: fmt.Sprintf(text, args...)})
}

// weight orders pods by how hard they are to place.
func weight(p *corev1.Pod) int64 {
	want := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	var w int64
	for name, q := range want {
		if strings.Contains(string(name), "/") && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			w += q.Value() << 44
		}
	}
	w += int64(len(p.Spec.ResourceClaims)) << 44
	memory := want[corev1.ResourceMemory]
	return w + memory.Value()
}

// successor is the pod that a controller will make in a pod's place: the pod itself,
// or what an earlier step of the plan makes of its workload's template.
func (c *Cluster) successor(ctx context.Context, p *corev1.Pod) (*corev1.Pod, error) {
	w, err := c.workload(ctx, p)
	if err != nil {
		return nil, err
	}
	u := c.planned[w]
	if u == nil {
		return p, nil
	}
	t, err := as[struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}](&Object{Unstructured: u, Ref: w})
	if err != nil {
		return nil, err
	}
	if len(t.Spec.Template.Spec.Containers) == 0 {
		return p, nil
	}
	next := p.DeepCopy()
	next.Labels, next.Spec = t.Spec.Template.Labels, t.Spec.Template.Spec
	for _, x := range p.Spec.Tolerations { // admission adds some
		if !slices.Contains(next.Spec.Tolerations, x) {
			next.Spec.Tolerations = append(next.Spec.Tolerations, x)
		}
	}
	return next, nil
}
