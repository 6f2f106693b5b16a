package kube

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Condition is a status condition of any kind.
type Condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Generation is the observedGeneration where the condition carries one.
	Generation int64 `json:"generation,omitempty"`
}

// conditionsOf reads status.conditions, the convention all kinds share.
func conditionsOf(u *unstructured.Unstructured) []Condition {
	out := []Condition{}
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range list {
		m, ok := c.(map[string]any)
		if !ok {
			continue
		}
		str := func(k string) string { s, _ := m[k].(string); return s }
		cond := Condition{Type: str("type"), Status: str("status"), Reason: str("reason"), Message: str("message")}
		for _, k := range []string{"lastTransitionTime", "lastUpdateTime"} {
			if t, err := time.Parse(time.RFC3339, str(k)); err == nil {
				cond.Since = t.UTC()
				break
			}
		}
		if g, ok := m["observedGeneration"].(int64); ok {
			cond.Generation = g
		}
		if cond.Type != "" {
			out = append(out, cond)
		}
	}
	return out
}

// stateOf gives one word for the state of an object of any kind: what a person
// looks for in a list. Empty for kinds without state.
func stateOf(u *unstructured.Unstructured) string {
	if u.GetDeletionTimestamp() != nil {
		return "Terminating"
	}
	switch u.GetKind() {
	case "Pod":
		return podState(u)
	case "Node":
		return nodeState(u)
	}
	for _, f := range []string{"phase", "state", "status"} {
		if s, ok, _ := unstructured.NestedString(u.Object, "status", f); ok && s != "" && len(s) < 40 {
			return s
		}
	}
	if u.GetKind() == "ResourceClaim" {
		if _, ok, _ := unstructured.NestedMap(u.Object, "status", "allocation"); !ok {
			return "unallocated"
		}
		if held, _, _ := unstructured.NestedSlice(u.Object, "status", "reservedFor"); len(held) == 0 {
			return "allocated,unreserved"
		}
		return "allocated,reserved"
	}
	if want, ok, _ := unstructured.NestedInt64(u.Object, "spec", "replicas"); ok {
		ready, counted, _ := unstructured.NestedInt64(u.Object, "status", "readyReplicas")
		if !counted {
			// Some kinds count the available ones only, and no kind counts zero.
			ready, _, _ = unstructured.NestedInt64(u.Object, "status", "availableReplicas")
		}
		switch {
		case want == 0:
			return "ScaledToZero"
		case ready >= want:
			return "Ready"
		}
		return "NotReady"
	}
	return conditionState(conditionsOf(u))
}

// conditionState words the conditions that people read first.
func conditionState(conds []Condition) string {
	for _, want := range []string{"Failed", "Complete", "Suspended", "Ready", "Available", "Programmed", "Accepted", "Succeeded", "Finished", "Established"} {
		for _, c := range conds {
			if c.Type != want {
				continue
			}
			switch {
			case c.Status == "True":
				return c.Type
			case want == "Failed" || want == "Complete" || want == "Suspended" || want == "Finished":
				// False of these says nothing.
			case c.Reason != "":
				return "Not" + c.Type + ":" + c.Reason
			default:
				return "Not" + c.Type
			}
		}
	}
	return ""
}

// podState follows what kubectl prints under STATUS.
func podState(u *unstructured.Unstructured) string {
	phase, _, _ := unstructured.NestedString(u.Object, "status", "phase")
	if reason, _, _ := unstructured.NestedString(u.Object, "status", "reason"); reason != "" {
		phase = reason
	}
	for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
		statuses, _, _ := unstructured.NestedSlice(u.Object, "status", list)
		for _, s := range statuses {
			m, ok := s.(map[string]any)
			if !ok {
				continue
			}
			prefix := ""
			if list == "initContainerStatuses" {
				prefix = "Init:"
			}
			if why, _, _ := unstructured.NestedString(m, "state", "waiting", "reason"); why != "" && why != "PodInitializing" && (why != "ContainerCreating" || prefix == "") {
				return prefix + why
			}
			if code, ok, _ := unstructured.NestedInt64(m, "state", "terminated", "exitCode"); ok && code != 0 {
				why, _, _ := unstructured.NestedString(m, "state", "terminated", "reason")
				if why == "" {
					why = fmt.Sprintf("ExitCode:%d", code)
				}
				return prefix + why
			}
		}
	}
	if phase == "Running" {
		for _, c := range conditionsOf(u) {
			if c.Type == "Ready" && c.Status != "True" {
				return "NotReady"
			}
		}
	}
	if phase == "" {
		return "Unknown"
	}
	return phase
}

func nodeState(u *unstructured.Unstructured) string {
	words := []string{"Unknown"}
	for _, c := range conditionsOf(u) {
		if c.Type == "Ready" {
			words[0] = map[string]string{"True": "Ready", "False": "NotReady"}[c.Status]
			if words[0] == "" {
				words[0] = "Unknown"
			}
		}
	}
	if off, _, _ := unstructured.NestedBool(u.Object, "spec", "unschedulable"); off {
		words = append(words, "SchedulingDisabled")
	}
	return strings.Join(words, ",")
}
