package gpu_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/prometheus"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

var now = time.Date(2026, 11, 27, 18, 0, 0, 0, time.UTC)

func ago(d time.Duration) string { return now.Add(-d).Format(time.RFC3339) }

// eyes reads a real client's source, as the wiring does.
type eyes struct{ *source.Source }

func (e eyes) List(ctx context.Context, kind, namespace, fields string) ([]*unstructured.Unstructured, error) {
	return e.Source.List(ctx, kind, namespace, source.Selectors{Fields: fields})
}

func (e eyes) Pods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return e.Source.Pods(ctx, namespace)
}

func (e eyes) Events(ctx context.Context, about incident.Ref) ([]gpu.Event, error) {
	list, err := e.Source.Events(ctx, "", about)
	var out []gpu.Event
	for _, v := range list {
		out = append(out, gpu.Event{Node: v.Involved.Name, Type: v.Type, Reason: v.Reason, Message: v.Message, Source: v.Source, First: v.First, Last: v.Last, Count: v.Count})
	}
	return out, err
}

// world is a cluster, its metrics and what gumshoe-nvml printed on node n1.
type world struct {
	objects []string
	// series in the text notation of Prometheus' tests, one a minute, the last
	// one now: 121 values each.
	series []string
	nvml   string
	// metrics stands in for the recording where it is set.
	metrics gpu.Metrics
}

