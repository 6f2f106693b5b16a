package alias_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/gumshoe-ai/gumshoe/agent/tool/metric/alias"
)

func load(t *testing.T) *alias.Table {
	t.Helper()
	table, err := alias.Load()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// Every expression the table can write is PromQL, bare and wrapped.
func TestEveryExpressionParses(t *testing.T) {
	t.Parallel()
	table := load(t)
	p := parser.NewParser(parser.Options{})
	for _, s := range table.List {
		for _, equal := range []map[string]string{nil, {"pod": `a"b`, "namespace": "n"}, {"uuid": "GPU-1"}, {"odd": "x"}} {
			for _, wrap := range []string{"", "rate(%s[5m])", "max by (pod) (%s)"} {
				expr, err := table.Expr(s.Signal, equal, wrap)
				if err != nil {
					t.Fatalf("%s: %v", s.Signal, err)
				}
				if _, err := p.ParseExpr(expr); err != nil {
					t.Errorf("%s: %s: %v", s.Signal, expr, err)
				}
			}
		}
	}
}

func TestExprJoinsNamesAndLabelGenerations(t *testing.T) {
	t.Parallel()
	table := load(t)
	for _, tc := range []struct {
		signal, wrap, want string
		equal              map[string]string
	}{
		{"gpu.utilization", "", `(DCGM_FI_DEV_GPU_UTIL) or (dcgm_gpu_utilization)`, nil},
		{"gpu.energy", "rate(%s[5m])", `((rate(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION[5m])) * 0.001) or ((rate(dcgm_total_energy_consumption[5m])) * 0.001)`, nil},
		{"pod.restarts", "", `(kube_pod_container_status_restarts_total{exported_namespace="n",exported_pod="p"}) or (kube_pod_container_status_restarts_total{namespace="n",pod="p"})`, map[string]string{"pod": "p", "namespace": "n"}},
		{"pod.cpu_limit", "", `(kube_pod_container_resource_limits{resource="cpu"}) or (kube_pod_container_resource_limits_cpu_cores)`, nil},
		{"gpu.tensor_active", "", `(DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{UUID="GPU-1"}) or (DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu_uuid="GPU-1"}) or (DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{uuid="GPU-1"})`, map[string]string{"uuid": "GPU-1"}},
	} {
		got, err := table.Expr(tc.signal, tc.equal, tc.wrap)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", tc.signal, diff)
		}
	}
	if _, err := table.Expr("gpu.odd", nil, ""); err == nil {
		t.Error("an unknown signal has an expression")
	}
	if _, err := table.Expr("gpu.power", nil, "rate()"); err == nil {
		t.Error("a wrap without a place has an expression")
	}
}

func TestMeaningSeesThroughDrift(t *testing.T) {
	t.Parallel()
	table := load(t)
	for name, want := range map[string]string{
		"vllm:gpu_cache_usage_perc":                   "engine.kv_usage",
		"vllm:kv_cache_usage_perc":                    "engine.kv_usage",
		"vllm:time_to_first_token_seconds_bucket":     "engine.ttft",
		"ray_vllm_time_to_first_token_seconds_bucket": "engine.ttft",
		"ray_vllm_request_success_total":              "engine.success",
		"sglang_token_usage":                          "engine.kv_usage",
		"DCGM_FI_DEV_CLOCK_THROTTLE_REASONS":          "gpu.clock_event_reasons",
		"nothing":                                     "",
	} {
		s, ok := table.Meaning(name)
		if s.Signal != want || ok != (want != "") {
			t.Errorf("%s means %q, want %q", name, s.Signal, want)
		}
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	table := load(t)
	for name, tc := range map[string]struct {
		family string
		in     map[string]string
		want   alias.Identity
	}{
		"labels honoured":          {"dcgm", map[string]string{"Hostname": "n1", "UUID": "GPU-1", "gpu": "0", "modelName": "H100", "pod": "llama-0", "namespace": "train", "container": "main"}, alias.Identity{"node": "n1", "uuid": "GPU-1", "gpu": "0", "model": "H100", "pod": "llama-0", "namespace": "train", "container": "main"}},
		"labels not honoured":      {"dcgm", map[string]string{"hostname": "n1", "UUID": "GPU-1", "exported_pod": "llama-0", "exported_namespace": "train", "pod": "nvidia-dcgm-exporter-x", "namespace": "gpu-operator"}, alias.Identity{"node": "n1", "uuid": "GPU-1", "pod": "llama-0", "namespace": "train"}},
		"idle GPU is the exporter": {"dcgm", map[string]string{"Hostname": "n1", "UUID": "GPU-1", "pod": "nvidia-dcgm-exporter-x", "namespace": "gpu-operator", "container": "nvidia-dcgm-exporter"}, alias.Identity{"node": "n1", "uuid": "GPU-1"}},
		"by claim":                 {"dcgm", map[string]string{"UUID": "GPU-1", "dra_claim_name": "c", "dra_claim_namespace": "train"}, alias.Identity{"uuid": "GPU-1", "claim": "c", "claim_namespace": "train"}},
		"old cadvisor":             {"cadvisor", map[string]string{"pod_name": "p", "namespace": "n", "container_name": "c"}, alias.Identity{"pod": "p", "namespace": "n", "container": "c"}},
		"pool":                     {"epp", map[string]string{"name": "pool", "namespace": "n"}, alias.Identity{"pool": "pool", "namespace": "n"}},
	} {
		if diff := cmp.Diff(tc.want, table.Identify(tc.family, tc.in)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for want, in := range map[string]string{
		"there is no family":     `{"signals":[{"signal":"a","family":"x","kind":"gauge","text":"t","metrics":[{"name":"m"}]}]}`,
		"stands twice":           `{"families":{"f":{}},"signals":[{"signal":"a","family":"f","kind":"gauge","text":"t","metrics":[{"name":"m"}]},{"signal":"a","family":"f","kind":"gauge","text":"t","metrics":[{"name":"n"}]}]}`,
		"belongs to another":     `{"families":{"f":{}},"signals":[{"signal":"a","family":"f","kind":"gauge","text":"t","metrics":[{"name":"m"}]},{"signal":"b","family":"f","kind":"gauge","text":"t","metrics":[{"name":"m"}]}]}`,
		"are required":           `{"families":{"f":{}},"signals":[{"signal":"a","family":"f","kind":"odd","text":"t","metrics":[{"name":"m"}]}]}`,
		"unexpected end of JSON": `{`,
	} {
		if _, err := alias.Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
