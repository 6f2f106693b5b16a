package fit

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/toolsets/fit/place"
)

// PlacementIn asks where a model can run.
type PlacementIn struct {
	Asked
	TokensPerSecond float64 `json:"tokens_per_second,omitempty" jsonschema:"measured output, for the cost of a million tokens"`
}

// Placement is the answer: places on this cluster and on clouds, cheapest first.
type Placement struct {
	Model   string `json:"model"`
	Context int    `json:"context"`
	// Cluster is empty, with the reason under Missing, where it could not be seen.
	Cluster place.Answer   `json:"cluster"`
	Clouds  place.Answer   `json:"clouds"`
	Missing []incident.Gap `json:"missing"`
	// ThroughputKnown says that a cost of a million tokens can be given.
	ThroughputKnown bool `json:"throughput_known"`
}

// Stock is the GPUs of a cluster, and what of them could not be seen.
type Stock struct {
	Nodes []place.Node
	Gaps  []incident.Gap
}

// mostPlaces is how many places of each sort are kept.
const mostPlaces = 8

// Place finds places on clouds, and on a cluster's stock where there is one.
func (d *Desk) Place(in PlacementIn, stock *Stock) (Placement, error) {
	if math.IsNaN(in.TokensPerSecond) || in.TokensPerSecond < 0 || in.TokensPerSecond > 1e9 {
		return Placement{}, tool.Errorf(tool.Invalid, "%v tokens a second: a positive number is expected", in.TokensPerSecond)
	}
	q, err := d.read(in.Asked)
	if err != nil {
		return Placement{}, err
	}
	out := Placement{
		Model: q.input.Model.Name, Context: q.input.Context, Missing: []incident.Gap{}, ThroughputKnown: in.TokensPerSecond > 0,
		Cluster: place.Answer{Candidates: []place.Candidate{}, Refused: []string{}},
		Clouds:  place.OnClouds(q.query(in.TokensPerSecond), d.gpus, d.skus),
	}
	if stock != nil {
		out.Cluster = place.OnCluster(q.query(in.TokensPerSecond), d.gpus, d.skus, stock.Nodes)
		out.Missing = append(out.Missing, stock.Gaps...)
	}
	for _, a := range []*place.Answer{&out.Cluster, &out.Clouds} {
		a.Candidates = a.Candidates[:min(len(a.Candidates), mostPlaces)]
		if n := len(a.Refused); n > mostPlaces {
			// The last sentence sums up.
			a.Refused = append(a.Refused[:mostPlaces-1:mostPlaces-1], fmt.Sprintf("%d more are refused likewise", n-mostPlaces), a.Refused[n-1])
		}
	}
	return out, nil
}

// Text writes the answer; rows is how many places of each sort are shown.
func (p Placement) Text(rows int) string {
	var b strings.Builder
	show := func(title string, a place.Answer) {
		for i, c := range a.Candidates[:min(rows, len(a.Candidates))] {
			label := ""
			if i == 0 {
				label = title
			}
			fmt.Fprintf(&b, "%-9s %s\n", label, placeLine(c, p.ThroughputKnown))
		}
		if len(a.Candidates) == 0 || title == "Cluster" {
			for _, r := range a.Refused {
				fmt.Fprintf(&b, "%-9s %s\n", "Not", r)
			}
		}
	}
	show("Cluster", p.Cluster)
	show("Clouds", p.Clouds)
	for _, g := range p.Missing {
		fmt.Fprintf(&b, "%-9s %s: %s\n", "Not seen", g.Source, g.Why)
	}
	return strings.TrimRight(b.String(), "\n")
}

// placeLine writes one place on one line; a price never comes without its date.
func placeLine(c place.Candidate, throughput bool) string {
	s := fmt.Sprintf("%s: %d of %d %s", c.Where, c.GPUs, c.Of*c.Machines, c.GPU)
	if c.Machines > 1 {
		s += fmt.Sprintf(" on %d machines", c.Machines)
	}
	s += fmt.Sprintf(", %s, context up to %d, %.2f sequences at once", c.Verdict, c.MaxContext, c.Concurrency)
	if c.Cost == nil {
		return s + ", price not known" + note(c.Note)
	}
	s += fmt.Sprintf(", %.2f USD an hour", c.Cost.Hour)
	if c.Cost.Attributed < c.Cost.Hour {
		s += fmt.Sprintf(" (%.2f for the GPUs used)", c.Cost.Attributed)
	}
	if throughput {
		s += fmt.Sprintf(", %.2f USD a million tokens", c.Cost.PerMillion)
	} else {
		s += ", cost of a million tokens not known (no throughput)"
	}
	return s + fmt.Sprintf(" [%s, %s]", c.PriceSource, c.PriceDate) + note(c.Note)
}

// placementTool answers fit_placement.
func (t *Toolset) placementTool() (tool.Tool, error) {
	return read("fit_placement", func(ctx context.Context, in PlacementIn) (tool.Output[Placement], error) {
		var stock *Stock
		var missing []incident.Gap
		if t.inventory == nil {
			missing = append(missing, incident.Gap{Source: "the cluster's free GPUs", Why: "no inventory is configured"})
		} else if s, err := t.inventory.GPUs(ctx); err != nil {
			missing = append(missing, incident.Gap{Source: "the cluster's free GPUs", Why: tool.UserText(err)})
		} else {
			stock = &s
		}
		p, err := t.desk.Place(in, stock)
		if err != nil {
			return tool.Output[Placement]{}, err
		}
		p.Missing = append(p.Missing, missing...)
		head := fmt.Sprintf("%s, context %d tokens", p.Model, p.Context)
		return tool.Output[Placement]{Data: p, Text: head + "\n" + p.Text(mostPlaces)}, nil
	})
}
