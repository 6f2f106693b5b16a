package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

type describeIn struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// Child is an object that the described one owns.
type Child struct {
	Ref   incident.Ref `json:"ref"`
	State string       `json:"state,omitempty"`
}

// DescribeOut is the answer of kube_describe.
type DescribeOut struct {
	Ref        incident.Ref      `json:"ref"`
	State      string            `json:"state,omitempty"`
	Created    time.Time         `json:"created,omitzero"`
	Deleting   time.Time         `json:"deleting,omitzero"`
	Finalizers []string          `json:"finalizers"`
	Labels     map[string]string `json:"labels"`
	Owners     []incident.Ref    `json:"owners"`
	Conditions []Condition       `json:"conditions"`
	Containers []ContainerView   `json:"containers"`
	Fields     []Field           `json:"fields"`
	References []Reference       `json:"references"`
	// Children are listed up to a bound; ChildCount is how many there are.
	Children   []Child      `json:"children"`
	ChildCount int          `json:"child_count"`
	Events     []EventGroup `json:"events"`
}

const (
	maxChildren       = 50
	maxDescribeEvents = 15
)

// describe tells what matters about one object of any kind.
func (r *reader) describe(ctx context.Context, in describeIn) (tool.Output[DescribeOut], error) {
	var out tool.Output[DescribeOut]
	o, err := r.locate(ctx, in.Kind, in.Namespace, in.Name)
	if err != nil {
		return out, err
	}
	u, err := r.src.GetMapped(ctx, o.m, o.namespace, o.name)
	if err != nil {
		return out, err
	}
	ref := o.ref(r.src)
	d := DescribeOut{
		Ref: ref, State: stateOf(u), Created: u.GetCreationTimestamp().UTC(),
		Finalizers: append([]string{}, u.GetFinalizers()...), Labels: map[string]string{},
		Owners: ownersOf(r.src, u), Conditions: conditionsOf(u), Containers: containersOf(u), References: referencesOf(r.src, u),
		Children: []Child{}, Events: []EventGroup{},
	}
	if l := u.GetLabels(); l != nil {
		d.Labels = l
	}
	if t := u.GetDeletionTimestamp(); t != nil {
		d.Deleting = t.UTC()
	}
	var more int
	d.Fields, more = fieldsOf(u)
	if o.m.Kind == "Secret" && o.m.GVR.Group == "" {
		if info, err := r.src.Secret(ctx, o.namespace, o.name); err == nil && info.KeysKnown {
			d.Fields = append(d.Fields, Field{"data", "keys " + strings.Join(info.Keys, ", ") + " (values are never read)"})
		}
	}
	var notes []string
	if more > 0 {
		notes = append(notes, fmt.Sprintf("%d more fields; read them with kube_get", more))
	}
	if owns(o.m) {
		children, err := r.children(ctx, o.m, u)
		if err != nil {
			notes = append(notes, "what it owns is not known: "+tool.UserText(err))
		}
		d.ChildCount = len(children)
		d.Children = children[:min(len(children), maxChildren)]
	}
	if events, err := r.src.Events(ctx, o.namespace, ref); err != nil {
		notes = append(notes, "its events are not known: "+tool.UserText(err))
	} else {
		groups := groupEvents(slices.DeleteFunc(slices.Clone(events), func(e source.Event) bool {
			// An earlier object of the same name has another uid; kubelets write the
			// node's name there.
			return e.UID != "" && u.GetUID() != "" && e.UID != string(u.GetUID()) && o.m.Kind != "Node"
		}))
		d.Events = groups[:min(len(groups), maxDescribeEvents)]
	}
	out.Data = d
	out.Text = r.describeText(d, notes)
	out.Edges = describeEdges(d)
	if judged(ref) {
		out.Findings = notReadyFinding(r.src.Now(), u, d)
		fs, es := r.untouched(ctx, o.m, u, d)
		out.Findings, out.Edges = append(out.Findings, fs...), append(out.Edges, es...)
	}
	return out, nil
}

// owns reports whether objects of a kind make other objects.
func owns(m source.Mapping) bool {
	switch m.GVR.Group {
	case "apps", "batch":
		return true
	}
	return strings.Contains(m.GVR.Group, ".") && !builtinGroup(m.GVR.Group)
}

// builtinGroup reports whether a group with a dot is Kubernetes' own.
func builtinGroup(g string) bool {
	return strings.HasSuffix(g, ".k8s.io") && !strings.HasSuffix(g, ".x-k8s.io") && strings.Count(g, ".") == 2
}

