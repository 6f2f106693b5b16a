package dra

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"

	"github.com/gumshoe-ai/gumshoe/agent/graph"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// OverviewIn narrows the overview.
type OverviewIn struct {
	Driver string `json:"driver,omitempty"`
	Node   string `json:"node,omitempty"`
}

// Overview is the whole DRA inventory in figures.
type Overview struct {
	Drivers  []DriverSum    `json:"drivers"`
	Classes  []ClassSum     `json:"classes"`
	Nodes    []NodeSum      `json:"nodes" jsonschema:"nodes of equal figures grouped"`
	Pools    []PoolView     `json:"pools" jsonschema:"pools in disorder"`
	Holders  []HolderSum    `json:"holders" jsonschema:"claims that hold most devices"`
	Rules    []string       `json:"taint_rules"`
	Pending  int            `json:"claims_pending"`
	Claims   int            `json:"claims"`
	Version  string         `json:"api_version"`
	Features string         `json:"features"`
	Limits   []incident.Gap `json:"limits"`
}

// DriverSum counts one driver.
type DriverSum struct {
	Driver     string `json:"driver"`
	Pools      int    `json:"pools"`
	Incomplete int    `json:"pools_incomplete"`
	Nodes      int    `json:"nodes"`
	Counts
	Kinds []string `json:"kinds" jsonschema:"what the devices are, with counts"`
}

// Counts of devices.
type Counts struct {
	Total     int `json:"total"`
	Allocated int `json:"allocated"`
	Tainted   int `json:"tainted"`
	Free      int `json:"free"`
}

// ClassSum is one DeviceClass.
type ClassSum struct {
	Class    string `json:"class"`
	Devices  int    `json:"devices"`
	Extended string `json:"extended_resource,omitempty"`
	Problem  string `json:"problem,omitempty"`
}

// NodeSum counts the devices of one driver on nodes alike.
type NodeSum struct {
	Example string `json:"example"`
	Count   int    `json:"count"`
	Driver  string `json:"driver"`
	Counts
}

// HolderSum is a claim and how much it holds.
type HolderSum struct {
	Claim   string   `json:"claim"`
	Devices int      `json:"devices"`
	Pods    []string `json:"pods"`
}

func (t *Toolset) overviewTool() (tool.Tool, error) {
	return tool.New(tool.Info{Name: "dra_overview", Text: text("dra_overview"), Effect: tool.Read}, t.overview)
}

func (t *Toolset) overview(ctx context.Context, in OverviewIn) (tool.Output[Overview], error) {
	read := t.read.load
	if in.Node != "" {
		read = func(ctx context.Context) (*world, error) { return t.read.at(ctx, in.Node) }
	}
	w, err := read(ctx)
	if err != nil {
		return tool.Output[Overview]{}, err
	}
	if in.Node != "" && w.byName[in.Node] == nil {
		return tool.Output[Overview]{}, tool.Errorf(tool.NotFound, "node %s does not exist", in.Node)
	}
	out := Overview{Drivers: []DriverSum{}, Classes: []ClassSum{}, Nodes: []NodeSum{}, Pools: []PoolView{}, Holders: []HolderSum{}, Rules: []string{},
		Claims: len(w.claims), Version: w.api.version, Features: w.assume.String(), Limits: append([]incident.Gap{}, w.limits...)}
	t.countDrivers(w, in, &out)
	t.countClasses(ctx, w, &out)
	for _, r := range w.rules {
		out.Rules = append(out.Rules, fmt.Sprintf("%s: %s on %s", r.Name, taintText(r.Spec.Taint), ruleTarget(r)))
	}
	for _, c := range w.claims {
		if c.Status.Allocation == nil {
			out.Pending++
			continue
		}
		n := 0
		for _, d := range devicesOf(c) {
			if (in.Driver == "" || d.driver == in.Driver) && (in.Node == "" || d.pool == in.Node) {
				n++
			}
		}
		if n == 0 {
			continue
		}
		h := HolderSum{Claim: c.Namespace + "/" + c.Name, Devices: n, Pods: []string{}}
		for _, r := range c.Status.ReservedFor[:min(3, len(c.Status.ReservedFor))] {
			h.Pods = append(h.Pods, r.Name)
		}
		out.Holders = append(out.Holders, h)
	}
	slices.SortStableFunc(out.Holders, func(a, b HolderSum) int { return cmp.Compare(b.Devices, a.Devices) })
	out.Holders = out.Holders[:min(len(out.Holders), 15)]
	var fs []incident.Finding
	var es []incident.Edge
	lines := []string{overviewText(&out)}
	if in.Node != "" {
		fs, es = t.nodeFaults(w, w.byName[in.Node])
		if len(w.fleet.onNode[in.Node]) == 0 && hardware(w.byName[in.Node]) {
			fs = append(fs, t.unpublished(ctx, in.Node)...)
		}
		for _, f := range fs {
			lines = append(lines, fmt.Sprintf("finding %s: %s", f.Subject, f.Message))
		}
	}
	return tool.Output[Overview]{Data: out, Text: strings.Join(lines, "\n"), Findings: fs, Edges: es}, nil
}

