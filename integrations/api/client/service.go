package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
	"github.com/gumshoe-ai/gumshoe/integrations/api/wire"
	"github.com/gumshoe-ai/gumshoe/planner"
	"github.com/gumshoe-ai/gumshoe/planner/audit"
)

// Ask puts a question. Without a key one is made, so that a request that is sent again
// after a broken connection asks once.
func (c *Client) Ask(ctx context.Context, a session.Ask) (session.Session, session.Turn, error) {
	key := a.Key
	if key == "" {
		key = c.cfg.NewID()
	}
	q := request{method: http.MethodPost, path: path("investigations"), header: map[string]string{wire.IdempotencyKey: key}, body: wire.Ask{
		Question: a.Question.Text, Cluster: a.Question.Cluster, Namespace: a.Question.Namespace, Alert: a.Question.Alert, Subjects: a.Question.Subjects,
		Session: a.Session, Model: a.Model, Priority: a.Priority, Title: a.Title, Source: c.source(a.Source), Alerts: a.Alerts, Links: a.Links,
	}}
	out, err := call[wire.Asked](ctx, c, q)
	return out.Session, out.Turn, err
}

// source is a surface that may ask through the API; what comes from another was asked
// by this client.
func (c *Client) source(s string) string {
	switch s {
	case session.API, session.CLI, session.TUI:
		return s
	}
	return c.cfg.Source
}

// Cancel takes a question back; an empty turn is the newest that is not answered.
func (c *Client) Cancel(ctx context.Context, id, turn string, _ incident.Person) (session.Session, error) {
	return call[session.Session](ctx, c, request{method: http.MethodPost, path: path("investigations", id, "cancel"), body: wire.Cancel{Turn: turn}})
}

// Session gives a conversation by its id, or the "latest".
func (c *Client) Session(ctx context.Context, id string) (session.Session, error) {
	return call[session.Session](ctx, c, request{method: http.MethodGet, path: path("sessions", id)})
}

// Sessions lists conversations, the one that changed last first.
func (c *Client) Sessions(ctx context.Context, f session.Filter) ([]session.Session, error) {
	q := url.Values{}
	for k, v := range map[string]string{"source": f.Source, "owner": f.Owner, "run": f.Run, "text": f.Text} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if f.Open {
		q.Set("open", "true")
	}
	return pages(ctx, c, request{method: http.MethodGet, path: path("sessions"), query: q}, f.Limit, func(p wire.Sessions) ([]session.Session, string, []string) { return p.Items, p.Next, p.Problems })
}

// DeleteSession deletes a conversation.
func (c *Client) DeleteSession(ctx context.Context, id string, _ incident.Person) error {
	_, err := c.bytes(ctx, request{method: http.MethodDelete, path: path("sessions", id)})
	return err
}

// SetModel switches the model of a conversation.
func (c *Client) SetModel(ctx context.Context, id, model string, _ incident.Person) (session.Session, error) {
	return call[session.Session](ctx, c, request{method: http.MethodPut, path: path("sessions", id, "model"), body: wire.Model{Model: model}})
}

// Link says where a conversation is shown.
func (c *Client) Link(ctx context.Context, id string, l session.Link) (session.Session, error) {
	return call[session.Session](ctx, c, request{method: http.MethodPost, path: path("sessions", id, "links"), body: l})
}

// Unlink says that a conversation is no longer shown at a place.
func (c *Client) Unlink(ctx context.Context, id string, l session.Link) (session.Session, error) {
	return call[session.Session](ctx, c, request{method: http.MethodDelete, path: path("sessions", id, "links"), query: place(l)})
}

// Linked gives the conversation that is shown at a place, if there is one.
func (c *Client) Linked(ctx context.Context, l session.Link) (session.Session, bool, error) {
	out, err := call[wire.Linked](ctx, c, request{method: http.MethodGet, path: path("links"), query: place(l)})
	if err != nil || !out.Found || out.Session == nil {
		return session.Session{}, false, err
	}
	return *out.Session, true, nil
}

func place(l session.Link) url.Values {
	return url.Values{"surface": {l.Surface}, "key": {l.Key}}
}

// NoteAlerts tells a conversation what its alerts do.
func (c *Client) NoteAlerts(ctx context.Context, id string, alerts []incident.Alert, resolved *bool) (session.Session, error) {
	return call[session.Session](ctx, c, request{method: http.MethodPost, path: path("sessions", id, "alerts"), body: wire.Alerts{Alerts: alerts, Resolved: resolved}})
}

// Merge joins a conversation to another, which goes on.
func (c *Client) Merge(ctx context.Context, id, into string) (session.Session, error) {
	return call[session.Session](ctx, c, request{method: http.MethodPost, path: path("sessions", id, "merge"), body: wire.Merge{Into: into}})
}

// CloseSession closes a conversation.
func (c *Client) CloseSession(ctx context.Context, id string, _ incident.Person) (session.Session, error) {
	return call[session.Session](ctx, c, request{method: http.MethodPost, path: path("sessions", id, "close")})
}

// Export gives a conversation with its reports and plans.
func (c *Client) Export(ctx context.Context, id string) (wire.Export, error) {
	return call[wire.Export](ctx, c, request{method: http.MethodGet, path: path("sessions", id, "export")})
}

// Run gives a run with its report, also while it is at work.
func (c *Client) Run(ctx context.Context, id string) (store.Run, error) {
	return call[store.Run](ctx, c, request{method: http.MethodGet, path: path("runs", id)})
}

// Output gives the whole output of a look whose text was shortened.
func (c *Client) Output(ctx context.Context, digest string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.bytes(ctx, request{method: http.MethodGet, path: path("outputs", digest)})
}

