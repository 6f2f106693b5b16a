package actions_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// shopNet is two namespaces with pods of workloads, a Service, and policies.
const shopNet = `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: router, namespace: edge, uid: uid-router}
spec: {replicas: 1, selector: {matchLabels: {app: router, pod-template-hash: abc}}, template: {metadata: {labels: {app: router, pod-template-hash: abc}}, spec: {containers: [{name: c, image: x}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: router-1, namespace: edge, labels: {app: router, pod-template-hash: abc, extra: "1"}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: router, uid: uid-router, controller: true}]}
spec: {nodeName: n1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: edge, labels: {pod-template-hash: abc}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: engine-0, namespace: serve, labels: {app: engine, apps.kubernetes.io/pod-index: "0"}}
spec: {nodeName: n1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {nodeName: n1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: data}
spec: {selector: {app: cache}, ports: [{port: 6379}]}
---
apiVersion: v1
kind: Service
metadata: {name: external, namespace: data}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: engine, namespace: serve}
spec:
  podSelector: {matchLabels: {app: engine}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: gateway}}}]
    ports: [{port: 8000, protocol: TCP}]
  - from: [{podSelector: {}}]
---
apiVersion: cilium.io/v2
kind: CiliumEndpoint
metadata: {name: engine-0, namespace: serve}
---
`

// policies of Cilium, by name.
const ciliumNet = `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: engine, namespace: serve}
spec:
  endpointSelector: {matchLabels: {app: engine}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: gateway}}]
    toPorts: [{ports: [{port: "8000", protocol: TCP}], rules: {http: [{method: GET}]}}]
    authentication: {mode: required}
  - fromCIDR: [10.0.0.0/8]
  - fromEndpoints: [{matchLabels: {app: tester}}]
    authentication: {mode: test-always-fail}
  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: bad}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: loader, namespace: serve}
specs:
- endpointSelector: {matchLabels: {app: loader}}
  egress:
  - toFQDNs: [{matchName: models.example.com}]
    toPorts: [{ports: [{port: "443", protocol: TCP}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: stale, namespace: serve}
spec:
  endpointSelector: {matchLabels: {"k8s:app": motor}}
  ingress: [{}]
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: hosts}
spec:
  nodeSelector: {matchLabels: {}}
  ingress:
  - fromEntities: [health]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: engine, namespace: serve}
spec:
  selector: {matchLabels: {app: engine}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/edge/sa/gateway]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: keep-out, namespace: serve}
spec:
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/edge/sa/gateway]}}]}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: router, namespace: edge}
---
apiVersion: v1
kind: Namespace
metadata: {name: serve, labels: {team: llm, kubernetes.io/metadata.name: serve}}
spec: {finalizers: [kubernetes]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: spire-agent, namespace: cilium-spire, uid: uid-spire}
spec:
  selector: {matchLabels: {app: spire-agent}}
  updateStrategy: {type: RollingUpdate}
  template: {metadata: {labels: {app: spire-agent}}, spec: {containers: [{name: a, image: spire-agent, resources: {}}], tolerations: [{key: x, operator: Exists, effect: NoSchedule}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: spire-agent-1, namespace: cilium-spire, labels: {app: spire-agent}, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: spire-agent, uid: uid-spire, controller: true}]}
spec: {nodeName: n1, containers: [{name: a, image: spire-agent}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: other, namespace: cilium-spire, uid: uid-other}
spec:
  selector: {matchLabels: {app: other}}
  updateStrategy: {type: RollingUpdate}
  template: {metadata: {labels: {app: other}}, spec: {containers: [{name: a, image: other}]}}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama, namespace: serve}
spec: {selector: {matchLabels: {app: motor}}, targetPorts: [{number: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: llama, namespace: serve}
spec:
  rules:
  - backendRefs: [{name: blue, port: 80, weight: 100}, {name: green, port: 80, weight: 0}]
---
`

