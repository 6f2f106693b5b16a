package serving

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

var clock = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// world is a cluster made of YAML documents. The whole cases of evals read real
// API protocols; here single judgements are tried at their edges.
type world struct {
	objs    []*unstructured.Unstructured
	served  []Served
	denied  map[string]bool
	logs    map[string]string
	engines map[string]http.Handler
	series  map[string][]metric.Series
}

func newWorld(t testing.TB, docs ...string) *world {
	t.Helper()
	w := &world{denied: map[string]bool{}, logs: map[string]string{}, engines: map[string]http.Handler{}}
	for _, all := range docs {
		for doc := range strings.SplitSeq(all, "\n---\n") {
			u := &unstructured.Unstructured{}
			raw, err := yaml.YAMLToJSON([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			if err := u.UnmarshalJSON(raw); err != nil {
				t.Fatalf("%v in %s", err, doc)
			}
			w.objs = append(w.objs, u)
			gvk := u.GroupVersionKind()
			w.served = append(w.served, Served{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespaced: u.GetNamespace() != ""})
		}
	}
	return w
}

func (w *world) Served(context.Context) ([]Served, error) { return w.served, nil }

func (w *world) List(_ context.Context, group, kind, namespace, selector string) ([]*unstructured.Unstructured, error) {
	if w.denied[kind] {
		return nil, tool.Errorf(tool.Forbidden, "%s may not be listed", kind)
	}
	sel, err := labels.Parse(selector)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, u := range w.objs {
		if u.GetKind() == kind && u.GroupVersionKind().Group == group && (namespace == "" || u.GetNamespace() == namespace) && sel.Matches(labels.Set(u.GetLabels())) {
			out = append(out, u)
		}
	}
	return out, nil
}

func (w *world) Get(_ context.Context, r incident.Ref) (*unstructured.Unstructured, error) {
	for _, u := range w.objs {
		if u.GetKind() == r.Kind && u.GroupVersionKind().Group == r.Group && u.GetNamespace() == r.Namespace && u.GetName() == r.Name {
			return u, nil
		}
	}
	return nil, tool.Errorf(tool.NotFound, "%s does not exist", r)
}

func (w *world) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	all, err := w.Matching(ctx, namespace, labels.Everything())
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, errors.Join(err, tool.Errorf(tool.NotFound, "pod %s/%s does not exist", namespace, name))
}

func (w *world) Matching(_ context.Context, namespace string, sel labels.Selector) ([]*corev1.Pod, error) {
	var out []*corev1.Pod
	for _, u := range w.objs {
		if u.GetKind() != "Pod" || namespace != "" && u.GetNamespace() != namespace || !sel.Matches(labels.Set(u.GetLabels())) {
			continue
		}
		p := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, p); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (w *world) Tail(_ context.Context, namespace, pod, container string, previous bool, _ int) (string, error) {
	return w.logs[fmt.Sprintf("%s/%s/%s/%v", namespace, pod, container, previous)], nil
}

// Instant and Range answer from series whose names stand in the expression.
func (w *world) Instant(context.Context, string) ([]metric.Sample, error) { return nil, nil }

func (w *world) Range(_ context.Context, expr string, _, _ time.Time, _ time.Duration) ([]metric.Series, error) {
	if w.series == nil {
		return nil, &tool.Error{Kind: tool.NotServed, User: "Prometheus not configured"}
	}
	for name, s := range w.series {
		if strings.Contains(expr, name) {
			return s, nil
		}
	}
	return nil, nil
}

// engineProxy sends requests to real HTTP handlers, one a pod.
func (w *world) do(ctx context.Context, method, pod string, port int, path string, body []byte, limit int64) ([]byte, error) {
	h, ok := w.engines[fmt.Sprintf("%s:%d", pod, port)]
	if !ok {
		return nil, tool.Errorf(tool.Unreachable, "%s on port %d of %s does not answer", path, port, pod)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	req, err := http.NewRequestWithContext(ctx, method, srv.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, limit))
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 400 {
		return nil, tool.Errorf(tool.Unreachable, "%s answers %d: %s", path, res.StatusCode, raw)
	}
	return raw, nil
}

type engineProxy struct{ *world }

func (p engineProxy) Get(ctx context.Context, _, pod string, port int, path string, limit int64) ([]byte, error) {
	return p.do(ctx, http.MethodGet, pod, port, path, nil, limit)
}

func (p engineProxy) Post(ctx context.Context, _, pod string, port int, path string, body []byte, limit int64) ([]byte, error) {
	return p.do(ctx, http.MethodPost, pod, port, path, body, limit)
}

func (w *world) toolset(t testing.TB) *Toolset {
	t.Helper()
	ts, err := New(Config{Objects: w, Pods: w, Logs: w, Metrics: w, Proxy: engineProxy{w}, Cluster: "c", Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// call runs a tool by name with arguments as JSON.
func call(t testing.TB, ts *Toolset, name, args string) (tool.Result, error) {
	t.Helper()
	for _, x := range ts.Tools() {
		if x.Info().Name == name {
			return x.Call(t.Context(), []byte(args))
		}
	}
	t.Fatalf("there is no tool %s", name)
	return tool.Result{}, nil
}

// codes lists the findings of a role as "code kind/name".
func codes(r tool.Result, role incident.Role) []string {
	var out []string
	for _, f := range r.Findings {
		if f.Role == role {
			out = append(out, strings.TrimPrefix(f.Code, "serving.")+" "+f.Subject.Kind+"/"+f.Subject.Name)
		}
	}
	return out
}

// enginePod is a vLLM pod that is ready.
func enginePod(name, labels, args string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: llm, uid: u-%s, labels: {%s}, creationTimestamp: "2026-11-26T12:00:00Z", ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: rs, uid: rs-1, controller: true}]}
spec: {nodeName: n-%s, containers: [{name: engine, image: "vllm/vllm-openai:v0.14.1", args: [%s], ports: [{containerPort: 8000}]}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}], containerStatuses: [{name: engine, ready: true, restartCount: 0, image: i, imageID: "", state: {running: {startedAt: "2026-11-26T12:00:00Z"}}}]}`, name, name, labels, name, args)
}
