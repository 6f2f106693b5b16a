package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gumshoe-ai/gumshoe/agent/incident"
	"github.com/gumshoe-ai/gumshoe/agent/session"
	"github.com/gumshoe-ai/gumshoe/agent/store"
	"github.com/gumshoe-ai/gumshoe/agent/tool"
)

// Result is the document that is posted to the result webhook when an investigation of
// alerts ended. It comes at least once; ID tells a repetition.
type Result struct {
	// Version of this document.
	Version string `json:"version"`
	// ID is the same each time that the same result is posted.
	ID      string `json:"id"`
	Cluster string `json:"cluster,omitempty"`
	Session string `json:"session"`
	Title   string `json:"title"`
	// MergedInto is the session of the same incident that goes on, if there is one.
	MergedInto string `json:"mergedInto,omitempty"`
	Turn       string `json:"turn"`
	Run        string `json:"run,omitempty"`
	// State is answered or failed; Reason says why it failed.
	State    session.TurnState `json:"state"`
	Reason   string            `json:"reason,omitempty"`
	Question string            `json:"question,omitempty"`
	Outcome  incident.Outcome  `json:"outcome,omitempty"`
	Headline string            `json:"headline,omitempty"`
	Asked    time.Time         `json:"asked"`
	Ended    time.Time         `json:"ended"`
	// Alerts that the session was about when this was posted.
	Alerts    []incident.Alert    `json:"alerts"`
	Diagnosis *incident.Diagnosis `json:"diagnosis,omitempty"`
	Links     ResultLinks         `json:"links,omitzero"`
}

// ResultLinks are addresses for people.
type ResultLinks struct {
	Session string `json:"session,omitempty"`
}

// sender posts results from the queue.
type sender struct {
	d      *Desk
	client *client
	key    string
	wake   chan struct{}
}

// newSender makes the sender of a desk, nil if results go nowhere.
func newSender(d *Desk) (*sender, error) {
	c := d.cfg.ResultWebhook
	if c.URL == "" {
		return nil, nil
	}
	cl, err := newClient(c.URL, c.Client)
	if err != nil {
		return nil, errors.Join(errors.New("alertmanager.resultWebhook"), err)
	}
	return &sender{d: d, client: cl, key: c.HMACSecretFile, wake: make(chan struct{}, 1)}, nil
}

func (s *sender) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) run(ctx context.Context) {
	defer s.client.close()
	t := time.NewTicker(s.d.tick)
	defer t.Stop()
	for ctx.Err() == nil {
		c, err := s.d.journal.Claim(ctx, queueResults, s.d.lease)
		if err == nil {
			s.deliver(ctx, c)
			continue
		}
		if !errors.Is(err, store.ErrNothing) && ctx.Err() == nil {
			s.d.log.Warn("the queue of results cannot be read", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-t.C:
		}
	}
}

// maxAge is how long a result is tried to be posted.
const maxAge = 24 * time.Hour

// deliver posts one result. What fails comes again, later each time, for a day.
func (s *sender) deliver(ctx context.Context, c *store.Claim) {
	log := s.d.log.With("result", strings.TrimPrefix(c.Record.Subject, queueResults+"."))
	err := s.post(ctx, c)
	switch {
	case err == nil: // also when the server goes down in this moment
		err = c.Lease.Done(context.WithoutCancel(ctx))
	case ctx.Err() != nil:
		err = c.Lease.Release(context.WithoutCancel(ctx), 0)
	case s.d.now().Sub(c.Record.At) > maxAge:
		log.Error("a result was not taken for a day and is given up", "error", err)
		err = c.Lease.Done(ctx)
	default:
		log.Warn("a result was not taken; it is posted again", "attempt", c.Attempt, "why", tool.UserText(err), "error", err)
		err = c.Lease.Release(ctx, backoff(c.Attempt))
	}
	if err != nil && !errors.Is(err, store.ErrLost) {
		log.Error("the queue of results cannot be written", "error", err)
	}
}

func (s *sender) post(ctx context.Context, c *store.Claim) error {
	var r result
	if err := json.Unmarshal(c.Record.Data, &r); err != nil {
		s.d.log.Error("a record of the queue of results cannot be read and is passed over", "subject", c.Record.Subject, "error", err)
		return nil
	}
	doc, err := s.d.document(ctx, r)
	if err != nil {
		if missing(err) {
			return nil // the session was deleted
		}
		return err
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	h := http.Header{}
	h.Set("Idempotency-Key", doc.ID)
	if s.key != "" {
		key, err := secret(s.key)
		if err != nil {
			return err
		}
		signedHeaders(h, key, body, s.d.now())
	}
	return s.client.do(ctx, http.MethodPost, "", nil, body, h, nil)
}

// document says what came of a turn.
func (d *Desk) document(ctx context.Context, r result) (Result, error) {
	s, err := d.svc.Session(ctx, r.Session)
	if err != nil {
		return Result{}, err
	}
	t, ok := s.Turn(r.Turn)
	if !ok {
		return Result{}, store.ErrNotFound
	}
	out := Result{Version: "1", ID: t.ID, Cluster: s.Cluster, Session: s.ID, Title: s.Title, MergedInto: s.Merged, Turn: t.ID, Run: t.Run,
		State: t.State, Reason: t.Reason, Question: t.Question.Text, Outcome: t.Outcome, Headline: t.Headline, Asked: t.Asked, Ended: t.Ended,
		Alerts: append([]incident.Alert{}, s.Alerts...), Links: ResultLinks{Session: d.link(s)}}
	if t.Run == "" {
		return out, nil
	}
	run, err := d.svc.Run(ctx, t.Run)
	switch {
	case err == nil:
		out.Diagnosis = &run.Report.Diagnosis
	case !missing(err):
		return out, err
	}
	return out, nil
}

// link is the page of a session, empty where no base is configured.
func (d *Desk) link(s session.Session) string {
	if d.cfg.Link == "" {
		return ""
	}
	return strings.TrimRight(d.cfg.Link, "/") + "/sessions/" + url.PathEscape(s.ID)
}
