package serving

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// engineTypeLabels tell an endpoint picker by which names an engine's metrics go;
// without one it takes them for vLLM's (llm-d-router docs).
func engineTypeLabels() []string {
	return []string{"llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"}
}

// pickerSays reads what an endpoint picker that is alive complains of, and looks
// for what explains it.
func (t *Toolset) pickerSays(ctx context.Context, v *verdict, pool *unstructured.Unstructured, p *corev1.Pod) {
	for _, c := range p.Spec.Containers {
		log, err := t.logs.Tail(ctx, p.Namespace, p.Name, c.Name, false, 400)
		if err != nil {
			continue
		}
		for _, h := range t.signs.read(log, t.now().Add(-recentLog)) {
			if h.sign.Engine != "epp" || h.sign.Role != incident.Symptom {
				continue
			}
			v.line("endpoint picker %s says %d times: %s", p.Name, h.count, h.line)
			v.symptom(h.sign.Code, fmt.Sprintf("endpoint picker pod %s of %s: %s (%d times): %s", p.Name, v.subject, h.sign.Meaning, h.count, h.line),
				params("container", c.Name, "line", h.line, "mode", h.sign.ID, "meaning", h.sign.Meaning, "way", h.sign.Way, "count", fmt.Sprint(h.count)))
			switch h.sign.Code {
			case "serving.picker_blind":
				t.engineTypes(ctx, v, pool)
			case "serving.requests_shed":
				t.objectives(ctx, v, pool, h.line)
			}
		}
	}
}

// engineTypes finds engines whose metrics go by other names than vLLM's and that
// do not say so.
func (t *Toolset) engineTypes(ctx context.Context, v *verdict, pool *unstructured.Unstructured) {
	pods, err := t.pods.Matching(ctx, pool.GetNamespace(), labels.SelectorFromSet(poolSelector(pool)))
	if err != nil || len(poolSelector(pool)) == 0 {
		return
	}
	for _, p := range pods {
		e, ok := engineOf(p)
		if !ok || e.kind != sglang && e.kind != trtllm && e.kind != triton || slices.ContainsFunc(engineTypeLabels(), func(k string) bool { return p.Labels[k] != "" }) {
			continue
		}
		v.fault("serving.engine_type_unsaid", 0.88, v.subject, fmt.Sprintf("the endpoint picker of %s looks for vLLM's metrics at pod %s, which runs %s and has no label %s", v.subject, p.Name, e.kind, engineTypeLabels()[0]),
			params("engine", e.kind, "pod", p.Name, "label", engineTypeLabels()[0]))
		return
	}
}

// objectives finds those of negative priority of a pool, whose requests may be dropped.
func (t *Toolset) objectives(ctx context.Context, v *verdict, pool *unstructured.Unstructured, line string) {
	for _, g := range []string{"llm-d.ai", oldPoolGroup, poolGroup} {
		if _, ok := t.served(ctx, g, "InferenceObjective"); !ok {
			continue
		}
		all, err := t.objects.List(ctx, g, "InferenceObjective", pool.GetNamespace(), "")
		if err != nil {
			continue
		}
		for _, o := range all {
			n, ok := number(o.Object, "spec.priority")
			if name := at(o.Object, "spec.poolRef.name"); !ok || n >= 0 || name != "" && name != pool.GetName() {
				continue
			}
			ref := t.refOf(o)
			v.edge(v.subject, graph.LimitedBy, ref)
			v.add(incident.Finding{Code: "serving.sheddable_objective", Role: incident.Fault, Severity: incident.Warning, Confidence: 0.8, Subject: ref,
				Message: fmt.Sprintf("%s has priority %d: its requests are dropped while %s counts as saturated: %s", ref, n, v.subject, strings.TrimSpace(line)), Params: params("priority", fmt.Sprint(n), "pool", pool.GetName(), "line", line)})
		}
	}
}
