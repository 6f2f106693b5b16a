package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Beginnings of the keys of the questions that the desk asks later in a session.
const (
	overKey  = "over/"
	grownKey = "grown/"
)

// settle brings a session in step with what is known: results are told, sessions of one
// cause become one, what ended is asked about and closed, what grew is looked at. It
// can be done any number of times.
func (d *Desk) settle(ctx context.Context, i *inc) error {
	now := d.now()
	if !i.dirty && (i.due.IsZero() || i.due.After(now)) {
		return nil
	}
	i.due = time.Time{}
	if !i.busy() && !i.gone() {
		if err := d.know(ctx, i); err != nil {
			return err
		}
		if err := d.merge(ctx, i); err != nil {
			return err
		}
	}
	if err := d.tell(ctx, i); err != nil {
		return err
	}
	i.dirty = false
	switch {
	case i.gone():
		d.retire(i)
		return nil
	case i.busy():
		return nil
	case !i.s.Resolved.IsZero():
		return d.over(ctx, i)
	case digestOf(i.s) != "":
		return d.rest(ctx, i)
	}
	return d.grown(ctx, i)
}

// retire forgets a session that is over and plays no part in a budget any more.
func (d *Desk) retire(i *inc) {
	age := d.now().Sub(i.s.Changed)
	if age < 25*time.Hour {
		i.due = i.s.Changed.Add(25 * time.Hour)
		return
	}
	delete(d.incidents, i.s.ID)
}

// merge joins a session with an older one whose first cause is the same, if both are
// near in time. The older goes on.
func (d *Desk) merge(ctx context.Context, i *inc) error {
	if i.cause == nil {
		return nil
	}
	for _, o := range d.sorted() {
		if o == i || o.gone() || o.busy() {
			continue
		}
		if err := d.know(ctx, o); err != nil {
			return err
		}
		if o.cause == nil || o.cause.Code != i.cause.Code || !o.cause.Subject.Same(i.cause.Subject) || !d.near(o, i) {
			continue
		}
		keep, drop := o, i
		if i.s.Opened.Before(o.s.Opened) || i.s.Opened.Equal(o.s.Opened) && i.s.ID < o.s.ID {
			keep, drop = i, o
		}
		if err := d.adopt(ctx, keep, drop.s.Alerts); err != nil {
			return err
		}
		s, err := d.svc.Merge(ctx, drop.s.ID, keep.s.ID)
		if err != nil {
			return fmt.Errorf("session %s has the cause of %s: %w", drop.s.ID, keep.s.ID, err)
		}
		d.put(s)
		if drop == i {
			return nil
		}
	}
	return nil
}

// near reports whether two incidents overlap in time, within the window.
func (d *Desk) near(a, b *inc) bool {
	fires := func(i *inc) bool { return i.s.Resolved.IsZero() }
	if fires(a) && fires(b) {
		return true
	}
	w := time.Duration(d.cfg.CorrelationWindow)
	end := func(i *inc) time.Time {
		if fires(i) {
			return d.now()
		}
		return i.over()
	}
	return !a.s.Opened.After(end(b).Add(w)) && !b.s.Opened.After(end(a).Add(w))
}

// Result is what is known of a turn that ended, as it stands in the queue of results.
type result struct {
	Session string `json:"session"`
	Turn    string `json:"turn"`
}

// tell puts the result of each turn that ended into the queue, once.
func (d *Desk) tell(ctx context.Context, i *inc) error {
	if d.results == nil {
		return nil
	}
	if len(i.s.Alerts) > 0 && !slices.ContainsFunc(i.s.Alerts, func(a incident.Alert) bool { return d.cfg.route(a).webhook }) {
		return nil
	}
	for _, t := range i.s.Turns {
		if _, told := i.told[t.ID]; told || !t.State.Ended() || t.State == session.Cancelled {
			continue
		}
		data, err := json.Marshal(result{Session: i.s.ID, Turn: t.ID})
		if err != nil {
			return err
		}
		_, err = d.journal.Append(ctx, queueResults+"."+t.ID, 0, store.Entry{Type: typeResult, Data: data})
		if _, there := errors.AsType[*store.ConflictError](err); err != nil && !there {
			return fmt.Errorf("the result of %s: %w", t.ID, err)
		}
		i.told[t.ID] = struct{}{}
		d.results.nudge()
	}
	return nil
}

// lastAsked gives when the desk last put a question of its own to a session, zero if it
// never did.
func lastAsked(s session.Session) time.Time {
	var last time.Time
	for _, t := range s.Turns {
		if t.Source == session.Alertmanager && (strings.HasPrefix(t.Key, overKey) || strings.HasPrefix(t.Key, grownKey)) && t.Asked.After(last) {
			last = t.Asked
		}
	}
	return last
}

