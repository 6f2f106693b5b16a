package dra

import (
	"slices"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// devID names a device.
type devID struct{ driver, pool, device string }

func idOf(s *slice, d *device) devID { return devID{s.pool.driver, s.pool.name, d.name} }

func (d devID) String() string { return d.driver + "/" + d.pool + "/" + d.device }

// hold is one claim's grip on one device.
type hold struct {
	claim *resourceapi.ResourceClaim
	// shared holds take capacity, not the device.
	shared bool
	res    *resourceapi.DeviceRequestAllocationResult
}

// usage is who holds what.
type usage struct {
	holds map[devID][]hold
	admin map[devID]int
}

func newUsage(claims []*resourceapi.ResourceClaim, f allocator.Features) *usage {
	u := &usage{holds: map[devID][]hold{}, admin: map[devID]int{}}
	for _, c := range claims {
		if c.Status.Allocation == nil {
			continue
		}
		for i := range c.Status.Allocation.Devices.Results {
			r := &c.Status.Allocation.Devices.Results[i]
			id := devID{r.Driver, r.Pool, r.Device}
			if r.AdminAccess != nil && *r.AdminAccess {
				u.admin[id]++
				continue
			}
			u.holds[id] = append(u.holds[id], hold{claim: c, shared: f.ConsumableCapacity && r.ShareID != nil, res: r})
		}
	}
	return u
}

// taken says whether the device as a whole is allocated, to claims other than
// the given ones.
func (u *usage) taken(id devID, but map[types.UID]bool) []hold {
	var out []hold
	for _, h := range u.holds[id] {
		if !h.shared && !but[h.claim.UID] {
			out = append(out, h)
		}
	}
	return out
}

// devicesOf lists the devices a claim holds, in the order of its results.
func devicesOf(c *resourceapi.ResourceClaim) []devID {
	if c.Status.Allocation == nil {
		return nil
	}
	out := make([]devID, 0, len(c.Status.Allocation.Devices.Results))
	for _, r := range c.Status.Allocation.Devices.Results {
		out = append(out, devID{r.Driver, r.Pool, r.Device})
	}
	return slices.Clip(out)
}

// rulesFor lists the DeviceTaintRules that select a device.
func (w *world) rulesFor(s *slice, d *device) []*resourceapi.DeviceTaintRule {
	var out []*resourceapi.DeviceTaintRule
	for _, r := range w.rules {
		if allocator.RuleMatches(r, s.pool.driver, s.pool.name, d.name) {
			out = append(out, r)
		}
	}
	return out
}

// ruleTaints lists the taints that rules add to a device.
func (w *world) ruleTaints(s *slice, d *device) []resourceapi.DeviceTaint {
	var out []resourceapi.DeviceTaint
	for _, r := range w.rulesFor(s, d) {
		out = append(out, r.Spec.Taint)
	}
	return out
}
