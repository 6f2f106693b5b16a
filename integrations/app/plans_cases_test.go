package app

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// picks is what the first plan of a case has to be. Without an action, no plan may
// come of the case: its reasons then hold every word of open.
type picks struct {
	id     string
	action string
	// params are those that matter; others may be there.
	params map[string]string
	// open are words of why there is no plan.
	open []string
	// change replaces text in the objects of the bundle: the case's twin.
	change [][2]string
}

func on(kind, namespace, name string, more ...string) map[string]string {
	p := map[string]string{"kind": kind, "namespace": namespace, "name": name}
	for i := 0; i+1 < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	return p
}

func at(namespace, name string, more ...string) map[string]string {
	p := on("", namespace, name, more...)
	delete(p, "kind")
	return p
}

func node(name string) map[string]string { return map[string]string{"node": name} }

// chosen are cases whose diagnosis ends in a plan, and those where it must not.
func chosen() []picks {
	return []picks{
		// A rollout went bad, and the revision before serves.
		{id: "nodepool-twin-new-revision-fails", action: "rollout_undo", params: on("Deployment", "chat", "mistral", "revision", "4")},
		{id: "supply-cuda-too-new", action: "rollout_undo", params: on("Deployment", "serve", "embed", "revision", "1")},
		{id: "supply-engine-flag-gone", action: "rollout_undo", params: on("Deployment", "serve", "rag", "revision", "1")},
		{id: "supply-nccl-downgraded", action: "rollout_undo", params: on("Deployment", "serve", "chat", "revision", "1")},
		{id: "supply-twin-config", action: "rollout_undo", params: on("Deployment", "serve", "sum", "revision", "1")},
		{id: "supply-twin-oom", action: "rollout_undo", params: on("Deployment", "serve", "big", "revision", "1")},
		{id: "supply-tag-moved", action: "redeploy_digest", params: on("StatefulSet", "data", "feature", "container", "main", "digest", "sha256:1c88de8ba539560cbee3460d11fee2c8deb2247dd7c38c44c82d4dd551f28c5e")},
		// The revision before is as broken, or would make the same pod.
		{id: "nodepool-twin-new-revision-fails", open: []string{"a person has to give image"}, change: [][2]string{{"readyReplicas: 3, availableReplicas: 3", "readyReplicas: 0, availableReplicas: 0"}}},
		{id: "nodepool-twin-new-revision-fails", open: []string{"a person has to give image"}, change: [][2]string{{"serve/vllm:0.14.1", "serve/vllm:0.14.9"}}},
		{id: "supply-twin-config", open: []string{"for a person"}, change: [][2]string{{"availableReplicas: 2", "availableReplicas: 0"}}},
		{id: "k8s-image-not-found", open: []string{"a person has to give image"}},
		{id: "k8s-readiness-probe", open: []string{"patch_probe"}},

		// What a Service, a pool or a queue means.
		{id: "k8s-service-selector", action: "patch_service_selector", params: at("shop", "web", "selector", "app=web")},
		{id: "k8s-service-port", action: "patch_service_port", params: at("shop", "web2", "port", "80")},
		{id: "serving-pool-selector", action: "inference_pool_selector", params: at("llm", "llama-70b", "label", "app=llama-70b")},
		{id: "serving-pool-selector", open: []string{"for a person"}, change: [][2]string{{"app: llama-70b\n", "app: mistral-7b\n"}}},
		{id: "k8s-quota-exceeded", action: "quota_patch", params: at("team", "compute", "resource", "requests.cpu", "value", "300m")},
		{id: "k8s-hpa-no-target", open: []string{"hpa_patch: a person has to give"}},
		{id: "k8s-ingress-class", open: []string{"patch_ingress: a person has to give value"}},
		{id: "k8s-pvc-class-missing", open: []string{"a person has to give storage_class"}},

		// Where a pod may run.
		{id: "k8s-cordoned", action: "uncordon", params: node("only-1")},
		{id: "k8s-cordoned", open: []string{"something else is wrong with the node"}, change: [][2]string{{"    kubernetes.io/os: linux\n", "    kubernetes.io/os: linux\n    example.com/maintenance: \"true\"\n"}}},
		{id: "k8s-taint", open: []string{"patch_scheduling: a person has to give value"}},
		{id: "k8s-node-selector", open: []string{"patch_scheduling: a person has to give value"}},
		{id: "k8s-cronjob-run-pending", open: []string{"patch_scheduling: a person has to give value"}},
		{id: "k8s-anti-affinity", open: []string{"patch_scheduling: a person has to give value"}},
		{id: "k8s-insufficient-memory", open: []string{"a person has to give value"}},
		{id: "k8s-oom-killed", open: []string{"a person has to give value"}},

		// A Job whose pods failed by themselves is not run again as it is.
		{id: "k8s-job-backoff", open: []string{"mend what its pods fail of"}},
		{id: "k8s-crash-injection", open: []string{"for a person"}},
		{id: "k8s-pod-security", open: []string{"for a person"}},
		{id: "k8s-secret-key-missing", open: []string{"for a person"}},
		{id: "k8s-node-not-ready", open: []string{"drain"}},
		{id: "k8s-node-npd-condition", action: "cordon", params: node("disk-1")},

		// Engines.
		{id: "fit-context-too-long", action: "patch_args", params: on("Deployment", "chat", "chat-8b", "container", "engine", "what", "--max-model-len 29552")},
		{id: "fit-fewer-gpus-than-split", action: "patch_resources", params: on("Deployment", "chat", "qwen3-32b", "resource", "nvidia.com/gpu", "value", "4")},
		{id: "fit-tp-indivisible", action: "patch_args", params: on("Deployment", "chat", "phi-4", "what", "--tensor-parallel-size 2")},
		{id: "fit-weights-exceed-gpu", open: []string{"4 GPUs for the container (patch_resources), together with --tensor-parallel-size 4", "not exact enough"}}, // the container has one
		{id: "serving-bus-error", action: "patch_resources", params: on("Deployment", "llm", "mixtral", "container", "engine")},
		{id: "serving-probe-kills-loading", action: "patch_probe", params: on("Deployment", "llm", "llama-70b", "probe", "startup", "failures", "180")},
		{id: "serving-engine-hung", action: "delete_pod", params: at("prod", "llama-70b-5d9c7b6f44-d3f4g")},
		{id: "serving-side-channel", action: "patch_args", params: on("Deployment", "prod", "deepseek-decode")},
		{id: "serving-twin-pool-scaled-to-zero", action: "scale", params: on("Deployment", "llm", "nightly", "replicas", "1")},
		{id: "serving-batch-limit", open: []string{"a person has to give set"}},
		{id: "serving-kueue-quota", open: []string{"for a person"}},
		{id: "serving-model-name", open: []string{"for a person"}},
		{id: "serving-kserve-gated", open: []string{"for a person"}},

		// Machines: what hurts least comes first.
		{id: "gpu-xid79-claim", action: "cordon", params: node("h100-2")},
		{id: "gpu-row-remap-failed-alert", action: "cordon", params: node("a100-84")},
		{id: "gpu-aks-gpumissing", action: "cordon", params: node("aks-ndh100-vmss000003")},
		{id: "gpu-nvml-recovery-action", action: "cordon", params: node("h100-71")},
		{id: "gpu-nvlink-nccl-hang", action: "cordon", params: node("h100-30")},
		{id: "gpu-nvsentinel-xid119", open: []string{"cordon: Node h100-70 already is as the change wants it"}},
		{id: "gpu-mig-config-failed", open: []string{"a person has to give value"}},
		{id: "gpu-xid31-application", open: []string{"for a person"}},
		{id: "storage-weights-slow-node", action: "cordon", params: node("gpu-4")},
		{id: "storage-rwo-rolling-update", action: "rollout_strategy_patch", params: at("rag", "embedder", "type", "Recreate")},
		{id: "storage-csi-controller-scaled-to-zero", open: []string{"a person has to give replicas"}},
		{id: "storage-dead-node-holds-volume", open: []string{"for a person"}},
		{id: "nodepool-karpenter-scaled-to-zero", open: []string{"a person has to give replicas"}},
		{id: "nodepool-twin-one-node-sick", action: "cordon", params: node("aks-gpugreen-31147-vmss000000")},

		// Nothing is wrong, or nothing is proved.
		{id: "twin-deployment-healthy", open: []string{"outcome is healthy"}},
		{id: "twin-service-ok", open: []string{"outcome is healthy"}},
		{id: "twin-quota-with-room", open: []string{"outcome is healthy"}},
		{id: "twin-image-ok", open: []string{"outcome is healthy"}},
		{id: "gpu-twin-corrected-ecc", open: []string{"only a validated root cause"}},
		{id: "gpu-twin-xid31-over", open: []string{"only a validated root cause"}},
		{id: "serving-twin-lws-well", open: []string{"only a validated root cause"}},
		{id: "nodepool-twin-node-came", open: []string{"only a validated root cause"}},
	}
}

