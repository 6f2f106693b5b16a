package actions

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

const (
	revisionNote = "deployment.kubernetes.io/revision"
	// hashLabel and revisionLabel tell which ReplicaSet and which ControllerRevision
	// a pod is made from.
	hashLabel     = "pod-template-hash"
	revisionLabel = "controller-revision-hash"
)

// revision is a template that a workload had.
type revision struct {
	number int64
	// object keeps it: a ReplicaSet or a ControllerRevision.
	object   *Object
	template map[string]any
}

// revisions gives the templates that a Deployment, StatefulSet or DaemonSet had,
// oldest first. They are those whose keeper the workload controls.
func (c *Cluster) revisions(ctx context.Context, o *Object) ([]revision, error) {
	kind := "ControllerRevision.apps"
	if o.Ref.Kind == "Deployment" {
		kind = "ReplicaSet.apps"
	}
	list, err := c.List(ctx, kind, o.GetNamespace(), "", "")
	if err != nil {
		return nil, err
	}
	var out []revision
	for _, k := range list {
		if r := controlled(k); r == nil || r.UID != o.GetUID() {
			continue
		}
		rev := revision{object: k}
		if o.Ref.Kind == "Deployment" {
			n, err := strconv.ParseInt(k.GetAnnotations()[revisionNote], 10, 64)
			if err != nil {
				continue // the controller has not numbered it yet
			}
			rev.number = n
			rev.template, _, _ = unstructured.NestedMap(k.Object, "spec", "template")
			unstructured.RemoveNestedField(rev.template, "metadata", "labels", hashLabel)
		} else {
			rev.number, _, _ = unstructured.NestedInt64(k.Object, "revision")
			rev.template, _, _ = unstructured.NestedMap(k.Object, "data", "spec", "template")
			delete(rev.template, "$patch")
		}
		if len(rev.template) > 0 {
			out = append(out, rev)
		}
	}
	slices.SortFunc(out, func(a, b revision) int { return cmp.Compare(a.number, b.number) })
	return out, nil
}

