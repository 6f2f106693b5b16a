package dra

import (
	"context"
	"fmt"
	"slices"
	"strings"

	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
)

// useFaults reports that what matches is in use, in the shape that decides:
// counters, capacity, a busy device in All mode, or plainly no free device.
func (n *analysis) useFaults(ctx context.Context, confidence float64) {
	defer n.freeable(ctx)
	if g := n.a.where(ctx, ignoreCounters()); g.ok() {
		n.counterfactual("ignore shared counters", g)
		n.countersFault(confidence)
		return
	}
	for _, x := range n.a.wants {
		t := n.tables[x]
		if x.all {
			n.allBusy(x, confidence)
			return
		}
		if t.totals.InUse == 0 && t.totals.Short > 0 && x.capacity != nil {
			n.capacityFault(ctx, x, false)
			return
		}
	}
	reported := false
	for _, x := range n.a.wants {
		t := n.tables[x]
		if t.totals.InUse == 0 || len(n.a.wants) > 1 && t.largestFree >= int(x.count) && n.otherShort(x) {
			continue
		}
		reported = true
		n.inUse(x, t, confidence)
	}
	if !reported && len(n.a.wants) > 0 {
		n.inUse(n.a.wants[0], n.tables[n.a.wants[0]], confidence-0.2)
	}
	for _, x := range n.a.wants {
		if t := n.tables[x]; t.totals.InUse > 0 && n.missingNodes(ctx, x) {
			break
		}
	}
}

// otherShort says whether some other request is the scarcer one.
func (n *analysis) otherShort(x *want) bool {
	return slices.ContainsFunc(n.a.wants, func(y *want) bool {
		return y != x && n.tables[y].totals.InUse > 0 && n.tables[y].largestFree < int(y.count)
	})
}

func (n *analysis) inUse(x *want, t *table, confidence float64) {
	var names []string
	for _, h := range n.holders() {
		if c := t.holders[h.Namespace+"/"+h.Name]; c > 0 && len(names) < 5 {
			names = append(names, fmt.Sprintf("%s (%d%s)", h.Namespace+"/"+h.Name, c, consumers(h)))
			n.edge(n.subject(x.claim), graph.HeldBy, n.t.claimRef(h.Namespace, h.Name))
		}
	}
	more := ""
	if len(t.holders) > len(names) {
		more = fmt.Sprintf(" and %d more claims", len(t.holders)-len(names))
	}
	msg := fmt.Sprintf("%d of the %d devices that match request %s are allocated to %s", t.totals.InUse, t.totals.AfterSelectors, x.name, strings.Join(names, ", ")+more)
	if t.totals.Free > 0 {
		msg += fmt.Sprintf("; %d are free, at most %d on one node, %d are wanted", t.totals.Free, t.largestFree, x.count)
	}
	n.fault("dra.devices_in_use", n.subject(x.claim), confidence,
		map[string]string{"matching": itoa(t.totals.AfterSelectors), "in_use": itoa(t.totals.InUse), "free": itoa(t.totals.Free), "holders": strings.Join(names, ", ") + more, "request": x.name, "count": itoa(x.count)}, "%s", msg)
}

