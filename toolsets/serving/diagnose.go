package serving

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// DiagnoseIn names what serves: a Service, InferencePool, HTTPRoute, Deployment,
// StatefulSet, Pod or a serving system's own resource.
type DiagnoseIn struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Group     string `json:"group,omitempty"`
}

// Diagnosis is the chain from what was asked about to its engines, with figures.
type Diagnosis struct {
	Subject incident.Ref `json:"subject"`
	// Chain are the links on the way: service, route, pool, picker, replicas.
	Chain    []Link        `json:"chain"`
	Replicas []ReplicaView `json:"replicas"`
	// Metrics says where the figures come from, NotSeen why some are missing.
	Metrics  string             `json:"metrics,omitempty"`
	NotSeen  string             `json:"not_seen,omitempty"`
	Findings []incident.Finding `json:"findings"`
}

// Link is one step of the chain and what is known of it.
type Link struct {
	From     incident.Ref `json:"from"`
	Relation string       `json:"relation"`
	To       incident.Ref `json:"to"`
	State    string       `json:"state,omitempty"`
}

func (t *Toolset) diagnoseTool() (tool.Tool, error) {
	return read("serving_diagnose", t.diagnose)
}

func (t *Toolset) diagnose(ctx context.Context, in DiagnoseIn) (tool.Output[Diagnosis], error) {
	c, err := t.behind(ctx, in)
	if err != nil {
		return tool.Output[Diagnosis]{}, err
	}
	v := c.verdict
	out := Diagnosis{Subject: v.subject, Chain: []Link{}, Replicas: []ReplicaView{}}
	if len(c.pods) == 0 {
		v.line("no inference engine is behind it")
	} else {
		g := t.gauges(ctx, c.namespace, c.pods)
		out.Metrics, out.NotSeen = g.source, g.why
		for _, p := range c.pods {
			out.Replicas = append(out.Replicas, t.replicaOf(p, g.byPod[p.Name]))
		}
		v.line("metrics from %s", cmp.Or(g.source, "nowhere: "+g.why))
		r := reading{t: t, v: v, all: out.Replicas, blocks: g.blocks, chain: c}
		r.judge(ctx)
		for i, x := range out.Replicas {
			if i < 12 || v.touches(t.podRef(x.pod)) {
				v.line("replica %s on %s, %s: %s", x.Pod, orNone(x.Node), podWord(x.pod), x.figures())
			}
		}
		c.tie(t, out.Replicas)
	}
	if v.sick() {
		v.state = degraded
	} else {
		v.state = healthy
	}
	d, text := v.judged()
	out.Findings = d.Findings
	for _, e := range v.edges {
		out.Chain = append(out.Chain, Link{From: e.From, Relation: e.Relation, To: e.To})
	}
	return tool.Output[Diagnosis]{Data: out, Text: text, Findings: v.findings, Edges: v.edges}, nil
}

// touches reports whether a finding is about a subject.
func (v *verdict) touches(ref incident.Ref) bool {
	return slices.ContainsFunc(v.findings, func(f incident.Finding) bool { return f.Subject == ref })
}

// chain is what lies between a subject and its engines.
type chain struct {
	*verdict
	namespace string
	// from is the last link before the pods, relation how it leads to them.
	from     incident.Ref
	relation string
	// pods are the engine pods, routers and pickers left out; fronts are those.
	pods, fronts []*corev1.Pod
}

// tie leads from the last link to the replicas: those that stand out, and a few.
func (c *chain) tie(t *Toolset, all []ReplicaView) {
	fine := 0
	for _, r := range all {
		ref := t.podRef(r.pod)
		if !c.touches(ref) && r.Ready {
			if fine++; fine > finePods {
				continue
			}
		}
		c.edge(c.from, c.relation, ref)
		if c.touches(ref) && r.Node != "" {
			c.edge(ref, graph.RunsOn, t.ref("", "Node", "", r.Node))
		}
	}
}

