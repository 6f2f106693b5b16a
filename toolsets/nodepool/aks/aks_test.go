package aks_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v9"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v9/fake"
	"github.com/google/go-cmp/cmp"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool/aks"
)

// server is the SDK's own fake of the agent pools API.
func server(pools []*armcontainerservice.AgentPool, profile func(pool string) (*armcontainerservice.AgentPoolUpgradeProfile, int, string)) *fake.AgentPoolsServer {
	return &fake.AgentPoolsServer{
		NewListPager: func(group, cluster string, _ *armcontainerservice.AgentPoolsClientListOptions) azfake.PagerResponder[armcontainerservice.AgentPoolsClientListResponse] {
			var r azfake.PagerResponder[armcontainerservice.AgentPoolsClientListResponse]
			if group != "rg" || cluster != "ml" {
				r.AddResponseError(http.StatusNotFound, "ResourceNotFound")
				return r
			}
			// A page each: paging is part of what is read.
			for _, p := range pools {
				r.AddPage(http.StatusOK, armcontainerservice.AgentPoolsClientListResponse{AgentPoolListResult: armcontainerservice.AgentPoolListResult{Value: []*armcontainerservice.AgentPool{p}}}, nil)
			}
			return r
		},
		GetUpgradeProfile: func(_ context.Context, _, _, pool string, _ *armcontainerservice.AgentPoolsClientGetUpgradeProfileOptions) (azfake.Responder[armcontainerservice.AgentPoolsClientGetUpgradeProfileResponse], azfake.ErrorResponder) {
			var r azfake.Responder[armcontainerservice.AgentPoolsClientGetUpgradeProfileResponse]
			var e azfake.ErrorResponder
			p, status, code := profile(pool)
			if status != http.StatusOK {
				e.SetResponseError(status, code)
				return r, e
			}
			r.SetResponse(http.StatusOK, armcontainerservice.AgentPoolsClientGetUpgradeProfileResponse{AgentPoolUpgradeProfile: *p}, nil)
			return r, e
		},
	}
}

