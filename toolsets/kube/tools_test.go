package kube_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

func TestGet(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, startWorld(t), "")
	for _, tc := range []struct {
		name string
		in   args
		text string
	}{
		{"path", args{"kind": "pod", "namespace": "web", "name": "llama-7c5d8f9b44-x2k4p", "path": ".spec.containers[*].image"}, "Pod web/llama-7c5d8f9b44-x2k4p .spec.containers[*].image\nvllm:0.11\nenvoy:1"},
		{"braces and filter", args{"kind": "po", "namespace": "web", "name": "llama-7c5d8f9b44-x2k4p", "path": `{.status.conditions[?(@.type=="Ready")].reason}`}, "Pod web/llama-7c5d8f9b44-x2k4p {.status.conditions[?(@.type==\"Ready\")].reason}\nContainersNotReady"},
		{"no dot", args{"kind": "node", "name": "gpu-1", "path": "spec.unschedulable"}, "Node gpu-1 spec.unschedulable\ntrue"},
		{"nothing there", args{"kind": "node", "name": "gpu-1", "path": ".spec.podCIDR"}, "Node gpu-1 has nothing at .spec.podCIDR"},
		{"namespace found by itself", args{"kind": "sts", "name": "trainer", "path": "spec.replicas"}, "StatefulSet train/trainer spec.replicas\n2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, res, err := call[kube.GetOut](t, ts, "kube_get", tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.text, res.Text); diff != "" {
				t.Error(diff)
			}
		})
	}
	out, res, err := call[kube.GetOut](t, ts, "kube_get", args{"kind": "deploy", "namespace": "web", "name": "llama"})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, res.Text, "kind: Deployment", "image: vllm:0.11")
	lacks(t, res.Text+string(out.Object), "managedFields")
}

func TestGetRefusesBadInput(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.AddYAML("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: vllm-config, namespace: train}")
	ts := newToolset(t, srv, "")
	for name, tc := range map[string]struct {
		in   args
		kind tool.Kind
		says string
	}{
		"bad path":       {args{"kind": "node", "name": "gpu-1", "path": ".spec[["}, tool.Invalid, "is not a JSONPath"},
		"long path":      {args{"kind": "node", "name": "gpu-1", "path": strings.Repeat(".a", 400)}, tool.Invalid, "1 to 500"},
		"unknown kind":   {args{"kind": "unicorn", "name": "x"}, tool.NotServed, `no kind "unicorn"`},
		"no such object": {args{"kind": "pod", "namespace": "web", "name": "nope"}, tool.NotFound, "pods web/nope does not exist"},
		"nowhere":        {args{"kind": "pod", "name": "nope"}, tool.NotFound, "no namespace has a Pod nope"},
		"several":        {args{"kind": "cm", "name": "vllm-config"}, tool.Invalid, "exists in namespaces train, web"},
		"empty name":     {args{"kind": "cm", "name": ""}, tool.Invalid, "name of a ConfigMap is needed"},
		"unknown field":  {args{"kind": "cm", "name": "x", "colour": "red"}, tool.Invalid, "colour"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := call[kube.GetOut](t, ts, "kube_get", tc.in)
			if tool.KindOf(err) != tc.kind || !strings.Contains(tool.UserText(err), tc.says) {
				t.Errorf("%s: %v", tool.KindOf(err), err)
			}
		})
	}
}

