package alertmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// A group of alerts is a subject of the journal: what was heard of it, and what was
// decided about it.
const (
	groupPrefix = "alerts.group"
	typeHeard   = "group.heard"
	typeHeld    = "group.held"
	typeJoined  = "group.joined"
	typeOver    = "group.over"
)

// groupChange is one record of a group.
type groupChange struct {
	// Heard are the alerts of which something new was heard.
	Heard *Delivery `json:"heard,omitempty"`
	Held  *hold     `json:"held,omitempty"`
	// Joined is the session that the group belongs to from now on.
	Joined string `json:"joined,omitempty"`
	// Opened counts the sessions that were opened for it until then.
	Opened int `json:"opened,omitempty"`
	// Why is a sentence, for whoever reads the journal.
	Why string `json:"why,omitempty"`
}

// hold says what a group waits for.
type hold struct {
	// Behind is a session whose investigation comes first, empty in quiet hours.
	Behind string `json:"behind,omitempty"`
	// Until is when it is looked at in any case.
	Until time.Time `json:"until"`
}

// group is what is known of a group of alerts.
type group struct {
	id, key     string
	externalURL string
	alerts      map[string]incident.Alert
	// session it belongs to; empty before there is one.
	session string
	// opened counts the sessions that were opened for it: the next one's key.
	opened int
	held   *hold
	// since is when the alerts were first heard of that now wait for a decision.
	since     time.Time
	truncated uint64
	notes     []string
	seq       uint64
}

func groupSubject(id string) string { return groupPrefix + "." + id }

// fold takes one record into a group.
func (g *group) fold(rec store.Record) error {
	var c groupChange
	if err := json.Unmarshal(rec.Data, &c); err != nil {
		return err
	}
	g.seq = rec.Seq
	switch rec.Type {
	case typeHeard:
		if c.Heard == nil {
			return fmt.Errorf("the record does not say what was heard")
		}
		if g.since.IsZero() {
			g.since = c.Heard.Received
		}
		g.key, g.externalURL, g.truncated, g.notes = c.Heard.GroupKey, c.Heard.ExternalURL, c.Heard.Truncated, c.Heard.Notes
		for _, a := range c.Heard.Alerts {
			g.alerts[a.Fingerprint] = a
		}
	case typeHeld:
		g.held = c.Held
	case typeJoined:
		g.session, g.held, g.since = c.Joined, nil, time.Time{}
		g.opened = max(g.opened, c.Opened)
	case typeOver:
		g.held, g.since = nil, time.Time{}
	}
	g.forget()
	return nil
}

// maxGroup bounds the alerts that are known of one group.
const maxGroup = MaxAlerts

// forget drops the alerts that ended the longest ago, above the bound.
func (g *group) forget() {
	if len(g.alerts) <= maxGroup {
		return
	}
	all := slices.SortedFunc(maps.Values(g.alerts), func(a, b incident.Alert) int {
		if (a.Status == resolved) != (b.Status == resolved) {
			return map[bool]int{true: -1, false: 1}[a.Status == resolved]
		}
		return a.StartsAt.Compare(b.StartsAt)
	})
	for _, a := range all[:len(all)-maxGroup] {
		delete(g.alerts, a.Fingerprint)
	}
}

// news gives the alerts of a delivery that say something new. It does not depend on
// the order in which deliveries come.
func (g *group) news(del Delivery) []incident.Alert {
	var out []incident.Alert
	for _, a := range del.Alerts {
		old, known := g.alerts[a.Fingerprint]
		if !known || newer(old, a, del.Received) {
			out = append(out, a)
		}
	}
	return out
}

// newer reports whether an alert, heard of at a time, replaces what is known of it: a
// later start always does, and an end replaces the firing with the same start. A firing
// with a start that is known to be over is a late copy, unless it comes long after the
// end: then the end was a mistake, such as a Prometheus that was away.
func newer(old, a incident.Alert, heard time.Time) bool {
	if c := a.StartsAt.Compare(old.StartsAt); c != 0 {
		return c > 0
	}
	if old.Status == a.Status {
		return false
	}
	return a.Status == resolved || heard.Sub(old.EndsAt) > again
}

// firing gives the alerts that fire, in a fixed order: the oldest first.
func (g *group) firing() []incident.Alert { return firingOf(slices.Collect(maps.Values(g.alerts))) }

func firingOf(alerts []incident.Alert) []incident.Alert {
	var out []incident.Alert
	for _, a := range alerts {
		if a.Status == firing {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, byAge)
	return out
}

func byAge(a, b incident.Alert) int {
	if c := a.StartsAt.Compare(b.StartsAt); c != 0 {
		return c
	}
	return strings.Compare(a.Fingerprint, b.Fingerprint)
}

// load gives a group as the journal has it.
func (d *Desk) load(ctx context.Context, id string) (*group, error) {
	if g := d.groups[id]; g != nil {
		return g, nil
	}
	g := &group{id: id, alerts: map[string]incident.Alert{}}
	for rec, err := range d.journal.Load(ctx, groupSubject(id), 0) {
		if err == nil {
			err = g.fold(rec)
		}
		if err != nil {
			return nil, fmt.Errorf("group %s of alerts: %w", id, err)
		}
	}
	d.groups[id] = g
	if g.held != nil {
		d.held[id] = g
	}
	return g, nil
}

// change appends one record to a group and takes it in. Where another writer was
// faster, the group is read again when it is next needed.
func (d *Desk) change(ctx context.Context, g *group, typ string, c groupChange) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	last, err := d.journal.Append(ctx, groupSubject(g.id), g.seq, store.Entry{Type: typ, Data: data})
	if err == nil {
		err = g.fold(store.Record{Seq: last, Type: typ, Data: data})
	}
	if err != nil {
		delete(d.groups, g.id)
		delete(d.held, g.id)
		return fmt.Errorf("group %s of alerts: %w", g.id, err)
	}
	if g.held != nil {
		d.held[g.id] = g
	} else {
		delete(d.held, g.id)
	}
	return nil
}