// altered is a bundle with text of its objects replaced. Each text has to be there.
func altered(t *testing.T, bundle fs.FS, change [][2]string) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	met := make([]bool, len(change))
	err := fs.WalkDir(bundle, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(bundle, path)
		if err != nil {
			return err
		}
		text := string(raw)
		for i, c := range change {
			if strings.HasPrefix(path, "objects/") && strings.Contains(text, c[0]) {
				text, met[i] = strings.ReplaceAll(text, c[0], c[1]), true
			}
		}
		out[path] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, ok := range met {
		if !ok {
			t.Fatalf("the bundle has no %q", change[i][0])
		}
	}
	return out
}

// A diagnosis ends in the plan that a careful colleague would take first, and in none
// where a person has to decide.
func TestPlansOfCases(t *testing.T) {
	t.Parallel()
	fsys, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	all, err := evals.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]evals.Case{}
	for _, c := range all {
		cases[c.ID] = c
	}
	factory, err := NewFactory(Defaults())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range chosen() {
		name := want.id
		if len(want.change) > 0 {
			name += "/" + strings.TrimSpace(want.change[0][1])
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ok := cases[want.id]
			if !ok {
				t.Fatalf("there is no case %s", want.id)
			}
			if len(want.change) > 0 {
				c.Bundle = altered(t, c.Bundle, want.change)
			}
			a, err := factory.FromBundle(t.Context(), c.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = a.Close() }()
			r, err := a.Investigate(t.Context(), c.Ask(), event.SinkFunc(func(event.Event) {}))
			if err != nil {
				t.Fatal(err)
			}
			cat, err := a.catalogue()
			if err != nil {
				t.Fatal(err)
			}
			got, others, err := planner.Pick(t.Context(), cat, r.Diagnosis, planner.Choice{})
			if want.action == "" {
				none, ok := errors.AsType[*planner.NoPlan](err)
				if !ok {
					t.Fatalf("no plan is wanted; got %s %v, %v", got.Action, got.Params, err)
				}
				for _, w := range want.open {
					if !strings.Contains(none.Error(), w) {
						t.Errorf("the reasons lack %q: %v", w, none)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Action != want.action {
				t.Fatalf("got %s %v, want %s; others: %+v", got.Action, got.Params, want.action, others)
			}
			for k, v := range want.params {
				if got.Params[k] != v {
					t.Errorf("%s: param %s is %q, want %q (all: %v)", got.Action, k, got.Params[k], v, got.Params)
				}
			}
			if len(got.Evidence) == 0 || got.Cause == "" {
				t.Errorf("the proposal cites no evidence or no cause: %+v", got)
			}
		})
	}
}
