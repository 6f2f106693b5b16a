package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// deleteOptions reads them from the body, or without one from the query.
func deleteOptions(r *http.Request, body []byte) (metav1.DeleteOptions, error) {
	var o metav1.DeleteOptions
	if len(body) > 0 {
		raw, err := toJSON(mediaType(r), body, metav1.SchemeGroupVersion.WithKind("DeleteOptions"))
		if err != nil {
			return o, err
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			return o, apierrors.NewBadRequest(err.Error())
		}
	} else if err := metainternalversionscheme.ParameterCodec.DecodeParameters(r.URL.Query(), metav1.SchemeGroupVersion, &o); err != nil {
		return o, apierrors.NewBadRequest(err.Error())
	}
	if errs := metav1validation.ValidateDeleteOptions(&o); len(errs) > 0 {
		return o, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	return o, nil
}

func (s *Server) serveDelete(w http.ResponseWriter, r *http.Request, q request, body []byte) {
	o, err := deleteOptions(r, body)
	if err != nil {
		fail(w, err)
		return
	}
	s.mu.Lock()
	left, gone, err := s.remove(q, o)
	s.mu.Unlock()
	if err != nil {
		fail(w, err)
		return
	}
	if left != nil {
		s.respond(w, r, q, http.StatusOK, left)
		return
	}
	formOf(r).write(w, http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: q.name, Group: q.gvr.Group, Kind: q.gvr.Resource, UID: gone.GetUID()}})
}

// serveDeleteCollection deletes what a list would give, and gives it.
func (s *Server) serveDeleteCollection(w http.ResponseWriter, r *http.Request, q request, body []byte) {
	o, err := deleteOptions(r, body)
	if err != nil {
		fail(w, err)
		return
	}
	p, err := s.list(r, q)
	if err != nil {
		fail(w, err)
		return
	}
	items := make([]any, 0, len(p.items))
	s.mu.Lock()
	for _, u := range p.items {
		one := q
		one.namespace, one.name = u.GetNamespace(), u.GetName()
		if _, _, err = s.remove(one, o); err != nil && !apierrors.IsNotFound(err) {
			break
		}
		err = nil
		items = append(items, u.Object)
	}
	s.mu.Unlock()
	if err != nil {
		fail(w, err)
		return
	}
	formOf(r).write(w, http.StatusOK, map[string]any{"kind": q.resource.Kind + "List", "apiVersion": q.gvr.GroupVersion().String(), "metadata": p.meta, "items": items})
}

// remove deletes an object: left is what stays of it because of its finalizers,
// gone what it was. There is no garbage collector here: what it owned stays.
// The caller holds the lock.
func (s *Server) remove(q request, o metav1.DeleteOptions) (left, gone *unstructured.Unstructured, err error) {
	old := s.table(q.gvr).get(q.namespace, q.name)
	if old == nil {
		return nil, nil, notFound(q)
	}
	if p := o.Preconditions; p != nil {
		if p.UID != nil && *p.UID != old.GetUID() {
			return nil, nil, conflict(q, "Precondition failed: UID in precondition: %s, UID in object meta: %s", *p.UID, old.GetUID())
		}
		if p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
			return nil, nil, conflict(q, "Precondition failed: ResourceVersion in precondition: %s, ResourceVersion in object meta: %s", *p.ResourceVersion, old.GetResourceVersion())
		}
	}
	stays := len(old.GetFinalizers()) > 0
	if q.gvr == namespaces() {
		if slices.Contains([]string{"default", "kube-system", "kube-public"}, q.name) {
			return nil, nil, apierrors.NewForbidden(q.gvr.GroupResource(), q.name, fmt.Errorf("this namespace may not be deleted"))
		}
		if len(o.DryRun) == 0 {
			stays = s.empty(q.name, o) || stays
		}
	}
	switch {
	case !stays:
		if len(o.DryRun) == 0 {
			s.store(q.gvr, s.table(q.gvr).get(q.namespace, q.name), nil)
		}
		return nil, old, nil
	case old.GetDeletionTimestamp() != nil:
		return old, old, nil
	}
	next := old.DeepCopy()
	now, zero := metaTime(s.now()), int64(0)
	next.SetDeletionTimestamp(&now)
	next.SetDeletionGracePeriodSeconds(&zero)
	if next.GetGeneration() > 0 {
		next.SetGeneration(next.GetGeneration() + 1)
	}
	if q.gvr == namespaces() {
		next.Object["status"] = map[string]any{"phase": "Terminating"}
	}
	if len(o.DryRun) > 0 {
		return next, old, nil
	}
	return s.store(q.gvr, old, next), old, nil
}

// empty deletes what is in a namespace and reports whether anything stays.
func (s *Server) empty(namespace string, o metav1.DeleteOptions) (stays bool) {
	o.Preconditions = nil
	for _, res := range s.resources {
		if !res.Namespaced {
			continue
		}
		for _, r := range slices.Clone(s.table(res.gvr).in(namespace)) {
			left, _, err := s.remove(request{resource: res, gvr: res.gvr, namespace: namespace, name: r.name}, o)
			stays = stays || err != nil || left != nil
		}
	}
	return stays
}
