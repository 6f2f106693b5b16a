package app

import (
	"context"
	"errors"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/planner"
)

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
