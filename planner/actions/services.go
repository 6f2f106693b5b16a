package actions

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// services are the actions on how traffic finds pods.
func services(c *Cluster) []*action {
	object := func(what string, more ...planner.Param) []planner.Param {
		return append([]planner.Param{
			{Name: "namespace", Required: true, Text: "its namespace"},
			{Name: "name", Required: true, Object: true, Text: what},
		}, more...)
	}
	rights := []planner.Right{{Resources: []string{"services"}, Verbs: []string{"get", "patch"}}}
	const verify = "the Service has ready endpoints"
	const docs = "kubernetes.io/docs/concepts/services-networking/"
	return []*action{
		{c: c, compile: serviceSelector, info: planner.Info{
			Name: "patch_service_selector", Family: planner.Settings, Text: "Correct a Service's selector",
			Params: object("the Service", planner.Param{Name: "selector", Text: "the labels of the pods, key=value with commas; without, those of the workload that comes nearest"}),
			Risk:   incident.RiskMedium, Rights: rights, Undo: "the selector is put back", Verify: verify, Sources: []string{docs + "service"},
		}},
		{c: c, compile: servicePort, info: planner.Info{
			Name: "patch_service_port", Family: planner.Settings, Text: "Correct a Service's target port",
			Params: object("the Service", planner.Param{Name: "port", Text: "the Service's port, by number or name"}, planner.Param{Name: "target_port", Text: "the pods' port, by number or name; without, the only one that they declare"}),
			Risk:   incident.RiskMedium, Rights: rights, Undo: "the target port is put back", Verify: verify, Sources: []string{docs + "service, target ports"},
		}},
		{c: c, compile: patchIngress, info: planner.Info{
			Name: "patch_ingress", Family: planner.Settings, Text: "Correct class, backend or TLS of an Ingress or route",
			Params: object("the Ingress, HTTPRoute, GRPCRoute or Gateway",
				planner.Param{Name: "field", Text: "ingressClassName, backend, backend port, backendRefs, weights, tls secret, gatewayClassName or parentRefs"},
				planner.Param{Name: "kind", Values: []string{"Ingress", "HTTPRoute", "GRPCRoute", "Gateway"}, Text: "which kind it is; needed where several have the name"},
				planner.Param{Name: "value", Text: "the class, the backend's name, name:port, the port, name=weight with commas, or namespace/name of a Gateway"},
				planner.Param{Name: "backend", Text: "the backend that is changed; needed where there are several"}),
			Risk: incident.RiskMedium, Rights: []planner.Right{
				{Group: "networking.k8s.io", Resources: []string{"ingresses"}, Verbs: []string{"get", "patch"}},
				{Group: "gateway.networking.k8s.io", Resources: []string{"httproutes", "grpcroutes", "gateways"}, Verbs: []string{"get", "patch"}},
			},
			Undo: "the field is put back", Verify: "the backend has ready endpoints, or the field says so", Sources: []string{docs + "ingress", "gateway-api.sigs.k8s.io/reference/spec"},
		}},
	}
}

// generated are labels that one pod or one revision has: a Service does not select by them.
func generated() []string {
	return []string{hashLabel, revisionLabel, "pod-template-generation", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "batch.kubernetes.io/controller-uid", "controller-uid"}
}

func serviceSelector(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, "Service", p.str("namespace"), p.str("name"))
	if err != nil {
		return nil, err
	}
	now, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector")
	if len(now) == 0 {
		return nil, p.refuse("correct its EndpointSlices, or whoever writes them", "%s has no selector: somebody else gives it endpoints", o.Ref)
	}
	var next map[string]string
	chosen := ""
	if s := p.str("selector"); s != "" {
		if next, err = labels.ConvertSelectorToLabelsMap(s); err != nil {
			return nil, p.missing("selector", "write it as key=value,key=value: %v", err)
		}
	}
	// A proposal names the selector that matches nothing.
	if next == nil || maps.Equal(next, now) {
		if next, chosen, err = c.nearest(ctx, p, o, now); err != nil {
			return nil, err
		}
	}
	pods, err := c.List(ctx, "Pod", o.GetNamespace(), labels.SelectorFromSet(next).String(), "")
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, p.missing("selector", "%s matches no pod of namespace %s; the pods have %s", labels.Set(next), o.GetNamespace(), c.labelsThere(ctx, o.GetNamespace()))
	}
	d := c.draft("Change the selector of %s from %s to %s, which matches %d pod(s)", o.Ref, labels.Set(now), labels.Set(next), len(pods))
	if err := d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
		return unstructured.SetNestedStringMap(u.Object, next, "spec", "selector")
	}); err != nil {
		return nil, err
	}
	if chosen != "" {
		d.Warnings = append(d.Warnings, chosen)
	}
	return d, d.leads(ctx, o)
}

