package api

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
	"github.com/gumshoe-ai/gumshoe/planner"
)

const sessionsPath = wire.Prefix + "/sessions"

// maxAlerts is the largest request about alerts, in bytes.
const maxAlerts = 4 << 20

func (a *API) sessionOps() []operation {
	one := reflect.TypeFor[session.Session]()
	change := func(method, path, id, summary string, in reflect.Type, params []param, handle func(*call) error) operation {
		return operation{
			method: method, path: sessionsPath + "/{id}/" + path, role: access.Asker, id: id, tag: "sessions", summary: summary,
			params: params, in: in, out: one, status: http.StatusOK, also: []int{404}, handle: handle,
		}
	}
	alerts := change(http.MethodPost, "alerts", "noteAlerts", "Tell a conversation what its alerts do.", reflect.TypeFor[wire.Alerts](), nil, handleAlerts)
	alerts.maxBody = maxAlerts
	place := []param{queryText("surface", "The surface of the place, such as slack."), queryText("key", "The place, such as C123/1712.3456.")}
	return []operation{
		{
			method: http.MethodGet, path: sessionsPath, role: access.Viewer, id: "listSessions", tag: "sessions",
			summary: "List conversations, the one that changed last first.",
			params:  []param{{name: "open", kind: boolean, about: "Only those that are not merged, closed or resolved."}, bySource, byOwner, byRun, byText, pageLimit, pageCursor},
			out:     reflect.TypeFor[wire.Sessions](), status: http.StatusOK, handle: handleSessions,
		},
		{
			method: http.MethodGet, path: sessionsPath + "/{id}", role: access.Viewer, id: "getSession", tag: "sessions",
			summary: "Show a conversation.", detail: "The id may be latest.",
			out: one, status: http.StatusOK, also: []int{404}, handle: handleSession,
		},
		{
			method: http.MethodGet, path: sessionsPath + "/{id}/export", role: access.Viewer, id: "exportSession", tag: "sessions",
			summary: "Give a conversation with its reports and plans.",
			params:  []param{queryText("format", "The form; json where it is missing.", "json", "markdown")},
			out:     reflect.TypeFor[wire.Export](), media: []string{"text/markdown; charset=utf-8"}, status: http.StatusOK, also: []int{404}, handle: handleExport,
		},
		{
			method: http.MethodDelete, path: sessionsPath + "/{id}", role: access.Admin, id: "deleteSession", tag: "sessions",
			summary: "Delete a conversation and its runs.", detail: "Plans and the audit trail stay.",
			status: http.StatusNoContent, also: []int{404}, handle: handleDelete,
		},
		change(http.MethodPut, "model", "setModel", "Switch the model of a conversation.", reflect.TypeFor[wire.Model](), nil, handleModel),
		change(http.MethodPost, "close", "closeSession", "Close a conversation: nothing is added any more.", nil, nil, handleClose),
		change(http.MethodPost, "merge", "mergeSession", "Join a conversation to another about the same incident, which goes on.", reflect.TypeFor[wire.Merge](), nil, handleMerge),
		alerts,
		change(http.MethodPost, "links", "linkSession", "Say where a conversation is shown; a place shows at most one.", reflect.TypeFor[session.Link](), nil, handleLink),
		change(http.MethodDelete, "links", "unlinkSession", "Say that a conversation is no longer shown at a place.", nil, place, handleUnlink),
		{
			method: http.MethodGet, path: wire.Prefix + "/links", role: access.Viewer, id: "findLink", tag: "sessions",
			summary: "Say which conversation is shown at a place.", params: place,
			out: reflect.TypeFor[wire.Linked](), status: http.StatusOK, handle: handleLinked,
		},
	}
}

func handleSessions(c *call) error {
	all, unread := c.api.svc.Sessions(c.ctx(), session.Filter{Source: c.given["source"], Owner: c.given["owner"], Run: c.given["run"], Text: c.given["text"], Open: c.given["open"] == "true"})
	if unread != nil && len(all) == 0 {
		return unread
	}
	page, next, err := paged(c, all, func(s session.Session) place { return place{s.Changed.UnixNano(), s.ID} })
	if err != nil {
		return err
	}
	return c.json(wire.Sessions{Items: page, Next: next, Problems: problems(unread)})
}

// ofSession gives the id in the path, and the document if one is read.
func (c *call) ofSession(doc any) (string, error) {
	id, err := c.pathID("id", "a session", sessionID)
	if err != nil || doc == nil {
		return id, err
	}
	return id, c.decode(doc)
}

