package gpu_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu"
)

const slice = `
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: n1-gpu}
spec:
  driver: gpu.nvidia.com
  nodeName: n1
  pool: {name: n1, generation: 2, resourceSliceCount: 1}
  devices:
  - name: gpu-0
    attributes: {type: {string: gpu}, uuid: {string: GPU-00000000-1111-4111-8111-111111111111}, productName: {string: NVIDIA H100 80GB HBM3}, resource.kubernetes.io/pciBusID: {string: "0000:18:00.0"}}
  - name: gpu-1
    attributes: {type: {string: gpu}, uuid: {string: GPU-00000001-1111-4111-8111-111111111111}, productName: {string: NVIDIA H100 80GB HBM3}, resource.kubernetes.io/pciBusID: {string: "0000:28:00.0"}}
  - name: gpu-2-mig-1g10gb-19-0
    attributes: {type: {string: mig}, profile: {string: 1g.10gb}, uuid: {string: MIG-a}, parentUUID: {string: GPU-00000002-1111-4111-8111-111111111111}, resource.kubernetes.io/pciBusID: {string: "0000:38:00.0"}}
  - name: channel-0
    attributes: {type: {string: channel}, id: {int: 0}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: n1-gpu-old}
spec:
  driver: gpu.nvidia.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices:
  - name: gpu-9
    attributes: {type: {string: gpu}, uuid: {string: GPU-old}}`

// claimed is pod p with claim c, which holds the device.
func claimed(device string) string {
	return strings.Replace(pod("p", "", ""), "spec:\n", "spec:\n  resourceClaims: [{name: g, resourceClaimName: c}]\n", 1) + `
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: c, namespace: a}
spec: {}
status:
  allocation: {devices: {results: [{request: g, driver: gpu.nvidia.com, pool: n1, device: ` + device + `}]}}
  reservedFor: [{resource: pods, name: p, uid: u}]`
}

func ways(es []incident.Edge) []string {
	var out []string
	for _, e := range es {
		out = append(out, fmt.Sprintf("%s -%s-> %s", e.From, e.Relation, e.To))
	}
	slices.Sort(out)
	return out
}

