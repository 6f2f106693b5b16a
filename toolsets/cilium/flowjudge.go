package cilium

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

// maxJudged bounds the pods of a namespace whose drops are judged.
const maxJudged = 6

// flowJudge tells the drops that hurt from those that are meant.
type flowJudge struct {
	t     *Toolset
	in    FlowsIn
	out   *FlowsOut
	pairs []*FlowPair
	// behind are the pods of a Service, whose senders are judged; nil for others.
	behind   map[string]bool
	scene    *scene
	findings []incident.Finding
	edges    []incident.Edge
}

func (j *flowJudge) judge(ctx context.Context) error {
	if !slices.ContainsFunc(j.pairs, func(p *FlowPair) bool { return p.Dropped > 0 }) {
		return nil
	}
	j.scene = j.t.scene(ctx)
	seen := map[string]bool{}
	for _, p := range j.pairs {
		if p.Dropped == 0 {
			continue
		}
		for _, e := range []hubble.End{p.from, p.to} {
			if e.Pod == "" || e.Namespace != j.in.Namespace || j.behind != nil && !j.behind[e.Pod] || j.in.Pod != "" && e.Pod != j.in.Pod || seen[e.Pod] || len(seen) == maxJudged {
				continue
			}
			seen[e.Pod] = true
			pod, err := j.t.pods.Pod(ctx, e.Namespace, e.Pod)
			if tool.KindOf(err) == tool.NotFound && err != nil {
				continue // it is gone since
			}
			if err != nil {
				return err
			}
			before := len(j.findings)
			j.pod(ctx, pod)
			if j.in.Service != "" && len(j.findings) > before {
				j.edges = append(j.edges, incident.Edge{From: j.t.ref("", "Service", j.in.Namespace, j.in.Service), Relation: graph.Selects, To: j.t.podRef(pod.Namespace, pod.Name)})
			}
		}
	}
	j.out.Notes = append(j.out.Notes, j.scene.notes...)
	return nil
}

// pod judges the drops that one pod takes part in.
func (j *flowJudge) pod(ctx context.Context, pod *corev1.Pod) {
	v := &viewing{scene: j.scene, pod: pod, subject: j.t.podRef(pod.Namespace, pod.Name)}
	v.self, v.ep = j.scene.end(ctx, pod)
	if _, lines := j.scene.complaints(ctx, pod); len(lines) > 0 {
		v.line = lines[len(lines)-1]
	}
	var wants []wanted
	for _, n := range j.scene.needs(ctx, pod) {
		if to, ok := j.scene.resolve(ctx, pod.Namespace, n); ok {
			wants = append(wants, wanted{n, to})
		}
	}
	for _, p := range j.pairs {
		switch {
		case p.Dropped == 0:
		case p.from.Namespace == pod.Namespace && p.from.Pod == pod.Name:
			j.sent(ctx, v, p, wants)
		case p.to.Namespace == pod.Namespace && p.to.Pod == pod.Name:
			j.received(v, p)
		}
	}
	j.findings, j.edges = append(j.findings, v.findings...), append(j.edges, v.edges...)
}

// wanted is a need with its other end.
type wanted struct {
	need need
	to   target
}

// means reports whether a pair of flows is what a need is about.
func (w wanted) means(p *FlowPair) bool {
	if w.to.pod != nil {
		if p.to.Namespace != w.to.pod.Namespace {
			return false
		}
		labels := policy.ParseLabels(p.to.Labels)
		for k, val := range w.to.selector {
			if labels["k8s:"+k] != val {
				return false
			}
		}
		return (len(w.to.selector) > 0 || p.to.Pod == w.to.pod.Name) && (p.Port == uint32(w.to.port) || p.Port == hbonePort)
	}
	if w.to.end.Host != "" {
		return slices.ContainsFunc(p.to.Names, func(n string) bool { return strings.TrimSuffix(strings.ToLower(n), ".") == w.to.end.Host })
	}
	a, err := netip.ParseAddr(p.to.IP)
	return err == nil && slices.Contains(w.to.end.Addrs, a)
}

