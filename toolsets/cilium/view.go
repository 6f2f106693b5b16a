package cilium

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

// PolicyIn names a pod, and a peer or none.
type PolicyIn struct {
	Namespace   string `json:"namespace"`
	Pod         string `json:"pod"`
	ToNamespace string `json:"to_namespace,omitempty"`
	ToPod       string `json:"to_pod,omitempty"`
	ToService   string `json:"to_service,omitempty"`
	ToHost      string `json:"to_host,omitempty"`
	Port        int32  `json:"port,omitempty"`
	Protocol    string `json:"protocol,omitempty"`
}

// PolicyOut is what policies say of a pod.
type PolicyOut struct {
	Pod      string       `json:"pod"`
	Identity int64        `json:"identity" jsonschema:"Cilium's number for the pod's labels, 0 if not known"`
	Labels   []string     `json:"labels" jsonschema:"the labels that policies are compared with"`
	State    string       `json:"state" jsonschema:"of the CiliumEndpoint"`
	Ingress  bool         `json:"ingress_default_deny"`
	Egress   bool         `json:"egress_default_deny"`
	Audit    bool         `json:"audit" jsonschema:"what would be dropped passes and is logged"`
	Policies []PolicyView `json:"policies"`
	Pairs    []PairView   `json:"pairs"`
	Notes    []string     `json:"notes"`
}

// PolicyView is one policy that selects the pod.
type PolicyView struct {
	Policy  string `json:"policy"`
	Ingress bool   `json:"ingress"`
	Egress  bool   `json:"egress"`
	Invalid string `json:"invalid,omitempty"`
}

// PairView is what is decided of the pod and one peer.
type PairView struct {
	To   string `json:"to"`
	Port int32  `json:"port"`
	// Verdict is allowed, denied, audited or unknown.
	Verdict string   `json:"verdict"`
	Side    string   `json:"side,omitempty" jsonschema:"egress of the pod or ingress of the peer, where it is denied"`
	Policy  string   `json:"policy,omitempty" jsonschema:"the policy that decides"`
	Rule    string   `json:"rule,omitempty"`
	Nearest string   `json:"nearest,omitempty" jsonschema:"the rule that came nearest, and what differs"`
	Auth    string   `json:"auth,omitempty" jsonschema:"mutual authentication asked by the rule"`
	L7      []string `json:"l7,omitempty"`
	Known   string   `json:"known" jsonschema:"how it is known that the pod wants it"`
	Why     string   `json:"why,omitempty"`
}

// maxNotes bounds the notes of one answer.
const maxNotes = 8

func (t *Toolset) policyTool(ctx context.Context, in PolicyIn) (tool.Output[PolicyOut], error) {
	p, err := t.pods.Pod(ctx, in.Namespace, in.Pod)
	if err != nil {
		return tool.Output[PolicyOut]{}, err
	}
	s := t.scene(ctx)
	v := &viewing{scene: s, pod: p, subject: t.podRef(p.Namespace, p.Name)}
	v.self, v.ep = s.end(ctx, p)
	v.out = PolicyOut{Pod: p.Namespace + "/" + p.Name, Labels: labelText(v.self.Labels), Audit: s.settings.Audit, Policies: []PolicyView{}, Pairs: []PairView{}, Notes: []string{}}
	if v.ep != nil {
		v.out.Identity, v.out.State = v.ep.identity, v.ep.state
	}
	v.selecting()
	needs := s.needs(ctx, p)
	// What an endpoint lacks is a fault only for a pod that shows it.
	v.hurt = t.sick(p) || slices.ContainsFunc(needs, func(n need) bool { return n.why == "log" })
	v.identity(ctx)
	if in.ToPod+in.ToService+in.ToHost != "" {
		to, err := v.asked(ctx, in)
		if err != nil {
			return tool.Output[PolicyOut]{}, err
		}
		v.pair(ctx, need{host: to.text, port: to.port, proto: orElse(strings.ToUpper(in.Protocol), "TCP"), why: "asked"}, to)
	} else if len(s.policies) > 0 || s.settings.Mode == "always" {
		for _, n := range needs {
			if to, ok := s.resolve(ctx, p.Namespace, n); ok {
				v.pair(ctx, n, to)
			}
		}
	}
	v.out.Notes = append(v.out.Notes, s.notes...)
	if len(v.out.Notes) > maxNotes {
		v.out.Notes = append(v.out.Notes[:maxNotes], fmt.Sprintf("%d more notes left out", len(v.out.Notes)-maxNotes))
	}
	return tool.Output[PolicyOut]{Data: v.out, Text: v.text(), Findings: v.findings, Edges: v.edges}, nil
}

