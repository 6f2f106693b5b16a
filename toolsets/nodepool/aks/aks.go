// Package aks reads the agent pools of one AKS cluster through the official Azure
// SDK: state, sizes, versions, upgrade settings, why the last operation failed, and
// the versions that the pool may go back to. It reads only.
package aks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v9"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
)

const (
	// DefaultTimeout bounds one look at all pools.
	DefaultTimeout = 20 * time.Second
	// window is how long after an upgrade AKS takes a pool back to the version
	// before (AKS docs, roll back node pool version: 7 days, one step).
	window = 7 * 24 * time.Hour
	// profiles is for how many pools the versions to go back to are read, a call each.
	profiles = 20
)

// Config names one cluster and how its API is reached.
type Config struct {
	Subscription, ResourceGroup, Cluster string
	// Credential gives tokens of Entra ID.
	Credential azcore.TokenCredential
	// Transport sends the requests; nil means the SDK's own.
	Transport policy.Transporter
	// Cloud is where Azure is; the zero value means the public cloud.
	Cloud cloud.Configuration
	// Timeout bounds one look; zero means DefaultTimeout.
	Timeout time.Duration
}

// Client reads the pools of one cluster. It is safe for concurrent use.
type Client struct {
	cfg   Config
	pools *armcontainerservice.AgentPoolsClient
}

var _ nodepool.Cloud = (*Client)(nil)

// New makes a client. It talks to nobody.
func New(c Config) (*Client, error) {
	switch {
	case c.Subscription == "" || c.ResourceGroup == "" || c.Cluster == "":
		return nil, fmt.Errorf("aks: subscription, resource group and cluster are required")
	case c.Credential == nil:
		return nil, fmt.Errorf("aks: Credential is required")
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	opts := &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Cloud: c.Cloud, Transport: c.Transport,
		// A person waits: one retry, and none where Azure asks for more than a few
		// seconds of patience.
		Retry:     policy.RetryOptions{MaxRetries: 1, RetryDelay: 500 * time.Millisecond, MaxRetryDelay: 3 * time.Second, TryTimeout: c.Timeout / 2},
		Telemetry: policy.TelemetryOptions{ApplicationID: "gumshoe"},
	}, DisableRPRegistration: true}
	pools, err := armcontainerservice.NewAgentPoolsClient(c.Subscription, c.Credential, opts)
	if err != nil {
		return nil, fmt.Errorf("aks: %w", err)
	}
	return &Client{cfg: c, pools: pools}, nil
}

// Name implements nodepool.Cloud.
func (c *Client) Name() string { return "AKS" }

// Pools implements nodepool.Cloud.
func (c *Client) Pools(ctx context.Context) ([]nodepool.CloudPool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	out := []nodepool.CloudPool{}
	pager := c.pools.NewListPager(c.cfg.ResourceGroup, c.cfg.Cluster, nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, c.failure(err)
		}
		for _, p := range page.Value {
			if p == nil || p.Name == nil {
				continue
			}
			out = append(out, poolOf(p))
		}
	}
	for i := range out {
		if i >= profiles {
			break
		}
		out[i].Rollback, out[i].Note = c.rollback(ctx, out[i])
	}
	return out, nil
}

// rollback reads which versions a pool may go back to. That they cannot be read is
// told beside the pool.
func (c *Client) rollback(ctx context.Context, p nodepool.CloudPool) ([]nodepool.Rollback, string) {
	got, err := c.pools.GetUpgradeProfile(ctx, c.cfg.ResourceGroup, c.cfg.Cluster, p.Name, nil)
	if err != nil {
		return nil, "the versions to go back to are not known: " + tool.UserText(c.failure(err))
	}
	if got.Properties == nil {
		return nil, ""
	}
	var out []nodepool.Rollback
	for _, v := range got.Properties.RecentlyUsedVersions {
		if v == nil {
			continue
		}
		r := nodepool.Rollback{Version: str(v.OrchestratorVersion), Image: str(v.NodeImageVersion)}
		if r.Version == "" && r.Image == "" || r.Version == p.Version && r.Image == p.Image {
			continue
		}
		if v.Timestamp != nil {
			r.Used, r.Until = *v.Timestamp, v.Timestamp.Add(window)
		}
		out = append(out, r)
	}
	return out, ""
}

// poolOf reads one agent pool. What a version of the API does not have is left out.
func poolOf(p *armcontainerservice.AgentPool) nodepool.CloudPool {
	out := nodepool.CloudPool{Name: *p.Name, Phase: nodepool.PhaseUnknown, State: "unknown", Count: -1, Min: -1, Max: -1}
	x := p.Properties
	if x == nil {
		return out
	}
	out.Count, out.Min, out.Max = num(x.Count), num(x.MinCount), num(x.MaxCount)
	out.Autoscale = x.EnableAutoScaling != nil && *x.EnableAutoScaling
	out.Version, out.Target = str(x.CurrentOrchestratorVersion), str(x.OrchestratorVersion)
	if out.Version == "" {
		out.Version = out.Target
	}
	out.Image, out.SKU = str(x.NodeImageVersion), str(x.VMSize)
	for _, z := range x.AvailabilityZones {
		if z != nil {
			out.Zones = append(out.Zones, *z)
		}
	}
	if s := str(x.ProvisioningState); s != "" {
		out.State, out.Phase = s, phaseOf(s)
	}
	if x.PowerState != nil && x.PowerState.Code != nil && *x.PowerState.Code == armcontainerservice.CodeStopped {
		out.State += " (Stopped)"
		if out.Phase != nodepool.PhaseFailed {
			out.Phase = nodepool.PhaseStopped
		}
	}
	if x.Status != nil && x.Status.ProvisioningError != nil && out.Phase != nodepool.PhaseIdle {
		out.ErrorCode, out.Error = deepest(x.Status.ProvisioningError)
	}
	out.Strategy = strategy(x.UpgradeSettings)
	return out
}

