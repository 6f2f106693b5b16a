package actions

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Providers of pools.
const (
	karpenter  = "Karpenter"
	clusterAPI = "Cluster API"
	eks        = "EKS"
	labelled   = "labels"
)

// provider describes and changes the pools of one kind.
type provider interface {
	// describe gives nil when there is no pool of the name.
	describe(ctx context.Context, c *Cluster, name string, nodes []*corev1.Node) (*PoolState, error)
	// change adds the writes of a change that the pool is capable of to a draft.
	change(ctx context.Context, p params, d *draft, s *PoolState, ch PoolChange) error
}

var (
	_ provider = karpenterPools{}
	_ provider = machinePools{}
	_ provider = cloudPools{}
)

// pools are the changes of node pools that their providers have operations for.
func pools(c *Cluster) []*action {
	pool := planner.Param{Name: "pool", Required: true, Object: true, Text: "name of the pool"}
	who := planner.Param{Name: "provider", Values: []string{"AKS", "GKE", karpenter, clusterAPI}, Text: "whose pool it is, where several have one of the name"}
	objects := []planner.Right{
		{Group: "karpenter.sh", Resources: []string{"nodepools"}, Verbs: []string{"get", "patch"}},
		{Group: "cluster.x-k8s.io", Resources: []string{"machinedeployments"}, Verbs: []string{"get", "list", "patch"}},
		{Group: "cluster.x-k8s.io", Resources: []string{"machinesets"}, Verbs: []string{"get", "list"}},
	}
	sources := []string{
		"learn.microsoft.com/azure/aks/roll-back-node-pool-version", "learn.microsoft.com/azure/aks/blue-green-node-pool-upgrade",
		"cloud.google.com/kubernetes-engine/docs/concepts/node-pool-upgrade-strategies", "karpenter.sh/docs/concepts/disruption", "cluster-api.sigs.k8s.io, MachineDeployment",
	}
	mk := func(kind, name, text, undo, verify string, risk incident.Risk, more ...planner.Param) *action {
		return &action{c: c, compile: poolChange(kind), info: planner.Info{
			Name: name, Family: planner.Pools, Text: text, Params: append([]planner.Param{pool, who}, more...), Risk: risk, Rights: objects, Undo: undo, Verify: verify, Sources: sources,
		}}
	}
	idle := "the provider reports the pool idle, with the version that was asked for"
	return []*action{
		mk(PoolRollback, "pool_rollback", "Take a node pool back to a version that it ran before: on AKS to one of its recently used versions, with Cluster API to an earlier revision, with Karpenter to a template that is given",
			"none where a cloud does it: AKS goes one step back and no further; objects of the cluster are put back", idle, incident.RiskCritical,
			planner.Param{Name: "version", Text: "Kubernetes version to go back to; by default the newest that the provider offers"},
			planner.Param{Name: "image", Text: "node image version to go back to"},
			planner.Param{Name: "revision", Type: planner.Int, Text: "revision of a MachineDeployment; by default the one before"},
			planner.Param{Name: "template", Type: planner.JSON, Text: "for Karpenter, which keeps no history: the earlier fields of spec.template, as a JSON merge patch"}),
		mk(PoolStart, "pool_bluegreen_start", "Begin a blue-green upgrade of a node pool: green nodes are added beside the blue ones, which are kept through a soak",
			"pool_bluegreen_abort and pool_bluegreen_rollback, until the blue nodes are deleted", "the provider reports the upgrade under way", incident.RiskCritical,
			planner.Param{Name: "version", Required: true, Text: "Kubernetes version of the green nodes"},
			planner.Param{Name: "drain_batch", Text: "blue nodes that are drained together, a number or a share such as 10%"},
			planner.Param{Name: "drain_timeout", Type: planner.Int, Text: "minutes that the drain of a node may take (AKS)"},
			planner.Param{Name: "batch_soak", Type: planner.Int, Text: "minutes between two batches"},
			planner.Param{Name: "final_soak", Type: planner.Int, Text: "minutes that the drained blue nodes are kept"}),
		mk(PoolAbort, "pool_bluegreen_abort", "Stop the upgrade of a node pool where it stands", "the upgrade is begun again", "the provider reports the pool paused", incident.RiskHigh),
		mk(PoolCommit, "pool_bluegreen_commit", "End the soak of a blue-green upgrade: the blue nodes are deleted", "none: the blue nodes are gone", idle, incident.RiskCritical),
		mk(PoolRevert, "pool_bluegreen_rollback", "Take a blue-green upgrade back: pods return to the blue nodes, the green ones are deleted", "none: the upgrade is begun anew", idle, incident.RiskCritical),
		mk(PoolPause, "pool_pause", "Keep a pool from replacing its nodes: Karpenter by a budget of zero for drift, Cluster API by spec.paused", "the pool replaces nodes as before", "the object says so", incident.RiskMedium),
		mk(PoolResume, "pool_resume", "Let a pool that was paused replace its nodes again", "the pool is paused again", "the object says so", incident.RiskHigh),
		mk(PoolScale, "pool_scale", "Set how many nodes a pool has, where no autoscaler does", "the number that was there before", "as many nodes are there and ready", incident.RiskHigh,
			planner.Param{Name: "count", Type: planner.Int, Required: true, Text: "how many nodes there shall be"}),
	}
}

