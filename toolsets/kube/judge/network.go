package judge

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// NetworkIn names an object of the network path.
type NetworkIn struct {
	Kind      string `json:"kind" jsonschema:"Service, Ingress, HTTPRoute or Gateway"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (j *judge) networkTool(ctx context.Context, in NetworkIn) (tool.Output[Judged], error) {
	switch in.Kind {
	case "Service":
		s, err := j.src.Service(ctx, in.Namespace, in.Name)
		if err != nil {
			return tool.Output[Judged]{}, err
		}
		return j.service(ctx, s).output(), nil
	case "Ingress":
		i, err := j.src.Ingress(ctx, in.Namespace, in.Name)
		if err != nil {
			return tool.Output[Judged]{}, err
		}
		return j.ingress(ctx, i).output(), nil
	case "HTTPRoute", "GRPCRoute", "Gateway":
		r := j.ref("gateway.networking.k8s.io", in.Kind, in.Namespace, in.Name)
		u, err := j.src.Get(ctx, r)
		if err != nil {
			return tool.Output[Judged]{}, err
		}
		return j.gateway(ctx, r, u).output(), nil
	}
	return tool.Output[Judged]{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("kind %q is none of Service, Ingress, HTTPRoute, GRPCRoute, Gateway", in.Kind)}
}

// service judges a Service: does its selector find pods, are they ready, do
// they have the target port, does a policy keep everybody away.
func (j *judge) service(ctx context.Context, s *corev1.Service) *verdict {
	v := newVerdict(j.ref("", "Service", s.Namespace, s.Name))
	v.state = string(cmp.Or(s.Spec.Type, corev1.ServiceTypeClusterIP))
	if s.Spec.Type == corev1.ServiceTypeExternalName || len(s.Spec.Selector) == 0 {
		v.line("it selects no pods of its own")
		return v
	}
	sel := labels.SelectorFromSet(s.Spec.Selector)
	pods, err := j.src.PodsMatching(ctx, s.Namespace, sel)
	if err != nil {
		v.line("its pods cannot be listed: %s", tool.UserText(err))
		return v
	}
	pods = slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	readyPods := 0
	for _, p := range pods {
		if ready(p) {
			readyPods++
		}
	}
	v.state += fmt.Sprintf(", %d of %d pods ready", readyPods, len(pods))
	v.fact("selector", sel.String())
	none := func(why string) {
		v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("%s has no ready endpoint: %s", v.subject, why), params("selector", sel.String()))
	}
	switch {
	case len(pods) == 0:
		j.noPods(ctx, v, s, sel, none)
		return v
	case readyPods == 0:
		none(fmt.Sprintf("none of its %d pods is ready", len(pods)))
		for _, p := range limit(pods, worstPods) {
			v.edge(v.subject, graph.Selects, j.pod(p))
			v.line("pod %s: %s", p.Name, podState(p))
		}
		return v
	}
	j.ports(v, s, pods)
	j.policies(ctx, v, s, pods)
	return v
}

// noPods tells a selector that finds nothing from a workload without pods.
func (j *judge) noPods(ctx context.Context, v *verdict, s *corev1.Service, sel labels.Selector, none func(string)) {
	if w, zero, ok := j.workloadFor(ctx, s.Namespace, sel); ok {
		v.edge(v.subject, graph.Selects, w)
		if zero {
			none(w.String() + " is scaled to zero")
			v.fault("kube.scaled_to_zero", incident.Warning, 0.85, w, fmt.Sprintf("%s, the only backend of %s, is scaled to zero", w, v.subject), nil)
			return
		}
		none(w.String() + " has no pods")
		return
	}
	near, diff := j.nearestPods(ctx, s)
	none("its selector matches no pod")
	text := fmt.Sprintf("the selector %s of %s matches no pod", sel, v.subject)
	if near != "" {
		text += fmt.Sprintf("; pod %s comes nearest: %s", near, diff)
	}
	v.line("%s", text)
	v.fault("kube.service_selector_mismatch", incident.Critical, 0.92, v.subject, text, params("selector", sel.String(), "nearest", diff))
}

// workloadFor finds a workload whose pod template the selector would match.
func (j *judge) workloadFor(ctx context.Context, namespace string, sel labels.Selector) (incident.Ref, bool, bool) {
	if ds, err := j.src.Deployments(ctx, namespace); err == nil {
		for _, d := range ds {
			if sel.Matches(labels.Set(d.Spec.Template.Labels)) {
				return j.ref("apps", "Deployment", namespace, d.Name), replicasOf(d.Spec.Replicas) == 0, true
			}
		}
	}
	if ss, err := j.src.StatefulSets(ctx, namespace); err == nil {
		for _, s := range ss {
			if sel.Matches(labels.Set(s.Spec.Template.Labels)) {
				return j.ref("apps", "StatefulSet", namespace, s.Name), replicasOf(s.Spec.Replicas) == 0, true
			}
		}
	}
	return incident.Ref{}, false, false
}

// nearestPods finds the running pod that shares the most of the selector, or
// has values for its keys, and says what differs.
func (j *judge) nearestPods(ctx context.Context, s *corev1.Service) (string, string) {
	pods, err := j.src.Pods(ctx, s.Namespace)
	if err != nil {
		return "", ""
	}
	best, score, diff := "", 0, ""
	for _, p := range pods {
		n := 0
		var d []string
		for _, k := range slices.Sorted(maps.Keys(s.Spec.Selector)) {
			have, ok := p.Labels[k]
			switch {
			case ok && have == s.Spec.Selector[k]:
				n += 2
			case ok:
				n++
				d = append(d, fmt.Sprintf("it has %s=%s, not %s", k, have, s.Spec.Selector[k]))
			default:
				d = append(d, "it has no label "+k)
			}
		}
		if n > score {
			best, score, diff = p.Name, n, strings.Join(d, ", ")
		}
	}
	return best, diff
}

// ports finds target ports that the pods do not have. A number that no
// container declares is only reported when every pod declares others.
func (j *judge) ports(v *verdict, s *corev1.Service, pods []*corev1.Pod) {
	for _, port := range s.Spec.Ports {
		target := port.TargetPort
		if target == (intstr.IntOrString{}) {
			target = intstr.FromInt32(port.Port)
		}
		found, declared := false, map[string]bool{}
		undeclared := false
		for _, p := range pods {
			n := 0
			for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
				for _, cp := range c.Ports {
					n++
					declared[strings.Trim(fmt.Sprintf("%s/%d", cp.Name, cp.ContainerPort), "/")] = true
					if (target.Type == intstr.String && cp.Name == target.StrVal) || (target.Type == intstr.Int && cp.ContainerPort == target.IntVal) {
						found = true
					}
				}
			}
			undeclared = undeclared || n == 0
		}
		if found || (target.Type == intstr.Int && undeclared) {
			continue
		}
		conf := 0.93
		if target.Type == intstr.Int {
			// Declaring ports is optional, so a number alone proves less.
			conf = 0.75
		}
		have := strings.Join(slices.Sorted(maps.Keys(declared)), ", ")
		v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("%s leads its port %d to no container", v.subject, port.Port), params("selector", labels.SelectorFromSet(s.Spec.Selector).String()))
		v.fault("kube.service_port_mismatch", incident.Critical, conf, v.subject, fmt.Sprintf("port %d of %s targets %s, which its pods do not have; they have %s", port.Port, v.subject, target.String(), cmp.Or(have, "no ports")), params("port", fmt.Sprint(port.Port), "target_port", target.String()))
	}
}

// policies finds NetworkPolicies that select the pods and let nobody in.
func (j *judge) policies(ctx context.Context, v *verdict, s *corev1.Service, pods []*corev1.Pod) {
	nps, err := j.src.NetworkPolicies(ctx, s.Namespace)
	if err != nil || len(pods) == 0 {
		return
	}
	var isolating []*networkingv1.NetworkPolicy
	open := false
	for _, np := range nps {
		sel, err := metav1.LabelSelectorAsSelector(&np.Spec.PodSelector)
		if err != nil || !sel.Matches(labels.Set(pods[0].Labels)) || !slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) && len(np.Spec.PolicyTypes) > 0 {
			continue
		}
		isolating = append(isolating, np)
		open = open || len(np.Spec.Ingress) > 0
	}
	for _, np := range isolating {
		v.line("NetworkPolicy %s selects its pods: %d rules for traffic to them", np.Name, len(np.Spec.Ingress))
	}
	if len(isolating) == 0 || open {
		return
	}
	np := j.ref("networking.k8s.io", "NetworkPolicy", s.Namespace, isolating[0].Name)
	v.edge(v.subject, graph.IsolatedBy, np)
	v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("nothing can reach the pods of %s", v.subject), nil)
	v.fault("kube.network_policy_blocks", incident.Critical, 0.85, np, fmt.Sprintf("NetworkPolicy %s isolates the pods of %s and no policy allows any traffic to them", np.Path(), v.subject), params("to", v.subject.Path(), "direction", "ingress"))
}

// ingress judges class, backends and TLS secrets of an Ingress.
func (j *judge) ingress(ctx context.Context, i *networkingv1.Ingress) *verdict {
	v := newVerdict(j.ref("networking.k8s.io", "Ingress", i.Namespace, i.Name))
	v.state = "no address"
	if len(i.Status.LoadBalancer.Ingress) > 0 {
		v.state = "has an address"
	}
	class := i.Annotations["kubernetes.io/ingress.class"]
	if i.Spec.IngressClassName != nil {
		class = *i.Spec.IngressClassName
	}
	v.fact("class", class)
	if classes, err := j.src.IngressClasses(ctx); err == nil {
		known, names := false, []string{}
		for _, c := range classes {
			names = append(names, c.Name)
			known = known || c.Name == class || class == "" && c.Annotations["ingressclass.kubernetes.io/is-default-class"] == "true"
		}
		if !known && (i.Spec.IngressClassName != nil || len(i.Status.LoadBalancer.Ingress) == 0) && (class != "" || i.Spec.IngressClassName == nil) {
			what := "names no IngressClass and there is no default one"
			if class != "" {
				what = "names IngressClass " + class + ", which does not exist"
			}
			slices.Sort(names)
			v.fault("kube.ingress_class_missing", incident.Critical, 0.92, v.subject, fmt.Sprintf("%s %s (there is: %s)", v.subject, what, cmp.Or(strings.Join(names, ", "), "none")), params("class", class))
		}
	}
	for _, b := range backends(i) {
		svc := j.ref("", "Service", i.Namespace, b.Name)
		v.edge(v.subject, graph.RoutesTo, svc)
		s, err := j.src.Service(ctx, i.Namespace, b.Name)
		switch {
		case missing(err):
			v.line("backend %s does not exist", svc)
			v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("%s routes to nothing", v.subject), nil)
			v.fault("kube.service_missing", incident.Critical, 0.94, svc, fmt.Sprintf("%s, to which %s routes, does not exist", svc, v.subject), params("wanted_by", v.subject.Path()))
		case err == nil && !hasPort(s, b.Port):
			v.fault("kube.ingress_port_missing", incident.Critical, 0.92, v.subject, fmt.Sprintf("%s routes to port %s of %s, which it does not have", v.subject, portText(b.Port), svc), params("service", b.Name, "port", portText(b.Port)))
		case err == nil:
			j.backend(ctx, v, s)
		}
	}
	for _, t := range i.Spec.TLS {
		if t.SecretName == "" {
			continue
		}
		if _, err := j.src.Secret(ctx, i.Namespace, t.SecretName); missing(err) {
			to := j.ref("", "Secret", i.Namespace, t.SecretName)
			v.edge(v.subject, graph.Uses, to)
			v.fault("kube.ingress_tls_secret_missing", incident.Critical, 0.8, to, fmt.Sprintf("%s, which holds the certificate of %s, does not exist", to, v.subject), params("ingress", i.Name))
		}
	}
	return v
}

// backend says that a route leads to a Service without ready endpoints.
func (j *judge) backend(ctx context.Context, v *verdict, s *corev1.Service) {
	inner := j.service(ctx, s)
	for _, f := range inner.findings {
		if f.Role == incident.Symptom {
			v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("%s routes to %s, which has no ready endpoint", v.subject, inner.subject), nil)
		}
	}
}

func backends(i *networkingv1.Ingress) []networkingv1.IngressServiceBackend {
	var out []networkingv1.IngressServiceBackend
	add := func(b *networkingv1.IngressBackend) {
		if b != nil && b.Service != nil && !slices.Contains(out, *b.Service) {
			out = append(out, *b.Service)
		}
	}
	add(i.Spec.DefaultBackend)
	for _, r := range i.Spec.Rules {
		if r.HTTP != nil {
			for _, p := range r.HTTP.Paths {
				add(&p.Backend)
			}
		}
	}
	return out
}

func hasPort(s *corev1.Service, p networkingv1.ServiceBackendPort) bool {
	return slices.ContainsFunc(s.Spec.Ports, func(sp corev1.ServicePort) bool {
		return p.Name != "" && sp.Name == p.Name || p.Name == "" && sp.Port == p.Number
	})
}

func portText(p networkingv1.ServiceBackendPort) string {
	if p.Name != "" {
		return p.Name
	}
	return fmt.Sprint(p.Number)
}

// gateway judges the conditions and references of Gateway API objects.
func (j *judge) gateway(ctx context.Context, r incident.Ref, u *unstructured.Unstructured) *verdict {
	v := newVerdict(r)
	v.state = "seen"
	if r.Kind == "Gateway" {
		class, _, _ := unstructured.NestedString(u.Object, "spec", "gatewayClassName")
		v.fact("class", class)
		if _, err := j.src.Get(ctx, j.ref(r.Group, "GatewayClass", "", class)); missing(err) {
			v.fault("kube.gateway_class_missing", incident.Critical, 0.93, r, fmt.Sprintf("%s names GatewayClass %s, which does not exist", r, class), params("class", class))
			return v
		}
		for _, c := range conditions(u.Object, "status", "conditions") {
			if (c.kind == "Accepted" || c.kind == "Programmed") && c.status == "False" {
				v.fault("kube.gateway_not_programmed", incident.Critical, 0.88, r, fmt.Sprintf("%s is not %s: %s: %s", r, c.kind, c.reason, c.message), params("reason", c.reason, "message", c.message))
			}
		}
		return v
	}
	parents, _, _ := unstructured.NestedSlice(u.Object, "status", "parents")
	for _, p := range parents {
		m, _ := p.(map[string]any)
		name, _, _ := unstructured.NestedString(m, "parentRef", "name")
		for _, c := range conditions(m, "conditions") {
			if (c.kind == "Accepted" || c.kind == "ResolvedRefs") && c.status == "False" {
				v.fault("kube.route_not_accepted", incident.Critical, 0.9, r, fmt.Sprintf("Gateway %s does not take %s (%s): %s: %s", name, r, c.kind, c.reason, c.message), params("parent", name, "reason", c.reason, "message", c.message))
			}
		}
	}
	refs, _, _ := unstructured.NestedSlice(u.Object, "spec", "parentRefs")
	for _, p := range refs {
		m, _ := p.(map[string]any)
		name, _ := m["name"].(string)
		ns, _ := m["namespace"].(string)
		g := j.ref(r.Group, "Gateway", cmp.Or(ns, r.Namespace), name)
		v.edge(r, graph.RoutesTo, g)
		if _, err := j.src.Get(ctx, g); missing(err) {
			v.fault("kube.route_not_accepted", incident.Critical, 0.9, r, fmt.Sprintf("%s names %s, which does not exist", r, g), params("parent", name, "reason", "NoSuchParent"))
		}
	}
	rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules")
	for _, rule := range rules {
		m, _ := rule.(map[string]any)
		list, _, _ := unstructured.NestedSlice(m, "backendRefs")
		for _, b := range list {
			bm, _ := b.(map[string]any)
			name, _ := bm["name"].(string)
			ns, _ := bm["namespace"].(string)
			if kind, ok := bm["kind"].(string); ok && kind != "Service" {
				continue
			}
			svc := j.ref("", "Service", cmp.Or(ns, r.Namespace), name)
			v.edge(r, graph.RoutesTo, svc)
			s, err := j.src.Service(ctx, svc.Namespace, name)
			if missing(err) {
				v.fault("kube.service_missing", incident.Critical, 0.94, svc, fmt.Sprintf("%s, to which %s routes, does not exist", svc, r), params("wanted_by", r.Path()))
			} else if err == nil {
				j.backend(ctx, v, s)
			}
		}
	}
	return v
}

type cond struct{ kind, status, reason, message string }

func conditions(obj map[string]any, path ...string) []cond {
	list, _, _ := unstructured.NestedSlice(obj, path...)
	var out []cond
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			s := func(k string) string { v, _ := m[k].(string); return v }
			out = append(out, cond{s("type"), s("status"), s("reason"), s("message")})
		}
	}
	return out
}
