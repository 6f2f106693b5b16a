package dra

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// ExtendedIn names a pod.
type ExtendedIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
}

// Extended says how a pod's extended resources can be served (KEP-5004).
type Extended struct {
	Pod       string             `json:"pod"`
	Resources []ExtendedResource `json:"resources"`
	Claim     string             `json:"claim,omitempty" jsonschema:"claim the scheduler made for the pod"`
}

// ExtendedResource is one extended resource of the pod.
type ExtendedResource struct {
	Resource string   `json:"resource"`
	Amount   int64    `json:"amount"`
	Class    string   `json:"class,omitempty" jsonschema:"DeviceClass that answers for it"`
	Classes  []string `json:"classes" jsonschema:"all that declare it, the one that wins first"`
	// ByPlugin, ByDRA, Nobody count nodes.
	ByPlugin int      `json:"nodes_device_plugin"`
	ByDRA    int      `json:"nodes_dra"`
	Nobody   int      `json:"nodes_neither"`
	Twice    []string `json:"sold_twice" jsonschema:"nodes where both a device plugin and DRA offer it"`
}

func (t *Toolset) extendedTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_extended", Text: text("dra_extended"), Effect: tool.Read}, t.extended)
}

func (t *Toolset) extended(ctx context.Context, in ExtendedIn) (tool.Output[Extended], error) {
	pod, err := t.read.pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[Extended]{}, err
	}
	out := Extended{Pod: in.Namespace + "/" + in.Pod, Resources: []ExtendedResource{}}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		out.Claim = s.ResourceClaimName
	}
	asked := allocator.ExtendedRequests(pod)
	if len(asked) == 0 {
		return tool.Output[Extended]{Data: out, Text: "pod " + out.Pod + " asks for no extended resource"}, nil
	}
	w, err := t.read.load(ctx)
	if err != nil {
		return tool.Output[Extended]{}, err
	}
	var fs []incident.Finding
	var es []incident.Edge
	names := slices.Sorted(maps.Keys(asked))
	for _, name := range names {
		r, f, e := t.extendedResource(ctx, w, pod, name, asked[name])
		out.Resources = append(out.Resources, r)
		fs, es = append(fs, f...), append(es, e...)
	}
	return tool.Output[Extended]{Data: out, Text: extendedText(&out, fs), Findings: fs, Edges: es}, nil
}

func (t *Toolset) extendedResource(ctx context.Context, w *world, pod *corev1.Pod, name corev1.ResourceName, amount int64) (ExtendedResource, []incident.Finding, []incident.Edge) {
	r := ExtendedResource{Resource: string(name), Amount: amount, Classes: []string{}, Twice: []string{}}
	var fs []incident.Finding
	var es []incident.Edge
	podRef := t.podRef(pod.Namespace, pod.Name)
	class := (*resourceapi.DeviceClass)(nil)
	if w.assume.ExtendedResources {
		class = allocator.ClassFor(w.classes, name)
		for _, c := range allocator.ClassesFor(w.classes, name) {
			r.Classes = append(r.Classes, c.Name)
		}
	}
	offers := t.classNodes(ctx, w, class)
	for _, n := range w.nodes {
		q := n.Status.Allocatable[name]
		switch {
		case q.Value() > 0:
			r.ByPlugin++
			if d := t.twice(w, n, name, offers); d != "" {
				r.Twice = append(r.Twice, n.Name)
				fs = append(fs, doubleSelling(t, n, string(name), d, q.Value()))
				es = append(es, incident.Edge{From: podRef, Relation: graph.OfferedBy, To: t.nodeRef(n.Name)})
			}
		case offers[n.Name] != "":
			r.ByDRA++
		default:
			r.Nobody++
		}
	}
	waiting := pod.Spec.NodeName == "" && !over(pod)
	if class != nil {
		r.Class = class.Name
		es = append(es, incident.Edge{From: podRef, Relation: graph.Class, To: t.classRef(class.Name)})
	}
	switch {
	case class == nil && r.ByPlugin == 0 && waiting:
		f, e := t.unmapped(w, podRef, name)
		fs, es = append(fs, f...), append(es, e...)
	case len(r.Classes) > 1 && waiting:
		fs = append(fs, t.ambiguous(ctx, w, pod, r)...)
	}
	return r, fs, es
}

// classNodes lists the nodes where a class has devices, with the driver.
func (t *Toolset) classNodes(ctx context.Context, w *world, class *resourceapi.DeviceClass) map[string]string {
	out := map[string]string{}
	if class == nil {
		return out
	}
	x := &want{className: class.Name}
	x.compile(w, newAttempt(w, nil, nil).comp)
	for _, p := range w.fleet.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				if n := at(s, &s.devices[i]); n != "" && out[n] == "" && x.judge(ctx, w.fleet, s, &s.devices[i]).ofClass {
					out[n] = p.driver
				}
			}
		}
	}
	return out
}

// twice names the driver that offers on a node what a device plugin offers there
// too (F10): the class of the resource has devices there, or the driver's name
// says so ("gpu.nvidia.com" and "nvidia.com/gpu").
func (t *Toolset) twice(w *world, n *corev1.Node, name corev1.ResourceName, offers map[string]string) string {
	if d := offers[n.Name]; d != "" {
		return d
	}
	domain, kind, _ := strings.Cut(string(name), "/")
	for _, s := range w.fleet.onNode[n.Name] {
		first, rest, _ := strings.Cut(s.pool.driver, ".")
		if len(s.devices) > 0 && rest == domain && (kind == first || strings.HasPrefix(kind, first+".")) {
			return s.pool.driver
		}
	}
	return ""
}

