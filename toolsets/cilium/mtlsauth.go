package cilium

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

// authPair is a pair of ends that a policy wants authenticated.
type authPair struct {
	rule policy.Rule
	dir  policy.Direction
	to   target
	// from is the sender where the pod is the receiver.
	from *corev1.Pod
	port string
	// dropped says that Hubble saw AUTH_REQUIRED for the pair.
	dropped *FlowPair
}

// auth judges Cilium's mutual authentication for the pod (modes A1 to A19).
func (m *podMTLS) auth(ctx context.Context) {
	pairs := m.authPairs(ctx)
	for _, p := range pairs {
		text := fmt.Sprintf("%s %s must be authenticated (%s): %s of %s", p.to.text, p.port, p.rule.Auth, p.rule.At, p.rule.Policy)
		if p.dropped != nil {
			text += fmt.Sprintf("; %d packets dropped with AUTH_REQUIRED", p.dropped.Reasons["AUTH_REQUIRED"])
		}
		m.out.Peers = append(m.out.Peers, text)
	}
	if len(pairs) == 0 || !m.hurt.any() {
		return
	}
	for _, p := range pairs {
		if p.dropped == nil && !m.complains(p) {
			continue
		}
		m.authCause(ctx, p)
	}
}

// complains reports whether the pod's own log names the peer.
func (m *podMTLS) complains(p authPair) bool {
	return slices.ContainsFunc(m.hurt.wants, func(w wanted) bool { return w.need.why == "log" && w.to.text == p.to.text })
}

// authPairs lists the pairs of the pod that policies want authenticated: those of
// dropped flows, and those of its needs.
func (m *podMTLS) authPairs(ctx context.Context) []authPair {
	var out []authPair
	self, _ := m.end(ctx, m.pod)
	add := func(p authPair, from, to *policy.End, port int32, proto string) {
		for _, dir := range []policy.Direction{policy.Egress, policy.Ingress} {
			d := policy.Decide(m.policies, dir, policy.Traffic{From: from, To: to, Port: port, Proto: proto}, m.settings)
			if d.Allow == nil || d.Allow.Auth == "" || d.Allow.Auth == "disabled" {
				continue
			}
			p.rule, p.dir, p.port = *d.Allow, dir, fmt.Sprintf("%d/%s", port, proto)
			if !slices.ContainsFunc(out, func(o authPair) bool { return o.to.text == p.to.text && o.port == p.port && o.dropped == p.dropped }) {
				out = append(out, p)
			}
			return
		}
	}
	for _, f := range m.hurt.drops {
		if f.Reasons["AUTH_REQUIRED"] == 0 {
			continue
		}
		p := authPair{dropped: f}
		to := flowEnd(f.to)
		if f.to.Pod != "" {
			if pod, err := m.t.pods.Pod(ctx, f.to.Namespace, f.to.Pod); err == nil {
				p.to.pod = pod
				to.Ports = namedPorts(pod)
			}
		}
		if f.from.Pod != "" && f.from.Pod != m.pod.Name {
			if pod, err := m.t.pods.Pod(ctx, f.from.Namespace, f.from.Pod); err == nil {
				p.from = pod
			}
		}
		p.to.end, p.to.text, p.to.port = to, f.To, int32(f.Port) //nolint:gosec // a port
		add(p, flowEnd(f.from), to, p.to.port, f.Proto)
	}
	for _, w := range m.hurt.wants {
		if slices.ContainsFunc(m.hurt.drops, w.means) {
			continue
		}
		add(authPair{to: w.to}, self, w.to.end, w.to.port, w.need.proto)
	}
	return out
}

