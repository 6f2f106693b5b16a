package kube

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/logtemplate"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

type logsIn struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container,omitempty" jsonschema:"default: the one in trouble, else the main one"`
	Previous  bool   `json:"previous,omitempty"`
	Grep      string `json:"grep,omitempty"`
	Since     string `json:"since,omitempty"`
	Tail      int    `json:"tail,omitempty"`
}

// LogTemplate is one shape of log records.
type LogTemplate struct {
	Template string    `json:"template"`
	Level    string    `json:"level"`
	Count    int       `json:"count"`
	First    time.Time `json:"first,omitzero"`
	Last     time.Time `json:"last,omitzero"`
	// Line of the first record, from 1 within what was read.
	Line int `json:"line"`
	// Sample is a whole record, of errors and warnings only.
	Sample string `json:"sample,omitempty"`
}

// LogLine is a record of the log, whole.
type LogLine struct {
	Line int       `json:"line"`
	At   time.Time `json:"at,omitzero"`
	Text string    `json:"text"`
}

// LogsOut is the answer of kube_logs.
type LogsOut struct {
	Container string `json:"container"`
	Previous  bool   `json:"previous"`
	// Available is false when there is no log; Why says why.
	Available bool          `json:"available"`
	Why       string        `json:"why,omitempty"`
	Lines     int           `json:"lines"`
	Errors    int           `json:"errors"`
	Templates []LogTemplate `json:"templates"`
	// Matches are set with grep, Tail otherwise.
	Matches []LogLine `json:"matches"`
	Matched int       `json:"matched"`
	Tail    []LogLine `json:"tail"`
	// Cut says that the log was longer than what was read.
	Cut bool `json:"cut,omitempty"`
}

const (
	readLines    = 10_000 // lines read unless since or tail says otherwise
	rawRecords   = 40     // up to this many records are shown as they are
	tailRecords  = 15
	maxMatches   = 30
	maxTemplates = 25
	maxRecord    = 1500 // bytes of one record in the text
	maxGrep      = 500
)

// logs reads a container log and shows what matters of it.
func (r *reader) logs(ctx context.Context, in logsIn) (tool.Output[LogsOut], error) {
	var out tool.Output[LogsOut]
	since, err := parseSince(in.Since, 0)
	if err != nil {
		return out, err
	}
	if in.Tail < 0 {
		return out, invalid("leave it out to read the whole log", "tail %d is negative", in.Tail)
	}
	match, err := grep(in.Grep)
	if err != nil {
		return out, err
	}
	pod, err := r.src.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return out, err
	}
	container, why, err := pickContainer(pod, in.Container)
	if err != nil {
		return out, err
	}
	q := source.LogQuery{Container: container, Previous: in.Previous, Since: since, Tail: in.Tail}
	if q.Tail == 0 && q.Since == 0 {
		q.Tail = readLines
	}
	out.Data = LogsOut{Container: container, Previous: in.Previous, Templates: []LogTemplate{}, Matches: []LogLine{}, Tail: []LogLine{}}
	head := fmt.Sprintf("Pod %s/%s container %s%s", in.Namespace, in.Pod, container, why)
	if in.Previous {
		head += ", previous run"
	}
	log, err := r.src.Logs(ctx, in.Namespace, in.Pod, q)
	if reason, none := noLog(err); none {
		out.Data.Why = reason
		out.Text = head + ": no log: " + reason + "\n"
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Data.Available, out.Data.Cut = true, log.Cut
	records := logtemplate.Records(log.Text)
	r.fill(&out.Data, records, log.Text, match)
	out.Text = r.logsText(head, in, out.Data, len(records))
	ref := r.src.Ref("", "Pod", in.Namespace, in.Pod)
	out.Findings = logFindings(ref, out.Data)
	return out, nil
}

// grep compiles the expression; RE2 runs in linear time whatever it is.
func grep(expr string) (*regexp.Regexp, error) {
	if expr == "" {
		return nil, nil
	}
	if len(expr) > maxGrep {
		return nil, invalid("search for less", "grep of %d characters is longer than %d", len(expr), maxGrep)
	}
	re, err := regexp.Compile("(?i)" + expr)
	if err != nil {
		why := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return nil, invalid("quote special characters with a backslash; lookarounds and backreferences are not supported (RE2)", "grep %q is not a regular expression: %s", clip(expr, 80), why)
	}
	return re, nil
}

// pickContainer gives the container wanted, or the one in trouble, or the main
// one; why tells the reader when it was chosen for them.
func pickContainer(pod *corev1.Pod, want string) (name, why string, err error) {
	var names []string
	for _, c := range pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	switch {
	case want != "" && slices.Contains(names, want):
		return want, "", nil
	case want != "":
		return "", "", invalid("it has: "+strings.Join(names, ", "), "Pod %s/%s has no container %q", pod.Namespace, pod.Name, clip(want, 63))
	case len(names) == 0:
		return "", "", invalid("", "Pod %s/%s has no containers", pod.Namespace, pod.Name)
	case len(names) == 1:
		return names[0], "", nil
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, st := range statuses {
			w, t, last := st.State.Waiting, st.State.Terminated, st.LastTerminationState.Terminated
			if t != nil && t.ExitCode != 0 || w != nil && last != nil && last.ExitCode != 0 {
				return st.Name, " (in trouble; also: " + strings.Join(without(names, st.Name), ", ") + ")", nil
			}
		}
	}
	main := pod.Spec.Containers[0].Name
	if d := pod.Annotations["kubectl.kubernetes.io/default-container"]; slices.Contains(names, d) {
		main = d
	}
	return main, " (also: " + strings.Join(without(names, main), ", ") + ")", nil
}

