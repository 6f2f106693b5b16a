package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Phases of a pool, whatever its provider calls them.
const (
	PhaseIdle         = "Idle"
	PhaseProvisioning = "Provisioning"
	PhaseCordoning    = "Cordoning"
	PhaseDraining     = "Draining"
	PhaseBatchSoak    = "BatchSoak"
	PhaseFinalSoak    = "FinalSoak"
	PhaseDeleting     = "Deleting"
	PhasePaused       = "Paused"
	PhaseRollingBack  = "RollingBack"
	PhaseUpdating     = "Updating"
	PhaseFailed       = "Failed"
	PhaseUnknown      = "Unknown"
)

// Changes that a pool may be capable of.
const (
	// PoolRollback goes back to a version that ran before, after an upgrade has ended.
	PoolRollback = "rollback"
	// PoolStart begins a blue-green upgrade; PoolAbort stops it where it stands;
	// PoolCommit ends its soak early; PoolRevert goes back to the blue nodes.
	PoolStart  = "bluegreen_start"
	PoolAbort  = "bluegreen_abort"
	PoolCommit = "bluegreen_commit"
	PoolRevert = "bluegreen_rollback"
	// PoolPause keeps nodes from being replaced; PoolResume ends that.
	PoolPause  = "pause"
	PoolResume = "resume"
	// PoolScale sets how many nodes there are.
	PoolScale = "scale"
)

// PoolState is a pool as its provider describes it.
type PoolState struct {
	// Provider is "AKS", "GKE", "Karpenter", "Cluster API" or "labels".
	Provider string
	Ref      incident.Ref
	// Phase is one of the neutral phases, State the provider's own word.
	Phase, State string
	// Version of the kubelet, and the node image, that run now.
	Version, Image string
	// Count of nodes, and the limits of its autoscaler; negative where not told.
	Count, Min, Max int
	Autoscale       bool
	// Token is the ETag or resourceVersion that a change is bound to.
	Token string
	// Deadline is when the way back ends: the deletion of the blue nodes begins.
	Deadline time.Time
	// Targets are the versions that the provider offers to go back to, newest first.
	Targets []PoolTarget
	// Can holds the changes that the pool is capable of. Why says, of a change that
	// is not among them, why not and what to do instead.
	Can []string
	Why map[string]string
	// Facts is the pool's own JSON.
	Facts json.RawMessage
	// provider that described it, and its object where it is one of the cluster.
	provider provider
	object   *Object
}

// can reports whether a change is possible, or why it is not.
func (s *PoolState) can(change string) (bool, string) {
	if slices.Contains(s.Can, change) {
		return true, ""
	}
	if why := s.Why[change]; why != "" {
		return false, why
	}
	return false, s.Provider + " has no operation for it"
}

// PoolTarget is a version that a pool ran before.
type PoolTarget struct {
	Version, Image string
	Used           time.Time
	// Until is when the provider stops offering it; zero where it does not say.
	Until time.Time
}

// PoolChange is what is asked of a pool.
type PoolChange struct {
	// Kind is one of the changes above.
	Kind string
	// Target of a rollback or of an upgrade.
	Target PoolTarget
	// Count of nodes to scale to.
	Count int
	// Settings of a blue-green upgrade, by the names of the action's parameters.
	Settings map[string]string
}

// PoolRequest is what a change comes to at a provider.
type PoolRequest struct {
	// Writes are sent in their order; each carries what it waits for.
	Writes []incident.Write
	// Undo takes writes back, where the provider has a way; Of counts from 1.
	Undo     []incident.Write
	Lasting  string
	Verify   []incident.Check
	Warnings []string
	// More is how many nodes there are for a time beside those of the pool; negative
	// where it is not told.
	More int
}

// PoolNode is a node of a pool as Kubernetes knows it.
type PoolNode struct {
	Name, Version, Image string
	Created              time.Time
	Cordoned, Ready      bool
	// Pods that a drain would evict.
	Pods int
}

