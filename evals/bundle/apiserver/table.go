package apiserver

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"
)

// column is one printed column: a JSONPath, or a function where a path will not do.
type column struct {
	name, path string
	value      func(map[string]any) string
}

// columns are what people know from kubectl get, for the kinds met most.
func columns(plural string) []column {
	path := func(name, p string) column { return column{name: name, path: p} }
	switch plural {
	case "pods":
		return []column{{name: "Ready", value: readyContainers}, {name: "Status", value: podStatus}, {name: "Restarts", value: restarts}, path("Node", ".spec.nodeName")}
	case "nodes":
		return []column{{name: "Status", value: nodeStatus}, path("Version", ".status.nodeInfo.kubeletVersion")}
	case "deployments", "statefulsets":
		return []column{{name: "Ready", value: replicas}, path("Up-to-date", ".status.updatedReplicas"), path("Available", ".status.availableReplicas")}
	case "replicasets":
		return []column{path("Desired", ".spec.replicas"), path("Current", ".status.replicas"), path("Ready", ".status.readyReplicas")}
	case "daemonsets":
		return []column{path("Desired", ".status.desiredNumberScheduled"), path("Ready", ".status.numberReady"), path("Available", ".status.numberAvailable")}
	case "jobs":
		return []column{path("Completions", ".spec.completions"), path("Succeeded", ".status.succeeded"), path("Failed", ".status.failed")}
	case "services":
		return []column{path("Type", ".spec.type"), path("Cluster-IP", ".spec.clusterIP"), path("Port(s)", ".spec.ports[*].port")}
	case "persistentvolumeclaims":
		return []column{path("Status", ".status.phase"), path("Volume", ".spec.volumeName"), path("StorageClass", ".spec.storageClassName")}
	case "namespaces":
		return []column{path("Status", ".status.phase")}
	case "resourceclaims":
		return []column{{name: "State", value: claimState}}
	case "resourceslices":
		return []column{path("Node", ".spec.nodeName"), path("Driver", ".spec.driver"), path("Pool", ".spec.pool.name")}
	case "events":
		return []column{path("Last Seen", ".lastTimestamp"), path("Type", ".type"), path("Reason", ".reason"), path("Object", ".involvedObject.name"), path("Message", ".message")}
	}
	return nil
}

// table is the server-side printing of kubectl get.
func (s *Server) table(q request, items []*unstructured.Unstructured, version, next string) metav1.Table {
	cols := columns(q.gvr.Resource)
	t := metav1.Table{TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"}, ListMeta: metav1.ListMeta{ResourceVersion: version, Continue: next}, Rows: []metav1.TableRow{}}
	t.ColumnDefinitions = append(t.ColumnDefinitions, metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name"})
	for _, c := range cols {
		t.ColumnDefinitions = append(t.ColumnDefinitions, metav1.TableColumnDefinition{Name: c.name, Type: "string"})
	}
	t.ColumnDefinitions = append(t.ColumnDefinitions, metav1.TableColumnDefinition{Name: "Age", Type: "string"})
	for _, u := range items {
		cells := []any{u.GetName()}
		for _, c := range cols {
			cells = append(cells, c.cell(u.Object))
		}
		cells = append(cells, duration.HumanDuration(max(s.now().Sub(u.GetCreationTimestamp().Time), time.Second)))
		t.Rows = append(t.Rows, metav1.TableRow{Cells: cells, Object: runtime.RawExtension{Object: &unstructured.Unstructured{Object: partial(u)}}})
	}
	return t
}

func (c column) cell(obj map[string]any) string {
	if c.value != nil {
		return c.value(obj)
	}
	j := jsonpath.New(c.name).AllowMissingKeys(true)
	var b strings.Builder
	if err := j.Parse("{" + c.path + "}"); err != nil {
		return err.Error()
	}
	if err := j.Execute(&b, obj); err != nil || b.Len() == 0 {
		return "<none>"
	}
	return b.String()
}

func statuses(obj map[string]any) []map[string]any {
	list, _, _ := unstructured.NestedSlice(obj, "status", "containerStatuses")
	var out []map[string]any
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func readyContainers(obj map[string]any) string {
	list, _, _ := unstructured.NestedSlice(obj, "spec", "containers")
	ready := 0
	for _, c := range statuses(obj) {
		if c["ready"] == true {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, len(list))
}

func podStatus(obj map[string]any) string {
	if d, _, _ := unstructured.NestedString(obj, "metadata", "deletionTimestamp"); d != "" {
		return "Terminating"
	}
	for _, c := range statuses(obj) {
		for _, state := range []string{"waiting", "terminated"} {
			if reason, _, _ := unstructured.NestedString(c, "state", state, "reason"); reason != "" {
				return reason
			}
		}
	}
	if reason, _, _ := unstructured.NestedString(obj, "status", "reason"); reason != "" {
		return reason
	}
	phase, _, _ := unstructured.NestedString(obj, "status", "phase")
	return phase
}

func restarts(obj map[string]any) string {
	var n int64
	for _, c := range statuses(obj) {
		switch v := c["restartCount"].(type) {
		case int64:
			n += v
		case float64:
			n += int64(v)
		}
	}
	return fmt.Sprint(n)
}

func nodeStatus(obj map[string]any) string {
	out := "Unknown"
	list, _, _ := unstructured.NestedSlice(obj, "status", "conditions")
	for _, c := range list {
		m, _ := c.(map[string]any)
		if m["type"] == "Ready" {
			out = map[any]string{"True": "Ready", "False": "NotReady"}[m["status"]]
		}
	}
	if u, _, _ := unstructured.NestedBool(obj, "spec", "unschedulable"); u {
		out += ",SchedulingDisabled"
	}
	return out
}

func replicas(obj map[string]any) string {
	num := func(path ...string) any {
		v, ok, _ := unstructured.NestedFieldNoCopy(obj, path...)
		if !ok {
			return 0
		}
		return v
	}
	return fmt.Sprintf("%v/%v", num("status", "readyReplicas"), num("spec", "replicas"))
}

func claimState(obj map[string]any) string {
	var parts []string
	if d, _, _ := unstructured.NestedString(obj, "metadata", "deletionTimestamp"); d != "" {
		parts = append(parts, "deleted")
	}
	_, allocated, _ := unstructured.NestedMap(obj, "status", "allocation")
	if allocated {
		parts = append(parts, "allocated")
	} else if len(parts) == 0 {
		parts = append(parts, "pending")
	}
	if list, _, _ := unstructured.NestedSlice(obj, "status", "reservedFor"); len(list) > 0 {
		parts = append(parts, "reserved")
	}
	return strings.Join(parts, ",")
}
