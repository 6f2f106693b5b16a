package gpu

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

// HealthIn names a pod (with its namespace), a node, or a GPU.
type HealthIn struct {
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Node      string `json:"node,omitempty"`
	GPU       string `json:"gpu,omitempty" jsonschema:"UUID, PCI address, or name of the device on its node"`
}

// Health is what is known of the GPUs.
type Health struct {
	Node string    `json:"node,omitempty"`
	GPUs []CardOut `json:"gpus"`
	// Telemetry says where the figures come from, or why there are none.
	Telemetry string   `json:"telemetry"`
	Notes     []string `json:"notes"`
	// Peers is set by gpu_stragglers only.
	Software []AgentOut `json:"software" jsonschema:"driver, toolkit, plugins and exporter on the node"`
}

// AgentOut is one part of the node's GPU software.
type AgentOut struct {
	Component string `json:"component"`
	Pod       string `json:"pod"`
	State     string `json:"state"`
}

// CardOut is one GPU. Figures are medians of the last 10 minutes; one that is
// left out is not known.
type CardOut struct {
	Device  string   `json:"device" jsonschema:"driver/pool/device"`
	Index   string   `json:"index,omitempty"`
	UUID    string   `json:"uuid,omitempty"`
	PCI     string   `json:"pci,omitempty"`
	Model   string   `json:"model,omitempty"`
	Driver  string   `json:"driver_version,omitempty"`
	MIG     []string `json:"mig" jsonschema:"profiles of its instances"`
	Pods    []string `json:"pods" jsonschema:"who holds it, and by what that is known"`
	XIDs    []XIDOut `json:"xids"`
	Load    *float64 `json:"load_percent,omitempty"`
	Tensor  *float64 `json:"tensor_active,omitempty"`
	SMClock *float64 `json:"sm_clock_mhz,omitempty"`
	Celsius *float64 `json:"celsius,omitempty"`
	Watts   *float64 `json:"watts,omitempty"`
	PCIe    *float64 `json:"pcie_width,omitempty"`
}

// XIDOut is one error of a GPU.
type XIDOut struct {
	Code    int       `json:"code"`
	Title   string    `json:"title,omitempty"`
	Class   xid.Class `json:"class"`
	First   string    `json:"first,omitempty" jsonschema:"empty: before the first sample"`
	From    string    `json:"from"`
	Process string    `json:"process,omitempty"`
}

func (t *Toolset) healthTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "gpu_health", Text: text("gpu_health"), Effect: tool.Read}, t.health)
}

func (t *Toolset) health(ctx context.Context, in HealthIn) (tool.Output[Health], error) {
	switch {
	case in.Pod != "":
		if in.Namespace == "" {
			return tool.Output[Health]{}, tool.Errorf(tool.Invalid, "a pod has a namespace: give both")
		}
		return t.healthOfPod(ctx, in)
	case in.Node != "":
		return t.healthOfNode(ctx, in)
	case in.GPU != "":
		node, err := t.nodeOf(ctx, in.GPU)
		if err != nil {
			return tool.Output[Health]{}, err
		}
		in.Node = node
		return t.healthOfNode(ctx, in)
	}
	return tool.Output[Health]{}, tool.Errorf(tool.Invalid, "name a pod with its namespace, a node, or a gpu")
}

// healthOfPod judges the GPUs of one pod.
func (t *Toolset) healthOfPod(ctx context.Context, in HealthIn) (tool.Output[Health], error) {
	p, err := t.Objects.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[Health]{}, err
	}
	ref := t.podRef(p.Namespace, p.Name)
	out := Health{GPUs: []CardOut{}, Notes: []string{}, Software: []AgentOut{}, Node: p.Spec.NodeName}
	quiet := func(telemetry, said string) (tool.Output[Health], error) {
		out.Telemetry = telemetry
		return tool.Output[Health]{Data: out, Text: said}, nil
	}
	if p.Spec.NodeName == "" {
		v := t.verdict()
		if err := t.unoffered(ctx, v, p); err != nil {
			out.Notes = append(out.Notes, tool.UserText(err))
		}
		out.Telemetry = "not asked: the pod has no node"
		return tool.Output[Health]{Data: out, Findings: v.findings, Edges: v.edges, Text: v.text(fmt.Sprintf("pod %s/%s has no node yet, so it has no GPU", p.Namespace, p.Name))}, nil
	}
	if over(p) {
		return t.healthOfEnded(ctx, p, out)
	}
	if !usesGPU(p) {
		return quiet("not asked", fmt.Sprintf("pod %s/%s asks for no GPU", p.Namespace, p.Name))
	}
	m, err := t.machineOf(ctx, p.Spec.NodeName)
	if err != nil {
		return tool.Output[Health]{}, err
	}
	own := func(c *card) bool { return c.heldBy(ref) }
	perhaps := func(c *card) bool { return c.mayBe(ref) }
	v := t.verdict()
	v.pod = ref
	v.judge(m, func(c *card) bool { return own(c) || perhaps(c) })
	v.victims(m, ref)
	v.doubtful(m, ref, requested(p))
	v.conditions(m)
	v.software(m)
	v.start(ctx, p, &out)
	// What is only perhaps the pod's says nothing of it by name.
	v.findings = slices.DeleteFunc(v.findings, func(f incident.Finding) bool {
		c := m.byDevice(f.Subject)
		return f.Subject.Kind == "Device" && c != nil && !own(c) && c.mayBe(ref)
	})
	t.fill(&out, m, func(c *card) bool { return own(c) || perhaps(c) })
	return tool.Output[Health]{Data: out, Findings: v.findings, Edges: v.edges, Text: v.text(t.head(m, &out, fmt.Sprintf("pod %s/%s", p.Namespace, p.Name)))}, nil
}

