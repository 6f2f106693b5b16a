package actions_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

func karpenterWorld(budgets string) *world {
	w := &world{}
	w.node("k0", "karpenter.sh/nodepool: gpu").node("k1", "karpenter.sh/nodepool: gpu").owner("StatefulSet", "apps/v1", "ml", "s", "")
	w.pod("ml", "s-0", "k0", "StatefulSet apps/v1 s", "app: s", 8)
	w.add(`
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {name: gpu, uid: np}
spec:
  disruption: {consolidateAfter: 5m%s}
  template: {metadata: {labels: {tier: gpu}}, spec: {nodeClassRef: {group: karpenter.azure.com, kind: AKSNodeClass, name: gpu-v2}, expireAfter: 720h}}
`, budgets)
	w.add("apiVersion: karpenter.sh/v1\nkind: NodeClaim\nmetadata: {name: gpu-1, labels: {karpenter.sh/nodepool: gpu}}\nspec: {}\nstatus: {nodeName: k0, conditions: [{type: Drifted, status: 'True'}]}")
	return w
}

func TestKarpenterPause(t *testing.T) {
	t.Parallel()
	s := newScene(t, karpenterWorld("").String()+crds)
	before := s.specs("NodePool.karpenter.sh")
	d := s.draft("pool_pause", "pool", "gpu")
	if d.Risk != incident.RiskMedium || d.Blast.PodCount != 0 {
		t.Errorf("%+v", d)
	}
	s.do(d.Writes)
	budgets, _, _ := nested(s.get("NodePool.karpenter.sh", "", "gpu"), "spec", "disruption", "budgets")
	// The default of 10% would be gone with the first budget, so it is written out.
	same(t, "budgets", any([]any{map[string]any{"nodes": "10%"}, map[string]any{"nodes": "0", "reasons": []any{"Drifted"}}}), budgets)
	check := mustCatalogue(t, s).NewChecker(nil, false)
	if v, saw := check.Check(t.Context(), d.Verify[0]); v != incident.Pass {
		t.Errorf("%s %s", v, saw)
	}
	s.renew()
	s.refused([]string{"it is paused already"}, "pool_pause", "pool", "gpu")
	r := s.draft("pool_resume", "pool", "gpu")
	says(t, "warnings", r.Warnings, "1 of 1 NodeClaims drifted")
	if r.Blast.PodCount != 1 || r.Blast.GPUs != 8 {
		t.Errorf("%+v", r.Blast)
	}
	s.undo(d)
	same(t, "after the undo", before, s.specs("NodePool.karpenter.sh"))
	s.renew()
	s.refused([]string{"it is not paused"}, "pool_resume", "pool", "gpu")
	s.refused([]string{"as many nodes as pods ask for"}, "pool_scale", "pool", "gpu", "count", "4")
	s.refused([]string{"no blue-green upgrade", "make a second pool"}, "pool_bluegreen_start", "pool", "gpu", "version", "1.35.0")
}

func TestKarpenterResumeKeepsOtherBudgets(t *testing.T) {
	t.Parallel()
	s := newScene(t, karpenterWorld(`, budgets: [{nodes: "2"}, {nodes: "0", reasons: [Drifted]}, {nodes: "0", reasons: [Drifted], schedule: "0 9 * * 1", duration: 8h}]`).String()+crds)
	s.do(s.draft("pool_resume", "pool", "gpu").Writes)
	budgets, _, _ := nested(s.get("NodePool.karpenter.sh", "", "gpu"), "spec", "disruption", "budgets")
	same(t, "budgets", any([]any{map[string]any{"nodes": "2"}, map[string]any{"nodes": "0", "reasons": []any{"Drifted"}, "schedule": "0 9 * * 1", "duration": "8h"}}), budgets)
}

