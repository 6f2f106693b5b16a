package dra

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// fleet is every ResourceSlice in a compact form. A device of the API is a few
// kilobytes of maps; 80,000 of them would not fit the memory we promise. Names
// and values are kept once, capacities once per distinct set, and whole slices
// are made again only for the nodes the allocator is run on.
type fleet struct {
	names  interned[string]
	values interned[value]
	caps   map[string]*capSet

	slices []*slice
	pools  []*pool
	poolOf map[poolID]*pool
	// onNode are the slices tied to one node; shared are all others.
	onNode map[string][]*slice
	shared []*slice
	// odd are one example of each device and slice that uses a gated field.
	odd []*resourceapi.ResourceSlice
}

// interned gives each distinct value a number.
type interned[T comparable] struct {
	list []T
	at   map[T]uint32
}

func (t *interned[T]) id(v T) uint32 {
	if i, ok := t.at[v]; ok {
		return i
	}
	if t.at == nil {
		t.at = map[T]uint32{}
	}
	i := uint32(len(t.list))
	t.list = append(t.list, v)
	t.at[v] = i
	return i
}

// value is a device attribute; kind tells the type and is part of equality.
type value struct {
	kind byte // s string, v version, i int, b bool; upper case for lists
	text string
}

// attr is one attribute of a device: indices into names and values.
type attr struct{ name, value uint32 }

type capSet struct {
	id   uint32
	caps map[resourceapi.QualifiedName]resourceapi.DeviceCapacity
}

type poolID struct{ driver, name string }

func (p poolID) String() string { return p.driver + "/" + p.name }

// pool is what one driver offers under one name, over however many slices.
type pool struct {
	poolID
	generation int64
	want       int64
	slices     []*slice // of the newest generation, by name
	stale      []*slice // of older generations
	// local: every slice is tied to one and the same node.
	local bool
	// invalid is why the allocator refuses the whole pool; empty when it does not.
	invalid string
}

func (p *pool) complete() bool { return int64(len(p.slices)) == p.want }

// slice is a ResourceSlice.
type slice struct {
	name     string
	pool     *pool
	gen      int64
	want     int64
	node     string
	all      bool
	per      bool
	selector *corev1.NodeSelector
	match    *nodeaffinity.NodeSelector
	badSel   error
	counters []resourceapi.CounterSet
	devices  []device
	owner    string
	created  metav1.Time
}

// device is one device of a slice.
type device struct {
	name  string
	attrs []attr // by name index
	caps  *capSet
	// rest holds the rarer fields; nil for most devices.
	rest *resourceapi.Device
}

func (d *device) taints() []resourceapi.DeviceTaint {
	if d.rest == nil {
		return nil
	}
	return d.rest.Taints
}

func (d *device) multi() bool {
	return d.rest != nil && d.rest.AllowMultipleAllocations != nil && *d.rest.AllowMultipleAllocations
}

func newFleet() *fleet {
	return &fleet{caps: map[string]*capSet{}, poolOf: map[poolID]*pool{}, onNode: map[string][]*slice{}}
}

// add takes one slice in.
func (f *fleet) add(s *resourceapi.ResourceSlice) {
	id := poolID{s.Spec.Driver, s.Spec.Pool.Name}
	p := f.poolOf[id]
	if p == nil {
		p = &pool{poolID: id, generation: s.Spec.Pool.Generation}
		f.poolOf[id] = p
		f.pools = append(f.pools, p)
	}
	c := &slice{
		name: s.Name, pool: p, gen: s.Spec.Pool.Generation, want: s.Spec.Pool.ResourceSliceCount,
		selector: s.Spec.NodeSelector, counters: s.Spec.SharedCounters, created: s.CreationTimestamp,
		all: s.Spec.AllNodes != nil && *s.Spec.AllNodes,
		per: s.Spec.PerDeviceNodeSelection != nil && *s.Spec.PerDeviceNodeSelection,
	}
	if s.Spec.NodeName != nil {
		c.node = *s.Spec.NodeName
	}
	for _, o := range s.OwnerReferences {
		if o.Kind == "Node" {
			c.owner = o.Name
		}
	}
	if c.selector != nil {
		c.match, c.badSel = nodeaffinity.NewNodeSelector(c.selector)
	}
	c.devices = make([]device, len(s.Spec.Devices))
	for i := range s.Spec.Devices {
		c.devices[i] = f.compact(&s.Spec.Devices[i])
	}
	f.remember(s)
	f.slices = append(f.slices, c)
}

