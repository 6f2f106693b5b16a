package policy

import (
	"fmt"
	"strings"
)

// bare reads keys of Kubernetes selectors, which have no source.
func bare(key string) string { return key }

// ParseNetworkPolicy reads a networking.k8s.io NetworkPolicy.
func ParseNetworkPolicy(namespace, name string, obj map[string]any) *Policy {
	p := &Policy{Kind: "NetworkPolicy", Namespace: namespace, Name: name}
	m, err := object(obj, "spec")
	if err != nil || m == nil {
		p.Unread = "it has no spec"
		return p
	}
	s, err := netpolSpec(namespace, m)
	if err != nil {
		p.Unread = err.Error()
		return p
	}
	p.specs = append(p.specs, s)
	return p
}

func netpolSpec(namespace string, m map[string]any) (spec, error) {
	s := spec{namespace: namespace, podLabels: true, deny: map[Direction]bool{}}
	var err error
	if s.subject, err = parseSelector(m["podSelector"], bare); err != nil {
		return s, fmt.Errorf("podSelector: %w", err)
	}
	for _, part := range []struct {
		dir          Direction
		field, peers string
	}{{Ingress, "ingress", "from"}, {Egress, "egress", "to"}} {
		rules, err := list(m, part.field)
		if err != nil {
			return s, err
		}
		// Without policyTypes: ingress always, egress where there are egress rules.
		s.deny[part.dir] = part.dir == Ingress || len(rules) > 0
		for i, raw := range rules {
			at := fmt.Sprintf("%s[%d]", part.field, i)
			rm, ok := raw.(map[string]any)
			if !ok {
				return s, fmt.Errorf("%s is %T, not an object", at, raw)
			}
			r, err := netpolRule(namespace, part.dir, part.peers, rm)
			if err != nil {
				return s, fmt.Errorf("%s: %w", at, err)
			}
			r.at = at
			s.rules = append(s.rules, r)
		}
	}
	types, err := texts(m, "policyTypes")
	if err != nil {
		return s, err
	}
	if len(types) > 0 {
		s.deny = map[Direction]bool{}
		for _, t := range types {
			s.deny[Direction(strings.ToLower(t))] = true
		}
	}
	return s, nil
}

func netpolRule(namespace string, dir Direction, field string, m map[string]any) (rule, error) {
	r := rule{dir: dir}
	peers, err := list(m, field)
	if err != nil {
		return r, err
	}
	// Here an empty list means everybody.
	r.any = len(peers) == 0
	for i, raw := range peers {
		pm, ok := raw.(map[string]any)
		if !ok {
			return r, fmt.Errorf("%s[%d] is %T, not an object", field, i, raw)
		}
		p := peer{kind: "pods", own: namespace}
		block, err := object(pm, "ipBlock")
		if err != nil {
			return r, err
		}
		if block != nil {
			p.kind = "cidr"
			except, err := texts(block, "except")
			if err != nil {
				return r, err
			}
			if err := p.cidr(text(block, "cidr"), except); err != nil {
				return r, err
			}
			r.peers = append(r.peers, p)
			continue
		}
		for _, f := range []struct {
			field string
			into  **selector
		}{{"podSelector", &p.pods}, {"namespaceSelector", &p.namespaces}} {
			if raw, there := pm[f.field]; there && raw != nil {
				sel, err := parseSelector(raw, bare)
				if err != nil {
					return r, fmt.Errorf("%s: %w", f.field, err)
				}
				*f.into = &sel
			}
		}
		r.peers = append(r.peers, p)
	}
	ports, err := list(m, "ports")
	if err != nil {
		return r, err
	}
	for i, raw := range ports {
		pm, ok := raw.(map[string]any)
		if !ok {
			return r, fmt.Errorf("ports[%d] is %T, not an object", i, raw)
		}
		p := port{proto: strings.ToUpper(orElse(text(pm, "protocol"), "TCP"))}
		if n, ok := number(pm["port"]); ok {
			p.from, p.to = int32(n), int32(n)
		} else if p.name = text(pm, "port"); p.name == "" {
			p.unlimited = true
		}
		if n, ok := number(pm["endPort"]); ok && p.name == "" {
			p.to = int32(n)
		}
		r.ports = append(r.ports, p)
	}
	return r, nil
}