// viewing is one answer in the making.
type viewing struct {
	*scene
	pod     *corev1.Pod
	subject incident.Ref
	self    *policy.End
	ep      *endpoint
	hurt    bool
	// line is a complaint of the pod's log about a peer, named or not.
	line     string
	out      PolicyOut
	findings []incident.Finding
	edges    []incident.Edge
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (v *viewing) edge(from incident.Ref, rel string, to incident.Ref) {
	v.edges = append(v.edges, incident.Edge{From: from, Relation: rel, To: to})
}

// selecting lists the policies that select the pod.
func (v *viewing) selecting() {
	for _, p := range v.policies {
		selected, in, out := p.Selects(v.self)
		if !selected {
			continue
		}
		v.out.Policies = append(v.out.Policies, PolicyView{Policy: p.String(), Ingress: in, Egress: out, Invalid: p.Invalid})
		if p.Invalid == "" {
			v.out.Ingress, v.out.Egress = v.out.Ingress || in, v.out.Egress || out
		}
	}
}

// asked finds the peer that was named.
func (v *viewing) asked(ctx context.Context, in PolicyIn) (target, error) {
	ns := orElse(in.ToNamespace, in.Namespace)
	if in.ToPod != "" {
		p, err := v.t.pods.Pod(ctx, ns, in.ToPod)
		if err != nil {
			return target{}, err
		}
		e, _ := v.end(ctx, p)
		return target{end: e, port: in.Port, pod: p, text: "pod " + ns + "/" + in.ToPod}, nil
	}
	host := in.ToHost
	if in.ToService != "" {
		host = in.ToService + "." + ns + ".svc"
	}
	to, ok := v.resolve(ctx, in.Namespace, need{host: host, port: in.Port, proto: in.Protocol})
	if !ok {
		return target{}, &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("no peer %s with port %d is known: no such Service or port, or no pod behind it", host, in.Port), Fix: "see kube_network on the Service"}
	}
	return to, nil
}

// pair judges the pod and one peer and reports a denial that the pod suffers from.
func (v *viewing) pair(ctx context.Context, n need, to target) {
	traffic := policy.Traffic{From: v.self, To: to.end, Port: to.port, Proto: n.proto}
	meant := policy.Traffic{From: v.derived(ctx, v.pod, v.self), To: v.derived(ctx, to.pod, to.end), Port: to.port, Proto: n.proto}
	view := PairView{To: to.text, Port: to.port, Verdict: "allowed", Known: orElse(n.line, n.why)}
	for _, dir := range []policy.Direction{policy.Egress, policy.Ingress} {
		d := policy.Decide(v.policies, dir, traffic, v.settings)
		if d.Allow != nil {
			view.Auth = orElse(view.Auth, d.Allow.Auth)
			view.L7 = append(view.L7, d.Allow.L7...)
		}
		if d.Allowed == policy.Yes {
			continue
		}
		view.Side = string(dir)
		if d.Allowed == policy.Unknown {
			view.Verdict, view.Why = "unknown", d.Why
			continue
		}
		view.Verdict = "denied"
		if d.Audited {
			view.Verdict = "audited"
		}
		by := decider(d)
		if by == nil {
			view.Policy = "enable-policy=always: nothing allows it"
			break
		}
		view.Policy = by.String()
		if d.Deny != nil {
			view.Rule = fmt.Sprintf("%s forbids %s", d.Deny.At, d.Deny.Peers)
		} else if len(d.Near) > 0 {
			view.Nearest = nearText(d.Near[0])
		}
		if !d.Audited {
			v.suffers(ctx, n, to, d, by, policy.Decide(v.policies, dir, meant, v.settings).Allowed == policy.Yes)
		}
		break
	}
	if view.Verdict == "allowed" && v.blind {
		view.Verdict, view.Why = "unknown", "not all policies could be read"
	}
	v.out.Pairs = append(v.out.Pairs, view)
}

