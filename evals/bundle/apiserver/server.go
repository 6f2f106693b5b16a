// Package apiserver puts a bundle behind the Kubernetes API: discovery, get,
// list, watch, logs, access reviews, and writes that stay in memory. Clients
// cannot tell it from a cluster that nobody else changes.
package apiserver

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// Server serves one bundle. It is safe for concurrent use.
type Server struct {
	bundle    *bundle.Bundle
	resources []bundle.Resource
	byPath    map[schema.GroupVersionResource]bundle.Resource
	now       func() time.Time

	mu      sync.RWMutex
	version uint64
	first   uint64
	objects map[schema.GroupVersionResource]map[string]*unstructured.Unstructured
	log     []change
	// changed is closed and replaced at every change.
	changed chan struct{}
	uids    uint64
}

// change is one entry of the watch history.
type change struct {
	version  uint64
	resource schema.GroupVersionResource
	// before is set for modifications and deletions: a watch with a selector
	// sees an object leave.
	before, after *unstructured.Unstructured
}

var _ http.Handler = (*Server)(nil)

// New makes a server. The bundle's objects are copied on write, never changed.
func New(b *bundle.Bundle) (*Server, error) {
	s := &Server{bundle: b, byPath: map[schema.GroupVersionResource]bundle.Resource{}, now: b.Clock,
		objects: map[schema.GroupVersionResource]map[string]*unstructured.Unstructured{}, changed: make(chan struct{})}
	s.resources = slices.Clone(b.Manifest.Resources)
	if len(s.resources) == 0 {
		s.resources = builtin()
	}
	byKind := map[schema.GroupVersionKind]bundle.Resource{}
	for _, r := range s.resources {
		s.byPath[gvr(r)] = r
		byKind[schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}] = r
	}
	for _, u := range b.Objects {
		gvk := u.GroupVersionKind()
		r, ok := byKind[gvk]
		if !ok {
			// A kind that was written by hand without its definition.
			plural, singular := meta.UnsafeGuessKindToResource(gvk)
			r = bundle.Resource{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Plural: plural.Resource, Singular: singular.Resource, Namespaced: u.GetNamespace() != ""}
			byKind[gvk] = r
			s.resources = append(s.resources, r)
			s.byPath[gvr(r)] = r
		}
		if r.Namespaced != (u.GetNamespace() != "") {
			return nil, fmt.Errorf("%s %s: namespace %q, but the kind is namespaced=%v", u.GetKind(), u.GetName(), u.GetNamespace(), r.Namespaced)
		}
		s.version = max(s.version, number(u.GetResourceVersion()))
	}
	s.version++
	for _, u := range b.Objects {
		r := byKind[u.GroupVersionKind()]
		u = s.complete(u)
		m := s.objects[gvr(r)]
		if m == nil {
			m = map[string]*unstructured.Unstructured{}
			s.objects[gvr(r)] = m
		}
		m[key(u.GetNamespace(), u.GetName())] = u
	}
	s.addNamespaces()
	s.first = s.version
	return s, nil
}

// complete fills in what every object of a real server has.
func (s *Server) complete(u *unstructured.Unstructured) *unstructured.Unstructured {
	u = u.DeepCopy()
	if u.GetUID() == "" {
		u.SetUID(s.uid())
	}
	if u.GetResourceVersion() == "" {
		u.SetResourceVersion(strconv.FormatUint(s.version, 10))
	}
	if ts := u.GetCreationTimestamp(); ts.IsZero() {
		u.SetCreationTimestamp(metaTime(s.now().Add(-time.Hour)))
	}
	return u
}

