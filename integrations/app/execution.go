package app

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/actions"
)

// Execute executes an approved plan, or goes on with one that was cut off.
func (p *Plans) Execute(ctx context.Context, id string, c Caller) (planner.Record, error) {
	e, who, err := p.executor(ctx, c)
	if err != nil {
		return planner.Record{}, err
	}
	r, err := p.Get(ctx, id)
	if err != nil {
		return r, err
	}
	if r.Plan.BreakGlass {
		if err := p.loud(ctx, r.Plan, who, "break_glass.used"); err != nil {
			return r, err
		}
	}
	return e.Execute(ctx, id, who)
}

// Undo takes back what a plan wrote.
func (p *Plans) Undo(ctx context.Context, id string, c Caller, because string) (planner.Record, error) {
	e, who, err := p.executor(ctx, c)
	if err != nil {
		return planner.Record{}, err
	}
	return e.Undo(ctx, id, who, because)
}

// Rehearse checks all that an execution would, dry-runs every write again, and
// writes nothing. It gives a sentence a problem.
func (p *Plans) Rehearse(ctx context.Context, id string) (planner.Record, []string, error) {
	r, err := p.Get(ctx, id)
	if err != nil {
		return r, nil, err
	}
	cat, err := p.catalogue()
	if err != nil {
		return r, nil, err
	}
	b, err := p.builder(cat)
	if err != nil {
		return r, nil, err
	}
	var problems []string
	if _, err := p.Judge(ctx, r); err != nil {
		problems = append(problems, err.Error())
	}
	touched := map[incident.Ref]bool{}
	for _, s := range r.Plan.Steps {
		for _, t := range s.Targets {
			if h := b.Dry[incident.APIKubernetes]; t.Resource != "" && !touched[t.Ref] {
				if err := h.Hold(ctx, t); err != nil {
					problems = append(problems, err.Error())
				}
			}
		}
		for _, w := range s.Writes {
			if touched[w.Ref] || b.Dry[w.API] == nil {
				continue
			}
			touched[w.Ref] = true
			if _, dry, err := b.Dry[w.API].Dry(ctx, w); err != nil {
				problems = append(problems, w.ID+": "+err.Error())
			} else if dry != actions.DryServer {
				problems = append(problems, w.ID+": "+dry)
			}
		}
	}
	return r, problems, nil
}

func (p *Plans) executor(ctx context.Context, c Caller) (*planner.Executor, incident.Person, error) {
	cat, err := p.catalogue()
	if err != nil {
		return nil, incident.Person{}, err
	}
	who, err := p.person(ctx, c)
	if err != nil {
		return nil, who, err
	}
	rc, err := p.app.executorREST()
	if err != nil {
		return nil, who, err
	}
	rc = rest.CopyConfig(rc)
	rc.UserAgent = "gumshoe-executor"
	dyn, err := dynamic.NewForConfig(rc)
	if err != nil {
		return nil, who, fmt.Errorf("dynamic client: %w", err)
	}
	uid, err := p.app.clusterUID(ctx)
	if err != nil {
		return nil, who, err
	}
	sleep := p.Sleep
	if sleep == nil {
		sleep = wait
	}
	backends, err := p.app.backends(actions.NewBackend(dyn).Waiting(sleep), false)
	if err != nil {
		return nil, who, err
	}
	var checker planner.Checker = cat.NewChecker(looker{p.app}, p.rules.Settings().AllowProbe)
	if p.Checks != nil {
		checker = p.Checks(checker)
	}
	return &planner.Executor{
		Journal: p.store, Consent: p, Trail: p.seal, Backends: backends,
		Checker: checker, Now: p.now, Sleep: sleep, Emit: p.emit,
		ClusterUID: uid, Boundary: p.Boundary, Lease: p.Lease,
	}, who, nil
}

// wait sleeps, or ends early with the context.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
