package gpu

import "github.com/gumshoe-ai/gumshoe/agent/tool"

var _ tool.Describer = (*Toolset)(nil)

// Describe implements tool.Describer.
func (t *Toolset) Describe() tool.Description {
	return tool.Description{
		Reads: "NVIDIA GPUs: dcgm-exporter's series in Prometheus, the conditions and events that node monitors set (node-problem-detector, GPU operator, NVSentinel, AKS), the reports of gumshoe-nvml, and which pod holds which GPU.",
		Rights: []tool.Right{
			{Verbs: []string{"get", "list"}, Resources: []string{"nodes", "pods", "events"}, For: "conditions of GPUs, agents of the GPU operator, XIDs in events"},
			{Verbs: []string{"list"}, Resources: []string{"resourceclaims.resource.k8s.io", "resourceslices.resource.k8s.io"}, For: "which GPU a pod holds by a claim"},
			{Verbs: []string{"query"}, Resources: []string{"Prometheus"}, For: "temperature, clocks, throttling, ECC, NVLink and PCIe of each GPU"},
		},
		Config: "gpu",
		Found:  "Prometheus as toolset prom finds it; reports of gumshoe-nvml in the directory gpu.nvmlDir",
		Sources: []string{
			"NVIDIA XID catalogue and the driver's documentation, one row a code with source, generation and driver range, in xid/table.json",
			"dcgm-exporter's counters and labels, both generations",
			"NVML API reference: clocks event reasons, recovery action, row remapping",
			"thresholds with their sources in limits.json",
		},
	}
}
