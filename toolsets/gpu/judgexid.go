package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/gpu/xid"
)

// told is one report on one card, in the order of time.
type told struct {
	c *card
	r *report
}

// follows is how long after an error its consequences come.
const follows = 2 * time.Minute

// judgeXIDs reads the errors of all cards of a node together: what came first may
// explain what came on its neighbours. Only cards that pass want are accused.
func (v *verdict) judgeXIDs(m *machine, want func(*card) bool) {
	var all []told
	for _, c := range m.cards {
		for i := range c.reports {
			all = append(all, told{c, &c.reports[i]})
		}
	}
	slices.SortStableFunc(all, func(a, b told) int {
		if a.r.first.IsZero() != b.r.first.IsZero() {
			return cmp.Compare(b2i(a.r.first.IsZero()), b2i(b.r.first.IsZero()))
		}
		return a.r.first.Compare(b.r.first)
	})
	for i, one := range all {
		if !want(one.c) {
			continue
		}
		v.judgeXID(m, one, all[:i], all)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (v *verdict) judgeXID(m *machine, one told, before, all []told) {
	c, r := one.c, one.r
	what := c.sentence(r)
	f := incident.Finding{Subject: c.ref, FirstSeen: r.first, LastSeen: r.last, Params: c.facts(r)}
	if r.Recovery != "" {
		v.driverSays(c, r.Recovery, r.from, r.first)
	}
	if r.Code == recoveryChanged && !r.NVSwitch {
		return
	}
	if why := v.isOver(m, c, r); why != "" {
		f.Code, f.Message, f.Role, f.Severity = "gpu.xid_past", what+"; "+why, incident.History, incident.Warning
		if r.first.IsZero() || r.row.Class != xid.Fatal && r.row.Class != xid.Warning {
			f.Severity = incident.Info
		}
		v.find(f)
		return
	}
	if cause, ok := consequence(one, before, all); ok {
		f.Code, f.Message = "gpu.xid_follows", fmt.Sprintf("%s; it follows XID %d of %s and is its consequence", what, cause.r.Code, cause.c.label())
		if cause.c != c {
			v.edge(incident.Edge{From: c.ref, Relation: graph.LinkedTo, To: cause.c.ref})
		}
		v.find(f)
		return
	}
	switch {
	case r.NVSwitch:
		f.Code, f.Message, f.Confidence = "gpu.nvlink_error", what, 0.7
		if r.Fatal {
			f.Severity, f.Confidence = incident.Critical, 0.9
		}
		v.fault(c, f)
	case r.row.Class == xid.Application:
		v.application(m, c, r, f, what, all)
	case r.row.Class == xid.Fatal || r.row.Class == xid.Warning:
		f.Code, f.Severity, f.Confidence = codeOf(r.row)
		f.Message = what
		v.fault(c, f)
	default:
		f.Code, f.Message = "gpu.xid_noted", what
		v.find(f)
	}
}

// recoveryChanged is the XID with which the driver says what a GPU needs now.
const recoveryChanged = 154

// codeOf names the fault that a row stands for.
func codeOf(r xid.Row) (code string, sev incident.Severity, confidence float64) {
	if r.Class == xid.Warning {
		if r.Group == xid.Contained {
			return "gpu.memory_contained", incident.Warning, 0.75
		}
		return "gpu.xid_warning", incident.Warning, 0.6
	}
	switch r.Group {
	case xid.Bus:
		return "gpu.fell_off_bus", incident.Critical, 0.93
	case xid.Memory:
		return "gpu.memory_uncorrectable", incident.Critical, 0.92
	case xid.Remap:
		return "gpu.row_remap_failed", incident.Critical, 0.92
	case xid.NVLink:
		return "gpu.nvlink_error", incident.Critical, 0.85
	}
	return "gpu.xid_fatal", incident.Critical, 0.9
}

// sentence says of an XID what, where, when, who tells and what the table says.
func (c *card) sentence(r *report) string {
	var b strings.Builder
	name := "XID"
	if r.NVSwitch {
		name = "SXid"
	}
	fmt.Fprintf(&b, "%s: %s %d", c.label(), name, r.Code)
	if !r.NVSwitch {
		fmt.Fprintf(&b, " (%s)", r.row.Title)
	}
	switch {
	case !r.first.IsZero() && r.last.Sub(r.first) > time.Minute:
		fmt.Fprintf(&b, ", from %s to %s", clock(r.first), clock(r.last))
	case !r.first.IsZero():
		fmt.Fprintf(&b, " at %s", clock(r.first))
	default:
		b.WriteString(", at a time that is not known")
	}
	fmt.Fprintf(&b, ", told by %s", r.from)
	if r.Process != "" {
		fmt.Fprintf(&b, "; process %s", r.Process)
		if r.PID > 0 {
			fmt.Fprintf(&b, ", pid %d", r.PID)
		}
	}
	if !r.NVSwitch && r.row.Class != xid.Unknown {
		fmt.Fprintf(&b, "; %s says: %s", r.row.Source, r.row.Act)
		for _, o := range r.row.Others {
			fmt.Fprintf(&b, "; %s says: %s", o.Source, o.Says)
		}
	}
	return b.String()
}

func (c *card) facts(r *report) map[string]string {
	p := params("xid", strconv.Itoa(r.Code), "meaning", r.row.Title, "action", r.row.Act, "from", r.from, "process", r.Process, "gpu", c.short(), "node", c.node, "uuid", c.uuid, "model", c.model)
	if !r.first.IsZero() {
		p["at"] = clock(r.first)
	}
	return p
}

// driverSays adds the recovery action that the driver, or the monitor that asked
// it, names. It stands over the table.
func (v *verdict) driverSays(c *card, action, from string, at time.Time) {
	v.fault(c, incident.Finding{Code: "gpu.recovery_needed", FirstSeen: at, Confidence: 0.8,
		Message: fmt.Sprintf("%s needs %q: %s says so", c.label(), action, from), Params: params("action", action, "from", from)})
}

// alive reports whether the card answers now: something other than its last XID
// is measured, or NVML reads it.
func (c *card) alive(m *machine) (bool, bool) {
	if c.nvml != nil {
		return !c.nvml.Lost && c.nvml.Error == "", true
	}
	if !m.tel.seen() || len(c.series) == 0 {
		return false, false
	}
	for _, s := range []string{"gpu.temperature", "gpu.power", "gpu.sm_clock", "gpu.utilization", "gpu.memory_used"} {
		if _, ok := c.latest(s, m.tel.to); ok {
			return true, true
		}
	}
	return false, true
}

// isOver says why an error needs no attention any more, empty if it does.
func (v *verdict) isOver(m *machine, c *card, r *report) string {
	if r.current {
		return ""
	}
	if r.first.IsZero() {
		return "it was there before the first sample, so it is older than what is recorded"
	}
	if m.rebooted.After(r.last) {
		return "the node has rebooted since, at " + clock(m.rebooted)
	}
	if c.nvml != nil && c.nvml.Recovery != nil && *c.nvml.Recovery == 0 && !c.nvml.Lost && r.row.Class == xid.Fatal && r.row.Group != xid.Remap {
		return "the driver names no recovery action for the GPU now"
	}
	// A GPU that fell off the bus answers again only after a reset; any other fault
	// is over when pods that came later work on the GPU.
	up, known := c.alive(m)
	if !known || !up {
		return ""
	}
	if r.row.Group == xid.Bus && m.tel.to.Sub(r.last) > recent {
		return "the GPU answers again"
	}
	load, ok := c.load(m.tel.to, recent)
	if !ok || load < 1 || len(c.holders) == 0 || m.tel.to.Sub(r.last) <= recent {
		return ""
	}
	for _, h := range c.holders {
		if h.obj == nil || !startedAfter(h.obj, r.last) {
			return ""
		}
	}
	return fmt.Sprintf("what runs on it since then works, at %.0f %% load", load)
}

// startedAfter reports whether every container of a pod that runs was started
// after a time.
func startedAfter(p *corev1.Pod, at time.Time) bool {
	n := 0
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Running == nil || !s.State.Running.StartedAt.After(at) {
			return false
		}
		n++
	}
	return n > 0
}

// consequence finds the error that another one follows from: the clean-up of
// channels after any error, and link errors of neighbours after a GPU that died.
func consequence(one told, before, all []told) (told, bool) {
	for _, o := range before {
		if o.r == one.r || o.r.first.IsZero() || one.r.first.IsZero() || one.r.first.Sub(o.r.last) > follows {
			continue
		}
		if o.c == one.c && one.r.row.Follows && !o.r.row.Follows && o.r.row.Class != xid.Informational {
			return o, true
		}
		if o.c != one.c && o.r.row.Class == xid.Fatal && (one.r.row.Group == xid.NVLink || one.r.row.Follows) && one.r.first.After(o.r.first) {
			return o, true
		}
	}
	if !one.r.row.Follows {
		return told{}, false
	}
	// Sources poll: a clean-up may be told of a moment before what it cleans up.
	for _, o := range all {
		if o.r != one.r && o.c == one.c && !o.r.row.Follows && o.r.row.Class != xid.Informational && near(o.r, one.r) {
			return o, true
		}
	}
	return told{}, false
}

// application judges an error that an application makes: it is the workload's own,
// unless it follows the GPU from one workload to the next.
func (v *verdict) application(m *machine, c *card, r *report, f incident.Finding, what string, all []told) {
	if r.row.Follows {
		f.Code, f.Message = "gpu.xid_noted", what+"; by itself it says nothing against the GPU"
		v.find(f)
		return
	}
	others := map[string]bool{}
	for _, o := range all {
		if o.c == c && o.r.Code == r.Code && (o.r.pod != "" || o.r.Process != "") {
			others[cmp.Or(workloadOf(m, o.r.pod), o.r.Process)] = true
		}
	}
	if len(others) > 1 {
		g := f
		g.Code, g.Confidence = "gpu.xid_follows_gpu", 0.65
		g.Message = fmt.Sprintf("%s; the same GPU gave it to %d different workloads (%s), so it follows the GPU", what, len(others), names(others))
		v.fault(c, g)
		return
	}
	hit := false
	for _, h := range c.holders {
		if h.obj == nil || r.pod != "" && r.pod != h.pod.Namespace+"/"+h.pod.Name {
			continue
		}
		hit = true
		g := f
		g.Subject = h.pod
		v.edge(c.edgesOf(h)...)
		if well(h.obj) && startedAfter(h.obj, r.last) {
			g.Code, g.Role, g.Severity = "gpu.xid_past", incident.History, incident.Info
			g.Message = fmt.Sprintf("%s; it hit pod %s/%s, whose containers run again since", what, h.pod.Namespace, h.pod.Name)
			v.find(g)
			continue
		}
		g.Code, g.Confidence = "gpu.xid_application", 0.9
		// The fault is the program's own: no trouble of the machine explains it.
		g.Params["within"] = "program"
		g.Message = fmt.Sprintf("%s; it is the doing of pod %s/%s and says nothing against the GPU", what, h.pod.Namespace, h.pod.Name)
		v.find(g)
	}
	if !hit {
		f.Code, f.Message = "gpu.xid_noted", what+"; an application makes this error, and no pod that now holds the GPU is named for it"
		v.find(f)
	}
}

// workloadOf names what controls a pod, so that the pods of one job are one.
func workloadOf(m *machine, pod string) string {
	for _, p := range m.pods {
		if p.Namespace+"/"+p.Name == pod {
			if g := gangOf(p); g.name != "" {
				return p.Namespace + "/" + g.name
			}
		}
	}
	return pod
}

func names(set map[string]bool) string {
	var out []string
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// well reports whether a pod runs and is ready.
func well(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
