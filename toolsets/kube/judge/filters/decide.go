package filters

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Cause is a filter without which some node would take the pod.
type Cause struct {
	Filter Filter
	// Nodes would fit without it, and Refusals are what it says on each.
	Nodes    []*corev1.Node
	Refusals []Refusal
	// With are the further filters that also refuse these nodes; empty when the
	// cause alone decides.
	With []Filter
}

// Decision is what stands between a pod and the nodes.
type Decision struct {
	Fits int
	// Main is the decisive cause, nil when something fits or there is no node.
	Main *Cause
	// Others are further single filters whose relaxation would also do, weighed
	// lower because the pod or the fleet means them so.
	Others []Cause
}

// placement filters say where the pod wants to be; the others say why it is not
// taken there.
func placement(f Filter) bool {
	return f == Selector || f == Affinity || f == Spread || f == Volume
}

// Decide finds the decisive filter by counterfactual: what single filter, left
// out, makes a node fit. Where several would do, the pod's own wishes and the
// fleet's deliberate partitions (dedicated taints, the control plane) are
// taken as meant, and what is used up or out of service as the cause.
func (s *Simulation) Decide(vs []Verdict) Decision {
	var d Decision
	meant, own := map[Filter]*Cause{}, map[Filter]*Cause{}
	var never, control *Cause
	for _, v := range vs {
		fs := classes(v)
		switch {
		case v.Fits():
			d.Fits++
		case len(fs) > 1:
		case placement(fs[0]):
			own[fs[0]] = own[fs[0]].with(v, fs[0])
		case fs[0] == Resource && everNever(v):
			never = never.with(v, Resource)
		case fs[0] == Taint && controlPlane(v):
			control = control.with(v, Taint)
		default:
			meant[fs[0]] = meant[fs[0]].with(v, fs[0])
		}
	}
	if d.Fits > 0 || len(vs) == 0 {
		return d
	}
	order := s.order(meant)
	for _, f := range []Filter{Affinity, Spread} {
		order = appendCause(order, own[f])
	}
	near := s.pair(vs)
	// The nodes the pod asked for could take it, were it not for two things at
	// once: that others would, had it not asked, is the lesser point.
	if len(order) == 0 && near != nil && len(near.With) > 0 && !near.placed() && !near.never() && !controlPlane(Verdict{Refusals: near.Refusals}) {
		order = append(order, *near)
	}
	for _, f := range []Filter{Selector, Volume} {
		order = appendCause(order, own[f])
	}
	order = appendCause(appendCause(order, never), control)
	if len(order) == 0 {
		order = appendCause(order, near)
	}
	if len(order) == 0 {
		return d
	}
	d.Main, d.Others = &order[0], order[1:]
	return d
}

func appendCause(cs []Cause, c *Cause) []Cause {
	if c == nil {
		return cs
	}
	return append(cs, *c)
}

// placed reports whether one of the filters is the pod's own wish.
func (c *Cause) placed() bool {
	return placement(c.Filter) || slices.ContainsFunc(c.With, placement)
}

func (c *Cause) never() bool {
	return slices.ContainsFunc(c.Refusals, func(r Refusal) bool { return r.Never })
}

// with adds a node to a cause, making it if there is none yet.
func (c *Cause) with(v Verdict, f Filter) *Cause {
	if c == nil {
		c = &Cause{Filter: f}
	}
	c.Nodes = append(c.Nodes, v.Node)
	for _, r := range v.Refusals {
		if r.Filter == f {
			c.Refusals = append(c.Refusals, r)
		}
	}
	return c
}

// classes are the kinds of refusal of a node, with node trouble standing for
// the cordon beside it.
func classes(v Verdict) []Filter {
	fs := v.Filters()
	if slices.Contains(fs, Lifecycle) {
		fs = slices.DeleteFunc(fs, func(f Filter) bool { return f == Cordon })
	}
	return fs
}

func everNever(v Verdict) bool {
	return slices.ContainsFunc(v.Refusals, func(r Refusal) bool { return r.Filter == Resource && r.Never })
}

func controlPlane(v Verdict) bool {
	return slices.ContainsFunc(v.Refusals, func(r Refusal) bool { return r.Filter == Taint && ControlPlane(r.Key) })
}

// order weighs the causes on nodes the pod is meant for. What is used up comes
// before a taint that keeps a pool for others, unless the pod asks for a device
// and most nodes that have it are the tainted ones. Nodes out of service come
// first when they are more than those that are full.
func (s *Simulation) order(meant map[Filter]*Cause) []Cause {
	n := func(f Filter) int {
		if meant[f] == nil {
			return 0
		}
		return len(meant[f].Nodes)
	}
	full := n(Resource) + n(Port) + n(Attach)
	weight := func(f Filter) int {
		const ahead = 1 << 20
		switch f {
		case Resource, Port, Attach:
			return ahead + n(f)
		case Cordon, Lifecycle:
			if n(Cordon)+n(Lifecycle) > full {
				return 2*ahead + n(f)
			}
			return ahead/2 + n(f)
		default:
			if s.Extended() && n(f) > full && n(f) > n(Cordon)+n(Lifecycle) {
				return 3*ahead + n(f)
			}
			return n(f)
		}
	}
	var fs []Filter
	for f := range meant {
		fs = append(fs, f)
	}
	slices.SortFunc(fs, func(a, b Filter) int {
		return cmp.Or(weight(b)-weight(a), cmp.Compare(a, b))
	})
	out := make([]Cause, 0, len(fs))
	for _, f := range fs {
		out = append(out, *meant[f])
	}
	return out
}

// pair finds the nodes that the fewest filters refuse, where no single one
// decides: those the pod is meant for and that could ever take it first.
func (s *Simulation) pair(vs []Verdict) *Cause {
	rank := func(v Verdict) int {
		r := 0
		for _, f := range classes(v) {
			r += 10
			if placement(f) {
				r += 20
			}
		}
		if everNever(v) {
			r += 40
		}
		if controlPlane(v) {
			r += 80
		}
		return r
	}
	best := -1
	var near []Verdict
	for _, v := range vs {
		switch r := rank(v); {
		case best < 0 || r < best:
			best, near = r, []Verdict{v}
		case r == best:
			near = append(near, v)
		}
	}
	if len(near) == 0 {
		return nil
	}
	// Nodes of equal rank may be refused by different filters; those like the first.
	first := classes(near[0])
	c := &Cause{Filter: first[0], With: first[1:]}
	for _, v := range near {
		if slices.Equal(classes(v), first) {
			c.Nodes = append(c.Nodes, v.Node)
			c.Refusals = append(c.Refusals, v.Refusals...)
		}
	}
	return c
}

// Of gives the refusals of one filter.
func (c Cause) Of(f Filter) []Refusal {
	var out []Refusal
	for _, r := range c.Refusals {
		if r.Filter == f {
			out = append(out, r)
		}
	}
	return out
}
