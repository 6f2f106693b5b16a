package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	lib "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"

	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
)

// unsupported fills every function of a mock that nobody set, so that it answers
// as a driver does that lacks the feature.
func unsupported(m any) {
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() != reflect.Func || !f.CanSet() || !f.IsNil() {
			continue
		}
		t := f.Type()
		f.Set(reflect.MakeFunc(t, func([]reflect.Value) []reflect.Value {
			out := make([]reflect.Value, t.NumOut())
			for j := range out {
				out[j] = reflect.Zero(t.Out(j))
				if t.Out(j) == reflect.TypeFor[lib.Return]() {
					out[j] = reflect.ValueOf(lib.ERROR_NOT_SUPPORTED)
				}
			}
			return out
		}))
	}
}

func dgx(t *testing.T, s *server.Server) (*server.Server, []*server.Device) {
	t.Helper()
	var ds []*server.Device
	for _, d := range s.Devices {
		one, ok := d.(*server.Device)
		if !ok {
			t.Fatalf("%T", d)
		}
		unsupported(&one.Device)
		ds = append(ds, one)
	}
	return s, ds
}

func ok[T any](v T) func() (T, lib.Return) {
	return func() (T, lib.Return) { return v, lib.SUCCESS }
}

func pci(id string) lib.PciInfo {
	var p lib.PciInfo
	for i, c := range []byte(id) {
		p.BusId[i] = int8(c)
	}
	return p
}

func TestWhatTheDriverDoesNotTellIsUnknown(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*server.Server{"A100": dgxa100.New(), "H100": dgxh100.New(), "B200": dgxb200.New()} {
		s, _ := dgx(t, s)
		rep := newReader(s, nil).report(t.Context(), "n1", 0)
		if rep.Format != nvml.Format || rep.Node != "n1" || rep.Driver == "" || rep.CUDA == "" || len(rep.GPUs) != 8 || len(rep.Errors) > 0 {
			t.Fatalf("%s: %+v", name, rep)
		}
		for i, g := range rep.GPUs {
			if g.Index != i || !strings.Contains(g.Name, name) || !strings.HasPrefix(g.UUID, "GPU-") || g.MemoryTotal == nil || g.MIG == nil || g.MIG.Enabled {
				t.Errorf("%s: %+v", name, g)
			}
			if g.Temperature != nil || g.ECC != nil || g.Remap != nil || g.PCIe != nil || g.NVLink != nil || g.Fabric != nil || g.Recovery != nil || g.Power != nil || g.EventReasons != nil || g.Lost || g.Error != "" {
				t.Errorf("%s: a value that the driver does not tell: %+v", name, g)
			}
		}
	}
}

