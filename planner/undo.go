package planner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// fail takes a plan back that went wrong.
func (r *run) fail(ctx context.Context, why string) error {
	if !r.rec.Touched() {
		return r.end(ctx, incident.PlanStopped, why, nil)
	}
	if err := r.note(ctx, event.UndoBegun, event.Event{Progress: &event.Progress{By: r.by, Say: why}}); err != nil {
		return err
	}
	return r.undo(ctx)
}

// undo takes back the writes that stand, the last step first. What cannot be taken
// back is said, and the rest is taken back all the same.
func (r *run) undo(ctx context.Context) error {
	var left []string
	why := r.rec.Reason
	for _, s := range slices.Backward(r.rec.Plan.Steps) {
		touched := false
		for _, w := range s.Writes {
			if w.ID == r.rec.Open {
				was, err := r.Backends[w.API].State(ctx, r.rec.Plan.ID, w)
				if err != nil {
					return fmt.Errorf("whether %s (%s) was done before the interruption cannot be seen: %w", w.ID, w.Say, err)
				}
				if err := r.note(ctx, event.WriteEnded, event.Event{Write: &was}); err != nil {
					return err
				}
			}
			touched = touched || r.rec.done(w.ID)
		}
		for _, u := range s.Undo {
			of := r.rec.Writes[u.Of]
			if !of.Done || r.rec.done(u.ID) {
				continue
			}
			if u.UID == "" && u.Verb != incident.VerbCreate {
				u.UID = of.UID
			}
			if u.Digest == "" && u.Verb != incident.VerbCreate {
				u.Digest = of.Digest
			}
			failed, err := r.write(ctx, u)
			if err != nil {
				return err
			}
			if failed != "" {
				left = append(left, notBack+failed)
				continue
			}
			if was := digestOf(s, u.Of); was != "" && u.Verb == incident.VerbPatch && r.rec.Writes[u.ID].Digest != was {
				left = append(left, u.Ref.String()+" was put back, but others have changed it as well")
			}
		}
		if touched && s.Lasting != "" {
			left = append(left, s.ID+": "+s.Lasting)
		}
	}
	if slices.ContainsFunc(left, func(s string) bool { return strings.HasPrefix(s, notBack) }) {
		return r.end(ctx, incident.PlanStopped, why, left)
	}
	return r.end(ctx, incident.PlanUndone, why, left)
}

// notBack begins the sentences on writes that could not be taken back.
const notBack = "not taken back: "

// digestOf gives the state of an object before a write.
func digestOf(s incident.Step, id string) string {
	for _, w := range s.Writes {
		if w.ID == id {
			return w.Digest
		}
	}
	return ""
}
