package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/integrations/app"
	"github.com/gumshoe-ai/gumshoe/integrations/web"
)

func service() incident.Question {
	return incident.Question{Text: "why does service web not answer", Namespace: "shop"}
}

// From a question to a verified fix through the forms alone, as a browser without
// JavaScript sends them.
func TestStoryByForms(t *testing.T) {
	t.Parallel()
	h := stage(t, "k8s-service-selector", nil)
	key := h.as("ann", "/sessions", nil).is(200, "Nobody has asked anything yet").field("key")
	form := url.Values{"key": {key}, "text": {"why does service web not answer"}, "namespace": {"shop"}}
	page := h.as("ann", "/sessions", form).to()
	if again := h.as("ann", "/sessions", form).to(); again != page {
		t.Errorf("the same form sent twice leads to %s and %s", page, again)
	}
	id := strings.TrimPrefix(page, "/sessions/")
	s, err := h.svc.Session(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	s, turn := h.ended(id, s.Turns[0].ID)
	if len(s.Turns) != 1 {
		t.Fatalf("%d turns", len(s.Turns))
	}
	seen := h.as("ann", page, nil).is(200, "root cause", "The selector of Service shop/web matches no pod.", "Make a plan", "E1")
	if !strings.Contains(seen.body, "<mark>") {
		t.Error("nothing is marked in the evidence")
	}
	more := url.Values{"key": {seen.field("key")}, "text": {"and which pods does it mean?"}}
	if to := h.as("ann", page+"/ask", more).to(); to != page {
		t.Errorf("the follow-up leads to %s", to)
	}
	s, err = h.svc.Session(t.Context(), id)
	if err != nil || len(s.Turns) != 2 {
		t.Fatalf("%d turns (%v)", len(s.Turns), err)
	}
	h.ended(id, s.Turns[1].ID)
	h.as("vic", page, nil).is(200, "and which pods does it mean?", "Show the investigation", "Your role may look and not ask")

	plan := h.as("ann", page+"/plan", url.Values{"turn": {turn.ID}, "action": {"patch_service_selector"}, "reason": {"the shop is down"}}).to()
	if again := h.as("ann", page+"/plan", url.Values{"turn": {turn.ID}, "action": {"patch_service_selector"}, "reason": {"the shop is down"}}).to(); again != plan {
		t.Errorf("the same proposal gives %s and %s", plan, again)
	}
	h.as("vic", "/approvals", nil).is(200, "0 of 1 approvals")
	shown := h.as("ann", plan, nil).is(200, "waits for approval", "One person has to approve it", "accepted in a dry run", "Your role does not approve plans")
	digest := shown.field("digest")
	h.as("ann", plan+"/approve", url.Values{"digest": {digest}}).is(http.StatusForbidden)
	h.as("bob", plan+"/approve", url.Values{"digest": {"sha256:00"}}).is(http.StatusConflict, "What you saw is not the plan that stands")
	h.as("bob", plan+"/reject", url.Values{"digest": {digest}}).is(http.StatusBadRequest, "A rejection needs a reason")
	h.as("bob", plan+"/comment", url.Values{"digest": {digest}, "comment": {"looks right"}}).to()
	h.as("bob", plan+"/approve", url.Values{"digest": {digest}}).to()
	for n, err := range h.svc.Follow(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if rec, err := h.svc.Plan(t.Context(), strings.TrimPrefix(plan, "/plans/")); n.Plan != "" && err == nil && rec.Released {
			break
		}
	}
	h.as("cal", plan+"/approve", url.Values{"digest": {digest}}).is(http.StatusConflict, "The plan does not wait any more: it is done and verified.", "bob approved it")
	h.as("vic", plan, nil).is(200, "done and verified", "looks right", "bob approved")
	h.as("vic", "/approvals", nil).is(200, "Nothing waits for approval")
	h.as("vic", "/audit", nil).is(200, "The chain holds", "approval")
	h.as("vic", "/status", nil).is(200, "approved plans are executed here", "kube")
	h.as("vic", "/sessions/s-0000000000000000", nil).is(http.StatusNotFound)
}

// What can hurt much is asked once more, two people have to agree, one of them may take
// it back, and what the plan does to whom is said before.
func TestHighRisk(t *testing.T) {
	t.Parallel()
	h := stage(t, "attack-one-for-two", nil)
	rec, err := h.svc.Propose(t.Context(), session.PlanAsk{Source: session.Web, By: incident.Person{Name: "ann", Groups: []string{"sre"}}, File: []byte("reason: the disk of n1 is replaced tonight\nsteps:\n  - action: drain\n    params: {node: n1}\n")})
	if err != nil {
		t.Fatal(err)
	}
	page := "/plans/" + rec.Plan.ID
	digest := h.as("bob", page, nil).is(200, "high risk", "Two people have to approve it.", "the disk of n1 is replaced tonight", "Approve…").field("digest")
	h.as("bob", page+"/approve", url.Values{"digest": {digest}}).is(200, "This can hurt. Approve it all the same?", "0 of 2 so far")
	h.as("bob", page+"/approve", url.Values{"digest": {digest}, "confirmed": {"yes"}}).to()
	h.as("bob", page, nil).is(200, "1 of 2 so far", "You approved this plan.", "Take my approval back")
	h.as("bob", page+"/approve", url.Values{"digest": {digest}, "confirmed": {"yes"}})
	h.as("bob", page+"/revoke", url.Values{"digest": {digest}}).to()
	h.as("cal", page, nil).is(200, "0 of 2 so far", "took the approval back")
	h.as("ann", page+"/rehearse", url.Values{"digest": {digest}}).is(200, "Tried again")
	h.as("cal", page+"/reject", url.Values{"digest": {digest}, "comment": {"not tonight"}}).to()
	h.as("bob", page+"/approve", url.Values{"digest": {digest}, "confirmed": {"yes"}}).is(http.StatusConflict, "it is rejected", "cal rejected it at")
	h.as("bob", page+"/undo", url.Values{"digest": {digest}, "comment": {"x"}}).is(http.StatusConflict, "there is nothing to take back")
	h.as("vic", "/plans", nil).is(200, "rejected", "high risk")
}

// fullUp is a service whose store takes nothing more.
type fullUp struct{ web.Service }

func (fullUp) Ask(context.Context, session.Ask) (session.Session, session.Turn, error) {
	return session.Session{}, session.Turn{}, fmt.Errorf("append to session.s-1: %w: secret detail", store.ErrFull)
}

// Where there is no room for a question, the page says so and keeps the words.
func TestStoreIsFull(t *testing.T) {
	t.Parallel()
	h := stage(t, "k8s-service-selector", func(s *app.Service) web.Service { return fullUp{s} })
	key := h.as("ann", "/sessions", nil).is(200).field("key")
	a := h.as("ann", "/sessions", url.Values{"key": {key}, "text": {"why does service web not answer"}, "namespace": {"shop"}})
	a.is(http.StatusInsufficientStorage, "no room: this was not kept", "why does service web not answer")
	if strings.Contains(a.body, "secret") {
		t.Error("the page tells what only the log should")
	}
}
