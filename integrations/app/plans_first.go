package app

import (
	"context"
	"errors"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
)

// fileOnce files a plan that the policy lets pass. Of an investigation, what is asked for
// a second time while the first plan stands is that plan: two people, two clicks and two
// replicas get one. The error is a *store.ConflictError where another was faster.
func (p *Plans) fileOnce(ctx context.Context, plan incident.Plan, who incident.Person, r PlanRequest) (planner.Record, error) {
	if plan.Investigation != "" {
		first, id, err := p.first(ctx, plan)
		if err != nil {
			return planner.Record{}, err
		}
		if id == "" {
			return p.judged(first), p.seal.Note(ctx, first.Plan.ID, first.Digest, who.Name, "plan.asked_again", map[string]any{"requester": who})
		}
		plan.ID = id
	}
	d, err := p.decide(ctx, planner.Record{Plan: plan}, who)
	if err != nil {
		return planner.Record{}, err
	}
	if d.Verdict == incident.Deny {
		return planner.Record{}, denied(d)
	}
	prose := ""
	if r.Report != nil {
		prose = r.Report.Diagnosis.Summary
	}
	if plan.BreakGlass {
		if err := p.loud(ctx, plan, who, "break_glass.asked"); err != nil {
			return planner.Record{}, err
		}
	}
	return p.desk.File(ctx, plan, d, prose)
}

// first gives the plan that stands with the intent of this one, or else the id under
// which this one is to be filed.
func (p *Plans) first(ctx context.Context, plan incident.Plan) (planner.Record, string, error) {
	intent, err := planner.Intent(plan)
	if err != nil {
		return planner.Record{}, "", err
	}
	for n := 0; ; n++ {
		id := planner.IntentID(intent, n)
		r, err := p.desk.Load(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return r, id, nil
		}
		if err != nil {
			return r, "", err
		}
		if !r.Stands() {
			continue
		}
		// An id is short: what stands under it has to be the same indeed.
		if have, err := planner.Intent(r.Plan); err != nil || have == intent {
			return r, "", err
		}
	}
}