// hbonePort carries the mutual TLS of ztunnel (HTTP-based overlay network environment).
const hbonePort = 15008

// sure says how certain it is that the pod suffers from drops of what it sends, and
// why; zero for background.
func (j *flowJudge) sure(v *viewing, p *FlowPair, wants []wanted) (float64, string, *target) {
	for _, why := range []string{"log", "spec"} {
		for _, w := range wants {
			if w.need.why != why || !w.means(p) {
				continue
			}
			to := w.to
			if why == "log" {
				return 0.95, w.need.line, &to
			}
			return 0.92, w.need.line, &to
		}
	}
	switch {
	case !p.lastForwared.IsZero() && p.firstDrop.After(p.lastForwared):
		return 0.9, "it used to get through until " + p.lastForwared.UTC().Format("15:04:05"), nil
	case p.to.Pod != "" && v.line != "":
		return 0.8, "its log says: " + v.line, nil
	case p.to.Pod != "" && j.t.sick(v.pod):
		return 0.72, "the pod is not ready", nil
	}
	return 0, "", nil
}

// healed reports whether a pair got through after its drops, as it does when a
// handshake follows the first packet, or a policy was mended.
func (p *FlowPair) healed() bool {
	return !p.lastForwared.IsZero() && p.lastForwared.After(p.lastDrop)
}

// sent judges drops of what the pod sends.
func (j *flowJudge) sent(ctx context.Context, v *viewing, p *FlowPair, wants []wanted) {
	reason := p.reason()
	params := map[string]string{"to": p.To, "port": p.port(), "reason": orElse(reason, "unknown"), "count": fmt.Sprint(p.Dropped), "minutes": j.minutes()}
	conf, why, to := j.sure(v, p, wants)
	if p.healed() || conf == 0 || p.Dropped < fewDrops && why != "" && conf < 0.95 {
		text := "it gets through again"
		if !p.healed() {
			text = "nothing says that the pod needs it"
		}
		v.findings = append(v.findings, finding("cilium.drops_background", v.subject, 0.3, params, "%d packets of %s to %s %s were dropped in %s minutes (%s), and %s", p.Dropped, p.From, p.To, p.port(), j.minutes(), orElse(reason, "no reason told"), text))
		return
	}
	v.findings = append(v.findings, finding("cilium.flows_dropped", v.subject, 0.95, params,
		"Hubble saw %d packets of %s to %s %s dropped in %s minutes, %d forwarded: %s (%s); %s", p.Dropped, p.From, p.To, p.port(), j.minutes(), p.Forwarded, orElse(reason, "no reason told"), meaningOf(reason).text, why))
	if to == nil {
		to = j.target(ctx, p)
	}
	j.cause(ctx, v, p, *to, conf)
}

func (j *flowJudge) minutes() string { return fmt.Sprint(int(j.out.Until.Sub(j.out.Since).Minutes())) }

// target makes the other end from the flow alone.
func (j *flowJudge) target(ctx context.Context, p *FlowPair) *target {
	to := &target{end: flowEnd(p.to), port: int32(p.Port), text: p.To} //nolint:gosec // a port
	if p.to.Pod != "" {
		if pod, err := j.t.pods.Pod(ctx, p.to.Namespace, p.to.Pod); err == nil {
			to.pod = pod
			to.end.Ports = namedPorts(pod)
		}
	}
	return to
}

