// Package allocator is the one place that touches the scheduler's own DRA
// allocator (k8s.io/dynamic-resource-allocation/structured). That library makes
// no compatibility promise; everything else in this repository speaks the types
// below. It reads nothing and changes nothing.
package allocator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
	"k8s.io/klog/v2"
)

// ResultLimit is how many devices one claim may hold
// (k8s.io/api/resource/v1 AllocationResultsMaxSize).
const ResultLimit = resourceapi.AllocationResultsMaxSize

// State is which devices are taken.
type State = structured.AllocatedState

// CELFeatures gives the compiler features that go with a feature set.
func CELFeatures(f Features) cel.Features {
	return cel.Features{EnableConsumableCapacity: f.ConsumableCapacity, EnableListTypeAttributes: f.ListTypeAttributes}
}

// NewCache makes a cache of compiled selectors, safe for concurrent use.
func NewCache(f Features) *cel.Cache { return cel.NewCache(256, CELFeatures(f)) }

// EmptyState has every device free.
func EmptyState() State {
	return State{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
}

// StateOf gathers what the claims hold, as the scheduler does
// (k8s.io/kubernetes v1.37.2 dynamicresources/allocateddevices.go): results with
// admin access hold nothing, results with a share id hold capacity. Claims for
// which skip says true are left out. What the scheduler has in flight is not
// visible to anybody else.
func StateOf(claims []*resourceapi.ResourceClaim, f Features, skip func(*resourceapi.ResourceClaim) bool) State {
	s := EmptyState()
	for _, c := range claims {
		if c.Status.Allocation == nil || (skip != nil && skip(c)) {
			continue
		}
		for i := range c.Status.Allocation.Devices.Results {
			add(&s, &c.Status.Allocation.Devices.Results[i], f)
		}
	}
	return s
}

func add(s *State, r *resourceapi.DeviceRequestAllocationResult, f Features) {
	if r.AdminAccess != nil && *r.AdminAccess {
		return
	}
	id := structured.MakeDeviceID(r.Driver, r.Pool, r.Device)
	if f.ConsumableCapacity && r.ShareID != nil {
		s.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, r.ShareID))
		if r.ConsumedCapacity != nil {
			s.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, r.ConsumedCapacity))
		}
		return
	}
	s.AllocatedDevices.Insert(id)
}

// Classes looks DeviceClasses up by name.
type Classes map[string]*resourceapi.DeviceClass

var _ structured.DeviceClassLister = Classes(nil)

// List implements structured.DeviceClassLister.
func (c Classes) List() ([]*resourceapi.DeviceClass, error) {
	out := make([]*resourceapi.DeviceClass, 0, len(c))
	for _, dc := range c {
		out = append(out, dc)
	}
	return out, nil
}

// Get implements structured.DeviceClassLister.
func (c Classes) Get(name string) (*resourceapi.DeviceClass, error) {
	if dc, ok := c[name]; ok {
		return dc, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: resourceapi.GroupName, Resource: "deviceclasses"}, name)
}

// Input is one state of the world to try claims against.
type Input struct {
	Features Features
	State    State
	Classes  Classes
	// Slices with the DeviceTaintRules merged in; those of other nodes are ignored.
	Slices []*resourceapi.ResourceSlice
	Cache  *cel.Cache
	// Log, when set, receives the allocator's own words at up to verbosity 7
	// (level -7): why each device is passed over, except for taints. The strings
	// are not stable; they are for a self-check, never for a judgement.
	Log slog.Handler
}

// Verdict is what the scheduler would conclude for one node.
type Verdict struct {
	Fits bool
	// Results hold one allocation per claim when it fits.
	Results []resourceapi.AllocationResult
	// NodeReason is why this node alone is refused, where the allocator says so.
	NodeReason string
	// Abort is the error that ends the scheduling attempt for every node.
	Abort string
	// TimedOut: the deadline passed before an answer was found.
	TimedOut bool
}

