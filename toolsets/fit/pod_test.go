package fit_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit"
)

// world is one pod, its node, its ConfigMaps and its logs.
type world struct {
	pod   *corev1.Pod
	node  *corev1.Node
	maps  map[string]map[string]string
	log   string
	noLog bool
}

func (w world) Pod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	if w.pod == nil || w.pod.Name != name {
		return nil, tool.Errorf(tool.NotFound, "pod %s/%s does not exist", namespace, name)
	}
	return w.pod, nil
}

func (w world) Node(_ context.Context, name string) (*corev1.Node, error) {
	if w.node == nil || w.node.Name != name {
		return nil, tool.Errorf(tool.Forbidden, "may not get nodes")
	}
	return w.node, nil
}

func (w world) ConfigMap(_ context.Context, namespace, name string) (map[string]string, error) {
	if m, ok := w.maps[name]; ok {
		return m, nil
	}
	return nil, tool.Errorf(tool.NotFound, "configmap %s/%s does not exist", namespace, name)
}

func (w world) Tail(_ context.Context, _, _, _ string, previous bool, _ int) (string, error) {
	if w.noLog {
		return "", tool.Errorf(tool.Forbidden, "may not get pods/log")
	}
	if previous {
		return w.log, nil
	}
	return "INFO starting\n", nil
}

var (
	_ fit.Objects = world{}
	_ fit.Logs    = world{}
)

// scene makes a failing pod on a node with GPUs of a type.
func scene(product, mib string, gpus int64, args ...string) world {
	c := corev1.Container{Name: "engine", Image: "vllm/vllm-openai:v0.14.1", Args: args}
	if gpus > 0 {
		c.Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(gpus, resource.DecimalSI)}
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "llm", Name: "srv-0"}, Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{c}}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "engine", RestartCount: 4, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}},
	}}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": mib}}}
	return world{pod: p, node: n}
}

const (
	logShort = `INFO 01-14 12:36:51 model_runner.py:1099] Model loading took 14.98 GiB
(EngineCore_0 pid=1) INFO gpu_worker.py:298] Available KV cache memory: 3.61 GiB
(EngineCore_0 pid=1) ERROR ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (3.61 GiB). Based on the available memory, the estimated maximum model length is 29552. Try increasing ` + "`gpu_memory_utilization`" + ` or decreasing ` + "`max_model_len`" + ` when initializing the engine.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
`
	logNone = `(EngineCore_0 pid=5839) INFO 08-20 18:04:10 [gpu_model_runner.py:2007] Model loading took 65.9651 GiB and 12.799889 seconds
(EngineCore_0 pid=5839) INFO 08-20 18:04:22 [gpu_worker.py:276] Available KV cache memory: -2.14 GiB
(EngineCore_0 pid=5839) ERROR ValueError: No available memory for the cache blocks. Try increasing gpu_memory_utilization when initializing the engine.
RuntimeError: Engine core initialization failed. See root cause above.
`
	logOOM = `torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.00 GiB. GPU 0 has a total capacity of 79.25 GiB of which 512.00 MiB is free.
`
	logAssert = `Traceback (most recent call last):
  File "linear.py", line 912, in __init__
    assert self.total_num_kv_heads % tp_size == 0
AssertionError
RuntimeError: Engine core initialization failed. See root cause above.
`
	log401 = `huggingface_hub.errors.GatedRepoError: 401 Client Error. Access to model is restricted.
`
)

func judge(t *testing.T, w world) (fit.PodFit, tool.Result) {
	t.Helper()
	ts, err := fit.New(fit.Config{Cluster: "test", Objects: w, Logs: w})
	if err != nil {
		t.Fatal(err)
	}
	r, err := call(t, ts, "fit_pod", map[string]any{"namespace": "llm", "name": "srv-0"})
	if err != nil {
		t.Fatal(err)
	}
	var p fit.PodFit
	if err := json.Unmarshal(r.Data, &p); err != nil {
		t.Fatal(err)
	}
	return p, r
}

