package mcpserver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/render"
	"github.com/gumshoe-ai/gumshoe/planner"
)

type proposeIn struct {
	Run     string            `json:"run" jsonschema:"id of the run whose diagnosis is to be mended (run-...)"`
	Session string            `json:"session,omitempty" jsonschema:"id of the investigation that the plan is added to"`
	Action  string            `json:"action,omitempty" jsonschema:"the proposal that is meant; empty takes the least harmful"`
	Set     map[string]string `json:"set,omitempty" jsonschema:"parameters that the proposal leaves open"`
	Reason  string            `json:"reason,omitempty" jsonschema:"why, for the people who decide"`
}

type planIn struct {
	ID string `json:"id" jsonschema:"id of the plan"`
}

type plansIn struct {
	Pending bool `json:"pending,omitempty" jsonschema:"only those that wait for somebody's word"`
	Limit   int  `json:"limit,omitempty" jsonschema:"how many at most, newest first: 1 to 50, default 20"`
}

// PlanView is the structured content of a plan. What a person approves is the plan
// itself, under its digest, as the other surfaces show it.
type PlanView struct {
	ID            string     `json:"id"`
	Title         string     `json:"title"`
	State         string     `json:"state" jsonschema:"pending, approved, rejected, expired, void, executing, verified, undone or stopped"`
	Reason        string     `json:"reason,omitempty"`
	Investigation string     `json:"investigation,omitempty"`
	Digest        string     `json:"digest"`
	Created       string     `json:"created"`
	Expires       string     `json:"expires,omitempty"`
	Verdict       string     `json:"verdict" jsonschema:"what the policy says: allow, ask_one, ask_two or deny"`
	Approvers     int        `json:"approvers" jsonschema:"how many people have to approve"`
	Words         []PlanWord `json:"words,omitempty"`
	Steps         []PlanStep `json:"steps"`
	Pods          int        `json:"pods" jsonschema:"pods that are stopped"`
	GPUs          int        `json:"gpus" jsonschema:"GPUs that are held by them"`
}

// PlanWord is what a person said of a plan.
type PlanWord struct {
	Word    string `json:"word"`
	By      string `json:"by"`
	Comment string `json:"comment,omitempty"`
}

// PlanStep is one typed action of a plan.
type PlanStep struct {
	ID     string            `json:"id"`
	Action string            `json:"action"`
	Params map[string]string `json:"params,omitempty"`
	Say    string            `json:"say"`
	Risk   string            `json:"risk"`
}

type plansOut struct {
	Plans []PlanView `json:"plans"`
}

func (s *Server) addPlans() error {
	return errors.Join(
		own(s, &sdk.Tool{Name: "plan_propose", Title: "Propose a plan", Annotations: hints(false, true),
			Description: "Makes a plan of typed actions from the validated diagnosis of a run, tries it in a server-side dry run and files it for people to decide. Nothing is changed in the cluster: a named person approves or rejects the plan elsewhere."},
			s.propose),
		own(s, &sdk.Tool{Name: "plan_get", Title: "Read a plan", Annotations: hints(true, false),
			Description: "Shows a plan: the exact steps, whom it hurts, how it is proved and undone, what consent it needs and who said what, and how far it is."},
			s.plan),
		own(s, &sdk.Tool{Name: "plans_list", Title: "List plans", Annotations: hints(true, false),
			Description: "Lists plans and their states, newest first."},
			s.plans))
}

func (s *Server) propose(ctx context.Context, _ *sdk.CallToolRequest, in proposeIn) (string, PlanView, error) {
	by, err := who(ctx, access.Asker, "propose plans")
	if err != nil {
		return "", PlanView{}, err
	}
	if in.Run == "" {
		return "", PlanView{}, tool.Errorf(tool.Invalid, "plan_propose: run is empty: investigate gives it")
	}
	if n := len(in.Reason); n > 2000 {
		return "", PlanView{}, tool.Errorf(tool.Invalid, "plan_propose: the reason has %d bytes, more than 2000", n)
	}
	rec, err := s.deps.Plans.Propose(ctx, session.PlanAsk{Session: in.Session, Run: in.Run, Action: in.Action, Set: in.Set, Reason: in.Reason, By: by, Source: session.MCP})
	if err != nil {
		return "", PlanView{}, err
	}
	return s.planText(rec), viewOf(rec), nil
}

