package rules_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/triage"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/prometheus"
)

// twin are series, at one sample a minute over two hours, with a fault and without, and
// what the alert is then about.
type twin struct{ sick, well, about string }

// gpu is a series of dcgm-exporter with the labels that a scrape gives.
func gpu(metric, values string) string {
	return metric + `{gpu="3",UUID="GPU-1",Hostname="gpu-7",job="dcgm-exporter",namespace="gpu-operator",pod="dcgm-exporter-x1",instance="10.0.0.7:9400"} ` + values
}

func engine(metric, values string) string {
	return metric + `{namespace="serve",pod="vllm-0",job="vllm",instance="10.0.0.8:8000"} ` + values
}

// slow is a histogram whose observations lie above or below its bucket of a second.
func slow(metric string, above bool) string {
	low := "0+60x120"
	if above {
		low = "0+0x120"
	}
	var b strings.Builder
	for _, l := range []string{`le="1"} ` + low, `le="30"} 0+60x120`, `le="+Inf"} 0+60x120`} {
		b.WriteString(metric + `_bucket{namespace="serve",pod="vllm-0",` + l + "\n")
	}
	return b.String()
}

func agent(metric, labels, values string) string {
	return metric + `{namespace="kube-system",pod="cilium-x1",node="n1",job="cilium-agent"` + labels + `} ` + values
}

func twins() map[string]twin {
	const gone = "1x90 stale _x29"
	return map[string]twin{
		"GPUFatalXID":         {gpu("DCGM_FI_DEV_XID_ERRORS", "0x110 79x10"), gpu("DCGM_FI_DEV_XID_ERRORS", "0x110 43x10"), "Node gpu-7"},
		"GPUUncorrectableECC": {gpu("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "2x110 3x10"), gpu("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "2x120"), "Node gpu-7"},
		"GPURowRemapFailed":   {gpu("DCGM_FI_DEV_ROW_REMAP_FAILURE", "1x120"), gpu("DCGM_FI_DEV_ROW_REMAP_FAILURE", "0x120"), "Node gpu-7"},
		"GPURowRemapPending":  {gpu("DCGM_FI_DEV_ROW_REMAP_PENDING", "1x120"), gpu("DCGM_FI_DEV_ROW_REMAP_PENDING", "0x120"), "Node gpu-7"},
		"GPUTooHot":           {gpu("DCGM_FI_DEV_GPU_TEMP", "91x120"), gpu("DCGM_FI_DEV_GPU_TEMP", "84x120") + "\n" + gpu("DCGM_FI_DEV_MEMORY_TEMP", "0x120"), "Node gpu-7"},
		"GPUSlowedByHeat":     {gpu("DCGM_FI_DEV_THERMAL_VIOLATION", "0+1000000x120"), gpu("DCGM_FI_DEV_THERMAL_VIOLATION", "500x120"), "Node gpu-7"},
		"GPUOffTheBus":        {gpu("DCGM_FI_DEV_GPU_TEMP", "60x90 stale _x29"), gpu("DCGM_FI_DEV_GPU_TEMP", "60x120"), "Node gpu-7"},
		"GPUPCIeReplays":      {gpu("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "0+60x120"), gpu("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "7x120"), "Node gpu-7"},

		"DRAClaimsUnallocated": {`dynamic_resource_allocation_resource_claims{allocated="false"} 2x120`, `dynamic_resource_allocation_resource_claims{allocated="true"} 9x120`, ""},
		"DRAPodsGated":         {`scheduler_pending_pods{queue="gated"} 1x120`, `scheduler_pending_pods{queue="unschedulable"} 1x120`, ""},
		"DRAPrepareFails": {`nvidia_dra_node_prepare_errors_total{namespace="nvidia-dra",pod="kubelet-plugin-a",driver="gpu.nvidia.com"} 0+1x120`,
			`nvidia_dra_node_prepare_errors_total{namespace="nvidia-dra",pod="kubelet-plugin-a",driver="gpu.nvidia.com"} 4x120`, "Pod nvidia-dra/kubelet-plugin-a"},
		"DRAKubeletCallsFail": {`dra_grpc_operations_duration_seconds_count{node="gpu-7",driver_name="gpu.nvidia.com",grpc_status_code="Internal"} 0+1x120`,
			`dra_grpc_operations_duration_seconds_count{node="gpu-7",driver_name="gpu.nvidia.com",grpc_status_code="OK"} 0+1x120`, "Node gpu-7"},
		"DRASlicesMissing": {`dra_resource_claims_in_use{node="gpu-7",driver_name="gpu.nvidia.com"} ` + gone, `dra_resource_claims_in_use{node="gpu-7",driver_name="gpu.nvidia.com"} 0x120`, "Node gpu-7"},

		"InferenceQueueTime":        {slow("vllm:request_queue_time_seconds", true), slow("vllm:request_queue_time_seconds", false), "Pod serve/vllm-0"},
		"InferenceTimeToFirstToken": {slow("sglang:time_to_first_token_seconds", true), slow("sglang:time_to_first_token_seconds", false), "Pod serve/vllm-0"},
		"InferenceKVCacheFull":      {engine("trtllm_kv_cache_utilization", "0.99x120"), engine("trtllm_kv_cache_utilization", "0.8x120"), "Pod serve/vllm-0"},
		"InferencePreemptions":      {engine("vllm:num_preemptions_total", "0+60x120"), engine("vllm:num_preemptions_total", "9x120"), "Pod serve/vllm-0"},
		"InferenceEngineDown": {engine("vllm:num_requests_running", gone) + "\n" + engine("up", "1x90 0x30"),
			// Scaled away: the target is gone with its pod.
			engine("vllm:num_requests_running", gone) + "\n" + engine("up", "1x90 stale _x29"), "Pod serve/vllm-0"},

		"CiliumAuthRequiredDrops": {agent("cilium_drop_count_total", `,reason="Authentication required"`, "0+6x120"), agent("cilium_drop_count_total", `,reason="Policy denied"`, "0+6x120"), "Pod kube-system/cilium-x1"},
		"CiliumAuthMapFull":       {agent("cilium_bpf_map_pressure", `,map_name="cilium_auth_map"`, "0.95x120"), agent("cilium_bpf_map_pressure", `,map_name="cilium_ct4_global"`, "0.95x120"), "Pod kube-system/cilium-x1"},
		"CiliumZtunnelDown":       {agent("cilium_ztunnel_zds_connection_active", "", "0x120"), agent("cilium_ztunnel_zds_connection_active", "", "1x120"), "Pod kube-system/cilium-x1"},
		"MTLSHandshakesFail": {`istio_tcp_connections_failed_total{namespace="istio-system",pod="ztunnel-a",response_flags="CONNECT"} 0+60x120`,
			`istio_tcp_connections_failed_total{namespace="istio-system",pod="ztunnel-a",response_flags="CONNECT"} 3x120`, "Pod istio-system/ztunnel-a"},
		"CertificateExpires": {`certmanager_certificate_expiration_timestamp_seconds{exported_namespace="shop",namespace="cert-manager",pod="cert-manager-1",name="web"} 90000x120`,
			`certmanager_certificate_expiration_timestamp_seconds{exported_namespace="shop",namespace="cert-manager",pod="cert-manager-1",name="web"} 9000000x120`, "Namespace shop"},
		"CertificateExpired": {`certmanager_certificate_expiration_timestamp_seconds{exported_namespace="shop",namespace="cert-manager",pod="cert-manager-1",name="web"} 60x120`,
			`certmanager_certificate_expiration_timestamp_seconds{exported_namespace="shop",namespace="cert-manager",pod="cert-manager-1",name="web"} 90000x120`, "Namespace shop"},
	}
}

