package apiserver

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
)

func podOf(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example.com/x:1"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning}}
}

// TestTypedWrites goes through a life in the client that Go programs use. Its
// bodies are protobuf.
func TestTypedWrites(t *testing.T) {
	t.Parallel()
	s := shop(t)
	ctx, pods := t.Context(), typed(t, s).CoreV1().Pods("shop")
	made, err := pods.Create(ctx, podOf("x"), metav1.CreateOptions{FieldManager: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	if made.UID == "" || made.ResourceVersion == "" || made.Generation != 1 || !made.CreationTimestamp.Time.Equal(s.now()) {
		t.Errorf("the server sets %+v", made.ObjectMeta)
	}
	if made.Status.Phase != corev1.PodPending {
		t.Errorf("a new pod is %s: a client has written its status", made.Status.Phase)
	}
	if len(made.ManagedFields) != 1 || made.ManagedFields[0].Manager != "tester" || !made.ManagedFields[0].Time.Time.Equal(s.now()) {
		t.Errorf("managers: %+v", made.ManagedFields)
	}

	stale := made.DeepCopy()
	made.Labels = map[string]string{"a": "b"}
	made.Status.Phase = corev1.PodFailed
	updated, err := pods.Update(ctx, made, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if updated.Generation != 1 || updated.Status.Phase != corev1.PodPending || updated.Labels["a"] != "b" || updated.UID != stale.UID {
		t.Errorf("updated to %+v %s", updated.ObjectMeta, updated.Status.Phase)
	}
	if _, err := pods.Update(ctx, stale, metav1.UpdateOptions{}); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "the object has been modified; please apply your changes to the latest version and try again") {
		t.Errorf("a stale update: %v", err)
	}
	same, err := pods.Update(ctx, updated, metav1.UpdateOptions{})
	if err != nil || same.ResourceVersion != updated.ResourceVersion {
		t.Errorf("an update of nothing goes from version %s to %s: %v", updated.ResourceVersion, same.ResourceVersion, err)
	}
	updated.Spec.Containers[0].Image = "registry.example.com/x:2"
	if updated, err = pods.Update(ctx, updated, metav1.UpdateOptions{}); err != nil || updated.Generation != 2 {
		t.Errorf("a new spec has generation %d: %v", updated.Generation, err)
	}
	updated.Status.Phase, updated.Spec.Containers[0].Image = corev1.PodRunning, "registry.example.com/x:3"
	st, err := pods.UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	if err != nil || st.Status.Phase != corev1.PodRunning || st.Spec.Containers[0].Image != "registry.example.com/x:2" || st.Generation != 2 {
		t.Errorf("a status update: %v %v %v", st.Status.Phase, st.Spec.Containers[0].Image, err)
	}

	uid := types.UID("other")
	if err := pods.Delete(ctx, "x", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); !apierrors.IsConflict(err) {
		t.Errorf("delete of another uid: %v", err)
	}
	if err := pods.Delete(ctx, "x", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &st.UID, ResourceVersion: &st.ResourceVersion}}); err != nil {
		t.Error(err)
	}
	if _, err := pods.Get(ctx, "x", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after its end: %v", err)
	}
}

func TestGenerateName(t *testing.T) {
	t.Parallel()
	run := func() string {
		pods := typed(t, shop(t)).CoreV1().Pods("shop")
		var names []string
		for range 50 {
			p := podOf("")
			p.GenerateName = strings.Repeat("long", 20) + "-"
			made, err := pods.Create(t.Context(), p, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(made.Name) != 63 {
				t.Errorf("name %q has %d characters", made.Name, len(made.Name))
			}
			names = append(names, made.Name)
		}
		return strings.Join(names, " ")
	}
	// Names are the same in each run of a bundle.
	if a, b := run(), run(); a != b {
		t.Errorf("two runs give %s and %s", a, b)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	s := shop(t)
	ctx, c := t.Context(), typed(t, s)
	before := s.version
	all := []string{metav1.DryRunAll}
	made, err := c.CoreV1().Pods("shop").Create(ctx, podOf("x"), metav1.CreateOptions{DryRun: all})
	if err != nil || made.UID == "" {
		t.Errorf("create: %v %v", made, err)
	}
	d, err := c.AppsV1().Deployments("shop").Patch(ctx, "web", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":9}}`), metav1.PatchOptions{DryRun: all})
	if err != nil || *d.Spec.Replicas != 9 || d.Generation != 3 {
		t.Errorf("patch: %v", err)
	}
	d.ResourceVersion = ""
	if d, err = c.AppsV1().Deployments("shop").Update(ctx, d, metav1.UpdateOptions{DryRun: all}); err != nil || *d.Spec.Replicas != 9 {
		t.Errorf("update: %v", err)
	}
	if _, err := c.CoreV1().ConfigMaps("shop").Apply(ctx, applycorev1.ConfigMap("fresh", "shop").WithData(map[string]string{"a": "b"}), metav1.ApplyOptions{FieldManager: "me", DryRun: all}); err != nil {
		t.Errorf("apply: %v", err)
	}
	if err := c.CoreV1().Pods("shop").Delete(ctx, "orders", metav1.DeleteOptions{DryRun: all}); err != nil {
		t.Errorf("delete: %v", err)
	}
	if err := c.CoreV1().Namespaces().Delete(ctx, "shop", metav1.DeleteOptions{DryRun: all}); err != nil {
		t.Errorf("delete of a namespace: %v", err)
	}
	if err := c.CoreV1().Pods("shop").DeleteCollection(ctx, metav1.DeleteOptions{DryRun: all}, metav1.ListOptions{}); err != nil {
		t.Errorf("delete of a collection: %v", err)
	}
	if err := c.CoreV1().Pods("shop").EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "web-6d4-aaaaa"}, DeleteOptions: &metav1.DeleteOptions{DryRun: all}}); err != nil {
		t.Errorf("eviction: %v", err)
	}
	if err := c.CoreV1().Pods("shop").Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "train"}, Target: corev1.ObjectReference{Name: "gpu-1"}}, metav1.CreateOptions{DryRun: all}); err != nil {
		t.Errorf("binding: %v", err)
	}
	if s.version != before {
		t.Errorf("dry runs have made %d changes", s.version-before)
	}
}

