package world_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/world"
)

const note = "gumshoe.ai/plan"

// town is a small cluster: two nodes, one of them with room and a taint-free roof.
const town = `
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {zone: a}}
status: {allocatable: {cpu: "2", memory: 4Gi, pods: "10"}, conditions: [{type: Ready, status: "True"}], addresses: [{type: InternalIP, address: 10.0.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {zone: b}}
spec: {taints: [{key: gpu, value: "1", effect: NoSchedule}]}
status: {allocatable: {cpu: "8", memory: 16Gi, pods: "10"}, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, uid: d-1, generation: 1, annotations: {deployment.kubernetes.io/revision: "1"}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "web:1", ports: [{name: http, containerPort: 8080}], resources: {requests: {cpu: "1"}}}]}
status: {observedGeneration: 1, replicas: 1}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web-old, namespace: shop, uid: r-1, labels: {app: web, pod-template-hash: old}, annotations: {deployment.kubernetes.io/revision: "1"}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: d-1, controller: true}]}
spec:
  replicas: 1
  selector: {matchLabels: {app: web, pod-template-hash: old}}
  template:
    metadata: {labels: {app: web, pod-template-hash: old}}
    spec: {containers: [{name: main, image: "web:1", ports: [{name: http, containerPort: 8080}], resources: {requests: {cpu: "1"}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-old-1, namespace: shop, uid: p-1, labels: {app: web, pod-template-hash: old}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-old, uid: r-1, controller: true}]}
spec: {nodeName: n1, containers: [{name: main, image: "web:1", resources: {requests: {cpu: "1"}}}]}
status: {phase: Running, podIP: 10.1.0.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http, protocol: TCP}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop, uid: s-1, generation: 1}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {tolerations: [{key: gpu, operator: Exists}], nodeSelector: {zone: b}, containers: [{name: main, image: "db:1"}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: shop, uid: a-1, generation: 1}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: main, image: "agent:1"}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: load, namespace: shop, uid: j-1}
spec: {parallelism: 2, template: {metadata: {labels: {app: load}}, spec: {restartPolicy: Never, containers: [{name: main, image: "load:1"}]}}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: gpu, namespace: shop}
spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpu.example.com}}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: train, namespace: shop, uid: p-2}
spec: {resourceClaims: [{name: gpu, resourceClaimTemplateName: gpu}], containers: [{name: main, image: "train:1", resources: {claims: [{name: gpu}]}}]}
status: {phase: Pending}
`