// healthOfEnded looks for the errors that hit a pod that holds nothing any more:
// those that its node tells of while it ran and that name it.
func (t *Toolset) healthOfEnded(ctx context.Context, p *corev1.Pod, out Health) (tool.Output[Health], error) {
	out.Telemetry = "the pod has ended"
	v := t.verdict()
	m, err := t.machineOf(ctx, p.Spec.NodeName)
	if err != nil {
		if tool.KindOf(err) != tool.NotFound {
			return tool.Output[Health]{}, err
		}
		out.Notes = append(out.Notes, "node "+p.Spec.NodeName+" does not exist any more")
		return tool.Output[Health]{Data: out, Text: fmt.Sprintf("pod %s/%s has ended and its node %s is gone", p.Namespace, p.Name, p.Spec.NodeName)}, nil
	}
	if v.turnedAway(m, p) {
		t.fill(&out, m, everyCard)
		return tool.Output[Health]{Data: out, Findings: v.findings, Edges: v.edges, Text: v.text(t.head(m, &out, fmt.Sprintf("pod %s/%s, which the kubelet refused,", p.Namespace, p.Name)))}, nil
	}
	from, to := lived(p, t.Now())
	hit := func(c *card) bool {
		return slices.ContainsFunc(c.reports, func(r report) bool {
			return r.pod == p.Namespace+"/"+p.Name || r.pod == "" && usesGPU(p) && requested(p) == capacity(m.node) && !r.first.IsZero() && !r.first.Before(from) && !r.first.After(to)
		})
	}
	for _, c := range m.cards {
		if hit(c) {
			c := *c
			c.holders = append(slices.Clone(c.holders), holder{pod: t.podRef(p.Namespace, p.Name), how: "exporter labels of that time", obj: p})
			one := *m
			one.cards = slices.Clone(m.cards)
			one.cards[slices.IndexFunc(m.cards, func(o *card) bool { return o.ref == c.ref })] = &c
			v.judge(&one, func(o *card) bool { return o == &c })
			v.victims(&one, t.podRef(p.Namespace, p.Name))
		}
	}
	t.fill(&out, m, hit)
	return tool.Output[Health]{Data: out, Findings: v.findings, Edges: v.edges, Text: v.text(t.head(m, &out, fmt.Sprintf("pod %s/%s, which has ended,", p.Namespace, p.Name)))}, nil
}

// lived is when a pod ran, with a minute to spare on both ends.
func lived(p *corev1.Pod, now time.Time) (from, to time.Time) {
	from, to = p.CreationTimestamp.Time, now
	if p.Status.StartTime != nil {
		from = p.Status.StartTime.Time
	}
	var last time.Time
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Terminated != nil && s.State.Terminated.FinishedAt.After(last) {
			last = s.State.Terminated.FinishedAt.Time
		}
	}
	if !last.IsZero() {
		to = last.Add(time.Minute)
	}
	return from.Add(-time.Minute), to
}