func TestPods(t *testing.T) {
	t.Parallel()
	const l4, l4mib, h100, h100mib = "NVIDIA-L4", "23034", "NVIDIA-H100-80GB-HBM3", "81559"
	llama := "meta-llama/Llama-3.1-8B-Instruct"
	with := func(w world, log string) world { w.log = log; return w }
	change := func(w world, f func(*corev1.Pod)) world { f(w.pod); return w }
	config := map[string]map[string]string{"cfg": {"config.json": `{"model_type":"llama","hidden_size":4096,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"intermediate_size":14336,"vocab_size":128256,"max_position_embeddings":131072,"torch_dtype":"bfloat16"}`}}
	mount := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/models/mine"}}
	}
	tests := []struct {
		name   string
		w      world
		code   string
		role   incident.Role
		params map[string]string
		say    string
	}{
		{"F01 the engine says how long", with(scene(l4, l4mib, 1, "--model", llama), logShort), "fit.context_too_long", incident.Fault, map[string]string{"longest": "29552", "context": "131072", "change": "--max-model-len 29552", "container": "engine"}, "takes 16.00 GiB of KV cache, the engine found 3.61 GiB"},
		{"F02 nothing left", with(scene(h100, h100mib, 1, "openai/gpt-oss-120b"), logNone), "fit.does_not_fit", incident.Fault, map[string]string{"change": "--tensor-parallel-size 2", "weights": "65.97 GiB"}, "leave -2.14 GiB"},
		{"F03 out of memory while loading", with(scene(h100, h100mib, 1, "--model", "meta-llama/Llama-3.3-70B-Instruct", "--max-model-len", "8192"), logOOM), "fit.does_not_fit", incident.Fault, map[string]string{"change": "--tensor-parallel-size 4"}, "the weights alone"},
		{"F06 tight", with(scene(h100, h100mib, 1, "openai/gpt-oss-120b", "--max-model-len", "16384"), "ERROR ValueError: No available memory for the cache blocks.\n"), "fit.tight", incident.Fault, nil, "only just fits"},
		{"F11 heads", with(scene(l4, l4mib, 4, "microsoft/phi-4", "-tp", "4"), logAssert), "fit.tp_indivisible", incident.Fault, map[string]string{"change": "--tensor-parallel-size 2"}, "10 key-value heads"},
		{"F12 fewer GPUs than asked", with(scene(h100, h100mib, 1, llama, "--tensor-parallel-size", "4"), "ValueError: World size (4) is larger than the number of available GPUs (1) in this node.\n"), "fit.gpu_count", incident.Fault, map[string]string{"need": "4", "have": "1", "change": "--tensor-parallel-size 1"}, "4 GPUs"},
		{"F20 bfloat16 on a T4", with(scene("Tesla-T4", "15360", 2, llama, "-tp", "2", "--max-model-len", "4096"), "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5.\n"), "fit.dtype_unsupported", incident.Fault, map[string]string{"change": "--dtype half"}, "bfloat16"},
		{"longer than the model", with(scene(h100, h100mib, 1, "Qwen/Qwen3-8B", "--max-model-len", "65536"), "pydantic ValidationError: User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=40960 or model_max_length=None in model's config.json).\n"), "fit.context_exceeds_model", incident.Fault, map[string]string{"longest": "40960", "change": "--max-model-len 40960"}, "65536"},
		{"no log at all", func() world {
			w := scene(h100, h100mib, 1, "meta-llama/Llama-3.3-70B-Instruct")
			w.noLog = true
			return w
		}(), "fit.does_not_fit", incident.Fault, nil, "cannot be read"},
		{"another error decides", with(scene(h100, h100mib, 1, "meta-llama/Llama-3.3-70B-Instruct"), log401), "fit.unlikely", incident.Context, nil, "does not say so"},
		{"a log without a reason", with(scene(h100, h100mib, 1, "meta-llama/Llama-3.3-70B-Instruct"), "INFO starting\nbash: line 1: numactl: command not found\n"), "fit.unlikely", incident.Context, nil, "does not say so"},
		{"shape, but the log names another reason", with(scene(l4, l4mib, 4, "microsoft/phi-4", "-tp", "4"), log401), "fit.unlikely", incident.Context, nil, "cannot start like this"},
		{"settings in a file that is not seen", func() world {
			w := scene(l4, l4mib, 1, "serve-me", "--config", "/etc/vllm.yaml")
			w.pod.Spec.Containers[0].Args[0] = "Qwen/Qwen3-32B"
			w.noLog = true
			return w
		}(), "fit.unlikely", incident.Context, nil, "as far as its settings are seen"},
		{"killed for host memory", func() world {
			w := scene(h100, h100mib, 1, "meta-llama/Llama-3.3-70B-Instruct")
			w.pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
			w.noLog = true
			return w
		}(), "fit.unlikely", incident.Context, nil, "killed from outside"},
		{"the GPU is not empty", with(scene(l4, l4mib, 1, llama, "--max-model-len", "4096"), "ValueError: Free memory on device (2.1/22.03 GiB) on startup is less than desired GPU memory utilization (0.9, 19.83 GiB).\n"), "fit.unlikely", incident.Context, nil, "not empty"},
		{"the arithmetic disagrees with the log", with(scene(h100, h100mib, 1, llama, "--max-model-len", "4096"), logOOM), "fit.unlikely", incident.Context, nil, "something else holds"},
		{"it runs", change(scene(h100, h100mib, 1, "openai/gpt-oss-120b"), func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "engine", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
		}), "fit.fits", incident.Context, nil, "runs on"},
		{"it has not started yet", change(scene(h100, h100mib, 1, "meta-llama/Llama-3.3-70B-Instruct"), func(p *corev1.Pod) { p.Status.ContainerStatuses = nil }), "fit.unlikely", incident.Context, nil, "by the arithmetic"},
		{"it starts and will do", change(scene(h100, h100mib, 1, llama), func(p *corev1.Pod) {
			p.Status.ContainerStatuses[0] = corev1.ContainerStatus{Name: "engine", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
		}), "fit.fits", incident.Context, nil, "fits 1 x"},
		{"unknown model", with(scene(h100, h100mib, 1, "acme/secret-90b"), logOOM), "fit.model_unknown", incident.Context, map[string]string{"model": "acme/secret-90b"}, "not in the catalogue"},
		{"unknown model, but the engine's own figures", with(scene(l4, l4mib, 1, "acme/secret-9b"), logShort), "fit.context_too_long", incident.Fault, map[string]string{"longest": "29552"}, "3.61 GiB"},
		{"a path says nothing", with(scene(h100, h100mib, 1, "/models"), logOOM), "fit.model_unknown", incident.Context, nil, "cannot be seen from outside"},
		{"a path that ends in the name", with(scene(l4, l4mib, 1, "/data/meta-llama/Llama-3.1-8B-Instruct"), logShort), "fit.context_too_long", incident.Fault, nil, ""},
		{"KServe's download", with(change(scene(l4, l4mib, 1, "--model=/mnt/models"), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "storage-initializer", Args: []string{"hf://meta-llama/Llama-3.1-8B-Instruct", "/mnt/models"}}}
		}), logShort), "fit.context_too_long", incident.Fault, nil, ""},
		{"config.json in a ConfigMap", func() world {
			w := change(scene("NVIDIA-A10", "23028", 1, "/models/mine"), mount)
			w.log, w.maps = logOOM, config
			return w
		}(), "fit.context_too_long", incident.Fault, map[string]string{"context": "131072"}, "config.json in ConfigMap cfg"},
		{"an absurd config.json in a ConfigMap", func() world {
			w := change(scene(h100, h100mib, 1, "/models/mine"), mount)
			w.log, w.maps = logOOM, map[string]map[string]string{"cfg": {"config.json": `{"hidden_size":"big"}`}}
			return w
		}(), "fit.model_unknown", incident.Context, nil, "hidden_size"},
		{"unreadable arguments", with(scene(h100, h100mib, 1, llama, "-tp", "$(TP)"), logOOM), "fit.model_unknown", incident.Context, nil, "not known here"},
		{"several pods make one engine", with(change(scene(h100, h100mib, 2, "meta-llama/Llama-3.3-70B-Instruct", "-tp", "8", "--max-model-len", "8192"), func(p *corev1.Pod) {
			p.Labels = map[string]string{"leaderworkerset.sigs.k8s.io/name": "x"}
		}), log401), "", "", nil, "spans several pods"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, r := judge(t, tc.w)
			if !p.Serving {
				t.Fatal("the engine is not seen")
			}
			if !strings.Contains(r.Text, tc.say) {
				t.Errorf("%q is not said:\n%s", tc.say, r.Text)
			}
			if tc.code == "" {
				if len(r.Findings) != 0 {
					t.Errorf("%+v", r.Findings)
				}
				return
			}
			if len(r.Findings) != 1 || r.Findings[0].Code != tc.code || r.Findings[0].Role != tc.role {
				t.Fatalf("%+v\n%s", r.Findings, r.Text)
			}
			f := r.Findings[0]
			for k, v := range tc.params {
				if f.Params[k] != v {
					t.Errorf("%s is %q, want %q", k, f.Params[k], v)
				}
			}
			for _, c := range fit.Codes() {
				if c.Code != f.Code {
					continue
				}
				for _, k := range c.Params {
					if f.Params[k] == "" {
						t.Errorf("%s lacks %s: %v", f.Code, k, f.Params)
					}
				}
			}
			if f.Role == incident.Fault && !strings.Contains(r.Text, f.Params["change"]) {
				t.Errorf("the change %q is not in the text:\n%s", f.Params["change"], r.Text)
			}
		})
	}
}

