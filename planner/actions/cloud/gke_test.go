package cloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	clouds "github.com/gumshoe-ai/gumshoe/planner/actions/cloud"
)

// google speaks the REST form of the container API for one pool.
type google struct {
	t    *testing.T
	mu   sync.Mutex
	etag int
	pool map[string]any
	ops  []map[string]any
	// calls are the writes that came, "METHOD path body".
	calls []string
	srv   *httptest.Server
	deny  int
}

const gkePath = "/v1/projects/p/locations/us-central1"

func newGoogle(t *testing.T, pool map[string]any) *google {
	t.Helper()
	g := &google{t: t, etag: 1, pool: pool}
	g.srv = httptest.NewTLSServer(g)
	t.Cleanup(g.srv.Close)
	return g
}

func (g *google) client(now func() time.Time) *clouds.GKE {
	g.t.Helper()
	c, err := clouds.NewGKE(clouds.GKEConfig{Project: "p", Location: "us-central1", Cluster: "ml", Endpoint: g.srv.URL, HTTP: g.srv.Client().Transport, Now: now, Token: func(context.Context) (string, error) { return "t0ken", nil }})
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

// set changes the pool as GKE itself does; a nil phase ends the blue-green upgrade.
func (g *google) set(status, phase string, ops ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.etag++
	g.pool["status"] = status
	delete(g.pool, "updateInfo")
	if phase != "" {
		g.pool["updateInfo"] = map[string]any{"blueGreenInfo": map[string]any{"phase": phase, "bluePoolDeletionStartTime": "2026-11-27T15:00:00Z", "greenPoolVersion": "1.35.0-gke.2"}}
	}
	g.ops = nil
	for _, kind := range ops {
		g.begin(kind)
	}
}

// end has every operation ended.
func (g *google) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.ops {
		o["status"] = "DONE"
	}
}

// begin has an operation under way.
func (g *google) begin(kind string) map[string]any {
	op := map[string]any{"name": fmt.Sprintf("operation-%d", len(g.ops)+1), "operationType": kind, "status": "RUNNING", "targetLink": "https://container.googleapis.com" + gkePath + "/clusters/ml/nodePools/gpu"}
	g.ops = append(g.ops, op)
	return op
}

