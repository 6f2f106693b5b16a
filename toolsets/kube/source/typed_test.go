package source_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

// Every typed read asks for the resource its name says, reads every object of
// it, and tells a missing object by that resource.
func TestTypedReads(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		one, many, apiVersion, kind, resource string
		namespaced                            bool
	}{
		{"Pod", "Pods", "v1", "Pod", "pods", true},
		{"Node", "Nodes", "v1", "Node", "nodes", false},
		{"Namespace", "Namespaces", "v1", "Namespace", "namespaces", false},
		{"Service", "Services", "v1", "Service", "services", true},
		{"ServiceAccount", "ServiceAccounts", "v1", "ServiceAccount", "serviceaccounts", true},
		{"ResourceQuota", "ResourceQuotas", "v1", "ResourceQuota", "resourcequotas", true},
		{"LimitRange", "LimitRanges", "v1", "LimitRange", "limitranges", true},
		{"PVC", "PVCs", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", true},
		{"PV", "PVs", "v1", "PersistentVolume", "persistentvolumes", false},
		{"Deployment", "Deployments", "apps/v1", "Deployment", "deployments.apps", true},
		{"ReplicaSet", "ReplicaSets", "apps/v1", "ReplicaSet", "replicasets.apps", true},
		{"StatefulSet", "StatefulSets", "apps/v1", "StatefulSet", "statefulsets.apps", true},
		{"DaemonSet", "DaemonSets", "apps/v1", "DaemonSet", "daemonsets.apps", true},
		{"ControllerRevision", "ControllerRevisions", "apps/v1", "ControllerRevision", "controllerrevisions.apps", true},
		{"Job", "Jobs", "batch/v1", "Job", "jobs.batch", true},
		{"CronJob", "CronJobs", "batch/v1", "CronJob", "cronjobs.batch", true},
		{"HPA", "HPAs", "autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers.autoscaling", true},
		{"PDB", "PDBs", "policy/v1", "PodDisruptionBudget", "poddisruptionbudgets.policy", true},
		{"Lease", "Leases", "coordination.k8s.io/v1", "Lease", "leases.coordination.k8s.io", true},
		{"Ingress", "Ingresses", "networking.k8s.io/v1", "Ingress", "ingresses.networking.k8s.io", true},
		{"IngressClass", "IngressClasses", "networking.k8s.io/v1", "IngressClass", "ingressclasses.networking.k8s.io", false},
		{"NetworkPolicy", "NetworkPolicies", "networking.k8s.io/v1", "NetworkPolicy", "networkpolicies.networking.k8s.io", true},
		{"StorageClass", "StorageClasses", "storage.k8s.io/v1", "StorageClass", "storageclasses.storage.k8s.io", false},
		{"CSIDriver", "CSIDrivers", "storage.k8s.io/v1", "CSIDriver", "csidrivers.storage.k8s.io", false},
		{"CSINode", "CSINodes", "storage.k8s.io/v1", "CSINode", "csinodes.storage.k8s.io", false},
		{"VolumeAttachment", "VolumeAttachments", "storage.k8s.io/v1", "VolumeAttachment", "volumeattachments.storage.k8s.io", false},
		{"PriorityClass", "PriorityClasses", "scheduling.k8s.io/v1", "PriorityClass", "priorityclasses.scheduling.k8s.io", false},
		{"RuntimeClass", "RuntimeClasses", "node.k8s.io/v1", "RuntimeClass", "runtimeclasses.node.k8s.io", false},
		{"ValidatingWebhook", "ValidatingWebhooks", "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations.admissionregistration.k8s.io", false},
		{"MutatingWebhook", "MutatingWebhooks", "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations.admissionregistration.k8s.io", false},
	} {
		t.Run(tc.one, func(t *testing.T) {
			t.Parallel()
			srv := sourcetest.Start(t)
			ns := ""
			if tc.namespaced {
				ns = ", namespace: train"
			}
			for _, n := range []string{"a", "b"} {
				srv.AddYAML("apiVersion: " + tc.apiVersion + "\nkind: " + tc.kind + "\nmetadata: {name: " + n + ns + "}\n")
			}
			src := srv.Source(clock)
			where := []any{}
			if tc.namespaced {
				where = append(where, "train")
			}
			list := invoke(t, src, tc.many, where...)
			if list.err != nil || list.value.Len() != 2 {
				t.Errorf("%s: %v", tc.many, list.err)
			}
			one := invoke(t, src, tc.one, append(where, "b")...)
			if one.err != nil || one.value.Interface().(metav1.Object).GetName() != "b" {
				t.Errorf("%s: %v", tc.one, one.err)
			}
			miss := invoke(t, src, tc.one, append(where, "zzz")...)
			if tool.KindOf(miss.err) != tool.NotFound || !strings.HasPrefix(miss.err.Error(), tc.resource+" ") {
				t.Errorf("missing: %v", miss.err)
			}
			empty := invoke(t, src, tc.one, append(where, "")...)
			if tool.KindOf(empty.err) != tool.Invalid {
				t.Errorf("an empty name must not become a list: %v", empty.err)
			}
		})
	}
}

