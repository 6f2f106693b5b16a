package gpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// verdict collects what is found while a thing is judged.
type verdict struct {
	t        *Toolset
	findings []incident.Finding
	edges    []incident.Edge
	lines    []string
	// hurt are the cards whose fault stops or slows what runs on them.
	hurt map[*card]string
	// pod is set where one pod with GPUs is judged: what its node lacks for GPUs
	// is then its own trouble.
	pod incident.Ref
}

func (t *Toolset) verdict() *verdict { return &verdict{t: t, hurt: map[*card]string{}} }

func params(kv ...string) map[string]string {
	out := map[string]string{}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" {
			out[kv[i]] = kv[i+1]
		}
	}
	return out
}

// find adds a finding; its role and severity are those of the catalogue unless
// set. The same code on one subject is kept once, the stronger one.
func (v *verdict) find(f incident.Finding) {
	if c, ok := v.t.codes[f.Code]; ok {
		if f.Role == "" {
			f.Role = c.Role
		}
		if f.Severity == "" {
			f.Severity = c.Severity
		}
	}
	v.lines = append(v.lines, f.Message)
	for i, o := range v.findings {
		if o.Code == f.Code && o.Subject == f.Subject {
			if f.Score() > o.Score() {
				v.findings[i] = f
			}
			return
		}
	}
	v.findings = append(v.findings, f)
}

// fault adds a fault of a card that stops or slows what runs on it.
func (v *verdict) fault(c *card, f incident.Finding) {
	f.Subject = c.ref
	if f.Params == nil {
		f.Params = map[string]string{}
	}
	for k, val := range map[string]string{"gpu": c.short(), "node": c.node, "uuid": c.uuid, "model": c.model} {
		if val != "" && f.Params[k] == "" {
			f.Params[k] = val
		}
	}
	v.find(f)
	if f.Score() >= sound && f.Role != incident.Context && f.Role != incident.History {
		if _, have := v.hurt[c]; !have {
			v.hurt[c] = f.Message
		}
	}
}

// unfelt adds a fault of a card that what runs on it need not feel.
func (v *verdict) unfelt(c *card, f incident.Finding) {
	before, had := v.hurt[c]
	v.fault(c, f)
	if !had {
		delete(v.hurt, c)
	} else {
		v.hurt[c] = before
	}
}

// sound is the confidence from which a fault explains what depends on it; it is
// triage's own bound.
const sound = 0.5

// unproven is the confidence of what is true and not shown to stand in the way.
const unproven = 0.45

// ofNode adds a fault of a node's GPUs as a whole. For a pod that has GPUs it is
// grave. For the node by itself it is told milder, so that it does not explain the
// trouble of what runs there without a GPU.
func (v *verdict) ofNode(f incident.Finding) {
	if v.pod.IsZero() && f.Role == "" {
		f.Severity, f.Confidence = incident.Warning, min(f.Score(), mild)
	}
	v.find(f)
}

// mild is a little more than what the plain condition of a node is worth.
const mild = 0.76

func (v *verdict) line(format string, args ...any) {
	v.lines = append(v.lines, fmt.Sprintf(format, args...))
}

// victims adds a symptom to each pod that holds a card at fault, and the way
// from the pod to the card.
func (v *verdict) victims(m *machine, only incident.Ref) {
	for _, c := range m.cards {
		for _, h := range c.holders {
			if !only.IsZero() && h.pod != only {
				continue
			}
			v.edge(c.edgesOf(h)...)
			why, ok := v.hurt[c]
			if !ok {
				continue
			}
			msg := fmt.Sprintf("pod %s/%s runs on %s, which is at fault: %s", h.pod.Namespace, h.pod.Name, c.label(), why)
			v.find(incident.Finding{Code: "gpu.pod_on_faulty_gpu", Subject: h.pod, Message: msg, Params: params("gpu", c.short(), "node", c.node, "how", h.how)})
		}
	}
}

// doubtful says of a pod whose GPUs are not told apart that one on its node is at
// fault.
func (v *verdict) doubtful(m *machine, pod incident.Ref, asks int) {
	for _, c := range m.cards {
		why, ok := v.hurt[c]
		if !ok || !c.mayBe(pod) {
			continue
		}
		msg := fmt.Sprintf("pod %s/%s holds %d of the %d GPUs of node %s, which of them is not seen; one is at fault: %s", pod.Namespace, pod.Name, asks, capacity(m.node), m.name, why)
		v.find(incident.Finding{Code: "gpu.node_gpu_fault", Subject: v.t.nodeRef(m.name), Confidence: 0.55, Message: msg, Params: params("gpu", c.short(), "why", why)})
	}
}

func (v *verdict) edge(es ...incident.Edge) {
	for _, e := range es {
		if !slices.ContainsFunc(v.edges, func(o incident.Edge) bool {
			return o.From == e.From && o.Relation == e.Relation && o.To == e.To
		}) {
			v.edges = append(v.edges, e)
		}
	}
}

// has ties a node to the cards of it that are at fault.
func (v *verdict) has(m *machine) {
	for _, f := range slices.Clone(v.findings) {
		if f.Subject.Kind != "Device" || f.Role != incident.Fault {
			continue
		}
		c := m.byDevice(f.Subject)
		if c == nil {
			continue
		}
		v.edge(incident.Edge{From: v.t.nodeRef(m.name), Relation: graph.Has, To: c.ref})
		v.find(incident.Finding{Code: "gpu.node_gpu_fault", Subject: v.t.nodeRef(m.name), Confidence: unproven, Message: fmt.Sprintf("a GPU of node %s is at fault: %s", m.name, f.Message), Params: params("gpu", c.short(), "why", f.Message)})
	}
}

// text joins the lines, each once.
func (v *verdict) text(head string) string {
	var b strings.Builder
	b.WriteString(head)
	seen := map[string]bool{}
	for _, l := range v.lines {
		if !seen[l] {
			seen[l] = true
			b.WriteString("\n- " + l)
		}
	}
	return b.String()
}
