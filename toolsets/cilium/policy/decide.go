package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Traffic is what one end wants of the other.
type Traffic struct {
	From, To *End
	// Port of the receiving end; 0 if it is not known.
	Port int32
	// Proto is TCP, UDP or SCTP.
	Proto string
}

// Settings of Cilium that change what policies mean.
type Settings struct {
	// Mode is enable-policy: default, always or never.
	Mode string
	// Audit is policy-audit-mode: what would be dropped passes and is logged.
	Audit bool
	// NodeCIDRs is policy-cidr-match-mode nodes: CIDR rules match nodes as well.
	NodeCIDRs bool
	// NoNetworkPolicies is enable-k8s-networkpolicy false.
	NoNetworkPolicies bool
}

// Rule is a rule that decided, or nearly did.
type Rule struct {
	Policy *Policy
	// At names the place, "egress[1]"; Peers and Ports say whom and what it names.
	At, Peers, Ports string
	// Auth is authentication.mode.
	Auth string
	// L7 names what is asked of the payload, such as http or dns.
	L7 []string
}

// Near is a rule that would have let the traffic pass but for one thing.
type Near struct {
	Rule
	// What differs: labels, namespace, port, cidr or fqdn.
	What string
	// Wants and Has say it in words: "app=router", "app=router-canary".
	Wants, Has string
	misses     int
}

// Decision is what all policies together say of a direction.
type Decision struct {
	Direction Direction
	// Allowed is No where the traffic is dropped.
	Allowed Answer
	// Enforcing are the policies that put the end into default deny.
	Enforcing []*Policy
	// Deny is the rule that forbids it, Allow the one that lets it pass.
	Deny, Allow *Rule
	// Near are rules that came close, the nearest first; only when nothing allows it.
	Near []Near
	// Audited says that it would be dropped and passes for now.
	Audited bool
	// Why says what could not be told.
	Why string
	// asked says that the DNS proxy sees the name that is wanted.
	asked bool
}

// Decide judges one direction: egress of From or ingress of To.
func Decide(policies []*Policy, dir Direction, t Traffic, s Settings) Decision {
	d := Decision{Direction: dir, Allowed: Yes}
	self, other := t.To, t.From
	if dir == Egress {
		self, other = t.From, t.To
	}
	if !self.managed() && !self.Reserved("host") || s.Mode == "never" {
		return d
	}
	// The host of a pod always reaches it: the kubelet's probes do not need a rule.
	if dir == Ingress && self.managed() && other.Reserved("host") {
		return d
	}
	d.asked = dir == Egress && slices.ContainsFunc(policies, func(p *Policy) bool { return p.Invalid == "" && p.asks(self, other.Host) })
	var unsure []string
	for _, p := range policies {
		if p.Invalid != "" || s.NoNetworkPolicies && p.Kind == "NetworkPolicy" {
			continue
		}
		for i := range p.specs {
			sp := &p.specs[i]
			if !sp.selects(self) {
				continue
			}
			if sp.deny[dir] && !slices.Contains(d.Enforcing, p) {
				d.Enforcing = append(d.Enforcing, p)
			}
			for _, r := range sp.rules {
				if r.dir == dir {
					d.weigh(p, r, self, other, t, s, &unsure)
				}
			}
		}
	}
	switch {
	case d.Deny != nil:
		d.Allowed = No
	case d.Allow != nil || len(d.Enforcing) == 0 && s.Mode != "always":
	case len(unsure) > 0:
		d.Allowed, d.Why = Unknown, strings.Join(unsure, "; ")
	default:
		d.Allowed = No
	}
	if d.Allowed != No {
		d.Near = nil
	} else {
		slices.SortStableFunc(d.Near, func(a, b Near) int { return cmp.Compare(a.misses, b.misses) })
		d.Audited = s.Audit
	}
	return d
}

