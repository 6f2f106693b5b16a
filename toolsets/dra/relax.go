package dra

import (
	"context"
	"maps"
	"slices"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
)

// The second layer: the real allocator with one thing changed. Each function
// gives a change that copies what it alters.

func ignoreTaints() change {
	return func(t *trial) { t.features.DeviceTaints = false }
}

// ignoreRule takes away the taint of one DeviceTaintRule.
func (a *attempt) ignoreRules(g *group, drop func(rule string) bool) change {
	return func(t *trial) {
		var rules []*resourceapi.DeviceTaintRule
		for _, r := range a.w.rules {
			if !drop(r.Name) {
				rules = append(rules, r)
			}
		}
		w := &world{rules: rules}
		var out []*resourceapi.ResourceSlice
		for _, s := range a.w.fleet.withPools(g.slices) {
			out = append(out, a.w.fleet.api(s, w.ruleTaints))
		}
		t.slices = out
	}
}

func ignoreUse() change {
	return func(t *trial) { t.state = allocator.EmptyState() }
}

// freed is the same question with the devices of some claims free. Which nodes
// are alike depends on it, so they are grouped again.
func (a *attempt) freed(gone func(*resourceapi.ResourceClaim) bool) *attempt {
	b := *a
	b.without = maps.Clone(a.without)
	b.refused = map[string]string{}
	b.groups = nil
	for _, c := range a.w.claims {
		if c.Status.Allocation != nil && gone(c) {
			b.without[c.UID] = true
		}
	}
	b.state = allocator.StateOf(a.w.claims, a.w.assume.Features, func(c *resourceapi.ResourceClaim) bool { return b.without[c.UID] })
	b.split()
	return &b
}

// completePools makes the pools as complete as what is published, and free of contradictions.
func completePools() change {
	return func(t *trial) {
		type key struct{ driver, pool string }
		newest, n := map[key]int64{}, map[key]int64{}
		for _, s := range t.slices {
			k := key{s.Spec.Driver, s.Spec.Pool.Name}
			newest[k] = max(newest[k], s.Spec.Pool.Generation)
		}
		for _, s := range t.slices {
			k := key{s.Spec.Driver, s.Spec.Pool.Name}
			if s.Spec.Pool.Generation == newest[k] {
				n[k]++
			}
		}
		out := make([]*resourceapi.ResourceSlice, len(t.slices))
		for i, s := range t.slices {
			c := *s
			if want := n[key{s.Spec.Driver, s.Spec.Pool.Name}]; c.Spec.Pool.ResourceSliceCount != want {
				c.Spec.Pool.ResourceSliceCount = want
			}
			out[i] = &c
		}
		t.slices = dedupe(out)
	}
}

// dedupe takes away what makes the allocator refuse a pool as invalid: device
// names and counter sets that occur twice, and consumption of counters that no
// set of the pool has.
func dedupe(in []*resourceapi.ResourceSlice) []*resourceapi.ResourceSlice {
	type key struct {
		driver, pool, name string
		generation         int64
	}
	devices, sets := map[key]bool{}, map[key]resourceapi.CounterSet{}
	for _, s := range in {
		var keep []resourceapi.CounterSet
		for _, c := range s.Spec.SharedCounters {
			k := key{s.Spec.Driver, s.Spec.Pool.Name, c.Name, s.Spec.Pool.Generation}
			if _, twice := sets[k]; !twice {
				sets[k] = c
				keep = append(keep, c)
			}
		}
		s.Spec.SharedCounters = keep
	}
	for _, s := range in {
		var keep []resourceapi.Device
		for _, d := range s.Spec.Devices {
			k := key{s.Spec.Driver, s.Spec.Pool.Name, d.Name, s.Spec.Pool.Generation}
			if devices[k] {
				continue
			}
			devices[k] = true
			known := slices.DeleteFunc(slices.Clone(d.ConsumesCounters), func(c resourceapi.DeviceCounterConsumption) bool {
				set, ok := sets[key{s.Spec.Driver, s.Spec.Pool.Name, c.CounterSet, s.Spec.Pool.Generation}]
				for name := range c.Counters {
					_, has := set.Counters[name]
					ok = ok && has
				}
				return !ok
			})
			d.ConsumesCounters = known
			keep = append(keep, d)
		}
		s.Spec.Devices = keep
	}
	return in
}

func ignoreCounters() change {
	return func(t *trial) {
		out := make([]*resourceapi.ResourceSlice, len(t.slices))
		for i, s := range t.slices {
			c := *s
			c.Spec.Devices = slices.Clone(s.Spec.Devices)
			for j := range c.Spec.Devices {
				c.Spec.Devices[j].ConsumesCounters = nil
			}
			out[i] = &c
		}
		t.slices = out
	}
}

// editClaims changes copies of the claims that are tried.
func editClaims(edit func(*resourceapi.ResourceClaim)) change {
	return func(t *trial) {
		out := make([]*resourceapi.ResourceClaim, len(t.claims))
		for i, c := range t.claims {
			out[i] = c.DeepCopy()
			edit(out[i])
		}
		t.claims = out
	}
}

// dropConstraint takes away one constraint of one claim, all of them with index -1.
func dropConstraint(claim string, index int) change {
	return editClaims(func(c *resourceapi.ResourceClaim) {
		switch {
		case claim != "" && c.Name != claim:
		case index < 0:
			c.Spec.Devices.Constraints = nil
		default:
			c.Spec.Devices.Constraints = slices.Delete(c.Spec.Devices.Constraints, index, index+1)
		}
	})
}

