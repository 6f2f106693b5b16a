package alertmanager

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/triage"
)

// inc is a session of alerts as the desk works with it.
type inc struct {
	s session.Session
	// reach are the things that an alert about the same incident may be about.
	reach []incident.Ref
	// near are the neighbourhoods that it touches.
	near map[string]struct{}
	// cause is the first one of the last investigation that found any.
	cause *incident.Cause
	// told are the turns whose result is in the queue.
	told map[string]struct{}
	// due is when it is looked at again; zero means not before it changes.
	due   time.Time
	dirty bool
}

// sight is what a finished run saw.
type sight struct {
	// looked are its subjects, sick the things found sick on the way to its causes.
	looked, sick []incident.Ref
	cause        *incident.Cause
}

// busy reports whether an investigation is queued or runs.
func (i *inc) busy() bool {
	return slices.ContainsFunc(i.s.Turns, func(t session.Turn) bool { return !t.State.Ended() })
}

// gone reports whether nothing can be added to the session.
func (i *inc) gone() bool { return i.s.Closed || i.s.Merged != "" }

// put takes a session in as it stands.
func (d *Desk) put(s session.Session) *inc {
	i := d.incidents[s.ID]
	if i == nil {
		i = &inc{told: map[string]struct{}{}}
		d.incidents[s.ID] = i
	}
	if i.s.Seq != s.Seq || i.s.ID == "" {
		i.s, i.dirty = s, true
		i.reach, i.near = nil, nil
	}
	return i
}

// sorted gives the incidents, the oldest first.
func (d *Desk) sorted() []*inc {
	out := make([]*inc, 0, len(d.incidents))
	for _, i := range d.incidents {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b *inc) int {
		return cmp.Or(a.s.Opened.Compare(b.s.Opened), strings.Compare(a.s.ID, b.s.ID))
	})
	return out
}

// refresh reads the sessions again of which something was heard.
func (d *Desk) refresh(ctx context.Context) error {
	d.mu.Lock()
	ids := d.changed
	d.changed = map[string]struct{}{}
	d.mu.Unlock()
	for id := range ids {
		s, err := d.svc.Session(ctx, id)
		switch {
		case err == nil && s.Source == session.Alertmanager:
			d.put(s)
		case err == nil:
		case missing(err):
			delete(d.incidents, id)
		default:
			d.mu.Lock()
			d.changed[id] = struct{}{}
			d.mu.Unlock()
			return err
		}
	}
	return nil
}

// missing reports whether there is no such session or run.
func missing(err error) bool {
	if r, ok := errors.AsType[*session.Refusal](err); ok && r.Gone {
		return true
	}
	return errors.Is(err, store.ErrNotFound) || tool.KindOf(err) == tool.NotFound
}

// subjects are the things that an alert's labels name.
func (d *Desk) subjects(a incident.Alert) []incident.Ref { return triage.AlertSubjects(a, d.cluster) }

