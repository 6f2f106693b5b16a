package source_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

func TestKindWords(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.ServeKind("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets", true, "lws")
	srv.ServeKind("metrics.k8s.io", "v1beta1", "PodMetrics", "pods", true)
	srv.ServeKind("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies", true, "cnp")
	src := srv.Source(clock)
	for word, want := range map[string]string{
		"deploy": "apps/v1 deployments", "Deployment": "apps/v1 deployments", "DEPLOYMENTS": "apps/v1 deployments", "deployments.apps": "apps/v1 deployments",
		"deployments.v1.apps": "apps/v1 deployments", "Deployment.apps": "apps/v1 deployments",
		"po": "v1 pods", "pod": "v1 pods", "pods": "v1 pods", "pods.v1": "v1 pods", "pods.metrics.k8s.io": "metrics.k8s.io/v1beta1 pods",
		"claim": "resource.k8s.io/v1 resourceclaims", "rct": "resource.k8s.io/v1 resourceclaimtemplates", "pvc": "v1 persistentvolumeclaims",
		"volume": "v1 persistentvolumes", "leaderworkerset": "leaderworkerset.x-k8s.io/v1 leaderworkersets", "lws": "leaderworkerset.x-k8s.io/v1 leaderworkersets",
		"LeaderWorkerSetList": "leaderworkerset.x-k8s.io/v1 leaderworkersets", "event": "v1 events", "events.events.k8s.io": "events.k8s.io/v1 events",
		"autoscaler": "autoscaling/v2 horizontalpodautoscalers", "ns": "v1 namespaces", "cnp": "cilium.io/v2 ciliumnetworkpolicies",
		"unicorn": "", "": "", "deployments.batch": "",
	} {
		m, ok := src.Kind(t.Context(), word)
		got := ""
		if ok {
			got = m.GVR.GroupVersion().String() + " " + m.GVR.Resource
		}
		if got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	_, err := src.Find(t.Context(), "deploymint")
	if tool.KindOf(err) != tool.NotServed {
		t.Errorf("%v", err)
	}
	_, err = src.Find(t.Context(), "resourceclaimtemplat")
	if !strings.Contains(tool.UserText(err), "did you mean ResourceClaimTemplate") {
		t.Errorf("%v", tool.UserText(err))
	}
	d, err := src.Discovered(t.Context())
	if err != nil || d.Version != "v1.37.2" || !d.Has("resource.k8s.io", "resourceclaims") || d.Has("gateway.networking.k8s.io", "httproutes") {
		t.Errorf("discovery facts: %+v %v", d, err)
	}
}

func TestClaimMeansAVolumeClaimWithoutDRA(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/apis/resource.k8s.io/v1" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"kind":"APIResourceList","groupVersion":"resource.k8s.io/v1","resources":[]}`))
			return true
		}
		return false
	}
	m, ok := srv.Source(clock).Kind(t.Context(), "claim")
	if !ok || m.GVR.Resource != "persistentvolumeclaims" {
		t.Errorf("%+v %v", m, ok)
	}
}

func TestBrokenGroupIsALimitNotAFailure(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.ServeKind("custom.metrics.k8s.io", "v1beta1", "MetricValue", "values", true)
	srv.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/apis/custom.metrics.k8s.io") {
			http.Error(w, "service unavailable", http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	src := srv.Source(clock)
	if _, ok := src.Kind(t.Context(), "pods"); !ok {
		t.Error("pods are served")
	}
	d, err := src.Discovered(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"custom.metrics.k8s.io/v1beta1"}, d.Broken); diff != "" {
		t.Error(diff)
	}
	if len(src.Limits(time.Time{})) != 1 {
		t.Errorf("limits: %v", src.Limits(time.Time{}))
	}
}

// canary is a value that must never leave a Secret.
const canary = "Y2FuYXJ5LXZhbHVl"

func secret() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "train", Name: "hf", Labels: map[string]string{"a": "b"},
			Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: `{"data":{"token":"` + canary + `"}}`},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:data":{".":{},"f:token":{},"f:a-first":{}},"f:type":{}}`)}}},
		Data: map[string][]byte{"token": []byte(canary)},
	}
}

