package apiserver

import (
	"encoding/json"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func scaleKind() schema.GroupVersionKind { return autoscalingv1.SchemeGroupVersion.WithKind("Scale") }

// serveScale answers the scale subresource of a workload.
func (s *Server) serveScale(w http.ResponseWriter, r *http.Request, q request, verb string) {
	f := formOf(r)
	if f.none {
		notAcceptable(w)
		return
	}
	if verb == "get" {
		u := s.find(q)
		if u == nil {
			fail(w, notFound(q))
			return
		}
		f.write(w, http.StatusOK, scaleOf(q, u))
		return
	}
	body, err := readBody(r)
	if err != nil {
		fail(w, err)
		return
	}
	out, err := s.scale(r, q, verb, body)
	if err != nil {
		fail(w, err)
		return
	}
	f.write(w, http.StatusOK, out)
}

func (s *Server) scale(r *http.Request, q request, verb string, body []byte) (*autoscalingv1.Scale, error) {
	o, err := writeOptions(r, verb)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.table(q.gvr).get(q.namespace, q.name)
	if old == nil {
		return nil, notFound(q)
	}
	now := scaleOf(q, old)
	var raw []byte
	if verb == "update" {
		raw, err = toJSON(mediaType(r), body, scaleKind())
	} else {
		raw, err = scalePatched(r, now, body)
	}
	if err != nil {
		return nil, err
	}
	var want autoscalingv1.Scale
	if err := json.Unmarshal(raw, &want); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if v := want.ResourceVersion; v != "" && v != old.GetResourceVersion() {
		return nil, conflict(q, "the object has been modified; please apply your changes to the latest version and try again")
	}
	if id := want.UID; id != "" && id != old.GetUID() {
		return nil, conflict(q, "Precondition failed: UID in precondition: %s, UID in object meta: %s", id, old.GetUID())
	}
	if want.Spec.Replicas < 0 {
		return nil, apierrors.NewInvalid(scaleKind().GroupKind(), q.name, field.ErrorList{field.Invalid(field.NewPath("spec", "replicas"), want.Spec.Replicas, "must be greater than or equal to 0")})
	}
	next := canonical(q, old).DeepCopy()
	if err := unstructured.SetNestedField(next.Object, int64(want.Spec.Replicas), scalePaths(q).replicas...); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	main := q
	main.subresource = ""
	res, err := s.replace(main, old, next, o)
	if err != nil {
		return nil, err
	}
	return scaleOf(q, res.object), nil
}

func scalePatched(r *http.Request, now *autoscalingv1.Scale, body []byte) ([]byte, error) {
	obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(now)
	if err != nil {
		return nil, err
	}
	return patched(patchType(r), true, scaleKind(), &unstructured.Unstructured{Object: obj}, body)
}

// scalePaths are where a workload has its counts.
func scalePaths(q request) definition {
	if d := q.resource.custom; d != nil {
		return *d
	}
	return definition{replicas: []string{"spec", "replicas"}, statusReplicas: []string{"status", "replicas"}}
}

func scaleOf(q request, u *unstructured.Unstructured) *autoscalingv1.Scale {
	p := scalePaths(q)
	number := func(path []string, unset int64) int32 {
		v, ok, err := unstructured.NestedInt64(u.Object, path...)
		if !ok || err != nil {
			v = unset
		}
		return int32(min(max(v, 0), 1<<31-1)) //nolint:gosec // within bounds
	}
	unset := int64(0)
	if q.resource.typed {
		unset = 1 // the default of every built-in workload
	}
	out := &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{Kind: "Scale", APIVersion: autoscalingv1.SchemeGroupVersion.String()},
		ObjectMeta: metav1.ObjectMeta{Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
			CreationTimestamp: u.GetCreationTimestamp()},
		Spec:   autoscalingv1.ScaleSpec{Replicas: number(p.replicas, unset)},
		Status: autoscalingv1.ScaleStatus{Replicas: number(p.statusReplicas, 0)},
	}
	out.Status.Selector = selectorText(u, p.selector)
	return out
}

// selectorText gives a workload's pod selector in the form of a query.
func selectorText(u *unstructured.Unstructured, path []string) string {
	if len(path) > 0 {
		v, _, _ := unstructured.NestedString(u.Object, path...)
		return v
	}
	sel, ok, err := unstructured.NestedMap(u.Object, "spec", "selector")
	if err != nil || !ok {
		return ""
	}
	if u.GetKind() == "ReplicationController" {
		sel = map[string]any{"matchLabels": sel}
	}
	var ls metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(sel, &ls); err != nil {
		return ""
	}
	return metav1.FormatLabelSelector(&ls)
}