// tidy is a template without what the server leaves empty, for comparison.
func tidy(template map[string]any) map[string]any {
	t := (&unstructured.Unstructured{Object: template}).DeepCopy().Object
	unstructured.RemoveNestedField(t, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(t, "metadata", "labels", hashLabel)
	return t
}

func rollback(ctx context.Context, c *Cluster, p params) (*draft, error) {
	e, err := c.find(ctx, p)
	if err != nil {
		return nil, err
	}
	if !rolls(e.Object) {
		return nil, p.refuse("set_image or another typed change, or roll back in the repository it comes from", "%s keeps no revisions that a rollback could use", e.Ref)
	}
	if paused(e.Object) {
		return nil, p.refuse("resume_rollout first", "%s is paused: a rollback would not begin", e.Ref)
	}
	all, err := c.revisions(ctx, e.Object)
	if err != nil {
		return nil, err
	}
	now, to, err := choose(p, e, all)
	if err != nil {
		return nil, err
	}
	say := fmt.Sprintf("Return %s from revision %s to %d", e.Ref, now, to.number)
	if diff := differences(e.t.holder, to.template); len(diff) > 0 {
		say += ": " + some(diff)
	}
	d := c.draft("%s", say)
	d.target(to.object, fmt.Sprintf("revision %d of %s", to.number, e.Ref))
	err = d.rollout(ctx, e, say, func(t *template) error {
		maps.DeleteFunc(t.holder, func(string, any) bool { return true })
		maps.Copy(t.holder, (&unstructured.Unstructured{Object: to.template}).DeepCopy().Object)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := d.spares(ctx, e, to); err != nil {
		return nil, err
	}
	return d, d.unstick(ctx, e)
}

// spares takes the pods of the revision that is returned to out of those that stop:
// their controller keeps them. Where they are as many as are wanted, none has to find
// a place, and a rollout has nothing to wait for.
func (d *draft) spares(ctx context.Context, e *edit, to revision) error {
	if d.Blast.PodCount == 0 {
		return nil // nothing is replaced by itself
	}
	label, value := revisionLabel, cmp.Or(to.object.GetLabels()[revisionLabel], to.object.GetName())
	if e.Ref.Kind == "Deployment" {
		label, value = hashLabel, to.object.GetLabels()[hashLabel]
	}
	pods, err := d.c.templatePods(ctx, e)
	if err != nil || value == "" {
		return err
	}
	var stay, leave []*corev1.Pod
	for _, p := range pods {
		if p.Labels[label] == value {
			stay = append(stay, p)
		} else {
			leave = append(leave, p)
		}
	}
	if len(stay) == 0 {
		return nil
	}
	if d.Blast, err = d.c.blast(ctx, leave); err != nil {
		return err
	}
	if len(leave) == 0 {
		d.Lasting = ""
	}
	wanted, ok, _ := unstructured.NestedInt64(e.Object.Object, "spec", "replicas")
	if !ok {
		wanted = 1
	}
	if e.Ref.Kind == "Deployment" && int64(len(slices.DeleteFunc(slices.Clone(stay), func(p *corev1.Pod) bool { return !podReady(p) }))) >= wanted {
		needless := d.hitches(e)
		d.Warnings = slices.DeleteFunc(d.Warnings, func(w string) bool { return slices.Contains(needless, w) })
	}
	return nil
}

// choose finds the revision that is meant. The first result names the present one.
func choose(p params, e *edit, all []revision) (string, revision, error) {
	wanted := tidy(e.t.holder)
	now, others := "?", []revision{}
	for _, r := range all {
		if equality.Semantic.DeepEqual(tidy(r.template), wanted) {
			now = strconv.FormatInt(r.number, 10)
			continue
		}
		others = append(others, r)
	}
	if now == "?" && e.GetAnnotations()[revisionNote] != "" {
		now = e.GetAnnotations()[revisionNote]
	}
	if len(others) == 0 {
		return "", revision{}, p.refuse("set_image or another typed change", "%s has no other revision: its history holds %d", e.Ref, len(all))
	}
	want := p.str("revision")
	if want == "" {
		current := int64(0)
		if n, err := strconv.ParseInt(now, 10, 64); err == nil {
			current = n
		}
		earlier := slices.DeleteFunc(slices.Clone(others), func(r revision) bool { return current > 0 && r.number > current })
		if len(earlier) == 0 {
			return "", revision{}, p.missing("revision", "no revision is older than %s; there are %s", now, numbers(others))
		}
		// One that still serves is known to work; else the one before.
		for _, r := range slices.Backward(earlier) {
			if n, _, _ := unstructured.NestedInt64(r.object.Object, "status", "availableReplicas"); n > 0 {
				return now, r, nil
			}
		}
		return now, earlier[len(earlier)-1], nil
	}
	for _, r := range others {
		if strconv.FormatInt(r.number, 10) == want {
			return now, r, nil
		}
	}
	if want == now {
		return "", revision{}, p.missing("revision", "%s is at revision %s already; there are %s", e.Ref, now, numbers(others))
	}
	return "", revision{}, p.missing("revision", "%s has no revision %s; there are %s", e.Ref, want, numbers(others))
}

func numbers(list []revision) string {
	var out []string
	for _, r := range list {
		n := strconv.FormatInt(r.number, 10)
		if images := imagesOf(r.template); len(images) > 0 {
			n += " (" + some(images) + ")"
		}
		out = append(out, n)
	}
	return some(out)
}

func imagesOf(holder map[string]any) []string {
	spec, _ := holder["spec"].(map[string]any)
	t := &template{holder: holder, spec: spec}
	var out []string
	for _, k := range t.containers() {
		out = append(out, text(k.m, "image"))
	}
	return out
}

// differences names what another template has differently, a container's image first.
func differences(from, to map[string]any) []string {
	a, _ := from["spec"].(map[string]any)
	b, _ := to["spec"].(map[string]any)
	was, is := &template{spec: a}, &template{spec: b}
	var out []string
	for _, k := range is.containers() {
		old, ok := was.container(k.name)
		if !ok {
			out = append(out, "container "+k.name+" comes back")
			continue
		}
		if x, y := text(old.m, "image"), text(k.m, "image"); x != y {
			out = append(out, fmt.Sprintf("image of %s from %s to %s", k.name, x, y))
		}
		for _, f := range []string{"command", "args", "env", "resources", "livenessProbe", "readinessProbe", "startupProbe", "volumeMounts"} {
			if !equality.Semantic.DeepEqual(old.m[f], k.m[f]) {
				out = append(out, f+" of "+k.name)
			}
		}
	}
	for _, k := range was.containers() {
		if _, ok := is.container(k.name); !ok {
			out = append(out, "container "+k.name+" goes")
		}
	}
	for _, f := range []string{"nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "priorityClassName", "resourceClaims", "volumes", "serviceAccountName"} {
		if !equality.Semantic.DeepEqual(a[f], b[f]) {
			out = append(out, f)
		}
	}
	return out
}

// unstick deletes the pods of a StatefulSet that are of the revision left behind and
// not ready: with OrderedReady pod management the controller waits for them for ever
// (kubernetes.io, StatefulSets, forced rollback).
func (d *draft) unstick(ctx context.Context, e *edit) error {
	if e.Ref.Kind != "StatefulSet" {
		return nil
	}
	if m, _, _ := unstructured.NestedString(e.Object.Object, "spec", "podManagementPolicy"); m == "Parallel" {
		return nil
	}
	bad, _, _ := unstructured.NestedString(e.Object.Object, "status", "updateRevision")
	pods, err := d.c.podsOf(ctx, e.Object)
	if err != nil || bad == "" {
		return err
	}
	for _, p := range pods {
		if ended(p) || podReady(p) || p.Labels[revisionLabel] != bad {
			continue
		}
		o, err := d.c.Get(ctx, "Pod", p.Namespace, p.Name)
		if err != nil {
			return err
		}
		d.stop(o, "delete "+o.Ref.String()+": it is of the broken revision, and the StatefulSet waits for it", grace(p))
	}
	return nil
}

// stop deletes a pod that its controller makes anew; there is nothing to undo.
func (d *draft) stop(pod *Object, say string, within int) {
	d.target(pod, "")
	w := d.write(pod, incident.VerbDelete, say)
	w.Grace, w.Digest = -1, ""
	w.Await = []incident.Check{Gone(pod, within)}
	d.Writes = append(d.Writes, w)
	d.c.planned[pod.Ref] = nil
}

// grace is how long a pod may take to be gone, in seconds: its grace period and a
// minute for its volumes and devices.
func grace(p *corev1.Pod) int {
	g := int64(30)
	if p.Spec.TerminationGracePeriodSeconds != nil {
		g = *p.Spec.TerminationGracePeriodSeconds
	}
	return int(g) + 60
}

// oldPods gives the pods of a Deployment that are not of its newest ReplicaSet.
func (c *Cluster) oldPods(ctx context.Context, o *Object) ([]*corev1.Pod, error) {
	all, err := c.revisions(ctx, o)
	if err != nil {
		return nil, err
	}
	holder, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
	newest := ""
	for _, r := range all {
		if equality.Semantic.DeepEqual(tidy(r.template), tidy(holder)) {
			newest = r.object.GetLabels()[hashLabel]
		}
	}
	pods, err := c.podsOf(ctx, o)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(pods, func(p *corev1.Pod) bool {
		return ended(p) || newest != "" && p.Labels[hashLabel] == newest
	}), nil
}
