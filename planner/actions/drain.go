package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

const (
	// patience is how long a pod may take to go on top of its grace period, in
	// seconds: its budget may have to wait for a successor that loads a model.
	patience = 300
	// settle is how long a workload may take to be scheduled again, in seconds.
	settle = 300
)

// drains are the actions that empty nodes.
func drains(c *Cluster) []*action {
	return []*action{{c: c, compile: drain, info: planner.Info{
		Name: "drain", Family: planner.Placement, Text: "Cordon a node and evict the pods that are on it, within their disruption budgets",
		Params: []planner.Param{
			{Name: "node", Required: true, Object: true, Text: "the node"},
			{Name: "wait", Type: planner.Int, Text: "seconds that one pod may take to go on top of its grace period, 300 by default"},
		},
		Contains: true, Risk: incident.RiskHigh, Rights: evictRights(),
		Undo:    "the node takes pods again; pods that were evicted are not brought back, their controllers have made new ones",
		Verify:  "nothing but DaemonSet and static pods is on the node, and the workloads of the evicted pods are scheduled",
		Sources: []string{"kubernetes.io/docs/tasks/administer-cluster/safely-drain-node", "kubernetes.io/docs/concepts/scheduling-eviction/api-eviction"},
	}}}
}

func evictRights() []planner.Right {
	return []planner.Right{
		{Resources: []string{"nodes"}, Verbs: []string{"get", "list", "patch"}},
		{Resources: []string{"pods"}, Verbs: []string{"get", "list"}},
		{Resources: []string{"pods/eviction"}, Verbs: []string{"create"}},
		{Resources: []string{"namespaces"}, Verbs: []string{"get"}},
	}
}

func drain(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, "Node", "", p.str("node"))
	if err != nil {
		return nil, err
	}
	pods, err := c.podsOn(ctx, o.GetName())
	if err != nil {
		return nil, err
	}
	e := &evacuation{p: p, wait: int(p.num("wait", patience))}
	if err := e.sort(ctx, c, pods); err != nil {
		return nil, err
	}
	d := c.draft("Cordon node %s and evict %s from it", o.GetName(), count(len(e.leave), "pod"))
	if err := d.cordon(o, true); err != nil {
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
	if len(d.Writes) == 0 {
		return nil, fmt.Errorf("%s is cordoned and has no pod to evict: there is nothing to do", o.Ref)
	}
	d.Verify = append(d.Verify, emptied(o.Ref, e.longest()))
	return d, nil
}

// podsOn reads the pods of a node.
func (c *Cluster) podsOn(ctx context.Context, node string) ([]*Object, error) {
	return c.List(ctx, "Pod", "", "", fields.OneTermEqualSelector("spec.nodeName", node).String())
}

// emptied is the check that a node is drained.
func emptied(node incident.Ref, within int) incident.Check {
	return incident.Check{Kind: CheckEmpty, Subject: node, Say: "nothing but DaemonSet and static pods runs on node " + node.Name, Within: within, Hold: 10}
}

// cordon patches a node unless it is as wanted already.
func (d *draft) cordon(o *Object, on bool) error {
	if is, _, _ := unstructured.NestedBool(o.Object, "spec", "unschedulable"); is == on {
		d.target(o, fmt.Sprintf("spec.unschedulable is %v", is))
		return nil
	}
	if on {
		return d.patch(o, "keep new pods off node "+o.GetName(), func(u *unstructured.Unstructured) error {
			return unstructured.SetNestedField(u.Object, true, "spec", "unschedulable")
		})
	}
	return d.patch(o, "let new pods onto node "+o.GetName(), func(u *unstructured.Unstructured) error {
		unstructured.RemoveNestedField(u.Object, "spec", "unschedulable")
		return nil
	})
}

// proved takes a proof of capacity into the draft: what is lost or open raises the risk.
func (d *draft) proved(p *proof) {
	d.Capacity = append(d.Capacity, p.claims...)
	if len(p.lost) > 0 {
		d.warn("%s will wait for a node after the eviction: %s", count(len(p.lost), "pod"), some(p.lost))
		d.raise(incident.RiskCritical)
	}
	if len(p.open) > 0 {
		d.warn("whether %s will find a node is not proved: %s", count(len(p.open), "pod"), some(p.open))
		d.raise(incident.RiskCritical)
	}
}

func (d *draft) warn(text string, args ...any) {
	if s := fmt.Sprintf(text, args...); !slices.Contains(d.Warnings, s) {
		d.Warnings = append(d.Warnings, s)
	}
}

