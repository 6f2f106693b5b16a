package source

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Event is what happened to an object, repeats merged.
type Event struct {
	Involved incident.Ref `json:"involved"`
	// UID of the involved object: an event of an earlier object of the same name
	// has another one. Empty for most node events, where kubelets write the name.
	UID string `json:"uid,omitempty"`
	// FieldPath names the container, "spec.containers{app}", where there is one.
	FieldPath string `json:"field_path,omitempty"`
	Type      string `json:"type"`
	Reason    string `json:"reason"`
	Message   string `json:"message"`
	// Source is the component that reported it, Host its node if it has one.
	Source string `json:"source,omitempty"`
	Host   string `json:"host,omitempty"`
	Count  int    `json:"count"`
	// First and Last are when it was seen first and last.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// Warning reports whether the event is of type Warning.
func (e Event) Warning() bool { return e.Type == corev1.EventTypeWarning }

// Container gives the container of FieldPath, empty if there is none.
func (e Event) Container() string {
	_, rest, ok := strings.Cut(e.FieldPath, "{")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "}")
	return name
}

// Events lists the events of a namespace (empty: all), or of one object when
// involved is not zero, newest last seen first, repeats merged. Events of the
// newer events.k8s.io API are in the same list: both APIs show one store.
// Events of cluster-scoped objects live in namespace "default" or elsewhere,
// so they are looked for in all namespaces, and in "default" where that is not allowed.
func (s *Source) Events(ctx context.Context, namespace string, involved incident.Ref) ([]Event, error) {
	c := call{resource: "events", namespace: namespace}
	if !involved.IsZero() {
		c.namespace = involved.Namespace
		c.fields = involvedSelector(involved)
	}
	got, err := s.events(ctx, c)
	if err != nil && tool.KindOf(err) == tool.Forbidden && c.namespace == "" && !involved.IsZero() {
		c.namespace = metav1.NamespaceDefault
		got, err = s.events(ctx, c)
	}
	if err != nil {
		return nil, err
	}
	if involved.IsZero() {
		return got, nil
	}
	return slices.DeleteFunc(slices.Clone(got), func(e Event) bool {
		return involved.Name != "" && e.Involved.Name != involved.Name ||
			involved.Kind != "" && !strings.EqualFold(e.Involved.Kind, involved.Kind) ||
			involved.Group != "" && e.Involved.Group != "" && e.Involved.Group != involved.Group
	}), nil
}

// involvedSelector narrows on the server; kind and name are selectable fields
// of core/v1 events (pkg/registry/core/event/strategy.go ToSelectableFields).
func involvedSelector(r incident.Ref) string {
	set := fields.Set{}
	if r.Name != "" {
		set["involvedObject.name"] = r.Name
	}
	if r.Kind != "" {
		set["involvedObject.kind"] = r.Kind
	}
	return set.String()
}

func (s *Source) events(ctx context.Context, c call) ([]Event, error) {
	c.verb = "list"
	return cached(ctx, s, c, func(ctx context.Context) ([]Event, int, error) {
		all, err := pages(ctx, c, func(ctx context.Context, o metav1.ListOptions) ([]Event, string, error) {
			l, err := s.client.CoreV1().Events(c.namespace).List(ctx, o)
			if err != nil {
				return nil, "", err
			}
			out := make([]Event, 0, len(l.Items))
			for i := range l.Items {
				out = append(out, s.event(&l.Items[i]))
			}
			return out, l.Continue, nil
		})
		merged := mergeEvents(all)
		return merged, len(merged), err
	})
}

func (s *Source) event(e *corev1.Event) Event {
	gv, err := schema.ParseGroupVersion(e.InvolvedObject.APIVersion)
	if err != nil {
		gv = schema.GroupVersion{}
	}
	o := Event{
		Involved:  s.Ref(gv.Group, e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name),
		UID:       string(e.InvolvedObject.UID),
		FieldPath: e.InvolvedObject.FieldPath,
		Type:      e.Type, Reason: e.Reason, Message: strings.TrimSpace(e.Message),
		Source: e.Source.Component, Host: e.Source.Host,
		Count: int(e.Count), First: e.FirstTimestamp.Time, Last: e.LastTimestamp.Time,
	}
	if o.Source == "" {
		o.Source = e.ReportingController
	}
	if e.Series != nil {
		o.Count = max(o.Count, int(e.Series.Count))
		o.Last = latest(o.Last, e.Series.LastObservedTime.Time)
	}
	o.Count = max(o.Count, 1)
	// Events of events.k8s.io carry EventTime only; an event with no time at all
	// is as old as its object.
	for _, t := range []time.Time{e.EventTime.Time, e.CreationTimestamp.Time} {
		if o.First.IsZero() {
			o.First = t
		}
		if o.Last.IsZero() {
			o.Last = t
		}
	}
	o.Last = latest(o.Last, o.First)
	return o
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// mergeEvents joins events that say the same of the same object and sorts by
// last seen, newest first.
func mergeEvents(in []Event) []Event {
	type key struct {
		ref                             incident.Ref
		uid, path, typ, reason, message string
	}
	at := map[key]int{}
	out := make([]Event, 0, len(in))
	for _, e := range in {
		k := key{e.Involved, e.UID, e.FieldPath, e.Type, e.Reason, e.Message}
		i, ok := at[k]
		if !ok {
			at[k] = len(out)
			out = append(out, e)
			continue
		}
		have := &out[i]
		have.Count += e.Count
		if e.First.Before(have.First) {
			have.First = e.First
		}
		have.Last = latest(have.Last, e.Last)
	}
	slices.SortStableFunc(out, func(a, b Event) int {
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		if c := strings.Compare(a.Involved.String(), b.Involved.String()); c != 0 {
			return c
		}
		return strings.Compare(a.Reason+a.Message, b.Reason+b.Message)
	})
	return out
}
