package actions

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

const (
	// Repair is the label and the taint of a node that waits for repair; its reason is
	// in the annotation RepairReason.
	Repair       = "gumshoe.ai/repair"
	RepairReason = "gumshoe.ai/repair-reason"
	// keepNode and keepDisrupted keep the cluster autoscaler and Karpenter from
	// deleting a node that is empty for its repair.
	keepNode      = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
	keepDisrupted = "karpenter.sh/do-not-disrupt"
)

// retirements are the actions that take nodes out of service.
func retirements(c *Cluster) []*action {
	return []*action{{c: c, compile: retire, info: planner.Info{
		Name: "node_retire", Family: planner.Pools, Text: "Take a node with faulty hardware out of service: mark it for repair, cordon it, evict its pods",
		Params: []planner.Param{
			{Name: "node", Required: true, Object: true, Text: "the node"},
			{Name: "reason", Required: true, Text: "what is wrong with it, for the people who repair it"},
			{Name: "delete", Type: planner.Bool, Text: "true deletes the machine behind the node afterwards, through its Machine or NodeClaim"},
			{Name: "wait", Type: planner.Int, Text: "seconds that one pod may take to go on top of its grace period, 300 by default"},
		},
		Risk: incident.RiskHigh,
		Rights: append(evictRights(),
			planner.Right{Group: "cluster.x-k8s.io", Resources: []string{"machines"}, Verbs: []string{"get", "patch", "delete"}},
			planner.Right{Group: "karpenter.sh", Resources: []string{"nodeclaims"}, Verbs: []string{"get", "list", "patch", "delete"}}),
		Undo:    "marks, taint and cordon are taken away; evicted pods do not come back, and neither does a machine that was deleted",
		Verify:  "the node carries the mark and runs nothing but DaemonSet and static pods; with delete, it is gone",
		Sources: []string{"docs.nvidia.com/nvsentinel, quarantine and drain", "karpenter.sh/docs/concepts/disruption", "cluster-api.sigs.k8s.io, Machine deletion"},
	}}}
}

func retire(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, "Node", "", p.str("node"))
	if err != nil {
		return nil, err
	}
	if _, ok := o.GetLabels()["node-role.kubernetes.io/control-plane"]; ok {
		return nil, p.refuse("replace it the way the control plane is built", "node %s runs the control plane", o.GetName())
	}
	if k := sentinel(o.Unstructured); k != "" {
		return nil, p.refuse("let NVSentinel finish, or release the node there first", "NVSentinel has node %s in hand (%s), and two hands on one node race", o.GetName(), k)
	}
	pods, err := c.podsOn(ctx, o.GetName())
	if err != nil {
		return nil, err
	}
	e := &evacuation{p: p, wait: int(p.num("wait", patience))}
	if err := e.sort(ctx, c, pods); err != nil {
		return nil, err
	}
	remove, _ := strconv.ParseBool(p.str("delete"))
	d := c.draft("Mark node %s for repair (%s), cordon it and evict %s", o.GetName(), p.str("reason"), count(len(e.leave), "pod"))
	if err := d.patch(o, "mark node "+o.GetName()+" for repair, taint and cordon it", func(u *unstructured.Unstructured) error { return markForRepair(u, p.str("reason"), !remove) }); err != nil {
		return nil, err
	}
	d.Blast.Nodes = []incident.Ref{o.Ref}
	proof, err := c.prove(ctx, e.typed(), "other node", func(n *corev1.Node) bool { return n.Name != o.GetName() })
	if err != nil {
		return nil, err
	}
	d.proved(proof)
	if err := e.into(ctx, d); err != nil {
		return nil, err
	}
	d.Verify = append(d.Verify, emptied(o.Ref, e.longest()))
	if !remove {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckField, Subject: o.Ref, Params: map[string]string{"path": `metadata.labels.gumshoe\.ai/repair`, "value": "needed"}, Say: "node " + o.GetName() + " is marked for repair", Within: 30})
		return d, nil
	}
	return d, c.removeMachine(ctx, p, d, o)
}

