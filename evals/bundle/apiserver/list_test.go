package apiserver

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/pager"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

func names[T metav1.Object](items []T) string {
	var out []string
	for _, o := range items {
		out = append(out, o.GetName())
	}
	return strings.Join(out, " ")
}

func podNames(l *corev1.PodList) string {
	var out []*corev1.Pod
	for i := range l.Items {
		out = append(out, &l.Items[i])
	}
	return names(out)
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	s := shop(t)
	c := typed(t, s)
	for _, q := range []struct{ namespace, labels, fields, want string }{
		{"shop", "", "", "orders pull train web-6d4-aaaaa"},
		{"", "", "", "orders pull train web-6d4-aaaaa lone"},
		{"none", "", "", ""},
		{"shop", "app", "", "orders train web-6d4-aaaaa"},
		{"shop", "!app", "", "pull"},
		{"shop", "app=web", "", "web-6d4-aaaaa"},
		{"shop", "app!=web", "", "orders pull train"},
		{"shop", "app in (web,train)", "", "train web-6d4-aaaaa"},
		{"shop", "app notin (web,train),app", "", "orders"},
		{"shop", "app in (web,train),tier", "", "web-6d4-aaaaa"},
		{"shop", "", "metadata.name=train", "train"},
		{"", "", "metadata.namespace=team", "lone"},
		{"shop", "", "spec.nodeName=", "train"},
		{"shop", "", "spec.nodeName!=", "orders pull web-6d4-aaaaa"},
		{"shop", "", "spec.nodeName==gpu-1,status.phase=Running", "orders web-6d4-aaaaa"},
		{"shop", "", "status.podIP=10.1.0.5", "web-6d4-aaaaa"},
		{"shop", "", "status.podIPs=10.1.0.5", "web-6d4-aaaaa"},
		{"shop", "", "spec.hostNetwork=false,spec.restartPolicy=Never", "train"},
		{"shop", "app=web", "spec.host=gpu-1", "web-6d4-aaaaa"},
	} {
		l, err := c.CoreV1().Pods(q.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: q.labels, FieldSelector: q.fields})
		if err != nil {
			t.Errorf("%+v: %v", q, err)
			continue
		}
		if got := podNames(l); got != q.want {
			t.Errorf("%+v gives %q", q, got)
		}
		if l.ResourceVersion == "" || l.Continue != "" {
			t.Errorf("list metadata %+v", l.ListMeta)
		}
	}
	dyn := untyped(t, s)
	for _, q := range []struct{ group, version, resource, fields, want string }{
		{"", "v1", "nodes", "spec.unschedulable=true", "gpu-2"},
		{"", "v1", "nodes", "spec.unschedulable=false", "gpu-1"},
		{"", "v1", "namespaces", "status.phase=Active,metadata.name!=default", "shop team"},
		{"", "v1", "events", "involvedObject.kind=Node", "gpu-2.1"},
		{"", "v1", "events", "involvedObject.namespace=", "gpu-2.1"},
		{"", "v1", "events", "type=Warning,source=kubelet", "orders.1"},
		{"", "v1", "events", "involvedObject.uid=00000000-0000-4000-8000-000000000022,reason=FailedScheduling", "train.1"},
		{"", "v1", "services", "spec.type=ClusterIP", "web"},
		{"apps", "v1", "replicasets", "status.replicas=0", "web-5c3"},
		{"batch", "v1", "jobs", "status.successful=1", "report"},
		{"resource.k8s.io", "v1", "resourceslices", "spec.nodeName=gpu-1,spec.driver=gpu.example.com,spec.pool.name=gpu-1", "gpu-1-slice"},
		{"example.com", "v1", "widgets", "spec.color!=red", "blue-one"},
	} {
		l, err := dyn.Resource(schema.GroupVersionResource{Group: q.group, Version: q.version, Resource: q.resource}).List(t.Context(), metav1.ListOptions{FieldSelector: q.fields})
		if err != nil {
			t.Errorf("%+v: %v", q, err)
			continue
		}
		var items []*unstructured.Unstructured
		for i := range l.Items {
			items = append(items, &l.Items[i])
		}
		if got := names(items); got != q.want {
			t.Errorf("%+v gives %q", q, got)
		}
	}
	_, err := dyn.Resource(widgets()).List(t.Context(), metav1.ListOptions{FieldSelector: "spec.size=3"})
	if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "field label not supported: spec.size") {
		t.Errorf("a field that the definition does not name: %v", err)
	}
}

