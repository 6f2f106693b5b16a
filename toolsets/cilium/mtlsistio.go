package cilium

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

const gatewayGroup = "gateway.networking.k8s.io"

// isolated is the relation from a pod to a policy of Istio.
const isolated = graph.IsolatedBy

// address is one address of a node.
type address struct{ kind, ip string }

func addresses(n *unstructured.Unstructured) []address {
	list, _, _ := unstructured.NestedSlice(n.Object, "status", "addresses")
	var out []address
	for _, x := range list {
		m, _ := x.(map[string]any)
		k, _ := m["type"].(string)
		a, _ := m["address"].(string)
		out = append(out, address{k, a})
	}
	return out
}

// ambient judges Istio's ambient mode for the pod (modes C1 to C16).
func (m *podMTLS) ambient(ctx context.Context) {
	in := m.cover.system == sysAmbient || m.cover.system == sysAppNet
	peers := m.peerPods()
	near := slices.ContainsFunc(peers, func(p *corev1.Pod) bool {
		c := m.covers(ctx, p)
		return c.system == sysAmbient || c.system == sysAppNet
	})
	if !in && !near {
		return
	}
	ends := append([]*corev1.Pod{m.pod}, peers...)
	if !m.hurt.any() {
		return
	}
	if in && !m.cover.captured {
		m.notCaptured(ctx, m.pod)
	}
	for _, p := range ends {
		m.tunnelDown(ctx, p, "ztunnel")
	}
	m.hbone(ctx)
	m.probes(ctx)
	m.waypoints(ctx)
	m.istioPolicies(ctx, "", ends)
	m.readLogs(ctx, "ztunnel", ends, m.subject)
	m.trusts()
}

// peerPods are the pods that this one wants or is dropped with.
func (m *podMTLS) peerPods() []*corev1.Pod {
	var out []*corev1.Pod
	for _, w := range m.hurt.wants {
		if w.to.pod != nil && !slices.ContainsFunc(out, func(p *corev1.Pod) bool { return p.UID == w.to.pod.UID && p.Name == w.to.pod.Name }) {
			out = append(out, w.to.pod)
		}
	}
	return out
}

// notCaptured reports an enrolled pod whose traffic is not redirected (C13).
func (m *podMTLS) notCaptured(ctx context.Context, p *corev1.Pod) {
	ref := m.t.podRef(p.Namespace, p.Name)
	if m.config["cni-exclusive"] == "true" {
		cm := m.t.ref("", "ConfigMap", "kube-system", "cilium-config")
		m.edge(ref, authenticatedBy, cm)
		m.findings = append(m.findings, finding("cilium.cni_exclusive", cm, 0.85, map[string]string{"pod": ref.Path(), "setting": "cni-exclusive"},
			"ConfigMap kube-system/cilium-config has cni-exclusive true, which removes istio-cni from the chain: pod %s is enrolled in ambient and its traffic is not redirected", ref.Path()))
		return
	}
	for _, d := range m.daemons {
		if d.GetName() != "istio-cni-node" {
			continue
		}
		at, err := m.podOf(ctx, d, p.Spec.NodeName)
		if err != nil || at != nil && ready(at) {
			continue
		}
		node := m.t.ref("", "Node", "", p.Spec.NodeName)
		params := map[string]string{"pod": ref.Path(), "reason": "no pod of istio-cni-node", "agents": d.GetNamespace() + "/istio-cni-node"}
		m.edge(ref, graph.RunsOn, node)
		if at != nil {
			params["reason"], params["agents"] = at.Name+" is not ready", at.Namespace+"/"+at.Name
			m.edge(node, graph.ServedBy, m.t.podRef(at.Namespace, at.Name))
		}
		m.findings = append(m.findings, finding("cilium.istio_cni_down", node, 0.83, params, "istio-cni is not in place on node %s (%s): pod %s is enrolled in ambient and its traffic is not redirected", p.Spec.NodeName, params["reason"], ref.Path()))
		return
	}
	m.findings = append(m.findings, finding("cilium.ambient_not_captured", ref, 0.7, map[string]string{"annotation": redirectionKey},
		"pod %s is enrolled in ambient and lacks the annotation %s: enabled: its traffic is not redirected to ztunnel", ref.Path(), redirectionKey))
}

