package actions

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// Ways to move a replica.
const (
	byEviction = "evict"
	bySelector = "select"
)

// replicas are the actions that move single replicas.
func replicas(c *Cluster) []*action {
	return []*action{{c: c, compile: moveReplica, info: planner.Info{
		Name: "move_replica", Family: planner.Placement, Text: "Move one replica of a workload to a named pool, where it is proved to fit",
		Params: []planner.Param{
			{Name: "kind", Required: true, Text: "kind of the workload, such as Deployment or StatefulSet"},
			{Name: "namespace", Required: true, Text: "its namespace"},
			{Name: "name", Required: true, Object: true, Text: "its name"},
			{Name: "pool", Required: true, Object: true, Text: "the pool to go to, by name or as a label selector such as color=blue"},
			{Name: "pod", Text: "the pod to move; by default one outside of the pool that loses least"},
			{Name: "how", Values: []string{byEviction, bySelector}, Text: "evict: one pod goes and the scheduler chooses; select: the workload's node selector names the pool, for every replica"},
			{Name: "wait", Type: planner.Int, Text: "seconds that the pod may take to go on top of its grace period, 300 by default"},
		},
		Risk:    incident.RiskMedium,
		Rights:  append(evictRights(), planner.Right{Group: "apps", Resources: []string{"deployments", "statefulsets"}, Verbs: []string{"get", "patch"}}),
		Undo:    "the node selector is put back; a pod that was evicted does not come back",
		Verify:  "the workload's pods have a node, and one more of them is in the pool",
		Sources: []string{"kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node"},
	}}}
}

func moveReplica(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, p.str("kind"), p.str("namespace"), p.str("name"))
	if err != nil {
		return nil, err
	}
	to, err := c.poolNodes(ctx, p, "pool")
	if err != nil {
		return nil, err
	}
	pods, err := c.podsOf(ctx, o)
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(x *corev1.Pod) bool { return finished(x) || x.DeletionTimestamp != nil })
	in, out := 0, []*corev1.Pod{}
	for _, x := range pods {
		if to.has(x.Spec.NodeName) {
			in++
		} else {
			out = append(out, x)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no pod outside of %s: there is nothing to do", o.Ref, to.name)
	}
	how, pod := p.str("how"), leastLost(out)
	if name := p.str("pod"); name != "" {
		i := slices.IndexFunc(out, func(x *corev1.Pod) bool { return x.Name == name })
		if i < 0 {
			return nil, p.missing("pod", "%q is no pod of %s outside of %s", name, o.Ref, to.name)
		}
		pod = out[i]
	}
	if how != bySelector && pod.Spec.NodeName != "" {
		beside, err := c.elsewhere(ctx, pod, func(n *corev1.Node) bool { return !to.has(n.Name) })
		if err != nil {
			return nil, err
		}
		switch {
		case beside == "":
			how = byEviction
		case how == "" && len(pods) == 1:
			how = bySelector
		case how == "":
			return nil, p.missing("how", "a successor of pod %s also fits on node %s, and the scheduler may choose that one; say select to tie every replica of %s to the pool, or evict to leave the choice to the scheduler", pod.Name, beside, o.Ref)
		}
		if how == byEviction {
			return c.evictInto(ctx, p, o, pod, to, in, beside)
		}
	}
	return c.selectPool(ctx, p, o, out, to, len(pods))
}

// leastLost picks the pod whose stop costs least: one that is not ready, else the youngest.
func leastLost(pods []*corev1.Pod) *corev1.Pod {
	started := func(p *corev1.Pod) int64 {
		if p.Status.StartTime == nil {
			return 1 << 62
		}
		return p.Status.StartTime.Unix()
	}
	ready := func(p *corev1.Pod) int {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return 1
			}
		}
		return 0
	}
	return slices.MinFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(ready(a), ready(b)), cmp.Compare(started(b), started(a)), strings.Compare(a.Name, b.Name))
	})
}

// elsewhere names a node where the successor of a pod fits too, or may fit.
func (c *Cluster) elsewhere(ctx context.Context, p *corev1.Pod, allowed func(*corev1.Node) bool) (string, error) {
	r, err := c.room(ctx, []*corev1.Pod{p})
	if err != nil {
		return "", err
	}
	next, err := c.successor(ctx, p)
	if err != nil {
		return "", err
	}
	return r.put(ctx, next, allowed).node, nil
}

