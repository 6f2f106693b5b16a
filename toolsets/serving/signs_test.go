package serving

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Made-up lines with the fragments that programs print; which signature each one
// must be read as.
func TestSignatures(t *testing.T) {
	t.Parallel()
	s, err := loadSigns()
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}":                                                                                       "F25 serving.log_line",
		"ValueError: Free memory on device (11.2/79.2 GiB) on startup is less than desired GPU memory utilization (0.9, 71.3 GiB).":                                                            "F05 serving.gpu_not_empty",
		"ValueError: To serve at least one request with the models's max seq len (131072), (16.0 GiB KV cache is needed, which is larger than the available KV cache memory (3.6 GiB).":        "F01 serving.engine_memory",
		"ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`":                                                                                        "F02 serving.engine_memory",
		"RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.":                                                                                          "F04 serving.engine_memory",
		"RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.":                                                                                                       "F07 serving.engine_memory",
		"ValueError: Total number of attention heads (40) must be divisible by tensor parallel size (16).":                                                                                     "F11 serving.parallel_layout",
		"ValueError: World size (8) is larger than the number of available GPUs (4) in this node.":                                                                                             "F12 serving.parallel_layout",
		"ValueError: The output_size of gate's and up's weight = 96 is not divisible by weight quantization block_n = 128.":                                                                    "F13 serving.parallel_layout",
		"w0:9:9 [0] NCCL WARN Error while creating shared memory segment /dev/shm/nccl-ab12 (size 9637888)":                                                                                    "F14 serving.shm_too_small",
		"[rank3]:[E] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE, NumelIn=1) ran for 600012 milliseconds":                                                "F16 serving.collective_timeout",
		"[rank3]:[E] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=18231, OpType=ALLREDUCE, NumelIn=1) ran for 600012 milliseconds":                                            "F16 serving.collective_timeout",
		"torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system error (run with NCCL_DEBUG=INFO for details), ncclSystemError":                         "F15 serving.nccl_setup",
		"INFO ray_utils.py: Waiting for 2 ray nodes to join the cluster":                                                                                                                       "F18 serving.group_waiting",
		"RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination":                                                 "F19 serving.driver_mismatch",
		"ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5.":                                                "F20 serving.arch_unsupported",
		"ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. Current capability: 80.":                                                        "F21 serving.arch_unsupported",
		"torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered":                                                                                                              "F22 serving.gpu_error",
		"RuntimeError: CUDA error: device-side assert triggered":                                                                                                                               "F22 serving.log_line",
		"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB.":                                                                                                            "F03 serving.engine_memory",
		"OSError: You are trying to access a gated repo.":                                                                                                                                      "F27 serving.model_gated",
		"huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. Repository Not Found for url: https://huggingface.co/acme/chat":                                                     "F28 serving.model_not_found",
		"requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/acme/chat/resolve/main/model-00001-of-00030.safetensors":                           "F29 serving.hub_throttled",
		"ValueError: Model architectures ['AcmeForCausalLM'] are not supported for now. Supported architectures: dict_keys([])":                                                                "F30 serving.model_unknown_architecture",
		"ValueError: Loading acme/chat requires you to execute the configuration file in that repo on your local machine.":                                                                     "F31 serving.remote_code_refused",
		"E1127 model.cc:31] Internal: The engine plan file is not compatible with this version of TensorRT, expecting library version 10.8.0.43 got 10.3.0.26, please rebuild.":                "F32 serving.plan_mismatch",
		"safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer":                                                                                         "F34 serving.cache_corrupt",
		"INFO kv_cache_utils.py: Auto-fit max_model_len: reduced from 262144 to 117264":                                                                                                        "F09 serving.context_shrunk",
		"(raylet) A worker was killed due to the node running low on memory.":                                                                                                                  "F54 serving.ray_memory",
		"E gcs_rpc_client.h:179] Failed to connect to GCS at address 10.0.0.7:6379 within 5 seconds.":                                                                                          "F54 serving.head_unreachable",
		"ERROR dynamo_runtime: Unable to create lease. Check etcd server status":                                                                                                               "F60 serving.discovery_backend_down",
		"KubeDiscovery: discovered 0 instances for namespace prod-chat":                                                                                                                        "F61 serving.discovery_empty",
		"planner: predicted load NaN, skipping adjustment, got NaN":                                                                                                                            "F64 serving.planner_blind",
		`{"error":"no matches for kind \"InferenceObjective\" in version \"llm-d.ai/v1alpha2\""}`:                                                                                              "F68 serving.picker_crd_missing",
		`{"msg":"failed to find endpoint candidates for serving the request"}`:                                                                                                                 "F67 serving.no_endpoint",
		`{"msg":"system saturated, sheddable request dropped"}`:                                                                                                                                "F70 serving.requests_shed",
		`{"msg":"refresh of metrics for endpoint 10.0.1.4: unexpected status 404"}`:                                                                                                            "F77 serving.picker_blind",
		"nixl_cu12._bindings.nixlBackendError: NIXL_ERR_BACKEND":                                                                                                                               "F73 serving.kv_transfer_failing",
		`{"object":"error","message":"The model ` + "`meta-llama/Llama-3.1-8B`" + ` does not exist.","code":404}`:                                                                              "F78k serving.model_name_unknown",
		"This model's maximum context length is 8192 tokens. However, you requested 9000 tokens":                                                                                               "F78l serving.prompt_too_long",
		"ValueError: LoRA rank 64 is greater than max_lora_rank 16.":                                                                                                                           "F78m serving.lora_refused",
		"WARN No available shared memory broadcast block found in 60 seconds.":                                                                                                                 "F23 serving.engine_stalled",
		"WARNING scheduler.py: Sequence group cmpl-1 is preempted by PreemptionMode.RECOMPUTE mode because there is not enough KV cache space.":                                                "F08 serving.log_line",
		"Pool is not initialized, skipping refreshing metrics":                                                                                                                                 "F68 serving.log_line",
		"INFO 11-27 12:00:00 loggers.py: Engine 000: Avg prompt throughput: 12.0 tokens/s, Avg generation throughput: 90.2 tokens/s, Running: 4 reqs, Waiting: 0 reqs, GPU KV cache usage: 3%": "",
		"INFO: 10.0.0.3:51224 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK":                                                                                                                 "",
		"NCCL INFO Using network IB": "",
	} {
		// Often enough for any signature that must repeat.
		hits := s.read(strings.Repeat("2026-11-27T11:59:00.000000000Z "+line+"\n", 6), time.Time{})
		got := ""
		if len(hits) > 0 {
			got = hits[0].sign.ID + " " + hits[0].sign.Code
		}
		if len(hits) > 1 || got != want {
			t.Errorf("%q is read as %q (%d), want %q", line, got, len(hits), want)
		}
		if len(hits) == 1 && (hits[0].count != 6 || strings.HasPrefix(hits[0].line, "2026-")) {
			t.Errorf("%q: %d times, line %q", line, hits[0].count, hits[0].line)
		}
	}
	// Every signature was tried above, and each has a code of the catalogue with its role.
	codes := map[string]incident.Role{}
	for _, c := range Codes() {
		codes[c.Code] = c.Role
	}
	for _, x := range s.all {
		if role, ok := codes[x.Code]; !ok || role != x.Role {
			t.Errorf("%s: code %s has role %q in the catalogue, %q here", x.ID, x.Code, role, x.Role)
		}
	}
}

