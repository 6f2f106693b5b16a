package dra

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/gumshoe-ai/gumshoe/toolsets/dra/selector"
)

// maxDeviceGroups bounds the rows of one request's table.
const maxDeviceGroups = 12

// row is a device group while it is counted.
type row struct {
	DeviceGroup
	nodes map[string]bool
}

// table is the first layer: every device of the cluster against one request.
type table struct {
	totals  Totals
	rows    []DeviceGroup
	largest int
	// classRows sums the devices of the class by label, excluded or not.
	offered []DeviceGroup
	// largestFree is the most free devices one node has.
	largestFree int
	// taints and holders of devices that pass the selectors, with counts.
	taints  map[string]int
	holders map[string]int
	// firstError is the first run-time error that the scheduler would meet.
	firstError *judgement
	errorOn    devID
	// errors counts devices on which a selector fails with an error.
	errors int
}

// tabulate evaluates the want against every device.
func (a *attempt) tabulate(ctx context.Context, x *want) *table {
	t := &table{taints: map[string]int{}, holders: map[string]int{}}
	rows, offered := map[string]*row{}, map[string]*row{}
	perNode, freeNode, ofClass := map[string]int{}, map[string]int{}, map[string]bool{}
	f := a.w.fleet
	left := newCounters(a)
	for _, p := range f.pools {
		for _, s := range p.slices {
			for i := range s.devices {
				d := &s.devices[i]
				j := x.judge(ctx, f, s, d)
				if j.err != "" && j.aborting {
					t.errors++
					if t.firstError == nil {
						t.firstError, t.errorOn = j, idOf(s, d)
					}
				}
				var ex []Exclusion
				if j.ofClass {
					t.totals.MatchingClass++
					if place := at(s, d); place != "" {
						ofClass[place] = true
					}
					count(offered, f, x, s, d, nil)
				}
				if j.matchesIt {
					ex = a.environment(x, p, s, d, left, t)
					place := at(s, d)
					if place != "" {
						perNode[place]++
					}
					if len(ex) == 0 && place != "" {
						freeNode[place]++
					}
				} else {
					ex = selectorExclusions(x, j)
				}
				if x.class == nil || !j.ofClass && x.class.Spec.Selectors != nil && !relevant(x, s) {
					continue // no class means no device; another driver's devices are not worth a row
				}
				count(rows, f, x, s, d, ex)
			}
		}
	}
	for _, n := range perNode {
		t.largest = max(t.largest, n)
	}
	for _, n := range freeNode {
		t.largestFree = max(t.largestFree, n)
	}
	t.totals.ClassNodes = len(ofClass)
	t.rows, t.offered = sorted(rows), sorted(offered)
	return t
}

// relevant says whether a slice may be what the class is about: its driver is
// the one the class names, or the class names none.
func relevant(x *want, s *slice) bool {
	for _, e := range x.classExprs {
		if d := e.OfDriver(); d != "" && d != s.pool.driver {
			return false
		}
	}
	return true
}

// at is the node a device is tied to, empty for one that several nodes reach.
func at(s *slice, d *device) string {
	if s.node != "" {
		return s.node
	}
	if s.per && d.rest != nil && d.rest.NodeName != nil {
		return *d.rest.NodeName
	}
	return ""
}

func selectorExclusions(x *want, j *judgement) []Exclusion {
	var ex []Exclusion
	add := func(kind string, fails []int, exprs []*selector.Expression, ofClass bool) {
		for _, i := range fails {
			e := Exclusion{Kind: kind, Index: i, Detail: quote(exprs[i].Text)}
			if j.err != "" && j.errAt == i && j.errClass == ofClass {
				e.Kind, e.Detail = "error", j.err
			}
			ex = append(ex, e)
		}
	}
	add("class_selector", j.classFails, x.classExprs, true)
	if len(j.classFails) == 0 {
		add("selector", j.fails, x.exprs, false)
	}
	return ex
}

