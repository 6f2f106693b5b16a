package source_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

func pod(ns, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	for _, c := range change {
		c(p)
	}
	return p
}

func names(pods []*corev1.Pod) []string {
	out := []string{}
	for _, p := range pods {
		out = append(out, p.Namespace+"/"+p.Name)
	}
	return out
}

func TestListFollowsEveryPage(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	for i := range 4203 {
		srv.Add(pod("train", fmt.Sprintf("p%04d", i)))
	}
	src := srv.Source(clock)
	got, err := src.Pods(t.Context(), "train")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4203 || got[4202].Name != "p4202" {
		t.Errorf("got %d pods", len(got))
	}
	if n := len(srv.Requests()); n != 3 {
		t.Errorf("3 pages of 2000 expected, got %d requests: %v", n, srv.Requests())
	}
	if _, err := src.Pods(t.Context(), "train"); err != nil || len(srv.Requests()) != 3 {
		t.Errorf("the second read must come from the cache: %v %v", err, srv.Requests())
	}
}

func TestExpiredContinueTokenStartsOver(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	for i := range 2600 {
		srv.Add(pod("train", fmt.Sprintf("p%04d", i)))
	}
	srv.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("continue") == "" {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusGone)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old"}`))
		return true
	}
	got, err := srv.Source(clock).Pods(t.Context(), "train")
	if err != nil || len(got) != 2600 {
		t.Errorf("got %d pods, %v", len(got), err)
	}
}

func TestConcurrentReadersShareOneRequest(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t, pod("train", "a"))
	src := srv.Source(clock)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := src.Pod(t.Context(), "train", "a"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(srv.Requests()); n != 1 {
		t.Errorf("20 readers made %d requests", n)
	}
}

func TestCacheAgesByTheInjectedClock(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t, pod("train", "a"))
	now := noon
	src := srv.Source(func() time.Time { return now })
	for i, step := range []struct {
		forward  time.Duration
		requests int
	}{{0, 1}, {14 * time.Second, 1}, {2 * time.Second, 2}} {
		now = now.Add(step.forward)
		if _, err := src.Pod(t.Context(), "train", "a"); err != nil {
			t.Fatal(err)
		}
		if n := len(srv.Requests()); n != step.requests {
			t.Errorf("step %d: %d requests, want %d", i, n, step.requests)
		}
	}
}

func TestCancelledReaderDoesNotSpoilTheNext(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t, pod("train", "a"))
	arrived, block := make(chan struct{}, 2), make(chan struct{})
	first := true
	var mu sync.Mutex
	srv.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		wait := first
		first = false
		mu.Unlock()
		if wait {
			arrived <- struct{}{}
			select {
			case <-block:
			case <-r.Context().Done():
			}
			return true
		}
		return false
	}
	defer close(block)
	src := srv.Source(clock)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := src.Pod(ctx, "train", "a"); done <- err }()
	<-arrived
	cancel()
	if err := <-done; tool.KindOf(err) != tool.TimedOut {
		t.Errorf("cancelled read: %v", err)
	}
	if _, err := src.Pod(t.Context(), "train", "a"); err != nil {
		t.Errorf("the next reader inherits the cancellation: %v", err)
	}
}

func TestListsAreSlim(t *testing.T) {
	t.Parallel()
	heavy := func(p *corev1.Pod) {
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: "Update"}}
		p.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "keep": "yes"}
		p.Spec.Containers = []corev1.Container{{Name: "app", Command: []string{"serve"}, Env: []corev1.EnvVar{{Name: "A"}}}}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Images: []corev1.ContainerImage{{Names: []string{"x"}}}}}
	src := sourcetest.Start(t, pod("train", "a", heavy), node).Source(clock)

	one, err := src.Pod(t.Context(), "train", "a")
	if err != nil || len(one.ManagedFields) != 1 {
		t.Errorf("a single read keeps managedFields: %v %v", one, err)
	}
	inNS, err := src.Pods(t.Context(), "train")
	if err != nil || len(inNS[0].ManagedFields) != 0 || len(inNS[0].Spec.Containers[0].Env) != 1 {
		t.Errorf("namespace list: %v", err)
	}
	if diff := cmp.Diff(map[string]string{"keep": "yes"}, inNS[0].Annotations); diff != "" {
		t.Error(diff)
	}
	all, err := src.Pods(t.Context(), "")
	if err != nil || all[0].Spec.Containers[0].Env != nil || all[0].Spec.Containers[0].Name != "app" {
		t.Errorf("whole-cluster list keeps the environment: %v", err)
	}
	nodes, err := src.Nodes(t.Context())
	if err != nil || nodes[0].Status.Images != nil {
		t.Errorf("node list keeps images: %v", err)
	}
}

func TestSelectingReads(t *testing.T) {
	t.Parallel()
	on := func(node string, ls ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.NodeName = node
			p.Labels = map[string]string{}
			for _, l := range ls {
				p.Labels[l] = "yes"
			}
		}
	}
	srv := sourcetest.Start(t, pod("train", "a", on("n1", "x")), pod("train", "b", on("n2", "x")), pod("other", "c", on("n1")))
	src := srv.Source(clock)
	sel, err := labels.Parse("x=yes")
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, want []string, got []*corev1.Pod, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, names(got)); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	got, err := src.PodsOnNode(t.Context(), "n1")
	check("on node", []string{"other/c", "train/a"}, got, err)
	got, err = src.PodsMatching(t.Context(), "train", sel)
	check("matching", []string{"train/a", "train/b"}, got, err)
	got, err = src.PodsMatching(t.Context(), "train", nil)
	check("nil selector", []string{}, got, err)
	for _, r := range srv.Requests() {
		if !strings.Contains(r, "Selector=") {
			t.Errorf("not narrowed on the server: %s", r)
		}
	}
	// Once everything is at hand the server is not asked again.
	if _, err := src.Pods(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	before := len(srv.Requests())
	got, err = src.PodsOnNode(t.Context(), "n2")
	check("from the whole list", []string{"train/b"}, got, err)
	if len(srv.Requests()) != before {
		t.Error("the whole list was at hand")
	}
}

