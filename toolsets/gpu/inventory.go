package gpu

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/nvml"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

// machineOf gives the picture of a node, shared for a short while.
func (t *Toolset) machineOf(ctx context.Context, name string) (*machine, error) {
	return t.node.Get(ctx, name, func(ctx context.Context) (*machine, error) { return t.load(ctx, name) })
}

// load reads everything that is said of a node's GPUs. What cannot be read is a
// note; only a node that cannot be read itself is an error.
func (t *Toolset) load(ctx context.Context, name string) (*machine, error) {
	m := &machine{name: name}
	var err error
	if m.node, err = t.Objects.Node(ctx, name); err != nil {
		return nil, err
	}
	t.fromSlices(ctx, m)
	if !gpuNode(m) {
		return m, nil
	}
	if m.pods, err = t.Objects.PodsOnNode(ctx, name); err != nil {
		m.note("pods of the node", err)
	}
	t.fromClaims(ctx, m)
	t.fromNVML(m)
	t.fromMetrics(ctx, m)
	m.order(t)
	t.conditionReports(m)
	t.eventReports(ctx, m)
	t.metricReports(ctx, m)
	t.otherReports(m)
	t.fromPlugin(m)
	return m, nil
}

func (m *machine) note(what string, err error) {
	if tool.KindOf(err) != tool.NotServed {
		m.notes = append(m.notes, what+" not seen: "+tool.UserText(err))
	}
}

// gpuNode reports whether there is anything to look at: slices, capacity, labels
// or conditions that speak of GPUs.
func gpuNode(m *machine) bool {
	if len(m.cards) > 0 || capacity(m.node) > 0 {
		return true
	}
	for k, v := range m.node.Labels {
		if strings.HasPrefix(k, "nvidia.com/") && v != "false" || strings.HasPrefix(k, "feature.node.kubernetes.io/pci-") && strings.Contains(k, "10de") {
			return true
		}
	}
	return slices.ContainsFunc(m.node.Status.Conditions, func(c corev1.NodeCondition) bool { return aboutGPU(string(c.Type)) })
}

// isGPU reports whether an extended resource is a GPU or a slice of one.
func isGPU(name corev1.ResourceName) bool {
	s := string(name)
	return s == "nvidia.com/gpu" || s == "nvidia.com/gpu.shared" || s == "amd.com/gpu" || strings.HasPrefix(s, "nvidia.com/mig-")
}

// capacity is how many GPUs device plugins say a node has, shared ones counted once.
func capacity(n *corev1.Node) int {
	var sum int64
	for name, q := range n.Status.Capacity {
		if isGPU(name) {
			sum += q.Value()
		}
	}
	return int(sum)
}

// fromSlices reads the cards that DRA drivers publish for the node.
func (t *Toolset) fromSlices(ctx context.Context, m *machine) {
	list, err := t.Lists.List(ctx, "resourceslices."+groupDRA, "", "spec.nodeName="+m.name)
	if err != nil {
		m.note("ResourceSlices", err)
		return
	}
	newest := map[string]int64{}
	for _, s := range list {
		key := str(s.Object, "spec", "driver") + "/" + str(s.Object, "spec", "pool", "name")
		gen, _, _ := unstructured.NestedInt64(s.Object, "spec", "pool", "generation")
		newest[key] = max(newest[key], gen)
	}
	var instances []device
	for _, s := range list {
		driver, pool := str(s.Object, "spec", "driver"), str(s.Object, "spec", "pool", "name")
		gen, _, _ := unstructured.NestedInt64(s.Object, "spec", "pool", "generation")
		if gen < newest[driver+"/"+pool] || str(s.Object, "spec", "nodeName") != m.name {
			continue
		}
		for _, d := range devicesOf(s.Object) {
			d.ref = incident.DeviceRef(t.Cluster, driver, pool, d.name)
			switch kind := d.attrs["type"]; {
			case kind == "mig":
				instances = append(instances, d)
			case kind == "gpu" || d.attrs["uuid"] != "" && !slices.Contains([]string{"vfio", "channel", "daemon", "nic", "net"}, kind):
				m.cards = append(m.cards, &card{ref: d.ref, node: m.name, uuid: d.attrs["uuid"], pci: d.attrs["pciBusID"], model: d.attrs["productName"], driver: d.attrs["driverVersion"], index: d.attrs["index"], taints: d.taints, published: true})
			}
		}
	}
	for _, d := range instances {
		c := m.find(d.attrs["parentUUID"], d.attrs["pciBusID"])
		if c == nil {
			c = &card{node: m.name, uuid: d.attrs["parentUUID"], pci: d.attrs["pciBusID"], model: d.attrs["productName"], driver: d.attrs["driverVersion"]}
			// gpu-<minor>-mig-...: the card has a name of the same form.
			if base, _, ok := strings.Cut(d.name, "-mig-"); ok {
				c.ref, c.published = incident.DeviceRef(t.Cluster, d.ref.Driver, d.ref.Pool, base), true
			}
			m.cards = append(m.cards, c)
		}
		c.taints = append(c.taints, d.taints...)
		c.parts = append(c.parts, part{ref: d.ref, uuid: d.attrs["uuid"], profile: d.attrs["profile"]})
	}
}