// changed answers with a session that was changed.
func (c *call) changed(s session.Session, err error) error {
	if err != nil {
		return err
	}
	return c.json(s)
}

func handleSession(c *call) error {
	id, err := c.ofSession(nil)
	if err != nil {
		return err
	}
	return c.changed(c.api.svc.Session(c.ctx(), id))
}

func handleDelete(c *call) error {
	id, err := c.ofSession(nil)
	if err != nil {
		return err
	}
	if id == "latest" {
		return invalid("the id", id, "what is deleted is named", "give the session's id")
	}
	if err := c.api.svc.DeleteSession(c.ctx(), id, c.by); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func handleModel(c *call) error {
	var q wire.Model
	id, err := c.ofSession(&q)
	if err != nil {
		return err
	}
	return c.changed(c.api.svc.SetModel(c.ctx(), id, q.Model, c.by))
}

func handleClose(c *call) error {
	id, err := c.ofSession(nil)
	if err != nil {
		return err
	}
	return c.changed(c.api.svc.CloseSession(c.ctx(), id, c.by))
}

func handleMerge(c *call) error {
	var q wire.Merge
	id, err := c.ofSession(&q)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(q.Into, sessionID) || q.Into == id {
		return invalid("into", q.Into, "it is no id of another session", "ids begin with "+sessionID)
	}
	return c.changed(c.api.svc.Merge(c.ctx(), id, q.Into))
}

func handleAlerts(c *call) error {
	var q wire.Alerts
	id, err := c.ofSession(&q)
	if err != nil {
		return err
	}
	if len(q.Alerts) == 0 && q.Resolved == nil {
		return invalid("alerts", "", "nothing is said", "give alerts, resolved or both")
	}
	for i, a := range q.Alerts {
		if a.Name == "" || a.Fingerprint == "" {
			return invalid(fmt.Sprintf("alerts[%d]", i), a.Name, "name and fingerprint are both needed", "the fingerprint tells the alerts of a session apart")
		}
	}
	return c.changed(c.api.svc.NoteAlerts(c.ctx(), id, q.Alerts, q.Resolved))
}

// maxLink is the longest key of a place, in bytes.
const maxLink = 256

func checkLink(l session.Link) error {
	switch {
	case !slices.Contains(session.Surfaces(), l.Surface):
		return invalid("surface", l.Surface, "it is none of "+strings.Join(session.Surfaces(), ", "), "")
	case l.Key == "" || len(l.Key) > maxLink:
		return invalid("key", l.Key, fmt.Sprintf("it has 1 to %d bytes", maxLink), "")
	}
	return nil
}

func handleLink(c *call) error {
	var l session.Link
	id, err := c.ofSession(&l)
	if err == nil {
		err = checkLink(l)
	}
	if err != nil {
		return err
	}
	return c.changed(c.api.svc.Link(c.ctx(), id, l))
}

func handleUnlink(c *call) error {
	l := session.Link{Surface: c.given["surface"], Key: c.given["key"]}
	id, err := c.ofSession(nil)
	if err == nil {
		err = checkLink(l)
	}
	if err != nil {
		return err
	}
	return c.changed(c.api.svc.Unlink(c.ctx(), id, l))
}

func handleLinked(c *call) error {
	l := session.Link{Surface: c.given["surface"], Key: c.given["key"]}
	if err := checkLink(l); err != nil {
		return err
	}
	s, ok, err := c.api.svc.Linked(c.ctx(), l)
	switch {
	case err != nil:
		return err
	case !ok:
		return c.json(wire.Linked{})
	}
	return c.json(wire.Linked{Found: true, Session: &s})
}

func handleExport(c *call) error {
	id, err := c.ofSession(nil)
	if err != nil {
		return err
	}
	s, err := c.api.svc.Session(c.ctx(), id)
	if err != nil {
		return err
	}
	out := wire.Export{Session: s, Runs: []store.Run{}, Plans: []planner.Record{}}
	for _, t := range s.Turns {
		if t.Run == "" {
			continue
		}
		switch r, err := c.api.svc.Run(c.ctx(), t.Run); {
		case err == nil:
			out.Runs = append(out.Runs, r)
		case !missing(err):
			return err
		}
	}
	for _, p := range s.Plans {
		switch r, err := c.api.svc.Plan(c.ctx(), p); {
		case err == nil:
			out.Plans = append(out.Plans, r)
		case !errors.Is(err, store.ErrNotFound) && !missing(err):
			return err
		}
	}
	if c.given["format"] == "markdown" {
		return c.bytes("text/markdown; charset=utf-8", []byte(Markdown(out)))
	}
	return c.json(out)
}