// The canary stands in the Secret's data and in its last-applied annotation.
func TestNoToolShowsSecretValues(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, startWorld(t), "")
	for _, c := range []struct {
		tool string
		in   args
	}{
		{"kube_get", args{"kind": "secret", "namespace": "web", "name": "hf"}},
		{"kube_get", args{"kind": "secret", "namespace": "web", "name": "hf", "path": ".data.token"}},
		{"kube_list", args{"kind": "secrets", "columns": []string{".data.token", ".metadata.annotations"}}},
		{"kube_describe", args{"kind": "secret", "namespace": "web", "name": "hf"}},
		{"kube_changes", args{"kind": "secret", "namespace": "web", "name": "hf", "since": "30d"}},
	} {
		_, res, err := call[json.RawMessage](t, ts, c.tool, c.in)
		if err != nil {
			t.Errorf("%s: %v", c.tool, err)
		}
		lacks(t, res.Text+string(res.Data), "Y2FuYXJ5LXZhbHVl", "canary-value")
		contains(t, res.Text, "hf")
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, startWorld(t), "")
	_, res, err := call[kube.ListOut](t, ts, "kube_list", args{"kind": "pods"})
	if err != nil {
		t.Fatal(err)
	}
	want := `3 pods in all namespaces: 2 Running, 1 CrashLoopBackOff
NAMESPACE  NAME                    READY  RESTARTS  NODE   STATE             AGE
train      trainer-0               True                    Running           ?
web        llama-7c5d8f9b44-q9zzt  True             gpu-1  Running           59m
web        llama-7c5d8f9b44-x2k4p  False  0,6       gpu-1  CrashLoopBackOff  59m
`
	if diff := cmp.Diff(want, res.Text); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct {
		in   args
		text string
	}{
		"count":            {args{"kind": "pods", "namespace": "web", "count_only": true}, "2 pods in namespace web"},
		"count selected":   {args{"kind": "pods", "label_selector": "app=llama", "count_only": true}, "2 pods in all namespaces"},
		"columns":          {args{"kind": "pods", "namespace": "web", "field_selector": "metadata.name=llama-7c5d8f9b44-q9zzt", "columns": []string{"PHASE:.status.phase", ".spec.nodeName"}}, "1 pods in namespace web: 1 Running\nNAME                    PHASE    NODENAME\nllama-7c5d8f9b44-q9zzt  Running  gpu-1\n"},
		"limit":            {args{"kind": "pods", "namespace": "web", "limit": 1, "columns": []string{".status.phase"}}, "2 pods in namespace web: 1 CrashLoopBackOff, 1 Running\nNAME                    PHASE\nllama-7c5d8f9b44-q9zzt  Running\nand 1 more; narrow with selectors or raise limit\n"},
		"cluster-scoped":   {args{"kind": "nodes"}, "1 nodes in the cluster: 1 Ready,SchedulingDisabled\nNAME   UNSCHEDULABLE  TAINTS                            KUBELET  STATE                     AGE\ngpu-1  true           node.kubernetes.io/unschedulable           Ready,SchedulingDisabled  23d\n"},
		"custom kind":      {args{"kind": "lws", "namespace": "web"}, "1 leaderworkersets in namespace web: 1 NotReady\nNAME      STATE     AGE\ndeepseek  NotReady  2h\n"},
		"nothing to list":  {args{"kind": "jobs"}, "0 jobs in all namespaces\n"},
		"workload columns": {args{"kind": "deployments"}, "1 deployments in all namespaces: 1 NotReady\nNAMESPACE  NAME   DESIRED  READY  AVAILABLE  STATE     AGE\nweb        llama  2        1                 NotReady  4d2h\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, res, err := call[kube.ListOut](t, ts, "kube_list", tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.text, res.Text); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, in := range map[string]args{
		"labels":  {"kind": "pods", "label_selector": "a in (("},
		"fields":  {"kind": "pods", "field_selector": "a"},
		"columns": {"kind": "pods", "columns": []string{".x[["}},
		"many":    {"kind": "pods", "columns": strings.Split(strings.Repeat(".a,", 21)+".a", ",")},
	} {
		if _, _, err := call[kube.ListOut](t, ts, "kube_list", in); tool.KindOf(err) != tool.Invalid {
			t.Errorf("bad %s: %v", name, err)
		}
	}
}

func TestListUsesPrinterColumns(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.AddYAML(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: leaderworkersets.leaderworkerset.x-k8s.io}
spec:
  versions:
  - name: v1
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.leaderWorkerTemplate.size}
    - {name: Hidden, type: string, priority: 1, jsonPath: .spec.x}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
