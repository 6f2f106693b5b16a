package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// karpenterPools are NodePools: a changed template makes nodes drift, and they are
// replaced within the disruption budgets (karpenter.sh v1).
type karpenterPools struct{}

const drifted = "Drifted"

func (karpenterPools) describe(ctx context.Context, c *Cluster, name string, nodes []*corev1.Node) (*PoolState, error) {
	o, err := c.Get(ctx, "NodePool.karpenter.sh", "", name)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &PoolState{Provider: karpenter, Ref: o.Ref, Phase: PhaseIdle, Count: len(nodes), Min: -1, Max: -1, Autoscale: true, Token: o.GetResourceVersion(), object: o, Why: map[string]string{
		PoolScale: "Karpenter makes as many nodes as pods ask for",
		PoolStart: "Karpenter has no blue-green upgrade", PoolAbort: "Karpenter has no upgrade that could be stopped; pool_pause keeps drifted nodes",
		PoolCommit: "Karpenter has no soak", PoolRevert: "Karpenter has no blue nodes; pool_rollback puts an earlier template back",
	}}
	s.Can = []string{PoolRollback}
	if slices.ContainsFunc(budgetsOf(o.Unstructured), pausing) {
		s.Phase, s.Can = PhasePaused, append(s.Can, PoolResume)
		s.Why[PoolPause] = "it is paused already: a budget of zero nodes for drift is there"
	} else {
		s.Can = append(s.Can, PoolPause)
		s.Why[PoolResume] = "it is not paused: there is no budget of zero nodes for drift"
	}
	claims, err := c.List(ctx, "NodeClaim.karpenter.sh", "", "karpenter.sh/nodepool="+name, "")
	if err != nil {
		return nil, err
	}
	n := 0
	for _, k := range claims {
		if conditionIs(k.Unstructured, drifted, "True") {
			n++
		}
	}
	s.State = fmt.Sprintf("%d of %d NodeClaims drifted", n, len(claims))
	if n > 0 && s.Phase == PhaseIdle {
		s.Phase = PhaseUpdating
	}
	return s, nil
}

// budgetsOf gives the disruption budgets of a NodePool.
func budgetsOf(u *unstructured.Unstructured) []any {
	l, _, _ := unstructured.NestedSlice(u.Object, "spec", "disruption", "budgets")
	return l
}

// pausing reports whether a budget keeps drifted nodes for good: none may be
// disrupted, for drift alone, at any time.
func pausing(b any) bool {
	m, _ := b.(map[string]any)
	reasons, _ := m["reasons"].([]any)
	return (m["nodes"] == "0" || m["nodes"] == "0%") && len(reasons) == 1 && reasons[0] == drifted && m["schedule"] == nil
}

func conditionIs(u *unstructured.Unstructured, kind, status string) bool {
	l, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	return slices.ContainsFunc(l, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == kind && m["status"] == status
	})
}

func (karpenterPools) change(ctx context.Context, p params, d *draft, s *PoolState, ch PoolChange) error {
	budgets := func(l []any) func(u *unstructured.Unstructured) error {
		return func(u *unstructured.Unstructured) error {
			if len(l) == 0 {
				unstructured.RemoveNestedField(u.Object, "spec", "disruption", "budgets")
				return nil
			}
			return unstructured.SetNestedSlice(u.Object, l, "spec", "disruption", "budgets")
		}
	}
	now := budgetsOf(s.object.Unstructured)
	switch ch.Kind {
	case PoolPause:
		// Without a budget of its own a NodePool disrupts up to 10% at a time; naming one
		// would end that, so it is written out.
		if len(now) == 0 {
			now = []any{map[string]any{"nodes": "10%"}}
		}
		d.Verify = []incident.Check{phaseOf(s, PhasePaused)}
		return d.patch(s.object, "add a budget of zero nodes for drift", budgets(append(now, map[string]any{"nodes": "0", "reasons": []any{drifted}})))
	case PoolResume:
		if err := d.patch(s.object, "remove the budget of zero nodes for drift", budgets(slices.DeleteFunc(now, pausing))); err != nil {
			return err
		}
		d.warn("nodes that drifted meanwhile are replaced now: %s", s.State)
		d.Verify = []incident.Check{phaseOf(s, PhaseIdle+","+PhaseUpdating)}
		return d.disturbPool(ctx, p, s)
	}
	raw := p.str("template")
	if raw == "" {
		return p.missing("template", "Karpenter keeps no earlier templates: give the fields of spec.template to go back to, as a JSON merge patch such as {\"spec\":{\"nodeClassRef\":{\"name\":\"gpu-v1\"}}}")
	}
	var patch map[string]any
	if err := json.Unmarshal([]byte(raw), &patch); err != nil {
		return p.missing("template", "it is no JSON object: %v", err)
	}
	err := d.patch(s.object, "put the earlier template back", func(u *unstructured.Unstructured) error {
		t, _, err := unstructured.NestedMap(u.Object, "spec", "template")
		if err != nil {
			return err
		}
		return unstructured.SetNestedMap(u.Object, merged(t, patch), "spec", "template")
	})
	if err != nil {
		return err
	}
	if s.Phase == PhasePaused {
		d.warn("the pool is paused: nodes that have drifted are kept until pool_resume")
	}
	d.warn("every node of another template drifts and is replaced within the disruption budgets; pods with karpenter.sh/do-not-disrupt keep their nodes until terminationGracePeriod")
	d.Lasting = "nodes that were replaced meanwhile are replaced once more"
	d.Verify = []incident.Check{{Kind: CheckCondition, Subject: s.Ref, Params: map[string]string{"type": "Ready", "status": "True"}, Say: "the NodePool is ready with the template", Within: 300}}
	return d.disturbPool(ctx, p, s)
}

func phaseOf(s *PoolState, phase string) incident.Check {
	return PoolPhase(s, phase, PoolTarget{}, -1, 60)
}

// disturbPool counts whom it hurts that the nodes of a pool are replaced.
func (d *draft) disturbPool(ctx context.Context, p params, s *PoolState) error {
	nodes, _, err := d.c.nodesOfPool(ctx, s.Ref.Name)
	if err != nil {
		return err
	}
	return d.disturb(ctx, p, nodes)
}

// merged applies a JSON merge patch (RFC 7396) to an object.
func merged(to, patch map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, to)
	for k, v := range patch {
		switch x := v.(type) {
		case nil:
			delete(out, k)
		case map[string]any:
			was, _ := out[k].(map[string]any)
			out[k] = merged(was, x)
		default:
			out[k] = v
		}
	}
	return out
}
