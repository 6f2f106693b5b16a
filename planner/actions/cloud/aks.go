package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v9"

	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

const (
	// apiAKS is the API of the writes.
	apiAKS = "aks"
	// stable has version rollback; preview has blue-green upgrades and completeUpgrade.
	stable  = "2026-04-01"
	preview = "2026-04-02-preview"
	// window is how long after an upgrade AKS takes a pool back, one step (AKS docs, roll
	// back node pool version).
	window = 7 * 24 * time.Hour
)

// AKSConfig names one cluster and how its API is reached.
type AKSConfig struct {
	Subscription, ResourceGroup, Cluster string
	// Credential gives tokens of Entra ID.
	Credential azcore.TokenCredential
	// Transport sends the requests; nil means the SDK's own.
	Transport policy.Transporter
	// Cloud is where Azure is; the zero value means the public cloud.
	Cloud azcloud.Configuration
	// Preview allows blue-green upgrades, which Azure offers as a preview.
	Preview bool
	Now     func() time.Time
	// Sleep waits between two looks; nil means a timer.
	Sleep func(context.Context, time.Duration) error
}

// AKS describes and changes the agent pools of one cluster. It is safe for
// concurrent use.
type AKS struct {
	cfg      AKSConfig
	pools    *armcontainerservice.AgentPoolsClient
	clusters *armcontainerservice.ManagedClustersClient
	// thin sends what the SDK has no call for.
	thin  *arm.Client
	cache *cache
}

var (
	_ actions.PoolCloud = (*AKS)(nil)
	_ planner.Backend   = (*AKS)(nil)
)

// NewAKS makes the client of one cluster. It talks to nobody.
func NewAKS(c AKSConfig) (*AKS, error) {
	switch {
	case c.Subscription == "" || c.ResourceGroup == "" || c.Cluster == "":
		return nil, errors.New("aks: subscription, resource group and cluster are required")
	case c.Credential == nil:
		return nil, errors.New("aks: Credential is required")
	case c.Now == nil:
		return nil, errors.New("aks: a clock is required")
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	opts := &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Cloud: c.Cloud, Transport: c.Transport, Telemetry: policy.TelemetryOptions{ApplicationID: "gumshoe"},
		// What is repeated is the planner's to decide: it knows what came through.
		Retry: policy.RetryOptions{MaxRetries: 1, RetryDelay: 500 * time.Millisecond, MaxRetryDelay: 3 * time.Second, TryTimeout: timeout / 2, StatusCodes: []int{http.StatusTooManyRequests}},
	}, DisableRPRegistration: true}
	pools, err := armcontainerservice.NewAgentPoolsClient(c.Subscription, c.Credential, opts)
	if err != nil {
		return nil, fmt.Errorf("aks: %w", err)
	}
	clusters, err := armcontainerservice.NewManagedClustersClient(c.Subscription, c.Credential, opts)
	if err != nil {
		return nil, fmt.Errorf("aks: %w", err)
	}
	thin, err := arm.NewClient("gumshoe", "v1.0.0", c.Credential, opts)
	if err != nil {
		return nil, fmt.Errorf("aks: %w", err)
	}
	return &AKS{cfg: c, pools: pools, clusters: clusters, thin: thin, cache: &cache{now: c.Now}}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Name implements actions.PoolCloud.
func (a *AKS) Name() string { return "AKS" }

// path is the ARM id of a pool.
func (a *AKS) path(pool string) string {
	return "/subscriptions/" + url.PathEscape(a.cfg.Subscription) + "/resourceGroups/" + url.PathEscape(a.cfg.ResourceGroup) +
		"/providers/Microsoft.ContainerService/managedClusters/" + url.PathEscape(a.cfg.Cluster) + "/agentPools/" + url.PathEscape(pool)
}

// read gets the JSON of a pool. With previews allowed it is of the preview's version,
// which alone knows the strategy of upgrades.
func (a *AKS) read(ctx context.Context, pool string) (map[string]any, error) {
	return a.cache.get(pool, func() (map[string]any, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if a.cfg.Preview {
			res, err := a.call(ctx, http.MethodGet, a.path(pool), preview, "", nil)
			if err != nil {
				return nil, a.failure(err, pool)
			}
			defer func() { _ = res.Body.Close() }()
			return decoded(res, pool)
		}
		got, err := a.pools.Get(ctx, a.cfg.ResourceGroup, a.cfg.Cluster, pool, nil)
		if err != nil {
			return nil, a.failure(err, pool)
		}
		raw, err := json.Marshal(got.AgentPool)
		if err != nil {
			return nil, fmt.Errorf("aks pool %s: %w", pool, err)
		}
		var doc map[string]any
		return doc, json.Unmarshal(raw, &doc)
	})
}