func client(t *testing.T, s *fake.AgentPoolsServer, cluster string) *aks.Client {
	t.Helper()
	c, err := aks.New(aks.Config{Subscription: "sub", ResourceGroup: "rg", Cluster: cluster, Credential: &azfake.TokenCredential{}, Transport: fake.NewAgentPoolsServerTransport(s)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func none(string) (*armcontainerservice.AgentPoolUpgradeProfile, int, string) {
	return &armcontainerservice.AgentPoolUpgradeProfile{}, http.StatusOK, ""
}

func TestPools(t *testing.T) {
	t.Parallel()
	used := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	pools := []*armcontainerservice.AgentPool{
		{Name: new("gpu"), Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{
			ProvisioningState: new("UpgradingNodeImageVersion"), Count: new(int32(4)), MinCount: new(int32(1)), MaxCount: new(int32(6)), EnableAutoScaling: new(true),
			CurrentOrchestratorVersion: new("1.34.4"), OrchestratorVersion: new("1.35.2"), NodeImageVersion: new("AKSUbuntu-2404-202611.20.0"), VMSize: new("Standard_ND96isr_H100_v5"),
			AvailabilityZones: []*string{new("1"), nil}, UpgradeSettings: &armcontainerservice.AgentPoolUpgradeSettings{MaxSurge: new("10%"), DrainTimeoutInMinutes: new(int32(30)), UndrainableNodeBehavior: new(armcontainerservice.UndrainableNodeBehaviorCordon)},
		}},
		{Name: new("bad"), Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{
			ProvisioningState: new("Failed"), Count: new(int32(0)),
			Status: &armcontainerservice.AgentPoolStatus{ProvisioningError: &armcontainerservice.ErrorDetail{Code: new("Outer"), Message: new("outer"), Details: []*armcontainerservice.ErrorDetail{nil, {Code: new("AllocationFailed"), Message: new("no room")}}}},
		}},
		{Name: new("off"), Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{ProvisioningState: new("Succeeded"), PowerState: &armcontainerservice.PowerState{Code: new(armcontainerservice.CodeStopped)}}},
		{Name: new("odd"), Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{ProvisioningState: new("Frobnicating")}},
		{Name: new("bare")},
		{},
	}
	profile := func(pool string) (*armcontainerservice.AgentPoolUpgradeProfile, int, string) {
		switch pool {
		case "gpu":
			return &armcontainerservice.AgentPoolUpgradeProfile{Properties: &armcontainerservice.AgentPoolUpgradeProfileProperties{RecentlyUsedVersions: []*armcontainerservice.AgentPoolRecentlyUsedVersion{
				{NodeImageVersion: new("AKSUbuntu-2404-202611.02.0"), OrchestratorVersion: new("1.34.4"), Timestamp: &used}, nil, {},
			}}}, http.StatusOK, ""
		case "bad":
			return nil, http.StatusForbidden, "AuthorizationFailed"
		}
		return none(pool)
	}
	got, err := client(t, server(pools, profile), "ml").Pools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []nodepool.CloudPool{
		{Name: "gpu", Phase: nodepool.PhaseUpgrading, State: "UpgradingNodeImageVersion", Count: 4, Min: 1, Max: 6, Autoscale: true, Version: "1.34.4", Target: "1.35.2", Image: "AKSUbuntu-2404-202611.20.0", SKU: "Standard_ND96isr_H100_v5", Zones: []string{"1"},
			Strategy: "surge 10%, drain 30m, undrainable nodes Cordon", Rollback: []nodepool.Rollback{{Version: "1.34.4", Image: "AKSUbuntu-2404-202611.02.0", Used: used, Until: used.Add(7 * 24 * time.Hour)}}},
		{Name: "bad", Phase: nodepool.PhaseFailed, State: "Failed", Count: 0, Min: -1, Max: -1, ErrorCode: "AllocationFailed", Error: "no room",
			Note: "the versions to go back to are not known: this identity may not read the agent pools of AKS cluster ml in resource group rg (403 AuthorizationFailed); give it Microsoft.ContainerService/managedClusters/agentPools/read, as the role Reader has"},
		{Name: "off", Phase: nodepool.PhaseStopped, State: "Succeeded (Stopped)", Count: -1, Min: -1, Max: -1},
		{Name: "odd", Phase: nodepool.PhaseUnknown, State: "Frobnicating", Count: -1, Min: -1, Max: -1},
		{Name: "bare", Phase: nodepool.PhaseUnknown, State: "unknown", Count: -1, Min: -1, Max: -1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// onWire talks to a real TLS server in the place of Azure.
func onWire(t *testing.T, h http.HandlerFunc, timeout time.Duration) *aks.Client {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	c, err := aks.New(aks.Config{Subscription: "sub", ResourceGroup: "rg", Cluster: "ml", Credential: &azfake.TokenCredential{}, Transport: srv.Client(), Timeout: timeout,
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: srv.URL, Audience: "https://management.example.com"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRefusals: each is a sentence with a kind; none takes the caller's patience.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		kind tool.Kind
		says string
	}{
		401: {tool.Unreachable, "401"},
		403: {tool.Forbidden, "agentPools/read"},
		404: {tool.NotFound, "azure.cluster"},
		409: {tool.Unreachable, "409"},
		429: {tool.Unreachable, "throttles"},
	} {
		c := onWire(t, func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/ml/agentPools") || r.Header.Get("Authorization") == "" {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"error":{"code":"Refused","message":"no"}}`)
		}, 0)
		_, err := c.Pools(t.Context())
		if tool.KindOf(err) != want.kind || !strings.Contains(tool.UserText(err), want.says) {
			t.Errorf("%d: %s %q", status, tool.KindOf(err), tool.UserText(err))
		}
	}
	for name, body := range map[string]string{"no JSON": "<html>gateway</html>", "cut": `{"value":[{"name":"a"`, "another shape": `{"value":7}`} {
		c := onWire(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }, 0)
		if _, err := c.Pools(t.Context()); err == nil || tool.UserText(err) == "" || strings.Contains(tool.UserText(err), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := onWire(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 200*time.Millisecond)
	if _, err := c.Pools(t.Context()); tool.KindOf(err) != tool.TimedOut {
		t.Errorf("a server that hangs: %s %v", tool.KindOf(err), err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []aks.Config{{}, {Subscription: "a", ResourceGroup: "b"}, {Subscription: "a", ResourceGroup: "b", Cluster: "c"}} {
		if _, err := aks.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	var _ policy.Transporter = http.DefaultClient
}
