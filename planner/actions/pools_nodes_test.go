package actions_test

import (
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// crds are kinds of Cluster API and Karpenter.
const crds = `
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: machines.cluster.x-k8s.io}
spec: {group: cluster.x-k8s.io, scope: Namespaced, names: {kind: Machine, plural: machines, singular: machine}, versions: [{name: v1beta2, served: true, storage: true}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: machinedeployments.cluster.x-k8s.io}
spec: {group: cluster.x-k8s.io, scope: Namespaced, names: {kind: MachineDeployment, plural: machinedeployments, singular: machinedeployment}, versions: [{name: v1beta2, served: true, storage: true}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: machinesets.cluster.x-k8s.io}
spec: {group: cluster.x-k8s.io, scope: Namespaced, names: {kind: MachineSet, plural: machinesets, singular: machineset}, versions: [{name: v1beta2, served: true, storage: true}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: nodepools.karpenter.sh}
spec: {group: karpenter.sh, scope: Cluster, names: {kind: NodePool, plural: nodepools, singular: nodepool}, versions: [{name: v1, served: true, storage: true}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: nodeclaims.karpenter.sh}
spec: {group: karpenter.sh, scope: Cluster, names: {kind: NodeClaim, plural: nodeclaims, singular: nodeclaim}, versions: [{name: v1, served: true, storage: true}]}
`

func TestNodeRetire(t *testing.T) {
	t.Parallel()
	s := newScene(t, fleet().String())
	before := s.specs("Node")
	d := s.draft("node_retire", "node", "a", "reason", "XID 79 on GPU 3")
	same(t, "writes", []string{"patch a", "evict train-0", "evict web-1-a"}, names(d.Writes))
	s.do(d.Writes)
	n := s.get("Node", "", "a")
	if n.GetLabels()[actions.Repair] != "needed" || n.GetAnnotations()[actions.RepairReason] != "XID 79 on GPU 3" || n.GetAnnotations()["cluster-autoscaler.kubernetes.io/scale-down-disabled"] != "true" {
		t.Errorf("%v %v", n.GetLabels(), n.GetAnnotations())
	}
	taints, _, _ := nested(n, "spec", "taints")
	if l, _ := taints.([]any); len(l) != 1 {
		t.Errorf("taints %v", taints)
	}
	check := mustCatalogue(t, s).NewChecker(nil, false)
	for _, c := range d.Verify {
		if c.Kind == actions.CheckScheduled { // no controller makes pods here
			continue
		}
		if v, saw := check.Check(t.Context(), c); v != incident.Pass {
			t.Errorf("%s: %s %s", c.Say, v, saw)
		}
	}
	s.undo(d)
	same(t, "nodes after the undo", before, s.specs("Node"))
}

func TestNodeRetireRefuses(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.node("cp", "node-role.kubernetes.io/control-plane: ''").node("held", "k8saas.nvidia.com/nvsentinel-state: quarantined").node("plain", "pool: x")
	s := newScene(t, w.String()+crds)
	s.refused([]string{"control plane"}, "node_retire", "node", "cp", "reason", "x")
	s.refused([]string{"NVSentinel"}, "node_retire", "node", "held", "reason", "x")
	s.refused([]string{"no Machine of Cluster API and no NodeClaim"}, "node_retire", "node", "plain", "reason", "x", "delete", "true")
	s.missing("reason", "required", "node_retire", "node", "plain")
}

func TestNodeRetireDeletes(t *testing.T) {
	t.Parallel()
	w := &world{}
	w.node("k", "karpenter.sh/nodepool: gpu")
	w.add("apiVersion: karpenter.sh/v1\nkind: NodeClaim\nmetadata: {name: gpu-1, uid: nc-1}\nspec: {}\nstatus: {nodeName: k}")
	w.add("apiVersion: karpenter.sh/v1\nkind: NodeClaim\nmetadata: {name: gpu-2, uid: nc-2}\nspec: {}\nstatus: {nodeName: other}")
	w.add(`
apiVersion: v1
kind: Node
metadata: {name: m, uid: n-m, annotations: {cluster.x-k8s.io/machine: md-1, cluster.x-k8s.io/cluster-namespace: fleet}}
spec: {}
status: {conditions: [{type: Ready, status: "True"}]}
`)
	w.add("apiVersion: cluster.x-k8s.io/v1beta2\nkind: Machine\nmetadata: {name: md-1, namespace: fleet, uid: m-1}\nspec: {clusterName: c}")
	s := newScene(t, w.String()+crds)
	for node, want := range map[string]struct{ kind, ns, name string }{"k": {"NodeClaim.karpenter.sh", "", "gpu-1"}, "m": {"Machine.cluster.x-k8s.io", "fleet", "md-1"}} {
		d := s.draft("node_retire", "node", node, "reason", "dead", "delete", "true")
		same(t, "writes of "+node, []string{"patch " + node, "delete " + want.name}, names(d.Writes))
		if d.Risk != incident.RiskCritical || !strings.Contains(d.Lasting, "does not come back") || len(d.Undo) != 1 {
			t.Errorf("%+v", d)
		}
		if w := d.Writes[1]; w.Await[0].Kind != actions.CheckGone || w.UID == "" {
			t.Errorf("%+v", w)
		}
		s.do(d.Writes)
		if s.get(want.kind, want.ns, want.name) != nil {
			t.Errorf("%s is there", want.name)
		}
	}
	if s.get("NodeClaim.karpenter.sh", "", "gpu-2") == nil {
		t.Error("another NodeClaim is gone")
	}
}

// server is a workload of replicas with a template.
func server(w *world, name string, replicas string, spec string) {
	w.add(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %s, namespace: ml, uid: o-%s}
spec:
  replicas: %s
  selector: {matchLabels: {app: %s}}
  template:
    metadata: {labels: {app: %s}}
    spec: {%scontainers: [{name: main, image: i, resources: {requests: {cpu: "1", nvidia.com/gpu: "4"}}}]}
`, name, name, replicas, name, name, spec)
}

func TestMoveReplica(t *testing.T) {
	t.Parallel()
	args := []string{"kind", "StatefulSet", "namespace", "ml", "name", "s", "pool", "blue"}
	t.Run("evict where nothing else fits", func(t *testing.T) {
		t.Parallel()
		w := &world{}
		w.node("b", "pool: blue").node("g", "pool: green", "{unschedulable: true}")
		server(w, "s", "2", "")
		w.pod("ml", "s-0", "g", "StatefulSet apps/v1 s", "app: s", 4).pod("ml", "s-1", "b", "StatefulSet apps/v1 s", "app: s", 4)
		s := newScene(t, w.String())
		d := s.draft("move_replica", args...)
		same(t, "writes", []string{"evict s-0"}, names(d.Writes))
		says(t, "capacity", texts(d.Capacity), "pod ml/s-0 fits on node b: 4 of 8 nvidia.com/gpu free")
		last := d.Verify[len(d.Verify)-1]
		if last.Kind != actions.CheckOnNodes || last.Params["min"] != "2" {
			t.Errorf("%+v", last)
		}
		check := mustCatalogue(t, s).NewChecker(nil, false)
		if v, saw := check.Check(t.Context(), last); v != incident.Fail || !strings.Contains(saw, "1 of 2 pods") {
			t.Errorf("before: %s %s", v, saw)
		}
	})
	t.Run("several nodes fit", func(t *testing.T) {
		t.Parallel()
		w := &world{}
		w.node("b", "pool: blue").node("g", "pool: green")
		server(w, "s", "2", "")
		w.pod("ml", "s-0", "g", "StatefulSet apps/v1 s", "app: s", 2).pod("ml", "s-1", "g", "StatefulSet apps/v1 s", "app: s", 2)
		s := newScene(t, w.String())
		s.missing("how", "also fits on node g", "move_replica", args...)
		d := s.draft("move_replica", append(args, "how", "evict", "pod", "s-1")...)
		same(t, "writes", []string{"evict s-1"}, names(d.Writes))
		says(t, "warnings", d.Warnings, "fits on node g too")
		s.renew()
		before, _, _ := nested(s.get("StatefulSet.apps", "ml", "s"), "spec", "template")
		d = s.draft("move_replica", append(args, "how", "select")...)
		same(t, "writes", []string{"patch s"}, names(d.Writes))
		if d.Blast.PodCount != 2 || len(d.Capacity) != 2 {
			t.Errorf("%+v", d)
		}
		s.do(d.Writes)
		if v, _, _ := nested(s.get("StatefulSet.apps", "ml", "s"), "spec", "template", "spec", "nodeSelector", "pool"); v != "blue" {
			t.Errorf("node selector %v", v)
		}
		s.undo(d)
		after, _, _ := nested(s.get("StatefulSet.apps", "ml", "s"), "spec", "template")
		same(t, "template after the undo", before, after)
		s.missing("pod", "is no pod of", "move_replica", append(args, "pod", "zzz")...)
	})
	t.Run("no room", func(t *testing.T) {
		t.Parallel()
		w := &world{}
		w.node("b", "pool: blue").node("g", "pool: green")
		server(w, "s", "1", "")
		server(w, "full", "1", "")
		w.pod("ml", "s-0", "g", "StatefulSet apps/v1 s", "app: s", 4).pod("ml", "full-0", "b", "StatefulSet apps/v1 full", "app: full", 6)
		newScene(t, w.String()).refused([]string{"fits on no node of blue", "4 asked, 2 of 8 free"}, "move_replica", args...)
	})
	t.Run("already there", func(t *testing.T) {
		t.Parallel()
		w := &world{}
		w.node("b", "pool: blue")
		server(w, "s", "1", "")
		w.pod("ml", "s-0", "b", "StatefulSet apps/v1 s", "app: s", 4)
		if _, err := newScene(t, w.String()).try("move_replica", args...); err == nil || !strings.Contains(err.Error(), "nothing to do") {
			t.Error(err)
		}
	})
	t.Run("a budget that never allows it", func(t *testing.T) {
		t.Parallel()
		w := &world{}
		w.node("b", "pool: blue").node("g", "pool: green", "{unschedulable: true}")
		server(w, "s", "1", "")
		w.pod("ml", "s-0", "g", "StatefulSet apps/v1 s", "app: s", 4)
		w.add("apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: s, namespace: ml}\nspec: {selector: {matchLabels: {app: s}}, maxUnavailable: 0}\nstatus: {expectedPods: 1}")
		newScene(t, w.String()).refused([]string{"ml/s never allows"}, "move_replica", args...)
	})
}