// healthOfNode judges all GPUs of a node, or one of them.
func (t *Toolset) healthOfNode(ctx context.Context, in HealthIn) (tool.Output[Health], error) {
	m, err := t.machineOf(ctx, in.Node)
	if err != nil {
		return tool.Output[Health]{}, err
	}
	want := everyCard
	if in.GPU != "" {
		c := m.named(in.GPU)
		if c == nil {
			return tool.Output[Health]{}, tool.Errorf(tool.NotFound, "node %s has no GPU %s", in.Node, in.GPU)
		}
		want = func(o *card) bool { return o == c }
	}
	out := Health{GPUs: []CardOut{}, Notes: []string{}, Software: []AgentOut{}, Node: in.Node}
	if !gpuNode(m) {
		out.Telemetry = "not asked"
		return tool.Output[Health]{Data: out, Text: fmt.Sprintf("node %s has no GPU by its slices, capacity, labels and conditions", in.Node)}, nil
	}
	v := t.verdict()
	v.judge(m, want)
	if in.GPU == "" {
		v.conditions(m)
		v.software(m)
		v.has(m)
	}
	for _, c := range m.cards {
		if want(c) {
			for _, h := range c.holders {
				v.edge(c.edgesOf(h)...)
			}
		}
	}
	t.fill(&out, m, want)
	return tool.Output[Health]{Data: out, Findings: v.findings, Edges: v.edges, Text: v.text(t.head(m, &out, "node "+in.Node))}, nil
}

// named finds a card by any of its names.
func (m *machine) named(name string) *card {
	if c := m.find(name, name); c != nil {
		return c
	}
	i := slices.IndexFunc(m.cards, func(c *card) bool {
		return c.ref.Device == name || c.ref.Path() == name || c.index == name || slices.ContainsFunc(c.parts, func(p part) bool { return p.ref.Device == name || p.ref.Path() == name })
	})
	if i < 0 {
		return nil
	}
	return m.cards[i]
}

// nodeOf finds the node of a GPU: its pool is in the device's path, or the series
// of its UUID name it.
func (t *Toolset) nodeOf(ctx context.Context, gpu string) (string, error) {
	if parts := strings.Split(gpu, "/"); len(parts) >= 3 {
		return parts[len(parts)-2], nil
	}
	got, err := t.Metrics.Instant(ctx, "group by (Hostname, hostname, node, kubernetes_node) (last_over_time("+anyGPU("UUID="+quoted(gpu))+"["+promSpan(past)+"]))")
	if err != nil && len(got) == 0 {
		return "", err
	}
	for _, s := range got {
		if id := t.alias.Identify(family, s.Labels); id["node"] != "" {
			return id["node"], nil
		}
	}
	return "", &tool.Error{Kind: tool.NotFound, User: "no series of GPU " + gpu + " in the last " + span(past), Fix: "name its node too"}
}

// head says in figures what was looked at.
func (t *Toolset) head(m *machine, out *Health, of string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d GPUs looked at on node %s. Telemetry: %s.", of, len(out.GPUs), m.name, out.Telemetry)
	for _, c := range out.GPUs {
		fmt.Fprintf(&b, "\nGPU %s", firstOf(c.Index, c.Device[strings.LastIndexByte(c.Device, '/')+1:]))
		for _, w := range []struct {
			say string
			val *float64
		}{{" load %.0f %%", c.Load}, {" tensor %.2f", c.Tensor}, {" SM %.0f MHz", c.SMClock}, {" %.0f °C", c.Celsius}, {" %.0f W", c.Watts}, {" PCIe x%.0f", c.PCIe}} {
			if w.val != nil {
				fmt.Fprintf(&b, w.say, *w.val)
			}
		}
		fmt.Fprintf(&b, " device %s", c.Device)
		if c.UUID != "" {
			b.WriteString(" " + c.UUID)
		}
		if len(c.Pods) > 0 {
			b.WriteString(" held by " + strings.Join(c.Pods, ", "))
		}
	}
	for _, n := range out.Notes {
		b.WriteString("\nnote: " + n)
	}
	return b.String()
}

