package triage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/runbooks"
)

// earlierServes is the finding that says of a pod, or of a workload, that nothing of
// the newest revision is available while an earlier one, which differs, serves.
const earlierServes = "kube.previous_revision_serves"

// reverts proposes to return to the revision that serves, where the cause comes from
// a part of the pod template in which that revision differs. A revision that is no
// better in what is at fault would be left for nothing.
func (s *session) reverts(c *candidate) []incident.Proposal {
	if c.revert == "" {
		return nil
	}
	for _, f := range s.findings {
		if f.Code != earlierServes || !s.mends(f, c) {
			continue
		}
		p := f.Params
		return []incident.Proposal{{
			Action: "rollout_undo", Params: map[string]string{"kind": p["kind"], "namespace": p["namespace"], "name": p["name"], "revision": p["revision"]},
			Why:      fmt.Sprintf("return to revision %s, which serves with %s available pods and differs in what is at fault; nothing of the newest one is available", p["revision"], p["available"]),
			Evidence: appendNew(slices.Clone(c.cause.Evidence), f.Evidence...), Cause: c.cause.Code, Runbook: c.cause.Runbook,
		}}
	}
	return nil
}

// mends reports whether an earlier revision differs in what brings a cause about.
func (s *session) mends(f incident.Finding, c *candidate) bool {
	at := c.cause.Subject
	has := func(list, item string) bool { return item != "" && slices.Contains(strings.Split(list, ","), item) }
	if c.revert == runbooks.RevertObjects {
		return (at.Namespace == "" || at.Namespace == f.Subject.Namespace) && has(f.Params["objects"], at.Kind+"/"+at.Name)
	}
	if at != f.Subject {
		return false
	}
	switch c.revert {
	case runbooks.RevertImage:
		return has(f.Params["images"], c.finding.Params["container"])
	case runbooks.RevertContainers:
		return f.Params["containers"] != ""
	case runbooks.RevertScheduling:
		return f.Params["scheduling"] != ""
	}
	return false
}