// phaseOf maps the provisioning states that AKS documents; another word stays
// unknown, never fine.
func phaseOf(state string) string {
	switch state {
	case "Succeeded":
		return nodepool.PhaseIdle
	case "Creating", "Starting":
		return nodepool.PhaseCreating
	case "Scaling":
		return nodepool.PhaseScaling
	case "Updating", "Stopping", "Migrating", "ReimagingNodes":
		return nodepool.PhaseUpdating
	case "Upgrading", "UpgradingNodeImageVersion":
		return nodepool.PhaseUpgrading
	case "RollingBack":
		return nodepool.PhaseRollingBack
	case "Deleting":
		return nodepool.PhaseDeleting
	case "Failed", "Canceled":
		return nodepool.PhaseFailed
	}
	return nodepool.PhaseUnknown
}

// deepest finds the error within the errors: ARM wraps what the compute service said.
func deepest(e *armcontainerservice.ErrorDetail) (code, message string) {
	for range 8 {
		i := slices.IndexFunc(e.Details, func(d *armcontainerservice.ErrorDetail) bool { return d != nil && d.Message != nil && *d.Message != "" })
		if i < 0 {
			break
		}
		e = e.Details[i]
	}
	return str(e.Code), str(e.Message)
}

func strategy(u *armcontainerservice.AgentPoolUpgradeSettings) string {
	if u == nil {
		return ""
	}
	var out []string
	if s := str(u.MaxSurge); s != "" {
		out = append(out, "surge "+s)
	}
	if s := str(u.MaxUnavailable); s != "" && s != "0" {
		out = append(out, "unavailable "+s)
	}
	if u.DrainTimeoutInMinutes != nil {
		out = append(out, fmt.Sprintf("drain %dm", *u.DrainTimeoutInMinutes))
	}
	if u.NodeSoakDurationInMinutes != nil && *u.NodeSoakDurationInMinutes > 0 {
		out = append(out, fmt.Sprintf("soak %dm", *u.NodeSoakDurationInMinutes))
	}
	if u.UndrainableNodeBehavior != nil {
		out = append(out, "undrainable nodes "+string(*u.UndrainableNodeBehavior))
	}
	return strings.Join(out, ", ")
}

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func num(n *int32) int {
	if n == nil {
		return -1
	}
	return int(*n)
}

// failure turns an error of the SDK into a sentence with a way out.
func (c *Client) failure(err error) error {
	where := fmt.Sprintf("AKS cluster %s in resource group %s", c.cfg.Cluster, c.cfg.ResourceGroup)
	if re, ok := errors.AsType[*azcore.ResponseError](err); ok {
		switch re.StatusCode {
		case http.StatusUnauthorized:
			return &tool.Error{Kind: tool.Unreachable, User: "Azure does not accept this identity (401)", Fix: "log in again, or check the workload identity", Err: err}
		case http.StatusForbidden:
			return &tool.Error{Kind: tool.Forbidden, User: "this identity may not read the agent pools of " + where + " (403 " + re.ErrorCode + ")", Fix: "give it Microsoft.ContainerService/managedClusters/agentPools/read, as the role Reader has", Err: err}
		case http.StatusNotFound:
			return &tool.Error{Kind: tool.NotFound, User: where + " is not there (404 " + re.ErrorCode + ")", Fix: "check azure.subscription, azure.resourceGroup and azure.cluster", Err: err}
		case http.StatusTooManyRequests:
			return &tool.Error{Kind: tool.Unreachable, User: "Azure throttles this identity (429)", Fix: "ask again in a few minutes", Err: err}
		}
		return &tool.Error{Kind: tool.Unreachable, User: fmt.Sprintf("Azure answered %d %s for %s", re.StatusCode, re.ErrorCode, where), Err: err}
	}
	var ne net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return &tool.Error{Kind: tool.TimedOut, User: fmt.Sprintf("Azure did not answer within %s", c.cfg.Timeout), Err: err}
	case errors.As(err, &ne):
		return &tool.Error{Kind: tool.Unreachable, User: "Azure cannot be reached: " + firstLine(err.Error()), Err: err}
	}
	return &tool.Error{Kind: tool.Unreachable, User: "the agent pools of " + where + " cannot be read: " + firstLine(err.Error()), Err: err}
}

// firstLine bounds the SDK's errors, which are pages long.
func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}
