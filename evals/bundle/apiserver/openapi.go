package apiserver

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// serveOpenAPI describes the kinds in OpenAPI v3: what clients check, explain
// and merge by. Built-in kinds are described from their Go types, custom ones
// from their definitions as far as the bundle has them.
func (s *Server) serveOpenAPI(w http.ResponseWriter, p string) {
	rest := strings.Trim(strings.TrimPrefix(p, "/openapi/v3"), "/")
	if rest == "" {
		paths := map[string]any{}
		for _, r := range s.resources {
			gv := groupVersionPath(r.gvr.GroupVersion())
			paths[gv] = map[string]string{"serverRelativeURL": "/openapi/v3/" + gv}
		}
		writeJSON(w, http.StatusOK, map[string]any{"paths": paths})
		return
	}
	d := document{schemas: map[string]any{}}
	paths := map[string]any{}
	for _, r := range s.resources {
		if groupVersionPath(r.gvr.GroupVersion()) == rest {
			d.resource(r, "/"+rest, paths)
		}
	}
	if len(paths) == 0 {
		noPage(w)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"openapi": "3.0.0", "info": map[string]string{"title": "Kubernetes", "version": s.bundle.Manifest.ServerVersion},
		"paths": paths, "components": map[string]any{"schemas": d.schemas}})
}

func groupVersionPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

// document is one OpenAPI document being made.
type document struct{ schemas map[string]any }

// resource adds the operations and the schema of a kind.
func (d document) resource(r *resource, base string, paths map[string]any) {
	list := base + "/" + r.Plural
	if r.Namespaced {
		list = base + "/namespaces/{namespace}/" + r.Plural
	}
	ref := map[string]string{"$ref": "#/components/schemas/" + d.kind(r)}
	gvk := gvkOf(r.gvk)
	response := func(code string) map[string]any {
		return map[string]any{code: map[string]any{"description": "OK", "content": map[string]any{"application/json": map[string]any{"schema": ref}}}}
	}
	operation := func(action, code string, params ...string) map[string]any {
		list := []any{}
		for _, n := range params {
			list = append(list, map[string]any{"name": n, "in": "query", "schema": map[string]string{"type": "string"}})
		}
		return map[string]any{"parameters": list, "responses": response(code), "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk}
	}
	one, many := map[string]any{}, map[string]any{}
	write := []string{"dryRun", "fieldManager", "fieldValidation"}
	for _, verb := range r.verbs() {
		switch verb {
		case "get":
			one["get"] = operation("get", "200")
		case "list":
			many["get"] = operation("list", "200", "labelSelector", "fieldSelector", "limit", "continue", "watch")
		case "create":
			many["post"] = operation("post", "201", write...)
		case "update":
			one["put"] = operation("put", "200", write...)
		case "patch":
			one["patch"] = operation("patch", "200", append(slices.Clone(write), "force")...)
		case "delete":
			one["delete"] = operation("delete", "200", "dryRun", "propagationPolicy")
		case "deletecollection":
			many["delete"] = operation("deletecollection", "200", "dryRun", "labelSelector", "fieldSelector")
		}
	}
	paths[list] = many
	paths[list+"/{name}"] = one
}

func gvkOf(gvk schema.GroupVersionKind) map[string]string {
	return map[string]string{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// kind adds the schema of a kind and gives its name.
func (d document) kind(r *resource) string {
	if r.typed {
		if obj, err := scheme.Scheme.New(r.gvk); err == nil {
			name := d.typeOf(obj)
			if m, ok := d.schemas[name].(map[string]any); ok {
				m["x-kubernetes-group-version-kind"] = []any{gvkOf(r.gvk)}
			}
			return name
		}
	}
	parts := strings.Split(r.Group, ".")
	slices.Reverse(parts)
	name := strings.Join(append(parts, r.Version, r.Kind), ".")
	out := map[string]any{"type": "object"}
	if r.custom != nil && len(r.custom.schema) > 0 {
		maps.Copy(out, r.custom.schema)
	} else {
		out["x-kubernetes-preserve-unknown-fields"] = true
	}
	props := map[string]any{}
	if have, ok := out["properties"].(map[string]any); ok {
		maps.Copy(props, have)
	}
	props["apiVersion"] = map[string]any{"type": "string"}
	props["kind"] = map[string]any{"type": "string"}
	props["metadata"] = d.metadata()
	out["properties"] = props
	out["x-kubernetes-group-version-kind"] = []any{gvkOf(r.gvk)}
	d.schemas[name] = out
	return name
}
