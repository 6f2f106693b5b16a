package serving

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Judged is what a judging tool answers about one object.
type Judged struct {
	Subject incident.Ref `json:"subject"`
	// System that the object belongs to: "KubeRay", "KServe".
	System string `json:"system,omitempty"`
	// State is Healthy, Progressing, Degraded, Failed or Unknown.
	State    string             `json:"state"`
	Facts    map[string]string  `json:"facts"`
	Findings []incident.Finding `json:"findings"`
}

// verdict collects the judgement of one subject.
type verdict struct {
	subject  incident.Ref
	system   string
	state    string
	facts    map[string]string
	lines    []string
	findings []incident.Finding
	edges    []incident.Edge
}

func newVerdict(subject incident.Ref) *verdict {
	return &verdict{subject: subject, facts: map[string]string{}}
}

func (v *verdict) line(format string, args ...any) {
	l := fmt.Sprintf(format, args...)
	if !slices.Contains(v.lines, l) {
		v.lines = append(v.lines, l)
	}
}

func (v *verdict) fact(key, value string) {
	if value != "" {
		v.facts[key] = value
	}
}

func (v *verdict) edge(from incident.Ref, relation string, to incident.Ref) {
	e := incident.Edge{From: from, Relation: relation, To: to}
	if from == to || slices.ContainsFunc(v.edges, func(o incident.Edge) bool { return o.From == from && o.To == to && o.Relation == relation }) {
		return
	}
	v.edges = append(v.edges, e)
}

// add takes a finding in; of two with one code on one subject the stronger stays.
func (v *verdict) add(f incident.Finding) {
	if f.Subject.IsZero() {
		f.Subject = v.subject
	}
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

func (v *verdict) symptom(code, message string, params map[string]string) {
	v.add(incident.Finding{Code: code, Role: incident.Symptom, Severity: incident.Warning, Message: message, Params: params})
}

func (v *verdict) fault(code string, confidence float64, subject incident.Ref, message string, params map[string]string) {
	v.add(incident.Finding{Code: code, Role: incident.Fault, Severity: incident.Critical, Confidence: confidence, Subject: subject, Message: message, Params: params})
}

func (v *verdict) context(code, message string, params map[string]string) {
	v.add(incident.Finding{Code: code, Role: incident.Context, Severity: incident.Info, Message: message, Params: params})
}

// sick reports whether a symptom or fault was found.
func (v *verdict) sick() bool {
	return slices.ContainsFunc(v.findings, func(f incident.Finding) bool { return f.Role == incident.Fault || f.Role == incident.Symptom })
}

// judged gives the typed answer and its text. Every name and figure of a finding
// stands in the text, since that is what the evidence shows.
func (v *verdict) judged() (Judged, string) {
	d := Judged{Subject: v.subject, System: v.system, State: cmp.Or(v.state, unknown), Facts: v.facts, Findings: append([]incident.Finding{}, v.findings...)}
	var b strings.Builder
	fmt.Fprintf(&b, "%s", v.subject)
	if v.system != "" {
		fmt.Fprintf(&b, " (%s)", v.system)
	}
	fmt.Fprintf(&b, ": %s\n", d.State)
	for _, l := range v.lines {
		b.WriteString("  " + oneLine(l, 500) + "\n")
	}
	for _, f := range v.findings {
		fmt.Fprintf(&b, "  %s %s on %s: %s\n", f.Role, f.Code, f.Subject, oneLine(f.Message, 600))
	}
	return d, strings.TrimRight(b.String(), "\n")
}

// params builds the facts of a finding from pairs.
func params(kv ...string) map[string]string {
	m := make(map[string]string, len(kv)/2)
	for i := 0; i+1 < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return m
}

// oneLine folds white space and cuts what is too long for a sentence.
func oneLine(s string, n int) string {
	s = strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
	if r := []rune(s); len(r) > n {
		s = string(r[:n-1]) + "…"
	}
	return s
}

// ago writes how long before now a time was.
func (t *Toolset) ago(at time.Time) string {
	if at.IsZero() {
		return "an unknown time"
	}
	d := t.now().Sub(at)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