func (d *draft) note(text string, args ...any) {
	if s := fmt.Sprintf(text, args...); !slices.Contains(d.Blast.Notes, s) {
		d.Blast.Notes = append(d.Blast.Notes, s)
	}
}

func (d *draft) raise(r incident.Risk) {
	if d.Risk == "" || r.Weight() > d.Risk.Weight() {
		d.Risk = r
	}
}

// evacuation is a set of pods that leave their nodes.
type evacuation struct {
	p    params
	wait int
	// leave are evicted, in this order.
	leave []*leaver
	notes []string
	warns []string
	below []string
}

// leaver is a pod that is evicted.
type leaver struct {
	obj *Object
	pod *corev1.Pod
	// tight says that its budget allows no disruption now.
	tight bool
}

// sort takes the pods of a node that have to leave, and refuses where one of them
// has nobody to make it anew or a budget that never lets it go.
func (e *evacuation) sort(ctx context.Context, c *Cluster, pods []*Object) error {
	var bare []string
	for _, o := range pods {
		p, err := as[corev1.Pod](o)
		if err != nil {
			return err
		}
		name := p.Namespace + "/" + p.Name
		kind := ""
		if k := controllerOf(p.OwnerReferences); k != nil {
			kind = k.Kind
		}
		switch {
		case p.Annotations[corev1.MirrorPodAnnotationKey] != "" || kind == "Node" || kind == "DaemonSet" || finished(p):
			continue
		case p.DeletionTimestamp != nil:
			e.notes = append(e.notes, "pod "+name+" is being deleted already")
			continue
		case kind == "":
			bare = append(bare, name)
			continue
		}
		alive, err := c.controllerLives(ctx, p)
		switch {
		case err != nil:
			e.warns = append(e.warns, fmt.Sprintf("whether the controller of pod %s is there is not known: %v", name, err))
		case !alive:
			bare = append(bare, name)
			continue
		}
		e.leave = append(e.leave, &leaver{obj: o, pod: p})
	}
	if len(bare) > 0 {
		return e.p.refuse("delete it by hand, or have a controller run it, and plan again", "no controller would make anew what is evicted: %s", some(bare))
	}
	return e.budgets(ctx, c)
}

func (e *evacuation) typed() []*corev1.Pod {
	var out []*corev1.Pod
	for _, l := range e.leave {
		out = append(out, l.pod)
	}
	return out
}

// time is how long a pod may take to go, in seconds.
func (e *evacuation) time(p *corev1.Pod) int {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if p.Spec.TerminationGracePeriodSeconds != nil {
		grace = *p.Spec.TerminationGracePeriodSeconds
	}
	return e.wait + int(grace)
}

func (e *evacuation) longest() int {
	most := e.wait
	for _, l := range e.leave {
		most = max(most, e.time(l.pod))
	}
	return most
}

// into adds the evictions to a draft, with whom they hurt and how they are proved.
// Pods that a budget holds back come first: when one of them does not go, little has
// been stopped. Members of a gang go one after another.
func (e *evacuation) into(ctx context.Context, d *draft) error {
	gangs := map[*corev1.Pod]string{}
	for _, l := range e.leave {
		g, err := d.c.gangOf(ctx, l.pod)
		if err != nil {
			e.warns = append(e.warns, fmt.Sprintf("whether pod %s/%s belongs to a gang is not known: %v", l.pod.Namespace, l.pod.Name, err))
		}
		if g != nil {
			gangs[l.pod] = g.ref.String()
		}
	}
	slices.SortStableFunc(e.leave, func(a, b *leaver) int {
		order := func(l *leaver) string { return gangs[l.pod] + "\x00" + l.pod.Namespace + "/" + l.pod.Name }
		if a.tight != b.tight {
			if a.tight {
				return -1
			}
			return 1
		}
		return strings.Compare(order(a), order(b))
	})
	for _, l := range e.leave {
		d.evict(l.obj, fmt.Sprintf("evict pod %s/%s from node %s", l.pod.Namespace, l.pod.Name, l.pod.Spec.NodeName), e.time(l.pod))
	}
	if err := d.harm(ctx, e.typed()); err != nil {
		return err
	}
	d.Blast.BelowBudget = uniq(append(d.Blast.BelowBudget, e.below...))
	for _, n := range e.notes {
		d.note("%s", n)
	}
	for _, w := range e.warns {
		d.warn("%s", w)
	}
	for _, w := range d.Blast.Workloads {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckScheduled, Subject: w, Say: "the pods of " + w.String() + " have a node again", Within: settle + e.longest()})
	}
	if len(e.leave) > 0 {
		d.Lasting = "the pods that were evicted do not come back: their controllers have made new ones, on the nodes that the scheduler chose"
	}
	return nil
}
