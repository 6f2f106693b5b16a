package dra

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

func TestOriginOfAClaim(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "job-0", UID: "p1"}}
	pod.Spec.ResourceClaims = []corev1.PodResourceClaim{
		{Name: "gpu", ResourceClaimTemplateName: new("gpu-tmpl")},
		{Name: "nic", ResourceClaimTemplateName: new("nic-tmpl")},
		{Name: "own", ResourceClaimName: new("by-hand")},
	}
	pod.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{
		{Name: "gpu", ResourceClaimName: new("job-0-gpu-x")}, {Name: "nic", ResourceClaimName: new("job-0-nic-y")},
	}
	owned := func(kind, name, uid string) []metav1.OwnerReference {
		return []metav1.OwnerReference{{APIVersion: "v1", Kind: kind, Name: name, UID: types.UID(uid), Controller: new(true)}}
	}
	for _, c := range []struct {
		name       string
		claim      metav1.ObjectMeta
		pod        *corev1.Pod
		template   string
		standalone bool
	}{
		{"made from the pod's first template", metav1.ObjectMeta{Name: "job-0-gpu-x", UID: "c1", OwnerReferences: owned("Pod", "job-0", "p1")}, pod, "gpu-tmpl", false},
		{"made from the pod's second template", metav1.ObjectMeta{Name: "job-0-nic-y", UID: "c1", OwnerReferences: owned("Pod", "job-0", "p1")}, pod, "nic-tmpl", false},
		{"made by a person", metav1.ObjectMeta{Name: "by-hand", UID: "c2"}, pod, "", true},
		{"made by a person, no pod", metav1.ObjectMeta{Name: "by-hand", UID: "c2"}, nil, "", true},
		{"of another pod with that name", metav1.ObjectMeta{Name: "job-0-gpu-x", UID: "c3", OwnerReferences: owned("Pod", "job-0", "p0")}, pod, "", false},
		{"its pod is not known", metav1.ObjectMeta{Name: "job-0-gpu-x", UID: "c3", OwnerReferences: owned("Pod", "job-0", "p1")}, nil, "", false},
		{"made by another controller", metav1.ObjectMeta{Name: "by-hand", UID: "c4", OwnerReferences: owned("PodGroup", "g", "g1")}, pod, "", false},
		{"generated, the owner cut off", metav1.ObjectMeta{Name: "job-1-gpu-x", UID: "c5", Annotations: map[string]string{resourceapi.PodResourceClaimAnnotation: "gpu"}}, nil, "", false},
		{"made by the scheduler", metav1.ObjectMeta{Name: "job-0-ext", UID: "c6", OwnerReferences: owned("Pod", "job-0", "p1"), Annotations: map[string]string{resourceapi.ExtendedResourceClaimAnnotation: "true"}}, pod, "", false},
		{"would be made by the scheduler", metav1.ObjectMeta{Name: "by-hand"}, pod, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			claim := &resourceapi.ResourceClaim{ObjectMeta: c.claim}
			claim.Namespace = "ml"
			if got := templateOf(c.pod, claim); got != c.template {
				t.Errorf("template %q, want %q", got, c.template)
			}
			if got := standalone(claim); got != c.standalone {
				t.Errorf("standalone %v, want %v", got, c.standalone)
			}
		})
	}
}

// A claim of the same name in another namespace keeps its params, and so does what
// shares a params map with the finding that is marked.
func TestWithOriginMarksOneClaim(t *testing.T) {
	t.Parallel()
	mine := incident.Ref{Namespace: "ml", Group: "resource.k8s.io", Kind: "ResourceClaim", Name: "gpu"}
	other := mine
	other.Namespace = "old"
	shared := map[string]string{"message": "m"}
	fs := withOrigin([]incident.Finding{{Subject: mine, Params: shared}, {Subject: other, Params: shared}, {Subject: mine}}, mine, "tmpl", false)
	for i, want := range []map[string]string{{"message": "m", "template": "tmpl"}, {"message": "m"}, {"template": "tmpl"}} {
		if !maps.Equal(fs[i].Params, want) {
			t.Errorf("finding %d has %v, want %v", i, fs[i].Params, want)
		}
	}
	if fs := withOrigin([]incident.Finding{{Subject: mine}}, mine, "", false); fs[0].Params != nil {
		t.Errorf("nothing is known of the claim, and yet %v", fs[0].Params)
	}
}
