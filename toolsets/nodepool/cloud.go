package nodepool

import (
	"context"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Neutral phases of a pool, whatever the provider calls them.
const (
	PhaseIdle        = "Idle"
	PhaseCreating    = "Creating"
	PhaseScaling     = "Scaling"
	PhaseUpdating    = "Updating"
	PhaseUpgrading   = "Upgrading"
	PhaseAddingGreen = "AddingGreen"
	PhaseCordoning   = "CordoningBlue"
	PhaseDraining    = "DrainingBlue"
	PhaseSoaking     = "FinalSoak"
	PhaseDeleting    = "Deleting"
	PhaseRollingBack = "RollingBack"
	PhaseFailed      = "Failed"
	PhaseStopped     = "Stopped"
	PhaseUnknown     = "Unknown"
)

// CloudPool is one pool as its provider's API shows it. Figures that the provider
// does not give are -1.
type CloudPool struct {
	Name string `json:"name"`
	// Phase is one of the neutral phases, State the provider's own word.
	Phase string `json:"phase"`
	State string `json:"state"`
	// ErrorCode and Error are why the last operation failed.
	ErrorCode string `json:"error_code,omitempty"`
	Error     string `json:"error,omitempty"`
	Count     int    `json:"count"`
	Min       int    `json:"min"`
	Max       int    `json:"max"`
	Autoscale bool   `json:"autoscale"`
	// Version runs now, Target is asked for.
	Version string   `json:"version,omitempty"`
	Target  string   `json:"target,omitempty"`
	Image   string   `json:"image,omitempty"`
	SKU     string   `json:"sku,omitempty"`
	Zones   []string `json:"zones,omitempty"`
	// Strategy of upgrades with its figures, "surge 10%, drain 30m".
	Strategy string `json:"strategy,omitempty"`
	// Deadline is when an upgrade can no longer be rolled back for nothing: the start
	// of the deletion of the old nodes.
	Deadline time.Time `json:"deadline,omitzero"`
	// Rollback lists the versions the provider would go back to.
	Rollback []Rollback `json:"rollback,omitempty"`
	// Note says what of the pool could not be read.
	Note string `json:"note,omitempty"`
}

// Rollback is a version that a pool ran before and may go back to.
type Rollback struct {
	Version string    `json:"version,omitempty"`
	Image   string    `json:"image,omitempty"`
	Used    time.Time `json:"used,omitzero"`
	// Until is when the provider stops offering it.
	Until time.Time `json:"until,omitzero"`
}

// cloudCache asks a cloud once for all calls of an investigation. Failures are kept as
// well, so that a cloud that does not answer costs its timeout once.
type cloudCache struct {
	cloud Cloud
	kept  *tool.Kept[[]CloudPool]
}

func newCloudCache(cloud Cloud, now func() time.Time, ttl time.Duration) *cloudCache {
	return &cloudCache{cloud: cloud, kept: tool.NewKept[[]CloudPool](tool.Keep{Now: now, For: ttl, Failed: func(error) time.Duration { return ttl }})}
}

// pools gives the pools of the cloud. Callers that come while it is asked wait for
// the same answer.
func (c *cloudCache) pools(ctx context.Context) ([]CloudPool, error) {
	return c.kept.Get(ctx, "", c.cloud.Pools)
}

func (c *cloudCache) gap(err error) incident.Gap {
	return incident.Gap{Source: c.cloud.Name() + " API", Why: tool.UserText(err)}
}