// behind walks from a subject to the engines behind it.
func (t *Toolset) behind(ctx context.Context, in DiagnoseIn) (*chain, error) {
	kind, group, _ := strings.Cut(in.Kind, ".")
	group = cmp.Or(in.Group, group)
	c := &chain{namespace: in.Namespace, relation: graph.Owns}
	take := func(ref incident.Ref) { c.verdict, c.from = newVerdict(ref), ref }
	var pods []*corev1.Pod
	var err error
	switch kind {
	case "Pod":
		var p *corev1.Pod
		if p, err = t.pods.Pod(ctx, in.Namespace, in.Name); err != nil {
			return nil, err
		}
		take(t.podRef(p))
		pods = t.siblings(ctx, p)
	case "Service", "Deployment", "StatefulSet":
		if group == "" && kind != "Service" {
			group = "apps"
		}
		take(t.ref(group, kind, in.Namespace, in.Name))
		u, err := t.objects.Get(ctx, c.from)
		if err != nil {
			return nil, err
		}
		want := wordsAt(u.Object, "spec", "selector", "matchLabels")
		if kind == "Service" {
			want, c.relation = wordsAt(u.Object, "spec", "selector"), graph.Selects
		}
		if pods, err = t.matching(ctx, in.Namespace, want); err != nil {
			return nil, err
		}
	case "HTTPRoute":
		take(t.ref(gatewayGroup, kind, in.Namespace, in.Name))
		if pods, err = t.routed(ctx, c); err != nil {
			return nil, err
		}
	case "InferencePool":
		ref, u, err := t.findPool(ctx, group, in.Namespace, in.Name)
		if err != nil {
			return nil, err
		}
		take(ref)
		c.relation = graph.Selects
		if pods, err = t.matching(ctx, in.Namespace, poolSelector(u)); err != nil {
			return nil, err
		}
	default:
		ref, err := t.resolveKind(ctx, ExplainIn(in))
		if err != nil {
			return nil, err
		}
		take(ref)
		u, err := t.objects.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		s, _ := t.book.shape(ref.Group, ref.Kind)
		pods = t.podsOf(ctx, s, u)
	}
	c.sort(pods)
	t.workers(ctx, c)
	return c, nil
}

