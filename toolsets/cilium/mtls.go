package cilium

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

// The systems that encrypt or authenticate traffic between pods, or seem to.
const (
	sysAuth     = "cilium mutual authentication" // SPIRE handshake between agents, deprecated since Cilium 1.20
	sysZtunnel  = "cilium ztunnel"               // Cilium's own ztunnel, on AKS "Cilium mTLS encryption"
	sysAmbient  = "istio ambient"                // ztunnel of Istio
	sysAppNet   = "azure kubernetes application network"
	sysMeshless = "meshless istio ingress" // AKS application routing: ingress only, no mTLS between pods
	sysSidecar  = "istio sidecars"
)

// Labels and annotations by which pods are enrolled.
const (
	ztunnelLabel   = "io.cilium/mtls-enabled"
	ambientLabel   = "istio.io/dataplane-mode"
	waypointLabel  = "istio.io/use-waypoint"
	redirectionKey = "ambient.istio.io/redirection"
)

// MTLSIn names a pod, a namespace, or nothing for the cluster.
type MTLSIn struct {
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
}

// MTLSOut is the state of mutual TLS.
type MTLSOut struct {
	Systems []MTLSSystem `json:"systems" jsonschema:"none: traffic between pods is plain text as far as Kubernetes shows"`
	// Deprecated lists policies that ask for mutual authentication, which Cilium 1.21 removes.
	Deprecated []string `json:"deprecated" jsonschema:"policies with authentication: before Cilium 1.21 they have to go"`
	Covered    string   `json:"covered" jsonschema:"which system covers the pod"`
	Peers      []string `json:"peers" jsonschema:"peers of the pod that must be authenticated or encrypted"`
	Bundles    []string `json:"bundles" jsonschema:"trust bundles with their expiry"`
	Notes      []string `json:"notes"`
}

// MTLSSystem is one system with its parts.
type MTLSSystem struct {
	Name  string   `json:"name"`
	State string   `json:"state" jsonschema:"on, off, or what is wrong"`
	Parts []string `json:"parts"`
	// Namespaces that are enrolled.
	Namespaces []string `json:"namespaces"`
}

// mtlsView is one answer in the making.
type mtlsView struct {
	*scene
	out      MTLSOut
	systems  map[string]bool
	daemons  []*unstructured.Unstructured
	spaces   []*unstructured.Unstructured
	findings []incident.Finding
	edges    []incident.Edge
}

func (t *Toolset) mtlsTool(ctx context.Context, in MTLSIn) (tool.Output[MTLSOut], error) {
	if in.Pod != "" && in.Namespace == "" {
		return tool.Output[MTLSOut]{}, &tool.Error{Kind: tool.Invalid, User: "cilium_mtls: a pod needs its namespace"}
	}
	var pod *corev1.Pod
	if in.Pod != "" {
		var err error
		if pod, err = t.pods.Pod(ctx, in.Namespace, in.Pod); err != nil {
			return tool.Output[MTLSOut]{}, err
		}
	}
	v := &mtlsView{scene: t.scene(ctx), systems: map[string]bool{}}
	v.out = MTLSOut{Systems: []MTLSSystem{}, Deprecated: []string{}, Peers: []string{}, Bundles: []string{}, Notes: []string{}}
	if err := v.detect(ctx); err != nil {
		return tool.Output[MTLSOut]{}, err
	}
	v.deprecated()
	v.bundles(ctx)
	switch {
	case pod != nil:
		v.pod(ctx, pod)
	default:
		v.overview(ctx, in.Namespace)
	}
	v.out.Notes = append(v.out.Notes, v.notes...)
	if len(v.out.Notes) > maxNotes {
		v.out.Notes = v.out.Notes[:maxNotes]
	}
	return tool.Output[MTLSOut]{Data: v.out, Text: v.text(), Findings: v.findings, Edges: v.edges}, nil
}

func (v *mtlsView) edge(from incident.Ref, rel string, to incident.Ref) {
	v.edges = append(v.edges, incident.Edge{From: from, Relation: rel, To: to})
}

