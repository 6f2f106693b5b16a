package nvml_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
)

func full() nvml.Report {
	yes, no, n, u32, u64, f := true, false, 3, uint32(1410), uint64(7), 61.5
	return nvml.Report{
		Format: nvml.Format, Node: "n1", At: time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC), Driver: "580.65.06", NVML: "13.580", CUDA: "13.0",
		GPUs: []nvml.GPU{{
			Index: 0, UUID: "GPU-1", Name: "NVIDIA H100 80GB HBM3", Serial: "1", PCI: "0000:18:00.0", Minor: &n, NUMA: &n, Architecture: "Hopper", Persistence: &yes,
			UtilGPU: &f, UtilMemory: &f, MemoryTotal: &u64, MemoryUsed: &u64, SMClock: &u32, SMClockMax: &u32, MemoryClock: &u32, EventReasons: &u64,
			Temperature: &f, Slowdown: &f, Shutdown: &f, Power: &u32, PowerLimit: &u32, PowerDefault: &u32,
			ECC:   &nvml.ECC{Enabled: &yes, CorrectedVolatile: &u64, UncorrectedVolatile: &u64, CorrectedAggregate: &u64, UncorrectedAggregate: &u64, SRAMThreshold: &no},
			Remap: &nvml.Remap{Corrected: 1, Uncorrected: 2, Pending: true, Banks: &nvml.Banks{Max: 600, Low: 1}},
			PCIe:  &nvml.PCIe{Gen: &n, GenMax: &n, Width: &n, WidthMax: &n, Replays: &u64}, NVLink: []nvml.Link{{Link: 0, Active: true, Remote: "0000:19:00.0", Replay: &u64}},
			Fabric: &nvml.Fabric{State: nvml.FabricCompleted, Clique: 1, Cluster: "c", Health: &u32}, MIG: &nvml.MIG{Enabled: true, Instances: []nvml.Instance{{UUID: "MIG-1", Name: "1g.10gb"}}},
			Recovery: &n, Processes: []nvml.Process{{PID: 1, Memory: &u64}},
		}, {Index: 1, Lost: true, Error: "GPU is lost"}},
		XIDs: []nvml.XID{{At: time.Date(2026, 11, 27, 10, 0, 1, 0, time.UTC), UUID: "GPU-1", Code: 79}}, Errors: []string{"one look failed"},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	got, err := nvml.Read(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), got); diff != "" {
		t.Error(diff)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	many := `{"format":1,"gpus":[` + strings.Repeat(`{},`, 256) + `{}]}`
	links := `{"format":1,"gpus":[{"nvlink":[` + strings.Repeat(`{},`, 64) + `{}]}]}`
	for name, tc := range map[string]struct{ doc, want string }{
		"nothing": {"", "nvml report"}, "no JSON": {"{", "nvml report"}, "no format": {`{}`, "format 0"}, "a newer format": {`{"format":2}`, "same release"},
		"too many GPUs": {many, "257 GPUs"}, "too many links": {links, "65 links"}, "a wrong type": {`{"format":1,"gpus":{}}`, "nvml report"}, "too large": {`{"format":1,"node":"` + strings.Repeat("x", 9<<20) + `"}`, "bytes"},
	} {
		if _, err := nvml.Read(strings.NewReader(tc.doc)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	d := nvml.NewDir(fstest.MapFS{"n1.json": {Data: []byte(`{"format":1,"node":"n1","gpus":[]}`)}, "n2.json": {Data: []byte(`{"format":1,"node":"n9"}`)}, "n3.json": {Data: []byte(`nvml`)}})
	if r, ok, err := d.Report("n1"); err != nil || !ok || r.Node != "n1" {
		t.Errorf("%+v %v %v", r, ok, err)
	}
	for _, node := range []string{"n0", "", "../n1", "/n1", "n1/../n1"} {
		if _, ok, err := d.Report(node); ok || err != nil {
			t.Errorf("%q: %v %v", node, ok, err)
		}
	}
	for node, want := range map[string]string{"n2": `node "n9"`, "n3": "n3.json"} {
		if _, ok, err := d.Report(node); ok || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v, want %s", node, ok, err, want)
		}
	}
	tree := nvml.NewTree(fstest.MapFS{"n1/nvml.json": {Data: []byte(`{"format":1,"node":"n1","gpus":[]}`)}, "n2.json": {Data: []byte(`{"format":1}`)}})
	if _, ok, err := tree.Report("n1"); !ok || err != nil {
		t.Errorf("a tree: %v %v", ok, err)
	}
	if got, err := tree.Nodes(); err != nil || len(got) != 1 || got[0] != "n1" {
		t.Errorf("a tree: %v %v", got, err)
	}
	if got, err := d.Nodes(); err != nil || len(got) != 3 || got[2] != "n3" {
		t.Errorf("a directory: %v %v", got, err)
	}
	if _, ok, err := tree.Report("n2"); ok || err != nil {
		t.Errorf("a file beside the tree: %v %v", ok, err)
	}
	if _, ok, err := nvml.NewDir(os.DirFS(t.TempDir())).Report("n1"); ok || err != nil {
		t.Errorf("an empty directory: %v %v", ok, err)
	}
}

func FuzzRead(f *testing.F) {
	raw, err := json.Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(raw))
	f.Add(`{"format":1,"gpus":[{"recovery":null,"ecc":{}}]}`)
	f.Fuzz(func(t *testing.T, doc string) {
		r, err := nvml.Read(strings.NewReader(doc))
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Skip() // a year that JSON cannot carry
		}
		if _, err := nvml.Read(strings.NewReader(string(again))); err != nil {
			t.Fatalf("what was read is refused when it is written again: %v", err)
		}
	})
}