func TestFullGPU(t *testing.T) {
	t.Parallel()
	s, ds := dgx(t, dgxh100.New())
	d := ds[0]
	d.GetPciInfoFunc = ok(pci("00000000:9B:00.0"))
	d.GetNumaNodeIdFunc = ok(1)
	d.GetSerialFunc = ok("165")
	d.GetPersistenceModeFunc = ok(lib.FEATURE_ENABLED)
	d.GetUtilizationRatesFunc = ok(lib.Utilization{Gpu: 97, Memory: 40})
	d.GetClockInfoFunc = func(c lib.ClockType) (uint32, lib.Return) {
		return map[lib.ClockType]uint32{lib.CLOCK_SM: 1005, lib.CLOCK_MEM: 2619}[c], lib.SUCCESS
	}
	d.GetMaxClockInfoFunc = func(lib.ClockType) (uint32, lib.Return) { return 1980, lib.SUCCESS }
	d.GetCurrentClocksThrottleReasonsFunc = ok(uint64(0x60))
	d.GetTemperatureFunc = func(lib.TemperatureSensors) (uint32, lib.Return) { return 88, lib.SUCCESS }
	d.GetTemperatureThresholdFunc = func(k lib.TemperatureThresholds) (uint32, lib.Return) {
		return map[lib.TemperatureThresholds]uint32{lib.TEMPERATURE_THRESHOLD_SLOWDOWN: 87, lib.TEMPERATURE_THRESHOLD_SHUTDOWN: 92}[k], lib.SUCCESS
	}
	d.GetPowerUsageFunc, d.GetEnforcedPowerLimitFunc, d.GetPowerManagementDefaultLimitFunc = ok(uint32(310_000)), ok(uint32(500_000)), ok(uint32(700_000))
	d.GetEccModeFunc = func() (lib.EnableState, lib.EnableState, lib.Return) {
		return lib.FEATURE_ENABLED, lib.FEATURE_ENABLED, lib.SUCCESS
	}
	d.GetTotalEccErrorsFunc = func(k lib.MemoryErrorType, c lib.EccCounterType) (uint64, lib.Return) {
		if k == lib.MEMORY_ERROR_TYPE_UNCORRECTED && c == lib.AGGREGATE_ECC {
			return 3, lib.SUCCESS
		}
		return 0, lib.SUCCESS
	}
	d.GetSramEccErrorStatusFunc = ok(lib.EccSramErrorStatus{BThresholdExceeded: 1})
	d.GetRemappedRowsFunc = func() (int, int, bool, bool, lib.Return) { return 1, 2, true, false, lib.SUCCESS }
	d.GetRowRemapperHistogramFunc = ok(lib.RowRemapperHistogramValues{Max: 638, Low: 1, None: 1})
	d.GetCurrPcieLinkGenerationFunc, d.GetMaxPcieLinkGenerationFunc, d.GetCurrPcieLinkWidthFunc, d.GetMaxPcieLinkWidthFunc, d.GetPcieReplayCounterFunc = ok(5), ok(5), ok(8), ok(16), ok(12)
	d.GetNvLinkStateFunc = func(i int) (lib.EnableState, lib.Return) {
		if i >= 18 {
			return 0, lib.ERROR_INVALID_ARGUMENT
		}
		if i == 4 {
			return lib.FEATURE_DISABLED, lib.SUCCESS
		}
		return lib.FEATURE_ENABLED, lib.SUCCESS
	}
	d.GetNvLinkErrorCounterFunc = func(i int, c lib.NvLinkErrorCounter) (uint64, lib.Return) {
		if i == 2 && c == lib.NVLINK_ERROR_DL_RECOVERY {
			return 7, lib.SUCCESS
		}
		return 0, lib.SUCCESS
	}
	d.GetNvLinkRemotePciInfoFunc = func(int) (lib.PciInfo, lib.Return) { return pci("00000000:C1:00.0"), lib.SUCCESS }
	d.GetGpuFabricInfoFunc = ok(lib.GpuFabricInfo{State: lib.GPU_FABRIC_STATE_IN_PROGRESS, CliqueId: 3, ClusterUuid: [16]uint8{1, 2}})
	d.GetFieldValuesFunc = func(f []lib.FieldValue) lib.Return {
		binary.LittleEndian.PutUint32(f[0].Value[:], 4)
		return lib.SUCCESS
	}
	d.GetComputeRunningProcessesFunc = ok([]lib.ProcessInfo{{Pid: 41, UsedGpuMemory: 1 << 30}, {Pid: 42, UsedGpuMemory: ^uint64(0)}})
	mask := uint32(0x100)
	g := newReader(s, func(lib.Device) *uint32 { return &mask }).report(t.Context(), "n1", 0).GPUs[0]
	for what, good := range map[string]bool{
		"identity":                  g.PCI == "0000:9b:00.0" && *g.NUMA == 1 && g.Serial == "165" && *g.Persistence && g.Architecture == "Hopper",
		"load":                      *g.UtilGPU == 97 && *g.UtilMemory == 40 && *g.SMClock == 1005 && *g.SMClockMax == 1980 && *g.MemoryClock == 2619,
		"reasons by the older name": *g.EventReasons == 0x60,
		"heat and power":            *g.Temperature == 88 && *g.Slowdown == 87 && *g.Shutdown == 92 && *g.Power == 310_000 && *g.PowerLimit == 500_000 && *g.PowerDefault == 700_000,
		"memory":                    *g.ECC.Enabled && *g.ECC.UncorrectedAggregate == 3 && *g.ECC.UncorrectedVolatile == 0 && *g.ECC.SRAMThreshold && g.Remap.Pending && !g.Remap.Failed && g.Remap.Uncorrected == 2 && g.Remap.Banks.None == 1,
		"PCIe":                      *g.PCIe.Width == 8 && *g.PCIe.WidthMax == 16 && *g.PCIe.Replays == 12,
		"links":                     len(g.NVLink) == 18 && !g.NVLink[4].Active && g.NVLink[4].Recovery == nil && *g.NVLink[2].Recovery == 7 && g.NVLink[0].Remote == "0000:c1:00.0",
		"fabric":                    g.Fabric.State == nvml.FabricInProgress && g.Fabric.Clique == 3 && strings.HasPrefix(g.Fabric.Cluster, "01020000-") && *g.Fabric.Health == 0x100,
		"recovery":                  *g.Recovery == 4,
		"processes":                 len(g.Processes) == 2 && *g.Processes[0].Memory == 1<<30 && g.Processes[1].Memory == nil,
	} {
		if !good {
			t.Errorf("%s: %+v", what, g)
		}
	}
}

