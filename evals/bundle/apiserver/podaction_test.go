package apiserver

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestEviction(t *testing.T) {
	t.Parallel()
	s := shop(t)
	ctx, pods := t.Context(), typed(t, s).CoreV1().Pods("shop")
	evict := func(name string) error {
		return pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	second := podOf("web-6d4-bbbbb")
	second.Labels = map[string]string{"app": "web"}
	if _, err := pods.Create(ctx, second, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Patch(ctx, second.Name, types.MergePatchType, []byte(`{"status":{"phase":"Running"}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	if err := evict("web-6d4-aaaaa"); err != nil {
		t.Errorf("the one that the budget allows: %v", err)
	}
	err := evict("web-6d4-bbbbb")
	if !apierrors.IsTooManyRequests(err) || !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) || !strings.Contains(err.Error(), "Cannot evict pod as it would violate the pod's disruption budget.") {
		t.Errorf("one more: %v", err)
	}
	if err := evict("orders"); err != nil {
		t.Errorf("a pod without a budget: %v", err)
	}
	if err := evict("nobody"); !apierrors.IsNotFound(err) {
		t.Errorf("a pod that is not there: %v", err)
	}
}

func TestBinding(t *testing.T) {
	t.Parallel()
	ctx, pods := t.Context(), typed(t, shop(t)).CoreV1().Pods("shop")
	bind := func() error {
		return pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "train"}, Target: corev1.ObjectReference{Kind: "Node", Name: "gpu-1"}}, metav1.CreateOptions{})
	}
	if err := bind(); err != nil {
		t.Fatal(err)
	}
	p, err := pods.Get(ctx, "train", metav1.GetOptions{})
	if err != nil || p.Spec.NodeName != "gpu-1" || len(p.Status.Conditions) != 1 || p.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("bound: %+v %v", p, err)
	}
	if err := bind(); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `pod train is already assigned to node "gpu-1"`) {
		t.Errorf("bound twice: %v", err)
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	s := shop(t)
	ctx, d := t.Context(), typed(t, s).AppsV1().Deployments("shop")
	sc, err := d.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil || sc.Spec.Replicas != 2 || sc.Status.Replicas != 2 || sc.Status.Selector != "app=web" || sc.Kind != "" && sc.Kind != "Scale" {
		t.Fatalf("%+v %v", sc, err)
	}
	stale := sc.DeepCopy()
	sc.Spec.Replicas = 6
	if sc, err = d.UpdateScale(ctx, "web", sc, metav1.UpdateOptions{}); err != nil || sc.Spec.Replicas != 6 {
		t.Fatalf("%+v %v", sc, err)
	}
	got, err := d.Get(ctx, "web", metav1.GetOptions{})
	if err != nil || *got.Spec.Replicas != 6 || got.Generation != 3 || got.Spec.Template.Spec.Containers[0].Image != "registry.example.com/web:2" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := d.UpdateScale(ctx, "web", stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("stale: %v", err)
	}
}