func (f *fleet) compact(d *resourceapi.Device) device {
	out := device{name: d.Name, caps: f.capacity(d.Capacity)}
	for n, v := range d.Attributes {
		out.attrs = append(out.attrs, attr{f.names.id(string(n)), f.values.id(pack(v))})
	}
	slices.SortFunc(out.attrs, func(a, b attr) int { return cmp.Compare(f.names.list[a.name], f.names.list[b.name]) })
	out.attrs = slices.Clip(out.attrs)
	if len(d.ConsumesCounters) > 0 || d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil || len(d.Taints) > 0 || d.BindsToNode != nil ||
		len(d.BindingConditions) > 0 || d.AllowMultipleAllocations != nil || len(d.NodeAllocatableResources) > 0 || len(d.BindingFailureConditions) > 0 {
		rest := *d
		rest.Attributes, rest.Capacity = nil, nil
		out.rest = &rest
	}
	return out
}

func (f *fleet) capacity(m map[resourceapi.QualifiedName]resourceapi.DeviceCapacity) *capSet {
	if len(m) == 0 {
		return nil
	}
	keys := make([]string, 0, len(m))
	for k, v := range m {
		text := string(k) + "=" + v.Value.String()
		if v.RequestPolicy != nil {
			text += " " + v.RequestPolicy.String()
		}
		keys = append(keys, text)
	}
	slices.Sort(keys)
	key := strings.Join(keys, ";")
	if c, ok := f.caps[key]; ok {
		return c
	}
	c := &capSet{id: uint32(len(f.caps)), caps: m}
	f.caps[key] = c
	return c
}

// remember keeps a slice that shows a gated field in use, one of each sort.
func (f *fleet) remember(s *resourceapi.ResourceSlice) {
	if len(f.odd) >= 16 {
		return
	}
	w := &resourceapi.ResourceSlice{}
	if len(s.Spec.SharedCounters) > 0 || s.Spec.PerDeviceNodeSelection != nil {
		w.Spec.SharedCounters, w.Spec.PerDeviceNodeSelection = s.Spec.SharedCounters, s.Spec.PerDeviceNodeSelection
	}
	seen := map[string]bool{}
	for i := range s.Spec.Devices {
		d := &s.Spec.Devices[i]
		sig := gated(d)
		if sig != "" && !seen[sig] {
			seen[sig] = true
			w.Spec.Devices = append(w.Spec.Devices, *d)
		}
	}
	if len(w.Spec.Devices) == 0 && w.Spec.SharedCounters == nil && w.Spec.PerDeviceNodeSelection == nil {
		return
	}
	for _, o := range f.odd {
		if sameWitness(o, w) {
			return
		}
	}
	f.odd = append(f.odd, w)
}

// gated names the gated fields that a device uses.
func gated(d *resourceapi.Device) string {
	var b strings.Builder
	if len(d.ConsumesCounters) > 0 {
		b.WriteByte('c')
		for _, c := range d.ConsumesCounters {
			if len(c.CompatibilityGroups) > 0 {
				b.WriteByte('g')
				break
			}
		}
	}
	if len(d.Taints) > 0 {
		b.WriteByte('t')
	}
	if d.AllowMultipleAllocations != nil {
		b.WriteByte('m')
	}
	if len(d.BindingConditions) > 0 {
		b.WriteByte('b')
	}
	for _, v := range d.Attributes {
		if v.IntValues != nil || v.BoolValues != nil || v.StringValues != nil || v.VersionValues != nil {
			b.WriteByte('l')
			break
		}
	}
	return b.String()
}

func sameWitness(a, b *resourceapi.ResourceSlice) bool {
	sig := func(s *resourceapi.ResourceSlice) string {
		parts := []string{strconv.FormatBool(len(s.Spec.SharedCounters) > 0), strconv.FormatBool(s.Spec.PerDeviceNodeSelection != nil)}
		for i := range s.Spec.Devices {
			parts = append(parts, gated(&s.Spec.Devices[i]))
		}
		slices.Sort(parts[2:])
		return strings.Join(parts, ",")
	}
	return sig(a) == sig(b)
}

func (f *fleet) witnesses() []*resourceapi.ResourceSlice { return f.odd }

