package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gumshoe-ai/gumshoe/evals/cluster/controlplane"
	"github.com/gumshoe-ai/gumshoe/toolsets/serving"
)

// definitions are modules that carry their CustomResourceDefinitions, and where.
func definitions() []definition {
	return []definition{
		{"sigs.k8s.io/lws@v0.9.0", "config/crd/bases/*.yaml"},
		{"sigs.k8s.io/gateway-api-inference-extension@v1.6.0", "config/crd/bases/*_inferencepools.yaml"},
		{"github.com/ray-project/kuberay/ray-operator@v1.6.2", "config/crd/bases/ray.io_ray[cs]*.yaml"},
		{"sigs.k8s.io/gateway-api@v1.6.0", "config/crd/standard/*_httproutes.yaml"},
		{"sigs.k8s.io/jobset@v0.10.1", "config/components/crd/bases/*.yaml"},
		{"github.com/kserve/kserve@v0.17.0", "config/crd/minimal/serving.kserve.io_inferenceservices.yaml"},
	}
}

// definition is a module that carries CustomResourceDefinitions, and where.
type definition struct{ module, files string }

// crds reads the definitions out of the modules' own zips.
func crds(t *testing.T, from ...definition) []string {
	t.Helper()
	var out []string
	for _, d := range from {
		cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", d.module)
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
		raw, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v %s", d.module, err, raw)
		}
		var m struct{ Dir string }
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(m.Dir, filepath.FromSlash(d.files)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no %s: %v", d.module, d.files, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(text))
		}
	}
	return out
}

// What the projects' own definitions accept is what gumshoe reads: on a real API
// server with their CRDs the objects are found at their versions, and their
// statuses, as the schemas keep them, are understood.
func TestServingOnRealDefinitions(t *testing.T) {
	t.Parallel()
	l := start(t, controlplane.Options{NoScheduler: true, NoControllers: true})
	for _, d := range crds(t, definitions()...) {
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
apiVersion: ray.io/v1
kind: RayService
metadata: {name: chat, namespace: llm}
spec:
  serveConfigV2: "applications: []"
  rayClusterConfig:
    headGroupSpec:
      rayStartParams: {}
      template: {spec: {containers: [{name: ray-head, image: "rayproject/ray:2.55.0"}]}}
status:
  observedGeneration: 1
  numServeEndpoints: 0
  activeServiceStatus:
    rayClusterName: chat-a1
    applicationStatuses:
      llm: {status: DEPLOY_FAILED, message: "ModuleNotFoundError: No module named 'acme_router'"}
  conditions:
  - {type: Ready, status: "False", reason: ZeroServeEndpoints, message: no endpoints, lastTransitionTime: "2026-01-01T00:00:00Z"}
---
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: deepseek, namespace: llm}
spec:
  replicas: 1
  leaderWorkerTemplate:
    size: 2
    workerTemplate: {spec: {containers: [{name: worker, image: "vllm/vllm-openai:v0.14.1"}]}}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: fraud, namespace: llm}
spec: {predictor: {model: {modelFormat: {name: catboost}, storageUri: "s3://models/fraud"}}}
status:
  modelStatus:
    transitionStatus: InvalidSpec
    lastFailureInfo: {reason: NoSupportingRuntime, message: No runtime found to support specified predictor}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: chat-pool, namespace: llm}
spec:
  selector: {matchLabels: {app: engine-v2}}
  targetPorts: [{number: 8000}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat, namespace: llm}
spec:
  parentRefs: [{name: gw}]
  rules:
  - backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: gone}]
---
apiVersion: v1
kind: Pod
metadata: {name: engine, namespace: llm, labels: {app: engine-v1}}
spec: {automountServiceAccountToken: false, containers: [{name: engine, image: "vllm/vllm-openai:v0.14.1", ports: [{containerPort: 8000}]}]}
`)
	over, _ := call[serving.Overview](t, l, "serving_overview", serving.OverviewIn{})
	for system, kind := range map[string]string{
		"KubeRay": "RayService.v1.ray.io", "LeaderWorkerSet": "LeaderWorkerSet.v1.leaderworkerset.x-k8s.io", "KServe": "InferenceService.v1beta1.serving.kserve.io",
		"Gateway API Inference Extension": "InferencePool.v1.inference.networking.k8s.io", "JobSet": "JobSet.v1alpha2.jobset.x-k8s.io",
	} {
		i := slices.IndexFunc(over.Systems, func(s serving.SystemView) bool { return s.System == system })
		if i < 0 || !slices.Contains(over.Systems[i].Kinds, kind) || len(over.Systems[i].Unknown) > 0 {
			t.Errorf("%s with %s is not seen as it is: %+v", system, kind, over.Systems)
		}
	}
	if !slices.Contains(over.Absent, "KAITO") || !slices.Contains(over.Absent, "Kueue") {
		t.Errorf("absent: %v", over.Absent)
	}
	for _, c := range []struct {
		tool, code, word string
		args             any
	}{
		{"serving_explain", "serving.ray_app_failed", "acme_router", serving.ExplainIn{Kind: "RayService", Namespace: "llm", Name: "chat"}},
		{"serving_explain", "serving.runtime_unsupported", "NoSupportingRuntime", serving.ExplainIn{Kind: "InferenceService", Namespace: "llm", Name: "fraud"}},
		{"serving_route", "serving.pool_selects_nothing", "engine-v2", serving.RouteIn{Kind: "InferencePool", Namespace: "llm", Name: "chat-pool"}},
		{"serving_route", "serving.route_backend_missing", "gone", serving.RouteIn{Kind: "HTTPRoute", Namespace: "llm", Name: "chat"}},
	} {
		_, a := call[serving.Judged](t, l, c.tool, c.args)
		if !found(a, c.code, c.word) {
			t.Errorf("%s finds no %s with %q: %s", c.tool, c.code, c.word, a.Evidence.Text)
		}
	}
	r := ask(t, l.cp.Kubeconfig(), "why does inferencepool chat-pool in llm answer 503?")
	if len(r.Diagnosis.Causes) == 0 || r.Diagnosis.Causes[0].Code != "serving.pool_selects_nothing" {
		t.Errorf("the pool's cause is not named: %s", tell(r))
	}
}