// open makes a world of the town.
func open(t *testing.T, cfg world.Config) (*world.World, kubernetes.Interface) {
	t.Helper()
	b, err := bundle.Open(fstest.MapFS{
		"bundle.yaml":      {Data: []byte("formatVersion: 1\ncaptured: 2026-11-27T12:00:00Z\ncluster: town\n")},
		"objects/all.yaml": {Data: []byte(town)},
	}, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Bundle, cfg.Annotation = b, note
	w, err := world.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	rc := w.RESTConfig()
	rc.ContentType = "application/json" // as the dynamic client, which plans are executed with
	c, err := kubernetes.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	return w, c
}

// image is the patch of a plan that sets the image of the Deployment.
func image(id, v string) []byte {
	return fmt.Appendf(nil, `[{"op":"test","path":"/metadata/uid","value":"d-1"},{"op":"replace","path":"/spec/template/spec/containers/0/image","value":%q},{"op":"add","path":"/metadata/annotations/gumshoe.ai~1plan","value":"plan-1/%s"}]`, v, id)
}

func plan() *incident.Plan {
	ref := incident.Ref{Namespace: "shop", Group: "apps", Kind: "Deployment", Name: "web"}
	return &incident.Plan{Steps: []incident.Step{{ID: "s1",
		Writes: []incident.Write{
			{ID: "s1.1", Verb: "patch", Ref: ref, Body: json.RawMessage(`[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:2"}]`)},
			{ID: "s1.2", Verb: "delete", Ref: incident.Ref{Namespace: "shop", Kind: "Pod", Name: "train"}},
			{ID: "s1.3", Verb: "create", Ref: incident.Ref{Namespace: "shop", Kind: "ConfigMap", Name: "c"}, Body: json.RawMessage(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"shop"},"data":{"a":"b"}}`)},
		}}}}
}

func patch(ctx context.Context, c kubernetes.Interface, body []byte, dry ...string) error {
	_, err := c.AppsV1().Deployments("shop").Patch(ctx, "web", types.JSONPatchType, body, metav1.PatchOptions{DryRun: dry})
	return err
}

// Only what a plan holds, to the letter and once, is approved.
func TestConsentIsToTheLetter(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w, c := open(t, world.Config{})
	last := func() evals.Seen {
		s := w.Seen()
		if len(s) == 0 {
			return evals.Seen{}
		}
		return s[len(s)-1]
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(patch(ctx, c, image("s1.1", "web:2"), metav1.DryRunAll))
	do(c.CoreV1().Pods("shop").Delete(ctx, "train", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}))
	if s := w.Seen(); len(s) > 0 {
		t.Errorf("dry runs are changes: %v", s)
	}
	do(patch(ctx, c, image("s1.1", "web:3")))
	if s := last(); s.Approved || !s.Done || s.ID != "s1.1" {
		t.Errorf("without consent: %+v", s)
	}
	w.Consent(plan())
	do(patch(ctx, c, image("s1.1", "web:3")))
	if last().Approved {
		t.Error("another image passes for the one that was approved")
	}
	if err := patch(ctx, c, []byte(`[{"op":"test","path":"/metadata/uid","value":"other"},{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:2"}]`)); err == nil {
		t.Error("a guard that does not hold")
	}
	if s := last(); !s.Approved || s.Done {
		t.Errorf("a refused attempt is one that was approved, and not done: %+v", s)
	}
	do(patch(ctx, c, image("s1.1", "web:2")))
	if s := last(); !s.Approved || !s.Done {
		t.Errorf("what was approved: %+v", s)
	}
	do(patch(ctx, c, image("s1.1", "web:2")))
	if last().Approved {
		t.Error("a write is approved once")
	}
	mark := []byte(`[{"op":"add","path":"/metadata/annotations","value":{"gumshoe.ai/plan":"plan-1/s1.2"}}]`)
	if _, err := c.CoreV1().Pods("shop").Patch(ctx, "train", types.JSONPatchType, mark, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := last(); !s.Approved || !s.Mark {
		t.Errorf("the mark before a delete: %+v", s)
	}
	do(c.CoreV1().Pods("shop").Delete(ctx, "train", metav1.DeleteOptions{}))
	if s := last(); !s.Approved || s.ID != "s1.2" || s.Kind != "Pod" {
		t.Errorf("the delete: %+v", s)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "shop", Annotations: map[string]string{note: "plan-1/s1.3"}}, Data: map[string]string{"a": "b"}, TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}}
	if _, err := c.CoreV1().ConfigMaps("shop").Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := last(); !s.Approved || s.ID != "s1.3" {
		t.Errorf("the object: %+v", s)
	}
}

// The API server fails as it is told, as often as it is told.
func TestFaults(t *testing.T) {
	t.Parallel()
	for answer, check := range map[string]func(error) bool{
		evals.AnswerError:     func(err error) bool { return strings.Contains(err.Error(), "refused") },
		evals.AnswerHang:      func(err error) bool { return strings.Contains(err.Error(), "deadline") },
		evals.AnswerForbidden: apierrors.IsForbidden, evals.AnswerConflict: apierrors.IsConflict,
		evals.AnswerThrottled: apierrors.IsTooManyRequests, evals.AnswerBroken: apierrors.IsInternalError,
		evals.AnswerLost: func(err error) bool { return strings.Contains(err.Error(), "EOF") },
		evals.AnswerDown: func(err error) bool { return strings.Contains(err.Error(), "refused") },
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			w, c := open(t, world.Config{Faults: []evals.Fault{{Write: "s1.1", Answer: answer}}})
			if err := patch(t.Context(), c, image("s1.1", "web:2")); err == nil || !check(err) {
				t.Errorf("%v", err)
			}
			_, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
			if (err != nil) != (answer == evals.AnswerDown) {
				t.Errorf("a read: %v", err)
			}
			w.Up()
			d, err := c.AppsV1().Deployments("shop").Get(t.Context(), "web", metav1.GetOptions{})
			if done := err == nil && d.Spec.Template.Spec.Containers[0].Image == "web:2"; done != (answer == evals.AnswerLost) || w.Seen()[0].Done != done {
				t.Errorf("done is %v: %v", done, err)
			}
			if err := patch(t.Context(), c, image("s1.1", "web:3")); err != nil {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// What happens after a write comes in its time, and only if it may.
func TestReactionsInTime(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	object := func(name string) evals.Change {
		return evals.Change{Apply: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: shop}\n"}
	}
	w, c := open(t, world.Config{Reacts: []evals.Reaction{
		{Write: "patch Deployment", In: "10s", Change: object("late")},
		{Write: "patch Deployment web", Change: object("soon")},
		{Write: "patch Deployment other", Change: object("never")},
		{Write: "s1.1", If: []evals.Standing{{Object: evals.Object{Kind: "Deployment", Namespace: "shop", Name: "web"}, Path: "spec.replicas", Value: "5"}}, Change: object("unmet")},
	}})
	there := func(name string) bool {
		what, err := w.Ask(ctx, evals.Standing{Object: evals.Object{Kind: "ConfigMap", Namespace: "shop", Name: name}, Exists: true})
		if err != nil {
			t.Fatal(err)
		}
		return what == ""
	}
	if err := patch(ctx, c, image("s1.1", "web:2")); err != nil {
		t.Fatal(err)
	}
	if there("soon") {
		t.Error("nothing happens before time passes")
	}
	for _, step := range []struct {
		sleep      time.Duration
		soon, late bool
	}{{2 * time.Second, true, false}, {7 * time.Second, true, false}, {2 * time.Second, true, true}} {
		if err := w.Sleep(ctx, step.sleep); err != nil {
			t.Fatal(err)
		}
		if there("soon") != step.soon || there("late") != step.late {
			t.Errorf("after %s: %v %v", step.sleep, there("soon"), there("late"))
		}
	}
	if err := w.Settle(ctx); err != nil || there("never") || there("unmet") {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := w.Sleep(ended, time.Second); err == nil {
		t.Error("an ended context sleeps on")
	}
}

// rolled rolls an object after the image was changed.
func rolled(t *testing.T, w *world.World, c kubernetes.Interface, img string) {
	t.Helper()
	if err := patch(t.Context(), c, image("s1.1", img)); err != nil {
		t.Fatal(err)
	}
	if err := w.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func asks(t *testing.T, w *world.World, list ...evals.Standing) {
	t.Helper()
	for _, s := range list {
		if what, err := w.Ask(t.Context(), s); err != nil || what != "" {
			t.Errorf("%s: %s %v", s, what, err)
		}
	}
}

func is(kind, name, path, value string) evals.Standing {
	return evals.Standing{Object: evals.Object{Kind: kind, Namespace: "shop", Name: name}, Path: path, Value: value, Gone: path == "gone"}
}

func gone(kind, name string) evals.Standing {
	return evals.Standing{Object: evals.Object{Kind: kind, Namespace: "shop", Name: name}, Gone: true}
}

func rollOf(kind, name string) *evals.Roll {
	return &evals.Roll{Object: evals.Object{Kind: kind, Namespace: "shop", Name: name}}
}

// A Deployment rolls: the new pod comes where it fits, the old one goes, the Service
// follows, and the status says so.
func TestRollDeployment(t *testing.T) {
	t.Parallel()
	w, c := open(t, world.Config{Reacts: []evals.Reaction{{Write: "patch Deployment", Roll: rollOf("Deployment", "web")}}})
	rolled(t, w, c, "web:2")
	asks(t, w, gone("Pod", "web-old-1"), is("Deployment", "web", "status.availableReplicas", "1"), is("Deployment", "web", "status.observedGeneration", "2"),
		is("Deployment", "web", `metadata.annotations.deployment\.kubernetes\.io/revision`, "2"), is("ReplicaSet", "web-old", "spec.replicas", "0"))
	pods, err := c.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Spec.NodeName != "n1" || pods.Items[0].Spec.Containers[0].Image != "web:2" {
		t.Fatalf("%+v %v", pods, err)
	}
	slices, err := c.DiscoveryV1().EndpointSlices("shop").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(slices.Items) != 1 || len(slices.Items[0].Endpoints) != 1 || *slices.Items[0].Ports[0].Port != 8080 || !*slices.Items[0].Endpoints[0].Conditions.Ready {
		t.Errorf("%+v %v", slices, err)
	}
	// Back to the first template: its ReplicaSet is found again.
	rolled(t, w, c, "web:1")
	asks(t, w, is("ReplicaSet", "web-old", "spec.replicas", "1"), is("Deployment", "web", "status.availableReplicas", "1"))
}

// A pod that fits nowhere stays pending, and the old one stays too.
func TestRollThatDoesNotFit(t *testing.T) {
	t.Parallel()
	w, c := open(t, world.Config{Reacts: []evals.Reaction{{Write: "patch Deployment", Roll: rollOf("Deployment", "web")}}})
	big := []byte(`[{"op":"replace","path":"/spec/template/spec/containers/0/resources/requests/cpu","value":"3"}]`)
	if err := patch(t.Context(), c, big); err != nil {
		t.Fatal(err)
	}
	if err := w.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	asks(t, w, is("Pod", "web-old-1", "status.phase", "Running"), is("Deployment", "web", "status.updatedReplicas", "1"), is("Deployment", "web", "status.replicas", "2"))
	pods, err := c.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web,pod-template-hash!=old"})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Spec.NodeName != "" || !strings.Contains(pods.Items[0].Status.Conditions[0].Message, "Insufficient cpu") || !strings.Contains(pods.Items[0].Status.Conditions[0].Message, "untolerated taint") {
		t.Errorf("%+v %v", pods.Items, err)
	}
}

// The other controllers make what is missing, on nodes that take it.
func TestRollOthers(t *testing.T) {
	t.Parallel()
	w, c := open(t, world.Config{Reacts: []evals.Reaction{
		{Write: "patch Deployment", Roll: rollOf("StatefulSet", "db")},
		{Write: "patch Deployment", Roll: rollOf("DaemonSet", "agent")},
		{Write: "patch Deployment", Roll: rollOf("Job", "load")},
		{Write: "patch Deployment", Roll: &evals.Roll{Object: evals.Object{Kind: "Job", Namespace: "shop", Name: "load"}, Nodes: []string{"n1"}}},
	}})
	rolled(t, w, c, "web:2")
	asks(t, w, is("Pod", "db-0", "spec.nodeName", "n2"), is("Pod", "db-1", "spec.nodeName", "n2"), is("StatefulSet", "db", "status.readyReplicas", "2"),
		is("DaemonSet", "agent", "status.desiredNumberScheduled", "1"), is("DaemonSet", "agent", "status.numberReady", "1"), is("Job", "load", "status.active", "2"))
}

// Devices are placed by the allocator that is given; what it refuses stays pending, and
// what a pod held goes with it.
func TestClaims(t *testing.T) {
	t.Parallel()
	for name, why := range map[string]string{"fits": "", "does not": "cannot allocate all claims"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			place := func(_ context.Context, _ world.Devices, n *corev1.Node, _ *corev1.Pod, claims []*resourceapi.ResourceClaim) ([]*resourceapi.ResourceClaim, string, error) {
				if why != "" {
					return nil, why, nil
				}
				out := claims[0].DeepCopy()
				out.Status.Allocation = &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{Results: []resourceapi.DeviceRequestAllocationResult{{Request: "gpu", Driver: "gpu.example.com", Pool: n.Name, Device: "gpu-0"}}}}
				return []*resourceapi.ResourceClaim{out}, "", nil
			}
			w, c := open(t, world.Config{Place: place, Reacts: []evals.Reaction{
				{Write: "patch Deployment", Roll: rollOf("Pod", "train")},
				{Write: "delete Pod", Change: evals.Change{Delete: []evals.Object{{Kind: "ConfigMap", Namespace: "shop", Name: "none"}}}},
			}})
			rolled(t, w, c, "web:2")
			p, err := c.CoreV1().Pods("shop").Get(t.Context(), "train", metav1.GetOptions{})
			if err != nil || len(p.Status.ResourceClaimStatuses) != 1 {
				t.Fatalf("%+v %v", p, err)
			}
			claim := *p.Status.ResourceClaimStatuses[0].ResourceClaimName
			if why != "" {
				asks(t, w, is("Pod", "train", "status.phase", "Pending"), is("ResourceClaim", claim, "status.allocation", ""))
				return
			}
			asks(t, w, is("Pod", "train", "status.phase", "Running"), is("ResourceClaim", claim, "status.reservedFor[0].uid", "p-2"), is("ResourceClaim", claim, "status.allocation.devices.results[0].device", "gpu-0"))
			if err := c.CoreV1().Pods("shop").Delete(t.Context(), "train", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := w.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			asks(t, w, gone("ResourceClaim", claim))
		})
	}
}

// What cannot be done is said.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for says, r := range map[string]evals.Reaction{
		"has no controller here": {Write: "patch Deployment", Roll: rollOf("ReplicaSet", "web-old")},
		"not found":              {Write: "patch Deployment", Roll: rollOf("Deployment", "none")},
		"is not served":          {Write: "patch Deployment", Change: evals.Change{Apply: "apiVersion: x.example.com/v1\nkind: Thing\nmetadata: {name: a}\n"}},
		"nothing here allocates": {Write: "patch Deployment", Roll: rollOf("Pod", "train")},
	} {
		w, c := open(t, world.Config{Reacts: []evals.Reaction{r}})
		if err := patch(t.Context(), c, image("s1.1", "web:2")); err != nil {
			t.Fatal(err)
		}
		if err := w.Settle(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}

func TestPut(t *testing.T) {
	t.Parallel()
	doc := map[string]any{"a": map[string]any{"b.c": []any{map[string]any{"d": 1}}}}
	if err := world.Put(doc, `a.b\.c[0].d`, "x"); err != nil || fmt.Sprint(doc) != "map[a:map[b.c:[map[d:x]]]]" {
		t.Errorf("%v %v", doc, err)
	}
	for _, bad := range []string{"", "x.y", `a.b\.c[3]`, "a.b.c.d", `a.b\.c[0].d.e`} {
		if err := world.Put(doc, bad, 1); err == nil {
			t.Errorf("%q is put", bad)
		}
	}
}

// FuzzPut: no path and no document makes it panic.
func FuzzPut(f *testing.F) {
	f.Add(`{"a":[{"b":1}]}`, "a[0].b")
	f.Add(`[]`, `\`)
	f.Fuzz(func(_ *testing.T, raw, path string) {
		var doc any
		if json.Unmarshal([]byte(raw), &doc) == nil {
			_ = world.Put(doc, path, "x")
		}
	})
}
