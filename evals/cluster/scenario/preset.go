package scenario

import (
	"cmp"
	"fmt"
)

// fill completes a group from its preset.
func (g *Group) fill() error {
	gpu := func(product, arch, memory string) Devices {
		return Devices{Driver: "gpu.nvidia.com", Name: "gpu", PerNode: 8, PCIeGroup: 1, Numa: 2,
			Attributes: map[string]string{"type": "gpu", "productName": product, "architecture": arch, "driverVersion": "version:570.86.15"},
			Capacity:   map[string]string{"memory": memory}}
	}
	var devices []Devices
	switch g.Preset {
	case "":
		return nil
	case "h100":
		devices = []Devices{gpu("NVIDIA H100 80GB HBM3", "Hopper", "81559Mi")}
	case "a100":
		devices = []Devices{gpu("NVIDIA A100-SXM4-80GB", "Ampere", "81920Mi")}
	case "nic":
		// As on virtualised platforms: GPUs and NICs share NUMA nodes and no PCIe root.
		h := gpu("NVIDIA H100 80GB HBM3", "Hopper", "81559Mi")
		devices = []Devices{h, {Driver: "dra.net", Name: "nic", PerNode: 8, PCIeGroup: 1, PCIePrefix: "pci0101:", Numa: 2,
			Attributes: map[string]string{"rdma": "bool:true", "type": "device", "mtu": "int:4092"}}}
	case "cpu":
	default:
		return fmt.Errorf("node group %s: preset %q is none of h100, a100, nic, cpu", g.Prefix, g.Preset)
	}
	g.Prefix = cmp.Or(g.Prefix, g.Preset)
	g.Count = cmp.Or(g.Count, 2)
	if len(g.Devices) == 0 {
		g.Devices = devices
	}
	if g.Labels == nil && g.Preset != "cpu" {
		g.Labels = map[string]string{"nvidia.com/gpu.present": "true"}
	}
	return nil
}
