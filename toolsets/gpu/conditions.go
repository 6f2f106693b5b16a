package gpu

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

// words takes a name apart where its case changes: "GPUXIDErrors" is gpuxid
// errors, "GpuNvlinkWatch" is gpu nvlink watch.
func words(name string) []string {
	var b strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			r = ' '
		case i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])):
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return strings.Fields(b.String())
}

// aboutGPU reports whether the name of a condition or the reason of an event
// speaks of GPUs or of the links between them.
func aboutGPU(name string) bool {
	low := strings.ToLower(name)
	for _, w := range []string{"gpu", "xid", "nvlink", "nvswitch", "dcgm", "nvidia", "infiniband"} {
		if strings.Contains(low, w) {
			return true
		}
	}
	return strings.HasPrefix(low, "iblink") || strings.HasPrefix(low, "ib-link")
}

// fires reports whether a condition tells of trouble now. NVSentinel writes the
// verdict into the reason; node-problem-detector's conditions are problems when
// True; a name that states a good is trouble when False.
func fires(c corev1.NodeCondition) bool {
	reason := strings.ToLower(c.Reason)
	switch {
	case strings.HasSuffix(reason, "isnothealthy"):
		return true
	case strings.HasSuffix(reason, "ishealthy"):
		return false
	}
	in := words(string(c.Type))
	has := func(list ...string) bool {
		return slices.ContainsFunc(in, func(w string) bool { return slices.Contains(list, w) })
	}
	bad := has("missing", "error", "errors", "inactive", "flapping", "down", "failure", "failed", "unhealthy", "lost", "degraded", "problem", "fallen", "off", "throttled", "throttling")
	if bad {
		return c.Status == corev1.ConditionTrue
	}
	if has("healthy", "ready", "ok", "up", "active", "available") {
		return c.Status == corev1.ConditionFalse
	}
	return false
}

// conditionReports reads the XIDs that conditions repeat from the kernel's log.
func (t *Toolset) conditionReports(m *machine) {
	for _, c := range m.node.Status.Conditions {
		if !aboutGPU(string(c.Type)) && !aboutGPU(c.Reason) || !fires(c) {
			continue
		}
		for _, l := range t.parser.Parse(c.Message) {
			at := c.LastTransitionTime.Time
			t.reportLine(m, l, report{first: at, last: at, from: "condition " + string(c.Type), current: true})
		}
	}
}

// reportLine files a line with the card of its address; a card that no other
// source knows is made of it.
func (t *Toolset) reportLine(m *machine, l xid.Line, r report) {
	r.Line = l
	c := m.find(l.UUID, l.PCI)
	if c == nil && l.PCI != "" && !l.NVSwitch {
		c = &card{node: m.name, pci: l.PCI, uuid: l.UUID, model: m.node.Labels["nvidia.com/gpu.product"]}
		t.name(c)
		m.cards = append(m.cards, c)
	}
	t.report(m, c, r)
}

// eventReports reads the XIDs in the node's events, and when it booted.
func (t *Toolset) eventReports(ctx context.Context, m *machine) {
	events, err := t.Details.Events(ctx, t.nodeRef(m.name))
	if err != nil {
		m.note("events of the node", err)
		return
	}
	for _, e := range events {
		if e.Reason == "Rebooted" && e.Last.After(m.rebooted) {
			m.rebooted = e.Last
		}
		for _, l := range t.parser.Parse(e.Message) {
			from := "event " + e.Reason
			if e.Source != "" {
				from += " of " + e.Source
			}
			t.reportLine(m, l, report{first: e.First, last: e.Last, from: from})
		}
	}
}

