package dra

import (
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/cel"

	"github.com/gumshoe-ai/gumshoe/toolsets/dra/allocator"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/selector"
)

// Deadlines of the allocator runs. The scheduler gives a node 10 s
// (filterTimeout of DynamicResourcesArgs); a person does not wait that long.
const (
	groupDeadline = 2 * time.Second
	totalDeadline = 30 * time.Second
	// maxGroups bounds how many sorts of node are searched for counterfactuals.
	maxGroups = 48
)

// attempt is the question the scheduler answers for a pod: can these claims be
// allocated together on a node?
type attempt struct {
	w     *world
	pod   *corev1.Pod
	comp  *selector.Compiler
	cache *cel.Cache
	log   slog.Handler
	// claims without an allocation, tried together; pinned are allocated ones.
	claims []*resourceapi.ResourceClaim
	pinned []*resourceapi.ResourceClaim
	// extended says that the pod asks for extended resources that a class maps.
	extended bool
	// without are claims whose devices count as free: those under test.
	without map[types.UID]bool

	wants  []*want
	groups []*group
	state  allocator.State
	// serial are attributes that identify single devices.
	serial map[string]bool
	// refused is why each node is refused for reasons outside DRA; absent = not refused.
	refused map[string]string
	// started and timeouts are for the limits of the answer.
	timeouts int
	skipped  int
}

// group is a set of nodes that are the same to the claims.
type group struct {
	nodes  []*corev1.Node
	slices []*slice
	// claims to allocate on these nodes: the pod's, with the generated one for
	// extended resources in its per-node form.
	claims []*resourceapi.ResourceClaim
	// eligible: nothing outside DRA keeps the pod from these nodes.
	eligible bool
	// unfit is an extended resource that nobody offers here.
	unfit corev1.ResourceName
	// away names an allocated claim that cannot be used here.
	away string
	// verdict as things are.
	verdict allocator.Verdict

	api []*resourceapi.ResourceSlice
	// served is how many requests find enough devices here, taken or not.
	served int
	// have counts, per want, the devices that pass its selectors.
	have   []int64
	errors bool
}

func (g *group) rep() *corev1.Node { return g.nodes[0] }

// newAttempt prepares the question. pod may be nil when a claim is asked about
// for which no pod is known.
func newAttempt(w *world, pod *corev1.Pod, claims []*resourceapi.ResourceClaim) *attempt {
	a := &attempt{w: w, pod: pod, without: map[types.UID]bool{}, refused: map[string]string{}}
	a.cache = allocator.NewCache(w.assume.Features)
	a.comp = selector.NewCompiler(a.cache)
	for _, c := range claims {
		if c.Status.Allocation != nil {
			a.pinned = append(a.pinned, c)
			continue
		}
		a.claims = append(a.claims, c)
		a.without[c.UID] = true
	}
	a.state = allocator.StateOf(w.claims, w.assume.Features, func(c *resourceapi.ResourceClaim) bool { return a.without[c.UID] && c.UID != "" })
	if pod != nil && w.assume.ExtendedResources {
		for name := range allocator.ExtendedRequests(pod) {
			a.extended = a.extended || allocator.ClassFor(w.classes, name) != nil
		}
	}
	a.wants = wantsOf(w, a.comp, a.tried())
	return a
}

// tried lists the claims as they would be on a node without device plugins.
func (a *attempt) tried() []*resourceapi.ResourceClaim {
	out := slices.Clone(a.claims)
	if a.extended {
		if c, _ := allocator.ExtendedClaim(a.pod, &corev1.Node{Status: corev1.NodeStatus{}}, a.mappedOnly()); c != nil {
			out = append(out, c)
		}
	}
	return out
}

// mappedOnly gives the classes; a resource no class maps is not DRA's.
func (a *attempt) mappedOnly() allocator.Classes { return a.w.classes }

// split groups the nodes by what the claims can see of them.
func (a *attempt) split() {
	names := a.fieldsSeen()
	byKey := map[string]*group{}
	for _, n := range a.w.nodes {
		g := &group{nodes: []*corev1.Node{n}, slices: a.w.fleet.forNode(n), claims: a.claims, eligible: true}
		if a.pod != nil {
			if why := nodeRefusal(a.pod, n); why != "" {
				a.refused[n.Name] = why
				g.eligible = false
			}
		}
		a.onNode(g, n)
		key := a.signature(g, n, names)
		if have := byKey[key]; have != nil {
			have.nodes = append(have.nodes, n)
			continue
		}
		byKey[key] = g
		a.groups = append(a.groups, g)
	}
	for _, g := range a.groups {
		a.survey(g)
	}
	// Where not every sort can be searched, those that have what is wanted come first.
	sort.SliceStable(a.groups, func(i, j int) bool {
		x, y := a.groups[i], a.groups[j]
		if x.served != y.served {
			return x.served > y.served
		}
		return len(x.nodes) > len(y.nodes)
	})
}