// poolChange compiles a change of a pool: refused where its provider has no
// operation for it or the pool is not in a state for it.
func poolChange(kind string) func(context.Context, *Cluster, params) (*draft, error) {
	return func(ctx context.Context, c *Cluster, p params) (*draft, error) {
		s, err := c.pool(ctx, p)
		if err != nil {
			return nil, err
		}
		if ok, why := s.can(kind); !ok {
			return nil, p.refuse(wayOut(s, kind), "pool %s of %s: %s", s.Ref.Name, s.Provider, why)
		}
		ch := PoolChange{Kind: kind, Count: int(p.num("count", 0)), Target: PoolTarget{Version: p.str("version"), Image: p.str("image")}, Settings: p.values}
		if kind == PoolRollback && len(s.Targets) > 0 {
			if ch.Target, err = chooseTarget(p, s, ch.Target); err != nil {
				return nil, err
			}
		}
		if kind == PoolScale && (ch.Count < 0 || ch.Count == s.Count) {
			return nil, p.missing("count", "the pool has %d nodes; say another number", s.Count)
		}
		d := c.draft("%s", sayPool(s, ch))
		return d, s.provider.change(ctx, p, d, s, ch)
	}
}

// chooseTarget picks the version to go back to out of those that the provider offers.
func chooseTarget(p params, s *PoolState, want PoolTarget) (PoolTarget, error) {
	if want.Version == "" && want.Image == "" {
		return s.Targets[0], nil
	}
	var offered []string
	for _, t := range s.Targets {
		if (want.Version == "" || want.Version == t.Version) && (want.Image == "" || want.Image == t.Image) {
			return t, nil
		}
		offered = append(offered, strings.TrimSpace(t.Version+" "+t.Image))
	}
	param := "image"
	if want.Version != "" {
		param = "version"
	}
	return want, p.missing(param, "%s offers to go back to %s", s.Provider, strings.Join(offered, "; "))
}

func sayPool(s *PoolState, ch PoolChange) string {
	name := "pool " + s.Ref.Name + " of " + s.Provider
	to := strings.TrimSpace(ch.Target.Version + " " + ch.Target.Image)
	switch ch.Kind {
	case PoolRollback:
		return strings.TrimSpace("Take " + name + " back to " + cmp.Or(to, "what it was before"))
	case PoolStart:
		return "Begin a blue-green upgrade of " + name + " to " + to
	case PoolAbort:
		return "Stop the upgrade of " + name
	case PoolCommit:
		return "End the soak of " + name + " and delete its blue nodes"
	case PoolRevert:
		return "Take the upgrade of " + name + " back to its blue nodes"
	case PoolPause:
		return "Keep " + name + " from replacing nodes"
	case PoolResume:
		return "Let " + name + " replace nodes again"
	}
	return fmt.Sprintf("Scale %s from %d to %s", name, s.Count, count(ch.Count, "node"))
}

