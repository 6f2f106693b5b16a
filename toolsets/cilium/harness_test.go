package cilium_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// cluster is a handful of objects and logs; the cases of evals/cases go through
// the real protocols.
type cluster struct {
	objects []*unstructured.Unstructured
	logs    map[string]string
	refuse  map[string]tool.Kind
	// flows, when set, is what Hubble answers.
	flows *hubble.Answer
	state hubble.Status
	// metrics is what any expression gives.
	metrics []metric.Sample
}

// Instant implements cilium.Metrics.
func (c *cluster) Instant(context.Context, string) ([]metric.Sample, error) { return c.metrics, nil }

// Flows implements cilium.Flows by the query's own rules for pods.
func (c *cluster) Flows(_ context.Context, q hubble.Query) (hubble.Answer, error) {
	if c.flows == nil {
		return hubble.Answer{}, tool.Errorf(tool.NotServed, "no Hubble here")
	}
	a := *c.flows
	a.Flows = nil
	for _, f := range c.flows.Flows {
		is := func(e hubble.End) bool { return e.Namespace == q.Namespace && (q.Pod == "" || e.Pod == q.Pod) }
		if is(f.Source) || is(f.Destination) {
			a.Flows = append(a.Flows, f)
		}
	}
	return a, nil
}

// Status implements cilium.Flows.
func (c *cluster) Status(context.Context) (hubble.Status, error) {
	if c.flows == nil {
		return hubble.Status{}, tool.Errorf(tool.NotServed, "no Hubble here")
	}
	return c.state, nil
}

func lab(t *testing.T, docs string) *cluster {
	t.Helper()
	c := &cluster{logs: map[string]string{}, refuse: map[string]tool.Kind{}}
	for doc := range strings.SplitSeq(docs, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var o map[string]any
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatalf("%v in %s", err, doc)
		}
		c.objects = append(c.objects, &unstructured.Unstructured{Object: o})
	}
	return c
}

func (c *cluster) Get(_ context.Context, group, kind, namespace, name string) (*unstructured.Unstructured, error) {
	if k, ok := c.refuse[kind]; ok {
		return nil, tool.Errorf(k, "%s is refused", kind)
	}
	for _, o := range c.objects {
		if o.GroupVersionKind().Group == group && o.GetKind() == kind && o.GetNamespace() == namespace && o.GetName() == name {
			return o, nil
		}
	}
	return nil, tool.Errorf(tool.NotFound, "%s %s/%s does not exist", kind, namespace, name)
}

func (c *cluster) List(_ context.Context, group, kind, namespace string) ([]*unstructured.Unstructured, error) {
	if k, ok := c.refuse[kind]; ok {
		return nil, tool.Errorf(k, "%s is refused", kind)
	}
	var out []*unstructured.Unstructured
	for _, o := range c.objects {
		if o.GroupVersionKind().Group == group && o.GetKind() == kind && (namespace == "" || o.GetNamespace() == namespace) {
			out = append(out, o)
		}
	}
	if len(out) == 0 && strings.Contains(group, ".") {
		return nil, tool.Errorf(tool.NotServed, "%s is not served", kind)
	}
	return out, nil
}

func (c *cluster) Served(_ context.Context, group string) (bool, error) {
	if k, ok := c.refuse["discovery"]; ok {
		return false, tool.Errorf(k, "discovery is refused")
	}
	return slices.ContainsFunc(c.objects, func(o *unstructured.Unstructured) bool { return o.GroupVersionKind().Group == group }), nil
}

func (c *cluster) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	o, err := c.Get(ctx, "", "Pod", namespace, name)
	if err != nil {
		return nil, err
	}
	var p corev1.Pod
	return &p, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &p)
}

func (c *cluster) Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	list, err := c.List(ctx, "", "Pod", namespace)
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for _, o := range list {
		var p corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &p); err != nil {
			return nil, err
		}
		out = append(out, &p)
	}
	return out, nil
}

func (c *cluster) Tail(_ context.Context, namespace, pod, container string, _ int) (string, error) {
	text, ok := c.logs[namespace+"/"+pod+"/"+container]
	if !ok {
		return "", tool.Errorf(tool.NotFound, "no log")
	}
	return text, nil
}

func (c *cluster) toolset(t *testing.T) *cilium.Toolset {
	t.Helper()
	ts, err := cilium.New(cilium.Config{Objects: c, Pods: c, Flows: c, Metrics: c, Cluster: "prod", Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// call calls a tool and holds its findings against the catalogue of codes.
func call(t *testing.T, ts *cilium.Toolset, name, args string) (tool.Result, error) {
	t.Helper()
	for _, x := range ts.Tools() {
		if x.Info().Name != name {
			continue
		}
		res, err := x.Call(t.Context(), json.RawMessage(args))
		for _, f := range res.Findings {
			i := slices.IndexFunc(cilium.Codes(), func(k tool.Code) bool { return k.Code == f.Code })
			if i < 0 {
				t.Fatalf("%s is not in the catalogue", f.Code)
			}
			k := cilium.Codes()[i]
			for _, p := range k.Params {
				if f.Params[p] == "" && p != "has" {
					t.Errorf("%s lacks %s: %v", f.Code, p, f.Params)
				}
			}
			for p := range f.Params {
				if !slices.Contains(k.Params, p) && !slices.Contains(k.Optional, p) {
					t.Errorf("%s has %s, which the catalogue does not name", f.Code, p)
				}
			}
			if !slices.Contains(k.Kinds, f.Subject.Kind) {
				t.Errorf("%s is about a %s", f.Code, f.Subject.Kind)
			}
			if f.Role != k.Role || f.Message == "" || f.Confidence <= 0 && f.Role == incident.Fault {
				t.Errorf("finding %+v", f)
			}
		}
		return res, err
	}
	t.Fatalf("there is no tool %s", name)
	return tool.Result{}, nil
}

func codes(res tool.Result) string {
	var out []string
	for _, f := range res.Findings {
		out = append(out, f.Code)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