// PoolCloud is a provider whose API describes and changes the pools of one cluster.
// It never emulates what the provider has no operation for.
type PoolCloud interface {
	// Name of the provider, "AKS" or "GKE".
	Name() string
	// Describe reads a pool with what it is capable of now; nil when there is no pool of
	// the name. The nodes are those that the pool has in Kubernetes.
	Describe(ctx context.Context, pool string, nodes []PoolNode) (*PoolState, error)
	// Request gives the exact requests for a change that the pool is capable of.
	Request(ctx context.Context, s *PoolState, ch PoolChange) (*PoolRequest, error)
}

// poolKeys are the labels by which a node tells its pool and the provider of it, the
// most telling first: Karpenter labels its nodes on every provider.
func poolKeys() [][2]string {
	return [][2]string{
		{"karpenter.sh/nodepool", "Karpenter"},
		{"kubernetes.azure.com/agentpool", "AKS"},
		{"agentpool", "AKS"},
		{"eks.amazonaws.com/nodegroup", "EKS"},
		{"alpha.eksctl.io/nodegroup-name", "EKS"},
		{"cloud.google.com/gke-nodepool", "GKE"},
		{"topology.cluster.x-k8s.io/deployment-name", "Cluster API"},
		{"cluster.x-k8s.io/deployment-name", "Cluster API"},
		{"kops.k8s.io/instancegroup", "labels"},
		{"doks.digitalocean.com/node-pool", "labels"},
		{"node.kubernetes.io/pool", "labels"},
		{"node.kubernetes.io/nodegroup", "labels"},
		{"node-pool", "labels"},
		{"nodepool", "labels"},
		{"pool", "labels"},
	}
}

// poolNodes is a pool as the nodes tell it.
type poolNodes struct {
	// name as it was asked for; label and value select the nodes.
	name, label, value, provider string
	selector                     labels.Selector
	nodes                        []*Object
}

