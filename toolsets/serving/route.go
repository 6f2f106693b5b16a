package serving

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	Kind      string `json:"kind"`
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
	said := params("selector", sel.String(), "near", near)
	if l := t.oneLabel(ctx, u, want); l != "" {
		said["label"] = l
	}
	v.fault("serving.pool_selects_nothing", 0.93, v.subject, msg, said)
}

// oneLabel is the label, as the pods have it, by which alone the engines of one
// workload miss a pool's selector, "key=value", where its value is the pool's own name.
// Any other value may belong to another model. Empty where engines of several
// workloads, or pods that are no engines, would be selected.
func (t *Toolset) oneLabel(ctx context.Context, pool *unstructured.Unstructured, want map[string]string) string {
	all, err := t.pods.Matching(ctx, pool.GetNamespace(), labels.Everything())
	if err != nil {
		return ""
	}
	for _, k := range sortedKeys(want) {
		next := maps.Clone(want)
		next[k] = pool.GetName()
		owners := map[string]bool{}
		for _, p := range all {
			if over(p) || !labels.SelectorFromSet(next).Matches(labels.Set(p.Labels)) {
				continue
			}
			c := metav1.GetControllerOf(p)
			if _, serving := engineOf(p); c == nil || !serving && !usesGPU(p) {
				return ""
			}
			owners[c.Kind+"/"+c.Name] = true
		}
		if len(owners) == 1 {
			return k + "=" + pool.GetName()
		}
	}
	return ""
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
		if ready(p) {
			t.pickerSays(ctx, v, u, p)
		} else if !over(p) {
			v.line("endpoint picker pod %s: %s", p.Name, podWord(p))
			v.edge(svc, graph.Selects, t.podRef(p))
		}
	}
}
