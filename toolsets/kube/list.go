package kube

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

type listIn struct {
	Kind          string   `json:"kind"`
	Namespace     string   `json:"namespace,omitempty"`
	LabelSelector string   `json:"label_selector,omitempty"`
	FieldSelector string   `json:"field_selector,omitempty"`
	Columns       []string `json:"columns,omitempty" jsonschema:"HEADER:.json.path or .json.path"`
	CountOnly     bool     `json:"count_only,omitempty"`
	Limit         int      `json:"limit,omitempty" jsonschema:"rows shown, default 50, at most 500"`
}

// ListOut is the answer of kube_list.
type ListOut struct {
	Kind  string `json:"kind"`
	Total int    `json:"total"`
	// States counts objects by state over all of them, also those not shown.
	States  map[string]int `json:"states"`
	Columns []string       `json:"columns"`
	Rows    [][]string     `json:"rows"`
}

const (
	defaultRows = 50
	maxRows     = 500
)

// list makes a table of objects; only the rows shown are kept in memory.
func (r *reader) list(ctx context.Context, in listIn) (tool.Output[ListOut], error) {
	var out tool.Output[ListOut]
	if _, err := labels.Parse(in.LabelSelector); err != nil {
		return out, invalid("write it like app=web,tier!=cache", "label_selector %q: %v", clip(in.LabelSelector, 80), err)
	}
	if _, err := fields.ParseSelector(in.FieldSelector); err != nil {
		return out, invalid("write it like status.phase=Pending", "field_selector %q: %v", clip(in.FieldSelector, 80), err)
	}
	m, err := r.src.Find(ctx, in.Kind)
	if err != nil {
		return out, err
	}
	sel := source.Selectors{Labels: in.LabelSelector, Fields: in.FieldSelector}
	where := "in all namespaces"
	if !m.Namespaced {
		where = "in the cluster"
	} else if in.Namespace != "" {
		where = "in namespace " + in.Namespace
	}
	out.Data = ListOut{Kind: m.Kind, States: map[string]int{}, Columns: []string{}, Rows: [][]string{}}
	if in.CountOnly {
		n, err := r.src.Count(ctx, m, in.Namespace, sel)
		if err != nil {
			return out, err
		}
		out.Data.Total = n
		out.Text = fmt.Sprintf("%d %s %s", n, m.GVR.Resource, where)
		return out, nil
	}
	limit := in.Limit
	if limit <= 0 {
		limit = defaultRows
	}
	limit = min(limit, maxRows)
	cols, err := r.columns(ctx, m, in)
	if err != nil {
		return out, err
	}
	for _, c := range cols {
		out.Data.Columns = append(out.Data.Columns, c.name)
	}
	states := tally{}
	err = r.src.Each(ctx, m, in.Namespace, sel, func(u *unstructured.Unstructured) bool {
		out.Data.Total++
		if st := stateOf(u); st != "" {
			states[st]++
		}
		if len(out.Data.Rows) < limit {
			row := make([]string, len(cols))
			for i, c := range cols {
				row[i] = c.cell(u)
			}
			out.Data.Rows = append(out.Data.Rows, row)
		}
		return true
	})
	if err != nil {
		return out, err
	}
	out.Data.States = states
	out.Text = listText(m, where, out.Data, states)
	return out, nil
}

func listText(m source.Mapping, where string, d ListOut, states tally) string {
	text := fmt.Sprintf("%d %s %s", d.Total, m.GVR.Resource, where)
	if len(states) > 0 {
		text += ": " + states.String()
	}
	text += "\n"
	if len(d.Rows) > 0 {
		text += table(d.Columns, d.Rows)
	}
	if more := d.Total - len(d.Rows); more > 0 {
		text += fmt.Sprintf("and %d more; narrow with selectors or raise limit\n", more)
	}
	return text
}

// column is one column of a table.
type column struct {
	name string
	cell func(*unstructured.Unstructured) string
}

// columns are the ones asked for, else those of the kind: our own for kinds
// people list daily, the printer columns of a CRD, else state and age.
func (r *reader) columns(ctx context.Context, m source.Mapping, in listIn) ([]column, error) {
	var cols []column
	if m.Namespaced && in.Namespace == "" {
		cols = append(cols, column{"NAMESPACE", (*unstructured.Unstructured).GetNamespace})
	}
	cols = append(cols, column{"NAME", (*unstructured.Unstructured).GetName})
	if len(in.Columns) > 0 {
		if len(in.Columns) > 20 {
			return nil, invalid("ask for fewer", "%d columns are more than 20", len(in.Columns))
		}
		for _, c := range in.Columns {
			col, err := pathColumn(c)
			if err != nil {
				return nil, err
			}
			if !strings.EqualFold(col.name, "NAME") && !strings.EqualFold(col.name, "NAMESPACE") {
				cols = append(cols, col)
			}
		}
		return cols, nil
	}
	own := kindColumns(m)
	if own == nil {
		own = r.printerColumns(ctx, m)
	}
	for _, spec := range own {
		col, err := pathColumn(spec)
		if err == nil {
			cols = append(cols, col)
		}
	}
	state := column{"STATE", stateOf}
	old := column{"AGE", func(u *unstructured.Unstructured) string { return r.ago(u.GetCreationTimestamp().Time) }}
	return append(cols, state, old), nil
}

