package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	corev1 "k8s.io/api/core/v1"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/policy"
)

var _ planner.Consent = (*Plans)(nil)

// Judge implements planner.Consent: the policy is asked again, with things as they
// stand, and what people said is held against its answer.
func (p *Plans) Judge(ctx context.Context, r planner.Record) ([]string, error) {
	withheld := func(why string, final bool) error {
		return &planner.Withheld{Plan: r.Plan.ID, Why: why, Final: final}
	}
	d, err := p.decide(ctx, r, r.Plan.Requester)
	if err != nil {
		return nil, err
	}
	if d.Verdict == incident.Deny {
		// A plan that was approved and would now be too much is what the breaker is
		// for; one that is merely asked for opens nothing.
		return nil, errors.Join(withheld(tool.UserText(denied(d)), false), p.trip(ctx, r, d))
	}
	used := map[string]bool{}
	others, err := p.desk.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("whether an approval was used before cannot be seen: %w", err)
	}
	for _, o := range others {
		for _, n := range o.Nonces {
			used[n] = true
		}
	}
	c, err := p.seal.keys.Judge(p.question(r, d, used))
	if err != nil {
		return nil, withheld(why(err), false)
	}
	return c.Nonces, nil
}

// Stood implements planner.Consent: the approvals, which are signed, must have been
// enough by the policy as it is when the plan began. What came later, such as their
// end, does not keep a plan from being finished or taken back.
func (p *Plans) Stood(ctx context.Context, r planner.Record) error {
	in, err := p.input(r, r.Plan.Requester)
	if err != nil {
		return err
	}
	if in.Now = r.Begun; in.Now.Before(r.Plan.Created) || in.Now.After(r.Plan.Expires) {
		return &planner.Withheld{Plan: r.Plan.ID, Why: "the journal has it begin outside of its time"}
	}
	d := p.rules.Decide(ctx, in)
	q := p.question(r, d, nil)
	q.Now = in.Now
	if _, err := p.seal.keys.Judge(q); err != nil {
		return &planner.Withheld{Plan: r.Plan.ID, Why: "there was no consent when it began: " + why(err)}
	}
	return nil
}

// input is what the policy sees of a plan by itself.
func (p *Plans) input(r planner.Record, who incident.Person) (policy.Input, error) {
	cat, err := p.catalogue()
	if err != nil {
		return policy.Input{}, err
	}
	family := map[string]string{}
	for _, i := range cat.Infos() {
		family[i.Name] = i.Family
	}
	in := policy.InputOf(r.Plan, func(action string) string { return family[action] })
	in.Caller, in.Now = policy.CallerOf(who), p.now()
	in.Plan.FromModel = r.Plan.Author != policy.Gumshoe && r.Plan.Author != r.Plan.Requester.Name
	return in, nil
}

// decide asks the policy of a plan, with things as they stand.
func (p *Plans) decide(ctx context.Context, r planner.Record, who incident.Person) (incident.Decision, error) {
	in, err := p.input(r, who)
	if err != nil {
		return incident.Decision{}, err
	}
	if in.Live, err = p.live(ctx, r); err != nil {
		return incident.Decision{}, err
	}
	return p.rules.Decide(ctx, in), nil
}

// live counts what waits and what was done lately.
func (p *Plans) live(ctx context.Context, r planner.Record) (policy.Live, error) {
	var l policy.Live
	all, err := p.desk.List(ctx)
	if err != nil {
		return l, fmt.Errorf("what waits and what was done lately cannot be seen: %w", err)
	}
	window := time.Duration(p.rules.Settings().Breaker.Window)
	var nodes []incident.Ref
	for _, o := range all {
		if o.Plan.ID == r.Plan.ID || o.Plan.ClusterUID != r.Plan.ClusterUID {
			continue
		}
		if o.State == incident.PlanPending && r.State == "" {
			l.OpenRequests++
		}
		if o.Begun.IsZero() || p.now().Sub(o.At) > window {
			continue
		}
		for _, s := range o.Plan.Steps {
			if slices.ContainsFunc(s.Writes, func(w incident.Write) bool { return o.Writes[w.ID].Done }) {
				l.Actions++
				for _, n := range s.Blast.Nodes {
					if !slices.Contains(nodes, n) {
						nodes = append(nodes, n)
					}
				}
			}
		}
	}
	l.Nodes = len(nodes)
	l.NodesTotal, err = p.nodes(ctx)
	if err != nil {
		return l, err
	}
	l.BreakerOpen, _, err = p.breaker(ctx, r.Plan.ClusterUID)
	return l, err
}

// nodes counts the nodes of the cluster; 0 when they may not be listed.
func (p *Plans) nodes(ctx context.Context) (int, error) {
	m, err := metadata.NewForConfig(p.app.src.rest)
	if err != nil {
		return 0, fmt.Errorf("metadata client: %w", err)
	}
	l, err := m.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return 0, nil //nolint:nilerr // the policy takes 0 for not known
	}
	n := len(l.Items)
	if l.RemainingItemCount != nil {
		n += int(*l.RemainingItemCount)
	}
	return n, nil
}
