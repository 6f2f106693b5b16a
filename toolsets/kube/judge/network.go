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
	case readyPods == 0 && s.Spec.PublishNotReadyAddresses:
		v.line("it leads to its pods whether they are ready or not")
	case readyPods == 0 && j.comingUp(pods):
		v.line("its %d pods are starting", len(pods))
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

// comingUp reports whether none of the pods is in trouble: they have not had the
// time to become ready.
func (j *judge) comingUp(pods []*corev1.Pod) bool {
	return !slices.ContainsFunc(pods, j.podInTrouble)
}

// noPods tells a selector that finds nothing from a workload without pods.
func (j *judge) noPods(ctx context.Context, v *verdict, s *corev1.Service, sel labels.Selector, none func(string)) {
	w, found, err := j.workloadFor(ctx, s.Namespace, sel)
	if found {
		v.edge(v.subject, graph.Selects, w.ref)
		if w.want == 0 {
			none(w.ref.String() + " " + w.idle)
			code := "kube.scaled_to_zero"
			if w.ref.Kind == "DaemonSet" {
				code = "kube.daemonset_no_nodes"
			}
			v.fault(code, incident.Warning, 0.85, w.ref, fmt.Sprintf("%s, the only backend of %s, %s", w.ref, v.subject, w.idle), params("replicas", j.wasScaled(ctx, w.ref)))
			return
		}
		none(w.ref.String() + " has no pods")
		return
	}
	if err != nil {
		// Whoever makes the pods may only not be seen.
		v.line("workloads cannot be listed: %s", tool.UserText(err))
		none("its selector matches no pod that exists now")
		return
	}
	near, diff := j.nearestPods(ctx, s)
	none("its selector matches no pod")
	text := fmt.Sprintf("the selector %s of %s matches no pod", sel, v.subject)
	if near != "" {
		text += fmt.Sprintf("; pod %s comes nearest: %s", near, diff)
	}
	v.line("%s", text)
	v.fault("kube.service_selector_mismatch", incident.Critical, 0.92, v.subject, text, params("selector", sel.String(), "nearest", diff, "meant", j.meantSelector(ctx, s)))
}

// backing is a workload whose pods a Service would select.
type backing struct {
	ref  incident.Ref
	want int32
	// idle says in words why it has no pods when it wants none.
	idle string
}

// workloadFor finds the workload whose pod template the selector would match, one
// that wants pods before one that wants none. The error is the first list that
// could not be read.
func (j *judge) workloadFor(ctx context.Context, namespace string, sel labels.Selector) (backing, bool, error) {
	var all []backing
	var refused error
	add := func(template map[string]string, b backing) {
		if sel.Matches(labels.Set(template)) {
			all = append(all, b)
		}
	}
	ds, err := j.src.Deployments(ctx, namespace)
	refused = cmp.Or(refused, err)
	for _, d := range ds {
		add(d.Spec.Template.Labels, backing{j.ref("apps", "Deployment", namespace, d.Name), replicasOf(d.Spec.Replicas), "is scaled to zero"})
	}
	ss, err := j.src.StatefulSets(ctx, namespace)
	refused = cmp.Or(refused, err)
	for _, s := range ss {
		add(s.Spec.Template.Labels, backing{j.ref("apps", "StatefulSet", namespace, s.Name), replicasOf(s.Spec.Replicas), "is scaled to zero"})
	}
	ns, err := j.src.DaemonSets(ctx, namespace)
	refused = cmp.Or(refused, err)
	for _, d := range ns {
		add(d.Spec.Template.Labels, backing{j.ref("apps", "DaemonSet", namespace, d.Name), d.Status.DesiredNumberScheduled, "has no node to run on"})
	}
	rs, err := j.src.ReplicaSets(ctx, namespace)
	refused = cmp.Or(refused, err)
	for _, r := range rs {
		if metav1.GetControllerOf(r) == nil {
			add(r.Spec.Template.Labels, backing{j.ref("apps", "ReplicaSet", namespace, r.Name), replicasOf(r.Spec.Replicas), "is scaled to zero"})
		}
	}
	if len(all) == 0 {
		return backing{}, false, refused
	}
	return slices.MaxFunc(all, func(a, b backing) int { return cmp.Compare(min(a.want, 1), min(b.want, 1)) }), true, nil
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
		if target.Type == intstr.Int && s.Spec.ClusterIP == corev1.ClusterIPNone {
			continue // a headless Service translates no port
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
		if found || (target.Type == intstr.Int && (undeclared || probed(pods, target.IntVal))) {
			continue
		}
		conf := 0.93
		if target.Type == intstr.Int {
			// Declaring ports is optional, so a number alone proves less.
			conf = 0.75
		}
		have := strings.Join(slices.Sorted(maps.Keys(declared)), ", ")
		v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("%s leads its port %d to no container", v.subject, port.Port), params("selector", labels.SelectorFromSet(s.Spec.Selector).String()))
		v.fault("kube.service_port_mismatch", incident.Critical, conf, v.subject, fmt.Sprintf("port %d of %s targets %s, which its pods do not have; they have %s", port.Port, v.subject, target.String(), cmp.Or(have, "no ports")), params("port", fmt.Sprint(port.Port), "target_port", target.String(), "to", sole(declared)))
	}
}