// weigh puts one rule into the decision.
func (d *Decision) weigh(p *Policy, r rule, self, other *End, t Traffic, s Settings, unsure *[]string) {
	said := Rule{Policy: p, At: r.at, Peers: r.peerText(), Ports: r.portText(), Auth: r.auth}
	named := t.To
	who, miss := r.names(other, s)
	fits, l7 := r.covers(named, t)
	if who == Yes && fits == Yes && !r.forbid && r.byName() && !d.asked {
		// Cilium learns addresses of names only from DNS answers that pass its proxy,
		// which a rule with a dns section sends there.
		said.L7 = nil
		d.Near = append(d.Near, Near{Rule: said, What: "dns", Wants: "a rule for port 53 with rules.dns that lets " + other.Host + " be asked", Has: "none"})
		return
	}
	switch {
	case who == Yes && fits == Yes:
		said.L7 = l7
		if r.forbid && d.Deny == nil {
			d.Deny = &said
		} else if !r.forbid && (d.Allow == nil || d.Allow.Auth == "" && said.Auth != "") {
			d.Allow = &said
		}
	case who == No || fits == No:
		if r.forbid || r.icmp {
			return
		}
		if who == Yes {
			n := Near{Rule: said, What: "port", Wants: said.Ports, Has: fmt.Sprintf("%d/%s", t.Port, t.Proto), misses: 1}
			if r.any {
				n.misses = 3 // a rule for everybody's port 53 is not meant for this pair
			}
			d.Near = append(d.Near, n)
		} else if fits == Yes && miss != nil {
			miss.Rule = said
			d.Near = append(d.Near, *miss)
		}
	default:
		*unsure = append(*unsure, fmt.Sprintf("%s %s of %s names %s, which cannot be compared with the other end", p, r.at, self.Namespace, said.Peers))
	}
}

// selects reports whether a spec is for an end.
func (s *spec) selects(e *End) bool {
	if s.node != e.Reserved("host") {
		return false
	}
	if s.podLabels {
		return e.Namespace == s.namespace && s.subject.matches(e.PodLabels)
	}
	return s.subject.matches(e.Labels)
}

// names reports whether a rule means an end, and if not how near it comes.
func (r rule) names(e *End, s Settings) (Answer, *Near) {
	if r.any {
		return Yes, nil
	}
	answer := No
	var near *Near
	for _, p := range r.peers {
		a, n := p.means(e, s)
		if a == Yes {
			return Yes, nil
		}
		if a == Unknown {
			answer = Unknown
		}
		if n != nil && (near == nil || n.misses < near.misses) {
			near = n
		}
	}
	return answer, near
}

// means reports whether a peer is an end.
func (p peer) means(e *End, s Settings) (Answer, *Near) {
	switch p.kind {
	case "endpoints":
		return p.sel.judge(e.Labels, e)
	case "nodes":
		if !e.Reserved("remote-node") {
			return No, nil
		}
		return Unknown, nil
	case "pods":
		return p.judgePods(e)
	case "entity":
		return yes(entity(p.text, e)), nil
	case "cidr":
		return p.judgeAddr(e, s)
	case "fqdn":
		return p.judgeName(e)
	case "service":
		return yes(p.text == e.Service), nil
	}
	return Unknown, nil
}

func yes(b bool) Answer {
	if b {
		return Yes
	}
	return No
}

// judge compares a selector of endpoints with an end.
func (s selector) judge(labels map[string]string, e *End) (Answer, *Near) {
	miss := s.missing(labels)
	if len(miss) == 0 {
		return Yes, nil
	}
	// Near is only what shares something with the end: one label of several, or
	// the key with another value.
	if !e.managed() || len(miss) > 2 {
		return No, nil
	}
	n := &Near{What: "labels", misses: len(miss)}
	var wants, have []string
	for _, m := range miss {
		v, ok := value(labels, m.key)
		_, bare, _ := strings.Cut(m.key, ":")
		if bare == NamespaceKey {
			n.What = "namespace"
			wants, have = append(wants, "namespace "+strings.Join(m.values, ", ")), append(have, "namespace "+v)
			continue
		}
		wants = append(wants, m.String())
		if ok {
			have = append(have, bare+"="+v)
		} else {
			have = append(have, "no "+bare)
		}
	}
	if len(miss) > 1 {
		n.What = "labels"
	}
	if len(miss) == 1 && n.What == "namespace" && len(s.reqs) == 1 {
		return No, nil // a rule for its own namespace, no more
	}
	n.Wants, n.Has = strings.Join(wants, ","), strings.Join(have, ",")
	return No, n
}