// leads adds what proves that a Service leads somewhere, and who is led elsewhere.
func (d *draft) leads(ctx context.Context, o *Object) error {
	d.Verify = []incident.Check{{Kind: CheckEndpoints, Subject: o.Ref, Params: map[string]string{"min": "1"}, Say: o.Ref.String() + " has ready endpoints", Within: 120}}
	before, err := d.c.selected(ctx, o)
	if err != nil {
		return err
	}
	n := 0
	for _, p := range before {
		if podReady(p) {
			n++
		}
	}
	if n > 0 {
		d.Warnings = append(d.Warnings, fmt.Sprintf("the Service leads to %d ready pod(s) now: connections to them go elsewhere", n))
	}
	return nil
}

// nearest is the selector of the one workload whose pods come nearest to a selector
// that matches none: it shares most of its keys, and values count more. There has to
// be exactly one such workload.
func (c *Cluster) nearest(ctx context.Context, p params, o *Object, now map[string]string) (map[string]string, string, error) {
	list, err := c.List(ctx, "Pod", o.GetNamespace(), "", "")
	if err != nil {
		return nil, "", err
	}
	type candidate struct {
		ref   incident.Ref
		score int
		next  map[string]string
	}
	var best []candidate
	up := c.climber()
	for _, u := range list {
		pod, err := as[corev1.Pod](u)
		if err != nil {
			return nil, "", err
		}
		if labels.SelectorFromSet(now).Matches(labels.Set(pod.Labels)) {
			return nil, "", p.missing("selector", "the selector %s of %s matches pod %s; say which labels it shall select instead", labels.Set(now), o.Ref, pod.Name)
		}
		root, ok := up.root(ctx, pod)
		if !ok || ended(pod) {
			continue
		}
		x := candidate{ref: root, next: map[string]string{}}
		for k, v := range now {
			got, ok := pod.Labels[k]
			switch {
			case ok && got == v:
				x.score += 3
			case ok:
				x.score++
			default:
				continue
			}
			x.next[k] = got
		}
		if x.score == 0 || slices.ContainsFunc(best, func(b candidate) bool { return b.ref == x.ref }) {
			continue
		}
		switch {
		case len(best) == 0 || x.score > best[0].score:
			best = []candidate{x}
		case x.score == best[0].score:
			best = append(best, x)
		}
	}
	if len(best) != 1 {
		var names []string
		for _, b := range best {
			names = append(names, fmt.Sprintf("%s (%s)", b.ref, labels.Set(b.next)))
		}
		if len(names) == 0 {
			names = []string{"pods have " + c.labelsThere(ctx, o.GetNamespace())}
		}
		return nil, "", p.missing("selector", "no single workload comes near the selector %s of %s: %s", labels.Set(now), o.Ref, strings.Join(names, ", "))
	}
	others, err := c.strangers(ctx, o.GetNamespace(), best[0].next, best[0].ref)
	if err != nil {
		return nil, "", err
	}
	if others > 0 {
		return nil, "", p.missing("selector", "%s comes nearest, but %s would match %d pod(s) of others too", best[0].ref, labels.Set(best[0].next), others)
	}
	return best[0].next, fmt.Sprintf("the selector was chosen by gumshoe: %s is the one workload whose pods come near it", best[0].ref), nil
}

// strangers counts the pods that a selector matches and that are not of a workload.
func (c *Cluster) strangers(ctx context.Context, namespace string, sel map[string]string, mine incident.Ref) (int, error) {
	list, err := c.List(ctx, "Pod", namespace, labels.SelectorFromSet(sel).String(), "")
	if err != nil {
		return 0, err
	}
	n := 0
	up := c.climber()
	for _, u := range list {
		pod, err := as[corev1.Pod](u)
		if err != nil {
			return 0, err
		}
		if root, _ := up.root(ctx, pod); root != mine {
			n++
		}
	}
	return n, nil
}

// labelsThere says which sets of labels the pods of a namespace have.
func (c *Cluster) labelsThere(ctx context.Context, namespace string) string {
	list, err := c.List(ctx, "Pod", namespace, "", "")
	if err != nil {
		return "labels that cannot be listed"
	}
	seen := map[string]bool{}
	for _, u := range list {
		l := maps.Clone(u.GetLabels())
		maps.DeleteFunc(l, func(k, _ string) bool { return slices.Contains(generated(), k) })
		if len(l) > 0 {
			seen["{"+labels.Set(l).String()+"}"] = true
		}
	}
	if len(seen) == 0 {
		return "no labels"
	}
	return some(sorted(seen))
}