// detect tells which systems there are.
func (v *mtlsView) detect(ctx context.Context) error {
	var err error
	if v.daemons, err = v.t.objects.List(ctx, "apps", "DaemonSet", ""); err != nil {
		if tool.KindOf(err) != tool.Forbidden {
			return err
		}
		v.notes = append(v.notes, gap("DaemonSets", err))
	}
	if v.spaces, err = v.t.objects.List(ctx, "", "Namespace", ""); err != nil {
		if tool.KindOf(err) != tool.Forbidden {
			return err
		}
		v.notes = append(v.notes, gap("Namespaces", err))
	}
	if v.config["mesh-auth-enabled"] == "true" || v.config["mesh-auth-mutual-enabled"] == "true" || v.authPolicies() {
		s := MTLSSystem{Name: sysAuth, State: v.authState(), Parts: v.parts("spire-agent"), Namespaces: []string{}}
		if st := v.statefulSet(ctx, "spire-server"); st != nil {
			s.Parts = append(s.Parts, workloadText(st))
		}
		v.add(s)
	}
	if v.config["enable-ztunnel"] == "true" || v.daemon("ztunnel-cilium", "") != nil {
		state := "on, certificates by " + orElse(v.config["ztunnel-ca-type"], "internal") + " CA"
		if v.config["enable-ztunnel"] != "true" {
			state = "enable-ztunnel is not true in cilium-config"
		}
		v.add(MTLSSystem{Name: sysZtunnel, State: state, Parts: v.parts("ztunnel-cilium"), Namespaces: v.labelled(ztunnelLabel, "true")})
	}
	for _, d := range v.daemons {
		if d.GetName() == "ztunnel" && d.GetNamespace() == "applink-system" {
			v.add(MTLSSystem{Name: sysAppNet, State: "on, control plane outside of the cluster", Parts: v.partsIn("applink-system", "ztunnel", "istio-cni-node"), Namespaces: v.labelled(ambientLabel, "ambient")})
		} else if d.GetName() == "ztunnel" {
			v.add(MTLSSystem{Name: sysAmbient, State: "on", Parts: v.partsIn(d.GetNamespace(), "ztunnel", "istio-cni-node"), Namespaces: v.labelled(ambientLabel, "ambient")})
		}
	}
	if v.space("aks-istio-system") != nil && v.daemon("ztunnel", "") == nil {
		v.add(MTLSSystem{Name: sysMeshless, State: "ingress only: no mutual TLS between pods", Parts: []string{}, Namespaces: []string{}})
	}
	if in := append(v.labelled("istio-injection", "enabled"), v.labelledAny("istio.io/rev")...); len(in) > 0 {
		v.add(MTLSSystem{Name: sysSidecar, State: "namespaces are set up for injection", Parts: []string{}, Namespaces: in})
	}
	return nil
}

func (v *mtlsView) add(s MTLSSystem) {
	v.systems[s.Name] = true
	v.out.Systems = append(v.out.Systems, s)
}

func (v *mtlsView) authPolicies() bool {
	return slices.ContainsFunc(v.policies, func(p *policy.Policy) bool { return len(p.Auth()) > 0 })
}

func (v *mtlsView) authState() string {
	if v.config["mesh-auth-enabled"] == "true" {
		return "on (deprecated since Cilium 1.20)"
	}
	return "off, while policies ask for it"
}

// daemon finds a DaemonSet by name, in any namespace if none is given.
func (v *mtlsView) daemon(name, namespace string) *unstructured.Unstructured {
	for _, d := range v.daemons {
		if d.GetName() == name && (namespace == "" || d.GetNamespace() == namespace) {
			return d
		}
	}
	return nil
}

func (v *mtlsView) space(name string) *unstructured.Unstructured {
	for _, n := range v.spaces {
		if n.GetName() == name {
			return n
		}
	}
	return nil
}

// statefulSet finds a StatefulSet by name in any namespace.
func (v *mtlsView) statefulSet(ctx context.Context, name string) *unstructured.Unstructured {
	all, err := v.t.objects.List(ctx, "apps", "StatefulSet", "")
	if err != nil {
		return nil
	}
	for _, s := range all {
		if s.GetName() == name {
			return s
		}
	}
	return nil
}

func (v *mtlsView) parts(name string) []string {
	if d := v.daemon(name, ""); d != nil {
		return []string{workloadText(d)}
	}
	return []string{}
}

func (v *mtlsView) partsIn(namespace string, names ...string) []string {
	out := []string{}
	for _, n := range names {
		if d := v.daemon(n, namespace); d != nil {
			out = append(out, workloadText(d))
		}
	}
	return out
}

// workloadText says how many of a workload's pods are ready.
func workloadText(o *unstructured.Unstructured) string {
	want, have := integer(o, "status", "desiredNumberScheduled"), integer(o, "status", "numberReady")
	if o.GetKind() == "StatefulSet" {
		want, have = integer(o, "spec", "replicas"), integer(o, "status", "readyReplicas")
	}
	return fmt.Sprintf("%s %s/%s %d of %d ready", o.GetKind(), o.GetNamespace(), o.GetName(), have, want)
}

