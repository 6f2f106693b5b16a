package judge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// policies finds NetworkPolicies that select the pods of a Service and let nobody
// in. What a policy of another kind allows is allowed, so with one of those about
// a NetworkPolicy alone decides nothing.
func (j *judge) policies(ctx context.Context, v *verdict, s *corev1.Service, pods []*corev1.Pod) {
	nps, err := j.src.NetworkPolicies(ctx, s.Namespace)
	if err != nil || len(pods) == 0 {
		return
	}
	var isolating []*networkingv1.NetworkPolicy
	for _, p := range pods {
		mine := slices.DeleteFunc(slices.Clone(nps), func(np *networkingv1.NetworkPolicy) bool { return !isolates(np, p) })
		if len(mine) == 0 || slices.ContainsFunc(mine, func(np *networkingv1.NetworkPolicy) bool { return len(np.Spec.Ingress) > 0 }) {
			return
		}
		for _, np := range mine {
			if !slices.Contains(isolating, np) {
				isolating = append(isolating, np)
			}
		}
	}
	for _, np := range isolating {
		v.line("NetworkPolicy %s selects its pods and has no rule for traffic to them", np.Name)
	}
	others, unseen := j.otherPolicies(ctx, s.Namespace)
	if len(others) > 0 {
		v.line("%s may allow what these do not", strings.Join(others, ", "))
		return
	}
	conf := 0.85
	if unseen {
		conf = 0.6
	}
	np := j.ref("networking.k8s.io", "NetworkPolicy", s.Namespace, isolating[0].Name)
	v.edge(v.subject, graph.IsolatedBy, np)
	v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("nothing can reach the pods of %s", v.subject), params("selector", labels.SelectorFromSet(s.Spec.Selector).String()))
	v.fault("kube.network_policy_blocks", incident.Critical, conf, np, fmt.Sprintf("NetworkPolicy %s isolates the pods of %s and no policy allows any traffic to them", np.Path(), v.subject), params("to", v.subject.Path(), "direction", "ingress"))
}

// isolates reports whether a policy governs the traffic to a pod.
func isolates(np *networkingv1.NetworkPolicy, p *corev1.Pod) bool {
	if len(np.Spec.PolicyTypes) > 0 && !slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
		return false
	}
	sel, err := metav1.LabelSelectorAsSelector(&np.Spec.PodSelector)
	return err == nil && sel.Matches(labels.Set(p.Labels))
}

// otherPolicies names the policies of other kinds that there are, and whether some
// kind is served and may not be read.
func (j *judge) otherPolicies(ctx context.Context, namespace string) (found []string, unseen bool) {
	for _, k := range []struct{ resource, namespace string }{
		{"ciliumnetworkpolicies.cilium.io", namespace}, {"ciliumclusterwidenetworkpolicies.cilium.io", ""},
		{"networkpolicies.crd.projectcalico.org", namespace}, {"globalnetworkpolicies.crd.projectcalico.org", ""},
		{"adminnetworkpolicies.policy.networking.k8s.io", ""}, {"clusternetworkpolicies.policy.networking.k8s.io", ""},
	} {
		list, err := j.src.List(ctx, k.resource, k.namespace, selectors(""))
		switch {
		case err == nil && len(list) > 0:
			found = append(found, list[0].GetKind()+" "+list[0].GetName())
		case err != nil && tool.KindOf(err) != tool.NotServed && tool.KindOf(err) != tool.NotFound:
			unseen = true
		}
	}
	return found, unseen
}
