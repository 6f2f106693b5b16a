package cilium

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// signature is a line that a part writes, and the fault that it proves. Texts are
// those of Cilium 1.20 (pkg/auth, pkg/ztunnel, operator/auth/spire, operator/pkg/ztunnel),
// SPIRE 1.13 and Istio's ztunnel.
type signature struct {
	code string
	// part that writes it: agent, operator or ztunnel.
	part string
	re   *regexp.Regexp
	// about says what the fault is on: node, identity, serviceaccount, authz, or a
	// fixed object "Kind/namespace/name".
	about string
}

// signatures are ordered: the first that a line matches counts.
func signatures() []signature {
	re := regexp.MustCompile
	return []signature{
		{"cilium.spire_delegate_unauthorized", "agent", re(`caller not configured as an authorized delegate`), "ConfigMap/cilium-spire/spire-agent"},
		{"cilium.spire_delegate_missing", "agent", re(`delegate stream.*(?:PermissionDenied|no identity issued)`), "StatefulSet/cilium-spire/spire-server"},
		{"cilium.spire_entry_missing", "agent", re(`no SPIFFE ID for \S*/identity/(?P<identity>\d+)`), "identity"},
		{"cilium.identity_moved", "agent", re(`no local endpoint present for identity (?P<identity>\d+)`), "identity"},
		{"cilium.node_unknown_to_auth", "agent", re(`remote node IP not available for node ID`), "node"},
		{"cilium.auth_dial_timeout", "agent", re(`failed to dial (?P<ip>[0-9a-fA-F.:]+):4250: (?:i/o timeout|.*timeout)`), "ip"},
		{"cilium.svid_expired", "agent", re(`x509: certificate has expired or is not yet valid`), "node"},
		{"cilium.trust_bundle_stale", "agent", re(`certificate signed by unknown authority|trust bundle not yet available`), "node"},
		{"cilium.ztunnel_ca_failed", "agent", re(`failed to start ztunnel gRPC server|failed to initialize CA|not a valid PEM encoded RSA private key|failed to create gRPC TLS credentials`), "node"},
		{"cilium.ztunnel_with_clustermesh", "agent", re(`ztunnel is not compatible with clustermesh`), "ConfigMap/kube-system/cilium-config"},
		{"cilium.ztunnel_csr_refused", "agent", re(`no endpoints found for service account (?P<sa>[\w.-]+) in namespace (?P<ns>[\w-]+)`), "serviceaccount"},
		{"cilium.ztunnel_enroll_failed", "agent", re(`Failed to enroll endpoint to ztunnel`), "node"},
		{"cilium.ztunnel_nack", "agent", re(`Nack received from ztunnel`), "node"},
		{"cilium.spire_unreachable", "operator", re(`Unable to connect to SPIRE server`), "StatefulSet/cilium-spire/spire-server"},
		{"cilium.spire_upsert_failed", "operator", re(`failed to upsert CA entries`), "StatefulSet/kube-system/spire-server"},
		{"cilium.istio_strict_plaintext", "ztunnel", re(`explicitly denied by: ?istio-system/istio_converted_static_strict`), "strict"},
		{"cilium.istio_denied", "ztunnel", re(`explicitly denied by: ?(?P<ns>[\w-]+)/(?P<policy>[\w.-]+)`), "authz"},
		{"cilium.istio_not_allowed", "ztunnel", re(`allow policies exist,? but none allowed`), "authzany"},
		{"cilium.ztunnel_hbone_blocked", "ztunnel", re(`maybe a NetworkPolicy is blocking HBONE port 15008`), "node"},
		{"cilium.ztunnel_bootstrap", "ztunnel", re(`(?i)localhost:15012.*(?:tls|certificate|x509)|(?:tls|certificate|x509).*localhost:15012`), "node"},
		{"cilium.ztunnel_no_identity", "ztunnel", re(`caller not configured as an authorized delegate|no identity issued`), "node"},
		{"cilium.ztunnel_san_mismatch", "ztunnel", re(`peer did not present the expected SAN|expected trustdomain`), "node"},
		{"cilium.istio_ca_refused", "ztunnel", re(`request impersonation authentication failure`), "node"},
		{"cilium.istio_hbone_peer", "ztunnel", re(`h2 failed.*frame with invalid size`), "node"},
		{"cilium.appnet_no_control_plane", "ztunnel", re(`XDS client connection error|XDS client error.*(?:unavailable|timed? ?out|connect)`), "node"},
		{"cilium.ztunnel_root_mismatch", "ztunnel", re(`certificate signed by unknown authority|UnknownIssuer|invalid peer certificate`), "node"},
		{"cilium.ztunnel_csr_refused", "ztunnel", re(`identity error: signing gRPC error`), "node"},
	}
}