// hardware reports whether a node says that it has an accelerator: by a label of
// feature discovery, or a vendor's own.
func hardware(n *corev1.Node) bool {
	for k := range n.Labels {
		if regexp.MustCompile(`(?i)gpu|accelerator|nvidia|amd\.com/|habana|neuron|tpu|pci-[0-9a-f_]*(?:10de|1002|1da3|1d0f)`).MatchString(k) {
			return true
		}
	}
	return false
}

// unpublished asks each driver that publishes elsewhere why it does not here.
func (t *Toolset) unpublished(ctx context.Context, node string) []incident.Finding {
	w, err := t.read.load(ctx)
	if err != nil {
		return nil
	}
	var fs []incident.Finding
	for _, d := range w.fleet.drivers() {
		out, err := t.driver(ctx, DriverIn{Driver: d, Node: node})
		if err != nil {
			continue
		}
		for _, f := range out.Findings {
			if f.Subject == t.nodeRef(node) && (f.Code == "dra.node_no_slices" || f.Code == "dra.plugin_down") {
				fs = append(fs, f)
			}
		}
	}
	return fs
}

// nodeFaults judges what one node offers: sold twice, or in a pool in disorder.
func (t *Toolset) nodeFaults(w *world, n *corev1.Node) ([]incident.Finding, []incident.Edge) {
	only := *w
	only.nodes = []*corev1.Node{n}
	fs := t.soldTwice(&only)
	var es []incident.Edge
	seen := map[*pool]bool{}
	for _, s := range w.fleet.onNode[n.Name] {
		p := s.pool
		if seen[p] || p.complete() && p.invalid == "" || slices.ContainsFunc(p.slices, func(s *slice) bool { return t.settling(s.created) }) {
			continue
		}
		seen[p] = true
		ref := t.poolRef(p.driver, p.name)
		es = append(es, incident.Edge{From: t.nodeRef(n.Name), Relation: graph.OfferedBy, To: ref})
		if p.local && !p.complete() {
			fs = append(fs, finding("dra.pool_incomplete", ref, 0.6, map[string]string{"driver": p.driver, "pool": p.name, "have": itoa(len(p.slices)), "want": itoa(p.want)},
				"pool %s of driver %s has %d of %d slices", p.name, p.driver, len(p.slices), p.want))
		} else if p.invalid != "" {
			fs = append(fs, finding("dra.pool_invalid", ref, 0.6, map[string]string{"driver": p.driver, "pool": p.name, "message": p.invalid}, "pool %s of driver %s is refused as a whole: %s", p.name, p.driver, p.invalid))
		}
	}
	return fs, es
}