// device is an entry of a ResourceSlice, of any API version.
type device struct {
	ref    incident.Ref
	name   string
	attrs  map[string]string
	taints []taint
}

// devicesOf reads the devices of a slice. Attributes lose their domain: pcieRoot
// and gpu.nvidia.com/pcieRoot are one here. v1beta1 keeps them under "basic".
func devicesOf(slice map[string]any) []device {
	raw, _, _ := unstructured.NestedSlice(slice, "spec", "devices")
	var out []device
	for _, e := range raw {
		o, ok := e.(map[string]any)
		if !ok {
			continue
		}
		d := device{name: str(o, "name"), attrs: map[string]string{}}
		body := o
		if basic, ok := o["basic"].(map[string]any); ok {
			body = basic
		}
		attrs, _ := body["attributes"].(map[string]any)
		for name, v := range attrs {
			if i := strings.LastIndexByte(name, '/'); i >= 0 {
				name = name[i+1:]
			}
			if val := scalar(v); val != "" {
				d.attrs[name] = val
			}
		}
		taints, _ := body["taints"].([]any)
		for _, e := range taints {
			if o, ok := e.(map[string]any); ok {
				at, _ := time.Parse(time.RFC3339, str(o, "timeAdded"))
				d.taints = append(d.taints, taint{key: str(o, "key"), value: str(o, "value"), effect: str(o, "effect"), added: at})
			}
		}
		out = append(out, d)
	}
	return out
}

// scalar reads an attribute's value, which is an object of one typed field.
func scalar(v any) string {
	o, _ := v.(map[string]any)
	for _, x := range o {
		switch x := x.(type) {
		case string:
			return x
		case int64:
			return strconv.FormatInt(x, 10)
		case float64:
			return strconv.FormatFloat(x, 'f', -1, 64)
		case bool:
			return strconv.FormatBool(x)
		}
	}
	return ""
}

// str reads a string at a path, empty where there is none.
func str(o map[string]any, path ...string) string {
	s, _, _ := unstructured.NestedString(o, path...)
	return s
}

// claimsOf lists the names of a pod's claims: named ones, generated ones and that
// of its extended resources.
func claimsOf(p *corev1.Pod) []string {
	var out []string
	add := func(name string) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, c := range p.Spec.ResourceClaims {
		if c.ResourceClaimName != nil {
			add(*c.ResourceClaimName)
		}
	}
	for _, s := range p.Status.ResourceClaimStatuses {
		if s.ResourceClaimName != nil {
			add(*s.ResourceClaimName)
		}
	}
	if s := p.Status.ExtendedResourceClaimStatus; s != nil {
		add(s.ResourceClaimName)
	}
	return out
}

// maxClaims bounds how many claims are read one by one for a node.
const maxClaims = 200

