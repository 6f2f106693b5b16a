package actions

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// How the pods of a workload come to follow a change of its pod template.
const (
	// byRollout: the controller replaces pods, those that wait first.
	byRollout = "rollout"
	// byHand: the controller leaves a pod that waits as it is, so that it has to be
	// deleted. A StatefulSet with OrderedReady never replaces a pod that was not ready.
	byHand = "hand"
	// anewAll: the template cannot be changed in place, the object is made anew.
	anewAll = "anew"
	// nextRun: the change is for what is made later.
	nextRun = "next"
)

// follows says how the kinds of workloads follow a change of their pod template.
func follows(kind string) string {
	switch kind {
	case "Deployment.apps", "DaemonSet.apps", "LeaderWorkerSet.leaderworkerset.x-k8s.io", "RayService.ray.io":
		return byRollout
	case "StatefulSet.apps", "ReplicaSet.apps", "ReplicationController", "RayCluster.ray.io":
		return byHand
	case "Pod", "Job.batch", "JobSet.jobset.x-k8s.io", "RayJob.ray.io", "PyTorchJob.kubeflow.org", "TFJob.kubeflow.org", "MPIJob.kubeflow.org", "TrainJob.trainer.kubeflow.org":
		return anewAll
	case "CronJob.batch":
		return nextRun
	}
	return ""
}

// holderKinds are looked through for a pod template, where no pod shows the way.
func holderKinds() []string {
	return []string{"Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "ReplicaSet.apps", "Job.batch", "CronJob.batch",
		"LeaderWorkerSet.leaderworkerset.x-k8s.io", "JobSet.jobset.x-k8s.io", "RayCluster.ray.io", "RayJob.ray.io", "RayService.ray.io"}
}

func kindKey(o *Object) string { return o.GroupVersionKind().GroupKind().String() }

// reference is what a pod names in its resourceClaims.
type reference struct{ field, name string }

func toTemplate(name string) reference { return reference{"resourceClaimTemplateName", name} }
func toClaim(name string) reference    { return reference{"resourceClaimName", name} }

// references finds the entries of resourceClaims that hold a reference, wherever in
// an object a pod's spec stands: pod templates of any kind are found by their shape.
func (r reference) in(v any) []map[string]any {
	var out []map[string]any
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if k == "status" || k == "managedFields" || k == "annotations" {
				continue
			}
			if k == "resourceClaims" {
				for _, e := range mappings(v[k]) {
					if text(e, r.field) == r.name {
						out = append(out, e)
					}
				}
				continue
			}
			out = append(out, r.in(v[k])...)
		}
	case []any:
		for _, x := range v {
			out = append(out, r.in(x)...)
		}
	}
	return out
}

func (r reference) of(u *unstructured.Unstructured) bool { return len(r.in(u.Object)) > 0 }

// user is a workload whose pods hold a reference, with those pods.
type user struct {
	// root is the topmost object that holds the reference: changing what is below it
	// would be taken back.
	root *Object
	// between are the objects below root that hold it too, without pods.
	between []*Object
	pods    []*Object
	// above is the owner of root, when it does not hold the reference itself.
	above string
}

// waiting are the pods that no node has.
func (u *user) waiting() []*Object {
	return slices.DeleteFunc(slices.Clone(u.pods), func(o *Object) bool { return onNode(o) || podOver(o) })
}

// running are the pods that have a node and are not over.
func (u *user) running() []*Object {
	return slices.DeleteFunc(slices.Clone(u.pods), func(o *Object) bool { return !onNode(o) || podOver(o) })
}

func onNode(pod *Object) bool {
	node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
	return node != ""
}

func podOver(pod *Object) bool {
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	return phase == string(corev1.PodSucceeded) || phase == string(corev1.PodFailed)
}

// chain gives an object and its controllers, from the bottom up. opaque names a
// controller that cannot be read because its kind is not served.
func (c *Cluster) chain(ctx context.Context, o *Object, seen map[incident.Ref]*Object) (list []*Object, opaque string, err error) {
	list = []*Object{o}
	for len(list) < 8 {
		owner := metav1.GetControllerOf(list[len(list)-1])
		if owner == nil {
			return list, "", nil
		}
		gk := owner.Kind
		if group, _, ok := strings.Cut(owner.APIVersion, "/"); ok {
			gk += "." + group
		}
		ref := incident.Ref{Kind: gk, Namespace: o.GetNamespace(), Name: owner.Name}
		up, known := seen[ref]
		if !known {
			up, err = c.Get(ctx, gk, o.GetNamespace(), owner.Name)
			switch {
			case meta.IsNoMatchError(err):
				return list, owner.Kind + " " + owner.Name, nil
			case apierrors.IsNotFound(err):
				up = nil
			case err != nil:
				return nil, "", err
			}
			seen[ref] = up
		}
		if up == nil || up.GetUID() != owner.UID {
			return list, "", nil
		}
		list = append(list, up)
	}
	return list, "", nil
}

