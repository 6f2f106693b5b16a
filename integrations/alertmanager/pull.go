package alertmanager

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Pull says which alerts of an Alertmanager become questions.
type Pull struct {
	// URL is the base of the Alertmanager, without /api/v2.
	URL    string
	Client ClientConfig
	// Alert is a regular expression that the whole name of an alert fits; empty takes
	// all.
	Alert string
	// Match are further matchers in Alertmanager's notation.
	Match []string
	// Cluster is the one that the alerts are about.
	Cluster string
}

// Pulled is a group of alerts as a question.
type Pulled struct {
	Question incident.Question
	// Alerts of the group, the most urgent first.
	Alerts []incident.Alert
	// Title names it in a line.
	Title string
}

// Questions lists the alerts that fire and are neither silenced nor inhibited, grouped as
// Alertmanager groups them, and of groups about the same things the first. Each group is a
// question. With none, the list is empty and there is no error.
func (p Pull) Questions(ctx context.Context) ([]Pulled, error) {
	c, err := newClient(p.URL, p.Client)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Invalid, User: err.Error(), Err: err}
	}
	defer c.close()
	matchers, err := parseMatchers(p.Match)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Invalid, User: err.Error(), Err: err}
	}
	if p.Alert != "" {
		re, err := regexp.Compile("^(?:" + p.Alert + ")$")
		if err != nil {
			return nil, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("the regular expression %q of alert names cannot be read", clip(p.Alert, 100)), Fix: "write it as GPU.*", Err: err}
		}
		matchers = append(matchers, Matcher{Label: "alertname", Op: "=~", Value: p.Alert, re: re})
	}
	q := url.Values{"active": {"true"}, "silenced": {"false"}, "inhibited": {"false"}}
	for _, m := range matchers {
		q.Add("filter", m.String())
	}
	var groups []struct {
		Labels map[string]string `json:"labels"`
		Alerts []gettable        `json:"alerts"`
	}
	if err := c.do(ctx, http.MethodGet, "/api/v2/alerts/groups", q, nil, nil, &groups); err != nil {
		return nil, err
	}
	d := &Desk{cluster: p.Cluster}
	var out []Pulled
	var seen []string
	for _, g := range groups {
		var alerts []incident.Alert
		for _, ga := range g.Alerts {
			a := ga.alert()
			// A server that does not know the filters gives more than was asked for; one
			// alert stands in the group of each receiver.
			if ga.Status.State != "active" || len(a.Labels) == 0 || slices.ContainsFunc(matchers, func(m Matcher) bool { return !m.Matches(a.Labels) }) || slices.Contains(seen, a.Fingerprint) {
				continue
			}
			seen = append(seen, a.Fingerprint)
			alerts = append(alerts, a)
		}
		if len(alerts) > 0 {
			d.urgency(alerts)
			out = append(out, Pulled{Alerts: alerts})
		}
	}
	slices.SortStableFunc(out, func(a, b Pulled) int { return d.urgent(a.Alerts[0], b.Alerts[0]) })
	return d.asked(out), nil
}

// asked makes the questions of groups: those about the same things are one.
func (d *Desk) asked(groups []Pulled) []Pulled {
	var out []Pulled
	for _, p := range groups {
		var about []incident.Ref
		for _, a := range p.Alerts {
			about = appendNew(about, d.subjects(a)...)
		}
		same := slices.IndexFunc(out, func(o Pulled) bool {
			if len(about) == 0 {
				return false
			}
			var theirs []incident.Ref
			for _, a := range o.Alerts {
				theirs = appendNew(theirs, d.subjects(a)...)
			}
			return !slices.ContainsFunc(about, func(r incident.Ref) bool { return !slices.ContainsFunc(theirs, r.Same) })
		})
		if same >= 0 {
			out[same].Alerts = append(out[same].Alerts, p.Alerts...)
			continue
		}
		out = append(out, p)
	}
	for n := range out {
		d.urgency(out[n].Alerts)
		out[n].Question, out[n].Title = d.question(out[n].Alerts), strings.TrimSpace(d.title(out[n].Alerts))
	}
	return out
}