func TestPatches(t *testing.T) {
	t.Parallel()
	s := shop(t)
	c := untyped(t, s)
	deployments := c.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("shop")
	env := func(u *unstructured.Unstructured) string {
		list, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
		raw, _ := json.Marshal(list[0].(map[string]any)["env"])
		return string(raw)
	}
	// Lists of built-in kinds merge by their keys.
	u, err := deployments.Patch(t.Context(), "web", types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"LEVEL","value":"debug"},{"name":"NEW","value":"1"}]}]}}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	has(t, env(u), `"name":"MODE"`, `{"name":"LEVEL","value":"debug"}`, `"NEW"`)
	// A merge patch replaces them.
	u, err = deployments.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"main","env":[{"name":"ONE"}]}]}}}}`), metav1.PatchOptions{})
	if err != nil || env(u) != `[{"name":"ONE"}]` {
		t.Errorf("after a merge patch: %s %v", env(u), err)
	}
	u, err = deployments.Patch(t.Context(), "web", types.JSONPatchType, []byte(`[{"op":"test","path":"/spec/replicas","value":2},{"op":"copy","from":"/spec/replicas","path":"/spec/minReadySeconds"},{"op":"remove","path":"/spec/template/spec/containers/0/env"}]`), metav1.PatchOptions{})
	if err != nil || env(u) != "null" {
		t.Errorf("after a JSON patch: %v %v", u, err)
	}
	if v, _, _ := unstructured.NestedInt64(u.Object, "spec", "minReadySeconds"); v != 2 {
		t.Errorf("copied %d", v)
	}
	// A label is no new generation, though the object was written by hand.
	g := u.GetGeneration()
	if u, err = deployments.Patch(t.Context(), "web", types.MergePatchType, []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{}); err != nil || u.GetGeneration() != g {
		t.Errorf("a label takes the generation from %d to %d: %v", g, u.GetGeneration(), err)
	}
	// Unknown fields of a patch are dropped with a warning, or refused.
	var heard warnings
	cfg := s.RESTConfig()
	cfg.WarningHandler = &heard
	rc, err := rest.UnversionedRESTClientFor(restConfig(cfg))
	if err != nil {
		t.Fatal(err)
	}
	patch := func(validation string) error {
		return rc.Patch(types.MergePatchType).AbsPath("/apis/apps/v1/namespaces/shop/deployments/web").Param("fieldValidation", validation).Body([]byte(`{"spec":{"replicsa":1}}`)).Do(t.Context()).Error()
	}
	if err := patch("Warn"); err != nil || strings.Join(heard.texts, "|") != `unknown field "spec.replicsa"` {
		t.Errorf("warnings %q, %v", heard.texts, err)
	}
	if err := patch("Ignore"); err != nil || len(heard.texts) != 1 {
		t.Errorf("warnings %q, %v", heard.texts, err)
	}
	if err := patch("Strict"); !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `unknown field "spec.replicsa"`) {
		t.Errorf("strict: %v", err)
	}
}

type warnings struct{ texts []string }

func (w *warnings) HandleWarningHeader(_ int, _, text string) { w.texts = append(w.texts, text) }

func restConfig(c *rest.Config) *rest.Config {
	c.ContentConfig = rest.ContentConfig{NegotiatedSerializer: plainCodecs()}
	return c
}

// TestPatchBombs: patches that would make a small object huge are refused.
func TestPatchBombs(t *testing.T) {
	t.Parallel()
	s := shop(t)
	jsonPatch := "Content-Type: application/json-patch+json"
	var ops []string
	for i := range 90 {
		ops = append(ops, fmt.Sprintf(`{"op":"copy","from":"/data","path":"/data/x%d"}`, i))
	}
	if rec := ask(t, s, "PATCH", "/api/v1/namespaces/shop/configmaps/settings", "["+strings.Join(ops, ",")+"]", jsonPatch); rec.Code != 413 {
		t.Errorf("doubling 90 times: %d %.200s", rec.Code, rec.Body)
	}
	ops = append(ops, ops...)
	if rec := ask(t, s, "PATCH", "/api/v1/namespaces/shop/configmaps/settings", "["+strings.Join(ops, ",")+"]", jsonPatch); rec.Code != 413 {
		t.Errorf("180 copies: %d %.200s", rec.Code, rec.Body)
	}
	many := strings.Repeat(`{"op":"test","path":"/kind","value":"ConfigMap"},`, maxOperations+1)
	if rec := ask(t, s, "PATCH", "/api/v1/namespaces/shop/configmaps/settings", "["+strings.TrimSuffix(many, ",")+"]", jsonPatch); rec.Code != 413 {
		t.Errorf("%d operations: %d %.200s", maxOperations+1, rec.Code, rec.Body)
	}
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	for _, kind := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType} {
		if rec := ask(t, s, "PATCH", "/api/v1/namespaces/shop/configmaps/settings?fieldManager=x", deep, "Content-Type: "+string(kind)); rec.Code != 400 {
			t.Errorf("%s 100,000 deep: %d %.200s", kind, rec.Code, rec.Body)
		}
	}
}

func TestServerSideApply(t *testing.T) {
	t.Parallel()
	s := shop(t)
	ctx, maps := t.Context(), typed(t, s).CoreV1().ConfigMaps("shop")
	apply := func(manager string, force bool, data map[string]string) (*corev1.ConfigMap, error) {
		return maps.Apply(ctx, applycorev1.ConfigMap("shared", "shop").WithData(data), metav1.ApplyOptions{FieldManager: manager, Force: force})
	}
	one, err := apply("one", false, map[string]string{"a": "1", "b": "1"})
	if err != nil || one.UID == "" {
		t.Fatalf("%v %v", one, err)
	}
	again, err := apply("one", false, map[string]string{"a": "1", "b": "1"})
	if err != nil || again.ResourceVersion != one.ResourceVersion {
		t.Errorf("the same again goes from version %s to %s: %v", one.ResourceVersion, again.ResourceVersion, err)
	}
	if _, err := apply("two", false, map[string]string{"a": "2"}); !apierrors.IsConflict(err) || !apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict) || !strings.Contains(err.Error(), `conflict with "one": .data.a`) {
		t.Errorf("a field of another: %v", err)
	}
	two, err := apply("two", true, map[string]string{"a": "2", "c": "2"})
	if err != nil || two.Data["a"] != "2" || two.Data["b"] != "1" {
		t.Errorf("forced: %v %v", two.Data, err)
	}
	// What a manager no longer wants goes, what others want stays.
	one, err = apply("one", false, map[string]string{})
	if err != nil || fmt.Sprint(one.Data) != "map[a:2 c:2]" {
		t.Errorf("without one: %v %v", one.Data, err)
	}
	// A plain update takes ownership too.
	one.Data["c"] = "3"
	if _, err := maps.Update(ctx, one, metav1.UpdateOptions{FieldManager: "three"}); err != nil {
		t.Fatal(err)
	}
	if _, err := apply("two", false, map[string]string{"a": "2", "c": "2"}); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `"three"`) {
		t.Errorf("after an update: %v", err)
	}
	// The captured managers, who name no fields, are kept.
	u, err := untyped(t, s).Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("shop").
		Patch(ctx, "web", types.MergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{FieldManager: "hand"})
	if err != nil {
		t.Fatal(err)
	}
	var who []string
	for _, e := range u.GetManagedFields() {
		who = append(who, e.Manager+" "+e.Time.UTC().Format("01-02"))
	}
	if fmt.Sprint(who) != "[hand 03-01 kubectl 02-20]" {
		t.Errorf("managers of a captured object: %v", who)
	}
	// Custom objects are merged by their form.
	w := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "new"}, "spec": map[string]any{"color": "red"}}}
	got, err := untyped(t, s).Resource(widgets()).Namespace("shop").Apply(ctx, "new", w, metav1.ApplyOptions{FieldManager: "me"})
	if err != nil || got.GetGeneration() != 1 {
		t.Errorf("a custom object: %v %v", got, err)
	}
}

func TestFinalizers(t *testing.T) {
	t.Parallel()
	s := shop(t)
	ctx, maps := t.Context(), typed(t, s).CoreV1().ConfigMaps("shop")
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/hold"}}}
	if _, err := maps.Create(ctx, cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(ctx, "held", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	held, err := maps.Get(ctx, "held", metav1.GetOptions{})
	if err != nil || held.DeletionTimestamp == nil {
		t.Fatalf("%v %v", held, err)
	}
	// Neither an update nor another delete brings it back or renews its end.
	held.DeletionTimestamp = nil
	held.Data = map[string]string{"a": "b"}
	if held, err = maps.Update(ctx, held, metav1.UpdateOptions{}); err != nil || held.DeletionTimestamp == nil {
		t.Errorf("an update has saved a dying object: %v %v", held, err)
	}
	held.Finalizers = append(held.Finalizers, "example.com/more")
	if _, err := maps.Update(ctx, held, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a new finalizer on a dying object: %v", err)
	}
	if _, err := maps.Patch(ctx, "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "held", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the last finalizer: %v", err)
	}
}

func TestNamespaceLife(t *testing.T) {
	t.Parallel()
	s := shop(t)
	ctx, c := t.Context(), typed(t, s)
	ns, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "fresh"}}, metav1.CreateOptions{})
	if err != nil || ns.Status.Phase != corev1.NamespaceActive || ns.Labels["kubernetes.io/metadata.name"] != "fresh" {
		t.Fatalf("%+v %v", ns, err)
	}
	maps := c.CoreV1().ConfigMaps("fresh")
	for _, cm := range []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "free"}}, {ObjectMeta: metav1.ObjectMeta{Name: "held", Finalizers: []string{"example.com/hold"}}}} {
		if _, err := maps.Create(ctx, cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CoreV1().Namespaces().Delete(ctx, "fresh", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if ns, err = c.CoreV1().Namespaces().Get(ctx, "fresh", metav1.GetOptions{}); err != nil || ns.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("%+v %v", ns, err)
	}
	if _, err := maps.Get(ctx, "free", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was in it: %v", err)
	}
	if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "because it is being terminated") {
		t.Errorf("a late comer: %v", err)
	}
	if _, err := maps.Patch(ctx, "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Namespaces().Delete(ctx, "fresh", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.CoreV1().Namespaces().Get(ctx, "fresh", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after its end: %v", err)
	}
}

func TestDeleteCollection(t *testing.T) {
	t.Parallel()
	s := shop(t)
	ctx, pods := t.Context(), typed(t, s).CoreV1().Pods("shop")
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app in (web,orders)"}); err != nil {
		t.Fatal(err)
	}
	left, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil || len(left.Items) != 2 || left.Items[0].Name != "pull" || left.Items[1].Name != "train" {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestConcurrentWriters has many clients count in one object: with conflicts
// and retries no count is lost.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	maps := typed(t, shop(t)).CoreV1().ConfigMaps("shop")
	const writers, each = 8, 5
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := retry.OnError(retry.DefaultRetry, func(error) bool { return true }, func() error {
					cm, err := maps.Get(t.Context(), "settings", metav1.GetOptions{})
					if err != nil {
						return err
					}
					cm.Data["n"] += "x"
					_, err = maps.Update(t.Context(), cm, metav1.UpdateOptions{})
					return err
				})
				if err != nil && !apierrors.IsConflict(err) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	cm, err := maps.Get(t.Context(), "settings", metav1.GetOptions{})
	if err != nil || len(cm.Data["n"]) == 0 || len(cm.Data["n"]) > writers*each {
		t.Errorf("%q %v", cm.Data["n"], err)
	}
}

// TestTheBundleStays: what is written never reaches the bundle.
func TestTheBundleStays(t *testing.T) {
	t.Parallel()
	b := openShop(t)
	before, err := json.Marshal(b.Objects)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, b)
	ctx, c := t.Context(), typed(t, s)
	if _, err := c.CoreV1().ConfigMaps("shop").Patch(ctx, "settings", types.MergePatchType, []byte(`{"data":{"mode":"slow"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AppsV1().Deployments("shop").UpdateScale(ctx, "web", nil, metav1.UpdateOptions{}); err == nil {
		t.Error("no scale is a scale")
	}
	if err := c.CoreV1().Namespaces().Delete(ctx, "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	after, err := json.Marshal(b.Objects)
	if err != nil || string(before) != string(after) {
		t.Errorf("the bundle's objects have changed: %v", err)
	}
	other := typed(t, newServer(t, b))
	if cm, err := other.CoreV1().ConfigMaps("shop").Get(ctx, "settings", metav1.GetOptions{}); err != nil || cm.Data["mode"] != "fast" {
		t.Errorf("another server of the bundle: %v %v", cm, err)
	}
}