// environment lists what, beside selectors, keeps a device away.
func (a *attempt) environment(x *want, p *pool, s *slice, d *device, left *counters, t *table) []Exclusion {
	t.totals.AfterSelectors++
	var ex []Exclusion
	add := func(n *int, kind, detail string) {
		*n++
		ex = append(ex, Exclusion{Kind: kind, Detail: detail})
	}
	switch {
	case p.invalid != "":
		add(&t.totals.NotPublished, "pool_invalid", p.invalid)
	case !p.complete():
		add(&t.totals.NotPublished, "pool_incomplete", fmt.Sprintf("%d of %d slices", len(p.slices), p.want))
	}
	id := idOf(s, d)
	if !x.admin {
		if hs := a.w.use.taken(id, a.without); len(hs) > 0 {
			for _, h := range hs {
				t.holders[h.claim.Namespace+"/"+h.claim.Name]++
			}
			add(&t.totals.InUse, "in_use", "allocated to other claims")
		}
	}
	if hits := x.tainted(a.w, s, d); len(hits) > 0 {
		var parts []string
		for _, h := range hits {
			t.taints[h.String()]++
			parts = append(parts, h.String())
		}
		add(&t.totals.Tainted, "taint", strings.Join(parts, ", "))
	}
	if why := a.capacityShort(x, id, d); why != "" {
		add(&t.totals.Short, "capacity", why)
	} else if why := left.short(p, d); why != "" && len(ex) == 0 {
		add(&t.totals.Short, "counters", why)
	}
	if len(ex) == 0 {
		t.totals.Free++
	}
	return ex
}

// capacityShort says which requested capacity the device does not have left.
func (a *attempt) capacityShort(x *want, id devID, d *device) string {
	if x.capacity == nil {
		return ""
	}
	names := slices.Sorted(maps.Keys(x.capacity.Requests))
	for _, name := range names {
		asked := x.capacity.Requests[name]
		if d.caps == nil {
			return fmt.Sprintf("has no %s", name)
		}
		c, ok := d.caps.caps[name]
		if !ok {
			return fmt.Sprintf("has no %s", name)
		}
		left := a.capacityLeft(id, name, c.Value)
		if left.Cmp(asked) < 0 {
			return fmt.Sprintf("%s: %s left of %s, %s asked", name, left.String(), text64(c.Value), text64(asked))
		}
	}
	return ""
}

func text64(q resource.Quantity) string { c := q.DeepCopy(); return c.String() }

func (a *attempt) capacityLeft(id devID, name resourceapi.QualifiedName, total resource.Quantity) resource.Quantity {
	left := total.DeepCopy()
	for _, h := range a.w.use.holds[id] {
		if a.without[h.claim.UID] {
			continue
		}
		if q, ok := h.res.ConsumedCapacity[name]; ok {
			left.Sub(q)
		}
	}
	return left
}

// counters keeps what is left in the shared counters of each pool.
type counters struct {
	a    *attempt
	left map[*pool]map[string]map[string]resource.Quantity
}

func newCounters(a *attempt) *counters {
	return &counters{a: a, left: map[*pool]map[string]map[string]resource.Quantity{}}
}

// of computes total minus what allocated devices of the pool consume.
func (c *counters) of(p *pool) map[string]map[string]resource.Quantity {
	if m, ok := c.left[p]; ok {
		return m
	}
	m := map[string]map[string]resource.Quantity{}
	for _, s := range p.slices {
		for _, set := range s.counters {
			m[set.Name] = map[string]resource.Quantity{}
			for name, v := range set.Counters {
				m[set.Name][name] = v.Value.DeepCopy()
			}
		}
	}
	for _, s := range p.slices {
		for i := range s.devices {
			d := &s.devices[i]
			if d.rest == nil || !slices.ContainsFunc(c.a.w.use.holds[idOf(s, d)], func(h hold) bool { return !c.a.without[h.claim.UID] }) {
				continue
			}
			for _, use := range d.rest.ConsumesCounters {
				for name, v := range use.Counters {
					if q, ok := m[use.CounterSet][name]; ok {
						q.Sub(v.Value)
						m[use.CounterSet][name] = q
					}
				}
			}
		}
	}
	c.left[p] = m
	return m
}

// shortage is one counter that does not suffice.
type shortage struct {
	set, counter string
	needed, left resource.Quantity
}

func (s shortage) String() string {
	return fmt.Sprintf("%s/%s: %s left, %s needed", s.set, s.counter, s.left.String(), s.needed.String())
}

func (c *counters) shortages(p *pool, d *device) []shortage {
	if d.rest == nil {
		return nil
	}
	var out []shortage
	for _, use := range d.rest.ConsumesCounters {
		for _, name := range slices.Sorted(maps.Keys(use.Counters)) {
			need := use.Counters[name].Value.DeepCopy()
			if q, ok := c.of(p)[use.CounterSet][name]; ok && q.Cmp(need) < 0 {
				out = append(out, shortage{use.CounterSet, name, need, q.DeepCopy()})
			}
		}
	}
	return out
}