// judgePods compares a peer of a NetworkPolicy with an end.
func (p peer) judgePods(e *End) (Answer, *Near) {
	if !e.managed() {
		return No, nil
	}
	if p.namespaces == nil && e.Namespace != p.own {
		if p.pods != nil && p.pods.matches(e.PodLabels) && len(p.pods.reqs) > 0 {
			return No, &Near{What: "namespace", Wants: "namespace " + p.own, Has: "namespace " + e.Namespace, misses: 1}
		}
		return No, nil
	}
	if p.namespaces != nil {
		if a, n := p.namespaces.judge(e.NamespaceLabels, e); a != Yes {
			if n != nil {
				n.What = "namespace"
			}
			return No, n
		}
	}
	if p.pods != nil {
		return p.pods.judge(e.PodLabels, e)
	}
	return Yes, nil
}

// inCluster reports whether an end has a reserved identity within the cluster.
func inCluster(e *End) bool {
	return slices.ContainsFunc([]string{"host", "remote-node", "init", "ingress", "unmanaged", "health", "kube-apiserver"}, e.Reserved)
}

func entity(name string, e *End) bool {
	switch name {
	case "all":
		return true
	case "none":
		return false
	case "cluster", "cluster-mesh":
		return e.managed() || inCluster(e)
	case "world":
		return slices.ContainsFunc([]string{"world", "world-ipv4", "world-ipv6"}, e.Reserved)
	}
	return e.Reserved(name)
}

// judgeAddr compares a CIDR. In Cilium a CIDR never means a pod: pods have
// identities, and addresses are compared for what has none.
func (p peer) judgeAddr(e *End, s Settings) (Answer, *Near) {
	inside := slices.ContainsFunc(e.Addrs, func(a netip.Addr) bool {
		return p.prefix.Contains(a) && !slices.ContainsFunc(p.except, func(x netip.Prefix) bool { return x.Contains(a) })
	})
	node := e.Reserved("host") || e.Reserved("remote-node") || e.Reserved("kube-apiserver")
	if e.managed() || node && !s.NodeCIDRs {
		if inside && p.prefix.Bits() > 0 {
			return No, &Near{What: "cidr", Wants: p.text, Has: "a " + map[bool]string{true: "pod", false: "node"}[e.managed()] + " of the cluster", misses: 1}
		}
		return No, nil
	}
	if len(e.Addrs) == 0 && p.prefix.Bits() > 0 {
		return Unknown, nil
	}
	return yes(inside || p.prefix.Bits() == 0 && len(p.except) == 0), nil
}

// judgeName compares a DNS name pattern; * stands for characters within a label.
func (p peer) judgeName(e *End) (Answer, *Near) {
	if e.managed() {
		return No, nil
	}
	if e.Host == "" {
		return Unknown, nil
	}
	if MatchName(p.text, e.Host) {
		return Yes, nil
	}
	return No, &Near{What: "fqdn", Wants: p.text, Has: e.Host, misses: 2}
}

// MatchName reports whether a DNS name is meant by a matchName or matchPattern:
// "*" alone means every name, else it stands for any characters but dots.
func MatchName(pattern, name string) bool {
	pattern, name = strings.ToLower(strings.TrimSuffix(pattern, ".")), strings.ToLower(strings.TrimSuffix(name, "."))
	if pattern == "*" || pattern == "**" {
		return true
	}
	if rest, ok := strings.CutPrefix(pattern, "**."); ok {
		return strings.HasSuffix(name, "."+rest)
	}
	ok, err := path.Match(strings.ReplaceAll(strings.ReplaceAll(pattern, "/", ""), ".", "/"), strings.ReplaceAll(name, ".", "/"))
	return err == nil && ok
}