// addNamespaces makes the namespaces of a hand-written bundle exist.
func (s *Server) addNamespaces() {
	nsr := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	if s.objects[nsr] == nil {
		s.objects[nsr] = map[string]*unstructured.Unstructured{}
	}
	for _, m := range s.objects {
		for _, u := range m {
			ns := u.GetNamespace()
			if ns == "" || s.objects[nsr][key("", ns)] != nil {
				continue
			}
			n := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace",
				"metadata": map[string]any{"name": ns, "labels": map[string]any{"kubernetes.io/metadata.name": ns}}, "status": map[string]any{"phase": "Active"}}}
			s.objects[nsr][key("", ns)] = s.complete(n)
		}
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch p := strings.TrimSuffix(r.URL.Path, "/"); {
	case p == "/version":
		s.serveVersion(w)
	case p == "/healthz", p == "/readyz", p == "/livez":
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("ok"))
	case p == "/openapi/v2", strings.HasPrefix(p, "/openapi/v3"):
		s.serveOpenAPI(w, r, p)
	case p == "/api", p == "/apis":
		s.serveRoots(w, p)
	default:
		s.serveAPI(w, r, p)
	}
}

// request is a parsed API path.
type request struct {
	resource    bundle.Resource
	gvr         schema.GroupVersionResource
	namespace   string
	name        string
	subresource string
}

// serveAPI parses /api/v1/... and /apis/GROUP/VERSION/...
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, p string) {
	parts := strings.Split(strings.TrimPrefix(p, "/"), "/")
	var q request
	switch {
	case len(parts) >= 2 && parts[0] == "api":
		q.gvr.Version = parts[1]
		parts = parts[2:]
	case len(parts) == 2 && parts[0] == "apis":
		s.serveGroup(w, parts[1])
		return
	case len(parts) >= 3 && parts[0] == "apis":
		q.gvr.Group, q.gvr.Version = parts[1], parts[2]
		parts = parts[3:]
	default:
		fail(w, notFoundPath())
		return
	}
	if len(parts) == 0 {
		s.serveGroupVersion(w, q.gvr.Group, q.gvr.Version)
		return
	}
	if parts[0] == "namespaces" && len(parts) >= 3 && (len(parts) > 3 || parts[2] != "status" && parts[2] != "finalize") {
		q.namespace = parts[1]
		parts = parts[2:]
	}
	q.gvr.Resource = parts[0]
	if len(parts) > 1 {
		q.name = parts[1]
	}
	if len(parts) > 2 {
		q.subresource = strings.Join(parts[2:], "/")
	}
	if q.gvr.Group == "authorization.k8s.io" && r.Method == http.MethodPost {
		s.serveReview(w, r, q)
		return
	}
	res, ok := s.byPath[q.gvr]
	if !ok {
		fail(w, notFoundPath())
		return
	}
	q.resource = res
	s.dispatch(w, r, q)
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, q request) {
	verb := verbOf(r, q)
	if err := s.denied(verb, q); err != nil {
		fail(w, err)
		return
	}
	switch {
	case q.subresource == "log" && q.gvr.Resource == "pods":
		s.serveLog(w, r, q)
	case q.subresource != "" && q.subresource != "status" && q.subresource != "scale":
		fail(w, notFoundPath())
	case verb == "watch":
		s.serveWatch(w, r, q)
	case verb == "list":
		s.serveList(w, r, q)
	case verb == "get":
		s.serveGet(w, r, q)
	default:
		s.serveWrite(w, r, q, verb)
	}
}

func verbOf(r *http.Request, q request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if v := r.URL.Query().Get("watch"); q.name == "" && (v == "true" || v == "1") {
			return "watch"
		}
		if q.name == "" {
			return "list"
		}
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if q.name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return strings.ToLower(r.Method)
}

func gvr(r bundle.Resource) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural}
}

func key(namespace, name string) string { return namespace + "/" + name }

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// sorted gives the objects of a resource by namespace and name. The caller
// holds the lock.
func (s *Server) sorted(r schema.GroupVersionResource) []*unstructured.Unstructured {
	m := s.objects[r]
	out := make([]*unstructured.Unstructured, 0, len(m))
	for _, u := range m {
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
	})
	return out
}
