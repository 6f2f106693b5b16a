package apiserver

import (
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func success(w http.ResponseWriter, code int) {
	writeJSON(w, code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: int32(code)}) //nolint:gosec // an HTTP status
}

// serveEviction deletes a pod if its disruption budget allows that. The pod
// goes at once: there is no kubelet to wait for.
func (s *Server) serveEviction(w http.ResponseWriter, r *http.Request, q request) {
	var e policyv1.Eviction
	if err := into(r, policyv1.SchemeGroupVersion.WithKind("Eviction"), &e); err != nil {
		fail(w, err)
		return
	}
	if e.Name != "" && e.Name != q.name {
		fail(w, apierrors.NewBadRequest("name in URL does not match name in Eviction object"))
		return
	}
	var o metav1.DeleteOptions
	if e.DeleteOptions != nil {
		o = *e.DeleteOptions
	}
	if r.URL.Query().Get("dryRun") == metav1.DryRunAll {
		o.DryRun = []string{metav1.DryRunAll}
	}
	if err := s.evict(q, o); err != nil {
		fail(w, err)
		return
	}
	success(w, http.StatusCreated)
}

func (s *Server) evict(q request, o metav1.DeleteOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod := s.table(q.gvr).get(q.namespace, q.name)
	if pod == nil {
		return notFound(q)
	}
	q.subresource = ""
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	protected := phase == string(corev1.PodRunning) && pod.GetDeletionTimestamp() == nil
	budgets := s.budgets(pod)
	switch {
	case !protected || len(budgets) == 0:
	case len(budgets) > 1:
		return apierrors.NewInternalError(fmt.Errorf("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
	default:
		if err := s.spend(budgets[0], len(o.DryRun) > 0); err != nil {
			return err
		}
	}
	_, _, err := s.remove(q, o)
	return err
}

func budgetsOf() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}
}

// budgets gives the disruption budgets that cover a pod.
func (s *Server) budgets(pod *unstructured.Unstructured) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, r := range s.table(budgetsOf()).in(pod.GetNamespace()) {
		m, ok, _ := unstructured.NestedMap(r.object.Object, "spec", "selector")
		if !ok {
			continue
		}
		var ls metav1.LabelSelector
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &ls); err != nil {
			continue
		}
		sel, err := metav1.LabelSelectorAsSelector(&ls)
		if err == nil && sel.Matches(labels.Set(pod.GetLabels())) {
			out = append(out, r.object)
		}
	}
	return out
}

// spend takes one disruption of a budget, or refuses in the API server's words.
func (s *Server) spend(pdb *unstructured.Unstructured, dry bool) error {
	allowed, _, _ := unstructured.NestedInt64(pdb.Object, "status", "disruptionsAllowed")
	if allowed < 1 {
		err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
		healthy, _, _ := unstructured.NestedInt64(pdb.Object, "status", "currentHealthy")
		desired, _, _ := unstructured.NestedInt64(pdb.Object, "status", "desiredHealthy")
		err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause,
			Message: fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", pdb.GetName(), desired, healthy)}}
		return err
	}
	if dry {
		return nil
	}
	next := pdb.DeepCopy()
	if err := unstructured.SetNestedField(next.Object, allowed-1, "status", "disruptionsAllowed"); err != nil {
		return apierrors.NewInternalError(err)
	}
	s.store(budgetsOf(), pdb, next)
	return nil
}

// serveBinding puts a pod on a node, as a scheduler does.
func (s *Server) serveBinding(w http.ResponseWriter, r *http.Request, q request) {
	var b corev1.Binding
	if err := into(r, corev1.SchemeGroupVersion.WithKind("Binding"), &b); err != nil {
		fail(w, err)
		return
	}
	if b.Name != "" && b.Name != q.name {
		fail(w, apierrors.NewBadRequest("name in URL does not match name in Binding object"))
		return
	}
	if err := s.bind(q, b, r.URL.Query().Get("dryRun") == metav1.DryRunAll); err != nil {
		fail(w, err)
		return
	}
	success(w, http.StatusCreated)
}

func (s *Server) bind(q request, b corev1.Binding, dry bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod := s.table(q.gvr).get(q.namespace, q.name)
	if pod == nil {
		return notFound(q)
	}
	if b.Target.Name == "" {
		return apierrors.NewBadRequest("target.name is required")
	}
	if id := b.UID; id != "" && id != pod.GetUID() {
		return conflict(q, "Precondition failed: UID in precondition: %s, UID in object meta: %s", id, pod.GetUID())
	}
	if pod.GetDeletionTimestamp() != nil {
		return conflict(q, "pod %s is being deleted, cannot be assigned to a host", q.name)
	}
	if node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName"); node != "" {
		return conflict(q, "pod %s is already assigned to node %q", q.name, node)
	}
	next := pod.DeepCopy()
	if err := unstructured.SetNestedField(next.Object, b.Target.Name, "spec", "nodeName"); err != nil {
		return apierrors.NewInternalError(err)
	}
	conditions, _, _ := unstructured.NestedSlice(next.Object, "status", "conditions")
	conditions = slices.DeleteFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == string(corev1.PodScheduled)
	})
	conditions = append(conditions, map[string]any{"type": string(corev1.PodScheduled), "status": "True", "lastProbeTime": nil, "lastTransitionTime": metaTime(s.now()).Format("2006-01-02T15:04:05Z")})
	if err := unstructured.SetNestedSlice(next.Object, conditions, "status", "conditions"); err != nil {
		return apierrors.NewInternalError(err)
	}
	if !dry {
		s.store(q.gvr, pod, next)
	}
	return nil
}