// survey counts, per want, the devices of a sort of node that pass the selectors,
// free or not, and notes whether a selector fails on one with an error.
func (a *attempt) survey(g *group) {
	g.have = make([]int64, len(a.wants))
	for _, s := range g.slices {
		if s.gen != s.pool.generation {
			continue
		}
		for i := range s.devices {
			if !s.deviceReaches(&s.devices[i], g.rep()) {
				continue
			}
			for k, x := range a.wants {
				j := x.judge(context.Background(), a.w.fleet, s, &s.devices[i])
				g.errors = g.errors || j.err != ""
				if j.matchesIt {
					g.have[k]++
				}
			}
		}
	}
	for k, x := range a.wants {
		if g.have[k] >= max(x.count, 1) {
			g.served++
		}
	}
}

// onNode fills in what depends on the node itself.
func (a *attempt) onNode(g *group, n *corev1.Node) {
	if a.extended {
		c, unfit := allocator.ExtendedClaim(a.pod, n, a.w.classes)
		g.unfit = unfit
		if c != nil {
			g.claims = append(slices.Clone(a.claims), c)
		}
	}
	for _, c := range a.pinned {
		if ns := c.Status.Allocation.NodeSelector; ns != nil {
			if ok, err := allocator.NodeMatches(a.w.assume.Features, n, "", false, ns); err != nil || !ok {
				g.away = c.Name
			}
		}
	}
}

// fieldsSeen lists the attribute names that selectors and constraints compare;
// nil when a selector may read any.
func (a *attempt) fieldsSeen() map[string]bool {
	names := map[string]bool{}
	for _, x := range a.wants {
		if !x.exact {
			return nil
		}
		for _, f := range x.fields {
			if f.Kind == selector.Attribute {
				names[f.Name()] = true
			}
		}
	}
	a.serial = a.serials(names)
	for _, c := range a.claims {
		for _, k := range c.Spec.Devices.Constraints {
			if n := constraintAttribute(k); n != "" {
				names[n] = true
				delete(a.serial, n)
			}
		}
	}
	return names
}

// manyValues is how many different values make an attribute a serial number.
const manyValues = 256

// serials picks, of the attributes that selectors read, those that identify
// single devices (uuid, serial number). By their values every node would be a
// sort of its own; what counts is whether the selectors accept them.
func (a *attempt) serials(names map[string]bool) map[string]bool {
	f := a.w.fleet
	values := map[string]map[uint32]bool{}
	for n := range names {
		values[n] = map[uint32]bool{}
	}
	for _, s := range f.slices {
		for i := range s.devices {
			for _, at := range s.devices[i].attrs {
				if v := values[qualified(f.names.list[at.name], s.pool.driver)]; v != nil && len(v) <= manyValues {
					v[at.value] = true
				}
			}
		}
	}
	out := map[string]bool{}
	for n, v := range values {
		if len(v) > manyValues {
			out[n] = true
		}
	}
	return out
}

func constraintAttribute(k resourceapi.DeviceConstraint) string {
	switch {
	case k.MatchAttribute != nil:
		return string(*k.MatchAttribute)
	case k.DistinctAttribute != nil:
		return string(*k.DistinctAttribute)
	}
	return ""
}

// signature writes down everything of a node that can change the verdict: the
// devices that reach it, without names and without attributes nobody compares,
// what is taken, tainted and shared, and the state of the pools.
func (a *attempt) signature(g *group, n *corev1.Node, names map[string]bool) string {
	b := make([]byte, 0, 1024)
	if g.eligible {
		b = append(b, 'e')
	}
	b = append(b, g.unfit...)
	b = append(b, 0)
	b = append(b, g.away...)
	if a.extended && len(g.claims) > len(a.claims) {
		for _, r := range g.claims[len(g.claims)-1].Spec.Devices.Requests {
			b = append(b, r.Name...)
			b = binary.LittleEndian.AppendUint64(b, uint64(r.Exactly.Count))
		}
	}
	for _, s := range g.slices {
		b = append(b, 1)
		b = append(b, s.pool.driver...)
		b = append(b, 0)
		b = append(b, a.poolState(s)...)
		b = append(b, 0)
		b = append(b, a.deviceSigs(s, n, names)...)
	}
	return string(b)
}

