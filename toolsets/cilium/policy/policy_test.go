package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/policy"
)

func load(t *testing.T, kind, ns, doc string) *policy.Policy {
	t.Helper()
	var obj map[string]any
	if err := yaml.Unmarshal([]byte(doc), &obj); err != nil {
		t.Fatal(err)
	}
	if kind == "NetworkPolicy" {
		return policy.ParseNetworkPolicy(ns, "p", obj)
	}
	return policy.ParseCilium(kind, ns, "p", obj)
}

func pod(ns, app string) *policy.End {
	return policy.PodEnd(ns, "sa-"+app, "", map[string]string{"app": app}, map[string]string{"team": ns})
}

// Each row is a policy, a pair and what Cilium does with the first packet.
func TestDecide(t *testing.T) {
	t.Parallel()
	router, engine, other := pod("serve", "router"), pod("serve", "engine"), pod("other", "router")
	engine.Ports = map[string]int32{"http": 8000}
	engine.Addrs = []netip.Addr{netip.MustParseAddr("10.0.1.5")}
	hub := policy.ReservedEnd("world")
	hub.Host = "hub.example.com"
	const cnp, ccnp, np = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"
	for name, c := range map[string]struct {
		kind, doc string
		dir       policy.Direction
		from, to  *policy.End
		port      int32
		set       policy.Settings
		want      policy.Answer
		near      string
	}{
		"no policy for the pod":         {cnp, `{spec: {endpointSelector: {matchLabels: {app: x}}, ingress: [{}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"always mode needs a rule":      {cnp, `{spec: {endpointSelector: {matchLabels: {app: x}}, ingress: [{}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{Mode: "always"}, policy.No, ""},
		"empty rule allows all":         {cnp, `{spec: {endpointSelector: {}, ingress: [{}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"empty list of peers is nobody": {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: []}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.No, ""},
		"allowed by label and port":     {cnp, `{spec: {endpointSelector: {matchLabels: {app: engine}}, ingress: [{fromEndpoints: [{matchLabels: {app: router}}], toPorts: [{ports: [{port: "8000", protocol: TCP}]}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"other port":                    {cnp, `{spec: {endpointSelector: {matchLabels: {app: engine}}, ingress: [{fromEndpoints: [{matchLabels: {app: router}}], toPorts: [{ports: [{port: "8080", protocol: TCP}]}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.No, "port"},
		"named port":                    {cnp, `{spec: {endpointSelector: {matchLabels: {app: engine}}, ingress: [{toPorts: [{ports: [{port: http, protocol: TCP}]}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"port range":                    {cnp, `{spec: {endpointSelector: {matchLabels: {app: engine}}, ingress: [{toPorts: [{ports: [{port: "7000", endPort: 9000}]}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"protocol differs":              {cnp, `{spec: {endpointSelector: {matchLabels: {app: engine}}, ingress: [{toPorts: [{ports: [{port: "8000", protocol: UDP}]}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.No, "port"},
		"peer of another namespace":     {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: router}}]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.No, "namespace"},
		"namespace named":               {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": other, "k8s:app": router}}]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"namespace by its labels":       {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {"k8s:io.cilium.k8s.namespace.labels.team": other}}]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"label differs":                 {cnp, `{spec: {endpointSelector: {matchLabels: {app: engine}}, ingress: [{fromEndpoints: [{matchLabels: {app: gateway}}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.No, "labels"},
		"deny wins":                     {cnp, `{spec: {endpointSelector: {}, ingress: [{}], ingressDeny: [{fromEndpoints: [{matchLabels: {app: router}}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.No, ""},
		"deny of somebody else":         {cnp, `{spec: {endpointSelector: {}, ingress: [{}], ingressDeny: [{fromEndpoints: [{matchLabels: {app: x}}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"no default deny":               {cnp, `{spec: {endpointSelector: {}, enableDefaultDeny: {ingress: false}, ingress: [{fromEndpoints: [{matchLabels: {app: x}}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"entity cluster":                {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEntities: [cluster]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"entity world is no pod":        {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEntities: [world]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.No, ""},
		"the host always reaches":       {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: []}]}}`, policy.Ingress, policy.ReservedEnd("host"), engine, 8000, policy.Settings{}, policy.Yes, ""},
		"a remote node does not":        {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: []}]}}`, policy.Ingress, policy.ReservedEnd("remote-node"), engine, 8000, policy.Settings{}, policy.No, ""},
		"a CIDR means no pod":           {cnp, `{spec: {endpointSelector: {}, egress: [{toCIDR: [10.0.0.0/16]}]}}`, policy.Egress, router, engine, 8000, policy.Settings{}, policy.No, "cidr"},
		"a CIDR means the world":        {cnp, `{spec: {endpointSelector: {}, egress: [{toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.8/32]}]}]}}`, policy.Egress, router, policy.ReservedEnd("world", netip.MustParseAddr("203.0.113.7")), 443, policy.Settings{}, policy.Yes, ""},
		"what a CIDR excepts":           {cnp, `{spec: {endpointSelector: {}, egress: [{toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.8/32]}]}]}}`, policy.Egress, router, policy.ReservedEnd("world", netip.MustParseAddr("203.0.113.8")), 443, policy.Settings{}, policy.No, ""},
		"an unknown address":            {cnp, `{spec: {endpointSelector: {}, egress: [{toCIDR: [203.0.113.0/24]}]}}`, policy.Egress, router, policy.ReservedEnd("world"), 443, policy.Settings{}, policy.Unknown, ""},
		"a group cannot be read":        {cnp, `{spec: {endpointSelector: {}, egress: [{toCIDRSet: [{cidrGroupRef: hubs}]}]}}`, policy.Egress, router, policy.ReservedEnd("world"), 443, policy.Settings{}, policy.Unknown, ""},
		"a name without a dns rule":     {cnp, `{spec: {endpointSelector: {}, egress: [{toFQDNs: [{matchName: hub.example.com}]}]}}`, policy.Egress, router, hub, 443, policy.Settings{}, policy.No, "dns"},
		"a name with a dns rule":        {cnp, `{spec: {endpointSelector: {}, egress: [{toFQDNs: [{matchPattern: "*.example.com"}]}, {toEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system}}], toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "*"}]}}]}]}}`, policy.Egress, router, hub, 443, policy.Settings{}, policy.Yes, ""},
		"a star stays in its label":     {cnp, `{spec: {endpointSelector: {}, egress: [{toFQDNs: [{matchPattern: "*.com"}]}, {toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: "*"}]}}]}]}}`, policy.Egress, router, hub, 443, policy.Settings{}, policy.No, "fqdn"},
		"mode never":                    {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: []}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{Mode: "never"}, policy.Yes, ""},
		"an invalid policy":             {cnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: []}]}, status: {conditions: [{type: Valid, status: "False", message: bad}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"clusterwide, any pod":          {ccnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"clusterwide, not the world":    {ccnp, `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]}}`, policy.Ingress, policy.ReservedEnd("world"), engine, 8000, policy.Settings{}, policy.No, ""},
		"a host policy is for no pod":   {ccnp, `{spec: {nodeSelector: {}, ingress: [{fromEntities: [health]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"specs":                         {cnp, `{specs: [{endpointSelector: {matchLabels: {app: engine}}, ingress: [{fromEndpoints: [{matchLabels: {app: x}}]}]}]}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.No, "labels"},
		"icmp is no tcp":                {cnp, `{spec: {endpointSelector: {}, ingress: [{icmps: [{fields: [{type: 8, family: IPv4}]}]}]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.No, ""},
		"NetworkPolicy, default deny":   {np, `{spec: {podSelector: {}, policyTypes: [Ingress]}}`, policy.Ingress, router, engine, 8000, policy.Settings{}, policy.No, ""},
		"NetworkPolicy, egress is free": {np, `{spec: {podSelector: {}, policyTypes: [Ingress]}}`, policy.Egress, router, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"NetworkPolicy, own namespace":  {np, `{spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: router}}}]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.No, "namespace"},
		"NetworkPolicy, by namespace":   {np, `{spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: other}}, podSelector: {matchLabels: {app: router}}}]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"NetworkPolicy, empty from":     {np, `{spec: {podSelector: {}, ingress: [{ports: [{port: 8000}]}]}}`, policy.Ingress, other, engine, 8000, policy.Settings{}, policy.Yes, ""},
		"NetworkPolicy, ipBlock":        {np, `{spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}}`, policy.Egress, router, engine, 8000, policy.Settings{}, policy.No, "cidr"},
		"NetworkPolicies switched off":  {np, `{spec: {podSelector: {}, policyTypes: [Ingress]}}`, policy.Ingress, router, engine, 8000, policy.Settings{NoNetworkPolicies: true}, policy.Yes, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := "serve"
			if c.kind == ccnp {
				ns = ""
			}
			p := load(t, c.kind, ns, c.doc)
			if p.Unread != "" {
				t.Fatal(p.Unread)
			}
			d := policy.Decide([]*policy.Policy{p}, c.dir, policy.Traffic{From: c.from, To: c.to, Port: c.port, Proto: "TCP"}, c.set)
			if d.Allowed != c.want {
				t.Errorf("allowed %v, want %v: %+v", d.Allowed, c.want, d)
			}
			near := ""
			if len(d.Near) > 0 {
				near = d.Near[0].What
			}
			if near != c.near {
				t.Errorf("nearest differs in %q, want %q: %+v", near, c.near, d.Near)
			}
		})
	}
}

// Two policies: what one lets pass, the other need not.
func TestDecideAddsUp(t *testing.T) {
	t.Parallel()
	router, engine := pod("serve", "router"), pod("serve", "engine")
	deny := load(t, "NetworkPolicy", "serve", `{spec: {podSelector: {}, policyTypes: [Ingress]}}`)
	allow := load(t, "CiliumNetworkPolicy", "serve", `{spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: router}}], authentication: {mode: required}, toPorts: [{ports: [{port: "8000"}], rules: {http: [{method: GET}]}}]}]}}`)
	d := policy.Decide([]*policy.Policy{deny, allow}, policy.Ingress, policy.Traffic{From: router, To: engine, Port: 8000, Proto: "TCP"}, policy.Settings{Audit: true})
	if d.Allowed != policy.Yes || d.Allow == nil || d.Allow.Auth != "required" || len(d.Allow.L7) != 1 || len(d.Enforcing) != 2 {
		t.Errorf("%+v", d)
	}
	if d := policy.Decide([]*policy.Policy{deny}, policy.Ingress, policy.Traffic{From: router, To: engine, Port: 8000, Proto: "TCP"}, policy.Settings{Audit: true}); d.Allowed != policy.No || !d.Audited {
		t.Errorf("audit mode: %+v", d)
	}
}

func TestUnreadShapesAreSaid(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		`{spec: {endpointSelector: [], ingress: [{}]}}`, `{spec: {endpointSelector: {}, ingress: {}}}`, `{spec: 3}`,
		`{spec: {endpointSelector: {}, egress: [{toCIDR: ["10.0.0.0/99"]}]}}`, `{spec: {endpointSelector: {matchExpressions: [{key: a, operator: Near}]}}}`,
		`{spec: {endpointSelector: {}, egress: [{toPorts: [{ports: [80]}]}]}}`, `{spec: {endpointSelector: {}, egress: [{toFQDNs: [{}]}]}}`,
	} {
		if p := load(t, "CiliumNetworkPolicy", "serve", doc); p.Unread == "" {
			t.Errorf("%s is taken for a policy", doc)
		}
	}
}

func TestMatchName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{{"*", "a.b.c", true}, {"*.b.c", "a.b.c", true}, {"*.c", "a.b.c", false}, {"**.c", "a.b.c", true}, {"A.b.c.", "a.B.c", true}, {"x*.b.c", "xy.b.c", true}, {"[", "a", false}} {
		if policy.MatchName(c.pattern, c.name) != c.want {
			t.Errorf("%s and %s", c.pattern, c.name)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add("spec: {endpointSelector: {matchLabels: {app: x}}, egress: [{toEntities: [world], toPorts: [{ports: [{port: http}]}]}]}")
	f.Add("spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}")
	f.Fuzz(func(t *testing.T, doc string) {
		var obj map[string]any
		if yaml.Unmarshal([]byte(doc), &obj) != nil {
			return
		}
		a, b := pod("serve", "router"), policy.ReservedEnd("world")
		for _, p := range []*policy.Policy{policy.ParseCilium("CiliumNetworkPolicy", "serve", "p", obj), policy.ParseNetworkPolicy("serve", "p", obj)} {
			for _, dir := range []policy.Direction{policy.Ingress, policy.Egress} {
				d := policy.Decide([]*policy.Policy{p}, dir, policy.Traffic{From: a, To: b, Port: 80, Proto: "TCP"}, policy.Settings{})
				if d.Allowed == policy.No && d.Deny == nil && len(d.Enforcing) == 0 {
					t.Errorf("denied by nobody: %s", doc)
				}
				if strings.Contains(d.Why, "%!") {
					t.Error(d.Why)
				}
			}
		}
	})
}
