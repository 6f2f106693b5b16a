package bundle_test

import (
	"testing"
	"testing/fstest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

const sketch = `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web-1, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1-a, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1}]}
spec: {resourceClaims: [{name: gpu, resourceClaimTemplateName: one}], containers: [{name: main}]}
status: {resourceClaimStatuses: [{name: gpu, resourceClaimName: web-1-a-gpu-x}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: web-1-a-gpu-x, namespace: shop}
status: {reservedFor: [{resource: pods, name: web-1-a}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: shop}
spec: {selector: {matchLabels: {app: agent}}}
---
apiVersion: v1
kind: Pod
metadata: {name: agent-x, namespace: shop, labels: {app: agent, x: "1"}}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: shop, labels: {app: other}}
---
apiVersion: v1
kind: Pod
metadata: {name: seen, namespace: shop, uid: real, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, uid: earlier, controller: true}]}
`

func opened(t *testing.T) map[string]*unstructured.Unstructured {
	t.Helper()
	b, err := bundle.Open(fstest.MapFS{
		"bundle.yaml":       {Data: []byte("formatVersion: 1\ncaptured: 2026-11-24T12:00:00Z\n")},
		"objects/shop.yaml": {Data: []byte(sketch)},
	}, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*unstructured.Unstructured{}
	for _, u := range b.Objects {
		out[u.GetKind()+"/"+u.GetName()] = u
	}
	return out
}

func TestWrittenObjectsAreCompleted(t *testing.T) {
	t.Parallel()
	objs := opened(t)
	set, pod, claim := objs["ReplicaSet/web-1"], objs["Pod/web-1-a"], objs["ResourceClaim/web-1-a-gpu-x"]
	if set.GetUID() == "" || set.GetUID() == pod.GetUID() {
		t.Errorf("uids %q and %q", set.GetUID(), pod.GetUID())
	}
	if again := opened(t)["ReplicaSet/web-1"].GetUID(); again != set.GetUID() {
		t.Errorf("opened again the uid is %s, not %s", again, set.GetUID())
	}
	if o := pod.GetOwnerReferences(); len(o) != 1 || o[0].UID != set.GetUID() || o[0].Controller == nil || !*o[0].Controller {
		t.Errorf("owner of the pod: %+v", o)
	}
	if o := claim.GetOwnerReferences(); len(o) != 1 || o[0].UID != pod.GetUID() {
		t.Errorf("owner of the claim: %+v", o)
	}
	if o := objs["Pod/agent-x"].GetOwnerReferences(); len(o) != 1 || o[0].UID != objs["DaemonSet/agent"].GetUID() {
		t.Errorf("owner of the agent: %+v", o)
	}
	if o := objs["Pod/alone"].GetOwnerReferences(); len(o) != 0 {
		t.Errorf("owner of a pod that no selector finds: %+v", o)
	}
	list, _, _ := unstructured.NestedSlice(claim.Object, "status", "reservedFor")
	if m := list[0].(map[string]any); m["uid"] != string(pod.GetUID()) {
		t.Errorf("reserved for %v", m)
	}
}

func TestCapturedObjectsStayAsTheyWere(t *testing.T) {
	t.Parallel()
	seen := opened(t)["Pod/seen"]
	if seen.GetUID() != "real" || seen.GetOwnerReferences()[0].UID != "earlier" {
		t.Errorf("uid %s, owner %+v", seen.GetUID(), seen.GetOwnerReferences())
	}
}