// fill writes the cards that pass want.
func (t *Toolset) fill(out *Health, m *machine, want func(*card) bool) {
	out.Notes = append(out.Notes, m.notes...)
	out.Telemetry = m.told()
	if s := m.node.Labels["nvidia.com/gpu.sharing-strategy"]; s != "" && s != "none" {
		out.Notes = append(out.Notes, fmt.Sprintf("the GPUs of the node are shared (%s, %s replicas of each): one series speaks of all who share a GPU", s, firstOf(m.node.Labels["nvidia.com/gpu.replicas"], "several")))
	}
	for _, a := range m.agents() {
		out.Software = append(out.Software, AgentOut{a.name, a.pod.Namespace + "/" + a.pod.Name, firstOf(a.why, "ready")})
	}
	for _, c := range m.cards {
		if !want(c) {
			continue
		}
		o := CardOut{Device: c.ref.Path(), Index: c.index, UUID: c.uuid, PCI: c.pci, Model: c.model, Driver: c.driver, MIG: []string{}, Pods: []string{}, XIDs: []XIDOut{}}
		for _, p := range c.parts {
			o.MIG = append(o.MIG, p.profile)
		}
		for _, h := range c.holders {
			o.Pods = append(o.Pods, fmt.Sprintf("%s/%s (%s)", h.pod.Namespace, h.pod.Name, h.how))
		}
		for i := range c.reports {
			r := &c.reports[i]
			x := XIDOut{Code: r.Code, Title: r.row.Title, Class: r.row.Class, From: r.from, Process: r.Process}
			if !r.first.IsZero() {
				x.First = clock(r.first)
			}
			o.XIDs = append(o.XIDs, x)
		}
		for _, f := range []struct {
			at     **float64
			signal string
		}{{&o.SMClock, "gpu.sm_clock"}, {&o.Celsius, "gpu.temperature"}, {&o.Watts, "gpu.power"}, {&o.Tensor, "gpu.tensor_active"}} {
			if v, ok := c.median(f.signal, m.tel.to, recent); ok {
				*f.at = &v
			}
		}
		if v, ok := c.load(m.tel.to, recent); ok {
			o.Load = &v
		}
		if v, ok := c.latest("gpu.pcie_link_width", m.tel.to); ok {
			o.PCIe = &v
		}
		out.GPUs = append(out.GPUs, o)
	}
}

// told says where the figures of a node come from.
func (m *machine) told() string {
	var in []string
	switch {
	case m.tel.seen():
		in = append(in, fmt.Sprintf("dcgm-exporter, %d series over %s", m.tel.series, span(window)))
	case m.tel.why != "":
		why := m.tel.why
		if m.tel.asked {
			why += "; " + m.exporterState()
		}
		in = append(in, "GPU telemetry not seen: "+why)
	default:
		in = append(in, "GPU telemetry not seen")
	}
	if m.nvml != nil {
		in = append(in, "NVML at "+clock(m.nvml.At)+", driver "+m.nvml.Driver)
	}
	return strings.Join(in, "; ")
}

func firstOf(s ...string) string {
	for _, v := range s {
		if v != "" {
			return v
		}
	}
	return ""
}

// unoffered judges a pod that waits: does any node offer the kind of GPU, or the
// MIG profile, that it asks for by an extended resource?
func (t *Toolset) unoffered(ctx context.Context, v *verdict, p *corev1.Pod) error {
	wants := map[corev1.ResourceName]bool{}
	for i := range p.Spec.Containers {
		for name := range p.Spec.Containers[i].Resources.Limits {
			if isGPU(name) {
				wants[name] = true
			}
		}
	}
	if len(wants) == 0 {
		return nil
	}
	nodes, err := t.Lists.Nodes(ctx)
	if err != nil {
		return err
	}
	offers := map[corev1.ResourceName]int{}
	strategies := map[string]bool{}
	for _, n := range nodes {
		for name, q := range n.Status.Allocatable {
			if isGPU(name) && q.Value() > 0 {
				offers[name]++
			}
		}
		if s := n.Labels["nvidia.com/mig.strategy"]; s != "" {
			strategies[s] = true
		}
	}
	for name := range wants {
		if offers[name] > 0 || len(offers) == 0 {
			continue
		}
		// The same GPUs are there under other names: they are cut otherwise.
		mig := strings.HasPrefix(string(name), "nvidia.com/mig-")
		var others []string
		for o, n := range offers {
			if strings.HasPrefix(string(o), "nvidia.com/") && (mig || strings.HasPrefix(string(o), "nvidia.com/mig-")) {
				others = append(others, fmt.Sprintf("%s on %d nodes", o, n))
			}
		}
		slices.Sort(others)
		if len(others) == 0 {
			continue
		}
		v.find(incident.Finding{Code: "gpu.mig_not_offered", Subject: t.podRef(p.Namespace, p.Name), Confidence: 0.94,
			Message: fmt.Sprintf("pod %s/%s asks for %s, which no node offers; the GPUs are cut otherwise and offered as %s%s", p.Namespace, p.Name, name, strings.Join(others, ", "), strategy(strategies)),
			Params:  params("resource", string(name), "offered", strings.Join(others, ", "))})
	}
	return nil
}

func strategy(set map[string]bool) string {
	if len(set) == 0 {
		return ""
	}
	return " (MIG strategy " + names(set) + ")"
}