func TestLostGPUs(t *testing.T) {
	t.Parallel()
	s, ds := dgx(t, dgxa100.New())
	// One is refused at the door, one is lost while it is read.
	plain := s.DeviceGetHandleByIndexFunc
	s.DeviceGetHandleByIndexFunc = func(i int) (lib.Device, lib.Return) {
		switch i {
		case 2:
			return nil, lib.ERROR_GPU_IS_LOST
		case 3:
			return nil, lib.ERROR_NO_PERMISSION
		}
		return plain(i)
	}
	ds[5].GetSerialFunc = func() (string, lib.Return) { return "", lib.ERROR_GPU_IS_LOST }
	ds[6].GetSerialFunc = func() (string, lib.Return) { return "", lib.ERROR_RESET_REQUIRED }
	ds[5].GetPowerUsageFunc = func() (uint32, lib.Return) { t.Error("a lost GPU is asked on"); return 0, lib.SUCCESS }
	gs := newReader(s, nil).report(t.Context(), "n1", 0).GPUs
	if !gs[2].Lost || gs[3].Lost || !strings.Contains(gs[3].Error, "may not open") || !gs[5].Lost || gs[5].UUID == "" || gs[6].Lost || !strings.Contains(gs[6].Error, "reset") || gs[7].Error != "" {
		t.Errorf("%+v", gs)
	}
}