func TestPodToDevice(t *testing.T) {
	t.Parallel()
	xid := func(i int, more string) string { return gauge("DCGM_FI_DEV_XID_ERRORS", i, "0x99 48x20", more) }
	const draNode = `, pool: dra`
	symptom := "symptom gpu.pod_on_faulty_gpu Pod a/p"
	for name, tc := range map[string]struct {
		w     world
		finds []string
		edges []string
	}{
		"by claim": {
			world{objects: []string{node("", draNode), slice, claimed("gpu-1")}, series: append(busy(3), xid(1, ""))},
			[]string{"fault gpu.memory_uncorrectable Device gpu.nvidia.com/n1/gpu-1", symptom},
			[]string{"Pod a/p -claims-> ResourceClaim a/c", "ResourceClaim a/c -allocated-> Device gpu.nvidia.com/n1/gpu-1"},
		},
		"by claim, another GPU is sick": {
			world{objects: []string{node("", draNode), slice, claimed("gpu-0")}, series: append(busy(3), xid(1, ""))},
			[]string{}, []string{"Pod a/p -claims-> ResourceClaim a/c", "ResourceClaim a/c -allocated-> Device gpu.nvidia.com/n1/gpu-0"},
		},
		"an instance of a sick GPU": {
			world{objects: []string{node("", draNode), slice, claimed("gpu-2-mig-1g10gb-19-0")}, series: append(busy(3), xid(2, ""))},
			[]string{"fault gpu.memory_uncorrectable Device gpu.nvidia.com/n1/gpu-2", symptom},
			[]string{"Device gpu.nvidia.com/n1/gpu-2-mig-1g10gb-19-0 -part-of-> Device gpu.nvidia.com/n1/gpu-2", "Pod a/p -claims-> ResourceClaim a/c", "ResourceClaim a/c -allocated-> Device gpu.nvidia.com/n1/gpu-2-mig-1g10gb-19-0"},
		},
		"a device that no slice offers any more": {
			world{objects: []string{node("", draNode), slice, claimed("gpu-7")}, series: busy(3)},
			[]string{}, []string{"Pod a/p -claims-> ResourceClaim a/c", "ResourceClaim a/c -allocated-> Device gpu.nvidia.com/n1/gpu-7"},
		},
		"by the exporter's own labels": {
			world{objects: []string{node(`, nvidia.com/gpu: "4"`, ""), pod("p", oneGPU, "")}, series: append(busy(4), xid(1, `,exported_namespace="a",exported_pod="p",exported_container="main",namespace="gpu-operator",pod="nvidia-dcgm-exporter-x",container="nvidia-dcgm-exporter"`))},
			[]string{"fault gpu.memory_uncorrectable Device nvidia.com/gpu/n1/" + id(1), symptom}, []string{"Pod a/p -uses-> Device nvidia.com/gpu/n1/" + id(1)},
		},
		"by honoured labels": {
			world{objects: []string{node(`, nvidia.com/gpu: "4"`, ""), pod("p", oneGPU, "")}, series: append(busy(4), xid(1, `,namespace="a",pod="p",container="main"`))},
			[]string{"fault gpu.memory_uncorrectable Device nvidia.com/gpu/n1/" + id(1), symptom}, []string{"Pod a/p -uses-> Device nvidia.com/gpu/n1/" + id(1)},
		},
		"by the exporter's DRA labels": {
			world{objects: []string{node("", draNode), strings.Split(slice, "---")[0], strings.Split(claimed("gpu-1"), "---")[0]}, series: append(busy(3), xid(1, `,namespace="a",pod="p",dra_claim_name="c",dra_claim_namespace="a",dra_device_name="gpu-1",dra_pool_name="n1",dra_driver_name="gpu.nvidia.com"`))},
			[]string{"fault gpu.memory_uncorrectable Device gpu.nvidia.com/n1/gpu-1", symptom},
			[]string{"Pod a/p -claims-> ResourceClaim a/c", "ResourceClaim a/c -allocated-> Device gpu.nvidia.com/n1/gpu-1"},
		},
		"all GPUs of the node": {
			world{objects: []string{node(`, nvidia.com/gpu: "2"`, ""), pod("p", `, resources: {limits: {nvidia.com/gpu: "2"}}`, ""), event("XIDError", kernel(1, 95, "x"), 9*time.Minute)}},
			[]string{"fault gpu.memory_uncorrectable Device nvidia.com/gpu/n1/pci-" + pci(1), symptom}, []string{"Pod a/p -uses-> Device nvidia.com/gpu/n1/pci-" + pci(1)},
		},
		"one of the node's GPUs, nobody knows which": {
			world{objects: []string{node(`, nvidia.com/gpu: "2"`, ""), pod("p", oneGPU, ""), event("XIDError", kernel(1, 95, "x"), 9*time.Minute)}},
			[]string{"fault gpu.node_gpu_fault Node n1"}, nil,
		},
		"time-sliced": {
			world{objects: []string{node(`, nvidia.com/gpu: "8"`, `, nvidia.com/gpu.sharing-strategy: time-slicing, nvidia.com/gpu.replicas: "8"`), pod("p", `, resources: {limits: {nvidia.com/gpu: "8"}}`, ""), event("XIDError", kernel(1, 95, "x"), 9*time.Minute)}},
			[]string{"fault gpu.node_gpu_fault Node n1"}, nil,
		},
		"no GPU": {world{objects: []string{node(`, nvidia.com/gpu: "2"`, ""), pod("p", "", ""), event("XIDError", kernel(1, 95, "x"), 9*time.Minute)}}, []string{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := must(t, lab(t, tc.w), "gpu_health", gpu.HealthIn{Namespace: "a", Pod: "p"})
			slices.Sort(tc.finds)
			if diff := cmp.Diff(tc.finds, said(res.Findings)); diff != "" {
				t.Errorf("%s\n%s", diff, res.Text)
			}
			if diff := cmp.Diff(tc.edges, ways(res.Edges)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The gauge holds the last XID: when it changed counts, not that it is there.
func TestXIDsInTime(t *testing.T) {
	t.Parallel()
	two := node(`, nvidia.com/gpu: "2"`, "")
	mine := `,namespace="a",pod="p",container="main"`
	dev := "Device nvidia.com/gpu/n1/" + id(0)
	symptom := "symptom gpu.pod_on_faulty_gpu Pod a/p"
	p := pod("p", oneGPU, "")
	sick := pod("p", oneGPU, crashing)
	for name, tc := range map[string]struct {
		w     world
		finds []string
		text  string
	}{
		"there all the time": {
			world{objects: []string{two, p}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "48x120", mine))},
			[]string{"history gpu.xid_past " + dev}, "before the first sample",
		},
		"changed half an hour ago, the pod is older": {
			world{objects: []string{two, p}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x89 48x30", mine))},
			[]string{"fault gpu.memory_uncorrectable " + dev, symptom}, "at 2026-11-27 17:30 UTC",
		},
		"changed before the pod was started, and the pod works": {
			world{objects: []string{two, p}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x39 48x80", mine))},
			[]string{"history gpu.xid_past " + dev}, "works, at 97 % load",
		},
		"the pod's label comes with the error": {
			world{objects: []string{two, p}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x98 stale", mine), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "_x99 48x20", ""))},
			[]string{"fault gpu.memory_uncorrectable " + dev, symptom}, "XID 48",
		},
		"counted by number in a window": {
			world{objects: []string{two, p}, series: append(busy(2), gauge("DCGM_EXP_XID_ERRORS_COUNT", 0, "_x99 1x20", mine+`,xid="95",window_size_in_ms="300000"`), gauge("DCGM_EXP_XID_ERRORS_COUNT", 0, "_x99 1x20", mine+`,xid="odd"`))},
			[]string{"fault gpu.memory_uncorrectable " + dev, symptom}, "XID 95",
		},
		"two sources, one error": {
			world{objects: []string{two, p, event("XIDError", kernel(0, 48, "x"), 21*time.Minute)}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x99 48x20", mine))},
			[]string{"fault gpu.memory_uncorrectable " + dev, symptom}, "event XIDError of kernel-monitor, DCGM_FI_DEV_XID_ERRORS",
		},
		"an application's, its pod crashes": {
			world{objects: []string{two, sick}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x99 31x20", mine))},
			[]string{"fault gpu.xid_application Pod a/p"}, "says nothing against the GPU",
		},
		"an application's, its pod runs again": {
			world{objects: []string{two, p}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x39 31x80", mine))},
			[]string{"history gpu.xid_past " + dev}, "",
		},
		"a clean-up by itself": {
			world{objects: []string{two, sick}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x99 45x20", mine))},
			[]string{"context gpu.xid_noted " + dev}, "",
		},
		"a clean-up after a fault of the application": {
			world{objects: []string{two, sick, event("XIDError", kernel(0, 13, "Graphics Exception"), 21*time.Minute), event("XIDError", kernel(0, 43, "Ch 8"), 20*time.Minute)}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x120", mine))},
			[]string{"context gpu.xid_follows " + dev, "fault gpu.xid_application Pod a/p"}, "is its consequence",
		},
		"an unknown number": {
			world{objects: []string{two, p}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x99 7x20", mine))},
			[]string{"context gpu.xid_noted " + dev}, "not in the table",
		},
		"the node has rebooted since": {
			world{objects: []string{two, p, event("Rebooted", "Node n1 has been rebooted, boot id: x", 10*time.Minute)}, series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x99 48x20", mine))},
			[]string{"history gpu.xid_past " + dev}, "has rebooted since",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := must(t, lab(t, tc.w), "gpu_health", gpu.HealthIn{Namespace: "a", Pod: "p"})
			slices.Sort(tc.finds)
			if diff := cmp.Diff(tc.finds, said(res.Findings)); diff != "" {
				t.Errorf("%s\n%s", diff, res.Text)
			}
			if !strings.Contains(res.Text, tc.text) {
				t.Errorf("the text lacks %q:\n%s", tc.text, res.Text)
			}
		})
	}
}

func TestStragglers(t *testing.T) {
	t.Parallel()
	four := node(`, nvidia.com/gpu: "4"`, "")
	all := `, resources: {limits: {nvidia.com/gpu: "4"}}`
	low := func(name, values string) []string {
		s := busy(4)
		for i := range 4 {
			v := map[bool]string{true: values, false: "640x120"}[i == 2]
			if name == "DCGM_FI_DEV_SM_CLOCK" {
				if i == 2 {
					s[3*i+2] = gauge(name, i, values, "")
				}
				continue
			}
			s = append(s, gauge(name, i, v, ""))
		}
		return s
	}
	dev := "Device nvidia.com/gpu/n1/" + id(2)
	for name, tc := range map[string]struct {
		w     world
		finds []string
		text  string
	}{
		"equal":                                  {world{objects: []string{four, pod("p", all, "")}, series: busy(4)}, []string{}, "4 GPUs in 1 pods"},
		"a low clock":                            {world{objects: []string{four, pod("p", all, "")}, series: low("DCGM_FI_DEV_SM_CLOCK", "1200x120")}, []string{"fault gpu.straggler " + dev, "symptom gpu.job_held_up Pod a/p"}, "1200 MHz over the last 10 minutes, the median of 4 GPUs of the pod alone is 1755 MHz"},
		"a clock that somebody set":              {world{objects: []string{four, pod("p", all, "")}, series: append(low("DCGM_FI_DEV_SM_CLOCK", "1200x120"), gauge("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 2, "2x120", ""))}, []string{"fault gpu.straggler " + dev, "symptom gpu.job_held_up Pod a/p"}, "somebody has set its clocks"},
		"at its power limit, and harder at work": {world{objects: []string{four, pod("p", all, "")}, series: append(append(low("DCGM_FI_DEV_SM_CLOCK", "1500x120"), low("DCGM_FI_DEV_POWER_USAGE", "699x120")[12:]...), gauge("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", 2, "4x120", ""))}, []string{"context gpu.uneven " + dev}, "SM clock 1500 MHz"},
		"two models in one job":                  {world{objects: []string{four, pod("p", all, "")}, series: append(busy(2), strings.ReplaceAll(strings.Join(busy(4)[6:], "\n"), "H100 80GB HBM3", "A30"), strings.ReplaceAll(gauge("DCGM_FI_DEV_SM_CLOCK", 3, "900x120", `,x="y"`), "H100 80GB HBM3", "A30"))}, []string{}, "4 GPUs"},
		"less power alone":                       {world{objects: []string{four, pod("p", all, "")}, series: low("DCGM_FI_DEV_POWER_USAGE", "400x120")}, []string{"context gpu.uneven " + dev}, "power 400 W"},
		"two GPUs prove nothing":                 {world{objects: []string{node(`, nvidia.com/gpu: "2"`, ""), pod("p", `, resources: {limits: {nvidia.com/gpu: "2"}}`, "")}, series: append(busy(1), gauge("DCGM_FI_DEV_GPU_UTIL", 1, "97x120", ""), gauge("DCGM_FI_DEV_SM_CLOCK", 1, "1200x120", ""))}, []string{}, ""},
		"no metrics at all":                      {world{objects: []string{four, pod("p", all, "")}}, []string{}, "Prometheus not configured"},
		"no exporter on the node":                {world{objects: []string{four, pod("p", all, "")}, series: []string{"up 1x120"}}, []string{}, "no DCGM exporter runs there"},
		"no GPU":                                 {world{objects: []string{four, pod("p", "", "")}, series: busy(4)}, []string{}, "holds no GPU"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := lab(t, tc.w)
			res := must(t, ts, "gpu_stragglers", gpu.PeersIn{Namespace: "a", Pod: "p"})
			slices.Sort(tc.finds)
			if diff := cmp.Diff(tc.finds, said(res.Findings)); diff != "" {
				t.Errorf("%s\n%s", diff, res.Text)
			}
			if !strings.Contains(res.Text, tc.text) {
				t.Errorf("the text lacks %q:\n%s", tc.text, res.Text)
			}
			if gaps := ts.Limits(time.Time{}); strings.Contains(name, "no exporter") != (len(gaps) == 1) {
				t.Errorf("%v", gaps)
			}
		})
	}
	// An exporter that was there and is gone is a failed look.
	ended := []string{gauge("DCGM_FI_DEV_GPU_TEMP", 0, "60x80 stale", "")}
	if _, err := call(t, lab(t, world{objects: []string{four, pod("p", all, "")}, series: ended}), "gpu_stragglers", gpu.PeersIn{Namespace: "a", Pod: "p"}); tool.KindOf(err) != tool.Internal || !strings.Contains(tool.UserText(err), "ended at 2026-11-27 17:2") {
		t.Error(err)
	}
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	other := strings.ReplaceAll(strings.ReplaceAll(node(`, nvidia.com/gpu: "2"`, ""), "name: n1", "name: n2"), "n1", "n2")
	w := world{
		objects: []string{node(`, nvidia.com/gpu: "2"`, ""), other, pod("p", oneGPU, ""), pod("q", oneGPU, ""), pod("plain", "", ""), `
apiVersion: v1
kind: Service
metadata: {name: s, namespace: a}
spec: {selector: {app: p}}`, `
apiVersion: v1
kind: Service
metadata: {name: t, namespace: a}
spec: {selector: {app: q}}`},
		series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x99 95x20", `,namespace="a",pod="p"`), gauge("DCGM_FI_DEV_XID_ERRORS", 1, "0x120", `,namespace="a",pod="q"`)),
	}
	ts := lab(t, w)
	dev := "fault gpu.memory_uncorrectable Device nvidia.com/gpu/n1/" + id(0)
	for in, want := range map[gpu.SurveyIn][]string{
		{}:               {dev, "fault gpu.node_gpu_fault Node n1"},
		{Namespace: "a"}: {dev, "symptom gpu.pod_on_faulty_gpu Pod a/p"},
		{Namespace: "a", Kind: "Service", Name: "s"}: {dev, "symptom gpu.pod_on_faulty_gpu Pod a/p"},
		{Namespace: "a", Kind: "Service", Name: "t"}: {},
		{Namespace: "b"}: {},
	} {
		res := must(t, ts, "gpu_survey", in)
		if diff := cmp.Diff(want, said(res.Findings)); diff != "" {
			t.Errorf("%+v: %s\n%s", in, diff, res.Text)
		}
		leads := slices.ContainsFunc(res.Edges, func(e incident.Edge) bool {
			return e.Relation == graph.Selects && e.From.Name == "s" && e.To.Name == "p"
		})
		if leads != (in.Name == "s") {
			t.Errorf("%+v: %v", in, ways(res.Edges))
		}
	}
	for in, want := range map[gpu.SurveyIn]tool.Kind{{Kind: "Service"}: tool.Invalid, {Namespace: "a", Kind: "Secret", Name: "x"}: tool.Invalid, {Namespace: "a", Kind: "Service", Name: "gone"}: tool.NotFound} {
		if _, err := call(t, ts, "gpu_survey", in); tool.KindOf(err) != want {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

func TestXIDTool(t *testing.T) {
	t.Parallel()
	ts := lab(t, world{objects: []string{node(`, nvidia.com/gpu: "2"`, ""), event("XIDError", kernel(1, 79, "GPU has fallen off the bus."), 9*time.Minute)}})
	for in, want := range map[gpu.XIDIn][]string{
		{Code: 79}:                               {"fell off the bus", "Class fatal"},
		{Code: 109}:                              {"context switch time-out", "dra-driver-nvidia-gpu", "says: an application's own error"},
		{Code: 63, Generation: "Tesla V100"}:     {"page was retired"},
		{Code: 63, Generation: "H100"}:           {"row was remapped"},
		{Code: 7}:                                {"not in the table", "look it up"},
		{Text: "prose about nothing"}:            {"holds no XID"},
		{Text: kernel(0, 31, "MMU Fault")}:       {"XID 31", "Class application"},
		{Text: "SXid (PCI:0000:c1:00.0): 11, x"}: {"SXid 11 of an NVSwitch"},
		{Node: "n1"}:                             {"1 errors of GPUs of node n1", "XID 79"},
		{Text: "NVRM: Xid (PCI:0000:18:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"}: {"GPU Reset Required; that stands over the table"},
	} {
		res := must(t, ts, "gpu_xid", in)
		for _, w := range want {
			if !strings.Contains(res.Text, w) {
				t.Errorf("%+v lacks %q:\n%s", in, w, res.Text)
			}
		}
	}
	if _, err := call(t, ts, "gpu_xid", gpu.XIDIn{}); tool.KindOf(err) != tool.Invalid {
		t.Error(err)
	}
}

// metrics that fail in the ways of servers.
type broken struct {
	err  error
	part bool
}

func (b broken) Instant(context.Context, string) ([]metric.Sample, error) { return nil, b.err }

func (b broken) Range(_ context.Context, _ string, from, _ time.Time, _ time.Duration) ([]metric.Series, error) {
	if !b.part {
		return nil, b.err
	}
	return []metric.Series{{Labels: map[string]string{metric.Name: "DCGM_FI_DEV_GPU_TEMP", "Hostname": "n1", "UUID": id(0), "gpu": "0"}, Points: []metric.Point{{At: from, Value: 50}, {At: now, Value: 50}}}}, b.err
}

func TestFailures(t *testing.T) {
	t.Parallel()
	objects := []string{node(`, nvidia.com/gpu: "1"`, ""), pod("p", oneGPU, "")}
	for name, tc := range map[string]struct {
		m    gpu.Metrics
		want string
	}{
		"503":     {broken{err: tool.Errorf(tool.Unreachable, "Prometheus answers 503")}, "GPU telemetry not seen: Prometheus answers 503"},
		"partial": {broken{err: &metric.Partial{Warnings: []string{"a store is away"}}, part: true}, "a store is away"},
		"absent":  {broken{err: tool.Errorf(tool.NotServed, "Prometheus not configured")}, "Prometheus not configured"},
	} {
		ts := lab(t, world{objects: objects, metrics: tc.m})
		res := must(t, ts, "gpu_health", gpu.HealthIn{Namespace: "a", Pod: "p"})
		if len(res.Findings) > 0 || !strings.Contains(res.Text, tc.want) {
			t.Errorf("%s: %v\n%s", name, said(res.Findings), res.Text)
		}
		st := ts.Status(t.Context())
		if st.State != tool.Ready || len(st.Limits) != 1 || st.Limits[0].Source != "GPU telemetry" {
			t.Errorf("%s: %+v", name, st)
		}
	}
	ts := lab(t, world{objects: objects})
	for in, want := range map[gpu.HealthIn]tool.Kind{
		{}: tool.Invalid, {Pod: "p"}: tool.Invalid, {Namespace: "a", Pod: "gone"}: tool.NotFound, {Node: "gone"}: tool.NotFound, {Node: "n1", GPU: "gone"}: tool.NotFound, {GPU: "GPU-x"}: tool.NotServed,
	} {
		if _, err := call(t, ts, "gpu_health", in); tool.KindOf(err) != want {
			t.Errorf("%+v: %v", in, err)
		}
	}
	if _, err := gpu.New(gpu.Config{}); err == nil {
		t.Error("a toolset without sources")
	}
	c := gpu.Config{Reach: func(context.Context) error { return errors.New("no route") }}
	c.Objects, c.Lists, c.Details, c.Metrics = ts.Objects, ts.Lists, ts.Details, broken{}
	away, err := gpu.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if st := away.Status(t.Context()); st.State != tool.Broken || !strings.Contains(st.Reason, "no route") {
		t.Errorf("%+v", st)
	}
}

func TestGPUByName(t *testing.T) {
	t.Parallel()
	ts := lab(t, world{objects: []string{node("", ", pool: dra"), slice, claimed("gpu-1")}, series: append(busy(3), gauge("DCGM_FI_DEV_ROW_REMAP_PENDING", 1, "1x120", ""))})
	for _, in := range []gpu.HealthIn{{GPU: id(1)}, {Node: "n1", GPU: "gpu-1"}, {Node: "n1", GPU: pci(1)}, {GPU: "gpu.nvidia.com/n1/gpu-1"}} {
		res := must(t, ts, "gpu_health", in)
		if got := said(res.Findings); !slices.Equal(got, []string{"fault gpu.row_remap_pending Device gpu.nvidia.com/n1/gpu-1"}) {
			t.Errorf("%+v: %v\n%s", in, got, res.Text)
		}
		var out gpu.Health
		if err := json.Unmarshal(res.Data, &out); err != nil || len(out.GPUs) != 1 || out.GPUs[0].UUID != id(1) || len(out.GPUs[0].Pods) != 1 {
			t.Errorf("%v %+v", err, out)
		}
	}
}

// Of many nodes only those that something speaks of are read one by one.
func TestSurveyOfManyNodes(t *testing.T) {
	t.Parallel()
	w := world{series: append(busy(2), gauge("DCGM_FI_DEV_XID_ERRORS", 0, "0x99 95x20", ""))}
	for i := range 40 {
		n := strings.ReplaceAll(node(`, nvidia.com/gpu: "2"`, ""), "n1", fmt.Sprintf("n%d", i))
		if i == 17 {
			n = strings.Replace(n, `allocatable: {cpu: "96", nvidia.com/gpu: "2"}`, `allocatable: {cpu: "96", nvidia.com/gpu: "1"}`, 1)
		}
		w.objects = append(w.objects, n)
	}
	w.objects = append(w.objects, strings.ReplaceAll(event("XIDError", kernel(1, 79, "x"), 9*time.Minute), "n1", "n23"))
	res := must(t, lab(t, w), "gpu_survey", gpu.SurveyIn{})
	var out gpu.Survey
	if err := json.Unmarshal(res.Data, &out); err != nil {
		t.Fatal(err)
	}
	var in []string
	for _, n := range out.Trouble {
		in = append(in, n.Node)
	}
	slices.Sort(in)
	if out.Nodes != 40 || out.Looked != 3 || !slices.Equal(in, []string{"n1", "n23"}) {
		t.Errorf("%d nodes, %d looked at, trouble on %v\n%s", out.Nodes, out.Looked, in, res.Text)
	}
}

func TestContainersThatAreRefused(t *testing.T) {
	t.Parallel()
	waiting := `
  conditions: [{type: Ready, status: "False"}]
  containerStatuses: [{name: main, ready: false, restartCount: 3, image: i, imageID: i, state: {waiting: {reason: RunContainerError}}}]`
	told := func(message string, before time.Duration) string {
		return strings.NewReplacer("n1.", "p.", "namespace: default", "namespace: a", "{kind: Node, name: n1, uid: n1}", "{kind: Pod, name: p, namespace: a}").Replace(event("Failed", message, before))
	}
	for name, tc := range map[string]struct {
		status, message string
		before          time.Duration
		want            string
	}{
		"versions":           {waiting, "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown", time.Minute, "different versions"},
		"not loaded":         {waiting, "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", time.Minute, "is not loaded"},
		"handler":            {waiting, `failed to get sandbox runtime: no runtime for "nvidia" is configured`, time.Minute, "knows no handler nvidia"},
		"a GPU that is gone": {waiting, "nvidia-container-cli: device error: GPU-1: unknown device: unknown", time.Minute, "not there any more"},
		"long ago":           {waiting, "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", 2 * time.Hour, ""},
		"another reason":     {waiting, `exec: "serve": executable file not found in $PATH`, time.Minute, ""},
		"it runs now":        {"", "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world{objects: []string{node(`, nvidia.com/gpu: "2"`, ""), pod("p", oneGPU, tc.status), told(tc.message, tc.before)}}
			res := must(t, lab(t, w), "gpu_health", gpu.HealthIn{Namespace: "a", Pod: "p"})
			want := []string{}
			if tc.want != "" {
				want = []string{"fault gpu.driver_unusable Node n1"}
			}
			if diff := cmp.Diff(want, said(res.Findings)); diff != "" || !strings.Contains(res.Text, tc.want) {
				t.Errorf("%s\n%s", diff, res.Text)
			}
		})
	}
}
