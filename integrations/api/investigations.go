package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/access"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
)

// maxKey is the longest idempotency key, in characters.
const maxKey = 200

// idempotency is the header that makes a question idempotent.
var idempotency = param{name: wire.IdempotencyKey, header: true, max: maxKey,
	about: "Makes the question idempotent: the same key of the same person gives the question that stands, whatever else is asked."}

var (
	pageLimit  = queryNumber("limit", 500, "How many to give at most; 100 where it is missing.")
	pageCursor = queryText("cursor", "Where to go on: next of the page before.")
	bySource   = queryText("source", "Only those of this surface.", session.Surfaces()...)
	byOwner    = queryText("owner", "Only those that this person opened.")
	byRun      = queryText("run", "Only the one that this run belongs to.")
	byText     = queryText("text", "Only those in whose title or questions this occurs.")
)

const investigationsPath = wire.Prefix + "/investigations"

func (a *API) investigationOps() []operation {
	ask := reflect.TypeFor[wire.Ask]()
	return []operation{
		{
			method: http.MethodPost, path: investigationsPath, role: access.Asker, id: "createInvestigation", tag: "investigations",
			summary: "Ask a question.", detail: "When it answers, the question is in the journal and in the queue. The id of the turn is the id of its run, whose events can be followed at once. Repeating a request with the same Idempotency-Key does not ask again.",
			params: []param{idempotency}, in: ask, out: reflect.TypeFor[wire.Asked](), status: http.StatusCreated, also: []int{404}, handle: handleAsk,
		},
		{
			method: http.MethodGet, path: investigationsPath, role: access.Viewer, id: "listInvestigations", tag: "investigations",
			summary: "List questions and what became of them, the newest first.",
			params: []param{
				queryText("state", "Only those in this state.", string(session.Queued), string(session.Running), string(session.Answered), string(session.Failed), string(session.Cancelled)),
				queryText("outcome", "Only those that were answered so.", string(incident.RootCause), string(incident.Healthy), string(incident.Recovered), string(incident.Inconclusive)),
				bySource, byOwner, byText, pageLimit, pageCursor,
			},
			out: reflect.TypeFor[wire.Investigations](), status: http.StatusOK, handle: handleListInvestigations,
		},
		{
			method: http.MethodGet, path: investigationsPath + "/{id}", role: access.Viewer, id: "getInvestigation", tag: "investigations",
			summary: "Show a question with its report, as far as it came.", detail: "The id is that of a session, whose last question is meant, or of a run.",
			out: reflect.TypeFor[wire.Investigation](), status: http.StatusOK, also: []int{404}, handle: handleInvestigation,
		},
		{
			method: http.MethodPost, path: investigationsPath + "/{id}/cancel", role: access.Asker, id: "cancelInvestigation", tag: "investigations",
			summary: "Take a question back.", detail: "What the run saw until then is kept. The id is that of a session or of a run.",
			in: reflect.TypeFor[wire.Cancel](), optional: true, out: reflect.TypeFor[session.Session](), status: http.StatusOK, also: []int{404, 409}, handle: handleCancel,
		},
		{
			method: http.MethodPost, path: investigationsPath + "/{id}/questions", role: access.Asker, id: "continueInvestigation", tag: "investigations",
			summary: "Ask a further question of a session.", detail: "The run is told what was asked and answered before.",
			params: []param{idempotency}, in: reflect.TypeFor[wire.FollowUp](), out: reflect.TypeFor[wire.Asked](), status: http.StatusCreated, also: []int{404}, handle: handleFollowUp,
		},
	}
}

func handleAsk(c *call) error {
	var q wire.Ask
	if err := c.decode(&q); err != nil {
		return err
	}
	return c.ask(q)
}

func handleFollowUp(c *call) error {
	id, err := c.pathID("id", "a session", sessionID)
	if err != nil {
		return err
	}
	var q wire.FollowUp
	if err := c.decode(&q); err != nil {
		return err
	}
	return c.ask(wire.Ask{
		Session: id, Question: q.Question, Cluster: q.Cluster, Namespace: q.Namespace, Alert: q.Alert, Subjects: q.Subjects,
		Model: q.Model, Priority: q.Priority, Source: q.Source,
	})
}

func (c *call) ask(q wire.Ask) error {
	if strings.TrimSpace(q.Question) == "" && q.Alert == nil && len(q.Subjects) == 0 {
		return invalid("question", "", "nothing is asked", "give question, alert or subjects")
	}
	for i, r := range q.Subjects {
		if r.Kind == "" || r.Name == "" {
			return invalid(fmt.Sprintf("subjects[%d]", i), "", "kind and name are both needed", "")
		}
	}
	if q.Alert != nil && q.Alert.Name == "" {
		return invalid("alert.name", "", "it is empty", "give the label alertname")
	}
	key, err := c.key()
	if err != nil {
		return err
	}
	if q.Source == "" {
		q.Source = session.API
	}
	s, t, err := c.api.svc.Ask(c.ctx(), session.Ask{
		Session: q.Session, By: c.by, Source: q.Source, Priority: q.Priority, Key: key, Title: q.Title, Model: q.Model, Links: q.Links, Alerts: q.Alerts,
		Question: incident.Question{Text: q.Question, Cluster: q.Cluster, Namespace: q.Namespace, Alert: q.Alert, Subjects: q.Subjects},
	})
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", investigationsPath+"/"+t.ID)
	return c.json(wire.Asked{Session: s, Turn: t})
}