// decider is the policy to name for a denial: the one whose rule forbids it, the
// one that came nearest to allowing it, or the first that enforces.
func decider(d policy.Decision) *policy.Policy {
	switch {
	case d.Deny != nil:
		return d.Deny.Policy
	case len(d.Near) > 0 && telling(d.Near[0]):
		return d.Near[0].Policy
	case len(d.Enforcing) > 0:
		return d.Enforcing[0]
	}
	return nil
}

// telling reports whether a near rule was plausibly meant for the pair.
func telling(n policy.Near) bool { return n.Close() && (n.What != "port" || n.Peers != "everybody") }

func nearText(n policy.Near) string {
	return fmt.Sprintf("%s of %s wants %s, here it is %s", n.At, n.Policy, n.Wants, n.Has)
}

// suffers reports a denial, by how it is known that the pod wants the traffic.
// byLabels says that policy would allow it if the identities had the pods' labels.
func (v *viewing) suffers(ctx context.Context, n need, to target, d policy.Decision, by *policy.Policy, byLabels bool) {
	conf := 0.0
	switch {
	case n.why == "log":
		conf = 0.9
	case n.why == "spec" && v.t.sick(v.pod):
		conf = 0.72
	case n.why == "asked":
		conf = 0.6
	}
	if conf == 0 || by.Kind == "NetworkPolicy" && d.Deny == nil && n.why != "asked" && !telling0(d) {
		return // a plain NetworkPolicy is judged with the pod itself
	}
	port := fmt.Sprintf("%d/%s", to.port, n.proto)
	if n.why != "asked" {
		v.findings = append(v.findings, finding("cilium.traffic_denied", v.subject, 0.9, map[string]string{"to": to.text, "port": port, "direction": string(d.Direction), "policy": by.Path()},
			"pod %s wants %s port %s, and policy denies it (%s): %s", v.subject.Path(), to.text, port, d.Direction, orElse(n.line, n.why)))
	}
	v.blame(ctx, port, to, d, by, byLabels, conf)
}

// tie draws the way from the pod to the policy that guards one of the two ends.
func (v *viewing) tie(to target, dir policy.Direction, where incident.Ref) {
	on := v.subject
	switch {
	case dir == policy.Ingress && !to.service.IsZero():
		on = to.service
	case dir == policy.Ingress && to.pod != nil:
		on = v.t.podRef(to.pod.Namespace, to.pod.Name)
	}
	if on != v.subject {
		v.edge(v.subject, graph.Calls, on)
	}
	v.edge(on, graph.IsolatedBy, where)
}

// blame names the policy, or the identity that makes the policy not mean the pod.
func (v *viewing) blame(ctx context.Context, port string, to target, d policy.Decision, by *policy.Policy, byLabels bool, conf float64) {
	v.tie(to, d.Direction, v.t.policyRef(by))
	if byLabels {
		v.mistaken(ctx, to, conf)
		return
	}
	if p := v.rejectedFor(to, d, port); p != nil {
		where := v.t.policyRef(p)
		v.edge(v.subject, graph.IsolatedBy, where)
		v.findings = append(v.findings, finding("cilium.policy_invalid", where, conf+0.02, map[string]string{"message": p.Invalid, "from": v.subject.Path(), "to": to.text, "port": port},
			"%s would let %s reach %s port %s, and Cilium rejects it and does not enforce it: %s", p, v.subject.Path(), to.text, port, p.Invalid))
	}
	v.findings = append(v.findings, v.t.denial(by, d, v.subject.Path(), to.text, port, conf))
}