// wayOut says what can be done where a pool has no operation for a change.
func wayOut(s *PoolState, kind string) string {
	switch kind {
	case PoolRollback, PoolRevert:
		return "pool_move takes the pods to nodes of the earlier version, where there are some"
	case PoolStart:
		return "make a second pool with the new version, then pool_move"
	case PoolPause:
		if s.Provider == "AKS" || s.Provider == "GKE" {
			return "pool_bluegreen_abort stops an upgrade that is under way"
		}
	case PoolScale:
		if s.Autoscale {
			return "change the limits of the autoscaler where the pool is defined"
		}
	}
	return "do it where the pool is defined"
}

// pool finds the pool that is meant, and whose it is.
func (c *Cluster) pool(ctx context.Context, p params) (*PoolState, error) {
	name := p.str("pool")
	var found []*PoolState
	var unseen []string
	nodes, labelOf, err := c.nodesOfPool(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, x := range c.providers() {
		if want := p.str("provider"); want != "" && want != x.name {
			continue
		}
		s, err := x.describe(ctx, c, name, nodes)
		switch {
		case err != nil:
			unseen = append(unseen, x.name+": "+err.Error())
		case s != nil:
			s.provider = x.provider
			found = append(found, s)
		}
	}
	switch {
	case len(unseen) > 0 && len(found) == 0:
		return nil, fmt.Errorf("pool %s cannot be read: %s", name, strings.Join(unseen, "; "))
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var whose []string
		for _, s := range found {
			whose = append(whose, s.Provider)
		}
		return nil, p.missing("provider", "%s each have a pool %s", strings.Join(whose, " and "), name)
	case len(nodes) > 0:
		return bareState(c, name, labelOf, nodes), nil
	}
	return nil, p.missing("pool", "no provider that is configured has a pool %q, and no node says by a label that it is of one", name)
}

// bareState is a pool that only its nodes tell of: nothing can be asked of it.
func bareState(c *Cluster, name, provider string, nodes []*corev1.Node) *PoolState {
	s := &PoolState{Provider: provider, Ref: incident.Ref{Cluster: c.name, Kind: "NodePool", Name: name}, Phase: PhaseUnknown, Count: len(nodes), Min: -1, Max: -1, Why: map[string]string{}}
	if provider == eks {
		s.Why[PoolRollback] = "a managed node group cannot go back to an earlier Kubernetes or AMI version (UpdateNodegroupVersion)"
		s.Why[PoolStart] = "EKS has no blue-green upgrade of node groups"
	}
	for _, k := range []string{PoolRollback, PoolStart, PoolAbort, PoolCommit, PoolRevert, PoolPause, PoolResume, PoolScale} {
		s.Why[k] = cmp.Or(s.Why[k], "its provider's API is not configured here, or has no operation for it")
	}
	return s
}

type named struct {
	provider
	name string
}

// providers are those that the cluster or the configuration has.
func (c *Cluster) providers() []named {
	out := []named{{karpenterPools{}, karpenter}, {machinePools{}, clusterAPI}}
	for _, x := range c.clouds {
		out = append(out, named{cloudPools{x}, x.Name()})
	}
	return out
}

// nodesOfPool gives the nodes that say by a label that they are of a pool.
func (c *Cluster) nodesOfPool(ctx context.Context, name string) (nodes []*corev1.Node, provider string, err error) {
	all, err := c.List(ctx, "Node", "", "", "")
	if err != nil {
		return nil, "", err
	}
	for _, k := range poolKeys() {
		for _, o := range all {
			if o.GetLabels()[k[0]] != name {
				continue
			}
			n, err := as[corev1.Node](o)
			if err != nil {
				return nil, "", err
			}
			nodes = append(nodes, n)
		}
		if len(nodes) > 0 {
			return nodes, k[1], nil
		}
	}
	return nil, labelled, nil
}

// poolNodesOf tells a provider what Kubernetes knows of the nodes of a pool.
func (c *Cluster) poolNodesOf(ctx context.Context, nodes []*corev1.Node) ([]PoolNode, error) {
	var out []PoolNode
	for _, n := range nodes {
		pods, err := c.podsOn(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		x := PoolNode{Name: n.Name, Version: strings.TrimPrefix(n.Status.NodeInfo.KubeletVersion, "v"), Image: cmp.Or(n.Labels["kubernetes.azure.com/node-image-version"], n.Status.NodeInfo.OSImage),
			Created: n.CreationTimestamp.Time, Cordoned: n.Spec.Unschedulable, Ready: nodeReady(n)}
		for _, o := range pods {
			p, err := as[corev1.Pod](o)
			if err != nil {
				return nil, err
			}
			if movable(p) {
				x.Pods++
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// movable reports whether a drain would evict a pod.
func movable(p *corev1.Pod) bool {
	k := controllerOf(p.OwnerReferences)
	return p.Annotations[corev1.MirrorPodAnnotationKey] == "" && !finished(p) && (k == nil || k.Kind != "DaemonSet" && k.Kind != "Node")
}

// disturb counts the pods of nodes that a provider replaces, and refuses where a
// budget never lets one go.
func (d *draft) disturb(ctx context.Context, p params, nodes []*corev1.Node) error {
	e := &evacuation{p: p}
	var pods []*corev1.Pod
	var bare []string
	for _, n := range nodes {
		d.Blast.Nodes = append(d.Blast.Nodes, incident.Ref{Cluster: d.c.name, Kind: "Node", Name: n.Name})
		on, err := d.c.podsOn(ctx, n.Name)
		if err != nil {
			return err
		}
		for _, o := range on {
			x, err := as[corev1.Pod](o)
			if err != nil {
				return err
			}
			if !movable(x) || x.DeletionTimestamp != nil {
				continue
			}
			if controllerOf(x.OwnerReferences) == nil {
				bare = append(bare, x.Namespace+"/"+x.Name)
			}
			pods = append(pods, x)
			e.leave = append(e.leave, &leaver{obj: o, pod: x})
		}
	}
	if err := e.budgets(ctx, d.c); err != nil {
		return err
	}
	if len(bare) > 0 {
		d.warn("nobody makes these pods anew when their node is replaced: %s", some(bare))
	}
	d.Blast.BelowBudget = append(d.Blast.BelowBudget, e.below...)
	return d.harm(ctx, pods)
}

// PoolPhase is the check that a provider reports a pool in a phase, with a version,
// an image or a count where they are given.
func PoolPhase(s *PoolState, phase string, want PoolTarget, count, within int) incident.Check {
	c := incident.Check{Kind: CheckPool, Subject: s.Ref, Params: map[string]string{"provider": s.Provider, "phase": phase}, Within: within}
	c.Say = fmt.Sprintf("%s reports pool %s as %s", s.Provider, s.Ref.Name, phase)
	if want.Version != "" {
		c.Params["version"] = want.Version
		c.Say += " with version " + want.Version
	}
	if want.Image != "" {
		c.Params["image"] = want.Image
		c.Say += " and image " + want.Image
	}
	if count >= 0 {
		c.Params["count"] = fmt.Sprint(count)
		c.Say += fmt.Sprintf(" with %d nodes", count)
	}
	return c
}

// poolState answers CheckPool.
func poolState(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	s, err := k.cluster.pool(ctx, params{action: "check", values: map[string]string{"pool": c.Subject.Name, "provider": c.Params["provider"]}})
	if err != nil {
		return incident.Unclear, err.Error()
	}
	saw := fmt.Sprintf("%s reports pool %s as %s (%s), version %s, image %s, %d nodes", s.Provider, s.Ref.Name, s.Phase, s.State, cmp.Or(s.Version, "unknown"), cmp.Or(s.Image, "unknown"), s.Count)
	if !s.Deadline.IsZero() {
		saw += ", blue nodes are kept until " + s.Deadline.UTC().Format(time.RFC3339)
	}
	phases := strings.Split(c.Params["phase"], ",")
	switch {
	case s.Phase == PhaseUnknown && !slices.Contains(phases, PhaseUnknown):
		return incident.Unclear, saw
	case c.Params["phase"] != "" && !slices.Contains(phases, s.Phase),
		c.Params["version"] != "" && c.Params["version"] != s.Version,
		c.Params["image"] != "" && c.Params["image"] != s.Image,
		c.Params["count"] != "" && c.Params["count"] != fmt.Sprint(s.Count):
		return incident.Fail, saw
	}
	return incident.Pass, saw
}
