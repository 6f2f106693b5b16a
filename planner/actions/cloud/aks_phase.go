package cloud

import (
	"slices"
	"time"

	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// colours parts the nodes of a pool by what they run: green are those made last,
// blue those of the one version that was there before. ok is false where there are
// not two versions.
func colours(nodes []actions.PoolNode) (blue, green []actions.PoolNode, ok bool) {
	type kind struct{ version, image string }
	born := map[kind]time.Time{}
	for _, n := range nodes {
		k := kind{n.Version, n.Image}
		if at, seen := born[k]; !seen || n.Created.Before(at) {
			born[k] = n.Created
		}
	}
	if len(born) != 2 {
		return nil, nil, false
	}
	var newest kind
	first := true
	for k, at := range born {
		if first || at.After(born[newest]) {
			newest, first = k, false
		}
	}
	for _, n := range nodes {
		if (kind{n.Version, n.Image}) == newest {
			green = append(green, n)
		} else {
			blue = append(blue, n)
		}
	}
	return blue, green, true
}

func all(nodes []actions.PoolNode, f func(actions.PoolNode) bool) bool {
	return !slices.ContainsFunc(nodes, func(n actions.PoolNode) bool { return !f(n) })
}

func cordoned(n actions.PoolNode) bool { return n.Cordoned }
func emptied(n actions.PoolNode) bool  { return n.Cordoned && n.Pods == 0 }

// soaked reports whether every blue node is drained while green ones are there.
func soaked(nodes []actions.PoolNode) bool {
	blue, _, ok := colours(nodes)
	return ok && all(blue, emptied)
}

// aksPhase derives the phase of a pool: AKS tells only that something is under way
// (provisioningState), the rest is seen on the nodes. blue is what the nodes run that
// the pool would go back to, while there are two colours. Between two batches nothing
// tells a soak from a drain, so both are Draining.
func aksPhase(state string, blueGreen bool, nodes []actions.PoolNode) (phase string, was actions.PoolTarget) {
	blue, green, two := colours(nodes)
	if two {
		was = actions.PoolTarget{Version: blue[0].Version, Image: blue[0].Image}
	}
	switch state {
	case "Succeeded":
		return actions.PhaseIdle, actions.PoolTarget{}
	case "Canceling":
		return actions.PhaseUpdating, was
	case "Canceled":
		// An operation that was stopped leaves the pool as it is.
		return actions.PhasePaused, was
	case "RollingBack":
		return actions.PhaseRollingBack, was
	case "Deleting":
		return actions.PhaseDeleting, was
	case "Failed":
		return actions.PhaseFailed, was
	case "Creating", "Starting":
		return actions.PhaseProvisioning, was
	case "Upgrading", "UpgradingNodeImageVersion":
	case "Updating", "Scaling", "Stopping", "Migrating", "ReimagingNodes":
		return actions.PhaseUpdating, was
	default:
		return actions.PhaseUnknown, was
	}
	switch {
	case !blueGreen:
		return actions.PhaseUpdating, was
	case len(nodes) == 0:
		return actions.PhaseUnknown, was
	case !two && all(nodes, func(n actions.PoolNode) bool { return !n.Cordoned }):
		return actions.PhaseProvisioning, was // no green node has come yet
	case !two:
		return actions.PhaseUnknown, was
	case len(blue) < len(green) && all(blue, emptied):
		return actions.PhaseDeleting, was
	case all(blue, emptied):
		return actions.PhaseFinalSoak, was
	case all(blue, cordoned):
		return actions.PhaseDraining, was
	case slices.ContainsFunc(blue, cordoned):
		return actions.PhaseCordoning, was
	}
	return actions.PhaseProvisioning, was
}
