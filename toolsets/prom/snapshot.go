package prom

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
)

// Alert is one alert as Prometheus and Alertmanager know it.
type Alert struct {
	Name string `json:"name"`
	// State is firing, pending, suppressed (silenced, inhibited or muted) or
	// resolved.
	State    string            `json:"state"`
	Severity string            `json:"severity,omitempty"`
	Labels   map[string]string `json:"labels"`
	Summary  string            `json:"summary,omitempty"`
	Since    time.Time         `json:"since,omitzero"`
	// Until is when a resolved alert ended.
	Until time.Time `json:"until,omitzero"`
	Value string    `json:"value,omitempty"`
	// Expr of the rule behind it.
	Expr        string   `json:"expr,omitempty"`
	SilencedBy  []string `json:"silenced_by,omitempty"`
	InhibitedBy []string `json:"inhibited_by,omitempty"`
	Receivers   []string `json:"receivers,omitempty"`
	// About are the objects its labels name, the likeliest first.
	About []incident.Ref `json:"about,omitempty"`
	// Gone says that the object it is about does not exist.
	Gone bool `json:"gone,omitempty"`
}

// Target is something Prometheus scrapes.
type Target struct {
	Job      string            `json:"job"`
	Instance string            `json:"instance"`
	Health   string            `json:"health"`
	Error    string            `json:"error,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	URL      string            `json:"url,omitempty"`
	Pool     string            `json:"pool,omitempty"`
	Scraped  time.Time         `json:"scraped,omitzero"`
	Labels   map[string]string `json:"labels,omitempty"`
	// About is the object behind the target, where its labels name one.
	About *incident.Ref `json:"about,omitempty"`
}

// Rule is one rule and its state.
type Rule struct {
	Name  string `json:"name"`
	Group string `json:"group"`
	File  string `json:"file,omitempty"`
	// Type is alerting or recording.
	Type  string `json:"type"`
	State string `json:"state,omitempty"`
	// Health is ok, err or unknown.
	Health string  `json:"health"`
	Error  string  `json:"error,omitempty"`
	Expr   string  `json:"expr"`
	For    float64 `json:"for_seconds,omitempty"`
	Active int     `json:"active,omitempty"`
}

// snapshot is the state of alerts, rules and targets at one moment.
type snapshot struct {
	alerts   []Alert
	rules    []Rule
	targets  []Target
	silences map[string]amSilence
	// gaps are what could not be read.
	gaps []incident.Gap
	// managed says that Alertmanager was asked.
	managed bool
}

const (
	// freshness is how long a snapshot is reused.
	freshness = 30 * time.Second
	// recently is how far back a resolved alert is told of.
	recently = 6 * time.Hour
	// mostAlerts bounds how many alerts are kept.
	mostAlerts = 2_000
)

// watch keeps the last snapshot.
type watch struct {
	client  *Client
	cluster string
	kept    *tool.Kept[*snapshot]
	last    atomic.Pointer[snapshot]
}

func newWatch(c *Client, cluster string) *watch {
	return &watch{client: c, cluster: cluster, kept: tool.NewKept[*snapshot](tool.Keep{Now: c.now, For: freshness})}
}

// state gives a snapshot that is not older than freshness.
func (w *watch) state(ctx context.Context) (*snapshot, error) {
	return w.kept.Get(ctx, "", func(ctx context.Context) (*snapshot, error) {
		s, err := w.read(ctx)
		if err == nil {
			w.last.Store(s)
		}
		return s, err
	})
}

// held is the last snapshot, nil if there is none: it asks nothing.
func (w *watch) held() *snapshot { return w.last.Load() }

// read asks for everything; only when nothing at all answers it fails.
func (w *watch) read(ctx context.Context) (*snapshot, error) {
	s := &snapshot{silences: map[string]amSilence{}}
	_, perr := w.client.prometheus(ctx)
	if perr == nil {
		w.readRules(ctx, s)
		w.readResolved(ctx, s)
		w.readTargets(ctx, s)
	} else if tool.KindOf(perr) != tool.NotServed {
		s.gaps = append(s.gaps, incident.Gap{Source: "metrics", Why: tool.UserText(perr)})
	}
	managed, err := w.readManager(ctx, s)
	if err != nil {
		s.gaps = append(s.gaps, incident.Gap{Source: "Alertmanager", Why: tool.UserText(err)})
	}
	s.managed = managed && err == nil
	if ctx.Err() != nil {
		return nil, explain(ctx, "Prometheus", ctx.Err())
	}
	if perr != nil && !s.managed {
		return nil, perr
	}
	for i := range s.alerts {
		s.alerts[i].About = aboutAlert(w.cluster, s.alerts[i])
	}
	slices.SortStableFunc(s.alerts, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(stateRank(a.State), stateRank(b.State)), cmp.Compare(severity(b.Severity).Weight(), severity(a.Severity).Weight()),
			strings.Compare(a.Name, b.Name), strings.Compare(metric.Key(a.Labels), metric.Key(b.Labels)))
	})
	if len(s.alerts) > mostAlerts {
		s.gaps = append(s.gaps, incident.Gap{Source: "alerts", Why: fmt.Sprintf("%d of %d alerts are looked at", mostAlerts, len(s.alerts))})
		s.alerts = s.alerts[:mostAlerts]
	}
	return s, nil
}

func stateRank(s string) int {
	return slices.Index([]string{"firing", "suppressed", "pending", "resolved"}, s)
}

// readRules reads the rules with their alerts. Servers without rules of their
// own (a querier, a remote store) still have the series ALERTS.
func (w *watch) readRules(ctx context.Context, s *snapshot) {
	p, err := w.client.prometheus(ctx)
	if err != nil {
		return
	}
	bound, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	res, err := p.Rules(bound, nil)
	if err != nil {
		s.gaps = append(s.gaps, incident.Gap{Source: "alerting rules", Why: tool.UserText(w.client.explain(bound, err))})
		w.readSeries(ctx, s)
		return
	}
	for _, g := range res.Groups {
		for _, r := range g.Rules {
			switch r := r.(type) {
			case v1.AlertingRule:
				s.rules = append(s.rules, Rule{Name: r.Name, Group: g.Name, File: g.File, Type: "alerting", State: r.State, Health: string(r.Health), Error: clip(r.LastError, 500), Expr: clip(r.Query, 1000), For: r.Duration, Active: len(r.Alerts)})
				for _, a := range r.Alerts {
					s.alerts = append(s.alerts, fromRule(r, *a))
				}
			case v1.RecordingRule:
				s.rules = append(s.rules, Rule{Name: r.Name, Group: g.Name, File: g.File, Type: "recording", Health: string(r.Health), Error: clip(r.LastError, 500), Expr: clip(r.Query, 1000)})
			}
		}
	}
}

func fromRule(r v1.AlertingRule, a v1.Alert) Alert {
	out := Alert{Name: r.Name, State: string(a.State), Labels: map[string]string{}, Since: a.ActiveAt, Value: a.Value, Expr: clip(r.Query, 1000)}
	for k, v := range a.Labels {
		out.Labels[string(k)] = clip(string(v), maxLabel)
	}
	texts := map[string]string{}
	for k, v := range a.Annotations {
		texts[string(k)] = string(v)
	}
	out.Severity, out.Summary = out.Labels["severity"], summary(texts)
	return out
}

// summary picks the sentence an alert says of itself.
func summary(annotations map[string]string) string {
	for _, k := range []string{"summary", "message", "description"} {
		if v := annotations[k]; v != "" {
			return clip(strings.Join(strings.Fields(v), " "), 400)
		}
	}
	return ""
}

// readSeries reads the alerts from the series that rules write.
func (w *watch) readSeries(ctx context.Context, s *snapshot) {
	got, err := w.client.InstantAt(ctx, "ALERTS", w.client.Now(), mostAlerts)
	if err != nil && len(got) == 0 {
		s.gaps = append(s.gaps, incident.Gap{Source: "alerts", Why: tool.UserText(err)})
		return
	}
	for _, one := range got {
		s.alerts = append(s.alerts, fromSeries(one.Labels, one.Labels["alertstate"]))
	}
}

func fromSeries(labels map[string]string, state string) Alert {
	labels = maps.Clone(labels)
	delete(labels, metric.Name)
	delete(labels, "alertstate")
	return Alert{Name: labels["alertname"], State: state, Severity: labels["severity"], Labels: labels}
}

// readResolved finds the alerts that fired within the last hours and do not now.
func (w *watch) readResolved(ctx context.Context, s *snapshot) {
	now := w.client.Now()
	step := 2 * time.Minute
	ans, err := w.client.queryRange(ctx, `ALERTS{alertstate="firing"}`, now.Add(-recently), now, step, mostAlerts)
	if err != nil {
		s.gaps = append(s.gaps, incident.Gap{Source: "alerts that are over", Why: tool.UserText(err)})
		return
	}
	for _, one := range ans.series {
		if len(one.Points) == 0 {
			continue
		}
		last := one.Points[len(one.Points)-1].At
		a := fromSeries(one.Labels, "resolved")
		if now.Sub(last) <= step+step/2 || slices.ContainsFunc(s.alerts, func(o Alert) bool { return o.State == "firing" && maps.Equal(o.Labels, a.Labels) }) {
			continue
		}
		// The last stretch of firing.
		first := last
		for i := len(one.Points) - 1; i > 0 && one.Points[i].At.Sub(one.Points[i-1].At) <= 2*step; i-- {
			first = one.Points[i-1].At
		}
		a.Since, a.Until = first, last
		s.alerts = append(s.alerts, a)
	}
}

// readManager joins what Alertmanager knows: what is silenced and inhibited, who
// is told, and alerts that another Prometheus sent.
func (w *watch) readManager(ctx context.Context, s *snapshot) (bool, error) {
	var list []amAlert
	there, err := w.client.alertmanager(ctx, "alerts", nil, &list)
	if !there || err != nil {
		return there, err
	}
	var silences []amSilence
	if _, err := w.client.alertmanager(ctx, "silences", nil, &silences); err != nil {
		s.gaps = append(s.gaps, incident.Gap{Source: "silences", Why: tool.UserText(err)})
	}
	for _, one := range silences {
		s.silences[one.ID] = one
	}
	for _, one := range list {
		i := slices.IndexFunc(s.alerts, func(a Alert) bool { return a.State == "firing" && within(a.Labels, one.Labels) })
		if i < 0 {
			for k, v := range one.Labels {
				one.Labels[k] = clip(v, maxLabel)
			}
			s.alerts = append(s.alerts, Alert{Name: one.Labels["alertname"], State: "firing", Severity: one.Labels["severity"], Labels: one.Labels, Summary: summary(one.Annotations), Since: one.StartsAt})
			i = len(s.alerts) - 1
		}
		a := &s.alerts[i]
		a.SilencedBy, a.InhibitedBy = one.Status.SilencedBy, append(slices.Clone(one.Status.InhibitedBy), one.Status.MutedBy...)
		for _, r := range one.Receivers {
			a.Receivers = append(a.Receivers, r.Name)
		}
		if one.Status.State == "suppressed" || len(a.SilencedBy) > 0 || len(a.InhibitedBy) > 0 {
			a.State = "suppressed"
		}
	}
	return true, nil
}

// within reports whether an alert of Prometheus is the one that Alertmanager
// has: Alertmanager's may carry more labels, those of the sender.
func within(prometheus, manager map[string]string) bool {
	for k, v := range prometheus {
		if manager[k] != v {
			return false
		}
	}
	return true
}

// readTargets finds the targets that are down. The list of all of them is large,
// so it is asked for only when there is one.
func (w *watch) readTargets(ctx context.Context, s *snapshot) {
	down, err := w.client.InstantAt(ctx, "up == 0", w.client.Now(), mostAlerts)
	if err != nil && len(down) == 0 {
		s.gaps = append(s.gaps, incident.Gap{Source: "targets", Why: tool.UserText(err)})
		return
	}
	if len(down) == 0 {
		return
	}
	all, err := w.client.targets(ctx)
	if err != nil {
		s.gaps = append(s.gaps, incident.Gap{Source: "why targets are down", Why: tool.UserText(err)})
	}
	byKey := map[string]Target{}
	for _, t := range all {
		byKey[t.Job+"|"+t.Instance] = t
	}
	for _, one := range down {
		labels := maps.Clone(one.Labels)
		delete(labels, metric.Name)
		t, ok := byKey[labels["job"]+"|"+labels["instance"]]
		if !ok {
			t = Target{Job: labels["job"], Instance: labels["instance"]}
		}
		t.Labels, t.Health = labels, "down"
		t.Reason = reason(t.Error)
		t.About = w.behind(labels)
		s.targets = append(s.targets, t)
	}
	slices.SortFunc(s.targets, func(a, b Target) int {
		return cmp.Or(strings.Compare(a.Job, b.Job), strings.Compare(a.Instance, b.Instance))
	})
}

// behind gives the object that is scraped: the pod, else the node. The labels of
// a target, unlike those of a series, are its own.
func (w *watch) behind(labels map[string]string) *incident.Ref {
	ref := incident.Ref{Cluster: w.cluster}
	switch {
	case labels["pod"] != "" && labels["namespace"] != "":
		ref.Kind, ref.Namespace, ref.Name = "Pod", labels["namespace"], labels["pod"]
	case labels["node"] != "":
		ref.Kind, ref.Name = "Node", labels["node"]
	default:
		return nil
	}
	return &ref
}

// targets asks for all active targets.
func (c *Client) targets(ctx context.Context) ([]Target, error) {
	at, err := c.reach(ctx)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if at.api == nil {
		return nil, absent()
	}
	var env struct {
		Data struct {
			Active []struct {
				Labels     map[string]string `json:"labels"`
				ScrapePool string            `json:"scrapePool"`
				ScrapeURL  string            `json:"scrapeUrl"`
				LastError  string            `json:"lastError"`
				LastScrape time.Time         `json:"lastScrape"`
				Health     string            `json:"health"`
			} `json:"activeTargets"`
		} `json:"data"`
	}
	if err := c.get(ctx, "Prometheus", guarded(at.found.Prometheus.Client), at.found.Prometheus.URL+"/api/v1/targets", url.Values{"state": {"active"}}, &env); err != nil {
		return nil, err
	}
	out := make([]Target, 0, len(env.Data.Active))
	for _, t := range env.Data.Active {
		labels := map[string]string{}
		for k, v := range t.Labels {
			labels[k] = clip(v, maxLabel)
		}
		out = append(out, Target{Job: t.Labels["job"], Instance: t.Labels["instance"], Health: t.Health, Error: clip(t.LastError, 500), Reason: reason(t.LastError),
			URL: clip(t.ScrapeURL, 300), Pool: t.ScrapePool, Scraped: t.LastScrape, Labels: labels})
	}
	return out, nil
}

// reason sorts the error of a scrape, which is in the words of Go's HTTP client
// and of Prometheus' scraper, into what stands in the way.
func reason(err string) string {
	low := strings.ToLower(err)
	for _, r := range []struct {
		reason string
		says   []string
	}{
		{"refused", []string{"connection refused"}},
		{"reset", []string{"connection reset", "broken pipe"}},
		{"timeout", []string{"deadline exceeded", "timeout", "timed out"}},
		{"dns", []string{"no such host", "server misbehaving"}},
		{"unreachable", []string{"no route to host", "network is unreachable"}},
		{"tls", []string{"x509:", "tls:", "certificate", "http response to https client", "first record does not look like a tls handshake"}},
		{"unauthorized", []string{"401", "403"}},
		{"not_found", []string{"404"}},
		{"server_error", []string{"http status 5"}},
		{"bad_format", []string{"unsupported content-type", "expected a valid", "invalid metric", "parse", "unexpected end of input", "data does not end", "invalid content"}},
		{"too_large", []string{"body size limit", "sample limit", "label limit", "exceeded"}},
		{"cut", []string{"unexpected eof", "eof"}},
	} {
		if low != "" && slices.ContainsFunc(r.says, func(s string) bool { return strings.Contains(low, s) }) {
			return r.reason
		}
	}
	if err != "" {
		return "other"
	}
	return ""
}

// severity reads the label severity, which every site spells its own way. An
// alert without one is a warning.
func severity(s string) incident.Severity {
	switch strings.ToLower(s) {
	case "critical", "page", "emergency", "fatal", "high", "error", "major", "p1", "sev1":
		return incident.Critical
	case "info", "none", "low", "notice", "debug", "informational", "p4", "p5":
		return incident.Info
	}
	return incident.Warning
}
