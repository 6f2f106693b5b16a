package cilium_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/agent/tool/metric"
	"github.com/gumshoe-ai/gumshoe/toolsets/cilium/hubble"
)

func flowEnd(pod, app string) hubble.End {
	return hubble.End{Namespace: "serve", Pod: pod, Cluster: "prod", Identity: 7, Labels: []string{"k8s:app=" + app, "k8s:io.kubernetes.pod.namespace=serve"}, IP: "10.0.0.9"}
}

func packets(n int, verdict, drop string, change func(*hubble.Flow)) []hubble.Flow {
	var out []hubble.Flow
	for i := range n {
		f := hubble.Flow{Time: noon.Add(-time.Duration(300-i) * time.Second), Verdict: verdict, Drop: drop, Source: flowEnd("router", "router"), Destination: flowEnd("engine-0", "engine"), Proto: "TCP", Port: 8000, SourcePort: 4000, Direction: "INGRESS", Reply: "no", DNSCode: -1, Count: 1, Node: "prod/node-a"}
		if change != nil {
			change(&f)
		}
		out = append(out, f)
	}
	return out
}

// Which drops are a fault, and which are not.
func TestFlowsJudged(t *testing.T) {
	t.Parallel()
	world := func(f *hubble.Flow) {
		f.Destination = hubble.End{Identity: 2, Labels: []string{"reserved:world"}, IP: "198.51.100.7"}
		f.Direction = "EGRESS"
	}
	later := func(f *hubble.Flow) { f.Time = noon.Add(-time.Second) }
	earlier := func(f *hubble.Flow) { f.Time = noon.Add(-800 * time.Second) }
	for name, c := range map[string]struct {
		flows []hubble.Flow
		pod   string
		want  string
	}{
		"told to use it":             {packets(5, "DROPPED", "POLICY_DENIED", nil), "router", "cilium.flows_dropped cilium.policy_peer_labels"},
		"a stray packet":             {packets(2, "DROPPED", "POLICY_DENIED", nil), "router", "cilium.drops_background"},
		"it gets through since":      {append(packets(5, "DROPPED", "POLICY_DENIED", nil), packets(3, "FORWARDED", "", later)...), "router", "cilium.drops_background"},
		"it used to get through":     {append(packets(5, "FORWARDED", "", func(f *hubble.Flow) { earlier(f); world(f) }), packets(5, "DROPPED", "FIB_LOOKUP_FAILED", world)...), "router", "cilium.datapath_drops cilium.flows_dropped"},
		"the world, unasked":         {packets(5, "DROPPED", "POLICY_DENIED", world), "router", "cilium.drops_background"},
		"a reason that says nothing": {packets(5, "DROPPED", "MISSED_TAIL_CALL", nil), "router", "cilium.flows_dropped"},
		"the receiver, alone":        {packets(5, "DROPPED", "POLICY_DENIED", nil), "engine-0", ""},
		"audit":                      {packets(5, "AUDIT", "POLICY_DENIED", nil), "router", ""},
		"forwarded":                  {packets(5, "FORWARDED", "", nil), "router", ""},
	} {
		l := lab(t, twoPods)
		l.flows = &hubble.Answer{Flows: c.flows}
		res, err := call(t, l.toolset(t), "cilium_flows", `{"namespace":"serve","pod":"`+c.pod+`"}`)
		if err != nil || codes(res) != c.want {
			t.Errorf("%s: %v %q, want %q\n%s", name, err, codes(res), c.want, res.Text)
		}
	}
}

// The summary holds counts by pair, and replies count for the request.
func TestFlowsSummary(t *testing.T) {
	t.Parallel()
	l := lab(t, twoPods)
	reply := packets(4, "FORWARDED", "", func(f *hubble.Flow) {
		f.Source, f.Destination = f.Destination, f.Source
		f.Port, f.SourcePort, f.Reply = 4000, 8000, "yes"
	})
	dns := packets(2, "FORWARDED", "", func(f *hubble.Flow) {
		f.Proto, f.Port, f.DNSCode, f.L7 = "UDP", 53, 3, true
		f.Destination = hubble.End{Namespace: "kube-system", Pod: "dns"}
	})
	l.flows = &hubble.Answer{Flows: append(append(packets(6, "FORWARDED", "", nil), reply...), dns...)}
	res, err := call(t, l.toolset(t), "cilium_flows", `{"namespace":"serve","pod":"router","minutes":30}`)
	if err != nil || !strings.Contains(res.Text, "serve/router -> serve/engine-0 8000/TCP: 6 forwarded, 0 dropped") || !strings.Contains(res.Text, "NXDOMAIN x2") || !strings.Contains(string(res.Data), `"replies":4`) {
		t.Errorf("%v\n%s\n%s", err, res.Text, res.Data)
	}
	if _, err := call(t, lab(t, twoPods).toolset(t), "cilium_flows", `{"namespace":"serve"}`); tool.KindOf(err) != tool.NotServed {
		t.Errorf("without Hubble: %v", err)
	}
}

