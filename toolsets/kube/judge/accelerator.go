package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/judge/filters"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// accelerators are the resources that device plugins offer, with the PCI vendor
// by which node feature discovery knows their hardware.
func accelerators() map[string]string {
	return map[string]string{"nvidia.com/gpu": "10de", "amd.com/gpu": "1002", "habana.ai/gaudi": "1da3"}
}

// bears reports whether a node's labels say that it has the hardware behind a
// resource: those of feature discovery, or the vendor's own.
func bears(n *corev1.Node, resource string) bool {
	vendor := accelerators()[resource]
	for k, v := range n.Labels {
		switch {
		case v == "false" || v == "0":
		case strings.HasPrefix(k, resource+"."):
			return true
		case vendor != "" && strings.HasPrefix(k, "feature.node.kubernetes.io/pci-") && strings.Contains(k, vendor):
			return true
		}
	}
	return false
}

// offers reports whether a node offers anything of a resource's vendor.
func offers(n *corev1.Node, resource string) bool {
	domain, _, _ := strings.Cut(resource, "/")
	for name, q := range n.Status.Allocatable {
		if strings.HasPrefix(string(name), domain+"/") && !q.IsZero() {
			return true
		}
	}
	return false
}

// devicesMissing finds a node that has accelerators by its labels and offers none,
// neither through a device plugin nor through DRA, and ties it to the agents
// there that are in trouble.
func (j *judge) devicesMissing(ctx context.Context, v *verdict, n *corev1.Node) {
	for name := range accelerators() {
		if !bears(n, name) || offers(n, name) || nodeReady(n) != corev1.ConditionTrue || j.now().Sub(n.CreationTimestamp.Time) < creating {
			continue
		}
		slicesOf, err := j.src.List(ctx, "resourceslices.resource.k8s.io", "", fieldsOf("spec.nodeName="+n.Name))
		if err != nil && !unserved(err) || len(slicesOf) > 0 {
			continue
		}
		sick := j.deviceAgents(ctx, v, n.Name)
		why, conf := "; no pod there looks like its device plugin or driver", 0.85
		switch {
		case sick != "":
			why = "; " + sick
		case err == nil:
			// Where devices are offered through DRA, who compares the drivers of the
			// nodes knows more than that nothing is there.
			conf = 0.7
		}
		v.line("labels say that it has %s, and it offers none", name)
		v.fault("kube.node_devices_missing", incident.Critical, conf, v.subject, fmt.Sprintf("node %s has the hardware of %s by its labels and offers none of it%s", n.Name, name, why), params("resource", name, "agents", strings.TrimPrefix(why, "; ")))
	}
}

func fieldsOf(sel string) source.Selectors { return source.Selectors{Fields: sel} }

func unserved(err error) bool { return tool.KindOf(err) == tool.NotServed }

// deviceAgents ties a node to the pods of DaemonSets there that bring devices and
// are not ready, and says how they are.
func (j *judge) deviceAgents(ctx context.Context, v *verdict, node string) string {
	pods, err := j.src.PodsOnNode(ctx, node)
	if err != nil {
		return ""
	}
	var said []string
	found := false
	for _, p := range pods {
		o := metav1.GetControllerOf(p)
		if o == nil || o.Kind != "DaemonSet" || !containsAny(p.Namespace+"/"+p.Name, "nvidia", "gpu", "device-plugin", "amd", "habana", "driver", "toolkit") {
			continue
		}
		found = true
		if ready(p) {
			continue
		}
		said = append(said, fmt.Sprintf("pod %s/%s is %s", p.Namespace, p.Name, podState(p)))
		v.edge(v.subject, graph.ServedBy, j.pod(p))
	}
	slices.Sort(said)
	if len(said) == 0 && found {
		return "its device plugin and driver pods are ready"
	}
	return strings.Join(limit(said, 4), ", ")
}

// short lists the nodes that lack nothing but a resource.
func short(vs []filters.Verdict, resource string) []*corev1.Node {
	var out []*corev1.Node
	for _, x := range vs {
		if len(x.Refusals) > 0 && !slices.ContainsFunc(x.Refusals, func(r filters.Refusal) bool { return r.Filter != filters.Resource || r.Key != resource }) {
			out = append(out, x.Node)
		}
	}
	return out
}

// idle ties a pod that finds no device to the nodes that should have some and
// offer none: they are the capacity that is missing.
func (j *judge) idle(v *verdict, nodes []*corev1.Node, resource string) {
	var names []string
	for _, n := range limit(nodes, 200) {
		if bears(n, resource) && !offers(n, resource) {
			names = append(names, n.Name)
			v.edge(v.subject, graph.BlockedBy, j.ref("", "Node", "", n.Name))
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		v.line("%d nodes (e.g. %s) have the hardware of %s by their labels and offer none", len(names), names[0], resource)
	}
}