func (s *Server) plan(ctx context.Context, _ *sdk.CallToolRequest, in planIn) (string, PlanView, error) {
	if _, err := who(ctx, access.Viewer, "read plans"); err != nil {
		return "", PlanView{}, err
	}
	rec, err := s.deps.Plans.Plan(ctx, in.ID)
	if err != nil {
		return "", PlanView{}, err
	}
	return s.planText(rec), viewOf(rec), nil
}

func (s *Server) plans(ctx context.Context, _ *sdk.CallToolRequest, in plansIn) (string, plansOut, error) {
	out := plansOut{Plans: []PlanView{}}
	if _, err := who(ctx, access.Viewer, "read plans"); err != nil {
		return "", out, err
	}
	switch {
	case in.Limit == 0:
		in.Limit = 20
	case in.Limit < 0 || in.Limit > 50:
		return "", out, tool.Errorf(tool.Invalid, "plans_list: limit %d is not between 1 and 50", in.Limit)
	}
	all, err := s.deps.Plans.Plans(ctx)
	if err != nil && len(all) == 0 {
		return "", out, err
	}
	var b strings.Builder
	size := 0
	for _, rec := range all {
		if in.Pending && rec.State != "pending" {
			continue
		}
		v := viewOf(rec)
		for i := range v.Steps { // plan_get has them
			v.Steps[i].Params = nil
		}
		if size += 400 + 400*len(v.Steps); len(out.Plans) == in.Limit || size > maxData {
			break
		}
		out.Plans = append(out.Plans, v)
		fmt.Fprintf(&b, "%s %s %s: %s\n", v.ID, v.Created, v.State, render.Clean(v.Title))
	}
	if len(out.Plans) == 0 {
		return "there is no such plan", out, nil
	}
	return s.fence(b.String()), out, nil
}

func (s *Server) planText(r planner.Record) string {
	card := render.Plan(render.PlanView{
		Plan: r.Plan, Digest: r.Digest, Decision: r.Decision, State: r.State, Reason: r.Reason, Words: r.Words,
		Prose: r.Prose, Writes: r.Writes, Checks: r.Checks, Left: r.Left, Now: s.deps.Clock(),
	}, render.TextOptions{})
	return s.fence(card) + "\nOnly a person decides on it, and not here: gumshoe plan approve " + r.Plan.ID + ", Slack or the web page."
}

func viewOf(r planner.Record) PlanView {
	p := r.Plan
	v := PlanView{
		ID: p.ID, Title: clip(p.Title, 300), State: string(r.State), Reason: clip(r.Reason, 500), Investigation: p.Investigation, Digest: r.Digest, Created: stamp(p.Created),
		Verdict: r.Decision.Verdict, Approvers: r.Decision.Approvers, Steps: []PlanStep{}, Pods: p.Blast.PodCount, GPUs: p.Blast.GPUs,
	}
	if !p.Expires.IsZero() {
		v.Expires = stamp(p.Expires)
	}
	for _, w := range r.Words[:min(len(r.Words), maxListed)] {
		v.Words = append(v.Words, PlanWord{Word: w.Word, By: w.By.Name, Comment: clip(w.Comment, 500)})
	}
	for _, st := range p.Steps[:min(len(p.Steps), maxListed)] {
		v.Steps = append(v.Steps, PlanStep{ID: st.ID, Action: st.Action, Params: st.Params, Say: clip(st.Say, 500), Risk: string(st.Risk)})
	}
	return v
}