// heard is a line that a part wrote.
type heard struct {
	sig   signature
	line  string
	names map[string]string
	pod   *corev1.Pod
	count int
}

// readLogs reads the ends of the logs of a part on the nodes of pods, and reports
// what they say that concerns these pods. A fault of it hangs beneath from.
func (m *podMTLS) readLogs(ctx context.Context, part string, ends []*corev1.Pod, from incident.Ref) {
	for _, h := range m.listen(ctx, part, ends) {
		m.report(ctx, h, ends, from)
	}
}

// listen collects the telling lines of a part, each signature once.
func (m *podMTLS) listen(ctx context.Context, part string, ends []*corev1.Pod) []heard {
	var out []heard
	for _, at := range m.partPods(ctx, part, ends) {
		for _, c := range at.Spec.Containers {
			text, err := m.t.pods.Tail(ctx, at.Namespace, at.Name, c.Name, 2*logLines)
			if err != nil {
				m.notes = append(m.notes, gap("log of "+at.Namespace+"/"+at.Name, err))
				continue
			}
			for line := range strings.SplitSeq(text, "\n") {
				stamp, rest, ok := strings.Cut(line, " ")
				if when, err := time.Parse(time.RFC3339Nano, stamp); ok && err == nil {
					if m.t.now().Sub(when) > recent {
						continue
					}
					line = rest
				}
				h, ok := match(part, line)
				if !ok || !m.concerns(h, ends) {
					continue
				}
				h.pod = at
				i := slices.IndexFunc(out, func(o heard) bool {
					return o.sig.code == h.sig.code && o.pod == at && o.names["identity"] == h.names["identity"] && o.names["policy"] == h.names["policy"]
				})
				if i < 0 {
					h.count = 1
					out = append(out, h)
				} else {
					out[i].count++
				}
			}
		}
	}
	return out
}

// match finds the signature of a line.
func match(part, line string) (heard, bool) {
	for _, s := range signatures() {
		if s.part != part {
			continue
		}
		g := s.re.FindStringSubmatch(line)
		if g == nil {
			continue
		}
		h := heard{sig: s, line: strings.TrimSpace(line), names: map[string]string{}}
		for i, n := range s.re.SubexpNames() {
			if n != "" {
				h.names[n] = g[i]
			}
		}
		return h, true
	}
	return heard{}, false
}

// concerns reports whether a line is about one of the pods, or about the whole part.
// A line that names pods, addresses or service accounts, and none of these, is about
// somebody else.
func (m *podMTLS) concerns(h heard, ends []*corev1.Pod) bool {
	if h.sig.part == "ztunnel" && strings.Contains(h.line, "connection complete") || strings.Contains(h.line, "src.") || strings.Contains(h.line, "dst.") {
		return slices.ContainsFunc(ends, func(p *corev1.Pod) bool {
			return strings.Contains(h.line, p.Name) || p.Status.PodIP != "" && strings.Contains(h.line, p.Status.PodIP+":")
		})
	}
	if sa := h.names["sa"]; sa != "" {
		return slices.ContainsFunc(ends, func(p *corev1.Pod) bool { return p.Spec.ServiceAccountName == sa && p.Namespace == h.names["ns"] })
	}
	return true
}