// seal sorts everything and works out generations.
func (f *fleet) seal() {
	slices.SortFunc(f.slices, func(a, b *slice) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(f.pools, func(a, b *pool) int {
		return cmp.Or(strings.Compare(a.driver, b.driver), strings.Compare(a.name, b.name))
	})
	for _, s := range f.slices {
		s.pool.generation = max(s.pool.generation, s.gen)
	}
	for _, s := range f.slices {
		if s.gen == s.pool.generation {
			s.pool.slices = append(s.pool.slices, s)
			s.pool.want = s.want
		} else {
			s.pool.stale = append(s.pool.stale, s)
		}
		if s.node != "" {
			f.onNode[s.node] = append(f.onNode[s.node], s)
		} else {
			f.shared = append(f.shared, s)
		}
	}
	for _, p := range f.pools {
		p.check()
	}
}

// check finds contradictions between the slices of a pool, with the rules of the
// allocator (k8s.io/dynamic-resource-allocation v0.37.2 structured, buildPool).
func (p *pool) check() {
	p.local = true
	devices, sets := map[string]bool{}, map[string]map[string]resourceapi.Counter{}
	for _, s := range slices.Concat(p.slices, p.stale) {
		p.local = p.local && s.node != "" && s.node == p.slices[0].node
	}
	fail := func(why string) {
		if p.invalid == "" {
			p.invalid = why
		}
	}
	for _, s := range p.slices {
		for i := range s.devices {
			if devices[s.devices[i].name] {
				fail("duplicate device name " + s.devices[i].name)
			}
			devices[s.devices[i].name] = true
		}
		for _, c := range s.counters {
			if sets[c.Name] != nil {
				fail("duplicate counter set name " + c.Name)
			}
			sets[c.Name] = c.Counters
		}
	}
	for _, s := range p.slices {
		for i := range s.devices {
			if s.devices[i].rest == nil {
				continue
			}
			for _, c := range s.devices[i].rest.ConsumesCounters {
				set, ok := sets[c.CounterSet]
				if !ok {
					fail("counter set " + c.CounterSet + " not found")
				}
				for name := range c.Counters {
					if _, ok := set[name]; ok || set == nil {
						continue
					}
					fail("counter " + name + " not found in counter set " + c.CounterSet)
				}
			}
		}
	}
}

func counterText(c resourceapi.CounterSet) string {
	keys := make([]string, 0, len(c.Counters))
	for k, v := range c.Counters {
		keys = append(keys, k+"="+v.Value.String())
	}
	slices.Sort(keys)
	return c.Name + "{" + strings.Join(keys, ",") + "}"
}

// guessNodes makes bare nodes from the names in slices, for when nodes may not be listed.
func (f *fleet) guessNodes() []*corev1.Node {
	var out []*corev1.Node
	for name := range f.onNode {
		out = append(out, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	slices.SortFunc(out, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// reaches says whether a slice may hold devices for the node.
func (s *slice) reaches(n *corev1.Node) bool {
	switch {
	case s.node != "":
		return s.node == n.Name
	case s.all:
		return true
	case s.selector != nil:
		return s.badSel == nil && s.match.Match(n)
	case s.per:
		for i := range s.devices {
			if s.deviceReaches(&s.devices[i], n) {
				return true
			}
		}
	}
	return false
}

// deviceReaches says whether a device of the slice can be used on the node,
// given that the slice reaches it.
func (s *slice) deviceReaches(d *device, n *corev1.Node) bool {
	if !s.per {
		return true
	}
	if d.rest == nil {
		return false
	}
	switch {
	case d.rest.NodeName != nil:
		return *d.rest.NodeName == n.Name
	case d.rest.AllNodes != nil && *d.rest.AllNodes:
		return true
	case d.rest.NodeSelector != nil:
		sel, err := nodeaffinity.NewNodeSelector(d.rest.NodeSelector)
		return err == nil && sel.Match(n)
	}
	return false
}

// forNode lists the slices that reach a node, by name.
func (f *fleet) forNode(n *corev1.Node) []*slice {
	out := slices.Clone(f.onNode[n.Name])
	for _, s := range f.shared {
		if s.reaches(n) {
			out = append(out, s)
		}
	}
	return out
}

// withPools adds to the slices of a node the other slices of the same pools: the
// allocator needs them to judge completeness and to count shared counters.
func (f *fleet) withPools(of []*slice) []*slice {
	seen := map[*slice]bool{}
	pools := map[*pool]bool{}
	var out []*slice
	for _, s := range of {
		if !pools[s.pool] {
			pools[s.pool] = true
			for _, o := range slices.Concat(s.pool.slices, s.pool.stale) {
				if !seen[o] {
					seen[o] = true
					out = append(out, o)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b *slice) int { return strings.Compare(a.name, b.name) })
	return out
}

// lookup finds a device of the newest generation.
func (f *fleet) lookup(driver, poolName, name string) (*slice, *device) {
	p := f.poolOf[poolID{driver, poolName}]
	if p == nil {
		return nil, nil
	}
	for _, s := range p.slices {
		for i := range s.devices {
			if s.devices[i].name == name {
				return s, &s.devices[i]
			}
		}
	}
	return nil, nil
}

// qualified gives the full name of an attribute: names without a domain belong
// to the driver's.
func qualified(name, driver string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return driver + "/" + name
}

// attr finds an attribute by its fully qualified name.
func (f *fleet) attr(s *slice, d *device, name string) (value, bool) {
	short, mine := strings.CutPrefix(name, s.pool.driver+"/")
	for _, a := range d.attrs {
		n := f.names.list[a.name]
		if n == name || (mine && n == short) {
			return f.values.list[a.value], true
		}
	}
	return value{}, false
}

// drivers lists the names of all drivers that have a slice, sorted.
func (f *fleet) drivers() []string {
	var out []string
	for _, p := range f.pools {
		if len(out) == 0 || out[len(out)-1] != p.driver {
			out = append(out, p.driver)
		}
	}
	return out
}
