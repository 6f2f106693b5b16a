package planner

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/event"
	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
)

// Subjects gives the pattern of all plans in the journal.
const Subjects = "plan.>"

// Subject is where a plan is journalled.
func Subject(id string) (string, error) {
	s := "plan." + id
	if strings.Contains(id, ".") {
		return "", fmt.Errorf("%q is no id of a plan", id)
	}
	return s, store.CheckSubject(s)
}

// Record is what the journal holds of a plan: a projection of its events.
type Record struct {
	Plan incident.Plan `json:"plan"`
	// Digest of the canonical plan, as its bytes give it.
	Digest string `json:"digest"`
	// Decision is the policy's when the plan was made; it is asked again later.
	Decision incident.Decision   `json:"decision"`
	State    incident.PlanState  `json:"state"`
	Words    []incident.Approval `json:"words"`
	// Prose is a model's, if one spoke; it is no part of the plan.
	Prose string `json:"prose,omitempty"`

	// By executes, since Begun.
	By    incident.Person `json:"by,omitzero"`
	Begun time.Time       `json:"begun,omitzero"`
	// Writes are the results by write; Open is the write that was begun and of which
	// the journal does not know the end.
	Writes map[string]incident.WriteResult `json:"writes,omitempty"`
	Open   string                          `json:"open,omitempty"`
	Steps  []string                        `json:"steps_done,omitempty"`
	// Checks are the results in order; one that a later executor repeated stands once.
	Checks []incident.CheckResult `json:"checks,omitempty"`
	// Undoing says that the plan is being taken back.
	Undoing bool `json:"undoing,omitempty"`
	// Reason of the state, and sentences on what stands.
	Reason   string    `json:"reason,omitempty"`
	Left     []string  `json:"left,omitempty"`
	Nonces   []string  `json:"nonces,omitempty"`
	Released bool      `json:"released,omitempty"`
	At       time.Time `json:"at"`

	seq uint64
}

// Load gives the record of a plan; store.ErrNotFound when there is none.
func Load(ctx context.Context, l store.Loader, id string) (Record, error) {
	subject, err := Subject(id)
	if err != nil {
		return Record{}, err
	}
	r, last, err := store.Project(ctx, l, subject, 0, Record{Writes: map[string]incident.WriteResult{}}, fold)
	if err != nil {
		return r, err
	}
	if last == 0 {
		return r, fmt.Errorf("plan %q is %w: gumshoe plan list shows those that are there", id, store.ErrNotFound)
	}
	r.seq = last
	return r, nil
}

func fold(r Record, rec store.Record) (Record, error) {
	var e event.Event
	if err := json.Unmarshal(rec.Data, &e); err != nil {
		return r, err
	}
	r.At, r.seq = rec.At, rec.Seq
	p := e.Progress
	if p == nil {
		p = &event.Progress{}
	}
	switch event.Type(rec.Type) {
	case event.PlanMade:
		if e.Plan == nil {
			return r, fmt.Errorf("the record holds no plan")
		}
		r.Plan, r.State = *e.Plan, incident.PlanPending
		if e.Decision != nil {
			r.Decision = *e.Decision
		}
		if e.Notice != nil {
			r.Prose = e.Notice.Text
		}
		d, err := Digest(r.Plan)
		if err != nil {
			return r, err
		}
		r.Digest = d
	case event.PlanWord:
		if e.Word != nil {
			r.Words = append(r.Words, *e.Word)
			if e.Word.Word == incident.Rejected && r.State == incident.PlanPending {
				r.State, r.Reason = incident.PlanRejected, e.Word.By.Name+": "+e.Word.Comment
			}
		}
	case event.PlanBegun:
		r.State, r.By, r.Reason = incident.PlanExecuting, p.By, ""
		if r.Begun.IsZero() {
			r.Begun = rec.At
		}
		r.Nonces = append(r.Nonces, p.Nonces...)
	case event.WriteBegun:
		r.Open = p.Write
	case event.WriteEnded:
		if e.Write != nil {
			r.Writes[e.Write.Write] = *e.Write
		}
		r.Open = ""
	case event.Checked:
		if e.Check != nil {
			r.Checks = append(slices.DeleteFunc(slices.Clone(r.Checks), e.Check.Repeats), *e.Check)
		}
	case event.StepEnded:
		r.Steps = append(r.Steps, p.Step)
	case event.UndoBegun:
		r.State, r.Undoing, r.Reason = incident.PlanExecuting, true, p.Say
	case event.PlanEnded:
		r.State, r.Left = p.State, p.Left
		if p.Say != "" {
			r.Reason = p.Say
		}
	case event.PlanReleased:
		r.Released = true
	}
	return r, nil
}

// clone is a copy whose lists and results are the caller's own; the plan, whose bytes
// stand, is shared.
func (r Record) clone() Record {
	r.Writes = maps.Clone(r.Writes)
	r.Words, r.Steps, r.Checks, r.Left, r.Nonces = slices.Clone(r.Words), slices.Clone(r.Steps), slices.Clone(r.Checks), slices.Clone(r.Left), slices.Clone(r.Nonces)
	return r
}

// done reports whether a write stands by the journal.
func (r Record) done(id string) bool { return r.Writes[id].Done }

// Touched reports whether anything was written.
func (r Record) Touched() bool {
	for _, w := range r.Writes {
		if w.Done {
			return true
		}
	}
	return r.Open != ""
}

// Standing gives sentences on the writes that stand and were not taken back.
func (r Record) Standing() []string {
	var out []string
	for _, s := range r.Plan.Steps {
		for _, w := range s.Writes {
			if !r.done(w.ID) {
				continue
			}
			back := slices.ContainsFunc(s.Undo, func(u incident.Write) bool { return u.Of == w.ID && r.done(u.ID) })
			if !back {
				out = append(out, w.ID+": "+w.Say)
			}
		}
	}
	return out
}

// Brief is a line of a list of plans.
type Brief struct {
	ID      string             `json:"id"`
	State   incident.PlanState `json:"state"`
	Title   string             `json:"title"`
	By      string             `json:"requester"`
	Created time.Time          `json:"created"`
	Expires time.Time          `json:"expires"`
	// Approvals counts people who approved; Needed is how many have to.
	Approvals int `json:"approvals"`
	Needed    int `json:"needed"`
}

// Brief gives the line of a record.
func (r Record) Brief() Brief {
	by := map[string]bool{}
	for _, w := range r.Words {
		switch w.Word {
		case incident.Approved:
			by[w.By.Name] = true
		case incident.Revoked:
			delete(by, w.By.Name)
		}
	}
	return Brief{ID: r.Plan.ID, State: r.State, Title: r.Plan.Title, By: r.Plan.Requester.Name, Created: r.Plan.Created, Expires: r.Plan.Expires, Approvals: len(by), Needed: r.Decision.Approvers}
}