func TestConfigMapGivesKeysOnly(t *testing.T) {
	t.Parallel()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "train", Name: "c"}, Data: map[string]string{"b": "hunter2"}, BinaryData: map[string][]byte{"a": {1}}}
	got, err := sourcetest.Start(t, cm).Source(clock).ConfigMap(t.Context(), "train", "c")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&source.ConfigMapInfo{Namespace: "train", Name: "c", Keys: []string{"a", "b"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestErrorKinds(t *testing.T) {
	t.Parallel()
	plain := func(code int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	status := func(code int, reason, msg string) http.HandlerFunc {
		return plain(code, "application/json", fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":%q,"details":{"name":"a"}}`, reason, code, msg))
	}
	for _, tc := range []struct {
		name string
		h    http.HandlerFunc
		kind tool.Kind
		says []string
	}{
		{"missing", status(404, "NotFound", `pods "a" not found`), tool.NotFound, []string{"pods train/a does not exist"}},
		{"unknown path", plain(404, "text/plain", "404 page not found"), tool.NotServed, []string{"no resource pods"}},
		{"forbidden", status(403, "Forbidden", "no"), tool.Forbidden, []string{"may not get pods in namespace train", "grant verb get on pods"}},
		{"expired token", status(401, "Unauthorized", "Unauthorized"), tool.Unreachable, []string{"401", "log in again"}},
		{"login page", plain(200, "text/html", "<html>log in</html>"), tool.Unreachable, []string{"not as a Kubernetes API server"}},
		{"gateway page", plain(502, "text/html", "<!DOCTYPE html><p>bad gateway"), tool.Unreachable, []string{"not as a Kubernetes API server"}},
		{"overload", status(429, "TooManyRequests", "slow down"), tool.TimedOut, []string{"429"}},
		{"server timeout", status(504, "Timeout", "etcd is slow"), tool.TimedOut, []string{"timed out"}},
		{"unavailable", status(503, "ServiceUnavailable", "starting"), tool.Unreachable, []string{"cannot answer"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(tc.h)
			defer srv.Close()
			src := plainSource(t, &rest.Config{Host: srv.URL, QPS: -1})
			_, err := src.Pod(t.Context(), "train", "a")
			if tool.KindOf(err) != tc.kind {
				t.Errorf("kind %s, want %s: %v", tool.KindOf(err), tc.kind, err)
			}
			for _, s := range tc.says {
				if !strings.Contains(tool.UserText(err), s) {
					t.Errorf("%q does not say %q", tool.UserText(err), s)
				}
			}
		})
	}
}

func plainSource(t *testing.T, cfg *rest.Config) *source.Source {
	t.Helper()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	src, err := source.New(source.Config{Client: client, Dynamic: dyn, Cluster: "test", Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestTransportErrors(t *testing.T) {
	t.Parallel()
	dead := httptest.NewServer(nil)
	dead.Close()
	tlsSrv := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tlsSrv.Close)
	plainSrv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plainSrv.Close)
	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(hang) })
	for _, tc := range []struct {
		name, host string
		kind       tool.Kind
		says       string
	}{
		{"nobody listens", dead.URL, tool.Unreachable, "cannot be reached"},
		{"unknown authority", tlsSrv.URL, tool.Unreachable, "not trusted"},
		{"no TLS", strings.Replace(plainSrv.URL, "http:", "https:", 1), tool.Unreachable, "does not speak TLS"},
		{"silence", slow.URL, tool.TimedOut, "did not answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			src := plainSource(t, &rest.Config{Host: tc.host, QPS: -1, Timeout: 2 * time.Second})
			_, err := src.Pods(t.Context(), "train")
			if tool.KindOf(err) != tc.kind || !strings.Contains(tool.UserText(err), tc.says) {
				t.Errorf("%s: %s", tool.KindOf(err), tool.UserText(err))
			}
		})
	}
}

func TestForbiddenListsBecomeLimits(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.Forbid = func(_, resource, ns string) bool {
		return resource == "nodes" || resource == "deployments.apps" && ns == ""
	}
	src := srv.Source(clock)
	for range 2 {
		if _, err := src.Nodes(t.Context()); tool.KindOf(err) != tool.Forbidden {
			t.Errorf("nodes: %v", err)
		}
		if _, err := src.Deployments(t.Context(), ""); tool.KindOf(err) != tool.Forbidden {
			t.Errorf("deployments: %v", err)
		}
	}
	want := []incident.Gap{
		{Source: "Kubernetes API: deployments.apps", Why: "this identity may not list deployments.apps in the whole cluster (403)", Fix: "grant verb list on deployments.apps in the whole cluster"},
		{Source: "Kubernetes API: nodes", Why: "this identity may not list nodes in the whole cluster (403)", Fix: "grant verb list on nodes in the whole cluster"},
	}
	if diff := cmp.Diff(want, src.Limits(time.Time{})); diff != "" {
		t.Error(diff)
	}
	if _, err := src.Deployments(t.Context(), "train"); err != nil {
		t.Errorf("the namespace may be read: %v", err)
	}
}
