package serving

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// States that every system's own words are brought to.
const (
	healthy     = "Healthy"
	progressing = "Progressing"
	degraded    = "Degraded"
	failed      = "Failed"
	unknown     = "Unknown"
)

// condition is one condition of an object, read by field: versions differ in what
// else they carry.
type condition struct {
	kind, status, reason, message string
	since                         time.Time
	// generation of the object that the condition is about; 0 if not said.
	generation int64
}

// conditionsAt reads a list of conditions below a path.
func conditionsAt(o map[string]any, path ...string) []condition {
	list, _, _ := unstructured.NestedSlice(o, path...)
	var out []condition
	for _, x := range list {
		m, ok := x.(map[string]any)
		if !ok {
			continue
		}
		c := condition{kind: text(m["type"]), status: text(m["status"]), reason: text(m["reason"]), message: text(m["message"])}
		if at, err := time.Parse(time.RFC3339, text(m["lastTransitionTime"])); err == nil {
			c.since = at
		}
		c.generation = whole(m["observedGeneration"])
		if c.kind != "" {
			out = append(out, c)
		}
	}
	return out
}

// conditionsOf reads the conditions of an object, those that its parents keep of
// it (Gateway API style) included. What speaks of an earlier generation is left out.
func conditionsOf(u *unstructured.Unstructured) []condition {
	out := conditionsAt(u.Object, "status", "conditions")
	for _, p := range mapsAt(u.Object, "status", "parents") {
		out = append(out, conditionsAt(p, "conditions")...)
	}
	return slices.DeleteFunc(out, func(c condition) bool { return c.generation > 0 && c.generation < u.GetGeneration() })
}

// text gives a scalar as it is written.
func text(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case bool:
		return strconv.FormatBool(x)
	case int64:
		return strconv.FormatInt(x, 10)
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return ""
}

func whole(v any) int64 {
	switch x := v.(type) {
	case int64:
		return x
	case float64:
		return int64(x)
	}
	return 0
}

// at reads the scalar at a dotted path, empty if there is none.
func at(o map[string]any, path string) string {
	v, ok, _ := unstructured.NestedFieldNoCopy(o, strings.Split(path, ".")...)
	if !ok {
		return ""
	}
	return text(v)
}

// has reports whether something stands at a dotted path.
func has(o map[string]any, path string) bool {
	_, ok, _ := unstructured.NestedFieldNoCopy(o, strings.Split(path, ".")...)
	return ok
}

// number reads a whole number at a dotted path.
func number(o map[string]any, path string) (int64, bool) {
	v, ok, _ := unstructured.NestedFieldNoCopy(o, strings.Split(path, ".")...)
	if !ok {
		return 0, false
	}
	switch v.(type) {
	case int64, float64:
		return whole(v), true
	}
	return 0, false
}

// mapsAt reads the objects of a list.
func mapsAt(o map[string]any, path ...string) []map[string]any {
	list, _, _ := unstructured.NestedSlice(o, path...)
	var out []map[string]any
	for _, x := range list {
		if m, ok := x.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// mapAt reads an object below a path, nil if there is none.
func mapAt(o map[string]any, path ...string) map[string]any {
	m, _, _ := unstructured.NestedMap(o, path...)
	return m
}

// wordsAt reads string values of a map below a path.
func wordsAt(o map[string]any, path ...string) map[string]string {
	out := map[string]string{}
	for k, v := range mapAt(o, path...) {
		out[k] = text(v)
	}
	return out
}

func ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// over reports a pod that has ended for good.
func over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// podWord says the state of a pod in a few words.
func podWord(p *corev1.Pod) string {
	switch {
	case p.DeletionTimestamp != nil:
		return "terminating"
	case ready(p):
		return "ready"
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "ContainerCreating" && w.Reason != "PodInitializing" {
			return fmt.Sprintf("%s, %d restarts", w.Reason, c.RestartCount)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "Pending: " + c.Reason
		}
	}
	return string(p.Status.Phase) + ", not ready"
}

// list joins names, a few of many.
func list(names []string, most int) string {
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