// hbone looks for a policy that lets application ports through and not the tunnel
// between two covered ends (B7, C1).
func (m *podMTLS) hbone(ctx context.Context) {
	if m.cover.system == "" {
		return
	}
	self, _ := m.end(ctx, m.pod)
	for _, w := range m.hurt.wants {
		if w.to.pod == nil || w.need.why != "log" && !m.hurt.sick && !slices.ContainsFunc(m.hurt.drops, w.means) || m.covers(ctx, w.to.pod).system != m.cover.system {
			continue
		}
		for _, dir := range []policy.Direction{policy.Egress, policy.Ingress} {
			d := policy.Decide(m.policies, dir, policy.Traffic{From: self, To: w.to.end, Port: hbonePort, Proto: "TCP"}, m.settings)
			app := policy.Decide(m.policies, dir, policy.Traffic{From: self, To: w.to.end, Port: w.to.port, Proto: w.need.proto}, m.settings)
			by := decider(d)
			if d.Allowed != policy.No || app.Allowed == policy.No || by == nil || d.Deny != nil {
				continue
			}
			ports := ""
			if app.Allow != nil {
				by, ports = app.Allow.Policy, app.Allow.Ports
			}
			v := &viewing{scene: m.scene, pod: m.pod, subject: m.subject}
			v.tie(w.to, dir, m.t.policyRef(by))
			m.edges = append(m.edges, v.edges...)
			at := ""
			if app.Allow != nil {
				at = app.Allow.At
			}
			m.findings = append(m.findings,
				finding("cilium.traffic_denied", m.subject, 0.9, map[string]string{"to": w.to.text, "port": "15008/TCP", "direction": string(dir), "policy": by.Path()},
					"pod %s wants %s, both ends are enrolled, and policy lets port %d through but not the tunnel on 15008: %s", m.subject.Path(), w.to.text, w.to.port, w.need.line),
				finding("cilium.policy_blocks_hbone", m.t.policyRef(by), 0.9, map[string]string{"from": m.subject.Path(), "to": w.to.text, "port": "15008/TCP", "direction": string(dir), "rule": orElse(at, "its rules"), "wants": orElse(ports, fmt.Sprint(w.to.port)), "has": "15008/TCP"},
					"%s %s allows %s from %s to %s, and both ends are enrolled in %s: their traffic comes on port 15008, which no rule allows", by, orElse(at, "rules"), orElse(ports, fmt.Sprint(w.to.port)), m.subject.Path(), w.to.text, m.cover.system))
			return
		}
	}
}

// probeSource is the address that ambient mode gives the kubelet's probes.
const probeSource = "169.254.7.127"

// probes looks for a policy that keeps the kubelet's probes out (C2).
func (m *podMTLS) probes(ctx context.Context) {
	if !m.hurt.sick || m.cover.system == "" {
		return
	}
	self, _ := m.end(ctx, m.pod)
	for _, c := range m.pod.Spec.Containers {
		for _, pr := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
			port := probePort(pr, self)
			if port == 0 {
				continue
			}
			from := policy.ReservedEnd("world", netip.MustParseAddr(probeSource))
			d := policy.Decide(m.policies, policy.Ingress, policy.Traffic{From: from, To: self, Port: port, Proto: "TCP"}, m.settings)
			by := decider(d)
			if d.Allowed != policy.No || by == nil {
				continue
			}
			ref := m.t.policyRef(by)
			m.edge(m.subject, isolated, ref)
			m.findings = append(m.findings, finding("cilium.ambient_probe_blocked", ref, 0.84, map[string]string{"pod": m.subject.Path(), "port": fmt.Sprint(port), "source": probeSource},
				"%s lets nobody at %s reach port %d of pod %s, and in ambient mode the kubelet's probes come from there", by, probeSource, port, m.subject.Path()))
			return
		}
	}
}

// probePort is the port of a probe over the network; 0 if it is none.
func probePort(p *corev1.Probe, self *policy.End) int32 {
	switch {
	case p == nil:
	case p.HTTPGet != nil && p.HTTPGet.Port.StrVal != "":
		return self.Ports[p.HTTPGet.Port.StrVal]
	case p.HTTPGet != nil:
		return p.HTTPGet.Port.IntVal
	case p.TCPSocket != nil:
		return p.TCPSocket.Port.IntVal
	case p.GRPC != nil:
		return p.GRPC.Port
	}
	return 0
}

// waypoints looks for waypoints that are named and not there (C8), or do not cover
// the traffic (C9).
func (m *podMTLS) waypoints(ctx context.Context) {
	for _, w := range m.hurt.wants {
		if w.to.service.IsZero() {
			continue
		}
		svc, err := m.t.objects.Get(ctx, "", "Service", w.to.service.Namespace, w.to.service.Name)
		if err != nil {
			continue
		}
		name, ns := svc.GetLabels()[waypointLabel], orElse(svc.GetLabels()[waypointLabel+"-namespace"], svc.GetNamespace())
		holder := w.to.service
		if name == "" {
			l := m.nsLabels(ctx, svc.GetNamespace())
			name, ns = l[waypointLabel], orElse(l[waypointLabel+"-namespace"], svc.GetNamespace())
			holder = m.t.ref("", "Namespace", "", svc.GetNamespace())
		}
		if name == "" || name == "none" {
			continue
		}
		gw, err := m.t.objects.Get(ctx, gatewayGroup, "Gateway", ns, name)
		m.edge(m.subject, graph.Calls, w.to.service)
		if err != nil {
			if tool.KindOf(err) == tool.NotFound || tool.KindOf(err) == tool.NotServed {
				ref := m.t.ref(gatewayGroup, "Gateway", ns, name)
				m.edge(w.to.service, graph.RoutesTo, ref)
				m.findings = append(m.findings, finding("cilium.waypoint_missing", ref, 0.9, map[string]string{"service": w.to.service.Path(), "named_by": holder.String()},
					"%s names waypoint %s/%s, which does not exist: requests to %s have no way", holder, ns, name, w.to.text))
			}
			continue
		}
		if scope := orElse(gw.GetLabels()["istio.io/waypoint-for"], "service"); scope == "none" || scope == "workload" {
			ref := m.t.ref(gatewayGroup, "Gateway", ns, name)
			m.edge(w.to.service, graph.RoutesTo, ref)
			m.findings = append(m.findings, finding("cilium.waypoint_scope", ref, 0.6, map[string]string{"service": w.to.service.Path(), "scope": scope},
				"waypoint %s/%s is for %s, and requests to %s go by Service: its layer 7 rules do not apply", ns, name, scope, w.to.text))
		}
	}
}

