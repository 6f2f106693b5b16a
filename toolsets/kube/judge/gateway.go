package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// gatewayGroup is the API group of the Gateway API.
const gatewayGroup = "gateway.networking.k8s.io"

// gateway judges the conditions and references of Gateway API objects.
func (j *judge) gateway(ctx context.Context, r incident.Ref, u *unstructured.Unstructured) *verdict {
	v := newVerdict(r)
	v.state = "seen"
	if r.Kind == "Gateway" {
		j.gatewayItself(ctx, v, u)
	} else {
		j.route(ctx, v, u)
	}
	return v
}

func (j *judge) gatewayItself(ctx context.Context, v *verdict, u *unstructured.Unstructured) {
	class, _, _ := unstructured.NestedString(u.Object, "spec", "gatewayClassName")
	v.fact("class", class)
	gc, err := j.src.Get(ctx, j.ref(gatewayGroup, "GatewayClass", "", class))
	if missing(err) {
		v.fault("kube.gateway_class_missing", incident.Critical, 0.93, v.subject, fmt.Sprintf("%s names GatewayClass %s, which does not exist", v.subject, class), params("class", class))
		return
	}
	blame := func(conf float64, reason, message, text string) {
		v.line("%s", text)
		v.fault("kube.gateway_not_programmed", incident.Critical, conf, v.subject, text, params("reason", cmp.Or(reason, "NotProgrammed"), "message", cmp.Or(message, text)))
	}
	young := j.now().Sub(u.GetCreationTimestamp().Time) < 4*settle
	if gc != nil {
		for _, c := range conditions(gc.Object, "status", "conditions") {
			if c.kind == "Accepted" && c.status == "False" {
				blame(0.88, c.reason, c.message, fmt.Sprintf("GatewayClass %s of %s is not accepted: %s: %s", class, v.subject, c.reason, c.message))
				return
			}
		}
	}
	for _, c := range conditions(u.Object, "status", "conditions") {
		if c.old(u) || c.kind != "Accepted" && c.kind != "Programmed" {
			continue
		}
		switch {
		case c.status == "False" && (!young || c.reason != "Pending"):
			blame(0.88, c.reason, c.message, fmt.Sprintf("%s is not %s: %s: %s", v.subject, c.kind, c.reason, c.message))
		case c.status == "Unknown" && !young:
			// The state in which the API server leaves a Gateway that nobody takes up.
			blame(0.75, c.reason, c.message, fmt.Sprintf("no controller has taken %s up (%s is Unknown: %s)", v.subject, c.kind, cmp.Or(c.message, c.reason)))
		}
	}
	listeners, _, _ := unstructured.NestedSlice(u.Object, "status", "listeners")
	for _, l := range listeners {
		m, _ := l.(map[string]any)
		name, _ := m["name"].(string)
		for _, c := range conditions(m, "conditions") {
			if c.old(u) || young && c.reason == "Pending" {
				continue
			}
			sound := []string{"Accepted", "Programmed", "ResolvedRefs"}
			if slices.Contains(sound, c.kind) && c.status == "False" || c.kind == "Conflicted" && c.status == "True" {
				blame(0.85, c.reason, c.message, fmt.Sprintf("listener %s of %s: %s is %s: %s: %s", name, v.subject, c.kind, c.status, c.reason, c.message))
			}
		}
	}
}