// TestEachRuleFiresOnItsFaultOnly evaluates every shipped rule with Prometheus' engine over a
// fault and its healthy twin, for as long as the rule wants, and asks triage what the alert
// is about.
func TestEachRuleFiresOnItsFaultOnly(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	all, seen := twins(), map[string]bool{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		groups, errs := rulefmt.Parse(raw, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
		if len(errs) > 0 {
			t.Fatalf("%s: %v", f, errs)
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				tw, ok := all[r.Alert]
				if !ok || seen[r.Alert] {
					t.Errorf("%s: the rule %q has no twin of its own", f, r.Alert)
					continue
				}
				seen[r.Alert] = true
				t.Run(r.Alert, func(t *testing.T) {
					if s := r.Labels["severity"]; s != "critical" && s != "warning" {
						t.Errorf("severity %q", s)
					}
					if r.Annotations["summary"] == "" || !strings.HasPrefix(r.Annotations["runbook_url"], "https://") {
						t.Errorf("annotations %v", r.Annotations)
					}
					if v := fire(t, raw, r.Alert, tw.well); len(v) != 0 {
						t.Errorf("it fires on the healthy twin: %v", v)
					}
					v := fire(t, raw, r.Alert, tw.sick)
					if len(v) != 1 {
						t.Fatalf("on the fault it gives %v", v)
					}
					for name, text := range v[0].Annotations {
						if text == "" || strings.Contains(text, "{{") || strings.Contains(text, "error") && strings.Contains(text, "template") {
							t.Errorf("annotation %s: %q", name, text)
						}
					}
					about := ""
					if refs := triage.AlertSubjects(incident.Alert{Name: r.Alert, Labels: v[0].Labels}, ""); len(refs) > 0 {
						about = refs[0].String()
					}
					if about != tw.about {
						t.Errorf("with the labels %v it is about %q, want %q", v[0].Labels, about, tw.about)
					}
				})
			}
		}
	}
	for name := range all {
		if !seen[name] {
			t.Errorf("there is no rule %s", name)
		}
	}
}

// alert is one of Prometheus' API.
type alert struct {
	Labels, Annotations map[string]string
	State               string
}

// fire gives the alerts of a name that fire at the end of two hours of series.
func fire(t *testing.T, rules []byte, name, series string) []alert {
	t.Helper()
	s, err := prometheus.Open(fstest.MapFS{
		"metrics/header.yaml": {Data: []byte("start: -2h\ninterval: 1m\n")}, "metrics/a.series": {Data: []byte(series + "\n")}, "rules/r.yaml": {Data: rules},
	}, time.Unix(7200, 0), prometheus.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/alerts", nil))
	var out struct {
		Status string
		Data   struct{ Alerts []alert }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Status != "success" {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return slices.DeleteFunc(out.Data.Alerts, func(a alert) bool { return a.Labels["alertname"] != name || a.State != "firing" })
}