func (v *mtlsView) labelled(key, value string) []string {
	out := []string{}
	for _, n := range v.spaces {
		if n.GetLabels()[key] == value {
			out = append(out, n.GetName())
		}
	}
	return out
}

func (v *mtlsView) labelledAny(key string) []string {
	out := []string{}
	for _, n := range v.spaces {
		if _, ok := n.GetLabels()[key]; ok {
			out = append(out, n.GetName())
		}
	}
	return out
}

// deprecated lists policies with authentication: Cilium 1.21 removes the feature (A20).
func (v *mtlsView) deprecated() {
	for _, p := range v.policies {
		rules := p.Auth()
		if len(rules) == 0 {
			continue
		}
		v.out.Deprecated = append(v.out.Deprecated, p.String())
		v.findings = append(v.findings, finding("cilium.auth_deprecated", v.t.policyRef(p), 0.9, map[string]string{"mode": rules[0].Auth, "rule": rules[0].At},
			"%s %s asks for mutual authentication (%s), which is deprecated since Cilium 1.20 and planned to be removed in 1.21", p, rules[0].At, rules[0].Auth))
	}
}

// coverage is how a pod is covered.
type coverage struct {
	system string
	// ambient mode needs a redirection that the CNI plugin sets up.
	captured bool
}

// covers tells which system carries the traffic of a pod, empty if none does.
func (v *mtlsView) covers(ctx context.Context, p *corev1.Pod) coverage {
	ns := v.nsLabels(ctx, p.Namespace)
	switch {
	case p.Spec.HostNetwork:
		return coverage{}
	case v.systems[sysZtunnel] && ns[ztunnelLabel] == "true":
		return coverage{system: sysZtunnel, captured: true}
	case (v.systems[sysAmbient] || v.systems[sysAppNet]) && orElse(p.Labels[ambientLabel], ns[ambientLabel]) == "ambient":
		name := sysAmbient
		if v.systems[sysAppNet] {
			name = sysAppNet
		}
		return coverage{system: name, captured: p.Annotations[redirectionKey] == "enabled"}
	}
	return coverage{}
}

// hurt is why a pod's traffic is thought to suffer: what its log says, what Hubble
// saw, or that it is not ready.
type hurt struct {
	wants []wanted
	// drops are pairs that did not get through, from this pod or to it.
	drops []*FlowPair
	sick  bool
}

func (h hurt) any() bool {
	return h.sick || len(h.drops) > 0 || slices.ContainsFunc(h.wants, func(w wanted) bool { return w.need.why == "log" })
}

// suffering looks for signs that the pod's traffic fails.
func (v *mtlsView) suffering(ctx context.Context, p *corev1.Pod) hurt {
	h := hurt{sick: v.t.sick(p)}
	for _, n := range v.needs(ctx, p) {
		if to, ok := v.resolve(ctx, p.Namespace, n); ok && !n.dns {
			h.wants = append(h.wants, wanted{n, to})
		}
	}
	if v.t.reach(ctx).here {
		a, err := v.t.flows.Flows(ctx, hubble.Query{Since: v.t.now().Add(-flowWindow), Until: v.t.now(), Namespace: p.Namespace, Pod: p.Name})
		if err == nil {
			for _, pair := range summarise(a.Flows) {
				if pair.Dropped >= fewDrops && !pair.healed() {
					h.drops = append(h.drops, pair)
				}
			}
		}
	}
	return h
}

// pod judges what concerns one pod.
func (v *mtlsView) pod(ctx context.Context, p *corev1.Pod) {
	if len(v.out.Systems) == 0 {
		return
	}
	m := &podMTLS{mtlsView: v, pod: p, subject: v.t.podRef(p.Namespace, p.Name), cover: v.covers(ctx, p)}
	m.hurt = v.suffering(ctx, p)
	v.out.Covered = m.cover.system
	if v.systems[sysAuth] {
		m.auth(ctx)
	}
	before := len(v.findings)
	if v.systems[sysZtunnel] {
		m.ztunnel(ctx)
	}
	if v.systems[sysAmbient] || v.systems[sysAppNet] {
		m.ambient(ctx)
	}
	if slices.ContainsFunc(v.findings[before:], func(f incident.Finding) bool { return f.Role == incident.Fault }) {
		m.unreached()
	}
}

