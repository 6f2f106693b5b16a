// Package judge turns Kubernetes objects into findings: what is wrong with
// them, and what they depend on. A fault is named only when it is decisive; a
// healthy object, whatever its looks, yields neither symptom nor fault.
package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// judge holds what all judgements need.
type judge struct {
	src     *source.Source
	cluster string
	now     func() time.Time
}

// Judged is what every judging tool answers.
type Judged struct {
	Subject incident.Ref `json:"subject"`
	// State is the subject's condition in a word or two, as its own status says.
	State string `json:"state"`
	// Facts are named figures of the subject: node, restarts, ready, ...
	Facts    map[string]string `json:"facts"`
	Findings []Named           `json:"findings"`
}

// Named is a finding in the tool's own data, so that it can be cited.
type Named struct {
	Code    string            `json:"code"`
	Role    string            `json:"role"`
	Subject incident.Ref      `json:"subject"`
	Message string            `json:"message"`
	Params  map[string]string `json:"params,omitempty"`
}

// verdict collects what one judgement finds.
type verdict struct {
	subject  incident.Ref
	state    string
	facts    map[string]string
	lines    []string
	findings []incident.Finding
	edges    []incident.Edge
}

func newVerdict(r incident.Ref) *verdict {
	return &verdict{subject: r, facts: map[string]string{}}
}

// fact records a named figure; empty values are left out.
func (v *verdict) fact(name, value string) {
	if value != "" {
		v.facts[name] = value
	}
}

func (v *verdict) line(format string, args ...any) {
	v.lines = append(v.lines, fmt.Sprintf(format, args...))
}

// edge adds a dependency once.
func (v *verdict) edge(from incident.Ref, relation string, to incident.Ref) {
	e := incident.Edge{From: from, Relation: relation, To: to}
	if !slices.ContainsFunc(v.edges, func(o incident.Edge) bool { return o.From == from && o.Relation == relation && o.To == to }) {
		v.edges = append(v.edges, e)
	}
}

// params are the named facts of a finding, as pairs.
func params(kv ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" {
			m[kv[i]] = kv[i+1]
		}
	}
	return m
}

func (v *verdict) find(f incident.Finding) {
	if f.Subject.IsZero() {
		f.Subject = v.subject
	}
	f.Message = oneLine(f.Message, 600)
	i := slices.IndexFunc(v.findings, func(o incident.Finding) bool { return o.Code == f.Code && o.Subject == f.Subject })
	if i < 0 {
		v.findings = append(v.findings, f)
		return
	}
	// A second fault of one kind on one thing (two containers, two conditions) is
	// told beside the first: a finding is known by its code and subject.
	if o := &v.findings[i]; f.Role == incident.Fault && o.Role == f.Role && !strings.Contains(o.Message, f.Message) {
		o.Message = oneLine(o.Message+"; "+f.Message, 600)
		o.Confidence = max(o.Confidence, f.Confidence)
	}
}

func (v *verdict) symptom(code string, sev incident.Severity, message string, p map[string]string) {
	v.find(incident.Finding{Code: code, Role: incident.Symptom, Severity: sev, Message: message, Params: p})
}

func (v *verdict) fault(code string, sev incident.Severity, conf float64, subject incident.Ref, message string, p map[string]string) {
	v.find(incident.Finding{Code: code, Role: incident.Fault, Severity: sev, Confidence: conf, Subject: subject, Message: message, Params: p})
}

func (v *verdict) history(code, message string, at time.Time, p map[string]string) {
	v.find(incident.Finding{Code: code, Role: incident.History, Severity: incident.Warning, Message: message, Params: p, LastSeen: at})
}

func (v *verdict) context(code, message string, p map[string]string) {
	v.find(incident.Finding{Code: code, Role: incident.Context, Severity: incident.Info, Message: message, Params: p})
}

// output writes the verdict as a tool's answer.
func (v *verdict) output() tool.Output[Judged] {
	d := Judged{Subject: v.subject, State: v.state, Facts: v.facts, Findings: []Named{}}
	for _, f := range v.findings {
		d.Findings = append(d.Findings, Named{Code: f.Code, Role: string(f.Role), Subject: f.Subject, Message: f.Message, Params: f.Params})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", v.subject, cmp.Or(v.state, "seen"))
	for _, l := range v.lines {
		b.WriteString("  " + oneLine(l, 400) + "\n")
	}
	return tool.Output[Judged]{Data: d, Text: strings.TrimRight(b.String(), "\n"), Findings: v.findings, Edges: v.edges}
}

// oneLine folds white space and cuts what is too long for a sentence.
func oneLine(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		s = string(r[:n-1]) + "…"
	}
	return s
}

func (j *judge) ref(group, kind, namespace, name string) incident.Ref {
	return incident.Ref{Cluster: j.cluster, Group: group, Kind: kind, Namespace: namespace, Name: name}
}

func (j *judge) pod(p *corev1.Pod) incident.Ref { return j.ref("", "Pod", p.Namespace, p.Name) }

// owner is the controller of an object, if it has one.
func (j *judge) owner(o metav1.Object) (incident.Ref, bool) {
	c := metav1.GetControllerOf(o)
	if c == nil {
		return incident.Ref{}, false
	}
	group, _, ok := strings.Cut(c.APIVersion, "/")
	if !ok {
		group = ""
	}
	return j.ref(group, c.Kind, o.GetNamespace(), c.Name), true
}

// ago writes how long before now a time was.
func (j *judge) ago(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	d := j.now().Sub(t)
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

// recent bounds how long ago something may be to be about now.
const recent = time.Hour

// fresh reports whether an event belongs to this object and to the present.
func (j *judge) fresh(e source.Event, uid string) bool {
	return (e.UID == "" || uid == "" || e.UID == uid) && (e.Last.IsZero() || j.now().Sub(e.Last) < recent)
}

// missing reports that an object does not exist; any other failure to look is
// not an absence.
func missing(err error) bool { return err != nil && tool.KindOf(err) == tool.NotFound }

// events gives the fresh events of an object, newest first. A list that may not
// be read is no event.
func (j *judge) events(ctx context.Context, r incident.Ref, uid string) []source.Event {
	all, err := j.src.Events(ctx, r.Namespace, r)
	if err != nil {
		return nil
	}
	var out []source.Event
	for _, e := range all {
		if j.fresh(e, uid) {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b source.Event) int { return b.Last.Compare(a.Last) })
	return out
}

// has finds the newest event with one of the reasons whose message holds one
// of the words (any, if none are given).
func has(evs []source.Event, reasons []string, words ...string) (source.Event, bool) {
	for _, e := range evs {
		if len(reasons) > 0 && !slices.Contains(reasons, e.Reason) {
			continue
		}
		if len(words) == 0 || containsAny(e.Message, words...) {
			return e, true
		}
	}
	return source.Event{}, false
}

func containsAny(s string, words ...string) bool {
	s = strings.ToLower(s)
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(s, strings.ToLower(w)) })
}