// matchOther compares another attribute in one constraint.
func matchOther(claim string, index int, attribute string) change {
	return editClaims(func(c *resourceapi.ResourceClaim) {
		if c.Name == claim {
			n := resourceapi.FullyQualifiedName(attribute)
			c.Spec.Devices.Constraints[index].MatchAttribute = &n
		}
	})
}

// parts gives pointers into one request or alternative.
type parts struct {
	class     *string
	selectors *[]resourceapi.DeviceSelector
	mode      *resourceapi.DeviceAllocationMode
	count     *int64
	tolerates *[]resourceapi.DeviceToleration
	capacity  **resourceapi.CapacityRequirements
}

// editRequest changes the request or alternative with the want's name.
func editRequest(claim, name string, edit func(parts)) change {
	return editClaims(func(c *resourceapi.ResourceClaim) {
		if c.Name != claim {
			return
		}
		for i := range c.Spec.Devices.Requests {
			r := &c.Spec.Devices.Requests[i]
			if e := r.Exactly; e != nil && r.Name == name {
				edit(parts{&e.DeviceClassName, &e.Selectors, &e.AllocationMode, &e.Count, &e.Tolerations, &e.Capacity})
			}
			for j := range r.FirstAvailable {
				if s := &r.FirstAvailable[j]; r.Name+"/"+s.Name == name {
					edit(parts{&s.DeviceClassName, &s.Selectors, &s.AllocationMode, &s.Count, &s.Tolerations, &s.Capacity})
				}
			}
		}
	})
}

// dropSelector takes away one selector of a request, all with index -1.
func dropSelector(x *want, index int) change {
	return editRequest(x.claim.Name, x.name, func(p parts) {
		if index < 0 {
			*p.selectors = nil
			return
		}
		*p.selectors = slices.Delete(slices.Clone(*p.selectors), index, index+1)
	})
}

// setSelector rewrites one selector of a request.
func setSelector(x *want, index int, expr string) change {
	return editRequest(x.claim.Name, x.name, func(p parts) {
		sels := slices.Clone(*p.selectors)
		sels[index] = resourceapi.DeviceSelector{CEL: &resourceapi.CELDeviceSelector{Expression: expr}}
		*p.selectors = sels
	})
}

// editClass changes a copy of a class.
func editClass(name string, edit func(*resourceapi.DeviceClass)) change {
	return func(t *trial) {
		out := maps.Clone(t.classes)
		if c := out[name]; c != nil {
			c = c.DeepCopy()
			edit(c)
			out[name] = c
		}
		t.classes = out
	}
}

// setCount asks for another number of devices, ExactCount.
func setCount(x *want, n int64) change {
	return editRequest(x.claim.Name, x.name, func(p parts) {
		*p.mode, *p.count = resourceapi.DeviceAllocationModeExactCount, n
	})
}

func dropCapacity(x *want) change {
	return editRequest(x.claim.Name, x.name, func(p parts) { *p.capacity = nil })
}

// setCapacity asks for another amount of one capacity.
func setCapacity(x *want, name resourceapi.QualifiedName, amount string) change {
	q, err := resource.ParseQuantity(amount)
	return editRequest(x.claim.Name, x.name, func(p parts) {
		if err == nil && *p.capacity != nil {
			c := (*p.capacity).DeepCopy()
			c.Requests[name] = q
			*p.capacity = c
		}
	})
}

// tolerateOne adds a toleration for one taint, written key[=value]:effect.
func tolerateOne(x *want, taint string) change {
	head, effect, _ := strings.Cut(taint, ":")
	t := resourceapi.DeviceToleration{Operator: resourceapi.DeviceTolerationOpEqual, Effect: resourceapi.DeviceTaintEffect(effect)}
	t.Key, t.Value, _ = strings.Cut(head, "=")
	return editRequest(x.claim.Name, x.name, func(p parts) { *p.tolerates = append(slices.Clone(*p.tolerates), t) })
}

// fixTaint is the toleration of one taint, when that alone is enough; nil when not.
func (n *analysis) fixTaint(ctx context.Context, x *want, taint string) *fix {
	if taint == "" || !n.a.where(ctx, tolerateOne(x, taint)).cures() {
		return nil
	}
	return x.fix(map[string]string{"toleration": taint})
}

// tolerate adds a toleration for everything to a request.
func tolerateAll(x *want) change {
	return editRequest(x.claim.Name, x.name, func(p parts) {
		*p.tolerates = append(slices.Clone(*p.tolerates), resourceapi.DeviceToleration{Operator: resourceapi.DeviceTolerationOpExists})
	})
}

// most finds the largest count below the wanted one that fits, by bisection: a
// claim that fits with n devices fits with n-1. 0 when not even one fits.
func (a *attempt) most(ctx context.Context, x *want, changes ...change) (int64, fitting) {
	var best fitting
	lo, hi := int64(0), min(x.count-1, allocator.ResultLimit)
	for lo < hi {
		mid := (lo + hi + 1) / 2
		f := a.where(ctx, append(slices.Clone(changes), setCount(x, mid))...)
		if f.ok() {
			lo, best = mid, f
		} else {
			hi = mid - 1
		}
	}
	return lo, best
}