// mayAsk reports whether the desk may put a question of its own to a session now; if
// not, it is looked at again when it may.
func (d *Desk) mayAsk(i *inc) bool {
	now := d.now()
	if last := lastAsked(i.s); !last.IsZero() {
		if next := last.Add(time.Duration(d.cfg.RecheckEvery)); next.After(now) {
			i.due = next
			return false
		}
	}
	if w := d.spent(session.Low); w != nil {
		i.due = w.end
		return false
	}
	return true
}

// again puts a question of the desk to a session that is there.
func (d *Desk) again(ctx context.Context, i *inc, key string, q incident.Question) (*inc, error) {
	s, _, err := d.svc.Ask(ctx, session.Ask{Session: i.s.ID, Question: q, By: by(), Source: session.Alertmanager, Priority: session.Low, Key: key})
	if err != nil {
		return nil, fmt.Errorf("a question to session %s: %w", i.s.ID, err)
	}
	return d.put(s), nil
}

// over asks whether an incident is over whose alerts all ended, and closes it when the
// answer says so and the alerts stayed away as long as they flap.
func (d *Desk) over(ctx context.Context, i *inc) error {
	key := fmt.Sprintf("%s%s/%d", overKey, i.s.ID, i.s.Resolved.UnixNano())
	n := slices.IndexFunc(i.s.Turns, func(t session.Turn) bool { return t.Key == key })
	if n < 0 {
		if !d.mayAsk(i) {
			return nil
		}
		q := incident.Question{Text: "is it over?", Cluster: d.cluster, Subjects: d.lookedAt(i)}
		if len(q.Subjects) == 0 && len(i.s.Alerts) > 0 {
			q.Alert = &i.s.Alerts[0]
		}
		_, err := d.again(ctx, i, key, q)
		return err
	}
	if t := i.s.Turns[n]; t.Outcome != incident.Healthy && t.Outcome != incident.Recovered {
		d.retire(i)
		return nil
	}
	if quiet := i.over().Add(time.Duration(d.cfg.FlapWindow)); quiet.After(d.now()) {
		i.due = quiet
		return nil
	}
	s, err := d.svc.CloseSession(ctx, i.s.ID, by())
	if err != nil {
		return fmt.Errorf("session %s is over and cannot be closed: %w", i.s.ID, err)
	}
	d.put(s)
	return nil
}

// lookedAt gives the things that the investigations of a session began with.
func (d *Desk) lookedAt(i *inc) []incident.Ref {
	var out []incident.Ref
	for _, t := range i.s.Turns {
		out = appendNew(out, t.Question.Subjects...)
		if v := d.sights[t.Run]; v != nil {
			out = appendNew(out, v.looked...)
		}
	}
	return out[:min(len(out), looked)]
}

// grown looks at alerts that came to a session later and are about things that no
// investigation of it has reached, now and then.
func (d *Desk) grown(ctx context.Context, i *inc) error {
	fresh := d.fresh(i)
	if len(fresh) == 0 || !d.mayAsk(i) {
		return nil
	}
	d.urgency(fresh)
	sample := d.sample(fresh)
	if len(sample) == 0 {
		return nil
	}
	names := make([]string, len(sample))
	for n, r := range sample {
		names[n] = r.String()
	}
	key := grownKey + i.s.ID + "/" + digest(names...)
	if slices.ContainsFunc(i.s.Turns, func(t session.Turn) bool { return t.Key == key }) {
		return nil
	}
	q := incident.Question{Text: "the alert is now about these too; is it the same cause?", Cluster: d.cluster, Alert: &fresh[0], Subjects: sample}
	_, err := d.again(ctx, i, key, q)
	return err
}

// fresh gives the alerts that no investigation of a session accounts for. One that began
// before an investigation was asked for is accounted for by another of its kind that was
// looked at: a storm is looked at by sample.
func (d *Desk) fresh(i *inc) []incident.Alert {
	reach := d.lookedAll(i)
	var asked time.Time
	for _, t := range i.s.Turns {
		if t.Asked.After(asked) {
			asked = t.Asked
		}
	}
	kinds := map[string]bool{}
	var rest []incident.Alert
	for _, a := range firingOf(i.s.Alerts) {
		if slices.ContainsFunc(d.subjects(a), func(r incident.Ref) bool { return slices.ContainsFunc(reach, r.Same) }) {
			kinds[d.kind(a)] = true
			continue
		}
		rest = append(rest, a)
	}
	return slices.DeleteFunc(rest, func(a incident.Alert) bool { return kinds[d.kind(a)] && !a.StartsAt.After(asked) })
}

// lookedAll gives what the investigations of a session reached, without what only its
// alerts name.
func (d *Desk) lookedAll(i *inc) []incident.Ref {
	var out []incident.Ref
	for _, t := range i.s.Turns {
		out = appendNew(out, t.Question.Subjects...)
		if t.Question.Alert != nil {
			out = appendNew(out, d.subjects(*t.Question.Alert)...)
		}
		if v := d.sights[t.Run]; v != nil {
			out = appendNew(appendNew(out, v.looked...), v.sick...)
		}
	}
	return out
}
