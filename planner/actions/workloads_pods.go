package actions

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// podActions are the actions on single pods.
func podActions(c *Cluster) []*action {
	pod := []planner.Param{
		{Name: "namespace", Required: true, Text: "its namespace"},
		{Name: "name", Required: true, Object: true, Text: "the pod"},
	}
	const undo = "none: the controller has made another pod"
	const verify = "the pod is gone, and the pods of its workload are ready"
	return []*action{
		{c: c, compile: deletePod, info: planner.Info{
			Name: "delete_pod", Family: planner.Workloads, Text: "Delete one pod; its controller makes a new one",
			Params: append(pod[:2:2], planner.Param{Name: "recreate", Type: planner.Bool, Text: "create a pod without a controller again"}),
			Risk:   incident.RiskMedium, Rights: []planner.Right{{Resources: []string{"pods"}, Verbs: []string{"get", "patch", "delete", "create"}}},
			Undo: undo + "; a pod without a controller is created again as it was", Verify: verify, Sources: []string{"kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle, termination of pods"},
		}},
		{c: c, compile: evictPod, info: planner.Info{
			Name: "evict_pod", Family: planner.Workloads, Text: "Evict one pod, respecting disruption budgets; its controller makes a new one", Params: pod,
			Risk: incident.RiskMedium, Rights: []planner.Right{{Resources: []string{"pods"}, Verbs: []string{"get"}}, {Resources: []string{"pods/eviction"}, Verbs: []string{"create"}}},
			Undo: undo, Verify: verify, Sources: []string{"kubernetes.io/docs/concepts/scheduling-eviction/api-eviction"},
		}},
	}
}

// onePod reads the pod and refuses those that nobody deletes through the API.
func (c *Cluster) onePod(ctx context.Context, p params) (*Object, *corev1.Pod, error) {
	o, err := c.Get(ctx, "Pod", p.str("namespace"), p.str("name"))
	if err != nil {
		return nil, nil, err
	}
	pod, err := as[corev1.Pod](o)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return nil, nil, p.refuse("move its manifest away on the node, and back", "%s mirrors a static pod of node %s: deleting the mirror does not restart it", o.Ref, pod.Spec.NodeName)
	case pod.DeletionTimestamp != nil:
		why := "its node has not said that it stopped"
		if len(pod.Finalizers) > 0 {
			why = fmt.Sprintf("its finalizers %v wait", pod.Finalizers)
		}
		return nil, nil, p.refuse("look at node "+orNone(pod.Spec.NodeName)+" and at who holds the finalizers", "%s is being deleted already; %s", o.Ref, why)
	}
	return o, pod, nil
}

func deletePod(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, pod, err := c.onePod(ctx, p)
	if err != nil {
		return nil, err
	}
	if controlled(o) == nil {
		if p.str("recreate") != "true" {
			return nil, p.refuse("say recreate true to create it again as it is", "%s has no controller: deleted, it is gone", o.Ref)
		}
		say := "Delete " + o.Ref.String() + " and create it again"
		d := c.draft("%s", say)
		if err := d.replace(o, "create "+o.Ref.String()+" again", func(*unstructured.Unstructured) error { return nil }); err != nil {
			return nil, err
		}
		d.Verify = []incident.Check{{Kind: CheckReady, Subject: o.Ref, Say: o.Ref.String() + " is ready", Within: 600}}
		return d, d.stopsPod(ctx, pod)
	}
	d := c.draft("Delete %s; %s %s makes a new one", o.Ref, controlled(o).Kind, controlled(o).Name)
	d.stop(o, d.Say, grace(pod))
	if err := d.stopsPod(ctx, pod); err != nil {
		return nil, err
	}
	if len(d.Blast.BelowBudget) > 0 {
		d.Warnings = append(d.Warnings, "deleting does not ask the disruption budget: evict_pod does")
	}
	return d, c.comesBack(d)
}

func evictPod(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, pod, err := c.onePod(ctx, p)
	if err != nil {
		return nil, err
	}
	if controlled(o) == nil {
		return nil, p.refuse("delete_pod with recreate true", "%s has no controller: evicted, it is gone", o.Ref)
	}
	d := c.draft("Evict %s; %s %s makes a new one", o.Ref, controlled(o).Kind, controlled(o).Name)
	d.evict(o, d.Say, max(300, grace(pod)))
	if err := d.stopsPod(ctx, pod); err != nil {
		return nil, err
	}
	if len(d.Blast.BelowBudget) > 0 {
		d.Warnings = append(d.Warnings, "the disruption budget does not allow it now; the eviction is tried until it does or time is up")
	}
	return d, c.comesBack(d)
}

// stopsPod fills the blast radius of one pod.
func (d *draft) stopsPod(ctx context.Context, pod *corev1.Pod) error {
	var err error
	if d.Blast, err = d.c.blast(ctx, []*corev1.Pod{pod}); err != nil {
		return err
	}
	d.Lasting = "the pod that was: its memory, its emptyDir volumes, its address"
	if pod.Spec.NodeName != "" && d.Blast.PodCount > 0 {
		node, err := d.c.Get(ctx, "Node", "", pod.Spec.NodeName)
		switch {
		case notThere(err):
			d.Warnings = append(d.Warnings, "node "+pod.Spec.NodeName+" is gone: nobody confirms the deletion, and the garbage collector has to")
		case err != nil: // not seen, not said
		case !conditionTrue(node, "Ready"):
			d.Warnings = append(d.Warnings, "node "+pod.Spec.NodeName+" is not ready: until its kubelet confirms, the pod stays Terminating; gumshoe never deletes by force")
		}
	}
	if len(pod.Finalizers) > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("the finalizers %v have to be removed by their owners before it is gone", pod.Finalizers))
	}
	return nil
}

func conditionTrue(o *Object, kind string) bool {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, v := range list {
		if m, ok := v.(map[string]any); ok && text(m, "type") == kind {
			return text(m, "status") == "True"
		}
	}
	return false
}

// comesBack adds the proof that a workload has its pod again.
func (c *Cluster) comesBack(d *draft) error {
	for _, w := range d.Blast.Workloads {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckReady, Subject: w, Say: "the pods of " + w.String() + " are ready", Within: 900})
	}
	if w := d.Writes[0]; len(d.Verify) == 0 {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckGone, Subject: w.Ref, Params: map[string]string{"uid": w.UID}, Say: w.Ref.String() + " is gone", Within: 300})
	}
	return nil
}
