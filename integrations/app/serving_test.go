package app

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// The pod proxy speaks the API server's own paths, bounds what it reads, and tells
// a missing right from an engine that does not answer.
func TestPodProxy(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/llm/pods/http:engine-0:8000/proxy/metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	})
	mux.HandleFunc("POST /api/v1/namespaces/llm/pods/http:engine-0:8000/proxy/v1/completions", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Header.Get("Content-Type")+" "+string(body))
	})
	mux.HandleFunc("GET /api/v1/namespaces/secret/pods/http:engine-0:8000/proxy/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"no"}`)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	p := podProxy{client}
	if raw, err := p.Get(t.Context(), "llm", "engine-0", 8000, "/metrics", 10); err != nil || string(raw) != "xxxxxxxxxx" {
		t.Errorf("%q %v", raw, err)
	}
	if raw, err := p.Post(t.Context(), "llm", "engine-0", 8000, "/v1/completions", []byte(`{"max_tokens":1}`), 1000); err != nil || string(raw) != `application/json {"max_tokens":1}` {
		t.Errorf("%q %v", raw, err)
	}
	if _, err := p.Get(t.Context(), "secret", "engine-0", 8000, "/metrics", 10); tool.KindOf(err) != tool.Forbidden || !strings.Contains(tool.UserText(err), "pods/proxy") {
		t.Errorf("%v", err)
	}
	if _, err := p.Get(t.Context(), "llm", "engine-1", 8000, "/metrics", 10); tool.KindOf(err) != tool.NotFound {
		t.Errorf("%v", err)
	}
	srv.Close()
	if _, err := p.Get(t.Context(), "llm", "engine-0", 8000, "/metrics", 10); tool.KindOf(err) != tool.Unreachable {
		t.Errorf("%v", err)
	}
}
