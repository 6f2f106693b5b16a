package actions

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// cloudPools are the pools of a provider with an API of its own.
type cloudPools struct{ cloud PoolCloud }

func (x cloudPools) describe(ctx context.Context, c *Cluster, name string, nodes []*corev1.Node) (*PoolState, error) {
	known, err := c.poolNodesOf(ctx, nodes)
	if err != nil {
		return nil, err
	}
	s, err := x.cloud.Describe(ctx, name, known)
	if err != nil || s == nil {
		return nil, err
	}
	s.Ref = incident.Ref{Cluster: c.name, Kind: "NodePool", Name: name}
	return s, nil
}

func (x cloudPools) change(ctx context.Context, p params, d *draft, s *PoolState, ch PoolChange) error {
	r, err := x.cloud.Request(ctx, s, ch)
	if err != nil {
		return err
	}
	nodes, _, err := d.c.nodesOfPool(ctx, s.Ref.Name)
	if err != nil {
		return err
	}
	switch {
	case ch.Kind == PoolAbort:
		for _, n := range nodes {
			d.Blast.Nodes = append(d.Blast.Nodes, incident.Ref{Cluster: d.c.name, Kind: "Node", Name: n.Name})
		}
	case ch.Kind == PoolScale && ch.Count > s.Count:
	default:
		if err := d.disturb(ctx, p, nodes); err != nil {
			return err
		}
	}
	d.Targets = append(d.Targets, incident.Target{Ref: s.Ref, ResourceVersion: s.Token, Observed: s.Phase + ": " + s.State})
	d.Writes, d.Undo, d.Verify = append(d.Writes, r.Writes...), append(d.Undo, r.Undo...), append(d.Verify, r.Verify...)
	d.Lasting = r.Lasting
	for _, w := range r.Warnings {
		d.warn("%s", w)
	}
	switch {
	case r.More > 0:
		d.Capacity = append(d.Capacity, incident.Claim{Text: "whether " + x.cloud.Name() + " has quota and machines for " + count(r.More, "more node") + " is not known: it says so only when they are asked for"})
	case r.More < 0:
		d.Capacity = append(d.Capacity, incident.Claim{Text: "how many nodes " + x.cloud.Name() + " adds for the time of the change, and whether it has them, is not known"})
	}
	return nil
}
