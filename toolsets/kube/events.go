package kube

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

type eventsIn struct {
	Namespace string `json:"namespace,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty"`
	Type      string `json:"type,omitempty" jsonschema:"Warning or Normal"`
	Reason    string `json:"reason,omitempty"`
	Since     string `json:"since,omitempty"`
}

// EventGroup is one kind of happening, over all objects it happened to.
type EventGroup struct {
	Type   string `json:"type"`
	Reason string `json:"reason"`
	// Message of the newest event of the group.
	Message string         `json:"message"`
	Source  string         `json:"source,omitempty"`
	Count   int            `json:"count"`
	First   time.Time      `json:"first,omitzero"`
	Last    time.Time      `json:"last,omitzero"`
	Objects []incident.Ref `json:"objects"`
	// ObjectCount is how many objects; Objects lists the first ten.
	ObjectCount int `json:"object_count"`
}

// EventsOut is the answer of kube_events.
type EventsOut struct {
	Total  int          `json:"total"`
	Groups []EventGroup `json:"groups"`
}

const (
	maxEventGroups  = 40
	maxGroupObjects = 10
)

// events lists what happened, the same happening to many objects as one line.
func (r *reader) events(ctx context.Context, in eventsIn) (tool.Output[EventsOut], error) {
	var out tool.Output[EventsOut]
	since, err := parseSince(in.Since, 0)
	if err != nil {
		return out, err
	}
	if t := in.Type; t != "" && !strings.EqualFold(t, "Warning") && !strings.EqualFold(t, "Normal") {
		return out, invalid("leave it out for both", "type %q is neither Warning nor Normal", clip(t, 40))
	}
	about, where, err := r.about(ctx, in)
	if err != nil {
		return out, err
	}
	all, err := r.src.Events(ctx, in.Namespace, about)
	if err != nil {
		return out, err
	}
	oldest := time.Time{}
	if since > 0 {
		oldest = r.src.Now().Add(-since)
	}
	kept := make([]source.Event, 0, len(all))
	for _, e := range all {
		if (in.Type == "" || strings.EqualFold(e.Type, in.Type)) && (in.Reason == "" || strings.EqualFold(e.Reason, in.Reason)) && !e.Last.Before(oldest) {
			kept = append(kept, e)
		}
	}
	groups := groupEvents(kept)
	out.Data = EventsOut{Total: len(kept), Groups: groups[:min(len(groups), maxEventGroups)]}
	out.Text = r.eventsText(where, len(all), len(groups), out.Data)
	return out, nil
}

// about turns the filter into a reference. A name without a kind stands for
// any kind: an object that is gone may still have events.
func (r *reader) about(ctx context.Context, in eventsIn) (incident.Ref, string, error) {
	where := "the cluster"
	if in.Namespace != "" {
		where = "namespace " + in.Namespace
	}
	if in.Kind == "" && in.Name == "" {
		return incident.Ref{}, where, nil
	}
	ref := incident.Ref{Cluster: r.src.Cluster(), Namespace: in.Namespace, Name: in.Name}
	if in.Kind != "" {
		m, err := r.src.Find(ctx, in.Kind)
		if err != nil {
			return ref, "", err
		}
		ref.Group, ref.Kind = m.GVR.Group, m.Kind
		if !m.Namespaced {
			ref.Namespace = ""
		}
	}
	if in.Name == "" {
		return ref, ref.Kind + " objects in " + where, nil
	}
	return ref, ref.String(), nil
}

func (r *reader) eventsText(where string, all, groups int, d EventsOut) string {
	if d.Total == 0 {
		text := "no events for " + where
		if all > 0 {
			text += fmt.Sprintf(" match the filter (%d in all)", all)
		}
		return text + "; events are usually kept for an hour\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d events for %s\n", d.Total, where)
	for _, g := range d.Groups {
		b.WriteString(r.eventLine(g) + "\n")
	}
	if more := groups - len(d.Groups); more > 0 {
		fmt.Fprintf(&b, "and %d more kinds of event; narrow with reason, type or since\n", more)
	}
	return b.String()
}

func (r *reader) eventLine(g EventGroup) string {
	who := ""
	if len(g.Objects) > 0 {
		who = g.Objects[0].String()
	}
	if g.ObjectCount > 1 {
		who += fmt.Sprintf(" and %d more", g.ObjectCount-1)
	}
	times := ""
	if g.Count > 1 {
		times = fmt.Sprintf(" x%d since %s", g.Count, r.ago(g.First))
	}
	line := fmt.Sprintf("%s ago%s %s %s %s: %s", r.ago(g.Last), times, g.Type, g.Reason, who, oneLine(g.Message, 600))
	if g.Source != "" {
		line += " [" + g.Source + "]"
	}
	return line
}

// groupEvents joins events that differ only in object names and numbers, newest first.
func groupEvents(in []source.Event) []EventGroup {
	digits := regexp.MustCompile(`[0-9]+`)
	type place struct {
		group  string
		object incident.Ref
	}
	at := map[string]int{}
	seen := map[place]bool{}
	out := []EventGroup{}
	for _, e := range in {
		shape := e.Message
		if e.Involved.Name != "" {
			shape = strings.ReplaceAll(shape, e.Involved.Name, "<name>")
		}
		key := strings.Join([]string{e.Type, e.Reason, e.Involved.Kind, digits.ReplaceAllString(shape, "#")}, "\x00")
		i, ok := at[key]
		known := seen[place{key, e.Involved}]
		seen[place{key, e.Involved}] = true
		if !ok {
			at[key] = len(out)
			out = append(out, EventGroup{Type: e.Type, Reason: e.Reason, Message: e.Message, Source: e.Source, Count: e.Count, First: e.First, Last: e.Last, Objects: []incident.Ref{e.Involved}, ObjectCount: 1})
			continue
		}
		g := &out[i]
		g.Count += e.Count
		if e.First.Before(g.First) {
			g.First = e.First
		}
		if e.Last.After(g.Last) {
			g.Last, g.Message = e.Last, e.Message
		}
		if !known {
			g.ObjectCount++
			if len(g.Objects) < maxGroupObjects {
				g.Objects = append(g.Objects, e.Involved)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b EventGroup) int { return b.Last.Compare(a.Last) })
	return out
}