// call sends a request that the SDK has no call for.
func (a *AKS) call(ctx context.Context, method, path, version, match string, body []byte) (*http.Response, error) {
	req, err := runtime.NewRequest(ctx, method, runtime.JoinPaths(a.thin.Endpoint(), path))
	if err != nil {
		return nil, err
	}
	q := req.Raw().URL.Query()
	q.Set("api-version", version)
	req.Raw().URL.RawQuery = q.Encode()
	req.Raw().Header.Set("Accept", "application/json")
	if match != "" {
		req.Raw().Header.Set("If-Match", match)
	}
	if body != nil {
		if err := req.SetBody(streaming.NopCloser(bytes.NewReader(body)), "application/json"); err != nil {
			return nil, err
		}
	}
	res, err := a.thin.Pipeline().Do(req)
	if err != nil {
		return nil, err
	}
	if !runtime.HasStatusCode(res, http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent) {
		return nil, runtime.NewResponseError(res)
	}
	return res, nil
}

// decoded reads the JSON of an answer.
func decoded(res *http.Response, pool string) (map[string]any, error) {
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return nil, lost("Azure", err)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("the answer of Azure about pool %s is no JSON: %w", pool, err)
	}
	return doc, nil
}

// Describe implements actions.PoolCloud.
func (a *AKS) Describe(ctx context.Context, pool string, nodes []actions.PoolNode) (*actions.PoolState, error) {
	doc, err := a.read(ctx, pool)
	if isNoPool(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	get := func(k string) string { return field(doc, "properties."+k) }
	s := &actions.PoolState{Provider: a.Name(), State: get("provisioningState"), Version: get("currentOrchestratorVersion"), Image: get("nodeImageVersion"), Token: get("eTag"),
		Count: number(get("count")), Min: number(get("minCount")), Max: number(get("maxCount")), Autoscale: get("enableAutoScaling") == "true", Why: map[string]string{}}
	if s.Version == "" {
		s.Version = get("orchestratorVersion")
	}
	blueGreen := get("upgradeStrategy") == "BlueGreen"
	var blue actions.PoolTarget
	s.Phase, blue = aksPhase(s.State, blueGreen, nodes)
	if s.Facts, err = json.Marshal(doc); err != nil {
		return nil, fmt.Errorf("aks pool %s: %w", pool, err)
	}
	if err := a.targets(ctx, pool, s, blue); err != nil {
		return nil, err
	}
	return s, a.capable(ctx, s, get("type"), blueGreen, blue, nodes)
}

// targets reads the versions that AKS would go back to.
func (a *AKS) targets(ctx context.Context, pool string, s *actions.PoolState, blue actions.PoolTarget) error {
	doc, err := a.cache.get(pool+"/upgradeProfile", func() (map[string]any, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		got, err := a.pools.GetUpgradeProfile(ctx, a.cfg.ResourceGroup, a.cfg.Cluster, pool, nil)
		if err != nil {
			return nil, a.failure(err, pool)
		}
		raw, err := json.Marshal(got.AgentPoolUpgradeProfile)
		if err != nil {
			return nil, err
		}
		var doc map[string]any
		return doc, json.Unmarshal(raw, &doc)
	})
	if err != nil {
		s.Why[actions.PoolRollback] = "the versions to go back to cannot be read: " + err.Error()
		return nil //nolint:nilerr // it is told beside the pool, whose state is known
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	var p armcontainerservice.AgentPoolUpgradeProfile
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("aks pool %s: %w", pool, err)
	}
	if p.Properties == nil {
		return nil
	}
	for _, v := range p.Properties.RecentlyUsedVersions {
		if v == nil || v.OrchestratorVersion == nil || v.NodeImageVersion == nil {
			continue
		}
		t := actions.PoolTarget{Version: *v.OrchestratorVersion, Image: *v.NodeImageVersion}
		if v.Timestamp != nil {
			t.Used, t.Until = *v.Timestamp, v.Timestamp.Add(window)
		}
		if t.Version == s.Version && t.Image == s.Image && blue.Version == "" || !t.Until.IsZero() && !t.Until.After(a.cfg.Now()) {
			continue
		}
		s.Targets = append(s.Targets, t)
	}
	slices.SortStableFunc(s.Targets, func(x, y actions.PoolTarget) int { return y.Used.Compare(x.Used) })
	return nil
}

// capable says what the pool can do now, and of the rest why not.
func (a *AKS) capable(ctx context.Context, s *actions.PoolState, kind string, blueGreen bool, blue actions.PoolTarget, nodes []actions.PoolNode) error {
	can := func(change, why string) {
		switch {
		case s.Why[change] != "": // known already
		case why == "":
			s.Can = append(s.Can, change)
		default:
			s.Why[change] = why
		}
	}
	busy := ""
	if s.Phase != actions.PhaseIdle {
		busy = fmt.Sprintf("it is %s (%s), and a change needs it idle", s.Phase, s.State)
	}
	cluster, err := a.upgrades(ctx)
	if err != nil {
		return err
	}
	channel := field(cluster, "channel")
	running := slices.Contains([]string{actions.PhaseProvisioning, actions.PhaseCordoning, actions.PhaseDraining, actions.PhaseBatchSoak, actions.PhaseFinalSoak, actions.PhaseUpdating}, s.Phase)
	first := func(reasons ...string) string {
		return slices.Concat(slices.DeleteFunc(reasons, func(r string) bool { return r == "" }), []string{""})[0]
	}
	when := func(bad bool, text string, args ...any) string {
		if bad {
			return fmt.Sprintf(text, args...)
		}
		return ""
	}
	auto := when(channel != "", "the auto-upgrade channel %q of the cluster would bring the newer version back; set it to none first", channel)
	can(actions.PoolRollback, first(busy, when(len(s.Targets) == 0, "AKS offers no recently used version (it does for 7 days after an upgrade, one step)"), auto))
	off := when(!a.cfg.Preview, "blue-green upgrades of AKS are a preview; set azure.preview to allow them")
	can(actions.PoolStart, first(off, busy, when(kind != "" && kind != "VirtualMachineScaleSets", "AKS upgrades pools of %s not blue-green", kind)))
	can(actions.PoolAbort, when(!running, "no upgrade is under way (%s)", s.State))
	soaks := when(s.Phase != actions.PhaseFinalSoak, "it is not in its final soak (%s)", s.Phase)
	can(actions.PoolCommit, first(off, when(!blueGreen, "its upgrade is not blue-green"), soaks))
	drained := s.Phase == actions.PhaseFinalSoak || s.Phase == actions.PhasePaused && soaked(nodes)
	i := slices.IndexFunc(s.Targets, func(t actions.PoolTarget) bool {
		return t.Version == blue.Version && (t.Image == blue.Image || blue.Image == "")
	})
	can(actions.PoolRevert, first(off, when(!blueGreen, "its upgrade is not blue-green"), when(!drained, "AKS goes back to the blue nodes only in the final soak (%s)", s.Phase),
		when(i < 0, "AKS does not offer the version of the blue nodes, %s", strings.TrimSpace(blue.Version+" "+blue.Image)), auto))
	if i > 0 { // the blue nodes come first
		s.Targets = append([]actions.PoolTarget{s.Targets[i]}, slices.Delete(s.Targets, i, i+1)...)
	}
	can(actions.PoolScale, first(busy, when(s.Autoscale, "its autoscaler keeps it between %d and %d nodes", s.Min, s.Max)))
	s.Why[actions.PoolPause] = "AKS has no pause"
	s.Why[actions.PoolResume] = "AKS has no pause"
	return nil
}

// upgrades is what the cluster says of its upgrades: "channel" and "os" are the
// automatic ones, empty when they are off, "version" that of the control plane.
func (a *AKS) upgrades(ctx context.Context) (map[string]any, error) {
	return a.cache.get("", func() (map[string]any, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		got, err := a.clusters.Get(ctx, a.cfg.ResourceGroup, a.cfg.Cluster, nil)
		if err != nil {
			return nil, a.failure(err, "")
		}
		doc := map[string]any{}
		if got.Properties == nil {
			return doc, nil
		}
		if v := got.Properties.CurrentKubernetesVersion; v != nil {
			doc["version"] = *v
		}
		if auto := got.Properties.AutoUpgradeProfile; auto != nil {
			if c := auto.UpgradeChannel; c != nil && *c != armcontainerservice.UpgradeChannelNone {
				doc["channel"] = string(*c)
			}
			if c := auto.NodeOSUpgradeChannel; c != nil && *c != armcontainerservice.NodeOSUpgradeChannelNone {
				doc["os"] = string(*c)
			}
		}
		return doc, nil
	})
}

func number(s string) int {
	var n int
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil {
		return -1
	}
	return n
}

// failure turns an error of the SDK into a sentence with a way out.
func (a *AKS) failure(err error, pool string) error {
	where := fmt.Sprintf("AKS cluster %s in resource group %s", a.cfg.Cluster, a.cfg.ResourceGroup)
	re, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return lost("Azure", errors.New(firstLine(err.Error())))
	}
	switch re.StatusCode {
	case http.StatusUnauthorized:
		return fmt.Errorf("azure does not accept this identity (401): log in again, or check the workload identity")
	case http.StatusForbidden:
		return fmt.Errorf("this identity may not do that on %s (403 %s): it needs Microsoft.ContainerService/managedClusters/agentPools/read and write", where, re.ErrorCode)
	case http.StatusNotFound:
		if pool != "" && re.ErrorCode != "ResourceGroupNotFound" {
			return errNoPool{pool}
		}
		return fmt.Errorf("%s is not there (404 %s): check azure.subscription, azure.resourceGroup and azure.cluster", where, re.ErrorCode)
	}
	return fmt.Errorf("azure answered %d %s for %s", re.StatusCode, re.ErrorCode, where)
}
