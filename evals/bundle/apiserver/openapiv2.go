package apiserver

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
)

const (
	// acceptProto is how client-go asks for OpenAPI v2, and contentProto the form
	// it gets: the name it asks by is no valid media type.
	acceptProto  = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	contentProto = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
)

// serveOpenAPIv2 describes the kinds for clients that do not know OpenAPI v3
// (kubectl before 1.29, Helm).
func (s *Server) serveOpenAPIv2(w http.ResponseWriter, r *http.Request) {
	doc, err := s.v2()
	if err != nil {
		fail(w, err)
		return
	}
	if !strings.Contains(r.Header.Get("Accept"), acceptProto) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(doc)
		return
	}
	parsed, err := openapi_v2.ParseDocument(doc)
	if err != nil {
		fail(w, err)
		return
	}
	raw, err := proto.Marshal(parsed)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", contentProto)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(raw)
}

// v2 gives the whole document as JSON.
func (s *Server) v2() ([]byte, error) {
	d := document{schemas: map[string]any{}}
	paths := map[string]any{}
	for _, r := range s.resources {
		d.resource(r, "/"+groupVersionPath(r.gvr.GroupVersion()), paths)
	}
	definitions := make(map[string]any, len(d.schemas))
	for name, schema := range d.schemas {
		definitions[name] = lowered(schema)
	}
	for path, item := range paths {
		operations, _ := item.(map[string]any)
		out := map[string]any{}
		for method, op := range operations {
			o, _ := op.(map[string]any)
			o = maps.Clone(o)
			params, _ := o["parameters"].([]any)
			flat := []any{}
			for _, p := range params {
				m, _ := p.(map[string]any)
				flat = append(flat, map[string]any{"name": m["name"], "in": "query", "type": "string", "uniqueItems": true})
			}
			o["parameters"] = flat
			o["responses"] = map[string]any{"200": map[string]any{"description": "OK"}}
			out[method] = o
		}
		paths[path] = out
	}
	return json.Marshal(map[string]any{"swagger": "2.0", "info": map[string]string{"title": "Kubernetes", "version": s.bundle.Manifest.ServerVersion}, "paths": paths, "definitions": definitions})
}

// lowered turns an OpenAPI v3 schema into what version 2 can say.
func lowered(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = lowered(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			switch k {
			case "$ref":
				ref, _ := e.(string)
				out[k] = strings.Replace(ref, "#/components/schemas/", "#/definitions/", 1)
			case "allOf":
				if all, ok := e.([]any); ok && len(all) == 1 {
					if m, ok := lowered(all[0]).(map[string]any); ok {
						maps.Copy(out, m)
					}
				}
			case "oneOf":
				if _, ok := e.([]any); ok {
					out["type"] = "string"
				}
			case "anyOf", "not", "nullable", "default":
			case "properties":
				// The keys of properties are names, not words of a schema.
				props, _ := e.(map[string]any)
				named := make(map[string]any, len(props))
				for name, p := range props {
					named[name] = lowered(p)
				}
				out[k] = named
			default:
				out[k] = lowered(e)
			}
		}
		return out
	}
	return v
}
