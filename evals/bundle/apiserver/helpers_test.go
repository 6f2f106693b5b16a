package apiserver

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/gumshoe-ai/gumshoe/evals/bundle"
)

// shop serves testdata/shop: a small cluster with one of most things.
func shop(t testing.TB) *Server {
	t.Helper()
	return newServer(t, openShop(t))
}

func openShop(t testing.TB) *bundle.Bundle {
	t.Helper()
	b, err := bundle.Open(os.DirFS("testdata/shop"), bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newServer(t testing.TB, b *bundle.Bundle) *Server {
	t.Helper()
	s, err := New(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files is a bundle of files, with a bundle.yaml of its own where none is given.
func files(given map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{"bundle.yaml": &fstest.MapFile{Data: []byte("formatVersion: 1\ncaptured: \"2026-03-01T12:00:00Z\"\n")}}
	for name, text := range given {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// made serves a bundle of files.
func made(t testing.TB, given map[string]string) *Server {
	t.Helper()
	b, err := bundle.Open(files(given), bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return newServer(t, b)
}

func typed(t testing.TB, s *Server) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func untyped(t testing.TB, s *Server) dynamic.Interface {
	t.Helper()
	c, err := dynamic.NewForConfig(s.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func widgets() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}
}

func plainCodecs() runtime.NegotiatedSerializer { return scheme.Codecs.WithoutConversion() }

// has fails unless a text holds each of the parts.
func has(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in\n%s", p, text)
		}
	}
}
