package planner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// held is the record of a target that a plan works on; free of one that nobody does.
const (
	held = "lock.held"
	free = "lock.free"
)

type holder struct {
	Plan   string `json:"plan"`
	Target string `json:"target"`
}

// lockSubject is where it is journalled who works on an object.
func lockSubject(clusterUID string, r incident.Ref) string {
	r.Cluster = ""
	sum := sha256.Sum256([]byte(clusterUID + "|" + r.Group + "|" + r.String()))
	return "lock." + hex.EncodeToString(sum[:12])
}

// written gives the objects that a plan writes, in a fixed order, so that two plans
// cannot wait for each other.
func written(p incident.Plan) []incident.Ref {
	seen := map[incident.Ref]bool{}
	var out []incident.Ref
	for _, s := range p.Steps {
		for _, w := range s.Writes {
			if !seen[w.Ref] {
				seen[w.Ref] = true
				out = append(out, w.Ref)
			}
		}
	}
	slices.SortFunc(out, func(a, b incident.Ref) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	return out
}

// claim takes the targets of a plan: one plan at a time works on an object. A holder
// that has ended without giving its targets back holds nothing.
func (r *run) claim(ctx context.Context) error {
	id := r.rec.Plan.ID
	for _, ref := range written(r.rec.Plan) {
		subject := lockSubject(r.rec.Plan.ClusterUID, ref)
		h, kind, last, err := r.holder(ctx, subject)
		if err != nil {
			return err
		}
		if kind == held && h.Plan == id {
			continue
		}
		if kind == held {
			other, err := Load(ctx, r.Journal, h.Plan)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err == nil && !other.State.Final() {
				return errors.Join(&Withheld{Plan: id, Why: fmt.Sprintf("plan %s works on %s: one plan at a time", h.Plan, ref)}, r.release(ctx))
			}
		}
		raw, err := json.Marshal(holder{Plan: id, Target: ref.String()})
		if err != nil {
			return fmt.Errorf("plan %s: %w", id, err)
		}
		if _, err := r.Journal.Append(ctx, subject, last, store.Entry{Type: held, Data: raw}); err != nil {
			if _, ok := errors.AsType[*store.ConflictError](err); ok {
				return errors.Join(&Withheld{Plan: id, Why: fmt.Sprintf("another plan took %s in this moment: one plan at a time", ref)}, r.release(ctx))
			}
			return err
		}
	}
	return nil
}

func (r *run) holder(ctx context.Context, subject string) (h holder, kind string, last uint64, err error) {
	for rec, err := range r.Journal.Load(ctx, subject, 0) {
		if err != nil {
			return h, "", 0, err
		}
		h = holder{}
		if err := json.Unmarshal(rec.Data, &h); err != nil {
			return h, "", 0, fmt.Errorf("%s, sequence %d: %w", subject, rec.Seq, err)
		}
		kind, last = rec.Type, rec.Seq
	}
	return h, kind, last, nil
}

// release gives back the targets that this plan holds.
func (r *run) release(ctx context.Context) error {
	for _, ref := range written(r.rec.Plan) {
		subject := lockSubject(r.rec.Plan.ClusterUID, ref)
		h, kind, last, err := r.holder(ctx, subject)
		if err != nil {
			return err
		}
		if kind != held || h.Plan != r.rec.Plan.ID {
			continue
		}
		raw, err := json.Marshal(holder{Target: ref.String()})
		if err != nil {
			return fmt.Errorf("plan %s: %w", r.rec.Plan.ID, err)
		}
		if _, err := r.Journal.Append(ctx, subject, last, store.Entry{Type: free, Data: raw}); err != nil {
			if _, ok := errors.AsType[*store.ConflictError](err); ok {
				continue // somebody who saw the end of this plan took it already
			}
			return err
		}
	}
	return nil
}

// free gives the targets back and says so.
func (r *run) free(ctx context.Context) error {
	if err := r.release(ctx); err != nil {
		return err
	}
	return r.note(ctx, event.PlanReleased, event.Event{})
}