// fromClaims ties cards to the pods whose claims hold them.
func (t *Toolset) fromClaims(ctx context.Context, m *machine) {
	read := 0
	for _, p := range m.pods {
		if over(p) {
			continue
		}
		for _, name := range claimsOf(p) {
			if read++; read > maxClaims {
				continue
			}
			c, err := t.Details.Get(ctx, t.claimRef(p.Namespace, name))
			if err != nil {
				if tool.KindOf(err) != tool.NotFound {
					m.note("claim "+p.Namespace+"/"+name, err)
				}
				continue
			}
			for _, ref := range t.allocated(c.Object) {
				known := m.byDevice(ref)
				if known == nil {
					if ref.Pool != m.name || !strings.HasPrefix(ref.Driver, "gpu.") {
						continue
					}
					// Allocated, and no slice offers it any more.
					known = &card{ref: ref, node: m.name, published: true}
					m.cards = append(m.cards, known)
				}
				known.hold(holder{pod: t.podRef(p.Namespace, p.Name), claim: t.claimRef(p.Namespace, name), device: ref, how: "claim " + name, obj: p})
			}
		}
	}
}

// allocated lists the devices of a claim's allocation.
func (t *Toolset) allocated(claim map[string]any) []incident.Ref {
	raw, _, _ := unstructured.NestedSlice(claim, "status", "allocation", "devices", "results")
	var out []incident.Ref
	for _, e := range raw {
		if o, ok := e.(map[string]any); ok {
			out = append(out, incident.DeviceRef(t.Cluster, str(o, "driver"), str(o, "pool"), str(o, "device")))
		}
	}
	return out
}

// over reports whether a pod has ended and holds nothing any more.
func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// fromNVML adds what gumshoe-nvml printed.
func (t *Toolset) fromNVML(m *machine) {
	if t.NVML == nil {
		return
	}
	r, ok, err := t.NVML.Report(m.name)
	if err != nil {
		m.notes = append(m.notes, "NVML not seen: "+err.Error())
		return
	}
	if !ok {
		return
	}
	if age := t.Now().Sub(r.At); age > nvmlAge || age < -nvmlAge {
		m.notes = append(m.notes, "NVML not used: the report is of "+r.At.UTC().Format(time.RFC3339))
		return
	}
	m.nvml = &r
	for i := range r.GPUs {
		g := &r.GPUs[i]
		c := m.find(g.UUID, g.PCI)
		if c == nil {
			c = &card{node: m.name}
			m.cards = append(m.cards, c)
		}
		c.nvml = g
		c.learn(strconv.Itoa(g.Index), g.UUID, g.PCI, g.Name, r.Driver)
		if g.MIG != nil {
			c.instances(g.MIG)
		}
	}
}

// nvmlAge is how old a report of gumshoe-nvml may be: it tells of a moment.
const nvmlAge = 30 * time.Minute

// learn fills in what a further source knows of a card.
func (c *card) learn(index, uuid, pci, model, driver string) {
	for _, f := range []struct {
		at  *string
		val string
	}{{&c.index, index}, {&c.uuid, uuid}, {&c.pci, pci}, {&c.model, model}, {&c.driver, driver}} {
		if *f.at == "" {
			*f.at = f.val
		}
	}
}

func (c *card) instances(g *nvml.MIG) {
	for _, i := range g.Instances {
		if !slices.ContainsFunc(c.parts, func(p part) bool { return strings.EqualFold(p.uuid, i.UUID) }) {
			c.parts = append(c.parts, part{uuid: i.UUID, profile: i.Name})
		}
	}
}

// fromPlugin ties cards to the pods that got GPUs from a device plugin and that no
// label names: surely where a pod has all of the node's, else perhaps.
func (t *Toolset) fromPlugin(m *machine) {
	total := capacity(m.node)
	if total == 0 {
		return
	}
	shared := m.node.Labels["nvidia.com/gpu.sharing-strategy"]
	mapped := map[incident.Ref]bool{}
	for _, c := range m.cards {
		for _, h := range c.holders {
			mapped[h.pod] = true
		}
	}
	for _, p := range m.pods {
		ref := t.podRef(p.Namespace, p.Name)
		n := requested(p)
		if n == 0 || over(p) || mapped[ref] {
			continue
		}
		all := n == total && (shared == "" || shared == "none")
		for _, c := range m.cards {
			if all {
				c.hold(holder{pod: ref, obj: p, how: "all GPUs of the node"})
			} else if len(c.holders) == 0 || shared != "" {
				c.maybe = append(c.maybe, p)
			}
		}
	}
}

