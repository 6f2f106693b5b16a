package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/toolsets/serving"
)

// found reports whether an answer has a finding of a code that speaks of a word.
func found(a app.ToolAnswer, code, word string) bool {
	return slices.ContainsFunc(a.Findings, func(f incident.Finding) bool { return f.Code == code && strings.Contains(f.Message, word) })
}

// Cilium's and Kueue's own definitions on a real API server: what they accept is
// what gumshoe reads.
func TestCiliumAndKueueOnRealDefinitions(t *testing.T) {
	t.Parallel()
	l := start(t, controlplane.Options{NoScheduler: true, NoControllers: true})
	for _, d := range crds(t,
		definition{"github.com/cilium/cilium@v1.20.2", "pkg/k8s/apis/cilium.io/client/crds/v2/cilium[cein]*.yaml"},
		definition{"sigs.k8s.io/kueue@v0.17.0", "config/components/crd/bases/kueue.x-k8s.io_[clrw]*.yaml"},
	) {
		l.apply(t, d)
	}
	l.apply(t, `apiVersion: v1
kind: Namespace
metadata: {name: llm}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: llm}
---
apiVersion: v1
kind: Pod
metadata: {name: engine, namespace: llm, labels: {app: engine}}
spec: {automountServiceAccountToken: false, containers: [{name: engine, image: "vllm/vllm-openai:v0.14.1", ports: [{containerPort: 8000}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: router, namespace: llm, labels: {app: router-v2}}
spec: {automountServiceAccountToken: false, containers: [{name: router, image: "router:1"}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: engines, namespace: llm}
spec:
  endpointSelector: {matchLabels: {app: engine}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: router}}]
    toPorts: [{ports: [{port: "8000", protocol: TCP}]}]
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: research}
spec:
  stopPolicy: Hold
  namespaceSelector: {}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: main, namespace: llm}
spec: {clusterQueue: research}
---
apiVersion: kueue.x-k8s.io/v1beta2
kind: Workload
metadata: {name: sft, namespace: llm}
spec:
  queueName: main
  podSets:
  - {name: main, count: 1, template: {spec: {restartPolicy: Never, containers: [{name: main, image: "trainer:1"}]}}}
`)
	_, a := call[map[string]any](t, l, "cilium_policy", map[string]any{"namespace": "llm", "pod": "router", "to_namespace": "llm", "to_pod": "engine", "port": 8000})
	text := a.Evidence.Text
	if !strings.Contains(text, "engines") || !strings.Contains(text, "denied") || !strings.Contains(text, "app=router") {
		t.Errorf("the policy that denies, and what it wants, are not named:\n%s", text)
	}
	_, a = call[map[string]any](t, l, "serving_queue", serving.QueueIn{Kind: "ClusterQueue", Name: "research"})
	if !found(a, "serving.queue_stopped", "research") {
		t.Errorf("the stopped queue is not found:\n%s", a.Evidence.Text)
	}
}

// The definitions of these projects are in no module that is served; stubs with
// their documented fields stand for them, so that the API server drops what they
// do not have.
func TestServingOnStubs(t *testing.T) {
	t.Parallel()
	l := start(t, controlplane.Options{NoScheduler: true, NoControllers: true})
	files, err := filepath.Glob("testdata/definitions/*.yaml")
	if err != nil || len(files) != 4 {
		t.Fatalf("%v %v", files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		l.apply(t, string(raw))
	}
	l.apply(t, `apiVersion: v1
kind: Namespace
metadata: {name: models}
---
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: llama, namespace: models}
resource: {instanceType: Standard_NC80adis_H100_v5, labelSelector: {matchLabels: {apps: llama}}}
inference: {preset: {name: llama-3.3-70b-instruct}}
status:
  state: NotReady
  observedGeneration: 1
  conditions:
  - {type: ResourceReady, status: "False", reason: workspaceResourceStatusNotReady, message: node provisioning is not done, lastTransitionTime: "2026-01-01T00:00:00Z"}
---
apiVersion: nvidia.com/v1beta1
kind: DynamoGraphDeployment
metadata: {name: deepseek, namespace: models}
spec: {components: [{name: Frontend, type: frontend}, {name: Decode, type: decode, replicas: 2}]}
status:
  state: failed
  observedGeneration: 1
  components: [{name: Decode, componentKind: PodClique, replicas: 2, readyReplicas: 0}]
  conditions:
  - {type: Ready, status: "False", reason: insufficient_capacity, message: no room for two decode workers, lastTransitionTime: "2026-01-01T00:00:00Z"}
---
apiVersion: grove.io/v1alpha1
kind: PodCliqueSet
metadata: {name: deepseek, namespace: models}
spec: {replicas: 1}
status:
  conditions:
  - {type: TopologyLevelsUnavailable, status: "True", reason: ClusterTopologyLevelsUnavailable, message: "topology level rack is not there", lastTransitionTime: "2026-01-01T00:00:00Z"}
---
apiVersion: airunway.ai/v1alpha1
kind: ModelDeployment
metadata: {name: phi, namespace: models}
spec: {model: {id: Qwen/Qwen3-32B, source: huggingface}, engine: {type: vllm}}
status:
  phase: Failed
  observedGeneration: 1
  provider: {name: kaito}
  conditions:
  - {type: ResourceCreated, status: "False", reason: ResourceConflict, message: "Workspace models/phi exists and is not owned by this ModelDeployment", lastTransitionTime: "2026-01-01T00:00:00Z"}
`)
	over, _ := call[serving.Overview](t, l, "serving_overview", serving.OverviewIn{})
	for _, system := range []string{"KAITO", "NVIDIA Dynamo", "Grove", "AI Runway"} {
		if !slices.ContainsFunc(over.Systems, func(s serving.SystemView) bool { return s.System == system && len(s.Unknown) == 0 }) {
			t.Errorf("%s is not seen as it is: %+v", system, over.Systems)
		}
	}
	for _, c := range []struct{ kind, name, code, word string }{
		{"Workspace", "llama", "", "workspaceResourceStatusNotReady"}, // so young that it is no trouble yet
		{"DynamoGraphDeployment", "deepseek", "serving.gang_unscheduled", "insufficient_capacity"},
		{"PodCliqueSet", "deepseek", "serving.topology_unavailable", "rack"},
		{"ModelDeployment", "phi", "serving.resource_conflict", "not owned"},
	} {
		_, a := call[map[string]any](t, l, "serving_explain", serving.ExplainIn{Kind: c.kind, Namespace: "models", Name: c.name})
		if !strings.Contains(a.Evidence.Text, c.word) || c.code != "" && !found(a, c.code, c.word) {
			t.Errorf("%s %s: no %s with %q:\n%s", c.kind, c.name, c.code, c.word, a.Evidence.Text)
		}
	}
}