// pathColumn reads "HEADER:.path" or ".path".
func pathColumn(spec string) (column, error) {
	name, jp, ok := strings.Cut(spec, ":")
	if !ok || strings.ContainsAny(name, ".[{") {
		name, jp = "", spec
	}
	p, err := parsePath(jp)
	if err != nil {
		return column{}, err
	}
	if name == "" {
		name = strings.TrimSuffix(strings.TrimPrefix(p.text, "{"), "}")
		if i := strings.LastIndex(name, "."); i >= 0 && i+1 < len(name) {
			name = name[i+1:]
		}
	}
	return column{strings.ToUpper(name), func(u *unstructured.Unstructured) string { return p.cell(u.Object) }}, nil
}

// kindColumns are ours for kinds people list daily, without name, state and age.
func kindColumns(m source.Mapping) []string {
	switch m.GVR.GroupResource().String() {
	case "pods":
		return []string{"READY:.status.conditions[?(@.type==\"Ready\")].status", "RESTARTS:.status.containerStatuses[*].restartCount", "NODE:.spec.nodeName"}
	case "nodes":
		return []string{"UNSCHEDULABLE:.spec.unschedulable", "TAINTS:.spec.taints[*].key", "KUBELET:.status.nodeInfo.kubeletVersion"}
	case "deployments.apps", "replicasets.apps", "statefulsets.apps":
		return []string{"DESIRED:.spec.replicas", "READY:.status.readyReplicas", "AVAILABLE:.status.availableReplicas"}
	case "daemonsets.apps":
		return []string{"DESIRED:.status.desiredNumberScheduled", "READY:.status.numberReady", "MISSCHEDULED:.status.numberMisscheduled"}
	case "jobs.batch":
		return []string{"COMPLETIONS:.spec.completions", "ACTIVE:.status.active", "SUCCEEDED:.status.succeeded", "FAILED:.status.failed"}
	case "cronjobs.batch":
		return []string{"SCHEDULE:.spec.schedule", "SUSPEND:.spec.suspend", "LAST:.status.lastScheduleTime"}
	case "services":
		return []string{"TYPE:.spec.type", "CLUSTER-IP:.spec.clusterIP", "PORTS:.spec.ports[*].port"}
	case "persistentvolumeclaims":
		return []string{"VOLUME:.spec.volumeName", "CLASS:.spec.storageClassName", "SIZE:.spec.resources.requests.storage"}
	case "persistentvolumes":
		return []string{"CLAIM:.spec.claimRef.name", "CLASS:.spec.storageClassName", "SIZE:.spec.capacity.storage"}
	case "ingresses.networking.k8s.io":
		return []string{"CLASS:.spec.ingressClassName", "HOSTS:.spec.rules[*].host"}
	case "horizontalpodautoscalers.autoscaling":
		return []string{"TARGET:.spec.scaleTargetRef.name", "MIN:.spec.minReplicas", "MAX:.spec.maxReplicas", "NOW:.status.currentReplicas"}
	case "poddisruptionbudgets.policy":
		return []string{"ALLOWED:.status.disruptionsAllowed", "HEALTHY:.status.currentHealthy", "DESIRED:.status.desiredHealthy"}
	case "resourceclaims.resource.k8s.io":
		return []string{"RESERVED-FOR:.status.reservedFor[*].name", "DEVICES:.status.allocation.devices.results[*].device", "POOL:.status.allocation.devices.results[*].pool"}
	case "resourceslices.resource.k8s.io":
		return []string{"NODE:.spec.nodeName", "DRIVER:.spec.driver", "POOL:.spec.pool.name", "GENERATION:.spec.pool.generation"}
	case "events":
		return []string{"TYPE:.type", "REASON:.reason", "OBJECT:.involvedObject.name", "COUNT:.count", "MESSAGE:.message"}
	}
	return nil
}

// printerColumns are those a CRD brings for the served version.
func (r *reader) printerColumns(ctx context.Context, m source.Mapping) []string {
	if !strings.Contains(m.GVR.Group, ".") {
		return nil
	}
	crd, err := r.src.Find(ctx, "customresourcedefinitions.apiextensions.k8s.io")
	if err != nil {
		return nil
	}
	u, err := r.src.GetMapped(ctx, crd, "", m.GVR.GroupResource().String())
	if err != nil {
		return nil
	}
	versions, _, _ := unstructured.NestedSlice(u.Object, "spec", "versions")
	var out []string
	for _, v := range versions {
		vm, ok := v.(map[string]any)
		if !ok || vm["name"] != m.GVR.Version {
			continue
		}
		cols, _, _ := unstructured.NestedSlice(vm, "additionalPrinterColumns")
		for _, c := range cols {
			cm, ok := c.(map[string]any)
			if !ok || cm["type"] == "date" || cm["priority"] != nil && fmt.Sprint(cm["priority"]) != "0" {
				continue
			}
			out = append(out, fmt.Sprintf("%v:%v", cm["name"], cm["jsonPath"]))
		}
	}
	return out
}