// sentinel names the mark by which NVSentinel says that it handles a node.
func sentinel(u *unstructured.Unstructured) string {
	for _, m := range []map[string]string{u.GetLabels(), u.GetAnnotations()} {
		for k := range m {
			if strings.Contains(k, "nvsentinel") || strings.HasPrefix(k, "quarantineHealthEvent") {
				return k
			}
		}
	}
	return ""
}

// markForRepair writes the reason, the label, the taint and the cordon onto a node.
func markForRepair(u *unstructured.Unstructured, reason string, keep bool) error {
	labels, notes := u.GetLabels(), u.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	if notes == nil {
		notes = map[string]string{}
	}
	labels[Repair], notes[RepairReason] = "needed", reason
	if keep {
		notes[keepNode] = "true"
		if labels["karpenter.sh/nodepool"] != "" {
			notes[keepDisrupted] = "true"
		}
	}
	u.SetLabels(labels)
	u.SetAnnotations(notes)
	taints, _, err := unstructured.NestedSlice(u.Object, "spec", "taints")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(taints, func(t any) bool { m, _ := t.(map[string]any); return m["key"] == Repair }) {
		taints = append(taints, map[string]any{"key": Repair, "value": "needed", "effect": "NoSchedule"})
	}
	if err := unstructured.SetNestedSlice(u.Object, taints, "spec", "taints"); err != nil {
		return err
	}
	return unstructured.SetNestedField(u.Object, true, "spec", "unschedulable")
}

// removeMachine deletes the machine of a node through the object that stands for it.
func (c *Cluster) removeMachine(ctx context.Context, p params, d *draft, node *Object) error {
	m, err := c.machine(ctx, node)
	if err != nil {
		return err
	}
	if m == nil {
		return p.refuse("plan without delete, and remove the machine at its provider", "no Machine of Cluster API and no NodeClaim of Karpenter in this cluster stands for node %s", node.GetName())
	}
	say := "delete " + m.Ref.String() + ", and with it the machine of node " + node.GetName()
	d.target(m, "")
	w := d.write(m, incident.VerbDelete, say)
	w.Grace, w.Await = -1, []incident.Check{Gone(m, 3600)}
	d.Writes = append(d.Writes, w)
	d.c.planned[m.Ref] = nil
	d.Say += ", then delete its machine"
	d.Lasting = strings.TrimPrefix(d.Lasting+"; the machine that was deleted does not come back, its pool makes another one where it has room", "; ")
	d.raise(incident.RiskCritical)
	d.Verify = slices.DeleteFunc(d.Verify, func(k incident.Check) bool { return k.Kind == CheckEmpty })
	d.Verify = append(d.Verify, Gone(node, 3600))
	return nil
}

// machine finds the Machine or the NodeClaim of a node; nil when there is none.
func (c *Cluster) machine(ctx context.Context, node *Object) (*Object, error) {
	if name := node.GetAnnotations()["cluster.x-k8s.io/machine"]; name != "" {
		o, err := c.Get(ctx, "Machine.cluster.x-k8s.io", node.GetAnnotations()["cluster.x-k8s.io/cluster-namespace"], name)
		if err == nil {
			return o, nil
		}
		if !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("the Machine of node %s: %w", node.GetName(), err)
		}
	}
	if node.GetLabels()["karpenter.sh/nodepool"] == "" {
		return nil, nil
	}
	list, err := c.List(ctx, "NodeClaim.karpenter.sh", "", "", "")
	if err != nil {
		return nil, fmt.Errorf("the NodeClaim of node %s: %w", node.GetName(), err)
	}
	for _, o := range list {
		if n, _, _ := unstructured.NestedString(o.Object, "status", "nodeName"); n == node.GetName() {
			return o, nil
		}
	}
	return nil, nil
}