// rejectedFor finds a rejected policy that would have let the traffic pass.
func (v *viewing) rejectedFor(to target, d policy.Decision, port string) *policy.Policy {
	if d.Deny != nil {
		return nil
	}
	number, proto, _ := strings.Cut(port, "/")
	n, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return nil
	}
	for _, p := range v.policies {
		if p.Invalid == "" {
			continue
		}
		valid := *p
		valid.Invalid = ""
		one := policy.Decide([]*policy.Policy{&valid}, d.Direction, policy.Traffic{From: v.self, To: to.end, Port: int32(n), Proto: proto}, v.settings)
		if one.Allow != nil && one.Deny == nil {
			return p
		}
	}
	return nil
}

// derived gives the end as its pod's own labels make it.
func (s *scene) derived(ctx context.Context, p *corev1.Pod, e *policy.End) *policy.End {
	if p == nil || p.Spec.HostNetwork {
		return e
	}
	d := policy.PodEnd(p.Namespace, p.Spec.ServiceAccountName, s.config["cluster-name"], p.Labels, s.nsLabels(ctx, p.Namespace))
	d.Ports, d.Addrs, d.Host, d.Service = e.Ports, e.Addrs, e.Host, e.Service
	return d
}

// mistaken reports the end whose identity lacks the labels that its pod has, which
// is why a rule for these labels does not mean it.
func (v *viewing) mistaken(ctx context.Context, to target, conf float64) {
	p := v.pod
	if staleLabels(p, v.ep) == "" && missingLabels(p, v.self) == "" && to.pod != nil {
		p = to.pod
	}
	ep := v.ep
	self := v.self
	if p == to.pod {
		ep, self = v.endpoint(ctx, p), to.end
	}
	ref := v.t.ref(ciliumGroup, "CiliumEndpoint", p.Namespace, p.Name)
	if lost := missingLabels(p, self); lost != "" && v.config["labels"] != "" {
		cm := v.t.ref("", "ConfigMap", "kube-system", "cilium-config")
		v.edge(v.subject, graph.IsolatedBy, cm)
		v.findings = append(v.findings, finding("cilium.identity_label_excluded", cm, conf, map[string]string{"labels": lost, "filter": v.config["labels"], "pod": p.Namespace + "/" + p.Name},
			"the labels setting of ConfigMap kube-system/cilium-config (%s) keeps %s out of identities, so no rule for it means pod %s/%s", v.config["labels"], lost, p.Namespace, p.Name))
		return
	}
	was, id := "", "unknown"
	if ep != nil {
		was, id = staleLabels(p, ep), fmt.Sprint(ep.identity)
	}
	if was == "" {
		was = "the identity lacks " + missingLabels(p, self)
	}
	v.edge(v.subject, graph.IsolatedBy, ref)
	v.findings = append(v.findings, finding("cilium.identity_stale", ref, conf, map[string]string{"labels": was, "identity": id, "node": p.Spec.NodeName},
		"Cilium knows pod %s/%s as identity %s, whose labels are not those of the pod now: %s; by the pod's own labels policy would let the traffic pass", p.Namespace, p.Name, id, was))
}