func TestStatusOfTheCluster(t *testing.T) {
	t.Parallel()
	mesh := doc("apiVersion: apps/v1\nkind: Deployment\nmetadata: {namespace: kube-system, name: clustermesh-apiserver}\nspec: {replicas: 1}\nstatus: {readyReplicas: 1}")
	lb := func(ingress string) string {
		return doc("apiVersion: v1\nkind: Service\nmetadata: {namespace: kube-system, name: clustermesh-apiserver, creationTimestamp: \"2026-11-25T10:00:00Z\"}\nspec: {type: LoadBalancer}\nstatus: {loadBalancer: {" + ingress + "}}")
	}
	for name, c := range map[string]struct{ docs, args, want string }{
		"no mesh":                {settings(`cluster-id: "0"`), `{}`, ""},
		"mesh without an id":     {settings(`cluster-id: "0"`) + mesh + lb("ingress: [{ip: 1.2.3.4}]"), `{}`, "cilium.mesh_cluster_id"},
		"mesh in order":          {settings(`cluster-id: "7"`) + mesh + lb("ingress: [{ip: 1.2.3.4}]"), `{}`, ""},
		"mesh without address":   {settings(`cluster-id: "7"`) + mesh + lb(""), `{}`, "cilium.mesh_address_pending"},
		"apiserver down":         {settings(`cluster-id: "7"`) + strings.Replace(mesh, "readyReplicas: 1", "readyReplicas: 0", 1), `{}`, "cilium.mesh_apiserver_down"},
		"relay down":             {settings("a: b") + doc("apiVersion: apps/v1\nkind: Deployment\nmetadata: {namespace: kube-system, name: hubble-relay}\nspec: {replicas: 1}\nstatus: {}"), `{}`, "cilium.hubble_relay_down"},
		"flow log failed":        {settings("a: b") + doc("apiVersion: acn.azure.com/v1alpha1\nkind: ContainerNetworkLog\nmetadata: {name: l}\nstatus: {state: FAILED}"), `{}`, "cilium.flow_log_failed"},
		"a rejected policy":      {settings("a: b") + doc(authRule+"\nstatus: {conditions: [{type: Valid, status: \"False\", message: nonsense}]}"), `{}`, "cilium.policy_invalid"},
		"global, namespace not":  {pods("") + settings(`clustermesh-default-global-namespace: "false"`) + doc("apiVersion: v1\nkind: Service\nmetadata: {namespace: serve, name: g, annotations: {service.cilium.io/global: \"true\"}}"), `{"namespace":"serve","service":"g"}`, "cilium.mesh_namespace_not_global"},
		"global where all are":   {pods("") + settings("a: b") + doc("apiVersion: v1\nkind: Service\nmetadata: {namespace: serve, name: g, annotations: {service.cilium.io/global: \"true\", service.cilium.io/shared: \"false\"}}"), `{"namespace":"serve","service":"g"}`, ""},
		"a Service like another": {pods("") + settings("a: b"), `{"namespace":"serve","service":"engine"}`, ""},
	} {
		res, err := call(t, lab(t, c.docs).toolset(t), "cilium_status", c.args)
		if err != nil || codes(res) != c.want {
			t.Errorf("%s: %v %q, want %q\n%s", name, err, codes(res), c.want, res.Text)
		}
	}
	if _, err := call(t, lab(t, pods("")).toolset(t), "cilium_status", `{"namespace":"serve","service":"none"}`); tool.KindOf(err) != tool.NotFound {
		t.Error(err)
	}
	l := lab(t, settings(`cluster-id: "7"`)+mesh+lb("ingress: [{ip: 1.2.3.4}]"))
	l.metrics = []metric.Sample{{Labels: map[string]string{"target_cluster": "east"}, Value: 0}, {Labels: map[string]string{"target_cluster": "north"}, Value: 1}}
	res, err := call(t, l.toolset(t), "cilium_status", `{}`)
	if err != nil || codes(res) != "cilium.mesh_remote_not_ready" || !strings.Contains(res.Text, "north ready") {
		t.Errorf("%v %q\n%s", err, codes(res), res.Text)
	}
}