// poolState is what of a pool decides whether its devices may be used. A pool
// that lies wholly on one node is described by its content; one of many nodes is
// the same pool to all of them and goes by its name.
func (a *attempt) poolState(s *slice) string {
	p := s.pool
	var b strings.Builder
	switch {
	case s.gen < p.generation:
		return "s"
	case !p.complete():
		b.WriteByte('i')
	case p.invalid != "":
		b.WriteByte('x')
	}
	if !p.local {
		b.WriteString(p.name)
		return b.String()
	}
	for i := range s.counters {
		b.WriteString(counterText(s.counters[i]))
	}
	return b.String()
}

func (a *attempt) deviceSigs(s *slice, n *corev1.Node, names map[string]bool) []byte {
	sigs := make([]string, 0, len(s.devices))
	f := a.w.fleet
	ordered := false
	for i := range s.devices {
		d := &s.devices[i]
		if s.per && !s.deviceReaches(d, n) {
			continue
		}
		b := make([]byte, 0, 64)
		if names == nil {
			b = shape(b, f, d)
		} else {
			for _, at := range d.attrs {
				name := qualified(f.names.list[at.name], s.pool.driver)
				if names[name] && a.serial[name] {
					b = append(b, 'n') // published; the value tells through the selectors
				} else if names[name] {
					b = binary.LittleEndian.AppendUint32(b, at.name)
					b = binary.LittleEndian.AppendUint32(b, at.value)
				}
			}
			if d.caps != nil {
				b = binary.LittleEndian.AppendUint32(append(b, 'c'), d.caps.id)
			}
		}
		b = a.useSig(b, s, d)
		for _, x := range a.wants {
			j := x.judge(context.Background(), f, s, d)
			ordered = ordered || j.aborting
			if len(a.serial) > 0 {
				b = append(b, j.outcome()...)
			}
		}
		sigs = append(sigs, string(b))
	}
	if !ordered {
		// Order decides only which device is taken first, and where an error is met.
		slices.Sort(sigs)
	}
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(sigs)))
	for _, sig := range sigs {
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(sig))), sig...)
	}
	return out
}

func (a *attempt) useSig(b []byte, s *slice, d *device) []byte {
	id := idOf(s, d)
	for _, h := range a.w.use.holds[id] {
		switch {
		case a.without[h.claim.UID]:
		case h.shared:
			b = append(b, 'h')
			keys := make([]string, 0, len(h.res.ConsumedCapacity))
			for k, q := range h.res.ConsumedCapacity {
				keys = append(keys, string(k)+"="+q.String())
			}
			slices.Sort(keys)
			b = append(b, strings.Join(keys, ",")...)
		default:
			b = append(b, 'u')
		}
	}
	for _, t := range d.taints() {
		b = append(append(b, 't'), taintText(t)...)
	}
	for _, r := range a.w.rulesFor(s, d) {
		b = append(append(b, 'r'), r.Name...)
	}
	if d.rest != nil {
		for _, c := range d.rest.ConsumesCounters {
			b = append(append(b, 'k'), c.CounterSet...)
			keys := make([]string, 0, len(c.Counters))
			for k, v := range c.Counters {
				keys = append(keys, k+"="+v.Value.String())
			}
			slices.Sort(keys)
			b = append(b, strings.Join(keys, ",")...)
		}
		if d.multi() {
			b = append(b, 'M')
		}
		if len(d.rest.BindingConditions) > 0 {
			b = append(b, 'B')
		}
	}
	return b
}

// apiSlices makes the slices that matter to the group, once.
func (a *attempt) apiSlices(g *group) []*resourceapi.ResourceSlice {
	if g.api == nil {
		all := a.w.fleet.withPools(g.slices)
		g.api = make([]*resourceapi.ResourceSlice, 0, len(all))
		for _, s := range all {
			g.api = append(g.api, a.w.fleet.api(s, a.w.ruleTaints))
		}
	}
	return g.api
}

// trial is one run of the allocator: the world as it is, unless changed.
type trial struct {
	features allocator.Features
	state    allocator.State
	classes  allocator.Classes
	slices   []*resourceapi.ResourceSlice
	claims   []*resourceapi.ResourceClaim
	// ignoreAway: allocated claims do not tie the pod to a node.
	ignoreAway bool
}

// change alters a trial; it must copy what it changes.
type change func(*trial)

