package serving

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

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
		if !ok || e.kind != vllm && e.kind != sglang || len(e.names) == 0 || e.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] != "" {
			return // what it serves is not said by its arguments, or changes while it runs
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
