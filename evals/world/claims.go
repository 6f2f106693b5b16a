package world

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// claimNote is the annotation with the name that a claim has in its pod.
const claimNote = "resource.kubernetes.io/pod-claim-name"

func newOne() *resource.Quantity { return resource.NewQuantity(1, resource.DecimalSI) }

// claims gives the claims of a pod and their names for its status; those of templates
// are made if they are not there.
func (r *roller) claims(ctx context.Context, p *corev1.Pod) ([]*resourceapi.ResourceClaim, []any, error) {
	var out []*resourceapi.ResourceClaim
	var names []any
	for _, c := range p.Spec.ResourceClaims {
		name := ""
		if c.ResourceClaimName != nil {
			name = *c.ResourceClaimName
		}
		for _, s := range p.Status.ResourceClaimStatuses {
			if s.Name == c.Name && s.ResourceClaimName != nil {
				name = *s.ResourceClaimName
			}
		}
		if name == "" && c.ResourceClaimTemplateName != nil {
			made, err := r.fromTemplate(ctx, p, c.Name, *c.ResourceClaimTemplateName)
			if err != nil {
				return nil, nil, err
			}
			name = made
		}
		u, err := r.w.get(ctx, "ResourceClaim.resource.k8s.io", p.Namespace, name)
		if err != nil {
			return nil, nil, fmt.Errorf("claim %s of pod %s: %w", c.Name, p.Name, err)
		}
		k, err := as[resourceapi.ResourceClaim](u)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, k)
		names = append(names, map[string]any{"name": c.Name, "resourceClaimName": name})
	}
	return out, names, nil
}

// fromTemplate makes the claim of a pod.
func (r *roller) fromTemplate(ctx context.Context, p *corev1.Pod, claim, template string) (string, error) {
	t, err := r.w.get(ctx, "ResourceClaimTemplate.resource.k8s.io", p.Namespace, template)
	if err != nil {
		return "", fmt.Errorf("template %s of pod %s: %w", template, p.Name, err)
	}
	spec, _, err := unstructured.NestedMap(t.Object, "spec", "spec")
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s-%s-%s", p.Name, claim, hash([]any{p.UID, claim})[:5])
	_, err = r.w.apply(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": t.GetAPIVersion(), "kind": "ResourceClaim",
		"metadata": map[string]any{"name": name, "namespace": p.Namespace, "annotations": map[string]any{claimNote: claim},
			"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": p.Name, "uid": string(p.UID), "controller": true, "blockOwnerDeletion": true}}},
		"spec": spec}})
	return name, err
}

// allocate writes the allocation of a claim.
func (w *World) allocate(ctx context.Context, c *resourceapi.ResourceClaim) error {
	if c.Name == "" || c.Status.Allocation == nil {
		return nil
	}
	a, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.Status.Allocation)
	if err != nil {
		return err
	}
	_, err = w.apply(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": map[string]any{"name": c.Name, "namespace": c.Namespace}, "status": map[string]any{"allocation": a}}})
	return err
}

// reserve notes the pod as a consumer of its claims.
func (w *World) reserve(ctx context.Context, p *corev1.Pod, claims []*resourceapi.ResourceClaim) error {
	for _, c := range claims {
		u, err := w.get(ctx, "ResourceClaim.resource.k8s.io", c.Namespace, c.Name)
		if err != nil {
			return err
		}
		users, _, _ := unstructured.NestedSlice(u.Object, "status", "reservedFor")
		if slices.ContainsFunc(users, func(x any) bool { m, _ := x.(map[string]any); return m["uid"] == string(p.UID) }) {
			continue
		}
		users = append(users, map[string]any{"resource": "pods", "name": p.Name, "uid": string(p.UID)})
		if _, err := w.apply(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": map[string]any{"name": c.Name, "namespace": c.Namespace}, "status": map[string]any{"reservedFor": users}}}); err != nil {
			return err
		}
	}
	return nil
}