// sort keeps engines apart from what stands before them.
func (c *chain) sort(pods []*corev1.Pod) {
	for _, p := range pods {
		if over(p) || p.DeletionTimestamp != nil {
			continue
		}
		e, ok := engineOf(p)
		switch {
		case !ok:
		case e.kind == picker || e.kind == front:
			c.fronts = append(c.fronts, p)
		default:
			c.pods = append(c.pods, p)
		}
	}
	slices.SortFunc(c.pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
}

// workers finds the engines behind a frontend of Dynamo that a Service selects.
func (t *Toolset) workers(ctx context.Context, c *chain) {
	const key = "nvidia.com/dynamo-graph-deployment-name"
	if len(c.pods) > 0 || len(c.fronts) == 0 || c.fronts[0].Labels[key] == "" {
		return
	}
	dgd := t.ref("nvidia.com", "DynamoGraphDeployment", c.namespace, c.fronts[0].Labels[key])
	pods, err := t.matching(ctx, c.namespace, map[string]string{key: dgd.Name})
	if err != nil {
		return
	}
	for _, p := range c.fronts {
		c.edge(c.from, c.relation, t.podRef(p))
		c.edge(t.podRef(p), graph.RoutesTo, dgd)
	}
	c.fronts = nil
	c.from, c.relation = dgd, graph.Owns
	c.sort(pods)
}

func (t *Toolset) matching(ctx context.Context, namespace string, want map[string]string) ([]*corev1.Pod, error) {
	if len(want) == 0 {
		return nil, nil
	}
	return t.pods.Matching(ctx, namespace, labels.SelectorFromSet(want))
}

// routed finds the engines behind the pools of a route.
func (t *Toolset) routed(ctx context.Context, c *chain) ([]*corev1.Pod, error) {
	u, err := t.objects.Get(ctx, c.subject)
	if err != nil {
		return nil, err
	}
	var out []*corev1.Pod
	for _, rule := range mapsAt(u.Object, "spec", "rules") {
		for _, b := range mapsAt(rule, "backendRefs") {
			if text(b["kind"]) != "InferencePool" {
				continue
			}
			ns := cmp.Or(text(b["namespace"]), u.GetNamespace())
			ref, pool, err := t.findPool(ctx, text(b["group"]), ns, text(b["name"]))
			if err != nil {
				continue
			}
			pods, err := t.matching(ctx, ns, poolSelector(pool))
			if err != nil {
				continue
			}
			c.edge(c.subject, graph.RoutesTo, ref)
			c.from, c.relation, c.namespace = ref, graph.Selects, ns
			out = append(out, pods...)
		}
	}
	return out, nil
}

// siblings are the pods that serve the same as one pod: those of its controller,
// or of its pool.
func (t *Toolset) siblings(ctx context.Context, p *corev1.Pod) []*corev1.Pod {
	if _, ok := engineOf(p); !ok {
		return nil
	}
	all, err := t.pods.Matching(ctx, p.Namespace, labels.Everything())
	if err != nil {
		return []*corev1.Pod{p}
	}
	same := func(q *corev1.Pod) bool {
		for _, a := range p.OwnerReferences {
			for _, b := range q.OwnerReferences {
				if a.UID == b.UID && a.UID != "" {
					return true
				}
			}
		}
		for _, k := range []string{"ray.io/cluster", "kaito.sh/workspace", "leaderworkerset.sigs.k8s.io/name", "serving.kserve.io/inferenceservice", "nvidia.com/dynamo-graph-deployment-name", "llm-d.ai/model"} {
			if v := p.Labels[k]; v != "" && q.Labels[k] == v {
				return true
			}
		}
		return q.Name == p.Name
	}
	return slices.DeleteFunc(slices.Clone(all), func(q *corev1.Pod) bool { return !same(q) })
}

// poolOf finds the InferencePool that selects a pod.
func (t *Toolset) poolOf(ctx context.Context, p *corev1.Pod) (incident.Ref, map[string]string, bool) {
	for _, g := range []string{poolGroup, oldPoolGroup} {
		if _, ok := t.served(ctx, g, "InferencePool"); !ok {
			continue
		}
		all, err := t.objects.List(ctx, g, "InferencePool", p.Namespace, "")
		if err != nil {
			continue
		}
		for _, u := range all {
			if want := poolSelector(u); len(want) > 0 && labels.SelectorFromSet(want).Matches(labels.Set(p.Labels)) {
				name := cmp.Or(at(u.Object, "spec.endpointPickerRef.name"), at(u.Object, "spec.extensionRef.name"))
				return t.refOf(u), map[string]string{"picker": name}, true
			}
		}
	}
	return incident.Ref{}, nil, false
}

// pickers are the pods of a pool's endpoint picker that are ready.
func (t *Toolset) pickers(ctx context.Context, namespace, service string) []*corev1.Pod {
	s, err := t.objects.Get(ctx, t.ref("", "Service", namespace, service))
	if err != nil {
		return nil
	}
	pods, err := t.matching(ctx, namespace, wordsAt(s.Object, "spec", "selector"))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(pods), func(p *corev1.Pod) bool { return !ready(p) })
}

// blockSizes reads the block size that a picker is configured with: in its
// arguments or in a ConfigMap that it mounts.
func (t *Toolset) configText(ctx context.Context, p *corev1.Pod) string {
	var b strings.Builder
	for _, c := range p.Spec.Containers {
		for _, w := range slices.Concat(c.Command, c.Args) {
			b.WriteString(w + "\n")
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.ConfigMap == nil {
			continue
		}
		if u, err := t.objects.Get(ctx, t.ref("", "ConfigMap", p.Namespace, v.ConfigMap.Name)); err == nil {
			data := wordsAt(u.Object, "data")
			for _, k := range sortedKeys(data) {
				fmt.Fprintln(&b, data[k])
			}
		}
	}
	return b.String()
}