func TestSecretValuesNeverComeBack(t *testing.T) {
	t.Parallel()
	for name, careless := range map[string]bool{"metadata only": false, "server sends all": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := sourcetest.Start(t, secret())
			srv.NoMetadata = careless
			var accepts []string
			srv.Intercept = func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/secrets") {
					accepts = append(accepts, r.Header.Get("Accept"))
				}
				return false
			}
			cfgs := map[string]source.Config{"client": srv.SourceConfig(clock), "plain": srv.SourceConfig(clock)}
			plain := cfgs["plain"]
			plain.Metadata = nil
			cfgs["plain"] = plain
			for via, cfg := range cfgs {
				src, err := source.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				info, err := src.Secret(t.Context(), "train", "hf")
				if err != nil {
					t.Fatalf("%s: %v", via, err)
				}
				if diff := cmp.Diff(&source.SecretInfo{Namespace: "train", Name: "hf", Labels: map[string]string{"a": "b"}, Keys: []string{"a-first", "token"}, KeysKnown: true}, info); diff != "" {
					t.Error(via, diff)
				}
				u, err := src.Get(t.Context(), incident.Ref{Kind: "Secret", Namespace: "train", Name: "hf"})
				if err != nil {
					t.Fatal(err)
				}
				l, err := src.List(t.Context(), "secrets", "", source.Selectors{})
				if err != nil {
					t.Fatal(err)
				}
				raw, err := json.Marshal([]any{u, l})
				if err != nil || strings.Contains(string(raw), canary) || !strings.Contains(string(raw), `"hf"`) {
					t.Errorf("%s: %s %v", via, raw, err)
				}
			}
			for _, a := range accepts {
				if !strings.Contains(a, "as=PartialObjectMetadata") {
					t.Errorf("a Secret was asked for whole: Accept %q", a)
				}
			}
		})
	}
}

func TestSecretWithoutFieldBookkeeping(t *testing.T) {
	t.Parallel()
	s := secret()
	s.ManagedFields = nil
	info, err := sourcetest.Start(t, s).Source(clock).Secret(t.Context(), "train", "hf")
	if err != nil || info.KeysKnown || len(info.Keys) != 0 {
		t.Errorf("%+v %v", info, err)
	}
}

