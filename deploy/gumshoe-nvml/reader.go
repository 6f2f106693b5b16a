package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	lib "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
)

// reader asks the library. Before each call it asks whether the installed driver
// has it: calling one that is missing ends the process.
type reader struct {
	lib    lib.Interface
	health func(lib.Device) *uint32
	now    func() time.Time
	has    map[string]bool
	errs   []string
}

func newReader(l lib.Interface, health func(lib.Device) *uint32) *reader {
	return &reader{lib: l, health: health, now: time.Now, has: map[string]bool{}}
}

// can reports whether the driver has a function.
func (r *reader) can(symbol string) bool {
	ok, known := r.has[symbol]
	if !known {
		ok = r.lib.Extensions().LookupSymbol(symbol) == nil
		r.has[symbol] = ok
	}
	return ok
}

// get asks one thing. What the driver does not tell is nil, never zero; a GPU that
// is lost is marked so.
func get[T any](r *reader, g *nvml.GPU, symbol string, call func() (T, lib.Return)) *T {
	if g.Lost || !r.can(symbol) {
		return nil
	}
	v, ret := call()
	switch ret {
	case lib.SUCCESS:
		return &v
	case lib.ERROR_GPU_IS_LOST:
		g.Lost, g.Error = true, "GPU is lost"
	case lib.ERROR_RESET_REQUIRED:
		g.Error = "the GPU needs a reset"
	}
	return nil
}

// map1 turns an answer into the type of the report.
func map1[A, B any](a *A, to func(A) B) *B {
	if a == nil {
		return nil
	}
	b := to(*a)
	return &b
}

func whole[T uint32 | int | uint64](v T) float64 { return float64(v) }

func on(s lib.EnableState) bool { return s == lib.FEATURE_ENABLED }

// report looks at every GPU, after it has waited for events if it is to.
func (r *reader) report(ctx context.Context, node string, watch time.Duration) nvml.Report {
	r.errs = nil
	rep := nvml.Report{Format: nvml.Format, Node: node, GPUs: []nvml.GPU{}}
	n := 0
	if !r.can("nvmlDeviceGetCount_v2") && !r.can("nvmlDeviceGetCount") {
		r.errs = append(r.errs, "the driver cannot count its GPUs")
	} else if c, ret := r.lib.DeviceGetCount(); ret == lib.SUCCESS {
		n = c
	} else {
		r.errs = append(r.errs, fmt.Sprintf("count of GPUs: code %d", int(ret)))
	}
	devices := make([]lib.Device, n)
	for i := range n {
		d, ret := r.lib.DeviceGetHandleByIndex(i)
		if ret == lib.SUCCESS {
			devices[i] = d
		}
		rep.GPUs = append(rep.GPUs, nvml.GPU{Index: i, Lost: ret == lib.ERROR_GPU_IS_LOST, Error: handleError(ret)})
	}
	if watch > 0 {
		rep.XIDs = r.wait(ctx, devices, watch)
	}
	for i, d := range devices {
		if d != nil {
			r.gpu(d, &rep.GPUs[i])
		}
	}
	for _, s := range []struct {
		at     *string
		symbol string
		call   func() (string, lib.Return)
	}{{&rep.Driver, "nvmlSystemGetDriverVersion", r.lib.SystemGetDriverVersion}, {&rep.NVML, "nvmlSystemGetNVMLVersion", r.lib.SystemGetNVMLVersion}} {
		if !r.can(s.symbol) {
			continue
		}
		if v, ret := s.call(); ret == lib.SUCCESS {
			*s.at = v
		}
	}
	if r.can("nvmlSystemGetCudaDriverVersion") {
		if v, ret := r.lib.SystemGetCudaDriverVersion(); ret == lib.SUCCESS {
			rep.CUDA = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
		}
	}
	rep.At, rep.Errors = r.now().UTC(), r.errs
	return rep
}

