package apiserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"
)

// cells reads the fields of one object for printing. Whatever is not there or
// has another type than it should is printed as empty.
type cells struct {
	m   map[string]any
	now time.Time
}

// column is one printed column.
type column struct {
	name, kind, format string
	// wide columns are shown by `kubectl get -o wide` only.
	wide  bool
	value func(cells) any
}

func (o cells) at(path string) any {
	v, _, _ := unstructured.NestedFieldNoCopy(o.m, strings.Split(path, ".")...)
	return v
}

// text gives a field as text, empty when it is not there.
func (o cells) text(path string) string {
	v := o.at(path)
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func (o cells) number(path string) int64 {
	switch v := o.at(path).(type) {
	case int64:
		return v
	case float64:
		return int64(v)
	}
	return 0
}

func (o cells) list(path string) []cells {
	items, _ := o.at(path).([]any)
	var out []cells
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			out = append(out, cells{m, o.now})
		}
	}
	return out
}

func (o cells) object(path string) map[string]any {
	m, _ := o.at(path).(map[string]any)
	return m
}

// ago gives the time since a field in kubectl's short form.
func (o cells) ago(path string) string {
	t, err := time.Parse(time.RFC3339, o.text(path))
	if err != nil {
		return "<unknown>"
	}
	return duration.HumanDuration(max(o.now.Sub(t), 0))
}

// or gives text that stands for an empty one.
func or(text, empty string) string {
	if text == "" {
		return empty
	}
	return text
}

func orNone(name, path string) column {
	return column{name: name, kind: "string", value: func(o cells) any { return or(o.text(path), "<none>") }}
}

func unsetField(name, path string) column {
	return column{name: name, kind: "string", value: func(o cells) any { return or(o.text(path), "<unset>") }}
}

func plainField(name, path string) column {
	return column{name: name, kind: "string", value: func(o cells) any { return o.text(path) }}
}

func count(name, path string) column {
	return column{name: name, kind: "integer", value: func(o cells) any { return o.number(path) }}
}

func computed(name string, fn func(cells) string) column {
	return column{name: name, kind: "string", value: func(o cells) any { return fn(o) }}
}

func wide(c column) column {
	c.wide = true
	return c
}

func nameColumn() column {
	return column{name: "Name", kind: "string", format: "name", value: func(o cells) any { return o.text("metadata.name") }}
}

func age() column {
	return computed("Age", func(o cells) string { return o.ago("metadata.creationTimestamp") })
}

func createdAt() column {
	return column{name: "Created At", kind: "date", value: func(o cells) any { return o.text("metadata.creationTimestamp") }}
}

// columnsOf gives the columns of a kind: those people know from kubectl for the
// built-in ones, those of its definition for a custom one.
func columnsOf(r *resource) []column {
	if r.custom != nil && len(r.custom.columns) > 0 {
		return append([]column{nameColumn()}, customColumns(r.custom.columns)...)
	}
	if cols := builtinColumns(r.gvr.GroupResource().String()); cols != nil {
		return cols
	}
	return []column{nameColumn(), age()}
}

func customColumns(list []any) []column {
	var out []column
	for _, item := range list {
		m, _ := item.(map[string]any)
		name, _ := m["name"].(string)
		path, _ := m["jsonPath"].(string)
		kind, _ := m["type"].(string)
		priority, _ := m["priority"].(int64)
		j := jsonpath.New(name).AllowMissingKeys(true)
		if name == "" || j.Parse("{"+path+"}") != nil {
			continue
		}
		out = append(out, column{name: name, kind: kind, wide: priority > 0, value: func(o cells) any {
			found, err := j.FindResults(o.m)
			if err != nil || len(found) == 0 || len(found[0]) == 0 {
				return nil
			}
			v := found[0][0].Interface()
			if kind == "date" {
				t, err := time.Parse(time.RFC3339, fmt.Sprint(v))
				if err != nil {
					return "<unknown>"
				}
				return duration.HumanDuration(max(o.now.Sub(t), 0))
			}
			switch v.(type) {
			case string, bool, int64, float64:
				return v
			}
			return fmt.Sprint(v)
		}})
	}
	return out
}

// printed is the server-side printing of kubectl get.
func (s *Server) printed(q request, f form, items []*unstructured.Unstructured, md metav1.ListMeta) metav1.Table {
	cols := columnsOf(q.resource)
	t := metav1.Table{TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"}, ListMeta: md, Rows: []metav1.TableRow{}}
	for _, c := range cols {
		d := metav1.TableColumnDefinition{Name: c.name, Type: or(c.kind, "string"), Format: c.format}
		if c.wide {
			d.Priority = 1
		}
		t.ColumnDefinitions = append(t.ColumnDefinitions, d)
	}
	for _, u := range items {
		row := metav1.TableRow{Cells: make([]any, 0, len(cols))}
		for _, c := range cols {
			row.Cells = append(row.Cells, c.value(cells{u.Object, s.now()}))
		}
		switch f.include {
		case metav1.IncludeNone:
		case metav1.IncludeObject:
			row.Object = runtime.RawExtension{Object: u}
		default:
			row.Object = runtime.RawExtension{Object: &unstructured.Unstructured{Object: partial(u)}}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// joined lists a field of each item, at most n of them.
func joined(items []cells, path string, n int) string {
	var out []string
	for i, o := range items {
		if n > 0 && i == n {
			out = append(out, fmt.Sprintf("+ %d more...", len(items)-n))
			break
		}
		out = append(out, o.text(path))
	}
	return strings.Join(out, ",")
}

// labelsText gives a map as a selector is written.
func labelsText(m map[string]any) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s=%v", k, m[k]))
	}
	return or(strings.Join(out, ","), "<none>")
}

// selectorOf prints a label selector in the form of a query.
func selectorOf(o cells, path string) string {
	m := o.object(path)
	var ls metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &ls); err != nil || m == nil {
		return "<none>"
	}
	return metav1.FormatLabelSelector(&ls)
}