// flowEnd is the policy view of an end of a flow: the labels of the identity that
// the datapath compared.
func flowEnd(e hubble.End) *policy.End {
	out := &policy.End{Namespace: e.Namespace, Labels: policy.ParseLabels(e.Labels), PodLabels: map[string]string{}, NamespaceLabels: map[string]string{}}
	if e.Reserved() != "" {
		out.Namespace = ""
	}
	for k, val := range out.Labels {
		bare, ok := strings.CutPrefix(k, "k8s:")
		if !ok {
			continue
		}
		if ns, ok := strings.CutPrefix(bare, policy.NamespaceLabelKey); ok {
			out.NamespaceLabels[ns] = val
		} else if !strings.HasPrefix(bare, "io.") {
			out.PodLabels[bare] = val
		}
	}
	if a, err := netip.ParseAddr(e.IP); err == nil {
		out.Addrs = []netip.Addr{a}
	}
	if len(e.Names) > 0 {
		out.Host = strings.TrimSuffix(strings.ToLower(e.Names[0]), ".")
	}
	return out
}

// cause names why the packets were dropped.
func (j *flowJudge) cause(ctx context.Context, v *viewing, p *FlowPair, to target, conf float64) {
	switch reason := p.reason(); {
	case p.l7Denied > 0 && (reason == "" || byPolicy(reason)):
		j.l7(v, p, to, conf)
	case byPolicy(reason):
		j.policy(ctx, v, p, to, conf)
	case meaningOf(reason).code != "":
		j.datapath(v, p, to, reason)
	}
}

// policy names the policy: the one that the flow itself names, or the one that
// decides by the labels that the datapath compared.
func (j *flowJudge) policy(ctx context.Context, v *viewing, p *FlowPair, to target, conf float64) {
	for _, d := range p.denied {
		i := slices.IndexFunc(j.scene.policies, func(x *policy.Policy) bool {
			return x.Name == d.Name && x.Namespace == d.Namespace && (d.Kind == "" || x.Kind == d.Kind)
		})
		if i >= 0 {
			dec := policy.Decision{Direction: direction(p.Side), Deny: &policy.Rule{Policy: j.scene.policies[i], At: "a deny rule", Peers: p.From}}
			v.blame(ctx, p.port(), to, dec, j.scene.policies[i], false, conf)
			return
		}
	}
	from, end := flowEnd(p.from), *to.end
	if p.to.Pod != "" {
		seen := flowEnd(p.to)
		end.Labels = seen.Labels
	}
	from.PodLabels, from.NamespaceLabels = v.self.PodLabels, v.self.NamespaceLabels
	traffic := policy.Traffic{From: from, To: &end, Port: int32(p.Port), Proto: p.Proto} //nolint:gosec // a port
	meant := policy.Traffic{From: v.derived(ctx, v.pod, from), To: v.derived(ctx, to.pod, &end), Port: traffic.Port, Proto: p.Proto}
	for _, dir := range []policy.Direction{policy.Egress, policy.Ingress} {
		if p.Side != "" && direction(p.Side) != dir {
			continue
		}
		d := policy.Decide(j.scene.policies, dir, traffic, j.scene.settings)
		if by := decider(d); d.Allowed == policy.No && by != nil {
			v.self = from
			v.blame(ctx, p.port(), to, d, by, policy.Decide(j.scene.policies, dir, meant, j.scene.settings).Allowed == policy.Yes, conf)
			return
		}
	}
	j.out.Notes = append(j.out.Notes, fmt.Sprintf("policies as they are now let %s reach %s %s: they were changed since, or the agent of the node is behind", p.From, p.To, p.port()))
}

func direction(side string) policy.Direction { return policy.Direction(strings.ToLower(side)) }

