package actions

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// rollout judges a workload as `kubectl rollout status` does.
func rollout(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	o, v, saw := k.object(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	if seen, ok := incident.ParsePath("status.observedGeneration").In(o.Object); ok {
		if n, _ := seen.(int64); n < o.GetGeneration() {
			return incident.Fail, fmt.Sprintf("%s: its controller has not seen the change yet", c.Subject)
		}
	}
	switch o.GetKind() {
	case "Deployment":
		d, err := as[appsv1.Deployment](o)
		if err != nil {
			return incident.Unclear, err.Error()
		}
		want := int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		s := d.Status
		saw := fmt.Sprintf("%s: %d of %d replicas updated, %d available, %d in all", c.Subject, s.UpdatedReplicas, want, s.AvailableReplicas, s.Replicas)
		late := func(x appsv1.DeploymentCondition) bool {
			return x.Type == appsv1.DeploymentProgressing && x.Reason == "ProgressDeadlineExceeded"
		}
		if i := slices.IndexFunc(s.Conditions, late); i >= 0 {
			saw += "; " + s.Conditions[i].Message
		}
		return verdict(s.UpdatedReplicas >= want && s.AvailableReplicas >= want && s.Replicas <= s.UpdatedReplicas), saw
	case "StatefulSet":
		d, err := as[appsv1.StatefulSet](o)
		if err != nil {
			return incident.Unclear, err.Error()
		}
		want := int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		s := d.Status
		return verdict(s.UpdatedReplicas >= want && s.ReadyReplicas >= want && s.CurrentRevision == s.UpdateRevision),
			fmt.Sprintf("%s: %d of %d replicas updated, %d ready", c.Subject, s.UpdatedReplicas, want, s.ReadyReplicas)
	case "DaemonSet":
		d, err := as[appsv1.DaemonSet](o)
		if err != nil {
			return incident.Unclear, err.Error()
		}
		s := d.Status
		return verdict(s.UpdatedNumberScheduled >= s.DesiredNumberScheduled && s.NumberAvailable >= s.DesiredNumberScheduled),
			fmt.Sprintf("%s: %d of %d pods updated, %d available", c.Subject, s.UpdatedNumberScheduled, s.DesiredNumberScheduled, s.NumberAvailable)
	}
	return ready(ctx, k, c)
}

// pods gives the pods of a subject: the pod itself, those that a workload's
// selector or its controller chain means, those that a Service or a pool selects. Pods that
// are being deleted or have failed are left out.
func (k *Checker) pods(ctx context.Context, r incident.Ref) ([]*corev1.Pod, incident.Verdict, string) {
	o, v, saw := k.object(ctx, r)
	if v != "" {
		return nil, v, saw
	}
	if o.GetKind() == "Pod" {
		p, err := as[corev1.Pod](o)
		if err != nil {
			return nil, incident.Unclear, err.Error()
		}
		return []*corev1.Pod{p}, "", ""
	}
	find := k.cluster.podsOf
	if o.GetKind() == "Service" || o.GetKind() == "InferencePool" {
		find = k.cluster.selected
	}
	all, err := find(ctx, o)
	if err != nil {
		return nil, incident.Unclear, err.Error()
	}
	return slices.DeleteFunc(all, func(p *corev1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed
	}), "", ""
}

// selected gives the pods that a Service or an InferencePool selects.
func (c *Cluster) selected(ctx context.Context, o *Object) ([]*corev1.Pod, error) {
	path := []string{"spec", "selector"}
	if _, ok, _ := unstructured.NestedMap(o.Object, "spec", "selector", "matchLabels"); ok {
		path = append(path, "matchLabels")
	}
	m, _, err := unstructured.NestedStringMap(o.Object, path...)
	if err != nil || len(m) == 0 {
		return nil, err
	}
	list, err := c.List(ctx, "Pod", o.GetNamespace(), metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: m}), "")
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for _, u := range list {
		p, err := as[corev1.Pod](u)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// want is how many pods a subject is meant to have; -1 when it does not say.
func want(o *Object) int64 {
	if n, ok, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); ok {
		return n
	}
	if n, ok, _ := unstructured.NestedInt64(o.Object, "spec", "parallelism"); ok {
		return n
	}
	return -1
}

// atLeast gives the parameter "min" of a check, def where it is not given.
func atLeast(c incident.Check, def int64) int64 {
	if n, err := strconv.ParseInt(c.Params["min"], 10, 64); err == nil {
		return n
	}
	return def
}

