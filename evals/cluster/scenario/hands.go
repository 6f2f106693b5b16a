package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/util/jsonpath"
)

// ClusterHands do it through the API of a real cluster.
type ClusterHands struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

var _ Hands = (*ClusterHands)(nil)

// NewHands makes hands for a cluster.
func NewHands(cfg *rest.Config) (*ClusterHands, error) {
	dc, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &ClusterHands{client: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(dc))}, nil
}

// Apply creates or updates the documents in order.
func (h *ClusterHands) Apply(ctx context.Context, documents []byte) error {
	dec := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(documents), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := dec.Decode(&u.Object); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("decode: %w", err)
		}
		if len(u.Object) == 0 {
			continue
		}
		if err := h.one(ctx, u); err != nil {
			return fmt.Errorf("apply %s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
		}
	}
}

// one writes an object; while its kind is not served yet (a CRD just applied)
// or its namespace's account is not there yet, it tries again.
func (h *ClusterHands) one(ctx context.Context, u *unstructured.Unstructured) error {
	return until(ctx, func() (bool, error) {
		res, err := h.resource(u.GetAPIVersion(), u.GetKind(), u.GetNamespace())
		if meta.IsNoMatchError(err) {
			h.mapper.Reset()
			return false, err
		}
		if err != nil {
			return true, err
		}
		status, hasStatus := u.Object["status"]
		live, err := res.Create(ctx, u, metav1.CreateOptions{})
		switch {
		case apierrors.IsAlreadyExists(err):
			live, err = h.update(ctx, res, u)
		case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "serviceaccount"):
			return false, err
		}
		if err != nil {
			return !apierrors.IsConflict(err), err
		}
		if !hasStatus {
			return true, nil
		}
		live.Object["status"] = merged(live.Object["status"], status)
		_, err = res.UpdateStatus(ctx, live, metav1.UpdateOptions{})
		return !apierrors.IsConflict(err), err
	})
}

// update lays the document's fields over the live object.
func (h *ClusterHands) update(ctx context.Context, res dynamic.ResourceInterface, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live, err := res.Get(ctx, u.GetName(), metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	for k, v := range u.Object {
		if k != "status" {
			live.Object[k] = merged(live.Object[k], v)
		}
	}
	return res.Update(ctx, live, metav1.UpdateOptions{})
}

// merged lays over onto base: maps field by field, anything else replaced.
func merged(base, over any) any {
	b, ok1 := base.(map[string]any)
	o, ok2 := over.(map[string]any)
	if !ok1 || !ok2 {
		return over
	}
	out := map[string]any{}
	for k, v := range b {
		out[k] = v
	}
	for k, v := range o {
		out[k] = merged(out[k], v)
	}
	return out
}

// Delete removes an object and waits until it is gone, unless a finalizer holds it.
func (h *ClusterHands) Delete(ctx context.Context, o Object) error {
	res, err := h.resource(o.APIVersion, o.Kind, o.Namespace)
	if err != nil {
		return err
	}
	if err := res.Delete(ctx, o.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		live, err := res.Get(ctx, o.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		return len(live.GetFinalizers()) > 0, errors.New("it is still there")
	})
}

// Until implements Hands: it waits for an EventWait or a FieldWait.
func (h *ClusterHands) Until(ctx context.Context, w any) error {
	switch w := w.(type) {
	case EventWait:
		return until(ctx, func() (bool, error) { return h.event(ctx, w) })
	case FieldWait:
		return until(ctx, func() (bool, error) { return h.field(ctx, w) })
	}
	return fmt.Errorf("cannot wait for %T", w)
}

func (h *ClusterHands) event(ctx context.Context, w EventWait) (bool, error) {
	res := h.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "events"}).Namespace(w.Namespace)
	list, err := res.List(ctx, metav1.ListOptions{})
	if err != nil {
		return true, err
	}
	for _, e := range list.Items {
		kind, _, _ := unstructured.NestedString(e.Object, "involvedObject", "kind")
		name, _, _ := unstructured.NestedString(e.Object, "involvedObject", "name")
		reason, _, _ := unstructured.NestedString(e.Object, "reason")
		message, _, _ := unstructured.NestedString(e.Object, "message")
		if kind == w.Kind && (w.Name == "" || name == w.Name) && reason == w.Reason && strings.Contains(message, w.Contains) {
			return true, nil
		}
	}
	return false, fmt.Errorf("no event %s on %s %s/%s yet", w.Reason, w.Kind, w.Namespace, w.Name)
}

func (h *ClusterHands) field(ctx context.Context, w FieldWait) (bool, error) {
	res, err := h.resource(w.APIVersion, w.Kind, w.Namespace)
	if err != nil {
		return false, err
	}
	var items []unstructured.Unstructured
	if w.Name != "" {
		live, err := res.Get(ctx, w.Name, metav1.GetOptions{})
		if err != nil {
			return !apierrors.IsNotFound(err), err
		}
		items = append(items, *live)
	} else {
		list, err := res.List(ctx, metav1.ListOptions{})
		if err != nil {
			return true, err
		}
		items = list.Items
	}
	j := jsonpath.New("wait").AllowMissingKeys(true)
	if err := j.Parse("{." + strings.TrimPrefix(w.Path, ".") + "}"); err != nil {
		return true, err
	}
	have := ""
	for _, u := range items {
		var b strings.Builder
		if err := j.Execute(&b, u.Object); err != nil {
			return true, err
		}
		have = b.String()
		if have == w.Value {
			return true, nil
		}
	}
	return false, fmt.Errorf("%s of %s %s/%s is %q, not %q", w.Path, w.Kind, w.Namespace, w.Name, have, w.Value)
}

func (h *ClusterHands) resource(apiVersion, kind, namespace string) (dynamic.ResourceInterface, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, err
	}
	m, err := h.mapper.RESTMapping(gv.WithKind(kind).GroupKind(), gv.Version)
	if err != nil {
		return nil, err
	}
	res := h.client.Resource(m.Resource)
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		if namespace == "" {
			namespace = "default"
		}
		return res.Namespace(namespace), nil
	}
	return res, nil
}

// patience is how long a scenario waits for one thing.
const patience = 45 * time.Second

// until asks again until done, ctx ends or patience runs out; the last error
// says what was missing.
func until(ctx context.Context, f func() (done bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		done, err := f()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-t.C:
		}
	}
}
