package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// budgets holds the evictions against the PodDisruptionBudgets. One that can never
// allow them is refused; one that does not allow them now is told, and waited for.
func (e *evacuation) budgets(ctx context.Context, c *Cluster) error {
	byNamespace := map[string][]*policyv1.PodDisruptionBudget{}
	wanted := map[*policyv1.PodDisruptionBudget][]*leaver{}
	var order []*policyv1.PodDisruptionBudget
	for _, l := range e.leave {
		ns := l.pod.Namespace
		if _, ok := byNamespace[ns]; !ok {
			list, err := c.List(ctx, "PodDisruptionBudget.policy", ns, "", "")
			if err != nil {
				return fmt.Errorf("without the disruption budgets of namespace %s nothing is evicted: %w", ns, err)
			}
			byNamespace[ns] = nil
			for _, o := range list {
				b, err := as[policyv1.PodDisruptionBudget](o)
				if err != nil {
					return err
				}
				byNamespace[ns] = append(byNamespace[ns], b)
			}
		}
		if !spends(l.pod) {
			continue
		}
		var mine []*policyv1.PodDisruptionBudget
		for _, b := range byNamespace[ns] {
			s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			if err != nil || !s.Matches(labels.Set(l.pod.Labels)) {
				continue
			}
			mine = append(mine, b)
		}
		if len(mine) > 1 {
			return e.p.refuse("leave one budget for these pods", "pod %s/%s is covered by %d PodDisruptionBudgets (%s), and the eviction API allows one", ns, l.pod.Name, len(mine), budgetNames(mine))
		}
		if len(mine) == 0 || exempt(mine[0], l.pod) {
			continue
		}
		if _, ok := wanted[mine[0]]; !ok {
			order = append(order, mine[0])
		}
		wanted[mine[0]] = append(wanted[mine[0]], l)
	}
	for _, b := range order {
		name := b.Namespace + "/" + b.Name
		if why := never(b); why != "" {
			return e.p.refuse("add a replica, or let a person who knows the workload loosen the budget", "PodDisruptionBudget %s never allows a disruption: %s", name, why)
		}
		switch n := len(wanted[b]); {
		case b.Status.ObservedGeneration < b.Generation || b.Status.ExpectedPods == 0:
			e.warns = append(e.warns, fmt.Sprintf("the status of PodDisruptionBudget %s is not up to date, so what it allows is not known", name))
		case int(b.Status.DisruptionsAllowed) < n:
			e.below = append(e.below, fmt.Sprintf("%s allows %d of %d: %d healthy, %d needed", name, b.Status.DisruptionsAllowed, n, b.Status.CurrentHealthy, b.Status.DesiredHealthy))
			e.warns = append(e.warns, fmt.Sprintf("PodDisruptionBudget %s allows %d of %s now: the rest waits until successors are healthy, and the step stops when they are not in time", name, b.Status.DisruptionsAllowed, count(n, "eviction")))
		}
		for _, l := range wanted[b] {
			l.tight = b.Status.DisruptionsAllowed == 0
		}
	}
	return nil
}

func budgetNames(bs []*policyv1.PodDisruptionBudget) string {
	var out []string
	for _, b := range bs {
		out = append(out, b.Name)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// spends reports whether the eviction of a pod is held against budgets: one that
// does not run yet, or has ended, is not (kubernetes registry/core/pod, eviction).
func spends(p *corev1.Pod) bool {
	return p.Status.Phase != corev1.PodPending && !finished(p) && p.DeletionTimestamp == nil
}

// exempt reports whether a budget lets go of a pod because it is not ready.
func exempt(b *policyv1.PodDisruptionBudget, p *corev1.Pod) bool {
	ready := slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	if ready {
		return false
	}
	if b.Spec.UnhealthyPodEvictionPolicy != nil && *b.Spec.UnhealthyPodEvictionPolicy == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// never says why a budget allows no disruption even when every pod is healthy;
// empty when it can. The figures are those of the disruption controller, which
// rounds percentages up.
func never(b *policyv1.PodDisruptionBudget) string {
	expected := int(b.Status.ExpectedPods)
	if m := b.Spec.MaxUnavailable; m != nil {
		if n, err := intstr.GetScaledValueFromIntOrPercent(m, max(expected, 1), true); err == nil && n == 0 {
			return "maxUnavailable is " + m.String()
		}
		return ""
	}
	m := b.Spec.MinAvailable
	if m == nil {
		return ""
	}
	if m.Type == intstr.String && m.StrVal == "100%" {
		return "minAvailable is 100%"
	}
	if expected == 0 { // nobody has counted yet
		return ""
	}
	if n, err := intstr.GetScaledValueFromIntOrPercent(m, expected, true); err == nil && n >= expected {
		return fmt.Sprintf("minAvailable is %s of %s", m.String(), count(expected, "pod"))
	}
	return ""
}
