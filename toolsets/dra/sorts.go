package dra

import (
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"k8s.io/dynamic-resource-allocation/cel"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/toolsets/dra/selector"
)

// located is a device and the slice that publishes it.
type located struct {
	slice  *slice
	device *device
}

// pick lists the devices that a dra_devices call asks about. A class whose
// expression fails at run time is a finding, once.
func (t *Toolset) pick(ctx context.Context, w *world, in DevicesIn, x *want) ([]located, []incident.Finding) {
	var (
		out []located
		fs  []incident.Finding
	)
	for _, p := range w.fleet.pools {
		if in.Driver != "" && p.driver != in.Driver {
			continue
		}
		for _, s := range p.slices {
			for i := range s.devices {
				d := &s.devices[i]
				if in.Node != "" && at(s, d) != in.Node && (at(s, d) != "" || w.byName[in.Node] == nil || !s.reaches(w.byName[in.Node])) {
					continue
				}
				if x != nil {
					j := x.judge(ctx, w.fleet, s, d)
					if j.aborting && j.errClass && len(fs) == 0 {
						expr := quote(x.classExprs[j.errAt].Text)
						fs = append(fs, finding("dra.cel_runtime_error", t.classRef(in.Class), 0.8, map[string]string{"expression": expr, "message": j.err, "device": idOf(s, d).String()},
							"selector %d of class %s fails on device %s: %s", j.errAt, in.Class, idOf(s, d), quote(j.err)))
					}
					if !j.ofClass {
						continue
					}
				}
				out = append(out, located{s, d})
			}
		}
	}
	return out, fs
}

// attrOf is an attribute as a driver's slices write it; the fleet numbers names.
type attrOf struct {
	driver string
	name   uint32
}

// offered counts the values of every attribute, by qualified name.
func offered(f *fleet, picked []located) map[string]offer {
	counts := map[attrOf]map[uint32]int{}
	for _, p := range picked {
		for _, a := range p.device.attrs {
			k := attrOf{p.slice.pool.driver, a.name}
			m := counts[k]
			if m == nil {
				m = map[uint32]int{}
				counts[k] = m
			}
			m[a.value]++
		}
	}
	out := map[string]offer{}
	for k, m := range counts {
		name := qualified(f.names.list[k.name], k.driver)
		o, ok := out[name]
		if !ok {
			o.counts = make(map[value]int, len(m))
		}
		for v, n := range m {
			o.counts[f.values.list[v]] += n
			o.total += n
		}
		out[name] = o
	}
	return out
}

// deviceSorts groups devices that look the same to a person.
type deviceSorts struct {
	w        *world
	distinct map[string]offer
	tells    map[attrOf]bool
	expr     *selector.Expression
	rows     map[string]*DeviceRow
	places   map[string]map[string]bool
	key      []byte
}

// telling reports whether an attribute describes a sort of device rather than
// one device, as a serial number does.
func (g *deviceSorts) telling(driver string, name uint32) bool {
	k := attrOf{driver, name}
	tells, known := g.tells[k]
	if !known {
		o := g.distinct[qualified(g.w.fleet.names.list[name], driver)]
		tells = len(o.counts) <= telltale && (len(o.counts) == 1 || len(o.counts) < o.total)
		g.tells[k] = tells
	}
	return tells
}

// count puts a device into its row.
func (g *deviceSorts) count(ctx context.Context, s *slice, d *device, out *Devices) {
	driver := s.pool.driver
	taints := g.taints(s, d)
	result := g.evaluate(ctx, s, d, out)
	key := append(append(append(g.key[:0], driver...), 0), result...)
	for _, t := range taints {
		key = append(append(key, 0), t...)
	}
	key = append(key, 0)
	if d.caps != nil {
		key = binary.AppendUvarint(key, uint64(d.caps.id)+1)
	}
	for _, a := range d.attrs {
		if g.telling(driver, a.name) {
			key = binary.AppendUvarint(binary.AppendUvarint(append(key, 1), uint64(a.name)), uint64(a.value))
		}
	}
	g.key = key
	r := g.rows[string(key)]
	if r == nil {
		r = g.row(s, d, taints, result)
		g.rows[string(key)], g.places[string(key)] = r, map[string]bool{}
	}
	r.Count++
	if places := g.places[string(key)]; !places[at(s, d)] {
		places[at(s, d)] = true
		r.Nodes++
	}
	hs := g.w.use.holds[idOf(s, d)]
	if len(hs) > 0 {
		r.InUse++
	}
	for _, h := range hs {
		if len(r.UsedBy) >= 4 {
			break
		}
		if who := h.claim.Namespace + "/" + h.claim.Name + consumers(h.claim); !slices.Contains(r.UsedBy, who) {
			r.UsedBy = append(r.UsedBy, who)
		}
	}
}

func (g *deviceSorts) row(s *slice, d *device, taints []string, result string) *DeviceRow {
	r := &DeviceRow{Driver: s.pool.driver, Example: idOf(s, d).String(), Attributes: map[string]string{}, Capacity: map[string]string{}, Taints: taints, UsedBy: []string{}, Result: result}
	for _, a := range d.attrs {
		if g.telling(s.pool.driver, a.name) {
			r.Attributes[g.w.fleet.names.list[a.name]] = g.w.fleet.values.list[a.value].text
		}
	}
	if d.caps != nil {
		for k, v := range d.caps.caps {
			r.Capacity[string(k)] = text64(v.Value)
		}
	}
	return r
}

func (g *deviceSorts) taints(s *slice, d *device) []string {
	out := []string{}
	for _, h := range d.taints() {
		out = append(out, taintText(h))
	}
	for _, rule := range g.w.rulesFor(s, d) {
		out = append(out, taintText(rule.Spec.Taint)+" by DeviceTaintRule "+rule.Name)
	}
	return out
}

// evaluate runs the caller's expression, where there is one, on a device.
func (g *deviceSorts) evaluate(ctx context.Context, s *slice, d *device, out *Devices) string {
	if g.expr == nil {
		return ""
	}
	multi := d.multi()
	ok, err := g.expr.Matches(ctx, cel.Device{Driver: s.pool.driver, AllowMultipleAllocations: &multi, Attributes: g.w.fleet.attributes(d), Capacity: d.capacities()})
	switch {
	case err != nil:
		out.Errors++
		return "error: " + quote(err.Error())
	case ok:
		out.Matched++
		return "true"
	}
	return "false"
}

// sorted gives the rows, those of most devices first.
func (g *deviceSorts) sorted() []DeviceRow {
	order := make(map[string]string, len(g.rows))
	for _, r := range g.rows {
		order[r.Example] = rowOrder(r)
	}
	out := make([]DeviceRow, 0, len(g.rows))
	for _, r := range g.rows {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b DeviceRow) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(order[a.Example], order[b.Example]), cmp.Compare(a.Example, b.Example))
	})
	return out
}

// rowOrder is what rows of equal size are sorted by.
func rowOrder(r *DeviceRow) string {
	var b strings.Builder
	b.WriteString(r.Driver + "|" + r.Result + "|" + strings.Join(r.Taints, ","))
	for _, m := range []map[string]string{r.Attributes, r.Capacity} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			b.WriteString("|" + k + "=" + m[k])
		}
	}
	return b.String()
}
