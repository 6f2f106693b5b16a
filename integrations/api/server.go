package api

import (
	"net/http"
	"reflect"

	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

func (a *API) serverOps() []operation {
	read := func(path, id, summary string, out reflect.Type, handle func(*call) error, params ...param) operation {
		return operation{
			method: http.MethodGet, path: wire.Prefix + path, role: access.Viewer, id: id, tag: "server", summary: summary,
			params: params, out: out, status: http.StatusOK, handle: handle,
		}
	}
	doc := read("/openapi.yaml", "getOpenAPI", "Give this document.", nil, func(c *call) error { return c.bytes("application/yaml", OpenAPI()) })
	doc.media = []string{"application/yaml"}
	trail := read("/audit", "listAudit", "List the audit trail: who did what, why and when, in order.", reflect.TypeFor[wire.Trail](), handleTrail,
		param{name: "after", kind: number, about: "Only entries behind this sequence."}, queryNumber("limit", 1000, "How many to give at most; 1000 where it is missing."),
		queryText("plan", "Only those about this plan."))
	trail.role, trail.detail = access.Admin, "Each entry holds the hash of the one before and a signature; /audit/verify checks them."
	verify := read("/audit/verify", "verifyAudit", "Check the audit trail: every hash, link and signature, and that it holds what the plans say happened.", reflect.TypeFor[audit.Report](), handleVerify)
	verify.role = access.Admin
	return []operation{
		read("/status", "getStatus", "Say what the server works on and how it stands.", reflect.TypeFor[session.Status](), handleStatus),
		read("/toolsets", "listToolsets", "List what can be looked at, and what is missing where it cannot.", reflect.TypeFor[wire.Toolsets](), handleToolsets),
		read("/models", "listModels", "List the models that can be switched to.", reflect.TypeFor[wire.Models](), handleModels),
		read("/objects", "findObjects", "Find objects of the cluster by the beginning of their name.", reflect.TypeFor[wire.Objects](), handleObjects,
			param{name: "prefix", max: 253, about: "What was typed."}, queryNumber("limit", 200, "How many to give at most; 20 where it is missing.")),
		trail, verify, doc,
	}
}

func handleStatus(c *call) error {
	s, err := c.api.svc.Status(c.ctx())
	if err != nil {
		return err
	}
	return c.json(s)
}

func handleToolsets(c *call) error {
	all, err := c.api.svc.Toolsets(c.ctx())
	if err != nil {
		return err
	}
	return c.json(wire.Toolsets{Items: full(all)})
}

func handleModels(c *call) error {
	all, err := c.api.svc.Models(c.ctx())
	if err != nil {
		return err
	}
	return c.json(wire.Models{Items: full(all)})
}

func handleObjects(c *call) error {
	all, err := c.api.svc.Objects(c.ctx(), c.given["prefix"], c.number("limit", 20))
	if err != nil {
		return err
	}
	return c.json(wire.Objects{Items: full(all)})
}

func handleTrail(c *call) error {
	all, err := c.api.svc.Trail(c.ctx())
	if err != nil {
		return err
	}
	after, limit := uint64(c.number("after", 0)), c.number("limit", 1000)
	page := []audit.Entry{}
	for _, e := range all {
		if e.Seq <= after || c.given["plan"] != "" && e.Plan != c.given["plan"] {
			continue
		}
		if len(page) == limit {
			return c.json(wire.Trail{Items: page, Next: page[limit-1].Seq})
		}
		page = append(page, e)
	}
	return c.json(wire.Trail{Items: page})
}

func handleVerify(c *call) error {
	r, err := c.api.svc.Audit(c.ctx())
	if err != nil {
		return err
	}
	return c.json(r)
}
