package bundle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

const (
	// pageSize of the lists of a capture, in objects.
	pageSize = 500
	// maxEmptyPages in a row end a list that never would.
	maxEmptyPages = 100
)

// objects lists a kind in the wanted namespaces.
func (c *capture) objects(ctx context.Context, r Resource) ([]*unstructured.Unstructured, error) {
	type part struct{ namespace, fields string }
	parts := []part{{}}
	if r.Namespaced && len(c.o.Namespaces) > 0 {
		if gr := (schema.GroupResource{Group: r.Group, Resource: r.Plural}); gr == claims() {
			objs, err := c.list(ctx, r, "", metav1.ListOptions{Limit: pageSize})
			if err == nil {
				c.answered++
				c.manifest.Across = append(c.manifest.Across, gr.String())
				for i, o := range objs {
					if !slices.Contains(c.o.Namespaces, o.GetNamespace()) {
						objs[i] = holding(o)
					}
				}
				return sorted(objs), nil
			}
			// Whoever may not see all of them may see those of the namespaces.
			if _, isStatus := errors.AsType[*apierrors.StatusError](err); !isStatus || ctx.Err() != nil {
				return nil, c.missed(ctx, r, "", err)
			}
		}
		parts = nil
		for _, ns := range c.o.Namespaces {
			parts = append(parts, part{namespace: ns})
		}
		if r.Group == "" && r.Plural == "events" && !slices.Contains(c.o.Namespaces, metav1.NamespaceDefault) {
			// Events of nodes and other cluster-scoped objects.
			parts = append(parts, part{namespace: metav1.NamespaceDefault, fields: "involvedObject.namespace="})
		}
	}
	var out []*unstructured.Unstructured
	for _, p := range parts {
		objs, err := c.list(ctx, r, p.namespace, metav1.ListOptions{Limit: pageSize, FieldSelector: p.fields})
		if err != nil {
			if err := c.missed(ctx, r, p.namespace, err); err != nil {
				return nil, err
			}
			continue
		}
		c.answered++
		out = append(out, objs...)
	}
	return sorted(out), nil
}

func sorted(objs []*unstructured.Unstructured) []*unstructured.Unstructured {
	slices.SortFunc(objs, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
	})
	return objs
}

// claims are captured in all namespaces where that is allowed: without the
// holders of devices nobody can say why a claim is not allocated.
func claims() schema.GroupResource {
	return schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}
}

// holding keeps of a ResourceClaim of a namespace that nobody asked for what it
// takes from others: which devices it holds, and for whom. Labels, annotations,
// selectors and the parameters of drivers stay where they are.
func holding(claim *unstructured.Unstructured) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: map[string]any{"apiVersion": claim.GetAPIVersion(), "kind": claim.GetKind(), "spec": map[string]any{}}}
	for _, field := range [][]string{
		{"metadata", "name"}, {"metadata", "namespace"}, {"metadata", "uid"}, {"metadata", "creationTimestamp"}, {"metadata", "deletionTimestamp"}, {"metadata", "resourceVersion"},
		{"status", "allocation", "devices", "results"}, {"status", "allocation", "nodeSelector"}, {"status", "allocation", "allocationTimestamp"}, {"status", "reservedFor"},
	} {
		if v, ok, err := unstructured.NestedFieldCopy(claim.Object, field...); ok && err == nil {
			// The way there is made of maps of ours alone: this cannot fail.
			_ = unstructured.SetNestedField(out.Object, v, field...)
		}
	}
	return out
}

// errEndless is a list that a server never brings to an end.
var errEndless = errors.New("the server brings the list to no end")

// list reads all pages of a list. A list that expires while it is read is read
// again in one piece.
func (c *capture) list(ctx context.Context, r Resource, ns string, o metav1.ListOptions) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	empty := 0
	for {
		page, next, err := c.page(ctx, r, ns, o)
		if o.Continue != "" && apierrors.IsResourceExpired(err) {
			out, o.Continue, o.Limit = nil, "", 0
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if next == "" {
			return out, nil
		}
		if empty++; len(page) > 0 {
			empty = 0
		}
		if next == o.Continue || empty > maxEmptyPages || len(out) > DefaultLimits().Objects {
			return nil, fmt.Errorf("%d %s so far: %w", len(out), r.Plural, errEndless)
		}
		o.Continue = next
	}
}

// page reads one page. Of Secrets only the metadata is asked for.
func (c *capture) page(ctx context.Context, r Resource, ns string, o metav1.ListOptions) (out []*unstructured.Unstructured, next string, err error) {
	gvr := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural}
	if r.Group == "" && r.Plural == "secrets" {
		l, err := c.meta.Resource(gvr).Namespace(ns).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		for _, m := range l.Items {
			// Annotations hold manifests, and with them values.
			out = append(out, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret",
				"metadata": map[string]any{"name": m.Name, "namespace": m.Namespace, "uid": string(m.UID), "creationTimestamp": m.CreationTimestamp.UTC().Format(time.RFC3339), "resourceVersion": m.ResourceVersion}}})
		}
		return out, l.Continue, nil
	}
	l, err := c.dyn.Resource(gvr).Namespace(ns).List(ctx, o)
	if err != nil {
		return nil, "", err
	}
	for i := range l.Items {
		u := &l.Items[i]
		if ns != "" && u.GetNamespace() != ns {
			return nil, "", fmt.Errorf("asked for namespace %s, the server gives %s %s/%s", ns, r.Kind, u.GetNamespace(), u.GetName())
		}
		if o.FieldSelector != "" && involvedNamespace(u) != "" {
			continue
		}
		// A server may leave these out of the items of a list.
		if u.GetKind() == "" {
			u.SetKind(r.Kind)
		}
		if u.GetAPIVersion() == "" {
			u.SetAPIVersion(gvr.GroupVersion().String())
		}
		clean, err := c.clean(u)
		if err != nil {
			return nil, "", err
		}
		out = append(out, clean)
	}
	return out, l.GetContinue(), nil
}