func doubleSelling(t *Toolset, n *corev1.Node, resource, driver string, amount int64) incident.Finding {
	return finding("dra.double_selling", t.nodeRef(n.Name), 0.85, map[string]string{"resource": resource, "driver": driver, "allocatable": itoa(amount)},
		"node %s offers %d %s through a device plugin and the same devices through DRA driver %s", n.Name, amount, resource, driver)
}

// unmapped reports an extended resource that nobody offers (F28), and the class
// that lost its mapping because the field was dropped.
func (t *Toolset) unmapped(w *world, podRef incident.Ref, name corev1.ResourceName) ([]incident.Finding, []incident.Edge) {
	var fs []incident.Finding
	var es []incident.Edge
	for _, cn := range slices.Sorted(maps.Keys(w.classes)) {
		c := w.classes[cn]
		applied := c.Annotations[corev1.LastAppliedConfigAnnotation]
		var was resourceapi.DeviceClass
		if applied == "" || yaml.Unmarshal([]byte(applied), &was) != nil || was.Spec.ExtendedResourceName == nil || *was.Spec.ExtendedResourceName != string(name) || c.Spec.ExtendedResourceName != nil {
			continue
		}
		fs = append(fs, finding("dra.field_dropped", t.classRef(cn), 0.93, map[string]string{"field": "spec.extendedResourceName", "class": cn},
			"DeviceClass %s was applied with extendedResourceName %s and the API server did not keep it: the feature gate was off", cn, name))
		es = append(es, incident.Edge{From: podRef, Relation: graph.Class, To: t.classRef(cn)})
	}
	instead := offeredLike(w, name)
	fs = append(fs, finding("dra.extended_resource_unmapped", podRef, 0.9, map[string]string{"resource": string(name), "offered": instead},
		"the pod asks for %s, which no DeviceClass maps and no node offers through a device plugin%s", name, prefixed("; there is ", instead)))
	return fs, es
}

// offeredLike lists the resources of the same vendor that nodes or classes do
// offer: the name asked for may be one of another profile or spelling.
func offeredLike(w *world, name corev1.ResourceName) string {
	domain, _, _ := strings.Cut(string(name), "/")
	count := map[string]int{}
	for _, n := range w.nodes {
		for r, q := range n.Status.Allocatable {
			if strings.HasPrefix(string(r), domain+"/") && !q.IsZero() {
				count[string(r)]++
			}
		}
	}
	for cn, c := range w.classes {
		if e := c.Spec.ExtendedResourceName; e != nil && strings.HasPrefix(*e, domain+"/") {
			count[fmt.Sprintf("%s (DeviceClass %s)", *e, cn)]++
		}
	}
	var out []string
	for _, r := range slices.Sorted(maps.Keys(count)) {
		if out = append(out, r); len(out) == 4 {
			break
		}
	}
	return strings.Join(out, ", ")
}

// ambiguous reports several classes for one resource, when the one that wins is
// not the one that would serve the pod (F29), proved with the allocator.
func (t *Toolset) ambiguous(ctx context.Context, w *world, pod *corev1.Pod, r ExtendedResource) []incident.Finding {
	fits := func(classes allocator.Classes) int {
		only := *w
		only.classes = classes
		a := newAttempt(&only, pod, nil)
		a.split()
		return a.where(ctx).nodes
	}
	if fits(w.classes) > 0 {
		return nil
	}
	for _, other := range r.Classes[1:] {
		without := allocator.Classes{}
		for k, c := range w.classes {
			if k != r.Class {
				without[k] = c
			}
		}
		if n := fits(without); n > 0 {
			return []incident.Finding{finding("dra.extended_resource_ambiguous", t.classRef(r.Class), 0.94,
				map[string]string{"resource": r.Resource, "classes": strings.Join(r.Classes, ", "), "wins": r.Class, "would_fit": fmt.Sprintf("without class %s: %s", r.Class, plural(n, "node"))},
				"classes %s both declare %s; %s is newer and wins, and its devices do not serve the pod, those of %s would on %s", strings.Join(r.Classes, ", "), r.Resource, r.Class, other, plural(n, "node"))}
		}
	}
	return nil
}

func extendedText(o *Extended, fs []incident.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pod %s%s\n", o.Pod, prefixed(", generated claim ", o.Claim))
	for _, r := range o.Resources {
		fmt.Fprintf(&b, "%d %s: %s through a device plugin, %s through DRA, %s with neither", r.Amount, r.Resource, plural(r.ByPlugin, "node"), plural(r.ByDRA, "node"), plural(r.Nobody, "node"))
		fmt.Fprintf(&b, "%s%s%s\n", prefixed("; class ", r.Class), prefixed("; declared by ", strings.Join(r.Classes, ", ")), prefixed("; sold twice on ", strings.Join(r.Twice[:min(len(r.Twice), 8)], ", ")))
	}
	for _, f := range fs {
		fmt.Fprintf(&b, "finding %s: %s\n", f.Subject, f.Message)
	}
	return strings.TrimRight(b.String(), "\n")
}
