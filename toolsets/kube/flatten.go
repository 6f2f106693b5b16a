package kube

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Field is one value of an object with its path.
type Field struct {
	Path  string `json:"path"`
	Value string `json:"value"`
}

const (
	maxFields = 80
	maxValue  = 240
)

// index names an element of a list by its name where it has one.
func index(i int, item any) string {
	if m, ok := item.(map[string]any); ok {
		for _, k := range []string{"name", "type", "key"} {
			if s, ok := m[k].(string); ok && s != "" && len(s) < 64 {
				return "[" + s + "]"
			}
		}
	}
	return fmt.Sprintf("[%d]", i)
}

// skipped are fields told elsewhere in a description, or noise everywhere.
func skipped(path string) bool {
	switch path {
	case "spec", "status":
		return false
	case "status.conditions", "status.containerStatuses", "status.initContainerStatuses", "status.ephemeralContainerStatuses",
		"status.images", "status.observedGeneration", "status.podIPs", "status.hostIPs", "spec.volumes", "spec.tolerations", "spec.dnsPolicy",
		"spec.terminationGracePeriodSeconds", "spec.enableServiceLinks", "spec.preemptionPolicy", "spec.revisionHistoryLimit":
		return true
	}
	return strings.HasSuffix(path, ".conditions") || strings.HasSuffix(path, ".creationTimestamp") || strings.HasSuffix(path, ".terminationMessagePath") || strings.HasSuffix(path, ".terminationMessagePolicy")
}

// fieldsOf writes spec and status (for kinds without them, everything but
// metadata) as paths and values, bounded. Pod templates are left out: they are
// told as containers. more is how many values did not fit.
func fieldsOf(u *unstructured.Unstructured) (fields []Field, more int) {
	told := map[string]bool{}
	for _, t := range templatesOf(u) {
		if u.GetKind() == "Pod" {
			told["spec.containers"], told["spec.initContainers"] = true, true
			continue
		}
		told[t.at] = true
	}
	fields = []Field{}
	add := func(path, value string) {
		if value == "" {
			return
		}
		if len(fields) >= maxFields {
			more++
			return
		}
		fields = append(fields, Field{path, oneLine(value, maxValue)})
	}
	var walk func(v any, path string, depth int)
	walk = func(v any, path string, depth int) {
		if told[path] || skipped(path) || depth > maxDepth {
			return
		}
		switch v := v.(type) {
		case map[string]any:
			if len(v) > 0 && allScalars(v) && len(v) <= 12 {
				add(path, inlineMap(v))
				return
			}
			for _, k := range sortedKeys(v) {
				walk(v[k], join(path, k), depth+1)
			}
		case []any:
			if scalars, ok := scalarList(v); ok {
				add(path, scalars)
				return
			}
			for i, item := range v {
				walk(item, path+index(i, item), depth+1)
			}
		default:
			add(path, scalar(v))
		}
	}
	if u.GetKind() == "ConfigMap" {
		return keysOnly(u), 0
	}
	for _, k := range sortedKeys(u.Object) {
		if k != "metadata" && k != "apiVersion" && k != "kind" {
			walk(u.Object[k], k, 0)
		}
	}
	return fields, more
}

// keysOnly tells the keys of a ConfigMap and the size of each value.
func keysOnly(u *unstructured.Unstructured) []Field {
	out := []Field{}
	for _, f := range []string{"data", "binaryData"} {
		m, _, _ := unstructured.NestedMap(u.Object, f)
		for _, k := range sortedKeys(m) {
			out = append(out, Field{join(f, k), fmt.Sprintf("%d bytes", len(scalar(m[k])))})
		}
	}
	return out
}

func allScalars(m map[string]any) bool {
	for _, v := range m {
		switch v.(type) {
		case map[string]any, []any:
			return false
		}
	}
	return true
}

func inlineMap(m map[string]any) string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+"="+scalar(m[k]))
	}
	return strings.Join(parts, " ")
}

func scalarList(l []any) (string, bool) {
	parts := make([]string, 0, len(l))
	for _, v := range l {
		switch v.(type) {
		case map[string]any, []any:
			return "", false
		}
		parts = append(parts, scalar(v))
	}
	return strings.Join(parts, ", "), true
}