// children finds what an object owns, by uid: pods with their state, then the
// other kinds controllers make, and kinds of its own group.
func (r *reader) children(ctx context.Context, m source.Mapping, u *unstructured.Unstructured) ([]Child, error) {
	uid, ns := u.GetUID(), u.GetNamespace()
	if uid == "" || ns == "" {
		return []Child{}, nil
	}
	out := []Child{}
	pods, err := r.src.Pods(ctx, ns)
	if err != nil {
		return out, err
	}
	for _, p := range pods {
		if ownedBy(p.OwnerReferences, uid) || len(p.OwnerReferences) == 0 && labelled(p.Labels, m, u.GetName()) {
			out = append(out, Child{Ref: r.src.Ref("", "Pod", ns, p.Name), State: childState(p)})
		}
	}
	marked, err := r.marked(ctx, m, u)
	if err != nil && tool.KindOf(err) != tool.Forbidden {
		return out, err
	}
	out = append(out, marked...)
	served, err := r.src.Discovered(ctx)
	if err != nil {
		return out, err
	}
	for _, k := range served.Kinds {
		if !k.Namespaced || !k.Can("list") || !makes(m, k) {
			continue
		}
		found, err := r.owned(ctx, m, k, u)
		if err != nil && tool.KindOf(err) != tool.Forbidden {
			return out, err
		}
		out = append(out, found...)
	}
	slices.SortFunc(out, func(a, b Child) int {
		if a.Ref.Less(b.Ref) {
			return -1
		}
		return 1
	})
	return out, nil
}

func ownedBy(refs []metav1.OwnerReference, uid types.UID) bool {
	return slices.ContainsFunc(refs, func(o metav1.OwnerReference) bool { return o.UID == uid })
}

// labelled reports whether labels say that something belongs to a custom object,
// as most controllers write it: a key of the object's group, or one that holds its
// kind, with the object's name ("ray.io/cluster: llm").
func labelled(l map[string]string, m source.Mapping, name string) bool {
	if !strings.Contains(m.GVR.Group, ".") || builtinGroup(m.GVR.Group) {
		return false
	}
	for k, v := range l {
		domain, _, _ := strings.Cut(k, "/")
		if v == name && strings.Contains(k, "/") && (domain == m.GVR.Group || strings.HasSuffix(domain, "."+m.GVR.Group) || strings.Contains(k, strings.ToLower(m.Kind))) {
			return true
		}
	}
	return false
}

// childState is the phase of a pod, or that it runs and is not ready.
func childState(p *corev1.Pod) string {
	switch {
	case p.DeletionTimestamp != nil:
		return "Terminating"
	case p.Status.Phase == corev1.PodRunning && !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	}):
		return "Running, not ready"
	}
	return string(p.Status.Phase)
}

// marked finds what a custom object has made where an owner reference cannot
// reach, in other namespaces or in none: pods and NodeClaims that carry the label
// "<group>/<kind>" with its uid or name.
func (r *reader) marked(ctx context.Context, m source.Mapping, u *unstructured.Unstructured) ([]Child, error) {
	if !strings.Contains(m.GVR.Group, ".") || builtinGroup(m.GVR.Group) || m.Kind == "" {
		return nil, nil
	}
	key := m.GVR.Group + "/" + strings.ToLower(m.Kind[:1]) + m.Kind[1:]
	var out []Child
	pods, err := r.src.PodsMatching(ctx, "", labels.SelectorFromSet(labels.Set{key: string(u.GetUID())}))
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		out = append(out, Child{Ref: r.src.Ref("", "Pod", p.Namespace, p.Name), State: childState(p)})
	}
	if k, ok := r.src.Kind(ctx, "nodeclaims.karpenter.sh"); ok && len(validation.IsValidLabelValue(u.GetName())) == 0 {
		list, err := r.src.MetadataList(ctx, k, "", source.Selectors{Labels: key + "=" + u.GetName()})
		if err != nil {
			return out, err
		}
		for _, o := range list {
			out = append(out, Child{Ref: r.src.Ref(k.GVR.Group, k.Kind, "", o.Name)})
		}
	}
	return out, nil
}

