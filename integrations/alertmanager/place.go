package alertmanager

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// wanted gives the firing alerts of a group that a route does not ignore.
func (d *Desk) wanted(g *group) []incident.Alert {
	return slices.DeleteFunc(g.firing(), func(a incident.Alert) bool { return d.cfg.route(a).ignore })
}

// place decides about groups of which something new was heard, or that have waited. An
// incident takes what it covers; what is left over in one neighbourhood waits for an
// investigation under way there, or is looked at together: one investigation at a time
// in a neighbourhood, however many groups tell of it.
func (d *Desk) place(ctx context.Context, groups []*group) error {
	left := map[string][]*group{}
	var order []string
	for _, g := range groups {
		placed, err := d.settled(ctx, g)
		if err != nil {
			return err
		}
		if placed {
			continue
		}
		where := d.neighbourhood(d.wanted(g)[0])[0]
		if left[where] == nil {
			order = append(order, where)
		}
		left[where] = append(left[where], g)
	}
	for _, where := range order {
		if err := d.together(ctx, left[where]); err != nil {
			return err
		}
	}
	return nil
}

// settled places a group that needs no new session: it has one, another covers it, or
// nothing of it fires.
func (d *Desk) settled(ctx context.Context, g *group) (bool, error) {
	alerts := d.wanted(g)
	own, err := d.own(ctx, g)
	if err != nil {
		return false, err
	}
	if len(alerts) == 0 {
		if own != nil && !own.gone() {
			return true, d.join(ctx, g, own, "")
		}
		if g.since.IsZero() {
			return true, nil
		}
		return true, d.change(ctx, g, typeOver, groupChange{Why: "nothing of it fires that is to be looked at"})
	}
	if own != nil && d.takes(own, alerts) {
		return true, d.join(ctx, g, own, "")
	}
	all := d.sorted()
	slices.Reverse(all) // the latest first
	for _, i := range all {
		if !d.takes(i, alerts) || digestOf(i.s) != "" {
			continue
		}
		if err := d.know(ctx, i); err != nil {
			return false, err
		}
		if d.covers(i, alerts) {
			return true, d.join(ctx, g, i, "it is about the same things")
		}
	}
	return false, nil
}

// own gives the session that a group belongs to, or the one that it was merged into;
// nil where there is none any more.
func (d *Desk) own(ctx context.Context, g *group) (*inc, error) {
	id := g.session
	for range 10 {
		if id == "" {
			return nil, nil
		}
		i := d.incidents[id]
		if i == nil {
			s, err := d.svc.Session(ctx, id)
			if missing(err) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			i = d.put(s)
		}
		if i.s.Merged == "" {
			return i, nil
		}
		id = i.s.Merged
	}
	return nil, nil
}

// sessionAlerts bounds the alerts that one session lists. Those beyond it belong to it
// all the same.
const sessionAlerts = 500

// join gives the alerts of a group to a session.
func (d *Desk) join(ctx context.Context, g *group, i *inc, why string) error {
	if err := d.note(ctx, i, d.known(g)); err != nil {
		return err
	}
	c := groupChange{Joined: i.s.ID, Why: why}
	if len(i.s.Turns) > 0 {
		// Also where the process ended between opening the session and this record.
		if n, ok := strings.CutPrefix(i.s.Turns[0].Key, g.id+"/"); ok {
			opened, err := strconv.Atoi(n)
			if err == nil {
				c.Opened = opened + 1
			}
		}
	}
	return d.change(ctx, g, typeJoined, c)
}

// known gives the alerts of a group that a route does not ignore, the firing first.
func (d *Desk) known(g *group) []incident.Alert {
	out := d.wanted(g)
	for _, a := range g.alerts {
		if a.Status == resolved && !d.cfg.route(a).ignore {
			out = append(out, a)
		}
	}
	return out
}

// note tells a session of alerts, as far as they are news to it: those that ended count
// where it knew them.
func (d *Desk) note(ctx context.Context, i *inc, alerts []incident.Alert) error {
	over := i.over()
	return d.learn(ctx, i, slices.DeleteFunc(slices.Clone(alerts), func(a incident.Alert) bool {
		if a.Status != resolved {
			return false
		}
		known := slices.ContainsFunc(i.s.Alerts, func(o incident.Alert) bool { return o.Fingerprint == a.Fingerprint })
		// The end of a firing that this session never saw begin, long after its own end,
		// is none of it: taken, it would pass the next firing off as a flap.
		return !known || !over.IsZero() && a.StartsAt.After(over.Add(time.Duration(d.cfg.FlapWindow)))
	}), false)
}