func (c *counters) short(p *pool, d *device) string {
	if s := c.shortages(p, d); len(s) > 0 {
		return s[0].String()
	}
	return ""
}

// count puts a device into its row.
func count(rows map[string]*row, f *fleet, x *want, s *slice, d *device, ex []Exclusion) {
	key := append(make([]byte, 0, 256), s.pool.driver...)
	key = append(append(key, 0), labelOf(f, s, d)...)
	for v := range looked(f, x, s, d) {
		key = append(append(key, 0), v.text...)
	}
	for _, e := range ex {
		key = append(append(key, 1), e.Kind...)
		key = strconv.AppendInt(append(key, '/'), int64(e.Index), 10)
		key = append(append(key, '/'), e.Detail...)
	}
	r := rows[string(key)]
	if r == nil {
		label, attrs := describe(f, x, s, d)
		r = &row{DeviceGroup: DeviceGroup{Driver: s.pool.driver, Label: label, Attributes: attrs, Example: idOf(s, d).String(), ExcludedBy: ex}, nodes: map[string]bool{}}
		if r.ExcludedBy == nil {
			r.ExcludedBy = []Exclusion{}
		}
		rows[string(key)] = r
	}
	r.Count++
	if n := at(s, d); n != "" {
		r.nodes[n] = true
	}
}

// describing are attribute ids that tell a person what a device is, best first.
func describing() []string {
	return []string{"productName", "model", "product", "deviceName", "profile", "family", "type"}
}

// describe gives a device a label and the attributes that the request looks at.
func describe(f *fleet, x *want, s *slice, d *device) (string, map[string]string) {
	attrs := map[string]string{}
	for v := range looked(f, x, s, d) {
		if v.there {
			attrs[short(v.name, s.pool.driver)] = v.text
		}
	}
	return labelOf(f, s, d), attrs
}

// labelOf says what a device is, by the best attribute it has.
func labelOf(f *fleet, s *slice, d *device) string {
	for _, id := range describing() {
		if v, ok := f.attr(s, d, s.pool.driver+"/"+id); ok && v.kind == 's' {
			return v.text
		}
	}
	return ""
}

// sight is one attribute or capacity that a request looks at, on one device.
type sight struct {
	name, text string
	there      bool
}

// looked gives what the request looks at on a device, in the request's order.
func looked(f *fleet, x *want, s *slice, d *device) iter.Seq[sight] {
	return func(yield func(sight) bool) {
		if x == nil {
			return
		}
		for _, fld := range x.fields {
			v := sight{name: fld.Name()}
			switch fld.Kind {
			case selector.Attribute:
				var have value
				have, v.there = f.attr(s, d, v.name)
				v.text = have.text
			case selector.Capacity:
				var q resource.Quantity
				if q, v.there = capacityOf(s, d, v.name); v.there {
					v.text = text64(q)
				}
			}
			if !yield(v) {
				return
			}
		}
	}
}

// short drops the driver's own domain from a name.
func short(name, driver string) string { return strings.TrimPrefix(name, driver+"/") }

// capacityOf finds a capacity by its fully qualified name.
func capacityOf(s *slice, d *device, name string) (resource.Quantity, bool) {
	if d.caps == nil {
		return resource.Quantity{}, false
	}
	if c, ok := d.caps.caps[resourceapi.QualifiedName(name)]; ok {
		return c.Value, true
	}
	if id, ok := strings.CutPrefix(name, s.pool.driver+"/"); ok {
		if c, ok := d.caps.caps[resourceapi.QualifiedName(id)]; ok {
			return c.Value, true
		}
	}
	return resource.Quantity{}, false
}

// sorted gives the rows, most devices first, the smallest ones summed up.
func sorted(rows map[string]*row) []DeviceGroup {
	all := make([]*row, 0, len(rows))
	for _, r := range rows {
		r.Nodes = len(r.nodes)
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *row) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Driver, b.Driver), cmp.Compare(a.Label, b.Label), cmp.Compare(a.Example, b.Example))
	})
	out := make([]DeviceGroup, 0, min(len(all), maxDeviceGroups+1))
	rest := DeviceGroup{Label: "others", Attributes: map[string]string{}, ExcludedBy: []Exclusion{}}
	for i, r := range all {
		if i < maxDeviceGroups || len(all) == maxDeviceGroups+1 {
			out = append(out, r.DeviceGroup)
			continue
		}
		rest.Count += r.Count
		rest.Driver = r.Driver
	}
	if rest.Count > 0 {
		out = append(out, rest)
	}
	return out
}
