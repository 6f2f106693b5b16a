package planner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Choice narrows which proposal of a diagnosis becomes a plan.
type Choice struct {
	// Action is the name of the one that is meant; empty takes the least harmful.
	Action string
	// Set gives parameters that a proposal leaves open, or replaces them.
	Set map[string]string
}

// NoPlan says why none of the proposals comes to a plan.
type NoPlan struct {
	Reasons []string
	// Missing are the parameters that a person has to give before one of them does.
	Missing []*Missing
}

// Error implements error.
func (e *NoPlan) Error() string {
	return "no proposal of the diagnosis comes to a plan:\n  " + strings.Join(e.Reasons, "\n  ")
}

// ForPeople are the actions that name what a person does: they are no steps.
func ForPeople() []string { return []string{"advise", "provide_object"} }

// Pick takes the proposal of a validated diagnosis that does least harm among those
// that can be made: what a simulation found to fit before what was not tried, then the
// lower risk, then the order of the runbooks. The others become alternatives.
func Pick(ctx context.Context, c Catalogue, d incident.Diagnosis, choice Choice) (incident.Proposal, []incident.Alternative, error) {
	if d.Outcome != incident.RootCause || len(d.Causes) == 0 {
		return incident.Proposal{}, nil, &NoPlan{Reasons: []string{fmt.Sprintf("the outcome is %s: only a validated root cause feeds a plan; write one by hand with --from FILE", d.Outcome)}}
	}
	type option struct {
		p    incident.Proposal
		risk incident.Risk
	}
	var fit []option
	var others []incident.Alternative
	var reasons []string
	var missing []*Missing
	reject := func(p incident.Proposal, risk incident.Risk, why string) {
		others = append(others, incident.Alternative{Action: p.Action, Params: p.Params, Risk: risk, Why: why})
		reasons = append(reasons, p.Action+": "+why)
	}
	for _, p := range d.Proposals {
		if slices.Contains(ForPeople(), p.Action) {
			reject(p, "", "for a person: "+p.Why)
			continue
		}
		if choice.Action != "" && p.Action != choice.Action {
			reject(p, "", "another action was asked for: "+p.Why)
			continue
		}
		p.Params = overlay(p.Params, choice.Set)
		a := c.Session().Action(p.Action)
		if a == nil {
			reject(p, "", "there is no such action")
			continue
		}
		draft, err := a.Compile(ctx, p.Params)
		if err != nil {
			if ctx.Err() != nil {
				return incident.Proposal{}, nil, ctx.Err()
			}
			if m, ok := errors.AsType[*Missing](err); ok {
				missing = append(missing, m)
			}
			reject(p, a.Info().Risk, open(err))
			continue
		}
		fit = append(fit, option{p, draft.Risk})
	}
	if len(fit) == 0 {
		if len(reasons) == 0 {
			reasons = []string{"the diagnosis proposes nothing; write a plan by hand with --from FILE"}
		}
		return incident.Proposal{}, others, &NoPlan{Reasons: reasons, Missing: missing}
	}
	slices.SortStableFunc(fit, func(a, b option) int {
		tried := func(o option) int {
			if o.p.WouldFit != "" {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(tried(a), tried(b)), cmp.Compare(a.risk.Weight(), b.risk.Weight()))
	})
	for _, o := range fit[1:] {
		others = append(others, incident.Alternative{Action: o.p.Action, Params: o.p.Params, Risk: o.risk, Why: fmt.Sprintf("risk %s, the chosen one has %s: %s", o.risk, fit[0].risk, o.p.Why)})
	}
	return fit[0].p, others, nil
}

// open says what a proposal lacks, in a person's words.
func open(err error) string {
	if m, ok := errors.AsType[*Missing](err); ok {
		return fmt.Sprintf("a person has to give %s (--set %s=...): %s", m.Param, m.Param, m.Why)
	}
	return err.Error()
}

func overlay(params, set map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, params)
	maps.Copy(out, set)
	return out
}