func without(in []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(in), func(v string) bool { return v == s })
}

// noLog recognises the API server's and kubelet's ways of saying that there is
// no log yet or any more (k8s.io/kubernetes pkg/kubelet validateContainerLogStatus
// and pkg/registry/core/pod LogLocation); those are answers, not failures.
func noLog(err error) (string, bool) {
	if err == nil {
		return "", false
	}
	text := err.Error()
	for _, mark := range []string{"is waiting to start", "previous terminated container", "is not available", "does not have a host assigned", "not found in pod", "ContainerCreating", "PodInitializing", "trying and failing to pull image", "is terminated"} {
		if strings.Contains(text, mark) {
			_, why, ok := strings.Cut(text, "the API server refused the request: ")
			if !ok {
				why = text
			}
			why, _, _ = strings.Cut(why, ": container ")
			return oneLine(why, 300), true
		}
	}
	return "", false
}

func (r *reader) fill(d *LogsOut, records []logtemplate.Record, text string, match *regexp.Regexp) {
	sum := logtemplate.Mine(text)
	d.Lines = sum.Lines
	for _, t := range sum.Templates {
		if t.Level == logtemplate.Error {
			d.Errors += t.Count
		}
		if len(d.Templates) < maxTemplates {
			lt := LogTemplate{Template: clip(t.Text, 600), Level: t.Level.String(), Count: t.Count, First: t.First, Last: t.Last, Line: t.Number}
			if t.Level != logtemplate.Plain {
				lt.Sample = clip(t.Sample, maxRecord)
			}
			d.Templates = append(d.Templates, lt)
		}
	}
	if match == nil {
		n := tailRecords
		if len(records) <= rawRecords {
			n = len(records)
		}
		for _, rec := range records[len(records)-min(n, len(records)):] {
			d.Tail = append(d.Tail, line(rec))
		}
		return
	}
	for _, rec := range records {
		if match.MatchString(rec.Text) {
			d.Matched++
			d.Matches = append(d.Matches, line(rec))
		}
	}
	// The newest matches tell more than the oldest.
	if extra := len(d.Matches) - maxMatches; extra > 0 {
		d.Matches = d.Matches[extra:]
	}
}

func line(rec logtemplate.Record) LogLine {
	return LogLine{Line: rec.Number, At: rec.At, Text: clip(rec.Text, maxRecord)}
}

func (r *reader) logsText(head string, in logsIn, d LogsOut, records int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d lines", head, d.Lines)
	if d.Cut {
		b.WriteString(" (the log is longer; narrow with since or tail)")
	}
	b.WriteString("\n")
	if in.Grep != "" {
		fmt.Fprintf(&b, "%d of %d records match %q", d.Matched, records, in.Grep)
		if d.Matched > len(d.Matches) {
			fmt.Fprintf(&b, ", the last %d", len(d.Matches))
		}
		b.WriteString("\n")
		writeLines(&b, d.Matches)
		return b.String()
	}
	if records > rawRecords {
		fmt.Fprintf(&b, "%d error records; templates, rare errors first:\n", d.Errors)
		for _, t := range d.Templates {
			fmt.Fprintf(&b, "%s x%d", t.Level, t.Count)
			if !t.First.IsZero() {
				fmt.Fprintf(&b, " %s", t.First.Format(time.RFC3339))
				if t.Count > 1 {
					fmt.Fprintf(&b, " to %s", t.Last.Format(time.RFC3339))
				}
			}
			shown := t.Template
			if t.Level == "error" && strings.Contains(t.Sample, "\n") {
				shown = t.Sample
			}
			fmt.Fprintf(&b, " line %d: %s\n", t.Line, shown)
		}
		fmt.Fprintf(&b, "last %d records:\n", len(d.Tail))
	}
	writeLines(&b, d.Tail)
	return b.String()
}

func writeLines(b *strings.Builder, lines []LogLine) {
	for _, l := range lines {
		fmt.Fprintf(b, "%d", l.Line)
		if !l.At.IsZero() {
			b.WriteString(" " + l.At.Format("15:04:05"))
		}
		b.WriteString(" " + l.Text + "\n")
	}
}

// logFindings names the errors a log shows. They are context: a log says what
// a program felt, not why.
func logFindings(pod incident.Ref, d LogsOut) []incident.Finding {
	var out []incident.Finding
	for _, t := range d.Templates {
		if t.Level != "error" || len(out) == 3 {
			break
		}
		// What the text shows of the record, so that the claim can be checked.
		pattern := oneLine(lastLine(t.Sample), 200)
		out = append(out, incident.Finding{
			Code: "kube.log_errors", Severity: incident.Warning, Role: incident.Context, Subject: pod,
			Message:   fmt.Sprintf("container %s logged %d times: %s", d.Container, t.Count, pattern),
			Params:    map[string]string{"container": d.Container, "pattern": pattern, "count": fmt.Sprint(t.Count)},
			FirstSeen: t.First, LastSeen: t.Last,
		})
	}
	return out
}

// lastLine gives the line that says what a record is about: the exception at
// the end of a Python trace, else the first line.
func lastLine(sample string) string {
	lines := strings.Split(strings.TrimSpace(sample), "\n")
	if strings.Contains(sample, "Traceback (most recent call last)") {
		return lines[len(lines)-1]
	}
	return lines[0]
}
