package actions

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// routeKinds are what patch_ingress changes, and their fields.
func routeKinds() map[string][]string {
	route := []string{"backend", "backend port", "backendRefs", "weights", "parentRefs"}
	return map[string][]string{
		"Ingress.networking.k8s.io":           {"ingressClassName", "backend", "backend port", "tls secret"},
		"HTTPRoute.gateway.networking.k8s.io": route,
		"GRPCRoute.gateway.networking.k8s.io": route,
		"Gateway.gateway.networking.k8s.io":   {"gatewayClassName", "tls secret"},
	}
}

// routed finds the object of that name among the kinds that are served.
func (c *Cluster) routed(ctx context.Context, p params) (*Object, error) {
	var hits []*Object
	var kinds []string
	for _, kind := range keysOf(routeKinds()) {
		if want := p.str("kind"); want != "" && !strings.HasPrefix(kind, want+".") {
			continue
		}
		o, err := c.Get(ctx, kind, p.str("namespace"), p.str("name"))
		switch {
		case notThere(err):
		case err != nil:
			return nil, err
		default:
			hits = append(hits, o)
			kinds = append(kinds, o.Ref.Kind)
		}
	}
	switch len(hits) {
	case 0:
		return nil, p.missing("name", "there is no Ingress, HTTPRoute, GRPCRoute or Gateway %s/%s", p.str("namespace"), p.str("name"))
	case 1:
		return hits[0], nil
	}
	return nil, p.missing("kind", "%s/%s is several things; say which: %s", p.str("namespace"), p.str("name"), strings.Join(kinds, ", "))
}

func keysOf[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func patchIngress(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.routed(ctx, p)
	if err != nil {
		return nil, err
	}
	fields := routeKinds()[kindOf(o.Ref)]
	field := p.str("field")
	if !slices.Contains(fields, field) {
		return nil, p.missing("field", "say what of %s shall change: %s", o.Ref, strings.Join(fields, ", "))
	}
	if p.str("value") == "" {
		return nil, p.missing("value", "say what %s of %s shall be; %s", field, o.Ref, routeText(o))
	}
	r := &route{c: c, p: p, o: o, after: o.DeepCopy(), value: p.str("value")}
	switch field {
	case "ingressClassName":
		err = r.class(ctx, "IngressClass.networking.k8s.io", "ingressClassName")
	case "gatewayClassName":
		err = r.class(ctx, "GatewayClass.gateway.networking.k8s.io", "gatewayClassName")
	case "parentRefs":
		err = r.parent(ctx)
	case "tls secret":
		err = r.secret()
	case "weights":
		err = r.weights()
	default:
		err = r.backend(ctx, field)
	}
	if err != nil {
		return nil, err
	}
	d := c.draft("%s of %s from %s to %s", r.what, o.Ref, r.from, r.value)
	if err := d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
		u.Object = r.after.Object
		return nil
	}); err != nil {
		return nil, err
	}
	d.Warnings = append(d.Warnings, "requests through "+o.Ref.String()+" take the new way at once")
	d.Verify = []incident.Check{{Kind: CheckExists, Subject: o.Ref, Say: o.Ref.String() + " is there", Within: 30}}
	if r.at != "" {
		d.Verify = []incident.Check{fieldIs(o, r.at, r.fieldValue, "the field says so")}
	}
	if r.service != nil {
		d.Verify = append(d.Verify, incident.Check{Kind: CheckEndpoints, Subject: *r.service, Params: map[string]string{"min": "1"}, Say: r.service.String() + " has ready endpoints", Within: 120})
	}
	return d, nil
}

// route is a change of one object that routes requests.
type route struct {
	c     *Cluster
	p     params
	o     *Object
	after *unstructured.Unstructured
	value string
	// what, from, at and fieldValue describe the change; service is where it leads.
	what, from, at, fieldValue string
	service                    *incident.Ref
}

func (r *route) class(ctx context.Context, kind, field string) error {
	r.from, _, _ = unstructured.NestedString(r.after.Object, "spec", field)
	if r.from == r.value {
		return r.p.missing("value", "%s of %s is %s already", field, r.o.Ref, r.value)
	}
	if _, err := r.c.Get(ctx, kind, "", r.value); err != nil {
		if !notThere(err) {
			return err
		}
		var there []string
		list, _ := r.c.List(ctx, kind, "", "", "") // the names only help
		for _, o := range list {
			there = append(there, o.GetName())
		}
		return r.p.missing("value", "there is no %s %s; there are %s", strings.SplitN(kind, ".", 2)[0], r.value, orNone(strings.Join(there, ", ")))
	}
	r.what, r.at, r.fieldValue = "Change "+field, "spec."+field, r.value
	r.from = orNone(r.from)
	return unstructured.SetNestedField(r.after.Object, r.value, "spec", field)
}

