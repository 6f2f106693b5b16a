package apiserver

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/openapi3"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// recorder keeps what an informer tells.
type recorder struct{ events chan string }

func (r recorder) handler() cache.ResourceEventHandlerFuncs {
	name := func(obj any) string {
		if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = d.Obj
		}
		m, ok := obj.(metav1.Object)
		if !ok {
			return "?"
		}
		return m.GetName()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { r.events <- "add " + name(o) },
		UpdateFunc: func(was, is any) {
			if was.(metav1.Object).GetResourceVersion() != is.(metav1.Object).GetResourceVersion() {
				r.events <- "update " + name(is)
			} else {
				r.events <- "resync " + name(is)
			}
		},
		DeleteFunc: func(o any) { r.events <- "delete " + name(o) },
	}
}

// next waits for the wanted events in any order.
func (r recorder) next(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for range want {
		got = append(got, <-r.events)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the informer tells %q, want %q", got, want)
	}
}

func TestSharedInformers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := typed(t, shop(t))
		ctx, cancel := context.WithCancel(t.Context())
		f := informers.NewSharedInformerFactoryWithOptions(c, time.Minute, informers.WithNamespace("shop"))
		pods, rec := f.Core().V1().Pods(), recorder{make(chan string, 100)}
		if _, err := pods.Informer().AddEventHandler(rec.handler()); err != nil {
			t.Fatal(err)
		}
		deployments, claims, events := f.Apps().V1().Deployments(), f.Resource().V1().ResourceClaims(), f.Core().V1().Events()
		deployments.Informer()
		claims.Informer()
		events.Informer()
		f.Start(ctx.Done())
		for what, ok := range f.WaitForCacheSync(ctx.Done()) {
			if !ok {
				t.Errorf("%v does not sync", what)
			}
		}
		rec.next(t, "add orders", "add pull", "add train", "add web-6d4-aaaaa")
		if d, err := deployments.Lister().Deployments("shop").Get("web"); err != nil || *d.Spec.Replicas != 2 {
			t.Errorf("deployment: %v %v", d, err)
		}
		if _, err := claims.Lister().ResourceClaims("shop").Get("train-gpu"); err != nil {
			t.Error(err)
		}
		if n := len(events.Informer().GetStore().List()); n != 2 {
			t.Errorf("%d events", n)
		}

		time.Sleep(time.Minute + time.Second)
		rec.next(t, "resync orders", "resync pull", "resync train", "resync web-6d4-aaaaa")

		if _, err := c.CoreV1().Pods("shop").Patch(ctx, "train", "application/merge-patch+json", []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		rec.next(t, "update train")
		if _, err := c.CoreV1().Pods("shop").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "new"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "m", Image: "i"}}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		rec.next(t, "add new")
		if err := c.CoreV1().Pods("shop").Delete(ctx, "new", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		rec.next(t, "delete new")
		if err := c.CoreV1().Pods("team").Delete(ctx, "lone", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		// Bookmarks and resyncs, and nothing more to tell.
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		for len(rec.events) > 0 {
			if e := <-rec.events; e[:6] != "resync" {
				t.Errorf("an event of no change: %s", e)
			}
		}
		cancel()
		f.Shutdown()
		synctest.Wait()
	})
}

