package scenario

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
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
	"sigs.k8s.io/yaml"
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
		if err := h.uid(ctx, u); err != nil {
			return false, err
		}
		status, hasStatus := u.Object["status"]
		live, err := h.update(ctx, res, u)
		if apierrors.IsNotFound(err) {
			live, err = res.Create(ctx, u, metav1.CreateOptions{})
		}
		switch {
		case apierrors.IsAlreadyExists(err):
			return false, err
		case apierrors.IsNotFound(err) && strings.Contains(err.Error(), "namespaces \""):
			ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": u.GetNamespace()}}}
			return false, h.one(ctx, ns)
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

// uid fills in which object a hand-written event is about: an event without
// the uid belongs to nobody.
func (h *ClusterHands) uid(ctx context.Context, u *unstructured.Unstructured) error {
	involved, ok := u.Object["involvedObject"].(map[string]any)
	if !ok || involved["uid"] != nil {
		return nil
	}
	text := func(k string) string { s, _ := involved[k].(string); return s }
	res, err := h.resource(text("apiVersion"), text("kind"), text("namespace"))
	if err != nil {
		return err
	}
	live, err := res.Get(ctx, text("name"), metav1.GetOptions{})
	if err != nil {
		return err
	}
	involved["uid"] = string(live.GetUID())
	return nil
}

// Pods implements Hands.
func (h *ClusterHands) Pods(ctx context.Context, p PodsStatus, status []byte, now time.Time) error {
	var over map[string]any
	if err := yaml.Unmarshal(status, &over); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	res := h.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(p.Namespace)
	var pods []unstructured.Unstructured
	err := until(ctx, func() (bool, error) {
		list, err := res.List(ctx, metav1.ListOptions{LabelSelector: p.Selector})
		if err != nil {
			return true, err
		}
		pods = nil
		for _, u := range list.Items {
			node, _, _ := unstructured.NestedString(u.Object, "spec", "nodeName")
			if (p.Name == "" || u.GetName() == p.Name) && node != "" {
				pods = append(pods, u)
			}
		}
		if len(pods) == 0 {
			return false, fmt.Errorf("no bound pod in %s matches %q %s", p.Namespace, p.Selector, p.Name)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if len(over) > 0 {
			if err := h.one(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod",
				"metadata": map[string]any{"name": pod.GetName(), "namespace": p.Namespace}, "status": over}}); err != nil {
				return err
			}
		}
		if err := h.podEvents(ctx, p, pod, now); err != nil {
			return err
		}
	}
	return nil
}

// podEvents writes the events of a kubelet about one pod.
func (h *ClusterHands) podEvents(ctx context.Context, p PodsStatus, pod unstructured.Unstructured, now time.Time) error {
	ago, err := time.ParseDuration(cmp.Or(p.Ago, "1m"))
	if err != nil {
		return err
	}
	node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
	last := now.Add(-ago).UTC()
	for _, reason := range slices.Sorted(maps.Keys(p.Events)) {
		kind, name := "Warning", reason
		if n, normal := strings.CutPrefix(reason, "+"); normal {
			kind, name = "Normal", n
		}
		e := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Event", "type": kind, "reason": name, "message": p.Events[reason], "count": int64(max(p.Count, 1)),
			"firstTimestamp": last.Add(-5 * time.Minute).Format(time.RFC3339), "lastTimestamp": last.Format(time.RFC3339),
			"source":         map[string]any{"component": "kubelet", "host": node},
			"metadata":       map[string]any{"name": pod.GetName() + "." + strings.ToLower(name), "namespace": p.Namespace},
			"involvedObject": map[string]any{"apiVersion": "v1", "kind": "Pod", "namespace": p.Namespace, "name": pod.GetName(), "uid": string(pod.GetUID())},
		}}
		if err := h.one(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// update lays the document's fields over the live object; a document of
// nothing but a name and a status changes nothing here.
func (h *ClusterHands) update(ctx context.Context, res dynamic.ResourceInterface, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live, err := res.Get(ctx, u.GetName(), metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	before := live.DeepCopy()
	for k, v := range u.Object {
		if k != "status" {
			live.Object[k] = merged(live.Object[k], v)
		}
	}
	if reflect.DeepEqual(before.Object, live.Object) {
		return live, nil
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
		if len(live.GetFinalizers()) > 0 {
			return true, nil
		}
		return false, errors.New("it is still there")
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