// probed reports whether the kubelet asks this port of a pod that is ready: then
// something listens there, declared or not.
func probed(pods []*corev1.Pod, port int32) bool {
	return slices.ContainsFunc(pods, func(p *corev1.Pod) bool {
		return ready(p) && slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
			return slices.ContainsFunc([]*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe}, func(pr *corev1.Probe) bool {
				at, ok := portOf(pr)
				return ok && at.Type == intstr.Int && at.IntVal == port
			})
		})
	})
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
	// A controller needs a moment to take an Ingress up and to give it an address.
	young := j.now().Sub(i.CreationTimestamp.Time) < 4*settle
	if classes, err := j.src.IngressClasses(ctx); err == nil {
		known, names := false, []string{}
		for _, c := range classes {
			names = append(names, c.Name)
			known = known || c.Name == class || class == "" && c.Annotations["ingressclass.kubernetes.io/is-default-class"] == "true"
		}
		// The old annotation, and none at all, may mean a controller that needs no
		// IngressClass: only one that gives no address tells.
		if !known && (i.Spec.IngressClassName != nil || len(i.Status.LoadBalancer.Ingress) == 0 && !young) {
			what, conf := "names no IngressClass and there is no default one", 0.8
			if class != "" {
				what, conf = "names IngressClass "+class+", which does not exist", 0.92
			}
			slices.Sort(names)
			v.fault("kube.ingress_class_missing", incident.Critical, conf, v.subject, fmt.Sprintf("%s %s (there is: %s)", v.subject, what, cmp.Or(strings.Join(names, ", "), "none")), params("class", cmp.Or(class, "none"), "meant", oneClass(class, names)))
		}
	}
	j.controller(ctx, v, i, class)
	for _, b := range backends(i) {
		svc := j.ref("", "Service", i.Namespace, b.Name)
		v.edge(v.subject, graph.RoutesTo, svc)
		s, err := j.src.Service(ctx, i.Namespace, b.Name)
		switch {
		case missing(err):
			v.line("backend %s does not exist", svc)
			v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("%s routes to nothing", v.subject), params("selector", svc.Path()))
			v.fault("kube.service_missing", incident.Critical, 0.94, svc, fmt.Sprintf("%s, to which %s routes, does not exist", svc, v.subject), params("wanted_by", v.subject.Path()))
		case err == nil && s.Spec.Type != corev1.ServiceTypeExternalName && !hasPort(s, b.Port):
			v.fault("kube.ingress_port_missing", incident.Critical, 0.92, v.subject, fmt.Sprintf("%s routes to port %s of %s, which it does not have", v.subject, portText(b.Port), svc), params("service", b.Name, "port", portText(b.Port)))
		case err == nil:
			j.backend(ctx, v, s)
		}
	}
	for _, t := range i.Spec.TLS {
		// A certificate that was just asked for is not there yet.
		if t.SecretName == "" || young {
			continue
		}
		if _, err := j.src.Secret(ctx, i.Namespace, t.SecretName); missing(err) {
			to := j.ref("", "Secret", i.Namespace, t.SecretName)
			v.edge(v.subject, graph.Uses, to)
			v.fault("kube.ingress_tls_secret_missing", incident.Critical, 0.8, to, fmt.Sprintf("%s, which holds the certificate of %s, does not exist", to, v.subject), params("ingress", i.Name))
		}
		j.certificate(ctx, v, i.Namespace, t.SecretName)
	}
	return v
}

// backend says that a route leads to a Service without ready endpoints.
func (j *judge) backend(ctx context.Context, v *verdict, s *corev1.Service) {
	inner := j.service(ctx, s)
	for _, f := range inner.findings {
		if f.Role == incident.Symptom {
			v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("%s routes to %s, which has no ready endpoint", v.subject, inner.subject), f.Params)
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