// unreached reports what the pod complains of, once there is a fault that may be why.
func (m *podMTLS) unreached() {
	for _, w := range m.hurt.wants {
		if w.need.why == "log" {
			m.findings = append(m.findings, finding("cilium.peer_unreachable", m.subject, 0.8, map[string]string{"to": w.to.text, "port": fmt.Sprint(w.to.port), "line": w.need.line},
				"pod %s does not reach %s: %s", m.subject.Path(), w.to.text, w.need.line))
			return
		}
	}
}

// podMTLS is the judgement of one pod.
type podMTLS struct {
	*mtlsView
	pod     *corev1.Pod
	subject incident.Ref
	cover   coverage
	hurt    hurt
}

// overview judges what concerns a namespace or the cluster without a pod in view.
func (v *mtlsView) overview(ctx context.Context, namespace string) {
	for _, n := range v.spaces {
		if namespace != "" && n.GetName() != namespace {
			continue
		}
		v.enrolment(n)
	}
	v.configConflicts(ctx)
	v.istioPolicies(ctx, namespace, nil)
}

// enrolment judges the label of a namespace (B4, B18).
func (v *mtlsView) enrolment(n *unstructured.Unstructured) {
	val, ok := n.GetLabels()[ztunnelLabel]
	ref := v.t.ref("", "Namespace", "", n.GetName())
	switch {
	case !ok || n.GetDeletionTimestamp() != nil:
	case val != "true" && val != "false" && val != "":
		v.findings = append(v.findings, finding("cilium.mtls_label_wrong", ref, 0.85, map[string]string{"label": ztunnelLabel, "value": val},
			"namespace %s has the label %s=%s, and Cilium enrols a namespace only with the value true: its traffic is plain text", n.GetName(), ztunnelLabel, val))
	case val == "true" && v.config != nil && v.config["enable-ztunnel"] != "true":
		v.findings = append(v.findings, finding("cilium.mtls_off_while_enrolled", ref, 0.7, map[string]string{"label": ztunnelLabel},
			"namespace %s is enrolled by label for mutual TLS, and enable-ztunnel is not true in cilium-config: nothing encrypts its traffic, and pods may keep redirections to a ztunnel that is gone", n.GetName()))
	}
}

// configConflicts judges settings that exclude each other (B3).
func (v *mtlsView) configConflicts(ctx context.Context) {
	if v.config["enable-ztunnel"] != "true" {
		return
	}
	if mesh, err := v.t.objects.Get(ctx, "apps", "Deployment", "kube-system", "clustermesh-apiserver"); err == nil && mesh != nil {
		cm := v.t.ref("", "ConfigMap", "kube-system", "cilium-config")
		v.findings = append(v.findings, finding("cilium.ztunnel_with_clustermesh", cm, 0.8, map[string]string{"setting": "enable-ztunnel"},
			"ConfigMap kube-system/cilium-config has enable-ztunnel true while clustermesh-apiserver runs: agents refuse to start with both"))
	}
}

// text writes the answer for a reader.
func (v *mtlsView) text() string {
	var b strings.Builder
	if len(v.out.Systems) == 0 {
		b.WriteString("no system for mutual TLS between pods is seen\n")
	}
	for _, s := range v.out.Systems {
		fmt.Fprintf(&b, "%s: %s", s.Name, s.State)
		for _, p := range s.Parts {
			fmt.Fprintf(&b, "; %s", p)
		}
		if len(s.Namespaces) > 0 {
			fmt.Fprintf(&b, "; namespaces %s", listed(s.Namespaces, 8))
		}
		b.WriteByte('\n')
	}
	if v.out.Covered != "" {
		fmt.Fprintf(&b, "the pod is covered by %s\n", v.out.Covered)
	}
	for _, x := range v.out.Peers {
		fmt.Fprintf(&b, "%s\n", x)
	}
	if len(v.out.Deprecated) > 0 {
		fmt.Fprintf(&b, "before Cilium 1.21: authentication has to go from %s\n", listed(v.out.Deprecated, 6))
	}
	for _, f := range v.findings {
		if f.Code != "cilium.auth_deprecated" {
			fmt.Fprintf(&b, "%s\n", f.Message)
		}
	}
	for _, x := range v.out.Bundles {
		fmt.Fprintf(&b, "%s\n", x)
	}
	for _, n := range v.out.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return strings.TrimRight(b.String(), "\n")
}

// servedBy draws the way from a pod to a part that serves it on a node.
func (m *podMTLS) servedBy(part incident.Ref) { m.edge(m.subject, graph.ServedBy, part) }

// authenticatedBy leads from a policy or pod to the identity, certificate or authority
// that has to vouch for an end.
const authenticatedBy = "authenticated-by"
