// Package apiserver puts a bundle behind the Kubernetes API: discovery, get,
// list, watch, logs, access reviews, and writes that stay in memory. Clients
// cannot tell it from a cluster that nobody else changes: no controller,
// scheduler or kubelet acts on what is written.
package apiserver

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

const (
	// keepChanges is how many changes a watch or a paged list can go back.
	keepChanges = 10_000
	// bookmarkEvery is how often a watch that allows it is told where it stands.
	bookmarkEvery = 30 * time.Second
)

// Server serves one bundle. It is safe for concurrent use.
type Server struct {
	bundle    *bundle.Bundle
	resources []*resource
	byPath    map[schema.GroupVersionResource]*resource
	byKind    map[schema.GroupVersionKind]*resource
	now       func() time.Time
	fields    *fieldManagers
	// keep and bookmarks are keepChanges and bookmarkEvery.
	keep      int
	bookmarks time.Duration

	mu sync.RWMutex
	// version is the resourceVersion of the newest change.
	version uint64
	// oldest is the resourceVersion a watch can go back to.
	oldest uint64
	tables map[schema.GroupVersionResource]*table
	log    []change
	// changed is closed and replaced at every change.
	changed chan struct{}
	uids    uint64
	// lacks are the rights that single users do not have.
	lacks map[string][]bundle.Denied
	// trusted users are denied nothing.
	trusted map[string]bool
}

var _ http.Handler = (*Server)(nil)

// New makes a server. The bundle's objects are never changed, and must not be
// changed by others while the server lives. It fails when an object is in a
// namespace though its kind has none, or the other way round.
func New(b *bundle.Bundle) (*Server, error) {
	s := &Server{bundle: b, byPath: map[schema.GroupVersionResource]*resource{}, byKind: map[schema.GroupVersionKind]*resource{}, now: b.Clock, fields: newFieldManagers(),
		keep: keepChanges, bookmarks: bookmarkEvery, tables: map[schema.GroupVersionResource]*table{}, changed: make(chan struct{})}
	if err := s.register(); err != nil {
		return nil, err
	}
	for _, u := range b.Objects {
		// A version that this far from the end cannot run over.
		if v, ok := versionOf(u); ok {
			s.version = max(s.version, v)
		}
	}
	s.version++
	for _, u := range b.Objects {
		r := s.byKind[u.GroupVersionKind()]
		if r.Namespaced != (u.GetNamespace() != "") {
			return nil, fmt.Errorf("%s %s: namespace %q, but the kind is namespaced=%v", u.GetKind(), u.GetName(), u.GetNamespace(), r.Namespaced)
		}
		s.table(r.gvr).add(s.complete(u))
	}
	for _, t := range s.tables {
		t.sort()
	}
	s.addNamespaces()
	s.oldest = s.version
	return s, nil
}

// ServeHTTP implements http.Handler. Whatever a request or a bundle makes go
// wrong ends as a Status.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // the server compares it like this
				panic(p) //nolint:forbidigo // net/http's way to cut a connection
			}
			fail(w, apierrors.NewInternalError(fmt.Errorf("%v at %s", p, origin(debug.Stack()))))
		}
	}()
	switch p := strings.TrimSuffix(r.URL.Path, "/"); {
	case p == "/version":
		s.serveVersion(w)
	case p == "/healthz", p == "/readyz", p == "/livez":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok"))
	case p == "/openapi/v2":
		s.serveOpenAPIv2(w, r)
	case p == "/openapi/v3" || strings.HasPrefix(p, "/openapi/v3/"):
		s.serveOpenAPI(w, p)
	case p == "/api", p == "/apis":
		s.serveRoots(w, r, p)
	default:
		s.serveAPI(w, r, p)
	}
}

// origin finds the line of a panic in a stack: the first of ours after it.
func origin(stack []byte) string {
	_, after, _ := strings.Cut(string(stack), "panic(")
	for line := range strings.Lines(after) {
		// The lines of places are indented; those of calls hold values.
		if at := strings.Index(line, "/evals/bundle/"); at >= 0 && strings.HasPrefix(line, "\t") {
			at, _, _ := strings.Cut(strings.TrimSpace(line[at+1:]), " ")
			return at
		}
	}
	return "an unknown place"
}

// request is a parsed API path.
type request struct {
	resource    *resource
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
		noPage(w)
		return
	}
	if len(parts) == 0 {
		s.serveGroupVersion(w, q.gvr.GroupVersion())
		return
	}
	if slices.Contains(parts, "") {
		noPage(w)
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
	if isReview(q) {
		s.serveReview(w, r, q)
		return
	}
	res, ok := s.byPath[q.gvr]
	if !ok {
		noPage(w)
		return
	}
	q.resource = res
	s.dispatch(w, r, q)
}

func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, q request) {
	if !q.resource.Namespaced && q.namespace != "" || q.resource.Namespaced && q.namespace == "" && q.name != "" {
		noPage(w)
		return
	}
	verb := verbOf(r, q)
	a := attributesOf(verb, q)
	a.user, _ = userOf(r)
	if err := s.denied(a); err != nil {
		fail(w, err)
		return
	}
	if q.subresource != "" {
		s.serveSubresource(w, r, q, verb)
		return
	}
	wantsName := verb == "update" || verb == "patch"
	if !q.resource.offers(verb) || wantsName && q.name == "" || verb == "create" && (q.name != "" || q.resource.Namespaced && q.namespace == "") {
		fail(w, apierrors.NewMethodNotSupported(q.gvr.GroupResource(), verb))
		return
	}
	switch verb {
	case "watch":
		s.serveWatch(w, r, q)
	case "list":
		s.serveList(w, r, q)
	case "get":
		s.serveGet(w, r, q)
	default:
		s.serveWrite(w, r, q, verb)
	}
}

// serveSubresource answers what lies beneath an object.
func (s *Server) serveSubresource(w http.ResponseWriter, r *http.Request, q request, verb string) {
	switch sub := q.subresource; {
	case sub == "exec", sub == "attach", sub == "portforward", sub == "proxy", strings.HasPrefix(sub, "proxy/"):
		fail(w, apierrors.NewBadRequest(fmt.Sprintf("a bundle runs no containers: there is nothing to %s", strings.SplitN(sub, "/", 2)[0])))
	case !slices.Contains(q.resource.Subresources, sub):
		noPage(w)
	case sub == "log" && verb == "get":
		s.serveLog(w, r, q)
	case sub == "scale" && (verb == "get" || verb == "update" || verb == "patch"):
		s.serveScale(w, r, q, verb)
	case sub == "eviction" && verb == "create":
		s.serveEviction(w, r, q)
	case sub == "binding" && verb == "create":
		s.serveBinding(w, r, q)
	case sub == "status" && verb == "get":
		s.serveGet(w, r, q)
	case sub == "status" && (verb == "update" || verb == "patch"):
		s.serveWrite(w, r, q, verb)
	default:
		fail(w, apierrors.NewMethodNotSupported(q.gvr.GroupResource(), verb))
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

// find gives an object as it is now, nil when there is none.
func (s *Server) find(q request) *unstructured.Unstructured {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.table(q.gvr).get(q.namespace, q.name)
}