// adopt tells a session of the alerts of one that is merged into it, which saw them
// begin: those that ended are the session's as well, and it is over anew with them.
func (d *Desk) adopt(ctx context.Context, i *inc, alerts []incident.Alert) error {
	return d.learn(ctx, i, alerts, true)
}

// learn adds alerts to a session where they are newer than what it has of them. anew
// says that one that is over ends once more with the end of those.
func (d *Desk) learn(ctx context.Context, i *inc, alerts []incident.Alert, anew bool) error {
	now := d.now()
	have := map[string]incident.Alert{}
	for _, a := range i.s.Alerts {
		have[a.Fingerprint] = a
	}
	var news []incident.Alert
	for _, a := range alerts {
		if old, known := have[a.Fingerprint]; known && !newer(old, a, now) || !known && len(have) >= sessionAlerts {
			continue
		}
		have[a.Fingerprint] = a
		news = append(news, a)
	}
	fires := false
	for _, a := range have {
		fires = fires || a.Status == firing
	}
	var over *bool
	if len(have) > 0 && (fires == !i.s.Resolved.IsZero() || anew && !fires && len(news) > 0) {
		v := !fires
		over = &v
	}
	if len(news) == 0 && over == nil {
		return nil
	}
	s, err := d.svc.NoteAlerts(ctx, i.s.ID, news, over)
	if err != nil {
		return fmt.Errorf("session %s is not told of its alerts: %w", i.s.ID, err)
	}
	d.put(s)
	return nil
}

// together decides about groups of one neighbourhood that nothing accounts for.
func (d *Desk) together(ctx context.Context, groups []*group) error {
	priority, now := d.priority(groups), d.now()
	var ready []*group
	for _, g := range groups {
		if behind, until, err := d.behind(ctx, g); err != nil {
			return err
		} else if behind != "" {
			if err := d.hold(ctx, g, hold{Behind: behind, Until: until}, "an investigation in its neighbourhood is under way"); err != nil {
				return err
			}
			continue
		}
		ready = append(ready, g)
	}
	if len(ready) == 0 {
		return nil
	}
	if end := d.cfg.quiet(now); priority == session.Low && !end.IsZero() {
		for _, g := range ready {
			if err := d.hush(ctx, g, end); err != nil {
				return err
			}
		}
		return nil
	}
	i, err := d.open(ctx, ready, priority)
	if err != nil {
		return err
	}
	for _, g := range ready {
		if err := d.join(ctx, g, i, "a session was opened"); err != nil {
			return err
		}
	}
	return nil
}

// behind gives the session whose investigation a group waits for, and how long.
func (d *Desk) behind(ctx context.Context, g *group) (string, time.Time, error) {
	until := g.since.Add(time.Duration(d.cfg.Wait))
	if !until.After(d.now()) {
		return "", until, nil
	}
	for _, i := range d.sorted() {
		if i.gone() || !i.busy() {
			continue
		}
		if err := d.know(ctx, i); err != nil {
			return "", until, err
		}
		for _, a := range d.wanted(g) {
			for _, k := range d.neighbourhood(a) {
				if _, near := i.near[k]; near {
					return i.s.ID, until, nil
				}
			}
		}
	}
	return "", until, nil
}

// hold lets a group wait. What waits already is not told again.
func (d *Desk) hold(ctx context.Context, g *group, h hold, why string) error {
	if g.held != nil && g.held.Behind == h.Behind && g.held.Until.Equal(h.Until) {
		return nil
	}
	return d.change(ctx, g, typeHeld, groupChange{Held: &h, Why: why})
}

// hush lets a group wait for the end of the quiet hours, and has the journal wake the
// desk then.
func (d *Desk) hush(ctx context.Context, g *group, end time.Time) error {
	if g.held != nil && g.held.Behind == "" && g.held.Until.Equal(end) {
		return nil
	}
	e, err := wakeEntry(g.id)
	if err != nil {
		return err
	}
	t := store.Timer{Key: "alerts-quiet-" + g.id, At: end, Subject: fmt.Sprintf("%s.wake-%s-%d", queueAlerts, g.id, end.Unix()), Entry: e}
	if err := d.journal.Schedule(ctx, t); err != nil {
		return fmt.Errorf("the end of the quiet hours: %w", err)
	}
	return d.hold(ctx, g, hold{Until: end}, "quiet hours")
}

// priority is the most urgent one of the alerts of groups.
func (d *Desk) priority(groups []*group) session.Priority {
	all := session.Priorities()
	best := len(all) - 1
	for _, g := range groups {
		for _, a := range d.wanted(g) {
			best = min(best, slices.Index(all, d.cfg.route(a).priority))
		}
	}
	return all[best]
}