func (g *google) seen() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	answer := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	fail := func(code int, status, message string) {
		answer(code, map[string]any{"error": map[string]any{"code": code, "status": status, "message": message}})
	}
	if r.Header.Get("Authorization") != "Bearer t0ken" || g.deny != 0 {
		fail(max(g.deny, http.StatusUnauthorized), "DENIED", "no")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, gkePath)
	pool := "/clusters/ml/nodePools/gpu"
	var body map[string]any
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			fail(http.StatusBadRequest, "INVALID_ARGUMENT", "no JSON")
			return
		}
		raw, _ := json.Marshal(body)
		if tag, ok := body["etag"].(string); ok && tag != fmt.Sprint(g.etag) {
			fail(http.StatusPreconditionFailed, "FAILED_PRECONDITION", "etag mismatch")
			return
		}
		g.calls = append(g.calls, r.Method+" "+path+" "+string(raw))
		g.etag++
	}
	switch {
	case r.Method == http.MethodGet && path == pool:
		p := map[string]any{"name": "gpu", "etag": fmt.Sprint(g.etag)}
		maps.Copy(p, g.pool)
		answer(http.StatusOK, p)
	case r.Method == http.MethodGet && path == "/operations":
		other := map[string]any{"name": "operation-x", "operationType": "UPGRADE_NODES", "status": "RUNNING", "targetLink": "https://container.googleapis.com" + gkePath + "/clusters/other/nodePools/gpu"}
		answer(http.StatusOK, map[string]any{"operations": append([]map[string]any{other}, g.ops...)})
	case r.Method == http.MethodPut && path == pool && body["upgradeSettings"] != nil:
		g.pool["upgradeSettings"] = body["upgradeSettings"]
		answer(http.StatusOK, map[string]any{"name": "operation-s", "status": "DONE"})
	case r.Method == http.MethodPut && path == pool && body["nodeVersion"] != nil:
		g.pool["status"] = "RECONCILING"
		g.pool["updateInfo"] = map[string]any{"blueGreenInfo": map[string]any{"phase": "UPDATE_STARTED", "greenPoolVersion": body["nodeVersion"]}}
		answer(http.StatusOK, g.begin("UPGRADE_NODES"))
	case r.Method == http.MethodPost && path == pool+":setSize":
		answer(http.StatusOK, g.begin("SET_NODE_POOL_SIZE"))
	case r.Method == http.MethodPost && path == pool+":completeUpgrade":
		g.pool["updateInfo"].(map[string]any)["blueGreenInfo"].(map[string]any)["phase"] = "DELETING_BLUE_POOL"
		answer(http.StatusOK, map[string]any{})
	case r.Method == http.MethodPost && path == pool+":rollback":
		g.pool["updateInfo"].(map[string]any)["blueGreenInfo"].(map[string]any)["phase"] = "ROLLBACK_STARTED"
		answer(http.StatusOK, g.begin("UPGRADE_NODES"))
	case r.Method == http.MethodPost && strings.HasSuffix(path, ":cancel"):
		for _, o := range g.ops {
			if path == "/operations/"+fmt.Sprint(o["name"])+":cancel" {
				o["status"] = "ABORTING"
				answer(http.StatusOK, map[string]any{})
				return
			}
		}
		fail(http.StatusNotFound, "NOT_FOUND", "no such operation")
	default:
		fail(http.StatusNotFound, "NOT_FOUND", path)
	}
}

func gkePool() map[string]any {
	return map[string]any{"status": "RUNNING", "version": "1.34.1-gke.1", "locations": []any{"z1", "z2"}, "config": map[string]any{"machineType": "a3-highgpu-8g", "imageType": "COS_CONTAINERD"}, "upgradeSettings": map[string]any{"strategy": "SURGE", "maxSurge": 1}}
}

func TestGKEBlueGreen(t *testing.T) {
	t.Parallel()
	k, srv := newClock(), newGoogle(t, gkePool())
	g := srv.client(k.now)
	c := newCluster(t, twoNodes(), k.now, g)
	c.missing("drain_timeout", "by force after an hour", "pool_bluegreen_start", "pool", "gpu", "version", "1.35.0-gke.2", "drain_timeout", "10")
	c.missing("final_soak", "0 to 10080", "pool_bluegreen_start", "pool", "gpu", "version", "1.35.0-gke.2", "final_soak", "20000")
	d := c.draft("pool_bluegreen_start", "pool", "gpu", "version", "1.35.0-gke.2", "drain_batch", "25%", "batch_soak", "5", "final_soak", "120")
	if len(d.Writes) != 2 || d.Blast.PodCount != 1 || !strings.Contains(d.Capacity[0].Text, "2 more nodes") || !strings.Contains(strings.Join(d.Warnings, "\n"), "evicts by force") {
		t.Fatalf("%+v", d)
	}
	if !strings.Contains(d.Writes[0].Diff, `+    "strategy": "BLUE_GREEN"`) || !strings.Contains(d.Writes[1].Diff, `+  "version": "1.35.0-gke.2"`) {
		t.Errorf("%s\n%s", d.Writes[0].Diff, d.Writes[1].Diff)
	}
	do(t, g, d.Writes[0], false)
	do(t, g, d.Writes[0], true)
	k.move(time.Minute)
	c.check(d.Writes[0].Await[0], incident.Pass)
	r := do(t, g, d.Writes[1], false)
	if r.Resume != "operation-1" {
		t.Errorf("%+v", r)
	}
	do(t, g, d.Writes[1], true)
	k.move(time.Minute)
	c.check(d.Verify[0], incident.Pass)
	same(t, "calls", []string{
		`PUT /clusters/ml/nodePools/gpu {"etag":"1","upgradeSettings":{"blueGreenSettings":{"nodePoolSoakDuration":"7200s","standardRolloutPolicy":{"batchPercentage":0.25,"batchSoakDuration":"300s"}},"strategy":"BLUE_GREEN"}}`,
		`PUT /clusters/ml/nodePools/gpu {"imageType":"COS_CONTAINERD","nodeVersion":"1.35.0-gke.2"}`,
	}, srv.seen())
}