// lab builds the toolset over a real HTTP API server with real clients, and over
// Prometheus' own engine.
func lab(t testing.TB, w world) *gpu.Toolset {
	t.Helper()
	srv := sourcetest.Start(t)
	for _, o := range w.objects {
		srv.AddYAML(o)
	}
	clock := func() time.Time { return now }
	e := eyes{srv.Source(clock)}
	c := gpu.Config{Objects: e, Lists: e, Details: e, Metrics: prom.NewClient(prom.ClientConfig{Now: clock}), Cluster: "c", Now: clock}
	if len(w.series) > 0 {
		fsys := fstest.MapFS{"metrics/a.series": &fstest.MapFile{Data: []byte("start -2h\nload 1m\n" + strings.Join(w.series, "\n") + "\n")}}
		s, err := prometheus.Open(fsys, now, prometheus.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		c.Metrics = prom.NewClient(prom.ClientConfig{Now: clock, Found: prom.Found{Prometheus: prom.Endpoint{URL: prometheus.BaseURL, Client: s.Client(), Origin: "test"}}})
	}
	if w.metrics != nil {
		c.Metrics = w.metrics
	}
	if w.nvml != "" {
		c.NVML = nvml.NewDir(fstest.MapFS{"n1.json": &fstest.MapFile{Data: []byte(w.nvml)}})
	}
	ts, err := gpu.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func call(t testing.TB, ts *gpu.Toolset, name string, in any) (tool.Result, error) {
	t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range ts.Tools() {
		if one.Info().Name == name {
			return one.Call(t.Context(), raw)
		}
	}
	t.Fatalf("there is no tool %s", name)
	return tool.Result{}, nil
}

func must(t testing.TB, ts *gpu.Toolset, name string, in any) tool.Result {
	t.Helper()
	res, err := call(t, ts, name, in)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	known := map[string]tool.Code{}
	for _, c := range ts.Codes() {
		known[c.Code] = c
	}
	for _, f := range res.Findings {
		c, ok := known[f.Code]
		if !ok || !slices.Contains(c.Kinds, f.Subject.Kind) {
			t.Errorf("%s on %s is not in the catalogue", f.Code, f.Subject)
		}
		for _, p := range c.Params {
			if f.Params[p] == "" && f.Role != incident.History {
				t.Errorf("%s lacks param %s: %v", f.Code, p, f.Params)
			}
		}
		for p := range f.Params {
			if !slices.Contains(c.Params, p) && !slices.Contains(c.Optional, p) {
				t.Errorf("%s has param %s, which the catalogue does not know", f.Code, p)
			}
		}
		if !strings.Contains(res.Text, f.Message) {
			t.Errorf("the text does not carry the message of %s: %s", f.Code, f.Message)
		}
	}
	return res
}

// said writes findings as "role code subject", sorted.
func said(fs []incident.Finding) []string {
	out := []string{}
	for _, f := range fs {
		out = append(out, fmt.Sprintf("%s %s %s", f.Role, f.Code, f.Subject))
	}
	slices.Sort(out)
	return out
}

// id is the UUID of a GPU of n1.
func id(i int) string { return fmt.Sprintf("GPU-0000000%d-1111-4111-8111-111111111111", i) }

func pci(i int) string { return fmt.Sprintf("0000:%02x:00.0", 0x18+16*i) }

// node is n1 with GPUs of a device plugin; more are lines of its status.
func node(capacity string, labels string, more ...string) string {
	return `
apiVersion: v1
kind: Node
metadata: {name: n1, creationTimestamp: "` + ago(200*time.Hour) + `", labels: {nvidia.com/gpu.present: "true"` + labels + `}}
status:
  capacity: {cpu: "96"` + capacity + `}
  allocatable: {cpu: "96"` + capacity + `}
  conditions:
  - {type: Ready, status: "True", reason: KubeletReady, lastTransitionTime: "` + ago(100*time.Hour) + `"}
` + strings.Join(more, "\n")
}

func condition(kind, status, reason, message string) string {
	return fmt.Sprintf("  - {type: %s, status: %q, reason: %s, message: %q, lastTransitionTime: %q}", kind, status, reason, message, ago(20*time.Minute))
}

// pod runs on n1 in namespace a since an hour; spec adds to the container, status
// to the pod's status.
func pod(name, container, status string) string {
	if status == "" {
		status = `
  conditions: [{type: Ready, status: "True"}]
  containerStatuses: [{name: main, ready: true, restartCount: 0, image: i, imageID: i, state: {running: {startedAt: "` + ago(time.Hour) + `"}}}]`
	}
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `, namespace: a, creationTimestamp: "` + ago(time.Hour) + `", labels: {app: ` + name + `}}
spec:
  nodeName: n1
  containers: [{name: main, image: i` + container + `}]
status:
  phase: Running
  startTime: "` + ago(time.Hour) + `"` + status
}

const crashing = `
  conditions: [{type: Ready, status: "False"}]
  containerStatuses: [{name: main, ready: false, restartCount: 3, image: i, imageID: i, state: {waiting: {reason: CrashLoopBackOff}}}]`

const oneGPU = `, resources: {limits: {nvidia.com/gpu: "1"}}`

// event is one of node n1.
func event(reason, message string, before time.Duration) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Event
metadata: {name: n1.%x, namespace: default}
involvedObject: {kind: Node, name: n1, uid: n1}
type: Warning
reason: %s
message: %q
count: 1
firstTimestamp: %q
lastTimestamp: %q
source: {component: kernel-monitor}`, before, reason, message, ago(before), ago(before))
}

// gauge writes a series of GPU i of n1 in the labels of today's exporter.
func gauge(name string, i int, values, more string) string {
	return fmt.Sprintf(`%s{gpu="%d",UUID=%q,pci_bus_id=%q,Hostname="n1",modelName="NVIDIA H100 80GB HBM3"%s} %s`, name, i, id(i), "0000"+strings.ToUpper(pci(i)), more, values)
}

// busy are the series of n GPUs at full load.
func busy(n int) []string {
	var out []string
	for i := range n {
		out = append(out, gauge("DCGM_FI_DEV_GPU_UTIL", i, "97x120", ""), gauge("DCGM_FI_DEV_GPU_TEMP", i, "61x120", ""), gauge("DCGM_FI_DEV_SM_CLOCK", i, "1755x120", ""))
	}
	return out
}
