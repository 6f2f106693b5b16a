package source

import (
	"context"

	authv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Allowed asks the API server whether this identity may do something
// (SelfSubjectAccessReview). Namespace empty means in the whole cluster.
func (s *Source) Allowed(ctx context.Context, verb, group, resource, subresource, namespace string) (bool, error) {
	c := call{verb: "create", group: "authorization.k8s.io", resource: "selfsubjectaccessreviews", extra: verb + "/" + group + "/" + resource + "/" + subresource + "/" + namespace}
	return cached(ctx, s, c, func(ctx context.Context) (bool, int, error) {
		r, err := s.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{
			Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{
				Verb: verb, Group: group, Resource: resource, Subresource: subresource, Namespace: namespace,
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			return false, 0, err
		}
		return r.Status.Allowed, 1, nil
	})
}

// Rules lists what this identity may do in a namespace (SelfSubjectRulesReview).
// Incomplete is set when an authorizer cannot list its rules.
func (s *Source) Rules(ctx context.Context, namespace string) (*authv1.SubjectRulesReviewStatus, error) {
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	c := call{verb: "create", group: "authorization.k8s.io", resource: "selfsubjectrulesreviews", extra: namespace}
	return cached(ctx, s, c, func(ctx context.Context) (*authv1.SubjectRulesReviewStatus, int, error) {
		r, err := s.client.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authv1.SelfSubjectRulesReview{
			Spec: authv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
		}, metav1.CreateOptions{})
		if err != nil {
			return nil, 0, err
		}
		return &r.Status, 1, nil
	})
}
