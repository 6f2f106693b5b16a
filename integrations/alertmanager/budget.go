package alertmanager

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
)

// period is an hour or a day, in UTC, whose budget is spent.
type period struct {
	// key names it within the keys of questions.
	key   string
	name  string
	limit int
	end   time.Time
}

// digestKey begins the keys of the questions about what a budget left out.
const digestKey = "digest/"

// spent gives the period whose budget leaves no room for an investigation, nil if there
// is room. A quarter is kept for high priorities; what tells of the rest is not counted.
func (d *Desk) spent(p session.Priority) *period {
	now := d.now().UTC()
	hour, day := now.Truncate(time.Hour), now.Truncate(24*time.Hour)
	inHour, inDay := 0, 0
	for _, i := range d.incidents {
		for _, t := range i.s.Turns {
			if t.Source != session.Alertmanager || strings.HasPrefix(t.Key, digestKey) {
				continue
			}
			if !t.Asked.Before(hour) {
				inHour++
			}
			if !t.Asked.Before(day) {
				inDay++
			}
		}
	}
	room := func(limit int) int {
		if p == session.High {
			return limit
		}
		return limit - limit/4
	}
	switch b := d.cfg.Budgets; {
	case inDay >= room(b.PerDay):
		return &period{key: digestKey + "day/" + day.Format(time.DateOnly), name: "the day of " + day.Format(time.DateOnly), limit: b.PerDay, end: day.Add(24 * time.Hour)}
	case inHour >= room(b.PerHour):
		return &period{key: digestKey + "hour/" + hour.Format("2006-01-02T15"), name: "the hour from " + hour.Format("15:04") + " UTC", limit: b.PerHour, end: hour.Add(time.Hour)}
	}
	return nil
}

// digestOf gives the key of the period whose left-out alerts a session tells of, empty
// for any other session.
func digestOf(s session.Session) string {
	if len(s.Turns) == 0 || !strings.HasPrefix(s.Turns[0].Key, digestKey) {
		return ""
	}
	return s.Turns[0].Key
}

// digest gives the session that tells what the budget of a period left out: the first
// alerts open it, later ones are added, and one question looks at a sample.
func (d *Desk) digest(ctx context.Context, w *period, alerts []incident.Alert) (*inc, error) {
	for _, i := range d.incidents {
		if digestOf(i.s) == w.key && !i.gone() {
			return i, nil
		}
	}
	q := incident.Question{Text: d.leftOut(w.name, w.limit, alerts), Cluster: d.cluster, Subjects: d.sample(alerts)}
	if len(q.Subjects) == 0 {
		q.Alert = &alerts[0]
	}
	s, _, err := d.svc.Ask(ctx, session.Ask{Question: q, By: by(), Source: session.Alertmanager, Priority: session.Low, Key: w.key,
		Title: fmt.Sprintf("alerts that the budget left out in %s", w.name), Alerts: alerts[:min(len(alerts), sessionAlerts)]})
	if err != nil {
		return nil, fmt.Errorf("the question about what the budget leaves out: %w", err)
	}
	return d.put(s), nil
}

// leftOut says what was not looked at each on its own.
func (d *Desk) leftOut(name string, limit int, alerts []incident.Alert) string {
	return clip(fmt.Sprintf("alerts are investigated at most %d times in %s; these were not looked at each on their own: %s. What do they have in common?", limit, name, tally(alerts)), 2000)
}

// tally counts alerts by name, the most frequent first.
func tally(alerts []incident.Alert) string {
	n := map[string]int{}
	var names []string
	for _, a := range alerts {
		if n[a.Name]++; n[a.Name] == 1 {
			names = append(names, a.Name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := n[b] - n[a]; c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, 0, len(names))
	for _, name := range names[:min(len(names), 20)] {
		parts = append(parts, fmt.Sprintf("%s (%d)", clip(name, 80), n[name]))
	}
	if more := len(names) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("%d more names", more))
	}
	return strings.Join(parts, ", ")
}

// rest asks once, after a period, about what came after its digest was opened.
func (d *Desk) rest(ctx context.Context, i *inc) error {
	key := digestOf(i.s)
	end, ok := digestEnd(key)
	switch {
	case !ok || i.busy() || slices.ContainsFunc(i.s.Turns, func(t session.Turn) bool { return t.Key == key+"/rest" }):
		return nil
	case d.now().Before(end):
		i.due = end
		return nil
	}
	asked := i.s.Turns[0].Asked
	var late []incident.Alert
	for _, a := range firingOf(i.s.Alerts) {
		if a.StartsAt.After(asked) || !slices.ContainsFunc(d.subjects(a), func(r incident.Ref) bool { return slices.ContainsFunc(i.s.Turns[0].Question.Subjects, r.Same) }) {
			late = append(late, a)
		}
	}
	if len(late) == 0 {
		return nil
	}
	d.urgency(late)
	_, err := d.again(ctx, i, key+"/rest", incident.Question{Cluster: d.cluster, Subjects: d.sample(late),
		Text: clip(fmt.Sprintf("these still fire and were not looked at each on their own: %s. What is wrong?", tally(late)), 2000)})
	return err
}

// digestEnd gives when the period of a digest ends.
func digestEnd(key string) (time.Time, bool) {
	rest := strings.TrimPrefix(key, digestKey)
	if s, ok := strings.CutPrefix(rest, "hour/"); ok {
		t, err := time.Parse("2006-01-02T15", s)
		return t.Add(time.Hour), err == nil
	}
	s, ok := strings.CutPrefix(rest, "day/")
	t, err := time.Parse(time.DateOnly, s)
	return t.Add(24 * time.Hour), ok && err == nil
}