// makes reports whether objects of kind m may own objects of kind k, so that
// not every kind of a namespace is listed.
func makes(m, k source.Mapping) bool {
	switch k.GVR.GroupResource().String() {
	case "replicasets.apps":
		return m.Kind == "Deployment" || !builtinOwner(m)
	case "jobs.batch":
		return m.Kind == "CronJob" || !builtinOwner(m)
	case "statefulsets.apps", "deployments.apps", "daemonsets.apps", "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io", "services":
		return !builtinOwner(m)
	}
	return k.GVR.Group == m.GVR.Group && !builtinOwner(m) && k.Kind != m.Kind
}

func builtinOwner(m source.Mapping) bool { return m.GVR.Group == "apps" || m.GVR.Group == "batch" }

func (r *reader) owned(ctx context.Context, m, k source.Mapping, u *unstructured.Unstructured) ([]Child, error) {
	ns := u.GetNamespace()
	list, err := r.src.MetadataList(ctx, k, ns, source.Selectors{})
	if err != nil {
		return nil, err
	}
	var out []Child
	for _, o := range list {
		if ownedBy(o.OwnerReferences, u.GetUID()) || len(o.OwnerReferences) == 0 && labelled(o.Labels, m, u.GetName()) {
			out = append(out, Child{Ref: r.src.Ref(k.GVR.Group, k.Kind, ns, o.Name)})
		}
	}
	return out, nil
}

func describeEdges(d DescribeOut) []incident.Edge {
	var out []incident.Edge
	for _, o := range d.Owners {
		out = append(out, incident.Edge{From: d.Ref, Relation: graph.Controlled, To: o})
	}
	for _, ref := range d.References {
		out = append(out, incident.Edge{From: d.Ref, Relation: ref.Relation, To: ref.To})
	}
	fine := 0
	for _, c := range d.Children {
		// Pods that are as they should be explain nothing; a few stand for all.
		if c.State == string(corev1.PodRunning) || c.State == string(corev1.PodSucceeded) {
			if fine++; fine > 3 {
				continue
			}
		}
		out = append(out, incident.Edge{From: d.Ref, Relation: graph.Owns, To: c.Ref})
	}
	return out
}

func (r *reader) describeText(d DescribeOut, notes []string) string {
	var b strings.Builder
	b.WriteString(d.Ref.String())
	if d.State != "" {
		b.WriteString("  state " + d.State)
	}
	fmt.Fprintf(&b, "  created %s ago", r.ago(d.Created))
	for _, o := range d.Owners {
		b.WriteString("  owner " + o.String())
	}
	b.WriteString("\n")
	if !d.Deleting.IsZero() {
		fmt.Fprintf(&b, "deletion asked for %s ago\n", r.ago(d.Deleting))
	}
	if len(d.Finalizers) > 0 {
		b.WriteString("finalizers: " + strings.Join(d.Finalizers, ", ") + "\n")
	}
	if len(d.Labels) > 0 {
		m := map[string]any{}
		for k, v := range d.Labels {
			m[k] = v
		}
		b.WriteString("labels: " + oneLine(inlineMap(m), 600) + "\n")
	}
	if len(d.Conditions) > 0 {
		b.WriteString("conditions:\n")
		for _, c := range d.Conditions {
			fmt.Fprintf(&b, "  %s %s", c.Type, c.Status)
			if c.Reason != "" {
				b.WriteString(" " + c.Reason)
			}
			if !c.Since.IsZero() {
				fmt.Fprintf(&b, " (%s)", r.ago(c.Since))
			}
			if c.Message != "" {
				b.WriteString(": " + oneLine(c.Message, 400))
			}
			b.WriteString("\n")
		}
	}
	for _, c := range d.Containers {
		b.WriteString(c.text() + "\n")
	}
	for _, f := range d.Fields {
		fmt.Fprintf(&b, "%s: %s\n", f.Path, f.Value)
	}
	if len(d.References) > 0 {
		b.WriteString("refers to:\n")
		for _, ref := range d.References {
			fmt.Fprintf(&b, "  %s %s (%s)\n", ref.Relation, ref.To, ref.At)
		}
	}
	if d.ChildCount > 0 {
		fmt.Fprintf(&b, "owns %d:\n", d.ChildCount)
		for _, c := range d.Children {
			fmt.Fprintf(&b, "  %s %s\n", c.Ref, c.State)
		}
	}
	if len(d.Events) > 0 {
		b.WriteString("events:\n")
		for _, g := range d.Events {
			b.WriteString("  " + r.eventLine(g) + "\n")
		}
	}
	for _, n := range notes {
		b.WriteString(n + "\n")
	}
	return b.String()
}