// neighbourhood of an alert: the namespace or the node of what it names, the whole
// cluster where it names nothing. The first is where its subject lives.
func (d *Desk) neighbourhood(a incident.Alert) []string {
	var out []string
	add := func(kind, name string) {
		if key := kind + "/" + name; name != "" && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	for _, r := range d.subjects(a) {
		switch {
		case r.Namespace != "":
			add("namespace", r.Namespace)
		case r.Kind == "Namespace" || r.Kind == "Node":
			add(strings.ToLower(r.Kind), r.Name)
		default:
			add(strings.ToLower(r.Kind), r.Name)
		}
	}
	if len(out) == 0 {
		return []string{"cluster"}
	}
	add("node", a.Labels["node"])
	return out
}

// know fills in what is derived from a session: the reach, the neighbourhood and the
// cause.
func (d *Desk) know(ctx context.Context, i *inc) error {
	if i.reach != nil {
		return nil
	}
	reach, near := []incident.Ref{}, map[string]struct{}{}
	for _, a := range i.s.Alerts {
		reach = appendNew(reach, d.subjects(a)...)
		for _, k := range d.neighbourhood(a) {
			near[k] = struct{}{}
		}
	}
	i.cause = nil
	for _, t := range i.s.Turns {
		reach = appendNew(reach, t.Question.Subjects...)
		if t.State != session.Answered {
			continue
		}
		v, err := d.sight(ctx, t.Run)
		if err != nil {
			return err
		}
		reach = appendNew(appendNew(reach, v.looked...), v.sick...)
		if v.cause != nil {
			i.cause = v.cause
		}
	}
	i.reach, i.near = reach, near
	return nil
}

// sight reads what a run saw. A run that the journal does not hold saw nothing.
func (d *Desk) sight(ctx context.Context, run string) (*sight, error) {
	if v := d.sights[run]; v != nil {
		return v, nil
	}
	r, err := d.svc.Run(ctx, run)
	v := &sight{}
	switch {
	case err != nil && !missing(err):
		return nil, err
	case err == nil:
		v = see(r.Report)
	}
	d.sights[run] = v
	return v, nil
}

// see takes from a report what its incident reaches: what was asked about, the causes
// and what they are said to explain, and what was found sick on the chain between. What
// is merely mentioned, or was trouble and is over, is none of it.
func see(r incident.Report) *sight {
	v := &sight{looked: r.Subjects}
	dg := r.Diagnosis
	if dg.Outcome != incident.RootCause || len(dg.Causes) == 0 {
		return v
	}
	v.cause = &dg.Causes[0]
	for _, c := range dg.Causes {
		v.sick = appendNew(v.sick, c.Subject)
		v.sick = appendNew(v.sick, c.Explains...)
	}
	sick := func(ref incident.Ref) bool {
		return slices.ContainsFunc(r.Findings, func(f incident.Finding) bool {
			return (f.Role == incident.Symptom || f.Role == incident.Fault) && f.Subject.Same(ref)
		})
	}
	for _, e := range dg.Chain {
		for _, ref := range []incident.Ref{e.From, e.To} {
			if sick(ref) {
				v.sick = appendNew(v.sick, ref)
			}
		}
	}
	return v
}

func appendNew(refs []incident.Ref, more ...incident.Ref) []incident.Ref {
	for _, r := range more {
		if !r.IsZero() && !slices.ContainsFunc(refs, r.Same) {
			refs = append(refs, r)
		}
	}
	return refs
}

// covers reports whether an incident accounts for all of these alerts: each is one of
// its own, or about a thing within its reach and begun within the window.
func (d *Desk) covers(i *inc, alerts []incident.Alert) bool {
	for _, a := range alerts {
		own := slices.ContainsFunc(i.s.Alerts, func(o incident.Alert) bool { return o.Fingerprint == a.Fingerprint })
		if own || d.timely(i, a) && slices.ContainsFunc(d.subjects(a), func(r incident.Ref) bool { return slices.ContainsFunc(i.reach, r.Same) }) {
			continue
		}
		return false
	}
	return true
}

// timely reports whether an alert began near the incident in time: it may have begun
// earlier than what was first heard of, and as long as the incident is talked about.
func (d *Desk) timely(i *inc, a incident.Alert) bool {
	w := time.Duration(d.cfg.CorrelationWindow)
	begin, end := i.s.Opened, i.s.Changed
	for _, o := range i.s.Alerts {
		if o.StartsAt.Before(begin) {
			begin = o.StartsAt
		}
		if o.StartsAt.After(end) {
			end = o.StartsAt
		}
	}
	return !a.StartsAt.Before(begin.Add(-w)) && !a.StartsAt.After(end.Add(w))
}

// over gives when the last alert of a resolved session ended, zero while one fires.
func (i *inc) over() time.Time {
	var end time.Time
	if i.s.Resolved.IsZero() {
		return end
	}
	for _, a := range i.s.Alerts {
		if a.EndsAt.After(end) {
			end = a.EndsAt
		}
	}
	if end.IsZero() {
		return i.s.Resolved
	}
	return end
}

// takes reports whether firing alerts may be added to a session: it is open, and not
// over for longer than alerts flap.
func (d *Desk) takes(i *inc, alerts []incident.Alert) bool {
	if i.gone() {
		return false
	}
	over := i.over()
	return over.IsZero() || !alerts[0].StartsAt.After(over.Add(time.Duration(d.cfg.FlapWindow)))
}
