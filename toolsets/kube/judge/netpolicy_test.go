package judge

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

func policy(t *testing.T, doc string) *networkingv1.NetworkPolicy {
	t.Helper()
	np := &networkingv1.NetworkPolicy{}
	if err := yaml.UnmarshalStrict([]byte(doc), np); err != nil {
		t.Fatal(err)
	}
	return np
}

func somePod(t *testing.T, doc string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(doc), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestIsolatedFrom(t *testing.T) {
	t.Parallel()
	db := somePod(t, "metadata: {name: db-0, namespace: data, labels: {app: db}}\nspec: {containers: [{name: db, ports: [{name: pg, containerPort: 5432}]}]}\nstatus: {podIP: 10.244.1.9}")
	client := somePod(t, "metadata: {name: web-0, namespace: shop, labels: {app: web}}\nspec: {containers: [{name: web}]}\nstatus: {podIP: 10.244.2.7}")
	shop := map[string]string{"kubernetes.io/metadata.name": "shop", "team": "web"}
	const head = "metadata: {name: p, namespace: data}\nspec:\n  podSelector: {matchLabels: {app: db}}\n  policyTypes: [Ingress]\n"
	for name, c := range map[string]struct {
		doc  string
		want []string
	}{
		"no rule":                      {head, []string{"p"}},
		"another app":                  {"metadata: {name: p, namespace: data}\nspec: {podSelector: {matchLabels: {app: other}}}", nil},
		"egress only":                  {"metadata: {name: p, namespace: data}\nspec: {podSelector: {}, policyTypes: [Egress]}", nil},
		"everybody":                    {head + "  ingress: [{}]\n", nil},
		"the namespace":                {head + "  ingress: [{from: [{namespaceSelector: {matchLabels: {team: web}}}]}]\n", nil},
		"another namespace":            {head + "  ingress: [{from: [{namespaceSelector: {matchLabels: {team: api}}}]}]\n", []string{"p"}},
		"pods of the policy's own":     {head + "  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]\n", []string{"p"}},
		"pods of every namespace":      {head + "  ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]\n", nil},
		"its port by name":             {head + "  ingress: [{ports: [{port: pg}]}]\n", nil},
		"another port":                 {head + "  ingress: [{ports: [{port: 9187}]}]\n", []string{"p"}},
		"a range of ports":             {head + "  ingress: [{ports: [{port: 5000, endPort: 6000}]}]\n", nil},
		"its address":                  {head + "  ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16}}]}]\n", nil},
		"its address, taken out":       {head + "  ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.2.0/24]}}]}]\n", []string{"p"}},
		"an address that is not known": {head + "  ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := isolatedFrom([]*networkingv1.NetworkPolicy{policy(t, c.doc)}, networkingv1.PolicyTypeIngress, db, client, shop, 5432); !slices.Equal(got, c.want) {
				t.Errorf("%v, not %v", got, c.want)
			}
		})
	}
	out := policy(t, "metadata: {name: out, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: data}}}]}]}")
	for labels, want := range map[string][]string{"data": nil, "other": {"out"}} {
		if got := isolatedFrom([]*networkingv1.NetworkPolicy{out}, networkingv1.PolicyTypeEgress, client, db, map[string]string{"team": labels}, 5432); !slices.Equal(got, want) {
			t.Errorf("egress to team %s: %v, not %v", labels, got, want)
		}
	}
}
