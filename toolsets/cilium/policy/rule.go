package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Policy is one policy object in the terms of this package.
type Policy struct {
	// Kind is CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy or NetworkPolicy.
	Kind, Namespace, Name string
	// Invalid is what the policy's own status says against it: Cilium does not
	// enforce such a policy. Empty for a valid one.
	Invalid string
	// Unread says which part was not understood; decisions then stay unknown where
	// it matters.
	Unread string
	specs  []spec
}

// Path gives "namespace/name" or "name".
func (p *Policy) Path() string {
	if p.Namespace == "" {
		return p.Name
	}
	return p.Namespace + "/" + p.Name
}

// String gives "CiliumNetworkPolicy ns/name".
func (p *Policy) String() string { return p.Kind + " " + p.Path() }

// spec is one rule set with the endpoints it is for.
type spec struct {
	subject selector
	// podLabels says that subject is read against Kubernetes labels of pods of
	// namespace; otherwise against identity labels.
	podLabels bool
	namespace string
	// node says that the spec selects nodes (host policy).
	node bool
	// deny is the default-deny posture by direction.
	deny  map[Direction]bool
	rules []rule
}

// rule is one entry of ingress, egress, ingressDeny or egressDeny.
type rule struct {
	dir    Direction
	forbid bool
	// at names the place in the object, "egress[1]".
	at string
	// any says that the rule names no peer, so everybody is meant.
	any   bool
	peers []peer
	ports []port
	// icmp says that the rule is about ICMP only.
	icmp bool
	// auth is authentication.mode, empty if the rule does not say.
	auth string
}

// peer is one way to name the other end.
type peer struct {
	// kind is endpoints, nodes, entity, cidr, fqdn, service, group or pods.
	kind string
	sel  selector
	// text is the entity, name pattern or service.
	text   string
	prefix netip.Prefix
	except []netip.Prefix
	// pods and namespaces belong to NetworkPolicies; own is the policy's namespace.
	pods, namespaces *selector
	own              string
}

// port is one entry of toPorts.
type port struct {
	name      string
	from, to  int32
	proto     string
	l7        []string
	dns       []string
	unlimited bool
}

// ParseCilium reads a CiliumNetworkPolicy or, with an empty namespace, a
// CiliumClusterwideNetworkPolicy.
func ParseCilium(kind, namespace, name string, obj map[string]any) *Policy {
	p := &Policy{Kind: kind, Namespace: namespace, Name: name, Invalid: invalid(obj)}
	var specs []any
	if s, ok := obj["spec"]; ok && s != nil {
		specs = append(specs, s)
	}
	more, err := list(obj, "specs")
	if err != nil {
		p.Unread = err.Error()
	}
	for i, raw := range append(specs, more...) {
		m, ok := raw.(map[string]any)
		if !ok {
			p.Unread = fmt.Sprintf("spec %d is %T, not an object", i, raw)
			continue
		}
		s, err := ciliumSpec(namespace, m)
		if err != nil {
			p.Unread = err.Error()
			continue
		}
		p.specs = append(p.specs, s)
	}
	return p
}

