package api

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
	"github.com/gumshoe-ai/gumshoe/planner"
)

const plansPath = wire.Prefix + "/plans"

// maxProposal is the largest request for a plan, in bytes: a file may be in it.
const maxProposal = 2 << 20

func (a *API) planOps() []operation {
	record := reflect.TypeFor[planner.Record]()
	word := func(path, id, summary, detail string, in reflect.Type, optional bool, handle func(*call) error, also ...int) operation {
		return operation{
			method: http.MethodPost, path: plansPath + "/{id}/" + path, role: access.Approver, id: id, tag: "plans", summary: summary, detail: detail,
			in: in, optional: optional, out: record, status: http.StatusOK, also: append(also, 404), handle: handle,
		}
	}
	say := func(w string, needs bool) func(*call) error { return func(c *call) error { return c.say(w, needs) } }
	states := []string{}
	for _, s := range []incident.PlanState{incident.PlanPending, incident.PlanApproved, incident.PlanRejected, incident.PlanExpired, incident.PlanVoid, incident.PlanExecuting, incident.PlanVerified, incident.PlanUndone, incident.PlanStopped} {
		states = append(states, string(s))
	}
	text := reflect.TypeFor[wire.Word]()
	return []operation{
		{
			method: http.MethodPost, path: plansPath, role: access.Asker, id: "proposePlan", tag: "plans",
			summary: "Ask for a plan, from the diagnosis of a run or from a file.", detail: "It is compiled to exact requests, tried by the cluster in a dry run, judged by the policy and filed. Nothing changes until people approve it.",
			in: reflect.TypeFor[wire.Propose](), out: record, status: http.StatusCreated, also: []int{404, 422}, maxBody: maxProposal, handle: handlePropose,
		},
		{
			method: http.MethodGet, path: plansPath, role: access.Viewer, id: "listPlans", tag: "plans",
			summary: "List plans, the newest first.", params: []param{queryText("state", "Only those in this state.", states...), pageLimit, pageCursor},
			out: reflect.TypeFor[wire.Plans](), status: http.StatusOK, handle: func(c *call) error { return c.plans(c.given["state"]) },
		},
		{
			method: http.MethodGet, path: wire.Prefix + "/approvals", role: access.Viewer, id: "listApprovals", tag: "plans",
			summary: "List the plans that wait for somebody's word.", params: []param{pageLimit, pageCursor},
			out: reflect.TypeFor[wire.Plans](), status: http.StatusOK, handle: func(c *call) error { return c.plans(string(incident.PlanPending)) },
		},
		{
			method: http.MethodGet, path: plansPath + "/{id}", role: access.Viewer, id: "getPlan", tag: "plans",
			summary: "Show a plan, what was said about it and what became of it.", out: record, status: http.StatusOK, also: []int{404}, handle: handlePlan,
		},
		word("approve", "approvePlan", "Approve exactly the plan that was looked at.", "The digest is that of the plan as it was shown. When enough people approved, the server executes the plan, where it has an executor.", reflect.TypeFor[wire.Approve](), false, handleApprove, 409),
		word("reject", "rejectPlan", "Reject a plan, with the reason.", "The reason is required. A rejected plan is never executed.", text, false, say(incident.Rejected, true), 409),
		word("revoke", "revokeApproval", "Take one's own approval back.", "It counts until the execution begins.", text, true, say(incident.Revoked, false), 409),
		word("comment", "commentPlan", "Say something about a plan.", "It changes nothing. The text is required.", text, false, say(incident.Commented, true)),
		word("undo", "undoPlan", "Take an executed plan back.", "", reflect.TypeFor[wire.Undo](), false, handleUndo, 409),
		{
			method: http.MethodPost, path: plansPath + "/{id}/rehearse", role: access.Asker, id: "rehearsePlan", tag: "plans",
			summary: "Have the cluster try a plan again in a dry run.", detail: "Nothing changes.",
			out: reflect.TypeFor[wire.Rehearsal](), status: http.StatusOK, also: []int{404}, handle: handleRehearse,
		},
		{
			method: http.MethodPost, path: wire.Prefix + "/breaker/reset", role: access.Admin, id: "resetBreaker", tag: "plans",
			summary: "Let plans be executed again after failures stopped them.", detail: "The reason is required and goes into the audit trail.",
			in: reflect.TypeFor[wire.Reset](), status: http.StatusNoContent, handle: handleReset,
		},
	}
}