func (t *Toolset) countDrivers(w *world, in OverviewIn, out *Overview) {
	sums := map[string]*DriverSum{}
	kinds := map[string]map[string]int{}
	nodes := map[string]map[string]*Counts{}
	for _, p := range w.fleet.pools {
		if in.Driver != "" && p.driver != in.Driver {
			continue
		}
		d := sums[p.driver]
		if d == nil {
			d = &DriverSum{Driver: p.driver, Kinds: []string{}}
			sums[p.driver], kinds[p.driver], nodes[p.driver] = d, map[string]int{}, map[string]*Counts{}
		}
		d.Pools++
		if !p.complete() || p.invalid != "" || len(p.stale) > 0 {
			if !p.complete() {
				d.Incomplete++
			}
			if len(out.Pools) < 20 {
				out.Pools = append(out.Pools, PoolView{Driver: p.driver, Pool: p.name, Generation: p.generation, Have: len(p.slices), Want: p.want, Stale: len(p.stale), Invalid: p.invalid})
			}
		}
		for _, s := range p.slices {
			for i := range s.devices {
				t.countDevice(w, in, s, &s.devices[i], d, kinds[p.driver], nodes[p.driver])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		d := sums[name]
		d.Nodes = len(nodes[name])
		for _, k := range slices.Sorted(maps.Keys(kinds[name])) {
			d.Kinds = append(d.Kinds, fmt.Sprintf("%d %s", kinds[name][k], k))
		}
		d.Kinds = d.Kinds[:min(len(d.Kinds), 8)]
		out.Drivers = append(out.Drivers, *d)
		out.Nodes = append(out.Nodes, alikeNodes(name, nodes[name])...)
	}
}

func (t *Toolset) countDevice(w *world, in OverviewIn, s *slice, d *device, sum *DriverSum, kinds map[string]int, nodes map[string]*Counts) {
	place := at(s, d)
	if in.Node != "" && place != in.Node {
		return
	}
	label, _ := describe(w.fleet, nil, s, d)
	kinds[cmp.Or(label, "devices")]++
	if place == "" {
		place = "(many nodes)"
	}
	c := nodes[place]
	if c == nil {
		c = &Counts{}
		nodes[place] = c
	}
	used := len(w.use.taken(idOf(s, d), nil)) > 0
	tainted := len((&want{}).tainted(w, s, d)) > 0
	for _, x := range []*Counts{c, &sum.Counts} {
		x.Total++
		switch {
		case used:
			x.Allocated++
		case tainted:
		case s.pool.complete() && s.pool.invalid == "":
			x.Free++
		}
		if tainted {
			x.Tainted++
		}
	}
}

func alikeNodes(driver string, nodes map[string]*Counts) []NodeSum {
	by := map[Counts]*NodeSum{}
	var out []*NodeSum
	for _, n := range slices.Sorted(maps.Keys(nodes)) {
		s := by[*nodes[n]]
		if s == nil {
			s = &NodeSum{Example: n, Driver: driver, Counts: *nodes[n]}
			by[*nodes[n]] = s
			out = append(out, s)
		}
		s.Count++
	}
	slices.SortStableFunc(out, func(a, b *NodeSum) int { return cmp.Compare(b.Count, a.Count) })
	var flat []NodeSum
	for _, s := range out[:min(len(out), 25)] {
		flat = append(flat, *s)
	}
	return flat
}

func (t *Toolset) countClasses(ctx context.Context, w *world, out *Overview) {
	a := newAttempt(w, nil, nil)
	for _, name := range slices.Sorted(maps.Keys(w.classes)) {
		c := ClassSum{Class: name}
		x := &want{className: name}
		x.compile(w, a.comp)
		for _, p := range w.fleet.pools {
			for _, s := range p.slices {
				for i := range s.devices {
					j := x.judge(ctx, w.fleet, s, &s.devices[i])
					if j.ofClass {
						c.Devices++
					}
					if j.err != "" && c.Problem == "" {
						c.Problem = fmt.Sprintf("selector %d fails on %s: %s", j.errAt, idOf(s, &s.devices[i]), quote(j.err))
					}
				}
			}
		}
		if e := w.classes[name].Spec.ExtendedResourceName; e != nil {
			c.Extended = *e
		}
		out.Classes = append(out.Classes, c)
	}
}

func ruleTarget(r *resourceapi.DeviceTaintRule) string {
	s := r.Spec.DeviceSelector
	switch {
	case s == nil:
		return "no device"
	case matchesAll(r):
		return "every device of the cluster"
	}
	var parts []string
	for _, p := range []struct {
		k string
		v *string
	}{{"driver", s.Driver}, {"pool", s.Pool}, {"device", s.Device}} {
		if p.v != nil {
			parts = append(parts, p.k+" "+*p.v)
		}
	}
	return strings.Join(parts, ", ")
}

func overviewText(o *Overview) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %s (%d pending); resource.k8s.io/%s\n", plural(len(o.Drivers), "driver"), strings.Replace(plural(len(o.Classes), "class"), "classs", "classes", 1), plural(o.Claims, "claim"), o.Pending, o.Version)
	for _, d := range o.Drivers {
		fmt.Fprintf(&b, "driver %s: %s on %s, %d allocated, %d free, %d tainted; %s", d.Driver, plural(d.Total, "device"), plural(d.Nodes, "node"), d.Allocated, d.Free, d.Tainted, plural(d.Pools, "pool"))
		if d.Incomplete > 0 {
			fmt.Fprintf(&b, ", %d incomplete", d.Incomplete)
		}
		fmt.Fprintf(&b, "%s\n", prefixed("; ", strings.Join(d.Kinds, ", ")))
	}
	for _, c := range o.Classes {
		fmt.Fprintf(&b, "class %s: %s%s%s\n", c.Class, plural(c.Devices, "device"), prefixed(", extended resource ", c.Extended), prefixed("; ", c.Problem))
	}
	for _, n := range o.Nodes {
		fmt.Fprintf(&b, "node %s%s, %s: %d devices, %d allocated, %d free, %d tainted\n", n.Example, others(n.Count), n.Driver, n.Total, n.Allocated, n.Free, n.Tainted)
	}
	for _, p := range o.Pools {
		fmt.Fprintf(&b, "pool %s/%s: generation %d, %d of %d slices%s%s\n", p.Driver, p.Pool, p.Generation, p.Have, p.Want, staleText(p.Stale), prefixed(", invalid: ", p.Invalid))
	}
	for _, r := range o.Rules {
		fmt.Fprintf(&b, "taint rule %s\n", r)
	}
	for _, h := range o.Holders {
		fmt.Fprintf(&b, "held by %s: %s%s\n", h.Claim, plural(h.Devices, "device"), prefixed(", pods ", strings.Join(h.Pods, ", ")))
	}
	for _, l := range o.Limits {
		fmt.Fprintf(&b, "not seen: %s: %s\n", l.Source, l.Why)
	}
	fmt.Fprintf(&b, "assumed: %s", o.Features)
	return b.String()
}
