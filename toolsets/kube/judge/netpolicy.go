package judge

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// cutOff finds the NetworkPolicy that keeps a pod from the pods of a Service:
// one that isolates the target and lets the pod not in, or one that isolates
// the pod and lets it not out. Policies of other APIs are not read here.
func (j *judge) cutOff(ctx context.Context, v *verdict, from, to *corev1.Pod, s *corev1.Service, port int32) {
	target := targetPort(s, port, to)
	for _, d := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
		guarded, other := to, from
		if d == networkingv1.PolicyTypeEgress {
			guarded, other = from, to
		}
		nps, err := j.src.NetworkPolicies(ctx, guarded.Namespace)
		if err != nil {
			continue
		}
		ns := map[string]string{}
		if o, err := j.src.Namespace(ctx, other.Namespace); err == nil {
			ns = o.Labels
		} else if len(nps) > 0 {
			// Without the namespace's labels a rule cannot be judged.
			continue
		}
		blocking := isolatedFrom(nps, d, guarded, other, ns, target)
		if len(blocking) == 0 {
			continue
		}
		np := j.ref("networking.k8s.io", "NetworkPolicy", guarded.Namespace, blocking[0])
		svc := j.ref("", "Service", s.Namespace, s.Name)
		v.edge(v.subject, graph.IsolatedBy, np)
		v.line("NetworkPolicy %s isolates pod %s/%s (%s), and no rule lets the traffic of %s through", strings.Join(blocking, ", "), guarded.Namespace, guarded.Name, d, v.subject.Path())
		way := fmt.Sprintf("lets no traffic from pod %s to the pods of %s", v.subject.Path(), svc)
		v.fault("kube.network_policy_blocks", incident.Critical, 0.88, np, fmt.Sprintf("NetworkPolicy %s %s (%s)", np.Path(), way, strings.ToLower(string(d))), params("from", v.subject.Path(), "to", svc.Path(), "port", portNumber(target), "direction", strings.ToLower(string(d))))
		return
	}
}

func portNumber(n int32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// targetPort is the port of the pod behind a port of the Service, 0 if it
// cannot be told.
func targetPort(s *corev1.Service, port int32, pod *corev1.Pod) int32 {
	for _, sp := range s.Spec.Ports {
		if sp.Port != port && (port != 0 || len(s.Spec.Ports) != 1) {
			continue
		}
		switch {
		case sp.TargetPort.Type == intstr.Int && sp.TargetPort.IntVal != 0:
			return sp.TargetPort.IntVal
		case sp.TargetPort.Type == intstr.String:
			return namedPort(pod, sp.TargetPort.StrVal)
		}
		return sp.Port
	}
	return 0
}

func namedPort(pod *corev1.Pod, name string) int32 {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort
			}
		}
	}
	return 0
}

// isolatedFrom names the policies that isolate guarded in a direction when none
// of their rules admits the other pod; nil when the traffic may pass.
func isolatedFrom(nps []*networkingv1.NetworkPolicy, d networkingv1.PolicyType, guarded, other *corev1.Pod, otherNS map[string]string, port int32) []string {
	var names []string
	for _, np := range nps {
		sel, err := metav1.LabelSelectorAsSelector(&np.Spec.PodSelector)
		if err != nil || !sel.Matches(labels.Set(guarded.Labels)) || !applies(np, d) {
			continue
		}
		names = append(names, np.Name)
		if d == networkingv1.PolicyTypeIngress {
			for _, r := range np.Spec.Ingress {
				if admits(r.From, r.Ports, np.Namespace, guarded, other, otherNS, port) {
					return nil
				}
			}
			continue
		}
		for _, r := range np.Spec.Egress {
			if admits(r.To, r.Ports, np.Namespace, other, other, otherNS, port) {
				return nil
			}
		}
	}
	slices.Sort(names)
	return names
}

// applies says whether a policy isolates in a direction; without types it does
// for ingress always and for egress when it has egress rules.
func applies(np *networkingv1.NetworkPolicy, d networkingv1.PolicyType) bool {
	if len(np.Spec.PolicyTypes) == 0 {
		return d == networkingv1.PolicyTypeIngress || len(np.Spec.Egress) > 0
	}
	return slices.Contains(np.Spec.PolicyTypes, d)
}

// admits reports whether one rule lets the other pod through. The pod that owns
// the port is serving.
func admits(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, ns string, serving, other *corev1.Pod, otherNS map[string]string, port int32) bool {
	if len(ports) > 0 && port != 0 && !slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return covers(p, serving, port) }) {
		return false
	}
	return len(peers) == 0 || slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool { return means(p, ns, other, otherNS) })
}

func covers(p networkingv1.NetworkPolicyPort, serving *corev1.Pod, port int32) bool {
	if p.Port == nil {
		return true
	}
	low := p.Port.IntVal
	if p.Port.Type == intstr.String {
		low = namedPort(serving, p.Port.StrVal)
	}
	if p.EndPort != nil {
		return port >= low && port <= *p.EndPort
	}
	return port == low
}

// means reports whether a peer of a rule of a policy in ns is the other pod.
func means(p networkingv1.NetworkPolicyPeer, ns string, other *corev1.Pod, otherNS map[string]string) bool {
	if p.IPBlock != nil {
		block, err := netip.ParsePrefix(p.IPBlock.CIDR)
		ip, err2 := netip.ParseAddr(other.Status.PodIP)
		if err != nil || err2 != nil {
			// Not known: do not accuse.
			return true
		}
		return block.Contains(ip) && !slices.ContainsFunc(p.IPBlock.Except, func(x string) bool {
			b, err := netip.ParsePrefix(x)
			return err == nil && b.Contains(ip)
		})
	}
	matches := func(s *metav1.LabelSelector, l map[string]string) bool {
		sel, err := metav1.LabelSelectorAsSelector(s)
		return err == nil && sel.Matches(labels.Set(l))
	}
	if p.NamespaceSelector == nil {
		return other.Namespace == ns && (p.PodSelector == nil || matches(p.PodSelector, other.Labels))
	}
	return matches(p.NamespaceSelector, otherNS) && (p.PodSelector == nil || matches(p.PodSelector, other.Labels))
}