// istioPolicies judges AuthorizationPolicies by what ztunnel says of them: accepted
// with a reason that tells of rules it cannot enforce (C3, C4). With ends given, only
// those that select one of them.
func (v *mtlsView) istioPolicies(ctx context.Context, namespace string, ends []*corev1.Pod) {
	all, err := v.t.objects.List(ctx, istioGroup, "AuthorizationPolicy", namespace)
	if err != nil {
		return
	}
	for _, a := range all {
		_, reason, message := condition(a, "ZtunnelAccepted")
		if reason != "UnsupportedValue" {
			continue
		}
		hit := selected(a, ends)
		if ends != nil && hit == nil {
			continue
		}
		ref := v.t.ref(istioGroup, "AuthorizationPolicy", a.GetNamespace(), a.GetName())
		if hit != nil {
			v.edge(v.t.podRef(ends[0].Namespace, ends[0].Name), isolated, ref)
		}
		action := orElse(str(a, "spec", "action"), "ALLOW")
		if action == "DENY" {
			v.findings = append(v.findings, finding("cilium.istio_deny_ineffective", ref, 0.7, map[string]string{"message": message, "action": action},
				"AuthorizationPolicy %s denies by HTTP attributes and no waypoint enforces it: ztunnel leaves these rules out, so it denies nothing (%s)", ref.Path(), message))
			continue
		}
		v.findings = append(v.findings, finding("cilium.istio_l7_without_waypoint", ref, 0.88, map[string]string{"message": message, "action": action},
			"AuthorizationPolicy %s allows by HTTP attributes and no waypoint enforces it: ztunnel leaves these rules out, so it allows nobody (%s)", ref.Path(), message))
	}
}

// selected gives the first of the pods that an Istio policy selects.
func selected(a *unstructured.Unstructured, ends []*corev1.Pod) *corev1.Pod {
	sel, _, _ := unstructured.NestedStringMap(a.Object, "spec", "selector", "matchLabels")
	refs, _, _ := unstructured.NestedSlice(a.Object, "spec", "targetRefs")
	if len(refs) > 0 {
		return nil
	}
	for _, p := range ends {
		if a.GetNamespace() != p.Namespace && a.GetNamespace() != "istio-system" {
			continue
		}
		match := true
		for k, val := range sel {
			match = match && p.Labels[k] == val
		}
		if match {
			return p
		}
	}
	return nil
}

// allowing finds the ALLOW policy that selects a receiver and lets the sender not in.
// With a waypoint on the way the sender that it sees is the waypoint (C5).
func (m *podMTLS) allowing(ctx context.Context, ends []*corev1.Pod, otherwise incident.Ref) incident.Ref {
	all, err := m.t.objects.List(ctx, istioGroup, "AuthorizationPolicy", "")
	if err != nil {
		return otherwise
	}
	for _, a := range all {
		if orElse(str(a, "spec", "action"), "ALLOW") == "ALLOW" && selected(a, ends) != nil {
			return m.t.ref(istioGroup, "AuthorizationPolicy", a.GetNamespace(), a.GetName())
		}
	}
	return otherwise
}

// strict finds the PeerAuthentication that refuses plain text at one of the ends (C6).
func (m *podMTLS) strict(ctx context.Context, ends []*corev1.Pod, otherwise incident.Ref) incident.Ref {
	all, err := m.t.objects.List(ctx, istioGroup, "PeerAuthentication", "")
	if err != nil {
		return otherwise
	}
	best := otherwise
	for _, a := range all {
		if strings.ToUpper(str(a, "spec", "mtls", "mode")) != "STRICT" || selected(a, ends) == nil {
			continue
		}
		ref := m.t.ref(istioGroup, "PeerAuthentication", a.GetNamespace(), a.GetName())
		if best == otherwise || a.GetNamespace() != "istio-system" {
			best = ref
		}
	}
	return best
}