// consumers names who uses a claim: ", pod x".
func consumers(c *resourceapi.ResourceClaim) string {
	if len(c.Status.ReservedFor) == 0 {
		return ""
	}
	text := ", " + strings.TrimSuffix(c.Status.ReservedFor[0].Resource, "s") + " " + c.Status.ReservedFor[0].Name
	if more := len(c.Status.ReservedFor) - 1; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// maxFreeable bounds how many holders are tried one by one.
const maxFreeable = 12

// freeable finds one holder whose end would make room: one that has a device
// that is wanted, or one that uses up what the devices of a pool share. The
// scheduler never preempts for devices, so this is advice.
func (n *analysis) freeable(ctx context.Context) {
	holders := n.holders()
	wanted := map[*pool]bool{}
	for _, c := range n.a.w.claims {
		if len(holders) >= maxFreeable {
			break
		}
		if n.a.without[c.UID] || slices.Contains(holders, c) {
			continue
		}
		for _, d := range devicesOf(c) {
			p := n.a.w.fleet.poolOf[poolID{d.driver, d.pool}]
			if p == nil {
				continue
			}
			yes, known := wanted[p]
			if !known {
				yes = n.wanted(p)
				wanted[p] = yes
			}
			if yes {
				holders = append(holders, c)
				break
			}
		}
	}
	for i, h := range holders {
		if i >= maxFreeable {
			return
		}
		if n.own(h) {
			continue
		}
		name := h.Namespace + "/" + h.Name
		got := n.a.freed(func(c *resourceapi.ResourceClaim) bool {
			return c.UID == h.UID && c.Name == h.Name && c.Namespace == h.Namespace
		}).where(ctx)
		if got.cures() {
			n.out.WouldFit = append(n.out.WouldFit, WouldFit{Change: "claim " + name + " released" + strings.Replace(consumers(h), ", ", " by ", 1), Nodes: got.nodes, Node: got.example, Advice: true})
			return
		}
	}
}

// own says whether a claim is one of the pod's own: it is needed, not in the way.
func (n *analysis) own(c *resourceapi.ResourceClaim) bool {
	return slices.ContainsFunc(n.a.pinned, func(p *resourceapi.ResourceClaim) bool {
		return p.Namespace == c.Namespace && p.Name == c.Name
	})
}

func (n *analysis) allBusy(x *want, confidence float64) {
	t := n.tables[x]
	var blocking []string
	for _, h := range n.holders()[:min(3, len(n.holders()))] {
		blocking = append(blocking, h.Namespace+"/"+h.Name)
		n.edge(n.subject(x.claim), graph.HeldBy, n.t.claimRef(h.Namespace, h.Name))
	}
	n.fault("dra.all_mode_busy", n.subject(x.claim), confidence, map[string]string{"blocking": strings.Join(blocking, ", "), "request": x.name, "in_use": itoa(t.totals.InUse)},
		"request %s has allocationMode All, and %s that match are held by %s: All fits only where every matching device is free", x.name, plural(t.totals.InUse, "device"), strings.Join(blocking, ", "))
}

// countersFault names the counter that is spent (F20).
func (n *analysis) countersFault(confidence float64) {
	left := newCounters(n.a)
	for _, x := range n.a.wants {
		for _, p := range n.a.w.fleet.pools {
			for _, s := range p.slices {
				for i := range s.devices {
					d := &s.devices[i]
					if !x.judge(context.Background(), n.a.w.fleet, s, d).matchesIt {
						continue
					}
					short := left.shortages(p, d)
					if len(short) == 0 || len(n.a.w.use.taken(idOf(s, d), n.a.without)) > 0 {
						continue
					}
					sh := short[0]
					n.fault("dra.counters_exhausted", n.subject(x.claim), confidence,
						map[string]string{"counter_set": sh.set, "counter": sh.counter, "needed": sh.needed.String(), "left": sh.left.String(), "request": x.name, "pool": p.String(), "device": idOf(s, d).String()},
						"no partition for request %s can be made: %s needs %s of counter %s in set %s, %s is left", x.name, idOf(s, d), sh.needed.String(), sh.counter, sh.set, sh.left.String())
					for _, h := range n.poolHolders(p) {
						n.edge(n.subject(x.claim), graph.HeldBy, n.t.claimRef(h.Namespace, h.Name))
					}
					return
				}
			}
		}
	}
	if len(n.a.wants) > 0 {
		x := n.a.wants[0]
		n.fault("dra.counters_exhausted", n.subject(x.claim), confidence-0.1, map[string]string{"request": x.name},
			"the shared counters of the partitions do not suffice for all devices of request %s together", x.name)
	}
}

// poolHolders lists claims that hold devices of a pool, five at most.
func (n *analysis) poolHolders(p *pool) []*resourceapi.ResourceClaim {
	var out []*resourceapi.ResourceClaim
	for _, c := range n.a.w.claims {
		if len(out) < 5 && !n.a.without[c.UID] && slices.ContainsFunc(devicesOf(c), func(d devID) bool { return d.driver == p.driver && d.pool == p.name }) {
			out = append(out, c)
		}
	}
	return out
}