`)
	out, _, err := call[kube.ListOut](t, newToolset(t, srv, ""), "kube_list", args{"kind": "lws", "namespace": "web"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"NAME", "SIZE", "STATE", "AGE"}, out.Columns); diff != "" {
		t.Error(diff)
	}
}

func TestDescribePod(t *testing.T) {
	t.Parallel()
	out, res, err := call[kube.DescribeOut](t, newToolset(t, startWorld(t), ""), "kube_describe", args{"kind": "pod", "namespace": "web", "name": "llama-7c5d8f9b44-x2k4p"})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, res.Text,
		"Pod web/llama-7c5d8f9b44-x2k4p  state CrashLoopBackOff  created 59m ago  owner ReplicaSet web/llama-7c5d8f9b44",
		"Ready False ContainersNotReady (59m): containers with unready status: [server]",
		"container server: image vllm:0.11; waiting CrashLoopBackOff back-off 5m0s restarting failed container; restarts 6; last run ended Error exit code 1 at 2026-11-24T11:55:00Z; limits nvidia.com/gpu=4; probes liveness GET :8000/health every 10s, 3 failures",
		"container sidecar: image envoy:1; running, ready",
		"uses ConfigMap web/vllm-config (spec.volumes[config])", "mounts PersistentVolumeClaim web/models", "uses Secret web/hf (spec.containers[server].env[HF_TOKEN])",
		"runs-on Node gpu-1", "2m ago x12 since 50m Warning BackOff")
	if len(res.Findings) != 0 {
		t.Errorf("pods are judged by another tool: %v", res.Findings)
	}
	if out.ChildCount != 0 || len(out.Events) != 1 {
		t.Errorf("%d children, %d events", out.ChildCount, len(out.Events))
	}
	if !hasEdge(res.Edges, "controlled-by", "ReplicaSet web/llama-7c5d8f9b44") || !hasEdge(res.Edges, "uses", "Secret web/hf") {
		t.Errorf("edges: %v", res.Edges)
	}
}

func hasEdge(edges []incident.Edge, relation, to string) bool {
	for _, e := range edges {
		if e.Relation == relation && e.To.String() == to {
			return true
		}
	}
	return false
}

func TestDescribeCustomKind(t *testing.T) {
	t.Parallel()
	_, res, err := call[kube.DescribeOut](t, newToolset(t, startWorld(t), ""), "kube_describe", args{"kind": "LeaderWorkerSet.leaderworkerset.x-k8s.io", "name": "deepseek"})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, res.Text, "spec.leaderWorkerTemplate.leaderTemplate.spec container leader: image sglang:1; limits nvidia.com/gpu=8",
		"spec.leaderWorkerTemplate.size: 2", "from-template ResourceClaimTemplate web/eight-gpus", "owns 1:\n  StatefulSet web/deepseek",
		"Available False GroupsNotReady (119m): 0 of 1 groups are ready")
	if !hasEdge(res.Edges, "owns", "StatefulSet web/deepseek") {
		t.Errorf("edges: %v", res.Edges)
	}
	if len(res.Findings) != 1 || res.Findings[0].Code != "kube.object_not_ready" || res.Findings[0].Role != incident.Symptom {
		t.Fatalf("findings: %+v", res.Findings)
	}
	contains(t, res.Findings[0].Message, "LeaderWorkerSet web/deepseek has condition Available False GroupsNotReady: 0 of 1 groups are ready")
}

func TestCustomObjectsThatAreFine(t *testing.T) {
	t.Parallel()
	const cond = `{type: Ready, status: "False", reason: X, lastTransitionTime: "2026-11-24T10:00:00Z"}`
	for name, body := range map[string]string{
		"ready":          `{status: {conditions: [{type: Ready, status: "True"}]}}`,
		"unknown":        `{status: {conditions: [{type: Ready, status: "Unknown", lastTransitionTime: "2026-11-24T10:00:00Z"}]}}`,
		"settling":       `{status: {conditions: [{type: Ready, status: "False", lastTransitionTime: "2026-11-24T11:58:00Z"}]}}`,
		"suspended":      `{spec: {suspend: true}, status: {conditions: [` + cond + `]}}`,
		"zero replicas":  `{spec: {replicas: 0}, status: {conditions: [` + cond + `]}}`,
		"finished":       `{status: {conditions: [` + cond + `, {type: Completed, status: "True"}]}}`,
		"not failed":     `{status: {conditions: [{type: Failed, status: "False", lastTransitionTime: "2026-11-24T10:00:00Z"}]}}`,
		"custom words":   `{status: {conditions: [{type: QuotaFrozen, status: "False"}, {type: HasTrouble, status: "True"}]}}`,
		"no status":      `{spec: {a: 1}}`,
		"odd conditions": `{status: {conditions: [1, {status: x}, {type: 3}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := sourcetest.Start(t)
			srv.ServeKind("ray.io", "v1", "RayCluster", "rayclusters", true)
			srv.AddYAML("apiVersion: ray.io/v1\nkind: RayCluster\nmetadata: {name: r, namespace: web, uid: u, creationTimestamp: \"2026-11-24T09:00:00Z\"}\n" + strings.Join(splitTop(body), "\n"))
			_, res, err := call[kube.DescribeOut](t, newToolset(t, srv, ""), "kube_describe", args{"kind": "raycluster", "name": "r", "namespace": "web"})
			if err != nil || len(res.Findings) != 0 {
				t.Errorf("%v %v", res.Findings, err)
			}
		})
	}
}

