package world

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	resourcehelper "k8s.io/component-helpers/resource"
	v1helper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"
)

// Devices is what the allocator of devices sees.
type Devices struct {
	Slices  []*resourceapi.ResourceSlice
	Claims  []*resourceapi.ResourceClaim
	Classes []*resourceapi.DeviceClass
	Rules   []*resourceapi.DeviceTaintRule
	// RulesServed says that the server has DeviceTaintRules.
	RulesServed bool
}

// Place asks the scheduler's own allocator for devices on one node. It gives the
// claims with their allocation, and of those that do not fit why.
type Place func(ctx context.Context, d Devices, n *corev1.Node, p *corev1.Pod, claims []*resourceapi.ResourceClaim) (allocated []*resourceapi.ResourceClaim, why string, err error)

// start makes a pod's claims, binds it to a node and runs it. One that fits nowhere
// stays pending with the scheduler's word; one that has a node is left alone, unless
// it is revived.
func (r *roller) start(ctx context.Context, u *unstructured.Unstructured) error {
	p, err := as[corev1.Pod](u)
	if err != nil {
		return err
	}
	if p.Spec.NodeName != "" {
		if !r.spec.Revive || isReady(u) {
			return nil
		}
		n, err := r.w.get(ctx, "Node", "", p.Spec.NodeName)
		if err != nil {
			return err
		}
		node, err := as[corev1.Node](n)
		if err != nil {
			return err
		}
		return r.run(ctx, p, node)
	}
	claims, names, err := r.claims(ctx, p)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if _, err := r.w.apply(ctx, status(u, map[string]any{"resourceClaimStatuses": names})); err != nil {
			return err
		}
	}
	node, allocated, why, err := r.node(ctx, p, claims)
	if err != nil {
		return err
	}
	if node == nil {
		_, err := r.w.apply(ctx, status(u, map[string]any{"phase": "Pending", "conditions": []any{map[string]any{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}}}))
		return err
	}
	for _, c := range allocated {
		if err := r.w.allocate(ctx, c); err != nil {
			return err
		}
	}
	if err := r.w.reserve(ctx, p, claims); err != nil {
		return err
	}
	return r.run(ctx, p, node)
}

// run binds a pod to a node and has its kubelet run it.
func (r *roller) run(ctx context.Context, p *corev1.Pod, node *corev1.Node) error {
	bind := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": p.Name, "namespace": p.Namespace}, "spec": map[string]any{"nodeName": node.Name}, "status": r.running(p, node)}}
	if r.spec.Status != "" {
		var over map[string]any
		if err := yaml.Unmarshal([]byte(r.spec.Status), &over); err != nil {
			return fmt.Errorf("roll.status: %w", err)
		}
		st, _ := bind.Object["status"].(map[string]any)
		maps.Copy(st, over)
	}
	_, err := r.w.apply(ctx, bind)
	return err
}

// running is the status that a kubelet gives a pod whose containers are ready.
func (r *roller) running(p *corev1.Pod, n *corev1.Node) map[string]any {
	at := r.w.cfg.Bundle.Clock().UTC().Format("2006-01-02T15:04:05Z")
	var conditions []any
	for _, c := range []string{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		conditions = append(conditions, map[string]any{"type": c, "status": "True", "lastTransitionTime": at})
	}
	ip := address(p)
	st := map[string]any{"phase": "Running", "conditions": conditions, "podIP": ip, "podIPs": []any{map[string]any{"ip": ip}}, "startTime": at, "hostIP": hostIP(n)}
	one := func(c corev1.Container, state map[string]any, ready bool) map[string]any {
		return map[string]any{"name": c.Name, "image": c.Image, "imageID": c.Image, "containerID": "containerd://" + hash([]any{p.UID, c.Name}), "ready": ready, "started": ready, "restartCount": int64(0), "state": state}
	}
	var main, first []any
	for _, c := range p.Spec.Containers {
		main = append(main, one(c, map[string]any{"running": map[string]any{"startedAt": at}}, true))
	}
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			first = append(first, one(c, map[string]any{"running": map[string]any{"startedAt": at}}, true))
			continue
		}
		first = append(first, one(c, map[string]any{"terminated": map[string]any{"exitCode": int64(0), "reason": "Completed", "startedAt": at, "finishedAt": at}}, true))
	}
	st["containerStatuses"] = main
	if len(first) > 0 {
		st["initContainerStatuses"] = first
	}
	return st
}

