// Package gke reads the node pools of one GKE cluster through the container API's
// REST form (v1, projects.locations.clusters.nodePools.list). Google's own client
// would add 24 MB to the binary for this one call. It reads only.
package gke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/nodepool"
)

const (
	// DefaultEndpoint is where the container API is.
	DefaultEndpoint = "https://container.googleapis.com"
	// DefaultTimeout bounds one call.
	DefaultTimeout = 20 * time.Second
	// maxBody bounds an answer, in bytes; a pool has about 5 KiB.
	maxBody = 8 << 20
)

// Config names one cluster and how its API is reached.
type Config struct {
	Project, Location, Cluster string
	// Token gives an OAuth access token.
	Token func(context.Context) (string, error)
	// HTTP sends the requests; nil means http.DefaultTransport.
	HTTP http.RoundTripper
	// Endpoint of the API; empty means DefaultEndpoint.
	Endpoint string
	// Timeout bounds one call; zero means DefaultTimeout.
	Timeout time.Duration
}

// Client reads the pools of one cluster. It is safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client
	url  string
}

var _ nodepool.Cloud = (*Client)(nil)

// New makes a client. It talks to nobody.
func New(c Config) (*Client, error) {
	switch {
	case c.Project == "" || c.Location == "" || c.Cluster == "":
		return nil, fmt.Errorf("gke: project, location and cluster are required")
	case c.Token == nil:
		return nil, fmt.Errorf("gke: Token is required")
	}
	if c.Endpoint == "" {
		c.Endpoint = DefaultEndpoint
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.HTTP == nil {
		c.HTTP = http.DefaultTransport
	}
	u, err := url.JoinPath(c.Endpoint, "v1", "projects", c.Project, "locations", c.Location, "clusters", c.Cluster, "nodePools")
	if err != nil {
		return nil, fmt.Errorf("gke: endpoint %q: %w", c.Endpoint, err)
	}
	return &Client{cfg: c, http: &http.Client{Transport: c.HTTP, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, url: u}, nil
}

// Name implements nodepool.Cloud.
func (c *Client) Name() string { return "GKE" }

// Pools implements nodepool.Cloud.
func (c *Client) Pools(ctx context.Context) ([]nodepool.CloudPool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	token, err := c.cfg.Token(ctx)
	if err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "no token for Google Cloud: " + firstLine(err.Error()), Fix: "log in with application-default credentials, or use workload identity", Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return nil, tool.Errorf(tool.Internal, "gke: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("User-Agent", "gumshoe")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return nil, c.lost(err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, c.refused(res.StatusCode, raw)
	}
	if len(raw) > maxBody {
		return nil, &tool.Error{Kind: tool.Internal, User: fmt.Sprintf("the container API answered more than %d bytes", maxBody)}
	}
	return decode(raw)
}

// answer is what is read of the API's list; fields of later versions are passed over.
type answer struct {
	NodePools []struct {
		Name             string   `json:"name"`
		Status           string   `json:"status"`
		StatusMessage    string   `json:"statusMessage"`
		Version          string   `json:"version"`
		InitialNodeCount *int     `json:"initialNodeCount"`
		Locations        []string `json:"locations"`
		Conditions       []struct {
			Code          string `json:"code"`
			CanonicalCode string `json:"canonicalCode"`
			Message       string `json:"message"`
		} `json:"conditions"`
		Autoscaling struct {
			Enabled           bool `json:"enabled"`
			MinNodeCount      int  `json:"minNodeCount"`
			MaxNodeCount      int  `json:"maxNodeCount"`
			TotalMinNodeCount int  `json:"totalMinNodeCount"`
			TotalMaxNodeCount int  `json:"totalMaxNodeCount"`
		} `json:"autoscaling"`
		Config struct {
			MachineType string `json:"machineType"`
			ImageType   string `json:"imageType"`
		} `json:"config"`
		UpgradeSettings struct {
			Strategy       string `json:"strategy"`
			MaxSurge       int    `json:"maxSurge"`
			MaxUnavailable int    `json:"maxUnavailable"`
		} `json:"upgradeSettings"`
		UpdateInfo struct {
			BlueGreenInfo struct {
				Phase                     string `json:"phase"`
				BluePoolDeletionStartTime string `json:"bluePoolDeletionStartTime"`
				GreenPoolVersion          string `json:"greenPoolVersion"`
			} `json:"blueGreenInfo"`
		} `json:"updateInfo"`
	} `json:"nodePools"`
}

// decode reads the list.
func decode(raw []byte) ([]nodepool.CloudPool, error) {
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, &tool.Error{Kind: tool.Unreachable, User: "the container API's answer cannot be read: " + firstLine(err.Error()), Err: err}
	}
	out := []nodepool.CloudPool{}
	for _, p := range a.NodePools {
		if p.Name == "" {
			continue
		}
		x := nodepool.CloudPool{Name: p.Name, State: p.Status, Phase: phaseOf(p.Status), Count: -1, Min: -1, Max: -1, Version: p.Version, Image: p.Config.ImageType, SKU: p.Config.MachineType, Zones: p.Locations, Autoscale: p.Autoscaling.Enabled}
		if x.State == "" {
			x.State = "unknown"
		}
		if s := p.Autoscaling; s.Enabled {
			zones := max(len(p.Locations), 1)
			x.Min, x.Max = s.MinNodeCount*zones, s.MaxNodeCount*zones // limits of a zone each
			if s.TotalMaxNodeCount > 0 {
				x.Min, x.Max = s.TotalMinNodeCount, s.TotalMaxNodeCount
			}
		}
		switch u := p.UpgradeSettings; u.Strategy {
		case "", "NODE_POOL_UPDATE_STRATEGY_UNSPECIFIED", "SURGE":
			if u.MaxSurge+u.MaxUnavailable > 0 {
				x.Strategy = fmt.Sprintf("surge %d, unavailable %d", u.MaxSurge, u.MaxUnavailable)
			}
		default:
			x.Strategy = strings.ToLower(u.Strategy)
		}
		if b := p.UpdateInfo.BlueGreenInfo; b.Phase != "" && b.Phase != "PHASE_UNSPECIFIED" {
			x.State += " (" + b.Phase + ")"
			x.Phase, x.Target = bluePhase(b.Phase), b.GreenPoolVersion
			x.Deadline, _ = time.Parse(time.RFC3339, b.BluePoolDeletionStartTime)
		}
		for _, c := range p.Conditions {
			// GKE_SERVICE_ACCOUNT_DELETED, GCE_STOCKOUT, GCE_QUOTA_EXCEEDED, CLOUD_KMS_KEY_ERROR ...
			if c.Code != "" && c.Code != "UNKNOWN" || c.Message != "" {
				x.ErrorCode, x.Error = c.Code, c.Message
				if x.Error == "" {
					x.Error = c.CanonicalCode
				}
				break
			}
		}
		if x.Error == "" && (p.Status == "ERROR" || p.Status == "RUNNING_WITH_ERROR") {
			x.Error = p.StatusMessage
		}
		if x.Error == "" && x.ErrorCode != "" {
			x.Error = x.ErrorCode
		}
		out = append(out, x)
	}
	return out, nil
}

// phaseOf maps NodePool.Status; another word stays unknown, never fine.
func phaseOf(status string) string {
	switch status {
	case "RUNNING":
		return nodepool.PhaseIdle
	case "PROVISIONING":
		return nodepool.PhaseCreating
	case "RECONCILING":
		return nodepool.PhaseUpdating
	case "STOPPING":
		return nodepool.PhaseDeleting
	case "ERROR", "RUNNING_WITH_ERROR":
		return nodepool.PhaseFailed
	}
	return nodepool.PhaseUnknown
}

// bluePhase maps BlueGreenInfo.Phase.
func bluePhase(phase string) string {
	switch phase {
	case "UPDATE_STARTED", "CREATING_GREEN_POOL":
		return nodepool.PhaseAddingGreen
	case "CORDONING_BLUE_POOL":
		return nodepool.PhaseCordoning
	case "WAITING_TO_DRAIN_BLUE_POOL", "DRAINING_BLUE_POOL":
		return nodepool.PhaseDraining
	case "NODE_POOL_SOAKING":
		return nodepool.PhaseSoaking
	case "DELETING_BLUE_POOL":
		return nodepool.PhaseDeleting
	case "ROLLBACK_STARTED":
		return nodepool.PhaseRollingBack
	}
	return nodepool.PhaseUnknown
}

// refused turns an answer that is none into a sentence with a way out.
func (c *Client) refused(status int, raw []byte) error {
	var e struct {
		Error struct {
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(raw, &e) // what is no JSON says nothing more
	where := "GKE cluster " + c.cfg.Cluster + " in " + c.cfg.Location
	switch status {
	case http.StatusUnauthorized:
		return &tool.Error{Kind: tool.Unreachable, User: "Google Cloud does not accept this identity (401)", Fix: "log in again, or check the workload identity"}
	case http.StatusForbidden:
		return &tool.Error{Kind: tool.Forbidden, User: "this identity may not read the node pools of " + where + " (403)", Fix: "grant container.clusters.get, as the role Kubernetes Engine Viewer has"}
	case http.StatusNotFound:
		return &tool.Error{Kind: tool.NotFound, User: where + " is not there (404)", Fix: "check gke.project, gke.location and gke.cluster"}
	case http.StatusTooManyRequests:
		return &tool.Error{Kind: tool.Unreachable, User: "Google Cloud throttles this identity (429)", Fix: "ask again in a few minutes"}
	}
	text := fmt.Sprintf("the container API answered %d %s", status, e.Error.Status)
	if m := firstLine(e.Error.Message); m != "" {
		text += ": " + m
	}
	return &tool.Error{Kind: tool.Unreachable, User: strings.TrimSpace(text)}
}

func (c *Client) lost(err error) error {
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return &tool.Error{Kind: tool.TimedOut, User: fmt.Sprintf("the container API did not answer within %s", c.cfg.Timeout), Err: err}
	}
	return &tool.Error{Kind: tool.Unreachable, User: "the container API cannot be reached: " + firstLine(err.Error()), Err: err}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "..."
	}
	return s
}