// covers reports whether a rule is about the port of the traffic, and what it asks
// of the payload. Named ports are those of the receiving end.
func (r rule) covers(to *End, t Traffic) (Answer, []string) {
	if r.icmp && len(r.ports) == 0 {
		return No, nil
	}
	if len(r.ports) == 0 {
		return Yes, nil
	}
	answer := No
	var l7 []string
	for _, p := range r.ports {
		if p.proto != "" && p.proto != "ANY" && t.Proto != "" && p.proto != t.Proto {
			continue
		}
		low, high := p.from, p.to
		if p.name != "" {
			low = to.Ports[p.name]
			high = low
			if low == 0 {
				continue
			}
		}
		switch {
		case p.unlimited || t.Port != 0 && t.Port >= low && t.Port <= high:
			// A rule without demands on the payload lets everything through.
			if len(p.l7) == 0 {
				return Yes, nil
			}
			answer, l7 = Yes, p.l7
		case t.Port == 0 && answer == No:
			answer = Unknown
		}
	}
	return answer, l7
}

// byName reports whether a rule names the other end by DNS names only.
func (r rule) byName() bool {
	return !r.any && len(r.peers) > 0 && !slices.ContainsFunc(r.peers, func(p peer) bool { return p.kind != "fqdn" })
}

// asks reports whether a policy sends DNS requests of an end for a name through
// the DNS proxy.
func (p *Policy) asks(e *End, host string) bool {
	if host == "" {
		return false
	}
	for i := range p.specs {
		if !p.specs[i].selects(e) {
			continue
		}
		for _, r := range p.specs[i].rules {
			if r.dir != Egress || r.forbid {
				continue
			}
			for _, pt := range r.ports {
				if slices.ContainsFunc(pt.dns, func(pattern string) bool { return MatchName(pattern, host) }) {
					return true
				}
			}
		}
	}
	return false
}

// Selects reports whether a policy is for an end, and in which directions it puts
// the end into default deny.
func (p *Policy) Selects(e *End) (selected, ingress, egress bool) {
	for i := range p.specs {
		if p.specs[i].selects(e) {
			selected = true
			ingress = ingress || p.specs[i].deny[Ingress]
			egress = egress || p.specs[i].deny[Egress]
		}
	}
	return selected, ingress, egress
}

// Auth lists the rules of a policy that ask for mutual authentication, by mode.
func (p *Policy) Auth() []Rule {
	var out []Rule
	for _, s := range p.specs {
		for _, r := range s.rules {
			if r.auth != "" && r.auth != "disabled" {
				out = append(out, Rule{Policy: p, At: r.at, Peers: r.peerText(), Ports: r.portText(), Auth: r.auth})
			}
		}
	}
	return out
}

// AuthReserved lists the rules that ask for mutual authentication of ends that have
// no certificate: host, world, kube-apiserver and other reserved identities.
func (p *Policy) AuthReserved() []Rule {
	var out []Rule
	for _, s := range p.specs {
		for _, r := range s.rules {
			reserved := slices.ContainsFunc(r.peers, func(x peer) bool {
				return x.kind == "cidr" || x.kind == "fqdn" || x.kind == "entity" && x.text != "none" || x.kind == "nodes" || x.kind == "endpoints" && x.sel.reserved()
			})
			if r.auth == "required" && reserved {
				out = append(out, Rule{Policy: p, At: r.at, Peers: r.peerText(), Ports: r.portText(), Auth: r.auth})
			}
		}
	}
	return out
}

// PortsOnly reports whether an end's policies let peers in (or out) by port and
// none of the rules that mean other lets the given port through.
func PortsOnly(d Decision) bool {
	return d.Allowed == No && d.Deny == nil && slices.ContainsFunc(d.Near, func(n Near) bool { return n.What == "port" })
}

// Close reports whether a near rule lacks one thing only.
func (n Near) Close() bool { return n.misses <= 1 || n.What == "fqdn" }
