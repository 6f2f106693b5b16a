package prom

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// AlertsIn is the input of prom_alerts.
type AlertsIn struct {
	Namespace string `json:"namespace,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty" jsonschema:"an object the alerts are about"`
	Alert     string `json:"alert,omitempty" jsonschema:"alert name"`
	Pending   bool   `json:"pending,omitempty" jsonschema:"pending ones too"`
}

// AlertsOut is the answer of prom_alerts.
type AlertsOut struct {
	Firing     int     `json:"firing"`
	Suppressed int     `json:"suppressed"`
	Pending    int     `json:"pending"`
	Resolved   int     `json:"resolved"`
	Alerts     []Alert `json:"alerts"`
	// Silences that hold back an alert of the answer.
	Silences []Silence `json:"silences,omitempty"`
	// Groups are how Alertmanager groups the alerts for its receivers.
	Groups []AlertGroup `json:"groups,omitempty"`
	// Alertmanager says whether one was asked; without it silences are not known.
	Alertmanager bool `json:"alertmanager"`
}

// Silence is a silence of Alertmanager.
type Silence struct {
	ID       string    `json:"id"`
	By       string    `json:"by,omitempty"`
	Comment  string    `json:"comment,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	State    string    `json:"state,omitempty"`
	Matchers []string  `json:"matchers"`
}

// AlertGroup is one group of Alertmanager.
type AlertGroup struct {
	Receiver string            `json:"receiver"`
	Labels   map[string]string `json:"labels"`
	Alerts   int               `json:"alerts"`
}

const (
	// shownAlerts bounds the alerts of one answer, judgedAlerts those that
	// become findings.
	shownAlerts  = 100
	judgedAlerts = 40
)

// alerts lists alerts and turns them into findings on what they are about.
func (t *Toolset) alerts(ctx context.Context, in AlertsIn) (tool.Output[AlertsOut], error) {
	var out tool.Output[AlertsOut]
	if (in.Kind == "") != (in.Name == "") {
		return out, &tool.Error{Kind: tool.Invalid, User: "kind and name go together", Fix: "give both, or only namespace"}
	}
	s, err := t.watch.state(ctx)
	if err != nil {
		return out, err
	}
	d := AlertsOut{Alerts: []Alert{}, Alertmanager: s.managed}
	total := 0
	for _, a := range s.alerts {
		if !wanted(in, a) {
			continue
		}
		switch a.State {
		case "firing":
			d.Firing++
		case "suppressed":
			d.Suppressed++
		case "pending":
			d.Pending++
			if !in.Pending {
				continue
			}
		case "resolved":
			d.Resolved++
		}
		total++
		if len(d.Alerts) < shownAlerts {
			d.Alerts = append(d.Alerts, a)
		}
	}
	for i := range d.Alerts {
		if i < judgedAlerts {
			t.judge(ctx, s, &d.Alerts[i], &out)
		}
		for _, id := range d.Alerts[i].SilencedBy {
			if sil, ok := s.silences[id]; ok && !slices.ContainsFunc(d.Silences, func(o Silence) bool { return o.ID == id }) {
				d.Silences = append(d.Silences, silence(sil))
			}
		}
	}
	if d.Groups, err = t.groups(ctx, in); err != nil && tool.KindOf(err) == tool.TimedOut && ctx.Err() != nil {
		return out, err
	}
	out.Data, out.Text = d, t.alertsText(in, d, total, s)
	return out, nil
}

// wanted reports whether an alert fits the question. Watchdogs fire always and
// are no alerts.
func wanted(in AlertsIn, a Alert) bool {
	switch {
	case in.Alert != "":
		return strings.EqualFold(in.Alert, a.Name)
	case watchdog(a.Name):
		return false
	case in.Name != "":
		return concerns(a, in.Namespace, in.Kind, in.Name)
	case in.Namespace != "":
		return slices.ContainsFunc(a.About, func(r incident.Ref) bool {
			return r.Namespace == in.Namespace || r.Kind == "Namespace" && r.Name == in.Namespace
		})
	}
	return true
}

// watchdog names the alerts that prove the alerting path by firing always, and
// those that exist only to inhibit others.
func watchdog(name string) bool {
	switch strings.ToLower(name) {
	case "watchdog", "deadmansswitch", "deadmanswitch", "deadman", "infoinhibitor", "alwaysfiring":
		return true
	}
	return false
}

// judge turns one alert into a finding, with edges to what it is about.
func (t *Toolset) judge(ctx context.Context, s *snapshot, a *Alert, out *tool.Output[AlertsOut]) {
	if a.State == "pending" {
		return
	}
	alert := incident.Ref{Cluster: t.cluster, Kind: "Alert", Name: a.Name}
	subject := alert
	if len(a.About) > 0 {
		subject = a.About[0]
		// A survey names it; whether it is still there decides what it means.
		if t.exists != nil {
			if there, err := t.exists(ctx, subject); err == nil && !there {
				a.Gone = true
			}
		}
	}
	f := incident.Finding{Subject: subject, Severity: severity(a.Severity), FirstSeen: a.Since, LastSeen: a.Until,
		Params: map[string]string{"alert": a.Name, "severity": a.Severity}}
	said := a.Name
	if a.Summary != "" {
		said += ": " + a.Summary
	}
	why := ""
	switch {
	case a.State == "resolved":
		f.Code, f.Role = "prom.alert_resolved", incident.History
		f.Params["since"], f.Params["until"] = stamp(a.Since), stamp(a.Until)
		f.Message = fmt.Sprintf("alert %s fired until %s and is over", said, stamp(a.Until))
	case a.Gone:
		why = subject.String() + " does not exist any more"
	case len(a.SilencedBy) > 0:
		why = "silenced"
		if sil, ok := s.silences[a.SilencedBy[0]]; ok {
			why = fmt.Sprintf("silenced by %s until %s", cmp.Or(sil.CreatedBy, "somebody"), stamp(sil.EndsAt))
		}
	case a.State == "suppressed":
		why = "inhibited by another alert"
	case f.Severity == incident.Info:
		why = "of severity " + a.Severity
	default:
		f.Code, f.Role = "prom.alert_firing", incident.Symptom
		f.Params["since"], f.Params["summary"] = stamp(a.Since), a.Summary
		f.Message = "alert " + said
		if !a.Since.IsZero() {
			f.Message = fmt.Sprintf("alert %s fires since %s", said, stamp(a.Since))
		}
	}
	if why != "" {
		f.Code, f.Role, f.Severity = "prom.alert_noted", incident.Context, incident.Info
		f.Params["why"] = why
		f.Message = fmt.Sprintf("alert %s, %s", said, why)
	}
	out.Findings = append(out.Findings, f)
	for _, r := range a.About {
		out.Edges = append(out.Edges, incident.Edge{From: alert, Relation: AboutRelation, To: r, Note: a.State})
	}
	if f.Role == incident.Symptom {
		t.scrapes(s, *a, subject, out)
	}
}

// scrapes ties an alert that tells of failing scrapes to the targets that fail.
func (t *Toolset) scrapes(s *snapshot, a Alert, subject incident.Ref, out *tool.Output[AlertsOut]) {
	if !aboutScrapes(a) {
		return
	}
	for _, tg := range s.targets {
		// What the alert and the target both say must agree, and they must have
		// the job or the instance in common.
		common := false
		agree := true
		for k, v := range a.Labels {
			have, ok := tg.Labels[k]
			agree = agree && (!ok || have == v)
			common = common || ok && have == v && (k == "job" || k == "instance" || k == "pod")
		}
		if !common || !agree {
			continue
		}
		f := t.down(tg, "prom.scrape_failing", incident.Fault)
		f.FirstSeen = a.Since
		out.Findings = append(out.Findings, f)
		if f.Subject != subject {
			out.Edges = append(out.Edges, incident.Edge{From: subject, Relation: Scrapes, To: f.Subject, Note: "target down"})
		}
	}
}

// aboutScrapes reports whether an alert's expression reads the series up, or its
// name says that a target is down where the expression is not known.
func aboutScrapes(a Alert) bool {
	if a.Expr == "" {
		low := strings.ToLower(a.Name)
		return strings.Contains(low, "targetdown") || strings.Contains(low, "targetmissing") || strings.Contains(low, "exporterdown") || low == "instancedown"
	}
	parsed, err := parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(a.Expr)
	if err != nil {
		return false
	}
	for _, ms := range parser.ExtractSelectors(parsed) {
		for _, m := range ms {
			if m.Name == metric.Name && m.Type == labels.MatchEqual && m.Value == "up" {
				return true
			}
		}
	}
	return false
}

// down is the finding of a target that is down.
func (t *Toolset) down(tg Target, code string, role incident.Role) incident.Finding {
	subject := incident.Ref{Cluster: t.cluster, Kind: "Target", Name: tg.Job + "/" + tg.Instance}
	if tg.About != nil {
		subject = *tg.About
	}
	f := incident.Finding{Code: code, Role: role, Severity: incident.Warning, Subject: subject,
		Params: map[string]string{"job": tg.Job, "instance": tg.Instance, "reason": tg.Reason, "error": tg.Error}}
	f.Message = fmt.Sprintf("Prometheus cannot scrape %s of job %s", tg.Instance, tg.Job)
	if tg.Error != "" {
		f.Message += ": " + tg.Error
	}
	return f
}

func silence(s amSilence) Silence {
	out := Silence{ID: s.ID, By: clip(s.CreatedBy, 100), Comment: clip(s.Comment, 300), Until: s.EndsAt, State: s.Status.State, Matchers: []string{}}
	for _, m := range s.Matchers {
		out.Matchers = append(out.Matchers, m.String())
	}
	return out
}

// groups asks Alertmanager how it groups the alerts of the question.
func (t *Toolset) groups(ctx context.Context, in AlertsIn) ([]AlertGroup, error) {
	var list []amGroup
	there, err := t.client.alertmanager(ctx, "alerts/groups", nil, &list)
	if !there || err != nil {
		return nil, err
	}
	var out []AlertGroup
	for _, g := range list {
		n := 0
		for _, a := range g.Alerts {
			one := Alert{Name: a.Labels["alertname"], Labels: a.Labels}
			one.About = aboutAlert(t.cluster, one)
			if wanted(in, one) {
				n++
			}
		}
		if n > 0 && len(out) < shownAlerts {
			out = append(out, AlertGroup{Receiver: g.Receiver.Name, Labels: g.Labels, Alerts: n})
		}
	}
	return out, nil
}

func (t *Toolset) alertsText(in AlertsIn, d AlertsOut, total int, s *snapshot) string {
	var b strings.Builder
	about := ""
	switch {
	case in.Alert != "":
		about = " named " + in.Alert
	case in.Name != "":
		about = " about " + incident.Ref{Kind: in.Kind, Namespace: in.Namespace, Name: in.Name}.String()
	case in.Namespace != "":
		about = " in namespace " + in.Namespace
	}
	fmt.Fprintf(&b, "alerts%s: %d firing, %d suppressed, %d pending, %d over within %s\n", about, d.Firing, d.Suppressed, d.Pending, d.Resolved, short(recently))
	for _, a := range d.Alerts {
		fmt.Fprintf(&b, "%s %s", a.State, a.Name)
		if a.Severity != "" {
			fmt.Fprintf(&b, " (%s)", a.Severity)
		}
		if len(a.About) > 0 {
			fmt.Fprintf(&b, " about %s", a.About[0])
		} else {
			fmt.Fprintf(&b, " %s", differing(a.Labels, map[string]string{"alertname": a.Name, "severity": a.Severity}))
		}
		if a.Gone {
			b.WriteString(", which does not exist any more")
		}
		switch {
		case !a.Until.IsZero():
			fmt.Fprintf(&b, ", from %s until %s", stamp(a.Since), stamp(a.Until))
		case !a.Since.IsZero():
			fmt.Fprintf(&b, ", since %s", stamp(a.Since))
		}
		if a.Summary != "" {
			fmt.Fprintf(&b, ": %s", a.Summary)
		}
		if a.Value != "" {
			fmt.Fprintf(&b, " [value %s]", a.Value)
		}
		b.WriteByte('\n')
	}
	if total > len(d.Alerts) {
		fmt.Fprintf(&b, "%d more; narrow by namespace or alert\n", total-len(d.Alerts))
	}
	for _, sil := range d.Silences {
		fmt.Fprintf(&b, "silence by %s until %s (%s): %s\n", cmp.Or(sil.By, "somebody"), stamp(sil.Until), strings.Join(sil.Matchers, " "), sil.Comment)
	}
	for _, tg := range s.targets {
		if tg.About != nil && in.Name != "" && tg.About.Kind == in.Kind && tg.About.Name == in.Name && tg.About.Namespace == in.Namespace {
			fmt.Fprintf(&b, "target %s of job %s is down: %s\n", tg.Instance, tg.Job, cmp.Or(tg.Error, "no reason given"))
		}
	}
	if !d.Alertmanager {
		b.WriteString("silences are not known: no Alertmanager was asked\n")
	}
	return strings.TrimRight(b.String(), "\n")
}