// address gives a pod an address of its own.
func address(p *corev1.Pod) string {
	h := hash(p.UID)
	return netip.AddrFrom4([4]byte{10, 250, h[0], h[1]}).String()
}

func hostIP(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// node finds where a pod goes.
func (r *roller) node(ctx context.Context, p *corev1.Pod, claims []*resourceapi.ResourceClaim) (*corev1.Node, []*resourceapi.ResourceClaim, string, error) {
	nodes, err := r.w.nodes(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	if l := r.spec.Nodes; len(l) > 0 {
		first := l[r.turn%len(l)]
		r.turn++
		nodes = slices.DeleteFunc(nodes, func(n *corev1.Node) bool { return !slices.Contains(l, n.Name) })
		slices.SortStableFunc(nodes, func(a, b *corev1.Node) int {
			switch {
			case a.Name == first:
				return -1
			case b.Name == first:
				return 1
			}
			return 0
		})
	}
	used, err := r.w.used(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	d, err := r.w.devices(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	reasons := map[string]int{}
	var order []string
	for _, n := range nodes {
		why := takes(n, p)
		if why == "" {
			why = lacks(n, p, used[n.Name])
		}
		var got []*resourceapi.ResourceClaim
		if why == "" && len(claims) > 0 {
			if r.w.cfg.Place == nil {
				return nil, nil, "", fmt.Errorf("pod %s has claims, and nothing here allocates devices", p.Name)
			}
			if got, why, err = r.w.cfg.Place(ctx, d, n, p, claims); err != nil {
				why = err.Error()
			}
		}
		if why == "" {
			return n, got, "", nil
		}
		if reasons[why] == 0 {
			order = append(order, why)
		}
		reasons[why]++
	}
	var parts []string
	for _, why := range order {
		parts = append(parts, fmt.Sprintf("%d %s", reasons[why], why))
	}
	return nil, nil, fmt.Sprintf("0/%d nodes are available: %s.", len(nodes), strings.Join(parts, ", ")), nil
}

func (w *World) nodes(ctx context.Context) ([]*corev1.Node, error) {
	l, err := w.list(ctx, "Node", "")
	if err != nil {
		return nil, err
	}
	var out []*corev1.Node
	for i := range l {
		n, err := as[corev1.Node](&l[i])
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func daemonTolerations() []corev1.Toleration {
	var out []corev1.Toleration
	for _, k := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable} {
		out = append(out, corev1.Toleration{Key: k, Operator: corev1.TolerationOpExists})
	}
	return out
}

// takes says why a node does not take a pod, in the scheduler's words; empty if it does.
func takes(n *corev1.Node, p *corev1.Pod) string {
	taints := slices.Clone(n.Spec.Taints)
	off := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	taints = slices.DeleteFunc(taints, func(t corev1.Taint) bool { return t.Key == off.Key })
	if n.Spec.Unschedulable && !v1helper.TolerationsTolerateTaint(klog.Background(), p.Spec.Tolerations, &off, true) {
		return "node(s) were unschedulable"
	}
	for i := range taints {
		if taints[i].Effect != corev1.TaintEffectPreferNoSchedule && !v1helper.TolerationsTolerateTaint(klog.Background(), p.Spec.Tolerations, &taints[i], true) {
			return fmt.Sprintf("node(s) had untolerated taint(s) {%s: %s}", taints[i].Key, taints[i].Value)
		}
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n); err != nil || !ok {
		return "node(s) didn't match Pod's node affinity/selector"
	}
	return ""
}

// used sums what the pods of each node ask for.
func (w *World) used(ctx context.Context) (map[string]corev1.ResourceList, error) {
	l, err := w.list(ctx, "Pod", "")
	if apierrors.IsForbidden(err) {
		return nil, nil // the recording holds some namespaces only
	}
	if err != nil {
		return nil, err
	}
	out := map[string]corev1.ResourceList{}
	for i := range l {
		p, err := as[corev1.Pod](&l[i])
		if err != nil {
			return nil, err
		}
		if p.Spec.NodeName == "" || ended(&l[i]) {
			continue
		}
		sum := out[p.Spec.NodeName]
		if sum == nil {
			sum = corev1.ResourceList{}
			out[p.Spec.NodeName] = sum
		}
		add(sum, resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{}))
		one := sum[corev1.ResourcePods]
		one.Add(*newOne())
		sum[corev1.ResourcePods] = one
	}
	return out, nil
}

func add(sum, more corev1.ResourceList) {
	for k, v := range more {
		have := sum[k]
		have.Add(v)
		sum[k] = have
	}
}

// lacks says which resource of a node is short for a pod.
func lacks(n *corev1.Node, p *corev1.Pod, used corev1.ResourceList) string {
	ask := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	ask[corev1.ResourcePods] = *newOne()
	for k, v := range ask {
		have, ok := n.Status.Allocatable[k]
		if v.IsZero() || k == corev1.ResourcePods && !ok {
			continue
		}
		left := have.DeepCopy()
		left.Sub(used[k])
		if left.Cmp(v) < 0 {
			return "Insufficient " + string(k)
		}
	}
	return ""
}

// endpoints gives the Services of a namespace the addresses of the pods they select.
func (w *World) endpoints(ctx context.Context, namespace string) error {
	services, err := w.list(ctx, "Service", namespace)
	if err != nil {
		return ignoreMissing(err)
	}
	pods, err := w.list(ctx, "Pod", namespace)
	if err != nil {
		return err
	}
	for i := range services {
		s, err := as[corev1.Service](&services[i])
		if err != nil {
			return err
		}
		if len(s.Spec.Selector) == 0 {
			continue
		}
		if err := w.slice(ctx, s, pods); err != nil {
			return err
		}
	}
	return nil
}

// slice writes the endpoints of one Service.
func (w *World) slice(ctx context.Context, s *corev1.Service, pods []unstructured.Unstructured) error {
	name := s.Name + "-" + hash(s.UID)[:5]
	have, err := w.list(ctx, "EndpointSlice.discovery.k8s.io", s.Namespace)
	if err != nil {
		return ignoreMissing(err)
	}
	for i := range have {
		if have[i].GetLabels()["kubernetes.io/service-name"] == s.Name {
			name = have[i].GetName()
		}
	}
	var points []any
	ports := map[string]any{}
	for i := range pods {
		p, err := as[corev1.Pod](&pods[i])
		if err != nil {
			return err
		}
		if !matches(s.Spec.Selector, &pods[i]) || p.Status.PodIP == "" || p.DeletionTimestamp != nil || ended(&pods[i]) {
			continue
		}
		resolved := false
		for _, sp := range s.Spec.Ports {
			n, ok := port(p, sp)
			if !ok {
				continue
			}
			resolved = true
			ports[sp.Name+"/"+fmt.Sprint(n)] = map[string]any{"name": sp.Name, "port": int64(n), "protocol": string(sp.Protocol)}
		}
		if !resolved && len(s.Spec.Ports) > 0 {
			continue
		}
		ready := isReady(&pods[i])
		points = append(points, map[string]any{"addresses": []any{p.Status.PodIP}, "nodeName": p.Spec.NodeName, "conditions": map[string]any{"ready": ready, "serving": ready, "terminating": false},
			"targetRef": map[string]any{"kind": "Pod", "name": p.Name, "namespace": p.Namespace, "uid": string(p.UID)}})
	}
	var list []any
	for _, v := range ports {
		list = append(list, v)
	}
	_, err = w.apply(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata":    map[string]any{"name": name, "namespace": s.Namespace, "labels": map[string]any{"kubernetes.io/service-name": s.Name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
		"addressType": "IPv4", "endpoints": points, "ports": list}})
	return err
}

// port finds the number of a Service's port in a pod.
func port(p *corev1.Pod, sp corev1.ServicePort) (int32, bool) {
	if sp.TargetPort.StrVal == "" {
		if n := sp.TargetPort.IntVal; n != 0 {
			return n, true
		}
		return sp.Port, true
	}
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, cp := range c.Ports {
			if cp.Name == sp.TargetPort.StrVal {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

// ignoreMissing takes a kind that the recording does not serve for one without objects.
func ignoreMissing(err error) error {
	if strings.Contains(err.Error(), "is not served") || apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