// Propose asks for a plan.
func (c *Client) Propose(ctx context.Context, a session.PlanAsk) (planner.Record, error) {
	return c.plan(ctx, request{method: http.MethodPost, path: path("plans"), body: wire.Propose{
		Session: a.Session, Run: a.Run, Action: a.Action, Set: a.Set, File: string(a.File), Reason: a.Reason, BreakGlass: a.BreakGlass, Source: c.source(a.Source),
	}})
}

// Plan gives a plan.
func (c *Client) Plan(ctx context.Context, id string) (planner.Record, error) {
	return c.plan(ctx, request{method: http.MethodGet, path: path("plans", id)})
}

// Plans lists plans, the newest first.
func (c *Client) Plans(ctx context.Context) ([]planner.Record, error) {
	all, err := pages(ctx, c, request{method: http.MethodGet, path: path("plans")}, 0, func(p wire.Plans) ([]planner.Record, string, []string) { return p.Items, p.Next, p.Problems })
	for _, r := range all {
		c.shown(r.Plan.ID, r.Digest)
	}
	return all, err
}

// Say says a word about a plan: incident.Approved, Rejected, Revoked or Commented. An
// approval is of the plan that this client gave last under the id, by its digest: one
// that it never gave is not approved.
func (c *Client) Say(ctx context.Context, id, word, comment string, _ incident.Person) (planner.Record, error) {
	q := request{method: http.MethodPost, path: path("plans", id, word), body: wire.Word{Comment: comment}}
	switch word {
	case incident.Approved:
		digest := c.digest(id)
		if digest == "" {
			return planner.Record{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("plan %s was not looked at", id), Fix: "look at it before you approve it"}
		}
		q.body = wire.Approve{Digest: digest, Comment: comment}
	case incident.Rejected, incident.Revoked, incident.Commented:
	default:
		words := []string{incident.Approved, incident.Rejected, incident.Revoked, incident.Commented}
		return planner.Record{}, &tool.Error{Kind: tool.Invalid, User: fmt.Sprintf("%q is none of %s", word, strings.Join(words, ", "))}
	}
	return c.plan(ctx, q)
}

// Undo takes an executed plan back.
func (c *Client) Undo(ctx context.Context, id, reason string, _ incident.Person) (planner.Record, error) {
	return c.plan(ctx, request{method: http.MethodPost, path: path("plans", id, "undo"), body: wire.Undo{Reason: reason}})
}

// ResetBreaker lets plans be executed again after failures stopped them.
func (c *Client) ResetBreaker(ctx context.Context, reason string, _ incident.Person) error {
	_, err := c.bytes(ctx, request{method: http.MethodPost, path: path("breaker", "reset"), body: wire.Reset{Reason: reason}})
	return err
}

// Rehearse has the cluster try a plan again in a dry run; the sentences are problems.
func (c *Client) Rehearse(ctx context.Context, id string) (planner.Record, []string, error) {
	out, err := call[wire.Rehearsal](ctx, c, request{method: http.MethodPost, path: path("plans", id, "rehearse")})
	if err == nil {
		c.shown(out.Plan.Plan.ID, out.Plan.Digest)
	}
	return out.Plan, out.Problems, err
}

func (c *Client) plan(ctx context.Context, q request) (planner.Record, error) {
	r, err := call[planner.Record](ctx, c, q)
	if err == nil {
		c.shown(r.Plan.ID, r.Digest)
	}
	return r, err
}

// maxShown is how many digests are remembered.
const maxShown = 1000

func (c *Client) shown(id, digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.seen[id]; !known {
		c.order = append(c.order, id)
	}
	c.seen[id] = digest
	if len(c.order) > maxShown {
		delete(c.seen, c.order[0])
		c.order = c.order[1:]
	}
}

func (c *Client) digest(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[id]
}

// Trail gives the audit trail, in its order.
func (c *Client) Trail(ctx context.Context) ([]audit.Entry, error) {
	var out []audit.Entry
	for after := uint64(0); ; {
		p, err := call[wire.Trail](ctx, c, request{method: http.MethodGet, path: path("audit"), query: url.Values{"after": {strconv.FormatUint(after, 10)}}})
		if err != nil {
			return out, err
		}
		out = append(out, p.Items...)
		if p.Next <= after {
			return out, nil
		}
		after = p.Next
	}
}

// Audit has the server check the audit trail.
func (c *Client) Audit(ctx context.Context) (audit.Report, error) {
	return call[audit.Report](ctx, c, request{method: http.MethodGet, path: path("audit", "verify")})
}

// Toolsets lists what can be looked at.
func (c *Client) Toolsets(ctx context.Context) ([]session.Toolset, error) {
	out, err := call[wire.Toolsets](ctx, c, request{method: http.MethodGet, path: path("toolsets")})
	return out.Items, err
}

// Objects finds objects of the cluster by the beginning of their name.
func (c *Client) Objects(ctx context.Context, prefix string, limit int) ([]incident.Ref, error) {
	q := url.Values{"prefix": {prefix}}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(min(limit, 200)))
	}
	out, err := call[wire.Objects](ctx, c, request{method: http.MethodGet, path: path("objects"), query: q})
	return out.Items, err
}

// Models lists the models that can be switched to.
func (c *Client) Models(ctx context.Context) ([]session.Model, error) {
	out, err := call[wire.Models](ctx, c, request{method: http.MethodGet, path: path("models")})
	return out.Items, err
}

// Status says what the server works on and how it stands.
func (c *Client) Status(ctx context.Context) (session.Status, error) {
	return call[session.Status](ctx, c, request{method: http.MethodGet, path: path("status")})
}
