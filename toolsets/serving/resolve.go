package serving

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Resolve implements tool.Resolver for kinds of serving systems that the
// Kubernetes toolset does not look through by name, and for models by the name
// they are served as.
func (t *Toolset) Resolve(ctx context.Context, m tool.Mention) (tool.Resolution, error) {
	var res tool.Resolution
	all, err := t.objects.Served(ctx)
	if err != nil {
		return res, nil //nolint:nilerr // the Kubernetes toolset says that discovery failed
	}
	for _, s := range all {
		if !slices.Contains([]string{"ModelDeployment", "Workspace", "InferenceSet", "MultiRoleInference", "PodCliqueSet", "PodClique", "PodGang", "DisaggregatedSet", "DynamoComponentDeployment", "VLLMRuntime"}, s.Kind) || t.book.system(s.Group, s.Kind) == nil {
			continue
		}
		if m.Kind != "" && m.Kind != s.Kind {
			continue
		}
		if m.Namespace != "" {
			ref := t.ref(s.Group, s.Kind, m.Namespace, m.Name)
			if _, err := t.objects.Get(ctx, ref); err == nil {
				res.Exact = append(res.Exact, ref)
			}
			continue
		}
		objs, err := t.objects.List(ctx, s.Group, s.Kind, "", "")
		if err != nil {
			continue
		}
		for _, u := range objs {
			if u.GetName() == m.Name {
				res.Exact = append(res.Exact, t.refOf(u))
			}
		}
	}
	if len(res.Exact) == 0 && (m.Kind == "" || m.Kind == "Model") {
		res.Exact = t.servedAs(ctx, m)
	}
	return res, nil
}

// servedAs finds what serves a model by a name, where the word can be one: people
// ask for models as often as for objects. It gives the pool or Service before the
// engines, as that is what they are reached by.
func (t *Toolset) servedAs(ctx context.Context, m tool.Mention) []incident.Ref {
	if len(m.Name) < 4 || !strings.ContainsAny(m.Name, "-./0123456789") {
		return nil
	}
	pods, err := t.enginesIn(ctx, m.Namespace)
	if err != nil {
		return nil
	}
	var out []incident.Ref
	for _, p := range pods {
		if over(p) {
			continue
		}
		e, ok := engineOf(p)
		if !ok || !slices.Contains(e.names, m.Name) && e.model != m.Name {
			continue
		}
		ref, reached := t.reachedBy(ctx, p)
		if !reached {
			ref = t.podRef(p)
		}
		if !slices.Contains(out, ref) {
			out = append(out, ref)
		}
		if len(out) >= worstPods {
			break
		}
	}
	return out
}

// engineSpaces bounds in how many namespaces a model is looked for.
const engineSpaces = 12

// enginesIn lists the pods of a namespace, or of every one that has engines: a
// list of a whole cluster need not carry the arguments of containers.
func (t *Toolset) enginesIn(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	pods, err := t.pods.Matching(ctx, namespace, labels.Everything())
	if err != nil || namespace != "" {
		return pods, err
	}
	var spaces []string
	for _, p := range pods {
		if slices.Contains(spaces, p.Namespace) || over(p) {
			continue
		}
		if _, ok := engineOf(p); ok || usesGPU(p) {
			spaces = append(spaces, p.Namespace)
		}
	}
	slices.Sort(spaces)
	var out []*corev1.Pod
	for _, ns := range spaces[:min(len(spaces), engineSpaces)] {
		some, err := t.pods.Matching(ctx, ns, labels.Everything())
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// reachedBy finds what leads requests to an engine: its pool, else a Service that
// selects it.
func (t *Toolset) reachedBy(ctx context.Context, p *corev1.Pod) (incident.Ref, bool) {
	if ref, _, ok := t.poolOf(ctx, p); ok {
		return ref, true
	}
	services, err := t.objects.List(ctx, "", "Service", p.Namespace, "")
	if err != nil {
		return incident.Ref{}, false
	}
	for _, s := range services {
		if want := wordsAt(s.Object, "spec", "selector"); len(want) > 0 && labels.SelectorFromSet(want).Matches(labels.Set(p.Labels)) {
			return t.refOf(s), true
		}
	}
	return incident.Ref{}, false
}
