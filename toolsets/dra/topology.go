package dra

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Standard attributes of k8s.io/dynamic-resource-allocation/deviceattribute.
const (
	pcieRoot = "resource.kubernetes.io/pcieRoot"
	numaNode = "resource.kubernetes.io/numaNode"
	pciBus   = "resource.kubernetes.io/pciBusID"
)

// TopologyIn names a node; without one all are looked at.
type TopologyIn struct {
	Node string `json:"node,omitempty"`
}

// Topology says how devices lie to each other.
type Topology struct {
	Nodes []NodeTopology `json:"nodes" jsonschema:"nodes of equal topology grouped"`
}

// NodeTopology is one sort of node.
type NodeTopology struct {
	Example string          `json:"example"`
	Count   int             `json:"count"`
	Drivers []DriverPlace   `json:"drivers"`
	Align   []AlignmentView `json:"alignment" jsonschema:"pairs of drivers with devices on the node"`
	Notes   []string        `json:"notes"`
}

// DriverPlace is where a driver's devices are.
type DriverPlace struct {
	Driver  string         `json:"driver"`
	Devices int            `json:"devices"`
	Roots   map[string]int `json:"pcie_roots"`
	Numa    map[string]int `json:"numa_nodes"`
	// NumaBy is the attribute that the NUMA node was read from.
	NumaBy  string   `json:"numa_attribute,omitempty"`
	Domains []string `json:"pci_domains"`
	NoRoot  int      `json:"without_pcie_root"`
	NoNuma  int      `json:"without_numa"`
}

// AlignmentView says what two drivers can be aligned by.
type AlignmentView struct {
	Drivers     []string `json:"drivers"`
	SharedRoots []string `json:"shared_pcie_roots"`
	SharedNuma  []string `json:"shared_numa_nodes"`
	Advice      string   `json:"advice"`
}

func (t *Toolset) topologyTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_topology", Text: text("dra_topology"), Effect: tool.Read}, t.topology)
}

func (t *Toolset) topology(ctx context.Context, in TopologyIn) (tool.Output[Topology], error) {
	w, err := t.read.load(ctx)
	if err != nil {
		return tool.Output[Topology]{}, err
	}
	if in.Node != "" && w.byName[in.Node] == nil {
		return tool.Output[Topology]{}, tool.Errorf(tool.NotFound, "node %s does not exist", in.Node)
	}
	out := Topology{Nodes: []NodeTopology{}}
	at := map[string]int{}
	var fs []incident.Finding
	for _, n := range w.nodes {
		if in.Node != "" && n.Name != in.Node || len(w.fleet.onNode[n.Name]) == 0 {
			continue
		}
		nt := nodeTopology(w.fleet, n.Name)
		key := fmt.Sprint(nt.Drivers, nt.Align, nt.Notes)
		if i, ok := at[key]; ok {
			out.Nodes[i].Count++
			continue
		}
		at[key] = len(out.Nodes)
		nt.Example, nt.Count = n.Name, 1
		out.Nodes = append(out.Nodes, nt)
		for _, al := range nt.Align {
			if len(al.SharedRoots) == 0 && len(al.SharedNuma) > 0 && in.Node != "" && hasRoots(nt, al.Drivers) {
				f := finding("dra.alignment_impossible", t.nodeRef(n.Name), 0.5, map[string]string{"attribute": pcieRoot, "reason": al.Advice}, "on node %s: %s", n.Name, al.Advice)
				f.Role = incident.Context
				fs = append(fs, f)
			}
		}
	}
	slices.SortStableFunc(out.Nodes, func(a, b NodeTopology) int { return cmp.Compare(b.Count, a.Count) })
	return tool.Output[Topology]{Data: out, Text: topologyText(&out), Findings: fs}, nil
}

// hasRoots says whether all drivers of a pair publish PCIe roots at all.
func hasRoots(nt NodeTopology, drivers []string) bool {
	for _, d := range nt.Drivers {
		if slices.Contains(drivers, d.Driver) && len(d.Roots) == 0 {
			return false
		}
	}
	return true
}

func nodeTopology(f *fleet, node string) NodeTopology {
	nt := NodeTopology{Drivers: []DriverPlace{}, Align: []AlignmentView{}, Notes: []string{}}
	byDriver := map[string]*DriverPlace{}
	for _, s := range f.onNode[node] {
		if s.gen != s.pool.generation || len(s.devices) == 0 {
			continue
		}
		p := byDriver[s.pool.driver]
		if p == nil {
			p = &DriverPlace{Driver: s.pool.driver, Roots: map[string]int{}, Numa: map[string]int{}, Domains: []string{}}
			byDriver[s.pool.driver] = p
		}
		for i := range s.devices {
			p.take(f, s, &s.devices[i])
		}
	}
	names := slices.Sorted(maps.Keys(byDriver))
	for _, d := range names {
		p := byDriver[d]
		slices.Sort(p.Domains)
		nt.Drivers = append(nt.Drivers, *p)
		if _, bad := p.Numa["-1"]; bad {
			nt.Notes = append(nt.Notes, fmt.Sprintf("driver %s publishes NUMA node -1, which matches every other -1: a driver must leave the attribute out when the node is not known", d))
		}
		if p.NoNuma > 0 && len(p.Numa) == 0 && strings.HasSuffix(d, "nvidia.com") {
			nt.Notes = append(nt.Notes, fmt.Sprintf("driver %s publishes no NUMA node; the NVIDIA driver does from v0.5 on", d))
		}
	}
	for i := range names {
		for j := i + 1; j < len(names); j++ {
			nt.Align = append(nt.Align, alignment(byDriver[names[i]], byDriver[names[j]]))
		}
	}
	return nt
}

