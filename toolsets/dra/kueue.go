package dra

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// kueueGroup is the API group of Kueue (sigs.k8s.io/kueue).
const kueueGroup = "kueue.x-k8s.io"

// KueueIn names a Workload or the object it was made for.
type KueueIn struct {
	Namespace string `json:"namespace"`
	Kind      string `json:"kind"`
	Name      string `json:"name"`
}

// Kueue lists the Workloads of an object and why they are held.
type Kueue struct {
	Served    bool          `json:"served" jsonschema:"the cluster has Kueue"`
	Workloads []KueueHolder `json:"workloads"`
}

// KueueHolder is one Workload.
type KueueHolder struct {
	Workload string `json:"workload"`
	Queue    string `json:"queue,omitempty"`
	Admitted bool   `json:"admitted"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	Class    string `json:"class,omitempty" jsonschema:"DeviceClass without a mapping"`
}

func (t *Toolset) kueueTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_kueue", Text: text("dra_kueue"), Effect: tool.Read}, t.kueue)
}

// workloadsVersion is the version of Workload that the server has, empty without Kueue.
func (r *reader) workloadsVersion() (string, error) {
	groups, err := r.disco.ServerGroups()
	if err != nil {
		return "", failure(err, "discover", "API groups", "", "")
	}
	for _, g := range groups.Groups {
		if g.Name == kueueGroup {
			if g.PreferredVersion.Version != "" {
				return g.PreferredVersion.Version, nil
			}
			if len(g.Versions) > 0 {
				return g.Versions[0].Version, nil
			}
		}
	}
	return "", nil
}

// unmappedClass matches what Kueue says of a DeviceClass that its configuration
// does not map (deviceClassMappings).
func unmappedClass() *regexp.Regexp {
	return regexp.MustCompile(`(?i)device ?class(?:es)?[: ]+"?\[?([a-z0-9][a-z0-9.-]*[a-z0-9])"?\]? (?:is|are) not mapped`)
}

func (t *Toolset) kueue(ctx context.Context, in KueueIn) (tool.Output[Kueue], error) {
	out := Kueue{Workloads: []KueueHolder{}}
	version, err := t.read.workloadsVersion()
	if err != nil {
		return tool.Output[Kueue]{}, err
	}
	if version == "" || t.read.dyn == nil {
		return tool.Output[Kueue]{Data: out, Text: "this cluster has no Kueue"}, nil
	}
	out.Served = true
	var fs []incident.Finding
	var es []incident.Edge
	gvr := schema.GroupVersionResource{Group: kueueGroup, Version: version, Resource: "workloads"}
	err = pages(ctx, metav1.ListOptions{Limit: pageSize}, t.read.dyn.Resource(gvr).Namespace(in.Namespace).List, func(l *unstructured.UnstructuredList) {
		for i := range l.Items {
			w := &l.Items[i]
			owned := slices.ContainsFunc(w.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.Kind == in.Kind && o.Name == in.Name })
			if in.Kind == "Workload" && w.GetName() == in.Name || owned {
				h, f, e := t.workload(w, in)
				out.Workloads = append(out.Workloads, h)
				fs, es = append(fs, f...), append(es, e...)
			}
		}
	})
	if err != nil {
		return tool.Output[Kueue]{}, failure(err, "list", "workloads."+kueueGroup, in.Namespace, "")
	}
	return tool.Output[Kueue]{Data: out, Text: kueueText(&out, in), Findings: fs, Edges: es}, nil
}

func (t *Toolset) workload(w *unstructured.Unstructured, in KueueIn) (KueueHolder, []incident.Finding, []incident.Edge) {
	h := KueueHolder{Workload: w.GetName()}
	h.Queue, _, _ = unstructured.NestedString(w.Object, "spec", "queueName")
	conds, _, _ := unstructured.NestedSlice(w.Object, "status", "conditions")
	for _, c := range conds {
		m, ok := c.(map[string]any)
		if !ok {
			continue
		}
		text := func(k string) string { s, _ := m[k].(string); return s }
		switch {
		case text("type") == "Admitted" && text("status") == "True":
			h.Admitted = true
		case text("type") == "QuotaReserved" && text("status") != "True":
			h.Reason, h.Message = text("reason"), text("message")
		}
	}
	ref := t.ref(kueueGroup, "Workload", w.GetNamespace(), w.GetName())
	var es []incident.Edge
	if in.Kind != "Workload" {
		es = append(es, incident.Edge{From: t.ref(groupOf(in.Kind), in.Kind, in.Namespace, in.Name), Relation: graph.GatedBy, To: ref})
	}
	m := unmappedClass().FindStringSubmatch(h.Message)
	if h.Admitted || m == nil {
		return h, nil, es
	}
	h.Class = m[1]
	f := finding("dra.kueue_class_unmapped", ref, 0.94, map[string]string{"class": h.Class, "message": h.Message, "queue": h.Queue},
		"Kueue holds Workload %s: it knows no mapping for DeviceClass %s (deviceClassMappings of its configuration)", w.GetName(), h.Class)
	return h, []incident.Finding{f}, es
}

func groupOf(kind string) string {
	switch kind {
	case "Job":
		return "batch"
	case "JobSet":
		return "jobset.x-k8s.io"
	}
	return ""
}

func kueueText(o *Kueue, in KueueIn) string {
	if len(o.Workloads) == 0 {
		return fmt.Sprintf("Kueue has no Workload for %s %s/%s", in.Kind, in.Namespace, in.Name)
	}
	var b strings.Builder
	for _, w := range o.Workloads {
		state := "not admitted"
		if w.Admitted {
			state = "admitted"
		}
		fmt.Fprintf(&b, "workload %s in queue %s: %s%s%s\n", w.Workload, w.Queue, state, prefixed(", ", w.Reason), prefixed(": ", w.Message))
		if w.Class != "" {
			fmt.Fprintf(&b, "DeviceClass %s has no mapping (deviceClassMappings of Kueue's configuration)\n", w.Class)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