func (r *route) parent(ctx context.Context) error {
	ns, name, ok := strings.Cut(r.value, "/")
	if !ok {
		ns, name = r.o.GetNamespace(), r.value
	}
	if _, err := r.c.Get(ctx, "Gateway.gateway.networking.k8s.io", ns, name); err != nil {
		if notThere(err) {
			return r.p.missing("value", "there is no Gateway %s/%s", ns, name)
		}
		return err
	}
	list, _, _ := unstructured.NestedSlice(r.after.Object, "spec", "parentRefs")
	if len(list) > 1 {
		return r.p.refuse("change it in its manifest", "%s has %d parents, and one cannot be meant by itself", r.o.Ref, len(list))
	}
	if len(list) == 0 {
		list = []any{map[string]any{}}
		r.from = "none"
	}
	m, _ := list[0].(map[string]any)
	if r.from == "" {
		r.from = text(m, "name")
		if n := text(m, "namespace"); n != "" {
			r.from = n + "/" + r.from
		}
	}
	if text(m, "name") == name && (text(m, "namespace") == ns || text(m, "namespace") == "" && ns == r.o.GetNamespace()) {
		return r.p.missing("value", "the parent of %s is Gateway %s/%s already", r.o.Ref, ns, name)
	}
	m["name"] = name
	if delete(m, "namespace"); ns != r.o.GetNamespace() {
		m["namespace"] = ns
	}
	r.what, r.at, r.fieldValue = "Change the parent", "spec.parentRefs[0].name", name
	return unstructured.SetNestedSlice(r.after.Object, list, "spec", "parentRefs")
}

// secret changes the name of the only certificate; the Secret itself is not read.
func (r *route) secret() error {
	if r.o.Ref.Kind == "Gateway" {
		return r.p.refuse("change it in its manifest", "a Gateway has certificates by listener")
	}
	list, _, _ := unstructured.NestedSlice(r.after.Object, "spec", "tls")
	if len(list) != 1 {
		return r.p.refuse("change it in its manifest", "%s has %d entries in tls, and one has to be meant", r.o.Ref, len(list))
	}
	m, _ := list[0].(map[string]any)
	if r.from = orNone(text(m, "secretName")); r.from == r.value {
		return r.p.missing("value", "the certificate of %s is in Secret %s already", r.o.Ref, r.value)
	}
	m["secretName"] = r.value
	r.what, r.at, r.fieldValue = "Change the Secret of the certificate", "spec.tls[0].secretName", r.value
	return unstructured.SetNestedSlice(r.after.Object, list, "spec", "tls")
}

// backends gives the maps that name a backend, the object's own. Those of an Ingress
// are spec.defaultBackend and each path's; those of a route each rule's backendRefs.
func backends(u *unstructured.Unstructured) []map[string]any {
	var out []map[string]any
	service := func(v any) {
		if m, ok := v.(map[string]any); ok {
			if s, ok := m["service"].(map[string]any); ok {
				out = append(out, s)
			}
		}
	}
	spec, _ := u.Object["spec"].(map[string]any)
	service(spec["defaultBackend"])
	rules, _ := spec["rules"].([]any)
	for _, v := range rules {
		rule, _ := v.(map[string]any)
		refs, _ := rule["backendRefs"].([]any)
		for _, b := range refs {
			if m, ok := b.(map[string]any); ok {
				out = append(out, m)
			}
		}
		http, _ := rule["http"].(map[string]any)
		paths, _ := http["paths"].([]any)
		for _, p := range paths {
			if m, ok := p.(map[string]any); ok {
				service(m["backend"])
			}
		}
	}
	return out
}

// port gives or sets the port of a backend, which Ingress and routes write apart.
func backendPort(kind string, m map[string]any) string {
	if kind != "Ingress" {
		if m["port"] == nil {
			return ""
		}
		return fmt.Sprint(m["port"])
	}
	port, _ := m["port"].(map[string]any)
	if n := text(port, "name"); n != "" {
		return n
	}
	if port["number"] == nil {
		return ""
	}
	return fmt.Sprint(port["number"])
}

func setBackendPort(kind string, m map[string]any, port string) {
	v := portValue(port)
	if kind != "Ingress" {
		m["port"] = v
		return
	}
	if _, number := v.(int64); number {
		m["port"] = map[string]any{"number": v}
		return
	}
	m["port"] = map[string]any{"name": port}
}

func routeText(o *Object) string {
	seen := map[string]bool{}
	for _, m := range backends(o.Unstructured) {
		s := text(m, "name") + ":" + backendPort(o.Ref.Kind, m)
		if w, ok := m["weight"]; ok {
			s += fmt.Sprintf(" weight %v", w)
		}
		seen[s] = true
	}
	if len(seen) == 0 {
		return "it has no backend"
	}
	return "its backends are " + some(sorted(seen))
}