type outcome struct {
	value reflect.Value
	err   error
}

func invoke(t *testing.T, src *source.Source, method string, args ...any) outcome {
	t.Helper()
	in := []reflect.Value{reflect.ValueOf(context.WithoutCancel(t.Context()))}
	for _, a := range args {
		in = append(in, reflect.ValueOf(a))
	}
	out := reflect.ValueOf(src).MethodByName(method).Call(in)
	err, _ := reflect.TypeAssert[error](out[1])
	return outcome{out[0], err}
}

func TestEndpointSlicesByService(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.AddYAML(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, namespace: web, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: []
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: other-abc, namespace: web, labels: {kubernetes.io/service-name: other}}
addressType: IPv4
endpoints: []
`)
	got, err := srv.Source(clock).EndpointSlices(t.Context(), "web", "web")
	if err != nil || len(got) != 1 || got[0].Name != "web-abc" {
		t.Errorf("%v %v", got, err)
	}
}

func TestAPIServices(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.AddYAML("apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1beta1.metrics.k8s.io}\n")
	got, err := srv.Source(clock).APIServices(t.Context())
	if err != nil || len(got) != 1 {
		t.Errorf("%v %v", got, err)
	}
}

func TestEachStopsEarlyAndKeepsNothing(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	for i := range 2700 {
		srv.Add(pod("train", string(rune('a'+i%26))+strings.Repeat("x", i/26)))
	}
	src := srv.Source(clock)
	m, ok := src.Kind(t.Context(), "pods")
	if !ok {
		t.Fatal("pods are served")
	}
	for _, tc := range []struct{ stop, seen, requests int }{{1, 1, 1}, {2000, 2000, 1}, {2001, 2001, 2}, {9999, 2700, 2}} {
		before := len(srv.Requests())
		seen := 0
		err := src.EachMetadata(t.Context(), m, "train", source.Selectors{}, func(*metav1.PartialObjectMetadata) bool {
			seen++
			return seen < tc.stop
		})
		if n := len(srv.Requests()) - before; err != nil || seen != tc.seen || n != tc.requests {
			t.Errorf("stop at %d: %d seen, %d requests, %v", tc.stop, seen, n, err)
		}
	}
}

func TestMetadataReads(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t, pod("train", "a", func(p *corev1.Pod) {
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: "Update"}}
		p.Spec.NodeName = "n1"
	}))
	src := srv.Source(clock)
	m, _ := src.Kind(t.Context(), "pods")
	one, err := src.Metadata(t.Context(), m, "train", "a")
	if err != nil || len(one.ManagedFields) != 1 {
		t.Errorf("%v %v", one, err)
	}
	list, err := src.MetadataList(t.Context(), m, "", source.Selectors{Fields: "metadata.name=a"})
	if err != nil || len(list) != 1 || len(list[0].ManagedFields) != 0 {
		t.Errorf("%v %v", list, err)
	}
	if _, err := src.Metadata(t.Context(), m, "train", "b"); tool.KindOf(err) != tool.NotFound {
		t.Errorf("%v", err)
	}
	// Cluster-scoped kinds are asked for without a namespace, whatever is said.
	srv.AddYAML("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n")
	nodes, _ := src.Kind(t.Context(), "nodes")
	if n, err := src.Metadata(t.Context(), nodes, "train", "n1"); err != nil || n.Name != "n1" {
		t.Errorf("%v %v", n, err)
	}
}

func TestSourceIsWhatItWasToldToBe(t *testing.T) {
	t.Parallel()
	src := sourcetest.Start(t).Source(clock)
	if src.Cluster() != "test" || !src.Now().Equal(noon) {
		t.Errorf("%s %s", src.Cluster(), src.Now())
	}
	if diff := cmp.Diff("Deployment web/x", src.Ref("apps", "Deployment", "web", "x").String()); diff != "" {
		t.Error(diff)
	}
	if _, err := source.New(source.Config{}); err == nil {
		t.Error("a source without a client")
	}
	c := sourcetest.Start(t).SourceConfig(clock)
	c.Dynamic = nil
	if _, err := source.New(c); err == nil || !strings.Contains(err.Error(), "Dynamic") {
		t.Errorf("%v", err)
	}
}
