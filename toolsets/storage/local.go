package storage

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// home ties a volume that lies on one machine to that node: what keeps the node from
// taking pods keeps the volume from them, and a node that is gone took it along.
func (l *look) home(ctx context.Context, m *mountOf) {
	key, values := homeOf(m.pv)
	if len(values) == 0 {
		return
	}
	nodes, err := l.t.reads.Nodes(ctx)
	if err != nil {
		l.v.gap("nodes", err)
		return
	}
	pv := l.t.volumeRef(m.pv.Name)
	found := false
	for _, n := range nodes {
		if !slices.Contains(values, n.Labels[key]) && !slices.Contains(values, n.Name) {
			continue
		}
		found = true
		l.v.edge(pv, graph.AttachedTo, l.t.nodeRef(n.Name))
		state := "ready"
		if down, at := dead(n); down {
			state = "not ready for " + l.t.ago(at)
		}
		if n.Spec.Unschedulable {
			state += ", cordoned"
		}
		l.v.line("volume %s lies on node %s, which is %s", m.pv.Name, n.Name, state)
	}
	if found {
		return
	}
	where := strings.Join(limit(values, 3), ", ")
	l.v.find("storage.volume_node_gone", 0.95, pv, map[string]string{"pv": m.pv.Name, "claim": m.claim.Name, "node": where},
		"volume %s of claim %s lies on node %s (%s), and no such node exists: its data went with it", m.pv.Name, m.claim.Name, where, key)
}

// homeOf reads the machine that a local volume lies on out of its node affinity: one
// term that names values of a label which stands for a single node.
func homeOf(pv *corev1.PersistentVolume) (key string, values []string) {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil || len(pv.Spec.NodeAffinity.Required.NodeSelectorTerms) != 1 {
		return "", nil
	}
	for _, e := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions {
		if e.Operator == corev1.NodeSelectorOpIn && (e.Key == corev1.LabelHostname || strings.HasSuffix(e.Key, "/node") || strings.HasSuffix(e.Key, "/hostname") || strings.HasSuffix(e.Key, "/nodename")) {
			return e.Key, e.Values
		}
	}
	return "", nil
}