// evictInto evicts one pod whose successor fits in the pool.
func (c *Cluster) evictInto(ctx context.Context, p params, o *Object, pod *corev1.Pod, to *poolNodes, in int, beside string) (*draft, error) {
	po, err := c.Get(ctx, "Pod", pod.Namespace, pod.Name)
	if err != nil {
		return nil, err
	}
	e := &evacuation{p: p, wait: int(p.num("wait", patience))}
	if err := e.sort(ctx, c, []*Object{po}); err != nil {
		return nil, err
	}
	d := c.draft("Move pod %s of %s from node %s to pool %s", pod.Name, o.Ref, pod.Spec.NodeName, to.name)
	d.target(o, "")
	if err := d.fits(ctx, p, e.typed(), to); err != nil {
		return nil, err
	}
	if beside != "" {
		d.warn("the successor of pod %s fits on node %s too: the scheduler may choose it, and then the step fails its check", pod.Name, beside)
	}
	if err := e.into(ctx, d); err != nil {
		return nil, err
	}
	d.Verify = append(d.Verify, placed(o, to, in+1, settle+e.longest()))
	return d, nil
}

// selectPool ties the workload to the pool by its node selector.
func (c *Cluster) selectPool(ctx context.Context, p params, o *Object, out []*corev1.Pod, to *poolNodes, all int) (*draft, error) {
	if to.label == "" {
		return nil, p.missing("pool", "a node selector holds single labels; give one label, such as pool=blue")
	}
	if _, ok, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec"); !ok {
		return nil, p.refuse("change the node selector where the workload is defined", "%s has no pod template at spec.template", o.Ref)
	}
	if s, _, _ := unstructured.NestedString(o.Object, "spec", "updateStrategy", "type"); s == "OnDelete" {
		return nil, p.refuse("say how=evict after the template is changed", "%s makes pods anew only when they are deleted (updateStrategy OnDelete)", o.Ref)
	}
	d := c.draft("Tie %s to pool %s by its node selector: %d of %s move", o.Ref, to.name, len(out), count(all, "pod"))
	err := d.patch(o, fmt.Sprintf("select nodes with %s=%s", to.label, to.value), func(u *unstructured.Unstructured) error {
		return unstructured.SetNestedField(u.Object, to.value, "spec", "template", "spec", "nodeSelector", to.label)
	})
	if err != nil {
		return nil, err
	}
	if err := d.fits(ctx, p, out, to); err != nil {
		return nil, err
	}
	if err := d.harm(ctx, out); err != nil {
		return nil, err
	}
	if all > len(out) {
		d.warn("the workload's template changes, so the %s that are in the pool already are made anew too", count(all-len(out), "pod"))
	}
	d.Lasting = "the pods are made anew once more when this is taken back"
	d.Verify = []incident.Check{
		{Kind: CheckRollout, Subject: o.Ref, Say: o.Ref.String() + " is rolled out", Within: 1800},
		placed(o, to, all, 1800),
	}
	return d, nil
}

// fits proves that pods fit in a pool, or refuses.
func (d *draft) fits(ctx context.Context, p params, pods []*corev1.Pod, to *poolNodes) error {
	proof, err := d.c.prove(ctx, pods, "node of "+to.name, func(n *corev1.Node) bool { return to.has(n.Name) })
	if err != nil {
		return err
	}
	if len(proof.lost) > 0 {
		return p.refuse("make room in the pool, or choose another one", "%s", lostText(proof))
	}
	d.proved(proof)
	return nil
}

// placed is the check that pods of a workload are in a pool.
func placed(o *Object, to *poolNodes, least, within int) incident.Check {
	return incident.Check{Kind: CheckOnNodes, Subject: o.Ref, Params: map[string]string{"selector": to.selector.String(), "min": fmt.Sprint(least)},
		Say: fmt.Sprintf("%s of %s run in pool %s", count(least, "pod"), o.Ref, to.name), Within: within}
}