// missingLabels lists the labels of a pod that its identity does not have at all.
func missingLabels(p *corev1.Pod, e *policy.End) string {
	var out []string
	for k, val := range p.Labels {
		if _, ok := e.Labels["k8s:"+k]; !ok && !volatile(k) {
			out = append(out, k+"="+val)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func telling0(d policy.Decision) bool { return len(d.Near) > 0 && telling(d.Near[0]) }

// denial names the fault of a policy that denies a pair, by what its nearest rule lacks.
func (t *Toolset) denial(by *policy.Policy, d policy.Decision, from, to, port string, conf float64) incident.Finding {
	where := t.policyRef(by)
	params := map[string]string{"from": from, "to": to, "port": port, "direction": string(d.Direction)}
	if d.Deny != nil {
		params["rule"] = d.Deny.At
		return finding("cilium.policy_forbids", where, conf, params, "%s %s forbids %s of %s with %s port %s", by, d.Deny.At, d.Direction, from, to, port)
	}
	if len(d.Near) == 0 || !telling(d.Near[0]) || d.Near[0].Policy != by {
		return finding("cilium.policy_denies", where, conf-0.02, params, "%s puts the pod into default deny (%s), and no rule lets %s reach %s port %s", by, d.Direction, from, to, port)
	}
	n := d.Near[0]
	params["rule"], params["wants"], params["has"] = n.At, n.Wants, n.Has
	code := map[string]string{
		"port": "cilium.policy_port", "labels": "cilium.policy_peer_labels", "namespace": "cilium.policy_namespace_scope",
		"cidr": "cilium.policy_cidr_names_pods", "dns": "cilium.policy_fqdn_without_dns", "fqdn": "cilium.policy_fqdn_mismatch",
	}[n.What]
	if n.What == "port" && strings.HasPrefix(port, "15008/") {
		code = "cilium.policy_blocks_hbone"
	}
	return finding(code, where, conf, params, "%s denies %s from %s to %s port %s: its rule %s for %s wants %s, and here it is %s", by, d.Direction, from, to, port, n.At, n.Peers, n.Wants, n.Has)
}

// text writes the answer for a reader.
func (v *viewing) text() string {
	var b strings.Builder
	o := &v.out
	fmt.Fprintf(&b, "pod %s", o.Pod)
	if o.Identity != 0 {
		fmt.Fprintf(&b, ", identity %d, endpoint %s", o.Identity, orElse(o.State, "of unknown state"))
	}
	posture := func(in bool) string {
		if in {
			return "default deny"
		}
		return "open"
	}
	fmt.Fprintf(&b, "; ingress %s, egress %s\n", posture(o.Ingress), posture(o.Egress))
	if o.Audit {
		b.WriteString("policy audit mode: nothing is dropped by policy\n")
	}
	for i, p := range o.Policies {
		if i == 12 {
			fmt.Fprintf(&b, "%d more policies select it\n", len(o.Policies)-i)
			break
		}
		fmt.Fprintf(&b, "selected by %s", p.Policy)
		if p.Invalid != "" {
			fmt.Fprintf(&b, " (rejected by Cilium, not enforced: %s)", p.Invalid)
		}
		b.WriteByte('\n')
	}
	for _, p := range o.Pairs {
		fmt.Fprintf(&b, "to %s port %d: %s", p.To, p.Port, p.Verdict)
		for _, x := range []string{p.Side, p.Policy, p.Rule, p.Nearest, p.Why} {
			if x != "" {
				fmt.Fprintf(&b, "; %s", x)
			}
		}
		if p.Auth != "" {
			fmt.Fprintf(&b, "; authentication %s", p.Auth)
		}
		fmt.Fprintf(&b, " (%s)\n", p.Known)
	}
	for _, f := range v.findings {
		if f.Role != incident.Symptom && !strings.Contains(b.String(), f.Message) {
			fmt.Fprintf(&b, "%s\n", f.Message)
		}
	}
	for _, n := range o.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return strings.TrimRight(b.String(), "\n")
}

// volatile are label keys that Cilium leaves out of identities by default
// (docs.cilium.io, "Limiting Identity-Relevant Labels").
func volatile(key string) bool {
	return strings.Contains(key, "kubernetes.io") || strings.Contains(key, "k8s.io") || slices.Contains([]string{"pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name", "annotation.cilium.io"}, key) || strings.HasPrefix(key, "batch.")
}
