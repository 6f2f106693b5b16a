package serving

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

const (
	gatewayGroup = "gateway.networking.k8s.io"
	poolGroup    = "inference.networking.k8s.io"
	oldPoolGroup = "inference.networking.x-k8s.io"
)

// RouteIn names an InferencePool, or an HTTPRoute that leads to some.
type RouteIn struct {
	Kind      string `json:"kind" jsonschema:"InferencePool or HTTPRoute"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Group     string `json:"group,omitempty"`
}

func (t *Toolset) routeTool() (tool.Tool, error) {
	return read("serving_route", func(ctx context.Context, in RouteIn) (tool.Output[Judged], error) {
		v, err := t.judgeRoute(ctx, in)
		if err != nil {
			return tool.Output[Judged]{}, err
		}
		d, text := v.judged()
		return tool.Output[Judged]{Data: d, Text: text, Findings: v.findings, Edges: v.edges}, nil
	})
}

func (t *Toolset) judgeRoute(ctx context.Context, in RouteIn) (*verdict, error) {
	kind, group, _ := strings.Cut(in.Kind, ".")
	group = cmp.Or(in.Group, group)
	switch kind {
	case "HTTPRoute":
		ref := t.ref(gatewayGroup, kind, in.Namespace, in.Name)
		u, err := t.objects.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		v := newVerdict(ref)
		v.system, v.state = "Gateway API", healthy
		t.httpRoute(ctx, v, u)
		if v.sick() {
			v.state = failed
		}
		return v, nil
	case "InferencePool":
		ref, u, err := t.findPool(ctx, group, in.Namespace, in.Name)
		if err != nil {
			return nil, err
		}
		v := newVerdict(ref)
		v.system, v.state = "Gateway API Inference Extension", healthy
		t.pool(ctx, v, u)
		if v.sick() {
			v.state = failed
		}
		return v, nil
	}
	return nil, tool.Errorf(tool.Invalid, "serving_route takes an InferencePool or an HTTPRoute, not %q", in.Kind)
}

// findPool reads a pool of whichever group has it.
func (t *Toolset) findPool(ctx context.Context, group, namespace, name string) (incident.Ref, *unstructured.Unstructured, error) {
	var last error = &tool.Error{Kind: tool.NotServed, User: "the API server has no InferencePool"}
	for _, g := range []string{poolGroup, oldPoolGroup} {
		if group != "" && g != group {
			continue
		}
		if _, ok := t.served(ctx, g, "InferencePool"); !ok {
			continue
		}
		ref := t.ref(g, "InferencePool", namespace, name)
		u, err := t.objects.Get(ctx, ref)
		if err == nil {
			return ref, u, nil
		}
		last = err
	}
	return incident.Ref{}, nil, last
}

// poolSelector reads a pool's selector in both generations of its API: v1 has
// matchLabels below it, v1alpha2 the labels themselves.
func poolSelector(u *unstructured.Unstructured) map[string]string {
	if m := wordsAt(u.Object, "spec", "selector", "matchLabels"); len(m) > 0 {
		return m
	}
	m := wordsAt(u.Object, "spec", "selector")
	delete(m, "matchLabels")
	return m
}

// poolPorts reads the ports that requests are sent to.
func poolPorts(u *unstructured.Unstructured) []int64 {
	var out []int64
	for _, p := range mapsAt(u.Object, "spec", "targetPorts") {
		if n := whole(p["number"]); n > 0 {
			out = append(out, n)
		}
	}
	if n, ok := number(u.Object, "spec.targetPortNumber"); ok && len(out) == 0 {
		out = append(out, n)
	}
	return out
}

// pool judges an InferencePool: whom it selects, by which port, and who picks.
func (t *Toolset) pool(ctx context.Context, v *verdict, u *unstructured.Unstructured) {
	t.conditions(v, u, conditionsOf(u))
	want := poolSelector(u)
	ports := poolPorts(u)
	v.line("selects %s in namespace %s, target ports %v", labels.Set(want).String(), u.GetNamespace(), ports)
	t.picker(ctx, v, u)
	if len(want) == 0 {
		v.fault("serving.pool_selects_nothing", 0.93, v.subject, fmt.Sprintf("%s has no selector, so it selects no pod", v.subject), params("selector", "(none)", "near", ""))
		return
	}
	pods, err := t.pods.Matching(ctx, u.GetNamespace(), labels.SelectorFromSet(want))
	if err != nil {
		v.line("its pods cannot be read: %s", tool.UserText(err))
		return
	}
	pods = slices.DeleteFunc(slices.Clone(pods), over)
	if len(pods) == 0 {
		t.selectsNothing(ctx, v, u, want)
		return
	}
	up := readyCount(pods)
	v.line("%d pods selected, %d ready", len(pods), up)
	if up == 0 {
		v.symptom("serving.no_endpoint", fmt.Sprintf("none of the %d pods that %s selects is ready", len(pods), v.subject), params("container", "", "line", "", "mode", "F67", "meaning", "", "way", "", "count", fmt.Sprint(len(pods))))
	}
	t.selects(v, pods)
	t.poolPort(v, pods, ports)
	t.poolModels(v, pods)
}

// selects ties a pool to its pods, those in trouble first.
func (t *Toolset) selects(v *verdict, pods []*corev1.Pod) {
	bad, fine := 0, 0
	for _, p := range pods {
		if ready(p) {
			if fine++; fine > finePods {
				continue
			}
		} else if bad++; bad > worstPods {
			continue
		}
		v.line("pod %s on %s: %s", p.Name, cmp.Or(p.Spec.NodeName, "no node"), podWord(p))
		v.edge(v.subject, graph.Selects, t.podRef(p))
	}
}

// selectsNothing tells a wrong selector from pods that are not there: a workload
// whose template fits the selector has yet to make them.
func (t *Toolset) selectsNothing(ctx context.Context, v *verdict, u *unstructured.Unstructured, want map[string]string) {
	sel := labels.SelectorFromSet(want)
	for _, k := range []struct {
		group, kind string
		template    [][]string
	}{
		{"apps", "Deployment", [][]string{{"spec", "template", "metadata", "labels"}}}, {"apps", "StatefulSet", [][]string{{"spec", "template", "metadata", "labels"}}},
		{"leaderworkerset.x-k8s.io", "LeaderWorkerSet", [][]string{{"spec", "leaderWorkerTemplate", "leaderTemplate", "metadata", "labels"}, {"spec", "leaderWorkerTemplate", "workerTemplate", "metadata", "labels"}}},
	} {
		if _, ok := t.served(ctx, k.group, k.kind); !ok {
			continue
		}
		all, err := t.objects.List(ctx, k.group, k.kind, u.GetNamespace(), "")
		if err != nil {
			continue
		}
		for _, o := range all {
			for _, path := range k.template {
				if l := wordsAt(o.Object, path...); len(l) > 0 && sel.Matches(labels.Set(l)) {
					to := t.ref(k.group, k.kind, o.GetNamespace(), o.GetName())
					v.line("%s would make such pods and has none", to)
					v.edge(v.subject, graph.Selects, to)
					if n, ok := number(o.Object, "spec.replicas"); ok && n == 0 {
						v.fault("serving.scaled_to_zero", 0.9, to, fmt.Sprintf("%s is scaled to zero, so %s has no engine", to, v.subject), params("wanted_by", v.subject.Path()))
					}
					v.symptom("serving.no_endpoint", fmt.Sprintf("%s selects pods of %s, which has none", v.subject, to), params("container", "", "line", "", "mode", "F67", "meaning", "", "way", "", "count", "0"))
					return
				}
			}
		}
	}
	near := t.nearPods(ctx, u.GetNamespace(), want)
	msg := fmt.Sprintf("%s selects %s and no pod in namespace %s has these labels", v.subject, sel, u.GetNamespace())
	if near != "" {
		msg += "; " + near
	}
	v.symptom("serving.no_endpoint", fmt.Sprintf("%s has no pod", v.subject), params("container", "", "line", "", "mode", "F67", "meaning", "", "way", "", "count", "0"))
	v.fault("serving.pool_selects_nothing", 0.93, v.subject, msg, params("selector", sel.String(), "near", near))
}

// nearPods names pods that miss the selector by little: one label, or the namespace.
func (t *Toolset) nearPods(ctx context.Context, namespace string, want map[string]string) string {
	all, err := t.pods.Matching(ctx, namespace, labels.Everything())
	if err != nil {
		return ""
	}
	best, off := "", 99
	for _, p := range all {
		if _, serving := engineOf(p); !serving && !usesGPU(p) || over(p) {
			continue
		}
		var miss []string
		for _, k := range sortedKeys(want) {
			if have, ok := p.Labels[k]; !ok {
				miss = append(miss, fmt.Sprintf("%s=%s is missing", k, want[k]))
			} else if have != want[k] {
				miss = append(miss, fmt.Sprintf("%s is %s", k, have))
			}
		}
		if len(miss) > 0 && len(miss) < off {
			best, off = fmt.Sprintf("nearest is pod %s, where %s", p.Name, strings.Join(miss, " and ")), len(miss)
		}
	}
	if off > 1 {
		if there, err := t.pods.Matching(ctx, "", labels.SelectorFromSet(want)); err == nil && len(there) > 0 && there[0].Namespace != namespace {
			return fmt.Sprintf("pods with them are in namespace %s, and a pool selects in its own only", there[0].Namespace)
		}
	}
	return best
}

// poolPort compares the pool's ports with those on which its pods listen.
func (t *Toolset) poolPort(v *verdict, pods []*corev1.Pod, ports []int64) {
	if len(ports) == 0 {
		return
	}
	for _, p := range pods {
		listening := listens(p)
		if len(listening) == 0 {
			continue
		}
		var wrong []string
		for _, n := range ports {
			if !slices.Contains(listening, int(n)) {
				wrong = append(wrong, fmt.Sprint(n))
			}
		}
		if len(wrong) < len(ports) {
			return
		}
		var have []string
		for _, n := range listening {
			have = append(have, fmt.Sprint(n))
		}
		v.symptom("serving.no_endpoint", fmt.Sprintf("%s sends requests to port %s, on which its pods do not listen", v.subject, strings.Join(wrong, ", ")), params("container", "", "line", "", "mode", "F67", "meaning", "", "way", "", "count", fmt.Sprint(len(pods))))
		v.fault("serving.pool_port_mismatch", 0.93, v.subject, fmt.Sprintf("%s sends requests to port %s; pod %s listens on %s", v.subject, strings.Join(wrong, ", "), p.Name, strings.Join(have, ", ")), params("port", strings.Join(wrong, ", "), "listening", strings.Join(have, ", "), "pod", p.Name))
		return
	}
}

// listens gives the ports that a pod's containers declare or are told to use;
// nothing where they say neither.
func listens(p *corev1.Pod) []int {
	var out []int
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, q := range c.Ports {
			out = append(out, int(q.ContainerPort))
		}
	}
	if e, ok := engineOf(p); ok && e.port > 0 {
		out = append(out, e.port)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// poolModels finds a pool over several base models: the picker takes any pod for
// any request, and those of another model answer 404.
func (t *Toolset) poolModels(v *verdict, pods []*corev1.Pod) {
	models := map[string]string{}
	for _, p := range pods {
		if e, ok := engineOf(p); ok && e.kind != picker && len(e.names) > 0 {
			models[e.names[0]] = p.Name
		}
	}
	if len(models) < 2 {
		for name := range models {
			v.fact("model", name)
			v.line("serves %s", name)
		}
		return
	}
	var which []string
	for _, m := range sortedKeys(models) {
		which = append(which, fmt.Sprintf("%s (pod %s)", m, models[m]))
	}
	v.fault("serving.pool_mixed_models", 0.88, v.subject, fmt.Sprintf("%s selects pods of %d base models: %s; requests for one reach pods of the other", v.subject, len(models), list(which, 4)), params("models", list(which, 4)))
}

// picker judges the endpoint picker of a pool.
func (t *Toolset) picker(ctx context.Context, v *verdict, u *unstructured.Unstructured) {
	at0, portPath := "spec.endpointPickerRef", "spec.endpointPickerRef.port.number"
	if !has(u.Object, at0) {
		at0, portPath = "spec.extensionRef", "spec.extensionRef.portNumber"
	}
	name := at(u.Object, at0+".name")
	if name == "" {
		v.line("no endpoint picker is named")
		return
	}
	port, hasPort := number(u.Object, portPath)
	if !hasPort {
		port, hasPort = number(u.Object, at0+".port")
	}
	mode := cmp.Or(at(u.Object, at0+".failureMode"), "FailClose")
	v.line("endpoint picker %s, port %d, failure mode %s", name, port, mode)
	svc := t.ref("", "Service", u.GetNamespace(), name)
	s, err := t.objects.Get(ctx, svc)
	if missing(err) {
		v.edge(v.subject, graph.PickedBy, svc)
		v.symptom("serving.picker_down", fmt.Sprintf("the endpoint picker of %s is not there (failure mode %s)", v.subject, mode), params("picker", name, "failure_mode", mode))
		v.fault("serving.picker_missing", 0.93, v.subject, fmt.Sprintf("%s names Service %s as its endpoint picker, which does not exist", v.subject, name), params("condition", "", "reason", "", "message", "Service "+name+" does not exist", "mode", "F69", "way", "create the endpoint picker's Service, or correct endpointPickerRef"))
		return
	}
	if err != nil {
		v.line("its Service cannot be read: %s", tool.UserText(err))
		return
	}
	v.edge(v.subject, graph.PickedBy, svc)
	var have []string
	for _, p := range mapsAt(s.Object, "spec", "ports") {
		have = append(have, text(p["port"]))
	}
	if hasPort && len(have) > 0 && !slices.Contains(have, fmt.Sprint(port)) {
		v.symptom("serving.picker_down", fmt.Sprintf("the endpoint picker of %s cannot be reached (failure mode %s)", v.subject, mode), params("picker", name, "failure_mode", mode))
		v.fault("serving.picker_port_mismatch", 0.92, v.subject, fmt.Sprintf("%s calls its endpoint picker on port %d; Service %s has %s", v.subject, port, name, strings.Join(have, ", ")), params("port", fmt.Sprint(port), "have", strings.Join(have, ", "), "picker", name))
	}
	want := wordsAt(s.Object, "spec", "selector")
	if len(want) == 0 {
		return
	}
	pods, err := t.pods.Matching(ctx, u.GetNamespace(), labels.SelectorFromSet(want))
	if err != nil {
		return
	}
	up := readyCount(pods)
	v.fact("picker_ready", fmt.Sprint(up))
	v.line("%d of %d endpoint picker pods ready", up, len(pods))
	if up == 0 {
		effect := "every request is refused"
		if mode == "FailOpen" {
			effect = "requests go to any pod"
		}
		v.symptom("serving.picker_down", fmt.Sprintf("no pod of endpoint picker %s of %s is ready; with failure mode %s %s", name, v.subject, mode, effect), params("picker", name, "failure_mode", mode))
	}
	for _, p := range pods {
		if !ready(p) && !over(p) {
			v.line("endpoint picker pod %s: %s", p.Name, podWord(p))
			v.edge(svc, graph.Selects, t.podRef(p))
		}
	}
}

// httpRoute judges the inference pools that a route leads to, and the model names
// by which it tells requests apart.
func (t *Toolset) httpRoute(ctx context.Context, v *verdict, u *unstructured.Unstructured) {
	for _, rule := range mapsAt(u.Object, "spec", "rules") {
		var names []string
		for _, m := range mapsAt(rule, "matches") {
			for _, h := range mapsAt(m, "headers") {
				if strings.EqualFold(text(h["name"]), "X-Gateway-Model-Name") && cmp.Or(text(h["type"]), "Exact") == "Exact" {
					names = append(names, text(h["value"]))
				}
			}
		}
		for _, b := range mapsAt(rule, "backendRefs") {
			if text(b["kind"]) != "InferencePool" {
				continue
			}
			t.backend(ctx, v, u, b, names)
		}
	}
	if len(v.edges) == 0 && !v.sick() {
		v.line("no rule leads to an InferencePool")
	}
}

// backend judges one InferencePool that a route names.
func (t *Toolset) backend(ctx context.Context, v *verdict, u *unstructured.Unstructured, b map[string]any, names []string) {
	group, name, ns := text(b["group"]), text(b["name"]), cmp.Or(text(b["namespace"]), u.GetNamespace())
	pool := t.ref(group, "InferencePool", ns, name)
	unserved := func(why, near string) {
		v.symptom("serving.route_unresolved", fmt.Sprintf("%s leads to nothing: %s", v.subject, why), params("backend", pool.Path()))
		v.fault("serving.route_backend_missing", 0.93, v.subject, fmt.Sprintf("%s routes to InferencePool %s of group %s: %s", v.subject, pool.Path(), cmp.Or(group, "(core)"), why), params("backend", pool.Path(), "group", group, "why", why, "near", near))
	}
	found, have, err := t.findPool(ctx, "", ns, name)
	switch {
	case missing(err):
		near := ""
		for _, g := range []string{poolGroup, oldPoolGroup} {
			if all, err := t.objects.List(ctx, g, "InferencePool", ns, ""); err == nil {
				for _, o := range all {
					near = cmp.Or(near, o.GetName())
				}
			}
		}
		why := "it does not exist"
		if near != "" {
			why += "; the namespace has " + near
		}
		unserved(why, near)
		return
	case err != nil:
		v.line("InferencePool %s cannot be read: %s", pool.Path(), tool.UserText(err))
		return
	case found.Group != group:
		unserved("the pool of that name is of group "+found.Group, found.Group)
		return
	}
	if ns != u.GetNamespace() && !t.granted(ctx, u.GetNamespace(), ns, group, name) {
		v.symptom("serving.route_unresolved", fmt.Sprintf("%s may not refer to namespace %s", v.subject, ns), params("backend", pool.Path()))
		v.fault("serving.route_not_granted", 0.9, v.subject, fmt.Sprintf("%s routes to InferencePool %s in another namespace, and no ReferenceGrant there allows it", v.subject, pool.Path()), params("backend", pool.Path(), "namespace", ns))
		return
	}
	v.edge(v.subject, graph.RoutesTo, pool)
	t.routedNames(ctx, v, pool, have, names)
}

// granted reports whether a ReferenceGrant lets routes of one namespace name a
// pool of another; where grants cannot be read nothing is claimed.
func (t *Toolset) granted(ctx context.Context, from, to, group, name string) bool {
	grants, err := t.objects.List(ctx, gatewayGroup, "ReferenceGrant", to, "")
	if err != nil {
		return true
	}
	for _, g := range grants {
		allows := slices.ContainsFunc(mapsAt(g.Object, "spec", "from"), func(m map[string]any) bool {
			return text(m["group"]) == gatewayGroup && text(m["kind"]) == "HTTPRoute" && text(m["namespace"]) == from
		})
		if allows && slices.ContainsFunc(mapsAt(g.Object, "spec", "to"), func(m map[string]any) bool {
			return text(m["group"]) == group && text(m["kind"]) == "InferencePool" && (text(m["name"]) == "" || text(m["name"]) == name)
		}) {
			return true
		}
	}
	return false
}

// routedNames compares the model names that a rule matches with those that the
// pool's engines serve.
func (t *Toolset) routedNames(ctx context.Context, v *verdict, pool incident.Ref, u *unstructured.Unstructured, names []string) {
	if len(names) == 0 {
		return
	}
	pods, err := t.pods.Matching(ctx, pool.Namespace, labels.SelectorFromSet(poolSelector(u)))
	if err != nil || len(pods) == 0 || len(poolSelector(u)) == 0 {
		return
	}
	served := map[string]bool{}
	for _, p := range pods {
		e, ok := engineOf(p)
		if !ok || len(e.names) == 0 || e.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] != "" {
			return // what it serves is not said, or changes while it runs
		}
		for _, n := range e.names {
			served[n] = true
		}
	}
	if t.rewritten(ctx, pool.Namespace) {
		return
	}
	for _, n := range names {
		if !served[n] {
			have := list(sortedKeys(served), 4)
			v.symptom("serving.route_unresolved", fmt.Sprintf("requests for model %s by %s are answered 404", n, v.subject), params("backend", pool.Path()))
			v.fault("serving.model_name_mismatch", 0.9, v.subject, fmt.Sprintf("%s sends requests for model %s to %s, whose engines serve %s", v.subject, n, pool.Path(), have), params("asked", n, "served", have, "where", "the route"))
		}
	}
}

// rewritten reports whether names may be changed on the way.
func (t *Toolset) rewritten(ctx context.Context, namespace string) bool {
	for _, g := range []string{"llm-d.ai", oldPoolGroup, poolGroup} {
		for _, kind := range []string{"InferenceModelRewrite", "InferenceModel"} {
			if _, ok := t.served(ctx, g, kind); !ok {
				continue
			}
			if all, err := t.objects.List(ctx, g, kind, namespace, ""); err != nil || len(all) > 0 {
				return true
			}
		}
	}
	return false
}
