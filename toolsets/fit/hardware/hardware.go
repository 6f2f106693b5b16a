// Package hardware is data: which GPUs there are and how much memory they really
// report, which cloud machines carry them and what those cost, each figure with
// its source. A price is never shown without its date.
package hardware

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed gpus.yaml
var gpusYAML []byte

// GPU is one type of GPU.
type GPU struct {
	Name string `json:"name"`
	// All are the words that a device's name must hold to be of this type.
	All []string `json:"all,omitempty"`
	// MiB of memory as NVML and node labels report it.
	MiB int `json:"mib"`
	// GBps is the memory bandwidth, TFLOPS the dense 16-bit tensor rate; 0 where
	// they are not in the table.
	GBps   float64 `json:"gbps,omitempty"`
	TFLOPS float64 `json:"tflops,omitempty"`
	// Capability is the CUDA compute capability, 0 if it has none.
	Capability float64 `json:"cc,omitempty"`
	// Vendor is "amd" where it is not NVIDIA's.
	Vendor string `json:"vendor,omitempty"`
	Source string `json:"source"`
}

// Bytes of memory.
func (g GPU) Bytes() int64 { return int64(g.MiB) << 20 }

// Table is the GPUs that ship, smallest memory first.
type Table struct{ rows []GPU }

// GPUs reads the table.
func GPUs() (Table, error) {
	var rows []GPU
	if err := yaml.UnmarshalStrict(gpusYAML, &rows); err != nil {
		return Table{}, fmt.Errorf("gpus.yaml: %w", err)
	}
	for _, g := range rows {
		if g.Name == "" || len(g.All) == 0 || g.MiB <= 0 || g.Source == "" {
			return Table{}, fmt.Errorf("gpus.yaml: %+v lacks a field", g)
		}
	}
	slices.SortStableFunc(rows, func(a, b GPU) int { return a.MiB - b.MiB })
	return Table{rows: rows}, nil
}

// All lists the GPUs, smallest first.
func (t Table) All() []GPU { return slices.Clone(t.rows) }

// Match is a GPU found by a device's name.
type Match struct {
	GPU
	// MIG is the profile of a slice, "1g.10gb", empty for a whole GPU. The type's
	// memory is then not the slice's.
	MIG string
	// Shared says that the device is offered several times (time-slicing, MPS).
	Shared bool
}

// NotFound says that a name is no known GPU.
type NotFound struct {
	Name string
	// Near are types that come near, for asking back.
	Near []string
}

// Error implements error.
func (e *NotFound) Error() string {
	if len(e.Near) == 0 {
		return fmt.Sprintf("GPU %q is not in the table", e.Name)
	}
	return fmt.Sprintf("GPU %q is not in the table; near: %s", e.Name, strings.Join(e.Near, ", "))
}

// words cuts a device's name: "NVIDIA-A100-SXM4-80GB" is nvidia, a100, sxm4, 80gb.
func words(name string) []string {
	return strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' })
}

// Find reads a name as a person, a node label (nvidia.com/gpu.product) or a DRA
// attribute writes it. A name that leaves the memory open (A100: 40 or 80 GB) is
// not decided: the possibilities come back as near.
func (t Table) Find(name string) (Match, error) {
	have := words(name)
	var m Match
	if i := slices.Index(have, "mig"); i >= 0 {
		if i+1 < len(have) {
			m.MIG = have[i+1]
		}
		have = have[:i]
	}
	if n := len(have); n > 0 && have[n-1] == "shared" {
		m.Shared, have = true, have[:n-1]
	}
	// "80 GB" and "80gb" are alike, and so are "H100NVL" and "H100 NVL".
	var joined []string
	for i, w := range have {
		switch {
		case (w == "gb" || w == "gib") && i > 0:
			joined = append(joined, have[i-1]+"gb")
		case strings.HasSuffix(w, "nvl") && w != "nvl":
			joined = append(joined, strings.TrimSuffix(w, "nvl"), "nvl")
		default:
			joined = append(joined, w)
		}
	}
	best := -1
	for i, g := range t.rows {
		if slices.ContainsFunc(g.All, func(w string) bool { return !slices.Contains(joined, w) }) {
			continue
		}
		if best < 0 || len(g.All) > len(t.rows[best].All) {
			best = i
		}
	}
	if best >= 0 {
		m.GPU = t.rows[best]
		return m, nil
	}
	return Match{}, &NotFound{Name: name, Near: t.near(joined)}
}

// near lists types whose first word is, begins like, or is one letter off a word
// of the name, nearest first.
func (t Table) near(have []string) []string {
	var out []string
	for _, like := range []func(w, first string) bool{
		func(w, first string) bool { return w == first },
		func(w, first string) bool { return strings.HasPrefix(first, w) || strings.HasPrefix(w, first) },
		oneOff,
	} {
		for _, g := range t.rows {
			if slices.Contains(out, g.Name) {
				continue
			}
			if slices.ContainsFunc(have, func(w string) bool { return len(w) > 1 && !common(w) && like(w, g.All[0]) }) {
				out = append(out, g.Name)
			}
		}
	}
	return out[:min(len(out), 4)]
}

// common words say nothing about the type.
func common(w string) bool {
	return slices.Contains([]string{"nvidia", "amd", "tesla", "geforce", "quadro", "rtx", "instinct"}, w)
}

// oneOff reports whether two words of three letters or more differ in one letter
// changed, added or dropped.
func oneOff(a, b string) bool {
	if len(a) < 3 || len(b) < 3 || len(a)-len(b) > 1 || len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	j := 0
	for j < len(a)-i && j < len(b)-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	return max(len(a), len(b))-i-j <= 1
}
