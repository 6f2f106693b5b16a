package cloud_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v9"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v9/fake"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
	clouds "github.com/gumshoe-ai/gumshoe/planner/actions/cloud"
)

func upgraded() map[string]any {
	return map[string]any{"count": 2, "type": "VirtualMachineScaleSets", "vmSize": "Standard_ND96isr_H100_v5", "mode": "User", "provisioningState": "Succeeded",
		"orchestratorVersion": "1.35.2", "currentOrchestratorVersion": "1.35.2", "nodeImageVersion": "img-2", "nodeTaints": []any{"gpu=yes:NoSchedule"}}
}

func recently(age time.Duration) []map[string]any {
	return []map[string]any{{"orchestratorVersion": "1.34.4", "nodeImageVersion": "img-1", "timestamp": newClock().now().Add(-age).Format(time.RFC3339)}}
}

const day = 24 * time.Hour

func twoNodes() string {
	return gpuNodes("2026-11-27T10:00:00Z", "n0 1.35.2 img-2 false 1", "n1 1.35.2 img-2 false 0")
}

func TestAKSRollback(t *testing.T) {
	t.Parallel()
	k, az := newClock(), newAzure(t, upgraded())
	az.profile = recently(2 * day)
	a := az.client(k.now, false)
	c := newCluster(t, twoNodes(), k.now, a)
	d := c.draft("pool_rollback", "pool", "gpu")
	if d.Risk != incident.RiskCritical || d.Blast.PodCount != 1 || d.Blast.GPUs != 8 || len(d.Blast.Nodes) != 2 || len(d.Capacity) != 1 || len(d.Undo) != 0 {
		t.Errorf("%+v", d)
	}
	if d.Say != "Take pool gpu of AKS back to 1.34.4 img-1" || !strings.Contains(strings.Join(d.Warnings, "\n"), "AKS offers this version until 2026-12-02 12:00 UTC") || !strings.Contains(strings.Join(d.Warnings, "\n"), "node OS channel NodeImage") {
		t.Errorf("%q %q", d.Say, d.Warnings)
	}
	w := d.Writes[0]
	if len(d.Writes) != 1 || w.API != "aks" || w.Verb != "rollback" || w.UID != armPath+"/agentPools/gpu" || !strings.Contains(w.Diff, `+    "orchestratorVersion": "1.34.4"`) || !strings.Contains(w.Dry, "no dry run") {
		t.Errorf("%+v", w)
	}
	if diff, dry, err := a.Dry(t.Context(), w); err != nil || diff != w.Diff || dry != w.Dry {
		t.Errorf("%q %q %v", diff, dry, err)
	}
	if r, err := a.State(t.Context(), "plan-1", w); err != nil || r.Done {
		t.Errorf("before: %+v %v", r, err)
	}
	r := do(t, a, w, false)
	if r.Resume == "" || r.UID != w.UID {
		t.Errorf("%+v", r)
	}
	calls, bodies := az.seen()
	same(t, "calls", []string{"PUT /agentPools/gpu 2026-04-01"}, calls)
	// What only the server writes is not sent; what the pool is stays.
	p := bodies[0]["properties"].(map[string]any)
	same(t, "request", map[string]any{"count": float64(2), "type": "VirtualMachineScaleSets", "vmSize": "Standard_ND96isr_H100_v5", "mode": "User", "orchestratorVersion": "1.34.4", "nodeImageVersion": "img-1", "nodeTaints": []any{"gpu=yes:NoSchedule"}}, p)
	// A repetition finds it and sends nothing.
	do(t, a, w, true)
	c.check(w.Await[0], incident.Fail)
	az.set("provisioningState", "Succeeded", "currentOrchestratorVersion", "1.34.4")
	k.move(time.Minute)
	c.check(w.Await[0], incident.Pass)
	c.check(d.Verify[0], incident.Pass)
	do(t, a, w, true)
	if calls, _ := az.seen(); len(calls) != 1 {
		t.Errorf("calls %q", calls)
	}
}

