// Package scenario makes incidents happen on a real control plane, so that the
// events and statuses of a case are the scheduler's and controllers' own words.
// Only what needs a kubelet or hardware is written by hand, as statuses and
// events that a scenario applies itself.
package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/evals"
)

// Scenario is one incident: the case it becomes, and how it comes about.
type Scenario struct {
	// ID names the scenario and the case.
	ID string `json:"id"`
	// Case is what case.yaml will say.
	Case evals.Case `json:"case"`
	// Fleet is generated: nodes, their devices, the driver's plugin pods.
	Fleet []Group `json:"fleet,omitempty"`
	// Steps run in order.
	Steps []Step `json:"steps"`
	// Kwok lets kwok play the kubelet: bound pods become Running.
	Kwok bool `json:"kwok,omitempty"`
	// Age moves the capture time forward, so that what just happened has lasted.
	Age Duration `json:"age,omitempty"`
	// Logs to put into the bundle: "namespace/pod/container" or
	// "namespace/pod/container.previous" to text.
	Logs map[string]string `json:"logs,omitempty"`
	// Namespaces to capture; empty means all.
	Namespaces []string `json:"namespaces,omitempty"`
	// Denied rights that the reader of the bundle lacks.
	Denied []Denied `json:"denied,omitempty"`
}

// Denied is a right that the reader lacks.
type Denied struct {
	Verb      string `json:"verb"`
	Group     string `json:"group,omitempty"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
}

// Step does one thing, or waits for one.
type Step struct {
	// Apply creates or updates documents; a status in a document is written to
	// the status subresource. The text is a template: {{now}}, {{ago "10m"}}.
	Apply string `json:"apply,omitempty"`
	// Pods writes a status onto all pods that match, as a kubelet would.
	Pods *PodsStatus `json:"pods,omitempty"`
	// Delete removes an object.
	Delete *Object `json:"delete,omitempty"`
	// Event waits for an event with this reason on an object.
	Event *EventWait `json:"event,omitempty"`
	// Wait for a field of an object to have a value.
	Wait *FieldWait `json:"wait,omitempty"`
}

// Object names an object.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// PodsStatus names pods and the status a kubelet would report. The status is a
// template like Apply; it is laid over what the pods have. Events are reported
// for each pod: reason to message, Warning unless the reason starts with a "+".
type PodsStatus struct {
	Namespace string            `json:"namespace"`
	Selector  string            `json:"selector,omitempty"`
	Name      string            `json:"name,omitempty"`
	Status    string            `json:"status,omitempty"`
	Events    map[string]string `json:"events,omitempty"`
	// Ago is when the events were last seen; Count how often.
	Ago   string `json:"ago,omitempty"`
	Count int    `json:"count,omitempty"`
}

// EventWait waits for an event. An empty Name matches any object of the kind.
type EventWait struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name,omitempty"`
	Reason    string `json:"reason"`
	// Contains must occur in the message.
	Contains string `json:"contains,omitempty"`
}

// FieldWait waits until the JSONPath of an object gives the value. With Name
// empty any object of the kind in the namespace will do.
type FieldWait struct {
	Object
	Path  string `json:"path"`
	Value string `json:"value"`
}

// Duration is written as "10m".
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	v, err := time.ParseDuration(strings.Trim(string(b), `"`))
	if err != nil {
		return fmt.Errorf("%s is not a duration such as 10m", b)
	}
	*d = Duration(v)
	return nil
}

// Load reads the scenarios of a directory, by name. Several scenarios may stand
// in one file, parted by a line of "=====".
func Load(dir string) ([]Scenario, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var out []Scenario
	var errs []error
	seen := map[string]string{}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for i, doc := range bytes.Split(raw, []byte("\n=====\n")) {
			var s Scenario
			if err := yaml.UnmarshalStrict(doc, &s); err != nil {
				errs = append(errs, fmt.Errorf("%s, scenario %d: %w", f, i+1, err))
				continue
			}
			if s.ID == "" || seen[s.ID] != "" {
				errs = append(errs, fmt.Errorf("%s, scenario %d: id %q is empty or taken by %s", f, i+1, s.ID, seen[s.ID]))
				continue
			}
			seen[s.ID] = f
			out = append(out, s)
		}
	}
	return out, errors.Join(errs...)
}

// Expand renders the template of an apply step, with {{now}} at the given time.
func Expand(text string, now time.Time) (string, error) {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	funcs := shorthands()
	maps.Copy(funcs, template.FuncMap{
		"now": func() string { return stamp(now) },
		"ago": func(d string) (string, error) {
			v, err := time.ParseDuration(d)
			return stamp(now.Add(-v)), err
		},
		"in": func(d string) (string, error) {
			v, err := time.ParseDuration(d)
			return stamp(now.Add(v)), err
		},
	})
	t, err := template.New("apply").Option("missingkey=error").Funcs(funcs).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := t.Execute(&b, nil); err != nil {
		return "", err
	}
	return b.String(), nil
}

// Run makes the incident happen with the given hands.
func Run(ctx context.Context, s Scenario, h Hands, now time.Time) error {
	docs, err := fleet(s.Fleet)
	if err != nil {
		return fmt.Errorf("scenario %s: fleet: %w", s.ID, err)
	}
	if err := h.Apply(ctx, docs); err != nil {
		return fmt.Errorf("scenario %s: fleet: %w", s.ID, err)
	}
	for i, st := range s.Steps {
		if err := step(ctx, st, h, now); err != nil {
			return fmt.Errorf("scenario %s, step %d: %w", s.ID, i+1, err)
		}
	}
	return nil
}

// Hands do to a cluster what a scenario says.
type Hands interface {
	Apply(ctx context.Context, documents []byte) error
	Pods(ctx context.Context, p PodsStatus, status []byte, now time.Time) error
	Delete(ctx context.Context, o Object) error
	Until(ctx context.Context, w any) error
}

func step(ctx context.Context, st Step, h Hands, now time.Time) error {
	switch {
	case st.Apply != "":
		text, err := Expand(st.Apply, now)
		if err != nil {
			return err
		}
		return h.Apply(ctx, []byte(text))
	case st.Pods != nil:
		text, err := Expand(st.Pods.Status, now)
		if err != nil {
			return err
		}
		return h.Pods(ctx, *st.Pods, []byte(text), now)
	case st.Delete != nil:
		return h.Delete(ctx, *st.Delete)
	case st.Event != nil:
		return h.Until(ctx, *st.Event)
	case st.Wait != nil:
		return h.Until(ctx, *st.Wait)
	}
	return errors.New("a step needs apply, delete, event or wait")
}
