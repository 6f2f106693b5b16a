// Package sourcetest is an API server in memory for the tests of toolsets/kube:
// real clients talk to it over HTTP, so selectors, paging, metadata-only reads,
// refusals and odd answers behave as they do against a cluster. It serves reads
// and the self-subject reviews and fails the test on anything else.
package sourcetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/gumshoe-ai/gumshoe/toolsets/kube/source"
)

// Server is a Kubernetes API over HTTP, read-only.
type Server struct {
	t    testing.TB
	http *httptest.Server

	mu       sync.Mutex
	kinds    []kind
	objects  map[schema.GroupResource][]*unstructured.Unstructured
	logs     map[string]string
	requests []string

	// Forbid refuses a read with 403 when it reports true. Resource is as RBAC
	// writes it, "pods" or "deployments.apps". Set it before the first request.
	Forbid func(verb, resource, namespace string) bool
	// Intercept answers a request itself when it reports true.
	Intercept func(w http.ResponseWriter, r *http.Request) bool
	// NoMetadata makes the server ignore requests for metadata only and send
	// whole objects, as careless servers do.
	NoMetadata bool
}

// Start runs a server with objects until the test ends. Typed objects need no
// apiVersion and kind.
func Start(t testing.TB, objects ...runtime.Object) *Server {
	t.Helper()
	s := &Server{t: t, kinds: builtin(), objects: map[schema.GroupResource][]*unstructured.Unstructured{}, logs: map[string]string{}}
	s.Add(objects...)
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.http.Close)
	return s
}

// Add puts objects into the cluster.
func (s *Server) Add(objects ...runtime.Object) {
	s.t.Helper()
	for _, o := range objects {
		u, err := toUnstructured(o)
		if err != nil {
			s.t.Fatalf("sourcetest: %v", err)
		}
		s.add(u)
	}
}

// AddYAML puts the objects of YAML documents into the cluster. Kinds that are
// not built in must have been announced with ServeKind.
func (s *Server) AddYAML(docs string) {
	s.t.Helper()
	for doc := range strings.SplitSeq(docs, "\n---") {
		if strings.TrimSpace(strings.TrimPrefix(doc, "---")) == "" {
			continue
		}
		raw, err := utilyaml.ToJSON([]byte(doc))
		if err != nil {
			s.t.Fatalf("sourcetest: %v in\n%s", err, doc)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &u.Object); err != nil {
			s.t.Fatalf("sourcetest: %v in\n%s", err, doc)
		}
		s.add(u)
	}
}

func (s *Server) add(u *unstructured.Unstructured) {
	s.t.Helper()
	gvk := u.GroupVersionKind()
	i := slices.IndexFunc(s.kinds, func(k kind) bool { return k.group == gvk.Group && k.kind == gvk.Kind })
	if i < 0 {
		s.t.Fatalf("sourcetest: kind %s is not served; call ServeKind first", gvk)
	}
	if s.kinds[i].namespaced && u.GetNamespace() == "" {
		u.SetNamespace("default")
	}
	gr := s.kinds[i].gr()
	s.mu.Lock()
	defer s.mu.Unlock()
	key := func(u *unstructured.Unstructured) string { return u.GetNamespace() + "/" + u.GetName() }
	at := key(u)
	i, _ = slices.BinarySearchFunc(s.objects[gr], at, func(o *unstructured.Unstructured, at string) int {
		if key(o) <= at { // behind those of the same name
			return -1
		}
		return 1
	})
	s.objects[gr] = slices.Insert(s.objects[gr], i, u)
}

func toUnstructured(o runtime.Object) (*unstructured.Unstructured, error) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		return u.DeepCopy(), nil
	}
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("convert %T: %w", o, err)
	}
	u := &unstructured.Unstructured{Object: raw}
	if u.GetKind() == "" {
		gvks, _, err := scheme.Scheme.ObjectKinds(o)
		if err != nil {
			return nil, fmt.Errorf("kind of %T: %w", o, err)
		}
		u.SetGroupVersionKind(gvks[0])
	}
	return u, nil
}

// ServeKind announces a further kind (a CRD).
func (s *Server) ServeKind(group, version, name, resource string, namespaced bool, short ...string) {
	s.kinds = append(s.kinds, kind{group: group, version: version, kind: name, resource: resource, namespaced: namespaced, short: short})
}

// SetLog sets the log of a container, lines with timestamps as the kubelet
// gives them. Container "app.previous" is the previous run of app.
func (s *Server) SetLog(namespace, pod, container, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logs[namespace+"/"+pod+"/"+container] = text
}

// Requests lists what was asked so far, "GET /api/v1/pods?limit=500".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Config is a client configuration for the server, without rate limits.
func (s *Server) Config() *rest.Config {
	return &rest.Config{Host: s.http.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"}}
}

// Source makes a source over real clients; cluster is "test". A nil now is the
// system clock.
func (s *Server) Source(now func() time.Time) *source.Source {
	s.t.Helper()
	src, err := source.New(s.SourceConfig(now))
	if err != nil {
		s.t.Fatalf("sourcetest: %v", err)
	}
	return src
}

// SourceConfig is the configuration that Source uses.
func (s *Server) SourceConfig(now func() time.Time) source.Config {
	s.t.Helper()
	cfg := s.Config()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		s.t.Fatalf("sourcetest: %v", err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		s.t.Fatalf("sourcetest: %v", err)
	}
	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		s.t.Fatalf("sourcetest: %v", err)
	}
	return source.Config{Client: client, Dynamic: dyn, Metadata: meta, Cluster: "test", Now: now}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.String())
	s.mu.Unlock()
	if s.Intercept != nil && s.Intercept(w, r) {
		return
	}
	p := strings.Trim(r.URL.Path, "/")
	if r.Method == http.MethodPost && strings.HasPrefix(p, "apis/authorization.k8s.io/v1/selfsubject") {
		s.review(w, r)
		return
	}
	if r.Method != http.MethodGet {
		s.t.Errorf("sourcetest: %s %s: a toolset must not write", r.Method, r.URL)
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the test server is read-only", "")
		return
	}
	parts := strings.Split(p, "/")
	switch {
	case p == "version":
		send(w, map[string]any{"major": "1", "minor": "37", "gitVersion": "v1.37.2"})
	case p == "api":
		send(w, map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
	case p == "apis":
		send(w, s.groupList())
	case parts[0] == "api" && len(parts) == 2:
		send(w, s.resourceList("", parts[1]))
	case parts[0] == "apis" && len(parts) == 3:
		send(w, s.resourceList(parts[1], parts[2]))
	case parts[0] == "api" && len(parts) > 2:
		s.read(w, r, "", parts[1], parts[2:])
	case parts[0] == "apis" && len(parts) > 3:
		s.read(w, r, parts[1], parts[2], parts[3:])
	default:
		http.NotFound(w, r)
	}
}

func send(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, code int, reason, message, name string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
		"details": map[string]any{"name": name},
	})
}

// Stop ends the server at once, so that a test sees a dead API server.
func (s *Server) Stop() { s.http.Close() }