// try runs the allocator for a group with changes applied.
func (a *attempt) try(ctx context.Context, g *group, changes ...change) (allocator.Verdict, error) {
	t := trial{features: a.w.assume.Features, state: a.state, classes: a.w.classes, claims: g.claims}
	if len(changes) > 0 {
		t.slices = a.apiSlices(g)
	}
	for _, c := range changes {
		c(&t)
	}
	switch {
	case g.unfit != "":
		return allocator.Verdict{NodeReason: "no device plugin and no DeviceClass offers " + string(g.unfit)}, nil
	case g.away != "" && !t.ignoreAway:
		return allocator.Verdict{NodeReason: "claim " + g.away + " is allocated elsewhere"}, nil
	}
	if a.tooFew(g, &t) {
		return allocator.Verdict{}, nil
	}
	if t.slices == nil {
		t.slices = a.apiSlices(g)
	}
	ctx, cancel := context.WithTimeout(ctx, groupDeadline)
	defer cancel()
	v, err := allocator.Try(ctx, allocator.Input{
		Features: t.features, State: t.state, Classes: t.classes, Slices: t.slices, Cache: a.cache, Log: a.log,
	}, g.rep(), t.claims)
	if v.TimedOut {
		a.timeouts++
	}
	return v, err
}

// tooFew says, without running the allocator, that a sort of node has fewer
// devices passing the selectors than a request counts. The search would find the
// same after trying every combination. It stays silent where the allocator might
// instead end with an error, or where the selectors were changed.
func (a *attempt) tooFew(g *group, t *trial) bool {
	if g.errors || len(a.wants) == 0 {
		return false
	}
	short, total, k := false, int64(0), 0
	for _, c := range t.claims {
		perClaim := int64(0)
		for i := range c.Spec.Devices.Requests {
			r := &c.Spec.Devices.Requests[i]
			possible, least := false, int64(-1)
			look := func(class string, sels []resourceapi.DeviceSelector, mode resourceapi.DeviceAllocationMode, count int64, capacity *resourceapi.CapacityRequirements) bool {
				x := (*want)(nil)
				if k < len(a.wants) {
					x = a.wants[k]
				}
				k++
				if x == nil || x.class == nil || x.request != r.Name || x.className != class || mode != resourceapi.DeviceAllocationModeExactCount || capacity != nil ||
					t.classes[class] != x.class || !slices.EqualFunc(sels, x.selectors, func(p, q resourceapi.DeviceSelector) bool { return p.CEL != nil && q.CEL != nil && *p.CEL == *q.CEL }) {
					return false
				}
				possible = possible || g.have[k-1] >= count
				if least < 0 || count < least {
					least = count
				}
				return true
			}
			if e := r.Exactly; e != nil && !look(e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Capacity) {
				return false
			}
			for j := range r.FirstAvailable {
				s := &r.FirstAvailable[j]
				if !look(s.DeviceClassName, s.Selectors, s.AllocationMode, s.Count, s.Capacity) {
					return false
				}
			}
			short = short || !possible
			perClaim += max(least, 0)
		}
		total = max(total, perClaim)
	}
	return short && total <= allocator.ResultLimit
}

// baseline asks for every group as things are.
func (a *attempt) baseline(ctx context.Context) error {
	for i, g := range a.groups {
		if ctx.Err() != nil {
			g.verdict = allocator.Verdict{TimedOut: true}
			a.timeouts++
			continue
		}
		v, err := a.try(ctx, g)
		if err != nil {
			if ctx.Err() != nil {
				g.verdict = allocator.Verdict{TimedOut: true}
				a.timeouts++
				continue
			}
			return err
		}
		g.verdict = v
		if i >= maxGroups {
			g.api = nil // not looked at again; thousands of copies would not fit
		}
	}
	return nil
}

// fitting says where the claims fit with the changes applied: on how many nodes
// the pod may use, on how many others, and one example.
type fitting struct {
	nodes    int
	refused  int
	example  string
	groups   []*group
	verdicts []allocator.Verdict
	// aborts: on some node the pod may use, the changed claims end in an error, so
	// that the scheduler gives up on the others too.
	aborts bool
}

func (f fitting) ok() bool { return f.nodes > 0 }

// cures says that with the changes made the scheduler would find a node.
func (f fitting) cures() bool { return f.ok() && !f.aborts }

// where runs the changed trial over the sorts of node.
func (a *attempt) where(ctx context.Context, changes ...change) fitting {
	var f fitting
	for i, g := range a.groups {
		if i >= maxGroups {
			a.skipped = len(a.groups) - maxGroups
			break
		}
		if ctx.Err() != nil {
			break
		}
		v, err := a.try(ctx, g, changes...)
		f.aborts = f.aborts || err == nil && v.Abort != "" && g.eligible
		if err != nil || !v.Fits {
			continue
		}
		if !g.eligible {
			f.refused += len(g.nodes)
			continue
		}
		f.nodes += len(g.nodes)
		f.groups = append(f.groups, g)
		f.verdicts = append(f.verdicts, v)
		if f.example == "" {
			f.example = g.rep().Name
		}
	}
	return f
}