// meant are the backends that are changed: those of the named one, or all when they
// are one and the same.
func (r *route) meant() ([]map[string]any, error) {
	name, port, _ := strings.Cut(r.p.str("backend"), ":")
	var out []map[string]any
	names := map[string]bool{}
	for _, m := range backends(r.after) {
		if name != "" && text(m, "name") != name || port != "" && backendPort(r.o.Ref.Kind, m) != port {
			continue
		}
		out = append(out, m)
		names[text(m, "name")+":"+backendPort(r.o.Ref.Kind, m)] = true
	}
	if len(names) != 1 {
		return nil, r.p.missing("backend", "say which backend of %s is meant, as name or name:port; %s", r.o.Ref, routeText(r.o))
	}
	r.from = sorted(names)[0]
	return out, nil
}

func (r *route) backend(ctx context.Context, field string) error {
	list, err := r.meant()
	if err != nil {
		return err
	}
	name, port := text(list[0], "name"), backendPort(r.o.Ref.Kind, list[0])
	if field == "backend port" {
		port = r.value
	} else if n, given, ok := strings.Cut(r.value, ":"); ok {
		name, port = n, given
	} else {
		name = r.value
	}
	kind, namespace := text(list[0], "kind"), text(list[0], "namespace")
	if namespace == "" {
		namespace = r.o.GetNamespace()
	}
	if kind == "" || kind == "Service" {
		if err := r.leadsTo(ctx, namespace, name, port); err != nil {
			return err
		}
	} else {
		// Another kind, such as an InferencePool, has to exist; it has no port of its own here.
		if _, err := r.c.Get(ctx, kind+"."+text(list[0], "group"), namespace, name); err != nil {
			if notThere(err) {
				return r.p.missing("value", "there is no %s %s/%s", kind, namespace, name)
			}
			return err
		}
	}
	to := name + ":" + port
	if to == r.from {
		return r.p.missing("value", "the backend of %s is %s already", r.o.Ref, to)
	}
	for _, m := range list {
		m["name"] = name
		if port != "" {
			setBackendPort(r.o.Ref.Kind, m, port)
		}
	}
	r.what, r.value = "Change the backend", to
	return nil
}

// leadsTo checks that a Service exists and offers the port.
func (r *route) leadsTo(ctx context.Context, namespace, name, port string) error {
	s, err := r.c.Get(ctx, "Service", namespace, name)
	if notThere(err) {
		return r.p.missing("value", "there is no Service %s/%s", namespace, name)
	}
	if err != nil {
		return err
	}
	list, _, _ := unstructured.NestedSlice(s.Object, "spec", "ports")
	var there []string
	for _, v := range list {
		m, _ := v.(map[string]any)
		if fmt.Sprint(m["port"]) == port || r.o.Ref.Kind == "Ingress" && text(m, "name") == port && port != "" {
			r.service = &s.Ref
			return nil
		}
		there = append(there, strings.TrimSpace(fmt.Sprintf("%v %s", m["port"], text(m, "name"))))
	}
	return r.p.missing("value", "%s does not offer port %q; it offers %s (write name:port)", s.Ref, port, orNone(strings.Join(there, ", ")))
}

// weights sets the share of backends of the one rule that has them: name=weight.
func (r *route) weights() error {
	want := map[string]int64{}
	for part := range strings.SplitSeq(r.value, ",") {
		name, w, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.ParseInt(w, 10, 32)
		if err != nil || n < 0 || n > 1_000_000 {
			return r.p.missing("value", "write the weights as name=weight with commas, each from 0 to 1000000; %q is none", part)
		}
		want[name] = n
	}
	seen := map[string]string{}
	sum := int64(0)
	for _, m := range backends(r.after) {
		name := text(m, "name")
		was := "1" // the default of the Gateway API
		if v, ok := m["weight"]; ok {
			was = fmt.Sprint(v)
		}
		n, ok := want[name]
		if !ok {
			old, _ := strconv.ParseInt(was, 10, 64)
			sum += old
			continue
		}
		if before, twice := seen[name]; twice && before != was {
			return r.p.refuse("change it in its manifest", "%s names %s in several rules with different weights", r.o.Ref, name)
		}
		seen[name], m["weight"] = was, n
		sum += n
	}
	for name := range want {
		if _, ok := seen[name]; !ok {
			return r.p.missing("value", "%s has no backend %s; %s", r.o.Ref, name, routeText(r.o))
		}
	}
	if sum == 0 {
		return r.p.missing("value", "all backends would have weight 0, and no request an answer")
	}
	var from []string
	for _, name := range keysOf(seen) {
		from = append(from, name+"="+seen[name])
	}
	if r.from = strings.Join(from, ","); r.from == r.value {
		return r.p.missing("value", "the weights of %s are %s already", r.o.Ref, r.value)
	}
	r.what = "Change the weights"
	return nil
}