// l7 names the policy whose layer 7 rules turned requests away.
func (j *flowJudge) l7(v *viewing, p *FlowPair, to target, conf float64) {
	traffic := policy.Traffic{From: flowEnd(p.from), To: to.end, Port: int32(p.Port), Proto: p.Proto} //nolint:gosec // a port
	for _, dir := range []policy.Direction{policy.Egress, policy.Ingress} {
		d := policy.Decide(j.scene.policies, dir, traffic, j.scene.settings)
		if d.Allow == nil || len(d.Allow.L7) == 0 {
			continue
		}
		where := j.t.policyRef(d.Allow.Policy)
		v.tie(to, dir, where)
		v.findings = append(v.findings, finding("cilium.l7_denied", where, conf, map[string]string{"from": p.From, "to": to.text, "port": p.port(), "rule": d.Allow.At, "count": fmt.Sprint(p.l7Denied), "l7": strings.Join(d.Allow.L7, ",")},
			"%s %s lets %s reach %s %s only with requests that its %s rules name; %d others were turned away", d.Allow.Policy, d.Allow.At, p.From, to.text, p.port(), strings.Join(d.Allow.L7, ","), p.l7Denied))
		return
	}
}

// datapath reports a node that drops for a reason of its own.
func (j *flowJudge) datapath(v *viewing, p *FlowPair, to target, reason string) {
	m := meaningOf(reason)
	node := v.pod.Spec.NodeName
	if len(p.Nodes) > 0 {
		node = p.Nodes[0]
		if _, after, ok := strings.Cut(node, "/"); ok {
			node = after
		}
	}
	ref := j.t.ref("", "Node", "", node)
	if to.pod != nil && to.pod.Spec.NodeName == node && node != v.pod.Spec.NodeName {
		on := j.t.podRef(to.pod.Namespace, to.pod.Name)
		v.edge(v.subject, graph.Calls, on)
		v.edge(on, graph.RunsOn, ref)
	} else {
		v.edge(v.subject, graph.RunsOn, ref)
	}
	v.findings = append(v.findings, finding(m.code, ref, 0.85, map[string]string{"reason": reason, "meaning": m.text, "count": fmt.Sprint(p.Reasons[reason]), "minutes": j.minutes(), "agents": "kube-system/cilium"},
		"node %s dropped %d packets of %s to %s %s in %s minutes: %s, %s", node, p.Reasons[reason], p.From, p.To, p.port(), j.minutes(), reason, m.text))
}

// received judges drops of what is sent to the pod: a stranger turned away is what
// policies are for, so it counts only where nobody at all gets through to the port.
func (j *flowJudge) received(v *viewing, p *FlowPair) {
	for _, o := range j.pairs {
		if o.to.Pod == p.to.Pod && o.to.Namespace == p.to.Namespace && o.Port == p.Port && o.Forwarded > 0 {
			return
		}
	}
	reason := p.reason()
	// A sender of another cluster has no pod here to be asked about: what this node
	// does with its packets is seen at the receiver only.
	byNode := p.Side == "INGRESS" && meaningOf(reason).code != ""
	if p.Dropped < fewDrops || p.from.Pod == "" || p.healed() || !byPolicy(reason) && !byNode || p.Side == "EGRESS" {
		return
	}
	port := int32(p.Port) //nolint:gosec // a port
	if !slices.Contains(slices.Collect(maps.Values(v.self.Ports)), port) {
		return // not a port that the pod says it serves
	}
	v.findings = append(v.findings, finding("cilium.clients_turned_away", v.subject, 0.8, map[string]string{"from": p.From, "port": p.port(), "reason": reason, "count": fmt.Sprint(p.Dropped), "minutes": j.minutes()},
		"nobody reaches port %s of pod %s: Hubble saw %d packets of %s dropped in %s minutes and none forwarded", p.port(), v.subject.Path(), p.Dropped, p.From, j.minutes()))
	if byNode {
		j.datapath(v, p, target{}, reason)
		return
	}
	d := policy.Decide(j.scene.policies, policy.Ingress, policy.Traffic{From: flowEnd(p.from), To: v.self, Port: port, Proto: p.Proto}, j.scene.settings)
	if by := decider(d); d.Allowed == policy.No && by != nil {
		where := j.t.policyRef(by)
		v.edge(v.subject, graph.IsolatedBy, where)
		v.findings = append(v.findings, j.t.denial(by, d, p.From, p.To, p.port(), 0.85))
	}
}
