package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// network are the actions on policies, namespaces and routes that may be made by a
// plan. What is never made is refused by name, see neverMade.
func network(c *Cluster) []*action {
	policies := []planner.Right{
		{Group: "cilium.io", Resources: []string{"ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"}, Verbs: []string{"get", "patch"}},
		{Group: "networking.k8s.io", Resources: []string{"networkpolicies"}, Verbs: []string{"get", "patch"}},
		{Resources: []string{"pods", "services", "namespaces"}, Verbs: []string{"get", "list"}},
		{Group: "apps", Resources: []string{"deployments", "statefulsets", "daemonsets", "replicasets"}, Verbs: []string{"get"}},
	}
	named := []planner.Param{{Name: "namespace", Text: "the namespace of the policy"}, {Name: "name", Required: true, Object: true, Text: "the policy"}}
	change := []planner.Param{
		{Name: "rule", Text: "the one rule that changes, ingress[0] or specs[1].egress[2]"},
		{Name: "direction", Values: []string{"ingress", "egress"}, Text: "the direction of a new rule, where no rule is named"},
		{Name: "port", Text: "the port that is let through, 8000 or 8000/TCP; HBONE is 15008/TCP"},
		{Name: "peer", Object: true, Text: "the pod or Service at the other end, namespace/name: its stable labels are named"},
		{Name: "peer_labels", Text: "labels of the other end, key=value,key=value"},
		{Name: "peer_namespace", Object: true, Text: "the namespace of peer_labels"},
		{Name: "peer_entity", Text: "a reserved identity of Cilium at the other end: host, remote-node, health or kube-apiserver"},
		{Name: "peer_address", Text: "one address at the other end, such as that of ambient mode's probes"},
		{Name: "self", Object: true, Text: "the pod that the policy is about, namespace/name, for the proof"},
		{Name: "change", Text: "the change in words, for people; it is not executed"},
	}
	cilium := []planner.Param{
		{Name: "fqdn", Text: "one DNS name that an egress rule lets through"},
		{Name: "dns", Text: "one DNS name that may be asked through the DNS proxy, so that toFQDNs learns its addresses"},
		{Name: "authentication", Text: "the authentication.mode of the rule: only required is set by a plan"},
	}
	info := func(name, text string, params []planner.Param) planner.Info {
		return planner.Info{
			Name: name, Family: planner.Network, Text: text, Params: params, Risk: incident.RiskHigh, Rights: policies,
			Undo: "the policy is put back as it was", Verify: "policy lets the pair through, and where Hubble runs its flows are forwarded",
			Sources: []string{"docs.cilium.io/en/stable/security/policy", "k8s.io/api/networking/v1, NetworkPolicySpec", "docs.cilium.io, ztunnel: HBONE on port 15008"},
		}
	}
	return slices.Concat([]*action{
		{c: c, compile: patchPolicy, info: info("cilium_policy_patch", "Let one named pair or port through in one policy",
			slices.Concat([]planner.Param{{Name: "kind", Required: true, Values: []string{"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"}, Text: "the kind of the policy"}}, named, change, cilium))},
		{c: c, compile: patchPolicy, info: info("network_policy_patch", "Let one named pair or port through in one NetworkPolicy", slices.Concat([]planner.Param{{Name: "namespace", Required: true, Text: "the namespace of the policy"}}, named[1:], change))},
		{c: c, compile: repairSelector, info: planner.Info{
			Name: "policy_selector_repair", Family: planner.Network, Text: "Correct one label in the selector by which a policy finds its pods", Risk: incident.RiskHigh,
			Params: slices.Concat([]planner.Param{{Name: "kind", Required: true, Values: []string{"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy", "AuthorizationPolicy"}, Text: "the kind of the policy"}}, named,
				[]planner.Param{{Name: "label", Required: true, Text: "the label as it should be, key=value; the selector has the key already"}}),
			Rights: append(slices.Clone(policies), planner.Right{Group: "security.istio.io", Resources: []string{"authorizationpolicies"}, Verbs: []string{"get", "patch"}}),
			Undo:   "the selector is put back", Verify: "the policy selects pods", Sources: []string{"docs.cilium.io, endpointSelector", "istio.io, AuthorizationPolicy.selector"},
		}},
	}, meshActions(c), routeActions(c), neverMade(c))
}