func TestGKECommit(t *testing.T) {
	t.Parallel()
	k, srv := newClock(), newGoogle(t, gkePool())
	g := srv.client(k.now)
	c := newCluster(t, twoNodes(), k.now, g)
	c.refused("it is not in its soak: it is Idle (RUNNING)", "pool_bluegreen_commit", "pool", "gpu")
	srv.set("RECONCILING", "NODE_POOL_SOAKING", "UPGRADE_NODES")
	k.move(time.Minute)
	d := c.draft("pool_bluegreen_commit", "pool", "gpu")
	do(t, g, d.Writes[0], false)
	do(t, g, d.Writes[0], true)
	k.move(time.Minute)
	c.check(d.Writes[0].Await[0], incident.Fail)
	srv.set("RUNNING", "")
	k.move(time.Minute)
	c.check(d.Writes[0].Await[0], incident.Pass)
	do(t, g, d.Writes[0], true)
	same(t, "calls", []string{"POST /clusters/ml/nodePools/gpu:completeUpgrade {}"}, srv.seen())
}

func TestGKERevert(t *testing.T) {
	t.Parallel()
	k, srv := newClock(), newGoogle(t, gkePool())
	g := srv.client(k.now)
	c := newCluster(t, twoNodes(), k.now, g)
	c.refused("rolls back a blue-green upgrade that was stopped", "pool_bluegreen_rollback", "pool", "gpu")
	c.refused("GKE goes back only from an upgrade that has not ended", "pool_rollback", "pool", "gpu")
	srv.set("RECONCILING", "NODE_POOL_SOAKING", "UPGRADE_NODES")
	k.move(time.Minute)
	d := c.draft("pool_bluegreen_rollback", "pool", "gpu")
	if len(d.Writes) != 2 {
		t.Fatalf("%+v", d.Writes)
	}
	do(t, g, d.Writes[0], false)
	do(t, g, d.Writes[0], true)
	k.move(time.Minute)
	c.check(d.Writes[0].Await[0], incident.Fail)
	srv.end()
	k.move(time.Minute)
	c.check(d.Writes[0].Await[0], incident.Pass)
	do(t, g, d.Writes[1], false)
	do(t, g, d.Writes[1], true)
	srv.set("RUNNING", "")
	do(t, g, d.Writes[1], true)
	k.move(time.Minute)
	c.check(d.Verify[0], incident.Pass)
	same(t, "calls", []string{"POST /operations/operation-1:cancel {}", `POST /clusters/ml/nodePools/gpu:rollback {"respectPdb":true}`}, srv.seen())
}

