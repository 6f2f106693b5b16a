package apiserver

import (
	"encoding/json"
	"io"
	"net/http"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// serveReview answers what the reader may do: everything but what the capture
// was denied. Reviews change nothing.
func (s *Server) serveReview(w http.ResponseWriter, r *http.Request, q request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		fail(w, err)
		return
	}
	switch q.gvr.Resource {
	case "selfsubjectaccessreviews":
		var review authorizationv1.SelfSubjectAccessReview
		if err := json.Unmarshal(raw, &review); err != nil {
			fail(w, apierrors.NewBadRequest(err.Error()))
			return
		}
		review.Status.Allowed = true
		if a := review.Spec.ResourceAttributes; a != nil {
			sub := request{namespace: a.Namespace, name: a.Name, subresource: a.Subresource}
			sub.gvr.Group, sub.gvr.Version, sub.gvr.Resource = a.Group, a.Version, a.Resource
			if err := s.denied(a.Verb, sub); err != nil {
				review.Status.Allowed, review.Status.Reason = false, "the capture was refused this"
			}
		}
		review.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: "authorization.k8s.io/v1"}
		writeJSON(w, http.StatusCreated, review)
	case "selfsubjectrulesreviews":
		var review authorizationv1.SelfSubjectRulesReview
		if err := json.Unmarshal(raw, &review); err != nil {
			fail(w, apierrors.NewBadRequest(err.Error()))
			return
		}
		review.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectRulesReview", APIVersion: "authorization.k8s.io/v1"}
		review.Status = authorizationv1.SubjectRulesReviewStatus{ResourceRules: s.rules(review.Spec.Namespace), NonResourceRules: []authorizationv1.NonResourceRule{}}
		writeJSON(w, http.StatusCreated, review)
	default:
		fail(w, notFoundPath())
	}
}

// rules lists a rule a resource, without the verbs that are denied.
func (s *Server) rules(namespace string) []authorizationv1.ResourceRule {
	out := []authorizationv1.ResourceRule{}
	add := func(r bundle.Resource, name, sub string) {
		var verbs []string
		for _, v := range []string{"get", "list", "watch", "create", "update", "patch", "delete"} {
			q := request{namespace: namespace, subresource: sub, gvr: gvr(r)}
			if s.denied(v, q) == nil {
				verbs = append(verbs, v)
			}
		}
		out = append(out, authorizationv1.ResourceRule{Verbs: verbs, APIGroups: []string{r.Group}, Resources: []string{name}})
	}
	for _, r := range s.resources {
		add(r, r.Plural, "")
		for _, sub := range subresources(r) {
			add(r, r.Plural+"/"+sub, sub)
		}
	}
	return out
}