func handleError(ret lib.Return) string {
	switch ret {
	case lib.SUCCESS:
		return ""
	case lib.ERROR_GPU_IS_LOST:
		return "GPU is lost"
	case lib.ERROR_NO_PERMISSION:
		return "this container may not open the GPU"
	}
	return "code " + strconv.Itoa(int(ret))
}

// gpu reads one GPU.
func (r *reader) gpu(d lib.Device, g *nvml.GPU) {
	str := func(at *string, symbol string, call func() (string, lib.Return)) {
		if v := get(r, g, symbol, call); v != nil {
			*at = *v
		}
	}
	str(&g.UUID, "nvmlDeviceGetUUID", d.GetUUID)
	str(&g.Name, "nvmlDeviceGetName", d.GetName)
	str(&g.Serial, "nvmlDeviceGetSerial", d.GetSerial)
	if p := get(r, g, "nvmlDeviceGetPciInfo_v3", d.GetPciInfo); p != nil {
		g.PCI = busID(*p)
	}
	g.Minor = get(r, g, "nvmlDeviceGetMinorNumber", d.GetMinorNumber)
	g.NUMA = get(r, g, "nvmlDeviceGetNumaNodeId", d.GetNumaNodeId)
	if a := get(r, g, "nvmlDeviceGetArchitecture", d.GetArchitecture); a != nil {
		g.Architecture = architecture(*a)
	}
	g.Persistence = map1(get(r, g, "nvmlDeviceGetPersistenceMode", d.GetPersistenceMode), on)
	if u := get(r, g, "nvmlDeviceGetUtilizationRates", d.GetUtilizationRates); u != nil {
		a, b := float64(u.Gpu), float64(u.Memory)
		g.UtilGPU, g.UtilMemory = &a, &b
	}
	if m := get(r, g, "nvmlDeviceGetMemoryInfo", d.GetMemoryInfo); m != nil {
		g.MemoryTotal, g.MemoryUsed = &m.Total, &m.Used
	}
	r.clocks(d, g)
	r.memory(d, g)
	r.links(d, g)
	r.mig(d, g)
	g.Recovery = r.recovery(d, g)
	for _, p := range deref(get(r, g, "nvmlDeviceGetComputeRunningProcesses", d.GetComputeRunningProcesses)) {
		one := nvml.Process{PID: p.Pid}
		// The driver writes all bits where it does not know.
		if p.UsedGpuMemory != ^uint64(0) {
			one.Memory = &p.UsedGpuMemory
		}
		g.Processes = append(g.Processes, one)
	}
}

func deref[T any](p *[]T) []T {
	if p == nil {
		return nil
	}
	return *p
}

// clocks reads clocks, heat and power.
func (r *reader) clocks(d lib.Device, g *nvml.GPU) {
	clk := func(symbol string, call func(lib.ClockType) (uint32, lib.Return), t lib.ClockType) *uint32 {
		return get(r, g, symbol, func() (uint32, lib.Return) { return call(t) })
	}
	g.SMClock = clk("nvmlDeviceGetClockInfo", d.GetClockInfo, lib.CLOCK_SM)
	g.SMClockMax = clk("nvmlDeviceGetMaxClockInfo", d.GetMaxClockInfo, lib.CLOCK_SM)
	g.MemoryClock = clk("nvmlDeviceGetClockInfo", d.GetClockInfo, lib.CLOCK_MEM)
	g.EventReasons = get(r, g, "nvmlDeviceGetCurrentClocksEventReasons", d.GetCurrentClocksEventReasons)
	if g.EventReasons == nil {
		// The name before driver 535.
		g.EventReasons = get(r, g, "nvmlDeviceGetCurrentClocksThrottleReasons", d.GetCurrentClocksThrottleReasons)
	}
	g.Temperature = map1(get(r, g, "nvmlDeviceGetTemperature", func() (uint32, lib.Return) { return d.GetTemperature(lib.TEMPERATURE_GPU) }), whole[uint32])
	at := func(t lib.TemperatureThresholds) *float64 {
		return map1(get(r, g, "nvmlDeviceGetTemperatureThreshold", func() (uint32, lib.Return) { return d.GetTemperatureThreshold(t) }), whole[uint32])
	}
	g.Slowdown, g.Shutdown = at(lib.TEMPERATURE_THRESHOLD_SLOWDOWN), at(lib.TEMPERATURE_THRESHOLD_SHUTDOWN)
	g.Power = get(r, g, "nvmlDeviceGetPowerUsage", d.GetPowerUsage)
	g.PowerLimit = get(r, g, "nvmlDeviceGetEnforcedPowerLimit", d.GetEnforcedPowerLimit)
	g.PowerDefault = get(r, g, "nvmlDeviceGetPowerManagementDefaultLimit", d.GetPowerManagementDefaultLimit)
}