func servicePort(ctx context.Context, c *Cluster, p params) (*draft, error) {
	o, err := c.Get(ctx, "Service", p.str("namespace"), p.str("name"))
	if err != nil {
		return nil, err
	}
	i, m, err := portOf(p, o)
	if err != nil {
		return nil, err
	}
	now := fmt.Sprint(m["port"]) // the target is the port itself when it is not given
	if v, ok := m["targetPort"]; ok && fmt.Sprint(v) != "0" {
		now = fmt.Sprint(v)
	}
	pods, err := c.selected(ctx, o)
	if err != nil {
		return nil, err
	}
	numbers, names := declared(pods)
	next, chosen := p.str("target_port"), ""
	if next == "" || next == now { // a proposal names the port that the pods do not have
		if slices.Contains(numbers, now) || slices.Contains(names, now) {
			return nil, p.missing("target_port", "the pods have port %s; say which they shall be asked at: numbers %s, names %s", now, orNone(strings.Join(numbers, ", ")), orNone(strings.Join(names, ", ")))
		}
		if next, chosen = onlyPort(m, numbers, names); next == "" {
			return nil, p.missing("target_port", "say the pods' port; they declare the numbers %s and the names %s", orNone(strings.Join(numbers, ", ")), orNone(strings.Join(names, ", ")))
		}
	}
	_, number := portValue(next).(int64)
	if !number && !slices.Contains(names, next) {
		return nil, p.missing("target_port", "no pod has a port named %s; the names are %s, the numbers %s", next, orNone(strings.Join(names, ", ")), orNone(strings.Join(numbers, ", ")))
	}
	d := c.draft("Change the target port of port %v of %s from %s to %s", m["port"], o.Ref, now, next)
	if err := d.patch(o, d.Say, func(u *unstructured.Unstructured) error {
		list, _, _ := unstructured.NestedSlice(u.Object, "spec", "ports")
		list[i].(map[string]any)["targetPort"] = portValue(next)
		return unstructured.SetNestedSlice(u.Object, list, "spec", "ports")
	}); err != nil {
		return nil, err
	}
	if number && !slices.Contains(numbers, next) {
		d.Warnings = append(d.Warnings, "no container declares port "+next+": whether one listens there is not known")
	}
	if chosen != "" {
		d.Warnings = append(d.Warnings, chosen)
	}
	d.Verify = []incident.Check{
		fieldIs(o, fmt.Sprintf("spec.ports[%d].targetPort", i), next, "the target port is "+next),
		{Kind: CheckEndpoints, Subject: o.Ref, Params: map[string]string{"min": "1"}, Say: o.Ref.String() + " has ready endpoints", Within: 120},
	}
	return d, nil
}

// portOf finds the port of a Service that is meant.
func portOf(p params, o *Object) (int, map[string]any, error) {
	list, _, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
	var there []string
	at := -1
	for i, v := range list {
		m, _ := v.(map[string]any)
		there = append(there, strings.TrimSpace(fmt.Sprintf("%v %s", m["port"], text(m, "name"))))
		if want := p.str("port"); want == "" && len(list) == 1 || want != "" && (fmt.Sprint(m["port"]) == want || text(m, "name") == want) {
			at = i
		}
	}
	if at < 0 {
		return 0, nil, p.missing("port", "say which port of %s; it has %s", o.Ref, strings.Join(there, ", "))
	}
	return at, list[at].(map[string]any), nil
}

// declared lists the ports that the containers of pods declare.
func declared(pods []*corev1.Pod) (numbers, names []string) {
	n, m := map[string]bool{}, map[string]bool{}
	for _, p := range pods {
		for _, k := range p.Spec.Containers {
			for _, port := range k.Ports {
				n[fmt.Sprint(port.ContainerPort)] = true
				if port.Name != "" {
					m[port.Name] = true
				}
			}
		}
	}
	return sorted(n), sorted(m)
}

// onlyPort is the port that must be meant: the one of the Service port's own name or
// number, or the only one that is declared.
func onlyPort(m map[string]any, numbers, names []string) (port, why string) {
	switch n, own := text(m, "name"), fmt.Sprint(m["port"]); {
	case n != "" && slices.Contains(names, n):
		return n, "the target port was chosen by gumshoe: the pods have a port of the same name"
	case slices.Contains(numbers, own):
		return own, "the target port was chosen by gumshoe: the pods have a port of the same number"
	case len(numbers) == 1:
		return numbers[0], "the target port was chosen by gumshoe: it is the only one that the pods declare"
	}
	return "", ""
}