// A line that is too old or too rare does not count; the surest fault decides, and
// a wrapper never does.
func TestSignaturesInALog(t *testing.T) {
	t.Parallel()
	s, err := loadSigns()
	if err != nil {
		t.Fatal(err)
	}
	old := "2026-11-27T09:00:00Z RuntimeError: NIXL_ERR_BACKEND\n2026-11-27T09:00:01Z RuntimeError: NIXL_ERR_BACKEND\n"
	since := time.Date(2026, 11, 27, 11, 0, 0, 0, time.UTC)
	if hits := s.read(old, since); len(hits) != 0 {
		t.Errorf("lines of two hours ago count: %+v", hits)
	}
	if hits := s.read(old, time.Time{}); len(hits) != 1 {
		t.Errorf("without a bound they count: %+v", hits)
	}
	if hits := s.read("No available shared memory broadcast block found in 60 seconds\n", time.Time{}); len(hits) != 0 {
		t.Errorf("one broadcast line counts: %+v", hits)
	}
	log := "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\nOSError: You are trying to access a gated repo.\nRuntimeError: Engine core initialization failed. See root cause above.\n"
	if h, ok := decisive(s.read(log, time.Time{})); !ok || h.sign.ID != "F27" {
		t.Errorf("decisive is %+v", h.sign)
	}
	if _, ok := decisive(s.read("RuntimeError: Engine core initialization failed. See root cause above.\n", time.Time{})); ok {
		t.Error("a wrapper decides")
	}
}

func FuzzSignatures(f *testing.F) {
	f.Add("2026-11-27T09:00:00Z OSError: You are trying to access a gated repo.\n", int64(0))
	f.Add("\xff\xfe no matches for kind \"InferencePool\"", int64(1))
	f.Add(strings.Repeat("x", 10000), int64(-1))
	s, err := loadSigns()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, log string, since int64) {
		hits := s.read(log, time.Unix(since, 0))
		total := 0
		for _, h := range hits {
			total += h.count
			if h.count < max(h.sign.Min, 1) || len([]rune(h.line)) > 400 || strings.ContainsAny(h.line, "\n\r") {
				t.Fatalf("%+v", h)
			}
		}
		if total > strings.Count(log, "\n")+1 {
			t.Fatalf("%d hits in %d lines", total, strings.Count(log, "\n")+1)
		}
	})
}

// The rules of conditions name codes of the catalogue with their role, and kinds
// that are known.
func TestConditionRules(t *testing.T) {
	t.Parallel()
	rules, err := loadRules()
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadBook()
	if err != nil {
		t.Fatal(err)
	}
	codes := Codes()
	for i, r := range rules {
		j := slices.IndexFunc(codes, func(c tool.Code) bool { return c.Code == r.Code })
		if j < 0 || codes[j].Role != r.Role {
			t.Errorf("rule %d: code %s with role %s is not in the catalogue", i, r.Code, r.Role)
		}
		for _, k := range r.Kinds {
			known := slices.Contains([]string{"NodeClaim", "InferencePool", "RAGEngine", "PodCliqueScalingGroup"}, k) || slices.ContainsFunc(b.Kinds, func(s shape) bool { return s.Kind == k })
			if !known {
				t.Errorf("rule %d: kind %s is not known", i, k)
			}
		}
	}
}