func TestGKEScale(t *testing.T) {
	t.Parallel()
	k, srv := newClock(), newGoogle(t, gkePool())
	g := srv.client(k.now)
	c := newCluster(t, twoNodes(), k.now, g)
	c.missing("count", "a multiple of 2", "pool_scale", "pool", "gpu", "count", "5")
	d := c.draft("pool_scale", "pool", "gpu", "count", "6")
	do(t, g, d.Writes[0], false)
	do(t, g, d.Writes[0], true)
	srv.set("RUNNING", "")
	do(t, g, d.Undo[0], false)
	same(t, "calls", []string{`POST /clusters/ml/nodePools/gpu:setSize {"nodeCount":3}`, `POST /clusters/ml/nodePools/gpu:setSize {"nodeCount":1}`}, srv.seen())

	srv.set("RUNNING", "")
	k.move(time.Minute)
	d = c.draft("pool_scale", "pool", "gpu", "count", "4")
	srv.set("RUNNING", "")
	drifts(t, g, d.Writes[0], "etag")
	if err := g.Hold(t.Context(), d.Targets[0]); err == nil {
		t.Error("a pool that has changed is held")
	}
	for _, path := range []string{gkePath[4:] + "/clusters/ml/nodePools/other:setSize", "projects/p/locations/us-central1/clusters/ml/nodePools/gpu:setManagement", "projects/p/locations/us-central1/operations/../clusters/ml:cancel"} {
		w := d.Writes[0]
		var m map[string]any
		if err := json.Unmarshal(w.Body, &m); err != nil {
			t.Fatal(err)
		}
		m["path"] = path
		w.Body, _ = json.Marshal(m)
		if _, err := g.Do(t.Context(), "plan-1", w); err == nil {
			t.Errorf("%s was sent", path)
		}
	}
}

func TestGKEAbort(t *testing.T) {
	t.Parallel()
	k, srv := newClock(), newGoogle(t, gkePool())
	g := srv.client(k.now)
	c := newCluster(t, twoNodes(), k.now, g)
	c.refused("no upgrade is under way", "pool_bluegreen_abort", "pool", "gpu")
	for phase, want := range map[string]string{
		"UPDATE_STARTED": actions.PhaseProvisioning, "CREATING_GREEN_POOL": actions.PhaseProvisioning, "CORDONING_BLUE_POOL": actions.PhaseCordoning, "WAITING_TO_DRAIN_BLUE_POOL": actions.PhaseDraining,
		"DRAINING_BLUE_POOL": actions.PhaseDraining, "NODE_POOL_SOAKING": actions.PhaseFinalSoak, "DELETING_BLUE_POOL": actions.PhaseDeleting, "ROLLBACK_STARTED": actions.PhaseRollingBack, "SOMETHING_NEW": actions.PhaseUnknown,
	} {
		srv.set("RECONCILING", phase, "UPGRADE_NODES")
		k.move(time.Minute)
		s, err := g.Describe(t.Context(), "gpu", nil)
		if err != nil || s.Phase != want || s.Deadline.Hour() != 15 {
			t.Errorf("%s: %+v %v", phase, s, err)
		}
	}
	srv.set("RECONCILING", "DRAINING_BLUE_POOL", "UPGRADE_NODES")
	k.move(time.Minute)
	d := c.draft("pool_bluegreen_abort", "pool", "gpu")
	do(t, g, d.Writes[0], false)
	srv.end()
	k.move(time.Minute)
	c.check(d.Verify[0], incident.Pass)
}

func TestGKEFailures(t *testing.T) {
	t.Parallel()
	k := newClock()
	for code, says := range map[int]string{401: "log in again", 403: "container.clusters.update", 503: "503 DENIED: no"} {
		srv := newGoogle(t, gkePool())
		srv.deny = code
		if _, err := newCluster(t, twoNodes(), k.now, srv.client(k.now)).try("pool_scale", "pool", "gpu", "count", "4"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%d: %v", code, err)
		}
	}
	token := func(context.Context) (string, error) { return "", errors.New("no credentials") }
	for _, c := range []clouds.GKEConfig{{}, {Project: "a", Location: "b", Cluster: "c"}, {Project: "a", Location: "b", Cluster: "c", Token: token}, {Project: "a", Location: "b", Cluster: "c", Token: token, Now: k.now, Endpoint: "::"}} {
		if _, err := clouds.NewGKE(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	g, err := clouds.NewGKE(clouds.GKEConfig{Project: "a", Location: "b", Cluster: "c", Token: token, Now: k.now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Describe(t.Context(), "gpu", nil); err == nil || !strings.Contains(err.Error(), "no token") {
		t.Error(err)
	}
}