// key gives the idempotency key within the caller's own: a key of somebody else is
// another one, so that nobody is answered with a question they did not ask.
func (c *call) key() (string, error) {
	k := c.given[idempotency.name]
	if k == "" {
		return "", nil
	}
	if strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", invalid("the header "+idempotency.name, k, "it holds something else than visible ASCII", "use a UUID or the like")
	}
	whose := sha256.Sum256([]byte(c.by.Name))
	return hex.EncodeToString(whose[:16]) + ":" + k, nil
}

func handleListInvestigations(c *call) error {
	all, unread := c.api.svc.Sessions(c.ctx(), session.Filter{Source: c.given["source"], Owner: c.given["owner"], Text: c.given["text"]})
	if unread != nil && len(all) == 0 {
		return unread
	}
	var items []wire.InvestigationItem
	for _, s := range all {
		for _, t := range s.Turns {
			if want := c.given["state"]; want != "" && string(t.State) != want {
				continue
			}
			if want := c.given["outcome"]; want != "" && string(t.Outcome) != want {
				continue
			}
			items = append(items, wire.InvestigationItem{Session: s.ID, Title: s.Title, Turn: t})
		}
	}
	page, next, err := paged(c, items, func(i wire.InvestigationItem) place { return place{i.Turn.Asked.UnixNano(), i.Turn.ID} })
	if err != nil {
		return err
	}
	return c.json(wire.Investigations{Items: page, Next: next, Problems: problems(unread)})
}

func handleInvestigation(c *call) error {
	id, err := c.pathID("id", "an investigation", sessionID, runID)
	if err != nil {
		return err
	}
	s, t, err := c.find(id)
	if err != nil {
		return err
	}
	out := wire.Investigation{Session: s, Turn: t}
	run := id
	if !strings.HasPrefix(id, runID) {
		run = ""
		if t != nil {
			run = t.Run
		}
	} else if t != nil && t.ID == id && t.Run != "" {
		run = t.Run // the run that answered, where the first was cut off
	}
	if run == "" {
		return c.json(out)
	}
	r, err := c.api.svc.Run(c.ctx(), run)
	switch {
	case err == nil:
		out.Run = &r
	case !missing(err):
		return err
	}
	return c.json(out)
}

func missing(err error) bool { return tool.KindOf(answer(err)) == tool.NotFound }

// find gives the session and the turn that an id means; of a session its last turn.
func (c *call) find(id string) (session.Session, *session.Turn, error) {
	if !strings.HasPrefix(id, runID) {
		s, err := c.api.svc.Session(c.ctx(), id)
		if err != nil {
			return s, nil, err
		}
		if t, ok := s.Last(); ok {
			return s, &t, nil
		}
		return s, nil, nil
	}
	return sessionOf(c.ctx(), c.api.svc, id)
}

// sessionOf finds the session of a run.
func sessionOf(ctx context.Context, svc Sessions, run string) (session.Session, *session.Turn, error) {
	all, err := svc.Sessions(ctx, session.Filter{Run: run})
	for _, s := range all {
		if t, ok := s.OfRun(run); ok {
			return s, &t, nil
		}
	}
	if err != nil {
		return session.Session{}, nil, err
	}
	return session.Session{}, nil, &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("no session has a run %q", run), Fix: "a run of the command line has no session: see " + wire.Prefix + "/runs/" + run, Err: store.ErrNotFound}
}

func handleCancel(c *call) error {
	id, err := c.pathID("id", "an investigation", sessionID, runID)
	if err != nil {
		return err
	}
	var q wire.Cancel
	if err := c.decode(&q); err != nil {
		return err
	}
	s, t, err := c.find(id)
	if err != nil {
		return err
	}
	turn := q.Turn
	switch {
	case strings.HasPrefix(id, runID):
		if turn != "" && turn != t.ID {
			return invalid("turn", turn, "the path names another run", "leave it out")
		}
		turn = t.ID
	case turn == "":
		for _, t := range slices.Backward(s.Turns) {
			if !t.State.Ended() {
				turn = t.ID
				break
			}
		}
		if turn == "" {
			return &access.Error{Status: http.StatusConflict, Code: "ended", User: fmt.Sprintf("no question of session %s is at work or waits", s.ID), Fix: "there is nothing to cancel"}
		}
	}
	if was, ok := s.Turn(turn); !ok {
		return &tool.Error{Kind: tool.NotFound, User: fmt.Sprintf("session %s has no question %q", s.ID, turn), Fix: "its turns are in " + wire.Prefix + "/sessions/" + s.ID}
	} else if was.State.Ended() {
		return &access.Error{Status: http.StatusConflict, Code: "ended", User: fmt.Sprintf("question %s is %s already", turn, was.State), Fix: "there is nothing to cancel"}
	}
	s, err = c.api.svc.Cancel(c.ctx(), s.ID, turn, c.by)
	if err != nil {
		return err
	}
	return c.json(s)
}
