package apiserver

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// People are who they say they act as; what is taken from one is not taken from
// another, and every way to ask about it gives the same answer.
func TestPeople(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.Forbid("eve", bundle.Denied{Verb: "delete", Resource: "pods"})
	as := func(name string, groups ...string) kubernetes.Interface {
		cfg := s.RESTConfig()
		cfg.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: groups}
		c, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx := t.Context()
	who, err := as("ann", "sre").AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || who.Status.UserInfo.Username != "ann" || len(who.Status.UserInfo.Groups) != 2 {
		t.Errorf("%+v %v", who, err)
	}
	attr := &authorizationv1.ResourceAttributes{Verb: "delete", Resource: "pods", Namespace: "shop"}
	for name, want := range map[string]bool{"ann": true, "eve": false} {
		own, err := as(name).AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attr}}, metav1.CreateOptions{})
		if err != nil || own.Status.Allowed != want {
			t.Errorf("%s of themselves: %+v %v", name, own, err)
		}
		of, err := as("").AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: name, ResourceAttributes: attr}}, metav1.CreateOptions{})
		if err != nil || of.Status.Allowed != want {
			t.Errorf("of %s: %+v %v", name, of, err)
		}
		if err := as(name).CoreV1().Pods("shop").Delete(ctx, "orders", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); apierrors.IsForbidden(err) == want {
			t.Errorf("%s deletes: %v", name, err)
		}
	}
}