func (p *DriverPlace) take(f *fleet, s *slice, d *device) {
	p.Devices++
	if v, ok := f.attr(s, d, pcieRoot); ok {
		p.Roots[v.text]++
	} else {
		p.NoRoot++
	}
	found := false
	for _, name := range []string{numaNode, s.pool.driver + "/numaNode", s.pool.driver + "/numa", "dra.net/numaNode"} {
		if v, ok := f.attr(s, d, name); ok {
			p.Numa[v.text]++
			p.NumaBy, found = name, true
			break
		}
	}
	if !found {
		p.NoNuma++
	}
	for _, name := range []string{pciBus, s.pool.driver + "/pciAddress", s.pool.driver + "/pciBusID", s.pool.driver + "/pciAddr"} {
		if v, ok := f.attr(s, d, name); ok {
			if dom, _, ok := strings.Cut(v.text, ":"); ok && !slices.Contains(p.Domains, dom) {
				p.Domains = append(p.Domains, dom)
			}
			break
		}
	}
}

// alignment applies the rules: roots that are shared serve; roots that are never
// shared while NUMA nodes are mean a virtualised platform, where only NUMA serves.
func alignment(a, b *DriverPlace) AlignmentView {
	v := AlignmentView{Drivers: []string{a.Driver, b.Driver}, SharedRoots: common(a.Roots, b.Roots), SharedNuma: common(a.Numa, b.Numa)}
	sameNuma := a.NumaBy == b.NumaBy && a.NumaBy == numaNode
	switch {
	case len(v.SharedRoots) > 0:
		v.Advice = "matchAttribute " + pcieRoot + " can align them"
	case len(a.Roots) > 0 && len(b.Roots) > 0 && len(v.SharedNuma) > 0 && sameNuma:
		v.Advice = "no PCIe root is shared, as on virtualised platforms: matchAttribute " + pcieRoot + " can never be met; use " + numaNode
	case len(a.Roots) > 0 && len(b.Roots) > 0 && len(v.SharedNuma) > 0:
		v.Advice = "no PCIe root is shared, as on virtualised platforms: matchAttribute " + pcieRoot + " can never be met; NUMA nodes are published as " + a.NumaBy + " and " + b.NumaBy + ", so use selectors per NUMA node"
	case len(a.Roots) > 0 && len(b.Roots) > 0:
		v.Advice = "no PCIe root and no NUMA node is shared: they cannot be aligned by these attributes"
	case len(v.SharedNuma) > 0 && sameNuma:
		v.Advice = lackingRoot(a, b) + " publishes no PCIe root; use " + numaNode
	case len(v.SharedNuma) > 0:
		v.Advice = lackingRoot(a, b) + " publishes no PCIe root; use selectors on " + a.NumaBy + " and " + b.NumaBy
	default:
		v.Advice = "they publish no common topology attribute"
	}
	return v
}

func lackingRoot(a, b *DriverPlace) string {
	if len(a.Roots) == 0 {
		return a.Driver
	}
	return b.Driver
}

func common(a, b map[string]int) []string {
	out := []string{}
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if b[k] > 0 && k != "-1" {
			out = append(out, k)
		}
	}
	return out
}

func topologyText(o *Topology) string {
	if len(o.Nodes) == 0 {
		return "no node publishes devices of its own"
	}
	var b strings.Builder
	for _, n := range o.Nodes {
		fmt.Fprintf(&b, "node %s%s\n", n.Example, others(n.Count))
		for _, d := range n.Drivers {
			fmt.Fprintf(&b, "  %s: %s; PCIe roots %s; NUMA %s%s\n", d.Driver, plural(d.Devices, "device"), countsText(d.Roots, d.NoRoot), countsText(d.Numa, d.NoNuma), prefixed("; PCI domains ", strings.Join(d.Domains, " ")))
		}
		for _, a := range n.Align {
			fmt.Fprintf(&b, "  %s: %s\n", strings.Join(a.Drivers, " with "), a.Advice)
		}
		for _, note := range n.Notes {
			fmt.Fprintf(&b, "  note: %s\n", note)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func countsText(m map[string]int, without int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s×%d", k, m[k]))
	}
	if without > 0 {
		parts = append(parts, fmt.Sprintf("none×%d", without))
	}
	return strings.Join(parts, " ")
}