func handlePropose(c *call) error {
	var q wire.Propose
	if err := c.decode(&q); err != nil {
		return err
	}
	switch {
	case (q.Run == "") == (q.File == ""):
		return invalid("run", q.Run, "a plan comes from a run or from a file", "give one of run and file")
	case q.File != "" && (q.Action != "" || len(q.Set) > 0):
		return invalid("action", q.Action, "a file says its steps itself", "leave out action and set, or give a run")
	case q.BreakGlass && strings.TrimSpace(q.Reason) == "":
		return invalid("reason", q.Reason, "who passes by ordinary consent says why", "give a reason")
	}
	if q.Source == "" {
		q.Source = session.API
	}
	r, err := c.api.svc.Propose(c.ctx(), session.PlanAsk{
		Session: q.Session, Run: q.Run, Action: q.Action, Set: q.Set, File: []byte(q.File), Reason: q.Reason, BreakGlass: q.BreakGlass, By: c.by, Source: q.Source,
	})
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", plansPath+"/"+r.Plan.ID)
	return c.json(r)
}

func (c *call) plans(state string) error {
	all, unread := c.api.svc.Plans(c.ctx())
	if unread != nil && len(all) == 0 {
		return unread
	}
	if state != "" {
		all = slices.DeleteFunc(slices.Clone(all), func(r planner.Record) bool { return string(r.State) != state })
	}
	page, next, err := paged(c, all, func(r planner.Record) place { return place{r.Plan.Created.UnixNano(), r.Plan.ID} })
	if err != nil {
		return err
	}
	return c.json(wire.Plans{Items: page, Next: next, Problems: problems(unread)})
}

func handlePlan(c *call) error {
	id, err := c.pathID("id", "a plan", planID)
	if err != nil {
		return err
	}
	r, err := c.api.svc.Plan(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.json(r)
}

// handleApprove takes an approval of the plan that the person saw. The bytes that
// stand under an id never change, so what is compared here is what is signed.
func handleApprove(c *call) error {
	id, err := c.pathID("id", "a plan", planID)
	if err != nil {
		return err
	}
	var q wire.Approve
	if err := c.decode(&q); err != nil {
		return err
	}
	r, err := c.api.svc.Plan(c.ctx(), id)
	if err != nil {
		return err
	}
	if q.Digest != r.Digest {
		return &access.Error{
			Status: http.StatusConflict, Code: "digest_differs",
			User: fmt.Sprintf("digest %s is not that of plan %s, which is %s: it is another plan than the one that was looked at", quoted(q.Digest), id, r.Digest),
			Fix:  "look at the plan as it stands, and approve that",
		}
	}
	r, err = c.api.svc.Say(c.ctx(), id, incident.Approved, q.Comment, c.by)
	if err != nil {
		return err
	}
	return c.json(r)
}

func (c *call) say(word string, needs bool) error {
	id, err := c.pathID("id", "a plan", planID)
	if err != nil {
		return err
	}
	var q wire.Word
	if err := c.decode(&q); err != nil {
		return err
	}
	if needs && strings.TrimSpace(q.Comment) == "" {
		return invalid("comment", q.Comment, "it is empty", "say why in a sentence")
	}
	r, err := c.api.svc.Say(c.ctx(), id, word, q.Comment, c.by)
	if err != nil {
		return err
	}
	return c.json(r)
}

func handleUndo(c *call) error {
	id, err := c.pathID("id", "a plan", planID)
	if err != nil {
		return err
	}
	var q wire.Undo
	if err := c.decode(&q); err != nil {
		return err
	}
	if strings.TrimSpace(q.Reason) == "" {
		return invalid("reason", q.Reason, "it is empty", "say why in a sentence")
	}
	r, err := c.api.svc.Undo(c.ctx(), id, q.Reason, c.by)
	if err != nil {
		return err
	}
	return c.json(r)
}

func handleRehearse(c *call) error {
	id, err := c.pathID("id", "a plan", planID)
	if err != nil {
		return err
	}
	r, problems, err := c.api.svc.Rehearse(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.json(wire.Rehearsal{Plan: r, Problems: full(problems)})
}

func handleReset(c *call) error {
	var q wire.Reset
	if err := c.decode(&q); err != nil {
		return err
	}
	if strings.TrimSpace(q.Reason) == "" {
		return invalid("reason", q.Reason, "it is empty", "say why it is safe to go on")
	}
	if err := c.api.svc.ResetBreaker(c.ctx(), q.Reason, c.by); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
