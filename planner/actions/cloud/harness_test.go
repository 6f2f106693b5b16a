package cloud_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/evals/bundle"
	"github.com/gumshoe-ai/gumshoe/evals/bundle/apiserver"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	clouds "github.com/gumshoe-ai/gumshoe/planner/actions/cloud"
)

// clock is a clock that stands until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// server is the workload of the pods.
const server = "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s, namespace: ml, uid: o-s}\nspec: {}\n"

// cluster is a Kubernetes API in memory with a provider beside it.
type cluster struct {
	t   *testing.T
	cat *actions.Catalogue
}

func newCluster(t *testing.T, objects string, now func() time.Time, cloud actions.PoolCloud) *cluster {
	t.Helper()
	b, err := bundle.Open(fstest.MapFS{"bundle.yaml": {Data: []byte("formatVersion: 1\ncaptured: \"2026-11-27T12:00:00Z\"\n")}, "objects/all.yaml": {Data: []byte(server + objects)}}, bundle.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := apiserver.New(b)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(srv.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	disc, err := discovery.NewDiscoveryClientForConfig(srv.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(disc)
	if err != nil {
		t.Fatal(err)
	}
	cat, err := actions.New(actions.Config{Cluster: "test", Dynamic: dyn, Mapper: restmapper.NewDiscoveryRESTMapper(groups), Now: now, Clouds: []actions.PoolCloud{cloud}})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, cat: cat}
}

func (c *cluster) try(name string, params ...string) (planner.Draft, error) {
	c.t.Helper()
	p := map[string]string{}
	for i := 0; i+1 < len(params); i += 2 {
		p[params[i]] = params[i+1]
	}
	return c.cat.Session().Action(name).Compile(c.t.Context(), p)
}

func (c *cluster) draft(name string, params ...string) planner.Draft {
	c.t.Helper()
	d, err := c.try(name, params...)
	if err != nil {
		c.t.Fatalf("%s: %v", name, err)
	}
	return d
}

func (c *cluster) refused(part, name string, params ...string) {
	c.t.Helper()
	_, err := c.try(name, params...)
	if _, ok := errors.AsType[*planner.Refused](err); !ok || !strings.Contains(err.Error(), part) {
		c.t.Errorf("%s: %v, want a refusal with %q", name, err, part)
	}
}

func (c *cluster) missing(param, part, name string, params ...string) {
	c.t.Helper()
	_, err := c.try(name, params...)
	if m, ok := errors.AsType[*planner.Missing](err); !ok || m.Param != param || !strings.Contains(err.Error(), part) {
		c.t.Errorf("%s: %v, want parameter %s missing with %q", name, err, param, part)
	}
}

// check asks a check once.
func (c *cluster) check(k incident.Check, want incident.Verdict) {
	c.t.Helper()
	if v, saw := c.cat.NewChecker(nil, false).Check(c.t.Context(), k); v != want {
		c.t.Errorf("%s: %s, want %s: %s", k.Say, v, want, saw)
	}
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// do sends a write and expects it done, found or not.
func do(t *testing.T, b planner.Backend, w incident.Write, found bool) incident.WriteResult {
	t.Helper()
	r, err := b.Do(t.Context(), "plan-1", w)
	if err != nil {
		t.Fatalf("%s: %v", w.Say, err)
	}
	if !r.Done || r.Found != found {
		t.Fatalf("%s: %+v, want done, found %v", w.Say, r, found)
	}
	return r
}

// drifts fails unless a write is refused because the pool is another.
func drifts(t *testing.T, b planner.Backend, w incident.Write, part string) {
	t.Helper()
	_, err := b.Do(t.Context(), "plan-1", w)
	if _, ok := errors.AsType[*planner.Drift](err); !ok || !strings.Contains(err.Error(), part) {
		t.Errorf("%s: %v, want drift with %q", w.Say, err, part)
	}
}

// gpuNodes writes nodes of a pool of AKS; each is "name version image cordoned pods".
func gpuNodes(born string, nodes ...string) string {
	var b strings.Builder
	for _, line := range nodes {
		f := strings.Fields(line)
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Node
metadata: {name: %s, creationTimestamp: %q, labels: {kubernetes.azure.com/agentpool: gpu, cloud.google.com/gke-nodepool: gpu, kubernetes.azure.com/node-image-version: %s}}
spec: {unschedulable: %s}
status: {nodeInfo: {kubeletVersion: v%s}, conditions: [{type: Ready, status: "True"}]}
`, f[0], born, f[2], f[3], f[1])
		if f[4] == "1" {
			fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: on-%s, namespace: ml, labels: {app: s}, ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: s, uid: o-s, controller: true}]}
spec: {nodeName: %s, containers: [{name: m, image: i, resources: {requests: {nvidia.com/gpu: "8"}, limits: {nvidia.com/gpu: "8"}}}]}
status: {phase: Running, startTime: "2026-11-27T11:00:00Z", conditions: [{type: Ready, status: "True"}]}
`, f[0], f[0])
		}
	}
	return b.String()
}

// azure speaks ARM's protocol for one cluster: ETags, 202 with a Location that is
// polled, and versions of the API.
type azure struct {
	t    *testing.T
	mu   sync.Mutex
	etag int
	pool map[string]any
	// profile are recentlyUsedVersions; channel the auto-upgrade channel.
	profile []map[string]any
	channel string
	control string
	// calls are the writes that came, "METHOD path version".
	calls  []string
	bodies []map[string]any
	polls  int
	srv    *httptest.Server
}

const armPath = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/ml"

func newAzure(t *testing.T, properties map[string]any) *azure {
	t.Helper()
	a := &azure{t: t, etag: 1, pool: properties, channel: "none", control: "1.35.2"}
	a.srv = httptest.NewTLSServer(a)
	t.Cleanup(a.srv.Close)
	return a
}

func (a *azure) client(now func() time.Time, preview bool) *clouds.AKS {
	a.t.Helper()
	c, err := clouds.NewAKS(clouds.AKSConfig{Subscription: "sub", ResourceGroup: "rg", Cluster: "ml", Credential: &azfake.TokenCredential{}, Transport: a.srv.Client(), Preview: preview, Now: now,
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login.example.com/", Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: a.srv.URL, Audience: "https://management.example.com"}}}})
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// set changes the pool as Azure itself does.
func (a *azure) set(kv ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.etag++
	for i := 0; i+1 < len(kv); i += 2 {
		a.pool[kv[i].(string)] = kv[i+1]
	}
}

func (a *azure) seen() ([]string, []map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls, a.bodies
}

func (a *azure) match() string { return fmt.Sprintf("\"%d\"", a.etag) }

func (a *azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	version := r.URL.Query().Get("api-version")
	path, pool := strings.TrimPrefix(r.URL.Path, armPath), armPath+"/agentPools/gpu"
	answer := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	fail := func(code int, what string) {
		answer(code, map[string]any{"error": map[string]any{"code": what, "message": what}})
	}
	if r.Header.Get("Authorization") == "" {
		fail(http.StatusUnauthorized, "AuthenticationFailed")
		return
	}
	stable, isPreview := version == "2026-04-01", version == "2026-04-02-preview"
	later := func() {
		w.Header().Set("Location", a.srv.URL+"/operations/1?api-version="+version)
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusAccepted)
	}
	switch {
	case !stable && !isPreview && !strings.HasPrefix(r.URL.Path, "/operations/"):
		fail(http.StatusBadRequest, "InvalidApiVersion")
	case r.Method == http.MethodGet && r.URL.Path == armPath:
		answer(http.StatusOK, map[string]any{"id": armPath, "name": "ml", "properties": map[string]any{"currentKubernetesVersion": a.control, "autoUpgradeProfile": map[string]any{"upgradeChannel": a.channel, "nodeOSUpgradeChannel": "NodeImage"}}})
	case r.Method == http.MethodGet && path == "/agentPools/gpu/upgradeProfiles/default":
		answer(http.StatusOK, map[string]any{"properties": map[string]any{"kubernetesVersion": "1.35.2", "osType": "Linux", "recentlyUsedVersions": a.profile}})
	case r.Method == http.MethodGet && path == "/agentPools/gpu":
		p := map[string]any{"eTag": a.match()}
		for k, v := range a.pool {
			if stable && strings.HasPrefix(k, "upgradeStrategy") {
				continue
			}
			p[k] = v
		}
		answer(http.StatusOK, map[string]any{"id": pool, "name": "gpu", "type": "Microsoft.ContainerService/managedClusters/agentPools", "properties": p})
	case r.Method == http.MethodPut && path == "/agentPools/gpu":
		if m := r.Header.Get("If-Match"); m != "" && m != a.match() {
			fail(http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		var doc map[string]any
		if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
			fail(http.StatusBadRequest, "InvalidRequestContent")
			return
		}
		a.calls, a.bodies = append(a.calls, r.Method+" "+path+" "+version), append(a.bodies, doc)
		p := doc["properties"].(map[string]any)
		a.etag++
		maps.Copy(a.pool, p)
		switch {
		case p["nodeImageVersion"] != nil:
			a.pool["provisioningState"] = "RollingBack"
		case p["upgradeStrategy"] == "BlueGreen":
			a.pool["provisioningState"] = "Upgrading"
		default:
			a.pool["provisioningState"] = "Scaling"
		}
		w.Header().Set("Azure-AsyncOperation", a.srv.URL+"/operations/1?api-version="+version)
		answer(http.StatusCreated, map[string]any{"id": pool, "name": "gpu", "properties": a.pool})
	case r.Method == http.MethodPost && path == "/agentPools/gpu/abort":
		a.calls = append(a.calls, r.Method+" "+path+" "+version)
		a.etag++
		a.pool["provisioningState"] = "Canceling"
		later()
	case r.Method == http.MethodPost && path == "/agentPools/gpu/completeUpgrade" && isPreview:
		a.calls = append(a.calls, r.Method+" "+path+" "+version)
		later()
	case strings.HasPrefix(r.URL.Path, "/operations/"):
		a.polls++
		answer(http.StatusOK, map[string]any{"status": "InProgress"})
	default:
		fail(http.StatusNotFound, "NotFound")
	}
}
