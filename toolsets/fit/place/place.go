// Package place finds where a model can run: on the free devices of a cluster,
// and on machine types of clouds, cheapest first. It is pure.
package place

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/toolsets/fit/estimate"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/hardware"
)

// Node is a machine of a cluster with GPUs of one kind, as its inventory says.
type Node struct {
	Name string `json:"name"`
	// Product is the GPU's name as reported.
	Product string `json:"product"`
	// MiB of one GPU as reported; 0 if nothing says it. It beats any table, and is
	// right for a MIG slice.
	MiB int `json:"mib,omitempty"`
	// Total GPUs and those that nobody holds.
	Total int `json:"total"`
	Free  int `json:"free"`
	// SKU is the machine type, Region where it stands; empty if not labelled.
	SKU    string `json:"sku,omitempty"`
	Region string `json:"region,omitempty"`
	Spot   bool   `json:"spot,omitempty"`
	// Barred says why new pods may not come here; empty if they may.
	Barred string `json:"barred,omitempty"`
	// Source of the figures: a DRA driver, or the node's own capacity.
	Source string `json:"source"`
}

// Query is what is to be placed. Input.GPU and Input.Available are set for each
// place that is tried.
type Query struct {
	Input estimate.Input
	// Fixed keeps the engine's parallel sizes; otherwise the smallest
	// tensor-parallel size that fits is taken.
	Fixed bool
	// TokensPerSecond is the throughput given or measured; 0 means not known.
	TokensPerSecond float64
}

// Candidate is one place.
type Candidate struct {
	// Where is "node gpu-1 and 3 like it" or "aws p5.48xlarge, us-east-1".
	Where string `json:"where"`
	GPU   string `json:"gpu"`
	// GPUs that are used of Of a machine, on so many Machines.
	GPUs     int `json:"gpus"`
	Of       int `json:"of"`
	Machines int `json:"machines"`
	TP       int `json:"tensor_parallel"`
	PP       int `json:"pipeline_parallel"`
	// Verdict, Margin and capacity as in estimate.Result, with most overhead.
	Verdict     estimate.Verdict `json:"verdict"`
	Margin      int64            `json:"margin"`
	MaxContext  int              `json:"max_context"`
	Concurrency float64          `json:"concurrency"`
	// Cost is nil where no price is known.
	Cost        *estimate.Cost `json:"cost,omitempty"`
	PriceSource string         `json:"price_source,omitempty"`
	PriceDate   string         `json:"price_date,omitempty"`
	Note        string         `json:"note,omitempty"`

	bytes int64
}

// Answer is the places that were found, and why others are none.
type Answer struct {
	Candidates []Candidate `json:"candidates"`
	// Refused says, in words, what else was looked at.
	Refused []string `json:"refused"`
}

// sizes are the tensor-parallel sizes to try on a machine with n GPUs.
func (q Query) sizes(n int) []int {
	if q.Fixed {
		return []int{q.Input.Engine.Tensor()}
	}
	var out []int
	for tp := 1; tp <= n && tp <= 16; tp *= 2 {
		out = append(out, tp)
	}
	return out
}

