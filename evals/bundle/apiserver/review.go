package apiserver

import (
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// reviews are the resources that are asked, not stored.
func reviews() []bundle.Resource {
	r := func(group, kind, plural string) bundle.Resource {
		return bundle.Resource{Group: group, Version: "v1", Kind: kind, Plural: plural, Singular: kindToSingular(kind), Verbs: []string{"create"}}
	}
	return []bundle.Resource{
		r(authenticationv1.GroupName, "SelfSubjectReview", "selfsubjectreviews"),
		r(authorizationv1.GroupName, "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
		r(authorizationv1.GroupName, "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
		r(authorizationv1.GroupName, "SubjectAccessReview", "subjectaccessreviews"),
	}
}

func isReview(q request) bool {
	for _, r := range reviews() {
		if gvr(r) == q.gvr {
			return true
		}
	}
	return false
}

// serveReview answers who a client is and what people may do: everything but what
// the capture was denied, what Forbid takes, or the bundle does not hold. Reviews
// change nothing.
func (s *Server) serveReview(w http.ResponseWriter, r *http.Request, q request) {
	if r.Method != http.MethodPost || q.name != "" || q.namespace != "" {
		fail(w, apierrors.NewMethodNotSupported(q.gvr.GroupResource(), verbOf(r, q)))
		return
	}
	out, err := s.review(r, q)
	if err != nil {
		fail(w, err)
		return
	}
	f := formOf(r)
	if f.none {
		notAcceptable(w)
		return
	}
	f.write(w, http.StatusCreated, out)
}

func (s *Server) review(r *http.Request, q request) (any, error) {
	switch q.gvr.Resource {
	case "selfsubjectaccessreviews":
		gvk := authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview")
		var review authorizationv1.SelfSubjectAccessReview
		if err := into(r, gvk, &review); err != nil {
			return nil, err
		}
		if (review.Spec.ResourceAttributes == nil) == (review.Spec.NonResourceAttributes == nil) {
			return nil, apierrors.NewBadRequest("exactly one of nonResourceAttributes or resourceAttributes must be specified")
		}
		review.TypeMeta = typeMeta(gvk)
		user, _ := userOf(r)
		review.Status = s.allowed(user, review.Spec)
		return review, nil
	case "subjectaccessreviews":
		gvk := authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview")
		var review authorizationv1.SubjectAccessReview
		if err := into(r, gvk, &review); err != nil {
			return nil, err
		}
		if (review.Spec.ResourceAttributes == nil) == (review.Spec.NonResourceAttributes == nil) {
			return nil, apierrors.NewBadRequest("exactly one of nonResourceAttributes or resourceAttributes must be specified")
		}
		if review.Spec.User == "" && len(review.Spec.Groups) == 0 {
			return nil, apierrors.NewBadRequest("at least one of user or group must be specified")
		}
		review.TypeMeta = typeMeta(gvk)
		review.Status = s.allowed(review.Spec.User, authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: review.Spec.ResourceAttributes, NonResourceAttributes: review.Spec.NonResourceAttributes})
		return review, nil
	case "selfsubjectrulesreviews":
		gvk := authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectRulesReview")
		var review authorizationv1.SelfSubjectRulesReview
		if err := into(r, gvk, &review); err != nil {
			return nil, err
		}
		if review.Spec.Namespace == "" {
			return nil, apierrors.NewBadRequest("no namespace on request")
		}
		review.TypeMeta = typeMeta(gvk)
		user, _ := userOf(r)
		review.Status = authorizationv1.SubjectRulesReviewStatus{ResourceRules: s.rules(user, review.Spec.Namespace),
			NonResourceRules: []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version"}}}}
		return review, nil
	}
	gvk := authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview")
	user, groups := userOf(r)
	return authenticationv1.SelfSubjectReview{TypeMeta: typeMeta(gvk),
		Status: authenticationv1.SelfSubjectReviewStatus{UserInfo: authenticationv1.UserInfo{Username: user, Groups: groups}}}, nil
}

func typeMeta(gvk schema.GroupVersionKind) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: gvk.Kind, APIVersion: gvk.GroupVersion().String()}
}

// allowed judges one right.
func (s *Server) allowed(user string, spec authorizationv1.SelfSubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus {
	if n := spec.NonResourceAttributes; n != nil {
		return authorizationv1.SubjectAccessReviewStatus{Allowed: n.Verb == "get"}
	}
	a := spec.ResourceAttributes
	err := s.denied(attributes{user: user, verb: a.Verb, group: a.Group, resource: a.Resource, subresource: a.Subresource, namespace: a.Namespace, name: a.Name})
	if err == nil && (a.Verb == "*" || a.Resource == "*" || a.Group == "*") && s.limited() {
		// Who lacks one right does not have them all.
		return authorizationv1.SubjectAccessReviewStatus{Reason: "some reads are refused: see what the bundle leaves out"}
	}
	if apierrors.IsForbidden(err) {
		return authorizationv1.SubjectAccessReviewStatus{Reason: err.Error()}
	}
	return authorizationv1.SubjectAccessReviewStatus{Allowed: true}
}

// limited reports whether any read is refused.
func (s *Server) limited() bool {
	m := s.bundle.Manifest
	if len(m.Denied) > 0 || len(m.Namespaces) > 0 {
		return true
	}
	for _, r := range s.resources {
		if len(r.leftOut) > 0 {
			return true
		}
	}
	return false
}

// rules lists a rule a resource, without the verbs that are denied.
func (s *Server) rules(user, namespace string) []authorizationv1.ResourceRule {
	out := []authorizationv1.ResourceRule{}
	add := func(r *resource, sub string, verbs []string) {
		a := attributes{user: user, group: r.Group, resource: r.Plural, subresource: sub}
		if r.Namespaced {
			a.namespace = namespace
		}
		var may []string
		for _, a.verb = range verbs {
			if !apierrors.IsForbidden(s.denied(a)) {
				may = append(may, a.verb)
			}
		}
		if len(may) > 0 {
			out = append(out, authorizationv1.ResourceRule{Verbs: may, APIGroups: []string{r.Group}, Resources: []string{a.path()}})
		}
	}
	for _, r := range reviews() {
		out = append(out, authorizationv1.ResourceRule{Verbs: r.Verbs, APIGroups: []string{r.Group}, Resources: []string{r.Plural}})
	}
	for _, r := range s.resources {
		add(r, "", r.verbs())
		for _, sub := range r.served() {
			add(r, sub.name, sub.verbs)
		}
	}
	return out
}
