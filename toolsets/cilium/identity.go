package cilium

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

// identity judges whether Cilium knows the pod, and by the labels that it has.
func (v *viewing) identity(ctx context.Context) {
	served, err := v.t.objects.Served(ctx, ciliumGroup)
	if err != nil || !served || v.pod.Spec.HostNetwork || v.pod.Status.PodIP == "" || over(v.pod) {
		return
	}
	old := v.pod.Status.StartTime != nil && v.t.now().Sub(v.pod.Status.StartTime.Time) > settling
	if v.ep == nil {
		v.unmanaged(ctx, old)
		return
	}
	ref := v.t.ref(ciliumGroup, "CiliumEndpoint", v.pod.Namespace, v.pod.Name)
	if old && v.hurt && v.ep.state != "" && !slices.Contains([]string{"ready", "regenerating", "waiting-to-regenerate"}, v.ep.state) {
		v.edge(v.subject, graph.IsolatedBy, ref)
		v.findings = append(v.findings, finding("cilium.endpoint_not_ready", ref, 0.75, map[string]string{"state": v.ep.state, "node": v.pod.Spec.NodeName},
			"the CiliumEndpoint of pod %s is %s: its policy program is not in place", v.subject.Path(), v.ep.state))
	}
	if stale := staleLabels(v.pod, v.ep); stale != "" && old && !v.hurt {
		v.notes = append(v.notes, "the identity's labels are not those of the pod: "+stale)
	} else if stale != "" && old {
		v.edge(v.subject, graph.IsolatedBy, ref)
		v.findings = append(v.findings, finding("cilium.identity_stale", ref, 0.7, map[string]string{"labels": stale, "identity": fmt.Sprint(v.ep.identity), "node": v.pod.Spec.NodeName},
			"Cilium knows pod %s as identity %d, whose labels are not those of the pod now: %s", v.subject.Path(), v.ep.identity, stale))
	}
}

// staleLabels compares the labels that have an effect: a key that the identity has,
// with another value than the pod's.
func staleLabels(p *corev1.Pod, ep *endpoint) string {
	if p == nil || ep == nil {
		return ""
	}
	known := policy.ParseLabels(ep.labels)
	var out []string
	for k, v := range p.Labels {
		if have, ok := known["k8s:"+k]; ok && have != v && !volatile(k) {
			out = append(out, fmt.Sprintf("%s is %s on the pod and %s in the identity", k, v, have))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// unmanaged reports a running pod that Cilium has no endpoint for while it has
// those of others: the pod was there before Cilium, or its agent is not.
func (v *viewing) unmanaged(ctx context.Context, old bool) {
	eps, err := v.t.objects.List(ctx, ciliumGroup, "CiliumEndpoint", v.pod.Namespace)
	if err == nil && len(eps) > 0 && old && !v.hurt {
		v.notes = append(v.notes, fmt.Sprintf("Cilium has no endpoint for the pod, and %d for others of its namespace", len(eps)))
		return
	}
	if err != nil || len(eps) == 0 || !old || v.config["enable-cilium-endpoint-slice"] == "true" {
		return
	}
	node := v.t.ref("", "Node", "", v.pod.Spec.NodeName)
	v.edge(v.subject, graph.RunsOn, node)
	v.findings = append(v.findings, finding("cilium.endpoint_missing", v.subject, 0.6, map[string]string{"node": v.pod.Spec.NodeName, "others": fmt.Sprint(len(eps))},
		"pod %s runs and Cilium has no endpoint for it, while %d others of its namespace have one: no policy knows its labels", v.subject.Path(), len(eps)))
}

// agent judges the Cilium agent of a node.
func (t *Toolset) agent(ctx context.Context, node string) ([]incident.Finding, []incident.Edge, string, error) {
	pods, err := t.pods.Pods(ctx, "kube-system")
	if err != nil {
		return nil, nil, "", err
	}
	for _, p := range pods {
		if p.Labels["k8s-app"] != "cilium" || p.Spec.NodeName != node || over(p) {
			continue
		}
		ref, n := t.podRef(p.Namespace, p.Name), t.ref("", "Node", "", node)
		if !t.sick(p) {
			return nil, nil, fmt.Sprintf("Cilium agent %s is %s", p.Name, map[bool]string{true: "ready", false: "starting"}[ready(p)]), nil
		}
		why := "not ready"
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing" {
				why = c.State.Waiting.Reason
			}
		}
		f := finding("cilium.agent_down", n, 0.75, map[string]string{"pod": ref.Path(), "reason": why, "agents": ref.Path()},
			"the Cilium agent %s of node %s is %s: new pods get no network there and policies are not brought up to date", ref.Path(), node, why)
		return []incident.Finding{f}, []incident.Edge{{From: n, Relation: graph.ServedBy, To: ref}}, f.Message, nil
	}
	return nil, nil, "no Cilium agent pod is known on the node", nil
}

// NodeIn names a node.
type NodeIn struct {
	Node string `json:"node"`
}

// NodeOut is what is known of Cilium on a node.
type NodeOut struct {
	Node  string `json:"node"`
	Agent string `json:"agent"`
}

func (t *Toolset) nodeTool(ctx context.Context, in NodeIn) (tool.Output[NodeOut], error) {
	fs, es, text, err := t.agent(ctx, in.Node)
	if err != nil {
		return tool.Output[NodeOut]{}, err
	}
	return tool.Output[NodeOut]{Data: NodeOut{Node: in.Node, Agent: text}, Text: "node " + in.Node + ": " + text, Findings: fs, Edges: es}, nil
}