// on tries a machine with n usable GPUs of a kind, of which there are machines.
// The result is the smallest use that fits, else the smallest that is tight.
func (q Query) on(g estimate.GPU, n, machines int) (Candidate, string, bool) {
	var tight *Candidate
	why := ""
	for _, tp := range q.sizes(n) {
		in := q.Input
		in.GPU, in.Engine.TP, in.Available = g, tp, 0
		if !q.Fixed {
			in.Engine.PP, in.Engine.DP = 0, 0
		}
		need := in.Engine.GPUs()
		used := (need + n - 1) / n
		if used > 1 && in.Engine.Pipe() == 1 && in.Engine.Data() == 1 || tp > n {
			why = fmt.Sprintf("tensor parallel %d needs as many GPUs on one node, %d are there", tp, n)
			continue
		}
		if used > 1 {
			// A pipeline stage or data-parallel rank stays on one machine.
			perMachine := n / tp
			used = (need/tp + perMachine - 1) / perMachine
		}
		if machines > 0 && used > machines {
			why = fmt.Sprintf("%d GPUs need %d machines with %d free each, %d are there", need, used, n, machines)
			continue
		}
		r, err := estimate.Evaluate(in)
		if err != nil {
			return Candidate{}, err.Error(), false
		}
		why = r.Limit
		if r.Verdict == estimate.No {
			continue
		}
		c := Candidate{
			GPU: g.Name, GPUs: need, Machines: used, TP: tp, PP: in.Engine.Pipe(), Verdict: r.Verdict, Margin: r.Margin, bytes: g.Bytes * int64(need),
			MaxContext: r.Capacity.High.MaxContext, Concurrency: r.Capacity.High.Concurrency,
		}
		if r.Verdict == estimate.Tight {
			c.MaxContext, c.Concurrency = r.Capacity.Mid.MaxContext, r.Capacity.Mid.Concurrency
		}
		for _, p := range r.Problems {
			c.Note = strings.TrimPrefix(c.Note+"; "+p.Text+prefixed(": ", p.Fix), "; ")
		}
		if r.Verdict == estimate.Fits {
			return c, "", true
		}
		if tight == nil {
			tight = &c
		}
	}
	if tight != nil {
		return *tight, "", true
	}
	return Candidate{}, why, false
}

func prefixed(p, s string) string {
	if s == "" {
		return ""
	}
	return p + s
}

// order sorts: what fits before what is tight, priced before unpriced, cheap
// before dear, and the least memory where prices say nothing.
func order(cs []Candidate, price func(estimate.Cost) float64) {
	slices.SortStableFunc(cs, func(a, b Candidate) int {
		switch {
		case a.Verdict != b.Verdict:
			if a.Verdict.Better(b.Verdict) {
				return -1
			}
			return 1
		case (a.Cost == nil) != (b.Cost == nil):
			if a.Cost != nil {
				return -1
			}
			return 1
		case a.Cost != nil && price(*a.Cost) != price(*b.Cost):
			return cmp.Compare(price(*a.Cost), price(*b.Cost))
		}
		return cmp.Or(cmp.Compare(a.bytes, b.bytes), cmp.Compare(a.GPUs, b.GPUs), cmp.Compare(a.Where, b.Where))
	})
}

// OnClouds places on machine types.
func OnClouds(q Query, t hardware.Table, skus []hardware.SKU) Answer {
	a := Answer{Candidates: []Candidate{}, Refused: []string{}}
	for _, s := range skus {
		m, err := t.Find(s.GPU)
		if err != nil {
			continue
		}
		c, _, ok := q.on(estimate.GPU{Name: m.Name, Bytes: m.Bytes(), Capability: m.Capability}, s.Count, 0)
		if !ok {
			continue
		}
		c.Where, c.Of = strings.TrimSuffix(s.Provider+" "+s.SKU+", "+s.Region, ", "), s.Count
		c.price(q, s)
		if m.Vendor == "amd" {
			c.Note = strings.TrimPrefix(c.Note+"; an AMD GPU: the image must be built for ROCm", "; ")
		}
		a.Candidates = append(a.Candidates, c)
	}
	order(a.Candidates, func(c estimate.Cost) float64 { return c.Hour })
	if len(a.Candidates) == 0 {
		a.Refused = append(a.Refused, "no machine type of the table holds it on one machine with at most 16 GPUs")
	}
	return a
}

// price fills in what a machine costs; without a price it stays unpriced.
func (c *Candidate) price(q Query, s hardware.SKU) {
	if s.USD <= 0 {
		return
	}
	cost := estimate.CostOf(s.USD, c.Machines, c.GPUs, s.Count, q.TokensPerSecond)
	c.Cost, c.PriceSource, c.PriceDate = &cost, s.Source, s.Date
}

// shape is what makes nodes alike for placement.
type shape struct {
	product, sku, region string
	mib, total, free     int
	spot                 bool
}