// Try asks the scheduler's allocator whether the claims, together, can be
// allocated on the node. The only error is a set of features that no allocator
// serves, or a cancelled context.
func Try(ctx context.Context, in Input, node *corev1.Node, claims []*resourceapi.ResourceClaim) (Verdict, error) {
	if len(claims) == 0 {
		return Verdict{Fits: true}, nil
	}
	if in.Log != nil {
		ctx = klog.NewContext(ctx, logr.FromSlogHandler(in.Log))
	}
	a, err := structured.NewAllocator(ctx, in.Features, in.State, in.Classes, in.Slices, in.Cache)
	if err != nil {
		return Verdict{}, fmt.Errorf("allocator for features %v: %w", in.Features.Set().UnsortedList(), err)
	}
	res, err := a.Allocate(ctx, node, claims)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || (err != nil && ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)):
		return Verdict{TimedOut: true}, nil
	case err != nil && ctx.Err() != nil:
		return Verdict{}, ctx.Err()
	case errors.Is(err, structured.ErrFailedAllocationOnNode):
		return Verdict{NodeReason: err.Error()}, nil
	case err != nil:
		return Verdict{Abort: err.Error()}, nil //nolint:nilerr // the error is the verdict: it ends scheduling on every node
	}
	return Verdict{Fits: len(res) == len(claims), Results: res}, nil
}

// NodeMatches says whether a slice or device with these fields reaches the node.
func NodeMatches(f Features, node *corev1.Node, nodeName string, allNodes bool, sel *corev1.NodeSelector) (bool, error) {
	return structured.NodeMatches(f, node, nodeName, allNodes, sel)
}

// Snapshot is a small world given whole, for tests and comparisons.
type Snapshot struct {
	Features Features
	Slices   []*resourceapi.ResourceSlice
	Claims   []*resourceapi.ResourceClaim
	Classes  []*resourceapi.DeviceClass
	Rules    []*resourceapi.DeviceTaintRule
}

// Fits says whether the claims (those still without an allocation, together)
// can be allocated on the node, and for allocated ones whether they can be used
// there. An error is one that makes the scheduler abort.
func Fits(ctx context.Context, s Snapshot, claims []*resourceapi.ResourceClaim, node *corev1.Node) (bool, error) {
	classes := Classes{}
	for _, c := range s.Classes {
		classes[c.Name] = c
	}
	var todo []*resourceapi.ResourceClaim
	for _, c := range claims {
		if c.Status.Allocation == nil {
			todo = append(todo, c)
			continue
		}
		if ns := c.Status.Allocation.NodeSelector; ns != nil {
			ok, err := NodeMatches(s.Features, node, "", false, ns)
			if err != nil || !ok {
				return false, err
			}
		}
	}
	in := Input{
		Features: s.Features, State: StateOf(s.Claims, s.Features, nil), Classes: classes,
		Slices: MergeTaints(s.Slices, s.Rules), Cache: NewCache(s.Features),
	}
	v, err := Try(ctx, in, node, todo)
	if err != nil {
		return false, err
	}
	if v.Abort != "" {
		return false, errors.New(v.Abort)
	}
	return v.Fits, nil
}

// RuleMatches says whether a DeviceTaintRule selects the device. No selector
// selects nothing, an empty one selects every device of the cluster.
func RuleMatches(r *resourceapi.DeviceTaintRule, driver, pool, device string) bool {
	sel := r.Spec.DeviceSelector
	return sel != nil &&
		(sel.Driver == nil || *sel.Driver == driver) &&
		(sel.Pool == nil || *sel.Pool == pool) &&
		(sel.Device == nil || *sel.Device == device)
}

// MergeTaints gives the slices with the taints of the rules added to the devices
// they select. Slices no rule touches are returned as they are.
func MergeTaints(slices []*resourceapi.ResourceSlice, rules []*resourceapi.DeviceTaintRule) []*resourceapi.ResourceSlice {
	if len(rules) == 0 {
		return slices
	}
	out := make([]*resourceapi.ResourceSlice, len(slices))
	for i, s := range slices {
		out[i] = s
		for d := range s.Spec.Devices {
			for _, r := range rules {
				if !RuleMatches(r, s.Spec.Driver, s.Spec.Pool.Name, s.Spec.Devices[d].Name) {
					continue
				}
				if out[i] == s {
					out[i] = s.DeepCopy()
				}
				dev := &out[i].Spec.Devices[d]
				dev.Taints = append(dev.Taints, r.Spec.Taint)
			}
		}
	}
	return out
}