// crowd serves n configmaps in two namespaces.
func crowd(t testing.TB, n int) *Server {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c-%03d, namespace: %s, labels: {half: %q}}\n", i, []string{"a", "b"}[i%2], []string{"a", "b"}[i/(n/2)])
	}
	return made(t, map[string]string{"objects/c.yaml": b.String()})
}

func TestPaging(t *testing.T) {
	t.Parallel()
	s := crowd(t, 100)
	maps := typed(t, s).CoreV1().ConfigMaps("")
	var got []string
	o := metav1.ListOptions{Limit: 7}
	version := ""
	for pages := 1; ; pages++ {
		l, err := maps.List(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range l.Items {
			got = append(got, c.Namespace+"/"+c.Name)
		}
		if version == "" {
			version = l.ResourceVersion
		}
		if l.ResourceVersion != version {
			t.Errorf("page %d is of version %s, the first of %s", pages, l.ResourceVersion, version)
		}
		if l.Continue == "" {
			if pages != 15 || l.RemainingItemCount != nil {
				t.Errorf("%d pages, %v remain", pages, l.RemainingItemCount)
			}
			break
		}
		if want := int64(100 - 7*pages); *l.RemainingItemCount != want {
			t.Errorf("%d remain after page %d, want %d", *l.RemainingItemCount, pages, want)
		}
		o.Continue = l.Continue
		// What changes between two pages does not show: the list is of one moment.
		if err := typed(t, s).CoreV1().ConfigMaps("b").Delete(t.Context(), fmt.Sprintf("c-%03d", 99-2*(pages-1)), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		fresh := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("z-%d", pages), Namespace: "b"}}
		if _, err := typed(t, s).CoreV1().ConfigMaps("b").Create(t.Context(), fresh, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 100 || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != 100 || got[0] != "a/c-000" || got[99] != "b/c-099" {
		t.Errorf("%d objects: %v", len(got), got)
	}
	// An exact list of the first page's version shows the same still.
	l, err := maps.List(t.Context(), metav1.ListOptions{ResourceVersion: version, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if err != nil || len(l.Items) != 100 || l.ResourceVersion != version {
		t.Errorf("as of %s there are %d: %v", version, len(l.Items), err)
	}
	if l, err = maps.List(t.Context(), metav1.ListOptions{ResourceVersion: version, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}); err != nil || l.Items[len(l.Items)-1].Name != "z-9" {
		t.Errorf("not older than %s: %v", version, err)
	}
}

func TestPagingWithSelector(t *testing.T) {
	t.Parallel()
	s := crowd(t, 40)
	maps := typed(t, s).CoreV1().ConfigMaps("")
	l, err := maps.List(t.Context(), metav1.ListOptions{Limit: 20, LabelSelector: "half=a"})
	if err != nil || len(l.Items) != 20 || l.Continue != "" {
		t.Errorf("a page that holds all wanted has %d and goes on with %q: %v", len(l.Items), l.Continue, err)
	}
	// With a selector a server does not say how many remain.
	if l, err = maps.List(t.Context(), metav1.ListOptions{Limit: 5, LabelSelector: "half=a"}); err != nil || l.Continue == "" || l.RemainingItemCount != nil {
		t.Errorf("%v %v", l.ListMeta, err)
	}
	n := 0
	p := pager.New(pager.SimplePageFunc(func(o metav1.ListOptions) (runtime.Object, error) { return maps.List(t.Context(), o) }))
	p.PageSize = 3
	if err := p.EachListItem(t.Context(), metav1.ListOptions{LabelSelector: "half=b"}, func(runtime.Object) error { n++; return nil }); err != nil || n != 20 {
		t.Errorf("paged through %d: %v", n, err)
	}
}

func TestHandWrittenObjects(t *testing.T) {
	t.Parallel()
	s := made(t, map[string]string{
		"objects/a.yaml": `
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: one, resourceVersion: not-a-number}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: one, resourceVersion: "18446744073709551615"}
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: Workload
metadata: {name: w, namespace: two}
---
apiVersion: storage.k8s.io/v1beta1
kind: CSIDriver
metadata: {name: d}
`})
	ctx, c := t.Context(), typed(t, s)
	l, err := c.CoreV1().Pods("one").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range l.Items {
		if v, err := fmt.Sscan(p.ResourceVersion, new(uint64)); v != 1 || err != nil || len(p.ResourceVersion) > 6 || p.UID == "" || !p.CreationTimestamp.Time.Before(s.now()) {
			t.Errorf("completed to %+v", p.ObjectMeta)
		}
	}
	w, err := c.CoreV1().Pods("one").Watch(ctx, metav1.ListOptions{ResourceVersion: l.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := c.CoreV1().Pods("one").Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != "DELETED" {
		t.Errorf("%v", e)
	}
	ns, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil || len(ns.Items) != 2 {
		t.Errorf("namespaces of a bundle that has none: %v %v", ns, err)
	}
	for _, r := range []schema.GroupVersionResource{{Group: "kueue.x-k8s.io", Version: "v1beta1", Resource: "workloads"}, {Group: "storage.k8s.io", Version: "v1beta1", Resource: "csidrivers"}} {
		if l, err := untyped(t, s).Resource(r).List(ctx, metav1.ListOptions{}); err != nil || len(l.Items) != 1 {
			t.Errorf("%s: %v %v", r, l, err)
		}
	}
}

func TestScopeIsChecked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n":                                                                              `Pod a: namespace ""`,
		"apiVersion: v1\nkind: Node\nmetadata: {name: a, namespace: b}\n":                                                               `Node a: namespace "b"`,
		"apiVersion: x.io/v1\nkind: Foo\nmetadata: {name: a}\n---\napiVersion: x.io/v1\nkind: foo\nmetadata: {name: a}\n":               `would both be served at foos`,
		"apiVersion: x.io/v1\nkind: Foo\nmetadata: {name: a}\n---\napiVersion: x.io/v1\nkind: Foo\nmetadata: {name: b, namespace: x}\n": `Foo b: namespace "x"`,
	} {
		b, err := bundle.Open(files(map[string]string{"objects/a.yaml": text}), bundle.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestRefusals: what a capture could not or did not look at is refused, never
// answered with nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := made(t, map[string]string{
		"bundle.yaml": `
formatVersion: 1
captured: "2026-03-01T12:00:00Z"
namespaces: [shop]
denied:
- {verb: "*", resource: secrets}
- {verb: get, resource: pods/log}
- {verb: list, group: apps, resource: deployments, namespace: shop}
- {verb: "*", group: batch, resource: "*"}
leftOut:
- {what: csinodes, group: storage.k8s.io, code: 503, why: etcdserver is down}
- {what: roles, why: not needed}
- {what: ingresses, group: networking.k8s.io, namespace: shop, code: 500, why: boom}
- {what: leases, why: some were old}
- {what: some API groups, why: gone}
`,
		"objects/a.yaml": `
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {nodeName: n, containers: [{name: m}]}
---
apiVersion: v1
kind: Event
metadata: {name: e, namespace: default}
involvedObject: {kind: Node, name: n}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: l, namespace: shop}
`})
	for path, want := range map[string]string{
		"/api/v1/namespaces/shop/pods":                               "",
		"/api/v1/namespaces/shop/pods/a":                             "",
		"/api/v1/namespaces":                                         "",
		"/api/v1/nodes":                                              "",
		"/api/v1/namespaces/default/events":                          "",
		"/apis/coordination.k8s.io/v1/namespaces/shop/leases":        "",
		"/api/v1/namespaces/shop/secrets":                            `403 secrets is forbidden: User "bundle-reader" cannot list resource "secrets" in API group "" in the namespace "shop"`,
		"/api/v1/secrets?watch=1":                                    `403 secrets is forbidden: User "bundle-reader" cannot watch resource "secrets" in API group "" at the cluster scope`,
		"/api/v1/namespaces/shop/pods/a/log":                         `403 pods "a" is forbidden: User "bundle-reader" cannot get resource "pods/log" in API group "" in the namespace "shop"`,
		"/apis/apps/v1/namespaces/shop/deployments":                  `403 deployments.apps is forbidden: User "bundle-reader" cannot list resource "deployments" in API group "apps" in the namespace "shop"`,
		"/apis/apps/v1/namespaces/shop/deployments/x":                `404 deployments.apps "x" not found`,
		"/apis/batch/v1/namespaces/shop/jobs":                        `403 jobs.batch is forbidden: User "bundle-reader" cannot list resource "jobs" in API group "batch" in the namespace "shop"`,
		"/api/v1/pods":                                               `403 pods is forbidden: User "bundle-reader" cannot list resource "pods" in API group "" at the cluster scope: the bundle holds only the namespaces shop`,
		"/api/v1/namespaces/team/pods":                               `403 pods is forbidden: User "bundle-reader" cannot list resource "pods" in API group "" in the namespace "team": the bundle holds only the namespaces shop`,
		"/api/v1/namespaces/default/pods/x":                          `403 pods "x" is forbidden: User "bundle-reader" cannot get resource "pods" in API group "" in the namespace "default": the bundle holds only the namespaces shop`,
		"/apis/storage.k8s.io/v1/csinodes":                           `503 etcdserver is down`,
		"/apis/storage.k8s.io/v1/csinodes/x":                         `503 etcdserver is down`,
		"/apis/networking.k8s.io/v1/namespaces/shop/ingresses":       `500 boom`,
		"/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles":   `403 roles.rbac.authorization.k8s.io is forbidden: User "bundle-reader" cannot list resource "roles" in API group "rbac.authorization.k8s.io" in the namespace "shop": the bundle does not hold it: not needed`,
		"/apis/rbac.authorization.k8s.io/v1/clusterroles":            "",
		"/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies": "",
	} {
		rec := ask(t, s, "GET", path, "")
		if want == "" {
			if rec.Code != 200 {
				t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
			}
			continue
		}
		if st := status(t, rec); fmt.Sprintf("%d %s", st.Code, st.Message) != want {
			t.Errorf("%s:\n%d %s, want\n%s", path, st.Code, st.Message, want)
		}
	}
}

// TestOldLeftOut: bundles of older captures name no group. A name that several
// kinds share is then taken for none of them.
func TestOldLeftOut(t *testing.T) {
	t.Parallel()
	s := made(t, map[string]string{"bundle.yaml": `
formatVersion: 1
captured: "2026-03-01T12:00:00Z"
resources:
- {version: v1, kind: Pod, plural: pods, namespaced: true}
- {group: metrics.k8s.io, version: v1beta1, kind: PodMetrics, plural: pods, namespaced: true, verbs: [get, list]}
- {group: certificates.k8s.io, version: v1, kind: CertificateSigningRequest, plural: certificatesigningrequests}
leftOut:
- {what: pods, why: metrics come from Prometheus}
- {what: certificatesigningrequests, why: not needed}
`})
	if rec := ask(t, s, "GET", "/api/v1/pods", ""); rec.Code != 200 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := ask(t, s, "GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests", ""); rec.Code != 403 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	// A kind offers the verbs that it had.
	if rec := ask(t, s, "GET", "/apis/metrics.k8s.io/v1beta1/pods?watch=1", ""); rec.Code != 405 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestRereadIsTheSame serves, in two servers, the same bytes.
func TestRereadIsTheSame(t *testing.T) {
	t.Parallel()
	a, b := shop(t), shop(t)
	for _, p := range []string{"/api/v1/pods", "/apis/example.com/v1/widgets", "/api/v1/namespaces", "/apis", "/openapi/v2"} {
		if x, y := ask(t, a, "GET", p, "").Body.String(), ask(t, b, "GET", p, "").Body.String(); x != y {
			t.Errorf("%s differs between two servers of a bundle", p)
		}
	}
}
