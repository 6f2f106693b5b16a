// Package actions holds the typed changes that a plan is made of, the backend that
// sends them to the Kubernetes API, and the checks that prove them.
package actions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Cluster reads the cluster for one plan. What earlier steps of the plan would
// change is seen as changed. It is not safe for concurrent use.
type Cluster struct {
	name   string
	dyn    dynamic.Interface
	mapper meta.RESTMapper
	now    func() time.Time
	// planned holds objects as earlier writes of the plan leave them; nil is gone.
	planned map[incident.Ref]*unstructured.Unstructured
	// placed are successors of pods that earlier steps evict, on the node that the
	// proof of capacity found for them.
	placed   []*corev1.Pod
	allocate Allocate
	clouds   []PoolCloud
}

// Object is an object of the cluster with its address.
type Object struct {
	*unstructured.Unstructured
	Ref incident.Ref
	GVR schema.GroupVersionResource
	// Namespaced says whether its kind lives in namespaces.
	Namespaced bool
}

// session is a Cluster with nothing planned yet.
func (c *Cluster) session() *Cluster {
	s := *c
	s.planned = map[incident.Ref]*unstructured.Unstructured{}
	return &s
}

// mapping finds a kind, written "Deployment" or "Deployment.apps". Built-in groups
// win over others of the same kind.
func (c *Cluster) mapping(kind string) (*meta.RESTMapping, error) {
	gk := schema.ParseGroupKind(kind)
	if gk.Group == "" {
		for _, g := range []string{"", "apps", "batch", "resource.k8s.io", "policy", "networking.k8s.io", "autoscaling", "storage.k8s.io", "scheduling.k8s.io", "admissionregistration.k8s.io", "cilium.io", "gateway.networking.k8s.io", "inference.networking.k8s.io", "leaderworkerset.x-k8s.io", "serving.kserve.io", "karpenter.sh", "cluster.x-k8s.io", "security.istio.io"} {
			if m, err := c.mapper.RESTMapping(schema.GroupKind{Group: g, Kind: gk.Kind}); err == nil {
				return m, nil
			}
		}
	}
	m, err := c.mapper.RESTMapping(gk)
	if err != nil {
		return nil, fmt.Errorf("the cluster serves no kind %q: %w", kind, err)
	}
	return m, nil
}

func (c *Cluster) resource(m *meta.RESTMapping, namespace string) dynamic.ResourceInterface {
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.dyn.Resource(m.Resource).Namespace(namespace)
	}
	return c.dyn.Resource(m.Resource)
}

func (c *Cluster) object(m *meta.RESTMapping, u *unstructured.Unstructured) *Object {
	return &Object{
		Unstructured: u, GVR: m.Resource, Namespaced: m.Scope.Name() == meta.RESTScopeNameNamespace,
		Ref: incident.Ref{Cluster: c.name, Namespace: u.GetNamespace(), Group: m.GroupVersionKind.Group, Kind: m.GroupVersionKind.Kind, Name: u.GetName()},
	}
}

// Get reads an object as the plan so far would leave it. The error is the API
// server's own, wrapped; apierrors.IsNotFound works on it.
func (c *Cluster) Get(ctx context.Context, kind, namespace, name string) (*Object, error) {
	m, err := c.mapping(kind)
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() != meta.RESTScopeNameNamespace {
		namespace = ""
	}
	ref := incident.Ref{Cluster: c.name, Namespace: namespace, Group: m.GroupVersionKind.Group, Kind: m.GroupVersionKind.Kind, Name: name}
	if u, ok := c.planned[ref]; ok {
		if u == nil {
			return nil, apierrors.NewNotFound(m.Resource.GroupResource(), name)
		}
		return c.object(m, u.DeepCopy()), nil
	}
	u, err := c.resource(m, namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref, err)
	}
	return c.object(m, u), nil
}

// page is how many objects one list request asks for.
const page = 500

// List reads the objects of a kind, in one namespace or, with "", in all. The
// selectors may be empty.
func (c *Cluster) List(ctx context.Context, kind, namespace, labels, fields string) ([]*Object, error) {
	m, err := c.mapping(kind)
	if err != nil {
		return nil, err
	}
	var out []*Object
	o := metav1.ListOptions{LabelSelector: labels, FieldSelector: fields, Limit: page}
	for {
		l, err := c.resource(m, namespace).List(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", m.Resource.Resource, err)
		}
		for i := range l.Items {
			obj := c.object(m, &l.Items[i])
			if u, ok := c.planned[obj.Ref]; ok {
				if u == nil {
					continue
				}
				obj.Unstructured = u.DeepCopy()
			}
			out = append(out, obj)
		}
		if o.Continue = l.GetContinue(); o.Continue == "" {
			return out, nil
		}
	}
}

// as reads an object into a typed one.
func as[T any](o *Object) (*T, error) {
	var t T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &t); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Ref, err)
	}
	return &t, nil
}

// wanted is what an object is meant to be: labels and everything that is neither
// status nor bookkeeping. The taints that Kubernetes itself keeps on nodes are left
// out, since they follow from other fields.
func wanted(u *unstructured.Unstructured) map[string]any {
	out := map[string]any{}
	for k, v := range u.Object {
		switch k {
		case "apiVersion", "status", "metadata":
		default:
			out[k] = v
		}
	}
	meta := map[string]any{"name": u.GetName(), "namespace": u.GetNamespace()}
	if l := u.GetLabels(); len(l) > 0 {
		meta["labels"] = l
	}
	if u.GetDeletionTimestamp() != nil {
		meta["deleting"] = true
	}
	out["metadata"] = meta
	if taints, ok, _ := unstructured.NestedSlice(u.Object, "spec", "taints"); ok && u.GetKind() == "Node" {
		kept := slices.DeleteFunc(taints, func(t any) bool {
			m, _ := t.(map[string]any)
			key, _ := m["key"].(string)
			return strings.HasPrefix(key, "node.kubernetes.io/")
		})
		spec := maps.Clone(out["spec"].(map[string]any))
		if spec["taints"] = kept; len(kept) == 0 {
			delete(spec, "taints")
		}
		out["spec"] = spec
	}
	return out
}

// Digest is the SHA-256 of what an object is meant to be, "sha256:<hex>".
func Digest(u *unstructured.Unstructured) string {
	raw, err := json.Marshal(wanted(u))
	if err != nil { // an object that came as JSON is JSON again
		return ""
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