// splitTop turns "{spec: {...}, status: {...}}" into lines at the top level.
func splitTop(s string) []string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
	return strings.Split(strings.Replace(s, "}, status:", "}\nstatus:", 1), "\n")
}

func TestDescribeConfigMapTellsSizes(t *testing.T) {
	t.Parallel()
	_, res, err := call[kube.DescribeOut](t, newToolset(t, startWorld(t), ""), "kube_describe", args{"kind": "configmap", "namespace": "web", "name": "vllm-config"})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, res.Text, "data.max-model-len: 6 bytes")
	lacks(t, res.Text, "131072")
}

func TestDescribeSecretTellsKeyNames(t *testing.T) {
	t.Parallel()
	_, res, err := call[kube.DescribeOut](t, newToolset(t, startWorld(t), ""), "kube_describe", args{"kind": "secret", "namespace": "web", "name": "hf"})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, res.Text, "data: keys token (values are never read)")
}

func TestEventsTool(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	for i := range 30 {
		srv.AddYAML(fmt.Sprintf(`
apiVersion: v1
kind: Event
metadata: {name: f%d, namespace: train}
type: Warning
reason: FailedScheduling
message: "0/%d nodes are available: pod job-%d"
count: 2
firstTimestamp: "2026-11-24T11:%02d:00Z"
lastTimestamp: "2026-11-24T11:%02d:30Z"
source: {component: default-scheduler}
involvedObject: {apiVersion: v1, kind: Pod, namespace: train, name: job-%d}
`, i, i, i, i, i, i))
	}
	ts := newToolset(t, srv, "")
	out, res, err := call[kube.EventsOut](t, ts, "kube_events", args{"namespace": "train"})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, res.Text, "30 events for namespace train\n", "30m ago x60 since 60m Warning FailedScheduling Pod train/job-29 and 29 more: 0/29 nodes are available: pod job-29 [default-scheduler]")
	if len(out.Groups) != 1 || out.Groups[0].ObjectCount != 30 || len(out.Groups[0].Objects) != 10 {
		t.Errorf("%+v", out.Groups)
	}
	for name, tc := range map[string]struct {
		in    args
		total int
	}{
		"all":         {args{}, 32},
		"warnings":    {args{"namespace": "web", "type": "warning"}, 1},
		"reason":      {args{"namespace": "web", "reason": "ScalingReplicaSet"}, 1},
		"since":       {args{"since": "5m"}, 1},
		"object":      {args{"namespace": "web", "kind": "deploy", "name": "llama"}, 1},
		"kind":        {args{"namespace": "web", "kind": "pods"}, 1},
		"name only":   {args{"namespace": "train", "name": "job-3"}, 1},
		"nothing":     {args{"namespace": "web", "reason": "Nope"}, 0},
		"gone object": {args{"namespace": "train", "kind": "pod", "name": "gone"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, res, err := call[kube.EventsOut](t, ts, "kube_events", tc.in)
			if err != nil || out.Total != tc.total {
				t.Errorf("%d events, want %d: %v\n%s", out.Total, tc.total, err, res.Text)
			}
		})
	}
	for _, in := range []args{{"since": "soon"}, {"since": "-3m"}, {"since": "0s"}, {"since": "1x2d"}, {"type": "Error"}, {"kind": "unicorn"}} {
		if _, _, err := call[kube.EventsOut](t, ts, "kube_events", in); err == nil {
			t.Errorf("%v is accepted", in)
		}
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	ts := newToolset(t, srv, "")
	out, res, err := call[kube.AccessOut](t, ts, "kube_access", args{})
	if err != nil || out.Lacking != 0 {
		t.Errorf("%d lacking, %v", out.Lacking, err)
	}
	contains(t, res.Text, "reads are allowed")

	srv2 := startWorld(t)
	srv2.Forbid = func(verb, resource, ns string) bool {
		return resource == "nodes" || resource == "pods/log" || resource == "pods" && ns == ""
	}
	ts2 := newToolset(t, srv2, "web")
	out, res, err = call[kube.AccessOut](t, ts2, "kube_access", args{})
	if err != nil {
		t.Fatal(err)
	}
	if out.Lacking != 2 {
		t.Errorf("%d lacking", out.Lacking)
	}
	contains(t, res.Text, "list pods     only in web", "get pods/log  no           container logs", "list nodes    no")
	lacks(t, res.Text, "list services")
}
