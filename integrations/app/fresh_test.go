package app

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
)

// asked notes what the sources behind an App are asked for.
type asked struct {
	mu  sync.Mutex
	set map[string]bool
}

func (a *asked) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set == nil {
		a.set = map[string]bool{}
	}
	a.set[fmt.Sprintf(format, args...)] = true
}

// take gives what was asked for since it was last taken.
func (a *asked) take() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := slices.Sorted(maps.Keys(a.set))
	a.set = nil
	return out
}

// round notes requests on their way.
func (a *asked) round(source string, next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if !kindsOnly.MatchString(r.URL.Path) {
			what := r.URL.Path + "?" + r.URL.RawQuery
			// One object, a namespace, a selection or the whole kind: which of them is
			// read depends on what the same look has read already.
			if m := kindRead.FindString(inNamespace.ReplaceAllString(r.URL.Path, "/")); source == "cluster" && m != "" {
				what = m
			}
			a.note("%s: %s %s", source, r.Method, what)
		}
		return next.RoundTrip(r)
	})
}

// kindsOnly are the documents of which kinds a server serves: they are read every few
// minutes, whoever asks.
var kindsOnly = regexp.MustCompile(`^/(api|apis|api/v1|apis/[^/]+|apis/[^/]+/[^/]+)/?$`)

var (
	inNamespace = regexp.MustCompile(`/namespaces/[^/]+/`)
	kindRead    = regexp.MustCompile(`^(/api/v1|/apis/[^/]+/[^/]+)/[^/]+`)
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// asking is a cloud whose calls are noted.
type asking struct {
	nodepool.Cloud
	of *asked
}

func (c asking) Pools(ctx context.Context) ([]nodepool.CloudPool, error) {
	c.of.note("cloud %s: pools", c.Name())
	return c.Cloud.Pools(ctx)
}

// noted is an App over the recorded cluster of a case, all of whose sources are noted.
func noted(t *testing.T, c evals.Case, of *asked) *App {
	t.Helper()
	b, err := bundle.Open(c.Bundle, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	rc := rest.CopyConfig(srv.RESTConfig())
	rc.Wrap(func(next http.RoundTripper) http.RoundTripper { return of.round("cluster", next) })
	src, err := recordedAt(t.Context(), b, rc, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		name   string
		client **http.Client
	}{{"Prometheus", &src.metrics.Found.Prometheus.Client}, {"Alertmanager", &src.metrics.Found.Alertmanager.Client}} {
		if *e.client != nil {
			one := **e.client
			one.Transport = of.round(e.name, one.Transport)
			*e.client = &one
		}
	}
	for i := range src.clouds {
		src.clouds[i] = asking{src.clouds[i], of}
	}
	a, err := assemble(Defaults(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// An investigation that comes after another one asks the sources for all that the first
// asked for: no toolset answers it with what was read before it began. The clock of a
// recorded cluster stands still, so that nothing kept ever ages by itself.
func TestNoToolsetServesAnOlderRead(t *testing.T) {
	t.Parallel()
	rows := map[string]struct{ id, source string }{
		"kube":     {"k8s-service-selector", "cluster"},
		"dra":      {"dra-selector-excludes-all", "cluster"},
		"gpu":      {"gpu-thermal-straggler", "Prometheus"},
		"prom":     {"metrics-alert-deployment", "Prometheus"},
		"logs":     {"logs-rank-behind", "cluster"},
		"nodepool": {"nodepool-gke-quota-recorded", "cloud"},
		"serving":  {"serving-demand-grew", "Prometheus"},
		"storage":  {"storage-rwo-many-replicas", "cluster"},
		"cilium":   {"cilium-policy-port", "cluster"},
		"fit":      {"fit-weights-exceed-gpu", "cluster"},
		"supply":   {"supply-tag-moved", "cluster"},
	}
	// Those that a recorded cluster does not have (custom, mcp, loki) are held against
	// servers of their own in their packages.
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := mustFind(t, row.id)
			var of asked
			a := noted(t, c, &of)
			nowhere := event.SinkFunc(func(event.Event) {})
			first, err := a.run(t.Context(), c.Ask(), runOptions{Sink: nowhere})
			if err != nil {
				t.Fatal(err)
			}
			if !used(a, first, name) {
				t.Fatalf("no tool of %s was called: the row proves nothing", name)
			}
			before := of.take()
			if !slices.ContainsFunc(before, func(s string) bool { return strings.HasPrefix(s, row.source) }) {
				t.Fatalf("source %s was asked for nothing", row.source)
			}
			if _, err := a.run(t.Context(), c.Ask(), runOptions{Sink: nowhere}); err != nil {
				t.Fatal(err)
			}
			after := of.take()
			for _, s := range before {
				if !slices.Contains(after, s) {
					t.Errorf("answered with an older read: %s", s)
				}
			}
		})
	}
	for _, ts := range noted(t, mustFind(t, "k8s-service-selector"), &asked{}).toolsets {
		if _, ok := rows[ts.Name()]; !ok {
			t.Errorf("toolset %s has no row", ts.Name())
		}
	}
}

func mustFind(t *testing.T, id string) evals.Case {
	t.Helper()
	all, err := evals.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	c, err := evals.Find(all, id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// used reports whether a report rests on a tool of a toolset.
func used(a *App, r incident.Report, name string) bool {
	for _, ts := range a.toolsets {
		if ts.Name() != name {
			continue
		}
		for _, one := range ts.Tools() {
			if slices.ContainsFunc(r.Evidence, func(e incident.Evidence) bool { return e.Tool == one.Info().Name }) {
				return true
			}
		}
	}
	return false
}
