package api

import (
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
)

func (a *API) runOps() []operation {
	return []operation{
		{
			method: http.MethodGet, path: wire.Prefix + "/runs/{id}", role: access.Viewer, id: "getRun", tag: "runs",
			summary: "Show a run with its report, also while it is at work.",
			out:     reflect.TypeFor[store.Run](), status: http.StatusOK, also: []int{404}, handle: handleRun,
		},
		{
			method: http.MethodGet, path: wire.Prefix + "/runs/{id}/evidence", role: access.Viewer, id: "listEvidence", tag: "runs",
			summary: "List what a run looked at, in order.",
			out:     reflect.TypeFor[wire.Evidence](), status: http.StatusOK, also: []int{404}, handle: handleEvidence,
		},
		{
			method: http.MethodGet, path: wire.Prefix + "/runs/{id}/evidence/{evidence}", role: access.Viewer, id: "getEvidence", tag: "runs",
			summary: "Show one look of a run: E1, E2, ...",
			out:     reflect.TypeFor[incident.Evidence](), status: http.StatusOK, also: []int{404}, handle: handleOneEvidence,
		},
		{
			method: http.MethodGet, path: wire.Prefix + "/outputs/{digest}", role: access.Viewer, id: "getOutput", tag: "runs",
			summary: "Give the whole output of a look whose text was shortened.", detail: "The digest is that of the evidence, sha256:<hex>. Secrets are masked.",
			media: []string{"text/plain; charset=utf-8", "application/octet-stream"}, status: http.StatusOK, also: []int{404}, handle: handleOutput,
		},
	}
}

func (c *call) theRun() (store.Run, error) {
	id, err := c.pathID("id", "a run", runID)
	if err != nil {
		return store.Run{}, err
	}
	return c.api.svc.Run(c.ctx(), id)
}

func handleRun(c *call) error {
	r, err := c.theRun()
	if err != nil {
		return err
	}
	return c.json(r)
}

func handleEvidence(c *call) error {
	r, err := c.theRun()
	if err != nil {
		return err
	}
	return c.json(wire.Evidence{Items: full(r.Report.Evidence)})
}

func handleOneEvidence(c *call) error {
	r, err := c.theRun()
	if err != nil {
		return err
	}
	id := c.r.PathValue("evidence")
	i := slices.IndexFunc(r.Report.Evidence, func(e incident.Evidence) bool { return e.ID == id })
	if i < 0 {
		fix := "it looked at nothing yet"
		if n := len(r.Report.Evidence); n > 0 {
			fix = fmt.Sprintf("it has %s to %s", r.Report.Evidence[0].ID, r.Report.Evidence[n-1].ID)
		}
		return &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("run %s has no evidence %s", r.ID, quoted(id)), Fix: fix}
	}
	return c.json(r.Report.Evidence[i])
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func handleOutput(c *call) error {
	digest := c.r.PathValue("digest")
	if !digestForm.MatchString(digest) {
		return invalid("the digest", digest, "it is not sha256: and 64 hex digits", "take digest of a piece of evidence")
	}
	raw, err := c.api.svc.Output(c.ctx(), digest)
	if err != nil {
		return err
	}
	media := "text/plain; charset=utf-8"
	if !utf8.Valid(raw) {
		media = "application/octet-stream"
	}
	return c.bytes(media, raw)
}