// partPods lists the pods of a part that matter: on the nodes of the ends, or the
// operator wherever it is.
func (m *podMTLS) partPods(ctx context.Context, part string, ends []*corev1.Pod) []*corev1.Pod {
	spaces := []string{"kube-system"}
	if part == "ztunnel" && m.cover.system != sysZtunnel {
		spaces = nil
		for _, d := range m.daemons {
			if d.GetName() == "ztunnel" {
				spaces = append(spaces, d.GetNamespace())
			}
		}
	}
	var out []*corev1.Pod
	for _, ns := range spaces {
		pods, err := m.t.pods.Pods(ctx, ns)
		if err != nil {
			m.notes = append(m.notes, gap("pods of namespace "+ns, err))
			continue
		}
		for _, p := range pods {
			if over(p) {
				continue
			}
			mine := map[string]bool{
				"agent":    p.Labels["k8s-app"] == "cilium",
				"operator": p.Labels["io.cilium/app"] == "operator" || p.Labels["app.kubernetes.io/name"] == "cilium-operator",
				"ztunnel":  p.Labels["app"] == "ztunnel" || p.Labels["app.kubernetes.io/name"] == "ztunnel-cilium" || p.Labels["app"] == "ztunnel-cilium",
			}[part]
			near := part == "operator" || slices.ContainsFunc(ends, func(e *corev1.Pod) bool { return e.Spec.NodeName == p.Spec.NodeName })
			if mine && near && len(out) < 4 {
				out = append(out, p)
			}
		}
	}
	return out
}

// report makes a finding of a line.
func (m *podMTLS) report(ctx context.Context, h heard, ends []*corev1.Pod, from incident.Ref) {
	at := m.t.podRef(h.pod.Namespace, h.pod.Name)
	params := map[string]string{"line": h.line, "pod": at.Path(), "node": h.pod.Spec.NodeName}
	on := m.t.ref("", "Node", "", h.pod.Spec.NodeName)
	code := h.sig.code
	switch h.sig.about {
	case "node":
	case "identity":
		on = m.t.ref(ciliumGroup, "CiliumIdentity", "", h.names["identity"])
		if !m.identityConcerns(ctx, h.names["identity"], ends) {
			return
		}
	case "ip":
		code, on = m.dialled(ctx, h.names["ip"], on)
		params["ip"] = h.names["ip"]
	case "serviceaccount":
		on = m.t.ref("", "ServiceAccount", h.names["ns"], h.names["sa"])
	case "authz":
		on = m.t.ref(istioGroup, "AuthorizationPolicy", h.names["ns"], h.names["policy"])
	case "authzany":
		on = m.allowing(ctx, ends, on)
	case "strict":
		on = m.strict(ctx, ends, on)
	default:
		parts := strings.Split(h.sig.about, "/")
		group := ""
		if parts[0] == "StatefulSet" {
			group = "apps"
			if st := m.statefulSet(ctx, parts[2]); st != nil {
				parts[1] = st.GetNamespace()
			}
		}
		on = m.t.ref(group, parts[0], parts[1], parts[2])
	}
	rel := authenticatedBy
	if on.Kind == "Node" {
		rel = graph.ServedBy
		params["agents"] = at.Path()
	}
	m.edge(from, rel, on)
	if from != m.subject {
		m.edge(m.subject, rel, on)
	}
	m.findings = append(m.findings, finding(code, on, 0.88, params, "%s of node %s writes (%d times in the last 15 minutes): %s", at.Path(), h.pod.Spec.NodeName, h.count, h.line))
}

// identityConcerns reports whether an identity is that of one of the pods.
func (m *podMTLS) identityConcerns(ctx context.Context, id string, ends []*corev1.Pod) bool {
	return slices.ContainsFunc(ends, func(p *corev1.Pod) bool {
		_, n, ok := m.identityOf(ctx, p)
		return !ok || n == id
	})
}

// dialled tells whose address an agent could not reach: a node's external one is
// never meant (A9), an internal one is closed to it (A8).
func (m *podMTLS) dialled(ctx context.Context, ip string, otherwise incident.Ref) (string, incident.Ref) {
	nodes, err := m.t.objects.List(ctx, "", "Node", "")
	if err != nil {
		return "cilium.auth_dial_timeout", otherwise
	}
	for _, n := range nodes {
		for _, a := range addresses(n) {
			if a.ip != ip {
				continue
			}
			ref := m.t.ref("", "Node", "", n.GetName())
			if a.kind == "ExternalIP" {
				return "cilium.auth_external_ip", ref
			}
			return "cilium.auth_dial_timeout", ref
		}
	}
	return "cilium.auth_dial_timeout", otherwise
}