// looked bounds how many things one investigation begins with.
const looked = 8

// open opens a session for groups and asks its question, or adds them to the one that
// tells what the budget left out.
func (d *Desk) open(ctx context.Context, groups []*group, priority session.Priority) (*inc, error) {
	var alerts []incident.Alert
	leader := groups[0]
	for _, g := range groups {
		alerts = append(alerts, d.wanted(g)...)
		if g.id < leader.id {
			leader = g
		}
	}
	d.urgency(alerts)
	if w := d.spent(priority); w != nil {
		return d.digest(ctx, w, alerts)
	}
	for n := leader.opened; ; n++ {
		i, err := d.ask(ctx, fmt.Sprintf("%s/%d", leader.id, n), priority, alerts)
		// The key may be that of a session which a process opened that ended before it
		// said so, and which is over by now.
		if err != nil || d.takes(i, alerts) {
			return i, err
		}
	}
}

// ask opens the session with a key.
func (d *Desk) ask(ctx context.Context, key string, priority session.Priority, alerts []incident.Alert) (*inc, error) {
	a := session.Ask{Question: d.question(alerts), By: by(), Source: session.Alertmanager, Priority: priority,
		Key: key, Title: d.title(alerts), Alerts: alerts[:min(len(alerts), sessionAlerts)]}
	for _, al := range alerts {
		if ch := d.cfg.route(al).slack; ch != "" {
			if l := SlackChannel(ch, key); !slices.Contains(a.Links, l) {
				a.Links = append(a.Links, l)
			}
		}
	}
	s, _, err := d.svc.Ask(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("the question of %s: %w", count(len(alerts), "alert"), err)
	}
	return d.put(s), nil
}

// slackChannel is the surface of links that SlackChannel makes.
const slackChannel = "slack-channel"

// SlackChannel is the link that asks for a session to be told in a channel, before there
// is a thread: its key is the channel's id, a slash, and what makes it the session's own.
func SlackChannel(channel, key string) session.Link {
	return session.Link{Surface: slackChannel, Key: channel + "/" + key}
}

// WantedChannel gives the channel of a link that SlackChannel made.
func WantedChannel(l session.Link) (channel string, ok bool) {
	if l.Surface != slackChannel {
		return "", false
	}
	channel, _, ok = strings.Cut(l.Key, "/")
	return channel, ok
}

// urgency puts the most urgent alerts first, and of those the oldest.
func (d *Desk) urgency(alerts []incident.Alert) { slices.SortStableFunc(alerts, d.urgent) }

func (d *Desk) urgent(a, b incident.Alert) int {
	p := session.Priorities()
	if c := slices.Index(p, d.cfg.route(a).priority) - slices.Index(p, d.cfg.route(b).priority); c != 0 {
		return c
	}
	return byAge(a, b)
}

// question asks about alerts. One alert asks by itself. Several ask about the things
// they name: a sample that holds each kind of alert in each neighbourhood first.
func (d *Desk) question(alerts []incident.Alert) incident.Question {
	first := alerts[0]
	q := incident.Question{Cluster: d.cluster, Alert: &first}
	if sample := d.sample(alerts); len(sample) > 1 {
		q.Subjects = sample
	}
	return q
}

// sample picks the things to begin with: one of each kind of alert and neighbourhood in
// turn, until there are enough.
func (d *Desk) sample(alerts []incident.Alert) []incident.Ref {
	byKind := map[string][]incident.Ref{}
	var kinds []string
	for _, a := range alerts {
		k := d.kind(a)
		if byKind[k] == nil {
			kinds = append(kinds, k)
		}
		byKind[k] = appendNew(byKind[k], d.subjects(a)...)
	}
	var out []incident.Ref
	for n := 0; ; n++ {
		more := false
		for _, k := range kinds {
			if n < len(byKind[k]) {
				more = true
				if out = appendNew(out, byKind[k][n]); len(out) == looked {
					return out
				}
			}
		}
		if !more {
			return out
		}
	}
}

// kind is what alerts have in common that are likely of one cause: name and place.
func (d *Desk) kind(a incident.Alert) string { return a.Name + " " + d.neighbourhood(a)[0] }

// title names a session after its most urgent alert.
func (d *Desk) title(alerts []incident.Alert) string {
	a := alerts[0]
	t := a.Name
	if refs := d.subjects(a); len(refs) > 0 {
		t += " " + refs[0].String()
	}
	if n := len(alerts) - 1; n > 0 {
		t += fmt.Sprintf(" and %s", count(n, "more alert"))
	}
	return t
}