func involvedNamespace(u *unstructured.Unstructured) string {
	ns, _, _ := unstructured.NestedString(u.Object, "involvedObject", "namespace")
	return ns
}

// clean drops what makes a bundle large and masks what must not leave.
func (c *capture) clean(u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	fields := u.GetManagedFields()
	for i := range fields {
		fields[i].FieldsV1 = nil
		fields[i].FieldsType = ""
	}
	u.SetManagedFields(fields)
	if a := u.GetAnnotations(); a != nil {
		delete(a, "kubectl.kubernetes.io/last-applied-configuration")
		u.SetAnnotations(a)
	}
	switch u.GroupVersionKind().GroupKind().String() {
	case "ConfigMap":
		if u.GetName() == "kube-root-ca.crt" {
			// Every namespace has the cluster's CA; that it is there is enough.
			u.Object["data"] = map[string]any{"ca.crt": "(left out)"}
		}
		if m, ok := u.Object["binaryData"].(map[string]any); ok {
			// Nobody can see what is in it, so nobody can mask it.
			for k := range m {
				m[k] = ""
			}
		}
	case "CustomResourceDefinition.apiextensions.k8s.io":
		versions, _, _ := unstructured.NestedSlice(u.Object, "spec", "versions")
		for _, v := range versions {
			if m, ok := v.(map[string]any); ok {
				m["schema"] = map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
			}
		}
		_ = unstructured.SetNestedSlice(u.Object, versions, "spec", "versions")
	}
	if c.o.Redactor == nil {
		return u, nil
	}
	return mask(u, c.o.Redactor)
}

// mask redacts every string of an object; keys, structure and identity stay.
func mask(u *unstructured.Unstructured, r Redactor) (*unstructured.Unstructured, error) {
	apiVersion, kind := u.GetAPIVersion(), u.GetKind()
	keep := map[string]any{}
	if md, ok := u.Object["metadata"].(map[string]any); ok {
		for _, f := range []string{"name", "namespace", "uid", "resourceVersion", "creationTimestamp"} {
			if v, ok := md[f]; ok {
				keep[f] = v
			}
		}
	}
	raw, err := json.Marshal(masked(u.Object, r))
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(r.JSON(raw), &out.Object); err != nil {
		return nil, fmt.Errorf("redact %s %s: %w", kind, u.GetName(), err)
	}
	out.SetAPIVersion(apiVersion)
	out.SetKind(kind)
	if md, ok := out.Object["metadata"].(map[string]any); ok {
		maps.Copy(md, keep)
	}
	return out, nil
}

// masked handles the shapes in which a secret and its telling name lie apart:
// {name, value} pairs, a flag and the argument after it, JSON within a string.
func masked(v any, r Redactor) any {
	switch v := v.(type) {
	case string:
		return maskedText(v, r)
	case []any:
		for i := range v {
			flag, arg := "", ""
			if i > 0 {
				flag, _ = v[i-1].(string)
				arg, _ = v[i].(string)
			}
			if arg != "" && strings.HasPrefix(flag, "-") && !strings.ContainsAny(flag, "= ") {
				v[i] = maskedPair(strings.TrimLeft(flag, "-"), arg, r)
				continue
			}
			v[i] = masked(v[i], r)
		}
	case map[string]any:
		for k := range v {
			v[k] = masked(v[k], r)
		}
		name, _ := v["name"].(string)
		if value, ok := v["value"].(string); ok && name != "" {
			v["value"] = maskedPair(name, value, r)
		}
	}
	return v
}

func maskedPair(name, value string, r Redactor) string {
	value = maskedText(value, r)
	raw, err := json.Marshal(map[string]string{name: value})
	if err != nil {
		return "[redacted]"
	}
	var out map[string]string
	if err := json.Unmarshal(r.JSON(raw), &out); err != nil || len(out) != 1 {
		return "[redacted]"
	}
	for _, v := range out {
		return v
	}
	return value
}

// maskedText masks JSON within a string by its keys; other text is left to the
// pass over the whole object.
func maskedText(s string, r Redactor) string {
	t := strings.TrimSpace(s)
	if len(t) < 2 || (t[0] != '{' && t[0] != '[') || !json.Valid([]byte(t)) {
		return s
	}
	d := json.NewDecoder(strings.NewReader(t))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return s
	}
	raw, err := json.Marshal(masked(v, r))
	if err != nil {
		return s
	}
	out := string(r.JSON(raw))
	if same(t, out) {
		return s // nothing was masked: the text keeps its form
	}
	return out
}

// same reports whether two JSON texts mean the same.
func same(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	rx, errX := json.Marshal(x)
	ry, errY := json.Marshal(y)
	return errX == nil && errY == nil && string(rx) == string(ry)
}