// authCause names why a pair cannot be authenticated, the surest first.
func (m *podMTLS) authCause(ctx context.Context, p authPair) {
	where := m.policyRefOf(p)
	base := map[string]string{"from": m.senderName(p), "to": p.to.text, "policy": p.rule.Policy.Path(), "rule": p.rule.At}
	with := func(more ...string) map[string]string {
		out := maps.Clone(base)
		for i := 0; i+1 < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	m.tieAuth(p, where)
	if p.dropped != nil && p.from != nil {
		m.findings = append(m.findings, finding("cilium.clients_turned_away", m.subject, 0.9, map[string]string{"from": m.senderName(p), "port": p.port, "reason": "AUTH_REQUIRED", "count": fmt.Sprint(p.dropped.Dropped), "minutes": fmt.Sprint(int(flowWindow.Minutes()))},
			"Hubble saw %d packets of %s to %s of pod %s dropped in %d minutes: AUTH_REQUIRED", p.dropped.Dropped, m.senderName(p), p.port, m.subject.Path(), int(flowWindow.Minutes())))
	}
	if p.dropped == nil {
		m.findings = append(m.findings, finding("cilium.peer_not_authenticated", m.subject, 0.8, map[string]string{"to": p.to.text, "port": p.port, "policy": p.rule.Policy.Path()},
			"pod %s complains of %s %s, and %s wants both ends authenticated", m.subject.Path(), p.to.text, p.port, p.rule.Policy))
	}
	switch {
	case p.rule.Auth == "test-always-fail":
		m.findings = append(m.findings, finding("cilium.auth_test_mode", where, 0.95, with(), "%s %s has authentication mode test-always-fail: what it lets through is always dropped", p.rule.Policy, p.rule.At))
	case m.config["mesh-auth-enabled"] != "true" && m.config != nil:
		cm := m.t.ref("", "ConfigMap", "kube-system", "cilium-config")
		m.edge(where, authenticatedBy, cm)
		m.findings = append(m.findings, finding("cilium.auth_off", cm, 0.93, with("value", orElse(m.config["mesh-auth-enabled"], "not set")),
			"%s %s wants mutual authentication, and mesh-auth-enabled in kube-system/cilium-config is %s: the policy drops, and nobody authenticates", p.rule.Policy, p.rule.At, orElse(m.config["mesh-auth-enabled"], "not set")))
	case p.to.end.Namespace == "" || p.dropped != nil && p.dropped.from.Reserved() != "":
		m.findings = append(m.findings, finding("cilium.auth_reserved", where, 0.9, with("reserved", strings.Join(labelText(p.to.end.Labels), ",")),
			"%s %s wants mutual authentication of %s, which has a reserved identity and no certificate: it can never succeed", p.rule.Policy, p.rule.At, p.to.text))
	case p.dropped != nil && p.dropped.from.Cluster != "" && p.dropped.to.Cluster != "" && p.dropped.from.Cluster != p.dropped.to.Cluster:
		m.findings = append(m.findings, finding("cilium.auth_cross_cluster", where, 0.9, with("clusters", p.dropped.from.Cluster+", "+p.dropped.to.Cluster),
			"%s %s wants mutual authentication between clusters %s and %s, and it does not span a Cluster Mesh", p.rule.Policy, p.rule.At, p.dropped.from.Cluster, p.dropped.to.Cluster))
	default:
		m.spire(ctx, p, where, with)
	}
}

func (m *podMTLS) policyRefOf(p authPair) incident.Ref { return m.t.policyRef(p.rule.Policy) }

func (m *podMTLS) senderName(p authPair) string {
	if p.from != nil {
		return p.from.Namespace + "/" + p.from.Name
	}
	return m.subject.Path()
}

// tieAuth draws the way from the pod to the policy.
func (m *podMTLS) tieAuth(p authPair, where incident.Ref) {
	v := &viewing{scene: m.scene, pod: m.pod, subject: m.subject}
	to := p.to
	if to.pod != nil && to.pod.Name == m.pod.Name && to.pod.Namespace == m.pod.Namespace {
		to = target{end: to.end}
	}
	v.tie(to, p.dir, where)
	if p.dropped != nil && len(v.edges) > 0 {
		v.edges[0].Note = fmt.Sprintf("%d packets dropped with AUTH_REQUIRED", p.dropped.Reasons["AUTH_REQUIRED"])
	}
	m.edges = append(m.edges, v.edges...)
}

// ends lists the pods of a pair with their identities: the receiver's agent is asked
// by the sender's, and either may lack SPIRE.
func (m *podMTLS) ends(p authPair) []*corev1.Pod {
	out := []*corev1.Pod{m.pod}
	if p.from != nil {
		out = append(out, p.from)
	}
	if p.to.pod != nil && p.to.pod.Name != m.pod.Name {
		out = append(out, p.to.pod)
	}
	return out
}

// identityOf gives the reference of a pod's CiliumIdentity; false if it is not known.
func (m *podMTLS) identityOf(ctx context.Context, p *corev1.Pod) (incident.Ref, string, bool) {
	ep := m.endpoint(ctx, p)
	if ep == nil || ep.identity == 0 {
		return incident.Ref{}, "", false
	}
	id := fmt.Sprint(ep.identity)
	return m.t.ref(ciliumGroup, "CiliumIdentity", "", id), id, true
}

// spire judges the parts of SPIRE that the two ends need.
func (m *podMTLS) spire(ctx context.Context, p authPair, where incident.Ref, with func(...string) map[string]string) {
	server := m.statefulSet(ctx, "spire-server")
	agents := m.daemon("spire-agent", "")
	found := false
	for _, end := range m.ends(p) {
		id, n, ok := m.identityOf(ctx, end)
		if ok {
			m.edge(where, authenticatedBy, id)
		}
		from := where
		if ok {
			from = id
		}
		if agents != nil && m.agentAbsent(ctx, agents, end, n, from, with) {
			found = true
		}
	}
	if found {
		return
	}
	if server != nil && integer(server, "spec", "replicas") > 0 && integer(server, "status", "readyReplicas") == 0 {
		ref := m.t.ref("apps", "StatefulSet", server.GetNamespace(), server.GetName())
		m.edge(where, authenticatedBy, ref)
		m.servedBy(ref)
		m.findings = append(m.findings, finding("cilium.spire_server_down", ref, 0.78, with("ready", "0"),
			"%s has no ready pod: new identities get no certificate, and those that there are run out", workloadText(server)))
		found = true
	}
	if m.domains(ctx, where, with) {
		found = true
	}
	if !found {
		m.hostPolicy(ctx, p, where, with)
	}
	m.readLogs(ctx, "agent", m.ends(p), where)
	m.readLogs(ctx, "operator", m.ends(p), where)
	if ref, ok := m.expired(); ok {
		m.edge(where, authenticatedBy, ref)
	}
}

// agentAbsent reports a node of an end that has no ready spire-agent (A2), with the
// taint that keeps it away where that is the reason.
func (m *podMTLS) agentAbsent(ctx context.Context, ds *unstructured.Unstructured, end *corev1.Pod, identity string, from incident.Ref, with func(...string) map[string]string) bool {
	if end.Spec.NodeName == "" {
		return false
	}
	pod, err := m.podOf(ctx, ds, end.Spec.NodeName)
	if err != nil {
		m.notes = append(m.notes, gap("pods of DaemonSet spire-agent", err))
		return false
	}
	ref := m.t.ref("apps", "DaemonSet", ds.GetNamespace(), ds.GetName())
	if pod != nil {
		if ready(pod) {
			return false
		}
		at := m.t.podRef(pod.Namespace, pod.Name)
		m.edge(from, graph.ServedBy, at)
		m.servedBy(at)
		m.findings = append(m.findings, finding("cilium.spire_agent_down", at, 0.85, with("node", end.Spec.NodeName, "identity", orElse(identity, "unknown")),
			"spire-agent %s of node %s is not ready, so identity %s of pod %s/%s gets no certificate there", at.Path(), end.Spec.NodeName, orElse(identity, "unknown"), end.Namespace, end.Name))
		return true
	}
	m.edge(from, graph.ServedBy, ref)
	taint := m.refusing(ctx, ds, end.Spec.NodeName)
	if taint == "" {
		m.findings = append(m.findings, finding("cilium.spire_agent_missing", ref, 0.85, with("node", end.Spec.NodeName, "identity", orElse(identity, "unknown")),
			"node %s has no pod of DaemonSet %s, so identity %s of pod %s/%s gets no certificate there", end.Spec.NodeName, ref.Path(), orElse(identity, "unknown"), end.Namespace, end.Name))
		return true
	}
	m.findings = append(m.findings, finding("cilium.spire_agent_untolerated", ref, 0.93, with("node", end.Spec.NodeName, "taint", taint, "identity", orElse(identity, "unknown")),
		"DaemonSet %s does not tolerate the taint %s of node %s, so no spire-agent runs there and identity %s of pod %s/%s gets no certificate", ref.Path(), taint, end.Spec.NodeName, orElse(identity, "unknown"), end.Namespace, end.Name))
	return true
}

// podOf finds the pod of a DaemonSet on a node; nil if there is none.
func (v *mtlsView) podOf(ctx context.Context, ds *unstructured.Unstructured, node string) (*corev1.Pod, error) {
	sel, _, _ := unstructured.NestedStringMap(ds.Object, "spec", "selector", "matchLabels")
	pods, err := v.t.pods.Pods(ctx, ds.GetNamespace())
	if err != nil || len(sel) == 0 {
		return nil, err
	}
	for _, p := range pods {
		if p.Spec.NodeName != node || over(p) {
			continue
		}
		match := true
		for k, val := range sel {
			match = match && p.Labels[k] == val
		}
		if match {
			return p, nil
		}
	}
	return nil, nil
}

// refusing gives the taint of a node that a DaemonSet's pods do not tolerate.
func (v *mtlsView) refusing(ctx context.Context, ds *unstructured.Unstructured, node string) string {
	n, err := v.t.objects.Get(ctx, "", "Node", "", node)
	if err != nil {
		return ""
	}
	taints, _, _ := unstructured.NestedSlice(n.Object, "spec", "taints")
	tolerations, _, _ := unstructured.NestedSlice(ds.Object, "spec", "template", "spec", "tolerations")
	for _, raw := range taints {
		t, _ := raw.(map[string]any)
		key, _ := t["key"].(string)
		val, _ := t["value"].(string)
		effect, _ := t["effect"].(string)
		// The DaemonSet controller tolerates these for every DaemonSet.
		if effect == "PreferNoSchedule" || strings.HasPrefix(key, "node.kubernetes.io/") {
			continue
		}
		if !slices.ContainsFunc(tolerations, func(raw any) bool { return tolerates(raw, key, val, effect) }) {
			if val != "" {
				key += "=" + val
			}
			return key + ":" + effect
		}
	}
	return ""
}

// tolerates compares a toleration with a taint; no key with Exists means any.
func tolerates(raw any, key, value, effect string) bool {
	t, _ := raw.(map[string]any)
	k, _ := t["key"].(string)
	op, _ := t["operator"].(string)
	val, _ := t["value"].(string)
	e, _ := t["effect"].(string)
	if e != "" && e != effect || k != "" && k != key || k == "" && op != "Exists" {
		return false
	}
	return op == "Exists" || val == value
}

// domains compares the trust domain of Cilium and of the SPIRE agents (A4).
func (m *podMTLS) domains(ctx context.Context, where incident.Ref, with func(...string) map[string]string) bool {
	want := m.config["mesh-auth-spiffe-trust-domain"]
	for _, ns := range []string{"cilium-spire", "kube-system"} {
		data := m.t.configMap(ctx, nil, ns, "spire-agent")
		for _, text := range data {
			have := trustDomain(text)
			if want == "" || have == "" || have == want {
				continue
			}
			ref := m.t.ref("", "ConfigMap", ns, "spire-agent")
			m.edge(where, authenticatedBy, ref)
			m.findings = append(m.findings, finding("cilium.trust_domain_differs", ref, 0.9, with("spire", have, "cilium", want),
				"ConfigMap %s has trust_domain %s and cilium-config has mesh-auth-spiffe-trust-domain %s: no certificate is ever accepted", ref.Path(), have, want))
			return true
		}
	}
	return false
}

// trustDomain reads trust_domain of a SPIRE agent's configuration (HCL or JSON).
func trustDomain(conf string) string {
	for line := range strings.SplitSeq(conf, "\n") {
		line = strings.TrimSpace(line)
		name, rest, ok := strings.Cut(strings.ReplaceAll(line, ":", "="), "=")
		if ok && strings.Trim(strings.TrimSpace(name), `"`) == "trust_domain" {
			return strings.Trim(strings.TrimSpace(rest), `", `)
		}
	}
	return ""
}

// hostPolicy looks for a host policy that keeps the agents' port closed (A8).
func (m *podMTLS) hostPolicy(ctx context.Context, p authPair, where incident.Ref, with func(...string) map[string]string) {
	port := int32(4250)
	if s := m.config["mesh-auth-mutual-listener-port"]; s != "" && s != "4250" {
		var n int32
		if _, err := fmt.Sscan(s, &n); err == nil && n > 0 {
			port = n
		}
	}
	for _, end := range m.ends(p) {
		n, err := m.t.objects.Get(ctx, "", "Node", "", end.Spec.NodeName)
		if err != nil {
			continue
		}
		host := policy.ReservedEnd("host")
		for k, val := range n.GetLabels() {
			host.Labels["k8s:"+k] = val
		}
		d := policy.Decide(m.policies, policy.Ingress, policy.Traffic{From: policy.ReservedEnd("remote-node"), To: host, Port: port, Proto: "TCP"}, m.settings)
		by := decider(d)
		if d.Allowed != policy.No || by == nil {
			continue
		}
		ref := m.t.policyRef(by)
		m.edge(where, authenticatedBy, ref)
		m.findings = append(m.findings, finding("cilium.auth_port_closed", ref, 0.8, with("port", fmt.Sprint(port), "node", end.Spec.NodeName),
			"%s selects node %s and lets no other node reach TCP %d, over which agents authenticate each other", by, end.Spec.NodeName, port))
		return
	}
}
