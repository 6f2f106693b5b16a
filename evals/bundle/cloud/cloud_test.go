package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/cloud"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool/aks"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool/gke"
)

const base = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/ml/agentPools"

func recording() fstest.MapFS {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	return fstest.MapFS{
		"cloud/aks/pools.json":   file(`{"path":"` + base + `","body":{"value":[{"name":"gpu","properties":{"provisioningState":"Failed","count":2,"status":{"provisioningError":{"code":"QuotaExceeded","message":"no cores"}}}}]}}`),
		"cloud/aks/profile.json": file(`{"path":"` + base + `/gpu/upgradeProfiles/default","body":{"properties":{"recentlyUsedVersions":[{"nodeImageVersion":"old","orchestratorVersion":"1.34.4","timestamp":"2026-11-24T00:00:00Z"}]}}}`),
		"cloud/gke/pools.json":   file(`{"path":"/v1/projects/p/locations/l/clusters/c/nodePools","body":{"nodePools":[{"name":"a3","status":"RUNNING"}]}}`),
		"cloud/refusing/x.json":  file(`{"path":"/x","status":429,"retryAfter":"60","body":{}}`),
	}
}

// TestReplayThroughTheSDK: the Azure SDK and the GKE client read a recording as they
// read the cloud.
func TestReplayThroughTheSDK(t *testing.T) {
	t.Parallel()
	r, err := cloud.Open(recording(), "aks")
	if err != nil {
		t.Fatal(err)
	}
	a, err := aks.New(aks.Config{Subscription: "sub", ResourceGroup: "RG", Cluster: "ml", Credential: &azfake.TokenCredential{}, Transport: r})
	if err != nil {
		t.Fatal(err)
	}
	pools, err := a.Pools(t.Context())
	if err != nil || len(pools) != 1 || pools[0].ErrorCode != "QuotaExceeded" || len(pools[0].Rollback) != 1 || pools[0].Rollback[0].Image != "old" {
		t.Errorf("%v %+v", err, pools)
	}
	other, err := aks.New(aks.Config{Subscription: "sub", ResourceGroup: "rg", Cluster: "another", Credential: &azfake.TokenCredential{}, Transport: r})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Pools(t.Context()); tool.KindOf(err) != tool.NotFound || !strings.Contains(tool.UserText(err), "NotRecorded") {
		t.Errorf("what was not recorded: %v", err)
	}
	r, err = cloud.Open(recording(), "gke")
	if err != nil {
		t.Fatal(err)
	}
	g, err := gke.New(gke.Config{Project: "p", Location: "l", Cluster: "c", HTTP: r, Token: func(context.Context) (string, error) { return "", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if pools, err := g.Pools(t.Context()); err != nil || len(pools) != 1 || pools[0].Name != "a3" {
		t.Errorf("%v %+v", err, pools)
	}
	if !cloud.Holds(recording(), "aks") || cloud.Holds(recording(), "eks") {
		t.Error("what a bundle holds is told wrong")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"no JSON": "x", "another field": `{"path":"/a","headers":{}}`, "no path": `{"body":{}}`, "a host": `{"path":"//evil.example.com/a"}`, "a URL": `{"path":"https://evil.example.com/a"}`, "no status": `{"path":"/a","status":99}`,
	} {
		if _, err := cloud.Open(fstest.MapFS{"cloud/aks/a.json": {Data: []byte(raw)}}, "aks"); err == nil || !strings.Contains(err.Error(), "cloud/aks/a.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
	twice := fstest.MapFS{"cloud/aks/a.json": {Data: []byte(`{"path":"/A?api-version=1"}`)}, "cloud/aks/b.json": {Data: []byte(`{"path":"/a?api-version=2"}`)}}
	if _, err := cloud.Open(twice, "aks"); err == nil || !strings.Contains(err.Error(), "another file") {
		t.Errorf("%v", err)
	}
}

func TestStatusAndRetryAfter(t *testing.T) {
	t.Parallel()
	r, err := cloud.Open(recording(), "refusing")
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://x.example.com/x?api-version=9", nil)
	res, err := r.RoundTrip(req)
	if err != nil || res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") != "60" {
		t.Errorf("%v %+v", err, res)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.RoundTrip(req.WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestRecordAndReplay: what passes the recorder answers the same client again, without
// its token and with secrets masked.
func TestRecordAndReplay(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/huge" {
			fmt.Fprint(w, "no json")
			return
		}
		fmt.Fprint(w, `{"nodePools":[{"name":"a3","status":"RUNNING","statusMessage":"hunter2"}]}`)
	}))
	t.Cleanup(srv.Close)
	rec := cloud.NewRecorder("gke", http.DefaultTransport, func(s string) string { return strings.ReplaceAll(s, "hunter2", "(masked)") })
	cfg := gke.Config{Project: "p", Location: "l", Cluster: "c", HTTP: rec, Endpoint: srv.URL, Token: func(context.Context) (string, error) { return "s3cret", nil }}
	live, err := gke.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	rec.Look(func(ctx context.Context) error {
		for range 2 {
			if _, err := live.Pools(ctx); err != nil {
				return err
			}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/huge", nil)
		if err != nil {
			return err
		}
		res, err := rec.RoundTrip(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		if string(body) != "no json" {
			return fmt.Errorf("the caller reads %q: %w", body, err)
		}
		return errors.New("the end")
	})
	out := fstest.MapFS{}
	left, err := rec.Record(t.Context(), func(name string, raw []byte) error {
		out[name] = &fstest.MapFile{Data: raw}
		return nil
	})
	if err != nil || len(left) != 2 || len(out) != 1 {
		t.Fatalf("%v %+v, %d files", err, left, len(out))
	}
	for name, f := range out {
		if s := string(f.Data); strings.Contains(s, "s3cret") || strings.Contains(s, "hunter2") {
			t.Errorf("%s: %s", name, s)
		}
	}
	again, err := cloud.Open(out, "gke")
	if err != nil {
		t.Fatal(err)
	}
	cfg.HTTP, cfg.Endpoint = again, ""
	replayed, err := gke.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if pools, err := replayed.Pools(t.Context()); err != nil || len(pools) != 1 {
		t.Errorf("%v %+v", err, pools)
	}
}

// FuzzDecode: a hostile file is refused or answers a path of its own.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"path":"/a","body":{}}`, `{"path":"//x"}`, `{"path":"/%zz"}`, `{"path":"/a?b=c&api-version=1","status":404}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := cloud.Decode(raw)
		if err != nil {
			return
		}
		u, err := url.Parse(a.Path)
		if err != nil || u.Host != "" || !strings.HasPrefix(a.Path, "/") || u.Query().Has("api-version") || a.Status < 200 || a.Status > 599 {
			t.Fatalf("%v %+v", err, a)
		}
	})
}
