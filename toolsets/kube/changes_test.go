package kube_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube"
)

// told writes a change on one line.
func told(cs []kube.Change) []string {
	out := []string{}
	for _, c := range cs {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s: %s", c.At.UTC().Format("15:04"), c.Subject, c.What, c.By, strings.Join(c.Detail, "; "))))
	}
	return out
}

func TestChangesOfADeployment(t *testing.T) {
	t.Parallel()
	out, res, err := call[kube.ChangesOut](t, newToolset(t, startWorld(t), ""), "kube_changes", args{"kind": "deploy", "namespace": "web", "name": "llama"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`11:00 Deployment web/llama event deployment-controller: ScalingReplicaSet: Scaled up replica set llama-7c5d8f9b44 from 0 to 2`,
		`11:00 Deployment web/llama edit kubectl-edit: owns spec.template`,
		`11:00 Deployment web/llama rollout kubectl-edit: revision 1 -> 2; image of server: vllm:0.10 -> vllm:0.11; env of server HF_TOKEN: none -> Secret hf key token; env of server MODEL: "llama-3-8b" -> "llama-3-70b"; limits of server nvidia.com/gpu: 1 -> 4; readinessProbe of server: GET :8000/health every 10s -> GET :8080/health every 10s`,
	}
	if diff := cmp.Diff(want, told(out.Changes)); diff != "" {
		t.Error(diff)
	}
	contains(t, res.Text, "3 changes in Deployment web/llama in the last 24h, newest first", "2026-11-24T11:00:00Z (60m ago) Deployment web/llama rollout by kubectl-edit: revision 1 -> 2; image of server: vllm:0.10 -> vllm:0.11")
}

func TestChangesOfAPodReachOwnersReferencesAndNode(t *testing.T) {
	t.Parallel()
	out, _, err := call[kube.ChangesOut](t, newToolset(t, startWorld(t), ""), "kube_changes", args{"kind": "pod", "namespace": "web", "name": llamaPod})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(told(out.Changes), "\n")
	contains(t, text,
		"11:30 Node gpu-1 edit kubectl-cordon: owns spec.unschedulable",
		"11:30 Node gpu-1 edit : taint node.kubernetes.io/unschedulable:NoSchedule",
		"11:10 Pod web/llama-7c5d8f9b44-x2k4p event kubelet: BackOff",
		"11:00 Deployment web/llama rollout kubectl-edit: revision 1 -> 2",
		"10:45 ConfigMap web/vllm-config edit kubectl-patch: owns data.max-model-len",
		"11:00 ReplicaSet web/llama-7c5d8f9b44 created")
	lacks(t, text, "helm", "Secret web/hf")
	for i := 1; i < len(out.Changes); i++ {
		if out.Changes[i].At.After(out.Changes[i-1].At) {
			t.Errorf("not newest first at %d", i)
		}
	}
}

func TestChangesOfANamespaceAndTheCluster(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, startWorld(t), "")
	for name, tc := range map[string]struct {
		in         args
		want, lack []string
	}{
		"namespace": {args{"namespace": "web"}, []string{"Deployment web/llama rollout", "ConfigMap web/vllm-config edit", "Node gpu-1 edit kubectl-cordon"}, []string{"trainer", "llama-7c5d8f9b44-q9zzt"}},
		"cluster":   {args{}, []string{"Deployment web/llama rollout", "StatefulSet train/trainer rollout : revision 1 -> 2; image of main: pt:1 -> pt:2; limits of main memory: 8Gi -> 4Gi", "Node gpu-1 edit"}, []string{"PriorityClass", "ServiceAccount"}},
		"kind":      {args{"kind": "nodes"}, []string{"Node gpu-1 edit"}, []string{"Deployment"}},
		"long ago":  {args{"namespace": "web", "since": "10d"}, []string{"ConfigMap web/vllm-config created helm", "Secret web/hf created kubectl-create"}, nil},
		"just now":  {args{"namespace": "web", "since": "5m"}, nil, []string{"rollout", "edit", "BackOff"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, _, err := call[kube.ChangesOut](t, ts, "kube_changes", tc.in)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Join(told(out.Changes), "\n")
			contains(t, text, tc.want...)
			lacks(t, text, tc.lack...)
		})
	}
}

func TestRollbackIsDatedByTheWrite(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.AddYAML(`
apiVersion: apps/v1
kind: Deployment
metadata:
  name: back
  namespace: web
  uid: b1
  creationTimestamp: "2026-11-01T10:00:00Z"
  managedFields: [{manager: kubectl-rollout, operation: Update, apiVersion: apps/v1, time: "2026-11-24T11:20:00Z", fieldsType: FieldsV1, fieldsV1: {"f:spec": {"f:template": {}}}}]
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: "x:1"}]}}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: back-old, namespace: web, creationTimestamp: "2026-11-01T10:00:00Z", annotations: {deployment.kubernetes.io/revision: "3"}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: back, uid: b1, controller: true}]}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: "x:1"}]}}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: back-new, namespace: web, creationTimestamp: "2026-11-20T10:00:00Z", annotations: {deployment.kubernetes.io/revision: "2"}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: back, uid: b1, controller: true}]}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: "x:2"}, {name: extra, image: "y:1"}]}}}
`)
	out, _, err := call[kube.ChangesOut](t, newToolset(t, srv, ""), "kube_changes", args{"kind": "deploy", "namespace": "web", "name": "back"})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, strings.Join(told(out.Changes), "\n"), "11:20 Deployment web/back rollout kubectl-rollout: revision 2 -> 3; image of c: x:2 -> x:1; extra removed")
}

func TestChangesGoOnWithoutRights(t *testing.T) {
	t.Parallel()
	srv := startWorld(t)
	srv.Forbid = func(_, resource, _ string) bool {
		return resource == "nodes" || resource == "events" || resource == "configmaps"
	}
	out, res, err := call[kube.ChangesOut](t, newToolset(t, srv, ""), "kube_changes", args{"namespace": "web"})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, strings.Join(told(out.Changes), "\n"), "rollout")
	contains(t, res.Text, "not seen: this identity may not list nodes in the whole cluster (403); grant verb list on nodes", "may not list events in namespace web", "may not list configmaps")
}

func TestChangesRefuseBadInput(t *testing.T) {
	t.Parallel()
	ts := newToolset(t, startWorld(t), "")
	for _, in := range []args{{"name": "x"}, {"kind": "unicorn"}, {"since": "yesterday"}, {"kind": "pod", "name": "nope", "namespace": "web"}} {
		if _, _, err := call[kube.ChangesOut](t, ts, "kube_changes", in); err == nil || tool.KindOf(err) == tool.Internal {
			t.Errorf("%v: %v", in, err)
		}
	}
}