// invalid reads status.conditions type Valid.
func invalid(obj map[string]any) string {
	status, err := object(obj, "status")
	if err != nil {
		return ""
	}
	conds, err := list(status, "conditions")
	if err != nil {
		return ""
	}
	for _, c := range conds {
		m, _ := c.(map[string]any)
		if text(m, "type") == "Valid" && text(m, "status") == "False" {
			return orElse(text(m, "message"), orElse(text(m, "reason"), "status condition Valid is False"))
		}
	}
	return ""
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func ciliumSpec(namespace string, m map[string]any) (spec, error) {
	s := spec{namespace: namespace, deny: map[Direction]bool{}, node: has(m, "nodeSelector")}
	key := "endpointSelector"
	if s.node {
		key = "nodeSelector"
	}
	sel, err := parseSelector(m[key], withSource)
	if err != nil {
		return s, fmt.Errorf("%s: %w", key, err)
	}
	// A policy of a namespace selects pods of that namespace only, whatever it says.
	if namespace != "" {
		sel.reqs = append(sel.reqs, requirement{key: "k8s:" + NamespaceKey, op: "In", values: []string{namespace}})
	}
	s.subject = sel
	for _, part := range []struct {
		field  string
		dir    Direction
		forbid bool
	}{{"ingress", Ingress, false}, {"ingressDeny", Ingress, true}, {"egress", Egress, false}, {"egressDeny", Egress, true}} {
		rules, err := list(m, part.field)
		if err != nil {
			return s, err
		}
		s.deny[part.dir] = s.deny[part.dir] || len(rules) > 0
		for i, raw := range rules {
			at := fmt.Sprintf("%s[%d]", part.field, i)
			rm, ok := raw.(map[string]any)
			if !ok {
				return s, fmt.Errorf("%s is %T, not an object", at, raw)
			}
			r, err := ciliumRule(namespace, part.dir, rm)
			if err != nil {
				return s, fmt.Errorf("%s: %w", at, err)
			}
			r.at, r.forbid = at, part.forbid
			s.rules = append(s.rules, r)
		}
	}
	posture, err := object(m, "enableDefaultDeny")
	if err != nil {
		return s, err
	}
	for _, d := range []Direction{Ingress, Egress} {
		if b, ok := posture[string(d)].(bool); ok {
			s.deny[d] = b
		}
	}
	return s, nil
}

// peerFields are the ways in which a rule names the other end; each has a form
// for ingress (from) and egress (to).
func peerFields() []struct{ field, kind string } {
	return []struct{ field, kind string }{
		{"Endpoints", "endpoints"}, {"Nodes", "nodes"}, {"Entities", "entity"}, {"CIDR", "cidr"}, {"CIDRSet", "cidrset"}, {"FQDNs", "fqdn"}, {"Services", "service"}, {"Groups", "group"},
	}
}

func ciliumRule(namespace string, dir Direction, m map[string]any) (rule, error) {
	r := rule{dir: dir, any: true}
	prefix := "from"
	if dir == Egress {
		prefix = "to"
	}
	for _, f := range peerFields() {
		raw, err := list(m, prefix+f.field)
		if err != nil {
			return r, err
		}
		// An empty list that is there selects nobody.
		if has(m, prefix+f.field) && m[prefix+f.field] != nil {
			r.any = false
		}
		for i, x := range raw {
			p, err := ciliumPeer(f.kind, namespace, x)
			if err != nil {
				return r, fmt.Errorf("%s%s[%d]: %w", prefix, f.field, i, err)
			}
			r.peers = append(r.peers, p)
		}
	}
	auth, err := object(m, "authentication")
	if err != nil {
		return r, err
	}
	r.auth = text(auth, "mode")
	r.icmp = has(m, "icmps") && m["icmps"] != nil
	ports, err := list(m, "toPorts")
	if err != nil {
		return r, err
	}
	for i, raw := range ports {
		pm, ok := raw.(map[string]any)
		if !ok {
			return r, fmt.Errorf("toPorts[%d] is %T, not an object", i, raw)
		}
		ps, err := ciliumPorts(pm)
		if err != nil {
			return r, fmt.Errorf("toPorts[%d]: %w", i, err)
		}
		r.ports = append(r.ports, ps...)
	}
	return r, nil
}

func ciliumPeer(kind, namespace string, raw any) (peer, error) {
	p := peer{kind: kind}
	switch kind {
	case "entity", "cidr":
		s, ok := raw.(string)
		if !ok {
			return p, fmt.Errorf("%T, not a string", raw)
		}
		p.text = s
		if kind == "entity" {
			return p, nil
		}
		return p, p.cidr(s, nil)
	}
	m, ok := raw.(map[string]any)
	if !ok {
		return p, fmt.Errorf("%T, not an object", raw)
	}
	switch kind {
	case "endpoints":
		sel, err := parseSelector(m, withSource)
		if err != nil {
			return p, err
		}
		p.sel = scoped(sel, namespace, "")
	case "nodes":
		sel, err := parseSelector(m, withSource)
		if err != nil {
			return p, err
		}
		p.sel = sel
	case "cidrset":
		p.kind = "cidr"
		if ref := orElse(text(m, "cidrGroupRef"), ""); ref != "" || has(m, "cidrGroupSelector") {
			p.kind, p.text = "group", "CiliumCIDRGroup "+ref
			return p, nil
		}
		except, err := texts(m, "except")
		if err != nil {
			return p, err
		}
		return p, p.cidr(text(m, "cidr"), except)
	case "fqdn":
		p.text = strings.ToLower(strings.TrimSuffix(orElse(text(m, "matchName"), text(m, "matchPattern")), "."))
		if p.text == "" {
			return p, fmt.Errorf("neither matchName nor matchPattern")
		}
	case "service":
		svc, err := object(m, "k8sService")
		if err != nil {
			return p, err
		}
		if p.text = orElse(text(svc, "namespace"), namespace) + "/" + text(svc, "serviceName"); svc == nil {
			p.kind, p.text = "group", "services by label"
		}
	default:
		p.kind, p.text = "group", kind
	}
	return p, nil
}

func (p *peer) cidr(text string, except []string) error {
	parse := func(s string) (netip.Prefix, error) {
		if !strings.Contains(s, "/") {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return netip.Prefix{}, err
			}
			return netip.PrefixFrom(a, a.BitLen()), nil
		}
		return netip.ParsePrefix(s)
	}
	var err error
	if p.prefix, err = parse(text); err != nil {
		return fmt.Errorf("cidr %q: %w", text, err)
	}
	p.text = text
	for _, e := range except {
		x, err := parse(e)
		if err != nil {
			return fmt.Errorf("except %q: %w", e, err)
		}
		p.except = append(p.except, x)
	}
	return nil
}

