package planner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
)

// Intent names what a plan of an investigation means to do, whoever asks for it and
// when: two plans with the same intent take the same actions with the same parameters
// on the same objects in the same state. What passes by ordinary consent is one
// person's own.
func Intent(p incident.Plan) (string, error) {
	type object struct {
		Ref                            incident.Ref
		API, Verb, UID, Digest, Source string
		Body                           json.RawMessage
	}
	type step struct {
		Action  string
		Params  map[string]string
		Objects []object
	}
	doc := struct {
		Cluster, Investigation, Author string
		BreakGlass, Reason             string
		Steps                          []step
	}{Cluster: p.ClusterUID, Investigation: p.Investigation, Author: p.Author}
	if p.BreakGlass {
		doc.BreakGlass, doc.Reason = p.Requester.Name, p.Reason
	}
	for _, s := range p.Steps {
		one := step{Action: s.Action, Params: s.Params}
		for _, t := range s.Targets {
			one.Objects = append(one.Objects, object{Ref: t.Ref, UID: t.UID, Digest: t.Digest})
		}
		for _, w := range s.Writes {
			one.Objects = append(one.Objects, object{Ref: w.Ref, API: w.API, Verb: w.Verb, UID: w.UID, Digest: w.Digest, Body: w.Body})
		}
		if s.Source != nil {
			one.Objects = append(one.Objects, object{Ref: s.Source.Owner, Source: s.Source.Diff})
		}
		doc.Steps = append(doc.Steps, one)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("plan %s: %w", p.ID, err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// IntentID is the id of the plan that is the n-th, from 0, with an intent. As a plan is
// filed where nothing stands under its id, whoever asks for the same at the same time
// meets the plan of the first.
func IntentID(intent string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", intent, n))
	return "plan-" + hex.EncodeToString(sum[:6])
}

// Stands reports whether something may still come of a plan: it waits, was approved or
// is at work.
func (r Record) Stands() bool {
	switch r.State {
	case incident.PlanPending, incident.PlanApproved, incident.PlanExecuting:
		return true
	}
	return false
}