// each judges every pod of a subject; none is a failure unless none is wanted.
func (k *Checker) each(ctx context.Context, c incident.Check, what string, ok func(*corev1.Pod) (bool, string)) (incident.Verdict, string) {
	pods, v, saw := k.pods(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	o, v, saw := k.object(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	least := atLeast(c, want(o))
	if len(pods) == 0 {
		return verdict(least == 0), c.Subject.String() + " has no pods"
	}
	good := int64(0)
	why := ""
	for _, p := range pods {
		yes, note := ok(p)
		if yes {
			good++
		} else if why == "" {
			why = fmt.Sprintf("; pod %s: %s", p.Name, note)
		}
	}
	all := good == int64(len(pods)) && good >= least
	if c.Params["min"] != "" {
		all = good >= least
	}
	return verdict(all), fmt.Sprintf("%d of %d pods of %s %s%s", good, max(int64(len(pods)), least), c.Subject, what, why)
}

func scheduled(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	return k.each(ctx, c, "are scheduled", func(p *corev1.Pod) (bool, string) {
		if p.Spec.NodeName == "" {
			return false, waits(p)
		}
		for _, s := range p.Status.ResourceClaimStatuses {
			if s.ResourceClaimName == nil {
				continue
			}
			v, saw := k.Check(ctx, incident.Check{Kind: CheckAllocated, Subject: incident.Ref{Cluster: c.Subject.Cluster, Namespace: p.Namespace, Group: resourceapi.GroupName, Kind: "ResourceClaim", Name: *s.ResourceClaimName}})
			if v != incident.Pass {
				return false, saw
			}
		}
		return true, ""
	})
}

func pending(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	pods, v, saw := k.pods(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	for _, p := range pods {
		if p.Spec.NodeName == "" {
			return incident.Pass, fmt.Sprintf("pod %s waits: %s", p.Name, waits(p))
		}
	}
	return incident.Fail, "no pod of " + c.Subject.String() + " waits for a node"
}

// waits gives the scheduler's words on a pod without a node.
func waits(p *corev1.Pod) string {
	for _, x := range p.Status.Conditions {
		if x.Type == corev1.PodScheduled && x.Message != "" {
			return x.Message
		}
	}
	return "not scheduled"
}

func ready(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	return k.each(ctx, c, "are ready", func(p *corev1.Pod) (bool, string) {
		if p.Status.Phase == corev1.PodSucceeded { // a task that is done before it was looked at
			return true, ""
		}
		for _, x := range p.Status.Conditions {
			if x.Type == corev1.PodReady {
				return x.Status == corev1.ConditionTrue, strings.TrimSpace("not ready " + x.Message)
			}
		}
		return false, "not ready"
	})
}

func allocated(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	o, v, saw := k.object(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	claim, err := as[resourceapi.ResourceClaim](o)
	if err != nil {
		return incident.Unclear, err.Error()
	}
	if claim.Status.Allocation == nil {
		return incident.Fail, c.Subject.String() + " is not allocated"
	}
	var devices []string
	for _, r := range claim.Status.Allocation.Devices.Results {
		devices = append(devices, r.Driver+"/"+r.Pool+"/"+r.Device)
	}
	return incident.Pass, fmt.Sprintf("%s holds %s", c.Subject, strings.Join(devices, ", "))
}

func unused(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	o, v, saw := k.object(ctx, c.Subject)
	if v != "" {
		return v, saw
	}
	claim, err := as[resourceapi.ResourceClaim](o)
	if err != nil {
		return incident.Unclear, err.Error()
	}
	for _, r := range claim.Status.ReservedFor {
		if r.APIGroup != "" || r.Resource != "pods" {
			return incident.Unclear, fmt.Sprintf("%s is reserved for %s %s, which is no pod", c.Subject, r.Resource, r.Name)
		}
		p, err := k.cluster.Get(ctx, "Pod", c.Subject.Namespace, r.Name)
		if err == nil && p.GetUID() == r.UID {
			return incident.Fail, fmt.Sprintf("%s is reserved for pod %s", c.Subject, r.Name)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return incident.Unclear, err.Error()
		}
	}
	return incident.Pass, c.Subject.String() + " is reserved for nobody that exists"
}

func endpoints(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	list, err := k.cluster.List(ctx, "EndpointSlice.discovery.k8s.io", c.Subject.Namespace, discoveryv1.LabelServiceName+"="+c.Subject.Name, "")
	if err != nil {
		return incident.Unclear, err.Error()
	}
	n, least := int64(0), atLeast(c, 1)
	for _, o := range list {
		s, err := as[discoveryv1.EndpointSlice](o)
		if err != nil {
			return incident.Unclear, err.Error()
		}
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				n += int64(len(e.Addresses))
			}
		}
	}
	return verdict(n >= least), fmt.Sprintf("%s has %d ready endpoints", c.Subject, n)
}

func empty(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	list, err := k.cluster.List(ctx, "Pod", "", "", "spec.nodeName="+c.Subject.Name)
	if err != nil {
		return incident.Unclear, err.Error()
	}
	var left []string
	for _, o := range list {
		p, err := as[corev1.Pod](o)
		if err != nil {
			return incident.Unclear, err.Error()
		}
		ref := metav1.GetControllerOf(p)
		_, static := p.Annotations[corev1.MirrorPodAnnotationKey]
		if static || ref != nil && ref.Kind == "DaemonSet" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		left = append(left, p.Namespace+"/"+p.Name)
	}
	if len(left) > 0 {
		return incident.Fail, fmt.Sprintf("%d pods are still on node %s: %s", len(left), c.Subject.Name, strings.Join(left[:min(len(left), 5)], ", "))
	}
	return incident.Pass, "no pod is left on node " + c.Subject.Name
}

func nodesReady(ctx context.Context, k *Checker, c incident.Check) (incident.Verdict, string) {
	list, err := k.cluster.List(ctx, "Node", "", c.Params["selector"], "")
	if err != nil {
		return incident.Unclear, err.Error()
	}
	n, least := int64(0), atLeast(c, 1)
	for _, o := range list {
		node, err := as[corev1.Node](o)
		if err != nil {
			return incident.Unclear, err.Error()
		}
		for _, x := range node.Status.Conditions {
			if x.Type == corev1.NodeReady && x.Status == corev1.ConditionTrue && !node.Spec.Unschedulable {
				n++
			}
		}
	}
	return verdict(n >= least), fmt.Sprintf("%d nodes with %q are ready and schedulable, %d wanted", n, c.Params["selector"], least)
}