// memory reads ECC counters and the state of row remapping.
func (r *reader) memory(d lib.Device, g *nvml.GPU) {
	count := func(t lib.MemoryErrorType, c lib.EccCounterType) *uint64 {
		return get(r, g, "nvmlDeviceGetTotalEccErrors", func() (uint64, lib.Return) { return d.GetTotalEccErrors(t, c) })
	}
	e := nvml.ECC{
		CorrectedVolatile: count(lib.MEMORY_ERROR_TYPE_CORRECTED, lib.VOLATILE_ECC), UncorrectedVolatile: count(lib.MEMORY_ERROR_TYPE_UNCORRECTED, lib.VOLATILE_ECC),
		CorrectedAggregate: count(lib.MEMORY_ERROR_TYPE_CORRECTED, lib.AGGREGATE_ECC), UncorrectedAggregate: count(lib.MEMORY_ERROR_TYPE_UNCORRECTED, lib.AGGREGATE_ECC),
	}
	e.Enabled = get(r, g, "nvmlDeviceGetEccMode", func() (bool, lib.Return) {
		current, _, ret := d.GetEccMode()
		return on(current), ret
	})
	if s := get(r, g, "nvmlDeviceGetSramEccErrorStatus", d.GetSramEccErrorStatus); s != nil {
		passed := s.BThresholdExceeded != 0
		e.SRAMThreshold = &passed
	}
	if e != (nvml.ECC{}) {
		g.ECC = &e
	}
	g.Remap = get(r, g, "nvmlDeviceGetRemappedRows", func() (nvml.Remap, lib.Return) {
		corrected, uncorrected, pending, failed, ret := d.GetRemappedRows()
		return nvml.Remap{Corrected: corrected, Uncorrected: uncorrected, Pending: pending, Failed: failed}, ret
	})
	if g.Remap != nil {
		g.Remap.Banks = map1(get(r, g, "nvmlDeviceGetRowRemapperHistogram", d.GetRowRemapperHistogram), func(h lib.RowRemapperHistogramValues) nvml.Banks {
			return nvml.Banks{Max: h.Max, High: h.High, Partial: h.Partial, Low: h.Low, None: h.None}
		})
	}
}

