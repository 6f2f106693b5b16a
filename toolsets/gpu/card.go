package gpu

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

// card is one physical GPU as all sources together know it.
type card struct {
	ref  incident.Ref
	node string
	// index is the exporter's number of the GPU on its node; the rest is empty
	// where no source tells.
	index, uuid, pci, model, driver string
	parts                           []part
	holders                         []holder
	// series by signal of the alias table, over the window of the telemetry.
	series  map[string][]metric.Series
	nvml    *nvml.GPU
	reports []report
	taints  []taint
	// maybe are pods that hold some GPUs of the node, perhaps this one.
	maybe []*corev1.Pod
	// published says that a ResourceSlice offers it.
	published bool
}

// part is a MIG instance.
type part struct {
	ref           incident.Ref
	uuid, profile string
}

// taint is a device taint in a ResourceSlice.
type taint struct {
	key, value, effect string
	added              time.Time
}

// holder is a pod that has the card, or an instance of it.
type holder struct {
	pod incident.Ref
	// claim is zero where a device plugin gave the card.
	claim incident.Ref
	// device is what the claim names: the card or an instance of it.
	device incident.Ref
	// how is the source: "claim", "exporter labels", "all GPUs of the node".
	how string
	obj *corev1.Pod
}

// report is one XID that a source tells of.
type report struct {
	xid.Line
	row xid.Row
	// first is zero where the source only knows that it was before the window.
	first, last time.Time
	// from is the source in words.
	from string
	// pod is the workload that the source names, "namespace/name".
	pod string
	// current says that a source that clears itself still shows it: a condition,
	// a taint, the recovery action.
	current bool
}

// machine is one node.
type machine struct {
	name  string
	node  *corev1.Node
	pods  []*corev1.Pod
	cards []*card
	tel   telemetry
	// loose are XIDs that no card could be tied to.
	loose []report
	// rebooted is when the node was last seen to boot.
	rebooted time.Time
	// notes say what could not be read.
	notes []string
	nvml  *nvml.Report
}

// find gives the card of a UUID or a bus id.
func (m *machine) find(uuid, pci string) *card {
	for _, c := range m.cards {
		if uuid != "" && (strings.EqualFold(c.uuid, uuid) || slices.ContainsFunc(c.parts, func(p part) bool { return strings.EqualFold(p.uuid, uuid) })) {
			return c
		}
	}
	for _, c := range m.cards {
		if pci != "" && c.pci != "" && xid.BusID(c.pci) == xid.BusID(pci) {
			return c
		}
	}
	return nil
}

// byDevice gives the card of a DRA device, which may be an instance of it.
func (m *machine) byDevice(ref incident.Ref) *card {
	for _, c := range m.cards {
		if c.ref == ref || slices.ContainsFunc(c.parts, func(p part) bool { return p.ref == ref }) {
			return c
		}
	}
	return nil
}

// order sorts the cards by what people call them, and names those that no slice
// names.
func (m *machine) order(t *Toolset) {
	slices.SortStableFunc(m.cards, func(a, b *card) int {
		ai, aerr := strconv.Atoi(a.index)
		bi, berr := strconv.Atoi(b.index)
		if aerr == nil && berr == nil && ai != bi {
			return cmp.Compare(ai, bi)
		}
		return cmp.Or(cmp.Compare(a.ref.Device, b.ref.Device), cmp.Compare(a.pci, b.pci), cmp.Compare(a.uuid, b.uuid))
	})
	for _, c := range m.cards {
		t.name(c)
	}
}

// name gives a card a reference where no slice does.
func (t *Toolset) name(c *card) {
	if !c.ref.IsZero() {
		return
	}
	name := c.uuid
	if name == "" && c.pci != "" {
		name = "pci-" + c.pci
	}
	if name == "" {
		name = "gpu-" + c.index
	}
	c.ref = incident.DeviceRef(t.Cluster, vendor(c), c.node, name)
}

// vendor stands for the driver of a card that no DRA driver publishes.
func vendor(c *card) string {
	if strings.Contains(strings.ToLower(c.model), "amd") || strings.Contains(strings.ToLower(c.model), "instinct") {
		return "amd.com/gpu"
	}
	return "nvidia.com/gpu"
}

// label names a card for people: "GPU 3 (GPU-5a..., NVIDIA H100 80GB HBM3) of node n1".
func (c *card) label() string {
	var b strings.Builder
	b.WriteString("GPU ")
	switch {
	case c.published:
		b.WriteString(c.ref.Device)
	case c.index != "":
		b.WriteString(c.index)
	default:
		b.WriteString(c.ref.Device)
	}
	var in []string
	if c.uuid != "" && c.uuid != c.ref.Device || c.uuid != "" && c.index != "" {
		in = append(in, c.uuid)
	}
	if c.model != "" {
		in = append(in, c.model)
	}
	if len(in) > 0 {
		b.WriteString(" (" + strings.Join(in, ", ") + ")")
	}
	b.WriteString(" of node " + c.node)
	return b.String()
}

// short names a card in a list.
func (c *card) short() string {
	switch {
	case c.published:
		return c.ref.Device
	case c.index != "":
		return c.index
	case c.uuid != "":
		return c.uuid
	}
	return c.ref.Device
}

// generation of the card's silicon, empty if unknown.
func (c *card) generation() string {
	if c.nvml != nil && c.nvml.Architecture != "" {
		return c.nvml.Architecture
	}
	return xid.Generation(c.model)
}

// heldBy reports whether a pod has the card.
func (c *card) heldBy(pod incident.Ref) bool {
	return slices.ContainsFunc(c.holders, func(h holder) bool { return h.pod == pod })
}

// hold adds a holder once; a claim says more than a label.
func (c *card) hold(h holder) {
	for i, o := range c.holders {
		if o.pod == h.pod && (o.device == h.device || o.device.IsZero() || h.device.IsZero()) {
			if o.claim.IsZero() && !h.claim.IsZero() {
				c.holders[i] = h
			}
			return
		}
	}
	c.holders = append(c.holders, h)
}

// edgesOf is the way from a pod to the card it holds, through its claim.
func (c *card) edgesOf(h holder) []incident.Edge {
	var es []incident.Edge
	from, rel := h.pod, graph.Uses
	if !h.claim.IsZero() {
		es = append(es, incident.Edge{From: h.pod, Relation: graph.Claims, To: h.claim})
		from, rel = h.claim, graph.Allocated
	}
	if h.device.IsZero() || h.device == c.ref {
		return append(es, incident.Edge{From: from, Relation: rel, To: c.ref})
	}
	return append(es, incident.Edge{From: from, Relation: rel, To: h.device}, incident.Edge{From: h.device, Relation: graph.PartOf, To: c.ref})
}

// mayBe reports whether a pod may hold the card.
func (c *card) mayBe(pod incident.Ref) bool {
	return slices.ContainsFunc(c.maybe, func(p *corev1.Pod) bool { return p.Namespace == pod.Namespace && p.Name == pod.Name })
}
