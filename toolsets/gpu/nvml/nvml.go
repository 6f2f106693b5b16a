// Package nvml reads what gumshoe-nvml prints: the state of one node's GPUs as
// the driver's own library tells it, in JSON. It imports the standard library
// only and never the driver's library, so that the agent stays free of cgo.
package nvml

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Format is the version of the schema that this package reads.
const Format = 1

// Bounds of one report, against hostile files.
const (
	maxBytes = 8 << 20
	maxGPUs  = 256
	maxLinks = 64
)

// Report is one look at one node. A pointer that is nil means that the driver
// does not tell: unknown, never zero.
type Report struct {
	Format int `json:"format"`
	// Node is the name of the Kubernetes node.
	Node string    `json:"node"`
	At   time.Time `json:"at"`
	// Driver and NVML are versions as the driver writes them, CUDA is "13.0".
	Driver string `json:"driver,omitempty"`
	NVML   string `json:"nvml,omitempty"`
	CUDA   string `json:"cuda,omitempty"`
	GPUs   []GPU  `json:"gpus"`
	// XIDs that came in while the program waited for events.
	XIDs []XID `json:"xids,omitempty"`
	// Errors are looks that failed, in the library's words.
	Errors []string `json:"errors,omitempty"`
}

// GPU is one device. Units: bytes, MHz, milliwatt, degrees Celsius, percent.
type GPU struct {
	Index  int    `json:"index"`
	UUID   string `json:"uuid,omitempty"`
	Name   string `json:"name,omitempty"`
	Serial string `json:"serial,omitempty"`
	// PCI bus id, "0000:9b:00.0".
	PCI          string `json:"pci,omitempty"`
	Minor        *int   `json:"minor,omitempty"`
	NUMA         *int   `json:"numa,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	// Lost says that the library no longer reaches the GPU (GPU_IS_LOST).
	Lost bool `json:"lost,omitempty"`
	// Error is why nothing more is known of the GPU.
	Error       string `json:"error,omitempty"`
	Persistence *bool  `json:"persistence,omitempty"`

	UtilGPU     *float64 `json:"util_gpu,omitempty"`
	UtilMemory  *float64 `json:"util_memory,omitempty"`
	MemoryTotal *uint64  `json:"memory_total,omitempty"`
	MemoryUsed  *uint64  `json:"memory_used,omitempty"`

	SMClock     *uint32 `json:"sm_clock,omitempty"`
	SMClockMax  *uint32 `json:"sm_clock_max,omitempty"`
	MemoryClock *uint32 `json:"memory_clock,omitempty"`
	// EventReasons is the bit mask of why clocks are held down.
	EventReasons *uint64 `json:"event_reasons,omitempty"`

	Temperature  *float64 `json:"temperature,omitempty"`
	Slowdown     *float64 `json:"temperature_slowdown,omitempty"`
	Shutdown     *float64 `json:"temperature_shutdown,omitempty"`
	Power        *uint32  `json:"power,omitempty"`
	PowerLimit   *uint32  `json:"power_limit,omitempty"`
	PowerDefault *uint32  `json:"power_limit_default,omitempty"`

	ECC    *ECC   `json:"ecc,omitempty"`
	Remap  *Remap `json:"remap,omitempty"`
	PCIe   *PCIe  `json:"pcie,omitempty"`
	NVLink []Link `json:"nvlink,omitempty"`
	// Fabric is the state of the NVSwitch fabric as the GPU sees it.
	Fabric *Fabric `json:"fabric,omitempty"`
	MIG    *MIG    `json:"mig,omitempty"`
	// Recovery is the driver's own recovery action (field 230): 0 none, 1 GPU
	// reset, 2 node reboot, 3 drain P2P, 4 drain and reset, and newer ones.
	Recovery  *int      `json:"recovery,omitempty"`
	Processes []Process `json:"processes,omitempty"`
}

// ECC counts memory errors: volatile since the driver was loaded, aggregate for
// the life of the board.
type ECC struct {
	Enabled              *bool   `json:"enabled,omitempty"`
	CorrectedVolatile    *uint64 `json:"corrected_volatile,omitempty"`
	UncorrectedVolatile  *uint64 `json:"uncorrected_volatile,omitempty"`
	CorrectedAggregate   *uint64 `json:"corrected_aggregate,omitempty"`
	UncorrectedAggregate *uint64 `json:"uncorrected_aggregate,omitempty"`
	// SRAMThreshold says that the threshold of SRAM errors is passed.
	SRAMThreshold *bool `json:"sram_threshold,omitempty"`
}

// Remap is the state of row remapping.
type Remap struct {
	Corrected   int  `json:"corrected"`
	Uncorrected int  `json:"uncorrected"`
	Pending     bool `json:"pending"`
	Failed      bool `json:"failed"`
	// Banks by how many spare rows they have left.
	Banks *Banks `json:"banks,omitempty"`
}

// Banks is the histogram of spare rows.
type Banks struct {
	Max     uint32 `json:"max"`
	High    uint32 `json:"high"`
	Partial uint32 `json:"partial"`
	Low     uint32 `json:"low"`
	None    uint32 `json:"none"`
}

// PCIe is the state of the link to the host.
type PCIe struct {
	Gen      *int    `json:"gen,omitempty"`
	GenMax   *int    `json:"gen_max,omitempty"`
	Width    *int    `json:"width,omitempty"`
	WidthMax *int    `json:"width_max,omitempty"`
	Replays  *uint64 `json:"replays,omitempty"`
}

// Link is one NVLink.
type Link struct {
	Link     int     `json:"link"`
	Active   bool    `json:"active"`
	Remote   string  `json:"remote,omitempty"`
	Replay   *uint64 `json:"replay,omitempty"`
	Recovery *uint64 `json:"recovery,omitempty"`
	CRCFlit  *uint64 `json:"crc_flit,omitempty"`
	CRCData  *uint64 `json:"crc_data,omitempty"`
}

// States of the fabric.
const (
	FabricNotSupported = "not supported"
	FabricNotStarted   = "not started"
	FabricInProgress   = "in progress"
	FabricCompleted    = "completed"
)

// Fabric is the registration of a GPU with its NVSwitch fabric.
type Fabric struct {
	State string `json:"state"`
	// Status is the library's word for how the registration ended.
	Status  string `json:"status,omitempty"`
	Clique  uint32 `json:"clique"`
	Cluster string `json:"cluster,omitempty"`
	// Health is the mask of the fabric's health; nil where it is not told.
	Health *uint32 `json:"health,omitempty"`
}

// MIG says whether the GPU is cut into instances.
type MIG struct {
	Enabled bool `json:"enabled"`
	// Pending is the mode after the next reset.
	Pending   bool       `json:"pending"`
	Instances []Instance `json:"instances,omitempty"`
}

// Instance is one MIG device.
type Instance struct {
	UUID            string `json:"uuid,omitempty"`
	Name            string `json:"name,omitempty"`
	GPUInstance     int    `json:"gpu_instance"`
	ComputeInstance int    `json:"compute_instance"`
}

// Process runs on a GPU. Its PID is that of the host.
type Process struct {
	PID    uint32  `json:"pid"`
	Memory *uint64 `json:"memory,omitempty"`
}

// XID is an error event the driver reported while the program waited.
type XID struct {
	At   time.Time `json:"at"`
	UUID string    `json:"uuid,omitempty"`
	Code uint64    `json:"code"`
}

// Read decodes a report. Fields that it does not know are passed over; a format
// that it does not know is refused.
func Read(r io.Reader) (Report, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return Report{}, fmt.Errorf("nvml report: %w", err)
	}
	if len(raw) > maxBytes {
		return Report{}, fmt.Errorf("nvml report: more than %d bytes", maxBytes)
	}
	var out Report
	if err := json.Unmarshal(raw, &out); err != nil {
		return Report{}, fmt.Errorf("nvml report: %w", err)
	}
	if out.Format != Format {
		return Report{}, fmt.Errorf("nvml report: format %d, this program reads %d: use the gumshoe-nvml of the same release", out.Format, Format)
	}
	if len(out.GPUs) > maxGPUs {
		return Report{}, fmt.Errorf("nvml report: %d GPUs on one node", len(out.GPUs))
	}
	for i := range out.GPUs {
		if len(out.GPUs[i].NVLink) > maxLinks {
			return Report{}, fmt.Errorf("nvml report: GPU %d has %d links", out.GPUs[i].Index, len(out.GPUs[i].NVLink))
		}
	}
	return out, nil
}

// Dir reads reports from a directory.
type Dir struct {
	fsys fs.FS
	tail string
}

// NewDir reads a directory that holds one file a node, "<node>.json".
func NewDir(fsys fs.FS) *Dir { return &Dir{fsys: fsys, tail: ".json"} }

// NewTree reads a directory that holds one directory a node, "<node>/nvml.json",
// as bundles do.
func NewTree(fsys fs.FS) *Dir { return &Dir{fsys: fsys, tail: "/nvml.json"} }

// Nodes lists the nodes that have a report, in order.
func (d *Dir) Nodes() ([]string, error) {
	files, err := fs.Glob(d.fsys, "*"+d.tail)
	if err != nil {
		return nil, fmt.Errorf("nvml reports: %w", err)
	}
	for i := range files {
		files[i] = strings.TrimSuffix(files[i], d.tail)
	}
	return files, nil
}

// Report gives the report of a node; false when there is none.
func (d *Dir) Report(node string) (Report, bool, error) {
	name := node + d.tail
	if node == "" || !fs.ValidPath(name) {
		return Report{}, false, nil
	}
	f, err := d.fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Report{}, false, nil
	}
	if err != nil {
		return Report{}, false, fmt.Errorf("nvml report of node %s: %w", node, err)
	}
	defer func() { _ = f.Close() }()
	r, err := Read(f)
	if err != nil {
		return Report{}, false, fmt.Errorf("%s: %w", name, err)
	}
	if r.Node != "" && r.Node != node {
		return Report{}, false, fmt.Errorf("%s: the report speaks of node %q", name, r.Node)
	}
	return r, true, nil
}