// links reads PCIe, NVLink and the fabric behind it.
func (r *reader) links(d lib.Device, g *nvml.GPU) {
	p := nvml.PCIe{
		Gen: get(r, g, "nvmlDeviceGetCurrPcieLinkGeneration", d.GetCurrPcieLinkGeneration), GenMax: get(r, g, "nvmlDeviceGetMaxPcieLinkGeneration", d.GetMaxPcieLinkGeneration),
		Width: get(r, g, "nvmlDeviceGetCurrPcieLinkWidth", d.GetCurrPcieLinkWidth), WidthMax: get(r, g, "nvmlDeviceGetMaxPcieLinkWidth", d.GetMaxPcieLinkWidth),
		Replays: map1(get(r, g, "nvmlDeviceGetPcieReplayCounter", d.GetPcieReplayCounter), func(n int) uint64 { return uint64(max(n, 0)) }),
	}
	if p != (nvml.PCIe{}) {
		g.PCIe = &p
	}
	for i := range lib.NVLINK_MAX_LINKS {
		s := get(r, g, "nvmlDeviceGetNvLinkState", func() (lib.EnableState, lib.Return) { return d.GetNvLinkState(i) })
		if s == nil {
			break // there are no more links
		}
		one := nvml.Link{Link: i, Active: on(*s)}
		count := func(c lib.NvLinkErrorCounter) *uint64 {
			return get(r, g, "nvmlDeviceGetNvLinkErrorCounter", func() (uint64, lib.Return) { return d.GetNvLinkErrorCounter(i, c) })
		}
		if one.Active {
			one.Replay, one.Recovery = count(lib.NVLINK_ERROR_DL_REPLAY), count(lib.NVLINK_ERROR_DL_RECOVERY)
			one.CRCFlit, one.CRCData = count(lib.NVLINK_ERROR_DL_CRC_FLIT), count(lib.NVLINK_ERROR_DL_CRC_DATA)
			if far := get(r, g, "nvmlDeviceGetNvLinkRemotePciInfo_v2", func() (lib.PciInfo, lib.Return) { return d.GetNvLinkRemotePciInfo(i) }); far != nil {
				one.Remote = busID(*far)
			}
		}
		g.NVLink = append(g.NVLink, one)
	}
	f := get(r, g, "nvmlDeviceGetGpuFabricInfo", d.GetGpuFabricInfo)
	if f == nil || f.State == lib.GPU_FABRIC_STATE_NOT_SUPPORTED {
		return
	}
	states := map[uint8]string{lib.GPU_FABRIC_STATE_NOT_STARTED: nvml.FabricNotStarted, lib.GPU_FABRIC_STATE_IN_PROGRESS: nvml.FabricInProgress, lib.GPU_FABRIC_STATE_COMPLETED: nvml.FabricCompleted}
	g.Fabric = &nvml.Fabric{State: states[f.State], Clique: f.CliqueId, Cluster: uuid(f.ClusterUuid)}
	if f.Status != uint32(lib.SUCCESS) {
		g.Fabric.Status = "code " + strconv.Itoa(int(f.Status))
	}
	if r.health != nil && r.can("nvmlDeviceGetGpuFabricInfoV") {
		g.Fabric.Health = r.health(d)
	}
}

// mig reads the mode and the instances.
func (r *reader) mig(d lib.Device, g *nvml.GPU) {
	g.MIG = get(r, g, "nvmlDeviceGetMigMode", func() (nvml.MIG, lib.Return) {
		current, pending, ret := d.GetMigMode()
		return nvml.MIG{Enabled: current == lib.DEVICE_MIG_ENABLE, Pending: pending == lib.DEVICE_MIG_ENABLE}, ret
	})
	if g.MIG == nil || !g.MIG.Enabled {
		return
	}
	n := get(r, g, "nvmlDeviceGetMaxMigDeviceCount", d.GetMaxMigDeviceCount)
	if n == nil || !r.can("nvmlDeviceGetMigDeviceHandleByIndex") {
		return
	}
	for i := range *n {
		m, ret := d.GetMigDeviceHandleByIndex(i)
		if ret != lib.SUCCESS {
			continue // a place that holds no instance
		}
		var one nvml.Instance
		if v := get(r, g, "nvmlDeviceGetUUID", m.GetUUID); v != nil {
			one.UUID = *v
		}
		if v := get(r, g, "nvmlDeviceGetName", m.GetName); v != nil {
			one.Name = *v
		}
		if v := get(r, g, "nvmlDeviceGetGpuInstanceId", m.GetGpuInstanceId); v != nil {
			one.GPUInstance = *v
		}
		if v := get(r, g, "nvmlDeviceGetComputeInstanceId", m.GetComputeInstanceId); v != nil {
			one.ComputeInstance = *v
		}
		g.MIG.Instances = append(g.MIG.Instances, one)
	}
}