// requested is how many GPUs or instances a pod asks device plugins for.
func requested(p *corev1.Pod) int {
	var sum int64
	for i := range p.Spec.Containers {
		for name, q := range p.Spec.Containers[i].Resources.Limits {
			if isGPU(name) {
				sum += q.Value()
			}
		}
	}
	var most int64
	for i := range p.Spec.InitContainers {
		for name, q := range p.Spec.InitContainers[i].Resources.Limits {
			if isGPU(name) {
				most = max(most, q.Value())
			}
		}
	}
	return int(max(sum, most))
}

// usesGPU reports whether a pod asks for GPUs at all, by resource or by claim.
func usesGPU(p *corev1.Pod) bool { return requested(p) > 0 || len(claimsOf(p)) > 0 }

// otherReports reads the device taints of the NVIDIA DRA driver's health check,
// and what NVML tells of.
func (t *Toolset) otherReports(m *machine) {
	for _, c := range m.cards {
		for _, k := range c.taints {
			switch k.key {
			case "gpu.nvidia.com/xid":
				if code, err := strconv.Atoi(k.value); err == nil && code > 0 {
					t.report(m, c, report{Line: xid.Line{Code: code, PCI: c.pci}, first: k.added, last: k.added, from: "device taint gpu.nvidia.com/xid", current: true})
				}
			case "gpu.nvidia.com/gpu-lost":
				t.report(m, c, report{Line: xid.Line{Code: xid.OffTheBus, PCI: c.pci, Text: "the driver's health check lost the GPU"}, first: k.added, last: k.added, from: "device taint gpu.nvidia.com/gpu-lost", current: true})
			}
		}
	}
	if m.nvml == nil {
		return
	}
	for _, x := range m.nvml.XIDs {
		t.report(m, m.find(x.UUID, ""), report{Line: xid.Line{Code: int(min(x.Code, 1<<20)), UUID: x.UUID}, first: x.At, last: x.At, from: "NVML event", current: true})
	}
}

// report files an XID with its card, or with the node where no card is known.
// The same code from several sources is one report that keeps the earliest and
// the latest time.
func (t *Toolset) report(m *machine, c *card, r report) {
	at := &m.loose
	gen := ""
	if c != nil {
		at, gen = &c.reports, c.generation()
	}
	r.row, _ = t.table.Find(r.Code, gen)
	for i := range *at {
		o := &(*at)[i]
		if o.Code != r.Code || o.NVSwitch != r.NVSwitch || !near(o, &r) {
			continue
		}
		if !r.first.IsZero() && (o.first.IsZero() || r.first.Before(o.first)) {
			o.first = r.first
		}
		if r.last.After(o.last) {
			o.last = r.last
		}
		if !strings.Contains(o.from, r.from) {
			o.from += ", " + r.from
		}
		o.current = o.current || r.current
		for _, f := range []struct{ at, val *string }{{&o.Process, &r.Process}, {&o.Recovery, &r.Recovery}, {&o.Text, &r.Text}, {&o.UUID, &r.UUID}, {&o.pod, &r.pod}} {
			if *f.at == "" {
				*f.at = *f.val
			}
		}
		return
	}
	*at = append(*at, r)
}

// near reports whether two tellings of one code may be of one error: unknown
// times forbid nothing.
func near(a, b *report) bool {
	if a.first.IsZero() || b.first.IsZero() {
		return true
	}
	return !a.first.After(b.last.Add(sameError)) && !b.first.After(a.last.Add(sameError))
}

// sameError is how far apart sources tell of one error: monitors poll for up to
// half an hour.
const sameError = 35 * time.Minute