// OnCluster places on the free devices of a cluster. A pod's GPUs are on one
// node, so the largest free number of a node counts and not the sum.
func OnCluster(q Query, t hardware.Table, skus []hardware.SKU, nodes []Node) Answer {
	a := Answer{Candidates: []Candidate{}, Refused: []string{}}
	alike := map[shape][]Node{}
	var shapes []shape
	free, most := 0, 0
	for _, n := range nodes {
		if n.Barred != "" {
			if n.Free > 0 {
				a.refuse("node %s: %s (%d free GPUs)", n.Name, n.Barred, n.Free)
			}
			continue
		}
		if n.Free < 1 {
			continue
		}
		free, most = free+n.Free, max(most, n.Free)
		s := shape{n.Product, n.SKU, n.Region, n.MiB, n.Total, n.Free, n.Spot}
		if alike[s] == nil {
			shapes = append(shapes, s)
		}
		alike[s] = append(alike[s], n)
	}
	for _, s := range shapes {
		some := alike[s]
		name := "node " + some[0].Name
		if len(some) > 1 {
			name = fmt.Sprintf("node %s and %d like it", some[0].Name, len(some)-1)
		}
		g, n, note, why := device(t, skus, s)
		if why != "" {
			a.refuse("%s: %s", name, why)
			continue
		}
		c, why, ok := q.on(g, n, len(some))
		if !ok {
			a.refuse("%s, %d free of %d %s: %s", name, s.free, s.total, g.Name, why)
			continue
		}
		c.Where, c.Of, c.Note = name, s.total, strings.TrimPrefix(c.Note+prefixed("; ", note), "; ")
		if s.spot {
			c.Note = strings.TrimPrefix(c.Note+"; a spot machine: the on-demand price is shown", "; ")
		}
		if k := priced(skus, s); k >= 0 {
			c.price(q, skus[k])
			if c.Cost != nil && s.region != "" && skus[k].Region != "" && s.region != skus[k].Region {
				c.Note = strings.TrimPrefix(c.Note+"; the price is that of "+skus[k].Region, "; ")
			}
		}
		a.Candidates = append(a.Candidates, c)
	}
	order(a.Candidates, func(c estimate.Cost) float64 { return c.Attributed })
	if free == 0 {
		a.refuse("no node has a free GPU")
	} else if len(a.Candidates) == 0 {
		a.refuse("%d GPUs are free in all, at most %d on one node", free, most)
	}
	return a
}

func (a *Answer) refuse(format string, args ...any) {
	a.Refused = append(a.Refused, fmt.Sprintf(format, args...))
}

// device makes a GPU of what a node reports; n is how many of them one instance
// may take together.
func device(t hardware.Table, skus []hardware.SKU, s shape) (g estimate.GPU, n int, note, why string) {
	m, err := t.Find(s.product)
	mib := s.mib
	if err != nil && mib == 0 {
		if k := slices.IndexFunc(skus, func(k hardware.SKU) bool { return s.sku != "" && strings.EqualFold(k.SKU, s.sku) }); k >= 0 {
			// The machine type says which GPUs it has.
			m, err = t.Find(skus[k].GPU)
			s.product = cmp.Or(s.product, skus[k].GPU)
		}
	}
	switch {
	case err != nil && mib == 0:
		return g, 0, "", "the memory of " + cmp.Or(s.product, "its GPUs") + " is not known: neither the node nor the table says it"
	case m.Shared:
		return g, 0, "", s.product + " is shared: every user of it takes from the same memory"
	case m.MIG != "" && mib == 0:
		return g, 0, "", "the memory of the slice " + s.product + " is not reported"
	case mib == 0:
		mib, note = m.MiB, "memory from the table, the node does not report it"
	}
	g = estimate.GPU{Name: s.product, Bytes: int64(mib) << 20, Capability: m.Capability}
	n = s.free
	if m.MIG != "" {
		n, note = 1, "a MIG slice: engines cannot join several"
	}
	return g, n, note, ""
}

// priced finds the price of a node's machine type: its own region's, else any.
func priced(skus []hardware.SKU, s shape) int {
	found := -1
	for i, k := range skus {
		if s.sku == "" || !strings.EqualFold(k.SKU, s.sku) || k.USD <= 0 {
			continue
		}
		if k.Region == s.region {
			return i
		}
		if found < 0 {
			found = i
		}
	}
	return found
}