// patchPolicy makes one of four changes: a port in a named rule, a peer in a named
// rule, a name in a named rule, or a new rule for one pair and one port.
func patchPolicy(ctx context.Context, c *Cluster, p params) (*draft, error) {
	kind := p.str("kind")
	if kind == "" {
		kind = "NetworkPolicy"
	}
	if err := refuseWide(p); err != nil {
		return nil, err
	}
	o, err := c.policy(ctx, p, kind)
	if err != nil {
		return nil, err
	}
	e := &policyEdit{c: c, p: p, o: o, k8s: kind == "NetworkPolicy"}
	if err := e.place(); err != nil {
		return nil, err
	}
	if err := e.ends(ctx); err != nil {
		return nil, err
	}
	d := c.draft("Let %s through in %s", "what is wanted", o.Ref)
	change, err := e.change(ctx)
	if err != nil {
		return nil, err
	}
	d.Say = e.said + " in " + o.Ref.String()
	if err := d.patch(o, d.Say, change); err != nil {
		return nil, err
	}
	if err := e.proof(ctx, d); err != nil {
		return nil, err
	}
	return d, nil
}

// policy reads the policy that parameters name.
func (c *Cluster) policy(ctx context.Context, p params, kind string) (*Object, error) {
	ns, name := p.str("namespace"), p.str("name")
	if ns == "" && kind != "CiliumClusterwideNetworkPolicy" {
		return nil, p.missing("namespace", "a %s is in a namespace", kind)
	}
	full := map[string]string{"NetworkPolicy": "NetworkPolicy.networking.k8s.io", "AuthorizationPolicy": "AuthorizationPolicy.security.istio.io"}[kind]
	if full == "" {
		full = kind + ".cilium.io"
	}
	o, err := c.Get(ctx, full, ns, name)
	if apierrors.IsNotFound(err) {
		return nil, p.missing("name", "there is no %s %s", kind, strings.TrimPrefix(ns+"/"+name, "/"))
	}
	return o, err
}

// refuseWide refuses what a plan never lets in: everybody, and any wide network.
func refuseWide(p params) error {
	const way = "name the one peer that is wanted, by its labels"
	switch e := strings.ToLower(p.str("peer_entity")); e {
	case "", "host", "remote-node", "health", "kube-apiserver":
	case "all", "world", "world-ipv4", "world-ipv6", "cluster", "none", "init", "unmanaged", "ingress":
		return p.refuse(way, "the entity %s lets in more than one peer that anybody has asked for", e)
	default:
		return p.missing("peer_entity", "%q is none of host, remote-node, health, kube-apiserver", e)
	}
	if a := p.str("peer_address"); a != "" {
		if _, err := oneAddress(a); err != nil {
			return p.refuse(way, "%v", err)
		}
	}
	if strings.Contains(p.str("fqdn")+p.str("dns"), "*") {
		return p.refuse("name the one host that is wanted", "a pattern of names lets out more than one")
	}
	switch m := p.str("authentication"); m {
	case "", "required":
	default:
		return p.refuse("a person decides about it, and writes it", "authentication %s takes security away from a policy", m)
	}
	return nil
}

// policyEdit is one change of one policy.
type policyEdit struct {
	c   *Cluster
	p   params
	o   *Object
	k8s bool
	// dir is ingress or egress; spec the path of the rule set; index the rule, -1 for a new one.
	dir   string
	spec  []string
	at    int // of specs; -1 where spec is meant
	index int
	port  *policyPort
	peer  *peerLabels
	said  string
	// from and to of the pair, for the proof.
	from, to string
}

// place finds the rule set and the rule that are meant.
func (e *policyEdit) place() error {
	e.at, e.index, e.dir = -1, -1, e.p.str("direction")
	if s := e.p.str("rule"); s != "" {
		r, err := parseRule(s)
		if err != nil {
			return e.p.missing("rule", "%v", err)
		}
		if r.deny {
			return e.p.refuse("ask the owner of the policy to except the pair", "%s is a rule that forbids, and was written on purpose", s)
		}
		if e.dir != "" && e.dir != r.dir {
			return e.p.missing("direction", "rule %s is about %s", s, r.dir)
		}
		e.dir, e.at, e.index = r.dir, r.spec, r.index
		rules, _ := e.rules(e.o.Unstructured)
		if e.index >= len(rules) {
			return e.p.missing("rule", "there is no rule %s; there are %d, counted from 0", s, len(rules))
		}
		return nil
	}
	if e.dir == "" {
		e.dir = "egress"
		if e.p.str("dns") == "" {
			return e.p.missing("rule", "name the one rule that changes, or the direction of a new one with its peer and port")
		}
	}
	if !e.isolates() {
		return e.p.refuse("let the policy that denies the traffic allow it", "%s says nothing about %s: a rule for it would put its pods into default deny", e.o.Ref, e.dir)
	}
	return nil
}

