package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

type changesIn struct {
	Namespace string `json:"namespace,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty"`
	Since     string `json:"since,omitempty"`
}

// Change is something that became different.
type Change struct {
	At      time.Time    `json:"at"`
	Subject incident.Ref `json:"subject"`
	// What is "rollout", "edit", "created", "deleted", "event" or "condition".
	What string `json:"what"`
	// By is the field manager (kubectl-edit, argocd-controller, helm) or the component.
	By string `json:"by,omitempty"`
	// Detail lines: "image of app: a:1 -> a:2", "fields spec.replicas".
	Detail []string `json:"detail"`
}

// ChangesOut is the answer of kube_changes.
type ChangesOut struct {
	Since   time.Time `json:"since"`
	Changes []Change  `json:"changes"`
	// Total is how many there are; Changes lists the newest.
	Total int `json:"total"`
}

const (
	defaultSince = 24 * time.Hour
	maxChanges   = 40
)

// history collects changes from many reads at once.
type history struct {
	*reader
	from time.Time

	mu      sync.Mutex
	changes []Change
	notes   map[string]bool
}

func (h *history) add(c Change) {
	if c.At.Before(h.from) || c.At.After(h.src.Now().Add(time.Minute)) {
		return
	}
	if c.Detail == nil {
		c.Detail = []string{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes = append(h.changes, c)
}

// note remembers why a part is missing; a lost connection ends the tool.
func (h *history) note(err error) error {
	switch tool.KindOf(err) {
	case tool.Unreachable, tool.TimedOut:
		return err
	case tool.NotFound:
		// An owner or a thing referred to that does not exist has no changes to
		// tell; that it is missing is told by others.
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes[tool.UserText(err)] = true
	return nil
}

// changes lists what changed before now, newest first.
func (r *reader) changes(ctx context.Context, in changesIn) (tool.Output[ChangesOut], error) {
	var out tool.Output[ChangesOut]
	since, err := parseSince(in.Since, defaultSince)
	if err != nil {
		return out, err
	}
	h := &history{reader: r, from: r.src.Now().Add(-since), notes: map[string]bool{}}
	where := "the cluster"
	switch {
	case in.Name != "" && in.Kind == "":
		return out, invalid("give the kind too", "the kind of %q is needed", clip(in.Name, 80))
	case in.Name != "":
		o, err := r.locate(ctx, in.Kind, in.Namespace, in.Name)
		if err != nil {
			return out, err
		}
		where = o.ref(r.src).String()
		err = h.object(ctx, o)
		if err != nil {
			return out, err
		}
	case in.Kind != "":
		m, err := r.src.Find(ctx, in.Kind)
		if err != nil {
			return out, err
		}
		where = m.GVR.Resource
		if err := h.kind(ctx, m, in.Namespace); err != nil {
			return out, err
		}
	default:
		if in.Namespace != "" {
			where = "namespace " + in.Namespace
		}
		if err := h.everything(ctx, in.Namespace); err != nil {
			return out, err
		}
	}
	all := sortChanges(h.changes)
	out.Data = ChangesOut{Since: h.from, Changes: all[:min(len(all), maxChanges)], Total: len(all)}
	out.Text = h.text(where, since, out.Data)
	return out, nil
}

// sortChanges puts the newest first and drops a change that was read twice by
// different ways.
func sortChanges(in []Change) []Change {
	slices.SortStableFunc(in, func(a, b Change) int {
		if c := b.At.Compare(a.At); c != 0 {
			return c
		}
		if a.Subject != b.Subject {
			if a.Subject.Less(b.Subject) {
				return -1
			}
			return 1
		}
		return strings.Compare(a.What+a.By+strings.Join(a.Detail, ""), b.What+b.By+strings.Join(b.Detail, ""))
	})
	out := []Change{}
	for _, c := range in {
		if !slices.ContainsFunc(out, func(o Change) bool {
			return o.At.Equal(c.At) && o.Subject == c.Subject && o.What == c.What && o.By == c.By
		}) {
			out = append(out, c)
		}
	}
	return out
}

func (h *history) text(where string, since time.Duration, d ChangesOut) string {
	var b strings.Builder
	if d.Total == 0 {
		fmt.Fprintf(&b, "nothing changed in %s in the last %s, as far as the API server remembers\n", where, age(since))
	} else {
		fmt.Fprintf(&b, "%d changes in %s in the last %s, newest first\n", d.Total, where, age(since))
	}
	for _, c := range d.Changes {
		fmt.Fprintf(&b, "%s (%s ago) %s %s", c.At.UTC().Format(time.RFC3339), h.ago(c.At), c.Subject, c.What)
		if c.By != "" {
			b.WriteString(" by " + c.By)
		}
		if len(c.Detail) > 0 {
			b.WriteString(": " + strings.Join(c.Detail, "; "))
		}
		b.WriteString("\n")
	}
	if more := d.Total - len(d.Changes); more > 0 {
		fmt.Fprintf(&b, "and %d more; narrow with kind, name, namespace or since\n", more)
	}
	notes := make([]string, 0, len(h.notes))
	for n := range h.notes {
		notes = append(notes, n)
	}
	slices.Sort(notes)
	for _, n := range notes {
		b.WriteString("not seen: " + n + "\n")
	}
	return b.String()
}

// routine are managers that write as part of running, not of changing: their
// writes to spec follow from somebody else's.
func routine(manager string) bool {
	switch manager {
	case "kube-apiserver", "kubelet", "kube-scheduler", "kube-controller-manager", "cloud-controller-manager", "kwok", "kwok-controller":
		return true
	}
	return false
}

// edits adds who changed an object when, from managedFields: the API server
// keeps for each manager the time of its last change and the fields it owns.
func (h *history) edits(ref incident.Ref, o metav1.Object) {
	created := o.GetCreationTimestamp().Time
	by, byItself := "", false
	for _, f := range o.GetManagedFields() {
		if f.Time == nil || f.Subresource != "" && f.Subresource != "scale" {
			continue
		}
		at := f.Time.Time
		if routine(f.Manager) {
			// The API server makes its own APIServices and priority classes.
			byItself = byItself || f.Manager == "kube-apiserver" && at.Sub(created) <= time.Second
			continue
		}
		// Times have a resolution of one second; the first write is the creation.
		if at.Sub(created) <= time.Second {
			if by == "" {
				by = f.Manager
			}
			continue
		}
		fields := ownedFields(f.FieldsV1)
		if len(fields) == 0 {
			continue
		}
		h.add(Change{At: at, Subject: ref, What: "edit", By: f.Manager, Detail: []string{"owns " + strings.Join(fields, ", ")}})
	}
	if !byItself || by != "" {
		h.add(Change{At: created, Subject: ref, What: "created", By: by})
	}
	if t := o.GetDeletionTimestamp(); t != nil {
		detail := []string{}
		if f := o.GetFinalizers(); len(f) > 0 {
			detail = append(detail, "waits for finalizers "+strings.Join(f, ", "))
		}
		h.add(Change{At: t.Time, Subject: ref, What: "deleted", Detail: detail})
	}
}