// conditions judges what a node says of its GPUs without naming one, and XIDs
// that could not be tied to a card.
func (v *verdict) conditions(m *machine) {
	node := v.t.nodeRef(m.name)
	for _, c := range m.node.Status.Conditions {
		if !aboutGPU(string(c.Type)) || !fires(c) {
			continue
		}
		v.line("condition %s is %s since %s: %s %s", c.Type, c.Status, clock(c.LastTransitionTime.Time), c.Reason, c.Message)
		if len(v.t.parser.Parse(c.Message)) > 0 {
			continue // judged with its card, or below
		}
		f := incident.Finding{Subject: node, FirstSeen: c.LastTransitionTime.Time, LastSeen: c.LastHeartbeatTime.Time,
			Params: params("condition", string(c.Type), "reason", c.Reason, "message", strings.TrimSpace(c.Reason+": "+c.Message))}
		in := strings.Join(words(string(c.Type)), " ")
		switch {
		case strings.Contains(in, "missing"):
			f.Code, f.Confidence = "gpu.missing", 0.9
			f.Message = fmt.Sprintf("node %s has fewer GPUs than it should (%s): %s: %s", m.name, c.Type, c.Reason, c.Message)
		case strings.Contains(in, "link flapping") && !strings.Contains(in, "nvlink"), strings.Contains(in, "infiniband"):
			f.Code, f.Confidence = "gpu.ib_link", 0.85
			f.Message = fmt.Sprintf("an InfiniBand link of node %s is in trouble (%s): %s: %s", m.name, c.Type, c.Reason, c.Message)
		case strings.Contains(in, "nv"):
			f.Code, f.Confidence = "gpu.node_nvlink", 0.85
			f.Message = fmt.Sprintf("NVLink of node %s is in trouble (%s): %s: %s", m.name, c.Type, c.Reason, c.Message)
		default:
			f.Code, f.Confidence = "gpu.node_condition", 0.75
			f.Message = fmt.Sprintf("node %s reports %s: %s: %s", m.name, c.Type, c.Reason, c.Message)
		}
		v.ofNode(f)
	}
	for i := range m.loose {
		v.loose(m, &m.loose[i])
	}
	v.count(m)
	v.migState(m)
}

// loose judges an XID of which only the node is known.
func (v *verdict) loose(m *machine, r *report) {
	unknown := &card{node: m.name, ref: v.t.nodeRef(m.name), index: "?"}
	what := strings.Replace(unknown.sentence(r), "GPU ? of node", "a GPU of node", 1)
	f := incident.Finding{Subject: unknown.ref, FirstSeen: r.first, LastSeen: r.last, Message: what, Params: params("xid", fmt.Sprint(r.Code), "meaning", r.row.Title, "action", r.row.Act, "from", r.from)}
	switch why := v.isOver(m, unknown, r); {
	case why != "":
		f.Code, f.Role, f.Severity, f.Message = "gpu.xid_past", incident.History, incident.Info, what+"; "+why
	case r.NVSwitch && r.Fatal:
		f.Code, f.Confidence = "gpu.node_nvlink", 0.9
	case r.row.Class == xid.Fatal && !r.NVSwitch:
		f.Code, f.Confidence = "gpu.node_xid", 0.85
	default:
		f.Code = "gpu.xid_noted"
	}
	v.ofNode(f)
}

// count finds the node whose device plugin withholds GPUs that the telemetry does
// not see either. Shared and cut GPUs are not counted: their numbers differ.
func (v *verdict) count(m *machine) {
	total, free := int64(0), int64(0)
	for name, q := range m.node.Status.Capacity {
		if strings.HasPrefix(string(name), "nvidia.com/mig-") {
			return
		}
		if isGPU(name) {
			left := m.node.Status.Allocatable[name]
			total, free = total+q.Value(), free+left.Value()
		}
	}
	if s := m.node.Labels["nvidia.com/gpu.sharing-strategy"]; s != "" && s != "none" || total == 0 || !m.tel.seen() {
		return
	}
	live := 0
	for _, c := range m.cards {
		if up, known := c.alive(m); known && up && len(c.series) > 0 {
			live++
		}
	}
	if int64(live) < total && free < total && live > 0 {
		v.ofNode(incident.Finding{Code: "gpu.missing", Subject: v.t.nodeRef(m.name), Confidence: 0.8,
			Message: fmt.Sprintf("node %s has %d GPUs by its device plugin, of which it offers %d and the telemetry measures %d", m.name, total, free, live),
			Params:  params("condition", "capacity", "reason", "count", "message", fmt.Sprintf("%d of %d", live, total))})
	}
}

// migState reads what the MIG manager writes on the node.
func (v *verdict) migState(m *machine) {
	state, want := m.node.Labels["nvidia.com/mig.config.state"], m.node.Labels["nvidia.com/mig.config"]
	switch state {
	case "failed":
		v.ofNode(incident.Finding{Code: "gpu.mig_config_failed", Subject: v.t.nodeRef(m.name), Confidence: 0.88,
			Message: fmt.Sprintf("the MIG manager could not cut the GPUs of node %s as %q: nvidia.com/mig.config.state is failed", m.name, want), Params: params("config", want, "state", state)})
	case "pending", "rebooting":
		v.line("the MIG manager of node %s is at work: nvidia.com/mig.config.state is %s, wanted %s", m.name, state, want)
	}
}

// settle is how long agents of a node may take to come up after the node was made:
// a driver is compiled or loaded first.
const settle = 20 * time.Minute
