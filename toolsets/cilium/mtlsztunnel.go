package cilium

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// ztunnel judges Cilium's ztunnel encryption for the pod (modes B1 to B17).
func (m *podMTLS) ztunnel(ctx context.Context) {
	if n := m.space(m.pod.Namespace); n != nil {
		before := len(m.findings)
		m.enrolment(n)
		if len(m.findings) > before {
			m.edge(m.subject, authenticatedBy, m.t.ref("", "Namespace", "", m.pod.Namespace))
		}
	}
	if m.pod.Spec.HostNetwork && m.nsLabels(ctx, m.pod.Namespace)[ztunnelLabel] == "true" {
		m.findings = append(m.findings, finding("cilium.mtls_host_network", m.subject, 0.5, map[string]string{"namespace": m.pod.Namespace},
			"pod %s uses the host's network: ztunnel does not carry its traffic although its namespace is enrolled", m.subject.Path()))
	}
	peers := m.peerPods()
	covered := m.cover.system == sysZtunnel || slices.ContainsFunc(peers, func(p *corev1.Pod) bool { return m.covers(ctx, p).system == sysZtunnel })
	if !covered {
		return
	}
	for _, p := range peers {
		c := m.covers(ctx, p).system
		m.out.Peers = append(m.out.Peers, fmt.Sprintf("peer %s/%s: %s", p.Namespace, p.Name, orElse(c, "not enrolled, plain text")))
	}
	if !m.hurt.any() {
		return
	}
	ends := append([]*corev1.Pod{m.pod}, peers...)
	down := false
	for _, p := range ends {
		if m.covers(ctx, p).system == sysZtunnel && m.tunnelDown(ctx, p, "ztunnel-cilium") {
			down = true
		}
	}
	if !down {
		m.hbone(ctx)
		m.half(ctx, peers)
	}
	m.readLogs(ctx, "agent", ends, m.subject)
	m.readLogs(ctx, "ztunnel", ends, m.subject)
	m.trusts()
}

// half reports a pair of which one end only is enrolled, while the pair fails (B6).
func (m *podMTLS) half(ctx context.Context, peers []*corev1.Pod) {
	for _, p := range peers {
		c := m.covers(ctx, p).system
		if c == m.cover.system || p.Spec.HostNetwork || m.pod.Spec.HostNetwork {
			continue
		}
		if !slices.ContainsFunc(m.hurt.wants, func(w wanted) bool { return w.to.pod == p && w.need.why == "log" }) {
			continue
		}
		// Policies that deny the pair anyway explain it better.
		if slices.ContainsFunc(m.hurt.drops, func(f *FlowPair) bool { return byPolicy(f.reason()) }) {
			continue
		}
		bare := m.pod.Namespace
		if c == "" {
			bare = p.Namespace
		}
		ref := m.t.ref("", "Namespace", "", bare)
		m.edge(m.subject, authenticatedBy, ref)
		m.findings = append(m.findings, finding("cilium.mtls_half_enrolled", ref, 0.6, map[string]string{"from": m.subject.Path(), "to": p.Namespace + "/" + p.Name},
			"of pods %s and %s/%s only one is in a namespace enrolled for ztunnel: by version of Cilium such traffic is plain text or fails", m.subject.Path(), p.Namespace, p.Name))
		return
	}
}

// tunnelDown reports a node of a covered pod whose ztunnel is not ready (B1, B10).
func (m *podMTLS) tunnelDown(ctx context.Context, p *corev1.Pod, name string) bool {
	var ds *unstructured.Unstructured
	for _, d := range m.daemons {
		if d.GetName() == name {
			ds = d
		}
	}
	if ds == nil || p.Spec.NodeName == "" || m.covers(ctx, p).system == "" {
		return false
	}
	at, err := m.podOf(ctx, ds, p.Spec.NodeName)
	if err != nil || at != nil && ready(at) {
		return false
	}
	node := m.t.ref("", "Node", "", p.Spec.NodeName)
	pod := m.t.podRef(p.Namespace, p.Name)
	if pod != m.subject {
		m.edge(m.subject, graph.Calls, pod)
	}
	m.edge(pod, graph.RunsOn, node)
	params := map[string]string{"pod": pod.Path(), "reason": "it has no pod of DaemonSet " + ds.GetNamespace() + "/" + ds.GetName(), "agents": ds.GetNamespace() + "/" + ds.GetName()}
	if at != nil {
		ref := m.t.podRef(at.Namespace, at.Name)
		params["agents"], params["reason"] = ref.Path(), ref.Path()+" is not ready"
		m.edge(node, graph.ServedBy, ref)
		m.servedBy(ref)
	} else {
		ref := m.t.ref("apps", "DaemonSet", ds.GetNamespace(), ds.GetName())
		if taint := m.refusing(ctx, ds, p.Spec.NodeName); taint != "" {
			params["reason"] += ", which does not tolerate its taint " + taint
		}
		m.edge(node, graph.ServedBy, ref)
	}
	m.findings = append(m.findings, finding("cilium.ztunnel_down", node, 0.86, params,
		"ztunnel is not there for the enrolled pods of node %s (%s): their traffic is redirected to nobody", p.Spec.NodeName, params["reason"]))
	return true
}
