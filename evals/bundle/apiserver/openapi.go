package apiserver

import (
	"net/http"
	"strings"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// serveOpenAPI says which kinds can be patched and that fields are validated
// here, which is what clients ask before they apply. Schemas are not part of a
// bundle, so none are claimed.
func (s *Server) serveOpenAPI(w http.ResponseWriter, _ *http.Request, p string) {
	if p == "/openapi/v2" {
		fail(w, notFoundPath())
		return
	}
	rest := strings.Trim(strings.TrimPrefix(p, "/openapi/v3"), "/")
	if rest == "" {
		paths := map[string]any{}
		for _, r := range s.resources {
			gv := groupVersionPath(r)
			paths[gv] = map[string]string{"serverRelativeURL": "/openapi/v3/" + gv}
		}
		writeJSON(w, http.StatusOK, map[string]any{"paths": paths})
		return
	}
	paths := map[string]any{}
	for _, r := range s.resources {
		if groupVersionPath(r) != rest {
			continue
		}
		at := "/" + rest + "/" + r.Plural + "/{name}"
		if r.Namespaced {
			at = "/" + rest + "/namespaces/{namespace}/" + r.Plural + "/{name}"
		}
		param := func(n string) map[string]any {
			return map[string]any{"name": n, "in": "query", "schema": map[string]string{"type": "string"}}
		}
		paths[at] = map[string]any{"patch": map[string]any{
			"parameters":                      []any{param("dryRun"), param("fieldValidation"), param("fieldManager")},
			"responses":                       map[string]any{"200": map[string]string{"description": "OK"}},
			"x-kubernetes-action":             "patch",
			"x-kubernetes-group-version-kind": map[string]string{"group": r.Group, "version": r.Version, "kind": r.Kind},
		}}
	}
	if len(paths) == 0 {
		fail(w, notFoundPath())
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"openapi": "3.0.0", "info": map[string]string{"title": "Kubernetes", "version": s.bundle.Manifest.ServerVersion}, "paths": paths})
}

func groupVersionPath(r bundle.Resource) string {
	if r.Group == "" {
		return "api/" + r.Version
	}
	return "apis/" + r.Group + "/" + r.Version
}
