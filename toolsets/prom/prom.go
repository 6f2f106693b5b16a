// Package prom is the toolset of metrics and alerts: Prometheus and whatever
// speaks its HTTP API (Thanos, Mimir, VictoriaMetrics), and Alertmanager. It
// queries within bounds, reads series for a model (trend, change points,
// outliers against peers), and turns firing alerts, targets that are down and
// rules that fail into findings. Its Client serves other toolsets, too. It only
// reads.
package prom

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric/alias"
)

//go:embed text/*.md
var texts embed.FS

// Config of the toolset.
type Config struct {
	// Client reads the metrics.
	Client *Client
	// Cluster is the name every reference carries.
	Cluster string
	// Exists tells whether an object is there, so that an alert about one that
	// is gone accuses nobody; nil means that nobody can tell. An error counts
	// as "cannot tell".
	Exists func(context.Context, incident.Ref) (bool, error)
}

// Toolset reads one Prometheus and one Alertmanager.
type Toolset struct {
	client  *Client
	cluster string
	exists  func(context.Context, incident.Ref) (bool, error)
	watch   *watch
	aliases *alias.Table
	tools   []tool.Tool
}

var (
	_ tool.Toolset    = (*Toolset)(nil)
	_ tool.Checker    = (*Toolset)(nil)
	_ tool.Cataloguer = (*Toolset)(nil)
)

// New builds the toolset. It asks nothing; Status does.
func New(c Config) (*Toolset, error) {
	if c.Client == nil {
		c.Client = NewClient(ClientConfig{})
	}
	table, err := alias.Load()
	if err != nil {
		return nil, fmt.Errorf("prom: %w", err)
	}
	t := &Toolset{client: c.Client, cluster: c.Cluster, exists: c.Exists, aliases: table, watch: newWatch(c.Client, c.Cluster)}
	for _, add := range []func() (tool.Tool, error){
		func() (tool.Tool, error) { return read("prom_query", t.query) },
		func() (tool.Tool, error) { return read("prom_range", t.queryRange) },
		func() (tool.Tool, error) { return read("prom_series", t.series) },
		func() (tool.Tool, error) { return read("prom_alerts", t.alerts) },
		func() (tool.Tool, error) { return read("prom_rules", t.rules) },
		func() (tool.Tool, error) { return read("prom_targets", t.targets) },
	} {
		one, err := add()
		if err != nil {
			return nil, fmt.Errorf("prom: %w", err)
		}
		t.tools = append(t.tools, one)
	}
	return t, nil
}

func read[In, Out any](name string, fn tool.Func[In, Out]) (tool.Tool, error) {
	text, err := texts.ReadFile("text/" + name + ".md")
	if err != nil {
		return nil, fmt.Errorf("tool %s: %w", name, err)
	}
	return tool.New(tool.Info{Name: name, Text: strings.TrimSpace(string(text)), Effect: tool.Read}, fn)
}

// Name implements tool.Toolset.
func (t *Toolset) Name() string { return "prom" }

// Loses says what an answer lacks without the toolset.
func (t *Toolset) Loses() string { return "GPU telemetry" }

// Tools implements tool.Toolset.
func (t *Toolset) Tools() []tool.Tool { return t.tools }

// Client gives the reads of this toolset, for other toolsets.
func (t *Toolset) Client() *Client { return t.client }

// Status implements tool.Toolset: absent when nothing is configured or found,
// denied when the server refuses this identity, broken when it does not answer
// as its API would, else ready with what is missing.
func (t *Toolset) Status(ctx context.Context) tool.Status {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	found, err := t.client.Endpoints(ctx)
	if err != nil {
		return notReady(explain(ctx, "Prometheus", err))
	}
	if found.Prometheus.URL == "" && found.Alertmanager.URL == "" {
		return notReady(absent())
	}
	var limits []incident.Gap
	if found.Prometheus.URL == "" {
		limits = append(limits, incident.Gap{Source: "metrics", Why: "Prometheus not configured", Fix: fixAbsent})
	} else if _, err := t.client.InstantAt(ctx, "vector(1)", t.client.Now(), 1); err != nil {
		st := notReady(err)
		if st.State == tool.Absent {
			// Somebody named it: what answers "not found" is there and broken.
			st.State = tool.Broken
		}
		return st
	}
	// Alerts are read now, so that the checks know whom they name.
	s, err := t.watch.state(ctx)
	if err != nil {
		if found.Prometheus.URL == "" {
			return notReady(err)
		}
		return tool.Status{State: tool.Ready, Limits: append(limits, incident.Gap{Source: "alerts", Why: tool.UserText(err)})}
	}
	return tool.Status{State: tool.Ready, Limits: append(limits, s.gaps...)}
}

// statusTime is how long the servers may take to show that they answer.
const statusTime = 15 * time.Second