// users gives the workloads of a namespace whose pods hold a reference, by name.
func (c *Cluster) users(ctx context.Context, namespace string, r reference) ([]*user, error) {
	by := map[incident.Ref]*user{}
	seen := map[incident.Ref]*Object{}
	add := func(o *Object) error {
		list, opaque, err := c.chain(ctx, o, seen)
		if err != nil {
			return err
		}
		top := 0
		for i := range list {
			if r.of(list[i].Unstructured) {
				top = i
			}
		}
		u := by[list[top].Ref]
		if u == nil {
			u = &user{root: list[top], above: opaque}
			if top+1 < len(list) {
				u.above = list[top+1].GetKind() + " " + list[top+1].GetName()
			}
			by[u.root.Ref] = u
		}
		for _, x := range list[:top+1] {
			has := func(in []*Object) bool {
				return slices.ContainsFunc(in, func(y *Object) bool { return y.Ref == x.Ref })
			}
			switch {
			case x.GetKind() == "Pod" && !has(u.pods):
				u.pods = append(u.pods, x)
			case x.GetKind() != "Pod" && x.Ref != u.root.Ref && !has(u.between):
				u.between = append(u.between, x)
			}
		}
		return nil
	}
	pods, err := c.List(ctx, "Pod", namespace, "", "")
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		if p.GetDeletionTimestamp() == nil && !podOver(p) && r.of(p.Unstructured) {
			if err := add(p); err != nil {
				return nil, err
			}
		}
	}
	for _, kind := range holderKinds() {
		list, err := c.List(ctx, kind, namespace, "", "")
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			// An old ReplicaSet or a finished Job is history, not a user.
			if !r.of(o.Unstructured) || over(o) {
				continue
			}
			if err := add(o); err != nil {
				return nil, err
			}
		}
	}
	out := slices.SortedFunc(maps.Values(by), func(a, b *user) int { return strings.Compare(a.root.Ref.String(), b.root.Ref.String()) })
	for _, u := range out {
		slices.SortFunc(u.pods, func(a, b *Object) int { return strings.Compare(a.GetName(), b.GetName()) })
	}
	return out, nil
}

// over says that an object makes no pods any more.
func over(o *Object) bool {
	switch o.GetKind() {
	case "ReplicaSet":
		n, found, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
		return found && n == 0
	case "Job":
		list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		return slices.ContainsFunc(mappings(list), func(m map[string]any) bool {
			return (m["type"] == "Complete" || m["type"] == "Failed") && m["status"] == "True"
		})
	}
	return false
}

// user picks the one workload that is meant: the only one, the one of the pod that a
// generated claim belongs to, or the one that is named.
func (c *Cluster) user(ctx context.Context, p params, namespace, claim string, r reference) (*user, error) {
	all, err := c.users(ctx, namespace, r)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, u := range all {
		names = append(names, u.root.GetKind()+" "+u.root.GetName())
	}
	if len(all) == 0 {
		return nil, p.missing("workload", "no workload in namespace %s uses %s: there is no pod that a change would help", namespace, r.name)
	}
	if kind, name := p.str("workload_kind"), p.str("workload"); name != "" {
		for _, u := range all {
			if u.root.GetName() == name && (kind == "" || u.root.GetKind() == kind) {
				return u, nil
			}
		}
		return nil, p.missing("workload", "%s does not use %s; it is used by %s", strings.TrimSpace(kind+" "+name), r.name, strings.Join(names, ", "))
	}
	if claim != "" {
		o, err := c.Get(ctx, "ResourceClaim.resource.k8s.io", namespace, claim)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			owner := metav1.GetControllerOf(o)
			for _, u := range all {
				if owner != nil && owner.Kind == "Pod" && slices.ContainsFunc(u.pods, func(pod *Object) bool { return pod.GetUID() == owner.UID }) {
					return u, nil
				}
			}
		}
	}
	if len(all) > 1 {
		return nil, p.missing("workload", "several use %s, say which is meant: %s", r.name, strings.Join(names, ", "))
	}
	return all[0], nil
}

// hurt notes whom it hurts when these pods are stopped.
func (d *draft) hurt(ctx context.Context, pods []*Object) error {
	var typed []*corev1.Pod
	for _, o := range pods {
		p, err := as[corev1.Pod](o)
		if err != nil {
			return err
		}
		typed = append(typed, p)
	}
	notes, nodes := d.Blast.Notes, d.Blast.Nodes
	b, err := d.c.blast(ctx, typed)
	if err != nil {
		return err
	}
	d.Blast = b
	d.Blast.Notes, d.Blast.Nodes = append(notes, b.Notes...), nodes
	return nil
}

// fitAfter says for pods that wait whether they would find a place once they name
// something else: the plan is read as it will be, so this comes after its writes.
func (d *draft) fitAfter(ctx context.Context, pods []*Object, change func(*unstructured.Unstructured) error) error {
	var typed []*corev1.Pod
	for _, o := range pods {
		next := o.DeepCopy()
		if err := change(next); err != nil {
			return err
		}
		p, err := as[corev1.Pod](&Object{Unstructured: next, Ref: o.Ref})
		if err != nil {
			return err
		}
		typed = append(typed, p)
	}
	got, err := d.c.prove(ctx, typed, "node", func(*corev1.Node) bool { return true })
	if err != nil {
		// What could not be looked at is no reason against the change: it is said.
		got = &proof{claims: []incident.Claim{{Text: "whether the pods fit is not known: " + err.Error()}}}
	}
	d.Capacity = append(d.Capacity, got.claims...)
	if len(got.lost) > 0 {
		d.Warnings = append(d.Warnings, "with this change alone there is no place yet for "+strings.Join(got.lost, ", "))
	}
	return nil
}

// namesOf puts a list of objects into words.
func namesOf(list []*Object) string {
	var out []string
	for i, o := range list {
		if i == 5 {
			out = append(out, fmt.Sprintf("%d more", len(list)-5))
			break
		}
		out = append(out, o.GetName())
	}
	return strings.Join(out, ", ")
}
