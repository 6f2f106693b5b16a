package prom_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/prometheus"
	"github.com/gumshoe-ai/gumshoe/toolsets/prom"
)

var now = time.Date(2026, 3, 4, 11, 0, 0, 0, time.UTC)

// recording is a Prometheus and an Alertmanager with these files: Prometheus' own
// engine behind its HTTP API.
func recording(t testing.TB, kv ...string) *prometheus.Server {
	t.Helper()
	fsys := fstest.MapFS{"metrics/header.yaml": &fstest.MapFile{Data: []byte("start: -1h\ninterval: 1m\n")}}
	for i := 0; i < len(kv); i += 2 {
		fsys[kv[i]] = &fstest.MapFile{Data: []byte(kv[i+1])}
	}
	s, err := prometheus.Open(fsys, now, prometheus.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func clock() time.Time { return now }

// clientOf reads a handler over real HTTP.
func clientOf(t testing.TB, h http.Handler) *prom.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	ep := prom.Endpoint{URL: srv.URL, Client: srv.Client(), Origin: "test"}
	return prom.NewClient(prom.ClientConfig{Found: prom.Found{Prometheus: ep, Alertmanager: ep}, Now: clock})
}

// toolsetOf reads a recording; gone are objects that do not exist.
func toolsetOf(t testing.TB, h http.Handler, gone ...string) *prom.Toolset {
	t.Helper()
	ts, err := prom.New(prom.Config{Client: clientOf(t, h), Cluster: "c", Exists: func(_ context.Context, r incident.Ref) (bool, error) {
		if r.Name == "unknown" {
			return false, fmt.Errorf("cannot tell")
		}
		return !slices.Contains(gone, r.Name), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func call(t testing.TB, ts *prom.Toolset, name string, in any) (tool.Result, error) {
	t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range ts.Tools() {
		if one.Info().Name == name {
			return one.Call(t.Context(), raw)
		}
	}
	t.Fatalf("there is no tool %s", name)
	return tool.Result{}, nil
}

// answerOf calls a tool that must answer, and decodes its data.
func answerOf[T any](t testing.TB, ts *prom.Toolset, name string, in any) (T, tool.Result) {
	t.Helper()
	res, err := call(t, ts, name, in)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var out T
	if err := json.Unmarshal(res.Data, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out, res
}

func has(text, part string) bool { return strings.Contains(text, part) }

// codes writes findings as "code role Kind ns/name".
func codes(fs []incident.Finding) []string {
	out := []string{}
	for _, f := range fs {
		out = append(out, fmt.Sprintf("%s %s %s", f.Code, f.Role, f.Subject))
	}
	slices.Sort(out)
	return out
}
