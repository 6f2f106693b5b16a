package kube

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// Reference is a thing an object refers to, and where.
type Reference struct {
	Relation string       `json:"relation"`
	To       incident.Ref `json:"to"`
	// At is the field, "spec.template.spec.volumes[config]".
	At string `json:"at"`
}

// template is a pod spec found inside an object, "" for a pod's own.
type template struct {
	at   string
	spec corev1.PodSpec
}

// maxDepth bounds the walk through an object.
const maxDepth = 14

// templatesOf finds every pod spec in an object: a pod's own, the template of a
// workload, and those that custom kinds nest (leader and worker templates, head
// and worker groups). A pod spec is a map with a list "containers" of maps with
// a name.
func templatesOf(u *unstructured.Unstructured) []template {
	var out []template
	var walk func(v any, at string, depth int)
	walk = func(v any, at string, depth int) {
		if depth > maxDepth || len(out) >= 10 {
			return
		}
		switch v := v.(type) {
		case map[string]any:
			if list, ok := v["containers"].([]any); ok && len(list) > 0 {
				if first, ok := list[0].(map[string]any); ok && first["name"] != nil {
					var spec corev1.PodSpec
					if runtime.DefaultUnstructuredConverter.FromUnstructured(v, &spec) == nil {
						out = append(out, template{at: at, spec: spec})
						return
					}
				}
			}
			for _, k := range sortedKeys(v) {
				walk(v[k], join(at, k), depth+1)
			}
		case []any:
			for i, item := range v {
				walk(item, at+index(i, item), depth+1)
			}
		}
	}
	walk(u.Object["spec"], "spec", 0)
	return out
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// podRefs lists what a pod spec refers to in a namespace.
func podRefs(src *source.Source, namespace string, t template) []Reference {
	var out []Reference
	add := func(relation, group, kind, ns, name, at string) {
		if name != "" {
			out = append(out, Reference{Relation: relation, To: src.Ref(group, kind, ns, name), At: join(t.at, at)})
		}
	}
	s := t.spec
	add(graph.RunsOn, "", "Node", "", s.NodeName, "nodeName")
	add(graph.Uses, "", "ServiceAccount", namespace, s.ServiceAccountName, "serviceAccountName")
	add(graph.Uses, "scheduling.k8s.io", "PriorityClass", "", s.PriorityClassName, "priorityClassName")
	if s.RuntimeClassName != nil {
		add(graph.Uses, "node.k8s.io", "RuntimeClass", "", *s.RuntimeClassName, "runtimeClassName")
	}
	for _, p := range s.ImagePullSecrets {
		add(graph.Uses, "", "Secret", namespace, p.Name, "imagePullSecrets")
	}
	for _, v := range s.Volumes {
		at := "volumes[" + v.Name + "]"
		switch {
		case v.ConfigMap != nil:
			add(graph.Uses, "", "ConfigMap", namespace, v.ConfigMap.Name, at)
		case v.Secret != nil:
			add(graph.Uses, "", "Secret", namespace, v.Secret.SecretName, at)
		case v.PersistentVolumeClaim != nil:
			add(graph.Mounts, "", "PersistentVolumeClaim", namespace, v.PersistentVolumeClaim.ClaimName, at)
		case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
			add(graph.Uses, "", "Secret", namespace, v.CSI.NodePublishSecretRef.Name, at)
		case v.Projected != nil:
			for _, p := range v.Projected.Sources {
				if p.ConfigMap != nil {
					add(graph.Uses, "", "ConfigMap", namespace, p.ConfigMap.Name, at)
				}
				if p.Secret != nil {
					add(graph.Uses, "", "Secret", namespace, p.Secret.Name, at)
				}
			}
		}
	}
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		for _, e := range c.EnvFrom {
			if e.ConfigMapRef != nil {
				add(graph.Uses, "", "ConfigMap", namespace, e.ConfigMapRef.Name, "containers["+c.Name+"].envFrom")
			}
			if e.SecretRef != nil {
				add(graph.Uses, "", "Secret", namespace, e.SecretRef.Name, "containers["+c.Name+"].envFrom")
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if k := e.ValueFrom.ConfigMapKeyRef; k != nil {
				add(graph.Uses, "", "ConfigMap", namespace, k.Name, "containers["+c.Name+"].env["+e.Name+"]")
			}
			if k := e.ValueFrom.SecretKeyRef; k != nil {
				add(graph.Uses, "", "Secret", namespace, k.Name, "containers["+c.Name+"].env["+e.Name+"]")
			}
		}
	}
	for _, c := range s.ResourceClaims {
		at := "resourceClaims[" + c.Name + "]"
		if c.ResourceClaimName != nil {
			add(graph.Claims, "resource.k8s.io", "ResourceClaim", namespace, *c.ResourceClaimName, at)
		}
		if c.ResourceClaimTemplateName != nil {
			add(graph.FromTemplate, "resource.k8s.io", "ResourceClaimTemplate", namespace, *c.ResourceClaimTemplateName, at)
		}
	}
	return out
}

// referencesOf lists what an object refers to: through its pod templates,
// through fields of the usual shape {kind, name}, and a pod's generated claims.
func referencesOf(src *source.Source, u *unstructured.Unstructured) []Reference {
	var out []Reference
	for _, t := range templatesOf(u) {
		out = append(out, podRefs(src, u.GetNamespace(), t)...)
	}
	if u.GetKind() == "Pod" {
		list, _, _ := unstructured.NestedSlice(u.Object, "status", "resourceClaimStatuses")
		for _, s := range list {
			if m, ok := s.(map[string]any); ok {
				if name, ok := m["resourceClaimName"].(string); ok && name != "" {
					out = append(out, Reference{Relation: graph.Claims, To: src.Ref("resource.k8s.io", "ResourceClaim", u.GetNamespace(), name), At: "status.resourceClaimStatuses"})
				}
			}
		}
	}
	out = append(out, shapedRefs(src, u)...)
	return uniqueRefs(out)
}

// shapedRefs finds fields that name an object by kind and name.
func shapedRefs(src *source.Source, u *unstructured.Unstructured) []Reference {
	var out []Reference
	var walk func(v any, at, field string, depth int)
	walk = func(v any, at, field string, depth int) {
		if depth > maxDepth || len(out) >= 50 {
			return
		}
		switch v := v.(type) {
		case map[string]any:
			if strings.HasSuffix(field, "Ref") || strings.HasSuffix(field, "Refs") || strings.HasSuffix(field, "Reference") {
				if r, ok := shapedRef(src, u, field, v); ok {
					r.At = at
					out = append(out, r)
					return
				}
			}
			for _, k := range sortedKeys(v) {
				walk(v[k], join(at, k), k, depth+1)
			}
		case []any:
			for i, item := range v {
				walk(item, at+index(i, item), field, depth+1)
			}
		}
	}
	walk(u.Object["spec"], "spec", "spec", 0)
	return out
}

func shapedRef(src *source.Source, u *unstructured.Unstructured, field string, m map[string]any) (Reference, bool) {
	str := func(k string) string { s, _ := m[k].(string); return s }
	kind, name, group, ns := str("kind"), str("name"), str("group"), str("namespace")
	relation := graph.Uses
	switch field {
	case "scaleTargetRef":
		relation = graph.Scales
	case "backendRefs", "backendRef":
		relation = graph.RoutesTo
		if kind == "" {
			kind = "Service"
		}
	case "endpointPickerRef", "extensionRef":
		// Gateway API inference extension: a Service unless another kind is said.
		if kind == "" {
			kind = "Service"
		}
	case "parentRefs":
		if kind == "" {
			kind, group = "Gateway", "gateway.networking.k8s.io"
		}
	}
	if kind == "" || name == "" || len(name) > 253 {
		return Reference{}, false
	}
	if g := str("apiGroup"); g != "" {
		group = g
	}
	if gv, err := schema.ParseGroupVersion(str("apiVersion")); err == nil && gv.Group != "" {
		group = gv.Group
	}
	if group == "" && m["apiVersion"] == nil && !slices.Contains([]string{"Pod", "Service", "Secret", "ConfigMap", "PersistentVolumeClaim", "PersistentVolume", "ServiceAccount", "Node", "Namespace", "Endpoints", "ReplicationController"}, kind) {
		// A kind that is not of the core belongs to the group of who names it.
		if own := u.GroupVersionKind().Group; strings.Contains(own, ".") && !builtinGroup(own) {
			group = own
		}
	}
	if ns == "" && !strings.HasPrefix(kind, "Cluster") && !slices.Contains([]string{"Node", "Namespace", "PersistentVolume", "StorageClass", "DeviceClass", "GatewayClass", "IngressClass", "PriorityClass"}, kind) {
		ns = u.GetNamespace()
	}
	return Reference{Relation: relation, To: src.Ref(group, kind, ns, name)}, true
}

func uniqueRefs(in []Reference) []Reference {
	type key struct {
		relation string
		to       incident.Ref
	}
	seen := map[key]bool{}
	out := []Reference{}
	for _, r := range in {
		if k := (key{r.Relation, r.To}); !seen[k] {
			seen[k] = true
			out = append(out, r)
		}
	}
	return out
}

// ownersOf turns ownerReferences into references, the controller first.
func ownersOf(src *source.Source, u *unstructured.Unstructured) []incident.Ref {
	out := []incident.Ref{}
	for _, controller := range []bool{true, false} {
		for _, o := range u.GetOwnerReferences() {
			if (o.Controller != nil && *o.Controller) != controller {
				continue
			}
			gv, err := schema.ParseGroupVersion(o.APIVersion)
			if err != nil {
				continue
			}
			ns := u.GetNamespace()
			if o.Kind == "Node" || o.Kind == "Namespace" {
				ns = ""
			}
			out = append(out, src.Ref(gv.Group, o.Kind, ns, o.Name))
		}
	}
	return out
}