func TestAKSRollbackRefuses(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		change func(*azure)
		says   string
	}{
		"nothing to go back to":  {func(a *azure) { a.profile = nil }, "no recently used version"},
		"too late":               {func(a *azure) { a.profile = recently(8 * day) }, "no recently used version"},
		"auto-upgrade":           {func(a *azure) { a.channel = "rapid" }, `auto-upgrade channel "rapid"`},
		"an operation under way": {func(a *azure) { a.set("provisioningState", "Scaling") }, "it is Updating (Scaling)"},
		"failed":                 {func(a *azure) { a.set("provisioningState", "Failed") }, "it is Failed"},
		"an unknown state":       {func(a *azure) { a.set("provisioningState", "Levitating") }, "it is Unknown (Levitating)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, az := newClock(), newAzure(t, upgraded())
			az.profile = recently(2 * day)
			x.change(az)
			newCluster(t, twoNodes(), k.now, az.client(k.now, false)).refused(x.says, "pool_rollback", "pool", "gpu")
		})
	}
	k, az := newClock(), newAzure(t, upgraded())
	az.profile = recently(2 * day)
	c := newCluster(t, twoNodes()+"---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: s, namespace: ml}\nspec: {selector: {matchLabels: {app: s}}, maxUnavailable: 0}\nstatus: {expectedPods: 1}\n", k.now, az.client(k.now, false))
	c.refused("ml/s never allows a disruption", "pool_rollback", "pool", "gpu")
	c.missing("version", "offers to go back to 1.34.4 img-1", "pool_rollback", "pool", "gpu", "version", "1.33.0")
	c.missing("pool", "no provider that is configured", "pool_rollback", "pool", "nope")
	c.refused("a preview", "pool_bluegreen_start", "pool", "gpu", "version", "1.35.3")
	c.refused("AKS has no pause", "pool_pause", "pool", "gpu")
}