func TestKarpenterRollback(t *testing.T) {
	t.Parallel()
	s := newScene(t, karpenterWorld("").String()+crds)
	s.missing("template", "keeps no earlier templates", "pool_rollback", "pool", "gpu")
	s.missing("template", "no JSON", "pool_rollback", "pool", "gpu", "template", "[1]")
	before := s.specs("NodePool.karpenter.sh")
	d := s.draft("pool_rollback", "pool", "gpu", "template", `{"spec":{"nodeClassRef":{"name":"gpu-v1"},"expireAfter":null}}`)
	if d.Risk != incident.RiskCritical || d.Blast.PodCount != 1 {
		t.Errorf("%+v", d)
	}
	s.do(d.Writes)
	spec, _, _ := nested(s.get("NodePool.karpenter.sh", "", "gpu"), "spec", "template", "spec")
	same(t, "template", any(map[string]any{"nodeClassRef": map[string]any{"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "gpu-v1"}}), spec)
	s.undo(d)
	same(t, "after the undo", before, s.specs("NodePool.karpenter.sh"))
}

func machineWorld(note string) *world {
	w := &world{}
	w.node("m0", "cluster.x-k8s.io/deployment-name: gpu").owner("StatefulSet", "apps/v1", "ml", "s", "")
	w.pod("ml", "s-0", "m0", "StatefulSet apps/v1 s", "app: s", 8)
	w.add(`
apiVersion: cluster.x-k8s.io/v1beta2
kind: MachineDeployment
metadata: {name: gpu, namespace: fleet, uid: md, annotations: {machinedeployment.clusters.x-k8s.io/revision: "3"%s}}
spec:
  clusterName: c
  replicas: 1
  template: {spec: {clusterName: c, version: v1.35.2, infrastructureRef: {apiGroup: infrastructure.cluster.x-k8s.io, kind: MetalTemplate, name: gpu-v3}, bootstrap: {configRef: {apiGroup: infrastructure.cluster.x-k8s.io, kind: MetalTemplate, name: boot}}}}
status: {replicas: 1, readyReplicas: 1, upToDateReplicas: 1}
`, note)
	for rev, name := range map[int]string{1: "gpu-v1", 2: "gpu-v2", 3: "gpu-v3"} {
		w.add(`
apiVersion: cluster.x-k8s.io/v1beta2
kind: MachineSet
metadata: {name: gpu-%d, namespace: fleet, uid: ms-%d, annotations: {machinedeployment.clusters.x-k8s.io/revision: "%d"}, ownerReferences: [{apiVersion: cluster.x-k8s.io/v1beta2, kind: MachineDeployment, name: gpu, uid: md, controller: true}]}
spec: {template: {spec: {clusterName: c, version: v1.34.%d, infrastructureRef: {apiGroup: infrastructure.cluster.x-k8s.io, kind: MetalTemplate, name: %s}, bootstrap: {configRef: {apiGroup: infrastructure.cluster.x-k8s.io, kind: MetalTemplate, name: boot}}}}}
`, rev, rev, rev, rev, name)
	}
	w.add("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: metaltemplates.infrastructure.cluster.x-k8s.io}\nspec: {group: infrastructure.cluster.x-k8s.io, scope: Namespaced, names: {kind: MetalTemplate, plural: metaltemplates, singular: metaltemplate}, versions: [{name: v1, served: true, storage: true}]}")
	for _, name := range []string{"gpu-v2", "gpu-v3", "boot"} {
		w.add("apiVersion: infrastructure.cluster.x-k8s.io/v1\nkind: MetalTemplate\nmetadata: {name: %s, namespace: fleet}\nspec: {}", name)
	}
	return w
}

func TestClusterAPI(t *testing.T) {
	t.Parallel()
	s := newScene(t, machineWorld("").String()+crds)
	before := s.specs("MachineDeployment.cluster.x-k8s.io")
	d := s.draft("pool_rollback", "pool", "gpu")
	if !strings.Contains(d.Say, "revision 2") || d.Blast.PodCount != 1 || len(d.Targets) != 2 {
		t.Errorf("%+v", d)
	}
	s.do(d.Writes)
	md := s.get("MachineDeployment.cluster.x-k8s.io", "fleet", "gpu")
	if ref, _, _ := nested(md, "spec", "template", "spec", "infrastructureRef", "name"); ref != "gpu-v2" {
		t.Errorf("template %v", ref)
	}
	if v, _, _ := nested(md, "spec", "template", "spec", "version"); v != "v1.34.2" {
		t.Errorf("version %v", v)
	}
	s.undo(d)
	same(t, "after the undo", before, s.specs("MachineDeployment.cluster.x-k8s.io"))
	s.renew()
	s.refused([]string{"the template MetalTemplate fleet/gpu-v1 of that revision is gone"}, "pool_rollback", "pool", "gpu", "revision", "1")
	s.missing("revision", "there are revisions 2, 1", "pool_rollback", "pool", "gpu", "revision", "9")

	d = s.draft("pool_pause", "pool", "gpu")
	s.do(d.Writes)
	check := mustCatalogue(t, s).NewChecker(nil, false)
	if v, saw := check.Check(t.Context(), d.Verify[0]); v != incident.Pass {
		t.Errorf("%s %s", v, saw)
	}
	s.renew()
	r := s.draft("pool_resume", "pool", "gpu")
	s.do(r.Writes)
	if v, saw := check.Check(t.Context(), r.Verify[0]); v != incident.Pass {
		t.Errorf("%s %s", v, saw)
	}
	s.renew()
	d = s.draft("pool_scale", "pool", "gpu", "count", "4")
	says(t, "capacity", texts(d.Capacity), "3 more nodes")
	s.do(d.Writes)
	if n, _, _ := nested(s.get("MachineDeployment.cluster.x-k8s.io", "fleet", "gpu"), "spec", "replicas"); fmt.Sprint(n) != "4" {
		t.Errorf("replicas %v", n)
	}
	s.renew()
	if d = s.draft("pool_scale", "pool", "gpu", "count", "0"); d.Blast.PodCount != 1 || d.Lasting == "" {
		t.Errorf("%+v", d)
	}
}

func TestClusterAPIRefuses(t *testing.T) {
	t.Parallel()
	s := newScene(t, machineWorld(`, cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size: "1"`).String()+crds)
	s.refused([]string{"the cluster autoscaler sets its replicas", "change the limits of the autoscaler"}, "pool_scale", "pool", "gpu", "count", "4")
	s.refused([]string{"no soak"}, "pool_bluegreen_commit", "pool", "gpu")
	topology := strings.Replace(machineWorld("").String(), "{name: gpu, namespace: fleet, uid: md,", `{name: gpu, namespace: fleet, uid: md, labels: {topology.cluster.x-k8s.io/owned: ""},`, 1)
	newScene(t, topology+crds).refused([]string{"follows the topology of its Cluster"}, "pool_rollback", "pool", "gpu")
}

// cloudPool is a provider that has one pool.
type cloudPool struct{ name string }

func (c cloudPool) Name() string { return c.name }

func (c cloudPool) Describe(_ context.Context, pool string, nodes []actions.PoolNode) (*actions.PoolState, error) {
	if pool != "gpu" {
		return nil, nil
	}
	return &actions.PoolState{Provider: c.name, Phase: actions.PhaseIdle, Count: len(nodes), Can: []string{actions.PoolScale}}, nil
}

func (c cloudPool) Request(_ context.Context, s *actions.PoolState, ch actions.PoolChange) (*actions.PoolRequest, error) {
	return &actions.PoolRequest{Writes: []incident.Write{{API: "aks", Verb: ch.Kind, Ref: s.Ref}}}, nil
}

func TestPoolsOfSeveralProviders(t *testing.T) {
	t.Parallel()
	with := func(clouds ...actions.PoolCloud) func(*actions.Config) {
		return func(c *actions.Config) { c.Clouds = clouds }
	}
	s := newScene(t, karpenterWorld("").String()+crds, with(cloudPool{"AKS"}))
	s.missing("provider", "Karpenter and AKS each have a pool gpu", "pool_scale", "pool", "gpu", "count", "4")
	if d := s.draft("pool_scale", "pool", "gpu", "count", "4", "provider", "AKS"); len(d.Writes) != 1 || d.Writes[0].Ref.Name != "gpu" || d.Writes[0].Ref.Kind != "NodePool" {
		t.Errorf("%+v", d)
	}
	s.refused([]string{"AKS has no operation for it"}, "pool_bluegreen_commit", "pool", "gpu", "provider", "AKS")
	s.missing("pool", "no provider that is configured has a pool", "pool_scale", "pool", "nope", "count", "4")

	w := &world{}
	w.node("e", "eks.amazonaws.com/nodegroup: eks-gpu").node("l", "nodepool: plain")
	s = newScene(t, w.String())
	s.refused([]string{"a managed node group cannot go back", "pool_move"}, "pool_rollback", "pool", "eks-gpu")
	s.refused([]string{"has no operation for it"}, "pool_scale", "pool", "plain", "count", "2")
}

// TestPoolInfos: every action says how it is taken back and proved, and names its sources.
func TestPoolInfos(t *testing.T) {
	t.Parallel()
	s := newScene(t, "")
	seen := 0
	for _, i := range mustCatalogue(t, s).Infos() {
		if i.Family != planner.Pools && i.Name != "drain" && i.Name != "move_replica" {
			continue
		}
		seen++
		if i.Undo == "" || i.Verify == "" || len(i.Sources) == 0 || len(i.Rights) == 0 || i.Risk.Weight() > incident.RiskCritical.Weight() || i.Text == "" {
			t.Errorf("%+v", i)
		}
	}
	if seen != 12 {
		t.Errorf("%d actions", seen)
	}
}
