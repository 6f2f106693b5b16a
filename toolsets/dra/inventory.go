package dra

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// NodeDevices counts devices of one kind that have memory of their own, on one
// node: GPUs, as a placement wants them.
type NodeDevices struct {
	Node   string
	Driver string
	// Product is what the driver calls the device, empty if it says nothing.
	Product string
	// Bytes of memory of one device, as the driver publishes its capacity.
	Bytes int64
	// Total devices and those that are neither allocated nor tainted, of complete
	// pools. MIG partitions are left out: engines cannot join several.
	Total, Free int
	// Object is the node itself, shared and never written to; nil if it is gone.
	Object *corev1.Node
}

// Inventory counts the devices with memory per node, driver, product and size. A
// whole device of which a partition is allocated is not free. Errors are those
// of the lists, told as tool.Errors; tool.NotServed where there is no DRA.
func (t *Toolset) Inventory(ctx context.Context) ([]NodeDevices, error) {
	w, err := t.read.load(ctx)
	if err != nil {
		return nil, err
	}
	type key struct {
		node, driver, product string
		bytes                 int64
	}
	sums := map[key]*NodeDevices{}
	for _, p := range w.fleet.pools {
		broken := cutSets(w, p)
		for _, s := range p.slices {
			for i := range s.devices {
				d := &s.devices[i]
				memory, ok := capacityOf(s, d, p.driver+"/memory")
				node := at(s, d)
				if kind, is := w.fleet.attr(s, d, p.driver+"/type"); !ok || node == "" || is && kind.text == "mig" {
					continue
				}
				k := key{node, p.driver, labelOf(w.fleet, s, d), memory.Value()}
				n := sums[k]
				if n == nil {
					n = &NodeDevices{Node: k.node, Driver: k.driver, Product: k.product, Bytes: k.bytes, Object: w.byName[k.node]}
					sums[k] = n
				}
				n.Total++
				if p.complete() && p.invalid == "" && len(w.use.taken(idOf(s, d), nil)) == 0 && len((&want{}).tainted(w, s, d)) == 0 && !drawsOn(d, broken) {
					n.Free++
				}
			}
		}
	}
	out := make([]NodeDevices, 0, len(sums))
	for _, n := range sums {
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b NodeDevices) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Driver, b.Driver), cmp.Compare(a.Product, b.Product), cmp.Compare(a.Bytes, b.Bytes))
	})
	return out, nil
}

// cutSets are the counter sets of a pool from which an allocated device draws.
func cutSets(w *world, p *pool) map[string]bool {
	out := map[string]bool{}
	for _, s := range p.slices {
		for i := range s.devices {
			d := &s.devices[i]
			if d.rest == nil || len(w.use.taken(idOf(s, d), nil)) == 0 {
				continue
			}
			for _, c := range d.rest.ConsumesCounters {
				out[c.CounterSet] = true
			}
		}
	}
	return out
}

// drawsOn reports whether a device needs counters that another holds.
func drawsOn(d *device, sets map[string]bool) bool {
	if d.rest == nil {
		return false
	}
	for _, c := range d.rest.ConsumesCounters {
		if sets[c.CounterSet] {
			return true
		}
	}
	return false
}
