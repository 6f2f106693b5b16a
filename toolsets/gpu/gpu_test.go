package gpu_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/toolsets/gpu"
)

func kernel(i, code int, text string) string {
	return fmt.Sprintf("NVRM: Xid (PCI:%s): %d, pid=7, name=python3, %s", strings.TrimSuffix(pci(i), ".0"), code, text)
}

// Each broken thing beside what is said of it, and nothing else. The cases of
// evals/cases hold the same against whole incidents.
func TestNode(t *testing.T) {
	t.Parallel()
	plugin := func(n int) string { return fmt.Sprintf(`, nvidia.com/gpu: "%d"`, n) }
	eight := node(plugin(8), "")
	dev := func(i int) string { return "Device nvidia.com/gpu/n1/" + id(i) }
	sick := "fault gpu.node_gpu_fault Node n1"
	at := func(i int, w world, more ...string) world {
		w.series = append(w.series, more...)
		return w
	}
	plain := func() world { return world{objects: []string{eight}, series: busy(8)} }
	nv := func(gpus string) string {
		return fmt.Sprintf(`{"format":1,"node":"n1","at":%q,"driver":"580","gpus":[%s]}`, ago(time.Minute), gpus)
	}
	for name, tc := range map[string]struct {
		w    world
		want []string
		text string
	}{
		"all well":      {plain(), []string{}, "8 GPUs"},
		"no GPU at all": {world{objects: []string{strings.Replace(node("", ""), `nvidia.com/gpu.present: "true"`, `a: b`, 1)}}, []string{}, "no GPU"},
		"a warning of the table": {
			world{objects: []string{eight, event("XIDError", kernel(1, 80, "x"), 9*time.Minute)}, series: busy(8)},
			[]string{"fault gpu.xid_warning " + dev(1), sick}, "corrupted data",
		},
		"a fatal one of the condition, no address": {
			world{objects: []string{node(plugin(8), "", condition("GpuXidError", "True", "GpuXidErrorIsNotHealthy", "ErrorCode:46 gpu:0 XID error occurred Recommended Action=RESTART_VM;"))}, series: busy(8)},
			[]string{"fault gpu.node_xid Node n1"}, "XID 46",
		},
		"a fatal switch": {
			world{objects: []string{eight, event("SXIDError", "nvidia-nvswitch1: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up", 9*time.Minute)}},
			[]string{"fault gpu.node_nvlink Node n1"}, "SXid 20034",
		},
		"a switch that recovers": {
			world{objects: []string{eight, event("SXIDError", "nvidia-nvswitch1: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 30", 9*time.Minute)}},
			[]string{"context gpu.xid_noted Node n1"}, "SXid 12028",
		},
		"NVLink by a condition": {
			world{objects: []string{node(plugin(8), "", condition("NVLinkStatusInactive", "True", "NVLinkInactive", "nvlink 3 of GPU 0 is inactive"))}},
			[]string{"fault gpu.node_nvlink Node n1"}, "nvlink 3",
		},
		"a condition that is well": {
			world{objects: []string{node(plugin(8), "", condition("GpuNvlinkWatch", "False", "GpuNvlinkWatchIsHealthy", "No Health Failures"), condition("GPUXIDErrors", "False", "NoGPUXIDErrors", ""), condition("GpuDriverUpgradeRunning", "True", "Rolling", ""))}, series: busy(8)},
			[]string{}, "",
		},
		"a condition without words": {
			world{objects: []string{node(plugin(8), "", condition("GpuThermalWatch", "True", "GpuThermalWatchIsNotHealthy", "ErrorCode DCGM_FR_CLOCK_THROTTLE_THERMAL"))}},
			[]string{"fault gpu.node_condition Node n1"}, "DCGM_FR_CLOCK",
		},
		"a plugin that withholds what is not measured either": {
			world{objects: []string{strings.Replace(eight, `allocatable: {cpu: "96", nvidia.com/gpu: "8"}`, `allocatable: {cpu: "96", nvidia.com/gpu: "7"}`, 1)}, series: busy(7)},
			[]string{"fault gpu.missing Node n1"}, "offers 7 and the telemetry measures 7",
		},
		"fewer series than shared replicas": {
			world{objects: []string{strings.Replace(node(plugin(40), `, nvidia.com/gpu.sharing-strategy: time-slicing`), `allocatable: {cpu: "96", nvidia.com/gpu: "40"}`, `allocatable: {cpu: "96", nvidia.com/gpu: "39"}`, 1)}, series: busy(4)},
			[]string{}, "",
		},
		"heat before the clocks fall": {
			at(3, plain(), gauge("DCGM_FI_DEV_MEMORY_TEMP", 3, "97x120", ""), gauge("DCGM_FI_DEV_MEMORY_TEMP", 4, "80x120", "")),
			[]string{"fault gpu.overheating " + dev(3), sick}, "memory temperature 97 °C",
		},
		"replays of one link": {
			at(2, plain(), gauge("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", 2, "0+2x120", ""), gauge("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", 5, "3x120", "")),
			[]string{"fault gpu.pcie_replays " + dev(2), sick}, "threshold 10",
		},
		"the width the link itself could have": {
			at(2, plain(), gauge("DCGM_FI_DEV_PCIE_LINK_WIDTH", 2, "4x120", ""), gauge("DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", 2, "16x120", "")),
			[]string{"fault gpu.pcie_degraded " + dev(2), sick}, "x4, the link can be x16",
		},
		"one other GPU proves nothing of the width": {
			world{objects: []string{node(plugin(2), "")}, series: append(busy(2), gauge("DCGM_FI_DEV_PCIE_LINK_WIDTH", 0, "8x120", ""), gauge("DCGM_FI_DEV_PCIE_LINK_WIDTH", 1, "16x120", ""))},
			[]string{}, "",
		},
		"an unknown slowdown": {
			at(2, plain(), gauge("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", 2, "8x120", "")),
			[]string{"fault gpu.throttled_hardware " + dev(2), sick}, "bit 0x8",
		},
		"a limit of the board, a third of the time": {
			at(2, plain(), gauge("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 2, "0x110 512 512 512 512 0x5", "")),
			[]string{"fault gpu.throttled_hardware " + dev(2), sick}, "40 % of the samples",
		},
		"clock events by name": {
			at(2, plain(), gauge("DCGM_EXP_CLOCK_EVENTS_COUNT", 2, "60x120", `,clock_event="hw_thermal_slowdown"`)),
			[]string{"fault gpu.throttled_thermal " + dev(2), sick}, "DCGM_EXP_CLOCK_EVENTS_COUNT",
		},
		"the counter of the time held down": {
			at(2, plain(), gauge("DCGM_FI_DEV_THERMAL_VIOLATION", 2, "0+30000000000x120", "")),
			[]string{"fault gpu.throttled_thermal " + dev(2), sick}, "DCGM_FI_DEV_THERMAL_VIOLATION",
		},
		"the power cap": {
			at(2, plain(), gauge("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 2, "4x120", "")),
			[]string{"context gpu.power_capped " + dev(2)}, "normal under full load",
		},
		"throttled and idle": {
			world{objects: []string{eight}, series: []string{gauge("DCGM_FI_DEV_GPU_UTIL", 0, "2x120", ""), gauge("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 0, "64x120", "")}},
			[]string{}, "",
		},
		"many corrected errors": {
			at(2, plain(), gauge("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", 2, "0+30x120", "")),
			[]string{"context gpu.ecc_corrected " + dev(2)}, "no action by themselves",
		},
		"links that replay": {
			at(2, plain(), gauge("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", 2, "0+50x120", ""), gauge("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", 3, "9x120", "")),
			[]string{"fault gpu.nvlink_error " + dev(2), sick}, "NVLink errors in the last hour",
		},
		"a fabric that does not come up": {
			at(2, plain(), gauge("DCGM_FI_DEV_FABRIC_MANAGER_STATUS", 2, "4x120", ""), gauge("DCGM_FI_DEV_FABRIC_MANAGER_STATUS", 3, "3x120", "")),
			[]string{"fault gpu.fabric_not_ready " + dev(2), sick}, "error 802",
		},
		"nonsense": {
			at(2, plain(), gauge("DCGM_FI_DEV_GPU_TEMP", 9, "NaN NaN NaN", ""), gauge("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 2, "-1x120", ""), gauge("DCGM_FI_DEV_XID_ERRORS", 2, "NaN NaN 0x118", ""), `DCGM_FI_DEV_GPU_TEMP{Hostname="n1"} 999x120`, `DCGM_FI_DEV_XID_ERRORS{Hostname="n1",gpu="3"} 79x120`),
			[]string{"fault gpu.series_vanished Device nvidia.com/gpu/n1/" + id(9), sick}, "",
		},
		"NVML: lost, SRAM, limit, remap": {
			world{objects: []string{eight}, nvml: nv(`{"index":0,"uuid":"` + id(0) + `","lost":true},{"index":1,"uuid":"` + id(1) + `","ecc":{"sram_threshold":true}},{"index":2,"uuid":"` + id(2) + `","util_gpu":95,"power_limit":300000,"power_limit_default":700000},` +
				`{"index":3,"uuid":"` + id(3) + `","remap":{"corrected":0,"uncorrected":9,"pending":false,"failed":true,"banks":{"low":1,"none":2}}},{"index":4,"uuid":"` + id(4) + `","mig":{"enabled":false,"pending":true}},{"index":5,"uuid":"` + id(5) + `","recovery":9},{"index":6,"uuid":"` + id(6) + `","temperature":91,"temperature_slowdown":87,"recovery":0}`)},
			[]string{"fault gpu.fell_off_bus " + dev(0), "fault gpu.mig_pending " + dev(4), sick, "fault gpu.overheating " + dev(6), "fault gpu.power_limit_lowered " + dev(2), "fault gpu.recovery_needed " + dev(5), "fault gpu.row_remap_failed " + dev(3), "fault gpu.sram_threshold " + dev(1)}, "1 memory banks have few spare rows left, 2 none",
		},
		"an old report of NVML": {
			world{objects: []string{eight}, nvml: fmt.Sprintf(`{"format":1,"node":"n1","at":%q,"gpus":[{"index":0,"lost":true}]}`, ago(3*time.Hour))},
			[]string{}, "NVML not used",
		},
		"a broken report of NVML":    {world{objects: []string{eight}, nvml: `{"format":7}`}, []string{}, "format 7"},
		"an error that NVML is past": {world{objects: []string{eight, event("XIDError", kernel(1, 48, "x"), 9*time.Minute)}, nvml: nv(`{"index":1,"uuid":"` + id(1) + `","pci":"` + pci(1) + `","recovery":0}`)}, []string{"history gpu.xid_past Device nvidia.com/gpu/n1/" + id(1)}, "no recovery action"},
		"a recovery action of the driver": {
			world{objects: []string{eight, event("XIDError", kernel(1, 154, "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"), 9*time.Minute)}, series: busy(8)},
			[]string{sick, "fault gpu.recovery_needed " + dev(1)}, "Node Reboot Required",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := must(t, lab(t, tc.w), "gpu_health", gpu.HealthIn{Node: "n1"})
			slices.Sort(tc.want)
			if diff := cmp.Diff(tc.want, said(res.Findings)); diff != "" {
				t.Errorf("%s\n%s", diff, res.Text)
			}
			if !strings.Contains(res.Text, tc.text) {
				t.Errorf("the text lacks %q:\n%s", tc.text, res.Text)
			}
		})
	}
}