// recovery reads the recovery action that the driver names.
func (r *reader) recovery(d lib.Device, g *nvml.GPU) *int {
	return get(r, g, "nvmlDeviceGetFieldValues", func() (int, lib.Return) {
		fields := []lib.FieldValue{{FieldId: lib.FI_DEV_GET_GPU_RECOVERY_ACTION}}
		if ret := d.GetFieldValues(fields); ret != lib.SUCCESS {
			return 0, ret
		}
		if ret := lib.Return(fields[0].NvmlReturn); ret != lib.SUCCESS {
			return 0, ret
		}
		return int(binary.LittleEndian.Uint32(fields[0].Value[:4])), lib.SUCCESS
	})
}

// poll is how long one wait for an event lasts, so that the end is noticed.
const poll = 500 * time.Millisecond

// wait collects XID events until the time is over. Events are delivered only
// while somebody waits.
func (r *reader) wait(ctx context.Context, devices []lib.Device, d time.Duration) []nvml.XID {
	for _, s := range []string{"nvmlEventSetCreate", "nvmlDeviceRegisterEvents", "nvmlEventSetFree"} {
		if !r.can(s) {
			r.errs = append(r.errs, "the driver has no events")
			return nil
		}
	}
	set, ret := r.lib.EventSetCreate()
	if ret != lib.SUCCESS {
		r.errs = append(r.errs, fmt.Sprintf("events: code %d", int(ret)))
		return nil
	}
	defer func() { _ = set.Free() }()
	for i, dev := range devices {
		if dev == nil {
			continue
		}
		if ret := dev.RegisterEvents(lib.EventTypeXidCriticalError, set); ret != lib.SUCCESS {
			r.errs = append(r.errs, fmt.Sprintf("events of GPU %d: code %d", i, int(ret)))
		}
	}
	var out []nvml.XID
	for end := r.now().Add(d); r.now().Before(end) && ctx.Err() == nil; {
		e, ret := set.Wait(uint32(poll.Milliseconds()))
		if ret == lib.ERROR_TIMEOUT {
			continue
		}
		if ret != lib.SUCCESS {
			r.errs = append(r.errs, fmt.Sprintf("wait for events: code %d", int(ret)))
			break
		}
		one := nvml.XID{At: r.now().UTC(), Code: e.EventData}
		if e.Device != nil {
			if id, ret := e.Device.GetUUID(); ret == lib.SUCCESS {
				one.UUID = id
			}
		}
		out = append(out, one)
	}
	return out
}

// busID writes the PCI address as the kernel does, "0000:9b:00.0".
func busID(p lib.PciInfo) string {
	var b strings.Builder
	for _, c := range p.BusId {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	s := strings.ToLower(b.String())
	for len(s) > 12 && s[0] == '0' {
		s = s[1:]
	}
	return s
}

func uuid(raw [16]uint8) string {
	if raw == ([16]uint8{}) {
		return ""
	}
	s := hex.EncodeToString(raw[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// architecture names the generation.
func architecture(a lib.DeviceArchitecture) string {
	return map[lib.DeviceArchitecture]string{
		lib.DEVICE_ARCH_KEPLER: "Kepler", lib.DEVICE_ARCH_MAXWELL: "Maxwell", lib.DEVICE_ARCH_PASCAL: "Pascal", lib.DEVICE_ARCH_VOLTA: "Volta", lib.DEVICE_ARCH_TURING: "Turing",
		lib.DEVICE_ARCH_AMPERE: "Ampere", lib.DEVICE_ARCH_ADA: "Ada", lib.DEVICE_ARCH_HOPPER: "Hopper", lib.DEVICE_ARCH_BLACKWELL: "Blackwell", lib.DEVICE_ARCH_RUBIN: "Rubin",
	}[a]
}