// Each change of the safe list is made as it says, to the one rule or label that is
// named, and goes back.
func TestNetworkActions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, action, params, changed, has string
		undone                             string
		warns                              string
		checks                             []string
	}{
		{name: "a port in a NetworkPolicy", action: "network_policy_patch", params: "namespace=serve name=engine rule=ingress[0] port=8001/TCP", changed: "~NetworkPolicy serve/engine", has: `"ports":[{"port":8000,"protocol":"TCP"},{"port":8001,"protocol":"TCP"}]`},
		{name: "HBONE in a NetworkPolicy", action: "cilium_policy_patch", params: "kind=NetworkPolicy namespace=serve name=engine rule=ingress[0] port=15008/TCP", changed: "~NetworkPolicy serve/engine", has: `{"port":15008,"protocol":"TCP"}`},
		{name: "a peer of another namespace", action: "network_policy_patch", params: "namespace=serve name=engine rule=ingress[0] peer=edge/router-1", changed: "~NetworkPolicy serve/engine",
			has: `{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"edge"}},"podSelector":{"matchLabels":{"app":"router"}}}`, checks: []string{`cilium_policy {"namespace":"edge","pod":"router-1","to_namespace":"serve","to_pod":"engine-0"}`}},
		{name: "a new rule of a NetworkPolicy", action: "network_policy_patch", params: "namespace=serve name=engine direction=ingress peer_labels=app=router peer_namespace=edge port=8000", changed: "~NetworkPolicy serve/engine",
			has: `{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"edge"}},"podSelector":{"matchLabels":{"app":"router"}}}],"ports":[{"port":8000,"protocol":"TCP"}]}]`},
		{name: "the probe's address", action: "network_policy_patch", params: "namespace=serve name=engine direction=ingress peer_address=169.254.7.127 port=8000", changed: "~NetworkPolicy serve/engine", has: `{"ipBlock":{"cidr":"169.254.7.127/32"}}`},
		{name: "a port in a rule of Cilium", action: "cilium_policy_patch", params: "kind=CiliumNetworkPolicy namespace=serve name=engine rule=ingress[0] port=15008/TCP", changed: "~CiliumNetworkPolicy serve/engine",
			has: `"toPorts":[{"ports":[{"port":"8000","protocol":"TCP"}],"rules":{"http":[{"method":"GET"}]}},{"ports":[{"port":"15008","protocol":"TCP"}]}]`},
		{name: "a peer in a rule of Cilium", action: "cilium_policy_patch", params: "kind=CiliumNetworkPolicy namespace=serve name=engine rule=ingress[0] peer=edge/router-1", changed: "~CiliumNetworkPolicy serve/engine",
			has: `"fromEndpoints":[{"matchLabels":{"app":"gateway"}},{"matchLabels":{"app":"router","k8s:io.kubernetes.pod.namespace":"edge"}}]`},
		{name: "a new rule asks for what the others ask for", action: "cilium_policy_patch", params: "kind=CiliumNetworkPolicy namespace=serve name=engine direction=ingress peer=edge/router-1 self=serve/engine-0 port=8000/TCP", changed: "~CiliumNetworkPolicy serve/engine",
			has: `{"authentication":{"mode":"required"},"fromEndpoints":[{"matchLabels":{"app":"router","k8s:io.kubernetes.pod.namespace":"edge"}}],"toPorts":[{"ports":[{"port":"8000","protocol":"TCP"}]}]}`, checks: []string{`cilium_policy {"namespace":"edge","pod":"router-1","port":8000,"protocol":"TCP","to_namespace":"serve","to_pod":"engine-0"}`}},
		{name: "nodes reach a host", action: "cilium_policy_patch", params: "kind=CiliumClusterwideNetworkPolicy name=hosts direction=ingress peer_entity=remote-node port=4250/TCP", changed: "~CiliumClusterwideNetworkPolicy hosts", has: `{"fromEntities":["remote-node"],"toPorts":[{"ports":[{"port":"4250","protocol":"TCP"}]}]}`},
		{name: "a DNS name", action: "cilium_policy_patch", params: "kind=CiliumNetworkPolicy namespace=serve name=loader rule=specs[0].egress[0] fqdn=hub.example.com", changed: "~CiliumNetworkPolicy serve/loader", has: `"toFQDNs":[{"matchName":"models.example.com"},{"matchName":"hub.example.com"}]`},
		{name: "the DNS proxy", action: "cilium_policy_patch", params: "kind=CiliumNetworkPolicy namespace=serve name=loader dns=models.example.com", changed: "~CiliumNetworkPolicy serve/loader", has: `"rules":{"dns":[{"matchName":"models.example.com"}]}`},
		{name: "a Service behind a policy of names", action: "cilium_policy_patch", params: "kind=CiliumNetworkPolicy namespace=serve name=loader direction=egress peer=data/cache port=6379", changed: "~CiliumNetworkPolicy serve/loader", has: `"toEndpoints":[{"matchLabels":{"app":"cache","k8s:io.kubernetes.pod.namespace":"data"}}]`, warns: "no pod is"},
		{name: "the mode that is meant", action: "cilium_policy_patch", params: "kind=CiliumNetworkPolicy namespace=serve name=engine rule=ingress[2] authentication=required", changed: "~CiliumNetworkPolicy serve/engine", has: `"authentication":{"mode":"required"},"fromEndpoints":[{"matchLabels":{"app":"tester"}}]`},
		{name: "the selector of a policy", action: "policy_selector_repair", params: "kind=CiliumNetworkPolicy namespace=serve name=stale label=app=engine", changed: "~CiliumNetworkPolicy serve/stale", has: `{"k8s:app":"engine"}`},
		{name: "a namespace is enrolled", action: "label_namespace", params: "namespace=serve label=io.cilium/mtls-enabled=true", changed: "~Namespace serve", has: `"io.cilium/mtls-enabled":"true"`, warns: "TCP 15008"},
		{name: "a label goes", action: "unlabel_namespace", params: "namespace=serve label=team", changed: "~Namespace serve", has: `"name":"serve"`},
		{name: "the SPIRE agent tolerates a taint", action: "spire_agent_tolerations", params: "namespace=cilium-spire name=spire-agent taint=nvidia.com/gpu=present:NoSchedule node=n1", changed: "~DaemonSet cilium-spire/spire-agent", has: `{"effect":"NoSchedule","key":"nvidia.com/gpu","operator":"Equal","value":"present"}`, warns: "node by node"},
		{name: "one pod of a DaemonSet", action: "daemonset_pod_roll", params: "daemonset=cilium-spire/spire-agent node=n1", changed: "-Pod cilium-spire/spire-agent-1", undone: "-Pod cilium-spire/spire-agent-1"},
		{name: "a principal is replaced", action: "authorization_policy_repair", params: "namespace=serve name=engine principal=cluster.local/ns/edge/sa/router replaces=cluster.local/ns/edge/sa/gateway", changed: "~AuthorizationPolicy serve/engine", has: `"principals":["cluster.local/ns/edge/sa/router"]`, warns: "no longer let in"},
		{name: "a principal is added", action: "authorization_policy_repair", params: "namespace=serve name=engine principal=spiffe://cluster.local/ns/edge/sa/router", changed: "~AuthorizationPolicy serve/engine", has: `"principals":["cluster.local/ns/edge/sa/gateway","cluster.local/ns/edge/sa/router"]`},
		{name: "the selector of a pool", action: "inference_pool_selector", params: "namespace=serve name=llama label=app=engine", changed: "~InferencePool serve/llama", has: `"matchLabels":{"app":"engine"}`},
		{name: "weights", action: "route_weights", params: "namespace=serve name=llama weights=blue=90,green=10", changed: "~HTTPRoute serve/llama", has: `{"name":"blue","port":80,"weight":90},{"name":"green","port":80,"weight":10}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, gpus+shopNet+ciliumNet)
			before := b.state()
			d := b.draft(c.action, c.params)
			if len(d.Writes) != 1 {
				t.Errorf("the writes are %s", verbs(d.Writes))
			}
			done := b.do(d)
			after := b.state()
			if got := differ(before, after); got != c.changed {
				t.Errorf("changed: %s", got)
			}
			if got := after[strings.TrimLeft(c.changed, "+~-")]; !strings.Contains(got, c.has) {
				t.Errorf("it stands as %s, want %s", got, c.has)
			}
			if !strings.Contains(strings.Join(d.Warnings, "\n"), c.warns) {
				t.Errorf("warnings %q", d.Warnings)
			}
			var checks []string
			for _, v := range d.Verify {
				checks = append(checks, v.Params["tool"]+" "+v.Params["args"])
			}
			for _, want := range c.checks {
				if !slices.Contains(checks, want) {
					t.Errorf("proved by %q, want %q", checks, want)
				}
			}
			b.undo(d, done)
			if got := differ(before, b.state()); got != c.undone {
				k := strings.TrimLeft(c.changed, "+~-")
				t.Errorf("undone: %s: %s, was %s", got, b.state()[k], before[k])
			}
		})
	}
}

// Where Hubble runs, flows are asked for; where Cilium does not, nobody is asked
// what cannot be answered.
func TestProofOfAPolicy(t *testing.T) {
	t.Parallel()
	const relay = "\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: hubble-relay, namespace: kube-system}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: x}]}}}\nstatus: {readyReplicas: 1}\n---\n"
	const params = "namespace=serve name=engine rule=ingress[0] port=8001"
	for _, c := range []struct{ name, objects, want string }{
		{"with Hubble", shopNet + relay, "exists no_finding tool"},
		{"with Cilium", shopNet, "exists no_finding"},
		{"without Cilium", strings.ReplaceAll(shopNet, "apiVersion: cilium.io/v2\nkind: CiliumEndpoint", "apiVersion: v1\nkind: ConfigMap"), "exists no_finding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, v := range newBench(t, c.objects).draft("network_policy_patch", params).Verify {
				got = append(got, v.Kind)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("proved by %q", got)
			}
		})
	}
}

// What is never made is refused with its reason, however it is asked for.
func TestNeverMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, gpus+shopNet+ciliumNet)
	const cnp = "kind=CiliumNetworkPolicy namespace=serve name=engine "
	for _, c := range []struct{ action, params, why string }{
		{"ca_regenerate", "name=cilium-ca", "breaks every identity"},
		{"secret_edit", "name=cilium-ztunnel-secrets", "never read"},
		{"policy_delete", "name=engine", "come in at once"},
		{"policy_authentication_remove", "name=engine", "takes security away"},
		{"peer_authentication_permissive", "name=default", "from anybody"},
		{"cilium_policy_patch", cnp + "rule=ingress[0] authentication=disabled", "takes security away"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_entity=world", "entity world"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_entity=all", "entity all"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_entity=cluster", "entity cluster"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_address=0.0.0.0/0", "single addresses"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_address=::/0", "single addresses"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_address=10.0.0.0/8", "single addresses"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_address=0.0.0.0", "single addresses"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_namespace=edge", "all of its pods"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer=edge/bare", "every pod"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer=data/external", "every pod"},
		{"cilium_policy_patch", cnp + "rule=ingressDeny[0] port=80", "on purpose"},
		{"cilium_policy_patch", cnp + "direction=egress port=80 peer=edge/router-1", "default deny"},
		{"cilium_policy_patch", "kind=CiliumNetworkPolicy namespace=serve name=loader rule=specs[0].egress[0] fqdn=*.example.com", "more than one"},
		{"network_policy_patch", "namespace=serve name=engine direction=egress port=80 peer=edge/router-1", "default deny"},
		{"policy_selector_repair", cnp + "label=app=router", "would be without it"},
		{"label_namespace", "namespace=serve label=pod-security.kubernetes.io/enforce=privileged", "how far pods may go"},
		{"unlabel_namespace", "namespace=serve label=pod-security.kubernetes.io/enforce", "how far pods may go"},
		{"authorization_policy_repair", "namespace=serve name=engine principal=*", "more than one account"},
		{"authorization_policy_repair", "namespace=serve name=engine principal=cluster.local/ns/edge/sa/*", "more than one account"},
		{"authorization_policy_repair", "namespace=serve name=keep-out principal=cluster.local/ns/edge/sa/router", "action DENY"},
		{"spire_agent_tolerations", "namespace=cilium-spire name=other taint=a:NoSchedule", "no SPIRE agent"},
	} {
		_, err := b.compile(c.action, c.params)
		refusal(t, err, "refused", c.why)
	}
}

// A person is asked for what is not said or not there.
func TestNetworkActionsAsk(t *testing.T) {
	t.Parallel()
	b := newBench(t, gpus+shopNet+ciliumNet)
	const cnp = "kind=CiliumNetworkPolicy namespace=serve name=engine "
	for _, c := range []struct{ action, params, param, why string }{
		{"cilium_policy_patch", cnp, "rule", "name the one rule"},
		{"cilium_policy_patch", cnp + "change=anything", "rule", "name the one rule"},
		{"cilium_policy_patch", cnp + "rule=ingress[0]", "port", "what is to change"},
		{"cilium_policy_patch", cnp + "rule=ingress[9] port=80", "rule", "there are 3"},
		{"cilium_policy_patch", cnp + "rule=inbound[0] port=80", "rule", "begins with ingress"},
		{"cilium_policy_patch", cnp + "rule=ingress[0] port=8000/TCP", "port", "already"},
		{"cilium_policy_patch", cnp + "rule=ingress[1] port=80", "port", "lets every port through"},
		{"cilium_policy_patch", cnp + "rule=ingress[1] peer=edge/router-1", "rule", "does not go together"},
		{"cilium_policy_patch", cnp + "rule=ingress[0] port=http", "port", "8000/TCP"},
		{"cilium_policy_patch", cnp + "rule=ingress[0] port=80 peer=edge/router-1", "rule", "make a new rule"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80", "peer", "everybody"},
		{"cilium_policy_patch", cnp + "direction=ingress peer=edge/router-1", "port", "one port"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer=edge/none", "peer", "no pod and no Service"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_labels=app", "peer_labels", "key=value"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_labels=app=x peer=edge/router-1", "peer_labels", "in one way"},
		{"cilium_policy_patch", cnp + "direction=ingress port=80 peer_entity=moon", "peer_entity", "none of"},
		{"cilium_policy_patch", cnp + "rule=ingress[0] fqdn=a.example.com", "rule", "no DNS names"},
		{"cilium_policy_patch", "kind=CiliumNetworkPolicy namespace=serve name=none rule=ingress[0] port=80", "name", "there is no"},
		{"cilium_policy_patch", "kind=CiliumNetworkPolicy name=engine rule=ingress[0] port=80", "namespace", "in a namespace"},
		{"network_policy_patch", "namespace=serve name=engine rule=ingress[1] port=80", "port", "lets every port through"},
		{"network_policy_patch", "namespace=serve name=engine direction=ingress port=80 peer_entity=host", "peer_entity", "knows no entities"},
		{"policy_selector_repair", "kind=CiliumNetworkPolicy namespace=serve name=stale label=tier=engine", "label", "has no label tier"},
		{"policy_selector_repair", "kind=CiliumNetworkPolicy namespace=serve name=stale label=app=nobody", "label", "no pod would be selected"},
		{"label_namespace", "namespace=serve label=a=b,c=d", "label", "one label"},
		{"label_namespace", "namespace=serve label=team=llm", "label", "already"},
		{"label_namespace", "namespace=none label=a=b", "namespace", "there is no"},
		{"unlabel_namespace", "namespace=serve label=none", "label", "has no label"},
		{"spire_agent_tolerations", "namespace=cilium-spire name=spire-agent taint=x:NoSchedule", "taint", "already"},
		{"spire_agent_tolerations", "namespace=cilium-spire name=spire-agent taint=x:Never", "taint", "none of the effects"},
		{"daemonset_pod_roll", "daemonset=spire-agent node=n1", "daemonset", "namespace/name"},
		{"daemonset_pod_roll", "daemonset=cilium-spire/spire-agent node=n2", "node", "no pod on node"},
		{"authorization_policy_repair", "namespace=serve name=engine principal=router", "principal", "trust-domain"},
		{"authorization_policy_repair", "namespace=serve name=engine principal=cluster.local/ns/edge/sa/none", "principal", "no ServiceAccount"},
		{"authorization_policy_repair", "namespace=serve name=engine principal=cluster.local/ns/edge/sa/router replaces=x", "replaces", "no rule"},
		{"inference_pool_selector", "namespace=serve name=llama label=app=nobody", "label", "no pod"},
		{"route_weights", "namespace=serve name=llama weights=blue=0,green=0", "weights", "no request would be answered"},
		{"route_weights", "namespace=serve name=llama weights=blue=1", "weights", "say all"},
		{"route_weights", "namespace=serve name=llama weights=blue=1,red=1", "weights", "no backend red"},
		{"route_weights", "namespace=serve name=llama rule=3 weights=blue=1,green=1", "rule", "there are 1"},
	} {
		t.Run(fmt.Sprint(c.action, " ", c.params), func(t *testing.T) {
			_, err := b.compile(c.action, c.params)
			refusal(t, err, "missing "+c.param, c.why)
		})
	}
}