func TestOtherPods(t *testing.T) {
	t.Parallel()
	w := scene("NVIDIA-L4", "23034", 1)
	w.pod.Spec.Containers[0] = corev1.Container{Name: "web", Image: "nginx", Args: []string{"-g", "daemon off;"}}
	p, r := judge(t, w)
	if p.Serving || len(r.Findings) != 0 || !strings.Contains(r.Text, "starts no serving engine") {
		t.Errorf("%+v %s", p, r.Text)
	}
	ts, err := fit.New(fit.Config{Cluster: "test", Objects: w})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, ts, "fit_pod", map[string]any{"namespace": "llm", "name": "gone"}); tool.KindOf(err) != tool.NotFound {
		t.Errorf("%v", err)
	}
	blind, err := fit.New(fit.Config{Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, blind, "fit_pod", map[string]any{"namespace": "llm", "name": "srv-0"}); tool.KindOf(err) != tool.NotServed {
		t.Errorf("%v", err)
	}
	unlabelled := scene("", "", 4, "microsoft/phi-4", "-tp", "4")
	unlabelled.node.Labels, unlabelled.log = nil, logAssert
	if _, r := judge(t, unlabelled); len(r.Findings) != 1 || r.Findings[0].Code != "fit.tp_indivisible" || !strings.Contains(r.Text, "memory is not judged") {
		t.Errorf("shape needs no memory: %+v\n%s", r.Findings, r.Text)
	}
	bySKU := scene("", "", 1, "openai/gpt-oss-120b", "--max-model-len", "16384")
	bySKU.node.Labels, bySKU.log = map[string]string{"node.kubernetes.io/instance-type": "p5.4xlarge"}, logNone
	if _, r := judge(t, bySKU); len(r.Findings) != 1 || !strings.Contains(r.Text, "machine type p5.4xlarge") {
		t.Errorf("%+v\n%s", r.Findings, r.Text)
	}
}