func notReady(err error) tool.Status {
	st := tool.Status{State: tool.Broken, Reason: tool.UserText(err)}
	switch tool.KindOf(err) {
	case tool.Forbidden:
		st.State = tool.Denied
	case tool.NotServed:
		st.State = tool.Absent
	}
	if e, ok := asToolError(err); ok {
		st.Reason, st.Fix = e.User, e.Fix
	}
	return st
}

// Checks implements tool.Checker: the alerts of a namespace or the cluster, and
// of each object that an alert names.
func (t *Toolset) Checks() []tool.Check {
	mine := func(r incident.Ref) bool { return r.Cluster == "" || r.Cluster == t.cluster }
	kind := func(want string) func(incident.Ref) bool {
		return func(r incident.Ref) bool { return r.Kind == want && mine(r) }
	}
	return []tool.Check{
		{
			Name: "alerts about", Tool: "prom_alerts",
			Applies: func(r incident.Ref) bool {
				return mine(r) && r.Kind != "Namespace" && r.Kind != "Cluster" && t.named(r)
			},
			Args:   func(r incident.Ref) any { return AlertsIn{Namespace: r.Namespace, Kind: r.Kind, Name: r.Name} },
			Follow: []string{Scrapes, graph.RunsOn},
		},
		{
			Name: "alerts in namespace", Tool: "prom_alerts", Applies: kind("Namespace"), Survey: true,
			Args: func(r incident.Ref) any { return AlertsIn{Namespace: r.Name} },
		},
		{
			Name: "alerts of the cluster", Tool: "prom_alerts", Applies: kind("Cluster"), Survey: true,
			Args: func(incident.Ref) any { return AlertsIn{} },
		},
		{
			Name: "scrape targets of the cluster", Tool: "prom_targets", Applies: kind("Cluster"), Survey: true,
			Args: func(incident.Ref) any { return TargetsIn{} },
		},
		{
			Name: "rules of the cluster", Tool: "prom_rules", Applies: kind("Cluster"), Survey: true,
			Args: func(incident.Ref) any { return RulesIn{} },
		},
	}
}

// Scrapes is the relation from what an alert is about to the target whose
// failing scrapes it tells of.
const Scrapes = "scraped-from"

// AboutRelation leads from an alert to the objects that its labels name.
const AboutRelation = "about"

// named reports whether an alert of the last snapshot is about an object.
func (t *Toolset) named(r incident.Ref) bool {
	s := t.watch.held()
	return s != nil && slices.ContainsFunc(s.alerts, func(a Alert) bool { return a.State != "pending" && concerns(a, r.Namespace, r.Kind, r.Name) })
}

// concerns reports whether an alert is about an object. An alert about a pod on
// a node is not about the node.
func concerns(a Alert, namespace, kind, name string) bool {
	for i, o := range a.About {
		if (i == 0 || o.Kind != "Node") && strings.EqualFold(o.Kind, kind) && o.Namespace == namespace && o.Name == name {
			return true
		}
	}
	return false
}

// Codes implements tool.Cataloguer.
func (t *Toolset) Codes() []tool.Code { return Codes() }

// Codes lists every finding code this toolset may emit.
func Codes() []tool.Code {
	anything := []string{"Pod", "Node", "Deployment", "StatefulSet", "DaemonSet", "Job", "Service", "PersistentVolumeClaim", "ResourceClaim", "Namespace", "Alert"}
	return []tool.Code{
		{Code: "prom.alert_firing", Role: incident.Symptom, Severity: incident.Warning, Kinds: anything, Params: []string{"alert", "severity", "since", "summary"}, Text: "An alert fires about the object."},
		{Code: "prom.alert_noted", Role: incident.Context, Severity: incident.Info, Kinds: anything, Params: []string{"alert", "severity", "why"}, Text: "An alert that asks for nothing: of severity info, silenced, inhibited, or about something that is gone."},
		{Code: "prom.alert_resolved", Role: incident.History, Severity: incident.Warning, Kinds: anything, Params: []string{"alert", "severity", "since", "until"}, Text: "An alert fired within the last hours and is over."},
		{Code: "prom.scrape_failing", Role: incident.Fault, Severity: incident.Warning, Kinds: []string{"Pod", "Node", "Target"}, Params: []string{"job", "instance", "reason", "error"}, Text: "Prometheus cannot scrape a target, and a firing alert says so."},
		{Code: "prom.target_down", Role: incident.Context, Severity: incident.Warning, Kinds: []string{"Pod", "Node", "Target"}, Params: []string{"job", "instance", "reason", "error"}, Text: "Prometheus cannot scrape a target; its metrics are missing."},
		{Code: "prom.rule_failing", Role: incident.Context, Severity: incident.Warning, Kinds: []string{"Rule"}, Params: []string{"rule", "group", "error"}, Text: "A rule cannot be evaluated: its alert cannot fire, its series are missing."},
	}
}