// rules are the rules of the direction in the rule set that is meant, and how to set them.
func (e *policyEdit) rules(u *unstructured.Unstructured) ([]any, func([]any)) {
	spec, _ := u.Object["spec"].(map[string]any)
	if e.at >= 0 {
		specs, _ := u.Object["specs"].([]any)
		if e.at >= len(specs) {
			return nil, func([]any) {}
		}
		spec, _ = specs[e.at].(map[string]any)
	} else if spec == nil {
		// A policy with specs only: rules are counted in the first that has them.
		specs, _ := u.Object["specs"].([]any)
		for _, s := range mappings(specs) {
			if _, ok := s[e.dir]; ok || spec == nil {
				spec = s
			}
			if _, ok := s[e.dir]; ok {
				break
			}
		}
	}
	list, _ := spec[e.dir].([]any)
	return list, func(l []any) { spec[e.dir] = l }
}

// isolates says that the policy already puts its pods into default deny in the direction.
func (e *policyEdit) isolates() bool {
	spec, _ := e.o.Object["spec"].(map[string]any)
	_, rules := spec[e.dir]
	if !e.k8s {
		if spec == nil {
			list, _ := e.rules(e.o.Unstructured)
			return list != nil
		}
		return rules
	}
	types, _ := spec["policyTypes"].([]any)
	want := map[string]string{"ingress": "Ingress", "egress": "Egress"}[e.dir]
	return slices.Contains(types, any(want)) || len(types) == 0 && (e.dir == "ingress" || rules)
}

// change gives the one change that the parameters say.
func (e *policyEdit) change(ctx context.Context) (func(*unstructured.Unstructured) error, error) {
	fqdn, dns, auth := e.p.str("fqdn"), e.p.str("dns"), e.p.str("authentication")
	said := 0
	for _, b := range []bool{e.port != nil || e.peer != nil, fqdn != "", dns != "", auth != ""} {
		if b {
			said++
		}
	}
	named := e.index >= 0
	switch {
	case said > 1:
		return nil, e.p.missing("change", "one change at a time: port and peer, fqdn, dns, or authentication")
	case dns != "":
		return e.asks(ctx, dns)
	case fqdn != "" && named:
		return e.inRule("the DNS name "+fqdn, func(r map[string]any) error { return e.addName(r, fqdn) })
	case auth != "" && named:
		return e.inRule("authentication "+auth, func(r map[string]any) error {
			if have, _, _ := unstructured.NestedString(r, "authentication", "mode"); have == "" {
				return e.p.refuse("a person decides about it, and writes it", "rule %s asks for no authentication now: traffic that flows would be dropped", e.p.str("rule"))
			}
			r["authentication"] = map[string]any{"mode": auth}
			return nil
		})
	case named && e.port != nil && e.peer == nil:
		return e.inRule("port "+e.port.String(), e.addPort)
	case named && e.peer != nil && e.port == nil:
		return e.inRule(e.peer.String(), e.addPeer)
	case !named && e.peer != nil && e.port != nil:
		return e.newRule()
	case named && e.peer != nil:
		return nil, e.p.missing("rule", "peer and port together make a new rule: give its direction, and no rule")
	case !named && e.peer == nil && e.port != nil:
		return nil, e.p.missing("peer", "a new rule names one peer: without it everybody would be let through")
	case !named && e.peer != nil:
		return nil, e.p.missing("port", "a new rule names one port")
	}
	return nil, e.p.missing("port", "what is to change has to be said by the parameters rule with port, peer, fqdn or authentication; direction with peer and port; or dns")
}

func (e *policyEdit) inRule(what string, do func(map[string]any) error) (func(*unstructured.Unstructured) error, error) {
	// Tried once, so that a refusal comes before the draft is begun.
	try := e.o.DeepCopy()
	e.said = "Let " + what + " through by " + e.p.str("rule")
	change := func(u *unstructured.Unstructured) error {
		list, set := e.rules(u)
		r, _ := list[e.index].(map[string]any)
		if r == nil {
			return fmt.Errorf("rule %s of %s is no object", e.p.str("rule"), e.o.Ref)
		}
		if err := do(r); err != nil {
			return err
		}
		set(list)
		return nil
	}
	return change, change(try)
}
