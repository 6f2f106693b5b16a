package kube_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source/sourcetest"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

func newToolset(t testing.TB, srv *sourcetest.Server, namespace string) *kube.Toolset {
	t.Helper()
	sc := srv.SourceConfig(clock)
	ts, err := kube.New(kube.Config{Client: sc.Client, Dynamic: sc.Dynamic, Metadata: sc.Metadata, Cluster: "test", Namespace: namespace, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// call calls a tool and decodes its data.
func call[Out any](t *testing.T, ts *kube.Toolset, name string, args any) (Out, tool.Result, error) {
	t.Helper()
	var out Out
	for _, tl := range ts.Tools() {
		if tl.Info().Name != name {
			continue
		}
		raw, err := json.Marshal(args)
		if err != nil {
			t.Fatal(err)
		}
		res, err := tl.Call(context.WithoutCancel(t.Context()), raw)
		if err != nil {
			return out, res, err
		}
		if err := json.Unmarshal(res.Data, &out); err != nil {
			t.Fatal(err)
		}
		return out, res, nil
	}
	t.Fatalf("no tool %s", name)
	return out, tool.Result{}, nil
}

type args map[string]any

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

func lacks(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if strings.Contains(text, w) {
			t.Errorf("%q is in:\n%s", w, text)
		}
	}
}

func refs(rs []incident.Ref) []string {
	out := []string{}
	for _, r := range rs {
		out = append(out, r.String())
	}
	return out
}

// world is a small cluster: a Deployment rolled out an hour ago with its pods,
// one of them failing; a StatefulSet; a claim; a node; a LeaderWorkerSet.
const world = `
apiVersion: v1
kind: Namespace
metadata: {name: train}
---
apiVersion: v1
kind: Namespace
metadata: {name: web}
---
apiVersion: v1
kind: Node
metadata:
  name: gpu-1
  creationTimestamp: "2026-11-01T00:00:00Z"
  managedFields:
  - {manager: kubectl-cordon, operation: Update, apiVersion: v1, time: "2026-11-24T11:30:00Z", fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:unschedulable": {}}}}
spec:
  unschedulable: true
  taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule, timeAdded: "2026-11-24T11:30:00Z"}]
status:
  conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-11-01T00:01:00Z"}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: llama
  namespace: web
  uid: d1
  creationTimestamp: "2026-11-20T10:00:00Z"
  managedFields:
  - {manager: argocd-controller, operation: Update, apiVersion: apps/v1, time: "2026-11-20T10:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:replicas": {}}}}
  - {manager: kubectl-edit, operation: Update, apiVersion: apps/v1, time: "2026-11-24T11:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:template": {}}}}
  - {manager: kube-controller-manager, operation: Update, subresource: status, apiVersion: apps/v1, time: "2026-11-24T11:59:00Z", fieldsType: FieldsV1, fieldsV1: {"f:status": {}}}
spec:
  replicas: 2
  selector: {matchLabels: {app: llama}}
  template:
    metadata: {labels: {app: llama}}
    spec: {containers: [{name: server, image: "vllm:0.11"}]}
status: {readyReplicas: 1}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: llama-6d9f8b6c5d
  namespace: web
  uid: rs1
  creationTimestamp: "2026-11-20T10:00:00Z"
  annotations: {deployment.kubernetes.io/revision: "1"}
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: llama, uid: d1, controller: true}]
spec:
  replicas: 0
  selector: {matchLabels: {app: llama}}
  template:
    metadata: {labels: {app: llama, pod-template-hash: 6d9f8b6c5d}}
    spec:
      containers:
      - name: server
        image: vllm:0.10
        env: [{name: MODEL, value: llama-3-8b}]
        resources: {limits: {nvidia.com/gpu: "1", memory: 64Gi}}
        readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: llama-7c5d8f9b44
  namespace: web
  uid: rs2
  creationTimestamp: "2026-11-24T11:00:00Z"
  annotations: {deployment.kubernetes.io/revision: "2"}
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: llama, uid: d1, controller: true}]
spec:
  replicas: 2
  selector: {matchLabels: {app: llama}}
  template:
    metadata: {labels: {app: llama, pod-template-hash: 7c5d8f9b44}}
    spec:
      containers:
      - name: server
        image: vllm:0.11
        env: [{name: MODEL, value: llama-3-70b}, {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: hf, key: token}}}]
        resources: {limits: {nvidia.com/gpu: "4", memory: 64Gi}}
        readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 10}
---
apiVersion: v1
kind: Pod
metadata:
  name: llama-7c5d8f9b44-x2k4p
  namespace: web
  uid: p1
  labels: {app: llama}
  creationTimestamp: "2026-11-24T11:00:05Z"
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: llama-7c5d8f9b44, uid: rs2, controller: true}]
spec:
  nodeName: gpu-1
  serviceAccountName: serving
  containers:
  - name: server
    image: vllm:0.11
    env: [{name: HF_TOKEN, valueFrom: {secretKeyRef: {name: hf, key: token}}}]
    resources: {limits: {nvidia.com/gpu: "4"}}
    livenessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 10, failureThreshold: 3}
  - {name: sidecar, image: "envoy:1"}
  volumes:
  - {name: config, configMap: {name: vllm-config}}
  - {name: cache, persistentVolumeClaim: {claimName: models}}
status:
  phase: Running
  conditions: [{type: Ready, status: "False", reason: ContainersNotReady, message: "containers with unready status: [server]", lastTransitionTime: "2026-11-24T11:01:00Z"}]
  containerStatuses:
  - {name: sidecar, ready: true, restartCount: 0, image: "", imageID: "", state: {running: {startedAt: "2026-11-24T11:00:10Z"}}}
  - name: server
    ready: false
    restartCount: 6
    image: ""
    imageID: ""
    state: {waiting: {reason: CrashLoopBackOff, message: back-off 5m0s restarting failed container}}
    lastState: {terminated: {exitCode: 1, reason: Error, startedAt: "2026-11-24T11:50:00Z", finishedAt: "2026-11-24T11:55:00Z"}}
---
apiVersion: v1
kind: Pod
metadata:
  name: llama-7c5d8f9b44-q9zzt
  namespace: web
  uid: p2
  labels: {app: llama}
  creationTimestamp: "2026-11-24T11:00:05Z"
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: llama-7c5d8f9b44, uid: rs2, controller: true}]
spec: {nodeName: gpu-1, containers: [{name: server, image: "vllm:0.11"}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Event
metadata: {name: e1, namespace: web}
type: Warning
reason: BackOff
message: Back-off restarting failed container server in pod llama-7c5d8f9b44-x2k4p
count: 12
firstTimestamp: "2026-11-24T11:10:00Z"
lastTimestamp: "2026-11-24T11:58:00Z"
source: {component: kubelet, host: gpu-1}
involvedObject: {apiVersion: v1, kind: Pod, namespace: web, name: llama-7c5d8f9b44-x2k4p, uid: p1, fieldPath: "spec.containers{server}"}
---
apiVersion: v1
kind: Event
metadata: {name: e2, namespace: web}
type: Normal
reason: ScalingReplicaSet
message: Scaled up replica set llama-7c5d8f9b44 from 0 to 2
count: 1
firstTimestamp: "2026-11-24T11:00:04Z"
lastTimestamp: "2026-11-24T11:00:04Z"
source: {component: deployment-controller}
involvedObject: {apiVersion: apps/v1, kind: Deployment, namespace: web, name: llama, uid: d1}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: web, creationTimestamp: "2026-11-24T10:00:00Z"}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata:
  name: system-node-critical
  creationTimestamp: "2026-11-24T10:00:00Z"
  managedFields: [{manager: kube-apiserver, operation: Update, apiVersion: scheduling.k8s.io/v1, time: "2026-11-24T10:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:value": {}}}]
value: 2000001000
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: vllm-config
  namespace: web
  creationTimestamp: "2026-11-20T10:00:00Z"
  managedFields:
  - {manager: helm, operation: Update, apiVersion: v1, time: "2026-11-20T10:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:args": {}}}}
  - {manager: kubectl-patch, operation: Update, apiVersion: v1, time: "2026-11-24T10:45:00Z", fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:max-model-len": {}}}}
data: {args: "--x", max-model-len: "131072"}
---
apiVersion: v1
kind: Secret
metadata:
  name: hf
  namespace: web
  creationTimestamp: "2026-11-20T10:00:00Z"
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{"data":{"token":"Y2FuYXJ5LXZhbHVl"}}'}
  managedFields: [{manager: kubectl-create, operation: Update, apiVersion: v1, time: "2026-11-20T10:00:00Z", fieldsType: FieldsV1, fieldsV1: {"f:data": {".": {}, "f:token": {}}}}]
data: {token: Y2FuYXJ5LXZhbHVl}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: trainer, namespace: train, uid: s1, creationTimestamp: "2026-11-20T10:00:00Z"}
spec: {replicas: 2, serviceName: trainer, selector: {matchLabels: {app: trainer}}, template: {metadata: {labels: {app: trainer}}, spec: {containers: [{name: main, image: "pt:2"}]}}}
status: {readyReplicas: 2}
---
apiVersion: apps/v1
kind: ControllerRevision
metadata: {name: trainer-1, namespace: train, creationTimestamp: "2026-11-20T10:00:00Z", ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: trainer, uid: s1, controller: true}]}
revision: 1
data: {spec: {template: {spec: {containers: [{name: main, image: "pt:1", resources: {limits: {memory: 8Gi}}}]}}}}
---
apiVersion: apps/v1
kind: ControllerRevision
metadata: {name: trainer-2, namespace: train, creationTimestamp: "2026-11-24T09:00:00Z", ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: trainer, uid: s1, controller: true}]}
revision: 2
data: {spec: {template: {spec: {containers: [{name: main, image: "pt:2", resources: {limits: {memory: 4Gi}}}]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: trainer-0, namespace: train, uid: t0, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: trainer, uid: s1, controller: true}]}
spec: {containers: [{name: main, image: "pt:2"}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: deepseek, namespace: web, uid: l1, creationTimestamp: "2026-11-24T10:00:00Z"}
spec:
  replicas: 1
  leaderWorkerTemplate:
    size: 2
    leaderTemplate: {spec: {containers: [{name: leader, image: "sglang:1", resources: {limits: {nvidia.com/gpu: "8"}}}]}}
    workerTemplate: {spec: {containers: [{name: worker, image: "sglang:1"}], resourceClaims: [{name: gpus, resourceClaimTemplateName: eight-gpus}]}}
status:
  conditions:
  - {type: Available, status: "False", reason: GroupsNotReady, message: "0 of 1 groups are ready", lastTransitionTime: "2026-11-24T10:00:30Z"}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: deepseek, namespace: web, uid: l1s, ownerReferences: [{apiVersion: leaderworkerset.x-k8s.io/v1, kind: LeaderWorkerSet, name: deepseek, uid: l1, controller: true}]}
spec: {replicas: 1, serviceName: x, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: leader, image: "sglang:1"}]}}}
`

func startWorld(t testing.TB) *sourcetest.Server {
	t.Helper()
	srv := sourcetest.Start(t)
	srv.ServeKind("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet", "leaderworkersets", true, "lws")
	srv.AddYAML(world)
	return srv
}