func TestAKSDrift(t *testing.T) {
	t.Parallel()
	k, az := newClock(), newAzure(t, upgraded())
	az.profile = recently(2 * day)
	a := az.client(k.now, false)
	d := newCluster(t, twoNodes(), k.now, a).draft("pool_rollback", "pool", "gpu")
	az.set("count", 3)
	drifts(t, a, d.Writes[0], "ETag")
	if _, _, err := a.Dry(t.Context(), d.Writes[0]); err == nil {
		t.Error("the dry run takes a pool that has changed")
	}
	if err := a.Hold(t.Context(), d.Targets[0]); err == nil || !strings.Contains(err.Error(), "ETag") {
		t.Errorf("hold: %v", err)
	}
	if calls, _ := az.seen(); len(calls) > 0 {
		t.Errorf("calls %q", calls)
	}
	// A request for another pool, cluster or version is not sent.
	for name, change := range map[string]func(map[string]any){
		"another pool":    func(m map[string]any) { m["path"] = armPath + "/agentPools/system" },
		"another cluster": func(m map[string]any) { m["pool"] = "/subscriptions/other" },
		"delete":          func(m map[string]any) { m["path"] = armPath + "/agentPools/gpu/deleteMachines" },
		"another version": func(m map[string]any) { m["api_version"] = "2026-04-02-preview" },
		"nothing":         func(m map[string]any) { clear(m) },
	} {
		var m map[string]any
		if err := json.Unmarshal(d.Writes[0].Body, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		w := d.Writes[0]
		w.Body, _ = json.Marshal(m)
		if _, err := a.Do(t.Context(), "plan-1", w); err == nil {
			t.Errorf("%s was sent", name)
		}
	}
}

func TestAKSScale(t *testing.T) {
	t.Parallel()
	k, az := newClock(), newAzure(t, upgraded())
	a := az.client(k.now, false)
	c := newCluster(t, twoNodes(), k.now, a)
	d := c.draft("pool_scale", "pool", "gpu", "count", "5")
	if d.Say != "Scale pool gpu of AKS from 2 to 5 nodes" || d.Blast.PodCount != 0 || len(d.Capacity) != 1 || !strings.Contains(d.Capacity[0].Text, "3 more nodes") {
		t.Errorf("%+v", d)
	}
	do(t, a, d.Writes[0], false)
	_, bodies := az.seen()
	if p := bodies[0]["properties"].(map[string]any); p["count"] != float64(5) || p["nodeImageVersion"] != nil {
		t.Errorf("%v", p) // an image that is sent would start a rollback
	}
	az.set("provisioningState", "Succeeded")
	k.move(time.Minute)
	c.check(d.Verify[0], incident.Pass)
	do(t, a, d.Undo[0], false)
	_, bodies = az.seen()
	if p := bodies[1]["properties"].(map[string]any); p["count"] != float64(2) {
		t.Errorf("%v", p)
	}
	az.set("provisioningState", "Succeeded")
	k.move(time.Minute)
	c.missing("count", "has 2 nodes", "pool_scale", "pool", "gpu", "count", "2")
	az.set("provisioningState", "Succeeded", "enableAutoScaling", true, "minCount", 1, "maxCount", 9)
	k.move(time.Minute)
	c.refused("its autoscaler keeps it between 1 and 9 nodes", "pool_scale", "pool", "gpu", "count", "5")
}

func TestAKSBlueGreen(t *testing.T) {
	t.Parallel()
	k, az := newClock(), newAzure(t, upgraded())
	az.set("orchestratorVersion", "1.34.4", "currentOrchestratorVersion", "1.34.4", "nodeImageVersion", "img-1")
	a := az.client(k.now, true)
	c := newCluster(t, gpuNodes("2026-11-20T10:00:00Z", "b0 1.34.4 img-1 false 1", "b1 1.34.4 img-1 false 1"), k.now, a)
	c.missing("version", "newer than the control plane, 1.35.2", "pool_bluegreen_start", "pool", "gpu", "version", "1.36.0")
	c.missing("final_soak", "0 to 10080", "pool_bluegreen_start", "pool", "gpu", "version", "1.35.2", "final_soak", "20000")
	c.missing("drain_batch", "no number of nodes", "pool_bluegreen_start", "pool", "gpu", "version", "1.35.2", "drain_batch", "0")
	c.refused("no upgrade is under way", "pool_bluegreen_abort", "pool", "gpu")
	c.refused("its upgrade is not blue-green", "pool_bluegreen_commit", "pool", "gpu")
	d := c.draft("pool_bluegreen_start", "pool", "gpu", "version", "1.35.2", "drain_batch", "50%", "final_soak", "240")
	if !strings.Contains(strings.Join(d.Warnings, "\n"), "4.5 hours to 5.5 hours of batches and soaks (2 batches)") || !strings.Contains(d.Capacity[0].Text, "2 more nodes") {
		t.Errorf("%q %v", d.Warnings, d.Capacity)
	}
	r := do(t, a, d.Writes[0], false)
	if r.Resume == "" {
		t.Error("no token to find the operation again")
	}
	calls, bodies := az.seen()
	same(t, "calls", []string{"PUT /agentPools/gpu 2026-04-02-preview"}, calls)
	p := bodies[0]["properties"].(map[string]any)
	same(t, "settings", map[string]any{"drainBatchSize": "50%", "finalSoakDurationInMinutes": float64(240)}, p["upgradeSettingsBlueGreen"])
	if p["upgradeStrategy"] != "BlueGreen" || p["orchestratorVersion"] != "1.35.2" || p["nodeImageVersion"] != nil {
		t.Errorf("%v", p)
	}
	do(t, a, d.Writes[0], true)
	k.move(time.Minute)
	c.check(d.Verify[0], incident.Pass)
	// The undo stops it.
	do(t, a, d.Undo[0], false)
	do(t, a, d.Undo[0], true)
}

// soaking is an upgrade whose blue nodes are all drained.
func soaking(t *testing.T, k *clock, az *azure, a actions.PoolCloud) *cluster {
	t.Helper()
	az.set("provisioningState", "Upgrading", "upgradeStrategy", "BlueGreen", "nodeImageVersion", "img-2")
	az.profile = recently(2 * day)
	return newCluster(t, gpuNodes("2026-11-20T10:00:00Z", "b0 1.34.4 img-1 true 0", "b1 1.34.4 img-1 true 0")+gpuNodes("2026-11-27T10:00:00Z", "g0 1.35.2 img-2 false 1", "g1 1.35.2 img-2 false 1"), k.now, a)
}

func TestAKSCommit(t *testing.T) {
	t.Parallel()
	k, az := newClock(), newAzure(t, upgraded())
	a := az.client(k.now, true)
	c := soaking(t, k, az, a)
	d := c.draft("pool_bluegreen_commit", "pool", "gpu")
	r := do(t, a, d.Writes[0], false)
	if r.Resume == "" {
		t.Error("no token to find the operation again")
	}
	calls, _ := az.seen()
	same(t, "calls", []string{"POST /agentPools/gpu/completeUpgrade 2026-04-02-preview"}, calls)
	c.check(d.Writes[0].Await[0], incident.Fail)
	az.set("provisioningState", "Succeeded")
	k.move(time.Minute)
	c.check(d.Writes[0].Await[0], incident.Pass)
	do(t, a, d.Writes[0], true)
}

func TestAKSRevert(t *testing.T) {
	t.Parallel()
	k, az := newClock(), newAzure(t, upgraded())
	a := az.client(k.now, true)
	c := soaking(t, k, az, a)
	d := c.draft("pool_bluegreen_rollback", "pool", "gpu")
	if len(d.Writes) != 2 || d.Writes[0].Verb != actions.PoolAbort || d.Writes[1].Verb != actions.PoolRevert {
		t.Fatalf("%+v", d.Writes)
	}
	drifts(t, a, d.Writes[1], "needs Canceled") // not before the first one
	do(t, a, d.Writes[0], false)
	c.check(d.Writes[0].Await[0], incident.Fail)
	az.set("provisioningState", "Canceled")
	k.move(time.Minute)
	c.check(d.Writes[0].Await[0], incident.Pass)
	do(t, a, d.Writes[0], true)
	do(t, a, d.Writes[1], false)
	calls, bodies := az.seen()
	same(t, "calls", []string{"POST /agentPools/gpu/abort 2026-04-01", "PUT /agentPools/gpu 2026-04-02-preview"}, calls)
	if p := bodies[0]["properties"].(map[string]any); p["orchestratorVersion"] != "1.34.4" || p["nodeImageVersion"] != "img-1" {
		t.Errorf("%v", p)
	}
	do(t, a, d.Writes[1], true)
	az.set("provisioningState", "Succeeded", "currentOrchestratorVersion", "1.34.4")
	k.move(time.Minute)
	c.check(d.Verify[0], incident.Pass)
}

func TestAKSRevertRefuses(t *testing.T) {
	t.Parallel()
	k, az := newClock(), newAzure(t, upgraded())
	a := az.client(k.now, true)
	soaking(t, k, az, a)
	// Blue nodes still run pods: it is no final soak.
	c := newCluster(t, gpuNodes("2026-11-20T10:00:00Z", "b0 1.34.4 img-1 true 1", "b1 1.34.4 img-1 true 0")+gpuNodes("2026-11-27T10:00:00Z", "g0 1.35.2 img-2 false 1"), k.now, a)
	c.refused("only in the final soak (Draining)", "pool_bluegreen_rollback", "pool", "gpu")
	c.refused("not in its final soak (Draining)", "pool_bluegreen_commit", "pool", "gpu")
	d := c.draft("pool_bluegreen_abort", "pool", "gpu")
	do(t, a, d.Writes[0], false)
	az.set("provisioningState", "Canceled")
	k.move(time.Minute)
	c.check(d.Verify[0], incident.Pass)
	c.refused("only in the final soak (Paused)", "pool_bluegreen_rollback", "pool", "gpu")
}

// TestAKSOnSDK: what is generally available goes through the SDK, against its own fake.
func TestAKSOnSDK(t *testing.T) {
	t.Parallel()
	k := newClock()
	used := k.now().Add(-day)
	pool := armcontainerservice.AgentPool{Name: new("gpu"), Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{
		Count: new(int32(2)), ETag: new("e1"), ProvisioningState: new("Succeeded"), CurrentOrchestratorVersion: new("1.35.2"), OrchestratorVersion: new("1.35.2"), NodeImageVersion: new("img-2"), VMSize: new("Standard_ND96isr_H100_v5")}}
	var sent []armcontainerservice.AgentPool
	match := ""
	srv := &fake.ServerFactory{
		ManagedClustersServer: fake.ManagedClustersServer{Get: func(context.Context, string, string, *armcontainerservice.ManagedClustersClientGetOptions) (r azfake.Responder[armcontainerservice.ManagedClustersClientGetResponse], e azfake.ErrorResponder) {
			r.SetResponse(http.StatusOK, armcontainerservice.ManagedClustersClientGetResponse{}, nil)
			return r, e
		}},
		AgentPoolsServer: fake.AgentPoolsServer{
			Get: func(_ context.Context, _, _, name string, _ *armcontainerservice.AgentPoolsClientGetOptions) (r azfake.Responder[armcontainerservice.AgentPoolsClientGetResponse], e azfake.ErrorResponder) {
				if name != "gpu" {
					e.SetResponseError(http.StatusNotFound, "NotFound")
					return r, e
				}
				r.SetResponse(http.StatusOK, armcontainerservice.AgentPoolsClientGetResponse{AgentPool: pool}, nil)
				return r, e
			},
			GetUpgradeProfile: func(context.Context, string, string, string, *armcontainerservice.AgentPoolsClientGetUpgradeProfileOptions) (r azfake.Responder[armcontainerservice.AgentPoolsClientGetUpgradeProfileResponse], e azfake.ErrorResponder) {
				r.SetResponse(http.StatusOK, armcontainerservice.AgentPoolsClientGetUpgradeProfileResponse{AgentPoolUpgradeProfile: armcontainerservice.AgentPoolUpgradeProfile{Properties: &armcontainerservice.AgentPoolUpgradeProfileProperties{RecentlyUsedVersions: []*armcontainerservice.AgentPoolRecentlyUsedVersion{
					nil, {OrchestratorVersion: new("1.35.2"), NodeImageVersion: new("img-2"), Timestamp: &used}, {OrchestratorVersion: new("1.35.2"), NodeImageVersion: new("img-1"), Timestamp: &used},
				}}}}, nil)
				return r, e
			},
			BeginCreateOrUpdate: func(_ context.Context, _, _, _ string, p armcontainerservice.AgentPool, o *armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions) (r azfake.PollerResponder[armcontainerservice.AgentPoolsClientCreateOrUpdateResponse], e azfake.ErrorResponder) {
				match = *o.IfMatch
				sent = append(sent, p)
				if match != *pool.Properties.ETag {
					e.SetResponseError(http.StatusPreconditionFailed, "PreconditionFailed")
					return r, e
				}
				r.AddNonTerminalResponse(http.StatusCreated, nil)
				r.SetTerminalResponse(http.StatusOK, armcontainerservice.AgentPoolsClientCreateOrUpdateResponse{AgentPool: p}, nil)
				return r, e
			},
		},
	}
	a, err := clouds.NewAKS(clouds.AKSConfig{Subscription: "sub", ResourceGroup: "rg", Cluster: "ml", Credential: &azfake.TokenCredential{}, Transport: fake.NewServerFactoryTransport(srv), Now: k.now})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := a.Describe(t.Context(), "nope", nil); s != nil || err != nil {
		t.Errorf("%v %v", s, err)
	}
	d := newCluster(t, twoNodes(), k.now, a).draft("pool_rollback", "pool", "gpu")
	do(t, a, d.Writes[0], false)
	if match != "e1" || len(sent) != 1 || *sent[0].Properties.NodeImageVersion != "img-1" || *sent[0].Properties.OrchestratorVersion != "1.35.2" || sent[0].Properties.ETag != nil || *sent[0].Properties.VMSize != "Standard_ND96isr_H100_v5" {
		t.Errorf("%q %+v", match, sent)
	}
}

func TestAKSFailures(t *testing.T) {
	t.Parallel()
	for code, says := range map[int]string{401: "log in again", 403: "agentPools/read", 500: "500"} {
		k := newClock()
		srv := &fake.ServerFactory{AgentPoolsServer: fake.AgentPoolsServer{Get: func(context.Context, string, string, string, *armcontainerservice.AgentPoolsClientGetOptions) (r azfake.Responder[armcontainerservice.AgentPoolsClientGetResponse], e azfake.ErrorResponder) {
			e.SetResponseError(code, "Broken")
			return r, e
		}}}
		a, err := clouds.NewAKS(clouds.AKSConfig{Subscription: "sub", ResourceGroup: "rg", Cluster: "ml", Credential: &azfake.TokenCredential{}, Transport: fake.NewServerFactoryTransport(srv), Now: k.now})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newCluster(t, twoNodes(), k.now, a).try("pool_rollback", "pool", "gpu"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%d: %v", code, err)
		}
	}
	for _, c := range []clouds.AKSConfig{{}, {Subscription: "a", ResourceGroup: "b", Cluster: "c"}, {Subscription: "a", ResourceGroup: "b", Cluster: "c", Credential: &azfake.TokenCredential{}}} {
		if _, err := clouds.NewAKS(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
