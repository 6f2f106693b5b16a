package cilium_test

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium"
)

const twoPods = `
apiVersion: v1
kind: Namespace
metadata: {name: serve}
---
apiVersion: v1
kind: Pod
metadata: {namespace: serve, name: router, labels: {app: router}}
spec: {nodeName: node-a, serviceAccountName: default, containers: [{name: router, env: [{name: ENGINE, value: "http://engine:8000"}]}]}
status: {phase: Running, podIP: 10.0.0.2, startTime: "2026-11-25T10:00:00Z", conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: serve, name: engine-0, labels: {app: engine}}
spec: {nodeName: node-a, serviceAccountName: default, containers: [{name: engine}]}
status: {phase: Running, podIP: 10.0.0.3, startTime: "2026-11-25T10:00:00Z", conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: serve, name: engine}
spec: {clusterIP: 10.96.0.9, selector: {app: engine}, ports: [{port: 8000}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {namespace: serve, name: engine}
spec: {endpointSelector: {matchLabels: {app: engine}}, ingress: [{fromEndpoints: [{matchLabels: {app: gateway}}]}]}
`

// A denied pair is a fault only for a pod that suffers from it.
func TestPolicyBlamesOnlyWhatHurts(t *testing.T) {
	t.Parallel()
	c := lab(t, twoPods)
	res, err := call(t, c.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"router"}`)
	if err != nil || codes(res) != "" || !strings.Contains(res.Text, "to Service serve/engine port 8000: denied; ingress") {
		t.Errorf("a healthy pod: %v %s\n%s", err, codes(res), res.Text)
	}
	c.logs["serve/router/router"] = "2026-11-25T11:59:00Z POST http://engine:8000/v1: context deadline exceeded\n"
	if res, _ := call(t, c.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"router"}`); codes(res) != "cilium.policy_peer_labels cilium.traffic_denied" {
		t.Errorf("a pod that complains: %s\n%s", codes(res), res.Text)
	}
	c.logs["serve/router/router"] = "2026-11-25T09:00:00Z POST http://engine:8000/v1: context deadline exceeded\n"
	if res, _ := call(t, c.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"router"}`); codes(res) != "" {
		t.Errorf("a complaint of three hours ago: %s", codes(res))
	}
	c.logs["serve/router/router"] = "2026-11-25T11:59:00Z POST http://engine:8000/v1: connection refused\n"
	if res, _ := call(t, c.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"router"}`); codes(res) != "" {
		t.Errorf("a refusal comes from a peer that was reached: %s", codes(res))
	}
}

func TestPolicySaysWhatItDidNotSee(t *testing.T) {
	t.Parallel()
	c := lab(t, strings.ReplaceAll(twoPods, "app: gateway", "app: router"))
	c.refuse["CiliumClusterwideNetworkPolicy"] = tool.Forbidden
	res, err := call(t, c.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"router","to_pod":"engine-0","port":8000}`)
	if err != nil || !strings.Contains(res.Text, "unknown; not all policies could be read") || !strings.Contains(res.Text, "CiliumClusterwideNetworkPolicy not seen") {
		t.Errorf("%v\n%s", err, res.Text)
	}
	if _, err := call(t, c.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"nobody"}`); tool.KindOf(err) != tool.NotFound {
		t.Error(err)
	}
	if _, err := call(t, c.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"router","to_service":"nobody","port":1}`); tool.KindOf(err) != tool.NotFound {
		t.Error(err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	if s := lab(t, "").toolset(t).Status(t.Context()); s.State != tool.Absent || s.Reason == "" {
		t.Errorf("%+v", s)
	}
	c := lab(t, twoPods)
	if s := c.toolset(t).Status(t.Context()); s.State != tool.Ready {
		t.Errorf("%+v", s)
	}
	for kind, want := range map[tool.Kind]tool.State{tool.Forbidden: tool.Denied, tool.Unreachable: tool.Broken} {
		c.refuse["discovery"] = kind
		if s := c.toolset(t).Status(t.Context()); s.State != want {
			t.Errorf("%s: %+v", kind, s)
		}
	}
	if _, err := cilium.New(cilium.Config{}); err == nil {
		t.Error("a toolset without eyes")
	}
}

func TestUnknownEndpoints(t *testing.T) {
	t.Parallel()
	ep := func(name, state, labels string) string {
		return "\n---\napiVersion: cilium.io/v2\nkind: CiliumEndpoint\nmetadata: {namespace: serve, name: " + name + "}\nstatus: {id: 7, state: " + state + ", identity: {id: 3000, labels: [" + labels + "]}}\n"
	}
	for name, c := range map[string]struct{ docs, want string }{
		"as it should be":  {ep("router", "ready", `"k8s:app=router", "k8s:io.kubernetes.pod.namespace=serve"`), ""},
		"not finished":     {ep("router", "waiting-for-identity", `"k8s:app=router"`), "cilium.endpoint_not_ready"},
		"relabelled":       {ep("router", "ready", `"k8s:app=old"`), "cilium.identity_stale"},
		"none, others do":  {ep("engine-0", "ready", `"k8s:app=engine"`), "cilium.endpoint_missing"},
		"none for anybody": {"", ""},
	} {
		l := lab(t, twoPods+c.docs)
		if res, err := call(t, l.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"router"}`); err != nil || codes(res) != "" {
			t.Errorf("%s, and the pod is well: %v %q", name, err, codes(res))
		}
		l.logs["serve/router/router"] = "2026-11-25T11:59:00Z http://nobody:99: connect timed out\n"
		res, err := call(t, l.toolset(t), "cilium_policy", `{"namespace":"serve","pod":"router"}`)
		if err != nil || codes(res) != c.want {
			t.Errorf("%s: %v %q, want %q", name, err, codes(res), c.want)
		}
	}
}

func TestNode(t *testing.T) {
	t.Parallel()
	agent := func(ready, reason string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {namespace: kube-system, name: cilium-x, labels: {k8s-app: cilium}}\nspec: {nodeName: node-a, containers: [{name: agent}]}\n" +
			"status: {phase: Running, startTime: \"2026-11-25T10:00:00Z\", conditions: [{type: Ready, status: \"" + ready + "\"}], containerStatuses: [{name: agent, image: i, imageID: i, ready: false, restartCount: 4, state: {waiting: {reason: " + reason + "}}}]}\n"
	}
	if res, err := call(t, lab(t, agent("True", "x")).toolset(t), "cilium_node", `{"node":"node-a"}`); err != nil || codes(res) != "" {
		t.Errorf("%v %s", err, codes(res))
	}
	res, err := call(t, lab(t, agent("False", "CrashLoopBackOff")).toolset(t), "cilium_node", `{"node":"node-a"}`)
	if err != nil || codes(res) != "cilium.agent_down" || !strings.Contains(res.Text, "CrashLoopBackOff") || len(res.Edges) != 1 {
		t.Errorf("%v %s %s", err, codes(res), res.Text)
	}
}
