package world

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
)

// hand is the field manager of what the rest of the cluster writes.
const hand = "cluster"

// resource finds where objects of a kind ("Deployment", "Deployment.apps") are.
func (w *World) resource(kind, namespace string) (dynamic.ResourceInterface, schema.GroupVersionKind, error) {
	name, group, _ := strings.Cut(kind, ".")
	groups := []string{group}
	if group == "" {
		groups = []string{"", "apps", "batch", "resource.k8s.io", "networking.k8s.io", "discovery.k8s.io", "policy", "cilium.io", "security.istio.io", "inference.networking.k8s.io", "karpenter.sh", "storage.k8s.io"}
	}
	var last error
	for _, g := range groups {
		m, err := w.mapper.RESTMapping(schema.GroupKind{Group: g, Kind: name})
		if err != nil {
			last = err
			continue
		}
		r := w.dyn.Resource(m.Resource)
		if m.Scope.Name() == "namespace" {
			return r.Namespace(namespace), m.GroupVersionKind, nil
		}
		return r, m.GroupVersionKind, nil
	}
	return nil, schema.GroupVersionKind{}, fmt.Errorf("kind %s is not served: %w", kind, last)
}

// Change does what somebody else does.
func (w *World) Change(ctx context.Context, c evals.Change) error {
	defer w.changed()
	for _, o := range c.Delete {
		r, _, err := w.resource(o.Kind, o.Namespace)
		if err != nil {
			return err
		}
		if err := r.Delete(ctx, o.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s: %w", o, err)
		}
	}
	docs, err := c.Documents()
	if err != nil {
		return err
	}
	for _, d := range docs {
		if _, err := w.apply(ctx, &unstructured.Unstructured{Object: d}); err != nil {
			return fmt.Errorf("apply %s %s/%s: %w", d["kind"], (&unstructured.Unstructured{Object: d}).GetNamespace(), (&unstructured.Unstructured{Object: d}).GetName(), err)
		}
	}
	return nil
}

// apply makes an object, or lays it over the one that is there.
func (w *World) apply(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	raw, err := u.MarshalJSON() // numbers as the API has them
	if err != nil {
		return nil, err
	}
	if err := u.UnmarshalJSON(raw); err != nil {
		return nil, err
	}
	gvk := u.GroupVersionKind()
	kind := gvk.Kind
	if gvk.Group != "" {
		kind += "." + gvk.Group
	}
	r, _, err := w.resource(kind, u.GetNamespace())
	if err != nil {
		return nil, err
	}
	if err := w.complete(ctx, u); err != nil {
		return nil, err
	}
	status, has := u.Object["status"]
	rest := u.DeepCopy()
	delete(rest.Object, "status")
	out, err := r.Get(ctx, u.GetName(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		out, err = r.Create(ctx, rest, metav1.CreateOptions{FieldManager: hand})
	case err == nil:
		out, err = merge(ctx, r, u.GetName(), rest.Object)
	}
	if err != nil || !has {
		return out, err
	}
	m, _ := status.(map[string]any)
	// A controller says which generation it saw, and that is the one there is.
	if _, ok := m["observedGeneration"]; ok {
		m["observedGeneration"] = out.GetGeneration()
	}
	if after, err := merge(ctx, r, u.GetName(), map[string]any{"status": m}, "status"); err == nil {
		return after, nil
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	return merge(ctx, r, u.GetName(), map[string]any{"status": m}) // a kind without the subresource
}

func merge(ctx context.Context, r dynamic.ResourceInterface, name string, patch map[string]any, sub ...string) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	return r.Patch(ctx, name, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: hand}, sub...)
}

// complete gives owners, and consumers of a claim, the uid of the object they name.
func (w *World) complete(ctx context.Context, u *unstructured.Unstructured) error {
	uid := func(kind, name string) (string, error) {
		r, _, err := w.resource(kind, u.GetNamespace())
		if err != nil {
			return "", err
		}
		o, err := r.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return string(o.GetUID()), nil
	}
	owners, _, _ := unstructured.NestedSlice(u.Object, "metadata", "ownerReferences")
	for _, o := range owners {
		m, ok := o.(map[string]any)
		if !ok || m["uid"] != nil {
			continue
		}
		gv, err := schema.ParseGroupVersion(fmt.Sprint(m["apiVersion"]))
		if err != nil {
			return err
		}
		kind := fmt.Sprint(m["kind"])
		if gv.Group != "" {
			kind += "." + gv.Group
		}
		id, err := uid(kind, fmt.Sprint(m["name"]))
		if err != nil {
			return fmt.Errorf("owner: %w", err)
		}
		m["uid"] = id
	}
	if len(owners) > 0 {
		if err := unstructured.SetNestedSlice(u.Object, owners, "metadata", "ownerReferences"); err != nil {
			return err
		}
	}
	users, _, _ := unstructured.NestedSlice(u.Object, "status", "reservedFor")
	for _, o := range users {
		m, ok := o.(map[string]any)
		if !ok || m["uid"] != nil || m["resource"] != "pods" {
			continue
		}
		id, err := uid("Pod", fmt.Sprint(m["name"]))
		if err != nil {
			return fmt.Errorf("reservedFor: %w", err)
		}
		m["uid"] = id
	}
	if len(users) > 0 {
		return unstructured.SetNestedSlice(u.Object, users, "status", "reservedFor")
	}
	return nil
}

// Ask looks whether something stands: empty if it does, else what stands instead.
func (w *World) Ask(ctx context.Context, s evals.Standing) (string, error) {
	r, _, err := w.resource(s.Kind, s.Namespace)
	if err != nil {
		if s.Gone {
			return "", nil
		}
		return err.Error(), nil
	}
	u, err := r.Get(ctx, s.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && s.Gone:
		return "", nil
	case apierrors.IsNotFound(err):
		return "it is not there", nil
	case err != nil:
		return "", fmt.Errorf("read %s: %w", s.Object, err)
	case s.Gone:
		return "it is there", nil
	case s.Exists:
		if u.GetDeletionTimestamp() != nil {
			return "it is being deleted", nil
		}
		return "", nil
	}
	have, ok := incident.ParsePath(s.Path).In(u.Object)
	text := plain(have)
	switch {
	case !ok && s.Value == "" || ok && text == s.Value && s.Value != "":
		return "", nil
	case !ok:
		return "it is not set", nil
	}
	return fmt.Sprintf("it is %q", text), nil
}

// plain writes a value: text as it is, the rest as JSON.
func plain(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// Put puts a value at a path of a document; what leads there has to be there.
func Put(doc any, path string, value any) error {
	if !incident.ParsePath(path).Put(doc, value) {
		return fmt.Errorf("path %q: there is no place for it", path)
	}
	return nil
}
