package gke_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool/gke"
)

func client(t *testing.T, h http.HandlerFunc, timeout time.Duration) *gke.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := gke.New(gke.Config{Project: "p", Location: "us-central1", Cluster: "ml", Endpoint: srv.URL, Timeout: timeout, Token: func(context.Context) (string, error) { return "t0ken", nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const list = `{"nodePools":[
 {"name":"a3","status":"RECONCILING","version":"1.34.1-gke.1","locations":["z1","z2"],"config":{"machineType":"a3-highgpu-8g","imageType":"COS_CONTAINERD"},
  "autoscaling":{"enabled":true,"minNodeCount":0,"maxNodeCount":3},"upgradeSettings":{"strategy":"BLUE_GREEN"},
  "updateInfo":{"blueGreenInfo":{"phase":"NODE_POOL_SOAKING","bluePoolDeletionStartTime":"2026-11-27T13:00:00Z","greenPoolVersion":"1.35.0-gke.2"}}},
 {"name":"full","status":"RUNNING_WITH_ERROR","statusMessage":"old words","conditions":[{"code":"GCE_STOCKOUT","message":"no a3 in z1"}],"autoscaling":{"enabled":true,"totalMinNodeCount":1,"totalMaxNodeCount":4}},
 {"name":"err","status":"ERROR","statusMessage":"it broke"},
 {"name":"new","status":"LEVITATING","someFieldOfTomorrow":{"x":[1]}},
 {"name":"plain","status":"RUNNING","upgradeSettings":{"maxSurge":1}},
 {"status":"RUNNING"}]}`

func TestPools(t *testing.T) {
	t.Parallel()
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/v1/projects/p/locations/us-central1/clusters/ml/nodePools" || r.Header.Get("Authorization") != "Bearer t0ken" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		fmt.Fprint(w, list)
	}, 0)
	got, err := c.Pools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []nodepool.CloudPool{
		{Name: "a3", Phase: nodepool.PhaseSoaking, State: "RECONCILING (NODE_POOL_SOAKING)", Count: -1, Min: 0, Max: 6, Autoscale: true, Version: "1.34.1-gke.1", Target: "1.35.0-gke.2", Image: "COS_CONTAINERD", SKU: "a3-highgpu-8g", Zones: []string{"z1", "z2"}, Strategy: "blue_green", Deadline: time.Date(2026, 11, 27, 13, 0, 0, 0, time.UTC)},
		{Name: "full", Phase: nodepool.PhaseFailed, State: "RUNNING_WITH_ERROR", Count: -1, Min: 1, Max: 4, Autoscale: true, ErrorCode: "GCE_STOCKOUT", Error: "no a3 in z1"},
		{Name: "err", Phase: nodepool.PhaseFailed, State: "ERROR", Count: -1, Min: -1, Max: -1, Error: "it broke"},
		{Name: "new", Phase: nodepool.PhaseUnknown, State: "LEVITATING", Count: -1, Min: -1, Max: -1},
		{Name: "plain", Phase: nodepool.PhaseIdle, State: "RUNNING", Count: -1, Min: -1, Max: -1, Strategy: "surge 1, unavailable 0"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		kind tool.Kind
		says string
	}{
		401: {tool.Unreachable, "401"},
		403: {tool.Forbidden, "container.clusters.get"},
		404: {tool.NotFound, "gke.cluster"},
		429: {tool.Unreachable, "throttles"},
		503: {tool.Unreachable, "503 UNAVAILABLE: try later"},
		302: {tool.Unreachable, "302"},
	} {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://login.example.com/")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"error":{"status":"UNAVAILABLE","message":"try later\nand more"}}`)
		}, 0)
		_, err := c.Pools(t.Context())
		if tool.KindOf(err) != want.kind || !strings.Contains(tool.UserText(err), want.says) || strings.Contains(tool.UserText(err), "\n") {
			t.Errorf("%d: %s %q", status, tool.KindOf(err), tool.UserText(err))
		}
	}
	for name, body := range map[string]string{"no JSON": "<html>", "cut": `{"nodePools":[{"name":`, "another shape": `{"nodePools":7}`} {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }, 0)
		if _, err := c.Pools(t.Context()); tool.KindOf(err) != tool.Unreachable {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := client(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 100*time.Millisecond)
	if _, err := c.Pools(t.Context()); tool.KindOf(err) != tool.TimedOut {
		t.Errorf("a server that hangs: %v", err)
	}
	noToken, err := gke.New(gke.Config{Project: "p", Location: "l", Cluster: "c", Token: func(context.Context) (string, error) { return "", errors.New("no credentials") }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := noToken.Pools(t.Context()); tool.KindOf(err) != tool.Unreachable || !strings.Contains(tool.UserText(err), "no token") {
		t.Errorf("%v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	token := func(context.Context) (string, error) { return "", nil }
	for _, c := range []gke.Config{{}, {Project: "a", Location: "b", Cluster: "c"}, {Project: "a", Location: "b", Cluster: "c", Token: token, Endpoint: "::"}} {
		if _, err := gke.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
