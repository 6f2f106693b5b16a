package nodepool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// verdict collects what one look finds.
type verdict struct {
	findings []incident.Finding
	edges    []incident.Edge
	lines    []string
	gaps     []incident.Gap
}

func (v *verdict) line(format string, args ...any) {
	v.lines = append(v.lines, fmt.Sprintf(format, args...))
}

func (v *verdict) edge(from incident.Ref, relation string, to incident.Ref) {
	if !slices.ContainsFunc(v.edges, func(e incident.Edge) bool { return e.From == from && e.Relation == relation && e.To == to }) {
		v.edges = append(v.edges, incident.Edge{From: from, Relation: relation, To: to})
	}
}

// gap notes a read that failed, once.
func (v *verdict) gap(source string, err error) {
	g := incident.Gap{Source: source, Why: tool.UserText(err)}
	if !slices.Contains(v.gaps, g) {
		v.gaps = append(v.gaps, g)
	}
}

// find adds a finding with role and severity of its code; the text carries its
// message, so that names and figures in it can be cited.
func (v *verdict) find(code string, conf float64, subject incident.Ref, params map[string]string, format string, args ...any) *incident.Finding {
	f := incident.Finding{Code: code, Subject: subject, Confidence: conf, Params: params, Message: fmt.Sprintf(format, args...)}
	codes := Codes()
	if i := slices.IndexFunc(codes, func(c tool.Code) bool { return c.Code == code }); i >= 0 {
		f.Role, f.Severity = codes[i].Role, codes[i].Severity
	}
	if i := slices.IndexFunc(v.findings, func(o incident.Finding) bool { return o.Code == code && o.Subject == subject }); i >= 0 {
		return &v.findings[i]
	}
	v.findings = append(v.findings, f)
	v.line("finding %s: %s", subject, f.Message)
	return &v.findings[len(v.findings)-1]
}

func (v *verdict) text() string {
	lines := slices.Clone(v.lines)
	for _, g := range v.gaps {
		lines = append(lines, "not seen: "+g.Source+": "+g.Why)
	}
	return strings.Join(lines, "\n")
}

// span writes a duration as a person says it: 45s, 12m, 3h, 5d.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()+0.5))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()+0.5))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()+0.5))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24+0.5))
}

func (t *Toolset) ago(at time.Time) string { return span(t.now().Sub(at)) }

// oneLine bounds text of the cluster to one line of at most n bytes.
func oneLine(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

func limit[T any](s []T, n int) []T { return s[:min(len(s), n)] }