func TestMIG(t *testing.T) {
	t.Parallel()
	s, ds := dgx(t, dgxa100.New())
	ds[1].MigMode = lib.DEVICE_MIG_ENABLE
	ds[1].GetMaxMigDeviceCountFunc = ok(7)
	inst := &mock.Device{GetUUIDFunc: ok("MIG-1"), GetNameFunc: ok("NVIDIA A100-SXM4-40GB MIG 3g.20gb"), GetGpuInstanceIdFunc: ok(2), GetComputeInstanceIdFunc: ok(0)}
	unsupported(inst)
	ds[1].GetMigDeviceHandleByIndexFunc = func(i int) (lib.Device, lib.Return) {
		if i == 1 {
			return inst, lib.SUCCESS
		}
		return nil, lib.ERROR_NOT_FOUND
	}
	g := newReader(s, nil).report(t.Context(), "n1", 0).GPUs[1]
	if !g.MIG.Enabled || len(g.MIG.Instances) != 1 || g.MIG.Instances[0] != (nvml.Instance{UUID: "MIG-1", Name: "NVIDIA A100-SXM4-40GB MIG 3g.20gb", GPUInstance: 2}) {
		t.Errorf("%+v", g.MIG)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s, ds := dgx(t, dgxa100.New())
	at := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	calls := 0
	set := &mock.EventSet{FreeFunc: func() lib.Return { return lib.SUCCESS }}
	set.WaitFunc = func(ms uint32) (lib.EventData, lib.Return) {
		calls++
		at = at.Add(time.Duration(ms) * time.Millisecond)
		if calls == 2 {
			return lib.EventData{Device: ds[3], EventType: lib.EventTypeXidCriticalError, EventData: 94}, lib.SUCCESS
		}
		return lib.EventData{}, lib.ERROR_TIMEOUT
	}
	s.EventSetCreateFunc = func() (lib.EventSet, lib.Return) { return set, lib.SUCCESS }
	for i, d := range ds {
		d.RegisterEventsFunc = func(mask uint64, _ lib.EventSet) lib.Return {
			if mask != lib.EventTypeXidCriticalError {
				t.Errorf("mask %#x", mask)
			}
			if i == 7 {
				return lib.ERROR_NOT_SUPPORTED
			}
			return lib.SUCCESS
		}
	}
	r := newReader(s, nil)
	r.now = func() time.Time { return at }
	rep := r.report(t.Context(), "n1", 3*time.Second)
	if len(rep.XIDs) != 1 || rep.XIDs[0].Code != 94 || rep.XIDs[0].UUID != ds[3].UUID || calls != 6 || len(set.FreeCalls()) != 1 {
		t.Errorf("%+v after %d waits", rep.XIDs, calls)
	}
	if len(rep.Errors) != 1 || !strings.Contains(rep.Errors[0], "GPU 7") {
		t.Errorf("%q", rep.Errors)
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	for ret, want := range map[lib.Return]string{
		lib.ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not found", lib.ERROR_DRIVER_NOT_LOADED: "not loaded", lib.ERROR_NO_PERMISSION: "nvidiactl", lib.ERROR_UNKNOWN: "code 999",
	} {
		// Everything but Init panics when it is called.
		l := &mock.Interface{InitFunc: func() lib.Return { return ret }}
		var out bytes.Buffer
		err := run(t.Context(), nil, &out, &out, func(string) lib.Interface { return l })
		if err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%d: %v %q, want %s", int(ret), err, out.String(), want)
		}
	}
	for args, want := range map[string]string{
		"--every 1m": "--every needs --out", "--out x --node=": "--out needs --node", "--node ../x": "not the name of a node", "more": `"more"`, "--watch -1s": "negative", "--odd": "odd",
	} {
		if err := run(t.Context(), strings.Fields(args), &bytes.Buffer{}, &bytes.Buffer{}, func(string) lib.Interface { t.Error("the library is opened"); return nil }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func TestWrites(t *testing.T) {
	t.Parallel()
	s, _ := dgx(t, dgxa100.New())
	open := func(string) lib.Interface { return s }
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--node", "n1"}, &out, &out, open); err != nil {
		t.Fatal(err)
	}
	if rep, err := nvml.Read(&out); err != nil || len(rep.GPUs) != 8 {
		t.Fatalf("%v %+v", err, rep)
	}
	dir := t.TempDir()
	if err := run(t.Context(), []string{"--node", "n1", "--out", dir}, &out, &out, open); err != nil {
		t.Fatal(err)
	}
	rep, found, err := nvml.NewDir(os.DirFS(dir)).Report("n1")
	if err != nil || !found || rep.Node != "n1" || len(rep.GPUs) != 8 {
		t.Fatalf("%v %v %+v", err, found, rep)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("%v %v", files, err)
	}
	if err := run(t.Context(), []string{"--node", "n1", "--out", filepath.Join(dir, "gone")}, &out, &out, open); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// The program itself, with no driver and with a driver that lacks almost all: it
// ends with a sentence, never with a symbol lookup error.
func TestProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	build := func(name string, arg ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, arg...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	bin, old := filepath.Join(dir, "gumshoe-nvml"), filepath.Join(dir, "libnvidia-ml.so.1")
	build("go", "build", "-o", bin, ".")
	build("gcc", "-shared", "-fPIC", "-Wno-stringop-truncation", "-o", old, "testdata/olddriver.c")

	out, err := exec.CommandContext(t.Context(), bin, "--library", filepath.Join(dir, "nowhere.so")).CombinedOutput()
	if e, is := errors.AsType[*exec.ExitError](err); !is || e.ExitCode() != 1 || !strings.Contains(string(out), "is not found") {
		t.Errorf("without a driver: %v %s", err, out)
	}
	raw, err := exec.CommandContext(t.Context(), bin, "--library", old, "--node", "n1", "--watch", "10ms").Output()
	if err != nil {
		t.Fatalf("with an old driver: %v", err)
	}
	rep, err := nvml.Read(bytes.NewReader(raw))
	if err != nil || rep.Driver != "450.00" || len(rep.GPUs) != 2 {
		t.Fatalf("%v %s", err, raw)
	}
	if g := rep.GPUs[0]; g.UUID != "GPU-0000aaaa-0000-4000-8000-000000000001" || g.Name != "Stand-in" || g.Power != nil || g.ECC != nil || !rep.GPUs[1].Lost {
		t.Errorf("%+v", rep.GPUs)
	}
	if len(rep.Errors) != 1 || !strings.Contains(rep.Errors[0], "no events") {
		t.Errorf("%q", rep.Errors)
	}
}