func TestDynamicReads(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.ServeKind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", true)
	srv.AddYAML(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r1, namespace: web, labels: {team: a}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r2, namespace: web}
`)
	src := srv.Source(clock)
	u, err := src.Get(t.Context(), incident.Ref{Group: "gateway.networking.k8s.io", Kind: "HTTPRoute", Namespace: "web", Name: "r1"})
	if err != nil || u.GetName() != "r1" {
		t.Errorf("%v %v", u, err)
	}
	l, err := src.List(t.Context(), "httproute", "web", source.Selectors{Labels: "team=a"})
	if err != nil || len(l) != 1 {
		t.Errorf("%d routes, %v", len(l), err)
	}
	_, err = src.Get(t.Context(), incident.Ref{Kind: "HTTPRoute", Name: "r1"})
	if tool.KindOf(err) != tool.Invalid {
		t.Errorf("a namespaced kind needs a namespace: %v", err)
	}
	_, err = src.Get(t.Context(), incident.Ref{Kind: "HTTPRoute", Namespace: "web", Name: "gone"})
	if tool.KindOf(err) != tool.NotFound || !strings.Contains(err.Error(), "httproutes.gateway.networking.k8s.io web/gone does not exist") {
		t.Errorf("%v", err)
	}
	_, err = src.List(t.Context(), "pods", "web", source.Selectors{Labels: "a in (("})
	if tool.KindOf(err) != tool.Invalid {
		t.Errorf("bad selector: %v", err)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	for _, n := range []string{"a", "b", "c"} {
		srv.Add(pod("train", n, func(p *corev1.Pod) { p.Labels = map[string]string{"name": n} }))
	}
	src := srv.Source(clock)
	m, _ := src.Kind(t.Context(), "pods")
	before := len(srv.Requests())
	if n, err := src.Count(t.Context(), m, "train", source.Selectors{}); err != nil || n != 3 {
		t.Errorf("%d %v", n, err)
	}
	if reqs := srv.Requests()[before:]; len(reqs) != 1 || !strings.Contains(reqs[0], "limit=1") {
		t.Errorf("one request of one object is enough: %v", reqs)
	}
	if n, err := src.Count(t.Context(), m, "train", source.Selectors{Labels: "name!=b"}); err != nil || n != 2 {
		t.Errorf("%d %v", n, err)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	at := func(min int) metav1.Time { return metav1.NewTime(noon.Add(time.Duration(min) * time.Minute)) }
	event := func(name, uid, reason, msg string, change func(*corev1.Event)) *corev1.Event {
		e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "train", Name: name, CreationTimestamp: at(-90)}, Type: "Warning", Reason: reason, Message: msg,
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "train", Name: "a", UID: "u1"}}
		if uid != "" {
			e.InvolvedObject.Name = uid
		}
		change(e)
		return e
	}
	srv := sourcetest.Start(t,
		event("e1", "", "BackOff", "again", func(e *corev1.Event) { e.Count, e.FirstTimestamp, e.LastTimestamp = 3, at(-60), at(-50) }),
		event("e2", "", "BackOff", "again", func(e *corev1.Event) { e.Count, e.FirstTimestamp, e.LastTimestamp = 4, at(-40), at(-5) }),
		event("e3", "", "FailedScheduling", "0/3 nodes", func(e *corev1.Event) {
			e.EventTime, e.ReportingController = metav1.NewMicroTime(at(-30).Time), "default-scheduler"
			e.Series = &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(at(-1).Time)}
		}),
		event("e4", "other", "Pulled", "x", func(e *corev1.Event) { e.Type = "Normal" }),
	)
	src := srv.Source(clock)
	ref := incident.Ref{Cluster: "test", Kind: "Pod", Namespace: "train", Name: "a"}
	got, err := src.Events(t.Context(), "", ref)
	if err != nil {
		t.Fatal(err)
	}
	want := []source.Event{
		{Involved: ref, UID: "u1", Type: "Warning", Reason: "FailedScheduling", Message: "0/3 nodes", Source: "default-scheduler", Count: 7, First: at(-30).Time, Last: at(-1).Time},
		{Involved: ref, UID: "u1", Type: "Warning", Reason: "BackOff", Message: "again", Count: 7, First: at(-60).Time, Last: at(-5).Time},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if r := srv.Requests(); len(r) != 1 || !strings.Contains(r[0], "/namespaces/train/events?fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3Da") {
		t.Errorf("narrowed on the server: %v", r)
	}
	all, err := src.Events(t.Context(), "train", incident.Ref{})
	if err != nil || len(all) != 3 || !all[2].First.Equal(at(-90).Time) {
		t.Errorf("%v %v", all, err)
	}
}

func TestNodeEventsFallBackToDefault(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, Reason: "NodeNotReady", InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: "n1"}})
	srv.Forbid = func(_, resource, ns string) bool { return resource == "events" && ns == "" }
	got, err := srv.Source(clock).Events(t.Context(), "", incident.Ref{Kind: "Node", Name: "n1"})
	if err != nil || len(got) != 1 || got[0].Reason != "NodeNotReady" {
		t.Errorf("%v %v", got, err)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b  string
		limit int
		want  int
	}{{"", "", 3, 0}, {"pod", "pod", 3, 0}, {"pod", "pods", 3, 1}, {"llama-0", "lama-0", 3, 1}, {"kitten", "sitting", 9, 3}, {"kitten", "sitting", 2, 2}, {"abcdef", "zzzzzz", 3, 3}} {
		if got := source.Distance(tc.a, tc.b, tc.limit); got != tc.want {
			t.Errorf("%q %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
		if ab, ba := source.Distance(tc.a, tc.b, tc.limit), source.Distance(tc.b, tc.a, tc.limit); ab != ba {
			t.Errorf("%q %q: %d and %d", tc.a, tc.b, ab, ba)
		}
	}
}

func TestEventContainer(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"spec.containers{app}": "app", "spec.initContainers{x": "x", "": "", "spec": ""} {
		if got := (source.Event{FieldPath: path}).Container(); got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t, pod("train", "a"))
	srv.SetLog("train", "a", "app", "2026-11-24T11:00:00Z one\n2026-11-24T11:59:00Z two\n")
	src := srv.Source(clock)
	for _, tc := range []struct {
		q    source.LogQuery
		want source.Log
	}{
		{source.LogQuery{Container: "app"}, source.Log{Text: "2026-11-24T11:00:00Z one\n2026-11-24T11:59:00Z two\n"}},
		{source.LogQuery{Container: "app", Since: 10 * time.Minute}, source.Log{Text: "2026-11-24T11:59:00Z two\n"}},
		{source.LogQuery{Container: "app", Tail: 1}, source.Log{Text: "2026-11-24T11:59:00Z two\n"}},
		{source.LogQuery{Container: "app", Limit: 10}, source.Log{Text: "2026-11-24", Cut: true}},
	} {
		got, err := src.Logs(t.Context(), "train", "a", tc.q)
		if err != nil {
			t.Errorf("%+v: %v", tc.q, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%+v: %s", tc.q, diff)
		}
	}
	_, err := src.Logs(t.Context(), "train", "a", source.LogQuery{Container: "app", Previous: true})
	if tool.KindOf(err) != tool.Invalid {
		t.Errorf("%v", err)
	}
}

func TestAccessReviews(t *testing.T) {
	t.Parallel()
	srv := sourcetest.Start(t)
	srv.Forbid = func(verb, resource, _ string) bool { return resource == "pods/log" }
	src := srv.Source(clock)
	for resource, want := range map[string]bool{"": true, "log": false} {
		if got, err := src.Allowed(t.Context(), "get", "", "pods", resource, ""); err != nil || got != want {
			t.Errorf("pods/%s: %v %v", resource, got, err)
		}
	}
	r, err := src.Rules(t.Context(), "")
	if err != nil || len(r.ResourceRules) != 1 {
		t.Errorf("%v %v", r, err)
	}
}