// devices reads what the allocator sees; kinds that are not served hold nothing.
func (w *World) devices(ctx context.Context) (Devices, error) {
	var d Devices
	var err error
	if d.Slices, err = all[resourceapi.ResourceSlice](ctx, w, "ResourceSlice.resource.k8s.io"); err != nil {
		return d, err
	}
	if d.Claims, err = all[resourceapi.ResourceClaim](ctx, w, "ResourceClaim.resource.k8s.io"); err != nil {
		return d, err
	}
	if d.Classes, err = all[resourceapi.DeviceClass](ctx, w, "DeviceClass.resource.k8s.io"); err != nil {
		return d, err
	}
	if _, _, err := w.resource("DeviceTaintRule.resource.k8s.io", ""); err == nil {
		d.RulesServed = true
	}
	d.Rules, err = all[resourceapi.DeviceTaintRule](ctx, w, "DeviceTaintRule.resource.k8s.io")
	return d, err
}

func all[T any](ctx context.Context, w *World, kind string) ([]*T, error) {
	l, err := w.list(ctx, kind, "")
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var out []*T
	for i := range l {
		v, err := as[T](&l[i])
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// collect does what the garbage collector and the claim controller do: what a pod or
// another owner that was there has left goes with it, and claims are given back. What
// had lost its owner before the recording stays as it was recorded.
func (w *World) collect(ctx context.Context) error {
	for range 4 { // owners of owners
		again, err := w.sweep(ctx)
		if err != nil || !again {
			return err
		}
	}
	return nil
}

func (w *World) sweep(ctx context.Context) (again bool, err error) {
	kinds := []string{"Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "Job.batch", "ReplicaSet.apps", "Pod", "ResourceClaim.resource.k8s.io"}
	there := map[string]bool{}
	var owned []unstructured.Unstructured
	for _, k := range kinds {
		l, err := w.list(ctx, k, "")
		if err != nil {
			if err := ignoreMissing(err); err != nil {
				return false, err
			}
			return false, nil // a kind that cannot be listed may hold any owner
		}
		for _, o := range l {
			there[string(o.GetUID())] = true
			if metav1.GetControllerOf(&o) != nil {
				owned = append(owned, o)
			}
		}
	}
	w.mu.Lock()
	lost := func(uid string) bool { return w.known[types.UID(uid)] && !there[uid] }
	for uid := range there {
		w.known[types.UID(uid)] = true
	}
	w.mu.Unlock()
	for i := range owned {
		o := &owned[i]
		if !lost(string(metav1.GetControllerOf(o).UID)) {
			continue
		}
		kind := o.GetKind()
		if g := o.GroupVersionKind().Group; g != "" {
			kind += "." + g
		}
		if err := w.release(ctx, o); err != nil {
			return false, err
		}
		if err := w.remove(ctx, kind, o.GetNamespace(), o.GetName()); err != nil {
			return false, err
		}
		again = true
	}
	return again, w.giveBack(ctx, lost)
}

// release takes the finalizer of the claim controller off a claim that goes.
func (w *World) release(ctx context.Context, o *unstructured.Unstructured) error {
	if o.GetKind() != "ResourceClaim" || len(o.GetFinalizers()) == 0 {
		return nil
	}
	r, _, err := w.resource("ResourceClaim.resource.k8s.io", o.GetNamespace())
	if err != nil {
		return err
	}
	keep := slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return f == resourceapi.Finalizer })
	_, err = merge(ctx, r, o.GetName(), map[string]any{"metadata": map[string]any{"finalizers": keep}})
	return err
}

// giveBack takes pods that are gone off the claims that they used; a claim that nobody
// uses any more gives its devices back.
func (w *World) giveBack(ctx context.Context, lost func(uid string) bool) error {
	l, err := w.list(ctx, "ResourceClaim.resource.k8s.io", "")
	if err != nil {
		return ignoreMissing(err)
	}
	for i := range l {
		users, _, _ := unstructured.NestedSlice(l[i].Object, "status", "reservedFor")
		left := slices.DeleteFunc(slices.Clone(users), func(x any) bool {
			m, _ := x.(map[string]any)
			uid, _ := m["uid"].(string)
			return lost(uid)
		})
		if len(left) == len(users) {
			continue
		}
		st := map[string]any{"reservedFor": left}
		if len(left) == 0 {
			st["reservedFor"], st["allocation"] = nil, nil
		}
		r, _, err := w.resource("ResourceClaim.resource.k8s.io", l[i].GetNamespace())
		if err != nil {
			return err
		}
		if _, err := merge(ctx, r, l[i].GetName(), map[string]any{"status": st}, "status"); err != nil {
			return err
		}
	}
	return nil
}