// poolNodes finds the nodes of a pool, given by its name or by a label selector such
// as "color=green".
func (c *Cluster) poolNodes(ctx context.Context, p params, param string) (*poolNodes, error) {
	name := p.str(param)
	all, err := c.List(ctx, "Node", "", "", "")
	if err != nil {
		return nil, err
	}
	out := &poolNodes{name: name}
	if strings.ContainsAny(name, "=!,") || strings.Contains(name, " in ") {
		if out.selector, err = labels.Parse(name); err != nil {
			return nil, p.missing(param, "%q is no label selector: %v", name, err)
		}
		if reqs, _ := out.selector.Requirements(); len(reqs) == 0 {
			return nil, p.missing(param, "an empty selector means every node of the cluster; name the pool")
		} else if r := reqs[0]; len(reqs) == 1 && len(r.Values()) == 1 && (r.Operator() == "=" || r.Operator() == "in" || r.Operator() == "==") {
			out.label, out.value = r.Key(), r.Values().List()[0]
		}
	} else {
		for _, k := range poolKeys() {
			if slices.ContainsFunc(all, func(o *Object) bool { return o.GetLabels()[k[0]] == name }) {
				out.label, out.value, out.provider = k[0], name, k[1]
				out.selector = labels.SelectorFromSet(labels.Set{k[0]: name})
				break
			}
		}
		if out.selector == nil {
			return nil, p.missing(param, "no node says by a label that it is of pool %q; give a label selector such as pool=%s", name, name)
		}
	}
	for _, o := range all {
		if out.selector.Matches(labels.Set(o.GetLabels())) {
			out.nodes = append(out.nodes, o)
		}
	}
	if len(out.nodes) == 0 {
		return nil, p.missing(param, "no node has the labels %s", name)
	}
	slices.SortFunc(out.nodes, func(a, b *Object) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

func (n *poolNodes) has(name string) bool {
	return slices.ContainsFunc(n.nodes, func(o *Object) bool { return o.GetName() == name })
}

// poolMoves are the actions that move pods between sets of nodes.
func poolMoves(c *Cluster) []*action {
	return []*action{{c: c, compile: poolMove, info: planner.Info{
		Name: "pool_move", Family: planner.Pools,
		Text: "Move the pods of one set of nodes to another and keep the first one empty: uncordon, prove that they fit, cordon, evict",
		Params: []planner.Param{
			{Name: "from", Required: true, Object: true, Text: "the pool that is emptied (green), by name or as a label selector such as color=green"},
			{Name: "to", Required: true, Object: true, Text: "the pool that takes the pods (blue), by name or as a label selector"},
			{Name: "wait", Type: planner.Int, Text: "seconds that one pod may take to go on top of its grace period, 300 by default"},
		},
		Risk: incident.RiskCritical, Rights: evictRights(),
		Undo:    "the nodes are cordoned and uncordoned as they were; pods that were evicted are not brought back, their controllers have made new ones",
		Verify:  "the emptied nodes run nothing but DaemonSet and static pods, the other ones are ready, and every workload is scheduled",
		Sources: []string{"kubernetes.io/docs/tasks/administer-cluster/safely-drain-node", "learn.microsoft.com/azure/aks/blue-green-node-pool-upgrade, rollback by hand"},
	}}}
}

func poolMove(ctx context.Context, c *Cluster, p params) (*draft, error) {
	from, err := c.poolNodes(ctx, p, "from")
	if err != nil {
		return nil, err
	}
	to, err := c.poolNodes(ctx, p, "to")
	if err != nil {
		return nil, err
	}
	for _, o := range from.nodes {
		if to.has(o.GetName()) {
			return nil, p.missing("to", "node %s is of both; the two have to be apart", o.GetName())
		}
	}
	e := &evacuation{p: p, wait: int(p.num("wait", patience))}
	var pods []*Object
	for _, o := range from.nodes {
		on, err := c.podsOn(ctx, o.GetName())
		if err != nil {
			return nil, err
		}
		pods = append(pods, on...)
	}
	if err := e.sort(ctx, c, pods); err != nil {
		return nil, err
	}
	d := c.draft("Move %s from %s (%s) to %s (%s)", count(len(e.leave), "pod"), from.name, count(len(from.nodes), "node"), to.name, count(len(to.nodes), "node"))
	usable := 0
	for _, o := range to.nodes {
		n, err := as[corev1.Node](o)
		if err != nil {
			return nil, err
		}
		if !nodeReady(n) {
			d.warn("node %s of %s is not ready and is left as it is", n.Name, to.name)
			continue
		}
		usable++
		if err := d.cordon(o, false); err != nil {
			return nil, err
		}
		d.Blast.Nodes = append(d.Blast.Nodes, o.Ref)
	}
	if usable == 0 {
		return nil, p.refuse("repair the nodes or move elsewhere", "no node of %s is ready", to.name)
	}
	for _, o := range from.nodes {
		if err := d.cordon(o, true); err != nil {
			return nil, err
		}
		d.Blast.Nodes = append(d.Blast.Nodes, o.Ref)
	}
	proof, err := c.prove(ctx, e.typed(), "node of "+to.name, func(n *corev1.Node) bool { return to.has(n.Name) })
	if err != nil {
		return nil, err
	}
	if len(proof.lost) > 0 {
		return nil, p.refuse("make room there, or change what ties the pods to where they are, and plan again", "%s", lostText(proof))
	}
	d.proved(proof)
	if err := e.into(ctx, d); err != nil {
		return nil, err
	}
	if len(d.Writes) == 0 {
		return nil, fmt.Errorf("%s is cordoned and empty, and %s takes pods: there is nothing to do", from.name, to.name)
	}
	for _, o := range from.nodes {
		d.Verify = append(d.Verify, emptied(o.Ref, e.longest()))
	}
	if sel := to.selector.String(); to.label != "" {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckNodes, Subject: incident.Ref{Cluster: c.name, Kind: "NodePool", Name: to.name}, Params: map[string]string{"selector": sel, "min": fmt.Sprint(usable)},
			Say: fmt.Sprintf("%s of %s are ready and take pods", count(usable, "node"), to.name), Within: 60})
	}
	return d, nil
}

// lostText gives the sentences of the pods that fit nowhere.
func lostText(p *proof) string {
	var out []string
	for _, c := range p.claims {
		if strings.Contains(c.Text, " fits on no ") {
			out = append(out, c.Text)
		}
	}
	if len(out) > 5 {
		out = append(out[:5], fmt.Sprintf("and %d more", len(p.lost)-5))
	}
	return strings.Join(out, "; ")
}
