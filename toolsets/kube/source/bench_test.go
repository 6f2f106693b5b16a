package source_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

// gpuPod is a pod as an API server returns it, with what defaulting, the
// scheduler and the kubelet add.
func gpuPod(i int) *corev1.Pod {
	name := fmt.Sprintf("train-%d", i)
	env := []corev1.EnvVar{}
	for e := range 30 {
		env = append(env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", e), Value: fmt.Sprintf("value-of-some-length-%d-%d", i, e)})
	}
	sec := int64(300)
	now := metav1.NewTime(noon)
	conds := []corev1.PodCondition{}
	for _, t := range []corev1.PodConditionType{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		conds = append(conds, corev1.PodCondition{Type: t, Status: "True", LastTransitionTime: now})
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "train", Name: name, UID: "b1b9c0de-0000-0000-0000-000000000000", Labels: map[string]string{"app": "train", "job": name},
			Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: fmt.Sprintf("%02000d", i)},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m", Operation: "Update", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fmt.Sprintf(`{"f:spec":{"f:x":"%03000d"}}`, i))}}},
		Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", i%5000), Containers: []corev1.Container{{Name: "main", Image: "registry.example/train:1", Env: env, Args: []string{"--config", "/etc/x"},
			Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1"), "memory": resource.MustParse("64Gi")}}}},
			Tolerations: []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: &sec}, {Key: "node.kubernetes.io/unreachable", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: &sec}}},
		Status: corev1.PodStatus{Phase: "Running", Conditions: conds, PodIP: "10.0.0.1", ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true, Image: "registry.example/train:1", ImageID: "sha256:0", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}},
	}
}

// BenchmarkListAllPods tells what one listed pod costs: time, and memory kept
// in the cache. 20,000 pods must stay well below 300 MiB.
func BenchmarkListAllPods(b *testing.B) {
	const pods = 4000
	srv := sourcetest.Start(b)
	for i := range pods {
		srv.Add(gpuPod(i))
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		src := srv.Source(func() time.Time { return noon })
		before := heap()
		got, err := src.Pods(b.Context(), "")
		if err != nil || len(got) != pods {
			b.Fatal(len(got), err)
		}
		b.ReportMetric(float64(int64(heap())-int64(before))/pods, "kept-B/pod")
		runtime.KeepAlive(src)
	}
}