// route judges an HTTPRoute or GRPCRoute: do its parents take it, do its backends
// exist, have the ports and serve.
func (j *judge) route(ctx context.Context, v *verdict, u *unstructured.Unstructured) {
	r := v.subject
	refused := func(conf float64, parent, reason, message, text string) {
		v.line("%s", text)
		v.fault("kube.route_not_accepted", incident.Critical, conf, r, text, params("parent", parent, "reason", cmp.Or(reason, "NotAccepted"), "message", cmp.Or(message, text)))
	}
	parents, _, _ := unstructured.NestedSlice(u.Object, "status", "parents")
	for _, p := range parents {
		m, _ := p.(map[string]any)
		name, _, _ := unstructured.NestedString(m, "parentRef", "name")
		for _, c := range conditions(m, "conditions") {
			if (c.kind == "Accepted" || c.kind == "ResolvedRefs") && c.status == "False" && !c.old(u) {
				refused(0.9, name, c.reason, c.message, fmt.Sprintf("Gateway %s does not take %s (%s): %s: %s", name, r, c.kind, c.reason, c.message))
			}
		}
	}
	gone := false
	var asked []string
	refs, _, _ := unstructured.NestedSlice(u.Object, "spec", "parentRefs")
	for _, p := range refs {
		m, _ := p.(map[string]any)
		s := func(k string) string { x, _ := m[k].(string); return x }
		if cmp.Or(s("kind"), "Gateway") != "Gateway" || cmp.Or(s("group"), gatewayGroup) != gatewayGroup {
			continue // a Service of a mesh
		}
		g := j.ref(gatewayGroup, "Gateway", cmp.Or(s("namespace"), r.Namespace), s("name"))
		v.edge(r, graph.RoutesTo, g)
		asked = append(asked, g.String())
		if _, err := j.src.Get(ctx, g); missing(err) {
			gone = true
			refused(0.9, g.Name, "NoSuchParent", "", fmt.Sprintf("%s names %s, which does not exist", r, g))
		}
	}
	if len(parents) == 0 && len(asked) > 0 && !gone && j.now().Sub(u.GetCreationTimestamp().Time) > 4*settle {
		refused(0.7, strings.Join(asked, ", "), "Pending", "", fmt.Sprintf("no controller has taken %s up for %s", r, strings.Join(asked, ", ")))
	}
	rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules")
	for _, rule := range rules {
		m, _ := rule.(map[string]any)
		list, _, _ := unstructured.NestedSlice(m, "backendRefs")
		for _, b := range list {
			bm, _ := b.(map[string]any)
			j.routeBackend(ctx, v, bm)
		}
	}
}

func (j *judge) routeBackend(ctx context.Context, v *verdict, b map[string]any) {
	r := v.subject
	s := func(k string) string { x, _ := b[k].(string); return x }
	if cmp.Or(s("kind"), "Service") != "Service" || s("group") != "" {
		return
	}
	svc := j.ref("", "Service", cmp.Or(s("namespace"), r.Namespace), s("name"))
	v.edge(r, graph.RoutesTo, svc)
	have, err := j.src.Service(ctx, svc.Namespace, svc.Name)
	port := number(b, "port")
	switch {
	case missing(err):
		v.line("backend %s does not exist", svc)
		v.symptom("kube.service_no_endpoints", incident.Warning, fmt.Sprintf("%s routes to nothing", r), params("selector", svc.Path()))
		v.fault("kube.service_missing", incident.Critical, 0.94, svc, fmt.Sprintf("%s, to which %s routes, does not exist", svc, r), params("wanted_by", r.Path()))
	case err != nil:
	case port > 0 && have.Spec.Type != corev1.ServiceTypeExternalName && !slices.ContainsFunc(have.Spec.Ports, func(p corev1.ServicePort) bool { return int64(p.Port) == port }):
		v.fault("kube.ingress_port_missing", incident.Critical, 0.92, r, fmt.Sprintf("%s routes to port %d of %s, which it does not have", r, port, svc), params("service", svc.Name, "port", fmt.Sprint(port)))
	default:
		j.backend(ctx, v, have)
	}
}

// cond is a condition of an object that is read without its type.
type cond struct {
	kind, status, reason, message string
	// seen is the generation of the object that the condition is about.
	seen int64
}

// old reports a condition about an earlier generation of the object.
func (c cond) old(u *unstructured.Unstructured) bool { return c.seen > 0 && c.seen < u.GetGeneration() }

func conditions(obj map[string]any, path ...string) []cond {
	list, _, _ := unstructured.NestedSlice(obj, path...)
	var out []cond
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			s := func(k string) string { v, _ := m[k].(string); return v }
			out = append(out, cond{s("type"), s("status"), s("reason"), s("message"), number(m, "observedGeneration")})
		}
	}
	return out
}