func ciliumPorts(m map[string]any) ([]port, error) {
	var l7, dns []string
	rules, err := object(m, "rules")
	if err != nil {
		return nil, err
	}
	for _, k := range sortedKeys(rules) {
		if k != "dns" {
			l7 = append(l7, k)
			continue
		}
		items, err := list(rules, "dns")
		if err != nil {
			return nil, err
		}
		for _, x := range items {
			d, _ := x.(map[string]any)
			dns = append(dns, strings.ToLower(orElse(text(d, "matchName"), text(d, "matchPattern"))))
		}
		l7 = append(l7, "dns")
	}
	for _, k := range []string{"serverNames", "listener", "terminatingTLS", "originatingTLS"} {
		if has(m, k) {
			l7 = append(l7, k)
		}
	}
	ports, err := list(m, "ports")
	if err != nil {
		return nil, err
	}
	if len(ports) == 0 {
		return []port{{unlimited: true, l7: l7, dns: dns}}, nil
	}
	var out []port
	for i, raw := range ports {
		pm, ok := raw.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("ports[%d] is %T, not an object", i, raw)
		}
		p := port{proto: strings.ToUpper(orElse(text(pm, "protocol"), "ANY")), l7: l7, dns: dns}
		if n, ok := number(pm["port"]); ok {
			p.from, p.to, p.unlimited = int32(n), int32(n), n == 0
		} else {
			p.name = text(pm, "port")
		}
		if n, ok := number(pm["endPort"]); ok && n > 0 && p.name == "" {
			p.to = int32(n)
		}
		out = append(out, p)
	}
	return out, nil
}

// ports of a rule as people write them: "8000/TCP, 9000-9100/TCP".
func (r rule) portText() string {
	var out []string
	for _, p := range r.ports {
		out = append(out, p.String())
	}
	return strings.Join(slices.Compact(out), ", ")
}

// String writes one port: 8000/TCP, http/TCP, any port.
func (p port) String() string {
	s := p.name
	switch {
	case p.unlimited:
		s = "any port"
	case s == "" && p.to > p.from:
		s = fmt.Sprintf("%d-%d", p.from, p.to)
	case s == "":
		s = fmt.Sprint(p.from)
	}
	if p.proto != "" && p.proto != "ANY" {
		s += "/" + p.proto
	}
	return s
}

// peerText names the peers of a rule.
func (r rule) peerText() string {
	if r.any {
		return "everybody"
	}
	if len(r.peers) == 0 {
		return "nobody"
	}
	var out []string
	for _, p := range r.peers {
		out = append(out, p.String())
	}
	return strings.Join(out, " or ")
}

// String names one peer.
func (p peer) String() string {
	switch p.kind {
	case "endpoints":
		return p.sel.String()
	case "nodes":
		return "nodes " + p.sel.String()
	case "pods":
		var parts []string
		if p.namespaces != nil {
			parts = append(parts, "namespaces "+p.namespaces.String())
		} else {
			parts = append(parts, "namespace "+p.own)
		}
		if p.pods != nil {
			parts = append(parts, "pods "+p.pods.String())
		}
		return strings.Join(parts, " ")
	}
	return p.text
}