func TestDynamicAndMetadataInformers(t *testing.T) {
	t.Parallel()
	s := shop(t)
	dyn := untyped(t, s)
	meta, err := metadata.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	df := dynamicinformer.NewFilteredDynamicSharedInformerFactory(dyn, 0, "shop", func(o *metav1.ListOptions) { o.FieldSelector = "spec.color=red" })
	red, rec := df.ForResource(widgets()), recorder{make(chan string, 100)}
	if _, err := red.Informer().AddEventHandler(rec.handler()); err != nil {
		t.Fatal(err)
	}
	mf := metadatainformer.NewSharedInformerFactory(meta, 0)
	mw := mf.ForResource(widgets())
	mrec := recorder{make(chan string, 100)}
	if _, err := mw.Informer().AddEventHandler(mrec.handler()); err != nil {
		t.Fatal(err)
	}
	df.Start(ctx.Done())
	mf.Start(ctx.Done())
	df.WaitForCacheSync(ctx.Done())
	mf.WaitForCacheSync(ctx.Done())
	rec.next(t, "add red-one")
	mrec.next(t, "add red-one", "add blue-one")

	paint := func(name, color string) {
		t.Helper()
		if _, err := dyn.Resource(widgets()).Namespace("shop").Patch(ctx, name, "application/merge-patch+json", []byte(`{"spec":{"color":"`+color+`"}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// To a watch with a selector, what ceases to match is gone.
	paint("blue-one", "red")
	rec.next(t, "add blue-one")
	paint("red-one", "blue")
	rec.next(t, "delete red-one")
	mrec.next(t, "update blue-one", "update red-one")
	o, err := mw.Lister().ByNamespace("shop").Get("red-one")
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := o.(*metav1.PartialObjectMetadata); !ok || p.UID == "" {
		t.Errorf("a metadata lister gives %T %v", o, o)
	}
	cancel()
	df.Shutdown()
	mf.Shutdown()
}

// TestWatchCatchesUp reads a watch that begins in the past.
func TestWatchCatchesUp(t *testing.T) {
	t.Parallel()
	s := shop(t)
	c := untyped(t, s).Resource(widgets()).Namespace("shop")
	list, err := c.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, color := range []string{"green", "white"} {
		if _, err := c.Patch(t.Context(), "red-one", "application/merge-patch+json", []byte(`{"spec":{"color":"`+color+`"}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Delete(t.Context(), "blue-one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := watchtools.NewRetryWatcherWithContext(t.Context(), list.GetResourceVersion(), &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return c.Watch(ctx, o) }})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	last := uint64(0)
	for _, want := range []string{"MODIFIED red-one green", "MODIFIED red-one white", "DELETED blue-one blue"} {
		e := <-w.ResultChan()
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			t.Fatalf("%s %v", e.Type, e.Object)
		}
		color, _, _ := unstructured.NestedString(u.Object, "spec", "color")
		if got := string(e.Type) + " " + u.GetName() + " " + color; got != want {
			t.Errorf("event %q, want %q", got, want)
		}
		v, ok := versionOf(u)
		if !ok || v <= last {
			t.Errorf("%s has resourceVersion %s after %d", want, u.GetResourceVersion(), last)
		}
		last = v
	}
}

func TestWatchTooOld(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.keep = 10
	c := untyped(t, s).Resource(widgets()).Namespace("shop")
	list, err := c.List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	first := list.GetResourceVersion()
	if _, err := c.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"}); !apierrors.IsResourceExpired(err) {
		t.Errorf("a watch from before the capture: %v", err)
	}
	if st := status(t, ask(t, s, "GET", "/apis/example.com/v1/widgets?watch=1&resourceVersion=99999999", "")); st.Reason != metav1.StatusReasonTimeout || st.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge {
		t.Errorf("a watch from the future: %+v", st)
	}
	for i := range 40 {
		if _, err := c.Patch(t.Context(), "red-one", "application/merge-patch+json", []byte(`{"spec":{"replicas":`+string(rune('0'+i%10))+`}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.log); n > 20 {
		t.Errorf("%d changes are kept, more than asked for", n)
	}
	if _, err := c.Watch(t.Context(), metav1.ListOptions{ResourceVersion: first}); !apierrors.IsResourceExpired(err) {
		t.Errorf("a watch from before the history: %v", err)
	}
	if _, err := c.List(t.Context(), metav1.ListOptions{ResourceVersion: first, ResourceVersionMatch: metav1.ResourceVersionMatchExact}); !apierrors.IsResourceExpired(err) {
		t.Errorf("an exact list of before the history: %v", err)
	}
	_, err = c.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: list.GetContinue()})
	if !apierrors.IsResourceExpired(err) {
		t.Fatalf("a page of before the history: %v", err)
	}
	// The answer tells how to go on without the history.
	status, _ := err.(apierrors.APIStatus)
	list, err = c.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: status.Status().Continue})
	if err != nil || len(list.Items) != 1 || list.Items[0].GetName() != "red-one" {
		t.Errorf("the rest of an expired list: %v %v", list, err)
	}
}

// TestWatchLeftBehind has a client that reads slower than changes are forgotten.
func TestWatchLeftBehind(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.keep = 4
	st := &stream{s: s, at: s.version, q: request{resource: s.byPath[widgets()], gvr: widgets()}}
	u := s.table(widgets()).get("shop", "red-one")
	for range 20 {
		s.store(widgets(), u, u.DeepCopy())
	}
	rec := newAnswer()
	st.w = rec
	if _, ok := st.pending(); ok {
		t.Error("a watch goes on that has missed changes")
	}
	has(t, rec.Body.String(), `"type":"ERROR"`, `"reason":"Expired"`, `"code":410`)
}

func TestBookmarks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := typed(t, shop(t)).CoreV1().Pods("team")
		ctx, cancel := context.WithCancel(t.Context())
		yes := true
		w, err := c.Watch(ctx, metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
		if err != nil {
			t.Fatal(err)
		}
		if e := <-w.ResultChan(); e.Type != watch.Added || e.Object.(*corev1.Pod).Name != "lone" {
			t.Errorf("first event %v", e)
		}
		e := <-w.ResultChan()
		if p, ok := e.Object.(*corev1.Pod); e.Type != watch.Bookmark || !ok || p.Annotations[metav1.InitialEventsAnnotationKey] != "true" || p.ResourceVersion == "" {
			t.Errorf("the end of the beginning is %v", e)
		}
		started := time.Now()
		if e := <-w.ResultChan(); e.Type != watch.Bookmark || time.Since(started) != bookmarkEvery {
			t.Errorf("after %s: %v", time.Since(started), e)
		}
		cancel()
		for range w.ResultChan() {
		}
		seconds := int64(7)
		started = time.Now()
		w, err = c.Watch(t.Context(), metav1.ListOptions{TimeoutSeconds: &seconds})
		if err != nil {
			t.Fatal(err)
		}
		for range w.ResultChan() {
		}
		if d := time.Since(started); d != 7*time.Second {
			t.Errorf("a watch of 7 s ends after %s", d)
		}
		synctest.Wait()
	})
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	s := shop(t)
	all, err := discovery.NewDiscoveryClientForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	groups, lists, err := all.ServerGroupsAndResourcesWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	find := func(lists []*metav1.APIResourceList, gv, name string) *metav1.APIResource {
		for _, l := range lists {
			if l.GroupVersion != gv {
				continue
			}
			for _, r := range l.APIResources {
				if r.Name == name {
					return &r
				}
			}
		}
		t.Errorf("%s %s is not discovered", gv, name)
		return &metav1.APIResource{}
	}
	old := discovery.NewDiscoveryClientForConfigOrDie(s.RESTConfig())
	old.UseLegacyDiscovery = true
	oldGroups, oldLists, err := old.ServerGroupsAndResourcesWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != len(oldGroups) || len(lists) != len(oldLists) {
		t.Errorf("aggregated discovery has %d groups and %d versions, the other %d and %d", len(groups), len(lists), len(oldGroups), len(oldLists))
	}
	for _, ls := range [][]*metav1.APIResourceList{lists, oldLists} {
		if r := find(ls, "v1", "pods"); !slices.Equal(r.ShortNames, []string{"po"}) || !r.Namespaced || !slices.Equal(r.Categories, []string{"all"}) || r.SingularName != "pod" {
			t.Errorf("pods: %+v", r)
		}
		if r := find(ls, "apps/v1", "deployments/scale"); r.Kind != "Scale" || r.Group != "autoscaling" || r.Version != "v1" {
			t.Errorf("scale: %+v", r)
		}
		if r := find(ls, "v1", "pods/eviction"); r.Kind != "Eviction" || r.Group != "policy" {
			t.Errorf("eviction: %+v", r)
		}
		if r := find(ls, "authorization.k8s.io/v1", "selfsubjectaccessreviews"); !slices.Equal(r.Verbs, metav1.Verbs{"create"}) {
			t.Errorf("reviews: %+v", r)
		}
		if r := find(ls, "example.com/v1", "gadgets"); r.Namespaced {
			t.Errorf("gadgets: %+v", r)
		}
		for _, l := range ls {
			for _, r := range l.APIResources {
				if r.Name == "configmaps/status" || r.Name == "gadgets/status" {
					t.Errorf("%s is offered", r.Name)
				}
			}
		}
	}
	preferred, err := all.ServerPreferredResourcesWithContext(t.Context())
	if err != nil || len(preferred) == 0 {
		t.Errorf("preferred: %v", err)
	}
	if v, err := all.ServerVersionWithContext(t.Context()); err != nil || v.Minor != "37" || v.GitVersion != "v1.37.2" {
		t.Errorf("version: %v %v", v, err)
	}
}

// TestVersionsAreOrdered: the preferred version is the most stable, in whatever
// order a bundle names them.
func TestVersionsAreOrdered(t *testing.T) {
	t.Parallel()
	s := made(t, map[string]string{"bundle.yaml": `
formatVersion: 1
captured: "2026-03-01T12:00:00Z"
resources:
- {group: resource.k8s.io, version: v1alpha3, kind: DeviceTaintRule, plural: devicetaintrules}
- {group: resource.k8s.io, version: v1beta2, kind: ResourceSlice, plural: resourceslices}
- {group: resource.k8s.io, version: v1, kind: ResourceClaim, plural: resourceclaims, namespaced: true}
`})
	groups, err := typed(t, s).Discovery().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		if g.Name != "resource.k8s.io" {
			continue
		}
		var got []string
		for _, v := range g.Versions {
			got = append(got, v.Version)
		}
		if !slices.Equal(got, []string{"v1", "v1beta2", "v1alpha3"}) || g.PreferredVersion.Version != "v1" {
			t.Errorf("versions %v, preferred %s", got, g.PreferredVersion.Version)
		}
	}
}

func TestOpenAPIv3(t *testing.T) {
	t.Parallel()
	root := openapi3.NewRoot(typed(t, shop(t)).Discovery().OpenAPIV3())
	versions, err := root.GroupVersions()
	if err != nil {
		t.Fatal(err)
	}
	for _, gv := range versions {
		spec, err := root.GVSpec(gv)
		if err != nil {
			t.Errorf("%s: %v", gv, err)
			continue
		}
		if spec.Paths == nil || len(spec.Paths.Paths) == 0 || spec.Components == nil {
			t.Errorf("%s is empty", gv)
		}
	}
	apps, err := root.GVSpec(schema.GroupVersion{Group: "apps", Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	d := apps.Components.Schemas["io.k8s.api.apps.v1.Deployment"]
	if d == nil || d.Properties["spec"].AllOf == nil {
		t.Fatalf("no schema of deployments: %v", d)
	}
	containers := apps.Components.Schemas["io.k8s.api.core.v1.PodSpec"].Properties["containers"]
	if containers.Extensions["x-kubernetes-patch-merge-key"] != "name" || !containers.Type.Contains("array") {
		t.Errorf("containers: %+v", containers)
	}
	if q := apps.Components.Schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]; q == nil || len(q.OneOf) != 2 {
		t.Errorf("quantities: %+v", q)
	}
	if v2, err := typed(t, shop(t)).Discovery().OpenAPISchema(); err != nil || len(v2.GetDefinitions().GetAdditionalProperties()) < 100 {
		t.Errorf("OpenAPI v2: %v", err)
	}
}
