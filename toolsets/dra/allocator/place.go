package allocator

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
)

// Place gives the claims of a pod, and the claim for its extended resources where a
// DeviceClass answers for them, their devices on a node. Claims that are allocated
// already have to be usable there. It gives the claims that got an allocation; where
// they do not fit, none and why. An error is one that makes the scheduler abort, or
// no answer in time.
func Place(ctx context.Context, s Snapshot, node *corev1.Node, pod *corev1.Pod, claims []*resourceapi.ResourceClaim) (allocated []*resourceapi.ResourceClaim, why string, err error) {
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
			if err != nil {
				return nil, "", err
			}
			if !ok {
				return nil, "the devices of claim " + c.Name + " cannot be reached from it", nil
			}
		}
	}
	extended, unfit := ExtendedClaim(pod, node, classes)
	if unfit != "" {
		return nil, "nobody offers " + string(unfit), nil
	}
	if extended != nil {
		todo = append(todo, extended)
	}
	in := Input{
		Features: s.Features, State: StateOf(s.Claims, s.Features, nil), Classes: classes,
		Slices: MergeTaints(s.Slices, s.Rules), Cache: NewCache(s.Features),
	}
	v, err := Try(ctx, in, node, todo)
	switch {
	case err != nil:
		return nil, "", err
	case v.Abort != "":
		return nil, "", errors.New(v.Abort)
	case v.TimedOut:
		return nil, "", errors.New("the allocator gave no answer in time")
	case !v.Fits && v.NodeReason != "":
		return nil, v.NodeReason, nil
	case !v.Fits:
		return nil, "cannot allocate all claims", nil
	}
	for i, c := range todo {
		c = c.DeepCopy()
		c.Status.Allocation = &v.Results[i]
		allocated = append(allocated, c)
	}
	return allocated, "", nil
}
